/*
 * pcap_file.h - packet capture files (pcap, pcapng), read and written through libpcap.
 *
 * libpcap is loaded with dlopen() when the first file is opened: who never reads a capture, as the agent, neither
 * needs it nor carries it in memory. No capability is needed. Not thread-safe.
 */
#ifndef WEIR_CAPTURE_PCAP_FILE_H
#define WEIR_CAPTURE_PCAP_FILE_H

#include "base/util.h"

#define PCAP_MAGIC_BYTES 4
#define PCAP_WHY_MAX 320 /* a message of libpcap's is at most 256 bytes */

struct pcap_file;

struct pcap_frame {
	const uint8_t *data; /* valid until the next frame is read */
	uint32_t have;       /* bytes captured */
	uint32_t len;        /* bytes on the wire, never less than have */
	uint64_t ts_ns;      /* since the epoch */
};

/* Whether a file that begins so is a capture. */
bool pcap_file_magic(const uint8_t magic[PCAP_MAGIC_BYTES]);

/* Takes ownership of f, also on failure. -ENOSYS: libpcap is not installed; -EBADMSG: not a capture; -ENOMEM. why: a sentence. */
int pcap_file_open(FILE *f, struct pcap_file **ret, char why[PCAP_WHY_MAX]);
struct pcap_file *pcap_file_close(struct pcap_file *p);
static inline void pcap_file_closep(struct pcap_file **p)
{
	pcap_file_close(*p);
}

int pcap_file_link(const struct pcap_file *p); /* DLT_* */
const char *pcap_file_link_name(const struct pcap_file *p);

/* 1: *ret is the next frame; 0: end; -EBADMSG: the rest cannot be read, and why. */
int pcap_file_next(struct pcap_file *p, struct pcap_frame *ret, char why[PCAP_WHY_MAX]);

/* ---- writing -------------------------------------------------------------------------------------- */
struct pcap_out;

/* A pcap file with nanoseconds, of the same link type as `like`. Takes ownership of f, also on failure. */
int pcap_out_open(FILE *f, const struct pcap_file *like, struct pcap_out **ret);
int pcap_out_frame(struct pcap_out *o, const struct pcap_frame *frame);
/* Writes what is buffered and frees, NULL too. 0 or what went wrong at any time. */
int pcap_out_close(struct pcap_out *o);

#endif
