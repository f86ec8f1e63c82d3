/*
 * buf.h - growing bytes. A test server that is out of memory has nothing left to measure: it exits.
 */
#ifndef MODELSERVER_BUF_H
#define MODELSERVER_BUF_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct buf {
	char *p;
	size_t n, cap;
};

static void *buf_realloc(void *p, size_t n)
{
	p = realloc(p, n);
	if (!p) {
		fputs("weir-modelserver: out of memory\n", stderr);
		exit(1);
	}
	return p;
}

static char *buf_room(struct buf *b, size_t n)
{
	if (b->cap - b->n < n) {
		b->cap = (b->n + n) * 2 > 256 ? (b->n + n) * 2 : 256;
		b->p = buf_realloc(b->p, b->cap);
	}
	return b->p + b->n;
}

static void buf_add(struct buf *b, const char *p, size_t n)
{
	if (n)
		memcpy(buf_room(b, n), p, n);
	b->n += n;
}

#define buf_add_literal(b, text) buf_add(b, text, sizeof(text) - 1)

__attribute__((format(printf, 2, 3))) static void buf_addf(struct buf *b, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	buf_room(b, (size_t)n + 1);
	va_start(ap, fmt);
	vsnprintf(b->p + b->n, (size_t)n + 1, fmt, ap);
	va_end(ap);
	b->n += (size_t)n;
}

static void buf_add_utf8(struct buf *b, unsigned c)
{
	char u[4];

	if (c < 0x80) {
		u[0] = (char)c;
		buf_add(b, u, 1);
	} else if (c < 0x800) {
		u[0] = (char)(0xc0 | c >> 6);
		u[1] = (char)(0x80 | (c & 63));
		buf_add(b, u, 2);
	} else if (c < 0x10000) {
		u[0] = (char)(0xe0 | c >> 12);
		u[1] = (char)(0x80 | (c >> 6 & 63));
		u[2] = (char)(0x80 | (c & 63));
		buf_add(b, u, 3);
	} else {
		u[0] = (char)(0xf0 | c >> 18);
		u[1] = (char)(0x80 | (c >> 12 & 63));
		u[2] = (char)(0x80 | (c >> 6 & 63));
		u[3] = (char)(0x80 | (c & 63));
		buf_add(b, u, 4);
	}
}

/* The inside of a JSON string. UTF-8 stays as it is, which is what the Python servers send. */
static void buf_add_escaped(struct buf *b, const char *p, size_t n)
{
	for (const char *end = p + n; p < end; p++) {
		unsigned char c = (unsigned char)*p;

		if (c >= 0x20 && c != '"' && c != '\\')
			buf_add(b, p, 1);
		else if (c == '\n')
			buf_add(b, "\\n", 2);
		else if (c == '"' || c == '\\')
			buf_addf(b, "\\%c", c);
		else
			buf_addf(b, "\\u%04x", c);
	}
}

/* Drops the first n bytes. */
static void buf_shift(struct buf *b, size_t n)
{
	b->n -= n;
	if (b->n)
		memmove(b->p, b->p + n, b->n);
}

static void buf_done(struct buf *b)
{
	free(b->p);
	*b = (struct buf){ 0 };
}

#endif
