#include "detect/tail.h"

#include <math.h>

#define PRIOR_EXCESSES 6.0  /* what the prior is worth */
#define SHAPE_PRIOR 0.1     /* a little heavier than exponential ... */
#define SHAPE_EXCESSES 16.0 /* ... until measured: with so many excesses that has half the weight */
#define SHAPE_MAX 0.8       /* at 1 there is no mean */
#define WARM 400.0          /* values until the threshold has stopped to hurry */
#define STEP_WARM 0.5       /* of the logarithm of the threshold, for a value above it ... */
#define STEP 0.02           /* ... and when warm */
#define RAISE 2.0           /* with so many times the share above it, the threshold is wrong: raise it at once */

static int by_value(const void *a, const void *b)
{
	const float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

/*
 * Probability-weighted moments (Hosking and Wallis 1987): plain ones need a variance, and call a heavy tail light
 * in most samples. a0 = E[e], a1 = E[e (1 - F(e))]; shape = 2 - a0 / (a0 - 2 a1).
 */
static void fit(struct tail *t)
{
	float e[TAIL_EXCESSES];
	double a0 = 0, a1 = 0, shape = SHAPE_PRIOR, mean;
	int n = 0;

	for (int i = 0; i < t->used; i++)
		if (t->ring[i] > t->threshold) /* else from a day of a lower threshold */
			e[n++] = t->ring[i] - t->threshold;
	qsort(e, n, sizeof(e[0]), by_value);
	for (int i = 0; i < n; i++) {
		a0 += (double)e[i];
		a1 += (double)e[i] * (n - i - 0.65) / n;
	}
	if (n >= 2 && a0 > 2 * a1)
		shape = (SHAPE_PRIOR * SHAPE_EXCESSES + (2 - a0 / (a0 - 2 * a1)) * n) / (SHAPE_EXCESSES + n);
	mean = (a0 + (double)t->prior * (double)t->threshold * PRIOR_EXCESSES) / (n + PRIOR_EXCESSES);
	/* A negative shape ends the world at the largest value seen: never claim that. */
	shape = MAX(0.0, MIN(shape, SHAPE_MAX));
	t->shape = (float)shape;
	t->scale = (float)(mean * (1 - shape));
}

void tail_init(struct tail *t, const struct tail_opts *opts)
{
	memset(t, 0, sizeof(*t));
	t->share = (float)MAX(1e-4, MIN(opts->share, 0.5));
	t->keep = opts->half_life > 0 ? (float)exp2(-1 / opts->half_life) : 1.0f;
	t->threshold = (float)MAX(opts->threshold, 1e-30);
	t->prior = (float)(MAX(opts->excess, 1e-30) / (double)t->threshold);
	fit(t);
}

/* The threshold moves to the middle of the ring; half of what counted as above does so no more. */
static void raise_threshold(struct tail *t)
{
	float sorted[TAIL_EXCESSES], kept[TAIL_EXCESSES];
	uint16_t n = 0;

	memcpy(sorted, t->ring, sizeof(sorted));
	qsort(sorted, TAIL_EXCESSES, sizeof(sorted[0]), by_value);
	t->threshold = MAX(t->threshold, sorted[TAIL_EXCESSES / 2 - 1]);
	t->above *= 0.5f;
	for (int i = 0; i < TAIL_EXCESSES; i++) {
		const float x = t->ring[(t->next + i) % TAIL_EXCESSES]; /* oldest first */

		if (x > t->threshold)
			kept[n++] = x;
	}
	memset(t->ring, 0, sizeof(t->ring));
	memcpy(t->ring, kept, n * sizeof(kept[0]));
	t->used = n;
	t->next = (uint16_t)(n % TAIL_EXCESSES);
}

void tail_add(struct tail *t, double x)
{
	double step;
	bool above;

	if (!(x >= 0) || !isfinite(x))
		return;
	x = MIN(x, 1e30);
	above = x > (double)t->threshold;
	t->seen = t->seen * t->keep + 1;
	t->above = t->above * t->keep + (above ? 1.0f : 0.0f);
	step = STEP + (STEP_WARM - STEP) * exp(-(double)t->seen / WARM);
	if (above) {
		t->ring[t->next] = (float)x;
		t->next = (uint16_t)((t->next + 1) % TAIL_EXCESSES);
		t->used = (uint16_t)MIN(t->used + 1, TAIL_EXCESSES);
		if (t->used == TAIL_EXCESSES && t->above > (float)RAISE * t->share * t->seen)
			raise_threshold(t);
		/* Robbins-Monro on the logarithm: at rest, a share of steps up outweighs the rest down. */
		t->threshold = (float)MIN((double)t->threshold * exp(step * (1 - (double)t->share)), x);
		fit(t);
	} else {
		t->threshold = (float)MAX((double)t->threshold * exp(-step * (double)t->share), 1e-30);
	}
}

/* The measured share above the threshold; what was set out for is worth a dozen excesses. */
static double share_above(const struct tail *t)
{
	const double prior = 12.0;

	return ((double)t->above + prior) / ((double)t->seen + prior / (double)t->share);
}

double tail_p(const struct tail *t, double x)
{
	const double share = share_above(t), excess = x - (double)t->threshold, scale = (double)t->scale,
		     shape = (double)t->shape;
	double p;

	if (!(x > 0))
		return 1;
	if (excess <= 0)
		return exp(log(share) * x / (double)t->threshold);
	p = share * (shape > 1e-6 ? pow(1 + shape * excess / scale, -1 / shape) : exp(-excess / scale));
	return MAX(p, TAIL_P_MIN);
}

double tail_quantile(const struct tail *t, double p)
{
	const double share = share_above(t), scale = (double)t->scale, shape = (double)t->shape;

	p = MAX(TAIL_P_MIN, MIN(p, 1.0));
	if (p >= share)
		return log(p) / log(share) * (double)t->threshold;
	return (double)t->threshold +
	       (shape > 1e-6 ? scale / shape * (pow(share / p, shape) - 1) : scale * log(share / p));
}

double tail_p_of_n(double p, double n)
{
	return p >= 1 ? 1 : -expm1(n * log1p(-p));
}
