#include "capture/watcher.h"

#include "base/log.h"

#include <cap-ng.h>
#include <ctype.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

#define NOBODY 65534

/* Reading /proc and writing to one socket needs no more than this. */
static int helper_seccomp(void)
{
	static const int allowed[] = {
		SCMP_SYS(read),	     SCMP_SYS(write),	   SCMP_SYS(sendto),	  SCMP_SYS(sendmsg),	   SCMP_SYS(recvfrom),
		SCMP_SYS(open),	     SCMP_SYS(openat),	   SCMP_SYS(close),	  SCMP_SYS(readlink),	   SCMP_SYS(readlinkat),
		SCMP_SYS(getdents64), SCMP_SYS(fstat),	   SCMP_SYS(newfstatat),  SCMP_SYS(lseek),	   SCMP_SYS(dup),
		SCMP_SYS(fcntl),     SCMP_SYS(mmap),	   SCMP_SYS(munmap),	  SCMP_SYS(mremap),	   SCMP_SYS(mprotect),
		SCMP_SYS(madvise),   SCMP_SYS(brk),	   SCMP_SYS(poll),	  SCMP_SYS(ppoll),	   SCMP_SYS(clock_gettime),
		SCMP_SYS(nanosleep), SCMP_SYS(clock_nanosleep), SCMP_SYS(rt_sigreturn), SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask),
		SCMP_SYS(exit),	     SCMP_SYS(exit_group), SCMP_SYS(getpid),	  SCMP_SYS(restart_syscall), SCMP_SYS(futex),
		SCMP_SYS(getrandom), SCMP_SYS(sched_yield),
	};
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int r = ctx ? 0 : -ENOMEM;

	for (size_t i = 0; i < ARRAY_SIZE(allowed) && r == 0; i++)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, allowed[i], 0);
	if (r == 0)
		r = seccomp_load(ctx);
	if (ctx)
		seccomp_release(ctx);
	return r;
}

/* Gives up what is not needed; a step that this host refuses is said at debug level only, by the agent's own later drop. */
static void helper_drop(void)
{
	const struct rlimit none = { 0, 0 };

	setrlimit(RLIMIT_CORE, &none);
	capng_clear(CAPNG_SELECT_BOTH);
	if (capng_updatev(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED, CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH, -1) < 0 ||
	    capng_change_id(NOBODY, NOBODY, CAPNG_DROP_SUPP_GRP | CAPNG_CLEAR_BOUNDING) != 0) {
		/* Not root: whatever we have stays, and no more can come. */
		log_debug("discovery helper keeps its user");
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* forgotten when the uid changed */
	prctl(PR_SET_DUMPABLE, 0);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	helper_seccomp();
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

static __attribute__((noreturn)) void helper_run(int fd, const struct discover_opts *opts)
{
	static struct discover_result result[2]; /* 40 KB each */
	int now = 0;

	helper_drop();
	do {
		if (discover_scan(opts, &result[now]) < 0)
			result[now] = result[!now];
		if (!differences_send(fd, &result[!now], &result[now]))
			break;
		now = !now;
	} while (agent_lives(fd));
	_exit(0);
}

int watcher_start(const struct discover_opts *opts, int *ret_fd, int *ret_pid)
{
	int pair[2], agent = getpid();
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	pid = fork();
	if (pid < 0) {
		int r = -errno;

		close(pair[0]);
		close(pair[1]);
		return r;
	}
	if (pid == 0) {
		int null = open("/dev/null", O_RDWR);
		sigset_t all;

		/* The terminal's ^C reaches the helper too; it is to live as long as the agent and no shorter. */
		sigfillset(&all);
		sigprocmask(SIG_BLOCK, &all, NULL);
		prctl(PR_SET_NAME, "weir-discover");
		for (int i = 0; i < 3 && null >= 0; i++)
			dup2(null, i); /* a pipe that reads our output ends with the agent */
		if (getppid() != agent)
			_exit(0);
		close_range(3, (unsigned)pair[1] - 1, 0); /* files named on the command line are none of its business */
		close_range((unsigned)pair[1] + 1, ~0u, 0);
		helper_run(pair[1], opts);
	}
	close(pair[1]);
	fcntl(pair[0], F_SETFL, O_NONBLOCK);
	*ret_fd = pair[0];
	*ret_pid = pid;
	return 0;
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
