/* hops_past.h - the connections that a process has open now, by /proc: those made before anybody watched. */
#ifndef WEIR_CAPTURE_HOPS_PAST_H
#define WEIR_CAPTURE_HOPS_PAST_H

#include "base/util.h"
#include "weir/abi.h"

#define HOPS_PAST_SOCKETS 16384 /* of one process; what more it has is not looked at */

/* Calls tell() for each established connection of this process, as its other end sees it; netns is left 0. 0 or negative errno. */
int hops_past(uint32_t pid, void (*tell)(void *ctx, const struct weir_conn_key *conn), void *ctx);

#endif
