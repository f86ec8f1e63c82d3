/*
 * The plain method: tokens per bin, mean and sample deviation over all bins from the first to the last (those without traffic
 * are zeros), and every bin above mean + k * sd. It sees the whole file before it says anything, so it is not causal.
 */
#include <math.h>
#include <time.h>

#include "detect/engine.h"

#define BINS_MAX (1u << 22) /* bins with traffic: 64 MiB; empty ones cost nothing, so a stray timestamp does no harm */

struct bin {
	int64_t index;
	double tokens;
	bool used;
};

struct static_bins {
	struct bin *bin;
	size_t cap, n; /* power of two */
	int64_t last;  /* where the last record went: files are mostly in order */
	size_t last_at;
	double width;
};

int static_open(const struct detect_opts *opts, struct static_bins **ret)
{
	struct static_bins *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->width = opts->bin_s;
	s->cap = 1024;
	s->bin = calloc(s->cap, sizeof(*s->bin));
	if (!s->bin) {
		free(s);
		return -ENOMEM;
	}
	*ret = s;
	return 0;
}

struct static_bins *static_free(struct static_bins *s)
{
	if (s)
		free(s->bin);
	free(s);
	return NULL;
}

static size_t find(const struct bin *bin, size_t cap, int64_t index)
{
	size_t i = (size_t)((uint64_t)index * UINT64_C(0x9e3779b97f4a7c15) >> 20) & (cap - 1);

	while (bin[i].used && bin[i].index != index)
		i = (i + 1) & (cap - 1);
	return i;
}

static int grow(struct static_bins *s)
{
	size_t cap = s->cap * 2;
	struct bin *bin;

	if (s->n >= BINS_MAX)
		return -E2BIG;
	bin = calloc(cap, sizeof(*bin));
	if (!bin)
		return -ENOMEM;
	for (size_t i = 0; i < s->cap; i++)
		if (s->bin[i].used)
			bin[find(bin, cap, s->bin[i].index)] = s->bin[i];
	free(s->bin);
	s->bin = bin;
	s->cap = cap;
	return 0;
}

int static_record(struct static_bins *s, const struct record *r)
{
	int64_t index = (int64_t)floor(r->timestamp / s->width);
	double tokens = (double)record_int(r, F_PROMPT_TOKENS, 0) + (double)record_int(r, F_COMPLETION_TOKENS, 0);
	size_t i;
	int e;

	if (s->n && index == s->last) {
		s->bin[s->last_at].tokens += tokens;
		return 0;
	}
	if (s->n * 2 >= s->cap) {
		e = grow(s);
		if (e < 0)
			return e;
	}
	i = find(s->bin, s->cap, index);
	if (!s->bin[i].used) {
		s->bin[i] = (struct bin){ .index = index, .used = true };
		s->n++;
	}
	s->bin[i].tokens += tokens;
	s->last = index;
	s->last_at = i;
	return 0;
}

static int by_index(const void *a, const void *b)
{
	const struct bin *x = a, *y = b;

	return x->index < y->index ? -1 : x->index > y->index;
}

static void write_time(char *out, size_t n, double t)
{
	time_t s = (time_t)t;
	struct tm tm;

	if (!gmtime_r(&s, &tm) || !strftime(out, n, "%Y-%m-%d %H:%M:%S", &tm))
		snprintf(out, n, "%.0f", t);
}

int static_finish(struct static_bins *s, const struct detect_opts *opts, struct detect_stats *stats)
{
	size_t n = 0;
	double bins, mean = 0, squares = 0, sd;

	if (!s->n)
		return 0;
	for (size_t i = 0; i < s->cap; i++)
		if (s->bin[i].used)
			s->bin[n++] = s->bin[i];
	qsort(s->bin, n, sizeof(*s->bin), by_index);
	bins = (double)(s->bin[n - 1].index - s->bin[0].index) + 1;
	for (size_t i = 0; i < n; i++)
		mean += s->bin[i].tokens;
	mean /= bins;
	for (size_t i = 0; i < n; i++)
		squares += (s->bin[i].tokens - mean) * (s->bin[i].tokens - mean);
	squares += (bins - (double)n) * mean * mean;
	sd = bins > 1 ? sqrt(squares / (bins - 1)) : 0;

	for (size_t i = 0; i < n; i++) {
		double tokens = s->bin[i].tokens, start = (double)s->bin[i].index * s->width, z;
		char from[40], to[40], summary[256], id[48];
		struct anomaly a;

		if (!(sd > 0) || !(tokens > mean + opts->sigma * sd))
			continue;
		z = (tokens - mean) / sd;
		write_time(from, sizeof(from), start);
		write_time(to, sizeof(to), start + s->width);
		snprintf(id, sizeof(id), "static-%lld", (long long)start);
		snprintf(summary, sizeof(summary), "window %s to %s: %.0f tokens in total, %.1f deviations above the mean of %.0f over %.0f windows", from, to, tokens, z,
			 mean, bins);
		a = (struct anomaly){
			.event = EVENT_OPEN,
			.id = id,
			.cls = CLASS_UNKNOWN,
			.severity = SEVERITY_WARNING,
			.scope_kind = ENTITY_GLOBAL,
			.scope_value = "",
			.start = start,
			.detected = start + s->width,
			.end = -1,
			.score = z,
			.confidence = 0,
			.summary = summary,
			.evidence = { { "tokens_total", tokens, mean, z } },
			.evidence_count = 1,
		};
		stats->opens[CLASS_UNKNOWN]++;
		opts->emit(opts->ctx, &a);
	}
	s->n = 0; /* finished: the table is no table any more */
	memset(s->bin, 0, s->cap * sizeof(*s->bin));
	return 0;
}
