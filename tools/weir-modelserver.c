/*
 * weir-modelserver - a small OpenAI-compatible model server, for the demo, the tests and the benchmarks.
 *
 * It really tokenizes and really generates (modelserver/lm.h), keeps a prefix cache, answers in the
 * shapes of vLLM (role event first, one event per token, usage when asked), and keeps the truth that a
 * meter can be held against (modelserver/truth.h). Every write is its own: one event, one write(2),
 * unless --coalesce says otherwise. Each thread has its own listener, epoll and connections.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <netdb.h>
#include <signal.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "modelserver/buf.h"
#include "modelserver/http.h"
#include "modelserver/json.h"
#include "modelserver/lm.h"
#include "modelserver/truth.h"

#define READ_CHUNK 65536
#define OUT_HIGH (256 << 10)   /* no new response is begun while more than this waits for the client */
#define THREADS_MAX 64
#define MODELS_MAX 8
#define CONTEXT_MAX 262144     /* tokens, prompt and answer */
#define COALESCE_MAX 4096
#define QUANTUM 64             /* events of one stream before the next has its turn */
#define BLOCK_TOKENS 16        /* of the prefix cache */
#define CACHE_SLOTS 65536
#define EMBED_DIMS 32

static struct {
	const char *bind, *port, *models[MODELS_MAX], *truth_path;
	char key[HTTP_KEY_MAX], name[NI_MAXHOST + 16];
	int model_n, threads, coalesce, max_queue, work_us, defer;
	size_t max_body;
	double tokens_per_s, error_rate, stream_error_rate;
	uint64_t seed;
} cfg = { .bind = "127.0.0.1", .port = "8000", .threads = 1, .coalesce = 1, .max_body = 16 << 20, .seed = 1 };

static struct lm *lm;
static int stopping_fd;
static int running; /* generations under way, all threads */
static uint64_t cache[CACHE_SLOTS];

enum phase { PHASE_IDLE, PHASE_ANSWER, PHASE_CLOSING };
enum api { API_CHAT, API_COMPLETION };

struct conn {
	int fd;
	enum phase phase;
	bool keep, http10, head_only, writable_wanted, shut, queued, dead;
	struct client *client;
	struct buf in, out;
	size_t out_at, scanned;
	uint64_t written; /* bytes of this connection put into `out` so far, sent or not */
	struct marks marks;

	/* the answer under way */
	enum api api;
	bool stream, usage, continuous, ignore_eos, fail, usage_sent;
	uint32_t prompt, cached, made, max, min, deltas, reported, batched;
	struct lm_answer answer;
	struct buf text, prefix;
	uint64_t due_ns;
	struct conn *next, *next_dead; /* in the run queue; among those to be freed */
	uint32_t heap;                 /* place in the heap of paced answers, from 1; 0: not there */
};

struct worker {
	pthread_t thread;
	int epoll, listener;
	struct json json;
	struct buf body, scratch;
	char input[READ_CHUNK];
	uint64_t random, serial;
	struct conn *run, *run_last, *dead;
	struct conn **heap;
	uint32_t heap_n, heap_cap;
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- answers that wait for their time ---------------------------------------------------------------- */
static void heap_place(struct worker *w, uint32_t at, struct conn *c)
{
	w->heap[at] = c;
	c->heap = at;
}

static void heap_down(struct worker *w, uint32_t at, struct conn *c)
{
	for (uint32_t kid; (kid = at * 2) <= w->heap_n; at = kid) {
		if (kid < w->heap_n && w->heap[kid + 1]->due_ns < w->heap[kid]->due_ns)
			kid++;
		if (c->due_ns <= w->heap[kid]->due_ns)
			break;
		heap_place(w, at, w->heap[kid]);
	}
	heap_place(w, at, c);
}

static void heap_up(struct worker *w, uint32_t at, struct conn *c)
{
	for (; at > 1 && c->due_ns < w->heap[at / 2]->due_ns; at /= 2)
		heap_place(w, at, w->heap[at / 2]);
	heap_place(w, at, c);
}

static void heap_push(struct worker *w, struct conn *c)
{
	if (w->heap_n + 1 >= w->heap_cap) {
		w->heap_cap = w->heap_cap ? w->heap_cap * 2 : 64;
		w->heap = buf_realloc(w->heap, w->heap_cap * sizeof(struct conn *));
	}
	heap_up(w, ++w->heap_n, c);
}

static void heap_remove(struct worker *w, struct conn *c)
{
	uint32_t at = c->heap;
	struct conn *last = w->heap[w->heap_n--];

	c->heap = 0;
	if (last == c)
		return;
	if (at > 1 && last->due_ns < w->heap[at / 2]->due_ns)
		heap_up(w, at, last);
	else
		heap_down(w, at, last);
}

static void run_push(struct worker *w, struct conn *c)
{
	c->queued = true;
	c->next = NULL;
	if (w->run)
		w->run_last->next = c;
	else
		w->run = c;
	w->run_last = c;
}

/* ---- bytes out --------------------------------------------------------------------------------------- */
static void conn_watch(struct worker *w, struct conn *c, bool writable)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLRDHUP | (writable ? EPOLLOUT : 0u), .data.ptr = c };

	if (c->writable_wanted != writable)
		epoll_ctl(w->epoll, EPOLL_CTL_MOD, c->fd, &ev);
	c->writable_wanted = writable;
}

/* Writes what there is. False when the connection is gone. */
static bool conn_flush(struct worker *w, struct conn *c)
{
	while (c->out_at < c->out.n) {
		ssize_t n = send(c->fd, c->out.p + c->out_at, c->out.n - c->out_at, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			conn_watch(w, c, true);
			return true;
		}
		if (n < 0)
			return false;
		c->out_at += (size_t)n;
	}
	c->out.n = c->out_at = 0;
	conn_watch(w, c, false);
	return true;
}

static void conn_add(struct conn *c, const char *p, size_t n)
{
	buf_add(&c->out, p, n);
	c->written += n;
}

static void conn_mark(struct conn *c, enum mark_kind kind, uint32_t a, uint32_t b, uint32_t k)
{
	marks_add(&c->marks, c->fd, (struct mark){ c->written, kind, a, b, k, c->deltas });
}

static void conn_status(struct conn *c, int status)
{
	enum truth_field f = status < 300 ? T_2XX : status < 500 ? T_4XX : T_5XX;

	truth_add(c->client, f, 1);
	conn_mark(c, MARK_STATUS, f, 0, 0);
}

static void conn_usage(struct conn *c, uint32_t prompt, uint32_t completion, uint32_t cached)
{
	truth_add(c->client, T_PROMPT, prompt);
	truth_add(c->client, T_COMPLETION, completion);
	truth_add(c->client, T_CACHED, cached);
	conn_mark(c, MARK_USAGE, prompt, completion, cached);
	c->usage_sent = true;
}

static const char *reason_phrase(int status)
{
	switch (status) {
	case 200: return "OK";
	case 400: return "Bad Request";
	case 401: return "Unauthorized";
	case 404: return "Not Found";
	case 405: return "Method Not Allowed";
	case 413: return "Content Too Large";
	case 429: return "Too Many Requests";
	case 431: return "Request Header Fields Too Large";
	default: return "Internal Server Error";
	}
}

/* A whole response with a known length; `prompt` etc. are what its body reports, if it does. */
static void respond(struct conn *c, int status, const char *type, const char *body, size_t n)
{
	struct buf head = { 0 };

	buf_addf(&head,
		 "HTTP/1.1 %d %s\r\nserver: weir-modelserver\r\ncontent-type: %s\r\ncontent-length: %zu\r\n%s\r\n", status,
		 reason_phrase(status), type, n, c->keep ? "" : "connection: close\r\n");
	conn_add(c, head.p, head.n);
	buf_done(&head);
	conn_status(c, status);
	if (!c->head_only)
		conn_add(c, body, n);
}

static void respond_error(struct conn *c, int status, const char *type, const char *message)
{
	struct buf b = { 0 };

	buf_addf(&b, "{\"error\":{\"message\":\"%s\",\"type\":\"%s\",\"param\":null,\"code\":%d}}", message, type, status);
	respond(c, status, "application/json", b.p, b.n);
	conn_mark(c, MARK_END, 0, 0, 0);
	buf_done(&b);
}

/* One event of a stream as one HTTP chunk (HTTP/1.0 has no chunks). */
static void stream_event(struct conn *c, const char *p, size_t n)
{
	char size[24];

	if (!c->http10)
		conn_add(c, size, (size_t)snprintf(size, sizeof(size), "%zx\r\n", n));
	conn_add(c, p, n);
	if (!c->http10)
		conn_add(c, "\r\n", sizeof("\r\n") - 1);
}

/* ---- generation ---------------------------------------------------------------------------------------- */
static void usage_json(struct conn *c, struct buf *b)
{
	buf_addf(b,
		 "\"usage\":{\"prompt_tokens\":%u,\"total_tokens\":%u,\"completion_tokens\":%u,"
		 "\"prompt_tokens_details\":{\"cached_tokens\":%u}}",
		 c->prompt, c->prompt + c->made, c->made, c->cached);
}

static void delta_event(struct worker *w, struct conn *c, const char *text, size_t n, const char *finish)
{
	struct buf *b = &w->scratch;

	b->n = 0;
	buf_add(b, c->prefix.p, c->prefix.n);
	if (c->api == API_CHAT) {
		buf_add_literal(b, "\"choices\":[{\"index\":0,\"delta\":{\"content\":\"");
		buf_add(b, text, n);
		buf_add_literal(b, "\"},\"logprobs\":null,");
	} else {
		buf_add_literal(b, "\"choices\":[{\"index\":0,\"text\":\"");
		buf_add(b, text, n);
		buf_add_literal(b, "\",\"logprobs\":null,");
	}
	buf_addf(b, "\"finish_reason\":%s%s%s", finish ? "\"" : "", finish ? finish : "null", finish ? "\"}]" : "}]");
	if (c->continuous) {
		buf_add_literal(b, ",");
		usage_json(c, b);
	}
	buf_add_literal(b, "}\n\n");
	stream_event(c, b->p, b->n);
	c->deltas++;
	if (c->continuous) {
		conn_usage(c, c->usage_sent ? 0 : c->prompt, c->made - c->reported, c->usage_sent ? 0 : c->cached);
		c->reported = c->made;
	}
	conn_mark(c, MARK_DELTA, 0, 0, 0);
}

static void stream_begin(struct worker *w, struct conn *c)
{
	struct buf *b = &w->scratch;

	b->n = 0;
	buf_addf(b, "HTTP/1.1 200 OK\r\nserver: weir-modelserver\r\ncontent-type: text/event-stream; charset=utf-8\r\n%s%s\r\n",
		 c->http10 ? "" : "transfer-encoding: chunked\r\n", c->keep ? "" : "connection: close\r\n");
	conn_add(c, b->p, b->n);
	conn_status(c, 200);
	if (c->api != API_CHAT)
		return;
	b->n = 0;
	buf_add(b, c->prefix.p, c->prefix.n);
	buf_addf(b, "\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,"
		    "\"finish_reason\":null}]}\n\n");
	stream_event(c, b->p, b->n);
}

/* What follows the last token: usage if asked for, [DONE], the end of the body. Each is a write of its own. */
static bool stream_end(struct worker *w, struct conn *c)
{
	struct buf *b = &w->scratch;

	if (c->fail) {
		static const char error[] = "data: {\"error\":{\"message\":\"injected fault\",\"type\":\"InternalServerError\","
					    "\"param\":null,\"code\":500}}\n\n";

		stream_event(c, error, sizeof(error) - 1);
		truth_add(c->client, T_STREAM_ERRORS, 1);
		conn_mark(c, MARK_ERROR, 0, 0, 0);
	} else if (c->usage) {
		b->n = 0;
		buf_add(b, c->prefix.p, c->prefix.n);
		buf_addf(b, "\"choices\":[],");
		usage_json(c, b);
		buf_add_literal(b, "}\n\n");
		stream_event(c, b->p, b->n);
		conn_usage(c, c->usage_sent ? 0 : c->prompt, c->made - c->reported, c->usage_sent ? 0 : c->cached);
	}
	if (cfg.coalesce == 1 && !conn_flush(w, c))
		return false;
	stream_event(c, "data: [DONE]\n\n", sizeof("data: [DONE]\n\n") - 1);
	if (cfg.coalesce == 1 && !conn_flush(w, c))
		return false;
	if (!c->http10)
		conn_add(c, "0\r\n\r\n", sizeof("0\r\n\r\n") - 1);
	return true;
}

static void answer_whole(struct worker *w, struct conn *c, const char *finish)
{
	struct buf *b = &w->scratch;

	b->n = 0;
	buf_add(b, c->prefix.p + 6, c->prefix.n - 6); /* without "data: " */
	if (c->api == API_CHAT)
		buf_addf(b, "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"");
	else
		buf_addf(b, "\"choices\":[{\"index\":0,\"text\":\"");
	buf_add(b, c->text.p, c->text.n);
	buf_addf(b, "\"%s,\"logprobs\":null,\"finish_reason\":\"%s\"}],", c->api == API_CHAT ? "}" : "", finish);
	usage_json(c, b);
	buf_add_literal(b, "}");
	respond(c, 200, "application/json", b->p, b->n);
	conn_usage(c, c->prompt, c->made, c->cached);
}

static void answer_end(struct conn *c)
{
	uint32_t estimate = c->stream && !c->usage_sent ? c->deltas : 0;

	truth_add(c->client, T_ESTIMATED, estimate);
	conn_mark(c, MARK_END, estimate, 0, 0);
	__atomic_fetch_sub(&running, 1, __ATOMIC_RELAXED);
	c->phase = c->keep ? PHASE_IDLE : PHASE_CLOSING;
}

/* One token. Answers true while there are more to come; false when the answer is over or the connection gone (*ok). */
static bool answer_step(struct worker *w, struct conn *c, bool *ok)
{
	uint16_t id = lm_answer_next(lm, &c->answer, c->ignore_eos || c->made + 1 < c->min);
	const char *finish = id == LM_EOS ? "stop" : c->made + 1 >= c->max ? "length" : NULL;
	size_t from = c->text.n;

	c->made++;
	lm_answer_text(lm, &c->answer, id, finish != NULL, &c->text);
	if (c->fail && c->made * 2 > c->max)
		finish = "error";
	if (c->stream) {
		if (!c->fail || strcmp(finish ? finish : "", "error") != 0)
			delta_event(w, c, c->text.p + from, c->text.n - from, finish);
		c->text.n = 0;
		if (++c->batched >= (uint32_t)cfg.coalesce) {
			c->batched = 0;
			*ok = conn_flush(w, c);
		}
	}
	if (!finish || !*ok)
		return *ok;
	c->fail = c->fail && !strcmp(finish, "error");
	if (c->stream)
		*ok = stream_end(w, c);
	else
		answer_whole(w, c, finish);
	if (*ok)
		answer_end(c);
	if (*ok)
		*ok = conn_flush(w, c);
	return false;
}

/* Tokens until the turn is over, the client is too slow, or (paced) time has caught up. False: connection gone. */
static bool answer_pump(struct worker *w, struct conn *c)
{
	uint64_t now = cfg.tokens_per_s > 0 ? now_ns() : 0;
	int quantum = cfg.tokens_per_s > 0 ? INT_MAX : c->stream ? QUANTUM : QUANTUM * 64;
	bool ok = true;

	if (c->queued || c->heap)
		return true;
	while (quantum-- > 0) {
		if (c->out.n - c->out_at > OUT_HIGH && !conn_flush(w, c))
			return false;
		if (c->writable_wanted)
			return true; /* goes on when the socket takes bytes again */
		if (cfg.tokens_per_s > 0 && c->due_ns > now) {
			heap_push(w, c);
			return true;
		}
		c->due_ns += cfg.tokens_per_s > 0 ? (uint64_t)(1e9 / cfg.tokens_per_s) : 0;
		if (!answer_step(w, c, &ok))
			return ok;
	}
	run_push(w, c);
	return true;
}

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

static bool model_known(const struct json *j, int at)
{
	for (int i = 0; i < cfg.model_n; i++)
		if (j->node[at].n == strlen(cfg.models[i]) && !memcmp(j->node[at].p, cfg.models[i], j->node[at].n))
			return true;
	return false;
}

/* What both kinds of generation and embeddings refuse. True: the answer is written. */
static bool refuse(struct worker *w, struct conn *c)
{
	const struct json *j = &w->json;
	int model;

	if (!json_parse(&w->json, w->body.p, w->body.n) || !json_is(j, 0, JSON_OBJECT))
		respond_error(c, 400, "BadRequestError", "the body is not a JSON object");
	else if (!json_is(j, model = json_get(j, 0, "model"), JSON_STRING))
		respond_error(c, 400, "BadRequestError", "model is missing");
	else if (!model_known(j, model))
		respond_error(c, 404, "NotFoundError", "the model does not exist");
	else if ((double)(lm_random(&w->random) >> 11) * 0x1p-53 < cfg.error_rate)
		respond_error(c, 500, "InternalServerError", "injected fault");
	else
		return false;
	return true;
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
	int input, options;
	long max, min;
	bool echo;

	if (refuse(w, c))
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
	c->fail = c->stream && (double)(lm_random(&w->random) >> 11) * 0x1p-53 < cfg.stream_error_rate;
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
	c->due_ns = cfg.tokens_per_s > 0 ? now_ns() + (uint64_t)(1e9 / cfg.tokens_per_s) : 0;
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
	int input, index = 0;
	uint32_t tokens = 0;

	if (refuse(w, c))
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

static void handle_request(struct worker *w, struct conn *c, const struct request *r)
{
	static const char *const post[] = { "/v1/chat/completions", "/v1/completions", "/v1/embeddings" };
	size_t i = 0;

	truth_add(c->client, T_REQUESTS, 1);
	c->deltas = 0;
	c->usage_sent = false;
	while (i < 3 && strcmp(r->path, post[i]) != 0)
		i++;
	if (cfg.key[0] && strcmp(r->path, "/health") && (strncmp(r->auth, "Bearer ", 7) || strcmp(r->auth + 7, cfg.key)))
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

/* ---- connections --------------------------------------------------------------------------------------------- */
/* Takes back what never left, and books an answer that was cut off. */
static void conn_settle(struct conn *c)
{
	static const struct linger reset = { 1, 0 };
	uint64_t sent = marks_sent(c->fd);
	uint32_t unsent = 0;

	if (sent < c->written) /* what is queued must not leave after it was called unsent */
		setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	for (uint32_t i = 0; i < c->marks.n; i++) {
		const struct mark *m = &c->marks.mark[i];

		if (m->off <= sent)
			continue;
		switch (m->kind) {
		case MARK_DELTA:
			unsent++;
			break;
		case MARK_USAGE:
			truth_add(c->client, T_PROMPT, -(int64_t)m->a);
			truth_add(c->client, T_COMPLETION, -(int64_t)m->b);
			truth_add(c->client, T_CACHED, -(int64_t)m->c);
			if (m->a) /* the first of its answer */
				truth_add(c->client, T_ESTIMATED, (int64_t)m->deltas - unsent);
			break;
		case MARK_STATUS:
			truth_add(c->client, (enum truth_field)m->a, -1);
			break;
		case MARK_ERROR:
			truth_add(c->client, T_STREAM_ERRORS, -1);
			break;
		default: /* the answer was written to its end, but did not leave */
			truth_add(c->client, T_ABORTED, 1);
			if (m->a)
				truth_add(c->client, T_ESTIMATED, -(int64_t)unsent);
			unsent = 0;
		}
	}
	if (c->phase != PHASE_ANSWER)
		return;
	truth_add(c->client, T_ABORTED, 1);
	if (!c->usage_sent && c->deltas > unsent)
		truth_add(c->client, T_ESTIMATED, (int64_t)c->deltas - unsent);
	__atomic_fetch_sub(&running, 1, __ATOMIC_RELAXED);
}

static void conn_close(struct worker *w, struct conn *c)
{
	if (c->dead)
		return;
	if (c->heap)
		heap_remove(w, c);
	conn_settle(c);
	close(c->fd);
	c->dead = true;
	c->phase = PHASE_CLOSING;
	buf_done(&c->in);
	buf_done(&c->out);
	buf_done(&c->text);
	buf_done(&c->prefix);
	free(c->marks.mark);
	c->marks = (struct marks){ 0 };
	c->next_dead = w->dead;
	w->dead = c;
}

/* After anything happened to a connection: close it if it is over, else let it rest. */
static void conn_after(struct worker *w, struct conn *c, bool ok)
{
	if (ok && c->phase == PHASE_CLOSING && c->out.n == c->out_at && !c->shut) {
		shutdown(c->fd, SHUT_WR); /* the client reads to the end, then closes; a reset would eat the answer */
		c->in.n = 0;
		c->shut = true;
		return;
	}
	if (!ok)
		conn_close(w, c);
}

static void conn_read(struct worker *w, struct conn *c)
{
	bool ended = false;

	for (int turns = 0; turns < 16; turns++) {
		ssize_t n;

		n = recv(c->fd, w->input, sizeof(w->input), MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN)
			break;
		if (n <= 0) {
			ended = true;
			if (n < 0 || c->phase != PHASE_IDLE) {
				conn_close(w, c);
				return;
			}
			break;
		}
		truth_add(c->client, T_BYTES_IN, n);
		if (c->phase == PHASE_CLOSING)
			continue; /* read and forgotten, so that the answer is not lost to a reset */
		buf_add(&c->in, w->input, (size_t)n);
		if (c->phase == PHASE_ANSWER && c->in.n > cfg.max_body + HTTP_HEAD_MAX) {
			conn_close(w, c); /* pipelines more than anybody would wait for */
			return;
		}
	}
	conn_after(w, c, c->phase != PHASE_IDLE || conn_process(w, c));
	if (ended && !c->dead && c->phase != PHASE_CLOSING)
		conn_close(w, c); /* everything whole was answered; the client will not send the rest */
}

static void worker_pump(struct worker *w, struct conn *c)
{
	bool ok = answer_pump(w, c);

	if (ok && c->phase == PHASE_IDLE)
		ok = conn_process(w, c);
	conn_after(w, c, ok);
}

static void worker_event(struct worker *w, struct conn *c, uint32_t events)
{
	if (c->dead)
		return;
	if (events & EPOLLOUT) {
		bool ok = conn_flush(w, c);

		if (ok && c->phase == PHASE_ANSWER && c->out.n == c->out_at && !c->heap)
			ok = answer_pump(w, c);
		if (ok && c->phase == PHASE_IDLE)
			ok = conn_process(w, c);
		conn_after(w, c, ok);
		if (c->dead)
			return;
	}
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		conn_read(w, c);
}

static void worker_accept(struct worker *w)
{
	for (int i = 0; i < 64; i++) {
		struct sockaddr_storage from = { 0 };
		struct sockaddr_in6 *from6 = (struct sockaddr_in6 *)&from;
		struct sockaddr_in *from4 = (struct sockaddr_in *)&from;
		socklen_t n = sizeof(from);
		struct in6_addr addr = { .s6_addr = { [10] = 0xff, [11] = 0xff } };
		int one = 1, fd = accept4(w->listener, (struct sockaddr *)&from, &n, SOCK_CLOEXEC | SOCK_NONBLOCK);
		struct epoll_event ev = { .events = EPOLLIN | EPOLLRDHUP };
		struct conn *c;

		if (fd < 0)
			return;
		if (from.ss_family == AF_INET6)
			addr = from6->sin6_addr;
		else
			memcpy(&addr.s6_addr[12], &from4->sin_addr, 4);
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		c = buf_realloc(NULL, sizeof(*c));
		*c = (struct conn){ .fd = fd, .client = truth_client(&addr) };
		ev.data.ptr = c;
		epoll_ctl(w->epoll, EPOLL_CTL_ADD, fd, &ev);
	}
}

/* Frees the closed connections, but for those that still stand in the run queue. */
static void worker_bury(struct worker *w)
{
	struct conn *dead = w->dead;

	w->dead = NULL;
	while (dead) {
		struct conn *c = dead;

		dead = c->next_dead;
		if (c->queued) {
			c->next_dead = w->dead;
			w->dead = c;
		} else {
			free(c);
		}
	}
}

static int events_wait(int epoll, struct epoll_event *ev, int max, const struct timespec *wait)
{
	int n = epoll_pwait2(epoll, ev, max, wait, NULL);

	if (n < 0 && errno == ENOSYS) /* before 5.11: whole milliseconds, rounded up */
		n = epoll_wait(epoll, ev, max, wait ? (int)(wait->tv_sec * 1000 + (wait->tv_nsec + 999999) / 1000000) : -1);
	return n;
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	struct epoll_event ev[256];

	for (;;) {
		struct timespec wait = { 0 };
		uint64_t now = now_ns();
		bool forever = !w->run && !w->heap_n;
		struct conn *run;
		int n;

		if (!w->run && w->heap_n && w->heap[1]->due_ns > now) {
			wait.tv_sec = (time_t)((w->heap[1]->due_ns - now) / 1000000000u);
			wait.tv_nsec = (long)((w->heap[1]->due_ns - now) % 1000000000u);
		}
		n = events_wait(w->epoll, ev, 256, forever ? NULL : &wait);
		for (int i = 0; i < n; i++) {
			if (ev[i].data.ptr == &stopping_fd)
				return NULL;
			if (ev[i].data.ptr == w)
				worker_accept(w);
			else
				worker_event(w, ev[i].data.ptr, ev[i].events);
		}
		for (now = now_ns(); w->heap_n && w->heap[1]->due_ns <= now;) {
			struct conn *c = w->heap[1];

			heap_remove(w, c);
			worker_pump(w, c);
		}
		run = w->run;
		w->run = NULL;
		while (run) {
			struct conn *c = run;

			run = c->next;
			c->queued = false;
			if (!c->dead && c->phase == PHASE_ANSWER)
				worker_pump(w, c);
		}
		worker_bury(w);
	}
}

/* ---- start and end --------------------------------------------------------------------------------------- */
static int listener_open(const struct addrinfo *ai)
{
	int one = 1, zero = 0, fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (cfg.threads > 1)
		setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
	if (ai->ai_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
	if (cfg.defer)
		setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &cfg.defer, sizeof(cfg.defer));
	if (bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 || listen(fd, 4096) < 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	return fd;
}

static int worker_start(struct worker *w, const struct addrinfo *ai, uint64_t seed)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = w };

	*w = (struct worker){ .random = seed };
	w->listener = listener_open(ai);
	if (w->listener < 0)
		return w->listener;
	w->epoll = epoll_create1(EPOLL_CLOEXEC);
	epoll_ctl(w->epoll, EPOLL_CTL_ADD, w->listener, &ev);
	ev.data.ptr = &stopping_fd;
	epoll_ctl(w->epoll, EPOLL_CTL_ADD, stopping_fd, &ev);
	return -pthread_create(&w->thread, NULL, worker_main, w);
}

static void truth_save(void)
{
	struct buf b = { 0 };
	char tmp[PATH_MAX];
	FILE *f;

	if (!cfg.truth_path)
		return;
	truth_write(&b, cfg.name);
	snprintf(tmp, sizeof(tmp), "%s.tmp", cfg.truth_path);
	f = fopen(tmp, "we");
	if (!f || fwrite(b.p, 1, b.n, f) != b.n || fclose(f) || rename(tmp, cfg.truth_path))
		fprintf(stderr, "weir-modelserver: %s: %s\n", cfg.truth_path, strerror(errno));
	buf_done(&b);
}

static int key_read(const char *path)
{
	FILE *f = fopen(path, "re");

	if (!f || !fgets(cfg.key, sizeof(cfg.key), f)) {
		fprintf(stderr, "weir-modelserver: %s: %s\n", path, f ? "no key in it" : strerror(errno));
		return -EINVAL;
	}
	fclose(f);
	cfg.key[strcspn(cfg.key, "\r\n")] = 0;
	return 0;
}

static void usage(FILE *f)
{
	fputs("usage: weir-modelserver [options]\n"
	      "  --port N             (8000; 0 takes a free one)\n"
	      "  --bind ADDRESS       IPv4 or IPv6 (127.0.0.1; :: for everything)\n"
	      "  --threads N          (1)\n"
	      "  --model NAME         may be repeated (weir-tiny)\n"
	      "  --tokens-per-s R     of each answer; 0: as fast as it goes (0)\n"
	      "  --coalesce N         stream events per write (1)\n"
	      "  --work-us N          computing time per request: limits the server's rate (0)\n"
	      "  --max-queue N        answers under way before 429 (0: no limit)\n"
	      "  --error-rate P       share of requests answered 500 (0)\n"
	      "  --stream-error-rate P  share of streams that fail in the middle, inside their 200 (0)\n"
	      "  --api-key FILE       ask for this key\n"
	      "  --max-body BYTES     (16 MiB)\n"
	      "  --defer S            TCP_DEFER_ACCEPT\n"
	      "  --seed N\n"
	      "  --truth FILE         what left the server per client: written on exit and on SIGUSR1; GET /truth answers the same\n",
	      f);
}

enum { OPT_PORT = 1, OPT_BIND, OPT_THREADS, OPT_MODEL, OPT_RATE, OPT_COALESCE, OPT_WORK, OPT_QUEUE, OPT_ERRORS, OPT_STREAM_ERRORS, OPT_KEY, OPT_BODY, OPT_DEFER, OPT_SEED, OPT_TRUTH, OPT_HELP };

static int options_read(int argc, char **argv)
{
	static const struct option options[] = {
		{ "port", 1, NULL, OPT_PORT },
		{ "bind", 1, NULL, OPT_BIND },
		{ "threads", 1, NULL, OPT_THREADS },
		{ "model", 1, NULL, OPT_MODEL },
		{ "tokens-per-s", 1, NULL, OPT_RATE },
		{ "coalesce", 1, NULL, OPT_COALESCE },
		{ "work-us", 1, NULL, OPT_WORK },
		{ "max-queue", 1, NULL, OPT_QUEUE },
		{ "error-rate", 1, NULL, OPT_ERRORS },
		{ "stream-error-rate", 1, NULL, OPT_STREAM_ERRORS },
		{ "api-key", 1, NULL, OPT_KEY },
		{ "max-body", 1, NULL, OPT_BODY },
		{ "defer", 1, NULL, OPT_DEFER },
		{ "seed", 1, NULL, OPT_SEED },
		{ "truth", 1, NULL, OPT_TRUTH },
		{ "help", 0, NULL, OPT_HELP },
		{ 0 },
	};

	for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		switch (o) {
		case OPT_PORT: cfg.port = optarg; break;
		case OPT_BIND: cfg.bind = optarg; break;
		case OPT_THREADS: cfg.threads = atoi(optarg); break;
		case OPT_RATE: cfg.tokens_per_s = atof(optarg); break;
		case OPT_COALESCE: cfg.coalesce = atoi(optarg); break;
		case OPT_WORK: cfg.work_us = atoi(optarg); break;
		case OPT_QUEUE: cfg.max_queue = atoi(optarg); break;
		case OPT_ERRORS: cfg.error_rate = atof(optarg); break;
		case OPT_STREAM_ERRORS: cfg.stream_error_rate = atof(optarg); break;
		case OPT_BODY: cfg.max_body = strtoull(optarg, NULL, 10); break;
		case OPT_DEFER: cfg.defer = atoi(optarg); break;
		case OPT_SEED: cfg.seed = strtoull(optarg, NULL, 10); break;
		case OPT_TRUTH: cfg.truth_path = optarg; break;
		case OPT_MODEL:
			if (cfg.model_n == MODELS_MAX)
				return -E2BIG;
			cfg.models[cfg.model_n++] = optarg;
			break;
		case OPT_KEY:
			if (key_read(optarg))
				return -EINVAL;
			break;
		case OPT_HELP:
			usage(stdout);
			exit(0);
		default:
			return -EINVAL;
		}
	}
	if (!cfg.model_n)
		cfg.models[cfg.model_n++] = "weir-tiny";
	if (optind < argc || cfg.threads < 1 || cfg.threads > THREADS_MAX || cfg.coalesce < 1 || cfg.coalesce > COALESCE_MAX)
		return -EINVAL;
	return 0;
}

int main(int argc, char **argv)
{
	struct addrinfo hints = { .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE, .ai_socktype = SOCK_STREAM }, *ai;
	struct sockaddr_storage bound = { 0 };
	struct worker *workers;
	socklen_t n = sizeof(bound);
	struct rlimit files;
	sigset_t set;
	int r, sig;

	if (options_read(argc, argv) < 0) {
		usage(stderr);
		return 2;
	}
	r = getaddrinfo(cfg.bind, cfg.port, &hints, &ai);
	if (r) {
		fprintf(stderr, "weir-modelserver: %s port %s: %s\n", cfg.bind, cfg.port, gai_strerror(r));
		return 2;
	}
	if (!getrlimit(RLIMIT_NOFILE, &files)) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);

	lm = lm_new();
	stopping_fd = eventfd(0, EFD_CLOEXEC);
	workers = buf_realloc(NULL, sizeof(*workers) * (size_t)cfg.threads);
	for (int i = 0; i < cfg.threads; i++) {
		r = worker_start(&workers[i], ai, cfg.seed * 1000003 + (uint64_t)i);
		if (r < 0) {
			fprintf(stderr, "weir-modelserver: %s port %s: %s\n", cfg.bind, cfg.port, strerror(-r));
			return 1;
		}
		if (i)
			continue;
		getsockname(workers[0].listener, (struct sockaddr *)&bound, &n);
		memcpy(ai->ai_addr, &bound, n); /* --port 0: the others take the same */
	}
	r = ntohs(((struct sockaddr_in *)&bound)->sin_port);
	snprintf(cfg.name, sizeof(cfg.name), strchr(cfg.bind, ':') ? "[%s]:%d" : "%s:%d", cfg.bind, r);
	fprintf(stderr, "weir-modelserver: ready on %s, %u tokens known\n", cfg.name, lm->vocab);
	for (sig = 0; sig != SIGINT && sig != SIGTERM;) {
		sigwait(&set, &sig);
		if (sig == SIGUSR1)
			truth_save();
	}
	eventfd_write(stopping_fd, 1);
	for (int i = 0; i < cfg.threads; i++)
		pthread_join(workers[i].thread, NULL);
	truth_save();
	freeaddrinfo(ai);
	free(workers);
	free(lm);
	return 0;
}
