/*
 * season.h - the day's and the week's course of one series of counts, and whether knowing it helps. Pure arithmetic; hours of UTC.
 *
 * A profile of log rates by the hour of the day and of the week. Every ten minutes are forecast from those an hour before, as they were and along
 * each profile; what is forecast better along a profile, by the absolute error on the log scale over the last two days, follows it. Profiles of
 * days say something from the third day on, of weeks from the second week on. An hour, since that is how far back expectations reach: over ten
 * minutes no profile beats the level that there was just now.
 */
#ifndef WEIR_DETECT_SEASON_H
#define WEIR_DETECT_SEASON_H

#include "base/util.h"

#define SEASON_DAY 24
#define SEASON_WEEK 168
#define SEASON_BLOCK_S 600
#define SEASON_AHEAD 6 /* blocks */

enum season_by { SEASON_NONE, SEASON_BY_DAY, SEASON_BY_WEEK, SEASON_KINDS };

struct season {
	float day[SEASON_DAY], week[SEASON_WEEK]; /* mean log(1 + requests a minute) */
	uint8_t day_n[SEASON_DAY], week_n[SEASON_WEEK];
	/* By profile: of its forecasts, of the plain ones for the same blocks, and how many there were. */
	float error[SEASON_KINDS], plain[SEASON_KINDS], tried[SEASON_KINDS];
	float last[SEASON_AHEAD]; /* log of the blocks before, newest first; < 0: unknown */
	float sum;    /* requests of the hour under way */
	float blocks; /* of it */
	int64_t at;   /* end of the block before, epoch seconds */
};

void season_init(struct season *s);
/* A block of ten minutes that ends at `end`; count < 0: what came says nothing. */
void season_learn(struct season *s, int64_t end, double count);
/* Which profile forecasts best. */
enum season_by season_used(const struct season *s);
/* How many times the rate at `from` is expected at `to`; 1 where no profile helps. */
double season_ratio(const struct season *s, double from, double to);
/* Requests a minute that are usual at t; 0 where no profile helps. */
double season_level(const struct season *s, double t);

#endif
