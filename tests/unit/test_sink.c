/* Terminal and JSON sinks: what a person and a program read, and what happens when nobody reads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#include "base/log.h"
#include "sink/fields.h"
#include "sink/line_out.h"
#include "sink/text.h"
#include "sink_events.h"

#define EVENTS_MANY 4000 /* more bytes than a pipe and LINE_OUT_PENDING_MAX hold together */

/* ---- helpers --------------------------------------------------------------------------------------- */
static char got[1 << 16];

/* Runs one event through a terminal sink on a memory stream; the result is in got[]. */
static const char *terminal_of(struct sink *s, FILE *f, const struct anomaly *a)
{
	rewind(f);
	memset(got, 0, sizeof(got));
	sink_emit(s, a);
	assert_int_equal(sink_flush(s), 0);
	return got;
}

static char *slurp(int fd, size_t *ret_n)
{
	char *p = NULL;
	size_t n = 0;

	for (;;) {
		ssize_t r;

		p = realloc(p, n + 65536 + 1);
		assert_non_null(p);
		r = read(fd, p + n, 65536);
		if (r < 0 && errno == EAGAIN)
			break;
		assert_true(r >= 0);
		if (r == 0)
			break;
		n += (size_t)r;
	}
	p[n] = '\0';
	*ret_n = n;
	return p;
}

/* Every line a whole event; their ids in order, holes allowed, none twice. Returns how many. */
static size_t check_lines(char *text)
{
	long last = -1;
	size_t lines = 0;

	for (char *line = text; *line; lines++) {
		char *end = strchr(line, '\n');
		long id;

		assert_non_null(end);
		*end = '\0';
		assert_memory_equal(line, "{\"v\":1,\"event\":", 15);
		assert_string_equal(end - 1, "}");
		id = strtol(strstr(line, "\"id\":\"") + 6, NULL, 10);
		assert_true(id > last);
		last = id;
		line = end + 1;
	}
	return lines;
}

static void emit_numbered(struct sink *s, int i)
{
	struct anomaly a;
	char id[16];

	snprintf(id, sizeof(id), "%d", i);
	a = sample_event(CLASS_FLOOD, EVENT_OPEN, id);
	sink_emit(s, &a);
}

/* ---- text ------------------------------------------------------------------------------------------ */
static void test_text_safe(void **state)
{
	static const struct {
		const char *in, *out;
	} cases[] = {
		{ "10.0.0.7", "10.0.0.7" },
		{ "M\xc3\xbcller \xe4\xb8\xad \xf0\x9f\x98\x80", "M\xc3\xbcller \xe4\xb8\xad \xf0\x9f\x98\x80" },
		{ "a\033[2Jb", "a\\x1b[2Jb" },
		{ "a\nb\rc\td", "a\\x0ab\\x0dc\\x09d" },
		{ "\x7f", "\\x7f" },
		{ "a\xc2\x9b" "31m", "a\\xc2\\x9b31m" },		 /* C1 CSI */
		{ "\xe2\x80\xae" "7.0.0.01", "\\xe2\\x80\\xae7.0.0.01" }, /* right-to-left override */
		{ "\xe2\x81\xa6x\xe2\x81\xa9", "\\xe2\\x81\\xa6x\\xe2\\x81\\xa9" },
		{ "x\xe2\x80\xa8y", "x\\xe2\\x80\\xa8y" }, /* line separator */
		{ "\xff\xfe", "\\xff\\xfe" },
		{ "\xe4\xb8", "\\xe4\\xb8" }, /* cut */
		{ "", "" },
	};
	struct str s = { 0 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		str_reset(&s);
		str_adds(&s, "");
		text_add_safe(&s, cases[i].in);
		assert_string_equal(s.p, cases[i].out);
	}
	for (int c = 1; c < 256; c++) {
		char one[2] = { (char)c, 0 };

		str_reset(&s);
		text_add_safe(&s, one);
		assert_true(s.n == (c >= 0x20 && c < 0x7f ? 1 : 4));
	}
	text_add_safe(&s, NULL);
	assert_int_equal(str_error(&s), 0);
	str_done(&s);
}

static void test_text_numbers(void **state)
{
	static const struct {
		double v;
		const char *text;
	} cases[] = {
		{ 0, "0" },	   { -0.001, "0" },    { 3, "3" },	     { 0.254, "0.25" },	  { 9.994, "9.99" },
		{ 9.996, "10" },   { 41.26, "41.3" },  { 412, "412" },	     { 412.4, "412" },	  { 9999, "9999" },
		{ 9999.6, "10k" }, { 12400, "12.4k" }, { 999600, "1M" },     { 1254000, "1.25M" }, { -12400, "-12.4k" },
		{ 3e9, "3G" },	   { 4.5e12, "4.5T" }, { 1e300, "more than 10^15" },
	};
	struct str s = { 0 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		str_reset(&s);
		text_add_number(&s, cases[i].v);
		assert_string_equal(s.p, cases[i].text);
	}
	str_done(&s);
}

static void test_text_durations(void **state)
{
	static const struct {
		double v;
		const char *text;
	} cases[] = {
		{ -5, "0 s" }, { 0.2, "0 s" }, { 4, "4 s" }, { 59.6, "1 min 0 s" }, { 134, "2 min 14 s" }, { 11100, "3 h 5 min" }, { 176400, "2 d 1 h" },
	};
	struct str s = { 0 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		str_reset(&s);
		text_add_duration(&s, cases[i].v);
		assert_string_equal(s.p, cases[i].text);
	}
	str_done(&s);
}

/* ---- terminal -------------------------------------------------------------------------------------- */
static void test_terminal_lines(void **state)
{
	FILE *f = fmemopen(got, sizeof(got), "w");
	struct sink *s = NULL;
	struct anomaly a = sample_event(CLASS_FLOOD, EVENT_OPEN, "x");

	(void)state;
	assert_int_equal(sink_terminal_open(f, true, &s), 0);
	a.severity = SEVERITY_CRITICAL;
	assert_string_equal(terminal_of(s, f, &a),
			    "-- Sunday 2025-06-15, times in UTC (UTC+0000)\n"
			    "15:06:49 CRITICAL flood       client 10.0.0.7 sends 412 requests/s, normally 3 (x137); 96 % of the excess; since 15:06:40\n");
	/* The zone was said. */
	a.event = EVENT_UPDATE;
	a.severity = SEVERITY_WARNING;
	a.top[0].share = 1;
	assert_string_equal(terminal_of(s, f, &a), "15:06:49 warning  flood       still: client 10.0.0.7 sends 412 requests/s, normally 3 (x137); "
						   "all of the excess; since 15:06:40\n");
	a.event = EVENT_CLOSE;
	a.end = a.start + 134;
	a.detected = a.end;
	assert_string_equal(terminal_of(s, f, &a), "15:08:54 over     flood       client 10.0.0.7 sends 412 requests/s, normally 3 (x137); "
						   "lasted 2 min 14 s; until 15:08:54\n");
	/* A sentence that says so itself is not said twice. */
	a.summary = "over after 134 s: client 10.0.0.7 sent 412 requests/s";
	assert_string_equal(terminal_of(s, f, &a), "15:08:54 over     flood       over after 134 s: client 10.0.0.7 sent 412 requests/s; until 15:08:54\n");
	/* Another day, and an onset on the day before. */
	a = sample_event(CLASS_DDOS, EVENT_OPEN, "y");
	a.detected = 1750032010;
	a.start = 1750031990;
	a.summary = "";
	a.severity = SEVERITY_INFO;
	a.top[1] = (struct anomaly_contributor){ ENTITY_API_KEY, "k1", 0.104 };
	a.top_count = 2;
	assert_string_equal(terminal_of(s, f, &a), "-- Monday 2025-06-16, times in UTC (UTC+0000)\n"
						   "00:00:10 info     ddos        all traffic: requests_per_s 412, normally 3; "
						   "excess: client 10.0.0.7 96 %, key k1 10 %; since 2025-06-15 23:59:50\n");
	assert_int_equal(s->delivered, 5);
	sink_free(s);
	fclose(f);
}

static void test_terminal_hostile_values(void **state)
{
	FILE *f = fmemopen(got, sizeof(got), "w");
	struct sink *s = NULL;
	struct anomaly a = sample_event(CLASS_COST_SPIKE, EVENT_OPEN, "x\n");

	(void)state;
	assert_int_equal(sink_terminal_open(f, false, &s), 0);
	a.scope_kind = a.top[0].kind = ENTITY_USER;
	a.scope_value = "bob\033]0;owned\007\r\n14:00:00 over";
	a.top[0].value = "eve\033[1A";
	a.summary = "user bob\033[2K burns\nweir: all is well";
	a.evidence[0].feature = "f\033";
	a.start = 0.0 / 0.0;
	a.detected = 1e300;
	terminal_of(s, f, &a);
	for (const char *c = got; *c; c++)
		assert_true(*c == '\n' || (unsigned char)*c >= 0x20);
	assert_ptr_equal(strrchr(got, '\n'), got + strlen(got) - 1);
	assert_ptr_equal(strchr(got, '\n'), strrchr(got, '\n')); /* one line: the time cannot be shown, so no date either */
	assert_non_null(strstr(got, "eve\\x1b[1A"));
	a.summary = "";
	terminal_of(s, f, &a);
	assert_non_null(strstr(got, "bob\\x1b]0;owned\\x07\\x0d\\x0a14:00:00 over"));
	assert_null(strchr(got, '\033'));
	sink_free(s);
	fclose(f);
}

static int open_pty(int *ret_slave)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY);

	assert_true(master >= 0);
	assert_int_equal(grantpt(master), 0);
	assert_int_equal(unlockpt(master), 0);
	*ret_slave = open(ptsname(master), O_RDWR | O_NOCTTY);
	assert_true(*ret_slave >= 0);
	return master;
}

static void test_terminal_colour(void **state)
{
	struct anomaly a = sample_event(CLASS_FLOOD, EVENT_OPEN, "x");
	char text[4096];
	ssize_t n;

	(void)state;
	a.severity = SEVERITY_CRITICAL;
	for (int want = 0; want < 2; want++) {
		struct sink *s = NULL;
		int slave, master = open_pty(&slave);
		FILE *f = fdopen(slave, "w");

		assert_int_equal(sink_terminal_open(f, want, &s), 0);
		sink_emit(s, &a);
		n = read(master, text, sizeof(text) - 1);
		assert_true(n > 0);
		text[n] = '\0';
		assert_int_equal(strstr(text, "\033[1;31mCRITICAL\033[0m") != NULL, want);
		assert_int_equal(strchr(text, '\033') != NULL, want);
		sink_free(s);
		fclose(f);
		close(master);
	}
	/* A pipe gets none, whatever was asked for. */
	{
		struct sink *s = NULL;
		int p[2];
		FILE *f;

		assert_int_equal(pipe(p), 0);
		f = fdopen(p[1], "w");
		assert_int_equal(sink_terminal_open(f, true, &s), 0);
		sink_emit(s, &a);
		n = read(p[0], text, sizeof(text) - 1);
		assert_true(n > 0);
		text[n] = '\0';
		assert_null(strchr(text, '\033'));
		sink_free(s);
		fclose(f);
		close(p[0]);
	}
}

/* A terminal stopped by Ctrl-S, or nobody at its other end: a live agent goes on. */
static void test_terminal_stopped(void **state)
{
	struct anomaly a = sample_event(CLASS_FLOOD, EVENT_OPEN, "x");
	struct sink *s = NULL;
	int slave, master = open_pty(&slave);
	FILE *f = fdopen(slave, "w");

	(void)state;
	assert_int_equal(sink_terminal_open_paced(f, false, SINK_DROP, &s), 0);
	for (int i = 0; i < EVENTS_MANY; i++)
		sink_emit(s, &a);
	assert_true(s->dropped > 0);
	assert_true(s->delivered + s->dropped <= EVENTS_MANY);
	sink_free(s);
	fclose(f);
	close(master);
}

/* ---- JSON ------------------------------------------------------------------------------------------ */
static void test_json_one_write_per_event(void **state)
{
	struct sink *s = NULL;
	char buf[8192];
	int p[2];

	(void)state;
	/* A packet socket keeps the borders of write(2). */
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, p), 0);
	assert_int_equal(sink_json_open(p[1], &s), 0);
	for (int c = 0; c < CLASS_COUNT; c++) {
		struct anomaly a = sample_event((enum anomaly_class)c, EVENT_OPEN, "0");
		struct str want = { 0 };
		ssize_t n;

		sink_emit(s, &a);
		n = recv(p[0], buf, sizeof(buf), MSG_DONTWAIT);
		anomaly_write_json(&want, &a);
		assert_int_equal(n, want.n);
		assert_memory_equal(buf, want.p, want.n);
		assert_int_equal(recv(p[0], buf, sizeof(buf), MSG_DONTWAIT), -1);
		str_done(&want);
	}
	assert_int_equal(s->delivered, CLASS_COUNT);
	sink_free(s);
	close(p[0]);
	close(p[1]);
}

/* Nobody reads: never blocks, whole events are dropped and counted, and what comes out later is not torn. */
static void json_full_pipe(bool nonblock)
{
	struct sink *s = NULL;
	uint64_t delivered = 0;
	size_t n, lines = 0;
	int p[2], flushed;
	char *text;

	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	fcntl(p[0], F_SETFL, O_NONBLOCK);
	if (nonblock)
		fcntl(p[1], F_SETFL, O_NONBLOCK);
	assert_int_equal(sink_json_open_paced(p[1], SINK_DROP, &s), 0);
	for (int i = 0; i < EVENTS_MANY; i++)
		emit_numbered(s, i);
	assert_true(s->dropped > 0);
	assert_true(s->delivered > 0);
	assert_true(s->delivered + s->dropped < EVENTS_MANY); /* some wait */

	/* The reader comes back; what waits goes out before anything new. */
	text = slurp(p[0], &n);
	for (int i = 0; (flushed = sink_flush(s)) == 1; i++) {
		char *more;
		size_t m;

		assert_true(i < 1000);
		more = slurp(p[0], &m);
		text = realloc(text, n + m + 1);
		assert_non_null(text);
		memcpy(text + n, more, m + 1);
		n += m;
		free(more);
	}
	assert_int_equal(flushed, 0);
	assert_int_equal(s->delivered + s->dropped, EVENTS_MANY);
	emit_numbered(s, EVENTS_MANY);
	assert_int_equal(s->last_error, 0);
	delivered = s->delivered;
	sink_free(s);
	close(p[1]);
	{
		size_t m;
		char *more = slurp(p[0], &m);

		text = realloc(text, n + m + 1);
		assert_non_null(text);
		memcpy(text + n, more, m + 1);
		free(more);
	}
	lines = check_lines(text);
	assert_int_equal(lines, delivered);
	free(text);
	close(p[0]);
}

static void test_json_full_pipe(void **state)
{
	(void)state;
	json_full_pipe(false);
}

static void test_json_full_nonblocking_pipe(void **state)
{
	(void)state;
	json_full_pipe(true);
}

/* SINK_WAIT: a slow reader gets everything, also when somebody made the pipe non-blocking. */
static void test_json_wait_loses_nothing(void **state)
{
	(void)state;
	for (int nonblock = 0; nonblock < 2; nonblock++) {
		struct sink *s = NULL;
		int p[2], status;
		char *text;
		size_t n;
		pid_t pid;

		assert_int_equal(pipe(p), 0);
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			close(p[0]);
			if (nonblock)
				fcntl(p[1], F_SETFL, O_NONBLOCK);
			if (sink_json_open(p[1], &s) < 0)
				_exit(1);
			for (int i = 0; i < EVENTS_MANY; i++)
				emit_numbered(s, i);
			_exit(s->delivered == EVENTS_MANY && !s->dropped ? 0 : 2);
		}
		close(p[1]);
		text = slurp(p[0], &n);
		assert_int_equal(check_lines(text), EVENTS_MANY);
		free(text);
		close(p[0]);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), 0);
	}
}

/* The reader is gone: an error, not a signal; also with bytes waiting. The default action of SIGPIPE would end this process. */
static void test_json_reader_gone(void **state)
{
	sigset_t pending;

	(void)state;
	signal(SIGPIPE, SIG_DFL);
	for (int waiting = 0; waiting < 2; waiting++) {
		struct sink *s = NULL;
		int p[2], events = waiting ? EVENTS_MANY : 3;

		assert_int_equal(pipe(p), 0);
		assert_int_equal(sink_json_open_paced(p[1], SINK_DROP, &s), 0);
		if (waiting)
			for (int i = 0; i < events; i++)
				emit_numbered(s, i);
		close(p[0]);
		if (!waiting)
			for (int i = 0; i < events; i++)
				emit_numbered(s, i);
		else
			assert_int_equal(sink_flush(s), -EPIPE);
		assert_int_equal(s->last_error, -EPIPE);
		assert_int_equal(s->delivered + s->dropped, events);
		assert_true(s->dropped >= 3);
		sigpending(&pending);
		assert_false(sigismember(&pending, SIGPIPE));
		sink_free(s);
		close(p[1]);
	}
	/* SINK_WAIT must not wait for ever for a reader that is gone. */
	{
		struct sink *s = NULL;
		int p[2];

		assert_int_equal(pipe(p), 0);
		close(p[0]);
		assert_int_equal(sink_json_open(p[1], &s), 0);
		emit_numbered(s, 1);
		assert_int_equal(s->dropped, 1);
		assert_int_equal(s->last_error, -EPIPE);
		sink_free(s);
		close(p[1]);
	}
}

/* A SIGPIPE that somebody else raised and blocked is not eaten. */
static void test_json_keeps_others_sigpipe(void **state)
{
	struct sink *s = NULL;
	sigset_t set, old, pending;
	int p[2];

	(void)state;
	sigemptyset(&set);
	sigaddset(&set, SIGPIPE);
	sigprocmask(SIG_BLOCK, &set, &old);
	raise(SIGPIPE);
	assert_int_equal(pipe(p), 0);
	close(p[0]);
	assert_int_equal(sink_json_open(p[1], &s), 0);
	emit_numbered(s, 1);
	sigpending(&pending);
	assert_true(sigismember(&pending, SIGPIPE));
	signal(SIGPIPE, SIG_IGN); /* discards it */
	sigprocmask(SIG_SETMASK, &old, NULL);
	signal(SIGPIPE, SIG_DFL);
	sink_free(s);
	close(p[1]);
}

static void test_json_disk_full(void **state)
{
	struct sink *s = NULL;
	int fd = open("/dev/full", O_WRONLY);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(sink_json_open(fd, &s), 0);
	emit_numbered(s, 1);
	emit_numbered(s, 2);
	assert_int_equal(s->dropped, 2);
	assert_int_equal(s->delivered, 0);
	assert_int_equal(s->last_error, -ENOSPC);
	sink_free(s);
	close(fd);
}

/* ---- complaints ------------------------------------------------------------------------------------ */
static int script[] = { 0, -EIO, -EIO, -EPERM, 0, 0, -EIO, 1, 1, 0 };
static size_t script_at;

static int scripted_emit(struct sink *s, const struct anomaly *a)
{
	(void)s;
	(void)a;
	return script[script_at++];
}

static void scripted_close(struct sink *s)
{
	(void)s;
}

static size_t count_of(const char *text, const char *word)
{
	size_t n = 0;

	for (const char *p = text; (p = strstr(p, word)); p++)
		n++;
	return n;
}

static void test_complains_once_per_streak(void **state)
{
	static const struct sink_ops ops = { .name = "scripted", .emit = scripted_emit, .close = scripted_close };
	struct sink s = { .ops = &ops };
	struct anomaly a = sample_event(CLASS_FLOOD, EVENT_OPEN, "x");
	int p[2], err;
	char *text;
	size_t n;

	(void)state;
	assert_int_equal(pipe(p), 0);
	err = dup(STDERR_FILENO);
	dup2(p[1], STDERR_FILENO);
	for (size_t i = 0; i < ARRAY_SIZE(script); i++)
		sink_emit(&s, &a);
	dup2(err, STDERR_FILENO);
	close(err);
	close(p[1]);
	text = slurp(p[0], &n);
	close(p[0]);
	assert_int_equal(count_of(text, "weir: warning: scripted: cannot deliver (Input/output error)"), 2);
	assert_int_equal(count_of(text, "scripted: delivering again"), 2);
	assert_int_equal(count_of(text, "\n"), 4);
	assert_int_equal(s.delivered, 4);
	assert_int_equal(s.dropped, 4);
	free(text);
}

static void test_sinks_are_independent(void **state)
{
	struct sinks ss = { 0 };
	struct anomaly a = sample_event(CLASS_FLOOD, EVENT_OPEN, "1");
	int bad = open("/dev/full", O_WRONLY), p[2];
	char buf[8192];

	(void)state;
	assert_int_equal(pipe(p), 0);
	for (int i = 0; i < SINKS_MAX; i++) {
		struct sink *s = NULL;

		assert_int_equal(sink_json_open(i % 2 ? p[1] : bad, &s), 0);
		assert_int_equal(sinks_add(&ss, s), 0);
	}
	{
		struct sink *s = NULL;

		assert_int_equal(sink_json_open(bad, &s), 0);
		assert_int_equal(sinks_add(&ss, s), -E2BIG);
	}
	sinks_emit(&ss, &a);
	sinks_flush(&ss);
	for (int i = 0; i < SINKS_MAX; i++) {
		assert_int_equal(ss.all[i]->delivered, i % 2);
		assert_int_equal(ss.all[i]->dropped, !(i % 2));
	}
	sinks_done(&ss);
	assert_int_equal(ss.n, 0);
	assert_true(read(p[0], buf, sizeof(buf)) > 0);
	close(p[0]);
	close(p[1]);
	close(bad);
}

/* ---- fields ---------------------------------------------------------------------------------------- */
static void test_fields(void **state)
{
	static const struct {
		const char *name, *value;
	} want[] = {
		{ "class", "flood" },
		{ "event", "close" },
		{ "id", "i-1" },
		{ "severity", "info" },
		{ "scope", "client_ip:10.0.0.7" },
		{ "scope_kind", "client_ip" },
		{ "scope_value", "10.0.0.7" },
		{ "feature", "requests_per_s" },
		{ "observed", "412" },
		{ "expected", "3" },
		{ "evidence", "requests_per_s observed 412 expected 3 sigma 9.25; tokens_per_s observed 40000.5 expected 900 sigma 7" },
		{ "score", "9.25" },
		{ "confidence", "0.75" },
		{ "start", "1750000000" },
		{ "detected", "1750000009" },
		{ "end", "1750000134" },
		{ "team", "security" },
		{ "runbook", "docs/runbooks.md#flood" },
		{ "top", "client_ip:10.0.0.7=0.96" },
	};
	struct anomaly a = sample_event(CLASS_FLOOD, EVENT_CLOSE, "i-1");
	struct str s = { 0 };
	size_t i = 0;

	(void)state;
	for (const struct sink_field *f = sink_fields; f->name; f++, i++) {
		assert_true(i < ARRAY_SIZE(want));
		str_reset(&s);
		f->put(&s, &a);
		assert_string_equal(f->name, want[i].name);
		assert_string_equal(s.p, want[i].value);
	}
	assert_int_equal(i, ARRAY_SIZE(want));

	/* What an event lacks is left out, not written as 0. */
	a = sample_event(CLASS_DDOS, EVENT_OPEN, "i-2");
	a.evidence_count = a.top_count = 0;
	for (const struct sink_field *f = sink_fields; f->name; f++) {
		bool lacks = !strcmp(f->name, "scope_value") || !strcmp(f->name, "feature") || !strcmp(f->name, "observed") ||
			     !strcmp(f->name, "expected") || !strcmp(f->name, "evidence") || !strcmp(f->name, "end") || !strcmp(f->name, "top");

		str_reset(&s);
		f->put(&s, &a);
		assert_int_equal(s.n == 0, lacks);
	}
	str_done(&s);
}

static int group_setup(void **state)
{
	(void)state;
	setenv("TZ", "UTC0", 1);
	tzset();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text_safe),
		cmocka_unit_test(test_text_numbers),
		cmocka_unit_test(test_text_durations),
		cmocka_unit_test(test_terminal_lines),
		cmocka_unit_test(test_terminal_hostile_values),
		cmocka_unit_test(test_terminal_colour),
		cmocka_unit_test(test_terminal_stopped),
		cmocka_unit_test(test_json_one_write_per_event),
		cmocka_unit_test(test_json_full_pipe),
		cmocka_unit_test(test_json_full_nonblocking_pipe),
		cmocka_unit_test(test_json_wait_loses_nothing),
		cmocka_unit_test(test_json_reader_gone),
		cmocka_unit_test(test_json_keeps_others_sigpipe),
		cmocka_unit_test(test_json_disk_full),
		cmocka_unit_test(test_complains_once_per_streak),
		cmocka_unit_test(test_sinks_are_independent),
		cmocka_unit_test(test_fields),
	};

	return cmocka_run_group_tests(tests, group_setup, NULL);
}
