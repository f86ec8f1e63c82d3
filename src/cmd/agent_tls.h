/*
 * agent_tls.h - the agent's TLS hook: when it is hung up, what is said about it, when it is shed.
 */
#ifndef WEIR_CMD_AGENT_TLS_H
#define WEIR_CMD_AGENT_TLS_H

#include "capture/tls_follow.h"
#include "cmd/agent_limit.h"

enum tls_mode { TLS_AUTO, TLS_ON, TLS_OFF }; /* on: an error where it cannot work, auto: a warning */

struct agent_tls {
	struct tls *tls; /* NULL: no hook */
	struct tls_follow *follow; /* NULL: nobody looks for what comes later */
	struct limit limit; /* any level above none: the hook is off */
	double call_us;  /* mean time of a call in the hook, last second; < 0: none was timed */
	unsigned blind;  /* files whose TLS cannot be metered */
};

/* Hangs the hook on the TLS libraries of the servers that listen now. Privileged. 0, or negative errno; it was said why. */
int agent_tls_begin(struct agent_tls *a, struct capture *c, enum tls_mode mode, double call_limit_us);
/* before, now: capture_stats() of the last second and of this one. */
void agent_tls_second(struct agent_tls *a, uint64_t seconds, const uint64_t before[WEIR_STAT_COUNT], const uint64_t now[WEIR_STAT_COUNT]);
/* Descriptors to wait on, -1: none; and what to do when one of them is readable. */
void agent_tls_fds(const struct agent_tls *a, int ret[2]);
void agent_tls_event(struct agent_tls *a);
/* Nothing more is metered; at once, where taking the probes out may take seconds. */
void agent_tls_stop(struct agent_tls *a);
void agent_tls_end(struct agent_tls *a);

#endif
