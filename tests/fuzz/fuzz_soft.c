/*
 * The whole meter on any segments of one to four connections: no read out of bounds, no record it could not have made, tables
 * bounded. Input: pieces of {how, seq offset, length, bytes}; how: bit 0 direction, 1 out of step, 2 FIN, 3 RST, 4-5 connection,
 * 6 TCP's view unknown, 7 flush. Lengths from 240 on stand for whole phrases, so that real messages come about soon.
 */
#include "capture/soft.h"
#include "decode/automaton.h"

#define CONNS_MAX 4
#define CLIENTS_MAX 2

#define PHRASE_FIRST 240

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const char *const phrases[] = {
	"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 16\r\n\r\n",
	"{\"messages\":\"a\"}",
	"HEAD / HTTP/1.1\r\n\r\n",
	"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
	"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n",
	"{\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":9}}",
	"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
	"2f\r\ndata: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n\r\n",
	"3c\r\ndata: {\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":99}}\n\n\r\n",
	"0\r\n\r\n",
	"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n",
	"HTTP/1.1 100 Continue\r\n\r\n",
	"HTTP/1.1 204 None\r\n\r\n",
	"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 40\r\n\r\n",
	"HTTP/1.1 101 Up\r\n\r\n",
	"CONNECT a HTTP/1.1\r\n\r\n",
	"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	"HTTP/1.1 101 Up\r\nUpgrade: h2c\r\n\r\n",
};

static struct weir_automaton automaton;
static struct weir_control control;

struct store {
	struct weir_client_key key[CLIENTS_MAX + 1];
	struct weir_client value[CLIENTS_MAX + 1];
	size_t n;
	uint64_t requests, responses;
};

static struct weir_client *find(struct store *s, const struct weir_client_key *key)
{
	for (size_t i = 0; i < s->n; i++)
		if (memcmp(&s->key[i], key, sizeof(*key)) == 0)
			return &s->value[i];
	return NULL;
}

static int load(void *ctx, const struct weir_client_key *key, struct weir_client *ret)
{
	const struct weir_client *c = find(ctx, key);

	if (c)
		*ret = *c;
	return c ? 0 : -ENOENT;
}

static int make(void *ctx, const struct weir_client_key *key, const struct weir_client *value)
{
	struct store *s = ctx;

	if (s->n == CLIENTS_MAX + 1 || (s->n >= CLIENTS_MAX && !(key->flags & WEIR_CLIENT_OTHER)))
		return -E2BIG;
	s->key[s->n] = *key;
	s->value[s->n++] = *value;
	return 0;
}

static int save(void *ctx, const struct weir_client_key *key, const struct weir_client *value)
{
	struct weir_client *c = find(ctx, key);

	if (!c)
		abort();
	*c = *value;
	return 0;
}

static void stat_save(void *ctx, enum weir_stat which, uint64_t value)
{
	struct store *s = ctx;

	if (which == WEIR_STAT_REQUESTS)
		s->requests = value;
	if (which == WEIR_STAT_RESPONSES)
		s->responses = value;
}

static void on_event(void *ctx, const void *data, size_t n)
{
	const struct weir_slice *e = data;
	const struct weir_done *d = data;
	const struct weir_raw *raw = data;

	(void)ctx;
	if (e->type == WEIR_EVENT_RAW) {
		if (n < sizeof(*raw) || raw->len > n - sizeof(*raw) || raw->len > WEIR_RAW_MAX || raw->dir > WEIR_RESPONSE || (raw->flags & WEIR_RAW_END && raw->len))
			abort();
		return;
	}
	if (e->type == WEIR_EVENT_DONE ? n != sizeof(*d) : e->type != WEIR_EVENT_SLICE || n < sizeof(*e) || e->len > n - sizeof(*e))
		abort();
	if (e->type == WEIR_EVENT_DONE)
		for (int i = 0; i < WEIR_TOK_COUNT; i++)
			if (d->tokens[i] > WEIR_TOKENS_MAX)
				abort();
}

static void feed(struct soft *soft, const uint8_t *data, size_t n)
{
	uint32_t seq[CONNS_MAX][2] = { 0 };
	uint64_t now = 1;

	while (n > 3) {
		uint8_t how = data[0], conn = how >> 4 & 3, dir = how & 1;
		const char *phrase = data[2] >= PHRASE_FIRST ? phrases[data[2] - PHRASE_FIRST] : NULL;
		size_t len = phrase ? strlen(phrase) : MIN(data[2] * 8u, n - 3), used = phrase ? 0 : len;
		struct weir_tap *t = calloc(1, sizeof(*t) + len); /* exact, for the sanitizer */

		if (!t)
			abort();
		t->ts = now += 1000;
		t->key = (struct weir_conn_key){ .lport = 80, .rport = conn, .raddr = { [10] = 0xff, [11] = 0xff, [15] = conn } };
		t->dir = dir;
		t->flags = (how & 4 ? WEIR_TAP_FIN : 0) | (how & 8 ? WEIR_TAP_RST : 0);
		t->seq = seq[conn][dir] + (how & 2 ? (uint32_t)(int8_t)data[1] * 16 : 0);
		t->len = (uint32_t)len;
		t->tcp = (struct weir_tcp){ seq[conn][dir], seq[conn][dir] + 65536, !(how & 64), seq[conn][dir] == 0 };
		memcpy(t->data, phrase ? phrase : (const char *)data + 3, len);
		seq[conn][dir] = t->seq + t->len;
		if (soft_segment(soft, t, sizeof(*t) + len) < 0)
			abort();
		free(t);
		if (how & 128)
			soft_flush(soft);
		data += 3 + used;
		n -= 3 + used;
	}
	soft_flush(soft);
	if (soft_conns(soft) > CONNS_MAX)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct store store = { 0 };
	struct soft_opts opts = {
		.automaton = &automaton,
		.control = &control,
		.max_conns = CONNS_MAX - 1,
		.store = { load, make, save, stat_save, NULL, &store },
		.event = on_event,
	};
	struct soft *soft;
	uint64_t requests = 0;
	int64_t open = 0;

	if (!automaton.states && automaton_build(&automaton) < 0)
		abort();
	if (soft_open(&opts, &soft) < 0)
		return 0;
	feed(soft, data, n);
	for (size_t i = 0; i < store.n; i++) {
		requests += store.value[i].requests;
		open += store.value[i].open;
	}
	/* The design's invariant: the clients and `other` together are the total; what is open is what was not settled. */
	if (requests != store.requests || open < 0)
		abort();
	soft_free(soft);
	return 0;
}
