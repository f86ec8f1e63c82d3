/* Who asked: whose word is taken, what counts as a key, and what every header that was not believed is counted as. */
#include "player.h"

#include "decode/identity.h"

#include <arpa/inet.h>

static const uint8_t secret[SIPHASH_KEY_BYTES] = "0123456789abcde";

static void v4(uint8_t ret[16], const char *text)
{
	memset(ret, 0, 16);
	ret[10] = ret[11] = 0xff;
	assert_int_equal(inet_pton(AF_INET, text, ret + 12), 1);
}

static struct identity_rules rules_for(const char *network, uint8_t only)
{
	struct identity_rules r = { .only = only };

	if (network) {
		assert_int_equal(network_parse(span_of(network), &r.trusted[0]), 0);
		r.count = 1;
	}
	return r;
}

/* Header lines, "name: value\n" each. */
static struct identity finish(const struct identity_rules *rules, const char *peer, const char *announced, const char *headers, const char *query, bool litellm,
			      struct identity_stats *stats)
{
	struct identity_reader reader;
	uint8_t addr[16], said[16];
	struct identity id;

	v4(addr, peer);
	if (announced)
		v4(said, announced);
	identity_begin(&reader, rules);
	while (*headers) {
		const char *colon = strchr(headers, ':'), *end = strchr(headers, '\n');

		identity_header(&reader, (struct span){ headers, (size_t)(colon - headers) }, (struct span){ colon + 1, (size_t)(end - colon - 1) });
		headers = end + 1;
	}
	identity_query(&reader, span_of(query));
	identity_finish(&reader, &(struct identity_peer){ .addr = addr, .announced = announced ? said : NULL, .whole = true, .litellm = litellm }, secret, stats, &id);
	return id;
}

static void believed(void **state)
{
	static const struct {
		const char *headers, *want; /* NULL: the peer */
		uint8_t only;
		enum identity_source by;
	} cases[] = {
		{ "X-Forwarded-For: 203.0.113.9\n", "203.0.113.9", IDENTITY_ANY, IDENTITY_XFF },
		{ "forwarded: for=203.0.113.9\n", "203.0.113.9", IDENTITY_ANY, IDENTITY_FORWARDED },
		{ "CF-Connecting-IP: 203.0.113.9\n", "203.0.113.9", IDENTITY_ANY, IDENTITY_CF_CONNECTING_IP },
		{ "True-Client-IP: 203.0.113.9\n", "203.0.113.9", IDENTITY_ANY, IDENTITY_TRUE_CLIENT_IP },
		{ "x-real-ip: 203.0.113.9\n", "203.0.113.9", IDENTITY_ANY, IDENTITY_X_REAL_IP },
		{ "x-real-ip: 1.1.1.1\nx-real-ip: 203.0.113.9\n", "203.0.113.9", IDENTITY_ANY, IDENTITY_X_REAL_IP },
		/* the chain, which a proxy appends to, before what a client may have sent through it */
		{ "cf-connecting-ip: 1.1.1.1\nx-forwarded-for: 203.0.113.9\n", "203.0.113.9", IDENTITY_ANY, IDENTITY_XFF },
		/* unless the one header is named that the proxy sets */
		{ "cf-connecting-ip: 203.0.113.9\nx-forwarded-for: 1.1.1.1\n", "203.0.113.9", IDENTITY_CF_CONNECTING_IP, IDENTITY_CF_CONNECTING_IP },
		{ "x-forwarded-for: 1.1.1.1\n", NULL, IDENTITY_X_REAL_IP, 0 },
		{ "x-forwarded-for: 1.1.1.1, unknown\n", NULL, IDENTITY_ANY, 0 },
		{ "x-forwarded-for: 1.1.1.1, unknown, 10.0.0.4\n", "10.0.0.4", IDENTITY_ANY, IDENTITY_XFF },
		{ "x-real-ip: nonsense\n", NULL, IDENTITY_ANY, 0 },
		{ "host: a\n", NULL, IDENTITY_ANY, 0 },
		{ "x-forwarded-for:\n", NULL, IDENTITY_ANY, 0 },
		{ "x-forwarded-for: unknown\nx-real-ip: 203.0.113.9\n", "203.0.113.9", IDENTITY_ANY, IDENTITY_X_REAL_IP },
	};
	uint8_t want[16];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct identity_rules rules = rules_for("10.0.0.0/8", cases[i].only);
		struct identity_stats s = { 0 };
		struct identity id = finish(&rules, "10.0.0.1", NULL, cases[i].headers, "", false, &s);

		assert_int_equal(id.named, cases[i].want != NULL);
		assert_false(id.ignored);
		assert_int_equal(s.unnamed, !cases[i].want);
		if (!cases[i].want)
			continue;
		v4(want, cases[i].want);
		assert_memory_equal(id.client, want, 16);
		assert_int_equal(s.named[cases[i].by], 1);
	}
}

static void not_believed(void **state)
{
	const char *all = "x-forwarded-for: 1.1.1.1\nforwarded: for=1.1.1.1\ncf-connecting-ip: 1.1.1.1\ntrue-client-ip: 1.1.1.1\nx-real-ip: 1.1.1.1\n";
	struct identity_rules nobody = rules_for(NULL, IDENTITY_ANY), others = rules_for("10.0.0.0/8", IDENTITY_ANY);
	const struct identity_rules *rules[] = { NULL, &nobody, &others };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rules); i++) {
		struct identity_stats s = { 0 };
		struct identity id = finish(rules[i], "192.0.2.1", "198.51.100.1", all, "", false, &s);

		assert_true(!id.named && id.ignored && id.forwarded);
		for (int k = 0; k < IDENTITY_SOURCES; k++)
			assert_true(s.ignored[k] == 1 && s.named[k] == 0);
		assert_int_equal(s.unnamed + s.cut + s.unknown + s.unreadable + s.conflicts, 0);
	}
}

/* Several at once agree or not; what cannot be read is counted; an incomplete head is not believed. */
static void doubts(void **state)
{
	struct identity_rules rules = rules_for("10.0.0.0/8", IDENTITY_ANY);
	struct identity_stats s = { 0 };
	struct identity_reader reader;
	uint8_t peer[16];
	struct identity id;

	(void)state;
	finish(&rules, "10.0.0.1", NULL, "x-forwarded-for: 203.0.113.9\nx-real-ip: 203.0.113.9\n", "", false, &s);
	assert_int_equal(s.conflicts, 0);
	finish(&rules, "10.0.0.1", NULL, "x-forwarded-for: 203.0.113.9\nx-real-ip: 203.0.113.8\n", "", false, &s);
	assert_int_equal(s.conflicts, 1);
	finish(&rules, "10.0.0.1", NULL, "x-forwarded-for: 1.1.1.1, unknown\nforwarded: for=\"[\"\n", "", false, &s);
	assert_int_equal(s.unknown, 1);
	assert_int_equal(s.unreadable, 1);
	v4(peer, "10.0.0.1");
	identity_begin(&reader, &rules);
	identity_header(&reader, SPAN("x-forwarded-for"), SPAN("1.1.1.1"));
	identity_finish(&reader, &(struct identity_peer){ .addr = peer }, secret, &s, &id);
	assert_false(id.named);
	assert_int_equal(s.cut, 1);
}

static void proxy_protocol(void **state)
{
	struct identity_rules rules = rules_for("10.0.0.0/8", IDENTITY_ANY);
	struct identity_stats s = { 0 };
	uint8_t want[16];
	struct identity id = finish(&rules, "10.0.0.1", "203.0.113.9", "x-forwarded-for: 1.1.1.1\n", "", false, &s);

	(void)state;
	/* the balancer is believed; the client that it announced is not */
	v4(want, "203.0.113.9");
	assert_true(id.named && id.ignored);
	assert_memory_equal(id.client, want, 16);
	assert_int_equal(s.named[IDENTITY_PROXY], 1);
	assert_int_equal(s.ignored[IDENTITY_XFF], 1);
	/* a balancer in front of a proxy of ours */
	id = finish(&rules, "10.0.0.1", "10.0.0.2", "x-forwarded-for: 203.0.113.9\n", "", false, &s);
	assert_memory_equal(id.client, want, 16);
	assert_int_equal(s.named[IDENTITY_XFF], 1);
	/* and one that nobody knows */
	id = finish(&rules, "192.0.2.1", "203.0.113.9", "", "", false, &s);
	assert_true(!id.named && id.ignored);
	assert_int_equal(s.ignored[IDENTITY_PROXY], 1);
}

static void keys(void **state)
{
	static const struct {
		const char *headers, *query, *key; /* NULL: none */
		bool litellm;
	} cases[] = {
		{ "Authorization: Bearer sk-1\n", "", "sk-1", false },
		{ "authorization: bearer   sk-1 \n", "", "sk-1", false },
		{ "authorization: Basic dXNlcjpwYXNz\n", "", "dXNlcjpwYXNz", false },
		{ "authorization: sk-1\n", "", "sk-1", false },
		{ "authorization: Bearer\n", "", NULL, false },
		{ "authorization: Basic \nx-api-key: sk-1\n", "", "sk-1", false },
		{ "x-api-key: sk-1\n", "", "sk-1", false },
		{ "X-Goog-Api-Key: sk-1\n", "", "sk-1", false },
		{ "api-key: sk-1\n", "", "sk-1", false },
		{ "xi-api-key: sk-1\n", "", "sk-1", false },
		{ "x-litellm-api-key: Bearer sk-1\n", "", "sk-1", false },
		/* a server that is no LiteLLM does not look at it: it could be anything */
		{ "x-litellm-api-key: sk-junk\nauthorization: Bearer sk-1\n", "", "sk-1", false },
		{ "x-litellm-api-key: sk-1\nauthorization: Bearer sk-of-the-provider\n", "", "sk-1", true },
		{ "authorization: Bearer sk-1\n", "", "sk-1", true },
		{ "authorization: Bearer sk-1\nauthorization: Bearer sk-2\n", "", "sk-1", false },
		{ "authorization:\nx-api-key: sk-1\n", "", "sk-1", false },
		{ "host: a\n", "alt=sse&key=sk-1", "sk-1", false },
		{ "host: a\n", "monkey=x&key=sk-1&key=sk-2", "sk-1", false },
		{ "x-goog-api-key: sk-1\n", "key=sk-2", "sk-1", false },
		/* signed requests: the same key, another signature */
		{ "authorization: AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261121/us-east-1/bedrock/aws4_request, SignedHeaders=host, Signature=aa\n", "", "AKIDEXAMPLE", false },
		{ "authorization: AWS4-HMAC-SHA256 SignedHeaders=host,Credential=AKIDEXAMPLE/20261122/us-east-1/bedrock/aws4_request,Signature=bb\n", "", "AKIDEXAMPLE", false },
		{ "host: a\n", "X-Amz-Algorithm=AWS4&X-Amz-Credential=AKIDEXAMPLE%2F20261121%2F&X-Amz-Signature=cc", "AKIDEXAMPLE", false },
		{ "host: a\n", "", NULL, false },
		{ "host: a\n", "key=", NULL, false },
		{ "host: a\n", "x=key=1&keys=2", NULL, false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct identity id = finish(NULL, "192.0.2.1", NULL, cases[i].headers, cases[i].query, cases[i].litellm, NULL);

		if (id.has_key != (cases[i].key != NULL) || (id.has_key && id.key != siphash(secret, cases[i].key, strlen(cases[i].key))))
			fail_msg("%s %s", cases[i].headers, cases[i].query);
	}
}

static void retries(void **state)
{
	static const struct {
		const char *header;
		int64_t want;
	} cases[] = {
		{ "x-stainless-retry-count: 0\n", 0 }, { "X-Stainless-Retry-Count: 2\n", 2 }, { "x-stainless-retry-count: -1\n", -1 },
		{ "x-stainless-retry-count: 1000000\n", -1 }, { "x-stainless-retry-count:\n", -1 }, { "host: a\n", -1 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(finish(NULL, "192.0.2.1", NULL, cases[i].header, "", false, NULL).retry, cases[i].want);
}

/* ---- in records ------------------------------------------------------------------------------------ */
static bool announces(void *ctx, uint64_t conn, const struct weir_conn_key *at, uint8_t ret[16])
{
	(void)ctx;
	assert_int_equal(at->lport, 8000);
	v4(ret, "198.51.100.77");
	return conn == 9;
}

static struct identity_rules in_front;
static struct assemble *identified(struct seen *s)
{
	struct assemble_opts opts = { .automaton = &dfa, .key = "0123456789abcdef", .identity = &in_front, .announced = announces, .arrival = on_arrival,
				      .complete = on_complete, .ctx = s };
	struct assemble *a;

	memset(s, 0, sizeof(*s));
	assert_int_equal(assemble_new(&opts, &a), 0);
	return a;
}

/* One request of `head`, sent up in two slices, the first of `cut` bytes; its answer has no body. */
static void exchange(struct assemble *a, uint64_t conn, const char *head, size_t cut)
{
	struct weir_conn_key key = { .lport = 8000, .rport = 1, .laddr = { [10] = 0xff, 0xff, 127, 0, 0, 1 } };
	struct weir_done d = { .type = WEIR_EVENT_DONE, .status = 200, .conn = conn, .req_head_ns = 1, .resp_last_ns = 2 };
	size_t n = strlen(head);
	struct weir_slice *e = calloc(1, sizeof(*e) + n);

	assert_non_null(e);
	v4(key.raddr, "10.0.0.1");
	for (size_t at = 0; at < n; at += e->len) {
		size_t len = MIN(at < cut ? cut - at : n - at, n - at);

		*e = (struct weir_slice){ .type = WEIR_EVENT_SLICE, .len = (uint16_t)len, .conn = conn, .off = at, .key = key };
		e->flags = at + len == n ? WEIR_SLICE_HEAD_DONE : 0;
		memcpy(e->data, head + at, len);
		assert_int_equal(assemble_event(a, e, sizeof(*e) + len), 0);
	}
	free(e);
	d.key = key;
	assert_int_equal(assemble_event(a, &d, sizeof(d)), 0);
}

static void in_records(void **state)
{
	const char *head = "POST /v1/chat/completions HTTP/1.1\r\nX-Forwarded-For: 1.1.1.1\r\nx-forwarded-for: 203.0.113.9, 10.0.0.3\r\n"
			   "X-Litellm-Customer-Id: maria\r\nAuthorization: Bearer sk-secret\r\nx-stainless-retry-count: 1\r\n\r\n";
	struct assemble *a;
	struct seen s;

	(void)state;
	in_front = rules_for("10.0.0.0/8", IDENTITY_ANY);
	a = identified(&s);
	for (size_t cut = 1; cut < strlen(head); cut += 7) {
		exchange(a, 100 + cut, head, cut);
		assert_non_null(strstr(s.arrival.p, "\"client_ip\":\"203.0.113.9\""));
		assert_non_null(strstr(s.line.p, "\"client_ip\":\"203.0.113.9\""));
		assert_non_null(strstr(s.line.p, "\"user\":\"maria\""));
		assert_non_null(strstr(s.line.p, "\"retry\":1"));
		assert_non_null(strstr(s.line.p, "\"api_key\":\""));
		assert_null(strstr(s.line.p, "sk-secret"));
		assert_null(strstr(s.line.p, "10.0.0.")); /* the peer stands nowhere */
	}
	/* each request once, however often its head was read */
	assert_int_equal(assemble_stats(a)->identity.named[IDENTITY_XFF], s.completions);
	exchange(a, 9, "POST /v1/chat/completions HTTP/1.1\r\n\r\n", 5);
	assert_non_null(strstr(s.line.p, "\"client_ip\":\"198.51.100.77\""));
	assemble_free(a);
	seen_done(&s);
}

/* A head longer than what the kernel sends up: what the proxy appended is missing, and what the client wrote must not stand in for it. */
static void cut_head(void **state)
{
	struct weir_conn_key key = { .lport = 8000, .rport = 1 };
	struct weir_done d = { .type = WEIR_EVENT_DONE, .status = 200, .conn = 5, .req_head_ns = 1, .resp_last_ns = 2 };
	const char *head = "POST /v1/chat/completions HTTP/1.1\r\nX-Forwarded-For: 1.1.1.1\r\nCookie: aaaaaaaaaaaa";
	struct weir_slice *e = calloc(1, sizeof(*e) + strlen(head));
	struct assemble *a;
	struct seen s;

	(void)state;
	assert_non_null(e);
	in_front = rules_for("10.0.0.0/8", IDENTITY_ANY);
	a = identified(&s);
	v4(key.raddr, "10.0.0.1");
	*e = (struct weir_slice){ .type = WEIR_EVENT_SLICE, .flags = WEIR_SLICE_HEAD_DONE, .len = (uint16_t)strlen(head), .head_len = 9000, .conn = 5, .key = key };
	memcpy(e->data, head, strlen(head));
	assert_int_equal(assemble_event(a, e, sizeof(*e) + strlen(head)), 0);
	free(e);
	d.key = key;
	assert_int_equal(assemble_event(a, &d, sizeof(d)), 0);
	assert_non_null(strstr(s.line.p, "\"client_ip\":\"10.0.0.1\""));
	assert_int_equal(assemble_stats(a)->identity.cut, 1);
	assemble_free(a);
	seen_done(&s);
}

static int setup(void **state)
{
	(void)state;
	return automaton_build(&dfa);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(believed), cmocka_unit_test(not_believed), cmocka_unit_test(doubts),	  cmocka_unit_test(proxy_protocol),
		cmocka_unit_test(keys),	    cmocka_unit_test(retries),	    cmocka_unit_test(in_records), cmocka_unit_test(cut_head),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
