/*
 * systemd-journald, by its native protocol (https://systemd.io/JOURNAL_NATIVE_PROTOCOL/): one datagram per event, of
 * NAME=value lines.
 *
 * Not through libsystemd's sd_journal_sendv(), for two reasons that an agent cannot live with. It blocks in sendmsg() while
 * journald's queue is full, for ever if journald is stopped; a thread of our own to take that blow would keep the
 * capabilities that the main thread drops. And it answers 0 where there is no journal at all, so the loss could not be counted.
 */
#include "sink/fields.h"
#include "sink/sink.h"
#include "sink/text.h"

#include <ctype.h>
#include <sys/socket.h>
#include <sys/un.h>

#define JOURNAL_SOCKET "/run/systemd/journal/socket"
#define JOURNAL_QUEUE_MAX 256	      /* events kept while journald does not read: many minutes of a bad day */
#define JOURNAL_EVENT_MAX (32u << 10) /* bytes of one event; the largest real ones have 4 KiB, a datagram may have some 200 KiB */

struct journal_entry {
	char *p;
	size_t n;
};

struct sink_journal {
	struct sink base;
	int fd;
	struct sockaddr_un to;
	struct str buf;
	struct journal_entry queue[JOURNAL_QUEUE_MAX];
	size_t first, count;
};

/* Fixed for ever: rules and the catalog are found by them. */
static const char *const message_ids[CLASS_COUNT] = {
	[CLASS_FLOOD] = "b548e19a0bac4d00866a1e162dd5aed0",
	[CLASS_DDOS] = "3bfbec8bcdf14d74a84b98f7f1c5db1a",
	[CLASS_FLASH_CROWD] = "11db950e16e34b448ee3f95415088a1c",
	[CLASS_COST_SPIKE] = "a0b99a5c91114506963708b600ce5563",
	[CLASS_SCRAPING] = "92a56d20336d4e6d9ed7e369b4810b2d",
	[CLASS_PROMPT_PROBING] = "0c802ae5350a4d61b04c12965ef05aae",
	[CLASS_CREDENTIAL_ABUSE] = "02f2f230467d407180b2b39652360d7c",
	[CLASS_KEY_SHARING] = "b0e1878be14f4954b76b020cd472e93d",
	[CLASS_TOKEN_GROWTH] = "1d4d1f71a0b74af3af9a69efc07cd5d4",
	[CLASS_LATENCY_REGRESSION] = "18a643d53fb44fa5a5ff61187d7f461b",
	[CLASS_ERROR_BURST] = "e8c1bbbbcacb4ece9bab1e41b3f5e472",
	[CLASS_TRAFFIC_DROP] = "3a135b9f73144c26bfff6b94ea68b0b9",
	[CLASS_UNBILLED_COMPUTE] = "9a9347a8dfe9471db133ff7e5050260e",
	[CLASS_UNKNOWN] = "25eaaa5b400d467283e26807a21ee106",
};

const char *sink_journal_message_id(enum anomaly_class c)
{
	return (unsigned)c < CLASS_COUNT ? message_ids[c] : message_ids[CLASS_UNKNOWN];
}

/* syslog priorities: info, warning, critical */
static int journal_priority(enum anomaly_severity s)
{
	return s == SEVERITY_CRITICAL ? 2 : s == SEVERITY_WARNING ? 4 : 6;
}

/* Every value below is printable text on one line (text.h), so the protocol's simple form is enough. */
static void journal_compose(struct str *b, const struct anomaly *a)
{
	bool said = text_says_over(a);

	str_adds(b, "SYSLOG_IDENTIFIER=weir\nMESSAGE=");
	if (a->event != EVENT_OPEN && !said)
		str_addf(b, "%s: ", a->event == EVENT_CLOSE ? "over" : "still");
	str_addf(b, "%s: ", anomaly_class_name(a->cls));
	text_add_summary(b, a);
	if (a->event == EVENT_CLOSE && a->end >= 0 && !said) {
		str_adds(b, "; lasted ");
		text_add_duration(b, a->end - a->start);
	}
	str_addf(b, "\nPRIORITY=%d\nMESSAGE_ID=%s\n", journal_priority(a->severity), sink_journal_message_id(a->cls));

	for (const struct sink_field *f = sink_fields; f->name; f++) {
		size_t line = b->n, value;

		str_adds(b, "WEIR_");
		for (const char *c = f->name; *c; c++)
			str_addc(b, (char)toupper((unsigned char)*c));
		str_addc(b, '=');
		value = b->n;
		f->put(b, a);
		if (str_error(b) < 0)
			return;
		if (b->n == value)
			b->n = line; /* no such value */
		else
			str_addc(b, '\n');
	}
}

/* 0, or negative errno; never waits. */
static int journal_send(struct sink_journal *j, const char *p, size_t n)
{
	ssize_t r;

	/* By name each time, not connected: a restarted journald has a new socket at the old place. */
	do {
		r = sendto(j->fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL, (const struct sockaddr *)&j->to, sizeof(j->to));
	} while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

/* Is it likely that the same send works later? */
static bool journal_passes(int r)
{
	return r == -EAGAIN || r == -ENOBUFS || r == -ENOMEM || r == -ECONNREFUSED || r == -ENOENT;
}

static int journal_flush(struct sink *s)
{
	struct sink_journal *j = (struct sink_journal *)s;

	while (j->count) {
		struct journal_entry *e = &j->queue[j->first];
		int r = journal_send(j, e->p, e->n);

		if (r < 0 && journal_passes(r)) {
			s->last_error = r;
			return 1;
		}
		if (r < 0)
			s->dropped++;
		else
			s->delivered++;
		free(e->p);
		*e = (struct journal_entry){ 0 };
		j->first = (j->first + 1) % JOURNAL_QUEUE_MAX;
		j->count--;
		if (r < 0)
			return r;
	}
	return 0;
}

static int journal_keep(struct sink_journal *j)
{
	char *copy;

	if (j->count == JOURNAL_QUEUE_MAX)
		return -EAGAIN;
	copy = malloc(j->buf.n);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, j->buf.p, j->buf.n);
	j->queue[(j->first + j->count++) % JOURNAL_QUEUE_MAX] = (struct journal_entry){ copy, j->buf.n };
	return 1;
}

static int journal_emit(struct sink *s, const struct anomaly *a)
{
	struct sink_journal *j = (struct sink_journal *)s;
	int r;

	str_reset(&j->buf);
	journal_compose(&j->buf, a);
	r = str_error(&j->buf);
	if (r < 0)
		return r;
	if (journal_flush(s) == 0) {
		r = journal_send(j, j->buf.p, j->buf.n);
		if (r == 0 || !journal_passes(r))
			return r;
		s->last_error = r;
	}
	return journal_keep(j);
}

static void journal_close(struct sink *s)
{
	struct sink_journal *j = (struct sink_journal *)s;

	for (size_t i = 0; i < j->count; i++)
		free(j->queue[(j->first + i) % JOURNAL_QUEUE_MAX].p);
	str_done(&j->buf);
	closep(&j->fd);
	free(j);
}

static const struct sink_ops journal_ops = {
	.name = "journal",
	.emit = journal_emit,
	.flush = journal_flush,
	.close = journal_close,
};

int sink_journal_open_at(const char *socket_path, struct sink **ret)
{
	CLEANUP(sink_freep) struct sink *s = NULL;
	CLEANUP(closep) int probe = -EBADF;
	struct sink_journal *j;

	if (strlen(socket_path) >= sizeof(j->to.sun_path))
		return -ENAMETOOLONG;
	j = calloc(1, sizeof(*j));
	if (!j)
		return -ENOMEM;
	s = &j->base;
	s->ops = &journal_ops;
	j->buf.ceiling = JOURNAL_EVENT_MAX;
	j->to.sun_family = AF_UNIX;
	memcpy(j->to.sun_path, socket_path, strlen(socket_path) + 1);
	j->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (j->fd < 0)
		return -errno;

	/* Is there a journal at all? Better said now than at the first event. */
	probe = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (probe < 0)
		return -errno;
	if (connect(probe, (const struct sockaddr *)&j->to, sizeof(j->to)) < 0)
		return -errno;
	TAKE_PTR(s);
	*ret = &j->base;
	return 0;
}

int sink_journal_open(struct sink **ret)
{
	return sink_journal_open_at(JOURNAL_SOCKET, ret);
}
