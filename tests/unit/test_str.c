/* base/str: growth, ceiling, sticky errors, and JSON as RFC 8259 wants it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>

#include "base/str.h"

static void test_append_grows(void **state)
{
	struct str s = { 0 };

	(void)state;
	for (int i = 0; i < 10000; i++)
		str_addc(&s, (char)('a' + i % 26));
	assert_int_equal(str_error(&s), 0);
	assert_int_equal(s.n, 10000);
	assert_int_equal(strlen(s.p), 10000);
	for (int i = 0; i < 10000; i++)
		assert_int_equal(s.p[i], 'a' + i % 26);
	str_reset(&s);
	assert_int_equal(s.n, 0);
	assert_string_equal(s.p, "");
	str_done(&s);
	assert_null(s.p);
}

static void test_append_nothing(void **state)
{
	struct str s = { 0 };

	(void)state;
	str_add(&s, NULL, 0);
	str_adds(&s, "");
	assert_int_equal(str_error(&s), 0);
	assert_int_equal(s.n, 0);
	str_done(&s);
}

static void test_format_long(void **state)
{
	struct str s = { 0 };
	char big[1000];

	(void)state;
	memset(big, 'x', sizeof(big));
	big[sizeof(big) - 1] = '\0';
	/* Around the small buffer inside, where off-by-one lives. */
	for (int n = 250; n < 262; n++) {
		str_reset(&s);
		str_addf(&s, "%.*s", n, big);
		assert_int_equal(s.n, n);
		assert_int_equal(strlen(s.p), n);
	}
	str_addf(&s, "-%s-", big);
	assert_int_equal(s.n, 261 + 2 + 999);
	str_done(&s);
}

static void test_ceiling_is_sticky(void **state)
{
	struct str s = { .ceiling = 300 };

	(void)state;
	for (int i = 0; i < 299; i++)
		str_addc(&s, 'a');
	assert_int_equal(str_error(&s), 0);
	str_addc(&s, 'b');
	assert_int_equal(str_error(&s), -E2BIG);
	str_adds(&s, "more");
	str_addf(&s, "%d", 5);
	assert_int_equal(s.n, 299);
	assert_null(strchr(s.p, 'b'));
	assert_int_equal(str_error(&s), -E2BIG);
	str_reset(&s);
	str_adds(&s, "again");
	assert_int_equal(str_error(&s), 0);
	assert_string_equal(s.p, "again");
	str_done(&s);
	assert_int_equal(s.ceiling, 300);
}

static void test_ceiling_huge_add(void **state)
{
	struct str s = { .ceiling = 100 };

	(void)state;
	str_add(&s, "x", SIZE_MAX); /* refused before it is read */
	assert_int_equal(str_error(&s), -E2BIG);
	assert_int_equal(s.n, 0);
	str_done(&s);
}

static void test_utf8_len(void **state)
{
	static const struct {
		const char *text;
		size_t n, len;
	} cases[] = {
		{ "a", 1, 1 },
		{ "\x7f", 1, 1 },
		{ "\x80", 1, 0 },
		{ "\xc2\x80", 2, 2 },
		{ "\xc2", 1, 0 },
		{ "\xc1\xbf", 2, 0 }, /* overlong */
		{ "\xe0\x9f\xbf", 3, 0 },
		{ "\xe0\xa0\x80", 3, 3 },
		{ "\xed\xa0\x80", 3, 0 }, /* surrogate */
		{ "\xed\x9f\xbf", 3, 3 },
		{ "\xf0\x8f\xbf\xbf", 4, 0 },
		{ "\xf0\x90\x80\x80", 4, 4 },
		{ "\xf4\x8f\xbf\xbf", 4, 4 },
		{ "\xf4\x90\x80\x80", 4, 0 }, /* beyond U+10FFFF */
		{ "\xf5\x80\x80\x80", 4, 0 },
		{ "\xf0\x9f\x98", 3, 0 },
		{ "\xff", 1, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(str_utf8_len(cases[i].text, cases[i].n), cases[i].len);
}

/* Every code point, alone in a string: as it is, but for the ones that RFC 8259 wants escaped, and DEL. */
static void test_json_every_code_point(void **state)
{
	struct str s = { 0 };

	(void)state;
	for (uint32_t cp = 1; cp <= 0x10ffff; cp++) {
		char text[5] = { 0 }, want[16];

		if (cp >= 0xd800 && cp <= 0xdfff)
			continue;
		if (cp < 0x80) {
			text[0] = (char)cp;
		} else if (cp < 0x800) {
			text[0] = (char)(0xc0 | cp >> 6);
			text[1] = (char)(0x80 | (cp & 0x3f));
		} else if (cp < 0x10000) {
			text[0] = (char)(0xe0 | cp >> 12);
			text[1] = (char)(0x80 | (cp >> 6 & 0x3f));
			text[2] = (char)(0x80 | (cp & 0x3f));
		} else {
			text[0] = (char)(0xf0 | cp >> 18);
			text[1] = (char)(0x80 | (cp >> 12 & 0x3f));
			text[2] = (char)(0x80 | (cp >> 6 & 0x3f));
			text[3] = (char)(0x80 | (cp & 0x3f));
		}
		if (cp < 0x20 || cp == 0x7f)
			snprintf(want, sizeof(want), "\"\\u%04x\"", cp);
		else
			snprintf(want, sizeof(want), "\"%s%s\"", cp == '"' || cp == '\\' ? "\\" : "", text);
		str_reset(&s);
		json_string(&s, text, strlen(text));
		assert_string_equal(s.p, want);
	}
	str_done(&s);
}

static void test_json_bad_utf8(void **state)
{
	struct str s = { 0 };

	(void)state;
	json_string(&s, "a\xff\xc3(\xed\xa0\x80z", 8);
	assert_string_equal(s.p, "\"a\xef\xbf\xbd\xef\xbf\xbd(\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdz\"");
	str_reset(&s);
	json_string(&s, "a\0b", 3);
	assert_string_equal(s.p, "\"a\\u0000b\"");
	str_done(&s);
}

static void test_json_commas(void **state)
{
	struct str s = { 0 };

	(void)state;
	json_begin(&s, '{');
	json_kstring(&s, "a", SPAN("ends in ,:[{"));
	json_kint(&s, "b", -5);
	json_key(&s, "c");
	json_begin(&s, '[');
	json_end(&s, ']');
	json_key(&s, "d");
	json_begin(&s, '[');
	json_uint(&s, UINT64_MAX);
	json_string(&s, "", 0);
	json_null(&s);
	json_begin(&s, '{');
	json_end(&s, '}');
	json_begin(&s, '{');
	json_kbool(&s, "x", true);
	json_end(&s, '}');
	json_end(&s, ']');
	json_kdouble(&s, "e", 0.5, 3);
	json_end(&s, '}');
	str_addc(&s, '\n');
	json_begin(&s, '{');
	json_end(&s, '}');
	assert_string_equal(s.p, "{\"a\":\"ends in ,:[{\",\"b\":-5,\"c\":[],\"d\":[18446744073709551615,\"\",null,{},{\"x\":true}],\"e\":0.5}\n{}");
	str_done(&s);
}

static void test_json_numbers(void **state)
{
	static const struct {
		double v;
		int decimals;
		const char *text;
	} cases[] = {
		{ 0, 3, "0" },
		{ -0.0, 3, "0" },
		{ -0.0001, 3, "0" },
		{ 1.5, 3, "1.5" },
		{ 100, 3, "100" },
		{ 100, 0, "100" },
		{ 0.0004, 3, "0" },
		{ 1e17, 2, "100000000000000000" },
		{ 1e19, 2, "null" },
		{ -1.25, 1, "-1.2" },
		{ 1750000000.125, 6, "1750000000.125" },
	};
	struct str s = { 0 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		str_reset(&s);
		json_double(&s, cases[i].v, cases[i].decimals);
		assert_string_equal(s.p, cases[i].text);
	}
	str_reset(&s);
	json_double(&s, NAN, 3);
	json_double(&s, INFINITY, 3);
	json_double(&s, -INFINITY, 3);
	json_int(&s, INT64_MIN);
	assert_string_equal(s.p, "null,null,null,-9223372036854775808");
	str_done(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_append_grows),	      cmocka_unit_test(test_append_nothing),
		cmocka_unit_test(test_format_long),	      cmocka_unit_test(test_ceiling_is_sticky),
		cmocka_unit_test(test_ceiling_huge_add),      cmocka_unit_test(test_utf8_len),
		cmocka_unit_test(test_json_every_code_point), cmocka_unit_test(test_json_bad_utf8),
		cmocka_unit_test(test_json_commas),	      cmocka_unit_test(test_json_numbers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
