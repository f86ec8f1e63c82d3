/*
 * meter.h - HTTP/1 framing and token metering of one direction of a connection, from bytes in any split.
 *
 * The same source runs in the kernel (bpf/meter.bpf.c), in the degraded user-space meter, in the unit
 * tests and under the fuzzer. No allocation, no loop without a small constant bound, no pointer kept.
 *
 * weir_want() says how many of the bytes at hand the next step wants to look at (0: it skips without
 * looking); weir_step() is given at most that many, returns how many bytes of the stream it consumed
 * and adds WEIR_EV_* to *ev. A caller loops until its bytes are used up, and acts on *ev after each
 * step: after WEIR_EV_DONE it takes what it needs and calls weir_begin() for the next message.
 *
 * What a body is decides RFC 9112 section 6.3. Bare LF is taken for CRLF, as all servers here do.
 */
#ifndef WEIR_METER_H
#define WEIR_METER_H

#include "weir/parse.h"

#ifndef WEIR_STEP_MAX
#define WEIR_STEP_MAX 160   /* bytes one step looks at: what fits a BPF stack (512) beside the rest */
#endif
#define WEIR_LINE_MAX 32    /* the same where only chunk framing is of interest; longest run of a number or size */
#define WEIR_SUBSTEPS 64    /* actions taken in one step before the bytes are looked at anew */
#ifndef WEIR_WALK
/* The kernel's side names the table anew where it is used, instead of keeping it on its scarce stack. */
#ifndef WEIR_TABLE
#define WEIR_TABLE(a) ((void)0)
#endif
/* The loops over bytes; the kernel's side puts a function of its own in between, verified by itself. */
#define WEIR_WALK weir_walk
#define WEIR_NUMBER_RUN weir_number_run
#define WEIR_LINE_RUN weir_line_run
#define WEIR_TEXT_RUN weir_text_run
#endif
#ifdef WEIR_CAN_LOOP        /* meter_fast.bpf.c: may_goto bounds loops by itself */
#define WEIR_LINE_LOOP(i) WEIR_CAN_LOOP
#else
#define WEIR_CAN_LOOP 1
#define WEIR_LINE_LOOP(i) ((i) < WEIR_LINE_MAX)
#endif

/* What ends a step early: the caller has something to do. */
#define WEIR_EV_STOP (WEIR_EV_HEAD | WEIR_EV_DONE | WEIR_EV_BAD | WEIR_EV_TUNNEL | WEIR_EV_INTERIM)

/* Bytes that the next step wants to see, of `avail` > 0 that are there; 0: any number, unseen. */
WEIR_INLINE __u32 weir_want(const struct weir_parse *p, __u64 avail)
{
	__u32 n = avail < WEIR_STEP_MAX ? (__u32)avail : WEIR_STEP_MAX;

	if (p->mode <= WEIR_HEAD || p->mode == WEIR_RAW)
		return n;
	if (p->mode >= WEIR_LOST)
		return 0;
	if (p->flags & WEIR_P_SCAN)
		return n;
	if (p->mode == WEIR_LENGTH || p->mode == WEIR_CHUNK_DATA || p->mode == WEIR_CLOSE || p->mode == WEIR_PROXY)
		return 0;
	return n < WEIR_LINE_MAX ? n : WEIR_LINE_MAX;
}

/* ---- events and numbers --------------------------------------------------------------------------- */
WEIR_INLINE void weir_event_end(struct weir_reply *r)
{
	if (r->type != WEIR_BODY_SSE && r->type != WEIR_BODY_NDJSON)
		return;
	r->events++;
	if ((r->event & WEIR_E_TEXT) || (r->event & (WEIR_E_EMPTY | WEIR_E_ROLE)) == WEIR_E_EMPTY)
		r->delta_events++;
	r->event = 0;
}

WEIR_INLINE void weir_number_commit(struct weir_parse *p, struct weir_reply *r, const struct weir_automaton *a, int dir, __u32 *ev)
{
	__u8 in_head = p->mode == WEIR_HEAD;
	__u8 bad = (p->flags & (WEIR_P_NEGATIVE | WEIR_P_FRACTION)) != 0;

	if (p->num_kind == WEIR_KIND_PROXY) {
		/* version and command, family, length; what they say is for user space */
		p->num_mode = WEIR_NUM_NONE;
		p->remain = p->num & 0xffff;
		p->mode = WEIR_PROXY;
		if (p->num >> 28 != 2 || p->remain > WEIR_PROXY_MAX) {
			*ev |= WEIR_EV_BAD_FRAMING | WEIR_EV_BAD;
			p->mode = WEIR_LOST;
		} else if (!p->remain) {
			*ev |= WEIR_EV_DONE;
		}
		return;
	}
	if (p->num_kind == WEIR_KIND_LENGTH) {
		if (bad || p->num_digits > 18 || ((p->flags & WEIR_P_LENGTH) && p->length != p->num)) {
			*ev |= WEIR_EV_BAD_FRAMING | WEIR_EV_BAD;
			p->mode = WEIR_LOST;
		} else {
			p->length = p->num;
			p->flags |= WEIR_P_LENGTH;
		}
	} else if (dir == WEIR_RESPONSE && p->num_kind == WEIR_KIND_STATUS) {
		if (bad || p->num_digits != 3 || p->num < 100) {
			*ev |= WEIR_EV_BAD;
			p->mode = WEIR_LOST;
		} else {
			r->status = (__u16)p->num;
		}
	} else if (dir == WEIR_RESPONSE) {
		__u32 slot = p->num_slot & (WEIR_TOK_LAST - 1);

		/* each answer of a batch tells of itself; a key that stands twice in one of them is added as well: where it ends is not known */
		if (r->type == WEIR_BODY_BATCH && slot < WEIR_TOK_COUNT && !(p->num_slot & WEIR_TOK_LAST))
			p->num += r->tokens[slot];
		if (bad || p->num_digits > 18 || p->num > WEIR_TOKENS_MAX) {
			*ev |= WEIR_EV_BAD_NUMBER;
		} else if (slot < WEIR_TOK_COUNT) {
			r->tokens[slot] = (__u32)p->num;
			r->token_mask |= (__u16)(1u << slot);
		}
	}
	p->flags &= (__u8)~(WEIR_P_NEGATIVE | WEIR_P_FRACTION);
	p->num_mode = WEIR_NUM_NONE;
	p->dfa = in_head ? a->root[dir == WEIR_REQUEST ? WEIR_ROOT_REQUEST_HEAD : WEIR_ROOT_RESPONSE_HEAD] : a->root[WEIR_ROOT_BODY];
}

WEIR_INLINE void weir_number_begin(struct weir_parse *p, __u8 kind, __u8 slot, __u8 mode)
{
	p->num = 0;
	p->num_digits = 0;
	p->num_kind = kind;
	p->num_slot = slot;
	p->num_mode = mode;
}

/*
 * The loops over single bytes keep their state in *p, behind a compiler barrier: the verifier then sees one unknown state per
 * byte, not every way that leads to it.
 */
#define WEIR_BARRIER() __asm__ __volatile__("" ::: "memory")
/* The compiler must use this very variable, whose bounds were checked, not something it worked out from the same parts. */
#ifdef __bpf__
#define WEIR_OPAQUE(x) __asm__ __volatile__("" : "+r"(x))
#else
#define WEIR_OPAQUE(x) ((void)0)
#endif

/* One byte of a number. 0: it belongs to it, 1: the number ended before it, 2: there is none, 3: it is the last one. */
WEIR_INLINE __u32 weir_number_byte(struct weir_parse *p, __u8 c)
{
	if (p->num_kind == WEIR_KIND_PROXY) {
		p->num = p->num << 8 | c;
		return ++p->num_digits == 4 ? 3 : 0;
	}
	if (c == ' ' || c == '\t' || (p->mode != WEIR_HEAD && (c == '\r' || c == '\n')))
		return p->num_mode >= WEIR_NUM_DIGITS;
	if (p->num_mode == WEIR_NUM_COLON) {
		p->num_mode = WEIR_NUM_START;
		return c == ':' ? 0 : 2;
	}
	if (c >= '0' && c <= '9') {
		if (p->num_mode == WEIR_NUM_REST)
			return 0;
		p->num_mode = WEIR_NUM_DIGITS;
		p->num = p->num * 10 + (__u64)(c - '0');
		if (p->num_digits < 100)
			p->num_digits++;
		return 0;
	}
	if (p->num_mode == WEIR_NUM_START) {
		/* An event over several lines: "data:" may stand between a key and its count. No value begins so, but for true. */
		if (p->mode != WEIR_HEAD && (c == 'd' || c == 'a' || c == 't' || c == ':'))
			return 0;
		p->flags |= WEIR_P_NEGATIVE;
		p->num_mode = WEIR_NUM_DIGITS;
		return c == '-' ? 0 : 2;
	}
	if (c == '.' || (c | 0x20) == 'e' || (p->num_mode == WEIR_NUM_REST && (c == '+' || c == '-'))) {
		p->flags |= WEIR_P_FRACTION;
		p->num_mode = WEIR_NUM_REST;
		return 0;
	}
	return 1;
}

/* Reads on in a number, in buf[from, to), up to the first byte that is not part of it. Leaves p->tmp behind it, and p->stop. */
WEIR_INLINE void weir_number_run(struct weir_parse *p, const __u8 *buf, __u32 from, __u32 to)
{
	p->tmp = from;
	p->stop = 0;
	WEIR_NO_UNROLL
	for (__u32 i = 0; WEIR_LINE_LOOP(i); i++) {
		__u32 at;

		WEIR_BARRIER();
		at = p->tmp;
		if (at >= to || at >= WEIR_STEP_MAX)
			break;
		p->stop = (__u8)weir_number_byte(p, buf[at]);
		if (p->stop && p->stop != 3)
			break;
		p->tmp = at + 1;
		if (p->stop)
			break;
	}
}

WEIR_INLINE __u32 weir_number(struct weir_parse *p, struct weir_reply *r, const struct weir_automaton *a, int dir, const __u8 *buf, __u32 from, __u32 to,
			      __u32 *ev)
{
	__u8 in_head = p->mode == WEIR_HEAD;
	__u32 over, used;

	WEIR_NUMBER_RUN(p, buf, from, to);
	WEIR_BARRIER();
	used = p->tmp - from;
	over = p->stop;
	if (over == 2) {
		if (p->num_kind != WEIR_KIND_TOKENS) {
			*ev |= WEIR_EV_BAD | WEIR_EV_BAD_FRAMING;
			p->mode = WEIR_LOST;
		}
		p->flags &= (__u8)~WEIR_P_NEGATIVE;
		p->num_mode = WEIR_NUM_NONE;
		p->dfa = in_head ? a->root[dir == WEIR_REQUEST ? WEIR_ROOT_REQUEST_HEAD : WEIR_ROOT_RESPONSE_HEAD] : a->root[WEIR_ROOT_BODY];
	} else if (over) {
		weir_number_commit(p, r, a, dir, ev);
	}
	return used;
}

/* ---- finish reasons ------------------------------------------------------------------------------- */
/*
 * The slices that show it to user space may begin behind its name, where a segment ends inside of it. So the completion record holds it,
 * too. The first one: behind vLLM's "finish_reason" comes a "stop_reason", the word that the generation stopped at.
 */
WEIR_INLINE void weir_finish_begin(struct weir_parse *p, struct weir_reply *r)
{
	if (r->finish_whole)
		return;
	r->finish_len = r->finish_whole = 0;
	__builtin_memset(r->finish, 0, sizeof(r->finish));
	p->num_mode = WEIR_NUM_TEXT;
}

/* Reads on in it, in buf[from, to). Answers how many bytes belong to it, with bit 16 where it ends before `to`. */
WEIR_INLINE __u32 weir_text_run(struct weir_reply *r, const __u8 *buf, __u32 from, __u32 to)
{
	__u32 used = 0;

	WEIR_NO_UNROLL
	for (; WEIR_LINE_LOOP(used) && used < WEIR_LINE_MAX; used++) {
		__u32 at = from + used, n;
		__u8 c;

		WEIR_OPAQUE(at);
		if (at >= to || at >= WEIR_STEP_MAX)
			break;
		c = buf[at];
		if (c == '"' || c == '\\' || c < ' ') { /* with an escape it is none that anybody knows */
			r->finish_whole = c == '"';
			return used | 1u << 16;
		}
		n = r->finish_len;
		WEIR_OPAQUE(n);
		if (n < WEIR_FINISH_MAX) {
			r->finish[n] = (char)c;
			r->finish_len = (__u8)(n + 1);
		}
	}
	return used;
}

/* ---- message boundaries --------------------------------------------------------------------------- */
WEIR_INLINE void weir_message_end(struct weir_parse *p, struct weir_reply *r, const struct weir_automaton *a, int dir, __u32 *ev)
{
	if (p->num_mode >= WEIR_NUM_DIGITS)
		weir_number_commit(p, r, a, dir, ev);
	if (dir == WEIR_RESPONSE && r->event)
		weir_event_end(r);
	*ev |= WEIR_EV_DONE;
	p->mode = WEIR_START; /* the caller reads head_len and flags, then calls weir_begin() */
}

WEIR_INLINE void weir_body_begin(struct weir_parse *p, const struct weir_automaton *a)
{
	p->dfa = a->root[WEIR_ROOT_BODY_START];
	p->num_mode = WEIR_NUM_NONE;
}

/* Inside a body, behind bytes that were not seen. */
WEIR_INLINE void weir_body_resume(struct weir_parse *p, const struct weir_automaton *a)
{
	p->dfa = a->root[WEIR_ROOT_BODY];
	p->num_mode = WEIR_NUM_NONE;
}

WEIR_INLINE void weir_head_end(struct weir_parse *p, struct weir_reply *r, const struct weir_automaton *a, int dir, __u32 *ev)
{
	if (dir == WEIR_RESPONSE) {
		if (r->status < 200 && r->status != 101) {
			*ev |= WEIR_EV_INTERIM;
			p->flags &= WEIR_P_NO_BODY;
			p->mode = WEIR_START;
			p->dfa = a->root[WEIR_ROOT_RESPONSE];
			r->status = 0;
			r->type = 0;
			return;
		}
		*ev |= WEIR_EV_HEAD;
		if (r->status == 101) {
			*ev |= WEIR_EV_TUNNEL;
			p->mode = r->event & WEIR_E_H2C ? WEIR_H2 : WEIR_TUNNEL;
			return;
		}
		r->event = 0;
		if ((p->flags & WEIR_P_NO_BODY) || r->status == 204 || r->status == 304) {
			weir_message_end(p, r, a, dir, ev);
			return;
		}
		if (p->flags & WEIR_P_ENCODED)
			r->flags |= WEIR_R_ENCODED;
		else if (r->type != WEIR_BODY_OTHER)
			p->flags |= WEIR_P_SCAN;
	} else {
		*ev |= WEIR_EV_HEAD;
	}
	weir_body_begin(p, a);
	if (p->flags & WEIR_P_CHUNKED) {
		p->mode = WEIR_CHUNK_SIZE;
		p->remain = 0;
		p->line = 0;
	} else if (p->flags & WEIR_P_LENGTH) {
		p->mode = WEIR_LENGTH;
		p->remain = p->length;
		if (!p->remain)
			weir_message_end(p, r, a, dir, ev);
	} else if (dir == WEIR_REQUEST) {
		weir_message_end(p, r, a, dir, ev);
	} else {
		p->mode = WEIR_CLOSE;
	}
}

/* The eight bytes at p, the first one lowest. */
WEIR_INLINE __u64 weir_load64(const __u8 *p)
{
	__u64 x;

#ifdef __bpf__
	x = *(const __u64 *)p; /* the machines that run BPF load unaligned; memcpy becomes eight loads */
#else
	__builtin_memcpy(&x, p, sizeof(x));
#endif
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	x = __builtin_bswap64(x);
#endif
	return x;
}

/* ---- the automaton -------------------------------------------------------------------------------- */
WEIR_INLINE void weir_act(struct weir_parse *p, struct weir_reply *r, const struct weir_automaton *a, int dir, __u32 *ev)
{
	__u32 s = p->dfa & (WEIR_STATES - 1);
	__u8 action = a->action[s], arg = a->arg[s];

	switch (action) {
	case WEIR_ACT_BAD:
		*ev |= WEIR_EV_BAD;
		p->mode = WEIR_LOST;
		return;
	case WEIR_ACT_METHOD:
		if (arg == 1)
			p->flags |= WEIR_P_NO_BODY;
		else if (arg == 2)
			p->flags |= WEIR_P_CONNECT;
		p->dfa = a->root[WEIR_ROOT_REQUEST_HEAD];
		return;
	case WEIR_ACT_STATUS:
		weir_number_begin(p, WEIR_KIND_STATUS, 0, WEIR_NUM_START);
		return;
	case WEIR_ACT_HEAD_END:
		weir_head_end(p, r, a, dir, ev);
		return;
	case WEIR_ACT_LENGTH:
		weir_number_begin(p, WEIR_KIND_LENGTH, 0, WEIR_NUM_START);
		return;
	case WEIR_ACT_CHUNKED:
		p->flags |= WEIR_P_CHUNKED;
		return;
	case WEIR_ACT_ENCODED:
		p->flags |= WEIR_P_ENCODED;
		return;
	case WEIR_ACT_H2:
		if (arg) {
			r->event |= dir == WEIR_RESPONSE ? WEIR_E_H2C : 0;
		} else {
			*ev |= WEIR_EV_TUNNEL;
			p->mode = WEIR_H2;
		}
		return;
	case WEIR_ACT_PROXY_LINE:
		if (p->head_len > WEIR_PROXY_LINE_MAX) {
			*ev |= WEIR_EV_BAD_FRAMING | WEIR_EV_BAD;
			p->mode = WEIR_LOST;
		} else {
			*ev |= WEIR_EV_DONE;
			p->mode = WEIR_PROXY;
		}
		return;
	case WEIR_ACT_PROXY:
		weir_number_begin(p, WEIR_KIND_PROXY, 0, WEIR_NUM_DIGITS);
		return;
	default:
		break;
	}
	if (dir != WEIR_RESPONSE)
		return;
	switch (action) {
	case WEIR_ACT_TYPE:
		r->type = arg;
		return;
	case WEIR_ACT_TOKENS_HEAD:
		weir_number_begin(p, WEIR_KIND_TOKENS, arg, WEIR_NUM_START);
		return;
	case WEIR_ACT_TOKENS:
		weir_number_begin(p, WEIR_KIND_TOKENS, arg, WEIR_NUM_COLON);
		return;
	case WEIR_ACT_CONTENT:
		r->event |= WEIR_E_TEXT;
		if (!(r->flags & WEIR_R_CONTENT)) {
			r->flags |= WEIR_R_CONTENT;
			*ev |= WEIR_EV_CONTENT;
		}
		return;
	case WEIR_ACT_EMPTY:
		r->event |= WEIR_E_EMPTY;
		return;
	case WEIR_ACT_ROLE:
		r->event |= WEIR_E_ROLE;
		return;
	case WEIR_ACT_FINISH:
		*ev |= WEIR_EV_HOT;
		if (arg)
			weir_finish_begin(p, r);
		return;
	case WEIR_ACT_ERROR:
		r->flags |= WEIR_R_ERROR;
		*ev |= WEIR_EV_HOT;
		return;
	case WEIR_ACT_EVENT_END:
		weir_event_end(r);
		return;
	case WEIR_ACT_SKIP:
		p->depth = 1;
		p->dfa = a->root[WEIR_ROOT_SKIP];
		return;
	case WEIR_ACT_ARRAY:
		/* what the head counted (TGI) is the sum already */
		if (r->type == WEIR_BODY_JSON && !r->token_mask)
			r->type = WEIR_BODY_BATCH;
		return;
	case WEIR_ACT_OPEN:
		p->depth = (__u16)(p->depth + (p->depth < 0xffff));
		return;
	case WEIR_ACT_CLOSE:
		if (p->depth)
			p->depth--;
		if (!p->depth)
			p->dfa = a->root[WEIR_ROOT_BODY];
		return;
	default:
		return;
	}
}

/* Opaque, so that it stays an addition: of an OR of two unknowns, which the compiler would make of it, verifiers up to 6.9 know nothing. */
WEIR_INLINE __u32 weir_next(const struct weir_automaton *a, __u32 s, __u32 byte)
{
	__u32 row = (s & (WEIR_STATES - 1)) << 8;

	WEIR_OPAQUE(row);
	return a->next[row + byte];
}

#define WEIR_EACH 0x0101010101010101ull

/* 0 where no byte of x is one of the four that lead out of the resting state. (Exact for "none"; Mycroft's test for a zero byte.) */
WEIR_INLINE __u64 weir_leaves(const __u64 *leave, __u64 x)
{
	__u64 a = x ^ leave[0], b = x ^ leave[1], c = x ^ leave[2], d = x ^ leave[3];

	return (((a - WEIR_EACH) & ~a) | ((b - WEIR_EACH) & ~b) | ((c - WEIR_EACH) & ~c) | ((d - WEIR_EACH) & ~d)) & WEIR_EACH << 7;
}

/* The same for a head, and its line feeds. */
WEIR_INLINE __u64 weir_line_ends(__u64 x)
{
	x ^= WEIR_EACH * '\n';
	return (x - WEIR_EACH) & ~x & WEIR_EACH << 7;
}

/* Walks buf[from, to) until a state with an action is reached. Leaves the bytes used, and bit 16 at a hit, in p->tmp. */
WEIR_INLINE void weir_walk(struct weir_parse *p, const struct weir_automaton *a, const __u8 *buf, __u32 from, __u32 to)
{
	__u32 s = p->dfa, used = 0;

	p->tmp = 0;
	if (from >= WEIR_STEP_MAX)
		return;
	if (to > WEIR_STEP_MAX)
		to = WEIR_STEP_MAX;
	/* eight bytes from one load, without a bounds check each */
	WEIR_NO_UNROLL
	for (; used < WEIR_STEP_MAX && WEIR_CAN_LOOP; used += 8) {
		__u32 at = from + used;
		__u64 x;

		WEIR_OPAQUE(at);
		if (at + 8 > to || at > WEIR_STEP_MAX - 8)
			break;
		x = weir_load64(buf + at);
		WEIR_TABLE(a);
		if (s == a->rest ? !weir_leaves(a->leave, x) : (s == a->rest_head[0] || s == a->rest_head[1]) && !weir_line_ends(x))
			continue;
		WEIR_UNROLL
		for (__u32 j = 1; j <= 8; j++, x >>= 8) {
			s = weir_next(a, s, x & 0xff);
			if (WEIR_UNLIKELY(s & WEIR_HIT)) {
				used += j;
				goto hit;
			}
		}
	}
	WEIR_NO_UNROLL
	for (; used < WEIR_STEP_MAX && WEIR_CAN_LOOP; used++) {
		__u32 at = from + used;

		WEIR_OPAQUE(at);
		if (at >= to || at >= WEIR_STEP_MAX)
			break;
		s = weir_next(a, s, buf[at]);
		if (WEIR_UNLIKELY(s & WEIR_HIT)) {
			used++;
			break;
		}
	}
hit:
	p->dfa = s & (WEIR_STATES - 1);
	p->tmp = used | (s & WEIR_HIT) << 1;
}

/* ---- chunked framing ------------------------------------------------------------------------------ */
enum weir_line { WEIR_LINE_MORE, WEIR_LINE_DATA, WEIR_LINE_END, WEIR_LINE_BAD };

/* One byte of chunked framing outside the data. */
WEIR_INLINE __u32 weir_line_byte(struct weir_parse *p, __u8 c)
{
	__u8 d;

	if (p->mode == WEIR_CHUNK_END) {
		if (c == '\r')
			return WEIR_LINE_MORE;
		p->mode = WEIR_CHUNK_SIZE;
		p->remain = 0;
		p->line = 0;
		return c == '\n' ? WEIR_LINE_MORE : WEIR_LINE_BAD;
	}
	if (p->mode == WEIR_TRAILER) {
		if (c == '\n') {
			if (!p->line)
				return WEIR_LINE_END;
			p->line = 0;
		} else if (c != '\r') {
			p->line = 1;
		}
		return WEIR_LINE_MORE;
	}
	if (c == '\n') {
		if (!p->line)
			return WEIR_LINE_BAD;
		if (p->remain)
			return WEIR_LINE_DATA;
		p->mode = WEIR_TRAILER;
		p->line = 0;
		return WEIR_LINE_MORE;
	}
	if (p->mode == WEIR_CHUNK_EXT)
		return WEIR_LINE_MORE;
	d = (__u8)(c - '0');
	if (d > 9) {
		d = (__u8)((c | 0x20) - 'a' + 10);
		if (d < 10)
			d = 255;
	}
	if (d < 16) {
		p->remain = p->remain << 4 | d;
		p->line++;
		return p->line > 15 ? WEIR_LINE_BAD : WEIR_LINE_MORE;
	}
	p->mode = WEIR_CHUNK_EXT;
	return p->line && (c == '\r' || c == ';' || c == ' ' || c == '\t') ? WEIR_LINE_MORE : WEIR_LINE_BAD;
}

/* Chunked framing in buf[from, to), up to the next data or the end. Leaves p->tmp behind what was used, and p->stop. */
WEIR_INLINE void weir_line_run(struct weir_parse *p, const __u8 *buf, __u32 from, __u32 to)
{
	p->tmp = from;
	p->stop = 0;
	WEIR_NO_UNROLL
	for (__u32 i = 0; WEIR_LINE_LOOP(i); i++) {
		__u32 at;

		WEIR_BARRIER();
		at = p->tmp;
		if (at >= to || at >= WEIR_STEP_MAX)
			break;
		p->tmp = at + 1;
		p->stop = (__u8)weir_line_byte(p, buf[at]);
		if (p->stop)
			break;
	}
}

WEIR_INLINE __u32 weir_chunk_line(struct weir_parse *p, struct weir_reply *r, const struct weir_automaton *a, int dir, const __u8 *buf, __u32 from, __u32 to,
				  __u32 *ev)
{
	__u32 used, stop;

	WEIR_LINE_RUN(p, buf, from, to);
	WEIR_BARRIER();
	used = p->tmp - from;
	stop = p->stop;
	if (stop == WEIR_LINE_DATA) {
		p->mode = WEIR_CHUNK_DATA;
	} else if (stop == WEIR_LINE_END) {
		weir_message_end(p, r, a, dir, ev);
	} else if (stop == WEIR_LINE_BAD) {
		*ev |= WEIR_EV_BAD | WEIR_EV_BAD_FRAMING;
		p->mode = WEIR_LOST;
	}
	return used;
}

/* ---- one step ------------------------------------------------------------------------------------- */
WEIR_INLINE void weir_consumed(struct weir_parse *p, struct weir_reply *r, const struct weir_automaton *a, int dir, __u64 n, __u32 *ev)
{
	if (p->mode != WEIR_LENGTH && p->mode != WEIR_CHUNK_DATA && p->mode != WEIR_PROXY)
		return;
	p->remain = n < p->remain ? p->remain - n : 0;
	if (p->remain)
		return;
	if (p->mode == WEIR_CHUNK_DATA)
		p->mode = WEIR_CHUNK_END;
	else if (p->mode == WEIR_PROXY)
		*ev |= WEIR_EV_DONE;
	else
		weir_message_end(p, r, a, dir, ev);
}

/* Looks at buf[from, to) up to the next action. May use nothing where a number ends right there. */
WEIR_INLINE __u32 weir_substep(struct weir_parse *p, struct weir_reply *r, const struct weir_automaton *a, int dir, const __u8 *buf, __u32 from, __u32 to,
			       __u32 *ev)
{
	__u8 mode = p->mode;
	__u32 used;

	if (mode >= WEIR_CHUNK_SIZE && mode <= WEIR_TRAILER && mode != WEIR_CHUNK_DATA)
		return weir_chunk_line(p, r, a, dir, buf, from, to, ev);
	if ((mode == WEIR_LENGTH || mode == WEIR_CHUNK_DATA) && to - from > p->remain)
		to = from + (__u32)p->remain;
	if (mode == WEIR_START)
		p->mode = WEIR_HEAD;
	if (p->num_mode == WEIR_NUM_TEXT) {
		used = WEIR_TEXT_RUN(r, buf, from, to);
		if (used >> 16)
			p->num_mode = WEIR_NUM_NONE;
		used &= 0xffff;
	} else if (p->num_mode) {
		used = weir_number(p, r, a, dir, buf, from, to, ev);
	} else {
		WEIR_WALK(p, a, buf, from, to);
		WEIR_BARRIER();
		used = p->tmp;
		if (mode <= WEIR_HEAD && p->head_len + (used & 0xffff) > WEIR_HEAD_MAX) {
			*ev |= WEIR_EV_TOO_LONG | WEIR_EV_BAD;
			p->mode = WEIR_LOST;
			return used & 0xffff;
		}
		if (mode <= WEIR_HEAD)
			p->head_len += used & 0xffff;
		if (used >> 16)
			weir_act(p, r, a, dir, ev);
		used &= 0xffff;
		if (p->num_mode == WEIR_NUM_TEXT) /* the byte that was the hit is its first */
			used--;
		if (mode > WEIR_HEAD)
			weir_consumed(p, r, a, dir, used, ev);
		return used;
	}
	if (mode <= WEIR_HEAD)
		p->head_len += used;
	else
		weir_consumed(p, r, a, dir, used, ev);
	return used;
}

/* The next action in buf[p->at, n). 1: the step is over. */
WEIR_INLINE __u32 weir_step_on(struct weir_parse *p, struct weir_reply *r, const struct weir_automaton *a, int dir, const __u8 *buf, __u32 n)
{
	__u32 from = p->at, ev = 0;

	if (from >= n || !weir_want(p, 1))
		return 1;
	p->at = (__u16)(from + weir_substep(p, r, a, dir, buf, from, n, &ev));
	p->ev |= (__u16)ev;
	return (ev & WEIR_EV_STOP) != 0;
}

/* After weir_want() answered n > 0: buf holds n bytes. Returns how many of them were used. */
WEIR_INLINE __u32 weir_step(struct weir_parse *p, struct weir_reply *r, const struct weir_automaton *a, int dir, const __u8 *buf, __u32 n, __u32 *ev)
{
	p->at = p->ev = 0;
	for (int i = 0; i < WEIR_SUBSTEPS; i++)
		if (weir_step_on(p, r, a, dir, buf, n))
			break;
	*ev |= p->ev;
	return p->at;
}

/* `n` bytes pass unseen, after weir_want() answered 0. Returns how many of them belong to this message. */
WEIR_INLINE __u64 weir_skip(struct weir_parse *p, struct weir_reply *r, const struct weir_automaton *a, int dir, __u64 n, __u32 *ev)
{
	if ((p->mode == WEIR_LENGTH || p->mode == WEIR_CHUNK_DATA || p->mode == WEIR_PROXY) && n > p->remain)
		n = p->remain;
	weir_consumed(p, r, a, dir, n, ev);
	return n;
}
#endif
