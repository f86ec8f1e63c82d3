/*
 * dialect_file.h - a user's own dialects, from a file of lines (docs/dialects-file.md).
 *
 *   inference|embedding|control  METHOD|*  PATH  [FIELD=PATH[,PATH...]]...
 *   tokens prompt|completion|cached|reasoning  NAME...
 *   text NAME...
 *
 * Everything is checked when it is read, also whether the names of the last two fit the automaton beside our own.
 */
#ifndef WEIR_DECODE_DIALECT_FILE_H
#define WEIR_DECODE_DIALECT_FILE_H

#include "decode/automaton.h"
#include "decode/dialect.h"

#define DIALECT_FILE_MAX 65536    /* bytes */
#define DIALECT_FILE_ROWS 64      /* each is tried for every request before our own */
#define DIALECT_FILE_NAME_MAX 48  /* bytes of a name in `tokens` and `text` */
#define DIALECT_FILE_WHY 512

struct dialect_file {
	struct dialect rows[DIALECT_FILE_ROWS];
	struct dialect_shape shapes[DIALECT_FILE_ROWS];
	size_t count;
	struct automaton_key keys[AUTOMATON_KEYS_MAX];
	size_t key_count;
	char *text; /* what all of the above point into */
};

/* 0; -EINVAL: `why` says FILE:LINE: what; other negative errno: `why` says what of the file. */
int dialect_file_read(const char *path, struct dialect_file **ret, char why[DIALECT_FILE_WHY]);
/* The same from memory; `name` stands for the file in `why`. */
int dialect_file_parse(const char *name, struct span text, struct dialect_file **ret, char why[DIALECT_FILE_WHY]);
struct dialect_file *dialect_file_free(struct dialect_file *f);
static inline void dialect_file_freep(struct dialect_file **f)
{
	dialect_file_free(*f);
}

#endif
