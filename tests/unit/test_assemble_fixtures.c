/* Whole exchanges to records: the fixtures at every split of request and response, estimates that learn, compressed bodies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <brotli/encode.h>
#include <zlib.h>
#include <zstd.h>

#include "decode/dialect.h"
#include "decode/http.h"
#include "unit/player.h"

#define DIALECT_ROWS_MAX 256

static unsigned wrongs;

/* What every fixture must speak about, if only to deny it. */
static const char *const spoken_of[] = { "\"kind\"", "\"status\"", "\"model_name\"", "\"stream\"", "\"finish_reason\"", "\"prompt_tokens\"", "\"completion_tokens\"" };

static unsigned unspoken(const struct player *p, const struct fixture *f)
{
	unsigned n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(spoken_of); i++) {
		const char *at = strstr(p->seen.line.p, spoken_of[i]);
		bool spoken = false;

		for (size_t k = 0; k < f->wants; k++)
			spoken |= strstr(f->want[k], spoken_of[i]) != NULL;
		if (spoken)
			continue;
		print_error("%s: nothing is expected of %s; the record has %.*s\n", f->name, spoken_of[i], at ? (int)strcspn(at, ",}") : 4, at ? at : "none");
		n++;
	}
	return n;
}

struct each {
	void (*fn)(struct player *p, struct fixture *f);
};

static void play_one(struct fixture *f, void *ctx)
{
	/* each for itself: what one teaches must not change another's estimate */
	struct player p = { 0 };

	player_open(&p);
	((const struct each *)ctx)->fn(&p, f);
	player_close(&p);
}

static void each_fixture(void (*fn)(struct player *p, struct fixture *f))
{
	static struct fixture f;

	assert_true(fixtures_each(&f, play_one, &(struct each){ fn }) >= 140);
}

/* What the server is from its next request on: as the fixture's line with an @ says, else nothing. */
static unsigned wrong_software(const struct player *p, const struct fixture *f)
{
	char want[128];
	const char *software = NULL;

	for (size_t i = 0; i < f->wants; i++)
		if (*f->want[i] == '@')
			software = f->want[i] + 1;
	snprintf(want, sizeof(want), "\"server\":\"127.0.0.1:8000%s%s\"", software ? " " : "", software ? software : "");
	if (strstr(p->seen.line.p, want) && strstr(p->seen.arrival.p, want))
		return 0;
	print_error("%s: want %s in %s", f->name, want, p->seen.line.p);
	return 1;
}

static void play_whole(struct player *p, struct fixture *f)
{
	play(p, f, 0, 0, 0);
	wrongs += wrong(p, f);
	wrongs += unspoken(p, f);
	/* the record's own fields, the same in all */
	assert_non_null(strstr(p->seen.line.p, "\"timestamp\":1005"));
	assert_non_null(strstr(p->seen.line.p, "\"client_ip\":\"2001:db8::7\""));
	assert_non_null(strstr(p->seen.line.p, "\"server\":\"127.0.0.1:8000\""));
	assert_non_null(strstr(p->seen.line.p, "\"host\":\"gpu-1\""));
	assert_non_null(strstr(p->seen.line.p, "\"duration_ms\":250"));
	play(p, f, 0, 0, 0);
	wrongs += wrong_software(p, f);
}

static void play_all_splits(struct player *p, struct fixture *f)
{
	char *whole;

	/* twice: from the second on the server's software is known */
	play(p, f, 0, 0, 0);
	play(p, f, 0, 0, 0);
	whole = strdup(p->seen.line.p);
	for (size_t split = 1; split < f->request_len; split++) {
		play(p, f, split, 0, 0);
		if (strcmp(whole, p->seen.line.p))
			print_error("%s: request split at %zu\n", f->name, split);
		assert_string_equal(whole, p->seen.line.p);
	}
	for (size_t split = 1; split < f->response_len; split++) {
		play(p, f, 0, split, 0);
		if (strcmp(whole, p->seen.line.p))
			print_error("%s: response split at %zu of %zu\n", f->name, split, f->response_len);
		assert_string_equal(whole, p->seen.line.p);
	}
	for (size_t step = 1; step < 100; step = step * 2 + 1) {
		play(p, f, 0, 0, step);
		if (strcmp(whole, p->seen.line.p))
			print_error("%s: steps of %zu\n", f->name, step);
		assert_string_equal(whole, p->seen.line.p);
	}
	free(whole);
}

static void reads_every_fixture(void **unused)
{
	(void)unused;
	wrongs = 0;
	each_fixture(play_whole);
	assert_int_equal(wrongs, 0);
}

static unsigned row_seen[DIALECT_ROWS_MAX];

static void note_row(struct fixture *f, void *ctx)
{
	const struct dialect *rows, *d;
	struct http_head h;
	size_t n;

	(void)ctx;
	rows = dialect_rows(&n);
	assert_true(n <= DIALECT_ROWS_MAX);
	assert_int_equal(http_parse_head((struct span){ f->request, f->request_len }, &h), 0);
	d = dialect_find(h.method, h.path, NULL);
	if (d >= rows && d < rows + n)
		row_seen[d - rows]++;
}

/* A row without a fixture is a claim. */
static void has_a_fixture_for_every_row(void **unused)
{
	static struct fixture f;
	const struct dialect *rows;
	unsigned without = 0;
	size_t n;

	(void)unused;
	assert_true(fixtures_each(&f, note_row, NULL) > 0);
	rows = dialect_rows(&n);
	for (size_t i = 0; i < n; i++) {
		if (!row_seen[i])
			print_error("no fixture for %s\n", rows[i].path);
		without += !row_seen[i];
	}
	assert_int_equal(without, 0);
}

static void reads_every_fixture_at_every_split(void **unused)
{
	(void)unused;
	each_fixture(play_all_splits);
}

/* A stream of `events` deltas, with usage or without; what the record says of its completion tokens. */
static int64_t play_stream(struct player *p, unsigned events, int64_t reported, bool cut)
{
	static struct fixture f;
	int at, body;
	const char *got;

	snprintf(f.name, sizeof(f.name), "made");
	f.request_len = (size_t)sprintf(f.request, "POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 13\r\n\r\n{\"model\":\"m\"}");
	at = body = sprintf(f.response, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %s\r\n\r\n", cut ? "999999" : "      ");
	for (unsigned i = 0; i < events; i++)
		at += sprintf(f.response + at, "data: {\"choices\":[{\"delta\":{\"content\":\"a b\"}}]}\n\n");
	if (reported >= 0)
		at += sprintf(f.response + at, "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":%lld}}\n\n", (long long)reported);
	f.response_len = (size_t)at;
	if (!cut) {
		char length[8];

		snprintf(length, sizeof(length), "%6d", at - body);
		memcpy(f.response + body - 10, length, 6);
	}
	play(p, &f, 0, 0, 0);
	assert_int_equal(p->seen.completions, 1);
	got = strstr(p->seen.line.p, "\"completion_tokens\":");
	assert_non_null(got);
	assert_true((strstr(p->seen.line.p, "\"estimated\":true") != NULL) == (reported < 0));
	return strtoll(got + strlen("\"completion_tokens\":"), NULL, 10);
}

/* Streams with usage say how many tokens an event holds; the estimate follows, reported counts never do. */
static void calibrates_its_estimates(void **unused)
{
	struct player p = { 0 };

	(void)unused;
	player_open(&p);
	assert_int_equal(play_stream(&p, 40, -1, false), 40);
	for (int i = 0; i < 20; i++)
		assert_int_equal(play_stream(&p, 30 + (unsigned)i, 3 * (30 + i), false), 3 * (30 + i));
	assert_in_range(play_stream(&p, 40, -1, false), 118, 122);
	assert_in_range(play_stream(&p, 40, -1, true), 118, 122);
	assert_int_equal(play_stream(&p, 40, 41, false), 41);
	assert_int_equal(play_stream(&p, 40, 4000, false), 4000);
	assert_int_equal(estimate_learnt(assemble_estimate(p.assemble)), 22);
	player_close(&p);
}

/* ---- compressed bodies ---------------------------------------------------------------------------- */
/* `window` of zlib, or one of these */
enum { BR = 1000, ZSTD, ZSTD_FRAMES };

static size_t compress_zstd(const char *text, size_t n, char *out, size_t cap)
{
	size_t len = ZSTD_compress(out, cap, text, n, 3);

	assert_false(ZSTD_isError(len));
	return len;
}

static size_t compress_body(const char *text, size_t n, int window, char *out, size_t cap)
{
	z_stream z = { 0 };
	size_t len = cap;

	if (window == BR) {
		assert_true(BrotliEncoderCompress(5, 22, BROTLI_MODE_TEXT, n, (const uint8_t *)text, &len, (uint8_t *)out));
		return len;
	}
	if (window == ZSTD)
		return compress_zstd(text, n, out, cap);
	if (window == ZSTD_FRAMES) {
		len = compress_zstd(text, n / 2, out, cap);
		return len + compress_zstd(text + n / 2, n - n / 2, out + len, cap - len);
	}
	assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, window, 8, Z_DEFAULT_STRATEGY), Z_OK);
	z.next_in = (unsigned char *)(uintptr_t)text;
	z.avail_in = (uInt)n;
	z.next_out = (unsigned char *)out;
	z.avail_out = (uInt)cap;
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	deflateEnd(&z);
	return z.total_out;
}

static void make_encoded(struct fixture *f, const char *type, const char *encoding, int window, const char *text, size_t n, bool chunked)
{
	static char packed[FIXTURE_MAX];
	size_t len = compress_body(text, n, window, packed, sizeof(packed) / 2);
	int at;

	snprintf(f->name, sizeof(f->name), "%s", encoding);
	f->request_len = (size_t)sprintf(f->request, "POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 13\r\n\r\n{\"model\":\"m\"}");
	at = sprintf(f->response, "HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Encoding: %s\r\n", type, encoding);
	if (!chunked) {
		at += sprintf(f->response + at, "Content-Length: %zu\r\n\r\n", len);
		memcpy(f->response + at, packed, len);
		f->response_len = (size_t)at + len;
		return;
	}
	at += sprintf(f->response + at, "Transfer-Encoding: chunked\r\n\r\n");
	for (size_t i = 0; i < len;) {
		size_t step = MIN(11, len - i);

		at += sprintf(f->response + at, "%zX\r\n", step);
		memcpy(f->response + at, packed + i, step);
		at += (int)step + sprintf(f->response + at + step, "\r\n");
		i += step;
	}
	f->response_len = (size_t)(at + sprintf(f->response + at, "0\r\n\r\n"));
}

static void unpacks_what_the_kernel_cannot_read(void **unused)
{
	static const char sse[] = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"b\"},\"finish_reason\":\"stop\"}]}\n\n"
				  "data: {\"model\":\"m-1\",\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n";
	static const char json[] = "{\"model\":\"m-1\",\"choices\":[{\"message\":{\"content\":\"ab\"},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2}}";
	static const struct {
		const char *encoding;
		int window;
	} ways[] = { { "gzip", 31 }, { "x-gzip", 31 }, { "deflate", 15 }, { "deflate", -15 },
	       { "br", BR },   { "BR", BR },     { "zstd", ZSTD },  { "zstd", ZSTD_FRAMES } };
	static struct fixture f;
	struct player p = { 0 };

	(void)unused;
	player_open(&p);
	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		for (int kind = 0; kind < 4; kind++) {
			bool stream = kind & 1, chunked = kind & 2;

			make_encoded(&f, stream ? "text/event-stream" : "application/json", ways[i].encoding, ways[i].window, stream ? sse : json,
				     stream ? sizeof(sse) - 1 : sizeof(json) - 1, chunked);
			for (size_t split = 0; split < f.response_len; split++) {
				play(&p, &f, 0, split, 0);
				f.wants = 0;
				f.want[f.wants++] = (char[]){ "\"prompt_tokens\":9" };
				f.want[f.wants++] = (char[]){ "\"completion_tokens\":2" };
				f.want[f.wants++] = (char[]){ "\"finish_reason\":\"stop\"" };
				f.want[f.wants++] = (char[]){ "\"model_name\":\"m-1\"" };
				f.want[f.wants++] = (char[]){ "!\"estimated\"" };
				f.want[f.wants++] = stream ? (char[]){ "\"stream\":true" } : (char[]){ "\"stream\":false" };
				check_record(&p, &f);
			}
		}
	}
	assert_true(assemble_stats(p.assemble)->unpacked > 1000);
	assert_int_equal(assemble_stats(p.assemble)->not_unpacked, 0);

	/* not known: nothing can be said, nothing is made up */
	make_encoded(&f, "application/json", "compress", 31, json, sizeof(json) - 1, false);
	play(&p, &f, 0, 0, 0);
	assert_int_equal(assemble_stats(p.assemble)->not_unpacked, 1);
	assert_null(strstr(p.seen.line.p, "tokens\":"));
	/* broken */
	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		uint64_t before = assemble_stats(p.assemble)->not_unpacked;

		if (ways[i].window < 0 || ways[i].window >= BR)
			continue; /* without a checksum some nonsense is as good as any text */
		make_encoded(&f, "application/json", ways[i].encoding, ways[i].window, json, sizeof(json) - 1, false);
		memset(f.response + f.response_len - 60, 0x55, 50);
		play(&p, &f, 0, 0, 0);
		assert_int_equal(assemble_stats(p.assemble)->not_unpacked, before + 1);
	}
	player_close(&p);
}

/* A body of zeros; it unpacks to far more than is kept. */
static void one_bomb(const char *encoding, int window, const char *zeros, size_t n)
{
	struct seen s;
	struct assemble *a = assemble_for(&s, 0, 0);
	_Alignas(8) static char event[sizeof(struct weir_slice) + 4096];
	struct weir_slice *e = (struct weir_slice *)(void *)event;
	struct weir_done d = { .type = WEIR_EVENT_DONE, .conn = 1, .status = 200, .flags = WEIR_DONE_ENCODED };
	static char packed[80000], message[81000];
	size_t len = compress_body(zeros, n, window, packed, sizeof(packed)), at;

	at = (size_t)sprintf(message, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: %s\r\nContent-Length: %zu\r\n\r\n", encoding, len);
	memcpy(message + at, packed, len);
	for (size_t off = 0; off < at + len; off += 4096) {
		size_t take = MIN(4096, at + len - off);

		*e = (struct weir_slice){ .type = WEIR_EVENT_SLICE, .dir = WEIR_RESPONSE, .conn = 1, .off = off, .len = (__u16)take, .head_len = (__u32)at };
		memcpy(event + sizeof(*e), message + off, take);
		assert_int_equal(assemble_event(a, event, sizeof(event)), 0);
	}
	assert_int_equal(assemble_event(a, &d, sizeof(d)), 0);
	assert_int_equal(assemble_stats(a)->not_unpacked, 1);
	assert_int_equal(s.completions, 1);
	assemble_free(a);
	seen_done(&s);
}

static void stops_at_a_bomb(void **unused)
{
	const size_t n = 64u << 20;
	char *zeros = calloc(1, n);

	(void)unused;
	assert_non_null(zeros);
	one_bomb("gzip", 31, zeros, n);
	one_bomb("br", BR, zeros, n);
	one_bomb("zstd", ZSTD, zeros, n);
	free(zeros);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(has_a_fixture_for_every_row),
		cmocka_unit_test(reads_every_fixture),
		cmocka_unit_test(reads_every_fixture_at_every_split),
		cmocka_unit_test(calibrates_its_estimates),
		cmocka_unit_test(unpacks_what_the_kernel_cannot_read),
		cmocka_unit_test(stops_at_a_bomb),
	};

	if (automaton_build(&dfa) < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
