/*
 * serve.h - one request: who, what, and how a server under that load answers it.
 *
 * A model has slots. Time per token grows with the square of how full they are; beyond them requests wait for a slot,
 * and when the queue is three times as long as the slots they are refused. So load explains latency, except where a
 * mod of the model says otherwise.
 */
#ifndef LAB_SERVE_H
#define LAB_SERVE_H

#include "people.h"

enum finish { FINISH_NONE, FINISH_STOP, FINISH_LENGTH, FINISH_ERROR, FINISH_FILTER, FINISH_TOOL };

struct rec {
	double t, out; /* arrival; when it is written */
	uint64_t addr, hash, sim;
	uint32_t key, user;
	uint16_t agent, status;
	uint8_t model, path, finish, retry;
	bool stream, logprobs, aborted, lost;
	int prompt, completion, cached, reasoning, limit, chars, weight; /* counts: -1 absent */
	float ttft, duration, entropy, inject;
};

/* ---- the models' slots: a heap of when they become free -------------------------------------------------------- */
static inline void busy_push(struct model *m, double end)
{
	int i;

	LAB_GROW(m->busy, m->busy_n, m->busy_cap, 1);
	for (i = m->busy_n++; i && m->busy[(i - 1) / 2] > end; i = (i - 1) / 2)
		m->busy[i] = m->busy[(i - 1) / 2];
	m->busy[i] = end;
}

static inline void busy_until(struct model *m, double now)
{
	while (m->busy_n && m->busy[0] <= now) {
		double last = m->busy[--m->busy_n];
		int i = 0, kid;

		while ((kid = 2 * i + 1) < m->busy_n) {
			if (kid + 1 < m->busy_n && m->busy[kid + 1] < m->busy[kid])
				kid++;
			if (m->busy[kid] >= last)
				break;
			m->busy[i] = m->busy[kid];
			i = kid;
		}
		if (m->busy_n)
			m->busy[i] = last;
	}
}

/* ---- mods of one request ---------------------------------------------------------------------------------------- */
struct bent {
	double prompt, answer, cache, e5xx, stream_error, e4xx, e401;
	int model, agent, addr_of, cap;
	uint32_t key;
};

static inline void bend(struct lab *lab, const struct source *s, double t, int who, int model, struct bent *ret)
{
	*ret = (struct bent){ 1, 1, 1, 0, 0, 0, 0, -1, -1, -1, 0, 0 };
	for (int i = 0; i < s->mod_n; i++) {
		const struct mod *m = &lab->mods[s->mod[i]];
		double at;

		if (m->what == MOD_RATE || (m->who_lo >= 0 && (who < m->who_lo || who >= m->who_hi)) || (m->model >= 0 && m->model != model))
			continue;
		at = shape_at(&m->sh, t);
		if (at <= 0)
			continue;
		switch (m->what) {
		case MOD_PROMPT: ret->prompt *= pow(m->value, at); break;
		case MOD_ANSWER: ret->answer *= pow(m->value, at); break;
		case MOD_CACHE: ret->cache *= pow(m->value, at); break;
		case MOD_5XX: ret->e5xx += m->value * at; break;
		case MOD_STREAM_ERROR: ret->stream_error += m->value * at; break;
		case MOD_4XX: ret->e4xx += m->value * at; break;
		case MOD_401: ret->e401 += m->value * at; break;
		case MOD_MODEL:
			if (rnd_chance(&lab->r, m->value * at))
				ret->model = m->aux;
			break;
		case MOD_AGENT:
			if (rnd_chance(&lab->r, m->value * at))
				ret->agent = m->aux;
			break;
		case MOD_KEY: ret->key = (uint32_t)m->aux; break;
		case MOD_CAP:
			if (rnd_chance(&lab->r, m->value * at))
				ret->cap = m->aux;
			break;
		case MOD_ADDR:
			if (rnd_chance(&lab->r, m->value * at))
				ret->addr_of = m->aux + rnd_int(&lab->r, m->aux_n);
			break;
		default: break;
		}
	}
}

static inline void bend_model(struct lab *lab, const struct model *m, double t, double *ttft, double *tpot, double *slots)
{
	*ttft = *tpot = *slots = 1;
	for (int i = 0; i < m->mod_n; i++) {
		const struct mod *x = &lab->mods[m->mod[i]];
		double at = shape_at(&x->sh, t), v = at > 0 ? pow(x->value, at) : 1;

		if (x->what == MOD_TTFT)
			*ttft *= v;
		else if (x->what == MOD_TPOT)
			*tpot *= v;
		else if (x->what == MOD_SLOTS)
			*slots *= v;
	}
}

/* A count by its quantiles, between them linear in the logarithm. */
static inline double law_draw(struct rnd *r, const int *q, double spread)
{
	double u = rnd_range(r, 0.005, 0.995), f;
	int i = 0;

	while (i + 2 < LAB_QUANTILES && u > lab_quantile[i + 1])
		i++;
	f = (u - lab_quantile[i]) / (lab_quantile[i + 1] - lab_quantile[i]);
	f = f < 0 ? 0 : f > 1.3 ? 1.3 : f;
	return (q[i] + 1) * pow((q[i + 1] + 1.0) / (q[i] + 1.0), f) * exp(spread * 0.5 * rnd_normal(r)) - 1;
}

static inline int who_draw(struct lab *lab, struct source *s, double t)
{
	int lo = 0, n = s->who_n, base = 0;
	float u;

	if (s->last >= 0 && s->stick > 0 && !s->rotate && rnd_chance(&lab->r, s->stick))
		return s->last;
	if (s->rotate) { /* a window of identities that moves on */
		base = (int)((t - s->sh.start) / s->rotate_s) * s->rotate;
		return s->last = s->who + (base + rnd_int(&lab->r, s->rotate)) % s->who_n;
	}
	u = (float)rnd_unit(&lab->r);
	u = s->cum0 + u * (lab->who[s->who + n - 1].cum - s->cum0); /* a part of another's people begins above 0 */
	while (n > 1) {
		int half = n / 2;

		if (lab->who[s->who + lo + half - 1].cum < u) {
			lo += half;
			n -= half;
		} else {
			n = half;
		}
	}
	return s->last = s->who + lo;
}

/* ---- the request -------------------------------------------------------------------------------------------------- */
static inline void request_prompt(struct lab *lab, struct source *s, struct rec *q)
{
	struct rnd *r = &lab->r;
	double tokens;

	if (s->recent_n && rnd_chance(r, s->repeat)) {
		int n = s->recent_n < LAB_RECENT ? s->recent_n : LAB_RECENT, i = rnd_int(r, n);

		q->hash = s->recent[i].hash;
		q->sim = s->recent[i].sim;
		q->prompt = s->recent[i].tokens;
	} else {
		tokens = law_draw(r, lab_laws[s->law].prompt, s->spread) * s->prompt_scale;
		q->prompt = tokens < 1 ? 1 : tokens > 250000 ? 250000 : (int)tokens;
		q->hash = rnd_u64(r);
		if (s->topics) {
			int n = (int)(s->flips * rnd_range(r, 0.3, 1.7));

			q->sim = mix64(s->salt + (uint64_t)rnd_int(r, s->topics));
			for (int i = 0; i < n; i++)
				q->sim ^= UINT64_C(1) << rnd_int(r, 64);
		} else {
			uint64_t words = rnd_u64(r) & rnd_u64(r); /* texts of one language share some bits */

			q->sim = mix64(lab->salt) ^ words ^ (rnd_u64(r) & rnd_u64(r) & rnd_u64(r));
		}
		s->recent[s->recent_n % LAB_RECENT].hash = q->hash;
		s->recent[s->recent_n % LAB_RECENT].sim = q->sim;
		s->recent[s->recent_n++ % LAB_RECENT].tokens = q->prompt;
	}
	q->entropy = (float)(s->entropy + 0.12 * rnd_normal(r));
	q->inject = rnd_chance(r, s->inject_p) ? (float)(s->inject + 0.15 * rnd_normal(r)) : 0;
	q->inject = q->inject < 0 ? 0 : q->inject > 1 ? 1 : q->inject;
}

static inline void request_fail(struct rec *q, int status, double seconds)
{
	q->status = (uint16_t)status;
	q->prompt = q->completion = q->cached = q->reasoning = -1;
	q->finish = FINISH_NONE;
	q->ttft = -1;
	q->duration = (float)seconds;
	q->stream = false;
}

/* Fills a record. `retry`: it is one. */
static inline void request_make(struct lab *lab, struct source *s, double t, int who, int retry, struct rec *q)
{
	struct rnd *r = &lab->r;
	struct bent b;
	struct model *m;
	const struct who *w;
	double full, ttft_x, tpot_x, slots_x, slots, answer, wait = 0, tpot, noise;
	int from, model = s->model;

	if (who < 0)
		who = who_draw(lab, s, t);
	bend(lab, s, t, who, model, &b);
	if (b.model >= 0)
		model = b.model;
	m = &lab->model[model];
	w = &lab->who[who];
	*q = (struct rec){ .t = t, .model = (uint8_t)model, .path = (uint8_t)s->path, .weight = 1, .retry = (uint8_t)retry, .status = 200, .limit = s->limit ? s->limit : -1 };
	q->key = s->keyless ? 0 : w->key + b.key;
	q->user = w->user;
	q->agent = b.agent >= 0 ? (uint16_t)b.agent : w->agent;
	from = b.addr_of >= 0 ? b.addr_of : who;
	w = &lab->who[from];
	q->addr = w->addr_n ? w->addr[w->addr_n > 1 ? rnd_int(r, w->addr_n) : 0] : lab->gateways[rnd_int(r, LAB_GATEWAYS)];
	if (s->roam_s > 0 && b.addr_of < 0 && w->addr_n) { /* the phase is each one's own */
		uint64_t turn = (uint64_t)((t + (double)(mix64((uint64_t)who) % 65536) / 65536 * s->roam_s) / s->roam_s), host = mix64(q->addr ^ turn << 32 ^ lab->salt);

		if (s->crowd) /* from one network into the next */
			q->addr = q->addr >> 63 ? (q->addr & ~UINT64_C(0xffffffffffff)) | (host & 0xffffffffffff) : (q->addr & 0xff000000) | (host % 0xfeffff + 1);
		else
			q->addr = (q->addr & ~UINT64_C(0xff)) | (host % 254 + 1);
	}
	if (!s->sent++)
		s->first = t;
	if (s->path >= PATH_HEALTH && s->path != PATH_OLLAMA) {
		bool found = s->path < PATH_OLLAMA;

		if (s->path == PATH_SCAN)
			q->path = (uint8_t)(PATH_SCAN + rnd_int(r, PATH_SCAN_END - PATH_SCAN + 1));
		request_fail(q, found ? 200 : rnd_chance(r, s->auth) ? 401 : 404, rnd_log(r, 0.0005, 0.004));
		q->chars = -1;
		q->limit = -1;
		q->hash = q->sim = 0;
		q->entropy = -1;
		return;
	}
	if (s->wander) {
		int bin = (int)(t / LAB_STEP_S);

		b.prompt *= exp((double)s->wander[2 * bin]);
		b.answer *= exp((double)s->wander[2 * bin + 1]);
	}
	request_prompt(lab, s, q);
	answer = q->prompt * b.prompt;
	q->prompt = answer < 1 ? 1 : answer > 1e6 ? 1000000 : (int)answer;
	q->chars = (int)(q->prompt * s->chars);
	if (rnd_chance(r, s->auth + b.e401)) {
		request_fail(q, rnd_chance(r, 0.9) ? 401 : 403, rnd_log(r, 0.001, 0.01));
		return;
	}
	if (rnd_chance(r, s->bad + b.e4xx)) {
		request_fail(q, s->refuse > 0 || rnd_chance(r, 0.6) ? 400 : rnd_chance(r, 0.5) ? 429 : rnd_chance(r, 0.5) ? 404 : 413, rnd_log(r, 0.001, 0.05));
		return;
	}
	bend_model(lab, m, t, &ttft_x, &tpot_x, &slots_x);
	busy_until(m, t);
	slots = m->slots * slots_x;
	while (m->hiccup_at < m->hiccup_n && m->hiccup[m->hiccup_at].t + m->hiccup[m->hiccup_at].length < t)
		m->hiccup_at++;
	if (m->hiccup_at < m->hiccup_n && m->hiccup[m->hiccup_at].t <= t) {
		b.e5xx += m->hiccup[m->hiccup_at].e5xx;
		ttft_x *= m->hiccup[m->hiccup_at].ttft;
	}
	full = m->busy_n / slots;
	m->full += full;
	m->asked++;
	if (rnd_chance(r, m->base5xx + b.e5xx) || full > 3) {
		request_fail(q, full > 3 ? (rnd_chance(r, 0.7) ? 429 : 503) : rnd_chance(r, 0.7) ? 500 : rnd_chance(r, 0.5) ? 503 : 502, rnd_log(r, 0.005, 0.5));
		return;
	}
	/* how long the answer is */
	q->reasoning = -1;
	if (q->path == PATH_EMBED || m->embed) {
		q->path = PATH_EMBED;
		answer = 0;
		q->finish = FINISH_NONE;
	} else {
		answer = law_draw(r, lab_laws[s->law].answer, s->spread) * s->answer_scale * b.answer;
		if (m->reasoning > 0) {
			double think = answer * (s->reasoning > 0 ? s->reasoning : 1) * exp(0.6 * rnd_normal(r)) + 20;

			q->reasoning = think > 60000 ? 60000 : (int)think;
			answer += q->reasoning;
		}
		answer = answer < 1 ? 1 : answer > 100000 ? 100000 : answer;
		q->finish = FINISH_STOP;
		if (s->cap > 0 && s->limit && rnd_chance(r, s->cap))
			answer = s->limit;
		if (b.cap) {
			q->limit = b.cap;
			answer = b.cap;
			q->finish = FINISH_LENGTH;
		} else if (s->limit && answer >= s->limit) {
			answer = s->limit;
			q->finish = FINISH_LENGTH;
			q->reasoning = q->reasoning > s->limit ? s->limit : q->reasoning;
		} else if (s->refuse > 0 && rnd_chance(r, s->refuse)) {
			answer = 5 + rnd_int(r, 30);
			q->finish = rnd_chance(r, 0.4) ? FINISH_FILTER : FINISH_STOP;
		} else if (rnd_chance(r, 0.03)) {
			q->finish = FINISH_TOOL;
		}
	}
	q->completion = (int)answer;
	q->cached = s->cache > 0 && rnd_chance(r, 0.85) ? (int)(q->prompt * s->cache * b.cache * rnd_range(r, 0.7, 1.1)) / 16 * 16 : 0;
	q->cached = q->cached > q->prompt ? q->prompt : q->cached;
	q->stream = rnd_chance(r, s->stream);
	q->logprobs = s->logprobs > 0 && rnd_chance(r, s->logprobs);
	/* how long it takes */
	tpot = m->tpot0 * (1 + 0.7 * (full > 1 ? 1 : full * full)) * tpot_x;
	if (full > 1)
		wait = (m->busy_n - slots) / slots * (m->ttft0 + 150 * m->tpot0) * 1.5;
	noise = exp(m->noise * rnd_normal(r));
	q->ttft = (float)(((m->ttft0 + (q->prompt - q->cached) / m->prefill * (1 + full)) * ttft_x + wait) * noise);
	q->duration = (float)(q->ttft + q->completion * tpot * exp(0.12 * rnd_normal(r)));
	if (rnd_chance(r, s->abort) && q->completion > 20) {
		double part = rnd_unit(r);

		q->aborted = true;
		q->finish = FINISH_NONE;
		q->completion = (int)(q->completion * part) + 1;
		q->duration = (float)(q->ttft + (q->duration - q->ttft) * part);
		if (q->reasoning > q->completion)
			q->reasoning = q->completion;
	} else if (q->stream && b.stream_error > 0 && rnd_chance(r, b.stream_error)) {
		q->finish = FINISH_ERROR;
		q->completion = (int)(q->completion * rnd_unit(r));
		if (q->reasoning > q->completion)
			q->reasoning = q->completion;
	}
	if (q->path == PATH_EMBED)
		q->completion = -1; /* there is none to count */
	busy_push(m, t + q->duration);
	if (!q->stream)
		q->ttft = -1;
}

/* ---- arrivals -------------------------------------------------------------------------------------------------- */
static inline double source_rate_now(const struct lab *lab, const struct source *s, double t, double *ret_edge)
{
	double v = source_base(lab, s, t) * shape_at(&s->sh, t), edge = (floor(t / 60) + 1) * 60, e = shape_edge(&s->sh, t);

	edge = e < edge ? e : edge;
	for (int i = 0; i < s->mod_n; i++) {
		const struct mod *m = &lab->mods[s->mod[i]];
		double at;

		if (m->what != MOD_RATE)
			continue;
		at = shape_at(&m->sh, t);
		if (at > 0)
			v *= m->value > 0 ? pow(m->value, at) : 1 - at;
		e = shape_edge(&m->sh, t);
		edge = e < edge ? e : edge;
	}
	*ret_edge = edge > t ? edge : t + 1e-3;
	return v;
}

static inline void source_advance(struct lab *lab, struct source *s, double t)
{
	double left = rnd_gap(&lab->r, s->cv > 0 ? s->cv : 1, s->weibull);

	if (t < s->sh.start)
		t = s->sh.start;
	while (t < lab->len && t < s->sh.end) {
		double edge, rate = source_rate_now(lab, s, t, &edge);

		if (rate * (edge - t) >= left) {
			s->next = t + left / rate;
			return;
		}
		left -= rate * (edge - t);
		t = edge;
	}
	s->next = LAB_NEVER;
}

#endif
