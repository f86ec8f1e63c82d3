/*
 * Any sequence of events, well formed or not. The input is a script: one byte of what, one of whom, then what that takes.
 * Limits hold after each, nothing leaks, and no byte of a request's body comes back in a record.
 */
#include "base/str.h"
#include "decode/assemble.h"
#include "decode/automaton.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define OPEN_MAX 6
#define BYTES_MAX 40000
/* beyond the ceiling: the one request in use may have just grown to its allowance */
#define SLACK 90000

static struct weir_automaton dfa;
static struct str line;

static void on_arrival(void *ctx, const struct record *r)
{
	struct assemble_source s = assemble_source(*(struct assemble **)ctx);

	if (r->kind == KIND_UNKNOWN)
		abort();
	str_reset(&line);
	record_write_json(&line, r);
	/* whoever is told of a record may ask where it came from, and a key is 16 digits or none */
	if (!s.at || !s.identity || s.outer != (s.conn & 1 ? 8000 : 0))
		abort();
	if (record_has(r, F_API_KEY) != (s.identity->has_key && record_text(r, F_API_KEY).n == 16))
		abort();
}

static void on_complete(void *ctx, const struct record *r, bool arrived, int64_t told)
{
	(void)arrived, (void)told;
	on_arrival(ctx, r);
	for (int f = F_INT_FIRST; f < F_INT_END; f++)
		if (f != F_PROMPT_HASH && f != F_PROMPT_SIM && record_int(r, (enum record_field)f, 0) < 0)
			abort();
}

/* Every other connection is one of a gateway's, and every third began with a PROXY header. */
static uint16_t outer(void *ctx, uint64_t conn, const struct weir_conn_key *at)
{
	(void)ctx, (void)at;
	return conn & 1 ? 8000 : 0;
}

static bool announced(void *ctx, uint64_t conn, const struct weir_conn_key *at, uint8_t ret[16])
{
	(void)ctx, (void)at;
	memset(ret, (int)conn, 16);
	return conn % 3 == 0;
}

static void one_slice(struct assemble *a, const uint8_t *p, size_t len, uint8_t what, uint8_t who, uint64_t off, uint32_t head_len)
{
	size_t size = sizeof(struct weir_slice) + len;
	struct weir_slice *e = calloc(1, size);

	if (!e)
		abort();
	*e = (struct weir_slice){ .type = WEIR_EVENT_SLICE, .dir = what >> 1 & 1, .flags = what >> 2 & 15, .len = (__u16)(len + (what >> 6 == 3)), .request = who & 3,
				  .conn = who >> 2 & 7, .off = off, .head_len = head_len, .ts = off, .key = { .lport = who } };
	memcpy((char *)e + sizeof(*e), p, len);
	assemble_event(a, e, size);
	free(e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	/* The peer of all is ::, and half of the time it is believed. */
	const struct identity_rules rules = { .count = n & 1, .only = n & 2 ? IDENTITY_ANY : IDENTITY_XFF };
	struct assemble_opts opts = { .identity = &rules, .outer = outer, .announced = announced, .automaton = &dfa, .host = "h", .max_open = OPEN_MAX, .max_bytes = BYTES_MAX, .arrival = on_arrival, .complete = on_complete };
	uint64_t off[64] = { 0 };
	struct assemble *a = NULL;

	opts.ctx = &a;
	if (!dfa.states && automaton_build(&dfa) < 0)
		abort();
	if (n > 16384 || assemble_new(&opts, &a) < 0)
		return 0;
	while (n >= 4) {
		uint8_t what = data[0], who = data[1];
		size_t len = (size_t)data[2] << 4 | data[3] >> 4;
		uint64_t *at = &off[(who & 31) << 1 | (what >> 1 & 1)];

		data += 4;
		n -= 4;
		len = MIN(len, n);
		if (what & 1) {
			struct weir_done d = { .type = WEIR_EVENT_DONE };
			size_t take = MIN(n, sizeof(d) - 1);

			memcpy((char *)&d + 1, data, take);
			d.request = who & 3;
			d.conn = who >> 2 & 7;
			assemble_event(a, &d, sizeof(d));
			data += take;
			n -= take;
		} else {
			if (data != NULL && (what & 0x40))
				*at += who;
			one_slice(a, data, len, what, who, *at, (uint32_t)(len & 0xfff));
			*at += len;
			data += len;
			n -= len;
		}
		if (assemble_stats(a)->open > OPEN_MAX || assemble_stats(a)->bytes > BYTES_MAX + SLACK)
			abort();
	}
	assemble_free(a);
	return 0;
}
