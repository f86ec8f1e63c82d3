#include "store/sums.h"

#include <math.h>

#define SLOTS 16384 /* power of two; two hours of six kinds with 512 names each fill less than half */

struct slot {
	bool used, dirty;
	uint64_t hash;
	char *value;
	struct store_sum sum;
};

struct sums {
	struct slot slot[SLOTS];
	unsigned int used;
	int64_t hour; /* the newest */
	unsigned int names[2][ENTITY_KIND_COUNT]; /* of this hour and of all earlier ones */
};

int sums_open(struct sums **ret)
{
	struct sums *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	*ret = s;
	return 0;
}

struct sums *sums_free(struct sums *s)
{
	if (!s)
		return NULL;
	for (size_t i = 0; i < SLOTS; i++)
		free(s->slot[i].value);
	free(s);
	return NULL;
}

static uint64_t hash_of(int64_t hour, enum entity_kind kind, struct span name)
{
	uint64_t h = UINT64_C(14695981039346656037) ^ ((uint64_t)hour * 31 + (uint64_t)kind);

	for (size_t i = 0; i < name.n; i++)
		h = (h ^ (unsigned char)name.p[i]) * UINT64_C(1099511628211);
	return h ^ h >> 29;
}

static struct slot *find(struct sums *s, int64_t hour, enum entity_kind kind, struct span name, uint64_t hash)
{
	size_t i = hash % SLOTS;

	for (; s->slot[i].used; i = (i + 1) % SLOTS) {
		struct slot *k = &s->slot[i];

		if (k->hash == hash && k->sum.hour == hour && k->sum.kind == kind && strlen(k->value) == name.n && !memcmp(k->value, name.p, name.n))
			break;
	}
	return &s->slot[i];
}

/* NULL: no memory, or (cannot be, by the bounds) no room. */
static struct slot *slot_get(struct sums *s, int64_t hour, enum entity_kind kind, struct span name)
{
	unsigned int *names = &s->names[hour != s->hour][kind];
	uint64_t hash = hash_of(hour, kind, name);
	struct slot *k = find(s, hour, kind, name, hash);

	if (k->used)
		return k;
	if (*names >= SUMS_PER_KIND && !span_eq(name, SPAN(SUMS_OTHER)))
		return slot_get(s, hour, kind, SPAN(SUMS_OTHER));
	if (s->used >= SLOTS / 2)
		return NULL;
	k->value = malloc(name.n + 1);
	if (!k->value)
		return NULL;
	memcpy(k->value, name.p, name.n);
	k->value[name.n] = '\0';
	k->used = true;
	k->hash = hash;
	k->sum = (struct store_sum){ .hour = hour, .kind = kind, .value = k->value };
	(*names)++;
	s->used++;
	return k;
}

static uint64_t plus(uint64_t a, uint64_t b)
{
	return a > (uint64_t)INT64_MAX - MIN(b, (uint64_t)INT64_MAX) ? (uint64_t)INT64_MAX : a + b;
}

/* Hours that are over and saved make room. */
static void forget(struct sums *s)
{
	struct slot *old;
	size_t kept = 0;

	old = malloc(sizeof(*old) * MAX(s->used, 1u));
	if (!old)
		return;
	for (size_t i = 0; i < SLOTS; i++) {
		struct slot *k = &s->slot[i];

		if (k->used && (k->dirty || k->sum.hour == s->hour))
			old[kept++] = *k;
		else
			free(k->value);
	}
	memset(s->slot, 0, sizeof(s->slot));
	memset(s->names, 0, sizeof(s->names));
	s->used = 0;
	for (size_t i = 0; i < kept; i++) {
		*find(s, old[i].sum.hour, old[i].sum.kind, span_of(old[i].value), old[i].hash) = old[i];
		s->names[old[i].sum.hour != s->hour][old[i].sum.kind]++;
		s->used++;
	}
	free(old);
}

static void hour_set(struct sums *s, int64_t hour)
{
	if (hour <= s->hour)
		return;
	for (int k = 0; k < ENTITY_KIND_COUNT; k++) {
		s->names[1][k] += s->names[0][k];
		s->names[0][k] = 0;
	}
	s->hour = hour;
	forget(s);
}

static void add(struct sums *s, int64_t hour, enum entity_kind kind, struct span name, const struct record *r)
{
	struct slot *k = slot_get(s, hour, kind, (struct span){ name.p ? name.p : "", name.p ? strnlen(name.p, MIN(name.n, (size_t)STORE_TEXT - 1)) : 0 });
	int64_t status = record_int(r, F_STATUS, 0);

	if (!k)
		return;
	k->dirty = true;
	k->sum.requests = plus(k->sum.requests, (uint64_t)r->weight);
	k->sum.prompt_tokens = plus(k->sum.prompt_tokens, (uint64_t)MAX(record_int(r, F_PROMPT_TOKENS, 0), 0));
	k->sum.completion_tokens = plus(k->sum.completion_tokens, (uint64_t)MAX(record_int(r, F_COMPLETION_TOKENS, 0), 0));
	if (status >= 400 || span_eq(record_text(r, F_FINISH_REASON), SPAN("error")))
		k->sum.errors = plus(k->sum.errors, (uint64_t)r->weight);
}

void sums_record(struct sums *s, const struct record *r, double now)
{
	static const struct {
		enum record_field field;
		enum entity_kind kind;
	} who[] = {
		{ F_MODEL_NAME, ENTITY_MODEL }, { F_CLIENT_IP, ENTITY_CLIENT_IP }, { F_API_KEY, ENTITY_API_KEY }, { F_USER, ENTITY_USER },
	};
	enum record_kind kind = r->kind != KIND_UNKNOWN ? r->kind : record_kind_of_path(record_text(r, F_PATH));
	double t = r->timestamp;
	int64_t hour;

	if (kind != KIND_INFERENCE && kind != KIND_EMBEDDING)
		return;
	if (now > 0 && !(t <= now + SUMS_AHEAD_S && t >= now - SUMS_BEHIND_S))
		t = now;
	if (!(fabs(t) < 1e12))
		return;
	hour = (int64_t)floor(t / 3600);
	hour_set(s, hour);
	add(s, hour, ENTITY_GLOBAL, (struct span){ 0 }, r);
	/* Without the software behind it: an upgrade is no other server. */
	if (record_has(r, F_SERVER))
		add(s, hour, ENTITY_SERVER, record_server_address(r), r);
	for (size_t i = 0; i < ARRAY_SIZE(who); i++)
		if (record_has(r, who[i].field))
			add(s, hour, who[i].kind, record_text(r, who[i].field), r);
}

int sums_save(struct sums *s, struct store *st)
{
	int r = 0;

	for (size_t i = 0; i < SLOTS && r == 0; i++)
		if (s->slot[i].used && s->slot[i].dirty)
			r = store_add_sum(st, &s->slot[i].sum);
	return r;
}

void sums_saved(struct sums *s)
{
	for (size_t i = 0; i < SLOTS; i++) {
		struct store_sum *sum = &s->slot[i].sum;

		if (!s->slot[i].dirty)
			continue; /* nor is its page touched */
		s->slot[i].dirty = false;
		sum->requests = sum->prompt_tokens = sum->completion_tokens = sum->errors = 0;
	}
}
