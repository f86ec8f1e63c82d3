/*
 * engine.h - the adaptive engine's parts among themselves; outside of src/detect only detect.h counts.
 *
 *   detect.c    clock, feeds, ticks              entity.c    who takes part, windows
 *   recent.c    the last requests                traits.c    how a set of requests behaves
 *   learn.c     every 10 s: baselines            baseline.c  level, dispersion, peaks of one series
 *
 *   volume.c    flood, ddos, flash crowd         spend.c     cost spike
 *   unbilled.c  unbilled compute
 *   behave.c    scraping, prompt probing         access.c    credential abuse, key sharing
 *   growth.c    token growth                     latency.c   latency regression
 *   health.c    error burst, traffic drop
 *
 *   incident.c  open, update, close; one cause   describe.c  evidence, top, the sentence
 *   calendar.c  what is known to come            season.c    the day's and the week's course
 *   budget.c    how often it may ring           cost.c      what it costs an hour
 *   part.c      what can be left out            static.c    the plain method, apart
 *
 * A detector looks at the entities and reports findings, at every tick or step while it sees them; what becomes of a finding
 * (waiting, opening, joining another incident, closing when it is no longer reported) is decided in incident.c alone.
 */
#ifndef WEIR_DETECT_ENGINE_H
#define WEIR_DETECT_ENGINE_H

#include <math.h>

#include "detect/budget.h"
#include "detect/routine.h"
#include "detect/detect.h"
#include "detect/entity.h"
#include "detect/full.h"
#include "detect/marker.h"
#include "detect/part.h"
#include "detect/recent.h"
#include "detect/traits.h"
#include "detect/tuning.h"

#define WHEEL 1024 /* seconds ahead that need no second look */

enum { FEED_SERVER, FEED_MODEL, FEED_IP, FEED_KEY, FEED_USER, FEED_ENTITIES };
enum { FEED_ARRIVAL = 1, FEED_TOKENS = 2, FEED_OUTCOME = 4, FEED_FAILED = 8, FEED_RATE = 16 };

struct feed {
	int32_t tick;
	uint32_t next;
	uint32_t entity[FEED_ENTITIES];
	float weight, tokens;
	uint8_t flags;
	struct moment m;
};

/* ---- findings and incidents ------------------------------------------------------------------------ */

/* What a detector watches; an incident belongs to one watch at a time. In the order of precedence among causes. */
enum watch {
	WATCH_VOLUME,  /* flood, ddos, flash_crowd */
	WATCH_ACCESS,  /* key_sharing */
	WATCH_AUTH,    /* credential_abuse */
	WATCH_BEHAVE,  /* scraping, prompt_probing */
	WATCH_COST,    /* cost_spike */
	WATCH_GROWTH,  /* token_growth */
	WATCH_ERROR,   /* error_burst */
	WATCH_LATENCY, /* latency_regression */
	WATCH_DROP,    /* traffic_drop */
	WATCH_COUNT
};

#define SUSPECTS_MAX 16
struct finding {
	enum watch watch;
	enum anomaly_class cls;
	enum anomaly_severity severity;
	uint32_t scope;    /* NOBODY: global */
	double strength;   /* 1: would just open; below LEAVE_FACTOR it ends */
	double score;      /* sigma-equivalent */
	double confidence; /* of the class, 0..1 */
	double magnitude;  /* how much, in the watch's own unit (x the expected): what feedback compares */
	int64_t start;     /* epoch second of the onset */
	uint8_t needs;     /* reports, at this detector's pace, before it opens; 0 and 1: at once */
	int32_t leave_s;   /* 0: LEAVE_S */
	int32_t accept_s;  /* so long and it is how things are; 0: ACCEPT_S */
	int32_t joins;     /* so long after it opened, others that do the same belong to it; 0: never */
	bool quiet;        /* its actors go on learning */
	bool slow;         /* seen in the longer window */
	bool apart;        /* shows what others of its time do not */
	uint32_t actor[SUSPECTS_MAX]; /* who does it, first those that explain it */
	double share[SUSPECTS_MAX];   /* of the excess; 0: not named */
	unsigned int actors;
	struct anomaly_evidence evidence[ANOMALY_EVIDENCE_MAX];
	size_t evidence_count;
	char summary[400];
};

/* What the isolation forest said when it opened. */
struct opinion {
	int of; /* which forest; < 0: none */
	bool asked;
	float look[32];
	double score, sigma, value, share;
	enum trait most; /* the feature that makes it odd, its value, its share */
};

struct incident {
	bool used, open;
	struct finding f; /* as last reported; severity, score, magnitude, confidence: the highest or latest of the incident */
	enum entity_kind scope_kind;
	char scope_value[ENTITY_NAME_MAX + 1];
	char id[48];
	int32_t opened, above, closed, told;
	double score_told, magnitude_told;
	enum anomaly_severity severity_told;
	enum anomaly_class cls_told;
	uint32_t scope_told;
	uint64_t related; /* bit per watch that joined */
	/* What people said of it (feedback.c). */
	bool muted;     /* goes on, and nothing is told: its like was called a false positive */
	bool dismissed; /* it was itself */
	bool confirmed; /* a true positive: nobody gets used to it */
	double strongest; /* of all reports; what was seen then is what a label is about */
	double held;      /* the most it held up to as a warning (budget.c) */
	double cost;      /* an hour, at its dearest (cost.c) */
	double requests, tokens; /* the most its scope sent in five minutes */
	unsigned int routine; /* days on which it did the same at this hour (routine.h); 0: it is news */
	struct anomaly_evidence best[ANOMALY_EVIDENCE_MAX];
	size_t bests;
	char said[400];
	struct opinion opinion;
	double odds; /* volume.c, of many: of attack, over all that was seen of it */
	char cause[200]; /* the marker it cites, as the end of a sentence; empty: none */
	double since_cause;
};

/* What a detector saw, and was not yet enough. */
struct pending {
	enum watch watch;
	uint32_t scope;
	int32_t first, last;
	uint8_t reports;
};
#define PENDING_FINDINGS 256

/* What is usual among entities of one kind, for those that have no past. */
struct pool {
	struct baseline req, tok;
	struct habit habit;
};

#include "detect/latency.h"

struct detect {
	struct detect_opts opts;
	struct detect_stats stats;
	struct static_bins *bins; /* static only; the rest is unused then */

	/* clock */
	bool begun;
	int64_t base; /* epoch second of tick 0 */
	int32_t tick; /* last tick run */
	double newest;
	double ahead; /* timestamp of the last record that claimed to be from the future */
	unsigned int ahead_run, behind_run, confirmed;

	/* feeds that wait for their second */
	struct feed *feed;
	uint32_t feeds, feed_used, feed_free, feed_cap;
	uint32_t head[WHEEL], tail[WHEEL];

	struct entities entities;
	struct recent recent;
	uint32_t global, fresh; /* fresh: the requests of addresses first seen lately, as one entity */
	uint32_t *active, *touched;
	uint32_t actives, active_cap, touches, touched_cap;
	struct pool pool[ENTITY_KIND_COUNT];
	struct habit usual;    /* traits of everybody's requests, calm minutes only */
	struct traits now;     /* of the last minute, every step */
	struct latency_models *latency;
	struct markers markers;
	struct {
		double level, disp, peak; /* refused credentials a minute */
		double peak300, cur, cur300;
	} auth;
	uint32_t steps; /* of the stream */
	int32_t cool;   /* until then a global incident echoes */

	struct incident incident[INCIDENTS_MAX];
	struct pending pending[PENDING_FINDINGS];
	uint64_t suppressed; /* incidents that found no room */
	struct kept *kept;   /* state.c: what came from an export */
	struct feedback *feedback;
	struct opinions *opinions;
	int32_t opinions_told; /* tick of their last export */
	struct unbilled *unbilled; /* NULL: no engine was ever told of */
	struct budget *budget;
	struct routines *routines;
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
static inline bool has_part(const struct detect *d, enum part p)
{
	return !(d->opts.without >> p & 1);
}
/* As it is told: a routine is no alarm. */
static inline enum anomaly_severity severity_of(const struct incident *in)
{
	return in->routine ? SEVERITY_INFO : in->f.severity;
}
/* How far somebody has strayed before, where that counts. */
static inline double habit_of(const struct detect *d, double v)
{
	return has_part(d, PART_HABIT) ? v : 0;
}
static inline bool is_identity(const struct entity *e)
{
	return e->kind >= ENTITY_CLIENT_IP;
}
/* Its habits, made where it has none and has sent enough; or NULL. */
struct full *full_of(struct detect *d, struct entity *e);
/* Whose habits a request shows: its key, else its user, else its address. */
static inline uint32_t customer_of(const struct moment *m)
{
	return m->who[WHO_KEY] != NOBODY ? m->who[WHO_KEY] : m->who[WHO_USER] != NOBODY ? m->who[WHO_USER] : m->who[WHO_IP];
}
/* Who sent it, as far as is known: its address, unless that stands for many; then its user, or key. */
static inline uint32_t person_of(const struct detect *d, const struct moment *m)
{
	uint32_t ip = m->who[WHO_IP];

	if (ip != NOBODY && !entity_shared(at(d, ip)))
		return ip;
	return m->who[WHO_USER] != NOBODY ? m->who[WHO_USER] : m->who[WHO_KEY] != NOBODY ? m->who[WHO_KEY] : ip;
}
/* Its tokens say how large a request of its kind is: it was served, and told what it cost. */
static inline bool has_size(const struct moment *m)
{
	return m->prompt >= 0 && m->status < 400 && !(m->flags & (MOMENT_ERROR | MOMENT_ABORTED));
}
static inline double log_tokens(const struct moment *m)
{
	return log1p(((double)m->prompt + MAX((double)m->completion, 0.0)) / (double)m->weight);
}

/* retry.c: a failure that its sender may answer by trying again, and whether an arrival does (then it is no new demand). */
void retry_note_failure(struct detect *d, const struct feed *f, int32_t tick);
bool retry_is_excused(struct detect *d, const struct feed *f, int32_t tick);

void learn_step(struct detect *d);
void learn_new(struct detect *d, struct entity *e);

/* One entity's requests against its own past, in the 10 s or the 60 s window. */
struct reading {
	double x, mu, excess, z, ratio;
};
struct reading read_requests(const struct entity *e, bool slow);
struct reading read_tokens(const struct entity *e);
/* Epoch second at which e's requests (tokens) left what was expected. */
int64_t onset_requests(const struct detect *d, const struct entity *e);
int64_t onset_tokens(const struct detect *d, const struct entity *e);

/* The detectors. _tick: every second, _step: every STEP_S, after learning. */
void volume_tick(struct detect *d);
void spend_step(struct detect *d);
/* One finished request. */
void spend_see(struct detect *d, const struct moment *m);
void health_tick(struct detect *d);
void behave_step(struct detect *d);
/* What it does now is what it does. */
void behave_accept(struct detect *d, uint32_t i);
void access_step(struct detect *d);
/* One request of a key (or user) from a network, as it arrives. */
void access_see(struct detect *d, struct entity *e, uint32_t net);
void growth_step(struct detect *d);
/* One finished request. */
void growth_see(struct detect *d, const struct moment *m);
void unbilled_step(struct detect *d);
/* An answer's end: tokens that it reported and that were computed for it, less those told before. */
void unbilled_see(struct detect *d, const struct record *r, uint32_t server, int32_t tick, double tokens);
void unbilled_free(struct detect *d);
void latency_step(struct detect *d);
void latency_see(struct detect *d, const struct moment *m);

/* ---- incident.c ------------------------------------------------------------------------------------ */
void finding_init(struct finding *f, enum watch w, enum anomaly_class cls, uint32_t scope, double strength, double score);
void finding_actor(struct finding *f, uint32_t e, double share);
__attribute__((format(printf, 2, 3))) void finding_say(struct finding *f, const char *fmt, ...);
void finding_evidence(struct finding *f, const char *feature, double observed, double expected, double sigma);
/* Returns the incident it now belongs to, or NULL (waiting, joined to another cause, or no room). */
struct incident *incident_report(struct detect *d, const struct finding *f);
/* The open incident of that watch and scope, or NULL. */
struct incident *incident_find(struct detect *d, enum watch w, uint32_t scope);
/* The open incident that explains e's doings, or NULL. */
struct incident *incident_of(struct detect *d, const struct entity *e);
/* Is one of these watches (bit per watch) open now, or closed less than COOL_S ago? */
bool incident_any(const struct detect *d, unsigned int watches);
bool incident_lately(const struct detect *d, unsigned int watches);
/* x within lo..hi; 0 where it is not known. */
static inline double clip(double x, double lo, double hi)
{
	return isnan(x) ? 0 : x < lo ? lo : x > hi ? hi : x;
}
/* Do these two stand for the same traffic? */
bool entity_related(const struct detect *d, uint32_t a, uint32_t b);
/* Ends what is no longer reported. */
void incident_watch(struct detect *d);

/* Takes up one that was imported: its actors are held again. */
void incident_resume(struct detect *d, struct incident *in);

/* ---- state.c: what outlives a restart -------------------------------------------------------------- */
/* The clock begins, d->tick stands where it stood: everybody who was imported goes on from there. */
void kept_resume(struct detect *d);
void kept_free(struct detect *d);
/* An imported entity is active again. */
void detect_wake(struct detect *d, uint32_t i);

/* ---- opinion.c: how odd all features together are -------------------------------------------------- */
/* A calm look at an identity; everybody's calm minute. */
void opinion_learn(struct detect *d, const struct traits *t);
void opinion_learn_all(struct detect *d);
void opinion_ask(struct detect *d, struct incident *in);
double opinion_confidence(const struct incident *in, double confidence);
void opinion_label(struct detect *d, const struct incident *in, bool true_positive);
int opinion_export(struct detect *d, bool all, int (*give)(void *ctx, const char *name, const void *blob, size_t n), void *ctx);
int opinion_import(struct detect *d, const char *name, const void *blob, size_t n);
void opinion_free(struct detect *d);

/* ---- feedback.c: what people said ------------------------------------------------------------------ */
struct blob;
/* Would a label keep this quiet? suppressed: count it there. */
bool feedback_mutes(struct detect *d, const struct finding *f, bool count);
/* f is about what k's actors spend, and k, kept quiet, was labelled with requests as large. */
bool feedback_excuses(const struct detect *d, const struct incident *k, const struct finding *f);
/* Called a true positive before: it takes less. */
bool feedback_sharpens(const struct detect *d, const struct finding *f);
unsigned int feedback_count(const struct detect *d);
/* The n-th label: as a blob, its incident, how often it kept quiet; whether any of it is news. */
void feedback_keep(struct detect *d, unsigned int n, struct blob *b);
const char *feedback_id(const struct detect *d, unsigned int n);
bool feedback_changed(const struct detect *d, unsigned int n);
uint64_t feedback_suppressed(const struct detect *d, unsigned int n);
void feedback_exported(struct detect *d, unsigned int n);
int feedback_import(struct detect *d, const char *id, struct blob *b);
int feedback_import_suppressed(struct detect *d, const char *id, uint64_t count);
void feedback_free(struct detect *d);

/* ---- cost.c: in money ------------------------------------------------------------------------------ */
/* Above the expected; 0: no price is known, or it is not about tokens. */
double cost_per_h(const struct detect *d, const struct finding *f);

/* ---- describe.c ------------------------------------------------------------------------------------ */
/* "client 10.0.0.1", "API key k-17", "all clients together" */
const char *describe_who(const struct detect *d, uint32_t e, char *buf, size_t n);
void describe(const struct detect *d, const struct incident *in, enum anomaly_event ev, struct anomaly *a, char *summary, size_t n);

struct static_bins;
int static_open(const struct detect_opts *opts, struct static_bins **ret);
struct static_bins *static_free(struct static_bins *s);
int static_record(struct static_bins *s, const struct record *r);
int static_finish(struct static_bins *s, const struct detect_opts *opts, struct detect_stats *stats);

#endif
