/*
 * tls_find.h - which processes listen on the watched ports, and which files they have mapped as code.
 *
 * Reads /proc, which the processes themselves fill with what they like: see procfs.h.
 */
#ifndef WEIR_CAPTURE_TLS_FIND_H
#define WEIR_CAPTURE_TLS_FIND_H

#include "base/util.h"

#define TLS_FIND_PIDS_MAX 1024 /* processes that hold a listening socket of a watched port */

/*
 * Calls `found` for each process that holds a listening socket on a port for which `wanted` says yes. 0, -ENOENT (no /proc)
 * or -ENOMEM. Processes that we may not look into are passed over.
 */
int tls_find_listeners(bool (*wanted)(void *ctx, uint16_t port), void (*found)(void *ctx, int pid), void *ctx);

/* A line of /proc/PID/maps. 1: a file mapped as code, *ret filled; 0: something else; -EINVAL: not such a line. */
struct tls_mapping {
	uint64_t start, end, offset, inode;
	struct span path; /* points into the line, newlines in it still escaped, " (deleted)" cut off */
};
int tls_parse_mapping(struct span line, struct tls_mapping *ret);

/* Opens the file behind a mapping as its process sees it. A descriptor, or negative errno. ESTALE: another file is there by now. */
int tls_open_mapping(int pid, const struct tls_mapping *m);

#endif
