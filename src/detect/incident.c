/* Incidents: one per cause, with hysteresis at the end, and a memory of five minutes for those that come back. */
#include <math.h>

#include "detect/engine.h"

static double confidence_of(const struct detect *d, const struct incident *in)
{
	double sure = 1 - exp(-MAX(in->score - 3, 0.0) / 4), age = MIN(1.0, d->steps / 60.0);

	if (in->cls == CLASS_UNKNOWN)
		return 0.3;
	return MIN(0.95, 0.5 + 0.35 * sure + 0.1 * age);
}

static void severity_of(const struct detect *d, struct incident *in)
{
	const struct entity *e = in->entity == NOBODY ? global_of(d) : at(d, in->entity);

	if (in->watch == WATCH_FLOOD) {
		const struct entity *g = global_of(d);
		double all = baseline_expected(&g->req) * WINDOW_STEPS;

		/* Five times the usual total, for long enough to be in the minute, on a stream known for ten. */
		if (d->steps >= RISE_STEPS && in->score >= Z_SURE && entity_requests60(g) >= 5 * all)
			in->severity = SEVERITY_CRITICAL;
	} else if (in->watch == WATCH_RISE) {
		if (read_requests(e, true).ratio >= RISE_WARN_RATIO)
			in->severity = MAX(in->severity, SEVERITY_WARNING);
	} else if (in->watch == WATCH_ERROR) {
		if (read_errors(d, e->errors).share >= 0.5)
			in->severity = SEVERITY_CRITICAL;
	} else if (in->watch == WATCH_COST) {
		struct reading r = read_tokens(e);

		if (r.ratio >= 10 && r.x >= WINDOW_STEPS * baseline_expected(&global_of(d)->tok) && d->steps >= RISE_STEPS)
			in->severity = SEVERITY_CRITICAL;
	}
}

/* A wait of this kind ends with the incident it belongs to; the same for a suspect of another name. */
static bool concerns(const struct detect *d, const struct incident *in, const struct entity *e)
{
	if (!is_identity(e))
		return false;
	for (unsigned int k = 0; k < in->suspects; k++)
		if (at(d, in->suspect[k]) == e)
			return true;
	for (unsigned int k = 0; k < in->members; k++)
		if (is_identity(at(d, in->suspect[k])) && entity_linked(at(d, in->suspect[k]), e))
			return true;
	return false;
}

struct incident *incident_of(struct detect *d, const struct entity *e)
{
	for (int i = 0; i < INCIDENTS_MAX; i++)
		if (d->incident[i].used && d->incident[i].open && concerns(d, &d->incident[i], e))
			return &d->incident[i];
	return NULL;
}

bool incident_any(const struct detect *d, unsigned int watches)
{
	for (int i = 0; i < INCIDENTS_MAX; i++) {
		const struct incident *in = &d->incident[i];

		/* One customer's silence is not everybody's. */
		if (in->used && in->open && watches >> in->watch & 1 && !(in->watch == WATCH_DROP && in->entity != NOBODY))
			return true;
	}
	return false;
}

static void release(struct detect *d, struct incident *in)
{
	for (unsigned int k = 0; k < in->suspects; k++) {
		struct entity *e = at(d, in->suspect[k]);

		e->refs--;
		e->suspect = false;
	}
	in->suspects = in->members = 0;
	/* Somebody may be suspected twice. */
	for (int i = 0; i < INCIDENTS_MAX; i++)
		for (unsigned int k = 0; k < d->incident[i].suspects; k++)
			at(d, d->incident[i].suspect[k])->suspect = true;
}

static void set_scope(const struct detect *d, struct incident *in, uint32_t e)
{
	in->entity = e;
	in->scope_kind = e == NOBODY ? ENTITY_GLOBAL : (enum entity_kind)at(d, e)->kind;
	snprintf(in->scope_value, sizeof(in->scope_value), "%s", e == NOBODY ? "" : at(d, e)->name);
}

struct incident *incident_open(struct detect *d, enum watch w, enum anomaly_class cls, uint32_t e, bool slow, double score, int64_t start)
{
	const char *name = e == NOBODY ? "" : at(d, e)->name;
	enum entity_kind kind = e == NOBODY ? ENTITY_GLOBAL : (enum entity_kind)at(d, e)->kind;
	struct incident *in = NULL, *oldest = NULL;
	uint32_t h = 2166136261u;

	for (int i = 0; i < INCIDENTS_MAX && !in; i++) {
		struct incident *k = &d->incident[i];

		if (k->used && !k->open && k->watch == w && d->tick - k->closed <= REOPEN_S && k->scope_kind == kind && !strcmp(k->scope_value, name))
			in = k;
	}
	if (!in) {
		for (int i = 0; i < INCIDENTS_MAX && !in; i++) {
			struct incident *k = &d->incident[i];

			if (!k->used)
				in = k;
			else if (!k->open && (!oldest || k->closed < oldest->closed))
				oldest = k;
		}
		if (!in)
			in = oldest;
		if (!in) {
			d->suppressed++;
			return NULL;
		}
		memset(in, 0, sizeof(*in));
		for (const char *p = name; *p; p++)
			h = (h ^ (unsigned char)*p) * 16777619u;
		snprintf(in->id, sizeof(in->id), "%llx-%x%x-%08x", (unsigned long long)(d->base + d->tick), (unsigned int)w, (unsigned int)kind, h);
		in->start = start;
	}
	in->used = in->open = true;
	in->watch = w;
	in->cls = cls;
	in->slow = slow;
	in->severity = SEVERITY_WARNING;
	in->score = in->score_told = score;
	in->opened = in->above = in->told = d->tick;
	in->suspects = in->members = 0;
	set_scope(d, in, e);
	in->confidence = confidence_of(d, in);
	return in;
}

void incident_suspect(struct detect *d, struct incident *in, uint32_t i, bool member)
{
	unsigned int k = 0;

	while (k < in->suspects && in->suspect[k] != i)
		k++;
	if (k == in->suspects) {
		if (k == SUSPECTS_MAX)
			return;
		in->share[k] = 0;
		in->suspect[in->suspects++] = i;
		at(d, i)->refs++;
		at(d, i)->suspect = true;
	}
	if (member && k >= in->members) {
		uint32_t swap = in->suspect[in->members];
		double share = in->share[in->members];

		in->share[in->members] = in->share[k];
		in->share[k] = share;
		in->suspect[in->members++] = i;
		in->suspect[k] = swap;
	}
}

void incident_tell(struct detect *d, struct incident *in, enum anomaly_event ev)
{
	struct anomaly a;
	char summary[512];

	if (ev == EVENT_OPEN)
		d->stats.opens[in->cls]++;
	in->confidence = confidence_of(d, in);
	describe(d, in, ev, &a, summary, sizeof(summary));
	if (ev != EVENT_CLOSE)
		snprintf(in->summary, sizeof(in->summary), "%s", summary);
	in->told = d->tick;
	in->score_told = in->score;
	in->severity_told = in->severity;
	d->opts.emit(d->opts.ctx, &a);
}

void incident_become(struct detect *d, struct incident *in, enum watch w, enum anomaly_class cls, uint32_t e, double score)
{
	in->watch = w;
	if (in->cls == CLASS_UNKNOWN)
		in->severity = SEVERITY_WARNING;
	in->cls = cls;
	in->slow = false;
	in->score = MAX(in->score, score);
	in->above = d->tick;
	set_scope(d, in, e);
	if (in->opened != d->tick || in->told != d->tick)
		incident_tell(d, in, EVENT_UPDATE);
}

double incident_strength(const struct detect *d, const struct incident *in, double *ret_z)
{
	const struct entity *e = in->entity == NOBODY ? global_of(d) : at(d, in->entity);
	double excess = 0, z = 0, quiet;
	struct error_reading er;
	struct reading r;

	switch (in->watch) {
	case WATCH_FLOOD:
		for (unsigned int k = 0; k < in->members; k++) {
			r = read_requests(at(d, in->suspect[k]), in->slow);
			excess += MAX(r.excess, 0.0);
			z = MAX(z, r.z);
		}
		*ret_z = z;
		return MIN(excess / flood_bar(d, in->slow), z / Z_ENTER);
	case WATCH_RISE:
		r = read_requests(e, true);
		*ret_z = r.z;
		return MIN(r.z / RISE_Z, (r.ratio - 1) / (RISE_RATIO - 1));
	case WATCH_COST:
		r = read_tokens(e);
		*ret_z = r.z;
		return MIN(MIN(r.z / COST_Z, r.excess / cost_bar(d)), (r.ratio - 1) / (COST_RATIO - 1));
	case WATCH_ERROR:
		er = read_errors(d, e->errors);
		*ret_z = er.z;
		return MIN(er.share / ERROR_SHARE, er.z / ERROR_Z);
	case WATCH_DROP:
		quiet = baseline_floor(&e->req) * WINDOW_STEPS;
		z = entity_requests60(e);
		*ret_z = -baseline_z(z, quiet, (double)e->req.disp60, e->n);
		return quiet > 0 ? (1 - z / quiet) / (1 - DROP_SHARE) : 0;
	}
	*ret_z = 0;
	return 0;
}

static void accept(struct detect *d, struct incident *in)
{
	struct entity *e;

	for (unsigned int k = 0; k < in->suspects; k++) {
		e = at(d, in->suspect[k]);
		baseline_accept(&e->req, entity_requests10(e), entity_requests60(e));
		baseline_accept(&e->tok, entity_tokens60(e) / WINDOW_STEPS, entity_tokens60(e));
		if (e->errors)
			e->errors->share = MIN(read_errors(d, e->errors).share, 0.9);
	}
	e = global_of(d);
	if (in->watch == WATCH_ERROR) {
		e->errors->share = MIN(read_errors(d, e->errors).share, 0.9);
		return;
	}
	if (in->entity == NOBODY || in->watch == WATCH_FLOOD) {
		baseline_accept(&e->req, entity_requests10(e), entity_requests60(e));
		baseline_accept(&e->tok, entity_tokens60(e) / WINDOW_STEPS, entity_tokens60(e));
	}
}

/* It ended by itself and was told: the same again, from somebody with a past, is his habit. Doubling at most, so that nobody is taught
 * an attack at one stroke. */
static void habit(struct detect *d, struct incident *in)
{
	for (unsigned int k = 0; k < in->suspects; k++) {
		struct entity *e = at(d, in->suspect[k]);
		struct baseline *b = in->watch == WATCH_COST ? &e->tok : &e->req;
		double usual = baseline_expected(b);

		if (e->n - e->prior < RIPE_STEPS)
			continue;
		b->old10 = (float)MIN(MAX((double)b->old10, in->peak10), HABIT_STEP * MAX((double)b->old10, FLOOD_RATIO * usual));
		b->old60 = (float)MIN(MAX((double)b->old60, in->peak60), HABIT_STEP * MAX((double)b->old60, FLOOD_RATIO * usual * WINDOW_STEPS));
	}
}

static void echo(struct detect *d, struct incident *in)
{
	for (unsigned int k = 0; k < in->suspects; k++)
		at(d, in->suspect[k])->cool = d->tick + COOL_S;
	if (in->watch == WATCH_FLOOD || in->watch == WATCH_RISE)
		d->cool = d->tick + COOL_S;
}

static void finish(struct detect *d, struct incident *in)
{
	if (in->watch == WATCH_FLOOD || in->watch == WATCH_COST)
		habit(d, in);
	echo(d, in);
	in->open = false;
	in->closed = d->tick;
	incident_tell(d, in, EVENT_CLOSE);
	release(d, in);
}

static void watch_peak(const struct detect *d, struct incident *in)
{
	double x10 = 0, x60 = 0;

	for (unsigned int k = 0; k < in->members; k++) {
		const struct entity *e = at(d, in->suspect[k]);

		x10 += in->watch == WATCH_COST ? entity_tokens60(e) / WINDOW_STEPS : entity_requests10(e);
		x60 += in->watch == WATCH_COST ? entity_tokens60(e) : entity_requests60(e);
	}
	in->peak10 = MAX(in->peak10, x10);
	in->peak60 = MAX(in->peak60, x60);
}

void incident_watch(struct detect *d)
{
	for (int i = 0; i < INCIDENTS_MAX; i++) {
		struct incident *in = &d->incident[i];
		double z, strength;

		if (!in->used || !in->open || in->opened == d->tick)
			continue;
		for (unsigned int k = 0; k < in->suspects; k++)
			entity_advance(at(d, in->suspect[k]), d->tick);
		strength = incident_strength(d, in, &z);
		if (strength >= LEAVE_FACTOR)
			in->above = d->tick;
		if (d->tick - in->above >= (in->watch == WATCH_COST ? LEAVE_COST_S : LEAVE_S)) {
			finish(d, in);
			continue;
		}
		if (d->tick - in->opened >= ACCEPT_S && strength >= LEAVE_FACTOR) {
			/* Half an hour of it: this is how things are now. */
			accept(d, in);
			finish(d, in);
			continue;
		}
		in->score = MAX(in->score, z);
		watch_peak(d, in);
		if (strength >= LEAVE_FACTOR)
			describe_shares(d, in);
		severity_of(d, in);
		/* What raises an info to an alarm does not wait. */
		if ((d->tick - in->told >= UPDATE_S || (in->severity_told == SEVERITY_INFO && in->severity > SEVERITY_INFO)) && (in->severity > in->severity_told || in->score >= 2 * in->score_told))
			incident_tell(d, in, EVENT_UPDATE);
	}
}
