/* The tables, how older ones become these, and every statement that runs on them. */
#include "store/store_internal.h"

/* From version i to i + 1. Never changed once released; a new version is a new row. */
const char *const store_migrations[STORE_SCHEMA] = {
	"CREATE TABLE meta(key TEXT NOT NULL PRIMARY KEY, value REAL NOT NULL) STRICT;"
	"CREATE TABLE state(kind TEXT NOT NULL, name TEXT NOT NULL, blob BLOB NOT NULL, updated REAL NOT NULL, PRIMARY KEY(kind, name)) STRICT;"
	"CREATE TABLE incidents(id TEXT NOT NULL PRIMARY KEY, class TEXT NOT NULL, severity INTEGER NOT NULL, scope_kind TEXT NOT NULL,"
	" scope_value TEXT NOT NULL, start REAL NOT NULL, detected REAL NOT NULL, end REAL, score REAL NOT NULL, confidence REAL NOT NULL,"
	" summary TEXT NOT NULL, event TEXT NOT NULL, opened REAL NOT NULL, updated REAL NOT NULL, closed REAL, seen REAL NOT NULL,"
	" opens INTEGER NOT NULL) STRICT;"
	"CREATE INDEX incidents_by_time ON incidents(opened, id);"
	"CREATE TABLE events(n INTEGER PRIMARY KEY, at REAL NOT NULL, incident TEXT NOT NULL, event TEXT NOT NULL) STRICT;"
	"CREATE TABLE labels(n INTEGER PRIMARY KEY AUTOINCREMENT, incident TEXT NOT NULL, verdict INTEGER NOT NULL, note TEXT NOT NULL,"
	" by TEXT NOT NULL, at REAL NOT NULL, class TEXT NOT NULL, scope_kind TEXT NOT NULL, scope_value TEXT NOT NULL, start REAL NOT NULL,"
	" end REAL, score REAL NOT NULL, event TEXT NOT NULL) STRICT;"
	"CREATE INDEX labels_by_incident ON labels(incident, n);"
	"CREATE TABLE rollups(hour INTEGER NOT NULL, scope_kind TEXT NOT NULL, scope_value TEXT NOT NULL, requests INTEGER NOT NULL,"
	" prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, errors INTEGER NOT NULL,"
	" PRIMARY KEY(hour, scope_kind, scope_value)) STRICT, WITHOUT ROWID;",

	/* A checksum per item: SQLite does not notice a bit that fell over inside a row. What a label has kept quiet since. */
	"ALTER TABLE state ADD COLUMN sum INTEGER;"
	"ALTER TABLE labels ADD COLUMN suppressed INTEGER NOT NULL DEFAULT 0;",
};

#define TEXT_OF(x) #x
#define NUMBER(x) TEXT_OF(x)
#define INCIDENT_COLUMNS                                                                                                       \
	"i.id, i.class, i.severity, i.scope_kind, i.scope_value, i.start, i.detected, i.end, i.score, i.confidence, i.summary,"           \
	" iif(json_valid(i.event), json(i.event), json_object('id', i.id)), i.opened, i.updated, i.closed, i.seen, i.opens, l.verdict, l.at, l.note, l.by, l.suppressed"
#define INCIDENT_LABEL " LEFT JOIN labels l ON l.n = (SELECT max(n) FROM labels WHERE incident = i.id)"

const char *const store_queries[QUERY_COUNT] = {
	[Q_BEGIN] = "BEGIN IMMEDIATE",
	[Q_COMMIT] = "COMMIT",
	[Q_ROLLBACK] = "ROLLBACK",
	[Q_DATA_VERSION] = "PRAGMA data_version",

	[Q_STATE_PUT] = "INSERT INTO state(kind, name, blob, updated, sum) VALUES(?1, ?2, ?3, ?4, ?5)"
			" ON CONFLICT(kind, name) DO UPDATE SET blob = excluded.blob, updated = excluded.updated, sum = excluded.sum",
	[Q_STATE_DROP] = "DELETE FROM state WHERE kind = ?1 AND name = ?2",
	[Q_STATE_ROWS] = "SELECT rowid FROM state ORDER BY kind = 'incident', updated, kind, name LIMIT " NUMBER(STATE_ROWS_MAX),
	[Q_STATE_GET] = "SELECT kind, name, blob, updated, sum FROM state WHERE rowid = ?1",
	[Q_META_PUT] = "INSERT INTO meta(key, value) VALUES(?1, ?2) ON CONFLICT(key) DO UPDATE SET value = excluded.value",
	[Q_META_GET] = "SELECT value FROM meta WHERE key = ?1",

	/* ?15: 1 where the event opens it. Severity and score are the worst it had. */
	[Q_INCIDENT_PUT] = "INSERT INTO incidents(id, class, severity, scope_kind, scope_value, start, detected, end, score, confidence, summary,"
			   " event, opened, updated, closed, seen, opens)"
			   " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?13, ?14, ?13, 1)"
			   " ON CONFLICT(id) DO UPDATE SET class = excluded.class, severity = max(severity, excluded.severity),"
			   " scope_kind = excluded.scope_kind, scope_value = excluded.scope_value, start = excluded.start, end = excluded.end,"
			   " score = max(score, excluded.score), confidence = excluded.confidence, summary = excluded.summary, event = excluded.event,"
			   " updated = excluded.updated, closed = excluded.closed, seen = excluded.seen, opens = opens + ?15",
	[Q_INCIDENT_SEEN] = "UPDATE incidents SET seen = ?1 WHERE closed IS NULL",
	[Q_INCIDENT_GET] = "SELECT " INCIDENT_COLUMNS " FROM incidents i" INCIDENT_LABEL " WHERE i.id = ?1",
	/* (?1, ?2): behind this one. Then class, severity, open, since, kind, value; NULL where it does not matter. */
	[Q_INCIDENT_EACH] = "SELECT " INCIDENT_COLUMNS " FROM incidents i" INCIDENT_LABEL
			    " WHERE (i.opened, i.id) > (?1, ?2) AND (?3 IS NULL OR i.class = ?3) AND i.severity >= ?4"
			    " AND (NOT ?5 OR i.closed IS NULL) AND (?6 IS NULL OR i.closed IS NULL OR coalesce(i.end, i.closed) >= ?6)"
			    " AND (?7 IS NULL OR i.scope_kind = ?7) AND (?8 IS NULL OR i.scope_value GLOB ?8) ORDER BY i.opened, i.id LIMIT 64",
	[Q_EVENT_PUT] = "INSERT INTO events(at, incident, event) VALUES(?1, ?2, ?3)",
	[Q_EVIDENCE] = "SELECT value ->> '$.feature', value ->> '$.observed', value ->> '$.expected', value ->> '$.sigma'"
		       " FROM json_each(iif(json_valid(?1), ?1, '{}'), '$.evidence') WHERE type = 'object' LIMIT " NUMBER(ANOMALY_EVIDENCE_MAX),
	[Q_TOP] = "SELECT value ->> '$.kind', value ->> '$.value', value ->> '$.share'"
		  " FROM json_each(iif(json_valid(?1), ?1, '{}'), '$.top') WHERE type = 'object' LIMIT " NUMBER(ANOMALY_TOP_MAX),

	[Q_LABEL_COUNT] = "SELECT count(*) FROM labels",
	[Q_LABEL_PUT] = "INSERT INTO labels(incident, verdict, note, by, at, class, scope_kind, scope_value, start, end, score, event)"
			" SELECT id, ?2, ?3, ?4, ?5, class, scope_kind, scope_value, start, end, score, event FROM incidents WHERE id = ?1",
	[Q_LABEL_EACH] = "SELECT n, incident, verdict, note, by, at, class, scope_kind, scope_value, start, end, score, event, suppressed"
			 " FROM labels WHERE n > ?1 ORDER BY n LIMIT " NUMBER(LABELS_MAX),
	[Q_LABEL_SUPPRESSED] = "UPDATE labels SET suppressed = ?2 WHERE n = (SELECT max(n) FROM labels WHERE incident = ?1) AND suppressed <> ?2",

	[Q_SUM_ADD] = "INSERT INTO rollups(hour, scope_kind, scope_value, requests, prompt_tokens, completion_tokens, errors)"
		      " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO UPDATE SET requests = requests + excluded.requests,"
		      " prompt_tokens = prompt_tokens + excluded.prompt_tokens, completion_tokens = completion_tokens + excluded.completion_tokens,"
		      " errors = errors + excluded.errors",

	/* ?1: now. Age first, then rows, the oldest going first. */
	[Q_PRUNE_STATE_AGE] = "DELETE FROM state WHERE updated < ?1 - 86400.0 * " NUMBER(STATE_DAYS),
	[Q_PRUNE_STATE_ROWS] = "DELETE FROM state WHERE rowid IN (SELECT rowid FROM state ORDER BY updated LIMIT"
			       " max(0, (SELECT count(*) FROM state) - " NUMBER(STATE_ROWS_MAX) "))",
	/* They lie in the order of their times, so the first that is young enough ends the search. */
	[Q_PRUNE_EVENTS_AGE] = "DELETE FROM events WHERE n < coalesce((SELECT n FROM events WHERE at >= ?1 - 86400.0 * " NUMBER(EVENTS_DAYS)
			       " ORDER BY n LIMIT 1), (SELECT max(n) + 1 FROM events))",
	[Q_PRUNE_EVENTS_ROWS] = "DELETE FROM events WHERE n <= (SELECT max(n) FROM events) - " NUMBER(EVENTS_ROWS_MAX),
	[Q_PRUNE_INCIDENTS_AGE] = "DELETE FROM incidents WHERE closed < ?1 - 86400.0 * " NUMBER(INCIDENTS_DAYS)
				  " AND id NOT IN (SELECT incident FROM labels)",
	[Q_PRUNE_INCIDENTS_ROWS] = "DELETE FROM incidents WHERE id IN (SELECT id FROM incidents WHERE closed NOT NULL AND id NOT IN"
				   " (SELECT incident FROM labels) ORDER BY opened LIMIT max(0, (SELECT count(*) FROM incidents) - " NUMBER(INCIDENTS_ROWS_MAX) "))",
	[Q_PRUNE_SUMS_AGE] = "DELETE FROM rollups WHERE hour < ?1 / 3600.0 - 24 * " NUMBER(SUMS_DAYS),
	/* Sums of all, of servers and models are few and what one looks back for; those of clients, keys and users go first. */
	[Q_PRUNE_SUMS_WHO] = "DELETE FROM rollups WHERE scope_kind NOT IN ('global', 'server', 'model') AND hour <="
			     " (SELECT hour FROM rollups ORDER BY hour DESC LIMIT 1 OFFSET " NUMBER(SUMS_ROWS_MAX) ")",
	[Q_PRUNE_SUMS_ROWS] = "DELETE FROM rollups WHERE (hour, scope_kind, scope_value) IN (SELECT hour, scope_kind, scope_value FROM rollups"
			      " ORDER BY hour LIMIT max(0, (SELECT count(*) FROM rollups) - " NUMBER(SUMS_ROWS_MAX) "))",
};
