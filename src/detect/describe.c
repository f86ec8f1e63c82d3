/* What an event says: evidence, who is named, one sentence. */
#include <math.h>

#include "detect/engine.h"

static void evidence(struct anomaly *a, const char *feature, double observed, double expected, double sigma)
{
	if (a->evidence_count < ANOMALY_EVIDENCE_MAX)
		a->evidence[a->evidence_count++] = (struct anomaly_evidence){ feature, observed, expected, sigma };
}

static void name(struct anomaly *a, const struct entity *e, double share)
{
	size_t i;

	if (share < TOP_SHARE || e->kind == ENTITY_GLOBAL)
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

static const char *kind_word(const struct incident *in)
{
	switch (in->scope_kind) {
	case ENTITY_CLIENT_IP:
		return "client";
	case ENTITY_API_KEY:
		return "API key";
	case ENTITY_GLOBAL:
		return "all clients together";
	default:
		return entity_kind_name(in->scope_kind);
	}
}

static void say_flood(const struct detect *d, const struct incident *in, struct anomaly *a, char *s, size_t n)
{
	const struct entity *g = global_of(d);
	struct reading all = read_requests(g, in->slow);
	double seconds = in->slow ? STEP_S * WINDOW_STEPS : STEP_S, x = 0, mu = 0, excess = 0, share;

	for (unsigned int k = 0; k < in->members; k++) {
		struct reading r = read_requests(at(d, in->suspect[k]), in->slow);

		x += r.x;
		mu += r.mu;
		excess += MAX(r.excess, 0.0);
	}
	share = excess / MAX(MAX(all.excess, excess), 1e-9);
	evidence(a, "requests_per_s", all.x / seconds, all.mu / seconds, all.z);
	evidence(a, "source_requests_per_s", x / seconds, mu / seconds, in->score);
	evidence(a, "share_of_excess", share, 0, 0);
	evidence(a, "sources", in->members, 0, 0);
	if (in->members > 1)
		snprintf(s, n, "%u sources send %.1f requests/s where %.1f/s are usual for them; %.1f/s are usual for everybody, and they make up %.0f %% of the excess",
			 in->members, x / seconds, mu / seconds, all.mu / seconds, share * 100);
	else
		snprintf(s, n, "%s %s sends %.1f requests/s where %.1f/s are usual; all clients together usually send %.1f/s, and it makes up %.0f %% of the excess",
			 kind_word(in), in->scope_value, x / seconds, mu / seconds, all.mu / seconds, share * 100);
}

static void say_rise(const struct detect *d, struct anomaly *a, char *s, size_t n)
{
	struct reading r = read_requests(global_of(d), true);

	evidence(a, "requests_per_s", r.x / 60, r.mu / 60, r.z);
	for (uint32_t k = 0; k < d->actives; k++) {
		const struct entity *e = at(d, d->active[k]);

		if (is_identity(e) && e->tick > d->tick - STEP_S && read_requests(e, true).z >= TOP_MIN)
			name(a, e, read_requests(e, true).excess / MAX(r.excess, 1e-9));
	}
	snprintf(s, n, "requests rose to %.1f/s where %.1f/s are usual, and no few sources explain it", r.x / 60, r.mu / 60);
}

static void say_cost(const struct detect *d, const struct incident *in, struct anomaly *a, char *s, size_t n)
{
	const struct entity *e = at(d, in->entity);
	struct reading r = read_tokens(e), q = read_requests(e, true), all = read_tokens(global_of(d));

	evidence(a, "tokens_per_s", r.x / 60, r.mu / 60, r.z);
	evidence(a, "requests_per_s", q.x / 60, q.mu / 60, q.z);
	evidence(a, "tokens_per_request", r.x / MAX(q.x, 1.0), r.mu / MAX(q.mu, 0.1), 0);
	evidence(a, "all_tokens_per_s", all.x / 60, all.mu / 60, all.z);
	snprintf(s, n, "%s %s uses %.0f tokens/min, %.1f times its usual %.0f; its requests are %.1f/min where %.1f/min are usual", kind_word(in), in->scope_value, r.x,
		 r.ratio, r.mu, q.x, q.mu);
}

static void say_errors(const struct detect *d, const struct incident *in, struct anomaly *a, char *s, size_t n)
{
	const struct entity *e = in->entity == NOBODY ? global_of(d) : at(d, in->entity);
	struct error_reading r = read_errors(d, e->errors), all = read_errors(d, global_of(d)->errors);

	evidence(a, "error_share", r.share, e->errors->share, r.z);
	evidence(a, "errors", r.failed, r.done * e->errors->share, r.z);
	for (uint32_t k = 0; k < d->actives; k++) {
		const struct entity *m = at(d, d->active[k]);

		if (m->kind == ENTITY_MODEL && m->tick / STEP_S >= d->tick / STEP_S - 1)
			name(a, m, read_errors(d, m->errors).failed / MAX(all.failed, 1.0));
	}
	snprintf(s, n, "%.0f %% of the requests to %s%s fail (%.0f of %.0f); %.1f %% is usual", r.share * 100, in->entity == NOBODY ? "all models" : "model ",
		 in->entity == NOBODY ? "" : in->scope_value, r.failed, r.done, e->errors->share * 100);
}

static void say_drop(const struct detect *d, const struct incident *in, struct anomaly *a, char *s, size_t n)
{
	const struct entity *e = in->entity == NOBODY ? global_of(d) : at(d, in->entity);
	double x = entity_requests60(e) / 60, mu = baseline_floor(&e->req) / STEP_S, quiet = d->tick - e->last;

	evidence(a, "requests_per_s", x, mu, -in->score);
	evidence(a, "silence_s", quiet, (double)e->gap, 0);
	for (unsigned int k = 0; k < in->suspects; k++)
		name(a, at(d, in->suspect[k]), 1);
	if (quiet > STEP_S)
		snprintf(s, n, "no request from %s%s%s for %.0f s where %.2f/s are usual", kind_word(in), in->entity == NOBODY ? "" : " ", in->scope_value, quiet, mu);
	else
		snprintf(s, n, "requests from %s%s%s fell to %.2f/s where %.2f/s are usual", kind_word(in), in->entity == NOBODY ? "" : " ", in->scope_value, x, mu);
}

void describe_shares(const struct detect *d, struct incident *in)
{
	const struct entity *g = global_of(d);
	bool cost = in->watch == WATCH_COST;
	double all, members = 0;

	if (!cost && in->watch != WATCH_FLOOD)
		return;
	all = cost ? read_tokens(g).excess : read_requests(g, in->slow).excess;
	for (unsigned int k = 0; k < in->members; k++) {
		const struct entity *e = at(d, in->suspect[k]);

		members += MAX(cost ? read_tokens(e).excess : read_requests(e, in->slow).excess, 0.0);
	}
	all = MAX(MAX(all, members), 1e-9);
	for (unsigned int k = 0; k < in->suspects; k++) {
		const struct entity *e = at(d, in->suspect[k]);

		in->share[k] = MAX(in->share[k], (cost ? read_tokens(e).excess : read_requests(e, in->slow).excess) / all);
	}
}

void describe(const struct detect *d, struct incident *in, enum anomaly_event ev, struct anomaly *a, char *summary, size_t n)
{
	*a = (struct anomaly){
		.event = ev,
		.id = in->id,
		.cls = in->cls,
		.severity = in->severity,
		.scope_kind = in->scope_kind,
		.scope_value = in->scope_value,
		.start = (double)in->start,
		.detected = (double)(d->base + d->tick + 1),
		.end = ev == EVENT_CLOSE ? (double)(d->base + in->above + 1) : -1,
		.score = in->score,
		.confidence = in->confidence,
		.summary = summary,
	};
	if (ev != EVENT_CLOSE)
		describe_shares(d, in);
	for (unsigned int k = 0; k < in->suspects; k++)
		name(a, at(d, in->suspect[k]), in->share[k]);
	switch (in->watch) {
	case WATCH_FLOOD:
		say_flood(d, in, a, summary, n);
		break;
	case WATCH_RISE:
		say_rise(d, a, summary, n);
		break;
	case WATCH_COST:
		say_cost(d, in, a, summary, n);
		break;
	case WATCH_ERROR:
		say_errors(d, in, a, summary, n);
		break;
	case WATCH_DROP:
		say_drop(d, in, a, summary, n);
		break;
	}
	if (ev == EVENT_CLOSE)
		snprintf(summary, n, "over after %.0f s: %s", MAX(a->end - a->start, 0.0), in->summary);
}
