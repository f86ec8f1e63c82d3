/*
 * shapes.h - what calls that no dialect knows look like: method, path, names of fields. Never a value.
 *
 * For `weir check --unknown`, so that a user can send in what weir lacks, or write a row of their own. A list of bounded length of
 * bounded entries: what is in a path or a name that might be somebody's (numbers, identifiers, long or odd words) becomes `*`.
 * When the list is full, the entry seen least gives way to a new one, unless all were seen more than once: then the new one is counted only.
 */
#ifndef WEIR_DECODE_SHAPES_H
#define WEIR_DECODE_SHAPES_H

#include "base/str.h"
#include "base/util.h"

#define SHAPES_MAX 64
#define SHAPE_NAMES_MAX 24  /* of one side; more are a sign of keys that are data */
#define SHAPE_NAME_BYTES 64 /* with its NUL: three names joined by dots */
#define SHAPE_WORD_MAX 32   /* a longer one is nobody's field */
#define SHAPE_DEPTH 3
#define SHAPE_PATH_BYTES 128

struct shape_names {
	uint8_t n;
	bool more; /* than these */
	char name[SHAPE_NAMES_MAX][SHAPE_NAME_BYTES];
};

/* Adds the names of a JSON document, or of the part of one that is there. */
void shape_names_read(struct shape_names *s, struct span json);

struct shapes;

struct shapes *shapes_new(void); /* NULL: no memory */
struct shapes *shapes_free(struct shapes *s);

/* One call that succeeded. `metered`: its tokens were found all the same. NULL for a side without names. */
void shapes_note(struct shapes *s, struct span method, struct span path, const struct shape_names *request, const struct shape_names *response, bool metered);

/* One JSON object per line; the last one says how many calls are not listed, if any. */
void shapes_write_json(const struct shapes *s, struct str *out);

#endif
