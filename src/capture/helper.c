#include "capture/helper.h"

#include <cap-ng.h>
#include <fcntl.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define NOBODY 65534

/* Waiting, talking to the agent, memory, the end. */
static const int basics[] = {
	SCMP_SYS(read),		SCMP_SYS(close),	    SCMP_SYS(recvfrom),	    SCMP_SYS(recvmsg),	     SCMP_SYS(sendto),
	SCMP_SYS(sendmsg),	SCMP_SYS(poll),		    SCMP_SYS(ppoll),	    SCMP_SYS(mmap),	     SCMP_SYS(munmap),
	SCMP_SYS(mremap),	SCMP_SYS(madvise),	    SCMP_SYS(brk),	    SCMP_SYS(clock_gettime), SCMP_SYS(rt_sigreturn),
	SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask),   SCMP_SYS(exit),	    SCMP_SYS(exit_group),    SCMP_SYS(restart_syscall),
	SCMP_SYS(futex),	SCMP_SYS(getrandom),	    SCMP_SYS(sched_yield),  SCMP_SYS(mprotect),
};

static int filter_load(const struct helper_call *calls, size_t n)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int r = ctx ? 0 : -ENOMEM;

	for (size_t i = 0; i < ARRAY_SIZE(basics) && r == 0; i++)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, basics[i], 0);
	for (size_t i = 0; i < n && r == 0; i++) {
		const struct scmp_arg_cmp arg = { .arg = (unsigned)calls[i].arg - 1, .op = SCMP_CMP_EQ, .datum_a = calls[i].value, .datum_b = 0 };

		r = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, calls[i].nr, calls[i].arg > 0, &arg);
	}
	if (r == 0)
		r = seccomp_load(ctx);
	if (ctx)
		seccomp_release(ctx);
	return r;
}

/* A capability that this host has no name for, or that we never had, cannot be kept; the task that needs it will say so. */
static int caps_keep(const unsigned *caps, size_t n)
{
	bool had[64] = { 0 };

	if (capng_get_caps_process() < 0)
		return -EPERM;
	for (size_t i = 0; i < n; i++)
		had[caps[i] % 64] = capng_have_capability(CAPNG_PERMITTED, caps[i]);
	capng_clear(CAPNG_SELECT_ALL);
	for (size_t i = 0; i < n; i++)
		if (had[caps[i] % 64] && capng_update(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED, caps[i]) < 0)
			return -EPERM;
	if (geteuid() == 0)
		return capng_change_id(NOBODY, NOBODY, CAPNG_DROP_SUPP_GRP | CAPNG_CLEAR_BOUNDING) == 0 ? 0 : -EPERM;
	return capng_apply(CAPNG_SELECT_CAPS) < 0 ? -EPERM : 0;
}

int helper_confine(const unsigned *caps, size_t cap_count, const struct helper_call *calls, size_t call_count)
{
	const struct rlimit none = { 0, 0 };
	int r, last;

	setrlimit(RLIMIT_CORE, &none);
	r = caps_keep(caps, cap_count);
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* forgotten when the uid changed */
	if (prctl(PR_SET_DUMPABLE, 0) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		r = -errno;
	last = filter_load(calls, call_count);
	return r < 0 ? r : last;
}

static int compare_fds(const void *a, const void *b)
{
	int x = *(const int *)a, y = *(const int *)b;

	return (x > y) - (x < y);
}

/* Files named on the command line, maps, the agent's other sockets: none of a helper's business. */
static void close_others(const struct helper_opts *o, int fd)
{
	int kept[HELPER_KEEP_MAX + 1] = { fd };
	unsigned from = 3;

	for (size_t i = 0; i < o->keep_count; i++)
		kept[i + 1] = o->keep[i];
	qsort(kept, o->keep_count + 1, sizeof(*kept), compare_fds);
	for (size_t i = 0; i <= o->keep_count; i++) {
		if ((unsigned)kept[i] > from)
			close_range(from, (unsigned)kept[i] - 1, 0);
		if ((unsigned)kept[i] >= from)
			from = (unsigned)kept[i] + 1;
	}
	close_range(from, ~0u, 0);
}

static __attribute__((noreturn)) void child(const struct helper_opts *o, int fd, int agent)
{
	int null = open("/dev/null", O_RDWR);
	sigset_t all;

	/* The terminal's ^C reaches the helper too; it is to live as long as the agent and no shorter. */
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NAME, o->name);
	for (int i = 0; i < 3 && null >= 0; i++)
		dup2(null, i); /* a pipe that reads our output ends with the agent */
	if (getppid() != agent)
		_exit(0);
	close_others(o, fd);
	o->run(fd, o->ctx);
	_exit(0);
}

int helper_start(const struct helper_opts *o, int *ret_fd, int *ret_pid)
{
	int pair[2], agent = getpid();
	pid_t pid;

	if (o->keep_count > HELPER_KEEP_MAX)
		return -E2BIG;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	pid = fork();
	if (pid < 0) {
		int r = -errno;

		close(pair[0]);
		close(pair[1]);
		return r;
	}
	if (pid == 0)
		child(o, pair[1], agent);
	close(pair[1]);
	fcntl(pair[0], F_SETFL, O_NONBLOCK);
	*ret_fd = pair[0];
	*ret_pid = pid;
	return 0;
}

void helper_end(int *fd, int *pid)
{
	closep(fd);
	*fd = -1;
	if (*pid <= 0)
		return;
	kill(*pid, SIGKILL);
	while (waitpid(*pid, NULL, 0) < 0 && errno == EINTR)
		;
	*pid = -1;
}
