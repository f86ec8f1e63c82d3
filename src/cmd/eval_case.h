/*
 * eval_case.h - what weir eval judges: labels, and the incidents that a detector's events make up.
 *
 * A label says what was done to a stream of records, by whom and when. An incident is an open with its updates and its close.
 * Both are read from files that anybody may have written: every entry is checked, and what is wrong is said as file:line or
 * file: label N.
 */
#ifndef WEIR_CMD_EVAL_CASE_H
#define WEIR_CMD_EVAL_CASE_H

#include "cmd/eval_names.h"

#define EVAL_SCORED CLASS_UNBILLED_COMPUTE /* classes below it may stand on a label and count; the order of the enum */
#define EVAL_LABELS_MAX (1u << 20)	   /* of one stream */
#define EVAL_INCIDENTS_MAX (1u << 22)	   /* of one stream: a detector that rings 50 times a second for a day */
#define EVAL_LINE_MAX (1u << 20)	   /* bytes of an event; ours have some 2,000 */
#define EVAL_STREAMS_MAX 4096

struct eval_label {
	char *id;
	int cls;
	double start, end, intensity;
	bool benign;
	bool scoped, global; /* it says whom it is about; that is everybody */
	struct eval_name scope;
	bool has_actors;
	struct eval_names actors; /* the scope among them, where it is not global */
	bool accepts;
	int *accepted;
	size_t accepted_count;
	enum anomaly_severity accepted_severity;
};

struct eval_turn { /* the class as it is told from t on */
	double t;
	int cls;
};

struct eval_incident {
	char *id;
	double t;   /* first told with severity warning or more; else its opening */
	double end; /* NAN: never closed */
	int opened, final;
	int severity; /* the worst; -1 before the first event */
	double score; /* the highest; 0 where none was told */
	bool alerted;
	struct eval_turn *turn;
	size_t turns;
	struct eval_names names, scopes; /* the top contributors; who it is about */
};

struct eval_stream {
	struct eval_label *label;
	size_t labels;
	struct eval_incident *incident;
	size_t incidents;
	double start, end, warmup; /* NAN: stream.json does not say (warmup: 0) */
	uint64_t bad_lines, names_left_out;
};

#define EVAL_WHY 512
/* Labels, and stream.json beside them where there is one. -EBADMSG and others: `why` says what is wrong, the path in front. */
int eval_read_labels(const char *path, struct eval_classes *classes, struct eval_stream *s, char why[EVAL_WHY]);
/* Events. A line that is no event is counted and told to `complain`; a file that holds nothing else is -EBADMSG. */
int eval_read_events(const char *path, struct eval_classes *classes, struct eval_stream *s, void (*complain)(const char *message), char why[EVAL_WHY]);
void eval_stream_done(struct eval_stream *s);

/* The same line by line, for events that are in no file. */
struct eval_book;
int eval_book_open(struct eval_classes *classes, struct eval_stream *s, struct eval_book **ret);
/* 0; -EBADMSG: no event, *ret_bad says why; -ENOMEM, -E2BIG. */
int eval_book_take(struct eval_book *b, const char *line, size_t n, const char **ret_bad);
struct eval_book *eval_book_free(struct eval_book *b);
static inline void eval_book_freep(struct eval_book **b)
{
	eval_book_free(*b);
}

#endif
