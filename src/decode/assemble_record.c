/* assemble_record.c - facts and counts -> record. */
#include "base/address.h"
#include "decode/assemble_internal.h"

#include <math.h>

#define ADDRESS_MAX SERVER_TEXT
#define LABEL_MAX (ADDRESS_MAX + 1 + SOFTWARE_MAX + 1 + WORKLOAD_NAME_MAX)
_Static_assert(LABEL_MAX <= ASSEMBLE_LABEL_MAX, "a label fits where it is asked for");

double wall_seconds(const struct assemble *a, uint64_t ns)
{
	return (double)((int64_t)ns + a->wall_ns) / 1e9;
}

/* port -1: of a client, whose port is of no interest. */
static struct span address(char buf[ADDRESS_MAX], const uint8_t addr[16], int port)
{
	_Static_assert(SERVER_TEXT >= ADDRESS_TEXT, "either fits");

	if (port < 0)
		address_text(addr, buf);
	else
		server_text(addr, (uint16_t)port, buf);
	return span_of(buf);
}

/* "address:port software unit=name" */
static struct span label_write(char *buf, size_t cap, const struct weir_conn_key *at, const char *software, const char *workload)
{
	char text[ADDRESS_MAX];
	struct span where = address(text, at->laddr, at->lport);
	int n = snprintf(buf, cap, "%.*s%s%s%s%s", (int)where.n, where.p, software ? " " : "", software ? software : "", workload ? " " : "", workload ? workload : "");

	return (struct span){ buf, MIN((size_t)MAX(n, 0), cap - 1) };
}

static struct span label(char buf[LABEL_MAX], const struct pending *p)
{
	return label_write(buf, LABEL_MAX, &p->key, p->software, p->workload);
}

void assemble_label(const struct assemble *a, const struct weir_conn_key *at, char *ret, size_t cap)
{
	label_write(ret, cap, at, software_of(a->software, at), workloads_of(a->workloads, at->netns, at->lport));
}

static void set_prompt(struct record *r, const struct prompt_features *f)
{
	if (!f->found)
		return;
	record_set_int(r, F_PROMPT_HASH, (int64_t)f->hash);
	if (f->sim)
		record_set_int(r, F_PROMPT_SIM, (int64_t)f->sim);
	record_set_real(r, F_PROMPT_ENTROPY, round((double)f->entropy * 100) / 100);
	record_set_real(r, F_INJECTION_SCORE, round((double)f->injection * 100) / 100);
}

/* What the request tells; the same for arrival and completion. */
static void set_request(const struct assemble *a, struct record *r, const struct pending *p, char client[ADDRESS_MAX], char server[LABEL_MAX])
{
	static const uint8_t nobody[16];
	const struct facts *f = &p->facts;

	r->kind = p->dialect ? p->dialect->kind : f->len[T_PATH] ? KIND_OTHER : KIND_UNKNOWN;
	if (p->identity.named || memcmp(p->key.raddr, nobody, sizeof(nobody)) != 0)
		record_set_text(r, F_CLIENT_IP, address(client, p->identity.named ? p->identity.client : p->key.raddr, -1));
	if (p->key.lport || weir_is_unix(p->key.laddr))
		record_set_text(r, F_SERVER, label(server, p));
	record_set_text(r, F_HOST, span_of(a->host));
	record_set_text(r, F_PATH, facts_text(f, T_PATH));
	record_set_text(r, F_USER_AGENT, facts_text(f, T_AGENT));
	record_set_text(r, F_MODEL_NAME, facts_text(f, T_MODEL));
	record_set_text(r, F_USER, facts_text(f, T_USER));
	record_set_text(r, F_API_KEY, facts_text(f, T_KEY));
	if (f->max_tokens >= 0)
		record_set_int(r, F_MAX_TOKENS, f->max_tokens);
	if (p->identified && p->identity.retry >= 0)
		record_set_int(r, F_RETRY, p->identity.retry);
	if (f->prompt_chars >= 0)
		record_set_int(r, F_PROMPT_CHARS, f->prompt_chars);
	if (f->logprobs >= 0)
		record_set_bool(r, F_LOGPROBS, f->logprobs);
	set_prompt(r, &f->prompt);
	if (p->dialect && p->dialect->kind == KIND_INFERENCE)
		record_set_bool(r, F_STREAM, dialect_streams(p->dialect, f->stream));
}

static void arrival_fill(const struct assemble *a, struct record *r, const struct pending *p, char client[ADDRESS_MAX], char server[LABEL_MAX])
{
	record_init(r);
	r->timestamp = p->timestamp;
	set_request(a, r, p, client, server);
	if (r->kind == KIND_UNKNOWN)
		r->kind = KIND_OTHER;
}

/* Asked once per request: its beginning and its end must be of one mind. */
static void place(struct assemble *a, struct pending *p)
{
	if (!p->placed && a->opts.outer)
		p->outer = a->opts.outer(a->opts.ctx, p->conn, &p->key);
	p->placed = true;
}

void record_arrival(struct assemble *a, struct pending *p)
{
	char client[ADDRESS_MAX], server[LABEL_MAX];
	struct record r;

	place(a, p);
	if (!a->opts.arrival)
		return;
	arrival_fill(a, &r, p, client, server);
	a->told = p;
	a->opts.arrival(a->opts.ctx, &r);
	a->told = NULL;
}

void record_open(struct assemble *a, struct pending *p, int64_t fresh, void (*tell)(void *ctx, const struct record *r, int64_t fresh), void *ctx)
{
	char client[ADDRESS_MAX], server[LABEL_MAX];
	struct record r;

	arrival_fill(a, &r, p, client, server);
	a->told = p;
	tell(ctx, &r, fresh);
	a->told = NULL;
}

static double ms_between(uint64_t from, uint64_t to)
{
	return to > from ? (double)(to - from) / 1e6 : 0;
}

/* The kernel's counts, or those of the unpacked body: that one it could not read. */
struct counts {
	uint16_t mask;
	uint32_t tokens[WEIR_TOK_COUNT];
	uint32_t deltas;
	bool error, stream;
};

static struct counts counts_of(const struct weir_done *d, const struct unpacked *u)
{
	struct counts c = { .mask = d->token_mask, .deltas = d->delta_events, .error = d->flags & WEIR_DONE_ERROR, .stream = d->flags & WEIR_DONE_STREAM };

	memcpy(c.tokens, d->tokens, sizeof(c.tokens));
	if (!u)
		return c;
	/* what the head said (TGI) stays unless the body says it too */
	for (int i = 0; i < WEIR_TOK_COUNT; i++) {
		if (!(u->token_mask >> i & 1))
			continue;
		c.tokens[i] = u->tokens[i];
		c.mask |= (uint16_t)(1u << i);
	}
	c.deltas = u->delta_events;
	c.error |= u->error;
	c.stream = u->stream;
	return c;
}

static struct span model_of(const struct pending *p)
{
	return facts_text(&p->facts, p->facts.len[T_ANSWERED] ? T_ANSWERED : T_MODEL);
}

/* Prompt and completion from what is at hand, where the server said nothing. */
static void set_estimate(struct assemble *a, struct record *r, const struct pending *p, const struct counts *c)
{
	const struct estimate_seen seen = { c->deltas, p->facts.text_bytes, p->facts.prompt_chars };
	struct estimate_tokens t = estimate_of(a->estimate, record_server_address(r), model_of(p), &seen);

	if (r->kind == KIND_EMBEDDING)
		t.completion = -1;
	else if (t.completion < 0)
		return; /* nothing was generated that we know of */
	if (t.completion >= 0)
		record_set_int(r, F_COMPLETION_TOKENS, t.completion);
	if (t.prompt >= 0)
		record_set_int(r, F_PROMPT_TOKENS, t.prompt);
	if (t.completion >= 0 || t.prompt >= 0)
		record_set_bool(r, F_ESTIMATED, true);
}

/* Whole answers of which the server told both: they teach what the others are worth. */
static void learn(struct assemble *a, const struct record *r, const struct pending *p, const struct weir_done *d, const struct counts *c)
{
	const struct estimate_seen seen = { c->stream ? (int64_t)c->deltas : -1, c->stream ? -1 : p->facts.text_bytes, p->facts.prompt_chars };

	if (d->status != 200 || c->error || (d->flags & (WEIR_DONE_ABORTED | WEIR_DONE_PARTIAL)) || r->kind != KIND_INFERENCE)
		return;
	estimate_learn(a->estimate, record_server_address(r), model_of(p), &seen, record_int(r, F_PROMPT_TOKENS, -1), record_int(r, F_COMPLETION_TOKENS, -1));
}

static void set_tokens(struct assemble *a, struct record *r, const struct pending *p, const struct weir_done *d, const struct counts *c)
{
	const uint16_t completion = 1u << WEIR_TOK_COMPLETION | 1u << WEIR_TOK_ALT_COMPLETION;
	bool failed = d->status >= 400 || (c->error && !c->deltas);

	/* A count of what was asked (count_tokens), or an old answer fetched again, is no use of the model. */
	if (r->kind == KIND_CONTROL || (r->kind == KIND_OTHER && p->facts.is_get))
		return;
	if (!weir_has_usage(c->mask)) {
		if (!failed)
			set_estimate(a, r, p, c);
		return;
	}
	record_set_int(r, F_PROMPT_TOKENS, (int64_t)weir_prompt_tokens(c->mask, c->tokens));
	if (c->mask & completion)
		record_set_int(r, F_COMPLETION_TOKENS, (int64_t)weir_completion_tokens(c->mask, c->tokens));
	if (c->mask & (1u << WEIR_TOK_CACHED | 1u << WEIR_TOK_CACHE_READ | 1u << WEIR_TOK_ALT_CACHED))
		record_set_int(r, F_CACHED_TOKENS, (int64_t)weir_cached_tokens(c->mask, c->tokens));
	if (c->mask & (1u << WEIR_TOK_REASONING | 1u << WEIR_TOK_THOUGHTS))
		record_set_int(r, F_REASONING_TOKENS, (int64_t)weir_reasoning_tokens(c->tokens));
	/* Anthropic counts at the start (0 or 1) and at the end; an aborted stream told only the first. */
	if ((d->flags & WEIR_DONE_ABORTED) && (int64_t)c->deltas > record_int(r, F_COMPLETION_TOKENS, 0)) {
		const struct estimate_seen seen = { c->deltas, -1, -1 };

		record_set_int(r, F_COMPLETION_TOKENS, estimate_of(a->estimate, record_server_address(r), model_of(p), &seen).completion);
		record_set_bool(r, F_ESTIMATED, true);
		return;
	}
	learn(a, r, p, d, c);
}

/* By what came; or by the path, where what it streams is one JSON array (Gemini without alt=sse). */
static bool is_streamed(const struct pending *p, const struct weir_done *d, const struct counts *c)
{
	return c->stream || (d->status >= 200 && d->status < 300 && p->dialect && p->dialect->stream == STREAM_ALWAYS);
}

static void set_times(const struct assemble *a, struct record *r, const struct pending *p, const struct weir_done *d, bool streamed)
{
	uint64_t from = d->req_head_ns ? d->req_head_ns : d->req_first_ns ? d->req_first_ns : d->resp_first_ns, asked;

	r->timestamp = p->arrived ? p->timestamp : wall_seconds(a, from);
	if (!from || !d->resp_last_ns)
		return;
	/* Of a request that nobody saw only the rest of its time is known: better none. */
	if (d->flags & WEIR_DONE_NO_REQUEST)
		return;
	record_set_real(r, F_DURATION_MS, ms_between(from, d->resp_last_ns));
	asked = d->req_last_ns > from && d->req_last_ns <= d->content_ns ? d->req_last_ns : from;
	if (streamed && d->content_ns)
		record_set_real(r, F_TTFT_MS, ms_between(asked, d->content_ns));
}

/* What the slices told, else what the meter read: they may begin in the middle of it, and some may be lost. */
static struct span finish_of(const struct pending *p, const struct weir_done *d)
{
	struct span told = facts_text(&p->facts, T_FINISH);

	if (told.n || !p->dialect || !p->dialect->shape || !p->dialect->shape->where[D_FINISH] || d->status < 200 || d->status >= 300)
		return told;
	return (struct span){ d->finish, strnlen(d->finish, sizeof(d->finish)) };
}

void record_complete(struct assemble *a, struct pending *p, const struct weir_done *d, const struct unpacked *u)
{
	char client[ADDRESS_MAX], server[LABEL_MAX];
	struct counts c = counts_of(d, u);
	bool streamed = is_streamed(p, d, &c);
	const struct facts *f = &p->facts;
	struct record r;

	if (p->names[WEIR_REQUEST] && !p->dialect && d->status >= 200 && d->status < 300)
		shapes_note(a->shapes, span_of(f->method), facts_text(f, T_PATH), p->names[WEIR_REQUEST], p->names[WEIR_RESPONSE], weir_has_usage(c.mask));
	if (!a->opts.complete)
		return;
	place(a, p);
	record_init(&r);
	/* A prompt whose end was not announced: its length on the wire is near enough. */
	if (p->facts.prompt_chars < 0 && p->dialect && p->dialect->shape && p->side[WEIR_REQUEST].head_len && d->req_bytes > p->side[WEIR_REQUEST].head_len)
		p->facts.prompt_chars = (int64_t)(d->req_bytes - p->side[WEIR_REQUEST].head_len);
	set_request(a, &r, p, client, server);
	set_times(a, &r, p, d, streamed);
	/* A path in no table that reports usage is somebody's gateway; without a path the counts are all we have. */
	if ((r.kind == KIND_OTHER && !f->is_get && weir_completion_tokens(c.mask, c.tokens)) || (r.kind == KIND_UNKNOWN && (weir_has_usage(c.mask) || c.deltas)))
		r.kind = KIND_INFERENCE;
	if (r.kind == KIND_UNKNOWN)
		r.kind = KIND_OTHER;
	record_set_text(&r, F_REQUEST_ID, facts_text(f, T_ID));
	if (f->len[T_ANSWERED])
		record_set_text(&r, F_MODEL_NAME, facts_text(f, T_ANSWERED));
	if (d->status)
		record_set_int(&r, F_STATUS, d->status);
	if (d->flags & WEIR_DONE_ABORTED)
		record_set_bool(&r, F_ABORTED, true);
	if (d->status >= 200 && d->status < 300 && (r.kind == KIND_INFERENCE || streamed))
		record_set_bool(&r, F_STREAM, streamed);
	if (c.error && d->status < 400)
		record_set_text(&r, F_FINISH_REASON, SPAN("error"));
	else
		record_set_text(&r, F_FINISH_REASON, finish_of(p, d));
	set_tokens(a, &r, p, d, &c);
	a->told = p;
	a->opts.complete(a->opts.ctx, &r, p->arrived, p->told);
	a->told = NULL;
}
