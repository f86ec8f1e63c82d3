/* prompt_score.c - one pass over a text: letters, words, classes of words near each other. */
#include "decode/prompt_score.h"

#include "decode/prompt_letters.h"
#include "decode/prompt_rules.h"

#define WORD_MAX 48	   /* folded bytes of one word; of a longer one the beginning counts */
#define HIDDEN_MAX 1536	   /* bytes of decoded text looked at */
#define BLOB_LEAST 24	   /* characters of base64 or hexadecimal that may hide words */
#define STEM_MIN 2
#define SENTENCE 8	   /* half words that the end of a sentence counts for */
#define LETTERS_LEAST 4    /* single letters in a row that make a word */
#define SUFFIX_WORDS 48	   /* blank-separated pieces at the end that are looked at for gibberish */

struct word {
	char w[WORD_MAX];
	uint8_t n;
	uint8_t plain; /* letters and digits in all */
	bool latin, other, digit, letter, hidden, lookalike;
};

struct reader {
	const struct prompt_scorer *s;
	struct lane lane, rot;
	struct word word;
	struct word spaced; /* letters that stand alone, put together */
	uint64_t recent[PHRASE_WORDS]; /* whole hashes of the last words, newest first */
	int32_t at;		       /* half words */
	bool quote, single; /* inside quotation marks */
	uint32_t turns, assistant_turns, user_after, odd_turns, tokens;
	uint32_t invisible, tags, mixed, fancy, bidi, encoded, blobs, rot13;
	bool in_flag;
	char hidden[HIDDEN_MAX]; /* tag characters, decoded */
	size_t hidden_n;
};

static void score_rules(const struct prompt_scorer *s, struct span text, struct lane *ret, struct reader *r);

/* ---- words: letters ------------------------------------------------------------------------------------ */
static void word_put(struct word *w, uint32_t c)
{
	if (w->plain < UINT8_MAX)
		w->plain++;
	if (w->n + 3 > WORD_MAX)
		return;
	if (c < 0x80) {
		w->w[w->n++] = (char)c;
	} else if (c < 0x800) {
		w->w[w->n++] = (char)(0xc0 | c >> 6);
		w->w[w->n++] = (char)(0x80 | (c & 63));
	} else {
		w->w[w->n++] = (char)(0xe0 | c >> 12);
		w->w[w->n++] = (char)(0x80 | (c >> 6 & 63));
		w->w[w->n++] = (char)(0x80 | (c & 63));
	}
}

/* Takes a letter into the word; false: it is none. */
static bool word_letter(struct word *w, uint32_t c, uint32_t *fancy)
{
	char base;

	if (c < 0x80) {
		bool digit = c >= '0' && c <= '9';

		if (!digit && !((c | 32) >= 'a' && (c | 32) <= 'z'))
			return false;
		w->digit |= digit;
		w->latin |= !digit;
		w->letter |= !digit;
		word_put(w, digit ? c : c | 32);
		return true;
	}
	base = letter_latin(c);
	if (base != ' ') {
		w->latin = w->letter = true;
		word_put(w, (uint32_t)base);
		return true;
	}
	base = letter_fancy(c);
	if (base) {
		w->latin = w->letter = true;
		(*fancy)++;
		word_put(w, (uint32_t)base);
		return true;
	}
	if (letter_is_hangul(c) || (c >= 0x370 && c < 0x2000)) {
		w->other = w->letter = true;
		w->lookalike |= c < 0x530;
		word_put(w, letter_lower(c));
		return true;
	}
	return false;
}

/* ---- words ----------------------------------------------------------------------------------------- */
/* Length of a Korean word without the particle at its end: phrases are looked up without. */
static size_t without_particle(const char *w, size_t n)
{
	static const char *const particles[] = { "을", "를", "은", "는", "이", "가", "도", "만", "의", "에", "로" };

	for (size_t i = 0; n > 6 && i < ARRAY_SIZE(particles); i++)
		if (!memcmp(w + n - 3, particles[i], 3))
			return n - 3;
	return n;
}

static uint32_t stem_classes(const struct prompt_scorer *s, const char *w, size_t n, uint64_t *ret_whole)
{
	uint64_t h = HASH_START;
	uint32_t out = 0;

	for (size_t i = 0; i < n; i++) {
		h = (h ^ (unsigned char)w[i]) * HASH_STEP;
		if (i + 1 >= STEM_MIN)
			out |= prompt_classes(s, h);
	}
	*ret_whole = h ^ HASH_WHOLE;
	return out | prompt_classes(s, *ret_whole);
}

/* Digits for letters. false: it has none that stand for any. */
static bool unleet(const struct word *w, char *out, char one)
{
	static const char to[] = "oizeasbtbg";
	bool any = false;

	for (uint8_t i = 0; i < w->n; i++) {
		char c = w->w[i];

		if (c >= '0' && c <= '9') {
			c = c == '1' ? one : to[c - '0'];
			if (w->w[i] == '5')
				c = 's';
			if (w->w[i] == '4')
				c = 'a';
			any = true;
		}
		out[i] = c;
	}
	return any;
}

static void rot13_word(struct reader *r, const struct word *w)
{
	char turned[WORD_MAX];
	uint64_t whole;
	uint32_t classes;

	for (uint8_t i = 0; i < w->n; i++) {
		if (w->w[i] < 'a' || w->w[i] > 'z')
			return;
		turned[i] = (char)('a' + (w->w[i] - 'a' + 13) % 26);
	}
	classes = stem_classes(r->s, turned, w->n, &whole);
	if (classes)
		lane_hit(&r->rot, classes, r->at, false, false);
}

/* Cyrillic and Greek letters inside a Latin word are what they look like. */
static bool delook(const struct word *w, struct word *out)
{
	*out = (struct word){ 0 };
	for (size_t i = 0, n; i < w->n; i += n) {
		uint32_t c = letter_decode(w->w + i, w->n - i, &n);
		char base = c < 0x80 ? (char)c : letter_lookalike(c);

		if (!base)
			return false;
		word_put(out, (uint32_t)base);
	}
	return true;
}

static uint32_t phrase_classes(const struct reader *r)
{
	uint32_t out = 0;

	for (unsigned n = 2; n <= PHRASE_WORDS && r->recent[n - 1]; n++)
		out |= prompt_classes(r->s, prompt_hash_phrase(r->recent, n));
	return out;
}

static void word_read(struct reader *r, const struct word *w, bool disguised)
{
	char plain[WORD_MAX];
	struct word other;
	const struct word *look = w;
	uint64_t whole;
	uint32_t classes;

	r->at += 2;
	if (w->latin && w->lookalike) {
		r->mixed++;
		if (delook(w, &other)) {
			look = &other;
			disguised = true;
		}
	}
	classes = stem_classes(r->s, look->w, look->n, &whole);
	if (w->digit && w->letter) {
		for (int i = 0; i < 2 && !classes; i++) {
			if (!unleet(w, plain, i ? 'l' : 'i'))
				break;
			classes = stem_classes(r->s, plain, w->n, &whole);
		}
		disguised |= classes != 0;
	}
	memmove(r->recent + 1, r->recent, (PHRASE_WORDS - 1) * sizeof(r->recent[0]));
	r->recent[0] = w->other && (unsigned char)w->w[0] >= 0xea ? prompt_hash_bytes(w->w, without_particle(w->w, w->n)) ^ HASH_WHOLE : whole;
	classes |= phrase_classes(r);
	if (classes)
		lane_hit(&r->lane, classes, r->at, r->quote || r->single, disguised || w->hidden);
	else if (w->latin && !w->other && w->n >= 3)
		rot13_word(r, w);
}

static void spaced_flush(struct reader *r)
{
	if (r->spaced.plain >= LETTERS_LEAST) {
		int32_t at = r->at;

		r->at -= 2;
		word_read(r, &r->spaced, true);
		r->at = at;
	}
	r->spaced = (struct word){ 0 };
}

static void word_end(struct reader *r)
{
	struct word *w = &r->word;

	if (!w->n) /* between two words */
		return;
	if (w->plain == 1 && w->letter && w->latin) {
		word_put(&r->spaced, (unsigned char)w->w[0]);
		r->spaced.latin = r->spaced.letter = true;
		if (r->spaced.plain > 2)
			r->at -= 2; /* letters in a row are one word */
	} else {
		spaced_flush(r);
	}
	word_read(r, w, false);
	*w = (struct word){ 0 };
}

/* Chinese and Japanese: any run of characters from here on. */
static void ideograph(struct reader *r, const char *p, size_t n)
{
	uint64_t h = HASH_START;
	uint32_t classes = 0;

	r->at++;
	for (size_t i = 0, chars = 0; i < n && chars < 12; chars++) {
		size_t len = str_utf8_len(p + i, n - i);

		if (len != 3)
			break;
		for (size_t k = 0; k < 3; k++)
			h = (h ^ (unsigned char)p[i + k]) * HASH_STEP;
		i += 3;
		classes |= prompt_classes(r->s, h);
	}
	if (classes)
		lane_hit(&r->lane, classes, r->at, r->quote || r->single, false);
}

/* ---- what is not words ----------------------------------------------------------------------------- */
static bool begins(const char *p, size_t n, const char *what)
{
	size_t len = strlen(what);

	if (n < len)
		return false;
	for (size_t i = 0; i < len; i++) {
		char c = p[i];

		if (c >= 'A' && c <= 'Z')
			c |= 32;
		if (c != what[i])
			return false;
	}
	return true;
}

static void markup(struct reader *r, const char *p, size_t n)
{
	static const char *const tokens[] = { "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|system|>", "<|user|>", "<|assistant|>", "<|endoftext|>",
					      "<|end|>", "<|channel|>", "<start_of_turn>", "<end_of_turn>", "[inst]", "[/inst]", "<<sys>>", "<</sys>>" };
	static const char *const turns[] = { "<system>", "</system>", "[system]", "</user>", "<assistant>", "[assistant]" };

	for (size_t i = 0; i < ARRAY_SIZE(tokens); i++)
		r->tokens += begins(p, n, tokens[i]);
	for (size_t i = 0; i < ARRAY_SIZE(turns); i++)
		r->odd_turns += begins(p, n, turns[i]);
}

/* A line begins at p. */
static void line_begins(struct reader *r, const char *p, size_t n, bool first)
{
	static const char *const users[] = { "user:", "human:", "### user", "### human" };
	static const char *const models[] = { "assistant:", "ai:", "### assistant", "bot:", "chatbot:" };
	static const char *const systems[] = { "system:", "### system", "## system", "# system", "developer:", "system message:", "system prompt:" };

	while (n && (*p == ' ' || *p == '*')) {
		p++;
		n--;
	}
	for (size_t i = 0; i < ARRAY_SIZE(users); i++) {
		if (!begins(p, n, users[i]))
			continue;
		r->turns++;
		r->user_after += r->assistant_turns != 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(models); i++) {
		if (!begins(p, n, models[i]))
			continue;
		r->turns++;
		r->assistant_turns++;
	}
	for (size_t i = 0; i < ARRAY_SIZE(systems); i++)
		r->odd_turns += (!first || *systems[i] == '#') && begins(p, n, systems[i]);
}

static int base64_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '+' || c == '-')
		return 62;
	return c == '/' || c == '_' ? 63 : -1;
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 32;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool is_text(const char *p, size_t n)
{
	size_t blanks = 0, letters = 0;

	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)p[i];

		if (c < 0x20 && c != '\n' && c != '\t' && c != '\r')
			return false;
		blanks += c == ' ';
		letters += (c | 32) >= 'a' && (c | 32) <= 'z';
	}
	return n >= 12 && blanks && str_utf8_len(p, n) && letters * 2 > n;
}

/* What hides words: decoded, read by the same rules. */
static void hidden_text(struct reader *r, const char *p, size_t n)
{
	struct lane lane;
	struct reader *inner;

	if (!is_text(p, n))
		return;
	r->blobs++;
	inner = calloc(1, sizeof(*inner));
	if (!inner)
		return;
	score_rules(r->s, (struct span){ p, n }, &lane, inner);
	r->encoded += lane_holds(&lane, 0.25);
	explicit_bzero(inner, sizeof(*inner));
	free(inner);
}

/* A run of base64 or hexadecimal that begins at p; its length, 0: none that is long enough. */
static size_t blob(struct reader *r, const char *p, size_t n)
{
	char out[HIDDEN_MAX];
	size_t len = 0, hex = 0, digits = 0, upper = 0, small = 0, k = 0;
	uint32_t bits = 0;

	while (len < n && base64_value(p[len]) >= 0) {
		hex += hex_value(p[len]) >= 0;
		digits += p[len] >= '0' && p[len] <= '9';
		upper += p[len] >= 'A' && p[len] <= 'Z';
		small += p[len] >= 'a' && p[len] <= 'z';
		len++;
	}
	if (len < BLOB_LEAST || (hex == len && !digits) || (hex < len && (!upper || !small)))
		return len;
	if (hex == len) {
		for (size_t i = 0; i + 1 < len && k < sizeof(out); i += 2)
			out[k++] = (char)(hex_value(p[i]) << 4 | hex_value(p[i + 1]));
	} else {
		for (size_t i = 0; i < len && k < sizeof(out); i++) {
			bits = bits << 6 | (uint32_t)base64_value(p[i]);
			if (i % 4)
				out[k++] = (char)(bits >> (6 - 2 * (i % 4)) & 255);
		}
	}
	hidden_text(r, out, k);
	explicit_bzero(out, k);
	return len;
}

/*
 * Prose that ends in gibberish: among the last pieces between blanks many mix signs and letters in ways that nobody writes, brackets and
 * quotes do not close, and what comes before is plain. Code is told apart by its lines and by its balance.
 */
static bool odd_piece(const char *p, size_t n)
{
	size_t signs = 0, changes = 0, letters = 0;
	int last = 0;

	if (n > 7 && (memmem(p, n, "://", 3) || memmem(p, n, "@", 1)))
		return false;
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)p[i];
		int kind = (c | 32) >= 'a' && (c | 32) <= 'z' ? 1 : c >= '0' && c <= '9' ? 2 : c >= 0x80 ? 1 : 3;

		letters += kind == 1;
		/* what ends a word in prose */
		if (kind == 3 && ((i + 1 == n && memchr(".,;:!?)\"'", c, 9)) || (i == 0 && memchr("(\"'", c, 3)) || c == '\'' || c == '-' || c == '/'))
			continue;
		signs += kind == 3;
		changes += last && kind != last && (kind == 3 || last == 3);
		last = kind;
	}
	return signs >= 2 && (changes >= 1 || !letters);
}

/* Brackets without their other half, and a quotation mark without its. */
static unsigned unclosed(struct span text)
{
	static const char opening[] = "([{", closing[] = ")]}";
	unsigned open[3] = { 0 }, quotes = 0, n = 0;

	for (size_t i = 0; i < text.n; i++) {
		quotes += text.p[i] == '"';
		for (int k = 0; k < 3; k++) {
			open[k] += text.p[i] == opening[k];
			if (text.p[i] != closing[k])
				continue;
			n += !open[k];
			open[k] -= open[k] != 0;
		}
	}
	return n + open[0] + open[1] + open[2] + quotes % 2;
}

static bool gibberish_suffix(struct span text)
{
	size_t pieces = 0, odd = 0, from = text.n, streak_at = text.n, front_odd = 0, front = 0;

	/* the last line only */
	while (from && text.p[from - 1] != '\n' && text.n - from < 1024)
		from--;
	for (size_t end = text.n; end > from && pieces < SUFFIX_WORDS;) {
		size_t at = end;

		while (at > from && text.p[at - 1] != ' ')
			at--;
		if (at < end) {
			pieces++;
			if (odd_piece(text.p + at, end - at)) {
				odd++;
				streak_at = at;
			} else if (odd * 3 < pieces) {
				break;
			}
		}
		end = at ? at - 1 : 0;
	}
	if (odd < 5)
		return false;
	for (size_t i = from; i < streak_at;) {
		size_t end = i;

		while (end < streak_at && text.p[end] != ' ')
			end++;
		front += end > i;
		front_odd += end > i && odd_piece(text.p + i, end - i);
		i = end + 1;
	}
	return front >= 4 && front_odd * 8 <= front && unclosed((struct span){ text.p + streak_at, text.n - streak_at }) >= 2;
}

/* ---- the pass -------------------------------------------------------------------------------------- */
static void quotation(struct reader *r, uint32_t c, const char *p, size_t i, size_t n)
{
	bool before = i && ((p[i - 1] | 32) >= 'a' && (p[i - 1] | 32) <= 'z'), after = i + 1 < n && ((p[i + 1] | 32) >= 'a' && (p[i + 1] | 32) <= 'z');

	switch (c) {
	case '"':
		r->quote = !r->quote;
		break;
	case 0x201c: case 0x201e: case 0xab: case 0x300c:
		r->quote = true;
		break;
	case 0x201d: case 0xbb: case 0x300d:
		r->quote = false;
		break;
	case '\'': case '`':
		if (!before && after)
			r->single = true;
		else if (!after)
			r->single = false;
		break;
	default:
		break;
	}
}

/* A character that is no letter. */
static void sign(struct reader *r, uint32_t c, const char *p, size_t i, size_t n)
{
	if (c >= 0xe0000 && c <= 0xe007f) {
		if (r->in_flag)
			return;
		r->tags++;
		if (r->hidden_n < sizeof(r->hidden) && c >= 0xe0020)
			r->hidden[r->hidden_n++] = (char)(c - 0xe0000);
		return;
	}
	r->in_flag = c == 0x1f3f4;
	if (letter_is_invisible(c)) {
		r->invisible += c != 0xad && r->word.n && r->word.latin; /* a soft hyphen is what typesetters leave behind */
		r->word.hidden |= r->word.n && r->word.latin;
		return; /* the word goes on */
	}
	/* don't, can't: one word */
	if ((c == '\'' || c == 0x2019) && r->word.n > 1 && r->word.w[r->word.n - 1] == 'n') {
		size_t k = i + (c == '\'' ? 1 : 3);

		if (k < n && (p[k] | 32) == 't')
			return;
	}
	if (c == '@' && r->word.n && i + 1 < n && (p[i + 1] | 32) >= 'a' && (p[i + 1] | 32) <= 'z') {
		word_put(&r->word, 'a');
		return;
	}
	word_end(r);
	if (letter_is_ideograph(c)) {
		spaced_flush(r);
		ideograph(r, p + i, n - i);
		return;
	}
	r->bidi += letter_is_bidi(c);
	quotation(r, c, p, i, n);
	if (c == '.' || c == '!' || c == '?' || c == '\n' || c == 0x3002 || c == 0xff01 || c == 0xff1f) {
		bool ends = i + 1 >= n || p[i + 1] == ' ' || p[i + 1] == '\n' || c >= 0x80 || c == '\n';

		r->at += ends ? SENTENCE : 0;
		if (ends)
			spaced_flush(r);
		if (c == '\n') {
			r->single = r->quote = false;
			line_begins(r, p + i + 1, n - i - 1, false);
		}
	}
	if (c == '<' || c == '[')
		markup(r, p + i, n - i);
}

static void score_rules(const struct prompt_scorer *s, struct span text, struct lane *ret, struct reader *r)
{
	const char *p = text.p;
	size_t blob_end = 0, len;

	r->s = s;
	lane_init(&r->lane);
	lane_init(&r->rot);
	line_begins(r, p, text.n, true);
	for (size_t i = 0; i < text.n; i += len) {
		uint32_t c = (unsigned char)p[i];

		len = 1;
		if (c >= 0x80)
			c = letter_decode(p + i, text.n - i, &len);
		else if (i >= blob_end && !r->word.n && base64_value(p[i]) >= 0)
			blob_end = i + (ret == &r->lane ? blob(r, p + i, text.n - i) : 0);
		if (!word_letter(&r->word, c, &r->fancy))
			sign(r, c, p, i, text.n);
	}
	word_end(r);
	spaced_flush(r);
	if (ret != &r->lane)
		*ret = r->lane;
}

static uint32_t oddities_of(const struct reader *r, struct span text)
{
	const bool is[ODD_COUNT] = {
		[ODD_TOKEN] = r->tokens,
		[ODD_TURN] = r->odd_turns,
		[ODD_DIALOGUE] = r->assistant_turns && r->user_after,
		[ODD_MANY] = r->turns >= 8,
		[ODD_TAGS] = r->tags >= 8,
		[ODD_ZERO_WIDTH] = r->invisible >= 3,
		[ODD_MIXED] = r->mixed >= 2,
		[ODD_FANCY] = r->fancy >= 5,
		[ODD_BIDI] = r->bidi,
		[ODD_ENCODED] = r->encoded,
		[ODD_BLOB] = r->blobs && (r->lane.met & CLASS_BIT(DECODE)),
		[ODD_ROT13] = lane_holds(&r->rot, 0.5),
		[ODD_DISGUISED] = r->lane.disguised,
		[ODD_SUFFIX] = gibberish_suffix(text),
	};
	uint32_t odd = 0;

	for (unsigned i = 0; i < ODD_COUNT; i++)
		odd |= (uint32_t)is[i] << i;
	return odd;
}

double prompt_score(const struct prompt_scorer *s, struct span text, uint64_t *ret_rules)
{
	struct reader r = { 0 };
	uint64_t which = 0;
	double v = 0;

	if (text.n) {
		score_rules(s, text, &r.lane, &r);
		if (r.tags >= 8)
			hidden_text(&r, r.hidden, r.hidden_n);
		v = lane_score(&r.lane, oddities_of(&r, text), &which);
		explicit_bzero(&r, sizeof(r));
	}
	if (ret_rules)
		*ret_rules = which;
	return v;
}
