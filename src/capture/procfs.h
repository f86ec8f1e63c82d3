/*
 * procfs.h - lines of /proc, taken apart. Pure functions, no I/O.
 *
 * What stands in /proc of a process is chosen by that process: names, arguments and mount points are
 * hostile. Nothing here trusts a length, a number or a terminating byte.
 */
#ifndef WEIR_CAPTURE_PROCFS_H
#define WEIR_CAPTURE_PROCFS_H

#include "base/util.h"

#define PROCFS_PATH_MAX 4096 /* PATH_MAX of Linux; a longer mount point could not be opened */

/* One TCP socket. */
#define PROCFS_ESTABLISHED 1 /* include/net/tcp_states.h */
#define PROCFS_LISTEN 10
struct procfs_socket {
	uint8_t local[16], remote[16]; /* IPv4 is v4-mapped */
	uint16_t lport, rport;
	uint8_t state;
	uint64_t inode;
};

/* A line of /proc/PID/net/tcp or tcp6. 1: *ret filled; 0: the heading; -EINVAL: not such a line. */
int procfs_parse_socket(struct span line, struct procfs_socket *ret);

/* One listening TCP socket. */
struct procfs_listen {
	uint8_t addr[16]; /* IPv4 is v4-mapped */
	uint16_t port;
	uint64_t inode;
};

/* The same of listening ones alone. 0: another state, or the heading. */
int procfs_parse_tcp(struct span line, struct procfs_listen *ret);

struct procfs_mount {
	char root[PROCFS_PATH_MAX];  /* of the mount inside its file system */
	char point[PROCFS_PATH_MAX]; /* unescaped */
	char fstype[32];
};

/* A line of /proc/PID/mountinfo. 0, or -EINVAL. */
int procfs_parse_mount(struct span line, struct procfs_mount *ret);

/* Parent out of /proc/PID/stat; the name in it may hold brackets, blanks and newlines. 0, or -EINVAL. */
int procfs_parse_ppid(struct span text, int *ret_ppid);

/* Start time, in ticks since boot, out of the same. 0, or -EINVAL. */
int procfs_parse_start(struct span text, uint64_t *ret_ticks);

/* Address out of a line of /proc/net/if_inet6. 0, or -EINVAL. */
int procfs_parse_inet6(struct span line, uint8_t ret_addr[16]);

/* Inode out of a link such as "socket:[123]" or "net:[4026531840]". 0, or -EINVAL. */
int procfs_parse_link(struct span link, const char *kind, uint64_t *ret_inode);

#define PROCFS_NAME_MAX 80 /* of a unit or container; systemd's own limit is 255, longer ones are cut */

/* What the control group of a process says of where it belongs. Empty where it says nothing; printable, without blanks or '='. */
struct procfs_workload {
	char runtime[16];   /* docker, containerd, cri-o, podman, lxc; empty where only the id is told */
	char container[65]; /* id, 64 digits in hex, or the name of an LXC container; of nested ones the innermost */
	char pod[37];       /* uid of a Kubernetes pod */
	char unit[PROCFS_NAME_MAX]; /* innermost systemd service outside of containers; no sessions, no transient ones */
};

/* The whole of /proc/PID/cgroup, of either version. */
void procfs_parse_cgroup(struct span text, struct procfs_workload *ret);

/*
 * "llm-7d9f8b6c5-x2x4z" -> "llm", "llm-0" -> "llm": what stays of a pod's name when it is replaced (Deployment, StatefulSet, DaemonSet,
 * Job). In place.
 */
void procfs_pod_workload(char *name);

/* A known model server. */
struct procfs_server {
	const char *name;
	bool inner; /* a worker behind the server proper: its port is a second hop of the same request */
	uint16_t port_hint; /* from the command line, 0: not said */
};

/*
 * Which model server a process is, by the base name of its executable and by its arguments (NUL
 * between them, as /proc/PID/cmdline has them). Answers false for a program that merely mentions one
 * (an editor, a shell, grep).
 */
bool procfs_match_server(struct span exe, struct span cmdline, struct procfs_server *ret);

/* Next line of *rest without its newline, or false at the end. */
bool procfs_next_line(struct span *rest, struct span *ret_line);

#endif
