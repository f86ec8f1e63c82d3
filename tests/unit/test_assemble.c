/* Ring events to records, made by hand: what loss, repetition, hostile lengths and pressure do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "unit/player.h"

static int slice(struct assemble *a, uint64_t conn, uint32_t request, int dir, unsigned flags, uint64_t off, uint32_t head_len, const char *text)
{
	_Alignas(8) char event[sizeof(struct weir_slice) + 8192] = { 0 };
	struct weir_slice *e = (struct weir_slice *)(void *)event;
	size_t n = strlen(text);

	*e = (struct weir_slice){ .type = WEIR_EVENT_SLICE, .dir = (__u8)dir, .flags = (__u8)flags, .len = (__u16)n, .request = request, .head_len = head_len,
				  .conn = conn, .off = off, .ts = 7000 * MS, .key = { .lport = 80 } };
	memcpy(event + sizeof(*e), text, n);
	return assemble_event(a, event, sizeof(*e) + n);
}

static struct weir_done done_of(uint64_t conn, uint32_t request)
{
	return (struct weir_done){ .type = WEIR_EVENT_DONE, .request = request, .status = 200, .conn = conn, .req_first_ns = 6000 * MS, .req_head_ns = 6100 * MS,
				   .key = { .lport = 80, .rport = 9, .laddr = { 0xfe, 0x80, [15] = 1 }, .raddr = { [10] = 0xff, 0xff, 192, 0, 2, 7 } },
				   .req_last_ns = 6200 * MS, .resp_first_ns = 6300 * MS, .content_ns = 6400 * MS, .resp_last_ns = 6600 * MS };
}

static int finish(struct assemble *a, const struct weir_done *d)
{
	return assemble_event(a, d, sizeof(*d));
}

static void assert_has(const struct seen *s, const char *text)
{
	if (!strstr(s->line.p, text))
		print_error("want %s in %s", text, s->line.p);
	assert_non_null(strstr(s->line.p, text));
}
static void assert_lacks(const struct seen *s, const char *text)
{
	if (strstr(s->line.p, text))
		print_error("do not want %s in %s", text, s->line.p);
	assert_null(strstr(s->line.p, text));
}

#define REQUEST_HEAD "POST /v1/chat/completions HTTP/1.1\r\nAuthorization: Bearer sk-1\r\nContent-Length: 9000\r\n\r\n"

static void completes_without_slices(void **unused)
{
	struct seen s;
	struct assemble *a = assemble_for(&s, 0, 0);
	struct weir_done d = done_of(1, 0);

	(void)unused;
	d.token_mask = 1u << WEIR_TOK_PROMPT | 1u << WEIR_TOK_COMPLETION;
	d.tokens[WEIR_TOK_PROMPT] = 5;
	d.tokens[WEIR_TOK_COMPLETION] = 6;
	assert_int_equal(finish(a, &d), 0);
	assert_int_equal(s.completions, 1);
	assert_int_equal(s.arrived, 0);
	assert_has(&s, "\"timestamp\":1006.1");
	assert_has(&s, "\"prompt_tokens\":5");
	assert_has(&s, "\"duration_ms\":500");
	assert_has(&s, "\"kind\":\"inference\"");
	assert_has(&s, "\"server\":\"[fe80::1]:80\"");
	assert_has(&s, "\"client_ip\":\"192.0.2.7\"");
	assert_lacks(&s, "\"path\"");
	/* the same again is not another request */
	assert_int_equal(finish(a, &d), 0);
	assert_int_equal(s.completions, 1);
	assert_int_equal(assemble_stats(a)->repeated, 1);
	/* nothing known at all; a response whose request was not seen has no duration */
	d = (struct weir_done){ .type = WEIR_EVENT_DONE, .conn = 2, .status = 404, .flags = WEIR_DONE_NO_REQUEST, .resp_first_ns = 1000 * MS, .resp_last_ns = 2000 * MS };
	assert_int_equal(finish(a, &d), 0);
	assert_has(&s, "\"kind\":\"other\"");
	assert_has(&s, "\"timestamp\":1001,");
	assert_lacks(&s, "duration");
	assemble_free(a);
	seen_done(&s);
}

#define ANSWER_HEAD "HTTP/1.1 200 OK\r\nServer: weir-test/1.0\r\nContent-Length: 2\r\n\r\n{}"

/* A request ends under the label that it began with, though another's answer told the server's software in between. */
static void keeps_the_label_of_the_arrival(void **unused)
{
	struct seen s;
	struct assemble *a = assemble_for(&s, 0, 0);
	struct weir_conn_key at = { .lport = 80 };
	char label[ASSEMBLE_LABEL_MAX];

	(void)unused;
	for (uint64_t conn = 1; conn <= 2; conn++) {
		assert_int_equal(slice(a, conn, 0, WEIR_REQUEST, WEIR_SLICE_HEAD_DONE, 0, sizeof(REQUEST_HEAD) - 1, REQUEST_HEAD), 0);
		assemble_tell_waiting(a);
		assert_non_null(strstr(s.arrival.p, "\"server\":\"[::]:80\""));
	}
	assemble_label(a, &at, label, sizeof(label));
	assert_string_equal(label, "[::]:80");
	for (uint64_t conn = 1; conn <= 3; conn++) {
		struct weir_done d = { .type = WEIR_EVENT_DONE, .status = 200, .conn = conn, .key = at };

		if (conn == 3)
			assert_int_equal(slice(a, conn, 0, WEIR_REQUEST, WEIR_SLICE_HEAD_DONE, 0, sizeof(REQUEST_HEAD) - 1, REQUEST_HEAD), 0);
		assert_int_equal(slice(a, conn, 0, WEIR_RESPONSE, WEIR_SLICE_HEAD_DONE | WEIR_SLICE_MSG_DONE, 0, sizeof(ANSWER_HEAD) - 3, ANSWER_HEAD), 0);
		assert_int_equal(finish(a, &d), 0);
		assert_has(&s, conn < 3 ? "\"server\":\"[::]:80\"" : "\"server\":\"[::]:80 weir-test/1.0\"");
		assemble_label(a, &at, label, sizeof(label));
		assert_string_equal(label, "[::]:80 weir-test/1.0");
	}
	assert_non_null(strstr(s.arrival.p, "\"server\":\"[::]:80 weir-test/1.0\""));
	/* the same for what runs there */
	for (uint64_t conn = 4; conn <= 5; conn++) {
		struct weir_done d = { .type = WEIR_EVENT_DONE, .status = 200, .conn = conn, .key = at };

		assert_int_equal(slice(a, conn, 0, WEIR_REQUEST, WEIR_SLICE_HEAD_DONE, 0, sizeof(REQUEST_HEAD) - 1, REQUEST_HEAD), 0);
		assemble_tell_waiting(a);
		assemble_set_workload(a, 0, 80, conn == 4 ? SPAN("unit=a.service") : SPAN("container=b"));
		assert_int_equal(finish(a, &d), 0);
		assert_has(&s, conn == 4 ? "\"server\":\"[::]:80 weir-test/1.0\"" : "\"server\":\"[::]:80 weir-test/1.0 unit=a.service\"");
	}
	assemble_label(a, &at, label, 20);
	assert_string_equal(label, "[::]:80 weir-test/1");
	assemble_label(a, &at, label, sizeof(label));
	assert_string_equal(label, "[::]:80 weir-test/1.0 container=b");
	assemble_free(a);
	seen_done(&s);
}

static void on_stream(void *ctx, const struct record *r, int64_t fresh)
{
	assert_true(span_eq(record_text(r, F_PATH), SPAN("/v1/chat/completions")));
	*(int64_t *)ctx += fresh;
}

/* A stream under way tells each token once; the completion says how many were told. */
static void tells_of_open_streams(void **unused)
{
	struct seen s;
	struct assemble *a = assemble_for(&s, 0, 0);
	struct weir_done d = done_of(1, 0);
	int64_t sum = 0;

	(void)unused;
	assemble_open_stream(a, 1, 0, 5, on_stream, &sum); /* not known yet */
	assert_int_equal(sum, 0);
	assert_int_equal(slice(a, 1, 0, WEIR_REQUEST, WEIR_SLICE_HEAD_DONE, 0, sizeof(REQUEST_HEAD) - 1, REQUEST_HEAD), 0);
	assemble_open_stream(a, 1, 0, 5, on_stream, &sum); /* its arrival is not told yet */
	assert_int_equal(sum, 0);
	assemble_tell_waiting(a);
	assert_int_equal(s.arrivals, 1);
	assemble_open_stream(a, 1, 0, 10, on_stream, &sum);
	assemble_open_stream(a, 1, 0, 10, on_stream, &sum);
	assemble_open_stream(a, 1, 0, 25, on_stream, &sum);
	assemble_open_stream(a, 1, 0, 24, on_stream, &sum);
	assemble_open_stream(a, 2, 0, 99, on_stream, &sum);
	assert_int_equal(sum, 25);
	assert_int_equal(finish(a, &d), 0);
	assert_int_equal(s.told, 25);
	assemble_open_stream(a, 1, 0, 30, on_stream, &sum);
	assert_int_equal(sum, 25);
	assemble_free(a);
	seen_done(&s);
}

static void reads_both_ends_of_a_long_request(void **unused)
{
	struct seen s;
	struct assemble *a = assemble_for(&s, 0, 0);
	struct weir_done d = done_of(9, 3);
	uint32_t head = sizeof(REQUEST_HEAD) - 1;
	const char *tail = "escaped \\\"quotes\\\", \\\"model\\\":\\\"fake\\\" and {braces\"}],\"max_tokens\":77,\"stream\":true,\"model\":\"far\",\"stream_options\":{\"model\":\"no\"}}";

	(void)unused;
	assert_int_equal(slice(a, 9, 3, WEIR_REQUEST, WEIR_SLICE_HEAD_DONE, 0, head, REQUEST_HEAD "{\"user\":\"eve\",\"messages\":[{\"role\":\"user\",\"content\":\"secret prompt"), 0);
	assert_int_equal(s.arrivals, 0);
	assemble_tell_waiting(a);
	assemble_tell_waiting(a);
	assert_int_equal(s.arrivals, 1);
	assert_non_null(strstr(s.arrival.p, "\"user\":\"eve\""));
	assert_non_null(strstr(s.arrival.p, "\"timestamp\":1007,"));
	assert_int_equal(slice(a, 9, 3, WEIR_REQUEST, WEIR_SLICE_MSG_DONE, head + 9000 - strlen(tail), head, tail), 0);
	d.delta_events = 3;
	d.flags = WEIR_DONE_STREAM;
	d.req_bytes = head + 9000;
	assert_int_equal(finish(a, &d), 0);
	assert_has(&s, "\"user\":\"eve\"");
	assert_has(&s, "\"max_tokens\":77");
	assert_has(&s, "\"model_name\":\"far\"");
	assert_has(&s, "\"prompt_chars\":9000");
	assert_has(&s, "\"prompt_tokens\":2250");
	assert_has(&s, "\"completion_tokens\":3");
	assert_has(&s, "\"estimated\":true");
	assert_has(&s, "\"ttft_ms\":200"); /* from the request's last byte */
	assert_has(&s, "\"timestamp\":1007,");
	assert_lacks(&s, "secret");
	assert_lacks(&s, "sk-1");
	assert_int_equal(assemble_stats(a)->open, 0);
	assert_int_equal(assemble_stats(a)->bytes, 0);
	assemble_free(a);
	seen_done(&s);
}

/* Most clients send the head and the body apart: the arrival waits for the body, and tells what is in it. */
static void waits_for_the_body(void **unused)
{
#define BODY "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hello there\"}]}"
	static const char head[] = "POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 66\r\n\r\n";
	static const char chunked[] = "POST /v1/chat/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
	uint32_t n = sizeof(head) - 1;
	struct seen s;
	struct assemble *a = assemble_for(&s, 0, 0);
	struct weir_done d;

	(void)unused;
	assert_int_equal(sizeof(BODY) - 1, 66);
	assert_int_equal(slice(a, 1, 0, WEIR_REQUEST, WEIR_SLICE_HEAD_DONE, 0, n, head), 0);
	assert_int_equal(slice(a, 1, 0, WEIR_REQUEST, 0, n, n, "{\"model\""), 0);
	assert_int_equal(s.arrivals, 0);
	assert_int_equal(slice(a, 1, 0, WEIR_REQUEST, WEIR_SLICE_MSG_DONE, n + 8, n, &BODY[8]), 0);
	assert_int_equal(s.arrivals, 1);
	assert_non_null(strstr(s.arrival.p, "\"model_name\":\"m\""));
	assert_non_null(strstr(s.arrival.p, "\"prompt_hash\":\""));
	assert_non_null(strstr(s.arrival.p, "\"prompt_entropy\":"));
	/* one chunk */
	assert_int_equal(slice(a, 2, 0, WEIR_REQUEST, WEIR_SLICE_HEAD_DONE, 0, sizeof(chunked) - 1, chunked), 0);
	assert_int_equal(s.arrivals, 1);
	assert_int_equal(slice(a, 2, 0, WEIR_REQUEST, WEIR_SLICE_MSG_DONE, sizeof(chunked) - 1, sizeof(chunked) - 1, "42\r\n" BODY "\r\n0\r\n\r\n"), 0);
	assert_int_equal(s.arrivals, 2);
	assert_non_null(strstr(s.arrival.p, "\"prompt_hash\":\""));
	/* an answer that begins before the body is there */
	assert_int_equal(slice(a, 3, 0, WEIR_REQUEST, WEIR_SLICE_HEAD_DONE, 0, n, head), 0);
	assert_int_equal(slice(a, 3, 0, WEIR_RESPONSE, 0, 0, 0, "HTTP/1.1 401 No\r\n"), 0);
	assert_int_equal(s.arrivals, 3);
	assert_null(strstr(s.arrival.p, "prompt_hash"));
	/* an end before any arrival: both at once */
	assert_int_equal(slice(a, 4, 0, WEIR_REQUEST, WEIR_SLICE_HEAD_DONE, 0, n, head), 0);
	d = done_of(4, 0);
	assert_int_equal(finish(a, &d), 0);
	assert_int_equal(s.arrived, 0);
	assemble_tell_waiting(a);
	assert_int_equal(s.arrivals, 3);
	/* pushed out while it waits */
	assert_int_equal(slice(a, 5, 0, WEIR_REQUEST, WEIR_SLICE_HEAD_DONE, 0, n, head), 0);
	assemble_free(a);
	seen_done(&s);
}

static void tells_aborted_from_whole(void **unused)
{
	struct seen s;
	struct assemble *a = assemble_for(&s, 0, 0);
	struct weir_done d = done_of(1, 0);

	(void)unused;
	/* Anthropic said 1 at the start; 40 deltas came; then the client left */
	d.flags = WEIR_DONE_STREAM | WEIR_DONE_ABORTED;
	d.delta_events = 40;
	d.token_mask = 1u << WEIR_TOK_INPUT | 1u << WEIR_TOK_COMPLETION;
	d.tokens[WEIR_TOK_INPUT] = 11;
	d.tokens[WEIR_TOK_COMPLETION] = 1;
	assert_int_equal(finish(a, &d), 0);
	assert_has(&s, "\"aborted\":true");
	assert_has(&s, "\"prompt_tokens\":11");
	assert_has(&s, "\"completion_tokens\":40");
	assert_has(&s, "\"estimated\":true");
	/* reported counts beyond the deltas stand */
	d.request = 1;
	d.tokens[WEIR_TOK_COMPLETION] = 41;
	assert_int_equal(finish(a, &d), 0);
	assert_has(&s, "\"completion_tokens\":41");
	assert_lacks(&s, "\"estimated\"");
	/* no answer at all */
	d = (struct weir_done){ .type = WEIR_EVENT_DONE, .conn = 1, .request = 2, .flags = WEIR_DONE_ABORTED | WEIR_DONE_NO_RESPONSE, .req_head_ns = 6000 * MS };
	assert_int_equal(finish(a, &d), 0);
	assert_has(&s, "\"aborted\":true");
	assert_lacks(&s, "status");
	assert_lacks(&s, "tokens");
	assert_lacks(&s, "duration");
	assemble_free(a);
	seen_done(&s);
}

static void survives_holes_and_repetition(void **unused)
{
	struct seen s;
	struct assemble *a = assemble_for(&s, 0, 0);
	struct weir_done d = done_of(4, 0);
	uint32_t head = sizeof(REQUEST_HEAD) - 1;

	(void)unused;
	assert_int_equal(slice(a, 4, 0, WEIR_REQUEST, 0, 0, 0, "POST /v1/chat/comp"), 0);
	assert_int_equal(slice(a, 4, 0, WEIR_REQUEST, 0, 5, 0, "/v1/chat/completions "), 0);           /* overlaps */
	assert_int_equal(slice(a, 4, 0, WEIR_REQUEST, 0, 5, 0, "/v1/"), 0);                            /* again */
	assert_int_equal(slice(a, 4, 0, WEIR_REQUEST, 0, 26, 0, "HTTP/1.1\r\nX: y\r\nuser-agent: u\r\n"), 0);
	assert_int_equal(slice(a, 4, 0, WEIR_REQUEST, WEIR_SLICE_HEAD_DONE | WEIR_SLICE_GAP, 700, head, "tail of a head\r\n\r\n{\"model\":\"m\"}"), 0);
	assert_int_equal(assemble_stats(a)->repeated, 2);
	assert_int_equal(slice(a, 4, 0, WEIR_RESPONSE, WEIR_SLICE_GAP | WEIR_SLICE_HOT, 9000, 0, "alf a line\"}\n\n\r\n4f\r\ndata: {\"model\":\"q\",\"choices\":[{\"finish_re\r\n5\r\nason\":\"stop\"}]}\n\n"), 0);
	d.flags = WEIR_DONE_STREAM | WEIR_DONE_PARTIAL;
	assert_int_equal(finish(a, &d), 0);
	assert_has(&s, "\"path\":\"/v1/chat/completions\"");
	assert_has(&s, "\"user_agent\":\"u\"");
	assert_has(&s, "\"finish_reason\":\"stop\"");
	assert_has(&s, "\"model_name\":\"q\"");
	/* late slices of what is over open nothing */
	assert_int_equal(slice(a, 4, 0, WEIR_REQUEST, WEIR_SLICE_HEAD_DONE, 0, 0, "GET / HTTP/1.1\r\n\r\n"), 0);
	assert_int_equal(assemble_stats(a)->open, 0);
	assert_int_equal(s.arrivals, 1);
	/* a slice that says nothing of a head still arrives, once */
	assert_int_equal(slice(a, 5, 0, WEIR_REQUEST, WEIR_SLICE_HEAD_DONE, 4096, 5000, ""), 0);
	assert_int_equal(slice(a, 5, 0, WEIR_REQUEST, WEIR_SLICE_HEAD_DONE, 4096, 5000, ""), 0);
	assemble_tell_waiting(a);
	assert_int_equal(s.arrivals, 2);
	assert_int_equal(assemble_stats(a)->open, 1);
	assemble_free(a);
	seen_done(&s);
}

static void refuses_wrong_events(void **unused)
{
	struct seen s;
	struct assemble *a = assemble_for(&s, 0, 0);
	_Alignas(8) char event[sizeof(struct weir_slice) + 64] = { 0 };
	struct weir_slice *e = (struct weir_slice *)(void *)event;

	(void)unused;
	assert_int_equal(assemble_event(a, event, 0), -EBADMSG);
	assert_int_equal(assemble_event(a, event, sizeof(event)), -EBADMSG);
	*e = (struct weir_slice){ .type = WEIR_EVENT_SLICE, .len = 65 };
	assert_int_equal(assemble_event(a, event, sizeof(event)), -EBADMSG);
	e->len = 64;
	assert_int_equal(assemble_event(a, event, sizeof(event) - 1), -EBADMSG);
	e->dir = 2;
	assert_int_equal(assemble_event(a, event, sizeof(event)), -EBADMSG);
	e->dir = 0;
	e->off = UINT64_MAX - 5;
	assert_int_equal(assemble_event(a, event, sizeof(event)), -EBADMSG);
	e->type = WEIR_EVENT_DONE;
	assert_int_equal(assemble_event(a, event, sizeof(struct weir_done) - 1), -EBADMSG);
	assert_int_equal(assemble_stats(a)->bad_events, 7);
	assert_int_equal(assemble_stats(a)->open, 0);
	assemble_free(a);
	seen_done(&s);
}

static void stays_within_its_limits(void **unused)
{
	struct seen s;
	struct assemble *a = assemble_for(&s, 100, 200000);
	char body[4001];

	(void)unused;
	memset(body, 'x', sizeof(body) - 1);
	body[sizeof(body) - 1] = '\0';
	for (uint64_t i = 0; i < 1000; i++) {
		assert_int_equal(slice(a, i, 0, WEIR_REQUEST, 0, 0, 0, i & 1 ? body : "GET /x HTTP/1.1\r\n"), 0);
		assert_in_range(assemble_stats(a)->open, 1, 100);
		assert_in_range(assemble_stats(a)->bytes, 1, 200000);
		/* the one in use is not pushed out */
		assert_int_equal(slice(a, 0, 0, WEIR_RESPONSE, 0, i, 0, "y"), 0);
	}
	assert_int_equal(assemble_stats(a)->evicted + assemble_stats(a)->open, 1000);
	/* slices go before requests: what was read of them stays */
	{
		struct weir_done d = done_of(90001, 0);

		for (uint64_t i = 0; i < 90; i++) {
			assert_int_equal(slice(a, 90000 + i, 0, WEIR_REQUEST, WEIR_SLICE_HEAD_DONE, 0, sizeof(REQUEST_HEAD) - 1, REQUEST_HEAD "{\"model\":\"kept\""), 0);
			assert_int_equal(slice(a, 90000 + i, 0, WEIR_REQUEST, 0, sizeof(REQUEST_HEAD) + 16, sizeof(REQUEST_HEAD) - 1, body), 0);
		}
		assert_int_equal(finish(a, &d), 0);
		assert_has(&s, "\"path\":\"/v1/chat/completions\"");
		assert_has(&s, "\"model_name\":\"kept\"");
		assert_in_range(assemble_stats(a)->bytes, 1, 200000);
	}
	/* one message alone cannot grow without bound either */
	for (uint64_t i = 0; i < 1000; i++)
		assert_int_equal(slice(a, 5000, 0, WEIR_REQUEST, 0, i * 4000, 0, body), 0);
	assert_true(assemble_stats(a)->cut > 900);
	assemble_free(a);
	seen_done(&s);
}

/* Vectors of the paper: key 00..0f, messages 00, 00 01, ... */
static void hashes_as_the_paper_says(void **unused)
{
	static const uint64_t want[] = { UINT64_C(0x726fdb47dd0e0e31), UINT64_C(0x74f839c593dc67fd), UINT64_C(0x0d6c8009d9a94f5a) };
	uint8_t key[16], data[15];

	(void)unused;
	for (unsigned i = 0; i < 16; i++)
		key[i] = (uint8_t)i;
	for (unsigned i = 0; i < 15; i++)
		data[i] = (uint8_t)i;
	for (size_t i = 0; i < ARRAY_SIZE(want); i++)
		assert_true(siphash(key, data, i) == want[i]);
	assert_true(siphash(key, data, 15) == UINT64_C(0xa129ca6149be45e5));
}

static void tells_keys_apart(void **unused)
{
	struct seen s;
	struct assemble *a = assemble_for(&s, 0, 0);
	static const char *const heads[] = {
		"Authorization: Bearer sk-1", "authorization: bearer  sk-1", "X-Api-Key: sk-1", "x-goog-api-key: sk-1", "Authorization: Bearer sk-2", "Authorization: Basic c2stMQ==", "Authorization:",
	};
	char got[ARRAY_SIZE(heads)][64] = { { 0 } };

	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(heads); i++) {
		char text[256];
		const char *at;

		snprintf(text, sizeof(text), "GET /health HTTP/1.1\r\n%s\r\n\r\n", heads[i]);
		assert_int_equal(slice(a, i, 0, WEIR_REQUEST, WEIR_SLICE_HEAD_DONE, 0, (uint32_t)strlen(text), text), 0);
		at = strstr(s.arrival.p, "\"api_key\":\"");
		if (at)
			snprintf(got[i], sizeof(got[i]), "%.16s", at + 11);
		assert_null(strstr(s.arrival.p, "sk-"));
	}
	for (size_t i = 1; i < 4; i++)
		assert_string_equal(got[0], got[i]);
	assert_int_equal(strlen(got[0]), 16);
	assert_string_not_equal(got[0], got[4]);
	assert_string_not_equal(got[0], got[5]);
	assert_string_equal(got[6], "");
	assemble_free(a);
	seen_done(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(completes_without_slices),
		cmocka_unit_test(keeps_the_label_of_the_arrival),
		cmocka_unit_test(tells_of_open_streams),
		cmocka_unit_test(reads_both_ends_of_a_long_request),
		cmocka_unit_test(waits_for_the_body),
		cmocka_unit_test(tells_aborted_from_whole),
		cmocka_unit_test(survives_holes_and_repetition),
		cmocka_unit_test(refuses_wrong_events),
		cmocka_unit_test(stays_within_its_limits),
		cmocka_unit_test(hashes_as_the_paper_says),
		cmocka_unit_test(tells_keys_apart),
	};

	if (automaton_build(&dfa) < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
