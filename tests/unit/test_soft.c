/*
 * test_soft.c - the meter in user space, on segments made by hand: the whole of bpf/meter.bpf.c, under the
 * sanitizers. The store is an array, so that flushing, the full table and ageing are seen from outside.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "capture/soft.h"
#include "decode/automaton.h"

#define STORED_MAX 64
#define DONES_MAX 64
#define SLICED_MAX 65536

static struct weir_automaton automaton;

struct stored {
	struct weir_client_key key;
	struct weir_client value;
};

/* Everything around one meter. */
struct bench {
	struct soft *soft;
	struct weir_control control;
	struct stored stored[STORED_MAX];
	size_t stored_n, stored_limit;
	uint64_t stats[WEIR_STAT_COUNT];
	struct weir_done done[DONES_MAX];
	size_t done_n, slices;
	char sliced[2][SLICED_MAX]; /* by enum weir_dir: the slices' bytes, one after another */
	size_t sliced_n[2];
	uint8_t local[16];
	uint64_t now;
};

static struct stored *stored_find(struct bench *b, const struct weir_client_key *key)
{
	for (size_t i = 0; i < b->stored_n; i++)
		if (memcmp(&b->stored[i].key, key, sizeof(*key)) == 0)
			return &b->stored[i];
	return NULL;
}

static int store_load(void *ctx, const struct weir_client_key *key, struct weir_client *ret)
{
	const struct stored *s = stored_find(ctx, key);

	if (!s)
		return -ENOENT;
	*ret = s->value;
	return 0;
}

static int store_make(void *ctx, const struct weir_client_key *key, const struct weir_client *value)
{
	struct bench *b = ctx;

	assert_null(stored_find(b, key));
	if (b->stored_n >= STORED_MAX || (b->stored_n >= b->stored_limit && !(key->flags & WEIR_CLIENT_OTHER)))
		return -E2BIG;
	b->stored[b->stored_n++] = (struct stored){ .key = *key, .value = *value };
	return 0;
}

static int store_save(void *ctx, const struct weir_client_key *key, const struct weir_client *value)
{
	struct stored *s = stored_find(ctx, key);

	assert_non_null(s);
	s->value = *value;
	return 0;
}

static void store_stat(void *ctx, enum weir_stat which, uint64_t value)
{
	((struct bench *)ctx)->stats[which] = value;
}

static bool store_is_local(void *ctx, const uint8_t addr[16])
{
	return memcmp(((struct bench *)ctx)->local, addr, 16) == 0;
}

static void on_event(void *ctx, const void *data, size_t n)
{
	const struct weir_slice *slice = data;
	struct bench *b = ctx;

	if (slice->type == WEIR_EVENT_DONE) {
		assert_int_equal(n, sizeof(struct weir_done));
		assert_true(b->done_n < DONES_MAX);
		memcpy(&b->done[b->done_n++], data, n);
		return;
	}
	assert_int_equal(slice->type, WEIR_EVENT_SLICE);
	assert_true(n >= sizeof(*slice) && slice->len <= n - sizeof(*slice));
	assert_true(slice->dir <= WEIR_RESPONSE && b->sliced_n[slice->dir] + slice->len <= SLICED_MAX);
	memcpy(b->sliced[slice->dir] + b->sliced_n[slice->dir], slice->data, slice->len);
	b->sliced_n[slice->dir] += slice->len;
	b->slices++;
}

static struct bench *bench_new(struct soft_opts opts)
{
	struct bench *b = calloc(1, sizeof(*b));

	assert_non_null(b);
	b->stored_limit = STORED_MAX;
	b->now = 1000000000;
	opts.automaton = &automaton;
	opts.control = &b->control;
	opts.event = on_event;
	opts.ctx = b;
	opts.store = (struct soft_store){ store_load, store_make, store_save, store_stat, store_is_local, b };
	assert_int_equal(soft_open(&opts, &b->soft), 0);
	return b;
}

static void bench_free(struct bench *b)
{
	b->soft = soft_free(b->soft);
	free(b);
}

/* A connection as the tap would tell of it. */
struct wire {
	struct weir_conn_key key;
	uint32_t seq[2]; /* by enum weir_dir */
	uint32_t rcv_nxt; /* TCP's, of the request side */
	bool received;    /* it has taken something */
};

static struct wire wire_v4(uint8_t client, uint16_t port)
{
	struct wire w = { .key = { .netns = 7, .lport = 8000, .rport = port }, .seq = { 100, 0xfffffff0u }, .rcv_nxt = 100 };

	w.key.laddr[10] = w.key.laddr[11] = w.key.raddr[10] = w.key.raddr[11] = 0xff;
	w.key.laddr[12] = w.key.raddr[12] = 127;
	w.key.laddr[15] = 1;
	w.key.raddr[15] = client;
	return w;
}

/* One record, in memory of exactly its size, so that the sanitizer sees a read behind it. */
static int wire_record(struct bench *b, struct wire *w, int dir, uint32_t seq, const char *p, size_t n, uint8_t flags)
{
	struct weir_tap *t = calloc(1, sizeof(*t) + n);
	int r;

	assert_non_null(t);
	b->now += 1000000;
	t->ts = b->now;
	t->key = w->key;
	t->seq = seq;
	t->len = (uint32_t)n;
	t->dir = (uint8_t)dir;
	t->flags = flags;
	if (dir == WEIR_REQUEST)
		t->tcp = (struct weir_tcp){ .valid = 1, .fresh = !w->received, .rcv_nxt = w->rcv_nxt, .rcv_end = w->rcv_nxt + (1u << 20) };
	memcpy(t->data, p, n);
	r = soft_segment(b->soft, t, sizeof(*t) + n);
	free(t);
	return r;
}

static void wire_send(struct bench *b, struct wire *w, int dir, const char *p, size_t n)
{
	assert_int_equal(wire_record(b, w, dir, w->seq[dir], p, n, 0), 0);
	w->seq[dir] += (uint32_t)n;
	if (dir == WEIR_REQUEST) {
		w->rcv_nxt = w->seq[dir];
		w->received = true;
	}
}

static void wire_text(struct bench *b, struct wire *w, int dir, const char *text)
{
	wire_send(b, w, dir, text, strlen(text));
}

static void wire_end(struct bench *b, struct wire *w)
{
	wire_record(b, w, WEIR_RESPONSE, w->seq[WEIR_RESPONSE], "", 0, WEIR_TAP_FIN);
	wire_record(b, w, WEIR_REQUEST, w->seq[WEIR_REQUEST], "", 0, WEIR_TAP_FIN);
}

/* ---- messages -------------------------------------------------------------------------------------- */
#define PROMPT "the secret of the river"

static char *request_make(void)
{
	static const char body[] = "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"" PROMPT "\"}]}";
	char *text;

	assert_true(asprintf(&text, "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: %zu\r\n\r\n%s", strlen(body), body) > 0);
	return text;
}

static char *answer_make(int status, const char *body)
{
	char *text;

	assert_true(asprintf(&text, "HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s", status, strlen(body), body) > 0);
	return text;
}

#define USAGE "\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":5,\"prompt_tokens_details\":{\"cached_tokens\":3}}"
#define ANSWER "{\"choices\":[{\"message\":{\"content\":\"hello\"}}]," USAGE "}"

/* A chunked stream: role, two pieces of text, why it ends (and the word that it ended at, which is no reason), usage, end. */
static char *stream_make(void)
{
	static const char *const events[] = {
		"data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
		"data: {\"choices\":[{\"delta\":{\"content\":\"Hel\"}}]}\n\n",
		"data: {\"choices\":[{\"delta\":{\"content\":\"lo\"}}]}\n\n",
		"data: {\"choices\":[{\"delta\":{},\"finish_reason\": \"length\",\"stop_reason\":\"river\"}]}\n\n",
		"data: {\"choices\":[]," USAGE "}\n\n",
		"data: [DONE]\n\n",
	};
	char *text = NULL;
	size_t n;
	FILE *f = open_memstream(&text, &n);

	assert_non_null(f);
	fprintf(f, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
	for (size_t i = 0; i < ARRAY_SIZE(events); i++)
		fprintf(f, "%zx\r\n%s\r\n", strlen(events[i]), events[i]);
	fprintf(f, "0\r\n\r\n");
	fclose(f);
	return text;
}

static void exchange(struct bench *b, struct wire *w)
{
	CLEANUP(freep) char *q = request_make(), *a = answer_make(200, ANSWER);

	wire_text(b, w, WEIR_REQUEST, q);
	wire_text(b, w, WEIR_RESPONSE, a);
}

static const struct weir_client *only_client(struct bench *b)
{
	soft_flush(b->soft);
	assert_int_equal(b->stored_n, 1);
	return &b->stored[0].value;
}

/* ---- tests ------------------------------------------------------------------------------------------ */
static void test_exchange(void **state)
{
	struct bench *b = bench_new((struct soft_opts){ 0 });
	struct wire w = wire_v4(9, 40000);
	const struct weir_client *c;

	(void)state;
	exchange(b, &w);
	c = only_client(b);
	assert_int_equal(c->requests, 1);
	assert_int_equal(c->status_2xx, 1);
	assert_int_equal(c->prompt_tokens, 11);
	assert_int_equal(c->completion_tokens, 5);
	assert_int_equal(c->cached_tokens, 3);
	assert_int_equal(c->open, 0);
	assert_int_equal(c->bytes_in, w.seq[WEIR_REQUEST] - 100);
	assert_int_equal(c->bytes_out, w.seq[WEIR_RESPONSE] - 0xfffffff0u);
	assert_int_equal(b->stored[0].key.netns, 7);
	assert_int_equal(b->stored[0].key.port, 8000);
	assert_memory_equal(b->stored[0].key.client, w.key.raddr, 16);
	assert_int_equal(b->done_n, 1);
	assert_int_equal(b->done[0].status, 200);
	assert_int_equal(b->done[0].flags, 0);
	assert_int_equal(b->done[0].resp_last_ns, b->now);
	assert_memory_equal(&b->done[0].key, &w.key, sizeof(w.key));
	assert_int_equal(b->stats[WEIR_STAT_SEGMENTS], 2);
	assert_int_equal(b->stats[WEIR_STAT_REQUESTS], 1);
	assert_int_equal(b->stats[WEIR_STAT_RESPONSES], 1);
	bench_free(b);
}

/* Both directions cut into pieces of every size, and at every single place. */
static void test_every_split(void **state)
{
	CLEANUP(freep) char *q = request_make(), *a = stream_make();
	size_t qn = strlen(q), an = strlen(a);

	(void)state;
	for (size_t size = 1; size <= MAX(qn, an); size++) {
		struct bench *b = bench_new((struct soft_opts){ 0 });
		struct wire w = wire_v4(9, 40000);
		const struct weir_client *c;

		for (size_t at = 0; at < qn; at += size)
			wire_send(b, &w, WEIR_REQUEST, q + at, MIN(size, qn - at));
		for (size_t at = 0; at < an; at += size)
			wire_send(b, &w, WEIR_RESPONSE, a + at, MIN(size, an - at));
		c = only_client(b);
		assert_int_equal(c->requests, 1);
		assert_int_equal(c->status_2xx, 1);
		assert_int_equal(c->prompt_tokens, 11);
		assert_int_equal(c->completion_tokens, 5);
		assert_int_equal(c->cached_tokens, 3);
		assert_int_equal(b->done_n, 1);
		assert_int_equal(b->done[0].delta_events, 2);
		assert_int_equal(b->done[0].events, 5);
		assert_string_equal(b->done[0].finish, "length");
		assert_int_equal(b->done[0].flags, WEIR_DONE_STREAM);
		assert_int_equal(b->stats[WEIR_STAT_GAP], 0);
		bench_free(b);
	}
	for (size_t cut = 1; cut < an; cut++) {
		struct bench *b = bench_new((struct soft_opts){ 0 });
		struct wire w = wire_v4(9, 40000);

		wire_text(b, &w, WEIR_REQUEST, q);
		wire_send(b, &w, WEIR_RESPONSE, a, cut);
		wire_send(b, &w, WEIR_RESPONSE, a + cut, an - cut);
		assert_int_equal(only_client(b)->completion_tokens, 5);
		assert_int_equal(b->done[0].delta_events, 2);
		assert_string_equal(b->done[0].finish, "length");
		bench_free(b);
	}
}

static void finish_is(const char *answer, const char *want, size_t want_n)
{
	struct bench *b = bench_new((struct soft_opts){ 0 });
	CLEANUP(freep) char *q = request_make(), *a = answer_make(200, answer);
	struct wire w = wire_v4(9, 40000);
	char padded[WEIR_FINISH_MAX] = { 0 };

	wire_text(b, &w, WEIR_REQUEST, q);
	wire_text(b, &w, WEIR_RESPONSE, a);
	assert_int_equal(b->done_n, 1);
	memcpy(padded, want, want_n);
	assert_memory_equal(b->done[0].finish, padded, sizeof(padded));
	bench_free(b);
}

static void test_finish(void **state)
{
	(void)state;
	finish_is(ANSWER, "", 0);
	finish_is("{\"finish_reason\":\"stop\"}", "stop", 4);
	finish_is("{\"finish_reason\":\"tool_calls\",\"x\":{\"finish_reason\":\"stop\"}}", "tool_calls", 10); /* the first one */
	finish_is("{\"x\":{\"finish_reason\":null},\"finish_reason\": \n \"tool_calls\"}", "tool_calls", 10);
	finish_is("{\"finish_reason\":\"\"}", "", 0);
	finish_is("{\"stop_reason\":\"end_turn\"}", "end_turn", 8);
	finish_is("{\"finish_reason\":{\"type\":\"stop\"}}", "", 0);
	finish_is("{\"finish_reason\":\"0123456789abcdef0123456789abcdefXYZ\"}", "0123456789abcdef0123456789abcdef", WEIR_FINISH_MAX);
	/* what cannot be one, or has no end */
	finish_is("{\"finish_reason\":\"a\\\"b\"}", "", 0);
	finish_is("{\"finish_reason\":\"\\u0061\"}", "", 0);
	finish_is("{\"finish_reason\":\"sto", "", 0);
	finish_is("{\"finish_reason\":\"a\n\"", "", 0);
	/* and what follows is read as before */
	finish_is("{\"finish_reason\":\"a\\\"b\",\"finish_reason\":\"stop\"}", "stop", 4);
}

static void test_retransmitted(void **state)
{
	struct bench *b = bench_new((struct soft_opts){ 0 });
	CLEANUP(freep) char *q = request_make(), *a = answer_make(200, ANSWER);
	struct wire w = wire_v4(9, 40000);

	(void)state;
	wire_text(b, &w, WEIR_REQUEST, q);
	wire_send(b, &w, WEIR_RESPONSE, a, 50);
	wire_record(b, &w, WEIR_RESPONSE, w.seq[WEIR_RESPONSE] - 50, a, 50, 0);             /* the same again */
	wire_record(b, &w, WEIR_RESPONSE, w.seq[WEIR_RESPONSE] - 20, a + 30, strlen(a) - 30, 0); /* overlaps, and goes on */
	assert_int_equal(only_client(b)->completion_tokens, 5);
	assert_int_equal(only_client(b)->bytes_out, strlen(a));
	assert_int_equal(b->stats[WEIR_STAT_DUP], 1);
	assert_int_equal(b->done[0].flags, 0);
	bench_free(b);
}

/* A record that did not fit the ring, in the middle of a stream: a gap, said to be one, and the usage is found all the same. */
static void test_record_lost(void **state)
{
	struct bench *b = bench_new((struct soft_opts){ 0 });
	CLEANUP(freep) char *q = request_make(), *a = stream_make();
	size_t from = (size_t)(strstr(a, "Hel") - a), to = (size_t)(strstr(a, "lo\"") - a), end = strlen(a);
	struct wire w = wire_v4(9, 40000);

	(void)state;
	wire_text(b, &w, WEIR_REQUEST, q);
	wire_send(b, &w, WEIR_RESPONSE, a, from);
	w.seq[WEIR_RESPONSE] += (uint32_t)(to - from);
	wire_send(b, &w, WEIR_RESPONSE, a + to, end - to);
	wire_end(b, &w);
	assert_int_equal(only_client(b)->completion_tokens, 5);
	assert_int_equal(only_client(b)->requests, 1);
	assert_int_equal(only_client(b)->bytes_out, end);
	assert_int_equal(b->stats[WEIR_STAT_GAP], 1);
	assert_int_equal(b->stats[WEIR_STAT_GAP_BYTES], to - from);
	assert_int_equal(b->done_n, 1);
	assert_true(b->done[0].flags & WEIR_DONE_PARTIAL);
	bench_free(b);
}

/* Segments that pass before TCP has taken the first one are of the same connection, also out of order. */
static void test_ahead_of_tcp(void **state)
{
	struct bench *b = bench_new((struct soft_opts){ 0 });
	CLEANUP(freep) char *q = request_make(), *a = answer_make(200, ANSWER);
	struct wire w = wire_v4(9, 40000);

	(void)state;
	wire_record(b, &w, WEIR_REQUEST, 100, q, 80, 0);
	wire_record(b, &w, WEIR_REQUEST, 180, q + 80, strlen(q) - 80, 0);
	wire_text(b, &w, WEIR_RESPONSE, a);
	assert_int_equal(only_client(b)->requests, 1);
	assert_int_equal(only_client(b)->aborted, 0);
	assert_int_equal(only_client(b)->bytes_in, strlen(q));
	assert_int_equal(soft_conns(b->soft), 1);
	bench_free(b);
}

/* The same addresses and ports once more, and the end of the first connection was not seen: its open request is settled. */
static void test_ports_used_again(void **state)
{
	struct bench *b = bench_new((struct soft_opts){ 0 });
	CLEANUP(freep) char *q = request_make();
	struct wire w = wire_v4(9, 40000);

	(void)state;
	wire_text(b, &w, WEIR_REQUEST, q);
	w.seq[WEIR_REQUEST] = w.rcv_nxt = 1u << 31;
	w.received = false;
	wire_text(b, &w, WEIR_REQUEST, q);
	w.seq[WEIR_RESPONSE] = 77;
	wire_text(b, &w, WEIR_RESPONSE, "HTTP/1.1 204 None\r\n\r\n");
	assert_int_equal(only_client(b)->requests, 2);
	assert_int_equal(only_client(b)->aborted, 1);
	assert_int_equal(only_client(b)->status_2xx, 1);
	assert_int_equal(only_client(b)->open, 0);
	assert_int_equal(soft_conns(b->soft), 1);
	bench_free(b);
}

static void test_aborted(void **state)
{
	struct bench *b = bench_new((struct soft_opts){ 0 });
	CLEANUP(freep) char *q = request_make(), *a = stream_make();
	struct wire w = wire_v4(9, 40000);

	(void)state;
	wire_text(b, &w, WEIR_REQUEST, q);
	wire_send(b, &w, WEIR_RESPONSE, a, (size_t)(strstr(a, "usage") - a));
	assert_int_equal(soft_conns(b->soft), 1);
	wire_record(b, &w, WEIR_REQUEST, w.seq[WEIR_REQUEST], "", 0, WEIR_TAP_RST);
	assert_int_equal(only_client(b)->aborted, 1);
	assert_int_equal(only_client(b)->open, 0);
	assert_int_equal(only_client(b)->estimated_tokens, 2);
	assert_int_equal(b->done_n, 1);
	assert_true(b->done[0].flags & WEIR_DONE_ABORTED);
	bench_free(b);
}

/* Clients that find the table full go to `other`; nothing is lost from the sum. */
static void test_table_full(void **state)
{
	struct bench *b = bench_new((struct soft_opts){ 0 });
	uint64_t requests = 0, others = 0;

	(void)state;
	b->stored_limit = 3;
	for (uint8_t i = 1; i <= 10; i++) {
		struct wire w = wire_v4(i, 40000);

		exchange(b, &w);
		wire_end(b, &w);
		if (i % 4 == 0)
			soft_flush(b->soft);
	}
	soft_flush(b->soft);
	for (size_t i = 0; i < b->stored_n; i++) {
		requests += b->stored[i].value.requests;
		if (b->stored[i].key.flags & WEIR_CLIENT_OTHER)
			others += b->stored[i].value.requests;
	}
	assert_int_equal(b->stored_n, 4);
	assert_int_equal(requests, 10);
	assert_int_equal(others, 7);
	assert_true(b->stats[WEIR_STAT_CLIENT_FULL] > 0);
	bench_free(b);
}

/* Between two segments the owner of the store may take an entry away: what comes next starts from nothing, and only that. */
static void test_aged_between(void **state)
{
	struct bench *b = bench_new((struct soft_opts){ 0 });
	struct wire w = wire_v4(9, 40000);

	(void)state;
	exchange(b, &w);
	assert_int_equal(only_client(b)->requests, 1);
	b->stored_n = 0;
	exchange(b, &w);
	exchange(b, &w);
	assert_int_equal(only_client(b)->requests, 2);
	assert_int_equal(only_client(b)->completion_tokens, 10);
	bench_free(b);
}

static void test_connections_full_and_aged(void **state)
{
	struct bench *b = bench_new((struct soft_opts){ .max_conns = 4 });
	CLEANUP(freep) char *q = request_make();
	struct wire open = wire_v4(9, 39999);

	(void)state;
	wire_text(b, &open, WEIR_REQUEST, q);
	for (uint16_t i = 0; i < 6; i++) {
		struct wire w = wire_v4(9, (uint16_t)(40000 + i));

		exchange(b, &w);
	}
	assert_int_equal(soft_conns(b->soft), 4);
	soft_flush(b->soft);
	assert_int_equal(b->stats[WEIR_STAT_CONN_FULL], 6); /* both segments of three connections */
	for (int i = 0; i < 64; i++) /* idle ones go, a part of the table at a time; the one that waits for its answer stays */
		soft_age(b->soft, b->now + 100, 50, 1000000000000);
	assert_int_equal(soft_conns(b->soft), 1);
	for (int i = 0; i < 64; i++)
		soft_age(b->soft, b->now + 100, 50, 50);
	assert_int_equal(soft_conns(b->soft), 0);
	bench_free(b);
}

static void test_prompt_blind(void **state)
{
	for (int blind = 0; blind < 2; blind++) {
		struct bench *b = bench_new((struct soft_opts){ .prompt_blind = blind });
		struct wire w = wire_v4(9, 40000);

		(void)state;
		exchange(b, &w);
		assert_int_equal(only_client(b)->prompt_tokens, 11);
		assert_non_null(memmem(b->sliced[WEIR_REQUEST], b->sliced_n[WEIR_REQUEST], "Host: a", 7));
		assert_int_equal(memmem(b->sliced[WEIR_REQUEST], b->sliced_n[WEIR_REQUEST], PROMPT, strlen(PROMPT)) == NULL, blind);
		bench_free(b);
	}
}

/* IPv6 clients by network, own addresses whole. */
static void test_v6(void **state)
{
	struct bench *b = bench_new((struct soft_opts){ 0 });

	(void)state;
	for (uint8_t i = 1; i <= 3; i++) {
		struct wire w = wire_v4(0, 40000);

		memset(w.key.laddr, 0, 32);
		memcpy(w.key.laddr, "\x20\x01\x0d\xb8\x00\x02", 6);
		memcpy(w.key.raddr, "\x20\x01\x0d\xb8\x00\x01", 6);
		w.key.raddr[15] = i;
		if (i == 3)
			memcpy(b->local, w.key.raddr, 16);
		exchange(b, &w);
		wire_end(b, &w);
	}
	soft_flush(b->soft);
	assert_int_equal(b->stored_n, 2);
	assert_int_equal(b->stored[0].key.client[15], 0);
	assert_int_equal(b->stored[0].value.requests, 2);
	assert_int_equal(b->stored[1].key.client[15], 3);
	assert_int_equal(b->stored[1].value.requests, 1);
	bench_free(b);
}

static void test_shed(void **state)
{
	struct bench *b = bench_new((struct soft_opts){ 0 });
	struct wire w = wire_v4(9, 40000);

	(void)state;
	b->control.shed = WEIR_SHED_RECORDS;
	exchange(b, &w);
	assert_int_equal(only_client(b)->completion_tokens, 5);
	assert_int_equal(only_client(b)->lost, 1);
	assert_int_equal(b->done_n + b->slices, 0);
	bench_free(b);
}

static void test_bad_records(void **state)
{
	struct bench *b = bench_new((struct soft_opts){ 0 });
	struct weir_tap t = { .dir = WEIR_REQUEST, .len = 1 };

	(void)state;
	assert_int_equal(soft_segment(b->soft, &t, sizeof(t)), -EINVAL);
	assert_int_equal(soft_segment(b->soft, &t, sizeof(t) - 1), -EINVAL);
	t.len = 0xffffffffu;
	assert_int_equal(soft_segment(b->soft, &t, sizeof(t)), -EINVAL);
	t.len = 0;
	t.dir = 2;
	assert_int_equal(soft_segment(b->soft, &t, sizeof(t)), -EINVAL);
	assert_int_equal(soft_conns(b->soft), 0);
	bench_free(b);
}

static int build_automaton(void **state)
{
	(void)state;
	return automaton_build(&automaton);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exchange),
		cmocka_unit_test(test_every_split), cmocka_unit_test(test_finish),
		cmocka_unit_test(test_retransmitted),
		cmocka_unit_test(test_record_lost),
		cmocka_unit_test(test_ahead_of_tcp),
		cmocka_unit_test(test_ports_used_again),
		cmocka_unit_test(test_aborted),
		cmocka_unit_test(test_table_full),
		cmocka_unit_test(test_aged_between),
		cmocka_unit_test(test_connections_full_and_aged),
		cmocka_unit_test(test_prompt_blind),
		cmocka_unit_test(test_v6),
		cmocka_unit_test(test_shed),
		cmocka_unit_test(test_bad_records),
	};

	return cmocka_run_group_tests(tests, build_automaton, NULL);
}
