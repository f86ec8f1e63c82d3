/* Behaviour of one customer against his own past: scraping, prompt probing. */
#include <math.h>

#include "detect/engine.h"

/*
 * What is usual for this entity: its own past; while that is young, its kin's (an address does what its customer does), and where there
 * is no kin, its kind's.
 */
struct usual {
	double mean[TRAIT_COUNT], sd[TRAIT_COUNT];
};

static void blend(struct usual *u, const struct habit *h)
{
	for (int k = 0; k < TRAIT_COUNT; k++) {
		double n = h->n[k], w = n / (n + PAST_LOOKS);

		if (!h->n[k])
			continue;
		if (isnan(u->mean[k]))
			w = 1;
		u->mean[k] = w * (double)h->mean[k] + (1 - w) * (w < 1 ? u->mean[k] : 0);
		u->sd[k] = w * sqrt((double)h->var[k]) + (1 - w) * u->sd[k];
	}
}

static void usual_of(const struct detect *d, const struct entity *e, uint32_t kin, struct usual *u)
{
	for (int k = 0; k < TRAIT_COUNT; k++) {
		u->mean[k] = (double)NAN;
		u->sd[k] = 0;
	}
	blend(u, &d->pool[e->kind].habit);
	/* The pool is of many: its spread is between customers, and says nothing of this one. */
	for (int k = 0; k < TRAIT_COUNT; k++)
		u->sd[k] = 0;
	if (kin != NOBODY && at(d, kin)->full)
		blend(u, &at(d, kin)->full->habit);
	blend(u, &e->full->habit);
}

/* Whose this address (or user) is: the key, or user, of most of its requests; else its network. */
static uint32_t kin_of(const struct entity *e, const struct traits_set *s)
{
	for (int chain = WHO_KEY; chain <= WHO_USER; chain++) {
		uint32_t who = NOBODY;
		unsigned int votes = 0, n = 0;

		if (e->kind == ENTITY_API_KEY || (e->kind == ENTITY_USER && chain == WHO_USER))
			continue;
		for (unsigned int k = 0; k < s->as; k++) {
			if (!votes)
				who = s->a[k]->who[chain];
			votes += s->a[k]->who[chain] == who ? 1 : (unsigned int)-1;
		}
		for (unsigned int k = 0; k < s->as; k++)
			n += s->a[k]->who[chain] == who;
		if (who != NOBODY && n * 10 >= s->as * 7)
			return who;
	}
	return e->kind == ENTITY_CLIENT_IP ? e->net : NOBODY;
}

/* How far v lies beyond what is usual and its ordinary wandering. */
static double beyond(const struct traits *t, const struct usual *u, enum trait k, double least)
{
	return t->v[k] - u->mean[k] - least - BEHAVE_WANDER * u->sd[k];
}

static double scraping_odds(const struct traits *t, const struct usual *u)
{
	double odds = SCRAPE_BASE, rhythm;

	/* Short answers are worth nothing to a scraper. */
	if (t->v[T_COMPLETION] < u->mean[T_COMPLETION] - SCRAPE_SHORT)
		return -9;
	/* Whoever has always been a machine is none now. */
	rhythm = clip((0.45 - t->v[T_GAP_CV]) / 0.2, -0.7, 1.5);
	if (rhythm > 0 && !isnan(u->mean[T_GAP_CV]))
		rhythm = MIN(rhythm, clip((u->mean[T_GAP_CV] - t->v[T_GAP_CV]) / 0.2, 0, 1.5));
	odds += SCRAPE_RHYTHM * rhythm;
	odds += SCRAPE_NEAR * clip(beyond(t, u, T_NEAR, 0.15) / 0.25, -0.5, 1.5);
	odds += SCRAPE_DISTINCT * clip((t->v[T_DISTINCT] - 0.9) / 0.1, -1.5, 1);
	odds += SCRAPE_CAP * clip(beyond(t, u, T_CAP, 0.15) / 0.3, -0.3, 1.5);
	odds += SCRAPE_LOGPROBS * clip(beyond(t, u, T_LOGPROBS, 0.15) / 0.3, -0.2, 1.5);
	odds += SCRAPE_LONG * clip(beyond(t, u, T_COMPLETION, 0.3) / 0.7, -0.5, 1.5);
	return odds;
}

static double probing_odds(const struct traits *t, const struct usual *u)
{
	double odds = PROBE_BASE, injection;

	if (isnan(t->v[T_INJECTION]) && isnan(t->v[T_NEAR]))
		return -9; /* nothing is known of its prompts */
	injection = isnan(t->v[T_INJECTION]) ? -1 : clip(beyond(t, u, T_INJECTION, PROBE_INJECTED) / 0.15, -1, 2);
	odds += PROBE_INJECTION * injection;
	/* Edits of one prompt are nearly all alike; a course about attacks is not. */
	odds += PROBE_NEAR * MIN(clip(beyond(t, u, T_NEAR, 0.15) / 0.25, -0.5, 1.5), clip((t->v[T_NEAR] - 0.7) / 0.15, -1.5, 1.5));
	odds += PROBE_SHORT * clip((u->mean[T_COMPLETION] - t->v[T_COMPLETION] - 0.3 - u->sd[T_COMPLETION]) / 0.7, -1.5, 1.5);
	odds += PROBE_LENGTHS * clip((u->mean[T_PROMPT_SD] - t->v[T_PROMPT_SD] - 0.2) / 0.3, -0.5, 1);
	odds += PROBE_REFUSED * clip(beyond(t, u, T_REFUSED, 0.05) / 0.2, 0, 1);
	return odds;
}

static void say(struct detect *d, uint32_t i, uint32_t kin, const struct traits_set *s, const struct traits *t, const struct usual *u, enum anomaly_class cls, double odds)
{
	static const enum trait shown[] = { T_GAP_CV, T_DISTINCT, T_NEAR, T_INJECTION, T_CAP, T_LOGPROBS, T_COMPLETION };
	const struct entity *e = at(d, i);
	struct finding f;
	char who[ENTITY_NAME_MAX + 32];

	/* The customer is named rather than his address, unless the key is everybody's. */
	if (kin != NOBODY && at(d, kin)->kind == ENTITY_API_KEY && entity_requests300(at(d, kin)) <= BEHAVE_OWN * MAX(entity_requests300(e), (double)s->as))
		i = kin;
	finding_init(&f, WATCH_BEHAVE, cls, i, 1 + odds / 3, 3 + MAX(odds, 0.0));
	f.confidence = 1 / (1 + exp(-odds));
	f.needs = 1;
	f.joins = JOIN_S;
	/* It must be looked at again before it can be over. */
	f.leave_s = (int32_t)MAX((double)LEAVE_BEHAVE_S, MIN(LEAVE_LOOKS * (double)e->full->enough / MAX(t->v[T_RATE], 1e-3), (double)BEHAVE_SLOW_S));
	f.start = d->base + d->tick;
	f.apart = beyond(t, u, T_INJECTION, PROBE_INJECTED) > 0 && d->now.v[T_INJECTION] < PROBE_OTHERS * t->v[T_INJECTION];
	finding_actor(&f, i, 1);
	if (at(d, i) != e && e->kind == ENTITY_CLIENT_IP)
		for (uint32_t k = 0; k < s->as && f.actors < 2; k++)
			finding_actor(&f, s->a[k]->who[WHO_IP], 0.5);
	if (s->as)
		f.start = d->base + s->a[s->as - 1]->tick;
	/* where it comes from, when that is one or two addresses */
	for (unsigned int k = 0; k < s->as && k < 32; k++)
		if (e->kind != ENTITY_CLIENT_IP && s->a[k]->who[WHO_IP] != NOBODY && !entity_shared(at(d, s->a[k]->who[WHO_IP])) && f.actors < 4)
			finding_actor(&f, s->a[k]->who[WHO_IP], 0.3);
	if (kin != NOBODY && kin != i && is_identity(at(d, kin)))
		finding_actor(&f, kin, 0.3);
	for (size_t k = 0; k < ARRAY_SIZE(shown); k++) {
		if (isnan(t->v[shown[k]]))
			continue;
		finding_evidence(&f, trait_name(shown[k]), t->v[shown[k]], clip(u->mean[shown[k]], -1e9, 1e9), clip(habit_z(&e->full->habit, t, shown[k]), -99, 99));
	}
	/* How much of it: a label reaches no further (feedback.c). */
	if (!isnan(t->v[T_RATE]))
		finding_evidence(&f, "requests_per_s", t->v[T_RATE], baseline_expected(&e->req) / STEP_S, 0);
	if (cls == CLASS_SCRAPING)
		finding_say(&f, "%s asks %.2f times a second at the cadence of a machine (variation of gaps %.2f), %.0f %% of the prompts distinct and %.0f %% near another, %.0f %% of the answers at the cap or of one length",
			    describe_who(d, i, who, sizeof(who)), clip(t->v[T_RATE], 0, 1e9), clip(t->v[T_GAP_CV], 0, 9), 100 * clip(t->v[T_DISTINCT], 0, 1), 100 * clip(t->v[T_NEAR], 0, 1),
			    100 * clip(t->v[T_CAP], 0, 1));
	else
		finding_say(&f, "%s probes with prompts: injection score %.2f where %.2f is usual for it, %.0f %% near duplicates, answers of %.0f tokens",
			    describe_who(d, i, who, sizeof(who)), clip(t->v[T_INJECTION], 0, 1), clip(u->mean[T_INJECTION], 0, 1), 100 * clip(t->v[T_NEAR], 0, 1),
			    expm1(clip(t->v[T_COMPLETION], 0, 30)));
	incident_report(d, &f);
}

/* What it does from the first hours on, in a stream that has just begun, is how it is; of whoever is seldom seen that says little later on. */
static bool native(const struct entity *e)
{
	return e->born < NATIVE_S && e->full->looks < NATIVE_LOOKS && e->full->looked < NATIVE_FIRST_S;
}

static void learn(struct detect *d, struct entity *e, uint32_t kin, const struct traits *t)
{
	struct entity *net = kin == NOBODY || is_identity(at(d, kin)) ? NULL : at(d, kin);

	habit_learn(&e->full->habit, t);
	e->full->looks++;
	if (net && !net->full && d->entities.fulls < FULL_MAX / 2) {
		net->full = calloc(1, sizeof(*net->full));
		if (net->full)
			d->entities.fulls++;
	}
	if (net && net->full)
		habit_learn(&net->full->habit, t);
	if (!native(e))
		habit_learn(&d->pool[e->kind].habit, t);
}

/* The last minutes; of a slow one, its newest requests of the last half hour. */
static void gather(const struct detect *d, const struct entity *e, struct traits_set *s)
{
	unsigned int n = 0;

	traits_gather(d, e, d->tick - BEHAVE_WINDOW_S, s);
	if (s->as >= BEHAVE_SAMPLE)
		return;
	traits_gather(d, e, d->tick - BEHAVE_SLOW_S, s);
	while (n < s->as && (n < BEHAVE_SAMPLE || s->a[n]->tick > d->tick - BEHAVE_WINDOW_S))
		n++;
	s->as = n;
	if (!n)
		return;
	for (n = 0; n < s->cs && s->c[n]->tick >= s->a[s->as - 1]->tick;)
		n++;
	s->cs = n;
}

void behave_accept(struct detect *d, uint32_t i)
{
	struct traits_set *s = malloc(sizeof(*s));
	struct entity *e = at(d, i);
	struct traits t;

	if (s && e->full) {
		gather(d, e, s);
		traits_compute(d, s, &t);
		for (unsigned int k = 0; k < ACCEPT_LOOKS && s->as; k++) {
			habit_learn(&e->full->habit, &t);
			e->full->looks++;
		}
	}
	free(s);
}

/* Does nearly all that its key does come from this address? Then the key is looked at. */
static bool is_its_keys(const struct detect *d, const struct entity *e, const struct traits_set *s)
{
	uint32_t key = s->a[0]->who[WHO_KEY];

	return key != NOBODY && at(d, key)->full && entity_linked(e, at(d, key)) && at(d, key)->requests <= (float)BEHAVE_OWN * e->requests;
}

static bool is_muted(struct detect *d, const struct entity *e)
{
	const struct incident *in = incident_of(d, e);

	return in && in->muted;
}

static void look(struct detect *d, uint32_t i, struct traits_set *s)
{
	struct entity *e = at(d, i);
	struct full *f = e->full;
	struct traits t;
	struct usual u;
	uint32_t kin;
	double scraping, probing;

	f->looked = d->tick;
	f->since_look = 0;
	gather(d, e, s);
	f->enough = (float)MAX(BEHAVE_EVERY, s->as * BEHAVE_NEW);
	if (s->as < BEHAVE_MIN)
		return;
	if (e->kind == ENTITY_CLIENT_IP && is_its_keys(d, e, s))
		return;
	traits_compute(d, s, &t);
	kin = kin_of(e, s);
	usual_of(d, e, kin, &u);
	scraping = scraping_odds(&t, &u);
	probing = probing_odds(&t, &u);
	if (d->steps >= BEHAVE_STEPS && !entity_shared(e) && !native(e) && (e->born >= NATIVE_S || f->looks >= NATIVE_LOOKS || MAX(scraping, probing) >= NATIVE_ODDS)) {
		if (probing >= scraping && 1 + probing / 3 >= LEAVE_FACTOR)
			say(d, i, kin, s, &t, &u, CLASS_PROMPT_PROBING, probing);
		else if (1 + scraping / 3 >= LEAVE_FACTOR)
			say(d, i, kin, s, &t, &u, CLASS_SCRAPING, scraping);
	}
	if (native(e) || (MAX(scraping, probing) < BEHAVE_LEARN && !e->suspect)) {
		learn(d, e, kin, &t);
		opinion_learn(d, &t);
		f->odd = 0;
	} else if (!f->odd) {
		f->odd = d->tick;
	} else if (d->tick - f->odd >= ACCEPT_S && !is_muted(d, e)) {
		/* It has been told if it was worth it; whoever goes on like this for so long is like this. What a label keeps quiet teaches nothing. */
		for (unsigned int k = 0; k < ACCEPT_LOOKS; k++) {
			habit_learn(&f->habit, &t);
			if (kin != NOBODY && at(d, kin)->full)
				habit_learn(&at(d, kin)->full->habit, &t);
		}
		f->looks += ACCEPT_LOOKS;
		f->odd = 0;
	}
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
		e->full->since_look += e->s10[d->tick / STEP_S % LONG_STEPS];
		if (e->full->since_look >= MAX(e->full->enough, (float)BEHAVE_EVERY) && d->tick - e->full->looked >= BEHAVE_PAUSE_S)
			look(d, i, s);
	}
	free(s);
}
