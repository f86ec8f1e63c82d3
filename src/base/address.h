/*
 * address.h - the ends of connections as people read them.
 *
 * IPv4 and IPv6 as everywhere (16 bytes, IPv4 v4-mapped); an end of a Unix socket (weir/unix.h) as "uid:33" where it is a client, and
 * as "unix:/run/model.sock" where it is a server. Paths get their numbers once, before the first is asked for.
 */
#ifndef WEIR_BASE_ADDRESS_H
#define WEIR_BASE_ADDRESS_H

#include "base/util.h"
#include "weir/unix.h"

#define ADDRESS_TEXT 48 /* INET6_ADDRSTRLEN is 46 */
#define SERVER_TEXT (WEIR_UNIX_PATH + 6) /* "unix:" and a path; an address with its port is shorter */

void address_text(const uint8_t addr[16], char out[ADDRESS_TEXT]);
/* "192.0.2.1:80", "[2001:db8::1]:80" */
void server_text(const uint8_t addr[16], uint16_t port, char out[SERVER_TEXT]);

/* The same path has the same number. -EINVAL: empty or too long; -ENOSPC: there are WEIR_UNIX_SERVERS. */
int address_unix_number(const char *path, uint32_t *ret);

#endif
