/*
 * out.h - numbers and names into a buffer, fast: a million records a minute is the floor, not the aim.
 */
#ifndef LAB_OUT_H
#define LAB_OUT_H

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "rand.h"

#define OUT_BYTES (1 << 20)
#define OUT_LINE_MAX 4096 /* the longest record is about 900 bytes */

struct out {
	int fd, error;
	size_t n;
	char *p;
};

static inline void *lab_realloc(void *p, size_t n)
{
	p = realloc(p, n);
	if (!p) {
		fputs("weir-lab: out of memory\n", stderr);
		exit(1);
	}
	return p;
}

static inline void out_flush(struct out *o)
{
	size_t at = 0;

	while (at < o->n && !o->error) {
		ssize_t w = write(o->fd, o->p + at, o->n - at);

		if (w < 0 && errno != EINTR)
			o->error = errno;
		else if (w > 0)
			at += (size_t)w;
	}
	o->n = 0;
}

static inline void out_room(struct out *o)
{
	if (!o->p)
		o->p = lab_realloc(NULL, OUT_BYTES);
	if (o->n + OUT_LINE_MAX > OUT_BYTES)
		out_flush(o);
}

static inline void out_str(struct out *o, const char *s)
{
	size_t n = strlen(s);

	memcpy(o->p + o->n, s, n);
	o->n += n;
}

static inline void out_u64(struct out *o, uint64_t v)
{
	char b[20];
	int i = 20;

	do
		b[--i] = (char)('0' + v % 10);
	while (v /= 10);
	memcpy(o->p + o->n, b + i, (size_t)(20 - i));
	o->n += (size_t)(20 - i);
}

/* A non-negative number with so many decimals, rounded. */
static inline void out_fixed(struct out *o, double v, int decimals)
{
	static const double pow10[] = { 1, 10, 100, 1e3, 1e4, 1e5, 1e6 };
	uint64_t x = (uint64_t)(v * pow10[decimals] + 0.5), unit = (uint64_t)pow10[decimals];
	char *p;

	out_u64(o, x / unit);
	if (!decimals)
		return;
	o->p[o->n++] = '.';
	x %= unit;
	p = o->p + o->n;
	for (int i = decimals; i--; x /= 10)
		p[i] = (char)('0' + x % 10);
	o->n += (size_t)decimals;
}

static inline void out_hex(struct out *o, uint64_t v, int digits)
{
	for (int i = digits; i--;)
		o->p[o->n++] = "0123456789abcdef"[v >> (i * 4) & 15];
}

#endif
