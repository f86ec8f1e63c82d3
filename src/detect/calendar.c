#include "detect/calendar.h"

#include <math.h>

struct calendar *calendar_free(struct calendar *c)
{
	if (!c)
		return NULL;
	for (size_t i = 0; i < c->n; i++) {
		free(c->entry[i].name);
		free(c->entry[i].value);
	}
	for (size_t i = 0; i < c->zones; i++) {
		free(c->zone[i].name);
		free(c->zone[i].at);
		free(c->zone[i].offset);
	}
	free(c->entry);
	free(c);
	return NULL;
}

static double offset_at(const struct calendar_zone *z, double t)
{
	size_t lo = 0, hi;

	if (!z || !z->n)
		return 0;
	/* The last change not after t. */
	for (hi = z->n; hi - lo > 1;) {
		size_t mid = lo + (hi - lo) / 2;

		if ((double)z->at[mid] <= t)
			lo = mid;
		else
			hi = mid;
	}
	return z->offset[lo];
}

double calendar_local(const struct calendar_zone *z, double t)
{
	return t + offset_at(z, t);
}

double calendar_instant(const struct calendar_zone *z, double local)
{
	/* Of the two offsets around a change, the one that is true of its own result; in a gap the earlier offset, which leads behind it. */
	double before = offset_at(z, local - 86400), after = offset_at(z, local + 86400);

	if (offset_at(z, local - before) == before)
		return local - before;
	return offset_at(z, local - after) == after ? local - after : local - before;
}

bool calendar_on(const struct calendar_entry *e, double t, double slack)
{
	double period = e->repeat == REPEAT_DAILY ? 86400 : e->repeat == REPEAT_WEEKLY ? 7 * 86400.0 : 0, first, length, k;

	if (t < e->start - slack)
		return false;
	if (period <= 0)
		return t <= e->end;
	first = calendar_local(e->zone, e->start);
	length = calendar_local(e->zone, e->end) - first;
	k = floor((calendar_local(e->zone, t) - first) / period);
	/* The occurrence that is on, and the next, which may begin within the slack. */
	for (double i = MAX(k - 1, 0.0); i <= k + 1; i++)
		if (t >= calendar_instant(e->zone, first + i * period) - slack && t <= calendar_instant(e->zone, first + i * period + length))
			return true;
	return false;
}

static bool speaks_of(const struct calendar_entry *e, const struct calendar_about *about)
{
	if (!(e->classes >> about->cls & 1))
		return false;
	if (e->kind == ENTITY_GLOBAL)
		return true;
	for (size_t i = 0; i < about->n; i++)
		if (about->who[i].kind == e->kind && !strcmp(about->who[i].value, e->value))
			return true;
	return false;
}

const char *calendar_explains(const struct calendar *c, double start, const struct calendar_about *about)
{
	for (size_t i = 0; c && i < c->n; i++)
		if (speaks_of(&c->entry[i], about) && calendar_on(&c->entry[i], start, CALENDAR_SLACK_S))
			return c->entry[i].name;
	return NULL;
}
