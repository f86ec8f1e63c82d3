/*
 * server.h - settings, connections, the threads that own them, and the order in which answers get their turn.
 */
#ifndef MODELSERVER_SERVER_H
#define MODELSERVER_SERVER_H

#include <netdb.h>
#include <pthread.h>
#include <stdbool.h>
#include <time.h>

#include "http.h"
#include "json.h"
#include "lm.h"
#include "truth.h"

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
	const char *key_prefix;
	int model_n, threads, coalesce, max_queue, work_us, defer, first_token_ms;
	bool chaos;
	size_t max_body;
	double tokens_per_s, error_rate, stream_error_rate;
	uint64_t seed;
} cfg = { .bind = "127.0.0.1", .port = "8000", .threads = 1, .coalesce = 1, .max_body = 16 << 20, .seed = 1 };

/* Faults of one model beyond those of `cfg`: POST /chaos sets them while the server runs, so every thread reads them atomically. */
struct chaos {
	uint32_t first_token_ms, slow_percent; /* slow_percent: added to the time per token */
	uint32_t error_ppm, stream_error_ppm;
};
static struct chaos chaos[MODELS_MAX];
#define CHAOS(model, field) __atomic_load_n(&chaos[model].field, __ATOMIC_RELAXED)

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
	uint64_t due_ns, interval_ns; /* of the next token; between tokens, 0: as fast as it goes */
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

#endif
