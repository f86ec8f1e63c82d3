#include "detect/entity.h"

#include <arpa/inet.h>
#include <math.h>
#include <sys/mman.h>

#include "detect/full.h"

#define EVICT_TRIES 32 /* the oldest may be referred to; whoever is not found among so many is not let in */
#define VOTES_MAX 64   /* so that a new majority shows after a minute at the latest, not after as long as the old one held */
#define VOTES_SURE 8

static const uint32_t ceiling[ENTITY_KIND_COUNT] = {
	[ENTITY_GLOBAL] = 1,
	[ENTITY_HOST] = 1, /* "new addresses" */
	[ENTITY_SERVER] = ENTITIES_SERVER,
	[ENTITY_MODEL] = ENTITIES_MODEL,
	[ENTITY_NETWORK] = ENTITIES_NETWORK,
	[ENTITY_CLIENT_IP] = ENTITIES_CLIENT_IP,
	[ENTITY_API_KEY] = ENTITIES_API_KEY,
	[ENTITY_USER] = ENTITIES_USER,
};

/* 64 bits, eight bytes at a time; names come from outside, but who collides on purpose only slows down his own lookups: chains
 * are bounded by the ceilings. */
uint64_t entity_hash(enum entity_kind kind, struct span name)
{
	uint64_t h = UINT64_C(0x9e3779b97f4a7c15) * ((uint64_t)kind + 1) ^ name.n;

	while (name.n) {
		uint64_t w = 0;
		size_t n = MIN(name.n, sizeof(w));

		memcpy(&w, name.p, n);
		h = (h ^ w) * UINT64_C(0xff51afd7ed558ccd);
		h ^= h >> 32;
		name.p += n;
		name.n -= n;
	}
	h *= UINT64_C(0xc4ceb9fe1a85ec53);
	return h ^ h >> 29;
}

int entities_init(struct entities *es)
{
	memset(es, 0, sizeof(*es));
	es->free = NOBODY;
	es->bucket = malloc(BUCKETS * sizeof(*es->bucket));
	if (!es->bucket)
		return -ENOMEM;
	memset(es->bucket, 0xff, BUCKETS * sizeof(*es->bucket));
	for (int k = 0; k < ENTITY_KIND_COUNT; k++)
		es->newest[k] = es->oldest[k] = NOBODY;
	return 0;
}

void entities_done(struct entities *es)
{
	for (uint32_t i = 0; i < es->used; i++) {
		free(entity_at(es, i)->name);
		free(entity_at(es, i)->errors);
		full_free(entity_at(es, i)->full);
	}
	for (size_t i = 0; i < PAGES_MAX; i++)
		free(es->page[i]);
	free(es->bucket);
	memset(es, 0, sizeof(*es));
}

static void lru_remove(struct entities *es, struct entity *e)
{
	if (e->newer != NOBODY)
		entity_at(es, e->newer)->older = e->older;
	else
		es->newest[e->kind] = e->older;
	if (e->older != NOBODY)
		entity_at(es, e->older)->newer = e->newer;
	else
		es->oldest[e->kind] = e->newer;
}

static void lru_front(struct entities *es, struct entity *e, uint32_t i)
{
	e->newer = NOBODY;
	e->older = es->newest[e->kind];
	if (e->older != NOBODY)
		entity_at(es, e->older)->newer = i;
	else
		es->oldest[e->kind] = i;
	es->newest[e->kind] = i;
}

static bool evict(struct entities *es, unsigned int kind)
{
	uint32_t i = es->oldest[kind];

	for (int tries = 0; tries < EVICT_TRIES && i != NOBODY; tries++) {
		struct entity *e = entity_at(es, i);
		uint32_t *link;

		if (e->refs || e->active || e->suspect) {
			/* The active list holds indices: whoever stands there leaves it first, at the next step. */
			i = e->newer;
			continue;
		}
		for (link = &es->bucket[e->hash % BUCKETS]; *link != i;)
			link = &entity_at(es, *link)->chain;
		*link = e->chain;
		lru_remove(es, e);
		free(e->name);
		free(e->errors);
		if (e->full)
			es->fulls--;
		full_free(e->full);
		if (e->net != NOBODY)
			entity_at(es, e->net)->refs--;
		memset(e, 0, sizeof(*e));
		e->chain = es->free;
		es->free = i;
		es->count[kind]--;
		es->evicted++;
		return true;
	}
	return false;
}

/*
 * Clients come in no order: with pages of 4 KiB every access would miss the TLB, too. Not so the first page: a host with few
 * clients would pay for 2 MiB and use a tenth of it.
 */
static struct entity *page_new(bool first)
{
	void *p = aligned_alloc(PAGE_BYTES, PAGE_BYTES);

	if (p && !first)
		madvise(p, PAGE_BYTES, MADV_HUGEPAGE); /* a wish */
	return p; /* entity_get() clears what it hands out */
}

static uint32_t slot_take(struct entities *es)
{
	uint32_t i = es->free;

	if (i != NOBODY) {
		es->free = entity_at(es, i)->chain;
		return i;
	}
	i = es->used;
	if (i / PAGE_ENTITIES >= PAGES_MAX)
		return NOBODY;
	if (!es->page[i / PAGE_ENTITIES]) {
		struct entity *page = page_new(i == 0);

		if (!page)
			return NOBODY;
		es->page[i / PAGE_ENTITIES] = page;
	}
	es->used++;
	return i;
}

uint32_t entity_get(struct entities *es, enum entity_kind kind, struct span name, uint64_t h, bool *ret_new)
{
	struct entity *e;
	size_t keep = MIN(name.n, (size_t)ENTITY_NAME_MAX);
	uint32_t i;

	*ret_new = false;
	for (i = es->bucket[h % BUCKETS]; i != NOBODY; i = e->chain) {
		e = entity_at(es, i);
		if (e->hash != h || e->kind != kind)
			continue;
		if (es->newest[kind] != i) {
			lru_remove(es, e);
			lru_front(es, e, i);
		}
		return i;
	}
	if (es->count[kind] >= ceiling[kind] && !evict(es, (unsigned int)kind)) {
		es->refused++;
		return NOBODY;
	}
	i = slot_take(es);
	if (i == NOBODY) {
		es->refused++;
		return NOBODY;
	}
	e = entity_at(es, i);
	memset(e, 0, sizeof(*e));
	e->name = strndup(name.p ? name.p : "", keep);
	if (kind <= ENTITY_MODEL)
		e->errors = calloc(1, sizeof(*e->errors));
	if (!e->name || (kind <= ENTITY_MODEL && !e->errors)) {
		free(e->name);
		free(e->errors);
		memset(e, 0, sizeof(*e));
		e->chain = es->free;
		es->free = i;
		es->refused++;
		return NOBODY;
	}
	if (e->errors)
		*e->errors = (struct errors){ .share = ERROR_PRIOR, .weight = ERROR_PRIOR_N };
	e->net = NOBODY;
	e->hash = h;
	e->kind = (uint8_t)kind;
	e->chain = es->bucket[h % BUCKETS];
	es->bucket[h % BUCKETS] = i;
	lru_front(es, e, i);
	es->count[kind]++;
	*ret_new = true;
	return i;
}

void entity_advance(struct entity *e, int32_t tick)
{
	int32_t d = tick - e->tick, steps;

	if (d <= 0)
		return;
	if (d >= STEP_S)
		memset(e->s1, 0, sizeof(e->s1));
	else
		for (int32_t t = e->tick + 1; t <= tick; t++)
			e->s1[t % STEP_S] = 0;
	steps = tick / STEP_S - e->tick / STEP_S;
	for (int32_t s = tick / STEP_S - MIN(steps, LONG_STEPS) + 1; s <= tick / STEP_S; s++) {
		e->s10[s % LONG_STEPS] = 0;
		e->t10[s % LONG_STEPS] = 0;
		if (e->errors)
			e->errors->done[s % WINDOW_STEPS] = e->errors->failed[s % WINDOW_STEPS] = 0;
	}
	e->tick = tick;
}

static double sum(const float *v, int n)
{
	double s = 0;

	for (int i = 0; i < n; i++)
		s += (double)v[i];
	return s;
}

/* The newest WINDOW_STEPS of LONG_STEPS. */
static double sum_newest(const float *v, int32_t step)
{
	double s = 0;

	for (int32_t k = step; k > step - WINDOW_STEPS; k--)
		s += (double)v[(k + LONG_STEPS) % LONG_STEPS];
	return s;
}

double entity_requests300(const struct entity *e)
{
	return sum(e->s10, LONG_STEPS);
}

double entity_tokens300(const struct entity *e)
{
	return sum(e->t10, LONG_STEPS);
}

double entity_requests10(const struct entity *e)
{
	return sum(e->s1, STEP_S);
}

double entity_requests60(const struct entity *e)
{
	return sum_newest(e->s10, e->tick / STEP_S);
}

double entity_tokens60(const struct entity *e)
{
	return sum_newest(e->t10, e->tick / STEP_S);
}

void entity_meet(struct entity *a, const struct entity *b)
{
	unsigned int k = IDENTITY_OF(b->kind);

	if (a->mate[k] == (uint32_t)b->hash) {
		if (a->votes[k] < VOTES_MAX)
			a->votes[k]++;
	} else if (!a->votes[k]) {
		a->mate[k] = (uint32_t)b->hash;
		a->votes[k] = 1;
	} else {
		a->votes[k]--;
	}
}

bool entity_linked(const struct entity *a, const struct entity *b)
{
	unsigned int ka = IDENTITY_OF(a->kind), kb = IDENTITY_OF(b->kind);

	if (a == b)
		return true;
	if (ka >= IDENTITY_KINDS || kb >= IDENTITY_KINDS || ka == kb)
		return false;
	return (a->votes[kb] >= VOTES_SURE && a->mate[kb] == (uint32_t)b->hash) || (b->votes[ka] >= VOTES_SURE && b->mate[ka] == (uint32_t)a->hash);
}

struct span entity_network_of(struct span address, char buf[48])
{
	char text[INET6_ADDRSTRLEN], out[INET6_ADDRSTRLEN];
	unsigned char a[16];
	size_t n = address.n;

	if (n && address.p[0] == '[') {
		address.p++;
		n -= 2;
	}
	if (!n || n >= sizeof(text))
		return (struct span){ 0 };
	memcpy(text, address.p, n);
	text[n] = '\0';
	if (inet_pton(AF_INET, text, a) == 1) {
		snprintf(buf, 48, "%u.%u.%u.0/24", a[0], a[1], a[2]);
	} else if (inet_pton(AF_INET6, text, a) == 1) {
		memset(a + 6, 0, 10);
		snprintf(buf, 48, "%s/48", inet_ntop(AF_INET6, a, out, sizeof(out)));
	} else {
		return (struct span){ 0 };
	}
	return span_of(buf);
}

/* Linear counting (Whang et al. 1990) with 64 bits. */
double entity_distinct(uint64_t bitmap)
{
	int set = __builtin_popcountll(bitmap);

	return set >= 63 ? 266 : -64 * log(1 - set / 64.0);
}

bool entity_shared(const struct entity *e)
{
	return (e->kind == ENTITY_CLIENT_IP && (entity_distinct(e->keys) >= SHARED_KEYS || entity_distinct(e->agents) >= SHARED_AGENTS)) ||
	       (e->kind == ENTITY_NETWORK && entity_distinct(e->keys) >= SHARED_KEYS);
}

bool entities_forget_full(struct entities *es, int32_t before)
{
	for (unsigned int kind = ENTITY_CLIENT_IP; kind < ENTITY_KIND_COUNT; kind++) {
		uint32_t i = es->oldest[kind];

		for (; i != NOBODY; i = entity_at(es, i)->newer) {
			struct entity *e = entity_at(es, i);

			if (e->last > before)
				break;
			if (e->full && !e->suspect) {
				full_free(e->full);
				e->full = NULL;
				es->fulls--;
				return true;
			}
		}
	}
	return false;
}
