/* Errors of a model or of all, and traffic that falls away: found where they are, and nowhere else. */
#include "test_detect_gen.h"

#define HOUR 3600.0

/* Requests of [from, to) fail with probability p; model: only these, or NULL. */
static void let_fail(struct gen *g, double from, double to, double p, const char *model)
{
	for (size_t i = 0; i < g->n; i++) {
		double t = g->v[i].r.timestamp - T0;

		if (t >= from && t < to && (!model || !strcmp(g->v[i].model, model)) && gen_uniform(g) < p)
			record_set_int(&g->v[i].r, F_STATUS, 503);
	}
}

/* Every third request goes to another model. */
static void two_models(struct gen *g)
{
	for (size_t i = 0; i < g->n; i++)
		if (i % 3 == 0)
			snprintf(g->v[i].model, sizeof(g->v[i].model), "m-small");
}

/* Of the requests in [from, to), these stay: a share of all, or of one customer's. */
static void lose(struct gen *g, double from, double to, double keep, const char *key)
{
	size_t n = 0;

	for (size_t i = 0; i < g->n; i++) {
		double t = g->v[i].r.timestamp - T0;

		if (t < from || t >= to || (key && strcmp(g->v[i].key, key)) || gen_uniform(g) < keep)
			g->v[n++] = g->v[i];
	}
	g->n = n;
}

static size_t health_opens(const struct heard *h)
{
	return opens(h, CLASS_ERROR_BURST) + opens(h, CLASS_TRAFFIC_DROP);
}

static void calm_hours_are_calm(void **state)
{
	struct gen g = { .state = 31 };
	struct heard h = { 0 };

	(void)state;
	gen_calm(&g, 0, 4 * HOUR, 4, 12);
	let_fail(&g, 0, 4 * HOUR, 0.008, NULL);
	run_all(&g, &h, NULL);
	if (health_opens(&h))
		show(&h);
	assert_int_equal(health_opens(&h), 0);
	str_done(&h.json);
	gen_done(&g);
}

static void one_model_fails_beside_a_healthy_one(void **state)
{
	struct gen g = { .state = 32 };
	struct heard h = { 0 };
	const struct heard_event *e;

	(void)state;
	gen_calm(&g, 0, 2 * HOUR, 5, 12);
	two_models(&g);
	let_fail(&g, 0, 2 * HOUR, 0.004, NULL);
	let_fail(&g, 4000, 4600, 0.25, "m-small");
	run_all(&g, &h, NULL);
	e = first_open(&h, CLASS_ERROR_BURST);
	assert_non_null(e);
	assert_int_equal(opens(&h, CLASS_ERROR_BURST), 1);
	assert_int_equal(e->kind, ENTITY_MODEL);
	assert_string_equal(e->value, "m-small");
	assert_true(e->detected > 4000 && e->detected < 4090);
	assert_true(e->start > 3900 && e->start < 4090);
	str_done(&h.json);
	gen_done(&g);
}

static void all_fail(void **state)
{
	struct gen g = { .state = 33 };
	struct heard h = { 0 };
	const struct heard_event *e;

	(void)state;
	gen_calm(&g, 0, 2 * HOUR, 5, 12);
	two_models(&g);
	let_fail(&g, 4000, 4300, 0.7, NULL);
	run_all(&g, &h, NULL);
	e = first_open(&h, CLASS_ERROR_BURST);
	assert_non_null(e);
	assert_int_equal(e->kind, ENTITY_GLOBAL);
	assert_true(e->detected < 4030);
	str_done(&h.json);
	gen_done(&g);
}

/* A third of 20 requests a minute: no window of a minute would show it. */
static void a_quiet_site_fails(void **state)
{
	struct gen g = { .state = 34 };
	struct heard h = { 0 };
	const struct heard_event *e;

	(void)state;
	gen_calm(&g, 0, 6 * HOUR, 0.3, 6);
	let_fail(&g, 15000, 16500, 0.33, NULL);
	run_all(&g, &h, NULL);
	e = first_open(&h, CLASS_ERROR_BURST);
	assert_non_null(e);
	assert_true(e->detected > 15000 && e->detected < 15600);
	assert_int_equal(opens(&h, CLASS_ERROR_BURST), 1);
	str_done(&h.json);
	gen_done(&g);
}

static void silence_and_its_end(void **state)
{
	struct gen g = { .state = 35 };
	struct heard h = { 0 };
	const struct heard_event *e;

	(void)state;
	gen_calm(&g, 0, 4 * HOUR, 4, 12);
	lose(&g, 10000, 10400, 0, NULL);
	run_all(&g, &h, NULL);
	e = first_open(&h, CLASS_TRAFFIC_DROP);
	assert_non_null(e);
	assert_int_equal(e->kind, ENTITY_GLOBAL);
	assert_true(e->detected > 10000 && e->detected < 10120);
	assert_int_equal(opens(&h, CLASS_TRAFFIC_DROP), 1);
	assert_int_equal(opens(&h, CLASS_FLOOD) + opens(&h, CLASS_DDOS), 0); /* the recovery is none */
	str_done(&h.json);
	gen_done(&g);
}

static void a_third_is_left(void **state)
{
	struct gen g = { .state = 36 };
	struct heard h = { 0 };
	const struct heard_event *e;

	(void)state;
	gen_calm(&g, 0, 5 * HOUR, 6, 12);
	lose(&g, 12000, 13200, 0.3, NULL);
	run_all(&g, &h, NULL);
	e = first_open(&h, CLASS_TRAFFIC_DROP);
	assert_non_null(e);
	assert_int_equal(e->kind, ENTITY_GLOBAL);
	assert_true(e->detected > 12000 && e->detected < 12600);
	str_done(&h.json);
	gen_done(&g);
}

static void a_big_customer_leaves(void **state)
{
	struct gen g = { .state = 37 };
	struct heard h = { 0 };
	const struct heard_event *e;

	(void)state;
	gen_calm(&g, 0, 5 * HOUR, 6, 5);
	lose(&g, 12000, 13200, 0, "key-1");
	run_all(&g, &h, NULL);
	e = first_open(&h, CLASS_TRAFFIC_DROP);
	assert_non_null(e);
	assert_true(e->kind >= ENTITY_NETWORK);
	{
		bool named = false;

		for (size_t i = 0; i < e->top_count; i++)
			named |= e->top[i].kind == ENTITY_API_KEY && !strcmp(e->top[i].value, "key-1");
		assert_true(named);
	}
	assert_true(e->detected > 12000 && e->detected < 12900);
	str_done(&h.json);
	gen_done(&g);
}

/* A known key works for an hour as it has done before, and stops: nobody is missed. */
static void a_job_ends(void **state)
{
	struct gen g = { .state = 38 };
	struct heard h = { 0 };

	(void)state;
	gen_calm(&g, 0, 6 * HOUR, 1, 8);
	gen_source(&g, 0, 6 * HOUR, 0.02, "10.9.0.1", "job", 300, 100);
	gen_source(&g, 2 * HOUR, HOUR, 4, "10.9.0.1", "job", 300, 100);
	gen_source(&g, 4 * HOUR, HOUR, 4, "10.9.0.1", "job", 300, 100);
	run_all(&g, &h, NULL);
	assert_int_equal(opens(&h, CLASS_TRAFFIC_DROP), 0);
	str_done(&h.json);
	gen_done(&g);
}

/* Customers go home one by one: within twelve minutes a tenth is left. */
static void it_ebbs_away(void **state)
{
	struct gen g = { .state = 39 };
	struct heard h = { 0 };

	(void)state;
	gen_calm(&g, 0, 5 * HOUR, 3, 12);
	for (int minute = 0; minute < 32; minute++)
		lose(&g, 12000 + 60 * minute, 12060 + 60 * minute, minute < 11 ? 1 - (minute + 1) / 13.0 : 0.1, NULL);
	run_all(&g, &h, NULL);
	assert_int_equal(opens(&h, CLASS_TRAFFIC_DROP), 0);
	str_done(&h.json);
	gen_done(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(calm_hours_are_calm),
		cmocka_unit_test(one_model_fails_beside_a_healthy_one),
		cmocka_unit_test(all_fail),
		cmocka_unit_test(a_quiet_site_fails),
		cmocka_unit_test(silence_and_its_end),
		cmocka_unit_test(a_third_is_left),
		cmocka_unit_test(a_big_customer_leaves),
		cmocka_unit_test(a_job_ends),
		cmocka_unit_test(it_ebbs_away),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
