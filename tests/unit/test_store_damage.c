/*
 * Files damaged at random: opening and using them never crashes, what is refused is set aside with every byte it had, and what is taken
 * is usable. WEIR_DAMAGE_ROUNDS and WEIR_DAMAGE_SEED make a longer hunt of it.
 */
#include "store_dir.h"

#include "base/log.h"
#include "state_engine.h"

#define ROUNDS 80

static uint64_t seed;

static uint64_t bits(void)
{
	uint64_t z = seed += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static size_t below(size_t n)
{
	return n ? (size_t)(bits() % n) : 0;
}

static uint64_t setting(const char *name, uint64_t absent)
{
	const char *v = getenv(name);

	return v ? strtoull(v, NULL, 10) : absent;
}

/* A file with something in every table; `half`: the newer part of it still in the log. */
static void make(bool half, char **ret_db, size_t *ret_n, char **ret_log, size_t *ret_log_n)
{
	const struct state_opts o = { .dir = dir, .engine = &counting_engine };
	struct counting *c = counting_new(300);
	struct store *s;
	struct record r;

	assert_int_equal(state_open(&o, &c->state), 0);
	state_load(c->state, c, 0);
	state_tick(c->state, 3600);
	for (size_t i = 0; i < 300; i++)
		counting_learn(c, i, 3600);
	record_init(&r);
	r.timestamp = 3700;
	record_set_text(&r, F_CLIENT_IP, SPAN("192.0.2.1"));
	state_record(c->state, &r);
	for (int i = 0; i < 12; i++) {
		char id[16];

		snprintf(id, sizeof(id), "i%d", i);
		counting_open(c, 0, id, 3600 + i);
		if (i % 3)
			counting_emit(c, 0, EVENT_CLOSE, 3700 + i);
	}
	s = store_of(STORE_LABEL);
	assert_int_equal(store_begin(s), 0);
	for (int i = 0; i < 6; i++)
		store_put_label(s, i & 1 ? "i1" : "i3", i & 2, "note", "ann", i);
	assert_int_equal(store_commit(s), 0);
	store_close(s, false);
	if (!half) {
		assert_int_equal(state_finish(c->state, 8000), 0);
	} else {
		state_tick(c->state, 3600 + STATE_SAVE_REPLAY_S);
	}
	*ret_log = bytes_of(STORE_FILE "-wal", ret_log_n);
	if (!half) {
		c->state = state_free(c->state);
		free(*ret_log);
		*ret_log = NULL;
		*ret_log_n = 0;
	}
	*ret_db = bytes_of(STORE_FILE, ret_n);
	state_free(c->state);
	counting_free(c);
}

static void damage(char *p, size_t *n)
{
	size_t times = 1 + below(8), at, len;

	if (!*n)
		return;
	for (size_t i = 0; i < times; i++) {
		switch (below(6)) {
		case 0: /* a bit */
			p[below(*n)] ^= (char)(1 << below(8));
			break;
		case 1: /* a byte */
			p[below(*n)] = (char)bits();
			break;
		case 2: /* in the first page, where the schema is */
			p[below(*n < 4096 ? *n : 4096)] = (char)bits();
			break;
		case 3: /* a piece, zero or noise */
			at = below(*n);
			len = below(MIN((size_t)5000, *n - at) + 1);
			for (size_t k = 0; k < len; k++)
				p[at + k] = i & 1 ? 0 : (char)bits();
			break;
		case 4: /* one piece over another */
			at = below(*n);
			len = below(MIN((size_t)4096, *n - at) + 1);
			memmove(p + below(*n - len + 1), p + at, len);
			break;
		default: /* cut */
			if (below(3) == 0)
				*n = below(*n);
		}
		if (!*n)
			return;
	}
}

static int on_incident(void *ctx, const struct store_incident *in)
{
	struct store_evidence *ev = ctx;

	(void)in;
	(void)ev;
	return 0;
}

/* What the agent and the commands do with it. */
static void use(unsigned int round)
{
	const struct state_opts o = { .dir = dir, .live = round & 1, .engine = &counting_engine };
	const struct store_filter any = { .cls = CLASS_COUNT, .scope_kind = -1 };
	struct counting *c = counting_new(300);
	char why[STORE_WHY];
	struct store *s = NULL;

	/* Commands first: they find it as it is. */
	if (store_open(dir, STORE_READ, 0, why, &s) == 0) {
		store_each_incident(s, &any, on_incident, NULL);
		store_close(s, false);
	}
	s = NULL;
	if (store_open(dir, STORE_LABEL, 0, why, &s) == 0) {
		if (store_begin(s) == 0 && (store_put_label(s, "i2", true, "", "ann", 1) < 0 || store_commit(s) < 0))
			store_rollback(s);
		store_close(s, false);
	}
	if (state_open(&o, &c->state) == 0) {
		state_load(c->state, c, 5000);
		for (size_t i = 0; i < 50; i++)
			counting_learn(c, below(300), 5000);
		counting_open(c, 15, "new", 5000);
		state_tick(c->state, 5000);
		counting_emit(c, 15, EVENT_CLOSE, 5001);
		state_finish(c->state, 5002);
		c->state = state_free(c->state);
	}
	counting_free(c);
}

static void clear(void)
{
	DIR *d = opendir(dir);

	for (struct dirent *e; d && (e = readdir(d));)
		unlinkat(dirfd(d), e->d_name, 0);
	closedir(d);
}

static void hunt(bool half)
{
	uint64_t rounds = setting("WEIR_DAMAGE_ROUNDS", ROUNDS), aside = 0;
	char *db, *log, *copy, *log_copy;
	size_t n, log_n;

	seed = setting("WEIR_DAMAGE_SEED", 1) + half;
	log_set_level(LOG_ERROR); /* hundreds of warnings are right here */
	make(half, &db, &n, &log, &log_n);
	copy = malloc(n);
	log_copy = malloc(log_n + 1);
	for (uint64_t i = 0; i < rounds; i++) {
		size_t k = n, log_k = log_n, after_n;
		char *after;

		clear();
		memcpy(copy, db, n);
		if (log)
			memcpy(log_copy, log, log_n);
		if (!half || below(4) == 0)
			damage(copy, &k);
		if (log && below(4))
			damage(log_copy, &log_k);
		bytes_put(STORE_FILE, copy, k);
		if (log)
			bytes_put(STORE_FILE "-wal", log_copy, log_k);
		use((unsigned int)i);
		after = bytes_of(STORE_FILE ".damaged-1", &after_n);
		if (after) {
			aside++;
			/* The log of a file that a command has opened may have been played in; the rest is as it was. */
			if (!log && (after_n != k || memcmp(after, copy, k)))
				fail_msg("round %llu: the file set aside is not the one that was there", (unsigned long long)i);
			free(after);
		}
		/* Whatever it was: there is a store now that takes and gives. */
		{
			char why[STORE_WHY];
			struct store *s = NULL;
			int r = store_open(dir, STORE_WRITE, 100, why, &s);

			if (r < 0 && r != -EOPNOTSUPP && r != -EEXIST)
				fail_msg("round %llu: no store afterwards: %s", (unsigned long long)i, why);
			if (r < 0 && (there(STORE_FILE ".damaged-1") || !there(STORE_FILE)))
				fail_msg("round %llu: not ours, but touched", (unsigned long long)i);
			store_close(s, true);
		}
	}
	print_message("%llu of %llu damaged files set aside\n", (unsigned long long)aside, (unsigned long long)rounds);
	assert_true(aside > (half ? 0 : rounds / 2)); /* a damaged log ends where its checksums say so: nothing to set aside */
	free(db);
	free(log);
	free(copy);
	free(log_copy);
}

static void files(void **ctx)
{
	(void)ctx;
	hunt(false);
}

static void files_with_a_log(void **ctx)
{
	(void)ctx;
	hunt(true);
}

#define IN_DIR(test) cmocka_unit_test_setup_teardown(test, dir_make, dir_remove)

int main(void)
{
	const struct CMUnitTest tests[] = { IN_DIR(files), IN_DIR(files_with_a_log) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
