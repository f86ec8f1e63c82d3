/*
 * sink.h - where anomaly events go. One vtable; a sink that fails never stops the others and counts
 * what it could not deliver.
 *
 * A new sink is one file: a struct that begins with `struct sink`, a `struct sink_ops`, and an open
 * function declared here. fields.h gives it the event as flat names and values, line_out.h a bounded
 * writer of whole lines, text.h the words for people.
 */
#ifndef WEIR_SINK_SINK_H
#define WEIR_SINK_SINK_H

#include "detect/anomaly.h"

struct sink;

struct sink_ops {
	const char *name;
	/*
	 * 0: delivered. 1: taken, not yet delivered; the sink itself adds it to `delivered` or `dropped` later. Negative
	 * errno: dropped. Never blocks for long (the waiting outputs below excepted).
	 */
	int (*emit)(struct sink *s, const struct anomaly *a);
	/* Tries again to deliver what emit() took. 0: nothing is left, 1: something is, negative errno: what failed. */
	int (*flush)(struct sink *s);
	/* Frees the sink, `s` included; what is still undelivered is lost. */
	void (*close)(struct sink *s);
};

struct sink {
	const struct sink_ops *ops;
	uint64_t delivered, dropped;
	int last_error; /* negative errno of the last failure, 0: none since the last success */
	bool complained; /* the current streak of failures was reported */
};

/* What an output does when its reader is slower than the events. */
enum sink_pace {
	SINK_WAIT, /* waits for the reader: nothing is lost (replay) */
	SINK_DROP, /* keeps at most LINE_OUT_PENDING_MAX bytes, then drops whole events and counts them (a live agent) */
};

/*
 * Each returns a sink owned by the caller (sink_free). -ENOMEM, or what opening failed with.
 * fd and stream stay the caller's; a reader that goes away is an error (-EPIPE), never a signal.
 */
int sink_terminal_open(FILE *out, bool colour, struct sink **ret); /* SINK_WAIT; colour only where out is a terminal, too */
int sink_terminal_open_paced(FILE *out, bool colour, enum sink_pace pace, struct sink **ret);
int sink_json_open(int fd, struct sink **ret); /* SINK_WAIT; one line per event, one write(2) each */
int sink_json_open_paced(int fd, enum sink_pace pace, struct sink **ret);
/* Never waits. -ENOENT, -ECONNREFUSED, -EACCES where no journal takes messages. */
int sink_journal_open(struct sink **ret);
int sink_journal_open_at(const char *socket_path, struct sink **ret);
/* MESSAGE_ID of a class, 32 hex digits; the catalog (deploy/journal/weir.catalog) has an entry for each. */
const char *sink_journal_message_id(enum anomaly_class c);

/* Flushes once, without complaint, and closes. Read the counters before. */
struct sink *sink_free(struct sink *s);
static inline void sink_freep(struct sink **s)
{
	sink_free(*s);
}

/* Gives the event to one sink and keeps its counters; complains once per failure streak through log_warning. */
void sink_emit(struct sink *s, const struct anomaly *a);

/* Call about once a second and before sink_free(): delivers what waits. 0: nothing waits, 1: something does, or negative errno. */
int sink_flush(struct sink *s);

/* Several sinks as one. */
#define SINKS_MAX 16 /* one of each kind there is, and room to have some twice */

struct sinks {
	struct sink *all[SINKS_MAX];
	size_t n;
};

/* Takes ownership of s, also on failure (-E2BIG), so that open and add read as one step. */
int sinks_add(struct sinks *ss, struct sink *s);
void sinks_emit(struct sinks *ss, const struct anomaly *a);
void sinks_flush(struct sinks *ss);
void sinks_done(struct sinks *ss);

#endif
