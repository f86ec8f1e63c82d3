/* A user's own dialects: what is read, what is refused and how it is said, and that the names are found in bodies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/str.h"
#include "decode/dialect_file.h"
#include "weir/meter.h"

static int parse(const char *text, struct dialect_file **ret, char *why)
{
	return dialect_file_parse("own.conf", span_of(text), ret, why);
}

static void reads_rows_and_names(void **unused)
{
	static const char text[] = "# ours\n"
				   "\n"
				   "inference POST /v3/think/{model} model=model_id,opts.model stream=opts.stream\tmax_tokens=opts.limit user=meta.user prompt=turns.*.say\r\n"
				   "  embedding * /v3/vectors model=m prompt=in\n"
				   "control GET /v3/status\n"
				   "inference POST /v3/pour stream=always\n"
				   "tokens prompt n_in tokens.in\n"
				   "tokens completion n_out\n"
				   "text piece"; /* no line end */
	char why[DIALECT_FILE_WHY];
	struct dialect_file *f = NULL;
	const struct dialect *d;
	struct span model;

	(void)unused;
	if (parse(text, &f, why) < 0)
		print_error("%s\n", why);
	assert_non_null(f);
	assert_int_equal(f->count, 4);
	assert_int_equal(f->key_count, 4);
	d = dialect_find_in(f->rows, f->count, SPAN("POST"), SPAN("/gw/v3/think/deep?x=1"), &model);
	assert_ptr_equal(d, &f->rows[0]);
	assert_true(span_eq(model, SPAN("deep")));
	assert_string_equal(d->shape->where[D_MODEL], "model_id opts.model");
	assert_string_equal(d->shape->where[D_STREAM], "opts.stream");
	assert_string_equal(d->shape->where[D_PROMPT], "turns.*.say");
	assert_true(dialect_streams(d, 1));
	assert_false(dialect_streams(d, -1));
	/* another method is another call */
	assert_null(dialect_find_in(f->rows, f->count, SPAN("GET"), SPAN("/v3/think/deep"), &model));
	assert_int_equal(dialect_find_in(f->rows, f->count, SPAN("PUT"), SPAN("/v3/vectors"), &model)->kind, KIND_EMBEDDING);
	assert_int_equal(dialect_find_in(f->rows, f->count, SPAN("GET"), SPAN("/v3/status"), &model)->kind, KIND_CONTROL);
	assert_true(dialect_streams(dialect_find_in(f->rows, f->count, SPAN("POST"), SPAN("/v3/pour"), &model), 0));
	/* our own are there behind it */
	assert_int_equal(dialect_find_in(f->rows, f->count, SPAN("POST"), SPAN("/v1/chat/completions"), &model)->kind, KIND_INFERENCE);
	dialect_file_free(f);
}

static void comes_before_our_own(void **unused)
{
	char why[DIALECT_FILE_WHY];
	struct dialect_file *f = NULL;

	(void)unused;
	assert_int_equal(parse("control POST /batch/v1/chat/completions\n", &f, why), 0);
	assert_int_equal(dialect_find_in(f->rows, f->count, SPAN("POST"), SPAN("/batch/v1/chat/completions"), NULL)->kind, KIND_CONTROL);
	assert_int_equal(dialect_find_in(f->rows, f->count, SPAN("POST"), SPAN("/v1/chat/completions"), NULL)->kind, KIND_INFERENCE);
	dialect_file_free(f);
	f = NULL;
	assert_int_equal(parse("", &f, why), 0);
	assert_int_equal(f->count, 0);
	dialect_file_free(f);
}

static void says_what_is_wrong_and_where(void **unused)
{
	static const struct {
		const char *text, *why;
	} cases[] = {
		{ "infrence POST /x\n", "own.conf:1: a line begins with" },
		{ "\n# c\ninference POST\n", "own.conf:3: a row is" },
		{ "inference post /x", "own.conf:1: \"post\" is not a method" },
		{ "inference POST x", "own.conf:1: a path begins" },
		{ "inference POST /x?y", "own.conf:1: a path has no query" },
		{ "inference POST /\xc3\xa9", "own.conf:1: a path has no query" },
		{ "inference POST /{name}", "own.conf:1: the only name" },
		{ "inference POST /a{model}", "own.conf:1: {model} and *" },
		{ "inference POST /{model}b", "own.conf:1: {model} and *" },
		{ "inference POST /*/*/*", "own.conf:1: a path has at most" },
		{ "inference POST /{model}/{model}", "own.conf:1: a path has at most" },
		{ "inference POST /x model", "own.conf:1: \"model\" is not FIELD=PLACE" },
		{ "inference POST /x modle=a", "own.conf:1: no field is called \"modle\"" },
		{ "inference POST /x model=", "own.conf:1: model: a place is" },
		{ "inference POST /x model=a model=b", "own.conf:1: model is given twice" },
		{ "inference POST /x stream=always stream=s", "own.conf:1: stream is given twice" },
		{ "inference POST /x model=a..b", "own.conf:1: model: a name is missing" },
		{ "inference POST /x model=a,", "own.conf:1: model: a name is missing" },
		{ "inference POST /x model=a,.b", "own.conf:1: model: a name is missing" },
		{ "inference POST /x model=a\"b", "own.conf:1: model: a place is" },
		{ "inference POST /x model=a,b,c,d,e,f,g,h,i", "own.conf:1: model: more than" },
		{ "control GET /x model=a", "own.conf:1: control calls have no fields" },
		{ "tokens\n", "own.conf:1: tokens are" },
		{ "tokens total x\n", "own.conf:1: tokens are" },
		{ "tokens prompt\n", "own.conf:1: no name" },
		{ "tokens prompt a%sb\n", "own.conf:1: a name is" },
		{ "tokens prompt a\"b\n", "own.conf:1: a name is" },
		{ "text a\\b\n", "own.conf:1: a name is" },
		{ "tokens prompt completion_tokens\n", "own.conf:1: \"completion_tokens\" means something else" },
		{ "tokens prompt x\ntokens cached x\n", "own.conf:2: \"x\" means something else" },
		{ "tokens prompt 0123456789012345678901234567890123456789012345678\n", "own.conf:1: a name is" },
		{ "tokens prompt a b c d e f g h i j k l m n o p q\n", "own.conf:1: more than 16 names" },
	};
	char why[DIALECT_FILE_WHY], many[64 * 40] = "";
	struct dialect_file *f = NULL;

	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(parse(cases[i].text, &f, why), -EINVAL);
		if (strncmp(why, cases[i].why, strlen(cases[i].why)))
			print_error("%s: said %s\n", cases[i].text, why);
		assert_memory_equal(why, cases[i].why, strlen(cases[i].why));
	}
	assert_int_equal(dialect_file_parse("own.conf", (struct span){ "control GET /x\0y\n", 17 }, &f, why), -EINVAL);
	assert_string_equal(why, "own.conf:1: a NUL byte");
	for (int i = 0; i <= DIALECT_FILE_ROWS; i++)
		snprintf(many + strlen(many), sizeof(many) - strlen(many), "control GET /x%d\n", i);
	assert_int_equal(parse(many, &f, why), -EINVAL);
	assert_string_equal(why, "own.conf:65: more than 64 rows");
	assert_int_equal(dialect_file_read("/nonexistent/own.conf", &f, why), -ENOENT);
	assert_non_null(strstr(why, "/nonexistent/own.conf: "));
	assert_true(dialect_file_read("/", &f, why) < 0);
	assert_true(dialect_file_read("/dev/zero", &f, why) < 0);
	assert_null(f);
}

/* The automaton has a ceiling: more names than it holds are refused, at the line that has the first too many. */
static void fills_the_automaton_and_no_more(void **unused)
{
	char text[1024] = "", why[DIALECT_FILE_WHY];
	struct dialect_file *f = NULL;

	(void)unused;
	for (char c = 'a'; c < 'k'; c++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "tokens prompt %c_a_rather_long_name_of_its_own_%c\n", c, c);
	assert_int_equal(parse(text, &f, why), -EINVAL);
	assert_non_null(strstr(why, "no room for so many names"));
	assert_null(f);
	/* what is in the table already costs nothing */
	assert_int_equal(parse("tokens prompt prompt_tokens\ntokens completion completion_tokens\ntext content\n", &f, why), 0);
	dialect_file_free(f);
}

/* Their counts and texts are found in a body as ours are, and the resting state is as cheap as before. */
static void finds_their_names(void **unused)
{
	static const char body[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 9999\r\n\r\n"
				   "data: {\"piece\":\"Ro\",\"n_in\":3}\n\ndata: {\"piece\":\"me \\\"n_out\\\":77\",\"n_in\":4,\"n_out\":5,\"x_n_out\":9,\"prompt_tokens\":6}\n\n";
	static struct weir_automaton dfa;
	struct weir_parse p = { 0 };
	struct weir_reply r = { 0 };
	char why[DIALECT_FILE_WHY];
	struct dialect_file *f = NULL;
	unsigned leaves = 0;

	(void)unused;
	assert_int_equal(parse("tokens prompt n_in\ntokens completion n_out\ntext piece\n", &f, why), 0);
	assert_int_equal(automaton_build_with(f->keys, f->key_count, &dfa), 0);
	weir_begin(&p, &dfa, WEIR_RESPONSE);
	for (size_t at = 0; at < sizeof(body) - 1;) {
		uint32_t want = weir_want(&p, sizeof(body) - 1 - at), ev = 0;

		assert_true(want > 0);
		at += weir_step(&p, &r, &dfa, WEIR_RESPONSE, (const uint8_t *)body + at, want, &ev);
	}
	assert_int_equal(r.tokens[WEIR_TOK_PROMPT], 6); /* the last of the slot's names */
	assert_int_equal(r.tokens[WEIR_TOK_COMPLETION], 5);
	assert_int_equal(r.delta_events, 2);
	assert_true(dfa.rest < dfa.states);
	for (unsigned c = 0; c < 256; c++)
		leaves += dfa.next[dfa.rest << 8 | c] != dfa.rest;
	assert_in_range(leaves, 1, WEIR_REST_LEAVES);
	dialect_file_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_rows_and_names),		   cmocka_unit_test(comes_before_our_own), cmocka_unit_test(says_what_is_wrong_and_where),
		cmocka_unit_test(fills_the_automaton_and_no_more), cmocka_unit_test(finds_their_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
