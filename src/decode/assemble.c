/* assemble.c - the table of open requests, and their slices. */
#include "decode/assemble_internal.h"

/* The kernel's allowances, each overshot by one slice. */
#define REQUEST_BYTES_MAX (WEIR_SLICE_HEAD + WEIR_SLICE_TAIL + WEIR_SLICE_HEAD)
#define RESPONSE_BYTES_MAX (WEIR_SLICE_ENCODED + WEIR_SLICE_HEAD)

static uint32_t hash(uint64_t conn, uint32_t request)
{
	uint64_t h = (conn ^ (uint64_t)request << 40) * UINT64_C(0x9e3779b97f4a7c15);

	h ^= h >> 29;
	return (uint32_t)(h * UINT64_C(0xbf58476d1ce4e5b9) >> 32);
}

/* ---- slices of one message ------------------------------------------------------------------------ */
static void pieces_done(struct pieces *s)
{
	if (s->buf)
		explicit_bzero(s->buf, s->len);
	free(s->buf);
	free(s->piece);
	s->buf = NULL;
	s->piece = NULL;
	s->len = s->cap = 0;
	s->count = s->room = 0;
}

static int pieces_grow(struct pieces *s, uint32_t want, uint32_t most)
{
	uint32_t cap = s->cap ? s->cap : 512;
	char *buf;

	if (want <= s->cap)
		return 0;
	while (cap < want)
		cap *= 2;
	cap = MAX(MIN(cap, most), want);
	/* not realloc(): it would leave the old bytes behind */
	buf = malloc(cap);
	if (!buf)
		return -ENOMEM;
	if (s->len)
		memcpy(buf, s->buf, s->len);
	if (s->buf)
		explicit_bzero(s->buf, s->len);
	free(s->buf);
	s->buf = buf;
	s->cap = cap;
	return 0;
}

/* Notes a piece at the end of the buffer; there is room for it in PIECES_MAX. */
static int piece_new(struct pieces *s, uint64_t off)
{
	struct piece *more;
	uint16_t room;

	if (s->count == s->room) {
		room = (uint16_t)MIN(s->room ? s->room * 2 : 2, PIECES_MAX);
		more = realloc(s->piece, room * sizeof(*more));
		if (!more)
			return -ENOMEM;
		s->piece = more;
		s->room = room;
	}
	s->piece[s->count++] = (struct piece){ .off = off, .at = s->len };
	return 0;
}

static uint64_t pieces_end(const struct pieces *s)
{
	return s->count ? s->piece[s->count - 1].off + s->piece[s->count - 1].len : 0;
}

static int pieces_add(struct assemble *a, struct pending *p, const struct weir_slice *e)
{
	int dir = e->dir;
	struct pieces *s = &p->side[dir];
	uint32_t most = dir == WEIR_REQUEST ? REQUEST_BYTES_MAX : RESPONSE_BYTES_MAX;
	uint64_t off = e->off, end = pieces_end(s);
	uint32_t len = e->len;
	const char *data = e->data;
	int r;

	if (e->head_len && !s->head_len)
		s->head_len = e->head_len;
	if (!len)
		return 0;
	if (off < end) {
		a->stats.repeated++;
		if (end - off >= len)
			return 0;
		data += end - off;
		len -= (uint32_t)(end - off);
		off = end;
	}
	if (s->len + len > most || (s->count == PIECES_MAX && off != end)) {
		a->stats.cut++;
		return 0;
	}
	r = pieces_grow(s, s->len + len, most);
	if (r == 0 && (!s->count || off != end))
		r = piece_new(s, off);
	if (r < 0)
		return r;
	memcpy(s->buf + s->len, data, len);
	s->piece[s->count - 1].len += len;
	s->len += len;
	return 0;
}

/* ---- the table ------------------------------------------------------------------------------------ */
static struct pending **slot_of(struct assemble *a, uint64_t conn, uint32_t request)
{
	struct pending **at = &a->buckets[hash(conn, request) & a->mask];

	while (*at && ((*at)->conn != conn || (*at)->request != request))
		at = &(*at)->chain;
	return at;
}

static void lru_remove(struct assemble *a, struct pending *p)
{
	if (p->older)
		p->older->newer = p->newer;
	else
		a->lru[p->trimmed].oldest = p->newer;
	if (p->newer)
		p->newer->older = p->older;
	else
		a->lru[p->trimmed].newest = p->older;
	p->older = p->newer = NULL;
}

static void lru_add(struct assemble *a, struct pending *p, bool trimmed)
{
	p->trimmed = trimmed;
	p->older = a->lru[trimmed].newest;
	if (p->older)
		p->older->newer = p;
	else
		a->lru[trimmed].oldest = p;
	a->lru[trimmed].newest = p;
}

static void waiting_add(struct assemble *a, struct pending *p)
{
	p->waiting = true;
	p->earlier = a->waiting.newest;
	if (p->earlier)
		p->earlier->later = p;
	else
		a->waiting.oldest = p;
	a->waiting.newest = p;
}

static void waiting_remove(struct assemble *a, struct pending *p)
{
	if (!p->waiting)
		return;
	if (p->earlier)
		p->earlier->later = p->later;
	else
		a->waiting.oldest = p->later;
	if (p->later)
		p->later->earlier = p->earlier;
	else
		a->waiting.newest = p->earlier;
	p->earlier = p->later = NULL;
	p->waiting = false;
}

/* Brings the sums up to date with what this request holds now. */
static void account(struct assemble *a, struct pending *p)
{
	const struct pieces *in = &p->side[WEIR_REQUEST], *out = &p->side[WEIR_RESPONSE];
	size_t now = sizeof(*p) + in->cap + out->cap + (in->room + out->room) * sizeof(struct piece) + p->facts.block_len +
		     ((p->names[0] != NULL) + (p->names[1] != NULL)) * sizeof(struct shape_names);

	a->stats.bytes += now - p->bytes;
	p->bytes = now;
}

/* Takes the request out of the table and frees it. */
static void pending_drop(struct assemble *a, struct pending *p)
{
	struct pending **at = slot_of(a, p->conn, p->request);

	if (*at == p)
		*at = p->chain;
	lru_remove(a, p);
	waiting_remove(a, p);
	pieces_done(&p->side[WEIR_REQUEST]);
	pieces_done(&p->side[WEIR_RESPONSE]);
	a->stats.bytes -= p->bytes;
	a->stats.open--;
	facts_done(&p->facts);
	free(p->names[WEIR_REQUEST]);
	free(p->names[WEIR_RESPONSE]);
	free(p);
}

/* What is left without its slices still makes a record with all that the request told, if it was read. */
static void pending_trim(struct assemble *a, struct pending *p)
{
	a->stats.cut += p->side[WEIR_REQUEST].buf || p->side[WEIR_RESPONSE].buf;
	pieces_done(&p->side[WEIR_REQUEST]);
	pieces_done(&p->side[WEIR_RESPONSE]);
	account(a, p);
	lru_remove(a, p);
	lru_add(a, p, true);
}

/* The request silent longest gives up its slices; when all have but the one in use, or there are too many, its place. */
static void make_room(struct assemble *a, const struct pending *keep)
{
	while (a->stats.open > a->opts.max_open || a->stats.bytes > a->opts.max_bytes) {
		struct pending *whole = a->lru[0].oldest, *trimmed = a->lru[1].oldest;

		if (whole == keep)
			whole = NULL;
		if (!whole && !trimmed)
			return;
		if (whole && a->stats.open <= a->opts.max_open) {
			pending_trim(a, whole);
			continue;
		}
		a->stats.evicted++;
		pending_drop(a, trimmed ? trimmed : whole);
	}
}

static struct pending *pending_get(struct assemble *a, const struct weir_slice *e)
{
	struct pending **at = slot_of(a, e->conn, e->request), *p = *at;

	if (p) {
		lru_remove(a, p);
		lru_add(a, p, false);
		return p;
	}
	p = calloc(1, sizeof(*p));
	if (!p)
		return NULL;
	p->conn = e->conn;
	p->request = e->request;
	p->key = e->key;
	facts_init(&p->facts);
	account(a, p);
	a->stats.open++;
	*at = p;
	lru_add(a, p, false);
	make_room(a, p);
	return p;
}

/* ---- events --------------------------------------------------------------------------------------- */
/* The facts are read, the bytes are no longer needed. */
static int request_over(struct assemble *a, struct pending *p, uint64_t whole_bytes)
{
	int r;

	if (p->facts.request_read)
		return 0;
	r = read_request(a, p, whole_bytes, true);
	p->facts.request_read = true;
	pieces_done(&p->side[WEIR_REQUEST]);
	return r;
}

bool all_there(const struct pending *p)
{
	const struct pieces *s = &p->side[WEIR_REQUEST];

	return p->expect && pieces_end(s) >= p->expect;
}

static void arrival_tell(struct assemble *a, struct pending *p)
{
	if (!p->waiting)
		return;
	waiting_remove(a, p);
	p->arrived = true;
	record_arrival(a, p);
}

void assemble_tell_waiting(struct assemble *a)
{
	while (a->waiting.oldest) {
		struct pending *p = a->waiting.oldest;

		if (!p->facts.request_read && read_request(a, p, 0, false) < 0)
			a->stats.no_memory++;
		account(a, p);
		arrival_tell(a, p);
	}
}

/* Another slice of a request has been added. */
static int on_request(struct assemble *a, struct pending *p, const struct weir_slice *e)
{
	bool first = (e->flags & WEIR_SLICE_HEAD_DONE) && !p->arrived && !p->waiting;
	int r = 0;

	if (first) {
		p->software = software_of(a->software, &p->key);
		p->workload = workloads_of(a->workloads, p->key.netns, p->key.lport);
		r = read_request(a, p, 0, false);
		p->timestamp = wall_seconds(a, e->ts);
		waiting_add(a, p);
	}
	if (first && all_there(p)) {
		p->facts.request_read = true;
		pieces_done(&p->side[WEIR_REQUEST]);
	} else if ((p->waiting || p->arrived) && (all_there(p) || (!p->expect && (e->flags & WEIR_SLICE_MSG_DONE)))) {
		r = request_over(a, p, 0); /* a body that does not say its length ends with the message */
	}
	return r;
}

/* What came so far is the prefix that the PROXY protocol puts before a connection's first request. That request is yet to begin. */
static void on_proxy(struct assemble *a, struct pending *p)
{
	struct pieces *s = &p->side[WEIR_REQUEST];
	enum proxy_kind kind = PROXY_UNKNOWN;
	uint8_t addr[16];

	a->stats.proxied++;
	if (s->count != 1 || s->piece[0].off || proxy_parse((const uint8_t *)s->buf, s->len, &kind, addr) < 0)
		a->stats.proxied_bad++;
	else if (kind == PROXY_CLIENT)
		a->stats.proxied_lost += proxied_add(&a->proxied, p->conn, addr) != 0;
	pending_drop(a, p);
}

static int on_slice(struct assemble *a, const struct weir_slice *e)
{
	uint32_t recent = hash(e->conn, e->request) % ARRAY_SIZE(a->recent);
	struct pending *p;
	int r;

	a->stats.slices++;
	if (a->recent[recent].used && a->recent[recent].conn == e->conn && a->recent[recent].request == e->request) {
		a->stats.repeated++;
		return 0;
	}
	p = pending_get(a, e);
	if (!p) {
		a->stats.no_memory++;
		return -ENOMEM;
	}
	if (e->dir == WEIR_REQUEST && p->facts.request_read)
		return 0; /* what comes after the answer began changes nothing */
	r = pieces_add(a, p, e);
	if (r < 0) {
		a->stats.no_memory++;
		return r;
	}
	if (e->dir == WEIR_REQUEST && (e->flags & WEIR_SLICE_PROXY) && !p->arrived) {
		on_proxy(a, p);
		return 0;
	}
	if (e->dir == WEIR_REQUEST && (e->flags & WEIR_SLICE_MSG_DONE)) {
		p->whole = e->off + e->len;
		if (p->open_ended)
			p->expect = p->whole;
	}
	if (e->dir == WEIR_RESPONSE) {
		r = request_over(a, p, 0);
	} else {
		r = on_request(a, p, e);
	}
	if (p->facts.request_read)
		arrival_tell(a, p);
	if (r < 0)
		a->stats.no_memory++;
	account(a, p);
	make_room(a, p);
	return r;
}

static bool is_model_answer(const struct pending *p, const struct weir_done *d)
{
	if (d->status < 200 || d->status >= 300 || (d->flags & WEIR_DONE_ERROR))
		return false;
	return p->dialect ? p->dialect->kind == KIND_INFERENCE || p->dialect->kind == KIND_EMBEDDING : weir_has_usage(d->token_mask);
}

static int on_done(struct assemble *a, const struct weir_done *d)
{
	uint32_t recent = hash(d->conn, d->request) % ARRAY_SIZE(a->recent);
	struct pending *p = *slot_of(a, d->conn, d->request), blank;
	struct unpacked u = { 0 };
	struct software_clues clues = { 0 };
	bool have_unpacked = false;
	int r = 0;

	a->stats.done++;
	if (a->recent[recent].used && a->recent[recent].conn == d->conn && a->recent[recent].request == d->request) {
		a->stats.repeated++;
		return 0;
	}
	a->recent[recent].conn = d->conn;
	a->recent[recent].request = d->request;
	a->recent[recent].used = true;
	if (!p) {
		/* no slice came: ring full, shed, or the request was not seen */
		memset(&blank, 0, sizeof(blank));
		blank.conn = d->conn;
		blank.request = d->request;
		blank.key = d->key;
		blank.software = software_of(a->software, &d->key);
		blank.workload = workloads_of(a->workloads, d->key.netns, d->key.lport);
		facts_init(&blank.facts);
		record_complete(a, &blank, d, NULL);
		return 0;
	}
	p->key = d->key;
	waiting_remove(a, p); /* its arrival and its end are told at once */
	if (!p->arrived) {
		p->software = software_of(a->software, &d->key);
		p->workload = workloads_of(a->workloads, d->key.netns, d->key.lport);
	}
	r = request_over(a, p, d->req_bytes);
	if (d->flags & WEIR_DONE_ENCODED) {
		int u_r = unpack_response(a, p, &u);

		have_unpacked = u_r == 0;
		a->stats.unpacked += have_unpacked && u.whole;
		a->stats.not_unpacked += !(have_unpacked && u.whole);
	}
	if (r == 0)
		r = read_response(p, d, have_unpacked ? &u : NULL, &clues);
	software_note(a->software, &d->key, &clues, is_model_answer(p, d));
	a->stats.no_memory += r < 0;
	/* Facts that could not be kept are absent; what the kernel counted is told all the same. */
	record_complete(a, p, d, have_unpacked ? &u : NULL);
	unpacked_done(&u);
	account(a, p);
	return 0;
}

static bool slice_makes_sense(const struct weir_slice *e, size_t n)
{
	return n >= sizeof(*e) && e->len <= n - sizeof(*e) && e->dir <= WEIR_RESPONSE && e->off < UINT64_MAX - UINT16_MAX &&
	       e->head_len <= WEIR_HEAD_MAX;
}

int assemble_event(struct assemble *a, const void *event, size_t n)
{
	/* The ring aligns to eight bytes; so does this copy for callers that do not. */
	_Alignas(8) struct weir_done d;
	const uint8_t *type = event;
	struct pending *p;
	int r;

	if (n && *type == WEIR_EVENT_DONE && n >= sizeof(d)) {
		memcpy(&d, event, sizeof(d));
		p = *slot_of(a, d.conn, d.request);
		r = on_done(a, &d);
		if (p && *slot_of(a, d.conn, d.request) == p)
			pending_drop(a, p);
		return r;
	}
	if (n && *type == WEIR_EVENT_SLICE && (uintptr_t)event % 8 == 0 && slice_makes_sense(event, n))
		return on_slice(a, event);
	if (n && *type == WEIR_EVENT_RAW && (uintptr_t)event % 8 == 0) {
		r = h2_event(a->h2, event, n);
		if (r != -EBADMSG)
			return r;
	}
	a->stats.bad_events++;
	return -EBADMSG;
}

/* ---- HTTP/2 --------------------------------------------------------------------------------------- */
static void on_h2_event(void *ctx, const void *data, size_t n)
{
	assemble_event(ctx, data, n);
}

static void on_h2_count(void *ctx, const struct weir_conn_key *key, const struct weir_client *more)
{
	const struct assemble *a = ctx;

	if (a->opts.count)
		a->opts.count(a->opts.ctx, key, more);
}

struct telling {
	struct assemble *a;
	void (*tell)(void *ctx, const struct record *r, int64_t fresh);
	void *ctx;
};

static void on_h2_stream(void *ctx, uint64_t conn, uint32_t request, int64_t tokens)
{
	const struct telling *t = ctx;

	assemble_open_stream(t->a, conn, request, tokens, t->tell, t->ctx);
}

void assemble_open_streams(struct assemble *a, void (*tell)(void *ctx, const struct record *r, int64_t fresh), void *ctx)
{
	struct telling t = { a, tell, ctx };

	h2_streams(a->h2, on_h2_stream, &t);
}

void assemble_set_shed(struct assemble *a, enum weir_shed level)
{
	h2_set_shed(a->h2, level);
}

const struct h2_stats *assemble_h2_stats(const struct assemble *a)
{
	return h2_stats(a->h2);
}

/* ---- life ----------------------------------------------------------------------------------------- */
int assemble_new(const struct assemble_opts *opts, struct assemble **ret)
{
	CLEANUP(assemble_freep) struct assemble *a = NULL;
	uint32_t buckets = 64;

	if (!opts->automaton)
		return -EINVAL;
	a = calloc(1, sizeof(*a));
	if (!a)
		return -ENOMEM;
	a->opts = *opts;
	if (!a->opts.max_open)
		a->opts.max_open = ASSEMBLE_OPEN_DEFAULT;
	if (!a->opts.max_bytes)
		a->opts.max_bytes = ASSEMBLE_BYTES_DEFAULT;
	if (opts->host)
		snprintf(a->host, sizeof(a->host), "%s", opts->host);
	a->opts.host = a->host;
	while (buckets < a->opts.max_open && buckets < 1u << 20)
		buckets *= 2;
	a->buckets = calloc(buckets, sizeof(*a->buckets));
	a->estimate = estimate_new();
	a->shapes = shapes_new();
	a->software = software_new();
	a->workloads = workloads_new();
	if (prompt_new(opts->key, &a->prompt) < 0)
		return -ENOMEM;
	if (h2_new(&(struct h2_opts){ .automaton = opts->automaton, .event = on_h2_event, .count = on_h2_count, .ctx = a }, &a->h2) < 0)
		return -ENOMEM;
	if (!a->buckets || !a->estimate || !a->shapes || !a->software || !a->workloads)
		return -ENOMEM;
	a->mask = buckets - 1;
	*ret = TAKE_PTR(a);
	return 0;
}

struct assemble *assemble_free(struct assemble *a)
{
	if (!a)
		return NULL;
	h2_free(a->h2);
	for (int i = 0; i < 2; i++)
		while (a->lru[i].oldest)
			pending_drop(a, a->lru[i].oldest);
	free(a->buckets);
	estimate_free(a->estimate);
	shapes_free(a->shapes);
	software_free(a->software);
	prompt_free(a->prompt);
	workloads_free(a->workloads);
	proxied_free(a->proxied);
	explicit_bzero(a, sizeof(*a));
	free(a);
	return NULL;
}

void assemble_set_clock(struct assemble *a, int64_t wall_minus_monotonic_ns)
{
	a->wall_ns = wall_minus_monotonic_ns;
}

void assemble_open_stream(struct assemble *a, uint64_t conn, uint32_t request, int64_t tokens, void (*tell)(void *ctx, const struct record *r, int64_t fresh), void *ctx)
{
	struct pending *p = *slot_of(a, conn, request);
	int64_t fresh;

	if (!p || !p->arrived || tokens <= p->told)
		return;
	fresh = tokens - p->told;
	p->told = tokens;
	record_open(a, p, fresh, tell, ctx);
}

struct assemble_source assemble_source(const struct assemble *a)
{
	const struct pending *p = a->told;

	return p ? (struct assemble_source){ &p->key, &p->identity, p->conn, p->request, p->outer } : (struct assemble_source){ 0 };
}

const struct assemble_stats *assemble_stats(const struct assemble *a)
{
	return &a->stats;
}

const struct estimate *assemble_estimate(const struct assemble *a)
{
	return a->estimate;
}

void assemble_set_workload(struct assemble *a, uint32_t netns, uint16_t port, struct span name)
{
	workloads_set(a->workloads, netns, port, name);
}

const struct shapes *assemble_shapes(const struct assemble *a)
{
	return a->shapes;
}
