/*
 * assemble_unpack.c - compressed responses: what the kernel could not read, read after the end.
 *
 * The wire bytes go through the meter for their framing, the body through its decoder (unpack.h), and what comes out through
 * the meter again, as a body without framing.
 */
#include "decode/assemble_internal.h"
#include "decode/http.h"
#include "decode/unpack.h"

#include "weir/meter.h"

#define KEEP_MAX 16384 /* of the text: its beginning, then its last half again and again */

struct unpacker {
	const struct weir_automaton *dfa;
	struct weir_parse parse;
	struct weir_reply reply;
	struct unpacked *ret;
};

static int keep_text(struct unpacked *u, const uint8_t *p, size_t n)
{
	while (n) {
		size_t take;

		if (!u->text) {
			u->text = malloc(KEEP_MAX);
			if (!u->text)
				return -ENOMEM;
			u->cap = KEEP_MAX;
		}
		if (u->n == u->cap) {
			/* the third quarter goes; a line torn at the seam is passed over by its reader */
			memmove(u->text + u->cap / 2, u->text + u->cap / 4 * 3, u->cap / 4);
			u->n -= u->cap / 4;
		}
		take = MIN(n, u->cap - u->n);
		memcpy(u->text + u->n, p, take);
		u->n += take;
		p += take;
		n -= take;
	}
	return 0;
}

static void scan_text(struct unpacker *x, const uint8_t *p, size_t n)
{
	while (n) {
		uint32_t want = weir_want(&x->parse, n), ev = 0, used;

		if (!want)
			return;
		used = weir_step(&x->parse, &x->reply, x->dfa, WEIR_RESPONSE, p, want, &ev);
		p += used;
		n -= used;
	}
}

static int on_text(void *ctx, const uint8_t *p, size_t n)
{
	struct unpacker *x = ctx;
	int r = keep_text(x->ret, p, n);

	scan_text(x, p, n);
	return r;
}

int unpack_response(const struct assemble *a, const struct pending *p, struct unpacked *ret)
{
	const struct pieces *s = &p->side[WEIR_RESPONSE];
	CLEANUP(unpack_freep) struct unpack *packed = NULL;
	struct unpacker x = { .dfa = a->opts.automaton, .ret = ret };
	struct weir_parse wire = { 0 };
	struct weir_reply head = { 0 };
	struct http_head h;
	const uint8_t *at;
	size_t left;
	int r = 0;

	memset(ret, 0, sizeof(*ret));
	if (!s->count || s->piece[0].off)
		return -ENODATA;
	at = (const uint8_t *)s->buf + s->piece[0].at;
	left = s->piece[0].len;
	if (http_parse_head((struct span){ (const char *)at, left }, &h) < 0 || !h.complete)
		return -ENODATA;
	r = unpack_open(http_header(&h, "content-encoding"), &packed);
	if (r < 0)
		return r;
	weir_begin(&wire, x.dfa, WEIR_RESPONSE);
	while (left && r >= 0) {
		uint32_t want = weir_want(&wire, left), ev = 0, used;

		if (want) {
			used = weir_step(&wire, &head, x.dfa, WEIR_RESPONSE, at, want, &ev);
			if (ev & WEIR_EV_HEAD) {
				x.reply.type = head.type;
				x.parse.mode = WEIR_CLOSE;
				x.parse.flags = WEIR_P_SCAN;
				weir_body_begin(&x.parse, x.dfa);
			}
		} else if (wire.mode >= WEIR_LOST) {
			r = -EBADMSG;
			break;
		} else {
			/* bytes that the framing passes over are the body's */
			used = (uint32_t)weir_skip(&wire, &head, x.dfa, WEIR_RESPONSE, left, &ev);
			r = unpack_feed(packed, at, used, on_text, &x);
		}
		if (ev & (WEIR_EV_BAD | WEIR_EV_DONE))
			break;
		at += used;
		left -= used;
	}
	weir_message_end(&x.parse, &x.reply, x.dfa, WEIR_RESPONSE, &(uint32_t){ 0 });
	ret->whole = r == 1;
	ret->token_mask = x.reply.token_mask;
	memcpy(ret->tokens, x.reply.tokens, sizeof(ret->tokens));
	ret->events = x.reply.events;
	ret->delta_events = x.reply.delta_events;
	ret->error = x.reply.flags & WEIR_R_ERROR;
	ret->content = x.reply.flags & WEIR_R_CONTENT;
	ret->stream = head.type == WEIR_BODY_SSE || head.type == WEIR_BODY_NDJSON;
	return r == -ENOMEM ? r : 0;
}

void unpacked_done(struct unpacked *u)
{
	if (u->text)
		explicit_bzero(u->text, u->n);
	free(u->text);
	u->text = NULL;
}
