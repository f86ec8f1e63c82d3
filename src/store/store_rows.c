/* Rows in, rows out. Texts that come out are cut at their ceilings, names that are not known become what they can. */
#include "store/store_internal.h"

#include <math.h>
#include <zlib.h>

_Static_assert(QUERY_COUNT - Q_PRUNE_FIRST == STORE_PRUNE_TURNS, "each ceiling has its turn");

/* ---- values ------------------------------------------------------------------------------------------- */
void store_bind_text(sqlite3_stmt *q, int at, const char *text)
{
	/* The caller's memory stays as it is until the statement has run. */
	sqlite3_bind_text(q, at, text ? text : "", -1, SQLITE_STATIC);
}

void store_bind_real(sqlite3_stmt *q, int at, double v)
{
	sqlite3_bind_double(q, at, isfinite(v) ? v : 0);
}

static void bind_real_or_null(sqlite3_stmt *q, int at, double v)
{
	if (v >= 0)
		store_bind_real(q, at, v);
	else
		sqlite3_bind_null(q, at);
}

void store_bind_count(sqlite3_stmt *q, int at, uint64_t v)
{
	sqlite3_bind_int64(q, at, (int64_t)MIN(v, (uint64_t)INT64_MAX));
}

void store_text(sqlite3_stmt *q, int column, char *into, size_t n)
{
	const unsigned char *p = sqlite3_column_text(q, column);

	snprintf(into, n, "%s", p ? (const char *)p : "");
}

double store_real(sqlite3_stmt *q, int column, double absent)
{
	double v = sqlite3_column_type(q, column) == SQLITE_NULL ? absent : sqlite3_column_double(q, column);

	return isfinite(v) ? v : absent;
}

uint64_t store_count(sqlite3_stmt *q, int column)
{
	int64_t v = sqlite3_column_int64(q, column);

	return v > 0 ? (uint64_t)v : 0;
}

static struct span column_span(sqlite3_stmt *q, int column)
{
	const char *p = (const char *)sqlite3_column_text(q, column);

	return (struct span){ p ? p : "", p ? (size_t)sqlite3_column_bytes(q, column) : 0 };
}

static enum anomaly_class column_class(sqlite3_stmt *q, int column)
{
	enum anomaly_class c = anomaly_class_of_name(column_span(q, column));

	return c == CLASS_COUNT ? CLASS_UNKNOWN : c;
}

static enum entity_kind column_kind(sqlite3_stmt *q, int column)
{
	struct span name = column_span(q, column);

	for (int k = 0; k < ENTITY_KIND_COUNT; k++)
		if (span_eq(name, span_of(entity_kind_name((enum entity_kind)k))))
			return (enum entity_kind)k;
	return ENTITY_GLOBAL;
}

static int failed_step(struct store *s, int code)
{
	return code == SQLITE_DONE ? 0 : store_failed(s, s->db, sqlite3_extended_errcode(s->db));
}

/* ---- what the engine learnt ---------------------------------------------------------------------------- */
static uint32_t sum_of(const char *kind, const char *name, const void *blob, size_t n)
{
	uLong c = crc32(0, (const Bytef *)kind, (uInt)strlen(kind) + 1);

	c = crc32(c, (const Bytef *)name, (uInt)strlen(name) + 1);
	return (uint32_t)crc32(c, blob, (uInt)n);
}

int store_put_state(struct store *s, const char *kind, const char *name, const void *blob, size_t n, double now)
{
	sqlite3_stmt *q = store_query(s, Q_STATE_PUT);

	if (n > STATE_BLOB_MAX)
		return -EINVAL;
	if (!q)
		return store_run(s, q);
	store_bind_text(q, 1, kind);
	store_bind_text(q, 2, name);
	sqlite3_bind_blob(q, 3, n ? blob : "", (int)n, SQLITE_STATIC);
	store_bind_real(q, 4, now);
	sqlite3_bind_int64(q, 5, sum_of(kind, name, n ? blob : "", n));
	return store_run(s, q);
}

int store_drop_state(struct store *s, const char *kind, const char *name)
{
	sqlite3_stmt *q = store_query(s, Q_STATE_DROP);

	if (q) {
		store_bind_text(q, 1, kind);
		store_bind_text(q, 2, name);
	}
	return store_run(s, q);
}

/* Sorting rows by their numbers keeps the blobs out of the sorter. */
static int state_rows(struct store *s, int64_t **ret, size_t *ret_n)
{
	CLEANUP(freep) int64_t *rows = NULL;
	sqlite3_stmt *q = store_query(s, Q_STATE_ROWS);
	size_t n = 0, cap = 0;
	int code, r;

	if (!q)
		return store_run(s, q);
	while ((code = sqlite3_step(q)) == SQLITE_ROW) {
		if (n == cap) {
			size_t more = cap ? cap * 2 : 1024;
			int64_t *p = realloc(rows, more * sizeof(*p));

			if (!p) {
				sqlite3_reset(q);
				return -ENOMEM;
			}
			rows = p;
			cap = more;
		}
		rows[n++] = sqlite3_column_int64(q, 0);
	}
	r = failed_step(s, code);
	sqlite3_reset(q);
	if (r == 0) {
		*ret = TAKE_PTR(rows);
		*ret_n = n;
	}
	return r;
}

int store_each_state(struct store *s, int (*fn)(void *ctx, const struct store_state *st), void *ctx)
{
	CLEANUP(freep) int64_t *rows = NULL;
	size_t n = 0;
	int r = state_rows(s, &rows, &n);

	for (size_t i = 0; i < n && r == 0; i++) {
		sqlite3_stmt *q = store_query(s, Q_STATE_GET);
		struct store_state st;
		int code;

		if (!q)
			return store_run(s, q);
		sqlite3_bind_int64(q, 1, rows[i]);
		code = sqlite3_step(q);
		if (code != SQLITE_ROW) {
			r = failed_step(s, code);
			sqlite3_reset(q);
			continue;
		}
		st.kind = (const char *)sqlite3_column_text(q, 0);
		st.name = (const char *)sqlite3_column_text(q, 1);
		st.blob = sqlite3_column_blob(q, 2);
		st.n = (size_t)sqlite3_column_bytes(q, 2);
		st.updated = store_real(q, 3, 0);
		if (!st.blob)
			st.blob = "";
		st.damaged = !st.kind || !st.name ||
			     (sqlite3_column_type(q, 4) != SQLITE_NULL && sqlite3_column_int64(q, 4) != sum_of(st.kind, st.name, st.blob, st.n));
		st.kind = st.kind ? st.kind : "";
		st.name = st.name ? st.name : "";
		r = fn(ctx, &st);
		sqlite3_reset(q);
	}
	return r;
}

int store_set_meta(struct store *s, const char *key, double value)
{
	sqlite3_stmt *q = store_query(s, Q_META_PUT);

	if (q) {
		store_bind_text(q, 1, key);
		store_bind_real(q, 2, value);
	}
	return store_run(s, q);
}

double store_meta(struct store *s, const char *key, double absent)
{
	sqlite3_stmt *q = store_query(s, Q_META_GET);
	double v = absent;

	if (!q)
		return absent;
	store_bind_text(q, 1, key);
	if (sqlite3_step(q) == SQLITE_ROW)
		v = store_real(q, 0, absent);
	sqlite3_reset(q);
	return v;
}

/* ---- incidents and events ------------------------------------------------------------------------------- */
static int put_incident(struct store *s, const struct anomaly *a, const char *event)
{
	sqlite3_stmt *q = store_query(s, Q_INCIDENT_PUT);

	if (!q)
		return store_run(s, q);
	store_bind_text(q, 1, a->id);
	store_bind_text(q, 2, anomaly_class_name(a->cls));
	sqlite3_bind_int(q, 3, (int)a->severity);
	store_bind_text(q, 4, entity_kind_name(a->scope_kind));
	store_bind_text(q, 5, a->scope_value);
	store_bind_real(q, 6, a->start);
	store_bind_real(q, 7, a->detected);
	bind_real_or_null(q, 8, a->end);
	store_bind_real(q, 9, a->score);
	store_bind_real(q, 10, a->confidence);
	store_bind_text(q, 11, a->summary);
	store_bind_text(q, 12, event);
	store_bind_real(q, 13, a->detected);
	bind_real_or_null(q, 14, a->event == EVENT_CLOSE ? MAX(a->detected, 0) : -1);
	sqlite3_bind_int(q, 15, a->event == EVENT_OPEN);
	return store_run(s, q);
}

int store_put_event(struct store *s, const struct anomaly *a)
{
	struct str line = { 0 };
	sqlite3_stmt *q;
	int r;

	anomaly_write_json(&line, a);
	r = str_error(&line);
	if (r < 0) {
		str_done(&line);
		return r;
	}
	line.p[line.n - 1] = '\0'; /* the newline */
	r = put_incident(s, a, line.p);
	q = r == 0 ? store_query(s, Q_EVENT_PUT) : NULL;
	if (q) {
		store_bind_real(q, 1, a->detected);
		store_bind_text(q, 2, a->id);
		store_bind_text(q, 3, line.p);
	}
	if (r == 0)
		r = store_run(s, q);
	str_done(&line);
	return r;
}

int store_touch_open(struct store *s, double now)
{
	sqlite3_stmt *q = store_query(s, Q_INCIDENT_SEEN);

	if (q)
		store_bind_real(q, 1, now);
	return store_run(s, q);
}

void store_incident_done(struct store_incident *in)
{
	free(in->event);
	in->event = NULL;
}

static int incident_read(sqlite3_stmt *q, struct store_incident *in)
{
	struct span event = column_span(q, 11);
	int severity = sqlite3_column_int(q, 2);

	*in = (struct store_incident){ 0 };
	store_text(q, 0, in->id, sizeof(in->id));
	in->cls = column_class(q, 1);
	in->severity = severity < SEVERITY_INFO || severity > SEVERITY_CRITICAL ? SEVERITY_WARNING : (enum anomaly_severity)severity;
	in->scope_kind = column_kind(q, 3);
	store_text(q, 4, in->scope_value, sizeof(in->scope_value));
	in->start = store_real(q, 5, 0);
	in->detected = store_real(q, 6, 0);
	in->end = store_real(q, 7, -1);
	in->score = store_real(q, 8, 0);
	in->confidence = store_real(q, 9, 0);
	store_text(q, 10, in->summary, sizeof(in->summary));
	in->opened = store_real(q, 12, 0);
	in->updated = store_real(q, 13, 0);
	in->closed = store_real(q, 14, -1);
	in->seen = store_real(q, 15, 0);
	in->opens = store_count(q, 16);
	in->labelled = sqlite3_column_type(q, 17) != SQLITE_NULL;
	in->true_positive = sqlite3_column_int(q, 17) != 0;
	in->label_at = store_real(q, 18, 0);
	store_text(q, 19, in->note, sizeof(in->note));
	store_text(q, 20, in->by, sizeof(in->by));
	in->suppressed = store_count(q, 21);
	in->event = malloc(event.n + 1);
	if (!in->event)
		return -ENOMEM;
	memcpy(in->event, event.p, event.n);
	in->event[event.n] = '\0';
	return 0;
}

#define PIECE 64 /* as in Q_INCIDENT_EACH */

static int incidents_read(struct store *s, const struct store_filter *f, double opened, const char *id, struct store_incident *into, size_t *ret_n)
{
	sqlite3_stmt *q = store_query(s, Q_INCIDENT_EACH);
	int code, r = 0;
	size_t n = 0;

	*ret_n = 0;
	if (!q)
		return store_run(s, q);
	store_bind_real(q, 1, opened);
	store_bind_text(q, 2, id);
	if (f->cls != CLASS_COUNT)
		store_bind_text(q, 3, anomaly_class_name(f->cls));
	sqlite3_bind_int(q, 4, (int)f->severity);
	sqlite3_bind_int(q, 5, f->open);
	if (f->since_given)
		store_bind_real(q, 6, f->since);
	if (f->scope_kind >= 0)
		store_bind_text(q, 7, entity_kind_name((enum entity_kind)f->scope_kind));
	if (f->scope_value)
		store_bind_text(q, 8, f->scope_value);
	while (r == 0 && n < PIECE && (code = sqlite3_step(q)) == SQLITE_ROW)
		r = incident_read(q, &into[n++]);
	if (r == 0 && n < PIECE)
		r = failed_step(s, code);
	sqlite3_reset(q);
	*ret_n = n;
	return r;
}

int store_each_incident(struct store *s, const struct store_filter *f, int (*fn)(void *ctx, const struct store_incident *in), void *ctx)
{
	CLEANUP(freep) struct store_incident *piece = calloc(PIECE, sizeof(*piece));
	char id[STORE_ID] = "";
	double opened = -1e300;
	size_t n = PIECE;
	int r = piece ? 0 : -ENOMEM;

	while (r == 0 && n == PIECE) {
		r = incidents_read(s, f, opened, id, piece, &n);
		for (size_t i = 0; i < n; i++) {
			if (r == 0)
				r = fn(ctx, &piece[i]);
			store_incident_done(&piece[i]);
		}
		if (n) {
			opened = piece[n - 1].opened;
			snprintf(id, sizeof(id), "%s", piece[n - 1].id);
		}
	}
	return r;
}

int store_get_incident(struct store *s, const char *id, struct store_incident *ret)
{
	sqlite3_stmt *q = store_query(s, Q_INCIDENT_GET);
	int code, r;

	if (!q)
		return store_run(s, q);
	store_bind_text(q, 1, id);
	code = sqlite3_step(q);
	r = code == SQLITE_ROW ? incident_read(q, ret) : code == SQLITE_DONE ? -ENOENT : failed_step(s, code);
	sqlite3_reset(q);
	return r;
}

void store_read_evidence(struct store *s, const char *event, struct store_evidence *ret)
{
	sqlite3_stmt *q = store_query(s, Q_EVIDENCE);
	size_t n = 0;

	*ret = (struct store_evidence){ 0 };
	if (q)
		store_bind_text(q, 1, event);
	while (q && n < ANOMALY_EVIDENCE_MAX && sqlite3_step(q) == SQLITE_ROW) {
		store_text(q, 0, ret->feature[n], STORE_FEATURE);
		ret->v[n] = (struct anomaly_evidence){ ret->feature[n], store_real(q, 1, 0), store_real(q, 2, 0), store_real(q, 3, 0) };
		n++;
	}
	ret->n = n;
	sqlite3_reset(q);
	q = store_query(s, Q_TOP);
	n = 0;
	if (q)
		store_bind_text(q, 1, event);
	while (q && n < ANOMALY_TOP_MAX && sqlite3_step(q) == SQLITE_ROW) {
		store_text(q, 1, ret->value[n], STORE_TEXT);
		ret->top[n] = (struct anomaly_contributor){ column_kind(q, 0), ret->value[n], store_real(q, 2, 0) };
		n++;
	}
	ret->top_count = n;
	sqlite3_reset(q);
}

/* ---- labels ---------------------------------------------------------------------------------------------- */
int store_put_label(struct store *s, const char *id, bool true_positive, const char *note, const char *by, double at)
{
	sqlite3_stmt *q = store_query(s, Q_LABEL_COUNT);
	uint64_t labels = 0;
	int r;

	if (!q)
		return store_run(s, q);
	if (sqlite3_step(q) == SQLITE_ROW)
		labels = store_count(q, 0);
	sqlite3_reset(q);
	if (labels >= LABELS_MAX)
		return -EDQUOT;
	q = store_query(s, Q_LABEL_PUT);
	if (!q)
		return store_run(s, q);
	store_bind_text(q, 1, id);
	sqlite3_bind_int(q, 2, true_positive);
	store_bind_text(q, 3, note);
	store_bind_text(q, 4, by);
	store_bind_real(q, 5, at);
	r = store_run(s, q);
	if (r == 0 && sqlite3_changes(s->db) == 0)
		r = -ENOENT;
	return r;
}

int store_each_label(struct store *s, int64_t after, int (*fn)(void *ctx, const struct store_label *l), void *ctx)
{
	CLEANUP(freep) struct store_label *l = malloc(sizeof(*l));
	sqlite3_stmt *q = store_query(s, Q_LABEL_EACH);
	int code = SQLITE_DONE, r = 0;

	if (!q)
		return store_run(s, q);
	if (!l)
		return -ENOMEM;
	sqlite3_bind_int64(q, 1, after);
	while (r == 0 && (code = sqlite3_step(q)) == SQLITE_ROW) {
		l->n = sqlite3_column_int64(q, 0);
		store_text(q, 1, l->id, sizeof(l->id));
		l->true_positive = sqlite3_column_int(q, 2) != 0;
		store_text(q, 3, l->note, sizeof(l->note));
		store_text(q, 4, l->by, sizeof(l->by));
		l->at = store_real(q, 5, 0);
		l->cls = column_class(q, 6);
		l->scope_kind = column_kind(q, 7);
		store_text(q, 8, l->scope_value, sizeof(l->scope_value));
		l->start = store_real(q, 9, 0);
		l->end = store_real(q, 10, -1);
		l->score = store_real(q, 11, 0);
		l->suppressed = store_count(q, 13);
		store_read_evidence(s, (const char *)sqlite3_column_text(q, 12), &l->evidence);
		r = fn(ctx, l);
	}
	if (r == 0)
		r = failed_step(s, code);
	sqlite3_reset(q);
	return r;
}

int store_set_suppressed(struct store *s, const char *id, uint64_t count)
{
	sqlite3_stmt *q = store_query(s, Q_LABEL_SUPPRESSED);

	if (q) {
		store_bind_text(q, 1, id);
		store_bind_count(q, 2, count);
	}
	return store_run(s, q);
}

/* ---- hourly sums ----------------------------------------------------------------------------------------- */
int store_add_sum(struct store *s, const struct store_sum *sum)
{
	sqlite3_stmt *q = store_query(s, Q_SUM_ADD);

	if (q) {
		sqlite3_bind_int64(q, 1, sum->hour);
		store_bind_text(q, 2, entity_kind_name(sum->kind));
		store_bind_text(q, 3, sum->value);
		store_bind_count(q, 4, sum->requests);
		store_bind_count(q, 5, sum->prompt_tokens);
		store_bind_count(q, 6, sum->completion_tokens);
		store_bind_count(q, 7, sum->errors);
	}
	return store_run(s, q);
}

int store_prune(struct store *s, unsigned int turn, double now)
{
	sqlite3_stmt *q = store_query(s, (enum query)(Q_PRUNE_FIRST + turn % STORE_PRUNE_TURNS));

	if (q && sqlite3_bind_parameter_count(q))
		store_bind_real(q, 1, now);
	return store_run(s, q);
}
