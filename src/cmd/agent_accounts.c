#include "cmd/agent_accounts.h"

#include "base/str.h"
#include "decode/record.h"
#include "decode/siphash.h"

#include <sys/random.h>

#define SERVERS_MAX 256 /* distinct servers; what more there are share one `other` of their own */
#define NAME_MAX_BYTES 128
#define AGE_PER_CALL 4096
#define NONE UINT32_MAX

/* Two lists by last use: those that never got an answer of 2xx go first. */
enum standing { UNPROVEN, PROVEN, STANDINGS };

struct slot {
	struct account sum;
	uint64_t hash;
	uint64_t last_s;
	uint32_t chain, older, newer;
	uint16_t server;
	uint8_t standing;
	uint8_t name_len;
	char *name; /* NULL: free slot */
};

struct list {
	uint32_t oldest, newest;
};

/* All accounts of one kind. Slots keep their place, so that a reader may go on where it was. */
struct ledger {
	struct slot *slot;
	uint32_t used, room, live;
	uint32_t free; /* head of a list through `chain` */
	uint32_t *bucket;
	uint32_t mask;
	struct list list[STANDINGS];
	uint64_t evicted, aged, refused;
};

struct server {
	char *name;
	struct account other[ACCOUNT_KINDS], aged[ACCOUNT_KINDS];
};

struct accounts {
	struct ledger ledger[ACCOUNT_KINDS];
	struct server server[SERVERS_MAX];
	uint16_t servers;
	uint32_t ceiling;
	uint64_t unplaced; /* lines without memory for their server's name */
	uint8_t seed[SIPHASH_KEY_BYTES]; /* names are chosen by clients: without it they could all share one bucket */
};

const char *account_kind_name(enum account_kind k)
{
	static const char *const names[] = { "client", "key", "user" };

	return (size_t)k < ARRAY_SIZE(names) ? names[k] : NULL;
}

const char *account_kind_field(enum account_kind k)
{
	static const char *const names[] = { "client_ip", "api_key", "user" };

	return (size_t)k < ARRAY_SIZE(names) ? names[k] : NULL;
}

struct accounts *accounts_new(uint32_t ceiling)
{
	struct accounts *a = calloc(1, sizeof(*a));

	if (!a)
		return NULL;
	a->ceiling = MAX(MIN(ceiling, ACCOUNTS_MAX), 1u);
	for (int k = 0; k < ACCOUNT_KINDS; k++) {
		a->ledger[k].free = NONE;
		for (int s = 0; s < STANDINGS; s++)
			a->ledger[k].list[s] = (struct list){ NONE, NONE };
	}
	if (getrandom(a->seed, sizeof(a->seed), 0) != sizeof(a->seed))
		return accounts_free(a);
	return a;
}

struct accounts *accounts_free(struct accounts *a)
{
	if (!a)
		return NULL;
	for (int k = 0; k < ACCOUNT_KINDS; k++) {
		for (uint32_t i = 0; i < a->ledger[k].used; i++)
			free(a->ledger[k].slot[i].name);
		free(a->ledger[k].slot);
		free(a->ledger[k].bucket);
	}
	for (uint16_t i = 0; i < a->servers; i++)
		free(a->server[i].name);
	free(a);
	return NULL;
}

static void account_add(struct account *to, const struct account *v)
{
	to->requests += v->requests;
	to->status_2xx += v->status_2xx;
	to->status_3xx += v->status_3xx;
	to->status_4xx += v->status_4xx;
	to->status_5xx += v->status_5xx;
	to->stream_errors += v->stream_errors;
	to->prompt_tokens += v->prompt_tokens;
	to->completion_tokens += v->completion_tokens;
	to->cached_tokens += v->cached_tokens;
	to->reasoning_tokens += v->reasoning_tokens;
	to->estimated_tokens += v->estimated_tokens;
	to->aborted += v->aborted;
	to->lost += v->lost;
	to->retries += v->retries;
	to->ignored += v->ignored;
}

/* ---- one ledger ------------------------------------------------------------------------------------ */
static void list_remove(struct ledger *l, uint32_t i)
{
	struct slot *s = &l->slot[i];
	struct list *of = &l->list[s->standing];

	if (s->older != NONE)
		l->slot[s->older].newer = s->newer;
	else
		of->oldest = s->newer;
	if (s->newer != NONE)
		l->slot[s->newer].older = s->older;
	else
		of->newest = s->older;
}

static void list_add(struct ledger *l, uint32_t i)
{
	struct slot *s = &l->slot[i];
	struct list *of = &l->list[s->standing];

	s->older = of->newest;
	s->newer = NONE;
	if (of->newest != NONE)
		l->slot[of->newest].newer = i;
	else
		of->oldest = i;
	of->newest = i;
}

static void slot_drop(struct ledger *l, uint32_t i)
{
	uint32_t *at = &l->bucket[l->slot[i].hash & l->mask];

	while (*at != i)
		at = &l->slot[*at].chain;
	*at = l->slot[i].chain;
	list_remove(l, i);
	free(l->slot[i].name);
	l->slot[i] = (struct slot){ .chain = l->free };
	l->free = i;
	l->live--;
}

/* Twice as many slots and buckets. False: there is no memory for it. */
static bool ledger_grow(struct ledger *l, uint32_t ceiling)
{
	uint32_t room = l->room ? MIN(2 * l->room, ceiling) : MIN(64u, ceiling), buckets = 64;
	struct slot *slot;
	uint32_t *bucket;

	while (buckets < room)
		buckets *= 2;
	slot = reallocarray(l->slot, room, sizeof(*slot));
	if (!slot)
		return false;
	l->slot = slot;
	bucket = reallocarray(NULL, buckets, sizeof(*bucket));
	if (!bucket)
		return false;
	l->room = room;
	free(l->bucket);
	l->bucket = bucket;
	l->mask = buckets - 1;
	memset(bucket, 0xff, buckets * sizeof(*bucket));
	for (uint32_t i = 0; i < l->used; i++) {
		if (!l->slot[i].name)
			continue;
		l->slot[i].chain = bucket[l->slot[i].hash & l->mask];
		bucket[l->slot[i].hash & l->mask] = i;
	}
	return true;
}

static uint32_t slot_find(const struct ledger *l, uint64_t hash, uint16_t server, struct span name)
{
	uint32_t i = l->bucket ? l->bucket[hash & l->mask] : NONE;

	while (i != NONE && (l->slot[i].hash != hash || l->slot[i].server != server || !span_eq((struct span){ l->slot[i].name, l->slot[i].name_len }, name)))
		i = l->slot[i].chain;
	return i;
}

/* A new account; NONE: without memory there is no room for it. */
static uint32_t slot_new(struct accounts *a, enum account_kind kind, uint64_t hash, uint16_t server, struct span name)
{
	struct ledger *l = &a->ledger[kind];
	char *copy = malloc(name.n + 1);
	uint32_t i;

	if (!copy)
		return NONE;
	if (name.n)
		memcpy(copy, name.p, name.n);
	copy[name.n] = '\0';
	if (l->live == a->ceiling) {
		uint32_t victim = l->list[UNPROVEN].oldest != NONE ? l->list[UNPROVEN].oldest : l->list[PROVEN].oldest;

		account_add(&a->server[l->slot[victim].server].other[kind], &l->slot[victim].sum);
		slot_drop(l, victim);
		l->evicted++;
	}
	if (l->free == NONE && l->used == l->room && !ledger_grow(l, a->ceiling)) {
		free(copy);
		return NONE;
	}
	i = l->free;
	if (i != NONE)
		l->free = l->slot[i].chain;
	else
		i = l->used++;
	l->slot[i] = (struct slot){ .hash = hash, .server = server, .name = copy, .name_len = (uint8_t)name.n, .chain = l->bucket[hash & l->mask] };
	l->bucket[hash & l->mask] = i;
	list_add(l, i);
	l->live++;
	return i;
}

/* ---- adding ---------------------------------------------------------------------------------------- */
/* Its place, the last one for all that found no other; -ENOMEM. */
static int server_of(struct accounts *a, struct span name)
{
	int i;

	for (i = 0; i < a->servers; i++)
		if (span_eq(span_of(a->server[i].name), name))
			return i;
	if (i == SERVERS_MAX)
		return SERVERS_MAX - 1;
	a->server[i].name = i == SERVERS_MAX - 1 || !name.n ? strdup("other") : strndup(name.p, name.n);
	if (!a->server[i].name)
		return -ENOMEM;
	a->servers++;
	return i;
}

static void ledger_add(struct accounts *a, enum account_kind kind, uint16_t server, struct span name, const struct account *v, uint64_t now_s)
{
	struct ledger *l = &a->ledger[kind];
	uint64_t hash;
	uint32_t i;

	name.n = MIN(name.n, NAME_MAX_BYTES);
	hash = siphash(a->seed, name.p, name.n) + server * UINT64_C(0x9e3779b97f4a7c15);
	hash ^= hash >> 32;
	i = slot_find(l, hash, server, name);
	if (i == NONE)
		i = slot_new(a, kind, hash, server, name);
	if (i == NONE) {
		l->refused++;
		account_add(&a->server[server].other[kind], v);
		return;
	}
	account_add(&l->slot[i].sum, v);
	l->slot[i].last_s = now_s;
	list_remove(l, i);
	if (v->status_2xx)
		l->slot[i].standing = PROVEN;
	list_add(l, i);
}

static struct account account_of(const struct record *r)
{
	uint64_t n = (uint64_t)r->weight, completion = (uint64_t)record_int(r, F_COMPLETION_TOKENS, 0);
	int64_t status = record_int(r, F_STATUS, 0);
	struct account v = { .requests = n };

	v.status_2xx = status >= 200 && status < 300 ? n : 0;
	v.status_3xx = status >= 300 && status < 400 ? n : 0;
	v.status_4xx = status >= 400 && status < 500 ? n : 0;
	v.status_5xx = status >= 500 && status < 600 ? n : 0;
	v.stream_errors = status < 400 && span_eq(record_text(r, F_FINISH_REASON), SPAN("error")) ? n : 0;
	if (record_yes(r, F_ESTIMATED)) {
		v.estimated_tokens = completion;
	} else {
		v.prompt_tokens = (uint64_t)record_int(r, F_PROMPT_TOKENS, 0);
		v.completion_tokens = completion;
		v.cached_tokens = (uint64_t)record_int(r, F_CACHED_TOKENS, 0);
		v.reasoning_tokens = (uint64_t)record_int(r, F_REASONING_TOKENS, 0);
	}
	v.aborted = record_yes(r, F_ABORTED) ? n : 0;
	v.retries = record_int(r, F_RETRY, 0) > 0 ? n : 0;
	return v;
}

static void add(struct accounts *a, const struct record *r, const struct account *v, uint64_t now_s)
{
	static const enum record_field fields[] = { F_CLIENT_IP, F_API_KEY, F_USER };
	int server = server_of(a, record_server_address(r));

	a->unplaced += server < 0;
	for (int k = 0; k < ACCOUNT_KINDS && server >= 0; k++)
		ledger_add(a, (enum account_kind)k, (uint16_t)server, record_text(r, fields[k]), v, now_s);
}

void accounts_record(struct accounts *a, const struct record *r, const struct identity *id, uint64_t now_s)
{
	struct account v = account_of(r);

	v.ignored = id && id->ignored ? v.requests : 0;
	add(a, r, &v, now_s);
}

void accounts_lost(struct accounts *a, const struct record *r, uint64_t now_s)
{
	struct account v = account_of(r);

	v.lost = v.requests;
	add(a, r, &v, now_s);
}

void accounts_age(struct accounts *a, uint64_t before_s)
{
	for (int k = 0; k < ACCOUNT_KINDS; k++)
		for (int s = 0; s < STANDINGS; s++)
			for (unsigned n = 0; n < AGE_PER_CALL; n++) {
				struct ledger *l = &a->ledger[k];
				uint32_t i = l->list[s].oldest;

				if (i == NONE || l->slot[i].last_s >= before_s)
					break;
				account_add(&a->server[l->slot[i].server].aged[k], &l->slot[i].sum);
				slot_drop(l, i);
				l->aged++;
			}
}

/* ---- telling --------------------------------------------------------------------------------------- */
static void line_write(const struct accounts *a, enum account_kind kind, uint16_t server, const char *as, struct span name, const struct account *v, struct str *out)
{
	json_begin(out, '{');
	json_kstring(out, "server", span_of(a->server[server].name));
	if (as || name.n) {
		json_kstring(out, account_kind_field(kind), as ? span_of(as) : name);
	} else {
		json_key(out, account_kind_field(kind));
		json_null(out);
	}
	json_kuint(out, "requests", v->requests);
	json_kuint(out, "status_2xx", v->status_2xx);
	json_kuint(out, "status_3xx", v->status_3xx);
	json_kuint(out, "status_4xx", v->status_4xx);
	json_kuint(out, "status_5xx", v->status_5xx);
	json_kuint(out, "stream_errors", v->stream_errors);
	json_kuint(out, "prompt_tokens", v->prompt_tokens);
	json_kuint(out, "completion_tokens", v->completion_tokens);
	json_kuint(out, "cached_tokens", v->cached_tokens);
	json_kuint(out, "reasoning_tokens", v->reasoning_tokens);
	json_kuint(out, "estimated_tokens", v->estimated_tokens);
	json_kuint(out, "aborted", v->aborted);
	json_kuint(out, "lost", v->lost);
	json_kuint(out, "retries", v->retries);
	json_kuint(out, "forwarded_ignored", v->ignored);
	if (as)
		json_kbool(out, "sum", true); /* a user may be called "other" */
	json_end(out, '}');
	str_addc(out, '\n');
}

/* *at: the slots, then two for each server. */
bool accounts_write(const struct accounts *a, enum account_kind kind, uint32_t *at, unsigned max, struct str *out)
{
	const struct ledger *l = &a->ledger[kind];
	uint32_t sums = ACCOUNTS_MAX; /* from here on *at counts servers */

	for (; *at < l->used && max; ++*at) {
		const struct slot *s = &l->slot[*at];

		if (!s->name)
			continue;
		line_write(a, kind, s->server, NULL, (struct span){ s->name, s->name_len }, &s->sum, out);
		max--;
	}
	if (*at < l->used)
		return true;
	if (*at < sums)
		*at = sums;
	for (; *at < sums + a->servers && max; ++*at) {
		uint16_t i = (uint16_t)(*at - sums);

		if (a->server[i].other[kind].requests)
			line_write(a, kind, i, "other", (struct span){ 0 }, &a->server[i].other[kind], out);
		if (a->server[i].aged[kind].requests)
			line_write(a, kind, i, "aged", (struct span){ 0 }, &a->server[i].aged[kind], out);
		max--;
	}
	return *at < sums + a->servers;
}

uint64_t accounts_evicted(const struct accounts *a)
{
	uint64_t n = a->unplaced;

	for (int k = 0; k < ACCOUNT_KINDS; k++)
		n += a->ledger[k].evicted + a->ledger[k].refused;
	return n;
}

void accounts_write_json(const struct accounts *a, struct str *out)
{
	json_key(out, "accounts");
	json_begin(out, '{');
	for (int k = 0; k < ACCOUNT_KINDS; k++) {
		json_key(out, account_kind_name((enum account_kind)k));
		json_begin(out, '{');
		json_kuint(out, "live", a->ledger[k].live);
		json_kuint(out, "evicted", a->ledger[k].evicted);
		json_kuint(out, "aged", a->ledger[k].aged);
		json_kuint(out, "refused", a->ledger[k].refused);
		json_end(out, '}');
	}
	json_end(out, '}');
}
