/*
 * http.h - HTTP/1 request heads and bodies out of a buffer that holds them from their first byte.
 */
#ifndef MODELSERVER_HTTP_H
#define MODELSERVER_HTTP_H

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>
#include <sys/types.h>

#include "buf.h"

#define HTTP_HEAD_MAX 65536 /* as most servers */
#define HTTP_KEY_MAX 256

struct request {
	char method[16], path[256], query[256], auth[HTTP_KEY_MAX + 16];
	size_t head, length; /* bytes */
	bool chunked, expect, bad, keep, http10, head_only;
};

static bool field_is(const char *p, size_t n, const char *name)
{
	return strlen(name) == n && !strncasecmp(p, name, n);
}

static bool value_has(const char *p, size_t n, const char *word)
{
	size_t k = strlen(word);

	for (size_t i = 0; i + k <= n; i++)
		if (!strncasecmp(p + i, word, k))
			return true;
	return false;
}

/* Reads a head of `n` bytes, the empty line included. */
static void request_read(const char *p, size_t n, struct request *r)
{
	const char *end = p + n, *line = memchr(p, '\n', n);
	int minor = 1;
	char first[512];

	*r = (struct request){ .head = n };
	snprintf(first, sizeof(first), "%.*s", (int)(line - p), p);
	r->bad = sscanf(first, "%15[A-Z] %255[^ \r\n] HTTP/1.%d", r->method, r->path, &minor) != 3;
	if (strchr(r->path, '?')) {
		snprintf(r->query, sizeof(r->query), "%s", strchr(r->path, '?') + 1);
		*strchr(r->path, '?') = 0;
	}
	r->http10 = minor == 0;
	r->keep = !r->http10;
	r->head_only = !strcmp(r->method, "HEAD");
	for (p = line + 1; p < end; p = line + 1) {
		const char *colon, *v, *tail;

		line = memchr(p, '\n', (size_t)(end - p));
		if (!line)
			break;
		colon = memchr(p, ':', (size_t)(line - p));
		if (!colon)
			continue;
		for (v = colon + 1; v < line && (*v == ' ' || *v == '\t'); v++)
			;
		for (tail = line; tail > v && (tail[-1] == '\r' || tail[-1] == ' '); tail--)
			;
		if (field_is(p, (size_t)(colon - p), "content-length")) {
			char *stop;

			errno = 0;
			r->length = strtoull(v, &stop, 10);
			r->bad |= stop != tail || errno || !isdigit((unsigned char)*v);
		} else if (field_is(p, (size_t)(colon - p), "transfer-encoding")) {
			r->chunked = value_has(v, (size_t)(tail - v), "chunked");
		} else if (field_is(p, (size_t)(colon - p), "connection")) {
			r->keep = value_has(v, (size_t)(tail - v), "keep-alive") || (r->keep && !value_has(v, (size_t)(tail - v), "close"));
		} else if (field_is(p, (size_t)(colon - p), "expect")) {
			r->expect = value_has(v, (size_t)(tail - v), "100-continue");
		} else if (field_is(p, (size_t)(colon - p), "authorization")) {
			snprintf(r->auth, sizeof(r->auth), "%.*s", (int)(tail - v), v);
		}
	}
}

/*
 * The body behind the head of a request that begins at p, de-chunked, into *body. Answers the bytes of the whole request,
 * 0 when more are needed, -1 when its framing makes no sense, -2 when the body is larger than `max`.
 */
static ssize_t request_body(const struct request *r, const char *p, size_t n, size_t max, struct buf *body)
{
	size_t at = r->head;

	body->n = 0;
	if (!r->chunked) {
		if (r->length > max)
			return -2;
		if (n - at < r->length)
			return 0;
		buf_add(body, p + at, r->length);
		return (ssize_t)(at + r->length);
	}
	for (;;) {
		const char *line = memchr(p + at, '\n', n - at);
		char *stop;
		size_t size;

		if (!line)
			return n - at > 1024 ? -1 : 0;
		size = strtoul(p + at, &stop, 16);
		if (stop == p + at || (*stop != '\r' && *stop != '\n' && *stop != ';'))
			return -1;
		at = (size_t)(line + 1 - p);
		if (size > max || body->n + size > max)
			return -2;
		if (n - at < size + 2)
			return 0;
		if (!size)
			break;
		buf_add(body, p + at, size);
		at += size + 2;
	}
	for (;;) { /* trailers */
		const char *line = memchr(p + at, '\n', n - at);
		size_t from = at;

		if (!line)
			return n - at > HTTP_HEAD_MAX ? -1 : 0;
		at = (size_t)(line + 1 - p);
		if (at - from <= 2)
			return (ssize_t)at;
	}
}

#endif
