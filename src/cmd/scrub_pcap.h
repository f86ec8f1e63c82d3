/*
 * scrub_pcap.h - a packet capture without what people said in it: the same packets, times and lengths, other bytes (decode/scrub.h).
 *
 * Frames leave in their order, each once all its bytes are decided; at most SCRUB_QUEUE_MAX bytes wait, then the oldest leave as they
 * are: filler.
 */
#ifndef WEIR_CMD_SCRUB_PCAP_H
#define WEIR_CMD_SCRUB_PCAP_H

#include "base/util.h"

#define SCRUB_QUEUE_MAX (64u << 20)
#define SCRUB_ADDRESSES_MAX 65536u /* addresses that get one of their own; the others share one */

struct scrub_pcap_stats {
	uint64_t frames, payload_bytes, kept_bytes;
	uint64_t not_tcp;  /* frames of which only the first headers are kept */
	uint64_t tls;      /* connections */
	uint64_t hurried;  /* frames that left before all was decided */
	uint64_t addresses_shared;
};

/* Takes ownership of both files, also on failure. 0, or negative errno with a sentence in why (-EBADMSG: IN is no capture). */
int scrub_pcap(FILE *in, FILE *out, bool addresses, struct scrub_pcap_stats *ret, char why[512]);

#endif
