/* What servers say of themselves, answer by answer: which clue counts, when a name is settled, and that it then stays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "decode/http.h"
#include "decode/software.h"

static struct weir_conn_key at(uint32_t netns, uint8_t host, uint16_t port)
{
	struct weir_conn_key k = { .netns = netns, .lport = port, .rport = 40000 };

	k.laddr[10] = k.laddr[11] = 0xff;
	k.laddr[15] = host;
	k.raddr[15] = 7; /* who asks does not matter */
	return k;
}

static void hear(struct software *s, struct weir_conn_key k, const char *head, struct software_clues c, bool model)
{
	struct http_head h;

	assert_int_equal(http_parse_head(span_of(head), &h), 0);
	software_clues_head(&c, &h);
	k.rport++;
	software_note(s, &k, &c, model);
}

#define HEAD "HTTP/1.1 200 OK\r\n"

/* One server each: the clues of one answer. */
static void reads_one_answer(void **unused)
{
	static const struct {
		const char *head, *fingerprint, *owner, *version, *sole, *want;
	} cases[] = {
		{ HEAD "Server: llama.cpp\r\n\r\n", "b6123-0a1b2c3", NULL, NULL, NULL, "llama.cpp/b6123-0a1b2c3" },
		{ HEAD "Server: llama.cpp\r\n\r\n", NULL, NULL, NULL, NULL, "llama.cpp" },
		{ HEAD "server: uvicorn\r\n\r\n", "vllm-0.32.0-1a2b3c4d", NULL, NULL, NULL, "vllm/0.32.0" },
		{ HEAD "server: uvicorn\r\n\r\n", "vllm-0.33.0rc1.dev7+g12ab-tp8-ep-1a2b3c4d", NULL, NULL, NULL, "vllm/0.33.0rc1.dev7+g12ab" },
		{ HEAD "server: uvicorn\r\n\r\n", "vllm-1", NULL, NULL, NULL, "vllm/1" },
		{ HEAD "server: uvicorn\r\n\r\n", NULL, NULL, NULL, NULL, NULL },
		{ HEAD "server: hypercorn-h11\r\n\r\n", NULL, NULL, NULL, NULL, NULL },
		{ HEAD "Server: TornadoServer/6.1\r\n\r\n", NULL, NULL, NULL, NULL, NULL },
		{ HEAD "Server: BaseHTTP/0.6 Python/3.11\r\n\r\n", NULL, NULL, NULL, NULL, NULL },
		{ HEAD "Server: nodeshine/2\r\n\r\n", NULL, NULL, NULL, NULL, "nodeshine/2" },
		{ HEAD "server: uvicorn\r\n\r\n", "fp_ollama", NULL, NULL, NULL, "ollama" },
		{ HEAD "x-litellm-version: 1.80.5\r\n\r\n", "fp_ollama", NULL, NULL, NULL, "litellm/1.80.5" },
		{ HEAD "Server: nginx/1.22.1\r\n\r\n", "fp_ollama", NULL, NULL, NULL, "nginx/1.22.1" },
		{ HEAD "Server: nginx\r\n\r\n", NULL, NULL, "7.7", NULL, "nginx" },
		{ HEAD "x-compute-type: gpu\r\nx-compute-tokens: 5\r\n\r\n", NULL, NULL, NULL, NULL, "tei" },
		{ HEAD "x-compute-type: gpu\r\n\r\n", "3.3.4-native", NULL, NULL, NULL, "tgi/3.3.4-native" },
		{ HEAD "\r\n", NULL, "sglang", "0.5.2", NULL, "sglang/0.5.2" },
		{ HEAD "\r\n", NULL, "llamacpp", NULL, NULL, "llama.cpp" },
		{ HEAD "\r\n", NULL, "triton", "2.61.0", NULL, "triton/2.61.0" },
		{ HEAD "\r\n", NULL, "openai", "3", NULL, NULL },
		{ HEAD "\r\n", NULL, NULL, "0.17.4", "ollama", "ollama/0.17.4" },
		/* what another hand may have put there: cut, or nothing */
		{ HEAD "Server: <b>x</b>\r\n\r\n", NULL, NULL, NULL, NULL, NULL },
		{ HEAD "Server: x y:80\r\n\r\n", NULL, NULL, NULL, NULL, "x" },
		{ HEAD "Server: x/1:80\r\n\r\n", NULL, NULL, NULL, NULL, "x/1" },
		{ HEAD "Server: x/\"\r\n\r\n", NULL, NULL, NULL, NULL, "x" },
		{ HEAD "Server: /\r\n\r\n", NULL, NULL, NULL, NULL, NULL },
		{ HEAD "Server: 0123456789012345678901234567890123456789/1\r\n\r\n", NULL, NULL, NULL, NULL, "012345678901234567890123" },
		{ HEAD "x-litellm-version: 0123456789012345678901234567890123456789\r\n\r\n", NULL, NULL, NULL, NULL, "litellm/01234567890123456789012345678901" },
	};

	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct software *s = software_new();
		struct weir_conn_key k = at(1, 1, 8000);
		const char *got;

		assert_non_null(s);
		hear(s, k, cases[i].head,
		     (struct software_clues){ .fingerprint = span_of(cases[i].fingerprint), .owner = span_of(cases[i].owner), .version = span_of(cases[i].version),
					      .sole = cases[i].sole },
		     true);
		got = software_of(s, &k);
		if ((got == NULL) != (cases[i].want == NULL) || (got && strcmp(got, cases[i].want)))
			fail_msg("case %zu: %s, want %s", i, got ? got : "nothing", cases[i].want ? cases[i].want : "nothing");
		software_free(s);
	}
}

/* A health check and a list of models come first: they only add to what is known. */
static void settles_with_a_models_answer(void **unused)
{
	struct software *s = software_new();
	struct weir_conn_key k = at(1, 1, 8000);

	(void)unused;
	assert_non_null(s);
	hear(s, k, HEAD "Server: llama.cpp\r\n\r\n", (struct software_clues){ 0 }, false);
	assert_null(software_of(s, &k));
	hear(s, k, HEAD "Server: llama.cpp\r\n\r\n", (struct software_clues){ .fingerprint = SPAN("b1-a") }, true);
	assert_string_equal(software_of(s, &k), "llama.cpp/b1-a");
	/* for ever, whatever comes: its label is the server's identity */
	hear(s, k, HEAD "Server: llama.cpp\r\n\r\n", (struct software_clues){ .fingerprint = SPAN("b2-b") }, true);
	hear(s, k, HEAD "x-litellm-version: 1\r\n\r\n", (struct software_clues){ 0 }, true);
	assert_string_equal(software_of(s, &k), "llama.cpp/b1-a");

	/* version first, name later */
	k = at(1, 1, 8001);
	hear(s, k, HEAD "server: uvicorn\r\n\r\n", (struct software_clues){ .version = SPAN("0.11.0") }, false);
	hear(s, k, HEAD "server: uvicorn\r\n\r\n", (struct software_clues){ 0 }, true);
	assert_null(software_of(s, &k)); /* a model answered, and nothing told what it is */
	hear(s, k, HEAD "server: uvicorn\r\n\r\n", (struct software_clues){ .owner = SPAN("vllm") }, false);
	assert_null(software_of(s, &k));
	hear(s, k, HEAD "server: uvicorn\r\n\r\n", (struct software_clues){ 0 }, true);
	assert_string_equal(software_of(s, &k), "vllm/0.11.0");

	/* name first, version later; a better clue takes the name, and the version goes with the old one */
	k = at(1, 1, 8002);
	hear(s, k, HEAD "\r\n", (struct software_clues){ .owner = SPAN("vllm") }, false);
	hear(s, k, HEAD "\r\n", (struct software_clues){ .version = SPAN("0.11.0") }, false);
	hear(s, k, HEAD "\r\n", (struct software_clues){ .owner = SPAN("sglang"), .version = SPAN("9") }, false); /* a lower row */
	hear(s, k, HEAD "\r\n", (struct software_clues){ 0 }, true);
	assert_string_equal(software_of(s, &k), "vllm/0.11.0");
	k = at(1, 1, 8003);
	hear(s, k, HEAD "\r\n", (struct software_clues){ .owner = SPAN("vllm"), .version = SPAN("0.11.0") }, false);
	hear(s, k, HEAD "Server: nginx\r\n\r\n", (struct software_clues){ 0 }, true);
	assert_string_equal(software_of(s, &k), "nginx");
	/* the same name by another clue keeps its version */
	k = at(1, 1, 8004);
	hear(s, k, HEAD "\r\n", (struct software_clues){ .sole = "ollama", .version = SPAN("0.17.4") }, false);
	hear(s, k, HEAD "\r\n", (struct software_clues){ .fingerprint = SPAN("fp_ollama") }, true);
	assert_string_equal(software_of(s, &k), "ollama/0.17.4");
	software_free(s);
}

/* Ports, addresses and network namespaces apart; beyond the ceiling nobody has a name, and nobody loses one. */
static void keeps_servers_apart(void **unused)
{
	struct software *s = software_new();
	struct weir_conn_key a = at(1, 1, 8000), b = at(1, 1, 8001), c = at(1, 2, 8000), d = at(2, 1, 8000);
	unsigned named = 0;

	(void)unused;
	assert_non_null(s);
	hear(s, a, HEAD "Server: a/1\r\n\r\n", (struct software_clues){ 0 }, true);
	hear(s, b, HEAD "Server: b/1\r\n\r\n", (struct software_clues){ 0 }, true);
	hear(s, c, HEAD "Server: c/1\r\n\r\n", (struct software_clues){ 0 }, true);
	assert_null(software_of(s, &d));
	hear(s, d, HEAD "Server: d/1\r\n\r\n", (struct software_clues){ 0 }, true);
	for (unsigned i = 0; i < 1000; i++) {
		struct weir_conn_key k = at(3, (uint8_t)i, (uint16_t)(9000 + i));

		hear(s, k, HEAD "Server: e\r\n\r\n", (struct software_clues){ 0 }, true);
		named += software_of(s, &k) != NULL;
	}
	assert_int_equal(named, SOFTWARE_SERVERS_MAX - 4);
	assert_string_equal(software_of(s, &a), "a/1");
	assert_string_equal(software_of(s, &b), "b/1");
	assert_string_equal(software_of(s, &c), "c/1");
	assert_string_equal(software_of(s, &d), "d/1");
	software_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_one_answer),
		cmocka_unit_test(settles_with_a_models_answer),
		cmocka_unit_test(keeps_servers_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
