/*
 * engine.h - the adaptive engine's parts among themselves; outside of src/detect only detect.h counts.
 *
 *   detect.c    clock, feeds, ticks            entity.c    who takes part, windows
 *   learn.c     every 10 s: baselines          baseline.c  level, dispersion, habit
 *   judge.c     every second: what is abnormal incident.c  open, update, close, one cause
 *   static.c    the plain method, apart        describe.c  evidence, top, the sentence
 */
#ifndef WEIR_DETECT_ENGINE_H
#define WEIR_DETECT_ENGINE_H

#include "detect/detect.h"
#include "detect/entity.h"
#include "detect/tuning.h"

#define WHEEL 1024 /* seconds ahead that need no second look */
#define FEED_ENTITIES 5

enum { FEED_ARRIVAL = 1, FEED_TOKENS = 2, FEED_OUTCOME = 4, FEED_FAILED = 8 };

struct feed {
	int32_t tick;
	uint32_t next;
	uint32_t entity[FEED_ENTITIES]; /* server, model, client_ip, api_key, user */
	float weight, tokens;
	uint8_t flags;
};

/* What an incident watches, and so how it ends. */
enum watch { WATCH_FLOOD, WATCH_RISE, WATCH_COST, WATCH_ERROR, WATCH_DROP };

#define SUSPECTS_MAX 16
struct incident {
	bool used, open, slow; /* slow: seen in the 60 s window */
	enum watch watch;
	enum anomaly_class cls;
	enum anomaly_severity severity;
	uint32_t entity; /* NOBODY: global */
	enum entity_kind scope_kind;
	char scope_value[ENTITY_NAME_MAX + 1];
	char id[48];
	int64_t start; /* epoch second */
	int32_t opened, above, closed, told;
	double peak10, peak60; /* of the members together */
	double score, score_told, confidence;
	enum anomaly_severity severity_told;
	uint32_t suspect[SUSPECTS_MAX]; /* referred to; the first `members` explain it */
	double share[SUSPECTS_MAX]; /* of the excess, when it was largest */
	unsigned int suspects, members;
	char summary[512]; /* as last told before the end */
};

/* What is usual among entities of one kind, for those that have no past. */
struct pool {
	struct baseline req, tok;
};

struct detect {
	struct detect_opts opts;
	struct detect_stats stats;
	struct static_bins *bins; /* static only; the rest is unused then */

	/* clock */
	bool begun, have_window;
	int64_t base;      /* epoch second of tick 0 */
	int32_t tick;      /* last tick run */
	double newest;
	double ahead;      /* timestamp of the last record that claimed to be from the future */
	unsigned int ahead_run, behind_run, confirmed;

	/* feeds that wait for their second */
	struct feed *feed;
	uint32_t feeds, feed_used, feed_free, feed_cap;
	uint32_t head[WHEEL], tail[WHEEL];

	struct entities entities;
	uint32_t global;
	uint32_t *active, *touched;
	uint32_t actives, active_cap, touches, touched_cap;
	struct pool pool[ENTITY_KIND_COUNT];
	uint32_t steps; /* of the stream */
	uint8_t hist_rise;
	int32_t cool; /* until then a global incident echoes */
	uint32_t rise_ticks;

	struct incident incident[INCIDENTS_MAX];
	uint64_t suppressed; /* incidents that found no room */
	int error;
};

static inline struct entity *at(const struct detect *d, uint32_t i)
{
	return entity_at(&d->entities, i);
}
static inline struct entity *global_of(const struct detect *d)
{
	return at(d, d->global);
}
static inline bool is_identity(const struct entity *e)
{
	return e->kind >= ENTITY_CLIENT_IP;
}

void learn_step(struct detect *d);
void learn_new(struct detect *d, struct entity *e);
void judge_tick(struct detect *d);

/* One entity's requests against its own past, in the 10 s or the 60 s window. */
struct reading {
	double x, mu, excess, z, ratio;
};
struct reading read_requests(const struct entity *e, bool slow);
struct reading read_tokens(const struct entity *e);
struct error_reading {
	double done, failed, share, z;
};
struct error_reading read_errors(const struct detect *d, const struct errors *er);
double flood_bar(const struct detect *d, bool slow); /* excess that counts as a flood */
double cost_bar(const struct detect *d);

/* The open incident that explains e's rise, or NULL. */
struct incident *incident_of(struct detect *d, const struct entity *e);
bool incident_any(const struct detect *d, unsigned int watches); /* bit per watch, open now */
/* Opens, or re-opens what closed lately. e: NOBODY for global. NULL where there is no room. */
struct incident *incident_open(struct detect *d, enum watch w, enum anomaly_class cls, uint32_t e, bool slow, double score, int64_t start);
void incident_suspect(struct detect *d, struct incident *in, uint32_t e, bool member);
/* Emits. Called by the judge when all is filled in. */
void incident_tell(struct detect *d, struct incident *in, enum anomaly_event ev);
void incident_become(struct detect *d, struct incident *in, enum watch w, enum anomaly_class cls, uint32_t e, double score);
void incident_watch(struct detect *d);
/* How strong it still is: 1 where it would just open. */
double incident_strength(const struct detect *d, const struct incident *in, double *ret_z);

/* Remembers who holds which share now, where it is more than before. */
void describe_shares(const struct detect *d, struct incident *in);
void describe(const struct detect *d, struct incident *in, enum anomaly_event ev, struct anomaly *a, char *summary, size_t n);

struct static_bins;
int static_open(const struct detect_opts *opts, struct static_bins **ret);
struct static_bins *static_free(struct static_bins *s);
int static_record(struct static_bins *s, const struct record *r);
int static_finish(struct static_bins *s, const struct detect_opts *opts, struct detect_stats *stats);

#endif
