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

/* Mean of a call's cost; with the labels that the forest has. */
static double score_us(const struct forest *f, uint64_t *seed)
{
	float x[FOREST_DIM_MAX];
	struct forest_result r;
	double us = 0, t0;

	for (unsigned i = 0; i < BENCH_SCORES; i++) {
		fill(x, forest_dim(f), seed);
		t0 = now_us();
		for (unsigned k = 0; k < BENCH_SCORES_TIMES; k++)
			forest_score(f, x, &r);
		us += (now_us() - t0) / (BENCH_SCORES * BENCH_SCORES_TIMES);
	}
	return us;
}

static void say(const struct forest *f, const char *what, double mean, double worst)
{
	printf("dim %2u  %-34s %9.1f us %10.0f/s", forest_dim(f), what, mean, 1e6 / mean);
	printf(worst > 0 ? "   worst %.0f us\n" : "\n", worst);
}

static int bench_blob(const struct forest *f)
{
	CLEANUP(forest_freep) struct forest *g = NULL;
	size_t n = forest_save_bytes(f);
	CLEANUP(freep) void *p = malloc(n);
	double t0 = now_us(), t1;
	char what[64];

	if (!p || forest_save(f, p, n, &n) < 0)
		return 1;
	t1 = now_us();
	if (forest_load(p, n, &g) < 0)
		return 1;
	snprintf(what, sizeof(what), "save, %zu KiB", n >> 10);
	say(f, what, t1 - t0, 0);
	say(f, "load", now_us() - t1, 0);
	return 0;
}

static int bench(struct forest *f)
{
	static double us[BENCH_ADDS];
	double t0, sum = 0, worst = 0;
	float x[FOREST_DIM_MAX];
	uint64_t seed = 1;
	unsigned n = 0;

	printf("dim %2u  memory %zu KiB\n", forest_dim(f), forest_bytes(f) >> 10);
	for (unsigned i = 0; i < BENCH_ADDS; i++) {
		fill(x, forest_dim(f), &seed);
		t0 = now_us();
		forest_add(f, x, NULL);
		us[i] = now_us() - t0;
		if (i >= BENCH_ADDS / 2)
			sum += us[i];
	}
	qsort(us, BENCH_ADDS, sizeof(us[0]), compare);
	say(f, "add, grown", sum / (BENCH_ADDS - BENCH_ADDS / 2), us[BENCH_ADDS - 1]);
	say(f, "score", score_us(f, &seed), 0);
	sum = 0;
	for (unsigned i = 0; i < 2 * FOREST_LABELS_MAX; i++) {
		fill(x, forest_dim(f), &seed);
		x[i / 2 % forest_dim(f)] += i & 1 ? 20 : -20;
		t0 = now_us();
		forest_label(f, x, i & 1);
		t0 = now_us() - t0;
		sum += t0 / (2 * FOREST_LABELS_MAX);
		worst = MAX(worst, t0);
	}
	say(f, "label, up to 64 and 64", sum, worst);
	for (sum = worst = n = 0;; n++) {
		int more;

		t0 = now_us();
		more = forest_step(f);
		t0 = now_us() - t0;
		sum += t0;
		worst = MAX(worst, t0);
		if (!more)
			break;
	}
	say(f, "rebuild one tree, 64 and 64 labels", sum / (n + 1), worst);
	say(f, "score, 64 and 64 labels", score_us(f, &seed), 0);
	return bench_blob(f);
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
