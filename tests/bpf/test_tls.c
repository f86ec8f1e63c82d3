/*
 * The TLS hook on a library that does what we say: functions of OpenSSL's and GnuTLS's names and conventions in this very program,
 * real sockets, and "ciphertext" of the right length. Every way to pair, to write in part, to fail and to reuse. Needs root.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <bpf/bpf.h>
#include <fcntl.h>
#include <sys/wait.h>

#include "fake_tls.h"

#include "capture/capture_internal.h"
#include "capture/tls.h"
#include "capture/tls_follow.h"
#include "decode/automaton.h"

/* ---- the test's own side ------------------------------------------------------------------------------ */
#define REQUEST "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
#define USAGE "{\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3}}"
#define ANSWER "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 51\r\n\r\n" USAGE

static struct capture *capture;
static struct tls *tls;
static const char *refused;
static uint16_t port, other_port;
static int listener, other_listener;
static int object[64]; /* their addresses are what counts */

static void no_event(void *ctx, const void *data, size_t n)
{
	(void)ctx, (void)data, (void)n;
}

static int found_files;
static void on_found(void *ctx, const struct tls_found *f)
{
	(void)ctx;
	if (f->kind == TLS_OPENSSL && !f->error)
		found_files++;
}

static void pair_end(struct pair p)
{
	close(p.client);
	close(p.server);
}

/* The server reads what the client sent: a record of n bytes of plaintext. */
static void arrives(struct pair p, size_t n)
{
	char room[65536];

	record_send(p.client, n, 23);
	assert_true(recv(p.server, room, sizeof(room), 0) > 0);
}

static void reads(void *ssl, int sock, const char *text)
{
	size_t n = strlen(text);

	memcpy(plain, text, n);
	next = (struct script){ .sock = sock, .result = (long)n };
	SSL_read(ssl, plain, sizeof(plain));
}

static void asks(struct pair p, void *ssl)
{
	arrives(p, strlen(REQUEST));
	reads(ssl, -1, REQUEST);
}

static void answers(struct pair p, void *ssl)
{
	next = (struct script){ .sock = -1, .result = (long)strlen(ANSWER) };
	SSL_write(ssl, ANSWER, (int)strlen(ANSWER));
	record_send(p.server, strlen(ANSWER), 23);
}

/* The client at 127.0.0.`who`, over all ports. */
static struct weir_client client(uint8_t who)
{
	static struct weir_client_key keys[CAPTURE_BATCH];
	static struct weir_client values[CAPTURE_BATCH];
	const uint8_t at[16] = { [10] = 0xff, [11] = 0xff, 127, 0, 0, who };
	struct capture_cursor cur = { 0 };
	struct weir_client sum = { 0 };
	int n;

	while ((n = capture_clients(capture, &cur, keys, values, CAPTURE_BATCH)) > 0)
		for (int i = 0; i < n; i++)
			if (!memcmp(keys[i].client, at, 16))
				capture_add(&sum, &values[i]);
	return sum;
}

static uint64_t stat(enum weir_stat which)
{
	uint64_t all[WEIR_STAT_COUNT];

	assert_int_equal(capture_stats(capture, all), 0);
	return all[which];
}

/* A request and its answer were metered so often. */
static void counted(uint8_t who, unsigned times)
{
	struct weir_client c = client(who);

	assert_int_equal(c.requests, times);
	assert_int_equal(c.status_2xx, times);
	assert_int_equal(c.prompt_tokens, 7 * times);
	assert_int_equal(c.completion_tokens, 3 * times);
}

static int begin(void **state)
{
	struct weir_automaton *a = malloc(sizeof(*a));
	struct capture_opts o = { .max_clients = 1000, .max_conns = 1000, .automaton = a, .event = no_event };
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
	if (r < 0)
		return 0;
	assert_int_equal(tls_open(capture, on_found, NULL, &tls), 0);
	r = tls_load(tls);
	if (r < 0) {
		refused = "this kernel does not take the TLS hook";
		return 0;
	}
	refused = NULL;
	listener = listen_on(&port);
	other_listener = listen_on(&other_port);
	assert_true(listener >= 0 && other_listener >= 0);
	capture_watch(capture, port, true);
	assert_int_equal(tls_scan_pid(tls, getpid()), 1);
	return 0;
}

static int end(void **state)
{
	(void)state;
	tls = tls_free(tls);
	capture = capture_free(capture);
	close(listener);
	close(other_listener);
	return 0;
}

static void needs_hook(void)
{
	if (!refused)
		return;
	print_message("SKIP: %s\n", refused);
	skip();
}

/* ---- cases -------------------------------------------------------------------------------------------- */
static void memory_bios(void **state)
{
	struct pair p;

	(void)state;
	needs_hook();
	p = pair_make(listener, port, 11);
	greets(p, &object[0]);
	for (int i = 0; i < 3; i++) {
		asks(p, &object[0]);
		answers(p, &object[0]);
	}
	counted(11, 3);
	SSL_free(&object[0]);
	pair_end(p);
	assert_int_equal(stat(WEIR_STAT_TLS_UNPAIRED), 0);
	assert_int_equal(stat(WEIR_STAT_TLS_MISSED), 0);
}

/* Two connections whose steps lie in between each other, as in an event loop. */
static void interleaved(void **state)
{
	struct pair p[8];

	(void)state;
	needs_hook();
	for (int i = 0; i < 8; i++)
		p[i] = pair_make(listener, port, (uint8_t)(20 + i));
	for (int i = 0; i < 8; i++)
		greets(p[i], &object[i]);
	for (int i = 0; i < 8; i++)
		asks(p[i], &object[i]);
	/* all write, then all send: no send says whose it is, and none need */
	for (int i = 7; i >= 0; i--) {
		next = (struct script){ .sock = -1 };
		SSL_write(&object[i], ANSWER, (int)strlen(ANSWER));
	}
	for (int i = 0; i < 8; i++)
		record_send(p[i].server, strlen(ANSWER), 23);
	for (int i = 0; i < 8; i++) {
		counted((uint8_t)(20 + i), 1);
		SSL_free(&object[i]);
		pair_end(p[i]);
	}
}

/* The library reads and writes the socket itself. */
static void socket_bios(void **state)
{
	struct pair p;

	(void)state;
	needs_hook();
	p = pair_make(listener, port, 31);
	next = (struct script){ .sock = p.server, .result = 1 };
	SSL_do_handshake(&object[1]);
	record_send(p.client, strlen(REQUEST), 23);
	reads(&object[1], p.server, REQUEST);
	next = (struct script){ .sock = p.server, .result = (long)strlen(ANSWER), .records = 1 };
	SSL_write(&object[1], ANSWER, (int)strlen(ANSWER));
	counted(31, 1);
	SSL_free(&object[1]);
	pair_end(p);
}

/* An object that is never freed, and its address used for another connection. */
static void address_used_again(void **state)
{
	struct pair p, q;

	(void)state;
	needs_hook();
	p = pair_make(listener, port, 32);
	greets(p, &object[2]);
	asks(p, &object[2]);
	answers(p, &object[2]);
	pair_end(p);
	q = pair_make(listener, port, 33);
	greets(q, &object[2]);
	asks(q, &object[2]);
	answers(q, &object[2]);
	counted(32, 1);
	counted(33, 1);
	SSL_clear(&object[2]);
	pair_end(q);
}

/* Calls that bring nothing. */
static void failures(void **state)
{
	struct pair p;
	size_t got;

	(void)state;
	needs_hook();
	p = pair_make(listener, port, 34);
	greets(p, &object[3]);
	memcpy(plain, "GET / HTTP/1.1\r\n\r\n", 18);
	for (int i = -1; i <= 0; i++) {
		next = (struct script){ .sock = -1, .result = i };
		SSL_read(&object[3], plain, 100);
		SSL_read_ex(&object[3], plain, 100, &got);
		SSL_write(&object[3], plain, i);
	}
	assert_int_equal(client(34).requests, 0);
	asks(p, &object[3]);
	answers(p, &object[3]);
	counted(34, 1);
	SSL_free(&object[3]);
	pair_end(p);
}

/* Heads read byte by byte, with the other reading function for the body. */
static void byte_by_byte(void **state)
{
	const char *body = strstr(REQUEST, "{}");
	uint64_t calls;
	struct pair p;
	size_t got;

	(void)state;
	needs_hook();
	p = pair_make(listener, port, 35);
	greets(p, &object[4]);
	arrives(p, strlen(REQUEST));
	calls = stat(WEIR_STAT_TLS_CALLS);
	for (const char *c = REQUEST; c < body; c++) {
		const char one[2] = { *c, '\0' };

		reads(&object[4], -1, one);
	}
	assert_int_equal(stat(WEIR_STAT_TLS_CALLS) - calls, 1); /* of some hundred reads */
	assert_int_equal(client(35).requests, 1);
	memcpy(plain, body, 2);
	next = (struct script){ .sock = -1, .got = 2 };
	SSL_read_ex(&object[4], plain, 100, &got);
	answers(p, &object[4]);
	counted(35, 1);
	SSL_free(&object[4]);
	pair_end(p);
}

/* A body of 50,000 bytes, of which the library takes one record per call; then one that it refuses at first. */
static void partial_writes(void **state)
{
	static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 50000\r\n\r\n";
	size_t all = sizeof(head) - 1 + 50000, done = 0;
	char *text = malloc(all + 1), room[65536];
	struct pair p;

	(void)state;
	needs_hook();
	assert_non_null(text);
	memset(text, ' ', all);
	memcpy(text, head, sizeof(head) - 1);
	memcpy(text + all - strlen(USAGE), USAGE, strlen(USAGE));
	p = pair_make(listener, port, 36);
	next = (struct script){ .sock = p.server, .result = 1 };
	SSL_do_handshake(&object[5]);
	record_send(p.client, strlen(REQUEST), 23);
	reads(&object[5], p.server, REQUEST);
	while (done < all) {
		size_t now = MIN(all - done, (size_t)16384);

		next = (struct script){ .sock = p.server, .result = (long)now, .records = 1 };
		SSL_write(&object[5], text + done, (int)(all - done));
		assert_true(recv(p.client, room, sizeof(room), 0) > 0);
		done += now;
	}
	counted(36, 1);
	assert_int_equal(client(36).bytes_out, all);

	record_send(p.client, strlen(REQUEST), 23);
	reads(&object[5], p.server, REQUEST);
	next = (struct script){ .sock = p.server, .result = -1, .again = true };
	SSL_write(&object[5], ANSWER, (int)strlen(ANSWER));
	fcntl(p.client, F_SETFL, O_NONBLOCK);
	while (recv(p.client, room, sizeof(room), 0) > 0)
		;
	usleep(20000);
	while (recv(p.client, room, sizeof(room), 0) > 0)
		;
	next = (struct script){ .sock = p.server, .result = (long)strlen(ANSWER), .records = 1 };
	SSL_write(&object[5], ANSWER, (int)strlen(ANSWER)); /* the same bytes once more */
	counted(36, 2);
	assert_int_equal(client(36).bytes_out, all + strlen(ANSWER));
	SSL_free(&object[5]);
	pair_end(p);
	free(text);
}

/* The server's own call to somebody: nothing of it counts, nor as lost. */
static void outgoing(void **state)
{
	uint64_t unpaired = stat(WEIR_STAT_TLS_UNPAIRED);
	struct pair p;

	(void)state;
	needs_hook();
	p = pair_make(other_listener, other_port, 37);
	/* as the client of an unwatched port, in the same thread */
	next = (struct script){ .sock = p.client, .result = 1 };
	SSL_do_handshake(&object[6]);
	next = (struct script){ .sock = p.client, .records = 1 };
	SSL_write(&object[6], REQUEST, (int)strlen(REQUEST));
	reads(&object[6], p.client, ANSWER);
	assert_int_equal(client(37).requests, 0);
	assert_int_equal(client(1).requests, 0);
	assert_int_equal(stat(WEIR_STAT_TLS_UNPAIRED), unpaired);
	SSL_free(&object[6]);
	pair_end(p);
}

/* A write that no read preceded: the send behind it covers the record, and says whose it is. */
static void paired_by_writing(void **state)
{
	uint64_t unpaired = stat(WEIR_STAT_TLS_UNPAIRED);
	struct pair p;

	(void)state;
	needs_hook();
	p = pair_make(listener, port, 38);
	reads(&object[7], -1, REQUEST); /* which socket? */
	assert_int_equal(stat(WEIR_STAT_TLS_UNPAIRED), unpaired + 1);
	next = (struct script){ .sock = -1 };
	SSL_write(&object[7], "HTTP/1.1 100 Continue\r\n\r\n", 25);
	record_send(p.server, 5, 23); /* too short for it */
	SSL_write(&object[7], "HTTP/1.1 100 Continue\r\n\r\n", 25);
	record_send(p.server, 25, 23);
	assert_int_equal(stat(WEIR_STAT_TLS_UNPAIRED), unpaired + 3);
	answers(p, &object[7]);
	counted(38, 1); /* its request was not seen, and counts */
	SSL_free(&object[7]);
	pair_end(p);
}

/* Reads of a socket that belongs to somebody else, before an object's first call. */
static void no_theft(void **state)
{
	struct pair p, q;
	char room[1000];

	(void)state;
	needs_hook();
	p = pair_make(listener, port, 39);
	q = pair_make(listener, port, 40);
	greets(p, &object[8]);
	arrives(p, 10);
	reads(&object[9], -1, "GET /health HTTP/1.1\r\nHost: somebody\r\n\r\n"); /* after a read of p's socket: p has its object */
	assert_int_equal(client(39).requests, 0);
	greets(q, &object[9]);
	asks(q, &object[9]);
	answers(q, &object[9]);
	asks(p, &object[8]);
	answers(p, &object[8]);
	counted(39, 1);
	counted(40, 1);
	assert_true(recv(p.client, room, sizeof(room), MSG_DONTWAIT) > 0);
	SSL_free(&object[8]);
	SSL_free(&object[9]);
	pair_end(p);
	pair_end(q);
}

/*
 * One connection is over for the server, and its object freed; the next object's first call follows the read that said so, or a read
 * of bytes that nobody wants any more. That socket is not its own.
 */
static void no_inheritance(void **state)
{
	struct pair p, q;
	char room[1000];

	(void)state;
	needs_hook();
	for (int rest = 0; rest < 2; rest++) {
		p = pair_make(listener, port, (uint8_t)(44 + 2 * rest));
		q = pair_make(listener, port, (uint8_t)(45 + 2 * rest));
		greets(p, &object[13]);
		asks(p, &object[13]);
		answers(p, &object[13]);
		SSL_free(&object[13]);
		if (rest)
			record_send(p.client, 10, 23);
		shutdown(p.client, SHUT_WR);
		assert_int_equal(recv(p.server, room, sizeof(room), 0) > 0, rest);
		next = (struct script){ .sock = -1, .result = -1 };
		SSL_do_handshake(&object[14]); /* asyncio: before anything was read of its socket */
		greets(q, &object[14]);
		asks(q, &object[14]);
		answers(q, &object[14]);
		counted((uint8_t)(44 + 2 * rest), 1);
		counted((uint8_t)(45 + 2 * rest), 1);
		SSL_free(&object[14]);
		pair_end(p);
		pair_end(q);
	}
}

/* The client resets, and the server writes on, as it does not know yet: what is kept of the connection for that goes away. */
static void written_after_reset(void **state)
{
	static const struct linger reset = { 1, 0 };
	struct weir_conn_key key = { 0 }, last = { 0 };
	struct sockaddr_in from;
	socklen_t n = sizeof(from);
	struct pair p;
	unsigned left[2] = { 0 };

	(void)state;
	needs_hook();
	p = pair_make(listener, port, 48);
	assert_int_equal(getsockname(p.client, (struct sockaddr *)&from, &n), 0);
	greets(p, &object[15]);
	asks(p, &object[15]);
	assert_int_equal(setsockopt(p.client, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)), 0);
	close(p.client);
	for (int i = 0; i < 3; i++) {
		next = (struct script){ .sock = -1 };
		SSL_write(&object[15], ANSWER, (int)strlen(ANSWER));
	}
	for (int after = 0; after < 2; after++) {
		for (int r = bpf_map_get_next_key(capture->conns_fd, NULL, &key); r == 0; r = bpf_map_get_next_key(capture->conns_fd, &last, &key)) {
			left[after] += key.rport == ntohs(from.sin_port);
			last = key;
		}
		if (!after)
			assert_int_equal(capture_age(capture, capture_now_ns() + 3000000000u, UINT64_MAX / 4, UINT64_MAX / 4), 0);
	}
	assert_int_equal(left[0], 1);
	assert_int_equal(left[1], 0);
	SSL_free(&object[15]);
	close(p.server);
}

/* A child of a watched process is watched. */
static void children(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	needs_hook();
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct pair p = pair_make(listener, port, 41);

		greets(p, &object[10]);
		asks(p, &object[10]);
		answers(p, &object[10]);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	counted(41, 1);
}

static int count_fds(void)
{
	int n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* Comes and goes while calls are made; leaves no descriptor behind. */
static void comes_and_goes(void **state)
{
	struct pair p;
	int before;

	(void)state;
	needs_hook();
	p = pair_make(listener, port, 42);
	greets(p, &object[11]);
	tls = tls_free(tls);
	before = count_fds();
	for (int i = 0; i < 5; i++) {
		assert_int_equal(tls_open(capture, on_found, NULL, &tls), 0);
		assert_int_equal(tls_scan_pid(tls, getpid()), 1);
		assert_int_equal(tls_scan_pid(tls, getpid()), 0); /* known */
		asks(p, &object[11]);
		answers(p, &object[11]);
		tls = tls_free(tls);
		asks(p, &object[11]);
		answers(p, &object[11]);
	}
	assert_int_equal(count_fds(), before);
	counted(42, 5); /* joined in the middle each time */
	pair_end(p);
	assert_int_equal(tls_open(capture, on_found, NULL, &tls), 0);
}

/* Found, and probed, by the helpers. */
static void followed(void **state)
{
	struct tls_follow *f;
	struct pair p;
	int before;

	(void)state;
	needs_hook();
	before = found_files;
	assert_int_equal(tls_follow_start(tls, &f), 0);
	for (int i = 0; i < 200 && found_files == before; i++) {
		usleep(50000);
		assert_int_equal(tls_follow_event(f), 0);
	}
	assert_int_equal(found_files, before + 1);
	for (int i = 0; i < 20; i++) { /* the process is told of after its files */
		usleep(5000);
		assert_int_equal(tls_follow_event(f), 0);
	}
	p = pair_make(listener, port, 43);
	greets(p, &object[12]);
	asks(p, &object[12]);
	answers(p, &object[12]);
	counted(43, 1);
	pair_end(p);
	tls_follow_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_bios),	     cmocka_unit_test(interleaved), cmocka_unit_test(socket_bios), cmocka_unit_test(address_used_again),
		cmocka_unit_test(failures),	     cmocka_unit_test(byte_by_byte), cmocka_unit_test(partial_writes), cmocka_unit_test(outgoing),
		cmocka_unit_test(paired_by_writing), cmocka_unit_test(no_theft),     cmocka_unit_test(children),	   cmocka_unit_test(comes_and_goes),
		cmocka_unit_test(followed),	     cmocka_unit_test(no_inheritance), cmocka_unit_test(written_after_reset),
	};

	return cmocka_run_group_tests(tests, begin, end);
}
