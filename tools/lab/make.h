/*
 * make.h - runs a planned stream: every source's next request in time order, retries, lost lines, the order on disk.
 */
#ifndef LAB_MAKE_H
#define LAB_MAKE_H

#include "plan.h"
#include "write.h"

#define RETRIES_MAX 65536 /* waiting at once; later ones are given up, as clients do */
#define LOST_SLOTS 8192   /* addresses that lose records within one second */

struct retry {
	double t;
	int src, who, n;
};

struct lost {
	uint64_t addr;
	int n, prompt, completion, model;
};

struct run {
	struct lab *lab;
	int *heap, heap_n; /* of sources, by `next` */
	struct retry *retry;
	int retry_n;
	struct rec *held; /* what is not written yet, a heap by `out` */
	int held_n, held_cap;
	struct lost *lost;
	int *lost_at, lost_n;
	double second;
	int in_second;
	/* whom to give records to; nonzero: stop */
	int (*emit)(void *ctx, const struct lab *lab, const struct rec *q);
	void *ctx;
};

static inline void heap_sink(struct run *x, int i)
{
	const struct source *s = x->lab->src;
	int v = x->heap[i], kid;

	while ((kid = 2 * i + 1) < x->heap_n) {
		if (kid + 1 < x->heap_n && s[x->heap[kid + 1]].next < s[x->heap[kid]].next)
			kid++;
		if (s[x->heap[kid]].next >= s[v].next)
			break;
		x->heap[i] = x->heap[kid];
		i = kid;
	}
	x->heap[i] = v;
}

static inline void retry_push(struct run *x, struct retry e)
{
	int i;

	if (x->retry_n == RETRIES_MAX)
		return;
	for (i = x->retry_n++; i && x->retry[(i - 1) / 2].t > e.t; i = (i - 1) / 2)
		x->retry[i] = x->retry[(i - 1) / 2];
	x->retry[i] = e;
}

static inline struct retry retry_pop(struct run *x)
{
	struct retry top = x->retry[0], last = x->retry[--x->retry_n];
	int i = 0, kid;

	while ((kid = 2 * i + 1) < x->retry_n) {
		if (kid + 1 < x->retry_n && x->retry[kid + 1].t < x->retry[kid].t)
			kid++;
		if (x->retry[kid].t >= last.t)
			break;
		x->retry[i] = x->retry[kid];
		i = kid;
	}
	if (x->retry_n)
		x->retry[i] = last;
	return top;
}

static inline int held_until(struct run *x, double t)
{
	while (x->held_n && x->held[0].out <= t) {
		struct rec top = x->held[0], last = x->held[--x->held_n];
		int i = 0, kid, r;

		while ((kid = 2 * i + 1) < x->held_n) {
			if (kid + 1 < x->held_n && x->held[kid + 1].out < x->held[kid].out)
				kid++;
			if (x->held[kid].out >= last.out)
				break;
			x->held[i] = x->held[kid];
			i = kid;
		}
		if (x->held_n)
			x->held[i] = last;
		r = x->emit(x->ctx, x->lab, &top);
		if (r)
			return r;
		x->lab->records++;
	}
	return 0;
}

static inline int held_push(struct run *x, const struct rec *q)
{
	int i;

	if (x->lab->order == ORDER_ARRIVAL) {
		x->lab->records++;
		return x->emit(x->ctx, x->lab, q);
	}
	LAB_GROW(x->held, x->held_n, x->held_cap, 1);
	for (i = x->held_n++; i && x->held[(i - 1) / 2].out > q->out; i = (i - 1) / 2)
		x->held[i] = x->held[(i - 1) / 2];
	x->held[i] = *q;
	return 0;
}

/* The counters of the second that ends here. */
static inline int lost_flush(struct run *x)
{
	for (int i = 0; i < x->lost_n; i++) {
		const struct lost *l = &x->lost[x->lost_at[i]];
		struct rec q = { .t = x->second + 1, .addr = l->addr, .lost = true, .weight = l->n, .prompt = l->prompt, .completion = l->completion, .model = (uint8_t)l->model, .limit = -1 };
		int r = held_push(x, &q);

		if (r)
			return r;
		x->lost[x->lost_at[i]].n = 0;
	}
	x->lost_n = 0;
	return 0;
}

static inline bool lost_add(struct run *x, const struct rec *q)
{
	int h = (int)(mix64(q->addr) % LOST_SLOTS);

	for (int i = 0; i < 16; i++, h = (h + 1) % LOST_SLOTS) {
		struct lost *l = &x->lost[h];

		if (!l->n) {
			*l = (struct lost){ .addr = q->addr, .model = q->model };
			x->lost_at[x->lost_n++] = h;
		} else if (l->addr != q->addr) {
			continue;
		}
		l->n++;
		l->prompt += q->prompt > 0 ? q->prompt : 0;
		l->completion += q->completion > 0 ? q->completion : 0;
		return true;
	}
	return false;
}

/* An event that was placed there is reason enough. Flash crowds are their own customers. */
static inline bool strain_explained(const struct lab *lab, double from, double to)
{
	for (int i = 0; i < lab->label_n; i++) {
		const struct label *l = &lab->label[i];

		if (attack_find(l->cls) >= 0 && strcmp(l->cls, "flash_crowd") != 0 && l->start - 30 <= from && l->end + 120 >= to - 180 && l->end - l->start < 12 * 3600)
			return true;
	}
	return false;
}

/* A minute has passed: is a model straining under its customers' own load? */
static inline void strain(struct lab *lab, double t)
{
	for (int i = 0; i < lab->model_n; i++) {
		struct model *m = &lab->model[i];

		if (m->asked > 3 && m->full > 0.85 * m->asked) {
			if (m->strained_since < 0)
				m->strained_since = t - 60;
			m->calm = 0;
		} else if (m->strained_since >= 0 && ++m->calm == 3) {
			if (!strain_explained(lab, m->strained_since, t)) {
				struct label *l = label_new(lab, "natural_load", "queues under its customers' own load", m->strained_since, t - 120, 1);

				l->benign = true;
				label_scope(l, "model", m->name);
				label_actor(l, "model", m->name);
			}
			m->strained_since = -1;
		}
		m->full = 0;
		m->asked = 0;
	}
}

static inline int run_one(struct run *x, double t, int src, int who, int n)
{
	struct lab *lab = x->lab;
	struct source *s = &lab->src[src];
	struct rec q;
	int r;

	request_make(lab, s, t, who, n, &q);
	if (q.status >= 429 && n < 3 && rnd_chance(&lab->r, s->retry))
		retry_push(x, (struct retry){ t + q.duration + rnd_range(&lab->r, 0.5, 2) * (1 << n), src, s->last, n + 1 });
	q.out = lab->order == ORDER_COMPLETION ? t + q.duration : lab->order == ORDER_SHUFFLED ? t + (rnd_chance(&lab->r, 0.01) ? rnd_range(&lab->r, 1, 5) : rnd_range(&lab->r, 0, 1.2)) : t;
	for (int i = 0; i < lab->gap_n; i++)
		if (shape_at(&lab->gap[i], t) > 0)
			return 0;
	if (lab->lossy > 0) {
		if (t >= x->second + 1) {
			r = lost_flush(x);
			if (r)
				return r;
			x->second = floor(t);
			x->in_second = 0;
		}
		if (++x->in_second > lab->lossy && lost_add(x, &q))
			return 0;
	}
	return held_push(x, &q);
}

static inline int lab_run(struct lab *lab, int (*emit)(void *ctx, const struct lab *lab, const struct rec *q), void *ctx)
{
	struct run x = { .lab = lab, .emit = emit, .ctx = ctx };
	double minute = 60;
	int r = 0;

	x.heap = lab_realloc(NULL, sizeof(*x.heap) * (size_t)(lab->src_n + 1));
	x.retry = lab_realloc(NULL, sizeof(*x.retry) * RETRIES_MAX);
	x.lost = lab_realloc(NULL, sizeof(*x.lost) * LOST_SLOTS);
	x.lost_at = lab_realloc(NULL, sizeof(*x.lost_at) * LOST_SLOTS);
	memset(x.lost, 0, sizeof(*x.lost) * LOST_SLOTS);
	for (int i = 0; i < lab->src_n; i++) {
		source_advance(lab, &lab->src[i], 0);
		x.heap[x.heap_n++] = i;
	}
	for (int i = x.heap_n / 2; i >= 0; i--)
		heap_sink(&x, i);
	while (!r) {
		double t = x.heap_n ? lab->src[x.heap[0]].next : LAB_NEVER;
		bool again = x.retry_n && x.retry[0].t < t;

		if (again)
			t = x.retry[0].t;
		if (t >= lab->len)
			break;
		for (; minute <= t; minute += 60)
			strain(lab, minute);
		r = held_until(&x, t);
		if (r)
			break;
		if (again) {
			struct retry e = retry_pop(&x);

			r = run_one(&x, t, e.src, e.who, e.n);
			continue;
		}
		r = run_one(&x, t, x.heap[0], -1, 0);
		source_advance(lab, &lab->src[x.heap[0]], t);
		heap_sink(&x, 0);
	}
	if (!r)
		r = lost_flush(&x);
	if (!r)
		r = held_until(&x, LAB_NEVER);
	strain(lab, minute);
	for (int i = 0; i < lab->label_n; i++) { /* nobody can notice what has not been sent */
		struct label *l = &lab->label[i];

		if (l->src >= 0 && lab->src[l->src].sent && lab->src[l->src].first > l->start && lab->src[l->src].first < l->end - 1)
			l->start = lab->src[l->src].first;
	}
	qsort(lab->label, (size_t)lab->label_n, sizeof(*lab->label), label_order);
	free(x.heap);
	free(x.retry);
	free(x.lost);
	free(x.lost_at);
	free(x.held);
	return r;
}

#endif
