/*
 * store.h - what outlives a restart: DIR/weir.db (SQLite, WAL).
 *
 * One agent writes (it holds a lock on DIR); any number of commands read and label beside it. All files are opened by
 * store_open(): afterwards a process that may not open a file any more goes on writing. Nothing here logs; `why` is one line
 * for people. Whatever the file holds is taken for hostile: schema, sizes and checksums are looked at.
 *
 * The file is never deleted. A damaged one is renamed aside (weir.db.damaged-N) by the agent that finds it; one from a newer
 * weir, and one that is not weir's, are left alone.
 */
#ifndef WEIR_STORE_STORE_H
#define WEIR_STORE_STORE_H

#include "detect/anomaly.h"
#include "store/store_limits.h"

#define STORE_WHY 512

enum store_mode {
	STORE_READ,  /* never writes */
	STORE_LABEL, /* writes labels, beside a running agent */
	STORE_WRITE, /* the agent, or a replay: makes DIR (0700) and the file (0600), and moves an old schema up */
};

struct store;

/*
 * -ENOENT: no store there. -EBUSY: another process writes it. -EOPNOTSUPP: made by a newer weir (STORE_LABEL: or an older
 * one). -EEXIST: not weir's, or none of the caller's business. -EBADMSG: damaged (STORE_WRITE: too often to set aside once
 * more). -EPERM: others could write there. Other errno: as the system said. `why` is filled where it fails, and with what
 * was set aside where it succeeds ("" otherwise). busy_ms: how long any later call may wait for another process.
 */
int store_open(const char *dir, enum store_mode mode, int busy_ms, char why[static STORE_WHY], struct store **ret);
/* clean: all that was to be kept is in it. */
struct store *store_close(struct store *s, bool clean);
static inline void store_closep(struct store **s)
{
	store_close(*s, false);
}

/* Does an agent (or a replay) write there now? STORE_READ and STORE_LABEL only. */
bool store_in_use(const struct store *s);

/* Errors of all below: -EBUSY (try again), -ENOSPC, -EBADMSG (damaged; give up), -EROFS, -EIO, -ENOMEM. After one the
 * transaction is to be rolled back. */
const char *store_error(const struct store *s); /* of the last failure, for people */
int store_begin(struct store *s);
int store_commit(struct store *s);
void store_rollback(struct store *s);

/* Has another process written since the last call? */
bool store_changed(struct store *s);
uint64_t store_bytes(const struct store *s);     /* database and log */
size_t store_wal_bytes(const struct store *s);	 /* the log alone, as of the last commit */
bool store_wal_full(const struct store *s);	 /* beyond STORE_WAL_MAX, and somebody reads what the last checkpoint wanted to copy */
bool store_removed(const struct store *s);	 /* the file was deleted under us */
/* Copies the log back into the file. May wait for the disk: from a thread of its own, at the same time as the rest. */
int store_checkpoint(struct store *s);

/* ---- what the engine learnt ------------------------------------------------------------------------- */
int store_put_state(struct store *s, const char *kind, const char *name, const void *blob, size_t n, double now);
int store_drop_state(struct store *s, const char *kind, const char *name);

struct store_state {
	const char *kind, *name;
	const void *blob;
	size_t n;
	double updated;
	bool damaged; /* its checksum does not fit */
};
/* Oldest first, incidents last. fn: not 0 ends it with that answer. */
int store_each_state(struct store *s, int (*fn)(void *ctx, const struct store_state *st), void *ctx);

int store_set_meta(struct store *s, const char *key, double value);
double store_meta(struct store *s, const char *key, double absent);

/* ---- incidents and events ---------------------------------------------------------------------------- */
int store_put_event(struct store *s, const struct anomaly *a);
/* All that are open were still so at this tick. */
int store_touch_open(struct store *s, double now);

struct store_incident {
	char id[STORE_ID], scope_value[STORE_TEXT], summary[STORE_SUMMARY];
	enum anomaly_class cls;
	enum anomaly_severity severity;
	enum entity_kind scope_kind;
	double start, detected, end, score, confidence;
	double opened, updated, closed, seen; /* closed < 0: open; seen: last tick at which it was known to be open */
	uint64_t opens;
	char *event; /* the last event as one JSON object, no newline in it; freed by store_incident_done() */
	/* what people said of it, last */
	bool labelled, true_positive;
	double label_at;
	char note[STORE_NOTE], by[STORE_BY];
	uint64_t suppressed;
};
void store_incident_done(struct store_incident *in);

struct store_filter {
	enum anomaly_class cls;		/* CLASS_COUNT: any */
	enum anomaly_severity severity; /* this or worse */
	bool open;			/* only those */
	bool since_given;
	double since;		        /* not over before */
	int scope_kind;			/* negative: any */
	const char *scope_value;	/* NULL: any; `*` stands for anything */
};
/* Oldest first, in pieces, so that no reader holds the store for long. fn: not 0 ends it with that answer. */
int store_each_incident(struct store *s, const struct store_filter *f, int (*fn)(void *ctx, const struct store_incident *in), void *ctx);
/* -ENOENT where there is none. */
int store_get_incident(struct store *s, const char *id, struct store_incident *ret);

/* Evidence and contributors out of an event's JSON, into memory of its own. */
struct store_evidence {
	struct anomaly_evidence v[ANOMALY_EVIDENCE_MAX];
	struct anomaly_contributor top[ANOMALY_TOP_MAX];
	size_t n, top_count;
	char feature[ANOMALY_EVIDENCE_MAX][STORE_FEATURE];
	char value[ANOMALY_TOP_MAX][STORE_TEXT];
};
void store_read_evidence(struct store *s, const char *event, struct store_evidence *ret);

/* ---- labels ------------------------------------------------------------------------------------------ */
struct store_label {
	int64_t n; /* ascending */
	char id[STORE_ID], scope_value[STORE_TEXT], note[STORE_NOTE], by[STORE_BY];
	bool true_positive;
	enum anomaly_class cls;
	enum entity_kind scope_kind;
	double start, end, score, at;
	uint64_t suppressed;
	struct store_evidence evidence;
};
/* Copies what the engine needs out of the incident. -ENOENT: no such incident. -EDQUOT: LABELS_MAX. */
int store_put_label(struct store *s, const char *id, bool true_positive, const char *note, const char *by, double at);
/* Those after n, in order. */
int store_each_label(struct store *s, int64_t after, int (*fn)(void *ctx, const struct store_label *l), void *ctx);
int store_set_suppressed(struct store *s, const char *id, uint64_t count);

/* ---- hourly sums ------------------------------------------------------------------------------------- */
struct store_sum {
	int64_t hour; /* hours since the epoch */
	enum entity_kind kind;
	const char *value;
	uint64_t requests, prompt_tokens, completion_tokens, errors;
};
/* Adds to what is there. */
int store_add_sum(struct store *s, const struct store_sum *sum);

/* Enforces one of the ceilings of store_limits.h; each call the next, so that none takes long. In a transaction. */
#define STORE_PRUNE_TURNS 9
int store_prune(struct store *s, unsigned int turn, double now);

#endif
