/* JSON that lacks its end, or its beginning. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "decode/json.h"

static const char *const paths[] = { "model", "stream", "max_tokens", "options.num_predict", "choices.*.finish_reason", "messages.*.content", "a.*.b.c", "*.model" };
enum { MODEL, STREAM, MAX_TOKENS, NUM_PREDICT, FINISH, CONTENT, DEEP, ELEMENT, COUNT };

static struct json_value v[COUNT];

/* The text in memory of its exact size, so that a read beyond it is seen. */
static int find(const char *text, size_t n)
{
	static char *copy;
	int r;

	free(copy);
	copy = malloc(n + !n);
	assert_non_null(copy);
	memcpy(copy, text, n);
	r = json_find((struct span){ copy, n }, paths, COUNT, v);
	return r;
}

static int find_tail(const char *text, size_t n)
{
	static char *copy;

	free(copy);
	copy = malloc(n + !n);
	assert_non_null(copy);
	memcpy(copy, text, n);
	return json_find_tail((struct span){ copy, n }, paths, COUNT, v);
}

static void assert_text(const struct json_value *value, const char *want)
{
	char buf[64];
	size_t n = json_text(value, buf, sizeof(buf) - 1);

	buf[n] = '\0';
	assert_string_equal(buf, want);
}

static void finds_by_path(void **unused)
{
	static const char text[] = " {\"x\":{\"model\":\"no\"},\"model\" : \"m\" ,\"stream\":true,\n\"max_tokens\":12,\"options\":{\"num_predict\":7,\"y\":[1,2]},"
				   "\"choices\":[{\"finish_reason\":null},{\"finish_reason\":\"stop\"}],\"messages\":[{\"content\":\"ab\"},{\"content\":\"cde\"}],"
				   "\"a\":[{\"b\":{\"c\":-1.5e3}}],\"z\":[\"model\",{}]} trailing";
	int64_t n;

	(void)unused;
	assert_int_equal(find(text, sizeof(text) - 1), 0);
	assert_text(&v[MODEL], "m");
	assert_int_equal(v[STREAM].type, JSON_TRUE);
	assert_true(json_count(&v[MAX_TOKENS], &n) && n == 12);
	assert_true(json_count(&v[NUM_PREDICT], &n) && n == 7);
	assert_text(&v[FINISH], "stop");
	assert_int_equal(v[FINISH].count, 1);
	assert_int_equal(v[CONTENT].text_sum, 5);
	assert_int_equal(v[CONTENT].count, 2);
	assert_int_equal(v[DEEP].type, JSON_NUMBER);
	assert_false(json_count(&v[DEEP], &n));
	assert_text(&v[ELEMENT], "no");
	/* arrays of documents */
	assert_int_equal(find("[{\"model\":\"a\"},{\"model\":\"b\"}]", 29), 0);
	assert_text(&v[ELEMENT], "b");
	assert_int_equal(v[MODEL].type, JSON_ABSENT);
	/* the last one counts, but not a null */
	assert_int_equal(find("{\"model\":\"a\",\"model\":\"b\",\"model\":null}", 38), 0);
	assert_text(&v[MODEL], "b");
	assert_int_equal(find("{\"model\":null}", 14), 0);
	assert_int_equal(v[MODEL].type, JSON_NULL);
	assert_int_equal(find("12", 2), 0);
	assert_int_equal(find("\"x\"", 3), 0);
}

static void reads_what_is_there_of_a_cut_document(void **unused)
{
	static const char text[] = "{\"model\":\"mo\\u00e9\",\"messages\":[{\"role\":\"user\",\"content\":\"he said \\\"model\\\": {[\"}],\"stream\":false,\"max_tokens\":123}";
	size_t whole = sizeof(text) - 1, model_end = 19, stream_at = strstr(text, "false") - text;
	int64_t n;

	(void)unused;
	for (size_t cut = 0; cut < whole; cut++) {
		assert_int_equal(find(text, cut), -ENODATA);
		if (cut >= model_end) {
			assert_text(&v[MODEL], "mo\xc3\xa9");
			assert_false(v[MODEL].cut);
		} else if (v[MODEL].type != JSON_ABSENT) {
			assert_true(v[MODEL].cut);
		}
		assert_int_equal(v[STREAM].type, cut >= stream_at + 5 ? JSON_FALSE : JSON_ABSENT);
		/* a number that may go on is not read */
		assert_false(json_count(&v[MAX_TOKENS], &n));
	}
	assert_int_equal(find(text, whole), 0);
	assert_true(json_count(&v[MAX_TOKENS], &n) && n == 123);
}

static void reads_the_end_without_the_beginning(void **unused)
{
	static const char text[] = "{\"user\":\"u\",\"messages\":[{\"role\":\"user\",\"content\":\"he said \\\"model\\\": \\\\ {[ true 12, \\\"x\\\":\\\"stream\\\"}\"},{\"n\":[1,{}]}],"
				   "\"tools\":[{\"model\":\"not this\"}],\"options\":{\"num_predict\":5},\"model\":\"m\",\"stream\":true,\"max_tokens\":123}";
	size_t n = sizeof(text) - 1, model_at = strstr(text, "\"model\":\"m\"") - text, content_at = strstr(text, "\"content\":") - text;
	size_t inside = strchr(text, '[') - text;
	int64_t count;

	(void)unused;
	for (size_t from = 1; from < n; from++) {
		int r = find_tail(text + from, n - from);

		if (from <= model_at) {
			if (r)
				print_error("from %zu: %s\n", from, text + from);
			assert_int_equal(r, 0);
			assert_text(&v[MODEL], "m");
			assert_int_equal(v[STREAM].type, JSON_TRUE);
			assert_true(json_count(&v[MAX_TOKENS], &count) && count == 123);
			/* in brackets opened before, the names above are assumed; those that are cut are not */
			assert_int_equal(v[CONTENT].type, from <= 12 || (from > inside && from <= content_at) ? JSON_STRING : JSON_ABSENT);
		} else if (r == 0 && v[MODEL].type == JSON_STRING && !v[MODEL].cut) {
			/* the value may be read as a key's only where the key is whole */
			fail();
		}
	}
	/* not an end of an object */
	assert_int_equal(find_tail("no json at all", 14), -EBADMSG);
	assert_int_equal(find_tail("\"model\":\"x\"", 11), -EBADMSG);
	assert_int_equal(find_tail("", 0), -EBADMSG);
	assert_int_equal(find_tail("}{", 2), -EBADMSG);
	for (int i = 0; i < COUNT; i++)
		assert_int_equal(v[i].type, JSON_ABSENT);
}

/* vLLM and others write the finish reason behind the text, in a choice whose beginning is not in the tail. */
static void reads_what_stands_behind_a_long_text(void **unused)
{
	static const char text[] = "{\"id\":\"i\",\"choices\":[{\"index\":0,\"message\":{\"content\":\"said {[ \\\"finish_reason\\\":\\\"no\\\"\",\"x\":{\"finish_reason\":\"no\"}},"
				   "\"logprobs\":{\"finish_reason\":[]},\"finish_reason\":\"length\",\"stop\":null}],\"finish_reason\":\"no\",\"usage\":{\"y\":{\"finish_reason\":\"no\"}}}";
	size_t n = sizeof(text) - 1, inside = strchr(text, '[') - text, last = strstr(text, "\"finish_reason\":\"length\"") - text,
	       usage = strstr(text, "\"usage\"") - text;

	(void)unused;
	for (size_t from = inside + 1; from <= last; from++) {
		assert_int_equal(find_tail(text + from, n - from), 0);
		assert_text(&v[FINISH], "length");
	}
	for (size_t from = last + 1; from < usage; from++)
		assert_true(find_tail(text + from, n - from) != 0 || v[FINISH].type == JSON_ABSENT);
}

static void sums_texts_without_their_escapes(void **unused)
{
	static const char *const same[] = { "\"\xe5\xb7\x9d \xf0\x9f\x8c\xa7 \xc3\xbc A\"", "\"\\u5ddd \\ud83c\\udf27 \\u00fc \\u0041\"" };
	char doc[128];

	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(same); i++) {
		int n = snprintf(doc, sizeof(doc), "{\"messages\":[{\"content\":%s},{\"content\":\"\\\"\\n\\\\\"}]}", same[i]);

		assert_int_equal(find(doc, (size_t)n), 0);
		assert_int_equal(v[CONTENT].text_sum, 3 + 1 + 4 + 1 + 2 + 1 + 1 + 3);
	}
	/* cut within an escape, and four digits that are none */
	for (size_t cut = 1; cut <= 8; cut++) {
		find("{\"model\":\"ab\\u5ddd", 10 + cut);
		assert_true(v[MODEL].text_sum <= cut);
	}
	assert_int_equal(find("{\"model\":\"\\uzzzz\"}", 18), 0);
	assert_true(v[MODEL].text_sum <= 6);
}

static void stays_in_bounds_at_any_depth(void **unused)
{
	static char deep[30000];
	size_t n = 0;

	(void)unused;
	for (int i = 0; i < 5000; i++)
		n += (size_t)sprintf(deep + n, i % 2 ? "[" : "{\"a\":");
	assert_int_equal(find(deep, n), -ENODATA);
	for (int i = 0; i < 5000; i++)
		deep[n++] = i % 2 ? '}' : ']';
	assert_int_equal(find(deep, n), 0);
	assert_int_equal(find_tail(deep + 2, n - 2), 0);
	/* and what comes after it is still found at its place */
	n--;
	n += (size_t)sprintf(deep + n, ",\"model\":\"m\"}");
	assert_int_equal(find(deep, n), 0);
	assert_text(&v[MODEL], "m");
	assert_int_equal(find_tail(deep + 5, n - 5), 0);
	assert_text(&v[MODEL], "m");
	assert_int_equal(json_find(SPAN("{}"), paths, JSON_PATHS_MAX + 1, v), -EINVAL);
}

static void says_where_it_is_not_json(void **unused)
{
	static const char *const bad[] = { "{\"model\":\"m\",x}", "}", "{\"model\":'x'}", "{\"model\":nul}", "<html>", "\x1f\x8b" };

	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(find(bad[i], strlen(bad[i])), -EBADMSG);
	assert_int_equal(find(bad[0], strlen(bad[0])), -EBADMSG);
	assert_text(&v[MODEL], "m");
}

static void unescapes(void **unused)
{
	static const struct {
		const char *raw, *want;
	} cases[] = {
		{ "plain", "plain" },
		{ "\\\"\\\\\\/\\b\\f\\n\\r\\t", "\"\\/\b\f\n\r\t" },
		{ "\\u0041\\u00e9\\u20AC", "A\xc3\xa9\xe2\x82\xac" },
		{ "\\ud83d\\ude00!", "\xf0\x9f\x98\x80!" },
		{ "\\ud83d!", "\xef\xbf\xbd!" },
		{ "\\ude00\\ud83d\\u0041", "\xef\xbf\xbd\xef\xbf\xbd" "A" },
		{ "\\u0000", "\xef\xbf\xbd" },
		{ "\\u00g0", "\xef\xbf\xbd" "00g0" },
		{ "\\x", "\xef\xbf\xbd" },
		{ "\\", "\xef\xbf\xbd" },
		{ "\\ud83d\\u", "\xef\xbf\xbd\xef\xbf\xbd" },
		{ "\xc3\xa9", "\xc3\xa9" },
	};

	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		size_t n = strlen(cases[i].raw);
		char *copy = malloc(n), buf[64];
		struct json_value value = { .type = JSON_STRING, .raw = { copy, n } };

		assert_non_null(copy);
		memcpy(copy, cases[i].raw, n);
		assert_text(&value, cases[i].want);
		/* any capacity: a prefix of the whole, no half character of an escape */
		for (size_t cap = 0; cap < strlen(cases[i].want); cap++) {
			size_t got = json_text(&value, buf, cap);

			assert_true(got <= cap);
			assert_memory_equal(buf, cases[i].want, got);
		}
		free(copy);
	}
}

static void counts_only_whole_numbers(void **unused)
{
	static const struct {
		const char *raw;
		int64_t want; /* -1: none */
	} cases[] = { { "0", 0 }, { "42", 42 }, { "9223372036854775807", INT64_MAX }, { "9223372036854775808", -1 }, { "-1", -1 }, { "1.0", -1 }, { "1e3", -1 }, { "", -1 } };

	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct json_value value = { .type = JSON_NUMBER, .raw = span_of(cases[i].raw) };
		int64_t n = -1;

		assert_int_equal(json_count(&value, &n), cases[i].want >= 0);
		assert_int_equal(n, cases[i].want);
	}
}

static void on_each(void *ctx, const struct json_string *s)
{
	char buf[64];
	size_t n = strlen(ctx), k = json_text(&s->value, buf, sizeof(buf));

	snprintf((char *)ctx + n, 512 - n, "%u.%u%s%s:%.*s|", s->path, s->element, s->value.cut ? "c" : "", s->headless ? "h" : "", (int)k, buf);
}

/* Strings in order, with the number of their element; of a tail also what is left of the one that its beginning cuts off. */
static void tells_each_string(void **unused)
{
	static const char *const each[] = { "a.*.t", "a.*.p.*.t", "s" };
	static const char text[] = "{\"s\":\"0\",\"a\":[{\"t\":\"1\",\"x\":\"no\"},{\"p\":[{\"t\":\"2\"},{\"t\":\"\\u0033\"}],\"t\":4},{\"t\":null},{\"t\":\"5\"}],\"b\":[{\"t\":\"no\"}],\"s\":\"6\"}";
	static const char cut[] = "{\"a\":[{\"t\":\"1\"},{\"t\":\"2 and";
	static const char tail[] = "rest of it\"},{\"t\":\"next\",\"p\":[{\"t\":\"deep\"}]}],\"s\":\"end\"}";
	char got[512] = "";

	(void)unused;
	assert_int_equal(json_each(SPAN(text), each, ARRAY_SIZE(each), on_each, got), 0);
	assert_string_equal(got, "2.0:0|0.1:1|1.2:2|1.2:3|0.4:5|2.5:6|");
	*got = 0;
	assert_int_equal(json_each(SPAN(cut), each, ARRAY_SIZE(each), on_each, got), -ENODATA);
	assert_string_equal(got, "0.1:1|0.2c:2 and|");
	*got = 0;
	assert_int_equal(json_each_tail(SPAN(tail), each, ARRAY_SIZE(each), on_each, got), 0);
	assert_string_equal(got, "0.0h:rest of it|0.1:next|1.1:deep|2.1:end|");
	*got = 0;
	assert_int_equal(json_each_tail(SPAN("[1,"), each, ARRAY_SIZE(each), on_each, got), -EBADMSG);
	assert_string_equal(got, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_by_path),
		cmocka_unit_test(reads_what_is_there_of_a_cut_document),
		cmocka_unit_test(reads_the_end_without_the_beginning),
		cmocka_unit_test(reads_what_stands_behind_a_long_text),
		cmocka_unit_test(sums_texts_without_their_escapes),
		cmocka_unit_test(stays_in_bounds_at_any_depth),
		cmocka_unit_test(says_where_it_is_not_json),
		cmocka_unit_test(unescapes),
		cmocka_unit_test(tells_each_string),
		cmocka_unit_test(counts_only_whole_numbers),
	};
	int r = cmocka_run_group_tests(tests, NULL, NULL);

	find("", 0);
	find_tail("", 0);
	return r;
}
