/* Requests that only repeat what failed. */
#include "detect/engine.h"

/* Who tries again: the key where there is one, since a customer's retry may come from another of his addresses. */
static struct entity *who_retries(struct detect *d, const struct feed *f)
{
	static const int order[] = { FEED_KEY, FEED_IP, FEED_USER };

	for (size_t k = 0; k < ARRAY_SIZE(order); k++)
		if (f->entity[order[k]] != NOBODY)
			return at(d, f->entity[order[k]]);
	return NULL;
}

/* Failures that SDKs answer by trying again. */
static bool is_retryable(const struct moment *m)
{
	return m->status == 408 || m->status == 409 || m->status == 429 || m->status >= 500 || (m->flags & MOMENT_ABORTED);
}

void retry_note_failure(struct detect *d, const struct feed *f, int32_t tick)
{
	struct entity *e = is_retryable(&f->m) ? who_retries(d, f) : NULL;

	if (!e)
		return;
	if (tick - e->failed > RETRY_WITHIN_S)
		e->failures = 0;
	e->failures += f->weight;
	e->failed = tick;
}

/*
 * A retry of a request that failed a moment ago is no new demand. Whether it is one the client says; so there is one for each failure, and
 * no more in a step than a few times what is usual of the source: who has no past is excused nothing.
 */
bool retry_is_excused(struct detect *d, const struct feed *f, int32_t tick)
{
	struct entity *e = f->m.flags & MOMENT_RETRY ? who_retries(d, f) : NULL;
	int32_t step = tick / STEP_S;

	if (!e || !has_part(d, PART_RETRY) || e->failures < f->weight || tick - e->failed > RETRY_WITHIN_S)
		return false;
	if (e->excusing != step) {
		e->excusing = step;
		e->excused = 0;
	}
	if (e->n < e->prior + RETRY_KNOWN_STEPS || e->excused + f->weight > RETRY_TIMES * baseline_level(&e->req))
		return false;
	e->failures -= f->weight;
	e->excused += f->weight;
	return true;
}
