#include "capture/soft.h"

#include "capture/soft_helpers.h"

#include <sys/random.h>

#define CONNS_MAX_DEFAULT 65536u /* as many as the kernel's table holds; about 700 bytes each */
#define BUCKETS 16384u           /* chains stay short up to 64k connections */
#define CACHE_MAX 4096u          /* clients that one drain may touch before their counters are written back */
#define AGE_BUCKETS (BUCKETS / SOFT_AGE_PARTS)
#define RECORD_MAX (sizeof(struct weir_raw) + WEIR_RAW_MAX) /* the largest record that the meter makes */

struct link {
	struct weir_conn_key key;
	struct weir_conn conn;
	struct link *next;
};

struct cached {
	struct weir_client_key key;
	struct weir_client value;
	struct cached *next;
};

struct soft {
	struct weir_automaton automaton;
	const struct weir_control *control;
	uint64_t v6_prefix;
	bool prompt_blind;
	struct soft_store store;
	void (*event)(void *ctx, const void *data, size_t n);
	void *ctx;

	uint64_t seed; /* clients choose their ports and addresses: they must not choose their bucket too */
	struct link *conns[BUCKETS];
	size_t conn_count, conn_max;
	uint32_t age_bucket;

	struct cached *buckets[CACHE_MAX]; /* into cache[] */
	struct cached cache[CACHE_MAX];
	size_t cached;

	uint64_t stats[WEIR_STAT_COUNT];
	uint64_t written[WEIR_STAT_COUNT];

	uint64_t now;       /* the segment's time */
	const char *data;   /* its payload */
	uint32_t len;
	size_t record_size; /* of the record being made */
	uint64_t record[(RECORD_MAX + 7) / 8];
};

/* The kernel's helpers have no argument to carry it. Set while a segment is at work. */
static _Thread_local struct soft *self;

/* ---- the settings of the meter ---------------------------------------------------------------------- */
static inline const struct weir_automaton *automaton(void)
{
	return &self->automaton;
}

#define cfg_prompt_blind (self->prompt_blind)
#define cfg_v6_prefix ((uint32_t)self->v6_prefix)
#define cfg_ring_bytes ((uint64_t)1 << 20) /* never more than empty */
#define weir_control (*self->control)

/* Written for the BPF compiler, with the warnings that it has. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wunused-variable"
#pragma GCC diagnostic ignored "-Wunused-function"
#include "../../bpf/meter.bpf.c"
#pragma GCC diagnostic pop

#undef weir_control

/* ---- tables ---------------------------------------------------------------------------------------- */
static uint64_t hash(const void *key, size_t n, uint64_t seed)
{
	const unsigned char *p = key;
	uint64_t h = seed, w;

	for (; n; p += MIN(n, sizeof(w)), n -= MIN(n, sizeof(w))) {
		w = 0;
		memcpy(&w, p, MIN(n, sizeof(w)));
		h = (h ^ w) * UINT64_C(0x9fb21c651e98df25);
		h ^= h >> 32;
	}
	return h * UINT64_C(0x9fb21c651e98df25) >> 32;
}

static struct link **conn_place(struct soft *s, const struct weir_conn_key *key)
{
	struct link **at = &s->conns[hash(key, sizeof(*key), s->seed) % BUCKETS];

	while (*at && memcmp(&(*at)->key, key, sizeof(*key)))
		at = &(*at)->next;
	return at;
}

static int conn_make(struct soft *s, const struct weir_conn_key *key, const struct weir_conn *value)
{
	struct link **at = conn_place(s, key), *l;

	if (*at)
		return -EEXIST;
	if (s->conn_count >= s->conn_max)
		return -E2BIG;
	l = malloc(sizeof(*l));
	if (!l)
		return -ENOMEM;
	l->key = *key;
	l->conn = *value;
	l->next = NULL;
	*at = l;
	s->conn_count++;
	return 0;
}

static void conn_drop(struct soft *s, struct link **at)
{
	struct link *l = *at;

	*at = l->next;
	free(l);
	s->conn_count--;
}

static struct cached **client_place(struct soft *s, const struct weir_client_key *key)
{
	struct cached **at = &s->buckets[hash(key, sizeof(*key), s->seed) % CACHE_MAX];

	while (*at && memcmp(&(*at)->key, key, sizeof(*key)))
		at = &(*at)->next;
	return at;
}

/* Room for what one segment needs (its client, and `other`) is made between segments: pointers stay valid inside one. */
static struct weir_client *client_cache(struct soft *s, struct cached **at, const struct weir_client_key *key, const struct weir_client *value)
{
	struct cached *c;

	if (s->cached == CACHE_MAX)
		return NULL;
	c = &s->cache[s->cached++];
	*c = (struct cached){ .key = *key, .value = *value };
	*at = c;
	return &c->value;
}

static struct weir_client *client_find(struct soft *s, const struct weir_client_key *key)
{
	struct cached **at = client_place(s, key);
	struct weir_client value;

	if (*at)
		return &(*at)->value;
	if (s->store.load(s->store.ctx, key, &value) < 0)
		return NULL;
	return client_cache(s, at, key, &value);
}

static int client_make(struct soft *s, const struct weir_client_key *key, const struct weir_client *value)
{
	struct cached **at = client_place(s, key);
	int r;

	if (*at)
		return -EEXIST;
	r = s->store.make(s->store.ctx, key, value);
	if (r < 0)
		return r;
	return client_cache(s, at, key, value) ? 0 : -E2BIG;
}

/* ---- the kernel's helpers --------------------------------------------------------------------------- */
static void *bpf_map_lookup_elem(const void *map, const void *key)
{
	static uint8_t yes = 1;
	uint32_t which;

	if (map == &weir_conns) {
		struct link **at = conn_place(self, key);

		return *at ? &(*at)->conn : NULL;
	}
	if (map == &weir_clients || map == &weir_others)
		return client_find(self, key);
	if (map == &weir_local_addrs)
		return self->store.is_local && self->store.is_local(self->store.ctx, key) ? &yes : NULL;
	memcpy(&which, key, sizeof(which)); /* weir_stats */
	return which < WEIR_STAT_COUNT ? &self->stats[which] : NULL;
}

static long bpf_map_update_elem(const void *map, const void *key, const void *value, __u64 flags)
{
	(void)flags; /* only ever BPF_NOEXIST */
	if (map == &weir_conns)
		return conn_make(self, key, value);
	return client_make(self, key, value);
}

static long bpf_map_delete_elem(const void *map, const void *key)
{
	struct link **at = conn_place(self, key);

	(void)map; /* only weir_conns */
	if (!*at)
		return -ENOENT;
	conn_drop(self, at);
	return 0;
}

static void *bpf_ringbuf_reserve(const void *ring, __u64 size, __u64 flags)
{
	(void)ring;
	(void)flags;
	if (size > sizeof(self->record))
		return NULL;
	self->record_size = size;
	return self->record;
}

static void bpf_ringbuf_submit(void *record, __u64 flags)
{
	(void)flags;
	self->event(self->ctx, record, self->record_size);
}

static long bpf_skb_load_bytes(const struct __sk_buff *skb, __u32 off, void *to, __u32 n)
{
	(void)skb;
	if (off > self->len || n > self->len - off)
		return -EFAULT;
	memcpy(to, self->data + off, n);
	return 0;
}

static __u64 bpf_ktime_get_ns(void)
{
	return self->now;
}

/* ---- the module ------------------------------------------------------------------------------------ */
int soft_open(const struct soft_opts *o, struct soft **ret)
{
	CLEANUP(soft_freep) struct soft *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->automaton = *o->automaton;
	s->control = o->control;
	s->v6_prefix = o->v6_prefix ? o->v6_prefix : 64;
	s->prompt_blind = o->prompt_blind;
	s->store = o->store;
	s->event = o->event;
	s->ctx = o->ctx;
	s->conn_max = o->max_conns ? o->max_conns : CONNS_MAX_DEFAULT;
	if (getrandom(&s->seed, sizeof(s->seed), GRND_NONBLOCK) != sizeof(s->seed))
		s->seed = (uint64_t)(uintptr_t)s ^ (uint64_t)getpid() << 32; /* early at boot */
	*ret = TAKE_PTR(s);
	return 0;
}

struct soft *soft_free(struct soft *s)
{
	if (!s)
		return NULL;
	for (size_t b = 0; b < BUCKETS; b++)
		while (s->conns[b])
			conn_drop(s, &s->conns[b]);
	free(s);
	return NULL;
}

int soft_segment(struct soft *s, const void *data, size_t n)
{
	const struct weir_tap *t = data;
	struct segment g;

	if (n < sizeof(*t) || t->len > n - sizeof(*t) || t->dir > WEIR_RESPONSE)
		return -EINVAL;
	if (s->cached > CACHE_MAX - 4)
		soft_flush(s);
	g = (struct segment){
		.key = t->key,
		.tcp = t->tcp,
		.seq = t->seq,
		.len = t->len,
		.fin = (t->flags & WEIR_TAP_FIN) != 0,
		.rst = (t->flags & WEIR_TAP_RST) != 0,
	};
	s->now = t->ts;
	s->data = t->data;
	s->len = t->len;
	self = s;
	segment(NULL, &g, t->dir);
	self = NULL;
	return 0;
}

/* As a segment's own gap does (claim()), but at once: it may be what ends a message. */
static void gap_passes(struct weir_conn *c, struct segment *g, int dir, __u64 now)
{
	struct run r = { .now = now, .dir = (__u32)dir };

	if ((c->flags & (WEIR_C_DEAD | WEIR_C_GHOST | WEIR_C_RAW)) || !(side_of(c, (__u32)dir)->flags & WEIR_S_STARTED))
		return;
	c->last_ns = now;
	claim(c, g, dir, now, &r.ev);
	if (!(r.ev & WEIR_EV_DONE))
		return;
	message(NULL, c, &g->key, &r);
	flush_bytes(c, &g->key, dir, now);
}

int soft_gap(struct soft *s, const struct weir_tap *t)
{
	struct segment g = { .key = t->key, .tcp = t->tcp, .seq = t->seq + t->len };
	struct link *l;

	if (t->dir > WEIR_RESPONSE)
		return -EINVAL;
	if (s->cached > CACHE_MAX - 4)
		soft_flush(s);
	l = *conn_place(s, &t->key);
	if (!l)
		return 0;
	s->now = t->ts;
	s->data = NULL;
	s->len = 0;
	self = s;
	gap_passes(&l->conn, &g, t->dir, t->ts);
	self = NULL;
	return 0;
}

void soft_flush(struct soft *s)
{
	for (size_t i = 0; i < s->cached; i++) {
		struct cached *c = &s->cache[i];

		s->store.save(s->store.ctx, &c->key, &c->value);
		s->buckets[hash(&c->key, sizeof(c->key), s->seed) % CACHE_MAX] = NULL;
	}
	s->cached = 0;
	for (int i = 0; i < WEIR_STAT_COUNT; i++) {
		if (s->stats[i] == s->written[i])
			continue;
		s->store.stat(s->store.ctx, (enum weir_stat)i, s->stats[i]);
		s->written[i] = s->stats[i];
	}
}

void soft_each_conn(const struct soft *s, void (*look)(const struct weir_conn *c, void *ctx), void *ctx)
{
	for (uint32_t i = 0; i < BUCKETS; i++)
		for (const struct link *l = s->conns[i]; l; l = l->next)
			look(&l->conn, ctx);
}

void soft_age(struct soft *s, uint64_t now_ns, uint64_t idle_ns, uint64_t pending_idle_ns)
{
	for (uint32_t i = 0; i < AGE_BUCKETS; i++) {
		struct link **at = &s->conns[s->age_bucket];

		while (*at) {
			const struct weir_conn *c = &(*at)->conn;

			if (c->last_ns + (c->open || (c->flags & WEIR_C_RAW) ? pending_idle_ns : idle_ns) < now_ns)
				conn_drop(s, at);
			else
				at = &(*at)->next;
		}
		s->age_bucket = (s->age_bucket + 1) % BUCKETS;
	}
}

size_t soft_conns(const struct soft *s)
{
	return s->conn_count;
}
