/* Access: keys used from where they never were (key_sharing), and refused credentials by the dozen (credential_abuse). */
#include <math.h>

#include "detect/engine.h"

#define SOURCES_MAX 64

void access_init(struct access_state *a)
{
	memset(a, 0, sizeof(*a));
}

/* One request of a key (or user) from a network. */
void access_see(struct detect *d, struct entity *e, uint32_t net)
{
	struct full *f = full_of(d, e);
	struct access_state *a;
	int free_slot = 0;

	if (!f)
		return;
	a = &f->access;
	for (int i = 0; i < KNOWN_NETS; i++) {
		if (a->known[i].net == net) {
			a->known[i].last = d->tick;
			a->known[i].n += 1;
			return;
		}
		if (!a->known[i].net || (a->known[free_slot].net && a->known[i].last < a->known[free_slot].last))
			free_slot = i;
	}
	a->known[free_slot].net = net;
	a->known[free_slot].first = a->known[free_slot].last = d->tick;
	a->known[free_slot].n = 1;
	a->recent[a->next % KNOWN_NETS] = net;
	a->recent_at[a->next % KNOWN_NETS] = d->tick;
	a->next++;
}

/* ---- a key from many new networks ------------------------------------------------------------------ */
static void judge_sharing(struct detect *d, uint32_t i)
{
	struct entity *e = at(d, i);
	struct access_state *a = &e->full->access;
	double fresh = 0, old = 0, requests = 0, from_fresh = 0, lambda, z, strength;
	uint32_t ips[SOURCES_MAX];
	double per_ip[SOURCES_MAX], total = 0;
	unsigned int n = 0;
	const struct moment *m;
	struct finding f;
	char who[ENTITY_NAME_MAX + 32];
	int chain = e->kind == ENTITY_API_KEY ? WHO_KEY : WHO_USER;
	int32_t since = d->tick - SHARING_WINDOW_S, first = d->tick;

	for (int k = 0; k < KNOWN_NETS; k++) {
		if (!a->known[k].net)
			continue;
		if (a->known[k].first > since)
			fresh++;
		else if (a->known[k].last > since)
			old++;
	}
	lambda = (double)a->novelty + SHARING_LAMBDA;
	z = 2 * (sqrt(fresh + 0.375) - sqrt(lambda + 0.375));
	if (fresh >= SHARING_MIN_NETS * LEAVE_FACTOR && z >= SHARING_Z * LEAVE_FACTOR && a->minutes >= SHARING_MINUTES && old >= 1) {
		for (uint32_t seq = e->recent; (m = recent_at(&d->recent, seq)) && m->tick > since && m->tick >= e->born; seq = m->prev[chain]) {
			const struct entity *ip;
			bool is_new = false;
			unsigned int k;

			if (!(m->what & MOMENT_ARRIVAL) || m->who[WHO_IP] == NOBODY)
				continue;
			ip = at(d, m->who[WHO_IP]);
			requests += (double)m->weight;
			for (int q = 0; q < KNOWN_NETS && ip->net != NOBODY; q++)
				is_new |= a->known[q].net == (uint32_t)at(d, ip->net)->hash && a->known[q].first > since;
			if (!is_new)
				continue;
			from_fresh += (double)m->weight;
			first = MIN(first, m->tick);
			for (k = 0; k < n && ips[k] != m->who[WHO_IP]; k++)
				;
			if (k == n && n < SOURCES_MAX) {
				ips[n] = m->who[WHO_IP];
				per_ip[n++] = 0;
			}
			if (k < n)
				per_ip[k] += (double)m->weight;
			total += (double)m->weight;
		}
		strength = MIN(MIN(fresh / SHARING_MIN_NETS, z / SHARING_Z), requests > 0 ? from_fresh / requests / SHARING_SHARE : 0);
		strength = MIN(strength, from_fresh / SHARING_REQUESTS);
		if (strength >= LEAVE_FACTOR) {
			finding_init(&f, WATCH_ACCESS, CLASS_KEY_SHARING, i, strength, z);
			f.needs = 1;
			f.leave_s = LEAVE_ACCESS_S;
			f.magnitude = fresh;
			f.start = d->base + first;
			finding_actor(&f, i, 1);
			for (unsigned int k = 0; k < n; k++)
				finding_actor(&f, ips[k], per_ip[k] / MAX(total, 1.0));
			finding_evidence(&f, "new_networks", fresh, lambda, z);
			finding_evidence(&f, "known_networks_in_use", old, old, 0);
			finding_evidence(&f, "share_from_new_networks", from_fresh / MAX(requests, 1.0), 0, 0);
			finding_say(&f, "%s is used from %.0f networks it was never used from (%.1f are usual in 10 min), beside %.0f known ones", describe_who(d, i, who, sizeof(who)), fresh,
				    (double)a->novelty, old);
			incident_report(d, &f);
		}
	}
	if (d->tick % SHARING_WINDOW_S < STEP_S && !e->suspect) {
		a->minutes += SHARING_WINDOW_S / 60;
		if (a->minutes > SHARING_MINUTES / 2)
			a->novelty += (float)(MAX(0.08, 10.0 / a->minutes) * (fresh - (double)a->novelty));
	}
}

/* ---- refused credentials --------------------------------------------------------------------------- */
struct auth_sum {
	double failed, done;
	uint32_t ip[SOURCES_MAX], key[SOURCES_MAX];
	double per_ip[SOURCES_MAX], per_key[SOURCES_MAX], keyless;
	unsigned int ips, keys;
	double theirs; /* all requests of the addresses that are refused */
	int32_t first;
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

static void judge_auth(struct detect *d)
{
	struct auth_sum *s = calloc(1, sizeof(*s));
	const struct moment *m;
	double usual = d->auth.level, z, strength, top_ip = 0, top_key = 0;
	uint32_t ip = NOBODY, key = NOBODY;
	struct finding f;
	char who[ENTITY_NAME_MAX + 32];

	if (!s)
		return;
	s->first = d->tick;
	for (uint32_t seq = recent_newest(&d->recent); (m = recent_at(&d->recent, seq)) && m->tick > d->tick - STEP_S * WINDOW_STEPS; seq--) {
		if (!(m->what & MOMENT_DONE) || !m->status)
			continue;
		s->done += (double)m->weight;
		if (m->status != 401 && m->status != 403)
			continue;
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
		s->theirs += entity_requests60(at(d, s->ip[k]));
		if (s->per_ip[k] > top_ip) {
			top_ip = s->per_ip[k];
			ip = s->ip[k];
		}
	}
	for (unsigned int k = 0; k < s->keys; k++) {
		if (s->per_key[k] > top_key) {
			top_key = s->per_key[k];
			key = s->key[k];
		}
	}
	z = baseline_z(s->failed, usual, d->auth.disp, d->steps);
	strength = MIN(MIN(s->failed / AUTH_MIN, z / AUTH_Z), s->failed / MAX(AUTH_HABIT * d->auth.peak, 1.0));
	/* One key, and nothing else: an expired key in a loop is its owner's mistake. */
	if (top_key >= 0.8 * s->failed && key != NOBODY && s->keys <= 3)
		strength = 0;
	/* Who guesses credentials does little else; many customers are refused here and there. */
	if (s->ips && s->ips < SOURCES_MAX)
		strength = MIN(strength, s->failed / MAX(s->theirs, 1.0) / AUTH_SHARE);
	if (strength >= LEAVE_FACTOR && d->steps >= WINDOW_STEPS) {
		uint32_t scope = top_ip >= 0.7 * s->failed ? ip : NOBODY;

		finding_init(&f, WATCH_AUTH, CLASS_CREDENTIAL_ABUSE, scope, strength, z);
		f.needs = 2;
		f.leave_s = LEAVE_ACCESS_S;
		f.quiet = true;
		f.magnitude = s->failed / MAX(usual, 1.0);
		f.start = d->base + s->first;
		for (unsigned int k = 0; k < s->ips && f.actors < SUSPECTS_MAX; k++)
			if (s->per_ip[k] >= TOP_SHARE * s->failed)
				finding_actor(&f, s->ip[k], s->per_ip[k] / s->failed);
		finding_evidence(&f, "auth_errors_per_min", s->failed, usual, z);
		finding_evidence(&f, "auth_error_share", s->failed / MAX(s->done, 1.0), 0, 0);
		finding_evidence(&f, "addresses", s->ips, 0, 0);
		finding_evidence(&f, "keys", s->keys, 0, 0);
		finding_say(&f, "%.0f requests a minute are refused for their credentials where %.1f are usual: %u addresses, %u keys, %.0f without a key; most from %s", s->failed, usual,
			    s->ips, s->keys, s->keyless, describe_who(d, scope, who, sizeof(who)));
		incident_report(d, &f);
	} else if (!incident_lately(d, 1u << WATCH_AUTH)) {
		double a = MAX(1.0 / 180, 1.0 / (d->steps + 1));
		double dx = s->failed - d->auth.level;

		d->auth.disp += a * (dx * dx / MAX(d->auth.level, 1.0) - d->auth.disp);
		d->auth.level += a * dx;
		d->auth.peak = MAX(d->auth.peak * exp2(-1.0 / 8640), s->failed);
	}
	free(s);
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
