/*
 * traits.h - how a set of requests behaves: some two dozen features, of an entity's last minutes or of an excess.
 *
 * A feature that the records do not allow is NAN. Computed from the ring of recent requests at need, at most
 * TRAITS_SAMPLE requests of each end (the newest); an entity's own past is kept as mean and variance of what it showed
 * at earlier looks (struct habit).
 */
#ifndef WEIR_DETECT_TRAITS_H
#define WEIR_DETECT_TRAITS_H

#include "base/util.h"
#include "detect/recent.h"

enum trait {
	T_RATE,       /* requests per s */
	T_GAP_CV,     /* of the times between the requests of one source: machine < 0.3, human > 0.5, Poisson 1 */
	T_DISTINCT,   /* share of prompts (by hash) that are the first of their kind in the sample */
	T_NEAR,       /* share of prompts that have a near duplicate (simhash) among the 16 before, the same prompt not counted */
	T_SAME,       /* share of prompts whose exact hash was among those before */
	T_INJECTION,  /* mean injection score */
	T_ENTROPY,    /* mean bits per byte of prompts */
	T_PROMPT,     /* mean of log(1 + prompt tokens) */
	T_PROMPT_SD,
	T_COMPLETION, /* mean of log(1 + completion tokens) */
	T_COMPLETION_SD,
	T_CAP,        /* share of answers that ended at the cap; where none is said to, that are of the most frequent length */
	T_LOGPROBS,   /* share of requests */
	T_AUTH,       /* share of 401 and 403 */
	T_REFUSED,    /* share of other 4xx, 429 not counted */
	T_LIMITED,    /* share of 429 */
	T_FAILED,     /* share of 5xx and errors inside streams */
	T_ABORTED,
	T_CACHED,     /* cached tokens / prompt tokens */
	T_SOURCES,    /* distinct addresses / requests */
	T_NETWORKS,   /* distinct networks / distinct addresses */
	T_AGENTS,     /* effective number of user agents: exp of the entropy */
	T_TOP_AGENT,  /* share of the most frequent agent */
	T_KEYS,       /* distinct keys / distinct addresses */
	T_KEYLESS,    /* share of requests without a key */
	T_FRESH,      /* share of requests from addresses first seen lately */
	T_EVEN,       /* coefficient of variation of the requests per address: 0 where all send alike */
	T_TTFT,       /* mean of log(1 + ms) */
	T_TPOT,       /* mean of log(1 + ms per token) */
	TRAIT_COUNT
};

#define TRAITS_SAMPLE 512

struct traits {
	double n, done; /* weighted requests of either end */
	unsigned int arrivals, completions; /* entries looked at */
	unsigned int sources, people, networks, keys, agents; /* people: addresses, and who comes by those that many share */
	double v[TRAIT_COUNT];
};

/* What an entity showed at earlier looks; a look is one evaluation, about every TRAITS_LOOK requests. */
struct habit {
	float mean[TRAIT_COUNT], var[TRAIT_COUNT];
	uint16_t n[TRAIT_COUNT];
};

struct detect;
struct entity;

struct traits_set {
	const struct moment *a[TRAITS_SAMPLE], *c[TRAITS_SAMPLE]; /* newest first */
	unsigned int as, cs;
};

void traits_add(struct traits_set *s, const struct moment *m);
/* The requests of e since `since` (tick, exclusive). */
void traits_gather(const struct detect *d, const struct entity *e, int32_t since, struct traits_set *s);
/* Everybody's. */
void traits_gather_all(const struct detect *d, int32_t since, struct traits_set *s);
void traits_compute(const struct detect *d, const struct traits_set *s, struct traits *ret);

void habit_learn(struct habit *h, const struct traits *t);
/* (t - mean) / sd, with a floor on sd that suits the trait and more of it while few looks are known. NAN where either side lacks. */
double habit_z(const struct habit *h, const struct traits *t, enum trait k);
const char *trait_name(enum trait k);

#endif
