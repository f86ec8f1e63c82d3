/*
 * log.h - messages to stderr, one line each, "weir: " in front.
 *
 * Library modules log at debug level only; the caller that decides logs once. A line never holds
 * payload, a key or a prompt. Lines are written with one write(2), so that they do not interleave.
 */
#ifndef WEIR_BASE_LOG_H
#define WEIR_BASE_LOG_H

#include "base/util.h"

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG };

/* Messages above this level are not written. Starts at LOG_INFO. */
void log_set_level(enum log_level level);
enum log_level log_level(void);

void log_line(enum log_level level, const char *fmt, ...) PRINTF_LIKE(2, 3);

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_WARNING, __VA_ARGS__)
#define log_info(...) log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)

#endif
