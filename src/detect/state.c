/*
 * What outlives a restart: each baseline as a blob under a stable name, and back.
 *
 * Times are ticks of the engine's clock, which counts observed seconds: after a restart it goes on where the last export left it, and
 * only its epoch moves (begin() in detect.c). So no age, window or minute changes by weir being down, and nobody is new or missed for it.
 *
 * Names: entities are called what records call them. For models, keys, users and addresses that is stable. A server's is what stands in
 * `server`: an address and port where nothing better is known, so that its baseline (errors only) is learnt anew where it moves.
 *
 * What is not kept: the ring of recent requests, requests in flight, findings that wait. All of it is there again after minutes.
 */
#include "detect/detect_state.h"

#include "detect/state_layout.h"

#define BLOB_MAX 65536 /* the largest: an identity with all its habits has some 6 KB */
#define FEATURE_MAX 48

/* Of an import, until the clock begins; and texts for as long as incidents live. */
struct kept {
	uint32_t *imported;
	uint32_t n, cap;
	int32_t tick; /* the newest */
	bool clock;   /* was among the items */
	char feature[INCIDENTS_MAX][2 * ANOMALY_EVIDENCE_MAX][FEATURE_MAX];
};

/* ---- entities -------------------------------------------------------------------------------------- */
struct identity {
	enum entity_kind kind;
	char name[ENTITY_NAME_MAX + 1];
	uint64_t hash; /* of the whole name, which may have been longer */
};

static void identify(struct blob *b, struct identity *id)
{
	id->kind = (enum entity_kind)blob_below(b, id->kind, ENTITY_KIND_COUNT);
	blob_u64(b, &id->hash);
	blob_text(b, id->name, sizeof(id->name));
}

static struct identity identity_of(const struct entity *e)
{
	struct identity id = { .kind = (enum entity_kind)e->kind, .hash = e->hash };

	snprintf(id.name, sizeof(id.name), "%s", e->name);
	return id;
}

static void kept_add(struct detect *d, uint32_t i)
{
	struct kept *k = d->kept;

	if (k->n == k->cap) {
		uint32_t cap = k->cap ? k->cap * 2 : 256;
		uint32_t *p = realloc(k->imported, cap * sizeof(*p));

		if (!p)
			return;
		k->imported = p;
		k->cap = cap;
	}
	k->imported[k->n++] = i;
}

/* The one of that name, made where there is none. */
static uint32_t find(struct detect *d, const struct identity *id, bool *ret_new)
{
	uint32_t i;

	*ret_new = false;
	if (id->kind == ENTITY_GLOBAL)
		return d->global;
	if (id->kind == ENTITY_HOST)
		return d->fresh;
	i = entity_get(&d->entities, id->kind, span_of(id->name), id->hash, ret_new);
	if (i != NOBODY && *ret_new)
		learn_new(d, at(d, i));
	return i;
}

/* An address belongs to its network. */
static void join_network(struct detect *d, uint32_t i)
{
	struct identity id = { .kind = ENTITY_NETWORK };
	char buf[48];
	struct span net;
	uint32_t k;
	bool is_new;

	if (at(d, i)->kind != ENTITY_CLIENT_IP || at(d, i)->net != NOBODY)
		return;
	net = entity_network_of(span_of(at(d, i)->name), buf);
	if (!net.n)
		return;
	snprintf(id.name, sizeof(id.name), "%s", buf);
	id.hash = entity_hash(ENTITY_NETWORK, net);
	at(d, i)->refs++;
	k = find(d, &id, &is_new);
	at(d, i)->refs--;
	if (k == NOBODY)
		return;
	at(d, i)->net = k;
	at(d, k)->refs++;
}

/* What a damaged blob left half done is made new again. */
static void entity_reset(struct detect *d, uint32_t i)
{
	struct entity *e = at(d, i), was = *e;

	if (e->errors)
		*e->errors = (struct errors){ .share = ERROR_PRIOR, .weight = ERROR_PRIOR_N };
	if (e->full) {
		full_free(e->full);
		d->entities.fulls--;
	}
	memset(e, 0, sizeof(*e));
	e->hash = was.hash;
	e->name = was.name;
	e->errors = was.errors;
	e->chain = was.chain;
	e->newer = was.newer;
	e->older = was.older;
	e->refs = was.refs;
	e->kind = was.kind;
	e->net = was.net;
	e->suspect = was.suspect;
	learn_new(d, e);
}

static int import_entity(struct detect *d, struct blob *b)
{
	int32_t now = layout_head(b, WHAT_ENTITY, 0);
	struct identity id = { .kind = ENTITY_GLOBAL };
	uint32_t i;
	struct entity *e;
	bool is_new, had_full;

	identify(b, &id);
	if (b->bad)
		return -EINVAL;
	i = find(d, &id, &is_new);
	if (i == NOBODY)
		return -ENOMEM;
	e = at(d, i);
	had_full = e->full;
	if (!had_full && is_identity(e) && d->entities.fulls >= FULL_MAX)
		e->full = NULL; /* its habits find no room: read, and let go */
	layout_entity(b, e, now);
	if (!had_full && e->full)
		d->entities.fulls++;
	if (b->bad || b->n != b->cap) {
		entity_reset(d, i);
		return -EINVAL;
	}
	if (d->entities.fulls > FULL_MAX && is_identity(e) && !had_full) {
		full_free(e->full);
		e->full = NULL;
		d->entities.fulls--;
	}
	join_network(d, i);
	kept_add(d, i);
	d->kept->tick = MAX(d->kept->tick, now);
	return 0;
}

/* ---- the rest -------------------------------------------------------------------------------------- */
static void clock_kept(struct blob *b, struct detect *d, int32_t now)
{
	blob_u32(b, &d->steps);
	layout_moment(b, &d->cool, now);
	blob_f64(b, &d->auth.level);
	blob_f64(b, &d->auth.disp);
	blob_f64(b, &d->auth.peak);
	if (b->version >= 4) {
		blob_f64(b, &d->auth.peak300);
		blob_f64(b, &d->auth.cur);
		blob_f64(b, &d->auth.cur300);
	}
	b->bad |= d->steps > TICK_MAX / STEP_S || d->auth.level < 0 || d->auth.disp < 0 || d->auth.peak < 0 || d->auth.peak300 < 0 || d->auth.cur < 0 || d->auth.cur300 < 0;
}

static void evidence(struct blob *b, struct anomaly_evidence *v, size_t *n, char (*text)[FEATURE_MAX])
{
	*n = blob_below(b, (unsigned int)*n, ANOMALY_EVIDENCE_MAX + 1);
	for (size_t i = 0; i < *n && !b->bad; i++) {
		char name[FEATURE_MAX] = "";

		if (b->write)
			snprintf(name, sizeof(name), "%s", v[i].feature);
		blob_text(b, name, sizeof(name));
		if (!b->write) {
			memcpy(text[i], name, sizeof(name));
			v[i].feature = text[i];
		}
		blob_f64(b, &v[i].observed);
		blob_f64(b, &v[i].expected);
		blob_f64(b, &v[i].sigma);
	}
}

static uint32_t actor(struct blob *b, struct detect *d, uint32_t i)
{
	struct identity id = { .kind = ENTITY_GLOBAL };
	bool none = i == NOBODY, is_new;

	blob_bool(b, &none);
	if (b->bad || none)
		return NOBODY;
	if (b->write)
		id = identity_of(at(d, i));
	identify(b, &id);
	if (b->write || b->bad)
		return i;
	i = find(d, &id, &is_new);
	if (i != NOBODY) {
		join_network(d, i);
		at(d, i)->refs++; /* finding the next one must not make room of it; given back below */
	}
	return i;
}

static void incident_kept(struct blob *b, struct detect *d, struct incident *in, int32_t now)
{
	struct finding *f = &in->f;
	int slot = (int)(in - d->incident);
	uint8_t severity = (uint8_t)f->severity, told = (uint8_t)in->severity_told;
	unsigned int actors = f->actors, scopes = 0;
	uint32_t refs[SUSPECTS_MAX + 2], scope = f->scope, scope_told = in->scope_told;

	blob_bool(b, &in->open);
	f->watch = (enum watch)blob_below(b, f->watch, WATCH_COUNT);
	f->cls = (enum anomaly_class)blob_below(b, f->cls, CLASS_COUNT);
	in->cls_told = (enum anomaly_class)blob_below(b, in->cls_told, CLASS_COUNT);
	in->scope_kind = (enum entity_kind)blob_below(b, in->scope_kind, ENTITY_KIND_COUNT);
	blob_u8(b, &severity);
	blob_u8(b, &told);
	b->bad |= severity > SEVERITY_CRITICAL || told > SEVERITY_CRITICAL;
	f->severity = (enum anomaly_severity)severity;
	in->severity_told = (enum anomaly_severity)told;
	blob_f64(b, &f->strength);
	blob_f64(b, &f->score);
	blob_f64(b, &f->confidence);
	blob_f64(b, &f->magnitude);
	blob_f64(b, &in->score_told);
	blob_f64(b, &in->magnitude_told);
	blob_f64(b, &in->strongest);
	blob_i64(b, &f->start);
	blob_u8(b, &f->needs);
	blob_i32(b, &f->leave_s);
	blob_i32(b, &f->accept_s);
	blob_bool(b, &f->quiet);
	if (b->version >= 4) {
		blob_i32(b, &f->joins);
	} else {
		bool joins = false;

		blob_bool(b, &joins);
		f->joins = joins ? JOIN_S : 0;
	}
	blob_bool(b, &f->slow);
	blob_bool(b, &in->muted);
	blob_bool(b, &in->dismissed);
	blob_bool(b, &in->confirmed);
	blob_u64(b, &in->related);
	layout_moment(b, &in->opened, now);
	layout_moment(b, &in->above, now);
	layout_moment(b, &in->closed, now);
	layout_moment(b, &in->told, now);
	blob_text(b, in->scope_value, sizeof(in->scope_value));
	blob_text(b, f->summary, sizeof(f->summary));
	blob_text(b, in->said, sizeof(in->said));
	evidence(b, f->evidence, &f->evidence_count, d->kept ? d->kept->feature[slot] : NULL);
	evidence(b, in->best, &in->bests, d->kept ? d->kept->feature[slot] + ANOMALY_EVIDENCE_MAX : NULL);
	scope = actor(b, d, scope);
	if (!b->write && scope != NOBODY)
		refs[scopes++] = scope;
	scope_told = actor(b, d, scope_told);
	if (!b->write && scope_told != NOBODY)
		refs[scopes++] = scope_told;
	actors = blob_below(b, actors, SUSPECTS_MAX + 1);
	if (!b->write)
		f->actors = 0;
	for (unsigned int k = 0; k < actors && !b->bad; k++) {
		uint32_t who = actor(b, d, b->write ? f->actor[k] : NOBODY);
		double share = b->write ? f->share[k] : 0;

		blob_f64(b, &share);
		if (b->write || who == NOBODY)
			continue;
		refs[scopes++] = who;
		finding_actor(f, who, share);
	}
	if (b->write)
		return;
	while (scopes)
		at(d, refs[--scopes])->refs--;
	f->scope = scope;
	in->scope_told = scope_told;
}

static int import_incident(struct detect *d, const char *id, struct blob *b)
{
	int32_t now = layout_head(b, WHAT_INCIDENT, 0);
	struct incident *in = NULL;

	for (int i = 0; i < INCIDENTS_MAX; i++) {
		if (d->incident[i].used && !strcmp(d->incident[i].id, id))
			return -EINVAL;
		if (!in && !d->incident[i].used)
			in = &d->incident[i];
	}
	if (!in || b->bad || !*id || strlen(id) >= sizeof(in->id))
		return -EINVAL;
	incident_kept(b, d, in, now);
	/* A scope that names somebody who could not be found again would become everybody. */
	if (b->bad || b->n != b->cap || (in->scope_kind != ENTITY_GLOBAL && in->f.scope == NOBODY)) {
		memset(in, 0, sizeof(*in));
		return -EINVAL;
	}
	snprintf(in->id, sizeof(in->id), "%s", id);
	in->used = true;
	in->opinion.of = -1; /* what the forest saw then is gone */
	if (!in->open)
		in->f.actors = 0;
	incident_resume(d, in);
	d->kept->tick = MAX(d->kept->tick, now);
	return 0;
}

/* ---- out ------------------------------------------------------------------------------------------- */
struct export {
	struct detect *d;
	int (*put)(void *ctx, const struct detect_state_item *it);
	void *ctx;
	struct blob b;
};

static void start(struct export *x, enum what what)
{
	x->b.n = 0;
	x->b.bad = false;
	layout_head(&x->b, what, x->d->tick);
}

static int give(struct export *x, const char *kind, const char *name)
{
	const struct detect_state_item it = { kind, name, x->b.to, x->b.n };

	return x->b.bad ? 0 : x->put(x->ctx, &it); /* bad: a number that is none; better learnt anew than kept */
}

static int export_few(struct export *x)
{
	struct detect *d = x->d;
	int r;

	start(x, WHAT_CLOCK);
	clock_kept(&x->b, d, d->tick);
	r = give(x, "auth", "clock");
	start(x, WHAT_USUAL);
	layout_habit(&x->b, &d->usual);
	r = r ? r : give(x, "usual", "all");
	start(x, WHAT_BUDGET);
	budget_keep(d->budget, &x->b);
	r = r ? r : give(x, "budget", "alarms");
	start(x, WHAT_ROUTINE);
	routine_keep(d->routines, &x->b);
	r = r ? r : give(x, "routine", "hours");
	for (int k = ENTITY_CLIENT_IP; k < ENTITY_KIND_COUNT && r == 0; k++) {
		start(x, WHAT_POOL);
		layout_baseline(&x->b, &d->pool[k].req);
		layout_baseline(&x->b, &d->pool[k].tok);
		layout_habit(&x->b, &d->pool[k].habit);
		r = give(x, "pool", entity_kind_name((enum entity_kind)k));
	}
	for (unsigned int i = 0; i < latency_count(d->latency) && r == 0; i++) {
		uint32_t who = latency_model(d->latency, i);
		struct identity id = identity_of(at(d, who));

		start(x, WHAT_LATENCY);
		identify(&x->b, &id);
		latency_keep(d->latency, who, &x->b);
		r = give(x, "latency", id.name);
		start(x, WHAT_BAND);
		identify(&x->b, &id);
		latency_keep_band(d->latency, who, &x->b);
		r = r ? r : give(x, "band", id.name);
	}
	return r;
}

static int export_incidents(struct export *x)
{
	struct detect *d = x->d;
	int r = 0;

	for (int i = 0; i < INCIDENTS_MAX && r == 0; i++) {
		struct incident *in = &d->incident[i];

		/* One that was never told is no incident to anybody else. */
		if (!in->used || (!in->open && d->tick - in->closed > REOPEN_S + AHEAD_S / 96))
			continue;
		start(x, WHAT_INCIDENT);
		incident_kept(&x->b, d, in, d->tick);
		r = give(x, in->muted ? "muted" : in->open ? DETECT_STATE_INCIDENT : "closed", in->id);
	}
	return r;
}

static int export_labels(struct export *x, bool all)
{
	struct detect *d = x->d;
	int r = 0;

	for (unsigned int i = 0; i < feedback_count(d) && r == 0; i++) {
		uint64_t count = feedback_suppressed(d, i);
		const struct detect_state_item it = { DETECT_STATE_SUPPRESSED, feedback_id(d, i), &count, sizeof(count) };

		if (!all && !feedback_changed(d, i))
			continue;
		start(x, WHAT_LABEL);
		feedback_keep(d, i, &x->b);
		r = give(x, "label", feedback_id(d, i));
		if (r == 0)
			r = x->put(x->ctx, &it);
		if (r == 0)
			feedback_exported(d, i);
	}
	return r;
}

static int give_forest(void *ctx, const char *name, const void *blob, size_t n)
{
	struct export *x = ctx;
	const struct detect_state_item it = { "forest", name, blob, n };

	return x->put(x->ctx, &it);
}

static int export_entities(struct export *x)
{
	struct detect *d = x->d;
	int r = 0;

	for (uint32_t i = 0; i < d->entities.used && r == 0; i++) {
		struct entity *e = at(d, i);
		struct identity id;
		char name[ENTITY_NAME_MAX + 64];

		if (!e->name || !e->changed)
			continue;
		id = identity_of(e);
		start(x, WHAT_ENTITY);
		identify(&x->b, &id);
		layout_entity(&x->b, e, d->tick);
		if (entity_hash(id.kind, span_of(id.name)) == id.hash || id.kind <= ENTITY_HOST)
			snprintf(name, sizeof(name), "%s/%s", entity_kind_name(id.kind), id.name);
		else /* cut: others may begin like this */
			snprintf(name, sizeof(name), "%s/%s#%016llx", entity_kind_name(id.kind), id.name, (unsigned long long)id.hash);
		r = give(x, "entity", name);
		if (r == 0)
			e->changed = false;
	}
	return r;
}

int detect_export(struct detect *d, bool all, int (*put)(void *ctx, const struct detect_state_item *it), void *ctx)
{
	CLEANUP(freep) uint8_t *to = NULL;
	struct export x = { .d = d, .put = put, .ctx = ctx };
	int r;

	if (d->bins)
		return -ENOSYS;
	if (!d->begun)
		return 0; /* nothing is known beyond what was imported */
	to = malloc(BLOB_MAX);
	if (!to)
		return -ENOMEM;
	x.b = (struct blob){ .write = true, .to = to, .cap = BLOB_MAX };
	for (uint32_t i = 0; i < d->entities.used && all; i++)
		at(d, i)->changed |= !!at(d, i)->name;
	/* The few first, each time: they are small, and an export that ends early goes on among the entities. */
	r = export_few(&x);
	if (r == 0)
		r = export_incidents(&x);
	if (r == 0)
		r = export_labels(&x, all);
	if (r == 0)
		r = opinion_export(d, all, give_forest, &x);
	if (r == 0)
		r = export_entities(&x);
	return r;
}

/* ---- in -------------------------------------------------------------------------------------------- */
static int import_pool(struct detect *d, const char *name, struct blob *b)
{
	struct pool p = { 0 };

	layout_head(b, WHAT_POOL, 0);
	layout_baseline(b, &p.req);
	layout_baseline(b, &p.tok);
	layout_habit(b, &p.habit);
	if (b->bad || b->n != b->cap)
		return -EINVAL;
	for (int k = ENTITY_CLIENT_IP; k < ENTITY_KIND_COUNT; k++) {
		if (strcmp(name, entity_kind_name((enum entity_kind)k)))
			continue;
		d->pool[k] = p;
		return 0;
	}
	return -EINVAL;
}

static int import_usual(struct detect *d, struct blob *b)
{
	struct habit h = { 0 };

	layout_head(b, WHAT_USUAL, 0);
	layout_habit(b, &h);
	if (b->bad || b->n != b->cap)
		return -EINVAL;
	d->usual = h;
	return 0;
}

static int import_clock(struct detect *d, struct blob *b)
{
	uint32_t steps = d->steps;
	int32_t now = layout_head(b, WHAT_CLOCK, 0);

	clock_kept(b, d, now);
	if (b->bad || b->n != b->cap) {
		d->steps = steps;
		memset(&d->auth, 0, sizeof(d->auth));
		return -EINVAL;
	}
	d->kept->clock = true;
	d->kept->tick = MAX(d->kept->tick, now);
	return 0;
}

static int import_latency(struct detect *d, enum what what, struct blob *b)
{
	struct identity id = { .kind = ENTITY_GLOBAL };
	bool is_new;
	uint32_t i;

	layout_head(b, what, 0);
	identify(b, &id);
	if (b->bad || id.kind != ENTITY_MODEL)
		return -EINVAL;
	i = find(d, &id, &is_new);
	if (i == NOBODY)
		return -ENOMEM;
	if (what == WHAT_BAND) {
		latency_keep_band(d->latency, i, b);
		return b->bad ? -EINVAL : 0;
	}
	latency_keep(d->latency, i, b);
	if (b->bad || b->n != b->cap) {
		latency_forget(d->latency, i);
		return -EINVAL;
	}
	return 0;
}

int detect_import(struct detect *d, const struct detect_state_item *it)
{
	struct blob b = { .from = it->blob, .cap = it->n };
	uint64_t count;

	if (d->bins || d->begun)
		return -EINVAL;
	if (!d->kept) {
		d->kept = calloc(1, sizeof(*d->kept));
		if (!d->kept)
			return -ENOMEM;
		d->kept->tick = NEVER;
		learn_new(d, global_of(d));
	}
	if (!strcmp(it->kind, "entity"))
		return import_entity(d, &b);
	if (!strcmp(it->kind, "pool"))
		return import_pool(d, it->name, &b);
	if (!strcmp(it->kind, "forest"))
		return opinion_import(d, it->name, it->blob, it->n);
	if (!strcmp(it->kind, "usual"))
		return import_usual(d, &b);
	if (!strcmp(it->kind, "auth"))
		return import_clock(d, &b);
	if (!strcmp(it->kind, "latency"))
		return import_latency(d, WHAT_LATENCY, &b);
	if (!strcmp(it->kind, "band"))
		return import_latency(d, WHAT_BAND, &b);
	if (!strcmp(it->kind, "routine")) {
		layout_head(&b, WHAT_ROUTINE, 0);
		routine_keep(d->routines, &b);
		return b.bad ? -EINVAL : 0;
	}
	if (!strcmp(it->kind, "budget")) {
		layout_head(&b, WHAT_BUDGET, 0);
		budget_keep(d->budget, &b);
		return b.bad ? -EINVAL : 0;
	}
	if (!strcmp(it->kind, DETECT_STATE_INCIDENT) || !strcmp(it->kind, "closed") || !strcmp(it->kind, "muted"))
		return import_incident(d, it->name, &b);
	if (!strcmp(it->kind, "label")) {
		layout_head(&b, WHAT_LABEL, 0);
		return b.bad ? -EINVAL : feedback_import(d, it->name, &b);
	}
	if (!strcmp(it->kind, DETECT_STATE_SUPPRESSED) && it->n == sizeof(count)) {
		memcpy(&count, it->blob, sizeof(count));
		return feedback_import_suppressed(d, it->name, count);
	}
	return -EINVAL;
}

void kept_resume(struct detect *d)
{
	struct kept *k = d->kept;
	int32_t step;

	/* Whoever met records of this run only through an incident begins like all others. */
	d->tick = MAX(k->tick, d->tick);
	d->steps = k->clock ? d->steps : (uint32_t)((d->tick + 1) / STEP_S);
	step = d->tick / STEP_S;
	budget_resume(d->budget, d->tick);
	for (uint32_t i = 0; i < k->n; i++) {
		struct entity *e = at(d, k->imported[i]);
		bool was_active = e->changed;

		e->changed = false;
		if (e->active || !e->name || !was_active)
			continue;
		/* Of one that was saved long before the others the end of its activity was never saved. */
		if (step - e->step <= LONG_STEPS)
			detect_wake(d, k->imported[i]);
	}
	free(k->imported);
	k->imported = NULL;
	k->n = k->cap = 0;
}

void kept_free(struct detect *d)
{
	if (d->kept)
		free(d->kept->imported);
	free(d->kept);
	d->kept = NULL;
}
