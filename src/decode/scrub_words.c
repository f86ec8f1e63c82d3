/* scrub_words.c - the names that the decoder knows, out of its own tables, so that nothing it needs can be forgotten here. */
#include "decode/scrub_words.h"

#include "decode/automaton.h"
#include "decode/dialect.h"

#define SLOTS 2048u /* power of two; the tables have about 250 names */

struct scrub_words {
	struct {
		char name[NAME_LONGEST];
		uint16_t flags;
	} slot[SLOTS];
	size_t used;
};

static size_t slot_of(const struct scrub_words *w, struct span name)
{
	uint32_t h = 2166136261u;

	for (size_t i = 0; i < name.n; i++)
		h = (h ^ (unsigned char)name.p[i]) * 16777619u;
	h %= SLOTS;
	while (w->slot[h].name[0] && !span_eq(span_of(w->slot[h].name), name))
		h = (h + 1) % SLOTS;
	return h;
}

static int add(struct scrub_words *w, struct span name, uint16_t flags)
{
	size_t i;

	if (!name.n || name.n >= NAME_LONGEST || span_eq(name, SPAN("*")))
		return 0;
	i = slot_of(w, name);
	if (!w->slot[i].name[0]) {
		if (++w->used > SLOTS / 2)
			return -E2BIG;
		memcpy(w->slot[i].name, name.p, name.n);
	}
	w->slot[i].flags |= (uint16_t)(flags | NAME_KNOWN);
	return 0;
}

static uint16_t flags_of(enum dialect_field f)
{
	switch (f) {
	case D_MODEL:
	case D_RESPONSE_MODEL:
		return NAME_MODEL;
	case D_STREAM:
	case D_MAX_TOKENS:
	case D_LOGPROBS:
		return NAME_NUMBER;
	case D_USER:
		return NAME_USER;
	case D_PROMPT:
	case D_TEXT:
		return NAME_TEXT;
	case D_OWNER: /* also a tool's, a schema's, a person's name */
		return 0;
	default:
		return NAME_ID;
	}
}

/* A path's last step gets the flags. */
static int add_path(struct scrub_words *w, const char *path, enum dialect_field f)
{
	const uint16_t step = f < D_REQUEST_COUNT ? NAME_STEP_ASKED : NAME_STEP_ANSWERED, flags = flags_of(f);
	int r = 0;

	while (r == 0) {
		size_t n = strcspn(path, ". ");
		bool last = path[n] != '.';
		/* what follows a last name but `*` is an element of it */
		bool rest_is_any = !last && path[n + 1] == '*' && path[n + 2] != '.';

		r = add(w, (struct span){ path, n }, last || rest_is_any ? flags : step);
		if (last)
			break;
		path += n + 1;
	}
	return r;
}

static uint16_t flags_of_pattern(const struct automaton_pattern *p)
{
	switch (p->action) {
	case WEIR_ACT_TOKENS:
		return NAME_NUMBER;
	case WEIR_ACT_CONTENT:
	case WEIR_ACT_EMPTY:
		return NAME_TEXT;
	case WEIR_ACT_FINISH:
		return NAME_ID | NAME_NUMBER;
	case WEIR_ACT_SKIP:
		return p->text[strlen(p->text) - 1] == '[' ? NAME_ECHO_ARRAY : NAME_ECHO_OBJECT;
	default:
		return 0;
	}
}

int scrub_words_new(struct scrub_words **ret)
{
	static const char *const counts[] = { "frequency_penalty", "n", "presence_penalty", "seed", "temperature", "top_k", "top_p" };
	static const char *const said[] = { "code", "created", "http_status_code", "index" };
	static const char *const containers[] = { "completion_tokens_details", "error", "input_token_details", "input_tokens_details", "meta", "metrics", "options",
						  "output_tokens_details", "prompt_tokens_details", "results", "stream_options", "timings", "token", "usage", "usageMetadata" };
	static const char *const names[] = { "message", "object", "type" };
	struct scrub_words *w = calloc(1, sizeof(*w));
	const struct automaton_pattern *patterns;
	const struct dialect *rows;
	size_t n;
	int r = w ? 0 : -ENOMEM;

	if (r < 0)
		return r;
	rows = dialect_rows(&n);
	for (size_t i = 0; i < n && r == 0; i++) {
		for (int f = 0; rows[i].shape && f < D_FIELD_COUNT && r == 0; f++) {
			const char *paths[DIALECT_ALTERNATIVES_MAX];
			size_t count = dialect_paths(rows[i].shape, (enum dialect_field)f, paths);

			for (size_t k = 0; k < count && r == 0; k++)
				r = add_path(w, paths[k], (enum dialect_field)f);
		}
	}
	patterns = automaton_patterns(&n);
	for (size_t i = 0; i < n && r == 0; i++) {
		const char *name = strchr(patterns[i].text, '"'), *end = name ? strchr(name + 1, '"') : NULL;

		if (patterns[i].root == WEIR_ROOT_BODY && end)
			r = add(w, (struct span){ name + 1, (size_t)(end - name - 1) }, flags_of_pattern(&patterns[i]));
	}
	for (size_t i = 0; i < ARRAY_SIZE(counts) && r == 0; i++)
		r = add(w, span_of(counts[i]), NAME_NUMBER);
	for (size_t i = 0; i < ARRAY_SIZE(said) && r == 0; i++)
		r = add(w, span_of(said[i]), NAME_NUMBER_ANSWERED);
	for (size_t i = 0; i < ARRAY_SIZE(containers) && r == 0; i++)
		r = add(w, span_of(containers[i]), NAME_CONTAINER);
	for (size_t i = 0; i < ARRAY_SIZE(names) && r == 0; i++)
		r = add(w, span_of(names[i]), i ? NAME_ID : 0);
	if (r < 0)
		free(w);
	else
		*ret = w;
	return r;
}

struct scrub_words *scrub_words_free(struct scrub_words *w)
{
	free(w);
	return NULL;
}

uint16_t scrub_name(const struct scrub_words *w, struct span name)
{
	return name.n && name.n < NAME_LONGEST && !memchr(name.p, '\0', name.n) ? w->slot[slot_of(w, name)].flags : 0;
}

bool scrub_word(struct span text)
{
	static const char *const words[] = { "assistant", "auto", "developer", "error", "float", "function", "image_url", "input_text", "json_object", "json_schema",
					     "length", "list", "message", "none", "output_text", "stop", "system", "text", "tool", "tool_calls", "triton", "user" };

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (span_eq(text, span_of(words[i])))
			return true;
	return false;
}
