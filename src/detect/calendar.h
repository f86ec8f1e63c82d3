/*
 * calendar.h - what is known to come: launches, jobs, maintenance. Pure arithmetic; cmd/calendar_file.h reads the file.
 *
 * An entry explains an incident that began while it was on, where class and scope fit. What is explained is told one step less
 * severe and names the entry; nothing is hidden. A repeated entry keeps its local time of day when its zone's offset changes.
 */
#ifndef WEIR_DETECT_CALENDAR_H
#define WEIR_DETECT_CALENDAR_H

#include "detect/anomaly.h"

#define CALENDAR_ENTRIES_MAX 4096 /* looked at one by one, at events only */
#define CALENDAR_ZONES_MAX 64
#define CALENDAR_SLACK_S 300 /* what begins so shortly before an entry belongs to it: people are early */

enum calendar_repeat { REPEAT_NONE, REPEAT_DAILY, REPEAT_WEEKLY };

/* The offset from UTC over time: offset[i] holds from at[i] on, and offset[0] before. */
struct calendar_zone {
	char *name;
	int64_t *at;
	int32_t *offset;
	size_t n;
};

struct calendar_entry {
	char *name;
	double start, end; /* of the first occurrence, epoch seconds; start <= end */
	enum calendar_repeat repeat;
	const struct calendar_zone *zone; /* NULL: UTC */
	enum entity_kind kind;            /* ENTITY_GLOBAL: whoever it is about */
	char *value;
	uint32_t classes;                 /* bit per class */
};

struct calendar {
	struct calendar_entry *entry;
	size_t n;
	struct calendar_zone zone[CALENDAR_ZONES_MAX];
	size_t zones;
};

struct calendar *calendar_free(struct calendar *c);
static inline void calendar_freep(struct calendar **c)
{
	calendar_free(*c);
}

/* Local clock time of an instant, as seconds since 1970-01-01T00:00 on that clock; and back. A local time that does not exist is the one after the gap. */
double calendar_local(const struct calendar_zone *z, double t);
double calendar_instant(const struct calendar_zone *z, double local);

/* Is the entry on at t, or `slack` seconds before its start? */
bool calendar_on(const struct calendar_entry *e, double t, double slack);
/* Does e speak of this class and of one of these names? */
struct calendar_about {
	enum anomaly_class cls;
	const struct anomaly_contributor *who; /* scope and contributors */
	size_t n;
};
/* The name of the first entry that explains what began at `start`; NULL: none. A NULL calendar is empty. */
const char *calendar_explains(const struct calendar *c, double start, const struct calendar_about *about);

#endif
