/*
 * agent_socket.h - the unix socket on which `weir clients` asks a running agent.
 *
 * A caller sends one line, "clients", "by client|key|user", "stats" or "unknown", and gets JSON lines until the agent closes. Answers are
 * made a piece at a time as the caller reads them, so a slow or hostile caller costs a buffer and a
 * slot, never the agent's time: at most SOCKET_CALLERS at once, each with SOCKET_PATIENCE_S to move on.
 */
#ifndef WEIR_CMD_AGENT_SOCKET_H
#define WEIR_CMD_AGENT_SOCKET_H

#include "base/address.h"
#include "base/str.h"
#include "capture/capture.h"
#include "cmd/agent_accounts.h"

#include <sys/types.h>

#define SOCKET_CALLERS 8
#define SOCKET_PATIENCE_S 10

struct agent_socket;

struct agent_socket_opts {
	const char *path;
	gid_t group;	       /* may ask besides root; (gid_t)-1: nobody else */
	int epoll_fd;	       /* events carry `tag` in the upper half of data.u64 */
	uint32_t tag;
	struct capture *capture;
	const struct accounts *accounts;
	void (*stats)(void *ctx, struct str *out); /* writes one JSON object */
	void (*unknown)(void *ctx, struct str *out); /* writes JSON lines, far less than a str holds */
	void *ctx;
};

/* -EADDRINUSE: a live agent has this path; -EEXIST: something there is not a socket; other negative errno. */
int agent_socket_open(const struct agent_socket_opts *o, struct agent_socket **ret);
struct agent_socket *agent_socket_free(struct agent_socket *s);
static inline void agent_socket_freep(struct agent_socket **s)
{
	agent_socket_free(*s);
}

/* An epoll event with our tag; `which` is the lower half of data.u64. */
void agent_socket_event(struct agent_socket *s, uint32_t which, uint32_t events);
/* About once a second: hangs up on who does not move. */
void agent_socket_second(struct agent_socket *s);

/* Appends one line of `weir clients --json`. */
void client_write_json(struct str *out, const struct weir_client_key *key, const char *name, const struct weir_client *v);

#endif
