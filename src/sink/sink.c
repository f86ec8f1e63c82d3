#include "sink/sink.h"

#include "base/log.h"

struct sink *sink_free(struct sink *s)
{
	if (s) {
		if (s->ops->flush)
			s->ops->flush(s);
		s->ops->close(s);
	}
	return NULL;
}

/* One line when a streak of failures begins and one when it ends, however many events lie between. */
static void sink_complain(struct sink *s, int r)
{
	if (r == 0 && s->complained) {
		log_info("%s: delivering again; %llu events were dropped so far", s->ops->name, (unsigned long long)s->dropped);
		s->complained = false;
	} else if (r < 0 && !s->complained) {
		log_warning("%s: cannot deliver (%s); such events are dropped and counted", s->ops->name, strerror(-r));
		s->complained = true;
	} else if (r > 0 && !s->complained) {
		log_warning("%s: takes no events now%s%s; they wait in bounded memory, then are dropped and counted", s->ops->name, s->last_error ? ": " : "",
			    s->last_error ? strerror(-s->last_error) : "");
		s->complained = true;
	}
}

void sink_emit(struct sink *s, const struct anomaly *a)
{
	int r = s->ops->emit(s, a);

	if (r == 0) {
		s->delivered++;
		s->last_error = 0;
	} else if (r < 0) {
		s->dropped++;
		s->last_error = r;
	}
	sink_complain(s, r);
}

int sink_flush(struct sink *s)
{
	uint64_t before = s->delivered;
	int r = s->ops->flush ? s->ops->flush(s) : 0;

	if (r < 0)
		s->last_error = r;
	if (r)
		sink_complain(s, r);
	else if (s->delivered > before) { /* that nothing waits says nothing about how the last event fared */
		s->last_error = 0;
		sink_complain(s, 0);
	}
	return r;
}

int sinks_add(struct sinks *ss, struct sink *s)
{
	if (ss->n == ARRAY_SIZE(ss->all)) {
		sink_free(s);
		return -E2BIG;
	}
	ss->all[ss->n++] = s;
	return 0;
}

void sinks_emit(struct sinks *ss, const struct anomaly *a)
{
	for (size_t i = 0; i < ss->n; i++)
		sink_emit(ss->all[i], a);
}

void sinks_flush(struct sinks *ss)
{
	for (size_t i = 0; i < ss->n; i++)
		sink_flush(ss->all[i]);
}

void sinks_done(struct sinks *ss)
{
	for (size_t i = 0; i < ss->n; i++)
		ss->all[i] = sink_free(ss->all[i]);
	ss->n = 0;
}
