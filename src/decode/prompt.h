/*
 * prompt.h - a few numbers out of a prompt, computed while its bytes are there and then forgotten.
 *
 * From the slices of a request's body (its first 4 KiB and, where it is longer, its last 1 KiB) the text that the model is given is
 * put together, JSON escapes undone, runs of blanks made one. Of it:
 *
 *   hash       of all of it, keyed: equal for equal prompts, and for nothing else. Where the middle of a long body is not there, of both
 *              ends and the body's length.
 *   sim        a simhash of the words of the turn: few bits differ between texts that differ in a few words. Keyed, too.
 *   entropy    of the bytes of the turn, in bits per byte.
 *   injection  how much the turn looks like an attempt to talk the model out of its rules, 0..1 (prompt_score.h).
 *
 * The turn is what is new: what follows the model's last words, without the system's; of a raw prompt in a chat template, its last
 * user's part. So neither a system prompt nor a long history hides what is asked.
 *
 * All work is bounded by the slices, one pass each; the workspace is wiped before the call returns.
 */
#ifndef WEIR_DECODE_PROMPT_H
#define WEIR_DECODE_PROMPT_H

#include "base/util.h"
#include "decode/siphash.h"

struct dialect_shape;

#define PROMPT_TEXT_MAX 8192 /* bytes of text looked at; the slices seldom hold more than 5 KiB */

struct prompt_features {
	uint64_t hash, sim;
	float entropy, injection; /* bits per byte; 0..1 */
	bool found;               /* false: no text was found, nothing else is set */
};

struct prompt;

int prompt_new(const uint8_t key[SIPHASH_KEY_BYTES], struct prompt **ret); /* -ENOMEM */
struct prompt *prompt_free(struct prompt *p);

/*
 * `head`: the body from its beginning, as far as it is there; `tail`: its end, where there is a gap between the two, else empty.
 * `body_bytes`: of the whole body.
 */
void prompt_read(struct prompt *p, const struct dialect_shape *shape, struct span head, struct span tail, uint64_t body_bytes, struct prompt_features *ret);

/* The same of one text that is the whole prompt. */
void prompt_read_text(struct prompt *p, struct span text, struct prompt_features *ret);

/* A simhash of the words of a text; `seed` makes it nobody else's. 0: it has none. */
uint64_t prompt_sim(uint64_t seed, struct span text);

#endif
