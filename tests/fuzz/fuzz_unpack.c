/*
 * Compressed bodies of any bytes: the decoders stay within their caps, and what comes out, and how it ends, does not depend on where
 * the input was cut. First byte: encoding; second: where to cut.
 */
#include "decode/unpack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

struct sum {
	uint64_t hash, n;
};

static int take(void *ctx, const uint8_t *p, size_t n)
{
	struct sum *s = ctx;

	if (!n || n > 4096)
		abort();
	for (size_t i = 0; i < n; i++)
		s->hash = (s->hash ^ p[i]) * UINT64_C(0x100000001b3);
	s->n += n;
	if (s->n > UNPACK_MAX + 4096)
		abort();
	return 0;
}

/* As unpack_feed(); what comes after the end, or after an error, is nobody's. */
static int run(const char *encoding, const uint8_t *p, size_t n, size_t cut, struct sum *ret)
{
	struct unpack *u = NULL;
	int r;

	if (unpack_open(span_of(encoding), &u) < 0)
		abort();
	*ret = (struct sum){ 0 };
	r = unpack_feed(u, p, cut, take, ret);
	if (r >= 0 && cut < n)
		r = unpack_feed(u, p + cut, n - cut, take, ret);
	unpack_free(u);
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const char *const names[] = { "gzip", "deflate", "br", "zstd" };
	const char *encoding;
	struct sum whole, parts;
	size_t cut;
	int a, b;

	if (n < 4)
		return 0;
	encoding = names[data[0] & 3];
	cut = 1 + data[1] * (n - 3) / 256;
	a = run(encoding, data + 2, n - 2, n - 2, &whole);
	b = run(encoding, data + 2, n - 2, cut, &parts);
	if (a != b || (a >= 0 && (whole.n != parts.n || whole.hash != parts.hash)))
		abort();
	return 0;
}
