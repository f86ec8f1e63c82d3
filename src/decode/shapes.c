/* shapes.c - see the header. */
#include "decode/shapes.h"

#include "decode/json.h"

#include <ctype.h>

struct shape {
	char method[8];
	char path[SHAPE_PATH_BYTES];
	struct shape_names request, response;
	uint64_t count, metered, used;
};

struct shapes {
	struct shape *all[SHAPES_MAX]; /* made when first needed */
	size_t n;
	uint64_t clock, not_listed;
};

/* ---- names ---------------------------------------------------------------------------------------- */
/* Letters, digits, _ and -, with a letter or _ in front, and few digits: a name that somebody chose for a field. */
static bool is_word(struct span s)
{
	size_t digits = 0;

	if (!s.n || s.n > SHAPE_WORD_MAX || !(isalpha((unsigned char)*s.p) || *s.p == '_'))
		return false;
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];

		if (c >= 128 || !(isalnum(c) || c == '_' || c == '-'))
			return false;
		digits += isdigit(c) != 0;
	}
	return digits <= 3;
}

static void names_add(struct shape_names *s, const char *name)
{
	for (size_t i = 0; i < s->n; i++)
		if (!strcmp(s->name[i], name))
			return;
	if (s->n == SHAPE_NAMES_MAX) {
		s->more = true;
		return;
	}
	snprintf(s->name[s->n++], SHAPE_NAME_BYTES, "%s", name);
}

static void on_name(void *ctx, const struct span *keys, size_t n)
{
	char name[SHAPE_NAME_BYTES];
	size_t at = 0;

	for (size_t i = 0; i < n; i++) {
		struct span key = is_word(keys[i]) ? keys[i] : SPAN("*");

		if (at + key.n + 2 > sizeof(name)) {
			((struct shape_names *)ctx)->more = true;
			return;
		}
		if (i)
			name[at++] = '.';
		memcpy(name + at, key.p, key.n);
		at += key.n;
	}
	name[at] = '\0';
	names_add(ctx, name);
}

void shape_names_read(struct shape_names *s, struct span json)
{
	json_names(json, SHAPE_DEPTH, on_name, s);
}

/* ---- paths ---------------------------------------------------------------------------------------- */
/* v1, v2beta1 */
static bool is_version(struct span s)
{
	return s.n >= 2 && s.n <= 8 && (*s.p == 'v' || *s.p == 'V') && isdigit((unsigned char)s.p[1]) && is_word(s);
}

/* Might it be somebody's, or something's, own? */
static bool is_id(struct span s)
{
	bool upper = false, lower = false;

	if (!s.n || is_version(s))
		return false;
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];

		if (c >= 128 || isdigit(c) || !(isalpha(c) || strchr("_-.:", c)))
			return true;
		upper |= isupper(c) != 0;
		lower |= islower(c) != 0;
	}
	return s.n > SHAPE_WORD_MAX || (upper && lower && s.n > 20);
}

static void path_clean(struct span path, char out[SHAPE_PATH_BYTES])
{
	const char *cut = path.n ? memchr(path.p, '?', path.n) : NULL;
	size_t at = 0;

	if (cut)
		path.n = (size_t)(cut - path.p);
	for (size_t from = 0; from < path.n;) {
		size_t n = 0;
		struct span part;

		while (from < path.n && path.p[from] == '/')
			from++;
		while (from + n < path.n && path.p[from + n] != '/')
			n++;
		part = (struct span){ path.p + from, n };
		from += n;
		if (!part.n)
			break;
		if (is_id(part))
			part = SPAN("*");
		if (at + part.n + 6 > SHAPE_PATH_BYTES) {
			memcpy(out + at, "/...", 4);
			at += 4;
			break;
		}
		out[at++] = '/';
		memcpy(out + at, part.p, part.n);
		at += part.n;
	}
	out[at] = '\0';
}

/* ---- the list ------------------------------------------------------------------------------------- */
struct shapes *shapes_new(void)
{
	return calloc(1, sizeof(struct shapes));
}

struct shapes *shapes_free(struct shapes *s)
{
	for (size_t i = 0; s && i < s->n; i++)
		free(s->all[i]);
	free(s);
	return NULL;
}

/* A place for a new entry, or NULL. */
static struct shape *place(struct shapes *s)
{
	struct shape *least = NULL;

	if (s->n < SHAPES_MAX) {
		struct shape *it = calloc(1, sizeof(*it));

		if (it)
			s->all[s->n++] = it;
		return it;
	}
	for (size_t i = 0; i < s->n; i++)
		if (s->all[i]->count <= 1 && !s->all[i]->metered && (!least || s->all[i]->used < least->used))
			least = s->all[i];
	if (least) {
		s->not_listed += least->count;
		memset(least, 0, sizeof(*least));
	}
	return least;
}

static void merge(struct shape_names *into, const struct shape_names *from)
{
	for (size_t i = 0; from && i < from->n; i++)
		names_add(into, from->name[i]);
	into->more |= from && from->more;
}

void shapes_note(struct shapes *s, struct span method, struct span path, const struct shape_names *request, const struct shape_names *response, bool metered)
{
	char clean[SHAPE_PATH_BYTES], word[8];
	struct shape *it = NULL;

	snprintf(word, sizeof(word), "%.*s", (int)MIN(method.n, sizeof(word) - 1), method.n ? method.p : "");
	if (!is_word(span_of(word)))
		snprintf(word, sizeof(word), "*");
	path_clean(path, clean);
	for (size_t i = 0; i < s->n && !it; i++)
		if (!strcmp(s->all[i]->path, clean) && !strcmp(s->all[i]->method, word))
			it = s->all[i];
	if (!it) {
		it = place(s);
		if (!it) {
			s->not_listed++;
			return;
		}
		memcpy(it->path, clean, sizeof(clean));
		memcpy(it->method, word, sizeof(word));
	}
	it->used = ++s->clock;
	it->count++;
	it->metered += metered;
	merge(&it->request, request);
	merge(&it->response, response);
}

static void names_write(struct str *out, const char *key, const struct shape_names *s)
{
	json_key(out, key);
	json_begin(out, '[');
	for (size_t i = 0; i < s->n; i++)
		json_string(out, s->name[i], strlen(s->name[i]));
	if (s->more)
		json_string(out, "...", 3);
	json_end(out, ']');
}

void shapes_write_json(const struct shapes *s, struct str *out)
{
	for (size_t i = 0; i < s->n; i++) {
		const struct shape *it = s->all[i];

		json_begin(out, '{');
		json_kstring(out, "method", span_of(it->method));
		json_kstring(out, "path", span_of(it->path));
		json_kuint(out, "count", it->count);
		json_kuint(out, "metered", it->metered);
		names_write(out, "request", &it->request);
		names_write(out, "response", &it->response);
		json_end(out, '}');
		str_addc(out, '\n');
	}
	if (s->not_listed) {
		json_begin(out, '{');
		json_kuint(out, "not_listed", s->not_listed);
		json_end(out, '}');
		str_addc(out, '\n');
	}
}
