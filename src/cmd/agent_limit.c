#include "cmd/agent_limit.h"

bool limit_second(struct limit *l, double cpu_pct, double memory_mib, double hook_us)
{
	const struct {
		const char *name;
		double share;
		enum limit_level highest; /* that helps: the agent's own CPU and memory have nothing to do with what the kernel counts */
	} figures[] = {
		{ "CPU", cpu_pct / l->bounds.cpu_pct, LIMIT_RECORDS },
		{ "memory", memory_mib / l->bounds.memory_mib, LIMIT_RECORDS },
		{ "time in the kernel", hook_us < 0 ? 0 : hook_us / l->bounds.hook_us, LIMIT_HOOK },
	};
	unsigned calm_needed = MAX(l->calm_needed, (unsigned)LIMIT_CALM_MIN_S);
	const char *why = NULL;
	bool calm = true;

	l->since_down += l->since_down && l->since_down < LIMIT_CALM_MAX_S;
	for (size_t i = 0; i < ARRAY_SIZE(figures); i++) {
		if (figures[i].share > 1 && l->level < figures[i].highest)
			why = figures[i].name;
		/* Memory that was used is rarely given back: below the ceiling is calm enough. */
		calm &= figures[i].share < (i == 1 ? 1 : LIMIT_CALM_SHARE);
	}
	l->over = why ? l->over + 1 : 0;
	l->calm = calm ? l->calm + 1 : 0;
	if (l->over >= LIMIT_HOLD_S) {
		/* Straight back after a step down: the calm was our own doing. Wait longer next time. */
		if (l->since_down && l->since_down < 2 * calm_needed)
			l->calm_needed = MIN(2 * calm_needed, (unsigned)LIMIT_CALM_MAX_S);
		else if (!l->level)
			l->calm_needed = LIMIT_CALM_MIN_S;
		l->since_down = 0;
		l->level++;
		l->raised++;
		l->why = why;
		l->over = l->calm = 0;
		return true;
	}
	if (l->level && l->calm >= calm_needed) {
		l->level--;
		l->over = l->calm = 0;
		l->since_down = 1;
		return true;
	}
	return false;
}

const char *limit_level_name(enum limit_level level)
{
	static const char *const names[] = { "nothing", "body slices", "records", "body scanning", "the whole meter" };

	return level <= LIMIT_HOOK ? names[level] : "?";
}
