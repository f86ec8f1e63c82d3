/*
 * discover.h - which ports are worth watching: a scan of /proc for listening sockets of chosen or known servers.
 *
 * A scan takes what /proc says at that moment; processes that vanish meanwhile are skipped. Needs the
 * right to look into other users' processes (CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH); what it may not
 * look into is counted.
 */
#ifndef WEIR_CAPTURE_DISCOVER_H
#define WEIR_CAPTURE_DISCOVER_H

#include "base/util.h"

#define DISCOVER_PIDS_MAX 64    /* --pid on one command line */
#define DISCOVER_PORTS_MAX 1024 /* listening ports found; a host with more has other worries */

struct discover_opts {
	const char *proc; /* NULL: /proc */
	int pids[DISCOVER_PIDS_MAX];
	size_t pid_count;
	bool automatic; /* known model servers */
};

struct discover_port {
	uint16_t port;
	int pid;
	bool automatic;  /* found by its name; not confirmed yet */
	char server[24]; /* name of the known server, or of the process; printable */
};

struct discover_result {
	struct discover_port port[DISCOVER_PORTS_MAX];
	size_t count;
	size_t hidden; /* processes that could not be looked into */
	size_t cut;    /* ports beyond DISCOVER_PORTS_MAX */
};

/* 0, -ENOENT (no /proc), -ENOMEM. */
int discover_scan(const struct discover_opts *opts, struct discover_result *ret);

/* Whether anything listens on this port in our network namespace. */
bool discover_listens(uint16_t port);

#endif
