/* The file: opening it, whose it is, what becomes of a damaged one; transactions. The tables' rows are in store_rows.c. */
#include "store/store_internal.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <sys/file.h>
#include <sys/stat.h>

#define OPEN_BUSY_MS 2000 /* the start may wait so long for somebody else's transaction */
#define LOCK_WAIT_MS 20
#define LOCK_TRIES 75 /* an agent that was killed this moment is not quite gone */
#define LOG_KEPT_BYTES (8 << 20) /* of a log that once was larger */

static int say(char why[static STORE_WHY], int r, const char *fmt, ...) PRINTF_LIKE(3, 4);
static int say(char why[static STORE_WHY], int r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, STORE_WHY, fmt, ap);
	va_end(ap);
	return r;
}

/* ---- SQLite's words and ours ------------------------------------------------------------------------- */
static int code_to_errno(sqlite3 *db, int code)
{
	switch (code & 0xff) {
	case SQLITE_OK:
	case SQLITE_ROW:
	case SQLITE_DONE:
		return 0;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EBUSY;
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_READONLY:
	case SQLITE_PERM:
		return -EROFS;
	case SQLITE_CANTOPEN:
		return -EACCES;
	case SQLITE_CONSTRAINT:
	case SQLITE_TOOBIG:
	case SQLITE_MISUSE:
		return -EINVAL;
	case SQLITE_IOERR:
		switch (db ? sqlite3_system_errno(db) : 0) {
		case ENOSPC:
		case EDQUOT:
		case EFBIG:
			return -ENOSPC;
		case EROFS:
			return -EROFS;
		default:
			return -EIO;
		}
	default: /* CORRUPT, NOTADB, and whatever a schema that is not ours leads to */
		return -EBADMSG;
	}
}

/* SQLite quotes what a damaged file holds. */
static void error_set(struct store *s, const char *words)
{
	snprintf(s->error, sizeof(s->error), "%.150s", words);
	for (char *p = s->error; *p; p++)
		if (*p < 0x20 || *p == 0x7f)
			*p = '?';
}

int store_failed(struct store *s, sqlite3 *db, int code)
{
	error_set(s, db ? sqlite3_errmsg(db) : sqlite3_errstr(code));
	return code_to_errno(db, code);
}

const char *store_error(const struct store *s)
{
	return s->error;
}

sqlite3_stmt *store_query(struct store *s, enum query q)
{
	sqlite3_stmt **p = &s->query[q];

	if (*p) {
		sqlite3_reset(*p);
		sqlite3_clear_bindings(*p);
	} else if (sqlite3_prepare_v3(s->db, store_queries[q], -1, SQLITE_PREPARE_PERSISTENT, p, NULL) != SQLITE_OK) {
		error_set(s, sqlite3_errmsg(s->db));
		return NULL;
	}
	return *p;
}

int store_run(struct store *s, sqlite3_stmt *q)
{
	int code, r;

	if (!q)
		return code_to_errno(s->db, sqlite3_errcode(s->db));
	while ((code = sqlite3_step(q)) == SQLITE_ROW)
		;
	r = code == SQLITE_DONE ? 0 : store_failed(s, s->db, sqlite3_extended_errcode(s->db));
	sqlite3_reset(q);
	return r;
}

static int64_t ask_number(sqlite3 *db, const char *sql, int *ret_code)
{
	sqlite3_stmt *q = NULL;
	int64_t v = 0;
	int code = sqlite3_prepare_v2(db, sql, -1, &q, NULL);

	if (code == SQLITE_OK) {
		code = sqlite3_step(q);
		if (code == SQLITE_ROW)
			v = sqlite3_column_int64(q, 0);
	}
	*ret_code = code == SQLITE_ROW || code == SQLITE_DONE || code == SQLITE_OK ? SQLITE_OK : code;
	sqlite3_finalize(q);
	return v;
}

static bool says(sqlite3 *db, const char *sql, const char *expected, int *ret_code)
{
	sqlite3_stmt *q = NULL;
	bool yes = false;
	int code = sqlite3_prepare_v2(db, sql, -1, &q, NULL);

	if (code == SQLITE_OK) {
		code = sqlite3_step(q);
		yes = code == SQLITE_ROW && sqlite3_column_text(q, 0) && !strcmp((const char *)sqlite3_column_text(q, 0), expected);
	}
	*ret_code = code == SQLITE_ROW || code == SQLITE_DONE ? SQLITE_OK : code;
	sqlite3_finalize(q);
	return yes;
}

/* ---- the folder --------------------------------------------------------------------------------------- */
static int folder_open(struct store *s, const char *dir, char *why)
{
	struct stat st;

	if (s->mode == STORE_WRITE && mkdir(dir, 0700) < 0 && errno != EEXIST)
		return say(why, -errno, "%s: %s", dir, strerror(errno));
	s->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->dir_fd < 0)
		return say(why, -errno, "%s: %s", dir, strerror(errno));
	if (s->mode == STORE_READ)
		return 0;
	if (fstat(s->dir_fd, &st) < 0)
		return say(why, -errno, "%s: %s", dir, strerror(errno));
	/* Whoever may write there could put another file in place of ours. */
	if (st.st_mode & 022)
		return say(why, -EPERM, "%s: others may write there; it must be mode 0700", dir);
	return 0;
}

/* The writer's lock lies on the folder and ends with the process, and a child that it leaves behind. */
static int folder_lock(struct store *s, const char *dir, char *why)
{
	for (int i = 0; i < LOCK_TRIES; i++) {
		if (flock(s->dir_fd, LOCK_EX | LOCK_NB) == 0)
			return 0;
		if (errno != EWOULDBLOCK && errno != EINTR)
			break;
		poll(NULL, 0, LOCK_WAIT_MS);
	}
	if (errno == EWOULDBLOCK)
		return say(why, -EBUSY, "%s: in use by another weir", dir);
	return say(why, -errno, "%s: %s", dir, strerror(errno));
}

static const char *const tails[] = { "-wal", "-shm", "-journal", "" };

/*
 * Moves what there is of the database out of the way. The log first: without its file it does no harm, but a log left beside a new
 * file would be played into that one.
 */
static int set_aside(struct store *s, const char *dir, const char *what, char *why)
{
	char from[64], to[64];
	struct stat st;
	int n = 1;

	for (; n <= STORE_DAMAGED_MAX; n++) {
		size_t k = 0;

		for (; k < ARRAY_SIZE(tails); k++) {
			snprintf(to, sizeof(to), STORE_FILE ".damaged-%d%s", n, tails[k]);
			if (fstatat(s->dir_fd, to, &st, AT_SYMLINK_NOFOLLOW) == 0)
				break;
		}
		if (k == ARRAY_SIZE(tails))
			break;
	}
	if (n > STORE_DAMAGED_MAX)
		return say(why, -EBADMSG, "%s/" STORE_FILE " is damaged (%s), and so are the %d before it that were set aside: look at the disk", dir, what,
			   STORE_DAMAGED_MAX);
	for (size_t k = 0; k < ARRAY_SIZE(tails); k++) {
		snprintf(from, sizeof(from), STORE_FILE "%s", tails[k]);
		snprintf(to, sizeof(to), STORE_FILE ".damaged-%d%s", n, tails[k]);
		if (renameat(s->dir_fd, from, s->dir_fd, to) < 0 && errno != ENOENT)
			return say(why, -errno, "%s/" STORE_FILE " is damaged (%s) and cannot be set aside: %s", dir, what, strerror(errno));
	}
	say(why, 0, "%s/" STORE_FILE " was damaged (%s): set aside as " STORE_FILE ".damaged-%d, beginning anew", dir, what, n);
	return 0;
}

/* ---- the file ----------------------------------------------------------------------------------------- */
static void file_close(struct store *s)
{
	for (int q = 0; q < QUERY_COUNT; q++) {
		sqlite3_finalize(s->query[q]);
		s->query[q] = NULL;
	}
	sqlite3_close(s->copier);
	sqlite3_close(s->db);
	s->copier = s->db = NULL;
	s->in_transaction = false;
	if (s->file_fd >= 0)
		close(s->file_fd);
	s->file_fd = -EBADF;
}

/* Nothing that stands in the file may make us do more than read and write our own tables. */
static void connection_harden(sqlite3 *db, int busy_ms)
{
	sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
	sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
	sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_VIEW, 0, NULL);
	sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0, NULL);
	/* The log is copied back when we say so, never at the close: an agent that has dropped its rights could not delete it. */
	sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	sqlite3_limit(db, SQLITE_LIMIT_LENGTH, STATE_BLOB_MAX + 4096);
	sqlite3_limit(db, SQLITE_LIMIT_ATTACHED, 0);
	sqlite3_extended_result_codes(db, 1);
	sqlite3_busy_timeout(db, busy_ms);
}

static int on_commit(void *ctx, sqlite3 *db, const char *name, int pages)
{
	(void)db;
	(void)name;
	((struct store *)ctx)->wal_pages = pages;
	return SQLITE_OK;
}

static int connection_open(const struct store *s, const char *path, sqlite3 **ret)
{
	int flags = s->mode == STORE_READ ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE;
	int code = sqlite3_open_v2(path, ret, flags | SQLITE_OPEN_NOFOLLOW | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_URI, NULL);

	if (code == SQLITE_OK)
		connection_harden(*ret, OPEN_BUSY_MS);
	return code;
}

/* A path as a URI of SQLite's; with `query` behind it. */
static void path_to_uri(struct str *out, const char *path, const char *query)
{
	str_adds(out, "file:");
	for (; *path; path++) {
		if (strchr("%?#", *path) || (unsigned char)*path < 0x20)
			str_addf(out, "%%%02X", (unsigned char)*path);
		else
			str_addc(out, *path);
	}
	str_adds(out, query);
}

/* What stands in front of us: 0, -EOPNOTSUPP, -EEXIST, or what SQLite says of it. Does not write. */
static int file_judge(struct store *s, const char *path, int *ret_version, char *why)
{
	int64_t application, tables, foreign;
	int code;

	*ret_version = (int)ask_number(s->db, "PRAGMA user_version", &code);
	application = code ? 0 : ask_number(s->db, "PRAGMA application_id", &code);
	tables = code ? 0 : ask_number(s->db, "SELECT count(*) FROM sqlite_schema", &code);
	foreign = code ? 0 : ask_number(s->db, "SELECT count(*) FROM sqlite_schema WHERE type IN ('trigger', 'view')", &code);
	if (code)
		return store_failed(s, s->db, code);
	if (application != STORE_APPLICATION && (application || tables || *ret_version))
		return say(why, -EEXIST, "%s is a database, but not weir's: left alone", path);
	if (*ret_version > STORE_SCHEMA)
		return say(why, -EOPNOTSUPP, "%s was written by a newer weir (schema %d, this one knows %d): left untouched", path, *ret_version, STORE_SCHEMA);
	if (foreign || *ret_version < 0 || (tables && !*ret_version)) {
		snprintf(s->error, sizeof(s->error), "schema is not weir's");
		return -EBADMSG;
	}
	return 0;
}

static int schema_upgrade(struct store *s, int version)
{
	char sql[64];
	int r = store_begin(s), code = SQLITE_OK;

	if (r < 0)
		return r;
	/* Another one may have been faster. */
	version = (int)ask_number(s->db, "PRAGMA user_version", &code);
	if (!code && !version) {
		snprintf(sql, sizeof(sql), "PRAGMA application_id = %d", STORE_APPLICATION);
		code = sqlite3_exec(s->db, sql, NULL, NULL, NULL);
	}
	for (; !code && version < STORE_SCHEMA; version++) {
		code = sqlite3_exec(s->db, store_migrations[version], NULL, NULL, NULL);
		snprintf(sql, sizeof(sql), "PRAGMA user_version = %d", version + 1);
		if (!code)
			code = sqlite3_exec(s->db, sql, NULL, NULL, NULL);
	}
	if (code) {
		r = store_failed(s, s->db, code);
		store_rollback(s);
		return r;
	}
	r = store_commit(s);
	if (r < 0)
		store_rollback(s);
	return r;
}

static int queries_prepare(struct store *s)
{
	for (int q = 0; q < QUERY_COUNT; q++)
		if (!store_query(s, (enum query)q))
			return code_to_errno(s->db, sqlite3_errcode(s->db));
	return 0;
}

static int pragmas_set(struct store *s)
{
	static const char *const always[] = {
		"PRAGMA synchronous = NORMAL",
		"PRAGMA temp_store = MEMORY", /* a process that gave up its rights has no place for temporary files */
		"PRAGMA cell_size_check = ON",
		"PRAGMA mmap_size = 0", /* a truncated file must be an error, not a SIGBUS */
	};
	char sql[64];
	int code;

	for (size_t i = 0; i < ARRAY_SIZE(always); i++)
		if ((code = sqlite3_exec(s->db, always[i], NULL, NULL, NULL)) != SQLITE_OK)
			return store_failed(s, s->db, code);
	snprintf(sql, sizeof(sql), "PRAGMA cache_size = -%d", STORE_CACHE_KIB);
	sqlite3_exec(s->db, sql, NULL, NULL, NULL);
	if (s->mode == STORE_READ)
		return 0;
	snprintf(sql, sizeof(sql), "PRAGMA max_page_count = %u", STORE_BYTES_MAX / PAGE_BYTES_DB);
	sqlite3_exec(s->db, sql, NULL, NULL, NULL);
	snprintf(sql, sizeof(sql), "PRAGMA journal_size_limit = %d", LOG_KEPT_BYTES);
	sqlite3_exec(s->db, sql, NULL, NULL, NULL);
	return 0;
}

/* After this no call opens a file: the log and its index are held, too. */
static int writer_ready(struct store *s, const char *path)
{
	sqlite3_stmt *q;
	int code, r;

	if (!says(s->db, "PRAGMA journal_mode = WAL", "wal", &code)) {
		if (code)
			return store_failed(s, s->db, code);
		snprintf(s->error, sizeof(s->error), "this file system lacks shared memory for a write-ahead log");
		return -EIO;
	}
	r = schema_upgrade(s, 0);
	if (r == 0)
		r = queries_prepare(s);
	if (r < 0)
		return r;
	if (!says(s->db, "PRAGMA quick_check(1)", "ok", &code)) {
		r = code ? store_failed(s, s->db, code) : -EBADMSG;
		if (!code)
			snprintf(s->error, sizeof(s->error), "its inner check fails");
		return r;
	}
	sqlite3_wal_hook(s->db, on_commit, s);
	r = store_begin(s);
	if (r == 0 && (q = store_query(s, Q_META_PUT))) {
		store_bind_text(q, 1, "clean");
		store_bind_real(q, 2, 0);
		r = store_run(s, q);
	}
	r = r < 0 ? r : store_commit(s);
	if (r < 0) {
		store_rollback(s);
		return r;
	}
	code = connection_open(s, path, &s->copier);
	if (code == SQLITE_OK)
		ask_number(s->copier, "SELECT count(*) FROM sqlite_schema", &code);
	return code == SQLITE_OK ? 0 : store_failed(s, s->copier, code);
}

/* 0, or negative; -EBADMSG: damaged, s->error says how. */
static int file_open(struct store *s, const char *dir, char *why)
{
	CLEANUP(freep) char *real = realpath(dir, NULL);
	char path[PATH_MAX];
	struct stat st;
	int code, r, version;

	if (!real)
		return say(why, -errno, "%s: %s", dir, strerror(errno));
	snprintf(path, sizeof(path), "%s/" STORE_FILE, real);
	if (fstatat(s->dir_fd, STORE_FILE, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		if (errno != ENOENT)
			return say(why, -errno, "%s: %s", path, strerror(errno));
		if (s->mode != STORE_WRITE)
			return say(why, -ENOENT, "%s: nothing is stored there", dir);
		/* SQLite would delete the log of a file that is gone. */
		if (faccessat(s->dir_fd, STORE_FILE "-wal", F_OK, AT_SYMLINK_NOFOLLOW) == 0 && (r = set_aside(s, dir, "its log is there without it", why)) < 0)
			return r;
		r = openat(s->dir_fd, STORE_FILE, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (r < 0)
			return say(why, -errno, "%s: %s", path, strerror(errno));
		close(r);
	} else if (!S_ISREG(st.st_mode)) {
		return say(why, -EEXIST, "%s is not a regular file: left alone", path);
	} else if (s->mode == STORE_WRITE && (st.st_mode & 077) && fchmodat(s->dir_fd, STORE_FILE, 0600, 0) < 0) {
		return say(why, -errno, "%s: others may read it, and that cannot be changed: %s", path, strerror(errno));
	} else if (s->mode == STORE_WRITE && st.st_size == 0 && fstatat(s->dir_fd, STORE_FILE "-wal", &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_size > 0) {
		snprintf(s->error, sizeof(s->error), "it is empty, and its log is not");
		return -EBADMSG;
	}
	if (faccessat(s->dir_fd, STORE_FILE, s->mode == STORE_READ ? R_OK : R_OK | W_OK, AT_EACCESS) < 0)
		return say(why, -errno, "%s: %s", path, strerror(errno));
	s->file_fd = openat(s->dir_fd, STORE_FILE, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	code = connection_open(s, path, &s->db);
	if (code == SQLITE_OK && s->mode == STORE_READ) {
		ask_number(s->db, "PRAGMA schema_version", &code);
		/* A folder in which nothing may be written has no place for the log's index; without a log it needs none. */
		if (((code & 0xff) == SQLITE_CANTOPEN || (code & 0xff) == SQLITE_READONLY) && (fstatat(s->dir_fd, STORE_FILE "-wal", &st, 0) < 0 || st.st_size == 0)) {
			struct str uri = { 0 };

			path_to_uri(&uri, path, "?immutable=1");
			sqlite3_close(s->db);
			s->db = NULL;
			code = str_error(&uri) ? SQLITE_NOMEM : connection_open(s, uri.p, &s->db);
			str_done(&uri);
		}
	}
	if (code != SQLITE_OK)
		return store_failed(s, s->db, code);
	r = file_judge(s, path, &version, why);
	if (r == 0)
		r = pragmas_set(s);
	if (r == 0 && s->mode == STORE_WRITE)
		return writer_ready(s, path);
	if (r == 0 && version == 0)
		return say(why, -ENOENT, "%s: nothing is stored there yet", dir);
	if (r == 0 && version < STORE_SCHEMA)
		return say(why, -EOPNOTSUPP, "%s was written by an older weir (schema %d): start this version's agent once", path, version);
	return r < 0 ? r : queries_prepare(s);
}

int store_open(const char *dir, enum store_mode mode, int busy_ms, char why[static STORE_WHY], struct store **ret)
{
	char aside[STORE_WHY] = "";
	struct store *s = calloc(1, sizeof(*s));
	int r;

	why[0] = '\0';
	if (!s)
		return say(why, -ENOMEM, "out of memory");
	s->mode = mode;
	s->dir_fd = s->file_fd = -EBADF;
	r = folder_open(s, dir, why);
	if (r == 0 && mode == STORE_WRITE)
		r = folder_lock(s, dir, why);
	if (r == 0)
		r = file_open(s, dir, why);
	if (r == -EBADMSG && mode == STORE_WRITE && !why[0]) {
		char what[sizeof(s->error)];

		snprintf(what, sizeof(what), "%s", s->error);
		file_close(s);
		r = set_aside(s, dir, what, aside);
		if (r == 0)
			r = file_open(s, dir, why);
		else
			snprintf(why, STORE_WHY, "%s", aside);
	}
	if (r < 0) {
		if (!why[0])
			say(why, r, r == -EBADMSG ? "%s/" STORE_FILE " is damaged: %s" : "%s/" STORE_FILE ": %s", dir, *s->error ? s->error : strerror(-r));
		store_close(s, false);
		return r;
	}
	if (aside[0])
		snprintf(why, STORE_WHY, "%s", aside);
	sqlite3_busy_timeout(s->db, busy_ms);
	if (s->copier)
		sqlite3_busy_timeout(s->copier, 0);
	store_changed(s);
	*ret = s;
	return 0;
}

struct store *store_close(struct store *s, bool clean)
{
	if (!s)
		return NULL;
	if (s->db && s->in_transaction)
		store_rollback(s);
	if (clean && s->mode == STORE_WRITE && store_begin(s) == 0) {
		if (store_set_meta(s, "clean", 1) < 0 || store_commit(s) < 0)
			store_rollback(s);
		/* All back into the one file, so that a copy of it is whole. */
		sqlite3_wal_checkpoint_v2(s->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
	}
	file_close(s);
	if (s->dir_fd >= 0)
		close(s->dir_fd);
	free(s);
	return NULL;
}

bool store_in_use(const struct store *s)
{
	if (flock(s->dir_fd, LOCK_SH | LOCK_NB) < 0)
		return errno == EWOULDBLOCK;
	flock(s->dir_fd, LOCK_UN);
	return false;
}

/* ---- transactions ------------------------------------------------------------------------------------- */
int store_begin(struct store *s)
{
	int code;

	/* Before the statements are prepared, too: the schema is made in a transaction. */
	code = sqlite3_exec(s->db, store_queries[Q_BEGIN], NULL, NULL, NULL);
	if (code)
		return store_failed(s, s->db, code);
	s->in_transaction = true;
	return 0;
}

int store_commit(struct store *s)
{
	int code = sqlite3_exec(s->db, store_queries[Q_COMMIT], NULL, NULL, NULL);

	if (code)
		return store_failed(s, s->db, code);
	s->in_transaction = false;
	return 0;
}

void store_rollback(struct store *s)
{
	if (s->in_transaction && !sqlite3_get_autocommit(s->db))
		sqlite3_exec(s->db, store_queries[Q_ROLLBACK], NULL, NULL, NULL);
	s->in_transaction = false;
}

bool store_changed(struct store *s)
{
	sqlite3_stmt *q = store_query(s, Q_DATA_VERSION);
	int64_t before = s->data_version;

	if (q && sqlite3_step(q) == SQLITE_ROW)
		s->data_version = sqlite3_column_int64(q, 0);
	sqlite3_reset(q);
	return s->data_version != before;
}

size_t store_wal_bytes(const struct store *s)
{
	return (size_t)s->wal_pages * (PAGE_BYTES_DB + WAL_HEAD_BYTES);
}

bool store_wal_full(const struct store *s)
{
	return store_wal_bytes(s) > STORE_WAL_MAX && atomic_load(&s->uncopied);
}

uint64_t store_bytes(const struct store *s)
{
	struct stat st;
	uint64_t n = store_wal_bytes(s);

	return fstat(s->file_fd, &st) == 0 ? n + (uint64_t)st.st_size : n;
}

bool store_removed(const struct store *s)
{
	struct stat st;

	return s->file_fd >= 0 && fstat(s->file_fd, &st) == 0 && st.st_nlink == 0;
}

int store_checkpoint(struct store *s)
{
	int pages = 0, copied = 0, code = sqlite3_wal_checkpoint_v2(s->copier, NULL, SQLITE_CHECKPOINT_PASSIVE, &pages, &copied);

	/* All copied: the next transaction begins the log anew. */
	atomic_store(&s->uncopied, code != SQLITE_OK || copied < pages);
	return code_to_errno(s->copier, code);
}
