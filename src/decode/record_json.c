/* One JSON object of one line. A single pass; strings are unescaped in place, which never makes them longer. */
#include "decode/record_parse.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define NESTING_MAX 64 /* of values that nobody reads; one bit each tells array from object */

static const char *skip_space(const char *p)
{
	while (*p == ' ' || *p == '\t' || *p == '\r')
		p++;
	return p;
}

/* To the next quote, backslash or control character. The line's own newline ends it at the latest. */
static char *scan_string(char *p)
{
#ifdef __SSE2__
	const __m128i quote = _mm_set1_epi8('"'), slash = _mm_set1_epi8('\\'), low = _mm_set1_epi8(0x1f);

	for (;; p += 16) {
		__m128i v = _mm_loadu_si128((const __m128i *)p);
		__m128i hit = _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(v, quote), _mm_cmpeq_epi8(v, slash)),
					   _mm_cmpeq_epi8(_mm_min_epu8(v, low), v));
		int mask = _mm_movemask_epi8(hit);

		if (mask)
			return p + __builtin_ctz((unsigned int)mask);
	}
#else
	while (*p != '"' && *p != '\\' && (unsigned char)*p >= 0x20)
		p++;
	return p;
#endif
}

static int hex4(const char *p)
{
	int v = 0;

	for (int i = 0; i < 4; i++) {
		char c = p[i];
		int d = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;

		if (d < 0)
			return -1;
		v = v << 4 | d;
	}
	return v;
}

static char *put_utf8(char *w, unsigned int c)
{
	if (c < 0x80) {
		*w++ = (char)c;
	} else if (c < 0x800) {
		*w++ = (char)(0xc0 | c >> 6);
		*w++ = (char)(0x80 | (c & 63));
	} else if (c < 0x10000) {
		*w++ = (char)(0xe0 | c >> 12);
		*w++ = (char)(0x80 | (c >> 6 & 63));
		*w++ = (char)(0x80 | (c & 63));
	} else {
		*w++ = (char)(0xf0 | c >> 18);
		*w++ = (char)(0x80 | (c >> 12 & 63));
		*w++ = (char)(0x80 | (c >> 6 & 63));
		*w++ = (char)(0x80 | (c & 63));
	}
	return w;
}

/*
 * The string whose opening quote is before p. A NUL (\u0000) and half a surrogate pair become U+FFFD, so that text stays text.
 * NULL and *why on an error; else the byte behind the closing quote.
 */
static char *parse_string(char *p, const char *end, struct span *ret, const char **why)
{
	char *first = p, *w;

	p = scan_string(p);
	if (*p == '"') {
		*ret = (struct span){ first, (size_t)(p - first) };
		return p + 1;
	}
	w = p;
	for (;;) {
		char *stop = scan_string(p);
		unsigned int c;
		int h;

		memmove(w, p, (size_t)(stop - p));
		w += stop - p;
		p = stop;
		if (*p == '"')
			break;
		if (*p != '\\') {
			*why = p >= end ? "ends inside a string" : "has a control character in a string";
			return NULL;
		}
		switch (p[1]) {
		case '"':
		case '\\':
		case '/':
			*w++ = p[1];
			p += 2;
			continue;
		case 'b':
		case 'f':
		case 'n':
		case 'r':
		case 't':
			*w++ = p[1] == 'b' ? '\b' : p[1] == 'f' ? '\f' : p[1] == 'n' ? '\n' : p[1] == 'r' ? '\r' : '\t';
			p += 2;
			continue;
		case 'u':
			break;
		default:
			*why = "has a bad escape";
			return NULL;
		}
		h = hex4(p + 2);
		if (h < 0) {
			*why = "has a bad escape";
			return NULL;
		}
		p += 6;
		c = (unsigned int)h;
		if (c >= 0xd800 && c < 0xdc00 && p[0] == '\\' && p[1] == 'u' && (h = hex4(p + 2)) >= 0xdc00 && h < 0xe000) {
			c = 0x10000 + ((c - 0xd800) << 10) + ((unsigned int)h - 0xdc00);
			p += 6;
		} else if (!c || (c >= 0xd800 && c < 0xe000)) {
			c = 0xfffd;
		}
		w = put_utf8(w, c);
	}
	*ret = (struct span){ first, (size_t)(w - first) };
	return p + 1;
}

static char *scan_bare(char *p)
{
	while (*p != ',' && *p != '}' && *p != ']' && *p != ' ' && *p != '\t' && (unsigned char)*p >= 0x20 && *p != '"' && *p != ':' && *p != '{' && *p != '[')
		p++;
	return p;
}

/* A number, true, false or null; also NaN and Infinity, which many writers emit: a bad value then, not a bad line. */
static char *parse_bare(char *p, enum value_type *ret_type, struct span *ret, const char **why)
{
	char *e = scan_bare(p);
	struct span v = { p, (size_t)(e - p) };
	char c = *p == '-' && v.n > 1 ? p[1] : *p;

	*ret = v;
	if (c >= '0' && c <= '9')
		*ret_type = VALUE_NUMBER;
	else if (span_eq(v, SPAN("true")) || span_eq(v, SPAN("false")))
		*ret_type = VALUE_BOOL;
	else if (span_eq(v, SPAN("null")))
		*ret_type = VALUE_NULL;
	else if (span_eq(v, SPAN("NaN")) || span_eq(v, SPAN("Infinity")) || span_eq(v, SPAN("-Infinity")))
		*ret_type = VALUE_NUMBER;
	else {
		*why = "has a value that is no JSON";
		return NULL;
	}
	return e;
}

/* Over an array or object, checking that brackets match; what they hold is nobody's business. */
static char *skip_nested(char *p, const char *end, const char **why)
{
	uint64_t object = 0;
	int depth = 0;

	do {
		struct span v;

		switch (*p) {
		case '{':
		case '[':
			if (depth == NESTING_MAX) {
				*why = "is nested deeper than 64 levels";
				return NULL;
			}
			object = object << 1 | (*p == '{');
			depth++;
			p++;
			break;
		case '}':
		case ']':
			if ((object & 1) != (*p == '}')) {
				*why = "has brackets that do not match";
				return NULL;
			}
			object >>= 1;
			depth--;
			p++;
			break;
		case '"':
			p = parse_string(p + 1, end, &v, why);
			if (!p)
				return NULL;
			break;
		default:
			if (p >= end) {
				*why = "ends inside a value";
				return NULL;
			}
			p++;
		}
	} while (depth);
	return p;
}

static struct column column_of_key(const struct column_table *t, struct key_guess *g, struct span key)
{
	struct column c;

	if (g && g->n == key.n && !memcmp(g->name, key.p, key.n))
		return g->column;
	c = column_of_name(t, key);
	if (g && key.n && key.n <= KEY_GUESS_LEN) {
		memcpy(g->name, key.p, key.n);
		g->n = (uint8_t)key.n;
		g->column = c;
	}
	return c;
}

const char *record_parse_json(struct record_parse *rp, const struct column_table *t, struct key_guess *guess, char *p, char *end, size_t *ret_at)
{
	const char *why = NULL;
	char *first = p, *next;
	unsigned int nth = 0;

	p = (char *)skip_space(p);
	if (*p != '{') {
		why = "is not a JSON object";
		goto out;
	}
	p = (char *)skip_space(p + 1);
	if (*p == '}') {
		p++;
		goto tail;
	}
	for (;;) {
		enum value_type type = VALUE_TEXT;
		struct column c;
		struct span key, v = { 0 };

		if (*p != '"') {
			why = p >= end ? "ends inside an object" : "lacks a key";
			goto out;
		}
		next = parse_string(p + 1, end, &key, &why);
		if (!next)
			goto out;
		c = column_of_key(t, nth < KEY_GUESSES ? &guess[nth] : NULL, key);
		nth++;
		p = (char *)skip_space(next);
		if (*p != ':') {
			why = p >= end ? "ends inside an object" : "lacks a colon";
			goto out;
		}
		p = (char *)skip_space(p + 1);
		if (*p == '"') {
			next = parse_string(p + 1, end, &v, &why);
		} else if (*p == '{' || *p == '[') {
			type = VALUE_NESTED;
			next = skip_nested(p, end, &why);
		} else if (p >= end) {
			next = NULL;
			why = "ends inside an object";
		} else {
			next = parse_bare(p, &type, &v, &why);
		}
		if (!next)
			goto out;
		if (c.id != COL_NONE)
			record_parse_value(rp, c, type, v);
		p = (char *)skip_space(next);
		if (*p == ',') {
			p = (char *)skip_space(p + 1);
			continue;
		}
		if (*p == '}') {
			p++;
			break;
		}
		why = p >= end ? "ends inside an object" : "lacks a comma";
		goto out;
	}
tail:
	p = (char *)skip_space(p);
	if (p < end)
		why = "has more after the object";
out:
	*ret_at = (size_t)(p - first);
	return why;
}
