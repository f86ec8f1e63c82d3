/*
 * store_dir.h - a folder of its own for each test of the store, and raw looks into the database.
 */
#ifndef WEIR_TEST_STORE_DIR_H
#define WEIR_TEST_STORE_DIR_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>

#include "store/store.h"

static char dir[64];

static int dir_make(void **ctx)
{
	(void)ctx;
	/* Memory, where there is such a place: these tests sync often, and the disk is the end-to-end suites' affair. */
	snprintf(dir, sizeof(dir), "%s/weir-store.XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	return mkdtemp(dir) ? 0 : -1;
}

static int dir_remove(void **ctx)
{
	DIR *d = opendir(dir);

	(void)ctx;
	chmod(dir, 0700);
	for (struct dirent *e; d && (e = readdir(d));)
		unlinkat(dirfd(d), e->d_name, 0);
	if (d)
		closedir(d);
	return rmdir(dir);
}

static inline const char *path_of(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static inline struct store *store_of(enum store_mode mode)
{
	char why[STORE_WHY];
	struct store *s = NULL;
	int r = store_open(dir, mode, 100, why, &s);

	if (r < 0)
		fail_msg("%s: %s", strerror(-r), why);
	return s;
}

/* Runs SQL beside, as somebody else would. */
static inline void raw(const char *sql)
{
	sqlite3 *db = NULL;
	char *error = NULL;

	assert_int_equal(sqlite3_open(path_of(STORE_FILE), &db), SQLITE_OK);
	if (sqlite3_exec(db, sql, NULL, NULL, &error) != SQLITE_OK)
		fail_msg("%s: %s", sql, error);
	sqlite3_close(db);
}

static inline int64_t raw_number(const char *sql)
{
	sqlite3 *db = NULL;
	sqlite3_stmt *q = NULL;
	int64_t v;

	assert_int_equal(sqlite3_open_v2(path_of(STORE_FILE), &db, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
	if (sqlite3_prepare_v2(db, sql, -1, &q, NULL) != SQLITE_OK)
		fail_msg("%s: %s", sql, sqlite3_errmsg(db));
	assert_int_equal(sqlite3_step(q), SQLITE_ROW);
	v = sqlite3_column_int64(q, 0);
	sqlite3_finalize(q);
	sqlite3_close(db);
	return v;
}

static inline char *bytes_of(const char *name, size_t *ret_n)
{
	FILE *f = fopen(path_of(name), "re");
	char *p = NULL;
	long n;

	*ret_n = 0;
	if (!f)
		return NULL;
	fseek(f, 0, SEEK_END);
	n = ftell(f);
	rewind(f);
	p = malloc((size_t)n + 1);
	assert_non_null(p);
	*ret_n = fread(p, 1, (size_t)n, f);
	fclose(f);
	return p;
}

static inline void bytes_put(const char *name, const char *p, size_t n)
{
	FILE *f = fopen(path_of(name), "we");

	assert_non_null(f);
	assert_int_equal(fwrite(p, 1, n, f), n);
	fclose(f);
	chmod(path_of(name), 0600);
}

static inline bool there(const char *name)
{
	return access(path_of(name), F_OK) == 0;
}

static inline struct anomaly event_of(const char *id, enum anomaly_event ev, double t)
{
	struct anomaly a = {
		.event = ev, .id = id, .cls = CLASS_FLOOD, .severity = SEVERITY_WARNING, .scope_kind = ENTITY_CLIENT_IP, .scope_value = "203.0.113.9",
		.start = 1000, .detected = t, .end = ev == EVENT_CLOSE ? t - 30 : -1, .score = 7.5, .confidence = 0.8, .summary = "one client sends too much",
		.evidence = { { "requests_per_s", 90.5, 1.25, 11 }, { "share", 0.9, 0.1, 4 } }, .evidence_count = 2,
		.top = { { ENTITY_CLIENT_IP, "203.0.113.9", 0.9 } }, .top_count = 1,
	};

	return a;
}

static inline void event_put(struct store *s, const struct anomaly *a)
{
	assert_int_equal(store_begin(s), 0);
	assert_int_equal(store_put_event(s, a), 0);
	assert_int_equal(store_commit(s), 0);
}

#endif
