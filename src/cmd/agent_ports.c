#include "cmd/agent_ports.h"

#include "base/log.h"

static void watch(struct agent_ports *p, uint16_t port, enum port_source source)
{
	struct port_note *n = &p->note[port];

	if (!capture_watched(p->capture, port))
		p->watched++;
	*n = (struct port_note){ .source = (uint8_t)source };
	capture_watch(p->capture, port, true);
}

static void let_go(struct agent_ports *p, uint16_t port, enum port_source now)
{
	if (capture_watched(p->capture, port))
		p->watched--;
	p->note[port] = (struct port_note){ .source = (uint8_t)now };
	capture_watch(p->capture, port, false);
}

void agent_ports_given(struct agent_ports *p, uint16_t port)
{
	watch(p, port, PORT_GIVEN);
}

void agent_ports_message(struct agent_ports *p, const struct watcher_message *m, uint64_t now_s)
{
	struct port_note *n = &p->note[m->port];

	switch (m->type) {
	case WATCHER_FOUND:
		n->gone = false;
		if (n->source == PORT_GIVEN || !m->port)
			return;
		if (n->source == PORT_REFUSED && n->pid == m->pid)
			return; /* looked at before: not a model server */
		if (n->source == PORT_NONE || n->source == PORT_REFUSED) {
			watch(p, m->port, m->automatic ? PORT_AUTO : PORT_OF_PID);
			log_info("watching port %u (%s, pid %u)", m->port, *m->server ? m->server : "?", m->pid);
		}
		n->pid = m->pid;
		return;
	case WATCHER_GONE:
		if (n->source == PORT_REFUSED)
			let_go(p, m->port, PORT_NONE);
		n->gone = true;
		n->gone_s = now_s;
		return;
	case WATCHER_SCANNED:
		p->scanned = true;
		return;
	default:
		return;
	}
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
