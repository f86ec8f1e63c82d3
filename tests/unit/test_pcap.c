/*
 * test_pcap.c - captures made by hand, through the whole way from the file to the record: every link type, every disorder that TCP
 * and capturing bring, damaged files. What is compared with is the record of the same exchange in good order.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/log.h"
#include "cmd/replay_pcap.h"
#include "decode/automaton.h"
#include "pcap_make.h"

static const char request[] = "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer sesame\r\nContent-Length: 75\r\n\r\n"
			      "{\"model\":\"m\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"Hello!\"}]}";
static const char plain[] = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 52\r\n\r\n"
			    "{\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":41}}";

static char stream[1024]; /* the answer in chunks; made at the start */

static struct weir_automaton automaton;

struct out {
	struct str lines;
	unsigned records;
};

static int on_record(void *ctx, const struct record *r)
{
	struct out *o = ctx;

	o->records++;
	record_write_json(&o->lines, r);
	return 0;
}

static int replay_bytes(const char *p, size_t n, const uint8_t *ports, struct out *o)
{
	static const uint8_t key[SIPHASH_KEY_BYTES] = "0123456789abcdef";
	struct replay_pcap_opts opts = { .name = "test", .ports = ports, .key = key, .automaton = &automaton, .record = on_record, .ctx = o };
	FILE *f = fmemopen((void *)p, n, "rb");

	assert_non_null(f);
	memset(o, 0, sizeof(*o));
	return replay_pcap(f, &opts);
}

static void replay(const struct made *m, struct out *o)
{
	assert_int_equal(str_error(&m->file), 0);
	assert_int_equal(replay_bytes(m->file.p, m->file.n, NULL, o), 0);
}

static void made_done(struct made *m)
{
	str_done(&m->file);
}

static void chunk(char *out, const char *data)
{
	snprintf(out + strlen(out), sizeof(stream) - strlen(out), "%zx\r\n%s\r\n", strlen(data), data);
}

static struct made_conn conn_new(void)
{
	return (struct made_conn){ .client_port = 40000, .server_port = 8000, .seq = { 1000, 0xffffff80u } }; /* wraps in the middle */
}

static void exchange(struct made *m, struct made_conn *c, size_t step)
{
	made_bytes(m, c, 0, request, strlen(request), step);
	made_bytes(m, c, 1, stream, strlen(stream), step);
}

static void whole(struct made *m, size_t step)
{
	struct made_conn c = conn_new();

	made_begin(m);
	made_open(m, &c);
	exchange(m, &c, step);
	made_close(m, &c);
}

/* The first value of a field in a line. */
static void value_of(const struct out *o, const char *field, char ret[64])
{
	char want[32];
	const char *at;

	snprintf(want, sizeof(want), "\"%s\":", field);
	at = o->lines.p ? strstr(o->lines.p, want) : NULL;
	snprintf(ret, 64, "%.*s", at ? (int)strcspn(at + strlen(want), ",}") : 6, at ? at + strlen(want) : "absent");
}

static void assert_value(const struct out *o, const char *field, const char *want)
{
	char have[64];

	value_of(o, field, have);
	if (strcmp(have, want))
		print_error("%s is %s in %s\n", field, have, o->lines.p ? o->lines.p : "nothing");
	assert_string_equal(have, want);
}

/* One record that holds all there is to know. */
static void assert_exchange(const struct out *o)
{
	assert_int_equal(o->records, 1);
	assert_value(o, "status", "200");
	assert_value(o, "prompt_tokens", "7");
	assert_value(o, "completion_tokens", "41");
	assert_value(o, "model_name", "\"m\"");
	assert_value(o, "prompt_chars", "6");
	assert_value(o, "request_id", "\"c-1\"");
	assert_value(o, "stream", "true");
	assert_value(o, "aborted", "absent");
}

static void test_record(void **state)
{
	struct made m = { .link = MADE_ETHERNET };
	struct out o;

	(void)state;
	whole(&m, 0);
	replay(&m, &o);
	assert_exchange(&o);
	assert_value(&o, "timestamp", "1700000000.003");
	assert_value(&o, "client_ip", "\"10.0.0.7\"");
	assert_value(&o, "server", "\"10.0.0.1:8000\"");
	assert_value(&o, "duration_ms", "1");
	assert_value(&o, "ttft_ms", "1");
	str_done(&o.lines);
	made_done(&m);
}

static void test_link_types(void **state)
{
	static const struct made kinds[] = {
		{ .link = MADE_ETHERNET, .vlans = 1 }, { .link = MADE_ETHERNET, .vlans = 2 }, { .link = MADE_ETHERNET, .vlans = 3 },
		{ .link = MADE_NULL }, { .link = MADE_LOOP }, { .link = MADE_RAW }, { .link = MADE_SLL }, { .link = MADE_SLL2 },
		{ .link = MADE_SLL, .vlans = 1 }, { .link = MADE_SLL2, .vlans = 2 }, { .link = MADE_ETHERNET, .options = 4 },
		{ .link = MADE_RAW, .options = 40 }, { .link = MADE_ETHERNET, .bad_length = true }, { .link = MADE_ETHERNET, .ng = true },
	};
	struct made m = { .link = MADE_ETHERNET };
	struct out want, o;

	(void)state;
	whole(&m, 50);
	replay(&m, &want);
	made_done(&m);
	assert_exchange(&want);
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		m = kinds[i];
		whole(&m, 50);
		replay(&m, &o);
		assert_int_equal(o.records, 1);
		assert_string_equal(o.lines.p, want.lines.p);
		str_done(&o.lines);
		made_done(&m);
	}
	str_done(&want.lines);
}

static void test_ipv6(void **state)
{
	static const struct made kinds[] = {
		{ .link = MADE_ETHERNET }, { .link = MADE_ETHERNET, .extensions = 1 }, { .link = MADE_RAW, .extensions = 8 }, { .link = MADE_NULL, .extensions = 3 },
		{ .link = MADE_SLL2 }, { .link = MADE_ETHERNET, .bad_length = true },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct made m = kinds[i];
		struct out o;

		m.v6 = true;
		whole(&m, 33);
		replay(&m, &o);
		assert_exchange(&o);
		assert_value(&o, "client_ip", "\"2001:db8::7\"");
		assert_value(&o, "server", "\"[2001:db8::1]:8000\"");
		str_done(&o.lines);
		made_done(&m);
	}
	/* one extension header too many is not read, and said */
	struct made m = { .link = MADE_RAW, .v6 = true, .extensions = 9 };
	struct out o;

	whole(&m, 0);
	replay(&m, &o);
	assert_int_equal(o.records, 0);
	made_done(&m);
}

static void test_every_split(void **state)
{
	(void)state;
	for (size_t step = 1; step < 120; step++) {
		struct made m = { .link = MADE_RAW };
		struct out o;

		whole(&m, step);
		replay(&m, &o);
		assert_exchange(&o);
		str_done(&o.lines);
		made_done(&m);
	}
}

/* ---- disorder ----------------------------------------------------------------------------------------- */
struct piece {
	int from_server;
	uint32_t seq, n;
	const char *p;
};

static uint32_t dice(uint64_t *state, uint32_t below)
{
	*state = *state * UINT64_C(6364136223846793005) + 1442695040888963407u;
	return (uint32_t)(*state >> 33) % below;
}

/* All segments of one direction, cut at random, shuffled, some of them again and some overlapping. */
static size_t disorder(uint64_t *seed, int from_server, uint32_t seq, const char *p, size_t n, struct piece *out)
{
	size_t count = 0;

	for (size_t at = 0; at < n;) {
		size_t len = 1 + dice(seed, 60), before = dice(seed, 3) ? 0 : dice(seed, 40);

		len = MIN(len, n - at);
		before = MIN(before, at);
		out[count++] = (struct piece){ from_server, seq + (uint32_t)(at - before), (uint32_t)(len + before), p + at - before };
		if (!dice(seed, 4))
			out[count++] = (struct piece){ from_server, seq + (uint32_t)at, (uint32_t)len, p + at };
		at += len;
	}
	/* the first stays: where a stream begins, without its SYN, is told by what comes first */
	for (size_t i = 1; i < count; i++) {
		size_t j = 1 + dice(seed, (uint32_t)count - 1);
		struct piece t = out[i];

		out[i] = out[j];
		out[j] = t;
	}
	return count;
}

static void test_disorder(void **state)
{
	(void)state;
	for (uint64_t run = 1; run <= 300; run++) {
		struct made m = { .link = MADE_ETHERNET };
		struct made_conn c = conn_new();
		struct piece pieces[1024];
		uint64_t seed = run;
		struct out o;

		made_begin(&m);
		if (run % 3)
			made_open(&m, &c);
		for (int side = 0; side < 2; side++) {
			const char *text = side ? stream : request;
			size_t n = disorder(&seed, side, c.seq[side], text, strlen(text), pieces);

			for (size_t i = 0; i < n; i++) /* the other end acknowledges nothing meanwhile */
				made_raw(&m, &c, side, pieces[i].seq, c.seq[!side], MADE_ACK, pieces[i].p, pieces[i].n);
			c.seq[side] += (uint32_t)strlen(text);
		}
		made_close(&m, &c);
		replay(&m, &o);
		assert_exchange(&o);
		str_done(&o.lines);
		made_done(&m);
	}
}

/* The end of the connection comes before its last bytes do. */
static void test_early_fin(void **state)
{
	struct made m = { .link = MADE_RAW };
	struct made_conn c = conn_new();
	size_t n = strlen(stream), cut = n - 30;
	struct out o;

	(void)state;
	made_begin(&m);
	made_open(&m, &c);
	made_text(&m, &c, 0, request);
	made_raw(&m, &c, 1, c.seq[1], c.seq[0], MADE_ACK, stream, cut);
	made_raw(&m, &c, 1, c.seq[1] + (uint32_t)n, c.seq[0], MADE_ACK | MADE_FIN, "", 0);
	made_raw(&m, &c, 0, c.seq[0], c.seq[1] + (uint32_t)cut, MADE_ACK | MADE_FIN, "", 0);
	made_raw(&m, &c, 1, c.seq[1] + (uint32_t)cut, c.seq[0], MADE_ACK, stream + cut, n - cut);
	replay(&m, &o);
	assert_exchange(&o);
	str_done(&o.lines);
	made_done(&m);
}

/* Loopback and bridges show each packet twice. */
static void test_twice(void **state)
{
	struct made m = { .link = MADE_SLL2 }, twice = { .link = MADE_SLL2 };
	size_t at = 24;
	struct out o;

	(void)state;
	whole(&m, 40);
	made_begin(&twice);
	while (at < m.file.n) {
		uint32_t have;

		memcpy(&have, m.file.p + at + 8, 4);
		for (int i = 0; i < 2; i++)
			str_add(&twice.file, m.file.p + at, 16 + have);
		at += 16 + have;
	}
	replay(&twice, &o);
	assert_exchange(&o);
	str_done(&o.lines);
	made_done(&m);
	made_done(&twice);
}

/* Two exchanges, without [from, to) of the first answer; the second request acknowledges all of it. */
static void with_hole(struct made *m, const char *answer, size_t from, size_t to)
{
	struct made_conn c = conn_new();

	made_begin(m);
	made_open(m, &c);
	made_text(m, &c, 0, request);
	made_bytes(m, &c, 1, answer, from, 0);
	c.seq[1] += (uint32_t)(to - from);
	made_text(m, &c, 1, answer + to);
	made_text(m, &c, 0, request);
	made_text(m, &c, 1, answer);
	made_close(m, &c);
}

/* A hole is a gap: this request may lose what lay in it, the next one nothing. */
static void test_hole(void **state)
{
	(void)state;
	for (size_t from = 1; from + 20 < strlen(stream); from += 7) {
		struct made m = { .link = MADE_RAW };
		struct out o;
		const char *second;

		with_hole(&m, stream, from, from + 20);
		replay(&m, &o);
		assert_int_equal(o.records, 2);
		second = strchr(o.lines.p, '\n') + 1;
		memmove(o.lines.p, second, strlen(second) + 1);
		o.records = 1;
		assert_exchange(&o);
		str_done(&o.lines);
		made_done(&m);
	}
}

/* Inside a body of known length a hole costs nothing but what lay in it: the end is where it is announced. */
static void test_hole_in_length(void **state)
{
	struct made m = { .link = MADE_RAW };
	size_t body = strlen(plain) - 52;
	struct out o;

	(void)state;
	with_hole(&m, plain, body + 2, body + 8);
	replay(&m, &o);
	assert_int_equal(o.records, 2);
	assert_value(&o, "completion_tokens", "41");
	assert_value(&o, "duration_ms", "2"); /* not the end of the connection, nor the next answer */
	str_done(&o.lines);
	made_done(&m);
}

/* Headers only, or a little of the payload: what is there is read, the requests are counted, nothing is made up. */
static void test_snaplen(void **state)
{
	(void)state;
	for (uint32_t snap = 54; snap < 300; snap += 3) {
		struct made m = { .link = MADE_ETHERNET, .snap = snap };
		struct made_conn c = conn_new();
		struct out o;

		made_begin(&m);
		made_open(&m, &c);
		for (int i = 0; i < 3; i++) {
			made_text(&m, &c, 0, request);
			made_text(&m, &c, 1, plain);
		}
		made_close(&m, &c);
		replay(&m, &o);
		if (snap >= 54 + strlen(plain))
			assert_int_equal(o.records, 3);
		if (snap >= 54 + strlen(request))
			assert_value(&o, "model_name", "\"m\"");
		assert_true(o.records <= 3);
		/* the answer's head is whole, and so tells where its body ends */
		if (snap >= 54 + strlen(plain) - 52) {
			assert_int_equal(o.records, 3);
			assert_value(&o, "status", "200");
			assert_value(&o, "aborted", "absent");
		}
		str_done(&o.lines);
		made_done(&m);
	}
}

/* ---- connections -------------------------------------------------------------------------------------- */
/* The capture begins while the connection is at work: who the server is, its answer tells, or its client. */
static void test_midway(void **state)
{
	struct made m = { .link = MADE_RAW };
	struct made_conn c = conn_new();
	struct out o;

	(void)state;
	made_begin(&m);
	exchange(&m, &c, 30);
	made_close(&m, &c);
	replay(&m, &o);
	assert_exchange(&o);
	assert_value(&o, "server", "\"10.0.0.1:8000\"");
	str_done(&o.lines);
	made_done(&m);

	/* in the middle of an answer, from a port higher than the client's */
	m = (struct made){ .link = MADE_RAW };
	c = conn_new();
	c.server_port = 50000;
	made_begin(&m);
	made_text(&m, &c, 1, stream);
	made_text(&m, &c, 0, request);
	made_text(&m, &c, 1, stream);
	made_close(&m, &c);
	replay(&m, &o);
	assert_int_equal(o.records, 2);
	assert_value(&o, "server", "\"10.0.0.1:50000\"");
	str_done(&o.lines);
	made_done(&m);
}

static void test_port_reused(void **state)
{
	struct made m = { .link = MADE_RAW };
	struct made_conn c = conn_new();
	struct out o;

	(void)state;
	made_begin(&m);
	for (int i = 0; i < 5; i++) {
		c.seq[0] = 1000 + (uint32_t)i * 70000;
		c.seq[1] = 99 + (uint32_t)i * 1000000;
		made_open(&m, &c);
		exchange(&m, &c, 40);
		if (i & 1)
			made_close(&m, &c); /* of the others the end is missing */
	}
	replay(&m, &o);
	assert_int_equal(o.records, 5);
	str_done(&o.lines);
	made_done(&m);
}

static void test_reset(void **state)
{
	struct made m = { .link = MADE_RAW };
	struct made_conn c = conn_new();
	struct out o;

	(void)state;
	made_begin(&m);
	made_open(&m, &c);
	made_text(&m, &c, 0, request);
	made_bytes(&m, &c, 1, stream, 200, 50);
	made_raw(&m, &c, 0, c.seq[0] + 0x40000000u, 0, MADE_RST, "", 0); /* somebody else's */
	made_bytes(&m, &c, 1, stream + 200, 20, 0);
	made_raw(&m, &c, 0, c.seq[0], 0, MADE_RST, "", 0);
	made_open(&m, &(struct made_conn){ .client_port = 40000, .server_port = 8000, .seq = { 77777, 1 } });
	replay(&m, &o);
	assert_int_equal(o.records, 1);
	assert_value(&o, "aborted", "true");
	assert_value(&o, "duration_ms", "6");
	str_done(&o.lines);
	made_done(&m);
}

static void test_ports(void **state)
{
	static uint8_t ports[8192];
	struct made m = { .link = MADE_RAW };
	struct out o;

	(void)state;
	whole(&m, 0);
	ports[8000 / 8] = 1u << (8000 % 8);
	assert_int_equal(replay_bytes(m.file.p, m.file.n, ports, &o), 0);
	assert_exchange(&o);
	str_done(&o.lines);
	ports[8000 / 8] = 0;
	ports[9] = 1;
	assert_int_equal(replay_bytes(m.file.p, m.file.n, ports, &o), 0);
	assert_int_equal(o.records, 0);
	made_done(&m);
}

static void test_tls(void **state)
{
	struct made m = { .link = MADE_RAW };
	struct made_conn c = conn_new();
	struct out o;

	(void)state;
	made_begin(&m);
	made_open(&m, &c);
	made_bytes(&m, &c, 0, "\x16\x03\x01\x00\x05hello", 10, 0);
	exchange(&m, &c, 0);
	made_close(&m, &c);
	replay(&m, &o);
	assert_int_equal(o.records, 0);
	made_done(&m);
}

/* ---- damaged files -------------------------------------------------------------------------------------- */
static void test_cut_file(void **state)
{
	struct made m = { .link = MADE_ETHERNET }, ng = { .link = MADE_ETHERNET, .ng = true };
	struct out o;

	(void)state;
	whole(&m, 60);
	whole(&ng, 60);
	for (size_t n = 1; n < m.file.n; n++) {
		int r = replay_bytes(m.file.p, n, NULL, &o);

		assert_int_equal(r, n < 24); /* without the file's own header it is none */
		assert_true(o.records <= 1);
		if (o.records)
			assert_exchange(&o);
		str_done(&o.lines);
	}
	for (size_t n = 1; n < ng.file.n; n++) {
		replay_bytes(ng.file.p, n, NULL, &o);
		assert_true(o.records <= 1);
		str_done(&o.lines);
	}
	made_done(&m);
	made_done(&ng);
}

static void test_unknown_link(void **state)
{
	struct made m = { .link = (enum made_link)127 /* radiotap */ };
	struct out o;

	(void)state;
	made_begin(&m);
	assert_int_equal(replay_bytes(m.file.p, m.file.n, NULL, &o), 1);
	made_done(&m);
}

static void test_magic(void **state)
{
	struct made m = { .link = MADE_RAW };

	(void)state;
	made_begin(&m);
	assert_true(pcap_file_magic((const uint8_t *)m.file.p));
	assert_false(pcap_file_magic((const uint8_t *)"{\"ti"));
	assert_false(pcap_file_magic((const uint8_t *)"time"));
	made_done(&m);
}

static int have_library(void **state)
{
	struct made m = { .link = MADE_RAW };
	struct pcap_file *p = NULL;
	char why[PCAP_WHY_MAX];
	int r;

	(void)state;
	made_begin(&m);
	r = pcap_file_open(fmemopen(m.file.p, m.file.n, "rb"), &p, why);
	pcap_file_close(p);
	made_done(&m);
	if (r < 0)
		print_error("%s\n", why);
	snprintf(stream, sizeof(stream), "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
	chunk(stream, "data: {\"id\":\"c-1\",\"choices\":[{\"delta\":{\"content\":\"Good\"}}]}\n\n");
	chunk(stream, "data: {\"id\":\"c-1\",\"choices\":[{\"delta\":{\"content\":\" day\"}}]}\n\n");
	chunk(stream, "data: {\"id\":\"c-1\",\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":41}}\n\n");
	snprintf(stream + strlen(stream), sizeof(stream) - strlen(stream), "0\r\n\r\n");
	log_set_level(LOG_ERROR);
	return r < 0 ? r : automaton_build(&automaton);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_record), cmocka_unit_test(test_link_types), cmocka_unit_test(test_ipv6), cmocka_unit_test(test_every_split),
		cmocka_unit_test(test_disorder), cmocka_unit_test(test_early_fin), cmocka_unit_test(test_twice), cmocka_unit_test(test_hole),
		cmocka_unit_test(test_hole_in_length), cmocka_unit_test(test_snaplen), cmocka_unit_test(test_midway), cmocka_unit_test(test_port_reused),
		cmocka_unit_test(test_reset), cmocka_unit_test(test_ports), cmocka_unit_test(test_tls), cmocka_unit_test(test_cut_file),
		cmocka_unit_test(test_unknown_link), cmocka_unit_test(test_magic),
	};

	return cmocka_run_group_tests(tests, have_library, NULL);
}
