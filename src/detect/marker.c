/* What happened to servers, and which incident began right after it. */
#include "detect/marker.h"

#include <math.h>

#include "detect/engine.h"

static const char *const phrases[] = {
	[MARKER_START] = "the start of",
	[MARKER_STOP] = "the end of",
	[MARKER_RESTART] = "the restart of",
	[MARKER_IMAGE] = "the change of the image of",
	[MARKER_MODEL] = "a new model at",
};

static void text_keep(char *out, size_t cap, struct span s)
{
	size_t n = MIN(s.n, cap - 1);

	if (n)
		memcpy(out, s.p, n);
	out[n] = '\0';
}

void markers_add(struct markers *m, int64_t second, enum marker_kind kind, struct span server, struct span what)
{
	struct marked *k = &m->ring[m->next++ % MARKERS_MAX];

	k->second = second;
	k->kind = kind;
	text_keep(k->server, sizeof(k->server), server);
	text_keep(k->what, sizeof(k->what), what);
}

int detect_marker(struct detect *d, const struct marker *m)
{
	if ((unsigned int)m->kind >= ARRAY_SIZE(phrases) || !m->server.n || !(m->time > 0 && m->time < 1e11))
		return -EINVAL;
	if (d->opts.detector != DETECTOR_STATIC)
		markers_add(&d->markers, (int64_t)floor(m->time), m->kind, m->server, m->what);
	return 0;
}

/* ---- models, as records tell ------------------------------------------------------------------------- */
static struct served *served_of(struct markers *m, uint64_t server, int32_t tick)
{
	struct served *s = m->served, *room = m->served;

	while (s < m->served + MARKER_SERVERS_MAX && s->models && s->server != server) {
		if (s->last < room->last)
			room = s;
		s++;
	}
	if (s == m->served + MARKER_SERVERS_MAX)
		s = room;
	if (!s->models || s->server != server)
		*s = (struct served){ .server = server, .born = tick };
	s->last = tick;
	return s;
}

void markers_see(struct detect *d, uint32_t server, uint32_t model, int32_t tick)
{
	struct served *s = served_of(&d->markers, at(d, server)->hash, tick);
	uint32_t hash = (uint32_t)at(d, model)->hash;

	for (unsigned int i = 0; i < s->models && i < MARKER_MODELS_MAX; i++)
		if (s->model[i] == hash)
			return;
	/* Who serves so many is a gateway: one more is nothing. */
	if (s->models > MARKER_MODELS_MAX)
		return;
	if (s->models && s->models < MARKER_MODELS_MAX && tick - s->born >= MARKER_SETTLED_S)
		markers_add(&d->markers, d->base + tick, MARKER_MODEL, span_of(at(d, server)->name), span_of(at(d, model)->name));
	if (s->models < MARKER_MODELS_MAX)
		s->model[s->models] = hash;
	s->models++;
}

/* ---- who cites it -------------------------------------------------------------------------------------- */
static bool citing(enum anomaly_class c)
{
	return c == CLASS_LATENCY_REGRESSION || c == CLASS_ERROR_BURST || c == CLASS_TRAFFIC_DROP || c == CLASS_TOKEN_GROWTH;
}

/* A port stands for a server that has no other name: ":8000" is meant by "127.0.0.1:8000". */
static bool concerns(const struct marked *k, const char *server)
{
	size_t n = strlen(k->server), m = strlen(server);

	return !strcmp(k->server, server) || (k->server[0] == ':' && m >= n && !strcmp(server + m - n, k->server));
}

void markers_cite(const struct detect *d, const struct finding *f, char *ret, size_t cap, double *ret_since)
{
	const struct entity *e = f->scope == NOBODY ? NULL : at(d, f->scope);
	const struct markers *m = &d->markers;
	const struct marked *best = NULL;

	*ret = '\0';
	if (!citing(f->cls))
		return;
	for (uint32_t i = 0; i < MIN(m->next, (uint32_t)MARKERS_MAX); i++) {
		const struct marked *k = &m->ring[i];

		if (k->second > f->start + MARKER_SLACK_S || f->start - k->second > MARKER_CITED_S)
			continue;
		if (e && e->kind == ENTITY_SERVER && !concerns(k, e->name))
			continue;
		if (!best || k->second >= best->second)
			best = k;
	}
	if (!best)
		return;
	*ret_since = (double)MAX(f->start - best->second, 0);
	if (best->second >= f->start)
		snprintf(ret, cap, "; began with %s %s%s", phrases[best->kind], best->server[0] == ':' ? "port " : "", best->server + (best->server[0] == ':'));
	else
		snprintf(ret, cap, "; began %.0f s after %s %s%s", *ret_since, phrases[best->kind], best->server[0] == ':' ? "port " : "", best->server + (best->server[0] == ':'));
	if (best->what[0] && (best->kind == MARKER_IMAGE || best->kind == MARKER_MODEL))
		snprintf(ret + strlen(ret), cap - strlen(ret), " (%s)", best->what);
}
