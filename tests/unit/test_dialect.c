/* The dialect table: which row a path finds, whether the record's own kinds agree, and whether the page in docs/ is up to date. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "decode/dialect.h"
#include "decode/json.h"

#define DOCS "docs/dialects.md"

static void finds_rows_by_path(void **unused)
{
	static const struct {
		const char *method, *path, *shape, *model;
		enum record_kind kind;
	} cases[] = {
		{ "POST", "/v1/chat/completions", "openai.chat", "", KIND_INFERENCE },
		{ "POST", "/chat/completions", "openai.chat", "", KIND_INFERENCE },
		{ "POST", "/gw/team/v1/chat/completions/", "openai.chat", "", KIND_INFERENCE },
		{ "POST", "/V1/Chat/Completions?x=/embeddings", "openai.chat", "", KIND_INFERENCE },
		{ "POST", "/v1/completions", "openai.completions", "", KIND_INFERENCE },
		{ "POST", "/v1/responses", "openai.responses", "", KIND_INFERENCE },
		{ "POST", "/openai/deployments/gpt-9/chat/completions?api-version=1", "openai.chat", "gpt-9", KIND_INFERENCE },
		{ "POST", "/v1/engines/orca/completions", "openai.completions", "orca", KIND_INFERENCE },
		{ "POST", "/v1/messages", "anthropic.messages", "", KIND_INFERENCE },
		{ "POST", "/v1/messages/count_tokens", NULL, "", KIND_CONTROL },
		{ "POST", "/v1/chat/completions/input_tokens", NULL, "", KIND_CONTROL },
		{ "POST", "/completion", "llama.native", "", KIND_INFERENCE },
		{ "POST", "/api/generate", "ollama.generate", "", KIND_INFERENCE },
		{ "POST", "/generate", "generate", "", KIND_INFERENCE },
		{ "POST", "/generate_stream", "generate", "", KIND_INFERENCE },
		{ "POST", "/v2/models/big/generate", "triton.generate", "big", KIND_INFERENCE },
		{ "POST", "/v2/models/big/versions/3/generate_stream", "triton.generate", "big", KIND_INFERENCE },
		{ "POST", "/v1beta/models/flash-2.5:generateContent", "gemini", "flash-2.5", KIND_INFERENCE },
		{ "POST", "/v1/projects/p/locations/l/publishers/g/models/pro:streamGenerateContent", "gemini", "pro", KIND_INFERENCE },
		{ "POST", "/v1beta/models/flash:countTokens", NULL, "flash", KIND_CONTROL },
		{ "POST", "/v1/embeddings", "openai.embeddings", "", KIND_EMBEDDING },
		{ "POST", "/api/embed", "ollama.embed", "", KIND_EMBEDDING },
		{ "POST", "/embed", "embed", "", KIND_EMBEDDING },
		{ "POST", "/", "generate", "", KIND_INFERENCE },
		{ "GET", "/", NULL, "", KIND_OTHER },
		{ "GET", "/health", NULL, "", KIND_CONTROL },
		{ "GET", "/metrics", NULL, "", KIND_CONTROL },
		{ "GET", "/v1/models", "about.models", "", KIND_CONTROL },
		{ "GET", "/api/version", "about.ollama", "", KIND_CONTROL },
		{ "GET", "/v2", "about.triton", "", KIND_CONTROL },
		{ "POST", "/v2/models/v2/generate", "triton.generate", "v2", KIND_INFERENCE },
		{ "GET", "/v1/models/orca", NULL, "", KIND_CONTROL },
		{ "GET", "/v1/models/sea/orca", NULL, "", KIND_CONTROL },
		{ "GET", "/v1/modelsx", NULL, "", KIND_OTHER },
		{ "GET", "/xhealth", NULL, "", KIND_OTHER },
		{ "GET", "", NULL, "", KIND_OTHER },
		{ "GET", "//////////", NULL, "", KIND_OTHER },
	};

	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct span model;
		const struct dialect *d = dialect_find(span_of(cases[i].method), span_of(cases[i].path), &model);

		if ((d ? d->kind : KIND_OTHER) != cases[i].kind)
			print_error("%s is %s\n", cases[i].path, record_kind_name(d ? d->kind : KIND_OTHER));
		assert_int_equal(d ? d->kind : KIND_OTHER, cases[i].kind);
		assert_string_equal(d && d->shape ? d->shape->name : "", cases[i].shape ? cases[i].shape : "");
		assert_true(span_eq(model, span_of(cases[i].model)));
	}
	/* a path made to be slow */
	{
		static char path[60000];

		memset(path, '/', sizeof(path) - 1);
		assert_null(dialect_find(SPAN("POST"), span_of(path), NULL));
	}
}

static void knows_what_streams(void **unused)
{
	static const struct {
		const char *path;
		bool unsaid, yes, no;
	} cases[] = {
		{ "/v1/chat/completions", false, true, false }, { "/api/chat", true, true, false }, { "/api/generate", true, true, false },
		{ "/generate_stream", true, true, true },       { "/v1/embeddings", false, false, false }, { "/health", false, false, false },
		{ "/models/m:streamGenerateContent", true, true, true }, { "/models/m:generateContent", false, false, false },
		{ "/v1/realtime", false, true, false },
	};

	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct dialect *d = dialect_find(SPAN("POST"), span_of(cases[i].path), NULL);

		assert_non_null(d);
		assert_int_equal(dialect_streams(d, -1), cases[i].unsaid);
		assert_int_equal(dialect_streams(d, 1), cases[i].yes);
		assert_int_equal(dialect_streams(d, 0), cases[i].no);
	}
}

/* Replayed files without kinds must be read as the agent would have written them. */
static void agrees_with_records(void **unused)
{
	static const char *const others[] = { "", "/", "/x", "/v1/models/orca", "/v1/files", "/favicon.ico", "/v1/chat/completions/", "/health?x=1" };
	const struct dialect *rows;
	size_t n;

	(void)unused;
	rows = dialect_rows(&n);
	assert_true(n > 50);
	for (size_t i = 0; i < n + ARRAY_SIZE(others); i++) {
		char path[256] = "/prefix";
		size_t at = strlen(path);
		struct span s;

		/* wildcards become names */
		for (const char *p = i < n ? rows[i].path : ""; *p && at < sizeof(path) - 8; p++) {
			if (*p == '{' || *p == '*')
				at += (size_t)snprintf(path + at, sizeof(path) - at, "name");
			else
				path[at++] = *p;
			p = *p == '{' ? strchr(p, '}') : p;
		}
		path[at] = '\0';
		s = i < n ? span_of(path) : span_of(others[i - n]);
		if (record_kind_of_path(s) != dialect_kind_of_path(s))
			print_error("%.*s: %s here, %s in records\n", (int)s.n, s.p, record_kind_name(dialect_kind_of_path(s)), record_kind_name(record_kind_of_path(s)));
		assert_int_equal(record_kind_of_path(s), dialect_kind_of_path(s));
		/* no row stands in the shade of one before it */
		if (i < n)
			assert_true(dialect_find(SPAN("POST"), s, NULL) == &rows[i]);
	}
}

static void fits_its_ceilings(void **unused)
{
	const struct dialect *rows;
	size_t n;

	(void)unused;
	rows = dialect_rows(&n);
	for (size_t i = 0; i < n; i++) {
		size_t request = 0, response = 0;

		if (!rows[i].shape)
			continue;
		for (int f = 0; f < D_FIELD_COUNT; f++) {
			const char *paths[DIALECT_ALTERNATIVES_MAX], *where = rows[i].shape->where[f];
			size_t alternatives = dialect_paths(rows[i].shape, (enum dialect_field)f, paths), spaces = 0;

			for (const char *p = where ? where : ""; *p; p++)
				spaces += *p == ' ';
			assert_int_equal(alternatives, where ? spaces + 1 : 0);
			*(f < D_REQUEST_COUNT ? &request : &response) += alternatives;
		}
		assert_true(request <= JSON_PATHS_MAX && response <= JSON_PATHS_MAX);
	}
}

/* WEIR_UPDATE=1 writes the page anew. */
static void is_what_the_page_says(void **unused)
{
	struct str out = { 0 };
	char *have = calloc(1, 1 << 18);
	size_t n;
	FILE *f;

	(void)unused;
	assert_non_null(have);
	dialect_write_docs(&out);
	assert_int_equal(str_error(&out), 0);
	if (getenv("WEIR_UPDATE")) {
		f = fopen(DOCS, "we");
		assert_non_null(f);
		assert_int_equal(fwrite(out.p, 1, out.n, f), out.n);
		assert_int_equal(fclose(f), 0);
	}
	f = fopen(DOCS, "re");
	assert_non_null(f);
	n = fread(have, 1, (1 << 18) - 1, f);
	fclose(f);
	if (n != out.n || memcmp(have, out.p, n))
		print_error("%s is not what the table says: WEIR_UPDATE=1 %s\n", DOCS, "build/unit/test_dialect");
	assert_int_equal(n, out.n);
	assert_memory_equal(have, out.p, n);
	free(have);
	str_done(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_rows_by_path),
		cmocka_unit_test(knows_what_streams),
		cmocka_unit_test(agrees_with_records),
		cmocka_unit_test(fits_its_ceilings),
		cmocka_unit_test(is_what_the_page_says),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
