/*
 * attack.h - what placing an event needs: whom it may befall, who does it, what its label says.
 */
#ifndef LAB_ATTACK_H
#define LAB_ATTACK_H

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

/* Addresses of these people, counted up to 4; *ret_net: all in one network. */
static inline int addresses_of(const struct lab *lab, int lo, int n, bool *ret_net)
{
	uint64_t seen[4];
	int k = 0;

	*ret_net = true;
	for (int i = lo; i < lo + n; i++)
		for (int a = 0; a < lab->who[i].addr_n; a++) {
			uint64_t v = lab->who[i].addr[a];
			int j = 0;

			*ret_net = *ret_net && !((v ^ lab->who[lo].addr[0]) >> (v >> 63 ? 16 : 8));
			while (j < k && seen[j] != v)
				j++;
			if (j == k && k < 4)
				seen[k++] = v;
		}
	return k;
}

/* One identity of a customer: a key's people, one user, or (addresses only) all of one who has few, else one of them. Answers its share. */
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
		bool net;

		if (addresses_of(lab, s->who, s->who_n, &net) < 4) {
			*ret_lo = s->who;
			hi = s->who + s->who_n;
		}
	}
	*ret_n = hi - *ret_lo;
	return lab->who[hi - 1].cum - (*ret_lo > s->who ? lab->who[*ret_lo - 1].cum : 0);
}

/* The label is about these people of a source. */
static inline void label_about(const struct lab *lab, struct label *l, const struct source *s, int lo, int n)
{
	const char *kind;
	char v[64];
	bool net, own = n == s->who_n || s->crowd;

	if (who_ident(lab, &lab->who[lo], s->keyless, &kind, v, sizeof(v))) {
		label_scope(l, kind, v);
		bool bare = kind[0] == 'c'; /* client_ip: where addresses are all there is, this one is the name */

		own = own || bare;
		if (bare && addresses_of(lab, lo, n, &net) > 3 && net) {
			net_name(lab->who[lo].addr[0], v, sizeof(v));
			label_scope(l, "network", v);
		}
	} else {
		label_scope(l, "global", "");
	}
	label_who(lab, l, lo, n, s->keyless, s->exclusive && own);
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
	s->resident = false;
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
	s->crowd = s->resident = false;
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

#endif
