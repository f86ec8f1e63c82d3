/* How each part of an entity lies in a blob: one function writes and reads it, so that the two cannot differ. */
#include "detect/state_layout.h"

#define MAGIC 0x5377u /* "wS" */
#define VERSION 5u
#define VERSION_OLDEST 2u /* 2: no climbs of drop_state; 3: no size of requests, no moves of growth, no minutes of refusals; 4: no seasons */

int32_t layout_head(struct blob *b, enum what what, int32_t tick)
{
	uint16_t magic = MAGIC, version = b->write && b->version ? b->version : VERSION;
	uint8_t kind = (uint8_t)what;

	blob_u16(b, &magic);
	blob_u16(b, &version);
	blob_u8(b, &kind);
	blob_i32(b, &tick);
	b->version = version;
	b->bad |= magic != MAGIC || version < VERSION_OLDEST || version > VERSION || kind != what || tick < NEVER || tick > TICK_MAX;
	return b->bad ? 0 : tick;
}

void layout_moment(struct blob *b, int32_t *t, int32_t now)
{
	int32_t v = *t;

	blob_i32(b, &v);
	if (!b->write && (v < NEVER || v > now + AHEAD_S))
		b->bad = true;
	if (!b->bad)
		*t = v;
}

void layout_baseline(struct blob *b, struct baseline *v)
{
	float *const f[] = { &v->fast, &v->slow, &v->disp10, &v->disp60, &v->cur10, &v->cur60, &v->cur300, &v->old10, &v->old60, &v->old300 };

	for (size_t i = 0; i < ARRAY_SIZE(f); i++) {
		blob_f32(b, f[i]);
		b->bad |= *f[i] < 0;
	}
}

void layout_habit(struct blob *b, struct habit *h)
{
	for (int k = 0; k < TRAIT_COUNT; k++) {
		blob_u16(b, &h->n[k]);
		if (!h->n[k])
			continue;
		blob_f32(b, &h->mean[k]);
		blob_f32(b, &h->var[k]);
		b->bad |= h->var[k] < 0;
	}
}

static void errors(struct blob *b, struct errors *e, int32_t now)
{
	blob_f32s(b, e->done, ARRAY_SIZE(e->done));
	blob_f32s(b, e->failed, ARRAY_SIZE(e->failed));
	blob_f64(b, &e->share);
	blob_f64(b, &e->weight);
	blob_u8(b, &e->hist);
	blob_f32(b, &e->run);
	blob_f32(b, &e->habit);
	blob_f32(b, &e->run_done);
	blob_f32(b, &e->run_failed);
	blob_f32(b, &e->seen_done);
	blob_f32(b, &e->seen_failed);
	blob_f32(b, &e->late_done);
	blob_f32(b, &e->late_failed);
	layout_moment(b, &e->run_since, now);
	layout_moment(b, &e->seen_step, now);
	layout_moment(b, &e->late, now);
	blob_bool(b, &e->told);
	b->bad |= e->share < 0 || e->share > 1 || e->weight < 0;
}

static void access_kept(struct blob *b, struct access_state *a, int32_t now)
{
	uint32_t n = blob_below(b, b->write ? a->used : 0, KNOWN_NETS_MAX + 1);

	if (!b->write) {
		access_done(a);
		access_init(a);
	}
	for (uint32_t i = 0, k = 0; k < n && !b->bad; i++) {
		struct known_net net = { 0 };

		if (b->write) {
			if (i == a->cap)
				break;
			if (!a->known[i].net)
				continue;
			net = a->known[i];
		}
		blob_u32(b, &net.net);
		layout_moment(b, &net.first, now);
		layout_moment(b, &net.last, now);
		if (!b->write)
			access_put(a, &net, now);
		k++;
	}
	layout_moment(b, &a->begun, now);
	blob_f32(b, &a->novelty);
	blob_f32(b, &a->peak);
}

static void ring(struct blob *b, struct growth_ring *q, struct growth_block *block, int32_t size, int32_t block_s, int32_t now)
{
	uint32_t n = 0, at;

	blob_f64(b, &q->sum);
	blob_f32(b, &q->n);
	blob_i32(b, &q->index);
	blob_i32(b, &q->first);
	blob_f32(b, &q->jitter);
	blob_f32(b, &q->pairs);
	b->bad |= q->index < NEVER || q->index > now / block_s || q->first < NEVER || (q->index >= 0 && (q->first > q->index || q->index - q->first > size));
	for (int32_t i = 0; i < size && b->write; i++)
		n += block[i].n > 0;
	n = blob_below(b, n, (unsigned int)size + 1);
	for (uint32_t i = 0, k = 0; k < n && !b->bad; i++) {
		if (b->write && block[i].n <= 0)
			continue;
		at = blob_below(b, i, (unsigned int)size);
		blob_f32(b, &block[at].x);
		blob_f32(b, &block[at].n);
		k++;
	}
}

static void growth(struct blob *b, struct growth_state *g, int32_t now)
{
	ring(b, &g->ring[0], g->shorts, GROWTH_SHORT, GROWTH_BLOCK_S, now);
	ring(b, &g->ring[1], g->longs, GROWTH_LONG, GROWTH_HOUR_S, now);
	blob_f64(b, &g->ref);
	blob_f32(b, &g->var);
	blob_f32(b, &g->n);
	blob_f32(b, &g->habit);
	blob_f32(b, &g->drift);
	blob_f32(b, &g->now);
	if (b->version >= 4) {
		blob_f32(b, &g->moved);
		blob_f32(b, &g->moves);
		b->bad |= g->moves < 0;
	}
	layout_moment(b, &g->born, now);
	layout_moment(b, &g->since, now);
	blob_bool(b, &g->told);
}

static void size(struct blob *b, struct size_state *s, int32_t now)
{
	bool windows = false;

	for (int i = 0; i < LONG_STEPS; i++)
		windows |= b->write && s->n[i] > 0;
	blob_bool(b, &windows);
	if (windows) {
		blob_f32s(b, s->sum, LONG_STEPS);
		blob_f32s(b, s->n, LONG_STEPS);
	}
	blob_f32(b, &s->mean);
	blob_f32(b, &s->wander);
	blob_f32(b, &s->cur);
	blob_f32(b, &s->old);
	layout_moment(b, &s->tick, now);
	layout_moment(b, &s->block, now);
	blob_u32(b, &s->blocks);
	b->bad |= s->wander < 0 || s->tick < 0;
}

void layout_season(struct blob *b, struct season *s)
{
	blob_f32s(b, s->day, SEASON_DAY);
	blob_f32s(b, s->week, SEASON_WEEK);
	for (int i = 0; i < SEASON_DAY; i++)
		blob_u8(b, &s->day_n[i]);
	for (int i = 0; i < SEASON_WEEK; i++)
		blob_u8(b, &s->week_n[i]);
	blob_f32s(b, s->error, SEASON_KINDS);
	blob_f32s(b, s->plain, SEASON_KINDS);
	blob_f32s(b, s->tried, SEASON_KINDS);
	blob_f32s(b, s->last, SEASON_AHEAD);
	blob_f32(b, &s->sum);
	blob_f32(b, &s->blocks);
	blob_i64(b, &s->at);
	for (int k = 0; k < SEASON_KINDS; k++)
		b->bad |= s->error[k] < 0 || s->plain[k] < 0 || s->tried[k] < 0;
	for (int i = 0; i < SEASON_WEEK; i++)
		b->bad |= s->week[i] < 0 || s->day[i % SEASON_DAY] < 0;
}

static void drop(struct blob *b, struct drop_state *s, int32_t now)
{
	bool has_season;

	blob_f32s(b, s->minute, DROP_MINUTES);
	blob_f32s(b, s->sd, DROP_WINDOWS);
	blob_f32s(b, s->peak, DROP_WINDOWS);
	blob_f32s(b, s->dip, DROP_WINDOWS);
	if (b->version >= 3)
		blob_f32s(b, s->climb, DROP_WINDOWS);
	blob_f32(b, &s->quiet);
	blob_f32(b, &s->silence);
	blob_bool(b, &s->told);
	layout_moment(b, &s->silent_since, now);
	blob_f32(b, &s->held);
	blob_f32(b, &s->now);
	blob_f32(b, &s->level);
	layout_moment(b, &s->last, now);
	blob_u32(b, &s->n);
	if (b->version < 5)
		return;
	has_season = s->season;
	blob_bool(b, &has_season);
	if (!has_season || b->bad)
		return;
	if (!s->season)
		s->season = malloc(sizeof(*s->season));
	if (!s->season) {
		b->bad = true;
		return;
	}
	if (!b->write)
		season_init(s->season);
	layout_season(b, s->season);
}

static void full(struct blob *b, struct full *f, bool has_drop, int32_t now)
{
	layout_habit(b, &f->habit);
	layout_moment(b, &f->looked, now);
	blob_f32(b, &f->since_look);
	blob_u32(b, &f->looks);
	layout_moment(b, &f->odd, now);
	access_kept(b, &f->access, now);
	growth(b, &f->growth, now);
	if (b->version >= 4)
		size(b, &f->size, now);
	blob_bool(b, &has_drop);
	if (has_drop)
		drop(b, &f->drop, now);
}

static bool windows_used(const struct entity *e)
{
	double sum = 0;

	for (int i = 0; i < LONG_STEPS; i++)
		sum += (double)(e->s10[i] + e->t10[i]);
	return sum > 0;
}

void layout_entity(struct blob *b, struct entity *e, int32_t now)
{
	bool is_active = e->active, windows = b->write && windows_used(e), has_full = e->full, has_errors = e->errors;
	int32_t step = b->write && e->active ? (now + 1) / STEP_S : e->step;

	layout_baseline(b, &e->req);
	layout_baseline(b, &e->tok);
	blob_u64(b, &e->keys);
	blob_u64(b, &e->agents);
	blob_u8(b, &e->hist_cost);
	blob_i8(b, &e->run_req);
	blob_i8(b, &e->run_tok);
	blob_u32(b, &e->n);
	blob_u32(b, &e->prior);
	layout_moment(b, &e->tick, now);
	layout_moment(b, &step, now);
	layout_moment(b, &e->last, now);
	layout_moment(b, &e->born, now);
	layout_moment(b, &e->cool, now);
	blob_f32(b, &e->gap);
	blob_f32(b, &e->requests);
	blob_u16(b, &e->generation);
	blob_u32(b, &e->worked);
	for (int k = 0; k < IDENTITY_KINDS; k++) {
		blob_u32(b, &e->mate[k]);
		blob_u8(b, &e->votes[k]);
	}
	b->bad |= e->prior > e->n || e->run_req < -CLAMP_RUN || e->run_req > CLAMP_RUN || e->run_tok < -CLAMP_RUN || e->run_tok > CLAMP_RUN;
	blob_bool(b, &is_active);
	blob_bool(b, &windows);
	if (windows) {
		blob_f32s(b, e->s1, STEP_S);
		blob_f32s(b, e->s10, LONG_STEPS);
		blob_f32s(b, e->t10, LONG_STEPS);
	}
	blob_bool(b, &has_errors);
	b->bad |= has_errors != !!e->errors;
	if (has_errors && !b->bad)
		errors(b, e->errors, now);
	if (!b->write) {
		e->step = step;
		/* Said in `changed` until the clock begins; false: it sleeps. */
		e->changed = is_active;
	}
	blob_bool(b, &has_full);
	if (!has_full || b->bad)
		return;
	if (!e->full)
		e->full = calloc(1, sizeof(*e->full));
	if (e->full) {
		bool dropped = b->write && e->full->drop.n;

		full(b, e->full, dropped, now);
	}
}
