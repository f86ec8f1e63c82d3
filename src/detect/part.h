/*
 * part.h - parts of the engine that can be left out, to measure what each is worth (`make ablation`). For developers: nobody who wants to
 * be warned leaves any out.
 */
#ifndef WEIR_DETECT_PART_H
#define WEIR_DETECT_PART_H

#include "base/util.h"

enum part {
	PART_SEASON,	/* the course of the day and the week */
	PART_HABIT,	/* how far everybody has strayed by himself before */
	PART_LOAD,	/* latency is judged at its load */
	PART_ONE_CAUSE, /* side effects belong to their cause */
	PART_FOREST,	/* the second opinion */
	PART_RETRY,	/* retries of what failed are no new demand */
	PART_BEHAVIOUR, /* how a rise behaves decides how much of it is asked, and what it is called */
	PART_COUNT
};

const char *part_name(enum part p);
/* "season,load" as a set, a bit per part. -EINVAL: there is no such part. */
int parts_parse(struct span list, unsigned int *ret);

#endif
