#include "detect/season.h"

#include <math.h>

#include "detect/tuning.h"

#define HOUR_S 3600
#define BLOCKS_AN_HOUR (HOUR_S / SEASON_BLOCK_S)
#define BLOCKS_A_DAY (SEASON_DAY * BLOCKS_AN_HOUR)

void season_init(struct season *s)
{
	*s = (struct season){ 0 };
	for (int i = 0; i < SEASON_AHEAD; i++)
		s->last[i] = -1;
}

/* The slot of an hour since 1970, which was a Thursday. */
static unsigned int slot(enum season_by by, int64_t hour)
{
	int64_t n = by == SEASON_BY_WEEK ? SEASON_WEEK : SEASON_DAY;

	return (unsigned int)((hour % n + n) % n);
}

/* The profile at t, between the middles of two hours. NAN where either is unknown. */
static double profile(const struct season *s, enum season_by by, double t)
{
	double hours = t / HOUR_S - 0.5, part = hours - floor(hours);
	unsigned int a = slot(by, (int64_t)floor(hours)), b = slot(by, (int64_t)floor(hours) + 1);
	const float *v = by == SEASON_BY_WEEK ? s->week : s->day;
	const uint8_t *n = by == SEASON_BY_WEEK ? s->week_n : s->day_n;

	return n[a] && n[b] ? (double)v[a] * (1 - part) + (double)v[b] * part : (double)NAN;
}

static void forecast(struct season *s, int64_t end, double y)
{
	double middle = (double)end - SEASON_BLOCK_S / 2.0, plain = y - (double)s->last[SEASON_AHEAD - 1];

	for (int k = SEASON_BY_DAY; k < SEASON_KINDS; k++) {
		double moved = profile(s, (enum season_by)k, middle) - profile(s, (enum season_by)k, middle - SEASON_AHEAD * SEASON_BLOCK_S), gain;

		if (isnan(moved))
			continue;
		s->tried[k] = MIN(s->tried[k] + 1, (float)(SEASON_JUDGED * BLOCKS_A_DAY));
		gain = 1 / (double)s->tried[k];
		s->error[k] += (float)(gain * (fabs(plain - moved) - (double)s->error[k]));
		s->plain[k] += (float)(gain * (fabs(plain) - (double)s->plain[k]));
	}
}

static void hour_learn(struct season *s, int64_t hour)
{
	float y = (float)log1p((double)s->sum / 60);
	uint8_t *dn = &s->day_n[slot(SEASON_BY_DAY, hour)], *wn = &s->week_n[slot(SEASON_BY_WEEK, hour)];
	float *day = &s->day[slot(SEASON_BY_DAY, hour)], *week = &s->week[slot(SEASON_BY_WEEK, hour)];

	*dn = (uint8_t)MIN(*dn + 1, SEASON_MEMORY);
	*wn = (uint8_t)MIN(*wn + 1, SEASON_MEMORY);
	*day += (y - *day) / (float)*dn;
	*week += (y - *week) / (float)*wn;
}

void season_learn(struct season *s, int64_t end, double count)
{
	double y = log1p(MAX(count, 0.0) * 60 / SEASON_BLOCK_S);

	if (end - s->at != SEASON_BLOCK_S) {
		for (int i = 0; i < SEASON_AHEAD; i++)
			s->last[i] = -1;
		s->sum = s->blocks = 0;
	}
	s->at = end;
	if (count >= 0 && s->last[SEASON_AHEAD - 1] >= 0)
		forecast(s, end, y);
	memmove(s->last + 1, s->last, (SEASON_AHEAD - 1) * sizeof(s->last[0]));
	s->last[0] = count >= 0 ? (float)y : -1;
	if (count >= 0) {
		s->sum += (float)count;
		s->blocks++;
	}
	if (end % HOUR_S)
		return;
	/* Only whole hours: half of one is not half as busy. */
	if (s->blocks >= BLOCKS_AN_HOUR)
		hour_learn(s, end / HOUR_S - 1);
	s->sum = s->blocks = 0;
}

enum season_by season_used(const struct season *s)
{
	enum season_by best = SEASON_NONE;
	double least = SEASON_BETTER;

	for (int k = SEASON_BY_DAY; k < SEASON_KINDS; k++) {
		if ((double)s->tried[k] >= BLOCKS_A_DAY && (double)s->error[k] < least * (double)s->plain[k]) {
			least = (double)s->error[k] / (double)s->plain[k];
			best = (enum season_by)k;
		}
	}
	return best;
}

double season_ratio(const struct season *s, double from, double to)
{
	enum season_by by = season_used(s);
	double moved = by == SEASON_NONE ? 0 : profile(s, by, to) - profile(s, by, from);

	return isnan(moved) ? 1 : exp(MAX(-SEASON_MOST, MIN(moved, SEASON_MOST)));
}

double season_level(const struct season *s, double t)
{
	enum season_by by = season_used(s);
	double y = by == SEASON_NONE ? 0 : profile(s, by, t);

	return isnan(y) ? 0 : expm1(y);
}
