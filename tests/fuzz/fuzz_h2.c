/*
 * Any bytes, in any pieces, of one to four connections of HTTP/2, with holes, repetitions and ends: nothing leaks, nothing is read out of
 * bounds, limits hold, and what was counted adds up.
 *
 * Input: pieces of {how, whose, length, bytes}. how: bit 0 direction, 1 a hole before it, 2 it repeats what came before, 3 it was
 * lost on the ring, 4 TCP's view known, 5 the connection ends after it, 6 bytes are a whole frame to be made of {type, flags, stream,
 * payload}, 7 the clock moves. Lengths from 232 on stand for whole phrases, so that real exchanges come about soon.
 */
#include "base/str.h"
#include "decode/assemble.h"
#include "decode/automaton.h"
#include "decode/h2.h"
#include "decode/h2_frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define CONNS 4
#define PHRASE_FIRST 232
#define S(literal) { literal, sizeof(literal) - 1 }

static const struct span phrases[] = {
	S("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
	S("\0\0\0\4\0\0\0\0\0"),
	S("\0\0\6\4\0\0\0\0\0\0\1\0\1\0\0"),
	/* :method POST, :scheme http, :path /v1/chat/completions, content-type */
	S("\0\0\54\1\4\0\0\0\1\x83\x86\x44\x14/v1/chat/completions\x5f\x10" "application/json"),
	S("\0\0\20\0\1\0\0\0\1{\"messages\":\"a\"}"),
	S("\0\0\4\1\5\0\0\0\3\x82\x86\x84\xbe"),
	/* :status 200, content-type application/json; text/event-stream */
	S("\0\0\23\1\4\0\0\0\1\x88\x5f\x10" "application/json"),
	S("\0\0\62\0\1\0\0\0\1{\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":9}}"),
	S("\0\0\24\1\4\0\0\0\3\x88\x5f\x11text/event-stream"),
	S("\0\0\56\0\0\0\0\0\3data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n"),
	S("\0\0\72\0\1\0\0\0\3data: {\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":99}}\n\n"),
	S("\0\0\4\3\0\0\0\0\1\0\0\0\10"),
	S("\0\0\4\x9\4\0\0\0\1\x40\1a\0"),
	S("\0\0\1\1\4\0\0\0\5\xbe"),
	S("\0\0\5\1\5\0\0\0\7\x3f\xe1\xff\x03\x88"),
	S("\0\0\10\7\0\0\0\0\0\0\0\0\1\0\0\0\0"),
	S("\0\0\5\1\4\0\0\0\1\x48\3" "429"),
};

static struct weir_automaton dfa;
static struct str line;

struct truth {
	struct weir_client sum;
	uint64_t completions;
};

static void on_complete(void *ctx, const struct record *r, bool arrived, int64_t told)
{
	struct truth *t = ctx;

	(void)arrived, (void)told;
	t->completions++;
	for (int f = F_INT_FIRST; f < F_INT_END; f++)
		if (record_int(r, (enum record_field)f, 0) < 0)
			abort();
	str_reset(&line);
	record_write_json(&line, r);
}

static void on_count(void *ctx, const struct weir_conn_key *key, const struct weir_client *more)
{
	struct truth *t = ctx;
	const uint64_t *from = (const uint64_t *)more;
	uint64_t *to = (uint64_t *)&t->sum;

	(void)key;
	for (size_t i = 0; i < sizeof(*more) / sizeof(*to); i++)
		to[i] += from[i];
}

struct side {
	uint32_t seq, lost, last; /* last: bytes of the last piece */
};

static void piece(struct assemble *a, uint8_t how, uint64_t conn, uint64_t now, struct side *s, const void *p, size_t len)
{
	struct weir_raw *e = calloc(1, sizeof(*e) + len);

	if (!e)
		abort();
	if (how & 8)
		s->lost += 100;
	if (how & 2)
		s->seq += 100;
	*e = (struct weir_raw){ .type = WEIR_EVENT_RAW, .dir = how & 1, .flags = how & 16 ? WEIR_RAW_TCP : 0, .len = (__u32)len, .conn = conn, .ts = now,
				.seq = how & 4 ? s->seq - s->last : s->seq, .rcv_nxt = how & 2 ? s->seq - 100 : s->seq, .lost = { how & 1 ? 0 : s->lost, how & 1 ? s->lost : 0 }, .key = { .lport = 80 } };
	if (len)
		memcpy(e->data, p, len);
	if (!(how & 4)) {
		s->seq += (uint32_t)len;
		s->last = (uint32_t)len;
	}
	assemble_event(a, e, sizeof(*e) + len);
	free(e);
}

static void end(struct assemble *a, uint64_t conn, uint64_t now)
{
	struct weir_raw e = { .type = WEIR_EVENT_RAW, .flags = WEIR_RAW_END, .conn = conn, .ts = now };

	assemble_event(a, &e, sizeof(e));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct truth truth = { 0 };
	struct assemble_opts opts = { .automaton = &dfa, .host = "h", .complete = on_complete, .count = on_count, .ctx = &truth };
	struct side sides[CONNS][2] = { 0 };
	uint64_t now = 1000000000, conns[CONNS] = { 1, 2, 3, 4 };
	struct assemble *a;

	if (!dfa.states && automaton_build(&dfa) < 0)
		abort();
	if (n > 16384 || assemble_new(&opts, &a) < 0)
		return 0;
	while (n >= 3) {
		uint8_t how = data[0], who = data[1] % CONNS, frame[H2_FRAME_HEAD + 256];
		struct span p = { (const char *)data + 3, MIN((size_t)data[2], n - 3) };
		size_t used = 3 + p.n;

		if (data[2] >= PHRASE_FIRST) {
			p = phrases[(data[2] - PHRASE_FIRST) % ARRAY_SIZE(phrases)];
			used = 3;
		} else if ((how & 64) && p.n >= 3) {
			memset(frame, 0, H2_FRAME_HEAD);
			frame[2] = (uint8_t)(p.n - 3);
			frame[3] = (uint8_t)p.p[0];
			frame[4] = (uint8_t)p.p[1];
			frame[8] = (uint8_t)p.p[2];
			memcpy(frame + H2_FRAME_HEAD, p.p + 3, p.n - 3);
			p = (struct span){ (const char *)frame, p.n - 3 + H2_FRAME_HEAD };
		}
		now += how & 128 ? 1000000 : 0;
		piece(a, how, conns[who], now, &sides[who][how & 1], p.p, p.n);
		if (how & 32) {
			end(a, conns[who], now);
			conns[who] += CONNS;
			memset(sides[who], 0, sizeof(sides[who]));
		}
		data += used;
		n -= used;
		if (assemble_h2_stats(a)->bytes > H2_BYTES_MAX || assemble_h2_stats(a)->open_connections > CONNS)
			abort();
	}
	for (int i = 0; i < CONNS; i++)
		end(a, conns[i], now);
	/* nothing is left, and each request that was counted has its record or is counted as lost */
	if (assemble_h2_stats(a)->open_connections || assemble_h2_stats(a)->open_streams || assemble_h2_stats(a)->bytes)
		abort();
	if (truth.sum.open || truth.sum.requests > assemble_h2_stats(a)->settled + assemble_h2_stats(a)->skipped || truth.sum.requests < assemble_h2_stats(a)->settled - assemble_h2_stats(a)->skipped)
		abort();
	if (truth.completions > assemble_h2_stats(a)->settled || truth.completions + truth.sum.lost != truth.sum.requests)
		abort();
	assemble_free(a);
	return 0;
}
