/* dialect_file.c - see the header. One pass over a copy of the file, which is cut into words in place. */
#include "decode/dialect_file.h"

#include "decode/json.h"

#include <fcntl.h>
#include <stdarg.h>
#include <strings.h>
#include <sys/stat.h>

#define PATH_BYTES_MAX 256
#define BLANKS " \t\r"

struct reader {
	struct dialect_file *file;
	const char *name;
	unsigned line;
	char *why;
};

static PRINTF_LIKE(2, 3) int refuse(const struct reader *r, const char *fmt, ...)
{
	int n = snprintf(r->why, DIALECT_FILE_WHY, "%.300s:%u: ", r->name, r->line);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(r->why + n, (size_t)(DIALECT_FILE_WHY - n), fmt, ap);
	va_end(ap);
	return -EINVAL;
}

/* The next word, ended in place; NULL at the end of the line. */
static char *word(char **rest)
{
	char *w = *rest + strspn(*rest, BLANKS);
	size_t n = strcspn(w, BLANKS);

	if (!n)
		return NULL;
	*rest = w + n;
	if (**rest)
		*(*rest)++ = '\0';
	return w;
}

static bool is_made_of(const char *s, const char *extra)
{
	for (; *s; s++)
		if (!((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || (*s >= '0' && *s <= '9') || strchr(extra, *s)))
			return false;
	return true;
}

/* ---- fields of a row ------------------------------------------------------------------------------ */
static const struct {
	const char *name;
	enum dialect_field field;
} fields[] = {
	{ "model", D_MODEL },       { "stream", D_STREAM }, { "max_tokens", D_MAX_TOKENS },           { "user", D_USER },     { "logprobs", D_LOGPROBS },
	{ "prompt", D_PROMPT },     { "id", D_ID },         { "answered_model", D_RESPONSE_MODEL }, { "finish", D_FINISH }, { "text", D_TEXT },
};

/* Commas become the blanks that dialect_paths() parts by. */
static int paths_read(const struct reader *r, const char *field, char *value)
{
	size_t n = 1;

	if (!*value || !is_made_of(value, "_-.*,"))
		return refuse(r, "%s: a place is names joined by dots, * for any, several parted by commas", field);
	if (*value == '.' || *value == ',' || strstr(value, "..") || strstr(value, ",,") || strstr(value, ".,") || strstr(value, ",.") ||
	    strchr(".,", value[strlen(value) - 1]))
		return refuse(r, "%s: a name is missing in \"%.80s\"", field, value);
	for (char *p = value; *p; p++) {
		if (*p != ',')
			continue;
		*p = ' ';
		n++;
	}
	if (n > DIALECT_ALTERNATIVES_MAX)
		return refuse(r, "%s: more than %d places", field, DIALECT_ALTERNATIVES_MAX);
	return 0;
}

static int field_read(const struct reader *r, struct dialect *row, struct dialect_shape *shape, char *text)
{
	char *value = strchr(text, '=');

	if (!value)
		return refuse(r, "\"%.80s\" is not FIELD=PLACE", text);
	*value++ = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		int e;

		if (strcmp(fields[i].name, text))
			continue;
		if (shape->where[fields[i].field] || (fields[i].field == D_STREAM && row->stream != STREAM_FIELD))
			return refuse(r, "%s is given twice", text);
		if (fields[i].field == D_STREAM && (!strcmp(value, "always") || !strcmp(value, "never"))) {
			row->stream = *value == 'a' ? STREAM_ALWAYS : STREAM_NEVER;
			return 0;
		}
		e = paths_read(r, text, value);
		if (e == 0)
			shape->where[fields[i].field] = value;
		return e;
	}
	return refuse(r, "no field is called \"%.80s\" (model, stream, max_tokens, user, logprobs, prompt, answered_model, finish, id, text)", text);
}

/* A wildcard is a whole segment, or the part of one before a colon; two at most, and one name: matching stays short. */
static int path_check(const struct reader *r, const char *path)
{
	unsigned wild = 0, named = 0;

	if (*path != '/' || strlen(path) > PATH_BYTES_MAX)
		return refuse(r, "a path begins with / and has at most %d bytes", PATH_BYTES_MAX);
	for (const char *p = path; *p; p++) {
		bool name = !strncmp(p, "{model}", 7);

		if (*p == '?' || *p == '#' || (unsigned char)*p <= ' ' || (unsigned char)*p >= 127)
			return refuse(r, "a path has no query and no byte that is not printable ASCII");
		if (!name && (*p == '{' || *p == '}'))
			return refuse(r, "the only name in braces is {model}");
		if (!name && *p != '*')
			continue;
		wild++;
		named += name;
		if (p[-1] != '/' || (p += name ? 6 : 0, p[1] && p[1] != '/' && p[1] != ':'))
			return refuse(r, "{model} and * stand for a whole segment of a path");
	}
	if (wild > 2 || named > 1)
		return refuse(r, "a path has at most two wildcards, and one {model}");
	return 0;
}

static int row_read(const struct reader *r, enum record_kind kind, char *rest)
{
	struct dialect_file *f = r->file;
	struct dialect *row = &f->rows[f->count];
	struct dialect_shape *shape = &f->shapes[f->count];
	const char *method = word(&rest), *path = word(&rest);
	size_t request = 0, response = 0;
	char *text;
	int e;

	if (f->count == DIALECT_FILE_ROWS)
		return refuse(r, "more than %d rows", DIALECT_FILE_ROWS);
	if (!method || !path)
		return refuse(r, "a row is KIND METHOD PATH [FIELD=PLACE]...");
	if (strcmp(method, "*") && (strlen(method) > 16 || strspn(method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != strlen(method)))
		return refuse(r, "\"%.80s\" is not a method: POST, or * for any", method);
	e = path_check(r, path);
	if (e < 0)
		return e;
	*row = (struct dialect){ .path = path, .method = strcmp(method, "*") ? method : NULL, .kind = kind, .spoken_by = "the user's file" };
	*shape = (struct dialect_shape){ .name = "user" };
	while (e == 0 && (text = word(&rest)))
		e = kind == KIND_CONTROL ? refuse(r, "control calls have no fields") : field_read(r, row, shape, text);
	for (int k = 0; e == 0 && k < D_FIELD_COUNT; k++) {
		const char *paths[DIALECT_ALTERNATIVES_MAX];

		*(k < D_REQUEST_COUNT ? &request : &response) += dialect_paths(shape, (enum dialect_field)k, paths);
	}
	if (e == 0 && MAX(request, response) > JSON_PATHS_MAX)
		return refuse(r, "more than %d places in one row", JSON_PATHS_MAX);
	if (e == 0 && kind != KIND_CONTROL)
		row->shape = shape;
	if (e == 0 && kind != KIND_INFERENCE)
		row->stream = STREAM_NEVER;
	f->count += e == 0;
	return e;
}

/* ---- names of counts and of generated text -------------------------------------------------------- */
static int names_read(const struct reader *r, enum weir_action action, uint8_t slot, char *rest)
{
	CLEANUP(freep) struct weir_automaton *trial = malloc(sizeof(*trial));
	struct dialect_file *f = r->file;
	const char *name;
	unsigned n = 0;

	if (!trial)
		return -ENOMEM;
	for (; (name = word(&rest)); n++) {
		int e;

		if (strlen(name) > DIALECT_FILE_NAME_MAX || !is_made_of(name, "_-."))
			return refuse(r, "a name is letters, digits, _ - and dots, at most %d", DIALECT_FILE_NAME_MAX);
		if (f->key_count == AUTOMATON_KEYS_MAX)
			return refuse(r, "more than %d names", AUTOMATON_KEYS_MAX);
		f->keys[f->key_count++] = (struct automaton_key){ name, action, slot };
		e = automaton_build_with(f->keys, f->key_count, trial);
		if (e == -EINVAL)
			return refuse(r, "\"%s\" means something else already", name);
		if (e == -E2BIG)
			return refuse(r, "\"%s\": no room for so many names, or such long ones", name);
		if (e < 0)
			return e;
	}
	return n ? 0 : refuse(r, "no name is given");
}

static int tokens_read(const struct reader *r, char *rest)
{
	static const struct {
		const char *name;
		uint8_t slot;
	} slots[] = { { "prompt", WEIR_TOK_PROMPT }, { "completion", WEIR_TOK_COMPLETION }, { "cached", WEIR_TOK_CACHED }, { "reasoning", WEIR_TOK_REASONING } };
	const char *what = word(&rest);

	for (size_t i = 0; what && i < ARRAY_SIZE(slots); i++)
		if (!strcmp(slots[i].name, what))
			return names_read(r, WEIR_ACT_TOKENS, slots[i].slot, rest);
	return refuse(r, "tokens are prompt, completion, cached or reasoning");
}

static int line_read(const struct reader *r, char *line)
{
	char *what = word(&line);

	if (!what || *what == '#')
		return 0;
	if (!strcmp(what, "inference"))
		return row_read(r, KIND_INFERENCE, line);
	if (!strcmp(what, "embedding"))
		return row_read(r, KIND_EMBEDDING, line);
	if (!strcmp(what, "control"))
		return row_read(r, KIND_CONTROL, line);
	if (!strcmp(what, "tokens"))
		return tokens_read(r, line);
	if (!strcmp(what, "text"))
		return names_read(r, WEIR_ACT_CONTENT, 0, line);
	return refuse(r, "a line begins with inference, embedding, control, tokens or text, not \"%.40s\"", what);
}

int dialect_file_parse(const char *name, struct span text, struct dialect_file **ret, char why[DIALECT_FILE_WHY])
{
	CLEANUP(dialect_file_freep) struct dialect_file *f = calloc(1, sizeof(*f));
	struct reader r = { f, name, 0, why };
	char *line;
	int e = 0;

	*why = '\0';
	if (!f || !(f->text = malloc(text.n + 1)))
		return -ENOMEM;
	if (text.n)
		memcpy(f->text, text.p, text.n);
	f->text[text.n] = '\0';
	line = f->text;
	for (char *end = f->text + text.n; e == 0 && line < end;) {
		char *next = memchr(line, '\n', (size_t)(end - line));

		r.line++;
		if (next)
			*next = '\0';
		else
			next = end;
		if (memchr(line, '\0', (size_t)(next - line)))
			e = refuse(&r, "a NUL byte");
		else
			e = line_read(&r, line);
		line = next + 1;
	}
	if (e < 0)
		return e;
	*ret = TAKE_PTR(f);
	return 0;
}

int dialect_file_read(const char *path, struct dialect_file **ret, char why[DIALECT_FILE_WHY])
{
	CLEANUP(freep) char *text = malloc(DIALECT_FILE_MAX + 1);
	CLEANUP(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	size_t n = 0;
	int r = fd < 0 || fstat(fd, &st) < 0 ? -errno : !S_ISREG(st.st_mode) ? -EISDIR : 0;

	if (!text)
		r = -ENOMEM;
	while (r == 0 && n <= DIALECT_FILE_MAX) {
		ssize_t got = read(fd, text + n, DIALECT_FILE_MAX + 1 - n);

		if (got < 0)
			r = -errno;
		if (got <= 0)
			break;
		n += (size_t)got;
	}
	if (r == 0 && n > DIALECT_FILE_MAX)
		r = -EFBIG;
	if (r < 0) {
		snprintf(why, DIALECT_FILE_WHY, "%.300s: %s", path, r == -EISDIR ? "not a file" : strerror(-r));
		return r;
	}
	r = dialect_file_parse(path, (struct span){ text, n }, ret, why);
	if (r < 0 && !*why)
		snprintf(why, DIALECT_FILE_WHY, "%.300s: %s", path, strerror(-r));
	return r;
}

struct dialect_file *dialect_file_free(struct dialect_file *f)
{
	if (f)
		free(f->text);
	free(f);
	return NULL;
}
