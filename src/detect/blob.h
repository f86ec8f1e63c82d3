/*
 * blob.h - numbers as bytes that outlive this machine: little endian, one walk for both ways.
 *
 * A blob that is read may be damaged or hostile: the first number that makes no sense sets `bad`, and all that follow leave
 * their targets alone.
 */
#ifndef WEIR_DETECT_BLOB_H
#define WEIR_DETECT_BLOB_H

#include <math.h>

#include "base/util.h"

struct blob {
	bool write, bad;
	uint16_t version; /* of the layout; 0: the newest is written */
	uint8_t *to;
	const uint8_t *from;
	size_t n, cap;
};

static inline uint64_t blob_raw(struct blob *b, uint64_t v, unsigned int bytes)
{
	uint64_t got = 0;

	if (b->bad || b->cap - b->n < bytes) {
		b->bad = true;
		return v;
	}
	for (unsigned int i = 0; i < bytes; i++) {
		if (b->write)
			b->to[b->n + i] = (uint8_t)(v >> 8 * i);
		else
			got |= (uint64_t)b->from[b->n + i] << 8 * i;
	}
	b->n += bytes;
	return b->write ? v : got;
}

#define BLOB_INTEGER(name, type, bytes)                        \
	static inline void blob_##name(struct blob *b, type *v) \
	{                                                       \
		*v = (type)blob_raw(b, (uint64_t)*v, bytes);    \
	}
BLOB_INTEGER(u8, uint8_t, 1)
BLOB_INTEGER(i8, int8_t, 1)
BLOB_INTEGER(u16, uint16_t, 2)
BLOB_INTEGER(u32, uint32_t, 4)
BLOB_INTEGER(i32, int32_t, 4)
BLOB_INTEGER(u64, uint64_t, 8)
BLOB_INTEGER(i64, int64_t, 8)
#undef BLOB_INTEGER

static inline void blob_bool(struct blob *b, bool *v)
{
	uint64_t got = blob_raw(b, *v, 1);

	b->bad |= got > 1;
	if (!b->bad)
		*v = got;
}

/* Below `end`. */
static inline unsigned int blob_below(struct blob *b, unsigned int v, unsigned int end)
{
	uint64_t got = blob_raw(b, v, 4);

	b->bad |= got >= end;
	return b->bad ? 0 : (unsigned int)got;
}

/* A float that is a number within +-1e18. */
static inline void blob_f32(struct blob *b, float *v)
{
	uint32_t u;
	float got;

	memcpy(&u, v, sizeof(u));
	u = (uint32_t)blob_raw(b, u, 4);
	memcpy(&got, &u, sizeof(got));
	if (!(fabsf(got) <= 1e18f)) {
		b->bad |= !b->write;
		return;
	}
	if (!b->bad)
		*v = got;
}

static inline void blob_f64(struct blob *b, double *v)
{
	uint64_t u;
	double got;

	memcpy(&u, v, sizeof(u));
	u = blob_raw(b, u, 8);
	memcpy(&got, &u, sizeof(got));
	if (!(fabs(got) <= 1e18)) {
		b->bad |= !b->write;
		return;
	}
	if (!b->bad)
		*v = got;
}

static inline void blob_f32s(struct blob *b, float *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		blob_f32(b, v + i);
}

static inline void blob_f64s(struct blob *b, double *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		blob_f64(b, v + i);
}

/* A text without NUL, into room for n bytes. */
static inline void blob_text(struct blob *b, char *text, size_t n)
{
	size_t len = blob_below(b, b->write ? (unsigned int)strlen(text) : 0, (unsigned int)n);

	if (b->bad || b->cap - b->n < len) {
		b->bad = true;
		return;
	}
	if (b->write) {
		memcpy(b->to + b->n, text, len);
	} else {
		b->bad = memchr(b->from + b->n, 0, len);
		memcpy(text, b->from + b->n, b->bad ? 0 : len);
		text[b->bad ? 0 : len] = '\0';
	}
	b->n += len;
}

#endif
