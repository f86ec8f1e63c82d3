/*
 * probe.h - what this kernel and host offer, each thing tried, none guessed from a version number.
 *
 * Tries on its own throw-away programs and maps; leaves nothing behind.
 */
#ifndef WEIR_CAPTURE_PROBE_H
#define WEIR_CAPTURE_PROBE_H

#include "base/util.h"
#include "weir/abi.h"

enum probe_state { PROBE_OK, PROBE_DEGRADED, PROBE_MISSING, PROBE_UNKNOWN };

enum probe_item {
	PROBE_PRIVILEGE,    /* bpf(2) lets us create maps and load programs */
	PROBE_BTF,
	PROBE_CGROUP,       /* cgroup v2, and its root */
	PROBE_RING,
	PROBE_METER,        /* the meter passes the verifier, in which variant, and attaches */
	PROBE_HOPS,         /* who makes a connection on this host */
	PROBE_TLS,          /* the meter on TLS libraries */
	PROBE_UNPRIVILEGED, /* map operations through held descriptors without any capability */
	PROBE_BATCH,
	PROBE_BPF_STATS,
	PROBE_ENGINE,       /* uprobes with a cookie, on the functions of inference engines */
	PROBE_UNIX,         /* bytes of AF_UNIX sockets */
	PROBE_JOURNAL,
	PROBE_PROCFS,       /* other processes can be looked into */
	PROBE_COUNT,
};

struct probe {
	const char *hook;   /* short name, for the table and as JSON key */
	enum probe_state state;
	char found[160];    /* what was seen */
	const char *lost;   /* what is missed without it, and what to do; "" where the state is PROBE_OK */
};

struct probe_result {
	struct probe item[PROBE_COUNT];
	bool metering;      /* can meter at all */
	char *cgroup_path;  /* NULL: none */
};

/* Automaton as for capture_open(). 0 or -ENOMEM: what fails is an answer, not an error. */
int probe_run(const struct weir_automaton *automaton, struct probe_result *ret);
void probe_done(struct probe_result *r);

const char *probe_state_name(enum probe_state s);

/*
 * Whether this process could go on without any capability: asks a child that has given up all of
 * them to use this map. true, or false (before Linux 5.19 every bpf(2) call is refused).
 */
bool probe_unprivileged(int map_fd);

#endif
