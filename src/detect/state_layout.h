/*
 * state_layout.h - how what outlives a restart lies in a blob; state.c says what that is, and when.
 *
 * Each function writes where blob.write is set, and else reads into what it is given; what makes no sense sets blob.bad, and the caller
 * then throws away what was read. `now` is the tick of the export.
 */
#ifndef WEIR_DETECT_STATE_LAYOUT_H
#define WEIR_DETECT_STATE_LAYOUT_H

#include "detect/blob.h"
#include "detect/engine.h"

#define TICK_MAX (1 << 30)
#define NEVER (-1)
#define AHEAD_S (2 * 86400) /* how far in the future a tick may lie: echoes */

enum what { WHAT_CLOCK = 1, WHAT_ENTITY, WHAT_POOL, WHAT_USUAL, WHAT_LATENCY, WHAT_INCIDENT, WHAT_LABEL, WHAT_BUDGET, WHAT_BAND, WHAT_ROUTINE };

/* Magic, version, kind; returns the tick. */
int32_t layout_head(struct blob *b, enum what what, int32_t tick);
/* A moment not later than `now` and a little. */
void layout_moment(struct blob *b, int32_t *t, int32_t now);
void layout_baseline(struct blob *b, struct baseline *v);
void layout_habit(struct blob *b, struct habit *h);
void layout_season(struct blob *b, struct season *s);
/* Without its name. Read: `changed` says whether it was active, until the clock begins. */
void layout_entity(struct blob *b, struct entity *e, int32_t now);

#endif
