/* h2.c - the connections: their bytes in order, their frames to the streams they belong to. */
#include "decode/h2_internal.h"

#define BYTES_SPARE (2u << 20) /* below the ceiling, so that one event finds room whatever is in it */
#define BUCKETS 4096u

static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
#define PREFACE_LEN (sizeof(preface) - 1)
#define PREFACE_SEEN 4 /* of it, by which the kernel knows it */

/* ---- memory that is accounted --------------------------------------------------------------------- */
struct chunk {
	_Alignas(16) size_t n;
	char data[];
};

void *h2_alloc(struct h2 *h, size_t n)
{
	struct chunk *c;

	if (n > H2_BYTES_MAX || h->stats.bytes + n + sizeof(*c) > H2_BYTES_MAX)
		return NULL;
	c = calloc(1, sizeof(*c) + n);
	if (!c)
		return NULL;
	c->n = n;
	h->stats.bytes += n + sizeof(*c);
	return c->data;
}

/* What was in it may have been a key or a prompt. */
void *h2_release(struct h2 *h, void *p)
{
	struct chunk *c;

	if (!p)
		return NULL;
	c = (struct chunk *)((char *)p - offsetof(struct chunk, data));
	h->stats.bytes -= c->n + sizeof(*c);
	explicit_bzero(c->data, c->n);
	free(c);
	return NULL;
}

static void *mem_malloc(size_t n, void *h)
{
	return h2_alloc(h, n);
}

static void mem_free(void *p, void *h)
{
	h2_release(h, p);
}

static void *mem_calloc(size_t n, size_t size, void *h)
{
	return size && n > SIZE_MAX / size ? NULL : h2_alloc(h, n * size);
}

static void *mem_realloc(void *p, size_t n, void *h)
{
	void *more = h2_alloc(h, n);

	if (!more || !p)
		return more;
	memcpy(more, p, MIN(n, ((struct chunk *)((char *)p - offsetof(struct chunk, data)))->n));
	h2_release(h, p);
	return more;
}

/* ---- the table of connections --------------------------------------------------------------------- */
static struct conn **conn_place(struct h2 *h, uint64_t id)
{
	struct conn **at = &h->buckets[id % BUCKETS];

	while (*at && (*at)->id != id)
		at = &(*at)->chain;
	return at;
}

static void conn_unlink(struct h2 *h, struct conn *c)
{
	*(c->older ? &c->older->newer : &h->oldest) = c->newer;
	*(c->newer ? &c->newer->older : &h->newest) = c->older;
}

static void conn_link(struct h2 *h, struct conn *c)
{
	c->older = h->newest;
	c->newer = NULL;
	*(h->newest ? &h->newest->newer : &h->oldest) = c;
	h->newest = c;
}

static void waiting_drop(struct h2 *h, struct conn *c)
{
	struct waiting *w = c->waiting;

	c->waiting = w->next;
	c->waiting_bytes -= w->len;
	h2_release(h, w);
}

/* What was counted goes to the connection's client. */
static void tell_counts(struct h2 *h, const struct conn *c)
{
	static const struct weir_client nothing;

	if (memcmp(&h->more, &nothing, sizeof(nothing)) == 0)
		return;
	if (h->opts.count)
		h->opts.count(h->opts.ctx, &c->key, &h->more);
	h->more = nothing;
}

static void conn_drop(struct h2 *h, struct conn *c, bool evicted)
{
	struct conn **at = conn_place(h, c->id);

	streams_done(h, c, evicted);
	tell_counts(h, c);
	while (c->waiting)
		waiting_drop(h, c);
	for (int i = 0; i < 2; i++) {
		h2_hpack_forget(&c->side[i].hpack);
		h2_release(h, c->side[i].block.data);
	}
	*at = c->chain;
	conn_unlink(h, c);
	h->stats.open_connections--;
	h2_release(h, c);
}

static void make_room(struct h2 *h, const struct conn *keep)
{
	while (h->stats.bytes > H2_BYTES_MAX - BYTES_SPARE || h->stats.open_connections > H2_CONNS_MAX) {
		struct conn *c = h->oldest == keep ? keep->newer : h->oldest;

		if (!c)
			return;
		h->stats.evicted_connections++;
		conn_drop(h, c, true);
	}
}

static struct conn *conn_new(struct h2 *h, const struct weir_raw *e)
{
	struct conn *c = h2_alloc(h, sizeof(*c));

	if (!c)
		return NULL;
	c->id = e->conn;
	c->key = e->key;
	*conn_place(h, e->conn) = c;
	conn_link(h, c);
	h->stats.connections++;
	h->stats.open_connections++;
	if (e->flags & WEIR_RAW_UPGRADED)
		stream_upgraded(h, c, e->request);
	return c;
}

/* ---- header blocks -------------------------------------------------------------------------------- */
struct at {
	struct h2 *h;
	struct conn *c;
	int dir;
};

static void block_close(struct h2 *h, struct block *b)
{
	b->data = h2_release(h, b->data);
	b->len = b->cap = 0;
	b->open = b->spoilt = false;
}

static void block_begin(struct at *at, const struct h2_frame *f)
{
	struct side *side = &at->c->side[at->dir];
	struct block *b = &side->block;

	if (f->type == H2_CONTINUATION) {
		if (!b->open || b->stream != f->stream)
			at->h->stats.stray++;
		return;
	}
	b->open = true;
	b->stream = f->stream;
	b->end_stream = f->type == H2_HEADERS && (f->flags & H2_END_STREAM);
	b->pushed = f->type == H2_PUSH_PROMISE;
}

static void block_add(struct at *at, const struct h2_frame *f, const uint8_t *p, size_t n)
{
	struct block *b = &at->c->side[at->dir].block;
	uint32_t cap = b->cap ? b->cap : 512;
	uint8_t *more;

	if (!b->open || b->stream != f->stream || b->spoilt)
		return;
	if (n > H2_BLOCK_MAX - b->len) {
		at->h->stats.long_blocks++;
		b->spoilt = true;
		return;
	}
	while (cap < b->len + n)
		cap *= 2;
	if (cap > b->cap) {
		more = h2_alloc(at->h, cap);
		if (!more) {
			at->h->stats.no_memory++;
			b->spoilt = true;
			return;
		}
		if (b->len)
			memcpy(more, b->data, b->len);
		h2_release(at->h, b->data);
		b->data = more;
		b->cap = cap;
	}
	memcpy(b->data + b->len, p, n);
	b->len += (uint32_t)n;
}

static void block_end(struct at *at, const struct h2_frame *f)
{
	struct side *side = &at->c->side[at->dir];
	struct block *b = &side->block;

	if (!b->open || b->stream != f->stream || !(f->flags & H2_END_HEADERS))
		return;
	if (b->spoilt) {
		/* what it would have taught is missing from now on; that there is a message is known all the same */
		h2_hpack_forget(&side->hpack);
		b->len = 0;
	}
	stream_headers(at->h, at->c, at->dir, b->pushed ? 0 : b->stream, b->data, b->len, b->spoilt, b->end_stream);
	block_close(at->h, b);
}

/* ---- frames --------------------------------------------------------------------------------------- */
static bool has_headers(const struct h2_frame *f)
{
	return f->type == H2_HEADERS || f->type == H2_PUSH_PROMISE || f->type == H2_CONTINUATION;
}

static void on_begin(void *ctx, const struct h2_frame *f)
{
	struct at *at = ctx;
	struct block *b = &at->c->side[at->dir].block;

	if (b->open && f->type != H2_CONTINUATION) {
		/* no peer takes this */
		at->h->stats.bad_blocks++;
		h2_hpack_forget(&at->c->side[at->dir].hpack);
		block_close(at->h, b);
	}
	if (has_headers(f))
		block_begin(at, f);
}

static void on_body(void *ctx, const struct h2_frame *f, const uint8_t *p, size_t n)
{
	struct at *at = ctx;

	if (has_headers(f))
		block_add(at, f, p, n);
	else if (f->type == H2_DATA)
		stream_data(at->h, at->c, at->dir, f->stream, p, n);
}

static void on_end(void *ctx, const struct h2_frame *f)
{
	struct at *at = ctx;

	if (has_headers(f))
		block_end(at, f);
	else if (f->type == H2_DATA && (f->flags & H2_END_STREAM))
		stream_end(at->h, at->c, at->dir, f->stream);
	else if (f->type == H2_RST_STREAM)
		stream_reset(at->h, at->c, f->stream);
}

static void on_out_of_step(void *ctx)
{
	struct at *at = ctx;
	struct side *side = &at->c->side[at->dir];

	at->h->stats.bad_frames++;
	side->whole = false;
	h2_hpack_forget(&side->hpack); /* blocks may pass meanwhile */
	block_close(at->h, &side->block);
}

static void on_in_step(void *ctx)
{
	((struct at *)ctx)->h->stats.resyncs++;
}

static void on_unframed(void *ctx, size_t n)
{
	struct at *at = ctx;

	at->h->stats.unframed_bytes += n;
	if (at->dir == WEIR_REQUEST)
		at->c->side[WEIR_REQUEST].missed += n;
}

static const struct h2_frames_fns fns = { on_begin, on_body, on_end, on_out_of_step, on_in_step, on_unframed };

/* ---- bytes in order ------------------------------------------------------------------------------- */
/* The preface of a request side, or what the kernel left of it. Returns how many bytes of it are here. */
static size_t take_preface(struct side *s, const uint8_t *p, size_t n)
{
	size_t i = 0;

	if (!s->started) {
		s->preface = (uint8_t)(*p == preface[0] ? PREFACE_LEN : *p == preface[PREFACE_SEEN] ? PREFACE_LEN - PREFACE_SEEN : 0);
		s->whole = s->preface;
	}
	while (i < n && s->preface) {
		if (p[i] != preface[PREFACE_LEN - s->preface]) {
			s->preface = 0;
			s->whole = false;
			break;
		}
		s->preface--;
		i++;
	}
	return i;
}

static void feed(struct h2 *h, struct conn *c, int dir, const uint8_t *p, size_t n)
{
	struct side *s = &c->side[dir];
	struct at at = { h, c, dir };
	size_t skip = dir == WEIR_REQUEST && (s->preface || !s->started) ? take_preface(s, p, n) : 0;

	s->started = true;
	s->seq += (uint32_t)n;
	h2_frames_feed(&s->frames, p + skip, n - skip, &fns, &at);
}

static void gap(struct h2 *h, struct conn *c, int dir, uint32_t n)
{
	struct side *s = &c->side[dir];
	struct at at = { h, c, dir };
	const struct h2_frame *f = &s->frames.at;
	bool in_data = f->type == H2_DATA;
	uint32_t id = f->stream, body = s->frames.body;

	h->stats.gaps++;
	h->stats.gap_bytes += n;
	s->seq += n;
	s->whole = false;
	s->preface = 0;
	if (s->frames.inside && !s->frames.lost && in_data)
		stream_data_missed(h, c, dir, id, MIN(n, body));
	if (!h2_frames_gap(&s->frames, n, &fns, &at) && dir == WEIR_REQUEST)
		s->missed = MAX(s->missed, n); /* what the ring did not take is in it already */
}

/* Keeps bytes that arrived before those they follow, in order. False: no room. */
static bool keep_waiting(struct h2 *h, struct conn *c, const struct weir_raw *e)
{
	struct waiting **at = &c->waiting, *w;

	if (e->len > H2_AHEAD_MAX - c->waiting_bytes)
		return false;
	w = h2_alloc(h, sizeof(*w) + e->len);
	if (!w)
		return false;
	while (*at && (int32_t)((*at)->seq - e->seq) < 0)
		at = &(*at)->next;
	w->next = *at;
	w->seq = e->seq;
	w->len = e->len;
	w->ts = e->ts;
	memcpy(w->data, e->data, e->len);
	*at = w;
	c->waiting_bytes += e->len;
	return true;
}

static void take(struct h2 *h, struct conn *c, int dir, uint32_t seq, const uint8_t *p, uint32_t n)
{
	struct side *s = &c->side[dir];
	int32_t ahead = (int32_t)(seq - s->seq);

	if (ahead > 0)
		gap(h, c, dir, (uint32_t)ahead);
	else if ((uint32_t)-ahead >= n)
		return;
	else
		p += -ahead, n -= (uint32_t)-ahead;
	feed(h, c, dir, p, n);
}

/* Those whose turn has come; `all`: the others too, for what they wait for will not come. */
static void take_waiting(struct h2 *h, struct conn *c, bool all)
{
	while (c->waiting && (all || (int32_t)(c->waiting->seq - c->side[WEIR_REQUEST].seq) <= 0)) {
		struct waiting *w = c->waiting;

		take(h, c, WEIR_REQUEST, w->seq, w->data, w->len);
		waiting_drop(h, c);
	}
}

static void on_piece(struct h2 *h, struct conn *c, const struct weir_raw *e)
{
	struct side *s = &c->side[e->dir], *in = &c->side[WEIR_REQUEST];
	bool passed; /* TCP has what we wait for, or the ring did not take it: it will not come */

	if (!s->started) {
		s->seq = e->seq;
		s->lost = e->lost[e->dir];
	}
	passed = e->dir == WEIR_RESPONSE || !(e->flags & WEIR_RAW_TCP) || (int32_t)(e->rcv_nxt - s->seq) > 0 || e->lost[e->dir] != s->lost;
	s->lost = e->lost[e->dir];
	if (e->lost[WEIR_REQUEST] != c->requests_lost) {
		/* known from the answers too: heads may never be seen, but their numbers will */
		in->missed += e->lost[WEIR_REQUEST] - c->requests_lost;
		in->whole = false;
		c->requests_lost = e->lost[WEIR_REQUEST];
	}
	if (c->waiting && passed)
		take_waiting(h, c, true);
	if (!passed && (int32_t)(e->seq - s->seq) > 0) {
		if (keep_waiting(h, c, e))
			return;
		take_waiting(h, c, true);
	}
	take(h, c, e->dir, e->seq, (const uint8_t *)e->data, e->len);
	take_waiting(h, c, false);
}

int h2_event(struct h2 *h, const void *event, size_t n)
{
	const struct weir_raw *e = event;
	struct conn *c;

	if (n < sizeof(*e) || e->type != WEIR_EVENT_RAW || e->len > n - sizeof(*e) || e->len > WEIR_RAW_MAX || e->dir > WEIR_RESPONSE)
		return -EBADMSG;
	h->now = e->ts;
	c = *conn_place(h, e->conn);
	if (!c && (e->flags & WEIR_RAW_END) && !(e->flags & WEIR_RAW_UPGRADED))
		return 0;
	if (!c)
		c = conn_new(h, e);
	if (!c) {
		h->stats.no_memory++;
		return -ENOMEM;
	}
	conn_unlink(h, c);
	conn_link(h, c);
	make_room(h, c);
	if (e->flags & WEIR_RAW_END) {
		take_waiting(h, c, true);
		conn_drop(h, c, false);
		return 0;
	}
	if (e->len)
		on_piece(h, c, e);
	tell_counts(h, c);
	return 0;
}

/* ---- life ----------------------------------------------------------------------------------------- */
int h2_new(const struct h2_opts *opts, struct h2 **ret)
{
	struct h2 *h = calloc(1, sizeof(*h));

	if (!h)
		return -ENOMEM;
	h->opts = *opts;
	h->mem = (nghttp2_mem){ h, mem_malloc, mem_free, mem_calloc, mem_realloc };
	h->buckets = calloc(BUCKETS, sizeof(*h->buckets));
	if (!h->buckets) {
		free(h);
		return -ENOMEM;
	}
	*ret = h;
	return 0;
}

struct h2 *h2_free(struct h2 *h)
{
	if (!h)
		return NULL;
	h->opts.count = NULL;
	h->shed = WEIR_SHED_RECORDS; /* nobody is told any more */
	while (h->oldest)
		conn_drop(h, h->oldest, true);
	free(h->buckets);
	explicit_bzero(h, sizeof(*h));
	free(h);
	return NULL;
}

void h2_set_shed(struct h2 *h, enum weir_shed level)
{
	h->shed = level;
}

void h2_streams(const struct h2 *h, void (*tell)(void *ctx, uint64_t conn, uint32_t request, int64_t tokens), void *ctx)
{
	for (const struct conn *c = h->oldest; c; c = c->newer)
		for (const struct stream *s = c->oldest; s; s = s->newer) {
			const struct weir_reply *r = &s->c.reply;
			bool reported = r->token_mask & (1u << WEIR_TOK_COMPLETION | 1u << WEIR_TOK_ALT_COMPLETION);
			uint64_t tokens = reported ? weir_completion_tokens(r->token_mask, r->tokens) : r->delta_events;

			if ((r->flags & WEIR_R_ACTIVE) && tokens)
				tell(ctx, c->id, s->c.out.request, (int64_t)tokens);
		}
}

const struct h2_stats *h2_stats(const struct h2 *h)
{
	return &h->stats;
}
