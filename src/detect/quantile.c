#include "detect/quantile.h"

#include <limits.h>
#include <math.h>

#define RATIO 1.1
#define EMPTY INT32_MIN

static double log_ratio(void)
{
	return log(RATIO);
}

void quantile_init(struct quantile *q)
{
	memset(q, 0, sizeof(*q));
	q->base = EMPTY;
}

/* Makes index the top bucket at least: what falls off below is collapsed into the lowest. */
static void reach(struct quantile *q, int32_t index)
{
	int32_t shift;
	float low = 0;

	if (q->base == EMPTY)
		q->base = index - QUANTILE_BUCKETS / 2;
	shift = index - (q->base + QUANTILE_BUCKETS - 1);
	if (shift <= 0)
		return;
	for (int32_t i = 0; i < QUANTILE_BUCKETS && i <= shift; i++)
		low += q->bucket[i];
	for (int32_t i = 0; i < QUANTILE_BUCKETS; i++)
		q->bucket[i] = i + shift < QUANTILE_BUCKETS ? q->bucket[i + shift] : 0;
	q->bucket[0] = low;
	q->base += shift;
}

static void add_at(struct quantile *q, int32_t index, float weight)
{
	reach(q, index);
	q->bucket[MAX(index - q->base, 0)] += weight;
}

void quantile_add(struct quantile *q, double x, double weight)
{
	if (!(weight > 0) || !isfinite(weight))
		return;
	if (!(x > 0))
		q->zero += (float)weight;
	else
		add_at(q, (int32_t)ceil(log(MIN(x, 1e300)) / log_ratio()), (float)weight);
	q->total += (float)weight;
}

void quantile_decay(struct quantile *q, double keep)
{
	const float k = (float)(keep > 0 ? MIN(keep, 1.0) : 0.0);

	q->total = q->zero *= k;
	for (int i = 0; i < QUANTILE_BUCKETS; i++)
		q->total += q->bucket[i] *= k; /* summed afresh: the rounding of many additions does not pile up */
}

void quantile_merge(struct quantile *q, const struct quantile *from)
{
	for (int i = QUANTILE_BUCKETS - 1; i >= 0; i--)
		if (from->bucket[i] > 0)
			add_at(q, from->base + i, from->bucket[i]);
	q->zero += from->zero;
	q->total += from->total;
}

double quantile_at(const struct quantile *q, double p)
{
	double left = MAX(0.0, MIN(p, 1.0)) * (double)q->total - (double)q->zero;
	int top = -1;

	if (left <= 0)
		return 0;
	for (int i = 0; i < QUANTILE_BUCKETS; i++) {
		if (!(q->bucket[i] > 0))
			continue;
		top = i;
		left -= (double)q->bucket[i];
		if (left <= 0)
			break;
	}
	return top < 0 ? 0 : exp((q->base + top - 0.5) * log_ratio());
}

double quantile_above(const struct quantile *q, double x)
{
	double above = 0, at;
	int index;

	if (!(q->total > 0))
		return 0;
	if (x < 0)
		return 1;
	if (!(x > 0) || q->base == EMPTY)
		return x > 0 ? 0 : 1 - (double)q->zero / (double)q->total;
	at = log(MIN(x, 1e300)) / log_ratio() - q->base;
	index = (int)ceil(MAX(at, -1.0));
	for (int i = MAX(index + 1, 0); i < QUANTILE_BUCKETS; i++)
		above += (double)q->bucket[i];
	if (index >= 0 && index < QUANTILE_BUCKETS)
		above += (double)q->bucket[index] * (index - at);
	return above / (double)q->total;
}
