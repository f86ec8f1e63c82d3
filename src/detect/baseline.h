/*
 * baseline.h - what is normal for one series of counts: level, dispersion, habit. Pure arithmetic.
 *
 * Counts are compared on a variance-stabilised scale: z = 2 (sqrt(x + 3/8) - sqrt(mu + 3/8)) / sqrt(D), D the
 * measured variance/mean of the same window (at least 1). The level is two exponential averages; the dispersion has
 * a prior; the peak is the largest window of this series' own past, decayed, older than ten minutes.
 */
#ifndef WEIR_DETECT_BASELINE_H
#define WEIR_DETECT_BASELINE_H

#include "base/util.h"

struct baseline {
	float fast, slow;     /* per step */
	float disp10, disp60; /* variance/mean of one step, of one window of 60 s */
	float cur10, cur60, cur300; /* peaks of the generation under way */
	float old10, old60, old300; /* habit */
};

void baseline_init(struct baseline *b, float level, float disp);
/* One finished step; n: steps learnt before (for warm-up); *run: clamped steps in a row, signed. x60: the window that ends here. */
void baseline_learn(struct baseline *b, double x10, double x60, uint32_t n, int8_t *run);
/* k steps without anything, at once. */
void baseline_idle(struct baseline *b, uint32_t n, uint32_t k);
void baseline_peak(struct baseline *b, double x10, double x60, double x300);
/* Every PEAK_STEPS: the generation becomes habit, unless it was part of an incident. */
void baseline_rotate(struct baseline *b, bool forget);
/* With every generation of a young series: what it showed when it was half as old is no habit. age: generations. */
void baseline_fade(struct baseline *b, double age);
/* The level is this now (a shift that was accepted). */
void baseline_accept(struct baseline *b, double x10, double x60, double x300);

double baseline_expected(const struct baseline *b); /* per step, for tests upwards */
/* Per step, for a total: the level of now, and not less than half of what the last hours were. */
double baseline_level(const struct baseline *b);
double baseline_floor(const struct baseline *b);    /* per step, for tests downwards */
double baseline_z(double x, double mu, double disp, uint32_t n);

#endif
