/* cmd_eval.c - weir eval: how good a detector is, by labels and the events that it made of the same records. */
#include <getopt.h>
#include <math.h>

#include "base/log.h"
#include "cmd/cmd.h"
#include "cmd/eval_calibrate.h"
#include "cmd/eval_score.h"
#include "cmd/eval_series.h"

#define PATHS_MAX EVAL_STREAMS_MAX

struct paths {
	const char **v;
	size_t n;
};

struct eval_args {
	struct paths labels, events;
	struct eval_opts opts;
	bool json;
	bool calibrate;
	double false_per_week;
	const char *records, *series;
};

static const char usage_text[] =
	"usage: weir eval --labels L.json... --events E.jsonl... [OPTION...]\n"
	"       weir eval --calibrate [--false-per-week N] [--json] RECORDS\n"
	"       weir eval --series IN.csv\n"
	"\n"
	"Judges anomaly events by labels: precision, recall and F1 with the right class, delays, false alarms, flaps, with 95 %% intervals.\n"
	"Labels and events belong together in the order in which they are named. Beside a label file, stream.json may tell start, end and\n"
	"warmup of its stream.\n"
	"\n"
	"  --labels FILE...     what was done to the streams\n"
	"  --events FILE...     what a detector said of them: JSON lines, as weir replay --output json writes them\n"
	"  --warmup SECONDS     at the beginning of each stream that do not count (what stream.json says, else 0)\n"
	"  --calibrate          on records of one's own: the false alarms to expect, the score to page on, the smallest attacks that would be seen\n"
	"  --false-per-week N   what may ring (1)\n"
	"  --series FILE|-      of CSV timestamp,value: writes timestamp,value,anomaly_score\n"
	"  --json               one JSON object\n"
	"  --resamples N        draws of the bootstrap; 0: no intervals (%d)\n"
	"  --seed N             of the draws (1)\n"
	"  --help\n"
	"\n"
	"Exit status: 0 done, 1 failed on the way, 2 bad option or input.\n";

static int number(const char *option, const char *text, double max, double *ret)
{
	char *end;
	double v = strtod(text, &end);

	if (end == text || *end || !(v >= 0) || v > max) {
		log_error("eval: --%s wants a number from 0 to %g", option, max);
		return -EINVAL;
	}
	*ret = v;
	return 0;
}

static int path_add(struct paths *p, const char *path)
{
	if (p->n == PATHS_MAX) {
		log_error("eval: more than %d streams", PATHS_MAX);
		return -EINVAL;
	}
	p->v[p->n++] = path;
	return 0;
}

static int check_files(const struct eval_args *a)
{
	if (a->records) {
		log_error("eval: %s belongs to no option (weir eval --help)", a->records);
		return -EINVAL;
	}
	if (!a->labels.n || !a->events.n) {
		log_error("eval: --labels and --events are needed (weir eval --help)");
		return -EINVAL;
	}
	if (a->labels.n != a->events.n) {
		log_error("eval: %zu label files, but %zu event files: each stream needs one of both", a->labels.n, a->events.n);
		return -EINVAL;
	}
	return 0;
}

static int check_calibrate(const struct eval_args *a)
{
	if (a->labels.n || a->events.n) {
		log_error("eval: --calibrate wants no labels and no events (weir eval --help)");
		return -EINVAL;
	}
	if (!a->records || !strcmp(a->records, "-")) {
		log_error("eval: --calibrate wants a file of records, which it reads many times");
		return -EINVAL;
	}
	return 0;
}

static int check_series(const struct eval_args *a)
{
	if (!a->labels.n && !a->events.n && !a->records && !a->calibrate && !a->json)
		return 0;
	log_error("eval: --series stands alone (weir eval --help)");
	return -EINVAL;
}

/* 0; -EINVAL: it was said what is wrong; 1: help was asked for. */
static int parse(struct eval_args *a, int argc, char **argv)
{
	static const struct option options[] = {
		{ "labels", required_argument, NULL, 'l' }, { "events", required_argument, NULL, 'e' },	   { "warmup", required_argument, NULL, 'w' }, { "json", no_argument, NULL, 'j' },
		{ "seed", required_argument, NULL, 's' },   { "resamples", required_argument, NULL, 'r' }, { "help", no_argument, NULL, 'h' },	       { "calibrate", no_argument, NULL, 'c' },
		{ "false-per-week", required_argument, NULL, 'f' }, { "series", required_argument, NULL, 'S' }, { 0 },
	};
	struct paths *list = NULL; /* to which further files belong */
	double v = 0;
	int c, e = 0;

	opterr = 0;
	optind = 1;
	while (e == 0 && (c = getopt_long(argc, argv, "-:h", options, NULL)) != -1) {
		switch (c) {
		case 'l':
		case 'e':
			list = c == 'l' ? &a->labels : &a->events;
			e = path_add(list, optarg);
			break;
		case 1:
			if (!list && !a->records) {
				a->records = optarg;
				break;
			}
			if (!list) {
				log_error("eval: %s belongs to no option (weir eval --help)", optarg);
				return -EINVAL;
			}
			e = path_add(list, optarg);
			break;
		case 'w':
			e = number("warmup", optarg, 1e10, &a->opts.warmup_s);
			break;
		case 'r':
			e = number("resamples", optarg, EVAL_RESAMPLES_MAX, &v);
			a->opts.resamples = (uint32_t)v;
			break;
		case 's':
			e = number("seed", optarg, 9007199254740992.0, &v);
			a->opts.seed = (uint64_t)v;
			break;
		case 'c':
			a->calibrate = true;
			break;
		case 'S':
			a->series = optarg;
			break;
		case 'f':
			e = number("false-per-week", optarg, 1e6, &a->false_per_week);
			break;
		case 'j':
			a->json = true;
			break;
		case 'h':
			printf(usage_text, EVAL_RESAMPLES);
			return 1;
		case ':':
			log_error("eval: %s wants a value", argv[optind - 1]);
			return -EINVAL;
		default:
			log_error("eval: unknown option %s (weir eval --help)", argv[optind - 1]);
			return -EINVAL;
		}
		/* Files may follow these two only; a stray word behind another option is a mistake. */
		if (c != 'l' && c != 'e' && c != 1)
			list = NULL;
	}
	if (e < 0)
		return e;
	if (a->series)
		return check_series(a);
	return a->calibrate ? check_calibrate(a) : check_files(a);
}
static void complain(const char *message)
{
	log_warning("eval: %s", message);
}

static int judge(const struct eval_args *a, struct eval_classes *classes, struct eval_stream *stream)
{
	CLEANUP(freep) struct eval_result *result = calloc(1, sizeof(*result));
	struct str out = { .ceiling = 16u << 20 };
	char why[EVAL_WHY];
	int e = result ? 0 : -ENOMEM, status = EXIT_FAILURE;

	for (size_t i = 0; e == 0 && i < a->labels.n; i++) {
		e = eval_read_labels(a->labels.v[i], classes, &stream[i], why);
		if (e == 0)
			e = eval_read_events(a->events.v[i], classes, &stream[i], complain, why);
		if (e < 0) {
			log_error("eval: %s", why);
			return e == -ENOMEM ? EXIT_FAILURE : EXIT_USAGE;
		}
	}
	if (e == 0)
		e = eval_score(stream, a->labels.n, &a->opts, result);
	if (e == 0) {
		if (a->json)
			eval_write_json(&out, result, classes);
		else
			eval_write_text(&out, result, classes);
		e = str_error(&out);
	}
	if (e < 0)
		log_error("eval: %s", strerror(-e));
	else if (fwrite(out.p, 1, out.n, stdout) != out.n || fflush(stdout) == EOF)
		log_error("eval: cannot write: %s", strerror(errno));
	else
		status = 0;
	str_done(&out);
	return status;
}

int cmd_eval(int argc, char **argv)
{
	CLEANUP(freep) const char **paths = calloc(2 * (size_t)PATHS_MAX, sizeof(*paths));
	CLEANUP(freep) struct eval_stream *stream = NULL;
	struct eval_args a = { .opts = { .warmup_s = NAN, .resamples = EVAL_RESAMPLES, .seed = 1 }, .false_per_week = 1 };
	struct eval_classes classes = { 0 };
	int e, status = EXIT_FAILURE;

	if (!paths)
		goto out;
	a.labels.v = paths;
	a.events.v = paths + PATHS_MAX;
	e = parse(&a, argc, argv);
	if (e)
		return e < 0 ? EXIT_USAGE : 0;
	if (a.series)
		return eval_series(a.series);
	if (a.calibrate)
		return eval_calibrate(a.records, a.false_per_week, a.json);
	stream = calloc(a.labels.n, sizeof(*stream));
	if (!stream || eval_classes_init(&classes) < 0)
		goto out;
	status = judge(&a, &classes, stream);
	for (size_t i = 0; i < a.labels.n; i++)
		eval_stream_done(&stream[i]);
	eval_classes_done(&classes);
	return status;
out:
	eval_classes_done(&classes);
	log_error("eval: %s", strerror(ENOMEM));
	return status;
}
