/*
 * meter.bpf.c - watches the TCP segments of the watched ports at the root cgroup: requests at the
 * server's ingress, responses at its egress.
 *
 * on_ingress/on_egress -> segment() -> messages: framing and the automaton (include/weir/meter.h), accounting
 * (include/weir/conn.h), slices and completion records into the ring. Needs bpf_loop (5.17) and atomics with
 * fetch; meter_fast.bpf.c is the same with may_goto (6.9). Why cgroup_skb, and what it must not be
 * trusted with: docs/architecture.md.
 *
 * The program always lets the packet pass.
 */
#include "kernel.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#ifdef WEIR_FAST
/*
 * may_goto (kernel commit 011832b97b31): the verifier bounds the loop, so it need not be walked. Written as bytes because
 * clang 14 does not know the instruction.
 */
#define CAN_LOOP()                                                                                                     \
	({                                                                                                             \
		__label__ l_stop, l_go;                                                                                \
		bool go_ = true;                                                                                       \
		asm volatile goto("1:.byte 0xe5; .byte 0; .long ((%l[l_stop] - 1b - 8) / 8) & 0xffff; .short 0" : : : : l_stop); \
		goto l_go;                                                                                             \
	l_stop:                                                                                                        \
		go_ = false;                                                                                           \
	l_go:;                                                                                                         \
		go_;                                                                                                   \
	})
#define WEIR_CAN_LOOP CAN_LOOP()
#define WEIR_STEP_MAX 128
#elif !defined(WEIR_SOFT)
#define WEIR_STEP_MAX 64 /* the callbacks of bpf_loop need more of the stack */
#endif

#ifndef WEIR_SOFT /* which has included meter.h already */
#define WEIR_WALK(p, a, buf, from, to) walk(p, (const struct look *)(buf), from, to)
#define WEIR_NUMBER_RUN(p, buf, from, to) number_run(p, (const struct look *)(buf), from, to)
#define WEIR_LINE_RUN(p, buf, from, to) line_run(p, (const struct look *)(buf), from, to)

struct weir_parse;
struct look;
int walk(struct weir_parse *p, const struct look *l, unsigned int from, unsigned int to);
int number_run(struct weir_parse *p, const struct look *l, unsigned int from, unsigned int to);
int line_run(struct weir_parse *p, const struct look *l, unsigned int from, unsigned int to);
#endif

#include "weir/conn.h"

char LICENSE[] SEC("license") = "GPL";

#define MAX_STEPS 16384    /* parser steps of one segment: 95 KB of chunks of one byte need 48k, and are cut, counted */
#define MAX_MESSAGES 4096  /* messages and heads of one segment */
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

/*
 * Loads 1 to `room` bytes, a constant. The compiler makes any test of n one of n - 1, from which verifiers up to 6.1 do not learn
 * that n is not 0 ("invalid zero-sized read"): so n - 1 is what is tested, and n is made from it.
 */
static __always_inline long load_bytes(struct __sk_buff *skb, __u32 off, void *to, __u32 n, const __u32 room)
{
	__u32 last = n - 1;

	asm volatile("" : "+r"(last));
	return last < room ? bpf_skb_load_bytes(skb, off, to, last + 1) : -1;
}

/* ---- clients -------------------------------------------------------------------------------------- */
static __always_inline bool same_address(const __u8 *a, const __u8 *b)
{
	const __u64 *x = (const __u64 *)a, *y = (const __u64 *)b;

	return x[0] == y[0] && x[1] == y[1];
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
	if (cl && !cl->first_ns)
		cl->first_ns = now;
	return cl;
}

/* ---- ring ----------------------------------------------------------------------------------------- */

#define RING_MINIMUM 2048 /* bytes per epoch that any client may send while there is room: one ordinary request */

/*
 * May this client put `bytes` into the ring? Below half full: yes. Above, each client gets at most an eighth of what is free per
 * epoch (user space begins one with every drain), so that a flooding client cannot blind the agent to the others.
 * The answer carries the wake-up flag for the submit: one when the ring becomes half full, else none.
 */
__noinline int ring_allows(struct weir_client *cl, __u32 bytes)
{
	__u64 size = cfg_ring_bytes, used = bpf_ringbuf_query(&weir_ring, BPF_RB_AVAIL_DATA), epoch;

	if (!cl)
		return -1;
	epoch = weir_control.ring_epoch;
	if (cl->ring_epoch != epoch) {
		cl->ring_epoch = epoch;
		cl->ring_bytes = 0;
	}
	if (used * 2 >= size && (used >= size || (cl->ring_bytes + bytes > (size - used) / 8 && cl->ring_bytes + bytes > RING_MINIMUM)))
		return -1;
	__sync_fetch_and_add(&cl->ring_bytes, bytes);
	return used * 2 < size && (used + bytes) * 2 >= size ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
}

struct piece {
	__u64 off, now, conn; /* off: of the message */
	__u32 at, len;        /* in the packet */
	__u32 request, head_len;
	__u16 status;
	__u8 dir, flags;
};

#define SEND_PIECE(ROOM)                                                                                               \
	do {                                                                                                           \
		struct weir_slice *e = bpf_ringbuf_reserve(&weir_ring, sizeof(*e) + (ROOM), 0);                        \
                                                                                                                       \
		if (!e)                                                                                                \
			goto full;                                                                                     \
		e->type = WEIR_EVENT_SLICE;                                                                            \
		e->dir = p->dir;                                                                                       \
		e->flags = p->flags;                                                                                   \
		e->pad = 0;                                                                                            \
		e->len = (__u16)n;                                                                                     \
		e->status = p->status;                                                                                 \
		e->request = p->request;                                                                               \
		e->head_len = p->head_len;                                                                             \
		e->conn = p->conn;                                                                                     \
		e->off = p->off;                                                                                       \
		e->ts = p->now;                                                                                        \
		e->key = *k;                                                                                           \
		if (n && load_bytes(skb, p->at, e->data, n, ROOM))                                                     \
			e->len = 0;                                                                                    \
		bpf_ringbuf_submit(e, wake);                                                                           \
		return 0;                                                                                              \
	} while (0)

/* Sends up to 4 KiB of the packet. -1: not sent, and counted. */
__noinline int send_piece(struct __sk_buff *skb, const struct weir_conn_key *k, struct weir_client *cl, const struct piece *p)
{
	__u32 n;
	int wake;

	if (!k || !cl || !p)
		return -1;
	n = p->len;
	if (n > WEIR_SLICE_HEAD)
		n = WEIR_SLICE_HEAD;
	wake = ring_allows(cl, n + sizeof(struct weir_slice));
	if (wake < 0)
		goto full;
	if (n <= 256)
		SEND_PIECE(256);
	if (n <= 1024)
		SEND_PIECE(1024);
	SEND_PIECE(WEIR_SLICE_HEAD);
full:
	__sync_fetch_and_add(&cl->slices_dropped, 1);
	stat_add(WEIR_STAT_SLICE_FULL, 1);
	return -1;
}

/* It is clear that a response is there: one that answers no request we saw is counted as one. */
static __always_inline void count_response(struct weir_conn *c, struct weir_client *cl, __u64 now)
{
	if (c->reply.flags & WEIR_R_COUNTED)
		return;
	if (c->reply.flags & WEIR_R_NO_REQUEST) {
		stat_add(WEIR_STAT_UNPAIRED, 1);
		stat_add(WEIR_STAT_REQUESTS, 1);
	}
	weir_response_head(c, cl, now);
}

/* Settles the oldest request in flight: counters, and its completion record. */
__noinline int settle(struct weir_conn *c, const struct weir_conn_key *k, struct weir_client *cl, __u64 now, __u32 flags)
{
	struct weir_done *d = NULL;
	int wake = -1;

	if (!c || !k || !cl)
		return 0;
	if (c->flags & WEIR_C_GHOST)
		return 0; /* it was settled when the reset came */
	if (c->reply.flags & WEIR_R_ACTIVE)
		count_response(c, cl, now);
	stat_add(WEIR_STAT_RESPONSES, 1);
	if (weir_control.shed >= WEIR_SHED_RECORDS) {
		stat_add(WEIR_STAT_SLICE_SHED, 1);
	} else {
		wake = ring_allows(cl, sizeof(*d));
		if (wake < 0) {
			stat_add(WEIR_STAT_RING_FAIR, 1);
		} else {
			d = bpf_ringbuf_reserve(&weir_ring, sizeof(*d), 0);
			if (!d)
				stat_add(WEIR_STAT_RING_FULL, 1);
		}
	}
	if (!d) {
		weir_settle(c, cl, now, (__u16)flags, NULL);
		return 0;
	}
	weir_settle(c, cl, now, (__u16)flags, d);
	d->type = WEIR_EVENT_DONE;
	d->key = *k;
	bpf_ringbuf_submit(d, wake);
	return 0;
}

/* ---- a segment ------------------------------------------------------------------------------------ */
struct run {
	__u64 now;
	__u32 off, end; /* in the packet */
	__u32 start;    /* where the part of the current message begins */
	__u32 ev;       /* since start */
	__u32 flags;    /* WEIR_SLICE_* since start */
	__u32 dir;
	__u32 steps;
};

static __always_inline struct weir_side *side_of(struct weir_conn *c, __u32 dir)
{
	return dir == WEIR_REQUEST ? &c->in : &c->out;
}

struct look {
	__u8 b[WEIR_STEP_MAX];
};

__noinline int walk(struct weir_parse *p, const struct look *l, __u32 from, __u32 to)
{
	if (p && l)
		weir_walk(p, automaton(), l->b, from, to);
	return 0;
}

__noinline int number_run(struct weir_parse *p, const struct look *l, __u32 from, __u32 to)
{
	if (p && l)
		weir_number_run(p, l->b, from, to);
	return 0;
}

__noinline int line_run(struct weir_parse *p, const struct look *l, __u32 from, __u32 to)
{
	if (p && l)
		weir_line_run(p, l->b, from, to);
	return 0;
}

#ifndef WEIR_FAST
struct substeps {
	struct weir_conn *c;
	const struct look *l;
	__u32 n;
};

static long substep_request(__u32 i, struct substeps *s)
{
	return weir_step_on(&s->c->in.p, &s->c->reply, automaton(), WEIR_REQUEST, s->l->b, s->n);
}

static long substep_response(__u32 i, struct substeps *s)
{
	return weir_step_on(&s->c->out.p, &s->c->reply, automaton(), WEIR_RESPONSE, s->l->b, s->n);
}
#endif

/* weir_step() of meter.h: bytes used, and what they brought (WEIR_EV_*) above bit 16. */
__noinline int step_request(struct weir_conn *c, const struct look *l, __u32 n)
{
	struct weir_parse *p;

	if (!c || !l)
		return 0;
	p = &c->in.p;
	p->at = p->ev = 0;
#ifdef WEIR_FAST
	while (CAN_LOOP())
		if (weir_step_on(p, &c->reply, automaton(), WEIR_REQUEST, l->b, n))
			break;
#else
	struct substeps s = { .c = c, .l = l, .n = n };

	bpf_loop(WEIR_SUBSTEPS, substep_request, &s, 0);
#endif
	return (int)(p->at | p->ev << 16);
}

__noinline int step_response(struct weir_conn *c, const struct look *l, __u32 n)
{
	struct weir_parse *p;

	if (!c || !l)
		return 0;
	p = &c->out.p;
	p->at = p->ev = 0;
#ifdef WEIR_FAST
	while (CAN_LOOP())
		if (weir_step_on(p, &c->reply, automaton(), WEIR_RESPONSE, l->b, n))
			break;
#else
	struct substeps s = { .c = c, .l = l, .n = n };

	bpf_loop(WEIR_SUBSTEPS, substep_response, &s, 0);
#endif
	return (int)(p->at | p->ev << 16);
}

/* Bytes skipped, and in bit 31 whether the message is complete. */
__noinline __u32 step_skip(struct weir_conn *c, __u32 dir, __u32 n)
{
	__u32 ev = 0;

	if (!c)
		return 0;
	if (dir == WEIR_REQUEST)
		n = (__u32)weir_skip(&c->in.p, &c->reply, automaton(), WEIR_REQUEST, n, &ev);
	else
		n = (__u32)weir_skip(&c->out.p, &c->reply, automaton(), WEIR_RESPONSE, n, &ev);
	return n | (ev & WEIR_EV_DONE ? 1u << 31 : 0);
}

/* One parser step. 1: stop, something is to be done or all is read. */
__noinline int step(struct __sk_buff *skb, struct weir_conn *c, struct run *r)
{
	struct look l;
	__u32 left, want, used, off, ev;
	struct weir_side *s;

	if (!c || !r)
		return 1;
	s = side_of(c, r->dir);
	off = r->off;
	if (off >= r->end || ++r->steps > MAX_STEPS)
		return 1;
	left = r->end - off;
	want = weir_want(&s->p, left);
	if (!want) {
		used = step_skip(c, r->dir, left);
		ev = used >> 31 ? WEIR_EV_DONE : 0;
		used &= 0x7fffffff;
	} else {
		if (load_bytes(skb, off, l.b, want, WEIR_STEP_MAX)) {
			r->off = r->end;
			return 1;
		}
		used = (__u32)(r->dir == WEIR_REQUEST ? step_request(c, &l, want) : step_response(c, &l, want));
		ev = used >> 16;
		used &= 0xffff;
	}
	r->off = off + used;
	if (!ev)
		return 0;
	if ((ev & WEIR_EV_CONTENT) && !c->reply.content_ns)
		c->reply.content_ns = r->now;
	r->ev |= ev;
	return (ev & ~(__u32)(WEIR_EV_CONTENT | WEIR_EV_HOT | WEIR_EV_BAD_NUMBER)) != 0;
}

#ifndef WEIR_FAST
struct steps {
	struct __sk_buff *skb;
	struct weir_conn *c;
	struct run *r;
};

static long step_cb(__u32 i, struct steps *s)
{
	return step(s->skb, s->c, s->r) != 0;
}
#endif

static __always_inline void take_steps(struct __sk_buff *skb, struct weir_conn *c, struct run *r)
{
#ifdef WEIR_FAST
	while (CAN_LOOP())
		if (step(skb, c, r))
			break;
#else
	struct steps s = { .skb = skb, .c = c, .r = r };

	bpf_loop(MAX_STEPS, step_cb, &s, 0);
#endif
}

/* Part of one message. */
struct part {
	__u64 now, off; /* off: of the message */
	__u32 start, len; /* in the packet */
	__u32 flags, dir;
};

/* Sends what user space needs of a part: the message's first bytes, its last, and what is hot in between. */
__noinline int send_part(struct __sk_buff *skb, struct weir_conn *c, const struct weir_conn_key *k, struct weir_client *cl, const struct part *part)
{
	struct weir_side *s;
	struct piece p = {};
	__u32 head_len, cap, first, len;
	__u64 off, tail = ~0ull;
	bool encoded;

	if (!c || !k || !cl || !part || weir_control.shed >= WEIR_SHED_RECORDS)
		return 0;
	s = part->dir == WEIR_REQUEST ? &c->in : &c->out;
	off = part->off;
	len = part->len;
	encoded = part->dir == WEIR_RESPONSE && (c->reply.flags & WEIR_R_ENCODED);
	head_len = s->p.mode == WEIR_HEAD ? 0 : s->p.head_len;
	if (head_len && (weir_control.shed >= WEIR_SHED_SLICES || (part->dir == WEIR_REQUEST && cfg_prompt_blind))) {
		/* the head, and no byte of the body */
		if (off + len > head_len)
			len = off < head_len ? head_len - (__u32)off : 0;
		if (!len && !(part->flags & WEIR_SLICE_HEAD_DONE))
			return 0;
	}
	p.off = off;
	p.now = part->now;
	p.conn = c->id;
	p.at = part->start;
	p.request = s->request;
	p.head_len = head_len;
	p.status = part->dir == WEIR_RESPONSE ? c->reply.status : 0;
	p.dir = (__u8)part->dir;
	p.flags = (__u8)(part->flags | (s->flags & WEIR_S_GAP ? WEIR_SLICE_GAP : 0));

	cap = encoded ? WEIR_SLICE_ENCODED : part->dir == WEIR_REQUEST ? WEIR_SLICE_HEAD : WEIR_SLICE_TAIL;
	first = 0;
	if (off < cap) {
		first = cap - (__u32)off;
		if (first > len || len - first <= 256) /* leaves no crumbs */
			first = len;
		if (first > WEIR_SLICE_HEAD)
			first = WEIR_SLICE_HEAD;
	}
	if (first || (part->flags & WEIR_SLICE_HEAD_DONE)) {
		p.len = first;
		s->sent += first;
		if (send_piece(skb, k, cl, &p))
			c->reply.flags |= part->dir == WEIR_RESPONSE ? WEIR_R_SLICE_LOST : 0;
	}
	if (first >= len)
		return 0;

	/* the end: where the length is known, or where a finish reason or an error was seen */
	if (s->p.flags & WEIR_P_LENGTH) {
		__u64 total = head_len + s->p.length;

		if (off + len + WEIR_SLICE_TAIL > total) {
			tail = total > off + WEIR_SLICE_TAIL ? total - off - WEIR_SLICE_TAIL : 0;
			if (tail < first)
				tail = first;
		}
	} else if (encoded) {
		tail = first;
	} else if (part->flags & WEIR_SLICE_HOT) {
		tail = len > first + WEIR_SLICE_HEAD / 2 ? len - WEIR_SLICE_HEAD / 2 : first;
	}
	if (tail >= len)
		return 0;
	cap = encoded ? WEIR_SLICE_ENCODED : part->dir == WEIR_REQUEST ? WEIR_SLICE_HEAD + WEIR_SLICE_TAIL : WEIR_SLICE_RESPONSE;
	if (s->sent >= cap) {
		stat_add(WEIR_STAT_OVERSIZE, 1);
		return 0;
	}
	p.off = off + tail;
	p.at = part->start + (__u32)tail;
	p.len = len - (__u32)tail;
	p.flags &= (__u8)~WEIR_SLICE_HEAD_DONE;
	s->sent += p.len;
	if (send_piece(skb, k, cl, &p))
		c->reply.flags |= part->dir == WEIR_RESPONSE ? WEIR_R_SLICE_LOST : 0;
	return 0;
}

/* What came up in the part [r->start, r->off); 1: nothing of the segment is left. */
__noinline int message(struct __sk_buff *skb, struct weir_conn *c, const struct weir_conn_key *k, struct run *r)
{
	struct weir_side *s;
	struct weir_client *cl;
	struct part part;
	__u32 ev, done, dir;
	__u64 off;

	if (!c || !k || !r)
		return 1;
	dir = r->dir;
	s = side_of(c, dir);
	if (s->p.mode == WEIR_START && !(r->ev & WEIR_EV_DONE)) {
		if (r->off >= r->end)
			return 1;
		r->start = r->off;
		if (dir == WEIR_REQUEST)
			weir_request_begin(c, r->now);
		else
			weir_response_begin(c, r->now);
	}
	if (!(r->ev & WEIR_EV_DONE)) /* a gap may have ended the message already */
		take_steps(skb, c, r);
	ev = r->ev;
	if (!(ev & ~(__u32)(WEIR_EV_CONTENT | WEIR_EV_BAD_NUMBER)) && !(s->flags & WEIR_S_HOT) && s->p.mode > WEIR_HEAD && !s->p.length && dir == WEIR_RESPONSE && s->off > WEIR_SLICE_TAIL &&
	    r->off >= r->end && !(c->reply.flags & WEIR_R_ENCODED)) {
		/* the common case: one more event of a stream */
		s->off += r->off - r->start;
		c->reply.last_ns = r->now;
		if (ev & WEIR_EV_BAD_NUMBER)
			stat_add(WEIR_STAT_BAD_NUMBER, 1);
		return 1;
	}
	cl = client_of(k, r->now);
	if (!cl)
		return 1;
	if ((ev & WEIR_EV_BAD) && dir == WEIR_RESPONSE && (c->reply.flags & WEIR_R_PARTIAL)) {
		/* what looked like a chunk was none */
		weir_response_raw(c, automaton(), r->now);
		ev &= ~(__u32)(WEIR_EV_BAD | WEIR_EV_BAD_FRAMING);
		r->ev = ev;
		return 0;
	}
	if (ev & WEIR_EV_BAD) {
		if (!(s->flags & WEIR_S_MID))
			stat_add(ev & WEIR_EV_TOO_LONG ? WEIR_STAT_HEAD_TOO_LONG : ev & WEIR_EV_BAD_FRAMING ? WEIR_STAT_BAD_FRAMING : WEIR_STAT_NOT_HTTP, 1);
		s->flags |= WEIR_S_MID; /* said once per connection and direction */
		if (dir == WEIR_RESPONSE && (c->reply.flags & WEIR_R_COUNTED))
			settle(c, k, cl, r->now, WEIR_DONE_ABORTED);
		else if (dir == WEIR_RESPONSE)
			c->reply.flags = 0;
		s->p.mode = WEIR_LOST;
		r->off = r->end;
		return 1;
	}
	if (ev & WEIR_EV_BAD_NUMBER)
		stat_add(WEIR_STAT_BAD_NUMBER, 1);
	if (ev & WEIR_EV_HOT)
		s->flags |= WEIR_S_HOT; /* the text may go on in the next segment */
	if (s->flags & WEIR_S_HOT)
		r->flags |= WEIR_SLICE_HOT;
	if (ev & WEIR_EV_HEAD) {
		r->flags |= WEIR_SLICE_HEAD_DONE;
		if (weir_control.shed >= WEIR_SHED_SCAN)
			s->p.flags &= (__u8)~WEIR_P_SCAN;
		if (dir == WEIR_REQUEST) {
			weir_request_head(c, cl, r->now);
			stat_add(WEIR_STAT_REQUESTS, 1);
		} else {
			count_response(c, cl, r->now);
			if (c->reply.flags & WEIR_R_ENCODED)
				stat_add(WEIR_STAT_ENCODED, 1);
		}
	}
	if (ev & WEIR_EV_TUNNEL)
		stat_add(WEIR_STAT_UPGRADED, 1);
	done = ev & WEIR_EV_DONE;
	r->ev = 0;
	if (!done && !(ev & WEIR_EV_TUNNEL) && r->off < r->end)
		return 0; /* a head, and its body follows in this segment */

	off = s->off;
	s->off += r->off - r->start;
	if (dir == WEIR_REQUEST) {
		weir_request_bytes(c, r->now);
	} else {
		c->reply.last_ns = r->now;
		if (c->reply.flags & WEIR_R_PARTIAL)
			count_response(c, cl, r->now); /* it may have no head to wait for */
	}
	if (done)
		r->flags |= WEIR_SLICE_MSG_DONE;
	part.now = r->now;
	part.off = off;
	part.start = r->start;
	part.len = r->off - r->start;
	part.flags = r->flags;
	part.dir = dir;
	send_part(skb, c, k, cl, &part);
	r->flags = 0;
	r->start = r->off;
	if (done) {
		if (dir == WEIR_RESPONSE)
			settle(c, k, cl, r->now, 0);
		if (dir == WEIR_REQUEST && (s->p.flags & WEIR_P_CONNECT)) {
			s->p.mode = WEIR_TUNNEL;
			c->out.p.mode = WEIR_TUNNEL;
		} else {
			weir_begin(&s->p, automaton(), (int)dir);
		}
	} else if (ev & WEIR_EV_TUNNEL) {
		c->in.p.mode = WEIR_TUNNEL;
		settle(c, k, cl, r->now, 0);
	}
	return r->off >= r->end;
}

#ifndef WEIR_FAST
struct messages {
	struct __sk_buff *skb;
	struct weir_conn *c;
	const struct weir_conn_key *k;
	struct run r;
};

static long message_cb(__u32 i, struct messages *m)
{
	return message(m->skb, m->c, m->k, &m->r) != 0;
}
#endif

struct try_lock {
	__u32 *lock;
	__u32 held;
};

static long try_lock(__u32 i, struct try_lock *t)
{
	t->held = __sync_val_compare_and_swap(t->lock, 0, 1) == 0;
	return t->held;
}

/* Not inline: its stack is not needed below. */
static __noinline __u32 lock_take(__u32 *lock)
{
	struct try_lock t = { .lock = lock };

	try_lock(0, &t);
	if (!t.held)
		bpf_loop(LOCK_TRIES, try_lock, &t, 0);
	return t.held;
}

/*
 * The connection is over and nobody else is at it: what is still in flight has been aborted.
 *
 * A reset in the middle of a response leaves a ghost: the server may be inside a send that TCP carries out before it looks at
 * the reset, and those bytes still leave. They are scanned and added; user space takes the entry away soon after.
 */
static __noinline void bury(struct weir_conn *c, const struct weir_conn_key *k, __u64 now, bool reset)
{
	bool ghost = reset && (c->reply.flags & WEIR_R_COUNTED) && (c->out.p.flags & WEIR_P_SCAN);
	struct weir_conn_key key;
	struct weir_client *cl = client_of(k, now);

	if (cl) {
		if (c->bytes_in)
			__sync_fetch_and_add(&cl->bytes_in, c->bytes_in);
		if (c->bytes_out)
			__sync_fetch_and_add(&cl->bytes_out, c->bytes_out);
		if (c->reply.flags & WEIR_R_COUNTED) {
			/* a body that lasts until the end of the connection is complete; one out of step may be */
			if (c->out.p.mode == WEIR_CLOSE && (c->out.flags & WEIR_S_FIN) && c->reply.event)
				weir_event_end(&c->reply);
			settle(c, k, cl, now,
			       (c->out.flags & WEIR_S_FIN) && (c->out.p.mode == WEIR_CLOSE || c->out.p.mode == WEIR_RAW) ? 0 : WEIR_DONE_ABORTED);
		}
		c->reply.flags = 0;
		for (int i = 0; i < WEIR_PIPELINE; i++) {
			if (!weir_pending(c))
				break;
			settle(c, k, cl, now, WEIR_DONE_ABORTED);
		}
		if (weir_pending(c)) { /* deeper in the pipeline: counted, without a record each */
			__u32 rest = c->pushed - c->popped;

			__sync_fetch_and_add(&cl->aborted, rest);
			__sync_fetch_and_add(&cl->open, -(__s64)rest);
			__sync_fetch_and_add(&cl->lost, rest);
			stat_add(WEIR_STAT_PIPELINE, rest);
		}
	}
	if (ghost) {
		c->reply.flags = WEIR_R_ACTIVE | WEIR_R_COUNTED;
		c->reply.events = c->reply.delta_events = 0;
		c->bytes_in = c->bytes_out = 0;
		__sync_fetch_and_or(&c->flags, WEIR_C_GHOST);
		return;
	}
	key = *k; /* on the stack: up to 6.1 a map takes no key by a pointer that came in an argument ("R2 type=mem expected=fp") */
	bpf_map_delete_elem(&weir_conns, &key);
}

static __always_inline void flush_bytes(struct weir_conn *c, const struct weir_conn_key *k, int dir, __u64 now)
{
	struct weir_client *cl;
	__u64 *n = dir == WEIR_REQUEST ? &c->bytes_in : &c->bytes_out;

	/* between messages, and now and then inside a long one */
	if (!*n || (*n < 65536 && side_of(c, dir)->p.mode != WEIR_START))
		return;
	cl = client_of(k, now);
	if (!cl)
		return;
	__sync_fetch_and_add(dir == WEIR_REQUEST ? &cl->bytes_in : &cl->bytes_out, *n);
	*n = 0;
}

/* A segment inside a response whose framing was lost: does a message or a chunk begin with it? */
__noinline int find_feet(struct __sk_buff *skb, struct weir_conn *c, const struct weir_conn_key *k, const struct run *r)
{
	struct {
		__u8 b[WEIR_RESYNC_LOOK];
	} look = {};
	const __u8 *at = look.b;
	struct weir_client *cl;
	__u32 n;
	int how;

	if (!c || !k || !r)
		return 0;
	n = r->end - r->off;
	if (n > WEIR_RESYNC_LOOK)
		n = WEIR_RESYNC_LOOK;
	if (load_bytes(skb, r->off, look.b, n, WEIR_RESYNC_LOOK))
		return 0;
	asm volatile("" : "+r"(at)); /* clang 14 would add the index with OR: "bitwise operator |= on pointer prohibited" */
	how = weir_resync(at, n);
	if (how == WEIR_RESYNC_HEAD) {
		cl = client_of(k, r->now);
		if (cl && (c->reply.flags & WEIR_R_COUNTED))
			settle(c, k, cl, r->now, 0);
		c->reply.flags = 0;
		weir_begin(&c->out.p, automaton(), WEIR_RESPONSE);
	} else if (how) {
		stat_add(WEIR_STAT_RESYNC, 1);
		weir_resync_chunk(c, how);
	}
	return 0;
}

struct segment {
	struct weir_conn_key key;
	struct weir_tcp tcp;
	__u32 seq, at, len;
	__u8 fin, rst;
};

/*
 * What a segment needs once is in functions of its own, not inline: their stack is then free again for the parser, whose chain of
 * calls fills the 512 bytes of all frames together ("combined stack size of 8 calls is 544. Too large").
 */

/* How many of the segment's first bytes were seen before; the rest is claimed. */
static __noinline __u32 claim(struct weir_conn *c, const struct segment *g, int dir, __u64 now, __u32 *ev)
{
	struct weir_notes notes = {};
	__u32 seen = weir_claim(c, automaton(), dir, g->seq, g->len, &g->tcp, now, &notes, ev);

	if (notes.gap) {
		stat_add(WEIR_STAT_GAP, 1);
		stat_add(WEIR_STAT_GAP_BYTES, notes.gap_bytes);
	}
	if (notes.window)
		stat_add(WEIR_STAT_WINDOW, 1);
	if (notes.dup)
		stat_add(WEIR_STAT_DUP, 1);
	return seen;
}

/* Too many steps: the rest of the segment passes as a hole does. */
static __noinline void cut_off(struct weir_conn *c, int dir, __u32 n, __u64 now)
{
	struct weir_notes notes = {};

	stat_add(WEIR_STAT_STEPS, 1);
	weir_gap(c, automaton(), dir, n, now, &notes);
}

static __always_inline void segment_payload(struct __sk_buff *skb, struct segment *g, struct weir_conn *c, int dir, __u64 now)
{
	struct weir_side *s = side_of(c, dir);
#ifdef WEIR_FAST
	struct run all = {}, *r = &all;
#else
	struct messages m = { .skb = skb, .c = c, .k = &g->key };
	struct run *r = &m.r;
#endif
	__u32 seen;

	seen = claim(c, g, dir, now, &r->ev);
	if (seen >= g->len)
		return;
	r->now = now;
	r->dir = (__u32)dir;
	r->off = r->start = g->at + seen;
	r->end = g->at + g->len;
	if (dir == WEIR_REQUEST)
		c->bytes_in += g->len - seen;
	else
		c->bytes_out += g->len - seen;
	if (s->p.mode == WEIR_LOST)
		weir_begin(&s->p, automaton(), dir);
	if (dir == WEIR_RESPONSE && s->p.mode == WEIR_RAW)
		find_feet(skb, c, &g->key, r);
#ifdef WEIR_FAST
	while (CAN_LOOP())
		if (message(skb, c, &g->key, r))
			break;
#else
	bpf_loop(MAX_MESSAGES, message_cb, &m, 0);
#endif
	if (r->off < r->end)
		cut_off(c, dir, r->end - r->off, now);
	flush_bytes(c, &g->key, dir, now);
}

/* Bytes of a response that leave after the client's reset was seen. */
static __always_inline void haunt(struct __sk_buff *skb, struct segment *g, struct weir_conn *c, __u64 now)
{
	struct weir_client *cl;

	segment_payload(skb, g, c, WEIR_RESPONSE, now);
	cl = client_of(&g->key, now);
	if (!cl)
		return;
	if (!weir_has_usage(c->reply.token_mask))
		__sync_fetch_and_add(&cl->estimated_tokens, c->reply.delta_events);
	__sync_fetch_and_add(&cl->bytes_out, c->bytes_out);
	c->reply.delta_events = 0;
	c->bytes_out = 0;
}

static __always_inline struct weir_conn *conn_of(struct segment *g, int dir, __u64 now)
{
	struct weir_conn *c = bpf_map_lookup_elem(&weir_conns, &g->key);

	if (c && (c->flags & WEIR_C_GHOST) && dir == WEIR_REQUEST && g->len && g->tcp.fresh) {
		bpf_map_delete_elem(&weir_conns, &g->key);
		c = NULL;
	}
	/*
	 * The same four-tuple again, and we missed its end: TCP has received nothing yet, and what we began with is not in its window.
	 * (Its first segments may all pass before it takes the first: one after another, or out of order.)
	 */
	if (c && dir == WEIR_REQUEST && g->tcp.valid && g->tcp.fresh && (c->in.flags & WEIR_S_STARTED) && g->len &&
	    c->in.first - g->tcp.rcv_nxt > g->tcp.rcv_end - g->tcp.rcv_nxt) {
		bury(c, &g->key, now, false);
		c = NULL;
	}
	if (c || !g->len)
		return c;
	bpf_map_update_elem(&weir_conns, &g->key, &zero_conn, BPF_NOEXIST);
	c = bpf_map_lookup_elem(&weir_conns, &g->key);
	if (!c) {
		stat_add(WEIR_STAT_CONN_FULL, 1);
		return NULL;
	}
	if (!c->id)
		weir_conn_init(c, automaton(), __sync_fetch_and_add(&weir_next_conn, 1) + 1, dir == WEIR_REQUEST && g->tcp.fresh);
	return c;
}

static __always_inline void segment(struct __sk_buff *skb, struct segment *g, int dir)
{
	__u64 now = bpf_ktime_get_ns();
	struct weir_conn *c = conn_of(g, dir, now);
	struct weir_side *s;

	if (!c)
		return;
	if (c->flags & WEIR_C_GHOST) {
		if (dir == WEIR_RESPONSE && g->len)
			haunt(skb, g, c, now);
		return;
	}
	__sync_fetch_and_add(&c->users, 1);
	if (c->flags & WEIR_C_DEAD)
		return;
	c->last_ns = now;
	s = side_of(c, dir);
	if (g->len) {
		stat_add(WEIR_STAT_SEGMENTS, 1);
		if (dir == WEIR_RESPONSE) {
			segment_payload(skb, g, c, dir, now);
		} else {
			if (lock_take(&s->lock)) {
				segment_payload(skb, g, c, dir, now);
				__sync_val_compare_and_swap(&s->lock, 1, 0);
			} else {
				stat_add(WEIR_STAT_CONTENDED, 1);
			}
		}
	}
	if (g->fin)
		s->flags |= WEIR_S_FIN;
	if (g->rst || (c->in.flags & c->out.flags & WEIR_S_FIN))
		__sync_fetch_and_or(&c->flags, WEIR_C_DYING);
	if (__sync_fetch_and_add(&c->users, -1) == 1 && (c->flags & WEIR_C_DYING) &&
	    !(__sync_fetch_and_or(&c->flags, WEIR_C_DEAD) & WEIR_C_DEAD))
		bury(c, &g->key, now, g->rst && dir == WEIR_REQUEST);
}

#ifndef WEIR_SOFT
/* ---- packets -------------------------------------------------------------------------------------- */
static __always_inline void address_v4(__u8 *to, const __u8 *from)
{
	__u32 *w = (__u32 *)to;

	w[0] = w[1] = 0;
	w[2] = bpf_htonl(0xffff);
	w[3] = *(const __u32 *)from;
}

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

static __always_inline int on_packet(struct __sk_buff *skb, int dir)
{
	struct bpf_sock *sk = skb->sk;
	struct segment g = {};
	__u64 began = 0;
	__u32 port;

	if (!sk)
		return 1;
	port = sk->src_port;
	if (!(weir_control.ports[(port >> 3) & 8191] & 1u << (port & 7)))
		return 1;
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

SEC("cgroup_skb/ingress")
int on_ingress(struct __sk_buff *skb)
{
	return on_packet(skb, WEIR_REQUEST);
}

SEC("cgroup_skb/egress")
int on_egress(struct __sk_buff *skb)
{
	return on_packet(skb, WEIR_RESPONSE);
}
#endif
