/*
 * weir-lab - labelled traffic, from a seed: to a directory, to a pipe in real time, or against a server.
 */
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>

#include "lab/make.h"

static int emit_out(void *ctx, const struct lab *lab, const struct rec *q)
{
	struct out *o = ctx;

	if (lab->format == FMT_CSV)
		rec_csv(o, lab, q);
	else
		rec_json(o, lab, q);
	return o->error;
}

static int file_open(const char *dir, const char *name, struct out *ret)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	*ret = (struct out){ .fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644) };
	if (ret->fd < 0) {
		fprintf(stderr, "weir-lab: %s: %s\n", path, strerror(errno));
		return -errno;
	}
	return 0;
}

static int file_close(struct out *o, int r)
{
	out_flush(o);
	free(o->p);
	if (close(o->fd) < 0 && !o->error)
		o->error = errno;
	if (o->error)
		fprintf(stderr, "weir-lab: %s\n", strerror(o->error));
	return r ? r : -o->error;
}

static int cmd_make(struct lab *lab, const char *dir)
{
	struct out o;
	int r;

	if (!dir) {
		fputs("weir-lab: make wants --out DIR\n", stderr);
		return 2;
	}
	if (mkdir(dir, 0755) < 0 && errno != EEXIST) {
		fprintf(stderr, "weir-lab: %s: %s\n", dir, strerror(errno));
		return 1;
	}
	if (file_open(dir, lab->format == FMT_CSV ? "records.csv" : "records.jsonl", &o) < 0)
		return 1;
	if (lab->format == FMT_CSV)
		csv_head(&o, lab);
	r = lab_run(lab, emit_out, &o);
	if (file_close(&o, r) || file_open(dir, "labels.json", &o) < 0)
		return 1;
	labels_json(&o, lab);
	if (file_close(&o, 0) || file_open(dir, "stream.json", &o) < 0)
		return 1;
	stream_json(&o, lab);
	if (file_close(&o, 0))
		return 1;
	if (lab->calendar.n) {
		if (file_open(dir, "calendar.jsonl", &o) < 0)
			return 1;
		out_room(&o);
		memcpy(o.p, lab->calendar.p, lab->calendar.n);
		o.n = lab->calendar.n;
		if (file_close(&o, 0))
			return 1;
	}
	fprintf(stderr, "weir-lab: %s: seed %llu, %s, %.2f days, %llu records, %d labels\n", dir, (unsigned long long)lab->seed, lab->kind, lab->len / 86400, (unsigned long long)lab->records, lab->label_n);
	return 0;
}

static void usage(FILE *f)
{
	fputs("usage: weir-lab make   --seed N [--kind tune|test|clean|hard|cold] [--profile NAME] [--days D] [--rate R] [--records N] --out DIR\n"
	      "profiles:", f);
	for (int i = 0; i < LAB_PROFILES; i++)
		fprintf(f, " %s", lab_profiles[i].name);
	fputs("\n", f);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "seed", 1, NULL, 's' }, { "kind", 1, NULL, 'k' }, { "profile", 1, NULL, 'p' }, { "days", 1, NULL, 'd' }, { "rate", 1, NULL, 'r' },
		{ "records", 1, NULL, 'n' }, { "out", 1, NULL, 'o' }, { "only", 1, NULL, 'c' }, { "help", 0, NULL, 'h' }, { 0 },
	};
	struct lab_opts o = { .seed = 1 };
	const char *dir = NULL;
	struct lab lab;
	int r;

	for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		switch (c) {
		case 's': o.seed = strtoull(optarg, NULL, 10); break;
		case 'k': o.kind = optarg; break;
		case 'p': o.profile = optarg; break;
		case 'd': o.days = atof(optarg); break;
		case 'r': o.rate = atof(optarg); break;
		case 'n': o.records = atof(optarg); break;
		case 'o': dir = optarg; break;
		case 'c': o.only = optarg; break;
		case 'h': usage(stdout); return 0;
		default: usage(stderr); return 2;
		}
	}
	if (optind + 1 != argc || strcmp(argv[optind], "make") != 0 || (o.only && attack_find(o.only) < 0)) {
		usage(stderr);
		return 2;
	}
	r = lab_plan(&lab, &o);
	if (r == -ERANGE)
		fputs("weir-lab: seeds below 1000 are for tuning, the others for tests\n", stderr);
	else if (r < 0)
		usage(stderr);
	if (r < 0)
		return 2;
	r = cmd_make(&lab, dir);
	lab_done(&lab);
	return r;
}
