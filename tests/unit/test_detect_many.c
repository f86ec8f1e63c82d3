/* Who is many: botnets and audiences, by their own addresses or through a gateway; and who only seems to be one of them. */
#include "test_detect_gen.h"

/* Everything comes by three addresses. */
static void gateway(struct gen *g)
{
	for (size_t i = 0; i < g->n; i++)
		snprintf(g->v[i].ip, sizeof(g->v[i].ip), "10.9.0.%d", 1 + (int)(gen_uniform(g) * 3));
}

/* What the prompts were: anything, or edits of a few. */
static void prompts(struct gen *g, size_t from, bool alike, double injection)
{
	for (size_t i = from; i < g->n; i++) {
		uint64_t sim = alike ? UINT64_C(0x5bd1e995c2b2ae35) ^ UINT64_C(1) << gen_bits(g) % 64 : gen_bits(g);

		record_set_int(&g->v[i].r, F_PROMPT_SIM, (int64_t)sim);
		record_set_int(&g->v[i].r, F_PROMPT_HASH, (int64_t)gen_bits(g));
		record_set_real(&g->v[i].r, F_INJECTION_SCORE, injection * gen_uniform(g));
	}
}

/* `n` who were never seen before, each every half minute; they come one after the other within `ramp` seconds. */
static void strangers(struct gen *g, double from, double seconds, double ramp, int n, bool bots)
{
	for (int i = 0; i < n; i++) {
		char ip[40], key[24];

		snprintf(ip, sizeof(ip), "%d.%d.%d.9", bots ? 203 : 198, i / 200, i % 200);
		snprintf(key, sizeof(key), "%s-%d", bots ? "bot" : "guest", i);
		for (double t = from + ramp * sqrt(gen_uniform(g)) - 30 * log(gen_uniform(g)); t < from + seconds; t -= 30 * log(gen_uniform(g)))
			gen_add(g, t, ip, key, key, bots ? 90 : (int64_t)(400 * exp(0.6 * gen_normal(g))), bots ? 8 : (int64_t)(120 * exp(0.5 * gen_normal(g))));
	}
}

/* By a gateway that customers use too: neither it nor its network is who sends. */
static void many_by_a_gateway(void **state)
{
	for (int bots = 0; bots < 2; bots++) {
		struct gen g = { .state = 91 };
		struct heard h = { 0 };
		size_t n;

		(void)state;
		gen_calm(&g, 0, 6600, 3, 10);
		prompts(&g, 0, false, 0.05);
		n = g.n;
		strangers(&g, 5400, 900, bots ? 2 : 300, 300, bots);
		prompts(&g, n, bots, 0.05);
		gateway(&g);
		run_all(&g, &h, NULL);
		if (opens(&h, CLASS_DDOS) != (size_t)bots || opens(&h, CLASS_FLASH_CROWD) != (size_t)!bots || opens(&h, CLASS_FLOOD))
			show(&h);
		assert_int_equal(opens(&h, CLASS_DDOS), bots);
		assert_int_equal(opens(&h, CLASS_FLASH_CROWD), !bots);
		assert_int_equal(opens(&h, CLASS_FLOOD), 0);
		assert_int_equal(h.v[0].kind, ENTITY_GLOBAL);
		str_done(&h.json);
		gen_done(&g);
	}
}

/* In a stream's first minutes everybody is new: what came then is not how many newcomers are usual. */
static void everybody_is_new_at_first(void **state)
{
	struct gen g = { .state = 92 };
	struct heard h = { 0 };

	(void)state;
	gen_calm(&g, 0, 12000, 2, 10);
	for (double t = 0; t < 600; t -= log(gen_uniform(&g)) / 6) {
		char ip[40];

		snprintf(ip, sizeof(ip), "10.7.%d.%d", (int)(gen_uniform(&g) * 8), (int)(gen_uniform(&g) * 200));
		gen_add(&g, t, ip, "key-app", "", (int64_t)(400 * exp(0.6 * gen_normal(&g))), (int64_t)(120 * exp(0.5 * gen_normal(&g))));
	}
	strangers(&g, 10800, 900, 300, 120, false);
	prompts(&g, 0, false, 0.05);
	run_all(&g, &h, NULL);
	if (opens(&h, CLASS_FLASH_CROWD) != 1)
		show(&h);
	assert_int_equal(opens(&h, CLASS_FLASH_CROWD), 1);
	assert_true(first_open(&h, CLASS_FLASH_CROWD)->detected > 10800);
	assert_int_equal(opens(&h, CLASS_DDOS), 0);
	str_done(&h.json);
	gen_done(&g);
}

/* Bots whose prompts are alike, and one who meanwhile tries to get round the model: that is no bot. */
static void one_who_probes_meanwhile(void **state)
{
	struct gen g = { .state = 93 };
	struct heard h = { 0 };
	size_t n;

	(void)state;
	gen_calm(&g, 0, 6000, 3, 10);
	prompts(&g, 0, false, 0.05);
	n = g.n;
	strangers(&g, 4800, 600, 2, 300, true);
	prompts(&g, n, true, 0.05);
	n = g.n;
	for (double t = 4830; t < 5330; t -= log(gen_uniform(&g)) / 0.5)
		gen_add(&g, t, "198.51.100.7", "key-p", "", 90, (int64_t)(5 + 10 * gen_uniform(&g)));
	prompts(&g, n, true, 1.4);
	for (; n < g.n; n++)
		record_set_real(&g.v[n].r, F_INJECTION_SCORE, 0.7 + 0.2 * gen_uniform(&g));
	run_all(&g, &h, NULL);
	if (opens(&h, CLASS_DDOS) != 1 || opens(&h, CLASS_PROMPT_PROBING) != 1)
		show(&h);
	assert_int_equal(opens(&h, CLASS_DDOS), 1);
	assert_int_equal(opens(&h, CLASS_PROMPT_PROBING), 1);
	assert_string_equal(first_open(&h, CLASS_PROMPT_PROBING)->value, "key-p");
	str_done(&h.json);
	gen_done(&g);
}

/* Answers of half a minute, all at the cap and of edits of one prompt. */
static void scraper(struct gen *g, double from, double seconds, double rate, double jitter)
{
	size_t n = g->n;

	for (double t = from; t < from + seconds; t += (1 - jitter + 2 * jitter * gen_uniform(g)) / rate)
		gen_add(g, t, "10.0.4.0", "key-seldom", "", 80, 2048);
	prompts(g, n, true, 0.05);
	for (; n < g->n; n++)
		record_set_text(&g->v[n].r, F_FINISH_REASON, SPAN("length"));
}

/* Requests come before their answers: who seems to flood is told again when it is seen what he is after. */
static void a_flood_turns_out(void **state)
{
	struct gen g = { .state = 94 };
	struct heard h = { 0 };

	(void)state;
	gen_calm(&g, 0, 6600, 2.5, 10);
	prompts(&g, 0, false, 0.05);
	scraper(&g, 5400, 900, 2, 0.05);
	run_all(&g, &h, NULL);
	if (opens(&h, -1) != 1 || h.v[0].cls != CLASS_FLOOD || h.v[h.n - 1].cls != CLASS_SCRAPING)
		show(&h);
	assert_int_equal(opens(&h, -1), 1);
	assert_int_equal(h.v[0].cls, CLASS_FLOOD);
	assert_true(h.v[0].detected < 5420);
	assert_int_equal(h.v[h.n - 1].cls, CLASS_SCRAPING);
	assert_string_equal(h.v[h.n - 1].value, h.v[0].value);
	assert_string_equal(h.v[h.n - 1].id, h.v[0].id);
	str_done(&h.json);
	gen_done(&g);
}

/* There from the beginning, and hardly seen for hours: what it does then is not what it has always done. A pause now and then does not hide the machine. */
static void seldom_and_then_a_machine(void **state)
{
	struct gen g = { .state = 95 };
	struct heard h = { 0 };
	const struct heard_event *e;

	(void)state;
	gen_calm(&g, 0, 14400, 1, 10);
	for (double t = 30; t < 12600; t -= 1200 * log(gen_uniform(&g)))
		gen_add(&g, t, "10.0.4.0", "key-seldom", "", (int64_t)(400 * exp(0.6 * gen_normal(&g))), (int64_t)(120 * exp(0.5 * gen_normal(&g))));
	prompts(&g, 0, false, 0.05);
	for (int i = 0; i < 10; i++)
		scraper(&g, 12600 + i * 150, 100, 0.1, 0.1);
	run_all(&g, &h, NULL);
	e = first_open(&h, CLASS_SCRAPING);
	if (!e)
		show(&h);
	assert_non_null(e);
	assert_string_equal(e->value, "key-seldom");
	assert_true(e->detected > 12600 && e->detected < 13200);
	str_done(&h.json);
	gen_done(&g);
}

/* An audience that stays for more than an hour, and one who is too slow to be looked at every five minutes: each is one incident. */
static void what_goes_on_is_told_once(void **state)
{
	struct gen g = { .state = 96 };
	struct heard h = { 0 };
	size_t n;

	(void)state;
	gen_calm(&g, 0, 12000, 1, 10);
	prompts(&g, 0, false, 0.05);
	n = g.n;
	strangers(&g, 5400, 4800, 4800, 600, false);
	prompts(&g, n, false, 0.05);
	scraper(&g, 5400, 1700, 0.035, 0.1);
	run_all(&g, &h, NULL);
	if (opens(&h, CLASS_FLASH_CROWD) != 1 || opens(&h, CLASS_SCRAPING) != 1)
		show(&h);
	assert_int_equal(opens(&h, CLASS_FLASH_CROWD), 1);
	assert_int_equal(opens(&h, CLASS_SCRAPING), 1);
	str_done(&h.json);
	gen_done(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(many_by_a_gateway),
		cmocka_unit_test(everybody_is_new_at_first),
		cmocka_unit_test(one_who_probes_meanwhile),
		cmocka_unit_test(a_flood_turns_out),
		cmocka_unit_test(seldom_and_then_a_machine),
		cmocka_unit_test(what_goes_on_is_told_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
