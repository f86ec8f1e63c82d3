/*
 * latency.h - the time of answers of each model, at its load.
 *
 * log TTFT (and log time per token) = a + b log(1 + uncached prompt tokens) + c log(1 + requests in flight), fitted by recursive
 * least squares with forgetting; what is judged is the mean residual of the last minute against what such minutes' means were.
 */
#ifndef WEIR_DETECT_LATENCY_H
#define WEIR_DETECT_LATENCY_H

#include "base/util.h"

struct detect;
struct latency_models;
int latency_open(struct latency_models **ret);
struct latency_models *latency_free(struct latency_models *l);

#endif
