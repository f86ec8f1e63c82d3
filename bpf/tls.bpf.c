/*
 * tls.bpf.c - the meter on a TLS library: plaintext as the server's own calls read and write it.
 *
 * Uprobes on the library, the socket calls of the same threads beside them, and between the two the
 * same meter as meter.bpf.c, compiled again with the process's memory as its source of bytes. It
 * shares all maps of the loaded meter; the packet hook makes the connection, marks it as
 * TLS at its first record and sees its end.
 *
 * Which socket an object speaks through, from certain to less so:
 *   - a socket call inside a read or handshake of the object (socket BIOs: nginx, llama-server);
 *   - a read of a socket, and the next TLS call of the thread is a read or handshake of an object without
 *     a socket (memory BIOs: asyncio, uvloop, node), both of them free;
 *   - a write of one object, and the next send of the thread covers the record.
 * A socket belongs to one object, and an object keeps its socket until it is freed, or until a call shows another inside it.
 * docs/tls.md has the reasoning.
 */
#define WEIR_TLS
#include "meter.bpf.c"

#include <linux/ptrace.h>

#include <bpf/bpf_tracing.h>

#include "weir/tls.h"

struct msghdr;

#define AF_INET 2
#define AF_INET6 10
#define MSG_PEEK 2
#define EAGAIN 11

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, WEIR_TLS_OBJECTS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct weir_tls_key);
	__type(value, struct weir_tls_object);
} weir_tls_objs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, WEIR_TLS_THREADS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64); /* pid_tgid */
	__type(value, struct weir_tls_thread);
} weir_tls_thrds SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, WEIR_TLS_PIDS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32); /* tgid */
	__type(value, __u8);
} weir_tls_pids SEC(".maps");

static const struct weir_tls_object zero_object = {};
static const struct weir_tls_thread zero_thread = {};

/* ---- who calls --------------------------------------------------------------------------------------- */

/* A process whose parent is watched is watched: workers are forked. */
static __noinline bool inherits(__u32 tgid)
{
	struct task_struct *t = (struct task_struct *)bpf_get_current_task();
	__u8 yes = 1;
	__u32 pid;

	for (int i = 0; i < WEIR_TLS_ANCESTORS; i++) {
		t = BPF_CORE_READ(t, real_parent);
		pid = BPF_CORE_READ(t, tgid);
		if (pid <= 1)
			return false;
		if (bpf_map_lookup_elem(&weir_tls_pids, &pid)) {
			bpf_map_update_elem(&weir_tls_pids, &tgid, &yes, BPF_ANY);
			return true;
		}
	}
	return false;
}

static __always_inline bool is_watched(void)
{
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;

	return !weir_control.tls_off && (bpf_map_lookup_elem(&weir_tls_pids, &tgid) || inherits(tgid));
}

static __always_inline void key_of(__u64 object, struct weir_tls_key *k)
{
	k->object = object;
	k->tgid = bpf_get_current_pid_tgid() >> 32;
	k->pad = 0;
}

static __always_inline struct weir_tls_object *object_find(__u64 object)
{
	struct weir_tls_key k;

	key_of(object, &k);
	return bpf_map_lookup_elem(&weir_tls_objs, &k);
}

static __noinline struct weir_tls_object *object_make(__u64 object, __u64 library)
{
	struct weir_tls_object *o;
	struct weir_tls_key k;

	key_of(object, &k);
	bpf_map_update_elem(&weir_tls_objs, &k, &zero_object, BPF_NOEXIST);
	o = bpf_map_lookup_elem(&weir_tls_objs, &k);
	if (o)
		o->library = library;
	else
		stat_add(WEIR_STAT_TLS_FULL, 1);
	return o;
}

/*
 * What is known of an object. NULL: its process is not watched, the table is full, or another attachment of the same library serves
 * it. An object that is known belongs to a watched process.
 */
static __always_inline struct weir_tls_object *object_of(__u64 object, __u64 library, bool make)
{
	struct weir_tls_object *o = object ? object_find(object) : NULL;

	if (!o && object && make && is_watched())
		o = object_make(object, library);
	if (!o || o->library != library || weir_control.tls_off)
		return NULL;
	o->last_ns = bpf_ktime_get_ns();
	return o;
}

static __always_inline struct weir_tls_thread *thread_find(void)
{
	__u64 id = bpf_get_current_pid_tgid();

	return bpf_map_lookup_elem(&weir_tls_thrds, &id);
}

static __noinline struct weir_tls_thread *thread_of(__u64 now)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct weir_tls_thread *t = bpf_map_lookup_elem(&weir_tls_thrds, &id);

	if (!t) {
		bpf_map_update_elem(&weir_tls_thrds, &id, &zero_thread, BPF_NOEXIST);
		t = bpf_map_lookup_elem(&weir_tls_thrds, &id);
		if (!t) {
			stat_add(WEIR_STAT_TLS_FULL, 1);
			return NULL;
		}
	}
	t->last_ns = now;
	return t;
}

/* ---- object and socket -------------------------------------------------------------------------------- */

/* The socket may be gone by now (another thread closed it): it is read as memory that may not be there. */
static __noinline bool socket_key(__u64 sock, struct weir_conn_key *k)
{
	const struct sock *sk = (const struct sock *)sock;
	__u16 family = BPF_CORE_READ(sk, __sk_common.skc_family);
	__u32 v4;

	k->lport = BPF_CORE_READ(sk, __sk_common.skc_num);
	k->rport = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	k->netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	if (family == AF_INET) {
		v4 = BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr);
		address_v4(k->laddr, (const __u8 *)&v4);
		v4 = BPF_CORE_READ(sk, __sk_common.skc_daddr);
		address_v4(k->raddr, (const __u8 *)&v4);
		return true;
	}
	if (family != AF_INET6)
		return false;
	BPF_CORE_READ_INTO(&k->laddr, sk, __sk_common.skc_v6_rcv_saddr);
	BPF_CORE_READ_INTO(&k->raddr, sk, __sk_common.skc_v6_daddr);
	return true;
}

/* The object speaks through this socket; `certain`: a call of its showed it, whatever was thought before. */
static __noinline int bind(struct weir_tls_object *o, __u64 object, __u64 sock, bool certain)
{
	struct weir_conn_key key = {};
	struct weir_conn *c;

	if (!socket_key(sock, &key))
		return 0;
	if (!(weir_control.ports[key.lport >> 3 & 8191] & 1u << (key.lport & 7))) {
		o->flags |= WEIR_TLS_FOREIGN;
		return 0;
	}
	c = bpf_map_lookup_elem(&weir_conns, &key);
	if (!c || (c->flags & (WEIR_C_DEAD | WEIR_C_GHOST)))
		return 0; /* no room for it, or over */
	if (!certain && c->tls && c->tls != object && (((c->in.flags | c->out.flags) & WEIR_S_PLAIN) || object_find(c->tls)))
		return 0; /* another object's, or was: a connection has one for all its life */
	c->tls = object;
	if (!(c->flags & WEIR_C_TLS)) {
		stat_add(WEIR_STAT_TLS, 1);
		weir_conn_is_tls(c, automaton());
	}
	o->key = key;
	o->conn = c->id;
	o->sock = sock;
	o->small = 0;
	o->wrote = o->sent = o->ahead = 0;
	o->flags = (o->flags & WEIR_TLS_ONE_RECORD) | (certain ? WEIR_TLS_INSIDE : 0);
	return 0;
}

/* A call on this object begins: is the socket that was read just now its own? */
static __always_inline void consume(struct weir_tls_thread *t, struct weir_tls_object *o, __u64 object)
{
	__u64 sock = t->fresh;

	t->fresh = 0;
	if (sock && o->sock != sock && !(o->flags & WEIR_TLS_INSIDE)) {
		struct weir_conn *c = o->conn ? bpf_map_lookup_elem(&weir_conns, &o->key) : NULL;

		/* free, or its connection is over and we missed the object's end */
		if (!c || c->id != o->conn || (c->flags & (WEIR_C_DEAD | WEIR_C_GHOST)))
			bind(o, object, sock, false);
	}
}

/* ---- feeding the meter -------------------------------------------------------------------------------- */

/*
 * What was gathered, then what was brought. Inline and once per program: below it the meter fills
 * the eight frames of calls that a program may have.
 */
static __always_inline void feed(struct weir_tls_object *o)
{
	struct plaintext *from = (struct plaintext *)o->from;
	__u32 n = o->small, way = WEIR_REQUEST;
	struct segment g = {};
	struct weir_conn *c;
	__u64 now = o->last_ns;

	if (!o->conn) {
		if (o->brought_len && !(o->flags & WEIR_TLS_FOREIGN))
			stat_add(WEIR_STAT_TLS_UNPAIRED, 1);
		return;
	}
	c = bpf_map_lookup_elem(&weir_conns, &o->key);
	if (!c || c->id != o->conn)
		return; /* the connection is over: nobody gets these bytes */
	__sync_fetch_and_add(&c->users, 1);
	if (c->flags & (WEIR_C_DEAD | WEIR_C_GHOST))
		return;
	c->last_ns = now;
	from->at = (__u64)o->gathered;
	from->ours = 1;
	for (int i = 0; i < 2; i++) {
		if (n) {
			stat_add(WEIR_STAT_TLS_CALLS, 1);
			g.key = &o->key; /* anew: the verifier does not trust what a call was shown */
			g.len = n;
			segment_payload(from, &g, c, (int)way, now);
		}
		from->at = o->brought;
		from->ours = 0;
		n = o->brought_len;
		way = o->brought_dir;
	}
	o->small = 0;
	if (__sync_fetch_and_add(&c->users, -1) == 1 && (c->flags & WEIR_C_DYING) &&
	    !(__sync_fetch_and_or(&c->flags, WEIR_C_DEAD) & WEIR_C_DEAD))
		bury(c, &o->key, now);
}

/* A few bytes of a head that is read byte by byte. Whether it is time to feed them: at the head's end, or when the room is full. */
static __noinline bool gather(struct weir_tls_object *o, __u64 buf, __u32 n)
{
	__u32 at = o->small, last = n - 1;
	__u8 *end;

	asm volatile("" : "+r"(last));
	if (last >= WEIR_TLS_SMALL_READ || at > WEIR_TLS_SMALL - WEIR_TLS_SMALL_READ)
		return true;
	if (bpf_probe_read_user(o->gathered + at, last + 1, (const void *)buf)) {
		stat_add(WEIR_STAT_TLS_FAULT, 1);
		return false;
	}
	at += last + 1;
	o->small = at;
	if (at > WEIR_TLS_SMALL - WEIR_TLS_SMALL_READ)
		return true;
	if (at < 4)
		return false;
	end = o->gathered + (at - 4);
	return end[3] == '\n' && (end[2] == '\n' || (end[2] == '\r' && end[1] == '\n'));
}

/* What the library did with the last write is known by now: how much of it will come again. */
static __noinline int write_settle(struct weir_tls_object *o)
{
	__u32 n = o->wrote, taken = n;

	if (!n)
		return 0;
	if (o->flags & WEIR_TLS_AGAIN)
		taken = 0;
	else if (n > WEIR_TLS_RECORD && ((o->flags & WEIR_TLS_ONE_RECORD) || ((o->flags & WEIR_TLS_INSIDE) && o->sent < n)))
		taken = WEIR_TLS_RECORD;
	if (o->ahead < n)
		o->ahead = n;
	o->ahead -= taken;
	o->wrote = o->sent = 0;
	o->flags &= ~(__u32)WEIR_TLS_AGAIN;
	return 0;
}

/* ---- the library's calls -------------------------------------------------------------------------------- */

static __noinline int call_begins(struct pt_regs *ctx, struct weir_tls_object *o, __u32 probe)
{
	struct weir_tls_thread *t = thread_of(o->last_ns);
	__u64 object = PT_REGS_PARM1(ctx);

	if (!t)
		return 0;
	if (t->call)
		stat_add(WEIR_STAT_TLS_MISSED, 1);
	consume(t, o, object);
	t->object = object;
	t->buf = PT_REGS_PARM2(ctx);
	t->got = PT_REGS_PARM4(ctx);
	t->wrote = 0;
	t->call = (__u8)probe;
	return 0;
}

static __noinline struct weir_tls_object *call_ends(struct pt_regs *ctx, __u64 library)
{
	struct weir_tls_thread *t = thread_find();
	__s32 r = (__s32)PT_REGS_RC(ctx);
	struct weir_tls_object *o;
	__u64 n = 0;
	__u8 call;

	if (!t || !t->call)
		return NULL;
	o = object_find(t->object);
	if (o && o->library != library)
		return NULL; /* a second probe on the same code */
	call = t->call;
	t->call = WEIR_TLS_NONE;
	if (!o)
		return NULL;
	if (r <= 0 || call == WEIR_TLS_HANDSHAKE)
		return NULL;
	if (call == WEIR_TLS_READ)
		n = (__u32)r;
	else if (bpf_probe_read_user(&n, sizeof(n), (const void *)t->got))
		stat_add(WEIR_STAT_TLS_FAULT, 1);
	if (!n || n > 0x7fffffff)
		return NULL;
	o->ready = true;
	if (n <= WEIR_TLS_SMALL_READ && o->conn) {
		o->ready = gather(o, t->buf, (__u32)n);
		n = 0;
	}
	o->last_ns = bpf_ktime_get_ns();
	o->brought_dir = WEIR_REQUEST;
	o->brought = t->buf;
	o->brought_len = (__u32)n;
	return o;
}

static __noinline int call_writes(struct pt_regs *ctx, struct weir_tls_object *o, __u32 probe)
{
	__u64 object = PT_REGS_PARM1(ctx), buf = PT_REGS_PARM2(ctx), n = PT_REGS_PARM3(ctx);
	struct weir_tls_thread *t;
	__u32 skip;

	if (probe == WEIR_TLS_WRITE)
		n = (__u64)(__s64)(__s32)n;
	if (probe == WEIR_TLS_RECORD_WRITE)
		o->flags |= WEIR_TLS_ONE_RECORD;
	o->ready = false;
	if (!n || n > 0x7fffffff) {
		if (!n && !buf) /* GnuTLS: go on with what was written before */
			o->wrote = o->ahead;
		return 0;
	}
	if (!o->conn || (o->flags & WEIR_TLS_INSIDE)) {
		/* the sends that follow are of interest */
		t = thread_of(o->last_ns);
		if (t) {
			t->mixed = t->wrote && t->wrote != object;
			t->wrote = object;
			t->wrote_len = (__u32)n;
		}
	}
	write_settle(o);
	skip = o->ahead;
	o->wrote = (__u32)n;
	if (skip >= n)
		return 0;
	o->ready = true;
	o->brought_dir = WEIR_RESPONSE;
	o->brought = buf + skip;
	o->brought_len = (__u32)n - skip;
	return 0;
}

/* The object is freed, or made ready for another connection. */
static __noinline int object_drop(__u64 object)
{
	struct weir_tls_thread *t = thread_find();
	struct weir_tls_key k;

	if (t && t->call && t->object == object)
		return 0; /* OpenSSL's handshake begins with SSL_clear() */
	key_of(object, &k);
	bpf_map_delete_elem(&weir_tls_objs, &k);
	return 0;
}

static __always_inline int on_call(struct pt_regs *ctx)
{
	__u64 cookie = bpf_get_attach_cookie(ctx), library = cookie & WEIR_TLS_LIBRARY_MASK;
	__u32 probe = (__u32)(cookie >> WEIR_TLS_PROBE_SHIFT);
	struct weir_tls_object *o;

	if (probe == WEIR_TLS_RETURN) {
		o = call_ends(ctx, library);
	} else {
		o = object_of(PT_REGS_PARM1(ctx), library, probe != WEIR_TLS_FREE);
		if (o && probe == WEIR_TLS_FREE)
			return object_drop(PT_REGS_PARM1(ctx));
		if (o && probe < WEIR_TLS_RETURN)
			return call_begins(ctx, o, probe);
		if (o)
			call_writes(ctx, o, probe);
	}
	if (o && o->ready)
		feed(o);
	return 0;
}

/* One program for all probes, told apart by their cookies: the verifier reads the meter once. */
SEC("uprobe")
int on_tls_call(struct pt_regs *ctx)
{
	__u64 began = bpf_get_prandom_u32() & 63 ? 0 : bpf_ktime_get_ns();

	on_call(ctx);
	if (!began)
		return 0;
	stat_add(WEIR_STAT_TLS_NS, bpf_ktime_get_ns() - began);
	stat_add(WEIR_STAT_TLS_NS_RUNS, 1);
	return 0;
}

/* ---- the socket calls of those threads ------------------------------------------------------------------ */
static __always_inline int socket_call(struct sock *sk, long n, bool sends)
{
	struct weir_tls_thread *t;
	struct weir_tls_object *o;
	__u16 family;

	if (!weir_control.tls_on)
		return 0;
	t = thread_find();
	family = sk->__sk_common.skc_family;
	if (family != AF_INET && family != AF_INET6)
		return 0; /* an event loop's way to wake itself */
	if (!t) {
		__u16 port = sk->__sk_common.skc_num;

		/* a thread of the server before its first TLS call */
		if (sends || !(weir_control.ports[port >> 3 & 8191] & 1u << (port & 7)) || !is_watched())
			return 0;
		t = thread_of(bpf_ktime_get_ns());
		if (!t)
			return 0;
	}
	if (t->call) {
		o = object_find(t->object);
		if (o && (o->sock != (__u64)sk || !(o->flags & WEIR_TLS_INSIDE)))
			bind(o, t->object, (__u64)sk, true);
		return 0;
	}
	if (!sends) {
		/* what brings nothing is no ciphertext for the next object; nor does it part this socket's last read from its own */
		if (n > 0)
			t->fresh = (__u64)sk;
		else if (t->fresh != (__u64)sk)
			t->fresh = 0;
		t->wrote = 0;
		return 0;
	}
	o = t->wrote ? object_find(t->wrote) : NULL;
	if (!o)
		return 0;
	if (o->conn) {
		if (o->sock != (__u64)sk)
			return 0;
		if (n == -EAGAIN)
			o->flags |= WEIR_TLS_AGAIN;
		else if (n > 0)
			o->sent += (__u32)n;
		return 0; /* the library may send again in the same call */
	}
	if (!t->mixed && n >= (long)(t->wrote_len < WEIR_TLS_RECORD ? t->wrote_len : WEIR_TLS_RECORD) + WEIR_TLS_OVERHEAD)
		bind(o, t->wrote, (__u64)sk, false);
	t->wrote = 0;
	return 0;
}

/* Tracepoints of Linux 6.3 (kernel commit 6e6eda44b939). */
SEC("tp_btf/sock_send_length")
int BPF_PROG(on_sock_send, struct sock *sk, int n, int flags)
{
	return socket_call(sk, n, true);
}

SEC("tp_btf/sock_recv_length")
int BPF_PROG(on_sock_recv, struct sock *sk, int n, int flags)
{
	return flags & MSG_PEEK ? 0 : socket_call(sk, n, false);
}

/* The same where trampolines on functions work, and the tracepoints are not there. */
SEC("fexit/tcp_sendmsg")
int BPF_PROG(on_tcp_send, struct sock *sk, struct msghdr *msg, __u64 size, int n)
{
	return socket_call(sk, n, true);
}

SEC("fexit/tcp_recvmsg")
int BPF_PROG(on_tcp_recv, struct sock *sk, struct msghdr *msg, __u64 size, int flags, int *addr_len, int n)
{
	return flags & MSG_PEEK ? 0 : socket_call(sk, n, false);
}
