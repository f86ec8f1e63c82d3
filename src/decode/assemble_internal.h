/* assemble_internal.h - shared among assemble*.c; nobody else includes it. */
#ifndef WEIR_DECODE_ASSEMBLE_INTERNAL_H
#define WEIR_DECODE_ASSEMBLE_INTERNAL_H

#include "decode/assemble.h"
#include "decode/dialect.h"
#include "decode/estimate.h"
#include "decode/identity.h"
#include "decode/h2.h"
#include "decode/prompt.h"
#include "decode/proxy.h"
#include "decode/shapes.h"
#include "decode/software.h"
#include "decode/workloads.h"

#define PIECES_MAX 24 /* holes in one message's slices, less one: head, tail and a few hot ones */

struct piece {
	uint64_t off; /* in the message */
	uint32_t at, len; /* in the buffer */
};

/* Slices of one message, in order; what touches is one piece. */
struct pieces {
	struct piece *piece;
	char *buf;
	uint32_t len, cap;
	uint32_t head_len; /* 0: not complete */
	uint16_t count, room;
};

enum text {
	T_PATH,
	T_AGENT,
	T_MODEL,
	T_USER,
	T_KEY,
	T_ID,
	T_FINISH,
	T_ANSWERED, /* model of the response */
	T_COUNT,
};

/* What was read out of the slices; texts lie in one block, in order. */
struct facts {
	char *block;
	uint16_t block_len;
	uint16_t at[T_COUNT], len[T_COUNT];
	int64_t max_tokens, prompt_chars; /* -1: not known */
	int64_t text_bytes;                      /* of an answer in one piece; -1 */
	int8_t stream, logprobs;                 /* -1: not said */
	struct prompt_features prompt;
	char method[8];
	bool is_get;
	bool request_read;
};

struct pending {
	uint64_t conn;
	uint32_t request;
	bool arrived;
	bool waiting; /* its head is here, its body not yet: the arrival is still to be told */
	bool trimmed; /* which list it is in */
	double timestamp; /* where arrived or waiting */
	const char *software, *workload; /* of the server, as they were known when the request arrived; NULL: they were not */
	int64_t told;     /* tokens of it that the detector has heard of */
	uint64_t expect;  /* bytes of the request by its own account; 0: not known */
	uint64_t whole;   /* the same, as it turned out; 0: it is not over */
	bool open_ended;  /* HTTP/2: its head did not say */
	struct weir_conn_key key;
	struct pending *chain;        /* of the hash bucket */
	struct pending *older, *newer; /* by last event */
	struct pending *earlier, *later; /* of those waiting */
	const struct dialect *dialect;
	struct identity identity; /* once `identified`: of the first reading, which is what the arrival told */
	bool identified;
	bool placed;    /* `outer` was asked for */
	uint16_t outer; /* port of the listener whose inner hop this is; 0: of none */
	struct pieces side[2]; /* by enum weir_dir */
	struct facts facts;
	struct shape_names *names[2]; /* of a call that no dialect knows, by enum weir_dir; NULL: none seen */
	size_t bytes; /* accounted for this request */
};

/* What a compressed body held. */
struct unpacked {
	bool whole;
	uint16_t token_mask;
	uint32_t tokens[WEIR_TOK_COUNT];
	uint32_t events, delta_events;
	bool error, content, stream;
	char *text; /* beginning and end of it */
	size_t n, cap;
};

struct assemble {
	struct assemble_opts opts;
	char host[256];
	int64_t wall_ns;
	struct estimate *estimate;
	struct shapes *shapes;
	struct software *software;
	struct workloads *workloads;
	struct proxied *proxied; /* NULL until the first is announced */
	const struct pending *told; /* of whom a callback is being told */
	struct prompt *prompt;
	struct h2 *h2;
	struct pending **buckets;
	uint32_t mask; /* buckets - 1 */
	struct {
		struct pending *oldest, *newest;
	} lru[2], waiting; /* by last event; [1]: of those that gave up their slices, by when they did */
	struct {
		uint64_t conn;
		uint32_t request;
		bool used;
	} recent[1024]; /* completed lately: what comes for them now is late or repeated */
	struct assemble_stats stats;
};

/* assemble_read.c: slices -> facts */
void facts_init(struct facts *f);
void facts_done(struct facts *f);
struct span facts_text(const struct facts *f, enum text t);
/*
 * Reads the request's slices as far as they are there. `seen_bytes`: of the whole message, 0 where not known; `last`: no more will come, so
 * that the prompt's features are computed, which they also are where the whole request is there.
 */
int read_request(struct assemble *a, struct pending *p, uint64_t seen_bytes, bool last);
/* Nothing more of the request is to come. */
bool all_there(const struct pending *p);
int read_response(struct pending *p, const struct weir_done *d, const struct unpacked *u, struct software_clues *clues);

/* assemble_unpack.c */
int unpack_response(const struct assemble *a, const struct pending *p, struct unpacked *ret);
void unpacked_done(struct unpacked *u);

/* assemble_record.c */
void record_arrival(struct assemble *a, struct pending *p);
void record_open(struct assemble *a, struct pending *p, int64_t fresh, void (*tell)(void *ctx, const struct record *r, int64_t fresh), void *ctx);
void record_complete(struct assemble *a, struct pending *p, const struct weir_done *d, const struct unpacked *u);
double wall_seconds(const struct assemble *a, uint64_t ns);

#endif
