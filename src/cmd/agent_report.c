/* agent_report.c - what the agent tells of itself: its last words, and its statistics when asked. */
#include "cmd/agent_internal.h"

#include "base/log.h"
#include "base/str.h"

struct totals {
	struct weir_client sum;
	uint64_t clients, others;
};

static void totals_take(struct agent *g, struct totals *t)
{
	struct weir_client_key *keys = malloc(CAPTURE_BATCH * sizeof(*keys));
	struct weir_client *values = malloc(CAPTURE_BATCH * sizeof(*values));
	struct capture_cursor cur = { 0 };
	int n;

	*t = (struct totals){ 0 };
	while (keys && values && (n = capture_clients(g->capture, &cur, keys, values, CAPTURE_BATCH)) > 0)
		for (int i = 0; i < n; i++) {
			capture_add(&t->sum, &values[i]);
			t->others += (keys[i].flags & WEIR_CLIENT_OTHER) != 0;
			t->clients += !(keys[i].flags & WEIR_CLIENT_OTHER);
		}
	free(keys);
	free(values);
	for (size_t i = 0; i < capture_aged_count(g->capture); i++) {
		struct weir_client_key key;
		struct weir_client v;

		capture_aged(g->capture, i, &key, &v);
		capture_add(&t->sum, &v);
	}
}

void report_summary(struct agent *g)
{
	const struct inner_sums *inner = inner_sums(g->inner);
	struct str lost = { 0 };
	struct state_stats st;
	struct totals t;

	totals_take(g, &t);
	if (inner->requests)
		log_info("inner hops: %llu requests, %llu prompt + %llu completion tokens were a gateway's, and are counted there and not again",
			 (unsigned long long)inner->requests, (unsigned long long)inner->prompt_tokens, (unsigned long long)inner->completion_tokens);
	t.sum.requests -= MIN(inner->requests, t.sum.requests);
	t.sum.prompt_tokens -= MIN(inner->prompt_tokens, t.sum.prompt_tokens);
	t.sum.completion_tokens -= MIN(inner->completion_tokens, t.sum.completion_tokens);
	log_info("%llu requests, %llu prompt + %llu completion tokens (%llu cached, %llu estimated), %llu clients, %llu errors, %llu aborted, "
		 "%llu records",
		 (unsigned long long)t.sum.requests, (unsigned long long)t.sum.prompt_tokens, (unsigned long long)t.sum.completion_tokens,
		 (unsigned long long)t.sum.cached_tokens, (unsigned long long)t.sum.estimated_tokens, (unsigned long long)t.clients,
		 (unsigned long long)(t.sum.status_4xx + t.sum.status_5xx + t.sum.stream_errors), (unsigned long long)t.sum.aborted,
		 (unsigned long long)feed_count(g->feed));
	feed_log_identity(g->feed);
	for (int i = 0; i < WEIR_STAT_COUNT; i++) {
		bool loss;

		if (capture_stat_name((enum weir_stat)i, &loss) && loss && g->stats[i])
			str_addf(&lost, " %s %llu", capture_stat_name((enum weir_stat)i, NULL), (unsigned long long)g->stats[i]);
	}
	feed_write_losses(g->feed, &lost);
	if (t.sum.lost)
		str_addf(&lost, " requests_without_record %llu", (unsigned long long)t.sum.lost);
	if (accounts_evicted(g->accounts))
		str_addf(&lost, " accounts_in_other %llu", (unsigned long long)accounts_evicted(g->accounts));
	if (g->records.dropped)
		str_addf(&lost, " records_not_written %llu", (unsigned long long)g->records.dropped);
	for (size_t i = 0; i < g->sinks.n; i++)
		if (g->sinks.all[i]->dropped)
			str_addf(&lost, " %s_dropped %llu", g->sinks.all[i]->ops->name, (unsigned long long)g->sinks.all[i]->dropped);
	state_stats(g->state, &st);
	if (st.events_lost)
		str_addf(&lost, " events_not_stored %llu", (unsigned long long)st.events_lost);
	if (g->state_error)
		str_adds(&lost, " learning_not_stored");
	log_info("lost:%s", lost.n && !str_error(&lost) ? lost.p : " nothing");
	str_done(&lost);
}

void report_stats(void *ctx, struct str *out)
{
	struct agent *g = ctx;
	uint64_t s[WEIR_STAT_COUNT];

	json_begin(out, '{');
	json_kstring(out, "version", span_of(WEIR_VERSION));
	json_kstring(out, "variant", span_of(capture_variant(g->capture)));
	json_kuint(out, "shed", (uint64_t)g->limit.level);
	json_kuint(out, "shed_raised", g->limit.raised);
	json_kdouble(out, "cpu_pct", g->cpu_pct, 3);
	json_kdouble(out, "rss_mib", g->rss_mib, 2);
	json_kdouble(out, "hook_us", MAX(g->hook_us, 0), 3);
	json_kuint(out, "tls_files", g->tls.tls ? tls_files(g->tls.tls) : 0);
	json_kuint(out, "tls_blind_files", g->tls.blind);
	json_kstring(out, "tls_sockets", span_of(g->tls.tls && tls_sockets(g->tls.tls) ? tls_sockets(g->tls.tls) : ""));
	json_kuint(out, "tls_shed", g->tls.limit.raised);
	json_kdouble(out, "tls_us", MAX(g->tls.call_us, 0), 3);
	agent_engine_write_json(&g->engine, out);
	json_kuint(out, "kernel_bytes", capture_kernel_bytes(g->capture));
	json_kuint(out, "drains", g->drains);
	json_kuint(out, "records", feed_count(g->feed));
	json_kuint(out, "records_written", g->records.written);
	json_kuint(out, "records_dropped", g->records.dropped);
	json_key(out, "ports");
	json_begin(out, '[');
	for (unsigned p = 1; p < 65536; p++)
		if (capture_watched(g->capture, (uint16_t)p))
			json_uint(out, p);
	json_end(out, ']');
	json_key(out, "kernel");
	json_begin(out, '{');
	if (capture_stats(g->capture, s) == 0)
		for (int i = 0; i < WEIR_STAT_COUNT; i++)
			if (capture_stat_name((enum weir_stat)i, NULL))
				json_kuint(out, capture_stat_name((enum weir_stat)i, NULL), s[i]);
	json_end(out, '}');
	feed_write_json(g->feed, out);
	state_write_json(g->state, out);
	json_end(out, '}');
	str_addc(out, '\n');
}
