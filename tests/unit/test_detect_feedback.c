/* Feedback: what was called a false positive is kept quiet, and nothing else is. */
#include "test_detect_kept.h"

#define EVERY 700 /* seconds from one burst to the next */
#define BURSTS 20
#define RATE 40.0

/* Keeps the last event of the first incident of each scope, and counts opens by scope. */
struct ear {
	struct heard h;
	struct tagged first;
	bool have;
	enum anomaly_class cls;
};

static void listen(void *ctx, const struct anomaly *a)
{
	struct ear *e = ctx;

	if (a->cls == e->cls && (!e->have || !strcmp(e->first.id, a->id))) {
		tag_event(&e->first, a);
		e->have = true;
	}
	hear(&e->h, a);
}

static struct detect *start(struct ear *e)
{
	struct detect_opts o = { .detector = DETECTOR_FULL, .emit = listen, .ctx = e };
	struct detect *d = NULL;

	memset(e, 0, sizeof(*e));
	e->cls = CLASS_FLOOD;
	assert_int_equal(detect_open(&o, &d), 0);
	return d;
}

static void ear_done(struct ear *e)
{
	str_done(&e->h.json);
}

static double when(int burst)
{
	return 1200 + EVERY * burst;
}

static void burst(struct gen *g, double at, double rate, const char *ip, const char *key)
{
	gen_source(g, at, 60, rate, ip, key, 50, 10);
}

/* Calm traffic; bursts of one source whose size is factor(i) of RATE. */
static void stream(struct gen *g, double (*factor)(int i, struct gen *g))
{
	*g = (struct gen){ .state = 11 };
	gen_calm(g, 0, when(BURSTS), 4, 10);
	for (int i = 0; i < BURSTS; i++)
		burst(g, when(i), RATE * factor(i, g), "203.0.113.9", "key-batch");
	qsort(g->v, g->n, sizeof(*g->v), gen_by_time);
}

static double about_the_same(int i, struct gen *g)
{
	return i ? 0.9 + 0.2 * gen_uniform(g) : 1;
}

static size_t opens_from(const struct heard *h, double t)
{
	size_t n = 0;

	for (size_t i = 0; i < h->n; i++)
		n += h->v[i].event == EVENT_OPEN && h->v[i].detected >= t;
	return n;
}

static uint64_t suppressed(struct detect *d, const char *id)
{
	struct items *s = calloc(1, sizeof(*s));
	const struct kept_item *k;
	uint64_t n = UINT64_MAX;

	assert_non_null(s);
	assert_int_equal(detect_export(d, true, items_put, s), 0);
	k = items_find(s, DETECT_STATE_SUPPRESSED, id);
	if (k) {
		assert_int_equal(k->n, sizeof(n));
		memcpy(&n, k->blob, sizeof(n));
	}
	items_done(s);
	free(s);
	return n;
}

/* Runs until the first burst is over, labels it, and goes on to the end. */
static struct detect *run_labelled(struct gen *g, struct ear *e, bool label, size_t *at)
{
	struct detect *d = start(e);

	*at = 0;
	feed_until(d, g, at, when(1) - 100);
	assert_true(e->have);
	assert_true(!strcmp(e->first.value, "203.0.113.9") || !strcmp(e->first.value, "key-batch"));
	if (label)
		tag_give(d, &e->first, false);
	return d;
}

static void recurrences_are_kept_quiet(void **state)
{
	struct gen g;
	struct ear with, without;
	struct detect *d;
	size_t at;

	(void)state;
	stream(&g, about_the_same);
	d = run_labelled(&g, &without, false, &at);
	feed_until(d, &g, &at, 1e9);
	detect_free(d);
	d = run_labelled(&g, &with, true, &at);
	feed_until(d, &g, &at, 1e9);
	if (opens_from(&without.h, when(1)) < BURSTS / 2 || opens_from(&with.h, when(1)) > BURSTS / 10) {
		show(&with.h);
		fail_msg("%zu without, %zu with the label", opens_from(&without.h, when(1)), opens_from(&with.h, when(1)));
	}
	/* each is counted */
	assert_true(suppressed(d, with.first.id) >= BURSTS * 8 / 10 && suppressed(d, with.first.id) <= BURSTS);
	detect_free(d);
	ear_done(&with);
	ear_done(&without);
	gen_done(&g);
}

static double once_twice(int i, struct gen *g)
{
	(void)g;
	return i == 10 ? 2 : 1;
}

static void stronger_is_told(void **state)
{
	struct gen g;
	struct ear e;
	struct detect *d;
	size_t at;
	const struct heard_event *found = NULL;

	(void)state;
	stream(&g, once_twice);
	d = run_labelled(&g, &e, true, &at);
	feed_until(d, &g, &at, 1e9);
	for (size_t i = 0; i < e.h.n; i++)
		if (e.h.v[i].event == EVENT_OPEN && e.h.v[i].detected >= when(10) && e.h.v[i].detected < when(10) + 60)
			found = &e.h.v[i];
	if (!found || opens_from(&e.h, when(1)) > 2) {
		show(&e.h);
		fail_msg("twice as strong: %s; %zu opens after the label", found ? "told" : "not told", opens_from(&e.h, when(1)));
	}
	detect_free(d);
	ear_done(&e);
	gen_done(&g);
}

static void elsewhere_is_told(void **state)
{
	struct gen g;
	struct ear e;
	struct detect *d;
	size_t at;
	bool found = false;

	(void)state;
	stream(&g, about_the_same);
	burst(&g, when(5) + 300, RATE, "198.51.100.77", "key-other");
	/* and at the same time as one that is kept quiet */
	burst(&g, when(8) + 10, 2 * RATE, "198.51.100.88", "key-third");
	qsort(g.v, g.n, sizeof(*g.v), gen_by_time);
	d = run_labelled(&g, &e, true, &at);
	feed_until(d, &g, &at, 1e9);
	for (size_t i = 0; i < e.h.n; i++)
		found |= e.h.v[i].event == EVENT_OPEN && e.h.v[i].detected >= when(5) + 300 && e.h.v[i].detected < when(5) + 360;
	assert_true(found);
	found = false;
	for (size_t i = 0; i < e.h.n; i++)
		found |= e.h.v[i].event == EVENT_OPEN && e.h.v[i].detected >= when(8) && e.h.v[i].detected < when(8) + 100;
	if (!found) {
		show(&e.h);
		fail_msg("another source beside a muted one was not told");
	}
	detect_free(d);
	ear_done(&e);
	gen_done(&g);
}

static double step_by_step(int i, struct gen *g)
{
	(void)g;
	return pow(1.1, i);
}

static void small_steps_do_not_widen_a_label(void **state)
{
	struct gen g;
	struct ear e;
	struct detect *d;
	size_t at;

	(void)state;
	stream(&g, step_by_step);
	d = run_labelled(&g, &e, true, &at);
	/* 1.1^4 = 1.46 > 1.3: told by then, and each time after */
	feed_until(d, &g, &at, when(5) - 100);
	if (opens_from(&e.h, when(1)) < 1) {
		show(&e.h);
		fail_msg("1.46 times the label was not told");
	}
	feed_until(d, &g, &at, 1e9);
	if (opens_from(&e.h, when(5)) < BURSTS / 2) {
		show(&e.h);
		fail_msg("only %zu of the bursts far beyond the label were told", opens_from(&e.h, when(5)));
	}
	detect_free(d);
	ear_done(&e);
	gen_done(&g);
}

/* Each incident is called a false positive as soon as it is over. */
static void labels_reach_only_so_far(void **state)
{
	struct gen g;
	struct ear e;
	struct detect *d;
	size_t at;

	(void)state;
	stream(&g, step_by_step);
	d = run_labelled(&g, &e, true, &at);
	for (int i = 1; i < BURSTS; i++) {
		e.have = false;
		feed_until(d, &g, &at, when(i + 1) - 100);
		if (e.have)
			tag_give(d, &e.first, false);
	}
	/* 1.1^16 = 4.6 times: beyond four times the first nothing is kept quiet whatever was labelled (4 x 1.3 = 5.2 at 1.1^17.3) */
	if (opens_from(&e.h, when(18)) < 2) {
		show(&e.h);
		fail_msg("labels talked weir into six times the first");
	}
	detect_free(d);
	ear_done(&e);
	gen_done(&g);
}

static void labels_outlive_a_restart(void **state)
{
	struct gen g;
	struct ear e, after;
	struct items *s = calloc(1, sizeof(*s));
	struct tagged t;
	struct detect *d;
	uint64_t before;
	size_t at;

	(void)state;
	assert_non_null(s);
	stream(&g, about_the_same);
	d = run_labelled(&g, &e, true, &at);
	feed_until(d, &g, &at, when(6) - 100);
	before = suppressed(d, e.first.id);
	assert_true(before >= 3 && before != UINT64_MAX);
	assert_int_equal(detect_export(d, true, items_put, s), 0);
	detect_free(d);
	t = e.first;
	for (size_t i = 0; i < t.a.evidence_count; i++)
		t.a.evidence[i].feature = t.feature[i];
	d = start(&after);
	items_import(d, s);
	tag_give(d, &t, false);
	feed_until(d, &g, &at, 1e9);
	if (opens_from(&after.h, 0) > 1) {
		show(&after.h);
		fail_msg("%zu opens after the restart", opens_from(&after.h, 0));
	}
	assert_true(suppressed(d, t.id) >= before + 10);
	detect_free(d);
	items_done(s);
	free(s);
	ear_done(&e);
	ear_done(&after);
	gen_done(&g);
}

/* Of bursts that grow from nothing to much, one after the other, how many are told? */
static double rising(int i, struct gen *g)
{
	(void)g;
	return i ? 0.02 * i : 1;
}

static void true_positive_sharpens(void **state)
{
	struct gen g;
	struct ear with, without;
	struct detect *d;
	size_t at;

	(void)state;
	stream(&g, rising);
	d = run_labelled(&g, &without, false, &at);
	feed_until(d, &g, &at, 1e9);
	detect_free(d);
	d = run_labelled(&g, &with, false, &at);
	tag_give(d, &with.first, true);
	feed_until(d, &g, &at, 1e9);
	detect_free(d);
	if (opens_from(&with.h, when(1)) <= opens_from(&without.h, when(1))) {
		show(&with.h);
		fail_msg("%zu without, %zu with the label", opens_from(&without.h, when(1)), opens_from(&with.h, when(1)));
	}
	ear_done(&with);
	ear_done(&without);
	gen_done(&g);
}

static void open_one_is_closed_by_its_label(void **state)
{
	struct gen g;
	struct ear e;
	struct detect *d;
	size_t at = 0;
	bool closed = false;

	(void)state;
	stream(&g, about_the_same);
	d = start(&e);
	feed_until(d, &g, &at, when(0) + 40);
	assert_true(e.have);
	assert_int_equal(e.h.v[e.h.n - 1].event == EVENT_CLOSE, 0);
	tag_give(d, &e.first, false);
	feed_until(d, &g, &at, when(0) + 50);
	for (size_t i = 0; i < e.h.n; i++)
		closed |= e.h.v[i].event == EVENT_CLOSE;
	assert_true(closed);
	feed_until(d, &g, &at, when(1) - 10);
	assert_int_equal(opens_from(&e.h, when(0)), 1);
	detect_free(d);
	ear_done(&e);
	gen_done(&g);
}

/* One who tests models for a living, from `from` on: edits of a prompt that injects, `rate` a second. */
static void tester(struct gen *g, double from, double to, double rate)
{
	for (double t = from; t < to; t -= log(gen_uniform(g)) / rate) {
		struct gen_record *e = gen_add(g, t, "198.51.100.7", "key-test", "user-test", 90, (int64_t)(5 + 10 * gen_uniform(g)));

		record_set_int(&e->r, F_PROMPT_SIM, (int64_t)(UINT64_C(0x5bd1e995c2b2ae35) ^ UINT64_C(1) << gen_bits(g) % 64));
		record_set_real(&e->r, F_INJECTION_SCORE, 0.7 + 0.2 * gen_uniform(g));
	}
}

static size_t probing_from(const struct heard *h, double from)
{
	size_t n = 0;

	for (size_t i = 0; i < h->n; i++)
		n += h->v[i].event == EVENT_OPEN && h->v[i].cls == CLASS_PROMPT_PROBING && h->v[i].detected >= from;
	return n;
}

/* What is kept quiet for hours is no habit: it is still a label that keeps it so, and four times as much of it is told. */
static void a_muted_customer_teaches_nothing(void **state)
{
	enum { BEGINS = 5400, LABELLED = 5900, MORE = 16000, END = 17500 };
	struct gen g = { .state = 12 };
	struct ear e;
	struct detect *d;
	size_t at = 0;

	(void)state;
	gen_calm(&g, 0, END, 3, 10);
	for (size_t i = 0; i < g.n; i++) {
		record_set_int(&g.v[i].r, F_PROMPT_SIM, (int64_t)gen_bits(&g));
		record_set_real(&g.v[i].r, F_INJECTION_SCORE, 0.05 * gen_uniform(&g));
	}
	tester(&g, BEGINS, MORE, 0.3);
	tester(&g, MORE, END, 1.2);
	qsort(g.v, g.n, sizeof(*g.v), gen_by_time);
	d = start(&e);
	e.cls = CLASS_PROMPT_PROBING;
	feed_until(d, &g, &at, LABELLED);
	assert_int_equal(probing_from(&e.h, 0), 1);
	tag_give(d, &e.first, false);
	feed_until(d, &g, &at, MORE);
	assert_int_equal(probing_from(&e.h, LABELLED), 0);
	feed_until(d, &g, &at, END);
	assert_int_equal(probing_from(&e.h, MORE), 1);
	detect_free(d);
	ear_done(&e);
	gen_done(&g);
}

static void senseless_labels_are_refused(void **state)
{
	struct ear e;
	struct detect *d = start(&e);
	struct detect_label l = { .incident_id = "", .cls = CLASS_FLOOD, .scope_value = "" };

	(void)state;
	assert_int_equal(detect_label(d, &l), -EINVAL);
	l.incident_id = "a";
	l.cls = CLASS_COUNT;
	assert_int_equal(detect_label(d, &l), -EINVAL);
	l.cls = CLASS_FLOOD;
	assert_int_equal(detect_label(d, &l), 0);
	detect_free(d);
	ear_done(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(recurrences_are_kept_quiet),
		cmocka_unit_test(stronger_is_told),
		cmocka_unit_test(elsewhere_is_told),
		cmocka_unit_test(small_steps_do_not_widen_a_label),
		cmocka_unit_test(labels_reach_only_so_far),
		cmocka_unit_test(labels_outlive_a_restart),
		cmocka_unit_test(true_positive_sharpens),
		cmocka_unit_test(open_one_is_closed_by_its_label),
		cmocka_unit_test(a_muted_customer_teaches_nothing),
		cmocka_unit_test(senseless_labels_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
