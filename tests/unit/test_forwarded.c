/* Chains of proxies: what is believed, what is not, and what is no address at all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "decode/forwarded.h"
#include "weir/unix.h"

#include <arpa/inet.h>

static const char *text_of(const uint8_t a[16])
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	static char buf[INET6_ADDRSTRLEN];

	return memcmp(a, mapped, 12) ? inet_ntop(AF_INET6, a, buf, sizeof(buf)) : inet_ntop(AF_INET, a + 12, buf, sizeof(buf));
}

static void networks(void **state)
{
	static const struct {
		const char *text;
		int r;
		const char *in, *out;
	} cases[] = {
		{ "10.0.0.0/8", 0, "10.255.1.2", "11.0.0.0" },
		{ "10.0.0.7", 0, "10.0.0.7", "10.0.0.6" },
		{ "10.0.0.7/32", 0, "10.0.0.7", "10.0.0.8" },
		{ "192.0.2.128/25", 0, "192.0.2.255", "192.0.2.127" },
		{ "0.0.0.0/0", 0, "203.0.113.9", "2001:db8::1" }, /* all of IPv4 and nothing of IPv6 */
		{ "::/0", 0, "2001:db8::1", NULL },
		{ "2001:db8::/33", 0, "2001:db8:7fff::1", "2001:db8:8000::1" },
		{ "fd00::1", 0, "fd00::1", "fd00::2" },
		{ "::ffff:10.0.0.0/104", 0, "10.9.9.9", "11.0.0.1" },
		{ "10.0.0.1/8", -EDOM, NULL, NULL },
		{ "2001:db8::1/32", -EDOM, NULL, NULL },
		{ "10.0.0.0/33", -EINVAL, NULL, NULL },
		{ "::/129", -EINVAL, NULL, NULL },
		{ "10.0.0.0/", -EINVAL, NULL, NULL },
		{ "10.0.0.0/-1", -EINVAL, NULL, NULL },
		{ "10.0.0.0/8x", -EINVAL, NULL, NULL },
		{ "10.0.0.0/0008", -EINVAL, NULL, NULL },
		{ "10.0.0/8", -EINVAL, NULL, NULL },
		{ "010.0.0.0/8", -EINVAL, NULL, NULL },
		{ "[::1]", -EINVAL, NULL, NULL },
		{ "fe80::1%eth0", -EINVAL, NULL, NULL },
		{ "gateway.example", -EINVAL, NULL, NULL },
		{ "unix", -EINVAL, NULL, NULL },
		{ "unix:/8", -EINVAL, NULL, NULL },
		{ "100::/64", -EINVAL, NULL, NULL },
		{ "100:0:0:1::/64", 0, "100:0:0:1::5", "100:0:0:2::5" },
		{ "", -EINVAL, NULL, NULL },
		{ "/8", -EINVAL, NULL, NULL },
		{ "1111111111111111111111111111111111111111111111111111111111111111", -EINVAL, NULL, NULL },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct network n, a;

		if (network_parse(span_of(cases[i].text), &n) != cases[i].r)
			fail_msg("%s: %d", cases[i].text, network_parse(span_of(cases[i].text), &n));
		if (cases[i].r)
			continue;
		assert_int_equal(network_parse(span_of(cases[i].in), &a), 0);
		if (!network_has(&n, a.addr))
			fail_msg("%s is not in %s", cases[i].in, cases[i].text);
		if (!cases[i].out)
			continue;
		assert_int_equal(network_parse(span_of(cases[i].out), &a), 0);
		if (network_has(&n, a.addr))
			fail_msg("%s is in %s", cases[i].out, cases[i].text);
	}
}

static void private_addresses(void **state)
{
	static const char *const yes[] = { "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "100.127.9.9", "169.254.1.1", "fd12::1", "fe80::1" };
	static const char *const no[] = { "9.255.255.255", "172.32.0.1", "192.169.0.1", "100.128.0.1", "127.0.0.1", "::1", "2001:db8::1", "8.8.8.8", "fec0::1" };
	struct network n;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(yes); i++) {
		assert_int_equal(network_parse(span_of(yes[i]), &n), 0);
		assert_true(address_is_private(n.addr));
	}
	for (size_t i = 0; i < ARRAY_SIZE(no); i++) {
		assert_int_equal(network_parse(span_of(no[i]), &n), 0);
		assert_false(address_is_private(n.addr));
	}
	assert_int_equal(network_parse(SPAN("127.9.9.9"), &n), 0);
	assert_true(address_is_loopback(n.addr));
	assert_int_equal(network_parse(SPAN("::1"), &n), 0);
	assert_true(address_is_loopback(n.addr));
}

static void entries(void **state)
{
	static const struct {
		const char *text, *want;
		int r;
	} cases[] = {
		{ "192.0.2.1", "192.0.2.1", 0 },
		{ " \t192.0.2.1 ", "192.0.2.1", 0 },
		{ "192.0.2.1:8080", "192.0.2.1", 0 },
		{ "192.0.2.1:_port", "192.0.2.1", 0 },
		{ "2001:db8::1", "2001:db8::1", 0 },
		{ "[2001:db8::1]", "2001:db8::1", 0 },
		{ "[2001:DB8::1]:443", "2001:db8::1", 0 },
		{ "[2001:db8::1]:_x", "2001:db8::1", 0 },
		{ "fe80::1%eth0", "fe80::1", 0 },
		{ "[fe80::1%25eth0]:80", "fe80::1", 0 },
		{ "::ffff:192.0.2.1", "192.0.2.1", 0 },
		{ "::1", "::1", 0 },
		{ "unknown", NULL, -ENOENT },
		{ "UNKNOWN", NULL, -ENOENT },
		{ "unknown:80", NULL, -ENOENT },
		{ "_hidden", NULL, -ENOENT },
		{ "_SEVKISEK:_x", NULL, -ENOENT },
		{ "", NULL, -EINVAL },
		{ "_", NULL, -EINVAL },
		{ ":", NULL, -EINVAL },
		{ ":80", NULL, -EINVAL },
		{ "192.0.2.1:", NULL, -EINVAL },
		{ "192.0.2.1:808080", NULL, -EINVAL },
		{ "192.0.2.1:80a", NULL, -EINVAL },
		{ "192.0.2.256", NULL, -EINVAL },
		{ "192.0.2", NULL, -EINVAL },
		{ "0300.0.2.1", NULL, -EINVAL },
		{ "192.0.2.1%eth0", NULL, -EINVAL },
		{ "[192.0.2.1]", NULL, -EINVAL },
		{ "[2001:db8::1", NULL, -EINVAL },
		{ "[2001:db8::1]x", NULL, -EINVAL },
		{ "[2001:db8::1]:", NULL, -EINVAL },
		{ "[]", NULL, -EINVAL },
		{ "[", NULL, -EINVAL },
		{ "2001:db8::1::2", NULL, -EINVAL },
		{ "client.example", NULL, -EINVAL },
		{ "1.2.3.4\n5", NULL, -EINVAL },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint8_t a[16];
		int r = forwarded_address(span_of(cases[i].text), a);

		if (r != cases[i].r || (r == 0 && strcmp(text_of(a), cases[i].want) != 0))
			fail_msg("'%s': %d %s", cases[i].text, r, r ? "" : text_of(a));
	}
	assert_int_equal(forwarded_address((struct span){ "1.2.3.4\0", 8 }, (uint8_t[16]){ 0 }), -EINVAL);
}

/* Lines of one message, up to three. NULL: the chain names nobody. */
struct chain_case {
	const char *lines[3], *want;
	enum chain_end end;
};

static void run_chains(const struct chain_case *cases, size_t n, void (*add)(struct chain *c, struct span value))
{
	struct network trusted[2];

	assert_int_equal(network_parse(SPAN("10.0.0.0/8"), &trusted[0]), 0);
	assert_int_equal(network_parse(SPAN("fd00::/8"), &trusted[1]), 0);
	for (size_t i = 0; i < n; i++) {
		struct chain c = { .trusted = trusted, .count = 2 };
		uint8_t a[16];
		bool named;

		for (size_t k = 0; k < 3 && cases[i].lines[k]; k++)
			add(&c, span_of(cases[i].lines[k]));
		named = chain_client(&c, a);
		if (named != (cases[i].want != NULL) || (named && strcmp(text_of(a), cases[i].want) != 0) || c.found != cases[i].end)
			fail_msg("'%s': %s, end %d", cases[i].lines[0], named ? text_of(a) : "nobody", c.found);
	}
}

static void x_forwarded_for(void **state)
{
	static const struct chain_case cases[] = {
		{ { "203.0.113.9" }, "203.0.113.9", CHAIN_CLIENT },
		{ { "203.0.113.9, 10.0.0.2" }, "203.0.113.9", CHAIN_CLIENT },
		{ { "1.1.1.1, 203.0.113.9, 10.0.0.2, 10.0.0.3" }, "203.0.113.9", CHAIN_CLIENT }, /* what the client itself wrote stands left */
		{ { "10.0.0.1, 203.0.113.9" }, "203.0.113.9", CHAIN_CLIENT },
		{ { "1.1.1.1", "203.0.113.9", "10.0.0.2" }, "203.0.113.9", CHAIN_CLIENT }, /* several lines are one chain */
		{ { "203.0.113.9:4711 , [fd00::7]:80" }, "203.0.113.9", CHAIN_CLIENT },
		{ { "2001:db8::9,fd00::1" }, "2001:db8::9", CHAIN_CLIENT },
		{ { "\"[2001:db8::9]:80\", 10.0.0.1" }, "2001:db8::9", CHAIN_CLIENT },
		{ { "10.0.0.1, 10.0.0.2" }, "10.0.0.1", CHAIN_TRUSTED }, /* all are: the leftmost */
		{ { ",, ,203.0.113.9,, ," }, "203.0.113.9", CHAIN_CLIENT },
		{ { "unknown" }, NULL, CHAIN_UNKNOWN },
		{ { "203.0.113.9, unknown" }, NULL, CHAIN_UNKNOWN }, /* a believed proxy did not know: what is left of it is anybody's word */
		{ { "203.0.113.9, unknown, 10.0.0.2, 10.0.0.3" }, "10.0.0.2", CHAIN_UNKNOWN },
		{ { "203.0.113.9, rubbish, 10.0.0.3" }, "10.0.0.3", CHAIN_BROKEN },
		{ { "rubbish, 203.0.113.9" }, "203.0.113.9", CHAIN_CLIENT },
		{ { "10.0.0.9, rubbish, 203.0.113.9, unknown" }, NULL, CHAIN_UNKNOWN },
		{ { "" }, NULL, CHAIN_EMPTY },
		{ { " , ,," }, NULL, CHAIN_EMPTY },
		{ { "203.0.113.9 10.0.0.1" }, NULL, CHAIN_BROKEN },
	};
	struct network trusted;
	struct chain c = { .trusted = &trusted, .count = 1 };
	char line[16 * 1001], *at = line;
	uint8_t a[16];

	(void)state;
	run_chains(cases, ARRAY_SIZE(cases), chain_add_xff);
	/* a thousand hops: forged ones, the client, and proxies of ours */
	for (int i = 0; i < 1000; i++)
		at += sprintf(at, "%s%d.%d.0.1", i ? ", " : "", i < 600 ? 1 : i == 600 ? 203 : 10, i % 256);
	assert_int_equal(network_parse(SPAN("10.0.0.0/8"), &trusted), 0);
	chain_add_xff(&c, span_of(line));
	assert_int_equal(c.hops, 1000);
	assert_true(chain_client(&c, a));
	assert_string_equal(text_of(a), "203.88.0.1");
}

static void forwarded(void **state)
{
	static const struct chain_case cases[] = {
		{ { "for=203.0.113.9" }, "203.0.113.9", CHAIN_CLIENT },
		{ { "For=\"[2001:db8:cafe::17]:4711\"" }, "2001:db8:cafe::17", CHAIN_CLIENT },
		{ { "for=203.0.113.9;proto=http;by=10.0.0.1" }, "203.0.113.9", CHAIN_CLIENT },
		{ { "proto=https ; FOR = 203.0.113.9" }, "203.0.113.9", CHAIN_CLIENT },
		{ { "for=1.1.1.1, for=203.0.113.9, for=10.0.0.2" }, "203.0.113.9", CHAIN_CLIENT },
		{ { "for=1.1.1.1", "for=203.0.113.9;by=10.0.0.9", "for=10.0.0.2" }, "203.0.113.9", CHAIN_CLIENT },
		{ { "for=203.0.113.9;host=\"a,b;for=9.9.9.9\", for=10.0.0.2" }, "203.0.113.9", CHAIN_CLIENT }, /* separators inside quotes */
		{ { "host=\"\\\",for=9.9.9.9\";for=203.0.113.9" }, "203.0.113.9", CHAIN_CLIENT }, /* and an escaped quote */
		{ { "for=\"203\\.0.113.9\"" }, "203.0.113.9", CHAIN_CLIENT },
		{ { "for=\"203.0.113.9:80\"" }, "203.0.113.9", CHAIN_CLIENT },
		{ { "for=unknown" }, NULL, CHAIN_UNKNOWN },
		{ { "for=203.0.113.9, for=_gazonk" }, NULL, CHAIN_UNKNOWN },
		{ { "for=203.0.113.9, for=_gazonk, for=10.0.0.2" }, "10.0.0.2", CHAIN_UNKNOWN },
		{ { "for=203.0.113.9, proto=http" }, NULL, CHAIN_UNKNOWN }, /* an entry that does not say for whom */
		{ { "for=203.0.113.9, for=\"10.0.0.2" }, NULL, CHAIN_BROKEN }, /* a quote left open */
		{ { "for=\"203.0.113.9, for=10.0.0.2" }, NULL, CHAIN_BROKEN },
		{ { "for=203.0.113.9;for=9.9.9.9" }, NULL, CHAIN_BROKEN }, /* twice in one entry */
		{ { "for=10.0.0.1, for=10.0.0.2" }, "10.0.0.1", CHAIN_TRUSTED },
		{ { "for=10.0.0.1,, ,for=10.0.0.2," }, "10.0.0.1", CHAIN_TRUSTED },
		{ { "for" }, NULL, CHAIN_UNKNOWN },
		{ { "for=" }, NULL, CHAIN_BROKEN },
		{ { "=;=,==" }, NULL, CHAIN_EMPTY },
		{ { "" }, NULL, CHAIN_EMPTY },
		{ { "for=\"1111111111111111111111111111111111111111111111111111111111111111111111111\"" }, NULL, CHAIN_BROKEN },
	};

	(void)state;
	run_chains(cases, ARRAY_SIZE(cases), chain_add_forwarded);
}

static void unix_peers(void **state)
{
	struct network n;
	uint8_t a[16];

	(void)state;
	assert_int_equal(network_parse(SPAN("unix:"), &n), 0);
	weir_unix_address(a, 33, 7);
	assert_true(network_has(&n, a));
	a[0] = 2;
	assert_false(network_has(&n, a));
	assert_int_equal(forwarded_address(SPAN("100::21:0:7"), a), -EINVAL); /* a header cannot make one up */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(networks), cmocka_unit_test(private_addresses), cmocka_unit_test(entries),
		cmocka_unit_test(x_forwarded_for), cmocka_unit_test(forwarded), cmocka_unit_test(unix_peers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
