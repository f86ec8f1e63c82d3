/*
 * test_fixtures - every dialect's fixture through the program that is loaded (BPF_PROG_TEST_RUN), in both variants: what the kernel
 * counts for the client must be what the record says, and the record what the fixture says.
 *
 * They may differ in what is listed in `why_apart()`, each with its reason, and each must be seen. Needs root.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <zlib.h>

#include "base/str.h"
#include "bpf/harness.h"
#include "decode/assemble.h"
#include "fixture_http.h"

static bool fast; /* which variant the cases run */
static struct meter *m;
static struct weir_automaton dfa;
static struct assemble *assemble;

/* What became of the one request. */
static struct {
	unsigned records;
	struct str line;
	enum record_kind kind;
	int64_t status, prompt, completion, cached, reasoning; /* -1: absent */
	bool estimated, aborted, failed, get;
	struct weir_done done;
} seen;

static void on_complete(void *ctx, const struct record *r, bool arrived, int64_t told)
{
	(void)ctx, (void)arrived, (void)told;
	seen.records++;
	seen.kind = r->kind;
	seen.status = record_int(r, F_STATUS, -1);
	seen.prompt = record_int(r, F_PROMPT_TOKENS, -1);
	seen.completion = record_int(r, F_COMPLETION_TOKENS, -1);
	seen.cached = record_int(r, F_CACHED_TOKENS, -1);
	seen.reasoning = record_int(r, F_REASONING_TOKENS, -1);
	seen.estimated = record_yes(r, F_ESTIMATED);
	seen.aborted = record_yes(r, F_ABORTED);
	seen.failed = span_eq(record_text(r, F_FINISH_REASON), SPAN("error"));
	str_reset(&seen.line);
	record_write_json(&seen.line, r);
}

static void on_event(void *ctx, const void *data, size_t n)
{
	(void)ctx;
	if (*(const uint8_t *)data == WEIR_EVENT_DONE)
		memcpy(&seen.done, data, sizeof(seen.done));
	assert_int_equal(assemble_event(assemble, data, n), 0);
}

static int set_up(void **state)
{
	(void)state;
	return meter_set_up(&m, fast) < 0 ? -1 : automaton_build(&dfa);
}

static int tear_down(void **state)
{
	(void)state;
	meter_close(m);
	m = NULL;
	str_done(&seen.line);
	return 0;
}

/* Afresh for each fixture: what one teaches must not change another's estimate. */
static void assemble_begin(void)
{
	struct assemble_opts opts = { .automaton = &dfa, .key = "0123456789abcdef", .complete = on_complete };

	assert_int_equal(assemble_new(&opts, &assemble), 0);
	m->seen.on_event = on_event;
}

static void assemble_end(void)
{
	assert_int_equal(assemble_stats(assemble)->open, 0);
	assemble = assemble_free(assemble);
}

/* As packets(), and the ring is read now and then: one client alone may fill no more than its share of it. */
static void send_side(struct flow *f, int dir, const char *p, size_t n, size_t piece)
{
	size_t step = piece ? 200 * piece : n;

	for (size_t at = 0; at < n; at += step) {
		assert_int_equal(packets(m, f, dir, p + at, MIN(step, n - at), piece), 0);
		drain(m);
	}
}

/* One exchange: the response cut at `split`, both sides in pieces of at most `piece` bytes (0: as large as they go). */
static struct weir_client exchange(const struct fixture *f, size_t split, size_t piece)
{
	static uint16_t port = 1024;
	struct flow flow = flow_make(0x0a000002, ++port ? port : ++port);
	struct weir_client c = { 0 };

	seen.records = 0;
	memset(&seen.done, 0, sizeof(seen.done));
	seen.get = f->request_len > 4 && !memcmp(f->request, "GET ", 4);
	send_side(&flow, WEIR_REQUEST, f->request, f->request_len, piece);
	send_side(&flow, WEIR_RESPONSE, f->response, split, piece);
	send_side(&flow, WEIR_RESPONSE, f->response + split, f->response_len - split, piece);
	flow_fin(m, &flow, WEIR_RESPONSE);
	flow_fin(m, &flow, WEIR_REQUEST);
	drain(m);
	assert_true(client_get(m, &flow, &c));
	assert_int_equal(conns_count(m), 0);
	flow_forget(m);
	return c;
}

/* ---- the record against the counters --------------------------------------------------------------- */
enum apart { SAME, UNTOLD, NO_USE, CUT_SHORT, PACKED, APARTS };

/*
 * Where the tokens of the counters are not those of the record:
 *
 * UNTOLD     The server told nothing. The record estimates, by what was learnt and by bytes; the kernel counts the events that carried
 *            text, apart from what was reported (estimated_tokens).
 * NO_USE     The request was for no use of the model: count_tokens, tokenize, an old answer fetched again. The kernel knows no paths
 *            and adds what it finds; a record has no tokens then.
 * CUT_SHORT  The stream was cut off after a first count (Anthropic's message_start says 0 or 1). The counters have what was reported,
 *            which they must; the record estimates what was generated since.
 * PACKED     The body was compressed: the kernel cannot read it, user space unpacks it.
 */
static enum apart why_apart(const struct weir_client *c)
{
	if (seen.done.flags & WEIR_DONE_ENCODED)
		return PACKED;
	if (seen.kind == KIND_CONTROL || (seen.kind == KIND_OTHER && seen.get))
		return NO_USE;
	if (seen.estimated && (c->completion_tokens || c->prompt_tokens))
		return CUT_SHORT;
	return seen.estimated ? UNTOLD : SAME;
}

static unsigned differs(const char *what, uint64_t counted, uint64_t recorded)
{
	if (counted != recorded)
		print_error("  %s: the kernel has %llu, the record %llu\n", what, (unsigned long long)counted, (unsigned long long)recorded);
	return counted != recorded;
}

#define AT_LEAST_0(n) ((uint64_t)MAX((n), 0))

static unsigned tokens_differ(const struct weir_client *c, enum apart apart)
{
	const struct weir_done *d = &seen.done;
	uint64_t deltas = d->delta_events;
	unsigned n = 0;

	switch (apart) {
	case NO_USE:
		return differs("tokens of no use", 0, AT_LEAST_0(seen.prompt) + AT_LEAST_0(seen.completion));
	case UNTOLD:
		n += differs("prompt, reported", c->prompt_tokens, 0) + differs("completion, reported", c->completion_tokens, 0);
		return n + differs("events with text", c->estimated_tokens, deltas) + differs("unreported", c->unreported, deltas > 0);
	case CUT_SHORT:
		n += differs("prompt", c->prompt_tokens, AT_LEAST_0(seen.prompt)) + differs("estimated", c->estimated_tokens, 0);
		return n + differs("reported", c->completion_tokens, weir_completion_tokens(d->token_mask, d->tokens)) +
		       differs("less reported than the record has", c->completion_tokens < AT_LEAST_0(seen.completion), 1);
	case PACKED:
		return differs("prompt", c->prompt_tokens, 0) + differs("completion", c->completion_tokens, 0);
	default:
		n += differs("prompt", c->prompt_tokens, AT_LEAST_0(seen.prompt)) + differs("completion", c->completion_tokens, AT_LEAST_0(seen.completion));
		n += differs("cached", c->cached_tokens, AT_LEAST_0(seen.cached)) + differs("reasoning", c->reasoning_tokens, AT_LEAST_0(seen.reasoning));
		return n + differs("estimated", c->estimated_tokens, 0);
	}
}

static unsigned all_differs(const struct fixture *f, const struct weir_client *c, enum apart apart)
{
	int64_t class = seen.status / 100;
	unsigned n = 0;

	n += differs("records", 1, seen.records) + differs("requests", c->requests, 1) + differs("open", (uint64_t)c->open, 0) + differs("lost", c->lost, 0);
	n += differs("2xx", c->status_2xx, class == 2) + differs("3xx", c->status_3xx, class == 3) + differs("4xx", c->status_4xx, class == 4) +
	     differs("5xx", c->status_5xx, class == 5);
	n += differs("aborted", c->aborted, seen.aborted) + differs("errors in a 200", c->stream_errors, seen.failed && class == 2);
	n += differs("bytes in", c->bytes_in, f->request_len) + differs("bytes out", c->bytes_out, f->response_len);
	return n + tokens_differ(c, apart);
}

/* What the fixture wants of its record. */
static unsigned unwanted(const struct fixture *f)
{
	unsigned n = 0;

	for (size_t i = 0; i < f->wants; i++) {
		if (fixture_holds(f->want[i], seen.line.p))
			continue;
		print_error("  want %s in %s", f->want[i], seen.line.p);
		n++;
	}
	return n;
}

/* Returns how many things are wrong. */
static unsigned run(const struct fixture *f, size_t split, size_t piece, unsigned aparts[APARTS])
{
	struct weir_client c = exchange(f, split, piece);
	enum apart apart = why_apart(&c);
	unsigned n = all_differs(f, &c, apart) + unwanted(f);

	aparts[apart]++;
	if (n)
		print_error("%s (%s), cut at %zu, pieces of %zu\n", f->name, fast ? "may_goto" : "bpf_loop", split, piece);
	return n;
}

struct sums {
	unsigned aparts[APARTS], wrong;
};

static void every_cut(struct fixture *f, void *ctx)
{
	static const size_t pieces[] = { 1, 2, 3, 7, 31, 64, 65, 127, 128, 129, 255 }; /* around the steps of both variants */
	struct sums *s = ctx;

	assemble_begin();
	s->wrong += run(f, 0, 0, s->aparts);
	for (size_t k = 0; k < ARRAY_SIZE(pieces); k++)
		s->wrong += run(f, 0, pieces[k], s->aparts);
	for (size_t split = 1; split < f->response_len && !s->wrong; split++)
		s->wrong += run(f, split, 0, s->aparts);
	assemble_end();
}

static void every_fixture(void **state)
{
	static struct fixture f;
	struct sums s = { 0 };
	int done = fixtures_each(&f, every_cut, &s);

	(void)state;
	assert_int_equal(s.wrong, 0);
	assert_true(done >= 140);
	print_message("%d fixtures, exchanges: %u the same, %u estimated, %u no use of a model, %u cut short\n", done, s.aparts[SAME], s.aparts[UNTOLD],
		      s.aparts[NO_USE], s.aparts[CUT_SHORT]);
	assert_true(s.aparts[SAME] && s.aparts[UNTOLD] && s.aparts[NO_USE] && s.aparts[CUT_SHORT]);
	assert_int_equal(stat_get(m, WEIR_STAT_GAP) + stat_get(m, WEIR_STAT_STEPS) + stat_get(m, WEIR_STAT_CONTENDED) + stat_get(m, WEIR_STAT_RING_FULL), 0);
}

/* Fixtures are text; this is one that is not. */
static void packed(void **state)
{
	static const char body[] = "{\"model\":\"m\",\"choices\":[{\"message\":{\"content\":\"ab\"},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2}}";
	unsigned aparts[APARTS] = { 0 };
	static struct fixture f;
	z_stream z = { 0 };
	unsigned char out[512];
	char want[] = "\"prompt_tokens\":9";

	(void)state;
	assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
	z.next_in = (unsigned char *)(uintptr_t)body;
	z.avail_in = sizeof(body) - 1;
	z.next_out = out;
	z.avail_out = sizeof(out);
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	deflateEnd(&z);
	snprintf(f.name, sizeof(f.name), "gzip");
	f.request_len = (size_t)snprintf(f.request, sizeof(f.request), "POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 13\r\n\r\n{\"model\":\"m\"}");
	f.response_len = (size_t)snprintf(f.response, sizeof(f.response),
					  "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: %lu\r\n\r\n", z.total_out);
	memcpy(f.response + f.response_len, out, z.total_out);
	f.response_len += z.total_out;
	f.want[f.wants++] = want;
	assemble_begin();
	for (size_t split = 0; split < f.response_len; split++)
		assert_int_equal(run(&f, split, 0, aparts), 0);
	assemble_end();
	f.wants = 0;
	assert_int_equal(aparts[PACKED], f.response_len);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest cases[] = { CASE(every_fixture), CASE(packed) };
	int failed;

	libbpf_set_print(NULL);
	failed = cmocka_run_group_tests_name("fixtures (bpf_loop)", cases, NULL, NULL);
	fast = true;
	failed += cmocka_run_group_tests_name("fixtures (may_goto)", cases, NULL, NULL);
	return failed != 0;
}
