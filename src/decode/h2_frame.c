/* h2_frame.c - frames of HTTP/2 (RFC 9113 section 4), and how to find them again. */
#include "decode/h2_frame.h"

#include "weir/conn.h"

#define CHAIN_MAX 4 /* frames in a row that are looked at before a place is believed */

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static struct h2_frame frame_of(const uint8_t *p)
{
	return (struct h2_frame){ .len = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2], .type = p[3], .flags = p[4], .stream = get32(p + 5) & 0x7fffffff };
}

/*
 * Would a peer take this frame? What it must answer with the end of the connection is none. Flags without a meaning and types not
 * known are to be ignored, by peers and by us.
 */
static bool acceptable(const struct h2_frame *f)
{
	switch (f->type) {
	case H2_DATA:
	case H2_HEADERS:
	case H2_CONTINUATION:
		return f->stream;
	case H2_PUSH_PROMISE:
		return f->stream && f->len >= 4;
	case H2_PRIORITY:
		return f->stream && f->len == 5;
	case H2_RST_STREAM:
		return f->stream && f->len == 4;
	case H2_SETTINGS:
		return !f->stream && f->len % 6 == 0;
	case H2_PING:
		return !f->stream && f->len == 8;
	case H2_GOAWAY:
		return !f->stream && f->len >= 8;
	case H2_WINDOW_UPDATE:
		return f->len == 4;
	default:
		return true;
	}
}

/* Do frames follow one another from p on? Where the piece begins with one that goes beyond it, that is all there is to see. */
static bool chain_begins(const uint8_t *p, size_t n, bool first)
{
	size_t at = 0;

	for (int i = 0; i < CHAIN_MAX; i++) {
		if (n - at < H2_FRAME_HEAD)
			return i > 0 && at == n;
		if (!weir_h2_frame(p + at, (uint32_t)MIN(n - at, UINT32_MAX)))
			return false;
		at += H2_FRAME_HEAD + frame_of(p + at).len;
		if (at > n)
			return first || i > 0;
	}
	return true;
}

static void go_lost(struct h2_frames *s, const struct h2_frames_fns *fns, void *ctx)
{
	s->lost = true;
	s->inside = false;
	s->have = 0;
	s->prefix = s->body = s->padding = 0;
	fns->out_of_step(ctx);
}

static void frame_over(struct h2_frames *s, const struct h2_frames_fns *fns, void *ctx)
{
	s->inside = false;
	s->have = 0;
	fns->end(ctx, &s->at);
}

/* The head is complete. */
static void frame_begin(struct h2_frames *s, const struct h2_frames_fns *fns, void *ctx)
{
	s->at = frame_of(s->head);
	if (!acceptable(&s->at) || (!s->sure && !weir_h2_frame(s->head, H2_FRAME_HEAD))) {
		go_lost(s, fns, ctx);
		fns->unframed(ctx, H2_FRAME_HEAD);
		return;
	}
	s->sure = true;
	s->inside = true;
	s->prefix = 0;
	s->padding = 0;
	s->pad_known = true;
	if (s->at.type == H2_DATA || s->at.type == H2_HEADERS || s->at.type == H2_PUSH_PROMISE) {
		s->pad_known = !(s->at.flags & H2_PADDED);
		s->prefix = !s->pad_known;
	}
	if (s->at.type == H2_HEADERS && (s->at.flags & H2_WITH_PRIORITY))
		s->prefix += 5;
	if (s->at.type == H2_PUSH_PROMISE)
		s->prefix += 4;
	if (s->prefix > s->at.len) {
		go_lost(s, fns, ctx);
		return;
	}
	s->body = s->at.len - s->prefix;
	fns->begin(ctx, &s->at);
	if (!s->at.len)
		frame_over(s, fns, ctx);
}

/* Takes what there is of the frame off the bytes at p. Returns how many it took. */
static size_t frame_read(struct h2_frames *s, const uint8_t *p, size_t n, const struct h2_frames_fns *fns, void *ctx)
{
	size_t take;

	if (s->prefix) {
		if (!s->pad_known) {
			s->pad_known = true;
			if (*p > s->body) {
				go_lost(s, fns, ctx);
				return 1;
			}
			s->padding = *p;
			s->body -= *p;
			take = 1;
		} else {
			take = MIN(n, s->prefix);
		}
		s->prefix -= (uint32_t)take;
	} else if (s->body) {
		take = MIN(n, s->body);
		s->body -= (uint32_t)take;
		fns->body(ctx, &s->at, p, take);
	} else {
		take = MIN(n, s->padding);
		s->padding -= (uint32_t)take;
	}
	if (!s->prefix && !s->body && !s->padding)
		frame_over(s, fns, ctx);
	return take;
}

/* Out of step: how many bytes to pass over until frames begin; all of them where they do not. */
static size_t search(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i + H2_FRAME_HEAD <= n; i++)
		if (!p[i] && chain_begins(p + i, n - i, i == 0))
			return i;
	return n;
}

void h2_frames_feed(struct h2_frames *s, const uint8_t *p, size_t n, const struct h2_frames_fns *fns, void *ctx)
{
	while (n) {
		size_t take;

		if (s->lost) {
			take = search(p, n);
			if (take)
				fns->unframed(ctx, take);
			if (take < n) {
				s->lost = false;
				fns->in_step(ctx);
			}
		} else if (!s->inside) {
			take = MIN(n, (size_t)(H2_FRAME_HEAD - s->have));
			memcpy(s->head + s->have, p, take);
			s->have = (uint8_t)(s->have + take);
			if (s->have == H2_FRAME_HEAD)
				frame_begin(s, fns, ctx);
		} else {
			take = frame_read(s, p, n, fns, ctx);
		}
		p += take;
		n -= take;
	}
}

bool h2_frames_gap(struct h2_frames *s, uint64_t n, const struct h2_frames_fns *fns, void *ctx)
{
	bool headers = s->at.type == H2_HEADERS || s->at.type == H2_PUSH_PROMISE || s->at.type == H2_CONTINUATION;

	if (!s->lost && s->inside && !headers && !s->prefix && n <= (uint64_t)s->body + s->padding) {
		uint32_t body = (uint32_t)MIN(n, s->body);

		s->body -= body;
		s->padding -= (uint32_t)n - body;
		if (!s->body && !s->padding)
			frame_over(s, fns, ctx);
		return true;
	}
	if (!s->lost)
		go_lost(s, fns, ctx);
	return false;
}
