/*
 * test_detect_gen.h - a small seeded generator of request records, and a listener that keeps what the engine says.
 *
 * Customers of unequal size, each with its own key, user and one to three addresses, bursts, and a level that wanders. Attacks are
 * written by the tests themselves with gen_add().
 */
#ifndef WEIR_TEST_DETECT_GEN_H
#define WEIR_TEST_DETECT_GEN_H

#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "detect/detect.h"

#define T0 1767225600.0 /* 2026-01-01 */

struct gen_record {
	struct record r;
	char ip[40], key[24], user[24], model[24];
};

struct gen {
	uint64_t state;
	struct gen_record *v;
	size_t n, cap;
};

static inline uint64_t gen_bits(struct gen *g)
{
	uint64_t z = g->state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static inline double gen_uniform(struct gen *g)
{
	return ((double)(gen_bits(g) >> 11) + 0.5) / 9007199254740992.0;
}

static inline double gen_normal(struct gen *g)
{
	return sqrt(-2 * log(gen_uniform(g))) * cos(6.283185307179586 * gen_uniform(g));
}

static inline unsigned int gen_poisson(struct gen *g, double mean)
{
	double limit = exp(-mean), p = 1;
	unsigned int k = 0;

	if (mean > 30)
		return (unsigned int)fmax(0, mean + sqrt(mean) * gen_normal(g) + 0.5);
	while ((p *= gen_uniform(g)) > limit)
		k++;
	return k;
}

static inline struct gen_record *gen_add(struct gen *g, double t, const char *ip, const char *key, const char *user, int64_t prompt, int64_t completion)
{
	struct gen_record *e;

	if (g->n == g->cap) {
		g->cap = g->cap ? g->cap * 2 : 4096;
		g->v = realloc(g->v, g->cap * sizeof(*g->v));
		assert_non_null(g->v);
	}
	e = &g->v[g->n++];
	memset(e, 0, sizeof(*e));
	record_init(&e->r);
	e->r.timestamp = T0 + t;
	e->r.kind = KIND_INFERENCE;
	snprintf(e->ip, sizeof(e->ip), "%s", ip);
	snprintf(e->key, sizeof(e->key), "%s", key);
	snprintf(e->user, sizeof(e->user), "%s", user);
	snprintf(e->model, sizeof(e->model), "m-large");
	record_set_int(&e->r, F_PROMPT_TOKENS, prompt);
	record_set_int(&e->r, F_COMPLETION_TOKENS, completion);
	record_set_int(&e->r, F_STATUS, 200);
	record_set_real(&e->r, F_DURATION_MS, 200 + 10.0 * (double)completion);
	return e;
}

/* `seconds` of ordinary traffic at about `rate` requests per second, from `from` on. */
static inline void gen_calm(struct gen *g, double from, double seconds, double rate, int customers)
{
	double level[64] = { 0 }, burst[64], share[64], sum = 0;

	assert_true(customers <= 64);
	for (int c = 0; c < customers; c++)
		sum += share[c] = pow(c + 1, -0.9);
	for (int t = 0; t < (int)seconds; t++) {
		for (int c = 0; c < customers; c++) {
			char ip[40], key[24], user[24];
			unsigned int n;

			if (t % 60 == 0)
				level[c] = 0.97 * level[c] + 0.08 * gen_normal(g);
			if (t % 5 == 0)
				burst[c] = c % 3 ? 0.5 + gen_uniform(g) : -log(gen_uniform(g));
			n = gen_poisson(g, rate * share[c] / sum * exp(level[c]) * burst[c]);
			snprintf(key, sizeof(key), "key-%d", c);
			snprintf(user, sizeof(user), "user-%d", c);
			while (n--) {
				snprintf(ip, sizeof(ip), "10.0.%d.%d", c, (int)(gen_uniform(g) * (1 + c % 3)));
				gen_add(g, from + t + gen_uniform(g), ip, key, user, (int64_t)(400 * exp(0.6 * gen_normal(g))), (int64_t)(120 * exp(0.5 * gen_normal(g))));
			}
		}
	}
}

/* One source at a steady rate. */
static inline void gen_source(struct gen *g, double from, double seconds, double rate, const char *ip, const char *key, int64_t prompt, int64_t completion)
{
	for (double t = from; t < from + seconds; t += 1 / rate)
		gen_add(g, t, ip, key, key, prompt, completion);
}

static inline int gen_by_time(const void *a, const void *b)
{
	const struct gen_record *x = a, *y = b;

	return x->r.timestamp < y->r.timestamp ? -1 : x->r.timestamp > y->r.timestamp;
}

static inline int gen_by_end(const void *a, const void *b)
{
	const struct gen_record *x = a, *y = b;
	double p = x->r.timestamp + record_real(&x->r, F_DURATION_MS, 0) / 1000, q = y->r.timestamp + record_real(&y->r, F_DURATION_MS, 0) / 1000;

	return p < q ? -1 : p > q;
}

static inline const struct record *gen_bind(struct gen_record *e)
{
	if (*e->ip)
		record_set_text(&e->r, F_CLIENT_IP, span_of(e->ip));
	if (*e->key)
		record_set_text(&e->r, F_API_KEY, span_of(e->key));
	if (*e->user)
		record_set_text(&e->r, F_USER, span_of(e->user));
	if (*e->model)
		record_set_text(&e->r, F_MODEL_NAME, span_of(e->model));
	return &e->r;
}

static inline void gen_done(struct gen *g)
{
	free(g->v);
}

#define HEARD_MAX 256
struct heard {
	size_t n;
	struct heard_event {
		enum anomaly_event event;
		enum anomaly_class cls;
		enum anomaly_severity severity;
		enum entity_kind kind;
		char value[64], id[48], summary[512];
		double start, detected, end;
		size_t top_count;
		struct {
			enum entity_kind kind;
			char value[64];
			double share;
		} top[ANOMALY_TOP_MAX];
	} v[HEARD_MAX];
	struct str json;
};

static inline void hear(void *ctx, const struct anomaly *a)
{
	struct heard *h = ctx;
	struct heard_event *e;

	h->json.ceiling = 64u << 20;
	anomaly_write_json(&h->json, a);
	if (h->n == HEARD_MAX)
		return;
	e = &h->v[h->n++];
	*e = (struct heard_event){
		.event = a->event, .cls = a->cls, .severity = a->severity, .kind = a->scope_kind, .start = a->start - T0, .detected = a->detected - T0, .end = a->end - T0,
		.top_count = a->top_count,
	};
	snprintf(e->value, sizeof(e->value), "%s", a->scope_value);
	snprintf(e->id, sizeof(e->id), "%s", a->id);
	snprintf(e->summary, sizeof(e->summary), "%s", a->summary);
	for (size_t i = 0; i < a->top_count; i++) {
		e->top[i].kind = a->top[i].kind;
		e->top[i].share = a->top[i].share;
		snprintf(e->top[i].value, sizeof(e->top[i].value), "%s", a->top[i].value);
	}
}

static inline struct detect *engine(struct heard *h)
{
	struct detect_opts o = { .detector = DETECTOR_FULL, .emit = hear, .ctx = h };
	struct detect *d = NULL;

	assert_int_equal(detect_open(&o, &d), 0);
	return d;
}

/* Sorts by arrival and runs the first n records. */
static inline void run_some(struct gen *g, size_t n, struct heard *h, struct detect_stats *st)
{
	struct detect *d = engine(h);

	qsort(g->v, g->n, sizeof(*g->v), gen_by_time);
	for (size_t i = 0; i < n && i < g->n; i++)
		assert_int_equal(detect_record(d, gen_bind(&g->v[i])), 0);
	assert_int_equal(detect_finish(d), 0);
	if (st)
		detect_stats(d, st);
	detect_free(d);
}

static inline void run_all(struct gen *g, struct heard *h, struct detect_stats *st)
{
	run_some(g, SIZE_MAX, h, st);
}

static inline size_t opens(const struct heard *h, int cls)
{
	size_t n = 0;

	for (size_t i = 0; i < h->n; i++)
		n += h->v[i].event == EVENT_OPEN && (cls < 0 || h->v[i].cls == (enum anomaly_class)cls);
	return n;
}

static inline const struct heard_event *first_open(const struct heard *h, enum anomaly_class cls)
{
	for (size_t i = 0; i < h->n; i++)
		if (h->v[i].event == EVENT_OPEN && h->v[i].cls == cls)
			return &h->v[i];
	return NULL;
}

static inline void show(const struct heard *h)
{
	if (h->json.n)
		fputs(h->json.p, stderr);
}

#endif
