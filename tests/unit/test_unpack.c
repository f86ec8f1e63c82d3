/* The decoders alone: every split of every encoding gives the same bytes; ends, rests, windows and bombs are told from each other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <brotli/encode.h>
#include <cmocka.h>
#include <zlib.h>
#include <zstd.h>

#include "decode/unpack.h"

#define TEXT_N 20000 /* several pieces of output */

static char text[TEXT_N];
static uint8_t packed[TEXT_N * 2];

struct sink {
	uint8_t *p;
	size_t n, cap;
	int refuse;
};

static int take(void *ctx, const uint8_t *p, size_t n)
{
	struct sink *s = ctx;

	assert_in_range(n, 1, 4096);
	if (s->refuse)
		return s->refuse;
	if (s->p && s->n + n <= s->cap)
		memcpy(s->p + s->n, p, n);
	s->n += n;
	return 0;
}

static size_t pack_zlib(int window)
{
	z_stream z = { .next_in = (uint8_t *)text, .avail_in = TEXT_N, .next_out = packed, .avail_out = sizeof(packed) };

	assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, window, 8, Z_DEFAULT_STRATEGY), Z_OK);
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	deflateEnd(&z);
	return z.total_out;
}

static size_t pack_gzip(void) { return pack_zlib(31); }
static size_t pack_deflate(void) { return pack_zlib(15); }
static size_t pack_raw(void) { return pack_zlib(-15); }

static size_t pack_br(void)
{
	size_t n = sizeof(packed);

	assert_true(BrotliEncoderCompress(5, 22, BROTLI_MODE_TEXT, TEXT_N, (const uint8_t *)text, &n, packed));
	return n;
}

static size_t pack_zstd(void)
{
	size_t a = ZSTD_compress(packed, sizeof(packed), text, TEXT_N / 3, 3);

	return a + ZSTD_compress(packed + a, sizeof(packed) - a, text + TEXT_N / 3, TEXT_N - TEXT_N / 3, 3);
}

static const struct {
	const char *encoding;
	size_t (*pack)(void);
} ways[] = { { "gzip", pack_gzip }, { "x-gzip", pack_gzip }, { "deflate", pack_deflate }, { "deflate", pack_raw }, { "br", pack_br }, { "zstd", pack_zstd } };

static struct unpack *opened(const char *encoding)
{
	struct unpack *u = NULL;

	assert_int_equal(unpack_open(span_of(encoding), &u), 0);
	return u;
}

static void gives_the_same_at_every_split(void **unused)
{
	static uint8_t out[TEXT_N];

	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		size_t n = ways[i].pack();

		for (size_t split = 1; split <= n; split++) {
			struct sink s = { .p = out, .cap = sizeof(out) };
			struct unpack *u = opened(ways[i].encoding);
			int r = unpack_feed(u, packed, split, take, &s);

			assert_in_range(r, 0, split == n || !strcmp(ways[i].encoding, "zstd"));
			if (split < n)
				r = unpack_feed(u, packed + split, n - split, take, &s);
			assert_int_equal(r, 1);
			assert_int_equal(s.n, TEXT_N);
			assert_memory_equal(out, text, TEXT_N);
			unpack_free(u);
		}
		/* byte by byte */
		{
			struct sink s = { .p = out, .cap = sizeof(out) };
			struct unpack *u = opened(ways[i].encoding);
			int r = 0;

			for (size_t at = 0; at < n; at++)
				r = unpack_feed(u, packed + at, 1, take, &s);
			assert_int_equal(r, 1);
			assert_int_equal(s.n, TEXT_N);
			assert_memory_equal(out, text, TEXT_N);
			unpack_free(u);
		}
	}
}

static void tells_cut_from_whole(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		struct sink s = { 0 }, refusing = { .refuse = -ENOMEM };
		struct unpack *u = opened(ways[i].encoding);
		size_t n = ways[i].pack();

		assert_int_equal(unpack_feed(u, packed, n - 1, take, &s), 0);
		unpack_free(u);
		u = opened(ways[i].encoding);
		assert_int_equal(unpack_feed(u, packed, n, take, &refusing), -ENOMEM);
		unpack_free(u);
	}
}

static void refuses_what_is_not_its_own(void **unused)
{
	static const char *const names[] = { "", "identity", "compress", "gzip, br", "gzi", "gzipp", "zstd-dict" };
	struct unpack *u = NULL;

	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		assert_int_equal(unpack_open(span_of(names[i]), &u), -ENOTSUP);
	assert_null(u);
	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		struct sink s = { 0 };

		memset(packed, 0xff, 1000);
		u = opened(ways[i].encoding);
		assert_int_equal(unpack_feed(u, packed, 1000, take, &s), -EBADMSG);
		unpack_free(u);
	}
}

/* The formats before zstd 0.8 have other magic numbers and decoders of their own, which are not to see a byte. */
static void refuses_old_zstd(void **unused)
{
	(void)unused;
	for (size_t cut = 1; cut < 4; cut++) {
		for (uint8_t first = 0x22; first < 0x28; first++) {
			const uint8_t old[] = { first, 0xb5, 0x2f, 0xfd, 0, 0, 0, 0 }, broken[] = { 0x28, 0xb5, 0x2f, 0xfe };
			struct unpack *u = opened("zstd");
			struct sink s = { 0 };

			assert_int_equal(unpack_feed(u, old, cut, take, &s), -EBADMSG);
			unpack_free(u);
			u = opened("zstd");
			assert_int_equal(unpack_feed(u, broken, cut, take, &s), 0);
			assert_int_equal(unpack_feed(u, broken + cut, 4 - cut, take, &s), -EBADMSG);
			unpack_free(u);
		}
	}
}

/* zstd lets a few bytes ask for a window of gigabytes: not here. */
static void bounds_the_window(void **unused)
{
	ZSTD_CCtx *c = ZSTD_createCCtx();
	struct sink s = { 0 };
	struct unpack *u = opened("zstd");
	ZSTD_outBuffer out = { packed, sizeof(packed), 0 };
	ZSTD_inBuffer in = { text, TEXT_N, 0 };

	(void)unused;
	assert_non_null(c);
	assert_false(ZSTD_isError(ZSTD_CCtx_setParameter(c, ZSTD_c_windowLog, UNPACK_WINDOW_LOG + 2)));
	/* the size not told beforehand, so that the window stays as asked for */
	assert_false(ZSTD_isError(ZSTD_compressStream2(c, &out, &in, ZSTD_e_flush)));
	assert_int_equal(ZSTD_compressStream2(c, &out, &in, ZSTD_e_end), 0);
	assert_int_equal(unpack_feed(u, packed, out.pos, take, &s), -EBADMSG);
	assert_int_equal(s.n, 0);
	unpack_free(u);
	ZSTD_freeCCtx(c);
}

static void bounds_the_output(void **unused)
{
	const size_t n = 4u * UNPACK_MAX;
	uint8_t *zeros = calloc(1, n), *bomb = malloc(1 << 16);
	size_t len[2] = { 1 << 16, 0 };

	(void)unused;
	assert_non_null(zeros);
	assert_non_null(bomb);
	for (int i = 0; i < 2; i++) {
		struct sink s = { 0 };
		struct unpack *u = opened(i ? "zstd" : "br");

		if (i)
			len[1] = ZSTD_compress(bomb, 1 << 16, zeros, n, 1);
		else
			assert_true(BrotliEncoderCompress(3, 22, BROTLI_MODE_GENERIC, n, zeros, &len[0], bomb));
		assert_in_range(len[i], 10, 1 << 16);
		assert_int_equal(unpack_feed(u, bomb, len[i], take, &s), -E2BIG);
		assert_in_range(s.n, UNPACK_MAX, UNPACK_MAX + 4096);
		unpack_free(u);
	}
	free(zeros);
	free(bomb);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gives_the_same_at_every_split), cmocka_unit_test(tells_cut_from_whole), cmocka_unit_test(refuses_what_is_not_its_own),
		cmocka_unit_test(refuses_old_zstd),
		cmocka_unit_test(bounds_the_window),		 cmocka_unit_test(bounds_the_output),
	};
	uint32_t x = 1;

	/* words of a small set: it shrinks, but not to nothing */
	for (size_t i = 0; i < TEXT_N; i++) {
		x = x * 1664525 + 1013904223;
		text[i] = (char)("etaoin shrdlu\n\""[x >> 28] + ((x >> 20 & 31) == 0));
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
