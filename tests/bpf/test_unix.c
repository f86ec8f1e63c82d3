/* The hook on Unix stream sockets: both directions whole whatever their pieces, peeks, ends of every kind, sockets of nobody's. Needs root. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <sys/socket.h>
#include <sys/un.h>

#include "base/address.h"
#include "capture/uds.h"
#include "decode/automaton.h"

#define NAME "@weir-test-unix"
#define LONG 40000 /* more than lies in one piece in the kernel */

static struct capture *capture;
static struct uds *uds;
static const char *refused; /* why nothing here can run */
static int listener[2];     /* watched, and not */
static struct weir_done done; /* the last */
static unsigned dones;

static void on_event(void *ctx, const void *data, size_t n)
{
	(void)ctx;
	if (((const struct weir_done *)data)->type != WEIR_EVENT_DONE)
		return;
	assert_true(n >= sizeof(done));
	memcpy(&done, data, sizeof(done));
	dones++;
}

static struct sockaddr_un name_of(const char *name, socklen_t *ret_len)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	memcpy(a.sun_path + 1, name + 1, strlen(name) - 1);
	*ret_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name));
	return a;
}

static int listen_at(const char *name)
{
	socklen_t len;
	struct sockaddr_un a = name_of(name, &len);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, len), 0);
	assert_int_equal(listen(fd, 8), 0);
	return fd;
}

static int begin(void **state)
{
	struct weir_automaton *a = malloc(sizeof(*a));
	struct capture_opts o = { .max_clients = 100, .max_conns = 1000, .ring_bytes = 32 << 20, .automaton = a, .event = on_event };
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
	if (r == 0) {
		r = uds_open(capture, &uds);
		refused = r == -EOPNOTSUPP ? "this kernel shows no bytes of Unix sockets" : r < 0 ? strerror(-r) : NULL;
		assert_true(r == 0 || r == -EOPNOTSUPP);
	}
	if (r < 0)
		return 0;
	assert_int_equal(uds_watch(uds, NAME, 3), 0);
	assert_int_equal(uds_watch(uds, "", 1), -EINVAL);
	listener[0] = listen_at(NAME);
	listener[1] = listen_at(NAME "-other");
	return 0;
}

static int end(void **state)
{
	(void)state;
	uds = uds_free(uds);
	capture = capture_free(capture);
	return 0;
}

static void needs_hook(void)
{
	if (!refused)
		return;
	print_message("SKIP: %s\n", refused);
	skip();
}

static struct weir_client counted(void)
{
	struct capture_cursor cur = { 0 };
	struct weir_client_key keys[CAPTURE_BATCH];
	struct weir_client values[CAPTURE_BATCH], sum = { 0 };
	int n;

	while (capture_drain(capture) > 0)
		;
	while ((n = capture_clients(capture, &cur, keys, values, CAPTURE_BATCH)) > 0) {
		for (int i = 0; i < n; i++) {
			assert_true(weir_is_unix(keys[i].client) && weir_is_unix(keys[i].server));
			assert_int_equal(keys[i].port, 0);
			assert_int_equal(weir_unix_high(keys[i].server), 3);
			assert_int_equal(weir_unix_low(keys[i].server), 0);
			assert_int_equal(weir_unix_high(keys[i].client), geteuid());
			assert_int_equal(weir_unix_low(keys[i].client), 0);
			capture_add(&sum, &values[i]);
		}
	}
	assert_int_equal(n, 0);
	return sum;
}

struct pair {
	int client, server;
};

static struct pair connected(int which)
{
	socklen_t len;
	struct sockaddr_un a = name_of(which ? NAME "-other" : NAME, &len);
	struct pair p = { .client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0) };
	int room = 4 << 20;

	assert_true(p.client >= 0);
	assert_int_equal(connect(p.client, (struct sockaddr *)&a, len), 0);
	p.server = accept4(listener[which], NULL, NULL, SOCK_CLOEXEC);
	assert_true(p.server >= 0);
	/* so that all of it can be written before any of it is read */
	setsockopt(p.client, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room));
	setsockopt(p.server, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room));
	return p;
}

/* All of it through, in pieces written and read of these sizes, each read peeked at first where `peek`. */
static void pass(int from, int to, const char *text, size_t n, size_t write_size, size_t read_size, bool peek)
{
	CLEANUP(freep) char *buf = malloc(read_size);
	size_t got = 0;

	assert_non_null(buf);
	for (size_t at = 0; at < n; at += write_size)
		assert_int_equal(send(from, text + at, MIN(write_size, n - at), 0), MIN(write_size, n - at));
	while (got < n) {
		ssize_t r;

		if (peek)
			assert_true(recv(to, buf, read_size / 2 + 1, MSG_PEEK) > 0);
		if (peek)
			assert_true(recv(to, buf, read_size, MSG_PEEK) > 0);
		r = recv(to, buf, read_size, 0);
		assert_true(r > 0);
		assert_memory_equal(buf, text + got, r);
		got += (size_t)r;
	}
}

static char *request_make(size_t pad)
{
	char *text;

	assert_true(asprintf(&text, "POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: %zu\r\n\r\n{\"model\":\"m\",\"prompt\":\"%*s\"}", pad + 25, (int)pad, "x") > 0);
	return text;
}

static char *answer_make(size_t pad)
{
	char *text;
	int body = snprintf(NULL, 0, "{\"choices\":[{\"text\":\"%*s\",\"finish_reason\":\"length\"}],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":5}}", (int)pad, "y");

	assert_true(asprintf(&text, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n{\"choices\":[{\"text\":\"%*s\",\"finish_reason\":\"length\"}],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":5}}",
			     body, (int)pad, "y") > 0);
	return text;
}

/* ---- tests ------------------------------------------------------------------------------------------ */
static void every_piece(void **state)
{
	static const size_t sizes[] = { 1, 333, 2049, 20000, 1 << 20 };
	unsigned rounds = 0, before;

	(void)state;
	needs_hook();
	for (size_t w = 0; w < ARRAY_SIZE(sizes); w++) {
		for (size_t r = 0; r < ARRAY_SIZE(sizes); r++) {
			for (int peek = 0; peek < 2; peek++) {
				size_t pad = sizes[w] < 300 || sizes[r] < 300 ? 600 : LONG; /* enough calls either way */
				CLEANUP(freep) char *q = request_make(pad), *a = answer_make(pad);
				struct weir_client b, c = counted();
				struct pair p = connected(0);

				before = dones;
				for (int again = 0; again < 2; again++) {
					pass(p.client, p.server, q, strlen(q), sizes[w], sizes[r], peek);
					pass(p.server, p.client, a, strlen(a), sizes[w], sizes[r], peek);
				}
				b = counted();
				if (b.requests - c.requests != 2 || dones - before != 2)
					print_error("written by %zu, read by %zu%s\n", sizes[w], sizes[r], peek ? ", peeked at" : "");
				assert_int_equal(b.requests - c.requests, 2);
				assert_int_equal(b.status_2xx - c.status_2xx, 2);
				assert_int_equal(b.prompt_tokens - c.prompt_tokens, 22);
				assert_int_equal(b.completion_tokens - c.completion_tokens, 10);
				assert_int_equal(b.bytes_in - c.bytes_in, 2 * strlen(q));
				assert_int_equal(b.bytes_out - c.bytes_out, 2 * strlen(a));
				assert_int_equal(b.open, 0);
				assert_int_equal(b.aborted, 0);
				assert_int_equal(dones - before, 2);
				assert_int_equal(done.resp_bytes, strlen(a));
				assert_string_equal(done.finish, "length");
				close(p.client);
				close(p.server);
				rounds++;
			}
		}
	}
	assert_int_equal(rounds, 2 * ARRAY_SIZE(sizes) * ARRAY_SIZE(sizes));
}

/* What is under way when a connection ends: whose end it was, and whether the answer could have been whole. */
static void ends(void **state)
{
	static const char lasting[] = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}";
	static const char half[] = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{";
	CLEANUP(freep) char *q = request_make(10);
	struct weir_client b, c;
	char buf[4096];

	(void)state;
	needs_hook();
	for (int how = 0; how < 5; how++) {
		struct pair p = connected(0);

		c = counted();
		pass(p.client, p.server, q, strlen(q), 4096, 4096, false);
		if (how == 0) { /* the server closes: that is how the body ends */
			assert_int_equal(send(p.server, lasting, sizeof(lasting) - 1, 0), sizeof(lasting) - 1);
			close(p.server);
			assert_int_equal(recv(p.client, buf, sizeof(buf), 0), sizeof(lasting) - 1);
			assert_int_equal(recv(p.client, buf, sizeof(buf), 0), 0);
			close(p.client);
		} else if (how == 1) { /* the client leaves, the server reads that */
			pass(p.server, p.client, half, sizeof(half) - 1, 4096, 4096, false);
			close(p.client);
			assert_int_equal(recv(p.server, buf, sizeof(buf), 0), 0);
			close(p.server);
		} else if (how == 2) { /* ... or writes into it */
			pass(p.server, p.client, half, sizeof(half) - 1, 4096, 4096, false);
			close(p.client);
			assert_int_equal(send(p.server, "x", 1, MSG_NOSIGNAL), -1);
			close(p.server);
		} else if (how == 3) { /* ... with something unread, which is a reset */
			assert_int_equal(send(p.server, half, sizeof(half) - 1, 0), sizeof(half) - 1);
			assert_int_equal(recv(p.client, buf, 60, 0), 60);
			close(p.client);
			assert_int_equal(recv(p.server, buf, sizeof(buf), 0), -1);
			close(p.server);
		} else { /* the client says no more, and still listens */
			shutdown(p.client, SHUT_WR);
			assert_int_equal(recv(p.server, buf, sizeof(buf), 0), 0);
			assert_int_equal(send(p.server, lasting, sizeof(lasting) - 1, 0), sizeof(lasting) - 1);
			close(p.server);
			assert_int_equal(recv(p.client, buf, sizeof(buf), 0), sizeof(lasting) - 1);
			assert_int_equal(recv(p.client, buf, sizeof(buf), 0), 0);
			close(p.client);
		}
		b = counted();
		assert_int_equal(b.requests - c.requests, 1);
		assert_int_equal(b.open, 0);
		assert_int_equal(b.aborted - c.aborted, how >= 1 && how <= 3);
		assert_int_equal(b.completion_tokens - c.completion_tokens, how == 0 || how == 4 ? 2 : 0);
	}
}

static void others(void **state)
{
	CLEANUP(freep) char *q = request_make(10), *a = answer_make(10);
	struct weir_client b, c;
	int pair[2];

	(void)state;
	needs_hook();
	c = counted();
	struct pair p = connected(1);

	pass(p.client, p.server, q, strlen(q), 4096, 4096, false);
	pass(p.server, p.client, a, strlen(a), 4096, 4096, true);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	pass(pair[0], pair[1], q, strlen(q), 4096, 4096, false);
	close(pair[0]);
	close(pair[1]);
	close(p.client);
	close(p.server);
	b = counted();
	assert_int_equal(b.requests, c.requests);
	assert_int_equal(b.bytes_in, c.bytes_in);
}

/* Met in the middle: the answer under way is nobody's, the next exchange is whole. */
static void met_late(void **state)
{
	CLEANUP(freep) char *q = request_make(10), *a = answer_make(10);
	struct weir_client b, c;

	(void)state;
	needs_hook();
	struct pair p = connected(1);

	pass(p.client, p.server, q, strlen(q), 4096, 4096, false);
	assert_int_equal(uds_watch(uds, NAME "-other", 3), 0);
	c = counted();
	for (int i = 0; i < 3; i++) {
		pass(p.server, p.client, a, strlen(a), 4096, 4096, false);
		pass(p.client, p.server, q, strlen(q), 4096, 4096, false);
	}
	b = counted();
	assert_int_equal(b.completion_tokens - c.completion_tokens, 15);
	assert_int_equal(b.requests - c.requests, 4);
	assert_int_equal(b.open, 1);
	close(p.client);
	assert_int_equal(recv(p.server, (char[1]){ 0 }, 1, 0), 0);
	close(p.server);
	b = counted();
	assert_int_equal(b.open, 0);
	assert_int_equal(b.aborted - c.aborted, 1);
	uds_age(uds, UINT64_MAX / 2, 1);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_piece),
		cmocka_unit_test(ends),
		cmocka_unit_test(others),
		cmocka_unit_test(met_late),
	};

	return cmocka_run_group_tests(tests, begin, end);
}
