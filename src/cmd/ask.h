/* ask.h - one question to the running agent, over its unix socket. */
#ifndef WEIR_CMD_ASK_H
#define WEIR_CMD_ASK_H

#include <stdio.h>

#define ASK_PATIENCE_S 15 /* an agent that takes longer is not well */

/* The answer, to be read to its end and closed; NULL: it was said what is wrong. `question` ends in a line feed. */
FILE *agent_ask(const char *path, const char *question);
/* The same for who can do without: nothing is said. 0 or negative errno; -ENOENT, -ECONNREFUSED: no agent runs. */
int agent_try_ask(const char *path, const char *question, FILE **ret);

#endif
