/*
 * agent_inner.h - inner hops: requests that a gateway which is watched makes to an engine which is watched, too.
 *
 * They are the same requests as those at the gateway, and are billed there: no record, no detector, no account hears of them.
 * What they tell is where the time goes: how long a request stood in the gateway before it was passed on, and what the engine
 * took. An inner arrival is set against the oldest at the gateway's port that waits, of those with a prompt of the same length if there
 * are any: exact for one at a time or for prompts that differ; else a pair may be swapped with another, which leaves the mean.
 */
#ifndef WEIR_CMD_AGENT_INNER_H
#define WEIR_CMD_AGENT_INNER_H

#include "capture/losses.h"
#include "decode/assemble.h"

struct str;

#define INNER_LINKS_MAX 64   /* pairs of a gateway's port and an engine's; beyond, they are counted in the sums only */
#define INNER_WAITING 4096   /* requests that were not yet passed on; two of one hash make one forgotten */
#define INNER_PEERS_MAX 256  /* ends by which lost requests are told to be inner ones */
#define INNER_CONNS 8192     /* connections whose answer is kept */

struct inner;

struct inner_opts {
	/* The port of the watched listener that whoever made this connection holds; 0: nobody. NULL: there are no inner hops. */
	uint16_t (*ask)(void *ctx, const struct weir_conn_key *at);
	void *ctx;
};

struct inner *inner_new(const struct inner_opts *o); /* NULL: out of memory */
struct inner *inner_free(struct inner *i);

/* For assemble_opts.outer. */
uint16_t inner_outer(struct inner *i, uint64_t conn, const struct weir_conn_key *at);

/* Each request's beginning and its end, inner and others. */
void inner_arrival(struct inner *i, const struct record *r, const struct assemble_source *s);
void inner_complete(struct inner *i, const struct record *r, const struct assemble_source *s);
/* Whether lost requests of this peer were inner ones: most of those seen were. They are counted here then. */
bool inner_lost(struct inner *i, const struct loss *l);

struct inner_sums {
	uint64_t requests, prompt_tokens, completion_tokens, lost;
};
const struct inner_sums *inner_sums(const struct inner *i);
/* "inner": {...}, for `stats`. */
void inner_write_json(const struct inner *i, struct str *out);

#endif
