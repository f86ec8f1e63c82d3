/*
 * helper.h - a helper process: forked before the agent drops its privileges, and confined to what its one task needs.
 *
 * It talks to the agent over one socket pair and dies with it, however the agent dies. Its standard streams are
 * /dev/null, and every other descriptor of the agent is closed in it but those it is given.
 */
#ifndef WEIR_CAPTURE_HELPER_H
#define WEIR_CAPTURE_HELPER_H

#include "base/util.h"

#define HELPER_KEEP_MAX 64 /* descriptors that a helper is given */

struct helper_opts {
	const char *name; /* as ps shows it; 15 characters */
	const int *keep;  /* descriptors it needs; they keep their numbers */
	size_t keep_count;
	/* In the child, with its end of the pair (blocking). What it returns is ignored: the process ends. */
	void (*run)(int fd, void *ctx);
	void *ctx;
};

/* Forks. The agent's end is non-blocking. 0 or negative errno (-E2BIG: too many descriptors to keep). */
int helper_start(const struct helper_opts *opts, int *ret_fd, int *ret_pid);

/* Ends a helper and takes its end of the pair away; fd and pid become -1. Nothing where there is none. */
void helper_end(int *fd, int *pid);

/* A system call that a helper may do, of which one argument may be bound to one value. */
struct helper_call {
	int nr;
	int arg; /* 1-based; 0: whatever its arguments */
	uint64_t value;
};

/*
 * In the child: core dumps and ptrace off, an unprivileged user, these capabilities alone, no new privileges, and no system
 * call but those listed. 0, or negative errno: less than that could be had. A process
 * that is not root keeps its user.
 */
int helper_confine(const unsigned *caps, size_t cap_count, const struct helper_call *calls, size_t call_count);

#endif
