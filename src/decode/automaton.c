/*
 * automaton.c - table of patterns -> NFA (a trie with loops) -> subset construction -> minimal DFA.
 *
 * The three steps are plain textbook: patterns that share a beginning share nodes, so sets stay at a handful of
 * members; minimisation merges the equal tails (`" : "` of forty keys). All memory is freed at the end.
 */
#include "decode/automaton.h"
#include "decode/patterns.h"

#define NODES_MAX 8192   /* NFA nodes; the table needs about 1,900 */
#define EDGES_MAX 8192   /* one per node, roughly */
#define SET_MAX 48       /* NFA nodes in one DFA state; the table needs about 10 */
#define DFA_MAX 4096     /* before minimisation; about 1,900 are used */
#define HASH_SIZE 16384  /* power of two, > 2 * DFA_MAX */
#define CLASSES_MAX 256  /* bytes that no pattern tells apart are one class */
#define NONE UINT16_MAX

struct bytes {
	uint64_t w[4];
};

struct edge {
	struct bytes on;
	uint16_t to;
	uint16_t next; /* next edge of the same node */
	bool epsilon;
};

struct node {
	uint16_t edges;
	uint8_t action, arg;
	bool loops; /* has an edge to itself that is its star */
	struct bytes loop;
};

struct set {
	uint16_t n;
	uint16_t node[SET_MAX]; /* ascending */
};

struct builder {
	struct node nodes[NODES_MAX];
	struct edge edges[EDGES_MAX];
	unsigned n_nodes, n_edges;
	uint16_t root[WEIR_ROOT_COUNT];

	uint8_t class_of[256];
	uint8_t byte_of[CLASSES_MAX]; /* one member of each class */
	unsigned classes;

	struct set sets[DFA_MAX];
	uint16_t next[DFA_MAX][CLASSES_MAX];
	uint8_t action[DFA_MAX], arg[DFA_MAX];
	unsigned n_sets;
	uint16_t hash[HASH_SIZE];
	uint16_t start[WEIR_ROOT_COUNT];

	uint16_t part[DFA_MAX]; /* minimisation: block of each state */
	unsigned parts;
};

static void bytes_add(struct bytes *b, unsigned char c)
{
	b->w[c >> 6] |= UINT64_C(1) << (c & 63);
}

static bool bytes_has(const struct bytes *b, unsigned char c)
{
	return b->w[c >> 6] >> (c & 63) & 1;
}

static bool bytes_eq(const struct bytes *a, const struct bytes *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

const struct automaton_pattern *automaton_patterns(size_t *ret_n)
{
	*ret_n = ARRAY_SIZE(patterns);
	return patterns;
}

bool automaton_class(char c, bool ret_set[256], bool *ret_star)
{
	static const struct {
		char name;
		bool star, not ;
		const char *bytes;
	} classes[] = {
		{ 's', true, false, " \t\r\n" }, { 'o', true, false, " \t" },      { 'k', false, true, "\\" },
		{ 'n', false, true, "\"" },      { 'x', false, true, "} \t\r\n" }, { 'd', false, false, "0123456789" },
		{ 'v', false, false, "01" },     { 'l', true, true, "\r\n" },      { 'm', false, false, " \t," },
		{ 'e', false, false, " \t\r\n,;" }, { 'i', false, true, "iI \t\r\n" }, { 'r', true, false, "\r" },
		{ 'z', true, false, "\r\n" },    { 'g', false, false, "\r\n" },  { '0', false, false, "" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(classes); i++) {
		if (classes[i].name != c)
			continue;
		for (int b = 0; b < 256; b++)
			ret_set[b] = classes[i].not ;
		for (const char *p = classes[i].bytes; *p; p++)
			ret_set[(unsigned char)*p] = !classes[i].not ;
		if (c == '0')
			ret_set[0] = true;
		*ret_star = classes[i].star;
		return true;
	}
	return false;
}

/* ---- NFA ------------------------------------------------------------------------------------------ */
static int node_new(struct builder *b, uint16_t *ret)
{
	if (b->n_nodes >= NODES_MAX)
		return -E2BIG;
	b->nodes[b->n_nodes] = (struct node){ .edges = NONE };
	*ret = (uint16_t)b->n_nodes++;
	return 0;
}

static int edge_add(struct builder *b, uint16_t from, uint16_t to, const struct bytes *on)
{
	struct edge *e;

	if (b->n_edges >= EDGES_MAX)
		return -E2BIG;
	e = &b->edges[b->n_edges];
	*e = (struct edge){ .to = to, .next = b->nodes[from].edges, .epsilon = !on };
	if (on)
		e->on = *on;
	b->nodes[from].edges = (uint16_t)b->n_edges++;
	return 0;
}

/* The node after one element, shared with a pattern that has the same element at the same place. */
static int node_after(struct builder *b, uint16_t from, const struct bytes *on, bool star, uint16_t *ret)
{
	uint16_t to;
	int r;

	for (uint16_t e = b->nodes[from].edges; e != NONE; e = b->edges[e].next) {
		to = b->edges[e].to;
		if (star ? b->edges[e].epsilon && b->nodes[to].loops && bytes_eq(&b->nodes[to].loop, on) :
			   !b->edges[e].epsilon && to != from && bytes_eq(&b->edges[e].on, on)) {
			*ret = to;
			return 0;
		}
	}
	r = node_new(b, &to);
	if (r < 0)
		return r;
	r = edge_add(b, from, to, star ? NULL : on);
	if (r < 0)
		return r;
	if (star) {
		b->nodes[to].loops = true;
		b->nodes[to].loop = *on;
		r = edge_add(b, to, to, on);
		if (r < 0)
			return r;
	}
	*ret = to;
	return 0;
}

static void element_read(const char **p, bool fold, struct bytes *ret_on, bool *ret_star)
{
	bool set[256];
	unsigned char c = (unsigned char)*(*p)++;

	memset(ret_on, 0, sizeof(*ret_on));
	*ret_star = false;
	if (c == '%' && automaton_class(**p, set, ret_star)) {
		(*p)++;
		for (unsigned i = 0; i < 256; i++)
			if (set[i])
				bytes_add(ret_on, (unsigned char)i);
		return;
	}
	bytes_add(ret_on, c);
	if (fold && c >= 'a' && c <= 'z')
		bytes_add(ret_on, (unsigned char)(c - 'a' + 'A'));
}

static bool root_is_anchored(enum weir_root root)
{
	return root == WEIR_ROOT_REQUEST || root == WEIR_ROOT_FIRST || root == WEIR_ROOT_RESPONSE;
}

static int pattern_add(struct builder *b, const struct automaton_pattern *pat)
{
	bool fold = pat->root == WEIR_ROOT_REQUEST_HEAD || pat->root == WEIR_ROOT_RESPONSE_HEAD;
	uint16_t at = b->root[pat->root];
	struct bytes on;
	bool star;
	int r;

	for (const char *p = pat->text; *p;) {
		element_read(&p, fold, &on, &star);
		r = node_after(b, at, &on, star, &at);
		if (r < 0)
			return r;
	}
	if (b->nodes[at].action && (b->nodes[at].action != pat->action || b->nodes[at].arg != pat->arg))
		return -EINVAL;
	b->nodes[at].action = (uint8_t)pat->action;
	b->nodes[at].arg = pat->arg;
	/* The rest of a head follows its first line, whether the walker enters that root itself or just goes on. */
	if (root_is_anchored(pat->root) && b->nodes[at].edges == NONE)
		return edge_add(b, at, b->root[pat->root == WEIR_ROOT_RESPONSE ? WEIR_ROOT_RESPONSE_HEAD : WEIR_ROOT_REQUEST_HEAD],
				NULL);
	return 0;
}

/* KEY(name), and what may follow it */
static int key_add(struct builder *b, const struct automaton_key *key)
{
	char text[3][128];
	const struct automaton_pattern counts = { WEIR_ROOT_BODY, text[0], WEIR_ACT_TOKENS, key->slot };
	const struct automaton_pattern full = { WEIR_ROOT_BODY, text[1], WEIR_ACT_CONTENT, 0 }, empty = { WEIR_ROOT_BODY, text[2], WEIR_ACT_EMPTY, 0 };
	int r;

	if (strlen(key->name) > 64 || strpbrk(key->name, "%\"\\"))
		return -EINVAL;
	snprintf(text[0], sizeof(text[0]), "%%k\"%s\"", key->name);
	snprintf(text[1], sizeof(text[1]), "%%k\"%s\"%%s:%%s\"%%n", key->name);
	snprintf(text[2], sizeof(text[2]), "%%k\"%s\"%%s:%%s\"\"", key->name);
	if (key->action == WEIR_ACT_TOKENS)
		return pattern_add(b, &counts);
	r = pattern_add(b, &full);
	return r < 0 ? r : pattern_add(b, &empty);
}

static int nfa_build(struct builder *b, const struct automaton_key *keys, size_t n)
{
	struct bytes any;
	int r;

	memset(&any, 0xff, sizeof(any));
	for (int i = 0; i < WEIR_ROOT_SKIP; i++) {
		/* One trie for both heads: they share most of what costs states, and the meter does nothing on what only a response says. */
		if (i == WEIR_ROOT_RESPONSE_HEAD) {
			b->root[i] = b->root[WEIR_ROOT_REQUEST_HEAD];
			continue;
		}
		r = node_new(b, &b->root[i]);
		if (r < 0)
			return r;
		if (root_is_anchored(i))
			continue;
		/* the start of a body is the body, and more */
		r = i == WEIR_ROOT_BODY_START ? edge_add(b, b->root[i], b->root[WEIR_ROOT_BODY], NULL) : edge_add(b, b->root[i], b->root[i], &any);
		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < ARRAY_SIZE(patterns); i++) {
		r = pattern_add(b, &patterns[i]);
		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < n; i++) {
		r = key_add(b, &keys[i]);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- subset construction -------------------------------------------------------------------------- */
static void classes_split(struct builder *b, const struct bytes *on)
{
	int split[CLASSES_MAX];
	unsigned count_in[CLASSES_MAX] = { 0 }, count[CLASSES_MAX] = { 0 };

	for (unsigned c = 0; c < 256; c++) {
		count[b->class_of[c]]++;
		count_in[b->class_of[c]] += bytes_has(on, (unsigned char)c);
	}
	for (unsigned i = 0, n = b->classes; i < n; i++)
		split[i] = count_in[i] && count_in[i] < count[i] ? (int)b->classes++ : -1;
	for (unsigned c = 0; c < 256; c++)
		if (split[b->class_of[c]] >= 0 && bytes_has(on, (unsigned char)c))
			b->class_of[c] = (uint8_t)split[b->class_of[c]];
}

/* Bytes that every edge, and the skipper, treat alike share a class. */
static void classes_find(struct builder *b)
{
	b->classes = 1;
	memset(b->class_of, 0, sizeof(b->class_of));
	for (unsigned e = 0; e < b->n_edges; e++)
		classes_split(b, &b->edges[e].on);
	for (const char *p = "\"\\\n{}[]"; *p; p++) {
		struct bytes one = { 0 };

		bytes_add(&one, (unsigned char)*p);
		classes_split(b, &one);
	}
	for (unsigned c = 0; c < 256; c++)
		b->byte_of[b->class_of[c]] = (uint8_t)c;
}

static int set_add(struct builder *b, struct set *s, uint16_t node)
{
	unsigned i;

	for (i = 0; i < s->n && s->node[i] < node; i++)
		;
	if (i < s->n && s->node[i] == node)
		return 0;
	if (s->n >= SET_MAX)
		return -E2BIG;
	memmove(&s->node[i + 1], &s->node[i], (s->n - i) * sizeof(s->node[0]));
	s->node[i] = node;
	s->n++;
	/* Depth: chains of stars in one pattern, two at most. */
	for (uint16_t e = b->nodes[node].edges; e != NONE; e = b->edges[e].next) {
		if (b->edges[e].epsilon) {
			int r = set_add(b, s, b->edges[e].to);

			if (r < 0)
				return r;
		}
	}
	return 0;
}

/* Number of the DFA state of this set, made if it is new. */
static int set_intern(struct builder *b, const struct set *s, uint16_t *ret)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);
	unsigned at;

	for (unsigned i = 0; i < s->n; i++)
		h = (h ^ s->node[i]) * UINT64_C(0x100000001b3);
	for (at = (unsigned)(h ^ h >> 32) % HASH_SIZE; b->hash[at] != NONE; at = (at + 1) % HASH_SIZE) {
		const struct set *old = &b->sets[b->hash[at]];

		if (old->n == s->n && memcmp(old->node, s->node, s->n * sizeof(s->node[0])) == 0) {
			*ret = b->hash[at];
			return 0;
		}
	}
	if (b->n_sets >= DFA_MAX)
		return -E2BIG;
	for (unsigned i = 0; i < s->n; i++) {
		const struct node *n = &b->nodes[s->node[i]];

		if (!n->action)
			continue;
		if (b->action[b->n_sets] && (b->action[b->n_sets] != n->action || b->arg[b->n_sets] != n->arg))
			return -EINVAL;
		b->action[b->n_sets] = n->action;
		b->arg[b->n_sets] = n->arg;
	}
	b->sets[b->n_sets] = *s;
	b->hash[at] = (uint16_t)b->n_sets;
	*ret = (uint16_t)b->n_sets++;
	return 0;
}

/* What the start of a body stands behind: the nodes after a first %k or \n, as if a line feed had been read. */
static int root_set(struct builder *b, enum weir_root root, struct set *ret)
{
	int r = 0;

	ret->n = 0;
	r = set_add(b, ret, b->root[root]);
	if (root != WEIR_ROOT_BODY && root != WEIR_ROOT_BODY_START)
		return r;
	for (uint16_t e = b->nodes[b->root[WEIR_ROOT_BODY]].edges; r == 0 && e != NONE; e = b->edges[e].next)
		if (bytes_has(&b->edges[e].on, '\n'))
			r = set_add(b, ret, b->edges[e].to);
	return r;
}

static int dfa_build(struct builder *b)
{
	struct set s = { 0 };
	uint16_t bad;
	int r;

	memset(b->hash, 0xff, sizeof(b->hash));
	/* The empty set is where anchored patterns end up that can no longer match. */
	b->action[0] = WEIR_ACT_BAD;
	r = set_intern(b, &s, &bad);
	if (r < 0)
		return r;
	for (int i = 0; i < WEIR_ROOT_SKIP; i++) {
		r = root_set(b, i, &s);
		if (r == 0)
			r = set_intern(b, &s, &b->start[i]);
		if (r < 0)
			return r;
	}
	for (unsigned i = 0; i < b->n_sets; i++) {
		for (unsigned c = 0; c < b->classes; c++) {
			s.n = 0;
			for (unsigned k = 0; k < b->sets[i].n; k++) {
				for (uint16_t e = b->nodes[b->sets[i].node[k]].edges; e != NONE; e = b->edges[e].next) {
					if (b->edges[e].epsilon || !bytes_has(&b->edges[e].on, b->byte_of[c]))
						continue;
					r = set_add(b, &s, b->edges[e].to);
					if (r < 0)
						return r;
				}
			}
			r = set_intern(b, &s, &b->next[i][c]);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

/* ---- the skipper, by hand: brackets outside strings ----------------------------------------------- */
static int skip_build(struct builder *b)
{
	enum { PLAIN, OPENED, CLOSED, STRING, ESCAPE, COUNT };
	unsigned base = b->n_sets;

	if (base + COUNT > DFA_MAX)
		return -E2BIG;
	b->n_sets += COUNT;
	b->action[base + OPENED] = WEIR_ACT_OPEN;
	b->action[base + CLOSED] = WEIR_ACT_CLOSE;
	for (unsigned c = 0; c < b->classes; c++) {
		char ch = (char)b->byte_of[c];
		/* A raw line feed cannot stand in a string; taking it for the end brings a torn stream back into step. */
		unsigned in_string = ch == '"' || ch == '\n' ? PLAIN : ch == '\\' ? ESCAPE : STRING;
		unsigned outside = ch == '"'		   ? STRING :
				   ch == '{' || ch == '[' ? OPENED :
				   ch == '}' || ch == ']' ? CLOSED :
							    PLAIN;

		b->next[base + PLAIN][c] = b->next[base + OPENED][c] = b->next[base + CLOSED][c] = (uint16_t)(base + outside);
		b->next[base + STRING][c] = (uint16_t)(base + in_string);
		b->next[base + ESCAPE][c] = (uint16_t)(base + (ch == '\n' ? PLAIN : STRING));
	}
	b->start[WEIR_ROOT_SKIP] = (uint16_t)(base + PLAIN);
	return 0;
}

/* ---- minimisation: split blocks until all members of a block go to the same blocks ----------------- */
static uint64_t signature(const struct builder *b, unsigned state)
{
	uint64_t h = b->part[state] + UINT64_C(0x9e3779b97f4a7c15);

	for (unsigned c = 0; c < b->classes; c++)
		h = (h ^ b->part[b->next[state][c]]) * UINT64_C(0x9fb21c651e98df25), h ^= h >> 29;
	return h;
}

static bool same_signature(const struct builder *b, unsigned x, unsigned y)
{
	if (b->part[x] != b->part[y])
		return false;
	for (unsigned c = 0; c < b->classes; c++)
		if (b->part[b->next[x][c]] != b->part[b->next[y][c]])
			return false;
	return true;
}

static void dfa_minimise(struct builder *b, uint16_t *scratch)
{
	unsigned before = 0;

	for (unsigned i = 0; i < b->n_sets; i++)
		b->part[i] = (uint16_t)(b->action[i] << 8 | b->arg[i]);
	for (b->parts = 1; b->parts != before;) {
		before = b->parts;
		b->parts = 0;
		memset(b->hash, 0xff, sizeof(b->hash)); /* now: first state of each block */
		for (unsigned i = 0; i < b->n_sets; i++) {
			unsigned at = (unsigned)signature(b, i) % HASH_SIZE;

			while (b->hash[at] != NONE && !same_signature(b, b->hash[at], i))
				at = (at + 1) % HASH_SIZE;
			if (b->hash[at] == NONE) {
				b->hash[at] = (uint16_t)i;
				scratch[i] = (uint16_t)b->parts++;
			} else {
				scratch[i] = scratch[b->hash[at]];
			}
		}
		memcpy(b->part, scratch, b->n_sets * sizeof(scratch[0]));
	}
}

/* ---- output: states in the order of a walk from the body root, so that the common ones lie together - */
/* Which bytes lead out of a state; at most `max` of them, else -E2BIG. */
static int leaves_of(const struct weir_automaton *a, unsigned state, uint8_t *ret, unsigned max)
{
	unsigned n = 0;

	for (unsigned c = 0; c < 256; c++) {
		if (a->next[state << 8 | c] == state)
			continue;
		if (n == max)
			return -E2BIG;
		ret[n++] = (uint8_t)c;
	}
	return (int)n;
}

/* The states in which most bytes change nothing, and the few bytes that do: in bodies, and in heads. */
static void rest_find(struct weir_automaton *a)
{
	unsigned state = a->next[a->root[WEIR_ROOT_BODY] << 8 | 'a'];
	uint8_t leave[WEIR_REST_LEAVES];
	int n;

	a->rest = a->rest_head[0] = a->rest_head[1] = WEIR_STATES;
	n = state < WEIR_STATES ? leaves_of(a, state, leave, WEIR_REST_LEAVES) : -E2BIG;
	if (n > 0) {
		a->rest = (uint16_t)state;
		for (int i = 0; i < WEIR_REST_LEAVES; i++)
			a->leave[i] = leave[MIN(i, n - 1)] * UINT64_C(0x0101010101010101);
	}
	for (int i = 0; i < 2; i++) {
		state = a->root[i ? WEIR_ROOT_RESPONSE_HEAD : WEIR_ROOT_REQUEST_HEAD];
		if (leaves_of(a, state, leave, 1) == 1 && leave[0] == '\n')
			a->rest_head[i] = (uint16_t)state;
	}
}

static int dfa_write(const struct builder *b, uint16_t *number, struct weir_automaton *ret)
{
	uint16_t queue[WEIR_STATES]; /* a DFA state for each number given */
	static const enum weir_root order[] = { WEIR_ROOT_BODY,		 WEIR_ROOT_BODY_START, WEIR_ROOT_SKIP,    WEIR_ROOT_RESPONSE_HEAD,
						WEIR_ROOT_REQUEST_HEAD, WEIR_ROOT_RESPONSE, WEIR_ROOT_REQUEST, WEIR_ROOT_FIRST };
	unsigned n = 0, done = 0;

	if (b->parts > WEIR_STATES)
		return -E2BIG;
	memset(ret, 0, sizeof(*ret));
	memset(number, 0xff, DFA_MAX * sizeof(number[0])); /* by block */
	for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
		uint16_t start = b->start[order[i]];

		if (number[b->part[start]] == NONE) {
			queue[n] = start;
			number[b->part[start]] = (uint16_t)n++;
		}
		ret->root[order[i]] = number[b->part[start]];
		for (; done < n; done++) {
			uint16_t from = queue[done];

			ret->action[done] = b->action[from];
			ret->arg[done] = b->arg[from];
			for (unsigned c = 0; c < 256; c++) {
				uint16_t to = b->next[from][b->class_of[c]];

				if (number[b->part[to]] == NONE) {
					queue[n] = to;
					number[b->part[to]] = (uint16_t)n++;
				}
				ret->next[done << 8 | c] = (uint16_t)(number[b->part[to]] | (b->action[to] ? WEIR_HIT : 0));
			}
		}
	}
	ret->states = (uint16_t)n;
	rest_find(ret);
	return 0;
}

int automaton_build(struct weir_automaton *ret)
{
	return automaton_build_with(NULL, 0, ret);
}

int automaton_build_with(const struct automaton_key *keys, size_t n, struct weir_automaton *ret)
{
	CLEANUP(freep) struct builder *b = calloc(1, sizeof(*b));
	CLEANUP(freep) uint16_t *scratch = calloc(DFA_MAX, sizeof(*scratch));
	int r;

	if (!b || !scratch)
		return -ENOMEM;
	r = nfa_build(b, keys, n);
	if (r < 0)
		return r;
	classes_find(b);
	r = dfa_build(b);
	if (r < 0)
		return r;
	r = skip_build(b);
	if (r < 0)
		return r;
	dfa_minimise(b, scratch);
	return dfa_write(b, scratch, ret);
}
