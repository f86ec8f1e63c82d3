/* Cost: a key, a user or an address that has a past burns tokens far above it. */
#include <math.h>

#include "detect/engine.h"

#define CANDIDATES_MAX 128 /* at one tick; who is not among them is there at the next */

struct candidate {
	uint32_t entity;
	struct reading r;
	double strength;
};

struct reading read_tokens(const struct entity *e)
{
	double mu = baseline_expected(&e->tok) * WINDOW_STEPS, x = entity_tokens60(e);

	return (struct reading){ x, mu, x - mu, baseline_z(x, mu, (double)MAX(e->tok.disp60, e->tok.disp10), e->n), x / MAX(mu, 1) };
}

int64_t onset_tokens(const struct detect *d, const struct entity *e)
{
	double mu = baseline_expected(&e->tok);
	int32_t s = d->tick / STEP_S, first = d->tick;

	for (int32_t k = s; k >= 0 && k > s - LONG_STEPS; k--)
		if ((double)e->t10[k % LONG_STEPS] > mu * 2)
			first = MIN(first, k * STEP_S);
	return d->base + first;
}

/* Excess of tokens in five minutes that is worth a word. */
static double cost_bar(const struct detect *d)
{
	return MAX(COST_LIFT * LONG_STEPS * baseline_level(&global_of(d)->tok), COST_MIN_300);
}

/* Tokens per request of the last minute, against those of all others; whoever floods with small ones does not count. */
static double token_ratio(const struct detect *d, const struct entity *e)
{
	double x = entity_tokens60(e), n = entity_requests60(e);
	double others = entity_tokens60(global_of(d)) - x, their = entity_requests60(global_of(d)) - n;

	for (int i = 0; i < INCIDENTS_MAX; i++) {
		const struct incident *in = &d->incident[i];

		if (in->used && in->open && in->f.watch == WATCH_VOLUME && in->f.actors) {
			others -= entity_tokens60(at(d, in->f.actor[0]));
			their -= entity_requests60(at(d, in->f.actor[0]));
		}
	}
	return n < 1 || their < 1 ? 0 : x / n / MAX(others / their, 1.0);
}

/* While nobody has a past to speak of: many times what it burnt in its first minutes, with requests many times as long as the others'. */
static double spends_young(const struct detect *d, const struct entity *e, struct reading *ret)
{
	struct reading r = read_tokens(e);

	if (d->steps > COST_FIRST_STEPS || e->worked < COST_FIRST_WORKED || (double)e->requests < COST_FIRST_REQUESTS || entity_requests60(e) < COST_CALLS)
		return 0;
	/* told as if it were five minutes */
	*ret = (struct reading){ r.x * LONG_STEPS / WINDOW_STEPS, r.mu * LONG_STEPS / WINDOW_STEPS, r.excess * LONG_STEPS / WINDOW_STEPS, r.z, r.ratio };
	return MIN(MIN(r.ratio / COST_FIRST_RATIO, token_ratio(d, e) / COST_FIRST_SIZE), MIN(r.excess / COST_MIN_300, r.z / COST_FIRST_Z));
}

/*
 * Strength of the finding; 0: nothing. Five minutes are judged: single calls, and the bursts of somebody who calls now and then, are
 * longer than any shorter window. What it has done before sets the bar; the younger it is, the less is known of that.
 */
static double spends(const struct detect *d, const struct entity *e, struct reading *ret)
{
	uint32_t own = e->n - e->prior;
	double mu = baseline_expected(&e->tok) * LONG_STEPS, x = entity_tokens300(e), habit, s;
	struct reading r;

	if (e->kind == ENTITY_CLIENT_IP && e->keys)
		return 0; /* who pays has a name */
	s = spends_young(d, e, ret);
	if (s >= LEAVE_FACTOR)
		return s;
	if (own < COST_STEPS || e->worked < COST_WORKED || !(e->tok.old300 > 0) || x - mu < LEAVE_FACTOR * cost_bar(d))
		return 0;
	/* An entity that slept is not worth less than its last hours. */
	mu = MAX(mu, (double)e->tok.old300 * COST_OF_PEAK);
	r = (struct reading){ x, mu, x - mu, baseline_z(x, mu, (double)MAX(e->tok.disp60, e->tok.disp10), e->n), x / MAX(mu, 1) };
	*ret = r;
	habit = MAX((double)e->tok.old300, mu) * COST_HABIT * (1 + COST_YOUNG / e->worked) * (1 + COST_COLD / MAX(d->steps, 1u));
	s = MIN(MIN(r.excess / cost_bar(d), (r.ratio - 1) / (COST_RATIO - 1)), MIN(x / MAX(habit, 1.0), r.z / COST_Z));
	/* Far beyond anything: a minute is enough. */
	if (e->tok.old60 > 0 && entity_requests60(e) >= COST_CALLS) {
		double x60 = entity_tokens60(e), quick = MIN((x60 - mu / 5) / cost_bar(d), x60 / (COST_QUICK * habit * (double)(e->tok.old60 / e->tok.old300)));

		s = MAX(s, MIN(quick, r.z / COST_Z));
	}
	/* One address of a customer who has several: is it he, or has his work moved from one to another? */
	if (e->kind == ENTITY_CLIENT_IP && e->net != NOBODY) {
		struct entity *net = at(d, e->net);
		double net_mu;

		entity_advance(net, d->tick);
		net_mu = baseline_expected(&net->tok) * LONG_STEPS;
		s = MIN(s, entity_tokens300(net) / MAX(COST_HABIT * (double)net->tok.old300, 1.0));
		s = MIN(s, (entity_tokens300(net) / MAX(net_mu, 1.0) - 1) / (COST_NET_RATIO - 1));
	}
	if (s < LEAVE_FACTOR || entity_requests300(e) < COST_CALLS)
		return 0;
	return s;
}

static const struct candidate *smallest(const struct detect *d, const struct candidate *list, size_t n, const struct candidate *c)
{
	const struct candidate *best = NULL;
	double most = 0;

	for (size_t i = 0; i < n; i++)
		if (entity_related(d, c->entity, list[i].entity))
			most = MAX(most, list[i].r.excess);
	for (size_t i = 0; i < n; i++) {
		const struct candidate *k = &list[i];
		double slack = 0.05 * most;

		if (!entity_related(d, c->entity, k->entity) || k->r.excess < SCOPE_SHARE * most)
			continue;
		if (!best || k->r.mu < best->r.mu - slack) {
			best = k;
		} else if (k->r.mu <= best->r.mu + slack) {
			/* key, then user, then address: who pays is the credential */
			int a = at(d, k->entity)->kind, b = at(d, best->entity)->kind;

			a = a == ENTITY_CLIENT_IP ? ENTITY_KIND_COUNT : a;
			b = b == ENTITY_CLIENT_IP ? ENTITY_KIND_COUNT : b;
			if (a < b)
				best = k;
		}
	}
	return best ? best : c;
}

void spend_step(struct detect *d)
{
	struct candidate list[CANDIDATES_MAX];
	bool told[CANDIDATES_MAX] = { 0 };
	size_t n = 0;

	for (uint32_t k = 0; k < d->actives; k++) {
		struct entity *e = at(d, d->active[k]);
		struct candidate c = { .entity = d->active[k] };

		if (!is_identity(e) || n == CANDIDATES_MAX)
			continue;
		entity_advance(e, d->tick);
		c.strength = spends(d, e, &c.r);
		e->hist_cost = (uint8_t)(e->hist_cost << 1 | (c.strength >= 1));
		if (c.strength > 0)
			list[n++] = c;
	}
	for (size_t i = 0; i < n; i++) {
		const struct candidate *c = smallest(d, list, n, &list[i]);
		const struct entity *e = at(d, c->entity);
		struct reading all = read_tokens(global_of(d));
		double q = d->steps <= COST_FIRST_STEPS ? entity_requests60(e) * LONG_STEPS / WINDOW_STEPS : entity_requests300(e), qmu = baseline_expected(&e->req) * LONG_STEPS, share = MIN(1.0, c->r.excess / MAX(all.excess * LONG_STEPS / WINDOW_STEPS, c->r.excess));
		struct finding f;
		char who[ENTITY_NAME_MAX + 32];

		if (told[i])
			continue;
		for (size_t j = 0; j < n; j++)
			told[j] |= entity_related(d, list[j].entity, c->entity) || entity_related(d, list[j].entity, list[i].entity);
		finding_init(&f, WATCH_COST, CLASS_COST_SPIKE, c->entity, c->strength, c->r.z);
		f.needs = d->steps <= COST_FIRST_STEPS ? 1 : COST_NEEDS;
		f.leave_s = LEAVE_COST_S;
		f.magnitude = c->r.ratio;
		f.start = onset_tokens(d, e);
		if (c->r.ratio >= 10 && c->r.x >= LONG_STEPS * baseline_level(&global_of(d)->tok) && d->steps >= RISE_STEPS)
			f.severity = SEVERITY_CRITICAL;
		finding_actor(&f, c->entity, share);
		for (size_t j = 0; j < n; j++)
			if (entity_related(d, list[j].entity, c->entity))
				finding_actor(&f, list[j].entity, share * MIN(1.0, list[j].r.excess / c->r.excess));
		finding_evidence(&f, "tokens_per_s", c->r.x / 300, c->r.mu / 300, c->r.z);
		finding_evidence(&f, "requests_per_s", q / 300, qmu / 300, 0);
		finding_evidence(&f, "tokens_per_request", c->r.x / MAX(q, 1.0), c->r.mu / MAX(qmu, 0.1), 0);
		finding_evidence(&f, "all_tokens_per_s", all.x / 60, all.mu / 60, all.z);
		finding_say(&f, "%s uses %.0f tokens/min, %.1f times its usual %.0f; its requests are %.1f/min where %.1f/min are usual",
			    describe_who(d, c->entity, who, sizeof(who)), c->r.x / 5, c->r.ratio, c->r.mu / 5, q / 5, qmu / 5);
		incident_report(d, &f);
	}
}
