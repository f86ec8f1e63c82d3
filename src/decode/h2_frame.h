/*
 * h2_frame.h - one direction of HTTP/2 taken apart into frames, from bytes in any split.
 *
 * Out of step - after a gap, or a frame that no peer would send - it looks for a place where frames follow one another, and
 * goes on there. Padding and priorities are taken off. No allocation; nothing is kept but the frame's head.
 */
#ifndef WEIR_DECODE_H2_FRAME_H
#define WEIR_DECODE_H2_FRAME_H

#include "base/util.h"

enum h2_type { H2_DATA, H2_HEADERS, H2_PRIORITY, H2_RST_STREAM, H2_SETTINGS, H2_PUSH_PROMISE, H2_PING, H2_GOAWAY, H2_WINDOW_UPDATE, H2_CONTINUATION };

#define H2_END_STREAM 0x1 /* flags */
#define H2_END_HEADERS 0x4
#define H2_PADDED 0x8
#define H2_WITH_PRIORITY 0x20

#define H2_FRAME_HEAD 9

struct h2_frame {
	uint32_t len;    /* of its payload, padding included */
	uint32_t stream;
	uint8_t type, flags;
};

struct h2_frames {
	struct h2_frame at;   /* the frame being read */
	uint32_t prefix, body, padding; /* bytes of it still to come */
	uint8_t head[H2_FRAME_HEAD];
	uint8_t have;         /* bytes of the head */
	bool inside;          /* of a frame: its head is complete */
	bool pad_known;
	bool lost;            /* out of step */
	bool sure;            /* at least one frame was read in step */
};

struct h2_frames_fns {
	void (*begin)(void *ctx, const struct h2_frame *f);
	void (*body)(void *ctx, const struct h2_frame *f, const uint8_t *p, size_t n); /* without padding and the like */
	void (*end)(void *ctx, const struct h2_frame *f);
	void (*out_of_step)(void *ctx); /* what was being read is not complete */
	void (*in_step)(void *ctx);     /* ... and it was found again */
	void (*unframed)(void *ctx, size_t n);
};

void h2_frames_feed(struct h2_frames *s, const uint8_t *p, size_t n, const struct h2_frames_fns *fns, void *ctx);

/* n bytes were not seen. True: they all lay inside the payload of a frame that holds no headers, and nothing else is lost. */
bool h2_frames_gap(struct h2_frames *s, uint64_t n, const struct h2_frames_fns *fns, void *ctx);

#endif
