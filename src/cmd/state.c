#include "cmd/state.h"

#include "base/log.h"
#include "cmd/state_copy.h"
#include "store/store.h"
#include "store/sums.h"

#include <time.h>

#define PAUSE 1 /* what on_item() ends an export with that is long enough */
#define BUSY_MS 50	      /* the loop that drains the ring waits no longer for another process */
#define BUSY_REPLAY_MS 10000
#define BUSY_PATIENCE_S 30    /* of a store that is always busy, before it is said */
#define CLOSES_MAX 256	      /* told one by one after a restart; an engine has 64 open at most */

/* An event that waits, with its texts. */
struct kept {
	struct anomaly a;
	char id[STORE_ID], scope[STORE_TEXT], summary[STORE_SUMMARY];
	char feature[ANOMALY_EVIDENCE_MAX][STORE_FEATURE], value[ANOMALY_TOP_MAX][STORE_TEXT];
};

struct state {
	struct state_opts o;
	const struct state_engine *engine;
	void *detect;
	struct store *store; /* NULL: in memory only */
	struct state_copy *copy;
	struct sums *sums;
	struct state_stats stats;
	struct kept *pending[STATE_PENDING_MAX]; /* oldest first */
	size_t pendings;
	size_t batch;	  /* items of this save */
	int64_t label;	  /* the last one taken */
	unsigned int turn; /* of pruning */
	double now;	  /* as told */
	double last, begun; /* the last save before this start; when it started */
	double saved, pruned, busy_since; /* by schedule(): the wall's clock or event time */
	bool loaded, all, hurry, failing, held, removed, finished, more;
};

static int export_detect(void *engine, bool all, int (*put)(void *ctx, const struct detect_state_item *it), void *ctx)
{
	return detect_export(engine, all, put, ctx);
}

static int import_detect(void *engine, const struct detect_state_item *it)
{
	return detect_import(engine, it);
}

static int label_detect(void *engine, const struct detect_label *l)
{
	return detect_label(engine, l);
}

static const struct state_engine of_detect = { export_detect, import_detect, label_detect };

static double monotonic(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* What the saves are timed by. A wall clock that is set back must not delay them. */
static double schedule(const struct state *s)
{
	return s->o.live ? monotonic() : s->now;
}

/* ---- when it fails ------------------------------------------------------------------------------------- */
static void recovered(struct state *s)
{
	s->busy_since = -1;
	if (!s->failing)
		return;
	log_info("state: saving again; %llu saves failed%s", (unsigned long long)s->stats.failures, s->stats.events_lost ? ", events were lost" : "");
	s->failing = false;
}

/* Rolls back, counts, and says it once. What was exported is not saved: next time all of it is. */
static void failed(struct state *s, int r)
{
	double t = schedule(s);

	store_rollback(s->store);
	s->all = true;
	s->more = false;
	if (r == -EBUSY) {
		if (s->busy_since < 0)
			s->busy_since = t;
		if (t - s->busy_since < BUSY_PATIENCE_S)
			return;
	}
	s->stats.failures++;
	if (r == -EBADMSG) {
		log_error("state: %s in %s was damaged while in use (%s): going on in memory, the file is left as it is; the next start sets it aside", STORE_FILE, s->o.dir,
			  store_error(s->store));
		s->copy = state_copy_free(s->copy);
		s->store = store_close(s->store, false);
		return;
	}
	if (!s->failing)
		log_warning("state: cannot save in %s: %s; going on in memory, trying again every %d s", s->o.dir,
			    r == -EBUSY ? "another process holds the database" : *store_error(s->store) ? store_error(s->store) : strerror(-r), STATE_SAVE_S);
	s->failing = true;
}

/* ---- events --------------------------------------------------------------------------------------------- */
static int event_write(struct state *s, const struct anomaly *a)
{
	int r = store_put_event(s->store, a);

	/* Closed is closed, whatever was saved of it before. */
	if (r == 0 && a->event == EVENT_CLOSE)
		r = store_drop_state(s->store, DETECT_STATE_INCIDENT, a->id);
	return r;
}

static void keep_text(const char **text, char *into, size_t n)
{
	snprintf(into, n, "%s", *text ? *text : "");
	*text = into;
}

static void event_keep(struct state *s, const struct anomaly *a)
{
	struct kept *k;

	if (s->pendings == STATE_PENDING_MAX) {
		free(s->pending[0]);
		memmove(s->pending, s->pending + 1, (STATE_PENDING_MAX - 1) * sizeof(s->pending[0]));
		s->pendings--;
		s->stats.events_lost++;
	}
	k = malloc(sizeof(*k));
	if (!k) {
		s->stats.events_lost++;
		return;
	}
	k->a = *a;
	keep_text(&k->a.id, k->id, sizeof(k->id));
	keep_text(&k->a.scope_value, k->scope, sizeof(k->scope));
	keep_text(&k->a.summary, k->summary, sizeof(k->summary));
	for (size_t i = 0; i < k->a.evidence_count && i < ANOMALY_EVIDENCE_MAX; i++)
		keep_text(&k->a.evidence[i].feature, k->feature[i], sizeof(k->feature[i]));
	for (size_t i = 0; i < k->a.top_count && i < ANOMALY_TOP_MAX; i++)
		keep_text(&k->a.top[i].value, k->value[i], sizeof(k->value[i]));
	s->pending[s->pendings++] = k;
}

static void pending_free(struct state *s)
{
	for (size_t i = 0; i < s->pendings; i++)
		free(s->pending[i]);
	s->pendings = 0;
}

void state_event(struct state *s, const struct anomaly *a)
{
	int r;

	if (!s || !s->store)
		return;
	s->hurry |= a->event != EVENT_UPDATE;
	if (s->pendings) {
		event_keep(s, a);
		return;
	}
	r = store_begin(s->store);
	if (r == 0)
		r = event_write(s, a);
	if (r == 0)
		r = store_commit(s->store);
	if (r == -EINVAL) {
		/* This one will never do; the others will. */
		store_rollback(s->store);
		s->stats.events_lost++;
	} else if (r < 0) {
		event_keep(s, a);
		failed(s, r);
	}
}

/* ---- saving --------------------------------------------------------------------------------------------- */
static int on_item(void *ctx, const struct detect_state_item *it)
{
	struct state *s = ctx;
	uint64_t count;
	int r;

	if (s->o.live && s->batch == STATE_ITEMS_MAX)
		return PAUSE;
	s->batch++;
	r = store_put_state(s->store, it->kind, it->name, it->blob, it->n, s->now);

	if (r == -EINVAL)
		return 0; /* larger than anything sane: it is learnt anew */
	if (r == 0 && !strcmp(it->kind, DETECT_STATE_SUPPRESSED) && it->n == sizeof(count)) {
		memcpy(&count, it->blob, sizeof(count));
		r = store_set_suppressed(s->store, it->name, count);
	}
	s->stats.items += r == 0;
	return r;
}

/*
 * A clock that starts a year ahead (no battery, no network yet) must not make everything that was learnt look old. So the time by which
 * rows are pruned is tied to the last save before and to what has passed since.
 */
static double prune_time(const struct state *s)
{
	return s->o.live && s->last > 0 ? MIN(s->now, s->last + (schedule(s) - s->begun) + STATE_CLOCK_S) : s->now;
}

static int save_all(struct state *s, bool prune)
{
	int r = 0;

	for (size_t i = 0; i < s->pendings && r == 0; i++) {
		r = event_write(s, &s->pending[i]->a);
		r = r == -EINVAL ? 0 : r;
	}
	s->batch = 0;
	if (r == 0)
		r = s->engine->export(s->detect, s->all, on_item, s);
	s->more = r == PAUSE;
	if (r == -ENOSYS || r == PAUSE)
		r = 0; /* -ENOSYS: this engine has nothing to tell */
	if (r == 0)
		r = sums_save(s->sums, s->store);
	if (r == 0)
		r = store_touch_open(s->store, s->now);
	if (r == 0)
		r = store_set_meta(s->store, "saved", s->now);
	if (r == 0 && prune)
		r = store_prune(s->store, s->turn, prune_time(s));
	return r;
}

static bool may_grow(struct state *s)
{
	bool full = store_wal_full(s->store);

	if (full && !s->held)
		log_warning("state: somebody reads %s/%s for so long that its log may not grow any more: saving when he is done", s->o.dir, STORE_FILE);
	s->held = full;
	return !full;
}

static void look_for_removal(struct state *s)
{
	if (!s->removed && store_removed(s->store)) {
		log_warning("state: %s/%s was deleted while in use: what is learnt will not outlive this process", s->o.dir, STORE_FILE);
		s->removed = true;
	}
}

static int save(struct state *s)
{
	double began = monotonic(), t = schedule(s);
	bool prune = t - s->pruned >= STATE_PRUNE_S || t < s->pruned;
	int r;

	if (!may_grow(s)) {
		s->stats.failures++;
		s->all = true;
		state_copy_wish(s->copy);
		return -EBUSY;
	}
	r = store_begin(s->store);
	if (r == 0)
		r = save_all(s, prune);
	if (r == 0)
		r = store_commit(s->store);
	if (r < 0) {
		failed(s, r);
		return r;
	}
	sums_saved(s->sums);
	pending_free(s);
	recovered(s);
	s->all = s->hurry = false;
	s->stats.saves++;
	if (prune) {
		s->pruned = t;
		s->turn++;
	}
	look_for_removal(s);
	if (s->o.live)
		state_copy_wish(s->copy);
	else if (store_wal_bytes(s->store) > STATE_COPY_BYTES)
		store_checkpoint(s->store);
	s->stats.save_ms = (monotonic() - began) * 1000;
	s->stats.save_ms_max = MAX(s->stats.save_ms_max, s->stats.save_ms);
	return 0;
}

/* ---- feedback ------------------------------------------------------------------------------------------- */
static int on_label(void *ctx, const struct store_label *l)
{
	struct state *s = ctx;
	const struct detect_label d = {
		.incident_id = l->id, .cls = l->cls, .scope_kind = l->scope_kind, .scope_value = l->scope_value, .true_positive = l->true_positive,
		.start = l->start, .end = l->end, .score = l->score, .evidence = l->evidence.v, .evidence_count = l->evidence.n,
	};
	int r = s->engine->label(s->detect, &d);

	s->label = l->n;
	s->stats.labels++;
	if (s->loaded)
		log_info("feedback: %s %s is a %s positive%s", anomaly_class_name(l->cls), l->id, l->true_positive ? "true" : "false",
			 r == 0 || r == -ENOSYS ? "" : " (the engine cannot use it)");
	s->hurry = true;
	return 0;
}

static void labels_take(struct state *s)
{
	int r = store_each_label(s->store, s->label, on_label, s);

	if (r < 0)
		failed(s, r);
}

/* ---- coming back ---------------------------------------------------------------------------------------- */
struct loading {
	struct state *s;
	char resumed[CLOSES_MAX][STORE_ID];
	size_t resumes, closes;
	double now;
};

static int on_state(void *ctx, const struct store_state *st)
{
	struct loading *l = ctx;
	struct state *s = l->s;
	const struct detect_state_item it = { st->kind, st->name, st->blob, st->n };
	bool incident = !strcmp(st->kind, DETECT_STATE_INCIDENT);
	int r;

	if (st->damaged) {
		s->stats.damaged++;
		return 0;
	}
	if (incident && (l->resumes == CLOSES_MAX || strlen(st->name) >= STORE_ID))
		return 0;
	r = s->engine->import(s->detect, &it);
	if (r < 0) {
		s->stats.refused++;
		return r == -ENOMEM ? r : 0;
	}
	s->stats.imported++;
	if (incident)
		snprintf(l->resumed[l->resumes++], STORE_ID, "%s", st->name);
	return 0;
}

/* An incident that the engine does not take up again is over for all that anybody can tell; whoever was paged hears of it. */
static int on_left_open(void *ctx, const struct store_incident *in)
{
	struct loading *l = ctx;
	struct state *s = l->s;
	struct store_evidence ev;
	char summary[STORE_SUMMARY + 128];
	struct anomaly a = {
		.event = EVENT_CLOSE, .id = in->id, .cls = in->cls, .severity = in->severity, .scope_kind = in->scope_kind, .scope_value = in->scope_value,
		.start = in->start, .detected = MAX(l->now, in->seen), .end = MAX(in->seen, in->start), .score = in->score, .confidence = in->confidence,
		.summary = summary,
	};

	for (size_t i = 0; i < l->resumes; i++) {
		if (!strcmp(l->resumed[i], in->id)) {
			s->stats.resumed++;
			return 0;
		}
	}
	store_read_evidence(s->store, in->event, &ev);
	memcpy(a.evidence, ev.v, sizeof(a.evidence));
	a.evidence_count = ev.n;
	memcpy(a.top, ev.top, sizeof(a.top));
	a.top_count = ev.top_count;
	snprintf(summary, sizeof(summary), "closed because weir was restarted and lost sight of it: %s", in->summary);
	s->stats.closed++;
	state_event(s, &a);
	if (s->o.emit && l->closes++ < CLOSES_MAX)
		s->o.emit(s->o.ctx, &a);
	return s->store ? 0 : -EBADMSG;
}

void state_load(struct state *s, void *engine, double now)
{
	const struct store_filter open = { .cls = CLASS_COUNT, .open = true, .scope_kind = -1 };
	struct loading *l;
	int r;

	if (!s)
		return;
	s->detect = engine;
	s->now = now;
	s->saved = s->pruned = s->begun = schedule(s);
	l = s->store ? calloc(1, sizeof(*l)) : NULL;
	if (!l)
		return;
	l->s = s;
	l->now = now;
	s->last = store_meta(s->store, "saved", 0);
	r = store_each_state(s->store, on_state, l);
	if (r == 0)
		r = store_each_label(s->store, 0, on_label, s);
	if (r == 0)
		r = store_each_incident(s->store, &open, on_left_open, l);
	free(l);
	if (r < 0 && s->store)
		failed(s, r);
	s->loaded = true;
	s->hurry = false;
	if (s->stats.imported || s->stats.labels || s->stats.closed || s->stats.refused || s->stats.damaged)
		log_info("state: %llu items, %llu labels; open incidents: %llu resumed, %llu closed; %llu items refused, %llu damaged",
			 (unsigned long long)(s->stats.imported), (unsigned long long)s->stats.labels, (unsigned long long)s->stats.resumed,
			 (unsigned long long)s->stats.closed, (unsigned long long)s->stats.refused, (unsigned long long)s->stats.damaged);
}

/* ---- the rest ------------------------------------------------------------------------------------------- */
/* What was meant is another folder: no reason to go on without. */
static bool is_wrong_path(int r)
{
	return r == -ENOENT || r == -ENOTDIR || r == -ENAMETOOLONG || r == -ELOOP;
}

int state_open(const struct state_opts *o, struct state **ret)
{
	char why[STORE_WHY];
	struct state *s;
	int r;

	*ret = NULL;
	if (!o->dir)
		return 0;
	s = calloc(1, sizeof(*s));
	if (!s) {
		log_error("state: %s", strerror(ENOMEM));
		return -ENOMEM;
	}
	s->o = *o;
	s->engine = o->engine ? o->engine : &of_detect;
	s->busy_since = -1;
	s->all = true;
	r = sums_open(&s->sums);
	if (r < 0) {
		log_error("state: %s", strerror(-r));
		free(s);
		return r;
	}
	r = store_open(o->dir, STORE_WRITE, o->live ? BUSY_MS : BUSY_REPLAY_MS, why, &s->store);
	if (r < 0 && (!o->live || is_wrong_path(r))) {
		log_error("state: %s", why);
		sums_free(s->sums);
		free(s);
		return r;
	}
	if (r < 0) {
		log_warning("state: %s; going on in memory: what is learnt will not outlive this process", why);
		s->stats.failures++;
	} else if (why[0]) {
		log_warning("state: %s", why);
	}
	if (s->store && o->live)
		s->copy = state_copy_new(s->store);
	*ret = s;
	return 0;
}

void state_record(struct state *s, const struct record *r)
{
	if (s && s->store)
		sums_record(s->sums, r, s->now);
}

static bool due(const struct state *s)
{
	double since = schedule(s) - s->saved;

	if (since < 0)
		return true;
	if (!s->o.live)
		return since >= STATE_SAVE_REPLAY_S;
	return since >= STATE_SAVE_S || s->more || (since >= STATE_HURRY_S && s->hurry && !s->failing) || (s->busy_since >= 0 && !s->failing);
}

void state_tick(struct state *s, double now)
{
	if (!s || !s->store || !s->detect)
		return;
	if (!s->o.live && s->now <= 0)
		s->saved = s->pruned = now; /* a replay's time begins with its first record */
	s->now = now;
	if (s->o.live && store_changed(s->store))
		labels_take(s);
	if (s->store && due(s)) {
		s->saved = schedule(s);
		save(s);
	}
}

int state_finish(struct state *s, double now)
{
	if (!s || !s->store || !s->detect)
		return 0;
	if (now > 0)
		s->now = now;
	do {
		s->finished = save(s) == 0;
	} while (s->finished && s->more);
	return s->finished ? 0 : -EIO;
}

struct state *state_free(struct state *s)
{
	if (!s)
		return NULL;
	s->copy = state_copy_free(s->copy);
	store_close(s->store, s->finished);
	pending_free(s);
	sums_free(s->sums);
	free(s);
	return NULL;
}

void state_stats(const struct state *s, struct state_stats *ret)
{
	*ret = s ? s->stats : (struct state_stats){ 0 };
	if (!s)
		return;
	ret->kept = s->store && !s->failing && !s->removed;
	ret->bytes = s->store ? store_bytes(s->store) : 0;
}

void state_write_json(const struct state *s, struct str *out)
{
	struct state_stats st;

	if (!s)
		return;
	state_stats(s, &st);
	json_key(out, "state");
	json_begin(out, '{');
	json_kbool(out, "kept", st.kept);
	json_kuint(out, "bytes", st.bytes);
	json_kuint(out, "saves", st.saves);
	json_kuint(out, "save_failures", st.failures);
	json_kuint(out, "items_saved", st.items);
	json_kuint(out, "items_imported", st.imported);
	json_kuint(out, "items_refused", st.refused);
	json_kuint(out, "items_damaged", st.damaged);
	json_kuint(out, "labels", st.labels);
	json_kuint(out, "incidents_resumed", st.resumed);
	json_kuint(out, "incidents_closed", st.closed);
	json_kuint(out, "events_lost", st.events_lost);
	json_kdouble(out, "save_ms", st.save_ms, 3);
	json_kdouble(out, "save_ms_max", st.save_ms_max, 3);
	json_end(out, '}');
}
