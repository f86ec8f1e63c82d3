/* Every second: does anything stand out, and what is it? Opens incidents; incident.c ends them. */
#include <math.h>

#include "detect/engine.h"

#define CANDIDATES_MAX 128 /* at one tick; who is not among them is there at the next */
#define RISE_FEW_RATIO 1.5
#define RISE_FEW_HABIT 1.1
#define JOIN_S 60          /* sources that start within a minute of each other belong together */

struct reading read_requests(const struct entity *e, bool slow)
{
	double mu = baseline_expected(&e->req) * (slow ? WINDOW_STEPS : 1);
	double x = slow ? entity_requests60(e) : entity_requests10(e);
	double disp = (double)(slow ? MAX(e->req.disp60, e->req.disp10) : e->req.disp10);

	return (struct reading){ x, mu, x - mu, baseline_z(x, mu, disp, e->n), x / MAX(mu, 0.1) };
}

struct reading read_tokens(const struct entity *e)
{
	double mu = baseline_expected(&e->tok) * WINDOW_STEPS, x = entity_tokens60(e);

	return (struct reading){ x, mu, x - mu, baseline_z(x, mu, (double)MAX(e->tok.disp60, e->tok.disp10), e->n), x / MAX(mu, 1) };
}

struct error_reading read_errors(const struct detect *d, const struct errors *er)
{
	int32_t now = d->tick / STEP_S % WINDOW_STEPS, before = (now + WINDOW_STEPS - 1) % WINDOW_STEPS;
	struct error_reading best = { 0 };

	/* The last 10 to 20 s where that is enough, else the last minute. */
	for (int slow = 0; slow < 2; slow++) {
		struct error_reading r = { 0 };

		for (int i = 0; i < WINDOW_STEPS; i++) {
			if (!slow && i != now && i != before)
				continue;
			r.done += (double)er->done[i];
			r.failed += (double)er->failed[i];
		}
		if (r.done <= 0)
			continue;
		r.share = r.failed / r.done;
		r.z = (r.failed - r.done * er->share) / sqrt(r.done * er->share * (1 - er->share) + 1);
		if (r.failed >= ERROR_MIN || slow)
			return r;
		best = r;
	}
	return best;
}

double flood_bar(const struct detect *d, bool slow)
{
	double all = baseline_expected(&global_of(d)->req) * (slow ? WINDOW_STEPS : 1);
	/* Clients that start one after the other lift a young total by as much as they are. */
	double lift = FLOOD_LIFT * (1 + 4.0 / MAX(d->steps, 1u));

	return MAX(lift * all, slow ? FLOOD_MIN_60 : FLOOD_MIN_10);
}

double cost_bar(const struct detect *d)
{
	return MAX(COST_LIFT * WINDOW_STEPS * baseline_expected(&global_of(d)->tok), COST_MIN_60);
}

static double habit_of(const struct detect *d, const struct entity *e, bool slow)
{
	double own = (double)(slow ? e->req.old60 : e->req.old10);
	const struct pool *p = &d->pool[e->kind];

	return e->n - e->prior < RIPE_STEPS ? MAX(own, (double)(slow ? p->req.old60 : p->req.old10)) : own;
}

static bool floods(const struct detect *d, const struct entity *e, bool slow, struct reading *ret)
{
	struct reading r = read_requests(e, slow);

	if (r.excess < flood_bar(d, slow) || r.x < FLOOD_RATIO * r.mu || r.x <= HABIT * habit_of(d, e, slow) || r.z < (baseline_expected(&e->req) >= 1 ? Z_KNOWN : Z_ENTER))
		return false;
	if (read_requests(global_of(d), slow).z < Z_GLOBAL)
		return false;
	*ret = r;
	return true;
}

/* Tokens per request of the last minute, against those of all others. */
static double token_ratio(const struct detect *d, const struct entity *e)
{
	double x = entity_tokens60(e), n = entity_requests60(e);
	double others = entity_tokens60(global_of(d)) - x, their = entity_requests60(global_of(d)) - n;

	return n < 1 || their < 1 ? 0 : x / n / MAX(others / their, 1.0);
}

static bool spends(const struct detect *d, const struct entity *e, struct reading *ret)
{
	uint32_t own = e->n - e->prior;
	struct reading r;

	if (own < COST_NEW_STEPS || (double)e->requests < COST_REQUESTS)
		return false;
	r = read_tokens(e);
	if (own < COST_STEPS && (r.x < COST_NEW_RATIO * r.mu || token_ratio(d, e) < COST_NEW_SIZE))
		return false;
	if (r.excess < cost_bar(d) || r.x < COST_RATIO * r.mu || r.x <= COST_HABIT * (double)e->tok.old60)
		return false;
	if (r.z < (own < RIPE_STEPS ? COST_YOUNG_Z : COST_Z) || entity_requests60(e) < COST_CALLS)
		return false;
	*ret = r;
	return true;
}

static bool enough(uint8_t hist)
{
	return __builtin_popcount(hist & 7u) >= 2 && (hist & 1);
}

struct candidate {
	uint32_t entity;
	struct reading r;
	bool slow, enters;
};

/*
 * Of the candidates that are one and the same traffic as `c`: the one that explains nearly as much as the largest and has least traffic
 * of its own beside it. `late_kind`: on a tie prefer the credential to the address.
 */
static const struct candidate *smallest(const struct detect *d, const struct candidate *list, size_t n, const struct candidate *c, bool late_kind)
{
	const struct candidate *best = NULL;
	double most = 0;

	for (size_t i = 0; i < n; i++)
		if (entity_linked(at(d, c->entity), at(d, list[i].entity)))
			most = MAX(most, list[i].r.excess);
	for (size_t i = 0; i < n; i++) {
		const struct candidate *k = &list[i];
		double slack;

		if (!entity_linked(at(d, c->entity), at(d, k->entity)) || k->r.excess < SCOPE_SHARE * most)
			continue;
		if (!best) {
			best = k;
			continue;
		}
		slack = 0.05 * most;
		if (k->r.mu < best->r.mu - slack)
			best = k;
		else if (k->r.mu <= best->r.mu + slack) {
			int a = at(d, k->entity)->kind, b = at(d, best->entity)->kind;

			if (late_kind) {
				/* key, then user, then address */
				a = a == ENTITY_CLIENT_IP ? ENTITY_KIND_COUNT : a;
				b = b == ENTITY_CLIENT_IP ? ENTITY_KIND_COUNT : b;
			}
			if (a < b)
				best = k;
		}
	}
	return best ? best : c;
}

/* Epoch second at which e's requests left what was expected: back through the seconds, then the steps. */
static int64_t onset_requests(const struct detect *d, const struct entity *e)
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
			if ((double)e->s10[s % WINDOW_STEPS] <= mu * 2 + 2)
				break;
			first = MIN(first, s * STEP_S);
		}
	}
	return d->base + first;
}

static int64_t onset_tokens(const struct detect *d, const struct entity *e)
{
	double mu = baseline_expected(&e->tok);
	int32_t s = d->tick / STEP_S, first = d->tick;

	for (int32_t k = s; k >= 0 && k > s - WINDOW_STEPS; k--)
		if ((double)e->t10[k % WINDOW_STEPS] > mu * 2)
			first = MIN(first, k * STEP_S);
	return d->base + first;
}

static struct incident *flood_just_open(struct detect *d)
{
	for (int i = 0; i < INCIDENTS_MAX; i++) {
		struct incident *in = &d->incident[i];

		if (in->used && in->open && in->watch == WATCH_FLOOD && d->tick - in->opened <= JOIN_S)
			return in;
	}
	return NULL;
}

static struct incident *rise_open(struct detect *d)
{
	for (int i = 0; i < INCIDENTS_MAX; i++)
		if (d->incident[i].used && d->incident[i].open && d->incident[i].watch == WATCH_RISE)
			return &d->incident[i];
	return NULL;
}

static void judge_floods(struct detect *d)
{
	struct candidate list[CANDIDATES_MAX];
	size_t n = 0;

	for (uint32_t k = 0; k < d->touches; k++) {
		struct entity *e = at(d, d->touched[k]);
		struct candidate c = { .entity = d->touched[k] };
		bool yes;

		if (!is_identity(e))
			continue;
		/* Cheap and first: nearly everybody stops here. */
		if (!e->hist_flood && entity_requests10(e) < FLOOD_MIN_10 && entity_requests60(e) < FLOOD_MIN_60)
			continue;
		yes = floods(d, e, false, &c.r);
		if (!yes && d->tick > e->cool) {
			c.slow = true;
			yes = floods(d, e, true, &c.r);
		}
		e->hist_flood = (uint8_t)(e->hist_flood << 1 | yes);
		if (!yes || n == CANDIDATES_MAX)
			continue;
		c.enters = enough(e->hist_flood) || (c.r.z >= Z_SURE && c.r.excess >= 2 * flood_bar(d, c.slow));
		list[n++] = c;
	}
	for (size_t i = 0; i < n; i++) {
		const struct candidate *c = &list[i], *best;
		struct incident *in;

		if (!c->enters)
			continue;
		in = incident_of(d, at(d, c->entity));
		if (in) {
			if (in->watch == WATCH_COST)
				incident_become(d, in, WATCH_FLOOD, CLASS_FLOOD, in->entity, c->r.z);
			incident_suspect(d, in, c->entity, false);
			continue;
		}
		best = smallest(d, list, n, c, false);
		in = incident_of(d, at(d, best->entity));
		if (in) {
			/* Another address of the same key: it is the key. */
			incident_suspect(d, in, c->entity, true);
			if (in->watch == WATCH_FLOOD && in->entity != best->entity)
				incident_become(d, in, WATCH_FLOOD, CLASS_FLOOD, best->entity, best->r.z);
			continue;
		}
		in = rise_open(d);
		if (in) {
			incident_become(d, in, WATCH_FLOOD, CLASS_FLOOD, best->entity, best->r.z);
			incident_suspect(d, in, best->entity, true);
			continue;
		}
		in = flood_just_open(d);
		if (in) {
			/* A second source: the scope is what they share, or everything. */
			uint32_t common = NOBODY;

			for (size_t j = 0; j < n && in->entity != NOBODY; j++)
				if (at(d, list[j].entity)->kind != at(d, c->entity)->kind && entity_linked(at(d, list[j].entity), at(d, c->entity)) &&
				    entity_linked(at(d, list[j].entity), at(d, in->entity)))
					common = list[j].entity;
			incident_suspect(d, in, best->entity, true);
			incident_become(d, in, WATCH_FLOOD, CLASS_FLOOD, common, best->r.z);
			continue;
		}
		in = incident_open(d, WATCH_FLOOD, CLASS_FLOOD, best->entity, best->slow, best->r.z, onset_requests(d, at(d, best->entity)));
		if (!in)
			continue;
		incident_suspect(d, in, best->entity, true);
		/* the same traffic under its other names */
		for (size_t j = 0; j < n; j++)
			if (entity_linked(at(d, list[j].entity), at(d, best->entity)))
				incident_suspect(d, in, list[j].entity, false);
		incident_tell(d, in, EVENT_OPEN);
	}
}

/* The few sources of one kind that hold most of a rise. Returns how many, 0: they do not. */
static size_t few_sources(const struct detect *d, bool slow, double excess, enum entity_kind kind, struct candidate *few)
{
	size_t n = 0;
	double held = 0;

	for (uint32_t k = 0; k < d->actives; k++) {
		struct entity *e = at(d, d->active[k]);
		struct candidate c = { .entity = d->active[k], .slow = slow };
		size_t i;

		if (e->kind != kind)
			continue;
		entity_advance(e, d->tick);
		c.r = read_requests(e, slow);
		if (c.r.excess < TOP_SHARE * excess || c.r.z < FEW_Z || c.r.ratio < FEW_RATIO || c.r.x <= HABIT * (double)(slow ? e->req.old60 : e->req.old10))
			continue;
		for (i = n < FEW_SOURCES ? n++ : FEW_SOURCES; i > 0 && few[i - 1].r.excess < c.r.excess; i--)
			if (i < FEW_SOURCES)
				few[i] = few[i - 1];
		if (i < FEW_SOURCES)
			few[i] = c;
	}
	for (size_t i = 0; i < n; i++)
		held += few[i].r.excess;
	return held >= FEW_SHARE * excess ? n : 0;
}

static void judge_rise(struct detect *d)
{
	struct entity *g = global_of(d);
	struct candidate few[FEW_SOURCES];
	size_t n = 0;
	bool slow = false, yes = false;
	struct reading r = { 0 };
	struct incident *in;

	if (d->steps < WINDOW_STEPS || incident_any(d, 1u << WATCH_FLOOD)) {
		d->rise_ticks = 0;
		return;
	}
	for (int w = 0; w < 2 && !yes && d->tick > d->cool; w++) {
		slow = w;
		r = read_requests(g, slow);
		yes = r.z >= Z_ENTER && r.ratio >= RISE_FEW_RATIO && r.excess >= flood_bar(d, slow) && r.x > RISE_FEW_HABIT * (double)(slow ? g->req.old60 : g->req.old10);
	}
	d->hist_rise = (uint8_t)(d->hist_rise << 1 | yes);
	d->rise_ticks = yes ? d->rise_ticks + 1 : 0;
	if (!enough(d->hist_rise))
		return;
	in = rise_open(d);
	for (enum entity_kind kind = ENTITY_CLIENT_IP; kind <= ENTITY_USER; kind++) {
		struct candidate some[FEW_SOURCES];
		size_t k = few_sources(d, slow, r.excess, kind, some);

		if (k && (!n || k < n)) {
			memcpy(few, some, sizeof(few));
			n = k;
		}
	}
	if (n == 1)
		return; /* one source is judged by the stricter rules of judge_floods() */
	if (n) {
		bool theirs = false;

		for (size_t i = 0; i < n; i++)
			theirs |= incident_of(d, at(d, few[i].entity)) != NULL;
		if (theirs)
			return;
		if (in)
			incident_become(d, in, WATCH_FLOOD, CLASS_FLOOD, NOBODY, r.z);
		else
			in = incident_open(d, WATCH_FLOOD, CLASS_FLOOD, NOBODY, slow, r.z, onset_requests(d, at(d, few[0].entity)));
		if (!in)
			return;
		for (size_t i = 0; i < n; i++)
			incident_suspect(d, in, few[i].entity, true);
		if (in->opened == d->tick)
			incident_tell(d, in, EVENT_OPEN);
		return;
	}
	r = read_requests(g, true);
	if (in || d->steps < RISE_STEPS || d->rise_ticks < STEP_S || r.z < RISE_Z || r.ratio < RISE_RATIO || r.excess < RISE_MIN_60)
		return;
	in = incident_open(d, WATCH_RISE, CLASS_UNKNOWN, NOBODY, true, r.z, onset_requests(d, g));
	if (in) {
		in->severity = r.ratio >= RISE_WARN_RATIO ? SEVERITY_WARNING : SEVERITY_INFO;
		incident_tell(d, in, EVENT_OPEN);
	}
}

static void judge_cost(struct detect *d)
{
	struct candidate list[CANDIDATES_MAX];
	size_t n = 0;

	for (uint32_t k = 0; k < d->touches; k++) {
		struct entity *e = at(d, d->touched[k]);
		struct candidate c = { .entity = d->touched[k] };
		bool yes;

		if (!is_identity(e))
			continue;
		yes = !(e->hist_flood & 7) && d->tick > e->cool && spends(d, e, &c.r);
		if (!yes && !e->hist_cost)
			continue;
		e->hist_cost = (uint8_t)(e->hist_cost << 1 | yes);
		if (!yes || n == CANDIDATES_MAX)
			continue;
		c.enters = enough(e->hist_cost);
		list[n++] = c;
	}
	for (size_t i = 0; i < n; i++) {
		const struct candidate *c = &list[i], *best;
		struct incident *in;

		if (!c->enters)
			continue;
		in = incident_of(d, at(d, c->entity));
		if (in) {
			incident_suspect(d, in, c->entity, false);
			continue;
		}
		best = smallest(d, list, n, c, true);
		in = incident_of(d, at(d, best->entity));
		if (in) {
			/* Another address of the same key: it is the key. */
			incident_suspect(d, in, c->entity, false);
			if (in->watch == WATCH_COST && in->entity != best->entity) {
				incident_suspect(d, in, best->entity, true);
				incident_become(d, in, WATCH_COST, CLASS_COST_SPIKE, best->entity, best->r.z);
			}
			continue;
		}
		in = incident_open(d, WATCH_COST, CLASS_COST_SPIKE, best->entity, true, best->r.z, onset_tokens(d, at(d, best->entity)));
		if (!in)
			continue;
		incident_suspect(d, in, best->entity, true);
		for (size_t j = 0; j < n; j++)
			if (entity_linked(at(d, list[j].entity), at(d, best->entity)))
				incident_suspect(d, in, list[j].entity, false);
		incident_tell(d, in, EVENT_OPEN);
	}
}

static bool fails(const struct detect *d, struct entity *e, struct error_reading *ret)
{
	bool yes;

	*ret = read_errors(d, e->errors);
	yes = ret->failed >= ERROR_MIN && ret->share >= ERROR_SHARE && ret->z >= ERROR_Z;
	e->errors->hist = (uint8_t)(e->errors->hist << 1 | yes);
	return enough(e->errors->hist);
}

static void judge_errors(struct detect *d)
{
	struct error_reading all, r, worst = { 0 };
	uint32_t who = NOBODY;
	bool any = fails(d, global_of(d), &all);
	int32_t onset;
	struct incident *in;

	for (uint32_t k = 0; k < d->touches; k++) {
		struct entity *e = at(d, d->touched[k]);

		if (e->kind == ENTITY_MODEL && fails(d, e, &r) && r.failed > worst.failed) {
			worst = r;
			who = d->touched[k];
		}
	}
	if (who != NOBODY && any && worst.failed < FEW_SHARE * all.failed)
		who = NOBODY;
	if ((!any && who == NOBODY) || incident_any(d, 1u << WATCH_ERROR | 1u << WATCH_FLOOD | 1u << WATCH_RISE))
		return;
	r = who == NOBODY ? all : worst;
	/* As long ago as it takes for so many to fail when all do. */
	onset = (int32_t)MIN(r.failed * STEP_S / MAX(baseline_expected(&(who == NOBODY ? global_of(d) : at(d, who))->req), 0.1), 60.0);
	in = incident_open(d, WATCH_ERROR, CLASS_ERROR_BURST, who, false, r.z, d->base + MAX(d->tick - onset, 0));
	if (!in)
		return;
	if (who != NOBODY)
		incident_suspect(d, in, who, true);
	in->severity = r.share >= 0.5 ? SEVERITY_CRITICAL : SEVERITY_WARNING;
	incident_tell(d, in, EVENT_OPEN);
}

/* Requests that should have come since the last one, over the dispersion. */
static double silence(const struct detect *d, const struct entity *e, double *ret_seconds)
{
	*ret_seconds = d->tick - e->last;
	return *ret_seconds * baseline_floor(&e->req) / STEP_S / MAX((double)e->req.disp10, 1.0);
}

static void judge_drop(struct detect *d)
{
	struct entity *g = global_of(d);
	double mu = baseline_floor(&g->req) * WINDOW_STEPS, x = entity_requests60(g), z, quiet, seconds;
	struct incident *in;
	bool gone;

	/* While something else is wrong the others' traffic suffers: that is its consequence. */
	if (d->steps < DROP_STEPS || g->last < 0 || incident_any(d, 1u << WATCH_DROP | 1u << WATCH_FLOOD | 1u << WATCH_RISE))
		return;
	z = -baseline_z(x, mu, (double)g->req.disp60, g->n);
	quiet = silence(d, g, &seconds);
	gone = quiet >= DROP_SILENCE && seconds >= DROP_SILENCE_S && seconds >= DROP_GAP * (double)g->gap;
	g->drop_ticks = z >= DROP_Z && x <= DROP_SHARE * mu ? (uint16_t)MIN(g->drop_ticks + 1, 1000) : 0;
	if (gone || g->drop_ticks >= DROP_TICKS) {
		in = incident_open(d, WATCH_DROP, CLASS_TRAFFIC_DROP, NOBODY, true, MAX(z, sqrt(2 * quiet)),
				   d->base + (seconds > STEP_S ? g->last + 1 : MAX(d->tick - STEP_S * WINDOW_STEPS / 2, 0)));
		if (!in)
			return;
		in->severity = gone && quiet >= 3 * DROP_SILENCE ? SEVERITY_CRITICAL : SEVERITY_WARNING;
		incident_tell(d, in, EVENT_OPEN);
		return;
	}
	if (d->tick % STEP_S || g->drop_ticks)
		return;
	for (uint32_t k = 0; k < d->actives; k++) {
		struct entity *e = at(d, d->active[k]);

		if (!is_identity(e) || e->suspect || e->last < 0 || e->n - e->prior < DROP_CUSTOMER_STEPS ||
		    baseline_floor(&e->req) < DROP_CUSTOMER_SHARE * baseline_floor(&g->req))
			continue;
		quiet = silence(d, e, &seconds);
		if (quiet < DROP_SILENCE || seconds < DROP_CUSTOMER_SILENCE_S || seconds < DROP_GAP * (double)e->gap || incident_of(d, e))
			continue;
		in = incident_open(d, WATCH_DROP, CLASS_TRAFFIC_DROP, d->active[k], true, sqrt(2 * quiet), d->base + e->last + 1);
		if (!in)
			return;
		incident_suspect(d, in, d->active[k], true);
		for (uint32_t j = 0; j < d->actives; j++)
			if (is_identity(at(d, d->active[j])) && entity_linked(at(d, d->active[j]), e))
				incident_suspect(d, in, d->active[j], false);
		incident_tell(d, in, EVENT_OPEN);
		return;
	}
}

void judge_tick(struct detect *d)
{
	if (d->steps >= STARTUP_STEPS) {
		judge_floods(d);
		judge_rise(d);
		judge_cost(d);
		judge_errors(d);
		judge_drop(d);
	}
	incident_watch(d);
}
