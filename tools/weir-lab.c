/*
 * weir-lab - labelled traffic, from a seed: into a directory, to standard output in real time, or against a server.
 *
 * The same seed gives the same bytes. docs/lab.md says what is in them.
 */
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>

#include "lab/live.h"

static volatile sig_atomic_t stopping;

static void on_signal(int sig)
{
	(void)sig;
	stopping = 1;
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

static int dir_make(const char *dir)
{
	if (mkdir(dir, 0755) < 0 && errno != EEXIST) {
		fprintf(stderr, "weir-lab: %s: %s\n", dir, strerror(errno));
		return -errno;
	}
	return 0;
}

/* What stands beside the records. */
static int facts_write(const struct lab *lab, const char *dir)
{
	struct out o;

	if (file_open(dir, "labels.json", &o) < 0)
		return -EIO;
	labels_json(&o, lab);
	if (file_close(&o, 0) || file_open(dir, "stream.json", &o) < 0)
		return -EIO;
	stream_json(&o, lab);
	if (file_close(&o, 0))
		return -EIO;
	if (!lab->calendar.n)
		return 0;
	if (file_open(dir, "calendar.jsonl", &o) < 0)
		return -EIO;
	out_room(&o);
	memcpy(o.p, lab->calendar.p, lab->calendar.n);
	o.n = lab->calendar.n;
	return file_close(&o, 0);
}

static int cmd_make(struct lab *lab, const char *dir)
{
	struct out o;
	int r;

	if (dir_make(dir) < 0 || file_open(dir, lab->format == FMT_CSV ? "records.csv" : "records.jsonl", &o) < 0)
		return 1;
	if (lab->format == FMT_CSV)
		csv_head(&o, lab);
	r = lab_run(lab, rec_write, &o);
	if (file_close(&o, r) || facts_write(lab, dir) < 0)
		return 1;
	fprintf(stderr, "weir-lab: %s: seed %llu, %s, %.2f days, %llu records, %d labels\n", dir, (unsigned long long)lab->seed, lab->kind,
		lab->len / 86400, (unsigned long long)lab->records, lab->label_n);
	return 0;
}

/* What was not played did not happen. */
static void labels_cut(struct lab *lab, double end)
{
	lab->len = end < lab->len ? end : lab->len;
	for (int i = 0; i < lab->label_n; i++)
		if (lab->label[i].start >= lab->len) {
			free(lab->label[i].actor);
			lab->label[i--] = lab->label[--lab->label_n];
		} else if (lab->label[i].end > lab->len) {
			lab->label[i].end = lab->len;
		}
	qsort(lab->label, (size_t)lab->label_n, sizeof(*lab->label), label_order);
}

static int cmd_stream(struct lab *lab, const char *dir, double speed, double limit)
{
	struct paced p = { .out = { .fd = STDOUT_FILENO }, .speed = speed, .limit = limit, .stop = &stopping };
	int r;

	if (dir && dir_make(dir) < 0)
		return 1;
	clock_gettime(CLOCK_MONOTONIC, &p.since);
	if (lab->format == FMT_CSV)
		csv_head(&p.out, lab);
	r = lab_run(lab, emit_paced, &p);
	out_flush(&p.out);
	free(p.out.p);
	if (p.out.error && p.out.error != EPIPE)
		fprintf(stderr, "weir-lab: %s\n", strerror(p.out.error));
	if (r == -EINTR)
		labels_cut(lab, paced_elapsed(&p) * speed);
	return (dir && facts_write(lab, dir) < 0) || p.out.error ? 1 : 0;
}

/* The stream's clock becomes the wall's. */
static void labels_to_wall(struct lab *lab, double since, double speed)
{
	int keep = 0;

	for (int i = 0; i < lab->label_n; i++) {
		struct label *l = &lab->label[i];

		if (!strcmp(l->cls, "natural_load")) { /* that was the simulation's server */
			free(l->actor);
			continue;
		}
		l->start /= speed;
		l->end /= speed;
		lab->label[keep++] = *l;
	}
	lab->label_n = keep;
	lab->epoch = since;
	lab->len /= speed;
	lab->warmup /= speed;
	lab->mean_rate *= speed;
}

static int cmd_live(struct lab *lab, struct live *v, const char *dir)
{
	struct timespec wall;
	int r;

	if (dir && dir_make(dir) < 0)
		return 1;
	clock_gettime(CLOCK_REALTIME, &wall);
	clock_gettime(CLOCK_MONOTONIC, &v->paced.since);
	r = lab_run(lab, emit_live, v);
	if (r == -EINTR)
		labels_cut(lab, paced_elapsed(&v->paced) * v->paced.speed);
	live_end(v, lab);
	labels_to_wall(lab, (double)wall.tv_sec + (double)wall.tv_nsec / 1e9, v->paced.speed);
	fprintf(stderr, "weir-lab: %llu requests sent, %llu answered 2xx, %llu 4xx, %llu 5xx, %llu cut off, %llu failed, %llu not sent (too many open); faults set %llu times, refused %llu times; %d labels\n",
		(unsigned long long)v->sent, (unsigned long long)v->answered[2], (unsigned long long)v->answered[4], (unsigned long long)v->answered[5], (unsigned long long)v->answered[0],
		(unsigned long long)v->failed, (unsigned long long)v->skipped, (unsigned long long)v->chaos_asked, (unsigned long long)v->chaos_failed, lab->label_n);
	return (dir && facts_write(lab, dir) < 0) || v->chaos_failed || v->skipped ? 1 : 0;
}

static void usage(FILE *f)
{
	fputs("usage: weir-lab make   [options] --out DIR              records, labels.json, stream.json, calendar.jsonl\n"
	      "       weir-lab stream [options] [--speed S] [--limit S] [--out DIR]   records on standard output in real time; labels into DIR\n"
	      "       weir-lab live   [options] --server http://127.0.0.1:PORT [--speed S] [--limit S] [--token-scale F] [--out DIR]   real requests\n"
	      "  --seed N             (1); from 1000 on: other traces, and attacks that tuning never sees\n"
	      "  --kind K             tune or test (by the seed: a stream with attacks), cold, hard, clean\n"
	      "  --only CLASS         attacks of one class only\n"
	      "  --days D             length, else drawn; --rate R: mean requests a second, else drawn\n"
	      "  --records N          about so many at most (550000)\n"
	      "  --start T            epoch seconds of the first second (make: drawn; stream: now)\n"
	      "  --speed S            stream: so many times faster than the clock (1); --limit S: end after so many seconds\n"
	      "  --token-scale F      live: prompts and answers so many times as long (0.1)\n"
	      "  --profile NAME       how the site is seen, else drawn:",
	      f);
	for (int i = 0; i < LAB_PROFILES; i++)
		fprintf(f, " %s", lab_profiles[i].name);
	fputs("\n", f);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "seed", 1, NULL, 's' },    { "kind", 1, NULL, 'k' }, { "profile", 1, NULL, 'p' }, { "days", 1, NULL, 'd' },  { "rate", 1, NULL, 'r' },
		{ "records", 1, NULL, 'n' }, { "out", 1, NULL, 'o' },  { "only", 1, NULL, 'c' },    { "start", 1, NULL, 't' }, { "speed", 1, NULL, 'x' },
		{ "limit", 1, NULL, 'l' },   { "server", 1, NULL, 'u' }, { "token-scale", 1, NULL, 'f' }, { "help", 0, NULL, 'h' }, { 0 },
	};
	struct sigaction act = { .sa_handler = on_signal };
	struct lab_opts o = { .seed = 1 };
	double speed = 1, limit = 0, token_scale = 0.1;
	const char *dir = NULL, *server = NULL, *cmd;
	struct live v;
	struct lab *lab;
	int r;

	for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		switch (c) {
		case 's': o.seed = strtoull(optarg, NULL, 10); break;
		case 'k': o.kind = optarg; break;
		case 'p': o.profile = optarg; break;
		case 'd': o.days = atof(optarg); break;
		case 'r': o.rate = atof(optarg); break;
		case 'n': o.records = atof(optarg); break;
		case 't': o.start = atof(optarg); break;
		case 'o': dir = optarg; break;
		case 'c': o.only = optarg; break;
		case 'x': speed = atof(optarg); break;
		case 'l': limit = atof(optarg); break;
		case 'u': server = optarg; break;
		case 'f': token_scale = atof(optarg); break;
		case 'h': usage(stdout); return 0;
		default: usage(stderr); return 2;
		}
	}
	cmd = optind + 1 == argc ? argv[optind] : "";
	o.live = !strcmp(cmd, "live");
	if ((strcmp(cmd, "make") != 0 || !dir) && strcmp(cmd, "stream") != 0 && (!o.live || !server)) {
		usage(stderr);
		return 2;
	}
	if (strcmp(cmd, "make") != 0 && o.start <= 0)
		o.start = (double)time(NULL);
	v = (struct live){ .paced = { .speed = speed, .limit = limit, .stop = &stopping }, .token_scale = token_scale };
	if (o.live) {
		r = live_begin(&v, server);
		if (r < 0) {
			fprintf(stderr, "weir-lab: %s: %s\n", server, r == -EINVAL ? "not http://127.x.y.z:PORT" : r == -ENOENT ? "no models" : strerror(-r));
			return 1;
		}
		o.model = (const char(*)[40])v.model;
		o.model_n = v.model_n;
	}
	lab = lab_realloc(NULL, sizeof(*lab));
	r = speed > 0 && token_scale > 0 ? lab_plan(lab, &o) : -EINVAL;
	if (r < 0) {
		fputs(r == -ERANGE ? "weir-lab: seeds below 1000 are for tuning, the others for tests\n" : "weir-lab: no such kind, profile, class or number\n", stderr);
		free(lab);
		return 2;
	}
	sigaction(SIGINT, &act, NULL);
	sigaction(SIGTERM, &act, NULL);
	signal(SIGPIPE, SIG_IGN);
	if (!strcmp(cmd, "make"))
		r = cmd_make(lab, dir);
	else if (o.live)
		r = cmd_live(lab, &v, dir);
	else
		r = cmd_stream(lab, dir, speed, limit);
	lab_done(lab);
	free(lab);
	return r;
}
