/* json.c - a scanner that keeps, per open bracket, which of the wanted paths lead on from there. */
#include "decode/json.h"

enum lexeme { LEX_END, LEX_CUT, LEX_BAD, LEX_OPEN, LEX_CLOSE, LEX_COLON, LEX_COMMA, LEX_STRING, LEX_NUMBER, LEX_WORD };

struct lexer {
	const char *p, *end;
	struct span raw;
	enum json_type type;
	bool cut;
};

struct step {
	const char *p;
	size_t n;
};

struct finder {
	const char *const *paths;
	size_t n;
	struct json_value *values;
	void (*each)(void *ctx, const struct json_string *s); /* NULL: the values are wanted */
	void *ctx;
	struct json_value only; /* where `each` is told: one at a time */
	uint32_t element;
	uint32_t mask[JSON_DEPTH_MAX + 1]; /* paths whose first `depth` steps match the way to this bracket */
};

/* p stands behind the opening quote. */
static enum lexeme lex_string(struct lexer *l)
{
	const char *start = l->p;

	for (; l->p < l->end; l->p++) {
		if (*l->p == '\\') {
			if (++l->p == l->end)
				break;
		} else if (*l->p == '"') {
			l->raw = (struct span){ start, (size_t)(l->p - start) };
			l->p++;
			l->cut = false;
			l->type = JSON_STRING;
			return LEX_STRING;
		}
	}
	l->raw = (struct span){ start, (size_t)(l->end - start) };
	l->p = l->end;
	l->cut = true;
	l->type = JSON_STRING;
	return LEX_STRING;
}

static bool in_number(char c)
{
	return (c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E';
}

static enum lexeme lex_next(struct lexer *l)
{
	static const struct {
		const char *word;
		enum json_type type;
	} words[] = { { "null", JSON_NULL }, { "false", JSON_FALSE }, { "true", JSON_TRUE } };

	while (l->p < l->end && (*l->p == ' ' || *l->p == '\t' || *l->p == '\n' || *l->p == '\r'))
		l->p++;
	if (l->p == l->end)
		return LEX_END;
	l->raw = (struct span){ l->p, 0 };
	l->cut = false;
	switch (*l->p) {
	case '{':
	case '[':
		l->type = *l->p++ == '{' ? JSON_OBJECT : JSON_ARRAY;
		return LEX_OPEN;
	case '}':
	case ']':
		l->p++;
		return LEX_CLOSE;
	case ':':
		l->p++;
		return LEX_COLON;
	case ',':
		l->p++;
		return LEX_COMMA;
	case '"':
		l->p++;
		return lex_string(l);
	default:
		break;
	}
	if ((*l->p >= '0' && *l->p <= '9') || *l->p == '-') {
		while (l->p < l->end && in_number(*l->p))
			l->p++;
		l->raw.n = (size_t)(l->p - l->raw.p);
		l->cut = l->p == l->end;
		l->type = JSON_NUMBER;
		return LEX_NUMBER;
	}
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		size_t want = strlen(words[i].word), have = (size_t)(l->end - l->p);

		if (memcmp(l->p, words[i].word, MIN(want, have)))
			continue;
		if (have < want) {
			l->p = l->end;
			return LEX_CUT;
		}
		l->p += want;
		l->type = words[i].type;
		return LEX_WORD;
	}
	return LEX_BAD;
}

/* ---- paths ---------------------------------------------------------------------------------------- */
/* The i-th step of a path; an empty one beyond its end. */
static struct step path_step(const char *path, unsigned i)
{
	for (;;) {
		size_t n = 0; /* a loop: strcspn() takes longer to begin than these names are long */

		while (path[n] && path[n] != '.' && path[n] != ' ')
			n++;
		if (!i--)
			return (struct step){ path, n };
		if (path[n] != '.')
			return (struct step){ path + n, 0 };
		path += n + 1;
	}
}

static bool path_ends(const struct step *s)
{
	return s->p[s->n] != '.';
}

/* Which of the paths alive at `depth` go on through this key (or array element: key.p is NULL)? */
static uint32_t mask_through(const struct finder *f, unsigned depth, struct span key)
{
	uint32_t out = 0;

	for (uint32_t alive = depth <= JSON_DEPTH_MAX ? f->mask[depth] : 0; alive; alive &= alive - 1) {
		unsigned i = (unsigned)__builtin_ctz(alive);
		struct step s;

		/* most keys are none of ours: settled by their first letter */
		if (depth == 1 && key.n && f->paths[i][0] != *key.p && f->paths[i][0] != '*')
			continue;
		s = path_step(f->paths[i], depth - 1);
		if ((s.n == 1 && *s.p == '*') || (key.p && s.n == key.n && s.n && !memcmp(s.p, key.p, s.n)))
			out |= 1u << i;
	}
	return out;
}

/* Bytes of a string without its escapes, so that a client that writes \u5ddd asks for no more than one that writes the character. */
static uint64_t text_bytes(struct span raw)
{
	const char *p = raw.p, *end = raw.p + raw.n, *at;
	uint64_t n = raw.n;

	while (p < end && (at = memchr(p, '\\', (size_t)(end - p)))) {
		unsigned long c;
		char digits[5] = "";

		n--; /* the backslash */
		p = at + 2;
		if (end - at < 6 || at[1] != 'u')
			continue;
		memcpy(digits, at + 2, 4);
		c = strtoul(digits, NULL, 16);
		/* five bytes become one to three; each half of a surrogate pair two */
		n -= c < 0x80 ? 4 : c < 0x800 || (c >= 0xd800 && c < 0xe000) ? 3 : 2;
		p = at + 6;
	}
	return n;
}

static void value_found(const struct finder *f, unsigned depth, uint32_t through, const struct lexer *l)
{
	for (; through; through &= through - 1) {
		unsigned i = (unsigned)__builtin_ctz(through);
		struct json_value *v = &f->values[f->each ? 0 : i];
		struct step s = path_step(f->paths[i], depth - 1);

		if (!path_ends(&s))
			continue;
		if (f->each) {
			const struct json_string found = { .value = { .type = l->type, .cut = l->cut, .raw = l->raw }, .path = i, .element = f->element };

			if (l->type == JSON_STRING)
				f->each(f->ctx, &found);
			continue;
		}
		if (l->type == JSON_NULL && v->type != JSON_ABSENT)
			continue;
		v->type = l->type;
		v->cut = l->cut;
		v->raw = l->type == JSON_STRING || l->type == JSON_NUMBER ? l->raw : (struct span){ 0 };
		if (l->type == JSON_STRING)
			v->text_sum += text_bytes(l->raw);
		v->count += l->type != JSON_NULL;
	}
}

/*
 * Scans on from depth `depth`. A string followed by a colon is a key, wherever it stands, so that the tail of a document
 * can be read without knowing what it is inside of. Stops at the end of the outermost bracket.
 */
static int scan(struct finder *f, struct lexer *l, unsigned depth)
{
	struct span key = { 0 };
	bool in_value = depth == 0;

	for (;;) {
		enum lexeme lex = lex_next(l);
		uint32_t through;

		switch (lex) {
		case LEX_END:
		case LEX_CUT:
			return -ENODATA;
		case LEX_BAD:
			return -EBADMSG;
		case LEX_COLON:
			in_value = true;
			continue;
		case LEX_COMMA:
			key = (struct span){ 0 };
			in_value = false;
			continue;
		case LEX_CLOSE:
			if (!depth)
				return -EBADMSG;
			if (!--depth)
				return 0;
			key = (struct span){ 0 };
			in_value = false;
			continue;
		case LEX_STRING:
			if (!in_value && !l->cut) {
				const char *p = l->p;

				while (p < l->end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r'))
					p++;
				if (p < l->end && *p == ':') {
					key = l->raw;
					continue;
				}
			}
			break;
		default:
			break;
		}
		/* A value: of `key`, or an element of an array. */
		through = depth ? mask_through(f, depth, in_value ? key : (struct span){ 0 }) : 0;
		value_found(f, depth, through, l);
		if (lex == LEX_OPEN) {
			f->element += depth == 2;
			if (depth < UINT32_MAX)
				depth++;
			if (depth <= JSON_DEPTH_MAX)
				f->mask[depth] = depth == 1 ? f->mask[1] : through;
		} else if (!depth) {
			return 0; /* the whole document is one word */
		}
		key = (struct span){ 0 };
		in_value = false;
	}
}

static int finder_init(struct finder *f, const char *const *paths, size_t n, struct json_value *values)
{
	if (n > JSON_PATHS_MAX)
		return -EINVAL;
	if (values)
		memset(values, 0, n * sizeof(*values));
	*f = (struct finder){ .paths = paths, .n = n, .values = values };
	f->mask[1] = n == 32 ? UINT32_MAX : (1u << n) - 1;
	return 0;
}

/* Every string at one of the paths is told, none is kept. */
static int finder_init_each(struct finder *f, const char *const *paths, size_t n, void (*fn)(void *ctx, const struct json_string *s), void *ctx)
{
	int r = finder_init(f, paths, n, NULL);

	if (r < 0)
		return r;
	f->values = &f->only;
	f->each = fn;
	f->ctx = ctx;
	return 0;
}

static int find_in(struct finder *f, struct span text)
{
	const char *p = text.n ? text.p : ""; /* an empty span may point nowhere */
	struct lexer l = { .p = p, .end = p + text.n };

	/* A byte order mark is no part of the document, though some put it there. */
	if (text.n >= 3 && !memcmp(p, "\xef\xbb\xbf", 3))
		l.p += 3;
	return scan(f, &l, 0);
}

int json_find(struct span text, const char *const *paths, size_t n, struct json_value *values)
{
	struct finder f;
	int r = finder_init(&f, paths, n, values);

	return r < 0 ? r : find_in(&f, text);
}

int json_each(struct span text, const char *const *paths, size_t n, void (*fn)(void *ctx, const struct json_string *s), void *ctx)
{
	struct finder f;
	int r = finder_init_each(&f, paths, n, fn, ctx);

	return r < 0 ? r : find_in(&f, text);
}

void json_names(struct span text, size_t deepest, void (*fn)(void *ctx, const struct span *keys, size_t n), void *ctx)
{
	const char *p = text.n ? text.p : "";
	struct lexer l = { .p = p, .end = p + text.n };
	struct span keys[8] = { 0 };
	bool object[JSON_DEPTH_MAX + 1] = { false }; /* by bracket */
	size_t depth = 0, level = 0;		     /* open brackets; of these, objects */
	bool key_next = false;

	deepest = MIN(deepest, ARRAY_SIZE(keys));
	for (;;) {
		switch (lex_next(&l)) {
		case LEX_OPEN:
			if (depth == JSON_DEPTH_MAX)
				return;
			key_next = object[++depth] = l.type == JSON_OBJECT;
			level += object[depth];
			break;
		case LEX_CLOSE:
			if (!depth)
				return;
			level -= object[depth--];
			key_next = false;
			break;
		case LEX_COMMA:
			key_next = object[depth];
			break;
		case LEX_STRING:
			if (!key_next)
				break;
			key_next = false;
			if (l.cut || level > deepest)
				break;
			keys[level - 1] = l.raw;
			fn(ctx, keys, level);
			break;
		case LEX_COLON:
		case LEX_NUMBER:
		case LEX_WORD:
			break;
		default:
			return;
		}
	}
}

/* Brackets closed beyond those opened, where everything from here on is JSON; 0 where it is not. */
static unsigned tail_depth(struct lexer l)
{
	int64_t depth = 0, lowest = 0;

	for (;;) {
		switch (lex_next(&l)) {
		case LEX_END:
			/* At the end of a document all brackets are closed: the lowest point is the last. */
			return depth < 0 && depth == lowest && -depth < UINT32_MAX ? (unsigned)-depth : 0;
		case LEX_CUT:
		case LEX_BAD:
			return 0;
		case LEX_OPEN:
			depth++;
			break;
		case LEX_CLOSE:
			depth--;
			break;
		case LEX_STRING:
			if (l.cut)
				return 0;
			break;
		default:
			break;
		}
		lowest = MIN(lowest, depth);
	}
}

/*
 * Paths that may be alive inside a bracket that was opened before the tail, `depth` deep: its name is unknown, so that the path's
 * own is assumed. A path that ends with a step for any name would take everything, and is none of these.
 */
static uint32_t mask_assumed(const struct finder *f, unsigned depth)
{
	uint32_t out = 0;

	for (unsigned i = 0; i < f->n; i++) {
		struct step s = path_step(f->paths[i], depth - 1);

		if (s.n && !(s.n == 1 && *s.p == '*' && path_ends(&s)))
			out |= 1u << i;
	}
	return out;
}

/* What is left of a string that began before the tail, where strings at that depth are wanted. */
static void headless_found(const struct finder *f, unsigned depth, const struct lexer *l)
{
	struct json_string found = { .value = { .type = JSON_STRING, .raw = l->raw }, .headless = true };

	for (uint32_t alive = f->mask[MIN(depth, JSON_DEPTH_MAX)]; alive; alive &= alive - 1) {
		struct step s;

		found.path = (unsigned)__builtin_ctz(alive);
		s = path_step(f->paths[found.path], depth - 1);
		if (!s.n || !path_ends(&s))
			continue;
		f->each(f->ctx, &found);
		return;
	}
}

static int find_in_tail(struct finder *f, struct span tail)
{
	/* Where does the text begin: outside a string, inside one, or inside one behind a backslash? Only one reading is JSON. */
	for (int how = 0; how < 3 && tail.n; how++) {
		struct lexer l = { .p = tail.p, .end = tail.p + tail.n };
		unsigned depth;

		if (how == 2)
			l.p++;
		if (how)
			lex_string(&l);
		else
			while (l.p < l.end && (in_number(*l.p) || (*l.p >= 'a' && *l.p <= 'u')))
				l.p++; /* the rest of a number or word */
		depth = tail_depth(l);
		if (!depth)
			continue;
		for (unsigned d = 2; d <= JSON_DEPTH_MAX; d++)
			f->mask[d] = d <= depth ? mask_assumed(f, d) : 0;
		if (how && f->each && depth <= JSON_DEPTH_MAX)
			headless_found(f, depth, &l);
		return scan(f, &l, depth);
	}
	return -EBADMSG;
}

int json_find_tail(struct span tail, const char *const *paths, size_t n, struct json_value *values)
{
	struct finder f;
	int r = finder_init(&f, paths, n, values);

	return r < 0 ? r : find_in_tail(&f, tail);
}

int json_each_tail(struct span tail, const char *const *paths, size_t n, void (*fn)(void *ctx, const struct json_string *s), void *ctx)
{
	struct finder f;
	int r = finder_init_each(&f, paths, n, fn, ctx);

	return r < 0 ? r : find_in_tail(&f, tail);
}

/* ---- values --------------------------------------------------------------------------------------- */
static int hex4(const char *p, const char *end)
{
	int v = 0;

	if (end - p < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		char c = p[i];

		v <<= 4;
		if (c >= '0' && c <= '9')
			v |= c - '0';
		else if ((c | 32) >= 'a' && (c | 32) <= 'f')
			v |= (c | 32) - 'a' + 10;
		else
			return -1;
	}
	return v;
}

static size_t utf8_put(uint32_t c, char out[4])
{
	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		out[0] = (char)(0xc0 | c >> 6);
		out[1] = (char)(0x80 | (c & 63));
		return 2;
	}
	if (c < 0x10000) {
		out[0] = (char)(0xe0 | c >> 12);
		out[1] = (char)(0x80 | (c >> 6 & 63));
		out[2] = (char)(0x80 | (c & 63));
		return 3;
	}
	out[0] = (char)(0xf0 | c >> 18);
	out[1] = (char)(0x80 | (c >> 12 & 63));
	out[2] = (char)(0x80 | (c >> 6 & 63));
	out[3] = (char)(0x80 | (c & 63));
	return 4;
}

/* One character behind a backslash; advances *p. */
static uint32_t unescape(const char **p, const char *end)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	const char *at;
	int hi, lo;

	if (*p == end)
		return 0xfffd;
	if (**p != 'u') {
		at = **p ? strchr(from, **p) : NULL;
		(*p)++;
		return at ? (unsigned char)to[at - from] : 0xfffd;
	}
	hi = hex4(*p + 1, end);
	if (hi < 0) {
		(*p)++;
		return 0xfffd;
	}
	*p += 5;
	if (hi >= 0xd800 && hi < 0xdc00 && end - *p >= 6 && (*p)[0] == '\\' && (*p)[1] == 'u') {
		lo = hex4(*p + 2, end);
		if (lo >= 0xdc00 && lo < 0xe000) {
			*p += 6;
			return 0x10000 + ((uint32_t)(hi - 0xd800) << 10) + (uint32_t)(lo - 0xdc00);
		}
	}
	return hi == 0 || (hi >= 0xd800 && hi < 0xe000) ? 0xfffd : (uint32_t)hi;
}

size_t json_text(const struct json_value *v, char *buf, size_t cap)
{
	const char *p = v->raw.n ? v->raw.p : "", *end = p + v->raw.n;
	size_t n = 0;

	if (v->type != JSON_STRING)
		return 0;
	while (p < end) {
		char out[4];
		size_t len = 1;

		if (*p != '\\' && (unsigned char)*p < 0x80) { /* nearly all of it */
			if (n == cap)
				break;
			buf[n++] = *p++;
			continue;
		}
		if (*p == '\\') {
			p++;
			len = utf8_put(unescape(&p, end), out);
		} else {
			out[0] = *p++;
			/* the rest of a character that came unescaped */
			while (len < 4 && p < end && ((unsigned char)*p & 0xc0) == 0x80 && (unsigned char)out[0] >= 0xc0)
				out[len++] = *p++;
		}
		if (n + len > cap)
			break;
		memcpy(buf + n, out, len);
		n += len;
	}
	return n;
}

bool json_count(const struct json_value *v, int64_t *ret)
{
	int64_t n = 0;

	if (v->type != JSON_NUMBER || v->cut || !v->raw.n)
		return false;
	for (size_t i = 0; i < v->raw.n; i++) {
		if (v->raw.p[i] < '0' || v->raw.p[i] > '9' || __builtin_mul_overflow(n, (int64_t)10, &n) ||
		    __builtin_add_overflow(n, (int64_t)(v->raw.p[i] - '0'), &n))
			return false;
	}
	*ret = n;
	return true;
}
