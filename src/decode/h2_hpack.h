/*
 * h2_hpack.h - header blocks of one direction: HPACK (RFC 7541) by nghttp2, also where its beginning was not seen.
 *
 * The entries of the dynamic table are numbered from the newest, so what was said since we came is found by the right number, also
 * without what was said before. Only a number beyond what is known cannot be decoded: it is counted and passed over, and the rest of
 * the block is good. nghttp2 alone would give up at such a number, for good.
 */
#ifndef WEIR_DECODE_H2_HPACK_H
#define WEIR_DECODE_H2_HPACK_H

#include "base/util.h"

#include <nghttp2/nghttp2.h>

struct h2_hpack {
	nghttp2_hd_inflater *inflater; /* NULL: nothing is known */
};

typedef void h2_field_fn(void *ctx, struct span name, struct span value);

/*
 * One whole block. *ret_unknown gets how many fields could not be decoded. 0; -EBADMSG: no HPACK, what is known is forgotten;
 * -ENOMEM: the same. Fields before the fault have been told then.
 */
int h2_hpack_block(struct h2_hpack *h, nghttp2_mem *mem, const uint8_t *p, size_t n, h2_field_fn *tell, void *ctx, unsigned *ret_unknown);

/* A block was not seen: the numbers of all that was known are wrong now. */
void h2_hpack_forget(struct h2_hpack *h);

#endif
