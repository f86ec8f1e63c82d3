#include "capture/pcap_flow.h"

#define BUCKETS 16384u
#define RESET_BEFORE (64u << 10) /* a reset this far behind what was seen is still believed: captures miss packets */
#define WINDOW_MAX (1u << 30)    /* TCP's largest (RFC 7323): beyond it a segment is somebody else's */
#define PROBE_MAX 8              /* bytes of a payload that tell who speaks */

/* A segment that waits for what comes before it. */
struct held {
	struct held *next; /* by sequence number */
	uint64_t ts;
	uint32_t seq, len, have;
	uint8_t data[];
};

struct side {
	bool started, fin, fin_told;
	bool syn;         /* its SYN was seen, `isn` is valid */
	uint32_t isn;
	uint32_t next;    /* expected */
	uint32_t fin_seq;
	struct held *held;
	size_t held_bytes;
	uint64_t hole_ns; /* when what waits began to */
};

struct conn {
	struct flow f; /* first: callers hold a pointer to it */
	uint8_t ends[2][16];
	uint16_t port[2];
	struct side side[2]; /* by end; the server is end `server` */
	int server;          /* -1: not known yet */
	bool looked;         /* at what is spoken */
	bool reset;
	uint64_t last_ns;
	struct conn *chain;
	struct conn *older, *newer;
};

struct flows {
	struct flow_opts o;
	struct conn *buckets[BUCKETS];
	struct conn *oldest, *newest;
	uint32_t count;
	size_t held_bytes;
	uint64_t next_id;
	struct flow_stats stats;
	struct flow_server servers[FLOW_SERVERS_MAX];
	size_t server_count;
};

/* ---- the table -------------------------------------------------------------------------------------- */
/* The same for both directions. Whoever wrote the file can make chains long; he has only himself to wait for. */
static uint32_t bucket_of(const struct packet *p)
{
	uint64_t h = (uint64_t)p->sport + p->dport, a, b;

	for (int i = 0; i < 16; i += 8) {
		memcpy(&a, p->saddr + i, 8);
		memcpy(&b, p->daddr + i, 8);
		h = (h ^ (a + b)) * UINT64_C(0x9fb21c651e98df25);
		h ^= h >> 32;
	}
	h ^= (uint64_t)(p->sport ^ p->dport) * UINT64_C(0x9e3779b97f4a7c15);
	h ^= h >> 29;
	return (uint32_t)(h % BUCKETS);
}

static bool end_is(const struct conn *c, int end, const uint8_t addr[16], uint16_t port)
{
	return c->port[end] == port && memcmp(c->ends[end], addr, 16) == 0;
}

/* The end that sent the packet; -1: another connection's. */
static int sender_of(const struct conn *c, const struct packet *p)
{
	for (int end = 0; end < 2; end++)
		if (end_is(c, end, p->saddr, p->sport) && end_is(c, !end, p->daddr, p->dport))
			return end;
	return -1;
}

static void lru_remove(struct flows *fs, struct conn *c)
{
	*(c->older ? &c->older->newer : &fs->oldest) = c->newer;
	*(c->newer ? &c->newer->older : &fs->newest) = c->older;
	c->older = c->newer = NULL;
}

static void lru_add(struct flows *fs, struct conn *c)
{
	c->older = fs->newest;
	*(fs->newest ? &fs->newest->newer : &fs->oldest) = c;
	fs->newest = c;
}

static struct held *held_take(struct flows *fs, struct side *s)
{
	struct held *h = s->held;

	s->held = h->next;
	s->held_bytes -= h->have;
	fs->held_bytes -= h->have;
	return h;
}

/* ---- bytes in order --------------------------------------------------------------------------------- */
static void tell(struct flows *fs, struct conn *c, int end, struct flow_piece *p)
{
	struct side *s = &c->side[end];

	if (c->server < 0 || c->f.tls)
		return;
	p->dir = end == c->server ? WEIR_RESPONSE : WEIR_REQUEST;
	if (s->fin && !s->fin_told && s->next == s->fin_seq) {
		s->fin_told = true;
		p->flags |= TCP_FIN;
	}
	if (p->have || p->gap || p->flags)
		fs->o.piece(fs->o.ctx, &c->f, p);
}

/* [seq, seq + len) with its first `have` bytes at data; begins at or before what is expected, or behind a hole that is given up. */
static void pass(struct flows *fs, struct conn *c, int end, uint32_t seq, const uint8_t *data, uint32_t have, uint32_t len, uint64_t ts)
{
	struct side *s = &c->side[end];
	int32_t hole = (int32_t)(seq - s->next);
	struct flow_piece p = { .ts_ns = ts };
	uint32_t old = hole < 0 ? (uint32_t)-hole : 0;

	if (hole > 0) {
		fs->stats.gaps++;
		fs->stats.gap_bytes += (uint32_t)hole;
		p.seq = s->next;
		p.gap = (uint32_t)hole;
		s->next = seq;
		tell(fs, c, end, &p);
		p.flags = 0;
	}
	if (old >= len)
		return;
	p.seq = seq + old;
	p.have = have > old ? have - old : 0;
	p.data = data + MIN(old, have);
	p.gap = len - MAX(have, old);
	fs->stats.gaps += p.gap != 0;
	fs->stats.gap_bytes += p.gap;
	s->next = seq + len;
	tell(fs, c, end, &p);
}

/* What waited and is next by now; with force also what is behind the next hole, at the time at which it came. */
static void pass_held(struct flows *fs, struct conn *c, int end, uint64_t ts, bool force)
{
	struct side *s = &c->side[end];

	while (s->held && (force || (int32_t)(s->held->seq - s->next) <= 0)) {
		struct held *h = held_take(fs, s);

		if (force)
			ts = h->ts;
		pass(fs, c, end, h->seq, h->data, h->have, h->len, ts);
		free(h);
		force = false;
	}
	s->hole_ns = s->held ? s->held->ts : 0;
}

static void pass_all(struct flows *fs, struct conn *c, int end, uint64_t ts)
{
	while (c->side[end].held)
		pass_held(fs, c, end, ts, true);
}

static int hold(struct flows *fs, struct conn *c, int end, const struct packet *p, uint32_t seq, const uint8_t *data, uint64_t ts)
{
	struct side *s = &c->side[end];
	struct held **at = &s->held, *h;

	while (*at && (int32_t)((*at)->seq - seq) < 0)
		at = &(*at)->next;
	if (*at && (*at)->seq == seq && (*at)->len >= p->len) {
		fs->stats.repeated++;
		return 0;
	}
	h = malloc(sizeof(*h) + p->have);
	if (!h) {
		fs->stats.no_memory++;
		return -ENOMEM;
	}
	if (!s->held)
		s->hole_ns = ts;
	h->ts = ts;
	h->seq = seq;
	h->len = p->len;
	h->have = p->have;
	if (p->have)
		memcpy(h->data, data, p->have);
	h->next = *at;
	*at = h;
	s->held_bytes += p->have;
	fs->held_bytes += p->have;
	fs->stats.reordered++;
	while (s->held && (s->held_bytes > FLOW_HELD_MAX || fs->held_bytes > FLOWS_HELD_MAX))
		pass_held(fs, c, end, ts, true);
	return 0;
}

/* The other end told that it has what we miss. */
static void give_up_holes(struct flows *fs, struct conn *c, int end, const struct packet *p, uint64_t ts)
{
	struct side *s = &c->side[end];

	if (!(p->flags & TCP_ACK))
		return;
	while (s->held && (int32_t)(p->ack - s->held->seq) >= 0 && (p->len || ts > s->hole_ns + FLOW_PATIENCE_NS))
		pass_held(fs, c, end, ts, true);
}

/* ---- beginning and end of a connection ---------------------------------------------------------------- */
/* Ends it for the caller, where the capture missed its end. */
static void end_it(struct flows *fs, struct conn *c, uint64_t ts)
{
	struct flow_piece p = { .ts_ns = ts, .flags = TCP_RST };

	for (int end = 0; end < 2; end++)
		pass_all(fs, c, end, ts);
	if (c->server < 0 || c->reset || (c->side[0].fin_told && c->side[1].fin_told))
		return;
	tell(fs, c, c->server, &p);
}

static void conn_drop(struct flows *fs, struct conn **at)
{
	struct conn *c = *at;

	*at = c->chain;
	lru_remove(fs, c);
	if (fs->o.over)
		fs->o.over(fs->o.ctx, &c->f);
	for (int end = 0; end < 2; end++)
		while (c->side[end].held)
			free(held_take(fs, &c->side[end]));
	fs->count--;
	free(c);
}

static struct conn **place_of(struct flows *fs, const struct conn *c)
{
	struct packet p = { .sport = c->port[0], .dport = c->port[1] };
	struct conn **at;

	memcpy(p.saddr, c->ends[0], 16);
	memcpy(p.daddr, c->ends[1], 16);
	for (at = &fs->buckets[bucket_of(&p)]; *at != c;)
		at = &(*at)->chain;
	return at;
}

static bool is_over(const struct conn *c)
{
	return c->reset || (c->side[0].fin && c->side[1].fin);
}

static void age(struct flows *fs, uint64_t ts)
{
	while (fs->oldest) {
		struct conn *c = fs->oldest;

		if (ts < c->last_ns || ts - c->last_ns < (is_over(c) ? FLOW_LINGER_NS : FLOW_IDLE_NS))
			return;
		for (int end = 0; end < 2; end++)
			pass_all(fs, c, end, ts);
		conn_drop(fs, place_of(fs, c));
	}
}

static struct conn *conn_new(struct flows *fs, const struct packet *p, uint32_t bucket)
{
	struct conn *c;

	if (fs->count >= FLOWS_MAX) {
		fs->stats.evicted++;
		for (int end = 0; end < 2; end++)
			pass_all(fs, fs->oldest, end, fs->oldest->last_ns);
		conn_drop(fs, place_of(fs, fs->oldest));
	}
	c = calloc(1, sizeof(*c));
	if (!c) {
		fs->stats.no_memory++;
		return NULL;
	}
	c->f.id = ++fs->next_id;
	memcpy(c->ends[0], p->saddr, 16);
	memcpy(c->ends[1], p->daddr, 16);
	c->port[0] = p->sport;
	c->port[1] = p->dport;
	c->server = -1;
	c->chain = fs->buckets[bucket];
	fs->buckets[bucket] = c;
	lru_add(fs, c);
	fs->count++;
	fs->stats.connections++;
	return c;
}

/* ---- who is the server ---------------------------------------------------------------------------------- */
static struct flow_server *server_find(struct flows *fs, const uint8_t addr[16], uint16_t port)
{
	for (size_t i = 0; i < fs->server_count; i++)
		if (fs->servers[i].port == port && memcmp(fs->servers[i].addr, addr, 16) == 0)
			return &fs->servers[i];
	return NULL;
}

static void server_is(struct flows *fs, struct conn *c, int end, enum flow_guess guess)
{
	struct flow_server *s = server_find(fs, c->ends[end], c->port[end]);

	c->server = end;
	c->f.key = (struct weir_conn_key){ .lport = c->port[end], .rport = c->port[!end] };
	memcpy(c->f.key.laddr, c->ends[end], 16);
	memcpy(c->f.key.raddr, c->ends[!end], 16);
	if (!s && fs->server_count < FLOW_SERVERS_MAX) {
		s = &fs->servers[fs->server_count++];
		*s = (struct flow_server){ .port = c->port[end], .guess = guess };
		memcpy(s->addr, c->ends[end], 16);
	}
	if (s)
		s->connections++;
}

static bool port_given(const struct flows *fs, uint16_t port)
{
	return fs->o.ports[port >> 3] >> (port & 7) & 1;
}

/* Can be told before anything is said; false: wait for payload. */
static void guess_early(struct flows *fs, struct conn *c, int from, const struct packet *p)
{
	int syn_to = p->flags & TCP_SYN ? (p->flags & TCP_ACK ? from : !from) : -1;

	if (fs->o.ports && !(port_given(fs, c->port[0]) && port_given(fs, c->port[1])))
		server_is(fs, c, port_given(fs, c->port[0]) ? 0 : 1, FLOW_BY_PORT);
	else if (syn_to >= 0)
		server_is(fs, c, syn_to, FLOW_BY_SYN);
}

static bool begins(const uint8_t *data, uint32_t n, const char *with)
{
	size_t len = strlen(with);

	return n >= len && memcmp(data, with, len) == 0;
}

static void guess_by_speech(struct flows *fs, struct conn *c, int from, const uint8_t *data, uint32_t n)
{
	static const char *const asks[] = { "GET ", "POST ", "HEAD ", "PUT ", "DELETE ", "OPTIONS ", "PATCH ", "PRI * ", "PROXY " };

	for (int end = 0; end < 2; end++) {
		if (server_find(fs, c->ends[end], c->port[end]) && !server_find(fs, c->ends[!end], c->port[!end])) {
			server_is(fs, c, end, FLOW_BY_SERVER);
			return;
		}
	}
	for (size_t i = 0; i < ARRAY_SIZE(asks); i++) {
		if (begins(data, n, asks[i])) {
			server_is(fs, c, !from, FLOW_BY_SPEECH);
			return;
		}
	}
	if (begins(data, n, "HTTP/1."))
		server_is(fs, c, from, FLOW_BY_SPEECH);
	else
		server_is(fs, c, c->port[0] < c->port[1] ? 0 : 1, FLOW_BY_LOWER_PORT);
}

/* A TLS record of version 3.x: change of cipher, alert, handshake or data. */
static bool looks_tls(const uint8_t *data, uint32_t n)
{
	return n >= 3 && data[0] >= 20 && data[0] <= 23 && data[1] == 3 && data[2] <= 4;
}

static void look(struct flows *fs, struct conn *c, int from, const uint8_t *data, uint32_t n)
{
	struct flow_server *s;

	if (c->server < 0)
		guess_by_speech(fs, c, from, data, n);
	c->looked = true;
	if (!looks_tls(data, n))
		return;
	c->f.tls = true;
	fs->stats.tls++;
	s = server_find(fs, c->ends[c->server], c->port[c->server]);
	if (s)
		s->tls++;
}

/* ---- one segment ---------------------------------------------------------------------------------------- */
/* The same four numbers again, for a new connection. */
static bool begins_anew(const struct conn *c, int from, const struct packet *p)
{
	const struct side *s = &c->side[from];

	if (!(p->flags & TCP_SYN))
		return false;
	if (s->syn)
		return s->isn != p->seq;
	return s->started && (uint32_t)(s->next - p->seq - 1) > RESET_BEFORE;
}

static bool reset_is_ours(const struct side *s, const struct packet *p)
{
	return !s->started || p->seq - s->next + RESET_BEFORE < FLOW_HELD_MAX + RESET_BEFORE;
}

static void payload(struct flows *fs, struct conn *c, int from, const struct packet *p, const uint8_t *data, uint64_t ts)
{
	struct side *s = &c->side[from];
	uint32_t seq = p->seq + (p->flags & TCP_SYN ? 1 : 0);
	int32_t diff;

	if (!s->started) {
		s->started = true;
		s->next = seq;
	}
	if (!c->looked && p->have)
		look(fs, c, from, data, MIN(p->have, PROBE_MAX));
	fs->stats.segments++;
	fs->stats.cut += p->have < p->len;
	diff = (int32_t)(seq - s->next);
	if (diff > (int32_t)WINDOW_MAX || -(int64_t)diff > WINDOW_MAX) {
		fs->stats.outside++;
		return;
	}
	if (c->f.tls) {
		s->next = diff + (int64_t)p->len > 0 ? seq + p->len : s->next;
		return;
	}
	if (diff > 0) {
		hold(fs, c, from, p, seq, data, ts);
		return;
	}
	if (diff < 0 && (uint32_t)-diff >= p->len) {
		fs->stats.repeated++;
		return;
	}
	pass(fs, c, from, seq, data, p->have, p->len, ts);
	pass_held(fs, c, from, ts, false);
}

static void segment(struct flows *fs, struct conn *c, int from, const struct packet *p, const uint8_t *data, uint64_t ts)
{
	struct side *s = &c->side[from];
	struct flow_piece end = { .ts_ns = ts };

	if (p->flags & TCP_SYN) {
		s->syn = true;
		s->isn = p->seq;
		c->f.from_start = true;
		if (!s->started) {
			s->started = true;
			s->next = p->seq + 1;
		}
	}
	give_up_holes(fs, c, !from, p, ts); /* before what answers those bytes */
	if (p->len)
		payload(fs, c, from, p, data, ts);
	if ((p->flags & TCP_FIN) && !s->fin) {
		if (!s->started) {
			s->started = true;
			s->next = p->seq + p->len;
		}
		s->fin = true;
		s->fin_seq = p->seq + (p->flags & TCP_SYN ? 1 : 0) + p->len;
	}
	end.seq = s->next;
	if ((p->flags & TCP_RST) && !reset_is_ours(s, p)) {
		fs->stats.outside++;
	} else if (p->flags & TCP_RST) {
		pass_all(fs, c, from, ts);
		pass_all(fs, c, !from, ts);
		c->reset = true;
		end.flags = TCP_RST;
	}
	tell(fs, c, from, &end);
	end = (struct flow_piece){ .seq = c->side[!from].next, .ts_ns = ts };
	tell(fs, c, !from, &end); /* its end may have waited for a hole */
}

struct flow *flows_segment(struct flows *fs, const struct packet *p, const uint8_t *data, uint64_t ts, int *ret_dir)
{
	uint32_t bucket = bucket_of(p);
	struct conn **at = &fs->buckets[bucket], *c;
	int from = -1;

	if (fs->o.ports && !port_given(fs, p->sport) && !port_given(fs, p->dport)) {
		fs->stats.unwatched++;
		return NULL;
	}
	age(fs, ts);
	while (*at && (from = sender_of(*at, p)) < 0)
		at = &(*at)->chain;
	c = *at;
	if (c && begins_anew(c, from, p)) {
		end_it(fs, c, ts);
		conn_drop(fs, at);
		c = NULL;
	}
	if (!c) {
		c = conn_new(fs, p, bucket);
		if (!c)
			return NULL;
		from = 0;
		fs->stats.midway += !(p->flags & TCP_SYN);
	}
	c->last_ns = MAX(ts, c->last_ns);
	lru_remove(fs, c);
	lru_add(fs, c);
	if (c->server < 0)
		guess_early(fs, c, from, p);
	segment(fs, c, from, p, data, ts);
	if (ret_dir)
		*ret_dir = from == c->server ? WEIR_RESPONSE : WEIR_REQUEST;
	return &c->f;
}

/* ---- the module --------------------------------------------------------------------------------------- */
int flows_new(const struct flow_opts *o, struct flows **ret)
{
	struct flows *fs = calloc(1, sizeof(*fs));

	if (!fs)
		return -ENOMEM;
	fs->o = *o;
	*ret = fs;
	return 0;
}

void flows_finish(struct flows *fs)
{
	for (struct conn *c = fs->oldest; c; c = c->newer) {
		struct flow_piece p = { .ts_ns = c->last_ns };

		for (int end = 0; end < 2; end++) {
			pass_all(fs, c, end, c->last_ns);
			p.seq = c->side[end].next;
			p.flags = 0;
			tell(fs, c, end, &p);
		}
	}
}

struct flows *flows_free(struct flows *fs)
{
	if (!fs)
		return NULL;
	while (fs->oldest)
		conn_drop(fs, place_of(fs, fs->oldest));
	free(fs);
	return NULL;
}

const struct flow_stats *flows_stats(const struct flows *fs)
{
	return &fs->stats;
}

size_t flows_servers(const struct flows *fs, const struct flow_server **ret)
{
	*ret = fs->servers;
	return fs->server_count;
}

const char *flow_guess_name(enum flow_guess g)
{
	static const char *const names[] = {
		[FLOW_BY_PORT] = "as told", [FLOW_BY_SYN] = "by its SYN", [FLOW_BY_SERVER] = "as before", [FLOW_BY_SPEECH] = "by what it says",
		[FLOW_BY_LOWER_PORT] = "by the lower port",
	};

	return names[g];
}
