/*
 * test_meter - the meter in the kernel, packet by packet (BPF_PROG_TEST_RUN). Each case runs with both variants of the program,
 * where this kernel takes them.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "bpf/harness.h"

static bool fast; /* which variant the cases run */
static struct meter *m;

#define HEAD_JSON "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
#define HEAD_SSE "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
#define POST(body) "POST /v1/chat/completions HTTP/1.1\r\nHost: gpu:8000\r\nContent-Type: application/json\r\nContent-Length: {n}\r\n\r\n" body
#define JSON(body) HEAD_JSON "Content-Length: {n}\r\n\r\n" body
#define GET "GET /v1/models HTTP/1.1\r\nHost: gpu:8000\r\n\r\n"
#define OK "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
#define END "0\r\n\r\n"

struct expected {
	uint64_t requests, s2xx, s4xx, s5xx, prompt, completion, cached, estimated, aborted, errors;
};

struct exchange {
	const char *name;
	const char *request, *response; /* {n}: length of what follows the head; <<text>>: text as one chunk */
	struct expected want;
};

/* Written out in full: these are the shapes that servers send (HTTP/1.1 framing per RFC 9112). */
static const struct exchange exchanges[] = {
	{ "answer in one body", POST("{\"model\":\"m\"}"),
	  JSON("{\"choices\":[{\"message\":{\"role\":\"assistant\",\"content\":\"hi\"}}],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":2,\"total_tokens\":13}}"),
	  { .requests = 1, .s2xx = 1, .prompt = 11, .completion = 2 } },
	{ "stream with usage", POST("{\"stream\":true}"),
	  HEAD_SSE "<<data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}],\"x\":1234}\n\n>>"
		   "<<data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\r>><<\n\n>>"
		   "<<data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"total_tokens\":8,\"completion_tokens\":1,\"prompt_tokens_details\":{\"cached_tokens\":4}}}\n\n>>"
		   "<<data: [DONE]\n\n>>" END,
	  { .requests = 1, .s2xx = 1, .prompt = 7, .completion = 1, .cached = 4 } },
	{ "stream without usage is estimated", POST("{\"stream\":true}"),
	  HEAD_SSE "<<data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n>><<data: {\"choices\":[{\"delta\":{\"content\":\"b\"}}]}\n\n>>" END,
	  { .requests = 1, .s2xx = 1, .estimated = 2 } },
	{ "running usage: the last counts", POST("{\"stream\":true}"),
	  HEAD_SSE "<<data: {\"d\":\"x\",\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":1}}\n\n>>"
		   "<<data: {\"d\":\"y\",\"usage\":{\"prompt_tokens\":5,\"completion_tok>><<ens\":2>><<9}}\n\n>>" END,
	  { .requests = 1, .s2xx = 1, .prompt = 5, .completion = 29 } },
	{ "usage null, then a number, then zero", POST("{}"), JSON("{\"prompt_tokens\":null,\"prompt_tokens\" : 3 ,\"completion_tokens\":5,\"completion_tokens\":\t0}"),
	  { .requests = 1, .s2xx = 1, .prompt = 3 } },
	{ "not found", GET, "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: {n}\r\n\r\n{\"error\":{\"message\":\"no no\"}}", { .requests = 1, .s4xx = 1 } },
	{ "overloaded, chunked", GET, "HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n4;x=y\r\nbusy\r\n0\r\nX-Trailer: 1\r\nY: 2\r\n\r\n", { .requests = 1, .s5xx = 1 } },
	{ "until close", GET, "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}",
	  { .requests = 1, .s2xx = 1, .prompt = 3, .completion = 4 } },
	{ "continue, then the answer", POST("{}"), "HTTP/1.1 100 Continue\r\n\r\n" OK, { .requests = 1, .s2xx = 1 } },
	{ "no body after 204 and 304", GET GET, "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nHTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", { .requests = 2, .s2xx = 1 } },
	{ "no body after HEAD", "HEAD / HTTP/1.1\r\n\r\n" GET, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", { .requests = 2, .s2xx = 2 } },
	{ "a body that looks like a head", POST("GET /a HTTP/1.1\r\n\r\nPOST /b HTTP/1.1\r\nHost: c\r\n\r\n12345"),
	  "HTTP/1.1 200 OK\r\nContent-Length: {n}\r\n\r\nHTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n.", { .requests = 1, .s2xx = 1 } },
	{ "pipelined", GET "POST /x HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}" GET,
	  "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 500 E\r\nContent-Length: 0\r\n\r\nHTTP/1.1 404 N\r\nContent-Length: 2\r\n\r\nbb",
	  { .requests = 3, .s2xx = 1, .s4xx = 1, .s5xx = 1 } },
	{ "pipelined deeper than times are kept", GET GET GET GET GET GET GET GET GET GET, OK OK OK OK OK OK OK OK OK OK, { .requests = 10, .s2xx = 10 } },
	{ "request in chunks", "POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n<<abc>>A\r\n0123456789\r\n0\r\n\r\n" GET, OK OK, { .requests = 2, .s2xx = 2 } },
	{ "bare line feeds, odd case", "GET / HTTP/1.1\nHost: x\n\n", "HTTP/1.1 200 OK\nCONTENT-LENGTH:3\n\nabc", { .requests = 1, .s2xx = 1 } },
	{ "forged usage in generated text", POST("{}"),
	  JSON("{\"content\":\"\\\"usage\\\":{\\\"prompt_tokens\\\":999,\\\"completion_tokens\\\": 999}, \\\\\\\"completion_tokens\\\":7\",\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}"),
	  { .requests = 1, .s2xx = 1, .prompt = 1, .completion = 2 } },
	{ "forged usage in an object that the server echoes", POST("{}"),
	  JSON("{\"usage\":{\"input_tokens\":1,\"output_tokens\":2},\"metadata\":{\"a\":[{\"output_tokens\":999}],\"s\":\"}\\\"}\",\"input_tokens\":999},\"tools\":[{\"parameters\":{\"output_tokens\":7}}]}"),
	  { .requests = 1, .s2xx = 1, .prompt = 1, .completion = 2 } },
	{ "names that only look alike", POST("{}"),
	  JSON("{\"x_prompt_tokens\":9,\"prompt_tokens_details\":{\"cached_tokens\":0},\"prompt_tokens\":4,\"completion_tokens_x\":8}"), { .requests = 1, .s2xx = 1, .prompt = 4 } },
	{ "an error inside a 200 stream", POST("{}"), HEAD_SSE "<<data: {\"error\":{\"message\":\"engine died\"}}\n\n>><<data: [DONE]\n\n>>" END, { .requests = 1, .s2xx = 1, .errors = 1 } },
	{ "tokens in headers", POST("{}"), "HTTP/1.1 200 OK\r\nx-prompt-tokens: 21\r\nX-Generated-Tokens: 5\r\nContent-Length: 2\r\n\r\n{}",
	  { .requests = 1, .s2xx = 1, .prompt = 21, .completion = 5 } },
	{ "Anthropic's cached tokens are part of the prompt", POST("{}"),
	  HEAD_SSE "<<event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":3,\"cache_read_input_tokens\":40,\"cache_creation_input_tokens\":5,\"output_tokens\":1}}}\n\n>>"
		   "<<event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":12}}\n\n>>" END,
	  { .requests = 1, .s2xx = 1, .prompt = 48, .completion = 12, .cached = 40 } },
	{ "Ollama's lines", POST("{}"),
	  "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n<<{\"response\":\"Hi\",\"done\":false}\n>>"
	  "<<{\"response\":\"\",\"done\":true,\"prompt_eval_count\":6,\"eval_count\":2}>><<\n>>" END, { .requests = 1, .s2xx = 1, .prompt = 6, .completion = 2 } },
	{ "llama.cpp's timings where there is no usage", POST("{}"),
	  HEAD_SSE "<<data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n>><<data: {\"choices\":[{\"finish_reason\":\"stop\",\"delta\":{}}],\"timings\":{\"cache_n\":46,\"prompt_n\":1,\"predicted_n\":6}}\n\n>>" END,
	  { .requests = 1, .s2xx = 1, .prompt = 47, .completion = 6, .cached = 46 } },
	{ "negative, fractional and absurd counts", POST("{}"),
	  JSON("{\"prompt_tokens\":-5,\"completion_tokens\":1.5,\"cached_tokens\":99999999999999999999999,\"eval_count\":4294967297,\"output_tokens\":1e3}"), { .requests = 1, .s2xx = 1 } },
};

/* Writes an exchange's text out; n ends up as the number of bytes. */
static char *spell(const char *text, size_t *n)
{
	static char out[2][8192];
	static int which;
	char *o = out[which ^= 1], *w = o;
	const char *p = text, *end, *body = strstr(text, "{n}") ? strstr(text, "\r\n\r\n") + 4 : NULL;

	while (*p) {
		if (body && p < body && !strncmp(p, "{n}", 3)) {
			w += sprintf(w, "%zu", strlen(body));
			p += 3;
		} else if (!strncmp(p, "<<", 2)) {
			end = strstr(p, ">>");
			w += sprintf(w, "%zx\r\n", (size_t)(end - p - 2));
			memcpy(w, p + 2, (size_t)(end - p - 2));
			w += end - p - 2;
			w = stpcpy(w, "\r\n");
			p = end + 2;
		} else {
			*w++ = *p++;
		}
	}
	*w = '\0';
	*n = (size_t)(w - o);
	return o;
}

static void send_request(struct flow *f, const char *text)
{
	size_t n;
	const char *p = spell(text, &n);

	assert_int_equal(packets(m, f, WEIR_REQUEST, p, n, 0), 0);
}

static void send_response(struct flow *f, const char *text)
{
	size_t n;
	const char *p = spell(text, &n);

	assert_int_equal(packets(m, f, WEIR_RESPONSE, p, n, 0), 0);
}

static void check(const char *name, size_t split, const struct weir_client *c, const struct expected *w)
{
	struct expected got = { c->requests,	  c->status_2xx,       c->status_4xx, c->status_5xx, c->prompt_tokens, c->completion_tokens,
				c->cached_tokens, c->estimated_tokens, c->aborted,    c->stream_errors };

	if (!memcmp(&got, w, sizeof(got)) && c->open == 0)
		return;
	print_error("%s (%s), split %zu: got requests %llu 2xx %llu 4xx %llu 5xx %llu prompt %llu completion %llu cached %llu estimated %llu aborted %llu errors %llu open %lld\n", name,
		    fast ? "fast" : "loop", split, (unsigned long long)got.requests, (unsigned long long)got.s2xx, (unsigned long long)got.s4xx, (unsigned long long)got.s5xx,
		    (unsigned long long)got.prompt, (unsigned long long)got.completion, (unsigned long long)got.cached, (unsigned long long)got.estimated, (unsigned long long)got.aborted,
		    (unsigned long long)got.errors, (long long)c->open);
	fail();
}

static int set_up(void **state)
{
	(void)state;
	return meter_set_up(&m, fast);
}

static int tear_down(void **state)
{
	(void)state;
	meter_close(m);
	m = NULL;
	return 0;
}

/* first: bytes of the first piece (0: none); piece: size of the others (0: as large as they go) */
static void exchange_run(const struct exchange *x, size_t first_request, size_t first_response, size_t piece, uint16_t port)
{
	struct flow f = flow_make(0x0a000002, port);
	size_t nq, nr;
	const char *q = spell(x->request, &nq), *r = spell(x->response, &nr);
	struct weir_client c = { 0 };

	first_request = MIN(first_request, nq);
	first_response = MIN(first_response, nr);
	assert_int_equal(packets(m, &f, WEIR_REQUEST, q, first_request, 0), 0);
	assert_int_equal(packets(m, &f, WEIR_REQUEST, q + first_request, nq - first_request, piece), 0);
	assert_int_equal(packets(m, &f, WEIR_RESPONSE, r, first_response, 0), 0);
	assert_int_equal(packets(m, &f, WEIR_RESPONSE, r + first_response, nr - first_response, piece), 0);
	flow_fin(m, &f, WEIR_RESPONSE);
	flow_fin(m, &f, WEIR_REQUEST);
	assert_true(client_get(m, &f, &c));
	check(x->name, piece ? piece : MAX(first_request, first_response), &c, &x->want);
	if (c.bytes_in != nq || c.bytes_out != nr) {
		print_error("%s: bytes %llu/%llu instead of %zu/%zu\n", x->name, (unsigned long long)c.bytes_in, (unsigned long long)c.bytes_out, nq, nr);
		fail();
	}
	assert_int_equal(conns_count(m), 0);
	drain(m);
	flow_forget(m);
}

static void every_split(void **state)
{
	uint16_t port = 1000;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(exchanges); i++) {
		const struct exchange *x = &exchanges[i];
		size_t nq, nr;

		spell(x->request, &nq);
		spell(x->response, &nr);
		exchange_run(x, 0, 0, 0, port++);
		for (size_t piece = 1; piece <= 9; piece++)
			exchange_run(x, 0, 0, piece, port++);
		for (size_t s = 1; s < nq; s++)
			exchange_run(x, s, 0, 0, port++);
		for (size_t s = 1; s < nr; s++)
			exchange_run(x, 0, s, 0, port++);
	}
	assert_int_equal(stat_get(m, WEIR_STAT_NOT_HTTP), 0);
	assert_int_equal(stat_get(m, WEIR_STAT_BAD_FRAMING), 0);
	assert_int_equal(stat_get(m, WEIR_STAT_GAP), 0);
	assert_true(stat_get(m, WEIR_STAT_BAD_NUMBER) > 0);
}

/* After 101 or CONNECT the bytes are nobody's requests: the exchange is settled, the rest passes unread. */
static void tunnels(void **state)
{
	static const char *const open[][2] = {
		{ "GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n" },
		{ "CONNECT other:443 HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(open); i++) {
		struct flow f = flow_make(0x0a000002, (uint16_t)(1000 + i));
		struct weir_client c;

		send_request(&f, open[i][0]);
		send_response(&f, open[i][1]);
		packets(m, &f, WEIR_REQUEST, "\x81\x05GET / HTTP/1.1\r\n\r\n", 22, 0);
		packets(m, &f, WEIR_RESPONSE, "\x81\x05HTTP/1.1 500 X\r\n\r\n", 22, 0);
		flow_rst(m, &f, WEIR_REQUEST);
		assert_true(client_get(m, &f, &c));
		assert_int_equal(c.requests, i + 1);
		assert_int_equal(c.status_5xx, 0);
		assert_int_equal(c.open, 0);
	}
	assert_int_equal(stat_get(m, WEIR_STAT_NOT_HTTP), 0);
	assert_true(stat_get(m, WEIR_STAT_UPGRADED) > 0);
}

static const struct exchange *const plain = &exchanges[1];

static void retransmitted_and_overlapping(void **state)
{
	size_t nq, nr;
	const char *q = spell(plain->request, &nq), *r = spell(plain->response, &nr);

	(void)state;
	for (size_t s = 1; s < nr; s += 7) {
		struct flow f = flow_make(0x0a000002, 1000);
		struct weir_client c;
		uint32_t start;

		packets(m, &f, WEIR_REQUEST, q, nq, 0);
		/* the request again, and with a bit more */
		packet_at(m, &f, WEIR_REQUEST, f.cseq - (uint32_t)nq, q, nq, TCP_ACK);
		start = f.sseq;
		packet_at(m, &f, WEIR_RESPONSE, start, r, s, TCP_ACK);
		packet_at(m, &f, WEIR_RESPONSE, start, r, s, TCP_ACK);
		/* overlaps what was sent, half way back */
		packet_at(m, &f, WEIR_RESPONSE, start + (uint32_t)(s / 2), r + s / 2, nr - s / 2, TCP_ACK);
		packet_at(m, &f, WEIR_RESPONSE, start + (uint32_t)(s / 2), r + s / 2, nr - s / 2, TCP_ACK);
		f.sseq = start + (uint32_t)nr;
		flow_fin(m, &f, WEIR_REQUEST);
		flow_fin(m, &f, WEIR_RESPONSE);
		assert_true(client_get(m, &f, &c));
		check("retransmitted", s, &c, &plain->want);
		assert_int_equal(c.bytes_out, nr);
		drain(m);
		flow_forget(m);
	}
}

/* The response's text, and where its chunk with the usage begins (0: none). */
static size_t response_copy(char *to, const char *text, size_t *n)
{
	const char *u = spell(text, n);

	memcpy(to, u, *n + 1);
	u = strstr(to, "data: {\"choices\":[],\"usage\"");
	if (!u)
		return 0;
	for (u -= 2; u[-1] != '\n'; u--)
		;
	return (size_t)(u - to);
}

/* A hole in a response: usage after it is still found, the record says partial, and the next response is exact again. */
static void hole_in_response(void **state)
{
	static char r[4096];
	size_t nr, head = strlen(HEAD_SSE), usage;

	(void)state;
	usage = response_copy(r, plain->response, &nr);
	for (size_t from = head + 1; from < usage; from += 5) {
		struct flow f = flow_make(0x0a000002, 1000);
		struct weir_client c;

		send_request(&f, plain->request);
		packets(m, &f, WEIR_RESPONSE, r, from, 0);
		f.sseq += (uint32_t)(usage - from);
		packets(m, &f, WEIR_RESPONSE, r + usage, nr - usage, 0);
		drain(m);
		assert_true(client_get(m, &f, &c));
		check("hole", from, &c, &plain->want);
		assert_int_equal(c.bytes_out, nr);
		assert_true(m->seen.last.flags & WEIR_DONE_PARTIAL);
		send_request(&f, plain->request);
		send_response(&f, plain->response);
		drain(m);
		assert_false(m->seen.last.flags & WEIR_DONE_PARTIAL);
		assert_true(client_get(m, &f, &c));
		assert_int_equal(c.prompt_tokens, 2 * plain->want.prompt);
		assert_int_equal(c.requests, 2);
		flow_rst(m, &f, WEIR_RESPONSE);
		flow_forget(m);
	}
	assert_true(stat_get(m, WEIR_STAT_GAP) > 0);
	assert_true(stat_get(m, WEIR_STAT_RESYNC) > 0);
}

/* Attached in the middle of a stream: the tail's usage is taken, its request counted, and the next one is exact. */
static void attached_late(void **state)
{
	static char r[4096];
	size_t nr, head = strlen(HEAD_SSE), usage;

	(void)state;
	usage = response_copy(r, plain->response, &nr);
	for (size_t from = head; from <= usage; from++) {
		struct flow f = flow_make(0x0a000002, 1000);
		struct weir_client c;

		packets(m, &f, WEIR_RESPONSE, r + from, usage - from, 0);
		packets(m, &f, WEIR_RESPONSE, r + usage, nr - usage, 0);
		drain(m);
		assert_true(client_get(m, &f, &c));
		assert_int_equal(c.requests, 1);
		assert_int_equal(c.prompt_tokens, plain->want.prompt);
		assert_int_equal(c.completion_tokens, plain->want.completion);
		assert_true(m->seen.last.flags & WEIR_DONE_PARTIAL);
		assert_true(m->seen.last.flags & WEIR_DONE_NO_REQUEST);
		send_request(&f, plain->request);
		packets(m, &f, WEIR_RESPONSE, r, nr, 0);
		assert_true(client_get(m, &f, &c));
		assert_int_equal(c.requests, 2);
		assert_int_equal(c.prompt_tokens, 2 * plain->want.prompt);
		assert_int_equal(c.open, 0);
		flow_rst(m, &f, WEIR_RESPONSE);
		flow_forget(m);
	}
}

/* The body of a request may have holes: its length is known. What follows is exact. */
static void hole_in_request_body(void **state)
{
	struct flow f = flow_make(0x0a000002, 1000);
	char body[1000];
	struct weir_client c;

	(void)state;
	memset(body, 'x', sizeof(body));
	packets(m, &f, WEIR_REQUEST, "POST / HTTP/1.1\r\nContent-Length: 3000\r\n\r\n", 41, 0);
	packets(m, &f, WEIR_REQUEST, body, 1000, 0);
	f.cseq += 1000;
	packets(m, &f, WEIR_REQUEST, body, 1000, 0);
	send_response(&f, OK);
	send_request(&f, GET);
	send_response(&f, OK);
	assert_true(client_get(m, &f, &c));
	assert_int_equal(c.requests, 2);
	assert_int_equal(c.status_2xx, 2);
	assert_int_equal(c.open, 0);
	assert_int_equal(c.bytes_in, 3041 + strlen(GET));
	assert_int_equal(stat_get(m, WEIR_STAT_GAP_BYTES), 1000);
}

static void addresses(void **state)
{
	struct flow f = flow_make(0x0a000002, 1000);
	struct weir_client c;

	(void)state;
	f.options = 40;
	send_request(&f, GET);
	assert_true(client_get(m, &f, &c));
	assert_int_equal(c.requests, 1);

	for (uint32_t ext = 0; ext <= 48; ext += 8) {
		uint8_t whole[16], net[16];

		memset(&f, 0, sizeof(f));
		f.v6 = true;
		inet_pton(AF_INET6, "2001:db8:1:2:3:4:5:6", f.client);
		inet_pton(AF_INET6, "2001:db8::1", f.server);
		f.cport = (uint16_t)(2000 + ext);
		f.sport = 8000;
		f.options = ext;
		send_request(&f, GET);
		memcpy(whole, f.client, 16);
		assert_false(client_get(m, &f, &c)); /* counted per /64 */
		inet_pton(AF_INET6, "2001:db8:1:2::", net);
		memcpy(f.client, net, 16);
		if (ext > 40) {
			assert_true(client_get(m, &f, &c));
			assert_int_equal(c.requests, 6); /* more extension headers than are walked */
			assert_true(stat_get(m, WEIR_STAT_UNREADABLE) > 0);
			continue;
		}
		assert_true(client_get(m, &f, &c));
		assert_int_equal(c.requests, ext / 8 + 1);
	}
	/* loopback is not cut */
	memset(&f, 0, sizeof(f));
	f.v6 = true;
	f.client[15] = f.server[15] = 1;
	f.cport = 3000;
	f.sport = 8000;
	send_request(&f, GET);
	assert_true(client_get(m, &f, &c));
}

static void aborted(void **state)
{
	static char r[4096];
	size_t nr, first, second;

	(void)state;
	response_copy(r, exchanges[2].response, &nr);
	first = (size_t)(strstr(r, "}]}\n") + 4 - r);
	second = (size_t)(strstr(r + first, "}]}\n") + 4 - r);
	/* the server closes, or either side resets, at every point of the response */
	for (size_t at = 0; at < nr; at += 3) {
		for (int how = 0; how < 3; how++) {
			struct flow f = flow_make(0x0a000002, 1000);
			struct weir_client c;

			send_request(&f, GET);
			packets(m, &f, WEIR_RESPONSE, r, at, 0);
			if (how == 0) {
				flow_fin(m, &f, WEIR_RESPONSE);
				flow_fin(m, &f, WEIR_REQUEST);
			} else {
				flow_rst(m, &f, how == 1 ? WEIR_REQUEST : WEIR_RESPONSE);
			}
			assert_true(client_get(m, &f, &c));
			assert_int_equal(c.requests, 1);
			assert_int_equal(c.aborted, 1);
			assert_int_equal(c.open, 0);
			assert_int_equal(c.estimated_tokens, (at >= first) + (at >= second));
			drain(m);
			assert_true(m->seen.last.flags & WEIR_DONE_ABORTED);
			if (how != 1 || at < strlen(HEAD_SSE)) {
				assert_int_equal(conns_count(m), 0);
			} else {
				/* the client's reset overtakes what the server is just sending: that is counted still, once */
				uint64_t dones = m->seen.dones;

				packets(m, &f, WEIR_RESPONSE, r + at, nr - at, 50);
				drain(m);
				assert_true(client_get(m, &f, &c));
				assert_int_equal(c.estimated_tokens, 2);
				assert_int_equal(c.bytes_out, nr);
				assert_int_equal(c.requests, 1);
				assert_int_equal(c.aborted, 1);
				assert_int_equal(c.open, 0);
				assert_int_equal(m->seen.dones, dones);
				/* and the same four-tuple may come again */
				f.cseq += 100000;
				send_request(&f, GET);
				assert_true(client_get(m, &f, &c));
				assert_int_equal(c.requests, 2);
				assert_int_equal(c.open, 1);
			}
			flow_forget(m);
		}
	}
}

static void not_http(void **state)
{
	static const char *const rubbish[] = { "\x16\x05\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "PRIX * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\0\0\0\0", "GETX / HTTP/1.1\r\n\r\n", "hello" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rubbish); i++) {
		struct flow f = flow_make(0x0a000002, (uint16_t)(1000 + i));
		struct weir_client c;

		packets(m, &f, WEIR_REQUEST, rubbish[i], i == 2 ? 4 : strlen(rubbish[i]), 0);
		packets(m, &f, WEIR_REQUEST, rubbish[i], i == 2 ? 4 : strlen(rubbish[i]), 0);
		packets(m, &f, WEIR_RESPONSE, "\x19\x03\x01\x00\x02\x02\x28", 7, 0);
		assert_int_equal(stat_get(m, WEIR_STAT_NOT_HTTP), 2 * i + 2); /* once each way */
		/* the confusion ends with that message */
		send_request(&f, GET);
		send_response(&f, OK);
		assert_true(client_get(m, &f, &c));
		assert_int_equal(c.requests, i + 1);
		assert_int_equal(c.status_2xx, i + 1);
	}
}

#define CLIENT_HELLO "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"

/* Ciphertext is left to the TLS hook; without one it is counted as what it is. */
static void tls_is_no_rubbish(void **state)
{
	struct flow f = flow_make(0x0a000003, 1000);
	struct weir_client c;

	(void)state;
	packets(m, &f, WEIR_REQUEST, CLIENT_HELLO, 11, 0);
	packets(m, &f, WEIR_RESPONSE, "\x16\x03\x03\x00\x7a\x02", 6, 0);
	for (int i = 0; i < 3; i++) {
		send_request(&f, "\x17\x03\x03\x00\x05");
		send_response(&f, OK); /* whatever it looks like */
	}
	assert_int_equal(stat_get(m, WEIR_STAT_TLS), 1);
	assert_int_equal(stat_get(m, WEIR_STAT_NOT_HTTP), 0);
	assert_false(client_get(m, &f, &c) && c.requests);
	flow_fin(m, &f, WEIR_REQUEST);
	flow_fin(m, &f, WEIR_RESPONSE);
	assert_int_equal(stat_get(m, WEIR_STAT_TLS_BLIND), 1);
}

/* The client resets; what leaves the server yet is answered by more resets. It is one connection, and lost once. */
static void tls_reset_in_flight(void **state)
{
	struct flow f = flow_make(0x0a000005, 1000);
	uint64_t conns = stat_get(m, WEIR_STAT_TLS), blind = stat_get(m, WEIR_STAT_TLS_BLIND);

	(void)state;
	packets(m, &f, WEIR_REQUEST, CLIENT_HELLO, 11, 0);
	packets(m, &f, WEIR_RESPONSE, "\x16\x03\x03\x00\x7a\x02", 6, 0);
	flow_rst(m, &f, WEIR_REQUEST);
	for (int i = 0; i < 3; i++) {
		packets(m, &f, WEIR_RESPONSE, "\x17\x03\x03\x00\x05", 5, 0);
		flow_rst(m, &f, WEIR_REQUEST);
	}
	assert_int_equal(stat_get(m, WEIR_STAT_TLS) - conns, 1);
	assert_int_equal(stat_get(m, WEIR_STAT_TLS_BLIND) - blind, 1);
	/* and the same four-tuple may come again */
	f.cseq += 100000;
	packets(m, &f, WEIR_REQUEST, CLIENT_HELLO, 11, 0);
	assert_int_equal(stat_get(m, WEIR_STAT_TLS) - conns, 2);
}

/* A client that only pretends hides its own request at most. */
static void tls_cannot_be_pretended(void **state)
{
	struct flow f = flow_make(0x0a000004, 1000);
	struct weir_client c;

	(void)state;
	packets(m, &f, WEIR_REQUEST, CLIENT_HELLO, 11, 0);
	send_response(&f, OK);
	assert_true(client_get(m, &f, &c));
	assert_int_equal(c.requests, 1);
	assert_int_equal(c.status_2xx, 1);
	send_request(&f, GET);
	send_response(&f, OK);
	assert_true(client_get(m, &f, &c));
	assert_int_equal(c.requests, 2);
	assert_int_equal(c.status_2xx, 2);
}

static void absurd_framing(void **state)
{
	static const char *const bad[] = {
		"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1000000000000000000\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab",
		"HTTP/1.1 99 X\r\n\r\n",
		"HTTP/1.1 2000 X\r\n\r\n",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct flow f = flow_make(0x0a000002, (uint16_t)(1000 + i));
		uint64_t before = stat_get(m, WEIR_STAT_BAD_FRAMING) + stat_get(m, WEIR_STAT_NOT_HTTP);
		struct weir_client c;

		send_request(&f, GET);
		packets(m, &f, WEIR_RESPONSE, bad[i], strlen(bad[i]), 0);
		if (stat_get(m, WEIR_STAT_BAD_FRAMING) + stat_get(m, WEIR_STAT_NOT_HTTP) != before + 1) {
			print_error("not counted: %s\n", bad[i]);
			fail();
		}
		flow_rst(m, &f, WEIR_RESPONSE);
		assert_true(client_get(m, &f, &c));
		assert_int_equal(c.requests, i + 1);
		assert_int_equal(c.open, 0);
	}
}

static void endless_head(void **state)
{
	struct flow f = flow_make(0x0a000002, 1000);
	char line[2000];

	(void)state;
	memset(line, 'a', sizeof(line));
	packets(m, &f, WEIR_REQUEST, "GET / HTTP/1.1\r\nX: ", 19, 0);
	for (int i = 0; i < 40; i++)
		packets(m, &f, WEIR_REQUEST, line, sizeof(line), 0);
	assert_int_equal(stat_get(m, WEIR_STAT_HEAD_TOO_LONG), 1);
	assert_int_equal(stat_get(m, WEIR_STAT_REQUESTS), 0);
}

/* More clients than the map holds: the sum over clients and `other` is the total. */
static void clients_overflow(void **state)
{
	struct meter_opts o = { .fast = fast, .clients = 64 };
	struct weir_client sum;

	(void)state;
	meter_close(m);
	m = meter_open(&o);
	assert_non_null(m);
	for (uint32_t i = 0; i < 500; i++) {
		struct flow f = flow_make(0x0a010000 + i, 1000);

		send_request(&f, plain->request);
		send_response(&f, plain->response);
		flow_rst(m, &f, WEIR_REQUEST);
		drain(m);
	}
	assert_int_equal(clients_sum(m, &sum), 65);
	assert_int_equal(sum.requests, 500);
	assert_int_equal(sum.prompt_tokens, 500 * plain->want.prompt);
	assert_int_equal(sum.open, 0);
	assert_int_equal(stat_get(m, WEIR_STAT_REQUESTS), 500);
	assert_true(stat_get(m, WEIR_STAT_CLIENT_FULL) > 0);
}

static void conns_overflow(void **state)
{
	struct meter_opts o = { .fast = fast, .conns = 32 };

	(void)state;
	meter_close(m);
	m = meter_open(&o);
	assert_non_null(m);
	for (uint32_t i = 0; i < 200; i++) {
		struct flow f = flow_make(0x0a000002, (uint16_t)(1000 + i));

		send_request(&f, GET);
	}
	assert_true(conns_count(m) <= 32);
	assert_int_equal(stat_get(m, WEIR_STAT_CONN_FULL) + stat_get(m, WEIR_STAT_REQUESTS), 200);
}

/* Nobody reads the ring: counters stay exact, every record not sent is counted, and the quiet client still gets through. */
static void ring_overrun(void **state)
{
	struct meter_opts o = { .fast = fast, .ring = 64 * 1024 };
	struct flow loud = flow_make(0x0a000002, 1000), quiet = flow_make(0x0a000003, 1001);
	struct weir_client c;
	uint64_t dones;

	(void)state;
	meter_close(m);
	m = meter_open(&o);
	assert_non_null(m);
	for (int i = 0; i < 1000; i++) {
		send_request(&loud, plain->request);
		send_response(&loud, plain->response);
	}
	send_request(&quiet, plain->request);
	send_response(&quiet, plain->response);
	assert_true(client_get(m, &loud, &c));
	assert_int_equal(c.requests, 1000);
	assert_int_equal(c.completion_tokens, 1000 * plain->want.completion);
	assert_true(c.lost > 0);
	assert_int_equal(c.lost_prompt_tokens, c.lost * plain->want.prompt);
	dones = 1000 - c.lost;
	assert_true(client_get(m, &quiet, &c));
	assert_int_equal(c.lost, 0);
	assert_int_equal(c.slices_dropped, 0);
	drain(m);
	assert_int_equal(m->seen.dones, dones + 1);
	assert_int_equal(stat_get(m, WEIR_STAT_RING_FAIR) + stat_get(m, WEIR_STAT_RING_FULL), 1000 - dones);
}

/* Twenty clients flood through many drains: whoever was quiet before still gets through, every time. */
static void ring_overrun_by_many(void **state)
{
	struct meter_opts o = { .fast = fast, .ring = 64 * 1024 };
	struct flow loud[20], quiet = flow_make(0x0a000003, 1001);
	struct weir_client c;

	(void)state;
	meter_close(m);
	m = meter_open(&o);
	assert_non_null(m);
	for (unsigned k = 0; k < ARRAY_SIZE(loud); k++)
		loud[k] = flow_make(0x0a000100 + k, 1000);
	for (int epoch = 0; epoch < 8; epoch++) {
		for (int i = 0; i < 10; i++) {
			for (unsigned k = 0; k < ARRAY_SIZE(loud); k++) {
				send_request(&loud[k], plain->request);
				send_response(&loud[k], plain->response);
			}
		}
		if (epoch % 4 == 3) {
			send_request(&quiet, plain->request);
			send_response(&quiet, plain->response);
		}
		drain(m);
	}
	assert_true(stat_get(m, WEIR_STAT_RING_FAIR) > 100);
	assert_true(client_get(m, &quiet, &c));
	assert_int_equal(c.requests, 2);
	assert_int_equal(c.lost, 0);
	assert_int_equal(c.slices_dropped, 0);
}

static void shed(void **state)
{
	struct flow f = flow_make(0x0a000002, 1000);
	struct weir_client c;

	(void)state;
	m->control->shed = WEIR_SHED_RECORDS;
	send_request(&f, plain->request);
	send_response(&f, plain->response);
	drain(m);
	assert_int_equal(m->seen.dones + m->seen.slices, 0);
	assert_true(client_get(m, &f, &c));
	check("shed records", 0, &c, &plain->want);
	assert_int_equal(c.lost, 1);
	m->control->shed = WEIR_SHED_SCAN;
	send_request(&f, plain->request);
	send_response(&f, plain->response);
	assert_true(client_get(m, &f, &c));
	assert_int_equal(c.requests, 2);
	assert_int_equal(c.status_2xx, 2);
	assert_int_equal(c.prompt_tokens, plain->want.prompt);
	m->control->shed = WEIR_SHED_NONE;
	send_request(&f, plain->request);
	send_response(&f, plain->response);
	assert_true(client_get(m, &f, &c));
	assert_int_equal(c.prompt_tokens, 2 * plain->want.prompt);
}

static void no_secret(void *ctx, const void *data, size_t n)
{
	const struct weir_slice *s = data;

	if (s->type == WEIR_EVENT_SLICE && n >= sizeof(*s))
		*(bool *)ctx |= memmem(s->data, s->len, "SECRET", 6) != NULL;
}

static void prompt_blind(void **state)
{
	static char request[4096];
	size_t n;
	struct meter_opts o = { .fast = fast, .prompt_blind = true };
	bool leaked;

	(void)state;
	response_copy(request, POST("{\"messages\":\"SECRET!!!!\"}"), &n);
	for (int blind = 0; blind < 2; blind++) {
		o.prompt_blind = blind;
		meter_close(m);
		m = meter_open(&o);
		assert_non_null(m);
		m->seen.on_event = no_secret;
		m->seen.ctx = &leaked;
		leaked = false;
		for (size_t piece = 0; piece < 30; piece++) {
			struct flow f = flow_make(0x0a000002, (uint16_t)(1000 + piece));
			struct weir_client c;

			packets(m, &f, WEIR_REQUEST, request, strlen(request), piece ? piece * 5 : 0);
			send_response(&f, plain->response);
			drain(m);
			assert_true(client_get(m, &f, &c));
			assert_int_equal(c.prompt_tokens, (piece + 1) * plain->want.prompt);
		}
		assert_int_equal(leaked, !blind);
	}
}

static void times(void **state)
{
	struct flow f = flow_make(0x0a000002, 1000);
	static char r[4096];
	size_t head = strlen(HEAD_SSE), n;
	const struct weir_done *d = &m->seen.last;

	(void)state;
	response_copy(r, exchanges[2].response, &n);
	packets(m, &f, WEIR_REQUEST, "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{", 39, 20);
	usleep(2000);
	packets(m, &f, WEIR_REQUEST, "}", 1, 0);
	usleep(2000);
	packets(m, &f, WEIR_RESPONSE, r, head, 0);
	usleep(2000);
	packets(m, &f, WEIR_RESPONSE, r + head, strlen(r) - head, 0);
	drain(m);
	assert_int_equal(m->seen.dones, 1);
	assert_true(d->req_first_ns < d->req_head_ns);
	assert_true(d->req_head_ns + 1500000 < d->req_last_ns);
	assert_true(d->req_last_ns + 1500000 < d->resp_first_ns);
	assert_true(d->resp_first_ns + 1500000 < d->content_ns);
	assert_true(d->content_ns <= d->resp_last_ns);
	assert_int_equal(d->events, 2);
	assert_int_equal(d->delta_events, 2);
	assert_int_equal(d->resp_bytes, strlen(r));
}

/* The first content is what a user first sees: not the header, not the event that only names the role. */
static void role_is_not_content(void **state)
{
	struct flow f = flow_make(0x0a000002, 1000);
	static char r[4096];
	const char *second;
	size_t n;

	(void)state;
	response_copy(r, plain->response, &n);
	second = strstr(r, "\"a\"") - 20;
	send_request(&f, GET);
	packets(m, &f, WEIR_RESPONSE, r, (size_t)(second - r), 0);
	usleep(3000);
	packets(m, &f, WEIR_RESPONSE, second, strlen(second), 0);
	drain(m);
	assert_true(m->seen.last.content_ns > m->seen.last.resp_first_ns + 2500000);
	assert_int_equal(m->seen.last.events, 3);
	assert_int_equal(m->seen.last.delta_events, 1);
}

static void gzip_goes_up_whole(void **state)
{
	struct flow f = flow_make(0x0a000002, 1000);
	char body[2000];
	uint64_t before;

	(void)state;
	memset(body, 7, sizeof(body));
	send_request(&f, GET);
	packets(m, &f, WEIR_RESPONSE, HEAD_JSON "Content-Encoding: gzip\r\nContent-Length: 20000\r\n\r\n", strlen(HEAD_JSON "Content-Encoding: gzip\r\nContent-Length: 20000\r\n\r\n"), 0);
	drain(m);
	before = m->seen.slice_bytes;
	for (int i = 0; i < 10; i++) {
		packets(m, &f, WEIR_RESPONSE, body, sizeof(body), 0);
		drain(m);
	}
	assert_int_equal(m->seen.slice_bytes - before, 20000);
	assert_true(m->seen.last.flags & WEIR_DONE_ENCODED);
	assert_int_equal(stat_get(m, WEIR_STAT_ENCODED), 1);
}

/* A request of any size sends a bounded number of bytes up. */
static void bounded_slices(void **state)
{
	struct flow f = flow_make(0x0a000002, 1000);
	static char body[3000];

	(void)state;
	memset(body, 'p', sizeof(body));
	packets(m, &f, WEIR_REQUEST, "POST / HTTP/1.1\r\nContent-Length: 3000000\r\n\r\n", 44, 0);
	for (int i = 0; i < 1000; i++) {
		packets(m, &f, WEIR_REQUEST, body, sizeof(body), 0);
		drain(m);
	}
	assert_true(m->seen.slice_bytes <= WEIR_SLICE_HEAD + WEIR_SLICE_TAIL);
	assert_true(m->seen.slice_bytes >= 5000);
	packets(m, &f, WEIR_RESPONSE, HEAD_JSON "Content-Length: 3000000\r\n\r\n", strlen(HEAD_JSON "Content-Length: 3000000\r\n\r\n"), 0);
	for (int i = 0; i < 1000; i++) {
		packets(m, &f, WEIR_RESPONSE, body, sizeof(body), 0);
		drain(m);
	}
	assert_int_equal(m->seen.dones, 1);
	assert_true(m->seen.slice_bytes <= WEIR_SLICE_HEAD + WEIR_SLICE_TAIL + WEIR_SLICE_RESPONSE);
}

/* The verifier's work is a budget: growth is to be seen here, not on somebody's older kernel. */
static void verifier_budget(void **state)
{
	int fds[] = { m->in, m->out };

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct bpf_prog_info info = { 0 };
		uint32_t len = sizeof(info);

		assert_int_equal(bpf_obj_get_info_by_fd(fds[i], &info, &len), 0);
		print_message("%s %s: %u instructions verified, %u bytes of machine code\n", fast ? "fast" : "loop", i ? "on_egress" : "on_ingress", info.verified_insns, info.jited_prog_len);
		assert_true(info.verified_insns > 0 && info.verified_insns < 250000);
	}
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest cases[] = {
		CASE(every_split),	 CASE(tunnels), CASE(retransmitted_and_overlapping), CASE(hole_in_response), CASE(attached_late), CASE(hole_in_request_body),
		CASE(addresses),	 CASE(aborted),			      CASE(not_http), CASE(tls_is_no_rubbish), CASE(tls_reset_in_flight), CASE(tls_cannot_be_pretended),	      CASE(absurd_framing), CASE(endless_head),
		CASE(clients_overflow),	 CASE(conns_overflow),		      CASE(ring_overrun),     CASE(ring_overrun_by_many), CASE(shed),	   CASE(prompt_blind),
		CASE(times),		 CASE(role_is_not_content),	      CASE(gzip_goes_up_whole), CASE(bounded_slices), CASE(verifier_budget),
	};
	int failed;

	libbpf_set_print(NULL);
	failed = cmocka_run_group_tests_name("meter (bpf_loop)", cases, NULL, NULL);
	fast = true;
	failed += cmocka_run_group_tests_name("meter (may_goto)", cases, NULL, NULL);
	return failed != 0;
}
