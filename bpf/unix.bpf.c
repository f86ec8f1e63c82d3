/*
 * unix.bpf.c - the meter on Unix stream sockets: bytes as they are copied to whoever reads them.
 *
 * on_unix_copy runs where the kernel hands a buffer's bytes to a reader, with the buffer. It belongs to the socket that sent it,
 * which knows its peer; the server's socket has the name that its listener is bound to. So one hook sees both directions, each byte
 * once and in order: a request when the server reads it, a response when its client does. What a client never reads is not seen.
 *
 * The bytes lie in the kernel, in one piece or behind a dynptr (which kernels from 6.11 on allow here). The meter is
 * compiled as for TLS, where bytes have no packets and no sequence numbers either. docs/unix.md has the reasoning.
 */
struct __sk_buff;
struct bpf_dynptr;
extern int bpf_dynptr_from_skb(struct __sk_buff *skb, unsigned long long flags, struct bpf_dynptr *ptr) __attribute__((section(".ksyms"), weak));

#define WEIR_FAST
#define WEIR_TLS
#define WEIR_UNIX
#include "weir/unix.h"
#include "meter.bpf.c"

#include <bpf/bpf_tracing.h>

#define AF_UNIX 1
#define MSG_PEEK 2
#define EPIPE 32
#define ECONNRESET 104
#define RCV_SHUTDOWN 1
#define SHUTDOWN_MASK 3

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, WEIR_UNIX_SERVERS);
	__type(key, struct weir_unix_path);
	__type(value, __u32);
} weir_unix_paths SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, WEIR_UNIX_SOCKS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct weir_unix_sock);
} weir_unix_socks SEC(".maps");

static const struct weir_unix_sock zero_sock = {};

/* ---- whose socket ------------------------------------------------------------------------------------ */
static __always_inline struct sock *peer_of(const struct sock *sk)
{
	return BPF_CORE_READ((const struct unix_sock *)sk, peer);
}

/* The number of the watched path that this socket is bound to, as one that a listener accepted is; NULL: none. */
static __noinline __u32 *path_of(const struct sock *sk)
{
	struct unix_address *a = sk ? BPF_CORE_READ((const struct unix_sock *)sk, addr) : NULL;
	struct weir_unix_path path = {};
	__u32 n;

	if (!a)
		return NULL;
	n = (__u32)BPF_CORE_READ(a, len) - (__u32)sizeof(unsigned short) - 1; /* less 1, as in load_bytes() */
	asm volatile("" : "+r"(n));
	if (n >= WEIR_UNIX_PATH || bpf_probe_read_kernel(path.name, n + 1, &a->name[0].sun_path))
		return NULL;
	return bpf_map_lookup_elem(&weir_unix_paths, &path);
}

static __always_inline __u64 inode_of(const struct sock *sk)
{
	return BPF_CORE_READ(sk, sk_socket, file, f_inode, i_ino);
}

/* ---- connections ------------------------------------------------------------------------------------- */
static __noinline void sock_drop(const struct sock *server)
{
	__u64 key = (__u64)server;

	bpf_map_delete_elem(&weir_unix_socks, &key);
}

/* The last who leaves a connection that is over settles it. */
static __always_inline void leave(struct weir_conn *c, struct weir_unix_sock *o, __u64 now)
{
	if (__sync_fetch_and_add(&c->users, -1) == 1 && (c->flags & WEIR_C_DYING) && !(__sync_fetch_and_or(&c->flags, WEIR_C_DEAD) & WEIR_C_DEAD))
		bury(c, &o->key, now);
}

static __noinline int conn_over(struct weir_unix_sock *o, const struct sock *server, __u64 now)
{
	struct weir_conn *c = bpf_map_lookup_elem(&weir_conns, &o->key);

	if (c && c->id == o->conn) {
		__sync_fetch_and_add(&c->users, 1);
		if (!(c->flags & WEIR_C_DEAD)) {
			__sync_fetch_and_or(&c->flags, WEIR_C_DYING);
			leave(c, o, now);
		}
	}
	sock_drop(server);
	return 0;
}

/*
 * What is known of this socket, where it is a server's. Its address may have been another's before, whose end was missed: a socket has the
 * inode that it had, and one that is closed already, and still read from, has a name.
 */
static __noinline struct weir_unix_sock *sock_find(const struct sock *sk)
{
	__u64 key = (__u64)sk, ino;
	struct weir_unix_sock *o;

	if (!sk)
		return NULL;
	o = bpf_map_lookup_elem(&weir_unix_socks, &key);
	if (!o)
		return NULL;
	ino = inode_of(sk);
	if (ino ? ino == o->ino : BPF_CORE_READ((const struct unix_sock *)sk, addr) != NULL)
		return o;
	conn_over(o, sk, bpf_ktime_get_ns());
	return NULL;
}

/* A connection is met for the first time; `asks`: with bytes of a request, so nothing of it went by before. */
static __noinline struct weir_unix_sock *conn_begin(const struct sock *server, __u32 path, bool asks)
{
	__u64 key = (__u64)server, id;
	struct weir_unix_sock *o;
	struct weir_conn *c;

	bpf_map_update_elem(&weir_unix_socks, &key, &zero_sock, BPF_NOEXIST);
	o = bpf_map_lookup_elem(&weir_unix_socks, &key);
	if (!o) {
		stat_add(WEIR_STAT_CONN_FULL, 1);
		return NULL;
	}
	id = __sync_fetch_and_add(&weir_next_conn, 1) + 1;
	o->key.netns = BPF_CORE_READ(server, __sk_common.skc_net.net, ns.inum);
	weir_unix_address(o->key.laddr, path, BPF_CORE_READ(server, sk_peer_pid, numbers[0].nr));
	weir_unix_address(o->key.raddr, BPF_CORE_READ(server, sk_peer_cred, uid.val), (__u32)id);
	bpf_map_update_elem(&weir_conns, &o->key, &zero_conn, BPF_NOEXIST);
	c = bpf_map_lookup_elem(&weir_conns, &o->key);
	if (!c) {
		stat_add(WEIR_STAT_CONN_FULL, 1);
		sock_drop(server);
		return NULL;
	}
	weir_conn_init(c, automaton(), id, asks);
	o->conn = id;
	o->ino = inode_of(server);
	return o;
}

/* The compiler must not know better than the verifier what a direction can be. */
#define DIRECTION(dir) ({ __u32 dir_ = (dir); asm volatile("" : "+r"(dir_)); dir_ & 1; })

/* ---- bytes ------------------------------------------------------------------------------------------- */

/*
 * What concerns the whole copy: whose it is, and which part of it is new. In functions of their own, whose stack is free again for the
 * meter: up to 6.12 all frames together have 512 bytes.
 */
static __noinline struct weir_unix_sock *met(const struct sk_buff *skb, const struct sock *sk, __u32 len, __u32 *ret_dir)
{
	const struct unix_skb_parms *parms = (const void *)skb->cb;
	struct weir_unix_sock *o = sock_find(sk);
	__u32 dir = WEIR_RESPONSE, at, skip, *path = NULL;
	const struct sock *server = sk;
	struct weir_conn *c;

	if (!o) {
		server = peer_of(sk);
		o = sock_find(server);
		if (o) {
			dir = WEIR_REQUEST;
		} else if ((path = path_of(sk))) {
			server = sk;
		} else {
			path = path_of(server);
			if (!path)
				return NULL;
			dir = WEIR_REQUEST;
		}
	}
	c = o ? bpf_map_lookup_elem(&weir_conns, &o->key) : NULL;
	if (o && (!c || c->id != o->conn)) {
		sock_drop(server); /* silent for so long that it was forgotten */
		o = NULL;
		path = path_of(server);
	}
	if (!o)
		o = path ? conn_begin(server, *path, dir == WEIR_REQUEST) : NULL;
	if (!o)
		return NULL;
	dir = DIRECTION(dir);
	at = BPF_CORE_READ(parms, consumed);
	skip = o->ahead[dir];
	skip = skip < len ? skip : len;
	o->ahead[dir] -= skip;
	o->last_ns = bpf_ktime_get_ns();
	o->at[dir] = at + skip;
	o->end[dir] = at + len;
	*ret_dir = dir;
	return o;
}

/* `last` + 1 bytes at o->at, which do not lie in one piece. */
static __noinline long piece_load(const struct sk_buff *skb, struct weir_unix_sock *o, __u32 dir, __u32 last)
{
	struct bpf_dynptr all;

	dir = DIRECTION(dir);
	if (bpf_dynptr_from_skb((void *)skb, 0, &all))
		return -1;
	asm volatile("" : "+r"(last));
	if (last >= WEIR_UNIX_PIECE)
		return -1;
	return bpf_dynptr_read(o->piece[dir], last + 1, &all, o->at[dir], 0);
}

/* The next piece that the meter can read: how long it is. 0: there is none. */
static __noinline __u32 piece_next(const struct sk_buff *skb, struct weir_unix_sock *o, __u32 way)
{
	__u32 dir = DIRECTION(way), at = o->at[dir], n = o->end[dir] - at, whole = skb->len - skb->data_len;
	struct plaintext *from = (struct plaintext *)o->from[dir];

	if (at >= o->end[dir])
		return 0;
	from->ours = 1;
	if (at < whole) {
		n = n < whole - at ? n : whole - at;
		from->at = (__u64)skb->data + at;
		return n;
	}
	n = n < WEIR_UNIX_PIECE ? n : WEIR_UNIX_PIECE;
	from->at = (__u64)o->piece[dir];
	return piece_load(skb, o, dir, n - 1) ? 0 : n;
}

static __always_inline int copied(const struct sk_buff *skb, const struct sock *sk, __u32 len)
{
	__u32 way = WEIR_REQUEST, dir;
	struct weir_unix_sock *o = met(skb, sk, len, &way);
	struct segment g = {};
	struct weir_conn *c;

	if (!o)
		return 0;
	dir = DIRECTION(way);
	if (o->at[dir] >= o->end[dir])
		return 0;
	c = bpf_map_lookup_elem(&weir_conns, &o->key);
	if (!c)
		return 0;
	__sync_fetch_and_add(&c->users, 1);
	if (c->flags & WEIR_C_DEAD)
		return 0;
	c->last_ns = o->last_ns;
	stat_add(WEIR_STAT_SEGMENTS, 1);
	while (CAN_LOOP()) {
		g.len = piece_next(skb, o, dir);
		if (!g.len)
			break;
		o->at[DIRECTION(dir)] += g.len;
		g.key = &o->key; /* anew: the verifier does not trust what a call was shown */
		segment_payload((struct plaintext *)o->from[DIRECTION(dir)], &g, c, (int)dir, o->last_ns);
	}
	dir = DIRECTION(dir);
	if (o->at[dir] < o->end[dir])
		cut_off(c, (int)dir, o->end[dir] - o->at[dir], o->last_ns);
	leave(c, o, o->last_ns);
	return 0;
}

SEC("tp_btf/skb_copy_datagram_iovec")
int BPF_PROG(on_unix_copy, struct sk_buff *skb, int len)
{
	struct sock *sk = skb->sk;

	if (!sk || sk->__sk_common.skc_family != AF_UNIX || len <= 0)
		return 0;
	return copied(skb, sk, (__u32)len);
}

/* ---- ends -------------------------------------------------------------------------------------------- */

/* One side has no more to say, or cannot be reached any more. */
static __noinline int ended(const struct sock *sk, bool broken)
{
	struct weir_unix_sock *o = sock_find(sk);
	const struct sock *server = sk;
	__u64 now = bpf_ktime_get_ns();
	__u8 down = BPF_CORE_READ(sk, sk_shutdown);
	__u32 dir = WEIR_REQUEST;
	struct weir_conn *c;

	if (!o) {
		server = peer_of(sk);
		o = sock_find(server);
		dir = WEIR_RESPONSE;
	}
	if (!o || !(broken || (down & RCV_SHUTDOWN)))
		return 0;
	c = bpf_map_lookup_elem(&weir_conns, &o->key);
	if (!c || c->id != o->conn)
		return 0;
	side_of(c, dir)->flags |= WEIR_S_FIN;
	if (broken || down == SHUTDOWN_MASK || (c->in.flags & c->out.flags & WEIR_S_FIN))
		conn_over(o, server, now);
	return 0;
}

SEC("tp_btf/sock_recv_length")
int BPF_PROG(on_unix_recv, struct sock *sk, int n, int flags)
{
	struct weir_unix_sock *o;
	__u32 dir = WEIR_REQUEST;

	if ((n > 0 && !(flags & MSG_PEEK)) || sk->__sk_common.skc_family != AF_UNIX)
		return 0;
	if (n <= 0)
		return n == 0 || n == -ECONNRESET ? ended(sk, n != 0) : 0;
	o = sock_find(sk);
	if (!o) {
		o = sock_find(peer_of(sk));
		dir = WEIR_RESPONSE;
	}
	if (o)
		o->ahead[dir] += (__u32)n;
	return 0;
}

SEC("tp_btf/sock_send_length")
int BPF_PROG(on_unix_send, struct sock *sk, int n, int flags)
{
	if (n >= 0 || sk->__sk_common.skc_family != AF_UNIX || (n != -EPIPE && n != -ECONNRESET))
		return 0;
	return ended(sk, true);
}
