/* What an event says: who is named, in which order, and the sentence at the end. */
#include <math.h>

#include "detect/engine.h"

static void name(struct anomaly *a, const struct entity *e, double share)
{
	size_t i;

	if (share < TOP_SHARE || e->kind == ENTITY_GLOBAL || e->kind == ENTITY_HOST)
		return;
	share = MIN(share, 1.0);
	if (a->top_count == ANOMALY_TOP_MAX) {
		if (a->top[ANOMALY_TOP_MAX - 1].share >= share)
			return;
		a->top_count--;
	}
	for (i = a->top_count++; i > 0 && a->top[i - 1].share < share; i--)
		a->top[i] = a->top[i - 1];
	a->top[i] = (struct anomaly_contributor){ (enum entity_kind)e->kind, e->name, share };
}

const char *describe_who(const struct detect *d, uint32_t i, char *buf, size_t n)
{
	const struct entity *e = i == NOBODY ? NULL : at(d, i);

	if (!e || e->kind == ENTITY_GLOBAL)
		snprintf(buf, n, "all clients together");
	else
		snprintf(buf, n, "%s %s", e->kind == ENTITY_CLIENT_IP ? "client" : e->kind == ENTITY_API_KEY ? "API key" : entity_kind_name((enum entity_kind)e->kind), e->name);
	return buf;
}

void describe(const struct detect *d, const struct incident *in, enum anomaly_event ev, struct anomaly *a, char *summary, size_t n)
{
	const struct finding *f = &in->f;

	*a = (struct anomaly){
		.event = ev,
		.id = in->id,
		.cls = f->cls,
		.severity = f->severity,
		.scope_kind = in->scope_kind,
		.scope_value = in->scope_value,
		.start = (double)f->start,
		.detected = (double)(d->base + d->tick + 1),
		.end = ev == EVENT_CLOSE ? (double)(d->base + in->above + 1) : -1,
		.score = f->score,
		.confidence = f->confidence,
		.summary = summary,
		.evidence_count = f->evidence_count,
	};
	memcpy(a->evidence, f->evidence, sizeof(f->evidence));
	if (ev == EVENT_CLOSE && in->bests) {
		a->evidence_count = in->bests;
		memcpy(a->evidence, in->best, sizeof(in->best));
	}
	for (unsigned int k = 0; k < f->actors; k++)
		name(a, at(d, f->actor[k]), f->share[k]);
	if (ev == EVENT_CLOSE)
		snprintf(summary, n, "over after %.0f s: %s", MAX(a->end - a->start, 0.0), in->bests ? in->said : f->summary);
	else
		snprintf(summary, n, "%s", f->summary);
}
