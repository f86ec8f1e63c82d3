/*
 * h2.h - connections of HTTP/2: raw pieces in, the exchanges of their streams out.
 *
 * The kernel passes both directions of such a connection on as they are (WEIR_EVENT_RAW), for header compression needs more state
 * than it has room for. Here they are put in order, taken apart into frames, their header blocks decoded (HPACK by nghttp2), and each
 * stream becomes what a request over HTTP/1 is: a head in HTTP/1's words, slices of its bodies, a completion record, and the
 * same counters, by the very code that counts in the kernel (weir/conn.h, weir/meter.h). docs/http2.md tells it from outside.
 *
 * Everything is bounded and every peer hostile: memory in all, connections, streams of one, a header block. What does not fit
 * pushes out what was silent longest, and is counted. What was not seen is counted too: bytes, header fields whose meaning went by
 * before we came, requests whose frames were lost (stream numbers tell how many).
 */
#ifndef WEIR_DECODE_H2_H
#define WEIR_DECODE_H2_H

#include "base/util.h"
#include "weir/abi.h"

#define H2_BYTES_MAX (16u << 20) /* all state of all connections: some 20,000 streams at once */
#define H2_CONNS_MAX 8192u       /* connections; about 1 KiB each and their compression tables */
#define H2_STREAMS_MAX 1024u     /* of one connection; servers allow 100 to 256 */
#define H2_TABLE_MAX 65536u      /* HPACK table of one direction; 4,096 where nobody asks for more */
#define H2_BLOCK_MAX 65536u      /* a header block, as WEIR_HEAD_MAX */
#define H2_AHEAD_MAX 65536u      /* of a request side: bytes kept that arrived before those they follow */

struct h2_stats {
	uint64_t connections, streams; /* seen so far */
	uint64_t settled;              /* of the streams */
	uint64_t undecodable;          /* header fields that refer to what was said before we came, or was lost */
	uint64_t bad_blocks;           /* header blocks that are no HPACK, or were cut by a gap */
	uint64_t long_blocks;          /* longer than H2_BLOCK_MAX */
	uint64_t cut_heads;            /* heads of which not every field could be kept */
	uint64_t bad_frames;           /* times a direction went out of step */
	uint64_t resyncs;              /* times it was found again */
	uint64_t unframed_bytes;       /* passed over meanwhile */
	uint64_t gaps, gap_bytes;
	uint64_t skipped;              /* requests known by their numbers only */
	uint64_t stray;                /* frames of streams that are over or never began */
	uint64_t evicted_streams, evicted_connections;
	uint64_t no_memory;
	uint64_t bad_numbers;          /* token counts that make no sense */
	uint32_t open_connections, open_streams;
	size_t bytes;
};

struct h2_opts {
	const struct weir_automaton *automaton; /* stays the caller's; must outlive */
	/* struct weir_slice or weir_done, aligned to eight bytes, valid during the call */
	void (*event)(void *ctx, const void *data, size_t n);
	/* To be added to the counters of the client at the far end of this connection. May be NULL. */
	void (*count)(void *ctx, const struct weir_conn_key *key, const struct weir_client *more);
	void *ctx;
};

struct h2;

int h2_new(const struct h2_opts *opts, struct h2 **ret); /* -ENOMEM */
struct h2 *h2_free(struct h2 *h);

/* One event of the ring, aligned to eight bytes. 0; -EBADMSG: it makes no sense; -ENOMEM: lost, and counted. */
int h2_event(struct h2 *h, const void *event, size_t n);

/* What is no longer sent on: see enum weir_shed. Counters go on. */
void h2_set_shed(struct h2 *h, enum weir_shed level);

/* Tells of each response under way how many completion tokens it has by now (as capture_streams() does of HTTP/1). */
void h2_streams(const struct h2 *h, void (*tell)(void *ctx, uint64_t conn, uint32_t request, int64_t tokens), void *ctx);

const struct h2_stats *h2_stats(const struct h2 *h);

#endif
