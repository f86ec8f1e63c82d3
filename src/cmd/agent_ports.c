#include "cmd/agent_ports.h"

#include "base/log.h"

#include <time.h>

static void watch(struct agent_ports *p, uint16_t port, enum port_source source)
{
	struct port_note *n = &p->note[port];

	if (!capture_watched(p->capture, port))
		p->watched++;
	*n = (struct port_note){ .source = (uint8_t)source };
	capture_watch(p->capture, port, true);
	hops_watch(p->hops, port, true);
}

static void let_go(struct agent_ports *p, uint16_t port, enum port_source now)
{
	if (capture_watched(p->capture, port))
		p->watched--;
	p->note[port] = (struct port_note){ .source = (uint8_t)now };
	capture_watch(p->capture, port, false);
	hops_watch(p->hops, port, false);
}

void agent_ports_given(struct agent_ports *p, uint16_t port)
{
	watch(p, port, PORT_GIVEN);
}

static struct port_listener *listener_of(struct agent_ports *p, const struct watcher_message *m)
{
	struct port_listener *l = p->listener;

	while (l < p->listener + p->listeners && (l->netns != m->netns || l->port != m->port))
		l++;
	if (l < p->listener + p->listeners)
		return l;
	/* Those that are gone make room; a host has a few ports, so this is a matter of years. */
	for (l = p->listener; l < p->listener + p->listeners && !l->gone; l++)
		;
	if (p->listeners < DISCOVER_PORTS_MAX)
		l = &p->listener[p->listeners++];
	else if (l == p->listener + p->listeners)
		return NULL;
	*l = (struct port_listener){ .netns = m->netns, .port = m->port };
	return l;
}

static double wall_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* When a process began, by its start in ticks since boot. */
static double wall_of(uint64_t start_ticks)
{
	struct timespec t;
	double age;

	clock_gettime(CLOCK_BOOTTIME, &t);
	age = (double)t.tv_sec + (double)t.tv_nsec / 1e9 - (double)start_ticks / (double)sysconf(_SC_CLK_TCK);
	return wall_now() - (age > 0 ? age : 0);
}

/* The name that its records' server is known by. */
static void mark(const struct agent_ports *p, enum marker_kind kind, const struct port_listener *l, const char *what, double when)
{
	char port[16];

	snprintf(port, sizeof(port), ":%u", l->port);
	if (p->marked)
		p->marked(p->ctx, kind, span_of(*l->workload ? l->workload : port), span_of(what), when);
}

/* What the agent finds when it begins has not just happened. */
static void change_mark(const struct agent_ports *p, const struct port_listener *old, const struct port_listener *now)
{
	if (!p->scanned || (old->pid == now->pid && old->start == now->start))
		return;
	if (!old->pid)
		mark(p, MARKER_START, now, "", wall_of(now->start));
	else if (*old->image && *now->image && strcmp(old->image, now->image) != 0)
		mark(p, MARKER_IMAGE, now, now->image, wall_of(now->start));
	else
		mark(p, MARKER_RESTART, now, "", wall_of(now->start));
}

static void listener_found(struct agent_ports *p, const struct watcher_message *m)
{
	struct port_listener *l = listener_of(p, m), old;

	if (!l)
		return;
	old = *l;
	if (!l->pid || l->pid != m->pid || l->start != m->start) {
		log_info("port %u: %s, pid %u%s%s%s%s%s%s%s", m->port, *m->server ? m->server : "?", m->pid, *m->workload ? ", " : "", m->workload,
			 *m->image ? ", image " : "", m->image, *m->tls ? ", has loaded " : "", m->tls, l->pid && !l->gone ? " (taken over)" : "");
	}
	*l = (struct port_listener){ .netns = m->netns, .port = m->port, .pid = m->pid, .start = m->start };
	memcpy(l->server, m->server, sizeof(l->server));
	memcpy(l->workload, m->workload, sizeof(l->workload));
	memcpy(l->image, m->image, sizeof(l->image));
	change_mark(p, &old, l);
	if (p->named)
		p->named(p->ctx, m->netns, m->port, span_of(m->workload));
}

static void port_found(struct agent_ports *p, const struct watcher_message *m)
{
	struct port_note *n = &p->note[m->port];

	n->gone = false;
	if (n->source == PORT_REFUSED && n->pid == m->pid)
		return; /* looked at before: not a model server */
	if (n->source == PORT_NONE || n->source == PORT_REFUSED) {
		watch(p, m->port, m->automatic ? PORT_AUTO : PORT_OF_PID);
		log_info("watching port %u (%s, pid %u)", m->port, *m->server ? m->server : "?", m->pid);
	}
	n->pid = m->pid;
}

static void port_gone(struct agent_ports *p, const struct watcher_message *m, uint64_t now_s)
{
	struct port_listener *l = listener_of(p, m);
	struct port_note *n = &p->note[m->port];

	if (l && !l->gone && l->pid)
		mark(p, MARKER_STOP, l, "", wall_now());
	if (l)
		l->gone = true; /* the name stays: whoever comes back is most likely the same */
	if (m->elsewhere)
		return;
	if (n->source == PORT_REFUSED)
		let_go(p, m->port, PORT_NONE);
	n->gone = true;
	n->gone_s = now_s;
}

void agent_ports_message(struct agent_ports *p, const struct watcher_message *m, uint64_t now_s)
{
	if (!m->port && m->type != WATCHER_SCANNED)
		return;
	switch (m->type) {
	case WATCHER_FOUND:
		listener_found(p, m);
		if (p->note[m->port].source != PORT_GIVEN && !m->given)
			port_found(p, m);
		return;
	case WATCHER_GONE:
		port_gone(p, m, now_s);
		return;
	case WATCHER_OWNER:
		engine_own(p->engine, m->pid, m->port);
		if (hops_own(p->hops, m->pid, m->netns, m->port) == -ENOSPC && !p->owners_full) {
			p->owners_full = true;
			log_warning("more processes than %u hold watched ports: double hops through the others are counted twice", DISCOVER_OWNERS_MAX);
		}
		return;
	case WATCHER_DISOWNED:
		engine_disown(p->engine, m->pid, m->port);
		hops_disown(p->hops, m->pid, m->netns, m->port);
		return;
	case WATCHER_SCANNED:
		p->scanned = true;
		return;
	default:
		return;
	}
}

/* ---- which listeners stand behind which ------------------------------------------------------------- */
static void pair_see(void *ctx, const struct weir_conn_key *conn, const struct hop *hop)
{
	struct agent_ports *p = ctx;

	for (size_t i = 0; i < p->pairs; i++)
		if (p->pair[i].outer == hop->port && p->pair[i].inner == conn->lport)
			return;
	if (p->pairs == PORT_PAIRS_MAX || !capture_watched(p->capture, conn->lport))
		return;
	p->pair[p->pairs].outer = hop->port;
	p->pair[p->pairs++].inner = conn->lport;
	log_info("port %u stands behind port %u (pid %u connects): what comes from there is an inner hop of the same requests", conn->lport, hop->port, hop->pid);
}

void agent_ports_record(struct agent_ports *p, const struct record *r)
{
	struct span server = record_server_address(r);
	const char *colon = server.n ? memrchr(server.p, ':', server.n) : NULL;
	struct port_note *n;
	unsigned port = 0;
	uint32_t pid;

	if (!colon)
		return;
	for (const char *c = colon + 1; c < server.p + server.n && *c >= '0' && *c <= '9' && port < 65536; c++)
		port = port * 10 + (unsigned)(*c - '0');
	if (port > 65535)
		return;
	n = &p->note[port];
	if (n->source != PORT_AUTO || n->confirmed)
		return;
	if (r->kind != KIND_OTHER) {
		n->confirmed = true;
		return;
	}
	if (++n->others < PORT_DOUBT_REQUESTS)
		return;
	log_info("port %u does not speak a model API: no longer watched (--port %u watches it all the same)", port, port);
	pid = n->pid;
	let_go(p, (uint16_t)port, PORT_REFUSED);
	n->pid = pid;
}

void agent_ports_second(struct agent_ports *p, uint64_t now_s)
{
	if (now_s % PORT_PAIRS_PERIOD_S == 0)
		hops_each(p->hops, pair_see, p);
	if (now_s % 30)
		return; /* minutes matter here, and the table is long */
	for (unsigned port = 1; port < 65536; port++) {
		struct port_note *n = &p->note[port];

		if (n->gone && (n->source == PORT_AUTO || n->source == PORT_OF_PID) && now_s - n->gone_s > PORT_GRACE_S) {
			log_info("port %u: nothing has listened there for %u minutes, no longer watched", port, PORT_GRACE_S / 60);
			let_go(p, (uint16_t)port, PORT_NONE);
		}
	}
}
