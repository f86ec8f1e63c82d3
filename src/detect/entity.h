/*
 * entity.h - who takes part: global, servers, models, addresses, keys, users; each with its windows and baselines.
 *
 * Bounded: each kind has a ceiling (tuning.h); beyond it the least recently active entity that nothing refers to makes
 * room, and is counted. Times are ticks: whole seconds since the engine's first record.
 */
#ifndef WEIR_DETECT_ENTITY_H
#define WEIR_DETECT_ENTITY_H

#include "detect/anomaly.h"
#include "detect/baseline.h"
#include "detect/tuning.h"

#define NOBODY UINT32_MAX
#define IDENTITY_KINDS 3 /* client_ip, api_key, user, in the order of the enum */
#define IDENTITY_OF(kind) ((unsigned int)(kind) - ENTITY_CLIENT_IP)

/* Completions with a known outcome, per global, server and model. */
struct errors {
	float done[WINDOW_STEPS], failed[WINDOW_STEPS];
	double share; /* usual */
	double weight;
	uint8_t hist;
	/* health.c: the run of failures under way (log likelihood of a burst against the usual share) and what such runs reach in calm times */
	float run, habit;
	float run_done, run_failed;   /* since it left 0 */
	float seen_done, seen_failed; /* of the step under way, already counted */
	float late_done, late_failed; /* decayed: the last minutes */
	int32_t run_since, seen_step, late;
	bool told; /* this run has been an alarm */
};

struct full;

struct entity {
	uint64_t hash;
	char *name;
	struct errors *errors; /* NULL for identities */
	struct full *full;     /* what it is known to do; NULL until it has done enough */
	uint64_t keys, agents; /* bitmaps by hash: who and what came with it; of a network: who came by an address that many share */
	uint32_t chain, newer, older;
	uint32_t refs;   /* pending feeds and open incidents */
	uint8_t kind;
	bool active;     /* stands in the list of the active */
	bool touched;    /* in this tick */
	uint8_t hist_cost; /* one bit a step, newest lowest */
	bool suspect;    /* in an open incident: learns nothing */
	bool changed;    /* since it was last exported */
	int8_t run_req, run_tok;
	/* detect.c: retries that are no new demand */
	float failures;   /* since `failed` and not tried again yet */
	float excused;    /* retries not counted in the step `excusing` */
	int32_t failed, excusing;
	uint32_t n;      /* steps learnt, the prior's worth included */
	uint32_t prior;  /* of them: not its own */
	int32_t tick;    /* windows are valid for this tick */
	int32_t step;    /* first step not learnt yet, while not active */
	int32_t last;    /* newest arrival */
	int32_t born;    /* first seen */
	uint32_t recent; /* its newest entry in the ring of recent requests; 0: none */
	uint32_t net;    /* of an address: its network; NOBODY */
	int32_t cool;    /* until then its last incident echoes */
	float gap;       /* longest silence, decayed */
	float requests;  /* all its life */
	uint16_t generation; /* of its peaks */
	uint32_t worked;     /* steps in which it sent something */
	float s1[STEP_S];        /* requests by second */
	float s10[LONG_STEPS];   /* requests by step */
	float t10[LONG_STEPS];   /* tokens by step */
	struct baseline req, tok;
	/* Who is most often seen with it (majority vote): the low half of the other's hash. */
	uint32_t mate[IDENTITY_KINDS];
	uint8_t votes[IDENTITY_KINDS];
};

#define PAGE_BYTES (2u << 20) /* a huge page where the kernel gives one */
#define PAGE_ENTITIES (PAGE_BYTES / sizeof(struct entity))
#define PAGES_MAX ((ENTITIES_CLIENT_IP + ENTITIES_API_KEY + ENTITIES_USER + ENTITIES_MODEL + ENTITIES_SERVER + ENTITIES_NETWORK) / PAGE_ENTITIES + 1)
#define BUCKETS (1u << 18)

struct entities {
	struct entity *page[PAGES_MAX];
	uint32_t used, free; /* free: head of a list through `chain` */
	uint32_t *bucket;
	uint32_t count[ENTITY_KIND_COUNT];
	uint32_t newest[ENTITY_KIND_COUNT], oldest[ENTITY_KIND_COUNT];
	uint32_t fulls;
	uint64_t evicted, refused;
};

int entities_init(struct entities *es);
void entities_done(struct entities *es);
static inline struct entity *entity_at(const struct entities *es, uint32_t i)
{
	return &es->page[i / PAGE_ENTITIES][i % PAGE_ENTITIES];
}
uint64_t entity_hash(enum entity_kind kind, struct span name);
/* The entity of that name and hash, made where it is new (*ret_new). NOBODY where there is no room for it. */
uint32_t entity_get(struct entities *es, enum entity_kind kind, struct span name, uint64_t hash, bool *ret_new);

/* With 100k clients most of the engine's time would be waiting for memory: ask for it a little ahead. */
static inline void entity_prefetch(const struct entities *es, uint32_t i)
{
	const char *p;

	if (i == NOBODY)
		return;
	p = (const char *)entity_at(es, i);
	for (size_t k = 0; k < sizeof(struct entity); k += 64)
		__builtin_prefetch(p + k);
}

/* Moves the windows up to `tick`. */
void entity_advance(struct entity *e, int32_t tick);
double entity_requests10(const struct entity *e);
double entity_requests60(const struct entity *e);
double entity_tokens60(const struct entity *e);
double entity_requests300(const struct entity *e);
double entity_tokens300(const struct entity *e);
/* Frees the habits of one identity that has been silent since `before`; false: there is none. */
bool entities_forget_full(struct entities *es, int32_t before);
/* The /24 or /48 of an address, as text ("10.1.2.0/24"). An empty span where it is none. */
struct span entity_network_of(struct span address, char buf[48]);
/* Different ones among what a bitmap has seen; exact while few, some 200 at most. */
double entity_distinct(uint64_t bitmap);
static inline uint64_t entity_bit(uint64_t hash)
{
	return UINT64_C(1) << (hash >> 58);
}
/* An address behind which there are many: NAT, gateway, ingress; or a network of such. */
bool entity_shared(const struct entity *e);
void entity_meet(struct entity *a, const struct entity *b);
/* Are these two mostly one and the same traffic? */
bool entity_linked(const struct entity *a, const struct entity *b);

#endif
