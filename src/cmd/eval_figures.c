/* Figures out of counts, and how far they can be trusted. */
#include "cmd/eval_score.h"

#include <math.h>

#define EACH(c) (size_t c = 0; c < EVAL_SCORED; c++)
#define DEGREES (sizeof(struct eval_figures) / sizeof(double))
#define TAIL 0.025 /* on each side of a 95 % interval */

static double ratio(double a, double b)
{
	return b > 0 ? a / b : NAN;
}

/* The k-th (from 0) of the waits, counted times[unit] times each. */
static double wait_at(const struct eval_waits *w, const uint32_t *times, double k)
{
	double seen = 0;

	for (size_t i = 0; i < w->n; i++) {
		seen += times ? times[w->v[i].unit] : 1;
		if (seen > k)
			return w->v[i].s;
	}
	return NAN;
}

double eval_quantile(const struct eval_waits *w, const uint32_t *times, double q)
{
	double n = 0, x, low, high;

	for (size_t i = 0; i < w->n; i++)
		n += times ? times[w->v[i].unit] : 1;
	if (n <= 0)
		return NAN;
	x = (n - 1) * q;
	low = wait_at(w, times, floor(x));
	high = wait_at(w, times, MIN(floor(x) + 1, n - 1));
	return low + (high - low) * (x - floor(x));
}

static void class_figures(const struct eval_counts *c, enum eval_mode m, struct eval_figures *f)
{
	double sum = 0, classes = 0;

	for EACH(k) {
		double n = c->labels[m][k], tp = c->tp[m][k], fp = c->fp[m][k];

		f->precision[m][k] = ratio(tp, tp + fp);
		f->recall[m][k] = ratio(tp, n);
		f->f1[m][k] = n > 0 ? 2 * tp / (tp + fp + n) : NAN;
		if (n > 0) {
			sum += f->f1[m][k];
			classes++;
		}
	}
	f->macro_f1[m] = ratio(sum, classes);
}

void eval_figures_of(const struct eval_counts *c, const struct eval_waits *waits, const uint32_t *times, struct eval_figures *f)
{
	static const double q[EVAL_QUANTILES] = { 0.5, 0.95, 1 };
	double days = MAX(c->days, 1e-9);

	for (enum eval_mode m = 0; m < EVAL_MODES; m++)
		class_figures(c, m, f);
	f->recall_any = ratio(c->hits, c->truth);
	f->recall_direct = ratio(c->hits_direct, c->truth);
	f->f1_any = c->truth > 0 ? 2 * c->hits / (c->hits + c->truth + c->false_all) : NAN;
	f->scope_named = ratio(c->named, c->scoped);
	f->scope_exact = ratio(c->exact, c->scoped);
	f->opens_per_event = ratio(c->opens, c->hits);
	f->right_opens_per_event = ratio(c->right_opens, c->right_hits);
	for (int s = 0; s < 3; s++)
		f->false_per_day[s] = c->false_opens[s] / days;
	f->false_warnings_per_day = f->false_per_day[SEVERITY_WARNING] + f->false_per_day[SEVERITY_CRITICAL];
	f->false_criticals_per_week = 7 * f->false_per_day[SEVERITY_CRITICAL];
	f->info_per_day = c->info / days;
	f->natural_per_day = c->natural / days;
	f->alarm_share = ratio(c->alarm_s, c->quiet_s);
	for (int k = 0; k < EVAL_DELAYS; k++)
		for (int i = 0; i < EVAL_QUANTILES; i++)
			f->delay[k][i] = eval_quantile(&waits[k], times, q[i]);
}

/* ---- bootstrap -------------------------------------------------------------------------------------- */

static uint64_t next(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Both ends of the middle 95 % of v, which is put in order; NAN are left out. */
static void middle(double *v, size_t n, double *ret_low, double *ret_high)
{
	size_t m = 0;

	for (size_t i = 0; i < n; i++)
		if (!isnan(v[i]))
			v[m++] = v[i];
	*ret_low = *ret_high = NAN;
	if (m == 0)
		return;
	qsort(v, m, sizeof(*v), by_value);
	*ret_low = v[(size_t)floor((double)(m - 1) * TAIL)];
	*ret_high = v[(size_t)ceil((double)(m - 1) * (1 - TAIL))];
}

/*
 * All or none of n went well: whatever is drawn from them says the same, and the bootstrap would be certain. The binomial is not
 * (exact, two-sided). `f1`: the share is that of the Jaccard index, of which F1 is a function.
 */
static void widen_share(double k, double n, bool f1, double *low, double *high)
{
	double sure = n > 0 ? pow(TAIL, 1 / n) : NAN;

	if (n <= 0 || (k > 0 && k < n) || isnan(*low))
		return;
	if (k >= n)
		*low = MIN(*low, f1 ? 2 * sure / (1 + sure) : sure);
	else
		*high = MAX(*high, f1 ? 2 * (1 - sure) / (2 - sure) : 1 - sure);
}

void eval_rate_bounds(double k, double time, double *low, double *high)
{
	/* Wilson and Hilferty's cube is within 1 % of the exact bounds from one event on. */
	*high = (k <= 0 ? -log(TAIL) : (k + 1) * pow(1 - 1 / (9 * (k + 1)) + 1.959964 / (3 * sqrt(k + 1)), 3)) / time;
	*low = (k <= 0 ? 0 : k * pow(MAX(0.0, 1 - 1 / (9 * k) - 1.959964 / (3 * sqrt(k))), 3)) / time;
}

/* Few events, or none at all, in so much time. */
static void widen_rate(double k, double time, double *low, double *high)
{
	double from, to;

	if (time <= 0)
		return;
	eval_rate_bounds(k, time, &from, &to);
	*low = MIN(*low, from);
	*high = MAX(*high, to);
}

static void widen(struct eval_result *r)
{
	const struct eval_counts *c = &r->counts;
	struct eval_figures *low = &r->low, *high = &r->high;
	double days = MAX(c->days, 1e-9), loud = c->false_opens[SEVERITY_WARNING] + c->false_opens[SEVERITY_CRITICAL];

	for (enum eval_mode m = 0; m < EVAL_MODES; m++) {
		for EACH(k) {
			double tp = c->tp[m][k], fp = c->fp[m][k], n = c->labels[m][k];

			widen_share(tp, tp + fp, false, &low->precision[m][k], &high->precision[m][k]);
			widen_share(tp, n, false, &low->recall[m][k], &high->recall[m][k]);
			widen_share(tp, n + fp, true, &low->f1[m][k], &high->f1[m][k]);
		}
	}
	widen_share(c->hits, c->truth, false, &low->recall_any, &high->recall_any);
	widen_share(c->hits_direct, c->truth, false, &low->recall_direct, &high->recall_direct);
	widen_share(c->hits, c->truth + c->false_all, true, &low->f1_any, &high->f1_any);
	widen_share(c->named, c->scoped, false, &low->scope_named, &high->scope_named);
	widen_share(c->exact, c->scoped, false, &low->scope_exact, &high->scope_exact);
	for (int s = 0; s < 3; s++)
		widen_rate(c->false_opens[s], days, &low->false_per_day[s], &high->false_per_day[s]);
	widen_rate(loud, days, &low->false_warnings_per_day, &high->false_warnings_per_day);
	widen_rate(c->false_opens[SEVERITY_CRITICAL], days / 7, &low->false_criticals_per_week, &high->false_criticals_per_week);
}

int eval_bootstrap(const struct eval_counts *unit, const struct eval_waits *waits, const struct eval_opts *opts, struct eval_result *r)
{
	CLEANUP(freep) uint32_t *times = calloc(r->units + 1, sizeof(*times));
	CLEANUP(freep) double *drawn = calloc((size_t)opts->resamples * DEGREES + 1, sizeof(*drawn));
	uint64_t state = opts->seed;
	double *low = (double *)&r->low, *high = (double *)&r->high;

	if (!times || !drawn)
		return -ENOMEM;
	for (size_t i = 0; i < DEGREES; i++)
		low[i] = high[i] = NAN;
	r->resamples = opts->resamples;
	if (!opts->resamples)
		return 0;
	for (uint32_t k = 0; k < opts->resamples; k++) {
		struct eval_counts sum = { 0 };
		double *to = (double *)&sum;
		struct eval_figures f;

		memset(times, 0, r->units * sizeof(*times));
		for (size_t i = 0; i < r->units; i++)
			times[next(&state) % r->units]++;
		for (size_t i = 0; i < r->units; i++) {
			const double *from = (const double *)&unit[i];

			for (size_t j = 0; times[i] && j < sizeof(sum) / sizeof(double); j++)
				to[j] += times[i] * from[j];
		}
		eval_figures_of(&sum, waits, times, &f);
		/* By column, so that each figure's draws lie together. */
		for (size_t j = 0; j < DEGREES; j++)
			drawn[j * opts->resamples + k] = ((const double *)&f)[j];
	}
	for (size_t j = 0; j < DEGREES; j++)
		middle(drawn + j * opts->resamples, opts->resamples, &low[j], &high[j]);
	widen(r);
	return 0;
}
