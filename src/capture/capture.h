/*
 * capture.h - the kernel half, as user space sees it: load, attach, drain the ring, read and age the maps.
 *
 * capture_open() needs privilege; everything after it works through held descriptors, without any
 * capability from Linux 5.19 on (before: CAP_BPF). Nothing is pinned: when the process ends, however
 * it ends, the kernel takes all of it away. Not thread-safe.
 */
#ifndef WEIR_CAPTURE_CAPTURE_H
#define WEIR_CAPTURE_CAPTURE_H

#include "base/util.h"
#include "weir/abi.h"

#define CAPTURE_CLIENTS_DEFAULT 100000u
#define CAPTURE_CLIENTS_MAX (1u << 20)
#define CAPTURE_CONNS_DEFAULT 65536u
#define CAPTURE_CONNS_MAX (1u << 20)
#define CAPTURE_RING_DEFAULT (2u << 20) /* mapped twice: counts double as resident memory */
#define CAPTURE_RING_MAX (64u << 20)

struct capture;

struct capture_opts {
	const char *cgroup_mount; /* NULL: looked up */
	uint64_t cgroup_id;       /* 0: every socket; else only those created in this cgroup */
	bool prompt_blind;
	uint32_t v6_prefix;                        /* 0: 64 */
	uint32_t max_clients, max_conns;           /* 0: the defaults */
	uint32_t ring_bytes;                       /* rounded up to a power of two and a page; 0: the default */
	const struct weir_automaton *automaton;    /* copied */
	const char *variant;                       /* NULL: the best that loads; "may_goto", "bpf_loop" or "tap" alone, for tests */
	/* One event of the ring, valid during the call; its length is what the kernel said and nothing more is checked. */
	void (*event)(void *ctx, const void *data, size_t n);
	void *ctx;
};

/*
 * Tries the variants of the program, fastest first, and attaches the first that the kernel takes.
 * -EPERM: not allowed; -ENOENT: no cgroup v2; -ENODATA: no BTF; -EOPNOTSUPP: the verifier refused every variant; other negative
 * errno. ret_where (may be NULL) names the step that failed, for a message; a literal.
 */
int capture_open(const struct capture_opts *opts, struct capture **ret, const char **ret_where);
struct capture *capture_free(struct capture *c);
static inline void capture_freep(struct capture **c)
{
	capture_free(*c);
}

/* Whether a process without any capability could go on: asks a child (fork). */
bool capture_works_unprivileged(const struct capture *c);
/* The variant of this name, as a literal; NULL: there is none. */
const char *capture_variant_find(const char *name);
const char *capture_variant(const struct capture *c); /* name of the program variant in use */
/* The kernel refused the meter: it runs in user space, and what does not fit the ring is missing in the counters. */
bool capture_inexact(const struct capture *c);
uint64_t capture_kernel_bytes(const struct capture *c); /* kernel memory of all maps */

/* Watches a listening port, or stops. Takes effect with the next packet. */
void capture_watch(struct capture *c, uint16_t port, bool on);
bool capture_watched(const struct capture *c, uint16_t port);
/* An own address of this host: never aggregated with its neighbours. 0 or negative errno. */
int capture_own_address(struct capture *c, const uint8_t addr[16]);

/*
 * Takes what is in the ring now, at most twice its size, and opens the next period of fair shares.
 * Bytes taken, or negative errno.
 */
ssize_t capture_drain(struct capture *c);
/* Readable when the ring is half full (or more often): worth a drain at once. */
int capture_fd(const struct capture *c);
uint32_t capture_ring_bytes(const struct capture *c);

void capture_set_shed(struct capture *c, enum weir_shed level);
/* Takes the meter off the hook and puts it back; between the two nothing is counted. 0 or negative errno. */
int capture_pause(struct capture *c, bool pause);

/* Sums over everything since the start. 0 or negative errno. */
int capture_stats(const struct capture *c, uint64_t ret[WEIR_STAT_COUNT]);
/* "ring_full"; NULL out of range. ret_loss (may be NULL): whether it counts something that was not metered or not told. */
const char *capture_stat_name(enum weir_stat s, bool *ret_loss);

/*
 * Clients in pieces: start with a zeroed cursor, call until it answers 0. At most `max` entries, or negative errno. An entry
 * that changes its place meanwhile may come twice or not at all; with nothing added or removed, each comes once.
 */
#define CAPTURE_BATCH 256
struct capture_cursor {
	uint32_t batch;              /* kernel's own, for batches */
	struct weir_client_key last; /* for kernels without */
	bool started, others; /* others: past the clients, in the table of `other` entries */
	bool done;
};
int capture_clients(struct capture *c, struct capture_cursor *cur, struct weir_client_key *keys, struct weir_client *values, size_t max);

/*
 * Adds to the counters of the client at the far end of a connection: what user space counts (HTTP/2). It shows in
 * capture_clients() and in the sums; the map itself, as `bpftool map dump` shows it, has the kernel's own part only.
 */
void capture_count(struct capture *c, const struct weir_conn_key *conn, const struct weir_client *more);

/*
 * Ageing, a part of the tables per call (about 4,096 entries), so that no call takes long. Clients with nothing open that were
 * silent for client_idle_ns are removed, their counters are added to their server's `aged` sum; connections silent for
 * conn_idle_ns are forgotten. Negative errno is of no consequence: the next call tries again.
 */
int capture_age(struct capture *c, uint64_t now_ns, uint64_t client_idle_ns, uint64_t conn_idle_ns);

/*
 * Tells of each response that is under way how many completion tokens it has by now: what the server reported so far, else the
 * events that carried text. The whole table is read: for every few seconds. 0 or negative errno.
 */
typedef void capture_stream_fn(void *ctx, uint64_t conn, uint32_t request, int64_t tokens);
int capture_streams(struct capture *c, capture_stream_fn *tell, void *ctx);

/* Sums of the clients that ageing removed, per server; the client in the key is all zero. */
#define CAPTURE_AGED_MAX 4096 /* servers; beyond it nothing more is aged at new ones */
size_t capture_aged_count(const struct capture *c);
void capture_aged(const struct capture *c, size_t i, struct weir_client_key *ret_key, struct weir_client *ret);

/* Adds the counters of b to a. */
void capture_add(struct weir_client *a, const struct weir_client *b);

uint64_t capture_now_ns(void); /* CLOCK_MONOTONIC */

#endif
