/* The figures, for programs and for people. */
#include "cmd/eval_score.h"

#include <math.h>
#include <stdarg.h>

#define NONE EVAL_CLASSES_MAX
#define CELL 48

/* Each figure that stands alone, by its name in JSON; the decimals that it deserves. */
static const struct {
	const char *name;
	size_t offset;
	int decimals;
} scalars[] = {
	{ "macro_f1", offsetof(struct eval_figures, macro_f1[EVAL_TOLD]), 4 },
	{ "macro_f1_opened", offsetof(struct eval_figures, macro_f1[EVAL_OPENED]), 4 },
	{ "macro_f1_3x", offsetof(struct eval_figures, macro_f1[EVAL_TOLD_3X]), 4 },
	{ "recall_any", offsetof(struct eval_figures, recall_any), 4 },
	{ "recall_any_not_collateral", offsetof(struct eval_figures, recall_direct), 4 },
	{ "f1_any", offsetof(struct eval_figures, f1_any), 4 },
	{ "scope_named", offsetof(struct eval_figures, scope_named), 4 },
	{ "scope_exact", offsetof(struct eval_figures, scope_exact), 4 },
	{ "flash_crowd_precision", offsetof(struct eval_figures, precision[EVAL_TOLD][CLASS_FLASH_CROWD]), 4 },
	{ "opens_per_event", offsetof(struct eval_figures, opens_per_event), 4 },
	{ "right_opens_per_event", offsetof(struct eval_figures, right_opens_per_event), 4 },
	{ "false_warnings_per_day", offsetof(struct eval_figures, false_warnings_per_day), 4 },
	{ "false_criticals_per_week", offsetof(struct eval_figures, false_criticals_per_week), 4 },
	{ "info_per_day", offsetof(struct eval_figures, info_per_day), 4 },
	{ "natural_opens_per_day", offsetof(struct eval_figures, natural_per_day), 4 },
	{ "false_alarm_time_share", offsetof(struct eval_figures, alarm_share), 6 },
};

static const char *const delays[EVAL_DELAY_CLASS] = { "delay_any_s", "delay_right_s", "delay_right_no_drift_s", "delay_volumetric_3x_s" };
static const char *const quantiles[EVAL_QUANTILES] = { "p50", "p95", "max" };

static double at(const struct eval_figures *f, size_t offset)
{
	double v;

	memcpy(&v, (const char *)f + offset, sizeof(v));
	return v;
}

static void write_pair(struct str *out, const char *key, double low, double high, int decimals)
{
	json_key(out, key);
	json_begin(out, '[');
	json_double(out, low, decimals);
	json_double(out, high, decimals);
	json_end(out, ']');
}

static void write_delay(struct str *out, const char *key, const double *v)
{
	json_key(out, key);
	json_begin(out, '{');
	for (int i = 0; i < EVAL_QUANTILES; i++)
		json_kdouble(out, quantiles[i], v[i], 3);
	json_end(out, '}');
}

/* It stands on a label, or was told wrongly. */
static bool class_matters(const struct eval_result *r, int k)
{
	return r->counts.labels[EVAL_TOLD][k] > 0 || r->counts.fp[EVAL_TOLD][k] > 0 || r->counts.fp[EVAL_OPENED][k] > 0;
}

static void write_class(struct str *out, const struct eval_result *r, int k)
{
	const struct eval_counts *c = &r->counts;
	const struct eval_figures *v = &r->value, *l = &r->low, *h = &r->high;

	json_key(out, anomaly_class_name((enum anomaly_class)k));
	json_begin(out, '{');
	json_kdouble(out, "labels", c->labels[EVAL_TOLD][k], 0);
	json_kdouble(out, "tp", c->tp[EVAL_TOLD][k], 0);
	json_kdouble(out, "fp", c->fp[EVAL_TOLD][k], 0);
	json_kdouble(out, "fn", c->labels[EVAL_TOLD][k] - c->tp[EVAL_TOLD][k], 0);
	json_kdouble(out, "precision", v->precision[EVAL_TOLD][k], 4);
	json_kdouble(out, "recall", v->recall[EVAL_TOLD][k], 4);
	json_kdouble(out, "f1", v->f1[EVAL_TOLD][k], 4);
	json_kdouble(out, "f1_opened", v->f1[EVAL_OPENED][k], 4);
	json_kdouble(out, "f1_3x", v->f1[EVAL_TOLD_3X][k], 4);
	write_delay(out, "delay_s", v->delay[EVAL_DELAY_CLASS + k]);
	if (r->resamples) {
		write_pair(out, "precision_95", l->precision[EVAL_TOLD][k], h->precision[EVAL_TOLD][k], 4);
		write_pair(out, "recall_95", l->recall[EVAL_TOLD][k], h->recall[EVAL_TOLD][k], 4);
		write_pair(out, "f1_95", l->f1[EVAL_TOLD][k], h->f1[EVAL_TOLD][k], 4);
	}
	json_end(out, '}');
}

static void write_tallies(struct str *out, const struct eval_result *r, const struct eval_classes *classes)
{
	json_key(out, "false_opens");
	json_begin(out, '{');
	for (int s = 0; s < 3; s++)
		json_kdouble(out, anomaly_severity_name((enum anomaly_severity)s), r->counts.false_opens[s], 0);
	json_end(out, '}');
	json_key(out, "false_per_day");
	json_begin(out, '{');
	for (int s = 0; s < 3; s++)
		json_kdouble(out, anomaly_severity_name((enum anomaly_severity)s), r->value.false_per_day[s], 4);
	json_end(out, '}');
	json_key(out, "false_by_cause");
	json_begin(out, '{');
	for (int k = 0; k < classes->n; k++) {
		if (r->false_by_cause[k] <= 0)
			continue;
		json_string(out, classes->name[k], strlen(classes->name[k])); /* out of a file: it may need escaping */
		str_addc(out, ':');
		json_double(out, r->false_by_cause[k], 0);
	}
	json_end(out, '}');
}

static void write_confusion(struct str *out, const struct eval_result *r, const struct eval_classes *classes)
{
	json_key(out, "confusion");
	json_begin(out, '{');
	for (int row = 0; row <= EVAL_SCORED; row++) {
		if (row < EVAL_SCORED && r->counts.labels[EVAL_TOLD][row] <= 0)
			continue;
		json_key(out, row == EVAL_SCORED ? "none" : anomaly_class_name((enum anomaly_class)row));
		json_begin(out, '{');
		for (int k = 0; k <= NONE; k++) {
			const char *name = k == NONE ? "none" : k < classes->n ? classes->name[k] : "";

			if (r->confusion[row][k] <= 0)
				continue;
			json_string(out, name, strlen(name));
			str_addc(out, ':');
			json_double(out, r->confusion[row][k], 0);
		}
		json_end(out, '}');
	}
	json_end(out, '}');
}

void eval_write_json(struct str *out, const struct eval_result *r, const struct eval_classes *classes)
{
	json_begin(out, '{');
	json_kuint(out, "streams", r->streams);
	json_kdouble(out, "days", r->counts.days, 4);
	json_kdouble(out, "labels", r->counts.truth, 0);
	json_kuint(out, "bad_lines", r->bad_lines);
	json_kuint(out, "names_left_out", r->names_left_out);
	for (size_t i = 0; i < ARRAY_SIZE(scalars); i++)
		json_kdouble(out, scalars[i].name, at(&r->value, scalars[i].offset), scalars[i].decimals);
	for (int k = 0; k < EVAL_DELAY_CLASS; k++)
		write_delay(out, delays[k], r->value.delay[k]);
	json_kdouble(out, "flash_crowds_called_attack", r->counts.crowds_as_attack, 0);
	json_kdouble(out, "attacks_seen_only_as_info", r->counts.only_info, 0);
	json_kdouble(out, "accepted_opens", r->counts.accepted, 0);
	write_tallies(out, r, classes);
	json_key(out, "classes");
	json_begin(out, '{');
	for (int k = 0; k < EVAL_SCORED; k++)
		if (class_matters(r, k))
			write_class(out, r, k);
	json_end(out, '}');
	write_confusion(out, r, classes);
	if (r->resamples) {
		json_key(out, "bootstrap");
		json_begin(out, '{');
		json_kuint(out, "resamples", r->resamples);
		json_kuint(out, "units", r->units);
		json_kdouble(out, "unit_s", r->unit_s > 0 ? r->unit_s : NAN, 0);
		for (size_t i = 0; i < ARRAY_SIZE(scalars); i++)
			write_pair(out, scalars[i].name, at(&r->low, scalars[i].offset), at(&r->high, scalars[i].offset), scalars[i].decimals);
		for (int k = 0; k < EVAL_DELAY_CLASS; k++) {
			char key[64];

			snprintf(key, sizeof(key), "%s_p95", delays[k]);
			write_pair(out, key, r->low.delay[k][EVAL_P95], r->high.delay[k][EVAL_P95], 3);
		}
		json_end(out, '}');
	}
	json_end(out, '}');
	str_addc(out, '\n');
}

/* ---- for people ------------------------------------------------------------------------------------- */

/* "0.91", "0.91 (0.85-0.95)", or "-". */
static void cell(char to[CELL], double v, double low, double high, int decimals)
{
	if (isnan(v))
		snprintf(to, CELL, "-");
	else if (isnan(low) || isnan(high))
		snprintf(to, CELL, "%.*f", decimals, v);
	else
		snprintf(to, CELL, "%.*f (%.*f-%.*f)", decimals, v, decimals, low, decimals, high);
}

static void add_line(struct str *out, const struct eval_result *r, const char *what, size_t offset, int decimals, const char *unit)
{
	char text[CELL];

	cell(text, at(&r->value, offset), at(&r->low, offset), at(&r->high, offset), decimals);
	str_addf(out, "  %-42s %s%s\n", what, text, text[0] == '-' && !text[1] ? "" : unit);
}

static void add_classes(struct str *out, const struct eval_result *r)
{
	const struct eval_figures *v = &r->value, *l = &r->low, *h = &r->high;

	str_addf(out, "\n%-19s %6s %4s %4s %4s  %-17s %-17s %-17s %6s %9s %8s\n", "class", "labels", "tp", "fp", "fn", "precision", "recall", "F1", "opened", "delay p50", "p95 s");
	for (int k = 0; k < EVAL_SCORED; k++) {
		const double *d = v->delay[EVAL_DELAY_CLASS + k];
		char p[CELL], rec[CELL], f[CELL], opened[CELL], p50[CELL], p95[CELL];

		if (!class_matters(r, k))
			continue;
		cell(p, v->precision[EVAL_TOLD][k], l->precision[EVAL_TOLD][k], h->precision[EVAL_TOLD][k], 2);
		cell(rec, v->recall[EVAL_TOLD][k], l->recall[EVAL_TOLD][k], h->recall[EVAL_TOLD][k], 2);
		cell(f, v->f1[EVAL_TOLD][k], l->f1[EVAL_TOLD][k], h->f1[EVAL_TOLD][k], 2);
		cell(opened, v->f1[EVAL_OPENED][k], NAN, NAN, 2);
		cell(p50, d[EVAL_P50], NAN, NAN, 1);
		cell(p95, d[EVAL_P95], NAN, NAN, 1);
		str_addf(out, "%-19s %6.0f %4.0f %4.0f %4.0f  %-17s %-17s %-17s %6s %9s %8s\n", anomaly_class_name((enum anomaly_class)k), r->counts.labels[EVAL_TOLD][k],
			 r->counts.tp[EVAL_TOLD][k], r->counts.fp[EVAL_TOLD][k], r->counts.labels[EVAL_TOLD][k] - r->counts.tp[EVAL_TOLD][k], p, rec, f, opened, p50, p95);
	}
}

static void add_confusion(struct str *out, const struct eval_result *r, const struct eval_classes *classes)
{
	bool used[EVAL_CLASSES_MAX + 1] = { 0 };

	for (int row = 0; row <= EVAL_SCORED; row++)
		for (int k = 0; k <= NONE; k++)
			used[k] |= r->confusion[row][k] > 0;
	str_addf(out, "\n%-19s", "truth \\ told");
	for (int k = 0; k <= NONE; k++)
		if (used[k])
			str_addf(out, " %8.8s", k == NONE ? "none" : classes->name[k]);
	str_addc(out, '\n');
	for (int row = 0; row <= EVAL_SCORED; row++) {
		if (row < EVAL_SCORED && r->counts.labels[EVAL_TOLD][row] <= 0)
			continue;
		str_addf(out, "%-19s", row == EVAL_SCORED ? "none" : anomaly_class_name((enum anomaly_class)row));
		for (int k = 0; k <= NONE; k++) {
			if (!used[k])
				continue;
			if (r->confusion[row][k] > 0)
				str_addf(out, " %8.0f", r->confusion[row][k]);
			else
				str_addf(out, " %8s", ".");
		}
		str_addc(out, '\n');
	}
}

void eval_write_text(struct str *out, const struct eval_result *r, const struct eval_classes *classes)
{
#define LINE(what, member, decimals, unit) add_line(out, r, what, offsetof(struct eval_figures, member), decimals, unit)
	str_addf(out, "%zu stream%s, %.1f days, %.0f labels", r->streams, r->streams == 1 ? "" : "s", r->counts.days, r->counts.truth);
	if (r->resamples && r->unit_s > 0)
		str_addf(out, "; in brackets: 95 %% interval over %zu stretches of %g %s\n\n", r->units, r->unit_s >= 3600 ? r->unit_s / 3600 : r->unit_s / 60,
			 r->unit_s >= 3600 ? "h" : "min");
	else if (r->resamples)
		str_addf(out, "; in brackets: 95 %% interval over streams\n\n");
	else
		str_adds(out, "\n\n");
	if (r->counts.truth > 0) {
		LINE("macro-F1, right class", macro_f1[EVAL_TOLD], 3, "");
		LINE("  as opened", macro_f1[EVAL_OPENED], 3, "");
		LINE("  at intensity 3 and more", macro_f1[EVAL_TOLD_3X], 3, "");
		LINE("recall, any class", recall_any, 3, "");
		LINE("  more than what follows from it", recall_direct, 3, "");
		LINE("F1, any class", f1_any, 3, "");
		LINE("right scope named", scope_named, 3, "");
		LINE("  and exactly that", scope_exact, 3, "");
		LINE("flash_crowd precision", precision[EVAL_TOLD][CLASS_FLASH_CROWD], 3, "");
		LINE("delay p50, any class", delay[EVAL_DELAY_ANY][EVAL_P50], 1, " s");
		LINE("delay p95, any class", delay[EVAL_DELAY_ANY][EVAL_P95], 1, " s");
		LINE("delay p50, right class", delay[EVAL_DELAY_RIGHT][EVAL_P50], 1, " s");
		LINE("delay p95, right class", delay[EVAL_DELAY_RIGHT][EVAL_P95], 1, " s");
		LINE("delay p95, flood and ddos from 3x on", delay[EVAL_DELAY_VOLUME][EVAL_P95], 1, " s");
		LINE("opens per event", opens_per_event, 2, "");
		LINE("  of the right class", right_opens_per_event, 2, "");
	}
	LINE("false warnings and criticals a day", false_warnings_per_day, 2, "");
	LINE("false criticals a week", false_criticals_per_week, 2, "");
	LINE("infos a day", info_per_day, 2, "");
	LINE("share of clean time in false alarm", alarm_share, 5, "");
	LINE("opens at natural shifts a day", natural_per_day, 2, "");
#undef LINE
	if (r->counts.truth > 0)
		add_classes(out, r);
	add_confusion(out, r, classes);
	if (r->counts.crowds_as_attack > 0)
		str_addf(out, "\nflash crowds called an attack: %.0f\n", r->counts.crowds_as_attack);
	if (r->counts.only_info > 0)
		str_addf(out, "attacks seen only as info: %.0f\n", r->counts.only_info);
	for (int k = 0; k < classes->n; k++)
		if (r->false_by_cause[k] > 0)
			str_addf(out, "false opens at %s: %.0f\n", classes->name[k], r->false_by_cause[k]);
	if (r->bad_lines)
		str_addf(out, "unreadable lines: %llu\n", (unsigned long long)r->bad_lines);
}
