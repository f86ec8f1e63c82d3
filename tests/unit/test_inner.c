/* Inner hops: what is one, whose time is set against whose, and which lost requests are theirs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/str.h"
#include "cmd/agent_inner.h"
#include "decode/record.h"

static unsigned asked;

/* Whoever comes from a port above 40000 to 9000 is the gateway at 8000. */
static uint16_t ask(void *ctx, const struct weir_conn_key *at)
{
	(void)ctx;
	asked++;
	return at->lport == 9000 && at->rport > 40000 ? 8000 : 0;
}

struct request {
	struct weir_conn_key at;
	struct record r;
	struct assemble_source source;
};

static void begin(struct inner *i, struct request *q, uint64_t conn, uint32_t n, uint16_t port, uint16_t from, double t)
{
	*q = (struct request){ .at = { .lport = port, .rport = from, .laddr = { [15] = 1 }, .raddr = { [15] = 1 } } };
	record_init(&q->r);
	q->r.timestamp = t;
	q->r.kind = KIND_INFERENCE;
	q->source = (struct assemble_source){ .at = &q->at, .conn = conn, .request = n, .outer = inner_outer(i, conn, &q->at) };
	inner_arrival(i, &q->r, &q->source);
}

static void end(struct inner *i, struct request *q, double ttft, double duration)
{
	record_set_real(&q->r, F_TTFT_MS, ttft);
	record_set_real(&q->r, F_DURATION_MS, duration);
	record_set_int(&q->r, F_PROMPT_TOKENS, 10);
	record_set_int(&q->r, F_COMPLETION_TOKENS, 2);
	inner_complete(i, &q->r, &q->source);
}

static struct inner *with_gateway(void)
{
	const struct inner_opts o = { .ask = ask };
	struct inner *i = inner_new(&o);
	struct request q;

	assert_non_null(i);
	asked = 0;
	begin(i, &q, 1, 0, 9000, 40001, 1); /* who is a gateway shows with its first request passed on */
	assert_int_equal(q.source.outer, 8000);
	end(i, &q, 1, 2);
	return i;
}

static void told(const struct inner *i, const char *want)
{
	struct str s = { 0 };

	inner_write_json(i, &s);
	if (!strstr(s.p, want))
		fail_msg("want %s in %s", want, s.p);
	str_done(&s);
}

static void pairs(void **state)
{
	struct inner *i = with_gateway();
	struct request out[3], in[3];

	(void)state;
	told(i, "\"unmatched\":1");
	for (unsigned k = 0; k < 3; k++) {
		begin(i, &out[k], 10 + k, 0, 8000, 5000, 100 + k);
		assert_int_equal(out[k].source.outer, 0);
	}
	end(i, &out[1], 1, 1); /* answered by the gateway itself */
	begin(i, &in[0], 1, 1, 9000, 40001, 100.040);
	begin(i, &in[2], 1, 2, 9000, 40001, 102.020);
	end(i, &in[0], 5, 7);
	end(i, &in[2], 5, 9);
	end(i, &out[0], 50, 60);
	end(i, &out[2], 50, 60);
	told(i, "\"requests\":3,\"prompt_tokens\":30,\"completion_tokens\":6,\"lost\":0");
	told(i, "\"outer_port\":8000,\"port\":9000,\"requests\":3,\"unmatched\":1,\"gateway_queue_mean_ms\":30,\"gateway_queue_ms\":{\"count\":2,");
	told(i, "\"engine_duration_ms\":{\"count\":3,");
	assert_int_equal(asked, 4); /* once per connection */
	inner_free(i);
}

/* One request, two parts of an engine: it is one pair, and both are inner. Health checks are nobody's. */
static void prefill_and_decode(void **state)
{
	struct inner *i = with_gateway();
	struct request out, in[3];

	(void)state;
	begin(i, &out, 10, 0, 8000, 5000, 100);
	begin(i, &in[0], 20, 0, 9000, 40002, 100.010);
	begin(i, &in[1], 21, 0, 9000, 40003, 100.500);
	end(i, &in[0], 5, 7);
	end(i, &in[1], 5, 7);
	end(i, &out, 50, 60);
	told(i, "\"requests\":3,\"unmatched\":2,\"gateway_queue_mean_ms\":10,");
	in[2] = in[1];
	in[2].r.kind = KIND_CONTROL;
	inner_arrival(i, &in[2].r, &in[2].source);
	told(i, "\"requests\":3,\"unmatched\":2,");
	inner_free(i);
}

/* Prompts tell requests apart that are under way at once: the later one is passed on first. */
static void overtaken(void **state)
{
	struct inner *i = with_gateway();
	struct request out[2], in[2];

	(void)state;
	for (unsigned k = 0; k < 2; k++) {
		begin(i, &out[k], 10 + k, 0, 8000, 5000, 100 + k);
		record_set_int(&out[k].r, F_PROMPT_CHARS, 500 + k);
		inner_arrival(i, &out[k].r, &out[k].source); /* the same once more, with what it asks */
	}
	in[0] = out[1];
	in[0].at.lport = 9000;
	in[0].source = (struct assemble_source){ .at = &in[0].at, .conn = 20, .outer = 8000 };
	in[0].r.timestamp = 101.5;
	inner_arrival(i, &in[0].r, &in[0].source); /* 0.5 s after its own, 1.5 s after the oldest */
	told(i, "\"gateway_queue_mean_ms\":500,");
	in[1] = in[0];
	record_set_int(&in[1].r, F_PROMPT_CHARS, 7); /* the gateway changed it: the oldest then */
	in[1].source.conn = 21;
	in[1].source.at = &in[1].at;
	inner_arrival(i, &in[1].r, &in[1].source);
	told(i, "\"gateway_queue_mean_ms\":1000,");
	inner_free(i);
}

/* Requests that the gateway never passes on do not pile up, nor do those that it passes on late. */
static void waits_are_bounded(void **state)
{
	struct inner *i = with_gateway();
	struct request q;

	(void)state;
	for (unsigned k = 0; k < 3 * INNER_WAITING; k++)
		begin(i, &q, 10 + k, 0, 8000, 5000, 100 + k);
	begin(i, &q, 1, 1, 9000, 40001, 99); /* older than all that wait */
	told(i, "\"unmatched\":2");
	for (unsigned k = 0; k < 3 * INNER_WAITING; k++) {
		q.at.lport = 8000;
		q.source = (struct assemble_source){ .at = &q.at, .conn = 10 + k };
		inner_complete(i, &q.r, &q.source);
	}
	begin(i, &q, 1, 2, 9000, 40001, 1e6); /* all are over */
	told(i, "\"unmatched\":3");
	inner_free(i);
}

static void lost_requests(void **state)
{
	struct inner *i = with_gateway();
	struct loss l = { .key = { .port = 9000, .server = { [15] = 1 }, .client = { [15] = 1 } }, .requests = 5, .prompt_tokens = 50, .completion_tokens = 10 };
	struct request q;

	(void)state;
	assert_true(inner_lost(i, &l));
	told(i, "\"requests\":6,\"prompt_tokens\":60,\"completion_tokens\":12,\"lost\":5");
	l.key.client[15] = 2; /* somebody else */
	assert_false(inner_lost(i, &l));
	l.key.client[15] = 1;
	for (unsigned k = 0; k < 3; k++) { /* from the same address mostly others come by now */
		begin(i, &q, 50 + k, 0, 9000, 100, 200);
		end(i, &q, 1, 1);
	}
	assert_false(inner_lost(i, &l));
	inner_free(i);
}

static void without_hops(void **state)
{
	const struct inner_opts none = { 0 };
	struct inner *i = inner_new(&none);
	struct request q;

	(void)state;
	assert_non_null(i);
	begin(i, &q, 1, 0, 9000, 40001, 1);
	assert_int_equal(q.source.outer, 0);
	end(i, &q, 1, 1);
	told(i, "\"inner\":{\"requests\":0,");
	inner_free(i);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pairs), cmocka_unit_test(prefill_and_decode), cmocka_unit_test(overtaken), cmocka_unit_test(waits_are_bounded), cmocka_unit_test(lost_requests), cmocka_unit_test(without_hops),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
