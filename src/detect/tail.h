/*
 * tail.h - how rare is a value? Peaks over threshold: the excesses over a high quantile follow a generalised Pareto
 * law (Siffer et al., KDD 2017), fitted here to the last ones by probability-weighted moments.
 *
 * For values >= 0 on whose size a test rests: absolute residuals, z scores, jumps. The threshold follows its quantile
 * by itself, counts are decayed, a prior stands in until there is data: tail_p() is meaningful from the first value on.
 * The caller decides what is taught: values of an open incident should not be. Pure arithmetic, no allocation,
 * no reference to time, same input same output. About 550 bytes.
 */
#ifndef WEIR_DETECT_TAIL_H
#define WEIR_DETECT_TAIL_H

#include "base/util.h"

#define TAIL_EXCESSES 128 /* the shape of so many is within some .1; sorting them is what a fit costs */
#define TAIL_P_MIN 1e-12 /* below, a probability says nothing that data could have shown */

struct tail_opts {
	double share;     /* of the values that shall lie above the threshold: .02 is usual */
	double half_life; /* values after which a count has halved; 0: nothing is forgotten */
	double threshold; /* prior: where the threshold is believed to be */
	double excess;    /* prior: mean excess above it; moves with the threshold */
};

/* |z| of a standard normal: 2 % lie above 2.33, by .37 on average. A heavier hand may scale both. */
#define TAIL_NORMAL ((struct tail_opts){ .share = .02, .half_life = 20000, .threshold = 2.33, .excess = .37 })

struct tail {
	float share, keep;
	float threshold;
	float prior;           /* mean excess, in thresholds */
	float seen, above;     /* decayed counts */
	float shape, scale;    /* of the fit in force */
	float ring[TAIL_EXCESSES]; /* the last values above the threshold of their day */
	uint16_t used, next;
};

void tail_init(struct tail *t, const struct tail_opts *opts);
/* Teaches a value. Negative, infinite or NaN: ignored. */
void tail_add(struct tail *t, double x);
/*
 * The probability that one observation exceeds x: 1 at 0, TAIL_P_MIN at least. Below the threshold only an
 * interpolation; above it the fit, and it falls strictly with x.
 */
double tail_p(const struct tail *t, double x);
/* The x that is exceeded with probability p (TAIL_P_MIN..1): the inverse of tail_p(). */
double tail_quantile(const struct tail *t, double p);
/* What n looks at once make of p: the probability that the largest of n values is as rare. */
double tail_p_of_n(double p, double n);

#endif
