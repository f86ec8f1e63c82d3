/* Connections of HTTP/2 in the kernel's meter: when they are known as such, and that every byte goes up or is counted. */
#include "harness.h"

#include <time.h>

#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define SETTINGS "\0\0\0\4\0\0\0\0\0"
#define GET "GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n"
#define OK "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

static bool fast;
static struct meter *m;

/* What came up, in order, by direction. */
struct heard {
	char data[2][1 << 16];
	size_t n[2];
	unsigned pieces, ends, slices;
	uint8_t flags;
	uint32_t lost[2], request;
	uint64_t conn;
};
static struct heard heard;

static void on_event(void *ctx, const void *data, size_t n)
{
	const struct weir_raw *e = data;

	(void)ctx;
	if (e->type != WEIR_EVENT_RAW) {
		heard.slices += e->type == WEIR_EVENT_SLICE;
		return;
	}
	assert_true(n >= sizeof(*e) && e->len <= n - sizeof(*e) && e->dir <= 1);
	heard.pieces++;
	heard.flags |= e->flags;
	heard.ends += (e->flags & WEIR_RAW_END) != 0;
	heard.conn = e->conn;
	heard.request = e->request;
	for (int i = 0; i < 2; i++)
		heard.lost[i] = MAX(heard.lost[i], e->lost[i]);
	assert_true(heard.n[e->dir] + e->len <= sizeof(heard.data[0]));
	memcpy(heard.data[e->dir] + heard.n[e->dir], e->data, e->len);
	heard.n[e->dir] += e->len;
}

static int set_up(void **state)
{
	(void)state;
	if (meter_set_up(&m, fast))
		return -1;
	memset(&heard, 0, sizeof(heard));
	m->seen.on_event = on_event;
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	meter_close(m);
	m = NULL;
	return 0;
}

static void hear(void)
{
	ring_buffer__consume(m->ring);
	m->control->ring_epoch++;
}

static void is_heard(int dir, const char *text, size_t n)
{
	assert_int_equal(heard.n[dir], n);
	assert_memory_equal(heard.data[dir], text, n);
}

/* The preface makes it so however it is cut; what the kernel has read of it ("PRI ") does not go up. */
static void preface_every_split(void **state)
{
	static const char request[] = PREFACE SETTINGS "\0\0\3\1\5\0\0\0\1\x82\x86\x84";
	const size_t n = sizeof(request) - 1;

	(void)state;
	for (size_t split = 1; split < n; split++) {
		struct flow f = flow_make(0x0a000002, (uint16_t)(1000 + split));
		struct weir_client c, before = { 0 };

		memset(&heard, 0, sizeof(heard));
		client_get(m, &f, &before);
		packets(m, &f, WEIR_REQUEST, request, split, 0);
		packets(m, &f, WEIR_REQUEST, request + split, n - split, 0);
		packets(m, &f, WEIR_RESPONSE, SETTINGS, 9, 0);
		hear();
		is_heard(WEIR_REQUEST, request + 4, n - 4);
		is_heard(WEIR_RESPONSE, SETTINGS, 9);
		assert_true(client_get(m, &f, &c));
		assert_int_equal(c.bytes_in - before.bytes_in, n);
		assert_int_equal(c.bytes_out - before.bytes_out, 9);
		assert_int_equal(c.requests, 0); /* user space counts them */
	}
	assert_int_equal(stat_get(m, WEIR_STAT_RAW), n - 1);
	assert_int_equal(stat_get(m, WEIR_STAT_NOT_HTTP), 0);
}

static void server_first(void **state)
{
	struct flow f = flow_make(0x0a000002, 1000);

	(void)state;
	packets(m, &f, WEIR_RESPONSE, SETTINGS, 9, 0);
	packets(m, &f, WEIR_REQUEST, PREFACE SETTINGS, 33, 0);
	hear();
	is_heard(WEIR_RESPONSE, SETTINGS, 9);
	is_heard(WEIR_REQUEST, PREFACE SETTINGS, 33);
	assert_int_equal(stat_get(m, WEIR_STAT_RAW), 1);
}

/* A server that answers in HTTP/1 did not take it for HTTP/2; a client cannot hide its requests so. */
static void refused(void **state)
{
	struct flow f = flow_make(0x0a000002, 1000);
	struct weir_client c;

	(void)state;
	packets(m, &f, WEIR_REQUEST, "PRI /x HTTP/1.1\r\nHost: a\r\n\r\n", 28, 0);
	packets(m, &f, WEIR_RESPONSE, "HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n", 38, 0);
	for (int i = 0; i < 3; i++) {
		packets(m, &f, WEIR_REQUEST, GET, strlen(GET), 0);
		packets(m, &f, WEIR_RESPONSE, OK, strlen(OK), 0);
	}
	hear();
	assert_int_equal(heard.ends, 1);
	assert_true(client_get(m, &f, &c));
	assert_int_equal(c.requests, 4);
	assert_int_equal(c.status_4xx, 1);
	assert_int_equal(c.status_2xx, 3);
	assert_int_equal(c.open, 0);
}

static void upgraded(void **state)
{
	static const char ask[] = "GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n";
	static const char agree[] = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n" SETTINGS;
	struct flow f = flow_make(0x0a000002, 1000);
	struct weir_client c;

	(void)state;
	packets(m, &f, WEIR_REQUEST, GET, strlen(GET), 0);
	packets(m, &f, WEIR_RESPONSE, OK, strlen(OK), 0);
	packets(m, &f, WEIR_REQUEST, ask, sizeof(ask) - 1, 0);
	packets(m, &f, WEIR_RESPONSE, agree, sizeof(agree) - 1, 0);
	packets(m, &f, WEIR_REQUEST, PREFACE, 24, 0);
	hear();
	is_heard(WEIR_RESPONSE, SETTINGS, 9);
	is_heard(WEIR_REQUEST, PREFACE, 24);
	assert_true(heard.flags & WEIR_RAW_UPGRADED);
	assert_int_equal(heard.request, 1);
	assert_true(client_get(m, &f, &c));
	assert_int_equal(c.requests, 2);
	assert_int_equal(c.status_2xx, 1);
	assert_int_equal(c.open, 1); /* stream 1 will answer it */
	/* a head that speaks of it without agreeing changes nothing */
	f = flow_make(0x0a000003, 1001);
	packets(m, &f, WEIR_REQUEST, GET, strlen(GET), 0);
	packets(m, &f, WEIR_RESPONSE, "HTTP/1.1 200 OK\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n", 52, 0);
	packets(m, &f, WEIR_REQUEST, GET, strlen(GET), 0);
	packets(m, &f, WEIR_RESPONSE, OK, strlen(OK), 0);
	assert_true(client_get(m, &f, &c));
	assert_int_equal(c.status_2xx, 2);
	assert_int_equal(stat_get(m, WEIR_STAT_RAW), 1);
}

static void repeated(void **state)
{
	struct flow f = flow_make(0x0a000002, 1000);
	struct weir_client c;

	(void)state;
	packets(m, &f, WEIR_REQUEST, PREFACE, 24, 0);
	packets(m, &f, WEIR_RESPONSE, SETTINGS, 9, 0);
	f.sseq -= 9;
	packets(m, &f, WEIR_RESPONSE, SETTINGS SETTINGS, 18, 0); /* sent again, and more */
	f.sseq += 100; /* a hole */
	packets(m, &f, WEIR_RESPONSE, SETTINGS, 9, 0);
	hear();
	is_heard(WEIR_RESPONSE, SETTINGS SETTINGS SETTINGS, 27);
	assert_true(client_get(m, &f, &c));
	assert_int_equal(c.bytes_out, 127);
	assert_int_equal(stat_get(m, WEIR_STAT_GAP_BYTES), 100);
	/* of a request also what comes out of order: user space sorts it */
	f.cseq += 9;
	packets(m, &f, WEIR_REQUEST, "22222222.", 9, 0);
	f.cseq -= 18;
	packets(m, &f, WEIR_REQUEST, "11111111.", 9, 0);
	hear();
	is_heard(WEIR_REQUEST, "* HTTP/2.0\r\n\r\nSM\r\n\r\n22222222.11111111.", 38);
	assert_true(client_get(m, &f, &c));
	assert_int_equal(c.bytes_in, 24 + 18);
}

static void ends(void **state)
{
	(void)state;
	for (int reset = 0; reset < 2; reset++) {
		struct flow f = flow_make(0x0a000002, (uint16_t)(1000 + reset));

		memset(&heard, 0, sizeof(heard));
		packets(m, &f, WEIR_REQUEST, PREFACE, 24, 0);
		packets(m, &f, WEIR_RESPONSE, SETTINGS, 9, 0);
		if (reset)
			flow_rst(m, &f, WEIR_REQUEST);
		else
			flow_fin(m, &f, WEIR_REQUEST);
		if (!reset)
			flow_fin(m, &f, WEIR_RESPONSE);
		else
			packets(m, &f, WEIR_RESPONSE, SETTINGS, 9, 0); /* still inside a send: of nobody's concern, but for its bytes */
		hear();
		assert_int_equal(heard.ends, 1);
		is_heard(WEIR_RESPONSE, SETTINGS, 9);
	}
}

/* What the ring does not take is counted, to the byte, and told with what comes next. */
static void ring_overrun(void **state)
{
	struct flow f = flow_make(0x0a000002, 1000);
	struct meter_opts o = { .fast = fast, .ring = 8192 };
	static char text[1000];
	struct weir_client c;
	size_t sent = 20;

	(void)state;
	meter_close(m);
	m = meter_open(&o);
	assert_non_null(m);
	m->seen.on_event = on_event;
	packets(m, &f, WEIR_REQUEST, PREFACE, 24, 0);
	for (int i = 0; i < 40; i++, sent += sizeof(text))
		packets(m, &f, WEIR_REQUEST, text, sizeof(text), 0);
	hear();
	assert_true(client_get(m, &f, &c));
	assert_true(c.raw_lost_bytes > 0);
	assert_int_equal(heard.n[WEIR_REQUEST] + c.raw_lost_bytes, sent);
	assert_int_equal(stat_get(m, WEIR_STAT_RAW_BYTES), c.raw_lost_bytes);
	packets(m, &f, WEIR_REQUEST, text, 10, 0);
	hear();
	assert_int_equal(heard.lost[WEIR_REQUEST], c.raw_lost_bytes);
	/* the self-limit's last step before the hook */
	m->control->shed = WEIR_SHED_SCAN;
	packets(m, &f, WEIR_REQUEST, text, 10, 0);
	assert_int_equal(stat_get(m, WEIR_STAT_RAW_SHED), 1);
}

static void prompt_blind(void **state)
{
	struct meter_opts o = { .fast = fast, .prompt_blind = true };
	struct flow f = flow_make(0x0a000002, 1000);

	(void)state;
	meter_close(m);
	m = meter_open(&o);
	assert_non_null(m);
	m->seen.on_event = on_event;
	packets(m, &f, WEIR_REQUEST, PREFACE "a prompt", 32, 0);
	packets(m, &f, WEIR_REQUEST, "a prompt", 8, 0);
	packets(m, &f, WEIR_RESPONSE, SETTINGS, 9, 0);
	hear();
	is_heard(WEIR_REQUEST, "", 0);
	is_heard(WEIR_RESPONSE, SETTINGS, 9);
	assert_int_equal(stat_get(m, WEIR_STAT_RAW_BYTES), 0);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest cases[] = {
		CASE(preface_every_split), CASE(server_first), CASE(refused), CASE(upgraded), CASE(repeated), CASE(ends), CASE(ring_overrun), CASE(prompt_blind),
	};
	int failed;

	libbpf_set_print(NULL);
	failed = cmocka_run_group_tests_name("raw (bpf_loop)", cases, NULL, NULL);
	fast = true;
	failed += cmocka_run_group_tests_name("raw (may_goto)", cases, NULL, NULL);
	return failed != 0;
}
