/*
 * parse.h - what is known of one direction of a connection between two steps of meter.h: where the framing is, and what a response has
 * told so far. It lies in a map between two segments, so its layout is the same in the kernel and in user space.
 */
#ifndef WEIR_PARSE_H
#define WEIR_PARSE_H

#include "weir/abi.h"

enum weir_mode {
	WEIR_START,      /* before the first byte of a message */
	WEIR_HEAD,
	WEIR_PROXY,      /* rest of a prefix of the PROXY protocol; with WEIR_EV_DONE: it is over, no message but what stands before the first */
	WEIR_LENGTH,     /* body of known length */
	WEIR_CHUNK_SIZE,
	WEIR_CHUNK_EXT,  /* rest of the chunk-size line */
	WEIR_CHUNK_DATA,
	WEIR_CHUNK_END,  /* line end after the data */
	WEIR_TRAILER,
	WEIR_CLOSE,      /* body that lasts as long as the connection */
	WEIR_RAW,        /* inside a response whose framing was lost: scanned, not framed */
	WEIR_LOST,       /* not HTTP/1, or out of step: waits for a message to begin with a segment */
	WEIR_TUNNEL,     /* left HTTP/1 for good */
	WEIR_H2,         /* left it for HTTP/2 */
};

/* what one step noticed */
#define WEIR_EV_HEAD 1       /* head complete (a final one, for responses) */
#define WEIR_EV_DONE 2       /* message complete */
#define WEIR_EV_BAD 4        /* not HTTP/1: mode is WEIR_LOST now */
#define WEIR_EV_CONTENT 8    /* first generated content */
#define WEIR_EV_HOT 16       /* a finish reason or an error: user space wants to see it */
#define WEIR_EV_BAD_NUMBER 32
#define WEIR_EV_BAD_FRAMING 64
#define WEIR_EV_TOO_LONG 128 /* head longer than WEIR_HEAD_MAX */
#define WEIR_EV_TUNNEL 256
#define WEIR_EV_INTERIM 512  /* a 1xx head is over; the final response follows */

/* weir_parse.flags, of the current message */
#define WEIR_P_LENGTH 1
#define WEIR_P_CHUNKED 2
#define WEIR_P_ENCODED 4
#define WEIR_P_SCAN 8    /* the body goes through the automaton */
#define WEIR_P_NO_BODY 16 /* response to HEAD (set by the caller before the head is complete); request: the method is HEAD */
#define WEIR_P_CONNECT 32
#define WEIR_P_NEGATIVE 64
#define WEIR_P_FRACTION 128

/* TEXT: no number, but the string of a finish reason */
enum weir_number { WEIR_NUM_NONE, WEIR_NUM_TEXT, WEIR_NUM_COLON, WEIR_NUM_START, WEIR_NUM_DIGITS, WEIR_NUM_REST };
enum weir_number_kind { WEIR_KIND_LENGTH, WEIR_KIND_STATUS, WEIR_KIND_TOKENS, WEIR_KIND_PROXY };

/* Framing state of one direction. All zero, but for dfa (weir_begin sets it), is a valid start. */
struct weir_parse {
	__u64 remain; /* bytes of the body or chunk still to come */
	__u64 num;
	__u64 length;
	__u32 head_len; /* bytes of the head so far */
	__u32 tmp;      /* of the step under way, like at, ev and stop */
	__u16 at, ev;
	__u16 dfa;
	__u8 mode, flags;
	__u8 num_mode, num_kind, num_slot, num_digits;
	__u8 line; /* chunk size: digits so far; trailer: 1 if the line is not empty */
	__u8 stop;
	__u16 depth; /* response: brackets open while an echoed value is skipped */
};

/* weir_reply.flags */
#define WEIR_R_CONTENT 1
#define WEIR_R_ERROR 2
#define WEIR_R_ACTIVE 4      /* between first and last byte of a response */
#define WEIR_R_PARTIAL 8
#define WEIR_R_NO_REQUEST 16
#define WEIR_R_COUNTED 32    /* final head seen (or made up): the request is accounted */
#define WEIR_R_SLICE_LOST 64
#define WEIR_R_ENCODED 128

/* weir_reply.event: what the event being read has shown so far */
#define WEIR_E_TEXT 1
#define WEIR_E_EMPTY 2
#define WEIR_E_ROLE 4
#define WEIR_E_H2C 8 /* in a head: it speaks of changing to HTTP/2 */

/* What a response has told so far. */
struct weir_reply {
	__u64 first_ns, content_ns, last_ns;
	__u32 events, delta_events;
	__u32 tokens[WEIR_TOK_COUNT];
	__u16 token_mask;
	__u16 status;
	__u8 flags, type, event;
	__u8 finish_len;
	__u8 finish_whole; /* its end was seen */
	__u8 pad[7];
	char finish[WEIR_FINISH_MAX]; /* 0 behind finish_len */
};

WEIR_INLINE void weir_begin(struct weir_parse *p, const struct weir_automaton *a, int dir)
{
	p->mode = WEIR_START;
	p->flags = 0;
	p->num_mode = WEIR_NUM_NONE;
	p->head_len = 0;
	p->remain = 0;
	p->length = 0;
	p->dfa = a->root[dir == WEIR_REQUEST ? WEIR_ROOT_REQUEST : WEIR_ROOT_RESPONSE];
}

WEIR_INLINE void weir_reply_begin(struct weir_reply *r)
{
	r->first_ns = r->content_ns = r->last_ns = 0;
	r->events = r->delta_events = 0;
	for (int i = 0; i < WEIR_TOK_COUNT; i++)
		r->tokens[i] = 0;
	r->token_mask = r->status = 0;
	r->flags = r->type = r->event = 0;
	r->finish_len = r->finish_whole = 0;
	__builtin_memset(r->finish, 0, sizeof(r->finish));
}

#endif
