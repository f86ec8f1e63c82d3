#include "base/str.h"

#include <math.h>
#include <stdarg.h>

void str_done(struct str *s)
{
	free(s->p);
	*s = (struct str){ .ceiling = s->ceiling };
}

void str_reset(struct str *s)
{
	s->n = 0;
	s->error = 0;
	if (s->p)
		s->p[0] = '\0';
}

int str_error(const struct str *s)
{
	return s->error;
}

static bool str_room(struct str *s, size_t n)
{
	size_t ceiling = s->ceiling ? s->ceiling : STR_CEILING_DEFAULT;
	size_t cap = s->cap;
	char *p;

	if (s->error)
		return false;
	if (n >= ceiling || s->n >= ceiling - n) {
		s->error = -E2BIG;
		return false;
	}
	if (n < s->cap && s->n < s->cap - n)
		return true;
	cap = MAX(cap * 2, (size_t)256);
	while (cap < s->n + n + 1)
		cap *= 2;
	p = realloc(s->p, cap);
	if (!p) {
		s->error = -ENOMEM;
		return false;
	}
	s->p = p;
	s->cap = cap;
	return true;
}

void str_add(struct str *s, const char *p, size_t n)
{
	if (!str_room(s, n))
		return;
	if (n)
		memcpy(s->p + s->n, p, n);
	s->n += n;
	s->p[s->n] = '\0';
}

void str_adds(struct str *s, const char *text)
{
	str_add(s, text, strlen(text));
}

void str_addc(struct str *s, char c)
{
	str_add(s, &c, 1);
}

void str_addf(struct str *s, const char *fmt, ...)
{
	char small[256];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(small, sizeof(small), fmt, ap);
	va_end(ap);
	if (n < 0) {
		s->error = s->error ? s->error : -EINVAL;
		return;
	}
	if ((size_t)n < sizeof(small)) {
		str_add(s, small, (size_t)n);
		return;
	}
	if (!str_room(s, (size_t)n))
		return;
	va_start(ap, fmt);
	vsnprintf(s->p + s->n, (size_t)n + 1, fmt, ap);
	va_end(ap);
	s->n += (size_t)n;
}

static void json_comma(struct str *s)
{
	char last = s->n ? s->p[s->n - 1] : '\n';

	if (last != '{' && last != '[' && last != ':' && last != '\n')
		str_addc(s, ',');
}

void json_begin(struct str *s, char bracket)
{
	json_comma(s);
	str_addc(s, bracket);
}

void json_end(struct str *s, char bracket)
{
	str_addc(s, bracket);
}

void json_key(struct str *s, const char *key)
{
	json_comma(s);
	str_addc(s, '"');
	str_adds(s, key);
	str_add(s, "\":", 2);
}

size_t str_utf8_len(const char *text, size_t n)
{
	const unsigned char *p = (const unsigned char *)text;

	if (p[0] < 0x80)
		return 1;
	if (p[0] >= 0xC2 && p[0] <= 0xDF)
		return n >= 2 && (p[1] & 0xC0) == 0x80 ? 2 : 0;
	if (p[0] >= 0xE0 && p[0] <= 0xEF) {
		if (n < 3 || (p[1] & 0xC0) != 0x80 || (p[2] & 0xC0) != 0x80)
			return 0;
		if ((p[0] == 0xE0 && p[1] < 0xA0) || (p[0] == 0xED && p[1] > 0x9F))
			return 0;
		return 3;
	}
	if (p[0] >= 0xF0 && p[0] <= 0xF4) {
		if (n < 4 || (p[1] & 0xC0) != 0x80 || (p[2] & 0xC0) != 0x80 || (p[3] & 0xC0) != 0x80)
			return 0;
		if ((p[0] == 0xF0 && p[1] < 0x90) || (p[0] == 0xF4 && p[1] > 0x8F))
			return 0;
		return 4;
	}
	return 0;
}

void json_string(struct str *s, const char *p, size_t n)
{
	static const char hex[] = "0123456789abcdef";
	size_t i = 0, plain = 0;

	json_comma(s);
	str_addc(s, '"');
	while (i < n) {
		unsigned char c = (unsigned char)p[i];
		size_t len = str_utf8_len(p + i, n - i);

		if (len && c >= 0x20 && c != '"' && c != '\\' && c != 0x7f) {
			i += len;
			continue;
		}
		str_add(s, p + plain, i - plain);
		if (!len) {
			str_add(s, "\xEF\xBF\xBD", 3);
		} else if (c == '"' || c == '\\') {
			char esc[2] = { '\\', (char)c };

			str_add(s, esc, 2);
		} else {
			char esc[6] = { '\\', 'u', '0', '0', hex[c >> 4], hex[c & 15] };

			str_add(s, esc, 6);
		}
		plain = ++i;
	}
	str_add(s, p + plain, n - plain);
	str_addc(s, '"');
}

void json_int(struct str *s, int64_t v)
{
	json_comma(s);
	str_addf(s, "%lld", (long long)v);
}

void json_uint(struct str *s, uint64_t v)
{
	json_comma(s);
	str_addf(s, "%llu", (unsigned long long)v);
}

void json_double(struct str *s, double v, int decimals)
{
	char text[64];
	int n;

	if (!isfinite(v) || fabs(v) > 1e18) {
		json_null(s);
		return;
	}
	n = snprintf(text, sizeof(text), "%.*f", decimals, v);
	if (strchr(text, '.')) {
		while (text[n - 1] == '0')
			n--;
		if (text[n - 1] == '.')
			n--;
	}
	if (n == 2 && text[0] == '-' && text[1] == '0')
		n = 1, text[0] = '0';
	json_comma(s);
	str_add(s, text, (size_t)n);
}

void json_bool(struct str *s, bool v)
{
	json_comma(s);
	str_adds(s, v ? "true" : "false");
}

void json_null(struct str *s)
{
	json_comma(s);
	str_adds(s, "null");
}

void json_kstring(struct str *s, const char *key, struct span v)
{
	json_key(s, key);
	json_string(s, v.p, v.n);
}

void json_kint(struct str *s, const char *key, int64_t v)
{
	json_key(s, key);
	json_int(s, v);
}

void json_kuint(struct str *s, const char *key, uint64_t v)
{
	json_key(s, key);
	json_uint(s, v);
}

void json_kdouble(struct str *s, const char *key, double v, int decimals)
{
	json_key(s, key);
	json_double(s, v, decimals);
}

void json_kbool(struct str *s, const char *key, bool v)
{
	json_key(s, key);
	json_bool(s, v);
}
