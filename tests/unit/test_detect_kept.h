/* test_detect_kept.h - exports of an engine in memory, and a run that can be stopped, labelled and gone on with. */
#ifndef WEIR_TEST_DETECT_KEPT_H
#define WEIR_TEST_DETECT_KEPT_H

#include "detect/detect_state.h"
#include "test_detect_gen.h"

#define ITEMS_MAX 4096

struct items {
	struct kept_item {
		char kind[32], name[200];
		void *blob;
		size_t n;
	} v[ITEMS_MAX];
	size_t n;
};

static inline int items_put(void *ctx, const struct detect_state_item *it)
{
	struct items *s = ctx;
	struct kept_item *k = NULL;

	for (size_t i = 0; i < s->n && !k; i++)
		if (!strcmp(s->v[i].kind, it->kind) && !strcmp(s->v[i].name, it->name))
			k = &s->v[i];
	if (!k) {
		assert_true(s->n < ITEMS_MAX);
		k = &s->v[s->n++];
		snprintf(k->kind, sizeof(k->kind), "%s", it->kind);
		snprintf(k->name, sizeof(k->name), "%s", it->name);
	}
	free(k->blob);
	k->blob = malloc(it->n ? it->n : 1);
	assert_non_null(k->blob);
	memcpy(k->blob, it->blob, it->n);
	k->n = it->n;
	return 0;
}

static inline const struct kept_item *items_find(const struct items *s, const char *kind, const char *name)
{
	for (size_t i = 0; i < s->n; i++)
		if (!strcmp(s->v[i].kind, kind) && (!name || !strcmp(s->v[i].name, name)))
			return &s->v[i];
	return NULL;
}

static inline size_t items_count(const struct items *s, const char *kind)
{
	size_t n = 0;

	for (size_t i = 0; i < s->n; i++)
		n += !strcmp(s->v[i].kind, kind);
	return n;
}

static inline int item_import(struct detect *d, const struct kept_item *k)
{
	const struct detect_state_item it = { k->kind, k->name, k->blob, k->n };

	return detect_import(d, &it);
}

static inline void items_import(struct detect *d, const struct items *s)
{
	for (size_t i = 0; i < s->n; i++)
		assert_int_equal(item_import(d, &s->v[i]), 0);
}

static inline void items_done(struct items *s)
{
	for (size_t i = 0; i < s->n; i++)
		free(s->v[i].blob);
	memset(s, 0, sizeof(*s));
}

/* Feeds what is not later than `until`; *from: where it stands. g is sorted. */
static inline void feed_until(struct detect *d, struct gen *g, size_t *from, double until)
{
	for (; *from < g->n && g->v[*from].r.timestamp < T0 + until; ++*from)
		assert_int_equal(detect_record(d, gen_bind(&g->v[*from])), 0);
}

/* What weir keeps of an event for a label, as the store does. */
struct tagged {
	char id[64], value[64], feature[ANOMALY_EVIDENCE_MAX][64];
	struct anomaly a;
};

static inline void tag_event(struct tagged *t, const struct anomaly *a)
{
	t->a = *a;
	snprintf(t->id, sizeof(t->id), "%s", a->id);
	snprintf(t->value, sizeof(t->value), "%s", a->scope_value);
	for (size_t i = 0; i < a->evidence_count; i++) {
		snprintf(t->feature[i], sizeof(t->feature[i]), "%s", a->evidence[i].feature);
		t->a.evidence[i].feature = t->feature[i];
	}
}

static inline void tag_give(struct detect *d, const struct tagged *t, bool true_positive)
{
	const struct detect_label l = {
		.incident_id = t->id, .cls = t->a.cls, .scope_kind = t->a.scope_kind, .scope_value = t->value, .true_positive = true_positive, .start = t->a.start,
		.end = t->a.end, .score = t->a.score, .evidence = t->a.evidence, .evidence_count = t->a.evidence_count,
	};

	assert_int_equal(detect_label(d, &l), 0);
}

#endif
