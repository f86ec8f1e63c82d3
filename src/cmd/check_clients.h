/* check_clients.h - `weir check`: whether the running agent sees the clients, or a gateway that stands before them. */
#ifndef WEIR_CMD_CHECK_CLIENTS_H
#define WEIR_CMD_CHECK_CLIENTS_H

#include "base/util.h"

#define CHECK_PEERS 3

struct check_clients {
	bool known; /* an agent runs, and answered */
	bool hidden, forwards;
	uint64_t requests;
	char peers[256]; /* its heaviest, with commas */
};

/* No agent is no error. */
void check_clients_ask(const char *socket, struct check_clients *ret);

#endif
