/*
 * latency.h - the time of answers of each model, at its load.
 *
 * log TTFT (log time per token; log duration where a record has neither) is explained by the length of prompt and answer, by the requests
 * in flight at this model and at all when the request arrived, and by the prompt tokens that had arrived just before it: recursive least squares with
 * forgetting. What is judged is the mean residual of the last one and five minutes against what such means were.
 */
#ifndef WEIR_DETECT_LATENCY_H
#define WEIR_DETECT_LATENCY_H

#include "base/util.h"

struct detect;
struct latency_models;
int latency_open(struct latency_models **ret);
struct latency_models *latency_free(struct latency_models *l);

/* What is known of the n-th model; as blob, both ways. The load of the moment is not in it. */
struct blob;
unsigned int latency_count(const struct latency_models *l);
uint32_t latency_model(const struct latency_models *l, unsigned int n);
void latency_keep(struct latency_models *l, uint32_t entity, struct blob *b);
void latency_keep_band(struct latency_models *l, uint32_t entity, struct blob *b);
void latency_forget(struct latency_models *l, uint32_t entity);

#endif
