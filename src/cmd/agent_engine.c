#include "cmd/agent_engine.h"

#include "base/log.h"

#include <ctype.h>

#define PATH_SAID 160

static void on_found(void *ctx, const struct engine_found *f)
{
	char path[PATH_SAID];
	size_t i;

	(void)ctx;
	/* named by the process that mapped it */
	for (i = 0; f->path[i] && i < PATH_SAID - 1; i++)
		path[i] = (char)(isprint((unsigned char)f->path[i]) ? f->path[i] : '?');
	path[i] = '\0';
	if (f->error < 0)
		log_warning("cannot count what %s of pid %d computes (%s: %s), continuing without it", f->engine, f->pid, path, strerror(-f->error));
	else
		log_info("counting what %s computes for port %u (%s, pid %d)", f->engine, f->port, path, f->pid);
}

void agent_engine_begin(struct agent_engine *a, struct detect *d, struct agent_ports *ports)
{
	a->detect = d;
	if (engine_open(on_found, a, &a->engine) < 0)
		return;
	ports->engine = a->engine;
	for (unsigned port = 1; port < 65536; port++) {
		enum port_source source = (enum port_source)ports->note[port].source;
		int r = source != PORT_NONE && source != PORT_REFUSED ? engine_scan(a->engine, (uint16_t)port) : 0;

		if (r < 0) {
			log_warning("cannot look for inference engines: %s", strerror(-r));
			return;
		}
	}
}

static void on_computed(void *ctx, uint16_t port, uint64_t tokens)
{
	struct agent_engine *a = ctx;

	detect_compute(a->detect, port, a->now, tokens);
}

void agent_engine_second(struct agent_engine *a, double now)
{
	if (!a->engine)
		return;
	a->now = now;
	engine_read(a->engine, on_computed, a);
}

void agent_engine_write_json(const struct agent_engine *a, struct str *out)
{
	struct engine_counts c = { 0 };

	if (a->engine)
		engine_counts(a->engine, &c);
	json_key(out, "engine");
	json_begin(out, '{');
	json_kuint(out, "files", c.files);
	json_kuint(out, "processes", c.processes);
	json_kuint(out, "calls", c.calls);
	json_kuint(out, "tokens", c.tokens);
	json_kuint(out, "unattributed", c.unattributed);
	json_kuint(out, "table_full", c.full);
	json_kuint(out, "unreadable", c.unreadable);
	json_end(out, '}');
}

void agent_engine_end(struct agent_engine *a)
{
	a->engine = engine_free(a->engine);
}
