/* Who uses a key, and from where: a key that was handed on, a key of many, an audience, and whoever guesses keys. */
#include "test_detect_gen.h"

/* One key, a request every `every` seconds, each from a network of its own choice among [low, low + n). */
static void roam(struct gen *g, double from, double to, double every, const char *key, unsigned int low, unsigned int n)
{
	for (double t = from; t < to; t += every * (0.5 + gen_uniform(g))) {
		unsigned int net = low + (unsigned int)(gen_uniform(g) * n);
		char ip[40];

		snprintf(ip, sizeof(ip), "77.%u.%u.9", net / 200, net % 200);
		gen_add(g, t, ip, key, "", 400, 120);
	}
}

static void a_key_is_handed_on(void **state)
{
	struct gen g = { .state = 81 };
	struct heard h = { 0 };
	const struct heard_event *e;

	(void)state;
	gen_calm(&g, 0, 7200, 3, 8);
	roam(&g, 5400, 6600, 6, "key-3", 0, 30);
	run_all(&g, &h, NULL);
	e = first_open(&h, CLASS_KEY_SHARING);
	if (!e || opens(&h, CLASS_KEY_SHARING) != 1)
		show(&h);
	assert_non_null(e);
	assert_int_equal(opens(&h, CLASS_KEY_SHARING), 1);
	assert_int_equal(e->kind, ENTITY_API_KEY);
	assert_string_equal(e->value, "key-3");
	assert_true(e->detected > 5400 && e->detected < 5700);
	str_done(&h.json);
	gen_done(&g);
}

/* It is used from anywhere, and twice as much in the evening; on its first day nobody knows yet. */
static void a_key_of_many_is_not(void **state)
{
	struct gen g = { .state = 82 };
	struct heard h = { 0 };

	(void)state;
	gen_calm(&g, 0, 4 * 3600, 2, 8);
	roam(&g, 0, 3 * 3600, 6, "key-app", 0, 12000);
	roam(&g, 3 * 3600, 4 * 3600, 3, "key-app", 0, 12000);
	run_all(&g, &h, NULL);
	if (opens(&h, CLASS_KEY_SHARING))
		show(&h);
	assert_int_equal(opens(&h, CLASS_KEY_SHARING), 0);
	str_done(&h.json);
	gen_done(&g);
}

/* A few thousand people find a product within minutes: its key is used from everywhere, by whom it is for. */
static void an_audience_is_not(void **state)
{
	struct gen g = { .state = 83 };
	struct heard h = { 0 };

	(void)state;
	gen_calm(&g, 0, 7200, 3, 8);
	for (double t = 5400; t < 7200; t += 1 / fmin(0.1 + (t - 5400) / 40, 6)) {
		unsigned int who = (unsigned int)(gen_uniform(&g) * 3000);
		char ip[40];

		snprintf(ip, sizeof(ip), "78.%u.%u.9", who / 200, who % 200);
		gen_add(&g, t, ip, "key-3", "", (int64_t)(400 * exp(0.6 * gen_normal(&g))), (int64_t)(120 * exp(0.5 * gen_normal(&g))));
	}
	run_all(&g, &h, NULL);
	if (opens(&h, CLASS_KEY_SHARING))
		show(&h);
	assert_int_equal(opens(&h, CLASS_KEY_SHARING), 0);
	str_done(&h.json);
	gen_done(&g);
}

static void refused(struct gen *g, double t, const char *ip, const char *key)
{
	struct gen_record *r = gen_add(g, t, ip, key, "", 0, 0);

	record_set_int(&r->r, F_STATUS, 401);
	r->r.has &= ~(F_BIT(F_PROMPT_TOKENS) | F_BIT(F_COMPLETION_TOKENS));
}

/* A scanner asks for two dozen pages and is gone; who goes on, or tries keys, is told of, and the scanners before him are no habit. */
static void scanners_are_not(void **state)
{
	for (int guesses = 0; guesses < 3; guesses++) {
		struct gen g = { .state = 85 };
		struct heard h = { 0 };
		const struct heard_event *e;

		(void)state;
		gen_calm(&g, 0, 9000, 3, 8);
		for (int k = 0; k < 5; k++)
			for (int i = 0; i < 24; i++)
				refused(&g, 2400 + 900 * k + 1.5 * i, k % 2 ? "79.1.2.3" : "79.1.2.4", "");
		for (int i = 0; i < 24 && guesses == 1; i++) {
			char key[24];

			snprintf(key, sizeof(key), "guess-%d", i);
			refused(&g, 8000 + 1.5 * i, "198.51.100.7", key);
		}
		for (int i = 0; i < 80 && guesses == 2; i++)
			refused(&g, 8000 + 4 * i, "198.51.100.7", "");
		run_all(&g, &h, NULL);
		e = first_open(&h, CLASS_CREDENTIAL_ABUSE);
		if (opens(&h, CLASS_CREDENTIAL_ABUSE) != (size_t)!!guesses)
			show(&h);
		assert_int_equal(opens(&h, CLASS_CREDENTIAL_ABUSE), !!guesses);
		if (e)
			assert_string_equal(e->value, "198.51.100.7");
		str_done(&h.json);
		gen_done(&g);
	}
}

/* Whose address changes is known by his network. */
static void a_guesser_and_his_network(void **state)
{
	struct gen g = { .state = 84 };
	struct heard h = { 0 };
	const struct heard_event *e;
	bool address = false, network = false;

	(void)state;
	gen_calm(&g, 0, 5400, 3, 8);
	for (double t = 4500; t < 4800; t += 2) {
		char key[24];

		snprintf(key, sizeof(key), "guess-%.0f", t);
		refused(&g, t, "79.1.2.3", key);
	}
	run_all(&g, &h, NULL);
	e = first_open(&h, CLASS_CREDENTIAL_ABUSE);
	if (!e)
		show(&h);
	assert_non_null(e);
	assert_string_equal(e->value, "79.1.2.3");
	for (size_t k = 0; k < e->top_count; k++) {
		address |= e->top[k].kind == ENTITY_CLIENT_IP && !strcmp(e->top[k].value, "79.1.2.3");
		network |= e->top[k].kind == ENTITY_NETWORK && !strcmp(e->top[k].value, "79.1.2.0/24");
	}
	assert_true(address && network);
	str_done(&h.json);
	gen_done(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_key_is_handed_on),
		cmocka_unit_test(a_key_of_many_is_not),
		cmocka_unit_test(an_audience_is_not),
		cmocka_unit_test(scanners_are_not),
		cmocka_unit_test(a_guesser_and_his_network),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
