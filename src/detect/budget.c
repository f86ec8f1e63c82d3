#include "detect/budget.h"

#include "detect/blob.h"
#include "detect/engine.h"
#include "detect/tail.h"

#define RUNS 256      /* findings followed at once; of more, those not reported for longest make room */
#define NEEDS_MAX 20  /* reports in a row: CROWD_NEEDS is the most that any finding asks for */
#define HOUR_S 3600
#define WEEK_H 168.0

struct run {
	enum watch watch;
	uint32_t scope;
	int32_t last;
	uint8_t n, next;
	float strength[NEEDS_MAX];
};

struct budget {
	double bar, alarms_per_week;
	struct tail tail; /* of peaks, above LEAVE_FACTOR */
	double hours, peaks; /* seen, and with a peak; decayed */
	float most;	  /* of the hour under way */
	int32_t hour;
	struct run run[RUNS];
};

int budget_open(double sensitivity, double alarms_per_week, struct budget **ret)
{
	static const struct tail_opts prior = { .share = BUDGET_SHARE, .half_life = BUDGET_PEAKS, .threshold = BUDGET_THRESHOLD, .excess = BUDGET_EXCESS };
	struct budget *b = calloc(1, sizeof(*b));

	if (!b)
		return -ENOMEM;
	b->bar = sensitivity > 0 ? 1 / sensitivity : 1;
	b->alarms_per_week = alarms_per_week;
	tail_init(&b->tail, &prior);
	*ret = b;
	return 0;
}

double budget_bar(const struct budget *b)
{
	return b->bar;
}

double budget_held(struct budget *b, const struct finding *f, int32_t tick)
{
	struct run *r = NULL, *oldest = &b->run[0];
	unsigned int needs = MAX(1u, MIN((unsigned int)f->needs, (unsigned int)NEEDS_MAX));
	float least;

	/* What detectors hold back whatever its size would not ring at any bar. */
	if (f->severity < SEVERITY_WARNING || f->strength < LEAVE_FACTOR || f->strength == FEEDBACK_CAPPED)
		return 0;
	if (needs == 1)
		return f->strength;
	for (int i = 0; i < RUNS && !r; i++) {
		struct run *k = &b->run[i];

		if (k->n && k->watch == f->watch && k->scope == f->scope)
			r = k;
		else if (!k->n || (oldest->n && k->last < oldest->last))
			oldest = k;
	}
	if (!r || tick - r->last > STEP_S * 3 / 2) {
		r = r ? r : oldest;
		*r = (struct run){ .watch = f->watch, .scope = f->scope };
	}
	r->last = tick;
	r->strength[r->next] = (float)f->strength;
	r->next = (uint8_t)((r->next + 1) % NEEDS_MAX);
	r->n = (uint8_t)MIN(r->n + 1, NEEDS_MAX);
	if (r->n < needs)
		return 0;
	least = (float)f->strength;
	for (unsigned int i = 1; i <= needs; i++)
		least = MIN(least, r->strength[(r->next + NEEDS_MAX - i) % NEEDS_MAX]);
	return (double)least;
}

void budget_peak(struct budget *b, double strength, int32_t tick)
{
	budget_roll(b, tick);
	b->most = MAX(b->most, (float)MIN(strength, BUDGET_PEAK_MAX));
}

static void move_bar(struct budget *b)
{
	double bar = b->alarms_per_week > 0 ? budget_bar_for(b, b->alarms_per_week) : 0;

	if (bar > 0)
		b->bar = bar;
}

static void hour_over(struct budget *b)
{
	double keep = exp2(-1 / BUDGET_HOURS);

	b->hours = b->hours * keep + 1;
	b->peaks *= keep;
	if (b->most > 0) {
		b->peaks++;
		tail_add(&b->tail, MAX((double)b->most - LEAVE_FACTOR, 0.0));
	}
	b->most = 0;
	move_bar(b);
}

void budget_roll(struct budget *b, int32_t tick)
{
	for (; b->hour < tick / HOUR_S; b->hour++)
		if (b->hour >= BUDGET_LEARN_H)
			hour_over(b);
		else
			b->most = 0;
}

double budget_bar_for(const struct budget *b, double alarms_per_week)
{
	double week, bar;

	if (b->hours < BUDGET_KNOWN_H || !(alarms_per_week > 0))
		return 0;
	/* One more than was seen: that none came in a day does not say that none will in a week. */
	week = WEEK_H * MIN((b->peaks + 1) / (b->hours + 1), 1.0);
	bar = week <= alarms_per_week ? BUDGET_LEAST : LEAVE_FACTOR + tail_quantile(&b->tail, alarms_per_week / week);
	return MAX(BUDGET_LEAST, MIN(bar, BUDGET_MOST));
}

void budget_keep(struct budget *b, struct blob *to)
{
	struct tail *t = &b->tail, was = *t;
	double hours = b->hours, peaks = b->peaks;

	blob_f32(to, &t->threshold);
	blob_f32(to, &t->prior);
	blob_f32(to, &t->seen);
	blob_f32(to, &t->above);
	blob_f32(to, &t->shape);
	blob_f32(to, &t->scale);
	blob_f32s(to, t->ring, TAIL_EXCESSES);
	blob_u16(to, &t->used);
	blob_u16(to, &t->next);
	blob_f64(to, &hours);
	blob_f64(to, &peaks);
	if (to->write)
		return;
	to->bad |= to->n != to->cap || t->used > TAIL_EXCESSES || t->next >= TAIL_EXCESSES || !(t->threshold > 0) || !(t->prior > 0) || !(t->scale > 0) || !(t->shape >= 0 && t->shape < 1) ||
		   !(t->seen >= 0) || !(t->above >= 0) || !(peaks >= 0) || !(hours >= 0);
	if (to->bad) {
		*t = was;
		return;
	}
	b->hours = hours;
	b->peaks = peaks;
	move_bar(b);
}

void budget_resume(struct budget *b, int32_t tick)
{
	b->hour = MAX(tick, 0) / HOUR_S;
}
