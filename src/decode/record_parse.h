/*
 * record_parse.h - between the files of the record reader: columns, values, one line in, one record out.
 *
 * Nothing here allocates or logs. Parsers may rewrite the line they are given (unescaping in place).
 */
#ifndef WEIR_DECODE_RECORD_PARSE_H
#define WEIR_DECODE_RECORD_PARSE_H

#include "decode/record.h"

/* A column is an enum record_field or one of these. */
enum { COL_TIMESTAMP = F_FIELD_COUNT, COL_KIND, COL_WEIGHT, COL_COUNT, COL_NONE = 255 };

struct column {
	uint8_t id;     /* COL_NONE: not ours */
	bool canonical; /* the field's own name, which beats an alias in the same line */
};

#define COLUMN_SLOTS 512 /* power of two, a few times the number of aliases */
struct column_table {
	uint8_t slot[COLUMN_SLOTS];
};
void column_table_init(struct column_table *t);
/* By name, whatever its case and its '_', '-', ' ', '.' and '@'. */
struct column column_of_name(const struct column_table *t, struct span name);
const char *column_name(unsigned int id);

enum value_type {
	VALUE_NULL,
	VALUE_TEXT,
	VALUE_NUMBER, /* the raw token */
	VALUE_BOOL,   /* "true" or "false" */
	VALUE_NESTED, /* array or object */
	VALUE_CELL,   /* CSV: no type of its own; empty is absent */
};

/* One line on its way to become a record. */
struct record_parse {
	struct record *r;
	uint64_t canonical; /* bit per column set by its own name */
	const char *time_error;
	bool has_time;
	unsigned int bad_values;
	unsigned int bad_column; /* the first of them */
	const char *bad_why;
};
void record_parse_begin(struct record_parse *p, struct record *r);
void record_parse_value(struct record_parse *p, struct column c, enum value_type type, struct span v);
/* NULL, or why this is a bad line. */
const char *record_parse_end(struct record_parse *p);

/* Epoch seconds of a number, RFC 3339, or "YYYY-MM-DD HH:MM:SS[.f]" (UTC). NULL, or what is wrong with it. */
const char *record_parse_time(struct span text, double *ret);

/* Keys come in the same order on every line of most files: remembering them by position saves the lookup. */
#define KEY_GUESSES 64
#define KEY_GUESS_LEN 30
struct key_guess {
	uint8_t n;
	struct column column;
	char name[KEY_GUESS_LEN];
};

/*
 * One JSON object, from p to end; *end must be '\n' and 16 more bytes readable. NULL, or what is wrong, with
 * *ret_at the offset. Rewrites strings in place.
 */
const char *record_parse_json(struct record_parse *rp, const struct column_table *t, struct key_guess *guess, char *p,
			      char *end, size_t *ret_at);

#define CSV_COLUMNS_MAX 512 /* no log has more; the rest is ignored, but counted against the header */
struct csv_header {
	size_t n; /* cells in a line */
	bool has_time;
	struct column column[CSV_COLUMNS_MAX];
};
/* False: this line names no timestamp, so it is no header. */
bool csv_parse_header(struct csv_header *h, const struct column_table *t, char *p, char *end);
const char *csv_parse_line(struct record_parse *rp, const struct csv_header *h, char *p, char *end);

#endif
