/*
 * hops.h - double hops: is the client of a connection itself a server that is watched here?
 *
 * A gateway and the engine behind it on one host (LiteLLM -> vLLM, nginx -> llama-server, Ollama -> its runner) are both watched, and
 * each request passes both. It is one request: it belongs to the outermost watched listener. This module tells the inner connections:
 * those made, on this host, by a process that holds another watched listening socket, or by a child of one (a worker younger than
 * the last look at /proc). How a request is then accounted is not decided here (src/cmd/agent_inner.h).
 *
 * Exact for every connection made after the start and not older than the last WEIR_HOPS_MAX to watched ports when its first request
 * comes (each is to be looked up then, and remembered by whoever asks); of those made before, the ones of owners that are known when
 * hops_look_back() is called. What it cannot see: a gateway on another host; one whose source address is translated between the two (docker-proxy is a gateway of its own
 * then, and no watched one).
 */
#ifndef WEIR_CAPTURE_HOPS_H
#define WEIR_CAPTURE_HOPS_H

#include "base/util.h"
#include "weir/abi.h"

struct hops;

/* The outer end of an inner hop. */
struct hop {
	uint32_t pid;   /* the process that connected */
	uint32_t netns; /* of the watched listener that it, or its parent, holds; the lowest port where it has several */
	uint16_t port;
};

/* Loads and attaches, with privilege. cgroup_mount: the root of cgroup v2. 0 or negative errno; -EOPNOTSUPP: the kernel refuses it. */
int hops_open(const char *cgroup_mount, struct hops **ret);
struct hops *hops_free(struct hops *h);

/* Without privilege, as the agent learns what it watches. NULL for h: nothing happens. */
void hops_watch(struct hops *h, uint16_t port, bool on);
/* This process holds a listening socket of a watched port. 0, -ENOSPC (WEIR_HOP_OWNERS), or negative errno. */
int hops_own(struct hops *h, uint32_t pid, uint32_t netns, uint16_t port);
void hops_disown(struct hops *h, uint32_t pid, uint32_t netns, uint16_t port);

/* Looks for connections to watched ports that the owners known so far made before the start: while there is privilege to look. */
void hops_look_back(struct hops *h);

/*
 * Whether the client of this connection (as its listener sees it) is a watched server here. Ask when the connection's first
 * request comes and keep the answer: later it may be forgotten. false where it is not, is not known, or h is NULL.
 */
bool hops_inner(const struct hops *h, const struct weir_conn_key *conn, struct hop *ret);

/* The same of a connection over a Unix socket, which is not remembered here: by the process that made it. Needs /proc/PID/stat. */
bool hops_inner_of(const struct hops *h, const struct weir_conn_key *conn, uint32_t pid, struct hop *ret);

/* Calls tell() for each remembered connection that is an inner hop, for who wants to say which listeners are behind which. */
void hops_each(const struct hops *h, void (*tell)(void *ctx, const struct weir_conn_key *conn, const struct hop *hop), void *ctx);

#endif
