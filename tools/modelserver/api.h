/*
 * api.h - what is asked of the server: paths, bodies, prompts.
 */
#ifndef MODELSERVER_API_H
#define MODELSERVER_API_H

#include "answer.h"

/* ---- prompts --------------------------------------------------------------------------------------------- */
struct prompt {
	uint64_t hash, seed;
	uint32_t tokens, cached;
	bool cold; /* a block was not in the cache: nothing behind it can be */
};

static void prompt_token(void *ctx, uint16_t id)
{
	struct prompt *p = ctx;

	p->hash = (p->hash ^ id) * 0x100000001b3u;
	p->hash ^= p->hash >> 29;
	if (++p->tokens % BLOCK_TOKENS == 0) {
		uint64_t *slot = &cache[p->hash % CACHE_SLOTS];

		if (__atomic_exchange_n(slot, p->hash, __ATOMIC_RELAXED) != p->hash)
			p->cold = true;
		else if (!p->cold)
			p->cached = p->tokens;
	}
}

static void prompt_add(struct prompt *p, const char *text, size_t n)
{
	lm_encode(lm, text, n, prompt_token, p);
}

/* The text of a string, or of an array of strings, or of {"type":"text","text":…} parts. */
static void prompt_collect(struct worker *w, int at, struct buf *out)
{
	const struct json *j = &w->json;

	if (json_is(j, at, JSON_STRING))
		json_text(j, at, out);
	else if (json_is(j, at, JSON_OBJECT) && json_is(j, json_get(j, at, "text"), JSON_STRING))
		json_text(j, json_get(j, at, "text"), out);
	else if (json_is(j, at, JSON_ARRAY))
		for (int k = j->node[at].child; k >= 0; k = j->node[k].next)
			prompt_collect(w, k, out);
}

/* Its place in cfg.models; -1: none of ours. */
static int model_find(const char *p, size_t n)
{
	for (int i = 0; i < cfg.model_n; i++)
		if (n == strlen(cfg.models[i]) && !memcmp(p, cfg.models[i], n))
			return i;
	return -1;
}

static double chance(struct worker *w)
{
	return (double)(lm_random(&w->random) >> 11) * 0x1p-53;
}

/* What both kinds of generation and embeddings refuse. True: the answer is written. */
static bool refuse(struct worker *w, struct conn *c, int *ret_model)
{
	const struct json *j = &w->json;
	int model, which = -1;

	if (!json_parse(&w->json, w->body.p, w->body.n) || !json_is(j, 0, JSON_OBJECT))
		respond_error(c, 400, "BadRequestError", "the body is not a JSON object");
	else if (!json_is(j, model = json_get(j, 0, "model"), JSON_STRING))
		respond_error(c, 400, "BadRequestError", "model is missing");
	else if ((which = model_find(j->node[model].p, j->node[model].n)) < 0)
		respond_error(c, 404, "NotFoundError", "the model does not exist");
	else if (chance(w) < cfg.error_rate + CHAOS(which, error_ppm) / 1e6)
		respond_error(c, 500, "InternalServerError", "injected fault");
	else
		*ret_model = which;
	return which < 0 || *ret_model < 0;
}

static void spin(int us)
{
	for (uint64_t end = now_ns() + (uint64_t)us * 1000; us && now_ns() < end;)
		;
}

/* True: an answer is under way. */
static bool handle_generate(struct worker *w, struct conn *c, enum api api)
{
	const struct json *j = &w->json;
	struct prompt p = { .hash = 0xcbf29ce484222325u };
	int input, options, model = -1;
	long max, min;
	uint64_t first_ms;
	bool echo;

	if (refuse(w, c, &model))
		return false;
	input = json_get(j, 0, api == API_CHAT ? "messages" : "prompt");
	if (!json_is(j, input, JSON_ARRAY) && (api == API_CHAT || !json_is(j, input, JSON_STRING))) {
		respond_error(c, 400, "BadRequestError", api == API_CHAT ? "messages is missing" : "prompt is missing");
		return false;
	}
	max = json_long(j, json_get(j, 0, "max_completion_tokens"), json_long(j, json_get(j, 0, "max_tokens"), api == API_CHAT ? 1024 : 16));
	min = json_long(j, json_get(j, 0, "min_tokens"), 0);
	w->scratch.n = 0;
	if (api == API_CHAT) {
		for (int m = j->node[input].child; m >= 0; m = j->node[m].next) {
			int role = json_get(j, m, "role");

			w->scratch.n = 0;
			buf_addf(&w->scratch, "<|%.*s|>\n", role < 0 ? 4 : (int)j->node[role].n, role < 0 ? "user" : j->node[role].p);
			prompt_collect(w, json_get(j, m, "content"), &w->scratch);
			buf_add(&w->scratch, "\n", 1);
			prompt_add(&p, w->scratch.p, w->scratch.n);
		}
		prompt_add(&p, "<|assistant|>\n", sizeof("<|assistant|>\n") - 1);
	} else {
		prompt_collect(w, input, &w->scratch);
		prompt_add(&p, w->scratch.p, w->scratch.n);
	}
	if (!p.tokens || max < 1 || max > CONTEXT_MAX || p.tokens + (unsigned long)max > CONTEXT_MAX) {
		respond_error(c, 400, "BadRequestError", "the prompt and max_tokens do not fit the context of 262144 tokens");
		return false;
	}
	if (__atomic_add_fetch(&running, 1, __ATOMIC_RELAXED) > cfg.max_queue && cfg.max_queue) {
		__atomic_fetch_sub(&running, 1, __ATOMIC_RELAXED);
		respond_error(c, 429, "RateLimitError", "too many requests are waiting");
		return false;
	}
	spin(cfg.work_us);

	options = json_get(j, 0, "stream_options");
	c->api = api;
	c->stream = json_is(j, json_get(j, 0, "stream"), JSON_TRUE);
	c->usage = c->stream && json_is(j, json_get(j, options, "include_usage"), JSON_TRUE);
	c->continuous = c->usage && json_is(j, json_get(j, options, "continuous_usage_stats"), JSON_TRUE);
	c->ignore_eos = json_is(j, json_get(j, 0, "ignore_eos"), JSON_TRUE);
	echo = json_is(j, json_get(j, 0, "echo"), JSON_TRUE);
	c->fail = c->stream && chance(w) < cfg.stream_error_rate + CHAOS(model, stream_error_ppm) / 1e6;
	c->usage_sent = false;
	c->prompt = p.tokens;
	c->cached = p.cached >= p.tokens ? p.tokens - BLOCK_TOKENS : p.cached; /* the last token is always computed */
	c->made = c->deltas = c->reported = c->batched = 0;
	c->max = (uint32_t)max;
	c->min = min > 0 ? (uint32_t)(min < max ? min : max) : 0;
	lm_answer_init(&c->answer, p.hash ^ (cfg.seed + ++w->serial) * 0x9e3779b97f4a7c15u);
	c->text.n = c->prefix.n = 0;
	buf_addf(&c->prefix, "data: {\"id\":\"%s-%016llx\",\"object\":\"%s%s\",\"created\":%lld,\"model\":\"%.*s\",",
		 api == API_CHAT ? "chatcmpl" : "cmpl", (unsigned long long)lm_random(&w->random),
		 api == API_CHAT ? "chat.completion" : "text_completion", api == API_CHAT && c->stream ? ".chunk" : "",
		 (long long)time(NULL), (int)j->node[json_get(j, 0, "model")].n, j->node[json_get(j, 0, "model")].p);
	if (echo)
		buf_add_escaped(&c->text, w->scratch.p, w->scratch.n);
	c->phase = PHASE_ANSWER;
	first_ms = (uint64_t)cfg.first_token_ms + CHAOS(model, first_token_ms);
	c->interval_ns = cfg.tokens_per_s > 0 ? (uint64_t)(1e9 / cfg.tokens_per_s * (1 + CHAOS(model, slow_percent) / 100.0)) : 0;
	c->due_ns = c->interval_ns || first_ms ? now_ns() + c->interval_ns + first_ms * 1000000u : 0;
	if (c->stream) {
		struct buf echoed = c->text;

		c->text = (struct buf){ 0 };
		stream_begin(w, c);
		if (echo) /* what was asked, given back before the first token */
			delta_event(w, c, echoed.p, echoed.n, NULL);
		buf_done(&echoed);
	}
	return true;
}

static void embed_token(void *ctx, uint16_t id)
{
	float *v = ctx;

	for (int d = 0; d < EMBED_DIMS; d++)
		v[d] += (lm_hash((uint32_t)id * EMBED_DIMS + (uint32_t)d) & 1) ? 1.0f : -1.0f;
}

static void handle_embed(struct worker *w, struct conn *c)
{
	struct json *j = &w->json;
	struct buf b = { 0 }, text = { 0 };
	int input, index = 0, model = -1;
	uint32_t tokens = 0;

	if (refuse(w, c, &model))
		return;
	input = json_get(j, 0, "input");
	if (!json_is(j, input, JSON_STRING) && !json_is(j, input, JSON_ARRAY)) {
		respond_error(c, 400, "BadRequestError", "input is missing");
		return;
	}
	spin(cfg.work_us);
	buf_addf(&b, "{\"object\":\"list\",\"data\":[");
	for (int k = json_is(j, input, JSON_ARRAY) ? j->node[input].child : input; k >= 0; k = k == input ? -1 : j->node[k].next) {
		float v[EMBED_DIMS] = { 0 };
		uint32_t n;

		text.n = 0;
		prompt_collect(w, k, &text);
		n = (uint32_t)lm_encode(lm, text.p, text.n, embed_token, v);
		tokens += n;
		buf_addf(&b, "%s{\"object\":\"embedding\",\"index\":%d,\"embedding\":[", index ? "," : "", index);
		index++;
		for (int d = 0; d < EMBED_DIMS; d++)
			buf_addf(&b, "%s%.6f", d ? "," : "", n ? (double)v[d] / (double)n : 0.0);
		buf_addf(&b, "]}");
	}
	buf_addf(&b, "],\"model\":\"%.*s\",\"usage\":{\"prompt_tokens\":%u,\"total_tokens\":%u,\"completion_tokens\":0}}",
		 (int)j->node[json_get(j, 0, "model")].n, j->node[json_get(j, 0, "model")].p, tokens, tokens);
	respond(c, 200, "application/json", b.p, b.n);
	conn_usage(c, tokens, 0, 0);
	conn_mark(c, MARK_END, 0, 0, 0);
	buf_done(&b);
	buf_done(&text);
}

/* ---- requests ---------------------------------------------------------------------------------------------- */
static void handle_metrics(struct conn *c)
{
	struct buf b = { 0 };
	uint64_t total[T_FIELDS] = { 0 };

	pthread_mutex_lock(&truth.lock);
	for (size_t i = 0; i < CLIENT_BUCKETS; i++)
		for (struct client *k = truth.bucket[i]; k; k = k->next)
			for (int f = 0; f < T_FIELDS; f++)
				total[f] += __atomic_load_n(&k->count[f], __ATOMIC_RELAXED);
	pthread_mutex_unlock(&truth.lock);
	for (int f = 0; f < T_FIELDS; f++)
		buf_addf(&b, "# TYPE modelserver:%s_total counter\nmodelserver:%s_total %llu\n", truth_name[f], truth_name[f],
			 (unsigned long long)total[f]);
	buf_addf(&b, "# TYPE modelserver:num_requests_running gauge\nmodelserver:num_requests_running %d\n",
		 __atomic_load_n(&running, __ATOMIC_RELAXED));
	respond(c, 200, "text/plain; version=0.0.4", b.p, b.n);
	conn_mark(c, MARK_END, 0, 0, 0);
	buf_done(&b);
}

static void handle_get(struct conn *c, const struct request *r)
{
	struct buf b = { 0 };

	if (!strcmp(r->path, "/metrics")) {
		handle_metrics(c);
		return;
	}
	if (!strcmp(r->path, "/v1/models")) {
		buf_addf(&b, "{\"object\":\"list\",\"data\":[");
		for (int i = 0; i < cfg.model_n; i++)
			buf_addf(&b, "%s{\"id\":\"%s\",\"object\":\"model\",\"owned_by\":\"weir\",\"max_model_len\":%d}", i ? "," : "",
				 cfg.models[i], CONTEXT_MAX);
		buf_addf(&b, "]}");
	} else if (!strcmp(r->path, "/truth")) {
		truth_write(&b, cfg.name);
	} else if (strcmp(r->path, "/health") != 0) {
		respond_error(c, 404, "NotFoundError", "no such path");
		return;
	}
	respond(c, 200, "application/json", b.p, b.n);
	conn_mark(c, MARK_END, 0, 0, 0);
	buf_done(&b);
}

/* One number of a query string, or what it was. */
static uint32_t query_number(const char *query, const char *name, double scale, uint32_t old)
{
	size_t n = strlen(name);

	for (const char *p = query; p && *p; p = strchr(p, '&') ? strchr(p, '&') + 1 : NULL)
		if (!strncmp(p, name, n) && p[n] == '=') {
			double v = strtod(p + n + 1, NULL) * scale;

			return v > 0 ? v < 4e9 ? (uint32_t)v : 4000000000u : 0;
		}
	return old;
}

/* POST /chaos?model=NAME&first_token_ms=N&slow=FACTOR&error_rate=P&stream_error_rate=P: what is not named stays; without a model, all. */
static void handle_chaos(struct conn *c, const struct request *r)
{
	const char *name = strstr(r->query, "model=");
	int only = name ? model_find(name + 6, strcspn(name + 6, "&")) : -1;

	if (name && only < 0) {
		respond_error(c, 404, "NotFoundError", "the model does not exist");
		return;
	}
	for (int i = 0; i < cfg.model_n; i++) {
		struct chaos *x = &chaos[i];
		uint32_t slow;

		if (only >= 0 && i != only)
			continue;
		__atomic_store_n(&x->first_token_ms, query_number(r->query, "first_token_ms", 1, CHAOS(i, first_token_ms)), __ATOMIC_RELAXED);
		slow = query_number(r->query, "slow", 100, CHAOS(i, slow_percent) + 100); /* a factor: 1 is as ever, 2 twice as long */
		__atomic_store_n(&x->slow_percent, slow > 100 ? slow - 100 : 0, __ATOMIC_RELAXED);
		__atomic_store_n(&x->error_ppm, query_number(r->query, "error_rate", 1e6, CHAOS(i, error_ppm)), __ATOMIC_RELAXED);
		__atomic_store_n(&x->stream_error_ppm, query_number(r->query, "stream_error_rate", 1e6, CHAOS(i, stream_error_ppm)), __ATOMIC_RELAXED);
	}
	respond(c, 200, "application/json", "{}", 2);
	conn_mark(c, MARK_END, 0, 0, 0);
}

static bool key_accepted(const struct request *r)
{
	if (!cfg.key[0] && !cfg.key_prefix)
		return true;
	if (strncmp(r->auth, "Bearer ", 7) != 0)
		return false;
	return (cfg.key[0] && !strcmp(r->auth + 7, cfg.key)) || (cfg.key_prefix && !strncmp(r->auth + 7, cfg.key_prefix, strlen(cfg.key_prefix)));
}

static void handle_request(struct worker *w, struct conn *c, const struct request *r)
{
	static const char *const post[] = { "/v1/chat/completions", "/v1/completions", "/v1/embeddings" };
	size_t i = 0;

	truth_add(c->client, T_REQUESTS, 1);
	c->deltas = 0;
	c->usage_sent = false;
	while (i < 3 && strcmp(r->path, post[i]) != 0)
		i++;
	if (cfg.chaos && !strcmp(r->path, "/chaos") && !strcmp(r->method, "POST"))
		handle_chaos(c, r);
	else if (strcmp(r->path, "/health") && !key_accepted(r))
		respond_error(c, 401, "AuthenticationError", "the API key is missing or wrong");
	else if (i < 2 && !strcmp(r->method, "POST"))
		handle_generate(w, c, i ? API_COMPLETION : API_CHAT);
	else if (i < 3 && !strcmp(r->method, "POST"))
		handle_embed(w, c);
	else if (i < 3 || (strcmp(r->method, "GET") && strcmp(r->method, "HEAD")))
		respond_error(c, 405, "BadRequestError", "no such method here");
	else
		handle_get(c, r);
	if (c->phase == PHASE_IDLE && !c->keep)
		c->phase = PHASE_CLOSING;
}

/* A message that cannot be understood ends the connection: nobody knows where the next one begins. */
static void refuse_connection(struct conn *c, int status, const char *why)
{
	c->keep = false;
	c->head_only = false;
	truth_add(c->client, T_REQUESTS, 1);
	respond_error(c, status, "BadRequestError", why);
	c->phase = PHASE_CLOSING;
}

/* Answers the requests that are whole, in order, one at a time. False: connection gone. */
static bool conn_process(struct worker *w, struct conn *c)
{
	while (c->phase == PHASE_IDLE && c->in.n && !c->writable_wanted) {
		struct request r;
		const char *end;
		ssize_t used;

		while (c->in.n && (c->in.p[0] == '\r' || c->in.p[0] == '\n')) /* RFC 9112 2.2: empty lines before a request */
			buf_shift(&c->in, 1);
		end = c->in.n > c->scanned ? memmem(c->in.p + c->scanned, c->in.n - c->scanned, "\r\n\r\n", 4) : NULL;
		if (!end) {
			c->scanned = c->in.n > 3 ? c->in.n - 3 : 0;
			if (c->in.n > HTTP_HEAD_MAX)
				refuse_connection(c, 431, "the head is too large");
			break;
		}
		c->scanned = (size_t)(end - c->in.p);
		request_read(c->in.p, c->scanned + 4, &r);
		used = r.bad ? -1 : request_body(&r, c->in.p, c->in.n, cfg.max_body, &w->body);
		if (used == 0) {
			if (r.expect && c->in.n == r.head)
				conn_add(c, "HTTP/1.1 100 Continue\r\n\r\n", sizeof("HTTP/1.1 100 Continue\r\n\r\n") - 1);
			break;
		}
		c->scanned = 0;
		if (used < 0) {
			refuse_connection(c, used == -2 ? 413 : 400, used == -2 ? "the body is too large" : "not a request");
			break;
		}
		c->keep = r.keep;
		c->http10 = r.http10;
		c->head_only = r.head_only;
		buf_shift(&c->in, (size_t)used);
		handle_request(w, c, &r);
		if (!conn_flush(w, c) || (c->phase == PHASE_ANSWER && !answer_pump(w, c)))
			return false;
	}
	return conn_flush(w, c);
}

#endif
