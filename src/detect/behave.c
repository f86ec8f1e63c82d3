/* Behaviour of one customer against his own past: scraping, prompt probing. */
#include <math.h>

#include "detect/engine.h"

static double clip(double x, double lo, double hi)
{
	return isnan(x) ? 0 : x < lo ? lo : x > hi ? hi : x;
}

/* Its own past; while young, its kind's. */
static double past(const struct detect *d, const struct entity *e, enum trait k)
{
	const struct habit *own = &e->full->habit, *pool = &d->pool[e->kind].habit;
	double n = own->n[k], w = n / (n + PAST_LOOKS);

	if (!n && !pool->n[k])
		return (double)NAN;
	if (!pool->n[k])
		return (double)own->mean[k];
	return w * (double)own->mean[k] + (1 - w) * (double)pool->mean[k];
}

static double scraping_odds(const struct detect *d, const struct entity *e, const struct traits *t)
{
	double odds = SCRAPE_BASE;

	/* Short answers are worth nothing to a scraper. */
	if (t->v[T_COMPLETION] < past(d, e, T_COMPLETION) - SCRAPE_SHORT)
		return -9;
	odds += SCRAPE_RHYTHM * clip((0.45 - t->v[T_GAP_CV]) / 0.2, -1, 1.5);
	odds += SCRAPE_NEAR * clip((t->v[T_NEAR] - past(d, e, T_NEAR) - 0.15) / 0.25, -0.5, 1.5);
	odds += SCRAPE_DISTINCT * clip((t->v[T_DISTINCT] - 0.9) / 0.1, -1.5, 1);
	odds += SCRAPE_CAP * clip((t->v[T_CAP] - past(d, e, T_CAP) - 0.15) / 0.3, -0.3, 1.5);
	odds += SCRAPE_LOGPROBS * clip((t->v[T_LOGPROBS] - past(d, e, T_LOGPROBS) - 0.15) / 0.3, -0.2, 1.5);
	odds += SCRAPE_LONG * clip((t->v[T_COMPLETION] - past(d, e, T_COMPLETION) - 0.3) / 0.7, -0.5, 1.5);
	return odds;
}

static double probing_odds(const struct detect *d, const struct entity *e, const struct traits *t)
{
	double odds = PROBE_BASE;

	if (isnan(t->v[T_INJECTION]) && isnan(t->v[T_NEAR]))
		return -9; /* nothing is known of its prompts */
	odds += PROBE_INJECTION * clip((t->v[T_INJECTION] - past(d, e, T_INJECTION) - 0.12) / 0.15, -1, 2);
	odds += PROBE_NEAR * clip((t->v[T_NEAR] - past(d, e, T_NEAR) - 0.15) / 0.25, -0.5, 1.5);
	odds += PROBE_SHORT * clip((past(d, e, T_COMPLETION) - t->v[T_COMPLETION] - 0.3) / 0.7, -0.5, 1.5);
	odds += PROBE_REFUSED * clip((t->v[T_REFUSED] - past(d, e, T_REFUSED) - 0.05) / 0.2, 0, 1);
	return odds;
}

static void say(struct detect *d, uint32_t i, const struct traits *t, enum anomaly_class cls, double odds)
{
	static const enum trait shown[] = { T_GAP_CV, T_DISTINCT, T_NEAR, T_INJECTION, T_CAP, T_LOGPROBS, T_COMPLETION };
	const struct entity *e = at(d, i);
	struct finding f;
	char who[ENTITY_NAME_MAX + 32];
	const struct moment *m = NULL;
	double z = 0;
	struct traits_set *s;

	finding_init(&f, WATCH_BEHAVE, cls, i, 1 + odds / 3, 3 + MAX(odds, 0.0));
	f.confidence = 1 / (1 + exp(-odds));
	f.needs = 1;
	f.joins = true;
	f.leave_s = LEAVE_BEHAVE_S;
	f.start = d->base + d->tick;
	finding_actor(&f, i, 1);
	s = malloc(sizeof(*s));
	if (s) {
		traits_gather(d, e, d->tick - BEHAVE_WINDOW_S, s);
		if (s->as) {
			m = s->a[s->as - 1];
			f.start = d->base + m->tick;
		}
		/* where it comes from, when that is one or two addresses */
		for (unsigned int k = 0; k < s->as && k < 32; k++)
			if (e->kind != ENTITY_CLIENT_IP && s->a[k]->who[WHO_IP] != NOBODY && !entity_shared(at(d, s->a[k]->who[WHO_IP])) && f.actors < 4)
				finding_actor(&f, s->a[k]->who[WHO_IP], 0.3);
		free(s);
	}
	for (size_t k = 0; k < ARRAY_SIZE(shown); k++) {
		if (isnan(t->v[shown[k]]))
			continue;
		z = habit_z(&e->full->habit, t, shown[k]);
		finding_evidence(&f, trait_name(shown[k]), t->v[shown[k]], clip(past(d, e, shown[k]), -1e9, 1e9), clip(z, -99, 99));
	}
	if (cls == CLASS_SCRAPING)
		finding_say(&f, "%s asks %.2f times a second at the cadence of a machine (variation of gaps %.2f), %.0f %% of the prompts distinct and %.0f %% near another, %.0f %% of the answers at the cap",
			    describe_who(d, i, who, sizeof(who)), clip(t->v[T_RATE], 0, 1e9), clip(t->v[T_GAP_CV], 0, 9), 100 * clip(t->v[T_DISTINCT], 0, 1), 100 * clip(t->v[T_NEAR], 0, 1),
			    100 * clip(t->v[T_CAP], 0, 1));
	else
		finding_say(&f, "%s probes with prompts: injection score %.2f where %.2f is usual for it, %.0f %% near duplicates, answers of %.0f tokens",
			    describe_who(d, i, who, sizeof(who)), clip(t->v[T_INJECTION], 0, 1), clip(past(d, e, T_INJECTION), 0, 1), 100 * clip(t->v[T_NEAR], 0, 1),
			    expm1(clip(t->v[T_COMPLETION], 0, 30)));
	incident_report(d, &f);
}

/* What it does from its first day on, in a stream that has just begun, is how it is. */
static bool native(const struct entity *e)
{
	return e->born < NATIVE_S && e->full->looks < NATIVE_LOOKS;
}

static void learn(struct detect *d, struct entity *e, const struct traits *t)
{
	habit_learn(&e->full->habit, t);
	e->full->looks++;
	if (!native(e))
		habit_learn(&d->pool[e->kind].habit, t);
}

void behave_accept(struct detect *d, uint32_t i)
{
	struct traits_set *s = malloc(sizeof(*s));
	struct entity *e = at(d, i);
	struct traits t;

	if (s && e->full) {
		traits_gather(d, e, d->tick - BEHAVE_WINDOW_S, s);
		traits_compute(d, s, &t);
		for (unsigned int k = 0; k < ACCEPT_LOOKS && s->as; k++) {
			habit_learn(&e->full->habit, &t);
			e->full->looks++;
		}
	}
	free(s);
}

static void look(struct detect *d, uint32_t i, struct traits_set *s)
{
	struct entity *e = at(d, i);
	struct full *f = e->full;
	struct traits t;
	double scraping, probing;

	traits_gather(d, e, d->tick - BEHAVE_WINDOW_S, s);
	if (s->as < BEHAVE_MIN)
		return;
	traits_compute(d, s, &t);
	f->looked = d->tick;
	f->since_look = 0;
	scraping = scraping_odds(d, e, &t);
	probing = probing_odds(d, e, &t);
	if (d->steps >= BEHAVE_STEPS && !entity_shared(e) && !native(e)) {
		if (probing >= scraping && 1 + probing / 3 >= LEAVE_FACTOR)
			say(d, i, &t, CLASS_PROMPT_PROBING, probing);
		else if (1 + scraping / 3 >= LEAVE_FACTOR)
			say(d, i, &t, CLASS_SCRAPING, scraping);
	}
	if (native(e) || (MAX(scraping, probing) < -0.5 && !e->suspect))
		learn(d, e, &t);
}

void behave_step(struct detect *d)
{
	struct traits_set *s = malloc(sizeof(*s));

	if (!s)
		return;
	for (uint32_t k = 0; k < d->actives; k++) {
		uint32_t i = d->active[k];
		struct entity *e = at(d, i);

		if (!is_identity(e) || !full_of(d, e))
			continue;
		e->full->since_look += e->s10[d->tick / STEP_S % WINDOW_STEPS];
		if ((double)e->full->since_look >= BEHAVE_EVERY && d->tick - e->full->looked >= BEHAVE_PAUSE_S)
			look(d, i, s);
	}
	free(s);
}
