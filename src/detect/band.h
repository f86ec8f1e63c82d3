/*
 * band.h - the plain band: the p99 of a latency over five minutes, against what that has been in the last week, in sigmas.
 *
 * Three of them are a warning and five are critical wherever such bands page people. Here it is evidence beside latency.c, which knows the
 * load and decides: a p99 rises with the load alone. The course of the day and of the week is taken where it forecasts better (season.h).
 * Pure arithmetic.
 */
#ifndef WEIR_DETECT_BAND_H
#define WEIR_DETECT_BAND_H

#include "detect/quantile.h"
#include "detect/season.h"

#define BAND_S 300

struct band {
	struct quantile now;
	int64_t window;		/* under way, in BAND_S since 1970; 0: none yet */
	float mean, var, looks; /* of log p99, and of its residuals; windows */
	float half;		/* log p99 of the first window of a block of SEASON_BLOCK_S; < 0: there was none */
	float observed, expected, sigma; /* the last whole window, ms; observed 0: it held too little, or too little is known */
	struct season season;
};

void band_init(struct band *b);
void band_add(struct band *b, double ms);
/* The clock, epoch seconds. learn: what is now whole may teach. */
void band_roll(struct band *b, int64_t now, bool learn);

#endif
