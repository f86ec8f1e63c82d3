/* assemble_read.c - what the slices of a request and of its response tell. */
#include "decode/assemble_internal.h"
#include "decode/http.h"
#include "decode/json.h"

#include <ctype.h>
#include <strings.h>

/* Longest texts kept; what is longer is cut. Records are lines that people read. */
static const uint16_t text_max[T_COUNT] = {
	[T_PATH] = 256, [T_AGENT] = 256, [T_MODEL] = 128, [T_USER] = 128, [T_KEY] = 16, [T_ID] = 96, [T_FINISH] = 32, [T_ANSWERED] = 128,
};
#define TEXT_MAX 256

void facts_init(struct facts *f)
{
	*f = (struct facts){ .max_tokens = -1, .prompt_chars = -1, .text_bytes = -1, .stream = -1, .logprobs = -1 };
}

void facts_done(struct facts *f)
{
	free(f->block);
	facts_init(f);
}

struct span facts_text(const struct facts *f, enum text t)
{
	return f->len[t] ? (struct span){ f->block + f->at[t], f->len[t] } : (struct span){ 0 };
}

static int facts_set(struct facts *f, enum text t, struct span v)
{
	char *block;

	v.n = MIN(v.n, text_max[t]);
	if (!v.n)
		return 0;
	if (v.n <= f->len[t]) {
		memcpy(f->block + f->at[t], v.p, v.n);
		f->len[t] = (uint16_t)v.n;
		return 0;
	}
	block = realloc(f->block, f->block_len + v.n);
	if (!block)
		return -ENOMEM;
	memcpy(block + f->block_len, v.p, v.n);
	f->block = block;
	f->at[t] = f->block_len;
	f->len[t] = (uint16_t)v.n;
	f->block_len = (uint16_t)(f->block_len + v.n);
	return 0;
}

static int facts_set_json(struct facts *f, enum text t, const struct json_value *v)
{
	char buf[TEXT_MAX];

	if (v->type != JSON_STRING || v->cut)
		return 0;
	return facts_set(f, t, (struct span){ buf, json_text(v, buf, MIN(sizeof(buf), text_max[t])) });
}

/* ---- fields of a shape in one document ------------------------------------------------------------ */
struct fields {
	const char *paths[JSON_PATHS_MAX];
	struct json_value values[JSON_PATHS_MAX];
	size_t n;
	size_t first[D_FIELD_COUNT], count[D_FIELD_COUNT];
};

static void fields_init(struct fields *q, const struct dialect_shape *s, int from, int to)
{
	memset(q, 0, sizeof(*q));
	for (int f = from; f < to; f++) {
		const char *paths[DIALECT_ALTERNATIVES_MAX];
		size_t n = dialect_paths(s, (enum dialect_field)f, paths);

		q->first[f] = q->n;
		for (size_t i = 0; i < n && q->n < JSON_PATHS_MAX; i++)
			q->paths[q->n++] = paths[i];
		q->count[f] = q->n - q->first[f];
	}
}

/* The first alternative that is there; absent ones are JSON_ABSENT. */
static const struct json_value *field(const struct fields *q, enum dialect_field f)
{
	static const struct json_value absent;

	for (size_t i = 0; i < q->count[f]; i++) {
		const struct json_value *v = &q->values[q->first[f] + i];

		if (v->type != JSON_ABSENT && v->type != JSON_NULL)
			return v;
	}
	return &absent;
}

static int64_t field_text_sum(const struct fields *q, enum dialect_field f)
{
	int64_t sum = 0;

	for (size_t i = 0; i < q->count[f]; i++)
		sum += (int64_t)q->values[q->first[f] + i].text_sum;
	return sum;
}

/* Where the beginning has no value, the end may. */
static void fields_merge(struct fields *q, const struct fields *tail)
{
	for (size_t i = 0; i < q->n; i++)
		if (tail->values[i].type != JSON_ABSENT)
			q->values[i] = tail->values[i];
}

/* Yes, no, or a number above 0; -1: not said. */
static int8_t as_flag(const struct json_value *v)
{
	int64_t n;

	switch (v->type) {
	case JSON_TRUE:
		return 1;
	case JSON_FALSE:
		return 0;
	case JSON_NUMBER:
		return json_count(v, &n) ? n > 0 : -1;
	default:
		return -1;
	}
}

/* ---- chunk framing inside slices ------------------------------------------------------------------ */
/* Length of a chunk-size line at p, its line end included; 0: this is none. */
static size_t chunk_line(const char *p, size_t n)
{
	size_t i = 0;

	while (i < n && i < 16 && isxdigit((unsigned char)p[i]))
		i++;
	if (!i || i == 16)
		return 0;
	if (i < n && (p[i] == ';' || p[i] == ' '))
		while (i < n && p[i] != '\r' && p[i] != '\n')
			i++;
	return i + 1 < n && p[i] == '\r' && p[i + 1] == '\n' ? i + 2 : 0;
}

/*
 * Takes the chunk framing out, in place, also where the slices begin in the middle of a body: JSON and the lines around
 * it never hold a line of hex digits between two CR LF of their own. Returns the length left.
 */
static size_t strip_chunks(char *p, size_t n)
{
	size_t out = 0, i = chunk_line(p, n);

	while (i < n) {
		size_t skip = p[i] == '\r' && n - i > 2 && p[i + 1] == '\n' ? chunk_line(p + i + 2, n - i - 2) : 0;

		if (skip) {
			i += 2 + skip;
			continue;
		}
		p[out++] = p[i++];
	}
	return out;
}

static bool is_chunked(const struct http_head *h)
{
	struct span te = http_header(h, "transfer-encoding");

	return te.n >= 7 && !strncasecmp(te.p + te.n - 7, "chunked", 7);
}

/* Bytes of the message as its head says; 0: it does not. */
static uint64_t expected_bytes(const struct http_head *h, bool chunked)
{
	struct span length = http_header(h, "content-length");
	uint64_t n = 0;

	if (!h->complete || chunked || length.n > 15)
		return 0;
	for (size_t i = 0; i < length.n; i++) {
		if (!isdigit((unsigned char)length.p[i]))
			return 0;
		n = n * 10 + (uint64_t)(length.p[i] - '0');
	}
	return h->len + n;
}

/* The names in a body that no dialect knows. Without memory there are none: nothing depends on them. */
static void read_names(struct pending *p, int dir, struct span body)
{
	while (body.n && (*body.p == ' ' || *body.p == '\t' || *body.p == '\r' || *body.p == '\n'))
		body = (struct span){ body.p + 1, body.n - 1 };
	if (!body.n || (*body.p != '{' && *body.p != '['))
		return;
	if (!p->names[dir])
		p->names[dir] = calloc(1, sizeof(*p->names[dir]));
	if (p->names[dir])
		shape_names_read(p->names[dir], body);
}

/* The next line, without what an event stream puts before its data. */
static bool next_line(struct span *text, struct span *ret)
{
	const char *end;

	if (!text->n)
		return false;
	end = memchr(text->p, '\n', text->n);
	*ret = (struct span){ text->p, end ? (size_t)(end - text->p) : text->n };
	text->p += ret->n + (end ? 1 : 0);
	text->n -= ret->n + (end ? 1 : 0);
	if (ret->n > 5 && !memcmp(ret->p, "data:", 5))
		*ret = (struct span){ ret->p + 5, ret->n - 5 };
	return true;
}

/* Of a whole document, or of every line that is one. */
static void read_answer_names(struct pending *p, struct span text, bool stream)
{
	struct span line = text;

	if (!stream)
		read_names(p, WEIR_RESPONSE, text);
	while (stream && next_line(&text, &line))
		read_names(p, WEIR_RESPONSE, line);
}

/* ---- requests ------------------------------------------------------------------------------------- */
static bool is_announced(const struct assemble *a, const struct pending *p, uint8_t ret[16])
{
	return proxied_find(a->proxied, p->conn, ret) || (a->opts.announced && a->opts.announced(a->opts.ctx, p->conn, &p->key, ret));
}

/* Once per request, so that its arrival and its end agree and nothing is counted twice. The key goes no further than this. */
static int read_identity(struct assemble *a, struct pending *p, const struct http_head *h)
{
	uint8_t announced[16];
	const struct identity_peer peer = {
		.addr = p->key.raddr,
		.announced = is_announced(a, p, announced) ? announced : NULL,
		.whole = h->complete,
		.litellm = p->software && !strncmp(p->software, "litellm", 7),
	};
	struct span rest = h->headers, name, value;
	struct identity_reader reader;
	char hex[17];
	int r;

	identity_begin(&reader, a->opts.identity);
	while (http_next_header(&rest, &name, &value))
		identity_header(&reader, name, value);
	identity_query(&reader, h->query);
	if (!p->identified)
		identity_finish(&reader, &peer, a->opts.key, &a->stats.identity, &p->identity);
	p->identified = true;
	r = facts_set(&p->facts, T_USER, reader.user);
	if (r < 0 || !p->identity.has_key)
		return r;
	snprintf(hex, sizeof(hex), "%016llx", (unsigned long long)p->identity.key);
	return facts_set(&p->facts, T_KEY, (struct span){ hex, 16 });
}

static int read_head(struct assemble *a, struct pending *p, const struct http_head *h)
{
	struct facts *f = &p->facts;
	struct span model;
	int r;

	snprintf(f->method, sizeof(f->method), "%.*s", (int)MIN(h->method.n, sizeof(f->method) - 1), h->method.p);
	f->is_get = span_eq(h->method, SPAN("GET")) || span_eq(h->method, SPAN("HEAD")) || span_eq(h->method, SPAN("OPTIONS")) ||
		    span_eq(h->method, SPAN("DELETE"));
	p->dialect = dialect_find_in(a->opts.dialects, a->opts.dialect_count, h->method, h->path, &model);
	r = facts_set(f, T_PATH, h->path);
	if (r == 0)
		r = facts_set(f, T_AGENT, http_header(h, "user-agent"));
	if (r == 0)
		r = facts_set(f, T_MODEL, model);
	if (r == 0)
		r = read_identity(a, p, h);
	return r;
}

static int read_body(struct facts *f, const struct fields *q)
{
	int64_t n;
	int r;

	if (json_count(field(q, D_MAX_TOKENS), &n))
		f->max_tokens = n;
	f->stream = as_flag(field(q, D_STREAM));
	f->logprobs = as_flag(field(q, D_LOGPROBS));
	r = facts_set_json(f, T_MODEL, field(q, D_MODEL));
	return r < 0 ? r : facts_set_json(f, T_USER, field(q, D_USER));
}

/* `body` and what else of it is there, as the prompt's features want them. */
static void read_prompt(const struct assemble *a, struct pending *p, struct span body, uint64_t body_bytes)
{
	const struct pieces *s = &p->side[WEIR_REQUEST];
	uint32_t last = s->count - 1u;
	struct span tail = { 0 };

	if (last && s->piece[last].off + s->piece[last].len == p->expect)
		tail = (struct span){ s->buf + s->piece[last].at, s->piece[last].len };
	if (body.n)
		prompt_read(a->prompt, p->dialect->shape, body, tail, body_bytes, &p->facts.prompt);
}

int read_request(struct assemble *a, struct pending *p, uint64_t seen_bytes, bool final)
{
	struct pieces *s = &p->side[WEIR_REQUEST];
	struct facts *f = &p->facts;
	struct fields q, end;
	struct http_head h;
	struct span text, body;
	uint64_t body_bytes;
	bool chunked;
	uint32_t last;
	int r;

	/* Slices may have been given up since the head came: what was read then stays. */
	if (!s->count || s->piece[0].off)
		return 0;
	facts_done(f);
	p->dialect = NULL;
	p->expect = 0;
	text = (struct span){ s->buf + s->piece[0].at, s->piece[0].len };
	if (http_parse_head(text, &h) < 0 || h.is_response)
		return 0;
	chunked = is_chunked(&h);
	p->open_ended = h.is_h2 && !http_header(&h, "content-length").n;
	p->expect = p->open_ended ? p->whole : expected_bytes(&h, chunked);
	final |= all_there(p);
	r = read_head(a, p, &h);
	if (r == 0 && h.complete && !p->dialect && !f->is_get && !http_header(&h, "content-encoding").n)
		read_names(p, WEIR_REQUEST, (struct span){ text.p + h.len + (chunked ? chunk_line(text.p + h.len, text.n - h.len) : 0),
							   text.n - h.len - (chunked ? chunk_line(text.p + h.len, text.n - h.len) : 0) });
	if (r < 0 || !h.complete || !p->dialect || !p->dialect->shape || http_header(&h, "content-encoding").n)
		return r;
	body = (struct span){ text.p + h.len, text.n - h.len };
	body_bytes = (p->expect ? p->expect : MAX(seen_bytes, h.len)) - h.len;
	fields_init(&q, p->dialect->shape, 0, D_REQUEST_COUNT);
	end = q;
	if (chunked) {
		char *copy = malloc(body.n + 1);

		if (!copy)
			return -ENOMEM;
		memcpy(copy, body.p, body.n);
		body.n = strip_chunks(copy, body.n);
		json_find((struct span){ copy, body.n }, q.paths, q.n, q.values);
		r = read_body(f, &q);
		if (final)
			read_prompt(a, p, (struct span){ copy, body.n }, body_bytes);
		explicit_bzero(copy, body.n);
		free(copy);
	} else {
		json_find(body, q.paths, q.n, q.values);
		last = s->count - 1u;
		if (last && s->piece[last].off + s->piece[last].len == p->expect &&
		    json_find_tail((struct span){ s->buf + s->piece[last].at, s->piece[last].len }, end.paths, end.n, end.values) == 0)
			fields_merge(&q, &end);
		r = read_body(f, &q);
		if (final)
			read_prompt(a, p, body, body_bytes);
	}
	if (!chunked && body.n == body_bytes && field_text_sum(&q, D_PROMPT))
		f->prompt_chars = field_text_sum(&q, D_PROMPT);
	else if (body_bytes)
		f->prompt_chars = (int64_t)body_bytes;
	return r;
}

/* ---- responses ------------------------------------------------------------------------------------ */
/* The first that is said counts; of a string without escapes, which these are. */
static void read_clue(struct span *clue, const struct json_value *v)
{
	if (!clue->n && v->type == JSON_STRING && !v->cut)
		*clue = v->raw;
}

static int read_answer(struct facts *f, struct fields *q, struct software_clues *clues)
{
	const struct json_value *finish = field(q, D_FINISH);
	int r;

	read_clue(&clues->fingerprint, field(q, D_FINGERPRINT));
	read_clue(&clues->owner, field(q, D_OWNER));
	read_clue(&clues->version, field(q, D_VERSION));
	/* Responses: the state of an answer not yet there is no reason */
	if (finish->type == JSON_STRING && !span_eq(finish->raw, SPAN("in_progress")) && !span_eq(finish->raw, SPAN("queued"))) {
		r = facts_set_json(f, T_FINISH, finish);
		if (r < 0)
			return r;
	}
	if (!f->len[T_ID]) {
		r = facts_set_json(f, T_ID, field(q, D_ID));
		if (r < 0)
			return r;
	}
	return facts_set_json(f, T_ANSWERED, field(q, D_RESPONSE_MODEL));
}

/* Every line that begins an object; a line cut off in front is passed over. */
static int read_lines(struct facts *f, struct fields *q, struct span text, struct software_clues *clues)
{
	struct span line;
	int r = 0;

	while (r == 0 && next_line(&text, &line)) {
		while (line.n && (*line.p == ' ' || *line.p == '\t'))
			line = (struct span){ line.p + 1, line.n - 1 };
		if (!line.n || *line.p != '{')
			continue;
		json_find(line, q->paths, q->n, q->values);
		r = read_answer(f, q, clues);
	}
	return r;
}

int read_response(struct pending *p, const struct weir_done *d, const struct unpacked *u, struct software_clues *clues)
{
	struct pieces *s = &p->side[WEIR_RESPONSE];
	bool chunked = true, stream = d->flags & WEIR_DONE_STREAM;
	struct http_head h = { 0 };
	struct facts *f = &p->facts;
	uint64_t body_at = 0;
	struct fields q, end;
	int r = 0;

	if (s->count && !s->piece[0].off && http_parse_head((struct span){ s->buf + s->piece[0].at, s->piece[0].len }, &h) == 0 && h.is_response) {
		static const char *const names[] = { "x-request-id", "request-id", "x-litellm-call-id" };

		for (size_t i = 0; i < ARRAY_SIZE(names) && r == 0 && !f->len[T_ID]; i++)
			r = facts_set(f, T_ID, http_header(&h, names[i]));
		software_clues_head(clues, &h);
		if (!h.complete)
			return r;
		chunked = is_chunked(&h);
		body_at = h.len;
	}
	/* What no dialect knows and had a JSON body: the first piece of the answer has the names. */
	if (r == 0 && !p->dialect && p->names[WEIR_REQUEST] && d->status >= 200 && d->status < 300) {
		if (u)
			read_answer_names(p, (struct span){ u->text, u->n }, u->stream);
		else if (body_at && !(d->flags & WEIR_DONE_ENCODED) && s->piece[0].len > body_at) {
			char *text = s->buf + s->piece[0].at + body_at;
			size_t n = s->piece[0].len - body_at;

			read_answer_names(p, (struct span){ text, chunked ? strip_chunks(text, n) : n }, stream);
		}
	}
	if (r < 0 || !p->dialect || !p->dialect->shape)
		return r;
	clues->sole = d->status == 200 ? p->dialect->shape->sole : NULL;
	fields_init(&q, p->dialect->shape, D_RESPONSE_MODEL, D_FIELD_COUNT);
	end = q;
	if (u) {
		if (u->stream)
			return read_lines(f, &q, (struct span){ u->text, u->n }, clues);
		json_find((struct span){ u->text, u->n }, q.paths, q.n, q.values);
		f->text_bytes = field_text_sum(&q, D_TEXT);
		return read_answer(f, &q, clues);
	}
	if (d->flags & WEIR_DONE_ENCODED)
		return r;
	for (unsigned i = 0; i < s->count && r == 0; i++) {
		uint64_t skip = s->piece[i].off < body_at ? body_at - s->piece[i].off : 0;
		char *text = s->buf + s->piece[i].at + MIN(skip, s->piece[i].len);
		size_t n = s->piece[i].len - MIN(skip, s->piece[i].len);

		if (chunked)
			n = strip_chunks(text, n);
		if (stream) {
			r = read_lines(f, &q, (struct span){ text, n }, clues);
		} else if (!i) {
			json_find((struct span){ text, n }, q.paths, q.n, q.values);
			f->text_bytes = field_text_sum(&q, D_TEXT);
		} else if (i + 1u == s->count && json_find_tail((struct span){ text, n }, end.paths, end.n, end.values) == 0) {
			fields_merge(&q, &end);
		}
	}
	if (r == 0 && !stream && s->count)
		r = read_answer(f, &q, clues);
	/* One string that goes on beyond the slices: the rest of the body is nearly all text. */
	if (!stream && f->text_bytes > 0 && s->count && d->resp_bytes > s->piece[0].len)
		f->text_bytes += (int64_t)(d->resp_bytes - s->piece[0].len);
	return r;
}
