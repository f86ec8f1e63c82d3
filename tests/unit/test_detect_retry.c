/*
 * Retries: what clients' libraries send again after a failure is no new demand, and a flood of requests that call themselves retries is a
 * flood. x-stainless-retry-count is the client's own word, so it may only ever excuse what a failure explains.
 */
#include "test_detect_gen.h"

/* Requests of [from, to) fail with `status` at once; each is tried again, as OpenAI's and Anthropic's SDKs do (twice; 0.5 s, then twice as long, up to 8 s). */
static void fail_and_retry(struct gen *g, double from, double to, const char *key, int64_t status, int retries)
{
	for (size_t i = 0, n = g->n; i < n; i++) {
		double t = g->v[i].r.timestamp - T0;

		if (t < from || t >= to || (key && strcmp(g->v[i].key, key) != 0))
			continue;
		for (int k = 0; k <= retries; k++) {
			struct gen_record *e = &g->v[i];

			if (k) {
				struct gen_record copy = g->v[i];

				t += fmin(0.25 * (1 << k), 8) * (1 - 0.25 * gen_uniform(g)) + 0.005;
				e = gen_add(g, t, "", "", "", 0, 0);
				*e = copy;
				e->r.timestamp = T0 + t;
				record_set_int(&e->r, F_RETRY, k);
			}
			if (t >= to)
				break; /* answered again */
			record_set_int(&e->r, F_STATUS, status);
			record_set_real(&e->r, F_DURATION_MS, 5);
			e->r.has &= ~(F_BIT(F_PROMPT_TOKENS) | F_BIT(F_COMPLETION_TOKENS));
		}
	}
}

static void expect_none(const struct heard *h, enum anomaly_class cls, const char *what, int seed)
{
	if (opens(h, (int)cls) == 0)
		return;
	show(h);
	fail_msg("%s, seed %d: class %d", what, seed, (int)cls);
}

/* A minute in which everything fails and everybody tries again: an error burst, three times the requests, and nobody's attack. */
static void outage(void **state)
{
	(void)state;
	for (int retries = 2; retries <= 5; retries++)
		for (uint64_t seed = 1; seed <= 4; seed++) {
			struct gen g = { .state = seed * 31 };
			struct heard h = { 0 };

			gen_calm(&g, 0, 2000, 20, 20);
			fail_and_retry(&g, 1800, 1860, NULL, 503, retries);
			run_all(&g, &h, NULL);
			expect_none(&h, CLASS_FLOOD, "outage", (int)seed);
			expect_none(&h, CLASS_DDOS, "outage", (int)seed);
			expect_none(&h, CLASS_FLASH_CROWD, "outage", (int)seed);
			expect_none(&h, CLASS_UNKNOWN, "outage", (int)seed);
			if (!first_open(&h, CLASS_ERROR_BURST)) {
				show(&h);
				fail_msg("no error burst, seed %d", (int)seed);
			}
			str_done(&h.json);
			gen_done(&g);
		}
}

/* The biggest customer runs into his limit: 429, and his library tries again. */
static void rate_limited(void **state)
{
	(void)state;
	for (int retries = 2; retries <= 5; retries++)
		for (uint64_t seed = 1; seed <= 4; seed++) {
			struct gen g = { .state = seed * 57 };
			struct heard h = { 0 };

			gen_calm(&g, 0, 2000, 20, 12);
			fail_and_retry(&g, 1800, 1870, "key-0", 429, retries);
			run_all(&g, &h, NULL);
			expect_none(&h, CLASS_FLOOD, "429", (int)seed);
			expect_none(&h, CLASS_UNKNOWN, "429", (int)seed);
			str_done(&h.json);
			gen_done(&g);
		}
}

/* Ten times everybody's traffic by one source, which says of some or all of it that it is a retry. */
static void flood_of_retries(void **state)
{
	static const struct {
		const char *what;
		int64_t status;
		int every; /* of so many requests one is no retry; 0: none is */
	} cases[] = { { "all of them retries, answered", 200, 0 }, { "all of them retries, refused", 429, 0 }, { "an SDK in a loop, refused", 429, 3 }, { "an SDK in a loop, failing", 503, 3 } };

	(void)state;
	for (size_t c = 0; c < ARRAY_SIZE(cases); c++)
		for (uint64_t seed = 1; seed <= 4; seed++) {
			struct gen g = { .state = seed * 91 };
			struct heard h = { 0 };
			const struct heard_event *e;
			int i = 0;

			gen_calm(&g, 0, 1200, 10, 12);
			for (double t = 1000; t < 1060; t += 0.01, i++) {
				struct gen_record *r = gen_add(&g, t, "203.0.113.9", "key-evil", "evil", 50, 10);

				record_set_int(&r->r, F_STATUS, cases[c].status);
				record_set_real(&r->r, F_DURATION_MS, 5);
				if (!cases[c].every || i % cases[c].every)
					record_set_int(&r->r, F_RETRY, cases[c].every ? i % cases[c].every : 1);
			}
			run_all(&g, &h, NULL);
			e = first_open(&h, CLASS_FLOOD);
			if (!e || strcmp(e->value, "203.0.113.9") != 0 || e->detected > 1015) {
				show(&h);
				fail_msg("%s, seed %d", cases[c].what, (int)seed);
			}
			str_done(&h.json);
			gen_done(&g);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(outage), cmocka_unit_test(rate_limited), cmocka_unit_test(flood_of_retries) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
