/* What makes a score, what must not, and what the scorer promises whatever it is fed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <float.h>
#include <math.h>

#include "detect/series.h"

#define DAY 144

static double uniform(uint64_t *s)
{
	*s = *s * 6364136223846793005u + 1442695040888963407u;
	return (double)(*s >> 11) / 9007199254740992.0;
}

static double noise(uint64_t *s)
{
	return uniform(s) + uniform(s) + uniform(s) - 1.5;
}

/* Days of ten hours of work and fourteen of rest, with noise. */
static double working_day(int i, uint64_t *s)
{
	return (i % DAY < 60 ? 80 : 20) + noise(s);
}

static struct series *opened(void)
{
	struct series *s = NULL;

	assert_int_equal(series_open(NULL, &s), 0);
	return s;
}

static void refuses_a_tuning_out_of_its_limits(void **unused)
{
	struct series *s = NULL;
	struct series_tuning t;

	(void)unused;
	t = series_usual;
	t.blocks[1] = SERIES_LENGTH_MAX + 1;
	assert_int_equal(series_open(&t, &s), -EINVAL);
	t = series_usual;
	t.surprise = 0;
	assert_int_equal(series_open(&t, &s), -EINVAL);
	t = series_usual;
	t.keep = NAN;
	assert_int_equal(series_open(&t, &s), -EINVAL);
	t = series_usual;
	t.rows[0] = 0;
	assert_int_equal(series_open(&t, &s), -EINVAL);
	assert_null(s);
	assert_null(series_free(NULL));
}

static void says_nothing_of_what_never_changes(void **unused)
{
	CLEANUP(series_freep) struct series *s = opened();

	(void)unused;
	for (int i = 0; i < 5000; i++)
		assert_true(series_score(s, 45) == 0);
	CLEANUP(series_freep) struct series *wave = opened();
	for (int i = 0; i < 5000; i++) {
		const double score = series_score(wave, i % DAY < 60 ? 80 : 20);

		assert_true(i < 2 * DAY || score == 0);
	}
}

static void is_quiet_on_noise(void **unused)
{
	int alarms = 0;

	(void)unused;
	for (uint64_t seed = 1; seed <= 5; seed++) {
		CLEANUP(series_freep) struct series *s = opened();
		uint64_t n = seed;

		for (int i = 0; i < 5000; i++)
			alarms += series_score(s, noise(&n)) > 0.5 && i >= 750;
	}
	assert_in_range(alarms, 0, 15); /* of 21,250 rows */
}

static void sees_a_new_extreme_at_once(void **unused)
{
	(void)unused;
	for (int sign = -1; sign <= 1; sign += 2) {
		CLEANUP(series_freep) struct series *s = opened();
		uint64_t n = 7;

		for (int i = 0; i < 2000; i++)
			series_score(s, noise(&n));
		assert_true(series_score(s, sign * 4) > 0.9);
	}
}

/* A day like none before, though no value of it is new: rest where there was work, then noise gone flat. */
static void sees_a_shape_that_never_was(void **unused)
{
	(void)unused;
	for (int kind = 0; kind < 2; kind++) {
		CLEANUP(series_freep) struct series *s = opened();
		const int from = 20 * DAY;
		uint64_t n = 9;
		int alarms = 0;

		for (int i = 0; i < from + DAY; i++) {
			double x = working_day(i, &n);

			if (i >= from && i < from + 60)
				x = kind == 0 ? 20 + noise(&n) : 50;
			if (series_score(s, x) > 0.5 && i >= from)
				alarms++;
		}
		assert_in_range(alarms, 1, 4);
	}
}

static void says_a_lasting_change_once(void **unused)
{
	CLEANUP(series_freep) struct series *s = opened();
	uint64_t n = 11;
	int alarms = 0;

	(void)unused;
	for (int i = 0; i < 3000; i++)
		series_score(s, noise(&n));
	for (int i = 0; i < 1000; i++)
		alarms += series_score(s, 20 + noise(&n)) > 0.5;
	assert_in_range(alarms, 1, 6);
}

static void forgets_what_was_rare_long_ago(void **unused)
{
	CLEANUP(series_freep) struct series *s = opened();
	uint64_t n = 13;
	int alarms = 0;

	(void)unused;
	for (int i = 0; i < 6000; i++) {
		const bool bump = (i > 800 && i < 830) || (i > 5000 && i < 5025);
		const double x = noise(&n) + (bump ? (i < 1000 ? 6 : 5) : 0); /* the later one is no extreme, but news again */

		alarms += series_score(s, x) > 0.5 && i > 5000 && i < 5100;
	}
	assert_in_range(alarms, 1, 3);
}

static void needs_no_unit(void **unused)
{
	CLEANUP(series_freep) struct series *a = opened();
	CLEANUP(series_freep) struct series *b = opened();
	uint64_t n = 17;

	(void)unused;
	for (int i = 0; i < 4000; i++) {
		const double x = working_day(i, &n) * (i > 3000 && i < 3020 ? 1.3 : 1);

		assert_true(series_score(a, x) == series_score(b, x * 1048576)); /* a power of two: not even rounding differs */
	}
}

static void nonsense_teaches_nothing(void **unused)
{
	CLEANUP(series_freep) struct series *a = opened();
	CLEANUP(series_freep) struct series *b = opened();
	uint64_t n = 19;

	(void)unused;
	for (int i = 0; i < 3000; i++) {
		const double x = working_day(i, &n);

		assert_true(series_score(b, NAN) == 0);
		assert_true(series_score(b, i % 2 ? INFINITY : -INFINITY) == 0);
		assert_true(series_score(a, x) == series_score(b, x));
	}
}

static void stays_within_zero_and_one(void **unused)
{
	static const double odd[] = { 0, 1, -1, 1e-300, -1e-300, DBL_MAX, -DBL_MAX, DBL_MIN, 1e38, -1e38, 5e-324, 1e9 };
	CLEANUP(series_freep) struct series *s = opened();
	uint64_t n = 23;

	(void)unused;
	for (int i = 0; i < 6000; i++) {
		const double score = series_score(s, odd[(size_t)(uniform(&n) * ARRAY_SIZE(odd))]);

		assert_true(score >= 0 && score <= 1);
	}
}

/* The memory of records is a share of all rows: through many doublings of its spans nothing may be lost or go stale. */
static void keeps_its_word_over_a_long_time(void **unused)
{
	struct series_tuning t = series_usual;
	CLEANUP(series_freep) struct series *s = NULL;
	uint64_t n = 29;
	int alarms = 0;

	(void)unused;
	t.keep = 2 * SERIES_LENGTH_MAX; /* only to be quick */
	assert_int_equal(series_open(&t, &s), 0);
	for (int i = 0; i < 200000; i++)
		alarms += series_score(s, noise(&n)) > 0.5 && i >= 750;
	assert_in_range(alarms, 1, 60); /* they become rarer: some per doubling, not some per thousand */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refuses_a_tuning_out_of_its_limits),
		cmocka_unit_test(says_nothing_of_what_never_changes),
		cmocka_unit_test(is_quiet_on_noise),
		cmocka_unit_test(sees_a_new_extreme_at_once),
		cmocka_unit_test(sees_a_shape_that_never_was),
		cmocka_unit_test(says_a_lasting_change_once),
		cmocka_unit_test(forgets_what_was_rare_long_ago),
		cmocka_unit_test(needs_no_unit),
		cmocka_unit_test(nonsense_teaches_nothing),
		cmocka_unit_test(stays_within_zero_and_one),
		cmocka_unit_test(keeps_its_word_over_a_long_time),
	};

	return cmocka_run_group_tests_name("series", tests, NULL, NULL);
}
