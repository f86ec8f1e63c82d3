/* A nightly batch rings twice and is then an info; more of it, another hour, or somebody else, rings as ever. */
#include "test_detect_gen.h"

#include "detect/blob.h"
#include "detect/routine.h"

#define DAY 86400.0
#define NIGHT (2 * 3600.0) /* of the day */

static void days(void **state)
{
	struct routines *r = NULL;
	int64_t t = 1767225600 + 2 * 3600;

	(void)state;
	assert_int_equal(routine_open(&r), 0);
	assert_int_equal(routine_days(r, 7, t, 100, 1000), 0);
	routine_note(r, 7, t, 100, 1000);
	assert_int_equal(routine_days(r, 7, t + 60, 1, 1), 0); /* the same day */
	assert_int_equal(routine_days(r, 7, t + 86400, 1, 1), 0); /* one is none */
	routine_note(r, 7, t + 86400 + 1800, 120, 900);
	assert_int_equal(routine_days(r, 7, t + 2 * 86400, 100, 1000), 2);
	assert_int_equal(routine_days(r, 7, t + 4 * 86400, 100, 1000), 2); /* Monday */
	assert_int_equal(routine_days(r, 7, t + 2 * 86400, 200, 1000), 0);
	assert_int_equal(routine_days(r, 7, t + 2 * 86400, 100, 1600), 0);
	assert_int_equal(routine_days(r, 7, t + 2 * 86400 + 2 * 3600, 100, 1000), 0);
	assert_int_equal(routine_days(r, 7, t + 9 * 86400, 100, 1000), 0);
	assert_int_equal(routine_days(r, 8, t + 2 * 86400, 100, 1000), 0);
	for (uint64_t who = 100; who < 1100; who++) /* more than it has room for: the oldest go */
		routine_note(r, who, t + 3 * 86400, 1, 1);
	assert_int_equal(routine_days(r, 7, t + 2 * 86400, 100, 1000), 0);
	free(r);
}

static void kept(void **state)
{
	static unsigned char bytes[65536];
	struct routines *r = NULL, *again = NULL;
	struct blob to = { .write = true, .to = bytes, .cap = sizeof(bytes) };
	int64_t t = 1767225600;

	(void)state;
	assert_int_equal(routine_open(&r), 0);
	assert_int_equal(routine_open(&again), 0);
	for (int i = 0; i < 3; i++)
		routine_note(r, 7, t + i * 86400, 100, 1000);
	routine_keep(r, &to);
	assert_false(to.bad);
	for (size_t cut = 0; cut <= to.n; cut++) { /* torn anywhere: nothing is taken */
		struct blob from = { .from = bytes, .cap = cut };

		routine_keep(again, &from);
		assert_int_equal(from.bad, cut != to.n);
		assert_int_equal(routine_days(again, 7, t + 3 * 86400, 100, 1000), cut == to.n ? 3 : 0);
	}
	free(r);
	free(again);
}

/* Loud openings and updates about a key or its address; ret_info: those told as an info. */
static size_t loud(const struct heard *h, const char *key, const char *ip, double from, double to, size_t *ret_info)
{
	size_t n = 0;

	*ret_info = 0;
	for (size_t i = 0; i < h->n; i++) {
		const struct heard_event *e = &h->v[i];

		if (e->event == EVENT_CLOSE || e->start < from || e->start >= to || (strcmp(e->value, key) && strcmp(e->value, ip)) || (e->cls != CLASS_FLOOD && e->cls != CLASS_COST_SPIKE))
			continue;
		n += e->severity > SEVERITY_INFO;
		*ret_info += e->severity == SEVERITY_INFO;
	}
	return n;
}

static void nightly_batch(void **state)
{
	struct gen g = { .state = 31 };
	struct heard h = { 0 };
	size_t info;

	(void)state;
	gen_calm(&g, 0, 6 * DAY, 0.3, 6);
	for (int day = 0; day < 6; day++) {
		gen_source(&g, day * DAY, 0.9 * DAY, 0.01, "192.0.2.7", "nightly", 300, 100);
		gen_source(&g, day * DAY + NIGHT + 240 * (day % 3), 1500, day == 5 ? 8 : 1.5, "192.0.2.7", "nightly", 300, 100);
	}
	gen_source(&g, 4 * DAY + 9 * 3600, 1500, 1.5, "192.0.2.7", "nightly", 300, 100); /* by day */
	gen_source(&g, 4 * DAY, 4 * DAY / 5, 0.01, "192.0.2.8", "other", 300, 100);
	gen_source(&g, 4 * DAY + 3 * 3600 + 1800, 1500, 1.5, "192.0.2.8", "other", 300, 100); /* somebody else, after it */
	run_all(&g, &h, NULL);
	for (int day = 0; day < 2; day++) {
		assert_true(loud(&h, "nightly", "192.0.2.7", day * DAY, day * DAY + 4 * 3600, &info) > 0);
		assert_int_equal(info, 0);
	}
	for (int day = 2; day < 5; day++) {
		assert_int_equal(loud(&h, "nightly", "192.0.2.7", day * DAY, day * DAY + 4 * 3600, &info), 0);
		assert_true(info > 0);
	}
	assert_true(loud(&h, "nightly", "192.0.2.7", 4 * DAY + 8 * 3600, 5 * DAY, &info) > 0);
	assert_true(loud(&h, "other", "192.0.2.8", 4 * DAY, 5 * DAY, &info) > 0);
	assert_true(loud(&h, "nightly", "192.0.2.7", 5 * DAY, 6 * DAY, &info) > 0);
	str_done(&h.json);
	gen_done(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(days),
		cmocka_unit_test(kept),
		cmocka_unit_test(nightly_batch),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
