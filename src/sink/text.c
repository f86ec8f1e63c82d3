#include "sink/text.h"

#include <math.h>

/*
 * Characters that are valid UTF-8 and yet must not reach a terminal or a log as they are: C0 and C1 controls and DEL, line and
 * paragraph separators, and the marks that reorder what is shown (a user name could swap "10.0.0.7" on the operator's screen).
 */
static bool text_unsafe(const unsigned char *p, size_t len)
{
	if (len == 1)
		return p[0] < 0x20 || p[0] == 0x7f;
	if (len == 2)
		return (p[0] == 0xC2 && p[1] < 0xA0) || (p[0] == 0xD8 && p[1] == 0x9C);
	if (len == 3 && p[0] == 0xE2 && p[1] == 0x80)
		return (p[2] >= 0x8B && p[2] <= 0x8F) || (p[2] >= 0xA8 && p[2] <= 0xAE);
	if (len == 3 && p[0] == 0xE2 && p[1] == 0x81)
		return p[2] >= 0xA0 && p[2] <= 0xAF;
	return len == 3 && p[0] == 0xEF && p[1] == 0xBB && p[2] == 0xBF;
}

void text_add_safe(struct str *out, const char *text)
{
	size_t n = text ? strlen(text) : 0;

	for (size_t i = 0; i < n;) {
		size_t len = str_utf8_len(text + i, n - i);

		if (len && !text_unsafe((const unsigned char *)text + i, len)) {
			str_add(out, text + i, len);
			i += len;
			continue;
		}
		for (size_t k = MAX(len, (size_t)1); k; k--)
			str_addf(out, "\\x%02x", (unsigned char)text[i++]);
	}
}

void text_add_duration(struct str *out, double seconds)
{
	unsigned long long s = seconds > 0 && seconds < 1e15 ? (unsigned long long)(seconds + 0.5) : 0;

	if (s < 60)
		str_addf(out, "%llu s", s);
	else if (s < 3600)
		str_addf(out, "%llu min %llu s", s / 60, s % 60);
	else if (s < 86400)
		str_addf(out, "%llu h %llu min", s / 3600, s / 60 % 60);
	else
		str_addf(out, "%llu d %llu h", s / 86400, s / 3600 % 24);
}

void text_add_number(struct str *out, double v)
{
	static const char *const unit[] = { "", "k", "M", "G", "T" };
	size_t u = 0;
	char text[64];
	int decimals, n;

	if (!isfinite(v) || fabs(v) >= 1e15) {
		str_adds(out, isnan(v) ? "?" : v < 0 ? "less than -10^15" : "more than 10^15");
		return;
	}
	/* 999.5 would round up to a fourth digit. */
	if (fabs(v) >= 9999.5) {
		while (fabs(v) >= 999.5 && u + 1 < ARRAY_SIZE(unit)) {
			v /= 1000;
			u++;
		}
	}
	decimals = fabs(v) >= 99.95 ? 0 : fabs(v) >= 9.995 ? 1 : 2;
	n = snprintf(text, sizeof(text), "%.*f", decimals, v);
	if (decimals) {
		while (text[n - 1] == '0')
			n--;
		if (text[n - 1] == '.')
			n--;
	}
	if (n == 2 && !memcmp(text, "-0", 2))
		n = 1, text[0] = '0';
	str_add(out, text, (size_t)n);
	str_adds(out, unit[u]);
}

const char *text_kind_word(enum entity_kind k)
{
	static const char *const word[ENTITY_KIND_COUNT] = {
		[ENTITY_GLOBAL] = "all traffic", [ENTITY_HOST] = "host",	[ENTITY_SERVER] = "server", [ENTITY_MODEL] = "model",
		[ENTITY_NETWORK] = "network",	 [ENTITY_CLIENT_IP] = "client", [ENTITY_API_KEY] = "key",   [ENTITY_USER] = "user",
	};

	return (unsigned)k < ENTITY_KIND_COUNT ? word[k] : "?";
}

void text_add_scope(struct str *out, enum entity_kind kind, const char *value)
{
	str_adds(out, text_kind_word(kind));
	if (kind != ENTITY_GLOBAL && value && *value) {
		str_addc(out, ' ');
		text_add_safe(out, value);
	}
}

bool text_says_over(const struct anomaly *a)
{
	return a->summary && !strncmp(a->summary, "over after ", 11);
}

void text_add_summary(struct str *out, const struct anomaly *a)
{
	const struct anomaly_evidence *e = &a->evidence[0];

	if (a->summary && *a->summary) {
		text_add_safe(out, a->summary);
		return;
	}
	text_add_scope(out, a->scope_kind, a->scope_value);
	if (!a->evidence_count)
		return;
	str_adds(out, ": ");
	text_add_safe(out, e->feature);
	str_addc(out, ' ');
	text_add_number(out, e->observed);
	str_adds(out, ", normally ");
	text_add_number(out, e->expected);
}
