/*
 * The forest alone, for tools/forest-compare.py, which compiles and runs it.
 *
 *   forest-drive score DIM TRAIN TEST SEED < floats     learns TRAIN vectors as a stream, then prints the score of each of TEST, a line each
 *   forest-drive bench DIM                              what a call costs on this machine
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "detect/forest.h"

#define BENCH_ADDS 20000
#define BENCH_SCORES 2000 /* different vectors, and how often each */
#define BENCH_SCORES_TIMES 10

/* Of this thread: what else the machine does is no cost of ours. */
static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static int score(struct forest *f, long train, long test)
{
	float x[FOREST_DIM_MAX];
	struct forest_result r;

	for (long i = 0; i < train + test; i++) {
		if (fread(x, sizeof(float), forest_dim(f), stdin) != forest_dim(f))
			return 1;
		if (i < train) {
			if (forest_add(f, x, NULL) < 0)
				return 1;
			continue;
		}
		while (i == train && forest_step(f) > 0)
			;
		if (forest_score(f, x, &r) < 0)
			return 1;
		printf("%.17g\n", r.score);
	}
	return 0;
}

/* Of a normal variable, near enough: the sum of twelve uniform ones. */
static void fill(float *x, uint32_t dim, uint64_t *seed)
{
	for (uint32_t j = 0; j < dim; j++) {
		double sum = -6;

		for (unsigned k = 0; k < 12; k++) {
			*seed = *seed * 6364136223846793005u + 1442695040888963407u;
			sum += (double)(*seed >> 40) * 0x1p-24;
		}
		x[j] = (float)sum;
	}
}

static int bench(struct forest *f)
{
	static double us[BENCH_ADDS];
	uint64_t seed = 1;
	float x[FOREST_DIM_MAX];
	struct forest_result r;
	struct forest_stats s;
	double t0, add_us, score_us;

	t0 = now_us();
	for (unsigned i = 0; i < BENCH_ADDS; i++) {
		fill(x, forest_dim(f), &seed);
		us[i] = now_us();
		forest_add(f, x, NULL);
		us[i] = now_us() - us[i];
	}
	add_us = 0;
	for (unsigned i = BENCH_ADDS / 2; i < BENCH_ADDS; i++)
		add_us += us[i] / (BENCH_ADDS / 2);
	forest_stats(f, &s);
	qsort(us, BENCH_ADDS, sizeof(us[0]), compare);
	printf("dim %u: %zu KiB; add, grown: %.2f us (%.0f/s), p99.9 %.0f us, worst %.0f us of %u\n", forest_dim(f), forest_bytes(f) >> 10, add_us,
	       1e6 / add_us, us[BENCH_ADDS - BENCH_ADDS / 1000], us[BENCH_ADDS - 1], BENCH_ADDS);

	forest_label(f, x, false);
	t0 = now_us();
	for (unsigned i = 0;; i++) {
		if (forest_step(f) == 0) {
			printf("dim %u: a tree rebuilt: %.0f us, mean of %u\n", forest_dim(f), (now_us() - t0) / (i + 1), i + 1);
			break;
		}
	}
	score_us = 0;
	for (unsigned i = 0; i < BENCH_SCORES; i++) {
		fill(x, forest_dim(f), &seed);
		t0 = now_us();
		for (unsigned k = 0; k < BENCH_SCORES_TIMES; k++)
			forest_score(f, x, &r);
		score_us += (now_us() - t0) / (BENCH_SCORES * BENCH_SCORES_TIMES);
	}
	printf("dim %u: score: %.2f us (%.0f/s)\n", forest_dim(f), score_us, 1e6 / score_us);
	return 0;
}

int main(int argc, char **argv)
{
	CLEANUP(forest_freep) struct forest *f = NULL;
	struct forest_opts o = { 0 };

	if (argc < 3 || (strcmp(argv[1], "bench") && argc < 6)) {
		fprintf(stderr, "usage: forest-drive score DIM TRAIN TEST SEED | bench DIM\n");
		return 2;
	}
	o.dim = (uint32_t)strtoul(argv[2], NULL, 10);
	o.seed = argc > 5 ? strtoull(argv[5], NULL, 10) : 1;
	if (forest_open(&o, &f) < 0) {
		fprintf(stderr, "forest-drive: cannot open a forest of %s features\n", argv[2]);
		return 1;
	}
	return strcmp(argv[1], "bench") ? score(f, strtol(argv[3], NULL, 10), strtol(argv[4], NULL, 10)) : bench(f);
}
