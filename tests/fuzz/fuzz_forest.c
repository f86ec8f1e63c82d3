/*
 * Blobs of the forest: any bytes, and sound blobs that the input damages. What is taken must work: scores within bounds, learning,
 * labels, rebuilds; and what it saves must come back as it is.
 */
#include <math.h>

#include "detect/forest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define SEEDS 4
#define BLOB_MAX (64 << 10)
#define ROUNDS 24

static uint8_t *blobs[SEEDS], *work;
static size_t sizes[SEEDS];

/* Small ones, so that an input reaches all of it: one of them with labels, one too young for trees. */
static void begin(void)
{
	for (unsigned s = 0; s < SEEDS; s++) {
		CLEANUP(forest_freep) struct forest *f = NULL;
		const struct forest_opts o = { .dim = 1 + s, .seed = s, .trees = 3, .sample = 32, .reservoir = 64 };
		struct forest_result r;
		uint32_t state = s;

		if (forest_open(&o, &f) < 0)
			abort();
		for (unsigned i = 0; i < (s == 3 ? 50 : 120); i++) {
			float x[SEEDS];

			for (unsigned j = 0; j < o.dim; j++) {
				state = state * 1664525 + 1013904223;
				x[j] = state >> 28 ? (float)(state >> 8 & 0xff) : NAN;
			}
			x[0] = (float)(i % 7);
			forest_add(f, x, forest_score(f, x, &r) == 0 ? &r : NULL);
			if (s == 2 && i % 40 == 0)
				forest_label(f, x, i % 80 == 0);
		}
		sizes[s] = forest_save_bytes(f);
		blobs[s] = malloc(sizes[s]);
		if (!blobs[s] || sizes[s] > BLOB_MAX || forest_save(f, blobs[s], sizes[s], &sizes[s]) < 0)
			abort();
	}
	work = malloc(BLOB_MAX);
	if (!work)
		abort();
}

static void check_result(const struct forest *f, const float *x)
{
	struct forest_result r;
	double sum = 0;
	int e = forest_score(f, x, &r);

	if (e == -EAGAIN)
		return;
	if (e < 0 || !(r.score >= 0 && r.score <= 1) || !(r.p > 0 && r.p <= 1))
		abort();
	for (unsigned j = 0; j < FOREST_DIM_MAX; j++) {
		if (!(r.share[j] >= 0 && r.share[j] <= 1))
			abort();
		sum += r.share[j];
	}
	if (fabs(sum - 1) > 1e-3)
		abort();
}

static void check_saves(const struct forest *f)
{
	CLEANUP(forest_freep) struct forest *g = NULL;
	size_t n = forest_save_bytes(f), m = 0, k = 0;
	CLEANUP(freep) uint8_t *p = malloc(n), *q = malloc(n);

	if (!p || !q || forest_save(f, p, n, &m) < 0 || m != n || forest_load(p, n, &g) < 0 || forest_save(g, q, n, &k) < 0 || k != n || memcmp(p, q, n))
		abort();
}

static void use(struct forest *f, const uint8_t *data, size_t n)
{
	float x[FOREST_DIM_MAX];

	for (unsigned i = 0; i < ROUNDS; i++) {
		memset(x, 0, sizeof(x));
		for (unsigned j = 0; j < FOREST_DIM_MAX && (j + 1) * sizeof(float) + i <= n; j++)
			memcpy(&x[j], data + j * sizeof(float) + i, sizeof(float));
		if (isnan(x[0]))
			x[0] = (float)i;
		check_result(f, x);
		if (forest_add(f, x, NULL) < 0)
			abort();
		if (i % 8 == 3 && forest_label(f, x, i & 8) < 0)
			abort();
		forest_step(f);
	}
	check_saves(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	CLEANUP(forest_freep) struct forest *f = NULL;
	unsigned kind, s;
	size_t size;
	int r;

	if (!work)
		begin();
	if (!n)
		return 0;
	kind = *data++;
	n--;
	if (kind & 1) {
		r = forest_load(data, n, &f);
	} else {
		s = kind >> 1 & (SEEDS - 1);
		size = sizes[s];
		memcpy(work, blobs[s], size);
		/* three bytes each: where, what */
		for (size_t i = 0; i + 3 <= n && i < 30; i += 3)
			work[(data[i] << 8 | data[i + 1]) % size] = data[i + 2];
		if (kind & 0x80)
			size = (size_t)kind * size / 256;
		r = forest_load(work, size, &f);
	}
	if (r < 0) {
		if (r != -EINVAL || f)
			abort();
		return 0;
	}
	check_saves(f);
	use(f, data, n);
	return 0;
}
