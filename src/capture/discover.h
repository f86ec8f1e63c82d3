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
#include "capture/container.h"

#define DISCOVER_PIDS_MAX 64     /* --pid on one command line */
#define DISCOVER_GIVEN_MAX 256   /* --port on one command line */
#define DISCOVER_PORTS_MAX 1024  /* listening ports found; a host with more has other worries */
#define DISCOVER_OWNERS_MAX 4096 /* processes that hold their sockets: workers, too */
#define DISCOVER_WORKLOAD_MAX (PROCFS_NAME_MAX + 16)

struct discover_opts {
	const char *root; /* NULL: "/"; where proc/ lies, and the files of container runtimes */
	int pids[DISCOVER_PIDS_MAX];
	size_t pid_count;
	uint16_t ports[DISCOVER_GIVEN_MAX]; /* watched anyway: who listens there? In our own network namespace */
	size_t port_count;
	bool automatic; /* known model servers */
};

/* A listening port of one network namespace, and the first process that holds it. */
struct discover_port {
	uint16_t port;
	bool automatic;  /* found by its name; not confirmed yet */
	bool given;      /* one of opts->ports that nothing else found */
	uint32_t netns;  /* inode of the namespace */
	int pid;
	uint64_t start;  /* its start time, in ticks */
	char server[24]; /* name of the known server, or of the process; printable */
	char workload[DISCOVER_WORKLOAD_MAX]; /* "unit=vllm.service", "container=llm", "pod=prod/llm/server"; empty: none */
	char image[CONTAINER_IMAGE_MAX];
	char tls[24]; /* a TLS library that it has loaded, "libssl.so.3"; empty: none seen */
};

struct discover_owner {
	int pid;
	uint32_t netns;
	uint16_t port;
	bool given;
	uint64_t start;
};

struct discover_result {
	struct discover_port port[DISCOVER_PORTS_MAX];
	size_t count;
	struct discover_owner owner[DISCOVER_OWNERS_MAX];
	size_t owners;
	size_t hidden; /* processes that could not be looked into */
	size_t cut;    /* ports beyond DISCOVER_PORTS_MAX, owners beyond DISCOVER_OWNERS_MAX */
	uint64_t given; /* what the sockets of opts->ports were: while they are the same, their owners are not looked for again */
};

/*
 * before: the last scan's result, or NULL; what has not changed is taken from there, since finding the owner of a socket means
 * looking at every descriptor of every process. 0, -ENOENT (no /proc), -ENOMEM.
 */
int discover_scan(const struct discover_opts *opts, const struct discover_result *before, struct discover_result *ret);

const struct discover_port *discover_find(const struct discover_result *r, uint32_t netns, uint16_t port);

/* Whether anything listens on this port in our network namespace. */
bool discover_listens(uint16_t port);

#endif
