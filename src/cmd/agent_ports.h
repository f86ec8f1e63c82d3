/*
 * agent_ports.h - which ports the agent watches and why; follows what the discovery helper says.
 */
#ifndef WEIR_CMD_AGENT_PORTS_H
#define WEIR_CMD_AGENT_PORTS_H

#include "capture/capture.h"
#include "capture/engine.h"
#include "capture/hops.h"
#include "capture/watcher.h"
#include "decode/record.h"
#include "detect/detect.h"

/* A server may be away so long, to restart or to load a model, before its port is let go. */
#define PORT_GRACE_S 600
/* A port found by its server's name only is let go after so many requests of which none was of a model API. */
#define PORT_DOUBT_REQUESTS 200

enum port_source { PORT_NONE, PORT_GIVEN, PORT_OF_PID, PORT_AUTO, PORT_REFUSED };

struct port_note {
	uint8_t source; /* enum port_source */
	bool confirmed; /* a request of a model API was seen */
	bool gone;
	uint16_t others;  /* requests of other kinds so far */
	uint32_t pid;
	uint64_t gone_s;  /* when its listener went away */
};

/* Who listens where, by network namespace and port. */
struct port_listener {
	uint32_t netns, pid;
	uint16_t port;
	bool gone;
	uint64_t start;
	char server[24], workload[DISCOVER_WORKLOAD_MAX], image[CONTAINER_IMAGE_MAX];
};

#define PORT_PAIRS_MAX 64 /* outer and inner listeners that were told of */
#define PORT_PAIRS_PERIOD_S 10

struct agent_ports {
	struct capture *capture;
	/* What runs behind a port has a name, or (empty) none any more. */
	void (*named)(void *ctx, uint32_t netns, uint16_t port, struct span workload);
	/* Something happened to the server that is called so; `when`: wall time. */
	void (*marked)(void *ctx, enum marker_kind kind, struct span server, struct span what, double when);
	void *ctx;
	struct port_listener listener[DISCOVER_PORTS_MAX];
	size_t listeners;
	struct {
		uint16_t outer, inner;
	} pair[PORT_PAIRS_MAX];
	size_t pairs;
	struct hops *hops; /* NULL: this kernel does not tell them */
	struct engine *engine; /* NULL: none is counted, or not yet */
	struct port_note note[65536]; /* by port */
	unsigned watched;
	bool scanned; /* the helper has looked at least once */
	bool owners_full;
};

void agent_ports_given(struct agent_ports *p, uint16_t port);
void agent_ports_message(struct agent_ports *p, const struct watcher_message *m, uint64_t now_s);
/* A finished request: tells model servers from others. */
void agent_ports_record(struct agent_ports *p, const struct record *r);
void agent_ports_second(struct agent_ports *p, uint64_t now_s);

#endif
