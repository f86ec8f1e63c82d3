#include "cmd/options.h"

#include "base/log.h"
#include "cmd/price_file.h"

#include <getopt.h>
#include <ini.h>
#include <math.h>

static int flag_parse(const char *value, bool *ret)
{
	static const char *const yes[] = { "yes", "true", "on", "1" }, *const no[] = { "no", "false", "off", "0" };

	for (size_t i = 0; i < ARRAY_SIZE(yes); i++) {
		if (strcmp(value, yes[i]) && strcmp(value, no[i]))
			continue;
		*ret = !strcmp(value, yes[i]);
		return 0;
	}
	return -EINVAL;
}

static int number_parse(const struct option_row *o, const char *value, double *ret)
{
	double v, scale = 1;
	char *end;

	errno = 0;
	v = strtod(value, &end);
	if (end == value || errno || !isfinite(v))
		return -EINVAL;
	if (o->type == OPTION_SIZE && *end) {
		static const char units[] = "kmg";
		const char *unit = strchr(units, *end | 0x20);

		if (!unit)
			return -EINVAL;
		scale = (double)(1u << (10 * (unit - units + 1)));
		end++;
	}
	v *= scale;
	if (*end || (o->type != OPTION_REAL && v != floor(v)))
		return -EINVAL;
	if (v < o->min || v > o->max)
		return -ERANGE;
	*ret = v;
	return 0;
}

static int row_set(const struct option_row *o, void *into, const char *value)
{
	void *member = (char *)into + o->offset;
	double v = 0;
	char *copy;
	int r;

	switch (o->type) {
	case OPTION_FLAG:
		return flag_parse(value, member);
	case OPTION_TEXT:
		if (!*value)
			return -EINVAL;
		copy = strdup(value);
		if (!copy)
			return -ENOMEM;
		free(*(char **)member);
		*(char **)member = copy;
		return 0;
	case OPTION_CALL:
		return o->call(into, value);
	default:
		r = number_parse(o, value, &v);
		if (r < 0)
			return r;
		if (o->type == OPTION_REAL)
			*(double *)member = v;
		else
			*(uint32_t *)member = (uint32_t)v;
		return 0;
	}
}

/* What is wrong with a value, as one line without a place in front. */
static void complaint(char *buf, size_t n, const struct option_row *o, const char *dashes, const char *value, int error)
{
	if (error == -ENOMEM)
		snprintf(buf, n, "out of memory");
	else if (error == -ERANGE && o->max > o->min)
		snprintf(buf, n, "%s%s: '%.64s' is not within %.10g..%.10g", dashes, o->name, value, o->min, o->max);
	else if (error == -EDOM)
		snprintf(buf, n, "%s%s: '%.64s' has bits set behind its prefix", dashes, o->name, value);
	else if (error == -E2BIG)
		snprintf(buf, n, "%s%s: given too often", dashes, o->name);
	else if (!o->arg)
		snprintf(buf, n, "%s%s: '%.64s' is not yes or no", dashes, o->name, value);
	else
		snprintf(buf, n, "%s%s: '%.64s' is not %s (%s)", dashes, o->name, value, o->arg, o->help);
}

static void help_print(const struct option_row *rows, size_t n, const char *usage)
{
	printf("usage: weir %s\n\n", usage);
	for (size_t i = 0; i < n; i++) {
		char left[64];

		snprintf(left, sizeof(left), "--%s%s%s", rows[i].name, rows[i].arg ? " " : "", rows[i].arg ? rows[i].arg : "");
		printf("  %-26s %s\n", left, rows[i].help);
	}
	printf("  %-26s %s\n", "--help", "this text");
}

int options_parse(const struct option_row *rows, size_t n, void *into, const char *usage, int argc, char **argv, int *ret_first)
{
	struct option longs[OPTIONS_MAX + 2] = { 0 };
	int c, index;

	if (n > OPTIONS_MAX)
		return -EINVAL;
	for (size_t i = 0; i < n; i++)
		longs[i] = (struct option){ rows[i].name, rows[i].type == OPTION_FLAG ? no_argument : required_argument, NULL, 256 + (int)i };
	longs[n] = (struct option){ "help", no_argument, NULL, 'h' };

	optind = 0; /* glibc: start over, an earlier parse may have been here */
	opterr = 0;
	while ((c = getopt_long(argc, argv, ":h", longs, &index)) != -1) {
		const struct option_row *o;
		char why[256];
		int r;

		if (c == 'h') {
			help_print(rows, n, usage);
			return 1;
		}
		if (c == ':') {
			log_error("%.64s needs a value (weir %s --help)", argv[optind - 1], argv[0]);
			return -EINVAL;
		}
		if (c == '?') {
			log_error("unknown option '%.64s' (weir %s --help)", argv[optind - 1], argv[0]);
			return -EINVAL;
		}
		o = &rows[c - 256];
		r = row_set(o, into, o->type == OPTION_FLAG ? "yes" : optarg);
		if (r < 0) {
			complaint(why, sizeof(why), o, "--", optarg ? optarg : "", r);
			log_error("%s", why);
			return -EINVAL;
		}
	}
	if (ret_first) {
		*ret_first = optind;
	} else if (optind < argc) {
		log_error("unexpected argument '%.64s' (weir %s --help)", argv[optind], argv[0]);
		return -EINVAL;
	}
	return 0;
}

/* ---- configuration file ---------------------------------------------------------------------------- */
struct file_reading {
	const struct option_row *rows;
	size_t n;
	void *into;
	char why[256]; /* the first thing that was wrong */
};

static int on_setting(void *ctx, const char *section, const char *name, const char *value)
{
	struct file_reading *f = ctx;
	const struct option_row *o = NULL;
	int r;

	if (*f->why)
		return 0;
	if (!strcmp(section, PRICE_SECTION))
		return 1; /* price_file.c */
	for (size_t i = 0; i < f->n; i++)
		if (!strcmp(f->rows[i].name, name) && strcmp(name, "config"))
			o = &f->rows[i];
	if (*section && strcmp(section, "weir")) {
		snprintf(f->why, sizeof(f->why), "unknown section [%.64s]", section);
	} else if (!o) {
		snprintf(f->why, sizeof(f->why), "unknown setting '%.64s'", name);
	} else {
		r = row_set(o, f->into, value);
		if (r < 0)
			complaint(f->why, sizeof(f->why), o, "", value, r);
	}
	return !*f->why;
}

int options_read_file(const struct option_row *rows, size_t n, void *into, const char *path)
{
	struct file_reading f = { .rows = rows, .n = n, .into = into };
	int line = ini_parse(path, on_setting, &f);

	if (line == 0)
		return 0;
	if (line < 0) {
		log_error("%s: %s", path, line == -1 ? strerror(errno) : "out of memory");
		return -ENOENT;
	}
	log_error("%s:%d: %s", path, line, *f.why ? f.why : "not a setting (name = value)");
	return -EINVAL;
}

void options_done(const struct option_row *rows, size_t n, void *from)
{
	for (size_t i = 0; i < n; i++)
		if (rows[i].type == OPTION_TEXT) {
			char **text = (char **)(void *)((char *)from + rows[i].offset);

			free(*text);
			*text = NULL;
		}
}
