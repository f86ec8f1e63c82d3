/*
 * prompt_letters.h - code points as a reader sees them: what looks like a letter is that letter.
 */
#ifndef WEIR_DECODE_PROMPT_LETTERS_H
#define WEIR_DECODE_PROMPT_LETTERS_H

#include "base/util.h"

/* Next code point; an invalid byte is itself plus 0x110000, which is no letter. Length in *ret_n; n is at least 1. */
uint32_t letter_decode(const char *text, size_t n, size_t *ret_n);

bool letter_is_ideograph(uint32_t c); /* Chinese characters and Japanese syllables */
bool letter_is_hangul(uint32_t c);
bool letter_is_invisible(uint32_t c);
bool letter_is_bidi(uint32_t c); /* turns the direction of writing by force */

char letter_latin(uint32_t c);     /* small and without accents, of Latin-1 and Latin Extended-A; ' ': not a letter of these */
char letter_lookalike(uint32_t c); /* the Latin letter that a Cyrillic or Greek one looks like; 0: none */
char letter_fancy(uint32_t c);     /* that is only drawn differently: full width, mathematical, circled; 0: none of these */
uint32_t letter_lower(uint32_t c); /* Cyrillic and Greek */

#endif
