/*
 * benign.h - what happens to honest people: each looks like something else, and carries a label of its own kind.
 */
#ifndef LAB_BENIGN_H
#define LAB_BENIGN_H

#include "attacks.h"

struct benign {
	const char *name;
	int needs;
	double shortest, longest;
	double (*place)(struct lab *lab, double t, double length);
	bool held;
};

static inline struct label *benign_label(struct lab *lab, const char *name, const char *note, double start, double end, double x, const char *accept, const char *severity)
{
	struct label *l = label_new(lab, name, note, start, end, x);

	l->benign = true;
	snprintf(l->accept, sizeof(l->accept), "%s", accept);
	snprintf(l->accept_severity, sizeof(l->accept_severity), "%s", severity);
	return l;
}

static inline double place_onboarding(struct lab *lab, double t, double length)
{
	struct rnd *r = &lab->r;
	double base = lab_mean(lab, t, t + length), rate = base * rnd_log(r, 0.1, 0.8);
	struct source *s = stranger_new(lab, shape_flat(t, LAB_NEVER), rate);
	int people = 1 + rnd_int(r, 40);
	struct label *l;

	habits_draw(lab, s);
	s->sh = shape_flat(t, LAB_NEVER);
	s->sh.in = rnd_chance(r, 0.4) ? rnd_log(r, 60, length) : 0;
	who_fill(lab, s, people, rnd_chance(r, 0.5) ? 1 : 1 + people / 4, 1 + rnd_int(r, 2), lab->gateway ? 0 : 2 + people / 2, rnd_range(r, 0, 1), false);
	s->exclusive = !lab->gateway;
	s->attack = false;
	l = benign_label(lab, "onboarding", "a new customer", t, t + length, 1 + rate / base, "\"flash_crowd\",\"flood\",\"cost_spike\",\"unknown\"", "info");
	label_about(lab, l, s, s->who, s->who_n);
	return t + length;
}

static inline double place_offboarding(struct lab *lab, double t, double length)
{
	double base = lab_mean(lab, t, t + length);
	int of = customer_pick(lab, t, t + length, base * 0.03, base * 0.35), m;
	struct label *l;

	if (of < 0)
		return -1;
	m = mod_new(lab, MOD_RATE, shape_flat(t, LAB_NEVER), 0);
	if (rnd_chance(&lab->r, 0.5))
		lab->mods[m].sh.in = length;
	mod_on_source(lab, &lab->src[of], m);
	l = benign_label(lab, "offboarding", "a customer leaves for good", t, t + length, 1, "\"traffic_drop\"", "warning");
	label_about(lab, l, &lab->src[of], lab->src[of].who, lab->src[of].who_n);
	return t + length;
}

static inline double place_migration(struct lab *lab, double t, double length)
{
	int from = model_pick(lab, t, t + length, 0.02, false), to, m;
	struct label *l;

	if (from < 0 || lab->model_n < 2)
		return -1;
	to = (from + 1 + rnd_int(&lab->r, lab->model_n - 1)) % lab->model_n;
	if (lab->model[to].embed)
		return -1;
	m = mod_new(lab, MOD_MODEL, shape_flat(t, LAB_NEVER), rnd_range(&lab->r, 0.7, 1));
	lab->mods[m].model = from;
	lab->mods[m].aux = to;
	lab->mods[m].sh.in = rnd_chance(&lab->r, 0.6) ? length : 0;
	for (int i = 0; i < lab->customers; i++)
		mod_on_source(lab, &lab->src[i], m);
	lab->model[to].slots += lab->model[from].slots;
	l = benign_label(lab, "model_migration", "traffic moves from one model to another", t, t + length, 1, "\"traffic_drop\",\"unknown\"", "info");
	label_scope(l, "model", lab->model[from].name);
	label_actor(l, "model", lab->model[from].name);
	label_actor(l, "model", lab->model[to].name);
	return t + length;
}

static inline double place_egress(struct lab *lab, double t, double length)
{
	double base = lab_mean(lab, t, t + length);
	int of = customer_pick(lab, t, t + length, base * 0.01, base), n = 1 + rnd_int(&lab->r, 6), m;
	struct source tmp = { 0 };
	struct label *l;

	if (of < 0 || lab->gateway || !(lab->has & HAS_KEY))
		return -1;
	who_fill(lab, &tmp, n, 1, 1 + rnd_int(&lab->r, 2), n, 0, false);
	m = mod_new(lab, MOD_ADDR, shape_flat(t, LAB_NEVER), rnd_range(&lab->r, 0.8, 1));
	lab->mods[m].aux = tmp.who;
	lab->mods[m].aux_n = n;
	lab->mods[m].sh.in = rnd_chance(&lab->r, 0.5) ? length * 0.5 : 0;
	mod_on_source(lab, &lab->src[of], m);
	l = benign_label(lab, "egress_change", "a customer's addresses move", t, t + length, 1, "\"key_sharing\",\"unknown\"", "info");
	label_about(lab, l, &lab->src[of], lab->src[of].who, lab->src[of].who_n);
	label_who(lab, l, tmp.who, n, true, true);
	return t + length;
}

static inline double place_deploy(struct lab *lab, double t, double length)
{
	int m1 = mod_new(lab, MOD_5XX, shape_flat(t, t + rnd_range(&lab->r, 4, 15)), rnd_range(&lab->r, 0.3, 0.9)), m2 = mod_new(lab, MOD_TTFT, shape_flat(t, t + length), rnd_range(&lab->r, 1.3, 2.5));
	struct label *l;

	lab->mods[m2].sh.out = length;
	for (int i = 0; i < lab->customers; i++)
		mod_on_source(lab, &lab->src[i], m1);
	for (int i = 0; i < lab->model_n; i++)
		mod_on_model(lab, &lab->model[i], m2);
	l = benign_label(lab, "deploy_blip", "a rollout: seconds of errors, cold for a while", t, t + length, 1, "\"error_burst\",\"latency_regression\",\"unknown\"", "warning");
	label_scope(l, "global", "");
	return t + length;
}

static inline double place_storm(struct lab *lab, double t, double length)
{
	double outage = rnd_range(&lab->r, 8, 30);
	int m = mod_new(lab, MOD_5XX, shape_flat(t, t + outage), rnd_range(&lab->r, 0.7, 1)), m2 = mod_new(lab, MOD_RATE, shape_flat(t, t + length), rnd_range(&lab->r, 1.5, 3));
	struct label *l;

	lab->mods[m2].sh.in = outage;
	lab->mods[m2].sh.out = length - outage;
	for (int i = 0; i < lab->customers; i++) {
		mod_on_source(lab, &lab->src[i], m);
		mod_on_source(lab, &lab->src[i], m2);
	}
	l = benign_label(lab, "retry_storm", "a short outage, then everybody at once", t, t + length, 2, "\"error_burst\",\"flash_crowd\",\"unknown\",\"latency_regression\"", "warning");
	label_scope(l, "global", "");
	return t + length;
}

static inline double place_expired(struct lab *lab, double t, double length)
{
	double base = lab_mean(lab, t, t + length);
	int of = customer_pick(lab, t, t + length, base * 0.005, base * 0.2), lo, n, m;
	struct label *l;

	if (of < 0)
		return -1;
	ident_pick(lab, &lab->src[of], &lo, &n);
	m = mod_new(lab, MOD_401, shape_flat(t, t + length), 1);
	lab->mods[m].who_lo = lo;
	lab->mods[m].who_hi = lo + n;
	mod_on_source(lab, &lab->src[of], m);
	l = benign_label(lab, "expired_key", "one key expired and goes round in a loop", t, t + length, 1, "\"credential_abuse\",\"error_burst\",\"unknown\",\"traffic_drop\"", "info");
	label_about(lab, l, &lab->src[of], lo, n);
	return t + length;
}

static inline double place_evaluation(struct lab *lab, double t, double length)
{
	struct rnd *r = &lab->r;
	double base = lab_mean(lab, t, t + length), rate = base * rnd_log(r, 0.03, 0.25);
	int of = customer_pick(lab, t, t + length, base * 0.01, base), lo, n;
	struct source *s;
	struct label *l;

	if (of < 0)
		return -1;
	ident_pick(lab, &lab->src[of], &lo, &n);
	s = source_part(lab, of, lo, n);
	s->sh = shape_flat(t, t + length);
	s->level = rate;
	s->cv = rnd_range(r, 0.05, 0.4);
	s->repeat = rnd_range(r, 0.5, 0.95);
	s->topics = 1 + rnd_int(r, 8);
	s->attack = true;
	l = benign_label(lab, "evaluation", "an evaluation: the same prompts at machine cadence", t, t + length, 1 + rate / base, "\"cost_spike\",\"flood\",\"scraping\",\"unknown\"", "info");
	label_about(lab, l, s, lo, n);
	return t + length;
}

static inline double place_long_context(struct lab *lab, double t, double length)
{
	struct rnd *r = &lab->r;
	double base = lab_mean(lab, t, t + length), rate = base * rnd_log(r, 0.01, 0.08);
	struct source *s = stranger_new(lab, shape_flat(t, LAB_NEVER), rate);
	struct label *l;

	s->prompt_scale = rnd_range(r, 10000, 60000) / (law_mean(lab_laws[s->law].prompt) + 1);
	s->path = lab->model[s->model].embed ? PATH_EMBED : PATH_CHAT;
	s->attack = false;
	who_fill(lab, s, 3, 1, 1, lab->gateway ? 0 : 2, 0, false);
	s->exclusive = !lab->gateway;
	l = benign_label(lab, "long_context", "a new customer with very long prompts", t, t + length, 1 + rate / base, "\"cost_spike\",\"token_growth\",\"unknown\",\"latency_regression\"", "info");
	label_about(lab, l, s, s->who, s->who_n);
	return t + length;
}

static inline double place_agent(struct lab *lab, double t, double length)
{
	int m = mod_new(lab, MOD_AGENT, shape_flat(t, LAB_NEVER), rnd_range(&lab->r, 0.5, 0.95));
	struct label *l;

	if (!(lab->has & HAS_AGENT))
		return -1;
	lab->mods[m].sh.in = length;
	lab->mods[m].aux = agent_new(lab, false);
	for (int i = 0; i < lab->customers; i++)
		if (rnd_chance(&lab->r, 0.6))
			mod_on_source(lab, &lab->src[i], m);
	l = benign_label(lab, "agent_rollout", "a new version of the client spreads", t, t + length, 1, "", "");
	label_scope(l, "global", "");
	return t + length;
}

static inline double place_cold_cache(struct lab *lab, double t, double length)
{
	int m = mod_new(lab, MOD_CACHE, shape_flat(t, t + length), 0.02);
	struct label *l;

	lab->mods[m].sh.out = length;
	for (int i = 0; i < lab->customers; i++)
		mod_on_source(lab, &lab->src[i], m);
	l = benign_label(lab, "cold_cache", "the prefix cache is empty and warms up", t, t + length, 1, "\"latency_regression\",\"unknown\"", "info");
	label_scope(l, "global", "");
	return t + length;
}

static inline double place_holiday(struct lab *lab, double t, double length)
{
	int m = mod_new(lab, MOD_RATE, shape_flat(t, t + length), rnd_range(&lab->r, 0.3, 0.7));
	struct label *l;

	lab->mods[m].sh.in = lab->mods[m].sh.out = length * 0.25;
	for (int i = 0; i < lab->customers; i++)
		if (rnd_chance(&lab->r, 0.85))
			mod_on_source(lab, &lab->src[i], m);
	l = benign_label(lab, "holiday", "most stay at home", t, t + length, 1, "\"traffic_drop\"", "info");
	label_scope(l, "global", "");
	return t + length;
}

/* Every night at the same hour from now on; each night has its label, the first ones may be noticed. */
static inline double place_batch(struct lab *lab, double t, double length)
{
	struct rnd *r = &lab->r;
	double base = lab_mean(lab, t, t + length), rate = base * rnd_log(r, 0.2, 1.5);
	int of = customer_pick(lab, t, t + length, base * 0.01, base), lo, n, nights = 0, people;
	bool noted = rnd_chance(r, 0.4);
	double first = t;

	if (of < 0)
		return -1;
	ident_pick(lab, &lab->src[of], &lo, &n);
	length = length_fit(lab, rate, length);
	people = n;
	for (; t + length < lab->len && nights < 14; t += 86400, nights++) {
		struct source *s = source_part(lab, of, lo, people);
		struct label *l;
		double late = nights ? rnd_range(r, -240, 240) : 0;

		s->sh = shape_flat(t + late, t + late + length * rnd_range(r, 0.85, 1.15));
		s->level = rate * rnd_range(r, 0.85, 1.15);
		s->cv = rnd_range(r, 0.05, 0.5);
		s->repeat = 0.01;
		s->stream = 0;
		l = benign_label(lab, "nightly_batch", nights ? "again" : "the first night", s->sh.start, s->sh.end, 1 + rate / base, nights > 1 ? "" : "\"flood\",\"cost_spike\",\"flash_crowd\",\"scraping\",\"unknown\"", nights > 1 ? "" : nights ? "info" : "warning");
		label_about(lab, l, s, lo, people);
	}
	if (noted)
		calendar_add(lab, "nightly batch", first - 600, first + length + 1200, "\"flood\",\"cost_spike\",\"scraping\",\"flash_crowd\"", "daily");
	return first + length;
}

static const struct benign lab_benigns[] = {
	{ "nightly_batch", 0, 600, 7200, place_batch, 0 },
	{ "onboarding", 0, 1200, 14400, place_onboarding, 0 },
	{ "offboarding", 0, 1200, 14400, place_offboarding, 0 },
	{ "model_migration", 0, 1200, 28800, place_migration, 0 },
	{ "egress_change", HAS_KEY, 1800, 14400, place_egress, 0 },
	{ "deploy_blip", HAS_STATUS, 60, 600, place_deploy, 0 },
	{ "retry_storm", HAS_STATUS, 90, 400, place_storm, 0 },
	{ "expired_key", HAS_STATUS | HAS_KEY, 3600, 86400, place_expired, 1 },
	{ "evaluation", 0, 600, 10800, place_evaluation, 0 },
	{ "long_context", 0, 3600, 28800, place_long_context, 1 },
	{ "agent_rollout", HAS_AGENT, 3600, 86400, place_agent, 0 },
	{ "cold_cache", HAS_CACHED, 300, 3600, place_cold_cache, 1 },
	{ "holiday", 0, 43200, 86400, place_holiday, 0 },
};
#define LAB_BENIGNS ((int)(sizeof(lab_benigns) / sizeof(lab_benigns[0])))

#endif
