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

static bool same(const struct discover_port *p, const struct discover_port *q)
{
	return q && q->pid == p->pid && q->start == p->start && q->automatic == p->automatic && q->given == p->given &&
	       !strcmp(q->workload, p->workload) && !strcmp(q->image, p->image) && !strcmp(q->tls, p->tls);
}

static bool found_send(int fd, const struct discover_port *p)
{
	struct watcher_message m = {
		.type = WATCHER_FOUND, .pid = (uint32_t)p->pid, .netns = p->netns, .port = p->port, .automatic = p->automatic, .given = p->given, .start = p->start
	};

	memcpy(m.server, p->server, sizeof(m.server));
	memcpy(m.workload, p->workload, sizeof(m.workload));
	memcpy(m.image, p->image, sizeof(m.image));
	memcpy(m.tls, p->tls, sizeof(m.tls));
	return message_send(fd, &m);
}

static bool gone_send(int fd, const struct discover_port *p, const struct discover_result *now)
{
	struct watcher_message m = { .type = WATCHER_GONE, .netns = p->netns, .port = p->port };

	for (size_t i = 0; i < now->count; i++)
		m.elsewhere |= now->port[i].port == p->port;
	return message_send(fd, &m);
}

static bool has_owner(const struct discover_result *r, const struct discover_owner *o)
{
	for (size_t i = 0; i < r->owners; i++)
		if (r->owner[i].pid == o->pid && r->owner[i].netns == o->netns && r->owner[i].port == o->port)
			return true;
	return false;
}

/* Those of `these` that are not among `those`. */
static bool owners_send(int fd, enum watcher_type type, const struct discover_result *these, const struct discover_result *those)
{
	for (size_t i = 0; i < these->owners; i++) {
		const struct discover_owner *o = &these->owner[i];
		struct watcher_message m = { .type = type, .pid = (uint32_t)o->pid, .netns = o->netns, .port = o->port, .start = o->start };

		if (!has_owner(those, o) && !message_send(fd, &m))
			return false;
	}
	return true;
}

static bool differences_send(int fd, const struct discover_result *old, const struct discover_result *now)
{
	if (!owners_send(fd, WATCHER_DISOWNED, old, now) || !owners_send(fd, WATCHER_OWNER, now, old))
		return false;
	for (size_t i = 0; i < now->count; i++) {
		const struct discover_port *p = &now->port[i];

		if (!same(p, discover_find(old, p->netns, p->port)) && !found_send(fd, p))
			return false;
	}
	for (size_t i = 0; i < old->count; i++)
		if (!discover_find(now, old->port[i].netns, old->port[i].port) && !gone_send(fd, &old->port[i], now))
			return false;
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
	static struct discover_result result[2]; /* 500 KB each, of which what is found is touched */
	const struct discover_opts *opts = ctx;
	int now = 0;

	confine(); /* as far as this host lets it: it only reads, and what it may not read it counts */
	do {
		if (discover_scan(opts, &result[!now], &result[now]) < 0)
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

static void text_clean(char *text, size_t cap)
{
	text[cap - 1] = '\0';
	for (char *p = text; *p; p++)
		if (!isgraph((unsigned char)*p))
			*p = '?';
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
	text_clean(m.server, sizeof(m.server));
	text_clean(m.workload, sizeof(m.workload));
	text_clean(m.image, sizeof(m.image));
	text_clean(m.tls, sizeof(m.tls));
	*ret = m;
	return 1;
}
