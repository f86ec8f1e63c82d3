/* Peers of HTTP/2 that want to hurt: memory stays bounded, everything is counted, and the next connection is none the worse. */
#include "player.h"
#include "wire.h"

#define REQUEST ":method: POST\n:scheme: http\n:authority: localhost\n:path: /v1/chat/completions\ncontent-type: application/json\n"
#define ANSWER "{\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":5}}"
#define ALL (1u << 14)

static struct talk t;

static const struct h2_stats *stats(void)
{
	assert_true(assemble_h2_stats(t.assemble)->bytes <= H2_BYTES_MAX);
	return assemble_h2_stats(t.assemble);
}

static void begin(void)
{
	talk_again(&t);
	wire_bytes(&t.side[0], PREFACE, strlen(PREFACE));
	wire_frame(&t.side[0], H2_SETTINGS, 0, 0, NULL, 0);
	wire_frame(&t.side[1], H2_SETTINGS, 0, 0, NULL, 0);
}

static int set_up(void **state)
{
	(void)state;
	talk_open(&t);
	begin();
	return 0;
}

/* After each: an honest peer is counted as ever, and when all are gone nothing is left of them. */
static int tear_down(void **state)
{
	struct weir_client before = t.client;

	(void)state;
	begin();
	wire_headers(&t.side[0], 1, 0, REQUEST);
	wire_data(&t.side[0], 1, H2_END_STREAM, "{\"model\":\"m\"}");
	talk_pass(&t, WEIR_REQUEST, ALL);
	wire_headers(&t.side[1], 1, 0, ":status: 200\ncontent-type: application/json\n");
	wire_data(&t.side[1], 1, H2_END_STREAM, ANSWER);
	talk_pass(&t, WEIR_RESPONSE, ALL);
	talk_end(&t);
	assert_int_equal(t.client.requests, before.requests + 1);
	assert_int_equal(t.client.status_2xx, before.status_2xx + 1);
	assert_int_equal(t.client.completion_tokens, before.completion_tokens + 5);
	talk_close(&t);
	return 0;
}

/* Passes what was written, and writes anew. */
static void flush(int dir)
{
	talk_pass(&t, dir, ALL);
	t.side[dir].n = t.side[dir].sent = 0;
}

/* A long field, named again and again by one byte each: 64 KiB that mean 190 MB. */
static void hpack_bomb(void **state)
{
	static uint8_t block[ALL];
	static char lines[3000];
	uint8_t first[8192];
	size_t n;

	(void)state;
	n = (size_t)snprintf(lines, sizeof(lines), "x-long: ");
	memset(lines + n, 'a', 2900);
	memcpy(lines + n + 2900, "\n", 2);
	n = wire_block(&t.side[0], lines, first, sizeof(first));
	wire_frame(&t.side[0], H2_HEADERS, H2_END_HEADERS | H2_END_STREAM, 1, first, n);
	memset(block, 0x80 | 62, sizeof(block));
	for (uint32_t s = 3; s < 43; s += 2) {
		wire_frame(&t.side[0], H2_HEADERS, H2_END_STREAM, s, block, sizeof(block));
		for (int i = 0; i < 2; i++)
			wire_frame(&t.side[0], H2_CONTINUATION, 0, s, block, sizeof(block));
		wire_frame(&t.side[0], H2_CONTINUATION, H2_END_HEADERS, s, block, sizeof(block));
		flush(WEIR_REQUEST);
		assert_true(stats()->bytes < 512u << 10);
	}
	assert_int_equal(t.client.requests, 21);
	assert_int_equal(stats()->cut_heads, 20);
	assert_int_equal(stats()->bad_blocks, 0);
	talk_end(&t);
	assert_int_equal(stats()->bytes, 0);
}

/* Tables of any size are asked for; ours stays what it is. */
static void table_sizes(void **state)
{
	static const uint8_t grow[] = { 0x3f, 0xff, 0xff, 0xff, 0x7f, 0x82, 0x86, 0x84 }, shrink[] = { 0x20, 0x82, 0x86, 0x84 };
	uint8_t block[2048];

	(void)state;
	wire_frame(&t.side[0], H2_HEADERS, H2_END_HEADERS | H2_END_STREAM, 1, grow, sizeof(grow));
	for (uint32_t s = 3; s < 2003; s += 2) {
		/* a new entry of 1,000 bytes each */
		block[0] = 0x40;
		block[1] = 1;
		block[2] = 'a';
		block[3] = 0x7f;
		block[4] = 0xe9;
		block[5] = 0x06;
		memset(block + 6, 'b', 1000);
		wire_frame(&t.side[0], H2_HEADERS, H2_END_HEADERS | H2_END_STREAM, s, block, 1006);
		wire_frame(&t.side[0], H2_RST_STREAM, 0, s, "\0\0\0\10", 4);
		flush(WEIR_REQUEST);
	}
	assert_true(stats()->bytes < 4 * H2_TABLE_MAX);
	wire_frame(&t.side[0], H2_HEADERS, H2_END_HEADERS | H2_END_STREAM, 2003, shrink, sizeof(shrink));
	flush(WEIR_REQUEST);
	assert_int_equal(stats()->bad_blocks, 0);
	assert_int_equal(t.client.requests, 1002);
	talk_end(&t);
}

static void continuation_flood(void **state)
{
	uint8_t block[1024];

	(void)state;
	memset(block, 0x82, sizeof(block));
	for (uint32_t s = 1; s < 7; s += 2) {
		wire_frame(&t.side[0], H2_HEADERS, H2_END_STREAM, s, "\x82\x86\x84", 3);
		for (int i = 0; i < 2000; i++) {
			wire_frame(&t.side[0], H2_CONTINUATION, 0, s, block, sizeof(block));
			wire_frame(&t.side[0], H2_CONTINUATION, 0, s, NULL, 0);
			flush(WEIR_REQUEST);
		}
		assert_true(stats()->bytes < 256u << 10);
		wire_frame(&t.side[0], H2_CONTINUATION, H2_END_HEADERS, s, NULL, 0);
		flush(WEIR_REQUEST);
	}
	assert_int_equal(stats()->long_blocks, 3);
	assert_int_equal(t.client.requests, 3);
	/* one that never ends */
	wire_frame(&t.side[0], H2_HEADERS, 0, 7, "\x82", 1);
	wire_frame(&t.side[0], H2_DATA, 0, 7, "x", 1);
	wire_frame(&t.side[0], H2_CONTINUATION, H2_END_HEADERS, 7, "\x82", 1);
	flush(WEIR_REQUEST);
	assert_int_equal(stats()->bad_blocks, 1);
	talk_end(&t);
}

static void stream_numbers(void **state)
{
	static const uint32_t numbers[] = { 9, 7, 9, 8, 2, 0x7ffffffe, 11, 1, 0x7fffffff, 0x7fffffff, 13 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		wire_frame(&t.side[0], H2_HEADERS, H2_END_HEADERS | H2_END_STREAM, numbers[i], "\x82\x86\x84", 3);
	flush(WEIR_REQUEST);
	assert_int_equal(t.client.requests, 3); /* 9, 11 and the last there is */
	assert_int_equal(stats()->skipped, 0);
	assert_int_equal(stats()->open_streams, 3);
	talk_end(&t);
	assert_int_equal(t.client.open, 0);
}

static void tiny_frames(void **state)
{
	(void)state;
	wire_headers(&t.side[0], 1, 0, REQUEST);
	for (int i = 0; i < 250000; i++) {
		wire_frame(&t.side[0], H2_DATA, 0, 1, NULL, 0);
		wire_frame(&t.side[0], H2_PING, 0, 0, "12345678", 8);
		wire_frame(&t.side[0], 0x20, 0xff, 5, NULL, 0);
		wire_frame(&t.side[0], H2_DATA, 0, 1, "x", 1);
		if (t.side[0].n > 65536)
			flush(WEIR_REQUEST);
	}
	flush(WEIR_REQUEST);
	assert_true(stats()->bytes < 65536);
	assert_true(assemble_stats(t.assemble)->bytes < 65536);
	assert_int_equal(t.client.requests, 1);
	assert_int_equal(stats()->bad_frames, 0);
	talk_end(&t);
}

/* "Rapid reset": each of them is a request. */
static void reset_flood(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 100000; i++) {
		wire_frame(&t.side[0], H2_HEADERS, H2_END_HEADERS | H2_END_STREAM, 2 * i + 1, "\x82\x86\x84", 3);
		wire_frame(&t.side[0], H2_RST_STREAM, 0, 2 * i + 1, "\0\0\0\10", 4);
		if (t.side[0].n > 65536)
			flush(WEIR_REQUEST);
	}
	flush(WEIR_REQUEST);
	assert_int_equal(t.client.requests, 100000);
	assert_int_equal(t.client.aborted, 100000);
	assert_int_equal(t.client.open, 0);
	assert_int_equal(t.seen.completions, 100000);
	assert_int_equal(stats()->open_streams, 0);
	talk_end(&t);
}

static void streams_without_end(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 5000; i++)
		wire_frame(&t.side[0], H2_HEADERS, H2_END_HEADERS, 2 * i + 1, "\x82\x86\x84", 3);
	flush(WEIR_REQUEST);
	assert_int_equal(t.client.requests, 5000);
	assert_int_equal(stats()->open_streams, H2_STREAMS_MAX);
	assert_int_equal(t.client.lost, 5000 - H2_STREAMS_MAX);
	assert_int_equal(stats()->evicted_streams, 5000 - H2_STREAMS_MAX);
	assert_int_equal(t.client.open, H2_STREAMS_MAX);
	talk_end(&t);
	assert_int_equal(t.client.open, 0);
	assert_int_equal(stats()->bytes, 0);
}

/* More connections than there is room for: the oldest give way, and what they had open is counted. */
static void connections_without_end(void **state)
{
	static const char frames[] = PREFACE "\0\0\3\1\5\0\0\0\1\x82\x86\x84";
	uint64_t n = H2_CONNS_MAX + 1000;

	(void)state;
	for (uint64_t i = 0; i < n; i++) {
		t.conn++;
		talk_event(&t, WEIR_REQUEST, 0, 1, 0, (const uint8_t *)frames, sizeof(frames) - 1);
		assert_true(stats()->open_connections <= H2_CONNS_MAX);
	}
	assert_int_equal(t.client.requests, n);
	assert_true(stats()->evicted_connections >= 1000);
	assert_int_equal(t.client.lost, stats()->evicted_streams);
	assert_int_equal(t.client.open, n - t.client.lost);
}

/* Bytes that pretend to come before others, without end. */
static void ahead_of_their_turn(void **state)
{
	uint8_t piece[1000] = { 0 };

	(void)state;
	talk_pass(&t, WEIR_REQUEST, ALL);
	for (uint32_t i = 0; i < 1000; i++) {
		talk_event(&t, WEIR_REQUEST, WEIR_RAW_TCP, t.side[0].seq + 100 + 2000 * (i % 500), t.side[0].seq, piece, sizeof(piece));
		assert_true(stats()->bytes < 4 * H2_AHEAD_MAX);
	}
	talk_end(&t);
	assert_int_equal(stats()->bytes, 0);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest cases[] = {
		CASE(hpack_bomb), CASE(table_sizes), CASE(continuation_flood), CASE(stream_numbers), CASE(tiny_frames), CASE(reset_flood), CASE(streams_without_end),
		CASE(connections_without_end), CASE(ahead_of_their_turn),
	};

	if (automaton_build(&dfa) < 0)
		return 1;
	return cmocka_run_group_tests_name("http/2, hostile peers", cases, NULL, NULL);
}
