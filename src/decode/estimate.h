/*
 * estimate.h - tokens where the server told none, learnt per server and model from answers that did tell.
 *
 * Three ratios are kept: tokens per delta event of a stream (speculative decoding and stream intervals put several in one,
 * parsers swallow some), tokens per byte of generated text in one piece, and prompt tokens per character of a request. Each moves
 * toward what was seen by a bounded step in the logarithm, so that it settles near the median and one odd answer moves it
 * little; each is clamped. Reported counts come in here and are never changed.
 *
 * The table has a ceiling: the entry that was used longest ago makes room. What a model has not taught yet its server's
 * other models have, else the rule of thumb holds. No allocation after the first, no logging, no errors.
 */
#ifndef WEIR_DECODE_ESTIMATE_H
#define WEIR_DECODE_ESTIMATE_H

#include "base/util.h"

#define ESTIMATE_ENTRIES 256   /* (server, model) pairs, and one entry per server; a host serves a handful */
#define ESTIMATE_SAMPLES_MIN 3 /* answers before a ratio is believed */

/* What is known of one answer; -1: not known. */
struct estimate_seen {
	int64_t deltas;       /* events with generated text, of a stream */
	int64_t text_bytes;   /* generated text of an answer in one piece */
	int64_t prompt_chars;
};

struct estimate_tokens {
	int64_t prompt, completion; /* -1: nothing to go by */
};

struct estimate;

struct estimate *estimate_new(void); /* NULL: no memory */
struct estimate *estimate_free(struct estimate *e);

/* An answer that was whole, and what the server reported of it; -1: not that one. */
void estimate_learn(struct estimate *e, struct span server, struct span model, const struct estimate_seen *seen, int64_t prompt, int64_t completion);

/* Of an answer without counts. `e` may be NULL: then the rule of thumb holds. */
struct estimate_tokens estimate_of(struct estimate *e, struct span server, struct span model, const struct estimate_seen *seen);

/*
 * How well it would have done: of every answer learnt from, the error of the completion tokens that it would have estimated just
 * before, in percent of the truth. Shares of them, 0.5 the median; -1: none seen.
 */
double estimate_error_pct(const struct estimate *e, double share);
uint64_t estimate_learnt(const struct estimate *e);

#endif
