/*
 * attacks_site.h - what befalls the site: drifts, slow and failing models, silence.
 */
#ifndef LAB_ATTACKS_SITE_H
#define LAB_ATTACKS_SITE_H

#include "attack.h"

/* ---- token growth -------------------------------------------------------------------------------------------------------- */
enum { GROW_MODEL, GROW_KEY, GROW_GLOBAL, GROW_ANSWERS, GROW_CUSTOMER, GROW_STAYS };

static inline double place_growth(struct lab *lab, int variant, double t, double length, double x)
{
	struct rnd *r = &lab->r;
	double base = lab_mean(lab, t, t + length), days = length / 86400;
	struct shape sh = shape_flat(t, t + length), after;
	enum mod_what what = variant == GROW_ANSWERS ? MOD_ANSWER : MOD_PROMPT;
	int model = -1, of = -1, lo = -1, n = 0, m, m2, busiest = 0;
	struct label *l;

	if (days > 2) { /* 2 to 10 % a day; the rest of the stream stays there */
		double daily = pow(1.02 + 0.08 * rnd_unit(r), days);

		x = daily < 1.3 ? 1.3 : daily;
	}
	x = x > 4 ? 4 : x;
	sh.in = length;
	after = shape_flat(t + length, rnd_chance(r, 0.5) || variant == GROW_STAYS ? LAB_NEVER : t + length * 1.6);
	if (after.end < LAB_NEVER)
		after.out = length * 0.6;
	if (variant == GROW_KEY || variant == GROW_CUSTOMER) {
		of = customer_pick(lab, t, t + length, base * 0.04, base);
		if (of < 0)
			return -1;
		lo = lab->src[of].who;
		n = lab->src[of].who_n;
		if (variant == GROW_KEY && (lab->has & (HAS_KEY | HAS_USER))) {
			int tries = 0;

			for (double own; tries < 20; tries++) {
				own = ident_pick(lab, &lab->src[of], &lo, &n) * source_mean(lab, &lab->src[of], t, t + length);
				if (own * length >= 150 && own * source_tokens(lab, &lab->src[of]) * (x - 1) > 0.04 * lab_tokens(lab, t, t + length))
					break;
			}
			if (tries == 20)
				return -1;
		} else if (lab->has & (HAS_KEY | HAS_USER)) {
			for (int i = lo; i < lo + n; i++)
				if (lab->who[i].key != lab->who[lo].key)
					return -1; /* one name for it is wanted */
		}
	} else if (variant != GROW_GLOBAL && lab->model_n > 1) {
		double most = 0;

		for (int i = 0; i < lab->model_n; i++) {
			double v = 0;

			for (int k = 0; k < lab->customers; k++)
				v += lab->src[k].model == i ? source_mean(lab, &lab->src[k], t, t + length) : 0;
			v *= rnd_range(r, 0.3, 1);
			if (v > most && !(lab->model[i].embed && what == MOD_ANSWER)) {
				most = v;
				busiest = i;
			}
		}
		model = busiest;
	}
	m = mod_new(lab, what, sh, x);
	m2 = mod_new(lab, what, after, x);
	lab->mods[m].model = lab->mods[m2].model = model;
	if (lo >= 0) {
		lab->mods[m].who_lo = lab->mods[m2].who_lo = lo;
		lab->mods[m].who_hi = lab->mods[m2].who_hi = lo + n;
	}
	if (of >= 0) {
		mod_on_source(lab, &lab->src[of], m);
		mod_on_source(lab, &lab->src[of], m2);
	} else {
		mod_on_all(lab, m, 1);
		mod_on_all(lab, m2, 1);
	}
	l = label_new(lab, "token_growth", (const char *[]){ "a model's prompts", "a key's prompts", "everybody's prompts", "answers", "a customer's prompts", "stays" }[variant], t, t + length, x);
	if (of >= 0)
		label_about(lab, l, &lab->src[of], lo, n);
	else if (model >= 0) {
		label_scope(l, "model", lab->model[model].name);
		label_actor(l, "model", lab->model[model].name);
	} else {
		label_scope(l, "global", "");
		for (int i = 0; i < lab->model_n; i++)
			label_actor(l, "model", lab->model[i].name);
	}
	return t + length;
}

/* ---- the server's own ------------------------------------------------------------------------------------------------------ */
/* A model with traffic enough to be judged; -1: none. */
static inline int model_pick(struct lab *lab, double from, double to, double least, bool embed)
{
	double v[LAB_MODELS_MAX] = { 0 };
	int best = -1;
	double most = 0;

	for (int k = 0; k < lab->customers; k++)
		v[lab->src[k].model] += source_mean(lab, &lab->src[k], from, to);
	for (int i = 0; i < lab->model_n; i++)
		if (v[i] >= least && (embed || !lab->model[i].embed) && v[i] * rnd_range(&lab->r, 0.2, 1) > most) {
			most = v[i] * 0.6;
			best = i;
		}
	return best;
}

/* Share of a model's answers that are streamed: only these tell when their first token came. */
static inline double model_streamed(const struct lab *lab, int model)
{
	double streamed = 0, all = 0;

	for (int i = 0; i < lab->customers; i++)
		if (lab->src[i].model == model) {
			all += lab->src[i].level;
			streamed += lab->src[i].level * lab->src[i].stream;
		}
	return all > 0 ? streamed / all : 0;
}

enum { SLOW_BOTH, SLOW_FIRST, SLOW_TOKENS, SLOW_RAMP, SLOW_PULSED, SLOW_MILD };

static inline double place_latency(struct lab *lab, int variant, double t, double length, double x)
{
	struct shape sh;
	struct label *l;
	int model, m;

	model = model_pick(lab, t, t + length, 0.02, variant == SLOW_FIRST);
	if (model < 0)
		return -1;
	if (lab_mean(lab, t, t + length) * length < 150)
		length = 150 / lab_mean(lab, t, t + length);
	length = length > lab->len / 3 ? lab->len / 3 : length;
	if (variant == SLOW_FIRST && model_streamed(lab, model) < 0.3)
		variant = SLOW_BOTH;
	sh = shape_flat(t, t + length);
	if (variant == SLOW_MILD)
		x = 1.3 + (x - 1.3) * 0.2;
	if (variant == SLOW_RAMP)
		sh.in = length * 0.5;
	if (variant == SLOW_PULSED) {
		sh.period = rnd_log(&lab->r, 60, 600);
		sh.duty = rnd_range(&lab->r, 0.5, 0.8);
	}
	if (variant != SLOW_TOKENS) {
		m = mod_new(lab, MOD_TTFT, sh, x);
		mod_on_model(lab, &lab->model[model], m);
	}
	if (variant != SLOW_FIRST) {
		m = mod_new(lab, MOD_TPOT, sh, x);
		mod_on_model(lab, &lab->model[model], m);
	}
	l = label_new(lab, "latency_regression", (const char *[]){ "both", "first token", "time per token", "ramp", "pulsed", "mild" }[variant], t, t + length, x);
	label_scope(l, "model", lab->model[model].name);
	label_actor(l, "model", lab->model[model].name);
	return t + length;
}

enum { ERR_MODEL, ERR_GLOBAL, ERR_STREAM, ERR_PULSED, ERR_RAMP };

static inline double place_errors(struct lab *lab, int variant, double t, double length, double x)
{
	double share = 0.05 * x, base = lab_mean(lab, t, t + length);
	struct shape sh;
	struct label *l;
	int model = variant == ERR_GLOBAL || lab->model_n == 1 ? -1 : model_pick(lab, t, t + length, 0.02, true), m;

	share = share > 0.9 ? 0.9 : share;
	if (base * share * length < 15)
		length = 15 / (base * share);
	length = length > lab->len / 3 ? lab->len / 3 : length;
	if (variant == ERR_STREAM) {
		double streamed = 0, all = 0;

		for (int i = 0; i < lab->customers; i++) {
			all += lab->src[i].level;
			streamed += lab->src[i].level * lab->src[i].stream;
		}
		if (streamed < 0.5 * all || !(lab->has & HAS_LIMIT))
			variant = ERR_MODEL;
	}
	sh = shape_flat(t, t + length);
	if (variant == ERR_PULSED) {
		sh.period = rnd_log(&lab->r, 20, 300);
		sh.duty = rnd_range(&lab->r, 0.3, 0.7);
	}
	if (variant == ERR_RAMP)
		sh.in = length * 0.5;
	m = mod_new(lab, variant == ERR_STREAM ? MOD_STREAM_ERROR : MOD_5XX, sh, share);
	lab->mods[m].model = model;
	mod_on_all(lab, m, 1);
	l = label_new(lab, "error_burst", (const char *[]){ "one model", "everywhere", "inside streams", "pulsed", "ramp" }[variant], t, t + length, x);
	if (model >= 0) {
		label_scope(l, "model", lab->model[model].name);
		label_actor(l, "model", lab->model[model].name);
	} else {
		label_scope(l, "global", "");
		for (int i = 0; i < lab->model_n; i++)
			label_actor(l, "model", lab->model[i].name);
	}
	return t + length;
}

enum { DROP_ALL, DROP_CUSTOMER, DROP_SILENCE, DROP_RAMP, DROP_FLAPPING };

static inline double place_drop(struct lab *lab, int variant, double t, double length, double x)
{
	double base = lab_mean(lab, t, t + length);
	struct shape sh;
	struct label *l;
	int of = -1, m;

	if (variant == DROP_CUSTOMER) {
		of = customer_pick(lab, t, t + length, base * 0.15, base);
		if (of < 0)
			variant = DROP_ALL;
	}
	if (variant == DROP_SILENCE)
		x = 10;
	if (base * length < 60)
		length = 60 / base;
	length = length > lab->len / 3 ? lab->len / 3 : length;
	sh = shape_flat(t, t + length);
	if (variant == DROP_RAMP)
		sh.in = length * 0.3;
	if (variant == DROP_FLAPPING) {
		sh.period = rnd_log(&lab->r, 60, 600);
		sh.duty = rnd_range(&lab->r, 0.5, 0.8);
	}
	m = mod_new(lab, MOD_RATE, sh, variant == DROP_SILENCE ? 0 : 1 / x);
	if (of >= 0)
		mod_on_source(lab, &lab->src[of], m);
	else
		mod_on_all(lab, m, 1);
	l = label_new(lab, "traffic_drop", (const char *[]){ "everybody", "a big customer", "silence", "ramp", "flapping" }[variant], t, t + length, x);
	if (of >= 0) {
		label_about(lab, l, &lab->src[of], lab->src[of].who, lab->src[of].who_n);
	} else {
		label_scope(l, "global", "");
	}
	return t + length;
}

#endif
