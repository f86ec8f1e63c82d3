/*
 * The scrubber on any bytes. Bits of the first byte: 0 the direction, 1 a whole head of our own before the rest, which is then its
 * body, 2 of an event stream; 3-7 the size of the pieces it is fed in. Each byte is decided at most once and in order. In a body each 0x01 stands
 * for a secret, of which nothing may be left; what it is does not depend on the pieces; JSON stays JSON.
 */
#include "base/str.h"
#include "decode/json.h"
#include "decode/scrub.h"
#include "weir/abi.h"

#define SECRET "Q!Z#J!K" /* no name, id or word has such signs */
#define ROOM 65536u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static struct scrub_words *words;

struct out {
	uint8_t bytes[ROOM];
	uint64_t next;
	int dir;
};

static void on_put(void *ctx, int dir, uint64_t off, uint8_t c)
{
	struct out *o = ctx;

	if (dir != o->dir || off < o->next || off >= ROOM)
		abort();
	o->next = off + 1;
	o->bytes[off] = c;
}

static void run(const uint8_t *text, size_t n, int dir, size_t step, struct out *o)
{
	const struct scrub_opts opts = { .words = words, .key = "0123456789abcdef", .put = on_put };
	struct scrub *s;

	memset(o->bytes, SCRUB_FILL, n);
	o->next = 0;
	o->dir = dir;
	if (scrub_new(&opts, true, o, &s) < 0)
		abort();
	for (size_t at = 0; at < n; at += step) {
		uint64_t decided;

		scrub_feed(s, dir, text + at, MIN(step, n - at));
		decided = scrub_decided(s, dir);
		if (decided > at + MIN(step, n - at) || o->next > at + MIN(step, n - at))
			abort();
	}
	scrub_free(s);
}

static bool is_json(const uint8_t *p, size_t n)
{
	const char *path = "model";
	struct json_value v;

	/* a document that is no object or array is blanked */
	return (*p == '{' || *p == '[') && json_find((struct span){ (const char *)p, n }, &path, 1, &v) == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static struct out whole, cut;
	static uint8_t text[ROOM], body[ROOM];
	size_t len = 0, head = 0, step;
	bool events;
	int dir;

	if (!words && scrub_words_new(&words) < 0)
		abort();
	if (n < 2 || n > 4096)
		return 0;
	dir = data[0] & 1;
	events = data[0] & 4;
	step = (data[0] >> 3) + 1u;
	if (!(data[0] & 2)) {
		run(data + 1, n - 1, dir, step, &cut);
		return 0;
	}
	for (size_t i = 1; i < n; i++) {
		memcpy(body + len, SECRET, sizeof(SECRET) - 1);
		body[len] = data[i] == 1 ? body[len] : data[i];
		len += data[i] == 1 ? sizeof(SECRET) - 1 : 1;
	}
	head = (size_t)snprintf((char *)text, ROOM, "%s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n", dir == WEIR_REQUEST ? "POST /v1/x HTTP/1.1" : "HTTP/1.1 200 x",
				events ? "text/event-stream" : "application/json", len);
	memcpy(text + head, body, len);
	run(text, head + len, dir, ROOM, &whole);
	run(text, head + len, dir, step, &cut);
	if (memcmp(whole.bytes, cut.bytes, head + len) != 0 || memmem(whole.bytes, head + len, SECRET, sizeof(SECRET) - 1))
		abort();
	if (!events && len && is_json(body, len) && !is_json(whole.bytes + head, len))
		abort();
	return 0;
}
