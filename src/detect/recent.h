/*
 * recent.h - the last requests, as they came: what every feature of a suspicion is computed from.
 *
 * A ring of fixed size. Each request leaves an arrival and a completion in it (one entry where the record has no duration). The
 * entries of one address, key or user are chained, newest first, so that an entity's last minutes are read without a scan.
 * A sequence number stays valid until its place is taken; recent_at() says so. Nothing of a prompt is here but what the record has.
 */
#ifndef WEIR_DETECT_RECENT_H
#define WEIR_DETECT_RECENT_H

#include "base/util.h"

#define RECENT_MAX (1u << 16) /* 5 MiB; 13 min of both ends at 40 requests/s */

enum { MOMENT_ARRIVAL = 1, MOMENT_DONE = 2 };
enum { MOMENT_STREAM = 1, MOMENT_LOGPROBS = 2, MOMENT_CAP = 4, MOMENT_ABORTED = 8, MOMENT_ERROR = 16, MOMENT_SIM = 32, MOMENT_RETRY = 64, MOMENT_FRESH = 128 };
enum { WHO_IP, WHO_KEY, WHO_USER, WHO_CHAINED, WHO_MODEL = WHO_CHAINED, WHO_COUNT };

#define ABSENT8 255

struct moment {
	uint64_t sim;
	int32_t tick;
	uint16_t ms;
	uint8_t what, flags;
	uint32_t who[WHO_COUNT]; /* entities; NOBODY where the record says nothing */
	uint32_t prev[WHO_CHAINED];
	uint32_t prompt_hash, agent; /* 0: absent */
	float weight, prompt, completion, cached, ttft_ms, tpot_ms, duration_ms; /* < 0: absent */
	uint16_t status;
	uint8_t injection, entropy; /* score * 200; bits * 31; ABSENT8 */
};

struct recent {
	struct moment *ring;
	uint32_t next; /* sequence of the next one; starts at 1 so that 0 is none */
};

int recent_init(struct recent *r);
void recent_done(struct recent *r);

static inline const struct moment *recent_at(const struct recent *r, uint32_t seq)
{
	return seq && r->next - seq <= RECENT_MAX && seq != r->next ? &r->ring[seq % RECENT_MAX] : NULL;
}
/* Its place, to be filled in; *ret_seq is how to find it. */
static inline struct moment *recent_put(struct recent *r, uint32_t *ret_seq)
{
	if (!r->next)
		r->next = 1;
	*ret_seq = r->next;
	return &r->ring[r->next++ % RECENT_MAX];
}
static inline uint32_t recent_newest(const struct recent *r)
{
	return r->next - 1;
}

#endif
