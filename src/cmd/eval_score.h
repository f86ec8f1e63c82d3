/*
 * eval_score.h - labels and incidents of many streams to one table of figures, with their uncertainty.
 *
 * What happened is first counted by *units*: whole streams where there are many, else equal stretches of them. The figures are
 * functions of the sum over units, so that drawing units anew with replacement gives the 95 % intervals (bootstrap).
 */
#ifndef WEIR_CMD_EVAL_SCORE_H
#define WEIR_CMD_EVAL_SCORE_H

#include "cmd/eval_judge.h"

#define EVAL_UNITS_MIN 10	/* fewer streams than this are cut into stretches */
#define EVAL_STRETCHES 20	/* aimed at */
#define EVAL_STRETCHES_MAX 1000 /* days of a very long stream are put together */
#define EVAL_RESAMPLES 1000
#define EVAL_RESAMPLES_MAX 100000

enum eval_mode { EVAL_OPENED, EVAL_TOLD, EVAL_TOLD_3X, EVAL_MODES }; /* class as opened; as last told; that, of strong attacks only */
#define EVAL_STRONG 3.0 /* intensity from which an attack is strong */

/* Counts and times that add up over units. */
struct eval_counts {
	double labels[EVAL_MODES][EVAL_SCORED], tp[EVAL_MODES][EVAL_SCORED], fp[EVAL_MODES][EVAL_SCORED];
	double truth, hits, hits_direct;      /* labels; those that something spoke of; that more than collateral did */
	double opens, right_opens, right_hits; /* incidents that spoke of a label; rightly; labels with one */
	double scoped, named, exact;
	double false_opens[3], false_all, info, natural, accepted; /* by severity */
	double days, quiet_s, alarm_s;
	double only_info, crowds_as_attack;
};

enum eval_delay { EVAL_DELAY_ANY, EVAL_DELAY_RIGHT, EVAL_DELAY_RIGHT_FAST, EVAL_DELAY_VOLUME, EVAL_DELAY_CLASS, EVAL_DELAYS = EVAL_DELAY_CLASS + EVAL_SCORED };
enum { EVAL_P50, EVAL_P95, EVAL_MAX, EVAL_QUANTILES };

/* NAN: there is nothing to tell it from. */
struct eval_figures {
	double macro_f1[EVAL_MODES];
	double precision[EVAL_MODES][EVAL_SCORED], recall[EVAL_MODES][EVAL_SCORED], f1[EVAL_MODES][EVAL_SCORED];
	double recall_any, recall_direct, f1_any, scope_named, scope_exact;
	double opens_per_event, right_opens_per_event;
	double false_per_day[3], false_warnings_per_day, false_criticals_per_week, info_per_day, natural_per_day, alarm_share;
	double delay[EVAL_DELAYS][EVAL_QUANTILES];
};

struct eval_result {
	size_t streams, units;
	double unit_s; /* 0: units are whole streams */
	uint64_t bad_lines, names_left_out;
	struct eval_counts counts;
	struct eval_figures value, low, high; /* low, high: NAN where there was no bootstrap */
	uint32_t resamples;
	double confusion[EVAL_SCORED + 1][EVAL_CLASSES_MAX + 1]; /* truth, the last row none; told, the last column none */
	double false_by_cause[EVAL_CLASSES_MAX];
};

struct eval_opts {
	double warmup_s; /* NAN: what each stream.json says */
	uint32_t resamples; /* 0: no intervals */
	uint64_t seed;
};

/* -ENOMEM. */
int eval_score(const struct eval_stream *stream, size_t n, const struct eval_opts *opts, struct eval_result *ret);

/* The pieces, for eval_score() and the tests. */
struct eval_wait { /* one delay */
	double s;
	uint32_t unit;
};
struct eval_waits {
	struct eval_wait *v; /* sorted by s */
	size_t n, cap;
};
/* Quantile q (0..1) between the two nearest, each wait counted times[unit] times; times NULL: once. NAN: none. */
double eval_quantile(const struct eval_waits *w, const uint32_t *times, double q);
void eval_figures_of(const struct eval_counts *c, const struct eval_waits *waits, const uint32_t *times, struct eval_figures *ret);
/* low and high of the result, from its units. */
int eval_bootstrap(const struct eval_counts *unit, const struct eval_waits *waits, const struct eval_opts *opts, struct eval_result *ret);

/* 95 % bounds of a rate of which k were counted in so much time (Poisson; exact where there were none). */
void eval_rate_bounds(double k, double time, double *ret_low, double *ret_high);

/* Output: one JSON object with a newline; a table for people. */
void eval_write_json(struct str *out, const struct eval_result *r, const struct eval_classes *classes);
void eval_write_text(struct str *out, const struct eval_result *r, const struct eval_classes *classes);

#endif
