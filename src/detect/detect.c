/* The engine's clock and its two feeds. What they feed is in entity.c and recent.c, what comes of it in learn.c and the detectors (engine.h). */
#include "detect/detect.h"

#include <math.h>

#include "detect/engine.h"

int detect_open(const struct detect_opts *opts, struct detect **ret)
{
	CLEANUP(detect_freep) struct detect *d = calloc(1, sizeof(*d));
	bool is_new;
	int r;

	if (!d)
		return -ENOMEM;
	d->opts = *opts;
	if (!(d->opts.lateness_s > 0))
		d->opts.lateness_s = LATENESS_S;
	if (!(d->opts.bin_s > 0))
		d->opts.bin_s = 300;
	if (!(d->opts.sigma > 0))
		d->opts.sigma = 3;
	d->feed_free = d->global = d->fresh = NOBODY;
	d->tick = -1;
	for (int i = 0; i < WHEEL; i++)
		d->head[i] = d->tail[i] = NOBODY;
	if (d->opts.detector == DETECTOR_STATIC) {
		r = static_open(&d->opts, &d->bins);
	} else {
		r = entities_init(&d->entities);
		if (r == 0)
			r = recent_init(&d->recent);
		if (r == 0)
			r = latency_open(&d->latency);
		if (r == 0)
			r = budget_open(d->opts.sensitivity, d->opts.alarms_per_week, &d->budget);
		if (r == 0)
			r = routine_open(&d->routines);
		if (r == 0) {
			d->global = entity_get(&d->entities, ENTITY_GLOBAL, (struct span){ 0 }, 0, &is_new);
			d->fresh = entity_get(&d->entities, ENTITY_HOST, SPAN("new addresses"), 0, &is_new);
			if (d->global == NOBODY || d->fresh == NOBODY)
				r = -ENOMEM;
			else
				learn_new(d, global_of(d));
		}
	}
	if (r < 0)
		return r;
	*ret = TAKE_PTR(d);
	return 0;
}

struct detect *detect_free(struct detect *d)
{
	if (!d)
		return NULL;
	static_free(d->bins);
	if (d->entities.bucket)
		entities_done(&d->entities);
	recent_done(&d->recent);
	latency_free(d->latency);
	kept_free(d);
	feedback_free(d);
	opinion_free(d);
	unbilled_free(d);
	free(d->budget);
	free(d->routines);
	free(d->feed);
	free(d->active);
	free(d->touched);
	free(d);
	return NULL;
}

static bool push(uint32_t **list, uint32_t *n, uint32_t *cap, uint32_t v)
{
	if (*n == *cap) {
		uint32_t more = *cap ? *cap * 2 : 256;
		uint32_t *p = realloc(*list, more * sizeof(*p));

		if (!p)
			return false;
		*list = p;
		*cap = more;
	}
	(*list)[(*n)++] = v;
	return true;
}

static void touch(struct detect *d, struct entity *e, uint32_t i, int32_t tick)
{
	if (!e->active) {
		uint32_t missed = e->step < tick / STEP_S ? (uint32_t)(tick / STEP_S - e->step) : 0;

		if (!push(&d->active, &d->actives, &d->active_cap, i)) {
			d->error = -ENOMEM;
			return;
		}
		if (missed) {
			baseline_idle(&e->req, e->n, missed);
			baseline_idle(&e->tok, e->n, missed);
			e->n += missed;
		}
		e->active = true;
	}
	e->changed = true;
	entity_advance(e, tick);
	if (!e->touched) {
		if (!push(&d->touched, &d->touches, &d->touched_cap, i)) {
			d->error = -ENOMEM;
			return;
		}
		e->touched = true;
	}
}

void detect_wake(struct detect *d, uint32_t i)
{
	touch(d, at(d, i), i, d->tick);
}

static void apply_to(struct detect *d, uint32_t i, const struct feed *f, int32_t tick)
{
	struct entity *e = at(d, i);
	int32_t step = tick / STEP_S, half = step % WINDOW_STEPS;

	touch(d, e, i, tick);
	if (f->flags & FEED_ARRIVAL) {
		e->s1[tick % STEP_S] += f->weight;
		e->s10[step % LONG_STEPS] += f->weight;
		e->requests += f->weight;
		if (e->last >= 0 && tick - e->last > (int32_t)e->gap)
			e->gap = (float)(tick - e->last);
		e->last = tick;
	}
	if (f->flags & FEED_TOKENS)
		e->t10[step % LONG_STEPS] += f->tokens;
	if (f->flags & FEED_OUTCOME && e->errors) {
		e->errors->done[half] += f->weight;
		if (f->flags & FEED_FAILED)
			e->errors->failed[half] += f->weight;
	}
}

/* How long somebody is new: it takes time to know who is usual. */
static int32_t fresh_for(const struct detect *d)
{
	return (int32_t)MAX(FRESH_MIN_S, MIN(FRESH_MAX_S, d->steps * (double)STEP_S / 4));
}

/* Into the ring, and on top of the chains of who is concerned. */
static void remember(struct detect *d, const struct feed *f, int32_t tick)
{
	uint32_t seq;
	struct moment *m = recent_put(&d->recent, &seq);

	*m = f->m;
	m->tick = tick;
	for (int k = 0; k < WHO_CHAINED; k++) {
		m->prev[k] = 0;
		if (m->who[k] != NOBODY) {
			struct entity *e = at(d, m->who[k]);

			m->prev[k] = e->recent;
			e->recent = seq;
		}
	}
}

/* What an arrival says of who comes with whom. */
static void acquaint(struct detect *d, struct feed *f)
{
	uint32_t ip = f->entity[FEED_IP], key = f->entity[FEED_KEY], user = f->entity[FEED_USER], who;

	for (int k = FEED_IP; k < FEED_ENTITIES; k++)
		for (int j = FEED_IP; j < FEED_ENTITIES; j++)
			if (j != k && f->entity[k] != NOBODY && f->entity[j] != NOBODY)
				entity_meet(at(d, f->entity[k]), at(d, f->entity[j]));
	who = person_of(d, &f->m);
	if (who != NOBODY && f->tick - at(d, who)->born < fresh_for(d))
		f->m.flags |= MOMENT_FRESH;
	if (ip == NOBODY)
		return;
	if (f->m.agent)
		at(d, ip)->agents |= entity_bit((uint64_t)f->m.agent * UINT64_C(0x9e3779b97f4a7c15));
	if (at(d, ip)->net != NOBODY) {
		uint32_t net = (uint32_t)at(d, at(d, ip)->net)->hash;

		if (key != NOBODY)
			access_see(d, at(d, key), net);
		if (user != NOBODY)
			access_see(d, at(d, user), net);
	}
}

/* Whose requests an address brings: who guesses keys has none of them. */
static void admit(const struct detect *d, const struct feed *f)
{
	uint32_t ip = f->entity[FEED_IP], who = f->entity[FEED_KEY] != NOBODY ? f->entity[FEED_KEY] : f->entity[FEED_USER];
	uint64_t bit;

	if (ip == NOBODY || who == NOBODY || f->m.status == 401 || f->m.status == 403)
		return;
	bit = entity_bit(at(d, who)->hash);
	at(d, ip)->keys |= bit;
	if (at(d, ip)->net != NOBODY && entity_shared(at(d, ip)))
		at(d, at(d, ip)->net)->keys |= bit;
}

static void apply(struct detect *d, struct feed *f, int32_t tick)
{
	uint32_t ip = f->entity[FEED_IP];

	if (f->flags & FEED_ARRIVAL)
		acquaint(d, f);
	if (f->flags & FEED_ARRIVAL && retry_is_excused(d, f, tick))
		f->flags &= (uint8_t)~FEED_ARRIVAL;
	if (f->m.what & MOMENT_DONE) {
		retry_note_failure(d, f, tick);
		admit(d, f);
	}
	apply_to(d, d->global, f, tick);
	if (f->m.flags & MOMENT_FRESH && f->flags & FEED_ARRIVAL)
		apply_to(d, d->fresh, f, tick);
	if (f->m.what)
		remember(d, f, tick);
	for (int k = 0; k < FEED_ENTITIES; k++) {
		if (f->entity[k] == NOBODY)
			continue;
		/* A completion of a request that has no rate (health, tokenize) says something of servers and models only. */
		if (k >= FEED_IP && !(f->flags & (FEED_ARRIVAL | FEED_TOKENS)))
			continue;
		apply_to(d, f->entity[k], f, tick);
	}
	if (ip != NOBODY && at(d, ip)->net != NOBODY && f->flags & (FEED_ARRIVAL | FEED_TOKENS))
		apply_to(d, at(d, ip)->net, f, tick);
	if (f->flags & FEED_RATE && f->m.what & MOMENT_DONE) {
		latency_see(d, &f->m);
		growth_see(d, &f->m);
		spend_see(d, &f->m);
	}
	if (f->flags & FEED_RATE && f->m.what & MOMENT_ARRIVAL)
		latency_see(d, &f->m);
	if (f->flags & FEED_RATE && f->m.what & MOMENT_DONE && f->m.status >= 200 && f->m.status < 300 && f->entity[FEED_SERVER] != NOBODY && f->entity[FEED_MODEL] != NOBODY)
		markers_see(d, f->entity[FEED_SERVER], f->entity[FEED_MODEL], tick);
}

static void feed_refer(const struct detect *d, const struct feed *f, int by)
{
	for (int k = 0; k < FEED_ENTITIES; k++)
		if (f->entity[k] != NOBODY)
			at(d, f->entity[k])->refs += (uint32_t)by;
}

static void wheel_put(struct detect *d, uint32_t i)
{
	unsigned int w = (unsigned int)d->feed[i].tick % WHEEL;

	d->feed[i].next = NOBODY;
	if (d->tail[w] == NOBODY)
		d->head[w] = i;
	else
		d->feed[d->tail[w]].next = i;
	d->tail[w] = i;
}

static void feed_put(struct detect *d, struct feed *f)
{
	uint32_t i = d->feed_free;

	if (i != NOBODY) {
		d->feed_free = d->feed[i].next;
	} else if (d->feed_used < d->feed_cap) {
		i = d->feed_used++;
	} else if (d->feed_cap < PENDING_MAX) {
		uint32_t cap = d->feed_cap ? d->feed_cap * 2 : 1024;
		struct feed *p = realloc(d->feed, cap * sizeof(*p));

		if (p) {
			d->feed = p;
			d->feed_cap = cap;
			i = d->feed_used++;
		}
	}
	if (i == NOBODY) {
		apply(d, f, d->tick + 1); /* no room to wait: it counts now */
		return;
	}
	d->feed[i] = *f;
	feed_refer(d, f, 1);
	wheel_put(d, i);
	d->feeds++;
}

static void run_tick(struct detect *d)
{
	int32_t t = ++d->tick;
	unsigned int w = (unsigned int)t % WHEEL;
	uint32_t i = d->head[w];

	d->head[w] = d->tail[w] = NOBODY;
	entity_advance(global_of(d), t);
	while (i != NOBODY) {
		uint32_t next = d->feed[i].next;

		if (next != NOBODY) {
			if (d->feed[next].next != NOBODY)
				__builtin_prefetch(&d->feed[d->feed[next].next]);
			for (int k = FEED_IP; k < FEED_ENTITIES; k++)
				entity_prefetch(&d->entities, d->feed[next].entity[k]);
		}

		if (d->feed[i].tick > t) {
			wheel_put(d, i);
		} else {
			apply(d, &d->feed[i], t);
			feed_refer(d, &d->feed[i], -1);
			d->feed[i].next = d->feed_free;
			d->feed_free = i;
			d->feeds--;
		}
		i = next;
	}
	if (d->steps >= STARTUP_STEPS) {
		volume_tick(d);
		health_tick(d);
	}
	for (uint32_t k = 0; k < d->touches; k++)
		at(d, d->touched[k])->touched = false;
	d->touches = 0;
	if (t % STEP_S == STEP_S - 1) {
		learn_step(d);
		if (d->steps >= STARTUP_STEPS)
			spend_step(d);
		unbilled_step(d);
		latency_step(d);
		access_step(d);
		behave_step(d);
		growth_step(d);
	}
	incident_watch(d);
}

/* Runs every second that the watermark has passed. */
static void run_until(struct detect *d, double newest)
{
	int64_t target;
	int32_t quiet = 0;

	if (newest > d->newest)
		d->newest = newest;
	target = (int64_t)floor(d->newest - d->opts.lateness_s) - d->base - 1; /* last whole second behind the watermark */
	while (d->tick < target) {
		run_tick(d);
		quiet = d->feeds ? 0 : quiet + 1;
		if (quiet > SKIP_AFTER_S && target - d->tick > STEP_S) {
			/* Two days of nothing: the rest of the silence teaches nothing more, and a year has 31 million seconds. */
			int64_t skip = (target - d->tick) / STEP_S * STEP_S;

			d->base += skip;
			target -= skip;
		}
	}
	if (d->base + d->tick + 1 > 0 && d->tick >= 0)
		d->stats.watermark = (double)(d->base + d->tick + 1);
}

/* The clock begins; after a restart it goes on, and the time between does not count. */
static void begin(struct detect *d, double t)
{
	d->begun = true;
	if (d->kept)
		kept_resume(d);
	else
		learn_new(d, global_of(d));
	d->base = (int64_t)floor(t) - (d->tick + 1);
	d->newest = t;
	d->stats.first = t;
	if (!global_of(d)->active && !push(&d->active, &d->actives, &d->active_cap, d->global))
		d->error = -ENOMEM;
	global_of(d)->active = true;
}

/*
 * The clock follows arrivals. A record from far ahead of the newest one is believed only when others say the same; a first record from
 * the future is given up when the rest contradicts it. Returns the tick at which to count `t`.
 */
static int32_t clock_take(struct detect *d, double t)
{
	int64_t tick;

	if (!d->begun)
		begin(d, t);
	if (t > d->newest + FUTURE_S) {
		d->ahead_run = d->ahead_run && fabs(t - d->ahead) < FUTURE_S ? d->ahead_run + 1 : 1;
		d->ahead = t;
		if (d->ahead_run < FUTURE_CONFIRM) {
			d->stats.future++;
			return d->tick + 1;
		}
		d->confirmed = 0;
	} else if (t < d->newest - FUTURE_S && d->confirmed < FUTURE_CONFIRM) {
		if (++d->behind_run >= FUTURE_CONFIRM) {
			d->base = (int64_t)floor(t) - (d->tick + 1);
			d->newest = t;
			d->stats.first = MIN(d->stats.first, t);
			d->behind_run = 0;
		}
	} else {
		d->behind_run = 0;
		if (d->confirmed < FUTURE_CONFIRM && t > d->newest - FUTURE_S)
			d->confirmed++;
	}
	d->ahead_run = 0;
	run_until(d, t);
	tick = (int64_t)floor(t) - d->base;
	if (tick <= d->tick) {
		d->stats.late++;
		return d->tick + 1;
	}
	return (int32_t)tick;
}

/* The tick of something that follows an arrival; it does not move the clock. */
static int32_t clock_later(const struct detect *d, double t)
{
	double tick = floor(t) - (double)d->base;

	if (!(tick > d->tick))
		return d->tick + 1;
	return tick > d->tick + DURATION_MAX_S ? d->tick + (int32_t)DURATION_MAX_S : (int32_t)tick;
}

static bool has_rate(const struct record *r)
{
	enum record_kind k = r->kind != KIND_UNKNOWN ? r->kind : record_kind_of_path(record_text(r, F_PATH));

	return k == KIND_INFERENCE || k == KIND_EMBEDDING;
}

static uint32_t hash32(struct span s)
{
	uint64_t h = entity_hash(ENTITY_GLOBAL, s);

	h ^= h >> 32;
	return (uint32_t)h ? (uint32_t)h : 1;
}

static float positive(const struct record *r, enum record_field f)
{
	double v = record_real(r, f, -1);

	return v >= 0 && v < 1e9 ? (float)v : -1;
}

static float sane_count(const struct record *r, enum record_field f)
{
	int64_t v = record_int(r, f, -1);

	return v < 0 ? -1 : (float)MIN((double)v, TOKENS_SANE * (double)r->weight);
}

/* What the ring keeps of a record. */
static void moment_of(struct moment *m, const struct record *r)
{
	double frac = r->timestamp - floor(r->timestamp), v;
	float ttft = positive(r, F_TTFT_MS), duration = positive(r, F_DURATION_MS), completion = sane_count(r, F_COMPLETION_TOKENS);
	int64_t status = record_int(r, F_STATUS, 0), max = record_int(r, F_MAX_TOKENS, 0);

	*m = (struct moment){ .ms = (uint16_t)MIN(frac * 1000, 999.0), .injection = ABSENT8, .entropy = ABSENT8, .tpot_ms = -1 };
	m->prompt = sane_count(r, F_PROMPT_TOKENS);
	m->completion = completion;
	m->cached = sane_count(r, F_CACHED_TOKENS);
	m->ttft_ms = ttft;
	m->duration_ms = duration;
	if (ttft >= 0 && duration > ttft && completion >= 8 && r->weight == 1)
		m->tpot_ms = (duration - ttft) / (completion - 1);
	else if (ttft < 0 && duration > 0 && completion >= 8 && r->weight == 1)
		m->tpot_ms = duration / completion; /* both phases in one; all there is */
	m->status = status > 0 && status < 1000 ? (uint16_t)status : 0;
	if (record_has(r, F_PROMPT_HASH)) {
		uint64_t h = (uint64_t)record_int(r, F_PROMPT_HASH, 0);

		h ^= h >> 32;
		m->prompt_hash = (uint32_t)h ? (uint32_t)h : 1;
	}
	if (record_has(r, F_PROMPT_SIM)) {
		m->sim = (uint64_t)record_int(r, F_PROMPT_SIM, 0);
		m->flags |= MOMENT_SIM;
	}
	if (record_has(r, F_USER_AGENT))
		m->agent = hash32(r->text[F_USER_AGENT]);
	v = record_real(r, F_INJECTION_SCORE, -1);
	if (v >= 0 && v <= 1)
		m->injection = (uint8_t)(v * 200);
	v = record_real(r, F_PROMPT_ENTROPY, -1);
	if (v >= 0 && v <= 8)
		m->entropy = (uint8_t)(v * 31);
	if (record_yes(r, F_STREAM))
		m->flags |= MOMENT_STREAM;
	if (record_yes(r, F_LOGPROBS))
		m->flags |= MOMENT_LOGPROBS;
	if (record_yes(r, F_ABORTED))
		m->flags |= MOMENT_ABORTED;
	if (record_int(r, F_RETRY, 0) > 0)
		m->flags |= MOMENT_RETRY;
	if (span_eq(record_text(r, F_FINISH_REASON), SPAN("length")) || (max > 0 && completion >= (float)max))
		m->flags |= MOMENT_CAP;
	if (span_eq(record_text(r, F_FINISH_REASON), SPAN("error")))
		m->flags |= MOMENT_ERROR;
}

/* An entity seen for the first time; an address also has a network. */
static void meet_new(struct detect *d, uint32_t i, struct span name)
{
	struct entity *e = at(d, i);

	learn_new(d, e);
	e->born = d->tick + 1;
	if (e->kind == ENTITY_CLIENT_IP) {
		char buf[48];
		struct span net = entity_network_of(name, buf);
		uint32_t k;
		bool is_new;

		if (!net.n)
			return;
		e->refs++; /* room for the network must not be made here */
		k = entity_get(&d->entities, ENTITY_NETWORK, net, entity_hash(ENTITY_NETWORK, net), &is_new);
		e = at(d, i);
		e->refs--;
		if (k == NOBODY)
			return;
		if (is_new) {
			learn_new(d, at(d, k));
			at(d, k)->born = d->tick + 1;
		}
		e->net = k;
		at(d, k)->refs++;
	}
}

static void feed_init(struct detect *d, struct feed *f, const struct record *r)
{
	static const struct {
		enum record_field field;
		enum entity_kind kind;
	} of[FEED_ENTITIES] = {
		{ F_SERVER, ENTITY_SERVER }, { F_MODEL_NAME, ENTITY_MODEL }, { F_CLIENT_IP, ENTITY_CLIENT_IP }, { F_API_KEY, ENTITY_API_KEY }, { F_USER, ENTITY_USER },
	};

	struct span name[FEED_ENTITIES];
	uint64_t hash[FEED_ENTITIES];

	*f = (struct feed){ .weight = (float)MIN((double)r->weight, WEIGHT_SANE) };
	moment_of(&f->m, r);
	/* Three rounds, so that the waits for memory overlap: buckets, then entities, then the lookups themselves. */
	for (int k = 0; k < FEED_ENTITIES; k++) {
		if (!record_has(r, of[k].field))
			continue;
		name[k] = of[k].field == F_SERVER ? record_server_entity(r) : r->text[of[k].field];
		hash[k] = entity_hash(of[k].kind, name[k]);
		__builtin_prefetch(&d->entities.bucket[hash[k] % BUCKETS]);
	}
	for (int k = FEED_IP; k < FEED_ENTITIES; k++)
		if (record_has(r, of[k].field))
			entity_prefetch(&d->entities, d->entities.bucket[hash[k] % BUCKETS]);
	for (int k = 0; k < FEED_ENTITIES; k++) {
		bool is_new;

		f->entity[k] = NOBODY;
		if (!record_has(r, of[k].field))
			continue;
		f->entity[k] = entity_get(&d->entities, of[k].kind, name[k], hash[k], &is_new);
		if (is_new)
			meet_new(d, f->entity[k], name[k]);
		/* Looking up the next name may evict: hold on to this one. */
		if (f->entity[k] != NOBODY)
			at(d, f->entity[k])->refs++;
	}
	feed_refer(d, f, -1);
	f->m.who[WHO_IP] = f->entity[FEED_IP];
	f->m.who[WHO_KEY] = f->entity[FEED_KEY];
	f->m.who[WHO_USER] = f->entity[FEED_USER];
	f->m.who[WHO_MODEL] = f->entity[FEED_MODEL];
	f->m.weight = f->weight;
	if (has_rate(r))
		f->flags |= FEED_RATE;
}

static float sane_tokens(const struct record *r, double tokens)
{
	return (float)MIN(tokens, TOKENS_SANE * (double)r->weight);
}

static void set_outcome(struct feed *f, const struct record *r)
{
	int64_t status = record_int(r, F_STATUS, 0);

	if (!status && !record_has(r, F_FINISH_REASON))
		return;
	f->flags |= FEED_OUTCOME;
	if (status >= 500 || span_eq(record_text(r, F_FINISH_REASON), SPAN("error")))
		f->flags |= FEED_FAILED;
}

/*
 * What the engine computed for this answer, by its own report. The last token of an answer is never computed; what was estimated of one that
 * was broken off was reported to nobody.
 */
static double computed_for(const struct record *r, int64_t told)
{
	double prompt = (double)record_int(r, F_PROMPT_TOKENS, 0), cached = (double)record_int(r, F_CACHED_TOKENS, 0), completion = (double)record_int(r, F_COMPLETION_TOKENS, 0);

	if (record_yes(r, F_ABORTED) && record_yes(r, F_ESTIMATED))
		return -(double)told;
	return MAX(prompt - cached, 0.0) + MAX(completion - (double)r->weight, 0.0) - (double)told;
}

static void set_tokens(struct feed *f, const struct record *r, int64_t told)
{
	int64_t completion = record_int(r, F_COMPLETION_TOKENS, 0);

	f->tokens = sane_tokens(r, (double)record_int(r, F_PROMPT_TOKENS, 0) + (double)MAX(completion - told, (int64_t)0));
	if (f->tokens > 0)
		f->flags |= FEED_TOKENS;
}

static void count(struct detect *d, const struct record *r)
{
	d->stats.records++;
	d->stats.requests += (uint64_t)r->weight;
}

/* The second of two moments of a request is at its end. */
static void end_moment(struct moment *m, const struct record *r)
{
	double t = r->timestamp + record_real(r, F_DURATION_MS, 0) / 1000;

	m->ms = (uint16_t)MIN((t - floor(t)) * 1000, 999.0);
}

static double end_of(const struct record *r)
{
	return r->timestamp + MIN(record_real(r, F_DURATION_MS, 0) / 1000, DURATION_MAX_S);
}

int detect_record(struct detect *d, const struct record *r)
{
	struct feed f, done;
	int32_t arrival, end;
	bool rate;

	count(d, r);
	if (d->bins) {
		d->stats.first = d->stats.records > 1 ? MIN(d->stats.first, r->timestamp) : r->timestamp;
		d->stats.watermark = MAX(d->stats.watermark, r->timestamp);
		return static_record(d->bins, r);
	}
	rate = has_rate(r);
	arrival = clock_take(d, r->timestamp);
	feed_init(d, &f, r);
	done = f;
	done.m.what = MOMENT_DONE;
	set_outcome(&done, r);
	if (rate)
		set_tokens(&done, r, 0);
	end = clock_later(d, end_of(r));
	unbilled_see(d, r, f.entity[FEED_SERVER], end, computed_for(r, 0));
	if (end <= arrival) {
		end = arrival;
		if (rate) {
			done.flags |= FEED_ARRIVAL;
			done.m.what |= MOMENT_ARRIVAL;
		}
	} else if (rate) {
		f.flags |= FEED_ARRIVAL;
		f.m.what = MOMENT_ARRIVAL;
		f.tick = arrival;
		feed_put(d, &f);
		end_moment(&done.m, r);
	}
	done.tick = end;
	feed_put(d, &done);
	return d->error;
}

int detect_arrival(struct detect *d, const struct record *r)
{
	struct feed f;

	count(d, r);
	if (d->bins)
		return 0; /* the plain method waits for the completion */
	f.tick = clock_take(d, r->timestamp);
	if (!has_rate(r))
		return d->error;
	{
		int32_t tick = f.tick;

		feed_init(d, &f, r);
		f.tick = tick;
	}
	f.flags |= FEED_ARRIVAL;
	f.m.what = MOMENT_ARRIVAL;
	feed_put(d, &f);
	return d->error;
}

int detect_provisional(struct detect *d, const struct record *r, double now, int64_t completion_tokens)
{
	struct feed f;

	if (d->bins || !d->begun || completion_tokens <= 0 || !has_rate(r))
		return 0;
	feed_init(d, &f, r);
	f.tokens = sane_tokens(r, (double)completion_tokens);
	f.flags |= FEED_TOKENS;
	f.tick = clock_later(d, now);
	unbilled_see(d, r, f.entity[FEED_SERVER], f.tick, f.tokens);
	feed_put(d, &f);
	return d->error;
}

int detect_complete(struct detect *d, const struct record *r, int64_t already_told_tokens)
{
	struct feed f;

	if (d->bins)
		return static_record(d->bins, r);
	if (!d->begun)
		return detect_record(d, r); /* attached in the middle of it: the arrival was never told */
	feed_init(d, &f, r);
	set_outcome(&f, r);
	if (has_rate(r))
		set_tokens(&f, r, already_told_tokens);
	f.tick = clock_later(d, end_of(r));
	unbilled_see(d, r, f.entity[FEED_SERVER], f.tick, computed_for(r, already_told_tokens));
	f.m.what = MOMENT_DONE;
	end_moment(&f.m, r);
	feed_put(d, &f);
	return d->error;
}

int detect_advance(struct detect *d, double now)
{
	if (d->bins)
		return 0;
	if (!d->begun && d->kept)
		begin(d, now); /* what was open before a restart may end without another record */
	if (!d->begun)
		return 0;
	run_until(d, now);
	return d->error;
}

int detect_finish(struct detect *d)
{
	if (d->bins)
		return static_finish(d->bins, &d->opts, &d->stats);
	if (d->begun)
		run_until(d, d->newest);
	return d->error;
}

void detect_stats(const struct detect *d, struct detect_stats *ret)
{
	*ret = d->stats;
	ret->evicted = d->entities.evicted + d->entities.refused;
	for (int k = 0; k < ENTITY_KIND_COUNT; k++)
		ret->entities += k == ENTITY_GLOBAL || k == ENTITY_HOST || k == ENTITY_NETWORK ? 0 : d->entities.count[k];
}

double detect_sensitivity_for(const struct detect *d, double alarms_per_week)
{
	double bar = d->budget ? budget_bar_for(d->budget, alarms_per_week) : 0;

	return bar > 0 ? 1 / bar : 0;
}
