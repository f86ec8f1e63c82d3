/*
 * attacks_one.h - attacks by somebody: what a key or an address does otherwise than before.
 */
#ifndef LAB_ATTACKS_ONE_H
#define LAB_ATTACKS_ONE_H

#include "attack.h"

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

#endif
