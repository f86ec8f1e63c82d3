/*
 * Ring events to records. The fixtures go through the kernel's own meter, compiled for user space (capture/soft.h), at
 * every split of request and response; what loss, repetition, hostile lengths and pressure do is tested by hand-made events.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <brotli/encode.h>
#include <zlib.h>
#include <zstd.h>

#include "base/str.h"
#include "capture/soft.h"
#include "decode/assemble.h"
#include "decode/automaton.h"
#include "fixture_http.h"

static struct weir_automaton dfa;
static struct weir_control control;

struct seen {
	unsigned arrivals, completions, arrived;
	int64_t told; /* of the last completion */
	enum record_kind kind;
	struct str line; /* the last completion as JSON */
	struct str arrival;
};

static void on_arrival(void *ctx, const struct record *r)
{
	struct seen *s = ctx;

	s->arrivals++;
	str_reset(&s->arrival);
	record_write_json(&s->arrival, r);
}

static void on_complete(void *ctx, const struct record *r, bool arrived, int64_t told)
{
	struct seen *s = ctx;

	s->completions++;
	s->arrived += arrived;
	s->told = told;
	s->kind = r->kind;
	str_reset(&s->line);
	record_write_json(&s->line, r);
}

static struct assemble *assemble_for(struct seen *s, uint32_t max_open, size_t max_bytes)
{
	struct assemble_opts opts = { .automaton = &dfa, .host = "gpu-1", .key = "0123456789abcdef", .max_open = max_open, .max_bytes = max_bytes,
				      .arrival = on_arrival, .complete = on_complete, .ctx = s };
	struct assemble *a;

	memset(s, 0, sizeof(*s));
	assert_int_equal(assemble_new(&opts, &a), 0);
	assemble_set_clock(a, 1000 * INT64_C(1000000000));
	return a;
}

static void seen_done(struct seen *s)
{
	str_done(&s->line);
	str_done(&s->arrival);
}

/* ---- the meter in user space ---------------------------------------------------------------------- */
static int store_load(void *ctx, const struct weir_client_key *key, struct weir_client *ret)
{
	(void)ctx, (void)key, (void)ret;
	return -ENOENT;
}
static int store_save(void *ctx, const struct weir_client_key *key, const struct weir_client *value)
{
	(void)ctx, (void)key, (void)value;
	return 0;
}
static void store_stat(void *ctx, enum weir_stat which, uint64_t value)
{
	(void)ctx, (void)which, (void)value;
}
static bool store_is_local(void *ctx, const uint8_t addr[16])
{
	(void)ctx, (void)addr;
	return false;
}

static void on_event(void *ctx, const void *data, size_t n)
{
	assert_int_equal(assemble_event(ctx, data, n), 0);
}

struct player {
	struct soft *soft;
	struct assemble *assemble;
	struct seen seen;
	uint16_t port; /* one connection after another */
	uint32_t seq[2];
};

static void player_open(struct player *p)
{
	struct soft_opts opts = { .automaton = &dfa, .control = &control, .store = { store_load, store_save, store_save, store_stat, store_is_local, NULL }, .event = on_event };

	p->assemble = assemble_for(&p->seen, 0, 0);
	opts.ctx = p->assemble;
	assert_int_equal(soft_open(&opts, &p->soft), 0);
	p->port = 1024;
}

static void player_close(struct player *p)
{
	assert_int_equal(assemble_stats(p->assemble)->open, 0);
	soft_free(p->soft);
	assemble_free(p->assemble);
	seen_done(&p->seen);
}

static void player_connect(struct player *p)
{
	p->port++;
	p->seq[WEIR_REQUEST] = 100;
	p->seq[WEIR_RESPONSE] = 0xffffff00u; /* wraps in the middle */
	p->seen.arrivals = p->seen.completions = p->seen.arrived = 0;
}

static void player_send(struct player *p, int dir, const char *data, size_t n, uint64_t ts, uint8_t flags)
{
	struct weir_tap *t = calloc(1, sizeof(*t) + n);

	assert_non_null(t);
	t->ts = ts;
	t->key = (struct weir_conn_key){ .netns = 1, .lport = 8000, .rport = p->port, .laddr = { [10] = 0xff, 0xff, 127, 0, 0, 1 }, .raddr = { 0x20, 1, 0xd, 0xb8, [15] = 7 } };
	t->seq = p->seq[dir];
	t->len = (uint32_t)n;
	t->tcp.fresh = p->seq[dir] == 100;
	t->dir = (uint8_t)dir;
	t->flags = flags;
	if (n)
		memcpy(t->data, data, n);
	p->seq[dir] += (uint32_t)n;
	assert_int_equal(soft_segment(p->soft, t, sizeof(*t) + n), 0);
	soft_flush(p->soft);
	free(t);
}

#define MS UINT64_C(1000000)

/* One exchange; `step` bytes per segment, or cut in two at `split`. */
static void play(struct player *p, const struct fixture *f, size_t split_request, size_t split_response, size_t step)
{
	player_connect(p);
	for (int dir = WEIR_REQUEST; dir <= WEIR_RESPONSE; dir++) {
		const char *data = dir == WEIR_REQUEST ? f->request : f->response;
		size_t n = dir == WEIR_REQUEST ? f->request_len : f->response_len, split = dir == WEIR_REQUEST ? split_request : split_response;
		uint64_t ts = dir == WEIR_REQUEST ? 5000 * MS : 5250 * MS;

		for (size_t at = 0; at < n;) {
			size_t len = step ? MIN(step, n - at) : at < split ? split - at : n - at;

			player_send(p, dir, data + at, len, ts, 0);
			at += len;
		}
	}
	player_send(p, WEIR_RESPONSE, NULL, 0, 5300 * MS, WEIR_TAP_FIN);
	player_send(p, WEIR_REQUEST, NULL, 0, 5300 * MS, WEIR_TAP_FIN);
}

/* Says all that is wrong, of all fixtures, before the test fails. */
static unsigned wrong(const struct player *p, const struct fixture *f)
{
	unsigned n = 0;

	if (p->seen.completions != 1 || p->seen.arrivals != 1 || p->seen.arrived != 1) {
		print_error("%s: %u arrivals, %u completions\n", f->name, p->seen.arrivals, p->seen.completions);
		return 1;
	}
	for (size_t i = 0; i < f->wants; i++) {
		const char *want = f->want[i];
		bool not = *want == '!', has = strstr(p->seen.line.p, want + not ) != NULL;

		if (has != not || *want == '@')
			continue;
		print_error("%s: want %s in %s", f->name, want, p->seen.line.p);
		n++;
	}
	return n;
}

static void check_record(const struct player *p, const struct fixture *f)
{
	assert_int_equal(wrong(p, f), 0);
}

static unsigned wrongs;

static void each_fixture(void (*fn)(struct player *p, struct fixture *f))
{
	static struct fixture f;
	struct player p = { 0 };
	struct dirent **names;
	int n = scandir(FIXTURE_DIR, &names, NULL, alphasort), done = 0;

	assert_true(n > 0);
	for (int i = 0; i < n; i++) {
		char path[512];

		if (strstr(names[i]->d_name, ".http")) {
			snprintf(path, sizeof(path), FIXTURE_DIR "/%s", names[i]->d_name);
			snprintf(f.name, sizeof(f.name), "%.60s", names[i]->d_name);
			if (fixture_read(path, &f) < 0)
				print_error("%s is no fixture\n", path), fail();
			/* each for itself: what one teaches must not change another's estimate */
			p = (struct player){ 0 };
			player_open(&p);
			fn(&p, &f);
			player_close(&p);
			done++;
		}
		free(names[i]);
	}
	free(names);
	assert_true(done >= 120);
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
	/* the record's own fields, the same in all */
	assert_non_null(strstr(p->seen.line.p, "\"timestamp\":1005"));
	assert_non_null(strstr(p->seen.line.p, "\"client_ip\":\"2001:db8::7\""));
	assert_non_null(strstr(p->seen.line.p, "\"server\":\"127.0.0.1:8000\""));
	assert_non_null(strstr(p->seen.line.p, "\"host\":\"gpu-1\""));
	assert_non_null(strstr(p->seen.line.p, "\"duration_ms\":250"));
	play(p, f, 0, 0, 0);
	wrongs += wrong_software(p, f);
}

/* Takes a text member out of a line. */
static void without(char *line, const char *key)
{
	char *at = strstr(line, key), *end = at ? strchr(at + strlen(key), '"') : NULL;

	if (end)
		memmove(at, end + 2, strlen(end + 2) + 1);
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
		/* Beyond its first KiB the kernel sends up only the segments in which something was seen: of tiny ones the reason's
		 * text is not among them. Counts are the kernel's own and stay. */
		if (f->response_len > WEIR_SLICE_TAIL) {
			without(whole, "\"finish_reason\":\"");
			without(p->seen.line.p, "\"finish_reason\":\"");
		}
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

/* ---- by hand -------------------------------------------------------------------------------------- */
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

	(void)unused;
	for (uint64_t conn = 1; conn <= 2; conn++) {
		assert_int_equal(slice(a, conn, 0, WEIR_REQUEST, WEIR_SLICE_HEAD_DONE, 0, sizeof(REQUEST_HEAD) - 1, REQUEST_HEAD), 0);
		assert_non_null(strstr(s.arrival.p, "\"server\":\"[::]:80\""));
	}
	assert_null(assemble_software(a, &at));
	for (uint64_t conn = 1; conn <= 3; conn++) {
		struct weir_done d = { .type = WEIR_EVENT_DONE, .status = 200, .conn = conn, .key = at };

		if (conn == 3)
			assert_int_equal(slice(a, conn, 0, WEIR_REQUEST, WEIR_SLICE_HEAD_DONE, 0, sizeof(REQUEST_HEAD) - 1, REQUEST_HEAD), 0);
		assert_int_equal(slice(a, conn, 0, WEIR_RESPONSE, WEIR_SLICE_HEAD_DONE | WEIR_SLICE_MSG_DONE, 0, sizeof(ANSWER_HEAD) - 3, ANSWER_HEAD), 0);
		assert_int_equal(finish(a, &d), 0);
		assert_has(&s, conn < 3 ? "\"server\":\"[::]:80\"" : "\"server\":\"[::]:80 weir-test/1.0\"");
		assert_string_equal(assemble_software(a, &at), "weir-test/1.0");
	}
	assert_non_null(strstr(s.arrival.p, "\"server\":\"[::]:80 weir-test/1.0\""));
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
		cmocka_unit_test(reads_every_fixture),
		cmocka_unit_test(reads_every_fixture_at_every_split),
		cmocka_unit_test(calibrates_its_estimates),
		cmocka_unit_test(unpacks_what_the_kernel_cannot_read),
		cmocka_unit_test(stops_at_a_bomb),
		cmocka_unit_test(completes_without_slices),
		cmocka_unit_test(keeps_the_label_of_the_arrival),
		cmocka_unit_test(tells_of_open_streams),
		cmocka_unit_test(reads_both_ends_of_a_long_request),
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
