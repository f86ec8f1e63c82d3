/* scrub_body.c - bodies: JSON, alone or in the lines of an event stream. Whatever else they are is filler. */
#include "decode/scrub_internal.h"
#include "decode/scrub_words.h"

#include <ctype.h>

#define WORD_LONGEST 40   /* of `event:` and of a word that may be kept */
#define VALUE_LONGEST 128 /* as records cut them */
/* objects inside each other: */
#define ID_DEPTH_MAX 3    /* response.incomplete_details.reason */
#define LIMIT_DEPTH_MAX 3 /* instances.*.parameters.max_new_tokens; messages.*.content.*.input is a tool's, with names of its own */

enum how { HOW_FILL, HOW_NAME, HOW_MODEL, HOW_ID, HOW_USER, HOW_WORD };

/* ---- filler of the same shape ------------------------------------------------------------------------------ */
static int digit(uint8_t c)
{
	return isdigit(c) ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

static void put_at(struct side *d, uint64_t off, uint8_t c)
{
	d->s->o->put(d->s->ctx, d->dir, off, c);
}

/* Another character of as many bytes; of a pair of surrogates each half another half. */
static const char *code_like(unsigned code)
{
	return code < 0x80 ? "0078" : code < 0x800 ? "00d7" : code < 0xd800 || code > 0xdfff ? "4e00" : code < 0xdc00 ? "d83d" : "de00";
}

/* One byte of a string, between its quotes. */
static void fill(struct side *d, uint64_t off, uint8_t c)
{
	if (d->hex) {
		d->hex_at[4 - d->hex] = off;
		d->code = d->code << 4 | (unsigned)MAX(digit(c), 0);
		if (--d->hex)
			return;
		for (int i = 0; i < 4; i++)
			put_at(d, d->hex_at[i], (uint8_t)code_like(d->code)[i]);
		return;
	}
	if (d->fill_escape) {
		d->fill_escape = false;
		put_at(d, off, c == 'u' ? 'u' : 'n');
		d->hex = c == 'u' ? 4 : 0;
		d->code = 0;
		return;
	}
	if (c == '\\') {
		d->fill_escape = true;
		put_at(d, off, c);
		return;
	}
	put_at(d, off, c < 0x80 ? SCRUB_FILL : c < 0xc0 ? 0x97 : c < 0xe0 ? 0xc3 : c < 0xf0 ? 0xe4 : 0xf1);
}

static void fill_begin(struct side *d)
{
	d->how = HOW_FILL;
	d->fill_escape = false;
	d->hex = 0;
}

/* What waited is not to be kept. */
static void fill_waiting(struct side *d)
{
	fill_begin(d);
	for (size_t i = 0; i < d->n; i++)
		fill(d, d->at[i], d->text[i]);
	scrub_forget(d);
}

/* ---- strings ------------------------------------------------------------------------------------------------ */
static size_t longest(uint8_t how)
{
	return how == HOW_NAME ? NAME_LONGEST : how == HOW_WORD ? WORD_LONGEST : VALUE_LONGEST;
}

/* At the top, or where a response has it one below (response.model): deeper ones are anybody's. */
static bool is_model_place(const struct side *d)
{
	return d->objects == 1 || (d->objects == 2 && d->dir == WEIR_RESPONSE && (d->flags[d->depth - 1] & NAME_STEP_ANSWERED));
}

static uint8_t how_of(const struct side *d)
{
	uint16_t f = d->flags[d->depth];

	if (d->blind || d->beyond)
		return HOW_FILL;
	if (d->expect_name)
		return HOW_NAME;
	if (f & NAME_TEXT)
		return HOW_FILL;
	if (f & NAME_USER)
		return HOW_USER;
	if ((f & NAME_MODEL) && is_model_place(d))
		return HOW_MODEL;
	if ((f & NAME_ID) && d->dir == WEIR_RESPONSE && d->objects <= ID_DEPTH_MAX)
		return HOW_ID;
	return f & NAME_KNOWN ? HOW_WORD : HOW_FILL;
}

static void string_end(struct side *d)
{
	struct span t = { (char *)d->text, d->n };
	bool keep = false;

	d->in_string = false;
	switch (d->how) {
	case HOW_NAME:
		d->flags[d->depth] = scrub_name(d->s->o->words, t);
		keep = d->flags[d->depth] != 0;
		break;
	case HOW_MODEL:
		keep = scrub_is_model(t);
		break;
	case HOW_ID:
		keep = scrub_is_id(t);
		break;
	case HOW_WORD:
		keep = scrub_word(t);
		break;
	case HOW_USER:
		if (d->n)
			scrub_release_mapped(d, 0, d->n);
		return;
	default:
		if (d->is_name && !d->beyond)
			d->flags[d->depth] = 0;
		return;
	}
	if (keep)
		scrub_release(d, d->text);
	else
		fill_waiting(d);
}

static bool in_array(const struct side *d)
{
	return d->depth && (d->arrays >> (d->depth - 1) & 1);
}

/* The name before it has its value: no other may pass for that one. */
static void value_end(struct side *d)
{
	if (d->depth && !d->beyond && !in_array(d))
		d->flags[d->depth] = 0;
}

static void string_byte(struct side *d, uint8_t c)
{
	if (c == '"' && !d->escape) {
		string_end(d);
		if (!d->is_name)
			value_end(d);
		scrub_put(d, c);
		return;
	}
	d->escape = c == '\\' && !d->escape;
	if (d->how == HOW_FILL) {
		fill(d, d->off, c);
		return;
	}
	if (d->n == longest(d->how)) {
		fill_waiting(d);
		fill(d, d->off, c);
		return;
	}
	scrub_wait(d, c);
}

/* ---- JSON --------------------------------------------------------------------------------------------------- */
static void json_begin(struct side *d)
{
	d->text_mode = TEXT_JSON;
	d->depth = d->blind = d->objects = 0;
	d->beyond = 0;
	d->arrays = 0;
	d->flags[0] = NAME_KNOWN | NAME_CONTAINER;
	d->in_string = d->expect_name = d->escape = d->number = d->is_name = false;
	fill_begin(d);
}

static bool is_count(const struct side *d)
{
	uint16_t f = d->flags[d->depth], wanted = d->dir == WEIR_RESPONSE ? NAME_NUMBER | NAME_NUMBER_ANSWERED : NAME_NUMBER;

	if (d->dir == WEIR_REQUEST && d->objects > LIMIT_DEPTH_MAX)
		return false;
	return (f & wanted) && !(f & NAME_TEXT) && !d->blind && !d->beyond;
}

static void bracket_open(struct side *d, uint8_t c)
{
	uint16_t f = d->flags[d->depth], step = d->dir == WEIR_REQUEST ? NAME_STEP_ASKED : NAME_STEP_ANSWERED;
	/* an object is somebody's own unless its name is on a way that the decoder goes, or holds counts */
	bool own = c == '[' ? (f & NAME_ECHO_ARRAY) && !(f & step) : !(f & (step | NAME_CONTAINER));

	scrub_put(d, c);
	if (d->depth == SCRUB_DEPTH_MAX) {
		d->beyond++;
		return;
	}
	d->depth++;
	d->objects += c == '{';
	d->arrays &= ~(UINT64_C(1) << (d->depth - 1));
	d->arrays |= (uint64_t)(c == '[') << (d->depth - 1);
	/* of a list no element is an id or a count: token ids, labels */
	d->flags[d->depth] = c == '[' ? f & (uint16_t)~(NAME_ID | NAME_MODEL | NAME_NUMBER | NAME_NUMBER_ANSWERED) : 0;
	d->expect_name = c == '{';
	if (!d->blind && own)
		d->blind = d->depth;
}

static void bracket_close(struct side *d, uint8_t c)
{
	scrub_put(d, c);
	if (d->beyond) {
		d->beyond--;
		return;
	}
	if (!d->depth)
		return;
	if (d->blind == d->depth)
		d->blind = 0;
	d->objects -= !in_array(d);
	d->depth--;
	value_end(d);
	d->expect_name = false;
	if (!d->depth)
		d->text_mode = d->line_type ? TEXT_SKIP : TEXT_LOOK;
}

/* true, false or null waits: nothing else is kept. */
static void literal_end(struct side *d)
{
	struct span t = { (char *)d->text, d->n };

	if (span_eq(t, SPAN("true")) || span_eq(t, SPAN("false")) || span_eq(t, SPAN("null")))
		scrub_release(d, d->text);
	else
		scrub_forget(d);
}

static void json_byte(struct side *d, uint8_t c)
{
	if (d->in_string) {
		string_byte(d, c);
		return;
	}
	if (isalpha(c) && !(d->number && (c | 32) == 'e')) {
		d->number = false;
		scrub_wait(d, c);
		return;
	}
	if (d->n || d->over)
		literal_end(d);
	if (isdigit(c) || c == '-' || (d->number && c && strchr("+.eE", c))) {
		d->number = true;
		scrub_put(d, !isdigit(c) || is_count(d) ? c : '1');
		return;
	}
	d->number = false;
	switch (c) {
	case '"':
		scrub_put(d, c);
		fill_begin(d);
		d->how = how_of(d);
		d->in_string = true;
		d->is_name = d->expect_name;
		d->escape = false;
		return;
	case '{':
	case '[':
		bracket_open(d, c);
		return;
	case '}':
	case ']':
		bracket_close(d, c);
		return;
	case ',':
		scrub_put(d, c);
		value_end(d);
		d->expect_name = d->depth && !d->beyond && !in_array(d);
		return;
	case ':':
		scrub_put(d, c);
		d->expect_name = false;
		return;
	case ' ':
	case '\t':
	case '\r':
	case '\n':
		scrub_put(d, c);
		return;
	default:
		return; /* no JSON: filler */
	}
}

/* ---- lines -------------------------------------------------------------------------------------------------- */
static void field_end(struct side *d)
{
	struct span name = { (char *)d->text, d->n ? d->n - 1 : 0 };

	if (!d->over && span_eq(name, SPAN("data")))
		d->text_mode = TEXT_DATA;
	else if (!d->over && span_eq(name, SPAN("event")))
		d->text_mode = TEXT_WORD;
	else if (!d->over && (span_eq(name, SPAN("id")) || span_eq(name, SPAN("retry"))))
		d->text_mode = TEXT_SKIP;
	else {
		scrub_forget(d);
		scrub_put(d, ':');
		d->text_mode = TEXT_SKIP;
		return;
	}
	scrub_release(d, d->text);
}

/* `event:` is a name of the API; data that is no JSON may be [DONE]. */
static void word_end(struct side *d, uint8_t c)
{
	struct span t = { (char *)d->text, d->n };
	bool word = !d->over && d->n <= WORD_LONGEST;

	while (t.n && (t.p[t.n - 1] == '\r' || t.p[t.n - 1] == ' '))
		t.n--;
	while (t.n && *t.p == ' ')
		t = (struct span){ t.p + 1, t.n - 1 };
	for (size_t i = 0; i < t.n; i++)
		word &= islower((unsigned char)t.p[i]) || t.p[i] == '_' || t.p[i] == '.';
	if (word || (!d->over && span_eq(t, SPAN("[DONE]"))))
		scrub_release(d, d->text);
	else
		scrub_forget(d);
	scrub_put(d, c);
	d->text_mode = TEXT_LINE;
}

static void line_byte(struct side *d, uint8_t c)
{
	/* wherever it is: a line is over, and what it left open is */
	if (c == '\n' && d->text_mode != TEXT_WORD) {
		/* a document may go on in the event's next line of data */
		d->resume = d->text_mode == TEXT_JSON ? d->depth && !d->in_string : d->resume && d->text_mode != TEXT_LINE;
		scrub_forget(d);
		scrub_put(d, c);
		d->text_mode = TEXT_LINE;
		return;
	}
	switch (d->text_mode) {
	case TEXT_LINE:
	case TEXT_DATA:
		if (d->text_mode == TEXT_DATA && d->resume) {
			d->text_mode = TEXT_JSON;
			json_byte(d, c);
		} else if (c == ' ' || c == '\t' || c == '\r') {
			scrub_put(d, c);
		} else if (c == '{') {
			json_begin(d);
			json_byte(d, c);
		} else if (d->text_mode == TEXT_DATA && c == '[') {
			scrub_wait(d, c);
			d->text_mode = TEXT_ARRAY;
		} else if (d->text_mode == TEXT_DATA) {
			d->text_mode = TEXT_SKIP;
		} else if (c == '[') {
			json_begin(d);
			json_byte(d, c);
		} else if (c == ':') {
			scrub_put(d, c);
			d->text_mode = TEXT_SKIP;
		} else {
			scrub_wait(d, c);
			d->text_mode = TEXT_FIELD;
		}
		return;
	case TEXT_ARRAY: /* the second byte of [DONE], or of an array */
		if (c == 'D') {
			scrub_wait(d, c);
			d->text_mode = TEXT_WORD;
			return;
		}
		scrub_release(d, d->text);
		json_begin(d);
		d->depth = 1;
		d->arrays = 1;
		d->flags[1] = NAME_KNOWN | NAME_CONTAINER;
		json_byte(d, c);
		return;
	case TEXT_FIELD:
		scrub_wait(d, c);
		if (c == ':')
			field_end(d);
		return;
	case TEXT_WORD:
		if (c == '\n')
			word_end(d, c);
		else
			scrub_wait(d, c);
		return;
	case TEXT_JSON:
		json_byte(d, c);
		return;
	default:
		if (c == '\r')
			scrub_put(d, c);
		return;
	}
}

void scrub_body_begin(struct side *d)
{
	d->resume = false;
	d->hex = 0;
	d->text_mode = d->encoded ? TEXT_BLANK : d->line_type ? TEXT_LINE : TEXT_LOOK;
}

void scrub_body(struct side *d, uint8_t c)
{
	if (d->text_mode == TEXT_BLANK)
		return;
	if (d->line_type) {
		line_byte(d, c);
		return;
	}
	if (d->text_mode == TEXT_JSON) {
		json_byte(d, c);
	} else if (c == '{' || c == '[') {
		json_begin(d);
		json_byte(d, c);
	} else if (c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == 0xef || c == 0xbb || c == 0xbf) {
		scrub_put(d, c); /* blank, or a byte order mark */
	} else {
		d->text_mode = TEXT_BLANK;
	}
}
