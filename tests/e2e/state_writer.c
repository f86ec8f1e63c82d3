/*
 * state_writer - a process that learns, opens and closes incidents and keeps them with the agent's own code, and says what it did,
 * for a suite that kills it. Time runs TIMES as fast for it.
 *
 *   state_writer DIR TIMES ENTITIES [BUSY_US]
 *
 * Lines on standard output: `resumed ID`, `lost ID` (closed by the state at the start), `ready COUNT`; then `t NOW COUNT` (COUNT: all
 * that was learnt, by all before it, too), `open ID` and `close ID`, each after it was handed to the state, as a sink would be.
 * On SIGTERM it ends in order: `end COUNT`.
 */
#include <signal.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <time.h>

#include "base/log.h"
#include "state_engine.h"

static double times = 1;
static volatile sig_atomic_t stop;

/* In place of libc's, for this program: the state's schedule follows it. */
__attribute__((visibility("default"))) int clock_gettime(clockid_t id, struct timespec *ts)
{
	static struct timespec begun;
	double t;

	if (syscall(SYS_clock_gettime, id, ts) < 0)
		return -1;
	if (id != CLOCK_MONOTONIC)
		return 0;
	if (!begun.tv_sec)
		begun = *ts;
	t = (double)begun.tv_sec + times * ((double)(ts->tv_sec - begun.tv_sec) + (double)(ts->tv_nsec - begun.tv_nsec) / 1e9);
	ts->tv_sec = (time_t)t;
	ts->tv_nsec = (long)((t - (double)ts->tv_sec) * 1e9);
	return 0;
}

static void on_term(int sig)
{
	(void)sig;
	stop = 1;
}

static void say(const char *fmt, ...) PRINTF_LIKE(1, 2);
static void say(const char *fmt, ...)
{
	char line[128];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (write(STDOUT_FILENO, line, (size_t)n) != n)
		_exit(3);
}

static void on_lost(void *ctx, const struct anomaly *a)
{
	(void)ctx;
	say("lost %s\n", a->id);
}

static uint64_t total(const struct counting *c)
{
	uint64_t n = 0;

	for (size_t i = 0; i < c->n; i++)
		n += c->v[i].count;
	return n;
}

static double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	struct state_opts o = { .live = true, .engine = &counting_engine, .emit = on_lost };
	struct state_stats st;
	struct counting *c;
	double second = 0, now;
	uint64_t count, serial = 0;
	uint64_t random = (uint64_t)getpid();

	if (argc < 4)
		return 2;
	signal(SIGTERM, on_term);
	o.dir = argv[1];
	times = atof(argv[2]);
	c = counting_new(strtoul(argv[3], NULL, 10));
	if (state_open(&o, &c->state) < 0)
		return 1;
	state_load(c->state, c, now_s());
	state_stats(c->state, &st);
	if (!st.kept)
		return 1;
	for (size_t i = 0; i < INCIDENTS; i++)
		if (c->incident[i].open)
			say("resumed %s\n", c->incident[i].id);
	count = total(c);
	say("ready %llu\n", (unsigned long long)count);
	while (!stop) {
		size_t i = (size_t)(random = random * UINT64_C(6364136223846793005) + 1442695040888963407) >> 33;

		now = now_s();
		counting_learn(c, i % c->n, now);
		count++;
		if (random >> 40 & 1) {
			struct record r;

			record_init(&r);
			r.timestamp = now;
			state_record(c->state, &r);
		}
		if ((random >> 20) % 300 == 0) {
			size_t k = random >> 50 & (INCIDENTS - 1);

			if (c->incident[k].open) {
				char id[32];

				snprintf(id, sizeof(id), "%s", c->incident[k].id);
				counting_emit(c, k, EVENT_CLOSE, now);
				say("close %s\n", id);
			} else {
				char id[32];

				snprintf(id, sizeof(id), "%d-%llu", getpid(), (unsigned long long)serial++);
				counting_open(c, k, id, now);
				say("open %s\n", id);
			}
		}
		if (now - second >= 1) {
			second = now;
			state_tick(c->state, now);
			say("t %.3f %llu\n", now, (unsigned long long)count);
		}
		usleep(20);
	}
	if (state_finish(c->state, now_s()) < 0)
		return 1;
	say("end %llu\n", (unsigned long long)count);
	state_free(c->state);
	counting_free(c);
	return 0;
}
