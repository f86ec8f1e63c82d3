/* The agent's parts that need no kernel: options, self-limit, records output, the key file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/log.h"
#include "cmd/agent_feed.h"
#include "cmd/agent_limit.h"
#include "cmd/agent_opts.h"
#include "cmd/agent_records.h"
#include "cmd/agent_socket.h"
#include "cmd/agent_told.h"

static char dir[64];

static int dir_make(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/weir-agent.XXXXXX");
	signal(SIGPIPE, SIG_IGN);
	return mkdtemp(dir) ? 0 : -1;
}

static int dir_remove(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command);
}

static const char *in_dir(const char *name)
{
	static char path[4][128];
	static unsigned turn;

	turn = (turn + 1) % 4;
	snprintf(path[turn], sizeof(path[turn]), "%s/%s", dir, name);
	return path[turn];
}

/* ---- options --------------------------------------------------------------------------------------- */

/* Parses one command line (blanks between the words) with stderr into a pipe. Returns what parsing did; said[] is what it said. */
static char said[2048];

static int parse(struct agent_opts *o, const char *line)
{
	char copy[512], *argv[32];
	int argc = 0, pipes[2], keep, r;
	ssize_t n;

	snprintf(copy, sizeof(copy), "%s", line);
	for (char *w = strtok(copy, " "); w; w = strtok(NULL, " "))
		argv[argc++] = w;
	argv[argc] = NULL;
	assert_int_equal(pipe2(pipes, O_NONBLOCK), 0);
	keep = dup(STDERR_FILENO);
	dup2(pipes[1], STDERR_FILENO);
	r = agent_opts_parse(o, argc, argv);
	dup2(keep, STDERR_FILENO);
	close(keep);
	n = read(pipes[0], said, sizeof(said) - 1);
	said[n > 0 ? n : 0] = '\0';
	close(pipes[0]);
	close(pipes[1]);
	return r;
}

static void options_good(void **state)
{
	struct agent_opts o;

	(void)state;
	assert_int_equal(parse(&o, "run --port 8000 --port=8001 --port 8000 --pid 12 --auto --output json --ring-size 64K --duration 1.5 "
				    "--cpu-limit 0.5 --prompt-blind --records-out x --socket /s"),
			 0);
	assert_int_equal(o.port_count, 2);
	assert_int_equal(o.port[1], 8001);
	assert_int_equal(o.discover.pid_count, 1);
	assert_true(o.discover.automatic && o.json && o.prompt_blind && !o.journal);
	assert_int_equal(o.ring_bytes, 65536);
	assert_true(o.duration_s == 1.5 && o.cpu_limit_pct == 0.5 && o.memory_limit_mib == 256);
	assert_string_equal(o.socket, "/s");
	agent_opts_done(&o);
	assert_int_equal(parse(&o, "run --unix /run/m.sock --unix @m --unix /run/m.sock --trusted-proxy unix:"), 0);
	assert_int_equal(o.unix_count, 2);
	assert_string_equal(o.unix_path[1], "@m");
	agent_opts_done(&o);
	assert_int_equal(parse(&o, "run --auto --ring-size 2m"), 0);
	assert_int_equal(o.ring_bytes, 2 << 20);
	assert_string_equal(o.socket, AGENT_SOCKET_DEFAULT);
	agent_opts_done(&o);
}

#define A50 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static void options_bad(void **state)
{
	static const char *const lines[] = {
		"run", "run --port", "run --port 0", "run --port 65536", "run --port 80x", "run --port -1", "run --nonsense", "run -x",
		"run --port 80 file", "run --port 80 --output xml", "run --port 80 --ring-size 12Q", "run --port 80 --ring-size 1",
		"run --port 80 --duration nan", "run --port 80 --duration -1", "run --port 80 --max-clients 1.5", "run --pid 0 --auto",
		"run --port 80 --output json --records-out -", "run --port 80 --config /nowhere/at/all", "run --port 80 --v6-prefix 129",
		"run --port 80 --trusted-proxy 10.0.0.0/33", "run --port 80 --trusted-proxy gateway", "run --port 80 --trusted-proxy 10.0.0.1/8", "run --port 80 --trusted-header host",
		"run --port 80 --max-accounts 0", "run --unix m.sock", "run --unix /", "run --unix /run/" A50 A50 A50, "run --port 80 --key-file",
	};
	struct agent_opts o;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		const char *end;

		if (parse(&o, lines[i]) != -EINVAL)
			fail_msg("taken: %s", lines[i]);
		agent_opts_done(&o);
		end = strchr(said, '\n');
		if (strncmp(said, "weir: error: ", 13) || !end || end[1])
			fail_msg("%s: not one line: %s", lines[i], said);
	}
}

static void config_write(const char *text)
{
	FILE *f = fopen(in_dir("conf"), "we");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	fclose(f);
}

static void options_file(void **state)
{
	struct agent_opts o;
	char line[256], want[256];

	(void)state;
	config_write("# a comment\n[weir]\nport = 8000\nport = 8001\nauto = yes\ncpu-limit = 3\njournal = no\n");
	snprintf(line, sizeof(line), "run --cpu-limit 4 --config %s", in_dir("conf"));
	assert_int_equal(parse(&o, line), 0);
	assert_int_equal(o.port_count, 2);
	assert_true(o.discover.automatic && !o.journal && o.cpu_limit_pct == 4); /* the command line has the last word */
	agent_opts_done(&o);

	config_write("port = 8000\ntrusted-proxy = 10.0.0.0/8\ntrusted-proxy = fd00::1\ntrusted-header = X-Real-IP\n");
	assert_int_equal(parse(&o, line), 0);
	assert_int_equal(o.identity.count, 2);
	assert_int_equal(o.identity.only, IDENTITY_X_REAL_IP);
	agent_opts_done(&o);
	config_write("port = 8000\ntrusted-proxy = 10.0.0.1/8\n");
	assert_int_equal(parse(&o, line), -EINVAL);
	agent_opts_done(&o);
	assert_non_null(strstr(said, "conf:2: trusted-proxy: '10.0.0.1/8' has bits set behind its prefix\n"));

	config_write("port = 8000\n\nprot = 8001\nport = x\n");
	assert_int_equal(parse(&o, line), -EINVAL);
	agent_opts_done(&o);
	snprintf(want, sizeof(want), "weir: error: %s:3: unknown setting 'prot'\n", in_dir("conf"));
	assert_string_equal(said, want);
	config_write("auto = perhaps\n");
	assert_int_equal(parse(&o, line), -EINVAL);
	agent_opts_done(&o);
	assert_non_null(strstr(said, ":1: auto: 'perhaps' is not yes or no\n"));
	config_write("[other]\nport = 1\n");
	assert_int_equal(parse(&o, line), -EINVAL);
	agent_opts_done(&o);
	assert_non_null(strstr(said, "unknown section [other]"));
	config_write("config = /etc/passwd\n");
	assert_int_equal(parse(&o, line), -EINVAL);
	agent_opts_done(&o);
}

/* ---- self-limit ------------------------------------------------------------------------------------ */
static const struct limit_bounds bounds = { 10, 100, 50 };

static void limit_sheds_in_order(void **state)
{
	struct limit l = { .bounds = bounds };

	(void)state;
	for (int level = LIMIT_SLICES; level <= LIMIT_HOOK; level++) {
		for (int s = 1; s < LIMIT_HOLD_S; s++)
			assert_false(limit_second(&l, 1, 1, 51)); /* a short peak is forgiven */
		assert_true(limit_second(&l, 1, 1, 51));
		assert_int_equal(l.level, level);
		assert_string_equal(l.why, "time in the kernel");
	}
	for (int s = 0; s < 20; s++)
		assert_false(limit_second(&l, 1, 1, 51)); /* nothing is left to shed */
	assert_int_equal(l.raised, 4);
	/* one storm, however high it rose, is no swinging: each level comes back after the shortest calm */
	for (int s = 0; s < 4 * LIMIT_CALM_MIN_S; s++)
		limit_second(&l, 1, 1, -1);
	assert_int_equal(l.level, LIMIT_NONE);
}

static void limit_causes(void **state)
{
	struct limit l = { .bounds = bounds };

	(void)state;
	for (int s = 0; s < 100; s++)
		limit_second(&l, 11, 1, 1);
	assert_int_equal(l.level, LIMIT_RECORDS); /* the counters are not the agent's CPU */
	assert_string_equal(l.why, "CPU");
	l = (struct limit){ .bounds = bounds };
	for (int s = 0; s < 100; s++)
		limit_second(&l, 1, 101, 1);
	assert_int_equal(l.level, LIMIT_RECORDS);
	/* peaks that are not in a row */
	l = (struct limit){ .bounds = bounds };
	for (int s = 0; s < 100; s++)
		assert_false(limit_second(&l, s % LIMIT_HOLD_S ? 11 : 9, 1, 1));
}

/* Load that comes straight back makes each next calm longer: steps become rare instead of swinging. */
static void limit_recovers_with_hysteresis(void **state)
{
	struct limit l = { .bounds = bounds };
	unsigned changes_early = 0, changes_late = 0;

	(void)state;
	for (int s = 0; s < LIMIT_HOLD_S; s++)
		limit_second(&l, 50, 1, 1);
	for (int s = 1; s < LIMIT_CALM_MIN_S; s++)
		assert_false(limit_second(&l, 1, 1, 1));
	assert_true(limit_second(&l, 1, 1, 1));
	assert_int_equal(l.level, LIMIT_NONE);
	/* below the ceiling but not calm: stays where it is */
	for (int s = 0; s < LIMIT_HOLD_S; s++)
		limit_second(&l, 50, 1, 1);
	for (int s = 0; s < 1000; s++)
		assert_false(limit_second(&l, 8, 1, 1));
	assert_int_equal(l.level, LIMIT_SLICES);
	/* heavy without shedding, light with it */
	l = (struct limit){ .bounds = bounds };
	for (int s = 0; s < 4000; s++) {
		bool changed = limit_second(&l, l.level ? 1 : 50, 1, 1);

		if (s < 400)
			changes_early += changed;
		else if (s >= 3600)
			changes_late += changed;
	}
	assert_in_range(changes_early, 6, 40);
	assert_in_range(changes_late, 1, 4);
	/* and at last it does come back for good */
	for (int s = 0; s < 2000; s++)
		limit_second(&l, 1, 1, 1);
	assert_int_equal(l.level, LIMIT_NONE);
}

/* ---- records --------------------------------------------------------------------------------------- */
static struct record sample(int i)
{
	struct record r;

	record_init(&r);
	r.timestamp = 1000 + i;
	r.kind = KIND_INFERENCE;
	record_set_int(&r, F_PROMPT_TOKENS, i);
	return r;
}

static char *file_text(const char *path)
{
	static char text[1 << 20];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	assert_true(n >= 0);
	text[n] = '\0';
	close(fd);
	return text;
}

static void records_to_file(void **state)
{
	struct records_out o;
	struct stat st;

	(void)state;
	for (int run = 0; run < 2; run++) {
		assert_int_equal(records_open(&o, in_dir("records"), false), 0);
		for (int i = 0; i < 100; i++) {
			struct record r = sample(i);

			records_add(&o, &r);
		}
		records_flush(&o);
		assert_int_equal(o.written, 100);
		records_close(&o);
	}
	/* a second run adds; nobody else may read it */
	assert_int_equal(stat(in_dir("records"), &st), 0);
	assert_int_equal(st.st_mode & 0777 & ~0640u, 0);
	{
		size_t lines = 0;

		for (char *p = file_text(in_dir("records")); (p = strchr(p, '\n')); p++)
			lines++;
		assert_int_equal(lines, 200);
	}
	assert_int_equal(records_open(&o, in_dir("no/such/folder"), false), -ENOENT);
	assert_int_equal(records_open(&o, NULL, false), 0);
	records_flush(&o);
	records_close(&o);
}

/* A pipe waits for nobody unless it is told to; without a reader it is known as such, and what is written to it while one is there arrives. */
static void records_to_pipe(void **state)
{
	char path[PATH_MAX], text[4096];
	struct records_out o;
	struct record r = sample(1);
	int reader;

	(void)state;
	snprintf(path, sizeof(path), "%s", in_dir("pipe"));
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(records_open(&o, path, false), -EAGAIN);
	reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	assert_true(reader >= 0);
	assert_int_equal(records_open(&o, path, false), 0);
	records_add(&o, &r);
	records_flush(&o);
	assert_int_equal(o.written, 1);
	assert_true(read(reader, text, sizeof(text)) > 10);
	records_close(&o);
	close(reader);
}

static void records_full_disk(void **state)
{
	struct records_out o;

	(void)state;
	log_set_level(LOG_ERROR);
	assert_int_equal(records_open(&o, "/dev/full", false), 0);
	for (int i = 0; i < 10; i++) {
		struct record r = sample(i);

		records_add(&o, &r);
		records_flush(&o);
	}
	assert_int_equal(o.error, -ENOSPC);
	assert_int_equal(o.dropped, 10);
	assert_int_equal(o.written, 0);
	records_close(&o);
	log_set_level(LOG_INFO);
}

/* A disk that is full in the middle of a line: the file keeps whole lines only, and goes on when there is room again. */
static void records_torn_line(void **state)
{
	struct rlimit before, little;
	struct records_out o;
	struct record r = sample(1);
	char *text;

	(void)state;
	signal(SIGXFSZ, SIG_IGN);
	log_set_level(LOG_ERROR);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	assert_int_equal(records_open(&o, in_dir("torn"), false), 0);
	records_add(&o, &r);
	little = (struct rlimit){ o.pending.n + o.pending.n / 2, before.rlim_max };
	records_add(&o, &r);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &little), 0);
	records_flush(&o);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_int_equal(o.error, -EFBIG);
	assert_int_equal(o.written, 1);
	assert_int_equal(o.dropped, 1);
	text = file_text(in_dir("torn"));
	assert_true(strlen(text) > 20 && strchr(text, '\n') == text + strlen(text) - 1);
	records_add(&o, &r);
	records_close(&o);
	assert_int_equal(o.error, 0);
	text = strchr(file_text(in_dir("torn")), '\n');
	assert_true(text && text[1] == '{' && strchr(text + 1, '\n') && !strchr(text + 1, '\n')[1]);
	log_set_level(LOG_INFO);
}

/* A reader that stands still never makes the agent wait, and gets whole lines when it goes on. */
static void records_slow_pipe(void **state)
{
	struct records_out o = { .pending.ceiling = RECORDS_PENDING_MAX };
	static char text[8 << 20];
	size_t n = 0, lines = 0, last = 0;
	int pipes[2];

	(void)state;
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	o.fd = pipes[1];
	for (int i = 0; i < 100000; i++) {
		struct record r = sample(i);

		records_add(&o, &r);
	}
	records_flush(&o);
	assert_true(o.dropped > 0); /* 9 MB came; a pipe and the buffer hold less */
	assert_int_equal(o.written + o.waiting + o.dropped, 100000);
	fcntl(pipes[0], F_SETFL, O_NONBLOCK);
	for (int quiet = 0; quiet < 3;) {
		ssize_t r = read(pipes[0], text + n, sizeof(text) - n);

		quiet = r > 0 ? 0 : quiet + 1;
		n += r > 0 ? (size_t)r : 0;
		records_flush(&o);
	}
	assert_int_equal(o.waiting, 0);
	for (size_t i = 0; i < n; i++)
		if (text[i] == '\n') {
			assert_true(text[last] == '{' && text[i - 1] == '}');
			last = i + 1;
			lines++;
		}
	assert_int_equal(last, n);
	assert_int_equal(lines, o.written);
	close(pipes[0]);
	log_set_level(LOG_ERROR);
	for (int i = 0; i < 5; i++) {
		struct record r = sample(i);

		records_add(&o, &r);
		records_flush(&o);
	}
	log_set_level(LOG_INFO);
	assert_int_equal(o.error, -EPIPE);
	assert_int_equal(o.written + o.dropped, 100005);
	close(pipes[1]);
	o.fd = -1;
	records_close(&o);
}

/* ---- the key --------------------------------------------------------------------------------------- */
static void key_refused(const char *words)
{
	uint8_t key[AGENT_KEY_BYTES];
	char why[AGENT_KEY_WHY];

	assert_int_equal(agent_key_load(in_dir("state"), NULL, key, why), -EBADMSG);
	assert_non_null(strstr(why, "/state/key: ")); /* the file is named */
	assert_non_null(strstr(why, words));
}

static void key_file(void **state)
{
	uint8_t a[AGENT_KEY_BYTES], b[AGENT_KEY_BYTES], zero[AGENT_KEY_BYTES] = { 0 };
	char why[AGENT_KEY_WHY];
	struct stat st;
	int fd;

	(void)state;
	assert_int_equal(agent_key_load(in_dir("state"), NULL, a, why), 0);
	assert_int_equal(stat(in_dir("state/key"), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(agent_key_load(in_dir("state"), NULL, b, why), 0);
	assert_memory_equal(a, b, sizeof(a)); /* the same key after a restart: hashes stay comparable */
	assert_memory_not_equal(a, zero, sizeof(a));
	assert_int_equal(agent_key_load(NULL, NULL, b, why), 0);
	assert_memory_not_equal(a, b, sizeof(a));
	assert_string_equal(why, "");

	/* another file instead, with or without a folder for the state */
	assert_int_equal(agent_key_load(in_dir("state"), in_dir("state/fleet.key"), b, why), 0);
	assert_memory_not_equal(a, b, sizeof(a));
	assert_int_equal(agent_key_load(NULL, in_dir("state/fleet.key"), a, why), 0);
	assert_memory_equal(a, b, sizeof(a));
	assert_int_equal(agent_key_load(NULL, in_dir("state/key"), a, why), 0);
	assert_memory_not_equal(a, b, sizeof(a));
	assert_int_equal(agent_key_load(NULL, in_dir("no/such/file"), b, why), -ENOENT);
	assert_non_null(strstr(why, "no/such/file: "));

	/* rotation: the old file moved away, a new one is made */
	assert_int_equal(rename(in_dir("state/key"), in_dir("state/key.old")), 0);
	assert_int_equal(agent_key_load(in_dir("state"), NULL, b, why), 0);
	assert_memory_not_equal(a, b, sizeof(a));
	assert_int_equal(agent_key_load(NULL, in_dir("state/key.old"), b, why), 0);
	assert_memory_equal(a, b, sizeof(a));

	for (mode_t bit = 1; bit <= 040; bit *= 2) {
		assert_int_equal(chmod(in_dir("state/key"), 0600 | bit), 0);
		key_refused("others may read it");
	}
	assert_int_equal(chmod(in_dir("state/key"), 0600), 0);
	if (geteuid() == 0) {
		assert_int_equal(chown(in_dir("state/key"), 12345, (gid_t)-1), 0);
		key_refused("belongs to somebody else");
		assert_int_equal(chown(in_dir("state/key"), 0, (gid_t)-1), 0);
	}
	fd = open(in_dir("state/key"), O_WRONLY | O_TRUNC | O_CLOEXEC);
	assert_int_equal(write(fd, a, 7), 7);
	close(fd);
	key_refused("16 bytes");
	assert_int_equal(unlink(in_dir("state/key")), 0);
	assert_int_equal(symlink("/dev/zero", in_dir("state/key")), 0);
	key_refused("symbolic link"); /* never through one */
	assert_int_equal(unlink(in_dir("state/key")), 0);
	assert_int_equal(mkfifo(in_dir("state/key"), 0600), 0);
	key_refused("not a regular file"); /* and without waiting for who may write into it */
	assert_true(agent_key_load(in_dir("no/such/folder"), NULL, b, why) < 0);
}

/* ---- arrivals that were told -------------------------------------------------------------------------- */
static struct span client_of(unsigned i)
{
	static char text[2][32];
	static unsigned turn;

	turn = !turn;
	return (struct span){ text[turn], (size_t)snprintf(text[turn], sizeof(text[turn]), "10.%u.%u.%u", i >> 16, i >> 8 & 255, i & 255) };
}

static void told_counts(void **state)
{
	struct told *t = told_new();
	const struct span s = SPAN("1.2.3.4:80"), c = SPAN("10.0.0.1"), d = SPAN("10.0.0.2");

	(void)state;
	assert_int_equal(told_take(t, s, c, 5, 0), 0);
	told_remove(t, s, c); /* nobody was told: stays at nothing */
	for (int i = 0; i < 5; i++)
		told_add(t, s, c);
	told_add(t, s, d);
	told_remove(t, s, c);
	assert_int_equal(told_take(t, s, c, 9, 2), 2); /* of four, two are under way still */
	assert_int_equal(told_take(t, s, c, 9, 2), 0);
	assert_int_equal(told_take(t, s, c, 1, 0), 1); /* never more than were lost */
	assert_int_equal(told_take(t, s, c, 9, 0), 1);
	assert_int_equal(told_take(t, s, c, 9, 0), 0);
	assert_int_equal(told_take(t, s, d, 9, 0), 1);
	assert_null(told_free(t));
	assert_null(told_free(NULL));
}

/* Against a plain array, with many clients coming and going: growth and freed slots lose nobody. */
static void told_many(void **state)
{
	static unsigned model[3000];
	struct told *t = told_new();
	const struct span s = SPAN("[::1]:8000");
	unsigned seed = 7;

	(void)state;
	for (int step = 0; step < 200000; step++) {
		unsigned i;

		seed = seed * 1103515245 + 12345;
		i = seed / 65536 % ARRAY_SIZE(model);
		if (seed >> 31) {
			told_add(t, s, client_of(i));
			model[i]++;
		} else {
			told_remove(t, s, client_of(i));
			model[i] -= model[i] > 0;
		}
	}
	for (unsigned i = 0; i < ARRAY_SIZE(model); i++)
		assert_int_equal(told_take(t, s, client_of(i), 1000000, 0), model[i]);
	/* beyond the ceiling newcomers are not counted, those known are */
	for (unsigned i = 0; i < TOLD_CLIENTS_MAX + 1000; i++)
		told_add(t, s, client_of(i));
	assert_int_equal(told_take(t, s, client_of(0), 10, 0), 1);
	assert_int_equal(told_take(t, s, client_of(TOLD_CLIENTS_MAX + 999), 10, 0), 0);
	told_free(t);
}

/* ---- addresses ------------------------------------------------------------------------------------- */
static void addresses(void **state)
{
	static const uint8_t v4[16] = { [10] = 0xff, [11] = 0xff, 10, 1, 2, 3 }, v6[16] = { 0xfd, [15] = 1 };
	char text[SERVER_TEXT];

	(void)state;
	server_text(v4, 8000, text);
	assert_string_equal(text, "10.1.2.3:8000");
	server_text(v6, 8000, text);
	assert_string_equal(text, "[fd00::1]:8000");
	address_text(v6, text);
	assert_string_equal(text, "fd00::1");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(options_good),	       cmocka_unit_test(options_bad),	    cmocka_unit_test(options_file),
		cmocka_unit_test(limit_sheds_in_order), cmocka_unit_test(limit_causes),	    cmocka_unit_test(limit_recovers_with_hysteresis),
		cmocka_unit_test(records_to_file),     cmocka_unit_test(records_to_pipe), cmocka_unit_test(records_full_disk), cmocka_unit_test(records_torn_line),
		cmocka_unit_test(records_slow_pipe),   cmocka_unit_test(key_file),	    cmocka_unit_test(addresses),
		cmocka_unit_test(told_counts),	       cmocka_unit_test(told_many),
	};

	return cmocka_run_group_tests(tests, dir_make, dir_remove);
}
