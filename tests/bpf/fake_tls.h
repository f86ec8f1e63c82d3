/*
 * fake_tls.h - a TLS library that does what it is told: functions of OpenSSL's names and conventions in the test program itself,
 * on real sockets, with "ciphertext" of the right length. The hook finds them among the program's own symbols.
 */
#ifndef WEIR_TESTS_BPF_FAKE_TLS_H
#define WEIR_TESTS_BPF_FAKE_TLS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <sys/socket.h>

#include "base/util.h"

/* ---- the library: what a call is to do, and what it answers ------------------------------------------ */
struct script {
	int sock;       /* -1: memory BIOs, the caller does the socket's work */
	long result;    /* of the call */
	size_t got;     /* SSL_read_ex */
	size_t records; /* records written to the socket inside a write; each carries up to 16 KiB */
	bool again;     /* ... and then the socket is full */
};
static struct script next;
static char plain[1 << 20];

/* No copy of a function, with fewer arguments, may be called in its place. */
#ifdef __clang__
#define FAKE __attribute__((noinline, visibility("default"), used))
#else
#define FAKE __attribute__((noipa, visibility("default"), used))
#endif
#define KEEP() __asm__ volatile("" ::: "memory")

static void record_send(int sock, size_t n, uint8_t type)
{
	static char room[16384 + 22];

	memset(room, 0, sizeof(room));
	room[0] = (char)type, room[1] = 3, room[2] = 3;
	assert_true(send(sock, room, n + 22, MSG_NOSIGNAL) == (ssize_t)(n + 22));
}

static void inside_read(void)
{
	char room[65536];

	if (next.sock >= 0 && recv(next.sock, room, sizeof(room), MSG_DONTWAIT) < 0)
		KEEP();
}

static void inside_write(size_t n)
{
	int full = -1;

	if (next.sock < 0)
		return;
	for (size_t i = 0; i < next.records; i++) {
		record_send(next.sock, MIN(n, (size_t)16384), 23);
		n -= MIN(n, (size_t)16384);
	}
	if (!next.again)
		return;
	/* the socket takes no more: fill it until it says so */
	full = next.sock;
	while (send(full, plain, sizeof(plain), MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
		;
	assert_int_equal(errno, EAGAIN);
}

int SSL_read(void *ssl, void *buf, int n);
int SSL_read_ex(void *ssl, void *buf, size_t n, size_t *got);
int SSL_write(void *ssl, const void *buf, int n);
int SSL_write_ex(void *ssl, const void *buf, size_t n, size_t *written);
int SSL_do_handshake(void *ssl);
void SSL_free(void *ssl);
int SSL_clear(void *ssl);

FAKE int SSL_read(void *ssl, void *buf, int n)
{
	(void)ssl, (void)buf, (void)n;
	inside_read();
	return (int)next.result;
}

FAKE int SSL_read_ex(void *ssl, void *buf, size_t n, size_t *got)
{
	(void)ssl, (void)buf, (void)n;
	inside_read();
	*got = next.got;
	return next.got > 0;
}

FAKE int SSL_write(void *ssl, const void *buf, int n)
{
	(void)ssl, (void)buf;
	inside_write((size_t)n);
	return (int)next.result;
}

FAKE int SSL_write_ex(void *ssl, const void *buf, size_t n, size_t *written)
{
	(void)ssl, (void)buf;
	inside_write(n);
	*written = n;
	return 1;
}

FAKE int SSL_do_handshake(void *ssl)
{
	SSL_clear(ssl); /* as OpenSSL's does */
	inside_read();
	return (int)next.result;
}

FAKE void SSL_free(void *ssl)
{
	(void)ssl;
	KEEP();
}

FAKE int SSL_clear(void *ssl)
{
	(void)ssl;
	KEEP();
	return 1;
}

struct pair {
	int server, client;
};

static int listen_on(uint16_t *ret_port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t n = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&a, n) < 0 || listen(fd, 512) < 0 || getsockname(fd, (struct sockaddr *)&a, &n) < 0)
		return -1;
	*ret_port = ntohs(a.sin_port);
	return fd;
}

/* A connection from 127.0.0.`who`; its first segment is a ClientHello, which the caller reads. */
static struct pair pair_make(int on, uint16_t to, uint8_t who)
{
	struct sockaddr_in from = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000000u | who) };
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(to) };
	struct pair p = { .client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) };

	assert_true(p.client >= 0);
	assert_int_equal(bind(p.client, (struct sockaddr *)&from, sizeof(from)), 0);
	assert_int_equal(connect(p.client, (struct sockaddr *)&a, sizeof(a)), 0);
	p.server = accept4(on, NULL, NULL, SOCK_CLOEXEC);
	assert_true(p.server >= 0);
	record_send(p.client, 100, 22);
	return p;
}

/* Memory BIOs: the socket is read, the object takes it. */
static void greets(struct pair p, void *ssl)
{
	char room[65536];

	assert_true(recv(p.server, room, sizeof(room), 0) > 0);
	next = (struct script){ .sock = -1, .result = -1 };
	SSL_do_handshake(ssl);
	record_send(p.server, 60, 22);
}

#endif
