/* scrub_words.h - what the scrubber knows of field names. Used by scrub_body.c and scrub_words.c only. */
#ifndef WEIR_DECODE_SCRUB_WORDS_H
#define WEIR_DECODE_SCRUB_WORDS_H

#include "decode/scrub.h"

#define NAME_KNOWN 1
#define NAME_NUMBER 2 /* its numbers are a limit or a count */
#define NAME_TEXT 4   /* its strings are prompt or answer, whatever they look like */
#define NAME_MODEL 8
#define NAME_ID 16    /* said by the server, of itself or of its answer: in responses only */
#define NAME_USER 32
#define NAME_STEP_ASKED 64 /* on the way to a field that the decoder reads in requests */
#define NAME_ECHO_OBJECT 128 /* holds names and values of somebody's own choice */
#define NAME_ECHO_ARRAY 256
#define NAME_STEP_ANSWERED 512 /* ... in responses */
#define NAME_CONTAINER 1024 /* holds counts; what no container or step holds is somebody's own */
#define NAME_NUMBER_ANSWERED 2048 /* its numbers are the server's in responses, anybody's in requests */

#define NAME_LONGEST 64

/* 0: not known */
uint16_t scrub_name(const struct scrub_words *w, struct span name);
/* A word of the APIs themselves: "assistant", "text", ... */
bool scrub_word(struct span text);

#endif
