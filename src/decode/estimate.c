/* estimate.c - see the header. */
#include "decode/estimate.h"

#include <math.h>

enum ratio { PER_DELTA, PER_BYTE, PER_CHAR, RATIOS };

/* Where a ratio begins, its bounds, and how much of an answer there must be before it teaches anything. */
static const struct {
	double start, min, max;
	int64_t least;
} rules[RATIOS] = {
	/* an event less the partial UTF-8 held back, to speculative decoding and --stream-interval */
	[PER_DELTA] = { 1, 0.5, 8, 16 },
	/* 4 bytes a token is the usual rule of thumb for English; a byte or a long word at most */
	[PER_BYTE] = { 0.25, 0.05, 2, 64 },
	/* of the request's text, or of its whole body; images cost hundreds of tokens and no characters */
	[PER_CHAR] = { 0.25, 0.05, 2, 64 },
};

#define GAIN_LAST 0.1  /* weight of one ordinary answer at last */
#define STEP_FIRST 0.5 /* most that one may move the logarithm, with the second answer */
#define STEP_LAST 0.02 /* and at last: 35 answers from one ratio to half of it, however far they are off */
#define ERRORS_MAX 201 /* buckets of one percent; the last holds all above */

struct entry {
	uint64_t key; /* 0: free */
	uint64_t used;
	double log[RATIOS];
	uint32_t samples[RATIOS];
};

struct estimate {
	struct entry entries[ESTIMATE_ENTRIES];
	uint64_t clock, learnt;
	uint64_t errors[ERRORS_MAX], errors_sum;
};

struct estimate *estimate_new(void)
{
	return calloc(1, sizeof(struct estimate));
}

struct estimate *estimate_free(struct estimate *e)
{
	free(e);
	return NULL;
}

static uint64_t mix(uint64_t h, struct span s)
{
	for (size_t i = 0; i < s.n; i++)
		h = (h ^ (uint8_t)s.p[i]) * UINT64_C(0x100000001b3);
	return (h ^ 0xff) * UINT64_C(0x9e3779b97f4a7c15);
}

static uint64_t key_of(struct span server, struct span model)
{
	uint64_t h = mix(mix(UINT64_C(0xcbf29ce484222325), server), model);

	return (h ^ h >> 31) | 1;
}

/* The entry; where there is none, a new one if `make`, else NULL. 256 keys in a row: this is once per request. */
static struct entry *entry_of(struct estimate *e, uint64_t key, bool make)
{
	struct entry *oldest = &e->entries[0];

	for (size_t i = 0; i < ESTIMATE_ENTRIES; i++) {
		struct entry *it = &e->entries[i];

		if (it->key == key) {
			it->used = ++e->clock;
			return it;
		}
		if (it->used < oldest->used)
			oldest = it;
	}
	if (!make)
		return NULL;
	*oldest = (struct entry){ .key = key, .used = ++e->clock };
	return oldest;
}

static void move(struct entry *it, enum ratio r, int64_t units, int64_t tokens)
{
	double seen, step;

	if (units < rules[r].least || tokens <= 0)
		return;
	seen = log(MIN(MAX((double)tokens / (double)units, rules[r].min), rules[r].max));
	if (!it->samples[r]) {
		it->log[r] = seen;
	} else {
		step = MAX(STEP_FIRST / it->samples[r], STEP_LAST);
		it->log[r] += MIN(MAX((seen - it->log[r]) * MAX(1.0 / (it->samples[r] + 1.0), GAIN_LAST), -step), step);
	}
	if (it->samples[r] < UINT32_MAX)
		it->samples[r]++;
}

static double ratio_of(struct estimate *e, struct span server, struct span model, enum ratio r)
{
	const struct entry *own = e ? entry_of(e, key_of(server, model), false) : NULL, *all;

	if (own && own->samples[r] >= ESTIMATE_SAMPLES_MIN)
		return exp(own->log[r]);
	all = e ? entry_of(e, key_of(server, (struct span){ 0 }), false) : NULL;
	if (all && all->samples[r] >= ESTIMATE_SAMPLES_MIN)
		return exp(all->log[r]);
	return rules[r].start;
}

/* Rounded up: what is there at all is one token at least. */
static int64_t tokens_of(int64_t units, double ratio)
{
	double t = ceil((double)units * ratio - 1e-6);

	return t < 1 ? 1 : t > (double)INT32_MAX ? INT32_MAX : (int64_t)t;
}

struct estimate_tokens estimate_of(struct estimate *e, struct span server, struct span model, const struct estimate_seen *seen)
{
	struct estimate_tokens t = { -1, -1 };

	if (seen->deltas > 0)
		t.completion = tokens_of(seen->deltas, ratio_of(e, server, model, PER_DELTA));
	else if (seen->text_bytes > 0)
		t.completion = tokens_of(seen->text_bytes, ratio_of(e, server, model, PER_BYTE));
	if (seen->prompt_chars > 0)
		t.prompt = tokens_of(seen->prompt_chars, ratio_of(e, server, model, PER_CHAR));
	return t;
}

static void note_error(struct estimate *e, struct span server, struct span model, const struct estimate_seen *seen, int64_t completion)
{
	struct estimate_tokens would = estimate_of(e, server, model, seen);
	double pct;

	if (completion <= 0 || would.completion < 0)
		return;
	pct = 100 * fabs((double)would.completion - (double)completion) / (double)completion;
	e->errors[(size_t)MIN(ceil(pct), ERRORS_MAX - 1.0)]++;
	e->errors_sum++;
}

void estimate_learn(struct estimate *e, struct span server, struct span model, const struct estimate_seen *seen, int64_t prompt, int64_t completion)
{
	const uint64_t keys[] = { key_of(server, model), key_of(server, (struct span){ 0 }) };

	if (!e)
		return;
	note_error(e, server, model, seen, completion);
	e->learnt++;
	for (size_t i = 0; i < (model.n ? ARRAY_SIZE(keys) : 1); i++) {
		struct entry *it = entry_of(e, keys[i], true);

		move(it, PER_DELTA, seen->deltas, completion);
		if (seen->deltas <= 0)
			move(it, PER_BYTE, seen->text_bytes, completion);
		move(it, PER_CHAR, seen->prompt_chars, prompt);
	}
}

double estimate_error_pct(const struct estimate *e, double share)
{
	uint64_t below = 0;

	if (!e->errors_sum)
		return -1;
	for (size_t i = 0; i < ERRORS_MAX; i++) {
		below += e->errors[i];
		if ((double)below >= share * (double)e->errors_sum)
			return (double)i;
	}
	return ERRORS_MAX - 1;
}

uint64_t estimate_learnt(const struct estimate *e)
{
	return e->learnt;
}
