/* What tokens cost: the table, the file it comes from, and what incidents say of it. */
#include "test_detect_gen.h"

#include "cmd/price_file.h"
#include "detect/price.h"

static void a_price_is_two_numbers_or_three(void **state)
{
	static const char *const bad[] = { "", "1", "1 2 3 4", "1,2", "1 x", "x 1", "-1 2", "1 nan", "1 2 inf", "1 1e7", "1 2 3x", "1 2;" };
	struct price p;

	(void)state;
	assert_int_equal(price_parse("0.5 1.5", &p), 0);
	assert_true(fabs(p.prompt - 0.5) < 1e-12 && fabs(p.completion - 1.5) < 1e-12 && fabs(p.cached - 0.5) < 1e-12);
	assert_int_equal(price_parse(" 3\t15  0.3 ", &p), 0);
	assert_true(fabs(p.prompt - 3) < 1e-12 && fabs(p.completion - 15) < 1e-12 && fabs(p.cached - 0.3) < 1e-12);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_true(price_parse(bad[i], &p) < 0);
}

static double prompt_of(const struct prices *p, const char *model)
{
	const struct price *q = prices_find(p, span_of(model));

	return q ? q->prompt : -1;
}

static void the_whole_name_goes_before_the_longest_beginning(void **state)
{
	static const struct {
		const char *model;
		double prompt;
	} row[] = { { "*", 1 }, { "llama-*", 2 }, { "llama-3*", 3 }, { "llama-3", 4 }, { "llama-3-70b", 5 } };
	struct prices *p = NULL;

	(void)state;
	assert_null(prices_find(NULL, SPAN("llama-3")));
	for (size_t i = 0; i < ARRAY_SIZE(row); i++)
		assert_int_equal(prices_add(&p, span_of(row[i].model), &(struct price){ .prompt = row[i].prompt }), 0);
	assert_int_equal(prices_add(&p, SPAN("llama-3*"), &(struct price){ 0 }), -EEXIST);
	assert_int_equal(prices_add(&p, SPAN(""), &(struct price){ 0 }), -EINVAL);
	assert_int_equal((int)prompt_of(p, "llama-3"), 4);
	assert_int_equal((int)prompt_of(p, "llama-3-70b"), 5);
	assert_int_equal((int)prompt_of(p, "llama-3-8b"), 3);
	assert_int_equal((int)prompt_of(p, "llama-2"), 2);
	assert_int_equal((int)prompt_of(p, "qwen"), 1);
	assert_int_equal((int)prompt_of(p, ""), 1);
	for (int i = 0; i < PRICES_MAX + 5; i++) {
		char name[16];

		snprintf(name, sizeof(name), "m%d", i);
		assert_int_equal(prices_add(&p, span_of(name), &(struct price){ 0 }), i < PRICES_MAX - (int)ARRAY_SIZE(row) ? 0 : -E2BIG);
	}
	assert_null(prices_free(p));
	assert_null(prices_free(NULL));
}

static int read_text(const char *text, struct prices **ret)
{
	char path[] = "/tmp/weir-price.XXXXXX";
	int fd = mkstemp(path), r;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
	*ret = NULL;
	r = price_file_read(path, ret);
	unlink(path);
	return r;
}

static void the_section_is_read(void **state)
{
	static const char *const bad[] = { "[price]\nm = 1\n", "[price]\nm = one two\n", "[price]\nm = 1 2\nm = 1 2\n", "[price]\nm 1 2\n", "[price]\nm = 1 2 3 4\n" };
	struct prices *p;

	(void)state;
	assert_int_equal(read_text("[weir]\nport = 8000\n[price]\nQwen/Qwen2.5-7B = 0.2 0.6\nllama3:8b = 2 4 0.1 ; per million\n* = 7 7\n[weir]\nauto = yes\n", &p), 0);
	assert_int_equal((int)(10 * prompt_of(p, "Qwen/Qwen2.5-7B")), 2);
	assert_int_equal((int)prompt_of(p, "llama3:8b"), 2);
	assert_int_equal((int)prompt_of(p, "llama3"), 7);
	prices_free(p);
	assert_int_equal(read_text("port = 8000\n", &p), 0);
	assert_null(p);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(read_text(bad[i], &p), -EINVAL);
	assert_int_equal(price_file_read("/nowhere/at/all", &p), -ENOENT);
}

/* The cost_per_h of the first event of this kind; < 0: null. -2: there is none. */
static double cost_of(const struct heard *h, enum anomaly_class cls, const char *event)
{
	char begins[128];

	for (const char *line = h->json.p; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
		const char *end = strchr(line, '\n'), *at;

		snprintf(begins, sizeof(begins), "{\"v\":1,\"event\":\"%s\"", event);
		if (strncmp(line, begins, strlen(begins)))
			continue;
		snprintf(begins, sizeof(begins), "\"class\":\"%s\"", anomaly_class_name(cls));
		at = strstr(line, begins);
		if (!at || at > end)
			continue;
		at = strstr(line, "\"cost_per_h\":") + strlen("\"cost_per_h\":");
		return strncmp(at, "null", 4) ? strtod(at, NULL) : -1;
	}
	return -2;
}

static void run_priced(struct gen *g, const struct prices *p, struct heard *h)
{
	struct detect_opts o = { .detector = DETECTOR_FULL, .prices = p, .emit = hear, .ctx = h };
	struct detect *d = NULL;

	assert_int_equal(detect_open(&o, &d), 0);
	for (size_t i = 0; i < g->n; i++)
		assert_int_equal(detect_record(d, gen_bind(&g->v[i])), 0);
	assert_int_equal(detect_finish(d), 0);
	detect_free(d);
}

static void an_incident_about_tokens_says_what_it_costs(void **state)
{
	struct gen g = { .state = 44 };
	struct heard free = { 0 }, priced = { 0 }, half = { 0 };
	struct prices *p = NULL, *q = NULL;
	double open, closed;

	(void)state;
	gen_calm(&g, 0, 5400, 3, 6);
	/* One customer's requests become thirty times as large for ten minutes, and later a third of all answers fails. */
	for (double t = 3600; t < 4200; t += -2 * log(gen_uniform(&g)))
		gen_add(&g, t, "10.0.2.1", "key-2", "user-2", (int64_t)(20000 * exp(0.3 * gen_normal(&g) - 0.045)), (int64_t)(4000 * exp(0.3 * gen_normal(&g) - 0.045)));
	for (size_t i = 0; i < g.n; i++)
		if (g.v[i].r.timestamp > T0 + 4800 && g.v[i].r.timestamp < T0 + 4920 && i % 3 == 0)
			record_set_int(&g.v[i].r, F_STATUS, 503);
	qsort(g.v, g.n, sizeof(*g.v), gen_by_time);
	assert_int_equal(prices_add(&p, SPAN("m-*"), &(struct price){ 10, 40, 10 }), 0);
	assert_int_equal(prices_add(&q, SPAN("another"), &(struct price){ 10, 40, 10 }), 0);
	run_priced(&g, NULL, &free);
	run_priced(&g, p, &priced);
	run_priced(&g, q, &half);
	assert_true(cost_of(&free, CLASS_COST_SPIKE, "open") > -1.5 && cost_of(&free, CLASS_COST_SPIKE, "open") < 0);
	assert_true(cost_of(&half, CLASS_COST_SPIKE, "open") < 0);
	/* 1800 requests an hour of 20000 and 4000 tokens are 360 + 288; when it opens, not all of them have come. */
	open = cost_of(&priced, CLASS_COST_SPIKE, "open");
	closed = cost_of(&priced, CLASS_COST_SPIKE, "close");
	assert_true(open > 100 && open < 900);
	assert_true(closed >= open && closed > 400 && closed < 900);
	assert_non_null(strstr(priced.json.p, "an hour above the expected"));
	/* Errors cost nothing, and money changes no verdict. */
	assert_true(cost_of(&priced, CLASS_ERROR_BURST, "open") > -1.5 && cost_of(&priced, CLASS_ERROR_BURST, "open") < 0);
	assert_int_equal(free.n, priced.n);
	for (size_t i = 0; i < free.n; i++) {
		assert_int_equal(free.v[i].cls, priced.v[i].cls);
		assert_true(fabs(free.v[i].detected - priced.v[i].detected) < 1e-9);
	}
	prices_free(p);
	prices_free(q);
	str_done(&free.json);
	str_done(&priced.json);
	str_done(&half.json);
	gen_done(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_price_is_two_numbers_or_three),
		cmocka_unit_test(the_whole_name_goes_before_the_longest_beginning),
		cmocka_unit_test(the_section_is_read),
		cmocka_unit_test(an_incident_about_tokens_says_what_it_costs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
