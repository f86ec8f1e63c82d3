/*
 * pcap_flow.h - captured TCP segments put in order, connection by connection.
 *
 * What comes out are the bytes of each direction in the order of their sequence numbers, each once: segments that are out of order wait,
 * what overlaps or comes again is left out, and what will never come is a known gap. A hole is given up as soon as it is known
 * that the other end has those bytes although the capture does not: an acknowledgement that comes with data of its own, or is
 * FLOW_PATIENCE_NS old. Bytes that the capture's snapshot length cut off are a gap at once.
 *
 * Which end is the server: the ports given; else a SYN tells; else an end known as a server from other connections, the one that
 * speaks as a server does, or the lower port. All memory is bounded; what does not fit is counted. Nothing depends on a clock: the
 * same packets give the same calls.
 */
#ifndef WEIR_CAPTURE_PCAP_FLOW_H
#define WEIR_CAPTURE_PCAP_FLOW_H

#include "capture/pcap_packet.h"
#include "weir/abi.h"

#define FLOWS_MAX 65536u            /* connections; some 250 bytes each; as many as the meter keeps */
#define FLOW_HELD_MAX (4u << 20)    /* bytes out of order that one direction keeps waiting: the largest default receive buffer of Linux is 6 MiB */
#define FLOWS_HELD_MAX (64u << 20)  /* all together */
#define FLOW_IDLE_NS (10 * 60 * UINT64_C(1000000000))   /* then it is forgotten */
#define FLOW_LINGER_NS (60 * UINT64_C(1000000000))      /* the same after its end: for late copies of its last segments */
#define FLOW_PATIENCE_NS (10 * UINT64_C(1000000))       /* captures show packets of two queues up to so much out of order */
#define FLOW_SERVERS_MAX 1024u      /* servers remembered */

enum flow_guess { FLOW_BY_PORT, FLOW_BY_SYN, FLOW_BY_SERVER, FLOW_BY_SPEECH, FLOW_BY_LOWER_PORT };

/* One connection, as the caller sees it. */
struct flow {
	uint64_t id; /* from 1 */
	struct weir_conn_key key; /* netns is 0 */
	bool from_start; /* its SYN was seen */
	bool tls;        /* its payload is not for the meter */
	void *user;      /* the caller's */
};

/* Bytes in order. */
struct flow_piece {
	const uint8_t *data;
	uint32_t seq;   /* of data[0] */
	uint32_t have;  /* bytes of data; may be 0 */
	uint32_t gap;   /* bytes behind them that are known to be missing */
	uint64_t ts_ns; /* when they could be read */
	uint8_t dir;    /* enum weir_dir */
	uint8_t flags;  /* TCP_FIN, TCP_RST */
};

struct flow_server {
	uint8_t addr[16];
	uint16_t port;
	uint32_t connections, tls;
	enum flow_guess guess; /* of the first */
};

struct flow_stats {
	uint64_t segments;   /* with payload, of the connections watched */
	uint64_t unwatched;  /* packets of other ports */
	uint64_t connections, midway; /* midway: without their SYN */
	uint64_t repeated;   /* segments wholly seen before */
	uint64_t reordered;  /* segments that had to wait */
	uint64_t gaps, gap_bytes; /* holes given up; with what the snapshot length cut off */
	uint64_t cut;        /* segments that the snapshot length cut short */
	uint64_t outside;    /* segments and resets whose numbers belong to no part of their connection */
	uint64_t tls;        /* connections */
	uint64_t evicted;    /* connections that found no room, or pushed one out */
	uint64_t no_memory;
};

struct flow_opts {
	const uint8_t *ports; /* bitmap of 65536: the servers' ports; NULL: guess */
	void (*piece)(void *ctx, struct flow *f, const struct flow_piece *p);
	void (*over)(void *ctx, struct flow *f); /* forgotten: nothing more comes; may be NULL */
	void *ctx;
};

struct flows;
int flows_new(const struct flow_opts *o, struct flows **ret);
struct flows *flows_free(struct flows *fs);
static inline void flows_freep(struct flows **fs)
{
	flows_free(*fs);
}

/*
 * One segment; data is its payload, p->have bytes. Answers its connection (valid until the next call) and the direction; NULL where it
 * belongs to none that is watched.
 */
struct flow *flows_segment(struct flows *fs, const struct packet *p, const uint8_t *data, uint64_t ts_ns, int *ret_dir);
/* The capture is over: what waits comes out with its gaps. */
void flows_finish(struct flows *fs);

const struct flow_stats *flows_stats(const struct flows *fs);
/* In the order in which they were met. */
size_t flows_servers(const struct flows *fs, const struct flow_server **ret);
const char *flow_guess_name(enum flow_guess g);

#endif
