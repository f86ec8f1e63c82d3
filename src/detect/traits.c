#include "detect/traits.h"

#include <math.h>

#include "detect/engine.h"

#define NEAR_BITS 12   /* of 64: unrelated prompts differ in 32 +- 4 */
#define NEAR_BACK 16
#define TABLE 1024     /* > TRAITS_SAMPLE */
#define GAP_SOURCES 64 /* addresses whose rhythm is looked at */
#define GAPS_MANY 12   /* that have quartiles; */
#define NORMAL_QUARTILES 1.349 /* of a normal distribution, in sd: of exponential gaps the measure is 1.17 then */

static const char *const names[TRAIT_COUNT] = {
	"requests_per_s", "gap_cv", "distinct_prompt_share", "near_duplicate_share", "same_prompt_share", "injection_score", "prompt_entropy_bits",
	"prompt_tokens_log", "prompt_tokens_log_sd", "completion_tokens_log", "completion_tokens_log_sd", "at_cap_share", "logprobs_share", "auth_error_share",
	"refused_share", "rate_limited_share", "failed_share", "aborted_share", "cached_share", "addresses_per_request", "networks_per_address", "effective_agents", "top_agent_share",
	"keys_per_address", "keyless_share", "new_address_share", "per_address_cv", "ttft_log", "tpot_log",
};

/* The least deviation worth a name, whatever the past says; in the trait's own unit. */
static const float least_sd[TRAIT_COUNT] = {
	[T_RATE] = 0.05f, [T_GAP_CV] = 0.15f, [T_DISTINCT] = 0.08f, [T_NEAR] = 0.08f, [T_SAME] = 0.08f, [T_INJECTION] = 0.04f, [T_ENTROPY] = 0.15f,
	[T_PROMPT] = 0.2f, [T_PROMPT_SD] = 0.15f, [T_COMPLETION] = 0.2f, [T_COMPLETION_SD] = 0.15f, [T_CAP] = 0.06f, [T_LOGPROBS] = 0.05f, [T_AUTH] = 0.03f,
	[T_REFUSED] = 0.04f, [T_LIMITED] = 0.04f, [T_FAILED] = 0.03f, [T_ABORTED] = 0.04f, [T_CACHED] = 0.1f, [T_SOURCES] = 0.1f, [T_NETWORKS] = 0.1f, [T_AGENTS] = 0.5f,
	[T_TOP_AGENT] = 0.1f, [T_KEYS] = 0.2f, [T_KEYLESS] = 0.1f, [T_FRESH] = 0.05f, [T_EVEN] = 0.2f, [T_TTFT] = 0.15f, [T_TPOT] = 0.1f,
};

const char *trait_name(enum trait k)
{
	return names[k];
}

void traits_add(struct traits_set *s, const struct moment *m)
{
	if (m->what & MOMENT_ARRIVAL && s->as < TRAITS_SAMPLE)
		s->a[s->as++] = m;
	if (m->what & MOMENT_DONE && s->cs < TRAITS_SAMPLE)
		s->c[s->cs++] = m;
}

void traits_gather(const struct detect *d, const struct entity *e, int32_t since, struct traits_set *s)
{
	int chain = e->kind == ENTITY_CLIENT_IP ? WHO_IP : e->kind == ENTITY_API_KEY ? WHO_KEY : WHO_USER;
	const struct moment *m;

	s->as = s->cs = 0;
	if (!is_identity(e)) {
		traits_gather_all(d, since, s);
		return;
	}
	for (uint32_t seq = e->recent; (m = recent_at(&d->recent, seq)) && m->tick > since && m->tick >= e->born; seq = m->prev[chain]) {
		traits_add(s, m);
		if (s->as == TRAITS_SAMPLE && s->cs == TRAITS_SAMPLE)
			break;
	}
}

void traits_gather_all(const struct detect *d, int32_t since, struct traits_set *s)
{
	const struct moment *m;

	s->as = s->cs = 0;
	for (uint32_t seq = recent_newest(&d->recent); (m = recent_at(&d->recent, seq)) && m->tick > since; seq--) {
		traits_add(s, m);
		if (s->as == TRAITS_SAMPLE && s->cs == TRAITS_SAMPLE)
			break;
	}
}

/* Counts distinct values: open addressing, weights summed. 0 is no value. */
struct tally {
	uint64_t key[TABLE];
	float w[TABLE];
	unsigned int n;
	double total;
};

static unsigned int tally_add(struct tally *t, uint64_t key, double w)
{
	unsigned int i = (unsigned int)(key * UINT64_C(0x9e3779b97f4a7c15) >> 40) % TABLE;

	while (t->key[i] && t->key[i] != key)
		i = (i + 1) % TABLE;
	if (!t->key[i]) {
		t->key[i] = key;
		t->n++;
	}
	t->w[i] += (float)w;
	t->total += w;
	return i;
}

static double tally_perplexity(const struct tally *t, double *ret_top)
{
	double h = 0, top = 0;

	for (unsigned int i = 0; i < TABLE; i++) {
		double p = t->key[i] ? (double)t->w[i] / t->total : 0;

		if (p > 0)
			h -= p * log(p);
		top = MAX(top, p);
	}
	*ret_top = top;
	return exp(h);
}

static double tally_most(const struct tally *t)
{
	float most = 0;

	for (unsigned int i = 0; i < TABLE; i++)
		most = MAX(most, t->w[i]);
	return (double)most;
}

static double tally_cv(const struct tally *t)
{
	double mean = t->total / t->n, v = 0;

	for (unsigned int i = 0; i < TABLE; i++)
		if (t->key[i])
			v += ((double)t->w[i] - mean) * ((double)t->w[i] - mean);
	/* Poisson counts of equal sources vary by themselves: what is above it. */
	return sqrt(MAX(v / t->n - mean, 0.0)) / mean;
}

struct moments {
	double n, sum, sq;
};

static void moments_add(struct moments *m, double x, double w)
{
	m->n += w;
	m->sum += x * w;
	m->sq += x * x * w;
}

static double moments_mean(const struct moments *m)
{
	return m->n > 0 ? m->sum / m->n : (double)NAN;
}

static double moments_sd(const struct moments *m)
{
	double mean;

	if (m->n < 3)
		return (double)NAN;
	mean = m->sum / m->n;
	return sqrt(MAX(m->sq / m->n - mean * mean, 0.0) * m->n / (m->n - 1));
}

static double when(const struct moment *m)
{
	return m->tick + m->ms / 1000.0;
}

static int by_size(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

/* Spread of gaps over their size. Of many by their quartiles: a machine that pauses, or has just begun, is one all the same. */
static double spread_of(float *gap, unsigned int n)
{
	struct moments m = { 0 };
	double mean, median;

	if (n >= GAPS_MANY) {
		qsort(gap, n, sizeof(*gap), by_size);
		median = (double)gap[n / 2];
		if (median > 0)
			return (double)(gap[n * 3 / 4] - gap[n / 4]) / (NORMAL_QUARTILES * median);
	}
	for (unsigned int i = 0; i < n; i++)
		moments_add(&m, (double)gap[i], 1);
	mean = moments_mean(&m);
	return mean > 0 ? moments_sd(&m) / mean : (double)NAN;
}

/* Sources in the order in which they are met; the rhythm of each apart, pooled with as much weight as it has gaps. */
static double gap_cv(const struct traits_set *s)
{
	struct {
		uint32_t who;
		double last;
	} src[GAP_SOURCES];
	float gap[TRAITS_SAMPLE], one[TRAITS_SAMPLE];
	uint8_t of[TRAITS_SAMPLE];
	unsigned int n = 0, gaps = 0;
	double sum = 0, w = 0;

	for (unsigned int i = 0; i < s->as; i++) {
		const struct moment *m = s->a[i];
		uint32_t who = m->who[WHO_KEY] != NOBODY ? m->who[WHO_KEY] : m->who[WHO_IP];
		unsigned int k = 0;

		while (k < n && src[k].who != who)
			k++;
		if (k == n) {
			if (n == GAP_SOURCES)
				continue;
			src[n++].who = who;
		} else {
			of[gaps] = (uint8_t)k;
			gap[gaps++] = (float)(src[k].last - when(m));
		}
		src[k].last = when(m);
	}
	for (unsigned int k = 0; k < n; k++) {
		unsigned int ones = 0;
		double spread;

		for (unsigned int i = 0; i < gaps; i++)
			if (of[i] == k)
				one[ones++] = gap[i];
		if (ones < 5)
			continue;
		spread = spread_of(one, ones);
		if (isnan(spread))
			continue;
		sum += spread * ones;
		w += ones;
	}
	return w > 0 ? sum / w : (double)NAN;
}

static void prompts(const struct traits_set *s, struct traits *t)
{
	struct tally *seen = calloc(1, sizeof(*seen));
	unsigned int hashed = 0, near = 0, simmed = 0;
	struct moments injection = { 0 }, entropy = { 0 };

	for (unsigned int i = 0; i < s->as; i++) {
		const struct moment *m = s->a[i];

		if (m->prompt_hash && seen) {
			tally_add(seen, m->prompt_hash, 1);
			hashed++;
		}
		if (m->injection != ABSENT8)
			moments_add(&injection, m->injection / 200.0, 1);
		if (m->entropy != ABSENT8)
			moments_add(&entropy, m->entropy / 31.0, 1);
		if (!(m->flags & MOMENT_SIM))
			continue;
		simmed++;
		for (unsigned int k = i + 1; k < s->as && k <= i + NEAR_BACK; k++) {
			const struct moment *o = s->a[k];

			/* Another prompt: by its hash, where both have one, for a small edit of a long one may leave the sketch as it is. */
			if (o->flags & MOMENT_SIM && (m->prompt_hash && o->prompt_hash ? o->prompt_hash != m->prompt_hash : o->sim != m->sim) &&
			    __builtin_popcountll(o->sim ^ m->sim) <= NEAR_BITS) {
				near++;
				break;
			}
		}
	}
	if (hashed >= 5) {
		t->v[T_DISTINCT] = (double)seen->n / hashed;
		t->v[T_SAME] = 1 - t->v[T_DISTINCT];
	}
	if (simmed >= 5)
		t->v[T_NEAR] = (double)near / simmed;
	t->v[T_INJECTION] = moments_mean(&injection);
	t->v[T_ENTROPY] = moments_mean(&entropy);
	free(seen);
}

static void sources(const struct detect *d, const struct traits_set *s, struct traits *t)
{
	struct tally *ip = calloc(5, sizeof(*ip)), *net = ip + 1, *key = ip + 2, *agent = ip + 3, *people = ip + 4;
	double n = 0, keyless = 0, fresh = 0, logprobs = 0;

	if (!ip)
		return;
	for (unsigned int i = 0; i < s->as; i++) {
		const struct moment *m = s->a[i];
		double w = (double)m->weight;
		uint32_t who = person_of(d, m);

		n += w;
		if (who != NOBODY)
			tally_add(people, (uint64_t)who + 1, w);
		logprobs += m->flags & MOMENT_LOGPROBS ? w : 0;
		keyless += m->who[WHO_KEY] == NOBODY ? w : 0;
		fresh += m->flags & MOMENT_FRESH ? w : 0;
		if (m->who[WHO_IP] != NOBODY) {
			tally_add(ip, (uint64_t)m->who[WHO_IP] + 1, w);
			if (at(d, m->who[WHO_IP])->net != NOBODY)
				tally_add(net, (uint64_t)at(d, m->who[WHO_IP])->net + 1, w);
		}
		if (m->who[WHO_KEY] != NOBODY)
			tally_add(key, (uint64_t)m->who[WHO_KEY] + 1, w);
		if (m->agent)
			tally_add(agent, m->agent, w);
	}
	t->n = n;
	t->sources = ip->n;
	t->people = people->n;
	t->networks = net->n;
	t->keys = key->n;
	t->agents = agent->n;
	if (n > 0) {
		t->v[T_LOGPROBS] = logprobs / n;
		t->v[T_KEYLESS] = keyless / n;
		if (ip->n) {
			t->v[T_FRESH] = fresh / n;
			t->v[T_SOURCES] = ip->n / (double)s->as;
			if (net->n)
				t->v[T_NETWORKS] = (double)net->n / ip->n;
			t->v[T_KEYS] = (double)key->n / ip->n;
			if (people->n >= 3)
				t->v[T_EVEN] = tally_cv(people);
		}
		if (agent->n)
			t->v[T_AGENTS] = tally_perplexity(agent, &t->v[T_TOP_AGENT]);
	}
	free(ip);
}

/* Share of answers that are as long as the most frequent length: where no record says how an answer ended, that is the cap. */
static double mode_share(const struct traits_set *s)
{
	struct tally *seen = calloc(1, sizeof(*seen));
	double most, n = 0;

	if (!seen)
		return 0;
	for (unsigned int i = 0; i < s->cs; i++) {
		const struct moment *m = s->c[i];

		if (m->completion < 0 || m->weight != 1 || m->status >= 400 || m->flags & MOMENT_ERROR)
			continue;
		/* No tokens of either kind is what a failure looks like where no record has a status. */
		if (m->completion == 0 && m->prompt == 0)
			continue;
		n++;
		if (m->completion >= CAP_LEAST)
			tally_add(seen, (uint64_t)m->completion + 1, 1);
	}
	most = tally_most(seen);
	free(seen);
	/* One of its own length is the most frequent of all lengths: the first counts for nothing. */
	return most > 1 ? (most - 1) / n : 0;
}

static void ends(const struct traits_set *s, struct traits *t)
{
	struct moments prompt = { 0 }, completion = { 0 };
	double n = 0, cap = 0, capped = 0, auth = 0, refused = 0, limited = 0, failed = 0, aborted = 0, cached = 0, cacheable = 0, judged = 0;
	struct moments ttft = { 0 }, tpot = { 0 };

	for (unsigned int i = 0; i < s->cs; i++) {
		const struct moment *m = s->c[i];
		double w = (double)m->weight;
		bool ok = m->status < 400 && !(m->flags & MOMENT_ERROR);

		n += w;
		if (m->status || m->flags & MOMENT_ERROR) {
			judged += w;
			if (m->status == 401 || m->status == 403)
				auth += w;
			else if (m->status == 429)
				limited += w;
			else if (m->status >= 400 && m->status < 500)
				refused += w;
			else if (m->status >= 500 || m->flags & MOMENT_ERROR)
				failed += w;
		}
		aborted += m->flags & MOMENT_ABORTED ? w : 0;
		if (!ok)
			continue;
		if (m->prompt >= 0) {
			moments_add(&prompt, log1p((double)m->prompt / w), w);
			if (m->cached >= 0) {
				cached += (double)m->cached;
				cacheable += (double)m->prompt;
			}
		}
		if (m->completion >= 0) {
			moments_add(&completion, log1p((double)m->completion / w), w);
			capped += w;
			cap += m->flags & MOMENT_CAP ? w : 0;
		}
		if (m->ttft_ms >= 0)
			moments_add(&ttft, log1p((double)m->ttft_ms), 1);
		if (m->tpot_ms >= 0)
			moments_add(&tpot, log1p((double)m->tpot_ms), 1);
	}
	t->done = n;
	t->v[T_PROMPT] = moments_mean(&prompt);
	t->v[T_PROMPT_SD] = moments_sd(&prompt);
	t->v[T_COMPLETION] = moments_mean(&completion);
	t->v[T_COMPLETION_SD] = moments_sd(&completion);
	if (capped > 0)
		t->v[T_CAP] = cap > 0 ? cap / capped : mode_share(s);
	if (judged > 0) {
		t->v[T_AUTH] = auth / judged;
		t->v[T_REFUSED] = refused / judged;
		t->v[T_LIMITED] = limited / judged;
		t->v[T_FAILED] = failed / judged;
	}
	if (n > 0)
		t->v[T_ABORTED] = aborted / n;
	if (cacheable > 0)
		t->v[T_CACHED] = cached / cacheable;
	t->v[T_TTFT] = moments_mean(&ttft);
	t->v[T_TPOT] = moments_mean(&tpot);
}

void traits_compute(const struct detect *d, const struct traits_set *s, struct traits *ret)
{
	*ret = (struct traits){ .arrivals = s->as, .completions = s->cs };
	for (int k = 0; k < TRAIT_COUNT; k++)
		ret->v[k] = (double)NAN;
	sources(d, s, ret);
	prompts(s, ret);
	ends(s, ret);
	ret->v[T_GAP_CV] = gap_cv(s);
	if (s->as >= 2) {
		double span = when(s->a[0]) - when(s->a[s->as - 1]);

		if (span > 0)
			ret->v[T_RATE] = ret->n / span;
	}
}

#define HABIT_LOOKS 50.0f /* looks after which a new one weighs 1/50 */
#define HABIT_YOUNG 4.0f

void habit_learn(struct habit *h, const struct traits *t)
{
	for (int k = 0; k < TRAIT_COUNT; k++) {
		float x = (float)t->v[k], a, dx;

		if (isnan(x))
			continue;
		if (h->n[k] < UINT16_MAX)
			h->n[k]++;
		a = MAX(1.0f / h->n[k], 1.0f / HABIT_LOOKS);
		dx = x - h->mean[k];
		h->mean[k] += a * dx;
		h->var[k] = (1 - a) * (h->var[k] + (h->n[k] > 1 ? a * dx * dx : 0));
	}
}

double habit_z(const struct habit *h, const struct traits *t, enum trait k)
{
	double sd;

	if (isnan(t->v[k]) || h->n[k] < 2)
		return (double)NAN;
	sd = sqrt((double)h->var[k] + (double)(least_sd[k] * least_sd[k])) * (1 + (double)HABIT_YOUNG / h->n[k]);
	return (t->v[k] - (double)h->mean[k]) / sd;
}
