/* What is listed of calls that no dialect knows: names and no values, identifiers made unknowable, all of it bounded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "decode/shapes.h"

static struct shape_names names_of(const char *json)
{
	struct shape_names s = { 0 };

	shape_names_read(&s, span_of(json));
	return s;
}

static void assert_names(const char *json, const char *want)
{
	struct shape_names s = names_of(json);
	char have[SHAPE_NAMES_MAX * SHAPE_NAME_BYTES + 8] = "";

	for (size_t i = 0; i < s.n; i++)
		snprintf(have + strlen(have), sizeof(have) - strlen(have), "%s%s", i ? " " : "", s.name[i]);
	if (s.more)
		strcat(have, " ...");
	assert_string_equal(have, want);
}

static void lists_names_never_values(void **unused)
{
	(void)unused;
	assert_names("{\"a\":\"b\",\"c\":{\"d\":[{\"e\":1},{\"e\":2,\"f\":\"g\"}]}}", "a c c.d c.d.e c.d.f");
	assert_names("[{\"a\":1},{\"b\":2}]", "a b");
	assert_names("{\"a\":{\"b\":{\"c\":{\"too\":{\"deep\":1}}}}}", "a a.b a.b.c");
	assert_names("{\"a\":\"x\\\",\\\"fake\\\":1\",\"b\":null}", "a b");
	/* keys that are somebody's */
	assert_names("{\"dora@example.com\":1,\"123\":2,\"caf\xc3\xa9\":3,\"two words\":4,\"\":5,\"sk-4f9a2b71\":6,\"\\u0041\":7,\"\x1b[31m\":8}", "*");
	assert_names("{\"a_very_long_key_that_is_nobodys_field_name\":{\"x1\":1}}", "* *.x1");
	/* cut off, broken, hostile */
	assert_names("{\"a\":{\"b\":1,\"cut", "a a.b");
	assert_names("{\"a\":1}}}]{\"b\":2}", "a");
	assert_names("{\"a\" \"b\" : \"c\"", "a");
	assert_names("nonsense", "");
	assert_names("", "");
	assert_names("\"text\"", "");
	assert_names("{{{{{", "");
}

static void bounds_the_names(void **unused)
{
	char json[20000] = "{";
	struct shape_names s;

	(void)unused;
	for (int i = 0; i < 500; i++)
		snprintf(json + strlen(json), sizeof(json) - strlen(json), "\"key_%c%c%c\":1,", 'a' + i % 26, 'a' + i / 26, 'z');
	s = names_of(json);
	assert_int_equal(s.n, SHAPE_NAMES_MAX);
	assert_true(s.more);
	memset(json, '[', sizeof(json) - 1);
	json[sizeof(json) - 1] = '\0';
	s = names_of(json);
	assert_int_equal(s.n, 0);
	memset(json, 'a', sizeof(json) - 1);
	memcpy(json, "{\"", 2);
	s = names_of(json);
	assert_int_equal(s.n, 0);
	s = names_of("{\"abcdefghijabcdefghijabcdefghij\":{\"abcdefghijabcdefghijabcdefghij\":{\"abcdefghijabcdefghijabcdefghij\":1}}}");
	assert_int_equal(s.n, 2);
	assert_true(s.more);
}

static void note(struct shapes *s, const char *method, const char *path, bool metered)
{
	const struct shape_names request = names_of("{\"a\":1}"), response = names_of("{\"b\":1}");

	shapes_note(s, span_of(method), span_of(path), &request, &response, metered);
}

static void assert_listed(const struct shapes *s, const char *want)
{
	struct str out = { 0 };

	shapes_write_json(s, &out);
	assert_int_equal(str_error(&out), 0);
	assert_string_equal(out.p, want);
	str_done(&out);
}

static void assert_path(const char *path, const char *want)
{
	struct shapes *s = shapes_new();
	char line[512];

	note(s, "POST", path, false);
	snprintf(line, sizeof(line), "{\"method\":\"POST\",\"path\":\"%s\",\"count\":1,\"metered\":0,\"request\":[\"a\"],\"response\":[\"b\"]}\n", want);
	assert_listed(s, line);
	shapes_free(s);
}

static void replaces_ids_in_paths(void **unused)
{
	(void)unused;
	assert_path("/v3/think", "/v3/think");
	assert_path("/v1beta/think?key=secret", "/v1beta/think");
	assert_path("/jobs/12/run", "/jobs/*/run");
	assert_path("/u/0b6a1f3e-7c55-4f0e-9a76-0a5f0f2f0a11/x", "/u/*/x");
	assert_path("/k/sk-live-9aZ", "/k/*");
	assert_path("/k/AbCdEfGhIjKlMnOpQrStUvWx", "/k/*");
	assert_path("/a%20b/\xc3\xa9/\x1b[31m", "/*/*/*");
	assert_path("//a///b/", "/a/b");
	assert_path("/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb/ccccccccccccccccccccccccccccccc/ddddddddddddddddddddddddddddddd/eeee",
		    "/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb/ccccccccccccccccccccccccccccccc/...");
	assert_path("", "");
}

static void adds_up_and_merges(void **unused)
{
	struct shapes *s = shapes_new();
	const struct shape_names more = names_of("{\"a\":1,\"c\":2}");

	(void)unused;
	note(s, "POST", "/x/1", false);
	note(s, "POST", "/x/2", true);
	shapes_note(s, SPAN("POST"), SPAN("/x/3"), &more, NULL, false);
	note(s, "PUT", "/x/3", false);
	note(s, "\"}\n", "/x/3", false);
	assert_listed(s, "{\"method\":\"POST\",\"path\":\"/x/*\",\"count\":3,\"metered\":1,\"request\":[\"a\",\"c\"],\"response\":[\"b\"]}\n"
			 "{\"method\":\"PUT\",\"path\":\"/x/*\",\"count\":1,\"metered\":0,\"request\":[\"a\"],\"response\":[\"b\"]}\n"
			 "{\"method\":\"*\",\"path\":\"/x/*\",\"count\":1,\"metered\":0,\"request\":[\"a\"],\"response\":[\"b\"]}\n");
	shapes_free(s);
}

/* A scanner makes up thousands of paths: the real ones stay, and nothing grows. */
static void stays_within_its_list(void **unused)
{
	struct shapes *s = shapes_new();
	struct str out = { 0 };
	unsigned lines = 0;

	(void)unused;
	for (int i = 0; i < 3; i++)
		note(s, "POST", "/the/real/one", true);
	for (int i = 0; i < 5000; i++) {
		char path[32];

		snprintf(path, sizeof(path), "/scan/%c%c%c", 'a' + i % 26, 'a' + i / 26 % 26, 'a' + i / 676);
		note(s, "POST", path, false);
	}
	shapes_write_json(s, &out);
	assert_non_null(strstr(out.p, "/the/real/one\",\"count\":3,\"metered\":3"));
	for (const char *p = out.p; (p = strchr(p, '\n')); p++)
		lines++;
	assert_int_equal(lines, SHAPES_MAX + 1);
	assert_non_null(strstr(out.p, "{\"not_listed\":4937}\n"));
	str_done(&out);
	shapes_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lists_names_never_values), cmocka_unit_test(bounds_the_names),	     cmocka_unit_test(replaces_ids_in_paths),
		cmocka_unit_test(adds_up_and_merges),	    cmocka_unit_test(stays_within_its_list),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
