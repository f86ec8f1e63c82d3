/* What an event says: who is named, in which order, and the sentence at the end. */
#include <math.h>

#include "detect/calendar.h"
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

static bool tells(const struct anomaly *a, const char *feature)
{
	for (size_t k = 0; k < a->evidence_count; k++)
		if (!strcmp(a->evidence[k].feature, feature))
			return true;
	return false;
}

/* What the feature usually is. */
static double usual_of(const struct detect *d, const struct opinion *o)
{
	const struct habit *h = &d->usual;

	return h->n[o->most] ? (double)h->mean[o->most] : 0;
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

/* What was announced is told one step less severe. */
static void expect(const struct detect *d, struct anomaly *a)
{
	struct anomaly_contributor who[1 + ANOMALY_TOP_MAX];
	struct calendar_about about = { a->cls, who, 0 };

	who[about.n++] = (struct anomaly_contributor){ a->scope_kind, a->scope_value, 1 };
	for (size_t i = 0; i < a->top_count; i++)
		who[about.n++] = a->top[i];
	a->expected_by = calendar_explains(d->opts.calendar, a->start, &about);
	if (a->expected_by && a->severity > SEVERITY_INFO)
		a->severity--;
}

void describe(const struct detect *d, const struct incident *in, enum anomaly_event ev, struct anomaly *a, char *summary, size_t n)
{
	const struct finding *f = &in->f;

	*a = (struct anomaly){
		.event = ev,
		.id = in->id,
		.cls = f->cls,
		.severity = severity_of(in),
		.scope_kind = in->scope_kind,
		.scope_value = in->scope_value,
		.start = (double)f->start,
		.detected = (double)(d->base + d->tick + 1),
		.end = ev == EVENT_CLOSE ? (double)(d->base + in->above + 1) : -1,
		.score = f->score,
		.confidence = f->confidence,
		.summary = summary,
		.evidence_count = f->evidence_count,
		.cost_per_h = in->cost,
	};
	memcpy(a->evidence, f->evidence, sizeof(f->evidence));
	if (ev == EVENT_CLOSE && in->bests) {
		a->evidence_count = in->bests;
		memcpy(a->evidence, in->best, sizeof(in->best));
	}
	if (in->opinion.asked) {
		const struct opinion *o = &in->opinion;

		a->evidence_count = MIN(a->evidence_count, (size_t)ANOMALY_EVIDENCE_MAX - 2);
		a->confidence = opinion_confidence(in, f->confidence);
		a->evidence[a->evidence_count++] = (struct anomaly_evidence){ "isolation_forest", o->score, 0.5, o->sigma };
		/* and what makes it odd, where that is not told yet */
		if (!isnan(o->value) && !tells(a, trait_name(o->most)))
			a->evidence[a->evidence_count++] = (struct anomaly_evidence){ trait_name(o->most), o->value, usual_of(d, o), o->sigma * o->share };
	}
	if (*in->cause) {
		a->evidence_count = MIN(a->evidence_count, (size_t)ANOMALY_EVIDENCE_MAX - 1);
		a->evidence[a->evidence_count++] = (struct anomaly_evidence){ "seconds_since_marker", in->since_cause, 0, 0 };
	}
	for (unsigned int k = 0; k < f->actors; k++)
		name(a, at(d, f->actor[k]), f->share[k]);
	expect(d, a);
	if (ev == EVENT_CLOSE)
		snprintf(summary, n, "over after %.0f s: %s%s", MAX(a->end - a->start, 0.0), in->bests ? in->said : f->summary, in->cause);
	else
		snprintf(summary, n, "%s%s", f->summary, in->cause);
	if (in->routine) {
		size_t used = strlen(summary);

		snprintf(summary + used, n - used, "; as at this hour on %u of the last %d days", in->routine, ROUTINE_REACH_DAYS);
	}
	if (a->cost_per_h > 0) {
		size_t used = strlen(summary);

		snprintf(summary + used, n - used, "; %s %.4g an hour above the expected", ev == EVENT_CLOSE ? "cost" : "costs", a->cost_per_h);
	}
	if (a->expected_by) {
		size_t used = strlen(summary);

		snprintf(summary + used, n - used, "; on the calendar: %s", a->expected_by);
	}
}
