/*
 * player.h - exchanges through the meter in user space and the assembler, for unit tests; include once per program.
 *
 * play() sends one exchange, cut as asked for; what became of it is in player.seen. assemble_for() is an assembler alone, for events
 * made by hand.
 */
#ifndef WEIR_TESTS_UNIT_PLAYER_H
#define WEIR_TESTS_UNIT_PLAYER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/str.h"
#include "capture/soft.h"
#include "decode/assemble.h"
#include "decode/automaton.h"
#include "fixture_http.h"

static struct weir_automaton dfa;
static struct weir_control control;

struct seen {
	unsigned arrivals, completions, arrived;
	int64_t told; /* of the last completion */
	enum record_kind kind;
	struct str line; /* the last completion as JSON */
	struct str arrival;
};

static inline void on_arrival(void *ctx, const struct record *r)
{
	struct seen *s = ctx;

	s->arrivals++;
	str_reset(&s->arrival);
	record_write_json(&s->arrival, r);
}

static inline void on_complete(void *ctx, const struct record *r, bool arrived, int64_t told)
{
	struct seen *s = ctx;

	s->completions++;
	s->arrived += arrived;
	s->told = told;
	s->kind = r->kind;
	str_reset(&s->line);
	record_write_json(&s->line, r);
}

static inline struct assemble *assemble_for(struct seen *s, uint32_t max_open, size_t max_bytes)
{
	struct assemble_opts opts = { .automaton = &dfa, .host = "gpu-1", .key = "0123456789abcdef", .max_open = max_open, .max_bytes = max_bytes,
				      .arrival = on_arrival, .complete = on_complete, .ctx = s };
	struct assemble *a;

	memset(s, 0, sizeof(*s));
	assert_int_equal(assemble_new(&opts, &a), 0);
	assemble_set_clock(a, 1000 * INT64_C(1000000000));
	return a;
}

static inline void seen_done(struct seen *s)
{
	str_done(&s->line);
	str_done(&s->arrival);
}

/* ---- the meter in user space ---------------------------------------------------------------------- */
static inline int store_load(void *ctx, const struct weir_client_key *key, struct weir_client *ret)
{
	(void)ctx, (void)key, (void)ret;
	return -ENOENT;
}
static inline int store_save(void *ctx, const struct weir_client_key *key, const struct weir_client *value)
{
	(void)ctx, (void)key, (void)value;
	return 0;
}
static inline void store_stat(void *ctx, enum weir_stat which, uint64_t value)
{
	(void)ctx, (void)which, (void)value;
}
static inline bool store_is_local(void *ctx, const uint8_t addr[16])
{
	(void)ctx, (void)addr;
	return false;
}

static inline void on_event(void *ctx, const void *data, size_t n)
{
	assert_int_equal(assemble_event(ctx, data, n), 0);
}

struct player {
	struct soft *soft;
	struct assemble *assemble;
	struct seen seen;
	uint16_t port; /* one connection after another */
	uint32_t seq[2];
};

static inline void player_open(struct player *p)
{
	struct soft_opts opts = { .automaton = &dfa, .control = &control, .store = { store_load, store_save, store_save, store_stat, store_is_local, NULL }, .event = on_event };

	p->assemble = assemble_for(&p->seen, 0, 0);
	opts.ctx = p->assemble;
	assert_int_equal(soft_open(&opts, &p->soft), 0);
	p->port = 1024;
}

static inline void player_close(struct player *p)
{
	assert_int_equal(assemble_stats(p->assemble)->open, 0);
	soft_free(p->soft);
	assemble_free(p->assemble);
	seen_done(&p->seen);
}

static inline void player_connect(struct player *p)
{
	p->port++;
	p->seq[WEIR_REQUEST] = 100;
	p->seq[WEIR_RESPONSE] = 0xffffff00u; /* wraps in the middle */
	p->seen.arrivals = p->seen.completions = p->seen.arrived = 0;
}

static inline void player_send(struct player *p, int dir, const char *data, size_t n, uint64_t ts, uint8_t flags)
{
	struct weir_tap *t = calloc(1, sizeof(*t) + n);

	assert_non_null(t);
	t->ts = ts;
	t->key = (struct weir_conn_key){ .netns = 1, .lport = 8000, .rport = p->port, .laddr = { [10] = 0xff, 0xff, 127, 0, 0, 1 }, .raddr = { 0x20, 1, 0xd, 0xb8, [15] = 7 } };
	t->seq = p->seq[dir];
	t->len = (uint32_t)n;
	t->tcp.fresh = p->seq[dir] == 100;
	t->dir = (uint8_t)dir;
	t->flags = flags;
	if (n)
		memcpy(t->data, data, n);
	p->seq[dir] += (uint32_t)n;
	assert_int_equal(soft_segment(p->soft, t, sizeof(*t) + n), 0);
	soft_flush(p->soft);
	free(t);
}

#define MS UINT64_C(1000000)

/* One exchange; `step` bytes per segment, or cut in two at `split`. */
static inline void play(struct player *p, const struct fixture *f, size_t split_request, size_t split_response, size_t step)
{
	player_connect(p);
	for (int dir = WEIR_REQUEST; dir <= WEIR_RESPONSE; dir++) {
		const char *data = dir == WEIR_REQUEST ? f->request : f->response;
		size_t n = dir == WEIR_REQUEST ? f->request_len : f->response_len, split = dir == WEIR_REQUEST ? split_request : split_response;
		uint64_t ts = dir == WEIR_REQUEST ? 5000 * MS : 5250 * MS;

		for (size_t at = 0; at < n;) {
			size_t len = step ? MIN(step, n - at) : at < split ? split - at : n - at;

			player_send(p, dir, data + at, len, ts, 0);
			at += len;
		}
	}
	player_send(p, WEIR_RESPONSE, NULL, 0, 5300 * MS, WEIR_TAP_FIN);
	player_send(p, WEIR_REQUEST, NULL, 0, 5300 * MS, WEIR_TAP_FIN);
}

/* Says all that is wrong, of all fixtures, before the test fails. */
static inline unsigned wrong(const struct player *p, const struct fixture *f)
{
	unsigned n = 0;

	if (p->seen.completions != 1 || p->seen.arrivals != 1 || p->seen.arrived != 1) {
		print_error("%s: %u arrivals, %u completions\n", f->name, p->seen.arrivals, p->seen.completions);
		return 1;
	}
	for (size_t i = 0; i < f->wants; i++) {
		if (fixture_holds(f->want[i], p->seen.line.p))
			continue;
		print_error("%s: want %s in %s", f->name, f->want[i], p->seen.line.p);
		n++;
	}
	return n;
}

static inline void check_record(const struct player *p, const struct fixture *f)
{
	assert_int_equal(wrong(p, f), 0);
}

#endif
