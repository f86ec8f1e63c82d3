#include "cmd/agent_feed.h"

#include "base/log.h"
#include "cmd/agent_socket.h"
#include "cmd/agent_told.h"
#include "decode/assemble.h"
#include "decode/dialect_file.h"
#include "decode/h2.h"
#include "decode/shapes.h"

#include <math.h>
#include <time.h>

_Static_assert(AGENT_KEY_BYTES == SIPHASH_KEY_BYTES, "one key for both");

struct feed {
	struct feed_opts o;
	struct assemble *assemble;
	struct told *told;
	uint64_t records, bad;
	int64_t wall_ns; /* wall clock less monotonic clock */
};

#define CLOCK_TRIES 5

/*
 * Wall clock less monotonic clock. They cannot be read at once, and between two readings we may have been put aside for milliseconds: the
 * tightest of a few pairs counts. What was known stays while it may be right: both clocks are slewed alike, so that only a step of the wall
 * clock changes the difference, and records keep their order at all other times.
 */
static int64_t clock_offset(int64_t known)
{
	int64_t best = 0, width = INT64_MAX;

	for (int i = 0; i < CLOCK_TRIES; i++) {
		int64_t before = (int64_t)capture_now_ns(), after, wall_ns;
		struct timespec wall;

		clock_gettime(CLOCK_REALTIME, &wall);
		after = (int64_t)capture_now_ns();
		if (after - before >= width)
			continue;
		width = after - before;
		wall_ns = (int64_t)wall.tv_sec * 1000000000 + wall.tv_nsec;
		best = wall_ns - before - width / 2;
	}
	return llabs(best - known) <= width ? known : best;
}

static void clock_look(struct feed *f)
{
	f->wall_ns = clock_offset(f->wall_ns);
	assemble_set_clock(f->assemble, f->wall_ns);
}

static double wall_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint64_t now_s(void)
{
	return capture_now_ns() / 1000000000;
}

/* As many digits as the file keeps (record_as_written()). */
static double microseconds(double t)
{
	return round(t * 1e6) / 1e6;
}

static void complain(struct feed *f, int r)
{
	if (r < 0 && !f->bad++)
		log_warning("the detector cannot take a record: %s", strerror(-r));
}

/* The address of the socket: what is lost, is known by it alone, whoever the true client was. */
static struct span peer_text(const struct assemble_source *s, char buf[ADDRESS_TEXT])
{
	address_text(s->at->raddr, buf);
	return span_of(buf);
}

static void on_arrival(void *ctx, const struct record *r)
{
	struct feed *f = ctx;
	struct assemble_source source = assemble_source(f->assemble);
	struct record copy = record_as_written(r);
	char peer[ADDRESS_TEXT];

	inner_arrival(f->o.inner, r, &source);
	if (source.outer)
		return; /* the same request was told of at the gateway */
	told_add(f->told, record_server_address(r), peer_text(&source, peer));
	complain(f, detect_arrival(f->o.detect, &copy));
}

static void on_complete(void *ctx, const struct record *r, bool arrived, int64_t told)
{
	struct feed *f = ctx;
	struct assemble_source source = assemble_source(f->assemble);
	struct record copy = record_as_written(r);
	char peer[ADDRESS_TEXT];

	inner_complete(f->o.inner, r, &source);
	if (source.outer) {
		agent_ports_record(f->o.ports, &copy);
		return;
	}
	f->records++;
	if (arrived)
		told_remove(f->told, record_server_address(r), peer_text(&source, peer));
	accounts_record(f->o.accounts, &copy, source.identity, now_s());
	hidden_record(f->o.hidden, &copy, source.at, source.identity);
	records_add(f->o.records, &copy);
	state_record(f->o.state, &copy);
	complain(f, arrived ? detect_complete(f->o.detect, &copy, told) : detect_record(f->o.detect, &copy));
	agent_ports_record(f->o.ports, &copy);
}

static uint16_t on_outer(void *ctx, uint64_t conn, const struct weir_conn_key *at)
{
	return inner_outer(((struct feed *)ctx)->o.inner, conn, at);
}

void feed_event(void *feed, const void *data, size_t n)
{
	struct feed *f = feed;

	assemble_event(f->assemble, data, n); /* what it refuses, it counts */
}

static void on_stream(void *ctx, const struct record *r, int64_t fresh)
{
	struct feed *f = ctx;

	if (assemble_source(f->assemble).outer)
		return;
	complain(f, detect_provisional(f->o.detect, r, wall_now(), fresh));
}

void feed_stream(void *feed, uint64_t conn, uint32_t request, int64_t tokens)
{
	struct feed *f = feed;

	assemble_open_stream(f->assemble, conn, request, tokens, on_stream, f);
}

void feed_streams(struct feed *f)
{
	assemble_open_streams(f->assemble, on_stream, f);
}

void feed_set_shed(struct feed *f, enum weir_shed level)
{
	assemble_set_shed(f->assemble, level);
}

static void on_count(void *ctx, const struct weir_conn_key *key, const struct weir_client *more)
{
	const struct feed *f = ctx;

	if (f->o.count)
		f->o.count(f->o.ctx, key, more);
}

/* ---- losses ---------------------------------------------------------------------------------------- */
struct loss_part {
	uint64_t requests;
	int64_t status; /* 0: not known */
	const char *finish;
};

/*
 * To the file goes one line. The detector has heard of the arrival of some of these requests: for those
 * it is told of the end only.
 */
static void loss_tell(struct feed *f, struct record *r, uint64_t *told)
{
	uint64_t known = MIN(*told, (uint64_t)r->weight);
	struct record end = *r;

	records_add(f->o.records, r);
	state_record(f->o.state, r);
	*told -= known;
	end.weight = (int64_t)known;
	r->weight -= end.weight;
	if (r->weight) {
		complain(f, detect_record(f->o.detect, r));
		/* tokens are told once */
		end.has &= ~(F_BIT(F_PROMPT_TOKENS) | F_BIT(F_COMPLETION_TOKENS));
	}
	if (end.weight)
		complain(f, detect_complete(f->o.detect, &end, 0));
}

/* The label that the server's records have. */
static void loss_label(const struct feed *f, const struct weir_client_key *key, char label[ASSEMBLE_LABEL_MAX])
{
	struct weir_conn_key at = { .netns = key->netns, .lport = key->port };

	memcpy(at.laddr, key->server, sizeof(at.laddr));
	assemble_label(f->assemble, &at, label, ASSEMBLE_LABEL_MAX);
}

/*
 * One line for each outcome, so that shares of errors stay right. The tokens of all stand in the first:
 * which of the requests they belonged to is not known.
 */
void feed_loss(void *feed, const struct loss *l)
{
	struct feed *f = feed;
	uint64_t errors = MIN(l->status_4xx + l->status_5xx + l->stream_errors, l->requests);
	const struct loss_part parts[] = {
		{ l->requests - errors, 0, NULL },
		{ l->status_4xx, 400, NULL },
		{ l->status_5xx, 500, NULL },
		{ l->stream_errors, 200, "error" },
	};
	char server[SERVER_TEXT], label[ASSEMBLE_LABEL_MAX], client[ADDRESS_TEXT];
	double now = microseconds(wall_now());
	uint64_t told;
	bool first = true;

	if (inner_lost(f->o.inner, l))
		return;
	server_text(l->key.server, l->key.port, server);
	address_text(l->key.client, client);
	loss_label(f, &l->key, label);
	told = told_take(f->told, span_of(server), span_of(client), l->requests, l->open);
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		struct record r;

		if (!parts[i].requests)
			continue;
		record_init(&r);
		r.timestamp = now;
		r.weight = (int64_t)parts[i].requests;
		r.kind = KIND_INFERENCE;
		record_set_bool(&r, F_LOST, true);
		record_set_text(&r, F_CLIENT_IP, span_of(l->key.flags & WEIR_CLIENT_OTHER ? "other" : client));
		record_set_text(&r, F_SERVER, span_of(label));
		if (parts[i].status)
			record_set_int(&r, F_STATUS, parts[i].status);
		if (parts[i].finish)
			record_set_text(&r, F_FINISH_REASON, span_of(parts[i].finish));
		if (first) {
			record_set_int(&r, F_PROMPT_TOKENS, (int64_t)l->prompt_tokens);
			record_set_int(&r, F_COMPLETION_TOKENS, (int64_t)l->completion_tokens);
		}
		first = false;
		accounts_lost(f->o.accounts, &r, now_s());
		loss_tell(f, &r, &told);
	}
}

void feed_arrivals(struct feed *f)
{
	assemble_tell_waiting(f->assemble);
}

void feed_workload(void *feed, uint32_t netns, uint16_t port, struct span name)
{
	struct feed *f = feed;

	assemble_set_workload(f->assemble, netns, port, name);
}

void feed_marker(void *feed, enum marker_kind kind, struct span server, struct span what, double when)
{
	struct feed *f = feed;
	const struct marker m = { .time = when, .kind = kind, .server = server, .what = what };

	complain(f, detect_marker(f->o.detect, &m));
}

/* ---- the rest -------------------------------------------------------------------------------------- */
void feed_second(struct feed *f)
{
	clock_look(f);
	complain(f, detect_advance(f->o.detect, wall_now()));
}

void feed_finish(struct feed *f)
{
	complain(f, detect_advance(f->o.detect, wall_now()));
}

uint64_t feed_count(const struct feed *f)
{
	return f->records;
}

void feed_log_identity(const struct feed *f)
{
	CLEANUP(str_done) struct str said = { 0 };

	identity_stats_tell(&assemble_stats(f->assemble)->identity, &said);
	if (said.n && !str_error(&said))
		log_info("clients by proxies' word: %s", said.p);
}

static void identity_write_json(const struct identity_stats *s, struct str *out)
{
	json_key(out, "identity");
	json_begin(out, '{');
	for (int ignored = 0; ignored < 2; ignored++) {
		json_key(out, ignored ? "ignored" : "named");
		json_begin(out, '{');
		for (int i = 0; i < IDENTITY_SOURCES; i++)
			json_kuint(out, identity_source_name((enum identity_source)i), ignored ? s->ignored[i] : s->named[i]);
		json_end(out, '}');
	}
	json_kuint(out, "unnamed", s->unnamed);
	json_kuint(out, "cut", s->cut);
	json_kuint(out, "unknown", s->unknown);
	json_kuint(out, "unreadable", s->unreadable);
	json_kuint(out, "conflicts", s->conflicts);
	json_end(out, '}');
}

/* What user space counted of HTTP/2. `loss`: something was not metered. */
static const struct {
	const char *name;
	size_t at;
	bool loss;
} h2_names[] = {
	{ "connections", offsetof(struct h2_stats, connections), false },
	{ "streams", offsetof(struct h2_stats, streams), false },
	{ "settled", offsetof(struct h2_stats, settled), false },
	{ "undecodable", offsetof(struct h2_stats, undecodable), true },
	{ "bad_blocks", offsetof(struct h2_stats, bad_blocks), true },
	{ "long_blocks", offsetof(struct h2_stats, long_blocks), true },
	{ "cut_heads", offsetof(struct h2_stats, cut_heads), true },
	{ "bad_frames", offsetof(struct h2_stats, bad_frames), true },
	{ "resyncs", offsetof(struct h2_stats, resyncs), false },
	{ "unframed_bytes", offsetof(struct h2_stats, unframed_bytes), true },
	{ "gaps", offsetof(struct h2_stats, gaps), true },
	{ "gap_bytes", offsetof(struct h2_stats, gap_bytes), true },
	{ "skipped", offsetof(struct h2_stats, skipped), true },
	{ "stray", offsetof(struct h2_stats, stray), false },
	{ "evicted_streams", offsetof(struct h2_stats, evicted_streams), true },
	{ "evicted_connections", offsetof(struct h2_stats, evicted_connections), true },
	{ "no_memory", offsetof(struct h2_stats, no_memory), true },
	{ "bad_numbers", offsetof(struct h2_stats, bad_numbers), true },
};

static uint64_t h2_value(const struct feed *f, size_t i)
{
	uint64_t v;

	memcpy(&v, (const char *)assemble_h2_stats(f->assemble) + h2_names[i].at, sizeof(v));
	return v;
}

static void h2_write_json(const struct feed *f, struct str *out)
{
	json_key(out, "http2");
	json_begin(out, '{');
	for (size_t i = 0; i < ARRAY_SIZE(h2_names); i++)
		json_kuint(out, h2_names[i].name, h2_value(f, i));
	json_kuint(out, "open_connections", assemble_h2_stats(f->assemble)->open_connections);
	json_kuint(out, "open_streams", assemble_h2_stats(f->assemble)->open_streams);
	json_kuint(out, "bytes", assemble_h2_stats(f->assemble)->bytes);
	json_end(out, '}');
}

void feed_write_losses(const struct feed *f, struct str *out)
{
	for (size_t i = 0; i < ARRAY_SIZE(h2_names); i++)
		if (h2_names[i].loss && h2_value(f, i))
			str_addf(out, " http2_%s %llu", h2_names[i].name, (unsigned long long)h2_value(f, i));
}

uint64_t feed_lost(const struct feed *f)
{
	const struct h2_stats *s = assemble_h2_stats(f->assemble);

	return s->skipped + s->evicted_streams + s->no_memory;
}

void feed_write_json(const struct feed *f, struct str *out)
{
	const struct assemble_stats *s = assemble_stats(f->assemble);
	const struct estimate *e = assemble_estimate(f->assemble);

	json_key(out, "assemble");
	json_begin(out, '{');
	json_kuint(out, "slices", s->slices);
	json_kuint(out, "done", s->done);
	json_kuint(out, "bad_events", s->bad_events);
	json_kuint(out, "repeated", s->repeated);
	json_kuint(out, "evicted", s->evicted);
	json_kuint(out, "no_memory", s->no_memory);
	json_kuint(out, "cut", s->cut);
	json_kuint(out, "unpacked", s->unpacked);
	json_kuint(out, "not_unpacked", s->not_unpacked);
	json_kuint(out, "proxied", s->proxied);
	json_kuint(out, "proxied_bad", s->proxied_bad);
	json_kuint(out, "proxied_lost", s->proxied_lost);
	json_kuint(out, "open", s->open);
	json_kuint(out, "bytes", s->bytes);
	json_kuint(out, "answers_learnt_from", estimate_learnt(e));
	if (estimate_error_pct(e, 0.5) >= 0) {
		json_kdouble(out, "estimate_error_median_pct", estimate_error_pct(e, 0.5), 1);
		json_kdouble(out, "estimate_error_p95_pct", estimate_error_pct(e, 0.95), 1);
	}
	json_end(out, '}');
	identity_write_json(&s->identity, out);
	accounts_write_json(f->o.accounts, out);
	hidden_write_json(f->o.hidden, out);
	h2_write_json(f, out);
	inner_write_json(f->o.inner, out);
}

void feed_write_unknown(const struct feed *f, struct str *out)
{
	shapes_write_json(assemble_shapes(f->assemble), out);
}

int feed_open(const struct feed_opts *o, struct feed **ret)
{
	struct assemble_opts ao = { .automaton = o->automaton, .identity = o->identity, .count = on_count, .arrival = on_arrival, .complete = on_complete, .outer = on_outer };
	struct feed *f = calloc(1, sizeof(*f));
	char host[256] = "";
	int r;

	if (!f)
		return -ENOMEM;
	f->o = *o;
	explicit_bzero(f->o.key, sizeof(f->o.key)); /* the assembler has it; one copy is enough */
	if (gethostname(host, sizeof(host) - 1) == 0 && *host)
		ao.host = host;
	if (o->dialects) {
		ao.dialects = o->dialects->rows;
		ao.dialect_count = o->dialects->count;
	}
	memcpy(ao.key, o->key, sizeof(ao.key));
	ao.ctx = f;
	f->told = told_new();
	r = f->told ? assemble_new(&ao, &f->assemble) : -ENOMEM;
	explicit_bzero(ao.key, sizeof(ao.key));
	if (r < 0) {
		feed_free(f);
		return r;
	}
	clock_look(f);
	*ret = f;
	return 0;
}

struct feed *feed_free(struct feed *f)
{
	if (f) {
		assemble_free(f->assemble);
		told_free(f->told);
	}
	free(f);
	return NULL;
}
