/* HTTP/2: frames, headers and streams become the records and counters that HTTP/1 would. */
#include "player.h"
#include "wire.h"

#define REQUEST ":method: POST\n:scheme: http\n:authority: localhost\n:path: /v1/chat/completions\ncontent-type: application/json\nauthorization: Bearer sk-one\nuser-agent: test/1\n"
#define ASK "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"why\"}],\"max_tokens\":9}"
#define ASK_STREAM "{\"model\":\"m\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"why\"}]}"
#define JSON_HEAD ":status: 200\ncontent-type: application/json\nx-request-id: r-1\n"
#define SSE_HEAD ":status: 200\ncontent-type: text/event-stream\n"
#define ANSWER                                                                                                                                      \
	"{\"id\":\"c-1\",\"object\":\"chat.completion\",\"model\":\"m-7b\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"so\"},\"finish_reason\":" \
	"\"stop\"}],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":5,\"total_tokens\":16,\"prompt_tokens_details\":{\"cached_tokens\":4}}}"
#define DELTA "data: {\"id\":\"c-2\",\"model\":\"m-7b\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"so \"},\"finish_reason\":null}]}\n\n"
#define LAST "data: {\"id\":\"c-2\",\"model\":\"m-7b\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"
#define USAGE "data: {\"id\":\"c-2\",\"model\":\"m-7b\",\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":%u,\"total_tokens\":0}}\n\ndata: [DONE]\n\n"
#define NOTHING 1u << 20 /* bytes per piece: all at once */

static int set_up(void **state)
{
	static struct talk t;

	talk_open(&t);
	*state = &t;
	return 0;
}

static int tear_down(void **state)
{
	talk_close(*state);
	return 0;
}

static const struct h2_stats *stats(const struct talk *t)
{
	return assemble_h2_stats(t->assemble);
}

static void want(const struct talk *t, const char *text)
{
	if (!t->seen.line.p || !strstr(t->seen.line.p, text))
		fail_msg("no %s in %s", text, t->seen.line.p ? t->seen.line.p : "nothing");
}

static void begin(struct talk *t)
{
	wire_bytes(&t->side[0], PREFACE, strlen(PREFACE));
	wire_frame(&t->side[0], H2_SETTINGS, 0, 0, "\0\3\0\0\0\144", 6);
	wire_frame(&t->side[1], H2_SETTINGS, 0, 0, NULL, 0);
	wire_frame(&t->side[1], H2_SETTINGS, 1, 0, NULL, 0);
}

static void ask(struct talk *t, uint32_t stream, const char *body)
{
	wire_headers(&t->side[0], stream, 0, REQUEST);
	wire_data(&t->side[0], stream, H2_END_STREAM, body);
}

static void answer(struct talk *t, uint32_t stream)
{
	wire_headers(&t->side[1], stream, 0, JSON_HEAD);
	wire_data(&t->side[1], stream, H2_END_STREAM, ANSWER);
}

static void exchange(struct talk *t, uint32_t stream, size_t step)
{
	ask(t, stream, ASK);
	talk_pass(t, WEIR_REQUEST, step);
	t->now += 50 * MS;
	answer(t, stream);
	talk_pass(t, WEIR_RESPONSE, step);
}

static void nothing_lost(const struct talk *t)
{
	const struct h2_stats *s = stats(t);

	assert_int_equal(s->undecodable + s->bad_blocks + s->long_blocks + s->cut_heads + s->bad_frames + s->unframed_bytes + s->gap_bytes + s->skipped, 0);
	assert_int_equal(s->evicted_streams + s->evicted_connections + s->no_memory + s->bad_numbers, 0);
	assert_int_equal(t->client.lost, 0);
	assert_int_equal(t->client.open, 0);
}

static void every_piece_size(void **state)
{
	struct talk *t = *state;

	for (size_t step = 1; step <= 300; step += step < 40 ? 1 : 13) {
		struct weir_client before = t->client;

		talk_again(t);
		begin(t);
		exchange(t, 1, step);
		want(t, "\"client_ip\":\"10.0.0.7\",\"model_name\":\"m-7b\"");
		want(t, "\"path\":\"/v1/chat/completions\",\"finish_reason\":\"stop\",\"request_id\":\"r-1\",\"prompt_tokens\":11,\"completion_tokens\":5,\"cached_tokens\":4");
		want(t, "\"status\":200,\"max_tokens\":9,\"prompt_chars\":3,\"prompt_hash\":\"");
		want(t, "\"duration_ms\":50");
		want(t, "\"stream\":false,\"kind\":\"inference\"");
		exchange(t, 3, step); /* by references into the table of fields */
		want(t, "\"user_agent\":\"test/1\"");
		want(t, "\"api_key\":\"");
		talk_end(t);
		assert_int_equal(t->client.requests, before.requests + 2);
		assert_int_equal(t->client.status_2xx, before.status_2xx + 2);
		assert_int_equal(t->client.prompt_tokens, before.prompt_tokens + 22);
		assert_int_equal(t->client.completion_tokens, before.completion_tokens + 10);
		assert_int_equal(t->client.cached_tokens, before.cached_tokens + 8);
	}
	nothing_lost(t);
	assert_int_equal(t->seen.completions, t->client.requests);
	assert_int_equal(t->seen.arrived, t->client.requests);
	assert_int_equal(stats(t)->open_connections, 0);
	assert_int_equal(stats(t)->bytes, 0);
}

/* The preface may come whole, without what the kernel knew it by, or not at all. */
static void prefaces(void **state)
{
	struct talk *t = *state;

	for (size_t skip = 0; skip <= strlen(PREFACE); skip += 4) {
		talk_again(t);
		wire_bytes(&t->side[0], &PREFACE[skip], strlen(PREFACE) - skip);
		wire_frame(&t->side[0], H2_SETTINGS, 0, 0, NULL, 0);
		if (skip != 0 && skip != 4 && skip != strlen(PREFACE)) /* in the middle of it: found again where frames follow */
			talk_pass(t, WEIR_REQUEST, NOTHING);
		exchange(t, 1, NOTHING);
		want(t, "\"completion_tokens\":5");
		talk_end(t);
	}
	assert_int_equal(t->client.requests, 7);
	assert_int_equal(t->client.completion_tokens, 35);
}

static void many_streams_at_once(void **state)
{
	struct talk *t = *state;
	char usage[256];

	begin(t);
	for (uint32_t s = 0; s < 100; s++)
		ask(t, 2 * s + 1, ASK_STREAM);
	talk_pass(t, WEIR_REQUEST, 1400);
	assert_int_equal(t->client.open, 100);
	assert_int_equal(t->seen.arrivals, 100);
	t->now += 100 * MS;
	for (uint32_t s = 0; s < 100; s++)
		wire_headers(&t->side[1], 2 * s + 1, 0, SSE_HEAD);
	talk_pass(t, WEIR_RESPONSE, 1400);
	t->now += 100 * MS;
	for (uint32_t i = 0; i < 20; i++)
		for (uint32_t s = 0; s < 100; s++)
			wire_data(&t->side[1], 2 * s + 1, 0, DELTA);
	talk_pass(t, WEIR_RESPONSE, 1400);
	t->now += 100 * MS;
	for (uint32_t s = 0; s < 100; s++) {
		wire_data(&t->side[1], 2 * s + 1, 0, LAST);
		snprintf(usage, sizeof(usage), USAGE, 20 + s);
		wire_data(&t->side[1], 2 * s + 1, s % 2 ? H2_END_STREAM : 0, usage);
		if (s % 2 == 0)
			wire_frame(&t->side[1], H2_DATA, H2_END_STREAM, 2 * s + 1, NULL, 0);
	}
	talk_pass(t, WEIR_RESPONSE, 1400);
	talk_end(t);
	nothing_lost(t);
	assert_int_equal(t->client.requests, 100);
	assert_int_equal(t->client.prompt_tokens, 1100);
	assert_int_equal(t->client.completion_tokens, 2000 + 99 * 100 / 2);
	assert_int_equal(t->seen.completions, 100);
	want(t, "\"finish_reason\":\"stop\"");
	want(t, "\"ttft_ms\":200,\"duration_ms\":300");
	want(t, "\"stream\":true");
}

static void tokens_of_open_streams(void *ctx, const struct record *r, int64_t fresh)
{
	int64_t *sum = ctx;

	(void)r;
	*sum += fresh;
}

static void long_stream(void **state)
{
	struct talk *t = *state;
	char usage[256];
	int64_t told = 0;

	begin(t);
	ask(t, 1, ASK_STREAM);
	talk_pass(t, WEIR_REQUEST, NOTHING);
	wire_headers(&t->side[1], 1, 0, SSE_HEAD);
	for (int i = 0; i < 10000; i++)
		wire_data(&t->side[1], 1, 0, DELTA);
	talk_pass(t, WEIR_RESPONSE, 997);
	assemble_open_streams(t->assemble, tokens_of_open_streams, &told);
	assert_int_equal(told, 10000);
	assert_true(assemble_stats(t->assemble)->bytes < 16384); /* of all that only the beginning is kept */
	snprintf(usage, sizeof(usage), USAGE, 10000);
	wire_data(&t->side[1], 1, H2_END_STREAM, usage);
	talk_pass(t, WEIR_RESPONSE, 997);
	assert_int_equal(t->client.completion_tokens, 10000);
	assert_int_equal(t->seen.told, 10000);
	nothing_lost(t);
}

static void without_usage(void **state)
{
	struct talk *t = *state;

	begin(t);
	ask(t, 1, ASK_STREAM);
	wire_headers(&t->side[1], 1, 0, SSE_HEAD);
	for (int i = 0; i < 7; i++)
		wire_data(&t->side[1], 1, 0, DELTA);
	wire_data(&t->side[1], 1, H2_END_STREAM, LAST "data: [DONE]\n\n");
	talk_pass(t, WEIR_REQUEST, NOTHING);
	talk_pass(t, WEIR_RESPONSE, NOTHING);
	assert_int_equal(t->client.estimated_tokens, 7);
	assert_int_equal(t->client.unreported, 1);
	want(t, "\"completion_tokens\":7");
	want(t, "\"estimated\":true");
}

/* Everything that RFC 9113 lets a peer write around its headers and data. */
static void odd_frames(void **state)
{
	struct talk *t = *state;
	uint8_t block[512], body[600];
	size_t n;

	begin(t);
	/* padding, priority, a block in four frames */
	n = wire_block(&t->side[0], REQUEST, block + 6, sizeof(block) - 6 - 9);
	block[0] = 9;
	memcpy(block + 1, "\0\0\0\0\20", 5);
	memset(block + 6 + 10, 0, 0);
	memmove(body, block, 6 + 10);
	memset(body + 16, 0xaa, 9);
	wire_frame(&t->side[0], H2_HEADERS, H2_PADDED | H2_WITH_PRIORITY, 1, body, 6 + 10 + 9);
	wire_frame(&t->side[0], H2_CONTINUATION, 0, 1, block + 16, 1);
	wire_frame(&t->side[0], H2_CONTINUATION, 0, 1, NULL, 0);
	wire_frame(&t->side[0], H2_CONTINUATION, H2_END_HEADERS, 1, block + 17, n - 11);
	body[0] = 200;
	memcpy(body + 1, ASK, strlen(ASK));
	memset(body + 1 + strlen(ASK), '"', 200);
	wire_frame(&t->side[0], H2_DATA, H2_PADDED, 1, body, 1 + strlen(ASK) + 200);
	wire_frame(&t->side[0], H2_PRIORITY, 0, 3, "\0\0\0\1\7", 5);
	wire_frame(&t->side[0], H2_WINDOW_UPDATE, 0, 0, "\0\0\1\0", 4);
	wire_frame(&t->side[0], H2_PING, 0, 0, "12345678", 8);
	wire_frame(&t->side[0], 0x10, 0, 0, "u=1", 3); /* PRIORITY_UPDATE, and a type nobody knows */
	wire_frame(&t->side[0], 0xfa, 0xff, 77, "??", 2);
	wire_headers(&t->side[0], 1, H2_END_STREAM, "x-trailer: 1\n");
	talk_pass(t, WEIR_REQUEST, 7);
	/* interim, promise, padded data, trailers */
	wire_headers(&t->side[1], 1, 0, ":status: 103\nlink: </x>\n");
	n = wire_block(&t->side[1], ":method: GET\n:scheme: http\n:authority: a\n:path: /pushed\n", block + 4, sizeof(block) - 4);
	memcpy(block, "\0\0\0\2", 4);
	wire_frame(&t->side[1], H2_PUSH_PROMISE, H2_END_HEADERS, 1, block, n + 4);
	wire_headers(&t->side[1], 2, 0, JSON_HEAD);
	wire_data(&t->side[1], 2, H2_END_STREAM, ANSWER);
	wire_headers(&t->side[1], 1, 0, JSON_HEAD);
	body[0] = 255;
	memcpy(body + 1, ANSWER, 200);
	memset(body + 201, '"', 255);
	wire_frame(&t->side[1], H2_DATA, H2_PADDED, 1, body, 456);
	wire_data(&t->side[1], 1, 0, &ANSWER[200]);
	wire_headers(&t->side[1], 1, H2_END_STREAM, "x-trailer: 1\n");
	talk_pass(t, WEIR_RESPONSE, 11);
	want(t, "\"prompt_tokens\":11,\"completion_tokens\":5");
	want(t, "\"max_tokens\":9,\"prompt_chars\":3");
	/* no body: HEAD, 204 */
	wire_headers(&t->side[0], 3, H2_END_STREAM, ":method: HEAD\n:scheme: http\n:path: /v1/models\n");
	wire_headers(&t->side[0], 5, H2_END_STREAM, ":method: DELETE\n:scheme: http\n:path: /v1/responses/x\n");
	talk_pass(t, WEIR_REQUEST, NOTHING);
	wire_headers(&t->side[1], 3, H2_END_STREAM, ":status: 200\ncontent-type: application/json\ncontent-length: 100\n");
	wire_headers(&t->side[1], 5, H2_END_STREAM, ":status: 204\n");
	talk_pass(t, WEIR_RESPONSE, NOTHING);
	talk_end(t);
	nothing_lost(t);
	assert_int_equal(t->client.requests, 3);
	assert_int_equal(t->client.status_2xx, 3);
	assert_int_equal(t->client.aborted, 0);
	assert_int_equal(t->client.completion_tokens, 5);
	assert_int_equal(t->seen.completions, 3);
}

static void errors(void **state)
{
	struct talk *t = *state;

	begin(t);
	for (uint32_t s = 1; s <= 7; s += 2)
		ask(t, s, ASK);
	talk_pass(t, WEIR_REQUEST, NOTHING);
	wire_headers(&t->side[1], 1, 0, ":status: 429\ncontent-type: application/json\n");
	wire_data(&t->side[1], 1, H2_END_STREAM, "{\"error\":{\"message\":\"slow down\"}}");
	wire_headers(&t->side[1], 3, 0, ":status: 503\n");
	wire_frame(&t->side[1], H2_DATA, H2_END_STREAM, 3, NULL, 0);
	wire_headers(&t->side[1], 5, 0, SSE_HEAD);
	wire_data(&t->side[1], 5, H2_END_STREAM, "data: {\"error\":{\"message\":\"gone\"}}\n\n");
	wire_frame(&t->side[1], H2_RST_STREAM, 0, 7, "\0\0\0\7", 4);
	talk_pass(t, WEIR_RESPONSE, NOTHING);
	assert_int_equal(t->client.status_4xx, 1);
	assert_int_equal(t->client.status_5xx, 1);
	assert_int_equal(t->client.stream_errors, 1);
	assert_int_equal(t->client.aborted, 1);
	nothing_lost(t);
}

static void aborted(void **state)
{
	struct talk *t = *state;

	begin(t);
	for (uint32_t s = 1; s <= 9; s += 2)
		ask(t, s, ASK_STREAM);
	talk_pass(t, WEIR_REQUEST, NOTHING);
	wire_headers(&t->side[1], 1, 0, SSE_HEAD);
	wire_data(&t->side[1], 1, 0, DELTA DELTA);
	/* all of it is there but the end of its stream, which the client does not wait for */
	wire_headers(&t->side[1], 3, 0, ":status: 200\ncontent-type: application/json\ncontent-length: 2\n");
	wire_data(&t->side[1], 3, 0, "{}");
	wire_headers(&t->side[1], 5, 0, ":status: 200\ncontent-type: application/json\ncontent-length: 2\n");
	wire_data(&t->side[1], 5, 0, "{}");
	talk_pass(t, WEIR_RESPONSE, NOTHING);
	wire_frame(&t->side[0], H2_RST_STREAM, 0, 1, "\0\0\0\10", 4);
	wire_frame(&t->side[0], H2_RST_STREAM, 0, 3, "\0\0\0\10", 4);
	talk_pass(t, WEIR_REQUEST, 13);
	assert_int_equal(t->client.aborted, 1);
	assert_int_equal(t->client.open, 3);
	wire_data(&t->side[1], 1, 0, DELTA); /* it crossed the reset */
	talk_pass(t, WEIR_RESPONSE, NOTHING);
	talk_end(t);
	assert_int_equal(t->client.requests, 5);
	assert_int_equal(t->client.aborted, 3);
	assert_int_equal(t->client.estimated_tokens, 2);
	assert_int_equal(t->client.open, 0);
	assert_int_equal(t->seen.completions, 5);
}

static void order(void **state)
{
	struct talk *t = *state;
	struct wire *w = &t->side[0];
	uint32_t at = w->seq;
	const size_t cut[] = { 0, 30, 40, 90, 91, 120, 0 };

	begin(t);
	ask(t, 1, ASK);
	/* pieces 1 3 2 2 5 4 6, while TCP waits for 2 and for 4 */
	const int by[] = { 0, 2, 1, 1, 4, 3, 5 };
	const size_t tcp[] = { 0, 1, 1, 1, 3, 3, 5 };

	for (size_t i = 0; i < ARRAY_SIZE(by); i++) {
		size_t from = cut[by[i]], to = by[i] == 5 ? w->n : cut[by[i] + 1];

		talk_event(t, WEIR_REQUEST, WEIR_RAW_TCP, at + (uint32_t)from, at + (uint32_t)cut[tcp[i]], w->p + from, to - from);
	}
	w->seq += (uint32_t)w->n;
	w->sent = w->n;
	answer(t, 1);
	talk_pass(t, WEIR_RESPONSE, NOTHING);
	talk_end(t);
	want(t, "\"model_name\":\"m-7b\"");
	want(t, "\"max_tokens\":9,\"prompt_chars\":3");
	nothing_lost(t);
}

static void gap_in_data(void **state)
{
	struct talk *t = *state;
	char usage[256];

	begin(t);
	ask(t, 1, ASK_STREAM);
	talk_pass(t, WEIR_REQUEST, NOTHING);
	wire_headers(&t->side[1], 1, 0, SSE_HEAD);
	wire_data(&t->side[1], 1, 0, DELTA);
	talk_pass(t, WEIR_RESPONSE, NOTHING);
	/* the inside of one frame is missing: nothing goes out of step */
	wire_data(&t->side[1], 1, 0, DELTA DELTA DELTA);
	t->side[1].n -= 40;
	talk_pass(t, WEIR_RESPONSE, t->side[1].n - t->side[1].sent - 100);
	t->side[1].n += 40;
	assert_int_equal(stats(t)->bad_frames, 0);
	/* whole frames are missing: found again with the next segment */
	wire_data(&t->side[1], 1, 0, DELTA);
	wire_data(&t->side[1], 1, 0, DELTA);
	talk_miss(t, WEIR_RESPONSE);
	wire_data(&t->side[1], 1, 0, DELTA);
	snprintf(usage, sizeof(usage), USAGE, 8);
	wire_data(&t->side[1], 1, 0, usage);
	wire_frame(&t->side[1], H2_DATA, H2_END_STREAM, 1, NULL, 0);
	talk_pass(t, WEIR_RESPONSE, NOTHING);
	assert_int_equal(t->client.completion_tokens, 8);
	assert_int_equal(t->client.aborted, 0);
	assert_int_equal(stats(t)->gaps, 1);
	assert_true(stats(t)->gap_bytes > 2 * strlen(DELTA));
	assert_int_equal(stats(t)->resyncs, 1);
	/* and the next exchange refers to what nobody knows any more: counted, and what is literal is used */
	assert_int_equal(stats(t)->undecodable, 0);
	ask(t, 3, ASK_STREAM);
	talk_pass(t, WEIR_REQUEST, NOTHING);
	wire_headers(&t->side[1], 3, 0, SSE_HEAD);
	wire_data(&t->side[1], 3, 0, DELTA);
	wire_data(&t->side[1], 3, H2_END_STREAM, usage);
	talk_pass(t, WEIR_RESPONSE, NOTHING);
	assert_int_equal(stats(t)->undecodable, 1); /* that it is an event stream */
	want(t, "\"prompt_tokens\":11,\"completion_tokens\":8");
	assert_int_equal(t->client.requests, 2);
	assert_int_equal(t->client.status_2xx, 2);
	assert_int_equal(t->client.completion_tokens, 16);
}

/* A connection that was there before us: what is new since then is understood, the rest is counted. */
static void attached_late(void **state)
{
	struct talk *t = *state;

	begin(t);
	exchange(t, 1, NOTHING);
	exchange(t, 3, NOTHING);
	t->conn++; /* the same bytes go on, for somebody who has seen nothing */
	t->client = (struct weir_client){ 0 };
	exchange(t, 5, NOTHING);
	assert_int_equal(t->client.requests, 1);
	assert_int_equal(t->client.status_2xx, 1);
	assert_int_equal(t->client.completion_tokens, 5);
	assert_true(stats(t)->undecodable > 0);
	/* what is said now is known from now on, by the same numbers that the peers use */
	for (uint32_t s = 7; s <= 9; s += 2) {
		wire_headers(&t->side[0], s, H2_END_STREAM, ":method: GET\n:scheme: http\n:authority: localhost\n:path: /v1/models/new\nuser-agent: test/2\n");
		talk_pass(t, WEIR_REQUEST, NOTHING);
		wire_headers(&t->side[1], s, 0, ":status: 404\ncontent-type: application/json\n");
		wire_data(&t->side[1], s, H2_END_STREAM, "{}");
		talk_pass(t, WEIR_RESPONSE, NOTHING);
		want(t, "\"user_agent\":\"test/2\"");
		want(t, "\"path\":\"/v1/models/new\"");
		want(t, "\"status\":404");
	}
	assert_int_equal(t->client.status_4xx, 2);
	/* in the middle of a stream, and in the middle of a frame */
	ask(t, 11, ASK_STREAM);
	wire_headers(&t->side[1], 11, 0, SSE_HEAD);
	wire_data(&t->side[1], 11, 0, DELTA);
	t->conn++;
	t->client = (struct weir_client){ 0 };
	t->side[0].sent = t->side[0].n - 20;
	t->side[1].sent = t->side[1].n - 20;
	talk_pass(t, WEIR_REQUEST, NOTHING);
	talk_pass(t, WEIR_RESPONSE, NOTHING);
	exchange(t, 13, NOTHING);
	assert_int_equal(t->client.requests, 1);
	assert_int_equal(t->client.completion_tokens, 5);
	assert_true(stats(t)->unframed_bytes >= 40);
}

/* Requests that nobody saw are known by their numbers. */
static void skipped(void **state)
{
	struct talk *t = *state;

	begin(t);
	exchange(t, 1, NOTHING);
	for (uint32_t s = 3; s <= 21; s += 2)
		ask(t, s, ASK);
	talk_miss(t, WEIR_REQUEST);
	exchange(t, 23, NOTHING);
	assert_int_equal(stats(t)->skipped, 10);
	assert_int_equal(t->client.requests, 12);
	assert_int_equal(t->client.lost, 10);
	answer(t, 5); /* counted already */
	talk_pass(t, WEIR_RESPONSE, NOTHING);
	assert_int_equal(t->client.requests, 12);
	assert_int_equal(t->client.status_2xx, 3);
	assert_int_equal(t->client.completion_tokens, 15);
	assert_int_equal(t->client.open, 0);
	assert_int_equal(t->client.lost, 10);
	assert_int_equal(t->client.lost_completion_tokens, 5);
	assert_int_equal(t->seen.completions, 2); /* with what is lost: all that was counted */
	/* without a gap numbers may be left out */
	exchange(t, 101, NOTHING);
	assert_int_equal(t->client.requests, 13);
	/* and none of it leaves more requests than bytes were missed */
	wire_frame(&t->side[0], H2_PING, 0, 0, "12345678", 8);
	talk_miss(t, WEIR_REQUEST);
	exchange(t, 0x7ffffffd, NOTHING);
	assert_int_equal(t->client.requests, 14 + 1);
}

static void upgraded(void **state)
{
	struct talk *t = *state;

	t->flags = WEIR_RAW_UPGRADED;
	t->request = 2;
	t->client = (struct weir_client){ .requests = 1, .open = 1 }; /* the kernel's */
	wire_frame(&t->side[1], H2_SETTINGS, 0, 0, NULL, 0);
	answer(t, 1);
	talk_pass(t, WEIR_RESPONSE, NOTHING);
	begin(t);
	exchange(t, 3, NOTHING);
	talk_end(t);
	assert_int_equal(t->client.requests, 2);
	assert_int_equal(t->client.status_2xx, 2);
	assert_int_equal(t->client.completion_tokens, 10);
	nothing_lost(t);
	/* all that is seen of another is its end */
	t->conn++;
	t->client = (struct weir_client){ .requests = 1, .open = 1 };
	talk_end(t);
	assert_int_equal(t->client.open, 0);
	assert_int_equal(t->client.aborted, 1);
}

static void shed(void **state)
{
	struct talk *t = *state;

	begin(t);
	assemble_set_shed(t->assemble, WEIR_SHED_RECORDS);
	exchange(t, 1, NOTHING);
	assert_int_equal(t->seen.arrivals + t->seen.completions, 0);
	assert_int_equal(t->client.lost, 1);
	assert_int_equal(t->client.lost_completion_tokens, 5);
	assert_int_equal(t->client.completion_tokens, 5);
	assemble_set_shed(t->assemble, WEIR_SHED_SLICES);
	exchange(t, 3, NOTHING);
	assert_int_equal(t->seen.completions, 1);
	want(t, "\"path\":\"/v1/chat/completions\",\"finish_reason\":\"stop\",\"request_id\":\"r-1\",\"prompt_tokens\":11");
	assert_null(strstr(t->seen.line.p, "max_tokens"));
	assemble_set_shed(t->assemble, WEIR_SHED_NONE);
	exchange(t, 5, NOTHING);
	want(t, "\"max_tokens\":9");
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest cases[] = {
		CASE(every_piece_size), CASE(prefaces), CASE(many_streams_at_once), CASE(long_stream), CASE(without_usage), CASE(odd_frames), CASE(errors), CASE(aborted),
		CASE(order), CASE(gap_in_data), CASE(attached_late), CASE(skipped), CASE(upgraded), CASE(shed),
	};

	if (automaton_build(&dfa) < 0)
		return 1;
	return cmocka_run_group_tests_name("http/2", cases, NULL, NULL);
}
