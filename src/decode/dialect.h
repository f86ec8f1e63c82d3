/*
 * dialect.h - the one table of API shapes: which path speaks which dialect, and where its fields lie.
 *
 * Adding a dialect is adding a row to dialect.c and a fixture to tests/fixtures/dialects; docs/dialects.md is
 * written from the same table (a test compares). Token counts are not here: they are found by name in every
 * body, see patterns.h.
 */
#ifndef WEIR_DECODE_DIALECT_H
#define WEIR_DECODE_DIALECT_H

#include "base/str.h"
#include "base/util.h"
#include "decode/record.h"

/* What is looked for; values are JSON paths (json.h), several alternatives parted by a space, the first found counts. */
enum dialect_field {
	D_MODEL,
	D_STREAM,
	D_MAX_TOKENS,
	D_USER,
	D_LOGPROBS,
	D_PROMPT, /* all strings here are summed up, alternatives included */
	D_REQUEST_COUNT,
	D_RESPONSE_MODEL = D_REQUEST_COUNT,
	D_FINISH,
	D_ID,
	D_TEXT, /* generated text of an answer in one piece; summed up */
	D_FINGERPRINT, /* what the server says of itself (software.h) */
	D_OWNER,
	D_VERSION,
	D_FIELD_COUNT,
};

#define DIALECT_ALTERNATIVES_MAX 8

enum dialect_stream { STREAM_FIELD, STREAM_DEFAULT, STREAM_ALWAYS, STREAM_NEVER };

struct dialect_shape {
	const char *name;
	const char *where[D_FIELD_COUNT];
	enum dialect_stream stream; /* DEFAULT: streams unless the field says false */
	const char *sole;           /* the one server that speaks so; NULL: several */
};

struct dialect {
	const char *path;   /* end of the path; {model} and * stand for one segment, or its part before the colon */
	const char *method; /* NULL: any */
	enum record_kind kind;
	const struct dialect_shape *shape; /* NULL: nothing to be read */
	enum dialect_stream stream;        /* ALWAYS or NEVER where the path decides, else FIELD */
	const char *spoken_by;
};

/* The row for a request, or NULL. Query strings and one trailing slash are ignored. *ret_model: the model's name where
 * the path holds it, else empty; may be NULL. */
const struct dialect *dialect_find(struct span method, struct span path, struct span *ret_model);

/* The same with a user's rows before our own; these may ask for a method. */
const struct dialect *dialect_find_in(const struct dialect *extra, size_t n, struct span method, struct span path, struct span *ret_model);

/* As record_kind_of_path(): KIND_INFERENCE for an empty path, KIND_OTHER for one without a row. */
enum record_kind dialect_kind_of_path(struct span path);

/* Does a request stream, `field` being what the body says (-1: nothing)? */
bool dialect_streams(const struct dialect *d, int field);

/* Splits the alternatives of a field into paths for json_find(). Number of paths. */
size_t dialect_paths(const struct dialect_shape *s, enum dialect_field f, const char *ret[DIALECT_ALTERNATIVES_MAX]);

const struct dialect *dialect_rows(size_t *ret_n);

/* docs/dialects.md, whole. */
void dialect_write_docs(struct str *out);

#endif
