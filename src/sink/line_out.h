/*
 * line_out.h - whole lines to a file descriptor, never torn, in bounded memory.
 *
 * A line is written with one write(2) where the descriptor takes it. With SINK_DROP a descriptor that is
 * full keeps at most LINE_OUT_PENDING_MAX bytes waiting; a line that does not fit behind them is refused
 * whole. The rest of a line that was begun always goes out before the next one. SIGPIPE is never raised.
 */
#ifndef WEIR_SINK_LINE_OUT_H
#define WEIR_SINK_LINE_OUT_H

#include "sink/sink.h"

#define LINE_OUT_PENDING_MAX (256u << 10) /* some hundred events */

struct line_out {
	int fd;
	int own_fd; /* our own non-blocking opening of the same pipe or terminal; negative: none */
	bool file, socket;
	enum sink_pace pace;
	struct str pending;
	size_t sent;	       /* bytes of `pending` that are out */
	uint64_t waiting;      /* lines in `pending` */
	uint64_t written_late; /* lines that waited and went out; the owner takes them over and sets 0 */
	uint64_t lost_late;    /* lines that waited and were lost to an error; the same */
};

void line_out_init(struct line_out *o, int fd, enum sink_pace pace);
void line_out_done(struct line_out *o);
/* 0: written. 1: kept, will go out by line_out_flush() or before the next line. -EAGAIN: refused, no room. Other: it failed. */
int line_out_write(struct line_out *o, const char *p, size_t n);
/* 0: nothing waits, 1: something does. After a negative errno what waited is lost. */
int line_out_flush(struct line_out *o);
/* Adds the late counts to a sink's counters. */
void line_out_account(struct line_out *o, struct sink *s);

#endif
