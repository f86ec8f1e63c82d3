#include "detect/latency.h"

#include <math.h>

#include "detect/band.h"
#include "detect/blob.h"
#include "detect/engine.h"
#include "detect/state_layout.h"

#define MODELS 64
#define TERMS 8
#define GAIN_MAX 100.0
#define STEPS 30      /* of residuals: five minutes */
#define PAST_S 1024   /* of load, by second: a request that took longer is judged at the oldest */
#define QUEUE_S 5     /* prompts that arrived so shortly before are still being read */
enum { SERIES_TTFT, SERIES_TPOT, SERIES_WHOLE, SERIES };
enum { SHORT, LONG, WINDOWS };

struct window {
	double mean, var, looks; /* of the window's mean residual, in calm times */
	double peak, dip;        /* its largest excursion, decayed; the one under way */
};

struct fit {
	double w[TERMS], p[TERMS][TERMS];
	double n, noise; /* requests; variance of one residual */
	double usual, known; /* of what was measured, whatever the load; requests behind that. Not kept over a restart: learnt again within minutes */
	float sum[STEPS], count[STEPS];
	float rise[STEPS]; /* of what was measured above what is usual */
	struct window window[WINDOWS];
};

/* Requests in flight and prompt tokens arrived, by second. */
struct load {
	double in_flight;
	float flight[PAST_S], prompts[PAST_S];
	int32_t tick;
};

struct model {
	uint32_t entity;
	bool told;
	struct load load;
	struct fit fit[SERIES];
	struct band band; /* of the first token, where that is known */
	bool band_ttft;
};

struct latency_models {
	struct model *model[MODELS];
	struct load all;
	unsigned int n;
};

int latency_open(struct latency_models **ret)
{
	*ret = calloc(1, sizeof(**ret));
	return *ret ? 0 : -ENOMEM;
}

struct latency_models *latency_free(struct latency_models *l)
{
	for (unsigned int i = 0; l && i < l->n; i++)
		free(l->model[i]);
	free(l);
	return NULL;
}

static void fit_start(struct fit *f)
{
	memset(f->p, 0, sizeof(f->p));
	for (int k = 0; k < TERMS; k++)
		f->p[k][k] = k ? 1 : 10;
}

/* A state that was kept may hold any numbers: gains that are none begin anew, and what was learnt where that is none either. */
static bool fit_failed(struct fit *f, double guess, double denominator)
{
	if (denominator > 0 && isfinite(denominator) && isfinite(guess))
		return false;
	fit_start(f);
	for (int k = 0; k < TERMS; k++)
		if (!isfinite(f->w[k]))
			memset(f->w, 0, sizeof(f->w));
	return true;
}

static struct model *model_of(struct latency_models *l, uint32_t entity)
{
	struct model *m;

	for (unsigned int i = 0; i < l->n; i++)
		if (l->model[i]->entity == entity)
			return l->model[i];
	if (l->n == MODELS)
		return NULL;
	m = calloc(1, sizeof(*m));
	if (!m)
		return NULL;
	m->entity = entity;
	for (int s = 0; s < SERIES; s++)
		fit_start(&m->fit[s]);
	band_init(&m->band);
	l->model[l->n++] = m;
	return m;
}

static void load_advance(struct load *l, int32_t tick)
{
	for (int32_t t = MAX(l->tick + 1, tick - PAST_S + 1); t <= tick; t++) {
		l->flight[t % PAST_S] = (float)l->in_flight;
		l->prompts[t % PAST_S] = 0;
	}
	l->tick = MAX(l->tick, tick);
}

static void load_arrive(struct load *l, int32_t tick, double weight, double prompt)
{
	load_advance(l, tick);
	l->in_flight += weight;
	l->flight[tick % PAST_S] = MAX(l->flight[tick % PAST_S], (float)l->in_flight);
	l->prompts[tick % PAST_S] += (float)prompt;
}

static void load_done(struct load *l, int32_t tick, double weight)
{
	load_advance(l, tick);
	l->in_flight = MAX(0.0, l->in_flight - weight);
}

static double load_prompts(const struct load *l, int32_t tick)
{
	double sum = 0;

	for (int32_t t = MAX(tick - QUEUE_S + 1, l->tick - PAST_S + 1); t <= tick; t++)
		sum += t >= 0 ? (double)l->prompts[t % PAST_S] : 0;
	return sum;
}

/* Recursive least squares (Haykin, Adaptive Filter Theory, ch. 13) with forgetting. Returns the residual before learning. */
static double fit_learn(struct fit *f, const double *x, double y, bool learn)
{
	double px[TERMS], denominator = LATENCY_FORGET, guess = 0, e;

	for (int i = 0; i < TERMS; i++) {
		guess += f->w[i] * x[i];
		px[i] = 0;
		for (int j = 0; j < TERMS; j++)
			px[i] += f->p[i][j] * x[j];
		denominator += px[i] * x[i];
	}
	if (fit_failed(f, guess, denominator))
		return 0;
	e = y - guess;
	if (!learn)
		return e;
	f->n++;
	{
		double step = f->n > 50 ? MAX(-LATENCY_CLAMP, MIN(e, LATENCY_CLAMP)) : e;

		for (int i = 0; i < TERMS; i++)
			f->w[i] += px[i] / denominator * step;
		f->noise += MAX(0.001, 1 / f->n) * (step * step - f->noise);
	}
	for (int i = 0; i < TERMS; i++)
		for (int j = 0; j < TERMS; j++)
			f->p[i][j] = (f->p[i][j] - px[i] * px[j] / denominator) / LATENCY_FORGET;
	/* What says nothing of a term for long (a load that never changes) makes its gain grow without end: rows and columns are held together. */
	for (int i = 0; i < TERMS; i++) {
		double hold = f->p[i][i] > GAIN_MAX ? sqrt(GAIN_MAX / f->p[i][i]) : 1;

		for (int j = 0; j < TERMS && hold < 1; j++) {
			f->p[i][j] *= hold;
			f->p[j][i] *= hold;
		}
	}
	return e;
}

/* How far above what is usual: neither load nor lengths are asked. One straggler says little. */
static double rise_learn(struct fit *f, double y, bool learn)
{
	double dx = f->known > 0 ? MAX(-LATENCY_STRAY, MIN(y - f->usual, LATENCY_STRAY)) : 0;

	if (f->known <= 0)
		f->usual = y;
	if (learn) {
		f->known++;
		f->usual += MAX(1 - LATENCY_FORGET, 1 / f->known) * dx;
	}
	return dx;
}

void latency_see(struct detect *d, const struct moment *m)
{
	struct model *k;
	double x[TERMS], y[SERIES] = { (double)NAN, (double)NAN, (double)NAN }, prompt;
	int step = d->tick / STEP_S % STEPS;
	int32_t arrival;

	if (m->who[WHO_MODEL] == NOBODY)
		return;
	k = model_of(d->latency, m->who[WHO_MODEL]);
	if (!k)
		return;
	prompt = MAX(0.0, (double)m->prompt - MAX(0.0, (double)m->cached));
	if (m->what & MOMENT_ARRIVAL) {
		load_arrive(&k->load, d->tick, (double)m->weight, prompt);
		load_arrive(&d->latency->all, d->tick, (double)m->weight, prompt);
	}
	if (!(m->what & MOMENT_DONE))
		return;
	load_done(&k->load, d->tick, (double)m->weight);
	load_done(&d->latency->all, d->tick, (double)m->weight);
	if (m->status >= 400 || m->flags & (MOMENT_ERROR | MOMENT_ABORTED) || m->weight > 1)
		return;
	if (m->ttft_ms >= 0)
		y[SERIES_TTFT] = log1p((double)m->ttft_ms);
	if (m->tpot_ms >= 0)
		y[SERIES_TPOT] = log1p((double)m->tpot_ms);
	else if (m->ttft_ms < 0 && m->duration_ms > 0)
		y[SERIES_WHOLE] = log1p((double)m->duration_ms);
	if (m->ttft_ms >= 0 || (m->duration_ms > 0 && !k->band_ttft)) {
		if (m->ttft_ms >= 0 && !k->band_ttft) /* what came before was something else */
			band_init(&k->band);
		k->band_ttft |= m->ttft_ms >= 0;
		band_add(&k->band, (double)(m->ttft_ms >= 0 ? m->ttft_ms : m->duration_ms));
	}
	arrival = MAX(d->tick - (int32_t)MIN(MAX((double)m->duration_ms, 0.0) / 1000, PAST_S - 8.0), 0);
	/* All of the order of one: the gains start equal. */
	x[0] = 1;
	x[1] = log1p(prompt) / 4;
	x[2] = x[1] * x[1];
	x[3] = log1p((double)k->load.flight[arrival % PAST_S]) / 2;
	x[4] = x[3] * x[3];
	x[5] = log1p((double)d->latency->all.flight[arrival % PAST_S]) / 2;
	x[6] = log1p(MAX(0.0, load_prompts(&d->latency->all, arrival) - prompt)) / 8;
	x[7] = log1p(MAX(0.0, (double)m->completion)) / 4;
	for (int i = 3; i < 7 && !has_part(d, PART_LOAD); i++)
		x[i] = 0;
	for (int s = 0; s < SERIES; s++) {
		struct fit *f = &k->fit[s];
		double e;

		if (isnan(y[s]))
			continue;
		e = fit_learn(f, x, y[s], !k->told);
		f->rise[step] += (float)rise_learn(f, y[s], !k->told);
		if (f->n < LATENCY_LEARN)
			continue;
		f->sum[step] += (float)MAX(-LATENCY_CLAMP, MIN(e, LATENCY_CLAMP));
		f->count[step]++;
	}
}

struct look {
	double strength, ratio, z; /* ratio: log */
	int series, window;
};

static void judge(const struct detect *d, const struct model *k, struct fit *f, int series, int32_t step, struct look *worst)
{
	for (int w = 0; w < WINDOWS; w++) {
		struct window *q = &f->window[w];
		int steps = w == SHORT ? WINDOW_STEPS : STEPS;
		double sum = 0, n = 0, rise = 0, r, sd, z, strength, above;
		bool noticed;

		for (int i = 0; i < steps; i++) {
			int at = (step - i + STEPS) % STEPS;

			sum += (double)f->sum[at];
			n += (double)f->count[at];
			rise += (double)f->rise[at];
		}
		if (n < (w == SHORT ? LATENCY_SHORT_N : LATENCY_LONG_N))
			continue;
		r = sum / n;
		above = r - q->mean;
		sd = sqrt(q->var + LATENCY_SD * LATENCY_SD);
		/* A minute of few requests says less than the usual minute did. */
		z = above / sqrt(sd * sd + f->noise / n / 2);
		strength = MIN(MIN(z / (w == SHORT ? LATENCY_Z : LATENCY_LONG_Z), above / LATENCY_LEAST), above / MAX(LATENCY_HABIT * habit_of(d, q->peak), 1e-9));
		/* Whatever its load promised: where nobody waits longer than usual, nothing is slower. */
		noticed = f->known < LATENCY_LEARN || rise / n >= LATENCY_RISE;
		if (f->known >= LATENCY_LEARN)
			strength = MIN(strength, rise / n / LATENCY_RISE);
		if (q->looks >= LATENCY_LOOKS && strength > worst->strength)
			*worst = (struct look){ strength, above, z, series, w };
		q->peak *= LATENCY_HABIT_KEEP;
		if (strength >= 1)
			q->dip = MAX(q->dip, MIN(above, LATENCY_HABIT_AGAIN * MAX(q->peak, LATENCY_Z * sd)));
		if (k->told)
			continue;
		if (above > sd && noticed) {
			q->dip = MAX(q->dip, strength >= 1 ? 0 : above);
		} else if (q->dip > 0) {
			q->peak = MAX(q->peak, q->looks >= LATENCY_LOOKS ? q->dip : 0);
			q->dip = 0;
		}
		{
			double a = MAX(1.0 / 720, 1.0 / (q->looks + 1)), dx = MAX(-3 * sd, MIN(above, 3 * sd));

			q->looks++;
			q->var += a * (dx * dx - q->var);
			q->mean += a * dx;
		}
	}
}

static void report(struct detect *d, const struct model *k, const struct look *l)
{
	static const char *const feature[SERIES] = { "ttft_ratio", "time_per_token_ratio", "duration_ratio" };
	static const char *const what[SERIES] = { "time to first token", "time per token", "duration" };
	struct finding q;
	char who[ENTITY_NAME_MAX + 32];

	finding_init(&q, WATCH_LATENCY, CLASS_LATENCY_REGRESSION, k->entity, l->strength, MIN(l->z, 40.0));
	q.needs = l->strength >= 2 ? 2 : LATENCY_NEEDS;
	q.leave_s = LEAVE_LATENCY_S;
	q.accept_s = l->ratio >= LATENCY_MUCH ? ACCEPT_LATENCY_S : ACCEPT_LATENCY_LITTLE_S;
	q.quiet = true;
	q.magnitude = exp(l->ratio);
	q.start = d->base + MAX(d->tick - STEP_S * (l->window == SHORT ? WINDOW_STEPS : STEPS / 2), 0);
	finding_actor(&q, k->entity, 1);
	finding_evidence(&q, feature[l->series], exp(l->ratio), 1, l->z);
	finding_evidence(&q, "requests_in_flight", k->load.in_flight, k->load.in_flight, 0);
	if (k->band.observed > 0)
		finding_evidence(&q, k->band_ttft ? "p99_ttft_ms" : "p99_duration_ms", (double)k->band.observed, (double)k->band.expected, (double)k->band.sigma);
	finding_say(&q, "%s of %s is %.2f times what its load explains", what[l->series], describe_who(d, k->entity, who, sizeof(who)), exp(l->ratio));
	incident_report(d, &q);
}

/* Slower for so long: that is how it is now. */
static void settle(struct model *k)
{
	for (int s = 0; s < SERIES; s++) {
		struct fit *f = &k->fit[s];
		double sum = 0, n = 0;

		for (int i = 0; i < STEPS; i++) {
			sum += (double)f->sum[i];
			n += (double)f->count[i];
		}
		for (int w = 0; n > 0 && w < WINDOWS; w++)
			if (sum / n > f->window[w].mean + LATENCY_LEAST)
				f->window[w].mean = sum / n;
	}
}

void latency_step(struct detect *d)
{
	int32_t step = d->tick / STEP_S;

	load_advance(&d->latency->all, d->tick);
	for (unsigned int i = 0; i < d->latency->n; i++) {
		struct model *k = d->latency->model[i];
		struct look worst = { 0 };
		bool open = incident_find(d, WATCH_LATENCY, k->entity);

		load_advance(&k->load, d->tick);
		if (k->told && !open)
			settle(k);
		k->told = open;
		band_roll(&k->band, d->base + d->tick + 1, !open);
		for (int s = 0; s < SERIES; s++)
			judge(d, k, &k->fit[s], s, step % STEPS, &worst);
		if (worst.strength >= LEAVE_FACTOR)
			report(d, k, &worst);
		for (int s = 0; s < SERIES; s++)
			k->fit[s].sum[(step + 1) % STEPS] = k->fit[s].count[(step + 1) % STEPS] = k->fit[s].rise[(step + 1) % STEPS] = 0;
	}
}

unsigned int latency_count(const struct latency_models *l)
{
	return l->n;
}

uint32_t latency_model(const struct latency_models *l, unsigned int n)
{
	return l->model[n]->entity;
}

void latency_keep(struct latency_models *l, uint32_t entity, struct blob *b)
{
	struct model *m = model_of(l, entity);

	if (!m) {
		b->bad = true;
		return;
	}
	blob_bool(b, &m->told);
	for (int s = 0; s < SERIES; s++) {
		struct fit *f = &m->fit[s];

		blob_f64s(b, f->w, TERMS);
		blob_f64s(b, &f->p[0][0], (size_t)TERMS * TERMS);
		blob_f64(b, &f->n);
		blob_f64(b, &f->noise);
		blob_f32s(b, f->sum, STEPS);
		blob_f32s(b, f->count, STEPS);
		for (int w = 0; w < WINDOWS; w++) {
			blob_f64(b, &f->window[w].mean);
			blob_f64(b, &f->window[w].var);
			blob_f64(b, &f->window[w].looks);
			blob_f64(b, &f->window[w].peak);
			blob_f64(b, &f->window[w].dip);
		}
	}
}

void latency_keep_band(struct latency_models *l, uint32_t entity, struct blob *b)
{
	struct model *m = model_of(l, entity);
	struct band got;

	if (!m) {
		b->bad = true;
		return;
	}
	got = m->band;
	blob_bool(b, &m->band_ttft);
	blob_f32(b, &got.mean);
	blob_f32(b, &got.var);
	blob_f32(b, &got.looks);
	layout_season(b, &got.season);
	b->bad |= !b->write && (b->n != b->cap || got.var < 0 || got.looks < 0);
	if (!b->bad)
		m->band = got;
}

void latency_forget(struct latency_models *l, uint32_t entity)
{
	for (unsigned int i = 0; i < l->n; i++) {
		if (l->model[i]->entity != entity)
			continue;
		free(l->model[i]);
		l->model[i] = l->model[--l->n];
	}
}
