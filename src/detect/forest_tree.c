/*
 * One isolation tree (Liu, Ting, Zhou 2008), with what it lacks: distance. The plain tree gives all of an unbounded leaf the same depth,
 * dilutes one feature that is far off among many that are not, and cannot see one that never varied before. Here, at each level,
 *
 * - a query that is beyond the tree's range is cut off with probability E / (E + features), E the sum of its excesses in ranges (a
 *   feature with one value counts 1): the reasoning of the robust random cut forest (Guha et al. 2016), where the query is as if inserted;
 * - and beyond the range that the node was split over, with the part that its excess has of the extended range. This holds within
 *   the tree's range: what lies beyond a false positive's cloud is not excused with it.
 *
 * A missing value follows a side that was drawn.
 */
#include <math.h>

#include "detect/forest_internal.h"

#define DRAWS 6         /* of a feature by a vector that has it; then any feature: a bound, not a rule */
#define WEIGHT_LEFT 1e-3 /* of a query that was cut off nearly surely: nothing below matters */

/* splitmix64: any state will do, and it is eight bytes in a blob. */
static uint64_t random_next(struct forest *f)
{
	uint64_t z = f->rng += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

/* By multiplication: its bias, n in 2^32, harms nobody. */
uint32_t forest_below(struct forest *f, uint32_t n)
{
	return (uint32_t)((random_next(f) >> 32) * n >> 32);
}

double forest_unit(struct forest *f)
{
	return ((double)(random_next(f) >> 40) + 0.5) * 0x1p-24;
}

/* Range of a feature over rows; how many have it. */
static uint32_t range_of(const struct forest *f, const uint16_t *index, uint32_t n, uint32_t feature, float *ret_lo, float *ret_hi)
{
	float lo = FLT_MAX, hi = -FLT_MAX;
	uint32_t present = 0;

	for (uint32_t i = 0; i < n; i++) {
		float v = f->rows[index[i] * f->o.dim + feature];

		/* false for NaN */
		lo = v < lo ? v : lo;
		hi = v > hi ? v : hi;
		present += v == v;
	}
	*ret_lo = lo;
	*ret_hi = hi;
	return present;
}

static uint32_t nth_set(uint32_t mask, uint32_t nth)
{
	while (nth--)
		mask &= mask - 1;
	return (uint32_t)__builtin_ctz(mask);
}

/*
 * A feature that varies among these rows, drawn about in proportion to how many have it: a feature that few carry must not use up the
 * depth of all. Those that do not vary leave *open, also for what lies below. -1: none is left.
 */
static int feature_draw(struct forest *f, const uint16_t *index, uint32_t n, uint32_t *open, float *ret_lo, float *ret_hi, uint32_t *ret_present)
{
	while (*open) {
		uint32_t candidates = (uint32_t)__builtin_popcount(*open), feature = 0;

		for (unsigned i = 0; i < DRAWS; i++) {
			feature = nth_set(*open, forest_below(f, candidates));
			if (!isnan(f->rows[index[forest_below(f, n)] * f->o.dim + feature]))
				break;
		}
		*ret_present = range_of(f, index, n, feature, ret_lo, ret_hi);
		if (*ret_lo < *ret_hi)
			return (int)feature;
		*open &= ~(1u << feature);
	}
	return -1;
}

/* Rows of the left side first; answers how many. */
static uint32_t partition(const struct forest *f, uint16_t *index, uint32_t n, const struct forest_node *d)
{
	uint32_t left = 0;

	for (uint32_t i = 0; i < n; i++) {
		float v = f->rows[index[i] * f->o.dim + d->feature];
		bool right = isnan(v) ? d->missing_right : v >= d->split;

		if (!right) {
			uint16_t t = index[left];

			index[left++] = index[i];
			index[i] = t;
		}
	}
	return left;
}

/* Recurses `depth` times at most (8). Answers a reference. */
static uint16_t grow(struct forest *f, uint32_t tree, uint16_t *index, uint32_t n, uint32_t depth, uint32_t open)
{
	struct forest_tree *t = &f->trees[tree];
	struct forest_node d = { .n = (uint16_t)n };
	uint32_t present = 0, below_split = 0, left;
	uint16_t at;
	int feature;

	if (n < 2 || !depth)
		return (uint16_t)(FOREST_LEAF | n);
	feature = feature_draw(f, index, n, &open, &d.lo, &d.hi, &present);
	if (feature < 0)
		return (uint16_t)(FOREST_LEAF | n);
	d.feature = (uint8_t)feature;
	d.split = (float)(d.lo + ((double)d.hi - d.lo) * forest_unit(f));
	if (d.split <= d.lo || d.split > d.hi)
		d.split = d.hi; /* rounded; so both sides have one at least */
	for (uint32_t i = 0; i < n; i++)
		below_split += f->rows[index[i] * f->o.dim + d.feature] < d.split;
	d.missing_right = forest_below(f, present) >= below_split;
	left = partition(f, index, n, &d);
	at = t->used++;
	d.left = grow(f, tree, index, left, depth - 1, open);
	d.right = grow(f, tree, index + left, n - left, depth - 1, open);
	forest_nodes(f, tree)[at] = d;
	return at;
}

void forest_tree_build(struct forest *f, uint32_t tree, uint32_t n)
{
	struct forest_tree *t = &f->trees[tree];
	uint32_t depth = 0, open = 0;

	*t = (struct forest_tree){ .n = (uint16_t)n };
	for (uint32_t i = 0; i < n; i++)
		f->index[i] = (uint16_t)i;
	for (uint32_t j = 0; j < f->o.dim; j++) {
		float lo, hi;
		uint32_t present = range_of(f, f->index, n, j, &lo, &hi);

		if (lo < hi)
			open |= 1u << j;
		else if (present <= n / 2)
			continue; /* a few that agree are no rule */
		t->known |= 1u << j;
		t->lo[j] = lo;
		t->hi[j] = hi;
	}
	t->open = (uint16_t)__builtin_popcount(open);
	/* Below the mean depth only what is normal is split further. */
	while (1u << depth < n)
		depth++;
	t->root = grow(f, tree, f->index, n, depth, open);
}

static uint32_t size_of(const struct forest_node *nodes, uint32_t ref)
{
	return ref & FOREST_LEAF ? ref & ~FOREST_LEAF : nodes[ref].n;
}

/* How far x is beyond the tree's range, feature by feature, in ranges; answers the sum. Of a feature with one value: 1. */
static double excess_of(const struct forest *f, const struct forest_tree *t, const float *x, double *excess)
{
	double sum = 0;

	for (uint32_t j = 0; j < f->o.dim; j++) {
		double lo = t->lo[j], hi = t->hi[j], beyond = x[j] < lo ? lo - x[j] : x[j] > hi ? x[j] - hi : 0;

		excess[j] = 0;
		if (!(beyond > 0) || !(t->known >> j & 1))
			continue;
		excess[j] = lo < hi ? beyond / (hi - lo) : 1;
		sum += excess[j];
	}
	return sum;
}

/* What the excesses earned, to each its part. */
static void share_out(const struct forest *f, double *gain, const double *excess, double each)
{
	for (uint32_t j = 0; j < f->o.dim; j++)
		gain[j] += excess[j] * each;
}

double forest_tree_walk(const struct forest *f, uint32_t tree, const float *x, double *gain)
{
	const struct forest_tree *t = &f->trees[tree];
	const struct forest_node *nodes = forest_nodes(f, tree);
	const double *c = f->c, unit = 1.0 / c[t->n];
	double excess[FOREST_DIM_MAX], beyond = excess_of(f, t, x, excess), leave = beyond > 0 ? beyond / (beyond + t->open) : 0;
	double length = 0, weight = 1, earned = 0;
	uint32_t ref = t->root;

	if (beyond > 0 && ref & FOREST_LEAF) { /* all alike, but for this one */
		share_out(f, gain, excess, (c[t->n] - 1) * unit / beyond);
		return unit;
	}
	/*
	 * A step costs one level and earns what the mean depth of those that are left falls by: c(n) - 1 - c(m), on average 0. The sum over
	 * all steps is c(n) of the tree less the path (but for steps over missing features): the gains are an account of the score.
	 */
	while (!(ref & FOREST_LEAF)) {
		const struct forest_node *d = &nodes[ref];
		double v = x[d->feature], cut = 0;
		uint32_t next;

		length += weight;
		earned += weight * leave * (c[d->n] - 1);
		weight *= 1 - leave;
		if (isnan(v)) {
			ref = d->missing_right ? d->right : d->left;
			continue;
		}
		if (v < d->lo)
			cut = (d->lo - v) / (d->hi - v);
		else if (v > d->hi)
			cut = (v - d->hi) / (v - d->lo);
		next = v < d->split ? d->left : d->right;
		gain[d->feature] += weight * (c[d->n] - 1 - (1 - cut) * c[size_of(nodes, next)]) * unit;
		weight *= 1 - cut;
		ref = next;
		if (weight < WEIGHT_LEFT)
			break;
	}
	if (beyond > 0)
		share_out(f, gain, excess, earned * unit / beyond);
	if (!(ref & FOREST_LEAF))
		return length * unit;
	return (length + weight * c[ref & ~FOREST_LEAF]) * unit;
}
