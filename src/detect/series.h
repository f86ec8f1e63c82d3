/*
 * series.h - how unusual is the newest value of one series of numbers, on a scale that is the same for all series?
 *
 * Causal, deterministic, no I/O, no reference to units or intervals; about 40 kB per series, some tens of microseconds
 * per value. docs/nab.md says how it was chosen and how it fares.
 *
 * Two kinds of news make a score: a value outside everything seen so far, and a *shape* (the last values, at four
 * resolutions) that is further from its nearest likeness in the past than any shape was for long. One alarm is one
 * score above 0.5: what lasts is said once, again only when it has become far worse.
 */
#ifndef WEIR_DETECT_SERIES_H
#define WEIR_DETECT_SERIES_H

#include "base/util.h"

#define SERIES_SCALES 4
#define SERIES_KEEP_MAX 4096 /* blocks of history per scale */
#define SERIES_LENGTH_MAX 64

struct series_tuning {
	double beyond;                /* of the range seen so far: how far outside counts as one alarm */
	double surprise;              /* how much rarer than the rarest shape of the memory: logarithm of the ratio of probabilities */
	double memory;                /* a record holds for this share of the rows seen ... */
	double memory_rows;           /* ... and at least so many */
	double quiet_rows;            /* after an alarm */
	double louder;                /* within, only what is so many times as strong */
	double keep;                  /* blocks of history */
	double rows[SERIES_SCALES];   /* per block */
	double blocks[SERIES_SCALES]; /* per shape */
};

extern const struct series_tuning series_usual;

struct series;
/* tuning NULL: series_usual. -ENOMEM, or -EINVAL for a tuning out of its limits. */
int series_open(const struct series_tuning *tuning, struct series **ret_series);
struct series *series_free(struct series *s);
static inline void series_freep(struct series **s)
{
	series_free(*s);
}

/* The score of the next value, 0..1, from what came before. NaN and infinities score 0 and teach nothing. */
double series_score(struct series *s, double value);

#endif
