/*
 * The fixtures' answers, mutated as trees: keys twice, dropped, renamed, moved, nested, values of other types, numbers of any size.
 * What the meter counts must be what a full parse with last-wins counts; of what is then cut or damaged, no count may be a number
 * that the bytes do not hold. The input is the script of mutations.
 */
#include <jansson.h>

#include "decode/automaton.h"
#include "fixture_http.h"
#include "weir/meter.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define NODES_MAX 4096
#define TEXT_MAX 65536
#define DOCS_MAX 1024
#define DEPTH_MAX 120
#define OPS_MAX 24

enum type { OBJECT, ARRAY, LITERAL };

struct node {
	enum type type;
	const char *key; /* as it stands between its quotes; NULL: none */
	size_t key_n;
	const char *text; /* of a literal */
	size_t text_n;
	struct node *parent, *child, *last, *next;
};

static struct weir_automaton dfa;
static char *docs[DOCS_MAX];
static size_t doc_count;
static struct node nodes[NODES_MAX];
static size_t used;
static char out[TEXT_MAX * 2];
static size_t out_n;

/* ---- the script ----------------------------------------------------------------------------------- */
static const uint8_t *script;
static size_t script_n;

static unsigned next_byte(void)
{
	if (!script_n)
		return 0;
	script_n--;
	return *script++;
}

static unsigned pick(size_t n)
{
	unsigned v = next_byte();

	return (unsigned)((v << 8 | next_byte()) % n);
}

/* ---- text -> tree; the text outlives it ------------------------------------------------------------ */
static const char *blanks(const char *p)
{
	return p + strspn(p, " \t\r\n");
}

static const char *string_end(const char *p)
{
	for (p++; *p && *p != '"'; p++) {
		if ((unsigned char)*p < ' ' || (*p == '\\' && !*++p))
			return NULL;
	}
	return *p ? p + 1 : NULL;
}

static struct node *node_new(enum type type)
{
	if (used == NODES_MAX)
		return NULL;
	nodes[used] = (struct node){ .type = type };
	return &nodes[used++];
}

static void append(struct node *parent, struct node *child)
{
	child->parent = parent;
	child->next = NULL;
	if (parent->last)
		parent->last->next = child;
	else
		parent->child = child;
	parent->last = child;
}

static struct node *parse(const char **at, unsigned depth)
{
	const char *p = blanks(*at), *end;
	struct node *it;

	if (depth > DEPTH_MAX)
		return NULL;
	if (*p != '{' && *p != '[') {
		end = *p == '"' ? string_end(p) : p + strspn(p, "-+.0123456789aeflnrstuE");
		it = node_new(LITERAL);
		if (!it || !end || end == p)
			return NULL;
		it->text = p;
		it->text_n = (size_t)(end - p);
		*at = end;
		return it;
	}
	it = node_new(*p == '{' ? OBJECT : ARRAY);
	if (!it)
		return NULL;
	p = blanks(p + 1);
	while (*p && *p != '}' && *p != ']') {
		const char *key = NULL, *key_end = NULL;
		struct node *child;

		if (it->type == OBJECT) {
			key = p;
			key_end = *p == '"' ? string_end(p) : NULL;
			if (!key_end)
				return NULL;
			p = blanks(key_end);
			if (*p++ != ':')
				return NULL;
		}
		child = parse(&p, depth + 1);
		if (!child)
			return NULL;
		if (key) {
			child->key = key + 1;
			child->key_n = (size_t)(key_end - key) - 2;
		}
		append(it, child);
		p = blanks(p);
		if (*p == ',')
			p = blanks(p + 1);
		else if (*p != '}' && *p != ']')
			return NULL;
	}
	if (*p != (it->type == OBJECT ? '}' : ']'))
		return NULL;
	*at = p + 1;
	return it;
}

/* The root of a whole document; NULL: it is none. */
static struct node *parse_all(const char *text)
{
	const char *p = text;
	struct node *it = parse(&p, 0);

	return it && it->type != LITERAL && !*blanks(p) ? it : NULL;
}

static struct node *copy(const struct node *from)
{
	struct node *it = node_new(from->type);

	if (!it)
		return NULL;
	it->key = from->key;
	it->key_n = from->key_n;
	it->text = from->text;
	it->text_n = from->text_n;
	for (const struct node *c = from->child; c; c = c->next) {
		struct node *child = copy(c);

		if (!child)
			return NULL;
		append(it, child);
	}
	return it;
}

/* ---- tree -> text ---------------------------------------------------------------------------------- */
static void put(const char *p, size_t n)
{
	if (out_n + n < sizeof(out)) {
		memcpy(out + out_n, p, n);
		out_n += n;
	} else {
		out_n = sizeof(out); /* too long: not used */
	}
}

static void blank(unsigned style)
{
	static const char *const some[] = { "", " ", "\n  ", "\t", "\r\n" };

	put(some[style % 5], strlen(some[style % 5]));
}

static void write_tree(const struct node *it, unsigned style)
{
	if (it->key) {
		put("\"", 1);
		put(it->key, it->key_n);
		put("\"", 1);
		blank(style / 5);
		put(":", 1);
		blank(style);
	}
	if (it->type == LITERAL) {
		put(it->text, it->text_n);
		return;
	}
	put(it->type == OBJECT ? "{" : "[", 1);
	for (const struct node *c = it->child; c; c = c->next) {
		blank(style);
		write_tree(c, style);
		if (c->next)
			put(",", 1);
	}
	blank(style / 25);
	put(it->type == OBJECT ? "}" : "]", 1);
}

/* ---- what a full parse counts ---------------------------------------------------------------------- */
struct counts {
	uint32_t tokens[WEIR_TOK_COUNT];
	uint16_t mask;
	bool whole; /* JSON in one piece, no stream */
	bool batch; /* an array of answers: their counts are added up */
};

/* Does the row's key, and what it wants behind it, stand here? */
static bool row_is(const struct automaton_pattern *row, const struct node *it, const char *behind)
{
	size_t n = strlen(row->text);

	return n == 4 + it->key_n + strlen(behind) && !memcmp(row->text, "%k\"", 3) && !memcmp(row->text + 3, it->key, it->key_n) && row->text[3 + it->key_n] == '"' &&
	       !strcmp(row->text + 4 + it->key_n, behind);
}

static void count(const struct node *it, struct counts *c)
{
	const struct automaton_pattern *rows;
	size_t n;

	rows = automaton_patterns(&n);
	for (size_t i = 0; it->key && i < n; i++) {
		unsigned long long v = 0;
		unsigned slot;

		if (rows[i].root != WEIR_ROOT_BODY)
			continue;
		if (rows[i].action == WEIR_ACT_SKIP && it->type != LITERAL && row_is(&rows[i], it, it->type == OBJECT ? "%s:%s{" : "%s:%s["))
			return;
		if (rows[i].action == WEIR_ACT_ARRAY && it->type == ARRAY && c->whole && !c->mask && row_is(&rows[i], it, "%s:%s["))
			c->batch = true;
		if (rows[i].action != WEIR_ACT_TOKENS || it->type != LITERAL || !row_is(&rows[i], it, ""))
			continue;
		if (it->text_n > 18 || strspn(it->text, "0123456789") < it->text_n)
			continue;
		for (size_t k = 0; k < it->text_n; k++)
			v = v * 10 + (unsigned)(it->text[k] - '0');
		slot = rows[i].arg & (WEIR_TOK_LAST - 1);
		if (c->batch && !(rows[i].arg & WEIR_TOK_LAST))
			v += c->tokens[slot];
		if (v > WEIR_TOKENS_MAX)
			continue;
		c->tokens[slot] = (uint32_t)v;
		c->mask |= (uint16_t)(1u << slot);
	}
	for (const struct node *k = it->child; k; k = k->next)
		count(k, c);
}

/* ---- what the meter counts ------------------------------------------------------------------------- */
static struct weir_reply meter(const char *body, size_t n, bool stream, size_t step)
{
	struct weir_parse p = { 0 };
	struct weir_reply r = { 0 };
	char head[200];
	size_t head_n = (size_t)snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n",
					 stream ? "text/event-stream" : "application/json", n);

	weir_begin(&p, &dfa, WEIR_RESPONSE);
	for (size_t at = 0; at < head_n + n;) {
		bool in_head = at < head_n;
		const char *from = in_head ? head + at : body + (at - head_n);
		size_t have = in_head ? head_n - at : n - (at - head_n), len;
		uint32_t want = weir_want(&p, have < step ? have : step), ev = 0;
		uint8_t *exact;

		if (!want)
			abort();
		exact = malloc(want); /* for the sanitizer */
		if (!exact)
			abort();
		memcpy(exact, from, want);
		len = weir_step(&p, &r, &dfa, WEIR_RESPONSE, exact, want, &ev);
		free(exact);
		at += len;
		if (ev & WEIR_EV_DONE && at != head_n + n)
			abort();
	}
	return r;
}

/* Every count is a number that stands in the text, its zeros in front aside; of a batch it is a sum, which check_equal() knows. */
static void check_counts_are_there(const struct weir_reply *r, const char *text, size_t n)
{
	for (int i = 0; i < WEIR_TOK_COUNT; i++) {
		char digits[16];
		int len = snprintf(digits, sizeof(digits), "%u", r->tokens[i]);

		if ((r->token_mask >> i & 1) && r->type != WEIR_BODY_BATCH && !memmem(text, n, digits, (size_t)len))
			abort();
	}
}

static void check_equal(const struct counts *want, const struct weir_reply *r)
{
	if (want->mask != r->token_mask)
		abort();
	for (int i = 0; i < WEIR_TOK_COUNT; i++)
		if ((want->mask >> i & 1) && want->tokens[i] != r->tokens[i])
			abort();
}

/* ---- mutations ------------------------------------------------------------------------------------- */
static struct node *nth(struct node *it, size_t *n)
{
	if (!(*n)--)
		return it;
	for (struct node *c = it->child; c; c = c->next) {
		struct node *found = nth(c, n);

		if (found)
			return found;
	}
	return NULL;
}

static size_t size_of(const struct node *it)
{
	size_t n = 1;

	for (const struct node *c = it->child; c; c = c->next)
		n += size_of(c);
	return n;
}

static void take_out(struct node *it)
{
	struct node *p = it->parent, *before = NULL;

	for (struct node *c = p->child; c != it; c = c->next)
		before = c;
	if (before)
		before->next = it->next;
	else
		p->child = it->next;
	if (p->last == it)
		p->last = before;
}

static void set_key(struct node *it, const char *key, size_t n)
{
	if (!it->key)
		return;
	it->key = key;
	it->key_n = n;
}

/* A name of the table, or one that only looks alike. */
static void rename_node(struct node *it)
{
	static const char *const odd[] = { "x_completion_tokens", "completion_tokens_", "Prompt_tokens", "prompt_tokens\\\"", "\\\"prompt_tokens", "\\\\", "usage",
					   "", "completion_tokens\\n", "\\u0070rompt_tokens", "data:", "}", "prompt_tokens:" };
	const struct automaton_pattern *rows, *row;
	const char *end;
	size_t n;

	if (next_byte() & 1) {
		const char *key = odd[pick(sizeof(odd) / sizeof(odd[0]))];

		set_key(it, key, strlen(key));
		return;
	}
	rows = automaton_patterns(&n);
	row = &rows[pick(n)];
	if (row->root != WEIR_ROOT_BODY || strncmp(row->text, "%k\"", 3) || !(end = strchr(row->text + 3, '"')))
		return;
	set_key(it, row->text + 3, (size_t)(end - row->text) - 3);
}

static void retype(struct node *it)
{
	static const char *const values[] = {
		"null", "true", "0", "7", "2147483647", "2147483648", "999999999999999999", "9999999999999999999999", "-3", "1.5", "12e3", "\"12\"", "\"\"",
		"\"prompt_tokens\"", "\"\\\"completion_tokens\\\":5\"", "\"\\\\\"", "{}", "[]", "{\"completion_tokens\":4}", "[{\"prompt_tokens\":[3]},5]",
		"{\"input\":{\"prompt_tokens\":9},\"prompt_tokens\":8}", "[\"prompt_tokens\",6,\"completion_tokens\"]",
	};
	const char *text = values[pick(sizeof(values) / sizeof(values[0]))];
	struct node *fresh = parse(&text, 0);

	if (!fresh)
		return;
	it->type = fresh->type;
	it->text = fresh->text;
	it->text_n = fresh->text_n;
	it->child = fresh->child;
	it->last = fresh->last;
	for (struct node *c = it->child; c; c = c->next)
		c->parent = it;
}

/* Puts a bracket or more around a value. */
static void nest(struct node *it)
{
	unsigned depth = next_byte() % 8 ? 1 : 70;

	for (unsigned i = 0; i < depth; i++) {
		struct node *inner = node_new(it->type);

		if (!inner)
			return;
		inner->text = it->text;
		inner->text_n = it->text_n;
		inner->child = it->child;
		inner->last = it->last;
		for (struct node *c = inner->child; c; c = c->next)
			c->parent = inner;
		it->type = next_byte() & 1 ? OBJECT : ARRAY;
		it->child = it->last = NULL;
		if (it->type == OBJECT) {
			inner->key = "wrapped";
			inner->key_n = 7;
			rename_node(inner);
		}
		append(it, inner);
	}
}

static void mutate(struct node *root)
{
	size_t at = pick(size_of(root));
	struct node *it = nth(root, &at), *twin;

	if (!it || it == root)
		return;
	switch (next_byte() % 7) {
	case 0: /* twice */
		twin = copy(it);
		if (twin)
			append(it->parent, twin);
		break;
	case 1:
		take_out(it);
		break;
	case 2:
		retype(it);
		break;
	case 3:
		rename_node(it);
		break;
	case 4:
		nest(it);
		break;
	case 5: /* to the end */
		take_out(it);
		append(it->parent, it);
		break;
	default: /* twice, and the second of another kind */
		twin = copy(it);
		if (!twin)
			break;
		append(it->parent, twin);
		retype(twin);
		break;
	}
}

/* ---- the fixtures ---------------------------------------------------------------------------------- */
static void doc_add(const char *text, size_t n)
{
	char *doc = strndup(text, n);

	used = 0;
	if (doc && doc_count < DOCS_MAX && parse_all(doc))
		docs[doc_count++] = doc;
	else
		free(doc);
}

static void docs_of(struct fixture *f, void *ctx)
{
	char *body = strstr(f->text, "\n<<<\n"), *end = body ? strstr(body, "\n===") : NULL;

	(void)ctx;
	body = body ? strstr(body, "\n\n") : NULL;
	if (!body || !end || body + 2 > end)
		return;
	body += 2;
	doc_add(body, (size_t)(end - body));
	while (body < end) {
		size_t n = strcspn(body, "\n");

		if (n > 5 && !strncmp(body, "data:", 5))
			doc_add(body + 5, n - 5);
		else
			doc_add(body, n);
		body += n + 1;
	}
}

static void begin(void)
{
	static struct fixture f;

	fixtures_each(&f, docs_of, NULL);
	if (doc_count < 100 || automaton_build(&dfa) < 0) {
		fprintf(stderr, "%zu documents in %s: run me in the source folder\n", doc_count, FIXTURE_DIR);
		abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct counts want = { 0 };
	struct weir_reply r;
	struct node *root;
	unsigned ops, style;
	bool stream;
	size_t step, from = 0;
	json_t *whole;

	if (!doc_count)
		begin();
	script = data;
	script_n = n;
	used = 0;
	root = parse_all(docs[pick(doc_count)]);
	ops = next_byte() % OPS_MAX;
	style = next_byte();
	stream = next_byte() & 1;
	step = 1 + next_byte();
	while (ops--)
		mutate(root);
	out_n = 0;
	if (stream)
		put("data: ", 6);
	from = out_n;
	write_tree(root, style);
	if (out_n >= TEXT_MAX)
		return 0;
	/* ours may not be wrong about what is JSON; strings of fixtures that are not UTF-8 are let through as Latin-1 would be */
	whole = json_loadb(out + from, out_n - from, 0, NULL);
	if (!whole && !memchr(out + from, 0xff, out_n - from) && !memmem(out + from, out_n - from, "e3", 2) && !memmem(out + from, out_n - from, "999999999999999999", 18))
		abort();
	json_decref(whole);
	if (stream)
		put("\n\n", 2);
	want.whole = !stream;
	want.batch = want.whole && root->type == ARRAY;
	count(root, &want);
	r = meter(out, out_n, stream, step);
	check_equal(&want, &r);
	check_counts_are_there(&r, out, out_n);

	/* cut, then damaged: nothing but what stands there */
	from = pick(out_n);
	r = meter(out, out_n - from, stream, step);
	check_counts_are_there(&r, out, out_n - from);
	for (unsigned i = next_byte() % 8; i; i--)
		out[pick(out_n)] = (char)next_byte();
	r = meter(out, out_n, stream, step);
	check_counts_are_there(&r, out, out_n);
	return 0;
}
