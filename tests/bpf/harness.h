/*
 * harness.h - packets for the meter through BPF_PROG_TEST_RUN, and what it made of them.
 *
 * Test runs come without a socket, so the watched port is 0 (skb->sk->src_port) and there is no window
 * check; everything else is the program that runs live. The packet itself says which connection.
 */
#ifndef WEIR_TESTS_BPF_HARNESS_H
#define WEIR_TESTS_BPF_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "base/util.h"
#include "decode/automaton.h"
#include "weir/conn.h"

#include "meter.skel.h"
#include "meter_fast.skel.h"

#define PACKET_MAX 3500 /* test runs take a page, less head and tail room */

struct ring_seen {
	uint64_t slices, dones;
	uint64_t slice_bytes;
	struct weir_done last;
	/* called for each event where set */
	void (*on_event)(void *ctx, const void *data, size_t n);
	void *ctx;
};

struct meter {
	struct bpf_object *obj;
	struct meter_bpf *slow;
	struct meter_fast_bpf *fast;
	int in, out, clients, others, conns, stats;
	struct weir_control *control;
	struct ring_buffer *ring;
	struct ring_seen seen;
};

struct meter_opts {
	bool fast, prompt_blind;
	uint32_t clients, conns, ring; /* 0: as compiled */
	uint32_t v6_prefix;            /* 0: 64 */
};

/* One TCP connection as the test sees it. */
struct flow {
	bool v6;
	uint8_t client[16], server[16]; /* v4 in the first four */
	uint16_t cport, sport;
	uint32_t cseq, sseq; /* next sequence numbers */
	uint32_t options;    /* bytes of IP options (IPv4) or of extension headers (IPv6), multiple of 8 */
};

static int harness_event(void *ctx, void *data, size_t n)
{
	struct ring_seen *seen = ctx;

	if (*(uint8_t *)data == WEIR_EVENT_DONE) {
		seen->dones++;
		memcpy(&seen->last, data, sizeof(seen->last));
	} else {
		seen->slices++;
		seen->slice_bytes += ((struct weir_slice *)data)->len;
	}
	if (seen->on_event)
		seen->on_event(seen->ctx, data, n);
	return 0;
}

static inline void meter_close(struct meter *m)
{
	ring_buffer__free(m->ring);
	meter_bpf__destroy(m->slow);
	meter_fast_bpf__destroy(m->fast);
	free(m);
}

static inline struct meter *meter_open(const struct meter_opts *o)
{
	struct meter *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
#define SET_UP(SKEL, NAME)                                                                                             \
	do {                                                                                                           \
		m->SKEL = NAME##__open();                                                                              \
		if (!m->SKEL || automaton_build((struct weir_automaton *)&m->SKEL->rodata_automaton->weir_automaton))  \
			goto fail;                                                                                     \
		m->SKEL->rodata->cfg_test = true;                                                                      \
		m->SKEL->rodata->cfg_prompt_blind = o->prompt_blind;                                                   \
		m->SKEL->rodata->cfg_v6_prefix = o->v6_prefix ? o->v6_prefix : 64;                                     \
		if (o->clients)                                                                                        \
			bpf_map__set_max_entries(m->SKEL->maps.weir_clients, o->clients);                              \
		if (o->conns)                                                                                          \
			bpf_map__set_max_entries(m->SKEL->maps.weir_conns, o->conns);                                  \
		if (o->ring) {                                                                                         \
			bpf_map__set_max_entries(m->SKEL->maps.weir_ring, o->ring);                                    \
			m->SKEL->rodata->cfg_ring_bytes = o->ring;                                                     \
		}                                                                                                      \
		if (NAME##__load(m->SKEL))                                                                             \
			goto fail;                                                                                     \
		m->in = bpf_program__fd(m->SKEL->progs.on_ingress);                                                    \
		m->out = bpf_program__fd(m->SKEL->progs.on_egress);                                                    \
		m->clients = bpf_map__fd(m->SKEL->maps.weir_clients);                                                  \
		m->others = bpf_map__fd(m->SKEL->maps.weir_others);                                                    \
		m->conns = bpf_map__fd(m->SKEL->maps.weir_conns);                                                      \
		m->stats = bpf_map__fd(m->SKEL->maps.weir_stats);                                                      \
		m->control = (struct weir_control *)&m->SKEL->bss->weir_control;                                       \
		m->ring = ring_buffer__new(bpf_map__fd(m->SKEL->maps.weir_ring), harness_event, &m->seen, NULL);       \
	} while (0)
	if (o->fast)
		SET_UP(fast, meter_fast_bpf);
	else
		SET_UP(slow, meter_bpf);
	if (!m->ring)
		goto fail;
	m->control->ports[0] = 1;
	return m;
fail:
	meter_close(m);
	return NULL;
}

/* For a case's set-up: small tables; skips the case where this kernel refuses the variant. 0, or -1: it should have loaded. */
static inline int meter_set_up(struct meter **ret, bool fast)
{
	struct meter_opts o = { .fast = fast, .conns = 1024, .clients = 1024 };

	*ret = meter_open(&o);
	if (!*ret && fast) {
		print_message("SKIP: this kernel refuses may_goto\n");
		skip();
	}
	return *ret ? 0 : -1;
}

static inline struct flow flow_make(uint32_t client, uint16_t port)
{
	struct flow f = { .cport = port, .sport = 8000, .cseq = 0xfffffe00, .sseq = 0x7ffffe00 }; /* both wrap soon */
	uint32_t c = htonl(client), s = htonl(0x0a000001);

	memcpy(f.client, &c, 4);
	memcpy(f.server, &s, 4);
	return f;
}

enum tcp_flags { TCP_FIN = 1, TCP_SYN = 2, TCP_RST = 4, TCP_ACK = 16 };

/* One packet, payload at most PACKET_MAX bytes, at sequence number seq. 0 or negative errno. */
static inline int packet_at(struct meter *m, const struct flow *f, int dir, uint32_t seq, const void *payload, size_t n, uint8_t flags)
{
	uint8_t b[4096] = { 0 };
	size_t l3 = 14, l4;
	const uint8_t *src = dir == WEIR_REQUEST ? f->client : f->server, *dst = dir == WEIR_REQUEST ? f->server : f->client;
	uint16_t sp = htons(dir == WEIR_REQUEST ? f->cport : f->sport), dp = htons(dir == WEIR_REQUEST ? f->sport : f->cport);
	uint32_t wire = htonl(seq);
	LIBBPF_OPTS(bpf_test_run_opts, o);

	if (n > PACKET_MAX)
		return -E2BIG;
	b[12] = f->v6 ? 0x86 : 0x08;
	b[13] = f->v6 ? 0xdd : 0x00;
	if (f->v6) {
		b[l3] = 0x60;
		b[l3 + 6] = f->options ? 60 : 6;
		memcpy(b + l3 + 8, src, 16);
		memcpy(b + l3 + 24, dst, 16);
		l4 = l3 + 40;
		for (uint32_t left = f->options; left; left -= 8, l4 += 8) {
			b[l4] = left > 8 ? 60 : 6; /* destination options, one unit each */
			b[l4 + 1] = 0;
		}
	} else {
		b[l3] = (uint8_t)(0x45 + f->options / 4);
		b[l3 + 9] = 6;
		memcpy(b + l3 + 12, src, 4);
		memcpy(b + l3 + 16, dst, 4);
		l4 = l3 + 20 + f->options;
	}
	memcpy(b + l4, &sp, 2);
	memcpy(b + l4 + 2, &dp, 2);
	memcpy(b + l4 + 4, &wire, 4);
	b[l4 + 12] = 5 << 4;
	b[l4 + 13] = flags;
	if (n)
		memcpy(b + l4 + 20, payload, n);
	o.data_in = b;
	o.data_size_in = (uint32_t)(l4 + 20 + n);
	o.repeat = 1;
	return bpf_prog_test_run_opts(dir == WEIR_REQUEST ? m->in : m->out, &o);
}

/* In order, in pieces of at most `piece` bytes (0: as large as they go). */
static inline int packets(struct meter *m, struct flow *f, int dir, const void *payload, size_t n, size_t piece)
{
	uint32_t *seq = dir == WEIR_REQUEST ? &f->cseq : &f->sseq;
	const char *p = payload;
	int r;

	if (!piece || piece > 3000)
		piece = 3000;
	while (n) {
		size_t now = MIN(n, piece);

		r = packet_at(m, f, dir, *seq, p, now, TCP_ACK);
		if (r)
			return r;
		*seq += (uint32_t)now;
		p += now;
		n -= now;
	}
	return 0;
}

static inline int flow_fin(struct meter *m, struct flow *f, int dir)
{
	return packet_at(m, f, dir, dir == WEIR_REQUEST ? f->cseq++ : f->sseq++, NULL, 0, TCP_ACK | TCP_FIN);
}

static inline int flow_rst(struct meter *m, struct flow *f, int dir)
{
	return packet_at(m, f, dir, dir == WEIR_REQUEST ? f->cseq : f->sseq, NULL, 0, TCP_RST);
}

static inline void drain(struct meter *m)
{
	ring_buffer__consume(m->ring);
	m->control->ring_epoch++;
}

/* Sum over every client (and `other`); returns how many entries there are. */
static inline size_t clients_sum(struct meter *m, struct weir_client *sum)
{
	struct weir_client_key key, *prev = NULL;
	size_t n = 0;
	int maps[] = { m->clients, m->others };

	memset(sum, 0, sizeof(*sum));
	for (size_t i = 0; i < 2; i++) {
		for (prev = NULL; !bpf_map_get_next_key(maps[i], prev, &key); prev = &key) {
			struct weir_client c;

			if (bpf_map_lookup_elem(maps[i], &key, &c))
				continue;
			n++;
			for (size_t w = 0; w < offsetof(struct weir_client, last_ns) / 8; w++)
				((__u64 *)sum)[w] += ((__u64 *)&c)[w];
		}
	}
	return n;
}

/* Counters of one IPv4 client (0: it is not there). */
static inline bool client_get(struct meter *m, const struct flow *f, struct weir_client *ret)
{
	struct weir_client_key k = { .port = f->sport };

	if (f->v6) {
		memcpy(k.server, f->server, 16);
		memcpy(k.client, f->client, 16);
	} else {
		k.server[10] = k.server[11] = k.client[10] = k.client[11] = 0xff;
		memcpy(k.server + 12, f->server, 4);
		memcpy(k.client + 12, f->client, 4);
	}
	return !bpf_map_lookup_elem(m->clients, &k, ret);
}

static inline uint64_t stat_get(struct meter *m, uint32_t which)
{
	uint64_t v = 0;

	bpf_map_lookup_elem(m->stats, &which, &v);
	return v;
}

static inline size_t conns_count(struct meter *m)
{
	struct weir_conn_key key, *prev = NULL;
	size_t n = 0;

	for (; !bpf_map_get_next_key(m->conns, prev, &key); prev = &key)
		n++;
	return n;
}

static inline void flow_forget(struct meter *m)
{
	struct weir_conn_key key;
	struct weir_client_key ck;

	while (!bpf_map_get_next_key(m->conns, NULL, &key))
		bpf_map_delete_elem(m->conns, &key);
	while (!bpf_map_get_next_key(m->clients, NULL, &ck))
		bpf_map_delete_elem(m->clients, &ck);
}

#endif
