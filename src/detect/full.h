/*
 * full.h - what is kept of an entity that matters: its habits, beyond rates.
 *
 * An entity is promoted when it has sent enough (FULL_REQUESTS); at most FULL_MAX identities have it, and the one idle for
 * longest makes room. Each detector owns its part.
 */
#ifndef WEIR_DETECT_FULL_H
#define WEIR_DETECT_FULL_H

#include "detect/season.h"
#include "detect/traits.h"
#include "detect/tuning.h"

/* access.c: from where a key, or a user, is used. */
#define KNOWN_NETS_MIN 16u
#define KNOWN_NETS_MAX 512u /* 6 KB; a key with more is everybody's */
struct known_net {
	uint32_t net; /* hash; 0: free */
	int32_t first, last;
};
struct access_state {
	struct known_net *known; /* open addressing; NULL until the first */
	uint32_t cap, used;
	int32_t begun;    /* tick of the first request seen */
	float novelty;    /* usual new networks per 10 min */
	float peak;       /* the most, decayed */
	bool forgets;     /* more networks in use than can be kept */
};

/* spend.c: log tokens per request over five minutes, and how far it strays. */
struct size_state {
	float sum[LONG_STEPS], n[LONG_STEPS]; /* by step */
	float mean, wander; /* of five minutes; the variance beyond what their number explains */
	float cur, old; /* the highest z of the block under way; of its past, decayed */
	int32_t tick;   /* windows are valid for this tick */
	int32_t block;  /* the last one learnt, in five minutes */
	uint32_t blocks;
};

/* growth.c: log tokens per request, by ten minutes for half a day and by the hour for five. */
#define GROWTH_SHORT 72
#define GROWTH_LONG 120
#define GROWTH_LAG 35 /* blocks: six hours, and twice that fits */
struct growth_block {
	float x, n; /* mean, requests */
};
struct growth_ring {
	double sum;     /* of the block under way */
	float n;
	int32_t index;  /* of it */
	int32_t first;  /* oldest block that counts */
	float jitter;   /* variance of neighbouring blocks beyond what their size explains */
	float pairs;
	bool due;
};
struct growth_state {
	struct growth_ring ring[2];
	struct growth_block shorts[GROWTH_SHORT], longs[GROWTH_LONG];
	double ref;     /* what its requests have been all its life */
	float var;      /* of one request */
	float n;        /* requests behind that */
	float habit;    /* the largest downward drift, decayed */
	float drift;    /* the largest of either way, decayed */
	float now;      /* the growth last found, significant or 0 */
	float moved, moves; /* variance of two blocks six hours apart; pairs seen */
	int32_t born, since;
	bool told;
};

/* health.c: requests of the last hour by minute, and how far a window usually falls below what the minutes before it promised. */
#define DROP_MINUTES 64
#define DROP_WINDOWS 3
struct drop_state {
	float minute[DROP_MINUTES];
	float sd[DROP_WINDOWS];   /* of that fall, on the variance-stabilised scale */
	float peak[DROP_WINDOWS]; /* its largest, decayed */
	float dip[DROP_WINDOWS];  /* of the fall under way: a habit when it is over */
	float climb[DROP_WINDOWS]; /* its largest rise, decayed */
	float quiet;              /* the longest silence, in requests that should have come; decayed */
	float silence;            /* the one under way */
	bool told;                /* it has been reported */
	int32_t silent_since;
	float held;               /* requests a minute that were expected when the open incident began */
	float now;                /* requests that came in the minute under way */
	float level;              /* a minute, for silences */
	int32_t last;             /* minute of the newest entry */
	int32_t gone;             /* newest minute of the last incident */
	uint32_t n;               /* minutes known */
	struct season *season;    /* of the total and of the larger customers; NULL */
};

struct full {
	struct habit habit;
	int32_t looked;   /* tick of the last look */
	float since_look; /* requests since */
	float enough;     /* requests that are worth the next look */
	uint32_t looks;
	int32_t odd;      /* tick since which it has not behaved as usual; 0: it does */
	struct access_state access;
	struct growth_state growth;
	struct size_state size;
	struct drop_state drop;
};

void full_free(struct full *f);
void access_init(struct access_state *a);
void access_done(struct access_state *a);
/* A network that is known already, from the state that was kept. */
void access_put(struct access_state *a, const struct known_net *net, int32_t now);
void growth_init(struct growth_state *g);

#endif
