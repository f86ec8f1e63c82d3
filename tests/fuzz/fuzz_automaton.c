/*
 * The meter over any bytes with the real table: the state stays in the table, every step makes progress, and one split
 * gives the same as another. First byte: direction and where to cut.
 */
#include "decode/automaton.h"
#include "weir/meter.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static struct weir_automaton dfa;

struct run {
	struct weir_parse p;
	struct weir_reply r;
	uint32_t ev;
	unsigned messages;
};

static void feed(struct run *x, int dir, const uint8_t *p, size_t n)
{
	unsigned idle = 0;

	while (n) {
		uint32_t want = weir_want(&x->p, n), ev = 0;
		size_t used;

		if (want > n || want > WEIR_STEP_MAX)
			abort();
		if (want) {
			uint8_t *copy = malloc(want); /* exact, for the sanitizer */

			if (!copy)
				abort();
			memcpy(copy, p, want);
			used = weir_step(&x->p, &x->r, &dfa, dir, copy, want, &ev);
			free(copy);
		} else {
			used = (size_t)weir_skip(&x->p, &x->r, &dfa, dir, n, &ev);
		}
		idle = used ? 0 : idle + 1;
		if (used > n || idle > 1 || x->p.dfa >= dfa.states)
			abort();
		p += used;
		n -= used;
		x->ev |= ev;
		if (ev & WEIR_EV_DONE) {
			x->messages++;
			weir_begin(&x->p, &dfa, dir);
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct run whole = { 0 }, cut = { 0 };
	size_t at;
	int dir;

	if (!dfa.states && automaton_build(&dfa) < 0)
		abort();
	if (n < 2 || n > 65536)
		return 0;
	dir = data[0] & 1 ? WEIR_RESPONSE : WEIR_REQUEST;
	at = (size_t)(data[0] >> 1) * (n - 1) / 128;
	data++;
	n--;
	weir_begin(&whole.p, &dfa, dir);
	weir_begin(&cut.p, &dfa, dir);
	feed(&whole, dir, data, n);
	feed(&cut, dir, data, at);
	feed(&cut, dir, data + at, n - at);
	if (whole.messages != cut.messages || whole.ev != cut.ev || whole.p.mode != cut.p.mode || whole.r.token_mask != cut.r.token_mask ||
	    memcmp(whole.r.tokens, cut.r.tokens, sizeof(whole.r.tokens)) != 0 || whole.r.delta_events != cut.r.delta_events || whole.r.status != cut.r.status ||
	    whole.r.finish_whole != cut.r.finish_whole || whole.r.finish_len > WEIR_FINISH_MAX ||
	    (whole.r.finish_whole && memcmp(whole.r.finish, cut.r.finish, sizeof(whole.r.finish)) != 0))
		abort();
	return 0;
}
