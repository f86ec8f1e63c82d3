/*
 * detect_state.h - what the engine has learnt, out and in again; and what people said of its alarms.
 *
 * An item is one baseline (or one open incident), under names that survive restarts: a kind and a name. The blob is the
 * engine's own; whoever keeps it does not look inside.
 */
#ifndef WEIR_DETECT_STATE_H
#define WEIR_DETECT_STATE_H

#include "detect/detect.h"

/* Kinds with a meaning outside of the engine. */
#define DETECT_STATE_INCIDENT "incident"     /* an open incident; the name is its id */
#define DETECT_STATE_SUPPRESSED "suppressed" /* the name is an incident's id, the blob a uint64_t: alarms that its label kept quiet */

struct detect_state_item {
	const char *kind, *name;
	const void *blob;
	size_t n;
};

/*
 * Gives each item that changed since it was last given to put(); all: every item there is counts as changed. A put() that answers
 * other than 0 has not taken its item and ends the export with that answer: this item and those that were not reached stay
 * changed, so that the next export goes on there.
 */
int detect_export(struct detect *d, bool all, int (*put)(void *ctx, const struct detect_state_item *it), void *ctx);

/* Before the first record. -EINVAL: unknown or damaged; learning starts anew for it. */
int detect_import(struct detect *d, const struct detect_state_item *it);

struct detect_label {
	const char *incident_id;
	enum anomaly_class cls;
	enum entity_kind scope_kind;
	const char *scope_value;
	bool true_positive;
	double start, end, score; /* end < 0: was open when it was labelled */
	const struct anomaly_evidence *evidence;
	size_t evidence_count;
};

/* Feedback, in the order in which it was given; old ones again after each start. */
int detect_label(struct detect *d, const struct detect_label *l);

#endif
