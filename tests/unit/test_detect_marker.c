/* What happened to servers, and the incidents that cite it: those that began soon after, no others, and none because of it. */
#include "test_detect_gen.h"

#define HOUR 3600.0
#define BURST 5000.0

/* What fails from BURST on, and where everything runs. */
static void traffic(struct gen *g, const char *server, bool fails)
{
	gen_calm(g, 0, 2 * HOUR, 5, 12);
	for (size_t i = 0; i < g->n; i++) {
		double t = g->v[i].r.timestamp - T0;

		record_set_text(&g->v[i].r, F_SERVER, span_of(server));
		record_set_int(&g->v[i].r, F_STATUS, fails && t >= BURST && t < BURST + 600 && gen_uniform(g) < 0.4 ? 503 : 200);
	}
}

/* Runs it all; each marker is told when the clock has come to it. */
static void run_with(struct gen *g, struct heard *h, const struct marker *m, size_t n)
{
	struct detect *d = engine(h);
	size_t told = 0;

	qsort(g->v, g->n, sizeof(*g->v), gen_by_time);
	for (size_t i = 0; i < g->n; i++) {
		for (; told < n && m[told].time <= g->v[i].r.timestamp; told++)
			assert_int_equal(detect_marker(d, &m[told]), 0);
		assert_int_equal(detect_record(d, gen_bind(&g->v[i])), 0);
	}
	assert_int_equal(detect_finish(d), 0);
	detect_free(d);
}

static void check(const char *server, struct marker m, const char *says, const char *says_not)
{
	struct gen g = { .state = 71 };
	struct heard h = { 0 };

	traffic(&g, server, true);
	run_with(&g, &h, &m, m.server.n ? 1 : 0);
	assert_int_equal(opens(&h, CLASS_ERROR_BURST), 1);
	if (says && !strstr(h.json.p, says)) {
		show(&h);
		fail_msg("no '%s' in what was told", says);
	}
	if (says_not && strstr(h.json.p, says_not))
		fail_msg("'%s' in %s", says_not, h.json.p);
	str_done(&h.json);
	gen_done(&g);
}

#define UNIT "127.0.0.1:8000 vllm/0.9 unit=vllm.service"

static void cited_by_what_follows(void **state)
{
	(void)state;
	check(UNIT, (struct marker){ T0 + BURST - 60, MARKER_RESTART, SPAN("unit=vllm.service"), { 0 } }, " s after the restart of unit=vllm.service", NULL);
	check(UNIT, (struct marker){ T0 + BURST - 60, MARKER_IMAGE, SPAN("unit=vllm.service"), SPAN("vllm:v2") }, "after the change of the image of unit=vllm.service (vllm:v2)", NULL);
	check(UNIT, (struct marker){ T0 + BURST - 60, MARKER_START, SPAN("unit=vllm.service"), SPAN("x") }, "\"seconds_since_marker\"", "(x)");
	/* a server without a name */
	check("127.0.0.1:8000", (struct marker){ T0 + BURST - 60, MARKER_RESTART, SPAN(":8000"), { 0 } }, " s after the restart of port 8000", NULL);
}

static void not_cited(void **state)
{
	(void)state;
	check(UNIT, (struct marker){ 0 }, NULL, "began");
	check(UNIT, (struct marker){ T0 + BURST - 1200, MARKER_RESTART, SPAN("unit=vllm.service"), { 0 } }, NULL, "began"); /* too long ago */
	check(UNIT, (struct marker){ T0 + BURST + 300, MARKER_RESTART, SPAN("unit=vllm.service"), { 0 } }, NULL, "began"); /* somebody's answer to it */
}

/* Markers explain, they decide nothing: with them, without them, the same incidents at the same times. */
static void nothing_comes_of_a_marker(void **state)
{
	struct marker many[200];
	struct gen g = { .state = 72 };
	struct heard with = { 0 }, without = { 0 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(many); i++)
		many[i] = (struct marker){ T0 + 30.0 * (double)i, (enum marker_kind)(i % 5), SPAN("unit=other.service"), SPAN("m") };
	traffic(&g, UNIT, false);
	run_with(&g, &with, many, ARRAY_SIZE(many));
	run_with(&g, &without, NULL, 0);
	assert_int_equal(with.n, without.n);
	str_done(&with.json);
	str_done(&without.json);
	gen_done(&g);
}

/* A model that comes new to a server is seen in its records; one that fails, or one of a server's first, is not. */
static void new_models_are_seen(void **state)
{
	static const struct {
		double from;
		bool answers;
		const char *says;
	} cases[] = { { BURST - 100, true, "a new model at unit=vllm.service (m-2)" }, { BURST - 100, false, NULL }, { 100, true, NULL } };

	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(cases); k++) {
		struct gen g = { .state = 73 };
		struct heard h = { 0 };

		traffic(&g, UNIT, true);
		for (size_t i = 0; i < g.n; i += 7) {
			if (g.v[i].r.timestamp - T0 < cases[k].from)
				continue;
			snprintf(g.v[i].model, sizeof(g.v[i].model), "m-2");
			if (!cases[k].answers)
				record_set_int(&g.v[i].r, F_STATUS, 404);
		}
		run_with(&g, &h, NULL, 0);
		assert_true(opens(&h, CLASS_ERROR_BURST) >= 1);
		if (cases[k].says && !strstr(h.json.p, cases[k].says)) {
			show(&h);
			fail_msg("no '%s'", cases[k].says);
		}
		if (!cases[k].says && strstr(h.json.p, "a new model")) {
			show(&h);
			fail_msg("case %zu: a new model", k);
		}
		str_done(&h.json);
		gen_done(&g);
	}
}

/* A gateway that serves hundreds is not followed, and more servers than there is room for are no harm. */
static void bounds(void **state)
{
	struct detect *d;
	struct heard h = { 0 };
	struct gen g = { .state = 74 };

	(void)state;
	d = engine(&h);
	assert_int_equal(detect_marker(d, &(struct marker){ 0, MARKER_START, SPAN("x"), { 0 } }), -EINVAL);
	assert_int_equal(detect_marker(d, &(struct marker){ NAN, MARKER_START, SPAN("x"), { 0 } }), -EINVAL);
	assert_int_equal(detect_marker(d, &(struct marker){ T0, MARKER_START, { 0 }, { 0 } }), -EINVAL);
	assert_int_equal(detect_marker(d, &(struct marker){ T0, (enum marker_kind)99, SPAN("x"), { 0 } }), -EINVAL);
	for (int i = 0; i < 1000; i++) {
		static char name[4000];

		memset(name, 'n', sizeof(name));
		assert_int_equal(detect_marker(d, &(struct marker){ T0 + i, MARKER_IMAGE, { name, sizeof(name) }, { name, sizeof(name) } }), 0);
	}
	gen_calm(&g, 0, HOUR, 5, 12);
	for (size_t i = 0; i < g.n; i++) {
		snprintf(g.v[i].model, sizeof(g.v[i].model), "m-%zu", i % 500);
		record_set_int(&g.v[i].r, F_STATUS, 200);
	}
	for (size_t i = 0; i < g.n; i++) {
		char server[40];

		snprintf(server, sizeof(server), "10.0.%zu.%zu:80", i % 3, i % 250);
		record_set_text(&g.v[i].r, F_SERVER, span_of(server));
		assert_int_equal(detect_record(d, gen_bind(&g.v[i])), 0);
	}
	detect_free(d);
	str_done(&h.json);
	gen_done(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cited_by_what_follows), cmocka_unit_test(not_cited), cmocka_unit_test(nothing_comes_of_a_marker),
		cmocka_unit_test(new_models_are_seen),	 cmocka_unit_test(bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
