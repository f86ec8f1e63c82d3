/*
 * forest_internal.h - the forest's state, shared by forest.c (learning, labels, scores), forest_tree.c (one tree) and forest_blob.c.
 */
#ifndef WEIR_DETECT_FOREST_INTERNAL_H
#define WEIR_DETECT_FOREST_INTERNAL_H

#include <float.h>

#include "detect/forest.h"

/*
 * The same bits everywhere: no fused multiply-add (gcc has none in ISO mode; clang is told), no wider intermediates, no reordering.
 */
#ifdef __clang__
#pragma STDC FP_CONTRACT OFF
#endif
#ifdef __FAST_MATH__
#error "forest: -ffast-math breaks determinism and NaN"
#endif
_Static_assert(FLT_EVAL_METHOD == 0, "forest: floats must be evaluated as what they are");

#define FOREST_BINS 1024
#define FOREST_BINS_TOTAL 8192 /* scores remembered; then all bins are halved: p is resolved to 1e-4 */
#define FOREST_DEPTH_MAX 8       /* log2 of the largest sample */
#define FOREST_LEAF 0x8000u    /* of a reference: the rest is the number of vectors there */

/* An inner node. Leaves have no node: the reference to one holds its size. */
struct forest_node {
	float split;         /* left: below */
	float lo, hi;        /* of the vectors that were split here */
	uint16_t left, right;
	uint16_t n;
	uint8_t feature;
	uint8_t missing_right;
};

struct forest_tree {
	uint16_t root, used, n; /* n: vectors it was built from; 0: not built */
	uint16_t open;          /* how many features vary */
	uint32_t known;         /* features that have a range */
	float lo[FOREST_DIM_MAX], hi[FOREST_DIM_MAX];
};

struct forest_labels {
	uint32_t n;
	float x[FOREST_LABELS_MAX][FOREST_DIM_MAX]; /* oldest first */
};

struct forest {
	struct forest_opts o; /* without zeros */
	uint64_t rng;
	uint64_t seen, refused, built, purged;
	uint32_t held, grown; /* vectors; trees built at least once: the first ones */
	uint32_t due, next;   /* trees to rebuild; the next of them */
	uint32_t since;       /* additions since the last tree fell due */
	uint32_t forgotten, next_scale;
	float centre[FOREST_DIM_MAX], scale[FOREST_DIM_MAX]; /* median, robust sigma; scale 0: not known */
	struct forest_labels fp, tp;
	uint32_t bins_total;
	uint32_t bins[FOREST_BINS];

	struct forest_tree trees[FOREST_TREES_MAX];
	double c[FOREST_SAMPLE_MAX + 1]; /* mean depth of a tree of so many */
	size_t bytes;
	float *held_x;             /* reservoir x dim */
	struct forest_node *nodes; /* trees x (sample - 1) */
	/* scratch of a rebuild */
	float rows[FOREST_SAMPLE_MAX * FOREST_DIM_MAX];
	uint16_t index[FOREST_SAMPLE_MAX];
};

static inline struct forest_node *forest_nodes(const struct forest *f, uint32_t tree)
{
	return f->nodes + (size_t)tree * (f->o.sample - 1);
}

uint32_t forest_below(struct forest *f, uint32_t n); /* 0..n-1 */
double forest_unit(struct forest *f);                /* inside (0, 1) */

/* From the first n rows. */
void forest_tree_build(struct forest *f, uint32_t tree, uint32_t n);
/* Path length of x over c(n); adds to gain[] what each feature shortened it by. */
double forest_tree_walk(const struct forest *f, uint32_t tree, const float *x, double *gain);

#endif
