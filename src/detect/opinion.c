/*
 * A second opinion: how odd all features together are, by an isolation forest over calm looks. One for identities, one for everybody's
 * last minute. It is asked when an incident opens, stands in its evidence, and moves its confidence a little. It opens nothing.
 */
#include <math.h>

#include "detect/engine.h"
#include "detect/forest.h"

/* One look in so many is learnt, of everybody's one in so many steps: a forest needs no more, and costs more than a look. */
#define LOOKS_EACH 128u
#define STEPS_EACH 12u
#define OFTEN 8u /* times as often while it is young */
#define OFTEN_STEPS 4u
#define YOUNG_LOOKS 2048u
#define YOUNG_STEPS 360u
#define TREES 50
#define SAMPLE 128
#define RESERVOIR 512
#define SEED UINT64_C(0x77656972)

_Static_assert((int)TRAIT_COUNT <= FOREST_DIM_MAX, "a look has more features than a forest");

enum { OF_IDENTITIES, OF_ALL, FORESTS };

struct opinions {
	struct forest *of[FORESTS];
	uint32_t looks;
	bool changed[FORESTS];
};

static struct forest *forest_of(struct detect *d, int k)
{
	const struct forest_opts o = { .dim = TRAIT_COUNT, .seed = SEED + (uint64_t)k, .trees = TREES, .sample = SAMPLE, .reservoir = RESERVOIR, .memory = 16384 };

	if (!d->opinions)
		d->opinions = calloc(1, sizeof(*d->opinions));
	if (d->opinions && !d->opinions->of[k] && forest_open(&o, &d->opinions->of[k]) < 0)
		d->opinions->of[k] = NULL;
	return d->opinions ? d->opinions->of[k] : NULL;
}

static void vector(const struct traits *t, float *x)
{
	for (int k = 0; k < TRAIT_COUNT; k++)
		x[k] = (float)t->v[k];
	x[T_RATE] = log1pf(x[T_RATE] * 60);
	x[T_AGENTS] = log1pf(x[T_AGENTS]);
}

static void add(struct detect *d, int k, const struct traits *t)
{
	struct forest *f = forest_of(d, k);
	struct forest_result r;
	float x[FOREST_DIM_MAX];

	if (!f)
		return;
	vector(t, x);
	d->opinions->changed[k] = true;
	if (forest_score(f, x, &r) == 0)
		forest_add(f, x, &r);
	else
		forest_add(f, x, NULL);
}

void opinion_learn(struct detect *d, const struct traits *t)
{
	if (!forest_of(d, OF_IDENTITIES))
		return;
	d->opinions->looks++;
	if (d->opinions->looks % (d->opinions->looks < YOUNG_LOOKS ? LOOKS_EACH / OFTEN : LOOKS_EACH) == 0)
		add(d, OF_IDENTITIES, t);
}

void opinion_learn_all(struct detect *d)
{
	if (d->steps % (d->steps < YOUNG_STEPS ? STEPS_EACH / OFTEN_STEPS : STEPS_EACH) == 0)
		add(d, OF_ALL, &d->now);
}

/* The normal quantile (Abramowitz and Stegun 26.2.23) of an upper tail. */
static double sigma_of(double p)
{
	double t;

	if (p >= 0.5)
		return 0;
	t = sqrt(-2 * log(MAX(p, 1e-12)));
	return t - (2.515517 + 0.802853 * t + 0.010328 * t * t) / (1 + 1.432788 * t + 0.189269 * t * t + 0.001308 * t * t * t);
}

void opinion_ask(struct detect *d, struct incident *in)
{
	const struct finding *f = &in->f;
	int k = f->scope != NOBODY && is_identity(at(d, f->scope)) ? OF_IDENTITIES : OF_ALL;
	struct opinion *o = &in->opinion;
	struct forest *forest;
	struct forest_result r;
	struct traits t = d->now;
	int most = 0;

	*o = (struct opinion){ .of = -1 };
	if (!has_part(d, PART_FOREST))
		return;
	if (f->watch != WATCH_VOLUME && f->watch != WATCH_BEHAVE && f->watch != WATCH_COST)
		return;
	forest = forest_of(d, k);
	if (k == OF_IDENTITIES) {
		struct traits_set *s = malloc(sizeof(*s));

		if (!s)
			return;
		traits_gather(d, at(d, f->scope), d->tick - BEHAVE_WINDOW_S, s);
		traits_compute(d, s, &t);
		free(s);
	}
	vector(&t, o->look);
	if (!forest)
		return;
	o->of = k;
	if (forest_score(forest, o->look, &r) < 0)
		return;
	for (int i = 1; i < TRAIT_COUNT; i++)
		if (r.share[i] > r.share[most])
			most = i;
	o->asked = true;
	o->score = r.score;
	o->sigma = sigma_of(r.p);
	o->most = (enum trait)most;
	o->value = t.v[most];
	o->share = (double)r.share[most];
}

/*
 * Nearly as odd as the oddest of calm times, or hardly: both say a little. Not of cost: who burns tokens may look as ever (of eight
 * alarms on eight streams the two that were true looked plainest; of volume and behaviour, 47 true ones looked odder than 13 false).
 */
double opinion_confidence(const struct incident *in, double confidence)
{
	const struct opinion *o = &in->opinion;

	if (!o->asked || in->f.watch == WATCH_COST)
		return confidence;
	if (o->sigma >= OPINION_ODD)
		return confidence + OPINION_WEIGHT * (1 - confidence);
	return o->sigma < OPINION_PLAIN ? confidence * (1 - OPINION_WEIGHT / 2) : confidence;
}

void opinion_label(struct detect *d, const struct incident *in, bool true_positive)
{
	if (in->opinion.of >= 0 && d->opinions && d->opinions->of[in->opinion.of]) {
		forest_label(d->opinions->of[in->opinion.of], in->opinion.look, true_positive);
		d->opinions->changed[in->opinion.of] = true;
	}
}

static const char *const names[FORESTS] = { "identities", "all" };

/* A forest is large and changes slowly: every ten minutes, and when all is asked for. */
int opinion_export(struct detect *d, bool all, int (*give)(void *ctx, const char *name, const void *blob, size_t n), void *ctx)
{
	bool due = all || d->tick - d->opinions_told >= PEAK_STEPS * STEP_S;
	int r = 0;

	for (int k = 0; due && d->opinions && k < FORESTS && r == 0; k++) {
		const struct forest *f = d->opinions->of[k];
		size_t n = 0, cap;
		void *blob;

		if (!f || (!all && !d->opinions->changed[k]))
			continue;
		cap = forest_save_bytes(f);
		blob = malloc(cap);
		if (!blob)
			return -ENOMEM;
		if (forest_save(f, blob, cap, &n) == 0)
			r = give(ctx, names[k], blob, n);
		free(blob);
		if (r == 0)
			d->opinions->changed[k] = false;
	}
	if (due && r == 0)
		d->opinions_told = d->tick;
	return r;
}

int opinion_import(struct detect *d, const char *name, const void *blob, size_t n)
{
	struct forest *f;
	int r;

	for (int k = 0; k < FORESTS; k++) {
		if (strcmp(name, names[k]) || !forest_of(d, k))
			continue;
		r = forest_load(blob, n, &f);
		if (r < 0)
			return r;
		if (forest_dim(f) != TRAIT_COUNT) {
			forest_free(f);
			return -EINVAL;
		}
		forest_free(d->opinions->of[k]);
		d->opinions->of[k] = f;
		return 0;
	}
	return -EINVAL;
}

void opinion_free(struct detect *d)
{
	for (int k = 0; d->opinions && k < FORESTS; k++)
		forest_free(d->opinions->of[k]);
	free(d->opinions);
	d->opinions = NULL;
}
