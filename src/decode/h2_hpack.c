#include "decode/h2_hpack.h"

#include "decode/h2.h"

#define INT_BYTES_MAX 5 /* of an integer: more than any table or string here needs */

/* RFC 7541 section 5.1. False: cut off, or absurd. */
static bool read_int(const uint8_t **p, const uint8_t *end, unsigned bits, uint32_t *ret)
{
	uint32_t most = (1u << bits) - 1, v, shift = 0;

	if (*p == end)
		return false;
	v = *(*p)++ & most;
	if (v == most) {
		for (int i = 0;; i++, shift += 7) {
			uint8_t b;

			if (*p == end || i == INT_BYTES_MAX - 1)
				return false;
			b = *(*p)++;
			v += (uint32_t)(b & 0x7f) << shift;
			if (!(b & 0x80))
				break;
		}
	}
	*ret = v;
	return true;
}

static bool skip_string(const uint8_t **p, const uint8_t *end)
{
	uint32_t n;

	if (!read_int(p, end, 7, &n) || n > (size_t)(end - *p))
		return false;
	*p += n;
	return true;
}

enum what { INDEXED, LITERAL, RESIZE };

struct field {
	enum what what;
	uint32_t index; /* RESIZE: the size */
	const uint8_t *value; /* LITERAL: where the value begins, its length included */
};

/* Takes one representation off (section 6). */
static bool read_field(const uint8_t **p, const uint8_t *end, struct field *ret)
{
	uint8_t b = **p;
	bool whole;

	*ret = (struct field){ .what = b & 0x80 ? INDEXED : (b & 0xe0) == 0x20 ? RESIZE : LITERAL };
	if (!read_int(p, end, b & 0x80 ? 7 : b & 0x40 ? 6 : b & 0x20 ? 5 : 4, &ret->index))
		return false;
	if (ret->what != LITERAL)
		return ret->what == RESIZE || ret->index;
	whole = ret->index || skip_string(p, end);
	ret->value = *p;
	return whole && skip_string(p, end);
}

/* Gives nghttp2 whole representations. */
static int inflate(struct h2_hpack *h, const uint8_t *p, size_t n, h2_field_fn *tell, void *ctx)
{
	while (n) {
		nghttp2_nv nv;
		int flags = 0;
		ssize_t used = nghttp2_hd_inflate_hd2(h->inflater, &nv, &flags, p, n, 0);

		if (used < 0)
			return used == NGHTTP2_ERR_NOMEM ? -ENOMEM : -EBADMSG;
		if ((flags & NGHTTP2_HD_INFLATE_EMIT) && tell)
			tell(ctx, (struct span){ (const char *)nv.name, nv.namelen }, (struct span){ (const char *)nv.value, nv.valuelen });
		if (!used && !(flags & NGHTTP2_HD_INFLATE_EMIT))
			return -EBADMSG;
		p += used;
		n -= (size_t)used;
	}
	return 0;
}

static int one_field(struct h2_hpack *h, const uint8_t *from, const uint8_t *to, const struct field *f, h2_field_fn *tell, void *ctx, unsigned *unknown)
{
	/* a new size of the table beyond our own limit: 65,536, or what is nearest to it */
	static const uint8_t resize[] = { 0x3f, 0xe1, 0xff, 0x03 };
	uint8_t nameless[3] = { 0, 1, '?' };
	int r;

	if (f->what == RESIZE)
		return f->index > H2_TABLE_MAX ? inflate(h, resize, sizeof(resize), NULL, NULL) : inflate(h, from, (size_t)(to - from), NULL, NULL);
	if (!f->index || f->index <= nghttp2_hd_inflate_get_num_table_entries(h->inflater))
		return inflate(h, from, (size_t)(to - from), tell, ctx);
	(*unknown)++;
	if (f->what == INDEXED)
		return 0;
	/* The name is not known, but a new entry takes its place in the table all the same. */
	nameless[0] = *from & 0x40 ? 0x40 : *from & 0x10;
	r = inflate(h, nameless, sizeof(nameless), NULL, NULL);
	return r < 0 ? r : inflate(h, f->value, (size_t)(to - f->value), NULL, NULL);
}

int h2_hpack_block(struct h2_hpack *h, nghttp2_mem *mem, const uint8_t *p, size_t n, h2_field_fn *tell, void *ctx, unsigned *ret_unknown)
{
	const uint8_t *end = n ? p + n : p; /* an empty block may be nowhere */
	struct field f;
	int r = 0;

	*ret_unknown = 0;
	if (!h->inflater) {
		if (nghttp2_hd_inflate_new2(&h->inflater, mem)) {
			h->inflater = NULL;
			return -ENOMEM;
		}
		/* What the peers agreed upon may have been said before we came; a table larger than 4,096 bytes is announced in blocks, too. */
		r = nghttp2_hd_inflate_change_table_size(h->inflater, H2_TABLE_MAX) ? -ENOMEM : 0;
	}
	while (p < end && r == 0) {
		const uint8_t *from = p;

		r = read_field(&p, end, &f) ? one_field(h, from, p, &f, tell, ctx, ret_unknown) : -EBADMSG;
	}
	if (r == 0)
		nghttp2_hd_inflate_end_headers(h->inflater);
	else
		h2_hpack_forget(h);
	return r;
}

void h2_hpack_forget(struct h2_hpack *h)
{
	if (h->inflater)
		nghttp2_hd_inflate_del(h->inflater);
	h->inflater = NULL;
}
