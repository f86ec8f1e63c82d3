/* Between the engine and the store: what comes back after a crash, what feedback reaches the engine, what happens where nothing can be kept. */
#include "store_dir.h"

#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>

#include "base/log.h"
#include "state_engine.h"

/* In place of libc's, for this program: the clock by which a live agent saves. */
static time_t leap_s;

__attribute__((visibility("default"))) int clock_gettime(clockid_t id, struct timespec *ts)
{
	if (syscall(SYS_clock_gettime, id, ts) < 0)
		return -1;
	if (id == CLOCK_MONOTONIC)
		ts->tv_sec += leap_s;
	return 0;
}

static char told[4096]; /* events emitted by the state itself */

static void on_emit(void *ctx, const struct anomaly *a)
{
	size_t at = strlen(told);

	(void)ctx;
	assert_int_equal(a->event, EVENT_CLOSE);
	snprintf(told + at, sizeof(told) - at, "%s:%.0f:%s:%zu ", a->id, a->end, a->scope_value, a->evidence_count);
}

static struct counting *begin_in(const char *where, bool live, size_t n, double now)
{
	const struct state_opts o = { .dir = where, .live = live, .engine = &counting_engine, .emit = on_emit };
	struct counting *c = counting_new(n);

	told[0] = '\0';
	log_set_level(LOG_ERROR);
	assert_int_equal(state_open(&o, &c->state), 0);
	state_load(c->state, c, now);
	return c;
}

static struct counting *begin(bool live, size_t n, double now)
{
	return begin_in(dir, live, n, now);
}

/* Leaves the file as kill -9 would. */
static struct counting *crash(struct counting *c)
{
	state_free(c->state);
	return counting_free(c);
}

static struct counting *end(struct counting *c, double now)
{
	assert_int_equal(state_finish(c->state, now), 0);
	state_free(c->state);
	return counting_free(c);
}

static struct state_stats stats_of(const struct counting *c)
{
	struct state_stats st;

	state_stats(c->state, &st);
	return st;
}

static void nothing_is_kept_without_a_folder(void **ctx)
{
	struct counting *c = begin_in(NULL, true, 4, 1000);
	struct str out = { 0 };
	struct record r;

	(void)ctx;
	assert_null(c->state);
	record_init(&r);
	counting_open(c, 0, "i1", 1000);
	state_record(c->state, &r);
	state_tick(c->state, 1001);
	state_write_json(c->state, &out);
	assert_int_equal(out.n, 0);
	assert_false(stats_of(c).kept);
	end(c, 1002);
}

static void learning_comes_back(void **ctx)
{
	struct counting *c = begin(false, 100, 0);

	(void)ctx;
	for (size_t i = 0; i < 50; i++)
		counting_learn(c, i, 1000);
	end(c, 1010);
	c = begin(false, 100, 0);
	assert_int_equal(stats_of(c).imported, 50);
	for (size_t i = 0; i < 100; i++)
		assert_int_equal(c->v[i].count, i < 50);
	/* Only what changes is written again. */
	state_tick(c->state, 2000);
	assert_int_equal(stats_of(c).saves, 0); /* its time begins here */
	state_tick(c->state, 2000 + STATE_SAVE_REPLAY_S);
	assert_int_equal(c->exported, 50); /* the first save after a start writes all */
	counting_learn(c, 7, 6000);
	counting_learn(c, 77, 6000);
	state_tick(c->state, 2001 + STATE_SAVE_REPLAY_S);
	assert_int_equal(c->exported, 50); /* not yet */
	state_tick(c->state, 2000 + 2 * STATE_SAVE_REPLAY_S);
	assert_int_equal(c->exported, 52);
	crash(c);
	c = begin(false, 100, 0);
	assert_int_equal(c->v[7].count, 2);
	assert_int_equal(c->v[77].count, 1);
	/* What an engine does not understand is learnt anew, and counted. */
	crash(c);
	c = begin(false, 10, 0);
	assert_int_equal(stats_of(c).refused, 41);
	assert_int_equal(stats_of(c).imported, 10);
	crash(c);
	raw("UPDATE state SET blob = zeroblob(400) WHERE name = '10.0.0.3'");
	c = begin(false, 100, 0);
	assert_int_equal(stats_of(c).damaged, 1);
	assert_int_equal(c->v[3].count, 0);
	assert_int_equal(c->v[4].count, 1);
	crash(c);
}

/* An event is stored before anybody is told of it: whatever happens next, it is known. */
static void a_crash_at_the_worst_moment(void **ctx)
{
	struct counting *c = begin(false, 10, 0);

	(void)ctx;
	state_tick(c->state, 1000);
	counting_open(c, 0, "closed", 1000);
	counting_open(c, 1, "kept", 1000);
	counting_open(c, 2, "unknown", 1000);
	c->incident[2].open = false; /* the engine forgets to export it */
	state_tick(c->state, 1000 + STATE_SAVE_REPLAY_S);
	assert_int_equal(raw_number("SELECT count(*) FROM state WHERE kind = 'incident'"), 2);
	counting_emit(c, 0, EVENT_CLOSE, 5000); /* and the crash comes before the next save */
	crash(c);
	assert_int_equal(raw_number("SELECT count(*) FROM state WHERE kind = 'incident'"), 1);

	c = begin(false, 10, 0);
	assert_int_equal(stats_of(c).resumed, 1);
	assert_int_equal(stats_of(c).closed, 1);
	assert_true(c->incident[0].open);
	assert_string_equal(c->incident[0].id, "kept");
	assert_false(c->incident[1].open);
	/* Last seen at the save. */
	assert_string_equal(told, "unknown:4600:198.51.100.1:1 ");
	assert_int_equal(raw_number("SELECT count(*) FROM incidents WHERE closed IS NULL"), 1);
	crash(c);
	c = begin(false, 10, 9000);
	assert_string_equal(told, ""); /* once is enough */
	assert_int_equal(stats_of(c).resumed, 1);
	crash(c);
	/* An engine that takes nothing back: all of them are over. */
	{
		const struct state_opts o = { .dir = dir, .engine = &counting_engine, .emit = on_emit };

		c = counting_new(10);
		c->refuse = -EINVAL;
		told[0] = '\0';
		assert_int_equal(state_open(&o, &c->state), 0);
		state_load(c->state, c, 9000);
		assert_string_equal(told, "kept:4600:198.51.100.1:1 ");
		crash(c);
	}
}

static void label(const char *id, bool verdict)
{
	struct store *s = store_of(STORE_LABEL);

	assert_int_equal(store_begin(s), 0);
	assert_int_equal(store_put_label(s, id, verdict, "", "ann", 5000), 0);
	assert_int_equal(store_commit(s), 0);
	store_close(s, false);
}

/* An hour of a live agent's saves, so that every ceiling has had its turn. */
static double run_an_hour(struct counting *c, double now)
{
	for (int i = 0; i < 3700; i += STATE_PRUNE_S / 4) {
		leap_s += STATE_PRUNE_S / 4;
		state_tick(c->state, now + i);
	}
	return now + 3700;
}

static void a_clock_that_is_wrong(void **ctx)
{
	const double day = 86400, then = 1000 * day;
	struct counting *c = begin(true, 10, then);
	double now;

	(void)ctx;
	for (size_t i = 0; i < 10; i++)
		counting_learn(c, i, then);
	end(c, then);
	/* A year ahead after the next boot: nothing is forgotten for that. */
	c = begin(true, 10, then + 366 * day);
	counting_learn(c, 1, then + 366 * day);
	now = run_an_hour(c, then + 366 * day);
	assert_int_equal(stats_of(c).saves > 9, true);
	crash(c);
	assert_int_equal(raw_number("SELECT count(*) FROM state"), 10);
	/* But what is old in truth goes: two months of running. */
	raw("UPDATE meta SET value = 86400000.0 WHERE key = 'saved'");
	raw("UPDATE state SET updated = 86400000.0");
	c = begin(true, 1, then);
	leap_s += 60 * 86400;
	now = run_an_hour(c, then + 60 * day);
	end(c, now);
	assert_int_equal(raw_number("SELECT count(*) FROM state"), 1); /* the one that is still in use */
}

static void feedback_reaches_the_engine(void **ctx)
{
	struct counting *c = begin(true, 10, 1000);

	(void)ctx;
	counting_open(c, 0, "i1", 1000);
	state_tick(c->state, 1001);
	assert_int_equal(c->labels, 0);
	label("i1", false);
	state_tick(c->state, 1002);
	assert_int_equal(c->labels, 1);
	assert_false(c->label.true_positive);
	assert_string_equal(c->label_id, "i1");
	assert_string_equal(c->label_feature, "requests_per_s");
	assert_int_equal(c->label.evidence_count, 1);
	assert_true(c->label.end < 0);
	state_tick(c->state, 1003);
	assert_int_equal(c->labels, 1);
	/* The engine says what it kept quiet. */
	c->suppressed = 3;
	label("i1", true);
	state_tick(c->state, 1004);
	assert_int_equal(c->labels, 2);
	end(c, 1005);
	assert_int_equal(raw_number("SELECT suppressed FROM labels ORDER BY n DESC LIMIT 1"), 3);
	/* All of them again, in order, after a start. */
	c = begin(false, 10, 0);
	assert_int_equal(c->labels, 2);
	assert_true(c->label.true_positive);
	assert_int_equal(c->suppressed, 3);
	crash(c);
}

static void sums(void **ctx)
{
	struct counting *c = begin(false, 10, 0);
	struct record r;
	char name[32];

	(void)ctx;
	state_tick(c->state, 7200);
	for (int i = 0; i < 2000; i++) {
		record_init(&r);
		r.timestamp = 7200 + i % 10;
		r.weight = 2;
		snprintf(name, sizeof(name), "192.0.2.%d", i % 1000);
		record_set_text(&r, F_CLIENT_IP, span_of(name));
		record_set_text(&r, F_MODEL_NAME, SPAN("m"));
		record_set_text(&r, F_SERVER, i % 2 ? SPAN("10.0.0.1:8000 vllm/1.0") : SPAN("10.0.0.1:8000 vllm/1.1"));
		record_set_int(&r, F_PROMPT_TOKENS, 10);
		record_set_int(&r, F_COMPLETION_TOKENS, 3);
		record_set_int(&r, F_STATUS, i % 4 ? 200 : 503);
		state_record(c->state, &r);
		if (i == 1000)
			state_tick(c->state, 7200 + STATE_SAVE_REPLAY_S);
	}
	record_set_text(&r, F_PATH, SPAN("/health"));
	r.kind = KIND_CONTROL;
	state_record(c->state, &r);
	end(c, 7300 + STATE_SAVE_REPLAY_S);
	assert_int_equal(raw_number("SELECT requests FROM rollups WHERE hour = 2 AND scope_kind = 'global'"), 4000);
	assert_int_equal(raw_number("SELECT prompt_tokens FROM rollups WHERE hour = 2 AND scope_kind = 'model' AND scope_value = 'm'"), 20000);
	assert_int_equal(raw_number("SELECT completion_tokens FROM rollups WHERE hour = 2 AND scope_kind = 'global'"), 6000);
	assert_int_equal(raw_number("SELECT errors FROM rollups WHERE hour = 2 AND scope_kind = 'global'"), 1000);
	assert_int_equal(raw_number("SELECT requests FROM rollups WHERE hour = 2 AND scope_kind = 'server' AND scope_value = '10.0.0.1:8000'"), 4000);
	/* Five hundred and twelve have their own, the others one together; nothing is missing. */
	assert_int_equal(raw_number("SELECT count(*) FROM rollups WHERE scope_kind = 'client_ip'"), 513);
	assert_int_equal(raw_number("SELECT sum(requests) FROM rollups WHERE scope_kind = 'client_ip'"), 4000);
	assert_int_equal(raw_number("SELECT requests FROM rollups WHERE scope_kind = 'client_ip' AND scope_value = 'other'"), 4000 - 512 * 4);
}

/* Hours pass, clocks are wrong, names have no end. */
static void sums_of_odd_records(void **ctx)
{
	struct counting *c = begin(false, 10, 0);
	static char huge[5000];
	struct record r;

	(void)ctx;
	memset(huge, 'u', sizeof(huge));
	state_tick(c->state, 3600000);
	for (int h = 0; h < 50; h++) {
		for (int i = 0; i < 600; i++) {
			char name[32];

			snprintf(name, sizeof(name), "user-%d-%d", h, i);
			record_init(&r);
			r.timestamp = 3600000.0 + 3600 * h;
			record_set_text(&r, F_USER, span_of(name));
			state_record(c->state, &r);
		}
		state_tick(c->state, 3600000.0 + 3600 * (h + 1));
	}
	record_init(&r);
	r.timestamp = 1e15;
	record_set_text(&r, F_USER, (struct span){ huge, sizeof(huge) });
	state_record(c->state, &r);
	r.timestamp = -1e15;
	state_record(c->state, &r);
	r.timestamp = NAN;
	state_record(c->state, &r);
	record_set_text(&r, F_USER, (struct span){ "a\0b", 3 });
	state_record(c->state, &r);
	r.weight = INT64_MAX;
	for (int i = 0; i < 4; i++)
		state_record(c->state, &r);
	end(c, 3600000.0 + 3600 * 50 + 1);
	assert_int_equal(raw_number("SELECT count(DISTINCT hour) FROM rollups"), 51);
	assert_int_equal(raw_number("SELECT count(*) FROM rollups WHERE hour = 1000 AND scope_kind = 'user'"), 513);
	assert_int_equal(raw_number("SELECT max(length(scope_value)) FROM rollups"), STORE_TEXT - 1);
	assert_int_equal(raw_number("SELECT max(hour) FROM rollups"), 1050);
	assert_true(raw_number("SELECT max(requests) FROM rollups") == INT64_MAX);
}

/* A save of a hundred thousand would hold up the loop that drains the ring: it is taken in pieces. */
static void a_large_save_is_taken_in_pieces(void **ctx)
{
	const size_t n = 2 * STATE_ITEMS_MAX + 100;
	struct counting *c = begin(true, n, 1000);

	(void)ctx;
	for (size_t i = 0; i < n; i++)
		counting_learn(c, i, 1000);
	leap_s += STATE_SAVE_S;
	state_tick(c->state, 1001);
	assert_int_equal(c->exported, STATE_ITEMS_MAX);
	state_tick(c->state, 1002);
	assert_int_equal(c->exported, 2 * STATE_ITEMS_MAX);
	state_tick(c->state, 1003);
	assert_int_equal(c->exported, n);
	state_tick(c->state, 1004);
	assert_int_equal(c->exported, n);
	assert_int_equal(raw_number("SELECT count(*) FROM state"), n);
	for (size_t i = 0; i < n; i++)
		counting_learn(c, i, 1000);
	end(c, 1005); /* at the end nothing is left out */
	assert_int_equal(raw_number("SELECT count(*) FROM state WHERE updated = 1005"), n);
}

/* ---- where nothing can be kept ------------------------------------------------------------------------------ */
static void a_live_agent_goes_on_without(void **ctx)
{
	struct counting *c;
	struct store *other = store_of(STORE_WRITE);
	const struct state_opts o = { .dir = dir, .engine = &counting_engine };
	struct state *s = NULL;

	(void)ctx;
	c = begin(true, 10, 1000);
	assert_non_null(c->state);
	assert_false(stats_of(c).kept);
	assert_int_equal(stats_of(c).failures, 1);
	counting_open(c, 0, "i1", 1000);
	counting_learn(c, 1, 1000);
	state_tick(c->state, 1001);
	end(c, 1002);
	/* A replay says so and ends. */
	assert_int_equal(state_open(&o, &s), -EBUSY);
	assert_null(s);
	store_close(other, true);
	assert_int_equal(raw_number("SELECT count(*) FROM incidents"), 0);
}

static void a_full_disk_and_room_again(void **ctx)
{
	struct rlimit old, small = { 150000, 0 };
	struct counting *c = begin(false, 2000, 0);

	(void)ctx;
	state_tick(c->state, 1000);
	for (size_t i = 0; i < 2000; i++)
		counting_learn(c, i, 1000);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	signal(SIGXFSZ, SIG_IGN);
	small.rlim_max = old.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	state_tick(c->state, 1000 + STATE_SAVE_REPLAY_S);
	assert_false(stats_of(c).kept);
	/* Now not even an event has room. */
	small.rlim_cur = 4096;
	setrlimit(RLIMIT_FSIZE, &small);
	for (int i = 0; i < STATE_PENDING_MAX + 10; i++) {
		char id[32];

		snprintf(id, sizeof(id), "i%03d", i);
		counting_open(c, 0, id, 5000 + i);
		c->incident[0].open = false;
	}
	state_tick(c->state, 1000 + 2 * STATE_SAVE_REPLAY_S);
	assert_int_equal(stats_of(c).saves, 0);
	assert_int_equal(stats_of(c).events_lost, 10);
	setrlimit(RLIMIT_FSIZE, &old);
	state_tick(c->state, 1000 + 3 * STATE_SAVE_REPLAY_S);
	assert_true(stats_of(c).kept);
	assert_int_equal(stats_of(c).saves, 1);
	assert_int_equal(raw_number("SELECT count(*) FROM state WHERE kind = 'client_ip'"), 2000);
	assert_int_equal(raw_number("SELECT count(*) FROM events"), STATE_PENDING_MAX);
	assert_int_equal(raw_number("SELECT count(*) FROM events e JOIN events f ON f.n = e.n + 1 WHERE f.at < e.at"), 0);
	end(c, 20000);
	assert_false(there(STORE_FILE ".damaged-1"));
}

/* More than SQLite has in its cache. */
static void damage_while_it_runs(void **ctx)
{
	struct counting *c = begin(false, 4000, 0);
	size_t n, n2;
	char *p, *after;

	(void)ctx;
	state_tick(c->state, 1000);
	for (size_t i = 0; i < 4000; i++)
		counting_learn(c, i, 1000);
	end(c, 1001);
	p = bytes_of(STORE_FILE, &n);
	c = begin(false, 4000, 0);
	state_tick(c->state, 1000);
	for (size_t i = 0; i < 4000; i++)
		counting_learn(c, i, 2000);
	memset(p + 4096, 0xff, n - 4096);
	{
		int fd = open(path_of(STORE_FILE), O_WRONLY);

		assert_int_equal(pwrite(fd, p, n, 0), n);
		/* left open: closing it would drop the locks that SQLite has in this process */
		state_tick(c->state, 1000 + STATE_SAVE_REPLAY_S);
		assert_false(stats_of(c).kept);
		counting_open(c, 0, "i1", 5000);
		state_tick(c->state, 1000 + 2 * STATE_SAVE_REPLAY_S);
		close(fd);
	}
	state_finish(c->state, 20000);
	crash(c);
	/* Nobody touched it; the next start sets it aside and begins anew. */
	after = bytes_of(STORE_FILE, &n2);
	assert_int_equal(n, n2);
	assert_memory_equal(p, after, n);
	free(after);
	c = begin(true, 4000, 3000);
	assert_true(stats_of(c).kept);
	end(c, 3001);
	after = bytes_of(STORE_FILE ".damaged-1", &n2);
	assert_int_equal(n, n2);
	assert_memory_equal(p, after, n);
	free(after);
	free(p);
}

static void deleted_while_it_runs(void **ctx)
{
	struct counting *c = begin(false, 10, 0);

	(void)ctx;
	state_tick(c->state, 1000);
	unlink(path_of(STORE_FILE));
	state_tick(c->state, 1000 + STATE_SAVE_REPLAY_S);
	assert_false(stats_of(c).kept);
	crash(c);
}

/* The same calls, the same bytes of every row. */
static void a_replay_is_the_same_each_time(void **ctx)
{
	int64_t sum[2];

	(void)ctx;
	for (int run = 0; run < 2; run++) {
		struct counting *c = begin(false, 100, 0);
		struct record r;

		record_init(&r);
		record_set_text(&r, F_CLIENT_IP, SPAN("192.0.2.1"));
		for (int t = 0; t < 10000; t += 10) {
			r.timestamp = 1000000 + t;
			state_record(c->state, &r);
			counting_learn(c, (size_t)t % 100, 1000000 + t);
			if (t == 5000)
				counting_open(c, 0, "i1", 1000000 + t);
			state_tick(c->state, 1000000 + t);
		}
		end(c, 1010000);
		sum[run] = raw_number("SELECT sum(x) FROM (SELECT sum(updated + coalesce(sum, 0)) x FROM state UNION ALL SELECT sum(seen) FROM incidents"
				      " UNION ALL SELECT sum(at) FROM events UNION ALL SELECT sum(value) FROM meta UNION ALL SELECT sum(requests * hour) FROM rollups)");
		unlink(path_of(STORE_FILE));
		unlink(path_of(STORE_FILE "-wal"));
		unlink(path_of(STORE_FILE "-shm"));
	}
	assert_true(sum[0] == sum[1]);
}

#define IN_DIR(test) cmocka_unit_test_setup_teardown(test, dir_make, dir_remove)

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_DIR(nothing_is_kept_without_a_folder), IN_DIR(learning_comes_back), IN_DIR(a_crash_at_the_worst_moment), IN_DIR(a_clock_that_is_wrong), IN_DIR(feedback_reaches_the_engine),
		IN_DIR(sums), IN_DIR(sums_of_odd_records), IN_DIR(a_large_save_is_taken_in_pieces), IN_DIR(a_live_agent_goes_on_without), IN_DIR(a_full_disk_and_room_again), IN_DIR(damage_while_it_runs),
		IN_DIR(deleted_while_it_runs), IN_DIR(a_replay_is_the_same_each_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
