/* Tokens per request: a ramp is growth; a step, a new customer and noise are not. */
#include "test_detect_gen.h"

#define HOUR 3600.0

static void scale(struct gen *g, const char *key, double from, double to, double first, double last)
{
	for (size_t i = 0; i < g->n; i++) {
		double t = g->v[i].r.timestamp - T0;
		double x = t < from ? 1 : t > to ? last : exp(log(first) + (log(last) - log(first)) * (t - from) / (to - from));

		if (t >= from && (!key || !strcmp(g->v[i].key, key)))
			record_set_int(&g->v[i].r, F_PROMPT_TOKENS, (int64_t)((double)record_int(&g->v[i].r, F_PROMPT_TOKENS, 0) * x));
	}
}

static void a_ramp_of_one_key(void **state)
{
	struct gen g = { .state = 41 };
	struct heard h = { 0 };
	const struct heard_event *e;

	(void)state;
	gen_calm(&g, 0, 14 * HOUR, 1.5, 6);
	scale(&g, "key-2", 8 * HOUR, 12 * HOUR, 1, 3);
	run_all(&g, &h, NULL);
	e = first_open(&h, CLASS_TOKEN_GROWTH);
	assert_non_null(e);
	assert_int_equal(opens(&h, CLASS_TOKEN_GROWTH), 1);
	assert_int_equal(e->kind, ENTITY_API_KEY);
	assert_string_equal(e->value, "key-2");
	assert_true(e->detected > 8 * HOUR && e->detected < 12.5 * HOUR);
	str_done(&h.json);
	gen_done(&g);
}

static void everybody_grows(void **state)
{
	struct gen g = { .state = 42 };
	struct heard h = { 0 };
	const struct heard_event *e;

	(void)state;
	gen_calm(&g, 0, 14 * HOUR, 1.5, 6);
	scale(&g, NULL, 8 * HOUR, 12 * HOUR, 1, 2.5);
	run_all(&g, &h, NULL);
	e = first_open(&h, CLASS_TOKEN_GROWTH);
	assert_non_null(e);
	assert_true(e->detected > 8 * HOUR && e->detected < 12.5 * HOUR);
	assert_true(e->kind == ENTITY_GLOBAL || e->kind == ENTITY_MODEL);
	str_done(&h.json);
	gen_done(&g);
}

static void a_step_is_no_growth(void **state)
{
	struct gen g = { .state = 43 };
	struct heard h = { 0 };

	(void)state;
	gen_calm(&g, 0, 14 * HOUR, 1.5, 6);
	scale(&g, "key-1", 8 * HOUR, 14 * HOUR, 1.8, 1.8);
	run_all(&g, &h, NULL);
	if (opens(&h, CLASS_TOKEN_GROWTH))
		show(&h);
	assert_int_equal(opens(&h, CLASS_TOKEN_GROWTH), 0);
	str_done(&h.json);
	gen_done(&g);
}

/* A customer with long prompts sends more and more: the mix changes, nobody's requests grow. */
static void another_mix_is_no_growth(void **state)
{
	struct gen g = { .state = 44 };
	struct heard h = { 0 };

	(void)state;
	gen_calm(&g, 0, 14 * HOUR, 1.5, 6);
	for (double t = 5 * HOUR; t < 14 * HOUR; t += 1 / (0.02 + 0.6 * (t - 5 * HOUR) / (9 * HOUR)))
		gen_add(&g, t, "10.9.0.1", "key-long", "user-long", (int64_t)(9000 * exp(0.5 * gen_normal(&g))), 100);
	run_all(&g, &h, NULL);
	if (opens(&h, CLASS_TOKEN_GROWTH))
		show(&h);
	assert_int_equal(opens(&h, CLASS_TOKEN_GROWTH), 0);
	str_done(&h.json);
	gen_done(&g);
}

/* Who creeps up for nine hours and begins anew is restless: known for that after a day and a half. */
static void who_does_so_all_day_does_not_grow(void **state)
{
	struct gen g = { .state = 45 };
	struct heard h = { 0 };

	(void)state;
	gen_calm(&g, 0, 60 * HOUR, 0.5, 4);
	for (size_t i = 0; i < g.n; i++) {
		double t = g.v[i].r.timestamp - T0;

		if (!strcmp(g.v[i].key, "key-1"))
			record_set_int(&g.v[i].r, F_PROMPT_TOKENS, (int64_t)((double)record_int(&g.v[i].r, F_PROMPT_TOKENS, 0) * exp(0.1 * fmod(t / HOUR, 9))));
	}
	run_all(&g, &h, NULL);
	for (size_t i = 0; i < h.n; i++) {
		if (h.v[i].cls == CLASS_TOKEN_GROWTH && h.v[i].detected > 40 * HOUR)
			show(&h);
		assert_false(h.v[i].cls == CLASS_TOKEN_GROWTH && h.v[i].detected > 40 * HOUR);
	}
	str_done(&h.json);
	gen_done(&g);
}

/* He wanders, by the root of the time: further in a day than in an hour. Three days of it are nothing to tell of. */
static void a_wanderer_does_not_grow(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < 3; seed++) {
		struct gen g = { .state = 46 + seed };
		struct heard h = { 0 };
		static double walk[432];

		gen_calm(&g, 0, 72 * HOUR, 0.4, 4);
		for (int i = 1; i < 432; i++)
			walk[i] = 0.995 * walk[i - 1] + 0.06 * gen_normal(&g);
		for (size_t i = 0; i < g.n; i++)
			if (!strcmp(g.v[i].key, "key-1"))
				record_set_int(&g.v[i].r, F_PROMPT_TOKENS, (int64_t)((double)record_int(&g.v[i].r, F_PROMPT_TOKENS, 0) * exp(walk[(int)((g.v[i].r.timestamp - T0) / 600) % 432])));
		run_all(&g, &h, NULL);
		if (opens(&h, CLASS_TOKEN_GROWTH))
			show(&h);
		assert_int_equal(opens(&h, CLASS_TOKEN_GROWTH), 0);
		str_done(&h.json);
		gen_done(&g);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_ramp_of_one_key),
		cmocka_unit_test(everybody_grows),
		cmocka_unit_test(a_step_is_no_growth),
		cmocka_unit_test(another_mix_is_no_growth),
		cmocka_unit_test(who_does_so_all_day_does_not_grow),
		cmocka_unit_test(a_wanderer_does_not_grow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
