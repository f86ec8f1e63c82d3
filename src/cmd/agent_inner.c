#include "cmd/agent_inner.h"

#include "base/str.h"
#include "weir/unix.h"
#include "detect/quantile.h"

/* One way from a gateway's port to an engine's. */
struct link {
	uint16_t outer, port;
	uint64_t requests, unmatched;
	double queue_sum_ms;
	struct quantile queue_ms, ttft_ms, duration_ms;
};

/* An arrival at a gateway's port that was not passed on yet. port 0: over, or passed on. */
struct waiting {
	uint64_t conn;
	uint32_t request;
	uint16_t port;
	double timestamp;
	int64_t prompt_chars;
};

struct peer {
	struct weir_client_key key;
	uint64_t inner, others;
};

struct inner {
	struct inner_opts o;
	struct inner_sums sums;
	uint64_t unlinked; /* inner requests of links beyond INNER_LINKS_MAX */
	uint64_t forgotten; /* arrivals that made way for another with their hash */
	struct link link[INNER_LINKS_MAX];
	size_t links;
	struct waiting waiting[INNER_WAITING]; /* by hash, one each */
	struct peer peer[INNER_PEERS_MAX];
	size_t peers;
	struct {
		uint64_t conn;
		uint16_t outer;
		bool known;
	} conn[INNER_CONNS];
};

struct inner *inner_new(const struct inner_opts *o)
{
	struct inner *i = calloc(1, sizeof(*i));

	if (i)
		i->o = *o;
	return i;
}

struct inner *inner_free(struct inner *i)
{
	free(i);
	return NULL;
}

uint16_t inner_outer(struct inner *i, uint64_t conn, const struct weir_conn_key *at)
{
	size_t slot = (conn ^ conn >> 32) * UINT64_C(0x9e3779b97f4a7c15) >> 51;
	uint16_t outer;

	if (!i->o.ask)
		return 0;
	if (i->conn[slot].known && i->conn[slot].conn == conn)
		return i->conn[slot].outer;
	outer = i->o.ask(i->o.ctx, at);
	i->conn[slot].conn = conn;
	i->conn[slot].outer = outer;
	i->conn[slot].known = true;
	return outer;
}

/* ---- peers ----------------------------------------------------------------------------------------- */
/* What a lost request is known by. NULL: there is no more room. */
static struct peer *peer_of(struct inner *i, const struct weir_client_key *key, bool make)
{
	for (size_t k = 0; k < i->peers; k++)
		if (i->peer[k].key.port == key->port && i->peer[k].key.netns == key->netns && !memcmp(i->peer[k].key.server, key->server, 16) &&
		    !memcmp(i->peer[k].key.client, key->client, 16))
			return &i->peer[k];
	if (!make || i->peers == INNER_PEERS_MAX)
		return NULL;
	i->peer[i->peers] = (struct peer){ .key = *key };
	return &i->peer[i->peers++];
}

static void peer_note(struct inner *i, const struct assemble_source *s)
{
	struct weir_client_key key = { .netns = s->at->netns, .port = s->at->lport };
	struct peer *p;

	memcpy(key.server, s->at->laddr, 16);
	memcpy(key.client, s->at->raddr, 16);
	if (weir_is_unix(key.client)) {
		weir_unix_common(key.server);
		weir_unix_common(key.client);
	}
	p = peer_of(i, &key, s->outer != 0); /* only those that made an inner request once are of interest */
	if (p && s->outer)
		p->inner++;
	else if (p)
		p->others++;
}

bool inner_lost(struct inner *i, const struct loss *l)
{
	const struct peer *p = i->peers ? peer_of(i, &l->key, false) : NULL;

	if (!p || p->inner <= p->others)
		return false;
	i->sums.lost += l->requests;
	i->sums.requests += l->requests;
	i->sums.prompt_tokens += l->prompt_tokens;
	i->sums.completion_tokens += l->completion_tokens;
	return true;
}

/* ---- arrivals -------------------------------------------------------------------------------------- */
static struct waiting *waiting_slot(struct inner *i, const struct assemble_source *s)
{
	uint64_t h = (s->conn ^ (uint64_t)s->request << 40) * UINT64_C(0x9e3779b97f4a7c15);

	return &i->waiting[(h ^ h >> 29) * UINT64_C(0xbf58476d1ce4e5b9) >> 52];
}

/* Noted of every request, since any may turn out to be a gateway's. */
static void wait_add(struct inner *i, const struct record *r, const struct assemble_source *s)
{
	struct waiting *w = waiting_slot(i, s);

	i->forgotten += w->port != 0;
	*w = (struct waiting){ s->conn, s->request, s->at->lport, r->timestamp, record_int(r, F_PROMPT_CHARS, -1) };
}

/* The request ended without having been passed on (or was passed on already): nobody waits for it. */
static void wait_remove(struct inner *i, const struct assemble_source *s)
{
	struct waiting *w = waiting_slot(i, s);

	if (w->conn == s->conn && w->request == s->request)
		w->port = 0;
}

/* The oldest that arrived at this port before, of those with a prompt of the same length if there are any; its time is taken. */
static bool wait_take(struct inner *i, uint16_t port, const struct record *r, double *ret)
{
	int64_t chars = record_int(r, F_PROMPT_CHARS, -2);
	struct waiting *best = NULL;

	for (struct waiting *w = i->waiting; w < i->waiting + INNER_WAITING; w++) {
		bool alike = w->prompt_chars == chars;

		if (w->port != port || w->timestamp > r->timestamp)
			continue;
		if (!best || alike > (best->prompt_chars == chars) || (alike == (best->prompt_chars == chars) && w->timestamp < best->timestamp))
			best = w;
	}
	if (!best)
		return false;
	*ret = best->timestamp;
	best->port = 0;
	return true;
}

static struct link *link_of(struct inner *i, uint16_t outer, uint16_t port)
{
	struct link *l;

	for (size_t k = 0; k < i->links; k++)
		if (i->link[k].outer == outer && i->link[k].port == port)
			return &i->link[k];
	if (i->links == INNER_LINKS_MAX)
		return NULL;
	l = &i->link[i->links++];
	*l = (struct link){ .outer = outer, .port = port };
	quantile_init(&l->queue_ms);
	quantile_init(&l->ttft_ms);
	quantile_init(&l->duration_ms);
	return l;
}

static bool is_inference(const struct record *r)
{
	return r->kind == KIND_INFERENCE || r->kind == KIND_EMBEDDING;
}

void inner_arrival(struct inner *i, const struct record *r, const struct assemble_source *s)
{
	struct link *l;
	double since;

	if (!i->o.ask || !is_inference(r))
		return; /* a health check of the engine is nobody's request passed on */
	wait_add(i, r, s); /* a gateway behind a gateway is both */
	if (!s->outer)
		return;
	l = link_of(i, s->outer, s->at->lport);
	if (!l)
		return;
	if (!wait_take(i, s->outer, r, &since)) {
		l->unmatched++;
		return;
	}
	l->queue_sum_ms += (r->timestamp - since) * 1000;
	quantile_add(&l->queue_ms, (r->timestamp - since) * 1000, 1);
}

void inner_complete(struct inner *i, const struct record *r, const struct assemble_source *s)
{
	struct link *l;

	if (!i->o.ask)
		return;
	peer_note(i, s);
	wait_remove(i, s);
	if (!s->outer)
		return;
	i->sums.requests++;
	if (!record_yes(r, F_ESTIMATED)) {
		i->sums.prompt_tokens += (uint64_t)record_int(r, F_PROMPT_TOKENS, 0);
		i->sums.completion_tokens += (uint64_t)record_int(r, F_COMPLETION_TOKENS, 0);
	}
	l = link_of(i, s->outer, s->at->lport);
	if (!l) {
		i->unlinked++;
		return;
	}
	l->requests++;
	if (!is_inference(r))
		return;
	if (record_has(r, F_TTFT_MS))
		quantile_add(&l->ttft_ms, record_real(r, F_TTFT_MS, 0), 1);
	if (record_has(r, F_DURATION_MS))
		quantile_add(&l->duration_ms, record_real(r, F_DURATION_MS, 0), 1);
}

const struct inner_sums *inner_sums(const struct inner *i)
{
	return &i->sums;
}

/* ---- telling --------------------------------------------------------------------------------------- */
static void quantiles_write(struct str *out, const char *name, const struct quantile *q)
{
	json_key(out, name);
	json_begin(out, '{');
	json_kuint(out, "count", (uint64_t)q->total);
	json_kdouble(out, "p50", quantile_at(q, 0.5), 3);
	json_kdouble(out, "p95", quantile_at(q, 0.95), 3);
	json_kdouble(out, "p99", quantile_at(q, 0.99), 3);
	json_end(out, '}');
}

void inner_write_json(const struct inner *i, struct str *out)
{
	json_key(out, "inner");
	json_begin(out, '{');
	json_kuint(out, "requests", i->sums.requests);
	json_kuint(out, "prompt_tokens", i->sums.prompt_tokens);
	json_kuint(out, "completion_tokens", i->sums.completion_tokens);
	json_kuint(out, "lost", i->sums.lost);
	json_kuint(out, "unlinked", i->unlinked);
	json_kuint(out, "forgotten", i->forgotten);
	json_key(out, "links");
	json_begin(out, '[');
	for (size_t k = 0; k < i->links; k++) {
		const struct link *l = &i->link[k];

		json_begin(out, '{');
		json_kuint(out, "outer_port", l->outer);
		json_kuint(out, "port", l->port);
		json_kuint(out, "requests", l->requests);
		json_kuint(out, "unmatched", l->unmatched);
		if (l->queue_ms.total > 0)
			json_kdouble(out, "gateway_queue_mean_ms", l->queue_sum_ms / (double)l->queue_ms.total, 3);
		quantiles_write(out, "gateway_queue_ms", &l->queue_ms);
		quantiles_write(out, "engine_ttft_ms", &l->ttft_ms);
		quantiles_write(out, "engine_duration_ms", &l->duration_ms);
		json_end(out, '}');
	}
	json_end(out, ']');
	json_end(out, '}');
}
