/*
 * json.h - finds values in JSON documents that may lack their end, or their beginning.
 *
 * One pass, no allocation, no copy. A path is names joined by dots, and ends at NUL or a space; `*` stands
 * for any element of an array and any key. Of a value that occurs more than once the last one that is not null counts, as in
 * the servers' own parsers. Nothing is validated beyond what is needed to stay in step.
 */
#ifndef WEIR_DECODE_JSON_H
#define WEIR_DECODE_JSON_H

#include "base/util.h"

#define JSON_DEPTH_MAX 64 /* below it values are passed over; the deepest path we look for has six steps */
#define JSON_PATHS_MAX 32 /* one bit each */

enum json_type { JSON_ABSENT, JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_NUMBER, JSON_STRING, JSON_OBJECT, JSON_ARRAY };

struct json_value {
	enum json_type type;
	bool cut;           /* a string or number that the text's end cuts off */
	struct span raw;    /* number: its digits; string: between the quotes, escaped; otherwise empty */
	uint64_t text_sum;  /* bytes of all strings found at this path, unescaped */
	uint32_t count;     /* values found at this path, null not counted */
};

/* Fills values[i] for paths[i]. 0: the text is one whole document; -ENODATA: it ends early; -EBADMSG: it is not JSON from
 * some point on. What was found before that stays. -EINVAL: too many paths. */
int json_find(struct span text, const char *const *paths, size_t n, struct json_value *values);

/*
 * The same for the last bytes of a document whose beginning is missing. Paths count from the document's top level,
 * which is known because the end is there; what was opened before the tail is taken to have the names that a path asks
 * for at that depth (a finish reason behind a long text stands in a choice that nobody saw begin). -EBADMSG: this is not the end of an object, values are all absent.
 */
int json_find_tail(struct span tail, const char *const *paths, size_t n, struct json_value *values);

/*
 * Calls fn() with every string at one of the paths, in order, and with those that the text's ends cut off. `element` numbers the
 * objects and arrays that lie directly in one that lies in the document: in a list of messages it tells one message from the next.
 * Answers as json_find().
 */
struct json_string {
	struct json_value value;
	unsigned path;
	uint32_t element;
	bool headless; /* its beginning is missing; which path it is at is taken from its depth */
};
int json_each(struct span text, const char *const *paths, size_t n, void (*fn)(void *ctx, const struct json_string *s), void *ctx);
/* The same for a tail, as json_find_tail(). */
int json_each_tail(struct span tail, const char *const *paths, size_t n, void (*fn)(void *ctx, const struct json_string *s), void *ctx);

/*
 * Calls fn() with every key down to `deepest` keys from the top, in order: keys[0] is the outermost, keys[n - 1] the key itself,
 * escaped as it stands; arrays do not count as steps. Stops where the text stops being JSON.
 */
void json_names(struct span text, size_t deepest, void (*fn)(void *ctx, const struct span *keys, size_t n), void *ctx);

/* Unescapes a string into buf, at most cap bytes, never half a character; \0 and lone surrogates become U+FFFD. Bytes written. */
size_t json_text(const struct json_value *v, char *buf, size_t cap);

/* A whole number in 0..INT64_MAX; false otherwise, also where it is cut. */
bool json_count(const struct json_value *v, int64_t *ret);

#endif
