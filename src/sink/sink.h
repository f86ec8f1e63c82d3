/*
 * sink.h - where anomaly events go. One vtable; a sink that fails never stops the others and counts
 * what it could not deliver.
 */
#ifndef WEIR_SINK_SINK_H
#define WEIR_SINK_SINK_H

#include "detect/anomaly.h"

struct sink;

struct sink_ops {
	const char *name;
	/* 0, or negative errno: the event is counted as dropped. Never blocks for long. */
	int (*emit)(struct sink *s, const struct anomaly *a);
	int (*flush)(struct sink *s);
	void (*close)(struct sink *s);
};

struct sink {
	const struct sink_ops *ops;
	uint64_t delivered, dropped;
	int last_error; /* negative errno of the last failure, 0: none */
};

/* Each returns a sink owned by the caller (sink_free). -ENOMEM, or what opening failed with. */
int sink_terminal_open(FILE *out, bool colour, struct sink **ret);
int sink_json_open(int fd, struct sink **ret); /* one line per event, one write(2) each; fd stays the caller's */
int sink_journal_open(struct sink **ret);      /* -ENOENT where no journal socket is there */

struct sink *sink_free(struct sink *s);
static inline void sink_freep(struct sink **s)
{
	sink_free(*s);
}

/* Gives the event to one sink and keeps its counters; complains once per failure streak through log_warning. */
void sink_emit(struct sink *s, const struct anomaly *a);

#endif
