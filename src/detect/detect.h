/*
 * detect.h - the detection engine: records in, anomaly events out. Event time only; no clock, no I/O.
 *
 * One record feeds the engine twice: at `timestamp` (rate, source) and at `timestamp + duration_ms`
 * (status, tokens, latency). The clock is the watermark: newest arrival seen less the lateness. Ticks
 * are whole seconds. A record later than the watermark is counted at the watermark, never dropped.
 * Causal: what is emitted depends only on what was fed before. Deterministic: the same calls give
 * the same events. Memory is bounded by the limits in detect.c; what they evict is counted.
 */
#ifndef WEIR_DETECT_DETECT_H
#define WEIR_DETECT_DETECT_H

#include "decode/record.h"
#include "detect/anomaly.h"

struct calendar;
struct prices;

#define DETECT_SENSITIVITY_MIN 0.1
#define DETECT_SENSITIVITY_MAX 1.6 /* detectors do not report what is weaker */
#define DETECT_ALARMS_MAX 1000.0   /* a week */

enum detector { DETECTOR_FULL, DETECTOR_STATIC, DETECTOR_EWMA };

struct detect_opts {
	enum detector detector;
	double lateness_s; /* 0: 2 s */
	const struct calendar *calendar; /* outlives the engine; NULL: none */
	const struct prices *prices;	 /* outlives the engine; NULL: none */
	double sensitivity;	/* an incident opens at 1 / this of the shipped strength; 0: 1 */
	unsigned int without;	/* parts left out, a bit each (part.h) */
	double alarms_per_week; /* 0, or sensitivity follows what has been seen, so that so many warnings and criticals are to be expected */
	/* static only */
	double bin_s; /* 0: 300 */
	double sigma; /* 0: 3 */
	void (*emit)(void *ctx, const struct anomaly *a);
	void *ctx;
};

struct detect_stats {
	uint64_t records, requests; /* requests: sum of weights */
	uint64_t late;              /* records older than the watermark when they came */
	uint64_t future;            /* timestamps too far ahead to believe, counted at the watermark */
	uint64_t evicted;           /* entities forgotten for want of room */
	uint64_t entities;
	uint64_t opens[CLASS_COUNT];
	double first, watermark; /* epoch seconds; 0 before the first record */
};

struct detect;
int detect_open(const struct detect_opts *opts, struct detect **ret);
struct detect *detect_free(struct detect *d);
static inline void detect_freep(struct detect **d)
{
	detect_free(*d);
}

/* A finished record, as read from a file: both feeds. */
int detect_record(struct detect *d, const struct record *r);

/*
 * Live, the two feeds come apart: an arrival when the head is complete, provisional tokens of a stream that is still open
 * (completion tokens since the last call), and at last the completion. detect_complete() must be given the tokens that the
 * provisional calls have not: the engine does not match requests by itself.
 */
int detect_arrival(struct detect *d, const struct record *r);
int detect_provisional(struct detect *d, const struct record *r, double now, int64_t completion_tokens);
int detect_complete(struct detect *d, const struct record *r, int64_t already_told_tokens);

/*
 * What happened to a server, as whoever runs it saw: incidents that may come of it, and begin soon after, cite it (marker.h). `server`
 * as record_server_entity() of its records, or ":PORT". Models that come new to a server are seen in records and need not be told.
 * -EINVAL: no kind, no name or no time.
 */
enum marker_kind { MARKER_START, MARKER_STOP, MARKER_RESTART, MARKER_IMAGE, MARKER_MODEL };
struct marker {
	double time;
	enum marker_kind kind;
	struct span server, what; /* what: the new image or model; may be empty */
};
int detect_marker(struct detect *d, const struct marker *m);

/*
 * The engine behind this port has computed so many tokens since it was last asked (`now`: wall time); prompts without what its cache
 * had, and answers. No record holds it: what is found is found live.
 */
int detect_compute(struct detect *d, uint16_t port, double now, uint64_t tokens);

/* Wall time, for silent input: moves the watermark to now less the lateness when that is later. Never backwards. */
int detect_advance(struct detect *d, double now);
/* End of input: runs the ticks up to the last watermark; incidents stay open (their end is not known). static emits here. */
int detect_finish(struct detect *d);
void detect_stats(const struct detect *d, struct detect_stats *ret);
/* The sensitivity at which so many warnings and criticals a week are to be expected, were all that was seen false; 0: it was too little. */
double detect_sensitivity_for(const struct detect *d, double alarms_per_week);

#endif
