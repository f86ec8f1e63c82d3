/* weir replay - the engine on a file of records, or on a packet capture, in event time. */
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>

#include "base/log.h"
#include "cmd/agent_key.h"
#include "cmd/calendar_file.h"
#include "cmd/cmd.h"
#include "cmd/price_file.h"
#include "cmd/replay_pcap.h"
#include "cmd/state.h"
#include "decode/record.h"
#include "detect/detect.h"
#include "detect/part.h"
#include "detect/price.h"
#include "sink/sink.h"

#define WAIT_MS 200          /* between two looks at a file that is followed */
#define PROGRESS_EVERY 65536 /* records between two looks at the clock */
#define STATE_EVERY 256       /* records between two looks at what is to be saved */

/* --format; what comes before FORMAT_PCAP is an enum record_format */
#define FORMAT_PCAP 3

struct replay {
	const char *path;
	const char *name; /* in messages */
	int format;
	bool pcap;
	uint8_t *ports; /* of captures; bitmap, NULL: none was named */
	struct identity_rules identity;
	bool identity_given;
	const char *records_path;
	FILE *records_out;
	bool json, follow;
	struct detect_opts detect;

	const char *state_dir;
	const char *calendar_path, *config_path;
	struct calendar *calendar;
	struct prices *prices;
	struct state *state;
	struct detect *engine;
	struct sink *sink;
	struct record_reader *reader;
	int fd;
	uint64_t lines, bad_lines, bad_values; /* of readers that are gone */
	uint64_t records, tokens;
	struct str line; /* being written to records_out */
	uint64_t seen; /* fields that any record had */
	double first, last;
	bool complained, failed;
};

static volatile sig_atomic_t stop;

static void on_signal(int sig)
{
	(void)sig;
	stop = 1;
}

static const char usage_text[] =
	"usage: weir replay [OPTION...] FILE|-\n"
	"\n"
	"Runs the detectors over request records (CSV or JSON lines) or a packet capture (pcap, pcapng) in event time.\n"
	"\n"
	"  --format auto|csv|jsonl|pcap   default: auto; a capture on stdin must be named\n"
	"  --port N                       captures: a server's port; may be repeated; default: guessed, and said\n"
	"  --trusted-proxy ADDRESS[/BITS] captures: believe this peer about who the client is; may be repeated\n"
	"  --trusted-header NAME          captures: of a trusted proxy's headers this one alone\n"
	"  --records-out FILE             captures: write the requests found as records\n"
	"  --output human|json            json: stdout carries anomaly events only, one a line\n"
	"  --detector full|static|ewma    default: full; static: mean + k sd over the whole file\n"
	"  --bin SECONDS                  static: width of a bin (300)\n"
	"  --sigma K                      static: deviations above the mean (3)\n"
	"  --lateness SECONDS             how long the clock waits for late records (2)\n"
	"  --sensitivity X                below 1 fewer alarms, above it more (1; weir eval --calibrate proposes it)\n"
	"  --alarms-per-week N            let the sensitivity follow what has been seen: about so many false alarms a week\n"
	"  --calendar FILE                what is known to come: events it explains are told one step less severe\n"
	"  --config FILE                  what tokens cost, by model: its section [price], as of weir run\n"
	"  --state DIR                    go on from what was learnt before, and keep what is learnt (weir.db)\n"
	"  --follow                       go on reading as the file grows, is truncated or rotated\n"
	"  --help\n"
	"\n"
	"Fields: docs/records.md; captures: docs/captures.md. Bad lines are named on stderr, skipped and counted; so is a summary.\n"
	"Exit status: 0 done, 1 failed on the way, 2 bad option or unreadable file.\n";

static int number(const char *option, const char *text, double min, double max, double *ret)
{
	char *end;
	double v;

	errno = 0;
	v = strtod(text, &end);
	if (errno || end == text || *end || !isfinite(v) || v < min || v > max) {
		log_error("--%s wants a number from %g to %g", option, min, max);
		return -EINVAL;
	}
	*ret = v;
	return 0;
}

static int choice(const char *option, const char *text, const char *const *words, int *ret)
{
	for (int i = 0; words[i]; i++) {
		if (!strcmp(text, words[i])) {
			*ret = i;
			return 0;
		}
	}
	fprintf(stderr, "weir: --%s wants one of", option);
	for (int i = 0; words[i]; i++)
		fprintf(stderr, "%s%s", i ? ", " : " ", words[i]);
	fputc('\n', stderr);
	return -EINVAL;
}

static int port(struct replay *r, const char *text)
{
	double v;
	int e = number("port", text, 1, 65535, &v);

	if (e < 0)
		return e;
	if (v != floor(v)) {
		log_error("--port wants a whole number");
		return -EINVAL;
	}
	if (!r->ports)
		r->ports = calloc(1, 65536 / 8);
	if (!r->ports)
		return -ENOMEM;
	r->ports[(unsigned)v >> 3] |= (uint8_t)(1u << ((unsigned)v & 7));
	return 0;
}

static int trusted(struct replay *r, const char *network)
{
	int e = identity_trust(&r->identity, span_of(network));

	r->identity_given = true;
	if (e == -E2BIG)
		log_error("--trusted-proxy: given too often");
	else if (e < 0)
		log_error("--trusted-proxy: '%.64s' %s", network, e == -EDOM ? "has bits set behind its prefix" : "is not ADDRESS[/BITS]");
	return e;
}

static int trusted_header(struct replay *r, const char *name)
{
	int e = identity_trust_only(&r->identity, span_of(name));

	r->identity_given = true;
	if (e < 0)
		log_error("--trusted-header: '%.64s' is no header that names a client", name);
	return e;
}

/* 0, EXIT_USAGE, or -1: help was asked for. */
static int parse(struct replay *r, int argc, char **argv)
{
	static const char *const formats[] = { "auto", "csv", "jsonl", "pcap", NULL };
	static const char *const outputs[] = { "human", "json", NULL };
	static const char *const detectors[] = { "full", "static", "ewma", NULL };
	static const struct option options[] = {
		{ "format", required_argument, NULL, 'f' },   { "output", required_argument, NULL, 'o' }, { "detector", required_argument, NULL, 'd' },
		{ "bin", required_argument, NULL, 'b' },      { "sigma", required_argument, NULL, 's' },  { "lateness", required_argument, NULL, 'l' },
		{ "follow", no_argument, NULL, 'F' },         { "state", required_argument, NULL, 'S' },  { "calendar", required_argument, NULL, 'C' },
		{ "without", required_argument, NULL, 'w' }, /* developers': docs/detection.md */
		{ "config", required_argument, NULL, 'c' }, { "sensitivity", required_argument, NULL, 'x' }, { "alarms-per-week", required_argument, NULL, 'a' },
		{ "port", required_argument, NULL, 'p' },     { "records-out", required_argument, NULL, 'r' },
		{ "trusted-proxy", required_argument, NULL, 't' }, { "trusted-header", required_argument, NULL, 'T' },
		{ "help", no_argument, NULL, 'h' },           { 0 },
	};
	char why[CALENDAR_WHY];
	int c, v = 0, e = 0;

	opterr = 0;
	optind = 1;
	while ((c = getopt_long(argc, argv, ":h", options, NULL)) != -1 && e == 0) {
		switch (c) {
		case 'f':
			e = choice("format", optarg, formats, &v);
			r->format = v;
			break;
		case 'o':
			e = choice("output", optarg, outputs, &v);
			r->json = v == 1;
			break;
		case 'd':
			e = choice("detector", optarg, detectors, &v);
			r->detect.detector = (enum detector)v;
			break;
		case 'b':
			e = number("bin", optarg, 1e-3, 1e9, &r->detect.bin_s);
			break;
		case 's':
			e = number("sigma", optarg, 1e-3, 1e6, &r->detect.sigma);
			break;
		case 'l':
			e = number("lateness", optarg, 1e-3, 3600, &r->detect.lateness_s);
			break;
		case 'x':
			e = number("sensitivity", optarg, DETECT_SENSITIVITY_MIN, DETECT_SENSITIVITY_MAX, &r->detect.sensitivity);
			break;
		case 'a':
			e = number("alarms-per-week", optarg, 0.01, DETECT_ALARMS_MAX, &r->detect.alarms_per_week);
			break;
		case 'F':
			r->follow = true;
			break;
		case 'p':
			e = port(r, optarg);
			break;
		case 't':
			e = trusted(r, optarg);
			break;
		case 'T':
			e = trusted_header(r, optarg);
			break;
		case 'r':
			r->records_path = optarg;
			break;
		case 'S':
			r->state_dir = optarg;
			break;
		case 'w':
			e = parts_parse(span_of(optarg), &r->detect.without);
			if (e < 0)
				log_error("--without wants names of docs/detection.md, commas between them");
			break;
		case 'c':
			r->config_path = optarg;
			break;
		case 'C':
			r->calendar_path = optarg;
			break;
		case 'h':
			fputs(usage_text, stdout);
			return -1;
		case ':':
			log_error("replay: %s wants a value", argv[optind - 1]);
			return EXIT_USAGE;
		default:
			log_error("replay: unknown option %s (weir replay --help)", optopt ? argv[optind - 1] : argv[optind - 1]);
			return EXIT_USAGE;
		}
	}
	if (e < 0)
		return EXIT_USAGE;
	if (argc - optind != 1) {
		log_error("replay: %s (weir replay --help)", argc == optind ? "which file? '-' is stdin" : "one file only");
		return EXIT_USAGE;
	}
	r->path = argv[optind];
	if (r->follow && r->detect.detector == DETECTOR_STATIC) {
		log_error("replay: --detector static needs the whole file, so it cannot --follow");
		return EXIT_USAGE;
	}
	if (r->state_dir && r->detect.detector == DETECTOR_STATIC) {
		log_error("replay: --detector static learns nothing that --state could keep");
		return EXIT_USAGE;
	}
	if (r->calendar_path && r->detect.detector == DETECTOR_STATIC) {
		log_error("replay: --detector static knows no --calendar");
		return EXIT_USAGE;
	}
	if ((r->detect.sensitivity > 0 || r->detect.alarms_per_week > 0) && r->detect.detector == DETECTOR_STATIC) {
		log_error("replay: --detector static knows no --sensitivity and no --alarms-per-week: --sigma is its own");
		return EXIT_USAGE;
	}
	if (r->calendar_path && calendar_file_read(r->calendar_path, &r->calendar, why) < 0) {
		log_error("%s", why);
		return EXIT_USAGE;
	}
	if (r->config_path && price_file_read(r->config_path, &r->prices) < 0)
		return EXIT_USAGE;
	if (r->records_path && !strcmp(r->records_path, "-") && r->json) {
		log_error("replay: --records-out - and --output json both want standard output: name a file for the records");
		return EXIT_USAGE;
	}
	return 0;
}

static void on_complaint(void *ctx, const char *message)
{
	struct replay *r = ctx;

	r->complained = true;
	log_warning("%s", message);
}

static void on_anomaly(void *ctx, const struct anomaly *a)
{
	struct replay *r = ctx;

	state_event(r->state, a);
	sink_emit(r->sink, a);
}

/* Of what was open when an earlier run ended. It is in the store already. */
static void on_left_open(void *ctx, const struct anomaly *a)
{
	struct replay *r = ctx;

	sink_emit(r->sink, a);
}

static double watermark(const struct replay *r)
{
	struct detect_stats st;

	detect_stats(r->engine, &st);
	return st.watermark;
}

/* A descriptor of our own where we need it not to block: the flag would else change the caller's stdin, too. */
static int open_input(const struct replay *r)
{
	int flags = O_RDONLY | O_CLOEXEC | O_NOCTTY, fd;

	if (strcmp(r->path, "-")) {
		/* Without the writer there, open() of a FIFO waits for one; a follower must not. */
		fd = open(r->path, flags | (r->follow ? O_NONBLOCK : 0));
		return fd < 0 ? -errno : fd;
	}
	if (r->follow) {
		fd = open("/proc/self/fd/0", flags | O_NONBLOCK);
		if (fd >= 0)
			return fd;
	}
	fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
	return fd < 0 ? -errno : fd;
}

/* What the file is, without taking anything off it: a pipe cannot be asked. */
static bool is_capture(const struct replay *r, int fd)
{
	uint8_t magic[PCAP_MAGIC_BYTES];

	if (r->format != FORMAT_AUTO)
		return r->format == FORMAT_PCAP;
	return pread(fd, magic, sizeof(magic), 0) == sizeof(magic) && pcap_file_magic(magic);
}

static int open_reader(struct replay *r)
{
	struct record_reader_opts opts = {
		.format = (enum record_format)r->format, .name = r->name, .complain = on_complaint, .ctx = r,
		.follow = r->follow && strcmp(r->path, "-"), /* the end of a pipe on stdin is the end */
	};
	int fd = open_input(r);

	if (fd < 0)
		return fd;
	r->fd = fd;
	r->pcap = is_capture(r, fd);
	return r->pcap ? 0 : record_reader_open(fd, &opts, &r->reader);
}

static void close_reader(struct replay *r)
{
	if (!r->reader) {
		closep(&r->fd);
		r->fd = -1;
		return;
	}
	r->lines += record_reader_lines(r->reader);
	r->bad_lines += record_reader_bad_lines(r->reader);
	r->bad_values += record_reader_bad_values(r->reader);
	r->reader = record_reader_free(r->reader);
	r->fd = -1;
}

static double monotonic(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void progress(const struct replay *r, bool end)
{
	static double last;
	double now;

	if (!isatty(STDERR_FILENO))
		return;
	now = monotonic();
	if (end ? last > 0 : now - last > 0.5) {
		fprintf(stderr, end ? "\r\033[K" : "\r%" PRIu64 " records", r->records);
		last = end ? 0 : now;
	}
}

static uint64_t add(uint64_t a, int64_t b)
{
	return a > UINT64_MAX - (uint64_t)b ? UINT64_MAX : a + (uint64_t)b;
}

static int take(struct replay *r, const struct record *rec)
{
	int e;

	if (!r->records || rec->timestamp < r->first)
		r->first = rec->timestamp;
	if (!r->records || rec->timestamp > r->last)
		r->last = rec->timestamp;
	r->records++;
	r->seen |= rec->has;
	r->tokens = add(r->tokens, record_int(rec, F_PROMPT_TOKENS, 0));
	r->tokens = add(r->tokens, record_int(rec, F_COMPLETION_TOKENS, 0));
	if (r->records % PROGRESS_EVERY == 0)
		progress(r, false);
	state_record(r->state, rec);
	e = detect_record(r->engine, rec);
	if (r->state && r->records % STATE_EVERY == 0)
		state_tick(r->state, watermark(r));
	return e;
}

/* All that is there now. 0: end of input, -EAGAIN: for now; or what went wrong. */
static int drain(struct replay *r)
{
	struct record rec;
	int n;

	while ((n = record_reader_next(r->reader, &rec)) == 1) {
		int e = take(r, &rec);

		if (e < 0)
			return e == -EAGAIN ? -EIO : e;
		if (stop)
			return 0;
	}
	return n;
}

/* The path may name another file by now, or this one may have been cut short. */
static int look_for_rotation(struct replay *r)
{
	struct stat named, ours;
	bool cut;
	int e;

	if (!strcmp(r->path, "-") || stat(r->path, &named) < 0 || fstat(r->fd, &ours) < 0)
		return 0; /* gone for the moment: the next one is about to come */
	cut = S_ISREG(ours.st_mode) && ours.st_size < lseek(r->fd, 0, SEEK_CUR);
	if (!cut && named.st_ino == ours.st_ino && named.st_dev == ours.st_dev)
		return 0;
	if (!cut) {
		record_reader_unfollow(r->reader);
		e = drain(r);
		if (e < 0)
			return e;
	}
	close_reader(r);
	e = open_reader(r);
	if (e == -ENOENT) {
		/* between two renames */
		poll(NULL, 0, WAIT_MS);
		e = open_reader(r);
	}
	return e;
}

static int follow(struct replay *r)
{
	double silent_since = monotonic(), clock = 0;
	uint64_t records = 0;

	while (!stop) {
		struct pollfd p = { .fd = r->fd, .events = POLLIN };
		struct detect_stats st;
		struct stat sb;
		int e = drain(r);

		if (e != -EAGAIN)
			return e;
		if (r->records != records) {
			/* Silence is counted from here, in the stream's own time: the file may be an old one. */
			detect_stats(r->engine, &st);
			records = r->records;
			silent_since = monotonic();
			clock = st.watermark;
		} else if (records) {
			e = detect_advance(r->engine, clock + r->detect.lateness_s + (monotonic() - silent_since));
			if (e < 0)
				return e;
		}
		if (records)
			state_tick(r->state, watermark(r));
		e = look_for_rotation(r);
		if (e < 0)
			return e;
		if (fstat(r->fd, &sb) == 0 && S_ISREG(sb.st_mode))
			poll(NULL, 0, WAIT_MS);
		else if (poll(&p, 1, WAIT_MS) > 0 && !(p.revents & POLLIN))
			poll(NULL, 0, WAIT_MS); /* a FIFO without a writer is always ready, and always empty */
	}
	return 0;
}

/* ---- captures ---------------------------------------------------------------------------------------- */
/* Started anew each time, unlike the live agent's: the same capture gives the same file. */
static int open_records_out(struct replay *r)
{
	struct stat in, out;
	int fd;

	if (!r->records_path)
		return 0;
	if (!strcmp(r->records_path, "-")) {
		r->records_out = stdout;
		return 0;
	}
	fd = open(r->records_path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY, 0640);
	if (fd < 0)
		goto failed;
	if (fstat(r->fd, &in) == 0 && fstat(fd, &out) == 0 && in.st_dev == out.st_dev && in.st_ino == out.st_ino) {
		log_error("--records-out %s: is the capture itself", r->records_path);
		close(fd);
		return -EINVAL;
	}
	if (ftruncate(fd, 0) < 0 && errno != EINVAL) /* a pipe has no length */
		goto failed;
	r->records_out = fdopen(fd, "w");
	if (r->records_out)
		return 0;
failed:
	log_error("--records-out %s: %s", r->records_path, strerror(errno));
	if (fd >= 0)
		close(fd);
	return -EIO;
}

static int close_records_out(struct replay *r)
{
	FILE *f = TAKE_PTR(r->records_out);
	int e = 0;

	if (f == stdout)
		e = fflush(f) == 0 ? 0 : -errno;
	else if (f && fclose(f) != 0)
		e = -errno;
	return e;
}

static int on_record(void *ctx, const struct record *rec)
{
	struct replay *r = ctx;
	int e = 0;

	if (r->records_out) {
		str_reset(&r->line);
		record_write_json(&r->line, rec);
		e = str_error(&r->line);
		if (e == 0 && fwrite(r->line.p, 1, r->line.n, r->records_out) != r->line.n)
			e = errno ? -errno : -EIO;
		if (e < 0) {
			log_error("--records-out %s: %s", r->records_path, strerror(-e));
			r->failed = true;
			return e;
		}
	}
	return take(r, rec);
}

/* 0, 1 where the file cannot be read (said), or negative errno. */
static int read_capture(struct replay *r)
{
	struct replay_pcap_opts o = { .name = r->name, .ports = r->ports, .identity = &r->identity, .record = on_record, .ctx = r };
	uint8_t key[AGENT_KEY_BYTES];
	char why[AGENT_KEY_WHY];
	FILE *f;
	int e;

	if (r->state_dir) {
		e = agent_key_load(r->state_dir, NULL, key, why);
		if (e < 0) {
			log_error("%s", why);
			return 1;
		}
		o.key = key;
	}
	f = fdopen(r->fd, "rb");
	if (!f)
		return -errno;
	r->fd = -1;
	e = replay_pcap(f, &o);
	explicit_bzero(key, sizeof(key));
	return e;
}

static void summarize(const struct replay *r)
{
	struct detect_stats st;
	char classes[512] = "", lacking[512] = "", lines[96] = "";
	size_t n = 0;
	double span = r->records ? r->last - r->first : 0;

	detect_stats(r->engine, &st);
	for (int c = 0; c < CLASS_COUNT; c++)
		if (st.opens[c] && n < sizeof(classes))
			n += (size_t)snprintf(classes + n, sizeof(classes) - n, "%s%s %" PRIu64, n ? ", " : "", anomaly_class_name((enum anomaly_class)c), st.opens[c]);
	if (!r->pcap)
		snprintf(lines, sizeof(lines), "%" PRIu64 " lines, %" PRIu64 " bad, %" PRIu64 " bad values; ", r->lines, r->bad_lines, r->bad_values);
	log_info("%s: %s%" PRIu64 " requests, %" PRIu64 " tokens over %.0f s; incidents: %s", r->name, lines, st.requests, r->tokens, span, n ? classes : "none");
	if (st.late || st.future || st.evicted)
		log_info("%s: %" PRIu64 " records came late, %" PRIu64 " had a time too far ahead to believe, %" PRIu64 " clients found no room or were forgotten", r->name, st.late,
			 st.future, st.evicted);
	if (!r->records)
		return;
	n = 0;
	if (!(r->seen & (F_BIT(F_CLIENT_IP) | F_BIT(F_API_KEY) | F_BIT(F_USER))))
		n += (size_t)snprintf(lacking + n, sizeof(lacking) - n, "; who causes it (no client_ip, api_key or user)");
	if (!(r->seen & (F_BIT(F_PROMPT_TOKENS) | F_BIT(F_COMPLETION_TOKENS))))
		n += (size_t)snprintf(lacking + n, sizeof(lacking) - n, "; cost (no prompt_tokens or completion_tokens)");
	if (r->detect.detector != DETECTOR_STATIC && !(r->seen & (F_BIT(F_STATUS) | F_BIT(F_FINISH_REASON))))
		n += (size_t)snprintf(lacking + n, sizeof(lacking) - n, "; errors (no status or finish_reason)");
	if (r->detect.detector != DETECTOR_STATIC && !(r->seen & F_BIT(F_DURATION_MS)))
		n += (size_t)snprintf(lacking + n, sizeof(lacking) - n, "; when requests ended (no duration_ms: taken as their arrival)");
	if (n)
		log_info("%s: not judged for lack of a field: %s", r->name, lacking + 2);
	if (r->detect.detector == DETECTOR_STATIC)
		log_info("%s: the static detector looks at the whole file before it speaks: its events are not causal", r->name);
}

int cmd_replay(int argc, char **argv)
{
	struct state_opts state = { .emit = on_left_open };
	struct replay r = { .fd = -1, .identity.only = IDENTITY_ANY, .detect = { .bin_s = 300, .sigma = 3, .lateness_s = 2 } };
	int e = parse(&r, argc, argv), status = 1;
	FILE *human;

	if (e) {
		free(r.ports);
		return e < 0 ? 0 : e;
	}
	r.name = strcmp(r.path, "-") ? r.path : "stdin";
	e = open_reader(&r);
	if (e < 0) {
		log_error("cannot read %s: %s", r.name, strerror(-e));
		free(r.ports);
		return EXIT_USAGE;
	}
	if (r.pcap ? r.follow : r.ports || r.records_path || r.identity_given) {
		if (r.pcap)
			log_error("replay: a capture cannot be followed");
		else
			log_error("replay: --port, --records-out and --trusted-* are for captures, and %s is none", r.name);
		status = EXIT_USAGE;
		goto out;
	}
	if (open_records_out(&r) < 0) {
		status = EXIT_USAGE;
		goto out;
	}
	state.dir = r.state_dir;
	state.live = r.follow;
	state.ctx = &r;
	if (state_open(&state, &r.state) < 0) {
		status = EXIT_USAGE;
		goto out;
	}
	human = r.records_out == stdout ? stderr : stdout;
	e = r.json ? sink_json_open(STDOUT_FILENO, &r.sink) : sink_terminal_open(human, isatty(fileno(human)), &r.sink);
	r.detect.emit = on_anomaly;
	r.detect.ctx = &r;
	r.detect.calendar = r.calendar;
	r.detect.prices = r.prices;
	if (e == 0)
		e = detect_open(&r.detect, &r.engine);
	if (e < 0) {
		log_error("replay: %s", strerror(-e));
		goto out;
	}
	state_load(r.state, r.engine, 0);
	if (r.follow) {
		struct sigaction sa = { .sa_handler = on_signal };

		sigaction(SIGINT, &sa, NULL);
		sigaction(SIGTERM, &sa, NULL);
		e = follow(&r);
	} else if (r.pcap) {
		e = read_capture(&r);
		if (e == 0 && close_records_out(&r) < 0) {
			log_error("--records-out %s: %s", r.records_path, strerror(errno));
			r.failed = true;
		}
		if (r.failed)
			goto out;
	} else {
		e = drain(&r);
	}
	progress(&r, true);
	if (e > 0) {
		status = EXIT_USAGE; /* it was said */
		goto out;
	}
	if (e < 0) {
		log_error("cannot read %s: %s", r.name, strerror(-e));
		status = r.records ? 1 : EXIT_USAGE;
		goto out;
	}
	e = detect_finish(r.engine);
	close_reader(&r);
	if (e < 0) {
		log_error("replay: %s", strerror(-e));
		goto out;
	}
	summarize(&r);
	fflush(stdout);
	if (r.sink->dropped || ferror(stdout))
		log_error("replay: %" PRIu64 " events could not be written", r.sink->dropped);
	else if (state_finish(r.state, watermark(&r)) < 0)
		log_error("replay: what was learnt could not be kept");
	else
		status = 0;
out:
	close_reader(&r);
	close_records_out(&r);
	str_done(&r.line);
	free(r.ports);
	state_free(r.state);
	detect_free(r.engine);
	calendar_free(r.calendar);
	prices_free(r.prices);
	sink_free(r.sink);
	return status;
}
