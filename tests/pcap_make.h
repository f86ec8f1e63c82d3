/*
 * pcap_make.h - packet captures made by hand, in memory, for tests and fuzzers; independent of libpcap and of what is tested.
 */
#ifndef WEIR_TESTS_PCAP_MAKE_H
#define WEIR_TESTS_PCAP_MAKE_H

#include "base/str.h"

enum made_link { MADE_NULL = 0, MADE_ETHERNET = 1, MADE_RAW = 101, MADE_LOOP = 108, MADE_SLL = 113, MADE_SLL2 = 276 };

#define MADE_FIN 1
#define MADE_SYN 2
#define MADE_RST 4
#define MADE_ACK 16

struct made {
	struct str file;
	enum made_link link;
	bool ng;        /* pcapng */
	bool v6;
	unsigned vlans; /* Ethernet, cooked */
	unsigned options, extensions; /* bytes of IPv4 options, IPv6 extension headers */
	bool bad_length; /* as segmentation offload leaves it */
	uint32_t snap;  /* 0: whole frames */
	uint64_t now_ns;
	unsigned frames;
};

/* One end's view of a connection. */
struct made_conn {
	uint16_t client_port, server_port;
	uint8_t client; /* last byte of its address */
	uint32_t seq[2]; /* next of client and server */
};

static inline void made_le(struct str *s, uint64_t v, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		str_addc(s, (char)(i < 8 ? v >> 8 * i : 0));
}

static inline void made_be(struct str *s, uint64_t v, unsigned bytes)
{
	for (unsigned i = bytes; i--;)
		str_addc(s, (char)(i < 8 ? v >> 8 * i : 0));
}

static inline void made_begin(struct made *m)
{
	m->file.ceiling = 256u << 20;
	if (!m->now_ns)
		m->now_ns = UINT64_C(1700000000) * 1000000000;
	if (m->ng) {
		made_le(&m->file, 0x0a0d0d0a, 4);
		made_le(&m->file, 28, 4);
		made_le(&m->file, 0x1a2b3c4d, 4);
		made_le(&m->file, 1, 4);
		made_le(&m->file, UINT64_MAX, 8);
		made_le(&m->file, 28, 4);
		made_le(&m->file, 1, 4); /* interface, microseconds */
		made_le(&m->file, 20, 4);
		made_le(&m->file, m->link, 2);
		made_le(&m->file, 0, 2);
		made_le(&m->file, 262144, 4);
		made_le(&m->file, 20, 4);
		return;
	}
	made_le(&m->file, 0xa1b23c4d, 4);
	made_le(&m->file, 2, 2);
	made_le(&m->file, 4, 2);
	made_le(&m->file, 0, 8);
	made_le(&m->file, 262144, 4);
	made_le(&m->file, m->link, 4);
}

/* Any bytes as a frame. */
static inline void made_frame(struct made *m, const char *p, size_t n)
{
	size_t have = m->snap && n > m->snap ? m->snap : n;

	m->frames++;
	if (m->ng) {
		uint64_t us = m->now_ns / 1000;
		unsigned pad = (unsigned)(-have & 3);

		made_le(&m->file, 6, 4);
		made_le(&m->file, 32 + have + pad, 4);
		made_le(&m->file, 0, 4);
		made_le(&m->file, us >> 32, 4);
		made_le(&m->file, us, 4);
		made_le(&m->file, have, 4);
		made_le(&m->file, n, 4);
		str_add(&m->file, p, have);
		made_le(&m->file, 0, pad);
		made_le(&m->file, 32 + have + pad, 4);
		return;
	}
	made_le(&m->file, m->now_ns / 1000000000, 4);
	made_le(&m->file, m->now_ns % 1000000000, 4);
	made_le(&m->file, have, 4);
	made_le(&m->file, n, 4);
	str_add(&m->file, p, have);
}

static inline void made_link_header(struct made *m, struct str *f)
{
	unsigned type = m->v6 ? 0x86dd : 0x0800;

	switch (m->link) {
	case MADE_NULL:
		made_le(f, m->v6 ? 30 : 2, 4);
		return;
	case MADE_LOOP:
		made_be(f, m->v6 ? 28 : 2, 4);
		return;
	case MADE_RAW:
		return;
	case MADE_ETHERNET:
		made_be(f, 0, 12);
		break;
	case MADE_SLL:
		made_be(f, 0, 14);
		break;
	case MADE_SLL2:
		break;
	}
	made_be(f, m->vlans > 1 ? 0x88a8 : m->vlans ? 0x8100 : type, 2);
	if (m->link == MADE_SLL2)
		made_be(f, 0, 18);
	for (unsigned i = 0; i < m->vlans; i++) {
		made_be(f, 42, 2);
		made_be(f, i + 1 < m->vlans ? 0x8100 : type, 2);
	}
}

static inline void made_address(const struct made *m, struct str *f, uint8_t last)
{
	if (m->v6) {
		made_be(f, 0x20010db800000000, 8);
		made_be(f, last, 8);
	} else {
		made_be(f, 0x0a000000u | last, 4);
	}
}

/* A segment as it is; from_server: 0 or 1. Nothing is noted. */
static inline void made_raw(struct made *m, const struct made_conn *c, int from_server, uint32_t seq, uint32_t ack, unsigned flags, const char *p, size_t n)
{
	struct str f = { .ceiling = 1u << 20 };
	size_t tcp = 20 + n, total;
	uint8_t client = c->client ? c->client : 7, server = 1;

	made_link_header(m, &f);
	if (m->v6) {
		total = tcp + m->extensions * 8u;
		made_be(&f, 0x60000000, 4);
		made_be(&f, m->bad_length ? 0 : total, 2);
		made_be(&f, m->extensions ? 0 : 6, 1);
		made_be(&f, 64, 1);
	} else {
		total = 20 + m->options + tcp;
		made_be(&f, 0x40 | (5 + m->options / 4), 1);
		made_be(&f, 0, 1);
		made_be(&f, m->bad_length ? 0 : total & 0xffff, 2);
		made_be(&f, 0x00004000, 4);
		made_be(&f, 64, 1);
		made_be(&f, 6, 1);
		made_be(&f, 0, 2);
	}
	made_address(m, &f, from_server ? server : client);
	made_address(m, &f, from_server ? client : server);
	for (unsigned i = 0; i < m->options && !m->v6; i++)
		made_be(&f, 1, 1); /* no operation */
	for (unsigned i = 0; i < m->extensions && m->v6; i++) {
		made_be(&f, i + 1 < m->extensions ? 60 : 6, 1);
		made_be(&f, 0, 1);
		made_be(&f, 0x010400000000, 6);
	}
	made_be(&f, from_server ? c->server_port : c->client_port, 2);
	made_be(&f, from_server ? c->client_port : c->server_port, 2);
	made_be(&f, seq, 4);
	made_be(&f, ack, 4);
	made_be(&f, 0x50, 1);
	made_be(&f, flags, 1);
	made_be(&f, 65535, 2);
	made_be(&f, 0, 4);
	str_add(&f, p, n);
	made_frame(m, f.p, f.n);
	m->now_ns += 1000000;
	str_done(&f);
}

static inline void made_send(struct made *m, struct made_conn *c, int from_server, unsigned flags, const char *p, size_t n)
{
	made_raw(m, c, from_server, c->seq[from_server], c->seq[!from_server], flags | (flags & MADE_SYN && !from_server ? 0 : MADE_ACK), p, n);
	c->seq[from_server] += (uint32_t)n + (flags & (MADE_SYN | MADE_FIN) ? 1 : 0);
}

static inline void made_open(struct made *m, struct made_conn *c)
{
	made_send(m, c, 0, MADE_SYN, "", 0);
	made_send(m, c, 1, MADE_SYN, "", 0);
	made_send(m, c, 0, 0, "", 0);
}

static inline void made_close(struct made *m, struct made_conn *c)
{
	made_send(m, c, 1, MADE_FIN, "", 0);
	made_send(m, c, 0, MADE_FIN, "", 0);
	made_send(m, c, 1, 0, "", 0);
}

/* In segments of `step` bytes; 0: one. */
static inline void made_bytes(struct made *m, struct made_conn *c, int from_server, const char *p, size_t n, size_t step)
{
	for (size_t at = 0; at < n;) {
		size_t len = step ? MIN(step, n - at) : n - at;

		made_send(m, c, from_server, 0, p + at, len);
		at += len;
	}
}

static inline void made_text(struct made *m, struct made_conn *c, int from_server, const char *text)
{
	made_bytes(m, c, from_server, text, strlen(text), 0);
}

#endif
