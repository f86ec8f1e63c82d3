/*
 * test_scrub.c - captures that may be shown: the requests found in them are the same ones, and nothing of what was said is left.
 *
 * The exchanges are those of tests/fixtures/dialects, all of them, with keys, cookies and prompts added that are thrown anew each time
 * and then searched for; cut into segments of every size, shuffled, and with holes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/log.h"
#include "cmd/replay_pcap.h"
#include "cmd/scrub_pcap.h"
#include "decode/automaton.h"
#include "fixture_http.h"
#include "pcap_make.h"

static struct weir_automaton automaton;

/* ---- the records of a capture ------------------------------------------------------------------------------- */
struct lines {
	struct str text;
	unsigned records;
};

/* What is replaced is the same length, or is not there. */
static void forget(struct record *r, enum record_field f)
{
	r->has &= ~F_BIT(f);
}

static int on_record(void *ctx, const struct record *r)
{
	struct lines *l = ctx;
	struct record copy = *r;

	l->records++;
	forget(&copy, F_API_KEY);
	forget(&copy, F_USER);
	forget(&copy, F_PROMPT_HASH);
	forget(&copy, F_PROMPT_SIM);
	forget(&copy, F_PROMPT_ENTROPY);
	forget(&copy, F_INJECTION_SCORE);
	record_write_json(&l->text, &copy);
	return 0;
}

static void records_of(const char *p, size_t n, struct lines *l)
{
	static const uint8_t key[SIPHASH_KEY_BYTES] = "0123456789abcdef";
	struct replay_pcap_opts o = { .name = "test", .key = key, .automaton = &automaton, .record = on_record, .ctx = l };

	memset(l, 0, sizeof(*l));
	l->text.ceiling = 16u << 20;
	assert_int_equal(replay_pcap(fmemopen((void *)p, n, "rb"), &o), 0);
}

static void scrubbed(const struct made *m, bool addresses, char **ret, size_t *ret_n)
{
	struct scrub_pcap_stats stats;
	FILE *out = open_memstream(ret, ret_n);
	char why[512];

	assert_non_null(out);
	assert_int_equal(scrub_pcap(fmemopen(m->file.p, m->file.n, "rb"), out, addresses, &stats, why), 0);
	assert_int_equal(stats.frames, m->frames);
	assert_int_equal(stats.hurried, 0);
}

static bool is_hidden(const char *p, size_t n, const char *secret)
{
	const char *at = memmem(p, n, secret, strlen(secret));

	if (at)
		print_error("'%s' is there still, at byte %zu: %.*s\n", secret, (size_t)(at - p), 50, at - 30);
	return !at;
}

static void assert_same(const struct made *m, const char *secret, const char *what)
{
	struct lines before, after;
	char *out;
	size_t n;

	scrubbed(m, false, &out, &n);
	assert_int_equal(n, m->file.n);
	if (secret)
		assert_true(is_hidden(out, n, secret));
	records_of(m->file.p, m->file.n, &before);
	records_of(out, n, &after);
	assert_int_equal(before.records, after.records);
	if (before.records && strcmp(before.text.p, after.text.p))
		print_error("%s:\n%s%s", what, before.text.p, after.text.p);
	if (before.records)
		assert_string_equal(before.text.p, after.text.p);
	str_done(&before.text);
	str_done(&after.text);
	free(out);
}

/* ---- tests ------------------------------------------------------------------------------------------------------ */
static uint64_t dice_state = 1;

static uint32_t dice(uint32_t below)
{
	dice_state = dice_state * UINT64_C(6364136223846793005) + 1442695040888963407u;
	return (uint32_t)(dice_state >> 33) % below;
}

static struct made_conn conn_new(void)
{
	return (struct made_conn){ .client_port = 40000, .server_port = 8000, .seq = { 1000, 0xffffff80u } };
}

static bool is_packed(const struct fixture *f)
{
	return memmem(f->response, f->response_len, "ontent-Encoding: ", 17) || memmem(f->response, f->response_len, "ontent-encoding: ", 17) ||
	       memmem(f->request, f->request_len, "ontent-Encoding: ", 17);
}

static void fixture_same(struct fixture *f, void *ctx)
{
	unsigned *compared = ctx;

	if (is_packed(f))
		return; /* what is compressed is blanked: its tokens are gone */
	for (size_t step = 0; step < 60; step += step < 4 ? 1 : 17) {
		struct made m = { .link = MADE_ETHERNET };
		struct made_conn c = conn_new();

		made_begin(&m);
		made_open(&m, &c);
		made_bytes(&m, &c, 0, f->request, f->request_len, step);
		made_bytes(&m, &c, 1, f->response, f->response_len, step);
		made_close(&m, &c);
		assert_same(&m, NULL, f->name);
		str_done(&m.file);
	}
	++*compared;
}

static void test_fixtures(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	unsigned compared = 0;

	(void)state;
	assert_true(fixtures_each(f, fixture_same, &compared) > 0);
	assert_true(compared > 100);
	free(f);
}

static void secret_make(char s[20])
{
	for (int i = 0; i < 19; i++)
		s[i] = (char)('a' + dice(26));
	s[19] = '\0';
}

/* One secret in every place where somebody may put one. */
static size_t secrets_put(char *request, char *response, size_t room, const char *s)
{
	char body[4096];
	int n = snprintf(body, sizeof(body),
			 "{\"model\":\"m\",\"user\":\"%s\",\"%s\":1,\"x\":{\"model\":\"%s\"},\"stop\":[\"%s\"],\"logit_bias\":{\"%s\":2},\"metadata\":{\"user_id\":\"%s\",\"%s\":\"%s\"},"
			 "\"max_tokens\":9,\"messages\":[{\"role\":\"%s\",\"content\":\"%s \\n\\u00e9 \xc3\xa9 %s\"},{\"content\":[{\"type\":\"%s\",\"text\":\"%s\"}]}],"
			 "\"tools\":[{\"type\":\"%s\",\"model\":\"%s\",\"max_tokens\":\"%s\"}],\"prompt\":\"%s\",\"input\":[{\"content\":\"%s\"}],\"stream\":false,\"q\":%s}",
			 s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s);

	assert_true(n > 0 && (size_t)n < sizeof(body));
	n = snprintf(request, room,
		     "POST /v1/chat/completions?key=%s&a=%s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nX-Api-Key: %s\r\nCookie: a=%s\r\n%s: b\r\nX-Custom: %s\r\n"
		     "Content-Length: %d\r\n\r\n%s",
		     s, s, s, s, s, s, s, s, n, body);
	assert_true(n > 0 && (size_t)n < room);
	snprintf(body, sizeof(body),
		 "{\"id\":\"c-1\",\"model\":\"m\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"%s\",\"tool_calls\":[{\"id\":\"%s\",\"function\":"
		 "{\"name\":\"%s\",\"arguments\":\"{\\\"a\\\":\\\"%s\\\"}\"}}]},\"logprobs\":{\"content\":[{\"token\":\"%s\"}],\"%s\":1},\"finish_reason\":\"stop\"}],"
		 "\"error\":\"%s\",\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":41,\"%s\":\"%s\"}}",
		 s, s, s, s, s, s, s, s, s);
	return (size_t)snprintf(response, room, "HTTP/1.1 200 %s\r\nContent-Type: application/json\r\nSet-Cookie: %s\r\nX-Secret: %s\r\nContent-Length: %zu\r\n\r\n%s", s, s, s,
				strlen(body), body);
}

static void test_secrets(void **state)
{
	static char request[8192], response[8192];

	(void)state;
	for (size_t step = 0; step < 400; step++) {
		struct made m = { .link = step & 1 ? MADE_ETHERNET : MADE_SLL2, .v6 = step % 3 == 0 };
		struct made_conn c = conn_new();
		char s[20];

		secret_make(s);
		secrets_put(request, response, sizeof(request), s);
		made_begin(&m);
		if (step % 5)
			made_open(&m, &c);
		made_bytes(&m, &c, 0, request, strlen(request), step < 200 ? step : 0);
		made_bytes(&m, &c, 1, response, strlen(response), step < 200 ? step : 0);
		if (step >= 200) { /* cut in two at every place, of the head and of the body */
			made_bytes(&m, &c, 0, request, (step - 200) * 8 % strlen(request), 0);
			made_bytes(&m, &c, 0, request + (step - 200) * 8 % strlen(request), strlen(request) - (step - 200) * 8 % strlen(request), 0);
			made_text(&m, &c, 1, response);
		}
		made_close(&m, &c);
		if (step % 5)
			assert_same(&m, s, "secrets");
		else { /* begun before the capture: only what is said to begin a message is read */
			char *out;
			size_t n;

			scrubbed(&m, false, &out, &n);
			assert_true(is_hidden(out, n, s));
			free(out);
		}
		str_done(&m.file);
	}
}

/* Of segments out of order, repeated and with holes no secret is left, either. */
static void test_disorder(void **state)
{
	static char request[8192], response[8192];

	(void)state;
	for (unsigned run = 0; run < 150; run++) {
		struct made m = { .link = MADE_RAW };
		struct made_conn c = conn_new();
		char s[20], *out;
		size_t n;

		secret_make(s);
		secrets_put(request, response, sizeof(request), s);
		made_begin(&m);
		made_open(&m, &c);
		for (int side = 0; side < 2; side++) {
			const char *text = side ? response : request;
			size_t len = strlen(text);
			struct {
				size_t at, n;
			} piece[512], t;
			size_t count = 0;

			for (size_t at = 0; at < len; at += piece[count++].n) {
				piece[count].at = at;
				piece[count].n = 1 + dice(60);
				piece[count].n = MIN(piece[count].n, len - at);
			}
			for (size_t i = 0; i + 1 < count; i++) {
				size_t k = i + dice(3) % (count - i);

				t = piece[i];
				piece[i] = piece[k];
				piece[k] = t;
			}
			for (size_t i = 0; i < count; i++) {
				if (run % 2 && !dice(15))
					continue; /* a hole */
				for (unsigned again = 0; again < 1 + !dice(6); again++)
					made_raw(&m, &c, side, c.seq[side] + (uint32_t)piece[i].at, c.seq[!side], MADE_ACK, text + piece[i].at, piece[i].n);
			}
			c.seq[side] += (uint32_t)len;
		}
		made_close(&m, &c);
		if (run % 2 == 0)
			assert_same(&m, s, "disorder");
		scrubbed(&m, run & 2, &out, &n);
		assert_true(is_hidden(out, n, s));
		free(out);
		str_done(&m.file);
	}
}

/* The same key becomes the same other one, another another. */
static void test_grouping(void **state)
{
	static const char *const keys[] = { "sk-aaaaaaaaaaaa", "sk-bbbbbbbbbbbb", "sk-aaaaaaaaaaaa" };
	struct made m = { .link = MADE_RAW };
	char *out, found[3][16];
	const char *at;
	size_t n;

	(void)state;
	made_begin(&m);
	for (unsigned i = 0; i < 3; i++) {
		struct made_conn c = conn_new();
		char text[256];

		c.client_port = (uint16_t)(c.client_port + i);
		snprintf(text, sizeof(text), "GET /v1/models HTTP/1.1\r\nAuthorization: Bearer %s\r\n\r\n", keys[i]);
		made_open(&m, &c);
		made_text(&m, &c, 0, text);
		made_text(&m, &c, 1, "HTTP/1.1 204 x\r\n\r\n");
		made_close(&m, &c);
	}
	scrubbed(&m, false, &out, &n);
	at = out;
	for (unsigned i = 0; i < 3; i++) {
		at = memmem(at, n - (size_t)(at - out), "Bearer ", 7);
		assert_non_null(at);
		at += 7;
		memcpy(found[i], at, 15);
		found[i][15] = '\0';
	}
	assert_string_equal(found[0], found[2]);
	assert_string_not_equal(found[0], found[1]);
	for (unsigned i = 0; i < 3; i++)
		assert_true(is_hidden(out, n, keys[i]));
	free(out);
	str_done(&m.file);
}

static void test_addresses(void **state)
{
	static const char from[4] = { 10, 0, 0, 77 };
	struct made m = { .link = MADE_ETHERNET };
	struct made_conn c = conn_new();
	char *out;
	size_t n;

	(void)state;
	c.client = 77;
	made_begin(&m);
	made_open(&m, &c);
	made_text(&m, &c, 0, "GET /v1/models HTTP/1.1\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n");
	made_close(&m, &c);
	scrubbed(&m, false, &out, &n);
	assert_non_null(memmem(out, n, from, 4));
	assert_non_null(memmem(out, n, "203.0.113.9", 11));
	free(out);
	scrubbed(&m, true, &out, &n);
	assert_null(memmem(out, n, from, 4));
	assert_null(memmem(out, n, "203.0.113.9", 11));
	free(out);
	str_done(&m.file);
}

static void test_not_understood(void **state)
{
	static const char *const texts[] = {
		"hush-secret-words", "\x16\x03\x01\x00\x40hush-secret-words", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nhush-secret-words",
		"POST /a HTTP/1.1\r\nContent-Type: multipart/form-data\r\nContent-Length: 17\r\n\r\nhush-secret-words",
		"POST /a HTTP/1.1\r\nContent-Encoding: br\r\nContent-Length: 21\r\n\r\n{\"hush-secret-words\"}",
		"POST /hush-secret-words;\"x\" HTTP/1.1\r\n\r\n", "CONNECT a:1 HTTP/1.1\r\n\r\nhush-secret-words",
		"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n12;hush-secret-words\r\n{hush-secret-words\r\n0\r\nA: hush-secret-words\r\n\r\n",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		for (size_t step = 0; step < 30; step++) {
			struct made m = { .link = MADE_RAW };
			struct made_conn c = conn_new();
			char *out;
			size_t n;

			made_begin(&m);
			made_open(&m, &c);
			made_bytes(&m, &c, 0, texts[i], i == 1 ? 22 : strlen(texts[i]), step);
			made_bytes(&m, &c, 1, texts[i], i == 1 ? 22 : strlen(texts[i]), step);
			made_close(&m, &c);
			scrubbed(&m, false, &out, &n);
			assert_int_equal(n, m.file.n);
			assert_true(is_hidden(out, n, "hush-secret-words"));
			assert_true(is_hidden(out, n, "secret-wo"));
			free(out);
			str_done(&m.file);
		}
	}
}

/* What one side says, in segments of every small size. */
static void assert_hidden(int side, const char *head, const char *body, const char *secret, bool ng)
{
	char text[2048];

	if (body)
		snprintf(text, sizeof(text), "%s\r\nContent-Length: %zu\r\n\r\n%s", head, strlen(body), body);
	else
		snprintf(text, sizeof(text), "%s", head);
	for (size_t step = 0; step < 24; step++) {
		struct made m = { .link = MADE_ETHERNET, .ng = ng };
		struct made_conn c = conn_new();
		struct scrub_pcap_stats stats;
		char *out, why[512];
		FILE *f;
		size_t n;

		made_begin(&m);
		made_open(&m, &c);
		if (side)
			made_text(&m, &c, 0, "GET /v1/models HTTP/1.1\r\n\r\n");
		made_bytes(&m, &c, side, text, strlen(text), step);
		made_close(&m, &c);
		f = open_memstream(&out, &n);
		assert_int_equal(scrub_pcap(fmemopen(m.file.p, m.file.n, "rb"), f, false, &stats, why), 0);
		assert_true(is_hidden(out, n, secret));
		free(out);
		str_done(&m.file);
	}
}

/* Secrets that look like what is kept: words that could be ids, digits that could be counts, names that are known elsewhere. */
static void test_lookalikes(void **state)
{
#define ASK "POST /v1/x HTTP/1.1"
#define ANSWER "HTTP/1.1 200 OK"
	static const struct {
		int side;
		const char *head, *body, *secret;
	} cases[] = {
		/* what a model or a client names itself */
		{ 1, ANSWER, "{\"content\":[{\"type\":\"tool_use\",\"name\":\"hushword\"}]}", "hushword" },
		{ 1, ANSWER, "{\"output\":[{\"type\":\"function_call\",\"name\":\"hushword\"}]}", "hushword" },
		{ 1, ANSWER, "{\"name\":\"hushword\"}", "hushword" },
		{ 1, ANSWER, "{\"user\":{\"id\":\"hushword\"}}", "hushword" },
		{ 1, ANSWER, "{\"result\":{\"status\":\"hushword\"}}", "hushword" },
		{ 1, ANSWER, "{\"i\\u006eput\":{\"id\":\"hushword\"}}", "hushword" },
		{ 1, ANSWER, "{\"content\":[{\"type\":\"tool_use\",\"i\\u006eput\":{\"id\":\"hushword\"}}]}", "hushword" },
		{ 1, ANSWER, "{\"arguments\":{\"code\":48291377}}", "48291377" },
		{ 1, ANSWER, "{\"x\":{\"created\":48291377}}", "48291377" },
		{ 0, ASK, "{\"x\":{\"seed\":48291377}}", "48291377" },
		{ 0, ASK, "{\"code\":48291377}", "48291377" },
		{ 0, ASK, "{\"messages\":[{\"content\":[{\"type\":\"tool_use\",\"input\":{\"max_tokens\":48291377}}]}]}", "48291377" },
		{ 0, ASK, "{\"messages\":[{\"content\":[{\"code\":48291377}]}]}", "48291377" },
		/* lists */
		{ 1, ANSWER, "{\"id\":[\"hushword\"]}", "hushword" },
		{ 1, ANSWER, "{\"status\":[[\"hushword\"]]}", "hushword" },
		{ 0, ASK, "{\"model\":[\"hushword\"]}", "hushword" },
		{ 0, ASK, "{\"max_tokens\":[48291377]}", "48291377" },
		{ 1, ANSWER, "{\"index\":[48291377]}", "48291377" },
		{ 1, ANSWER, "[\"hushword\",48291377]", "48291377" },
		/* no JSON, but near it: the name before must not lend its rights */
		{ 1, ANSWER, "{\"id\":\"a\",5:\"hushword\"}", "hushword" },
		{ 1, ANSWER, "{\"id\":\"a\",x:\"hushword\"}", "hushword" },
		{ 1, ANSWER, "{\"id\":\"a\" \"hushword\"}", "hushword" },
		{ 1, ANSWER, "{\"id\":{}\"hushword\"}", "hushword" },
		{ 1, ANSWER, "{\"id\":\"a\",/* \"x\":*/\"hushword\"}", "hushword" },
		{ 1, ANSWER, "{\"id\":\"a\",\"id\":\"hush word\"}", "hush word" },
		{ 0, ASK, "{\"model\":\"a\",5:\"hushword\"}", "hushword" },
		{ 0, ASK "\r\nContent-Type: text/plain", "[true hushword null]", "hushword" },
		{ 0, ASK "\r\nContent-Type: application/x-www-form-urlencoded", "prompt=hushword", "hushword" },
		{ 0, ASK "\r\nContent-Type: application/x-ndjson", "{\"prompt\":\"hushword\"}\n{\"prompt\":\"hushword\"}\nhushword\n", "hushword" },
		/* event streams */
		{ 1, ANSWER "\r\nContent-Type: text/event-stream", ": hushword\nid: hushword\nretry: hushword\nhushword: a\nhushword\ndata: hushword\nevent: Hushword1\n\n", "ushword" },
		{ 1, ANSWER "\r\nContent-Type: text/event-stream", "data: {\"content\":\ndata: \"hushword\"}\n\ndata: [\"hushword\"]\n\ndata: [Dhushword]\n\n", "hushword" },
		/* heads */
		{ 0, "GET http://hushword/v1/models HTTP/1.1\r\n\r\n", NULL, "hushword" },
		{ 0, "GET http://a:hushword@b/v1/models HTTP/1.1\r\n\r\n", NULL, "hushword" },
		{ 0, "GET /v1/hushword\r\n", NULL, "hushword" },
		{ 0, "PROXY hushword\r\nGET / HTTP/1.1\r\n\r\n", NULL, "hushword" },
		{ 0, "PROXY UNKNOWN hushword\r\nGET / HTTP/1.1\r\n\r\n", NULL, "hushword" },
		{ 0, "PROXY TCP4 10.0.0.1 hushword 1 2\r\nGET / HTTP/1.1\r\n\r\n", NULL, "hushword" },
		{ 0, "GET / HTTP/1.1\r\nAuthorization: Bearer a\r\n hushword\r\n\thushword: b\r\nAuthorization : hushword\r\nServer:\r\n hushword\r\n\r\n", NULL, "hushword" },
		{ 0, "POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 8\r\n\r\nhushwordGET /?hushword HTTP/1.1\r\nCookie: hushword\r\n\r\n", NULL, "hushword" },
		{ 1, "HTTP/1.1 100 hushword\r\n\r\nHTTP/1.1 200 hushword\r\nContent-Length: 8\r\n\r\nhushwordhushword", NULL, "hushword" },
		{ 1, "HTTP/1.0 200 OK\r\nLocation: hushword\r\nWWW-Authenticate: hushword\r\n\r\n{\"a\":\"hushword\"} hushword", NULL, "hushword" },
		{ 1, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9 ;a=hushword\r\n{\"text\":\"\r\n8\r\nhushword\r\n2\r\n\"}\r\n0;hushword\r\nhushword: hushword\r\n\r\n", NULL, "hushword" },
		{ 1, "HTTP/1.1 101 hushword\r\nUpgrade: x\r\n\r\nhushword", NULL, "hushword" },
		{ 1, "220 hushword ready\r\n", NULL, "hushword" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_hidden(cases[i].side, cases[i].head, cases[i].body, cases[i].secret, i & 1);
}

/* A frame of Ethernet and IPv4, by hand; the rest of the header is for the caller. */
static void frame_begin(struct str *f, unsigned ip_words, unsigned protocol, size_t payload)
{
	f->ceiling = 4096;
	made_be(f, 0, 12);
	made_be(f, 0x0800, 2);
	made_be(f, 0x40 | ip_words, 1);
	made_be(f, 0, 1);
	made_be(f, ip_words * 4 + payload, 2);
	made_be(f, 0, 4);
	made_be(f, 64, 1);
	made_be(f, protocol, 1);
	made_be(f, 0, 2);
	made_be(f, 0x0a000007, 4);
	made_be(f, 0x0a000001, 4);
}

/* Outside of streams: other protocols, options, padding, fragments, what is behind the snapshot, the file's own blocks. */
static void test_outside(void **state)
{
	static const char secret[] = "hushword"; /* 8 bytes */

	(void)state;
	for (unsigned ng = 0; ng < 2; ng++) {
		struct made m = { .link = MADE_ETHERNET, .ng = ng };
		struct str f = { 0 };
		char *out;
		size_t n;

		made_begin(&m);
		frame_begin(&f, 5, 17, 16); /* UDP: a name asked for */
		made_be(&f, 0xc000003500100000, 8);
		str_add(&f, secret, 8);
		made_frame(&m, f.p, f.n);
		str_done(&f);
		frame_begin(&f, 5, 1, 8); /* ICMP */
		str_add(&f, secret, 8);
		made_frame(&m, f.p, f.n);
		str_done(&f);
		frame_begin(&f, 8, 17, 8); /* options of IP */
		made_be(&f, 0x070a04, 3);
		str_add(&f, secret, 8);
		made_be(&f, 0, 9);
		made_frame(&m, f.p, f.n);
		str_done(&f);
		frame_begin(&f, 5, 6, 8); /* a later fragment */
		f.p[14 + 7] = 3;
		str_add(&f, secret, 8);
		made_frame(&m, f.p, f.n);
		str_done(&f);
		/* TCP with options of IP and of its own (a client's address, a cookie), a payload, and padding */
		frame_begin(&f, 8, 6, 36 + 8);
		made_be(&f, 0x010a04, 3);
		str_add(&f, secret, 8);
		made_be(&f, 0, 1);
		made_be(&f, 0x9c401f40, 4);
		made_be(&f, 0x11112222, 4);
		made_be(&f, 0, 4);
		made_be(&f, 0x9038, 2); /* nine words; push, urgent */
		made_be(&f, 65535, 2);
		made_be(&f, 8, 4);
		made_be(&f, 0x020405b4, 4); /* the segment size stays */
		made_be(&f, 0xfe0a, 2);
		str_add(&f, secret, 8);
		made_be(&f, 0x0101, 2);
		str_add(&f, secret, 8);
		str_add(&f, secret, 8);
		made_frame(&m, f.p, f.n);
		str_done(&f);
		made_be(&f, 0, 12); /* no IP, a length in place of a type */
		made_be(&f, 8, 2);
		str_add(&f, secret, 8);
		made_frame(&m, f.p, f.n);
		str_done(&f);
		if (ng) { /* a comment on the file, and names resolved */
			made_le(&m.file, 4, 4);
			made_le(&m.file, 36, 4);
			made_le(&m.file, 0x000c0001, 4);
			made_le(&m.file, 0x0100000a, 4);
			str_add(&m.file, secret, 8);
			made_le(&m.file, 0, 4);
			made_le(&m.file, 0, 4);
			made_le(&m.file, 36, 4);
			made_le(&m.file, 0x0a0d0d0a, 4);
			made_le(&m.file, 44, 4);
			made_le(&m.file, 0x1a2b3c4d, 4);
			made_le(&m.file, 1, 4);
			made_le(&m.file, UINT64_MAX, 8);
			made_le(&m.file, 0x00080001, 4);
			str_add(&m.file, secret, 8);
			made_le(&m.file, 0, 4);
			made_le(&m.file, 44, 4);
		}
		scrubbed(&m, false, &out, &n);
		assert_true(is_hidden(out, n, secret));
		assert_non_null(memmem(out, n, "\x02\x04\x05\xb4", 4));
		free(out);
		str_done(&m.file);
	}
}

/* Other bytes with the same numbers: neither copy says what only the other one did. */
static void test_two_stories(void **state)
{
	static const char head[] = "POST /v1/x HTTP/1.1\r\nContent-Length: 24\r\n\r\n";
	static const char *const bodies[] = { "{\"model\":\"aaaaaaaaaaaa\"}", "{\"xxxxx\":\"hushwordhush\"}" };

	(void)state;
	for (unsigned run = 0; run < 8; run++) {
		struct made m = { .link = MADE_RAW };
		struct made_conn c = conn_new();
		size_t at = sizeof(head) - 1, n;
		char *out;

		made_begin(&m);
		made_open(&m, &c);
		if (run & 1)
			made_raw(&m, &c, 0, c.seq[0] + (uint32_t)at, c.seq[1], MADE_ACK, bodies[0], 24);
		if (run & 2)
			made_raw(&m, &c, 0, c.seq[0] + (uint32_t)at, c.seq[1], MADE_ACK, bodies[1] + (run & 4), 24 - (run & 4));
		made_raw(&m, &c, 0, c.seq[0], c.seq[1], MADE_ACK, head, at);
		made_raw(&m, &c, 0, c.seq[0] + (uint32_t)at, c.seq[1], MADE_ACK, bodies[!(run & 2)], 24);
		made_raw(&m, &c, 0, c.seq[0] + (uint32_t)at, c.seq[1], MADE_ACK, bodies[1], 24);
		scrubbed(&m, false, &out, &n);
		if (!(run & 2))
			assert_true(is_hidden(out, n, "hushword"));
		free(out);
		str_done(&m.file);
	}
}

/* The packet that ends an old connection, because time went by or its ports are taken again, belongs to its own. */
static void test_ports_again(void **state)
{
	(void)state;
	for (unsigned run = 0; run < 2; run++) {
		struct made m = { .link = MADE_RAW };
		struct made_conn c = conn_new();

		made_begin(&m);
		for (unsigned i = 0; i < 3; i++) {
			made_open(&m, &c);
			made_text(&m, &c, 0, "POST /v1/completions HTTP/1.1\r\nContent-Length: 26\r\n\r\n{\"model\":\"m\",\"prompt\":\"x\"}");
			made_raw(&m, &c, 1, c.seq[1] + 5, c.seq[0], MADE_ACK, "waits for what never comes", 26);
			c.seq[0] += 1000000;
			c.seq[1] += 1000000;
			if (!run)
				continue;
			/* forgotten when the next one speaks, without a SYN */
			c.client_port++;
			m.now_ns += 700 * UINT64_C(1000000000);
			made_text(&m, &c, 0, "POST /v1/completions HTTP/1.1\r\nContent-Length: 26\r\n\r\n{\"model\":\"n\",\"prompt\":\"x\"}");
			c.client_port++;
		}
		assert_same(&m, "waits", "ports again");
		str_done(&m.file);
	}
}

static int setup(void **state)
{
	(void)state;
	log_set_level(LOG_ERROR);
	return automaton_build(&automaton);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fixtures), cmocka_unit_test(test_secrets), cmocka_unit_test(test_disorder), cmocka_unit_test(test_grouping),
		cmocka_unit_test(test_addresses), cmocka_unit_test(test_not_understood), cmocka_unit_test(test_lookalikes),
		cmocka_unit_test(test_outside), cmocka_unit_test(test_two_stories), cmocka_unit_test(test_ports_again),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
