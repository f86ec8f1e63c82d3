/*
 * unix.h - servers behind Unix stream sockets: what bpf/unix.bpf.c and user space share, and how such ends are written as addresses.
 *
 * A connection's key has port 0 on both sides, which TCP never has, and addresses of 100::/64, from which nothing ever comes (RFC 6666):
 * the server's is the number of its path and the process that connected, the client's its user and the number of the connection.
 * Client counters are kept per path and user.
 */
#ifndef WEIR_UNIX_H
#define WEIR_UNIX_H

#include "weir/abi.h"

#define WEIR_UNIX_PATH 108    /* sun_path: a name without a file begins with a byte of 0, the rest is filled with 0 */
#define WEIR_UNIX_SERVERS 16  /* paths watched; a host has a few servers */
#define WEIR_UNIX_SOCKS 4096  /* connections followed at once: a gateway keeps one per request in flight, and some idle ones */
#define WEIR_UNIX_PIECE 2048  /* bytes copied at once of what does not lie in one piece in the kernel; two pieces per connection */

struct weir_unix_path {
	char name[WEIR_UNIX_PATH];
};

/* By the server's socket, an address in the kernel. */
struct weir_unix_sock {
	struct weir_conn_key key;
	__u64 conn;    /* its id */
	__u64 ino;     /* of the server's socket: another connection may get the same address */
	__u64 last_ns;
	__u32 ahead[2]; /* by enum weir_dir: bytes that were metered when somebody peeked at them, and are still to be read */
	__u32 at[2], end[2]; /* the copy under way: where in its buffer it is, here because the stack of the kernel's side is short */
	__u64 from[2][2];    /* ... and where its next bytes can be read */
	char piece[2][WEIR_UNIX_PIECE];
};

WEIR_INLINE void weir_unix_address(__u8 *to, __u32 high, __u32 low)
{
	__u32 *w = (__u32 *)to;

	w[0] = w[1] = 0;
	to[0] = 1;
	w[2] = high;
	w[3] = low;
}

/* Whether it stands for an end of a Unix socket. */
WEIR_INLINE __u8 weir_is_unix(const __u8 *addr)
{
	return addr[0] == 1 && !addr[1] && !addr[2] && !addr[3] && !addr[4] && !addr[5] && !addr[6] && !addr[7];
}

/* host order on either side: the number of the path, or the user */
WEIR_INLINE __u32 weir_unix_high(const __u8 *addr)
{
	return ((const __u32 *)addr)[2];
}

/* the process that connected, or the number of the connection */
WEIR_INLINE __u32 weir_unix_low(const __u8 *addr)
{
	return ((const __u32 *)addr)[3];
}

/* What is the same for all connections of a path, or of a user. */
WEIR_INLINE void weir_unix_common(__u8 *addr)
{
	((__u32 *)addr)[3] = 0;
}

#endif
