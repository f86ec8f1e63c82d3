#include "sink/fields.h"

#include "sink/text.h"

/* Numbers as in JSON, so that the same value reads the same in every sink. */
static void put_number(struct str *out, double v, int decimals)
{
	struct str number = { 0 };

	json_double(&number, v, decimals);
	if (str_error(&number) < 0)
		out->error = out->error ? out->error : str_error(&number);
	else if (strcmp(number.p, "null"))
		str_adds(out, number.p);
	str_done(&number);
}

static void put_class(struct str *out, const struct anomaly *a)
{
	str_adds(out, anomaly_class_name(a->cls));
}

static void put_event(struct str *out, const struct anomaly *a)
{
	str_adds(out, anomaly_event_name(a->event));
}

static void put_id(struct str *out, const struct anomaly *a)
{
	text_add_safe(out, a->id);
}

static void put_severity(struct str *out, const struct anomaly *a)
{
	str_adds(out, anomaly_severity_name(a->severity));
}

static void put_entity(struct str *out, enum entity_kind kind, const char *value)
{
	str_adds(out, entity_kind_name(kind));
	if (kind == ENTITY_GLOBAL)
		return;
	str_addc(out, ':');
	text_add_safe(out, value);
}

static void put_scope(struct str *out, const struct anomaly *a)
{
	put_entity(out, a->scope_kind, a->scope_value);
}

static void put_scope_kind(struct str *out, const struct anomaly *a)
{
	str_adds(out, entity_kind_name(a->scope_kind));
}

static void put_scope_value(struct str *out, const struct anomaly *a)
{
	text_add_safe(out, a->scope_value);
}

static void put_feature(struct str *out, const struct anomaly *a)
{
	if (a->evidence_count)
		text_add_safe(out, a->evidence[0].feature);
}

static void put_observed(struct str *out, const struct anomaly *a)
{
	if (a->evidence_count)
		put_number(out, a->evidence[0].observed, 6);
}

static void put_expected(struct str *out, const struct anomaly *a)
{
	if (a->evidence_count)
		put_number(out, a->evidence[0].expected, 6);
}

static void put_evidence(struct str *out, const struct anomaly *a)
{
	for (size_t i = 0; i < a->evidence_count && i < ANOMALY_EVIDENCE_MAX; i++) {
		const struct anomaly_evidence *e = &a->evidence[i];

		str_adds(out, i ? "; " : "");
		text_add_safe(out, e->feature);
		str_adds(out, " observed ");
		put_number(out, e->observed, 6);
		str_adds(out, " expected ");
		put_number(out, e->expected, 6);
		str_adds(out, " sigma ");
		put_number(out, e->sigma, 2);
	}
}

static void put_score(struct str *out, const struct anomaly *a)
{
	put_number(out, a->score, 3);
}

static void put_confidence(struct str *out, const struct anomaly *a)
{
	put_number(out, a->confidence, 3);
}

static void put_start(struct str *out, const struct anomaly *a)
{
	put_number(out, a->start, 3);
}

static void put_detected(struct str *out, const struct anomaly *a)
{
	put_number(out, a->detected, 3);
}

static void put_end(struct str *out, const struct anomaly *a)
{
	if (a->end >= 0)
		put_number(out, a->end, 3);
}

static void put_team(struct str *out, const struct anomaly *a)
{
	str_adds(out, anomaly_team(a->cls));
}

static void put_runbook(struct str *out, const struct anomaly *a)
{
	str_adds(out, anomaly_runbook(a->cls));
}

static void put_top(struct str *out, const struct anomaly *a)
{
	for (size_t i = 0; i < a->top_count && i < ANOMALY_TOP_MAX; i++) {
		str_adds(out, i ? " " : "");
		put_entity(out, a->top[i].kind, a->top[i].value);
		str_addc(out, '=');
		put_number(out, a->top[i].share, 3);
	}
}

const struct sink_field sink_fields[] = {
	{ "class", put_class },
	{ "event", put_event },
	{ "id", put_id },
	{ "severity", put_severity },
	{ "scope", put_scope },
	{ "scope_kind", put_scope_kind },
	{ "scope_value", put_scope_value },
	{ "feature", put_feature },
	{ "observed", put_observed },
	{ "expected", put_expected },
	{ "evidence", put_evidence },
	{ "score", put_score },
	{ "confidence", put_confidence },
	{ "start", put_start },
	{ "detected", put_detected },
	{ "end", put_end },
	{ "team", put_team },
	{ "runbook", put_runbook },
	{ "top", put_top },
	{ NULL, NULL },
};
