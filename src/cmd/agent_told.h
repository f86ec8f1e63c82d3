/*
 * agent_told.h - how many arrivals the detector was told of whose end is still to come, per client.
 *
 * A flood overruns the ring: the beginning of a request comes up, its completion does not, and the
 * counters report the request as lost. It must then not count a second time.
 */
#ifndef WEIR_CMD_AGENT_TOLD_H
#define WEIR_CMD_AGENT_TOLD_H

#include "base/util.h"

#define TOLD_CLIENTS_MAX 65536 /* clients with requests under way; of those beyond it, lost requests may count twice */

struct told;

struct told *told_new(void); /* NULL: out of memory */
struct told *told_free(struct told *t);

/* An arrival of this client was told, or the end of one. `server` is the address alone: its label grows when its software becomes known. */
void told_add(struct told *t, struct span server, struct span client);
void told_remove(struct told *t, struct span server, struct span client);

/* Of `lost` requests of this client that has `open` under way: how many were told already. They are forgotten with this. */
uint64_t told_take(struct told *t, struct span server, struct span client, uint64_t lost, uint64_t open);

#endif
