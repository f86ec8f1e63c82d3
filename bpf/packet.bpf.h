/*
 * packet.bpf.h - network and TCP headers: which connection, which bytes.
 */
#ifndef WEIR_BPF_PACKET_H
#define WEIR_BPF_PACKET_H

static __always_inline void address_v6(__u8 *to, const __u8 *from)
{
	__u32 *w = (__u32 *)to;
	const __u32 *f = (const __u32 *)from;

	w[0] = f[0];
	w[1] = f[1];
	w[2] = f[2];
	w[3] = f[3];
}

struct ipv6_ext {
	__u8 next, len;
};

#define IPV6_EXT_MAX 6 /* extension headers walked; RFC 8200 expects each kind once */

/* -1: not TCP, or not readable. Else the offset of the TCP header; addresses go to key. */
static __always_inline int network_header(struct __sk_buff *skb, struct weir_conn_key *k, int dir)
{
	__u8 *data = (__u8 *)(long)skb->data, *end = (__u8 *)(long)skb->data_end;
	__u8 *local = dir == WEIR_REQUEST ? k->laddr : k->raddr; /* where the destination goes */
	__u8 *remote = dir == WEIR_REQUEST ? k->raddr : k->laddr;

	if (data + 20 > end)
		return -1;
	if (data[0] >> 4 == 4) {
		if (data[9] != 6)
			return -1;
		address_v4(remote, data + 12);
		address_v4(local, data + 16);
		return (data[0] & 15) * 4;
	}
	if (data[0] >> 4 == 6) {
		struct ipv6_ext x;
		__u32 off = 40;
		__u8 next;

		if (data + 40 > end)
			return -1;
		next = data[6];
		address_v6(remote, data + 8);
		address_v6(local, data + 24);
		for (int i = 0; i < IPV6_EXT_MAX; i++) {
			if (next == 6)
				return (int)off;
			if (next != 0 && next != 43 && next != 44 && next != 60 && next != 135)
				return -1;
			if (bpf_skb_load_bytes(skb, off, &x, sizeof(x)))
				return -1;
			off += next == 44 ? 8 : (x.len + 1u) * 8;
			next = x.next;
		}
	}
	return -1;
}

struct tcp_header { /* RFC 9293 section 3.1 */
	__u16 source, dest;
	__u32 seq, ack;
	__u8 off, flags;
	__u16 window;
	__u32 rest;
};

/* What a packet of a watched port brings; 0: nothing. A function of its own, so that its stack is free again for the meter. */
__noinline int read_packet(struct __sk_buff *skb, struct segment *g, __u32 dir)
{
	struct bpf_sock *sk = skb->sk;
	struct tcp_header th;
	struct tcp_sock *tp;
	int l4;

	if (!g || !sk)
		return 0;
	l4 = network_header(skb, &g->key, (int)dir);
	if (l4 < 0 || bpf_skb_load_bytes(skb, (__u32)l4, &th, sizeof(th))) {
		stat_add(WEIR_STAT_UNREADABLE, 1);
		return 0;
	}
	g->at = (__u32)l4 + (th.off >> 4) * 4u;
	g->fin = th.flags & 1;
	g->rst = (th.flags & 4) != 0;
	g->len = skb->len > g->at ? skb->len - g->at : 0;
	if (!g->len && !g->fin && !g->rst)
		return 0;
	if (cfg_cgroup_id && bpf_skb_cgroup_id(skb) != cfg_cgroup_id)
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp && !cfg_test)
		return 0;
	if (tp)
		g->key.netns = tp->inet_conn.icsk_inet.sk.__sk_common.skc_net.net->ns.inum;
	g->seq = bpf_ntohl(th.seq) + (th.flags >> 1 & 1); /* data in a SYN begins after it */
	if (dir == WEIR_REQUEST) {
		g->key.lport = bpf_ntohs(th.dest);
		g->key.rport = bpf_ntohs(th.source);
		g->tcp.fresh = 1;
		if (tp && tp->inet_conn.icsk_inet.sk.__sk_common.skc_state != TCP_LISTEN) {
			g->tcp.valid = 1;
			g->tcp.fresh = tp->bytes_received == 0;
			g->tcp.rcv_nxt = tp->rcv_nxt;
			g->tcp.rcv_end = tp->rcv_wup + tp->rcv_wnd;
		}
	} else {
		g->key.lport = bpf_ntohs(th.source);
		g->key.rport = bpf_ntohs(th.dest);
	}
	return 1;
}

/* An IPv4 packet without payload, FIN or RST: an ACK, of which there are as many as segments. What is not sure is left to the rest. */
static __always_inline bool is_empty(struct __sk_buff *skb)
{
	__u8 *data = (__u8 *)(long)skb->data, *end = (__u8 *)(long)skb->data_end;
	__u32 l4;

	if (data + 40 > end || data[0] >> 4 != 4)
		return false;
	l4 = (data[0] & 15) * 4u;
	data += l4;
	if (data + 20 > end)
		return false;
	return !(data[13] & (1 | 4)) && skb->len <= l4 + (data[12] >> 4) * 4u;
}

static __always_inline int on_packet(struct __sk_buff *skb, int dir)
{
	struct bpf_sock *sk = skb->sk;
	__u64 began = 0;
	__u32 port;

	if (!sk)
		return 1;
	port = sk->src_port;
	if (!(weir_control.ports[(port >> 3) & 8191] & 1u << (port & 7)) || is_empty(skb))
		return 1;

	struct segment g = {};

	if ((bpf_get_prandom_u32() & 63) == 0)
		began = bpf_ktime_get_ns();
	if (!read_packet(skb, &g, (__u32)dir))
		return 1;
	segment(skb, &g, dir);
	if (began) {
		stat_add(WEIR_STAT_NS, bpf_ktime_get_ns() - began);
		stat_add(WEIR_STAT_NS_RUNS, 1);
	}
	return 1;
}

#endif
