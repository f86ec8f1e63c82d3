/*
 * prompt_score.h - how much a text looks like an attempt to talk a model out of its rules: 0 (not at all) .. 1.
 *
 * Words and phrases of ten languages belong to classes (prompt_table.h); rules say which classes within a few words of each other are
 * worth what. Words are read as a person reads them: accents, letters of other alphabets that look the same, invisible characters, digits for
 * letters and letters parted by blanks do not hide them; base64, hexadecimal, rot13 and tag characters are read as what they hide. Beside the
 * words count chat-template tokens and made-up turns, invisible and mixed writing, many made-up turns, and endings of machine-made
 * gibberish. What a text that speaks about attacks only quotes weighs less.
 *
 * One pass, and one more over what was encoded; work and memory are bounded by the text's length, which the caller bounds. It is a
 * pattern matcher and no judge: docs/prompt-features.md has what it finds and what it takes for an attack by mistake.
 */
#ifndef WEIR_DECODE_PROMPT_SCORE_H
#define WEIR_DECODE_PROMPT_SCORE_H

#include "base/str.h"
#include "base/util.h"

struct prompt_scorer;

struct prompt_scorer *prompt_scorer_new(void); /* NULL: out of memory */
struct prompt_scorer *prompt_scorer_free(struct prompt_scorer *s);

/* ret_rules, may be NULL: one bit for each rule that holds, see prompt_rule_name(). */
double prompt_score(const struct prompt_scorer *s, struct span text, uint64_t *ret_rules);

/* NULL: there is no such rule. */
const char *prompt_rule_name(unsigned rule);

/* The tables, as Markdown, for docs/prompt-features.md. */
void prompt_score_write_docs(struct str *out);

#endif
