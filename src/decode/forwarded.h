/*
 * forwarded.h - who a chain of proxies says the client is: X-Forwarded-For and Forwarded (RFC 7239), read against the networks
 * whose word is taken.
 *
 * A chain grows to the right, one entry per proxy. From its right end, entries that are trusted proxies themselves are passed
 * over; the first other one was written by a proxy that is believed, and is the client. What stands left of it anybody may have
 * written. Lines of one message may come one by one: the chain is read in one pass from left to right, whatever its length.
 *
 * Addresses are 16 bytes, IPv4 v4-mapped, as everywhere. Nothing is allocated, nothing is logged.
 */
#ifndef WEIR_DECODE_FORWARDED_H
#define WEIR_DECODE_FORWARDED_H

#include "base/util.h"

#define NETWORKS_MAX 256 /* Cloudflare publishes 22, a large site some dozens */

struct network {
	uint8_t addr[16];
	uint8_t bits; /* of 128 */
};

/* "10.0.0.0/8", "fd00::/8", an address alone, or "unix:". -EINVAL: not a network; -EDOM: bits set behind the prefix, most likely a slip. */
int network_parse(struct span text, struct network *ret);
bool network_has(const struct network *n, const uint8_t addr[16]);
bool networks_have(const struct network *n, size_t count, const uint8_t addr[16]);

/* Not routed on the Internet: RFC 1918, shared (100.64/10), unique local, link local. Loopback is not among them. */
bool address_is_private(const uint8_t addr[16]);
bool address_is_loopback(const uint8_t addr[16]);

/*
 * One entry: "192.0.2.1", "192.0.2.1:80", "2001:db8::1", "[2001:db8::1]:80", a zone (%eth0) cut off. -ENOENT: `unknown` or an
 * obfuscated name (_x), which RFC 7239 allows; -EINVAL: anything else.
 */
int forwarded_address(struct span text, uint8_t ret[16]);

/* Zero it, set `trusted` and `count`, feed the values of the header lines in order. */
struct chain {
	const struct network *trusted;
	size_t count;
	uint32_t hops; /* entries that are not empty */
	uint8_t found; /* enum chain_end: what stands rightmost and is not trusted */
	bool have_last;
	uint8_t first[16]; /* CHAIN_TRUSTED: the leftmost */
	uint8_t client[16];
	uint8_t last[16]; /* the trusted one right of what is not known, where have_last */
};

enum chain_end {
	CHAIN_EMPTY,
	CHAIN_TRUSTED, /* all of them are: the leftmost is as near as it gets */
	CHAIN_CLIENT,
	CHAIN_UNKNOWN, /* a proxy that is believed did not know, or did not say */
	CHAIN_BROKEN,  /* not an address */
};

void chain_add_xff(struct chain *c, struct span value);
void chain_add_forwarded(struct chain *c, struct span value);

/*
 * Whether the chain names somebody: the client; the leftmost of a chain that is trusted as a whole; or the nearest trusted proxy to
 * one that is not known.
 */
bool chain_client(const struct chain *c, uint8_t ret[16]);

#endif
