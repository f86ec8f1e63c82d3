/*
 * soft.h - the meter in user space, for kernels that refuse it (below 6.1).
 *
 * It is the same source: soft.c compiles bpf/meter.bpf.c against helpers of its own, and feeds it the
 * segments that bpf/tap.bpf.c sends up. It yields the same slices and completion records, and counts
 * into the same client entries, which stay in BPF maps (through struct soft_store): who reads and ages
 * them need not know. Only loss differs: what does not fit the tap's ring is a gap, so counts are
 * complete only while WEIR_STAT_TAP_FULL stands still. Not thread-safe; one instance runs at a time.
 */
#ifndef WEIR_CAPTURE_SOFT_H
#define WEIR_CAPTURE_SOFT_H

#include "base/util.h"
#include "weir/tap.h"

/* Where client counters and sums live between two calls of soft_flush(). Keys with WEIR_CLIENT_OTHER have a table of their own. */
struct soft_store {
	int (*load)(void *ctx, const struct weir_client_key *key, struct weir_client *ret);          /* -ENOENT: none */
	int (*make)(void *ctx, const struct weir_client_key *key, const struct weir_client *value);  /* -E2BIG: full */
	int (*save)(void *ctx, const struct weir_client_key *key, const struct weir_client *value);
	void (*stat)(void *ctx, enum weir_stat which, uint64_t value);
	bool (*is_local)(void *ctx, const uint8_t addr[16]); /* an own address of this host */
	void *ctx;
};

struct soft_opts {
	const struct weir_automaton *automaton; /* copied */
	const struct weir_control *control;     /* read at each segment; the caller's, outlives the meter */
	uint32_t v6_prefix;                     /* 0: 64 */
	uint32_t max_conns;
	bool prompt_blind; /* no slice holds a byte of a request body; the tap itself cannot leave it in the kernel */
	struct soft_store store;
	void (*event)(void *ctx, const void *data, size_t n); /* struct weir_slice or weir_done, as from the meter's ring */
	void *ctx;
};

struct soft;
int soft_open(const struct soft_opts *opts, struct soft **ret); /* -ENOMEM */
struct soft *soft_free(struct soft *s);
static inline void soft_freep(struct soft **s)
{
	soft_free(*s);
}

/* One record of the tap's ring. -EINVAL: shorter than it says. Client counters are in the store only after soft_flush(). */
int soft_segment(struct soft *s, const void *data, size_t n);
/* The bytes [t->seq, t->seq + t->len) will never be seen; there are none in t->data. Of no consequence where the connection is not known. */
int soft_gap(struct soft *s, const struct weir_tap *t);
/* Writes what was counted to the store, and forgets its copies: entries may be removed there until the next segment. */
void soft_flush(struct soft *s);

/* Shows every connection; they must not change meanwhile. */
void soft_each_conn(const struct soft *s, void (*look)(const struct weir_conn *c, void *ctx), void *ctx);
/* Forgets connections silent for idle_ns; those that hold a request only after pending_idle_ns. Looks at one of SOFT_AGE_PARTS parts of the table per call. */
#define SOFT_AGE_PARTS 8
void soft_age(struct soft *s, uint64_t now_ns, uint64_t idle_ns, uint64_t pending_idle_ns);
size_t soft_conns(const struct soft *s);

#endif
