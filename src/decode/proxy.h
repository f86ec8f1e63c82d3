/*
 * proxy.h - the PROXY protocol, versions 1 and 2: who connected, by the word of the proxy that passes the connection on.
 *
 * The prefix is found and skipped by the meter (WEIR_SLICE_PROXY); here it is read. What it says is an announcement: anybody can
 * send one. Whether it is believed is for identity.h.
 */
#ifndef WEIR_DECODE_PROXY_H
#define WEIR_DECODE_PROXY_H

#include "base/util.h"

#define PROXIED_MAX 8192u /* connections whose announcement is kept, 24 bytes each; of two that meet in one place the older gives way */

enum proxy_kind {
	PROXY_CLIENT,  /* an address */
	PROXY_UNKNOWN, /* the proxy's own connection (LOCAL: a health check), UNKNOWN, or no IP address */
};

/*
 * One whole prefix, no byte more or less. ret_addr: IPv4 v4-mapped; written only with PROXY_CLIENT. -EBADMSG: it is none, or
 * contradicts itself. Never reads beyond p + n.
 */
int proxy_parse(const uint8_t *p, size_t n, enum proxy_kind *ret_kind, uint8_t ret_addr[16]);

/* What was announced, by connection. */
struct proxied;
struct proxied *proxied_free(struct proxied *t);
/* *t is made with the first one. 0, 1 where another had to give way, or -ENOMEM. */
int proxied_add(struct proxied **t, uint64_t conn, const uint8_t addr[16]);
/* t may be NULL. */
bool proxied_find(const struct proxied *t, uint64_t conn, uint8_t ret_addr[16]);

#endif
