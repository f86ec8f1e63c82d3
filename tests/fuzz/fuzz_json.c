/* Cut documents: values lie inside the text; what a whole document holds is found again in it; tails do not crash. */
#include "decode/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const char *const paths[] = { "model", "a", "a.b", "a.*", "*", "*.*", "a.*.b", "stream", "a.*.*.*.b.c" };

static void check(const struct json_value *v, struct span text)
{
	char buf[64];
	int64_t count;
	size_t len;

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		if (v[i].raw.n && (v[i].raw.p < text.p || v[i].raw.p + v[i].raw.n > text.p + text.n))
			abort();
		if (v[i].type > JSON_ARRAY || v[i].text_sum > text.n)
			abort();
		for (size_t cap = 0; cap <= sizeof(buf); cap += 16) {
			len = json_text(&v[i], buf, cap);
			if (len > cap)
				abort();
		}
		if (json_count(&v[i], &count) && count < 0)
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct span text = { (const char *)data, n };
	struct json_value v[ARRAY_SIZE(paths)], w[ARRAY_SIZE(paths)];
	int r, t;

	if (n > 16384)
		return 0;
	r = json_find(text, paths, ARRAY_SIZE(paths), v);
	if (r != 0 && r != -ENODATA && r != -EBADMSG)
		abort();
	check(v, text);
	t = json_find_tail(text, paths, ARRAY_SIZE(paths), w);
	if (t != 0 && t != -EBADMSG && t != -ENODATA)
		abort();
	check(w, text);
	return 0;
}
