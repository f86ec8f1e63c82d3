/* h2_stream.c - streams as exchanges: what the meter does with a message of HTTP/1, done with headers and data. */
#include "decode/h2_internal.h"

/* ---- the table of a connection -------------------------------------------------------------------- */
static struct stream **stream_place(struct conn *c, uint32_t id)
{
	struct stream **at = &c->streams[(id >> 1) % STREAM_BUCKETS];

	while (*at && (*at)->id != id)
		at = &(*at)->chain;
	return at;
}

struct stream *stream_find(const struct conn *c, uint32_t id)
{
	return *stream_place((struct conn *)c, id);
}

static void stream_unlink(struct conn *c, struct stream *s)
{
	*(s->older ? &s->older->newer : &c->oldest) = s->newer;
	*(s->newer ? &s->newer->older : &c->newest) = s->older;
}

static void stream_link(struct conn *c, struct stream *s)
{
	s->older = c->newest;
	s->newer = NULL;
	*(c->newest ? &c->newest->newer : &c->oldest) = s;
	c->newest = s;
}

static void stream_drop(struct h2 *h, struct conn *c, struct stream *s)
{
	struct stream **at = stream_place(c, s->id);

	*at = s->chain;
	stream_unlink(c, s);
	for (int i = 0; i < 2; i++) {
		if (s->grpc[i])
			grpc_done(s->grpc[i]);
		h2_release(h, s->grpc[i]);
	}
	c->stream_count--;
	h->stats.open_streams--;
	h2_release(h, s);
}

/* ---- ends ----------------------------------------------------------------------------------------- */
/* Counters, and the completion record; without a record the request is counted as lost. */
static void settle(struct h2 *h, struct conn *c, struct stream *s, uint16_t flags, bool record)
{
	struct weir_done d;

	if (s->c.reply.flags & WEIR_R_ACTIVE)
		weir_response_head(&s->c, &h->more, h->now);
	record &= h->shed < WEIR_SHED_RECORDS && !s->known;
	weir_settle(&s->c, &h->more, h->now, flags, record ? &d : NULL);
	h->more.lost -= s->known; /* it was when its number was */
	h->stats.settled++;
	if (record) {
		d.type = WEIR_EVENT_DONE;
		d.key = c->key;
		h->opts.event(h->opts.ctx, &d, sizeof(d));
	}
	stream_drop(h, c, s);
}

/* All that was announced is there: a client that knows so may leave before the stream's formal end. */
static uint16_t how_ended(const struct stream *s)
{
	const struct weir_side *out = &s->c.out;
	bool whole = (s->c.reply.flags & WEIR_R_ACTIVE) && (out->p.flags & WEIR_P_LENGTH) && out->off >= out->p.head_len + out->p.length;

	return whole ? 0 : WEIR_DONE_ABORTED;
}

static void stream_evict(struct h2 *h, struct conn *c, struct stream *s)
{
	h->stats.evicted_streams++;
	settle(h, c, s, 0, false);
}

void streams_done(struct h2 *h, struct conn *c, bool evicted)
{
	while (c->oldest) {
		if (evicted)
			stream_evict(h, c, c->oldest);
		else
			settle(h, c, c->oldest, how_ended(c->oldest), true);
	}
}

/* ---- beginnings ----------------------------------------------------------------------------------- */
struct stream *stream_new(struct h2 *h, struct conn *c, uint32_t id)
{
	struct stream *s;

	if (c->stream_count >= H2_STREAMS_MAX)
		stream_evict(h, c, c->oldest);
	s = h2_alloc(h, sizeof(*s));
	if (!s) {
		h->stats.no_memory++;
		return NULL;
	}
	s->id = id;
	weir_conn_init(&s->c, h->opts.automaton, c->id, 1);
	*stream_place(c, id) = s;
	stream_link(c, s);
	c->stream_count++;
	h->stats.open_streams++;
	h->stats.streams++;
	return s;
}

/* A request whose head cannot be kept for want of memory still counts. */
static void request_lost(struct h2 *h, uint64_t n)
{
	h->more.requests += n;
	h->more.lost += n;
}

void stream_upgraded(struct h2 *h, struct conn *c, uint32_t request)
{
	struct stream *s = stream_new(h, c, 1);

	c->requests = request + 1;
	c->last_stream = 1;
	if (!s) {
		h->more.open--;
		return;
	}
	/* its head passed in HTTP/1, and was counted there; the answer that agreed to HTTP/2 came at once */
	s->request_over = true;
	s->c.popped = request;
	s->c.pushed = request + 1;
	s->c.open = 1;
	s->c.req[request & (WEIR_PIPELINE - 1)] = (struct weir_request){ .number = request, .first_ns = h->now };
}

/* ---- slices --------------------------------------------------------------------------------------- */
static void send_slice(struct h2 *h, struct conn *c, struct stream *s, int dir, uint64_t off, const uint8_t *p, size_t n, uint8_t flags)
{
	struct weir_slice *e = (struct weir_slice *)h->slice;
	struct weir_side *side = dir == WEIR_REQUEST ? &s->c.in : &s->c.out;

	*e = (struct weir_slice){
		.type = WEIR_EVENT_SLICE,
		.dir = (__u8)dir,
		.flags = (__u8)(flags | (side->flags & WEIR_S_GAP ? WEIR_SLICE_GAP : 0)),
		.len = (__u16)n,
		.status = dir == WEIR_RESPONSE ? s->c.reply.status : 0,
		.request = side->request,
		.head_len = side->p.head_len,
		.conn = c->id,
		.off = off,
		.ts = h->now,
		.key = c->key,
	};
	if (n)
		memcpy(e->data, p, n);
	side->sent += (uint32_t)n;
	h->opts.event(h->opts.ctx, e, sizeof(*e) + n);
	explicit_bzero(e->data, n);
}

/* Which bytes go on is what send_part() of bpf/meter.bpf.c decides, too: the first, the last, and what is hot in between. */
static void send_part(struct h2 *h, struct conn *c, struct stream *s, int dir, const uint8_t *p, size_t len, uint8_t flags)
{
	struct weir_side *side = dir == WEIR_REQUEST ? &s->c.in : &s->c.out;
	bool encoded = dir == WEIR_RESPONSE && (s->c.reply.flags & WEIR_R_ENCODED);
	uint64_t off = side->off, total, tail = len, cap;
	size_t first = 0;

	side->off += len;
	if (s->known || h->shed >= WEIR_SHED_RECORDS || (h->shed >= WEIR_SHED_SLICES && !(flags & WEIR_SLICE_HEAD_DONE)))
		return;
	cap = encoded ? WEIR_SLICE_ENCODED : dir == WEIR_REQUEST ? WEIR_SLICE_HEAD : WEIR_SLICE_TAIL + side->p.head_len;
	if (off < cap) {
		first = MIN(len, cap - off);
		if (len - first <= 256)
			first = len;
	}
	for (size_t at = 0; at < first; at += WEIR_SLICE_HEAD)
		send_slice(h, c, s, dir, off + at, p + at, MIN(first - at, WEIR_SLICE_HEAD), flags);
	if (first == len)
		return;
	if (side->p.flags & WEIR_P_LENGTH) {
		total = side->p.head_len + side->p.length;
		if (off + len + WEIR_SLICE_TAIL > total)
			tail = MAX(first, total > off + WEIR_SLICE_TAIL ? total - off - WEIR_SLICE_TAIL : 0);
	} else if (flags & WEIR_SLICE_HOT) {
		tail = len > first + WEIR_SLICE_HEAD / 2 ? len - WEIR_SLICE_HEAD / 2 : first;
	}
	if (tail >= len || side->sent >= (dir == WEIR_REQUEST ? WEIR_SLICE_HEAD + WEIR_SLICE_TAIL : WEIR_SLICE_RESPONSE))
		return;
	send_slice(h, c, s, dir, off + tail, p + tail, MIN(len - tail, WEIR_SLICE_HEAD), flags);
}

/* ---- gRPC: what its messages say goes on as JSON --------------------------------------------------- */
static void response_bytes(struct h2 *h, struct conn *c, struct stream *s, const uint8_t *p, size_t n);

struct writing {
	struct h2 *h;
	struct conn *c;
	struct stream *s;
};

static void on_request_text(void *ctx, const char *p, size_t n)
{
	struct writing *w = ctx;

	if (n)
		send_part(w->h, w->c, w->s, WEIR_REQUEST, (const uint8_t *)p, n, 0);
}

static void on_response_text(void *ctx, const char *p, size_t n)
{
	struct writing *w = ctx;

	if (n)
		response_bytes(w->h, w->c, w->s, (const uint8_t *)p, n);
}

static void grpc_bytes(struct h2 *h, struct conn *c, struct stream *s, int dir, const uint8_t *p, size_t n)
{
	struct writing w = { h, c, s };
	struct grpc_side *g = s->grpc[dir];

	g->emit = dir == WEIR_REQUEST ? on_request_text : on_response_text;
	g->ctx = &w;
	grpc_feed(g, p, n);
	g->ctx = NULL;
}

/* Without memory for it the call is counted, and its messages are not read. */
static void grpc_open(struct h2 *h, struct stream *s, int dir)
{
	struct span encoding = { h->head.encoding, h->head.encoding_len };

	if (!s->method)
		return;
	s->grpc[dir] = h2_alloc(h, sizeof(*s->grpc[dir]));
	if (s->grpc[dir])
		grpc_begin(s->grpc[dir], s->method, dir == WEIR_RESPONSE, encoding, &h->unpacking);
	else
		h->stats.no_memory++;
}

/* How a call ended stands behind its answer, and there alone. */
static void grpc_ended(struct h2 *h, struct stream *s)
{
	if (s->is_grpc && h->head.grpc_status >= 0 && (!s->c.reply.status || s->c.reply.status == 200))
		s->c.reply.status = (uint16_t)grpc_http_status((unsigned)h->head.grpc_status);
}

/* ---- requests ------------------------------------------------------------------------------------- */
static void request_head(struct h2 *h, struct conn *c, struct stream *s)
{
	struct weir_conn *x = &s->c;
	size_t n;

	x->pushed = x->popped = c->requests++;
	weir_request_begin(x, h->now);
	n = head_request(h);
	h->stats.cut_heads += h->head.cut;
	x->in.p.head_len = (uint32_t)n;
	x->in.p.mode = WEIR_CLOSE;
	if (span_eq((struct span){ h->head.method, h->head.method_len }, SPAN("HEAD")))
		x->in.p.flags |= WEIR_P_NO_BODY;
	if (h->head.has_length) {
		x->in.p.flags |= WEIR_P_LENGTH;
		x->in.p.length = h->head.length;
	}
	s->tunnel = h->head.connect;
	s->is_grpc = h->head.is_grpc;
	if (s->is_grpc) {
		s->method = grpc_method_find((struct span){ h->head.path, h->head.path_len });
		grpc_open(h, s, WEIR_REQUEST);
	}
	weir_request_head(x, &h->more, h->now);
	if (n)
		send_part(h, c, s, WEIR_REQUEST, (const uint8_t *)h->text, n, WEIR_SLICE_HEAD_DONE);
	weir_request_bytes(x, h->now);
	explicit_bzero(h->text, n);
}

/* Numbers go up by two. After a gap those that were left out stand for requests that nobody saw; each took ten bytes at least. */
static void request_numbers(struct h2 *h, struct conn *c, uint32_t id)
{
	struct side *side = &c->side[WEIR_REQUEST];
	uint64_t n = (id - c->last_stream) / 2 - 1;

	if (c->last_stream && side->missed) {
		n = MIN(n, side->missed / (H2_FRAME_HEAD + 1));
		request_lost(h, n);
		h->stats.skipped += n;
		c->skipped += n;
	}
	side->missed = 0;
	c->last_stream = id;
}

static void on_request(struct h2 *h, struct conn *c, uint32_t id)
{
	struct stream *s = stream_find(c, id);

	if (s && s->c.in.p.mode == WEIR_CLOSE) /* trailers */
		return;
	if (s || !(id & 1) || id <= c->last_stream) {
		h->stats.stray++;
		return;
	}
	request_numbers(h, c, id);
	s = stream_new(h, c, id);
	if (s)
		request_head(h, c, s);
	else
		request_lost(h, 1);
}

/* ---- responses ------------------------------------------------------------------------------------ */
/* The head through the automaton, for what it tells beside its status: types, encodings, counts. */
static void read_response_head(struct h2 *h, struct stream *s, size_t n)
{
	struct weir_conn *x = &s->c;
	const uint8_t *p = (const uint8_t *)h->text;
	uint32_t ev = 0;

	while (n && !(ev & (WEIR_EV_HEAD | WEIR_EV_BAD))) {
		uint32_t want = weir_want(&x->out.p, n), used = want ? weir_step(&x->out.p, &x->reply, h->opts.automaton, WEIR_RESPONSE, p, want, &ev) : 0;

		if (!want)
			break;
		p += used;
		n -= used;
	}
	h->stats.bad_numbers += (ev & WEIR_EV_BAD_NUMBER) != 0;
}

static void response_head(struct h2 *h, struct conn *c, struct stream *s)
{
	struct weir_conn *x = &s->c;
	size_t n;

	if (s->method)
		h->head.answer_type = grpc_answers_stream(s->method) ? "application/x-ndjson" : "application/json";
	n = head_response(h);
	h->stats.cut_heads += h->head.cut;
	x->unpaired = c->unpaired;
	weir_begin(&x->out.p, h->opts.automaton, WEIR_RESPONSE);
	weir_response_begin(x, h->now);
	c->unpaired = x->unpaired;
	read_response_head(h, s, n);
	if (!h->head.status)
		x->reply.status = 0;
	x->out.p.head_len = (uint32_t)n;
	if (h->head.unknown && !s->is_grpc && x->reply.type == WEIR_BODY_OTHER && x->out.p.mode == WEIR_CLOSE) {
		s->guess = true;
		x->reply.type = WEIR_BODY_SSE;
		x->out.p.flags |= WEIR_P_SCAN;
	}
	if (s->tunnel)
		x->out.p.flags &= (__u8)~WEIR_P_SCAN;
	if (h->shed >= WEIR_SHED_SCAN)
		x->out.p.flags &= (__u8)~WEIR_P_SCAN;
	if (h->head.has_length) {
		x->out.p.flags |= WEIR_P_LENGTH;
		x->out.p.length = h->head.length;
	}
	s->is_grpc |= h->head.is_grpc;
	grpc_ended(h, s); /* one that failed at once has no other head */
	if (s->is_grpc)
		grpc_open(h, s, WEIR_RESPONSE);
	weir_response_head(x, &h->more, h->now);
	x->reply.last_ns = h->now;
	send_part(h, c, s, WEIR_RESPONSE, (const uint8_t *)h->text, n, WEIR_SLICE_HEAD_DONE);
	explicit_bzero(h->text, n);
}

/* An answer to a request that was not seen; one whose number was counted already is not counted again. */
static struct stream *response_alone(struct h2 *h, struct conn *c, uint32_t id)
{
	struct stream *s;

	/* all requests were seen: this one was answered, or given up, before */
	if (!(id & 1) || (id <= c->last_stream && c->side[WEIR_REQUEST].whole)) {
		h->stats.stray++;
		return NULL;
	}
	s = stream_new(h, c, id);
	if (id > c->last_stream) {
		request_numbers(h, c, id);
	} else if (s && c->skipped) {
		c->skipped--;
		s->known = true;
		h->more.requests--; /* it is about to be counted again */
	}
	return s;
}

static void on_response(struct h2 *h, struct conn *c, uint32_t id)
{
	struct stream *s = stream_find(c, id);

	if (s && (s->c.reply.flags & WEIR_R_ACTIVE)) { /* trailers */
		grpc_ended(h, s);
		return;
	}
	if (h->head.status && h->head.status < 200)
		return;
	if (!s)
		s = response_alone(h, c, id);
	if (s)
		response_head(h, c, s);
}

static void response_bytes(struct h2 *h, struct conn *c, struct stream *s, const uint8_t *p, size_t n)
{
	struct weir_conn *x = &s->c;
	const uint8_t *from = p;
	size_t left = n;
	uint8_t flags = 0;

	if (s->guess && n) {
		s->guess = false;
		if (*p == '{' || *p == '[')
			x->reply.type = WEIR_BODY_JSON;
	}
	while (left && x->out.p.mode == WEIR_CLOSE && (x->out.p.flags & WEIR_P_SCAN)) {
		uint32_t ev = 0, used = weir_step(&x->out.p, &x->reply, h->opts.automaton, WEIR_RESPONSE, p, weir_want(&x->out.p, left), &ev);

		if ((ev & WEIR_EV_CONTENT) && !x->reply.content_ns)
			x->reply.content_ns = h->now;
		if (ev & WEIR_EV_HOT)
			x->out.flags |= WEIR_S_HOT;
		h->stats.bad_numbers += (ev & WEIR_EV_BAD_NUMBER) != 0;
		p += used;
		left -= used;
	}
	if (x->out.flags & WEIR_S_HOT)
		flags = WEIR_SLICE_HOT;
	x->reply.last_ns = h->now;
	send_part(h, c, s, WEIR_RESPONSE, from, n, flags);
}

/* ---- what frames bring ---------------------------------------------------------------------------- */
void stream_headers(struct h2 *h, struct conn *c, int dir, uint32_t id, const uint8_t *block, size_t n, bool spoilt, bool end)
{
	struct side *side = &c->side[dir];
	int r;

	head_init(&h->head);
	r = h2_hpack_block(&side->hpack, &h->mem, block, n, head_field, &h->head, &h->head.unknown);
	h->stats.undecodable += h->head.unknown;
	h->stats.bad_blocks += r == -EBADMSG;
	h->stats.no_memory += r == -ENOMEM;
	if (r < 0 || spoilt)
		h->head.unknown++; /* fields are missing, though nobody knows how many */
	if (!id)
		return; /* promised by the server: nobody's request */
	if (dir == WEIR_REQUEST)
		on_request(h, c, id);
	else
		on_response(h, c, id);
	explicit_bzero(h->head.fields, h->head.n);
	explicit_bzero(h->head.path, h->head.path_len);
	if (end)
		stream_end(h, c, dir, id);
}

void stream_data(struct h2 *h, struct conn *c, int dir, uint32_t id, const uint8_t *p, size_t n)
{
	struct stream *s = stream_find(c, id);

	if (!s) {
		h->stats.stray++;
		return;
	}
	if (s != c->newest) {
		stream_unlink(c, s);
		stream_link(c, s);
	}
	if (dir == WEIR_RESPONSE) {
		if (!(s->c.reply.flags & WEIR_R_ACTIVE))
			h->stats.stray++;
		else if (s->grpc[dir])
			grpc_bytes(h, c, s, dir, p, n);
		else if (s->is_grpc)
			s->c.out.off += n;
		else
			response_bytes(h, c, s, p, n);
		s->c.reply.last_ns = h->now;
		return;
	}
	if (s->grpc[dir])
		grpc_bytes(h, c, s, dir, p, n);
	else if (s->tunnel || s->request_over || s->is_grpc)
		s->c.in.off += n;
	else
		send_part(h, c, s, WEIR_REQUEST, p, n, 0);
	weir_request_bytes(&s->c, h->now);
}

void stream_data_missed(struct h2 *h, struct conn *c, int dir, uint32_t id, uint64_t n)
{
	struct stream *s = stream_find(c, id);

	if (!s)
		return;
	if (s->grpc[dir]) {
		grpc_missed(s->grpc[dir], n);
		n = 0; /* what it would have been in JSON nobody knows */
	}
	if (dir == WEIR_REQUEST) {
		s->c.in.flags |= WEIR_S_GAP;
		s->c.in.off += n;
		return;
	}
	s->c.out.flags |= WEIR_S_GAP;
	s->c.out.off += n;
	if (!(s->c.reply.flags & WEIR_R_ACTIVE))
		return;
	s->c.reply.flags |= WEIR_R_PARTIAL;
	if (s->c.out.p.mode == WEIR_CLOSE)
		weir_body_resume(&s->c.out.p, h->opts.automaton);
}

void stream_end(struct h2 *h, struct conn *c, int dir, uint32_t id)
{
	struct stream *s = stream_find(c, id);
	uint32_t ev = 0;

	if (!s)
		return;
	if (dir == WEIR_REQUEST) {
		/* tells how long it was, where its head did not */
		if (!s->request_over && !s->tunnel && !(s->c.in.p.flags & WEIR_P_LENGTH) && s->c.in.sent && h->shed < WEIR_SHED_SLICES)
			send_slice(h, c, s, WEIR_REQUEST, s->c.in.off, NULL, 0, WEIR_SLICE_MSG_DONE);
		s->request_over = true;
		return;
	}
	if (!(s->c.reply.flags & WEIR_R_ACTIVE))
		return;
	if (s->c.out.p.mode == WEIR_CLOSE)
		weir_message_end(&s->c.out.p, &s->c.reply, h->opts.automaton, WEIR_RESPONSE, &ev);
	h->stats.bad_numbers += (ev & WEIR_EV_BAD_NUMBER) != 0;
	settle(h, c, s, 0, true);
}

void stream_reset(struct h2 *h, struct conn *c, uint32_t id)
{
	struct stream *s = stream_find(c, id);

	if (s)
		settle(h, c, s, how_ended(s), true);
}
