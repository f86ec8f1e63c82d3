/* Heads of HTTP/1 messages, whole and cut at every byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "decode/http.h"

static void assert_span(struct span got, const char *want)
{
	if (got.n != strlen(want) || (got.n && memcmp(got.p, want, got.n)))
		print_error("got '%.*s', want '%s'\n", (int)got.n, got.p, want);
	assert_int_equal(got.n, strlen(want));
	assert_true(!got.n || !memcmp(got.p, want, got.n));
}

static void reads_requests(void **unused)
{
	static const char text[] = "\r\nPOST /v1/x?key=a&b HTTP/1.1\r\nHost: h\r\nX-Empty:\r\n folded: no\r\nno colon\r\nUser-Agent:  a b \t\r\nhost: second\r\n\r\nbody";
	struct http_head h;

	(void)unused;
	assert_int_equal(http_parse_head(SPAN(text), &h), 0);
	assert_false(h.is_response);
	assert_true(h.complete);
	assert_int_equal(h.len, sizeof(text) - 1 - 4);
	assert_span(h.method, "POST");
	assert_span(h.path, "/v1/x");
	assert_span(h.query, "key=a&b");
	assert_span(http_header(&h, "host"), "h");
	assert_span(http_header(&h, "user-agent"), "a b");
	assert_span(http_header(&h, "x-empty"), "");
	assert_span(http_header(&h, "folded"), "");
	assert_span(http_header(&h, "body"), "");
}

static void reads_targets(void **unused)
{
	static const struct {
		const char *target, *path, *query;
	} cases[] = {
		{ "/", "/", "" }, { "/a?b", "/a", "b" }, { "/a#f?x", "/a", "" }, { "/a??", "/a", "?" }, { "*", "", "" }, { "host:443", "", "" },
		{ "http://h:1/p/q?r", "/p/q", "r" }, { "HTTPS://h/p", "/p", "" }, { "http://h", "", "" }, { "/?", "/", "" },
	};

	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char text[128];
		struct http_head h;

		snprintf(text, sizeof(text), "GET %s HTTP/1.1\n\n", cases[i].target);
		assert_int_equal(http_parse_head(span_of(text), &h), 0);
		assert_span(h.path, cases[i].path);
		assert_span(h.query, cases[i].query);
		assert_true(h.complete);
	}
}

static void reads_responses(void **unused)
{
	struct http_head h;

	(void)unused;
	assert_int_equal(http_parse_head(SPAN("HTTP/1.1 404 Not Found\r\nServer: x\r\n\r\n"), &h), 0);
	assert_true(h.is_response && h.complete);
	assert_int_equal(h.status, 404);
	assert_span(http_header(&h, "server"), "x");
	assert_int_equal(http_parse_head(SPAN("HTTP/1.0 200\n\n"), &h), 0);
	assert_int_equal(h.status, 200);
	assert_int_equal(http_parse_head(SPAN("HTTP/1.1 2x0 OK\r\n"), &h), -EBADMSG);
	assert_int_equal(http_parse_head(SPAN("HTTP/1.1 20"), &h), 0);
	assert_int_equal(h.status, 0);
}

static void refuses_what_is_no_head(void **unused)
{
	static const char *const bad[] = { "", "\r\n\r\n", "{\"a\":1}\n", "get / HTTP/1.1\n", "GE", "GET\r\n\r\n", "\x16\x03\x01\x02", " GET / HTTP/1.1\n" };
	struct http_head h;

	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(http_parse_head(span_of(bad[i]), &h), -EBADMSG);
}

static void reads_what_is_there(void **unused)
{
	static const char text[] = "POST /v1/chat HTTP/1.1\r\nA: 1\r\nUser-Agent: agent/1\r\n\r\n";

	(void)unused;
	for (size_t n = 4; n <= sizeof(text) - 1; n++) {
		char *copy = malloc(n); /* exact, for the sanitizer */
		struct http_head h;
		bool agent = n >= sizeof(text) - 3;

		assert_non_null(copy);
		memcpy(copy, text, n);
		assert_int_equal(http_parse_head((struct span){ copy, n }, &h), 0);
		assert_int_equal(h.complete, n == sizeof(text) - 1);
		/* a header whose line end is missing may be cut: not told */
		assert_span(http_header(&h, "user-agent"), agent ? "agent/1" : "");
		assert_span(http_header(&h, "a"), n >= 30 ? "1" : "");
		free(copy);
	}
}

static void looks_at_a_bounded_number_of_lines(void **unused)
{
	char *text = malloc(200000);
	struct span rest, name, value;
	struct http_head h;
	size_t n = (size_t)sprintf(text, "GET / HTTP/1.1\r\n"), lines = 0;

	(void)unused;
	assert_non_null(text);
	for (int i = 0; i < 10000; i++)
		n += (size_t)sprintf(text + n, "h%d: v\r\n", i);
	n += (size_t)sprintf(text + n, "last: v\r\n\r\n");
	assert_int_equal(http_parse_head((struct span){ text, n }, &h), 0);
	assert_true(h.complete);
	assert_span(http_header(&h, "h0"), "v");
	assert_span(http_header(&h, "last"), "");
	for (rest = h.headers; http_next_header(&rest, &name, &value);)
		lines++;
	assert_int_equal(lines, 10001);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_requests),
		cmocka_unit_test(reads_targets),
		cmocka_unit_test(reads_responses),
		cmocka_unit_test(refuses_what_is_no_head),
		cmocka_unit_test(reads_what_is_there),
		cmocka_unit_test(looks_at_a_bounded_number_of_lines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
