/* Double hops: real connections between real processes, told apart by who made them. Needs root. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "capture/cgroup.h"
#include "capture/hops.h"

#define OUTER 17 /* ports that nobody listens on here: owning them is what the agent is told, not what the kernel checks */
#define OTHER 18

static struct hops *hops;
static const char *refused;
static uint32_t netns;

static uint32_t netns_now(void)
{
	struct stat st;

	assert_int_equal(stat("/proc/self/ns/net", &st), 0);
	return (uint32_t)st.st_ino;
}

static int begin(void **state)
{
	struct cgroup_mount m = { 0 };
	int r;

	(void)state;
	netns = netns_now();
	if (geteuid()) {
		refused = "needs root";
		return 0;
	}
	if (cgroup_find(NULL, &m) < 0) {
		refused = "no cgroup v2";
		return 0;
	}
	r = hops_open(m.path, &hops);
	free(m.path);
	if (r == -EOPNOTSUPP || r == -EPERM)
		refused = "the kernel refuses it";
	else
		assert_int_equal(r, 0);
	return 0;
}

static int finish(void **state)
{
	(void)state;
	hops = hops_free(hops);
	return 0;
}

static void needs_hops(void)
{
	if (!refused)
		return;
	print_message("SKIP: %s\n", refused);
	skip();
}

/* ---- a listener, and clients that are processes of their own ---------------------------------------- */
struct server {
	int fd;
	uint16_t port;
	struct sockaddr_in6 at;
	socklen_t len;
};

/* family 4, 6, or 46: an IPv6 socket that IPv4 clients reach */
static struct server server_start(int family)
{
	struct server s = { .fd = socket(family == 4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0) };
	struct sockaddr_in *v4 = (struct sockaddr_in *)&s.at;

	assert_true(s.fd >= 0);
	if (family == 4) {
		v4->sin_family = AF_INET;
		v4->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		s.len = sizeof(*v4);
	} else {
		s.at.sin6_family = AF_INET6;
		s.at.sin6_addr = family == 6 ? in6addr_loopback : in6addr_any;
		s.len = sizeof(s.at);
	}
	assert_int_equal(bind(s.fd, (struct sockaddr *)&s.at, s.len), 0);
	assert_int_equal(listen(s.fd, 8), 0);
	assert_int_equal(getsockname(s.fd, (struct sockaddr *)&s.at, &s.len), 0);
	s.port = ntohs(family == 4 ? v4->sin_port : s.at.sin6_port);
	return s;
}

static int connect_to(const struct server *s, int family)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(s->port) };
	int fd = socket(family == 6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (family == 6)
		return fd < 0 || connect(fd, (const struct sockaddr *)&s->at, s->len) ? -1 : fd;
	return fd < 0 || connect(fd, (struct sockaddr *)&v4, sizeof(v4)) ? -1 : fd;
}

static void address_take(uint8_t to[16], uint16_t *port, const struct sockaddr_in6 *from)
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)from;

	if (from->sin6_family == AF_INET) {
		to[10] = to[11] = 0xff;
		memcpy(to + 12, &v4->sin_addr, 4);
		*port = ntohs(v4->sin_port);
	} else {
		memcpy(to, &from->sin6_addr, 16);
		*port = ntohs(from->sin6_port);
	}
}

/* The next connection, as the meter would know it. */
static struct weir_conn_key accepted(const struct server *s)
{
	struct weir_conn_key k = { .netns = netns_now() };
	struct sockaddr_in6 local = { 0 }, peer = { 0 };
	socklen_t n = sizeof(local), m = sizeof(peer);
	int fd = accept4(s->fd, (struct sockaddr *)&peer, &m, SOCK_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&local, &n), 0);
	address_take(k.laddr, &k.lport, &local);
	address_take(k.raddr, &k.rport, &peer);
	close(fd);
	return k;
}

struct client {
	int pid, go;
};

/* A process that connects when it is told to; `below`: by a child of its own, as a gateway's worker would. */
static struct client client_start(const struct server *s, int family, bool below)
{
	struct client c;
	int pair[2];

	assert_int_equal(pipe2(pair, O_CLOEXEC), 0);
	c.pid = fork();
	assert_true(c.pid >= 0);
	if (c.pid == 0) {
		char byte;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(pair[1]);
		if (read(pair[0], &byte, 1) != 1)
			_exit(0);
		if (below && fork() != 0) {
			for (;;)
				pause();
		}
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* not inherited */
		if (connect_to(s, family) < 0)
			_exit(1);
		pause();
		_exit(0);
	}
	close(pair[0]);
	c.go = pair[1];
	return c;
}

static void client_go(const struct client *c)
{
	assert_int_equal(write(c->go, "x", 1), 1);
}

static void client_end(struct client *c)
{
	close(c->go);
	kill(c->pid, SIGKILL);
	waitpid(c->pid, NULL, 0);
}

static void server_end(struct server *s)
{
	hops_watch(hops, s->port, false);
	close(s->fd);
}

/* ---- the tests --------------------------------------------------------------------------------------- */
static void one_hop(int server_family, int client_family, bool below)
{
	struct server s = server_start(server_family);
	struct client gateway, other;
	struct weir_conn_key k;
	struct hop hop = { 0 };

	hops_watch(hops, s.port, true);
	gateway = client_start(&s, client_family, below);
	other = client_start(&s, client_family, below);
	assert_int_equal(hops_own(hops, (uint32_t)gateway.pid, netns, OUTER), 0);
	client_go(&gateway);
	k = accepted(&s);
	assert_true(hops_inner(hops, &k, &hop));
	assert_int_equal(hop.port, OUTER);
	assert_int_equal(hop.netns, netns);
	assert_true(below ? hop.pid != (uint32_t)gateway.pid : hop.pid == (uint32_t)gateway.pid);
	client_go(&other); /* just a client */
	k = accepted(&s);
	assert_false(hops_inner(hops, &k, &hop));
	hops_disown(hops, (uint32_t)gateway.pid, netns, OUTER);
	client_end(&gateway);
	client_end(&other);
	server_end(&s);
}

static void gateway_and_client(void **state)
{
	(void)state;
	needs_hops();
	one_hop(4, 4, false);
	one_hop(46, 4, false);
	one_hop(6, 6, false);
}

static void worker_of_a_gateway(void **state)
{
	(void)state;
	needs_hops();
	one_hop(4, 4, true);
}

/* The gateway is found after it has connected: what was remembered is judged when it is asked for. */
static void found_later(void **state)
{
	struct server s;
	struct client c;
	struct weir_conn_key k;
	struct hop hop;

	(void)state;
	needs_hops();
	s = server_start(4);
	hops_watch(hops, s.port, true);
	c = client_start(&s, 4, false);
	client_go(&c);
	k = accepted(&s);
	assert_false(hops_inner(hops, &k, &hop));
	assert_int_equal(hops_own(hops, (uint32_t)c.pid, netns, OTHER), 0);
	assert_int_equal(hops_own(hops, (uint32_t)c.pid, netns, OUTER), 0);
	assert_int_equal(hops_own(hops, (uint32_t)c.pid, netns, OUTER), 0);
	assert_true(hops_inner(hops, &k, &hop));
	assert_int_equal(hop.port, OUTER); /* the lowest */
	hops_disown(hops, (uint32_t)c.pid, netns, OUTER);
	assert_true(hops_inner(hops, &k, &hop));
	assert_int_equal(hop.port, OTHER);
	/* it holds this very listener: it calls itself */
	assert_int_equal(hops_own(hops, (uint32_t)c.pid, netns, s.port), 0);
	assert_false(hops_inner(hops, &k, &hop));
	hops_disown(hops, (uint32_t)c.pid, netns, s.port);
	hops_disown(hops, (uint32_t)c.pid, netns, OTHER);
	assert_false(hops_inner(hops, &k, &hop));
	client_end(&c);
	server_end(&s);
}

/* What is not watched is not remembered, but for those who are gateways: what they call may be an address that is translated. */
static void not_watched(void **state)
{
	struct server s;
	struct client c;
	struct weir_conn_key k;
	struct hop hop;

	(void)state;
	needs_hops();
	s = server_start(4);
	c = client_start(&s, 4, false);
	client_go(&c);
	k = accepted(&s);
	assert_int_equal(hops_own(hops, (uint32_t)c.pid, netns, OUTER), 0);
	assert_false(hops_inner(hops, &k, &hop));
	hops_disown(hops, (uint32_t)c.pid, netns, OUTER);
	client_end(&c);
	c = client_start(&s, 4, false);
	assert_int_equal(hops_own(hops, (uint32_t)c.pid, netns, OUTER), 0);
	client_go(&c);
	k = accepted(&s);
	assert_true(hops_inner(hops, &k, &hop));
	hops_disown(hops, (uint32_t)c.pid, netns, OUTER);
	client_end(&c);
	server_end(&s);
}

/* The same two ends in two network namespaces are two connections. */
static void other_namespace(void **state)
{
	struct server here, there;
	struct client c;
	struct weir_conn_key k;
	struct hop hop;
	int pid, pair[2], status;
	char byte = 0;

	(void)state;
	needs_hops();
	here = server_start(4);
	hops_watch(hops, here.port, true);
	c = client_start(&here, 4, false);
	assert_int_equal(hops_own(hops, (uint32_t)c.pid, netns, OUTER), 0);
	client_go(&c);
	k = accepted(&here);
	assert_true(hops_inner(hops, &k, &hop));
	assert_int_equal(pipe2(pair, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP };
		struct weir_conn_key same;
		int fd, r = 0;

		if (unshare(CLONE_NEWNET) || (fd = socket(AF_INET, SOCK_DGRAM, 0)) < 0 || ioctl(fd, SIOCSIFFLAGS, &lo))
			_exit(77);
		there = server_start(4);
		hops_watch(hops, there.port, true);
		if (connect_to(&there, 4) < 0)
			_exit(1);
		same = accepted(&there);
		/* this process is no gateway; with the other's namespace it would be somebody else's connection or none */
		r = hops_inner(hops, &same, &hop) ? 2 : 0;
		if (hops_own(hops, (uint32_t)getpid(), same.netns, OUTER) || !hops_inner(hops, &same, &hop) || hop.netns != same.netns)
			r = 3;
		same.netns = netns;
		if (!r && hops_inner(hops, &same, &hop))
			r = 4;
		same.netns = netns_now();
		hops_disown(hops, (uint32_t)getpid(), same.netns, OUTER); /* the kernel's table is shared with the parent */
		_exit(r);
	}
	close(pair[1]);
	assert_int_equal(read(pair[0], &byte, 1), 0);
	close(pair[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		print_message("SKIP: cannot make a network namespace\n");
	else
		assert_int_equal(WEXITSTATUS(status), 0);
	hops_disown(hops, (uint32_t)c.pid, netns, OUTER);
	client_end(&c);
	server_end(&here);
}

static void count(void *ctx, const struct weir_conn_key *conn, const struct hop *hop)
{
	size_t *n = ctx;

	assert_int_equal(hop->port, OUTER);
	assert_int_not_equal(conn->lport, 0);
	++*n;
}

static void all_of_them(void **state)
{
	struct client c[5];
	struct server s;
	size_t n = 0;

	(void)state;
	needs_hops();
	s = server_start(4);
	hops_watch(hops, s.port, true);
	for (size_t i = 0; i < ARRAY_SIZE(c); i++) {
		c[i] = client_start(&s, 4, false);
		if (i < 3)
			assert_int_equal(hops_own(hops, (uint32_t)c[i].pid, netns, OUTER), 0);
		client_go(&c[i]);
		accepted(&s);
	}
	hops_each(hops, count, &n);
	assert_int_equal(n, 3);
	for (size_t i = 0; i < ARRAY_SIZE(c); i++) {
		hops_disown(hops, (uint32_t)c[i].pid, netns, OUTER);
		client_end(&c[i]);
	}
	server_end(&s);
}

static void limits(void **state)
{
	struct weir_conn_key k = { 0 };
	struct hop hop;

	(void)state;
	assert_false(hops_inner(NULL, &k, &hop));
	hops_watch(NULL, 1, true);
	assert_int_equal(hops_own(NULL, 5, 1, 1), 0);
	hops_disown(NULL, 5, 1, 1);
	needs_hops();
	assert_int_equal(hops_own(hops, 1, netns, OUTER), 0); /* holds sockets for others */
	for (uint32_t i = 0; i < 4096; i++)
		assert_int_equal(hops_own(hops, 5000000 + i, netns, OUTER), 0);
	assert_int_equal(hops_own(hops, 4999999, netns, OUTER), -ENOSPC);
	for (uint32_t i = 0; i < 4096; i++)
		hops_disown(hops, 5000000 + i, netns, OUTER);
	assert_int_equal(hops_own(hops, 4999999, netns, OUTER), 0);
	hops_disown(hops, 4999999, netns, OUTER);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gateway_and_client), cmocka_unit_test(worker_of_a_gateway), cmocka_unit_test(found_later),
		cmocka_unit_test(not_watched),	      cmocka_unit_test(other_namespace),     cmocka_unit_test(all_of_them),
		cmocka_unit_test(limits),
	};

	return cmocka_run_group_tests(tests, begin, finish);
}
