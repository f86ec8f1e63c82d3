/* clients.c - reading and ageing of the per-client counters, and of the connections. */
#include "capture/capture_internal.h"
#include "weir/conn.h"

#include <bpf/bpf.h>

static int clients_one_by_one(int fd, struct capture_cursor *cur, struct weir_client_key *keys, struct weir_client *values, size_t max)
{
	size_t n = 0;

	while (n < max) {
		struct weir_client_key next;

		if (bpf_map_get_next_key(fd, cur->started ? &cur->last : NULL, &next) < 0) {
			cur->done = true;
			break;
		}
		cur->last = next;
		cur->started = true;
		if (bpf_map_lookup_elem(fd, &next, &values[n]) == 0)
			keys[n++] = next;
	}
	return (int)n;
}

static int clients_batch(int fd, struct capture_cursor *cur, struct weir_client_key *keys, struct weir_client *values, size_t max)
{
	__u32 count = (__u32)max, next = 0;
	int r = bpf_map_lookup_batch(fd, cur->started ? &cur->batch : NULL, &next, keys, values, &count, NULL);

	if (r < 0 && r != -ENOENT)
		return r;
	cur->done = r == -ENOENT;
	cur->batch = next;
	cur->started = true;
	return (int)count;
}

static bool is_local(void *ctx, const uint8_t addr[16])
{
	const struct capture *c = ctx;
	__u8 value;

	return bpf_map_lookup_elem(c->addrs_fd, addr, &value) == 0;
}

/* The kernel made the client's entry when it counted the bytes; where the table was full, that of `other`. */
void capture_count(struct capture *c, const struct weir_conn_key *conn, const struct weir_client *more)
{
	static const struct weir_client zero;
	struct weir_client_key key;
	struct weir_client *sum, v;

	extras_key(conn, c->v6_prefix, is_local, c, &key);
	sum = extras_find(c->extras, &key);
	if (!sum) {
		if (bpf_map_lookup_elem(c->clients_fd, &key, &v) < 0 && bpf_map_update_elem(c->clients_fd, &key, &zero, BPF_NOEXIST) < 0) {
			key.flags = WEIR_CLIENT_OTHER;
			memset(key.client, 0, sizeof(key.client));
			bpf_map_update_elem(c->others_fd, &key, &zero, BPF_NOEXIST);
		}
		sum = extras_make(c->extras, &key);
	}
	if (sum)
		capture_add(sum, more);
}

static void extras_add(const struct capture *c, const struct weir_client_key *keys, struct weir_client *values, int n)
{
	for (int i = 0; i < n; i++) {
		const struct weir_client *more = extras_find(c->extras, &keys[i]);

		if (more)
			capture_add(&values[i], more);
	}
}

int capture_clients(struct capture *c, struct capture_cursor *cur, struct weir_client_key *keys, struct weir_client *values, size_t max)
{
	for (;;) {
		int fd = cur->others ? c->others_fd : c->clients_fd, n;

		if (cur->done && cur->others)
			return 0;
		if (cur->done) {
			*cur = (struct capture_cursor){ .others = true };
			continue;
		}
		n = c->no_batch ? -EINVAL : clients_batch(fd, cur, keys, values, max);
		if (n == -EINVAL) {
			c->no_batch = true; /* before 5.6 */
			n = clients_one_by_one(fd, cur, keys, values, max);
		}
		extras_add(c, keys, values, n);
		if (n)
			return n;
	}
}

void capture_add(struct weir_client *a, const struct weir_client *b)
{
	a->requests += b->requests;
	a->status_2xx += b->status_2xx;
	a->status_3xx += b->status_3xx;
	a->status_4xx += b->status_4xx;
	a->status_5xx += b->status_5xx;
	a->stream_errors += b->stream_errors;
	a->prompt_tokens += b->prompt_tokens;
	a->completion_tokens += b->completion_tokens;
	a->cached_tokens += b->cached_tokens;
	a->reasoning_tokens += b->reasoning_tokens;
	a->estimated_tokens += b->estimated_tokens;
	a->unreported += b->unreported;
	a->bytes_in += b->bytes_in;
	a->bytes_out += b->bytes_out;
	a->aborted += b->aborted;
	a->open += b->open;
	a->lost += b->lost;
	a->lost_prompt_tokens += b->lost_prompt_tokens;
	a->lost_completion_tokens += b->lost_completion_tokens;
	a->lost_4xx += b->lost_4xx;
	a->lost_5xx += b->lost_5xx;
	a->lost_stream_errors += b->lost_stream_errors;
	a->slices_dropped += b->slices_dropped;
	a->raw_lost_bytes += b->raw_lost_bytes;
	a->last_ns = MAX(a->last_ns, b->last_ns);
}

/* ---- ageing ---------------------------------------------------------------------------------------- */
static struct aged *aged_of(struct capture *c, const struct weir_client_key *client)
{
	struct weir_client_key key = { .netns = client->netns, .port = client->port };

	memcpy(key.server, client->server, sizeof(key.server));
	for (size_t i = 0; i < c->aged_count; i++)
		if (!memcmp(&c->aged[i].key, &key, sizeof(key)))
			return &c->aged[i];
	if (c->aged_count == CAPTURE_AGED_MAX)
		return NULL;
	if ((c->aged_count & (c->aged_count - 1)) == 0) { /* full at each power of two */
		struct aged *more = reallocarray(c->aged, c->aged_count ? c->aged_count * 2 : 1, sizeof(*more));

		if (!more)
			return NULL;
		c->aged = more;
	}
	c->aged[c->aged_count] = (struct aged){ .key = key };
	return &c->aged[c->aged_count++];
}

/*
 * Removes one client and keeps its counters. A request that begins at this very moment is in what the
 * kernel hands back, or in the entry that it makes anew: in the sum either way.
 */
static void client_age(struct capture *c, const struct weir_client_key *key)
{
	struct aged *a = aged_of(c, key);
	struct weir_client v, more;
	int r;

	if (!a)
		return;
	r = bpf_map_lookup_and_delete_elem(c->clients_fd, key, &v);
	if (r == -EINVAL || r == -ENOTSUP) { /* hashes learnt this in 5.14 */
		r = bpf_map_lookup_elem(c->clients_fd, key, &v);
		if (r == 0)
			r = bpf_map_delete_elem(c->clients_fd, key);
	}
	if (r < 0)
		return;
	capture_add(&a->sum, &v);
	if (extras_take(c->extras, key, &more))
		capture_add(&a->sum, &more);
	losses_forget(c->losses, key);
}

#define AGE_BATCHES 16 /* x CAPTURE_BATCH entries per call */

static int clients_age(struct capture *c, uint64_t now, uint64_t idle)
{
	struct weir_client_key *keys = malloc(CAPTURE_BATCH * sizeof(*keys));
	struct weir_client *values = malloc(CAPTURE_BATCH * sizeof(*values));
	int n = keys && values ? 0 : -ENOMEM;

	for (int b = 0; b < AGE_BATCHES && n >= 0; b++) {
		n = capture_clients(c, &c->age_cursor, keys, values, CAPTURE_BATCH);
		for (int i = 0; i < n; i++)
			if (!(keys[i].flags & WEIR_CLIENT_OTHER) && values[i].open <= 0 && values[i].last_ns + idle < now)
				client_age(c, &keys[i]);
		if (n <= 0) {
			c->age_cursor = (struct capture_cursor){ 0 };
			break;
		}
	}
	free(keys);
	free(values);
	return MIN(n, 0);
}

/* A connection that holds a request is kept for so long: a model may think for an hour, and to forget it would leave the
 * request open in its client's counters for ever. One of HTTP/2 likewise: what its headers refer to could not be learnt again. */
#define PENDING_IDLE_NS (24 * 3600 * UINT64_C(1000000000))
#define GHOST_NS (2 * UINT64_C(1000000000)) /* a reset connection's last bytes leave within one send(2) */

static int conns_age(struct capture *c, uint64_t now, uint64_t idle)
{
	struct weir_conn_key *keys = malloc(CAPTURE_BATCH * sizeof(*keys));
	struct weir_conn *values = malloc(CAPTURE_BATCH * sizeof(*values));
	int r = keys && values && !c->no_batch ? 0 : -ENOMEM;

	for (int b = 0; b < AGE_BATCHES && r == 0; b++) {
		__u32 count = CAPTURE_BATCH, next = 0;

		r = bpf_map_lookup_batch(c->conns_fd, c->conn_started ? &c->conn_batch : NULL, &next, keys, values, &count, NULL);
		if (r < 0 && r != -ENOENT)
			break;
		for (__u32 i = 0; i < count; i++) {
			bool ghost = values[i].flags & WEIR_C_GHOST;
			uint64_t rest = ghost ? GHOST_NS : values[i].open || (values[i].flags & WEIR_C_RAW) ? PENDING_IDLE_NS : idle;

			/* who finds a connection dead does not take himself off its users again: of a ghost they mean nothing */
			if (values[i].last_ns + rest < now && (ghost || !values[i].users))
				bpf_map_delete_elem(c->conns_fd, &keys[i]);
		}
		c->conn_batch = next;
		c->conn_started = r == 0;
	}
	free(keys);
	free(values);
	return r == -ENOENT ? 0 : r;
}

int capture_age(struct capture *c, uint64_t now_ns, uint64_t client_idle_ns, uint64_t conn_idle_ns)
{
	int r = clients_age(c, now_ns, client_idle_ns);
	int q = 0;

	if (c->soft)
		soft_age(c->soft, now_ns, conn_idle_ns, PENDING_IDLE_NS);
	else
		q = conns_age(c, now_ns, conn_idle_ns);

	return r < 0 ? r : q;
}

struct stream_ctx {
	capture_stream_fn *tell;
	void *ctx;
};

static void stream_tell(const struct weir_conn *v, void *ctx)
{
	const struct stream_ctx *s = ctx;
	const struct weir_reply *r = &v->reply;
	bool reported = r->token_mask & (1u << WEIR_TOK_COMPLETION | 1u << WEIR_TOK_ALT_COMPLETION);
	uint64_t tokens = reported ? weir_completion_tokens(r->token_mask, r->tokens) : r->delta_events;

	if ((r->flags & WEIR_R_ACTIVE) && !(v->flags & WEIR_C_GHOST) && tokens)
		s->tell(s->ctx, v->id, v->out.request, (int64_t)tokens);
}

int capture_streams(struct capture *c, capture_stream_fn *tell, void *ctx)
{
	CLEANUP(freep) struct weir_conn_key *keys = NULL;
	CLEANUP(freep) struct weir_conn *values = NULL;
	struct stream_ctx s = { tell, ctx };
	__u32 place = 0;
	int r = 0;

	if (c->soft) {
		soft_each_conn(c->soft, stream_tell, &s);
		return 0;
	}
	keys = malloc(CAPTURE_BATCH * sizeof(*keys));
	values = malloc(CAPTURE_BATCH * sizeof(*values));
	if (!keys || !values || c->no_batch)
		return -ENOMEM;
	for (bool first = true; r == 0; first = false) {
		__u32 count = CAPTURE_BATCH, next = 0;

		r = bpf_map_lookup_batch(c->conns_fd, first ? NULL : &place, &next, keys, values, &count, NULL);
		if (r < 0 && r != -ENOENT)
			return r;
		for (__u32 i = 0; i < count; i++)
			stream_tell(&values[i], &s);
		place = next;
	}
	return 0;
}

size_t capture_aged_count(const struct capture *c)
{
	return c->aged_count;
}

void capture_aged(const struct capture *c, size_t i, struct weir_client_key *ret_key, struct weir_client *ret)
{
	*ret_key = c->aged[i].key;
	*ret = c->aged[i].sum;
}
