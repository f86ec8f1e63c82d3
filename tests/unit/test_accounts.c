/* Counters by true client, key and user: what goes in comes out, whoever is pushed out; and whether clients are hidden behind a gateway. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/str.h"
#include "cmd/agent_accounts.h"
#include "cmd/agent_hidden.h"
#include "decode/record.h"

#include <arpa/inet.h>

static struct record record_of(const char *ip, const char *key, const char *user, int64_t status)
{
	struct record r;

	record_init(&r);
	r.kind = KIND_INFERENCE;
	record_set_text(&r, F_SERVER, SPAN("10.0.0.9:8000 vllm"));
	record_set_text(&r, F_CLIENT_IP, span_of(ip));
	record_set_text(&r, F_API_KEY, span_of(key));
	record_set_text(&r, F_USER, span_of(user));
	record_set_int(&r, F_STATUS, status);
	record_set_int(&r, F_PROMPT_TOKENS, 10);
	record_set_int(&r, F_COMPLETION_TOKENS, 3);
	return r;
}

/* All lines of one kind, `piece` at a time. */
static struct str told(const struct accounts *a, enum account_kind kind, unsigned piece)
{
	struct str out = { .ceiling = 64u << 20 };
	uint32_t at = 0;

	while (accounts_write(a, kind, &at, piece, &out))
		;
	assert_int_equal(str_error(&out), 0);
	return out;
}

static uint64_t sum_of(const char *lines, const char *field)
{
	char want[64];
	uint64_t sum = 0;
	size_t n = (size_t)snprintf(want, sizeof(want), "\"%s\":", field);

	for (const char *at = lines; at && (at = strstr(at, want)); at += n)
		sum += strtoull(at + n, NULL, 10);
	return sum;
}

static unsigned lines_of(const char *text)
{
	unsigned n = 0;

	for (; *text; text++)
		n += *text == '\n';
	return n;
}

static void counts(void **state)
{
	struct accounts *a = accounts_new(100);
	struct record r = record_of("203.0.113.9", "k1", NULL, 200);
	struct identity id = { .ignored = true };
	struct str s;

	(void)state;
	accounts_record(a, &r, &id, 1);
	record_set_int(&r, F_RETRY, 1);
	record_set_int(&r, F_CACHED_TOKENS, 4);
	record_set_int(&r, F_REASONING_TOKENS, 2);
	accounts_record(a, &r, NULL, 2);
	r = record_of("203.0.113.9", "k1", "maria \"x\"", 429);
	r.has &= ~(F_BIT(F_PROMPT_TOKENS) | F_BIT(F_COMPLETION_TOKENS));
	accounts_record(a, &r, NULL, 3);
	r = record_of("203.0.113.8", NULL, NULL, 200);
	record_set_bool(&r, F_ESTIMATED, true);
	record_set_bool(&r, F_ABORTED, true);
	accounts_record(a, &r, NULL, 4);
	s = told(a, ACCOUNT_CLIENT, 1);
	assert_string_equal(s.p, "{\"server\":\"10.0.0.9:8000\",\"client_ip\":\"203.0.113.9\",\"requests\":3,\"status_2xx\":2,\"status_3xx\":0,\"status_4xx\":1,\"status_5xx\":0,"
				 "\"stream_errors\":0,\"prompt_tokens\":20,\"completion_tokens\":6,\"cached_tokens\":4,\"reasoning_tokens\":2,\"estimated_tokens\":0,"
				 "\"aborted\":0,\"lost\":0,\"retries\":1,\"forwarded_ignored\":1}\n"
				 "{\"server\":\"10.0.0.9:8000\",\"client_ip\":\"203.0.113.8\",\"requests\":1,\"status_2xx\":1,\"status_3xx\":0,\"status_4xx\":0,\"status_5xx\":0,"
				 "\"stream_errors\":0,\"prompt_tokens\":0,\"completion_tokens\":0,\"cached_tokens\":0,\"reasoning_tokens\":0,\"estimated_tokens\":3,"
				 "\"aborted\":1,\"lost\":0,\"retries\":0,\"forwarded_ignored\":0}\n");
	str_done(&s);
	s = told(a, ACCOUNT_KEY, 64);
	assert_int_equal(lines_of(s.p), 2);
	assert_non_null(strstr(s.p, "\"api_key\":\"k1\",\"requests\":3"));
	assert_non_null(strstr(s.p, "\"api_key\":null,\"requests\":1"));
	str_done(&s);
	s = told(a, ACCOUNT_USER, 64);
	assert_non_null(strstr(s.p, "\"user\":\"maria \\\"x\\\"\",\"requests\":1"));
	str_done(&s);
	accounts_free(a);
}

/* More of everything than there is room for: nothing is missing from the sums, in any of the three. */
static void bounded(void **state)
{
	struct accounts *a = accounts_new(50);
	struct str s;

	(void)state;
	for (unsigned i = 0; i < 20000; i++) {
		char ip[32], key[32], user[32];
		struct record r;

		snprintf(ip, sizeof(ip), "198.51.%u.%u", i % 977 / 250, i % 977 % 250);
		snprintf(key, sizeof(key), "%08x", i % 61 * 2654435761u);
		snprintf(user, sizeof(user), "u%u", i % 7);
		r = record_of(ip, key, user, i % 3 ? 200 : 401);
		r.weight = 1 + i % 5 / 4;
		if (i % 11) {
			accounts_record(a, &r, NULL, i / 100);
		} else {
			record_set_bool(&r, F_LOST, true);
			accounts_lost(a, &r, i / 100);
		}
		if (i == 9999)
			accounts_age(a, 100);
	}
	for (int k = 0; k < ACCOUNT_KINDS; k++) {
		s = told(a, (enum account_kind)k, 7);
		assert_true(lines_of(s.p) <= 52);
		assert_int_equal(sum_of(s.p, "requests"), 24000);
		assert_int_equal(sum_of(s.p, "prompt_tokens"), 200000);
		assert_int_equal(sum_of(s.p, "completion_tokens"), 60000);
		assert_int_equal(sum_of(s.p, "lost"), 2182); /* each eleventh, of which every fifth stands for two */
		str_done(&s);
	}
	s = told(a, ACCOUNT_CLIENT, 64);
	assert_non_null(strstr(s.p, "\"client_ip\":\"other\""));
	assert_non_null(strstr(s.p, "\"client_ip\":\"aged\""));
	assert_true(accounts_evicted(a) > 0);
	str_done(&s);
	accounts_free(a);
}

/* Who sprays keys pushes out what he sprayed, not those that work. */
static void sprayed_keys(void **state)
{
	struct accounts *a = accounts_new(20);
	struct record r = record_of("203.0.113.1", "good", NULL, 200);
	struct str s;

	(void)state;
	accounts_record(a, &r, NULL, 1);
	for (unsigned i = 0; i < 5000; i++) {
		char key[32];

		snprintf(key, sizeof(key), "bad%u", i);
		r = record_of("203.0.113.2", key, NULL, 401);
		accounts_record(a, &r, NULL, 2);
	}
	s = told(a, ACCOUNT_KEY, 64);
	assert_non_null(strstr(s.p, "\"api_key\":\"good\",\"requests\":1"));
	assert_int_equal(sum_of(s.p, "requests"), 5001);
	str_done(&s);
	accounts_free(a);
}

static void many_servers(void **state)
{
	struct accounts *a = accounts_new(1000);
	struct str s;

	(void)state;
	for (unsigned i = 0; i < 600; i++) {
		struct record r = record_of("203.0.113.1", NULL, NULL, 200);
		char server[32];

		snprintf(server, sizeof(server), "10.0.0.9:%u", 1000 + i);
		record_set_text(&r, F_SERVER, span_of(server));
		accounts_record(a, &r, NULL, 1);
	}
	s = told(a, ACCOUNT_CLIENT, 64);
	assert_int_equal(sum_of(s.p, "requests"), 600);
	assert_non_null(strstr(s.p, "\"server\":\"other\""));
	str_done(&s);
	accounts_free(a);
}

/* ---- hidden clients -------------------------------------------------------------------------------- */
static void see(struct hidden *h, unsigned n, const char *peer, const char *agent, bool forwarded, bool named)
{
	struct weir_conn_key at = { .laddr = { [10] = 0xff, 0xff, 10, 0, 0, 9 } };
	struct identity id = { .named = named, .forwarded = forwarded };
	struct record r = record_of("192.0.2.1", NULL, NULL, 200);

	if (strchr(peer, ':'))
		assert_int_equal(inet_pton(AF_INET6, peer, at.raddr), 1);
	else
		memcpy(at.raddr, (uint8_t[12]){ [10] = 0xff, [11] = 0xff }, 12), assert_int_equal(inet_pton(AF_INET, peer, at.raddr + 12), 1);
	record_set_text(&r, F_USER_AGENT, span_of(agent));
	while (n--)
		hidden_record(h, &r, &at, &id);
}

static void hidden_clients(void **state)
{
	static const struct {
		const char *what, *peer;
		bool forwarded, named, many, want;
	} cases[] = {
		{ "public addresses", "203.0.113.1", false, false, true, false },
		{ "a public proxy that forwards", "203.0.113.1", true, false, true, true },
		{ "the same, believed", "203.0.113.1", true, true, true, false },
		{ "a pod or node", "10.1.2.3", false, false, false, true },
		{ "the same in IPv6", "fd00::3", false, false, false, true },
		{ "a program on this host", "127.0.0.1", false, false, false, false },
		{ "a gateway on this host", "127.0.0.1", false, false, true, true },
		{ "one that forwards", "127.0.0.1", true, false, false, true },
		{ "by the host's own address", "10.0.0.9", false, false, false, false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct hidden *h = hidden_new();

		for (unsigned k = 0; k < 300; k++) {
			char agent[16];

			snprintf(agent, sizeof(agent), "agent-%u", cases[i].many ? k % 40 : 0);
			see(h, 1, cases[i].peer, agent, cases[i].forwarded, cases[i].named);
			if (k < HIDDEN_REQUESTS - 1)
				assert_false(hidden_now(h)); /* too early to say */
		}
		if (hidden_now(h) != cases[i].want)
			fail_msg("%s", cases[i].what);
		hidden_free(h);
	}
}

static void hidden_shares(void **state)
{
	struct hidden *h = hidden_new();
	struct str s = { 0 };

	(void)state;
	see(h, 100, "10.0.0.1", "a", false, false);
	see(h, 100, "10.0.0.2", "a", false, false);
	see(h, 100, "10.0.0.3", "a", false, false);
	assert_true(hidden_now(h));
	hidden_write_json(h, &s);
	assert_non_null(strstr(s.p, "\"hidden\":{\"hidden\":true,\"requests\":300,\"peers\":[{\"address\":\"10.0.0.1\",\"requests\":100,"));
	str_done(&s);
	see(h, 100, "10.0.0.4", "a", false, false); /* four of them hold it: three have no more than 75 % */
	assert_false(hidden_now(h));
	for (unsigned i = 0; i < 200; i++) { /* what changes shows, after a while */
		char ip[32];

		snprintf(ip, sizeof(ip), "203.0.113.%u", i);
		see(h, 100, ip, "a", false, false);
	}
	assert_false(hidden_now(h));
	see(h, 60000, "10.0.0.1", "a", false, false);
	assert_true(hidden_now(h));
	hidden_free(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(counts),	cmocka_unit_test(bounded),	 cmocka_unit_test(sprayed_keys),
		cmocka_unit_test(many_servers), cmocka_unit_test(hidden_clients), cmocka_unit_test(hidden_shares),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
