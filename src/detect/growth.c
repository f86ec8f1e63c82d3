/* Tokens per request that creep up over hours or days: CUSUM of ten-minute means against a slow reference of the same entity. */
#include <math.h>

#include "detect/engine.h"

#define BLOCK_S 600

void growth_init(struct growth_state *g)
{
	memset(g, 0, sizeof(*g));
	g->since = -1;
}

void growth_see(struct detect *d, struct entity *e, const struct moment *m)
{
	struct growth_state *g;
	struct full *f;

	if (m->prompt < 0 || m->status >= 400)
		return;
	f = e->full ? e->full : full_of(d, e);
	if (!f)
		return;
	g = &f->growth;
	g->sum += (double)m->weight * log1p(((double)m->prompt + MAX((double)m->completion, 0.0)) / (double)m->weight);
	g->n += m->weight;
}

static void report(struct detect *d, uint32_t i, double strength)
{
	struct entity *e = at(d, i);
	struct growth_state *g = &e->full->growth;
	struct finding f;
	char who[ENTITY_NAME_MAX + 32];
	double more = exp((double)(g->fast - g->slow));

	finding_init(&f, WATCH_GROWTH, CLASS_TOKEN_GROWTH, e->kind == ENTITY_GLOBAL ? NOBODY : i, strength, 3 + (double)g->up / 4);
	f.needs = 1;
	f.leave_s = LEAVE_GROWTH_S;
	f.accept_s = ACCEPT_GROWTH_S;
	f.quiet = true;
	f.magnitude = more;
	f.start = d->base + MAX(g->since, 0);
	if (e->kind != ENTITY_GLOBAL)
		finding_actor(&f, i, 1);
	finding_evidence(&f, "tokens_per_request", expm1((double)g->fast), expm1((double)g->slow), (double)g->up);
	finding_say(&f, "tokens per request of %s grew to %.0f from %.0f since %.1f h, without more requests", describe_who(d, f.scope, who, sizeof(who)), expm1((double)g->fast),
		    expm1((double)g->slow), (d->tick - g->since) / 3600.0);
	incident_report(d, &f);
}

static void block(struct detect *d, uint32_t i)
{
	struct entity *e = at(d, i);
	struct growth_state *g = &e->full->growth;
	double x, z, sd, n = (double)g->n, strength;

	if (n < GROWTH_MIN) {
		return; /* goes on adding up */
	}
	x = g->sum / n;
	g->sum = 0;
	g->n = 0;
	g->blocks++;
	if (g->blocks == 1) {
		g->fast = g->slow = (float)x;
		g->var = 0.04f;
		g->rate_slow = (float)n;
		return;
	}
	sd = sqrt((double)g->var + GROWTH_SD_MIN * GROWTH_SD_MIN);
	z = (x - (double)g->slow) / sd;
	z = MAX(-4.0, MIN(z, 4.0));
	if (g->up <= 0)
		g->since = d->tick;
	g->up = (float)MAX(0.0, (double)g->up + z - GROWTH_SLACK);
	g->fast += 0.25f * (float)(x - (double)g->fast);
	strength = MIN((double)g->up / GROWTH_H, ((double)(g->fast - g->slow)) / GROWTH_LEAST);
	if (n > GROWTH_RATE * (double)g->rate_slow)
		strength = MIN(strength, 0.9); /* more requests: something else */
	if (g->blocks >= GROWTH_BLOCKS && strength >= LEAVE_FACTOR)
		report(d, i, strength);
	if ((double)g->up < GROWTH_H / 2) {
		double a = MAX(1.0 / GROWTH_SLOW_BLOCKS, 1.0 / g->blocks);
		double dx = x - (double)g->slow;

		g->var += (float)(MAX(0.03, 1.0 / g->blocks) * (MIN(dx * dx, 9 * sd * sd) - (double)g->var));
		g->slow += (float)(a * dx);
		g->rate_slow += (float)(a * (n - (double)g->rate_slow));
	}
}

void growth_step(struct detect *d)
{
	if ((d->tick + 1) % BLOCK_S)
		return;
	for (uint32_t k = 0; k < d->actives; k++) {
		struct entity *e = at(d, d->active[k]);

		if (e->full && (is_identity(e) ? e->kind != ENTITY_CLIENT_IP : e->kind == ENTITY_MODEL || e->kind == ENTITY_GLOBAL))
			block(d, d->active[k]);
	}
}
