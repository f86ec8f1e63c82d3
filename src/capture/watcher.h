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
	WATCHER_FOUND = 1, /* a port to watch; repeated when another process takes it over */
	WATCHER_GONE,      /* nothing of ours listens there any more */
	WATCHER_SCANNED,   /* one scan is over; port: how many ports it found */
};

struct watcher_message {
	uint32_t type;
	uint32_t pid;
	uint16_t port;
	uint8_t automatic;
	uint8_t pad;
	char server[24]; /* printable, NUL-terminated */
};

#define WATCHER_PERIOD_MS 2000

/* Forks. The agent's end of the socket is non-blocking. 0 or negative errno. */
int watcher_start(const struct discover_opts *opts, int *ret_fd, int *ret_pid);

/* 1: *ret filled; 0: nothing now; -EPIPE: the helper is gone; -EBADMSG: what came is not a message. */
int watcher_read(int fd, struct watcher_message *ret);

#endif
