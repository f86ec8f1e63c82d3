/* Every ten seconds: what was normal becomes what is expected. */
#include "detect/engine.h"

#define GAP_KEEP 0.995f /* per PEAK_STEPS generation */

void learn_new(struct detect *d, struct entity *e)
{
	int32_t next = d->tick + 1;

	e->tick = d->tick;
	e->step = next / STEP_S;
	e->last = -1;
	if (is_identity(e)) {
		const struct pool *p = &d->pool[e->kind];

		e->n = e->prior = MIN(d->steps, (uint32_t)PRIOR_STEPS);
		baseline_init(&e->req, p->req.fast, p->req.disp10 > 0 ? p->req.disp10 : (float)DISP_PRIOR);
		baseline_init(&e->tok, p->tok.fast, p->tok.disp10 > 0 ? p->tok.disp10 : (float)DISP_PRIOR);
		if (p->req.disp60 > 0)
			e->req.disp60 = p->req.disp60;
		if (p->tok.disp60 > 0)
			e->tok.disp60 = p->tok.disp60;
	} else {
		baseline_init(&e->req, 0, (float)DISP_PRIOR);
		baseline_init(&e->tok, 0, (float)DISP_PRIOR);
	}
}

/* What the suspects of open incidents sent above their own past: the total must not learn it. */
static double excess_of_suspects(const struct detect *d, double *ret_tokens)
{
	int32_t step = d->tick / STEP_S;
	double excess = 0;

	*ret_tokens = 0;
	for (int i = 0; i < INCIDENTS_MAX; i++) {
		const struct incident *in = &d->incident[i];

		if (!in->used || !in->open)
			continue;
		for (unsigned int k = 0; k < in->f.actors; k++) {
			const struct entity *e = at(d, in->f.actor[k]);

			if (!is_identity(e) || e->tick / STEP_S != step)
				continue;
			excess += MAX(0.0, (double)e->s10[step % LONG_STEPS] - baseline_expected(&e->req));
			*ret_tokens += MAX(0.0, (double)e->t10[step % LONG_STEPS] - baseline_expected(&e->tok));
		}
	}
	return excess;
}

static void learn_errors(struct errors *er)
{
	double done = 0, failed = 0;

	for (int i = 0; i < WINDOW_STEPS; i++) {
		done += (double)er->done[i];
		failed += (double)er->failed[i];
	}
	/* A window of six steps is looked at six times. */
	done /= WINDOW_STEPS;
	failed /= WINDOW_STEPS;
	if (er->hist & 7 || done <= 0)
		return;
	er->share = (er->share * er->weight + failed) / (er->weight + done);
	er->weight = MIN(er->weight + done, ERROR_HALF_N);
}

/* The global series while something global is wrong (one customer who is missed is not: what others do meanwhile is learnt), or a model's while it fails: nothing is learnt. */
static bool frozen(struct detect *d, const struct entity *e)
{
	if (e->suspect)
		return true;
	if (e->kind == ENTITY_GLOBAL || e->kind == ENTITY_HOST || e->kind == ENTITY_NETWORK)
		return incident_any(d, 1u << WATCH_VOLUME) || incident_find(d, WATCH_DROP, NOBODY);
	return is_identity(e) && e->hist_cost & 7;
}

/* How everybody's requests look, in calm minutes. */
static void learn_usual(struct detect *d)
{
	struct traits_set *set;

	if (d->steps % USUAL_STEPS)
		return;
	set = malloc(sizeof(*set));
	if (!set)
		return;
	traits_gather_all(d, d->tick - STEP_S * WINDOW_STEPS, set);
	traits_compute(d, set, &d->now);
	free(set);
	if (d->now.arrivals >= USUAL_ARRIVALS && !incident_lately(d, 1u << WATCH_VOLUME | 1u << WATCH_AUTH))
		habit_learn(&d->usual, &d->now);
	if (d->now.arrivals >= USUAL_ARRIVALS && !incident_any(d, (1u << WATCH_COUNT) - 1))
		opinion_learn_all(d);
}

struct full *full_of(struct detect *d, struct entity *e)
{
	if (!e->full && (double)e->requests >= (e->kind == ENTITY_API_KEY ? FULL_REQUESTS_KEY : FULL_REQUESTS)) {
		if (d->entities.fulls >= FULL_MAX && !entities_forget_full(&d->entities, d->tick - FULL_IDLE_S))
			return NULL;
		e->full = calloc(1, sizeof(*e->full));
		if (e->full) {
			d->entities.fulls++;
			e->full->looked = d->tick;
			access_init(&e->full->access);
			growth_init(&e->full->growth);
		}
	}
	return e->full;
}

void full_free(struct full *f)
{
	if (f) {
		access_done(&f->access);
		free(f->drop.season);
	}
	free(f);
}

void learn_step(struct detect *d)
{
	int32_t step = d->tick / STEP_S;
	struct {
		double req, tok, disp10, disp60, tok10, tok60;
		uint32_t n, known;
	} sum[ENTITY_KIND_COUNT] = { 0 };
	double suspect_tokens, suspect_excess = excess_of_suspects(d, &suspect_tokens);
	double all = baseline_expected(&global_of(d)->req);
	bool rotate;

	for (uint32_t k = 0; k < d->actives;) {
		struct entity *e = at(d, d->active[k]);
		double x10, x60, t10, t60;

		if (k + 4 < d->actives)
			entity_prefetch(&d->entities, d->active[k + 4]);
		entity_advance(e, d->tick);
		x10 = (double)e->s10[step % LONG_STEPS];
		x60 = entity_requests60(e);
		t10 = (double)e->t10[step % LONG_STEPS];
		t60 = entity_tokens60(e);
		if (e->kind == ENTITY_GLOBAL) {
			x10 = MAX(0.0, x10 - suspect_excess);
			x60 = MAX(0.0, x60 - suspect_excess * WINDOW_STEPS);
			t10 = MAX(0.0, t10 - suspect_tokens);
			t60 = MAX(0.0, t60 - suspect_tokens * WINDOW_STEPS);
		}
		rotate = e->generation != (uint16_t)(step / PEAK_STEPS);
		e->generation = (uint16_t)(step / PEAK_STEPS);
		e->worked += x10 > 0;
		if (!frozen(d, e)) {
			baseline_learn(&e->req, x10, x60, e->n, &e->run_req);
			baseline_learn(&e->tok, t10, t60, e->n, &e->run_tok);
			if (e->errors)
				learn_errors(e->errors);
			e->n++;
			/* Before the newest step is added: it belongs to the generation that begins. */
			if (rotate) {
				baseline_rotate(&e->req, false);
				baseline_rotate(&e->tok, false);
				if (e->kind == ENTITY_HOST)
					baseline_fade(&e->req, (double)d->steps / PEAK_STEPS);
				e->gap *= GAP_KEEP;
			}
			baseline_peak(&e->req, x10, x60, entity_requests300(e));
			baseline_peak(&e->tok, t10, t60, entity_tokens300(e));
			if (is_identity(e)) {
				struct pool *p = &d->pool[e->kind];

				baseline_peak(&p->req, x10, x60, entity_requests300(e));
				baseline_peak(&p->tok, t10, t60, entity_tokens300(e));
				sum[e->kind].req += (double)e->req.fast;
				sum[e->kind].tok += (double)e->tok.fast;
				sum[e->kind].n++;
				if (e->n - e->prior >= DROP_STEPS) {
					sum[e->kind].disp10 += (double)e->req.disp10;
					sum[e->kind].disp60 += (double)e->req.disp60;
					sum[e->kind].tok10 += (double)e->tok.disp10;
					sum[e->kind].tok60 += (double)e->tok.disp60;
					sum[e->kind].known++;
				}
			}
		} else {
			/* What it did while suspected is no habit; but five minutes of it are: a job is told in its first night, not in every one. */
			e->req.cur10 = e->req.cur60 = e->tok.cur10 = e->tok.cur60 = 0;
		}
		/* The slow ones sleep between their requests: their empty steps are caught up with at the next. Not so while their bill is looked at. */
		if ((is_identity(e) && x10 <= 0 && t10 <= 0 && !e->suspect && !(e->hist_cost & 7) && e->req.fast < 1) || (e->kind != ENTITY_GLOBAL && x60 <= 0 && t60 <= 0 && !e->suspect && !(e->hist_cost & 7) && (double)e->req.fast < all * 0.1)) {
			e->active = false;
			e->hist_cost = 0;
			e->step = step + 1;
			d->active[k] = d->active[--d->actives];
			continue;
		}
		k++;
	}
	d->steps++;
	learn_usual(d);
	for (int k = ENTITY_CLIENT_IP; k < ENTITY_KIND_COUNT; k++) {
		struct pool *p = &d->pool[k];

		if (sum[k].n) {
			double n = sum[k].n;

			p->req.fast = p->req.slow = (float)(sum[k].req / n);
			p->tok.fast = p->tok.slow = (float)(sum[k].tok / n);
		}
		if (sum[k].known) {
			double n = sum[k].known;

			p->req.disp10 = (float)(sum[k].disp10 / n);
			p->req.disp60 = (float)(sum[k].disp60 / n);
			p->tok.disp10 = (float)(sum[k].tok10 / n);
			p->tok.disp60 = (float)(sum[k].tok60 / n);
		}
		if (d->steps % PEAK_STEPS == 0) {
			baseline_rotate(&p->req, false);
			baseline_rotate(&p->tok, false);
		}
	}
}
