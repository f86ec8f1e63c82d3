/* The engine's promises: causal, deterministic, bounded, hard to poison, and the same live as replayed. */
#include "test_detect_gen.h"

#include "detect/tuning.h"

static void a_busy_day(struct gen *g)
{
	gen_calm(g, 0, 3000, 6, 15);
	gen_source(g, 900, 60, 120, "203.0.113.9", "key-evil", 50, 40);
	for (size_t i = 0; i < g->n; i++) {
		double t = g->v[i].r.timestamp - T0;

		if (t > 1500 && t < 1600 && i % 2)
			record_set_int(&g->v[i].r, F_STATUS, 503);
	}
	gen_source(g, 2300, 300, 60, "203.0.113.77", "key-3", 700, 200);
}

static void the_past_does_not_change(void **state)
{
	struct gen g = { .state = 21 };
	struct heard whole = { 0 };

	(void)state;
	a_busy_day(&g);
	run_all(&g, &whole, NULL);
	assert_true(whole.n >= 5);
	for (size_t n = 1; n < g.n; n += 1 + n / 7) {
		struct heard part = { 0 };

		run_some(&g, n, &part, NULL);
		assert_true(part.json.n <= whole.json.n);
		if (part.json.n)
			assert_memory_equal(part.json.p, whole.json.p, part.json.n);
		str_done(&part.json);
	}
	/* and what was said by a certain record was said with what came before it */
	for (size_t i = 0; i < whole.n; i++)
		assert_true(whole.v[i].detected <= g.v[g.n - 1].r.timestamp - T0);
	str_done(&whole.json);
	gen_done(&g);
}

static void twice_the_same(void **state)
{
	struct gen g = { .state = 22 };
	struct heard a = { 0 }, b = { 0 };

	(void)state;
	a_busy_day(&g);
	run_all(&g, &a, NULL);
	run_all(&g, &b, NULL);
	assert_int_equal(a.json.n, b.json.n);
	assert_memory_equal(a.json.p, b.json.p, a.json.n);
	str_done(&a.json);
	str_done(&b.json);
	gen_done(&g);
}

struct step {
	double t;
	int what; /* 0 arrival, 1 provisional, 2 completion */
	size_t i;
	int64_t tokens;
};

static int by_step(const void *a, const void *b)
{
	const struct step *x = a, *y = b;

	return x->t < y->t ? -1 : x->t > y->t ? 1 : x->what - y->what;
}

/* The agent's way: arrivals, provisional tokens of long streams, completions, each when it happens, and a clock that ticks by itself. */
static void run_live(struct gen *g, struct heard *h)
{
	struct step *s = calloc(g->n * 8, sizeof(*s));
	struct detect *d = engine(h);
	double tick = 0;
	size_t n = 0;

	assert_non_null(s);
	for (size_t i = 0; i < g->n; i++) {
		const struct record *r = &g->v[i].r;
		double seconds = record_real(r, F_DURATION_MS, 0) / 1000;
		int64_t tokens = record_int(r, F_COMPLETION_TOKENS, 0), told = 0;

		s[n++] = (struct step){ r->timestamp, 0, i, 0 };
		for (double k = 5; k < seconds && k < 30; k += 5) {
			int64_t part = (int64_t)((double)tokens * 5 / seconds);

			s[n++] = (struct step){ r->timestamp + k, 1, i, part };
			told += part;
		}
		s[n++] = (struct step){ r->timestamp + seconds, 2, i, told };
	}
	qsort(s, n, sizeof(*s), by_step);
	for (size_t k = 0; k < n; k++) {
		const struct record *r = gen_bind(&g->v[s[k].i]);

		if (s[k].what == 0)
			assert_int_equal(detect_arrival(d, r), 0);
		else if (s[k].what == 1)
			assert_int_equal(detect_provisional(d, r, s[k].t, s[k].tokens), 0);
		else
			assert_int_equal(detect_complete(d, r, s[k].tokens), 0);
		for (; tick + 1 < s[k].t - T0; tick++)
			assert_int_equal(detect_advance(d, T0 + tick), 0);
	}
	detect_finish(d);
	detect_free(d);
	free(s);
}

static void live_and_replayed_agree(void **state)
{
	(void)state;
	for (uint64_t seed = 30; seed < 34; seed++) {
		struct gen g = { .state = seed };
		struct heard live = { 0 }, file = { 0 };
		size_t a = 0, b = 0, pairs = 0;

		a_busy_day(&g);
		run_live(&g, &live);
		/* The file holds records in the order in which they ended, mostly: within a second or so of arrival here. */
		run_all(&g, &file, NULL);
		while (a < live.n && b < file.n) {
			while (a < live.n && live.v[a].event != EVENT_OPEN)
				a++;
			while (b < file.n && file.v[b].event != EVENT_OPEN)
				b++;
			if (a == live.n || b == file.n)
				break;
			assert_int_equal(live.v[a].cls, file.v[b].cls);
			assert_int_equal(live.v[a].kind, file.v[b].kind);
			assert_string_equal(live.v[a].value, file.v[b].value);
			assert_true(fabs(live.v[a].start - file.v[b].start) <= 10);
			assert_true(fabs(live.v[a].detected - file.v[b].detected) <= 10);
			a++;
			b++;
			pairs++;
		}
		assert_int_equal(opens(&live, -1), opens(&file, -1));
		assert_true(pairs >= 3);
		str_done(&live.json);
		str_done(&file.json);
		gen_done(&g);
	}
}

static void records_written_at_their_end(void **state)
{
	struct gen g = { .state = 40 };
	struct heard h = { 0 };
	struct detect_stats st;
	struct detect *d = engine(&h);
	const struct heard_event *e;

	(void)state;
	gen_calm(&g, 0, 1000, 6, 15);
	gen_source(&g, 900, 60, 120, "203.0.113.9", "key-evil", 50, 400);
	qsort(g.v, g.n, sizeof(*g.v), gen_by_end);
	for (size_t i = 0; i < g.n; i++)
		detect_record(d, gen_bind(&g.v[i]));
	detect_finish(d);
	detect_stats(d, &st);
	assert_true(st.late > 100);
	assert_int_equal(st.records, g.n);
	e = first_open(&h, CLASS_FLOOD);
	assert_non_null(e);
	assert_string_equal(e->value, "203.0.113.9");
	assert_int_equal(opens(&h, -1), 1);
	detect_free(d);
	str_done(&h.json);
	gen_done(&g);
}

static void absurd_times_do_not_move_the_clock(void **state)
{
	static const double lies[] = { 86400.0 * 2, 86400.0 * 365 * 70, 4e9, -86400.0 * 365 * 50 };

	(void)state;
	for (size_t k = 0; k <= ARRAY_SIZE(lies); k++) {
		struct gen g = { .state = 50 }, h2 = { .state = 50 };
		struct heard h = { 0 };
		struct detect_stats st;
		struct detect *d = engine(&h);
		const struct heard_event *e;

		(void)h2;
		gen_calm(&g, 0, 600, 10, 10);
		gen_source(&g, 500, 60, 200, "203.0.113.9", "key-evil", 50, 10);
		qsort(g.v, g.n, sizeof(*g.v), gen_by_time);
		for (size_t i = 0; i < g.n; i++) {
			/* now and then one record lies, from the very first on where k says so */
			if (k < ARRAY_SIZE(lies) && i % 997 == (k == 1 ? 0 : 5))
				g.v[i].r.timestamp = MAX(g.v[i].r.timestamp + lies[k], 0.0);
			assert_int_equal(detect_record(d, gen_bind(&g.v[i])), 0);
		}
		detect_finish(d);
		detect_stats(d, &st);
		e = first_open(&h, CLASS_FLOOD);
		if (!e) {
			show(&h);
			fail_msg("lie %d", (int)k);
		}
		assert_true(e->detected <= 512);
		assert_true(st.watermark < T0 + 700);
		assert_true(k == ARRAY_SIZE(lies) || st.future || st.late);
		detect_free(d);
		str_done(&h.json);
		gen_done(&g);
	}
}

static void long_silences_are_crossed(void **state)
{
	static const double gaps[] = { 5000, 86400 * 3.0, 86400 * 4000.0 };

	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(gaps); k++) {
		struct gen g = { .state = 60 };
		struct heard h = { 0 };
		struct detect_stats st;

		gen_calm(&g, 0, 3000, 5, 10);
		gen_calm(&g, 3000 + gaps[k], 600, 5, 10);
		run_all(&g, &h, &st);
		assert_true(st.watermark > T0 + gaps[k] + 3500);
		/* the silence is a drop (and the half hour accepts it); what comes after is nobody's flood */
		assert_int_equal(opens(&h, CLASS_TRAFFIC_DROP), 1);
		if (opens(&h, -1) != 1)
			show(&h);
		assert_int_equal(opens(&h, -1), 1);
		str_done(&h.json);
		gen_done(&g);
	}
}

static void memory_is_bounded(void **state)
{
	struct heard h = { 0 };
	struct detect *d = engine(&h);
	struct detect_stats st;
	struct record r;
	uint64_t limit = ENTITIES_CLIENT_IP + ENTITIES_API_KEY + ENTITIES_USER + ENTITIES_MODEL + ENTITIES_SERVER;

	(void)state;
	for (int i = 0; i < 400000; i++) {
		char name[32];
		struct span s = { name, (size_t)snprintf(name, sizeof(name), "n%d", i) };

		record_init(&r);
		r.kind = KIND_INFERENCE;
		r.timestamp = T0 + i / 2000.0;
		record_set_text(&r, F_CLIENT_IP, s);
		record_set_text(&r, F_API_KEY, s);
		record_set_text(&r, F_USER, s);
		record_set_text(&r, F_MODEL_NAME, s);
		record_set_text(&r, F_SERVER, s);
		record_set_real(&r, F_DURATION_MS, 1e15); /* all of them pend for an hour */
		record_set_int(&r, F_STATUS, 200);
		assert_int_equal(detect_record(d, &r), 0);
	}
	detect_finish(d);
	detect_stats(d, &st);
	assert_true(st.entities <= limit);
	assert_true(st.evicted > 400000);
	assert_int_equal(st.records, 400000);
	detect_free(d);
	str_done(&h.json);
}

static void hostile_values(void **state)
{
	struct gen g = { .state = 70 };
	struct heard h = { 0 };
	struct detect *d = engine(&h);
	char *megabyte = malloc(1 << 20);

	(void)state;
	memset(megabyte, 'x', 1 << 20);
	gen_calm(&g, 0, 300, 5, 10);
	for (size_t i = 0; i < g.n; i++) {
		struct record r = *gen_bind(&g.v[i]);

		if (i % 50 == 7) {
			record_set_int(&r, F_PROMPT_TOKENS, INT64_C(1) << 53);
			record_set_int(&r, F_COMPLETION_TOKENS, INT64_C(1) << 53);
			record_set_real(&r, F_DURATION_MS, 1e300);
			record_set_text(&r, F_CLIENT_IP, (struct span){ megabyte, 1 << 20 });
			record_set_text(&r, F_USER, SPAN("\xff\"\\\n\x01"));
		}
		if (i % 500 == 9)
			r.weight = 1000000000;
		assert_int_equal(detect_record(d, &r), 0);
	}
	assert_int_equal(detect_finish(d), 0);
	/* whatever it said, it said in JSON that holds no raw control byte */
	for (size_t i = 0; i < h.json.n; i++)
		assert_true((unsigned char)h.json.p[i] >= 0x20 || h.json.p[i] == '\n');
	free(megabyte);
	detect_free(d);
	str_done(&h.json);
	gen_done(&g);
}

static void nothing_in_nothing_out(void **state)
{
	struct heard h = { 0 };
	struct detect *d = engine(&h);
	struct detect_stats st;

	(void)state;
	assert_int_equal(detect_advance(d, T0), 0);
	assert_int_equal(detect_finish(d), 0);
	detect_stats(d, &st);
	assert_int_equal(st.records, 0);
	assert_true(st.watermark == 0);
	assert_int_equal(h.n, 0);
	detect_free(d);
	assert_null(detect_free(NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_past_does_not_change),
		cmocka_unit_test(twice_the_same),
		cmocka_unit_test(live_and_replayed_agree),
		cmocka_unit_test(records_written_at_their_end),
		cmocka_unit_test(absurd_times_do_not_move_the_clock),
		cmocka_unit_test(long_silences_are_crossed),
		cmocka_unit_test(memory_is_bounded),
		cmocka_unit_test(hostile_values),
		cmocka_unit_test(nothing_in_nothing_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
