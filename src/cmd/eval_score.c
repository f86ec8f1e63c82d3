/* From incidents and labels to counts by unit. */
#include "cmd/eval_score.h"

#include <math.h>

#define DAY_S 86400.0

struct span_s { /* of time */
	double from, to;
};

/* What all incidents together said of one label. */
struct outcome {
	const struct eval_label *label;
	bool truth; /* it began after the warm-up, so it counts */
	bool right_opened, right, direct, loud, attack, named, exact;
	uint32_t opens, right_opens;
	double hit, right_at;
	double picked_t, side_t; /* of the earliest that was wrong; that was collateral */
	int picked, side;
	uint32_t wrong[EVAL_MODES]; /* classes that were counted as wrong here, one bit each */
};

struct scoring {
	const struct eval_opts *opts;
	struct eval_result *ret;
	struct eval_counts *unit;
	struct eval_waits waits[EVAL_DELAYS];
	double unit_s;
	size_t units; /* laid out so far */
};

/* One stream under way. */
struct course {
	const struct eval_stream *s;
	double warm, end;
	size_t first_unit, units;
	const struct eval_label **label; /* that end after the warm-up */
	size_t labels;
	struct outcome *outcome; /* one for each */
	struct span_s *span;	 /* known ones, then false alarms */
	size_t known, spans;
};

static bool kept(const struct eval_label *l, enum eval_mode mode)
{
	return mode != EVAL_TOLD_3X || l->intensity >= EVAL_STRONG;
}

static int wait_add(struct eval_waits *w, double s, size_t unit)
{
	if (w->n == w->cap) {
		size_t cap = w->cap ? w->cap * 2 : 32;
		struct eval_wait *v = reallocarray(w->v, cap, sizeof(*v));

		if (!v)
			return -ENOMEM;
		w->v = v;
		w->cap = cap;
	}
	w->v[w->n++] = (struct eval_wait){ s, (uint32_t)unit };
	return 0;
}

static int by_seconds(const void *a, const void *b)
{
	double x = ((const struct eval_wait *)a)->s, y = ((const struct eval_wait *)b)->s;

	return (x > y) - (x < y);
}

static int by_start(const void *a, const void *b)
{
	double x = ((const struct span_s *)a)->from, y = ((const struct span_s *)b)->from;

	return (x > y) - (x < y);
}

/* Seconds that the spans cover together between from and to. `work` has room for n. */
static double covered(const struct span_s *span, size_t n, double from, double to, struct span_s *work)
{
	double sum = 0, until = from;
	size_t m = 0;

	for (size_t i = 0; i < n; i++) {
		struct span_s s = { MAX(span[i].from, from), MIN(span[i].to, to) };

		if (s.to > s.from)
			work[m++] = s;
	}
	if (m)
		qsort(work, m, sizeof(*work), by_start);
	for (size_t i = 0; i < m; i++) {
		if (work[i].to <= until)
			continue;
		sum += work[i].to - MAX(work[i].from, until);
		until = work[i].to;
	}
	return sum;
}

/* ---- time ------------------------------------------------------------------------------------------- */

static void bounds(const struct eval_stream *s, const struct eval_opts *o, double *ret_warm, double *ret_end)
{
	double first = INFINITY, last = -INFINITY, warmup = o->warmup_s;

	for (size_t i = 0; i < s->labels; i++) {
		first = MIN(first, s->label[i].start);
		last = MAX(last, s->label[i].end);
	}
	for (size_t i = 0; i < s->incidents; i++) {
		first = MIN(first, s->incident[i].t);
		last = MAX(last, s->incident[i].t);
	}
	if (isnan(warmup))
		warmup = isnan(s->warmup) ? 0 : s->warmup;
	*ret_warm = (!isnan(s->start) ? s->start : isinf(first) ? 0 : first) + warmup;
	*ret_end = !isnan(s->end) ? s->end : isinf(last) ? 0 : last;
}

static size_t unit_at(const struct scoring *sc, const struct course *c, double t)
{
	double k = sc->unit_s > 0 ? floor((t - c->warm) / sc->unit_s) : 0;

	return c->first_unit + (k <= 0 ? 0 : MIN((size_t)k, c->units - 1));
}

static size_t units_of(double warm, double end, double unit_s)
{
	return unit_s > 0 && end > warm ? (size_t)MAX(1, ceil((end - warm) / unit_s)) : 1;
}

/* Stretches of a size that people have a word for. */
static double unit_length(double total_s)
{
	static const double nice[] = { 86400, 43200, 21600, 7200, 3600, 1800, 600 };

	for (size_t i = 0; i < ARRAY_SIZE(nice); i++)
		if (total_s >= nice[i] * EVAL_STRETCHES)
			return MAX(nice[i], total_s / EVAL_STRETCHES_MAX); /* labels in the year 30,000 cost no more than others */
	return 600;
}

/* ---- one stream ------------------------------------------------------------------------------------- */

static struct outcome *outcome_of(const struct course *c, const struct eval_label *l)
{
	for (size_t i = 0; l && i < c->labels; i++)
		if (c->label[i] == l)
			return &c->outcome[i];
	return NULL;
}

static void wrong_here(struct scoring *sc, const struct course *c, struct outcome *o, int cls, enum eval_mode mode)
{
	if (!eval_is_scored(cls) || !kept(o->label, mode) || o->wrong[mode] & (1u << cls))
		return;
	o->wrong[mode] |= 1u << cls;
	sc->unit[unit_at(sc, c, o->label->start)].fp[mode][cls]++;
}

static void take_opened(struct scoring *sc, const struct course *c, const struct eval_incident *in)
{
	struct eval_ruling r = eval_judge(in, in->opened, c->label, c->labels);
	struct outcome *o = outcome_of(c, r.label);

	if (r.verdict == EVAL_RIGHT)
		o->right_opened = true;
	else if (r.verdict == EVAL_WRONG)
		wrong_here(sc, c, o, in->opened, EVAL_OPENED);
	else if (r.verdict == EVAL_FALSE && eval_is_scored(in->opened))
		sc->unit[unit_at(sc, c, in->t)].fp[EVAL_OPENED][in->opened]++;
}

static void take_false(struct scoring *sc, struct course *c, const struct eval_incident *in, const struct eval_label *cause)
{
	struct eval_counts *u = &sc->unit[unit_at(sc, c, in->t)];
	int cls = in->final;

	u->false_all++;
	u->false_opens[MAX(in->severity, 0)]++;
	if (in->severity >= SEVERITY_WARNING)
		c->span[c->spans++] = (struct span_s){ in->t, isnan(in->end) ? c->end : in->end };
	if (eval_is_scored(cls)) {
		u->fp[EVAL_TOLD][cls]++;
		u->fp[EVAL_TOLD_3X][cls]++;
	}
	if (cause)
		sc->ret->false_by_cause[cause->cls]++;
	sc->ret->confusion[EVAL_SCORED][cls]++;
}

static void take_right(struct outcome *o, const struct eval_incident *in)
{
	o->right = o->direct = true;
	o->right_opens++;
	if (!o->label->scoped)
		return;
	if (o->label->global) {
		o->exact |= eval_is_global(in);
		o->named |= eval_is_global(in) || eval_is_about(in, o->label);
	} else {
		o->exact |= eval_names_have(&in->scopes, o->label->scope.kind, o->label->scope.value);
		o->named |= eval_is_about(in, o->label);
	}
}

static void take_told(struct scoring *sc, struct course *c, const struct eval_incident *in)
{
	struct eval_ruling r = eval_judge(in, in->final, c->label, c->labels);
	struct outcome *o = outcome_of(c, r.label);

	switch (r.verdict) {
	case EVAL_FALSE:
		take_false(sc, c, in, r.label);
		return;
	case EVAL_NATURAL:
		sc->unit[unit_at(sc, c, in->t)].natural++;
		return;
	case EVAL_ACCEPTED:
		sc->unit[unit_at(sc, c, in->t)].accepted++;
		return;
	case EVAL_RIGHT:
		take_right(o, in);
		break;
	case EVAL_COLLATERAL:
		if (in->t < o->side_t) {
			o->side_t = in->t;
			o->side = in->final;
		}
		break;
	case EVAL_WRONG:
	case EVAL_VAGUE:
		o->direct = true;
		if (in->t < o->picked_t) {
			o->picked_t = in->t;
			o->picked = in->final;
		}
		if (r.verdict == EVAL_VAGUE)
			break;
		o->attack |= in->severity >= SEVERITY_WARNING;
		wrong_here(sc, c, o, in->final, EVAL_TOLD);
		wrong_here(sc, c, o, in->final, EVAL_TOLD_3X);
		break;
	}
	o->opens++;
	o->hit = MIN(o->hit, in->t);
	/* The right word counts from when it was said, also by an incident that thought better of it. */
	for (size_t i = 0; i < in->turns; i++)
		if (in->turn[i].cls == o->label->cls)
			o->right_at = MIN(o->right_at, in->turn[i].t);
	o->loud |= in->severity >= SEVERITY_WARNING;
}

static int settle_delays(struct scoring *sc, const struct outcome *o, size_t unit)
{
	const struct eval_label *l = o->label;
	double any = MAX(0.0, o->hit - l->start), right = MAX(0.0, o->right_at - l->start);
	int r = wait_add(&sc->waits[EVAL_DELAY_ANY], any, unit);

	if (r == 0 && (l->cls == CLASS_FLOOD || l->cls == CLASS_DDOS) && l->intensity >= EVAL_STRONG)
		r = wait_add(&sc->waits[EVAL_DELAY_VOLUME], any, unit);
	if (r < 0 || !o->right)
		return r;
	r = wait_add(&sc->waits[EVAL_DELAY_RIGHT], right, unit);
	if (r == 0)
		r = wait_add(&sc->waits[EVAL_DELAY_CLASS + l->cls], right, unit);
	if (r == 0 && !eval_is_drift(l->cls))
		r = wait_add(&sc->waits[EVAL_DELAY_RIGHT_FAST], right, unit);
	return r;
}

/* All incidents are in: what the label comes to. */
static int settle(struct scoring *sc, const struct course *c, const struct outcome *o)
{
	const struct eval_label *l = o->label;
	size_t unit = unit_at(sc, c, l->start);
	struct eval_counts *u = &sc->unit[unit];

	/* The judge's scorer counts these also where the label began inside the warm-up, and so do we. */
	u->hits += o->opens > 0;
	u->hits_direct += o->direct;
	u->opens += o->opens;
	u->right_opens += o->right_opens;
	u->right_hits += o->right_opens > 0;
	if (!o->truth)
		return 0;
	u->truth++;
	for (enum eval_mode m = 0; m < EVAL_MODES; m++) {
		if (kept(l, m)) {
			u->labels[m][l->cls]++;
			u->tp[m][l->cls] += m == EVAL_OPENED ? o->right_opened : o->right;
		}
	}
	sc->ret->confusion[l->cls][!o->opens ? EVAL_CLASSES_MAX : o->right ? l->cls : o->picked >= 0 ? o->picked : o->side]++;
	u->crowds_as_attack += l->cls == CLASS_FLASH_CROWD && o->attack;
	if (!o->opens)
		return 0;
	u->only_info += !o->loud && !l->benign;
	if (o->right && l->scoped) {
		u->scoped++;
		u->named += o->named;
		u->exact += o->exact;
	}
	return settle_delays(sc, o, unit);
}

static int course_begin(struct course *c, const struct eval_stream *s)
{
	c->s = s;
	c->label = calloc(s->labels + 1, sizeof(*c->label));
	c->outcome = calloc(s->labels + 1, sizeof(*c->outcome));
	c->span = calloc(s->labels + s->incidents + 1, sizeof(*c->span));
	if (!c->label || !c->outcome || !c->span)
		return -ENOMEM;
	for (size_t i = 0; i < s->labels; i++) {
		const struct eval_label *l = &s->label[i];

		if (l->end <= c->warm)
			continue;
		c->outcome[c->labels] = (struct outcome){
			.label = l, .truth = eval_is_scored(l->cls) && l->start >= c->warm, .hit = INFINITY, .right_at = INFINITY,
			.picked_t = INFINITY, .side_t = INFINITY, .picked = -1, .side = -1,
		};
		c->label[c->labels++] = l;
		if (eval_is_scored(l->cls))
			c->span[c->spans++] = (struct span_s){ eval_window_start(l), eval_window_end(l) };
	}
	c->known = c->spans;
	return 0;
}

static int settle_time(struct scoring *sc, const struct course *c)
{
	struct span_s *work = calloc(c->spans + 1, sizeof(*work));

	if (!work)
		return -ENOMEM;
	for (size_t i = 0; i < c->units; i++) {
		struct eval_counts *u = &sc->unit[c->first_unit + i];
		double from = c->warm + (double)i * sc->unit_s, to = i + 1 == c->units ? c->end : from + sc->unit_s;
		double known = covered(c->span, c->known, from, to, work);

		u->days = (to - from) / DAY_S;
		u->quiet_s = to - from - known;
		u->alarm_s = covered(c->span, c->spans, from, to, work) - known;
	}
	free(work);
	return 0;
}

static int score_stream(struct scoring *sc, const struct eval_stream *s)
{
	struct course c = { .first_unit = sc->units };
	int r;

	bounds(s, sc->opts, &c.warm, &c.end);
	c.units = units_of(c.warm, c.end, sc->unit_s);
	sc->units += c.units;
	r = course_begin(&c, s);
	for (size_t i = 0; r == 0 && i < s->incidents; i++) {
		const struct eval_incident *in = &s->incident[i];

		if (in->t < c.warm)
			continue;
		sc->unit[unit_at(sc, &c, in->t)].info += in->severity == SEVERITY_INFO;
		if (in->severity < SEVERITY_WARNING && in->final != CLASS_FLASH_CROWD)
			continue;
		take_opened(sc, &c, in);
		take_told(sc, &c, in);
	}
	for (size_t i = 0; r == 0 && i < c.labels; i++)
		if (eval_is_scored(c.outcome[i].label->cls))
			r = settle(sc, &c, &c.outcome[i]);
	if (r == 0)
		r = settle_time(sc, &c);
	free(c.label);
	free(c.outcome);
	free(c.span);
	sc->ret->bad_lines += s->bad_lines;
	sc->ret->names_left_out += s->names_left_out;
	return r;
}

/* ---- all of them ------------------------------------------------------------------------------------ */

static int lay_out(struct scoring *sc, const struct eval_stream *stream, size_t n)
{
	double warm, end, total = 0;
	size_t units = 0;

	for (size_t i = 0; i < n; i++) {
		bounds(&stream[i], sc->opts, &warm, &end);
		total += MAX(0.0, end - warm);
	}
	sc->unit_s = n >= EVAL_UNITS_MIN ? 0 : unit_length(total);
	for (size_t i = 0; i < n; i++) {
		bounds(&stream[i], sc->opts, &warm, &end);
		units += units_of(warm, end, sc->unit_s);
	}
	if (units > UINT32_MAX / sizeof(*sc->unit))
		return -E2BIG;
	sc->unit = calloc(units + 1, sizeof(*sc->unit));
	return sc->unit ? 0 : -ENOMEM;
}

static void counts_add(struct eval_counts *to, const struct eval_counts *from)
{
	double *a = (double *)to;
	const double *b = (const double *)from;

	for (size_t i = 0; i < sizeof(*to) / sizeof(double); i++)
		a[i] += b[i];
}

int eval_score(const struct eval_stream *stream, size_t n, const struct eval_opts *opts, struct eval_result *ret)
{
	struct scoring sc = { .opts = opts, .ret = ret };
	int r;

	*ret = (struct eval_result){ .streams = n };
	r = lay_out(&sc, stream, n);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = score_stream(&sc, &stream[i]);
	for (int k = 0; k < EVAL_DELAYS; k++)
		if (sc.waits[k].n)
			qsort(sc.waits[k].v, sc.waits[k].n, sizeof(*sc.waits[k].v), by_seconds);
	if (r == 0) {
		ret->units = sc.units;
		ret->unit_s = sc.unit_s;
		for (size_t i = 0; i < sc.units; i++)
			counts_add(&ret->counts, &sc.unit[i]);
		eval_figures_of(&ret->counts, sc.waits, NULL, &ret->value);
		r = eval_bootstrap(sc.unit, sc.waits, opts, ret);
	}
	for (int k = 0; k < EVAL_DELAYS; k++)
		free(sc.waits[k].v);
	free(sc.unit);
	return r;
}
