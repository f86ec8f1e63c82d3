/* What is learnt, how fast, and what nobody can talk it into. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "decode/estimate.h"

#define SERVER SPAN("10.0.0.1:8000")
#define MODEL SPAN("orca")

static const struct estimate_seen stream_of_100 = { .deltas = 100, .text_bytes = -1, .prompt_chars = 1000 };

static void begins_with_the_rule_of_thumb(void **unused)
{
	struct estimate *e = estimate_new();
	struct estimate_tokens t = estimate_of(e, SERVER, MODEL, &stream_of_100);
	const struct estimate_seen text = { -1, 9, -1 }, nothing = { -1, -1, -1 }, empty = { 0, 0, 0 };

	(void)unused;
	assert_int_equal(t.completion, 100);
	assert_int_equal(t.prompt, 250);
	t = estimate_of(NULL, SERVER, MODEL, &text);
	assert_int_equal(t.completion, 3);
	assert_int_equal(t.prompt, -1);
	t = estimate_of(e, SERVER, MODEL, &nothing);
	assert_int_equal(t.completion, -1);
	t = estimate_of(e, SERVER, MODEL, &empty);
	assert_int_equal(t.completion, -1);
	assert_true(estimate_error_pct(e, 0.5) < 0);
	estimate_free(e);
}

/* Speculative decoding that puts 3.2 tokens in one event on average, each answer a little different. */
static void learns_tokens_per_event(void **unused)
{
	struct estimate *e = estimate_new();
	struct estimate_tokens t;
	uint32_t x = 7;

	(void)unused;
	for (int i = 0; i < 60; i++) {
		struct estimate_seen s = { .deltas = 50 + i, .text_bytes = -1, .prompt_chars = 400 };

		x = x * 1664525 + 1013904223;
		estimate_learn(e, SERVER, MODEL, &s, 130, (int64_t)((double)s.deltas * (2.9 + 0.6 * (x >> 24) / 255)));
	}
	t = estimate_of(e, SERVER, MODEL, &stream_of_100);
	assert_in_range(t.completion, 305, 335);
	assert_in_range(t.prompt, 320, 330);
	/* nearly right from the third answer on */
	assert_true(estimate_error_pct(e, 0.5) <= 10);
	assert_int_equal(estimate_learnt(e), 60);
	/* another model of the same server starts from it, one of another server does not */
	assert_in_range(estimate_of(e, SERVER, SPAN("new"), &stream_of_100).completion, 305, 335);
	assert_int_equal(estimate_of(e, SPAN("10.0.0.2:8000"), MODEL, &stream_of_100).completion, 100);
	estimate_free(e);
}

static void believes_nobody_at_once(void **unused)
{
	struct estimate *e = estimate_new();

	(void)unused;
	for (int i = 0; i < ESTIMATE_SAMPLES_MIN - 1; i++)
		estimate_learn(e, SERVER, MODEL, &stream_of_100, 1, 700);
	assert_int_equal(estimate_of(e, SERVER, MODEL, &stream_of_100).completion, 100);
	estimate_learn(e, SERVER, MODEL, &stream_of_100, 1, 700);
	assert_in_range(estimate_of(e, SERVER, MODEL, &stream_of_100).completion, 650, 700);
	estimate_free(e);
}

/* One answer in five is absurd: the median stays. */
static void settles_near_the_median(void **unused)
{
	struct estimate *e = estimate_new();

	(void)unused;
	for (int i = 0; i < 400; i++)
		estimate_learn(e, SERVER, MODEL, &stream_of_100, i % 5 ? 250 : 2000, i % 5 ? 110 : 1000000000);
	assert_in_range(estimate_of(e, SERVER, MODEL, &stream_of_100).completion, 105, 125);
	/* and it follows a server that was set up anew */
	for (int i = 0; i < 200; i++)
		estimate_learn(e, SERVER, MODEL, &stream_of_100, 250, 400);
	assert_in_range(estimate_of(e, SERVER, MODEL, &stream_of_100).completion, 395, 405);
	estimate_free(e);
}

static void clamps_hostile_values(void **unused)
{
	static const int64_t values[] = { INT64_MIN, -1, 0, 1, 15, 16, 1000, INT32_MAX, INT64_MAX };
	struct estimate *e = estimate_new();

	(void)unused;
	for (int round = 0; round < 20; round++)
		for (size_t i = 0; i < ARRAY_SIZE(values); i++)
			for (size_t k = 0; k < ARRAY_SIZE(values); k++) {
				struct estimate_seen s = { values[i], values[(i + k) % ARRAY_SIZE(values)], values[k] };
				struct estimate_tokens t;

				estimate_learn(e, SERVER, MODEL, &s, values[k], values[ARRAY_SIZE(values) - 1 - i]);
				t = estimate_of(e, SERVER, MODEL, &s);
				assert_true(t.completion == -1 || (t.completion >= 1 && t.completion <= INT32_MAX));
				assert_true(t.prompt == -1 || (t.prompt >= 1 && t.prompt <= INT32_MAX));
				t = estimate_of(e, SERVER, MODEL, &stream_of_100);
				assert_in_range(t.completion, 50, 800);
				assert_in_range(t.prompt, 50, 2000);
			}
	estimate_free(e);
}

/* Short answers say nothing: of two events one more or less is half. */
static void ignores_what_is_too_short(void **unused)
{
	struct estimate *e = estimate_new();
	const struct estimate_seen s = { .deltas = 2, .text_bytes = -1, .prompt_chars = 5 };

	(void)unused;
	for (int i = 0; i < 50; i++)
		estimate_learn(e, SERVER, MODEL, &s, 30, 9);
	assert_int_equal(estimate_of(e, SERVER, MODEL, &stream_of_100).completion, 100);
	assert_int_equal(estimate_of(e, SERVER, MODEL, &stream_of_100).prompt, 250);
	estimate_free(e);
}

/* A client that names a new model each time pushes out idle entries, not the ones in use. */
static void stays_within_its_table(void **unused)
{
	struct estimate *e = estimate_new();
	char name[32];

	(void)unused;
	for (int i = 0; i < 10; i++)
		estimate_learn(e, SERVER, MODEL, &stream_of_100, 250, 300);
	for (int i = 0; i < 5000; i++) {
		snprintf(name, sizeof(name), "made-up-%d", i);
		estimate_learn(e, SPAN("10.0.0.9:1"), span_of(name), &stream_of_100, 250, 800);
		if (i % 100 == 0)
			assert_int_equal(estimate_of(e, SERVER, MODEL, &stream_of_100).completion, 300);
	}
	assert_int_equal(estimate_of(e, SERVER, MODEL, &stream_of_100).completion, 300);
	/* unused for long: gone, and the rule of thumb is back */
	for (int i = 0; i < ESTIMATE_ENTRIES; i++) {
		snprintf(name, sizeof(name), "other-%d", i);
		estimate_learn(e, SPAN("10.0.0.9:1"), span_of(name), &stream_of_100, 250, 800);
	}
	assert_int_equal(estimate_of(e, SERVER, MODEL, &stream_of_100).completion, 100);
	estimate_free(e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(begins_with_the_rule_of_thumb), cmocka_unit_test(learns_tokens_per_event), cmocka_unit_test(believes_nobody_at_once),
		cmocka_unit_test(settles_near_the_median),	 cmocka_unit_test(clamps_hostile_values),   cmocka_unit_test(ignores_what_is_too_short),
		cmocka_unit_test(stays_within_its_table),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
