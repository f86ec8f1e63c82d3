/* The store: whose file it is, what goes in and comes out, older and newer ones, damaged ones, others beside us. */
#include "store_dir.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <math.h>
#include <signal.h>

/* ---- whose it is ---------------------------------------------------------------------------------------- */
static int refused(enum store_mode mode, char why[static STORE_WHY])
{
	struct store *s = NULL;
	int r = store_open(dir, mode, 100, why, &s);

	assert_true(r < 0);
	assert_null(s);
	assert_true(why[0] != '\0');
	assert_null(strchr(why, '\n'));
	return r;
}

static void private_files(void **ctx)
{
	struct stat st;
	struct store *s;
	char why[STORE_WHY];

	(void)ctx;
	assert_int_equal(refused(STORE_READ, why), -ENOENT);
	assert_int_equal(refused(STORE_LABEL, why), -ENOENT);
	s = store_of(STORE_WRITE);
	assert_int_equal(stat(path_of(STORE_FILE), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(stat(path_of(STORE_FILE "-wal"), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	store_close(s, true);
	/* One that others could read is closed to them. */
	chmod(path_of(STORE_FILE), 0644);
	store_close(store_of(STORE_WRITE), true);
	assert_int_equal(stat(path_of(STORE_FILE), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	/* In a folder in which others may write, they could put another one in its place. */
	chmod(dir, 0770);
	assert_int_equal(refused(STORE_WRITE, why), -EPERM);
	assert_int_equal(refused(STORE_LABEL, why), -EPERM);
	chmod(dir, 0700);
	unlink(path_of(STORE_FILE));
	unlink(path_of(STORE_FILE "-wal"));
	unlink(path_of(STORE_FILE "-shm"));
	assert_int_equal(symlink("/etc/passwd", path_of(STORE_FILE)), 0);
	assert_int_equal(refused(STORE_WRITE, why), -EEXIST);
	assert_int_equal(refused(STORE_READ, why), -EEXIST);
}

static void one_writer(void **ctx)
{
	struct store *s = store_of(STORE_WRITE), *label, *reader;
	char why[STORE_WHY];

	(void)ctx;
	assert_int_equal(refused(STORE_WRITE, why), -EBUSY);
	assert_non_null(strstr(why, "in use"));
	label = store_of(STORE_LABEL);
	reader = store_of(STORE_READ);
	assert_true(store_in_use(label));
	store_close(s, true);
	assert_false(store_in_use(reader));
	s = store_of(STORE_WRITE);
	store_close(label, false);
	store_close(reader, false);
	store_close(s, true);
}

static void readers_cannot_write(void **ctx)
{
	struct store *s, *reader;

	(void)ctx;
	s = store_of(STORE_WRITE);
	reader = store_of(STORE_READ);
	assert_true(store_begin(reader) < 0 || store_set_meta(reader, "x", 1) == -EROFS);
	store_rollback(reader);
	store_close(reader, false);
	store_close(s, true);
}

/* ---- what goes in comes out ----------------------------------------------------------------------------- */
struct seen {
	int n, damaged;
	char names[256];
	size_t bytes;
};

static int on_state(void *ctx, const struct store_state *st)
{
	struct seen *seen = ctx;
	size_t at = strlen(seen->names);

	seen->n++;
	seen->damaged += st->damaged;
	seen->bytes += st->n;
	snprintf(seen->names + at, sizeof(seen->names) - at, "%s/%s ", st->kind, st->name);
	return 0;
}

static void state_comes_back(void **ctx)
{
	struct store *s = store_of(STORE_WRITE);
	struct seen seen = { 0 };
	char blob[300];

	(void)ctx;
	memset(blob, 7, sizeof(blob));
	assert_int_equal(store_begin(s), 0);
	assert_int_equal(store_put_state(s, "incident", "one", blob, 10, 1), 0);
	assert_int_equal(store_put_state(s, "client_ip", "newer", blob, sizeof(blob), 20), 0);
	assert_int_equal(store_put_state(s, "client_ip", "older", blob, sizeof(blob), 10), 0);
	assert_int_equal(store_put_state(s, "client_ip", "older", NULL, 0, 10), 0);
	assert_int_equal(store_put_state(s, "model", "gone", blob, sizeof(blob), 10), 0);
	assert_int_equal(store_drop_state(s, "model", "gone"), 0);
	assert_int_equal(store_put_state(s, "forest", "huge", blob, (size_t)STATE_BLOB_MAX + 1, 10), -EINVAL);
	assert_int_equal(store_set_meta(s, "saved", 12.5), 0);
	assert_int_equal(store_commit(s), 0);
	/* What is rolled back was never there. */
	assert_int_equal(store_begin(s), 0);
	assert_int_equal(store_put_state(s, "model", "undone", blob, 10, 1), 0);
	store_rollback(s);
	store_close(s, true);

	s = store_of(STORE_WRITE);
	assert_int_equal(store_each_state(s, on_state, &seen), 0);
	assert_string_equal(seen.names, "client_ip/older client_ip/newer incident/one ");
	assert_int_equal(seen.bytes, 310);
	assert_int_equal(seen.damaged, 0);
	assert_float_equal(store_meta(s, "saved", 0), 12.5, 0);
	assert_float_equal(store_meta(s, "absent", -3), -3, 0);
	store_close(s, true);

	/* One bit of one blob; and the same blob under another name. */
	raw("UPDATE state SET blob = x'0707070707070707070F' WHERE name = 'one'");
	raw("UPDATE state SET name = 'other' WHERE name = 'newer'");
	s = store_of(STORE_WRITE);
	seen = (struct seen){ 0 };
	assert_int_equal(store_each_state(s, on_state, &seen), 0);
	assert_int_equal(seen.n, 3);
	assert_int_equal(seen.damaged, 2);
	store_close(s, true);
}

static struct store_incident incident_of(struct store *s, const char *id)
{
	struct store_incident in = { 0 };

	assert_int_equal(store_get_incident(s, id, &in), 0);
	return in;
}

static void incidents_live(void **ctx)
{
	struct anomaly a = event_of("i1", EVENT_OPEN, 1010);
	struct store *s = store_of(STORE_WRITE);
	struct store_evidence ev;
	struct store_incident in;

	(void)ctx;
	event_put(s, &a);
	in = incident_of(s, "i1");
	assert_true(in.closed < 0 && in.end < 0);
	assert_int_equal(in.cls, CLASS_FLOOD);
	assert_int_equal(in.scope_kind, ENTITY_CLIENT_IP);
	assert_string_equal(in.scope_value, "203.0.113.9");
	assert_float_equal(in.opened, 1010, 0);
	assert_int_equal(in.opens, 1);
	store_read_evidence(s, in.event, &ev);
	assert_int_equal(ev.n, 2);
	assert_string_equal(ev.v[0].feature, "requests_per_s");
	assert_float_equal(ev.v[0].observed, 90.5, 1e-9);
	assert_float_equal(ev.v[1].expected, 0.1, 1e-9);
	assert_int_equal(ev.top_count, 1);
	assert_int_equal(ev.top[0].kind, ENTITY_CLIENT_IP);
	assert_float_equal(ev.top[0].share, 0.9, 1e-9);
	store_incident_done(&in);

	a = event_of("i1", EVENT_UPDATE, 1070);
	a.severity = SEVERITY_CRITICAL;
	a.cls = CLASS_DDOS;
	event_put(s, &a);
	assert_int_equal(store_begin(s), 0);
	assert_int_equal(store_touch_open(s, 1090), 0);
	assert_int_equal(store_commit(s), 0);
	a = event_of("i1", EVENT_CLOSE, 1130);
	a.cls = CLASS_DDOS;
	a.score = NAN; /* never reaches the file */
	event_put(s, &a);
	in = incident_of(s, "i1");
	assert_int_equal(in.cls, CLASS_DDOS);
	assert_int_equal(in.severity, SEVERITY_CRITICAL); /* the worst it had */
	assert_float_equal(in.score, 7.5, 0);
	assert_float_equal(in.closed, 1130, 0);
	assert_float_equal(in.end, 1100, 0);
	store_incident_done(&in);
	assert_int_equal(store_begin(s), 0);
	assert_int_equal(store_touch_open(s, 1200), 0);
	assert_int_equal(store_commit(s), 0);
	in = incident_of(s, "i1");
	assert_float_equal(in.seen, 1130, 0); /* closed: it was not seen any more */
	store_incident_done(&in);
	a = event_of("i1", EVENT_OPEN, 1300);
	event_put(s, &a);
	in = incident_of(s, "i1");
	assert_true(in.closed < 0);
	assert_int_equal(in.opens, 2);
	assert_float_equal(in.opened, 1010, 0);
	store_incident_done(&in);
	assert_int_equal(store_get_incident(s, "i2", &in), -ENOENT);
	store_close(s, true);
	assert_int_equal(raw_number("SELECT count(*) FROM events WHERE incident = 'i1'"), 4);
}

static int on_incident(void *ctx, const struct store_incident *in)
{
	char *ids = ctx;
	size_t at = strlen(ids);

	snprintf(ids + at, 4096 - at, "%s ", in->id);
	return 0;
}

static const char *found(struct store *s, struct store_filter f)
{
	static char ids[4096];

	ids[0] = '\0';
	assert_int_equal(store_each_incident(s, &f, on_incident, ids), 0);
	return ids;
}

static void filters(void **ctx)
{
	struct store *s = store_of(STORE_WRITE);
	struct store_filter any = { .cls = CLASS_COUNT, .scope_kind = -1 }, f;
	struct anomaly a;

	(void)ctx;
	a = event_of("a", EVENT_OPEN, 1000);
	event_put(s, &a);
	a = event_of("a", EVENT_CLOSE, 1100);
	event_put(s, &a);
	a = event_of("b", EVENT_OPEN, 2000);
	a.cls = CLASS_COST_SPIKE;
	a.scope_kind = ENTITY_API_KEY;
	a.scope_value = "k[1]*";
	a.severity = SEVERITY_CRITICAL;
	event_put(s, &a);
	a = event_of("c", EVENT_OPEN, 1500);
	a.severity = SEVERITY_INFO;
	a.scope_value = "2001:db8::1";
	event_put(s, &a);
	assert_string_equal(found(s, any), "a c b ");
	f = any, f.open = true;
	assert_string_equal(found(s, f), "c b ");
	f = any, f.cls = CLASS_COST_SPIKE;
	assert_string_equal(found(s, f), "b ");
	f = any, f.severity = SEVERITY_WARNING;
	assert_string_equal(found(s, f), "a b ");
	f = any, f.since_given = true, f.since = 1071; /* a's end is 1070 */
	assert_string_equal(found(s, f), "c b ");
	f = any, f.since_given = true, f.since = 1070;
	assert_string_equal(found(s, f), "a c b ");
	f = any, f.scope_value = "2001:db8:*";
	assert_string_equal(found(s, f), "c ");
	f = any, f.scope_kind = ENTITY_API_KEY;
	assert_string_equal(found(s, f), "b ");
	f = any, f.scope_value = "nobody";
	assert_string_equal(found(s, f), "");
	store_close(s, true);
}

/* More than one piece of the reader, and equal times. */
static void many_incidents(void **ctx)
{
	const struct store_filter any = { .cls = CLASS_COUNT, .scope_kind = -1 };
	struct store *s = store_of(STORE_WRITE);
	char id[16], expected[4096] = "";

	(void)ctx;
	assert_int_equal(store_begin(s), 0);
	for (int i = 0; i < 200; i++) {
		struct anomaly a = event_of(id, EVENT_OPEN, 1000 + i / 50);

		snprintf(id, sizeof(id), "i%03d", i);
		assert_int_equal(store_put_event(s, &a), 0);
		snprintf(expected + strlen(expected), sizeof(id) + 2, "%s ", id);
	}
	assert_int_equal(store_commit(s), 0);
	assert_string_equal(found(s, any), expected);
	store_close(s, true);
}

static int on_label(void *ctx, const struct store_label *l)
{
	char *said = ctx;
	size_t at = strlen(said);

	assert_int_equal(l->cls, CLASS_FLOOD);
	assert_int_equal(l->scope_kind, ENTITY_CLIENT_IP);
	assert_string_equal(l->scope_value, "203.0.113.9");
	assert_float_equal(l->start, 1000, 0);
	assert_true(l->end < 0);
	assert_float_equal(l->score, 7.5, 0);
	assert_int_equal(l->evidence.n, 2);
	assert_string_equal(l->evidence.v[1].feature, "share");
	snprintf(said + at, 256 - at, "%lld:%s=%d(%s,%s) ", (long long)l->n, l->id, l->true_positive, l->note, l->by);
	return 0;
}

static void label_put(struct store *s, const char *id, bool verdict, const char *note, int expected)
{
	assert_int_equal(store_begin(s), 0);
	assert_int_equal(store_put_label(s, id, verdict, note, "ann", 5000), expected);
	assert_int_equal(store_commit(s), 0);
}

static void labels_in_order(void **ctx)
{
	struct store *s = store_of(STORE_WRITE), *beside;
	struct anomaly a = event_of("i1", EVENT_OPEN, 1010);
	struct store_incident in;
	char said[256] = "";

	(void)ctx;
	event_put(s, &a);
	assert_false(store_changed(s));
	beside = store_of(STORE_LABEL);
	label_put(beside, "i1", false, "load test", 0);
	label_put(beside, "i9", false, "", -ENOENT);
	assert_true(store_changed(s));
	assert_false(store_changed(s));
	label_put(beside, "i1", true, "", 0);
	store_close(beside, false);
	assert_int_equal(store_each_label(s, 0, on_label, said), 0);
	assert_string_equal(said, "1:i1=0(load test,ann) 2:i1=1(,ann) ");
	said[0] = '\0';
	assert_int_equal(store_each_label(s, 1, on_label, said), 0);
	assert_string_equal(said, "2:i1=1(,ann) ");
	assert_int_equal(store_begin(s), 0);
	assert_int_equal(store_set_suppressed(s, "i1", 4), 0);
	assert_int_equal(store_commit(s), 0);
	in = incident_of(s, "i1");
	assert_true(in.labelled && in.true_positive);
	assert_int_equal(in.suppressed, 4);
	assert_string_equal(in.by, "ann");
	store_incident_done(&in);
	/* A label outlives the incident's row. */
	raw("DELETE FROM incidents");
	said[0] = '\0';
	assert_int_equal(store_each_label(s, 0, on_label, said), 0);
	assert_string_equal(said, "1:i1=0(load test,ann) 2:i1=1(,ann) ");
	store_close(s, true);
}

static void labels_have_a_ceiling(void **ctx)
{
	struct store *s = store_of(STORE_WRITE);
	struct anomaly a = event_of("i1", EVENT_OPEN, 1010);
	char sql[512];

	(void)ctx;
	event_put(s, &a);
	label_put(s, "i1", true, "", 0);
	snprintf(sql, sizeof(sql),
		 "WITH RECURSIVE c(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM c WHERE i < %d)"
		 " INSERT INTO labels SELECT i, incident, 0, note, by, i, class, scope_kind, scope_value, start, end, score, event, 0 FROM labels, c",
		 LABELS_MAX - 1);
	raw(sql);
	label_put(s, "i1", true, "", 0);
	label_put(s, "i1", false, "", -EDQUOT);
	store_close(s, true);
}

/* ---- ceilings --------------------------------------------------------------------------------------------- */
static void prune(struct store *s, double now)
{
	assert_int_equal(store_begin(s), 0);
	for (unsigned int turn = 0; turn < STORE_PRUNE_TURNS; turn++)
		assert_int_equal(store_prune(s, turn, now), 0);
	assert_int_equal(store_commit(s), 0);
}

static void ages(void **ctx)
{
	const double day = 86400, now = 1000 * day;
	struct store *s = store_of(STORE_WRITE);
	struct anomaly a;

	(void)ctx;
	assert_int_equal(store_begin(s), 0);
	store_put_state(s, "client_ip", "old", "x", 1, now - (STATE_DAYS + 1) * day);
	store_put_state(s, "client_ip", "fresh", "x", 1, now - (STATE_DAYS - 1) * day);
	assert_int_equal(store_commit(s), 0);
	a = event_of("old", EVENT_CLOSE, now - (INCIDENTS_DAYS + 1) * day);
	event_put(s, &a);
	a = event_of("old-open", EVENT_OPEN, now - (INCIDENTS_DAYS + 1) * day);
	event_put(s, &a);
	a = event_of("old-labelled", EVENT_CLOSE, now - (INCIDENTS_DAYS + 1) * day);
	event_put(s, &a);
	label_put(s, "old-labelled", true, "", 0);
	a = event_of("fresh", EVENT_CLOSE, now - day);
	event_put(s, &a);
	assert_int_equal(store_begin(s), 0);
	for (int d = 0; d < 800; d++) {
		struct store_sum sum = { .hour = (int64_t)(now / 3600) - 24 * d, .kind = ENTITY_GLOBAL, .value = "", .requests = 1 };

		assert_int_equal(store_add_sum(s, &sum), 0);
	}
	assert_int_equal(store_commit(s), 0);
	prune(s, now);
	assert_int_equal(raw_number("SELECT count(*) FROM state"), 1);
	assert_int_equal(raw_number("SELECT count(*) FROM incidents"), 3);
	assert_int_equal(raw_number("SELECT count(*) FROM incidents WHERE id = 'old'"), 0);
	assert_int_equal(raw_number("SELECT count(*) FROM events"), 1); /* the fresh one's */
	assert_int_equal(raw_number("SELECT count(*) FROM rollups"), SUMS_DAYS + 1);
	store_close(s, true);
}

static void rows_are_bounded(void **ctx)
{
	struct store *s = store_of(STORE_WRITE);
	char sql[512];

	(void)ctx;
	snprintf(sql, sizeof(sql),
		 "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < %d)"
		 " INSERT INTO events(at, incident, event) SELECT i, 'x', '{}' FROM c", EVENTS_ROWS_MAX + 500);
	raw(sql);
	snprintf(sql, sizeof(sql),
		 "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < %d)"
		 " INSERT INTO rollups SELECT i / 1000, CASE i %% 1000 WHEN 0 THEN 'global' ELSE 'client_ip' END, i, 1, 1, 1, 0 FROM c", SUMS_ROWS_MAX + 5000);
	raw(sql);
	snprintf(sql, sizeof(sql),
		 "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < %d)"
		 " INSERT INTO state(kind, name, blob, updated) SELECT 'client_ip', i, x'00', i FROM c", STATE_ROWS_MAX + 100);
	raw(sql);
	prune(s, 0);
	assert_int_equal(raw_number("SELECT count(*) FROM events"), EVENTS_ROWS_MAX);
	assert_int_equal(raw_number("SELECT min(n) FROM events"), 501);
	assert_in_range(raw_number("SELECT count(*) FROM rollups"), SUMS_ROWS_MAX - 2000, SUMS_ROWS_MAX);
	/* the total is kept where the clients' own sums went */
	assert_int_equal(raw_number("SELECT count(*) FROM rollups WHERE scope_kind = 'global'"), (SUMS_ROWS_MAX + 5000) / 1000);
	assert_int_equal(raw_number("SELECT count(*) FROM state"), STATE_ROWS_MAX);
	assert_int_equal(raw_number("SELECT min(updated) FROM state"), 101);
	store_close(s, true);
}

/* ---- older and newer ones ---------------------------------------------------------------------------------- */
/* As version 1 wrote it, word for word. */
static const char version1[] =
	"PRAGMA journal_mode = WAL; PRAGMA application_id = 2003134834; PRAGMA user_version = 1;"
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
	" PRIMARY KEY(hour, scope_kind, scope_value)) STRICT, WITHOUT ROWID;"
	"INSERT INTO state VALUES('client_ip', '192.0.2.1', x'0102', 7);"
	"INSERT INTO incidents VALUES('i1', 'flood', 1, 'client_ip', '203.0.113.9', 1000, 1010, NULL, 7.5, 0.5, 'much',"
	" '{\"id\":\"i1\",\"evidence\":[{\"feature\":\"a\",\"observed\":1,\"expected\":2,\"sigma\":3},{\"feature\":\"share\"}]}', 1010, 1010, NULL, 1010, 1);"
	"INSERT INTO labels VALUES(1, 'i1', 0, 'old', 'bob', 9, 'flood', 'client_ip', '203.0.113.9', 1000, NULL, 7.5,"
	" '{\"evidence\":[{\"feature\":\"a\"},{\"feature\":\"share\"}]}');"
	"INSERT INTO rollups VALUES(1, 'global', '', 5, 6, 7, 0);";

static void version_1_moves_up(void **ctx)
{
	struct seen seen = { 0 };
	struct store_incident in;
	char why[STORE_WHY], said[256] = "";
	struct store *s;

	(void)ctx;
	raw(version1);
	chmod(path_of(STORE_FILE), 0600);
	/* A command leaves that to the agent: the one that runs may be the old one. */
	assert_int_equal(refused(STORE_LABEL, why), -EOPNOTSUPP);
	assert_int_equal(refused(STORE_READ, why), -EOPNOTSUPP);
	assert_int_equal(raw_number("PRAGMA user_version"), 1);
	s = store_of(STORE_WRITE);
	assert_int_equal(raw_number("PRAGMA user_version"), 2);
	assert_int_equal(store_each_state(s, on_state, &seen), 0);
	assert_string_equal(seen.names, "client_ip/192.0.2.1 ");
	assert_int_equal(seen.damaged, 0); /* version 1 had no checksums */
	in = incident_of(s, "i1");
	assert_true(in.labelled && !in.true_positive);
	assert_int_equal(in.suppressed, 0);
	store_incident_done(&in);
	assert_int_equal(store_each_label(s, 0, on_label, said), 0);
	assert_string_equal(said, "1:i1=0(old,bob) ");
	assert_int_equal(store_begin(s), 0);
	assert_int_equal(store_set_suppressed(s, "i1", 2), 0);
	assert_int_equal(store_put_state(s, "client_ip", "192.0.2.1", "xy", 2, 8), 0);
	assert_int_equal(store_commit(s), 0);
	assert_int_equal(raw_number("SELECT count(*) FROM state WHERE sum IS NOT NULL"), 1);
	store_close(s, true);
	store_close(store_of(STORE_LABEL), false);
	assert_false(there(STORE_FILE ".damaged-1"));
}

/* A migration that fails half-way leaves version 1 as it was. */
static void migration_is_whole_or_not(void **ctx)
{
	char why[STORE_WHY];

	(void)ctx;
	raw(version1);
	raw("ALTER TABLE labels ADD COLUMN suppressed INTEGER NOT NULL DEFAULT 0"); /* the second step stumbles over this */
	store_close(store_of(STORE_WRITE), false);
	/* What cannot become ours is set aside whole. */
	assert_true(there(STORE_FILE ".damaged-1"));
	assert_int_equal(rename(path_of(STORE_FILE ".damaged-1"), "/dev/null/x"), -1);
	unlink(path_of(STORE_FILE));
	unlink(path_of(STORE_FILE "-wal"));
	unlink(path_of(STORE_FILE "-shm"));
	snprintf(why, sizeof(why), "%s", path_of(STORE_FILE ".damaged-1"));
	assert_int_equal(rename(why, path_of(STORE_FILE)), 0);
	assert_int_equal(raw_number("PRAGMA user_version"), 1);
	assert_int_equal(raw_number("SELECT count(*) FROM pragma_table_info('state') WHERE name = 'sum'"), 0);
}

static void left_untouched(const char *sql, int expected)
{
	size_t n, n2, w, w2;
	char *before, *after, *log, *log2, why[STORE_WHY];
	sqlite3 *db;

	/* Half of it in the log, as after a crash. */
	assert_int_equal(sqlite3_open(path_of(STORE_FILE), &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "PRAGMA journal_mode = WAL", NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	before = bytes_of(STORE_FILE, &n);
	log = bytes_of(STORE_FILE "-wal", &w);
	sqlite3_close(db);
	bytes_put(STORE_FILE, before, n);
	bytes_put(STORE_FILE "-wal", log, w);
	assert_int_equal(refused(STORE_WRITE, why), expected);
	assert_int_equal(refused(STORE_READ, why), expected);
	assert_int_equal(refused(STORE_LABEL, why), expected);
	after = bytes_of(STORE_FILE, &n2);
	log2 = bytes_of(STORE_FILE "-wal", &w2);
	assert_int_equal(n, n2);
	assert_int_equal(w, w2);
	assert_memory_equal(before, after, n);
	assert_memory_equal(log, log2, w);
	assert_false(there(STORE_FILE ".damaged-1"));
	free(before);
	free(after);
	free(log);
	free(log2);
}

static void newer_is_left_alone(void **ctx)
{
	(void)ctx;
	left_untouched("PRAGMA application_id = 2003134834; CREATE TABLE state(all_new); PRAGMA user_version = 3", -EOPNOTSUPP);
}

static void foreign_is_left_alone(void **ctx)
{
	(void)ctx;
	left_untouched("CREATE TABLE cookies(host, value)", -EEXIST);
}

/* ---- damage ------------------------------------------------------------------------------------------------ */
static void set_aside(const char *bytes, size_t n)
{
	char why[STORE_WHY], *after;
	struct store *s = NULL;
	size_t n2;

	bytes_put(STORE_FILE, bytes, n);
	assert_int_equal(store_open(dir, STORE_WRITE, 100, why, &s), 0);
	assert_non_null(strstr(why, "set aside as weir.db.damaged-1"));
	after = bytes_of(STORE_FILE ".damaged-1", &n2);
	assert_int_equal(n, n2);
	assert_memory_equal(bytes, after, n);
	free(after);
	assert_int_equal(store_begin(s), 0);
	assert_int_equal(store_set_meta(s, "works", 1), 0);
	assert_int_equal(store_commit(s), 0);
	store_close(s, true);
}

static void no_database(void **ctx)
{
	char text[9000], why[STORE_WHY];

	(void)ctx;
	memset(text, 'x', sizeof(text));
	bytes_put(STORE_FILE, text, sizeof(text));
	assert_int_equal(refused(STORE_READ, why), -EBADMSG);
	assert_int_equal(refused(STORE_LABEL, why), -EBADMSG);
	assert_false(there(STORE_FILE ".damaged-1"));
	set_aside(text, sizeof(text));
}

static void broken_page(void **ctx)
{
	struct store *s = store_of(STORE_WRITE);
	char *p;
	size_t n;

	(void)ctx;
	assert_int_equal(store_begin(s), 0);
	for (int i = 0; i < 500; i++) {
		char name[16];

		snprintf(name, sizeof(name), "%d", i);
		assert_int_equal(store_put_state(s, "client_ip", name, dir, sizeof(dir), 1), 0);
	}
	assert_int_equal(store_commit(s), 0);
	store_close(s, true);
	p = bytes_of(STORE_FILE, &n);
	memset(p + n - 3 * 4096, 0xff, 2 * 4096);
	set_aside(p, n);
	free(p);
}

/* Somebody wrote a trigger into the file: it is not run. */
static void no_foreign_program_runs(void **ctx)
{
	struct store *s = store_of(STORE_WRITE);
	char *p;
	size_t n;

	(void)ctx;
	store_close(s, true);
	raw("CREATE TRIGGER t AFTER INSERT ON meta BEGIN DELETE FROM labels; END; PRAGMA wal_checkpoint(TRUNCATE)");
	p = bytes_of(STORE_FILE, &n);
	set_aside(p, n);
	free(p);
}

static void a_log_without_its_file(void **ctx)
{
	struct store *s = store_of(STORE_WRITE);
	size_t n, n2;
	char *log, *after;

	(void)ctx;
	log = bytes_of(STORE_FILE "-wal", &n);
	assert_true(n > 0);
	store_close(s, false);
	unlink(path_of(STORE_FILE));
	bytes_put(STORE_FILE "-wal", log, n);
	store_close(store_of(STORE_WRITE), true);
	after = bytes_of(STORE_FILE ".damaged-1-wal", &n2);
	assert_int_equal(n, n2);
	assert_memory_equal(log, after, n);
	free(log);
	free(after);
}

static void damage_again_and_again(void **ctx)
{
	char why[STORE_WHY], name[64];

	(void)ctx;
	for (int i = 1; i <= STORE_DAMAGED_MAX; i++) {
		bytes_put(STORE_FILE, "no database, but long enough to be looked at", 44);
		store_close(store_of(STORE_WRITE), true);
		snprintf(name, sizeof(name), STORE_FILE ".damaged-%d", i);
		assert_true(there(name));
	}
	bytes_put(STORE_FILE, "no database, but long enough to be looked at", 44);
	assert_int_equal(refused(STORE_WRITE, why), -EBADMSG);
	assert_non_null(strstr(why, "look at the disk"));
}

/* ---- others, and a world that says no ----------------------------------------------------------------------- */
static void busy(void **ctx)
{
	struct store *s = store_of(STORE_WRITE);
	sqlite3 *db = NULL;

	(void)ctx;
	assert_int_equal(sqlite3_open(path_of(STORE_FILE), &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(store_begin(s), -EBUSY);
	store_rollback(s);
	assert_int_equal(sqlite3_exec(db, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(store_begin(s), 0);
	assert_int_equal(store_commit(s), 0);
	sqlite3_close(db);
	store_close(s, true);
}

static void no_room(void **ctx)
{
	struct rlimit old, small = { 300000, 300000 };
	struct store *s = store_of(STORE_WRITE);
	static char blob[100000];
	int r = 0;

	(void)ctx;
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	signal(SIGXFSZ, SIG_IGN);
	small.rlim_max = old.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	assert_int_equal(store_begin(s), 0);
	for (int i = 0; i < 50 && r == 0; i++) {
		char name[16];

		snprintf(name, sizeof(name), "%d", i);
		r = store_put_state(s, "x", name, blob, sizeof(blob), 1);
	}
	if (r == 0)
		r = store_commit(s);
	store_rollback(s);
	setrlimit(RLIMIT_FSIZE, &old);
	assert_int_equal(r, -ENOSPC);
	assert_int_equal(store_begin(s), 0);
	assert_int_equal(store_set_meta(s, "room", 1), 0);
	assert_int_equal(store_commit(s), 0);
	assert_int_equal(raw_number("SELECT count(*) FROM state"), 0);
	store_close(s, true);
	store_close(store_of(STORE_WRITE), true);
	assert_false(there(STORE_FILE ".damaged-1"));
}

static void removed(void **ctx)
{
	struct store *s = store_of(STORE_WRITE);

	(void)ctx;
	assert_false(store_removed(s));
	unlink(path_of(STORE_FILE));
	assert_true(store_removed(s));
	store_close(s, false);
}

/* In another process: as nobody, in a folder that is not nobody's. */
static int as_nobody(enum store_mode mode)
{
	char why[STORE_WHY];
	struct store *s = NULL;
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		struct anomaly a = event_of("i1", EVENT_OPEN, 1);
		struct store_incident in;

		if (setgid(65534) < 0 || setuid(65534) < 0)
			_exit(100);
		if (store_open(dir, mode, 100, why, &s) < 0)
			_exit(1);
		if (store_get_incident(s, "i1", &in) < 0)
			_exit(2);
		if (mode != STORE_READ && (store_begin(s) < 0 || store_put_event(s, &a) < 0 || store_commit(s) < 0))
			_exit(3);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void rights(void **ctx)
{
	struct store *s;
	struct anomaly a = event_of("i1", EVENT_OPEN, 1010);

	(void)ctx;
	if (geteuid() != 0) {
		print_message("SKIP rights: needs root to become nobody\n");
		skip();
	}
	s = store_of(STORE_WRITE);
	event_put(s, &a);
	store_close(s, true);
	assert_int_equal(as_nobody(STORE_READ), 1);
	assert_int_equal(as_nobody(STORE_WRITE), 1);
	/* Readable, but nothing may be written: no place for the log's index. */
	chmod(dir, 0755);
	chmod(path_of(STORE_FILE), 0644);
	unlink(path_of(STORE_FILE "-wal"));
	unlink(path_of(STORE_FILE "-shm"));
	assert_int_equal(as_nobody(STORE_READ), 0);
	assert_int_equal(as_nobody(STORE_LABEL), 1);
	assert_int_equal(as_nobody(STORE_WRITE), 1);
}

/* What the agent does: opens as root, goes on as nobody who may not open any file of it. */
static void rights_dropped_after_opening(void **ctx)
{
	struct anomaly a = event_of("i1", EVENT_OPEN, 1010);
	static char blob[4000];
	int status;
	pid_t pid;

	(void)ctx;
	if (geteuid() != 0) {
		print_message("SKIP rights_dropped_after_opening: needs root to become nobody\n");
		skip();
	}
	pid = fork();
	if (pid == 0) {
		struct store *s = store_of(STORE_WRITE);
		char name[16];

		if (setgid(65534) < 0 || setuid(65534) < 0)
			_exit(100);
		for (int round = 0; round < STORE_PRUNE_TURNS; round++) {
			if (store_begin(s) < 0)
				_exit(1);
			for (int i = 0; i < 1000; i++) { /* 4 MB: beyond the cache, and several pieces of the log's index */
				snprintf(name, sizeof(name), "%d", i);
				if (store_put_state(s, "client_ip", name, blob, sizeof(blob), round) < 0)
					_exit(2);
			}
			if (store_put_event(s, &a) < 0 || store_prune(s, (unsigned int)round, 1e9) < 0)
				_exit(3);
			if (store_commit(s) < 0)
				_exit(4);
			if (store_checkpoint(s) < 0)
				_exit(5);
		}
		store_close(s, true);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_int_equal(raw_number("SELECT count(*) FROM incidents"), 1);
	store_close(store_of(STORE_WRITE), true);
	assert_false(there(STORE_FILE ".damaged-1"));
}

/* A reader that never ends must not let the log grow for ever. */
static void a_reader_that_stays(void **ctx)
{
	struct store *s = store_of(STORE_WRITE);
	static char blob[1 << 20];
	sqlite3 *db = NULL;
	int rounds = 0;

	(void)ctx;
	assert_int_equal(sqlite3_open(path_of(STORE_FILE), &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "BEGIN; SELECT count(*) FROM state", NULL, NULL, NULL), SQLITE_OK);
	while (!store_wal_full(s) && rounds++ < 200) {
		memset(blob, rounds, sizeof(blob)); /* pages that do not change are not written */
		assert_int_equal(store_begin(s), 0);
		assert_int_equal(store_put_state(s, "forest", "f", blob, sizeof(blob), rounds), 0);
		assert_int_equal(store_commit(s), 0);
		store_checkpoint(s);
	}
	assert_in_range(rounds, 30, 70); /* 64 MiB; a part of the pages is written twice */
	assert_int_equal(sqlite3_exec(db, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
	assert_int_equal(store_checkpoint(s), 0);
	assert_false(store_wal_full(s));
	assert_int_equal(store_begin(s), 0);
	assert_int_equal(store_put_state(s, "forest", "f", blob, sizeof(blob), 0), 0);
	assert_int_equal(store_commit(s), 0);
	assert_true(store_wal_bytes(s) < STORE_WAL_MAX / 8);
	store_close(s, true);
}

#define IN_DIR(test) cmocka_unit_test_setup_teardown(test, dir_make, dir_remove)

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_DIR(private_files), IN_DIR(one_writer), IN_DIR(readers_cannot_write), IN_DIR(state_comes_back), IN_DIR(incidents_live), IN_DIR(filters),
		IN_DIR(many_incidents), IN_DIR(labels_in_order), IN_DIR(labels_have_a_ceiling), IN_DIR(ages), IN_DIR(rows_are_bounded), IN_DIR(version_1_moves_up),
		IN_DIR(migration_is_whole_or_not), IN_DIR(newer_is_left_alone), IN_DIR(foreign_is_left_alone), IN_DIR(no_database), IN_DIR(broken_page),
		IN_DIR(no_foreign_program_runs), IN_DIR(a_log_without_its_file), IN_DIR(damage_again_and_again), IN_DIR(busy), IN_DIR(no_room), IN_DIR(removed),
		IN_DIR(rights), IN_DIR(rights_dropped_after_opening), IN_DIR(a_reader_that_stays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
