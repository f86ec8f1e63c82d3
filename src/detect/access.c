/* Access: keys used from where they never were (key_sharing), and refused credentials by the dozen (credential_abuse). */
#include <math.h>

#include "detect/engine.h"

#define SOURCES_MAX 64

void access_init(struct access_state *a)
{
	memset(a, 0, sizeof(*a));
	a->begun = -1;
}

void access_done(struct access_state *a)
{
	free(a->known);
	a->known = NULL;
}

static struct known_net *place_of(struct known_net *table, uint32_t cap, uint32_t net)
{
	uint32_t i = net * 2654435761u & (cap - 1);

	while (table[i].net && table[i].net != net)
		i = (i + 1) & (cap - 1);
	return &table[i];
}

/* More room; at the ceiling the half that was idle for longest is forgotten. */
static bool make_room(struct access_state *a, int32_t now)
{
	uint32_t cap = a->cap ? a->cap * 2 : KNOWN_NETS_MIN, kept = 0;
	int32_t before = -1;
	struct known_net *t;

	if (cap > KNOWN_NETS_MAX) {
		double sum = 0;

		cap = KNOWN_NETS_MAX;
		for (uint32_t i = 0; i < a->cap; i++)
			sum += a->known[i].net ? (double)a->known[i].last : 0;
		before = (int32_t)(sum / MAX(a->used, 1u));
		a->forgets = now - before < SHARING_OLD_S;
	}
	t = calloc(cap, sizeof(*t));
	if (!t)
		return false;
	for (uint32_t i = 0; i < a->cap; i++) {
		if (a->known[i].net && a->known[i].last > before) {
			*place_of(t, cap, a->known[i].net) = a->known[i];
			kept++;
		}
	}
	free(a->known);
	a->known = t;
	a->cap = cap;
	a->used = kept;
	return kept < cap * 3 / 4;
}

void access_put(struct access_state *a, const struct known_net *net, int32_t now)
{
	if (!net->net || (a->used >= a->cap * 3 / 4 && !make_room(a, now)))
		return;
	if (!place_of(a->known, a->cap, net->net)->net)
		a->used++;
	*place_of(a->known, a->cap, net->net) = *net;
}

/* One request of a key (or user) from a network. */
void access_see(struct detect *d, struct entity *e, uint32_t net)
{
	struct full *f = full_of(d, e);
	struct access_state *a;
	struct known_net *k;

	if (!f || !net)
		return;
	a = &f->access;
	if (a->begun < 0)
		a->begun = d->tick;
	k = a->cap ? place_of(a->known, a->cap, net) : NULL;
	if (k && k->net) {
		k->last = d->tick;
		return;
	}
	if (a->used >= a->cap * 3 / 4 && !make_room(a, d->tick))
		return;
	*place_of(a->known, a->cap, net) = (struct known_net){ .net = net, .first = d->tick, .last = d->tick };
	a->used++;
}

/* ---- a key from many new networks ------------------------------------------------------------------ */
struct sharing {
	double fresh, fresh_step, old, before, requests, from_fresh, lately, users; /* lately: from_fresh of the last minute */
	uint32_t ip[SOURCES_MAX], user[SOURCES_MAX];
	double per_ip[SOURCES_MAX];
	unsigned int ips, user_n, pairs;
	int32_t first, old_last;
};

static void sharing_count(const struct access_state *a, int32_t tick, struct sharing *s)
{
	int32_t since = MAX(tick - SHARING_WINDOW_S, a->begun + SHARING_YOUNG_S);

	s->first = tick;
	for (uint32_t k = 0; k < a->cap; k++) {
		const struct known_net *n = &a->known[k];

		if (!n->net)
			continue;
		if (n->first > since) {
			s->fresh++;
			s->first = MIN(s->first, n->first);
		} else {
			/* Learnt when the window has passed: what is about to be told does not excuse itself. */
			s->fresh_step += n->first > tick - SHARING_WINDOW_S - SHARING_STEP_S && n->first > a->begun + SHARING_YOUNG_S;
			s->before++;
			s->old += n->last > tick - SHARING_OLD_S;
			s->old_last = MAX(s->old_last, n->last);
		}
	}
}

/* Which of its requests come from there. */
static void sharing_requests(const struct detect *d, const struct entity *e, struct sharing *s)
{
	struct access_state *a = &e->full->access;
	int chain = e->kind == ENTITY_API_KEY ? WHO_KEY : WHO_USER;
	const struct moment *m;

	for (uint32_t seq = e->recent; (m = recent_at(&d->recent, seq)) && m->tick >= s->first && m->tick >= e->born; seq = m->prev[chain]) {
		const struct entity *ip;
		const struct known_net *net;
		unsigned int k;

		if (!(m->what & MOMENT_ARRIVAL) || m->who[WHO_IP] == NOBODY)
			continue;
		ip = at(d, m->who[WHO_IP]);
		s->requests += (double)m->weight;
		if (ip->net == NOBODY)
			continue;
		net = place_of(a->known, a->cap, (uint32_t)at(d, ip->net)->hash);
		if (!net->net || net->first < s->first)
			continue;
		s->from_fresh += (double)m->weight;
		s->lately += m->tick > d->tick - STEP_S * WINDOW_STEPS ? (double)m->weight : 0;
		for (k = 0; k < s->ips && s->ip[k] != m->who[WHO_IP]; k++)
			;
		if (k == s->ips && s->ips < SOURCES_MAX) {
			s->ip[k] = m->who[WHO_IP];
			s->ips++;
		}
		if (k < s->ips)
			s->per_ip[k] += (double)m->weight;
		if (m->who[WHO_USER] == NOBODY)
			continue;
		for (k = 0; k < s->user_n && s->user[k] != m->who[WHO_USER]; k++)
			;
		if (k == s->user_n && s->user_n < SOURCES_MAX) {
			s->user[s->user_n++] = m->who[WHO_USER];
			s->users += at(d, m->who[WHO_USER])->born >= s->first - 1;
		}
	}
}

static void judge_sharing(struct detect *d, uint32_t i)
{
	struct entity *e = at(d, i);
	struct access_state *a = &e->full->access;
	struct sharing s = { 0 };
	double lambda, z, strength;
	struct finding f;
	char who[ENTITY_NAME_MAX + 32];

	if (!a->cap || d->tick - a->begun < SHARING_YOUNG_S)
		return;
	sharing_count(a, d->tick, &s);
	lambda = (double)a->novelty * SHARING_WINDOW_S / SHARING_STEP_S + SHARING_LAMBDA;
	z = 2 * (sqrt(s.fresh + 0.375) - sqrt(lambda + 0.375));
	strength = MIN(s.fresh / SHARING_MIN_NETS, z / SHARING_Z);
	strength = MIN(strength, s.fresh / MAX(SHARING_PEAK * habit_of(d, (double)a->peak), 1.0));
	strength = MIN(strength, s.fresh / MAX(SHARING_KNOWN * s.before, 1.0));
	strength = MIN(strength, s.fresh / (SHARING_RATIO * lambda));
	if (strength >= LEAVE_FACTOR && s.old >= 1 && !a->forgets) {
		double quiet = baseline_floor(&e->req) * (d->tick - s.first) / STEP_S; /* what others send with it is not his */

		sharing_requests(d, e, &s);
		strength = MIN(strength, s.requests > 0 ? s.from_fresh / s.requests / SHARING_SHARE : 0);
		strength = MIN(strength, s.from_fresh / SHARING_REQUESTS);
		if (d->tick - a->begun < SHARING_LEARNT_S && s.before >= SHARING_MANY)
			strength = MIN(strength, s.fresh / MAX(s.requests, 1.0) / (SHARING_NOVELTY * s.before / MAX((double)e->requests - s.requests, 1.0)));
		/* A customer who moved is no longer where he was. */
		if (s.old_last < s.first && quiet > SHARING_REQUESTS && s.fresh < 2 * SHARING_MIN_NETS)
			strength = 0;
		if (s.ips >= CROWD_USERS * 8 && s.users >= CROWD_USERS * s.ips)
			strength = 0;
		if (s.fresh >= CROWD_NETS && MAX(s.from_fresh * STEP_S / MAX(d->tick - s.first, 60), s.lately / WINDOW_STEPS) > CROWD_OF_ALL * baseline_expected(&global_of(d)->req))
			strength = 0;
		if (strength >= LEAVE_FACTOR) {
			finding_init(&f, WATCH_ACCESS, CLASS_KEY_SHARING, i, strength, z);
			f.needs = SHARING_NEEDS;
			f.leave_s = LEAVE_ACCESS_S;
			f.accept_s = ACCEPT_SURE_S;
			f.magnitude = s.fresh;
			f.confidence = 1 - 0.5 / MAX(strength, 1.0);
			f.start = d->base + s.first;
			finding_actor(&f, i, 1);
			for (unsigned int k = 0; k < s.ips; k++)
				finding_actor(&f, s.ip[k], s.per_ip[k] / MAX(s.from_fresh, 1.0));
			finding_evidence(&f, "new_networks", s.fresh, lambda, z);
			finding_evidence(&f, "known_networks_in_use", s.old, s.old, 0);
			finding_evidence(&f, "share_from_new_networks", s.from_fresh / MAX(s.requests, 1.0), 0, 0);
			finding_say(&f, "%s is used from %.0f networks it was never used from (%.1f are usual in that time), beside %.0f known ones", describe_who(d, i, who, sizeof(who)), s.fresh,
				    lambda - SHARING_LAMBDA, s.old);
			incident_report(d, &f);
		}
	}
	if (d->tick % SHARING_STEP_S < STEP_S && !e->suspect && d->tick - a->begun >= SHARING_YOUNG_S + SHARING_WINDOW_S + SHARING_STEP_S) {
		double steps = (double)(d->tick - a->begun - SHARING_YOUNG_S - SHARING_WINDOW_S) / SHARING_STEP_S;

		a->novelty += (float)(MAX(0.02, 1 / (steps + 1)) * (s.fresh_step - (double)a->novelty));
		a->peak = (float)MAX((double)a->peak * SHARING_PEAK_KEEP, s.fresh_step);
	}
}

/* ---- refused credentials --------------------------------------------------------------------------- */
struct auth_sum {
	double failed, done;
	uint32_t ip[SOURCES_MAX], key[SOURCES_MAX];
	double per_ip[SOURCES_MAX], per_key[SOURCES_MAX], keyless;
	unsigned int ips, keys;
	unsigned int top_ip, top_key;
	double theirs, theirs_failed; /* all requests, and the refused ones, of addresses that are nobody's gateway */
	int32_t first, last;
};

static void auth_add(uint32_t *who, double *n, unsigned int *used, uint32_t v, double w)
{
	unsigned int k = 0;

	while (k < *used && who[k] != v)
		k++;
	if (k == *used) {
		if (k == SOURCES_MAX)
			return;
		who[k] = v;
		n[(*used)++] = 0;
	}
	n[k] += w;
}

/* What was refused in the last `span` seconds, and who sent it. */
static void auth_gather(const struct detect *d, int32_t span, struct auth_sum *s)
{
	const struct moment *m;

	s->first = s->last = d->tick;
	for (uint32_t seq = recent_newest(&d->recent); (m = recent_at(&d->recent, seq)) && m->tick > d->tick - span; seq--) {
		if (!(m->what & MOMENT_DONE) || !m->status)
			continue;
		s->done += (double)m->weight;
		if (m->status != 401 && m->status != 403)
			continue;
		if (s->failed <= 0)
			s->last = m->tick;
		s->failed += (double)m->weight;
		s->first = m->tick;
		if (m->who[WHO_IP] != NOBODY)
			auth_add(s->ip, s->per_ip, &s->ips, m->who[WHO_IP], (double)m->weight);
		if (m->who[WHO_KEY] != NOBODY)
			auth_add(s->key, s->per_key, &s->keys, m->who[WHO_KEY], (double)m->weight);
		else
			s->keyless += (double)m->weight;
	}
	for (unsigned int k = 0; k < s->ips; k++) {
		const struct entity *e = at(d, s->ip[k]);

		if (s->per_ip[k] > s->per_ip[s->top_ip])
			s->top_ip = k;
		/* Behind a gateway are others: what it sends is not the guesser's. */
		if (entity_shared(e))
			continue;
		s->theirs += span > STEP_S * WINDOW_STEPS ? entity_requests300(e) : entity_requests60(e);
		s->theirs_failed += s->per_ip[k];
	}
	for (unsigned int k = 0; k < s->keys; k++)
		if (s->per_key[k] > s->per_key[s->top_key])
			s->top_key = k;
}

static void auth_report(struct detect *d, const struct auth_sum *s, int32_t span, double usual, double strength, double z)
{
	struct finding f;
	char who[ENTITY_NAME_MAX + 32];
	uint32_t scope = s->ips && s->per_ip[s->top_ip] >= AUTH_MAIN * s->failed ? s->ip[s->top_ip] : NOBODY;
	double minutes = span / 60.0;

	finding_init(&f, WATCH_AUTH, CLASS_CREDENTIAL_ABUSE, scope, strength, z);
	f.needs = 2;
	f.leave_s = LEAVE_ACCESS_S;
	f.accept_s = ACCEPT_SURE_S;
	f.quiet = true;
	f.magnitude = s->failed / MAX(usual, 1.0);
	f.start = d->base + s->first;
	for (unsigned int k = 0; k < s->ips && f.actors < SUSPECTS_MAX; k++)
		if (s->per_ip[k] >= TOP_SHARE * s->failed)
			finding_actor(&f, s->ip[k], s->per_ip[k] / s->failed);
	/* He may have another address tomorrow; the network stays. */
	if (scope != NOBODY)
		finding_actor(&f, at(d, scope)->net, s->per_ip[s->top_ip] / s->failed);
	finding_evidence(&f, "auth_errors_per_min", s->failed / minutes, usual / minutes, z);
	finding_evidence(&f, "auth_error_share", s->failed / MAX(s->done, 1.0), 0, 0);
	finding_evidence(&f, "addresses", s->ips, 0, 0);
	finding_evidence(&f, "keys", s->keys, 0, 0);
	finding_say(&f, "%.0f requests a minute are refused for their credentials where %.1f are usual: %u addresses, %u keys, %.0f %% without a key; most from %s", s->failed / minutes,
		    usual / minutes, s->ips, s->keys, 100 * s->keyless / MAX(s->failed, 1.0), describe_who(d, scope, who, sizeof(who)));
	incident_report(d, &f);
}

/* A scanner that asks once for what is usually worth stealing, and is gone. Of five minutes. */
static bool is_noise(const struct auth_sum *s)
{
	return s->keyless > AUTH_KEYLESS * s->failed && s->failed < AUTH_NOISE && s->last - s->first < AUTH_NOISE_S;
}

/* The minute and the five minutes; a peak becomes habit ten minutes later, so that a slow ramp does not excuse itself. */
static void judge_auth(struct detect *d)
{
	static const int32_t span[] = { STEP_S * WINDOW_STEPS, STEP_S * LONG_STEPS };
	struct auth_sum *sum = calloc(2, sizeof(*sum));
	double failed[2], best = 0;
	bool noise;

	if (!sum)
		return;
	for (int w = 0; w < 2; w++)
		auth_gather(d, span[w], &sum[w]);
	noise = is_noise(&sum[1]);
	for (int w = 0; w < 2; w++) {
		const struct auth_sum *s = &sum[w];
		double usual = d->auth.level * span[w] / 60, strength, z;

		failed[w] = s->failed;
		z = baseline_z(s->failed, usual, d->auth.disp * (w + 1), d->steps);
		strength = MIN(MIN(s->failed / (w ? AUTH_MIN_300 : AUTH_MIN), z / AUTH_Z), s->failed / MAX(AUTH_HABIT * (w ? MAX(d->auth.peak300, d->auth.peak) : d->auth.peak), 1.0));
		/* One key, and nothing else: an expired key in a loop is its owner's mistake. */
		if (s->keys && s->keys <= 3 && s->per_key[s->top_key] >= 0.8 * s->failed)
			strength = 0;
		/* Who guesses credentials does little else; many customers are refused here and there. */
		if (s->theirs_failed > 0 && s->ips < SOURCES_MAX)
			strength = MIN(strength, s->theirs_failed / MAX(s->theirs, 1.0) / AUTH_SHARE);
		if (strength >= LEAVE_FACTOR && d->steps >= WINDOW_STEPS && strength > best) {
			best = strength;
			if (!noise) /* which is no habit either */
				auth_report(d, s, span[w], usual, strength, z);
		}
	}
	free(sum);
	if (best >= LEAVE_FACTOR || incident_lately(d, 1u << WATCH_AUTH)) {
		d->auth.cur = d->auth.cur300 = 0;
		return;
	}
	{
		double a = MAX(1.0 / 180, 1.0 / (d->steps + 1)), dx = failed[0] - d->auth.level;

		d->auth.disp += a * (dx * dx / MAX(d->auth.level, 1.0) - d->auth.disp);
		d->auth.level += a * dx;
		d->auth.cur = MAX(d->auth.cur, failed[0]);
		d->auth.cur300 = MAX(d->auth.cur300, failed[1]);
		if (d->steps % PEAK_STEPS == 0) {
			double keep = exp2(-1.0 / PEAK_HALF_GENERATIONS);

			d->auth.peak = MAX(d->auth.peak * keep, d->auth.cur);
			d->auth.peak300 = MAX(d->auth.peak300 * keep, d->auth.cur300);
			d->auth.cur = d->auth.cur300 = 0;
		}
	}
}

void access_step(struct detect *d)
{
	judge_auth(d);
	for (uint32_t k = 0; k < d->actives; k++) {
		const struct entity *e = at(d, d->active[k]);

		if (e->full && (e->kind == ENTITY_API_KEY || e->kind == ENTITY_USER))
			judge_sharing(d, d->active[k]);
	}
}
