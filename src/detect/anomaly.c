#include "detect/anomaly.h"

static const struct {
	const char *name, *team, *runbook;
} classes[CLASS_COUNT] = {
	[CLASS_FLOOD] = { "flood", "security", "docs/runbooks.md#flood" },
	[CLASS_DDOS] = { "ddos", "security", "docs/runbooks.md#ddos" },
	[CLASS_FLASH_CROWD] = { "flash_crowd", "sre", "docs/runbooks.md#flash_crowd" },
	[CLASS_COST_SPIKE] = { "cost_spike", "finance", "docs/runbooks.md#cost_spike" },
	[CLASS_SCRAPING] = { "scraping", "security", "docs/runbooks.md#scraping" },
	[CLASS_PROMPT_PROBING] = { "prompt_probing", "security", "docs/runbooks.md#prompt_probing" },
	[CLASS_CREDENTIAL_ABUSE] = { "credential_abuse", "security", "docs/runbooks.md#credential_abuse" },
	[CLASS_KEY_SHARING] = { "key_sharing", "security", "docs/runbooks.md#key_sharing" },
	[CLASS_TOKEN_GROWTH] = { "token_growth", "finance", "docs/runbooks.md#token_growth" },
	[CLASS_LATENCY_REGRESSION] = { "latency_regression", "sre", "docs/runbooks.md#latency_regression" },
	[CLASS_ERROR_BURST] = { "error_burst", "sre", "docs/runbooks.md#error_burst" },
	[CLASS_TRAFFIC_DROP] = { "traffic_drop", "sre", "docs/runbooks.md#traffic_drop" },
	[CLASS_UNBILLED_COMPUTE] = { "unbilled_compute", "finance", "docs/runbooks.md#unbilled_compute" },
	[CLASS_UNKNOWN] = { "unknown", "sre", "docs/runbooks.md#unknown" },
};

static const char *const kinds[ENTITY_KIND_COUNT] = {
	"global", "host", "server", "model", "network", "client_ip", "api_key", "user",
};

const char *anomaly_class_name(enum anomaly_class c)
{
	return classes[(unsigned int)c < CLASS_COUNT ? c : CLASS_UNKNOWN].name;
}

enum anomaly_class anomaly_class_of_name(struct span name)
{
	for (int c = 0; c < CLASS_COUNT; c++)
		if (span_eq(name, span_of(classes[c].name)))
			return (enum anomaly_class)c;
	return CLASS_COUNT;
}

const char *anomaly_event_name(enum anomaly_event e)
{
	return e == EVENT_OPEN ? "open" : e == EVENT_UPDATE ? "update" : "close";
}

const char *anomaly_severity_name(enum anomaly_severity s)
{
	return s == SEVERITY_INFO ? "info" : s == SEVERITY_WARNING ? "warning" : "critical";
}

const char *entity_kind_name(enum entity_kind k)
{
	return kinds[(unsigned int)k < ENTITY_KIND_COUNT ? k : ENTITY_GLOBAL];
}

const char *anomaly_team(enum anomaly_class c)
{
	return classes[(unsigned int)c < CLASS_COUNT ? c : CLASS_UNKNOWN].team;
}

const char *anomaly_runbook(enum anomaly_class c)
{
	return classes[(unsigned int)c < CLASS_COUNT ? c : CLASS_UNKNOWN].runbook;
}

void anomaly_write_json(struct str *out, const struct anomaly *a)
{
	json_begin(out, '{');
	json_kint(out, "v", 1);
	json_kstring(out, "event", span_of(anomaly_event_name(a->event)));
	json_kstring(out, "id", span_of(a->id));
	json_kstring(out, "class", span_of(anomaly_class_name(a->cls)));
	json_kstring(out, "severity", span_of(anomaly_severity_name(a->severity)));
	json_key(out, "scope");
	json_begin(out, '{');
	json_kstring(out, "kind", span_of(entity_kind_name(a->scope_kind)));
	json_kstring(out, "value", span_of(a->scope_value));
	json_end(out, '}');
	json_kdouble(out, "start", a->start, 3);
	json_kdouble(out, "detected", a->detected, 3);
	json_key(out, "end");
	if (a->end >= 0)
		json_double(out, a->end, 3);
	else
		json_null(out);
	json_kdouble(out, "score", a->score, 2);
	json_kdouble(out, "confidence", a->confidence, 3);
	json_kstring(out, "summary", span_of(a->summary));
	json_key(out, "evidence");
	json_begin(out, '[');
	for (size_t i = 0; i < a->evidence_count && i < ANOMALY_EVIDENCE_MAX; i++) {
		json_begin(out, '{');
		json_kstring(out, "feature", span_of(a->evidence[i].feature));
		json_kdouble(out, "observed", a->evidence[i].observed, 4);
		json_kdouble(out, "expected", a->evidence[i].expected, 4);
		json_kdouble(out, "sigma", a->evidence[i].sigma, 2);
		json_end(out, '}');
	}
	json_end(out, ']');
	json_key(out, "top");
	json_begin(out, '[');
	for (size_t i = 0; i < a->top_count && i < ANOMALY_TOP_MAX; i++) {
		json_begin(out, '{');
		json_kstring(out, "kind", span_of(entity_kind_name(a->top[i].kind)));
		json_kstring(out, "value", span_of(a->top[i].value));
		json_kdouble(out, "share", a->top[i].share, 3);
		json_end(out, '}');
	}
	json_end(out, ']');
	json_kstring(out, "team", span_of(anomaly_team(a->cls)));
	json_key(out, "cost_per_h");
	if (a->cost_per_h > 0)
		json_double(out, a->cost_per_h, 4);
	else
		json_null(out);
	if (a->expected_by) {
		json_kstring(out, "expected_by", span_of(a->expected_by));
	} else {
		json_key(out, "expected_by");
		json_null(out);
	}
	json_kstring(out, "runbook", span_of(anomaly_runbook(a->cls)));
	json_end(out, '}');
	str_addc(out, '\n');
}
