/*
 * maps.bpf.h - settings, maps, statistics: what every part of the meter stands on. Included by meter.bpf.c.
 */
#ifndef WEIR_BPF_MAPS_H
#define WEIR_BPF_MAPS_H

#define MAX_STEPS 16384    /* parser steps of one segment: 95 KB of chunks of one byte need 48k, and are cut, counted */
#define MAX_MESSAGES 4096  /* messages and heads of one segment */
#define RAW_PIECES 8       /* events that one segment of HTTP/2 makes at most: 128 KiB, see abi.h */
#define LOCK_TRIES 4096    /* times the request side is tried while another CPU holds it: some 20 us */

#ifndef WEIR_SOFT /* src/capture/soft.c compiles this file for user space, and brings settings and packets itself */
const volatile __u64 cfg_cgroup_id = 0;    /* 0: every cgroup */
const volatile bool cfg_prompt_blind = false;
const volatile __u32 cfg_v6_prefix = 64;   /* clients of IPv6 are counted per network of this length, 0..128 */
const volatile __u64 cfg_ring_bytes = 2 << 20;
const volatile __u32 cfg_abi = WEIR_ABI;
const volatile bool cfg_test = false;      /* BPF_PROG_TEST_RUN: packets come without a TCP socket, from port 0 */

const struct weir_automaton weir_automaton SEC(".rodata.automaton") = {};
struct weir_control weir_control = {};
#endif
__u64 weir_next_conn = 0;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, struct weir_conn_key);
	__type(value, struct weir_conn);
} weir_conns SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 100000);
	__type(key, struct weir_client_key);
	__type(value, struct weir_client);
} weir_clients SEC(".maps");

/* One `other` entry per server, for clients that found weir_clients full. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct weir_client_key);
	__type(value, struct weir_client);
} weir_others SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, WEIR_STAT_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} weir_stats SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u8[16]);
	__type(value, __u8);
} weir_local_addrs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 2 << 20);
} weir_ring SEC(".maps");

/* Templates for map entries: too large for the stack. */
static const struct weir_client zero_client = {};
static const struct weir_conn zero_conn = {};

#ifndef WEIR_SOFT
static __always_inline const struct weir_automaton *automaton(void)
{
	const struct weir_automaton *a = &weir_automaton;

	asm volatile("" : "+r"(a)); /* else the compiler reads its zeros at build time */
	return a;
}
#endif

/*
 * Functions that are not static are verified once, by themselves, instead of at each call: that keeps the verifier's work small
 * (6.1 gives up at a million instructions). They take pointers that may be NULL for all it knows, and return a number.
 */
__noinline int stat_add(__u32 which, __u64 n)
{
	__u64 *v = bpf_map_lookup_elem(&weir_stats, &which);

	if (v)
		__sync_fetch_and_add(v, n);
	return 0;
}

#ifdef WEIR_TLS
/*
 * Where bytes come from when the meter hangs on a TLS library instead of a socket: memory of the process that runs, or the few
 * bytes that bpf/tls.bpf.c has put together. The functions of the meter pass it on as they do a packet.
 */
struct plaintext {
	__u64 at;
	__u64 ours; /* not of the process */
};
#define __sk_buff plaintext

static __always_inline long read_plaintext(const struct plaintext *from, __u32 off, void *to, __u32 n)
{
	const void *at;
	long r;

	if (!from)
		return -1;
	at = (const void *)(from->at + off);
	r = from->ours ? bpf_probe_read_kernel(to, n, at) : bpf_probe_read_user(to, n, at);
	if (r)
		stat_add(WEIR_STAT_TLS_FAULT, 1);
	return r;
}
#define READ_BYTES read_plaintext
#else
#define READ_BYTES bpf_skb_load_bytes
#endif

/*
 * Loads 1 to `room` bytes, a constant. The compiler makes any test of n one of n - 1, from which verifiers up to 6.1 do not learn
 * that n is not 0 ("invalid zero-sized read"): so n - 1 is what is tested, and n is made from it.
 */
static __always_inline long load_bytes(struct __sk_buff *skb, __u32 off, void *to, __u32 n, const __u32 room)
{
	__u32 last = n - 1;

	asm volatile("" : "+r"(last));
	return last < room ? READ_BYTES(skb, off, to, last + 1) : -1;
}

#endif
