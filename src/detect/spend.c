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

	for (int32_t k = s; k >= 0 && k > s - WINDOW_STEPS; k--)
		if ((double)e->t10[k % WINDOW_STEPS] > mu * 2)
			first = MIN(first, k * STEP_S);
	return d->base + first;
}

static double cost_bar(const struct detect *d)
{
	return MAX(COST_LIFT * WINDOW_STEPS * baseline_expected(&global_of(d)->tok), COST_MIN_60);
}

/* Tokens per request of the last minute, against those of all others. */
static double token_ratio(const struct detect *d, const struct entity *e)
{
	double x = entity_tokens60(e), n = entity_requests60(e);
	double others = entity_tokens60(global_of(d)) - x, their = entity_requests60(global_of(d)) - n;

	return n < 1 || their < 1 ? 0 : x / n / MAX(others / their, 1.0);
}

/* Strength of the finding; 0: nothing. */
static double spends(const struct detect *d, const struct entity *e, struct reading *ret)
{
	uint32_t own = e->n - e->prior;
	struct reading r = read_tokens(e);
	double s;

	*ret = r;
	s = MIN(r.excess / cost_bar(d), MIN(r.z / (own < RIPE_STEPS ? COST_YOUNG_Z : COST_Z), (r.ratio - 1) / (COST_RATIO - 1)));
	if (s < LEAVE_FACTOR)
		return 0;
	if (own < COST_NEW_STEPS || (double)e->requests < COST_REQUESTS || entity_requests60(e) < COST_CALLS)
		return 0;
	if (own < COST_STEPS && (r.x < COST_NEW_RATIO * r.mu || token_ratio(d, e) < COST_NEW_SIZE))
		return 0;
	return r.x <= COST_HABIT * (double)e->tok.old60 ? MIN(s, 0.9) : s;
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

void spend_tick(struct detect *d)
{
	struct candidate list[CANDIDATES_MAX];
	size_t n = 0;

	for (uint32_t k = 0; k < d->touches; k++) {
		struct entity *e = at(d, d->touched[k]);
		struct candidate c = { .entity = d->touched[k] };

		if (!is_identity(e) || n == CANDIDATES_MAX)
			continue;
		c.strength = spends(d, e, &c.r);
		e->hist_cost = (uint8_t)(e->hist_cost << 1 | (c.strength >= 1));
		if (c.strength > 0)
			list[n++] = c;
	}
	for (size_t i = 0; i < n; i++) {
		const struct candidate *c = smallest(d, list, n, &list[i]);
		const struct entity *e = at(d, c->entity);
		struct reading all = read_tokens(global_of(d)), q = read_requests(e, true);
		struct finding f;
		char who[ENTITY_NAME_MAX + 32];

		if (c != &list[i])
			continue;
		finding_init(&f, WATCH_COST, CLASS_COST_SPIKE, c->entity, c->strength, c->r.z);
		f.needs = 2;
		f.leave_s = LEAVE_COST_S;
		f.magnitude = c->r.ratio;
		f.start = onset_tokens(d, e);
		if (c->r.ratio >= 10 && c->r.x >= WINDOW_STEPS * baseline_expected(&global_of(d)->tok) && d->steps >= RISE_STEPS)
			f.severity = SEVERITY_CRITICAL;
		finding_actor(&f, c->entity, MIN(1.0, c->r.excess / MAX(all.excess, c->r.excess)));
		for (size_t j = 0; j < n; j++)
			if (entity_related(d, list[j].entity, c->entity))
				finding_actor(&f, list[j].entity, MIN(1.0, list[j].r.excess / MAX(all.excess, c->r.excess)));
		finding_evidence(&f, "tokens_per_s", c->r.x / 60, c->r.mu / 60, c->r.z);
		finding_evidence(&f, "requests_per_s", q.x / 60, q.mu / 60, q.z);
		finding_evidence(&f, "tokens_per_request", c->r.x / MAX(q.x, 1.0), c->r.mu / MAX(q.mu, 0.1), 0);
		finding_evidence(&f, "all_tokens_per_s", all.x / 60, all.mu / 60, all.z);
		finding_say(&f, "%s uses %.0f tokens/min, %.1f times its usual %.0f; its requests are %.1f/min where %.1f/min are usual",
			    describe_who(d, c->entity, who, sizeof(who)), c->r.x, c->r.ratio, c->r.mu, q.x, q.mu);
		incident_report(d, &f);
	}
}
