/*
 * test_proxy.c - the PROXY protocol: prefixes read, and prefixes found by the meter, cut at every byte.
 */
#include "player.h"

#include "decode/proxy.h"

#define SIG "\r\n\r\n\0\r\nQUIT\n"
#define V4 "\xc0\x00\x02\x07" "\x0a\x00\x00\x01" "\x30\x39" "\x1f\x40"
#define V6 "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x09" "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01" "\x30\x39" "\x1f\x40"
#define BYTES(literal) { (literal), sizeof(literal) - 1 }

static const uint8_t v4_client[16] = { [10] = 0xff, 0xff, 192, 0, 2, 7 };
static const uint8_t v6_client[16] = { 0x20, 1, 0xd, 0xb8, [15] = 9 };

static char v2_unix[16 + 216];

static const struct {
	struct span text;
	int r;
	enum proxy_kind kind;
	const uint8_t *client;
} prefixes[] = {
	{ BYTES("PROXY TCP4 192.0.2.7 10.0.0.1 12345 8000\r\n"), 0, PROXY_CLIENT, v4_client },
	{ BYTES("PROXY TCP6 2001:db8::9 2001:db8::1 12345 8000\r\n"), 0, PROXY_CLIENT, v6_client },
	{ BYTES("PROXY TCP4 192.0.2.7 10.0.0.1 0 65535\r\n"), 0, PROXY_CLIENT, v4_client },
	{ BYTES("PROXY UNKNOWN\r\n"), 0, PROXY_UNKNOWN, NULL },
	{ BYTES("PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n"), 0, PROXY_UNKNOWN, NULL },
	{ BYTES(SIG "\x21\x11\x00\x0c" V4), 0, PROXY_CLIENT, v4_client },
	{ BYTES(SIG "\x21\x21\x00\x24" V6), 0, PROXY_CLIENT, v6_client },
	{ BYTES(SIG "\x21\x11\x00\x13" V4 "\x03\x00\x04\x01\x02\x03\x04"), 0, PROXY_CLIENT, v4_client }, /* a TLV */
	{ BYTES(SIG "\x20\x00\x00\x00"), 0, PROXY_UNKNOWN, NULL },
	{ BYTES(SIG "\x20\x11\x00\x0c" V4), 0, PROXY_UNKNOWN, NULL }, /* LOCAL: whoever it names is not a client */
	{ BYTES(SIG "\x21\x00\x00\x00"), 0, PROXY_UNKNOWN, NULL },
	{ { v2_unix, sizeof(v2_unix) }, 0, PROXY_UNKNOWN, NULL },
	/* found by the meter, which looks for the end only, and then refused */
	{ BYTES("PROXY TCP4 192.0.2.7 10.0.0.1 12345\r\n"), -EBADMSG, 0, NULL },
	{ BYTES("PROXY TCP4 192.0.2.7 10.0.0.1 12345 8000 \r\n"), -EBADMSG, 0, NULL },
	{ BYTES("PROXY TCP4  192.0.2.7 10.0.0.1 12345 8000\r\n"), -EBADMSG, 0, NULL },
	{ BYTES("PROXY TCP4 192.0.2.256 10.0.0.1 12345 8000\r\n"), -EBADMSG, 0, NULL },
	{ BYTES("PROXY TCP4 2001:db8::9 2001:db8::1 12345 8000\r\n"), -EBADMSG, 0, NULL },
	{ BYTES("PROXY TCP4 192.0.2.7 10.0.0.1 65536 8000\r\n"), -EBADMSG, 0, NULL },
	{ BYTES("PROXY TCP4 192.0.2.7 10.0.0.1 012 8000\r\n"), -EBADMSG, 0, NULL },
	{ BYTES("PROXY UDP4 192.0.2.7 10.0.0.1 1 2\r\n"), -EBADMSG, 0, NULL },
	{ BYTES("PROXY \r\n"), -EBADMSG, 0, NULL },
	{ BYTES(SIG "\x21\x11\x00\x0b" "\xc0\x00\x02\x07" "\x0a\x00\x00\x01" "\x30\x39" "\x1f"), -EBADMSG, 0, NULL }, /* shorter than its family */
	{ BYTES(SIG "\x22\x11\x00\x0c" V4), -EBADMSG, 0, NULL },
	{ BYTES(SIG "\x21\x41\x00\x0c" V4), -EBADMSG, 0, NULL },
};

static void test_parse(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++) {
		const struct span t = prefixes[i].text;
		enum proxy_kind kind = PROXY_UNKNOWN;
		uint8_t addr[16] = { 0 };

		assert_int_equal(proxy_parse((const uint8_t *)t.p, t.n, &kind, addr), prefixes[i].r);
		if (!prefixes[i].r)
			assert_int_equal(kind, prefixes[i].kind);
		if (prefixes[i].client)
			assert_memory_equal(addr, prefixes[i].client, 16);
		/* nothing shorter is one, in memory of its very size */
		for (size_t n = 0; n < t.n; n++) {
			uint8_t *copy = malloc(n ? n : 1);

			memcpy(copy, t.p, n);
			assert_int_equal(proxy_parse(copy, n, &kind, addr), -EBADMSG);
			free(copy);
		}
	}
}

static void test_table(void **state)
{
	struct proxied *t = NULL;
	uint8_t addr[16];

	(void)state;
	assert_false(proxied_find(t, 7, addr));
	assert_int_equal(proxied_add(&t, 7, v4_client), 0);
	assert_int_equal(proxied_add(&t, 7, v6_client), 0);
	assert_true(proxied_find(t, 7, addr));
	assert_memory_equal(addr, v6_client, 16);
	for (uint64_t i = 8; i < 7 + PROXIED_MAX; i++)
		assert_int_equal(proxied_add(&t, i, v4_client), 0);
	assert_true(proxied_find(t, 7, addr));
	assert_int_equal(proxied_add(&t, 7 + PROXIED_MAX, v4_client), 1);
	assert_false(proxied_find(t, 7, addr));
	assert_false(proxied_find(t, 0, addr));
	proxied_free(t);
}

/* ---- through the meter -------------------------------------------------------------------------------- */
static const char request[] = "POST /v1/completions HTTP/1.1\r\nContent-Length: 24\r\n\r\n{\"model\":\"m\",\"prompt\":1}";
static const char response[] = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 51\r\n\r\n{\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}";
static struct identity_rules rules;

static void open_with(struct player *p, bool trusted)
{
	struct assemble_opts ao = { .automaton = &dfa, .host = "gpu-1", .identity = trusted ? &rules : NULL, .arrival = on_arrival, .complete = on_complete, .ctx = &p->seen };

	memset(p, 0, sizeof(*p));
	player_open(p);
	/* its own assembler trusts nobody */
	assemble_free(p->assemble);
	soft_free(p->soft);
	struct soft_opts so = { .automaton = &dfa, .control = &control, .store = { store_load, store_save, store_save, store_stat, store_is_local, NULL }, .event = on_event };

	assert_int_equal(assemble_new(&ao, &p->assemble), 0);
	so.ctx = p->assemble;
	assert_int_equal(soft_open(&so, &p->soft), 0);
}

/* Prefix and requests as one stream, in segments of `step` bytes or in two, cut at `split`. */
static void talk(struct player *p, struct span prefix, unsigned requests, size_t split, size_t step)
{
	char text[4096];
	size_t n = prefix.n;

	player_connect(p);
	memcpy(text, prefix.p, n);
	for (unsigned i = 0; i < requests; i++) {
		memcpy(text + n, request, sizeof(request) - 1);
		n += sizeof(request) - 1;
	}
	for (size_t at = 0; at < n;) {
		size_t len = step ? MIN(step, n - at) : at < split ? split - at : n - at;

		player_send(p, WEIR_REQUEST, text + at, len, 5000 * MS + at, 0);
		at += len;
	}
	for (unsigned i = 0; i < requests; i++)
		player_send(p, WEIR_RESPONSE, response, sizeof(response) - 1, 5250 * MS, 0);
	player_send(p, WEIR_RESPONSE, NULL, 0, 5300 * MS, WEIR_TAP_FIN);
	player_send(p, WEIR_REQUEST, NULL, 0, 5300 * MS, WEIR_TAP_FIN);
}

static void assert_talk(const struct player *p, size_t i, unsigned requests, bool trusted)
{
	const char *want = !trusted || !prefixes[i].client ? "\"client_ip\":\"2001:db8::7\"" :
			   prefixes[i].client == v4_client ? "\"client_ip\":\"192.0.2.7\"" :
							     "\"client_ip\":\"2001:db8::9\"";

	assert_int_equal(p->seen.arrivals, requests);
	assert_int_equal(p->seen.completions, requests);
	assert_int_equal(assemble_stats(p->assemble)->open, 0);
	assert_int_equal(assemble_stats(p->assemble)->bad_events, 0);
	if (!requests)
		return;
	if (!strstr(p->seen.line.p, want))
		print_error("prefix %zu: want %s in %s", i, want, p->seen.line.p);
	assert_non_null(strstr(p->seen.line.p, want));
	assert_non_null(strstr(p->seen.line.p, "\"model_name\":\"m\""));
	assert_non_null(strstr(p->seen.line.p, "\"prompt_tokens\":3,\"completion_tokens\":4"));
	assert_non_null(strstr(p->seen.line.p, "\"path\":\"/v1/completions\""));
}

static void test_every_split(void **state)
{
	(void)state;
	for (int trusted = 0; trusted < 2; trusted++) {
		for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++) {
			const struct span t = prefixes[i].text;
			struct player p;
			uint64_t talks = 0;

			if (t.n > 12 && t.p[0] == '\r' && t.p[12] == '\x22')
				continue; /* not version 2: the meter takes it for what it is, garbage */
			open_with(&p, trusted);
			for (unsigned requests = 0; requests < 3; requests++) {
				for (size_t split = 1; split < t.n + 20; split++, talks++) {
					if (split >= t.n + requests * (sizeof(request) - 1))
						break;
					talk(&p, t, requests, split, 0);
					assert_talk(&p, i, requests, trusted);
				}
				for (size_t step = 1; step < 40; step++, talks++) {
					talk(&p, t, requests, 0, step);
					assert_talk(&p, i, requests, trusted);
				}
			}
			assert_int_equal(assemble_stats(p.assemble)->proxied, talks);
			assert_int_equal(assemble_stats(p.assemble)->proxied_bad, prefixes[i].r < 0 ? talks : 0);
			player_close(&p);
		}
	}
}

/* It stands before the first request only: behind it, or in the middle, it is garbage, as it is for the server. */
static void test_elsewhere(void **state)
{
	const struct span line = prefixes[0].text;
	struct player p;
	char text[256];

	(void)state;
	open_with(&p, true);
	memcpy(text, line.p, line.n);
	memcpy(text + line.n, line.p, line.n);
	talk(&p, (struct span){ text, 2 * line.n }, 1, 0, 0);
	assert_int_equal(p.seen.arrivals, 0);
	memcpy(text, request, sizeof(request) - 1);
	memcpy(text + sizeof(request) - 1, line.p, line.n);
	talk(&p, (struct span){ text, sizeof(request) - 1 + line.n }, 1, 0, 0);
	assert_int_equal(p.seen.arrivals, 1);
	assert_int_equal(assemble_stats(p.assemble)->proxied, 1);
	player_close(&p);
}

/* Bounds: 107 bytes of a line, 2,048 behind the signature. One more is no prefix; nor is the head of a request taken for one. */
static void test_bounds(void **state)
{
	char line[256], binary[16 + WEIR_PROXY_MAX + 1] = SIG "\x20\x00";
	struct player p;

	(void)state;
	open_with(&p, true);
	for (size_t n = 100; n < 115; n++) {
		memset(line, 'x', sizeof(line));
		memcpy(line, "PROXY UNKNOWN ", 14);
		memcpy(line + n - 2, "\r\n", 2);
		talk(&p, (struct span){ line, n }, 1, 0, 0);
		assert_int_equal(p.seen.arrivals, n <= WEIR_PROXY_LINE_MAX);
		assert_int_equal(p.seen.completions, 1); /* what is answered counts, whatever it was that was asked */
	}
	for (size_t n = WEIR_PROXY_MAX - 2; n <= WEIR_PROXY_MAX + 1; n++) {
		binary[14] = (char)(n >> 8);
		binary[15] = (char)n;
		talk(&p, (struct span){ binary, 16 + n }, 1, 0, 0);
		assert_int_equal(p.seen.arrivals, n <= WEIR_PROXY_MAX);
		talk(&p, (struct span){ binary, 16 + n }, 1, 0, 9); /* the request does not begin with a segment */
		assert_int_equal(p.seen.arrivals, n <= WEIR_PROXY_MAX);
	}
	talk(&p, SPAN("\r\n\r\n"), 1, 0, 0); /* some clients send such before a request */
	assert_int_equal(p.seen.arrivals, 1);
	/* not player_close(): heads that were given up are still open here, until they are the oldest */
	soft_free(p.soft);
	assemble_free(p.assemble);
	seen_done(&p.seen);
}

static int setup(void **state)
{
	(void)state;
	memcpy(v2_unix, SIG "\x21\x31\x00\xd8", 16);
	memset(v2_unix + 16, 'u', sizeof(v2_unix) - 16);
	rules.trusted[0] = (struct network){ .addr = { 0x20, 1, 0xd, 0xb8 }, .bits = 32 };
	rules.count = 1;
	rules.only = IDENTITY_ANY;
	return automaton_build(&dfa);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse), cmocka_unit_test(test_table), cmocka_unit_test(test_every_split), cmocka_unit_test(test_elsewhere), cmocka_unit_test(test_bounds),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
