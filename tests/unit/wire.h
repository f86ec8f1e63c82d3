/*
 * wire.h - HTTP/2 as a peer writes it, and as the kernel passes it on, for unit tests; include once per program, after player.h.
 */
#ifndef WEIR_TESTS_UNIT_WIRE_H
#define WEIR_TESTS_UNIT_WIRE_H

#include "decode/h2.h"
#include "decode/h2_frame.h"

#include <nghttp2/nghttp2.h>

#define WIRE_MAX (4u << 20)
#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

/* One direction of a connection. */
struct wire {
	uint8_t *p;
	size_t n, sent;
	nghttp2_hd_deflater *hd;
	uint32_t seq;
};

static inline void wire_open(struct wire *w)
{
	*w = (struct wire){ .p = malloc(WIRE_MAX), .seq = 0xfffffff0u }; /* wraps soon */
	assert_non_null(w->p);
	assert_int_equal(nghttp2_hd_deflate_new(&w->hd, 4096), 0);
}

static inline void wire_close(struct wire *w)
{
	nghttp2_hd_deflate_del(w->hd);
	free(w->p);
}

static inline void wire_bytes(struct wire *w, const void *p, size_t n)
{
	assert_true(n <= WIRE_MAX - w->n);
	if (n)
		memcpy(w->p + w->n, p, n);
	w->n += n;
}

static inline void wire_frame(struct wire *w, uint8_t type, uint8_t flags, uint32_t stream, const void *p, size_t n)
{
	uint8_t head[9] = { (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n, type, flags,
			    (uint8_t)(stream >> 24), (uint8_t)(stream >> 16), (uint8_t)(stream >> 8), (uint8_t)stream };

	wire_bytes(w, head, sizeof(head));
	wire_bytes(w, p, n);
}

/* "name: value" lines -> a header block. */
static inline size_t wire_block(struct wire *w, const char *lines, uint8_t *ret, size_t room)
{
	nghttp2_nv nv[64];
	size_t n = 0;
	ssize_t len;

	while (*lines) {
		const char *end = strchr(lines, '\n'), *colon = strchr(lines + 1, ':');

		assert_true(end && colon && colon < end && n < ARRAY_SIZE(nv));
		nv[n++] = (nghttp2_nv){ (uint8_t *)lines, (uint8_t *)colon + 2, (size_t)(colon - lines), (size_t)(end - colon - 2), NGHTTP2_NV_FLAG_NONE };
		lines = end + 1;
	}
	len = nghttp2_hd_deflate_hd(w->hd, ret, room, nv, n);
	assert_true(len > 0);
	return (size_t)len;
}

static inline void wire_headers(struct wire *w, uint32_t stream, uint8_t flags, const char *lines)
{
	uint8_t block[8192];
	size_t n = wire_block(w, lines, block, sizeof(block));

	wire_frame(w, H2_HEADERS, H2_END_HEADERS | flags, stream, block, n);
}

static inline void wire_data(struct wire *w, uint32_t stream, uint8_t flags, const char *text)
{
	wire_frame(w, H2_DATA, flags, stream, text, strlen(text));
}

/* ---- what the kernel makes of it ------------------------------------------------------------------ */
struct talk {
	struct assemble *assemble;
	struct seen seen;
	struct weir_client client; /* all that was counted */
	struct wire side[2];
	uint64_t conn, now;
	uint32_t lost[2];
	uint8_t flags; /* of every event */
	uint32_t request;
};

static inline void talk_count(void *ctx, const struct weir_conn_key *key, const struct weir_client *more)
{
	struct talk *t = (struct talk *)((char *)ctx - offsetof(struct talk, seen));
	const uint64_t *from = (const uint64_t *)more;
	uint64_t *to = (uint64_t *)&t->client;

	assert_int_equal(key->lport, 8000);
	for (size_t i = 0; i < sizeof(*more) / sizeof(*to); i++) /* all are 64 bits wide */
		to[i] += from[i];
}

static inline void talk_open(struct talk *t)
{
	struct assemble_opts opts = { .automaton = &dfa, .host = "gpu-1", .key = "0123456789abcdef", .arrival = on_arrival, .complete = on_complete, .count = talk_count, .ctx = &t->seen };

	*t = (struct talk){ .conn = 7, .now = 5000 * MS };
	assert_int_equal(assemble_new(&opts, &t->assemble), 0);
	assemble_set_clock(t->assemble, 1000 * INT64_C(1000000000));
	wire_open(&t->side[0]);
	wire_open(&t->side[1]);
}

static inline void talk_close(struct talk *t)
{
	assemble_free(t->assemble);
	seen_done(&t->seen);
	wire_close(&t->side[0]);
	wire_close(&t->side[1]);
}

/* Another connection of the same peers. */
static inline void talk_again(struct talk *t)
{
	t->conn++;
	for (int i = 0; i < 2; i++) {
		wire_close(&t->side[i]);
		wire_open(&t->side[i]);
		t->lost[i] = 0;
	}
}

static inline void talk_event(struct talk *t, int dir, uint8_t flags, uint32_t seq, uint32_t rcv_nxt, const uint8_t *p, size_t n)
{
	struct weir_raw *e = calloc(1, sizeof(*e) + n);

	assert_non_null(e);
	*e = (struct weir_raw){ .type = WEIR_EVENT_RAW, .dir = (__u8)dir, .flags = (__u8)(flags | t->flags), .len = (__u32)n, .conn = t->conn, .ts = t->now, .seq = seq,
				.rcv_nxt = rcv_nxt, .lost = { t->lost[0], t->lost[1] }, .request = t->request,
				.key = { .netns = 1, .lport = 8000, .rport = 4000, .laddr = { [10] = 0xff, 0xff, 127, 0, 0, 1 }, .raddr = { [10] = 0xff, 0xff, 10, 0, 0, 7 } } };
	if (n)
		memcpy(e->data, p, n);
	assert_int_equal(assemble_event(t->assemble, e, sizeof(*e) + n), 0);
	free(e);
}

/* What was written since the last time, in pieces of at most `step` bytes. */
static inline void talk_pass(struct talk *t, int dir, size_t step)
{
	struct wire *w = &t->side[dir];

	while (w->sent < w->n) {
		size_t n = MIN(w->n - w->sent, step);

		talk_event(t, dir, dir == WEIR_REQUEST ? WEIR_RAW_TCP : 0, w->seq, w->seq, w->p + w->sent, n);
		w->seq += (uint32_t)n;
		w->sent += n;
	}
}

/* The same, unseen: the ring had no room. */
static inline void talk_miss(struct talk *t, int dir)
{
	struct wire *w = &t->side[dir];

	w->seq += (uint32_t)(w->n - w->sent);
	t->lost[dir] += (uint32_t)(w->n - w->sent);
	w->sent = w->n;
}

static inline void talk_end(struct talk *t)
{
	talk_event(t, 0, WEIR_RAW_END, 0, 0, NULL, 0);
}

#endif
