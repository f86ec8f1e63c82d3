/* prompt.c - from the slices of a body to the text of the prompt, and to its turn. */
#include "decode/prompt.h"

#include "decode/dialect.h"
#include "decode/json.h"
#include "decode/prompt_score.h"

#include <math.h>
#include <strings.h>

#define PARTS_MAX 256 /* strings of one prompt; 5 KiB of JSON hold hardly more */
#define BLOB_MIN 256  /* bytes without a blank, of base64's alphabet: the rest of a picture, not of a sentence */

enum role { ROLE_UNKNOWN, ROLE_USER, ROLE_MODEL, ROLE_SYSTEM };

struct part {
	uint16_t at, len; /* in the text */
	uint16_t message;
	uint8_t role; /* as its place says; else that of its message */
};

struct prompt {
	uint8_t key[SIPHASH_KEY_BYTES];
	uint64_t seed;
	struct prompt_scorer *scorer;
	/* of the prompt that is being read; wiped after it */
	const char *paths[JSON_PATHS_MAX];
	size_t paths_n;
	bool in_tail;
	size_t n, parts_n;
	uint8_t roles[2 * PARTS_MAX]; /* by message: of the head, then of the tail */
	struct part parts[PARTS_MAX];
	char text[PROMPT_TEXT_MAX];
};

/* ---- text ----------------------------------------------------------------------------------------- */
/* Runs of blanks become one: a line feed where there was one among them, for lines mean something. In place; the length left. */
static size_t squeeze(char *p, size_t n)
{
	size_t out = 0;

	for (size_t i = 0; i < n;) {
		char blank = 0;

		while (i < n && (p[i] == ' ' || p[i] == '\t' || p[i] == '\r' || p[i] == '\n')) {
			blank = blank == '\n' || p[i] == '\n' ? '\n' : ' ';
			i++;
		}
		if (blank && out && i < n)
			p[out++] = blank;
		while (i < n && p[i] != ' ' && p[i] != '\t' && p[i] != '\r' && p[i] != '\n')
			p[out++] = p[i++];
	}
	return out;
}

static bool is_blob(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!((p[i] >= '0' && p[i] <= '9') || ((p[i] | 32) >= 'a' && (p[i] | 32) <= 'z') || p[i] == '+' || p[i] == '/' || p[i] == '=' || p[i] == '-' || p[i] == '_'))
			return false;
	return n >= BLOB_MIN;
}

static enum role role_named(struct span raw)
{
	static const struct {
		const char *name;
		enum role role;
	} names[] = {
		{ "assistant", ROLE_MODEL }, { "model", ROLE_MODEL }, { "ai", ROLE_MODEL }, { "bot", ROLE_MODEL }, { "gpt", ROLE_MODEL },
		{ "system", ROLE_SYSTEM }, { "developer", ROLE_SYSTEM },
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (raw.n == strlen(names[i].name) && !strncasecmp(raw.p, names[i].name, raw.n))
			return names[i].role;
	return raw.n ? ROLE_USER : ROLE_UNKNOWN;
}

static bool is_system_path(const char *path)
{
	return !strncmp(path, "system", 6) || !strncmp(path, "instructions", 12);
}

static void on_string(void *ctx, const struct json_string *s)
{
	struct prompt *p = ctx;
	uint32_t message = MIN(s->element, PARTS_MAX - 1u) + (p->in_tail ? PARTS_MAX : 0u);
	struct part *part = &p->parts[p->parts_n];
	size_t n;

	if (s->path + 1 == p->paths_n) {
		if (!s->value.cut && !s->headless)
			p->roles[message] = (uint8_t)role_named(s->value.raw);
		return;
	}
	if (p->parts_n == PARTS_MAX || p->n + 1 >= sizeof(p->text))
		return;
	if (s->headless && is_blob(s->value.raw.p, s->value.raw.n))
		return;
	n = json_text(&s->value, p->text + p->n, sizeof(p->text) - p->n - 1);
	n = squeeze(p->text + p->n, n);
	if (!n)
		return;
	*part = (struct part){ .at = (uint16_t)p->n, .len = (uint16_t)n, .message = (uint16_t)message,
			       .role = !s->headless && is_system_path(p->paths[s->path]) ? ROLE_SYSTEM : ROLE_UNKNOWN };
	p->parts_n++;
	p->n += n;
	p->text[p->n++] = '\n';
}

static enum role role_of(const struct prompt *p, const struct part *part)
{
	return (enum role)(part->role ? part->role : p->roles[part->message]);
}

/*
 * What is new: the parts behind the model's last words, without the system's; where there are none, the last of the user's. They
 * are moved to the front of the text; returns their length.
 */
static size_t keep_turn(struct prompt *p)
{
	size_t from = 0, to = p->parts_n, out = 0, user = p->parts_n;
	bool any = false;

	for (size_t i = 0; i < p->parts_n; i++) {
		enum role role = role_of(p, &p->parts[i]);

		if (role == ROLE_MODEL) {
			from = i + 1;
			any = false;
		} else if (role != ROLE_SYSTEM) {
			any = true;
			user = i;
		}
	}
	if (!any && user < p->parts_n) {
		from = user;
		to = user + 1;
	} else if (!any) {
		from = 0; /* nothing but the system's words: they are what is asked */
	}
	for (size_t i = from; i < to; i++) {
		const struct part *part = &p->parts[i];

		if (any && role_of(p, part) == ROLE_SYSTEM)
			continue;
		memmove(p->text + out, p->text + part->at, part->len + 1u);
		out += part->len + 1u;
	}
	return out ? out - 1 : 0;
}

/* ---- raw prompts in a chat template ---------------------------------------------------------------- */
#define OPENING_MAX 48 /* a template shows itself so early */

static struct span find(struct span text, const char *what)
{
	const char *at = text.n ? memmem(text.p, text.n, what, strlen(what)) : NULL;

	return at ? (struct span){ at, text.n - (size_t)(at - text.p) } : (struct span){ 0 };
}

static struct span behind(struct span text, const char *what)
{
	size_t n = strlen(what);

	return (struct span){ text.p + n, text.n - n };
}

/* The last thing the user says, where the text is a whole conversation in the model's own notation. */
static struct span templated_turn(struct span text)
{
	static const struct {
		const char *opens, *user, *ends;
	} kinds[] = {
		{ "<|im_start|>", "<|im_start|>user", "<|im_end|>" },
		{ "<|start_header_id|>", "<|start_header_id|>user<|end_header_id|>", "<|eot_id|>" },
		{ "<start_of_turn>", "<start_of_turn>user", "<end_of_turn>" },
		{ "[INST]", "[INST]", "[/INST]" },
		{ "<|user|>", "<|user|>", "<|assistant|>" },
		{ "<|system|>", "<|user|>", "<|assistant|>" },
		{ "<|start|>", "<|start|>user<|message|>", "<|end|>" },
		{ "<\xef\xbd\x9c", "<\xef\xbd\x9cUser\xef\xbd\x9c>", "<\xef\xbd\x9c" "Assistant\xef\xbd\x9c>" },
		{ "Below is an instruction", "### Instruction:", "### Response:" },
		{ "### Instruction:", "### Instruction:", "### Response:" },
		{ "### System:", "### User:", "### Assistant:" },
		{ "A chat between", "USER:", "ASSISTANT:" },
		{ "Human:", "Human:", "\nAssistant:" },
		{ "User:", "User:", "\nAssistant:" },
	};
	struct span opening = { text.p, MIN(text.n, OPENING_MAX) };

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct span turn = { 0 }, next = text, end;

		if (!find(opening, kinds[i].opens).n)
			continue;
		while ((next = find(next, kinds[i].user)).n) {
			next = behind(next, kinds[i].user);
			turn = next;
		}
		end = find(turn, kinds[i].ends);
		/* "Human:" alone is an ordinary word */
		if (!turn.n || (!end.n && *kinds[i].opens != '<'))
			continue;
		turn.n -= end.n;
		return turn;
	}
	return text;
}

/* ---- features ------------------------------------------------------------------------------------- */
static float entropy_of(struct span text)
{
	uint16_t count[256] = { 0 };
	double sum = 0;

	for (size_t i = 0; i < text.n; i++)
		count[(unsigned char)text.p[i]]++;
	for (int i = 0; i < 256; i++)
		if (count[i])
			sum += count[i] * log2(count[i]);
	return text.n ? (float)MAX(log2((double)text.n) - sum / (double)text.n, 0.0) : 0;
}

static void wipe(struct prompt *p)
{
	explicit_bzero(p->text, sizeof(p->text));
	memset(p->roles, 0, sizeof(p->roles));
	p->n = p->parts_n = p->paths_n = 0;
	p->in_tail = false;
}

static void features(const struct prompt *p, struct span turn, struct prompt_features *f)
{
	f->sim = prompt_sim(p->seed, turn);
	f->entropy = entropy_of(turn);
	f->injection = (float)prompt_score(p->scorer, turn, NULL);
}

void prompt_read(struct prompt *p, const struct dialect_shape *shape, struct span head, struct span tail, uint64_t body_bytes, struct prompt_features *ret)
{
	struct span turn;
	size_t n, turn_n;

	*ret = (struct prompt_features){ 0 };
	p->paths_n = dialect_paths(shape, D_PROMPT, p->paths);
	if (!p->paths_n)
		return;
	p->paths[p->paths_n++] = "*.*.role"; /* messages, contents, input: whoever speaks so calls it so */
	json_each(head, p->paths, p->paths_n, on_string, p);
	p->in_tail = true;
	if (tail.n)
		json_each_tail(tail, p->paths, p->paths_n, on_string, p);
	n = p->n;
	if (n > 1) {
		bool roleless = true;

		ret->found = true;
		ret->hash = siphash(p->key, p->text, n) ^ (tail.n ? siphash(p->key, &body_bytes, sizeof(body_bytes)) : 0);
		for (size_t i = 0; i < p->parts_n; i++)
			roleless &= role_of(p, &p->parts[i]) == ROLE_UNKNOWN;
		turn_n = keep_turn(p);
		turn = (struct span){ p->text, turn_n };
		features(p, roleless ? templated_turn(turn) : turn, ret);
	}
	wipe(p);
}

void prompt_read_text(struct prompt *p, struct span text, struct prompt_features *ret)
{
	*ret = (struct prompt_features){ 0 };
	p->n = MIN(text.n, sizeof(p->text));
	if (p->n)
		memcpy(p->text, text.p, p->n);
	text = (struct span){ p->text, squeeze(p->text, p->n) };
	if (text.n) {
		ret->found = true;
		ret->hash = siphash(p->key, text.p, text.n);
		features(p, templated_turn(text), ret);
	}
	wipe(p);
}

/* ---- life ----------------------------------------------------------------------------------------- */
int prompt_new(const uint8_t key[SIPHASH_KEY_BYTES], struct prompt **ret)
{
	struct prompt *p = calloc(1, sizeof(*p));
	uint64_t half;

	if (!p)
		return -ENOMEM;
	p->scorer = prompt_scorer_new();
	if (!p->scorer) {
		free(p);
		return -ENOMEM;
	}
	/* keys of their own: nobody compares a prompt's hash with an API key's */
	for (int i = 0; i < 2; i++) {
		half = siphash(key, i ? "prompt hash 1" : "prompt hash 0", 13);
		memcpy(p->key + 8 * i, &half, 8);
	}
	p->seed = siphash(key, "prompt sim", 10);
	*ret = p;
	return 0;
}

struct prompt *prompt_free(struct prompt *p)
{
	if (!p)
		return NULL;
	prompt_scorer_free(p->scorer);
	explicit_bzero(p, sizeof(*p));
	free(p);
	return NULL;
}
