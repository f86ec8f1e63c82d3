#include "cmd/eval_series.h"

#include <math.h>

#include "base/log.h"
#include "cmd/cmd.h"
#include "detect/series.h"

#define LINE_MAX_BYTES 4096 /* two columns take 40; a longer line is not of this format */
#define COMPLAINTS_MAX 10   /* lines named one by one; all are counted */

struct rows {
	const char *path;
	FILE *in;
	struct series *series;
	uint64_t line, good, bad;
};

/* One line without its end; 0 at the end of the file. *ret_whole: it was not too long, and free of control characters. */
static int read_line(struct rows *r, char *line, bool *ret_whole)
{
	size_t n = 0;
	bool whole = true;
	int c;

	while ((c = getc_unlocked(r->in)) != EOF && c != '\n') {
		if ((c < ' ' && c != '\t' && c != '\r') || c == 0x7f || n == LINE_MAX_BYTES - 1)
			whole = false;
		else
			line[n++] = (char)c;
	}
	if (c == EOF && n == 0 && whole)
		return 0;
	if (n > 0 && line[n - 1] == '\r')
		n--;
	line[n] = '\0';
	*ret_whole = whole;
	r->line++;
	return 1;
}

/* Only what a decimal number is made of: strtod() alone would take "inf", "nan" and hexadecimal, too. */
static bool parse_value(const char *text, double *ret)
{
	char *end;

	if (text[strspn(text, "+-.0123456789eE \t")])
		return false;
	*ret = strtod(text, &end);
	return end != text && !end[strspn(end, " \t")] && isfinite(*ret);
}

static void complain(struct rows *r, const char *why)
{
	r->bad++;
	if (r->bad <= COMPLAINTS_MAX)
		log_warning("eval: %s:%llu: %s, left out", r->path, (unsigned long long)r->line, why);
}

/* What is wrong with the line, or NULL. Cuts it into its columns. */
static const char *split(char *line, char **ret_value, double *ret)
{
	char *comma = strchr(line, ','), *rest;

	if (!comma)
		return "not timestamp,value";
	*comma = '\0';
	*ret_value = comma + 1;
	rest = strchr(*ret_value, ',');
	if (rest)
		*rest = '\0';
	if (!line[strspn(line, " \t")])
		return "no timestamp";
	return parse_value(*ret_value, ret) ? NULL : "the value is not a finite number";
}

static int score_rows(struct rows *r)
{
	char buffer[LINE_MAX_BYTES], *line, *value = NULL;
	const char *why;
	double x = 0;
	bool whole;

	while (read_line(r, buffer, &whole)) {
		line = buffer;
		if (r->line == 1 && line[0] == '\xef' && line[1] == '\xbb' && line[2] == '\xbf')
			line += 3; /* the mark of UTF-8, which some spreadsheets write in front */
		if (whole && (!line[strspn(line, " \t")] || (r->line == 1 && !strncasecmp(line, "timestamp,", strlen("timestamp,")))))
			continue;
		why = whole ? split(line, &value, &x) : "too long, or not a text";
		if (why) {
			complain(r, why);
			continue;
		}
		if (r->good++ == 0)
			puts("timestamp,value,anomaly_score");
		printf("%s,%s,%.9g\n", line, value, series_score(r->series, x));
		if (ferror(stdout))
			return -errno;
	}
	if (ferror(r->in)) {
		log_error("eval: %s:%llu: %s", r->path, (unsigned long long)r->line, strerror(errno));
		return -EIO;
	}
	return 0;
}

int eval_series(const char *path)
{
	CLEANUP(fclosep) FILE *file = NULL;
	CLEANUP(series_freep) struct series *series = NULL;
	struct rows r = { .path = path };
	int e;

	if (strcmp(path, "-")) {
		file = fopen(path, "re");
		if (!file) {
			log_error("eval: %s: %s", path, strerror(errno));
			return EXIT_USAGE;
		}
	}
	r.in = file ? file : stdin;
	e = series_open(NULL, &series);
	if (e < 0) {
		log_error("eval: %s", strerror(-e));
		return EXIT_FAILURE;
	}
	r.series = series;
	e = score_rows(&r);
	if (e == -EIO && ferror(r.in))
		return EXIT_USAGE;
	if (e < 0 || fflush(stdout) == EOF) {
		log_error("eval: cannot write: %s", strerror(e < 0 ? -e : errno));
		return EXIT_FAILURE;
	}
	if (r.bad)
		log_warning("eval: %s: %llu of %llu lines left out", path, (unsigned long long)r.bad, (unsigned long long)r.line);
	if (!r.good) {
		log_error("eval: %s: no timestamp,value in it", path);
		return EXIT_USAGE;
	}
	return 0;
}
