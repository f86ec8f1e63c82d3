/*
 * agent_feed.h - from ring events to records, to the detector and to the file.
 *
 * What the file holds, replayed, must give the detector the same picture that it had live; every record
 * is therefore fed with the very numbers that are written.
 */
#ifndef WEIR_CMD_AGENT_FEED_H
#define WEIR_CMD_AGENT_FEED_H

#include "capture/losses.h"
#include "cmd/agent_accounts.h"
#include "cmd/agent_hidden.h"
#include "cmd/agent_inner.h"
#include "cmd/agent_key.h"
#include "cmd/agent_ports.h"
#include "cmd/agent_records.h"
#include "cmd/state.h"
#include "detect/detect.h"

struct dialect_file;
struct feed;

struct feed_opts {
	uint8_t key[AGENT_KEY_BYTES];
	const struct weir_automaton *automaton; /* outlives the feed */
	const struct dialect_file *dialects;	/* the same; may be NULL */
	struct detect *detect;
	struct records_out *records;
	struct state *state; /* NULL: none is kept */
	struct agent_ports *ports;
	const struct identity_rules *identity; /* outlives the feed */
	struct accounts *accounts;
	struct hidden *hidden;
	struct inner *inner;
	/* What was counted here, not in the kernel, of the client at the far end of a connection. */
	void (*count)(void *ctx, const struct weir_conn_key *key, const struct weir_client *more);
	void *ctx;
};

int feed_open(const struct feed_opts *o, struct feed **ret);
struct feed *feed_free(struct feed *f);

/* One event of the ring. */
void feed_event(void *feed, const void *data, size_t n);
/* Tells the arrivals of requests whose body is still on its way. Each second, before feed_loss(). */
void feed_arrivals(struct feed *f);
/* What the counters saw beyond the records. */
void feed_loss(void *feed, const struct loss *l);
/* What runs behind a port is called so; an empty name: it is not known any more. */
void feed_workload(void *feed, uint32_t netns, uint16_t port, struct span name);
/* Something happened to a server. */
void feed_marker(void *feed, enum marker_kind kind, struct span server, struct span what, double when);
/* A stream that is still open has so many tokens by now. */
void feed_stream(void *feed, uint64_t conn, uint32_t request, int64_t tokens);
/* The same of all streams whose tokens are counted here (HTTP/2). */
void feed_streams(struct feed *f);
void feed_set_shed(struct feed *f, enum weir_shed level);
/* About once a second: silence moves the detector's clock. */
void feed_second(struct feed *f);
/* No more events: what is half assembled goes out. */
void feed_finish(struct feed *f);

uint64_t feed_count(const struct feed *f); /* records made */
/* Says whose word on the true client was taken and whose was not, where there is something to say: most servers have no proxy in front. */
void feed_log_identity(const struct feed *f);
/* Requests that are counted in the clients' `lost` without a trace in the kernel's statistics. */
uint64_t feed_lost(const struct feed *f);
/* Appends " name number" of each kind of loss that happened here. */
void feed_write_losses(const struct feed *f, struct str *out);
/* Adds what the assembler counted, for `stats`. */
void feed_write_json(const struct feed *f, struct str *out);

/* The calls that no dialect knows, as JSON lines. */
void feed_write_unknown(const struct feed *f, struct str *out);

#endif
