/*
 * agent_engine.h - the agent's count of what engines compute: which are probed, and how the detector is told.
 */
#ifndef WEIR_CMD_AGENT_ENGINE_H
#define WEIR_CMD_AGENT_ENGINE_H

#include "base/str.h"
#include "capture/engine.h"
#include "cmd/agent_ports.h"
#include "detect/detect.h"

struct agent_engine {
	struct engine *engine; /* NULL: none */
	struct detect *detect;
	double now;
};

/* Probes the engines of the servers that listen on the watched ports now. Privileged. From then on `ports` tells the engines who listens. Whatever fails is said, and no reason to end. */
void agent_engine_begin(struct agent_engine *a, struct detect *d, struct agent_ports *ports);
void agent_engine_second(struct agent_engine *a, double now);
void agent_engine_write_json(const struct agent_engine *a, struct str *out);
void agent_engine_end(struct agent_engine *a);

#endif
