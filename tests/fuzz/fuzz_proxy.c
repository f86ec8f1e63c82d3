/*
 * The PROXY protocol: any bytes as a prefix, and as the beginning of a connection, cut in segments as the first byte says. What is read as
 * an address lies inside the prefix; a prefix that is read is found by the meter wherever it is cut, and the request behind it
 * with it.
 */
#include "capture/soft.h"
#include "decode/assemble.h"
#include "decode/automaton.h"
#include "decode/proxy.h"

#define REQUEST "GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static struct weir_automaton automaton;
static struct weir_control control;
static unsigned arrivals;

static int load(void *ctx, const struct weir_client_key *key, struct weir_client *ret)
{
	(void)ctx, (void)key, (void)ret;
	return -ENOENT;
}

static int save(void *ctx, const struct weir_client_key *key, const struct weir_client *value)
{
	(void)ctx, (void)key, (void)value;
	return 0;
}

static void stat_save(void *ctx, enum weir_stat which, uint64_t value)
{
	(void)ctx, (void)which, (void)value;
}

static void on_event(void *ctx, const void *data, size_t n)
{
	if (assemble_event(ctx, data, n) < 0)
		abort();
}

static void on_arrival(void *ctx, const struct record *r)
{
	(void)ctx;
	arrivals += span_eq(record_text(r, F_PATH), SPAN("/v1/models"));
}

static void send(struct soft *soft, uint32_t seq, const uint8_t *p, size_t n)
{
	struct weir_tap *t = calloc(1, sizeof(*t) + n);

	if (!t)
		abort();
	t->ts = 1000 + seq;
	t->key = (struct weir_conn_key){ .lport = 80, .rport = 1000, .laddr = { 1 }, .raddr = { 2 } };
	t->tcp.fresh = 1;
	t->seq = seq;
	t->len = (uint32_t)n;
	memcpy(t->data, p, n);
	if (soft_segment(soft, t, sizeof(*t) + n) < 0)
		abort();
	free(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct assemble_opts ao = { .automaton = &automaton, .arrival = on_arrival };
	struct soft_opts so = { .automaton = &automaton, .control = &control, .store = { load, save, save, stat_save, NULL, NULL }, .event = on_event };
	enum proxy_kind kind = PROXY_UNKNOWN;
	uint8_t addr[16], *text;
	struct soft *soft;
	size_t step, all;
	bool whole;

	if (!automaton.states && automaton_build(&automaton) < 0)
		abort();
	if (n < 2 || n > 4096)
		return 0;
	step = data[0] ? data[0] : 4096;
	data++;
	n--;
	text = malloc(n);
	if (!text)
		abort();
	memcpy(text, data, n); /* of its very size */
	whole = proxy_parse(text, n, &kind, addr) == 0;
	if (whole && kind == PROXY_CLIENT && *text == '\r' && !memmem(text, n, addr[10] == 0xff && addr[11] == 0xff ? addr + 12 : addr, 4))
		abort();
	free(text);
	if (assemble_new(&ao, (struct assemble **)&so.ctx) < 0 || soft_open(&so, &soft) < 0)
		abort();
	arrivals = 0;
	all = n + sizeof(REQUEST) - 1;
	text = malloc(all);
	if (!text)
		abort();
	memcpy(text, data, n);
	memcpy(text + n, REQUEST, sizeof(REQUEST) - 1);
	for (size_t at = 0; at < all; at += step)
		send(soft, (uint32_t)at, text + at, MIN(step, all - at));
	free(text);
	/* version 1 is a line: what stands behind its first end is the request's */
	if (whole && arrivals != 1)
		abort();
	soft_flush(soft);
	soft_free(soft);
	assemble_free(so.ctx);
	return 0;
}
