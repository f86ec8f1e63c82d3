/*
 * lab.c - the scores of many series under another tuning, for tools/nab/nab.py. Usage: nab-lab [NAME=VALUE...]
 *
 * Standard input: one value a line, an empty line after each series. Standard output: one score a line, likewise.
 */
#include <stdio.h>

#include "detect/series.h"

static int set(struct series_tuning *t, const char *arg)
{
	const struct {
		const char *name;
		double *at;
	} names[] = {
		{ "beyond", &t->beyond },	{ "surprise", &t->surprise }, { "memory", &t->memory }, { "memory_rows", &t->memory_rows },
		{ "quiet_rows", &t->quiet_rows }, { "louder", &t->louder },	 { "keep", &t->keep },	   { "rows0", &t->rows[0] },
		{ "rows1", &t->rows[1] },	{ "rows2", &t->rows[2] },     { "blocks0", &t->blocks[0] }, { "blocks1", &t->blocks[1] },
		{ "blocks2", &t->blocks[2] },
		{ "rows3", &t->rows[3] },	{ "blocks3", &t->blocks[3] },
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		const size_t n = strlen(names[i].name);

		if (!strncmp(arg, names[i].name, n) && arg[n] == '=') {
			*names[i].at = strtod(arg + n + 1, NULL);
			return 0;
		}
	}
	return -EINVAL;
}

int main(int argc, char **argv)
{
	CLEANUP(series_freep) struct series *s = NULL;
	struct series_tuning tuning = series_usual;
	char line[512];

	for (int i = 1; i < argc; i++)
		if (set(&tuning, argv[i]) < 0) {
			fprintf(stderr, "nab-lab: unknown constant in %s\n", argv[i]);
			return 2;
		}
	while (fgets(line, sizeof(line), stdin)) {
		if (*line == '\n') {
			s = series_free(s);
			puts("");
			continue;
		}
		if (!s && series_open(&tuning, &s) < 0) {
			fprintf(stderr, "nab-lab: a constant out of its limits, or no memory\n");
			return 1;
		}
		printf("%.9g\n", series_score(s, strtod(line, NULL)));
	}
	return 0;
}
