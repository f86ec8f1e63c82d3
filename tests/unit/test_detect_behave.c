/* Scraping where cadence and lengths are all there is; botnets whose prompts probe. */
#include "test_detect_gen.h"

/* At the cadence of a machine, four answers in five `cap` tokens long, or of all lengths. */
static void machine(struct gen *g, double from, double seconds, double rate, bool capped)
{
	for (double t = from; t < from + seconds; t += (0.95 + 0.1 * gen_uniform(g)) / rate)
		gen_add(g, t, "198.51.100.7", "", "", (int64_t)(80 * exp(0.1 * gen_normal(g))), capped && gen_uniform(g) < 0.8 ? 1024 : (int64_t)(300 * exp(0.5 * gen_normal(g))));
}

/* Addresses are all that is known of who asks. */
static void keyless(struct gen *g)
{
	for (size_t i = 0; i < g->n; i++)
		*g->v[i].key = *g->v[i].user = '\0';
}

static void answers_of_one_length(void **state)
{
	for (int capped = 0; capped < 2; capped++) {
		struct gen g = { .state = 81 };
		struct heard h = { 0 };
		const struct heard_event *e;

		(void)state;
		gen_calm(&g, 0, 6000, 3, 10);
		machine(&g, 4800, 900, 0.5, capped);
		keyless(&g);
		run_all(&g, &h, NULL);
		e = first_open(&h, CLASS_SCRAPING);
		if (capped == !e)
			show(&h);
		assert_int_equal(!!e, capped);
		if (e)
			assert_string_equal(e->value, "198.51.100.7");
		str_done(&h.json);
		gen_done(&g);
	}
}

/* What the prompts were: anything, or edits of one that injects. */
static void prompts(struct gen *g, size_t from, bool inject)
{
	for (size_t i = from; i < g->n; i++) {
		uint64_t sim = inject ? UINT64_C(0x5bd1e995c2b2ae35) ^ UINT64_C(1) << gen_bits(g) % 64 : gen_bits(g);

		record_set_int(&g->v[i].r, F_PROMPT_SIM, (int64_t)sim);
		record_set_real(&g->v[i].r, F_INJECTION_SCORE, inject ? 0.7 + 0.2 * gen_uniform(g) : 0.05 * gen_uniform(g));
	}
}

static void one_who_probes(struct gen *g, double from, double seconds)
{
	size_t n = g->n;

	for (double t = from; t < from + seconds; t -= log(gen_uniform(g)) / 0.5)
		gen_add(g, t, "198.51.100.7", "", "", 90, (int64_t)(5 + 10 * gen_uniform(g)));
	prompts(g, n, true);
}

/* The prompts of a botnet probe; each of its members is not told of beside it. Whoever was there before it is. */
static void who_came_with_a_botnet(void **state)
{
	enum { ALONE, NEW, KNOWN, WAYS };

	for (int way = 0; way < WAYS; way++) {
		struct gen g = { .state = 83 };
		struct heard h = { 0 };
		const struct heard_event *e;
		size_t n;

		(void)state;
		gen_calm(&g, 0, 6000, 3, 10);
		if (way == KNOWN)
			for (double t = 1; t < 4800; t -= log(gen_uniform(&g)) / 0.1)
				gen_add(&g, t, "198.51.100.7", "", "", (int64_t)(400 * exp(0.6 * gen_normal(&g))), (int64_t)(120 * exp(0.5 * gen_normal(&g))));
		prompts(&g, 0, false);
		n = g.n;
		for (int bot = 0; way != ALONE && bot < 400; bot++) {
			char ip[40];

			snprintf(ip, sizeof(ip), "203.%d.%d.9", bot / 200, bot % 200);
			for (double t = 4800 - 25 * log(gen_uniform(&g)); t < 5400; t -= 25 * log(gen_uniform(&g)))
				gen_add(&g, t, ip, "", "", 90, (int64_t)(5 + 10 * gen_uniform(&g)));
		}
		prompts(&g, n, true);
		one_who_probes(&g, 4830, 500);
		keyless(&g);
		run_all(&g, &h, NULL);
		e = first_open(&h, CLASS_PROMPT_PROBING);
		if (!e != (way == NEW) || opens(&h, CLASS_DDOS) != (way != ALONE))
			show(&h);
		assert_int_equal(opens(&h, CLASS_DDOS), way != ALONE);
		assert_int_equal(opens(&h, CLASS_PROMPT_PROBING), way != NEW);
		if (e)
			assert_string_equal(e->value, "198.51.100.7");
		str_done(&h.json);
		gen_done(&g);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_of_one_length),
		cmocka_unit_test(who_came_with_a_botnet),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
