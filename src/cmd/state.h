/*
 * state.h - between the engine and the store: what is learnt goes in, comes back after a restart; feedback comes by.
 *
 * Every call takes a NULL state and does nothing then (no --state). A live agent is never stopped by its store: what fails is
 * said once, counted, and tried again; what cannot be mended goes on in memory. A replay, which was asked for by a person who
 * waits, fails at the start.
 */
#ifndef WEIR_CMD_STATE_H
#define WEIR_CMD_STATE_H

#include "detect/detect_state.h"

#define STATE_DEFAULT "/var/lib/weir" /* of the unit; where commands look without --state */
#define STATE_SAVE_S 8		      /* a crash costs at most 10 s of learning: this, and a little for the save to be late */
#define STATE_SAVE_REPLAY_S 3600      /* of event time; a week in a minute would else be written ten times over */
#define STATE_ITEMS_MAX 16384	      /* of one save of a live agent, some 50 ms; the rest follows each second */
#define STATE_HURRY_S 2		      /* after an incident opens or closes, not oftener */
#define STATE_PRUNE_S 400	      /* one of the store's ceilings; all of them once an hour */
#define STATE_CLOCK_S 604800	      /* a clock may be so far ahead of the last save and the time since; what seems old beyond that is kept */
#define STATE_PENDING_MAX 256	      /* events that wait for a store that does not take them now */
#define STATE_COPY_BYTES (4u << 20)   /* of log, after which a replay copies it back; a live agent does after each save */

/* What the engine offers; a test puts its own in place. */
struct state_engine {
	int (*export)(void *engine, bool all, int (*put)(void *ctx, const struct detect_state_item *it), void *ctx);
	int (*import)(void *engine, const struct detect_state_item *it);
	int (*label)(void *engine, const struct detect_label *l);
};

struct state_opts {
	const char *dir;
	bool live; /* saves by the clock on the wall, listens to feedback; else by event time alone */
	const struct state_engine *engine; /* NULL: detect.h's */
	/* Incidents that were open when weir ended and that the engine does not know any more are closed through this. */
	void (*emit)(void *ctx, const struct anomaly *a);
	void *ctx;
};

struct state_stats {
	bool kept;	   /* a store is there and takes what it is given */
	uint64_t saves, failures;
	uint64_t items;	   /* saved, all saves together */
	uint64_t imported, refused, damaged;
	uint64_t labels;
	uint64_t resumed, closed; /* incidents of the time before */
	uint64_t events_lost;
	uint64_t bytes;
	double save_ms, save_ms_max;
};

struct state;
/* dir NULL: *ret is NULL and 0. Says what is wrong. Negative errno where there is no store to be had; live,
 * where there can be none (the folder that DIR is to be in is not there), and memory does for all other cases. */
int state_open(const struct state_opts *o, struct state **ret);
/* Before the first record. now: 0 where no time is known yet. */
void state_load(struct state *s, void *engine, double now);
/* Before the event goes to the sinks: what they tell must not be forgotten. */
void state_event(struct state *s, const struct anomaly *a);
void state_record(struct state *s, const struct record *r);
/* Live about once a second; else every now and then. Saves when it is time. */
void state_tick(struct state *s, double now);
/* The last save, once nothing more comes. Negative where something could not be kept. */
int state_finish(struct state *s, double now);
/* Closes the store; before the engine goes. Without state_finish() as a crash would leave it. */
struct state *state_free(struct state *s);
void state_stats(const struct state *s, struct state_stats *ret);
void state_write_json(const struct state *s, struct str *out);

#endif
