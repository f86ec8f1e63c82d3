/*
 * store_internal.h - between the files of the store: the connection, and its statements by name.
 */
#ifndef WEIR_STORE_INTERNAL_H
#define WEIR_STORE_INTERNAL_H

#include "store/store.h"

#include <sqlite3.h>
#include <stdatomic.h>

#define STORE_SCHEMA 2		   /* of this version; store_schema.c has the way there */
#define STORE_APPLICATION 0x77656972 /* "weir", in the file's header */
#define PAGE_BYTES_DB 4096
#define WAL_HEAD_BYTES 24 /* of each page in the log */

enum query {
	Q_BEGIN,
	Q_COMMIT,
	Q_ROLLBACK,
	Q_DATA_VERSION,
	Q_STATE_PUT,
	Q_STATE_DROP,
	Q_STATE_ROWS,
	Q_STATE_GET,
	Q_META_PUT,
	Q_META_GET,
	Q_INCIDENT_PUT,
	Q_INCIDENT_SEEN,
	Q_INCIDENT_GET,
	Q_INCIDENT_EACH,
	Q_EVENT_PUT,
	Q_EVIDENCE,
	Q_TOP,
	Q_LABEL_COUNT,
	Q_LABEL_PUT,
	Q_LABEL_EACH,
	Q_LABEL_SUPPRESSED,
	Q_SUM_ADD,
	Q_PRUNE_FIRST,
	Q_PRUNE_STATE_AGE = Q_PRUNE_FIRST,
	Q_PRUNE_STATE_ROWS,
	Q_PRUNE_EVENTS_AGE,
	Q_PRUNE_EVENTS_ROWS,
	Q_PRUNE_INCIDENTS_AGE,
	Q_PRUNE_INCIDENTS_ROWS,
	Q_PRUNE_SUMS_AGE,
	Q_PRUNE_SUMS_WHO,
	Q_PRUNE_SUMS_ROWS,
	QUERY_COUNT,
};

struct store {
	enum store_mode mode;
	sqlite3 *db, *copier; /* copier: only store_checkpoint() uses it */
	sqlite3_stmt *query[QUERY_COUNT];
	int dir_fd, file_fd; /* dir_fd holds the writer's lock; file_fd: O_PATH, so that closing it drops none of SQLite's */
	int64_t data_version;
	int wal_pages;
	atomic_bool uncopied; /* the last checkpoint, in its thread, could not copy all */
	bool in_transaction;
	char error[160];
};

extern const char *const store_migrations[STORE_SCHEMA];
extern const char *const store_queries[QUERY_COUNT];

/* SQLite's code of the last call on db as one of ours; keeps its words for store_error(). */
int store_failed(struct store *s, sqlite3 *db, int code);

/* The statement, reset and without values. NULL: it cannot be prepared, see store_error(). */
sqlite3_stmt *store_query(struct store *s, enum query q);
/* Steps a statement that answers no rows. */
int store_run(struct store *s, sqlite3_stmt *q);

/* Values; what is not finite is 0, and a text is cut at its ceiling on the way out. */
void store_bind_text(sqlite3_stmt *q, int at, const char *text);
void store_bind_real(sqlite3_stmt *q, int at, double v);
void store_bind_count(sqlite3_stmt *q, int at, uint64_t v);
void store_text(sqlite3_stmt *q, int column, char *into, size_t n);
double store_real(sqlite3_stmt *q, int column, double absent);
uint64_t store_count(sqlite3_stmt *q, int column);

#endif
