/*
 * What an incident costs an hour: tokens above the expected, at what the tokens of its scope's last requests cost on average. Only of
 * incidents that are about tokens: what comes in vain, is too slow or stays away has no price per token.
 */
#include "detect/engine.h"
#include "detect/price.h"

#define COST_RECENT_S 300    /* requests that say what a token of this scope costs */
#define COST_LOOKED_AT 16384 /* of the ring, newest first */

static bool is_of(const struct detect *d, const struct moment *m, uint32_t scope)
{
	const struct entity *e = scope == NOBODY ? NULL : at(d, scope);

	if (!e || e->kind == ENTITY_SERVER || e->kind == ENTITY_HOST)
		return true;
	if (e->kind == ENTITY_NETWORK)
		return m->who[WHO_IP] != NOBODY && at(d, m->who[WHO_IP])->net == scope;
	for (int k = 0; k < WHO_COUNT; k++)
		if (m->who[k] == scope)
			return true;
	return false;
}

/* Of a token, on average: prompt, cached and completion tokens of all models as they come. What has no price is free. */
static double mean_price(const struct detect *d, uint32_t scope)
{
	const struct price *price = NULL;
	uint32_t seq = recent_newest(&d->recent), model = NOBODY;
	double cost = 0, tokens = 0;
	const struct moment *m;

	for (int i = 0; i < COST_LOOKED_AT && (m = recent_at(&d->recent, seq)) && d->tick - m->tick < COST_RECENT_S; i++, seq--) {
		double prompt = MAX((double)m->prompt, 0.0), completion = MAX((double)m->completion, 0.0), cached = MIN(MAX((double)m->cached, 0.0), prompt);

		if (!(m->what & MOMENT_DONE) || !is_of(d, m, scope))
			continue;
		tokens += prompt + completion;
		if (m->who[WHO_MODEL] != model) {
			model = m->who[WHO_MODEL];
			price = prices_find(d->opts.prices, model == NOBODY ? (struct span){ 0 } : span_of(at(d, model)->name));
		}
		if (price)
			cost += (prompt - cached) * price->prompt + cached * price->cached + completion * price->completion;
	}
	return tokens > 0 ? cost / tokens / 1e6 : 0;
}

static double excess_tokens_per_s(const struct detect *d, const struct finding *f)
{
	struct entity *e = f->scope == NOBODY ? global_of(d) : at(d, f->scope);
	double now, usual = (e->kind <= ENTITY_HOST ? baseline_level(&e->tok) : baseline_expected(&e->tok)) / STEP_S;

	entity_advance(e, d->tick);
	now = MAX(entity_tokens60(e) / (WINDOW_STEPS * STEP_S), entity_tokens300(e) / (LONG_STEPS * STEP_S));
	switch (f->watch) {
	case WATCH_VOLUME:
	case WATCH_ACCESS:
	case WATCH_BEHAVE:
	case WATCH_COST:
		return MAX(now - usual, 0.0);
	case WATCH_GROWTH: /* what is usual follows it; how much larger requests are is what it is about */
		for (size_t i = 0; i < f->evidence_count; i++)
			if (!strcmp(f->evidence[i].feature, "tokens_per_request_ratio") && f->evidence[i].observed > 1)
				return now * (1 - 1 / f->evidence[i].observed);
		return 0;
	default:
		return 0;
	}
}

double cost_per_h(const struct detect *d, const struct finding *f)
{
	/* What nobody was billed for is compute, not tokens. */
	if (!d->opts.prices || f->cls == CLASS_UNBILLED_COMPUTE)
		return 0;
	return 3600 * excess_tokens_per_s(d, f) * mean_price(d, f->scope);
}
