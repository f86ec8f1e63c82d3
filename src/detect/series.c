#include "detect/series.h"

#include <float.h>
#include <math.h>

#include "detect/tail.h"

#define SPANS 64          /* of the memory of records: a share of all rows is met within 1/32 of them */
#define RATIO_MAX 50.0    /* a distance counts at most so many times its mean: one scale must not outvote the others */
#define STRENGTH_MIN 0.2  /* below, a score is 0: far under every threshold that was ever best */
#define STRENGTH_MAX 1e6

const struct series_tuning series_usual = {
	.beyond = 0.01,
	.surprise = 0.5,
	.memory = 0.25,
	.memory_rows = 500,
	.quiet_rows = 30,
	.louder = 2,
	.keep = 2000,
	.rows = { 1, 6, 12, 24 },
	.blocks = { 24, 24, 24, 24 },
};

/* One resolution: means of `rows` values, and the distance of the last `blocks` of them to their nearest likeness. */
struct scale {
	float *history; /* oldest first, room for a quarter more than is kept */
	int used, keep, room;
	int rows, blocks;
	int filled; /* values in the block under way */
	double sum;
	double distance; /* of the last complete block, < 0: unknown */
	double mean, seen;
};

/* The largest value of the last share of all rows: spans of equal length, which doubles when they are full. */
struct record {
	double high[SPANS];
	int used;
	uint64_t length, filled; /* rows per span; rows in the last one */
};

struct series {
	struct series_tuning tuning;
	uint64_t rows;
	double low, high;
	struct scale scale[SERIES_SCALES];
	struct record record;
	struct tail tail; /* of the composite distance */
	uint64_t alarm_row;
	double alarm_strength;
};

static bool within(double x, double least, double most)
{
	return x >= least && x <= most;
}

static bool tuning_is_sane(const struct series_tuning *t)
{
	if (!(t->beyond > 0 && t->surprise > 0 && t->louder >= 1 && t->quiet_rows >= 0) || !within(t->memory, 0, 1) ||
	    !within(t->memory_rows, 1, 1e9) || !within(t->keep, 2 * SERIES_LENGTH_MAX, SERIES_KEEP_MAX))
		return false;
	for (int i = 0; i < SERIES_SCALES; i++)
		if (!within(t->rows[i], 1, 1e6) || !within(t->blocks[i], 2, SERIES_LENGTH_MAX))
			return false;
	return true;
}

struct series *series_free(struct series *s)
{
	if (!s)
		return NULL;
	for (int i = 0; i < SERIES_SCALES; i++)
		free(s->scale[i].history);
	free(s);
	return NULL;
}

int series_open(const struct series_tuning *tuning, struct series **ret_series)
{
	/* Distances are in units of their mean; nothing is forgotten: the memory of records does that. */
	static const struct tail_opts tail_opts = { .share = 0.02, .half_life = 0, .threshold = 3, .excess = 1 };
	CLEANUP(series_freep) struct series *s = NULL;

	if (!tuning)
		tuning = &series_usual;
	if (!tuning_is_sane(tuning))
		return -EINVAL;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->tuning = *tuning;
	s->record.length = 1;
	tail_init(&s->tail, &tail_opts);
	for (int i = 0; i < SERIES_SCALES; i++) {
		struct scale *c = &s->scale[i];

		c->keep = (int)tuning->keep;
		c->room = c->keep + c->keep / 4;
		c->rows = (int)tuning->rows[i];
		c->blocks = (int)tuning->blocks[i];
		c->distance = -1;
		c->history = calloc(c->room, sizeof(c->history[0]));
		if (!c->history)
			return -ENOMEM;
	}
	*ret_series = TAKE_PTR(s);
	return 0;
}

/* Root mean square distance of the newest shape to the nearest one that does not overlap it; < 0 without any. */
static double nearest(const struct scale *c)
{
	const int m = c->blocks;
	const float *now = c->history + c->used - m;
	double best = INFINITY;

	for (const float *then = now - m; then >= c->history; then--) {
		double sum = 0;

		for (int i = 0; i < m && sum < best; i++) {
			const double d = (double)now[i] - (double)then[i];

			sum += d * d;
		}
		best = MIN(best, sum);
	}
	return isfinite(best) ? sqrt(best / m) : -1;
}

static void scale_add(struct scale *c, double value)
{
	c->sum += value;
	if (++c->filled < c->rows)
		return;
	if (c->used == c->room) {
		memmove(c->history, c->history + c->room - c->keep, c->keep * sizeof(c->history[0]));
		c->used = c->keep;
	}
	c->history[c->used++] = (float)(c->sum / c->rows);
	c->sum = c->filled = 0;
	/* Learnt late: the mean is of the distances before this one. */
	if (c->distance >= 0) {
		c->seen++;
		c->mean += (c->distance - c->mean) / c->seen;
	}
	c->distance = nearest(c);
}

/* Distances of all scales, each in units of its own past, averaged; < 0 as long as no scale knows. */
static double composite(const struct series *s)
{
	double sum = 0;
	int n = 0;

	for (int i = 0; i < SERIES_SCALES; i++) {
		const struct scale *c = &s->scale[i];

		if (c->distance < 0 || c->seen < c->blocks)
			continue;
		n++;
		if (c->distance > 0)
			sum += MIN(c->distance / MAX(c->mean, DBL_MIN), RATIO_MAX);
	}
	return n ? sum / n : -1;
}

static void record_add(struct record *r, double x)
{
	if (r->used > 0 && r->filled < r->length) {
		r->high[r->used - 1] = MAX(r->high[r->used - 1], x);
		r->filled++;
		return;
	}
	if (r->used == SPANS) {
		for (int i = 0; i < SPANS / 2; i++)
			r->high[i] = MAX(r->high[2 * i], r->high[2 * i + 1]);
		r->used = SPANS / 2;
		r->length *= 2;
	}
	r->high[r->used++] = x;
	r->filled = 1;
}

/* The largest of (at least) the last n rows; infinite before the first. */
static double record_of(const struct record *r, double n)
{
	double high = r->used ? -INFINITY : INFINITY, rows = 0;

	for (int i = r->used - 1; i >= 0 && rows < n; i--) {
		high = MAX(high, r->high[i]);
		rows += (double)(i == r->used - 1 ? r->filled : r->length);
	}
	return high;
}

/* How much rarer than the rarest of the memory: the logarithm of the ratio of their tail probabilities. */
static double surprise(const struct series *s, double distance)
{
	const double n = MAX(s->tuning.memory_rows, s->tuning.memory * (double)s->rows), high = record_of(&s->record, n);

	return distance > high ? log(tail_p(&s->tail, high) / tail_p(&s->tail, distance)) : 0;
}

/* Outside all that was seen, in units of its range. */
static double beyond_range(const struct series *s, double value)
{
	if (!(s->high > s->low))
		return 0;
	return MAX(value - s->high, s->low - value) / (s->high - s->low);
}

double series_score(struct series *s, double value)
{
	const struct series_tuning *t = &s->tuning;
	double strength, distance;

	if (!isfinite(value))
		return 0;
	value = MAX(-FLT_MAX / 4, MIN(value, FLT_MAX / 4)); /* history is kept in floats */
	if (s->rows == 0)
		s->low = s->high = value;
	strength = beyond_range(s, value) / t->beyond;
	s->low = MIN(s->low, value);
	s->high = MAX(s->high, value);

	for (int i = 0; i < SERIES_SCALES; i++)
		scale_add(&s->scale[i], value);
	distance = composite(s);
	if (distance >= 0) {
		strength = MAX(strength, surprise(s, distance) / t->surprise);
		tail_add(&s->tail, distance);
		record_add(&s->record, distance);
	}

	s->rows++;
	strength = MIN(strength, STRENGTH_MAX);
	if (strength < STRENGTH_MIN)
		return 0;
	if (s->alarm_row && (double)(s->rows - s->alarm_row) <= t->quiet_rows && strength <= t->louder * s->alarm_strength)
		return 0;
	s->alarm_row = s->rows;
	s->alarm_strength = strength;
	return strength / (1 + strength);
}
