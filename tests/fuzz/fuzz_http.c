/* Heads: no read outside the bytes, spans inside them, and no contradiction between a head and its cut. */
#include "decode/dialect.h"
#include "decode/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void inside(struct span s, const char *p, size_t n)
{
	if (s.n && (s.p < p || s.p + s.n > p + n))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	const char *p = (const char *)data;
	struct span rest, name, value, model;
	struct http_head h, cut;

	if (n > 8192 || http_parse_head((struct span){ p, n }, &h) < 0)
		return 0;
	inside(h.method, p, n);
	inside(h.path, p, n);
	inside(h.query, p, n);
	inside(h.headers, p, n);
	if (h.len > n || h.complete != (h.len != 0) || h.status < 0 || h.status > 999 || h.is_response == (h.method.n != 0))
		abort();
	for (rest = h.headers; http_next_header(&rest, &name, &value);) {
		inside(name, p, n);
		inside(value, p, n);
		if (!name.n || memchr(value.n ? value.p : "", '\n', value.n))
			abort();
	}
	http_header(&h, "content-length");
	dialect_find(h.method, h.path, &model);
	inside(model, p, n);
	/* what follows the head changes nothing in it */
	if (h.complete && (http_parse_head((struct span){ p, h.len }, &cut) < 0 || memcmp(&h, &cut, sizeof(h)) != 0))
		abort();
	return 0;
}
