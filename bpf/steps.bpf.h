/*
 * steps.bpf.h - one segment's bytes through the parser of include/weir/meter.h, in steps that the verifier can bound.
 */
#ifndef WEIR_BPF_STEPS_H
#define WEIR_BPF_STEPS_H

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

__noinline int text_run(struct weir_reply *r, const struct look *l, __u32 from, __u32 to)
{
	if (!r || !l)
		return 0;
	return (int)weir_text_run(r, l->b, from, to);
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
			r->end = off; /* the rest is a hole: segment_payload() */
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

#endif
