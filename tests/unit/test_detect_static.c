/* The plain method against numbers worked out by hand, and events as JSON. */
#include "test_detect_gen.h"

static struct detect *plain(struct heard *h, double bin, double sigma)
{
	struct detect_opts o = { .detector = DETECTOR_STATIC, .bin_s = bin, .sigma = sigma, .emit = hear, .ctx = h };
	struct detect *d = NULL;

	assert_int_equal(detect_open(&o, &d), 0);
	return d;
}

static void tokens_at(struct detect *d, double t, int64_t prompt, int64_t completion)
{
	struct record r;

	record_init(&r);
	r.timestamp = t;
	r.kind = KIND_INFERENCE;
	record_set_int(&r, F_PROMPT_TOKENS, prompt);
	record_set_int(&r, F_COMPLETION_TOKENS, completion);
	record_set_real(&r, F_DURATION_MS, 5000); /* the plain method knows arrivals only */
	assert_int_equal(detect_record(d, &r), 0);
}

static void one_bin_stands_out(void **state)
{
	struct heard h = { 0 };
	struct detect *d = plain(&h, 300, 3);

	(void)state;
	/* 20 bins from 999900 (a multiple of 300) on: 17 of 100 tokens, one of 100 + 9900, two empty */
	for (int i = 0; i < 20; i++)
		if (i != 4 && i != 5)
			tokens_at(d, 999900 + 300 * i + 299.9, 60, 40);
	tokens_at(d, 999900 + 300 * 10, 9000, 900);
	assert_int_equal(h.n, 0);
	assert_int_equal(detect_finish(d), 0);
	/* sum 11700, mean 585; squares: 17 * 485^2 + 2 * 585^2 + 9415^2 = 93325500; sd = sqrt(93325500 / 19) = 2216.27 */
	assert_int_equal(h.n, 1);
	assert_non_null(strstr(h.json.p, "\"start\":1002900,\"detected\":1003200,\"end\":null,\"score\":4.25,"));
	assert_non_null(strstr(h.json.p, "\"evidence\":[{\"feature\":\"tokens_total\",\"observed\":10000,\"expected\":585,\"sigma\":4.25}]"));
	assert_non_null(strstr(h.v[0].summary, "window 1970-01-12 14:35:00 to 1970-01-12 14:40:00: 10000 tokens in total"));
	detect_free(d);
	str_done(&h.json);
}

static void order_does_not_matter_and_equal_is_not_above(void **state)
{
	struct heard h = { 0 };
	struct detect *d = plain(&h, 10, 1);

	(void)state;
	/* four bins 0 0 0 100: mean 25, sd 50: exactly 75 above at 1.5 sigma */
	tokens_at(d, 1000, 100, 0);
	tokens_at(d, 970, 0, 0);
	detect_finish(d);
	assert_int_equal(h.n, 1); /* 970 980 990 1000 */
	detect_free(d);

	d = plain(&h, 10, 1.5);
	tokens_at(d, 1000, 100, 0);
	tokens_at(d, 970, 0, 0);
	detect_finish(d);
	assert_int_equal(h.n, 1);
	detect_free(d);

	d = plain(&h, 10, 1); /* a single bin has no deviation */
	tokens_at(d, 1000, 100, 0);
	detect_finish(d);
	assert_int_equal(h.n, 1);
	detect_free(d);

	d = plain(&h, 10, 1); /* an empty file */
	assert_int_equal(detect_finish(d), 0);
	assert_int_equal(h.n, 1);
	detect_free(d);
	str_done(&h.json);
}

static void a_stray_timestamp_costs_nothing(void **state)
{
	struct heard h = { 0 };
	struct detect *d = plain(&h, 1, 3);

	(void)state;
	tokens_at(d, 0, 5, 5);
	tokens_at(d, 253402300799.0, 1, 0);
	for (int i = 0; i < 5000; i++)
		tokens_at(d, 1e9 + i, i == 77 ? INT64_C(1000000000000) : 10, 0);
	assert_int_equal(detect_finish(d), 0);
	assert_int_equal(h.n, 1);
	assert_true(h.v[0].start == 1e9 + 77 - T0);
	detect_free(d);
	str_done(&h.json);
}

static void events_as_json(void **state)
{
	struct anomaly a = {
		.event = EVENT_CLOSE,
		.id = "1-2",
		.cls = CLASS_DDOS,
		.severity = SEVERITY_CRITICAL,
		.scope_kind = ENTITY_CLIENT_IP,
		.scope_value = "a\"b\n",
		.start = 1.5,
		.detected = 2,
		.end = 3,
		.score = 4.567,
		.confidence = 0.75,
		.summary = "s",
		.evidence = { { "requests_per_s", 10, NAN, 1e300 } },
		.evidence_count = 1,
		.top = { { ENTITY_API_KEY, "k", 0.25 } },
		.top_count = 1,
	};
	CLEANUP(str_done) struct str out = { 0 };

	(void)state;
	anomaly_write_json(&out, &a);
	assert_string_equal(out.p, "{\"v\":1,\"event\":\"close\",\"id\":\"1-2\",\"class\":\"ddos\",\"severity\":\"critical\",\"scope\":{\"kind\":\"client_ip\",\"value\":\"a\\\"b\\u000a\"},"
				   "\"start\":1.5,\"detected\":2,\"end\":3,\"score\":4.57,\"confidence\":0.75,\"summary\":\"s\",\"evidence\":[{\"feature\":\"requests_per_s\","
				   "\"observed\":10,\"expected\":null,\"sigma\":null}],\"top\":[{\"kind\":\"api_key\",\"value\":\"k\",\"share\":0.25}],\"team\":\"security\","
				   "\"cost_per_h\":null,\"expected_by\":null,\"runbook\":\"docs/runbooks.md#ddos\"}\n");
	for (int c = 0; c < CLASS_COUNT; c++)
		assert_int_equal(anomaly_class_of_name(span_of(anomaly_class_name((enum anomaly_class)c))), c);
	assert_int_equal(anomaly_class_of_name(SPAN("nonsense")), CLASS_COUNT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_bin_stands_out),
		cmocka_unit_test(order_does_not_matter_and_equal_is_not_above),
		cmocka_unit_test(a_stray_timestamp_costs_nothing),
		cmocka_unit_test(events_as_json),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
