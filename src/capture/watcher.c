#include "capture/watcher.h"

#include "capture/helper.h"

#include <ctype.h>
#include <linux/capability.h>
#include <poll.h>
#include <seccomp.h>
#include <sys/socket.h>

/* Reading /proc needs no more than this. */
static int confine(void)
{
	static const unsigned caps[] = { CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH };
	static const struct helper_call calls[] = {
		{ SCMP_SYS(open), 0, 0 },	{ SCMP_SYS(openat), 0, 0 },	{ SCMP_SYS(readlink), 0, 0 }, { SCMP_SYS(readlinkat), 0, 0 },
		{ SCMP_SYS(getdents64), 0, 0 }, { SCMP_SYS(fstat), 0, 0 },	{ SCMP_SYS(newfstatat), 0, 0 }, { SCMP_SYS(lseek), 0, 0 },
		{ SCMP_SYS(dup), 0, 0 },	{ SCMP_SYS(fcntl), 0, 0 },	{ SCMP_SYS(pread64), 0, 0 },
	};

	return helper_confine(caps, ARRAY_SIZE(caps), calls, ARRAY_SIZE(calls));
}

static bool message_send(int fd, const struct watcher_message *m)
{
	while (send(fd, m, sizeof(*m), MSG_NOSIGNAL) < 0)
		if (errno != EINTR)
			return false;
	return true;
}

static const struct discover_port *port_find(const struct discover_result *r, uint16_t port)
{
	for (size_t i = 0; i < r->count; i++)
		if (r->port[i].port == port)
			return &r->port[i];
	return NULL;
}

static bool differences_send(int fd, const struct discover_result *old, const struct discover_result *now)
{
	for (size_t i = 0; i < now->count; i++) {
		const struct discover_port *p = &now->port[i], *q = port_find(old, p->port);
		struct watcher_message m = { .type = WATCHER_FOUND, .pid = (uint32_t)p->pid, .port = p->port, .automatic = p->automatic };

		if (q && q->pid == p->pid && q->automatic == p->automatic)
			continue;
		memcpy(m.server, p->server, sizeof(m.server));
		if (!message_send(fd, &m))
			return false;
	}
	for (size_t i = 0; i < old->count; i++) {
		struct watcher_message m = { .type = WATCHER_GONE, .port = old->port[i].port };

		if (!port_find(now, old->port[i].port) && !message_send(fd, &m))
			return false;
	}
	return message_send(fd, &(struct watcher_message){ .type = WATCHER_SCANNED, .port = (uint16_t)now->count });
}

/* Waits for the next scan; false where the agent is gone. */
static bool agent_lives(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int r = poll(&p, 1, WATCHER_PERIOD_MS);

	/* The agent never writes: anything but silence is its end. */
	return r == 0 || (r < 0 && errno == EINTR);
}

static void helper_run(int fd, void *ctx)
{
	static struct discover_result result[2]; /* 40 KB each */
	const struct discover_opts *opts = ctx;
	int now = 0;

	confine(); /* as far as this host lets it: it only reads, and what it may not read it counts */
	do {
		if (discover_scan(opts, &result[now]) < 0)
			result[now] = result[!now];
		if (!differences_send(fd, &result[!now], &result[now]))
			break;
		now = !now;
	} while (agent_lives(fd));
}

int watcher_start(const struct discover_opts *opts, int *ret_fd, int *ret_pid)
{
	const struct helper_opts helper = { .name = "weir-discover", .run = helper_run, .ctx = (void *)opts };

	return helper_start(&helper, ret_fd, ret_pid);
}

int watcher_read(int fd, struct watcher_message *ret)
{
	struct watcher_message m;
	ssize_t n;

	do
		n = recv(fd, &m, sizeof(m), MSG_TRUNC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN ? 0 : -EPIPE;
	if (n == 0)
		return -EPIPE;
	if (n != sizeof(m) || m.type < WATCHER_FOUND || m.type > WATCHER_SCANNED)
		return -EBADMSG;
	m.server[sizeof(m.server) - 1] = '\0';
	for (char *p = m.server; *p; p++)
		if (!isprint((unsigned char)*p))
			*p = '?';
	*ret = m;
	return 1;
}
