/* Drops one packet in twenty: for kernels without netem. Built and attached (tc, clsact) by netns.sh. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_helpers.h>

SEC("tc")
int on_egress(struct __sk_buff *skb)
{
	(void)skb;
	return bpf_get_prandom_u32() % 20 ? TC_ACT_OK : TC_ACT_SHOT;
}

char LICENSE[] SEC("license") = "GPL";
