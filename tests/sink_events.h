/* Events of every class for the sink tests: one place for the unit tests and for the program that feeds a real journald. */
#ifndef WEIR_TESTS_SINK_EVENTS_H
#define WEIR_TESTS_SINK_EVENTS_H

#include "detect/anomaly.h"

static inline struct anomaly sample_event(enum anomaly_class c, enum anomaly_event e, const char *id)
{
	return (struct anomaly){
		.event = e,
		.id = id,
		.cls = c,
		.severity = (enum anomaly_severity)(c % 3),
		.scope_kind = c == CLASS_DDOS ? ENTITY_GLOBAL : ENTITY_CLIENT_IP,
		.scope_value = c == CLASS_DDOS ? "" : "10.0.0.7",
		.start = 1750000000,
		.detected = 1750000009,
		.end = e == EVENT_CLOSE ? 1750000134 : -1,
		.score = 9.25,
		.confidence = 0.75,
		.summary = "client 10.0.0.7 sends 412 requests/s, normally 3 (x137)",
		.evidence = { { "requests_per_s", 412, 3, 9.25 }, { "tokens_per_s", 40000.5, 900, 7 } },
		.evidence_count = 2,
		.top = { { ENTITY_CLIENT_IP, "10.0.0.7", 0.96 } },
		.top_count = 1,
	};
}

#endif
