/*
 * hops.h - connections made on this host to watched ports: what bpf/hops.bpf.c writes and src/capture/hops.c reads.
 */
#ifndef WEIR_HOPS_H
#define WEIR_HOPS_H

#include "weir/abi.h"

#define WEIR_HOPS_MAX 16384   /* connections remembered; some 2 MiB of kernel memory */
#define WEIR_HOP_OWNERS 4096  /* processes that hold watched listening sockets: workers, too */

/*
 * Value of weir_hops. The key is the connection as its listener sees it, but that the namespace is 0 where the client's address is
 * not a loopback address: only those mean another machine in every namespace. A second key without the server's end stands for
 * what was sent to an address that is not watched.
 */
struct weir_hop {
	__u32 tgid, parent; /* of the process that connected, in the initial PID namespace */
};

/* 127.0.0.0/8, v4-mapped, and ::1. */
WEIR_INLINE __u8 weir_is_loopback(const __u8 *a)
{
	for (int i = 0; i < 10; i++)
		if (a[i])
			return 0;
	if (a[10] == 0xff && a[11] == 0xff)
		return a[12] == 127;
	return !a[10] && !a[11] && !a[12] && !a[13] && !a[14] && a[15] == 1;
}

#endif
