/*
 * assemble.h - ring events in, request records out.
 *
 * Slices and completion records (weir/abi.h) - of HTTP/2 they are made here, out of its bytes (h2.h) - are put together by connection and number of the request. Memory is bounded
 * whatever comes: bytes per request, bytes in all, requests in all; what does not fit pushes out the request that was silent
 * longest, and is counted. The bytes of a request are read once, then zeroed and freed; records hold lengths and a keyed hash,
 * never a prompt or a key. Nothing here trusts an event: a wrong one is refused and counted.
 *
 * Times: `timestamp` is when the head of the request was complete. duration_ms runs from there to the last byte of the
 * response. ttft_ms, for streams only, runs from the last byte of the request (the upload is the client's affair) to the
 * first generated content, which is neither the response's head nor a role-only event.
 *
 * `server` is "address:port", and behind blanks the server's software and its workload ("unit=vllm.service"), where they were known when
 * the request arrived: a request's beginning and its end carry the same label, whatever was learnt between them.
 */
#ifndef WEIR_DECODE_ASSEMBLE_H
#define WEIR_DECODE_ASSEMBLE_H

#include "base/util.h"
#include "decode/estimate.h"
#include "decode/identity.h"
#include "decode/record.h"
#include "decode/siphash.h"
#include "weir/abi.h"

#define ASSEMBLE_OPEN_DEFAULT 16384u          /* requests; more than any server here runs at once; half a KiB each and their slices */
#define ASSEMBLE_BYTES_DEFAULT (8u << 20)     /* of slices and texts kept; a quarter of the agent's own budget */

struct dialect;
struct h2_stats;
struct shapes;

struct assemble_opts {
	const struct weir_automaton *automaton; /* stays the caller's; must outlive */
	const struct dialect *dialects;         /* a user's own rows, tried before ours; stay the caller's; may be NULL */
	size_t dialect_count;
	const char *host;                       /* copied; NULL: records have none */
	uint8_t key[SIPHASH_KEY_BYTES];         /* for hashes of API keys; copied */
	const struct identity_rules *identity;  /* whose word on the true client is taken; stays the caller's; NULL: nobody's */
	/* Asked where the connection itself announced nobody by the PROXY protocol: what is known of it otherwise. False: nothing. May be NULL. */
	bool (*announced)(void *ctx, uint64_t conn, const struct weir_conn_key *at, uint8_t ret[16]);
	/* The port of the watched listener whose owner made this connection: a gateway here, and this its inner hop. 0: nobody's. May be NULL. */
	uint16_t (*outer)(void *ctx, uint64_t conn, const struct weir_conn_key *at);
	uint32_t max_open;                      /* 0: the default */
	size_t max_bytes;                       /* 0: the default */
	/* Exchanges over HTTP/2 are counted here, not in the kernel: to be added to the client's counters (h2.h). May be NULL. */
	void (*count)(void *ctx, const struct weir_conn_key *key, const struct weir_client *more);
	/*
	 * A request is here: head and body, or what is known when its answer begins or assemble_tell_waiting() is called. The record is
	 * valid during the call. May be NULL.
	 */
	void (*arrival)(void *ctx, const struct record *r);
	/* A request is over. `arrived`: arrival() was called for it; `told`: tokens that assemble_open_stream() answered. May be NULL. */
	void (*complete)(void *ctx, const struct record *r, bool arrived, int64_t told);
	void *ctx;
};

struct assemble_stats {
	uint64_t slices, done;
	uint64_t bad_events;   /* refused: lengths or types that make no sense */
	uint64_t repeated;     /* bytes or completions that had come before; late slices */
	uint64_t evicted;      /* open requests pushed out; their completions make records without request fields */
	uint64_t no_memory;
	uint64_t cut;          /* slices that did not fit their request's allowance */
	uint64_t unpacked;     /* compressed bodies read to their end */
	uint64_t not_unpacked; /* unknown encoding, broken, larger than the allowance, or pieces missing */
	uint64_t proxied;      /* connections that began with the PROXY protocol */
	uint64_t proxied_bad;  /* of these, announcements that cannot be read, or came with pieces missing */
	uint64_t proxied_lost; /* announcements that gave way to another connection's before their own was over, or found no memory */
	struct identity_stats identity;
	uint32_t open;
	size_t bytes;
};

struct assemble;

int assemble_new(const struct assemble_opts *opts, struct assemble **ret); /* -ENOMEM, -EINVAL */
struct assemble *assemble_free(struct assemble *a);
static inline void assemble_freep(struct assemble **a)
{
	assemble_free(*a);
}

/* Wall clock less CLOCK_MONOTONIC, now. To be told again when it moved; requests keep the timestamp they arrived with. */
void assemble_set_clock(struct assemble *a, int64_t wall_minus_monotonic_ns);

/* One event of the ring. 0; -EBADMSG: not an event; -ENOMEM: lost. */
int assemble_event(struct assemble *a, const void *event, size_t n);

/*
 * Tells the arrivals whose body is still on its way, with what is known of them. To be called each second: an arrival must not be told later than
 * the detector's lateness allows, and not after the counters told it as lost.
 */
void assemble_tell_waiting(struct assemble *a);

/*
 * A stream that is still open has `tokens` by now. Calls tell() with the record of its arrival and how many of them are new, where
 * there are any and its arrival was told.
 */
void assemble_open_stream(struct assemble *a, uint64_t conn, uint32_t request, int64_t tokens, void (*tell)(void *ctx, const struct record *r, int64_t fresh), void *ctx);

/* During arrival(), complete() and assemble_open_stream()'s tell(): where the record came from, and what its request told of who asked. */
struct assemble_source {
	const struct weir_conn_key *at;
	const struct identity *identity;
	uint64_t conn;
	uint32_t request;
	uint16_t outer; /* as opts.outer() answered when the request began: it is the same from its arrival to its end */
};
struct assemble_source assemble_source(const struct assemble *a);

/* The same for all streams of HTTP/2, whose tokens are known here. */
void assemble_open_streams(struct assemble *a, void (*tell)(void *ctx, const struct record *r, int64_t fresh), void *ctx);

/* What is no longer made of HTTP/2: see enum weir_shed. For HTTP/1 the kernel sheds. */
void assemble_set_shed(struct assemble *a, enum weir_shed level);

const struct h2_stats *assemble_h2_stats(const struct assemble *a);
const struct assemble_stats *assemble_stats(const struct assemble *a);
const struct estimate *assemble_estimate(const struct assemble *a);
/* What runs there (workloads.h): from now on a word of its records' label. */
void assemble_set_workload(struct assemble *a, uint32_t netns, uint16_t port, struct span name);
/* The label that a record of the server at this end of a connection has now; cut at cap, NUL-terminated. */
#define ASSEMBLE_LABEL_MAX 320
void assemble_label(const struct assemble *a, const struct weir_conn_key *at, char *ret, size_t cap);
const struct shapes *assemble_shapes(const struct assemble *a);

#endif
