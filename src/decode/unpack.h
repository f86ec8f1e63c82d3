/*
 * unpack.h - compressed bodies from bytes in any split: gzip, deflate (with zlib's header and without), br, zstd.
 *
 * Incremental, and bounded whatever comes: UNPACK_MAX bytes out of one body, UNPACK_WINDOW of them remembered by the decoder.
 * What comes out is handed on in pieces of at most 4 KiB and zeroed behind.
 */
#ifndef WEIR_DECODE_UNPACK_H
#define WEIR_DECODE_UNPACK_H

#include "base/util.h"

#define UNPACK_MAX (8u << 20)   /* of one body: 64 KiB of slices may unpack to 64 MiB */
#define UNPACK_WINDOW_LOG 23    /* zstd: 8 MiB, what RFC 9659 allows on the web. br has at most 16 MiB by its format. */

struct unpack;

/* `encoding`: the whole value of Content-Encoding. -ENOTSUP: none of ours, or several in a row; -ENOMEM. */
int unpack_open(struct span encoding, struct unpack **ret);
struct unpack *unpack_free(struct unpack *u);
static inline void unpack_freep(struct unpack **u)
{
	unpack_free(*u);
}

/* 1: the compressed data is over, what follows is passed over; 0: goes on; -EBADMSG: broken; -E2BIG; or what emit() answered below 0. */
int unpack_feed(struct unpack *u, const uint8_t *p, size_t n, int (*emit)(void *ctx, const uint8_t *p, size_t n), void *ctx);

#endif
