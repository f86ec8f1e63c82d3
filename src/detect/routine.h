/*
 * routine.h - who does the same each day at the same hour: a nightly batch is an alarm twice, then it is told as an info.
 *
 * What an incident is about teaches nothing while it is open, so a job that ends before it is accepted would ring every night for ever.
 * Here its incidents themselves are remembered, by their hour and size. Whoever wants to hide in a routine must be told of on two days
 * first, at that hour and at nearly that size. Pure arithmetic on epoch seconds.
 */
#ifndef WEIR_DETECT_ROUTINE_H
#define WEIR_DETECT_ROUTINE_H

#include <stdint.h>

#include "base/util.h"

struct blob;
struct routines;

/* -ENOMEM. Freed by free(). */
int routine_open(struct routines **ret);
/* One that is over: whose (entity hash), when it began (epoch s), and the most it reached of requests and tokens in five minutes. */
void routine_note(struct routines *r, uint64_t who, int64_t start, double requests, double tokens);
/* On how many of the days before that began now it did no less at this hour; 0 where they are too few for a routine. */
unsigned int routine_days(const struct routines *r, uint64_t who, int64_t now, double requests, double tokens);
/* As blob, both ways; a damaged one changes nothing. */
void routine_keep(struct routines *r, struct blob *to);

#endif
