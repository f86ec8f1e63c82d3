#include "detect/latency.h"

#include <math.h>

#include "detect/engine.h"

#define MODELS 64
#define TERMS 3
enum { SERIES_TTFT, SERIES_TPOT, SERIES };

struct fit {
	double w[TERMS], p[TERMS][TERMS];
	double n;
	/* residuals by step */
	double sum[WINDOW_STEPS], count[WINDOW_STEPS];
	double mean, var, looks; /* of the minute's mean residual */
	double cusum;
};

struct model {
	uint32_t entity;
	double in_flight;
	struct fit fit[SERIES];
};

struct latency_models {
	struct model model[MODELS];
	unsigned int n;
};

int latency_open(struct latency_models **ret)
{
	*ret = calloc(1, sizeof(**ret));
	return *ret ? 0 : -ENOMEM;
}

struct latency_models *latency_free(struct latency_models *l)
{
	free(l);
	return NULL;
}

static struct model *model_of(struct latency_models *l, uint32_t entity)
{
	for (unsigned int i = 0; i < l->n; i++)
		if (l->model[i].entity == entity)
			return &l->model[i];
	if (l->n == MODELS)
		return NULL;
	l->model[l->n] = (struct model){ .entity = entity };
	for (int s = 0; s < SERIES; s++)
		for (int k = 0; k < TERMS; k++)
			l->model[l->n].fit[s].p[k][k] = 10;
	return &l->model[l->n++];
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
	e = y - guess;
	if (!learn)
		return e;
	f->n++;
	{
		double step = f->n > 50 ? MAX(-1.0, MIN(e, 1.0)) : e;

		for (int i = 0; i < TERMS; i++)
			f->w[i] += px[i] / denominator * step;
	}
	for (int i = 0; i < TERMS; i++)
		for (int j = 0; j < TERMS; j++)
			f->p[i][j] = (f->p[i][j] - px[i] * px[j] / denominator) / LATENCY_FORGET;
	for (int i = 0; i < TERMS; i++)
		f->p[i][i] = MIN(f->p[i][i], 100.0);
	return e;
}

void latency_see(struct detect *d, const struct moment *m)
{
	struct model *k;
	double x[TERMS], y[SERIES] = { (double)NAN, (double)NAN };
	int step = d->tick / STEP_S % WINDOW_STEPS;

	if (m->who[WHO_MODEL] == NOBODY)
		return;
	k = model_of(d->latency, m->who[WHO_MODEL]);
	if (!k)
		return;
	if (m->what & MOMENT_ARRIVAL)
		k->in_flight += (double)m->weight;
	if (!(m->what & MOMENT_DONE))
		return;
	k->in_flight = MAX(0.0, k->in_flight - (double)m->weight);
	if (m->status >= 400 || m->flags & (MOMENT_ERROR | MOMENT_ABORTED))
		return;
	if (m->ttft_ms >= 0)
		y[SERIES_TTFT] = log1p((double)m->ttft_ms);
	if (m->tpot_ms >= 0)
		y[SERIES_TPOT] = log1p((double)m->tpot_ms);
	x[0] = 1;
	x[1] = log1p(MAX(0.0, (double)m->prompt - MAX(0.0, (double)m->cached)));
	x[2] = log1p(k->in_flight);
	for (int s = 0; s < SERIES; s++) {
		struct fit *f = &k->fit[s];
		double e;

		if (isnan(y[s]))
			continue;
		e = fit_learn(f, x, y[s], !incident_find(d, WATCH_LATENCY, m->who[WHO_MODEL]));
		if (f->n < LATENCY_LEARN)
			continue;
		f->sum[step] += MAX(-1.5, MIN(e, 1.5));
		f->count[step]++;
	}
}

static void judge(struct detect *d, const struct model *k, struct fit *f, int series)
{
	double sum = 0, n = 0, r, sd, z, strength;
	struct finding q;
	char who[ENTITY_NAME_MAX + 32];

	for (int i = 0; i < WINDOW_STEPS; i++) {
		sum += f->sum[i];
		n += f->count[i];
	}
	if (n < LATENCY_MIN)
		return;
	r = sum / n;
	sd = sqrt(f->var + LATENCY_SD * LATENCY_SD);
	z = (r - f->mean) / sd;
	f->cusum = MAX(0.0, f->cusum + MAX(-3.0, MIN(z, 4.0)) - 1);
	strength = MIN(MIN(z / LATENCY_Z, (r - f->mean) / LATENCY_LEAST), f->cusum / LATENCY_H);
	if (f->looks >= LATENCY_LOOKS && strength >= LEAVE_FACTOR) {
		finding_init(&q, WATCH_LATENCY, CLASS_LATENCY_REGRESSION, k->entity, strength, z);
		q.needs = 2;
		q.leave_s = LEAVE_LATENCY_S;
		q.quiet = true;
		q.magnitude = exp(r - f->mean);
		q.start = d->base + d->tick - STEP_S * WINDOW_STEPS;
		finding_actor(&q, k->entity, 1);
		finding_evidence(&q, series == SERIES_TTFT ? "ttft_ratio" : "time_per_token_ratio", exp(r - f->mean), 1, z);
		finding_evidence(&q, "requests_in_flight", k->in_flight, k->in_flight, 0);
		finding_say(&q, "%s of %s is %.2f times what its load explains", series == SERIES_TTFT ? "time to first token" : "time per token", describe_who(d, k->entity, who, sizeof(who)),
			    exp(r - f->mean));
		incident_report(d, &q);
	}
	if (!incident_find(d, WATCH_LATENCY, k->entity)) {
		double a = MAX(1.0 / 720, 1.0 / (f->looks + 1)), dx = MAX(-3 * sd, MIN(r - f->mean, 3 * sd));

		f->looks++;
		f->var += a * (dx * dx - f->var);
		f->mean += a * dx;
	}
}

void latency_step(struct detect *d)
{
	int next = (d->tick / STEP_S + 1) % WINDOW_STEPS;

	for (unsigned int i = 0; i < d->latency->n; i++) {
		for (int s = 0; s < SERIES; s++) {
			struct fit *f = &d->latency->model[i].fit[s];

			judge(d, &d->latency->model[i], f, s);
			f->sum[next] = f->count[next] = 0;
		}
	}
}
