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

/* An announced campaign: a flash crowd, but nobody should be woken. */
static inline double place_campaign(struct lab *lab, double t, double length)
{
	int labels = lab->label_n;
	double end = place_crowd(lab, CROWD_CALENDAR, t, length, rnd_range(&lab->r, 1.5, 5));
	struct label *l;

	if (end < 0 || lab->label_n == labels)
		return -1;
	l = &lab->label[labels];
	snprintf(l->cls, sizeof(l->cls), "campaign");
	snprintf(l->accept, sizeof(l->accept), "\"flash_crowd\"");
	snprintf(l->accept_severity, sizeof(l->accept_severity), "info");
	return end;
}

/* The operators measure their own server: from inside, in steps. */
static inline double place_benchmark(struct lab *lab, double t, double length)
{
	struct rnd *r = &lab->r;
	double base = lab_mean(lab, t, t + length), rate = base * rnd_range(r, 0.5, 3);
	struct source *s;
	struct label *l;

	length = length_fit(lab, rate, length);
	s = stranger_new(lab, shape_flat(t, t + length), rate);
	s->sh.in = length;
	who_fill(lab, s, 1, 1, 1, 1, 0, false);
	lab->who[s->who].addr[0] = host_inside(lab);
	s->cv = rnd_range(r, 0.05, 1);
	s->topics = 2;
	s->repeat = rnd_range(r, 0, 0.9);
	s->limit = 128 << rnd_int(r, 3);
	s->cap = 0.9;
	l = benign_label(lab, "benchmark", "the operators measure their own server", t, t + length, 1 + rate / base, "\"flood\",\"scraping\",\"cost_spike\",\"latency_regression\",\"unknown\"", "warning");
	label_about(lab, l, s, s->who, 1);
	return t + length;
}

/* A new customer whose trade is attacks on models: high scores, day and night. */
static inline double place_security_training(struct lab *lab, double t, double length)
{
	struct rnd *r = &lab->r;
	double base = lab_mean(lab, t, t + length), rate = base * rnd_log(r, 0.01, 0.1);
	struct source *s = stranger_new(lab, shape_flat(t, LAB_NEVER), rate);
	struct label *l;

	who_fill(lab, s, 1 + rnd_int(r, 10), 1, 1, lab->gateway ? 0 : 3, 0.5, false);
	s->exclusive = !lab->gateway;
	s->attack = false;
	s->inject_p = rnd_range(r, 0.4, 0.9);
	s->inject = rnd_range(r, 0.6, 0.9);
	s->topics = 20;
	s->flips = 8;
	s->cv = 1;
	l = benign_label(lab, "security_training", "a new customer who tests models for a living", t, t + length, 1, "\"prompt_probing\",\"unknown\"", "warning");
	label_about(lab, l, s, s->who, s->who_n);
	return t + length;
}

/* The books are closed: one customer needs several times what it always needs. */
static inline double place_month_end(struct lab *lab, double t, double length)
{
	double base = lab_mean(lab, t, t + length), x = rnd_range(&lab->r, 2, 6);
	int of = customer_pick(lab, t, t + length, base * 0.01, base * 0.3), m;
	struct label *l;

	if (of < 0)
		return -1;
	length = length_fit(lab, (x - 1) * source_mean(lab, &lab->src[of], t, t + length), length);
	m = mod_new(lab, MOD_RATE, shape_flat(t, t + length), x);
	lab->mods[m].sh.in = lab->mods[m].sh.out = length * 0.1;
	mod_on_source(lab, &lab->src[of], m);
	l = benign_label(lab, "month_end", "one customer closes its books", t, t + length, x, "\"cost_spike\",\"flood\",\"flash_crowd\",\"unknown\"", "warning");
	label_about(lab, l, &lab->src[of], lab->src[of].who, lab->src[of].who_n);
	if (rnd_chance(&lab->r, 0.4))
		calendar_add(lab, "month end", t - 1800, t + length + 1800, "\"cost_spike\",\"flood\"", "none");
	return t + length;
}

static inline double place_key_rotation(struct lab *lab, double t, double length)
{
	double base = lab_mean(lab, t, t + length);
	int of = customer_pick(lab, t, t + length, base * 0.01, base), m, n;
	struct label *l;
	char v[64];

	if (of < 0)
		return -1;
	n = (int)(lab->who[lab->src[of].who + lab->src[of].who_n - 1].key - lab->who[lab->src[of].who].key) + 1;
	m = mod_new(lab, MOD_KEY, shape_flat(t, LAB_NEVER), 1);
	lab->ids += 1000;
	lab->mods[m].aux = (int)(lab->ids - lab->who[lab->src[of].who].key);
	lab->ids += (uint32_t)n + 1;
	mod_on_source(lab, &lab->src[of], m);
	l = benign_label(lab, "key_rotation", "a customer's keys are others now", t, t + length, 1, "\"traffic_drop\",\"flash_crowd\",\"unknown\"", "info");
	label_about(lab, l, &lab->src[of], lab->src[of].who, lab->src[of].who_n);
	for (int i = 0; i < lab->src[of].who_n; i++) {
		key_name(lab, lab->who[lab->src[of].who + i].key + (uint32_t)lab->mods[m].aux, v, sizeof(v));
		label_actor(l, "api_key", v);
	}
	return t + length;
}

/* It was away, and does afterwards what it should have done. */
static inline double place_backfill(struct lab *lab, double t, double length)
{
	double base = lab_mean(lab, t, t + length), away = length * rnd_range(&lab->r, 0.3, 0.6), x = rnd_range(&lab->r, 1.8, 4);
	int of = customer_pick(lab, t, t + length, base * 0.03, base * 0.4), m;
	struct label *l;

	if (of < 0)
		return -1;
	m = mod_new(lab, MOD_RATE, shape_flat(t, t + away), 0);
	mod_on_source(lab, &lab->src[of], m);
	m = mod_new(lab, MOD_RATE, shape_flat(t + away, t + length), x);
	lab->mods[m].sh.out = (length - away) * 0.5;
	mod_on_source(lab, &lab->src[of], m);
	l = benign_label(lab, "backfill", "a customer was away and catches up", t, t + length, x, "\"traffic_drop\",\"flood\",\"cost_spike\",\"flash_crowd\",\"unknown\"", "warning");
	label_about(lab, l, &lab->src[of], lab->src[of].who, lab->src[of].who_n);
	return t + length;
}

/* A library's new default: many answers now end at the limit. */
static inline double place_limit_change(struct lab *lab, double t, double length)
{
	int m = mod_new(lab, MOD_CAP, shape_flat(t, LAB_NEVER), rnd_range(&lab->r, 0.2, 0.6)), limit = 128 << rnd_int(&lab->r, 3);
	struct label *l;

	lab->mods[m].sh.in = length;
	lab->mods[m].aux = limit;
	for (int i = 0; i < lab->customers; i++)
		if (rnd_chance(&lab->r, 0.4))
			mod_on_source(lab, &lab->src[i], m);
	l = benign_label(lab, "limit_change", "a library's new default for max_tokens spreads", t, t + length, 1, "\"token_growth\",\"cost_spike\",\"unknown\"", "info");
	label_scope(l, "global", "");
	return t + length;
}

/* The internet has a new toy: many addresses, each with a few requests that are refused. */
static inline double place_scanner_wave(struct lab *lab, double t, double length)
{
	struct rnd *r = &lab->r;
	int n = 20 + rnd_int(r, 120);
	struct source *s;
	struct label *l;

	if (lab->gateway)
		return -1;
	s = stranger_new(lab, shape_flat(t, t + length), n * rnd_range(r, 1, 4) / length);
	who_fill(lab, s, n, -1, n, n, 0, false);
	s->path = PATH_SCAN;
	s->auth = 0.3;
	s->keyless = true;
	for (int i = 0; i < n; i++) {
		lab->who[s->who + i].agent = (uint16_t)(AGENT_SCAN + rnd_int(r, 4));
		lab->who[s->who + i].user = 0;
	}
	l = benign_label(lab, "scanner_wave", "the internet's scanners have something new", t, t + length, 1, "\"credential_abuse\",\"ddos\",\"unknown\"", "info");
	label_scope(l, "global", "");
	return t + length;
}

/* The meter itself was down: nothing at all is written. */
static inline double place_gap(struct lab *lab, double t, double length)
{
	struct label *l;

	if (lab->gap_n == LAB_GAPS_MAX)
		return -1;
	lab->gap[lab->gap_n++] = shape_flat(t, t + length);
	l = benign_label(lab, "collection_gap", "the meter was restarted; nothing was written", t, t + length, 1, "\"traffic_drop\"", "warning");
	label_scope(l, "global", "");
	return t + length;
}

static inline double place_maintenance(struct lab *lab, double t, double length)
{
	int m = mod_new(lab, MOD_5XX, shape_flat(t, t + length), rnd_range(&lab->r, 0.2, 0.8)), m2 = mod_new(lab, MOD_RATE, shape_flat(t, t + length), rnd_range(&lab->r, 0.2, 0.7));
	struct label *l;

	for (int i = 0; i < lab->customers; i++) {
		mod_on_source(lab, &lab->src[i], m);
		mod_on_source(lab, &lab->src[i], m2);
	}
	calendar_add(lab, "maintenance", t - 60, t + length + 300, "\"error_burst\",\"traffic_drop\",\"latency_regression\"", "none");
	l = benign_label(lab, "maintenance", "announced on the calendar", t, t + length, 1, "\"error_burst\",\"traffic_drop\",\"latency_regression\",\"unknown\"", "warning");
	label_scope(l, "global", "");
	return t + length;
}

/* A product's new instructions: every prompt of one customer is longer from one minute to the next. */
static inline double place_prompt_release(struct lab *lab, double t, double length)
{
	double base = lab_mean(lab, t, t + length);
	int of = customer_pick(lab, t, t + length, base * 0.02, base * 0.5), m;
	struct label *l;

	if (of < 0)
		return -1;
	m = mod_new(lab, MOD_PROMPT, shape_flat(t, LAB_NEVER), rnd_range(&lab->r, 1.2, 1.8));
	mod_on_source(lab, &lab->src[of], m);
	l = benign_label(lab, "prompt_release", "a product's new instructions are longer", t, t + length, 1, "\"token_growth\",\"cost_spike\",\"unknown\"", "info");
	label_about(lab, l, &lab->src[of], lab->src[of].who, lab->src[of].who_n);
	return t + length;
}

/* One customer runs into its limit and keeps knocking. */
static inline double place_quota(struct lab *lab, double t, double length)
{
	double base = lab_mean(lab, t, t + length);
	int of = customer_pick(lab, t, t + length, base * 0.01, base * 0.3), m;
	struct label *l;

	if (of < 0)
		return -1;
	m = mod_new(lab, MOD_4XX, shape_flat(t, t + length), rnd_range(&lab->r, 0.4, 0.95));
	mod_on_source(lab, &lab->src[of], m);
	l = benign_label(lab, "quota", "one customer is at its limit and keeps knocking", t, t + length, 1, "\"error_burst\",\"traffic_drop\",\"unknown\"", "info");
	label_about(lab, l, &lab->src[of], lab->src[of].who, lab->src[of].who_n);
	return t + length;
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
	{ "campaign", 0, 900, 10800, place_campaign, 0 },
	{ "benchmark", 0, 300, 3600, place_benchmark, 0 },
	{ "security_training", HAS_PROMPT, 3600, 28800, place_security_training, 0 },
	{ "month_end", 0, 1800, 21600, place_month_end, 0 },
	{ "key_rotation", HAS_KEY, 1800, 7200, place_key_rotation, 1 },
	{ "backfill", 0, 1800, 14400, place_backfill, 1 },
	{ "limit_change", HAS_LIMIT, 3600, 43200, place_limit_change, 1 },
	{ "scanner_wave", HAS_STATUS | HAS_PATH, 600, 7200, place_scanner_wave, 1 },
	{ "collection_gap", 0, 60, 900, place_gap, 0 },
	{ "maintenance", HAS_STATUS, 300, 1800, place_maintenance, 0 },
	{ "prompt_release", 0, 1800, 7200, place_prompt_release, 0 },
	{ "quota", HAS_STATUS, 600, 14400, place_quota, 1 },
};
#define LAB_BENIGNS ((int)(sizeof(lab_benigns) / sizeof(lab_benigns[0])))

#endif
