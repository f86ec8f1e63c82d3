/* Slower than its load explains, and only then. */
#include "test_detect_kept.h"

#define HOUR 3600.0

/*
 * A server with `slots` at once: who comes when more are in flight is served more slowly. Factors of TTFT and of time per token from
 * `from` to `to`; rate x `surge` from 1.5 h to 2 h. Without ttft the records carry only durations.
 */
static void serve(struct gen *g, double hours, double rate, double from, double to, double ttft_x, double tpot_x, double surge, bool ttft_known)
{
	double end[4096] = { 0 };
	size_t slot = 0;

	for (double t = 0; t < hours * HOUR; t += -log(gen_uniform(g)) / (rate * (t >= 1.5 * HOUR && t < 2 * HOUR ? surge : 1))) {
		struct gen_record *e;
		char ip[40], key[24];
		int c = (int)(gen_uniform(g) * 8), flight = 0;
		int64_t prompt = (int64_t)(600 * exp(0.7 * gen_normal(g))), completion = 10 + (int64_t)(100 * exp(0.5 * gen_normal(g)));
		bool slow = t >= from && t < to;
		double ttft, tpot;

		for (size_t i = 0; i < ARRAY_SIZE(end); i++)
			flight += end[i] > t;
		ttft = (80 + 0.15 * (double)prompt) * (1 + 0.05 * flight) * exp(0.2 * gen_normal(g)) * (slow ? ttft_x : 1);
		tpot = 12 * (1 + 0.03 * flight) * exp(0.1 * gen_normal(g)) * (slow ? tpot_x : 1);
		snprintf(ip, sizeof(ip), "10.0.0.%d", c);
		snprintf(key, sizeof(key), "key-%d", c);
		e = gen_add(g, t, ip, key, key, prompt, completion);
		record_set_real(&e->r, F_DURATION_MS, ttft + tpot * (double)(completion - 1));
		if (ttft_known)
			record_set_real(&e->r, F_TTFT_MS, ttft);
		end[slot++ % ARRAY_SIZE(end)] = t + (ttft + tpot * (double)(completion - 1)) / 1000;
	}
}

static void load_is_no_regression(void **state)
{
	struct gen g = { .state = 51 };
	struct heard h = { 0 };

	(void)state;
	serve(&g, 3, 2, 0, 0, 1, 1, 2.2, true);
	run_all(&g, &h, NULL);
	if (opens(&h, CLASS_LATENCY_REGRESSION))
		show(&h);
	assert_int_equal(opens(&h, CLASS_LATENCY_REGRESSION), 0);
	str_done(&h.json);
	gen_done(&g);
}

static void check_found(struct gen *g, double from, double within)
{
	struct heard h = { 0 };
	const struct heard_event *e;

	run_all(g, &h, NULL);
	e = first_open(&h, CLASS_LATENCY_REGRESSION);
	assert_non_null(e);
	assert_int_equal(opens(&h, CLASS_LATENCY_REGRESSION), 1);
	assert_int_equal(e->kind, ENTITY_MODEL);
	assert_string_equal(e->value, "m-large");
	assert_true(e->detected > from && e->detected < from + within);
	str_done(&h.json);
	gen_done(g);
}

static void slower_first_token(void **state)
{
	struct gen g = { .state = 52 };

	(void)state;
	serve(&g, 3, 2, 9000, 10200, 1.8, 1, 1.5, true);
	check_found(&g, 9000, 150);
}

static void slower_tokens(void **state)
{
	struct gen g = { .state = 53 };

	(void)state;
	serve(&g, 3, 2, 9000, 10200, 1, 1.4, 1.5, true);
	check_found(&g, 9000, 180);
}

static void only_durations(void **state)
{
	struct gen g = { .state = 54 };

	(void)state;
	serve(&g, 3, 2, 9000, 10200, 1.6, 1.6, 1.5, false);
	check_found(&g, 9000, 180);
}

/* Six requests a minute. */
static void a_quiet_model(void **state)
{
	struct gen g = { .state = 55 };

	(void)state;
	serve(&g, 8, 0.1, 25000, 27400, 2, 2, 1, true);
	check_found(&g, 25000, 600);
}

/*
 * Half of the terms say nothing for two days: one request in flight at most, all prompts alike. The gains of what nothing is known of must
 * not run away (they did, and the fit with them): what is kept is finite, and the slow-down after it is seen.
 */
static void a_load_that_never_changes(void **state)
{
	struct gen g = { .state = 57 };
	struct items kept = { 0 };
	struct heard h = { 0 };
	struct detect *d = engine(&h);
	double end = 48 * HOUR;

	(void)state;
	for (double t = 0; t < end + 1800; t += 4) {
		struct gen_record *e = gen_add(&g, t, "10.0.0.1", "key-1", "user-1", 300, 40);

		record_set_real(&e->r, F_TTFT_MS, 90 * exp(0.1 * gen_normal(&g)) * (t >= end ? 1.8 : 1));
		record_set_real(&e->r, F_DURATION_MS, 600 * exp(0.1 * gen_normal(&g)) * (t >= end ? 1.8 : 1));
	}
	for (size_t i = 0; i < g.n; i++)
		assert_int_equal(detect_record(d, gen_bind(&g.v[i])), 0);
	assert_int_equal(opens(&h, CLASS_LATENCY_REGRESSION), 1);
	assert_true(first_open(&h, CLASS_LATENCY_REGRESSION)->detected > end && first_open(&h, CLASS_LATENCY_REGRESSION)->detected < end + 180);
	assert_int_equal(detect_export(d, true, items_put, &kept), 0);
	detect_free(d);
	d = engine(&h);
	items_import(d, &kept);
	detect_free(d);
	items_done(&kept);
	str_done(&h.json);
	gen_done(&g);
}

/*
 * The fit promises more than the server keeps: half of the customers go home, and those who stay wait as long as they always did. That is no
 * regression to anybody.
 */
static void nobody_waits_longer(void **state)
{
	struct gen g = { .state = 58 };
	struct heard h = { 0 };
	double end[256] = { 0 }, rate = 3;
	size_t slot = 0;

	(void)state;
	for (double t = 0; t < 3.5 * HOUR; t += -log(gen_uniform(&g)) / rate) {
		bool few = t >= 3 * HOUR;
		struct gen_record *e;
		int flight = 0;
		double slower, ttft, whole;

		/* The load wanders between a third and three times; in the end it is a tenth. */
		rate = few ? 0.4 : 3 * exp(1.1 * sin(t / 700));
		for (size_t i = 0; i < ARRAY_SIZE(end); i++)
			flight += end[i] > t;
		slower = few ? 2 : pow(1 + flight, 0.4);
		ttft = 100 * slower * exp(0.2 * gen_normal(&g));
		whole = ttft + 1000 * slower * exp(0.1 * gen_normal(&g));
		e = gen_add(&g, t, "10.0.0.1", "key-1", "user-1", 500, 100);
		record_set_real(&e->r, F_TTFT_MS, ttft);
		record_set_real(&e->r, F_DURATION_MS, whole);
		end[slot++ % ARRAY_SIZE(end)] = t + whole / 1000;
	}
	run_all(&g, &h, NULL);
	if (opens(&h, CLASS_LATENCY_REGRESSION))
		show(&h);
	assert_int_equal(opens(&h, CLASS_LATENCY_REGRESSION), 0);
	str_done(&h.json);
	gen_done(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(load_is_no_regression),
		cmocka_unit_test(slower_first_token),
		cmocka_unit_test(slower_tokens),
		cmocka_unit_test(only_durations),
		cmocka_unit_test(a_quiet_model),
		cmocka_unit_test(a_load_that_never_changes),
		cmocka_unit_test(nobody_waits_longer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
