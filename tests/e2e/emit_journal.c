/*
 * Feeds the real journal sink with events of every class: tests/e2e/journal.sh reads them back with journalctl.
 *
 * emit_journal CLASSES N      N events of each class through the sink; ids are <class>-<n>
 * emit_journal FLOOD N S      N events as fast as they go, then flushes once a second, S times at most; prints what it counted
 */
#include <time.h>

#include "sink/sink.h"
#include "sink_events.h"

static void emit_many(struct sink *s, enum anomaly_class c, int n)
{
	for (int i = 0; i < n; i++) {
		enum anomaly_event e = i == 0 ? EVENT_OPEN : i == n - 1 ? EVENT_CLOSE : EVENT_UPDATE;
		struct anomaly a;
		char id[64];

		snprintf(id, sizeof(id), "%s-%d", anomaly_class_name(c), i);
		a = sample_event(c, e, id);
		sink_emit(s, &a);
	}
}

int main(int argc, char **argv)
{
	CLEANUP(sink_freep) struct sink *s = NULL;
	const struct timespec pause = { .tv_sec = 1 };
	int n = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 0, r;

	if (n < 1)
		return 2;
	r = sink_journal_open(&s);
	if (r < 0) {
		fprintf(stderr, "emit_journal: %s\n", strerror(-r));
		return 1;
	}
	if (!strcmp(argv[1], "classes"))
		for (int c = 0; c < CLASS_COUNT; c++)
			emit_many(s, (enum anomaly_class)c, n);
	else
		emit_many(s, CLASS_FLOOD, n);
	/* Says that emitting has returned, whatever journald does. */
	printf("emitted %llu %llu\n", (unsigned long long)s->delivered, (unsigned long long)s->dropped);
	fflush(stdout);
	for (int i = argc > 3 ? (int)strtol(argv[3], NULL, 10) : 30; i > 0 && sink_flush(s) == 1; i--)
		nanosleep(&pause, NULL);
	printf("ended %llu %llu\n", (unsigned long long)s->delivered, (unsigned long long)s->dropped);
	return 0;
}
