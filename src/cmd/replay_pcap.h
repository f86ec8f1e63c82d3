/*
 * replay_pcap.h - request records out of a packet capture: the way of the live agent, without a kernel.
 *
 * Frames -> segments in order (capture/pcap_flow.h) -> the meter in user space -> ring events -> records. The capture's times are the
 * clock: the same file gives the same records.
 */
#ifndef WEIR_CMD_REPLAY_PCAP_H
#define WEIR_CMD_REPLAY_PCAP_H

#include "capture/pcap_flow.h"
#include "decode/identity.h"
#include "decode/record.h"
#include "decode/siphash.h"

struct replay_pcap_opts {
	const char *name;         /* in messages */
	const uint8_t *ports;     /* bitmap; NULL: guess */
	const uint8_t *key;       /* SIPHASH_KEY_BYTES, for hashes of API keys; NULL: one made of the capture's first frame */
	const struct identity_rules *identity; /* NULL: nobody is trusted */
	const struct weir_automaton *automaton; /* NULL: made for this call */
	int (*record)(void *ctx, const struct record *r); /* negative: stop, and answer so */
	void *ctx;
};

/*
 * Takes ownership of f. Says on stderr what the servers were taken to be and what could not be read. 0; 1: the file cannot be read at all
 * (said); or what record() answered.
 */
int replay_pcap(FILE *f, const struct replay_pcap_opts *o);

#endif
