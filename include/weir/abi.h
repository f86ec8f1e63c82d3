/*
 * abi.h - every byte that crosses the kernel/user boundary: map keys and values, ring events, settings.
 *
 * Times are nanoseconds of CLOCK_MONOTONIC; 0 means "did not happen". Ports are in host order.
 * Addresses are 16 bytes; IPv4 is stored v4-mapped (::ffff:a.b.c.d). Both halves are built from this
 * file, and the agent refuses an object of another WEIR_ABI.
 */
#ifndef WEIR_ABI_H
#define WEIR_ABI_H

#include <linux/types.h>

#include "weir/compiler.h"

#define WEIR_ABI 4

/* ---- ceilings ------------------------------------------------------------------------------------ */
#define WEIR_STATES 1024             /* automaton states; 2 bytes x 256 each: 512 KiB of table */
#define WEIR_PIPELINE 4              /* requests of one connection whose times are kept; more are counted only */
#define WEIR_HEAD_MAX 65536          /* bytes of a message head; nginx refuses above 32 KiB, llhttp above 80 KiB */
#define WEIR_PROXY_LINE_MAX 107      /* a prefix of the PROXY protocol, version 1, by its specification */
#define WEIR_PROXY_MAX 2048          /* version 2: bytes behind its first 16; HAProxy sends at most some hundred of TLVs */
#define WEIR_TOKENS_MAX 0x7fffffffu  /* a count above this is not a token count */
#define WEIR_SLICE_HEAD 4096         /* bytes of a request sent up from its start */
#define WEIR_SLICE_TAIL 1024         /* ... and from its end, where the length is known; of a response's body, also from its start */
#define WEIR_SLICE_RESPONSE 6144     /* bytes of a response sent up, all slices together */
#define WEIR_FINISH_MAX 32           /* bytes of a finish reason; the longest in use has 29 */
#define WEIR_SLICE_ENCODED 65536     /* the same for a body that the kernel cannot read (gzip, deflate, br, zstd) */

/* ---- maps: connections --------------------------------------------------------------------------- */
struct weir_conn_key {
	__u32 netns; /* inode number of the network namespace */
	__u16 lport, rport;
	__u8 laddr[16], raddr[16]; /* l: the server's end, r: the client's */
};

/* ---- maps: clients ------------------------------------------------------------------------------- */
#define WEIR_CLIENT_OTHER 1 /* flags: stands for the clients that found the map full */

struct weir_client_key {
	__u32 netns;
	__u16 port;
	__u16 flags;
	__u8 server[16]; /* the connection's local address */
	__u8 client[16]; /* all zero where flags has WEIR_CLIENT_OTHER; IPv6 cut to /cfg_v6_prefix */
};

/* Counters of one client at one server; only ever added to (open excepted). Readable with `bpftool map dump`. */
struct weir_client {
	__u64 requests; /* heads complete, or responses whose head was not seen */
	__u64 status_2xx, status_3xx, status_4xx, status_5xx;
	__u64 stream_errors; /* an error object inside a 200 response */
	__u64 prompt_tokens, completion_tokens, cached_tokens, reasoning_tokens; /* as the server reported them */
	__u64 estimated_tokens; /* completion tokens of responses without usage: delta events counted */
	__u64 unreported;       /* responses that ended without usage although they carried content */
	__u64 bytes_in, bytes_out; /* TCP payload, each byte once */
	__u64 aborted;
	__s64 open; /* requests without a complete response */
	__u64 lost; /* requests whose completion record did not reach the ring */
	__u64 lost_prompt_tokens, lost_completion_tokens, lost_4xx, lost_5xx, lost_stream_errors;
	__u64 slices_dropped;
	__u64 raw_lost_bytes; /* of HTTP/2, which user space reads, what did not reach it */
	__u64 last_ns;
	__u64 ring_epoch; /* fair share of the ring (bpf/ring.bpf.h): bytes sent in this epoch */
	__u64 ring_bytes;
};

/* ---- maps: loss and work, summed over everything (one array element per cause) ------------------- */
enum weir_stat {
	WEIR_STAT_SEGMENTS,     /* watched segments with payload */
	WEIR_STAT_REQUESTS,     /* heads counted, all clients */
	WEIR_STAT_RESPONSES,    /* final responses complete */
	WEIR_STAT_RING_FULL,    /* completion records that did not fit the ring */
	WEIR_STAT_RING_FAIR,    /* completion records withheld by the fair share */
	WEIR_STAT_SLICE_FULL,   /* slices not sent: ring full, or fair share */
	WEIR_STAT_SLICE_SHED,   /* slices or records not sent: self-limit */
	WEIR_STAT_CONN_FULL,    /* segments of connections that found the table full */
	WEIR_STAT_CLIENT_FULL,  /* requests accounted to `other` */
	WEIR_STAT_GAP,          /* holes in a byte stream */
	WEIR_STAT_GAP_BYTES,
	WEIR_STAT_WINDOW,       /* segments outside the receive window, ignored */
	WEIR_STAT_DUP,          /* segments wholly seen before */
	WEIR_STAT_NOT_HTTP,     /* messages that are not HTTP/1 */
	WEIR_STAT_HEAD_TOO_LONG,
	WEIR_STAT_BAD_FRAMING,  /* a length or chunk size that makes no sense */
	WEIR_STAT_BAD_NUMBER,   /* token counts that are negative, fractional or absurd */
	WEIR_STAT_UNPAIRED,     /* final responses without a request seen */
	WEIR_STAT_PIPELINE,     /* requests deeper in the pipeline than WEIR_PIPELINE */
	WEIR_STAT_UPGRADED,     /* connections that left HTTP/1 (101, CONNECT) */
	WEIR_STAT_ENCODED,      /* responses whose body is compressed */
	WEIR_STAT_RESYNC,       /* times the parser found its feet again inside a response */
	WEIR_STAT_CONTENDED,    /* segments given up because another CPU held the connection too long */
	WEIR_STAT_UNREADABLE,   /* packets whose headers could not be read */
	WEIR_STAT_STEPS,        /* segments cut because they needed too many parser steps */
	WEIR_STAT_OVERSIZE,     /* requests or responses larger than their slice allowance */
	WEIR_STAT_NS,           /* self-timing: ns spent in ... */
	WEIR_STAT_NS_RUNS,      /* ... this many sampled runs (1 in 64) */
	WEIR_STAT_TAP_FULL,     /* metering in user space: pieces of segments that did not fit the ring; their bytes are in gaps */
	WEIR_STAT_TLS,          /* connections whose segments are TLS records */
	WEIR_STAT_TLS_BLIND,    /* of these, the ones that ended without a byte of plaintext seen */
	WEIR_STAT_TLS_CALLS,    /* reads and writes of a TLS library that were metered */
	WEIR_STAT_TLS_UNPAIRED, /* ... that were not: the socket behind them was not known */
	WEIR_STAT_TLS_FAULT,    /* pieces of plaintext whose memory could not be read */
	WEIR_STAT_TLS_MISSED,   /* calls whose end was not seen */
	WEIR_STAT_TLS_FULL,     /* calls that found the tables of objects or threads full */
	WEIR_STAT_TLS_NS,       /* self-timing of the TLS hook, as WEIR_STAT_NS */
	WEIR_STAT_TLS_NS_RUNS,
	WEIR_STAT_RAW,          /* connections of HTTP/2: their bytes go up, user space meters them */
	WEIR_STAT_RAW_FULL,     /* pieces of these not sent: ring full, or fair share */
	WEIR_STAT_RAW_SHED,     /* the same: self-limit */
	WEIR_STAT_RAW_BYTES,    /* bytes of both */
	WEIR_STAT_COUNT,
};

/* ---- ring events --------------------------------------------------------------------------------- */
enum weir_event_type { WEIR_EVENT_SLICE = 1, WEIR_EVENT_DONE = 2, WEIR_EVENT_RAW = 3 };

enum weir_dir { WEIR_REQUEST = 0, WEIR_RESPONSE = 1 };

/* slice flags */
#define WEIR_SLICE_HEAD_DONE 1 /* the head became complete in this segment: an arrival (request side), exactly once */
#define WEIR_SLICE_GAP 2       /* bytes of this message are missing somewhere before this slice */
#define WEIR_SLICE_MSG_DONE 4  /* the message became complete in this segment */
#define WEIR_SLICE_HOT 8       /* a finish reason or an error was seen in it */
/*
 * Ends a prefix of the PROXY protocol, with which the connection began. Its earlier bytes, where it came in several segments, were sent as
 * the first of the first request's; behind it that request begins anew, at 0.
 */
#define WEIR_SLICE_PROXY 16

/*
 * A piece of one message. `off` counts bytes of the message from its first head byte, on the wire (chunk framing included);
 * slices of one message come in order but not without holes. Only `len` bytes of data are valid; the record in the ring may be
 * longer.
 */
struct weir_slice {
	__u8 type, dir, flags, pad;
	__u16 len;
	__u16 status;   /* response: 0 until the head is complete */
	__u32 request;  /* number of the request on its connection, from 0 */
	__u32 head_len; /* 0 until the head is complete */
	__u64 conn;     /* unique per connection and agent run */
	__u64 off;
	__u64 ts; /* of the segment */
	struct weir_conn_key key;
	char data[];
};

/* done flags */
#define WEIR_DONE_ABORTED 1       /* the connection ended, or another response began, before the response did */
#define WEIR_DONE_PARTIAL 2       /* bytes of the response were not seen (gap, late attach): counts may be low */
#define WEIR_DONE_NO_REQUEST 4    /* the request was not seen; it is counted all the same */
#define WEIR_DONE_STREAM 8        /* text/event-stream or NDJSON */
#define WEIR_DONE_ENCODED 16      /* compressed body: tokens are for user space to find */
#define WEIR_DONE_ERROR 32        /* an error object inside the body */
#define WEIR_DONE_SLICE_LOST 64   /* at least one slice of this request was not sent */
#define WEIR_DONE_NO_RESPONSE 128 /* aborted before any response byte */

/* token slots of one response; which are present says weir_done.token_mask */
enum weir_token {
	WEIR_TOK_PROMPT,       /* everything the model read */
	WEIR_TOK_INPUT,        /* the same in Anthropic's and OpenAI Responses' words; Anthropic's leaves cached tokens out */
	WEIR_TOK_COMPLETION,
	WEIR_TOK_CACHED,       /* part of prompt */
	WEIR_TOK_CACHE_READ,   /* Anthropic: beside input_tokens, part of the prompt */
	WEIR_TOK_CACHE_CREATE, /* the same */
	WEIR_TOK_REASONING,    /* part of completion */
	WEIR_TOK_THOUGHTS,     /* Gemini: beside candidatesTokenCount */
	WEIR_TOK_ALT_PROMPT,   /* llama.cpp timings.prompt_n: uncached prompt tokens; total_tokens of a ranking that tells nothing else */
	WEIR_TOK_ALT_CACHED,   /* timings.cache_n */
	WEIR_TOK_ALT_COMPLETION, /* timings.predicted_n */
	WEIR_TOK_TOOL_PROMPT,    /* Gemini: what its own tools gave the model to read; beside promptTokenCount, part of the prompt */
	WEIR_TOK_COUNT,
};
#define WEIR_TOK_LAST 0x40 /* on a slot in weir_automaton.arg: runs up to its last value also in an array, where others are added up */

struct weir_done {
	__u8 type, pad;
	__u16 flags;
	__u16 status; /* 0: none seen */
	__u16 token_mask;
	__u32 request;
	__u32 events;       /* SSE or NDJSON events, [DONE] and comments not counted */
	__u32 delta_events; /* of these, the ones that carry generated text (WIRE: role-only events not) */
	__u32 tokens[WEIR_TOK_COUNT];
	__u32 pad2;
	__u64 conn;
	__u64 req_first_ns, req_head_ns, req_last_ns;       /* first byte, head complete, last byte of the request */
	__u64 resp_first_ns, content_ns, resp_last_ns;      /* first byte, first generated content, last byte of the response */
	__u64 req_bytes, resp_bytes;                        /* heads included */
	char finish[WEIR_FINISH_MAX]; /* the first finish reason that is a string; 0 behind its end; empty: none */
	struct weir_conn_key key;
};

/* raw flags */
#define WEIR_RAW_END 1      /* the connection is over; no data */
#define WEIR_RAW_UPGRADED 2 /* it began as HTTP/1: stream 1 answers `request`, which is counted already and still open */
#define WEIR_RAW_TCP 4      /* rcv_nxt is there */
#define WEIR_RAW_MAX 16384  /* bytes of one event */

/*
 * A piece of one direction of a connection that speaks HTTP/2, whose headers only user space can read. Pieces come as the segments do:
 * those of a response in order, those of a request also out of order and more than once; `seq` says where.
 */
struct weir_raw {
	__u8 type, dir, flags, pad;
	__u32 len;
	__u64 conn;
	__u64 ts;
	__u32 seq;     /* of data[0] */
	__u32 rcv_nxt; /* requests: what TCP itself had in order when the segment passed */
	__u32 lost[2]; /* by direction: bytes that were not sent up so far, modulo 2^32 */
	__u32 request;
	__u32 pad2;
	struct weir_conn_key key;
	char data[];
};

/*
 * What weir_client and the record count, out of the slots. One place for both sides. input_tokens alone is no usage: that is what
 * the endpoints answer that only count (count_tokens, input_tokens).
 */
WEIR_INLINE __u8 weir_has_usage(__u16 mask)
{
	return (mask & (1u << WEIR_TOK_PROMPT | 1u << WEIR_TOK_COMPLETION | 1u << WEIR_TOK_ALT_PROMPT | 1u << WEIR_TOK_ALT_COMPLETION)) != 0;
}

/* Slots without a bit in the mask are 0. */
WEIR_INLINE __u64 weir_prompt_tokens(__u16 mask, const __u32 *t)
{
	if (mask & 1u << WEIR_TOK_PROMPT)
		return (__u64)t[WEIR_TOK_PROMPT] + t[WEIR_TOK_TOOL_PROMPT];
	if (mask & 1u << WEIR_TOK_INPUT)
		return (__u64)t[WEIR_TOK_INPUT] + t[WEIR_TOK_CACHE_READ] + t[WEIR_TOK_CACHE_CREATE];
	return (__u64)t[WEIR_TOK_ALT_PROMPT] + t[WEIR_TOK_ALT_CACHED];
}

WEIR_INLINE __u64 weir_completion_tokens(__u16 mask, const __u32 *t)
{
	if (mask & 1u << WEIR_TOK_COMPLETION)
		return (__u64)t[WEIR_TOK_COMPLETION] + t[WEIR_TOK_THOUGHTS];
	return t[WEIR_TOK_ALT_COMPLETION];
}

WEIR_INLINE __u64 weir_cached_tokens(__u16 mask, const __u32 *t)
{
	if (mask & 1u << WEIR_TOK_CACHED)
		return t[WEIR_TOK_CACHED];
	if (mask & 1u << WEIR_TOK_CACHE_READ)
		return t[WEIR_TOK_CACHE_READ];
	return t[WEIR_TOK_ALT_CACHED];
}

WEIR_INLINE __u64 weir_reasoning_tokens(const __u32 *t)
{
	return (__u64)t[WEIR_TOK_REASONING] + t[WEIR_TOK_THOUGHTS];
}

/* ---- the automaton, compiled in user space (src/decode/automaton.c) from one table of field names - */
enum weir_root {
	WEIR_ROOT_REQUEST,      /* first line of a request */
	WEIR_ROOT_FIRST,        /* the same, of a connection's first: a prefix of the PROXY protocol may stand before it */
	WEIR_ROOT_RESPONSE,     /* first line of a response */
	WEIR_ROOT_REQUEST_HEAD, /* the rest of the head */
	WEIR_ROOT_RESPONSE_HEAD,
	WEIR_ROOT_BODY,
	WEIR_ROOT_BODY_START, /* the same before its first byte that is not blank */
	WEIR_ROOT_SKIP, /* inside a JSON value that only echoes what the client sent */
	WEIR_ROOT_COUNT,
};

enum weir_action {
	WEIR_ACT_NONE,
	WEIR_ACT_BAD,        /* this cannot be HTTP/1 */
	WEIR_ACT_METHOD,     /* arg 1: HEAD, 2: CONNECT, 0: any other */
	WEIR_ACT_STATUS,     /* "HTTP/1.x " seen, digits follow */
	WEIR_ACT_HEAD_END,
	WEIR_ACT_LENGTH,     /* content-length: seen, digits follow */
	WEIR_ACT_CHUNKED,
	WEIR_ACT_ENCODED,    /* content-encoding other than identity */
	WEIR_ACT_TYPE,       /* arg: enum weir_body_type */
	WEIR_ACT_TOKENS_HEAD, /* response header that counts tokens; arg: enum weir_token, digits follow */
	WEIR_ACT_TOKENS,     /* JSON key that counts tokens; arg: enum weir_token, WEIR_TOK_LAST on it or not; colon and digits follow */
	WEIR_ACT_CONTENT,    /* generated text, not empty */
	WEIR_ACT_EMPTY,      /* generated text, empty string */
	WEIR_ACT_ROLE,
	WEIR_ACT_FINISH,     /* a finish reason that is not null; arg 1: a string, whose first byte was read */
	WEIR_ACT_ERROR,
	WEIR_ACT_EVENT_END,  /* end of a line that ends a JSON object */
	WEIR_ACT_SKIP,       /* the value of an echoing key begins: objects and arrays only */
	WEIR_ACT_OPEN,       /* in WEIR_ROOT_SKIP: bracket opens */
	WEIR_ACT_CLOSE,
	WEIR_ACT_ARRAY,      /* an array of answers begins: the body, or what it wraps */
	WEIR_ACT_H2,         /* HTTP/2 begins: arg 0 the client's preface, 1 a response head agrees to it */
	WEIR_ACT_PROXY_LINE, /* end of a prefix of the PROXY protocol, version 1 */
	WEIR_ACT_PROXY,      /* the signature of version 2 was seen, four bytes follow */
};

/* BATCH: a JSON array, of answers that each count their own tokens. The kernel learns it from how a JSON body begins. */
enum weir_body_type { WEIR_BODY_OTHER, WEIR_BODY_JSON, WEIR_BODY_SSE, WEIR_BODY_NDJSON, WEIR_BODY_BATCH };

#define WEIR_REST_LEAVES 4
#define WEIR_HIT 0x8000 /* set in next[] where the state reached has an action */

struct weir_automaton {
	__u16 next[WEIR_STATES * 256]; /* index: state << 8 | byte */
	__u8 action[WEIR_STATES]; /* enum weir_action */
	__u8 arg[WEIR_STATES];
	__u16 root[WEIR_ROOT_COUNT];
	__u16 states;
	/* A state that all but WEIR_REST_LEAVES bytes leave as it is, so that eight of them are passed at once. WEIR_STATES: none. */
	__u16 rest;
	__u64 leave[WEIR_REST_LEAVES]; /* these bytes, each eight times */
	/* The same in the heads of requests and of responses; only a line feed leads out of it. */
	__u16 rest_head[2];
};

/* ---- settings that change while running (one global variable in the object) ----------------------- */
enum weir_shed { WEIR_SHED_NONE, WEIR_SHED_SLICES, WEIR_SHED_RECORDS, WEIR_SHED_SCAN };

struct weir_control {
	__u32 shed;        /* enum weir_shed */
	__u16 tls_off;     /* the TLS hook returns at once: self-limit */
	__u16 tls_on;      /* a library has probes: socket calls are of interest */
	__u64 ring_epoch;  /* moved on by user space after each drain */
	__u8 ports[65536 / 8]; /* watched listening ports */
};

#endif
