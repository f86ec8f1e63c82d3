/*
 * anomaly.h - the event that detectors emit and sinks write. One JSON object per line on disk.
 *
 * Strings are owned by the detector and valid during the callback only.
 */
#ifndef WEIR_DETECT_ANOMALY_H
#define WEIR_DETECT_ANOMALY_H

#include "base/str.h"
#include "base/util.h"

enum anomaly_class {
	CLASS_FLOOD,
	CLASS_DDOS,
	CLASS_FLASH_CROWD,
	CLASS_COST_SPIKE,
	CLASS_SCRAPING,
	CLASS_PROMPT_PROBING,
	CLASS_CREDENTIAL_ABUSE,
	CLASS_KEY_SHARING,
	CLASS_TOKEN_GROWTH,
	CLASS_LATENCY_REGRESSION,
	CLASS_ERROR_BURST,
	CLASS_TRAFFIC_DROP,
	CLASS_UNBILLED_COMPUTE,
	CLASS_UNKNOWN,
	CLASS_COUNT,
};

enum anomaly_event { EVENT_OPEN, EVENT_UPDATE, EVENT_CLOSE };
enum anomaly_severity { SEVERITY_INFO, SEVERITY_WARNING, SEVERITY_CRITICAL };
enum entity_kind { ENTITY_GLOBAL, ENTITY_HOST, ENTITY_SERVER, ENTITY_MODEL, ENTITY_NETWORK, ENTITY_CLIENT_IP, ENTITY_API_KEY, ENTITY_USER, ENTITY_KIND_COUNT };

#define ANOMALY_EVIDENCE_MAX 10
#define ANOMALY_TOP_MAX 5

struct anomaly_evidence {
	const char *feature; /* snake_case with the unit, e.g. requests_per_s */
	double observed, expected, sigma;
};

struct anomaly_contributor {
	enum entity_kind kind;
	const char *value;
	double share; /* of the excess, 0.1..1 */
};

struct anomaly {
	enum anomaly_event event;
	const char *id; /* deterministic: the same input gives the same id */
	enum anomaly_class cls;
	enum anomaly_severity severity;
	enum entity_kind scope_kind;
	const char *scope_value; /* "" for global */
	double start;            /* estimated onset, epoch seconds */
	double detected;         /* tick at which this event is emitted */
	double end;              /* < 0: still open (null on disk) */
	double score;            /* sigma-equivalent */
	double confidence;       /* probability of the class, 0..1 */
	const char *summary;     /* one plain sentence */
	struct anomaly_evidence evidence[ANOMALY_EVIDENCE_MAX];
	size_t evidence_count;
	struct anomaly_contributor top[ANOMALY_TOP_MAX];
	size_t top_count;
	double cost_per_h;       /* above the expected, in the units of the price table; 0: no price, or not about tokens */
	const char *expected_by; /* the calendar's entry that explains it; NULL: none */
};

const char *anomaly_class_name(enum anomaly_class c);
/* CLASS_COUNT where the name is unknown. */
enum anomaly_class anomaly_class_of_name(struct span name);
const char *anomaly_event_name(enum anomaly_event e);
const char *anomaly_severity_name(enum anomaly_severity s);
const char *entity_kind_name(enum entity_kind k);
/* "sre", "security" or "finance" */
const char *anomaly_team(enum anomaly_class c);
/* Path of the runbook section below the documentation folder, e.g. "docs/runbooks.md#flood". */
const char *anomaly_runbook(enum anomaly_class c);

/* Appends the event as one JSON line, '\n' included. */
void anomaly_write_json(struct str *out, const struct anomaly *a);

#endif
