/*
 * Incidents: one per cause. A finding refreshes the incident that is open for it, joins the one that causes it, waits until it has
 * been reported often enough, or opens. An incident ends when its finding has not been reported strong enough for a while.
 */
#include <math.h>
#include <stdarg.h>

#include "detect/engine.h"

void finding_init(struct finding *f, enum watch w, enum anomaly_class cls, uint32_t scope, double strength, double score)
{
	memset(f, 0, sizeof(*f));
	f->watch = w;
	f->cls = cls;
	f->severity = SEVERITY_WARNING;
	f->scope = scope;
	f->strength = strength;
	f->score = score;
	f->magnitude = 1;
	f->confidence = 0.7;
	f->needs = 2;
}

void finding_actor(struct finding *f, uint32_t e, double share)
{
	for (unsigned int k = 0; k < f->actors; k++) {
		if (f->actor[k] == e) {
			f->share[k] = MAX(f->share[k], share);
			return;
		}
	}
	if (e == NOBODY || f->actors == SUSPECTS_MAX)
		return;
	f->actor[f->actors] = e;
	f->share[f->actors++] = share;
}

void finding_say(struct finding *f, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(f->summary, sizeof(f->summary), fmt, ap);
	va_end(ap);
}

void finding_evidence(struct finding *f, const char *feature, double observed, double expected, double sigma)
{
	if (f->evidence_count < ANOMALY_EVIDENCE_MAX && isfinite(observed) && isfinite(expected) && isfinite(sigma))
		f->evidence[f->evidence_count++] = (struct anomaly_evidence){ feature, observed, expected, sigma };
}

bool entity_related(const struct detect *d, uint32_t a, uint32_t b)
{
	const struct entity *x, *y;

	if (a == b)
		return true;
	if (a == NOBODY || b == NOBODY)
		return false;
	x = at(d, a);
	y = at(d, b);
	if (x->net == b || y->net == a)
		return true;
	return entity_linked(x, y);
}

static bool same_actors(const struct detect *d, const struct incident *in, const struct finding *f)
{
	if (in->f.scope == f->scope)
		return true;
	for (unsigned int k = 0; k < in->f.actors; k++) {
		/* A network is its members only where it is what the incident is about. */
		if (at(d, in->f.actor[k])->kind == ENTITY_NETWORK && in->f.actor[k] != in->f.scope)
			continue;
		if (entity_related(d, in->f.actor[k], f->scope))
			return true;
		for (unsigned int j = 0; j < f->actors; j++)
			if (entity_related(d, in->f.actor[k], f->actor[j]))
				return true;
	}
	return false;
}

/* What an open cause explains: 0 nothing, 1 the same actors' doings, 2 whatever. */
enum { NOT, SAME, ANY };
static const uint8_t explains[WATCH_COUNT][WATCH_COUNT] = {
	[WATCH_VOLUME] = { [WATCH_ACCESS] = SAME, [WATCH_AUTH] = SAME, [WATCH_BEHAVE] = SAME, [WATCH_COST] = SAME, [WATCH_GROWTH] = SAME, [WATCH_ERROR] = ANY, [WATCH_LATENCY] = ANY, [WATCH_DROP] = ANY },
	[WATCH_ACCESS] = { [WATCH_VOLUME] = SAME, [WATCH_BEHAVE] = SAME, [WATCH_COST] = SAME, [WATCH_GROWTH] = SAME },
	[WATCH_AUTH] = { [WATCH_VOLUME] = SAME, [WATCH_BEHAVE] = SAME },
	[WATCH_BEHAVE] = { [WATCH_VOLUME] = SAME, [WATCH_COST] = SAME, [WATCH_GROWTH] = SAME },
	[WATCH_GROWTH] = { [WATCH_COST] = SAME },
	[WATCH_ERROR] = { [WATCH_AUTH] = SAME, [WATCH_LATENCY] = ANY },
	[WATCH_DROP] = { [WATCH_LATENCY] = ANY },
};
/* A stronger word for what is already told: the open incident becomes this. */
static const uint8_t renames[WATCH_COUNT][WATCH_COUNT] = {
	[WATCH_COST] = { [WATCH_VOLUME] = SAME, [WATCH_ACCESS] = SAME, [WATCH_BEHAVE] = SAME },
	[WATCH_ERROR] = { [WATCH_AUTH] = SAME },
	[WATCH_GROWTH] = { [WATCH_ACCESS] = SAME, [WATCH_BEHAVE] = SAME },
};

/*
 * Whoever was never seen before a botnet came, and sends what bots send, is one of it: their prompts are alike, and their keys
 * are in many places. Not he who tries to get round a model, which bots that want it busy do not.
 */
static bool came_with(const struct detect *d, const struct incident *in, const struct finding *f)
{
	if (in->f.cls == CLASS_DDOS && in->f.scope == NOBODY && f->cls == CLASS_KEY_SHARING)
		return true; /* also of one that was known before */
	if (in->f.cls != CLASS_DDOS || f->scope == NOBODY || d->base + at(d, f->scope)->born < in->f.start - COOL_S)
		return false;
	return (f->cls == CLASS_PROMPT_PROBING && !f->apart) || f->cls == CLASS_COST_SPIKE;
}

/* One who only seemed to flood: the answers that show what he is after come later than his requests, of which he has no use for too many. */
static bool turns_out(const struct detect *d, const struct incident *in, const struct finding *f)
{
	return in->f.cls == CLASS_FLOOD && f->cls == CLASS_SCRAPING && f->strength >= 1 + SCRAPE_SURE / 3 && in->f.scope != NOBODY &&
	       entity_requests60(at(d, in->f.scope)) <= SCRAPE_MOST * baseline_level(&global_of(d)->req) * WINDOW_STEPS && same_actors(d, in, f);
}

static bool holds(const struct detect *d, uint8_t rule, const struct incident *in, const struct finding *f)
{
	return rule == ANY || (rule == SAME && same_actors(d, in, f));
}

/* Somebody's rise that was worth a whisper turns out to be a stolen key. */
static bool outgrows(const struct detect *d, const struct incident *in, const struct finding *f)
{
	return in->f.severity == SEVERITY_INFO && in->f.watch == WATCH_VOLUME && f->watch == WATCH_ACCESS && f->severity > SEVERITY_INFO && in->f.scope != NOBODY && same_actors(d, in, f);
}

struct incident *incident_find(struct detect *d, enum watch w, uint32_t scope)
{
	for (int i = 0; i < INCIDENTS_MAX; i++) {
		struct incident *in = &d->incident[i];

		if (in->used && in->open && in->f.watch == w && in->f.scope == scope)
			return in;
	}
	return NULL;
}

struct incident *incident_of(struct detect *d, const struct entity *e)
{
	for (int i = 0; i < INCIDENTS_MAX; i++) {
		struct incident *in = &d->incident[i];

		if (!in->used || !in->open || !is_identity(e))
			continue;
		for (unsigned int k = 0; k < in->f.actors; k++)
			if (at(d, in->f.actor[k]) == e || entity_linked(at(d, in->f.actor[k]), e))
				return in;
	}
	return NULL;
}

static bool any(const struct detect *d, unsigned int watches, int32_t lately)
{
	for (int i = 0; i < INCIDENTS_MAX; i++) {
		const struct incident *in = &d->incident[i];

		if (in->used && watches >> in->f.watch & 1 && (in->open || d->tick - in->closed < lately))
			return true;
	}
	return false;
}

bool incident_any(const struct detect *d, unsigned int watches)
{
	return any(d, watches, 0);
}

bool incident_lately(const struct detect *d, unsigned int watches)
{
	return any(d, watches, COOL_S);
}

static void tell(struct detect *d, struct incident *in, enum anomaly_event ev)
{
	struct anomaly a;
	char summary[800];

	if (ev == EVENT_OPEN && !in->muted)
		d->stats.opens[in->f.cls]++;
	in->told = d->tick;
	in->score_told = in->f.score;
	in->magnitude_told = in->f.magnitude;
	in->severity_told = severity_of(in);
	in->cls_told = in->f.cls;
	in->scope_told = in->f.scope;
	if (in->muted)
		return;
	if (ev != EVENT_CLOSE)
		in->cost = MAX(in->cost, cost_per_h(d, &in->f));
	if (ev != EVENT_CLOSE)
		markers_cite(d, &in->f, in->cause, sizeof(in->cause), &in->since_cause);
	describe(d, in, ev, &a, summary, sizeof(summary));
	d->opts.emit(d->opts.ctx, &a);
}

static void hold(struct detect *d, const struct finding *f, int by)
{
	for (unsigned int k = 0; k < f->actors; k++) {
		struct entity *e = at(d, f->actor[k]);

		e->refs += (uint32_t)by;
		if (!f->quiet)
			e->suspect = by > 0;
	}
}

/* Somebody may be suspected twice. */
static void suspect_again(struct detect *d)
{
	for (int i = 0; i < INCIDENTS_MAX; i++)
		if (d->incident[i].used && d->incident[i].open && !d->incident[i].f.quiet)
			for (unsigned int k = 0; k < d->incident[i].f.actors; k++)
				at(d, d->incident[i].f.actor[k])->suspect = true;
}

static void set_scope(const struct detect *d, struct incident *in)
{
	const struct entity *e = in->f.scope == NOBODY ? NULL : at(d, in->f.scope);

	in->scope_kind = e ? (enum entity_kind)e->kind : ENTITY_GLOBAL;
	snprintf(in->scope_value, sizeof(in->scope_value), "%s", e ? e->name : "");
}

static double *rate_in(struct anomaly_evidence *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(v[i].feature, "requests_per_s"))
			return &v[i].observed;
	return NULL;
}

/* What was seen when it was strongest is what its end, and a label, are about. */
static void keep_best(const struct detect *d, struct incident *in, const struct finding *f)
{
	struct finding seen = *f;
	double *rate = rate_in(seen.evidence, seen.evidence_count), *before = rate && f->watch == WATCH_BEHAVE ? rate_in(in->best, in->bests) : NULL;
	const struct entity *e = f->scope == NOBODY ? NULL : at(d, f->scope);
	/* A crowd's strength says how new it is, not how large. */
	double strength = f->cls == CLASS_FLASH_CROWD && rate ? *rate : f->strength;

	/* How strongly it behaves so, and how much of it there is, are two things: the most of either. */
	if (before && in->strongest > 0)
		*rate = *before = MAX(*before, *rate);
	if (strength < in->strongest)
		return;
	in->strongest = strength;
	in->bests = f->evidence_count;
	memcpy(in->best, seen.evidence, sizeof(in->best));
	memcpy(in->said, f->summary, sizeof(in->said));
	/* Many requests are one thing, large ones another. */
	if (f->watch == WATCH_VOLUME && e && entity_requests60(e) > 0) {
		in->bests = MIN(in->bests, (size_t)ANOMALY_EVIDENCE_MAX - 1);
		in->best[in->bests++] = (struct anomaly_evidence){ "tokens_per_request", entity_tokens60(e) / entity_requests60(e), baseline_expected(&e->tok) / MAX(baseline_expected(&e->req), 0.01), 0 };
	}
}

/* How much it has come to, and whether it did so on other days. Of one source's requests and bills only: what an attacker does is told each time. */
static void look_for_routine(struct detect *d, struct incident *in)
{
	const struct entity *e = in->f.scope == NOBODY ? NULL : at(d, in->f.scope);

	if (!e || !is_identity(e) || (in->f.cls != CLASS_FLOOD && in->f.cls != CLASS_COST_SPIKE)) {
		in->routine = 0;
		return;
	}
	in->requests = MAX(in->requests, entity_requests300(e));
	in->tokens = MAX(in->tokens, entity_tokens300(e));
	in->routine = has_part(d, PART_HABIT) ? routine_days(d->routines, e->hash, in->f.start, in->requests, in->tokens) : 0;
}

void incident_resume(struct detect *d, struct incident *in)
{
	if (!in->open)
		return;
	hold(d, &in->f, 1);
	suspect_again(d);
}

static void refresh(struct detect *d, struct incident *in, const struct finding *f)
{
	struct finding old = in->f;

	if (f->strength >= LEAVE_FACTOR)
		in->above = d->tick;
	if (f->strength < LEAVE_FACTOR && f->watch == old.watch)
		return; /* what is said of it when it is nearly over does not describe it */
	hold(d, &old, -1);
	if (f->cls != old.cls)
		in->strongest = 0;
	keep_best(d, in, f);
	in->f = *f;
	/* While it wanes, what is left of it looks like anybody's. */
	/* A key and its user are one: what was told first stays. */
	if ((f->joins || (f->watch == WATCH_ACCESS && entity_related(d, f->scope, old.scope)) || (f->strength < 1 && f->watch == old.watch && f->cls == old.cls)) && f->scope != old.scope)
		in->f.scope = old.scope;
	in->f.start = old.start;
	in->f.score = MAX(old.score, f->score);
	in->f.magnitude = MAX(old.magnitude, f->magnitude);
	in->f.severity = old.severity == SEVERITY_INFO || f->severity > old.severity ? f->severity : old.severity;
	if (f->cls == CLASS_FLASH_CROWD)
		in->f.severity = f->severity;
	/* Who was named stays held, so that the end of the incident knows them. */
	for (unsigned int k = 0; k < old.actors; k++)
		finding_actor(&in->f, old.actor[k], old.share[k]);
	hold(d, &in->f, 1);
	suspect_again(d);
	if (in->f.scope != old.scope)
		set_scope(d, in);
	if (d->opts.prices && d->tick % STEP_S == STEP_S - 1)
		in->cost = MAX(in->cost, cost_per_h(d, &in->f));
	look_for_routine(d, in);
	/* More than what was called a false positive. */
	if (in->muted && f->strength >= 1 && !feedback_mutes(d, &in->f, false)) {
		in->muted = false;
		tell(d, in, EVENT_OPEN);
		return;
	}
	if (in->f.cls != in->cls_told || severity_of(in) > in->severity_told || in->f.scope != in->scope_told) {
		if (d->tick - in->told >= UPDATE_FAST_S || in->severity_told == SEVERITY_INFO)
			tell(d, in, EVENT_UPDATE);
	} else if (d->tick - in->told >= UPDATE_S && in->f.magnitude >= 2 * in->magnitude_told) {
		tell(d, in, EVENT_UPDATE);
	}
}

static struct incident *take_slot(struct detect *d)
{
	struct incident *oldest = NULL;

	for (int i = 0; i < INCIDENTS_MAX; i++) {
		struct incident *k = &d->incident[i];

		if (!k->used)
			return k;
		if (!k->open && (!oldest || k->closed < oldest->closed))
			oldest = k;
	}
	return oldest;
}

static struct incident *open_new(struct detect *d, const struct finding *f)
{
	struct incident *in = NULL;
	uint32_t h = 2166136261u;

	for (int i = 0; i < INCIDENTS_MAX && !in; i++) {
		struct incident *k = &d->incident[i];

		if (k->used && !k->open && k->f.watch == f->watch && d->tick - k->closed <= REOPEN_S && k->f.scope == f->scope)
			in = k;
	}
	if (in) {
		int64_t start = in->f.start;

		in->f = *f;
		in->f.start = start;
	} else {
		in = take_slot(d);
		if (!in) {
			d->suppressed++;
			return NULL;
		}
		memset(in, 0, sizeof(*in));
		in->f = *f;
		set_scope(d, in);
		for (const char *p = in->scope_value; *p; p++)
			h = (h ^ (unsigned char)*p) * 16777619u;
		snprintf(in->id, sizeof(in->id), "%llx-%x%x-%08x", (unsigned long long)(d->base + d->tick), (unsigned int)f->watch, (unsigned int)in->scope_kind, h);
	}
	in->used = in->open = true;
	in->muted = feedback_mutes(d, f, true);
	in->dismissed = in->confirmed = false;
	opinion_ask(d, in);
	in->strongest = 0;
	keep_best(d, in, f);
	in->related = 0;
	in->opened = in->above = d->tick;
	set_scope(d, in);
	hold(d, &in->f, 1);
	suspect_again(d);
	look_for_routine(d, in);
	tell(d, in, EVENT_OPEN);
	return in;
}

/* Has it been reported often enough? */
static bool ripe(struct detect *d, const struct finding *f)
{
	struct pending *slot = NULL, *oldest = &d->pending[0];
	int32_t patience = STEP_S * 3 / 2; /* two reports of one finding are at most so far apart: detectors run each second or each step */

	if (f->needs <= 1)
		return true;
	for (int i = 0; i < PENDING_FINDINGS; i++) {
		struct pending *p = &d->pending[i];

		if (p->reports && p->watch == f->watch && p->scope == f->scope && d->tick - p->last <= patience) {
			slot = p;
			break;
		}
		if (!oldest->reports)
			continue;
		if (!p->reports || p->last < oldest->last)
			oldest = p;
	}
	if (!slot) {
		slot = oldest;
		*slot = (struct pending){ .watch = f->watch, .scope = f->scope, .first = d->tick };
	}
	slot->last = d->tick;
	slot->reports++;
	if (slot->reports < f->needs)
		return false;
	slot->reports = 0;
	return true;
}

static void finish(struct detect *d, struct incident *in);

/* Does k, which is not told, stand for what f tells of? */
static bool mutes(struct detect *d, const struct incident *k, const struct finding *f)
{
	return k->muted && feedback_mutes(d, f, false);
}

static struct incident *report(struct detect *d, const struct finding *f)
{
	struct incident *in = incident_find(d, f->watch, f->scope);

	for (int i = 0; i < INCIDENTS_MAX && !in; i++) {
		struct incident *k = &d->incident[i];

		if (!k->used || !k->open || k->f.watch != f->watch || (k->muted && !mutes(d, k, f)))
			continue;
		if (same_actors(d, k, f) || (f->joins && k->f.cls == f->cls && d->tick - k->opened <= f->joins))
			in = k;
	}
	/* The same actors doing another thing, long after: the one is over and the other begins. */
	if (in && f->strength >= 1 && f->cls != in->f.cls && !(f->cls == CLASS_FLASH_CROWD || in->f.cls == CLASS_FLASH_CROWD || in->f.cls == CLASS_UNKNOWN) && d->tick - in->opened >= PHASE_S) {
		if (!ripe(d, f))
			return in;
		finish(d, in);
		return open_new(d, f);
	}
	if (in) {
		refresh(d, in, f);
		return in;
	}
	if (f->strength < 1)
		return NULL;
	for (int i = 0; i < INCIDENTS_MAX && has_part(d, PART_ONE_CAUSE); i++) {
		struct incident *k = &d->incident[i];
		bool lately;

		if (!k->used || (k->muted && !feedback_excuses(d, k, f))) /* what nobody was told of explains nothing */
			continue;
		lately = !k->open && d->tick - k->closed < COOL_S;
		if (k->open && turns_out(d, k, f))
			continue;
		if (f->watch < k->f.watch && f->strength >= PHASE_STRENGTH && d->tick - k->opened >= PHASE_S && !(k->f.cls == CLASS_SCRAPING && d->tick - k->above < SCRAPE_SEEN_S))
			continue;
		if (k->open && outgrows(d, k, f))
			continue;
		if ((k->open || lately) && (holds(d, explains[k->f.watch][f->watch], k, f) || came_with(d, k, f))) {
			k->related |= UINT64_C(1) << f->watch;
			if (k->open && same_actors(d, k, f) && f->strength >= 1 && explains[k->f.watch][f->watch] == SAME)
				k->above = d->tick; /* what it does goes on, under whatever name */
			return NULL;
		}
		/* The end of an attack or of a silence is no news of its own. */
		if (lately && ((k->f.watch == WATCH_VOLUME && f->watch == WATCH_DROP) || (k->f.watch == WATCH_DROP && f->watch == WATCH_VOLUME && f->scope == NOBODY)))
			return NULL;
		if (lately && k->f.watch == f->watch && same_actors(d, k, f) && f->strength < ECHO_STRENGTH)
			return NULL;
	}
	if (!ripe(d, f))
		return NULL;
	for (int i = 0; i < INCIDENTS_MAX && has_part(d, PART_ONE_CAUSE); i++) {
		struct incident *k = &d->incident[i];

		if (k->used && k->open && (holds(d, renames[k->f.watch][f->watch], k, f) || turns_out(d, k, f) || outgrows(d, k, f))) {
			k->related |= UINT64_C(1) << k->f.watch;
			refresh(d, k, f);
			return k;
		}
	}
	return open_new(d, f);
}

struct incident *incident_report(struct detect *d, const struct finding *f)
{
	double bar = budget_bar(d->budget), held = budget_held(d->budget, f, d->tick);
	bool capped = f->strength == FEEDBACK_CAPPED, sharper = d->feedback && f->strength >= LEAVE_FACTOR && !capped && feedback_sharpens(d, f);
	struct incident *in;

	if (sharper || (bar != 1 && !capped)) {
		struct finding other = *f;

		other.strength /= bar * (sharper ? FEEDBACK_SHARP : 1);
		if (sharper)
			other.needs = (uint8_t)ceil(FEEDBACK_SHARP * f->needs);
		in = report(d, &other);
	} else {
		in = report(d, f);
	}
	/* What belongs to an incident is its peak, told when it ends; what belongs to none has nearly rung. */
	if (in)
		in->held = MAX(in->held, held);
	else if (held > 0)
		budget_peak(d->budget, held, d->tick);
	return in;
}

static void accept(struct detect *d, struct incident *in)
{
	for (unsigned int k = 0; k < in->f.actors; k++) {
		struct entity *e = at(d, in->f.actor[k]);

		baseline_accept(&e->req, entity_requests10(e), entity_requests60(e), entity_requests300(e));
		baseline_accept(&e->tok, entity_tokens60(e) / WINDOW_STEPS, entity_tokens60(e), entity_tokens300(e));
		behave_accept(d, in->f.actor[k]);
	}
	if (in->f.watch == WATCH_VOLUME || in->f.scope == NOBODY) {
		struct entity *e = global_of(d);

		baseline_accept(&e->req, entity_requests10(e), entity_requests60(e), entity_requests300(e));
		baseline_accept(&e->tok, entity_tokens60(e) / WINDOW_STEPS, entity_tokens60(e), entity_tokens300(e));
	}
}

static void finish(struct detect *d, struct incident *in)
{
	for (unsigned int k = 0; k < in->f.actors; k++)
		at(d, in->f.actor[k])->cool = d->tick + COOL_S;
	if (in->f.watch == WATCH_VOLUME)
		d->cool = d->tick + COOL_S;
	in->open = false;
	in->closed = d->tick;
	if (in->held > 0 && !in->muted && !in->confirmed)
		budget_peak(d->budget, in->held, d->tick);
	in->held = 0;
	/* By each of its names: the key tonight may be told of by its address tomorrow. */
	for (unsigned int k = 0; k < in->f.actors && !in->confirmed && (in->requests > 0 || in->tokens > 0); k++)
		if (is_identity(at(d, in->f.actor[k])) && (in->f.actor[k] == in->f.scope || in->f.share[k] >= FEW_SHARE))
			routine_note(d->routines, at(d, in->f.actor[k])->hash, in->f.start, in->requests, in->tokens);
	tell(d, in, EVENT_CLOSE);
	hold(d, &in->f, -1);
	in->f.actors = 0;
	suspect_again(d);
}

void incident_watch(struct detect *d)
{
	budget_roll(d->budget, d->tick);
	for (int i = 0; i < INCIDENTS_MAX; i++) {
		struct incident *in = &d->incident[i];

		if (!in->used || !in->open)
			continue;
		if (in->dismissed || d->tick - in->above >= (in->f.leave_s ? in->f.leave_s : LEAVE_S)) {
			finish(d, in);
		} else if (!in->muted && !in->confirmed && d->tick - in->opened >= (in->f.accept_s ? in->f.accept_s : ACCEPT_S)) {
			accept(d, in);
			finish(d, in);
		}
	}
}
