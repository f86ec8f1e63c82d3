/*
 * plan.h - draws a stream: which site, how long, how it is written, and what happens when.
 */
#ifndef LAB_PLAN_H
#define LAB_PLAN_H

#include "benign.h"

struct lab_opts {
	uint64_t seed;
	const char *kind, *profile, *only; /* only: events of one class (for tests and demos) */
	double days, rate, records, start;  /* 0: drawn; records: about so many at most */
	bool live;                          /* to be sent for real, from loopback addresses */
	const char (*model)[40];            /* the names of a real server's models */
	int model_n;                        /* 0: drawn */
};

/* ---- how a site is seen -------------------------------------------------------------------------------------- */
static const struct profile {
	const char *name;
	int weight, lacks; /* HAS_… that are not there */
	enum order order;
	enum format format;
	bool gateway;
} lab_profiles[] = {
	{ "full", 22, 0, ORDER_ARRIVAL, FMT_JSONL, false },
	{ "agent", 10, HAS_ID | HAS_USER | HAS_RETRY, ORDER_ARRIVAL, FMT_JSONL, false },
	{ "completion", 12, HAS_ID, ORDER_COMPLETION, FMT_JSONL, false },
	{ "shuffled", 8, HAS_ID | HAS_SERVER, ORDER_SHUFFLED, FMT_JSONL, false },
	{ "gateway", 9, HAS_SERVER, ORDER_ARRIVAL, FMT_JSONL, true },
	{ "gateway-users", 4, HAS_KEY | HAS_SERVER, ORDER_COMPLETION, FMT_JSONL, true },
	{ "nokeys", 9, HAS_KEY | HAS_USER, ORDER_ARRIVAL, FMT_JSONL, false },
	{ "blind", 6, HAS_PROMPT | HAS_USER, ORDER_ARRIVAL, FMT_JSONL, false },
	{ "csv", 6, HAS_SERVER | HAS_ID | HAS_RETRY, ORDER_COMPLETION, FMT_CSV, false },
	{ "five", 7, HAS_ALL, ORDER_ARRIVAL, FMT_CSV, false },
	{ "slim", 5, HAS_PROMPT | HAS_LIMIT | HAS_AGENT | HAS_CACHED | HAS_STREAM | HAS_USER | HAS_SERVER | HAS_ID | HAS_RETRY, ORDER_ARRIVAL, FMT_JSONL, false },
	{ "nolatency", 5, HAS_LATENCY | HAS_DURATION | HAS_SERVER, ORDER_ARRIVAL, FMT_JSONL, false },
};
#define LAB_PROFILES ((int)(sizeof(lab_profiles) / sizeof(lab_profiles[0])))

static inline int profile_draw(struct lab *lab, const struct lab_opts *o)
{
	const struct profile *p = NULL;
	int sum = 0, u;

	for (int i = 0; i < LAB_PROFILES; i++)
		sum += lab_profiles[i].weight;
	u = rnd_int(&lab->r, sum);
	for (int i = 0; i < LAB_PROFILES; i++)
		if (o->profile ? !strcmp(o->profile, lab_profiles[i].name) : (u -= lab_profiles[i].weight) < 0) {
			p = &lab_profiles[i];
			break;
		}
	if (!p)
		return -EINVAL;
	lab->has = HAS_ALL & ~p->lacks;
	lab->order = p->order;
	lab->format = p->format;
	lab->gateway = p->gateway;
	if (rnd_chance(&lab->r, 0.4))
		lab->has &= ~HAS_ID;
	if (rnd_chance(&lab->r, 0.3))
		lab->has &= ~HAS_SERVER;
	if (rnd_chance(&lab->r, 0.3) && (lab->has & HAS_KEY))
		lab->has &= ~HAS_USER;
	lab->rfc3339 = rnd_chance(&lab->r, 0.15);
	if (o->live) { /* the meter's keys are hashes that only it knows: people are named by their addresses */
		lab->has = HAS_ALL & ~(HAS_KEY | HAS_USER);
		lab->order = ORDER_ARRIVAL;
		lab->loopback = true;
		lab->gateway = false;
	}
	lab->thin_names = p->lacks == HAS_ALL && rnd_chance(&lab->r, 0.3);
	lab->v6 = rnd_chance(&lab->r, 0.3) && !o->live ? rnd_range(&lab->r, 0.05, 0.9) : 0;
	return 0;
}

/* ---- what happens ---------------------------------------------------------------------------------------------- */
static inline bool possible(const struct lab *lab, int needs)
{
	return (lab->has & needs) == needs;
}

/* Shuffled classes, so that none is rare; refilled when empty. */
struct deck {
	int card[LAB_ATTACKS + LAB_BENIGNS + 8], n;
};

static inline int deck_draw(struct lab *lab, struct deck *d, int of)
{
	int i, c;

	if (!d->n)
		for (d->n = 0; d->n < of; d->n++)
			d->card[d->n] = d->n;
	i = rnd_int(&lab->r, d->n);
	c = d->card[i];
	d->card[i] = d->card[--d->n];
	return c;
}

static inline double intensity_draw(struct lab *lab, const struct attack *a)
{
	static const double grid[] = { 1.5, 2, 3, 5, 10 };
	double x = rnd_chance(&lab->r, 0.5) ? grid[rnd_int(&lab->r, 5)] : rnd_log(&lab->r, 1.5, 10);

	if (a->x_most <= 3)
		return rnd_range(&lab->r, a->x_least, a->x_most);
	return x < a->x_least ? a->x_least : x > a->x_most ? a->x_most : x;
}

static inline double length_draw(struct lab *lab, const struct attack *a, double most)
{
	most = a->longest < most ? a->longest : most;
	return most > a->shortest ? rnd_log(&lab->r, a->shortest, most) : a->shortest;
}

static inline bool near_label(const struct lab *lab, const char *cls, double t, double apart)
{
	for (int i = 0; i < lab->label_n; i++)
		if (!strcmp(lab->label[i].cls, cls) && t < lab->label[i].end + apart && t > lab->label[i].start - apart)
			return true;
	return false;
}

/* Now and then the hour is chosen: the deepest night or the highest noon within reach. */
static inline double hour_pick(struct lab *lab, double t, double reach)
{
	double best = t, value = lab_mean(lab, t, t + 600), sign = rnd_chance(&lab->r, 0.5) ? 1 : -1;

	if (reach < 3 * 3600 || rnd_chance(&lab->r, 0.75))
		return t;
	for (int i = 1; i <= 24; i++) {
		double at = t + (reach < 86400 ? reach : 86400) * i / 24, v = lab_mean(lab, at, at + 600);

		if (v * sign > value * sign) {
			value = v;
			best = at;
		}
	}
	return best;
}

/* Whoever did the last thing does something else now. */
static inline double plan_turn(struct lab *lab, const char *was, int src, double t, double gap)
{
	const struct attack *next;
	double length, end;
	int labels = lab->label_n;

	if (!strcmp(was, "flood"))
		next = &lab_attacks[attack_find("ddos")];
	else
		next = &lab_attacks[attack_find(!strcmp(was, "scraping") ? "prompt_probing" : "scraping")];
	if (!possible(lab, next->needs) || src >= lab->src_n)
		return t;
	length = length_draw(lab, next, gap);
	if (t + length > lab->len - 60)
		return t;
	lab->reuse = lab->src[src].who;
	lab->reuse_n = strcmp(was, "flood") ? lab->src[src].who_n : 0;
	end = next->place(lab, 0, t, length, intensity_draw(lab, next));
	lab->reuse_n = 0;
	if (end < 0) {
		lab->label_n = labels;
		return t;
	}
	return end;
}

static inline void plan_attacks(struct lab *lab, const struct lab_opts *o, double first, int n)
{
	struct deck deck = { .n = 0 };
	double t = first, gap = (lab->len - first) / n;

	for (int i = 0; i < n * 3 && t < lab->len - 60; i++) {
		int c = o->only ? attack_find(o->only) : deck_draw(lab, &deck, LAB_ATTACKS);
		const struct attack *a = &lab_attacks[c];
		bool drift = !strcmp(a->name, "token_growth");
		double length = length_draw(lab, a, drift ? lab->len - t - 600 : gap * 0.9), end;
		int variant = variant_pick(lab, a), labels = lab->label_n, src = lab->src_n;

		if (!possible(lab, a->needs) || (drift && (near_label(lab, a->name, t, 7200) || t + 7200 > lab->len)))
			continue;
		if (i && !drift)
			t = hour_pick(lab, t, gap);
		if (t + length > lab->len - 30)
			length = lab->len - 30 - t;
		if (length < 30)
			break;
		end = a->place(lab, variant, t, length, intensity_draw(lab, a));
		if (end < 0) {
			lab->label_n = labels;
			continue;
		}
		if (!o->only && (!strcmp(a->name, "prompt_probing") || !strcmp(a->name, "scraping") || !strcmp(a->name, "flood")) && rnd_chance(&lab->r, 0.12))
			end = plan_turn(lab, a->name, src, end, gap * 0.5);
		if (end > lab->len)
			for (int k = labels; k < lab->label_n; k++)
				if (lab->label[k].end > lab->len)
					lab->label[k].end = lab->len;
		if (drift) /* others happen while it lasts */
			t += gap * rnd_range(&lab->r, 0.1, 0.4);
		else if (rnd_chance(&lab->r, 0.07)) /* two at once */
			t += (end - t) * rnd_range(&lab->r, 0.2, 0.7);
		else
			t = end + 240 + gap * rnd_exp(&lab->r) * 0.6;
	}
}

static inline void plan_benign(struct lab *lab, double first, int n)
{
	struct deck deck = { .n = 0 };
	double t = first, gap = (lab->len - first) / (n + 1);

	for (int i = 0; i < n * 2 && t < lab->len - 600; i++) {
		const struct benign *b = &lab_benigns[deck_draw(lab, &deck, LAB_BENIGNS)];
		double length = b->longest < lab->len / 4 ? b->longest : lab->len / 4, end;

		if ((b->held && !lab->test) || !possible(lab, b->needs) || length < b->shortest)
			continue;
		length = rnd_log(&lab->r, b->shortest, length);
		if (t + length > lab->len)
			break;
		end = b->place(lab, t, length);
		if (end < 0)
			continue;
		t += gap * rnd_range(&lab->r, 0.5, 1.5);
	}
}

/* Customers whose own traffic jumps, and stays there: marked, since it is real and nobody did it. */
static inline void plan_natural(struct lab *lab)
{
	for (int k = 0; k < lab->customers; k++) {
		struct source *s = &lab->src[k];
		double until = -1;

		if (!s->rate)
			continue;
		for (int b = 3; b + 3 < lab->bins; b++) {
			double before = 0, after = 0, all, t = b * LAB_STEP_S;
			int lo = b < 6 ? 0 : b - 6;

			for (int i = lo; i < b; i++)
				before += (double)s->rate[i] / (b - lo);
			for (int i = b; i < b + 3; i++)
				after += s->rate[i] / 3;
			all = lab_mean(lab, t, t + 1);
			if ((after < before * 1.9 && after > before / 1.9) || fabs(after - before) < all * 0.04 || fabs(after - before) * 600 < 30)
				continue;
			if (t - LAB_STEP_S <= until) {
				lab->label[lab->label_n - 1].end = t + 2400;
			} else {
				struct label *l = label_new(lab, "natural_shift", after > before ? "a customer grows by itself" : "a customer shrinks by itself", t - LAB_STEP_S, t + 2400, before > 0 ? (after > before ? after / before : before / (after + 1e-9)) : 10);

				l->intensity = l->intensity > 1000 ? 1000 : l->intensity;
				l->benign = true;
				label_about(lab, l, s, s->who, s->who_n);
			}
			until = t + 2400;
		}
	}
}

static inline int label_order(const void *a, const void *b)
{
	const struct label *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

/* Days that are not like others: the clock's change, weekends. */
static inline void plan_calendar_days(struct lab *lab)
{
	if (lab->dst_at < lab->len) {
		struct label *l = benign_label(lab, "dst_shift", "the clocks change: everything comes an hour earlier", lab->dst_at, fmin(lab->len, lab->dst_at + 2 * 86400), 1, "\"traffic_drop\",\"flash_crowd\"", "info");

		label_scope(l, "global", "");
	}
	for (double t = 0; t < lab->len; t += 3600) {
		double clock = (lab->epoch + t) / 3600 + lab->zone;
		struct label *l;

		if (fmod(floor(clock / 24) + 4, 7) != 6 || fmod(floor(clock), 24) != 0)
			continue;
		l = benign_label(lab, "weekend", "Saturday and Sunday", t, fmin(lab->len, t + 2 * 86400), 1, "", "");
		label_scope(l, "global", "");
	}
}

/* ---- the whole -------------------------------------------------------------------------------------------------- */
static inline int lab_plan(struct lab *lab, const struct lab_opts *o)
{
	struct rnd *r = &lab->r;
	double records = o->records > 0 ? o->records : 550000;
	bool cold, clean, hard;

	memset(lab, 0, sizeof(*lab));
	lab->seed = o->seed;
	lab->r.s = mix64(o->seed ^ 0x77656972u);
	lab->salt = rnd_u64(r);
	snprintf(lab->kind, sizeof(lab->kind), "%s", o->kind ? o->kind : o->seed >= 1000 ? "test" : "tune");
	lab->test = o->seed >= 1000;
	cold = !strcmp(lab->kind, "cold");
	clean = !strcmp(lab->kind, "clean");
	hard = !strcmp(lab->kind, "hard");
	if (!cold && !clean && !hard && strcmp(lab->kind, "tune") != 0 && strcmp(lab->kind, "test") != 0)
		return -EINVAL;
	if (!strcmp(lab->kind, lab->test ? "tune" : "test"))
		return -ERANGE;
	if (profile_draw(lab, o) < 0 || (o->only && attack_find(o->only) < 0) || o->days < 0 || o->rate < 0 || o->rate > 10000 || o->days > 400)
		return -EINVAL;
	lab->mean_rate = o->rate > 0 ? o->rate : clean ? rnd_log(r, 0.3, 1) : rnd_log(r, 0.3, 40);
	lab->len = o->days > 0 ? o->days * 86400 : cold ? rnd_log(r, 6 * 3600, 86400) : clean ? 7 * 86400 : hard ? rnd_log(r, 2 * 86400, 14 * 86400) : rnd_log(r, 4 * 3600, 14 * 86400);
	if (lab->len * lab->mean_rate > records * 0.75) { /* one of the two gives way */
		if ((rnd_chance(r, 0.5) && o->days <= 0 && !clean && !hard) || o->rate > 0)
			lab->len = records * 0.75 / lab->mean_rate;
		if (lab->len < 3 * 3600 && o->days <= 0)
			lab->len = 3 * 3600;
		if (lab->len * lab->mean_rate > records * 0.75)
			lab->mean_rate = records * 0.75 / lab->len;
	}
	lab->bins = (int)(lab->len / LAB_STEP_S) + 2;
	lab->epoch = 1767225600 + floor(rnd_range(r, 0, 300)) * 86400 + rnd_int(r, 24) * 3600 + rnd_int(r, 3600);
	if (o->start > 0)
		lab->epoch = o->start;
	lab->zone = rnd_int(r, 20) - 9;
	lab->dst_at = hard && lab->len > 2 * 86400 && rnd_chance(r, 0.5) ? floor(lab->len / 2 / 86400) * 86400 : LAB_NEVER;
	lab->open = rnd_chance(r, 0.2) && !lab->gateway;
	lab->warmup = cold ? 0 : lab->len < 86400 ? lab->len * 0.2 : lab->len < 4 * 86400 ? 0.25 * lab->len : 86400 + 86400 * rnd_int(r, 2);
	lab->warmup = floor(lab->warmup);
	if (rnd_chance(r, 0.2) && lab->format == FMT_JSONL && lab->order == ORDER_ARRIVAL && !o->live)
		lab->lossy = fmax(lab->mean_rate * rnd_range(r, 2, 6), rnd_log(r, 6, 40));
	for (int i = 0; i < LAB_GATEWAYS; i++)
		lab->gateways[i] = 0x0a010000u + (uint64_t)i + 1;
	models_draw(lab);
	if (o->model_n) {
		lab->model_n = lab->model_n < o->model_n ? lab->model_n : o->model_n;
		for (int i = 0; i < lab->model_n; i++) {
			snprintf(lab->model[i].name, sizeof(lab->model[i].name), "%s", o->model[i]);
			lab->model[i].embed = false;
		}
	}
	site_people(lab);
	plan_natural(lab);
	if (hard) {
		plan_calendar_days(lab);
		plan_benign(lab, lab->warmup + 600, 6 + (int)(lab->len / 86400 * 1.5));
	} else if (cold) {
		plan_attacks(lab, o, 600, 2 + rnd_int(r, 4));
	} else if (!clean) {
		double days = lab->len / 86400;
		int n = lab->len < 7200 ? 1 + (int)(lab->len / 400) : days < 1 ? 6 + rnd_int(r, 8) : 10 + (int)(days * rnd_range(r, 1, 2));

		if (lab->warmup > 20000 && rnd_chance(r, 0.12)) { /* what is learnt first is not all clean */
			double len = lab->len;

			lab->len = lab->warmup;
			plan_attacks(lab, o, lab->warmup * 0.4, 2);
			lab->len = len;
		}
		plan_attacks(lab, o, lab->warmup + fmin(300 + 1200 * rnd_unit(r), lab->len * 0.05), n);
		plan_benign(lab, lab->warmup * 1.1, n / 4);
	}
	return 0;
}

static inline void lab_done(struct lab *lab)
{
	for (int i = 0; i < lab->src_n; i++) {
		free(lab->src[i].rate);
		free(lab->src[i].wander);
	}
	for (int i = 0; i < lab->model_n; i++)
		free(lab->model[i].busy);
	for (int i = 0; i < lab->label_n; i++)
		free(lab->label[i].actor);
	free(lab->src);
	free(lab->who);
	free(lab->mods);
	free(lab->label);
	free(lab->calendar.p);
	memset(lab, 0, sizeof(*lab));
}

#endif
