/*
 * state_copy.h - a thread that copies the store's log back into its file, so that no fsync() holds up the loop that drains the
 * ring. It begins with the first wish: after an agent has dropped its privileges, which are each thread's own.
 */
#ifndef WEIR_CMD_STATE_COPY_H
#define WEIR_CMD_STATE_COPY_H

#include "base/util.h"

struct store;
struct state_copy;

/* The store outlives it. NULL: no memory, the others do nothing then. */
struct state_copy *state_copy_new(struct store *st);
void state_copy_wish(struct state_copy *c);
/* Waits for the copy under way. */
struct state_copy *state_copy_free(struct state_copy *c);

#endif
