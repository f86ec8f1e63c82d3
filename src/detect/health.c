/*
 * Errors of a model, a server or of all; traffic that falls away.
 *
 * Errors: a CUSUM of the log likelihood ratio of a burst against the usual share, per entity. It needs no window: a flood of requests that
 * all fail shows within seconds, a third of one request a minute within a quarter of an hour.
 *
 * Drops: requests of the last 2, 5 and 15 min against what the minutes before them promised, on the scale of how far such windows usually
 * fall short for this very entity; and silences, against the longest one it is known for.
 */
#include <math.h>

#include "detect/engine.h"

#define MINUTE_S 60

static uint32_t scope_of(const struct detect *d, uint32_t i)
{
	return i == d->global ? NOBODY : i;
}

/* ---- errors ---------------------------------------------------------------------------------------- */

/* What ended in this second; how many of them failed. */
static double errors_count(struct errors *er, int32_t tick)
{
	int32_t step = tick / STEP_S;
	double done, failed, usual, burst, gain;

	if (er->seen_step != step) {
		er->seen_step = step;
		er->seen_done = er->seen_failed = 0;
	}
	done = (double)(er->done[step % WINDOW_STEPS] - er->seen_done);
	failed = (double)(er->failed[step % WINDOW_STEPS] - er->seen_failed);
	er->seen_done = er->done[step % WINDOW_STEPS];
	er->seen_failed = er->failed[step % WINDOW_STEPS];
	if (done <= 0)
		return 0;
	er->late_done += (float)done;
	er->late_failed += (float)failed;
	usual = MIN(MAX(ERROR_USUAL * er->share, ERROR_USUAL_MIN), 0.5);
	burst = MIN(MAX(ERROR_BURST * usual, ERROR_BURST_MIN), 0.9);
	gain = failed * log(burst / usual) + (done - failed) * log((1 - burst) / (1 - usual));
	if (er->run <= 0) {
		er->run_since = tick;
		er->run_done = er->run_failed = 0;
	}
	er->run = (float)MIN((double)er->run + gain, ERROR_CAP * ERROR_H * MAX(1.0, (double)er->habit / ERROR_H));
	er->run_done += (float)done;
	er->run_failed += (float)failed;
	if (er->run < 0)
		er->run = 0;
	return failed;
}

static double errors_strength(const struct errors *er)
{
	double need = MAX(ERROR_H, MIN(ERROR_HABIT * (double)er->habit, ERROR_HABIT_MAX * ERROR_H));

	return MIN((double)er->run / need, (double)er->run_failed / ERROR_MIN);
}

static double errors_tick(struct detect *d, struct entity *e, bool open)
{
	struct errors *er = e->errors;
	double before = (double)er->run, s, keep, failed;

	entity_advance(e, d->tick);
	keep = pow(ERROR_LATE_KEEP, MAX(d->tick - er->late, 1));
	er->late = d->tick;
	er->late_done *= (float)keep;
	er->late_failed *= (float)keep;
	er->run *= (float)sqrt(keep);
	failed = errors_count(er, d->tick);
	s = errors_strength(er);
	/* It takes a failure to open: what is left of an old run is no news. */
	if (!open && failed <= 0)
		s = MIN(s, 0.99);
	er->habit *= (float)ERROR_HABIT_KEEP;
	/* A run that went down by itself is how this model is. */
	er->told = (er->told || s >= 1) && (double)er->run >= 1;
	if (!open && !er->told && (double)er->run < before)
		er->habit = MAX(er->habit, er->run);
	er->hist = s >= 0.5 ? 7 : 0;
	return s;
}

/* Is there another model (or, for a server, another server) that would show it, were it everybody's trouble, and does not? */
static bool healthy_other(const struct detect *d, const struct entity *e)
{
	double share = (double)e->errors->late_failed / MAX((double)e->errors->late_done, 1.0);

	for (uint32_t k = 0; k < d->actives; k++) {
		const struct entity *o = at(d, d->active[k]);

		if (o != e && o->kind == e->kind && (double)o->errors->late_done * share >= ERROR_REST &&
		    (double)o->errors->late_failed < ERROR_REST_SHARE * share * (double)o->errors->late_done)
			return true;
	}
	return false;
}

static void report_errors(struct detect *d, uint32_t who, double strength)
{
	struct entity *g = global_of(d), *e = at(d, who);
	const struct errors *er = e->errors;
	double share = (double)er->run_failed / MAX((double)er->run_done, 1.0), expected = MAX(er->share, ERROR_USUAL_MIN);
	double z = ((double)er->run_failed - (double)er->run_done * expected) / sqrt((double)er->run_done * expected * (1 - expected) + 1);
	struct finding f;
	char name[ENTITY_NAME_MAX + 32];

	finding_init(&f, WATCH_ERROR, CLASS_ERROR_BURST, scope_of(d, who), strength, MIN(z, 40.0));
	f.needs = 1;
	/* Where little comes, little fails in a minute. */
	f.leave_s = (int32_t)MAX(LEAVE_ERROR_S, MIN(LEAVE_ERROR_S / MAX(baseline_expected(&e->req) / STEP_S, 1e-3), 600.0));
	f.accept_s = ACCEPT_ERROR_S;
	f.quiet = true;
	f.magnitude = share;
	/* A rollout also fails for a moment. */
	f.severity = share >= 0.5 && (double)er->run_failed >= 4 * ERROR_MIN && d->tick - er->run_since >= 60 ? SEVERITY_CRITICAL : SEVERITY_WARNING;
	f.start = d->base + er->run_since;
	if (who != d->global)
		finding_actor(&f, who, MIN(1.0, (double)er->late_failed / MAX((double)g->errors->late_failed, 1.0)));
	else
		for (uint32_t k = 0; k < d->actives; k++)
			if (at(d, d->active[k])->kind == ENTITY_MODEL && at(d, d->active[k])->errors->late_failed > 0)
				finding_actor(&f, d->active[k], MIN(1.0, (double)at(d, d->active[k])->errors->late_failed / MAX((double)g->errors->late_failed, 1.0)));
	finding_evidence(&f, "error_share", share, er->share, z);
	finding_evidence(&f, "errors", (double)er->run_failed, (double)er->run_done * er->share, z);
	finding_say(&f, "%.0f %% of the requests to %s fail (%.0f of %.0f); %.1f %% is usual", share * 100, who == d->global ? "all models" : describe_who(d, who, name, sizeof(name)),
		    (double)er->run_failed, (double)er->run_done, er->share * 100);
	incident_report(d, &f);
}

static void judge_errors(struct detect *d)
{
	bool open = incident_any(d, 1u << WATCH_ERROR), told = false;
	double all = errors_tick(d, global_of(d), incident_find(d, WATCH_ERROR, NOBODY) != NULL);
	uint32_t worst = d->global;
	double most = all;

	for (int kind = ENTITY_MODEL; kind >= ENTITY_SERVER; kind--) {
		for (uint32_t k = 0; k < d->touches; k++) {
			struct entity *e = at(d, d->touched[k]);
			double s;

			if (e->kind != kind)
				continue;
			s = errors_tick(d, e, open && incident_find(d, WATCH_ERROR, d->touched[k]));
			if (s < LEAVE_FACTOR)
				continue;
			if (s > most) {
				most = s;
				worst = d->touched[k];
			}
			/* Of a server and its model, the model. */
			if ((kind == ENTITY_MODEL || !told) && healthy_other(d, e)) {
				report_errors(d, d->touched[k], s);
				told = true;
			}
		}
	}
	if (told || most < LEAVE_FACTOR)
		return;
	report_errors(d, all >= LEAVE_FACTOR ? d->global : worst, most);
}

/* ---- drops ----------------------------------------------------------------------------------------- */

static const int window[DROP_WINDOWS] = { 2, 5, 15 };

static int by_value(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return x < y ? -1 : x > y;
}

static double minutes_sum(const struct drop_state *s, int32_t from, int n)
{
	double sum = 0;

	for (int i = 0; i < n; i++)
		sum += (double)s->minute[(uint32_t)(from + i) % DROP_MINUTES];
	return sum;
}

/* Requests a minute that the time before the last w minutes promised: neither more than just now, nor than the hour's median, nor much more than all its life. */
static double promised(const struct entity *e, const struct drop_state *s, int w)
{
	float v[DROP_MINUTES];
	int known = MIN((int)s->n, DROP_MINUTES) - w, near = MIN(known, 3 * w), n = MIN(known, 60);

	if (known < 5)
		return 0;
	for (int i = 0; i < n; i++)
		v[i] = s->minute[(uint32_t)(s->last - w - i) % DROP_MINUTES];
	qsort(v, (size_t)n, sizeof(*v), by_value);
	return MIN(MIN(minutes_sum(s, s->last - w - near + 1, near) / near, (double)(v[n / 2] + v[(n - 1) / 2]) / 2), DROP_SLOW * (double)e->req.slow * MINUTE_S / STEP_S);
}

/* Is what comes in now no measure of how things are? */
static bool disturbed(const struct detect *d, const struct entity *e)
{
	return e->kind == ENTITY_GLOBAL ? incident_lately(d, 1u << WATCH_VOLUME) : e->suspect;
}

/* Who may leave: an identity, or a network (a customer without a key, behind many addresses). */
static bool is_customer(const struct entity *e)
{
	return is_identity(e) || e->kind == ENTITY_NETWORK;
}

static void drop_roll(const struct detect *d, const struct entity *e, struct drop_state *s, int32_t minute)
{
	if (!s->n) {
		s->last = minute - 1;
		s->n = 1;
	}
	/* More than the ring holds is silence all the same. */
	if (minute - 1 - s->last > DROP_MINUTES)
		s->last = minute - 1 - DROP_MINUTES;
	while (s->last < minute - 1) {
		s->last++;
		s->minute[(uint32_t)s->last % DROP_MINUTES] = disturbed(d, e) && s->level > 0 ? MIN(s->now, s->level) : s->now;
		s->now = 0;
		s->n++;
	}
}

static void drop_count(struct detect *d, struct entity *e, struct drop_state *s)
{
	entity_advance(e, d->tick);
	drop_roll(d, e, s, d->tick / MINUTE_S);
	s->now += e->s10[d->tick / STEP_S % LONG_STEPS];
}

struct fall {
	double strength, seen, expected, z; /* requests in the window */
	int minutes;
};

static double young(const struct drop_state *s)
{
	return 1 + DROP_YOUNG / (DROP_YOUNG + s->n);
}

/* A minute is over. */
static struct fall drop_judge(const struct detect *d, const struct entity *e, struct drop_state *s, bool open)
{
	struct fall worst = { 0 };
	bool teach = !open && !disturbed(d, e);

	if (open || (e->kind == ENTITY_GLOBAL && incident_any(d, 1u << WATCH_DROP)))
		s->gone = s->last;

	for (int k = 0; k < DROP_WINDOWS; k++) {
		int w = window[k];
		double per = open ? (double)s->held : promised(e, s, w), seen = minutes_sum(s, s->last - w + 1, w), expected = per * w;
		double r = 2 * (sqrt(seen + 0.375) - sqrt(expected + 0.375)), sd = (double)s->sd[k], strength;

		if (k == 1 && !open)
			s->level = (float)per;
		if ((int)s->n < 2 * w + 5 || per <= 0)
			continue;
		/* What was lost in the last incident is no news. */
		if (!open && s->last - w < s->gone)
			continue;
		if (sd <= 0)
			sd = sqrt(MAX((double)e->req.disp60, 1.0) * (1 + 1.0 / 3));
		if (open) {
			/* How far it still is from what was; the larger windows remember too long. */
			strength = k == 0 ? 0 : (1 - seen / expected) / (1 - DROP_SHARE);
			if (k == 1)
				worst = (struct fall){ MIN(strength, 3.0), seen, expected, -r / sd, w };
			continue;
		}
		strength = MIN(MIN(-r / sd / (DROP_Z * young(s) * (e->kind == ENTITY_GLOBAL ? 1 : DROP_CUSTOMER_Z)), (expected - seen) / (e->kind == ENTITY_GLOBAL ? DROP_LOST : DROP_CUSTOMER_LOST)),
			       MIN((1 - seen / expected) / (1 - DROP_SHARE), -r / MAX(DROP_HABIT * (double)s->peak[k], 1e-9)));
		if (strength > worst.strength)
			worst = (struct fall){ strength, seen, expected, -r / sd, w };
		s->peak[k] *= (float)DROP_PEAK_KEEP;
		if (strength >= 1 && !disturbed(d, e)) /* an alarm teaches, too, but not all of it */
			s->dip[k] = (float)MAX((double)s->dip[k], MIN(-r, DROP_AGAIN * MAX((double)s->peak[k], DROP_Z * sd)));
		if (!teach || strength >= 1)
			continue;
		if (-r > sd) {
			s->dip[k] = (float)MAX((double)s->dip[k], -r);
		} else if (s->dip[k] > 0) {
			s->peak[k] = MAX(s->peak[k], s->dip[k]);
			s->dip[k] = 0;
		}
		r = MAX(-4 * sd, MIN(r, 2 * sd));
		sd = sqrt(sd * sd + MAX(1 - exp2(-1 / DROP_SD_HALF), 1 / (DROP_SD_PRIOR + s->n)) * (r * r - sd * sd));
		s->sd[k] = (float)MAX(sd, 1.0);
	}
	return worst;
}

/* Requests that should have come since the last one, over the dispersion; strength of that. */
static double silence(struct drop_state *s, const struct entity *e, int32_t tick, int32_t least_s, bool open)
{
	double quiet = (tick - e->last) * (open ? (double)s->held : (double)s->level) / MINUTE_S / MAX(MAX((double)e->req.disp10, (double)e->req.disp60), 1.0);
	double need = DROP_SILENCE * (e->kind == ENTITY_GLOBAL ? 1 : DROP_CUSTOMER_SILENCE);

	if (e->last != s->silent_since) {
		/* It is over: that long is usual. What was an alarm raises the bar by half at most. */
		s->quiet = MAX(s->quiet, (float)MIN((double)s->silence, DROP_AGAIN * MAX((double)s->quiet, need)));
		s->silent_since = e->last;
		s->told = false;
	}
	s->silence = (float)quiet;
	if (open)
		s->told = true;
	/* Who was missed once, and accepted as gone, is not missed again before he is back. */
	if (tick - e->last < least_s || (s->told && !open))
		return 0;
	return MIN(quiet / (need * young(s)), quiet / MAX(DROP_QUIET * (double)s->quiet, 1e-9));
}

static void report_drop(struct detect *d, uint32_t who, const struct fall *fall, double quiet)
{
	const struct entity *e = at(d, who);
	struct finding f;
	char name[ENTITY_NAME_MAX + 32];
	double before = fall->expected / fall->minutes / MINUTE_S, after = fall->seen / fall->minutes / MINUTE_S;
	struct incident *in;

	finding_init(&f, WATCH_DROP, CLASS_TRAFFIC_DROP, scope_of(d, who), fall->strength, MIN(fall->z, 40.0));
	f.needs = 1;
	f.leave_s = LEAVE_DROP_S;
	f.magnitude = before / MAX(after, before / 100 + 1e-9);
	f.start = d->base + (quiet > STEP_S ? e->last + 1 : MAX(d->tick - MINUTE_S * fall->minutes, 0));
	f.accept_s = ACCEPT_DROP_S;
	/* A restart is silent for half a minute, too. */
	f.severity = who == d->global && f.magnitude >= 5 && (quiet >= DROP_CRITICAL_S || fall->minutes * MINUTE_S >= 2 * DROP_CRITICAL_S) ? SEVERITY_CRITICAL : SEVERITY_WARNING;
	if (who != d->global) {
		finding_actor(&f, who, 1);
		for (uint32_t j = 0; j < d->actives; j++)
			if (is_customer(at(d, d->active[j])) && entity_related(d, d->active[j], who))
				finding_actor(&f, d->active[j], 1);
	}
	finding_evidence(&f, "requests_per_s", after, before, -fall->z);
	finding_evidence(&f, "silence_s", quiet, 0, 0);
	if (quiet >= DROP_SILENCE_S)
		finding_say(&f, "no request from %s for %.0f s where %.2f/s are usual", describe_who(d, f.scope, name, sizeof(name)), quiet, before);
	else
		finding_say(&f, "requests from %s fell to %.2f/s where %.2f/s are usual", describe_who(d, f.scope, name, sizeof(name)), after, before);
	in = incident_report(d, &f);
	if (in && in->opened == d->tick)
		e->full->drop.held = (float)(fall->expected / fall->minutes);
}

/* Minutes for which a customer must have been there before he is missed: who came today may go. */
static double known_for(const struct detect *d)
{
	return MAX(DROP_KNOWN_MINUTES, MIN(DROP_KNOWN_MAX, DROP_KNOWN_SHARE * d->tick / MINUTE_S));
}

/* A customer whose absence explains the fall of all. */
static uint32_t who_left(const struct detect *d, const struct fall *all)
{
	for (uint32_t k = 0; k < d->actives; k++) {
		const struct entity *e = at(d, d->active[k]);
		double expected, seen;

		if (!is_customer(e) || !e->full || (double)e->full->drop.n < known_for(d) || entity_shared(e))
			continue;
		expected = promised(e, &e->full->drop, all->minutes) * all->minutes;
		seen = minutes_sum(&e->full->drop, e->full->drop.last - all->minutes + 1, all->minutes);
		if (expected - seen >= DROP_ONE * (all->expected - all->seen) && (all->seen - seen) / MAX(all->expected - expected, 1e-9) >= DROP_SHARE)
			return d->active[k];
	}
	return NOBODY;
}

static void judge_customers(struct detect *d, bool minute)
{
	const struct drop_state *all = &global_of(d)->full->drop;

	for (uint32_t k = 0; k < d->actives; k++) {
		struct entity *e = at(d, d->active[k]);
		struct drop_state *s;
		struct fall fall = { 0 };
		double strength, rest, usual;
		bool open;

		if (!is_customer(e) || !e->full || e->last < 0)
			continue;
		s = &e->full->drop;
		open = incident_find(d, WATCH_DROP, d->active[k]);
		if (minute) {
			drop_roll(d, e, s, d->tick / MINUTE_S + 1);
			fall = drop_judge(d, e, s, open);
		}
		strength = silence(s, e, d->tick, DROP_CUSTOMER_SILENCE_S, open);
		if (strength > fall.strength)
			fall = (struct fall){ strength, 0, (double)(open ? s->held : s->level) * (d->tick - e->last) / MINUTE_S, 6 * strength, MAX((d->tick - e->last) / MINUTE_S, 1) };
		if (fall.strength < LEAVE_FACTOR || s->n < known_for(d) || (double)s->level < DROP_CUSTOMER_SHARE * (double)all->level || entity_shared(e) ||
		    (e->suspect && !open))
			continue;
		if (!open) {
			/* When the others are gone, too, it is not this one. */
			usual = ((double)all->level - (double)s->level) * fall.minutes;
			rest = minutes_sum(all, all->last - fall.minutes + 1, fall.minutes) - fall.seen;
			if (incident_any(d, 1u << WATCH_DROP) || rest < (1 + DROP_SHARE) / 2 * usual)
				continue;
		}
		report_drop(d, d->active[k], &fall, d->tick - e->last);
	}
}

static void judge_drop(struct detect *d)
{
	struct entity *g = global_of(d);
	struct drop_state *s;
	bool open = incident_find(d, WATCH_DROP, NOBODY), minute = d->tick % MINUTE_S == MINUTE_S - 1;
	struct fall fall = { 0 };
	double strength;
	uint32_t who = d->global;

	if (g->last < 0 || !full_of(d, g))
		return;
	s = &g->full->drop;
	if (d->tick % STEP_S == STEP_S - 1) {
		drop_count(d, g, s);
		for (uint32_t k = 0; k < d->actives; k++)
			if (is_customer(at(d, d->active[k])) && full_of(d, at(d, d->active[k])))
				drop_count(d, at(d, d->active[k]), &at(d, d->active[k])->full->drop);
	}
	if (minute) {
		drop_roll(d, g, s, d->tick / MINUTE_S + 1);
		fall = drop_judge(d, g, s, open);
	}
	strength = s->n >= DROP_YOUNG_MINUTES ? silence(s, g, d->tick, DROP_SILENCE_S, open) : 0;
	if (strength > fall.strength)
		fall = (struct fall){ strength, 0, (double)(open ? s->held : s->level) * (d->tick - g->last) / MINUTE_S, 6 * strength, MAX((d->tick - g->last) / MINUTE_S, 1) };
	if (fall.strength >= LEAVE_FACTOR && s->n >= DROP_YOUNG_MINUTES) {
		if (!open && fall.strength >= 1)
			who = who_left(d, &fall);
		report_drop(d, who == NOBODY ? d->global : who, &fall, who == NOBODY || who == d->global ? d->tick - g->last : d->tick - at(d, who)->last);
	}
	if (d->tick % STEP_S == STEP_S - 1)
		judge_customers(d, minute);
}

void health_tick(struct detect *d)
{
	judge_errors(d);
	judge_drop(d);
}
