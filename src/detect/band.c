#include "detect/band.h"

#include <math.h>

#include "detect/tuning.h"

void band_init(struct band *b)
{
	*b = (struct band){ .half = -1 };
	quantile_init(&b->now);
	season_init(&b->season);
}

void band_add(struct band *b, double ms)
{
	quantile_add(&b->now, ms, 1);
}

/* Ten minutes are two windows; season.h counts by the minute, so the p99 is handed to it as ten times itself. */
static void season_add(struct band *b, double y, bool learn)
{
	int64_t end = (b->window + 1) * BAND_S;

	if (end % SEASON_BLOCK_S) {
		b->half = (float)y;
		return;
	}
	if (y < 0)
		y = (double)b->half;
	else if (b->half >= 0)
		y = (y + (double)b->half) / 2;
	season_learn(&b->season, end, learn && y >= 0 ? (double)SEASON_BLOCK_S / 60 * expm1(y) : -1);
	b->half = -1;
}

static void window_over(struct band *b, bool learn)
{
	double usual = season_level(&b->season, (double)b->window * BAND_S + BAND_S / 2.0), p99, y, level, r, sd, gain;

	b->observed = b->expected = b->sigma = 0;
	if ((double)b->now.total < BAND_REQUESTS) {
		season_add(b, -1, learn);
		return;
	}
	p99 = quantile_at(&b->now, 0.99);
	y = log1p(p99);
	level = usual > 0 ? log1p(usual) : (double)b->mean;
	r = y - level;
	sd = sqrt((double)b->var + BAND_SD * BAND_SD);
	if (b->looks >= BAND_LOOKS) {
		b->observed = (float)p99;
		b->expected = (float)expm1(level);
		b->sigma = (float)(r / sd);
	}
	season_add(b, y, learn);
	if (!learn)
		return;
	if (b->looks >= BAND_LOOKS)
		r = MAX(-3 * sd, MIN(r, 3 * sd));
	gain = MAX(1 / ((double)b->looks + 1), 1 / BAND_WEEK);
	b->mean += (float)(gain * (b->looks > 0 ? MAX(-3 * sd - 1, MIN(y - (double)b->mean, 3 * sd + 1)) : y));
	if (b->looks > 0)
		b->var += (float)(gain * (r * r - (double)b->var));
	b->looks++;
}

void band_roll(struct band *b, int64_t now, bool learn)
{
	int64_t window = now / BAND_S;

	if (b->window && window > b->window) {
		window_over(b, learn);
		quantile_init(&b->now);
	}
	b->window = window;
}
