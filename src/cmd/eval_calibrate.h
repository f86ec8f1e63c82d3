/* eval_calibrate.h - weir eval --calibrate: what to expect of weir on the user's own traffic, before it may wake anybody. */
#ifndef WEIR_CMD_EVAL_CALIBRATE_H
#define WEIR_CMD_EVAL_CALIBRATE_H

#include <stdbool.h>

/* An exit status; it was said what went wrong. */
int eval_calibrate(const char *path, double false_per_week, bool json);

#endif
