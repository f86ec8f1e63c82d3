/*
 * store_limits.h - every ceiling of the store, in one place, with the reason for its size.
 */
#ifndef WEIR_STORE_LIMITS_H
#define WEIR_STORE_LIMITS_H

#define STORE_FILE "weir.db"
#define STORE_DAMAGED_MAX 16	       /* files set aside; a disk that damages more than that wants a person */
#define STORE_BYTES_MAX (1u << 30)     /* of the file: the tables below, all full, with room for fragments */
#define STORE_WAL_MAX (64u << 20)      /* of the log, while a reader holds it: some ten saves at 10k entities */
#define STORE_CACHE_KIB 512	       /* pages in memory; the engine has the rest in memory anyway */

#define STORE_ID 64
#define STORE_TEXT 256		       /* a scope's value; the engine keeps 128 bytes of a name */
#define STORE_SUMMARY 1024
#define STORE_NOTE 1024
#define STORE_BY 64
#define STORE_FEATURE 64

#define STATE_BLOB_MAX (4u << 20)      /* one item: a baseline has hundreds of bytes, a forest some hundred KiB */
#define STATE_ROWS_MAX 262144	       /* the engine's own ceilings together */
#define STATE_DAYS 35		       /* not touched for so long: five weeks of an hour-of-week season say nothing any more */
#define EVENTS_ROWS_MAX 100000	       /* 64 open incidents that update each minute fill this in a day; a calm site in years */
#define EVENTS_DAYS 90
#define INCIDENTS_ROWS_MAX 50000
#define INCIDENTS_DAYS 400	       /* last year's season can be looked up; open ones and labelled ones stay */
#define LABELS_MAX 16384	       /* people type them */
#define SUMS_ROWS_MAX 262144	       /* 25 MB; 30 years of one server, or ten days of a thousand clients */
#define SUMS_DAYS 400

#endif
