/* check_unknown.h - weir check --unknown: calls that the running agent saw and no dialect knows. */
#ifndef WEIR_CMD_CHECK_UNKNOWN_H
#define WEIR_CMD_CHECK_UNKNOWN_H

#include <stdbool.h>

/* An exit status. */
int check_unknown(const char *socket, bool json);

#endif
