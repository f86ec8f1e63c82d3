/*
 * forest.h - isolation forest: how easily one feature vector is told apart from those that were learnt. A second opinion.
 *
 * Streaming: vectors are learnt into a decayed sample, the trees are rebuilt from it one at a time. One allocation, at open (or load);
 * nothing is allocated, logged or timed afterwards. Deterministic: the same calls give the same bits on every machine (own generator,
 * IEEE arithmetic without contraction, no libm). Memory: forest_bytes(), at most FOREST_BYTES_MAX.
 *
 * A vector is `dim` floats. NaN: the feature is not present; not the same as 0. Missing is no evidence: at a split on a feature that it
 * lacks, a vector goes the way that was drawn for that split in proportion to the vectors on both sides, and the feature has no part in
 * the attribution. Beyond +-FOREST_VALUE_MAX values are cut. The caller chooses scales: what spans decades should come as a logarithm.
 *
 * Costs of a call (tools/forest-compare.py bench): forest_score() walks all trees; forest_add(), forest_step() rebuild one tree at most.
 */
#ifndef WEIR_DETECT_FOREST_H
#define WEIR_DETECT_FOREST_H

#include "base/util.h"

#define FOREST_DIM_MAX 32
#define FOREST_TREES_MAX 128
#define FOREST_SAMPLE_MAX 256     /* more per tree hides outliers in the crowd (swamping, masking), and costs depth */
#define FOREST_RESERVOIR_MAX 2048 /* with 128 trees and 32 features the whole stays below 1 MiB */
#define FOREST_LABELS_MAX 64      /* of each kind; beyond, the oldest goes */
#define FOREST_LEARN_MIN 64       /* before so many vectors nothing is scored */
#define FOREST_VALUE_MAX 1e18f
#define FOREST_BYTES_MAX (1u << 20)

struct forest_opts {
	uint32_t dim;
	uint64_t seed;
	uint32_t trees;         /* 0: 100 */
	uint32_t sample;        /* 0: 256; vectors per tree, 32 at least */
	uint32_t reservoir;     /* 0: 2048; not below sample */
	uint32_t memory;        /* 0: 32768; additions after which 1/e of what was learnt is left; not below reservoir */
	uint32_t adds_per_tree; /* 0: 16; additions from one rebuilt tree to the next, once the forest has grown */
};

enum forest_near { FOREST_NEAR_NONE, FOREST_NEAR_FALSE_POSITIVE, FOREST_NEAR_TRUE_POSITIVE };

struct forest_result {
	double score;                 /* 2^(-E[h]/c(n)), 0..1; 0.5 and less: like the others */
	double p;                     /* share of the forest's own recent scores that reach this one, in (0, 1]; 1 while there are none */
	float share[FOREST_DIM_MAX];  /* which feature shortens the path, summing to 1; 0 for one that is missing */
	enum forest_near near;        /* the label that it resembles */
};

struct forest_stats {
	uint64_t seen;        /* vectors given to forest_add() */
	uint64_t refused;     /* of these not learnt, for they resemble a true positive */
	uint64_t built;       /* trees, in all */
	uint64_t purged;      /* learnt, then found to be true positives */
	uint32_t held;        /* vectors in the sample */
	uint32_t due;         /* trees that wait for forest_step() */
	uint32_t false_positives, true_positives;
	uint32_t forgotten;   /* labels displaced by newer ones */
};

struct forest;
int forest_open(const struct forest_opts *opts, struct forest **ret); /* -EINVAL beyond the limits, -ENOMEM */
struct forest *forest_free(struct forest *f);
static inline void forest_freep(struct forest **f)
{
	forest_free(*f);
}

/* -EAGAIN before there are trees; -EINVAL where no feature is present. */
int forest_score(const struct forest *f, const float *x, struct forest_result *ret);

/*
 * Learns x, unless it resembles a true positive. scored: what forest_score() said of x just before, for the calibration of p; NULL: it
 * was not asked, and p does not learn. Not to be called for what an open incident holds.
 */
int forest_add(struct forest *f, const float *x, const struct forest_result *scored);

/* Rebuilds one tree if one is due. 1: more are due; 0: none. To be called from idle time; forest_add() does the same. */
int forest_step(struct forest *f);

/*
 * The user's word on x. A false positive joins every tree as a small cloud around x: once the trees are rebuilt its neighbourhood is
 * normal, and what is weaker in the same features; what is far stronger, or odd in another feature, is not. A true positive is taken
 * out of what was learnt, with its neighbourhood (at most half way to the median of what is normal), and kept out. A label takes back
 * the opposite one that it resembles.
 */
int forest_label(struct forest *f, const float *x, bool anomalous);

void forest_stats(const struct forest *f, struct forest_stats *ret);
uint32_t forest_dim(const struct forest *f);
size_t forest_bytes(const struct forest *f);

/*
 * A versioned blob, little endian, trees included: what is loaded goes on to the bit as what was saved. A blob is hostile: load answers
 * -EINVAL for what is cut, lengthened, of another version, or makes no sense. save: -ENOSPC when cap is less than forest_save_bytes().
 */
size_t forest_save_bytes(const struct forest *f);
int forest_save(const struct forest *f, void *to, size_t cap, size_t *ret_n);
int forest_load(const void *from, size_t n, struct forest **ret);

#endif
