/*
 * options.h - command-line options out of a table; the same names work in a configuration file.
 *
 * One line says what is wrong, through log_error; the caller then returns EXIT_USAGE. A configuration
 * file has lines `name = value` under an optional [weir] heading; a flag is `name = yes`. What stands under [price] is price_file.h's.
 */
#ifndef WEIR_CMD_OPTIONS_H
#define WEIR_CMD_OPTIONS_H

#include "base/util.h"

enum option_type {
	OPTION_FLAG, /* bool */
	OPTION_TEXT, /* char *, a copy; options_done() frees it */
	OPTION_UINT, /* uint32_t */
	OPTION_SIZE, /* uint32_t, with K, M or G behind the number */
	OPTION_REAL, /* double */
	OPTION_CALL, /* what `call` does; -ERANGE or -EINVAL where the value will not do */
};

struct option_row {
	const char *name;
	enum option_type type;
	size_t offset; /* of the member in the structure that is filled */
	double min, max;
	const char *arg, *help;
	int (*call)(void *into, const char *value);
};

#define OPTIONS_MAX 48 /* rows of one table */

/*
 * 0, 1: help was asked for and printed; -EINVAL: it was said what is wrong. Arguments that are no options are refused unless
 * ret_first is given, which then is the index of the first of them.
 */
int options_parse(const struct option_row *rows, size_t n, void *into, const char *usage, int argc, char **argv, int *ret_first);

/* 0; -EINVAL, -ENOENT: it was said what is wrong. */
int options_read_file(const struct option_row *rows, size_t n, void *into, const char *path);

/* Frees the texts. */
void options_done(const struct option_row *rows, size_t n, void *from);

#endif
