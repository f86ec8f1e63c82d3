/*
 * The forest as bytes. One walk over the fields serves both ways, so that what is written is what is read. Layout, little endian:
 *
 *   "WFOR", u32 version, then the fields in the order of options() and fields()
 *
 * A blob may come from a damaged or a hostile store: every number is checked against its meaning before it is used as one.
 */
#include <math.h>

#include "detect/forest_internal.h"

#define VERSION 1

enum way { MEASURE, WRITE, READ };

struct blob {
	enum way way;
	uint8_t *to;
	const uint8_t *from;
	size_t n, cap; /* where; the end */
	bool bad;      /* sticky: READ: no forest wrote this */
};

static void number(struct blob *b, uint64_t *v, unsigned bytes)
{
	uint64_t got = 0;

	if (b->way == READ && (b->bad || b->cap - b->n < bytes)) {
		b->bad = true;
		return;
	}
	for (unsigned i = 0; i < bytes; i++) {
		if (b->way == WRITE)
			b->to[b->n + i] = (uint8_t)(*v >> 8 * i);
		else if (b->way == READ)
			got |= (uint64_t)b->from[b->n + i] << 8 * i;
	}
	b->n += bytes;
	if (b->way == READ)
		*v = got;
}

/* At most `max`; what is read and is more becomes 0, so that it can size nothing. */
static uint64_t bounded(struct blob *b, uint64_t v, unsigned bytes, uint64_t max)
{
	number(b, &v, bytes);
	if (b->way == READ && (b->bad || v > max)) {
		b->bad = true;
		return 0;
	}
	return v;
}

static void u64(struct blob *b, uint64_t *v)
{
	uint64_t got = bounded(b, *v, 8, UINT64_MAX);

	if (b->way == READ)
		*v = got;
}

static void u32(struct blob *b, uint32_t *v, uint32_t max)
{
	uint32_t got = (uint32_t)bounded(b, *v, 4, max);

	if (b->way == READ)
		*v = got;
}

static void u16(struct blob *b, uint16_t *v, uint16_t max)
{
	uint16_t got = (uint16_t)bounded(b, *v, 2, max);

	if (b->way == READ)
		*v = got;
}

static void u8(struct blob *b, uint8_t *v, uint8_t max)
{
	uint8_t got = (uint8_t)bounded(b, *v, 1, max);

	if (b->way == READ)
		*v = got;
}

static void real(struct blob *b, float *v, bool nan_allowed)
{
	uint32_t bits;

	memcpy(&bits, v, sizeof(bits));
	u32(b, &bits, UINT32_MAX);
	if (b->way != READ)
		return;
	memcpy(v, &bits, sizeof(bits));
	if (isnan(*v)) {
		b->bad |= !nan_allowed;
		*v = NAN; /* of one form */
	} else if (!(*v <= FOREST_VALUE_MAX && *v >= -FOREST_VALUE_MAX)) {
		b->bad = true;
		*v = 0;
	}
}

static void vector(struct blob *b, float *x, uint32_t dim)
{
	bool any = false;

	for (uint32_t j = 0; j < dim; j++) {
		real(b, &x[j], true);
		any |= !isnan(x[j]);
	}
	b->bad |= b->way == READ && !any;
}

static void labels(struct blob *b, struct forest_labels *l, uint32_t dim)
{
	u32(b, &l->n, FOREST_LABELS_MAX);
	for (uint32_t i = 0; i < l->n; i++)
		vector(b, l->x[i], dim);
}

static void options(struct blob *b, struct forest_opts *o)
{
	u32(b, &o->dim, FOREST_DIM_MAX);
	u64(b, &o->seed);
	u32(b, &o->trees, FOREST_TREES_MAX);
	u32(b, &o->sample, FOREST_SAMPLE_MAX);
	u32(b, &o->reservoir, FOREST_RESERVOIR_MAX);
	u32(b, &o->memory, UINT32_MAX);
	u32(b, &o->adds_per_tree, UINT32_MAX);
}

static void counters(struct blob *b, struct forest *f)
{
	u64(b, &f->rng);
	u64(b, &f->seen);
	u64(b, &f->refused);
	u64(b, &f->built);
	u64(b, &f->purged);
	u32(b, &f->held, f->o.reservoir);
	u32(b, &f->grown, f->o.trees);
	u32(b, &f->due, f->o.trees);
	u32(b, &f->next, f->o.trees - 1);
	u32(b, &f->since, f->o.adds_per_tree);
	u32(b, &f->forgotten, UINT32_MAX);
	u32(b, &f->next_scale, f->o.dim - 1);
}

static void calibration(struct blob *b, struct forest *f)
{
	uint64_t sum = 0;

	u32(b, &f->bins_total, FOREST_BINS_TOTAL);
	for (uint32_t i = 0; i < FOREST_BINS; i++) {
		u32(b, &f->bins[i], FOREST_BINS_TOTAL);
		sum += f->bins[i];
	}
	b->bad |= sum != f->bins_total;
}

static void node(struct blob *b, struct forest_node *d, uint32_t dim)
{
	real(b, &d->split, false);
	real(b, &d->lo, false);
	real(b, &d->hi, false);
	u16(b, &d->left, UINT16_MAX);
	u16(b, &d->right, UINT16_MAX);
	u16(b, &d->n, FOREST_SAMPLE_MAX);
	u8(b, &d->feature, (uint8_t)(dim - 1));
	u8(b, &d->missing_right, 1);
}

static void tree(struct blob *b, struct forest *f, uint32_t at)
{
	struct forest_tree *t = &f->trees[at];

	u16(b, &t->root, UINT16_MAX);
	u16(b, &t->used, (uint16_t)(f->o.sample - 1));
	u16(b, &t->n, (uint16_t)f->o.sample);
	u16(b, &t->open, (uint16_t)f->o.dim);
	u32(b, &t->known, (uint32_t)(((uint64_t)1 << f->o.dim) - 1));
	for (uint32_t j = 0; j < f->o.dim; j++) {
		real(b, &t->lo[j], false);
		real(b, &t->hi[j], false);
		b->bad |= !(t->lo[j] <= t->hi[j]);
	}
	for (uint32_t i = 0; i < t->used; i++)
		node(b, forest_nodes(f, at) + i, f->o.dim);
}

static void fields(struct blob *b, struct forest *f)
{
	counters(b, f);
	for (uint32_t j = 0; j < f->o.dim; j++) {
		real(b, &f->centre[j], false);
		real(b, &f->scale[j], false);
		b->bad |= f->scale[j] < 0;
	}
	labels(b, &f->fp, f->o.dim);
	labels(b, &f->tp, f->o.dim);
	calibration(b, f);
	for (uint32_t i = 0; i < f->held; i++)
		vector(b, f->held_x + (size_t)i * f->o.dim, f->o.dim);
	for (uint32_t i = 0; i < f->grown; i++)
		tree(b, f, i);
}

static bool head(struct blob *b, struct forest_opts *o)
{
	uint32_t magic = 'W' | 'F' << 8 | 'O' << 16 | (uint32_t)'R' << 24, want = magic, version = VERSION;

	u32(b, &magic, UINT32_MAX);
	u32(b, &version, VERSION);
	options(b, o);
	return !b->bad && magic == want && version == VERSION;
}

static size_t save(const struct forest *f, struct blob *b)
{
	/* The walk writes into the forest only when it reads a blob. */
	struct forest *walked = (struct forest *)f;

	head(b, &walked->o);
	fields(b, walked);
	return b->n;
}

size_t forest_save_bytes(const struct forest *f)
{
	return save(f, &(struct blob){ .way = MEASURE });
}

int forest_save(const struct forest *f, void *to, size_t cap, size_t *ret_n)
{
	struct blob b = { .way = WRITE, .to = to };

	if (forest_save_bytes(f) > cap)
		return -ENOSPC;
	*ret_n = save(f, &b);
	return 0;
}

/* ---- is it sound? ---------------------------------------------------------------------------------- */
/*
 * What grow() makes: nodes numbered in the order of a walk (so each has one parent, and there is no loop), sizes that add up to the
 * leaves', splits inside their range, no path longer than a sample can need.
 */
static bool sound(const struct forest *f, uint32_t at, uint32_t ref, uint32_t n, uint32_t depth, uint32_t *next)
{
	const struct forest_tree *t = &f->trees[at];
	const struct forest_node *nodes = forest_nodes(f, at), *d;
	uint32_t left;

	if (ref & FOREST_LEAF)
		return (ref & ~FOREST_LEAF) == n && n > 0;
	if (!depth || ref != *next || ref >= t->used)
		return false;
	++*next;
	d = &nodes[ref];
	if (d->n != n || !(d->lo < d->hi) || !(d->lo < d->split) || !(d->split <= d->hi))
		return false;
	if (d->left & FOREST_LEAF)
		left = d->left & ~FOREST_LEAF;
	else
		left = d->left < t->used ? nodes[d->left].n : 0;
	return left > 0 && left < n && sound(f, at, d->left, left, depth - 1, next) && sound(f, at, d->right, n - left, depth - 1, next);
}

static bool tree_sound(const struct forest *f, uint32_t at)
{
	uint32_t next = 0;

	/* a path over c(n) needs a c(n) */
	return f->trees[at].n >= 2 && sound(f, at, f->trees[at].root, f->trees[at].n, FOREST_DEPTH_MAX, &next) && next == f->trees[at].used;
}

int forest_load(const void *from, size_t n, struct forest **ret)
{
	CLEANUP(forest_freep) struct forest *f = NULL;
	struct blob b = { .way = READ, .from = from, .cap = n };
	struct forest_opts o = { 0 };
	int r;

	if (!head(&b, &o) || !o.trees || !o.sample || !o.reservoir || !o.memory || !o.adds_per_tree)
		return -EINVAL;
	r = forest_open(&o, &f);
	if (r < 0)
		return r;
	fields(&b, f);
	if (b.bad || b.n != n || f->seen < f->held)
		return -EINVAL;
	for (uint32_t i = 0; i < f->grown; i++)
		if (!tree_sound(f, i))
			return -EINVAL;
	*ret = TAKE_PTR(f);
	return 0;
}
