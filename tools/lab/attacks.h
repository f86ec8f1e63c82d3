/*
 * attacks.h - the twelve classes, each in several ways.
 *
 * `x` is the intensity: how many times the quantity that the class is about (docs/lab.md has the table). Each function
 * places one event at `t` and answers its end, or a negative number where this site has nobody to whom it could happen.
 * Variants marked `held` are drawn by test seeds only.
 */
#ifndef LAB_ATTACKS_H
#define LAB_ATTACKS_H

#include "serve.h"

#define EVENT_RECORDS_MAX 45000 /* what one event may add */

struct attack {
	const char *name;
	int needs;
	double shortest, longest, x_least, x_most;
	double (*place)(struct lab *lab, int variant, double t, double length, double x);
	struct { const char *name; bool held; } variant[9];
};

/* ---- helpers --------------------------------------------------------------------------------------------------- */
static inline struct shape shape_flat(double start, double end)
{
	return (struct shape){ start, end, 0, 0, 0, 0 };
}

/* Long enough to be seen at all, short enough not to fill the disk. */
static inline double length_fit(const struct lab *lab, double added_per_s, double length)
{
	if (added_per_s * length < 25)
		length = 25 / added_per_s;
	if (added_per_s * length > EVENT_RECORDS_MAX)
		length = EVENT_RECORDS_MAX / added_per_s;
	return length > lab->len / 3 ? lab->len / 3 : length;
}

/* A customer with at least so much traffic then, the larger the likelier; -1: nobody. */
static inline int customer_pick(struct lab *lab, double from, double to, double least, double most)
{
	double sum = 0, u;

	for (int pass = 0;; pass++) {
		u = pass ? rnd_unit(&lab->r) * sum : LAB_NEVER;
		for (int i = 0; i < lab->customers; i++) {
			double v = source_mean(lab, &lab->src[i], from, to);

			if (v < least || v > most || lab->src[i].crowd)
				continue;
			if (!(lab->has & (HAS_KEY | HAS_USER)) && !lab->src[i].exclusive)
				continue;
			if (!pass)
				sum += sqrt(v);
			else if ((u -= sqrt(v)) <= 0)
				return i;
		}
		if (pass || sum <= 0)
			return -1;
	}
}

/* Tokens of one request of it, about. */
static inline double source_tokens(const struct lab *lab, const struct source *s)
{
	double answer = s->path == PATH_EMBED || lab->model[s->model].embed ? 0 : s->answer_scale * (1 + s->reasoning) * law_mean(lab_laws[s->law].answer);

	return s->prompt_scale * law_mean(lab_laws[s->law].prompt) + (s->limit && answer > s->limit ? s->limit : answer);
}

/* Of all the site's own, tokens a second. */
static inline double lab_tokens(const struct lab *lab, double from, double to)
{
	double sum = 0;

	for (int i = 0; i < lab->customers; i++)
		sum += source_tokens(lab, &lab->src[i]) * source_mean(lab, &lab->src[i], from, to);
	return sum;
}

/* One identity of a customer: a key's people, one user, or (addresses only) all of a small customer. Answers its share. */
static inline double ident_pick(struct lab *lab, const struct source *s, int *ret_lo, int *ret_n)
{
	int i = s->who + (int)(s->who_n * pow(rnd_unit(&lab->r), 2)), hi;

	*ret_lo = i;
	hi = i + 1;
	if (lab->has & HAS_KEY) {
		while (*ret_lo > s->who && lab->who[*ret_lo - 1].key == lab->who[i].key)
			--*ret_lo;
		while (hi < s->who + s->who_n && lab->who[hi].key == lab->who[i].key)
			hi++;
	} else if (!(lab->has & HAS_USER)) {
		*ret_lo = s->who;
		hi = s->who + s->who_n;
	}
	*ret_n = hi - *ret_lo;
	return lab->who[hi - 1].cum - (*ret_lo > s->who ? lab->who[*ret_lo - 1].cum : 0);
}

/* The label is about these people of a source. */
static inline void label_about(const struct lab *lab, struct label *l, const struct source *s, int lo, int n)
{
	const char *kind;
	char v[64];

	if (who_ident(lab, &lab->who[lo], s->keyless, &kind, v, sizeof(v)))
		label_scope(l, kind, v);
	else
		label_scope(l, "global", "");
	label_who(lab, l, lo, n, s->keyless, s->exclusive && (n == s->who_n || s->crowd));
}

/* More of the same people, or a part of them: a source of its own with their habits. */
static inline struct source *source_part(struct lab *lab, int of, int lo, int n)
{
	struct source copy = lab->src[of], *s = source_new(lab, &copy);

	s->salt = copy.salt;
	s->who = lo;
	s->who_n = n;
	s->cum0 = lo > copy.who ? lab->who[lo - 1].cum : 0;
	s->attack = true;
	s->next = 0;
	return s;
}

/* Somebody new who asks for what others ask here. */
static inline struct source *stranger_new(struct lab *lab, struct shape sh, double rate)
{
	struct source copy = lab->src[rnd_int(&lab->r, lab->customers)], *s = source_new(lab, &copy);

	s->sh = sh;
	s->level = rate;
	s->cum0 = 0;
	s->attack = true;
	s->crowd = false;
	s->keyless = false;
	s->recent_n = 0;
	s->bad = 0.01;
	s->auth = s->abort = s->inject_p = 0;
	s->rotate = 0;
	s->exclusive = true;
	snprintf(s->name, sizeof(s->name), "attacker");
	return s;
}

static inline void who_same_key(struct lab *lab, const struct source *s, uint32_t key, uint32_t user)
{
	for (int i = 0; i < s->who_n; i++) {
		lab->who[s->who + i].key = key;
		lab->who[s->who + i].user = user;
	}
}

static inline void who_same_agent(struct lab *lab, const struct source *s, int agents)
{
	uint16_t a[8];

	for (int i = 0; i < 8; i++)
		a[i] = agent_new(lab, false);
	for (int i = 0; i < s->who_n; i++)
		lab->who[s->who + i].agent = a[rnd_int(&lab->r, agents)];
}

/* Where nobody is asked for a key, attackers show none, and have no name; elsewhere one of theirs. */
static inline void attacker_keys(struct lab *lab, struct source *s, bool one)
{
	if (one)
		who_same_key(lab, s, lab->who[s->who].key, lab->who[s->who].user);
	if (!lab->open || lab->gateway || rnd_chance(&lab->r, 0.3))
		return;
	s->keyless = true;
	for (int i = 0; i < s->who_n; i++)
		lab->who[s->who + i].user = 0;
}

/* ---- flood ------------------------------------------------------------------------------------------------------ */
enum { FLOOD_ONE, FLOOD_FEW, FLOOD_RUNAWAY, FLOOD_PULSED, FLOOD_RAMP, FLOOD_KEYS, FLOOD_EMPTY, FLOOD_NET };

static inline double place_flood(struct lab *lab, int variant, double t, double length, double x)
{
	struct rnd *r = &lab->r;
	double base = lab_mean(lab, t, t + length), rate = (x - 1) * base;
	struct shape sh;
	struct source *s;
	struct label *l;
	int n = 1;

	length = length_fit(lab, rate, length);
	base = lab_mean(lab, t, t + length);
	rate = (x - 1) * base;
	sh = shape_flat(t, t + length);
	if (variant == FLOOD_RUNAWAY) {
		int of = customer_pick(lab, t, t + length, base * 0.002, base * 0.3), lo;

		if (of < 0)
			return -1;
		ident_pick(lab, &lab->src[of], &lo, &n);
		s = source_part(lab, of, lo, n);
		s->sh = sh;
		s->level = rate;
		s->cv = rnd_range(r, 0.05, 0.6);
		s->repeat = rnd_range(r, 0.3, 0.99);
		s->retry = 0;
		l = label_new(lab, "flood", "runaway client", t, t + length, x);
		l->src = (int)(s - lab->src);
		label_about(lab, l, s, lo, n);
		return t + length;
	}
	if (variant == FLOOD_PULSED) {
		sh.period = rnd_log(r, 20, 240);
		sh.duty = rnd_range(r, 0.3, 0.75);
	}
	if (variant == FLOOD_RAMP)
		sh.in = length * rnd_range(r, 0.2, 0.5) > 300 ? 300 : length * 0.35;
	s = stranger_new(lab, sh, rate);
	n = variant == FLOOD_FEW ? 2 + rnd_int(r, 4) : variant == FLOOD_NET ? 8 + rnd_int(r, 30) : 1;
	if (lab->gateway)
		who_fill(lab, s, variant == FLOOD_KEYS ? 3 : 1, variant == FLOOD_KEYS ? 0 : 1, 0, 0, 0, false);
	else
		who_fill(lab, s, variant == FLOOD_KEYS ? 40 : n, variant == FLOOD_KEYS ? 0 : 1, variant == FLOOD_FEW ? n : 1, n, 0.3, false);
	s->exclusive = !lab->gateway;
	attacker_keys(lab, s, variant != FLOOD_KEYS);
	who_same_agent(lab, s, 1);
	s->cv = rnd_range(r, 0.05, 1.2);
	s->repeat = rnd_chance(r, 0.5) ? rnd_range(r, 0.8, 1) : rnd_range(r, 0, 0.5);
	s->topics = 1 + rnd_int(r, 4);
	s->prompt_scale = rnd_log(r, 0.05, 1);
	s->answer_scale = rnd_log(r, 0.05, 0.8);
	s->abort = rnd_chance(r, 0.3) ? rnd_range(r, 0.2, 0.9) : 0;
	s->entropy = rnd_range(r, 2.5, 4.6);
	s->bad = rnd_chance(r, 0.3) ? rnd_range(r, 0.05, 0.4) : 0.01;
	s->retry = 0;
	if (variant == FLOOD_EMPTY) { /* asks for one token, as fast as it can */
		s->limit = 1;
		s->prompt_scale = 0.02;
		s->abort = 0;
	}
	l = label_new(lab, "flood", (const char *[]){ "one address", "few addresses", "", "pulsed", "ramp", "one address, many keys", "one-token requests", "one network" }[variant], t, t + length, x);
	l->src = (int)(s - lab->src);
	label_about(lab, l, s, s->who, s->who_n);
	if (variant == FLOOD_NET && l->scope_kind && !strcmp(l->scope_kind, "client_ip")) {
		char v[64];

		net_name(lab->who[s->who].addr[0], v, sizeof(v));
		label_scope(l, "network", v);
	}
	if (variant == FLOOD_KEYS && !lab->gateway) {
		char v[64];

		addr_name(lab->who[s->who].addr[0], v, sizeof(v));
		label_scope(l, "client_ip", v);
	}
	return t + length;
}

/* ---- ddos --------------------------------------------------------------------------------------------------------- */
enum { DDOS_FEW, DDOS_WIDE, DDOS_PULSED, DDOS_JUNK, DDOS_RAMP, DDOS_POLITE, DDOS_V6, DDOS_ROTATING };

static inline double place_ddos(struct lab *lab, int variant, double t, double length, double x)
{
	struct rnd *r = &lab->r;
	double base = lab_mean(lab, t, t + length), v6 = lab->v6;
	struct shape sh;
	struct source *s;
	struct label *l;
	int n = variant == DDOS_FEW ? 20 + rnd_int(r, 50) : (int)rnd_log(r, 80, 4000);

	if (lab->gateway && !(lab->has & (HAS_KEY | HAS_USER)))
		return -1;
	length = length_fit(lab, (x - 1) * base, length);
	base = lab_mean(lab, t, t + length);
	sh = shape_flat(t, t + length);
	if ((x - 1) * base * length < n * 3) /* each of them shall be heard of */
		n = (int)((x - 1) * base * length / 3);
	if (n < 12)
		n = 12;
	if (variant == DDOS_PULSED) {
		sh.period = rnd_log(r, 20, 300);
		sh.duty = rnd_range(r, 0.3, 0.7);
	}
	if (variant == DDOS_RAMP)
		sh.in = length * 0.4 > 400 ? 400 : length * 0.4;
	s = stranger_new(lab, sh, (x - 1) * base);
	if (variant == DDOS_V6 && !lab->loopback)
		lab->v6 = 1;
	who_fill(lab, s, n, rnd_chance(r, 0.4) ? 1 + n / 20 : 0, lab->gateway ? 0 : n - n / 10, lab->gateway ? 0 : n, rnd_range(r, 0, 0.5), false);
	lab->v6 = v6;
	s->exclusive = !lab->gateway;
	s->cv = rnd_range(r, 0.6, 1.1);
	s->stick = 0;
	attacker_keys(lab, s, false);
	s->topics = 1 + rnd_int(r, 6);
	s->flips = rnd_range(r, 1, 6);
	s->repeat = rnd_range(r, 0, 0.8);
	s->prompt_scale = rnd_log(r, 0.05, 1.5);
	s->answer_scale = rnd_log(r, 0.05, 0.7);
	s->entropy = rnd_range(r, 2.2, 4.3);
	s->bad = rnd_range(r, 0.03, 0.4);
	s->retry = 0;
	if (variant == DDOS_JUNK) {
		s->entropy = rnd_chance(r, 0.5) ? rnd_range(r, 1, 2.5) : rnd_range(r, 5.4, 6);
		s->topics = 0;
		s->bad = rnd_range(r, 0.3, 0.6);
	}
	if (variant == DDOS_POLITE) { /* every one with an agent of its own and no errors: only what they ask is alike */
		s->bad = 0.01;
		s->topics = 3;
	} else {
		who_same_agent(lab, s, 1 + rnd_int(r, 4));
	}
	if (variant == DDOS_ROTATING) {
		s->rotate = n / 8 > 4 ? n / 8 : 4;
		s->rotate_s = length / 8;
	}
	l = label_new(lab, "ddos", (const char *[]){ "few", "wide", "pulsed", "junk", "ramp", "polite", "IPv6", "rotating" }[variant], t, t + length, x);
	l->src = (int)(s - lab->src);
	label_scope(l, "global", "");
	label_who(lab, l, s->who, n, s->keyless, s->exclusive);
	return t + length;
}

/* ---- flash crowd ----------------------------------------------------------------------------------------------------- */
enum { CROWD_LAUNCH, CROWD_NEWS, CROWD_SPOT, CROWD_CALENDAR, CROWD_CLASSROOM, CROWD_RETURN };

static inline void calendar_add(struct lab *lab, const char *name, double start, double end, const char *classes, const char *repeat)
{
	struct out *o = &lab->calendar;

	out_room(o);
	out_str(o, "{\"name\":\"");
	out_str(o, name);
	out_str(o, "\",\"start\":");
	out_fixed(o, lab->epoch + start, 0);
	out_str(o, ",\"end\":");
	out_fixed(o, lab->epoch + end, 0);
	out_str(o, ",\"repeat\":\"");
	out_str(o, repeat);
	out_str(o, "\",\"scope\":{\"kind\":\"global\",\"value\":\"\"},\"classes\":[");
	out_str(o, classes);
	out_str(o, "],\"note\":\"from the lab\"}\n");
}

static inline double place_crowd(struct lab *lab, int variant, double t, double length, double x)
{
	struct rnd *r = &lab->r;
	double base;
	struct shape sh;
	struct source *s;
	struct label *l;
	int n, of = -1;

	if (lab->gateway && !(lab->has & (HAS_KEY | HAS_USER)))
		return -1;
	length = variant == CROWD_SPOT ? length * 0.3 : length;
	length = length < 420 ? 420 : length;
	length = length_fit(lab, (x - 1) * lab_mean(lab, t, t + length) * 0.6, length);
	base = lab_mean(lab, t, t + length);
	sh = shape_flat(t, t + length);
	sh.in = length * rnd_range(r, 0.15, 0.4);
	sh.out = length * rnd_range(r, 0.2, 0.5);
	if (variant == CROWD_NEWS)
		sh.in = 40 + 80 * rnd_unit(r);
	for (int i = 0; i < lab->customers; i++)
		if (lab->src[i].crowd)
			of = i;
	if (of < 0 && variant == CROWD_RETURN)
		return -1;
	s = stranger_new(lab, sh, (x - 1) * base);
	habits_draw(lab, s);
	s->sh = sh;
	s->path = lab->model[s->model].embed ? PATH_EMBED : PATH_CHAT;
	if (of >= 0) { /* they ask what the public here asks */
		s->model = lab->src[of].model;
		s->law = lab->src[of].law;
		s->prompt_scale = lab->src[of].prompt_scale;
		s->answer_scale = lab->src[of].answer_scale;
		s->path = lab->src[of].path;
		s->limit = lab->src[of].limit;
	}
	s->topics = 0;
	s->repeat = rnd_range(r, 0, 0.06);
	s->spread = 0.7;
	s->cv = rnd_range(r, 0.9, 1.3);
	s->stick = rnd_range(r, 0.3, 0.7);
	s->bad = 0.012;
	s->inject_p = 0.004;
	n = (int)((x - 1) * base * length / rnd_log(r, 3, 15));
	n = n < 20 ? 20 : n > 8000 ? 8000 : n;
	if (variant == CROWD_RETURN) { /* nobody new: everybody who ever came is back */
		s->who = lab->src[of].who;
		s->who_n = lab->src[of].who_n;
		s->stick = 0.4;
	} else {
		who_fill(lab, s, n, 0, lab->gateway ? 0 : variant == CROWD_CLASSROOM ? 1 + n / 100 : n, lab->gateway ? 0 : variant == CROWD_CLASSROOM ? 2 + n / 15 : n, rnd_range(r, 0, 0.6), true);
	}
	if (rnd_chance(r, 0.75)) /* the site grows with it; else it queues, and that is its own affair (natural_load) */
		mod_on_model(lab, &lab->model[s->model], mod_new(lab, MOD_SLOTS, shape_flat(t, t + length), 1 + (x - 1) * 6));
	s->exclusive = !lab->gateway && variant != CROWD_RETURN;
	s->crowd = true;
	l = label_new(lab, "flash_crowd", (const char *[]){ "launch", "news", "advertisement", "campaign on the calendar", "classroom", "returning users" }[variant], t, t + length, x);
	l->src = (int)(s - lab->src);
	label_scope(l, "global", "");
	l->benign = true;
	label_who(lab, l, s->who, s->who_n, false, s->exclusive);
	if (variant == CROWD_CALENDAR)
		calendar_add(lab, "campaign", t - 300, t + length + 300, "\"flash_crowd\"", "none");
	return t + length;
}

/* ---- cost spike ------------------------------------------------------------------------------------------------------ */
enum { COST_PROMPTS, COST_ANSWERS, COST_BOTH, COST_LOOP, COST_REASONING, COST_FILES, COST_SLOW };

static inline double place_cost(struct lab *lab, int variant, double t, double length, double x)
{
	struct rnd *r = &lab->r;
	double base = lab_mean(lab, t, t + length), share = 0, own, more = 1, prompt, answer;
	int of = -1, lo = 0, n = 0, m;
	bool capped;
	struct shape sh;
	struct source *s;
	struct label *l;

	for (int tries = 0; tries < 12; tries++) {
		of = customer_pick(lab, t, t + length, base * 0.01 > 0.003 ? base * 0.01 : 0.003, base);
		if (of < 0)
			return -1;
		share = ident_pick(lab, &lab->src[of], &lo, &n);
		own = share * source_mean(lab, &lab->src[of], t, t + length);
		if (own >= base * 0.005 && own * length > 12 && own * source_tokens(lab, &lab->src[of]) * (x - 1) > 0.04 * lab_tokens(lab, t, t + length))
			break;
		of = -1;
	}
	if (of < 0)
		return -1;
	s = &lab->src[of];
	sh = shape_flat(t, t + length);
	if (variant == COST_SLOW)
		sh.in = length * 0.3;
	prompt = s->prompt_scale * law_mean(lab_laws[s->law].prompt);
	answer = source_tokens(lab, s) - prompt;
	capped = s->limit > 0; /* answers cannot grow */
	if (answer <= 0 || variant == COST_FILES)
		variant = variant == COST_LOOP ? COST_LOOP : COST_PROMPTS;
	if ((variant == COST_ANSWERS || variant == COST_REASONING) && (capped || answer < 0.25 * prompt))
		variant = COST_BOTH;
	if (variant == COST_PROMPTS) {
		m = mod_new(lab, MOD_PROMPT, sh, (x * (prompt + answer) - answer) / prompt);
	} else if (variant == COST_ANSWERS || variant == COST_REASONING) { /* what share of its tokens answers are decides how long they must get */
		m = mod_new(lab, MOD_ANSWER, sh, (x * (prompt + answer) - prompt) / answer);
	} else { /* more requests, each longer; an agent that goes round makes many */
		more = variant == COST_LOOP ? pow(x, rnd_range(r, 0.3, 0.6)) : pow(x, 0.25);
		m = mod_new(lab, MOD_PROMPT, sh, capped ? (x / more * (prompt + answer) - answer) / prompt : x / more);
		if (!capped) {
			lab->mods[m].who_lo = lo;
			lab->mods[m].who_hi = lo + n;
			mod_on_source(lab, &lab->src[of], m);
			m = mod_new(lab, MOD_ANSWER, sh, x / more);
		}
	}
	lab->mods[m].who_lo = lo;
	lab->mods[m].who_hi = lo + n;
	mod_on_source(lab, &lab->src[of], m);
	if (variant == COST_LOOP || variant == COST_BOTH) {
		int mods[LAB_MODS_MAX], k = lab->src[of].mod_n;

		memcpy(mods, lab->src[of].mod, sizeof(mods));
		s = source_part(lab, of, lo, n);
		s->sh = sh;
		s->level = (more - 1) * share * source_mean(lab, &lab->src[of], t, t + length);
		for (int i = 0; i < k; i++)
			s->mod[s->mod_n++] = mods[i];
		if (variant == COST_LOOP)
			s->cv = rnd_range(r, 0.2, 1);
	}
	l = label_new(lab, "cost_spike", (const char *[]){ "longer prompts", "longer answers", "both", "agent loop", "reasoning", "files pasted", "slow" }[variant], t, t + length, x);
	label_about(lab, l, &lab->src[of], lo, n);
	return t + length;
}

/* ---- scraping, probing ------------------------------------------------------------------------------------------------- */
/* Somebody known who changes, or somebody new: fills who is to blame. NULL: nobody fits. */
static inline struct source *suspect_new(struct lab *lab, double t, double length, double rate, int addresses, bool known, int *ret_n)
{
	struct source *s;
	int of, lo, n;

	if (known) {
		of = customer_pick(lab, t, t + length, 0, lab_mean(lab, t, t + length) * 0.2);
		if (of < 0)
			return NULL;
		ident_pick(lab, &lab->src[of], &lo, &n);
		s = source_part(lab, of, lo, n);
		s->recent_n = 0;
		s->auth = s->abort = 0;
		*ret_n = n;
	} else if (lab->reuse_n) { /* the same as before, now at something else */
		s = stranger_new(lab, shape_flat(t, t + length), rate);
		s->who = lab->reuse;
		s->who_n = *ret_n = lab->reuse_n;
		s->exclusive = !lab->gateway;
	} else {
		s = stranger_new(lab, shape_flat(t, t + length), rate);
		who_fill(lab, s, addresses, 1, lab->gateway ? 0 : addresses, lab->gateway ? 0 : addresses, 0, false);
		s->exclusive = !lab->gateway;
		who_same_key(lab, s, lab->who[s->who].key, lab->who[s->who].user);
		*ret_n = addresses;
	}
	s->sh = shape_flat(t, t + length);
	s->level = rate;
	s->retry = 0;
	s->cache = 0;
	return s;
}

enum { SCRAPE_NEW, SCRAPE_KNOWN, SCRAPE_LOGPROBS, SCRAPE_SLOW, SCRAPE_PAUSES, SCRAPE_ADDRESSES, SCRAPE_JITTER };

static inline double place_scraping(struct lab *lab, int variant, double t, double length, double x)
{
	struct rnd *r = &lab->r;
	double base = lab_mean(lab, t, t + length), rate = base * 0.06 * x;
	bool known = variant == SCRAPE_KNOWN || (variant == SCRAPE_LOGPROBS && rnd_chance(r, 0.5));
	struct source *s;
	struct label *l;
	int n;

	rate = variant == SCRAPE_SLOW ? rate * 0.4 : rate;
	rate = rate < 0.03 ? 0.03 : rate > 6 ? 6 : rate;
	if (rate * length < 60)
		length = 60 / rate;
	length = length_fit(lab, rate, length);
	s = suspect_new(lab, t, length, rate, variant == SCRAPE_ADDRESSES ? 3 + rnd_int(r, 6) : 1, known, &n);
	if (!s)
		return -1;
	if (s->path == PATH_EMBED || lab->model[s->model].embed) {
		s->model = 0;
		s->path = PATH_CHAT;
	}
	s->reasoning = thinking(lab, s);
	s->cv = variant == SCRAPE_JITTER ? rnd_range(r, 0.3, 0.5) : rnd_range(r, 0.02, 0.25);
	if (variant == SCRAPE_PAUSES) {
		s->sh.period = rnd_log(r, 60, 600);
		s->sh.duty = rnd_range(r, 0.5, 0.85);
	}
	s->repeat = 0;
	s->topics = 1 + rnd_int(r, 5);
	s->flips = rnd_range(r, 3, 8);
	s->limit = 1 << (9 + rnd_int(r, 4));
	s->cap = rnd_range(r, 0.6, 0.98);
	s->logprobs = variant == SCRAPE_LOGPROBS ? 1 : rnd_chance(r, 0.4) ? 1 : 0;
	s->spread = 0.1;
	s->stream = rnd_chance(r, 0.3);
	l = label_new(lab, "scraping", (const char *[]){ "new key", "known key", "log probabilities", "slow", "with pauses", "several addresses", "jittered" }[variant], t, t + length, x);
	l->src = (int)(s - lab->src);
	label_about(lab, l, s, s->who, n);
	return t + length;
}

enum { PROBE_NEW, PROBE_KNOWN, PROBE_SLOW, PROBE_BURSTS, PROBE_ADDRESSES, PROBE_MILD };

static inline double place_probing(struct lab *lab, int variant, double t, double length, double x)
{
	struct rnd *r = &lab->r;
	double base = lab_mean(lab, t, t + length), rate = base * 0.02 * x;
	struct source *s;
	struct label *l;
	int n;

	rate = rate < 0.05 ? 0.05 : rate > 3 ? 3 : rate;
	rate = variant == PROBE_SLOW ? rate * 0.4 : rate;
	if (rate * length < 40)
		length = 40 / rate;
	length = length_fit(lab, rate, length);
	s = suspect_new(lab, t, length, rate, variant == PROBE_ADDRESSES ? 3 + rnd_int(r, 8) : 1, variant == PROBE_KNOWN, &n);
	if (!s)
		return -1;
	if (s->path == PATH_EMBED || lab->model[s->model].embed) {
		s->model = 0;
		s->path = PATH_CHAT;
	}
	if (variant == PROBE_BURSTS) {
		s->sh.period = rnd_log(r, 40, 400);
		s->sh.duty = rnd_range(r, 0.3, 0.6);
	}
	s->cv = rnd_range(r, 0.1, 1);
	s->repeat = 0.03;
	s->topics = 1 + rnd_int(r, 3);
	s->flips = rnd_range(r, 1, 5);
	s->spread = 0.05;
	s->law = 0; /* short prompts of one length */
	s->prompt_scale = rnd_log(r, 0.3, 2);
	s->answer_scale = rnd_log(r, 0.3, 1);
	s->inject_p = variant == PROBE_MILD ? rnd_range(r, 0.45, 0.6) : rnd_range(r, 0.6, 0.97);
	s->inject = rnd_range(r, 0.65, 0.95);
	s->refuse = rnd_range(r, 0.3, 0.8);
	s->bad = rnd_range(r, 0.01, 0.15);
	s->limit = 0;
	s->cap = 0;
	l = label_new(lab, "prompt_probing", (const char *[]){ "new key", "known key", "slow", "bursts", "several addresses", "mild" }[variant], t, t + length, x);
	l->src = (int)(s - lab->src);
	label_about(lab, l, s, s->who, n);
	return t + length;
}

/* ---- credentials --------------------------------------------------------------------------------------------------------- */
enum { CRED_GUESS, CRED_NONE, CRED_FEW, CRED_SPRAY, CRED_SLOW, CRED_FORBIDDEN };

static inline double place_credentials(struct lab *lab, int variant, double t, double length, double x)
{
	struct rnd *r = &lab->r;
	double base = lab_mean(lab, t, t + length), normal = base * 0.004 + 0.02, rate = normal * 4 * x;
	int n, keys;
	struct source *s;
	struct label *l;
	char v[64];

	rate = variant == CRED_SLOW ? rate * 0.4 : rate;
	if (rate * length < 60)
		length = 60 / rate;
	length = length_fit(lab, rate, length);
	n = variant == CRED_FEW ? 2 + rnd_int(r, 4) : variant == CRED_SPRAY ? 20 + rnd_int(r, 200) : 1;
	keys = (int)(rate * length / rnd_range(r, 1, 3)) + 10;
	keys = keys > 20000 ? 20000 : keys;
	s = stranger_new(lab, shape_flat(t, t + length), rate);
	who_fill(lab, s, variant == CRED_NONE ? n : keys, variant == CRED_NONE ? -1 : 0, lab->gateway ? 0 : n, lab->gateway ? 0 : n, 0, false);
	s->exclusive = !lab->gateway;
	for (int i = 0; i < s->who_n; i++)
		lab->who[s->who + i].user = 0; /* nobody who is refused has a name */
	s->rotate = variant == CRED_NONE ? 0 : 1;
	s->rotate_s = length / s->who_n;
	s->keyless = variant == CRED_NONE;
	who_same_agent(lab, s, 1 + rnd_int(r, 2));
	s->auth = rnd_range(r, 0.94, 1);
	s->stick = 0;
	s->cv = rnd_range(r, 0.1, 1);
	s->topics = 1;
	s->repeat = 0.9;
	s->prompt_scale = 0.1;
	s->retry = 0;
	l = label_new(lab, "credential_abuse", (const char *[]){ "guessing from one address", "no key", "few addresses", "sprayed", "slow", "forbidden" }[variant], t, t + length, x);
	l->src = (int)(s - lab->src);
	if (lab->gateway || variant == CRED_SPRAY) {
		label_scope(l, "global", "");
	} else {
		addr_name(lab->who[s->who].addr[0], v, sizeof(v));
		label_scope(l, "client_ip", v);
	}
	for (int i = 0; i < s->who_n && !lab->gateway; i++) {
		if (!lab->who[s->who + i].addr_n)
			continue;
		addr_name(lab->who[s->who + i].addr[0], v, sizeof(v));
		label_actor(l, "client_ip", v);
		net_name(lab->who[s->who + i].addr[0], v, sizeof(v));
		label_actor(l, "network", v);
	}
	return t + length;
}

enum { SHARE_STOLEN, SHARE_SOLD, SHARE_WIDE, SHARE_SLOW, SHARE_SAME_AGENT };

static inline double place_sharing(struct lab *lab, int variant, double t, double length, double x)
{
	struct rnd *r = &lab->r;
	double base = lab_mean(lab, t, t + length), own = 0, share, rate;
	int of = -1, lo = 0, n = 0, people, k;
	struct source *s;
	struct label *l;
	char v[64];

	if (lab->gateway || !(lab->has & HAS_KEY))
		return -1;
	for (int tries = 0; tries < 12 && of < 0; tries++) {
		of = customer_pick(lab, t, t + length, 0.003, base);
		if (of < 0)
			return -1;
		share = ident_pick(lab, &lab->src[of], &lo, &n);
		own = share * source_mean(lab, &lab->src[of], t, t + length);
		if (own < base * 0.003 || own > base * 0.3 || lab->src[of].keyless)
			of = -1;
	}
	if (of < 0)
		return -1;
	rate = (x - 1) * own;
	rate = rate < 0.01 ? 0.01 : rate;
	if (rate * length < 60)
		length = 60 / rate;
	length = length_fit(lab, rate, length);
	people = variant == SHARE_STOLEN ? 4 + rnd_int(r, 10) : variant == SHARE_WIDE ? 80 + rnd_int(r, 500) : 10 + rnd_int(r, 60);
	if (people > rate * length / 3)
		people = (int)(rate * length / 3) + 4;
	s = stranger_new(lab, shape_flat(t, t + length), rate);
	if (variant == SHARE_SLOW || variant == SHARE_SOLD)
		s->sh.in = length * 0.4;
	s->model = lab->src[of].model;
	s->path = lab->src[of].path;
	who_fill(lab, s, people, 1, people, people, rnd_range(r, 0.2, 1), false);
	who_same_key(lab, s, lab->who[lo].key, lab->who[lo].user);
	for (int i = 0; i < people; i++)
		lab->who[s->who + i].agent = agent_new(lab, rnd_chance(r, 0.5));
	if (variant == SHARE_SAME_AGENT)
		for (int i = 0; i < people; i++)
			lab->who[s->who + i].agent = lab->who[lo].agent;
	s->topics = 0;
	s->repeat = rnd_range(r, 0, 0.1);
	s->cv = rnd_range(r, 0.8, 1.6);
	k = s->who;
	l = label_new(lab, "key_sharing", (const char *[]){ "stolen", "sold on", "wide", "slow", "with the owner's agent" }[variant], t, t + length, x);
	l->src = (int)(s - lab->src);
	key_name(lab, lab->who[lo].key, v, sizeof(v));
	label_scope(l, "api_key", v);
	label_who(lab, l, k, people, false, true);
	return t + length;
}

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
	for (int i = 0; i < lab->customers; i++)
		if (of < 0 || i == of) {
			mod_on_source(lab, &lab->src[i], m);
			mod_on_source(lab, &lab->src[i], m2);
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
	for (int i = 0; i < lab->customers; i++)
		mod_on_source(lab, &lab->src[i], m);
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
	for (int i = 0; i < lab->customers; i++)
		if (of < 0 || i == of)
			mod_on_source(lab, &lab->src[i], m);
	l = label_new(lab, "traffic_drop", (const char *[]){ "everybody", "a big customer", "silence", "ramp", "flapping" }[variant], t, t + length, x);
	if (of >= 0) {
		label_about(lab, l, &lab->src[of], lab->src[of].who, lab->src[of].who_n);
	} else {
		label_scope(l, "global", "");
	}
	return t + length;
}

static const struct attack lab_attacks[] = {
	{ "flood", 0, 30, 7200, 1.5, 10, place_flood,
	  { { "one", 0 }, { "few", 0 }, { "runaway", 0 }, { "pulsed", 0 }, { "ramp", 0 }, { "keys", 1 }, { "empty", 1 }, { "net", 1 } } },
	{ "ddos", 0, 45, 7200, 1.5, 10, place_ddos,
	  { { "few", 0 }, { "wide", 0 }, { "pulsed", 0 }, { "junk", 0 }, { "ramp", 0 }, { "polite", 1 }, { "v6", 1 }, { "rotating", 1 } } },
	{ "flash_crowd", 0, 600, 10800, 1.5, 6, place_crowd,
	  { { "launch", 0 }, { "news", 0 }, { "spot", 0 }, { "calendar", 0 }, { "classroom", 1 }, { "return", 1 } } },
	{ "cost_spike", 0, 120, 21600, 2, 10, place_cost,
	  { { "prompts", 0 }, { "answers", 0 }, { "both", 0 }, { "loop", 0 }, { "reasoning", 1 }, { "files", 1 }, { "slow", 1 } } },
	{ "scraping", HAS_PROMPT | HAS_LIMIT, 180, 21600, 1.5, 10, place_scraping,
	  { { "new", 0 }, { "known", 0 }, { "logprobs", 0 }, { "slow", 0 }, { "pauses", 0 }, { "addresses", 1 }, { "jitter", 1 } } },
	{ "prompt_probing", HAS_PROMPT, 120, 7200, 1.5, 10, place_probing,
	  { { "new", 0 }, { "known", 0 }, { "slow", 0 }, { "bursts", 0 }, { "addresses", 1 }, { "mild", 1 } } },
	{ "credential_abuse", HAS_STATUS, 60, 7200, 1.5, 10, place_credentials,
	  { { "guess", 0 }, { "none", 0 }, { "few", 0 }, { "spray", 1 }, { "slow", 1 } } },
	{ "key_sharing", HAS_KEY, 300, 86400, 1.5, 10, place_sharing,
	  { { "stolen", 0 }, { "sold", 0 }, { "wide", 0 }, { "slow", 1 }, { "agent", 1 } } },
	{ "token_growth", 0, 7200, 432000, 1.3, 3, place_growth,
	  { { "model", 0 }, { "key", 0 }, { "global", 0 }, { "answers", 1 }, { "customer", 0 }, { "stays", 1 } } },
	{ "latency_regression", HAS_LATENCY, 180, 43200, 1.3, 3, place_latency,
	  { { "both", 0 }, { "first", 0 }, { "tokens", 0 }, { "ramp", 0 }, { "pulsed", 1 }, { "mild", 1 } } },
	{ "error_burst", HAS_STATUS, 30, 7200, 1.5, 10, place_errors,
	  { { "model", 0 }, { "global", 0 }, { "stream", 0 }, { "pulsed", 1 }, { "ramp", 1 } } },
	{ "traffic_drop", 0, 180, 21600, 1.5, 10, place_drop,
	  { { "all", 0 }, { "customer", 0 }, { "silence", 0 }, { "ramp", 1 }, { "flapping", 1 } } },
};
#define LAB_ATTACKS ((int)(sizeof(lab_attacks) / sizeof(lab_attacks[0])))

static inline int attack_find(const char *name)
{
	for (int i = 0; i < LAB_ATTACKS; i++)
		if (!strcmp(lab_attacks[i].name, name))
			return i;
	return -1;
}

/* A variant that this seed may use. */
static inline int variant_pick(struct lab *lab, const struct attack *a)
{
	for (;;) {
		int i = rnd_int(&lab->r, (int)(sizeof(a->variant) / sizeof(a->variant[0])));

		if (a->variant[i].name && (lab->test || !a->variant[i].held))
			return i;
	}
}

#endif
