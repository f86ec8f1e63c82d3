/*
 * ring.bpf.h - what goes up to user space: slices, completion records, and each client's fair share of the ring.
 */
#ifndef WEIR_BPF_RING_H
#define WEIR_BPF_RING_H

#define RING_MINIMUM 2048      /* bytes per epoch that any client may send while there is room: one ordinary request */
/* weir_client.ring_bytes: sent in this epoch, asked for in this epoch, and whether it asked for more than the minimum before */
#define RING_SENT 0xffffffffull
#define RING_ASKED(bytes) ((__u64)(bytes) << 32)
#define RING_BUSY (1ull << 63)

/*
 * May this client put `bytes` into the ring? Below half full: yes. Above, each client gets at most an eighth of what is free per
 * epoch (user space begins one with every drain), and the last eighth of the ring is for clients that were quiet in the epoch
 * before: so that one flooding client, or a few, cannot blind the agent to the others.
 * The answer carries the wake-up flag for the submit: one when the ring becomes half full, else none.
 */
__noinline int ring_allows(struct weir_client *cl, __u32 bytes)
{
	__u64 size = cfg_ring_bytes, used = bpf_ringbuf_query(&weir_ring, BPF_RB_AVAIL_DATA), epoch, sent;

	if (!cl)
		return -1;
	epoch = weir_control.ring_epoch;
	if (cl->ring_epoch != epoch) {
		cl->ring_bytes = cl->ring_epoch + 1 == epoch && (cl->ring_bytes & ~RING_BUSY) > RING_ASKED(RING_MINIMUM) ? RING_BUSY : 0;
		cl->ring_epoch = epoch;
	}
	__sync_fetch_and_add(&cl->ring_bytes, RING_ASKED(bytes));
	if (used * 2 >= size) {
		sent = (cl->ring_bytes & RING_SENT) + bytes;
		if (used >= size || (sent > (size - used) / 8 && sent > RING_MINIMUM))
			return -1;
		if ((cl->ring_bytes & RING_BUSY) && used + bytes > size - size / 8)
			return -1;
	}
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

#define SEND_RAW(ROOM)                                                                                                 \
	do {                                                                                                           \
		struct weir_raw *e = bpf_ringbuf_reserve(&weir_ring, sizeof(*e) + (ROOM), 0);                          \
                                                                                                                       \
		if (!e)                                                                                                \
			goto full;                                                                                     \
		raw_fill(e, c, k, g, r);                                                                                  \
		e->seq = g->seq + (r->off - g->at);                                                                    \
		e->len = n;                                                                                            \
		if (load_bytes(skb, r->off, e->data, n, ROOM))                                                         \
			e->len = 0;                                                                                    \
		bpf_ringbuf_submit(e, wake);                                                                           \
		r->off += n;                                                                                           \
		return r->off >= r->end;                                                                               \
	} while (0)

static __always_inline void raw_fill(struct weir_raw *e, const struct weir_conn *c, const struct weir_conn_key *k, const struct segment *g, const struct run *r)
{
	e->type = WEIR_EVENT_RAW;
	e->dir = (__u8)r->dir;
	e->flags = (c->flags & WEIR_C_UPGRADED ? WEIR_RAW_UPGRADED : 0) | (r->dir == WEIR_REQUEST && TCP_OF(g, valid) ? WEIR_RAW_TCP : 0);
	e->pad = 0;
	e->conn = c->id;
	e->ts = r->now;
	e->rcv_nxt = TCP_OF(g, rcv_nxt);
	e->lost[WEIR_REQUEST] = c->in.sent;
	e->lost[WEIR_RESPONSE] = c->out.sent;
	e->request = c->out.request;
	e->pad2 = 0;
	e->key = *k;
}

/* Sends the next piece of [r->off, r->end) of a connection of HTTP/2. 1: there is no more. What the ring does not take is counted. */
__noinline int send_raw(struct __sk_buff *skb, struct weir_conn *c, const struct weir_conn_key *k, const struct segment *g, struct run *r)
{
	struct weir_client *cl;
	__u32 n;
	int wake = -1;

	if (!c || !k || !g || !r || r->off >= r->end)
		return 1;
	/* the frames of a request are not told apart here: those that hold a prompt from those that do not */
	if ((c->flags & WEIR_C_GHOST) || (r->dir == WEIR_REQUEST && cfg_prompt_blind))
		return 1;
	cl = client_of(k, r->now);
	if (!cl)
		return 1;
	n = r->end - r->off;
	if (n > WEIR_RAW_MAX)
		n = WEIR_RAW_MAX;
	if (weir_control.shed < WEIR_SHED_SCAN)
		wake = ring_allows(cl, n + sizeof(struct weir_raw));
	if (wake < 0)
		goto full;
	if (n <= 448)
		SEND_RAW(448);
	if (n <= 2048)
		SEND_RAW(2048);
	SEND_RAW(WEIR_RAW_MAX);
full:
	n = r->end - r->off;
	if (r->dir == WEIR_REQUEST)
		c->in.sent += n;
	else
		c->out.sent += n;
	__sync_fetch_and_add(&cl->raw_lost_bytes, n);
	stat_add(weir_control.shed >= WEIR_SHED_SCAN ? WEIR_STAT_RAW_SHED : WEIR_STAT_RAW_FULL, 1);
	stat_add(WEIR_STAT_RAW_BYTES, n);
	return 1;
}

/* A connection of HTTP/2 is over. Small, and not part of anybody's share: without it user space keeps the connection long. */
static __always_inline void send_raw_end(const struct weir_conn *c, const struct weir_conn_key *k, __u64 now)
{
	struct weir_raw *e = bpf_ringbuf_reserve(&weir_ring, sizeof(*e), 0);

	if (!e) {
		stat_add(WEIR_STAT_RAW_FULL, 1);
		return;
	}
	e->type = WEIR_EVENT_RAW;
	e->dir = 0;
	e->flags = WEIR_RAW_END | (c->flags & WEIR_C_UPGRADED ? WEIR_RAW_UPGRADED : 0);
	e->pad = 0;
	e->len = 0;
	e->conn = c->id;
	e->ts = now;
	e->seq = e->rcv_nxt = 0;
	e->lost[WEIR_REQUEST] = c->in.sent;
	e->lost[WEIR_RESPONSE] = c->out.sent;
	e->request = c->out.request;
	e->pad2 = 0;
	e->key = *k;
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
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

#endif
