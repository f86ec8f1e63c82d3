/*
 * budget.h - how often it rings, and how strong a finding must be so that it rings as often as it may.
 *
 * A finding of strength 1 opens an incident as weir is shipped; detectors report from LEAVE_FACTOR on. The most that any entity held up to
 * in an hour, under any detector, as a warning or worse, is that hour's peak: alarms of a whole deployment are maxima over all its entities.
 * How often an hour has a peak is counted, how high peaks are is a tail (tail.h): together they say how many hours in a week would ring
 * at which bar. Without a budget the bar stands where it was put, and nothing of this moves it.
 *
 * What was called a true positive is no false alarm and teaches nothing, nor does what is kept quiet. An attacker who rings all day moves
 * the bar within its bounds only.
 */
#ifndef WEIR_DETECT_BUDGET_H
#define WEIR_DETECT_BUDGET_H

#include "base/util.h"

struct detect;
struct finding;
struct blob;
struct budget;

/* sensitivity: 1 as shipped, the bar stands at 1 / sensitivity. alarms_per_week > 0: the bar is moved to where so many are to be expected. */
int budget_open(double sensitivity, double alarms_per_week, struct budget **ret);
/* The strength at which an incident opens. */
double budget_bar(const struct budget *b);
/* How strong f has been in as many reports in a row as it needs; 0: it would not ring anyhow. */
double budget_held(struct budget *b, const struct finding *f, int32_t tick);
/* Something rang, or nearly, at so much. */
void budget_peak(struct budget *b, double strength, int32_t tick);
/* The clock. */
void budget_roll(struct budget *b, int32_t tick);
/* The bar for so many alarms a week, of what has been seen; 0: that is too little to tell. */
double budget_bar_for(const struct budget *b, double alarms_per_week);
/* As blob, both ways; a damaged one changes nothing. After that the clock goes on at some tick. */
void budget_keep(struct budget *b, struct blob *to);
void budget_resume(struct budget *b, int32_t tick);

#endif
