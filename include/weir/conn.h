/*
 * conn.h - one TCP connection of a watched server: sequence numbers, requests in flight, accounting.
 *
 * Pure state transitions, shared by bpf/meter.bpf.c and the degraded meter in user space: who calls
 * them looks up maps, loads bytes and sends events. Request state is written by ingress only (one CPU
 * at a time, weir_conn.lock), response state by egress only (the socket lock serialises it); what both
 * need is passed through the queue of requests in flight, which has one writer at each end.
 */
#ifndef WEIR_CONN_H
#define WEIR_CONN_H

#include "weir/meter.h"

/* weir_side.flags */
#define WEIR_S_STARTED 1
#define WEIR_S_GAP 2  /* bytes of the current message are missing */
#define WEIR_S_FIN 4
#define WEIR_S_HOT 16 /* a finish reason or an error was seen: what follows of this message is of interest */
#define WEIR_S_MID 8  /* first seen in the middle: no complaint if what comes is not HTTP */
#define WEIR_S_PLAIN 32 /* TLS: plaintext has been seen */
#define WEIR_S_RAW 64   /* HTTP/2: bytes of this side went up */

struct weir_side {
	__u32 next; /* sequence number expected */
	__u32 flags;
	__u64 off;  /* bytes of the current message so far */
	__u32 sent; /* of these, bytes sent up in slices; of HTTP/2: bytes of this direction that were not sent up */
	__u32 request; /* number of the message's request */
	struct weir_parse p;
};

/* A request in flight. */
struct weir_request {
	__u64 first_ns;
	__u32 bytes;            /* saturates at 4 GiB */
	__u32 head_us, last_us; /* after first_ns; saturate at 71 minutes */
	__u32 number;
};

/* weir_conn.flags */
#define WEIR_C_FROM_START 1 /* seen from its first byte on */
#define WEIR_C_DYING 2      /* over: whoever leaves last settles it */
#define WEIR_C_DEAD 4
#define WEIR_C_RESET 8      /* the request side is to start afresh at its next segment */
#define WEIR_C_GHOST 16     /* settled, kept for the bytes that leave after a reset; user space takes it away */
#define WEIR_C_TLS 32       /* its segments are ciphertext; what is metered comes from the server's TLS library (bpf/tls.bpf.c) */
#define WEIR_C_RAW 64       /* speaks HTTP/2: its bytes go up as they are */
#define WEIR_C_UPGRADED 128 /* ... since it was asked to by request out.request, which stream 1 answers */
#define WEIR_C_CUT 256      /* over, by the client's reset */

struct weir_conn {
	__u64 id;      /* user space relies on the first four fields staying here */
	__u64 last_ns;
	__u32 open;    /* requests without a complete response; a hint for user space */
	__u32 flags;
	__u32 users;   /* programs at work on this entry */
	__u32 pushed;  /* requests whose head is complete: written by ingress */
	__u32 popped;  /* of these, settled: written by egress */
	__u32 unpaired;
	__u64 head_bits; /* bit n % 64: request n was HEAD */
	__u32 bytes_in, bytes_out; /* not yet added to the client's counters */
	__u32 first; /* sequence number that the request side began with */
	__u32 lock;  /* of the request side */
	struct weir_side in, out;
	struct weir_reply reply;
	struct weir_request req[WEIR_PIPELINE];
	__u64 tls; /* address of the TLS object that speaks here; 0: none is known */
};

/* The socket's own view when a request segment passes; without it (listener, no tcp_sock) valid is 0. */
struct weir_tcp {
	__u32 rcv_nxt;
	__u32 rcv_end; /* end of the receive window */
	__u8 valid;
	__u8 fresh; /* no byte was received yet, or a listener: the connection begins here */
};

#define WEIR_NO_NUMBER 0x80000000u /* request numbers of responses without a request */

#ifndef WEIR_ADD
#define WEIR_ADD(field, n) __sync_fetch_and_add(&(field), (n))
#endif

/* Statistics that transitions want counted; the caller adds them to its counters. */
struct weir_notes {
	__u32 gap_bytes;
	__u8 gap, window, dup, resync;
};

WEIR_INLINE __u32 weir_us(__u64 from, __u64 to)
{
	__u64 us = to > from ? (to - from) / 1000 : 0;

	return us < 0xffffffffu ? (__u32)us : 0xffffffffu;
}

WEIR_INLINE void weir_conn_init(struct weir_conn *c, const struct weir_automaton *a, __u64 id, __u8 from_start)
{
	c->id = id;
	c->flags = from_start ? WEIR_C_FROM_START : 0;
	weir_begin(&c->in.p, a, WEIR_REQUEST);
	if (from_start)
		c->in.p.dfa = a->root[WEIR_ROOT_FIRST];
	weir_begin(&c->out.p, a, WEIR_RESPONSE);
}

WEIR_INLINE __u8 weir_pending(const struct weir_conn *c)
{
	return *(volatile const __u32 *)&c->pushed != c->popped;
}

/* ---- responses ------------------------------------------------------------------------------------ */

/* A response begins: which request does it answer? */
WEIR_INLINE void weir_response_begin(struct weir_conn *c, __u64 now)
{
	weir_reply_begin(&c->reply);
	c->reply.first_ns = now;
	c->reply.flags = WEIR_R_ACTIVE;
	c->out.off = 0;
	c->out.sent = 0;
	c->out.flags &= ~(__u32)(WEIR_S_GAP | WEIR_S_HOT);
	c->out.request = c->popped;
	if (!weir_pending(c)) {
		c->reply.flags |= WEIR_R_NO_REQUEST;
		c->out.request = WEIR_NO_NUMBER | c->unpaired;
		c->unpaired++;
		c->flags |= WEIR_C_RESET;
	} else if (c->head_bits >> (c->popped & 63) & 1) {
		c->out.p.flags |= WEIR_P_NO_BODY;
	}
}

/* Its head is complete, or it is clear that there is no head to wait for: a request nobody saw is counted now. */
WEIR_INLINE void weir_response_head(struct weir_conn *c, struct weir_client *cl, __u64 now)
{
	if (c->reply.flags & WEIR_R_COUNTED)
		return;
	c->reply.flags |= WEIR_R_COUNTED;
	if (!(c->reply.flags & WEIR_R_NO_REQUEST))
		return;
	WEIR_ADD(cl->requests, 1);
	WEIR_ADD(cl->open, 1);
	cl->last_ns = now;
	c->open++;
}

/* Inside a response whose framing is not known: scan for what can be found. */
WEIR_INLINE void weir_response_raw(struct weir_conn *c, const struct weir_automaton *a, __u64 now)
{
	if (!(c->reply.flags & WEIR_R_ACTIVE)) {
		weir_response_begin(c, now);
		c->reply.type = WEIR_BODY_SSE;
	}
	c->reply.flags |= WEIR_R_PARTIAL;
	c->out.p.mode = WEIR_RAW;
	c->out.p.flags |= WEIR_P_SCAN;
	weir_body_resume(&c->out.p, a);
}

/* Fills the completion record (type and key are the caller's) of the request about to be settled. */
WEIR_INLINE void weir_done_fill(const struct weir_conn *c, __u16 flags, __u32 number, struct weir_done *d)
{
	const struct weir_reply *r = &c->reply;
	const struct weir_request *q = &c->req[c->popped & (WEIR_PIPELINE - 1)];
	__u8 active = r->flags & WEIR_R_ACTIVE;

	d->pad = 0;
	d->pad2 = 0;
	d->flags = flags;
	d->conn = c->id;
	d->request = number;
	d->req_first_ns = d->req_head_ns = d->req_last_ns = d->req_bytes = 0;
	if (!(number & WEIR_NO_NUMBER) && q->number == number && q->first_ns) {
		d->req_first_ns = q->first_ns;
		d->req_head_ns = q->first_ns + (__u64)q->head_us * 1000;
		d->req_last_ns = q->first_ns + (__u64)q->last_us * 1000;
		d->req_bytes = q->bytes;
	}
	for (int i = 0; i < WEIR_TOK_COUNT; i++)
		d->tokens[i] = active ? r->tokens[i] : 0;
	d->token_mask = active ? r->token_mask : 0;
	d->resp_first_ns = active ? r->first_ns : 0;
	d->content_ns = active ? r->content_ns : 0;
	d->resp_last_ns = active ? r->last_ns : 0;
	d->resp_bytes = active ? c->out.off : 0;
	d->status = active ? r->status : 0;
	d->events = active ? r->events : 0;
	d->delta_events = active ? r->delta_events : 0;
	if (active && r->finish_whole)
		__builtin_memcpy(d->finish, r->finish, sizeof(d->finish));
	else
		__builtin_memset(d->finish, 0, sizeof(d->finish));
}

/*
 * Settles the oldest request in flight: its client's counters, and its completion record. Without room for the record (d is
 * NULL) the request is counted as lost.
 */
WEIR_INLINE void weir_settle(struct weir_conn *c, struct weir_client *cl, __u64 now, __u16 flags, struct weir_done *d)
{
	struct weir_reply *r = &c->reply;
	__u8 active = r->flags & WEIR_R_ACTIVE;
	__u32 number = active ? c->out.request : c->popped;
	__u16 status = active ? r->status : 0, mask = active ? r->token_mask : 0;
	__u64 prompt, completion;

	if (!active)
		flags |= WEIR_DONE_NO_RESPONSE;
	else if (r->type == WEIR_BODY_SSE || r->type == WEIR_BODY_NDJSON)
		flags |= WEIR_DONE_STREAM;
	if (r->flags & WEIR_R_PARTIAL)
		flags |= WEIR_DONE_PARTIAL;
	if (r->flags & WEIR_R_NO_REQUEST)
		flags |= WEIR_DONE_NO_REQUEST;
	if (r->flags & WEIR_R_ERROR)
		flags |= WEIR_DONE_ERROR;
	if (r->flags & WEIR_R_SLICE_LOST)
		flags |= WEIR_DONE_SLICE_LOST;
	if (r->flags & WEIR_R_ENCODED)
		flags |= WEIR_DONE_ENCODED;
	if (d)
		weir_done_fill(c, flags, number, d);
	else
		WEIR_ADD(cl->lost, 1);

	cl->last_ns = now;
	WEIR_ADD(cl->open, -1);
	if (c->open)
		c->open--;
	if (flags & WEIR_DONE_ABORTED)
		WEIR_ADD(cl->aborted, 1);
	if (status >= 500) {
		WEIR_ADD(cl->status_5xx, 1);
		if (!d)
			WEIR_ADD(cl->lost_5xx, 1);
	} else if (status >= 400) {
		WEIR_ADD(cl->status_4xx, 1);
		if (!d)
			WEIR_ADD(cl->lost_4xx, 1);
	} else if (status >= 300) {
		WEIR_ADD(cl->status_3xx, 1);
	} else if (status >= 200) {
		WEIR_ADD(cl->status_2xx, 1);
		if (flags & WEIR_DONE_ERROR) {
			WEIR_ADD(cl->stream_errors, 1);
			if (!d)
				WEIR_ADD(cl->lost_stream_errors, 1);
		}
	}
	if (weir_has_usage(mask)) {
		prompt = weir_prompt_tokens(mask, r->tokens);
		completion = weir_completion_tokens(mask, r->tokens);
		WEIR_ADD(cl->prompt_tokens, prompt);
		WEIR_ADD(cl->completion_tokens, completion);
		WEIR_ADD(cl->cached_tokens, weir_cached_tokens(mask, r->tokens));
		WEIR_ADD(cl->reasoning_tokens, weir_reasoning_tokens(r->tokens));
		if (!d) {
			WEIR_ADD(cl->lost_prompt_tokens, prompt);
			WEIR_ADD(cl->lost_completion_tokens, completion);
		}
	} else if (active && r->delta_events) {
		WEIR_ADD(cl->unreported, 1);
		WEIR_ADD(cl->estimated_tokens, r->delta_events);
	}
	if (!(number & WEIR_NO_NUMBER))
		c->popped++;
	r->flags = 0;
}

/* ---- requests ------------------------------------------------------------------------------------- */
WEIR_INLINE void weir_request_begin(struct weir_conn *c, __u64 now)
{
	struct weir_request *q = &c->req[c->pushed & (WEIR_PIPELINE - 1)];

	c->in.off = 0;
	c->in.sent = 0;
	c->in.flags &= ~(__u32)WEIR_S_GAP;
	c->in.request = c->pushed;
	if (c->pushed - *(volatile __u32 *)&c->popped >= WEIR_PIPELINE)
		return; /* deeper than we keep times for: counted, without them */
	q->number = c->pushed;
	q->first_ns = now;
	q->head_us = q->last_us = 0;
	q->bytes = 0;
}

WEIR_INLINE void weir_request_head(struct weir_conn *c, struct weir_client *cl, __u64 now)
{
	struct weir_request *q = &c->req[c->pushed & (WEIR_PIPELINE - 1)];
	__u64 bit = 1ull << (c->pushed & 63);

	if (q->number == c->pushed)
		q->head_us = q->last_us = weir_us(q->first_ns, now);
	if (c->in.p.flags & WEIR_P_NO_BODY)
		__sync_fetch_and_or(&c->head_bits, bit);
	else
		__sync_fetch_and_and(&c->head_bits, ~bit);
	__sync_fetch_and_add(&c->pushed, 1);
	c->open++;
	WEIR_ADD(cl->requests, 1);
	WEIR_ADD(cl->open, 1);
	cl->last_ns = now;
}

/* Bytes of a request passed, `now`: keeps its end time and size up to date. */
WEIR_INLINE void weir_request_bytes(struct weir_conn *c, __u64 now)
{
	struct weir_request *q = &c->req[c->in.request & (WEIR_PIPELINE - 1)];

	if (q->number != c->in.request)
		return;
	q->bytes = c->in.off < 0xffffffffu ? (__u32)c->in.off : 0xffffffffu;
	q->last_us = weir_us(q->first_ns, now);
}

/* ---- sequence numbers ----------------------------------------------------------------------------- */

/* `gap` bytes of this direction will never be seen. Answers events as weir_step() does. */
WEIR_INLINE __u32 weir_gap(struct weir_conn *c, const struct weir_automaton *a, int dir, __u32 gap, __u64 now, struct weir_notes *notes)
{
	struct weir_side *s = dir == WEIR_REQUEST ? &c->in : &c->out;
	struct weir_parse *p = &s->p;
	__u32 ev = 0;

	notes->gap = 1;
	notes->gap_bytes = gap;
	s->flags |= WEIR_S_GAP;
	if (p->mode >= WEIR_TUNNEL)
		return 0;
	if (dir == WEIR_RESPONSE && (p->flags & WEIR_P_SCAN) && (c->reply.flags & WEIR_R_ACTIVE))
		c->reply.flags |= WEIR_R_PARTIAL;
	if (p->mode == WEIR_LENGTH && gap <= p->remain) {
		s->off += gap;
		p->remain -= gap;
		weir_body_resume(p, a);
		if (!p->remain)
			weir_message_end(p, &c->reply, a, dir, &ev);
		return ev;
	}
	if (p->mode == WEIR_CLOSE) {
		s->off += gap;
		weir_body_resume(p, a);
		return 0;
	}
	if (dir == WEIR_RESPONSE && p->mode != WEIR_LOST) {
		s->off += gap;
		weir_response_raw(c, a, now);
	} else {
		p->mode = WEIR_LOST;
	}
	return ev;
}

/*
 * A segment [seq, seq + len) passes. Answers how many of its first bytes were seen before (len: ignore all of it), and claims the
 * rest. *ev gets what a gap before it brought about.
 */
WEIR_INLINE __u32 weir_claim(struct weir_conn *c, const struct weir_automaton *a, int dir, __u32 seq, __u32 len, const struct weir_tcp *t, __u64 now,
			     struct weir_notes *notes, __u32 *ev)
{
	struct weir_side *s = dir == WEIR_REQUEST ? &c->in : &c->out;
	__s32 diff;

	if (dir == WEIR_REQUEST && t->valid && (__s32)(seq - t->rcv_end) > 0) {
		notes->window = 1;
		return len;
	}
	if (dir == WEIR_REQUEST && t->valid && (__s32)(seq + len - t->rcv_nxt) <= 0) {
		notes->dup = 1; /* TCP has these bytes already */
		return len;
	}
	if (dir == WEIR_REQUEST && (c->flags & WEIR_C_RESET)) {
		/* A response came for a request that we did not see: what we wait for has passed already. */
		__sync_fetch_and_and(&c->flags, ~(__u32)WEIR_C_RESET);
		if ((s->flags & WEIR_S_STARTED) && (__s32)(seq - s->next) > 0) {
			s->p.mode = WEIR_LOST;
			s->next = seq;
		}
	}
	if (!(s->flags & WEIR_S_STARTED)) {
		s->flags |= WEIR_S_STARTED;
		s->next = seq;
		if (dir == WEIR_REQUEST)
			c->first = seq;
		if (!(c->flags & WEIR_C_FROM_START)) {
			s->flags |= WEIR_S_MID;
			if (dir == WEIR_RESPONSE && !weir_pending(c))
				weir_response_raw(c, a, now);
		}
	}
	diff = (__s32)(seq - s->next);
	if (diff < 0) {
		if ((__u32)-diff >= len) {
			notes->dup = 1;
			return len;
		}
		s->next = seq + len;
		return (__u32)-diff;
	}
	if (diff > 0) {
		/*
		 * On the request side a hole may still be filled: TCP's own rcv_nxt says whether it was. A body of known length
		 * needs no waiting. What waits is left to be skipped as a gap later: the sender will not send it twice.
		 */
		if (dir == WEIR_REQUEST && t->valid && (__s32)(t->rcv_nxt - s->next) <= 0 &&
		    !(s->p.mode == WEIR_LENGTH && (__u32)diff <= s->p.remain) && s->p.mode < WEIR_LOST)
			return len;
		*ev |= weir_gap(c, a, dir, (__u32)diff, now, notes);
		if (dir == WEIR_REQUEST)
			c->bytes_in += (__u32)diff;
		else
			c->bytes_out += (__u32)diff;
	}
	s->next = seq + len;
	return 0;
}

/* The first bytes of a TLS record (RFC 8446 section 5.1): a handshake, an alert, or, on a connection that was there before us, data. */
WEIR_INLINE __u8 weir_is_tls(const __u8 *b)
{
	return b[0] >= 20 && b[0] <= 23 && b[1] == 3 && b[2] <= 4;
}

/* From here on plaintext comes from elsewhere: what was made of the segments so far is void. */
WEIR_INLINE void weir_conn_is_tls(struct weir_conn *c, const struct weir_automaton *a)
{
	if (__sync_fetch_and_or(&c->flags, WEIR_C_TLS) & WEIR_C_TLS)
		return;
	weir_begin(&c->in.p, a, WEIR_REQUEST);
	weir_begin(&c->out.p, a, WEIR_RESPONSE);
	if (!(c->reply.flags & WEIR_R_COUNTED))
		c->reply.flags = 0;
}

/* The client's first bytes looked like TLS, the server's do not: it knows better. */
WEIR_INLINE void weir_conn_is_plain(struct weir_conn *c)
{
	__sync_fetch_and_and(&c->flags, ~(__u32)(WEIR_C_TLS | WEIR_C_FROM_START));
	c->in.flags &= ~(__u32)WEIR_S_STARTED;
	c->in.p.mode = WEIR_LOST;
}

/*
 * Plaintext comes, from a TLS library: in order, and no byte twice. The counterpart of weir_claim().
 */
WEIR_INLINE void weir_plain(struct weir_conn *c, const struct weir_automaton *a, int dir, __u64 now)
{
	struct weir_side *s = dir == WEIR_REQUEST ? &c->in : &c->out;

	if (dir == WEIR_REQUEST && (c->flags & WEIR_C_RESET)) {
		/* A response came for a request that we did not see: what we wait for has passed already. */
		__sync_fetch_and_and(&c->flags, ~(__u32)WEIR_C_RESET);
		if (s->p.mode != WEIR_START)
			s->p.mode = WEIR_LOST;
	}
	if (s->flags & WEIR_S_PLAIN)
		return;
	s->flags |= WEIR_S_PLAIN;
	if (c->flags & WEIR_C_FROM_START)
		return;
	s->flags |= WEIR_S_MID;
	if (dir == WEIR_RESPONSE && !weir_pending(c))
		weir_response_raw(c, a, now);
}

/* ---- HTTP/2: whose headers need more memory than there is here, so that user space reads it ------------ */

/* From now on both directions go up. On the response side: with this head, which answers the oldest request; who counts its end is user space. */
WEIR_INLINE void weir_raw_begin(struct weir_conn *c, int dir)
{
	__u32 flags = WEIR_C_RAW;

	if (dir == WEIR_RESPONSE && c->out.p.mode == WEIR_H2 && !(c->reply.flags & WEIR_R_NO_REQUEST)) {
		flags |= WEIR_C_UPGRADED;
		c->popped++;
		if (c->open)
			c->open--;
	}
	c->reply.flags = 0;
	c->in.sent = c->out.sent = 0;
	__sync_fetch_and_or(&c->flags, flags);
}

/*
 * As weir_claim(). A request's bytes pass also where they repeat others or fill a hole. *fresh gets how many bytes were never counted before,
 * those of a hole before this segment included.
 */
WEIR_INLINE __u32 weir_claim_raw(struct weir_conn *c, int dir, __u32 seq, __u32 len, const struct weir_tcp *t, struct weir_notes *notes, __u32 *fresh)
{
	struct weir_side *s = dir == WEIR_REQUEST ? &c->in : &c->out;
	__u32 end;

	*fresh = 0;
	if (dir == WEIR_REQUEST && t->valid && (__s32)(seq - t->rcv_end) > 0) {
		notes->window = 1;
		return len;
	}
	if (dir == WEIR_REQUEST && t->valid && (__s32)(seq + len - t->rcv_nxt) <= 0) {
		notes->dup = 1;
		return len;
	}
	if (!(s->flags & WEIR_S_STARTED)) {
		s->flags |= WEIR_S_STARTED;
		s->next = seq;
		if (dir == WEIR_REQUEST)
			c->first = seq;
	}
	end = seq + len - s->next;
	if ((__s32)end <= 0) {
		if (dir == WEIR_REQUEST)
			return 0;
		notes->dup = 1;
		return len;
	}
	s->next = seq + len;
	*fresh = end;
	if (dir == WEIR_REQUEST)
		return 0;
	if (end <= len)
		return len - end;
	notes->gap = 1;
	notes->gap_bytes = end - len;
	return 0;
}

/* Could a frame begin here? Its first byte is the highest of a length: no text begins with it. (RFC 9113 section 6) */
WEIR_INLINE __u8 weir_h2_frame(const __u8 *b, __u32 n)
{
	__u32 len, id;

	if (n < 9 || b[0] || b[3] > 9 || b[5] & 0x80)
		return 0;
	len = (__u32)b[1] << 8 | b[2];
	id = (__u32)b[5] << 24 | (__u32)b[6] << 16 | (__u32)b[7] << 8 | b[8];
	switch (b[3]) {
	case 0: /* DATA */
		return id && !(b[4] & ~0x09);
	case 1: /* HEADERS */
		return id && len && !(b[4] & ~0x2d);
	case 2: /* PRIORITY */
		return id && len == 5 && !b[4];
	case 3: /* RST_STREAM */
		return id && len == 4 && !b[4];
	case 4: /* SETTINGS */
		return !id && !(b[4] & ~0x01) && len % 6 == 0 && !(b[4] && len);
	case 5: /* PUSH_PROMISE */
		return id && len >= 4 && !(b[4] & ~0x0c);
	case 6: /* PING */
		return !id && len == 8 && !(b[4] & ~0x01);
	case 7: /* GOAWAY */
		return !id && len >= 8 && !b[4];
	case 8: /* WINDOW_UPDATE */
		return len == 4 && !b[4];
	default: /* CONTINUATION */
		return id && !(b[4] & ~0x04);
	}
}

/* ---- finding one's feet in a response --------------------------------------------------------------- */
enum weir_resync { WEIR_RESYNC_NONE, WEIR_RESYNC_HEAD, WEIR_RESYNC_CHUNK, WEIR_RESYNC_CHUNK_END };

#define WEIR_RESYNC_LOOK 16

/* Does a segment of a response begin with a status line, or with a chunk? */
WEIR_INLINE int weir_resync(const __u8 *b, __u32 n)
{
	__u32 i = 0, digits = 0;

	if (n >= 7 && b[0] == 'H' && b[1] == 'T' && b[2] == 'T' && b[3] == 'P' && b[4] == '/' && b[5] == '1' && b[6] == '.')
		return WEIR_RESYNC_HEAD;
	if (n >= 4 && b[0] == '\r' && b[1] == '\n')
		i = 2;
	WEIR_NO_UNROLL
	for (; i < WEIR_RESYNC_LOOK - 2; i++) {
		__u8 c;

		if (i + 2 > n || digits > 8)
			return WEIR_RESYNC_NONE;
		c = b[i];
		if ((c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')) {
			digits++;
			continue;
		}
		if (c != '\r' || !digits || b[i + 1] != '\n')
			return WEIR_RESYNC_NONE;
		return b[0] == '\r' ? WEIR_RESYNC_CHUNK_END : WEIR_RESYNC_CHUNK;
	}
	return WEIR_RESYNC_NONE;
}

/* The framing is known again: chunks of the response being read. */
WEIR_INLINE void weir_resync_chunk(struct weir_conn *c, int how)
{
	struct weir_parse *p = &c->out.p;

	p->mode = how == WEIR_RESYNC_CHUNK_END ? WEIR_CHUNK_END : WEIR_CHUNK_SIZE;
	p->remain = 0;
	p->line = 0;
	p->flags |= WEIR_P_SCAN | WEIR_P_CHUNKED;
}
#endif
