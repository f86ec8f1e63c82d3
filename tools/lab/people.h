/*
 * people.h - draws a site: how it is seen, its models, its customers and the crowd around them.
 *
 * The structure is drawn, not only the parameters: whether there are keys, users, gateways, a crowd of single people,
 * one customer that is half of everything, jobs, probes and scanners.
 */
#ifndef LAB_PEOPLE_H
#define LAB_PEOPLE_H

#include "site.h"

#define LAB_CURVES ((int)(sizeof(lab_curves) / sizeof(lab_curves[0])))
#define LAB_LAWS ((int)(sizeof(lab_laws) / sizeof(lab_laws[0])))

/* ---- curves ------------------------------------------------------------------------------------------------ */
static inline double letter_rate(char c)
{
	const char *at = strchr(lab_alphabet, c);

	return !at || at == lab_alphabet ? 0 : exp2(((double)(at - lab_alphabet) - 42) / 5);
}

/* Tuning seeds see every other trace, test seeds the others. */
static inline int trace_pick(struct lab *lab, int n)
{
	int i = rnd_int(&lab->r, n / 2) * 2 + (lab->test ? 1 : 0);

	return i < n ? i : 0;
}

/* Office hours, evenings or machines, by the site's own clock; `t` from the start of the stream. */
static inline double clock_rate(const struct lab *lab, double t, int habit)
{
	double clock = (lab->epoch + t) / 3600 + lab->zone + (t >= lab->dst_at ? 1 : 0), hour = fmod(clock + 48, 24), day = fmod(clock / 24 + 4, 7);
	bool weekend = day < 1 || day >= 6; /* 1970-01-01 was a Thursday: 0 is Sunday */

	switch (habit) {
	case 0: return (0.08 + exp(-pow((hour - 11) / 3, 2)) + 0.9 * exp(-pow((hour - 15.5) / 2.5, 2))) * (weekend ? 0.25 : 1);
	case 1: return 0.15 + exp(-pow((hour - 20.5) / 3.2, 2)) + 0.45 * exp(-pow((hour - 13) / 4, 2)) * (weekend ? 1.4 : 1);
	default: return 1;
	}
}

#define HABIT_TRACE (-1) /* a traced tenant, its own jumps included */
#define HABIT_BURST (-2) /* hours of one service that nobody could foresee */

/* Fills a source's rate so that its mean is `mean`. `habit`: one of the above, or the clock's (clock_rate). */
static inline void source_rate_fill(struct lab *lab, struct source *s, double mean, int habit)
{
	const struct lab_curve *c = &lab_curves[trace_pick(lab, LAB_CURVES)];
	int shift = rnd_int(&lab->r, 14) * 48, bins = lab->bins, hour = rnd_int(&lab->r, LAB_BURST_HOURS / 2) + (lab->test ? LAB_BURST_HOURS / 2 : 0);
	double level = 0, sum = 0, wobble = rnd_log(&lab->r, 0.02, 0.25), floor_rate = rnd_chance(&lab->r, 0.5) ? 0.02 : 0.003;

	s->rate = lab_realloc(NULL, sizeof(float) * (size_t)bins);
	if (habit == HABIT_TRACE)
		wobble = c->restless < 0.3 ? c->restless * 1.2 : 0.36;
	for (int b = 0; b < bins; b++) {
		double at = b * LAB_STEP_S / LAB_CURVE_STEP_S + shift, f = at - floor(at), v;
		int i = (int)at % LAB_CURVE_STEPS, j = (i + 1) % LAB_CURVE_STEPS;

		level = 0.97 * level + wobble * 0.25 * rnd_normal(&lab->r);
		if (habit == HABIT_BURST)
			v = letter_rate(lab_burst[(hour + (int)(b * LAB_STEP_S / 3600)) % LAB_BURST_HOURS]);
		else if (habit == HABIT_TRACE)
			v = letter_rate(c->rate[i]) * (1 - f) + letter_rate(c->rate[j]) * f;
		else
			v = clock_rate(lab, (b + 0.5) * LAB_STEP_S, habit);
		s->rate[b] = (float)((v + floor_rate) * exp(level));
		sum += s->rate[b];
	}
	if (sum <= 0)
		sum = 1;
	for (int b = 0; b < bins; b++)
		s->rate[b] = (float)(s->rate[b] * mean * bins / sum);
	s->level = mean;
	if (habit < 0) {
		double k = rnd_range(&lab->r, 0.4, 1.0);

		s->cv = 1 + (c->cv[rnd_int(&lab->r, 3)] - 1) * k;
		s->cv = s->cv < 0.15 ? 0.15 : s->cv > 6 ? 6 : s->cv;
		s->weibull = rnd_chance(&lab->r, 0.6);
	}
}

/* What a customer's requests weigh is not the same every hour either. */
static inline void source_wander_fill(struct lab *lab, struct source *s)
{
	double step = rnd_log(&lab->r, 0.01, 0.12), pull = rnd_log(&lab->r, 0.01, 0.15), at[2] = { 0, 0 };

	s->wander = lab_realloc(NULL, 2 * sizeof(float) * (size_t)lab->bins);
	for (int b = 0; b < lab->bins; b++)
		for (int k = 0; k < 2; k++) {
			at[k] += step * rnd_normal(&lab->r) - pull * at[k];
			if (rnd_chance(&lab->r, 0.0003)) /* it does something else for a while */
				at[k] += 0.6 * rnd_normal(&lab->r);
			s->wander[2 * b + k] = (float)at[k];
		}
}

/* ---- identities ------------------------------------------------------------------------------------------------ */
static inline uint16_t agent_new(struct lab *lab, bool browser)
{
	int a = browser ? 15 + rnd_int(&lab->r, 6) : rnd_int(&lab->r, LAB_AGENTS);

	return (uint16_t)(a + LAB_AGENTS * rnd_int(&lab->r, LAB_AGENT_VERSIONS));
}

/*
 * `people` identities with `keys` keys among them, from `nets` networks with `addrs` addresses in all (0: through the
 * gateways). keys 0: each has its own; -1: none. Weights fall by rank to the power of `skew`.
 */
static inline void who_fill(struct lab *lab, struct source *s, int people, int keys, int nets, int addrs, double skew, bool browsers)
{
	uint32_t key0 = lab->ids + 1;
	uint64_t *net = lab_realloc(NULL, sizeof(*net) * (size_t)(nets > 0 ? nets : 1));
	uint64_t *addr = lab_realloc(NULL, sizeof(*addr) * (size_t)(addrs > 0 ? addrs : 1));
	uint16_t common = agent_new(lab, browsers);
	double total = 0, sum = 0;

	lab->ids += (uint32_t)(keys > 0 ? keys : people) + 1;
	for (int i = 0; i < nets; i++)
		net[i] = net_new(lab);
	for (int i = 0; i < addrs; i++)
		addr[i] = host_new(lab, net[i < nets ? i : rnd_int(&lab->r, nets)]);
	s->who = who_new(lab, people);
	s->who_n = people;
	for (int i = 0; i < people; i++)
		total += pow(i + 1, -skew);
	for (int i = 0; i < people; i++) {
		struct who *w = &lab->who[s->who + i];

		sum += pow(i + 1, -skew);
		w->cum = (float)(sum / total);
		w->key = keys < 0 ? 0 : key0 + (uint32_t)(keys > 0 ? (int)((int64_t)i * keys / people) : i); /* runs, so that a key is a range */
		w->user = ++lab->ids;
		w->agent = browsers || rnd_chance(&lab->r, 0.3) ? agent_new(lab, browsers) : common;
		if (addrs <= 0)
			continue;
		w->addr_n = (uint8_t)(addrs > people * 2 ? 1 + rnd_int(&lab->r, 3) : 1);
		for (int a = 0; a < w->addr_n; a++)
			w->addr[a] = addr[addrs >= people ? (i * w->addr_n + a) % addrs : rnd_int(&lab->r, addrs)];
	}
	free(net);
	free(addr);
}

static inline double law_mean(const int *q)
{
	double sum = 0;

	for (int i = 0; i + 1 < LAB_QUANTILES; i++)
		sum += (lab_quantile[i + 1] - lab_quantile[i]) * (q[i] + q[i + 1]) / 2;
	return sum;
}

/* Thinking grows with the answer, but not without end: some thousands of tokens on average, minutes at most. */
static inline double thinking(const struct lab *lab, const struct source *s)
{
	double most = 6000 / (s->answer_scale * law_mean(lab_laws[s->law].answer) + 1), of = lab->model[s->model].reasoning;

	return of < most ? of : most;
}

/* What a customer usually asks. */
static inline void habits_draw(struct lab *lab, struct source *s)
{
	struct rnd *r = &lab->r;

	s->model = rnd_chance(r, 0.5) ? 0 : rnd_int(r, lab->model_n);
	s->law = trace_pick(lab, LAB_LAWS);
	s->prompt_scale = rnd_log(r, 0.4, 3);
	s->answer_scale = rnd_log(r, 0.6, 6);
	if (s->answer_scale * law_mean(lab_laws[s->law].answer) > 2500)
		s->answer_scale = 2500 / law_mean(lab_laws[s->law].answer);
	s->spread = rnd_range(r, 0.05, 0.5);
	s->cache = rnd_chance(r, 0.6) ? rnd_range(r, 0, 0.85) : 0;
	s->stream = rnd_chance(r, 0.3) ? 0 : rnd_range(r, 0.2, 1);
	s->logprobs = rnd_chance(r, 0.08) ? rnd_unit(r) : 0;
	s->limit = rnd_chance(r, 0.4) ? 0 : 1 << (8 + rnd_int(r, 5));
	s->repeat = rnd_chance(r, 0.5) ? rnd_range(r, 0, 0.04) : rnd_range(r, 0.03, 0.5);
	s->topics = rnd_chance(r, 0.4) ? 0 : 1 + rnd_int(r, 40);
	s->flips = rnd_range(r, 2, 12);
	s->entropy = rnd_range(r, 3.9, 5.1);
	s->chars = rnd_range(r, 2.6, 4.6);
	s->inject_p = rnd_chance(r, 0.15) ? rnd_log(r, 0.01, 0.1) : rnd_log(r, 0.0005, 0.01);
	s->inject = 0.4;
	s->bad = rnd_log(r, 0.001, 0.03);
	s->auth = rnd_chance(r, 0.1) ? rnd_log(r, 0.001, 0.02) : 0;
	s->abort = rnd_log(r, 0.001, 0.04);
	s->retry = rnd_chance(r, 0.6) ? rnd_range(r, 0.1, 0.9) : 0;
	s->stick = rnd_range(r, 0, 0.8);
	s->cv = rnd_range(r, 0.8, 1.6);
	if (lab->model[s->model].embed)
		s->path = PATH_EMBED;
	else
		s->path = rnd_chance(r, 0.75) ? PATH_CHAT : rnd_int(r, 5);
	if (s->path == PATH_EMBED && !lab->model[s->model].embed)
		s->path = PATH_CHAT;
	if (s->path == PATH_EMBED) {
		s->stream = s->reasoning = 0;
		s->limit = 0;
	}
	s->reasoning = thinking(lab, s);
	s->sh = (struct shape){ 0, LAB_NEVER, 0, 0, 0, 0 };
}

static inline void customer_add(struct lab *lab, double mean, int rank)
{
	struct source *s = source_new(lab, NULL);
	struct rnd *r = &lab->r;
	int size = rank < 3 ? 1 + rnd_int(r, 60) : 1 + rnd_int(r, rnd_chance(r, 0.2) ? 200 : 8), keys, nets, addrs;
	double how = rnd_unit(r);

	habits_draw(lab, s);
	s->keyless = lab->open && rnd_chance(r, 0.4);
	keys = how < 0.45 ? 1 : how < 0.75 ? 0 : 1 + rnd_int(r, size < 20 ? size : 20);
	nets = 1 + (rnd_chance(r, 0.3) ? rnd_int(r, 5) : 0);
	addrs = nets + rnd_int(r, size * 2);
	if (rnd_chance(r, 0.25))
		addrs = nets; /* NAT */
	who_fill(lab, s, size, keys, nets, lab->gateway ? 0 : addrs, rnd_range(r, 0, 1.4), rnd_chance(r, 0.15));
	s->exclusive = !lab->gateway;
	if (!lab->gateway && rnd_chance(r, 0.15)) { /* machines that come and go, each with an address of its own */
		s->roam_s = rnd_log(r, 900, 43200);
		s->exclusive = false;
	}
	source_rate_fill(lab, s, mean, rnd_chance(r, 0.7) ? HABIT_TRACE : rnd_chance(r, 0.2) ? HABIT_BURST : rnd_int(r, 3));
	source_wander_fill(lab, s);
	snprintf(s->name, sizeof(s->name), "customer %d", rank + 1);
}

/* People who come by themselves: everybody their own address, most of them with their own key. */
static inline void crowd_add(struct lab *lab, double mean, int people)
{
	struct source *s = source_new(lab, NULL);
	struct rnd *r = &lab->r;

	habits_draw(lab, s);
	s->keyless = lab->open && rnd_chance(r, 0.7);
	s->path = lab->model[s->model].embed ? PATH_EMBED : PATH_CHAT;
	s->topics = 0;
	s->repeat = rnd_range(r, 0, 0.05);
	s->stick = rnd_range(r, 0.3, 0.85);
	s->spread = 0.7;
	s->cv = rnd_range(r, 0.9, 1.3);
	who_fill(lab, s, people, 0, lab->gateway ? 0 : people, lab->gateway ? 0 : people + people / 3, rnd_range(r, 0.4, 1.1), true);
	s->exclusive = !lab->gateway;
	s->crowd = true;
	if (!lab->gateway && rnd_chance(r, 0.3))
		s->roam_s = rnd_log(r, 3600, 86400);
	source_rate_fill(lab, s, mean, rnd_int(r, 2));
	source_wander_fill(lab, s);
	snprintf(s->name, sizeof(s->name), "crowd");
}

/* ---- models ----------------------------------------------------------------------------------------------------- */
static inline void models_draw(struct lab *lab)
{
	static const char *const names[] = { "llama-3.1-8b-instruct", "llama-3.3-70b", "qwen2.5-32b-instruct", "mistral-small-24b", "deepseek-r1-distill-32b", "gemma-2-27b", "phi-4", "qwen3-30b-a3b" };
	static const char *const embed[] = { "bge-m3", "e5-large-v2", "nomic-embed-text" };
	struct rnd *r = &lab->r;
	int first = rnd_int(r, 8);

	lab->model_n = rnd_chance(r, 0.45) ? 1 : 2 + rnd_int(r, 4);
	for (int i = 0; i < lab->model_n; i++) {
		struct model *m = &lab->model[i];

		*m = (struct model){ .ttft0 = rnd_log(r, 0.03, 0.6), .prefill = rnd_log(r, 1500, 30000), .tpot0 = rnd_log(r, 0.006, 0.06), .noise = rnd_range(r, 0.1, 0.45), .base5xx = rnd_log(r, 0.0003, 0.008), .strained_since = -1 };
		m->embed = i && rnd_chance(r, 0.25);
		m->reasoning = !m->embed && rnd_chance(r, 0.15) ? rnd_range(r, 4, 20) : 0;
		snprintf(m->name, sizeof(m->name), "%s", m->embed ? embed[rnd_int(r, 3)] : names[(first + i) % 8]);
		if (m->embed)
			m->tpot0 = 0;
		for (double t = 0, apart = 86400 / rnd_log(r, 0.3, 8); m->hiccup_n < LAB_HICCUPS_MAX; m->hiccup_n++) {
			t += apart * rnd_exp(r);
			if (t > lab->len)
				break;
			m->hiccup[m->hiccup_n] = (struct hiccup){ t, rnd_log(r, 1, 8), rnd_chance(r, 0.4) ? rnd_range(r, 0.1, 0.6) : 0, rnd_log(r, 1, 4) };
		}
	}
}

/* Room for the site's own load and its bursts; one site in five has not much. */
static inline void models_size(struct lab *lab)
{
	double room = rnd_chance(&lab->r, 0.2) ? rnd_range(&lab->r, 1.3, 2) : rnd_log(&lab->r, 2.5, 8);

	for (int i = 0; i < lab->model_n; i++) {
		struct model *m = &lab->model[i];
		double need = 0, burst = 0;

		for (int k = 0; k < lab->src_n; k++) {
			const struct source *s = &lab->src[k];

			if (s->model == i && s->level > 0) {
				double busy = s->level * (m->ttft0 + s->prompt_scale * law_mean(lab_laws[s->law].prompt) / m->prefill +
							  s->answer_scale * (1 + s->reasoning) * law_mean(lab_laws[s->law].answer) * m->tpot0 * 1.3);

				need += busy;
				burst += busy * s->cv * s->cv;
			}
		}
		m->slots = 8 + need * room + 3 * sqrt(burst + need * 2);
	}
}

/* ---- what every site has beside its customers ------------------------------------------------------------------------ */
static inline void probe_add(struct lab *lab, double every, int path, uint16_t agent)
{
	struct source *s = source_new(lab, NULL);

	s->sh = (struct shape){ 0, LAB_NEVER, 0, 0, 0, 0 };
	s->level = 1 / every;
	s->cv = 0.02;
	s->path = path;
	s->keyless = true;
	who_fill(lab, s, 1, -1, 1, 1, 0, false);
	lab->who[s->who].agent = agent;
	lab->who[s->who].addr[0] = host_inside(lab);
	snprintf(s->name, sizeof(s->name), "probe");
}

/* The internet's own: short visits of a new address each, for paths that are not there. */
static inline void scanners_add(struct lab *lab, double per_day)
{
	int n = (int)(per_day * lab->len / 86400 + rnd_unit(&lab->r));

	for (int i = 0; i < n && i < 2000; i++) {
		struct source *s = source_new(lab, NULL);
		double start = rnd_range(&lab->r, 0, lab->len), length = rnd_log(&lab->r, 3, 300);

		s->sh = (struct shape){ start, start + length, 0, 0, 0, 0 };
		s->level = rnd_log(&lab->r, 3, 30) / length;
		s->cv = 1;
		s->path = rnd_chance(&lab->r, 0.7) ? PATH_SCAN : PATH_CHAT;
		s->auth = s->path == PATH_CHAT ? 1 : 0.2;
		s->keyless = true;
		s->entropy = 3;
		s->chars = 4;
		s->prompt_scale = s->answer_scale = 0.1;
		who_fill(lab, s, 1, -1, 1, 1, 0, false);
		lab->who[s->who].agent = (uint16_t)(AGENT_SCAN + rnd_int(&lab->r, 4));
		snprintf(s->name, sizeof(s->name), "scanner");
	}
}

/* ---- the site --------------------------------------------------------------------------------------------------- */
static inline void site_people(struct lab *lab)
{
	struct rnd *r = &lab->r;
	int customers = (int)rnd_log(r, 3, 60), crowds = rnd_chance(r, 0.6) ? 1 + rnd_int(r, 2) : 0;
	double top = rnd_range(r, 0.1, 0.55), crowd_share = crowds ? rnd_range(r, 0.03, 0.6) : 0, skew = rnd_range(r, 0.6, 1.8), total = 0;

	for (int i = 1; i < customers; i++)
		total += pow(i, -skew);
	for (int i = 0; i < customers; i++)
		customer_add(lab, lab->mean_rate * (1 - crowd_share) * (i == 0 ? top : (1 - top) * pow(i, -skew) / total), i);
	for (int i = 0; i < crowds; i++)
		crowd_add(lab, lab->mean_rate * crowd_share / crowds, (int)rnd_log(r, 30, 6000));
	if (rnd_chance(r, 0.12)) { /* one tests the safety of models for a living, and always looks like an attack */
		struct source *s = &lab->src[rnd_int(r, customers)];

		s->inject_p = rnd_range(r, 0.4, 0.95);
		s->inject = rnd_range(r, 0.6, 0.95);
		s->flips = 4;
		s->topics = 6;
	}
	if (rnd_chance(r, 0.15)) { /* one runs evaluations: the same prompts over and over, at machine cadence */
		struct source *s = &lab->src[rnd_int(r, customers)];

		s->repeat = rnd_range(r, 0.7, 0.98);
		s->cv = rnd_range(r, 0.05, 0.4);
		s->logprobs = 1;
	}
	if (rnd_chance(r, 0.1)) /* one has keys that expired, and nobody looks */
		lab->src[rnd_int(r, customers)].auth = rnd_range(r, 0.1, 0.8);
	lab->customers = lab->src_n;
	models_size(lab);
	if ((lab->has & HAS_PATH) && rnd_chance(r, 0.7)) {
		probe_add(lab, rnd_log(r, 5, 60), PATH_HEALTH, AGENT_PROBE);
		if (rnd_chance(r, 0.5))
			probe_add(lab, 15, PATH_METRICS, AGENT_PROBE + 1);
	}
	if ((lab->has & HAS_STATUS) && !lab->gateway && rnd_chance(r, 0.6))
		scanners_add(lab, rnd_log(r, 1, 40));
}

/* ---- expected rates ------------------------------------------------------------------------------------------------ */
/* A source's rate without mods, requests a second; linear between the middles of its bins. */
static inline double source_base(const struct lab *lab, const struct source *s, double t)
{
	double at, f;
	int i;

	if (!s->rate)
		return s->level;
	at = t / LAB_STEP_S - 0.5;
	if (at <= 0)
		return s->rate[0];
	i = (int)at;
	if (i + 1 >= lab->bins)
		return s->rate[lab->bins - 1];
	f = at - i;
	return s->rate[i] * (1 - f) + s->rate[i + 1] * f;
}

static inline double source_mean(const struct lab *lab, const struct source *s, double from, double to)
{
	double sum = 0;
	int n = (int)((to - from) / 300) + 1;

	n = n > 400 ? 400 : n;
	for (int i = 0; i < n; i++)
		sum += source_base(lab, s, from + (to - from) * (i + 0.5) / n);
	return sum / n;
}

/* Of all the site's own sources. */
static inline double lab_mean(const struct lab *lab, double from, double to)
{
	double sum = 0;

	for (int i = 0; i < lab->customers; i++)
		sum += source_mean(lab, &lab->src[i], from, to);
	return sum;
}

#endif
