/* unpack.c - three libraries behind one door. Each step reads some of the input and fills the buffer at most once. */
#include "decode/unpack.h"

#include <brotli/decode.h>
#include <strings.h>
#include <zlib.h>
#include <zstd.h>

enum state { MORE, FULL, OVER }; /* wants input; has more output; the end */

struct unpack {
	int (*step)(struct unpack *u, enum state *ret);
	const uint8_t *in;
	size_t left;
	uint8_t out[4096];
	size_t got;
	uint64_t total;
	bool over, raw;
	uint8_t first;     /* byte of the body */
	uint64_t frame_n; /* zstd: bytes read of this frame */
	z_stream z;
	bool z_opened;
	BrotliDecoderState *br;
	ZSTD_DStream *zstd;
};

static int step_zlib(struct unpack *u, enum state *ret)
{
	int r;

	if (!u->z.total_in && u->left && !u->raw)
		u->first = *u->in;
	u->z.next_in = (uint8_t *)(uintptr_t)u->in;
	u->z.avail_in = (uInt)MIN(u->left, (size_t)UINT32_MAX);
	u->z.next_out = u->out;
	u->z.avail_out = sizeof(u->out);
	r = inflate(&u->z, Z_NO_FLUSH);
	u->got = sizeof(u->out) - u->z.avail_out;
	if (r == Z_DATA_ERROR && !u->raw && !u->total && !u->got && u->z.total_in <= 2) {
		/* "deflate" without zlib's header, as some servers mean it: once more, the first byte too if it came in a piece of its own */
		size_t lost = (size_t)u->z.total_in - (size_t)(u->z.next_in - u->in);

		u->raw = true;
		if (lost > 1 || inflateReset2(&u->z, -15) != Z_OK)
			return -EBADMSG;
		u->z.next_in = &u->first;
		u->z.avail_in = (uInt)lost;
		if (lost && inflate(&u->z, Z_NO_FLUSH) != Z_OK)
			return -EBADMSG;
		*ret = FULL;
		return 0;
	}
	u->left -= (size_t)(u->z.next_in - u->in);
	u->in = u->z.next_in;
	*ret = r == Z_STREAM_END ? OVER : u->z.avail_out ? MORE : FULL;
	return r == Z_STREAM_END || r == Z_OK || r == Z_BUF_ERROR ? 0 : -EBADMSG;
}

static int step_br(struct unpack *u, enum state *ret)
{
	uint8_t *out = u->out;
	size_t room = sizeof(u->out);
	BrotliDecoderResult r = BrotliDecoderDecompressStream(u->br, &u->left, &u->in, &room, &out, NULL);

	u->got = sizeof(u->out) - room;
	/* It may ask for input and hold output at once: when the buffer became full with the last byte. */
	*ret = r == BROTLI_DECODER_RESULT_SUCCESS ? OVER : !room || r == BROTLI_DECODER_RESULT_NEEDS_MORE_OUTPUT ? FULL : MORE;
	return r == BROTLI_DECODER_RESULT_ERROR ? -EBADMSG : 0;
}

/* Several frames in a row are one body: only its last end is one, so here an end is no more than a place where it may be. */
static int step_zstd(struct unpack *u, enum state *ret)
{
	/* The first byte of a frame goes in alone: given a whole frame at once the library takes a path of its own, with other errors. */
	ZSTD_inBuffer in = { u->in, u->frame_n ? u->left : MIN(u->left, (size_t)1), 0 };
	ZSTD_outBuffer out = { u->out, sizeof(u->out), 0 };
	static const uint8_t magic[] = { 0x28, 0xb5, 0x2f, 0xfd };
	size_t r;

	/* Debian's library also reads the formats of zstd 0.5 to 0.7, with their decoders of old: no server speaks these. */
	for (uint64_t i = u->frame_n; i < sizeof(magic) && i - u->frame_n < u->left; i++)
		if (u->in[i - u->frame_n] != magic[i])
			return -EBADMSG;
	r = ZSTD_decompressStream(u->zstd, &out, &in);
	u->got = out.pos;
	if (ZSTD_isError(r))
		return -EBADMSG;
	u->frame_n = r ? u->frame_n + in.pos : 0;
	u->in += in.pos;
	u->left -= in.pos;
	if (r == 0)
		*ret = u->left ? FULL : OVER;
	else
		*ret = out.pos == out.size ? FULL : MORE;
	return 0;
}

int unpack_open(struct span encoding, struct unpack **ret)
{
	static const struct {
		const char *name;
		int (*step)(struct unpack *u, enum state *ret);
	} names[] = { { "gzip", step_zlib }, { "x-gzip", step_zlib }, { "deflate", step_zlib }, { "br", step_br }, { "zstd", step_zstd } };
	CLEANUP(unpack_freep) struct unpack *u = calloc(1, sizeof(*u));

	if (!u)
		return -ENOMEM;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (encoding.n == strlen(names[i].name) && !strncasecmp(encoding.p, names[i].name, encoding.n))
			u->step = names[i].step;
	if (!u->step)
		return -ENOTSUP;
	if (u->step == step_zlib)
		u->z_opened = inflateInit2(&u->z, 15 + 32) == Z_OK;
	else if (u->step == step_br)
		u->br = BrotliDecoderCreateInstance(NULL, NULL, NULL);
	else if ((u->zstd = ZSTD_createDStream()))
		ZSTD_DCtx_setParameter(u->zstd, ZSTD_d_windowLogMax, UNPACK_WINDOW_LOG);
	if (!u->z_opened && !u->br && !u->zstd)
		return -ENOMEM;
	*ret = TAKE_PTR(u);
	return 0;
}

struct unpack *unpack_free(struct unpack *u)
{
	if (!u)
		return NULL;
	if (u->z_opened)
		inflateEnd(&u->z);
	if (u->br)
		BrotliDecoderDestroyInstance(u->br);
	ZSTD_freeDStream(u->zstd);
	explicit_bzero(u->out, sizeof(u->out));
	free(u);
	return NULL;
}

int unpack_feed(struct unpack *u, const uint8_t *p, size_t n, int (*emit)(void *ctx, const uint8_t *p, size_t n), void *ctx)
{
	u->in = p;
	u->left = n;
	if (u->over && u->step != step_zstd)
		return 1;
	for (;;) {
		enum state state = MORE;
		size_t before = u->left;
		int r, e = 0;

		u->got = 0;
		r = u->step(u, &state);
		u->total += u->got;
		if (u->got) {
			e = emit(ctx, u->out, u->got);
			explicit_bzero(u->out, u->got);
		}
		if (e < 0 || r < 0)
			return e < 0 ? e : r;
		u->over = state == OVER;
		if (u->over)
			return 1;
		if (u->total > UNPACK_MAX)
			return -E2BIG;
		/* A step that wants input and took none has all it can use. */
		if (state == MORE && (!u->left || u->left == before))
			return 0;
	}
}
