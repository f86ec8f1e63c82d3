/* The adaptive engine: what it must catch, what it must leave alone, and how it tells. */
#include "test_detect_gen.h"

static void calm_raises_nothing(void **state)
{
	static const double rates[] = { 0.3, 2, 10, 40 };

	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(rates); k++) {
		for (uint64_t seed = 1; seed <= 5; seed++) {
			struct gen g = { .state = seed };
			struct heard h = { 0 };

			gen_calm(&g, 0, rates[k] < 10 ? 3600 : 900, rates[k], 20);
			run_all(&g, &h, NULL);
			if (h.n) {
				show(&h);
				fail_msg("rate %g seed %d", rates[k], (int)seed);
			}
			str_done(&h.json);
			gen_done(&g);
		}
	}
}

static void cold_start_flood(void **state)
{
	static const double rates[] = { 2, 5, 20, 40 };

	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(rates); k++) {
		for (uint64_t seed = 1; seed <= 8; seed++) {
			struct gen g = { .state = seed * 77 };
			struct heard h = { 0 };
			const struct heard_event *e;

			gen_calm(&g, 0, 90, rates[k], 12);
			gen_source(&g, 20, 40, 20 * rates[k], "203.0.113.9", "key-evil", 50, 10);
			run_all(&g, &h, NULL);
			e = first_open(&h, CLASS_FLOOD);
			if (opens(&h, -1) != 1 || !e || e->detected > 30 || e->kind != ENTITY_CLIENT_IP || strcmp(e->value, "203.0.113.9") || fabs(e->start - 20) > 3) {
				show(&h);
				fail_msg("rate %g seed %d", rates[k], (int)seed);
			}
			/* nobody else is named */
			for (size_t i = 0; i < h.n; i++)
				for (size_t t = 0; t < h.v[i].top_count; t++)
					if (strcmp(h.v[i].top[t].value, "203.0.113.0/24"))
						assert_true(!strcmp(h.v[i].top[t].value, "203.0.113.9") || !strcmp(h.v[i].top[t].value, "key-evil"));
			str_done(&h.json);
			gen_done(&g);
		}
	}
}

static void flood_by_one_key_from_many_addresses(void **state)
{
	struct gen g = { .state = 5 };
	struct heard h = { 0 };
	const struct heard_event *e;

	(void)state;
	gen_calm(&g, 0, 2000, 10, 20);
	for (int i = 0; i < 20; i++) {
		char ip[40];

		snprintf(ip, sizeof(ip), "198.51.100.%d", i);
		gen_source(&g, 1800, 100, 3, ip, "key-4", 50, 10);
	}
	run_all(&g, &h, NULL);
	e = first_open(&h, CLASS_FLOOD);
	assert_non_null(e);
	assert_int_equal(opens(&h, -1), 1);
	assert_true(e->kind == ENTITY_API_KEY || e->kind == ENTITY_USER);
	assert_true(e->detected < 1810);
	str_done(&h.json);
	gen_done(&g);
}

static void three_sources_are_one_incident(void **state)
{
	struct gen g = { .state = 6 };
	struct heard h = { 0 };

	(void)state;
	gen_calm(&g, 0, 2000, 10, 20);
	gen_source(&g, 1800, 100, 20, "198.51.100.1", "key-a", 50, 10);
	gen_source(&g, 1801, 100, 20, "198.51.100.2", "key-b", 50, 10);
	gen_source(&g, 1802, 100, 20, "198.51.100.3", "key-c", 50, 10);
	run_all(&g, &h, NULL);
	assert_int_equal(opens(&h, -1), 1);
	assert_int_equal(opens(&h, CLASS_FLOOD), 1);
	/* the last word names all three, as far as five names go; what they share is their network */
	assert_int_equal(h.v[h.n - 1].kind, ENTITY_NETWORK);
	assert_string_equal(h.v[h.n - 1].value, "198.51.100.0/24");
	assert_true(h.v[h.n - 1].top_count >= 3);
	str_done(&h.json);
	gen_done(&g);
}

static void cost_spike(void **state)
{
	struct gen g = { .state = 7 };
	struct heard h = { 0 };
	const struct heard_event *e;

	(void)state;
	gen_calm(&g, 0, 4800, 5, 10);
	for (size_t i = 0; i < g.n; i++) {
		if (strcmp(g.v[i].key, "key-2") || g.v[i].r.timestamp < T0 + 4200)
			continue;
		g.v[i].r.num[F_PROMPT_TOKENS - F_INT_FIRST] *= 15;
		g.v[i].r.num[F_COMPLETION_TOKENS - F_INT_FIRST] *= 15;
		g.v[i].r.real[F_DURATION_MS - F_INT_END] *= 15;
	}
	run_all(&g, &h, NULL);
	e = first_open(&h, CLASS_COST_SPIKE);
	if (!e || opens(&h, -1) != 1)
		show(&h);
	assert_non_null(e);
	assert_int_equal(opens(&h, CLASS_COST_SPIKE), 1);
	assert_string_equal(e->value, "key-2");
	assert_int_equal(e->kind, ENTITY_API_KEY);
	assert_true(e->detected > 4200 && e->detected < 4420);
	str_done(&h.json);
	gen_done(&g);
}

/* From 6000 s on its requests are `larger` times as long; long before, there were three times as many for a while. */
static void same_bill(struct gen *g, double larger, struct heard *h)
{
	gen_calm(g, 0, 7200, 3, 10);
	gen_source(g, 1800, 600, 1, "10.0.2.0", "key-2", 500, 130);
	for (size_t i = 0; i < g->n; i++) {
		if (strcmp(g->v[i].key, "key-2") || g->v[i].r.timestamp < T0 + 6000)
			continue;
		g->v[i].r.num[F_PROMPT_TOKENS - F_INT_FIRST] = (int64_t)((double)g->v[i].r.num[F_PROMPT_TOKENS - F_INT_FIRST] * larger);
		g->v[i].r.num[F_COMPLETION_TOKENS - F_INT_FIRST] = (int64_t)((double)g->v[i].r.num[F_COMPLETION_TOKENS - F_INT_FIRST] * larger);
	}
	run_all(g, h, NULL);
}

/* Of somebody who is known for three quarters of a minute, like everybody. */
static void cost_in_the_first_minute(void **state)
{
	struct gen g = { .state = 3 };
	struct heard h = { 0 };
	const struct heard_event *e;

	(void)state;
	for (int c = 0; c < 8; c++) {
		char ip[40];

		snprintf(ip, sizeof(ip), "10.0.0.%d", c);
		gen_source(&g, 0.1 * c, c ? 80 : 45, 1.9, ip, "", 30, 16);
	}
	gen_source(&g, 45, 25, 1.9, "10.0.0.0", "", 3000, 900);
	run_all(&g, &h, NULL);
	e = first_open(&h, CLASS_COST_SPIKE);
	if (!e || h.n != 2)
		show(&h);
	assert_non_null(e);
	assert_string_equal(e->value, "10.0.0.0");
	assert_true(e->detected < 75);
	str_done(&h.json);
	gen_done(&g);
}

/* Such a bill he has had before, yet never such requests. */
static void larger_requests_are_cost(void **state)
{
	struct gen g = { .state = 71 };
	struct heard h = { 0 };
	const struct heard_event *e;

	(void)state;
	same_bill(&g, 5, &h);
	e = first_open(&h, CLASS_COST_SPIKE);
	while (e && e->detected < 6000)
		e = e + 1 < h.v + h.n ? e + 1 : NULL;
	if (!e)
		show(&h);
	assert_non_null(e);
	assert_int_equal(e->cls, CLASS_COST_SPIKE);
	assert_string_equal(e->value, "key-2");
	assert_true(e->detected < 6400);
	str_done(&h.json);
	gen_done(&g);
}

/* He calls twice a minute. That nothing comes for twenty seconds is no reason to look away. */
static void a_rare_caller_is_cost(void **state)
{
	struct gen g = { .state = 72 };
	struct heard h = { 0 };
	const struct heard_event *e;

	(void)state;
	gen_calm(&g, 0, 8400, 0.5, 4);
	for (double t = 0; t < 8400; t += 24 + 3 * gen_uniform(&g))
		gen_add(&g, t, "10.7.0.1", "key-rare", "user-rare", (int64_t)((t < 7200 ? 1200 : 12000) * exp(0.4 * gen_normal(&g))), 200);
	run_all(&g, &h, NULL);
	e = first_open(&h, CLASS_COST_SPIKE);
	if (!e)
		show(&h);
	assert_non_null(e);
	assert_int_equal(opens(&h, CLASS_COST_SPIKE), 1);
	assert_string_equal(e->value, "key-rare");
	assert_true(e->detected > 7200 && e->detected < 7600);
	str_done(&h.json);
	gen_done(&g);
}

/* Three times as many requests, each as it always was, of one who has done twice as many: a busy hour. */
static void more_of_the_same_is_no_cost(void **state)
{
	struct gen g = { .state = 73 };
	struct heard h = { 0 };

	(void)state;
	gen_calm(&g, 0, 9000, 3, 10);
	gen_source(&g, 3600, 600, 0.5, "10.0.2.0", "key-2", 480, 130);
	gen_source(&g, 7200, 900, 0.9, "10.0.2.0", "key-2", 480, 130);
	run_all(&g, &h, NULL);
	for (size_t i = 0; i < h.n; i++) {
		if (h.v[i].cls == CLASS_COST_SPIKE && h.v[i].detected > 7000)
			show(&h);
		assert_false(h.v[i].cls == CLASS_COST_SPIKE && h.v[i].detected > 7000);
	}
	str_done(&h.json);
	gen_done(&g);
}

static void usual_requests_are_no_cost(void **state)
{
	struct gen g = { .state = 71 };
	struct heard h = { 0 };

	(void)state;
	same_bill(&g, 1, &h);
	for (size_t i = 0; i < h.n; i++)
		assert_true(h.v[i].detected < 6000);
	str_done(&h.json);
	gen_done(&g);
}

static void error_burst(void **state)
{
	struct gen g = { .state = 8 };
	struct heard h = { 0 };
	const struct heard_event *e;

	(void)state;
	gen_calm(&g, 0, 1600, 5, 10);
	for (size_t i = 0; i < g.n; i++) {
		double t = g.v[i].r.timestamp - T0;

		if (i % 2)
			snprintf(g.v[i].model, sizeof(g.v[i].model), "m-small");
		/* the storm of 401 before it is another incident */
		if (t > 600 && t < 700 && i % 3)
			record_set_int(&g.v[i].r, F_STATUS, 401);
		if (t > 1200 && t < 1300 && i % 2 && i % 3)
			record_set_text(&g.v[i].r, F_FINISH_REASON, SPAN("error"));
	}
	run_all(&g, &h, NULL);
	e = first_open(&h, CLASS_ERROR_BURST);
	if (!e || opens(&h, CLASS_ERROR_BURST) != 1)
		show(&h);
	assert_non_null(e);
	assert_int_equal(opens(&h, CLASS_ERROR_BURST), 1);
	assert_int_equal(opens(&h, -1), 1 + opens(&h, CLASS_CREDENTIAL_ABUSE));
	assert_int_equal(e->kind, ENTITY_MODEL);
	assert_string_equal(e->value, "m-small");
	assert_true(e->detected > 1200 && e->detected < 1230);
	assert_int_equal(h.v[h.n - 1].event, EVENT_CLOSE);
	str_done(&h.json);
	gen_done(&g);
}

static void traffic_drop(void **state)
{
	struct gen g = { .state = 9 };
	struct heard h = { 0 };
	const struct heard_event *e;

	(void)state;
	gen_calm(&g, 0, 1500, 10, 10);
	gen_calm(&g, 1700, 300, 10, 10);
	run_all(&g, &h, NULL);
	e = first_open(&h, CLASS_TRAFFIC_DROP);
	if (!e || opens(&h, -1) != 1)
		show(&h);
	assert_non_null(e);
	assert_int_equal(opens(&h, -1), 1);
	assert_int_equal(e->kind, ENTITY_GLOBAL);
	assert_true(e->detected > 1500 && e->detected < 1570);
	assert_true(fabs(e->start - 1500) < 5);
	assert_int_equal(h.v[h.n - 1].event, EVENT_CLOSE);
	str_done(&h.json);
	gen_done(&g);
}

static void silence_is_seen_by_wall_time(void **state)
{
	struct gen g = { .state = 10 };
	struct heard h = { 0 };
	size_t before;
	struct detect *d = engine(&h);

	(void)state;
	gen_calm(&g, 0, 1800, 10, 10);
	qsort(g.v, g.n, sizeof(*g.v), gen_by_time);
	for (size_t i = 0; i < g.n; i++)
		detect_record(d, gen_bind(&g.v[i]));
	assert_int_equal(detect_advance(d, T0 + 1805), 0);
	assert_int_equal(h.n, 0);
	for (int t = 1806; t < 1900; t++)
		assert_int_equal(detect_advance(d, T0 + t), 0);
	assert_int_equal(opens(&h, CLASS_TRAFFIC_DROP), 1);
	before = h.n;
	assert_int_equal(detect_advance(d, T0), 0); /* never backwards */
	assert_int_equal(h.n, before);
	detect_free(d);
	str_done(&h.json);
	gen_done(&g);
}

static void end_of_a_flood_is_no_drop_and_no_news(void **state)
{
	struct gen g = { .state = 11 };
	struct heard h = { 0 };

	(void)state;
	gen_calm(&g, 0, 3000, 10, 20);
	gen_source(&g, 1500, 400, 100, "203.0.113.9", "key-evil", 900, 400);
	run_all(&g, &h, NULL);
	if (opens(&h, -1) != 1)
		show(&h);
	assert_int_equal(opens(&h, -1), 1);
	assert_int_equal(h.v[h.n - 1].event, EVENT_CLOSE);
	assert_int_equal(h.v[h.n - 1].cls, CLASS_FLOOD);
	assert_true(fabs(h.v[h.n - 1].end - 1905) < 20);
	str_done(&h.json);
	gen_done(&g);
}

static void hysteresis_and_reopening(void **state)
{
	struct gen g = { .state = 12 };
	struct heard h = { 0 };

	(void)state;
	gen_calm(&g, 0, 3600, 10, 20);
	/* on and off within the half minute: one incident; back after two minutes: the same one, open again; after ten: a new one */
	for (int i = 0; i < 5; i++)
		gen_source(&g, 1500 + i * 30, 15, 100, "203.0.113.9", "key-evil", 50, 10);
	gen_source(&g, 1800, 60, 100, "203.0.113.9", "key-evil", 50, 10);
	gen_source(&g, 2700, 60, 300, "203.0.113.9", "key-evil", 50, 10);
	run_all(&g, &h, NULL);
	if (opens(&h, CLASS_FLOOD) != 3)
		show(&h);
	assert_int_equal(opens(&h, CLASS_FLOOD), 3);
	{
		const char *id[3];
		size_t n = 0;

		for (size_t i = 0; i < h.n; i++)
			if (h.v[i].event == EVENT_OPEN)
				id[n++] = h.v[i].id;
		assert_string_equal(id[0], id[1]);
		assert_string_not_equal(id[0], id[2]);
	}
	str_done(&h.json);
	gen_done(&g);
}

static void a_lasting_shift_is_accepted(void **state)
{
	struct gen g = { .state = 13 };
	struct heard h = { 0 };
	const struct heard_event *last;

	(void)state;
	gen_calm(&g, 0, 5400, 5, 10);
	gen_source(&g, 1500, 3900, 30, "203.0.113.9", "key-new", 50, 10);
	run_all(&g, &h, NULL);
	last = &h.v[h.n - 1];
	assert_int_equal(opens(&h, -1), 1);
	assert_int_equal(last->event, EVENT_CLOSE);
	assert_true(last->detected >= 3300 && last->detected < 3330);
	str_done(&h.json);
	gen_done(&g);
}

static void lost_lines_name_the_client(void **state)
{
	struct gen g = { .state = 14 };
	struct heard h = { 0 };
	const struct heard_event *e;

	(void)state;
	gen_calm(&g, 0, 400, 10, 10);
	for (int t = 300; t < 360; t++) {
		struct gen_record *r = gen_add(&g, t + 0.9, "203.0.113.9", "", "", 0, 0);

		r->r.weight = 500;
		r->r.has &= ~(F_BIT(F_PROMPT_TOKENS) | F_BIT(F_COMPLETION_TOKENS) | F_BIT(F_STATUS) | F_BIT(F_DURATION_MS));
		record_set_bool(&r->r, F_LOST, true);
	}
	run_all(&g, &h, NULL);
	e = first_open(&h, CLASS_FLOOD);
	assert_non_null(e);
	assert_string_equal(e->value, "203.0.113.9");
	assert_true(e->detected <= 303);
	assert_int_equal(opens(&h, -1), 1);
	str_done(&h.json);
	gen_done(&g);
}

static void control_requests_have_no_rate(void **state)
{
	struct gen g = { .state = 15 };
	struct heard h = { 0 };

	(void)state;
	gen_calm(&g, 0, 400, 5, 10);
	for (double t = 300; t < 360; t += 0.005)
		gen_add(&g, t, "203.0.113.9", "", "", 0, 0)->r.kind = KIND_CONTROL;
	run_all(&g, &h, NULL);
	assert_int_equal(h.n, 0);
	str_done(&h.json);
	gen_done(&g);
}

static void without_any_identity(void **state)
{
	struct gen g = { .state = 16 };
	struct heard h = { 0 };
	const struct heard_event *e;

	(void)state;
	gen_calm(&g, 0, 2000, 10, 10);
	gen_source(&g, 1500, 200, 100, "", "", 50, 10);
	for (size_t i = 0; i < g.n; i++)
		g.v[i].ip[0] = g.v[i].key[0] = g.v[i].user[0] = g.v[i].model[0] = '\0';
	run_all(&g, &h, NULL);
	e = first_open(&h, CLASS_UNKNOWN);
	assert_non_null(e);
	assert_int_equal(opens(&h, -1), 1);
	assert_int_equal(e->kind, ENTITY_GLOBAL);
	assert_int_equal(e->top_count, 0);
	str_done(&h.json);
	gen_done(&g);
}

/* A crowd that comes within minutes and goes home slowly: at the end its height is told, not what was left of it. */
static void a_crowd_is_told_at_its_height(void **state)
{
	struct gen g = { .state = 96 };
	struct heard h = { 0 };
	const struct heard_event *e = NULL;
	double told = 0;

	(void)state;
	gen_calm(&g, 0, 9000, 4, 12);
	for (double t = 5400; t < 8400;) {
		double rate = t < 5800 ? 1 + 19 * (t - 5400) / 400 : 20 * exp((5800 - t) / 900);
		char ip[40], key[24];
		unsigned int who = (unsigned int)(gen_uniform(&g) * 3000);

		snprintf(ip, sizeof(ip), "198.%u.%u.%u", 18 + who / 1500, who / 8 % 250, 1 + who % 8);
		snprintf(key, sizeof(key), "crowd-%u", who);
		gen_add(&g, t, ip, key, key, (int64_t)(400 * exp(0.6 * gen_normal(&g))), (int64_t)(120 * exp(0.5 * gen_normal(&g))));
		t -= log(gen_uniform(&g)) / rate;
	}
	for (size_t i = 0; i < g.n; i++) {
		record_set_int(&g.v[i].r, F_PROMPT_SIM, (int64_t)gen_bits(&g));
		record_set_int(&g.v[i].r, F_PROMPT_HASH, (int64_t)gen_bits(&g));
	}
	run_all(&g, &h, NULL);
	for (size_t i = 0; i < h.n; i++)
		if (h.v[i].event == EVENT_CLOSE && h.v[i].cls == CLASS_FLASH_CROWD)
			e = &h.v[i];
	if (!e)
		show(&h);
	assert_non_null(e);
	assert_int_equal(sscanf(e->summary, "over after %*f s: requests rose to %lf/s", &told), 1);
	assert_true(told > 18 && told < 40);
	str_done(&h.json);
	gen_done(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(calm_raises_nothing),
		cmocka_unit_test(cold_start_flood),
		cmocka_unit_test(flood_by_one_key_from_many_addresses),
		cmocka_unit_test(three_sources_are_one_incident),
		cmocka_unit_test(cost_spike),
		cmocka_unit_test(cost_in_the_first_minute),
		cmocka_unit_test(larger_requests_are_cost),
		cmocka_unit_test(usual_requests_are_no_cost),
		cmocka_unit_test(a_rare_caller_is_cost),
		cmocka_unit_test(more_of_the_same_is_no_cost),
		cmocka_unit_test(error_burst),
		cmocka_unit_test(traffic_drop),
		cmocka_unit_test(silence_is_seen_by_wall_time),
		cmocka_unit_test(end_of_a_flood_is_no_drop_and_no_news),
		cmocka_unit_test(hysteresis_and_reopening),
		cmocka_unit_test(a_lasting_shift_is_accepted),
		cmocka_unit_test(lost_lines_name_the_client),
		cmocka_unit_test(control_requests_have_no_rate),
		cmocka_unit_test(without_any_identity),
		cmocka_unit_test(a_crowd_is_told_at_its_height),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
