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

/* ---- the size of requests -------------------------------------------------------------------------- */
static void size_advance(struct size_state *s, int32_t tick)
{
	int32_t steps = tick / STEP_S - s->tick / STEP_S;

	for (int32_t k = tick / STEP_S - MIN(steps, LONG_STEPS) + 1; k <= tick / STEP_S; k++)
		s->sum[k % LONG_STEPS] = s->n[k % LONG_STEPS] = 0;
	s->tick = tick;
}

void spend_see(struct detect *d, const struct moment *m)
{
	uint32_t who = customer_of(m);
	struct full *f;
	int32_t k;

	if (!has_size(m) || who == NOBODY)
		return;
	f = full_of(d, at(d, who));
	if (!f)
		return;
	size_advance(&f->size, d->tick);
	k = d->tick / STEP_S % LONG_STEPS;
	f->size.sum[k] += (float)log_tokens(m) * m->weight;
	f->size.n[k] += m->weight;
}

struct size_reading {
	double mean, n, z;
};

/* The requests of the last five minutes, against all such five minutes of its past. */
static struct size_reading read_size(const struct full *f, int32_t tick)
{
	struct size_reading r = { 0 };
	const struct size_state *s = &f->size;

	/* The ring ends at its newest request. */
	for (int32_t k = s->tick / STEP_S; k >= 0 && k > tick / STEP_S - LONG_STEPS; k--) {
		r.mean += (double)s->sum[k % LONG_STEPS];
		r.n += (double)s->n[k % LONG_STEPS];
	}
	r.mean /= MAX(r.n, 1.0);
	if (r.n >= SIZE_LEARN_N && s->blocks >= SIZE_BLOCKS)
		r.z = (r.mean - (double)s->mean) / sqrt((double)f->growth.var / r.n + (double)s->wander + SIZE_WANDER_MIN);
	return r;
}

/* A block's mean and its excursions become habit when the next begins. */
static void learn_size(struct full *f, const struct size_reading *r, int32_t tick, bool calm)
{
	struct size_state *s = &f->size;
	int32_t block = tick / (STEP_S * LONG_STEPS);

	if (r->n < SIZE_LEARN_N)
		return;
	if (block != s->block && calm) {
		double a = MAX(SIZE_RATE, 1.0 / (s->blocks + 1)), dx = r->mean - (double)s->mean;

		if (s->blocks)
			s->wander += (float)(a * (MIN(dx * dx - (double)f->growth.var / r->n, SIZE_CLAMP) - (double)s->wander));
		s->wander = MAX(s->wander, 0.0f);
		s->mean += (float)(a * dx);
		s->old = MAX(s->old * (float)SIZE_KEEP, s->cur);
		s->cur = 0;
		s->block = block;
		s->blocks++;
	}
	s->cur = MAX(s->cur, (float)r->z);
}

/*
 * Its requests are larger than they have ever been for five minutes, so surely that the bill need not break a record to be news.
 */
static double spends_large(const struct detect *d, const struct entity *e, const struct reading *r, const struct size_reading *q)
{
	double s;

	if (q->n < SIZE_REQUESTS || !(q->z > 0))
		return 0;
	s = MIN(q->z / (SIZE_Z * (1 + SIZE_YOUNG / e->full->size.blocks)), q->z / MAX(SIZE_HABIT * habit_of(d, (double)e->full->size.old), 0.1));
	s = MIN(s, (q->mean - (double)e->full->size.mean) / SIZE_LEAST);
	s = MIN(s, r->x / MAX(SIZE_OF_PEAK * (double)e->tok.old300, 1.0));
	return MIN(s, MIN(r->ratio / SIZE_RATIO, r->excess / MAX(SIZE_LIFT * LONG_STEPS * baseline_level(&global_of(d)->tok), SIZE_MIN_300)));
}

/* ---- the bill -------------------------------------------------------------------------------------- */
/*
 * How much larger the requests of the last minute are than all before them (log), as far as chance cannot be it. While there is hardly a
 * minute before it: those of the last two steps.
 */
static double larger_than_before(const struct detect *d, const struct full *f)
{
	const struct size_state *s = &f->size;
	int32_t steps = d->steps < 2 * WINDOW_STEPS ? 2 : WINDOW_STEPS;
	double sum = 0, n = 0, before, dx;

	for (int32_t k = s->tick / STEP_S; k >= 0 && k > d->tick / STEP_S - steps; k--) {
		sum += (double)s->sum[k % LONG_STEPS];
		n += (double)s->n[k % LONG_STEPS];
	}
	before = (double)f->growth.n - n;
	if (n < 1 || before < 1)
		return 0;
	dx = sum / n - (f->growth.ref * (double)f->growth.n - sum) / before;
	return dx - SIZE_Z / 2 * sqrt((double)f->growth.var * (1 / n + 1 / before));
}

/*
 * While nobody has a past to speak of: many times what it burnt in its first minutes, with requests many times as long as the others'
 * and much longer than its own.
 */
static double spends_young(const struct detect *d, const struct entity *e, struct reading *ret)
{
	struct reading r = read_tokens(e);

	if (!e->full || d->steps > COST_FIRST_STEPS || e->worked < COST_FIRST_WORKED || (double)e->requests < COST_FIRST_REQUESTS || entity_requests60(e) < COST_CALLS_60)
		return 0;
	/* told as if it were five minutes */
	*ret = (struct reading){ r.x * LONG_STEPS / WINDOW_STEPS, r.mu * LONG_STEPS / WINDOW_STEPS, r.excess * LONG_STEPS / WINDOW_STEPS, r.z, r.ratio };
	return MIN(larger_than_before(d, e->full) / COST_FIRST_LARGER, MIN(MIN(r.ratio / COST_FIRST_RATIO, token_ratio(d, e) / COST_FIRST_SIZE), MIN(r.excess / COST_MIN_300, r.z / COST_FIRST_Z)));
}

/*
 * Strength of the finding; 0: nothing. Five minutes are judged: single calls, and the bursts of somebody who calls now and then, are
 * longer than any shorter window. What it has done before sets the bar; the younger it is, the less is known of that.
 */
static double spends_more(const struct detect *d, const struct entity *e, const struct reading *r, const struct size_reading *q)
{
	/* More of the same is a busy day; larger requests are another matter. */
	double known = COST_SAME + (COST_HABIT - COST_SAME) * clip(q->n >= SIZE_REQUESTS ? q->z / COST_LARGER_Z : 0, 0, 1);
	double habit = MAX(habit_of(d, (double)e->tok.old300), r->mu) * known * (1 + COST_YOUNG / e->worked) * (1 + COST_COLD / MAX(d->steps, 1u));
	double s = MIN(MIN(r->excess / cost_bar(d), (r->ratio - 1) / (COST_RATIO - 1)), MIN(r->x / MAX(habit, 1.0), r->z / COST_Z));

	/* Far beyond anything: a minute is enough. */
	if (e->tok.old60 > 0 && entity_requests60(e) >= COST_CALLS_60) {
		double x60 = entity_tokens60(e), quick = MIN((x60 - r->mu / 5) / cost_bar(d), x60 / (COST_QUICK * habit * (double)(e->tok.old60 / e->tok.old300)));

		s = MAX(s, MIN(quick, r->z / COST_Z));
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
	return s;
}

static double spends(const struct detect *d, const struct entity *e, struct reading *ret)
{
	struct size_reading q = { 0 };
	uint32_t own = e->n - e->prior;
	double mu = baseline_expected(&e->tok) * LONG_STEPS, x = entity_tokens300(e), s;
	struct reading r;

	if (e->kind == ENTITY_CLIENT_IP && e->keys)
		return 0; /* who pays has a name */
	s = spends_young(d, e, ret);
	if (s >= LEAVE_FACTOR)
		return s;
	if (own < COST_STEPS || e->worked < COST_WORKED || !(e->tok.old300 > 0) || entity_requests300(e) < COST_CALLS || x <= mu)
		return 0;
	if (e->full)
		q = read_size(e->full, d->tick);
	/* An entity that slept is not worth less than its last hours. */
	mu = MAX(mu, (double)e->tok.old300 * COST_OF_PEAK);
	r = (struct reading){ x, mu, x - mu, baseline_z(x, mu, (double)MAX(e->tok.disp60, e->tok.disp10), e->n), x / MAX(mu, 1) };
	*ret = r;
	s = MAX(spends_more(d, e, &r, &q), spends_large(d, e, &r, &q));
	return s < LEAVE_FACTOR ? 0 : s;
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
		if (e->full) {
			struct size_reading q = read_size(e->full, d->tick);

			learn_size(e->full, &q, d->tick, !e->suspect && !(e->hist_cost & 7));
		}
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
