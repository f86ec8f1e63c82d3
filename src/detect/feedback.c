/*
 * What people said of alarms.
 *
 * A label is about one behaviour (class) at one scope, as strong as it was seen. Called a false positive, its like is kept quiet: the
 * incident goes on as ever, muted, so that nothing is learnt from it, and is told as soon as it is more than the label's: larger
 * than FEEDBACK_MORE times the excess that was labelled, or of another shape. Limits are absolute and stand where the label put
 * them: neither what was kept quiet nor what the baselines learn meanwhile moves them, only another label does, and all labels of
 * one behaviour at one scope together to FEEDBACK_MOST times the excess of the first, so that nobody is talked into an attack step by step.
 *
 * Called a true positive, the same behaviour at the same scope needs less of everything, and is never accepted as how things are.
 */
#include <math.h>

#include "detect/blob.h"
#include "detect/detect_state.h"
#include "detect/engine.h"

#define LABELS_KEPT 4096
#define FEATURE_NAME 48

/* What a row of evidence says of "stronger". The rest is context. */
enum row_kind { ROW_CONTEXT, ROW_SIZE, ROW_SHAPE };
static const struct {
	const char *feature;
	enum row_kind kind;
	double slack; /* of a shape: chance, in its own unit */
} rows[] = {
	{ "requests_per_s", ROW_SIZE, 0.05 },
	{ "source_requests_per_s", ROW_SIZE, 0.05 },
	{ "new_address_requests_per_s", ROW_SIZE, 0.5 },
	{ "tokens_per_s", ROW_SIZE, 1 },
	{ "auth_errors_per_min", ROW_SIZE, 2 },
	{ "new_networks", ROW_SIZE, 1 },
	{ "error_share", ROW_SIZE, 0.02 },
	{ "silence_s", ROW_SIZE, 30 },
	{ "tokens_per_request_ratio", ROW_SIZE, 0.02 },
	{ "ttft_ratio", ROW_SIZE, 0.02 },
	{ "time_per_token_ratio", ROW_SIZE, 0.02 },
	{ "duration_ratio", ROW_SIZE, 0.02 },
	{ "tokens_per_request", ROW_CONTEXT, 0 }, /* of who floods: feedback_excuses() */
	{ "injection_score", ROW_SHAPE, 0.15 },
	{ "same_prompt_share", ROW_SHAPE, 0.25 },
	{ "near_duplicate_share", ROW_SHAPE, 0.25 },
	{ "top_agent_share", ROW_SHAPE, 0.25 },
	{ "at_cap_share", ROW_SHAPE, 0.25 },
	{ "logprobs_share", ROW_SHAPE, 0.25 },
	{ "auth_error_share", ROW_SHAPE, 0.25 },
	{ "refused_share", ROW_SHAPE, 0.25 },
};

static const enum watch watch_of[CLASS_COUNT] = {
	[CLASS_FLOOD] = WATCH_VOLUME, [CLASS_DDOS] = WATCH_VOLUME, [CLASS_FLASH_CROWD] = WATCH_VOLUME, [CLASS_COST_SPIKE] = WATCH_COST,
	[CLASS_SCRAPING] = WATCH_BEHAVE, [CLASS_PROMPT_PROBING] = WATCH_BEHAVE, [CLASS_CREDENTIAL_ABUSE] = WATCH_AUTH, [CLASS_KEY_SHARING] = WATCH_ACCESS,
	[CLASS_TOKEN_GROWTH] = WATCH_GROWTH, [CLASS_LATENCY_REGRESSION] = WATCH_LATENCY, [CLASS_ERROR_BURST] = WATCH_ERROR, [CLASS_TRAFFIC_DROP] = WATCH_DROP,
	[CLASS_UNBILLED_COMPUTE] = WATCH_COST, [CLASS_UNKNOWN] = WATCH_VOLUME,
};

struct label {
	char id[64];
	enum anomaly_class cls;
	enum entity_kind kind;
	char value[ENTITY_NAME_MAX + 1];
	bool given, changed;  /* given: not only known from an export */
	bool true_positive;
	double score;
	struct {
		uint32_t row; /* of the table above */
		double observed, expected;
	} v[ANOMALY_EVIDENCE_MAX];
	uint32_t n;
	uint64_t suppressed;
};

struct feedback {
	struct label *v;
	uint32_t n, cap;
};

static uint32_t row_of(const char *feature)
{
	uint32_t k = 0;

	while (k < ARRAY_SIZE(rows) && strcmp(rows[k].feature, feature))
		k++;
	return k;
}

static struct label *label_find(const struct detect *d, const char *id)
{
	for (uint32_t i = 0; d->feedback && i < d->feedback->n; i++)
		if (!strcmp(d->feedback->v[i].id, id))
			return &d->feedback->v[i];
	return NULL;
}

static void label_drop(struct feedback *f, uint32_t i)
{
	f->n--;
	memmove(f->v + i, f->v + i + 1, (f->n - i) * sizeof(*f->v));
}

/* A place for the label of that incident: its own, a new one, or that of the oldest. */
static struct label *label_place(struct detect *d, const char *id)
{
	struct feedback *f = d->feedback;
	struct label *l = label_find(d, id);

	if (strlen(id) >= sizeof(l->id))
		return NULL;
	if (l)
		return l;
	if (!f)
		f = d->feedback = calloc(1, sizeof(*f));
	if (!f)
		return NULL;
	if (f->n == LABELS_KEPT)
		label_drop(f, 0);
	if (f->n == f->cap) {
		uint32_t cap = f->cap ? f->cap * 2 : 16;
		struct label *v = realloc(f->v, cap * sizeof(*v));

		if (!v)
			return NULL;
		f->v = v;
		f->cap = cap;
	}
	l = &f->v[f->n++];
	*l = (struct label){ .cls = CLASS_COUNT };
	snprintf(l->id, sizeof(l->id), "%s", id);
	return l;
}

/* ---- envelope -------------------------------------------------------------------------------------- */
static bool has_row(const struct finding *f, const char *feature)
{
	for (size_t i = 0; i < f->evidence_count; i++)
		if (!strcmp(f->evidence[i].feature, feature))
			return true;
	return false;
}

static bool beyond(const struct label *l, uint32_t i, double observed, double expected)
{
	/* Of what behaves like that nothing is usual. */
	double was = l->v[i].observed, usual = watch_of[l->cls] == WATCH_BEHAVE ? 0 : l->v[i].expected, slack = rows[l->v[i].row].slack, excess = was - usual;

	if (rows[l->v[i].row].kind == ROW_SHAPE)
		return observed > MAX(was, l->v[i].expected) + (FEEDBACK_MORE - 1) * MAX(was - l->v[i].expected, 0.0) + slack;
	/* What fell: so many times less. */
	if (l->cls == CLASS_TRAFFIC_DROP && excess < 0)
		return expected / MAX(observed, expected / 100 + 1e-9) > FEEDBACK_MORE * usual / MAX(was, usual / 100 + 1e-9) + slack;
	return observed > usual + FEEDBACK_MORE * MAX(excess, 0.0) + slack;
}

/* Is this more than what the label is about? */
static bool more(const struct label *l, const struct finding *f)
{
	bool sized = false, sourced = has_row(f, "source_requests_per_s");

	for (size_t k = 0; k < f->evidence_count; k++) {
		const struct anomaly_evidence *e = &f->evidence[k];
		uint32_t row = row_of(e->feature);

		if (row == ARRAY_SIZE(rows) || rows[row].kind == ROW_CONTEXT)
			continue;
		/* What all send is nothing of the source's, and what a customer spends on is his affair. */
		if (!strcmp(e->feature, "requests_per_s") && (sourced || f->watch == WATCH_COST))
			continue;
		for (uint32_t i = 0; i < l->n; i++) {
			if (l->v[i].row != row)
				continue;
			sized |= rows[row].kind == ROW_SIZE;
			if (beyond(l, i, e->observed, e->expected))
				return true;
		}
	}
	return !sized && f->score > FEEDBACK_MORE * l->score;
}

/* Mostly seen with one another, both ways: two names of one customer. */
static bool one_customer(const struct entity *a, const struct entity *b)
{
	unsigned int ka = IDENTITY_OF(a->kind), kb = IDENTITY_OF(b->kind);

	return is_identity(a) && is_identity(b) && ka != kb && a->mate[kb] == (uint32_t)b->hash && b->mate[ka] == (uint32_t)a->hash && entity_linked(a, b);
}

static bool same_scope(const struct detect *d, const struct label *l, const struct finding *f)
{
	const struct entity *e = f->scope == NOBODY ? NULL : at(d, f->scope);

	if (!e || l->kind == ENTITY_GLOBAL)
		return !e && l->kind == ENTITY_GLOBAL;
	if (l->kind == (enum entity_kind)e->kind && !strncmp(l->value, e->name, ENTITY_NAME_MAX))
		return true;
	/* What a whole network may send, one of it may. */
	if (l->kind == ENTITY_NETWORK && e->net != NOBODY && !strncmp(l->value, at(d, e->net)->name, ENTITY_NAME_MAX))
		return true;
	for (unsigned int k = 0; k < f->actors; k++) {
		const struct entity *a = at(d, f->actor[k]);

		if (l->kind == (enum entity_kind)a->kind && !strncmp(l->value, a->name, ENTITY_NAME_MAX) && one_customer(a, e))
			return true;
	}
	return false;
}

static bool about(const struct detect *d, const struct label *l, const struct finding *f, bool true_positive)
{
	return l->given && l->true_positive == true_positive && l->cls == f->cls && watch_of[l->cls] == f->watch && same_scope(d, l, f);
}

bool feedback_mutes(struct detect *d, const struct finding *f, bool count)
{
	for (uint32_t i = 0; d->feedback && i < d->feedback->n; i++) {
		struct label *l = &d->feedback->v[i];

		if (!about(d, l, f, false) || more(l, f))
			continue;
		l->suppressed += count;
		l->changed |= count;
		return true;
	}
	return false;
}

bool feedback_excuses(const struct detect *d, const struct incident *k, const struct finding *f)
{
	uint32_t row = row_of("tokens_per_request");
	double observed = -1;

	if (f->watch != WATCH_COST)
		return false;
	for (size_t i = 0; i < f->evidence_count; i++)
		if (row_of(f->evidence[i].feature) == row)
			observed = f->evidence[i].observed;
	for (uint32_t i = 0; d->feedback && i < d->feedback->n && observed >= 0; i++) {
		const struct label *l = &d->feedback->v[i];

		for (uint32_t j = 0; j < l->n && about(d, l, &k->f, false); j++)
			if (l->v[j].row == row && observed <= FEEDBACK_MORE * l->v[j].observed)
				return true;
	}
	return false;
}

bool feedback_sharpens(const struct detect *d, const struct finding *f)
{
	for (uint32_t i = 0; d->feedback && i < d->feedback->n; i++)
		if (about(d, &d->feedback->v[i], f, true))
			return true;
	return false;
}

/* ---- labels ---------------------------------------------------------------------------------------- */
static bool same_behaviour(const struct label *a, const struct label *b)
{
	return a->cls == b->cls && a->kind == b->kind && !strcmp(a->value, b->value);
}

/* All labels of one behaviour at one scope together reach so far and no further. */
static void bound(const struct feedback *f, struct label *l)
{
	const struct label *first = NULL;

	for (uint32_t i = 0; i < f->n && !first; i++)
		if (&f->v[i] != l && f->v[i].given && !f->v[i].true_positive && same_behaviour(&f->v[i], l))
			first = &f->v[i];
	for (uint32_t i = 0; first && i < l->n; i++)
		for (uint32_t k = 0; k < first->n; k++)
			if (first->v[k].row == l->v[i].row && rows[l->v[i].row].kind == ROW_SIZE)
				l->v[i].observed = MIN(l->v[i].observed, first->v[k].expected + FEEDBACK_MOST * MAX(first->v[k].observed - first->v[k].expected, 0.0));
}

static void rows_take(struct label *l, const struct anomaly_evidence *e, size_t n)
{
	l->n = 0;
	for (size_t i = 0; i < n && i < ANOMALY_EVIDENCE_MAX; i++) {
		uint32_t row = e[i].feature ? row_of(e[i].feature) : ARRAY_SIZE(rows);

		if (row == ARRAY_SIZE(rows) || !isfinite(e[i].observed) || !isfinite(e[i].expected))
			continue;
		l->v[l->n].row = row;
		l->v[l->n].observed = e[i].observed;
		l->v[l->n++].expected = e[i].expected;
	}
}

int detect_label(struct detect *d, const struct detect_label *t)
{
	struct label *l;
	struct incident *in = NULL;
	bool known;

	if (d->bins)
		return -ENOSYS;
	if (!t->incident_id || !*t->incident_id || t->cls >= CLASS_COUNT || t->scope_kind >= ENTITY_KIND_COUNT || !t->scope_value || !isfinite(t->score))
		return -EINVAL;
	for (int i = 0; i < INCIDENTS_MAX; i++)
		if (d->incident[i].used && !strcmp(d->incident[i].id, t->incident_id))
			in = &d->incident[i];
	l = label_place(d, t->incident_id);
	if (!l)
		return -ENOMEM;
	/* Known from an export: its rows are those of the time at which it was first given. */
	known = l->cls == t->cls && l->true_positive == t->true_positive && l->n;
	l->given = l->changed = true;
	l->cls = t->cls;
	l->kind = t->scope_kind;
	snprintf(l->value, sizeof(l->value), "%s", t->scope_value);
	l->true_positive = t->true_positive;
	if (!known) {
		l->score = t->score;
		if (in && in->bests && in->f.cls == t->cls)
			rows_take(l, in->best, in->bests);
		else
			rows_take(l, t->evidence, t->evidence_count);
		if (!l->true_positive)
			bound(d->feedback, l);
	}
	/* The last word counts: older ones to the contrary go. */
	for (uint32_t i = d->feedback->n; i-- > 0;) {
		struct label *o = &d->feedback->v[i];

		if (o == l || !o->given || o->true_positive == l->true_positive || !same_behaviour(o, l))
			continue;
		label_drop(d->feedback, i);
		if (o < l)
			l--;
	}
	if (in && in->f.cls == t->cls) {
		if (!known)
			opinion_label(d, in, t->true_positive);
		in->confirmed = t->true_positive;
		in->dismissed = !t->true_positive && in->open && !in->muted;
	}
	return 0;
}

/* ---- kept ------------------------------------------------------------------------------------------ */
unsigned int feedback_count(const struct detect *d)
{
	return d->feedback ? d->feedback->n : 0;
}

const char *feedback_id(const struct detect *d, unsigned int n)
{
	return d->feedback->v[n].id;
}

bool feedback_changed(const struct detect *d, unsigned int n)
{
	return d->feedback->v[n].changed;
}

void feedback_exported(struct detect *d, unsigned int n)
{
	d->feedback->v[n].changed = false;
}

uint64_t feedback_suppressed(const struct detect *d, unsigned int n)
{
	return d->feedback->v[n].suppressed;
}

static void label_kept(struct blob *b, struct label *l)
{
	l->cls = (enum anomaly_class)blob_below(b, l->cls, CLASS_COUNT + 1);
	blob_bool(b, &l->true_positive);
	blob_f64(b, &l->score);
	l->n = blob_below(b, l->n, ANOMALY_EVIDENCE_MAX + 1);
	for (uint32_t i = 0; i < l->n && !b->bad; i++) {
		char name[FEATURE_NAME] = "";

		if (b->write)
			snprintf(name, sizeof(name), "%s", rows[l->v[i].row].feature);
		blob_text(b, name, sizeof(name));
		if (!b->write)
			l->v[i].row = row_of(name);
		b->bad |= l->v[i].row >= ARRAY_SIZE(rows);
		blob_f64(b, &l->v[i].observed);
		blob_f64(b, &l->v[i].expected);
	}
}

void feedback_keep(struct detect *d, unsigned int n, struct blob *b)
{
	label_kept(b, &d->feedback->v[n]);
}

int feedback_import(struct detect *d, const char *id, struct blob *b)
{
	struct label got = { .cls = CLASS_COUNT }, *l;

	label_kept(b, &got);
	if (b->bad || b->n != b->cap)
		return -EINVAL;
	l = label_place(d, id);
	if (!l)
		return -ENOMEM;
	got.suppressed = l->suppressed;
	memcpy(got.id, l->id, sizeof(got.id));
	*l = got;
	return 0;
}

int feedback_import_suppressed(struct detect *d, const char *id, uint64_t count)
{
	struct label *l = label_place(d, id);

	if (!l)
		return -ENOMEM;
	l->suppressed = count;
	return 0;
}

void feedback_free(struct detect *d)
{
	if (d->feedback)
		free(d->feedback->v);
	free(d->feedback);
	d->feedback = NULL;
}
