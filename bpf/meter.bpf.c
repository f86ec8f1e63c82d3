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
#define WEIR_TABLE(a) ((a) = automaton())
#define WEIR_WALK(p, a, buf, from, to) walk(p, (const struct look *)(buf), from, to)
#define WEIR_NUMBER_RUN(p, buf, from, to) number_run(p, (const struct look *)(buf), from, to)
#define WEIR_LINE_RUN(p, buf, from, to) line_run(p, (const struct look *)(buf), from, to)
#define WEIR_TEXT_RUN(r, buf, from, to) (__u32)text_run(r, (const struct look *)(buf), from, to)

struct weir_automaton;
struct weir_parse;
struct weir_reply;
struct look;
int walk(struct weir_parse *p, const struct look *l, unsigned int from, unsigned int to);
int number_run(struct weir_parse *p, const struct look *l, unsigned int from, unsigned int to);
int line_run(struct weir_parse *p, const struct look *l, unsigned int from, unsigned int to);
int text_run(struct weir_reply *r, const struct look *l, unsigned int from, unsigned int to);
static const struct weir_automaton *automaton(void);
#endif

#include "weir/conn.h"

#include "maps.bpf.h"
#include "clients.bpf.h"

#ifdef WEIR_TLS /* the stack is short, and there is no TCP in it */
struct segment {
	const struct weir_conn_key *key;
	__u32 seq, at, len;
};
#define KEY_OF(g) ((g)->key)
#define TCP_OF(g, field) 0
#else
struct segment {
	struct weir_conn_key key;
	struct weir_tcp tcp;
	__u32 seq, at, len;
	__u8 fin, rst;
};
#define KEY_OF(g) (&(g)->key)
#define TCP_OF(g, field) ((g)->tcp.field)
#endif

#include "steps.bpf.h"
#include "ring.bpf.h"

char LICENSE[] SEC("license") = "GPL";

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
	head_len = s->p.mode == WEIR_HEAD || s->p.mode == WEIR_PROXY ? 0 : s->p.head_len;
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

	/* of a response: its head and the first of its body, where many servers name the model and the finish reason */
	cap = encoded ? WEIR_SLICE_ENCODED : part->dir == WEIR_REQUEST || !head_len ? WEIR_SLICE_HEAD : WEIR_SLICE_TAIL + head_len;
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
	if (s->p.mode == WEIR_H2) {
		weir_raw_begin(c, (int)dir);
		stat_add(WEIR_STAT_RAW, 1);
		return 1; /* what follows in this segment goes up */
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
		r->flags |= s->p.mode == WEIR_PROXY ? WEIR_SLICE_PROXY : WEIR_SLICE_MSG_DONE;
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

#ifndef WEIR_TLS /* there the library's callers take turns */
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
#endif

/*
 * The connection is over and nobody else is at it: what is still in flight has been aborted.
 *
 * A reset in the middle of a response leaves a ghost: the server may be inside a send that TCP carries out before it looks at
 * the reset, and those bytes still leave. They are scanned and added; user space takes the entry away soon after. Of TLS they are
 * ciphertext and add nothing, but without the ghost they would look like another connection, and a blind one.
 */
static __noinline void bury(struct weir_conn *c, const struct weir_conn_key *k, __u64 now)
{
	bool raw = c->flags & WEIR_C_RAW, inflight = raw || ((c->reply.flags & WEIR_R_COUNTED) && (c->out.p.flags & WEIR_P_SCAN));
	bool ghost = (c->flags & WEIR_C_CUT) && (inflight || (c->flags & WEIR_C_TLS));
	struct weir_conn_key key;
	struct weir_client *cl = client_of(k, now);

	if ((c->flags & WEIR_C_TLS) && !((c->in.flags | c->out.flags) & WEIR_S_PLAIN) && !c->tls)
		stat_add(WEIR_STAT_TLS_BLIND, 1);
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
	if (raw)
		send_raw_end(c, k, now);
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
	__u32 *n = dir == WEIR_REQUEST ? &c->bytes_in : &c->bytes_out;

	/* between messages, and now and then inside a long one */
	if (!*n || (*n < 65536 && side_of(c, dir)->p.mode != WEIR_START && !(c->flags & WEIR_C_RAW)))
		return;
	cl = client_of(k, now);
	if (!cl)
		return;
	__sync_fetch_and_add(dir == WEIR_REQUEST ? &cl->bytes_in : &cl->bytes_out, *n);
	*n = 0;
}

/* A segment inside a response whose framing was lost: does a message or a chunk begin with it? Or is it HTTP/2, after all? */
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
	if (!c->pushed && weir_h2_frame(at, n)) {
		weir_raw_begin(c, (int)r->dir);
		stat_add(WEIR_STAT_RAW, 1);
		return 0;
	}
	if (r->dir == WEIR_REQUEST || c->out.p.mode != WEIR_RAW)
		return 0;
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

/*
 * What a segment needs once is in functions of its own, not inline: their stack is then free again for the parser, whose chain of
 * calls fills the 512 bytes of all frames together ("combined stack size of 8 calls is 544. Too large").
 */

static __always_inline void count_notes(const struct weir_notes *notes)
{
	if (notes->gap) {
		stat_add(WEIR_STAT_GAP, 1);
		stat_add(WEIR_STAT_GAP_BYTES, notes->gap_bytes);
	}
	if (notes->window)
		stat_add(WEIR_STAT_WINDOW, 1);
	if (notes->dup)
		stat_add(WEIR_STAT_DUP, 1);
}

/* How many of the segment's first bytes were seen before; the rest is claimed. */
#ifdef WEIR_TLS
static __noinline __u32 claim(struct weir_conn *c, const struct segment *g, int dir, __u64 now, __u32 *ev)
{
	weir_plain(c, automaton(), dir, now);
	return 0;
}
#else
static __noinline __u32 claim(struct weir_conn *c, const struct segment *g, int dir, __u64 now, __u32 *ev)
{
	struct weir_notes notes = {};
	__u32 seen = weir_claim(c, automaton(), dir, g->seq, g->len, &g->tcp, now, &notes, ev);

	count_notes(&notes);
	return seen;
}
#endif

/* The rest of the segment goes up as it is. */
static __noinline void pass_on(struct __sk_buff *skb, struct weir_conn *c, const struct segment *g, struct run *r)
{
	const struct weir_conn_key *k = KEY_OF(g); /* once: what the calls below are shown, the verifier no longer trusts */

	side_of(c, r->dir)->flags |= WEIR_S_RAW;
	for (int i = 0; i < RAW_PIECES; i++)
		if (send_raw(skb, c, k, g, r))
			return;
	stat_add(WEIR_STAT_STEPS, 1); /* no skb seen here is so long */
}

/*
 * The first words of a server whose client began as HTTP/2. An answer in HTTP/1 says that it did not take it so: then what comes is
 * HTTP/1, or a client could hide behind a preface. True: HTTP/2.
 */
static __noinline bool raw_agreed(struct __sk_buff *skb, struct segment *g, struct weir_conn *c, __u64 now)
{
	struct {
		__u8 b[WEIR_RESYNC_LOOK];
	} look = {};
	const __u8 *at = look.b;
	__u32 n = g->len < WEIR_RESYNC_LOOK ? g->len : WEIR_RESYNC_LOOK;

	if (load_bytes(skb, g->at, look.b, n, WEIR_RESYNC_LOOK))
		return true;
	asm volatile("" : "+r"(at)); /* as in find_feet() */
	if (weir_resync(at, n) != WEIR_RESYNC_HEAD)
		return true;
	send_raw_end(c, KEY_OF(g), now);
	stat_add(WEIR_STAT_NOT_HTTP, 1);
	__sync_fetch_and_and(&c->flags, ~(__u32)WEIR_C_RAW);
	c->in.p.mode = WEIR_LOST;
	return false;
}

/* A segment of HTTP/2. */
static __noinline void raw_payload(struct __sk_buff *skb, struct segment *g, struct weir_conn *c, int dir, __u64 now)
{
	const struct weir_conn_key *k = KEY_OF(g);
	struct weir_notes notes = {};
	struct run r = { .now = now, .dir = (__u32)dir, .end = g->at + g->len };
#ifdef WEIR_TLS
	__u32 fresh = g->len, seen = 0;
#else
	__u32 fresh, seen = weir_claim_raw(c, dir, g->seq, g->len, &g->tcp, &notes, &fresh);
#endif

	count_notes(&notes);
	if (seen >= g->len)
		return;
	if (dir == WEIR_REQUEST)
		c->bytes_in += fresh;
	else
		c->bytes_out += fresh;
	r.off = g->at + seen;
	pass_on(skb, c, g, &r);
	flush_bytes(c, k, dir, now);
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
	const struct weir_conn_key *k = KEY_OF(g);
	struct weir_side *s = side_of(c, dir);
#ifdef WEIR_FAST
	struct run all = {}, *r = &all;
#else
	struct messages m = { .skb = skb, .c = c, .k = k };
	struct run *r = &m.r;
#endif
	__u32 seen;

#ifdef WEIR_TLS
	/* plaintext has no sequence numbers, and needs none: it is numbered as it comes */
	g->seq = s->next;
	s->next += g->len;
#endif
	if ((c->flags & WEIR_C_RAW) && (dir == WEIR_REQUEST || (s->flags & WEIR_S_RAW) || raw_agreed(skb, g, c, now))) {
		raw_payload(skb, g, c, dir, now);
		return;
	}
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
	/* Nobody was heard to ask: the server speaks first, or the connection is older than we are. */
	if (dir == WEIR_RESPONSE ? s->p.mode == WEIR_RAW || (s->p.mode == WEIR_START && !c->pushed) : s->p.mode == WEIR_START && !c->pushed && (s->flags & WEIR_S_MID))
		find_feet(skb, c, k, r);
	if (c->flags & WEIR_C_RAW) {
		pass_on(skb, c, g, r);
		flush_bytes(c, k, dir, now);
		return;
	}
#ifdef WEIR_FAST
	while (CAN_LOOP())
		if (message(skb, c, k, r))
			break;
#else
	bpf_loop(MAX_MESSAGES, message_cb, &m, 0);
#endif
	if (c->flags & WEIR_C_RAW)
		pass_on(skb, c, g, r);
	else if (r->off < g->at + g->len)
		cut_off(c, dir, g->at + g->len - r->off, now);
	flush_bytes(c, k, dir, now);
}

#ifndef WEIR_TLS
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
	    c->first - g->tcp.rcv_nxt > g->tcp.rcv_end - g->tcp.rcv_nxt) {
		bury(c, &g->key, now);
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

/*
 * Whether the segment is ciphertext. The first segment of a side says so; of the request side it is also where the connection
 * begins, for telling it from a later one of the same addresses. A client must not be able to hide a response by a lie about
 * itself: the server's first segment has the last word, unless its TLS library has spoken.
 */
static __noinline bool is_tls(struct __sk_buff *skb, struct weir_conn *c, const struct segment *g, int dir)
{
	struct {
		__u8 b[4];
	} look = {};
	struct weir_side *s = side_of(c, dir);

	bool known = (c->flags & WEIR_C_TLS) != 0;

	if ((s->flags & WEIR_S_STARTED) || (known && c->tls))
		return known;
	if (g->len < 3 || load_bytes(skb, g->at, look.b, 3, 4) || !weir_is_tls(look.b)) {
		if (known && dir == WEIR_RESPONSE) {
			weir_conn_is_plain(c);
			known = false;
		}
		return known;
	}
	s->flags |= WEIR_S_STARTED;
	if (dir == WEIR_REQUEST)
		c->first = g->seq;
	if (known)
		return true;
	stat_add(WEIR_STAT_TLS, 1);
	weir_conn_is_tls(c, automaton());
	return true;
}

static __always_inline void segment(struct __sk_buff *skb, struct segment *g, int dir)
{
	__u64 now = bpf_ktime_get_ns();
	struct weir_conn *c = conn_of(g, dir, now);
	struct weir_side *s;

	if (!c)
		return;
	if ((g->fin || g->rst) && dir == WEIR_REQUEST && g->tcp.valid &&
	    ((__s32)(g->seq - g->tcp.rcv_end) > 0 || (__s32)(g->seq + g->len - g->tcp.rcv_nxt) < 0)) {
		/* TCP answers such a reset with a challenge at most (RFC 5961) */
		stat_add(WEIR_STAT_WINDOW, 1);
		g->fin = g->rst = 0;
	}
	if (c->flags & WEIR_C_GHOST) {
		if (dir == WEIR_RESPONSE && g->len && !(c->flags & WEIR_C_TLS))
			haunt(skb, g, c, now);
		return;
	}
	__sync_fetch_and_add(&c->users, 1);
	if (c->flags & WEIR_C_DEAD)
		return;
	c->last_ns = now;
	s = side_of(c, dir);
	if (g->len && !is_tls(skb, c, g, dir)) {
		stat_add(WEIR_STAT_SEGMENTS, 1);
		if (dir == WEIR_RESPONSE) {
			segment_payload(skb, g, c, dir, now);
		} else {
			if (lock_take(&c->lock)) {
				segment_payload(skb, g, c, dir, now);
				__sync_val_compare_and_swap(&c->lock, 1, 0);
			} else {
				stat_add(WEIR_STAT_CONTENDED, 1);
			}
		}
	}
	if (g->fin)
		s->flags |= WEIR_S_FIN;
	if (g->rst || (c->in.flags & c->out.flags & WEIR_S_FIN))
		__sync_fetch_and_or(&c->flags, g->rst && dir == WEIR_REQUEST ? WEIR_C_DYING | WEIR_C_CUT : WEIR_C_DYING);
	if (__sync_fetch_and_add(&c->users, -1) == 1 && (c->flags & WEIR_C_DYING) &&
	    !(__sync_fetch_and_or(&c->flags, WEIR_C_DEAD) & WEIR_C_DEAD))
		bury(c, &g->key, now);
}
#endif

#if !defined(WEIR_SOFT) && !defined(WEIR_TLS)
#include "packet.bpf.h"

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
