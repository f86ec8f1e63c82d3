/*
 * clients.bpf.h - whose traffic it is: the per-client counters.
 */
#ifndef WEIR_BPF_CLIENTS_H
#define WEIR_BPF_CLIENTS_H

static __always_inline bool same_address(const __u8 *a, const __u8 *b)
{
	const __u64 *x = (const __u64 *)a, *y = (const __u64 *)b;

	return x[0] == y[0] && x[1] == y[1];
}

static __always_inline void address_v4(__u8 *to, const __u8 *from)
{
	__u32 *w = (__u32 *)to;

	w[0] = w[1] = 0;
	w[2] = bpf_htonl(0xffff);
	w[3] = *(const __u32 *)from;
}

static __always_inline void client_key_of(const struct weir_conn_key *k, struct weir_client_key *ck)
{
	__u64 *to = (__u64 *)ck->client;
	const __u64 *from = (const __u64 *)k->raddr;
	__u32 prefix = cfg_v6_prefix;

	ck->netns = k->netns;
	ck->port = k->lport;
	ck->flags = 0;
	((__u64 *)ck->server)[0] = ((const __u64 *)k->laddr)[0];
	((__u64 *)ck->server)[1] = ((const __u64 *)k->laddr)[1];
	to[0] = from[0];
	to[1] = from[1];
#ifdef WEIR_UNIX
	weir_unix_common(ck->server);
	weir_unix_common(ck->client);
	return;
#endif
	if (prefix >= 128 || (from[0] == 0 && bpf_ntohl(((const __u32 *)k->raddr)[2]) == 0xffff))
		return; /* IPv4 */
	if (same_address(k->laddr, k->raddr) || (from[0] == 0 && from[1] == bpf_cpu_to_be64(1)) ||
	    bpf_map_lookup_elem(&weir_local_addrs, ck->client))
		return; /* this host itself */
	if (prefix <= 64) {
		to[1] = 0;
		to[0] &= prefix ? bpf_cpu_to_be64(~0ull << (64 - prefix)) : 0;
	} else {
		to[1] &= bpf_cpu_to_be64(~0ull << (128 - prefix));
	}
}

static __noinline struct weir_client *client_of(const struct weir_conn_key *k, __u64 now)
{
	struct weir_client_key ck;
	struct weir_client *cl;

	client_key_of(k, &ck);
	cl = bpf_map_lookup_elem(&weir_clients, &ck);
	if (cl)
		return cl;
	bpf_map_update_elem(&weir_clients, &ck, &zero_client, BPF_NOEXIST);
	cl = bpf_map_lookup_elem(&weir_clients, &ck);
	if (!cl) {
		stat_add(WEIR_STAT_CLIENT_FULL, 1);
		ck.flags = WEIR_CLIENT_OTHER;
		((__u64 *)ck.client)[0] = ((__u64 *)ck.client)[1] = 0;
		cl = bpf_map_lookup_elem(&weir_others, &ck);
		if (cl)
			return cl;
		bpf_map_update_elem(&weir_others, &ck, &zero_client, BPF_NOEXIST);
		cl = bpf_map_lookup_elem(&weir_others, &ck);
	}
	if (cl && !cl->last_ns)
		cl->last_ns = now; /* else it would look as if silent since the boot */
	return cl;
}

#endif
