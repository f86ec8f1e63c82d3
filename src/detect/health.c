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

static double variance_stable(double x)
{
	return 2 * sqrt(x + 0.375);
}

static double minutes_sum(const struct drop_state *s, int32_t from, int n)
{
	double sum = 0;

	for (int i = 0; i < n; i++)
		sum += (double)s->minute[(uint32_t)(from + i) % DROP_MINUTES];
	return sum;
}

/* Requests of the median minute of n, before the last w. */
static double minutes_median(const struct drop_state *s, int w, int n)
{
	float v[DROP_MINUTES];

	if (n < 1)
		return 0;
	for (int i = 0; i < n; i++)
		v[i] = s->minute[(uint32_t)(s->last - w - i) % DROP_MINUTES];
	qsort(v, (size_t)n, sizeof(*v), by_value);
	return (double)(v[n / 2] + v[(n - 1) / 2]) / 2;
}

/* Requests a minute that the time before the last w minutes promised: neither more than just now, nor than the hour's median, nor much more than all its life. */
static double promised(const struct detect *d, const struct entity *e, const struct drop_state *s, int w)
{
	/* Epoch second at which the window's last minute ended. */
	double end = (double)d->base + (s->last + 1) * (double)MINUTE_S, middle = end - w * MINUTE_S / 2.0, level = (double)e->req.slow * MINUTE_S / STEP_S;
	double just, hour;
	int known = MIN((int)s->n, DROP_MINUTES) - w, near = MIN(known, 3 * w);

	if (known < 5)
		return 0;
	just = minutes_sum(s, s->last - w - near + 1, near) / near;
	hour = minutes_median(s, w, MIN(known, 60));
	if (s->season && season_used(s->season) != SEASON_NONE) {
		just *= season_ratio(s->season, end - (w + near / 2.0) * MINUTE_S, middle);
		hour *= season_ratio(s->season, end - (w + MIN(known, 60) / 2.0) * MINUTE_S, middle);
		level = MAX(level, season_level(s->season, middle));
	}
	return MIN(MIN(just, hour), DROP_SLOW * level);
}

/* Is what comes in now no measure of how things are? */
static bool disturbed(const struct detect *d, const struct entity *e)
{
	return e->kind == ENTITY_GLOBAL ? incident_lately(d, 1u << WATCH_VOLUME) : e->suspect;
}

/* Who may be missed: a key or a user; where requests carry no keys an address, or a network (a customer behind many addresses). */
static bool is_customer(const struct detect *d, const struct entity *e)
{
	if (e->full && e->full->habit.n[T_AUTH] && (double)e->full->habit.mean[T_AUTH] > 0.5)
		return false; /* whoever is refused is no customer */
	if (e->kind == ENTITY_API_KEY || e->kind == ENTITY_USER)
		return true;
	return (e->kind == ENTITY_CLIENT_IP || e->kind == ENTITY_NETWORK) && !(d->usual.n[T_KEYLESS] && (double)d->usual.mean[T_KEYLESS] < 0.5);
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
	/* A rise that is an incident: it will go as it came. */
	if (e->suspect && s->level > 0 && s->now > s->level)
		for (int k = 0; k < DROP_WINDOWS; k++)
			s->climb[k] = (float)MAX((double)s->climb[k], variance_stable((double)(s->now * (float)window[k])) - variance_stable((double)(s->level * (float)window[k])));
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

/*
 * What came at once may go at once: how much a window rose above the time before it is a habit like its falls. A customer who was not
 * there from the beginning rises from nothing.
 */
static void climb_learn(const struct detect *d, const struct entity *e, struct drop_state *s, int k)
{
	int w = window[k], before = 3 * w, known = (int)s->n - w;
	double seen, usual;

	s->climb[k] *= (float)DROP_PEAK_KEEP;
	if (s->last - w - before < s->gone || (e->born < DROP_NATIVE_S && known < before) || (e->kind == ENTITY_GLOBAL && disturbed(d, e)))
		return;
	seen = minutes_sum(s, s->last - w + 1, w);
	usual = MAX(minutes_sum(s, s->last - w - before + 1, before) / before, minutes_median(s, w, MIN(known, 60))) * w;
	s->climb[k] = (float)MAX((double)s->climb[k], variance_stable(seen) - variance_stable(usual));
}

/* The largest that it does by itself. */
static double restless(const struct detect *d, const struct entity *e, const struct drop_state *s, int k)
{
	if (!has_part(d, PART_HABIT))
		return 0;
	/* The total also rises for other reasons, and of its customers those who come and go are looked at one by one. */
	if (e->kind == ENTITY_GLOBAL)
		return MAX(DROP_HABIT_ALL * (double)s->peak[k], DROP_CLIMB_ALL * (double)s->climb[k]);
	return MAX(DROP_HABIT * (double)s->peak[k], DROP_CLIMB * (double)s->climb[k]);
}

/*
 * Did it go down slowly? Its last minutes as a level, a straight fall of so many minutes, and a level: least squares, against a fall within two.
 * Outages are sudden; customers go home one by one.
 */
static bool ramped(const struct drop_state *s)
{
	double y[RAMP_MINUTES], best[2] = { INFINITY, INFINITY };
	int n = MIN((int)s->n, RAMP_MINUTES);

	if (n < RAMP_MINUTES / 2)
		return false;
	for (int i = 0; i < n; i++)
		y[i] = variance_stable((double)s->minute[(uint32_t)(s->last - n + 1 + i) % DROP_MINUTES]);
	for (int length = 1; length <= RAMP_LONGEST; length += length < 4 ? 1 : 2) {
		for (int end = n - 1; end >= n / 3; end--) {
			double g = 0, gg = 0, sy = 0, gy = 0, yy = 0, cov, var;

			if (end - length < 2)
				break;
			for (int i = 0; i < n; i++) {
				double x = i >= end ? 0 : i <= end - length ? 1 : (end - i) / (double)length;

				g += x;
				gg += x * x;
				sy += y[i];
				gy += x * y[i];
				yy += y[i] * y[i];
			}
			cov = gy - g * sy / n;
			var = gg - g * g / n;
			if (cov <= 0 || var <= 0)
				continue;
			yy -= sy * sy / n + cov * cov / var;
			best[length > 2] = MIN(best[length > 2], yy);
		}
	}
	return isfinite(best[1]) && best[0] - best[1] > RAMP_LLR * 2 * MAX(1.0, best[1] / n);
}

static double young(const struct drop_state *s)
{
	return 1 + DROP_YOUNG / (DROP_YOUNG + s->n);
}

/* Ten minutes are over. */
static void season_step(const struct detect *d, const struct entity *e, struct drop_state *s, bool open)
{
	int64_t end = d->base + (s->last + 1) * MINUTE_S;
	int minutes = SEASON_BLOCK_S / MINUTE_S;

	if (end % SEASON_BLOCK_S >= MINUTE_S || (int)s->n <= minutes)
		return;
	if (!has_part(d, PART_SEASON))
		return;
	if (!s->season) {
		const struct full *all = global_of(d)->full;

		if (e->kind != ENTITY_GLOBAL && (!all || (double)s->level < SEASON_SHARE * (double)all->drop.level))
			return;
		s->season = malloc(sizeof(*s->season));
		if (!s->season)
			return;
		season_init(s->season);
	}
	/* The clock begins at any second: blocks end at whole ten minutes all the same, to within a minute. */
	season_learn(s->season, end - end % SEASON_BLOCK_S, open || disturbed(d, e) ? -1 : minutes_sum(s, s->last - minutes + 1, minutes));
}

/* A minute is over. */
static struct fall drop_judge(const struct detect *d, const struct entity *e, struct drop_state *s, bool open)
{
	struct fall worst = { 0 };
	bool teach = !open && !disturbed(d, e);

	season_step(d, e, s, open);
	if (open || (e->kind == ENTITY_GLOBAL && incident_any(d, 1u << WATCH_DROP)))
		s->gone = s->last;

	for (int k = 0; k < DROP_WINDOWS; k++) {
		int w = window[k];
		double per = open ? (double)s->held : promised(d, e, s, w), seen = minutes_sum(s, s->last - w + 1, w), expected = per * w;
		double r = variance_stable(seen) - variance_stable(expected), sd = (double)s->sd[k], strength;

		climb_learn(d, e, s, k);
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
			       MIN((1 - seen / expected) / (1 - DROP_SHARE), -r / MAX(restless(d, e, s, k), 1e-9)));
		if (strength >= 1 && ramped(s))
			strength = 0.9;
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
		r = MAX(-4 * sd, MIN(r, sd)); /* a promise that was too low says little of falls */
		sd = sqrt(sd * sd + MAX(1 - exp2(-1 / DROP_SD_HALF), 1 / (DROP_SD_PRIOR + s->n)) * (r * r - sd * sd));
		s->sd[k] = (float)MAX(sd, 1.0);
	}
	return worst;
}

/* Requests a second that a silence lacks: of the level, and not more than came just before it: who leaves slowly is not cut off. */
static double lacking(const struct drop_state *s, const struct entity *e, bool open)
{
	int32_t last = e->last / MINUTE_S - 1; /* the last whole minute before it */
	double one = minutes_sum(s, last, 1), two = minutes_sum(s, last - 1, 2);

	if (open)
		return (double)s->held / MINUTE_S;
	if ((int)s->n < 5 || s->last < last)
		return (double)s->level / MINUTE_S;
	/* Not more than two sigma above what was counted. */
	return MIN((double)s->level, MIN(one + 2 * sqrt(one) + 2, (two + 2 * sqrt(two) + 2) / 2)) / MINUTE_S;
}

/* Requests that should have come since the last one, over the dispersion; strength of that. */
static double silence(const struct detect *d, struct drop_state *s, const struct entity *e, int32_t least_s, bool open)
{
	int32_t tick = d->tick;
	double expected = (tick - e->last) * lacking(s, e, open), quiet = expected / MAX(MAX((double)e->req.disp10, (double)e->req.disp60), 1.0);
	double need = DROP_SILENCE * (e->kind == ENTITY_GLOBAL ? 1 : DROP_CUSTOMER_SILENCE), strength;
	int k = tick - e->last <= window[0] * MINUTE_S ? 0 : tick - e->last <= window[1] * MINUTE_S ? 1 : 2;

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
	strength = MIN(quiet / (need * young(s)), quiet / MAX(DROP_QUIET * (double)s->quiet, 1e-9));
	return open ? strength : MIN(strength, (variance_stable(expected) - variance_stable(0)) / MAX(restless(d, e, s, k), 1e-9));
}

static void report_drop(struct detect *d, uint32_t who, const struct fall *fall, double quiet)
{
	const struct entity *e = at(d, who);
	struct finding f;
	char name[ENTITY_NAME_MAX + 32];
	double before = fall->expected / fall->minutes / MINUTE_S, after = fall->seen / fall->minutes / MINUTE_S;
	struct incident *in;

	finding_init(&f, WATCH_DROP, CLASS_TRAFFIC_DROP, scope_of(d, who), fall->strength / DROP_BAR, MIN(fall->z, 40.0));
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
			if (is_customer(d, at(d, d->active[j])) && entity_related(d, d->active[j], who))
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

/* What customers took away who come and go as they like, or have just come: it is not missed in the total. */
static double excused(const struct detect *d, const struct fall *all)
{
	int k = all->minutes <= window[0] ? 0 : all->minutes <= window[1] ? 1 : 2, w = window[k];
	double sum = 0;

	for (uint32_t i = 0; i < d->actives; i++) {
		const struct entity *e = at(d, d->active[i]);
		const struct drop_state *s;
		double expected, seen;

		if (!is_customer(d, e) || !e->full || e->kind == ENTITY_USER || e->kind == ENTITY_NETWORK)
			continue;
		s = &e->full->drop;
		if (!s->n)
			continue;
		expected = minutes_sum(s, s->last - 4 * w + 1, 3 * w) / 3;
		seen = minutes_sum(s, s->last - w + 1, w);
		if (expected - seen < DROP_EXCUSED * (all->expected - all->seen))
			continue;
		if ((double)s->n < known_for(d) || variance_stable(expected) - variance_stable(seen) <= restless(d, e, s, k))
			sum += expected - seen;
	}
	return sum;
}

/* The fall of all again, as if they had not been there. */
static void without_excused(const struct detect *d, const struct entity *e, const struct drop_state *s, struct fall *all)
{
	double gone = excused(d, all), expected = all->expected - gone, was, is;
	int k = all->minutes <= window[0] ? 0 : all->minutes <= window[1] ? 1 : 2;

	if (gone <= 0)
		return;
	if (expected <= all->seen) {
		all->strength = 0;
		return;
	}
	was = variance_stable(all->expected) - variance_stable(all->seen);
	is = variance_stable(expected) - variance_stable(all->seen);
	all->z *= is / was;
	all->strength = MIN(MIN(all->strength * is / was, all->z / (DROP_Z * young(s))), MIN((expected - all->seen) / DROP_LOST, (1 - all->seen / expected) / (1 - DROP_SHARE)));
	all->strength = MIN(all->strength, is / MAX(restless(d, e, s, k), 1e-9));
	all->expected = expected;
}

/* A customer whose absence explains the fall of all. */
static uint32_t who_left(const struct detect *d, const struct fall *all)
{
	for (uint32_t k = 0; k < d->actives; k++) {
		const struct entity *e = at(d, d->active[k]);
		double expected, seen;

		if (!is_customer(d, e) || !e->full || (double)e->full->drop.n < known_for(d) || entity_shared(e))
			continue;
		expected = promised(d, e, &e->full->drop, all->minutes) * all->minutes;
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

		if (!is_customer(d, e) || !e->full || e->last < 0)
			continue;
		s = &e->full->drop;
		open = incident_find(d, WATCH_DROP, d->active[k]);
		if (minute) {
			drop_roll(d, e, s, d->tick / MINUTE_S + 1);
			fall = drop_judge(d, e, s, open);
		}
		strength = silence(d, s, e, DROP_CUSTOMER_SILENCE_S, open);
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
			if (is_customer(d, at(d, d->active[k])) && full_of(d, at(d, d->active[k])))
				drop_count(d, at(d, d->active[k]), &at(d, d->active[k])->full->drop);
	}
	if (minute) {
		drop_roll(d, g, s, d->tick / MINUTE_S + 1);
		fall = drop_judge(d, g, s, open);
	}
	strength = s->n >= DROP_YOUNG_MINUTES ? silence(d, s, g, DROP_SILENCE_S, open) : 0;
	if (strength > fall.strength)
		fall = (struct fall){ strength, 0, (double)(open ? s->held : s->level) * (d->tick - g->last) / MINUTE_S, 6 * strength, MAX((d->tick - g->last) / MINUTE_S, 1) };
	if (fall.strength >= 1 && !open)
		without_excused(d, g, s, &fall);
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
