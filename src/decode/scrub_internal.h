/* scrub_internal.h - shared between scrub.c (heads, framing) and scrub_body.c (bodies); nobody else includes it. */
#ifndef WEIR_DECODE_SCRUB_INTERNAL_H
#define WEIR_DECODE_SCRUB_INTERNAL_H

#include "decode/scrub.h"
#include "weir/abi.h"

#define SCRUB_PIPELINE 64 /* requests ahead of their answers of which it is known whether they were HEAD */

enum scrub_mode {
	SCRUB_FIRST,
	SCRUB_NAME,
	SCRUB_VALUE,
	SCRUB_BODY, /* `left` bytes: of the body, or of a chunk */
	SCRUB_CLOSE,
	SCRUB_CHUNK_SIZE,
	SCRUB_CHUNK_REST,
	SCRUB_CHUNK_END,
	SCRUB_TRAILER,
	SCRUB_LOST,  /* until a segment begins a message */
	SCRUB_BLIND, /* for good */
};

enum text_mode {
	TEXT_LOOK,  /* what is it? */
	TEXT_LINE,  /* an event stream or lines of JSON: at the beginning of a line */
	TEXT_FIELD, /* in the name of an event stream's field */
	TEXT_WORD,  /* in the value of `event:` */
	TEXT_DATA,  /* before the value of `data:` */
	TEXT_ARRAY, /* behind the first bracket of it */
	TEXT_SKIP,  /* filler up to the end of the line */
	TEXT_JSON,
	TEXT_BLANK, /* filler up to the end of the body */
};

struct side {
	struct scrub *s;
	int dir;
	uint64_t off;
	uint8_t mode, text_mode, rule;
	bool first; /* nothing was seen yet */

	/* waits to be decided */
	uint8_t text[SCRUB_AHEAD];
	uint64_t at[SCRUB_AHEAD];
	size_t n;
	bool over;

	/* of the message */
	char name[32]; /* of the header being read */
	bool chunked, has_length, encoded, connect, json_type, line_type, line_end;
	uint64_t length, left;
	unsigned status;

	/* JSON */
	unsigned depth, objects; /* brackets open; of these, braces */
	uint64_t beyond;        /* brackets deeper than SCRUB_DEPTH_MAX: what they hold is filler */
	uint64_t arrays;        /* bit d: depth d + 1 is an array */
	uint16_t flags[SCRUB_DEPTH_MAX + 1]; /* what is known of the name whose value is being read, by depth */
	unsigned blind;         /* depth from which on all is filler; 0: none */
	bool resume;            /* an event's document goes on in its next line */
	bool in_string, is_name, expect_name, escape, number;
	uint8_t how;            /* the string is to be treated */
	bool fill_escape;       /* behind a backslash of filler */
	uint8_t hex;            /* digits of \u still to come */
	unsigned code;
	uint64_t hex_at[4];
};

struct scrub {
	const struct scrub_opts *o;
	void *ctx;
	struct side side[2];
	uint32_t asked, answered;
	bool head[SCRUB_PIPELINE];
};

void scrub_put(struct side *d, uint8_t c);
void scrub_wait(struct side *d, uint8_t c);
void scrub_forget(struct side *d);
void scrub_release(struct side *d, const uint8_t *as);
void scrub_release_mapped(struct side *d, size_t from, size_t to);
bool scrub_is_id(struct span t);
bool scrub_is_model(struct span t);

/* scrub_body.c */
void scrub_body_begin(struct side *d);
void scrub_body(struct side *d, uint8_t c);

#endif
