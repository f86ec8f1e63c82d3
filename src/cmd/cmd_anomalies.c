/* weir anomalies - what was raised, how it ended, and what people said of it. */
#include "base/log.h"
#include "cmd/cmd.h"
#include "cmd/options.h"
#include "cmd/state.h"
#include "decode/record_parse.h"
#include "sink/text.h"
#include "store/store.h"

#include <math.h>
#include <time.h>

#define BUSY_MS 10000

struct anomalies {
	bool json, open;
	char *state;
	struct store_filter filter;
	char scope[2 * STORE_TEXT]; /* each byte may need a backslash's worth of brackets */
	/* while printing */
	char zone[48];
	double now;
	uint64_t shown;
};

/* ---- options --------------------------------------------------------------------------------------------- */
static double wall_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int class_set(void *into, const char *value)
{
	struct anomalies *a = into;

	a->filter.cls = anomaly_class_of_name(span_of(value));
	return a->filter.cls == CLASS_COUNT ? -EINVAL : 0;
}

static int severity_set(void *into, const char *value)
{
	struct anomalies *a = into;

	for (int s = SEVERITY_INFO; s <= SEVERITY_CRITICAL; s++) {
		if (strcmp(value, anomaly_severity_name((enum anomaly_severity)s)))
			continue;
		a->filter.severity = (enum anomaly_severity)s;
		return 0;
	}
	return -EINVAL;
}

/* "90m": so long ago; or a time as records have it. */
static int since_set(void *into, const char *value)
{
	static const struct {
		char unit;
		double s;
	} units[] = { { 's', 1 }, { 'm', 60 }, { 'h', 3600 }, { 'd', 86400 }, { 'w', 604800 } };
	struct anomalies *a = into;
	char *end;
	double v;

	a->filter.since_given = true;
	errno = 0;
	v = strtod(value, &end);
	if (!errno && end != value && isfinite(v) && v >= 0 && *end && !end[1]) {
		for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
			if (units[i].unit != *end)
				continue;
			a->filter.since = wall_now() - v * units[i].s;
			return 0;
		}
	}
	return record_parse_time(span_of(value), &a->filter.since) ? -EINVAL : 0;
}

/* kind:value where the first part is a kind; an IPv6 address has colons, too. Only `*` is special in a value. */
static int scope_set(void *into, const char *value)
{
	struct anomalies *a = into;
	const char *colon = strchr(value, ':');
	size_t n = 0;

	a->filter.scope_kind = -1;
	for (int k = 0; k < ENTITY_KIND_COUNT; k++) {
		const char *name = entity_kind_name((enum entity_kind)k);
		size_t len = strlen(name);

		if (strncmp(value, name, len) || (value[len] && value[len] != ':'))
			continue;
		a->filter.scope_kind = k;
		value = colon ? colon + 1 : "*";
		break;
	}
	for (; *value && n + 4 < sizeof(a->scope); value++) {
		if (strchr("?[", *value)) {
			a->scope[n++] = '[';
			a->scope[n++] = *value;
			a->scope[n++] = ']';
		} else {
			a->scope[n++] = *value;
		}
	}
	a->scope[n] = '\0';
	a->filter.scope_value = a->scope;
	return *value ? -ERANGE : 0;
}

#define AT(member) offsetof(struct anomalies, member)

static const struct option_row rows[] = {
	{ "json", OPTION_FLAG, AT(json), 0, 0, NULL, "one JSON object per incident: its last event, and how it stands", NULL },
	{ "class", OPTION_CALL, 0, 0, 0, "CLASS", "only this class", class_set },
	{ "severity", OPTION_CALL, 0, 0, 0, "info|warning|critical", "only this severe or worse", severity_set },
	{ "since", OPTION_CALL, 0, 0, 0, "TIME", "not those that were over before: 90m, 12h, 7d, or a time as in records", since_set },
	{ "scope", OPTION_CALL, 0, 0, 0, "[KIND:]VALUE", "only this client, key, user, model ...; * stands for anything", scope_set },
	{ "open", OPTION_FLAG, AT(open), 0, 0, NULL, "only what is not over", NULL },
	{ "state", OPTION_TEXT, AT(state), 0, 0, "DIR", "the agent's --state (" STATE_DEFAULT ")", NULL },
};

/* ---- output ---------------------------------------------------------------------------------------------- */
static void add_time(struct str *out, double t)
{
	time_t s = fabs(t) < 4e11 ? (time_t)floor(t) : 0;
	char text[32] = "?";
	struct tm tm;

	if (localtime_r(&s, &tm))
		strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &tm);
	str_adds(out, text);
}

static void add_label(struct str *out, const struct store_incident *in)
{
	str_addf(out, "    %s, said ", in->true_positive ? "true positive" : "false positive");
	text_add_safe(out, in->by);
	str_adds(out, " on ");
	add_time(out, in->label_at);
	if (*in->note) {
		str_adds(out, ": ");
		text_add_safe(out, in->note);
	}
	if (in->suppressed)
		str_addf(out, "; %llu later alarm%s kept quiet", (unsigned long long)in->suppressed, in->suppressed == 1 ? " was" : "s were");
	str_addc(out, '\n');
}

static void add_person(struct str *out, const struct store_incident *in)
{
	add_time(out, in->start);
	str_addf(out, "  %-8s  %-18s  ", anomaly_severity_name(in->severity), anomaly_class_name(in->cls));
	text_add_scope(out, in->scope_kind, in->scope_value);
	if (in->closed < 0) {
		str_adds(out, ", open");
	} else {
		str_adds(out, ", over after ");
		text_add_duration(out, MAX(in->end, in->start) - in->start);
	}
	if (in->opens > 1)
		str_addf(out, ", came back %llu time%s", (unsigned long long)in->opens - 1, in->opens == 2 ? "" : "s");
	str_adds(out, "\n    ");
	text_add_safe(out, in->summary);
	str_adds(out, "\n    id ");
	text_add_safe(out, in->id);
	str_addc(out, '\n');
	if (in->labelled)
		add_label(out, in);
}

/* The event as it was told, and behind its fields those of the store. */
static void add_json(struct str *out, const struct store_incident *in)
{
	size_t n = strlen(in->event);

	str_add(out, in->event, n && in->event[n - 1] == '}' ? n - 1 : n);
	json_kstring(out, "state", span_of(in->closed < 0 ? "open" : "closed"));
	json_kdouble(out, "opened", in->opened, 3);
	json_kdouble(out, "updated", in->updated, 3);
	json_key(out, "closed");
	if (in->closed < 0)
		json_null(out);
	else
		json_double(out, in->closed, 3);
	json_kuint(out, "opens", in->opens);
	json_kstring(out, "worst_severity", span_of(anomaly_severity_name(in->severity)));
	json_key(out, "label");
	if (!in->labelled) {
		json_null(out);
	} else {
		json_begin(out, '{');
		json_kstring(out, "verdict", span_of(in->true_positive ? "true_positive" : "false_positive"));
		json_kstring(out, "note", span_of(in->note));
		json_kstring(out, "by", span_of(in->by));
		json_kdouble(out, "at", in->label_at, 3);
		json_kuint(out, "suppressed", in->suppressed);
		json_end(out, '}');
	}
	json_end(out, '}');
	str_addc(out, '\n');
}

static int on_incident(void *ctx, const struct store_incident *in)
{
	struct anomalies *a = ctx;
	struct str out = { 0 };
	int r;

	if (a->json)
		add_json(&out, in);
	else
		add_person(&out, in);
	r = str_error(&out);
	if (r == 0 && fwrite(out.p, 1, out.n, stdout) != out.n)
		r = errno ? -errno : -EIO;
	str_done(&out);
	a->shown++;
	return r;
}

static int anomalies_show(struct store *s, struct anomalies *a)
{
	time_t t = (time_t)a->now;
	struct tm tm;
	int r;

	if (!a->json && localtime_r(&t, &tm)) {
		strftime(a->zone, sizeof(a->zone), "-- times in %Z (UTC%z)", &tm);
		puts(a->zone);
	}
	a->filter.open = a->open;
	r = store_each_incident(s, &a->filter, on_incident, a);
	if (r == 0 && fflush(stdout) == EOF)
		r = -errno;
	if (r == -EPIPE)
		return 0; /* the reader has seen enough */
	if (r < 0)
		log_error("cannot show all: %s", *store_error(s) ? store_error(s) : strerror(-r));
	else if (!a->shown && !a->json)
		log_info("no incidents%s", a->open || a->filter.since_given || a->filter.scope_value || a->filter.cls != CLASS_COUNT || a->filter.severity ? " of that kind" : "");
	return r;
}

int cmd_anomalies(int argc, char **argv)
{
	struct anomalies a = { .filter = { .cls = CLASS_COUNT, .scope_kind = -1 } };
	int r = options_parse(rows, ARRAY_SIZE(rows), &a, "anomalies [OPTION...]", argc, argv, NULL), status;
	struct store *s = NULL;
	char why[STORE_WHY];

	if (r) {
		options_done(rows, ARRAY_SIZE(rows), &a);
		return r < 0 ? EXIT_USAGE : 0;
	}
	a.now = wall_now();
	r = store_open(a.state ? a.state : STATE_DEFAULT, STORE_READ, BUSY_MS, why, &s);
	if (r < 0) {
		log_error("%s", why);
		status = r == -ENOENT || r == -ENOTDIR ? EXIT_USAGE : EXIT_FAILURE;
	} else {
		status = anomalies_show(s, &a) < 0 ? EXIT_FAILURE : 0;
	}
	store_close(s, false);
	options_done(rows, ARRAY_SIZE(rows), &a);
	return status;
}
