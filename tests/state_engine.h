/*
 * state_engine.h - an engine that learns by counting, for tests of what keeps its learning.
 *
 * It has ENTITIES baselines, each a count and the time of its last record, in a blob of the size that a real one has, and
 * incidents that are opened and closed by hand. Everything that it emits goes through the state first, as in the agent.
 */
#ifndef WEIR_TEST_STATE_ENGINE_H
#define WEIR_TEST_STATE_ENGINE_H

#include "cmd/state.h"

#define BLOB_MAGIC 0x77a1
#define INCIDENTS 16

struct counted {
	uint32_t magic, number;
	uint64_t count;
	double last;
	char filler[376]; /* 400 bytes together */
};

struct counting {
	size_t n;
	struct counted *v;
	bool *changed;
	struct {
		bool open;
		char id[32];
		double start;
	} incident[INCIDENTS];
	struct state *state;
	uint64_t labels, exported;
	struct detect_label label; /* the last one; texts are not kept */
	char label_id[64], label_feature[64];
	uint64_t suppressed; /* told of label_id */
	int refuse;	     /* what import and label answer, 0: they take it */
};

static inline struct counting *counting_new(size_t n)
{
	struct counting *c = calloc(1, sizeof(*c));

	c->n = n;
	c->v = calloc(n, sizeof(*c->v));
	c->changed = calloc(n, sizeof(*c->changed));
	for (size_t i = 0; i < n; i++)
		c->v[i] = (struct counted){ .magic = BLOB_MAGIC, .number = (uint32_t)i };
	return c;
}

static inline struct counting *counting_free(struct counting *c)
{
	free(c->v);
	free(c->changed);
	free(c);
	return NULL;
}

static inline void counting_learn(struct counting *c, size_t i, double now)
{
	c->v[i].count++;
	c->v[i].last = now;
	memset(c->v[i].filler, (int)c->v[i].count, sizeof(c->v[i].filler));
	c->changed[i] = true;
}

static inline void counting_emit(struct counting *c, size_t i, enum anomaly_event ev, double now)
{
	struct anomaly a = {
		.event = ev, .id = c->incident[i].id, .cls = CLASS_FLOOD, .severity = SEVERITY_WARNING, .scope_kind = ENTITY_CLIENT_IP, .scope_value = "198.51.100.1",
		.start = c->incident[i].start, .detected = now, .end = ev == EVENT_CLOSE ? now : -1, .score = 9, .confidence = 0.9, .summary = "too much",
		.evidence = { { "requests_per_s", 50, 5, 9 } }, .evidence_count = 1,
	};

	state_event(c->state, &a);
	if (ev == EVENT_CLOSE)
		c->incident[i].open = false;
}

static inline void counting_open(struct counting *c, size_t i, const char *id, double now)
{
	c->incident[i].open = true;
	c->incident[i].start = now;
	snprintf(c->incident[i].id, sizeof(c->incident[i].id), "%s", id);
	counting_emit(c, i, EVENT_OPEN, now);
}

static inline int counting_export(void *engine, bool all, int (*put)(void *ctx, const struct detect_state_item *it), void *ctx)
{
	struct counting *c = engine;
	char name[32];
	int r = 0;

	for (size_t i = 0; i < INCIDENTS && r == 0; i++)
		if (c->incident[i].open)
			r = put(ctx, &(struct detect_state_item){ DETECT_STATE_INCIDENT, c->incident[i].id, &c->incident[i].start, sizeof(double) });
	for (size_t i = 0; i < c->n; i++)
		c->changed[i] |= all && c->v[i].count;
	for (size_t i = 0; i < c->n && r == 0; i++) {
		if (!c->changed[i])
			continue;
		snprintf(name, sizeof(name), "10.%zu.%zu.%zu", i >> 16, i >> 8 & 255, i & 255);
		r = put(ctx, &(struct detect_state_item){ "client_ip", name, &c->v[i], sizeof(c->v[i]) });
		c->changed[i] = r != 0;
		c->exported += r == 0;
	}
	if (c->suppressed && r == 0)
		r = put(ctx, &(struct detect_state_item){ DETECT_STATE_SUPPRESSED, c->label_id, &c->suppressed, sizeof(c->suppressed) });
	return r;
}

static inline int counting_import(void *engine, const struct detect_state_item *it)
{
	struct counting *c = engine;

	if (c->refuse)
		return c->refuse;
	if (!strcmp(it->kind, "client_ip")) {
		struct counted b;

		if (it->n != sizeof(b))
			return -EINVAL;
		memcpy(&b, it->blob, sizeof(b));
		if (b.magic != BLOB_MAGIC || b.number >= c->n)
			return -EINVAL;
		for (size_t i = 0; i < sizeof(b.filler); i++)
			if (b.filler[i] != (char)b.count)
				return -EINVAL;
		c->v[b.number] = b;
		return 0;
	}
	if (!strcmp(it->kind, DETECT_STATE_INCIDENT)) {
		for (size_t i = 0; i < INCIDENTS; i++) {
			if (c->incident[i].open)
				continue;
			c->incident[i].open = true;
			snprintf(c->incident[i].id, sizeof(c->incident[i].id), "%s", it->name);
			memcpy(&c->incident[i].start, it->blob, sizeof(double));
			return 0;
		}
	}
	if (!strcmp(it->kind, DETECT_STATE_SUPPRESSED) && it->n == sizeof(c->suppressed)) {
		memcpy(&c->suppressed, it->blob, sizeof(c->suppressed));
		return 0;
	}
	return -EINVAL;
}

static inline int counting_label(void *engine, const struct detect_label *l)
{
	struct counting *c = engine;

	c->labels++;
	c->label = *l;
	snprintf(c->label_id, sizeof(c->label_id), "%s", l->incident_id);
	snprintf(c->label_feature, sizeof(c->label_feature), "%s", l->evidence_count ? l->evidence[0].feature : "");
	return c->refuse;
}

static const struct state_engine counting_engine = { counting_export, counting_import, counting_label };

#endif
