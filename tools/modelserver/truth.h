/*
 * truth.h - what the server knows that left it, per client address.
 *
 * Counts are added when bytes are handed to the socket, and taken back when the connection dies with
 * those bytes unsent: every count has a mark at its last byte's offset, and the kernel's tcp_info says
 * how many bytes were really transmitted. Counters are shared with the thread that answers /truth.
 */
#ifndef MODELSERVER_TRUTH_H
#define MODELSERVER_TRUTH_H

#include <arpa/inet.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/socket.h>

#include "buf.h"

#define CLIENT_BUCKETS 16384
#define CLIENTS_MAX 262144 /* later addresses are counted together under "other" */

enum truth_field {
	T_REQUESTS,
	T_2XX,
	T_4XX,
	T_5XX,
	T_PROMPT,
	T_COMPLETION,
	T_CACHED,
	T_ESTIMATED,     /* delta events of responses that sent no usage */
	T_STREAM_ERRORS, /* an error object inside a 200 stream */
	T_ABORTED,       /* responses that the client did not wait for */
	T_BYTES_IN,
	T_FIELDS,
};

static const char *const truth_name[T_FIELDS] = {
	"requests", "status_2xx", "status_4xx", "status_5xx", "prompt_tokens", "completion_tokens",
	"cached_tokens", "estimated_tokens", "stream_errors", "aborted", "bytes_in",
};

struct client {
	struct client *next;
	struct in6_addr addr;
	uint64_t count[T_FIELDS];
};

struct truth {
	pthread_mutex_t lock; /* of the table, not of the counts */
	struct client *bucket[CLIENT_BUCKETS];
	struct client other;
	uint32_t clients;
};

static struct truth truth = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void truth_add(struct client *c, enum truth_field f, int64_t n)
{
	__atomic_fetch_add(&c->count[f], (uint64_t)n, __ATOMIC_RELAXED);
}

static struct client *truth_client(const struct in6_addr *addr)
{
	uint32_t w[4], h;
	struct client *c;

	memcpy(w, addr, sizeof(w));
	h = (w[0] ^ w[1] * 31 ^ w[2] * 131 ^ w[3]) * 0x9e3779b1u >> 18;
	pthread_mutex_lock(&truth.lock);
	for (c = truth.bucket[h]; c && memcmp(&c->addr, addr, sizeof(*addr)); c = c->next)
		;
	if (!c && truth.clients == CLIENTS_MAX) {
		c = &truth.other;
	} else if (!c) {
		c = buf_realloc(NULL, sizeof(*c));
		*c = (struct client){ .next = truth.bucket[h], .addr = *addr };
		truth.bucket[h] = c;
		truth.clients++;
	}
	pthread_mutex_unlock(&truth.lock);
	return c;
}

static void truth_write_counts(struct buf *out, const uint64_t *count)
{
	for (int f = 0; f < T_FIELDS; f++)
		buf_addf(out, "%s\"%s\":%llu", f ? "," : "", truth_name[f], (unsigned long long)count[f]);
}

static void truth_write(struct buf *out, const char *server)
{
	uint64_t total[T_FIELDS] = { 0 };
	const char *comma = "";

	buf_addf(out, "{\"server\":\"%s\",\"clients\":[", server);
	pthread_mutex_lock(&truth.lock);
	for (size_t b = 0; b <= CLIENT_BUCKETS; b++)
		for (struct client *c = b < CLIENT_BUCKETS ? truth.bucket[b] : &truth.other; c; c = c->next) {
			uint64_t count[T_FIELDS];
			char name[INET6_ADDRSTRLEN] = "other";

			for (int f = 0; f < T_FIELDS; f++)
				total[f] += count[f] = __atomic_load_n(&c->count[f], __ATOMIC_RELAXED);
			if (c == &truth.other && !count[T_REQUESTS])
				continue;
			if (c != &truth.other && IN6_IS_ADDR_V4MAPPED(&c->addr))
				inet_ntop(AF_INET, &c->addr.s6_addr[12], name, sizeof(name));
			else if (c != &truth.other)
				inet_ntop(AF_INET6, &c->addr, name, sizeof(name));
			buf_addf(out, "%s\n{\"client_ip\":\"%s\",", comma, name);
			truth_write_counts(out, count);
			buf_add(out, "}", 1);
			comma = ",";
		}
	pthread_mutex_unlock(&truth.lock);
	buf_addf(out, "],\n\"total\":{");
	truth_write_counts(out, total);
	buf_addf(out, "}}\n");
}

/* ---- what may still be taken back ------------------------------------------------------------------ */
enum mark_kind { MARK_DELTA, MARK_USAGE, MARK_STATUS, MARK_ERROR, MARK_END };

struct mark {
	uint64_t off;  /* offset on the connection just behind the bytes that carry it */
	uint32_t kind;
	uint32_t a, b, c; /* USAGE: prompt, completion, cached; STATUS: field; END: the estimate counted, if any */
	uint32_t deltas;  /* USAGE: delta events of its response before it */
};

#define MARKS_START 64

struct marks {
	struct mark *mark;
	uint32_t n, cap;
};

/* Bytes of the connection that the kernel has transmitted at least once; they stay known after a reset. */
static uint64_t marks_sent(int fd)
{
	struct tcp_info ti = { 0 };
	socklen_t n = sizeof(ti);

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &ti, &n) < 0)
		return UINT64_MAX;
	return ti.tcpi_bytes_sent - ti.tcpi_bytes_retrans;
}

static void marks_add(struct marks *m, int fd, struct mark k)
{
	if (m->n == m->cap) {
		uint64_t sent = m->cap ? marks_sent(fd) : 0;
		uint32_t keep = 0;

		while (keep < m->n && m->mark[keep].off <= sent)
			keep++;
		memmove(m->mark, m->mark + keep, (m->n - keep) * sizeof(*m->mark));
		m->n -= keep;
		if (m->n * 2 >= m->cap) {
			m->cap = m->cap ? m->cap * 2 : MARKS_START;
			m->mark = buf_realloc(m->mark, m->cap * sizeof(*m->mark));
		}
	}
	m->mark[m->n++] = k;
}

#endif
