#include "cmd/eval_judge.h"

/* What follows from a labelled event. */
enum follows { NOT, SAME /* where it is about the label's own actors */, ANY /* whatever it names */ };

static const uint8_t follows[EVAL_SCORED][EVAL_SCORED] = {
	[CLASS_FLOOD] = { [CLASS_LATENCY_REGRESSION] = ANY, [CLASS_ERROR_BURST] = ANY, [CLASS_COST_SPIKE] = SAME },
	[CLASS_DDOS] = { [CLASS_LATENCY_REGRESSION] = ANY, [CLASS_ERROR_BURST] = ANY, [CLASS_COST_SPIKE] = SAME },
	[CLASS_FLASH_CROWD] = { [CLASS_LATENCY_REGRESSION] = ANY, [CLASS_COST_SPIKE] = SAME },
	[CLASS_SCRAPING] = { [CLASS_LATENCY_REGRESSION] = ANY, [CLASS_ERROR_BURST] = ANY, [CLASS_COST_SPIKE] = SAME },
	[CLASS_COST_SPIKE] = { [CLASS_LATENCY_REGRESSION] = ANY, [CLASS_ERROR_BURST] = ANY, [CLASS_TOKEN_GROWTH] = SAME },
	[CLASS_KEY_SHARING] = { [CLASS_COST_SPIKE] = SAME },
	[CLASS_TOKEN_GROWTH] = { [CLASS_LATENCY_REGRESSION] = ANY, [CLASS_COST_SPIKE] = SAME },
	[CLASS_CREDENTIAL_ABUSE] = { [CLASS_ERROR_BURST] = ANY },
	[CLASS_ERROR_BURST] = { [CLASS_CREDENTIAL_ABUSE] = SAME },
};

static enum follows follows_from(const struct eval_label *l, int cls)
{
	return eval_is_scored(l->cls) && eval_is_scored(cls) ? (enum follows)follows[l->cls][cls] : NOT;
}

/* What a customer's own jump, or a model's own load, may look like. */
static bool natural_cause(int cause, int cls)
{
	if (cause == EVAL_NATURAL_LOAD)
		return cls == CLASS_LATENCY_REGRESSION || cls == CLASS_ERROR_BURST;
	if (cause != EVAL_NATURAL_SHIFT)
		return false;
	switch (cls) {
	case CLASS_FLOOD:
	case CLASS_FLASH_CROWD:
	case CLASS_COST_SPIKE:
	case CLASS_SCRAPING:
	case CLASS_TRAFFIC_DROP:
	case CLASS_LATENCY_REGRESSION:
	case CLASS_UNKNOWN:
		return true;
	default:
		return false;
	}
}

double eval_window_start(const struct eval_label *l)
{
	return l->start - EVAL_LEAD_S;
}

double eval_window_end(const struct eval_label *l)
{
	return l->end + (eval_is_drift(l->cls) ? EVAL_DRIFT_GRACE_S : EVAL_GRACE_S);
}

bool eval_is_about(const struct eval_incident *in, const struct eval_label *l)
{
	return eval_names_meet(&in->scopes, &l->actors) || eval_names_meet(&in->names, &l->actors);
}

bool eval_is_global(const struct eval_incident *in)
{
	return in->scopes.n == 0 || eval_names_of_kind(&in->scopes, "global");
}

enum aim { AIM_HERE, AIM_ELSEWHERE, AIM_NOBODY };

/* Whom does it speak of, where the label is about somebody? */
static enum aim aim_of(const struct eval_incident *in, const struct eval_label *l)
{
	const struct eval_names *sets[] = { &in->scopes, &in->names };
	bool named = false;

	if (!l->scoped || l->global || !l->has_actors || eval_is_about(in, l))
		return AIM_HERE;
	for (size_t s = 0; s < ARRAY_SIZE(sets); s++) {
		for (size_t i = 0; i < sets[s]->n; i++) {
			const char *kind = sets[s]->v[i].kind;

			if (!strcmp(kind, "global"))
				continue;
			named = true;
			if (eval_names_of_kind(&l->actors, kind))
				return AIM_ELSEWHERE;
		}
	}
	return named ? AIM_HERE : AIM_NOBODY;
}

static bool collateral(const struct eval_incident *in, int cls, const struct eval_label *l)
{
	enum follows f = follows_from(l, cls);

	return f == ANY || (f == SAME && (!l->has_actors || eval_is_about(in, l)));
}

/* May this label be what the incident speaks of? A drift lasts for hours: to fall into its time is not enough. */
static bool concerns(const struct eval_incident *in, int cls, const struct eval_label *l)
{
	switch (aim_of(in, l)) {
	case AIM_ELSEWHERE:
		return false;
	case AIM_NOBODY:
		return follows_from(l, cls) == ANY;
	default:
		return !eval_is_drift(l->cls) || l->cls == cls || eval_is_about(in, l) || collateral(in, cls, l);
	}
}

/* Of two labels that both would do: the one that it names, then the one that is no drift, then the later. */
static bool nearer(const struct eval_incident *in, const struct eval_label *a, const struct eval_label *b)
{
	if (!b)
		return true;
	if (eval_is_about(in, a) != eval_is_about(in, b))
		return eval_is_about(in, a);
	if (eval_is_drift(a->cls) != eval_is_drift(b->cls))
		return !eval_is_drift(a->cls);
	return a->start > b->start;
}

static bool accepts(const struct eval_label *l, const struct eval_incident *in, int cls)
{
	if (!l->accepts || in->severity > (int)l->accepted_severity)
		return false;
	for (size_t i = 0; i < l->accepted_count; i++)
		if (l->accepted[i] == cls)
			return true;
	return false;
}

struct eval_ruling eval_judge(const struct eval_incident *in, int cls, const struct eval_label *const *label, size_t n)
{
	const struct eval_label *right = NULL, *side = NULL, *other = NULL, *natural = NULL, *fine = NULL, *cause = NULL;
	bool about_scored = false;

	for (size_t i = 0; i < n; i++) {
		const struct eval_label *l = label[i];

		if (in->t < eval_window_start(l) || in->t > eval_window_end(l))
			continue;
		if (!fine && accepts(l, in, cls))
			fine = l;
		if (!eval_is_scored(l->cls)) {
			if (!natural && natural_cause(l->cls, cls) && (!l->has_actors || eval_is_about(in, l) || eval_is_global(in)))
				natural = l;
			if (l->cls != EVAL_NATURAL_SHIFT && l->cls != EVAL_NATURAL_LOAD && (!cause || l->end - l->start < cause->end - cause->start))
				cause = l;
		} else if (concerns(in, cls, l)) {
			about_scored |= eval_is_about(in, l);
			if (l->cls == cls && nearer(in, l, right))
				right = l;
			if (collateral(in, cls, l) && nearer(in, l, side))
				side = l;
			if (nearer(in, l, other))
				other = l;
		}
	}
	if (right)
		return (struct eval_ruling){ EVAL_RIGHT, right };
	if (side)
		return (struct eval_ruling){ EVAL_COLLATERAL, side };
	if (natural && !about_scored)
		return (struct eval_ruling){ EVAL_NATURAL, natural };
	if (other)
		return (struct eval_ruling){ cls == CLASS_UNKNOWN ? EVAL_VAGUE : EVAL_WRONG, other };
	if (fine)
		return (struct eval_ruling){ EVAL_ACCEPTED, fine };
	return (struct eval_ruling){ EVAL_FALSE, cause };
}
