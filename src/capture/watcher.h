/*
 * watcher.h - a small helper process that keeps looking for servers after the agent has dropped its privileges.
 *
 * Forked before the drop. Keeps only the right to look into other processes (CAP_SYS_PTRACE,
 * CAP_DAC_READ_SEARCH), cannot open sockets, start programs or write files, and speaks one way: fixed
 * messages over a socket pair. It ends when the agent does.
 */
#ifndef WEIR_CAPTURE_WATCHER_H
#define WEIR_CAPTURE_WATCHER_H

#include "capture/discover.h"

enum watcher_type {
	WATCHER_FOUND = 1, /* a port to watch, or (given) who listens on a watched one; repeated when any of it changes */
	WATCHER_GONE,      /* nothing of ours listens there any more, in that namespace */
	WATCHER_OWNER,     /* a process that holds the port's listening socket: pid, netns, port */
	WATCHER_DISOWNED,  /* ... does so no longer */
	WATCHER_SCANNED,   /* one scan is over; port: how many ports it found */
};

struct watcher_message {
	uint32_t type;
	uint32_t pid;
	uint32_t netns;
	uint16_t port;
	uint8_t automatic, given;
	uint8_t elsewhere; /* GONE: the port is still found in another namespace */
	uint8_t pad[7];
	uint64_t start;
	/* printable, NUL-terminated; as in struct discover_port */
	char server[24];
	char workload[DISCOVER_WORKLOAD_MAX];
	char image[CONTAINER_IMAGE_MAX];
	char tls[24];
};

#define WATCHER_PERIOD_MS 2000

/* Forks. The agent's end of the socket is non-blocking. 0 or negative errno. */
int watcher_start(const struct discover_opts *opts, int *ret_fd, int *ret_pid);

/* 1: *ret filled; 0: nothing now; -EPIPE: the helper is gone; -EBADMSG: what came is not a message. */
int watcher_read(int fd, struct watcher_message *ret);

#endif
