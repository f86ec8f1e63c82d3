#include "decode/scrub_internal.h"

#include <ctype.h>
#include <strings.h>

/* ---- what waits for its end ------------------------------------------------------------------------------- */
void scrub_put(struct side *d, uint8_t c)
{
	d->s->o->put(d->s->ctx, d->dir, d->off, c);
}

void scrub_wait(struct side *d, uint8_t c)
{
	if (d->n == SCRUB_AHEAD) {
		d->over = true; /* too long: filler, as it is */
		return;
	}
	d->at[d->n] = d->off;
	d->text[d->n++] = c;
}

void scrub_forget(struct side *d)
{
	explicit_bzero(d->text, d->n);
	d->n = 0;
	d->over = false;
}

void scrub_release(struct side *d, const uint8_t *as)
{
	for (size_t i = 0; i < d->n && !d->over; i++)
		d->s->o->put(d->s->ctx, d->dir, d->at[i], as[i]);
	scrub_forget(d);
}

/* The same text gives the same letters, which tell nothing of it. */
void scrub_release_mapped(struct side *d, size_t from, size_t to)
{
	static const char letters[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
	uint64_t h = siphash(d->s->o->key, d->text + from, to - from);

	for (size_t i = from; i < to; i++) {
		h = h * UINT64_C(6364136223846793005) + 1442695040888963407u;
		d->text[i] = (uint8_t)letters[(h >> 33) % (sizeof(letters) - 1)];
	}
	scrub_release(d, d->text);
}

static bool all_of(struct span t, const char *more)
{
	for (size_t i = 0; i < t.n; i++)
		if (!isalnum((unsigned char)t.p[i]) && !strchr(more, t.p[i]))
			return false;
	return t.n > 0 && !memchr(t.p, '\0', t.n);
}

bool scrub_is_id(struct span t)
{
	return t.n <= 128 && all_of(t, "_.:-");
}

bool scrub_is_model(struct span t)
{
	return t.n <= 128 && all_of(t, "_.:/@+-");
}

/* ---- heads -------------------------------------------------------------------------------------------------- */
enum header_rule { HEADER_FILL, HEADER_KEEP, HEADER_MAP, HEADER_ADDRESS };

static const struct {
	const char *name;
	enum header_rule rule;
} headers[] = {
	{ "accept", HEADER_KEEP }, { "accept-encoding", HEADER_KEEP }, { "age", HEADER_KEEP }, { "cache-control", HEADER_KEEP }, { "connection", HEADER_KEEP },
	{ "content-encoding", HEADER_KEEP }, { "content-length", HEADER_KEEP }, { "content-type", HEADER_KEEP }, { "date", HEADER_KEEP }, { "expect", HEADER_KEEP },
	{ "keep-alive", HEADER_KEEP }, { "request-id", HEADER_KEEP }, { "retry-after", HEADER_KEEP }, { "server", HEADER_KEEP }, { "transfer-encoding", HEADER_KEEP },
	{ "upgrade", HEADER_KEEP }, { "user-agent", HEADER_KEEP }, { "vary", HEADER_KEEP }, { "x-accel-buffering", HEADER_KEEP }, { "x-compute-characters", HEADER_KEEP },
	{ "x-compute-time", HEADER_KEEP }, { "x-compute-tokens", HEADER_KEEP }, { "x-compute-type", HEADER_KEEP }, { "x-generated-tokens", HEADER_KEEP },
	{ "x-inference-time", HEADER_KEEP }, { "x-litellm-call-id", HEADER_KEEP }, { "x-litellm-version", HEADER_KEEP }, { "x-prompt-tokens", HEADER_KEEP },
	{ "x-queue-time", HEADER_KEEP }, { "x-request-id", HEADER_KEEP }, { "x-stainless-retry-count", HEADER_KEEP }, { "x-time-per-token", HEADER_KEEP },
	{ "x-total-time", HEADER_KEEP }, { "x-validation-time", HEADER_KEEP },
	{ "api-key", HEADER_MAP }, { "authorization", HEADER_MAP }, { "x-api-key", HEADER_MAP }, { "x-goog-api-key", HEADER_MAP }, { "x-litellm-api-key", HEADER_MAP },
	{ "x-litellm-customer-id", HEADER_MAP }, { "x-litellm-end-user-id", HEADER_MAP }, { "xi-api-key", HEADER_MAP },
	{ "cf-connecting-ip", HEADER_ADDRESS }, { "forwarded", HEADER_ADDRESS }, { "true-client-ip", HEADER_ADDRESS }, { "x-forwarded-for", HEADER_ADDRESS },
	{ "x-real-ip", HEADER_ADDRESS },
	/* names only */
	{ "cookie", HEADER_FILL }, { "host", HEADER_FILL }, { "origin", HEADER_FILL }, { "referer", HEADER_FILL }, { "set-cookie", HEADER_FILL },
};

static void message_begin(struct side *d)
{
	d->mode = SCRUB_FIRST;
	d->chunked = d->has_length = d->encoded = d->connect = d->json_type = d->line_type = false;
	d->line_end = false;
	d->length = d->left = 0;
	d->status = 0;
	scrub_forget(d);
}

static void lose(struct side *d)
{
	scrub_forget(d);
	d->mode = SCRUB_LOST;
}

static bool starts(struct span t, const char *with)
{
	return t.n >= strlen(with) && !memcmp(t.p, with, strlen(with));
}

/* "POST /path?query HTTP/1.1": the query is filler. */
static bool first_line_request(struct side *d, struct span t)
{
	static const char *const methods[] = { "GET ", "HEAD ", "POST ", "PUT ", "DELETE ", "OPTIONS ", "PATCH ", "CONNECT ", "TRACE " };
	const char *path = memchr(t.p, ' ', t.n), *version = memrchr(t.p, ' ', t.n), *query;
	bool known = false;

	for (size_t i = 0; i < ARRAY_SIZE(methods); i++)
		known |= starts(t, methods[i]);
	if (!known || path == version || t.p + t.n - version != 9 || memcmp(version, " HTTP/1.", 8))
		return false;
	path++;
	query = memchr(path, '?', (size_t)(version - path));
	if (!query)
		query = version;
	/* "http://host/path" names the host */
	if ((*path != '/' && *path != '*') || !all_of((struct span){ path, (size_t)(query - path) }, "/_.:~%-*"))
		query = path; /* what it is, nobody knows */
	for (const char *p = query + (query < version && *query == '?'); p < version; p++)
		d->text[p - t.p] = SCRUB_FILL;
	d->s->head[d->s->asked % SCRUB_PIPELINE] = starts(t, "HEAD ");
	d->s->asked++;
	d->connect = starts(t, "CONNECT ");
	return true;
}

/* "HTTP/1.1 200 whatever" */
static bool first_line_response(struct side *d, struct span t)
{
	if (t.n < 12 || memcmp(t.p, "HTTP/1.", 7) || (t.p[7] != '0' && t.p[7] != '1') || t.p[8] != ' ' || (t.n > 12 && t.p[12] != ' '))
		return false;
	for (int i = 9; i < 12; i++) {
		if (!isdigit((unsigned char)t.p[i]))
			return false;
		d->status = d->status * 10 + (unsigned)(t.p[i] - '0');
	}
	if (t.n > 12)
		memset(d->text + 13, SCRUB_FILL, t.n - MIN(t.n, (size_t)13));
	return true;
}

/* The PROXY protocol, version 1: its addresses are somebody's. */
static bool proxy_line(struct side *d, struct span t)
{
	bool unknown = starts(t, "PROXY UNKNOWN");

	if (!d->first || d->dir != WEIR_REQUEST || t.n > WEIR_PROXY_LINE_MAX || (!unknown && !starts(t, "PROXY TCP4 ") && !starts(t, "PROXY TCP6 ")))
		return false;
	for (size_t i = unknown ? 13 : 11; i < t.n; i++) {
		if (unknown || !(isxdigit((unsigned char)t.p[i]) || strchr(".: ", t.p[i])))
			d->text[i] = SCRUB_FILL; /* to be ignored, or no address */
		else if (d->s->o->addresses && isxdigit((unsigned char)t.p[i]))
			d->text[i] = '1';
	}
	return true;
}

static void first_line(struct side *d)
{
	size_t n = d->n;
	bool blank;

	while (n && (d->text[n - 1] == '\n' || d->text[n - 1] == '\r'))
		n--;
	blank = !n;
	if (!blank && !d->over && proxy_line(d, (struct span){ (char *)d->text, n })) {
		d->first = false;
		scrub_release(d, d->text);
		return;
	}
	if (d->over || (!blank && !(d->dir == WEIR_REQUEST ? first_line_request : first_line_response)(d, (struct span){ (char *)d->text, n }))) {
		lose(d);
		return;
	}
	scrub_release(d, d->text);
	if (blank)
		return; /* some clients send an empty line before a request */
	d->first = false;
	d->mode = SCRUB_NAME;
}

static enum header_rule rule_of(const struct side *d, struct span name)
{
	for (size_t i = 0; i < ARRAY_SIZE(headers); i++)
		if (strlen(headers[i].name) == name.n && !strncasecmp(headers[i].name, name.p, name.n))
			return headers[i].rule != HEADER_ADDRESS ? headers[i].rule : d->s->o->addresses ? HEADER_FILL : HEADER_KEEP;
	return (enum header_rule)-1;
}

static bool name_is(const struct side *d, const char *name)
{
	return !strcasecmp(d->name, name);
}

static bool has_word(struct span v, const char *word)
{
	for (size_t i = 0; i + strlen(word) <= v.n; i++)
		if (!strncasecmp(v.p + i, word, strlen(word)))
			return true;
	return false;
}

static void header_note(struct side *d, struct span v)
{
	if (name_is(d, "content-length")) {
		d->has_length = true;
		d->length = 0;
		for (size_t i = 0; i < v.n && d->length < UINT64_C(1) << 50; i++)
			if (isdigit((unsigned char)v.p[i]))
				d->length = d->length * 10 + (uint64_t)(v.p[i] - '0');
	} else if (name_is(d, "transfer-encoding")) {
		d->chunked |= has_word(v, "chunked");
	} else if (name_is(d, "content-encoding")) {
		d->encoded |= v.n && !has_word(v, "identity");
	} else if (name_is(d, "content-type")) {
		d->line_type = has_word(v, "text/event-stream") || has_word(v, "ndjson") || has_word(v, "jsonl");
		d->json_type = has_word(v, "application/json") || has_word(v, "+json");
	}
}

/* After the colon, up to the end of the line. */
static void header_value(struct side *d)
{
	size_t n = d->n, from = 0;
	struct span v;

	while (n && (d->text[n - 1] == '\n' || d->text[n - 1] == '\r' || d->text[n - 1] == ' '))
		n--;
	while (from < n && (d->text[from] == ' ' || d->text[from] == '\t'))
		from++;
	v = (struct span){ (char *)d->text + from, n - from };
	d->mode = SCRUB_NAME;
	switch ((enum header_rule)d->rule) {
	case HEADER_KEEP:
		if (d->over && (name_is(d, "content-length") || name_is(d, "transfer-encoding") || name_is(d, "content-encoding"))) {
			lose(d);
			return;
		}
		header_note(d, v);
		break;
	case HEADER_MAP:
		if (v.n > 7 && !strncasecmp(v.p, "bearer ", 7))
			from += 7;
		if (!d->over) {
			scrub_release_mapped(d, MIN(from, n), n);
			return;
		}
		break;
	default:
		memset(d->text + MIN(from, n), SCRUB_FILL, n - MIN(from, n));
		break;
	}
	if (!d->over) {
		scrub_release(d, d->text);
		return;
	}
	scrub_forget(d);
	scrub_put(d, '\n');
}

/* Another protocol goes on, in both directions. */
static void blind(struct scrub *s)
{
	for (int dir = 0; dir < 2; dir++) {
		scrub_forget(&s->side[dir]);
		s->side[dir].hex = 0;
		s->side[dir].mode = SCRUB_BLIND;
	}
}

static void head_end(struct side *d)
{
	struct scrub *s = d->s;
	bool nothing = false;

	if (d->dir == WEIR_RESPONSE) {
		if (d->status < 200 && d->status != 101) {
			message_begin(d);
			return;
		}
		nothing = d->status == 204 || d->status == 304 || (s->answered < s->asked && s->head[s->answered % SCRUB_PIPELINE]);
		if (s->answered < s->asked)
			s->answered++;
		if (d->status == 101) {
			blind(s);
			return;
		}
	} else if (d->connect) {
		blind(s);
		return;
	}
	scrub_body_begin(d);
	if (nothing)
		message_begin(d);
	else if (d->chunked)
		d->mode = SCRUB_CHUNK_SIZE;
	else if (d->has_length && d->length)
		d->mode = SCRUB_BODY, d->left = d->length;
	else if (d->has_length || d->dir == WEIR_REQUEST)
		message_begin(d);
	else
		d->mode = SCRUB_CLOSE;
}

static void head_byte(struct side *d, uint8_t c)
{
	size_t n;

	scrub_wait(d, c);
	switch (d->mode) {
	case SCRUB_FIRST:
		if (c == '\n')
			first_line(d);
		return;
	case SCRUB_NAME:
		if (c == '\n') {
			/* an empty line, or one without a colon: that one is filler but for its end */
			if (d->n <= 2 && !d->over && (d->n == 1 || d->text[0] == '\r')) {
				scrub_release(d, d->text);
				head_end(d);
				return;
			}
			scrub_forget(d);
			scrub_put(d, c);
			return;
		}
		if (c != ':')
			return;
		n = d->over ? 0 : d->n - 1;
		d->rule = (uint8_t)rule_of(d, (struct span){ (char *)d->text, n });
		n = MIN(n, sizeof(d->name) - 1);
		memcpy(d->name, d->text, n);
		d->name[n] = '\0';
		if (d->rule == (uint8_t)-1) {
			scrub_forget(d); /* nor is its name kept */
			scrub_put(d, c);
			d->rule = HEADER_FILL;
		} else {
			scrub_release(d, d->text);
		}
		d->mode = SCRUB_VALUE;
		return;
	default:
		if (c == '\n')
			header_value(d);
		return;
	}
}

/* ---- framing ------------------------------------------------------------------------------------------------ */
static int hex(uint8_t c)
{
	return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

static void chunk_byte(struct side *d, uint8_t c)
{
	switch (d->mode) {
	case SCRUB_CHUNK_SIZE:
		if (hex(c) >= 0 && d->left < UINT64_C(1) << 50) {
			d->left = d->left << 4 | (unsigned)hex(c);
			scrub_put(d, c);
			return;
		}
		if (c != '\r' && c != '\n' && c != ';' && c != ' ') {
			lose(d);
			return;
		}
		d->mode = SCRUB_CHUNK_REST;
		chunk_byte(d, c);
		return;
	case SCRUB_CHUNK_REST:
		if (c == ';' || c == ' ' || c == '\r' || c == '\n')
			scrub_put(d, c);
		if (c == '\n') {
			d->mode = d->left ? SCRUB_BODY : SCRUB_TRAILER;
			d->line_end = true;
		}
		return;
	case SCRUB_CHUNK_END:
		if (c != '\r' && c != '\n') {
			lose(d);
			return;
		}
		scrub_put(d, c);
		if (c == '\n')
			d->mode = SCRUB_CHUNK_SIZE, d->left = 0;
		return;
	default: /* trailer */
		if (c == '\r' || c == '\n')
			scrub_put(d, c);
		if (c == '\n' && d->line_end)
			message_begin(d);
		else if (c != '\r')
			d->line_end = c == '\n';
		return;
	}
}

static void one_byte(struct side *d, uint8_t c)
{
	switch (d->mode) {
	case SCRUB_FIRST:
	case SCRUB_NAME:
	case SCRUB_VALUE:
		head_byte(d, c);
		return;
	case SCRUB_BODY:
		scrub_body(d, c);
		if (--d->left)
			return;
		if (d->chunked)
			d->mode = SCRUB_CHUNK_END;
		else
			message_begin(d);
		return;
	case SCRUB_CLOSE:
		scrub_body(d, c);
		return;
	case SCRUB_CHUNK_SIZE:
	case SCRUB_CHUNK_REST:
	case SCRUB_CHUNK_END:
	case SCRUB_TRAILER:
		chunk_byte(d, c);
		return;
	default:
		return; /* lost or blind: filler */
	}
}

/* ---- the module --------------------------------------------------------------------------------------------- */
static bool begins_message(int dir, const uint8_t *p, size_t n)
{
	static const char *const methods[] = { "GET /", "POST /", "HEAD /", "PUT /", "DELETE /", "OPTIONS /", "PATCH /" };

	if (dir == WEIR_RESPONSE)
		return starts((struct span){ (const char *)p, n }, "HTTP/1.");
	for (size_t i = 0; i < ARRAY_SIZE(methods); i++)
		if (starts((struct span){ (const char *)p, n }, methods[i]))
			return true;
	return false;
}

void scrub_feed(struct scrub *s, int dir, const uint8_t *p, size_t n)
{
	struct side *d = &s->side[dir];

	if (d->mode == SCRUB_LOST && begins_message(dir, p, n))
		message_begin(d);
	for (size_t i = 0; i < n; i++, d->off++)
		one_byte(d, p[i]);
}

void scrub_gap(struct scrub *s, int dir, uint64_t n)
{
	struct side *d = &s->side[dir];

	d->off += n;
	d->hex = 0;
	scrub_forget(d);
	if (d->mode == SCRUB_BLIND)
		return;
	d->text_mode = TEXT_BLANK; /* what follows of this body cannot be told apart */
	if (d->mode == SCRUB_BODY && !d->chunked && n <= d->left) {
		d->left -= n;
		if (!d->left)
			message_begin(d);
	} else if (d->mode != SCRUB_CLOSE) {
		lose(d);
	}
}

uint64_t scrub_decided(const struct scrub *s, int dir)
{
	const struct side *d = &s->side[dir];

	if (d->n && !d->over)
		return d->at[0];
	return d->hex && d->hex < 4 ? d->hex_at[0] : d->off;
}

int scrub_new(const struct scrub_opts *o, bool from_start, void *ctx, struct scrub **ret)
{
	struct scrub *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->o = o;
	s->ctx = ctx;
	for (int dir = 0; dir < 2; dir++) {
		s->side[dir].s = s;
		s->side[dir].dir = dir;
		s->side[dir].first = from_start;
		message_begin(&s->side[dir]);
		if (!from_start)
			s->side[dir].mode = SCRUB_LOST;
	}
	*ret = s;
	return 0;
}

struct scrub *scrub_free(struct scrub *s)
{
	if (s)
		explicit_bzero(s, sizeof(*s));
	free(s);
	return NULL;
}
