/* The plain band of a p99: what it knows after a while, the day's course, and what the engine tells of it. */
#include "test_detect_kept.h"

#include "detect/band.h"

#define MONDAY 1767571200 /* 2026-01-05, midnight UTC */

/* `windows` of five minutes from `from` on, 60 requests each; the median is `ms` times what `course` says of the hour. */
static void feed(struct gen *g, struct band *b, int64_t from, int windows, double ms, double course, double *ret_most)
{
	for (int w = 0; w < windows; w++) {
		int64_t at = from + (int64_t)w * BAND_S;
		double hour = (double)(at % 86400) / 3600;

		band_roll(b, at, true);
		for (int i = 0; i < 60; i++)
			band_add(b, ms * exp(course * sin(hour * M_PI / 12) + 0.3 * gen_normal(g)));
		band_roll(b, at + BAND_S, true);
		if (ret_most)
			*ret_most = fmax(*ret_most, (double)b->sigma);
	}
}

static void an_hour_is_needed(void **state)
{
	struct gen g = { .state = 3 };
	struct band b;

	(void)state;
	band_init(&b);
	for (int w = 0; w < 30; w++) {
		feed(&g, &b, MONDAY + w * BAND_S, 1, 100, 0, NULL);
		assert_int_equal(b.observed > 0, w >= 12);
	}
	assert_true(b.expected > 150 && b.expected < 260); /* the p99 of a log-normal with sd .3: twice the median */
	/* A few requests have no p99, and a silence teaches nothing. */
	band_roll(&b, MONDAY + 30 * BAND_S, true);
	band_add(&b, 9000);
	band_roll(&b, MONDAY + 31 * BAND_S, true);
	assert_true(b.observed <= 0);
	band_roll(&b, MONDAY + 500 * BAND_S, true);
	feed(&g, &b, MONDAY + 501 * BAND_S, 1, 100, 0, NULL);
	assert_true(b.observed > 0 && fabs((double)b.sigma) < 4);
}

static void the_day_is_known_where_it_helps(void **state)
{
	static const double course[] = { 0, 0.8 };

	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(course); k++) {
		struct gen g = { .state = 5 };
		struct band b;
		double calm = -99, slow = -99;

		band_init(&b);
		feed(&g, &b, MONDAY, 14 * 288, 100, course[k], NULL);
		assert_int_equal(season_used(&b.season) != SEASON_NONE, k == 1);
		feed(&g, &b, MONDAY + 14 * 86400, 288, 100, course[k], &calm);
		feed(&g, &b, MONDAY + 15 * 86400, 6, 180, course[k], &slow);
		/* a whole day of them, and none is critical; 80 % slower is, at once */
		assert_true(calm < 5);
		assert_true(k == 1 ? slow > 1.5 : slow > 3);
	}
}

/* Where nobody learns it stays what it was. */
static void an_incident_teaches_nothing(void **state)
{
	struct gen g = { .state = 7 };
	struct band b;
	float mean;

	(void)state;
	band_init(&b);
	feed(&g, &b, MONDAY, 100, 100, 0, NULL);
	mean = b.mean;
	for (int w = 100; w < 200; w++) {
		for (int i = 0; i < 60; i++)
			band_add(&b, 500);
		band_roll(&b, MONDAY + (w + 1) * BAND_S, false);
	}
	assert_true(fabsf(b.mean - mean) < 1e-6f);
	assert_true(b.sigma > 5);
}

static void it_is_told_with_a_regression_and_kept(void **state)
{
	struct gen g = { .state = 9 };
	struct heard h = { 0 };
	struct items kept = { 0 };
	struct detect *d = engine(&h);
	double end = 4 * 3600.0;
	const char *at;

	(void)state;
	for (double t = 0; t < end + 1200; t -= log(gen_uniform(&g)) / 1.5) {
		struct gen_record *e = gen_add(&g, t, "10.0.0.1", "key-1", "user-1", 300, 40);
		double x = t >= end ? 2 : 1;

		record_set_real(&e->r, F_TTFT_MS, 90 * exp(0.2 * gen_normal(&g)) * x);
		record_set_real(&e->r, F_DURATION_MS, 600 * exp(0.1 * gen_normal(&g)) * x);
	}
	qsort(g.v, g.n, sizeof(*g.v), gen_by_time);
	for (size_t i = 0; i < g.n; i++)
		assert_int_equal(detect_record(d, gen_bind(&g.v[i])), 0);
	assert_int_equal(detect_export(d, true, items_put, &kept), 0);
	detect_free(d);
	assert_int_equal(opens(&h, CLASS_LATENCY_REGRESSION), 1);
	at = strstr(h.json.p, "p99_ttft_ms");
	assert_non_null(at);
	assert_int_equal(items_count(&kept, "band"), 1);
	for (size_t n = 0; n < items_find(&kept, "band", NULL)->n; n++) {
		struct kept_item k = *items_find(&kept, "band", NULL);
		struct heard quiet = { 0 };

		d = engine(&quiet);
		assert_int_equal(item_import(d, &k), 0);
		((uint8_t *)k.blob)[n] ^= 0x91;
		item_import(d, &k); /* refused, or it makes sense */
		((uint8_t *)k.blob)[n] ^= 0x91;
		k.n--;
		assert_int_equal(item_import(d, &k), -EINVAL);
		detect_free(d);
	}
	items_done(&kept);
	str_done(&h.json);
	gen_done(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_hour_is_needed),
		cmocka_unit_test(the_day_is_known_where_it_helps),
		cmocka_unit_test(an_incident_teaches_nothing),
		cmocka_unit_test(it_is_told_with_a_regression_and_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
