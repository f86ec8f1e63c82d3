/* Tail probabilities against laws whose tails are known, from warm-up to a change of scale. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>

#include "detect/tail.h"

static double uniform(uint64_t *s)
{
	*s = *s * 6364136223846793005u + 1442695040888963407u;
	return ((double)(*s >> 11) + 0.5) / 9007199254740992.0;
}

static double normal(uint64_t *s)
{
	const double u = uniform(s), v = uniform(s);

	return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

/* A factor, in either direction. */
static void assert_within(double got, double want, double factor)
{
	if (!(got < want * factor && got > want / factor))
		fail_msg("%g is not within a factor %g of %g", got, factor, want);
}

static void speaks_before_it_has_learnt(void **unused)
{
	struct tail t;

	(void)unused;
	tail_init(&t, &TAIL_NORMAL);
	assert_within(tail_p(&t, 3), 2.7e-3, 2);
	assert_within(tail_p(&t, 4), 6.3e-5, 8); /* exponential: on the careful side of the normal law */
	assert_true(tail_p(&t, 4) > 6.3e-5);
	assert_true(tail_p(&t, 0) == 1);
	assert_true(tail_p(&t, NAN) == 1);
}

static double half_normal(uint64_t *s)
{
	return fabs(normal(s));
}

/* P(x) = (1 + x)^-3 */
static double lomax(uint64_t *s)
{
	return pow(uniform(s), -1.0 / 3) - 1;
}

/* What is said of x after n values, geometric mean over 40 seeds: the bias, without the luck of one sample. */
static double typical_p(double (*draw)(uint64_t *), int n, double x)
{
	double sum = 0;

	for (uint64_t seed = 1; seed <= 40; seed++) {
		uint64_t s = seed;
		struct tail t;

		tail_init(&t, &TAIL_NORMAL);
		for (int i = 0; i < n; i++)
			tail_add(&t, draw(&s));
		sum += log(tail_p(&t, x));
	}
	return exp(sum / 40);
}

static void knows_the_normal_law(void **unused)
{
	(void)unused;
	assert_within(typical_p(half_normal, 20000, 2.576), 1e-2, 1.3);
	assert_within(typical_p(half_normal, 20000, 3.291), 1e-3, 1.7);
	assert_within(typical_p(half_normal, 500, 3.291), 1e-3, 3);
}

static void learns_a_scale_that_the_prior_missed(void **unused)
{
	(void)unused;
	for (double scale = 1e-3; scale < 1e5; scale *= 100) {
		struct tail t;
		uint64_t seed = 2;

		tail_init(&t, &TAIL_NORMAL);
		for (int i = 0; i < 30000; i++)
			tail_add(&t, scale * fabs(normal(&seed)));
		assert_within(tail_quantile(&t, 1e-3), 3.291 * scale, 1.25);
	}
}

static void a_heavy_tail_is_not_taken_for_a_light_one(void **unused)
{
	(void)unused;
	assert_within(typical_p(lomax, 20000, 9), 1e-3, 1.7);
	assert_within(typical_p(lomax, 20000, 19), 1.25e-4, 4);
	assert_true(typical_p(lomax, 20000, 99) > 1e-9); /* truly 1e-6; a normal law fitted here would say 1e-300 */
}

static void follows_a_change_of_scale_both_ways(void **unused)
{
	struct tail_opts opts = TAIL_NORMAL;
	struct tail t;
	uint64_t seed = 4;

	(void)unused;
	opts.half_life = 2000;
	tail_init(&t, &opts);
	for (int i = 0; i < 10000; i++)
		tail_add(&t, fabs(normal(&seed)));
	for (int i = 0; i < 10000; i++)
		tail_add(&t, 50 * fabs(normal(&seed)));
	assert_within(tail_quantile(&t, 1e-2), 2.576 * 50, 1.3);
	for (int i = 0; i < 20000; i++)
		tail_add(&t, fabs(normal(&seed)));
	assert_within(tail_quantile(&t, 1e-2), 2.576, 1.4);
}

static void falls_and_inverts(void **unused)
{
	struct tail t;
	uint64_t seed = 5;

	(void)unused;
	tail_init(&t, &TAIL_NORMAL);
	for (int round = 0; round < 50; round++) {
		double last = 2;

		for (int i = 0; i < 100; i++)
			tail_add(&t, exp(normal(&seed)));
		for (double x = 0.01; x < 60; x *= 1.1) {
			const double p = tail_p(&t, x);

			assert_true(p < last || p <= TAIL_P_MIN);
			assert_true(p >= TAIL_P_MIN && p <= 1);
			if (p > 2 * TAIL_P_MIN)
				assert_true(fabs(tail_quantile(&t, p) / x - 1) < 1e-3);
			last = p;
		}
	}
}

static void nonsense_teaches_nothing_and_constants_do_no_harm(void **unused)
{
	struct tail t, before;

	(void)unused;
	tail_init(&t, &TAIL_NORMAL);
	before = t;
	tail_add(&t, NAN);
	tail_add(&t, INFINITY);
	tail_add(&t, -1);
	assert_memory_equal(&t, &before, sizeof(t));
	for (int i = 0; i < 100000; i++)
		tail_add(&t, 0);
	assert_true(isfinite(tail_quantile(&t, 1e-6)));
	for (int i = 0; i < 100000; i++)
		tail_add(&t, i % 2 ? 1e300 : 7);
	assert_true(isfinite(tail_quantile(&t, 1e-6)));
	assert_true(tail_p(&t, 1) > 0.01);
}

static void many_looks_make_a_rare_thing_common(void **unused)
{
	(void)unused;
	assert_within(tail_p_of_n(1e-6, 1000), 1e-3, 1.01);
	assert_true(tail_p_of_n(0.5, 1e6) == 1);
	assert_true(tail_p_of_n(1, 1) == 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(speaks_before_it_has_learnt),
		cmocka_unit_test(knows_the_normal_law),
		cmocka_unit_test(learns_a_scale_that_the_prior_missed),
		cmocka_unit_test(a_heavy_tail_is_not_taken_for_a_light_one),
		cmocka_unit_test(follows_a_change_of_scale_both_ways),
		cmocka_unit_test(falls_and_inverts),
		cmocka_unit_test(nonsense_teaches_nothing_and_constants_do_no_harm),
		cmocka_unit_test(many_looks_make_a_rare_thing_common),
	};

	return cmocka_run_group_tests_name("tail", tests, NULL, NULL);
}
