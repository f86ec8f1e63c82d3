/*
 * automaton.h - the keyword automaton that the kernel and user space walk over heads and bodies.
 *
 * automaton_build() compiles the one table of patterns in patterns.h into the DFA of abi.h. It is a
 * pure function of that table: no input, same result every time, a few milliseconds.
 * Field meanings and the echo problem (what a client can make a server repeat) are explained in the table.
 */
#ifndef WEIR_DECODE_AUTOMATON_H
#define WEIR_DECODE_AUTOMATON_H

#include "base/util.h"
#include "weir/abi.h"

/* One row of the table, for tests and documentation. */
struct automaton_pattern {
	enum weir_root root;
	const char *text;
	enum weir_action action;
	uint8_t arg;
};

/* Fills *ret wholly. -ENOMEM; -E2BIG: the table needs more than WEIR_STATES; -EINVAL: two patterns want the same byte for
 * different actions (the table is wrong; the unit test says which). */
int automaton_build(struct weir_automaton *ret);

/* A key beside those of the table: of a count (WEIR_ACT_TOKENS, slot) or of generated text (WEIR_ACT_CONTENT). */
struct automaton_key {
	const char *name; /* no quote, backslash or percent sign in it */
	enum weir_action action;
	uint8_t slot;
};

#define AUTOMATON_KEYS_MAX 16 /* room in WEIR_STATES is for about four words of ten letters; fewer where they are longer */

/* The same with a user's own keys; what the table has already is no error. -EINVAL: a name means something else in the table. */
int automaton_build_with(const struct automaton_key *keys, size_t n, struct weir_automaton *ret);

/* The table itself. */
const struct automaton_pattern *automaton_patterns(size_t *ret_n);

/* The set of bytes that a %-class stands for, as 256 flags; false where `c` names none. *ret_star: any number of them. */
bool automaton_class(char c, bool ret_set[256], bool *ret_star);

#endif
