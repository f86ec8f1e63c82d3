/* eval_judge.h - what one incident is worth: which label it speaks of, and whether it is right about it. */
#ifndef WEIR_CMD_EVAL_JUDGE_H
#define WEIR_CMD_EVAL_JUDGE_H

#include "cmd/eval_case.h"

#define EVAL_LEAD_S 30.0	 /* an incident may come so long before its label */
#define EVAL_GRACE_S 120.0	 /* and so long after its end */
#define EVAL_DRIFT_GRACE_S 3600.0 /* a drift is seen late or not at all */

enum eval_verdict {
	EVAL_RIGHT,	 /* the label's class */
	EVAL_COLLATERAL, /* what follows from the label: neither right nor wrong */
	EVAL_WRONG,	 /* another class, at the label's time and about nobody else */
	EVAL_VAGUE,	 /* "unknown", there */
	EVAL_NATURAL,	 /* a customer or model that moved by itself */
	EVAL_ACCEPTED,	 /* a benign cause for which so quiet an event is in order */
	EVAL_FALSE,
};

struct eval_ruling {
	enum eval_verdict verdict;
	const struct eval_label *label; /* NULL: none; of EVAL_FALSE: the benign cause at that time */
};

/* `cls`: the incident's class as it was opened, or as it was last told. */
struct eval_ruling eval_judge(const struct eval_incident *in, int cls, const struct eval_label *const *label, size_t n);

/* The time in which an incident may belong to the label. */
double eval_window_start(const struct eval_label *l);
double eval_window_end(const struct eval_label *l);
/* It names one of the label's actors. */
bool eval_is_about(const struct eval_incident *in, const struct eval_label *l);
bool eval_is_global(const struct eval_incident *in);

static inline bool eval_is_scored(int cls)
{
	return cls < EVAL_SCORED;
}
static inline bool eval_is_drift(int cls)
{
	return cls == CLASS_TOKEN_GROWTH;
}

#endif
