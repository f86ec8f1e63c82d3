/*
 * The sample, the labels, the calibration. Trees are in forest_tree.c.
 */
#include "detect/forest.h"

#include <math.h>

#include "detect/forest_internal.h"

#define TREES 100
#define SAMPLE 256
#define SAMPLE_MIN 32
#define RESERVOIR 2048
#define MEMORY 32768
#define ADDS_PER_TREE 16
#define READY_TREES 25   /* a score from fewer is noise */
#define VALUE_TINY 1e-30f /* below it is 0: no denormals, no -0 */

/* False positives in a tree's sample */
#define CLOUD 32          /* vectors for each: c(32) is more than half of c(256), so the path is as long as that of what is normal */
#define CLOUD_SHARE 3 / 8 /* of the sample, for all labels together */
#define CLOUD_SIGMA 1.5   /* half width: what the feature varies by anyhow */
#define CLOUD_REACH 0.15  /* and of how far x is from the median: large things vary more */

/* The distance between vectors, in robust sigma */
#define SIGMA_SAME 1.5    /* so much apart is the same: else the noise of many features hides that a few agree */
#define SIGMA_MAX 8.0     /* of one feature */
#define LABEL_RADIUS 3.0
#define LABEL_REACH 0.5   /* and of the way from the label to the median, so that no label forbids what is normal */
#define LABEL_AWAY 0.7    /* a label nearer to the median is amid what is normal, and says nothing about its neighbours */
#define SCALE_MIN 16      /* values that a scale is measured from, at least */

_Static_assert(sizeof(struct forest) + FOREST_RESERVOIR_MAX * FOREST_DIM_MAX * sizeof(float) +
		       FOREST_TREES_MAX * (FOREST_SAMPLE_MAX - 1) * sizeof(struct forest_node) <=
	       FOREST_BYTES_MAX, "the largest forest is larger than it says");

static bool opts_resolve(struct forest_opts *o)
{
	if (!o->trees)
		o->trees = TREES;
	if (!o->sample)
		o->sample = SAMPLE;
	if (!o->reservoir)
		o->reservoir = MAX(RESERVOIR, o->sample);
	if (!o->memory)
		o->memory = MAX(MEMORY, o->reservoir);
	if (!o->adds_per_tree)
		o->adds_per_tree = ADDS_PER_TREE;
	return o->dim >= 1 && o->dim <= FOREST_DIM_MAX && o->trees <= FOREST_TREES_MAX && o->sample >= SAMPLE_MIN && o->sample <= FOREST_SAMPLE_MAX &&
	       o->reservoir >= MAX(o->sample, FOREST_LEARN_MIN) && o->reservoir <= FOREST_RESERVOIR_MAX && o->memory >= o->reservoir;
}

int forest_open(const struct forest_opts *opts, struct forest **ret)
{
	struct forest_opts o = *opts;
	size_t held_bytes, node_bytes, bytes;
	struct forest *f;
	double harmonic = 0; /* H(n - 1) */

	if (!opts_resolve(&o))
		return -EINVAL;
	held_bytes = (size_t)o.reservoir * o.dim * sizeof(float);
	node_bytes = (size_t)o.trees * (o.sample - 1) * sizeof(struct forest_node);
	bytes = sizeof(*f) + held_bytes + node_bytes;
	f = calloc(1, bytes);
	if (!f)
		return -ENOMEM;
	f->o = o;
	f->rng = o.seed;
	f->bytes = bytes;
	f->held_x = (float *)(f + 1);
	f->nodes = (struct forest_node *)((char *)(f + 1) + held_bytes);
	for (uint32_t n = 2; n <= FOREST_SAMPLE_MAX; n++) {
		harmonic += 1.0 / (n - 1);
		f->c[n] = 2 * harmonic - 2.0 * (n - 1) / n;
	}
	*ret = f;
	return 0;
}

struct forest *forest_free(struct forest *f)
{
	free(f);
	return NULL;
}

/* What the forest works with: cut, rounded to 0 where tiny. False: nothing is there. */
static bool clean(const struct forest *f, const float *x, float *ret)
{
	bool any = false;

	for (uint32_t j = 0; j < f->o.dim; j++) {
		float v = x[j];

		if (isnan(v)) {
			ret[j] = NAN;
			continue;
		}
		any = true;
		v = v > FOREST_VALUE_MAX ? FOREST_VALUE_MAX : v < -FOREST_VALUE_MAX ? -FOREST_VALUE_MAX : v;
		ret[j] = v < VALUE_TINY && v > -VALUE_TINY ? 0.0f : v;
	}
	return any;
}

static float *held_at(const struct forest *f, uint32_t i)
{
	return f->held_x + (size_t)i * f->o.dim;
}

/* ---- distance -------------------------------------------------------------------------------------- */
/* Shell's, with Ciura's gaps: libc's qsort() allocates. */
static void sort(float *v, uint32_t n)
{
	static const uint32_t gaps[] = { 132, 57, 23, 10, 4, 1 };

	for (unsigned g = 0; g < ARRAY_SIZE(gaps); g++) {
		for (uint32_t i = gaps[g]; i < n; i++) {
			float x = v[i];
			uint32_t at = i;

			for (; at >= gaps[g] && v[at - gaps[g]] > x; at -= gaps[g])
				v[at] = v[at - gaps[g]];
			v[at] = x;
		}
	}
}

/* Median and robust sigma of one feature over the first n rows: each rebuild measures one. */
static void scale_measure(struct forest *f, uint32_t n)
{
	float v[FOREST_SAMPLE_MAX], spread;
	uint32_t j = f->next_scale, have = 0;

	f->next_scale = (j + 1) % f->o.dim;
	for (uint32_t i = 0; i < n; i++)
		if (!isnan(f->rows[i * f->o.dim + j]))
			v[have++] = f->rows[i * f->o.dim + j];
	if (have < SCALE_MIN)
		return;
	sort(v, have);
	f->centre[j] = v[have / 2];
	spread = (v[have * 3 / 4] - v[have / 4]) / 1.349f;
	if (spread <= 0) /* half of them are equal: the wider quantiles */
		spread = (v[have * 19 / 20] - v[have / 20]) / 3.29f;
	if (spread <= 0)
		spread = (v[have - 1] - v[0]) / 6;
	/* A feature that never varied: a thousandth is as good as equal. */
	f->scale[j] = MAX(spread, 1e-6f + 1e-3f * (v[have / 2] < 0 ? -v[have / 2] : v[have / 2]));
}

/* Mean square over the features that both have and whose scale is known; DBL_MAX where there is none, or when it is above limit2. */
static double distance2(const struct forest *f, const float *x, const float *y, double limit2)
{
	double sum = 0;
	uint32_t n = 0;

	for (uint32_t j = 0; j < f->o.dim; j++) {
		double d = (double)x[j] - y[j];

		if (isnan(d) || f->scale[j] <= 0)
			continue;
		d = (d < 0 ? -d : d) / f->scale[j] - SIGMA_SAME;
		d = d < 0 ? 0 : MIN(d, SIGMA_MAX);
		sum += d * d;
		n++;
		if (sum > limit2 * f->o.dim)
			return DBL_MAX;
	}
	return n ? sum / n : DBL_MAX;
}

static double radius2(const struct forest *f, const float *label)
{
	double to_median2 = distance2(f, label, f->centre, SIGMA_MAX * SIGMA_MAX);

	if (to_median2 == DBL_MAX || to_median2 < LABEL_AWAY * LABEL_AWAY)
		return 0;
	return MIN(LABEL_RADIUS * LABEL_RADIUS, to_median2 * (LABEL_REACH * LABEL_REACH));
}

static bool label_resembles(const struct forest *f, const float *label, const float *x)
{
	double d2 = distance2(f, label, x, LABEL_RADIUS * LABEL_RADIUS);

	return d2 < LABEL_RADIUS * LABEL_RADIUS && d2 < radius2(f, label);
}

static bool labels_resemble(const struct forest *f, const struct forest_labels *l, const float *x)
{
	for (uint32_t i = 0; i < l->n; i++)
		if (label_resembles(f, l->x[i], x))
			return true;
	return false;
}

/* ---- rebuilding ------------------------------------------------------------------------------------ */
/* n different vectors of the sample into the first rows (Floyd 1987). */
static void rows_draw(struct forest *f, uint32_t n)
{
	uint64_t taken[FOREST_RESERVOIR_MAX / 64] = { 0 };

	for (uint32_t i = 0; i < n; i++) {
		uint32_t top = f->held - n + i, at = forest_below(f, top + 1);

		if (taken[at / 64] >> at % 64 & 1)
			at = top;
		taken[at / 64] |= (uint64_t)1 << at % 64;
		memcpy(f->rows + i * f->o.dim, held_at(f, at), f->o.dim * sizeof(float));
	}
}

/* One vector of the cloud around a false positive. */
static void row_cloud(struct forest *f, const float *label, float *ret)
{
	float near[FOREST_DIM_MAX];

	for (uint32_t j = 0; j < f->o.dim; j++) {
		double away = (double)label[j] - f->centre[j], half;

		near[j] = label[j];
		if (isnan(label[j]) || f->scale[j] <= 0)
			continue;
		half = CLOUD_SIGMA * f->scale[j] + CLOUD_REACH * (away < 0 ? -away : away);
		near[j] = (float)(label[j] + half * (2 * forest_unit(f) - 1));
	}
	clean(f, near, ret);
}

static void rebuild(struct forest *f)
{
	uint32_t n = MIN(f->o.sample, f->held), cloud = MIN(f->fp.n * CLOUD, n * CLOUD_SHARE), plain = n - cloud, which;

	rows_draw(f, plain);
	scale_measure(f, plain);
	/* By turns, from one that is drawn: where they do not all find room, each does in some trees. */
	which = cloud ? forest_below(f, f->fp.n) : 0;
	for (uint32_t i = plain; i < n; i++)
		row_cloud(f, f->fp.x[which++ % f->fp.n], f->rows + i * f->o.dim);
	forest_tree_build(f, f->next, n);
	f->built++;
	f->grown = MAX(f->grown, f->next + 1);
	f->next = (f->next + 1) % f->o.trees;
	f->due -= f->due > 0;
}

int forest_step(struct forest *f)
{
	if (!f->due || f->held < FOREST_LEARN_MIN)
		return 0;
	rebuild(f);
	return f->due > 0;
}

/* ---- scores ---------------------------------------------------------------------------------------- */
/* 2^-x for x >= 0: libm's last bit differs between machines. */
static double exp2_minus(double x)
{
	uint32_t whole = (uint32_t)x; /* a path is no longer than the tree is deep */
	double t = -(x - whole) * 0.69314718055994530942, term = 1, sum = 1;

	for (unsigned i = 1; i < 16; i++) {
		term *= t / i;
		sum += term;
	}
	while (whole--)
		sum *= 0.5;
	return sum;
}

static uint32_t bin_of(double score)
{
	return (uint32_t)MIN(score * FOREST_BINS, FOREST_BINS - 1);
}

static double tail(const struct forest *f, double score)
{
	uint32_t bin = bin_of(score), above = 0;

	for (uint32_t i = bin + 1; i < FOREST_BINS; i++)
		above += f->bins[i];
	return (above + f->bins[bin] * (bin + 1 - MIN(score, 1.0) * FOREST_BINS) + 1) / (f->bins_total + 1.0);
}

/* Shares of what is positive. Nothing is: all that is there has an equal part in nothing much. */
static void attribute(const struct forest *f, const float *x, const double *gain, float *ret)
{
	double sum = 0;
	uint32_t present = 0;

	for (uint32_t j = 0; j < f->o.dim; j++) {
		sum += gain[j] > 0 ? gain[j] : 0;
		present += !isnan(x[j]);
	}
	for (uint32_t j = 0; j < FOREST_DIM_MAX; j++) {
		if (j >= f->o.dim || isnan(x[j]))
			ret[j] = 0;
		else
			ret[j] = sum > 0 ? (float)(gain[j] > 0 ? gain[j] / sum : 0) : 1.0f / (float)present;
	}
}

int forest_score(const struct forest *f, const float *raw, struct forest_result *ret)
{
	float x[FOREST_DIM_MAX];
	double gain[FOREST_DIM_MAX] = { 0 }, length = 0;

	if (!clean(f, raw, x))
		return -EINVAL;
	if (f->grown < MIN(READY_TREES, f->o.trees))
		return -EAGAIN;
	for (uint32_t t = 0; t < f->grown; t++)
		length += forest_tree_walk(f, t, x, gain);
	ret->score = exp2_minus(length / f->grown);
	ret->p = tail(f, ret->score);
	attribute(f, x, gain, ret->share);
	ret->near = labels_resemble(f, &f->tp, x) ? FOREST_NEAR_TRUE_POSITIVE :
		    labels_resemble(f, &f->fp, x) ? FOREST_NEAR_FALSE_POSITIVE : FOREST_NEAR_NONE;
	return 0;
}

static void calibrate(struct forest *f, double score)
{
	if (!(score >= 0 && score <= 1))
		return;
	f->bins[bin_of(score)]++;
	if (++f->bins_total < FOREST_BINS_TOTAL)
		return;
	f->bins_total = 0;
	for (uint32_t i = 0; i < FOREST_BINS; i++)
		f->bins_total += f->bins[i] /= 2;
}

/* ---- learning -------------------------------------------------------------------------------------- */
/* A uniform sample of all there was while that is less than the memory; then older ones fade by e^(-1/memory) per addition. */
static void learn(struct forest *f, const float *x)
{
	uint32_t at = f->held;

	if (f->held < f->o.reservoir)
		f->held++;
	else
		at = forest_below(f, (uint32_t)MIN(f->seen, f->o.memory));
	if (at < f->o.reservoir)
		memcpy(held_at(f, at), x, f->o.dim * sizeof(float));
}

/* The trees of a young forest are rebuilt as fast as vectors come. */
static void fall_due(struct forest *f)
{
	if (f->grown == f->o.trees && f->seen >= f->o.reservoir && ++f->since < f->o.adds_per_tree)
		return;
	f->since = 0;
	f->due = MAX(f->due, 1u);
}

int forest_add(struct forest *f, const float *raw, const struct forest_result *scored)
{
	float x[FOREST_DIM_MAX];

	if (!clean(f, raw, x))
		return -EINVAL;
	f->seen++;
	if (labels_resemble(f, &f->tp, x)) {
		f->refused++;
	} else {
		if (scored)
			calibrate(f, scored->score);
		learn(f, x);
		if (f->held >= FOREST_LEARN_MIN)
			fall_due(f);
	}
	forest_step(f);
	return 0;
}

static void label_drop(struct forest_labels *l, uint32_t at)
{
	l->n--;
	memmove(l->x[at], l->x[at + 1], (l->n - at) * sizeof(l->x[0]));
}

/*
 * Takes what resembles the label out of the sample; and, since it was scored as well, the like share of the scores that reach the
 * label's own: else p would go on telling that such a score is common.
 */
static void purge(struct forest *f, const float *label)
{
	double reach2 = radius2(f, label);
	uint32_t before = f->held, gone, lowest = 0;
	struct forest_result r;

	if (forest_score(f, label, &r) == 0)
		lowest = bin_of(r.score);
	for (uint32_t i = f->held; i-- > 0;) {
		if (distance2(f, label, held_at(f, i), reach2) >= reach2)
			continue;
		memcpy(held_at(f, i), held_at(f, --f->held), f->o.dim * sizeof(float));
		f->purged++;
	}
	gone = before ? (uint32_t)((uint64_t)f->bins_total * (before - f->held) / before) : 0;
	for (uint32_t i = FOREST_BINS; i-- > lowest && gone;) {
		uint32_t some = MIN(gone, f->bins[i]);

		f->bins[i] -= some;
		f->bins_total -= some;
		gone -= some;
	}
}

int forest_label(struct forest *f, const float *raw, bool anomalous)
{
	struct forest_labels *to = anomalous ? &f->tp : &f->fp, *from = anomalous ? &f->fp : &f->tp;
	float x[FOREST_DIM_MAX] = { 0 };

	if (!clean(f, raw, x))
		return -EINVAL;
	for (uint32_t i = from->n; i-- > 0;)
		if (!memcmp(from->x[i], x, sizeof(x)) || label_resembles(f, from->x[i], x) || label_resembles(f, x, from->x[i]))
			label_drop(from, i);
	if (to->n == FOREST_LABELS_MAX) {
		label_drop(to, 0);
		f->forgotten++;
	}
	memcpy(to->x[to->n++], x, sizeof(x));
	if (anomalous)
		purge(f, x);
	f->due = f->o.trees;
	return 0;
}

void forest_stats(const struct forest *f, struct forest_stats *ret)
{
	*ret = (struct forest_stats){
		.seen = f->seen, .refused = f->refused, .built = f->built, .purged = f->purged, .held = f->held, .due = f->due,
		.false_positives = f->fp.n, .true_positives = f->tp.n, .forgotten = f->forgotten,
	};
}

uint32_t forest_dim(const struct forest *f)
{
	return f->o.dim;
}

size_t forest_bytes(const struct forest *f)
{
	return f->bytes;
}
