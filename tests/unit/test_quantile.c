/* Quantiles in fixed bytes: how exact, over which range, and what merging and forgetting do to them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>

#include "detect/quantile.h"

static void empty_has_none(void **unused)
{
	struct quantile q, r;

	(void)unused;
	quantile_init(&q);
	quantile_init(&r);
	assert_true(quantile_at(&q, 0.5) == 0);
	assert_true(quantile_above(&q, 1) == 0);
	quantile_merge(&q, &r);
	quantile_decay(&q, 0.5);
	assert_true(quantile_at(&q, 1) == 0);
	assert_true(q.total == 0);
}

static void is_within_five_percent(void **unused)
{
	static const double scales[] = { 1e-9, 1, 3e7 };

	(void)unused;
	for (size_t s = 0; s < ARRAY_SIZE(scales); s++) {
		struct quantile q;

		quantile_init(&q);
		for (int i = 10000; i >= 1; i--)
			quantile_add(&q, i * scales[s], 1);
		for (double p = 0.01; p < 1; p += 0.01) {
			const double got = quantile_at(&q, p) / scales[s], want = 10000 * p;

			assert_true(fabs(got - want) <= 0.055 * want + 1);
			assert_true(fabs(quantile_above(&q, want * scales[s]) - (1 - p)) < 0.04);
		}
	}
}

static void zeros_and_nonsense_count_as_zero(void **unused)
{
	struct quantile q;

	(void)unused;
	quantile_init(&q);
	quantile_add(&q, 0, 1);
	quantile_add(&q, -5, 1);
	quantile_add(&q, NAN, 1);
	quantile_add(&q, 7, -1); /* no weight: nothing was seen */
	quantile_add(&q, 7, NAN);
	quantile_add(&q, 10, 1);
	assert_true(q.total == 4);
	assert_true(quantile_at(&q, 0.75) == 0);
	assert_true(fabs(quantile_at(&q, 1) - 10) < 0.5);
	assert_true(quantile_above(&q, 0) == 0.25);
	assert_true(quantile_above(&q, -1) == 1);
}

static void keeps_the_top_when_the_range_is_too_wide(void **unused)
{
	struct quantile q;

	(void)unused;
	quantile_init(&q);
	quantile_add(&q, 1e-12, 50);
	quantile_add(&q, INFINITY, 1);
	quantile_add(&q, 1e-300, 1);
	quantile_add(&q, 2, 50);
	assert_true(q.total == 102);
	assert_true(quantile_at(&q, 1) > 1e299);
	quantile_init(&q);
	quantile_add(&q, 1, 90);
	quantile_add(&q, 1e12, 10);
	assert_true(fabs(quantile_at(&q, 0.95) / 1e12 - 1) < 0.05);
	assert_true(quantile_at(&q, 0.5) < 1e8); /* somewhere below: collapsed, not lost */
	assert_true(fabs(quantile_above(&q, 1e9) - 0.1) < 1e-6);
}

static void merging_is_adding(void **unused)
{
	struct quantile all, a, b;

	(void)unused;
	quantile_init(&all);
	quantile_init(&a);
	quantile_init(&b);
	for (int i = 1; i <= 1000; i++) {
		const double x = i % 3 ? i : i * 100.0;

		quantile_add(&all, x, 0.5);
		quantile_add(i % 3 ? &a : &b, x, 0.5);
	}
	quantile_merge(&a, &b);
	assert_true(fabsf(a.total - all.total) < 1e-3f);
	for (double p = 0; p <= 1; p += 0.05)
		assert_true(fabs(quantile_at(&a, p) - quantile_at(&all, p)) < 1e-9);
}

static void forgets_by_weight(void **unused)
{
	struct quantile q;

	(void)unused;
	quantile_init(&q);
	for (int i = 0; i < 1000; i++)
		quantile_add(&q, 100, 1);
	for (int i = 0; i < 10; i++)
		quantile_decay(&q, 0.5);
	for (int i = 0; i < 10; i++)
		quantile_add(&q, 1, 1);
	assert_true(fabs(quantile_at(&q, 0.5) - 1) < 0.06);
	quantile_decay(&q, NAN);
	assert_true(q.total == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(empty_has_none),
		cmocka_unit_test(is_within_five_percent),
		cmocka_unit_test(zeros_and_nonsense_count_as_zero),
		cmocka_unit_test(keeps_the_top_when_the_range_is_too_wide),
		cmocka_unit_test(merging_is_adding),
		cmocka_unit_test(forgets_by_weight),
	};

	return cmocka_run_group_tests_name("quantile", tests, NULL, NULL);
}
