/*
 * agent_limit.h - decides how much work to shed so that the agent stays below its own ceilings. Pure: no clock, no I/O.
 *
 * Above a ceiling for LIMIT_HOLD_S seconds in a row the level goes up by one. It comes down by one after
 * a calm time (every figure below 60 % of its ceiling), which doubles each time that the load
 * came straight back: shedding must not swing. CPU and memory shed no more than records: the counters cost the agent nothing.
 */
#ifndef WEIR_CMD_AGENT_LIMIT_H
#define WEIR_CMD_AGENT_LIMIT_H

#include "base/util.h"

enum limit_level {
	LIMIT_NONE,
	LIMIT_SLICES,  /* no body slices: records without model, key and prompt features */
	LIMIT_RECORDS, /* no records at all: the counters go on */
	LIMIT_SCAN,    /* bodies are not scanned: requests and bytes only */
	LIMIT_HOOK,    /* the meter is off its hook */
};

#define LIMIT_HOLD_S 3
#define LIMIT_CALM_MIN_S 10
#define LIMIT_CALM_MAX_S 320
#define LIMIT_CALM_SHARE 0.6

struct limit_bounds {
	double cpu_pct, memory_mib, hook_us;
};

struct limit {
	struct limit_bounds bounds;
	enum limit_level level;
	unsigned over, calm;   /* seconds in a row */
	unsigned calm_needed;  /* before the next step down; 0: LIMIT_CALM_MIN_S */
	unsigned since_down;   /* seconds since the last step down; 0: there was none, or a step up came after it */
	uint64_t raised;       /* steps up, ever */
	const char *why;       /* of the last step up: "CPU", "memory", "time in the kernel" */
};

/* One second's figures; hook_us < 0: nothing was timed. Returns true where the level changed. */
bool limit_second(struct limit *l, double cpu_pct, double memory_mib, double hook_us);

const char *limit_level_name(enum limit_level level);

#endif
