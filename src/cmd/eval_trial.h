/*
 * eval_trial.h - what the engine would see on this very traffic: attacks of our own making, laid into the user's records on
 * their way to the engine.
 *
 * Nothing is written. Attackers come from addresses reserved for documentation and benchmarks, so none is a real client.
 */
#ifndef WEIR_CMD_EVAL_TRIAL_H
#define WEIR_CMD_EVAL_TRIAL_H

#include "cmd/eval_case.h"
#include "decode/record.h"

#define TRIAL_TIMES_MAX 6	/* of one run, all over the file: peaks, nights, weekends */
#define TRIAL_LEVELS_MAX 6
#define TRIAL_APART_S 1800.0	/* at least, so that one is over before the next comes */
#define SITE_CUSTOMERS_MAX 65536 /* who are told apart; of more, only the first to come */
#define SITE_HOURS_MAX 17568	/* two years; a longer file is read, but tried in these only */
#define SITE_TEXT 256		/* bytes of a name that are kept */

enum trial_kind { TRIAL_FLOOD, TRIAL_DDOS, TRIAL_COST, TRIAL_LATENCY, TRIAL_ERRORS, TRIAL_DROP, TRIAL_KINDS };

/* Somebody whose spending can be driven up: by field, name, and what is usual for it. */
struct site_customer {
	enum record_field field;
	char name[SITE_TEXT];
	double tokens_per_min; /* in the minutes in which it asks for anything */
	double prompt, completion; /* tokens of a request */
};

/* What one reading of the file tells. */
struct site {
	double first, last, learnt; /* times; from `learnt` on false alarms count */
	uint64_t records, bad_lines, seen; /* seen: fields, as in record.has */
	float *hour; /* requests by hour since `first` */
	char model[SITE_TEXT]; /* the busiest */
	struct site_customer victim[TRIAL_TIMES_MAX];
	size_t victims;
	double at[TRIAL_TIMES_MAX]; /* when attacks are tried */
	double sensitivity; /* at which as many alarms as may ring are to be expected; 0: too little was seen */
	size_t times;
};

/* Reads the file through the engine as it is; ret_stream: what the engine said; alarms_per_week: those that may ring. -EINVAL: too short to learn from. */
int site_survey(const char *path, double alarms_per_week, struct eval_classes *classes, struct site *ret, struct eval_stream *ret_stream);
void site_done(struct site *s);

/* What the engine says of the file at another sensitivity. */
int site_retry(const char *path, double sensitivity, struct eval_classes *classes, struct eval_stream *ret);

/* How one attack fared. */
struct trial_sight {
	bool seen, right; /* spoken of with severity warning or more; with the right class */
	double delay_s;
	double score[CLASS_COUNT]; /* of what was said, by class; below 0: nothing of that class */
};

/* NULL: it can be tried. Else what the records lack for it. */
const char *trial_lacks(enum trial_kind kind, const struct site *site);
/* One reading of the file with attacks of this kind and level at all of site->at. */
int trial_run(const char *path, const struct site *site, enum trial_kind kind, double level, struct eval_classes *classes, struct trial_sight sight[TRIAL_TIMES_MAX]);
/* What the engine says at these times without any attack. */
int trial_blank(const struct site *site, enum trial_kind kind, const struct eval_stream *said, struct trial_sight sight[TRIAL_TIMES_MAX]);

const char *trial_name(enum trial_kind kind);
/* The levels that are tried, weakest first, and how one is told: "%.3gx the usual requests". */
const double *trial_levels(enum trial_kind kind, size_t *ret_n);
const char *trial_words(enum trial_kind kind);

#endif
