/* What the engine has learnt, out and in again: nothing is new after a restart, and a damaged item harms nobody. */
#include "detect/state_layout.h"
#include "test_detect_kept.h"

#include "detect/tuning.h"

static void traffic(struct gen *g, double seconds)
{
	*g = (struct gen){ .state = 3 };
	gen_calm(g, 0, seconds, 6, 12);
}

static void sort(struct gen *g)
{
	qsort(g->v, g->n, sizeof(*g->v), gen_by_time);
}

static struct items *items_new(void)
{
	struct items *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	return s;
}

static int refuse_after(void *ctx, const struct detect_state_item *it)
{
	int *left = ctx;

	(void)it;
	return (*left)-- > 0 ? 0 : 1;
}

/* Only what changed is told again, and what was not taken stays changed. */
static void changes_only(void **state)
{
	struct gen g;
	struct heard h = { 0 };
	struct items *all = items_new(), *later = items_new(), *rest = items_new();
	struct detect *d = engine(&h);
	size_t at = 0;
	int left = 15;

	(void)state;
	traffic(&g, 900);
	gen_add(&g, 1000, "10.0.1.0", "key-1", "user-1", 100, 10);
	gen_add(&g, 1003, "10.0.1.0", "key-1", "user-1", 100, 10);
	sort(&g);
	assert_int_equal(detect_export(d, true, items_put, all), 0);
	assert_int_equal(all->n, 0); /* nothing yet */
	feed_until(d, &g, &at, 950);
	assert_int_equal(detect_export(d, true, items_put, all), 0);
	assert_non_null(items_find(all, "entity", "api_key/key-1"));
	assert_non_null(items_find(all, "entity", "global/"));
	assert_non_null(items_find(all, "latency", "m-large"));
	assert_int_equal(detect_export(d, false, items_put, later), 0);
	assert_int_equal(items_count(later, "entity"), 0);
	feed_until(d, &g, &at, 1e9);
	assert_int_equal(detect_finish(d), 0);
	items_done(later);
	assert_int_equal(detect_export(d, false, items_put, later), 0);
	assert_non_null(items_find(later, "entity", "api_key/key-1"));
	assert_true(items_count(later, "entity") < items_count(all, "entity") / 2);
	/* one that stops in the middle goes on there */
	assert_int_equal(detect_export(d, true, refuse_after, &left), 1);
	assert_int_equal(detect_export(d, false, items_put, rest), 0);
	assert_true(items_count(rest, "entity") + 15 >= items_count(all, "entity") && items_count(rest, "entity") < items_count(all, "entity"));
	detect_free(d);
	items_done(all);
	items_done(later);
	items_done(rest);
	free(all);
	free(later);
	free(rest);
	str_done(&h.json);
	gen_done(&g);
}

/* Stopped and gone on with, hours later: nothing is new, missed or learning; and an attack is seen at once. */
static void a_restart_raises_nothing(void **state)
{
	static const double gaps[] = { 0, 20, 7200, 3 * 86400 };

	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(gaps); k++) {
		struct gen g;
		struct heard before = { 0 }, after = { 0 };
		struct items *s = items_new();
		struct detect *d = engine(&before);
		size_t at = 0;

		traffic(&g, 7200);
		for (size_t i = 0; i < g.n; i++)
			if (g.v[i].r.timestamp >= T0 + 3600)
				g.v[i].r.timestamp += gaps[k];
		gen_source(&g, 6000 + gaps[k], 40, 60, "203.0.113.9", "key-evil", 50, 10);
		sort(&g);
		feed_until(d, &g, &at, 3600);
		assert_int_equal(detect_export(d, true, items_put, s), 0);
		detect_free(d); /* kill -9: nothing more is said */
		d = engine(&after);
		items_import(d, s);
		feed_until(d, &g, &at, 1e9);
		assert_int_equal(detect_finish(d), 0);
		/* Time per token is an exact function of the length here: what little its regression learns of the load is chance. */
		if (opens(&after, -1) > 1 + opens(&after, CLASS_LATENCY_REGRESSION) || opens(&after, CLASS_LATENCY_REGRESSION) > 1 || !first_open(&after, CLASS_FLOOD) || first_open(&after, CLASS_FLOOD)->detected > 6010 + gaps[k]) {
			show(&after);
			fail_msg("%zu opens after %g s away", opens(&after, -1), gaps[k]);
		}
		detect_free(d);
		items_done(s);
		free(s);
		str_done(&before.json);
		str_done(&after.json);
		gen_done(&g);
	}
}

/* What goes in comes out: the same baselines. */
static void the_same_again(void **state)
{
	struct gen g;
	struct heard h = { 0 };
	struct items *a = items_new(), *b = items_new();
	struct detect *d = engine(&h);
	size_t at = 0, same = 0, entities = 0;

	(void)state;
	traffic(&g, 2400);
	/* one record of nobody known, so that the clock begins */
	gen_add(&g, 2500, "192.0.2.1", "", "", 1, 1);
	sort(&g);
	feed_until(d, &g, &at, 2450);
	assert_int_equal(detect_finish(d), 0);
	assert_int_equal(detect_export(d, true, items_put, a), 0);
	detect_free(d);
	d = engine(&h);
	items_import(d, a);
	feed_until(d, &g, &at, 1e9);
	assert_int_equal(detect_export(d, true, items_put, b), 0);
	for (size_t i = 0; i < a->n; i++) {
		const struct kept_item *x = &a->v[i], *y = items_find(b, x->kind, x->name);

		assert_non_null(y);
		if (strcmp(x->kind, "entity"))
			continue;
		entities++;
		same += x->n == y->n && !memcmp(x->blob, y->blob, x->n);
	}
	assert_true(entities > 30);
	/* of who sleeps every byte; of who is awake all but the place in his window */
	if (same < entities / 2)
		fail_msg("%zu of %zu are the same", same, entities);
	detect_free(d);
	items_done(a);
	items_done(b);
	free(a);
	free(b);
	str_done(&h.json);
	gen_done(&g);
}

static void open_incidents_go_on(void **state)
{
	struct gen g;
	struct heard before = { 0 }, after = { 0 };
	struct items *s = items_new();
	struct detect *d = engine(&before);
	size_t at = 0;

	(void)state;
	traffic(&g, 3600);
	gen_source(&g, 1800, 300, 60, "203.0.113.9", "key-evil", 50, 10);
	sort(&g);
	feed_until(d, &g, &at, 1900);
	assert_int_equal(opens(&before, -1), 1);
	assert_int_equal(detect_export(d, true, items_put, s), 0);
	assert_int_equal(items_count(s, DETECT_STATE_INCIDENT), 1);
	detect_free(d);
	d = engine(&after);
	items_import(d, s);
	feed_until(d, &g, &at, 1e9);
	if (opens(&after, -1) || !after.n || after.v[after.n - 1].event != EVENT_CLOSE || strcmp(after.v[after.n - 1].id, before.v[0].id) || after.v[after.n - 1].detected > 2100 + LEAVE_VOLUME_S + STEP_S) {
		show(&after);
		fail_msg("not gone on with");
	}
	/* and once closed it stays closed: the last seconds of it are no news */
	items_done(s);
	assert_int_equal(detect_export(d, true, items_put, s), 0);
	assert_int_equal(items_count(s, DETECT_STATE_INCIDENT), 0);
	detect_free(d);
	items_done(s);
	free(s);
	str_done(&before.json);
	str_done(&after.json);
	gen_done(&g);
}

/* Every blob cut, lengthened, and with each byte turned: refused or taken, and the engine goes on. */
static void hostile_items(void **state)
{
	struct gen g;
	struct heard h = { 0 };
	struct items *s = items_new();
	struct detect *d = engine(&h);
	size_t at = 0, refused = 0, taken = 0;
	struct gen more;

	(void)state;
	traffic(&g, 1500);
	gen_source(&g, 1300, 200, 60, "203.0.113.9", "key-evil", 50, 10);
	sort(&g);
	feed_until(d, &g, &at, 1e9);
	assert_int_equal(detect_export(d, true, items_put, s), 0);
	detect_free(d);
	for (unsigned int turn = 0; turn < 40; turn++) {
		struct gen bits = { .state = turn + 100 };

		d = engine(&h);
		for (size_t i = 0; i < s->n; i++) {
			struct kept_item k = s->v[i];
			int r;

			k.blob = malloc(k.n + 1);
			assert_non_null(k.blob);
			memcpy(k.blob, s->v[i].blob, k.n);
			((uint8_t *)k.blob)[k.n] = 0;
			switch (gen_bits(&bits) % 4) {
			case 0:
				k.n = gen_bits(&bits) % (k.n + 1);
				break;
			case 1:
				k.n++;
				break;
			default:
				for (int times = 0; times < 4; times++)
					((uint8_t *)k.blob)[gen_bits(&bits) % k.n] ^= (uint8_t)(1u << gen_bits(&bits) % 8);
			}
			/* a copy of its exact size, so that reading beyond it shows */
			k.blob = realloc(k.blob, k.n ? k.n : 1);
			r = item_import(d, &k);
			assert_true(r == 0 || r == -EINVAL || r == -ENOMEM);
			refused += r < 0;
			taken += r == 0;
			free(k.blob);
		}
		more = (struct gen){ .state = turn };
		gen_calm(&more, 2000, 400, 6, 12);
		sort(&more);
		at = 0;
		feed_until(d, &more, &at, 1e9);
		assert_int_equal(detect_finish(d), 0);
		detect_free(d);
		gen_done(&more);
	}
	assert_true(refused > 100 && taken > 100);
	items_done(s);
	free(s);
	str_done(&h.json);
	gen_done(&g);
}

/* What earlier versions kept is taken up; what they did not know begins anew. */
static void older_layouts(void **state)
{
	(void)state;
	for (uint16_t version = 2; version <= 5; version++) {
		static uint8_t bytes[65536];
		struct blob w = { .write = true, .version = version, .to = bytes, .cap = sizeof(bytes) }, r;
		struct entity from = { .kind = ENTITY_API_KEY, .n = 900 }, into = { .kind = ENTITY_API_KEY };
		struct drop_state *s;

		from.full = calloc(1, sizeof(*from.full));
		assert_non_null(from.full);
		access_init(&from.full->access);
		growth_init(&from.full->growth);
		s = &from.full->drop;
		s->n = 700;
		s->last = 70;
		s->level = 12.5F;
		s->dip[2] = 3;
		s->climb[1] = 8;
		s->season = malloc(sizeof(*s->season));
		assert_non_null(s->season);
		season_init(s->season);
		s->season->day[7] = 4.25F;
		s->season->at = 1767225600;
		layout_head(&w, WHAT_ENTITY, 5000);
		layout_entity(&w, &from, 5000);
		assert_false(w.bad);
		r = (struct blob){ .from = bytes, .cap = w.n };
		assert_int_equal(layout_head(&r, WHAT_ENTITY, 0), 5000);
		layout_entity(&r, &into, 5000);
		assert_false(r.bad);
		assert_int_equal(r.n, w.n);
		assert_int_equal(into.full->drop.n, 700);
		assert_true(into.full->drop.level == 12.5F && into.full->drop.dip[2] == 3);
		assert_true(into.full->drop.climb[1] == (version >= 3 ? 8 : 0));
		assert_int_equal(!!into.full->drop.season, version >= 5);
		if (version >= 5)
			assert_memory_equal(into.full->drop.season, s->season, sizeof(*s->season));
		full_free(from.full);
		full_free(into.full);
	}
	for (uint16_t version = 0; version < 9; version++) {
		uint8_t head[9] = { 0x77, 0x53, (uint8_t)version, 0, WHAT_ENTITY };
		struct blob r = { .from = head, .cap = sizeof(head) };

		layout_head(&r, WHAT_ENTITY, 0);
		assert_int_equal(r.bad, version < 2 || version > 5);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(changes_only), cmocka_unit_test(a_restart_raises_nothing), cmocka_unit_test(the_same_again), cmocka_unit_test(open_incidents_go_on),
		cmocka_unit_test(hostile_items), cmocka_unit_test(older_layouts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
