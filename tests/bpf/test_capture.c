/* The maps as user space reads and ages them: sums stay whole, idle entries go, entries with work in them stay. Needs root. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <bpf/bpf.h>

#include "capture/capture_internal.h"
#include "capture/losses.h"
#include "decode/automaton.h"
#include "weir/conn.h"

#define CLIENTS 3000 /* several batches */
#define SECOND UINT64_C(1000000000)
#define NOW (100000 * SECOND)

static struct capture *capture;
static const char *refused; /* why nothing here can run */

static void no_event(void *ctx, const void *data, size_t n)
{
	(void)ctx;
	(void)data;
	(void)n;
}

static int capture_begin(void **state)
{
	struct weir_automaton *a = malloc(sizeof(*a));
	struct capture_opts o = { .max_clients = CLIENTS + 10, .max_conns = 1000, .ring_bytes = 4096, .automaton = a, .event = no_event };
	int r;

	(void)state;
	if (geteuid()) {
		refused = "needs root";
		free(a);
		return 0;
	}
	assert_int_equal(automaton_build(a), 0);
	r = capture_open(&o, &capture, &refused);
	free(a);
	if (r == 0)
		refused = NULL;
	return 0;
}

static int capture_end(void **state)
{
	(void)state;
	capture = capture_free(capture);
	return 0;
}

static void needs_capture(void)
{
	if (!refused)
		return;
	print_message("SKIP: %s\n", refused);
	skip();
}

static struct weir_client_key key_of(unsigned i)
{
	struct weir_client_key k = { .netns = 1, .port = (__u16)(i % 2 ? 1 : 2), .client = { [10] = 0xff, [11] = 0xff, 10 } };

	k.client[13] = (__u8)(i >> 16);
	k.client[14] = (__u8)(i >> 8);
	k.client[15] = (__u8)i;
	return k;
}

static void clients_put(void)
{
	struct weir_client_key other = { .netns = 1, .port = 1, .flags = WEIR_CLIENT_OTHER };
	struct weir_client v = { .requests = 1000000, .last_ns = 1 };

	for (unsigned i = 0; i < CLIENTS; i++) {
		struct weir_client_key k = key_of(i);
		/* every third is idle, every tenth of all has a request under way */
		struct weir_client c = { .requests = i, .completion_tokens = 2 * i, .last_ns = i % 3 ? NOW - SECOND : NOW - 100 * SECOND, .open = i % 10 == 0 };

		assert_int_equal(bpf_map_update_elem(capture->clients_fd, &k, &c, BPF_ANY), 0);
	}
	assert_int_equal(bpf_map_update_elem(capture->others_fd, &other, &v, BPF_ANY), 0);
}

static uint64_t total(size_t *ret_n)
{
	static struct weir_client_key keys[CAPTURE_BATCH];
	static struct weir_client values[CAPTURE_BATCH];
	struct capture_cursor cur = { 0 };
	uint64_t sum = 0;
	int n;

	*ret_n = 0;
	while ((n = capture_clients(capture, &cur, keys, values, CAPTURE_BATCH)) > 0)
		for (int i = 0; i < n; i++, ++*ret_n)
			sum += values[i].requests;
	assert_int_equal(n, 0);
	for (size_t i = 0; i < capture_aged_count(capture); i++) {
		struct weir_client_key k;
		struct weir_client v;

		capture_aged(capture, i, &k, &v);
		sum += v.requests;
	}
	return sum;
}

static void reads_each_once(void **state)
{
	const uint64_t want = (uint64_t)CLIENTS * (CLIENTS - 1) / 2 + 1000000;
	size_t n;

	(void)state;
	needs_capture();
	clients_put();
	assert_int_equal(total(&n), want);
	assert_int_equal(n, CLIENTS + 1);
	capture->no_batch = true; /* as before Linux 5.6 */
	assert_int_equal(total(&n), want);
	assert_int_equal(n, CLIENTS + 1);
	capture->no_batch = false;
}

static void ages_idle_clients(void **state)
{
	uint64_t before;
	size_t n, idle = 0;

	(void)state;
	needs_capture();
	clients_put();
	for (unsigned i = 0; i < CLIENTS; i++)
		idle += i % 3 == 0 && i % 10;
	before = total(&n);
	for (int i = 0; i < 4; i++)
		assert_int_equal(capture_age(capture, NOW, 60 * SECOND, 60 * SECOND), 0);
	assert_int_equal(total(&n), before); /* nothing is lost by forgetting somebody */
	assert_int_equal(n, CLIENTS + 1 - idle); /* `other` never goes, nor who has a request under way */
	assert_int_equal(capture_aged_count(capture), 2); /* one sum per server */
}

static void ages_idle_connections(void **state)
{
	static const struct {
		uint64_t idle_s;
		uint32_t open, users;
		bool stays;
	} cases[] = {
		{ 10, 0, 0, true }, { 100, 0, 0, false }, { 100, 1, 0, true }, { 100, 0, 1, true }, { 25 * 3600, 1, 0, false },
	};

	(void)state;
	needs_capture();
	if (capture_inexact(capture)) {
		print_message("SKIP: connections are not in the kernel here\n");
		skip();
	}
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct weir_conn_key k = { .netns = 7, .lport = (__u16)i };
		struct weir_conn c = { .last_ns = NOW - cases[i].idle_s * SECOND, .open = cases[i].open, .users = cases[i].users };

		assert_int_equal(bpf_map_update_elem(capture->conns_fd, &k, &c, BPF_ANY), 0);
	}
	capture_age(capture, NOW, 1000 * SECOND, 60 * SECOND);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct weir_conn_key k = { .netns = 7, .lport = (__u16)i };
		struct weir_conn c;

		if ((bpf_map_lookup_elem(capture->conns_fd, &k, &c) == 0) != cases[i].stays)
			fail_msg("case %zu", i);
	}
}

/* ---- losses ---------------------------------------------------------------------------------------- */
static uint64_t lost, lost_tokens, calls;

static void on_loss(void *ctx, const struct loss *l)
{
	(void)ctx;
	lost += l->requests;
	lost_tokens += l->completion_tokens;
	calls++;
}

static void client_loses(unsigned i, uint64_t requests)
{
	struct weir_client_key k = key_of(i);
	struct weir_client v = { .requests = requests, .lost = requests, .lost_completion_tokens = 3 * requests, .last_ns = NOW - 100 * SECOND };

	assert_int_equal(bpf_map_update_elem(capture->clients_fd, &k, &v, BPF_ANY), 0);
}

static void tells_each_loss_once(void **state)
{
	(void)state;
	needs_capture();
	for (unsigned i = 0; i < 1000; i++)
		client_loses(i, 1 + i % 5);
	lost = lost_tokens = calls = 0;
	assert_int_equal(capture_losses(capture, on_loss, NULL), 0);
	assert_int_equal(lost, 3000);
	assert_int_equal(lost_tokens, 9000);
	assert_int_equal(calls, 1000);
	assert_int_equal(capture_losses(capture, on_loss, NULL), 0);
	assert_int_equal(lost, 3000); /* and not again */
	client_loses(7, 100);
	assert_int_equal(capture_losses(capture, on_loss, NULL), 0);
	assert_int_equal(lost, 3000 + 100 - (1 + 7 % 5));
	/* removed for want of life and come back: its counters begin anew, and so does what was told of them */
	for (int i = 0; i < 4; i++)
		capture_age(capture, NOW, 60 * SECOND, 60 * SECOND);
	lost = 0;
	for (unsigned i = 0; i < 1000; i++)
		client_loses(i, 2);
	assert_int_equal(capture_losses(capture, on_loss, NULL), 0);
	assert_int_equal(lost, 2000);
}

static void watches_ports(void **state)
{
	(void)state;
	needs_capture();
	for (unsigned p = 1; p < 65536; p += 97)
		capture_watch(capture, (uint16_t)p, true);
	for (unsigned p = 1; p < 65536; p++)
		assert_int_equal(capture_watched(capture, (uint16_t)p), p % 97 == 1);
	for (unsigned p = 1; p < 65536; p += 97)
		capture_watch(capture, (uint16_t)p, false);
	for (unsigned p = 0; p < 65536; p++)
		assert_false(capture_watched(capture, (uint16_t)p));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_each_once),	cmocka_unit_test(ages_idle_clients), cmocka_unit_test(ages_idle_connections),
		cmocka_unit_test(tells_each_loss_once), cmocka_unit_test(watches_ports),
	};

	return cmocka_run_group_tests(tests, capture_begin, capture_end);
}
