/* What an engine computes, against what its server's answers report. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "detect/detect.h"

#define START 1800000000.0

struct run {
	struct detect *d;
	unsigned opens[CLASS_COUNT], closes;
	enum anomaly_severity severity;
	char scope[64], summary[400];
	double share;
};

static void on_event(void *ctx, const struct anomaly *a)
{
	struct run *r = ctx;

	r->opens[a->cls] += a->event == EVENT_OPEN;
	r->closes += a->event == EVENT_CLOSE;
	if (a->cls != CLASS_UNBILLED_COMPUTE)
		return;
	r->severity = a->severity;
	assert_int_equal(a->scope_kind, ENTITY_SERVER);
	snprintf(r->scope, sizeof(r->scope), "%s", a->scope_value);
	snprintf(r->summary, sizeof(r->summary), "%s", a->summary);
	for (size_t i = 0; i < a->evidence_count; i++)
		if (!strcmp(a->evidence[i].feature, "unreported_share"))
			r->share = a->evidence[i].observed;
}

static void begin(struct run *r)
{
	const struct detect_opts opts = { .emit = on_event, .ctx = r };

	memset(r, 0, sizeof(*r));
	assert_int_equal(detect_open(&opts, &r->d), 0);
}

/* One answer of 20 + 30 tokens a second for a while, of which the engine computed `times` as much, and a share broken off. */
static double play(struct run *r, double t, int seconds, double times, bool aborted, const char *server)
{
	for (int s = 0; s < seconds; s++, t += 1) {
		struct record rec;

		record_init(&rec);
		rec.timestamp = t;
		rec.kind = KIND_INFERENCE;
		record_set_text(&rec, F_CLIENT_IP, SPAN("192.0.2.1"));
		record_set_text(&rec, F_API_KEY, SPAN("k"));
		record_set_text(&rec, F_SERVER, span_of(server));
		record_set_int(&rec, F_STATUS, 200);
		record_set_int(&rec, F_PROMPT_TOKENS, 40);
		record_set_int(&rec, F_CACHED_TOKENS, 20);
		record_set_int(&rec, F_COMPLETION_TOKENS, 31);
		record_set_real(&rec, F_DURATION_MS, 400);
		if (aborted && s % 2) {
			record_set_bool(&rec, F_ABORTED, true);
			record_set_bool(&rec, F_ESTIMATED, true);
		}
		assert_int_equal(detect_record(r->d, &rec), 0);
		assert_int_equal(detect_compute(r->d, 8080, t + 0.5, (uint64_t)(50 * times)), 0);
		assert_int_equal(detect_advance(r->d, t + 1), 0);
	}
	return t;
}

static void equal_work_is_silent(void **unused)
{
	struct run r;

	(void)unused;
	begin(&r);
	play(&r, START, 3600, 1, false, "127.0.0.1:8080 llama.cpp/1");
	assert_int_equal(r.opens[CLASS_UNBILLED_COMPUTE], 0);
	detect_free(r.d);
}

/* A server that always computes half as much again (drafts, probes) is like that. */
static void what_is_usual_is_silent(void **unused)
{
	struct run r;
	double t;

	(void)unused;
	begin(&r);
	t = play(&r, START, 3600, 1.5, false, "127.0.0.1:8080");
	assert_int_equal(r.opens[CLASS_UNBILLED_COMPUTE], 0);
	t = play(&r, t, 900, 4, false, "127.0.0.1:8080");
	assert_int_equal(r.opens[CLASS_UNBILLED_COMPUTE], 1);
	detect_free(r.d);
}

static void more_work_than_told_is_told(void **unused)
{
	struct run r;
	double t;

	(void)unused;
	begin(&r);
	t = play(&r, START, 1800, 1, false, "127.0.0.1:8080 llama.cpp/1");
	t = play(&r, t, 600, 3, false, "10.0.0.5:8080 llama.cpp/1"); /* another address of the same server */
	assert_int_equal(r.opens[CLASS_UNBILLED_COMPUTE], 1);
	assert_int_equal(r.severity, SEVERITY_WARNING);
	assert_string_equal(r.scope, "10.0.0.5:8080");
	assert_true(r.share > 0.4 && r.share < 0.8);
	assert_non_null(strstr(r.summary, "told to nobody"));
	play(&r, t, 1200, 1, false, "127.0.0.1:8080 llama.cpp/1");
	assert_int_equal(r.opens[CLASS_UNBILLED_COMPUTE], 1);
	assert_true(r.closes >= 1);
	detect_free(r.d);
}

/* Streams that clients break off: their tokens are estimated in records, and were reported to nobody. */
static void broken_off_streams_are_not_billed(void **unused)
{
	struct run r;
	double t;

	(void)unused;
	begin(&r);
	t = play(&r, START, 1800, 1, false, "127.0.0.1:8080");
	play(&r, t, 900, 1, true, "127.0.0.1:8080");
	assert_int_equal(r.opens[CLASS_UNBILLED_COMPUTE], 1);
	detect_free(r.d);
}

static void knows_its_limits(void **unused)
{
	struct run r;

	(void)unused;
	begin(&r);
	assert_int_equal(detect_compute(r.d, 8080, START, 5), 0); /* the clock has not begun */
	play(&r, START, 2, 1, false, "127.0.0.1:8080");
	for (uint16_t port = 1; port < 64; port++)
		assert_int_equal(detect_compute(r.d, port, START + 3, 5), 0);
	assert_int_equal(detect_compute(r.d, 9000, START + 3, 5), -ENOMEM);
	assert_int_equal(detect_compute(r.d, 8080, START + 1e9, UINT64_MAX), 0);
	assert_int_equal(detect_compute(r.d, 8080, -1e9, 5), 0);
	play(&r, START + 2, 400, 1, false, "[::1]:8080");
	detect_free(r.d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(equal_work_is_silent),
		cmocka_unit_test(what_is_usual_is_silent),
		cmocka_unit_test(more_work_than_told_is_told),
		cmocka_unit_test(broken_off_streams_are_not_billed),
		cmocka_unit_test(knows_its_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
