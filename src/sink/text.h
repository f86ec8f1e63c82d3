/*
 * text.h - words and numbers for people, safe to print.
 */
#ifndef WEIR_SINK_TEXT_H
#define WEIR_SINK_TEXT_H

#include "detect/anomaly.h"

/*
 * Appends text that came from outside (an address, a key, a user, a model name). What could move a cursor, start an escape
 * sequence, forge a line or turn the reading direction is written as \xNN per byte, as are bytes that are not UTF-8.
 */
void text_add_safe(struct str *out, const char *text);

/* "4 s", "2 min 14 s", "3 h 5 min", "2 d 1 h". Negative is 0. */
void text_add_duration(struct str *out, double seconds);

/* Three significant digits, no exponent below 10^15: "0.25", "3", "412", "12.4k", "1.25M". */
void text_add_number(struct str *out, double v);

/* "client", "key", ...: the word in front of a scope's value; "all traffic" for global. */
const char *text_kind_word(enum entity_kind k);

/* "client 10.0.0.7"; "all traffic" */
void text_add_scope(struct str *out, enum entity_kind kind, const char *value);

/* Whether the summary of a closing event says by itself that it is over, and how long it was. */
bool text_says_over(const struct anomaly *a);

/* The event's summary, or where the detector gave none one made of the first evidence. */
void text_add_summary(struct str *out, const struct anomaly *a);

#endif
