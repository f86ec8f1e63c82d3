/*
 * Tokens per request that creep up over hours or days.
 *
 * Blocks of ten minutes (half a day) and of an hour (five days) of the mean log tokens per request, of each customer (key, else user, else
 * address), and, for models and all together, of what is above each customer's own mean: a large customer who comes or goes changes
 * the mix, not the growth. A ramp that begins somewhere in the blocks is fitted, and must beat both a constant and the best single step
 * (a new workload) by far, and be larger than the drifts this customer, and others, are known for.
 */
#include <math.h>

#include "detect/engine.h"

void growth_init(struct growth_state *g)
{
	memset(g, 0, sizeof(*g));
	g->ring[0].index = g->ring[1].index = g->born = -1;
}

static struct growth_block *block_at(struct growth_state *g, int r, int32_t i)
{
	return r ? &g->longs[(uint32_t)i % GROWTH_LONG] : &g->shorts[(uint32_t)i % GROWTH_SHORT];
}

static int32_t block_of(const struct detect *d, int r)
{
	return d->tick / (r ? GROWTH_HOUR_S : GROWTH_BLOCK_S);
}

/*
 * How far a customer's requests move by themselves within six hours. Learnt as late, so that a growth does not excuse itself.
 */
static void learn_moves(struct growth_state *g, const struct growth_ring *q)
{
	int32_t now = q->index - GROWTH_LAG, before = now - GROWTH_LAG;
	const struct growth_block *a, *b;
	double e, own;

	if (before < MAX(q->first, q->index - GROWTH_SHORT + 1))
		return;
	a = block_at(g, 0, before);
	b = block_at(g, 0, now);
	if (a->n < GROWTH_MOVE_N || b->n < GROWTH_MOVE_N)
		return;
	e = (double)(b->x - a->x);
	own = (double)g->var * (1 / (double)a->n + 1 / (double)b->n);
	g->moves = MIN(g->moves + 1, (float)GROWTH_MOVES);
	g->moved += (float)((MIN(e * e, GROWTH_MOVE_CLAMP) - own - (double)g->moved) / (double)g->moves);
}

static void roll(const struct detect *d, struct growth_state *g, int r)
{
	struct growth_ring *q = &g->ring[r];
	int32_t now = block_of(d, r), size = r ? GROWTH_LONG : GROWTH_SHORT;
	struct growth_block *b;

	if (q->index < 0) {
		q->index = q->first = now;
		return;
	}
	if (now == q->index)
		return;
	b = block_at(g, r, q->index);
	*b = (struct growth_block){ q->n > 0 ? (float)(q->sum / (double)q->n) : 0, q->n };
	if (q->n >= 5 && q->index > q->first) {
		const struct growth_block *a = block_at(g, r, q->index - 1);

		if (a->n >= 5) {
			double e = (double)(b->x - a->x), own = (double)g->var * (1 / (double)a->n + 1 / (double)b->n);

			q->pairs++;
			q->jitter += (float)(((MIN(e * e, 0.25) - own) / 2 - (double)q->jitter) * MAX(1.0 / (double)q->pairs, 0.02));
		}
	}
	if (!r)
		learn_moves(g, q);
	q->due = q->n > 0;
	for (int32_t i = MAX(q->index + 1, now - size); i < now; i++)
		*block_at(g, r, i) = (struct growth_block){ 0 };
	q->index = now;
	q->first = MAX(q->first, now - size);
	q->sum = 0;
	q->n = 0;
	if (!r) {
		g->habit *= (float)GROWTH_HABIT_KEEP;
		g->drift *= (float)GROWTH_HABIT_KEEP;
	}
}

static void add(const struct detect *d, struct growth_state *g, double x, double weight)
{
	double a;

	for (int r = 0; r < 2; r++) {
		roll(d, g, r);
		g->ring[r].sum += weight * x;
		g->ring[r].n += (float)weight;
	}
	if (g->born < 0)
		g->born = d->tick;
	g->n += (float)weight;
	a = MIN(1.0, weight * MAX(1 / (double)g->n, 1 - exp2(-1 / GROWTH_REF_HALF)));
	g->var += (float)(MIN(a * 2, 1.0) * (MIN((x - g->ref) * (x - g->ref), 9.0) - (double)g->var));
	g->ref += a * (x - g->ref);
}

void growth_see(struct detect *d, const struct moment *m)
{
	uint32_t who = customer_of(m);
	struct full *f;
	double x, above;

	if (!has_size(m) || who == NOBODY)
		return;
	x = log_tokens(m);
	f = full_of(d, at(d, who));
	if (!f)
		return;
	above = x - f->growth.ref;
	add(d, &f->growth, x, (double)m->weight);
	if ((double)f->growth.n < GROWTH_REF_N || f->growth.told)
		return;
	if (full_of(d, global_of(d)))
		add(d, &global_of(d)->full->growth, above, (double)m->weight);
	if (m->who[WHO_MODEL] != NOBODY && full_of(d, at(d, m->who[WHO_MODEL])))
		add(d, &at(d, m->who[WHO_MODEL])->full->growth, above, (double)m->weight);
}

struct fit {
	double growth, llr, no_step, last, base; /* log; last: what stands of it now */
	int32_t onset;
};

/* The best ramp through the blocks. */
static struct fit fit_ramp(struct growth_state *g, int r)
{
	struct growth_ring *q = &g->ring[r];
	double w[GROWTH_LONG], x[GROWTH_LONG], n[GROWTH_LONG], all_w = 0, all_wx = 0, best = 0, step = 0, tail = 0, tail_w = 0;
	double jitter = MAX((double)q->jitter, 0.0) + GROWTH_JITTER;
	double lw = 0, lwx = 0, ln = 0, total_n = 0;
	int m = q->index - q->first, used = 0, left = 0;
	struct fit f = { 0 };

	for (int i = 0; i < m; i++) {
		const struct growth_block *b = block_at(g, r, q->first + i);

		n[i] = (double)b->n;
		w[i] = b->n > 0 ? 1 / (MAX((double)g->var, 0.04) / (double)b->n + jitter) : 0;
		x[i] = (double)b->x;
		all_w += w[i];
		all_wx += w[i] * x[i];
		used += n[i] > 0;
		total_n += n[i];
	}
	if (used < 2 * GROWTH_SIDE_BLOCKS || all_w <= 0)
		return f;
	for (int i = 0; i < m; i++)
		x[i] -= all_wx / all_w;
	/* t: last block before the rise. Sums over the blocks after it, for the regressor i - t. */
	for (int t = 0; t < m - 1; t++) {
		double sr = 0, srr = 0, srx = 0, det, b, gain, height;

		lw += w[t];
		lwx += w[t] * x[t];
		ln += n[t];
		left += n[t] > 0;
		if (lw <= 0 || all_w - lw <= 0)
			continue;
		/* one step: two means; what they explain beyond one */
		height = -lwx / (all_w - lw) - lwx / lw;
		step = MAX(step, height * height * lw * (all_w - lw) / all_w);
		if (ln < GROWTH_SIDE_N || total_n - ln < GROWTH_SIDE_N || left < GROWTH_SIDE_BLOCKS || used - left < GROWTH_SIDE_BLOCKS)
			continue;
		for (int i = t + 1; i < m; i++) {
			double u = i - t;

			sr += w[i] * u;
			srr += w[i] * u * u;
			srx += w[i] * u * x[i];
		}
		/* x = a + b u, u = 0 on the left; weighted x is centred, so that the sum of all is 0 */
		det = all_w * srr - sr * sr;
		if (det <= 0)
			continue;
		b = all_w * srx / det;
		gain = b * srx;
		if (gain > best) {
			best = gain;
			f.growth = b * (m - 1 - t);
			f.base = all_wx / all_w - b * sr / all_w;
			f.onset = t;
		}
	}
	for (int i = m - 1; i >= 0 && tail_w < 3; i--) {
		if (w[i] <= 0)
			continue;
		tail += x[i] + all_wx / all_w;
		tail_w++;
	}
	f.last = tail / MAX(tail_w, 1.0) - f.base;
	f.llr = best / 2;
	f.no_step = (best - step) / 2;
	f.onset = (q->first + f.onset + 1) * (r ? GROWTH_HOUR_S : GROWTH_BLOCK_S);
	return f;
}

/* How far a customer is above his own mean now. */
static double above_own(struct growth_state *g, double *ret_n)
{
	double sum = 0, n = 0;
	int32_t i = g->ring[0].index;

	for (int32_t k = i - 1; k >= MAX(g->ring[0].first, i - 12); k--) {
		const struct growth_block *b = block_at(g, 0, k);

		sum += (double)(b->n * b->x);
		n += (double)b->n;
	}
	*ret_n = n;
	return n > 0 ? sum / n - g->ref : 0;
}

static bool is_customer(const struct detect *d, const struct entity *e)
{
	return is_identity(e) && e->full && e->full->growth.ring[0].index >= block_of(d, 0) - 6 && (double)e->full->growth.n >= GROWTH_REF_N;
}

/* The customer who explains the growth of a model or of all, or NOBODY. */
static uint32_t who_alone(struct detect *d)
{
	double sum = 0, most = 0;
	uint32_t one = NOBODY;

	for (uint32_t k = 0; k < d->actives; k++) {
		struct entity *e = at(d, d->active[k]);
		double x, n;

		if (!is_customer(d, e))
			continue;
		x = above_own(&e->full->growth, &n);
		if (x <= 0)
			continue;
		sum += x * n;
		if (x * n > most) {
			most = x * n;
			one = d->active[k];
		}
	}
	return most >= GROWTH_ONE * sum ? one : NOBODY;
}

static int by_value(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return x < y ? -1 : x > y;
}

/* The drift that one customer in five shows: here nobody is called for as much. */
static double drift_of_others(const struct detect *d, uint32_t i)
{
	float v[GROWTH_OTHERS];
	unsigned int n = 0;

	for (uint32_t k = 0; k < d->actives && n < GROWTH_OTHERS; k++) {
		const struct entity *e = at(d, d->active[k]);

		if (d->active[k] != i && is_customer(d, e) && !e->full->growth.told)
			v[n++] = e->full->growth.drift;
	}
	if (n < 4)
		return 0;
	qsort(v, n, sizeof(*v), by_value);
	return (double)v[n * 4 / 5];
}

/* The standard deviation of what this one moves by itself; where little is known of it, of what others do. */
static double moves_of(const struct detect *d, uint32_t i)
{
	const struct growth_state *g = &at(d, i)->full->growth;
	double sum = 0, n = 0, prior = 0;

	/* All together move less than one. */
	for (uint32_t k = 0, seen = 0; k < d->actives && seen < GROWTH_OTHERS && is_identity(at(d, i)); k++) {
		const struct entity *e = at(d, d->active[k]);

		if (d->active[k] == i || !is_customer(d, e) || e->full->growth.moves <= 0)
			continue;
		sum += (double)(e->full->growth.moved * e->full->growth.moves);
		n += (double)e->full->growth.moves;
		seen++;
	}
	if (n > 0)
		prior = GROWTH_MOVE_PRIOR;
	sum = prior > 0 ? sum / n * prior : 0;
	sum += (double)(g->moved * g->moves);
	return sqrt(GROWTH_MOVE_LEAST * GROWTH_MOVE_LEAST + MAX(sum / MAX(prior + (double)g->moves, 1.0), 0));
}

/*
 * How far this one strays by itself in so many seconds. What wanders goes further the longer it does: its moves within six hours are known,
 * beyond them they grow with the root of the time. Those of one customer have longer tails than those of many.
 */
static double stray_of(const struct detect *d, uint32_t i, int32_t seconds)
{
	bool wanders = is_identity(at(d, i)) && (double)at(d, i)->full->growth.moves >= GROWTH_MOVE_PRIOR;

	return (wanders ? GROWTH_RESTLESS_ONE : GROWTH_RESTLESS) * moves_of(d, i) * sqrt(MAX(seconds / (double)(GROWTH_LAG * GROWTH_BLOCK_S), 1.0));
}

static void report(struct detect *d, uint32_t i, uint32_t who, const struct fit *q, double strength)
{
	struct entity *e = at(d, who);
	struct finding f;
	char name[ENTITY_NAME_MAX + 32];

	finding_init(&f, WATCH_GROWTH, CLASS_TOKEN_GROWTH, who == d->global ? NOBODY : who, strength, MIN(sqrt(2 * q->llr), 40.0));
	f.needs = 1;
	f.leave_s = LEAVE_GROWTH_S;
	f.accept_s = ACCEPT_GROWTH_S;
	f.quiet = true;
	f.joins = JOIN_GROWTH_S;
	f.magnitude = exp(q->growth);
	f.start = d->base + q->onset;
	if (who != d->global)
		finding_actor(&f, who, 1);
	else
		for (uint32_t k = 0; k < d->actives; k++)
			if (at(d, d->active[k])->kind == ENTITY_MODEL)
				finding_actor(&f, d->active[k], MIN(1.0, (double)(at(d, d->active[k])->req.fast / MAX(global_of(d)->req.fast, 1e-3f))));
	for (uint32_t k = 0; is_identity(e) && k < d->actives; k++)
		if (is_identity(at(d, d->active[k])) && entity_linked(at(d, d->active[k]), e))
			finding_actor(&f, d->active[k], 1);
	if (is_identity(at(d, i)))
		finding_evidence(&f, "tokens_per_request", exp(q->base + q->last), exp(q->base), sqrt(2 * q->llr));
	finding_evidence(&f, "tokens_per_request_ratio", exp(q->growth), 1, sqrt(2 * q->llr));
	finding_evidence(&f, "hours", (d->tick - q->onset) / 3600.0, 0, 0);
	finding_say(&f, "tokens per request of %s have crept up by %.0f %% within %.1f h, by no single step", describe_who(d, f.scope, name, sizeof(name)), (exp(q->growth) - 1) * 100,
		    (d->tick - q->onset) / 3600.0);
	if (incident_report(d, &f) && !e->full->growth.told) {
		e->full->growth.told = true;
		e->full->growth.since = d->tick;
	}
}

static void judge(struct detect *d, uint32_t i, int r)
{
	struct entity *e = at(d, i);
	struct growth_state *g = &e->full->growth;
	const struct growth_state *all;
	struct fit f;
	double strength, least;
	uint32_t who = NOBODY;

	g->ring[r].due = false;
	if (g->told && !incident_find(d, WATCH_GROWTH, i == d->global ? NOBODY : i)) {
		/* It is over, or accepted: what follows is compared with what is now. */
		g->told = false;
		g->ring[0].first = g->ring[0].index;
		g->ring[1].first = g->ring[1].index;
		return;
	}
	f = fit_ramp(g, r);
	if (f.llr <= 0)
		return;
	strength = MIN(f.llr / GROWTH_LLR, f.no_step / GROWTH_NO_STEP);
	if (strength >= 1 && !g->told) {
		/* What it does downwards it may do upwards; and what it does, others may. */
		if (f.growth < 0)
			g->habit = (float)MAX((double)g->habit, -f.growth);
		g->drift = (float)MAX((double)g->drift, fabs(f.growth));
	}
	least = GROWTH_LEAST * (1 + GROWTH_YOUNG_S / MAX(d->tick - g->born, 1));
	strength = MIN(strength, MIN(f.growth / least, f.last / (GROWTH_STANDS * MAX(f.growth, GROWTH_LEAST))));
	strength = MIN(strength, f.growth / MAX(GROWTH_HABIT * habit_of(d, (double)g->habit), 1e-9));
	/* Somebody whose whole bill nobody would notice is no news. */
	if (is_identity(e))
		strength = MIN(strength, (double)e->tok.slow / MAX(GROWTH_SHARE * (double)global_of(d)->tok.slow, 1e-9));
	if (strength >= LEAVE_FACTOR && !g->told)
		strength = MIN(strength, f.growth / stray_of(d, i, d->tick - f.onset));
	if (is_identity(e) && strength >= LEAVE_FACTOR && !g->told) {
		strength = MIN(strength, f.growth / MAX(GROWTH_WANDER * drift_of_others(d, i), 1e-9));
		all = &global_of(d)->full->growth;
		if ((double)all->now >= GROWTH_REST * f.growth)
			strength = MIN(strength, 0.99); /* everybody's */
	}
	if (!is_identity(e) && strength >= 1 && !g->told)
		who = who_alone(d);
	g->now = f.llr >= GROWTH_LLR && f.no_step > 0 ? (float)f.growth : 0;
	if (g->told)
		strength = MAX(strength, f.last >= GROWTH_LEAST / 2 ? 1 : 0);
	if (strength >= LEAVE_FACTOR)
		report(d, i, who == NOBODY ? i : who, &f, strength);
}

void growth_step(struct detect *d)
{
	for (uint32_t k = 0; k < d->actives; k++) {
		uint32_t i = d->active[k];
		struct entity *e = at(d, i);

		if (!e->full || e->full->growth.born < 0 || e->kind == ENTITY_SERVER || e->kind == ENTITY_NETWORK || e->kind == ENTITY_HOST)
			continue;
		for (int r = 0; r < 2; r++) {
			roll(d, &e->full->growth, r);
			if (e->full->growth.ring[r].due)
				judge(d, i, r);
		}
	}
}
