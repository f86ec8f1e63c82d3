/* Records: fields, kinds, times, and what is written is read again. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "decode/record_parse.h"

static void names_and_columns_agree(void **state)
{
	struct column_table t;

	(void)state;
	column_table_init(&t);
	for (int f = 0; f < F_FIELD_COUNT; f++) {
		struct column c = column_of_name(&t, span_of(record_field_name((enum record_field)f)));

		assert_int_equal(c.id, f);
		assert_true(c.canonical);
	}
	assert_int_equal(column_of_name(&t, SPAN("user_id")).id, F_USER);
	assert_false(column_of_name(&t, SPAN("user_id")).canonical);
	assert_int_equal(column_of_name(&t, SPAN("request_tokens")).id, F_PROMPT_TOKENS);
	assert_int_equal(column_of_name(&t, SPAN("Response tokens")).id, F_COMPLETION_TOKENS);
	assert_int_equal(column_of_name(&t, SPAN("GeneratedTokens")).id, F_COMPLETION_TOKENS);
	assert_int_equal(column_of_name(&t, SPAN("TIMESTAMP")).id, COL_TIMESTAMP);
	assert_int_equal(column_of_name(&t, SPAN("timestampx")).id, COL_NONE);
	assert_int_equal(column_of_name(&t, SPAN("")).id, COL_NONE);
	assert_int_equal(column_of_name(&t, SPAN("a-name-that-is-longer-than-any-of-ours-could-be")).id, COL_NONE);
	assert_null(record_field_name(F_FIELD_COUNT));
}

static void kinds_of_paths(void **state)
{
	static const struct {
		const char *path;
		enum record_kind kind;
	} cases[] = {
		{ "", KIND_INFERENCE },
		{ "/v1/chat/completions", KIND_INFERENCE },
		{ "/v1/chat/completions?api-version=2", KIND_INFERENCE },
		{ "/openai/deployments/x/chat/completions/", KIND_INFERENCE },
		{ "/completion", KIND_INFERENCE },
		{ "/v1/messages", KIND_INFERENCE },
		{ "/v1/messages/count_tokens", KIND_CONTROL },
		{ "/v1/responses/input_tokens", KIND_CONTROL },
		{ "/generate_stream", KIND_INFERENCE },
		{ "/health_generate", KIND_CONTROL },
		{ "/v1beta/models/m:streamGenerateContent", KIND_INFERENCE },
		{ "/v2/models/m/infer", KIND_INFERENCE },
		{ "/api/embed", KIND_EMBEDDING },
		{ "/v1/embeddings", KIND_EMBEDDING },
		{ "/v1/rerank", KIND_EMBEDDING },
		{ "/metrics", KIND_CONTROL },
		{ "/v1/models", KIND_CONTROL },
		{ "/v1/models/tiny", KIND_CONTROL },
		{ "/tokenize", KIND_CONTROL },
		{ "/.git/config", KIND_OTHER },
		{ "/?x=/v1/chat/completions", KIND_OTHER },
		{ "?", KIND_OTHER },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		enum record_kind k = record_kind_of_path(span_of(cases[i].path));

		if (k != cases[i].kind)
			fail_msg("%s is %s", cases[i].path, record_kind_name(k));
	}
}

static void times(void **state)
{
	static const struct {
		const char *text;
		double t; /* < 0: refused */
	} cases[] = {
		{ "0", 0 },
		{ "1700000000", 1700000000 },
		{ "1700000000.25", 1700000000.25 },
		{ " 1.7e9 ", 1700000000 },
		{ "1970-01-01T00:00:00Z", 0 },
		{ "2023-11-14T22:13:20Z", 1700000000 },
		{ "2023-11-14 22:13:20", 1700000000 },
		{ "2023-11-14 22:13:20.5000000", 1700000000.5 },
		{ "2023-11-14T23:13:20.125+01:00", 1700000000.125 },
		{ "2023-11-14t16:43:20-0530", 1700000000 },
		{ "2023-11-14 22:13:20 UTC", 1700000000 },
		{ "2023-11-15T00:13:20+02", 1700000000 },
		{ "2024-02-29T00:00:00Z", 1709164800 },
		{ "2016-12-31T23:59:60Z", 1483228800 },
		{ "2023-11-14T22:13:20.123456789123456789Z", 1700000000.123456789 },
		{ "2023-02-29T00:00:00Z", -1 },
		{ "2100-02-29T00:00:00Z", -1 },
		{ "2023-13-01T00:00:00Z", -1 },
		{ "2023-11-14T24:00:00Z", -1 },
		{ "2023-11-14T22:13:20.Z", -1 },
		{ "2023-11-14T22:13:20+1", -1 },
		{ "2023-11-14T22:13:20Zjunk", -1 },
		{ "2023-11-14", -1 },
		{ "1700000000000", -1 },
		{ "-5", -1 },
		{ "nan", -1 },
		{ "inf", -1 },
		{ "1e400", -1 },
		{ "0x10", -1 },
		{ "", -1 },
		{ "yesterday", -1 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		double t = -2;
		const char *why = record_parse_time(span_of(cases[i].text), &t);

		if (cases[i].t < 0) {
			if (!why)
				fail_msg("'%s' was read as %f", cases[i].text, t);
			assert_true(t == -2);
		} else if (why || fabs(t - cases[i].t) > 1e-6) {
			fail_msg("'%s': %s, %f", cases[i].text, why ? why : "read", t);
		}
	}
}

static void setters_keep_absent_apart_from_zero(void **state)
{
	struct record r;

	(void)state;
	record_init(&r);
	assert_int_equal(r.weight, 1);
	assert_int_equal(record_int(&r, F_PROMPT_TOKENS, -1), -1);
	record_set_int(&r, F_PROMPT_TOKENS, 0);
	assert_int_equal(record_int(&r, F_PROMPT_TOKENS, -1), 0);
	record_set_text(&r, F_USER, SPAN("u"));
	assert_true(record_has(&r, F_USER));
	record_set_text(&r, F_USER, (struct span){ 0 });
	assert_false(record_has(&r, F_USER));
	record_set_real(&r, F_TTFT_MS, NAN);
	assert_false(record_has(&r, F_TTFT_MS));
	record_set_bool(&r, F_ABORTED, true);
	assert_true(record_yes(&r, F_ABORTED));
	record_set_bool(&r, F_ABORTED, false);
	assert_true(record_has(&r, F_ABORTED));
	assert_false(record_yes(&r, F_ABORTED));
	/* a field of another type is refused, not written out of bounds */
	record_set_int(&r, F_USER, 7);
	record_set_text(&r, F_STATUS, SPAN("x"));
	record_set_real(&r, F_FIELD_COUNT, 1);
	record_set_bool(&r, F_USER, true);
	assert_false(record_has(&r, F_USER));
	assert_false(record_has(&r, F_STATUS));
}

static void read_one(const char *line, size_t n, struct record *r, char *keep)
{
	struct column_table t;
	struct key_guess guess[KEY_GUESSES] = { 0 };
	struct record_parse rp;
	size_t at;

	column_table_init(&t);
	memset(keep + n, '\n', 32);
	memcpy(keep, line, n);
	record_parse_begin(&rp, r);
	assert_null(record_parse_json(&rp, &t, guess, keep, keep + n, &at));
	assert_null(record_parse_end(&rp));
	assert_int_equal(rp.bad_values, 0);
}

static void written_is_read(void **state)
{
	CLEANUP(str_done) struct str first = { 0 };
	CLEANUP(str_done) struct str second = { 0 };
	struct record r, back;
	char keep[4096];

	(void)state;
	record_init(&r);
	r.timestamp = 1700000000.123456;
	r.weight = 17;
	r.kind = KIND_EMBEDDING;
	for (int f = 0; f < F_TEXT_COUNT; f++)
		record_set_text(&r, (enum record_field)f, SPAN("a \"quoted\"\\ \n\t\x01 \xc3\xa9 \xf0\x9f\x98\x80,x"));
	for (int f = F_INT_FIRST; f < F_INT_END; f++)
		record_set_int(&r, (enum record_field)f, 100 + f);
	record_set_int(&r, F_PROMPT_HASH, (int64_t)UINT64_C(0xfedcba9876543210));
	for (int f = F_INT_END; f < F_REAL_END; f++)
		record_set_real(&r, (enum record_field)f, 0.5 + (f == F_INJECTION_SCORE ? 0 : f));
	for (int f = F_REAL_END; f < F_FIELD_COUNT; f++)
		record_set_bool(&r, (enum record_field)f, f & 1);
	record_write_json(&first, &r);
	assert_int_equal(str_error(&first), 0);
	assert_int_equal(first.p[first.n - 1], '\n');
	assert_non_null(strstr(first.p, "\"prompt_hash\":\"fedcba9876543210\""));

	read_one(first.p, first.n - 1, &back, keep);
	assert_true(back.has == r.has);
	assert_true(back.yes == r.yes);
	assert_true(back.timestamp == r.timestamp);
	assert_int_equal(back.weight, 17);
	assert_int_equal(back.kind, KIND_EMBEDDING);
	record_write_json(&second, &back);
	assert_string_equal(first.p, second.p);

	record_init(&r);
	r.timestamp = 5;
	str_reset(&first);
	record_write_json(&first, &r);
	assert_string_equal(first.p, "{\"timestamp\":5}\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_and_columns_agree),
		cmocka_unit_test(kinds_of_paths),
		cmocka_unit_test(times),
		cmocka_unit_test(setters_keep_absent_apart_from_zero),
		cmocka_unit_test(written_is_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
