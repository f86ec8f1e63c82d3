/* The isolation forest: what is odd ranks first and is named, missing is no evidence, labels do what they promise, blobs come back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>

#include "detect/forest.h"

#ifdef __clang__
#pragma STDC FP_CONTRACT OFF /* the vectors, too, are the same everywhere */
#endif

#define TRAIN 2100 /* fills the sample */
#define NORMAL 500
#define ODD 50

static uint64_t seed;

static double unit(void)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (double)(seed >> 40) * 0x1p-24;
}

/* Near enough: and, unlike Box-Muller, the same on every machine. */
static float normal(void)
{
	double sum = -6;

	for (unsigned i = 0; i < 12; i++)
		sum += unit();
	return (float)sum;
}

static void normals(float *x, uint32_t dim)
{
	for (uint32_t j = 0; j < dim; j++)
		x[j] = normal();
}

static struct forest *opened(uint32_t dim, uint64_t forest_seed)
{
	struct forest_opts o = { .dim = dim, .seed = forest_seed };
	struct forest *f = NULL;

	assert_int_equal(forest_open(&o, &f), 0);
	return f;
}

static struct forest_result scored(const struct forest *f, const float *x)
{
	struct forest_result r;

	assert_int_equal(forest_score(f, x, &r), 0);
	return r;
}

static void settle(struct forest *f)
{
	for (unsigned i = 0; forest_step(f) > 0; i++)
		assert_true(i < FOREST_TREES_MAX);
}

/* As a caller does: judged, then learnt. */
static void observe(struct forest *f, const float *x)
{
	struct forest_result r;

	assert_int_equal(forest_add(f, x, forest_score(f, x, &r) == 0 ? &r : NULL), 0);
}

/* A forest that has seen `n` vectors of independent normal features. */
static struct forest *grown(uint32_t dim, unsigned n)
{
	struct forest *f = opened(dim, 11);
	float x[FOREST_DIM_MAX];

	seed = 5;
	while (n--) {
		normals(x, dim);
		observe(f, x);
	}
	return f;
}

/* ---- ranking --------------------------------------------------------------------------------------- */
typedef void shape_fn(float *x, bool odd);

static void shape_blob(float *x, bool odd)
{
	normals(x, 6);
	for (unsigned j = 0; odd && j < 6; j++)
		x[j] = (float)(unit() * 14 - 7);
}

static void shape_between_two(float *x, bool odd)
{
	float at = odd ? 6 : unit() < 0.3 ? 12 : 0;

	normals(x, 4);
	for (unsigned j = 0; j < 4; j++)
		x[j] += at;
}

/* Log rates with one level, shares, noise; what is odd has a share of errors and an entropy that do not belong together. */
static void shape_window(float *x, bool odd)
{
	float level = normal() + 3;

	for (unsigned j = 0; j < 4; j++)
		x[j] = level + normal() * 0.2f;
	for (unsigned j = 4; j < 6; j++)
		x[j] = (float)(unit() * unit() * 0.1);
	normals(x + 6, 4);
	if (odd) {
		x[4] += 0.3f;
		x[7] += 4;
	}
}

static void shape_heavy(float *x, bool odd)
{
	for (unsigned j = 0; j < 5; j++) {
		double a = unit() - 0.5;

		x[j] = (float)(a / (0.51 - (a < 0 ? -a : a))); /* up to 50 */
	}
	if (odd)
		x[0] = x[1] = (float)(25 + 10 * unit());
}

/* The plateau of an attack: odd ones that are alike. */
static void shape_crowd(float *x, bool odd)
{
	normals(x, 6);
	for (unsigned j = 0; odd && j < 6; j++)
		x[j] = 4 + x[j] * 0.1f;
}

static void shape_holes(float *x, bool odd)
{
	shape_blob(x, odd);
	for (unsigned j = 1; j < 6; j++)
		if (unit() < 0.25)
			x[j] = NAN;
}

static void outliers_rank_first(void **unused)
{
	static const struct { shape_fn *fn; uint32_t dim; } shapes[] = {
		{ shape_blob, 6 }, { shape_between_two, 4 }, { shape_window, 10 }, { shape_heavy, 5 }, { shape_crowd, 6 }, { shape_holes, 6 },
	};

	(void)unused;
	for (unsigned s = 0; s < ARRAY_SIZE(shapes) * 2; s++) {
		shape_fn *fn = shapes[s / 2].fn;
		CLEANUP(forest_freep) struct forest *f = opened(shapes[s / 2].dim, s);
		double plain[NORMAL], wins = 0;
		float x[FOREST_DIM_MAX];

		seed = 1000 + s;
		for (unsigned i = 0; i < TRAIN; i++) {
			fn(x, false);
			observe(f, x);
		}
		for (unsigned i = 0; i < NORMAL; i++) {
			fn(x, false);
			plain[i] = scored(f, x).score;
			assert_true(plain[i] > 0 && plain[i] < 1);
		}
		for (unsigned i = 0; i < ODD; i++) {
			double odd;

			fn(x, true);
			odd = scored(f, x).score;
			for (unsigned k = 0; k < NORMAL; k++)
				wins += odd > plain[k] ? 1 : odd == plain[k] ? 0.5 : 0;
		}
		wins /= NORMAL * ODD;
		if (wins < 0.95)
			fail_msg("shape %u, seed %u: AUC %.4f", s / 2, s % 2, wins);
	}
}

static void score_grows_with_distance(void **unused)
{
	CLEANUP(forest_freep) struct forest *f = grown(4, TRAIN);
	double before = 0;

	(void)unused;
	for (float at = 0; at < 100; at = at * 2 + 1) {
		double now = scored(f, (float[]){ at, 0, 0, 0 }).score;

		assert_true(now > before);
		before = now;
	}
}

static void p_is_the_share_of_recent_scores(void **unused)
{
	CLEANUP(forest_freep) struct forest *f = grown(5, 6000);
	unsigned low = 0, middle = 0;
	float x[5];

	(void)unused;
	for (unsigned i = 0; i < 2000; i++) {
		struct forest_result r;

		normals(x, 5);
		r = scored(f, x);
		assert_true(r.p > 0 && r.p <= 1);
		low += r.p <= 0.05;
		middle += r.p <= 0.5;
	}
	assert_in_range(low, 50, 160);     /* 100 */
	assert_in_range(middle, 850, 1150); /* 1000 */
	assert_true(scored(f, (float[]){ 9, 9, 9, 9, 9 }).p < 1e-3);
}

static void p_is_one_while_there_are_no_scores(void **unused)
{
	CLEANUP(forest_freep) struct forest *f = opened(2, 1);
	float x[2];

	(void)unused;
	seed = 3;
	for (unsigned i = 0; i < 200; i++) {
		normals(x, 2);
		assert_int_equal(forest_add(f, x, NULL), 0);
	}
	assert_true(scored(f, (float[]){ 50, 50 }).p == 1.0);
}

/* ---- attribution ------------------------------------------------------------------------------------ */
static void attribution_names_what_moved(void **unused)
{
	CLEANUP(forest_freep) struct forest *f = grown(12, TRAIN);
	float x[12];

	(void)unused;
	for (unsigned moved = 0; moved < 12; moved++) {
		struct forest_result r;
		double sum = 0;

		normals(x, 12);
		for (unsigned j = 0; j < 12; j++)
			x[j] *= 0.5f;
		x[moved] = moved & 1 ? 9 : -9;
		r = scored(f, x);
		for (unsigned j = 0; j < FOREST_DIM_MAX; j++) {
			assert_true(r.share[j] >= 0);
			sum += r.share[j];
			if (j != moved)
				assert_true(r.share[j] < r.share[moved] / 2);
		}
		assert_true(fabs(sum - 1) < 1e-5);
		assert_true(r.share[moved] > 0.5f);
	}
	/* two that moved alike have like parts */
	memset(x, 0, sizeof(x));
	x[3] = x[8] = 8;
	assert_true(fabsf(scored(f, x).share[3] - scored(f, x).share[8]) < 0.2f);
	assert_true(scored(f, x).share[3] + scored(f, x).share[8] > 0.7f);
}

/* ---- determinism ------------------------------------------------------------------------------------ */
/* FNV-1a over the bits of scores, shares and p. */
static uint64_t checksum(uint64_t forest_seed, bool labels)
{
	CLEANUP(forest_freep) struct forest *f = opened(7, forest_seed);
	uint64_t sum = 0xcbf29ce484222325u;
	float x[7];

	seed = 77;
	for (unsigned i = 0; i < 3000; i++) {
		struct forest_result r;
		unsigned char bytes[sizeof(r.score) + sizeof(r.p) + sizeof(r.share)];

		shape_holes(x, i % 100 == 0);
		x[6] = unit() < 0.9 ? 0 : 1;
		if (labels && i % 500 == 250)
			forest_label(f, x, i % 1000 == 250);
		if (forest_score(f, x, &r) < 0) {
			forest_add(f, x, NULL);
			continue;
		}
		forest_add(f, x, &r);
		memcpy(bytes, &r.score, sizeof(r.score));
		memcpy(bytes + sizeof(r.score), &r.p, sizeof(r.p));
		memcpy(bytes + sizeof(r.score) + sizeof(r.p), r.share, sizeof(r.share));
		for (size_t k = 0; k < sizeof(bytes); k++)
			sum = (sum ^ bytes[k]) * 0x100000001b3u;
	}
	return sum;
}

static void deterministic_to_the_bit(void **unused)
{
	(void)unused;
	assert_true(checksum(1, true) == checksum(1, true));
	assert_true(checksum(1, true) != checksum(2, true));
	assert_true(checksum(1, true) != checksum(1, false));
	/* What every compiler and machine must come to. It changes with the algorithm, and then on purpose only. */
	assert_int_equal(checksum(1, true), 0x2f723c6456b57920u);
}

/* ---- missing values --------------------------------------------------------------------------------- */
static void missing_is_no_evidence(void **unused)
{
	CLEANUP(forest_freep) struct forest *f = grown(8, TRAIN);
	double whole = 0, holes = 0;
	struct forest_result r;
	float x[8];

	(void)unused;
	/* never missing while learning, missing now */
	for (unsigned i = 0; i < 300; i++) {
		normals(x, 8);
		whole += scored(f, x).score / 300;
		x[1] = x[4] = x[7] = NAN;
		r = scored(f, x);
		holes += r.score / 300;
		assert_true(r.share[1] == 0 && r.share[4] == 0 && r.share[7] == 0);
	}
	if (fabs(whole - holes) >= 0.02)
		fail_msg("mean score %.4f, with holes %.4f", whole, holes);
	/* what moved is seen all the same */
	memset(x, 0, sizeof(x));
	x[1] = NAN;
	x[2] = 9;
	r = scored(f, x);
	assert_true(r.p < 0.01 && r.share[2] > 0.5f);
	/* one feature is enough to be scored, none is not */
	for (unsigned j = 0; j < 8; j++)
		x[j] = NAN;
	assert_int_equal(forest_score(f, x, &r), -EINVAL);
	assert_int_equal(forest_add(f, x, NULL), -EINVAL);
	assert_int_equal(forest_label(f, x, true), -EINVAL);
	x[5] = 0;
	r = scored(f, x);
	assert_true(r.p > 0.05 && r.share[5] == 1.0f);
}

static void missing_while_learning(void **unused)
{
	CLEANUP(forest_freep) struct forest *f = opened(4, 9);
	float x[4];

	(void)unused;
	/* [0] is always there, [1] never, [2] in one of ten, [3] in half */
	seed = 8;
	for (unsigned i = 0; i < TRAIN; i++) {
		normals(x, 4);
		x[1] = NAN;
		if (i % 10)
			x[2] = NAN;
		if (i & 1)
			x[3] = NAN;
		observe(f, x);
	}
	assert_true(scored(f, (float[]){ 0, NAN, NAN, NAN }).p > 0.05);
	assert_true(scored(f, (float[]){ 0, 1e6f, 0, 0 }).p > 0.05); /* nobody knows what [1] should be */
	assert_true(scored(f, (float[]){ 0, NAN, NAN, 9 }).p < 0.02);
	assert_true(scored(f, (float[]){ 9, NAN, NAN, NAN }).p < 0.02);
	assert_true(scored(f, (float[]){ 0, NAN, 9, 0 }).score > scored(f, (float[]){ 0, NAN, 0, 0 }).score);
}

static void a_feature_that_never_moved_moves(void **unused)
{
	CLEANUP(forest_freep) struct forest *f = opened(6, 9), *still = opened(3, 9);
	struct forest_result r;
	float x[6];

	(void)unused;
	seed = 8;
	for (unsigned i = 0; i < TRAIN; i++) {
		normals(x, 6);
		x[2] = x[3] = 0;
		observe(f, x);
		observe(still, (float[]){ 1, 2, 3 });
	}
	r = scored(f, (float[]){ 0, 0, 0, 0.5f, 0, 0 });
	assert_true(r.share[3] > 0.5f);
	assert_true(r.score > scored(f, (float[]){ 0, 0, 0, 0, 0, 0 }).score + 0.05);
	/* nothing ever moved: no tree has a split */
	assert_true(scored(still, (float[]){ 1, 2, 3 }).score <= 0.5);
	r = scored(still, (float[]){ 1, 2, 4 });
	assert_true(r.score > 0.8 && r.share[2] == 1.0f);
}

/* ---- labels ----------------------------------------------------------------------------------------- */
static void false_positive_becomes_normal(void **unused)
{
	CLEANUP(forest_freep) struct forest *f = grown(8, TRAIN);
	float x[8] = { 0, 9, 0, 0, 7, 0, 0, 0 }, near[8];
	double before = scored(f, x).p;
	unsigned quiet = 0;

	(void)unused;
	assert_true(before < 0.01);
	assert_int_equal(forest_label(f, x, false), 0);
	settle(f);
	assert_int_equal(scored(f, x).near, FOREST_NEAR_FALSE_POSITIVE);
	for (unsigned i = 0; i < 200; i++) {
		normals(near, 8);
		for (unsigned j = 0; j < 8; j++)
			near[j] = near[j] * 0.7f + x[j];
		quiet += scored(f, near).p > 0.01;
	}
	assert_true(quiet >= 180);
	/* and it stays so while others are learnt */
	for (unsigned i = 0; i < 4000; i++) {
		normals(near, 8);
		observe(f, near);
	}
	assert_true(scored(f, x).p > 0.01);
}

static void false_positive_excuses_nothing_else(void **unused)
{
	CLEANUP(forest_freep) struct forest *f = grown(8, TRAIN);
	float x[8] = { 0, 9, 0, 0, 7, 0, 0, 0 }, other[8];

	(void)unused;
	assert_int_equal(forest_label(f, x, false), 0);
	settle(f);
	/* stronger */
	for (unsigned j = 0; j < 8; j++)
		other[j] = x[j] * 1.6f;
	assert_true(scored(f, other).p < 0.003);
	for (unsigned j = 0; j < 8; j++)
		other[j] = x[j] * 2;
	assert_true(scored(f, other).p < 0.01);
	assert_int_equal(scored(f, other).near, FOREST_NEAR_NONE);
	/* the same and something else with it */
	memcpy(other, x, sizeof(other));
	other[6] = -9;
	assert_true(scored(f, other).p < 0.01);
	assert_true(scored(f, other).share[6] > scored(f, other).share[1]);
	/* another feature altogether; the opposite side */
	assert_true(scored(f, (float[]){ 0, 0, 9, 0, 0, 7, 0, 0 }).p < 0.01);
	assert_true(scored(f, (float[]){ 0, -9, 0, 0, -7, 0, 0, 0 }).p < 0.01);
}

static void attack(float *x)
{
	normals(x, 8);
	x[2] += 8;
	x[5] += 8;
}

static void true_positive_is_not_learnt(void **unused)
{
	CLEANUP(forest_freep) struct forest *taught = grown(8, TRAIN), *told = grown(8, TRAIN);
	struct forest_stats s;
	float x[8];

	(void)unused;
	/* half of it was learnt before the user says so */
	seed = 21;
	for (unsigned i = 0; i < 2000; i++) {
		attack(x);
		observe(taught, x);
		if (i < 100)
			observe(told, x);
		if (i == 100) {
			assert_int_equal(forest_label(told, x, true), 0);
			settle(told);
			forest_stats(told, &s);
			assert_true(s.purged >= 60); /* some of the hundred fell out of the sample by themselves */
		}
		if (i >= 100)
			observe(told, x);
	}
	forest_stats(told, &s);
	assert_true(s.refused > 1850);
	settle(told);
	settle(taught);
	attack(x);
	assert_true(scored(taught, x).p > 0.05); /* that is what labels are for */
	assert_true(scored(told, x).p < 0.01);
	assert_int_equal(scored(told, x).near, FOREST_NEAR_TRUE_POSITIVE);
	/* what is normal is learnt as ever */
	forest_stats(told, &s);
	for (unsigned i = 0; i < 1000; i++) {
		struct forest_stats now;

		normals(x, 8);
		observe(told, x);
		forest_stats(told, &now);
		assert_true(now.refused - s.refused < 5);
	}
}

/* A mistaken word must not blind: whatever is called an attack, what is normal is still learnt. */
static void true_positive_on_what_is_normal(void **unused)
{
	CLEANUP(forest_freep) struct forest *f = grown(8, TRAIN);
	struct forest_stats s;
	float x[8] = { 0 };

	(void)unused;
	assert_int_equal(forest_label(f, x, true), 0);
	normals(x, 8);
	assert_int_equal(forest_label(f, x, true), 0);
	settle(f);
	forest_stats(f, &s);
	assert_true(s.purged < 100);
	for (unsigned i = 0; i < 1000; i++) {
		normals(x, 8);
		observe(f, x);
	}
	forest_stats(f, &s);
	assert_true(s.refused < 50);
}

static void labels_take_each_other_back_and_are_bounded(void **unused)
{
	CLEANUP(forest_freep) struct forest *f = grown(8, TRAIN);
	float x[8] = { 0, 9, 0, 0, 7, 0, 0, 0 };
	struct forest_stats s;

	(void)unused;
	assert_int_equal(forest_label(f, x, false), 0);
	x[1] += 0.5f;
	assert_int_equal(forest_label(f, x, true), 0);
	forest_stats(f, &s);
	assert_int_equal(s.false_positives, 0);
	assert_int_equal(s.true_positives, 1);
	settle(f);
	assert_true(scored(f, x).p < 0.01);
	for (unsigned i = 0; i < FOREST_LABELS_MAX + 10; i++) {
		normals(x, 8);
		x[i % 8] += 20;
		assert_int_equal(forest_label(f, x, false), 0);
	}
	forest_stats(f, &s);
	assert_int_equal(s.false_positives, FOREST_LABELS_MAX);
	assert_int_equal(s.forgotten, 10);
	settle(f);
	/* a full set leaves most of each tree to what is normal */
	memset(x, 0, sizeof(x));
	assert_true(scored(f, x).p > 0.2);
	x[0] = x[1] = x[2] = 30;
	assert_true(scored(f, x).p < 0.01);
}

static void labels_before_anything_was_learnt(void **unused)
{
	CLEANUP(forest_freep) struct forest *f = opened(3, 4);
	struct forest_result r;

	(void)unused;
	assert_int_equal(forest_label(f, (float[]){ 1, 2, 3 }, false), 0);
	assert_int_equal(forest_label(f, (float[]){ 1, NAN, 3 }, true), 0);
	assert_int_equal(forest_step(f), 0);
	assert_int_equal(forest_score(f, (float[]){ 1, 2, 3 }, &r), -EAGAIN);
}

/* ---- streaming -------------------------------------------------------------------------------------- */
static unsigned allocations;

/* Of the sanitizer's runtime, which unit tests are linked with; gcc 12 does not ship its header. */
int __sanitizer_install_malloc_and_free_hooks(void (*on_malloc)(const volatile void *p, size_t n), void (*on_free)(const volatile void *p));

static void on_malloc(const volatile void *p, size_t n)
{
	(void)p;
	(void)n;
	allocations++;
}

static void on_free(const volatile void *p)
{
	(void)p;
}

static void one_tree_per_call_and_no_allocation(void **unused)
{
	CLEANUP(forest_freep) struct forest *f = opened(6, 2);
	struct forest_stats s = { 0 }, last;
	struct forest_result r;
	void *volatile probe; /* else the compiler knows that nobody wants it */
	unsigned before;
	float x[6];

	(void)unused;
	seed = 1;
	assert_true(__sanitizer_install_malloc_and_free_hooks(on_malloc, on_free) > 0);
	probe = malloc(1);
	free(probe);
	assert_true(allocations > 0); /* the hook works */
	before = allocations;
	for (unsigned i = 0; i < 8000; i++) {
		last = s;
		shape_holes(x, false);
		if (i % 1000 == 999)
			forest_label(f, x, i & 1024);
		if (forest_score(f, x, &r) == 0)
			forest_add(f, x, &r);
		else
			forest_add(f, x, NULL);
		forest_stats(f, &s);
		if (s.built - last.built > 1)
			break;
	}
	before = allocations - before;
	assert_int_equal(before, 0);
	assert_true(s.built - last.built <= 1);
	assert_int_equal(s.seen, 8000);
	/* grown: one tree in sixteen additions, and as many as are due after a label */
	settle(f);
	forest_stats(f, &last);
	for (unsigned i = 0; i < 1600; i++) {
		shape_holes(x, false);
		forest_add(f, x, NULL);
	}
	forest_stats(f, &s);
	assert_in_range(s.built - last.built, (1600 - (s.refused - last.refused)) / 16 - 1, (1600 - (s.refused - last.refused)) / 16 + 1);
}

static void old_behaviour_fades(void **unused)
{
	CLEANUP(forest_freep) struct forest *f = NULL;
	struct forest_opts o = { .dim = 4, .seed = 1, .reservoir = 512, .memory = 2000 };
	float x[4], moved[4];

	(void)unused;
	assert_int_equal(forest_open(&o, &f), 0);
	seed = 2;
	for (unsigned i = 0; i < 20000; i++) {
		normals(x, 4);
		observe(f, x);
	}
	for (unsigned i = 0; i < 20000; i++) {
		normals(moved, 4);
		moved[0] += 8;
		if (i == 0)
			assert_true(scored(f, moved).p < 0.01);
		observe(f, moved);
	}
	assert_true(scored(f, (float[]){ 8, 0, 0, 0 }).p > 0.2);
	assert_true(scored(f, (float[]){ 0, 0, 0, 0 }).p < 0.01);
}

/* p is of recent scores: a restless time long ago does not make what is odd now common. */
static void old_scores_fade(void **unused)
{
	CLEANUP(forest_freep) struct forest *f = grown(3, TRAIN);
	float x[3];

	(void)unused;
	for (unsigned i = 0; i < 28000; i++) {
		struct forest_result r = { .score = i < 4000 && i % 4 == 0 ? 0.99 : 0.4 };

		normals(x, 3);
		forest_add(f, x, &r);
		if (i == 4000)
			assert_true(scored(f, (float[]){ 7, 7, 7 }).p > 0.05);
	}
	assert_true(scored(f, (float[]){ 7, 7, 7 }).p < 0.01);
}

static void absurd_values(void **unused)
{
	static const float odd[] = { INFINITY, -INFINITY, 3e38f, -3e38f, 1e-45f, -0.0f, 0, 1e18f };
	CLEANUP(forest_freep) struct forest *f = grown(3, 1000);
	struct forest_result r;
	float x[3];

	(void)unused;
	for (unsigned i = 0; i < 3000; i++) {
		for (unsigned j = 0; j < 3; j++)
			x[j] = odd[(size_t)(unit() * ARRAY_SIZE(odd))];
		r = scored(f, x);
		assert_true(r.score > 0 && r.score < 1 && r.p > 0 && r.p <= 1);
		for (unsigned j = 0; j < 3; j++)
			assert_true(r.share[j] >= 0 && r.share[j] <= 1);
		if (i % 700 == 0)
			assert_int_equal(forest_label(f, x, i & 1), 0);
		forest_add(f, x, &r);
	}
	/* one absurd vector poisons nothing */
	f = forest_free(f);
	f = grown(3, TRAIN);
	forest_add(f, (float[]){ INFINITY, 0, 0 }, NULL);
	for (unsigned i = 0; i < 2000; i++) {
		normals(x, 3);
		observe(f, x);
	}
	assert_true(scored(f, (float[]){ 9, 0, 0 }).p < 0.01);
}

static void limits(void **unused)
{
	static const struct forest_opts refused[] = {
		{ .dim = 0 }, { .dim = FOREST_DIM_MAX + 1 }, { .dim = 1, .trees = FOREST_TREES_MAX + 1 }, { .dim = 1, .sample = FOREST_SAMPLE_MAX + 1 },
		{ .dim = 1, .sample = 31 }, { .dim = 1, .reservoir = FOREST_RESERVOIR_MAX + 1 }, { .dim = 1, .sample = 256, .reservoir = 255 },
		{ .dim = 1, .sample = 32, .reservoir = 63 }, { .dim = 1, .reservoir = 1000, .memory = 999 },
	};
	const struct forest_opts largest = { .dim = FOREST_DIM_MAX, .trees = FOREST_TREES_MAX, .sample = FOREST_SAMPLE_MAX, .reservoir = FOREST_RESERVOIR_MAX };
	CLEANUP(forest_freep) struct forest *f = NULL;
	struct forest_result r;

	(void)unused;
	for (unsigned i = 0; i < ARRAY_SIZE(refused); i++) {
		assert_int_equal(forest_open(&refused[i], &f), -EINVAL);
		assert_null(f);
	}
	assert_int_equal(forest_open(&largest, &f), 0);
	assert_true(forest_bytes(f) <= FOREST_BYTES_MAX);
	assert_int_equal(forest_dim(f), FOREST_DIM_MAX);
	f = forest_free(f);
	f = grown(2, FOREST_LEARN_MIN - 1);
	assert_int_equal(forest_score(f, (float[]){ 0, 0 }, &r), -EAGAIN);
	f = forest_free(f);
	f = grown(2, FOREST_LEARN_MIN + 30);
	assert_int_equal(forest_score(f, (float[]){ 0, 0 }, &r), 0);
}

/* ---- blobs ------------------------------------------------------------------------------------------ */
static uint8_t *saved(const struct forest *f, size_t *ret_n)
{
	size_t cap = forest_save_bytes(f);
	uint8_t *p = malloc(cap);

	assert_non_null(p);
	assert_int_equal(forest_save(f, p, cap - 1, ret_n), -ENOSPC);
	assert_int_equal(forest_save(f, p, cap, ret_n), 0);
	assert_int_equal(*ret_n, cap);
	return p;
}

static struct forest *labelled(void)
{
	struct forest *f = grown(6, TRAIN);
	float x[6];

	for (unsigned i = 0; i < 300; i++) {
		shape_holes(x, false);
		observe(f, x);
	}
	forest_label(f, (float[]){ 9, 0, NAN, 0, 0, 0 }, false);
	forest_label(f, (float[]){ 0, 0, 0, 9, 9, 0 }, true);
	for (unsigned i = 0; i < 130; i++) /* some trees are still due */
		forest_step(f);
	return f;
}

static void blob_comes_back_to_the_bit(void **unused)
{
	CLEANUP(forest_freep) struct forest *f = labelled(), *g = NULL;
	CLEANUP(freep) uint8_t *first = NULL, *second = NULL;
	size_t n, m;
	float x[6];

	(void)unused;
	first = saved(f, &n);
	assert_int_equal(forest_load(first, n, &g), 0);
	second = saved(g, &m);
	assert_int_equal(n, m);
	assert_memory_equal(first, second, n);
	/* and both go on alike, over rebuilds */
	for (unsigned i = 0; i < 3000; i++) {
		struct forest_result a, b;

		shape_holes(x, i % 50 == 0);
		a = scored(f, x);
		b = scored(g, x);
		assert_true(a.score == b.score && a.p == b.p && a.near == b.near);
		assert_memory_equal(a.share, b.share, sizeof(a.share));
		assert_int_equal(forest_add(f, x, &a), 0);
		assert_int_equal(forest_add(g, x, &b), 0);
	}
}

static void blob_of_a_young_forest(void **unused)
{
	for (unsigned learnt = 0; learnt < 200; learnt += 13) {
		CLEANUP(forest_freep) struct forest *f = grown(3, learnt), *g = NULL;
		struct forest_result a = { 0 }, b = { 0 };
		CLEANUP(freep) uint8_t *p = NULL;
		size_t n;

		p = saved(f, &n);
		assert_int_equal(forest_load(p, n, &g), 0);
		assert_int_equal(forest_score(f, (float[]){ 1, 2, 3 }, &a), forest_score(g, (float[]){ 1, 2, 3 }, &b));
		assert_true(a.score == b.score);
	}
	(void)unused;
}

static void hostile_blobs(void **unused)
{
	CLEANUP(forest_freep) struct forest *f = labelled(), *g = NULL;
	CLEANUP(freep) uint8_t *p = NULL, *cut = NULL;
	struct forest_result r;
	unsigned refused = 0, taken = 0;
	size_t n;
	float x[6];

	(void)unused;
	p = saved(f, &n);
	/* cut at any place: an allocation of just that size, so that a read beyond is seen */
	for (size_t at = 0; at < n; at += at < 300 ? 1 : 997) {
		cut = malloc(at + 1);
		memcpy(cut, p, at);
		assert_int_equal(forest_load(cut, at, &g), -EINVAL);
		free(TAKE_PTR(cut));
	}
	cut = malloc(n + 1);
	memcpy(cut, p, n);
	cut[n] = 0;
	assert_int_equal(forest_load(cut, n + 1, &g), -EINVAL); /* something behind it */
	/* bits turned: refused, or a forest that works */
	for (unsigned i = 0; i < 2600; i++) {
		size_t at = i < 1600 ? i / 8 : (size_t)(unit() * (double)n);
		uint8_t was = p[at];
		int e;

		p[at] ^= (uint8_t)(1u << i % 8);
		e = forest_load(p, n, &g);
		p[at] = was;
		if (e < 0) {
			assert_int_equal(e, -EINVAL);
			assert_null(g);
			refused++;
			continue;
		}
		taken++;
		normals(x, 6);
		if (forest_score(g, x, &r) == 0)
			assert_true(r.score >= 0 && r.score <= 1 && r.p > 0 && r.p <= 1);
		assert_int_equal(forest_add(g, x, NULL), 0);
		forest_label(g, x, true);
		forest_step(g);
		g = forest_free(g);
	}
	assert_true(refused > 300 && taken > 300);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(outliers_rank_first),
		cmocka_unit_test(score_grows_with_distance),
		cmocka_unit_test(p_is_the_share_of_recent_scores),
		cmocka_unit_test(p_is_one_while_there_are_no_scores),
		cmocka_unit_test(attribution_names_what_moved),
		cmocka_unit_test(deterministic_to_the_bit),
		cmocka_unit_test(missing_is_no_evidence),
		cmocka_unit_test(missing_while_learning),
		cmocka_unit_test(a_feature_that_never_moved_moves),
		cmocka_unit_test(false_positive_becomes_normal),
		cmocka_unit_test(false_positive_excuses_nothing_else),
		cmocka_unit_test(true_positive_is_not_learnt),
		cmocka_unit_test(true_positive_on_what_is_normal),
		cmocka_unit_test(labels_take_each_other_back_and_are_bounded),
		cmocka_unit_test(labels_before_anything_was_learnt),
		cmocka_unit_test(one_tree_per_call_and_no_allocation),
		cmocka_unit_test(old_behaviour_fades),
		cmocka_unit_test(old_scores_fade),
		cmocka_unit_test(absurd_values),
		cmocka_unit_test(limits),
		cmocka_unit_test(blob_comes_back_to_the_bit),
		cmocka_unit_test(blob_of_a_young_forest),
		cmocka_unit_test(hostile_blobs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
