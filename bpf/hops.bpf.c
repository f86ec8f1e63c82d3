// SPDX-License-Identifier: GPL-2.0
/*
 * hops.bpf.c - which process is at the other end of a connection that begins on this host.
 *
 * on_sock_ops runs where a connection is made, in the process that makes it, when both ends have their ports; once per
 * connection, never per packet. User space (src/capture/hops.c) looks the connection up when a request comes over it.
 */
#include <linux/in.h>

#include "kernel.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "weir/hops.h"

#define AF_INET 2 /* include/linux/socket.h */
#define AF_INET6 10

/* The oldest go first: connections that a gateway keeps open are looked up, and kept in mind, when their first request comes. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, WEIR_HOPS_MAX);
	__type(key, struct weir_conn_key);
	__type(value, struct weir_hop);
} weir_hops SEC(".maps");

/* Processes that hold a watched listening socket. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, WEIR_HOP_OWNERS);
	__type(key, __u32);
	__type(value, __u32);
} weir_hop_owner SEC(".maps");

/* Watched ports, a bit each. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 65536 / 64);
	__type(key, __u32);
	__type(value, __u64);
} weir_hop_ports SEC(".maps");

static __always_inline bool port_watched(__u32 port)
{
	__u32 word = port / 64;
	__u64 *bits = bpf_map_lookup_elem(&weir_hop_ports, &word);

	return bits && *bits >> (port & 63) & 1;
}

static __always_inline bool is_owner(__u32 tgid)
{
	return bpf_map_lookup_elem(&weir_hop_owner, &tgid) != NULL;
}

static __always_inline void address_v4(__u8 *to, __u32 from)
{
	__u32 *w = (__u32 *)to;

	w[2] = bpf_htonl(0xffff);
	w[3] = from;
}

/* Both ends; false: not TCP over IP. The context must be read field by field. */
static __always_inline bool ends(struct bpf_sock_ops *ctx, struct weir_conn_key *k)
{
	__u32 *l = (__u32 *)k->laddr, *r = (__u32 *)k->raddr;

	if (ctx->family == AF_INET) {
		address_v4(k->laddr, ctx->remote_ip4);
		address_v4(k->raddr, ctx->local_ip4);
	} else if (ctx->family == AF_INET6) {
		l[0] = ctx->remote_ip6[0];
		l[1] = ctx->remote_ip6[1];
		l[2] = ctx->remote_ip6[2];
		l[3] = ctx->remote_ip6[3];
		r[0] = ctx->local_ip6[0];
		r[1] = ctx->local_ip6[1];
		r[2] = ctx->local_ip6[2];
		r[3] = ctx->local_ip6[3];
	} else {
		return false;
	}
	k->lport = (__u16)bpf_ntohl(ctx->remote_port);
	k->rport = (__u16)ctx->local_port;
	return true;
}

static __always_inline void connects(struct bpf_sock_ops *ctx)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct weir_hop hop = { .tgid = (__u32)BPF_CORE_READ(task, tgid), .parent = (__u32)BPF_CORE_READ(task, real_parent, tgid) };
	struct weir_conn_key k = {};
	struct bpf_sock *sk = ctx->sk;
	struct tcp_sock *tp;
	bool watched;

	if (!ends(ctx, &k))
		return;
	watched = port_watched(k.lport);
	if (!watched && !is_owner(hop.tgid) && !is_owner(hop.parent))
		return;
	if (weir_is_loopback(k.raddr)) {
		tp = sk ? bpf_skc_to_tcp_sock(sk) : NULL;
		if (!tp)
			return;
		k.netns = BPF_CORE_READ(tp, inet_conn.icsk_inet.sk.__sk_common.skc_net.net, ns.inum);
	}
	bpf_map_update_elem(&weir_hops, &k, &hop, BPF_ANY);
	if (watched || k.netns)
		return;
	/* A service address that is translated on the way: the listener sees another destination, from the same source. */
	__builtin_memset(k.laddr, 0, sizeof(k.laddr));
	k.lport = 0;
	bpf_map_update_elem(&weir_hops, &k, &hop, BPF_ANY);
}

SEC("sockops")
int on_sock_ops(struct bpf_sock_ops *ctx)
{
	if (ctx->op == BPF_SOCK_OPS_TCP_CONNECT_CB)
		connects(ctx);
	return 1;
}

char LICENSE[] SEC("license") = "GPL";
