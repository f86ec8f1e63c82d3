/*
 * engine.h - what bpf/engine.bpf.c counts: tokens that inference engines compute, per process.
 */
#ifndef WEIR_ENGINE_H
#define WEIR_ENGINE_H

#include <linux/types.h>

#define WEIR_ENGINE_PROCESSES 1024 /* that compute at the same time; of more the first are counted, the others' calls told as lost */

struct weir_engine_key {
	__u32 tgid; /* of the first pid namespace */
	__u32 file; /* the cookie of the probe: which file */
};

struct weir_engine {
	__u64 calls, tokens;
	__u32 parent, reserved; /* process: who started it, at its first call */
};

/* Losses: one array element each. */
enum weir_engine_stat {
	WEIR_ENGINE_FULL,       /* calls of processes that found the table full */
	WEIR_ENGINE_UNREADABLE, /* calls whose argument could not be read, or made no sense */
	WEIR_ENGINE_STAT_COUNT,
};

#define WEIR_ENGINE_BATCH_MAX (1 << 24) /* tokens of one call; more is no count */

#endif
