/*
 * marker.h - what happened to servers beside their requests: starts, ends, restarts, new images and models.
 *
 * Markers explain, they never decide: no incident opens, closes or changes its class for one. An incident of those that a restart or a
 * new model can cause (latency_regression, error_burst, traffic_drop, token_growth) that begins within MARKER_CITED_S after one
 * cites it: at the end of its summary, and as evidence `seconds_since_marker`. Only the newest MARKERS_MAX are kept.
 */
#ifndef WEIR_DETECT_MARKER_H
#define WEIR_DETECT_MARKER_H

#include "detect/detect.h"
#include "detect/tuning.h"

#define MARKERS_MAX 64
#define MARKER_CITED_S 900
#define MARKER_SLACK_S 15      /* onsets are estimated, in steps of 10 s: one that seems to come before its cause */
#define MARKER_SERVERS_MAX 64  /* whose models are followed; the one that was silent longest goes first */
#define MARKER_MODELS_MAX 8    /* of one server; one that serves more is not followed */
#define MARKER_SETTLED_S 600   /* a server's first models are no change */

struct marked {
	int64_t second;
	enum marker_kind kind;
	char server[ENTITY_NAME_MAX + 1];
	char what[64];
};

struct served {
	uint64_t server; /* hash of its name */
	int32_t born, last;
	uint32_t model[MARKER_MODELS_MAX];
	uint32_t models; /* 0: free; MARKER_MODELS_MAX + 1: too many */
};

struct markers {
	struct marked ring[MARKERS_MAX];
	uint32_t next;
	struct served served[MARKER_SERVERS_MAX];
};

struct finding;

void markers_add(struct markers *m, int64_t second, enum marker_kind kind, struct span server, struct span what);
/* This server has answered for this model. */
void markers_see(struct detect *d, uint32_t server, uint32_t model, int32_t tick);
/* The end of a sentence about f, empty where it cites nothing; else *ret_since is how long before its start that was. */
void markers_cite(const struct detect *d, const struct finding *f, char *ret, size_t cap, double *ret_since);

#endif
