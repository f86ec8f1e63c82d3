/*
 * Volume: the total of requests is lifted. By one to a few sources: flood. By many: ddos, or a flash crowd.
 *
 * The smallest set that explains the excess is looked for first; then how that set behaves, against how everybody's requests
 * usually look, says what it is. Never the total: half of a twofold attack is the usual traffic.
 */
#include <limits.h>
#include <math.h>

#include "detect/calendar.h"
#include "detect/engine.h"

struct reading read_requests(const struct entity *e, bool slow)
{
	double mu = (e->kind <= ENTITY_HOST ? baseline_level(&e->req) : baseline_expected(&e->req)) * (slow ? WINDOW_STEPS : 1);
	double x = slow ? entity_requests60(e) : entity_requests10(e);
	double disp = (double)(slow ? MAX(e->req.disp60, e->req.disp10) : e->req.disp10);

	return (struct reading){ x, mu, x - mu, baseline_z(x, mu, disp, e->n), x / MAX(mu, 0.1) };
}

/* Back through the seconds, then the steps. */
int64_t onset_requests(const struct detect *d, const struct entity *e)
{
	double mu = baseline_expected(&e->req);
	int32_t t = d->tick, first = t, floor_t = MAX(t - (STEP_S - 1), 0);

	for (int32_t k = t, below = 0; k >= floor_t && below < 2; k--) {
		if ((double)e->s1[k % STEP_S] > mu / STEP_S * 2 + 0.5) {
			first = k;
			below = 0;
		} else {
			below++;
		}
	}
	if (first <= floor_t + 1) {
		for (int32_t s = floor_t / STEP_S; s >= 0 && s > t / STEP_S - WINDOW_STEPS; s--) {
			if ((double)e->s10[s % LONG_STEPS] <= mu * 2 + 2)
				break;
			first = MIN(first, s * STEP_S);
		}
	}
	return d->base + first;
}

/* ---- what kind of traffic an excess is ------------------------------------------------------------- */
static double usual(const struct detect *d, enum trait k)
{
	return d->usual.n[k] >= USUAL_LOOKS ? (double)d->usual.mean[k] : (double)NAN;
}

/* How much larger the second half of the excess is than the first, since its onset: 0 a step, 1 a ramp. */
static double ramp_of(const struct traits_set *s)
{
	int32_t first, last, mid;
	double early = 0, late = 0;

	if (s->as < RAMP_MIN)
		return (double)NAN;
	last = s->a[0]->tick;
	first = s->a[s->as - 1]->tick;
	if (last - first < 4)
		return (double)NAN;
	mid = first + (last - first + 1) / 2;
	for (unsigned int i = 0; i < s->as; i++)
		*(s->a[i]->tick < mid ? &early : &late) += (double)s->a[i]->weight;
	return (late - early) / (late + early);
}

/*
 * Log odds that an excess which behaves like t is an attack and not customers: a logistic on bounded contrasts with how everybody's
 * requests usually look. lift: the excess against what counts as one. What the records lack says nothing.
 */
static double attack_odds(const struct detect *d, const struct traits *t, double ramp, double lift, bool many)
{
	double refused = clip(t->v[T_AUTH], 0, 1) + clip(t->v[T_REFUSED], 0, 1), limited = clip(t->v[T_LIMITED], 0, 1) + clip(t->v[T_FAILED], 0, 1);
	double refused_usual = clip(usual(d, T_AUTH), 0, 1) + clip(usual(d, T_REFUSED), 0, 1);
	double odds = many ? CROWD_BASE : SOURCE_BASE;

	if (!has_part(d, PART_BEHAVIOUR))
		return 0;
	odds += (many ? CROWD_LIFT : SOURCE_LIFT) * clip(log(MAX(lift, 0.1)), -0.5, 2.5);
	odds += ODDS_SAME * clip((t->v[T_SAME] - usual(d, T_SAME) - 0.08) / 0.2, -0.3, 2);
	odds += ODDS_NEAR * clip((t->v[T_NEAR] - usual(d, T_NEAR) - 0.15) / 0.3, -0.7, 1.5);
	odds += ODDS_ENTROPY * clip((usual(d, T_ENTROPY) - t->v[T_ENTROPY] - 0.1) / 0.5, -0.5, 2);
	/* The answers that are there first are the short ones: they say little until most are there. */
	odds += ODDS_SHORT * clip((t->completions / MAX((double)t->arrivals, 1.0) - 0.2) / 0.4, 0, 1) * clip((usual(d, T_COMPLETION) - t->v[T_COMPLETION] - 0.3) / 0.7, -1, 2);
	odds += ODDS_REFUSED * clip((refused - refused_usual - 0.03) / 0.12, -0.2, 2);
	odds += ODDS_LIMITED * clip((limited - 0.05) / 0.3, 0, 1); /* a server under load refuses customers, too */
	/* Prompts all of one length, or of any length at random: customers are neither. */
	if (usual(d, T_PROMPT_SD) >= 0.5)
		odds += ODDS_NARROW * (clip((0.35 - t->v[T_PROMPT_SD]) / 0.25, 0, 1.5) + clip((t->v[T_PROMPT_SD] - usual(d, T_PROMPT_SD) - 0.3) / 0.4, 0, 1.5));
	odds += ODDS_RHYTHM * clip((0.6 - t->v[T_GAP_CV]) / 0.3, -0.7, 1.5);
	if (!many)
		return odds;
	if (isnan(t->v[T_TOP_AGENT]) && isnan(t->v[T_SAME]))
		odds += CROWD_BLIND;
	odds += CROWD_AGENT * clip((t->v[T_TOP_AGENT] - usual(d, T_TOP_AGENT) - 0.1) / 0.2, -1.5, 2);
	odds += CROWD_KEYLESS * clip((t->v[T_KEYLESS] - usual(d, T_KEYLESS) - 0.1) / 0.4, -0.3, 1);
	odds += CROWD_EVEN * clip((0.5 - t->v[T_EVEN]) / 0.4, -1, 1);
	odds -= CROWD_RAMP * clip((ramp - 0.1) / 0.2, -1, 1.5);
	if (calendar_explains(d->opts.calendar, (double)(d->base + d->tick), &(struct calendar_about){ CLASS_FLASH_CROWD, NULL, 0 }))
		odds -= CROWD_EXPECTED;
	return odds;
}

/* The more it looks like an attack the less of it is needed: times the thresholds. */
static double allowance(double odds, double least)
{
	return 1 - (1 - least) * clip(odds / ODDS_CERTAIN, 0, 1);
}

/* ---- who ------------------------------------------------------------------------------------------- */
#define RISEN_MAX 256

struct risen {
	uint32_t entity;
	struct reading r;
};

struct view {
	bool slow;
	struct reading all;
	double bar; /* excess that counts */
	struct risen risen[RISEN_MAX];
	size_t n;
};

/* Its own past; a new one that behaves like customers is also allowed what the largest of its kind do. */
static double habit_peak(const struct detect *d, const struct entity *e, bool slow, bool attack)
{
	double own = habit_of(d, (double)(slow ? e->req.old60 : e->req.old10));
	const struct pool *p = &d->pool[e->kind];

	if (!is_identity(e) || attack)
		return own;
	return e->n - e->prior < RIPE_STEPS ? MAX(own, habit_of(d, (double)(slow ? p->req.old60 : p->req.old10))) : own;
}

static double bar_of(const struct detect *d, bool slow)
{
	double all = baseline_level(&global_of(d)->req) * (slow ? WINDOW_STEPS : 1);
	/* Clients that start one after the other lift a young total by as much as they are. */
	double lift = FLOOD_LIFT * (1 + 4.0 / MAX(d->steps, 1u));

	return MAX(lift * all, slow ? FLOOD_MIN_60 : FLOOD_MIN_10);
}

static void look(struct detect *d, bool slow, struct view *v)
{
	v->slow = slow;
	v->all = read_requests(global_of(d), slow);
	v->bar = bar_of(d, slow);
	v->n = 0;
	for (uint32_t k = 0; k < d->actives && v->n < RISEN_MAX; k++) {
		struct entity *e = at(d, d->active[k]);
		struct reading r;

		if (!is_identity(e) && e->kind != ENTITY_NETWORK)
			continue;
		entity_advance(e, d->tick);
		r = read_requests(e, slow);
		if (r.excess < RISEN_MIN || r.z < FEW_Z || r.ratio < FEW_RATIO || r.x <= HABIT * habit_of(d, (double)(slow ? e->req.old60 : e->req.old10)))
			continue;
		v->risen[v->n++] = (struct risen){ d->active[k], r };
	}
}

/* Of those that are one and the same traffic as c: the one that explains nearly as much as the largest, with least traffic of its own. */
static const struct risen *smallest(const struct detect *d, const struct view *v, const struct risen *c)
{
	const struct risen *best = c;
	double most = c->r.excess;

	for (size_t i = 0; i < v->n; i++)
		if (entity_related(d, c->entity, v->risen[i].entity))
			most = MAX(most, v->risen[i].r.excess);
	for (size_t i = 0; i < v->n; i++) {
		const struct risen *k = &v->risen[i];
		const struct entity *e = at(d, k->entity), *b = at(d, best->entity);

		if (!entity_related(d, c->entity, k->entity) || k->r.excess < SCOPE_SHARE * most)
			continue;
		if (best->r.excess < SCOPE_SHARE * most || k->r.mu < best->r.mu - 0.05 * most) {
			best = k;
			continue;
		}
		if (k->r.mu > best->r.mu + 0.05 * most)
			continue;
		/* On a tie the address, then the key, then the user; a network only when nothing smaller does; never who is many. */
		if (entity_shared(b) && !entity_shared(e))
			best = k;
		else if (entity_shared(e))
			continue;
		else if (b->kind == ENTITY_NETWORK || (e->kind != ENTITY_NETWORK && e->kind < b->kind))
			best = k;
	}
	return best;
}

/* The few of one kind that hold most of the excess, largest first; 0: they do not. */
static size_t few_of(const struct detect *d, const struct view *v, enum entity_kind kind, struct risen *few, double *ret_held)
{
	size_t n = 0;
	double held = 0;

	for (size_t j = 0; j < v->n; j++) {
		const struct risen *c = &v->risen[j];
		size_t i;

		if (at(d, c->entity)->kind != kind || c->r.excess < TOP_SHARE * v->all.excess)
			continue;
		for (i = n < FEW_SOURCES ? n++ : FEW_SOURCES; i > 0 && few[i - 1].r.excess < c->r.excess; i--)
			if (i < FEW_SOURCES)
				few[i] = few[i - 1];
		if (i < FEW_SOURCES)
			few[i] = *c;
	}
	for (size_t i = 0; i < n; i++)
		held += few[i].r.excess;
	*ret_held = held;
	return held >= FEW_SHARE * v->all.excess ? n : 0;
}

static void traits_of(struct detect *d, const struct risen *few, size_t n, int32_t since, struct traits *t, double *ret_ramp)
{
	struct traits_set *s = calloc(1, sizeof(*s)), *one = calloc(1, sizeof(*one));

	*t = (struct traits){ 0 };
	for (int k = 0; k < TRAIT_COUNT; k++)
		t->v[k] = (double)NAN;
	*ret_ramp = (double)NAN;
	if (s && one) {
		if (n == 1) {
			traits_gather(d, at(d, few[0].entity), since, s);
		} else {
			for (size_t i = 0; i < n; i++) {
				traits_gather(d, at(d, few[i].entity), since, one);
				for (unsigned int k = 0; k < one->as; k++)
					traits_add(s, one->a[k]);
				for (unsigned int k = 0; k < one->cs; k++)
					if (!(one->c[k]->what & MOMENT_ARRIVAL))
						traits_add(s, one->c[k]);
			}
		}
		traits_compute(d, s, t);
		*ret_ramp = ramp_of(s);
	}
	free(s);
	free(one);
}

static void evidence_of(const struct detect *d, struct finding *f, const struct traits *t)
{
	static const enum trait shown[] = { T_SAME, T_NEAR, T_TOP_AGENT, T_GAP_CV, T_AUTH, T_REFUSED };

	for (size_t i = 0; i < ARRAY_SIZE(shown); i++)
		if (!isnan(t->v[shown[i]]))
			finding_evidence(f, trait_name(shown[i]), t->v[shown[i]], clip(usual(d, shown[i]), -1e9, 1e9), 0);
}

static double seconds_of(const struct view *v)
{
	return v->slow ? STEP_S * WINDOW_STEPS : STEP_S;
}

/* One to a few sources. */
static bool judge_few(struct detect *d, const struct view *v)
{
	struct risen few[FEW_SOURCES], some[FEW_SOURCES];
	const struct risen *one = NULL;
	double held = 0, all_held, odds, need, ramp, strength, z, ratio, x = 0, mu = 0, s = seconds_of(v);
	struct traits t;
	struct finding f;
	size_t n = 0;
	char who[ENTITY_NAME_MAX + 32];
	uint32_t scope;
	bool known;

	for (size_t i = 0; i < v->n; i++) {
		const struct risen *c = &v->risen[i];

		if (at(d, c->entity)->kind != ENTITY_NETWORK && c->r.excess >= FEW_SHARE * v->all.excess && (!one || c->r.excess > one->r.excess))
			one = c;
	}
	if (one) {
		few[0] = *smallest(d, v, one);
		n = 1;
		held = few[0].r.excess;
	} else {
		static const enum entity_kind kinds[] = { ENTITY_CLIENT_IP, ENTITY_API_KEY, ENTITY_USER, ENTITY_NETWORK };

		for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
			size_t m = few_of(d, v, kinds[k], some, &all_held);

			if (m && (!n || m < n)) {
				memcpy(few, some, sizeof(few));
				n = m;
				held = all_held;
			}
		}
	}
	if (!n)
		return false;
	z = 0;
	for (size_t i = 0; i < n; i++) {
		z = MAX(z, few[i].r.z);
		x += few[i].r.x;
		mu += few[i].r.mu;
	}
	ratio = x / MAX(mu, 0.1);
	known = mu >= 1;
	scope = n == 1 ? few[0].entity : NOBODY;
	/* What they share is smaller than everything. */
	for (size_t i = 0; n > 1 && i < v->n && scope == NOBODY; i++) {
		bool common = v->risen[i].r.excess <= 1.3 * held;

		for (size_t j = 0; j < n && common; j++)
			common = entity_related(d, v->risen[i].entity, few[j].entity) && v->risen[i].entity != few[j].entity;
		if (common)
			scope = v->risen[i].entity;
	}
	strength = MIN(held / v->bar, MIN(z / (known ? Z_KNOWN : Z_ENTER), (ratio - 1) / (FLOOD_RATIO - 1)));
	if (strength < LEAVE_FACTOR * ODDS_LEAST)
		return false;
	traits_of(d, few, n, d->tick - (v->slow ? 60 : 15), &t, &ramp);
	if (t.networks >= CROWD_KEY_NETWORKS && at(d, few[0].entity)->kind >= ENTITY_API_KEY)
		return false; /* one key and a crowd behind it: a public application, or a botnet */
	if (entity_shared(at(d, few[0].entity)) && t.people >= CROWD_SOURCES)
		return false; /* a gateway is not who sends */
	odds = attack_odds(d, &t, ramp, held / v->bar, false);
	need = allowance(odds, ODDS_LEAST);
	strength = MIN(held / v->bar / need, MIN(z / (known ? Z_KNOWN : Z_ENTER) / need, (ratio - 1) / (FLOOD_RATIO - 1)));
	if (strength < LEAVE_FACTOR)
		return false;
	for (size_t i = 0; i < n; i++)
		if (v->all.z < Z_GLOBAL || few[i].r.x <= HABIT * habit_peak(d, at(d, few[i].entity), v->slow, odds > 0))
			strength = MIN(strength, 0.9);
	finding_init(&f, WATCH_VOLUME, CLASS_FLOOD, scope, strength, z);
	if (!isnan(t.v[T_AUTH]) && t.v[T_AUTH] >= 0.5) {
		f.watch = WATCH_AUTH;
		f.cls = CLASS_CREDENTIAL_ABUSE;
	}
	f.needs = strength >= 2 && z >= Z_SURE ? 1 : 2;
	f.magnitude = ratio;
	f.confidence = MAX(0.5, MIN(1 / (1 + exp(-odds)), 0.97));
	f.start = onset_requests(d, at(d, few[0].entity));
	f.leave_s = LEAVE_VOLUME_S;
	if (odds < 0 && f.watch == WATCH_VOLUME) {
		if (odds < SOURCE_QUIET)
			return true; /* a customer at work */
		f.severity = SEVERITY_INFO;
		f.needs = CROWD_NEEDS;
	} else if (d->steps >= RISE_STEPS && z >= Z_SURE && v->slow && odds >= SURE_ODDS && v->all.x >= 5 * v->all.mu) {
		f.severity = SEVERITY_CRITICAL;
	}
	for (size_t i = 0; i < n; i++)
		finding_actor(&f, few[i].entity, few[i].r.excess / MAX(v->all.excess, held));
	finding_actor(&f, scope, n == 1 ? held / MAX(v->all.excess, held) : 0);
	for (size_t i = 0; i < v->n; i++)
		if (entity_related(d, v->risen[i].entity, few[0].entity))
			finding_actor(&f, v->risen[i].entity, at(d, v->risen[i].entity)->kind == ENTITY_NETWORK ? 0 : MIN(1.0, v->risen[i].r.excess / MAX(v->all.excess, held)));
	f.slow = v->slow;
	finding_evidence(&f, "requests_per_s", v->all.x / s, v->all.mu / s, v->all.z);
	finding_evidence(&f, "source_requests_per_s", x / s, mu / s, z);
	finding_evidence(&f, "share_of_excess", held / MAX(v->all.excess, held), 0, 0);
	evidence_of(d, &f, &t);
	if (n == 1)
		finding_say(&f, "%s sends %.1f requests/s where %.1f/s are usual; all clients together usually send %.1f/s, and it makes up %.0f %% of the excess",
			    describe_who(d, few[0].entity, who, sizeof(who)), x / s, mu / s, v->all.mu / s, 100 * held / MAX(v->all.excess, held));
	else
		finding_say(&f, "%zu sources send %.1f requests/s where %.1f/s are usual for them; %.1f/s are usual for everybody, and they make up %.0f %% of the excess", n,
			    x / s, mu / s, v->all.mu / s, 100 * held / MAX(v->all.excess, held));
	incident_report(d, &f);
	return true;
}

/* Everybody's requests of the last seconds that are from new or risen sources. */
static void gather_excess(struct detect *d, const struct view *v, int32_t since, struct traits_set *s)
{
	const struct moment *m;

	s->as = s->cs = 0;
	for (uint32_t seq = recent_newest(&d->recent); (m = recent_at(&d->recent, seq)) && m->tick > since; seq--) {
		bool part = m->flags & MOMENT_FRESH;

		for (size_t i = 0; i < v->n && !part; i++)
			part = !entity_shared(at(d, v->risen[i].entity)) && (m->who[WHO_IP] == v->risen[i].entity || m->who[WHO_KEY] == v->risen[i].entity);
		/* Completions do not say whether their source is new: look at it. */
		if (!part && m->what == MOMENT_DONE && person_of(d, m) != NOBODY)
			part = m->tick - at(d, person_of(d, m))->born < FRESH_MIN_S;
		if (part)
			traits_add(s, m);
		if (s->as == TRAITS_SAMPLE)
			break;
	}
}

/* The network that most of these requests come from, and its share. */
static uint32_t main_network(const struct detect *d, const struct traits_set *s, double *ret_share)
{
	uint32_t best = NOBODY;
	unsigned int votes = 0, n = 0;

	for (unsigned int i = 0; i < s->as; i++) {
		uint32_t ip = s->a[i]->who[WHO_IP], net = ip == NOBODY ? NOBODY : at(d, ip)->net;

		if (!votes) {
			best = net;
			votes = 1;
		} else {
			votes += net == best ? 1 : UINT_MAX;
		}
	}
	for (unsigned int i = 0; i < s->as; i++)
		n += s->a[i]->who[WHO_IP] != NOBODY && at(d, s->a[i]->who[WHO_IP])->net == best;
	*ret_share = s->as ? n / (double)s->as : 0;
	return best;
}

/* New addresses of five minutes against what is usual: a crowd takes its time. */
static double crowd_strength(struct detect *d)
{
	struct entity *e = at(d, d->fresh);
	double mu = MIN(baseline_level(&e->req), CROWD_SLOW * (double)e->req.slow) * LONG_STEPS, x, z, all = baseline_level(&global_of(d)->req) * LONG_STEPS;

	entity_advance(e, d->tick);
	x = entity_requests300(e);
	z = baseline_z(x, mu, (double)MAX(e->req.disp60, e->req.disp10), e->n);
	return MIN(MIN((x - mu) / MAX(CROWD_SHARE * all, CROWD_MIN), z / CROWD_Z), x / MAX(FRESH_HABIT * habit_of(d, (double)e->req.old300), 1.0));
}

static bool judge_many(struct detect *d, const struct view *v)
{
	struct traits_set *set;
	struct reading fresh = read_requests(at(d, d->fresh), v->slow);
	struct traits t;
	struct finding f;
	double odds, ramp, strength, anew, crowd, need, net_share, s = seconds_of(v), p, z;
	uint32_t net;
	struct incident *in = incident_find(d, WATCH_VOLUME, NOBODY), *opened;

	crowd = crowd_strength(d);
	if ((MAX(v->all.excess, fresh.excess) < LEAVE_FACTOR * CROWD_LEAST * v->bar && crowd < LEAVE_FACTOR) || d->steps < WINDOW_STEPS)
		return false;
	set = malloc(sizeof(*set));
	if (!set)
		return false;
	gather_excess(d, v, d->tick - (v->slow ? 60 : 15), set);
	if (set->as < CROWD_FEW) /* of addresses that were all here before: in a large excess the total says enough */
		traits_gather_all(d, d->tick - STEP_S, set);
	traits_compute(d, set, &t);
	ramp = ramp_of(set);
	net = main_network(d, set, &net_share);
	free(set);
	if (t.people && t.people < (t.v[T_FRESH] >= 0.5 ? CROWD_SOURCES : CROWD_KNOWN))
		return false;
	odds = attack_odds(d, &t, ramp, MAX(v->all.excess, fresh.excess) / v->bar, true);
	if (net != NOBODY && net_share >= FEW_SHARE && !entity_shared(at(d, net)))
		odds += ODDS_ATTACK; /* an audience is not all in one place */
	else
		net = NOBODY;
	need = allowance(odds, CROWD_LEAST);
	z = v->all.z;
	strength = MIN(v->all.excess / v->bar, z / Z_ENTER) / need;
	if (v->all.x <= RISE_FEW_HABIT * habit_of(d, (double)(v->slow ? global_of(d)->req.old60 : global_of(d)->req.old10)) && !in && odds < ODDS_HABIT)
		strength = MIN(strength, 0.9);
	/* New sources are a quieter series than the total, and have habits of their own. */
	anew = MIN(fresh.excess / v->bar, fresh.z / Z_ENTER) / need;
	if (fresh.x <= FRESH_HABIT * habit_of(d, (double)(v->slow ? at(d, d->fresh)->req.old60 : at(d, d->fresh)->req.old10)) && !in && odds < ODDS_HABIT)
		anew = MIN(anew, 0.9);
	if (anew > strength) {
		strength = anew;
		z = fresh.z;
	}
	strength = odds < ODDS_ATTACK ? MAX(strength, crowd) : strength;
	if (strength < LEAVE_FACTOR)
		return false;
	p = 1 / (1 + exp(ODDS_ATTACK - odds));
	if (p < 0.5)
		strength = MIN(crowd, fresh.excess / MAX(CROWD_FRESH * v->all.excess, 1.0)); /* else the same customers are at work */
	finding_init(&f, WATCH_VOLUME, p >= 0.5 ? CLASS_DDOS : CLASS_FLASH_CROWD, NOBODY, strength, z);
	f.confidence = MAX(p, 1 - p);
	f.magnitude = v->all.ratio;
	f.start = onset_requests(d, global_of(d));
	f.leave_s = LEAVE_VOLUME_S;
	f.severity = p >= 0.5 ? SEVERITY_WARNING : SEVERITY_INFO;
	f.needs = p >= 0.5 ? 2 : CROWD_NEEDS;
	if (p < 0.5 || odds >= ODDS_CERTAIN)
		f.accept_s = ACCEPT_SURE_S;
	if (odds >= ODDS_CERTAIN)
		f.leave_s = LEAVE_SURE_S;
	if (p >= 0.5 && d->steps >= RISE_STEPS && v->slow && v->all.ratio >= 5 && v->all.z >= Z_SURE)
		f.severity = SEVERITY_CRITICAL;
	if (!isnan(t.v[T_AUTH]) && t.v[T_AUTH] >= 0.5) {
		f.watch = WATCH_AUTH;
		f.cls = CLASS_CREDENTIAL_ABUSE;
		f.severity = SEVERITY_WARNING;
		f.strength *= CROWD_LEAST / ODDS_LEAST; /* refusals are access.c's: here they must be many */
		f.needs = 2;
	} else if (p >= 0.5 && net != NOBODY) {
		/* many addresses of one place are one source */
		f.cls = CLASS_FLOOD;
		f.scope = net;
		finding_actor(&f, net, net_share);
	}
	/*
	 * A class once told stays unless the odds are good for another, of all that was seen while there was something to see: who is
	 * left between two pulses, and when it is over, are customers.
	 */
	if (in && MAX(v->all.excess, fresh.excess) >= LEAVE_FACTOR * v->bar)
		in->odds += ODDS_MEMORY * (odds - ODDS_ATTACK - in->odds);
	if (in && f.watch == WATCH_VOLUME && in->f.cls != f.cls && (fabs(in->odds) < ODDS_TURN || (in->odds > 0) != (p >= 0.5) || d->tick - in->told < UPDATE_FAST_S)) {
		f.cls = in->f.cls;
		f.severity = in->f.severity;
		f.confidence = in->f.confidence;
	}
	if (!t.sources && !t.keys) {
		f.cls = CLASS_UNKNOWN;
		f.severity = v->all.ratio >= RISE_WARN_RATIO ? SEVERITY_WARNING : SEVERITY_INFO;
		f.confidence = 0.3;
	}
	f.slow = v->slow;
	finding_evidence(&f, "requests_per_s", v->all.x / s, v->all.mu / s, v->all.z);
	finding_evidence(&f, "new_address_requests_per_s", fresh.x / s, fresh.mu / s, fresh.z);
	evidence_of(d, &f, &t);
	finding_say(&f, "requests rose to %.1f/s where %.1f/s are usual, from %u addresses in %u networks; %s", v->all.x / s, v->all.mu / s, t.sources, t.networks,
		    f.cls == CLASS_DDOS ? "they act alike" : f.cls == CLASS_UNKNOWN ? "the records do not say from whom" : "they look like customers");
	opened = incident_report(d, &f);
	if (opened && !in)
		opened->odds = odds - ODDS_ATTACK;
	return true;
}

void volume_tick(struct detect *d)
{
	struct view *v;
	struct reading quick = read_requests(global_of(d), false), slow = read_requests(global_of(d), true);
	bool open = incident_any(d, 1u << WATCH_VOLUME), opened_slow = false;

	for (int i = 0; i < INCIDENTS_MAX; i++)
		opened_slow |= d->incident[i].open && d->incident[i].f.watch == WATCH_VOLUME && d->incident[i].f.slow;

	if (!open && quick.excess < CROWD_LEAST * bar_of(d, false) && slow.excess < CROWD_LEAST * bar_of(d, true) && read_requests(at(d, d->fresh), true).excess < 0.25 * bar_of(d, true))
		return;
	v = malloc(sizeof(*v));
	if (!v)
		return;
	look(d, false, v);
	if (judge_few(d, v) || judge_many(d, v))
		goto out;
	if ((d->tick > d->cool || open) && (!open || opened_slow)) {
		look(d, true, v);
		if (!judge_few(d, v))
			judge_many(d, v);
	}
out:
	free(v);
}
