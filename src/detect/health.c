/* Errors of a model or of all; traffic that falls away. */
#include <math.h>

#include "detect/engine.h"

struct error_reading {
	double done, failed, share, z;
};

static struct error_reading read_errors(const struct detect *d, const struct errors *er)
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

static double fails(const struct detect *d, struct entity *e, struct error_reading *ret)
{
	double s;

	entity_advance(e, d->tick);
	*ret = read_errors(d, e->errors);
	s = MIN(ret->failed / ERROR_MIN, MIN(ret->share / ERROR_SHARE, ret->z / ERROR_Z));
	e->errors->hist = (uint8_t)(e->errors->hist << 1 | (s >= 1));
	return s;
}

static void judge_errors(struct detect *d)
{
	struct error_reading all, r, worst = { 0 };
	uint32_t who = NOBODY;
	double any = fails(d, global_of(d), &all), strength = any;
	struct finding f;
	char name[ENTITY_NAME_MAX + 32];

	for (uint32_t k = 0; k < d->touches; k++) {
		struct entity *e = at(d, d->touched[k]);
		double s;

		if (e->kind != ENTITY_MODEL)
			continue;
		s = fails(d, e, &r);
		if (s >= LEAVE_FACTOR && r.failed > worst.failed) {
			worst = r;
			who = d->touched[k];
			strength = s;
		}
	}
	if (who != NOBODY && any >= LEAVE_FACTOR && worst.failed < FEW_SHARE * all.failed) {
		who = NOBODY;
		strength = any;
	}
	if (strength < LEAVE_FACTOR)
		return;
	r = who == NOBODY ? all : worst;
	finding_init(&f, WATCH_ERROR, CLASS_ERROR_BURST, who, strength, r.z);
	f.needs = 2;
	f.leave_s = LEAVE_ERROR_S;
	f.quiet = true;
	f.magnitude = r.share;
	f.severity = r.share >= 0.5 ? SEVERITY_CRITICAL : SEVERITY_WARNING;
	/* As long ago as it takes for so many to fail when all do. */
	f.start = d->base + MAX(d->tick - (int32_t)MIN(r.failed * STEP_S / MAX(baseline_expected(&(who == NOBODY ? global_of(d) : at(d, who))->req), 0.1), 60.0), 0);
	finding_actor(&f, who, r.failed / MAX(all.failed, 1.0));
	finding_evidence(&f, "error_share", r.share, (who == NOBODY ? global_of(d) : at(d, who))->errors->share, r.z);
	finding_evidence(&f, "errors", r.failed, r.done * (who == NOBODY ? global_of(d) : at(d, who))->errors->share, r.z);
	finding_say(&f, "%.0f %% of the requests to %s fail (%.0f of %.0f); %.1f %% is usual", r.share * 100, who == NOBODY ? "all models" : describe_who(d, who, name, sizeof(name)),
		    r.failed, r.done, (who == NOBODY ? global_of(d) : at(d, who))->errors->share * 100);
	incident_report(d, &f);
}

/* Requests that should have come since the last one, over the dispersion. */
static double silence(const struct detect *d, const struct entity *e, double *ret_seconds)
{
	*ret_seconds = d->tick - e->last;
	return *ret_seconds * baseline_floor(&e->req) / STEP_S / MAX((double)e->req.disp10, 1.0);
}

static void report_drop(struct detect *d, uint32_t who, double strength, double z, double x, double mu, double quiet, int32_t needs)
{
	const struct entity *e = who == NOBODY ? global_of(d) : at(d, who);
	struct finding f;
	char name[ENTITY_NAME_MAX + 32];

	finding_init(&f, WATCH_DROP, CLASS_TRAFFIC_DROP, who, strength, z);
	f.needs = (uint8_t)needs;
	f.magnitude = (mu + 1e-9) / MAX(x, mu / 100 + 1e-9);
	f.start = d->base + (quiet > STEP_S ? e->last + 1 : MAX(d->tick - STEP_S * WINDOW_STEPS / 2, 0));
	f.severity = who == NOBODY && strength >= 3 ? SEVERITY_CRITICAL : SEVERITY_WARNING;
	finding_actor(&f, who, 1);
	for (uint32_t j = 0; who != NOBODY && j < d->actives; j++)
		if (is_identity(at(d, d->active[j])) && entity_linked(at(d, d->active[j]), e))
			finding_actor(&f, d->active[j], 1);
	finding_evidence(&f, "requests_per_s", x / 60, mu / 60, -z);
	finding_evidence(&f, "silence_s", quiet, (double)e->gap, 0);
	if (quiet > STEP_S)
		finding_say(&f, "no request from %s for %.0f s where %.2f/s are usual", describe_who(d, who, name, sizeof(name)), quiet, mu / 60);
	else
		finding_say(&f, "requests from %s fell to %.2f/s where %.2f/s are usual", describe_who(d, who, name, sizeof(name)), x / 60, mu / 60);
	incident_report(d, &f);
}

static void judge_drop(struct detect *d)
{
	struct entity *g = global_of(d);
	double mu = baseline_floor(&g->req) * WINDOW_STEPS, x = entity_requests60(g), z, quiet, seconds;
	bool gone;

	if (d->steps < DROP_STEPS || g->last < 0)
		return;
	z = -baseline_z(x, mu, (double)g->req.disp60, g->n);
	quiet = silence(d, g, &seconds);
	gone = seconds >= DROP_SILENCE_S && seconds >= DROP_GAP * (double)g->gap;
	if (gone && quiet >= LEAVE_FACTOR * DROP_SILENCE)
		report_drop(d, NOBODY, quiet / DROP_SILENCE, sqrt(2 * quiet), x, mu, seconds, 1);
	else if (mu > 0 && z >= LEAVE_FACTOR * DROP_Z)
		report_drop(d, NOBODY, MIN(z / DROP_Z, (1 - x / mu) / (1 - DROP_SHARE)), z, x, mu, seconds, DROP_TICKS);
	if (d->tick % STEP_S)
		return;
	for (uint32_t k = 0; k < d->actives; k++) {
		struct entity *e = at(d, d->active[k]);

		if (!is_identity(e) || e->last < 0 || e->n - e->prior < DROP_CUSTOMER_STEPS ||
		    baseline_floor(&e->req) < DROP_CUSTOMER_SHARE * baseline_floor(&g->req))
			continue;
		if (e->suspect && !incident_find(d, WATCH_DROP, d->active[k]))
			continue;
		quiet = silence(d, e, &seconds);
		if (quiet < LEAVE_FACTOR * DROP_SILENCE || seconds < DROP_CUSTOMER_SILENCE_S || seconds < DROP_GAP * (double)e->gap)
			continue;
		entity_advance(e, d->tick);
		report_drop(d, d->active[k], quiet / DROP_SILENCE, sqrt(2 * quiet), entity_requests60(e), baseline_floor(&e->req) * WINDOW_STEPS, seconds, 1);
	}
}

void health_tick(struct detect *d)
{
	judge_errors(d);
	judge_drop(d);
}
