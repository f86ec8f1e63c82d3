/*
 * tap.h - what bpf/tap.bpf.c sends up: watched TCP segments, whole.
 *
 * Used only where the kernel refuses the meter (below 6.1). User space then runs the same meter over them
 * (src/capture/soft.c). A segment longer than one record comes as several, in order, each
 * with its own sequence number; a record may be missing (ring full) and so leaves a hole in the sequence.
 */
#ifndef WEIR_TAP_H
#define WEIR_TAP_H

#include "weir/conn.h"

/*
 * A reservation's size must be a constant for the verifier, so records come in a few sizes. Most SSE segments are 200 to
 * 400 bytes: the smallest class holds them without wasting the ring; the largest keeps a 95 KB loopback segment to seven records.
 */
#define WEIR_TAP_SMALL 448
#define WEIR_TAP_MEDIUM 2048
#define WEIR_TAP_LARGE 16384
/* 8 x 16 KiB: more than the 95,232 bytes seen in one skb. What lies beyond is lost, and counted. */
#define WEIR_TAP_RECORDS 8

#define WEIR_TAP_RING_BYTES (4u << 20) /* a burst of 20 ms at 200 MB/s; twice the meter's ring, for loss here is loss of counts */
#define WEIR_TAP_WAKE_BYTES (256u << 10) /* unread bytes from which on each record wakes the reader */

#define WEIR_TAP_FIN 1 /* flags: TCP's own bits, with a segment's last record */
#define WEIR_TAP_RST 4

struct weir_tap {
	__u64 ts;
	struct weir_conn_key key;
	__u32 seq;     /* of data[0] */
	__u32 len;     /* valid bytes of data; the record in the ring may be longer */
	struct weir_tcp tcp; /* the receiver's view when the segment passed; requests only */
	__u8 dir;            /* enum weir_dir */
	__u8 flags;
	__u8 pad[2];
	char data[];
};

#endif
