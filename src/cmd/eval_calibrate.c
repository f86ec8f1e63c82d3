#include "cmd/eval_calibrate.h"

#include "base/log.h"
#include "cmd/cmd.h"
#include "cmd/eval_score.h"
#include "cmd/eval_trial.h"
#include "detect/detect.h"

#include <math.h>
#include <time.h>

#define WEEK_S 604800.0
#define SHOWN_MAX 20 /* incidents that are listed */
#define SENSITIVITY_TRIES 5 /* each reads the file once */
#define FOUNDED_MIN 0.5 /* false alarms that may be expected in the file; from fewer nothing is told */

struct level_result {
	double level;
	bool tried;
	struct trial_sight sight[TRIAL_TIMES_MAX];
};

struct calibration {
	const char *path;
	double false_per_week;
	struct eval_classes classes;
	struct site site;
	struct eval_stream said;
	double weeks;	 /* that count */
	double severity[3], by_class[CLASS_COUNT];
	bool founded;	 /* the file is long enough to tell what a week holds */
	double bar[CLASS_COUNT]; /* proposed score; 0: as it is */
	double remaining; /* warnings and criticals above them */
	double sensitivity; /* proposed; 0: none */
	double would_ring;  /* warnings and criticals at it, as tried */
	struct level_result result[TRIAL_KINDS][TRIAL_LEVELS_MAX];
	struct trial_sight blank[TRIAL_KINDS][TRIAL_TIMES_MAX];
};

static bool counts(const struct calibration *c, const struct eval_incident *in)
{
	return in->t >= c->site.learnt;
}

static int upwards(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* The scores of one class's warnings and criticals, lowest first. */
static size_t scores_of(const struct calibration *c, int cls, double *score)
{
	size_t n = 0;

	for (size_t i = 0; i < c->said.incidents; i++) {
		const struct eval_incident *in = &c->said.incident[i];

		if (in->final == cls && in->severity >= SEVERITY_WARNING && counts(c, in))
			score[n++] = in->score;
	}
	if (n)
		qsort(score, n, sizeof(*score), upwards);
	return n;
}

/*
 * Scores of different classes do not compare. Until no more rings than may, the class that rings most gives up its weakest; so
 * those that never ring keep their thresholds, and the noisy ones pay.
 */
static int propose(struct calibration *c)
{
	CLEANUP(freep) double *score = calloc(c->said.incidents + 1, sizeof(*score));
	size_t dropped[CLASS_COUNT] = { 0 };
	double allowed = floor(c->false_per_week * c->weeks);

	if (!score)
		return -ENOMEM;
	for (size_t i = 0; i < c->said.incidents; i++) {
		const struct eval_incident *in = &c->said.incident[i];

		if (!counts(c, in))
			continue;
		c->severity[MAX(in->severity, 0)]++;
		if (in->severity < SEVERITY_WARNING)
			continue;
		c->by_class[MIN(in->final, (int)CLASS_UNKNOWN)]++;
		c->remaining++;
	}
	/* A week less its first day must do for one a week; then none may ring in it. */
	c->founded = c->false_per_week * c->weeks >= FOUNDED_MIN;
	while (c->founded && c->remaining > allowed) {
		int most = 0;

		for (int k = 1; k < CLASS_COUNT; k++)
			if (c->by_class[k] - (double)dropped[k] > c->by_class[most] - (double)dropped[most])
				most = k;
		dropped[most]++;
		c->remaining--;
	}
	for (int k = 0; k < CLASS_COUNT; k++) {
		size_t n = dropped[k] ? scores_of(c, k, score) : 0;

		if (!n)
			continue;
		c->bar[k] = floor(score[dropped[k] - 1] * 10 + 1) / 10; /* one decimal is enough to type */
		for (size_t i = dropped[k]; i < n && score[i] < c->bar[k]; i++)
			c->remaining--; /* so close to it that it goes, too */
	}
	return 0;
}

/* Warnings and criticals that count. */
static double loud(const struct calibration *c, const struct eval_stream *said)
{
	double n = 0;

	for (size_t i = 0; i < said->incidents; i++)
		n += counts(c, &said->incident[i]) && said->incident[i].severity >= SEVERITY_WARNING;
	return n;
}

/*
 * The tail of hourly peaks says where the bar should stand; what rings there is tried, since an incident that does not open changes what
 * is learnt after it. From there the bar goes up while more ring than may, or down while fewer do.
 */
static int propose_sensitivity(struct calibration *c)
{
	double allowed = floor(c->false_per_week * c->weeks), s = floor(c->site.sensitivity * 100) / 100, least = INFINITY;
	bool more = false, fewer = false;

	if (!c->founded || !(s > 0))
		return 0;
	for (int i = 0; i < SENSITIVITY_TRIES && !(more && fewer) && s <= DETECT_SENSITIVITY_MAX; i++) {
		struct eval_stream said = { 0 };
		int r = site_retry(c->path, s, &c->classes, &said);
		double ring = loud(c, &said);

		eval_stream_done(&said);
		if (r < 0)
			return r;
		more |= ring > allowed;
		fewer |= ring <= allowed;
		/* The loudest that is quiet enough; where none was, the quietest. */
		if (ring <= allowed || ring < least) {
			c->sensitivity = s;
			c->would_ring = ring;
		}
		least = MIN(least, ring);
		s = ring > allowed ? floor(s * 85) / 100 : ceil(s * 115) / 100;
	}
	return 0;
}

struct tally {
	size_t times, seen, right, above;
	double p50; /* of the delay, where it was seen */
};

static struct tally tally_of(const struct calibration *c, enum trial_kind k, const struct level_result *r)
{
	struct tally t = { .p50 = NAN };
	double delay[TRIAL_TIMES_MAX];

	for (size_t i = 0; i < c->site.times; i++) {
		const struct trial_sight *s = &r->sight[i];

		if (c->blank[k][i].seen) /* it rings there anyhow: nothing can be told */
			continue;
		t.times++;
		if (!s->seen)
			continue;
		delay[t.seen++] = s->delay_s;
		t.right += s->right;
		for (int cls = 0; cls < CLASS_COUNT; cls++) {
			if (s->score[cls] < 0 || s->score[cls] < c->bar[cls])
				continue;
			t.above++;
			break;
		}
	}
	if (t.seen) {
		qsort(delay, t.seen, sizeof(*delay), upwards);
		t.p50 = delay[t.seen / 2];
	}
	return t;
}

static int try_all(struct calibration *c)
{
	bool show = isatty(STDERR_FILENO);

	for (enum trial_kind k = 0; k < TRIAL_KINDS; k++) {
		size_t n;
		const double *level = trial_levels(k, &n);
		int e = trial_lacks(k, &c->site) ? 0 : trial_blank(&c->site, k, &c->said, c->blank[k]);

		for (size_t i = 0; e == 0 && i < n && !trial_lacks(k, &c->site); i++) {
			struct level_result *r = &c->result[k][i];
			struct tally t;

			if (show)
				fprintf(stderr, "\r\033[Ktrying %s at %g", trial_name(k), level[i]);
			r->level = level[i];
			r->tried = true;
			e = trial_run(c->path, &c->site, k, level[i], &c->classes, r->sight);
			if (e < 0)
				return e;
			t = tally_of(c, k, r);
			if (t.times == 0 || t.above == t.times) /* what is stronger will be seen, too */
				break;
		}
		if (e < 0)
			return e;
	}
	if (show)
		fputs("\r\033[K", stderr);
	return 0;
}

/* The weakest level that rings at so large a share of the times, with the proposed scores; NAN: none. */
static double smallest(const struct calibration *c, enum trial_kind k, double share)
{
	for (size_t i = 0; i < TRIAL_LEVELS_MAX; i++) {
		struct tally t;

		if (!c->result[k][i].tried)
			continue;
		t = tally_of(c, k, &c->result[k][i]);
		if (t.times && (double)t.above >= share * (double)t.times)
			return c->result[k][i].level;
	}
	return NAN;
}

/* ---- output ----------------------------------------------------------------------------------------- */

static void text_false(const struct calibration *c, struct str *out)
{
	struct tm tm;
	char when[32];
	size_t shown = 0;

	str_addf(out, "%s: %llu records over %.1f days; the first %.0f h were for learning\n\n", c->path, (unsigned long long)c->site.records, (c->site.last - c->site.first) / 86400,
		 (c->site.learnt - c->site.first) / 3600);
	str_adds(out, "False alarms to expect, taken that nothing was wrong in this time:\n\n  severity   seen   a week (95 %)\n");
	for (int s = SEVERITY_CRITICAL; s >= SEVERITY_INFO; s--) {
		double low, high;

		eval_rate_bounds(c->severity[s], c->weeks, &low, &high);
		str_addf(out, "  %-9s %5.0f   %.1f (%.1f-%.1f)\n", anomaly_severity_name((enum anomaly_severity)s), c->severity[s], c->severity[s] / c->weeks, low, high);
	}
	for (int k = 0; k < CLASS_COUNT; k++)
		if (c->by_class[k] > 0)
			str_addf(out, "  of them %s: %.0f\n", anomaly_class_name((enum anomaly_class)k), c->by_class[k]);
	for (size_t i = 0; i < c->said.incidents && shown < SHOWN_MAX; i++) {
		const struct eval_incident *in = &c->said.incident[i];
		time_t t = (time_t)in->t;

		if (!counts(c, in) || in->severity < SEVERITY_WARNING)
			continue;
		if (!shown++)
			str_adds(out, "\nWhat they were (was one of them real, then it is no false alarm):\n\n");
		gmtime_r(&t, &tm);
		strftime(when, sizeof(when), "%F %T", &tm);
		str_addf(out, "  %s  %-8s %-18s score %5.1f  %s %s\n", when, anomaly_severity_name((enum anomaly_severity)in->severity), c->classes.name[in->final], in->score,
			 in->scopes.n ? in->scopes.v[0].kind : "", in->scopes.n ? in->scopes.v[0].value : "");
	}
}

static bool any_bar(const struct calibration *c)
{
	for (int k = 0; k < CLASS_COUNT; k++)
		if (c->bar[k] > 0)
			return true;
	return false;
}

static void text_proposal(const struct calibration *c, struct str *out)
{
	double low, high, loud = c->severity[SEVERITY_WARNING] + c->severity[SEVERITY_CRITICAL];

	eval_rate_bounds(c->remaining, c->weeks, &low, &high);
	if (!c->founded) {
		str_addf(out, "\nWhat rings %g times a week cannot be told from %.1f days: no thresholds are proposed.\n", c->false_per_week, c->weeks * 7);
		return;
	}
	if (!any_bar(c)) {
		str_addf(out, "\nAt most %g a week: the thresholds can stay as they are, with %.1f a week (%.1f-%.1f).\n", c->false_per_week, c->remaining / c->weeks, low, high);
		return;
	}
	str_addf(out, "\nFor at most %g a week, page on these scores and above; of %.0f then %.0f would have rung: %.1f a week (%.1f-%.1f).\n\n", c->false_per_week, loud, c->remaining,
		 c->remaining / c->weeks, low, high);
	for (int k = 0; k < CLASS_COUNT; k++)
		if (c->bar[k] > 0)
			str_addf(out, "  %-19s %6.1f\n", anomaly_class_name((enum anomaly_class)k), c->bar[k]);
}

static void text_sensitivity(const struct calibration *c, struct str *out)
{
	double low, high;

	if (!(c->sensitivity > 0))
		return;
	eval_rate_bounds(c->would_ring, c->weeks, &low, &high);
	str_addf(out, "\nOr let it open as much: --sensitivity %.2f, at which %.0f rang: %.1f a week (%.1f-%.1f).\n", c->sensitivity, c->would_ring, c->would_ring / c->weeks, low, high);
}

static void text_level(struct str *out, double level, int width)
{
	if (isnan(level))
		str_addf(out, "%*s", width, "never");
	else
		str_addf(out, "%*g", width, level);
}

static void text_trials(const struct calibration *c, struct str *out)
{
	char words[96];

	str_addf(out, "\nWhat would be seen, laid into this traffic at %zu times:\n\n", c->site.times);
	for (enum trial_kind k = 0; k < TRIAL_KINDS; k++) {
		const char *lacks = trial_lacks(k, &c->site);

		if (lacks) {
			str_addf(out, "  %s: cannot be tried, the records lack %s\n", trial_name(k), lacks);
			continue;
		}
		for (size_t i = 0; i < TRIAL_LEVELS_MAX && c->result[k][i].tried; i++) {
			const struct tally t = tally_of(c, k, &c->result[k][i]);

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
			snprintf(words, sizeof(words), trial_words(k), c->result[k][i].level);
#pragma GCC diagnostic pop
			str_addf(out, "  %-19s %-50s %zu of %zu, %zu by its name", i ? "" : trial_name(k), words, t.seen, t.times, t.right);
			if (any_bar(c))
				str_addf(out, ", %zu above the score", t.above);
			if (t.seen)
				str_addf(out, ", after %.0f s", t.p50);
			str_addc(out, '\n');
		}
	}
	str_adds(out, "\nThe smallest that rings      half the time   each time\n");
	for (enum trial_kind k = 0; k < TRIAL_KINDS; k++) {
		if (trial_lacks(k, &c->site))
			continue;
		str_addf(out, "  %-26s", trial_name(k));
		text_level(out, smallest(c, k, 0.5), 14);
		text_level(out, smallest(c, k, 1), 12);
		str_addc(out, '\n');
	}
}

static void json_rate(struct str *out, const char *key, double n, double weeks)
{
	double low, high;

	eval_rate_bounds(n, weeks, &low, &high);
	json_key(out, key);
	json_begin(out, '{');
	json_kdouble(out, "seen", n, 0);
	json_kdouble(out, "per_week", n / weeks, 3);
	json_kdouble(out, "low", low, 3);
	json_kdouble(out, "high", high, 3);
	json_end(out, '}');
}

static void write_json(const struct calibration *c, struct str *out)
{
	json_begin(out, '{');
	json_kuint(out, "records", c->site.records);
	json_kdouble(out, "days", (c->site.last - c->site.first) / 86400, 4);
	json_kdouble(out, "learning_s", c->site.learnt - c->site.first, 0);
	json_key(out, "false_alarms");
	json_begin(out, '{');
	for (int s = 0; s < 3; s++)
		json_rate(out, anomaly_severity_name((enum anomaly_severity)s), c->severity[s], c->weeks);
	json_end(out, '}');
	json_key(out, "classes");
	json_begin(out, '{');
	for (int k = 0; k < CLASS_COUNT; k++)
		if (c->by_class[k] > 0)
			json_kdouble(out, anomaly_class_name((enum anomaly_class)k), c->by_class[k], 0);
	json_end(out, '}');
	json_key(out, "proposal");
	json_begin(out, '{');
	json_kdouble(out, "false_per_week", c->false_per_week, 3);
	json_kbool(out, "founded", c->founded);
	json_key(out, "scores");
	json_begin(out, '{');
	for (int k = 0; k < CLASS_COUNT; k++)
		if (c->bar[k] > 0)
			json_kdouble(out, anomaly_class_name((enum anomaly_class)k), c->bar[k], 1);
	json_end(out, '}');
	json_rate(out, "expected", c->remaining, c->weeks);
	json_key(out, "sensitivity");
	if (c->sensitivity > 0) {
		json_double(out, c->sensitivity, 2);
		json_rate(out, "expected_at_sensitivity", c->would_ring, c->weeks);
	} else {
		json_null(out);
	}
	json_end(out, '}');
	json_key(out, "trials");
	json_begin(out, '[');
	for (enum trial_kind k = 0; k < TRIAL_KINDS; k++) {
		for (size_t i = 0; i < TRIAL_LEVELS_MAX && c->result[k][i].tried; i++) {
			struct tally t = tally_of(c, k, &c->result[k][i]);

			json_begin(out, '{');
			json_kstring(out, "attack", span_of(trial_name(k)));
			json_kdouble(out, "level", c->result[k][i].level, 3);
			json_kuint(out, "times", t.times);
			json_kuint(out, "seen", t.seen);
			json_kuint(out, "right", t.right);
			json_kuint(out, "above_score", t.above);
			json_kdouble(out, "delay_p50_s", t.p50, 1);
			json_end(out, '}');
		}
	}
	json_end(out, ']');
	for (int each = 0; each < 2; each++) {
		json_key(out, each ? "smallest_each_time" : "smallest_half_the_time");
		json_begin(out, '{');
		for (enum trial_kind k = 0; k < TRIAL_KINDS; k++)
			json_kdouble(out, trial_name(k), trial_lacks(k, &c->site) ? NAN : smallest(c, k, each ? 1 : 0.5), 3);
		json_end(out, '}');
	}
	json_end(out, '}');
	str_addc(out, '\n');
}

static int show(const struct calibration *c, bool json)
{
	struct str out = { 0 };
	int r;

	if (json) {
		write_json(c, &out);
	} else {
		text_false(c, &out);
		text_proposal(c, &out);
		text_sensitivity(c, &out);
		text_trials(c, &out);
		if (c->site.last - c->site.first < 6.5 * 86400)
			str_adds(&out, "A week shows more: no two days are alike.\n");
	}
	r = str_error(&out);
	if (r == 0 && (fwrite(out.p, 1, out.n, stdout) != out.n || fflush(stdout) == EOF))
		r = -EIO;
	str_done(&out);
	return r;
}

int eval_calibrate(const char *path, double false_per_week, bool json)
{
	CLEANUP(freep) struct calibration *c = calloc(1, sizeof(*c));
	int e = c ? eval_classes_init(&c->classes) : -ENOMEM, status = EXIT_FAILURE;

	if (e < 0) {
		log_error("eval: %s", strerror(-e));
		return status;
	}
	c->path = path;
	c->false_per_week = false_per_week;
	e = site_survey(path, false_per_week, &c->classes, &c->site, &c->said);
	if (e == -EINVAL) {
		log_error("eval: %s: %s", path, c->site.records ? "too short: at least 40 minutes, better a week" : "no record in it");
		status = EXIT_USAGE;
		goto out;
	}
	if (e < 0 && !c->site.records) {
		log_error("eval: cannot read %s: %s", path, strerror(-e));
		status = EXIT_USAGE;
		goto out;
	}
	if (e == 0 && c->site.bad_lines)
		log_warning("eval: %s: %llu bad lines were passed over", path, (unsigned long long)c->site.bad_lines);
	c->weeks = (c->site.last - c->site.learnt) / WEEK_S;
	if (e == 0)
		e = propose(c);
	if (e == 0)
		e = propose_sensitivity(c);
	if (e == 0)
		e = try_all(c);
	if (e == 0)
		e = show(c, json);
	if (e < 0)
		log_error("eval: %s: %s", path, strerror(-e));
	else
		status = 0;
out:
	site_done(&c->site);
	eval_stream_done(&c->said);
	eval_classes_done(&c->classes);
	return status;
}
