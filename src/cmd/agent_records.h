/*
 * agent_records.h - request records to a file or pipe, as JSON lines, without ever waiting for the reader.
 *
 * Lines are collected and written together. What a full disk, a slow or a closed pipe does not take is
 * dropped as whole lines and counted; the file never ends in half a line for long.
 */
#ifndef WEIR_CMD_AGENT_RECORDS_H
#define WEIR_CMD_AGENT_RECORDS_H

#include "decode/record.h"

#define RECORDS_PENDING_MAX (4u << 20) /* some 8,000 records: what a pipe's reader may be behind */

struct records_out {
	int fd;	    /* -1: records are not asked for */
	bool owned; /* close it at the end */
	bool regular;
	struct str pending;
	size_t sent;	   /* bytes of `pending` that are out; always less than the first line's length */
	uint64_t waiting;  /* lines in `pending` */
	uint64_t written, dropped;
	int error;	   /* of the last try, 0: it went well */
};

/* NULL: no records, the others do nothing then. "-": standard output. -EAGAIN: a pipe that nobody reads; `wait` waits for its reader. */
int records_open(struct records_out *o, const char *path, bool wait);
void records_add(struct records_out *o, const struct record *r);
/* Writes what the descriptor takes now. The first failure of a streak is logged, and its end. */
void records_flush(struct records_out *o);
/* Last try: waits up to two seconds for a slow reader. */
void records_close(struct records_out *o);

#endif
