/* How often it rings: the sensitivity, the budget of alarms a week, and what is counted for it. */
#include "test_detect_kept.h"

#include "detect/tuning.h"

#define HOURS 40

/* Customers of whom one or the other bursts now and then, mostly a little: nothing is wrong, and some of it rings. */
static void bursts(struct gen *g)
{
	char ip[40], key[24];

	gen_calm(g, 0, HOURS * 3600.0, 0.4, 8);
	for (double t = 1800; t < HOURS * 3600.0; t += 1800 + 3600 * gen_uniform(g)) {
		double rate = 0.8 - 0.5 * log(gen_uniform(g));

		snprintf(ip, sizeof(ip), "172.16.%d.9", (int)(200 * gen_uniform(g)));
		snprintf(key, sizeof(key), "job-%d", (int)(200 * gen_uniform(g)));
		gen_source(g, t, 40, rate, ip, key, 300, 90);
	}
}

struct outcome {
	size_t loud;
	double at[3]; /* the sensitivity for 30, 60 and 100 alarms a week */
	struct heard h;
};

static struct detect *begin(struct outcome *o, double sensitivity, double alarms_per_week)
{
	struct detect_opts opts = { .detector = DETECTOR_FULL, .sensitivity = sensitivity, .alarms_per_week = alarms_per_week, .emit = hear, .ctx = &o->h };
	struct detect *d = NULL;

	memset(o, 0, sizeof(*o));
	assert_int_equal(detect_open(&opts, &d), 0);
	return d;
}

static void end(struct outcome *o, struct detect *d)
{
	static const double budget[] = { 30, 60, 100 };

	assert_int_equal(detect_finish(d), 0);
	for (size_t i = 0; i < ARRAY_SIZE(budget); i++)
		o->at[i] = detect_sensitivity_for(d, budget[i]);
	for (size_t i = 0; i < o->h.n; i++)
		o->loud += o->h.v[i].event == EVENT_OPEN && o->h.v[i].severity >= SEVERITY_WARNING;
	detect_free(d);
}

static void run(struct gen *g, double sensitivity, double alarms_per_week, struct outcome *o)
{
	struct detect *d = begin(o, sensitivity, alarms_per_week);

	for (size_t i = 0; i < g->n; i++)
		assert_int_equal(detect_record(d, gen_bind(&g->v[i])), 0);
	end(o, d);
}

static void the_bar_decides_how_often_it_rings(void **state)
{
	struct gen g = { .state = 5 };
	struct outcome usual, same, deaf, keen, few;

	(void)state;
	bursts(&g);
	qsort(g.v, g.n, sizeof(*g.v), gen_by_time);
	run(&g, 0, 0, &usual);
	run(&g, 1, 0, &same);
	run(&g, 0.5, 0, &deaf);
	run(&g, DETECT_SENSITIVITY_MAX, 0, &keen);
	assert_true(usual.loud >= 3);
	assert_true(deaf.loud < usual.loud);
	assert_true(keen.loud > usual.loud);
	/* as shipped is sensitivity 1, to the byte */
	assert_int_equal(usual.h.json.n, same.h.json.n);
	assert_memory_equal(usual.h.json.p, same.h.json.p, same.h.json.n);
	/* The more may ring, the lower the bar; and it lies within its bounds. */
	assert_true(usual.at[0] >= 1 / BUDGET_MOST && usual.at[0] < usual.at[1] && usual.at[1] < usual.at[2] && usual.at[2] <= 1 / BUDGET_LEAST);
	/* Following one a week, it rings less; and nothing moves before a day is known. */
	run(&g, 0, 1, &few);
	assert_true(few.loud < usual.loud);
	for (size_t i = 0; i < usual.h.n && usual.h.v[i].detected < BUDGET_KNOWN_H * 3600; i++)
		assert_string_equal(usual.h.v[i].summary, few.h.v[i].summary);
	str_done(&usual.h.json);
	str_done(&same.h.json);
	str_done(&deaf.h.json);
	str_done(&keen.h.json);
	str_done(&few.h.json);
	gen_done(&g);
}

static void a_day_is_needed(void **state)
{
	struct gen g = { .state = 6 };
	struct outcome o;
	struct detect *d = begin(&o, 0, 0);

	(void)state;
	for (int i = 0; i < 27 * 60; i++) {
		gen_add(&g, i * 60.0, "10.0.0.1", "k", "u", 100, 10);
		assert_int_equal(detect_record(d, gen_bind(&g.v[i])), 0);
		if (i <= 24 * 60)
			assert_true(detect_sensitivity_for(d, 1) <= 0);
	}
	assert_true(detect_sensitivity_for(d, 1) > 0);
	assert_true(detect_sensitivity_for(d, 0) <= 0);
	detect_free(d);
	str_done(&o.h.json);
	gen_done(&g);
}

static void a_restart_keeps_it(void **state)
{
	struct gen g = { .state = 5 };
	struct outcome whole, first, second;
	struct items kept = { 0 };
	struct detect *d;
	size_t i = 0;

	(void)state;
	bursts(&g);
	qsort(g.v, g.n, sizeof(*g.v), gen_by_time);
	run(&g, 0, 0, &whole);
	d = begin(&first, 0, 0);
	for (; i < g.n * 9 / 10; i++)
		assert_int_equal(detect_record(d, gen_bind(&g.v[i])), 0);
	assert_int_equal(detect_export(d, true, items_put, &kept), 0);
	detect_free(d);
	assert_int_equal(items_count(&kept, "budget"), 1);
	d = begin(&second, 0, 0);
	for (size_t k = 0; k < kept.n; k++)
		if (strcmp(kept.v[k].kind, "latency") != 0) /* another test's */
			assert_int_equal(item_import(d, &kept.v[k]), 0);
	for (; i < g.n; i++)
		assert_int_equal(detect_record(d, gen_bind(&g.v[i])), 0);
	end(&second, d);
	/* The hour of the restart is lost, no more. */
	for (size_t k = 0; k < 3; k++)
		assert_true(fabs(log(second.at[k] / whole.at[k])) < 0.25);
	/* Any byte of it may be wrong: it is refused, or makes sense. */
	for (size_t n = 0; n < items_find(&kept, "budget", NULL)->n; n++) {
		struct kept_item k = *items_find(&kept, "budget", NULL);
		struct outcome o;

		((uint8_t *)k.blob)[n] ^= 0x85;
		d = begin(&o, 0, 1);
		item_import(d, &k);
		k.n--;
		assert_int_equal(item_import(d, &k), -EINVAL);
		((uint8_t *)k.blob)[n] ^= 0x85;
		assert_true(detect_sensitivity_for(d, 1) <= 1 / BUDGET_LEAST);
		detect_free(d);
	}
	items_done(&kept);
	str_done(&whole.h.json);
	str_done(&first.h.json);
	str_done(&second.h.json);
	gen_done(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_bar_decides_how_often_it_rings),
		cmocka_unit_test(a_day_is_needed),
		cmocka_unit_test(a_restart_keeps_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
