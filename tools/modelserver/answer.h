/*
 * answer.h - bytes out, and answers made of them: each count that a response carries gets its mark (truth.h).
 */
#ifndef MODELSERVER_ANSWER_H
#define MODELSERVER_ANSWER_H

#include <limits.h>
#include <sys/epoll.h>

#include "server.h"

/* ---- bytes out --------------------------------------------------------------------------------------- */
static void conn_watch(struct worker *w, struct conn *c, bool writable)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLRDHUP | (writable ? EPOLLOUT : 0u), .data.ptr = c };

	if (c->writable_wanted != writable)
		epoll_ctl(w->epoll, EPOLL_CTL_MOD, c->fd, &ev);
	c->writable_wanted = writable;
}

/* Writes what there is. False when the connection is gone. */
static bool conn_flush(struct worker *w, struct conn *c)
{
	while (c->out_at < c->out.n) {
		ssize_t n = send(c->fd, c->out.p + c->out_at, c->out.n - c->out_at, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			conn_watch(w, c, true);
			return true;
		}
		if (n < 0)
			return false;
		c->out_at += (size_t)n;
	}
	c->out.n = c->out_at = 0;
	conn_watch(w, c, false);
	return true;
}

static void conn_add(struct conn *c, const char *p, size_t n)
{
	buf_add(&c->out, p, n);
	c->written += n;
}

static void conn_mark(struct conn *c, enum mark_kind kind, uint32_t a, uint32_t b, uint32_t k)
{
	marks_add(&c->marks, c->fd, (struct mark){ c->written, kind, a, b, k, c->deltas });
}

static void conn_status(struct conn *c, int status)
{
	enum truth_field f = status < 300 ? T_2XX : status < 500 ? T_4XX : T_5XX;

	truth_add(c->client, f, 1);
	conn_mark(c, MARK_STATUS, f, 0, 0);
}

static void conn_usage(struct conn *c, uint32_t prompt, uint32_t completion, uint32_t cached)
{
	truth_add(c->client, T_PROMPT, prompt);
	truth_add(c->client, T_COMPLETION, completion);
	truth_add(c->client, T_CACHED, cached);
	conn_mark(c, MARK_USAGE, prompt, completion, cached);
	c->usage_sent = true;
}

static const char *reason_phrase(int status)
{
	switch (status) {
	case 200: return "OK";
	case 400: return "Bad Request";
	case 401: return "Unauthorized";
	case 404: return "Not Found";
	case 405: return "Method Not Allowed";
	case 413: return "Content Too Large";
	case 429: return "Too Many Requests";
	case 431: return "Request Header Fields Too Large";
	default: return "Internal Server Error";
	}
}

/* A whole response with a known length; `prompt` etc. are what its body reports, if it does. */
static void respond(struct conn *c, int status, const char *type, const char *body, size_t n)
{
	struct buf head = { 0 };

	buf_addf(&head,
		 "HTTP/1.1 %d %s\r\nserver: weir-modelserver\r\ncontent-type: %s\r\ncontent-length: %zu\r\n%s\r\n", status,
		 reason_phrase(status), type, n, c->keep ? "" : "connection: close\r\n");
	conn_add(c, head.p, head.n);
	buf_done(&head);
	conn_status(c, status);
	if (!c->head_only)
		conn_add(c, body, n);
}

static void respond_error(struct conn *c, int status, const char *type, const char *message)
{
	struct buf b = { 0 };

	buf_addf(&b, "{\"error\":{\"message\":\"%s\",\"type\":\"%s\",\"param\":null,\"code\":%d}}", message, type, status);
	respond(c, status, "application/json", b.p, b.n);
	conn_mark(c, MARK_END, 0, 0, 0);
	buf_done(&b);
}

/* One event of a stream as one HTTP chunk (HTTP/1.0 has no chunks). */
static void stream_event(struct conn *c, const char *p, size_t n)
{
	char size[24];

	if (!c->http10)
		conn_add(c, size, (size_t)snprintf(size, sizeof(size), "%zx\r\n", n));
	conn_add(c, p, n);
	if (!c->http10)
		conn_add(c, "\r\n", sizeof("\r\n") - 1);
}

/* ---- generation ---------------------------------------------------------------------------------------- */
static void usage_json(struct conn *c, struct buf *b)
{
	buf_addf(b,
		 "\"usage\":{\"prompt_tokens\":%u,\"total_tokens\":%u,\"completion_tokens\":%u,"
		 "\"prompt_tokens_details\":{\"cached_tokens\":%u}}",
		 c->prompt, c->prompt + c->made, c->made, c->cached);
}

static void delta_event(struct worker *w, struct conn *c, const char *text, size_t n, const char *finish)
{
	struct buf *b = &w->scratch;

	b->n = 0;
	buf_add(b, c->prefix.p, c->prefix.n);
	if (c->api == API_CHAT) {
		buf_add_literal(b, "\"choices\":[{\"index\":0,\"delta\":{\"content\":\"");
		buf_add(b, text, n);
		buf_add_literal(b, "\"},\"logprobs\":null,");
	} else {
		buf_add_literal(b, "\"choices\":[{\"index\":0,\"text\":\"");
		buf_add(b, text, n);
		buf_add_literal(b, "\",\"logprobs\":null,");
	}
	buf_addf(b, "\"finish_reason\":%s%s%s", finish ? "\"" : "", finish ? finish : "null", finish ? "\"}]" : "}]");
	if (c->continuous) {
		buf_add_literal(b, ",");
		usage_json(c, b);
	}
	buf_add_literal(b, "}\n\n");
	stream_event(c, b->p, b->n);
	c->deltas++;
	if (c->continuous) {
		conn_usage(c, c->usage_sent ? 0 : c->prompt, c->made - c->reported, c->usage_sent ? 0 : c->cached);
		c->reported = c->made;
	}
	conn_mark(c, MARK_DELTA, 0, 0, 0);
}

static void stream_begin(struct worker *w, struct conn *c)
{
	struct buf *b = &w->scratch;

	b->n = 0;
	buf_addf(b, "HTTP/1.1 200 OK\r\nserver: weir-modelserver\r\ncontent-type: text/event-stream; charset=utf-8\r\n%s%s\r\n",
		 c->http10 ? "" : "transfer-encoding: chunked\r\n", c->keep ? "" : "connection: close\r\n");
	conn_add(c, b->p, b->n);
	conn_status(c, 200);
	if (c->api != API_CHAT)
		return;
	b->n = 0;
	buf_add(b, c->prefix.p, c->prefix.n);
	buf_addf(b, "\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,"
		    "\"finish_reason\":null}]}\n\n");
	stream_event(c, b->p, b->n);
}

/* What follows the last token: usage if asked for, [DONE], the end of the body. Each is a write of its own. */
static bool stream_end(struct worker *w, struct conn *c)
{
	struct buf *b = &w->scratch;

	if (c->fail) {
		static const char error[] = "data: {\"error\":{\"message\":\"injected fault\",\"type\":\"InternalServerError\","
					    "\"param\":null,\"code\":500}}\n\n";

		stream_event(c, error, sizeof(error) - 1);
		truth_add(c->client, T_STREAM_ERRORS, 1);
		conn_mark(c, MARK_ERROR, 0, 0, 0);
	} else if (c->usage) {
		b->n = 0;
		buf_add(b, c->prefix.p, c->prefix.n);
		buf_addf(b, "\"choices\":[],");
		usage_json(c, b);
		buf_add_literal(b, "}\n\n");
		stream_event(c, b->p, b->n);
		conn_usage(c, c->usage_sent ? 0 : c->prompt, c->made - c->reported, c->usage_sent ? 0 : c->cached);
	}
	if (cfg.coalesce == 1 && !conn_flush(w, c))
		return false;
	stream_event(c, "data: [DONE]\n\n", sizeof("data: [DONE]\n\n") - 1);
	if (cfg.coalesce == 1 && !conn_flush(w, c))
		return false;
	if (!c->http10)
		conn_add(c, "0\r\n\r\n", sizeof("0\r\n\r\n") - 1);
	return true;
}

static void answer_whole(struct worker *w, struct conn *c, const char *finish)
{
	struct buf *b = &w->scratch;

	b->n = 0;
	buf_add(b, c->prefix.p + 6, c->prefix.n - 6); /* without "data: " */
	if (c->api == API_CHAT)
		buf_addf(b, "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"");
	else
		buf_addf(b, "\"choices\":[{\"index\":0,\"text\":\"");
	buf_add(b, c->text.p, c->text.n);
	buf_addf(b, "\"%s,\"logprobs\":null,\"finish_reason\":\"%s\"}],", c->api == API_CHAT ? "}" : "", finish);
	usage_json(c, b);
	buf_add_literal(b, "}");
	respond(c, 200, "application/json", b->p, b->n);
	conn_usage(c, c->prompt, c->made, c->cached);
}

static void answer_end(struct conn *c)
{
	uint32_t estimate = c->stream && !c->usage_sent ? c->deltas : 0;

	truth_add(c->client, T_ESTIMATED, estimate);
	conn_mark(c, MARK_END, estimate, 0, 0);
	__atomic_fetch_sub(&running, 1, __ATOMIC_RELAXED);
	c->phase = c->keep ? PHASE_IDLE : PHASE_CLOSING;
}

/* One token. Answers true while there are more to come; false when the answer is over or the connection gone (*ok). */
static bool answer_step(struct worker *w, struct conn *c, bool *ok)
{
	uint16_t id = lm_answer_next(lm, &c->answer, c->ignore_eos || c->made + 1 < c->min);
	const char *finish = id == LM_EOS ? "stop" : c->made + 1 >= c->max ? "length" : NULL;
	size_t from = c->text.n;

	c->made++;
	lm_answer_text(lm, &c->answer, id, finish != NULL, &c->text);
	if (c->fail && c->made * 2 > c->max)
		finish = "error";
	if (c->stream) {
		if (!c->fail || strcmp(finish ? finish : "", "error") != 0)
			delta_event(w, c, c->text.p + from, c->text.n - from, finish);
		c->text.n = 0;
		if (++c->batched >= (uint32_t)cfg.coalesce) {
			c->batched = 0;
			*ok = conn_flush(w, c);
		}
	}
	if (!finish || !*ok)
		return *ok;
	c->fail = c->fail && !strcmp(finish, "error");
	if (c->stream)
		*ok = stream_end(w, c);
	else
		answer_whole(w, c, finish);
	if (*ok)
		answer_end(c);
	if (*ok)
		*ok = conn_flush(w, c);
	return false;
}

/* Tokens until the turn is over, the client is too slow, or (paced) time has caught up. False: connection gone. */
static bool answer_pump(struct worker *w, struct conn *c)
{
	uint64_t now = c->due_ns ? now_ns() : 0;
	int quantum = c->interval_ns ? INT_MAX : c->stream ? QUANTUM : QUANTUM * 64;
	bool ok = true;

	if (c->queued || c->heap)
		return true;
	while (quantum-- > 0) {
		if (c->out.n - c->out_at > OUT_HIGH && !conn_flush(w, c))
			return false;
		if (c->writable_wanted)
			return true; /* goes on when the socket takes bytes again */
		if (c->due_ns > now) {
			heap_push(w, c);
			return true;
		}
		c->due_ns += c->interval_ns;
		if (!answer_step(w, c, &ok))
			return ok;
	}
	run_push(w, c);
	return true;
}

#endif
