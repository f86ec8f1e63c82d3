/*
 * workloads.h - the stable names of servers, by where they listen: told by who can see processes, shown in records' labels.
 *
 * A name ("unit=vllm.service", "container=llm", "pod=prod/llm/server") stays valid as long as the table does, whatever is set
 * later: a request keeps the one it arrived with.
 */
#ifndef WEIR_DECODE_WORKLOADS_H
#define WEIR_DECODE_WORKLOADS_H

#include "base/util.h"

#define WORKLOADS_MAX 1024   /* listening ports with a name, and different names ever told */
#define WORKLOAD_NAME_MAX 96 /* longer ones are cut */

struct workloads;

struct workloads *workloads_new(void); /* NULL: no memory */
struct workloads *workloads_free(struct workloads *w);

/* What listens on this port of this namespace; an empty name: nothing is known of it. Beyond the ceiling nothing happens. */
void workloads_set(struct workloads *w, uint32_t netns, uint16_t port, struct span name);
/* NULL: no name. */
const char *workloads_of(const struct workloads *w, uint32_t netns, uint16_t port);

#endif
