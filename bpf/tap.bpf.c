// SPDX-License-Identifier: GPL-2.0
/*
 * tap.bpf.c - sends the segments of watched ports to user space, for kernels that refuse the meter.
 *
 * Written for the verifier and the helpers of 5.10: no bpf_loop (5.17), no may_goto (6.9), no atomic that returns a
 * value (5.12), only loops with a small constant bound. It reads the same control block as the meter does.
 */
#include <linux/in.h>
#include <linux/in6.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "kernel.h"
#include "weir/tap.h"

#define TAP_EXT_HEADERS 6 /* IPv6 extension headers walked; real traffic shows at most two */
#define PASS 1

/*
 * The meter's maps, so that user space finds all in its place: it writes the clients' counters and most of the statistics there, and
 * keeps connections to itself. Of the meter's settings only these two are for the tap.
 */
#define WEIR_SOFT
#include "maps.bpf.h"

const volatile __u64 cfg_cgroup_id = 0; /* 0: every cgroup */
const volatile __u32 cfg_abi = WEIR_ABI;
struct weir_control weir_control = {};

struct ports {
	__be16 source, dest;
	__be32 seq, ack_seq;
	__u8 doff, flags;
} __attribute__((packed));

/* What the headers of one packet say. */
struct segment {
	struct weir_conn_key key;
	__u32 at;  /* where the payload begins */
	__u32 len; /* bytes of it */
	__u32 seq;
	__u8 dir, flags;
	struct weir_tcp tcp;
};

/* Offset of the TCP header and both addresses; 0: not TCP, or unreadable. */
static __always_inline __u32 read_ip(struct __sk_buff *skb, __u8 *saddr, __u8 *daddr)
{
	__u8 head[40];
	__u32 at = sizeof(head);
	__u8 next;

	if (bpf_skb_load_bytes(skb, 0, head, 20))
		return 0;
	if (head[0] >> 4 == 4) {
		__u32 words = head[0] & 15;

		if (head[9] != IPPROTO_TCP || words < 5)
			return 0;
		saddr[10] = saddr[11] = daddr[10] = daddr[11] = 0xff;
		__builtin_memcpy(saddr + 12, head + 12, 4);
		__builtin_memcpy(daddr + 12, head + 16, 4);
		return words * 4;
	}
	if (head[0] >> 4 != 6 || bpf_skb_load_bytes(skb, 0, head, sizeof(head)))
		return 0;
	__builtin_memcpy(saddr, head + 8, 16);
	__builtin_memcpy(daddr, head + 24, 16);
	next = head[6];
#pragma clang loop unroll(full)
	for (int i = 0; i < TAP_EXT_HEADERS; i++) {
		__u8 ext[2];

		if (next == IPPROTO_TCP)
			return at;
		if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_DSTOPTS)
			return 0; /* not TCP, or a fragment: never seen here, this hook is behind reassembly */
		if (bpf_skb_load_bytes(skb, at, ext, sizeof(ext)))
			return 0;
		next = ext[0];
		at += (ext[1] + 1u) * 8;
	}
	return next == IPPROTO_TCP ? at : 0;
}

/* What TCP itself knows when the segment passes; false: nothing. */
static __always_inline bool read_tcp(struct bpf_sock *sk, struct segment *s)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);

	if (!tcp)
		return false;
	s->key.netns = BPF_CORE_READ(tcp, inet_conn.icsk_inet.sk.__sk_common.skc_net.net, ns.inum);
	if (s->dir != WEIR_REQUEST)
		return true;
	s->tcp.valid = BPF_CORE_READ(tcp, inet_conn.icsk_inet.sk.__sk_common.skc_state) != TCP_LISTEN;
	s->tcp.fresh = !s->tcp.valid || !BPF_CORE_READ(tcp, bytes_received);
	s->tcp.rcv_nxt = BPF_CORE_READ(tcp, rcv_nxt);
	s->tcp.rcv_end = BPF_CORE_READ(tcp, rcv_wup) + BPF_CORE_READ(tcp, rcv_wnd);
	return true;
}

/* False: nothing to send up. */
static __always_inline bool read_segment(struct __sk_buff *skb, int dir, struct segment *s)
{
	struct ports tcp;
	__u32 at, head;

	at = read_ip(skb, dir == WEIR_REQUEST ? s->key.raddr : s->key.laddr, dir == WEIR_REQUEST ? s->key.laddr : s->key.raddr);
	if (!at || bpf_skb_load_bytes(skb, at, &tcp, sizeof(tcp))) {
		stat_add(WEIR_STAT_UNREADABLE, 1);
		return false;
	}
	head = (tcp.doff >> 4) * 4u;
	if (head < 20 || at + head > skb->len) {
		stat_add(WEIR_STAT_UNREADABLE, 1);
		return false;
	}
	s->key.lport = bpf_ntohs(dir == WEIR_REQUEST ? tcp.dest : tcp.source);
	s->key.rport = bpf_ntohs(dir == WEIR_REQUEST ? tcp.source : tcp.dest);
	s->seq = bpf_ntohl(tcp.seq) + (tcp.flags >> 1 & 1); /* data in a SYN begins after it */
	s->flags = tcp.flags & (WEIR_TAP_FIN | WEIR_TAP_RST);
	s->dir = dir;
	s->at = at + head;
	s->len = skb->len - s->at;
	return s->len || s->flags;
}

/* One record of up to `room` bytes, a constant, from `done` on. Returns how many were sent, or -1 where the ring was full. */
static __always_inline long send_record(struct __sk_buff *skb, const struct segment *s, __u32 done, __u64 ts, const __u32 room)
{
	__u32 n = s->len - done;
	struct weir_tap *t;
	__u64 unread;

	t = bpf_ringbuf_reserve(&weir_ring, sizeof(*t) + room, 0);
	if (!t)
		return -1;
	t->ts = ts;
	t->key = s->key;
	t->seq = s->seq + done;
	t->tcp = s->tcp;
	t->dir = s->dir;
	t->flags = n <= room ? s->flags : 0; /* the end of the connection comes after all of its bytes */
	__builtin_memset(t->pad, 0, sizeof(t->pad));
	if (n > room)
		n = room;
	if (load_bytes(skb, s->at + done, t->data, n, room)) /* also where there is nothing to load */
		n = 0;
	t->len = n;
	unread = bpf_ringbuf_query(&weir_ring, BPF_RB_AVAIL_DATA);
	bpf_ringbuf_submit(t, unread > WEIR_TAP_WAKE_BYTES ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP);
	return n;
}

static __always_inline void send_segment(struct __sk_buff *skb, const struct segment *s)
{
	__u64 ts = bpf_ktime_get_ns();
	__u32 done = 0, left = s->len;
	long n = 0;

#pragma clang loop unroll(disable)
	for (int i = 0; i < WEIR_TAP_RECORDS; i++) {
		if (left <= WEIR_TAP_MEDIUM)
			break;
		n = send_record(skb, s, done, ts, WEIR_TAP_LARGE);
		if (n <= 0)
			break;
		done += n;
		left = s->len - done;
	}
	if (n >= 0 && left <= WEIR_TAP_SMALL && (left || !s->len))
		n = send_record(skb, s, done, ts, WEIR_TAP_SMALL);
	else if (n >= 0 && left && left <= WEIR_TAP_MEDIUM)
		n = send_record(skb, s, done, ts, WEIR_TAP_MEDIUM);
	else if (left)
		n = -1;
	if (n < 0)
		stat_add(WEIR_STAT_TAP_FULL, 1);
}

static __always_inline int tap(struct __sk_buff *skb, int dir)
{
	struct bpf_sock *sk = skb->sk;
	struct segment s = {};
	__u32 port;

	if (!sk)
		return PASS;
	port = sk->src_port & 0xffff;
	if (!(weir_control.ports[port >> 3] & 1u << (port & 7)))
		return PASS;
	if (cfg_cgroup_id && bpf_skb_cgroup_id(skb) != cfg_cgroup_id)
		return PASS;
	if (read_segment(skb, dir, &s) && read_tcp(sk, &s))
		send_segment(skb, &s);
	return PASS;
}

SEC("cgroup_skb/ingress")
int on_ingress(struct __sk_buff *skb)
{
	return tap(skb, WEIR_REQUEST);
}

SEC("cgroup_skb/egress")
int on_egress(struct __sk_buff *skb)
{
	return tap(skb, WEIR_RESPONSE);
}

char _license[] SEC("license") = "GPL";
