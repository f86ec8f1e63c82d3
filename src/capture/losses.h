/*
 * losses.h - what the counters saw beyond the records, per client, since the last time it was asked.
 */
#ifndef WEIR_CAPTURE_LOSSES_H
#define WEIR_CAPTURE_LOSSES_H

#include "capture/capture.h"

struct loss {
	struct weir_client_key key;
	uint64_t requests, prompt_tokens, completion_tokens, status_4xx, status_5xx, stream_errors;
	uint64_t open; /* of this client, now */
};

/*
 * Calls fn for each client with new losses. Reads the whole client table, so ask only where the sums
 * in capture_stats() say that something was lost. A client met for the first time when no more can be
 * remembered (1,048,576) is not reported. 0 or negative errno.
 */
int capture_losses(struct capture *c, void (*fn)(void *ctx, const struct loss *l), void *ctx);

#endif
