/*
 * quantile.h - quantiles of positive values in fixed bytes: a histogram whose buckets grow by a constant ratio.
 *
 * quantile_at() is within 5 % of a value that was added, as long as all values lie within a factor of 200,000 of
 * the largest; what is smaller is counted in the lowest bucket. Weights may be fractions, histograms can be merged
 * and forgotten slowly. Zeros, negative values and NaN count as 0. Pure arithmetic, no allocation.
 */
#ifndef WEIR_DETECT_QUANTILE_H
#define WEIR_DETECT_QUANTILE_H

#include "base/util.h"

#define QUANTILE_BUCKETS 128 /* at a ratio of 1.1: five decades, half a kilobyte */

struct quantile {
	float bucket[QUANTILE_BUCKETS]; /* [i] holds (r^(base+i-1), r^(base+i)]; [0] whatever is positive and smaller, too */
	float zero;
	float total;
	int32_t base;
};

void quantile_init(struct quantile *q);
void quantile_add(struct quantile *q, double x, double weight);
/* All weights times keep (0..1). */
void quantile_decay(struct quantile *q, double keep);
void quantile_merge(struct quantile *q, const struct quantile *from);
/* The value that a share p (0..1) of the weight does not exceed; 0 when empty. */
double quantile_at(const struct quantile *q, double p);
/* The share of the weight that exceeds x, interpolated within a bucket; 0 when empty. */
double quantile_above(const struct quantile *q, double x);

#endif
