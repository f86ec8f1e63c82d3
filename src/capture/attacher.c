#include "capture/attacher.h"

#include "capture/helper.h"
#include "capture/procfs.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/perf_event.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#define PMU "/sys/bus/event_source/devices/uprobe/"

struct attacher {
	int program[ATTACHER_PROGRAMS_MAX];
	size_t programs;
	uint32_t pmu_type;
	uint64_t return_bit;
};

/* ---- in both ---------------------------------------------------------------------------------------- */
int attacher_open_map(int proc_pid_fd, uint64_t map_start, uint64_t map_end, int how)
{
	char name[64];
	int fd;

	/* The kernel's own spelling; any other is no entry of that folder. */
	snprintf(name, sizeof(name), "map_files/%llx-%llx", (unsigned long long)map_start, (unsigned long long)map_end);
	fd = openat(proc_pid_fd, name, how | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int attacher_start_ticks(int proc_pid_fd, uint64_t *ret)
{
	CLEANUP(closep) int fd = openat(proc_pid_fd, "stat", O_RDONLY | O_CLOEXEC);
	char text[1024]; /* some 350 bytes in practice */
	ssize_t n;

	if (fd < 0)
		return -ESRCH;
	n = read(fd, text, sizeof(text));
	return n > 0 && procfs_parse_start((struct span){ text, (size_t)n }, ret) == 0 ? 0 : -ESRCH;
}

/* ---- in the helper ---------------------------------------------------------------------------------- */
static int event_open(const struct attacher *a, const struct attacher_request *r, const char *path)
{
	struct perf_event_attr attr = { .size = sizeof(attr), .type = a->pmu_type };
	bool one = r->flags & ATTACHER_ONLY_PID;
	int fd;

	attr.config = r->flags & ATTACHER_RETURN ? a->return_bit : 0;
	attr.uprobe_path = (uint64_t)(uintptr_t)path;
	attr.probe_offset = r->offset;
	fd = (int)syscall(SYS_perf_event_open, &attr, one ? (pid_t)r->pid : -1, one ? -1 : 0, -1, PERF_FLAG_FD_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/*
 * Since commit ba677dbe77af (Linux 6.17, and older ones that took it over) a uprobe asks for CAP_SYS_ADMIN instead of CAP_PERFMON.
 * Which it is here is tried without that capability, on a file that is not there: who may probe is told so.
 */
static bool needs_admin(const struct attacher *a)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct all[2], less[2];
	int r;

	if (syscall(SYS_capget, &head, all) < 0)
		return false;
	memcpy(less, all, sizeof(less));
	less[0].effective &= ~(1u << CAP_SYS_ADMIN);
	if (syscall(SYS_capset, &head, less) < 0)
		return false;
	r = event_open(a, &(struct attacher_request){ 0 }, "/proc/self/fd/none");
	return syscall(SYS_capset, &head, all) == 0 && (r == -EACCES || r == -EPERM);
}

/* The one descriptor whose end is the end of the probe: a link that holds the event or, before Linux 5.15, the event itself. */
static int program_attach(int program, int event, uint64_t cookie)
{
	LIBBPF_OPTS(bpf_link_create_opts, opts, .perf_event.bpf_cookie = cookie);
	int link = bpf_link_create(program, event, BPF_PERF_EVENT, &opts);

	if (link >= 0)
		return link;
	if (cookie)
		return link == -EINVAL ? -EOPNOTSUPP : link;
	if (ioctl(event, PERF_EVENT_IOC_SET_BPF, program) < 0)
		return -errno;
	link = fcntl(event, F_DUPFD_CLOEXEC, 0);
	return link < 0 ? -errno : link;
}

static bool same_process(int dir, uint64_t start)
{
	uint64_t now;

	return attacher_start_ticks(dir, &now) == 0 && now == start;
}

/* A descriptor, or negative errno. */
static int request_serve(const struct attacher *a, const struct attacher_request *r)
{
	CLEANUP(closep) int dir = -1, file = -1, event = -1, link = -1;
	struct stat st;
	char name[32], path[32];

	if (r->program >= a->programs || (r->flags & ~(ATTACHER_RETURN | ATTACHER_ONLY_PID)) || r->map_start >= r->map_end || !r->pid || r->pid > INT32_MAX)
		return -EINVAL;
	snprintf(name, sizeof(name), "/proc/%u", r->pid);
	dir = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0 || !same_process(dir, r->start_ticks))
		return -ESRCH;
	file = attacher_open_map(dir, r->map_start, r->map_end, O_PATH);
	if (file < 0)
		return file == -ENOENT ? -ESTALE : file;
	if (fstat(file, &st) < 0 || !S_ISREG(st.st_mode) || st.st_dev != r->dev || st.st_ino != r->inode)
		return -ESTALE;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	event = event_open(a, r, path);
	if (event < 0)
		return event;
	/* What was opened by number was that process's only if it still lives: this folder never becomes another's. */
	if (!same_process(dir, r->start_ticks))
		return -ESRCH;
	link = program_attach(a->program[r->program], event, r->cookie);
	return link < 0 ? link : TAKE_FD(link);
}

static bool answer_send(int fd, const struct attacher_reply *reply, int link)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec data = { .iov_base = (void *)reply, .iov_len = sizeof(*reply) };
	struct msghdr m = { .msg_iov = &data, .msg_iovlen = 1 };

	if (link >= 0) {
		m.msg_control = control.room;
		m.msg_controllen = sizeof(control.room);
		control.head.cmsg_level = SOL_SOCKET;
		control.head.cmsg_type = SCM_RIGHTS;
		control.head.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&control.head), &link, sizeof(link));
	}
	while (sendmsg(fd, &m, MSG_NOSIGNAL) < 0)
		if (errno != EINTR)
			return false;
	return true;
}

static void helper_run(int fd, void *ctx)
{
	static const unsigned caps[] = { CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH, CAP_CHECKPOINT_RESTORE, CAP_SYS_ADMIN };
	static const struct helper_call calls[] = {
		{ SCMP_SYS(openat), 0, 0 },
		{ SCMP_SYS(fstat), 0, 0 },
		{ SCMP_SYS(newfstatat), 0, 0 },
		{ SCMP_SYS(perf_event_open), 0, 0 },
		{ SCMP_SYS(bpf), 1, BPF_LINK_CREATE },
		{ SCMP_SYS(ioctl), 2, PERF_EVENT_IOC_SET_BPF },
		{ SCMP_SYS(fcntl), 2, F_DUPFD_CLOEXEC },
	};
	const struct attacher *a = ctx;

	/* A part of its confinement is missing: better no late probes than a helper that could do more than it should. */
	if (helper_confine(caps, ARRAY_SIZE(caps) - !needs_admin(a), calls, ARRAY_SIZE(calls)) < 0)
		return;
	for (;;) {
		struct attacher_request r;
		struct attacher_reply reply;
		ssize_t n = recv(fd, &r, sizeof(r), MSG_TRUNC);
		int link;

		if (n < 0 && errno == EINTR)
			continue;
		if (n != sizeof(r))
			return; /* the agent is gone, or is not what it was */
		link = request_serve(a, &r);
		reply = (struct attacher_reply){ .id = r.id, .error = MIN(link, 0) };
		if (!answer_send(fd, &reply, link))
			return;
		closep(&link);
	}
}

/* ---- in the agent ----------------------------------------------------------------------------------- */
/* "8", or "config:0" with its prefix. */
static int pmu_read(const char *name, const char *prefix, uint32_t max, uint32_t *ret)
{
	CLEANUP(fclosep) FILE *f = fopen(name, "re");
	char text[32], *end;
	unsigned long v;
	size_t n = strlen(prefix);

	if (!f || !fgets(text, sizeof(text), f) || strncmp(text, prefix, n))
		return -EOPNOTSUPP;
	v = strtoul(text + n, &end, 10);
	if (end == text + n || v > max)
		return -EOPNOTSUPP;
	*ret = (uint32_t)v;
	return 0;
}

int attacher_start(const int *program_fd, size_t count, int *ret_fd, int *ret_pid)
{
	struct attacher a = { .programs = count };
	const struct helper_opts opts = { .name = "weir-attach", .keep = program_fd, .keep_count = count, .run = helper_run, .ctx = &a };
	uint32_t bit;

	if (count > ATTACHER_PROGRAMS_MAX)
		return -E2BIG;
	if (pmu_read(PMU "type", "", UINT32_MAX, &a.pmu_type) < 0 || pmu_read(PMU "format/retprobe", "config:", 63, &bit) < 0)
		return -EOPNOTSUPP;
	a.return_bit = UINT64_C(1) << bit;
	memcpy(a.program, program_fd, count * sizeof(*program_fd));
	return helper_start(&opts, ret_fd, ret_pid);
}

int attacher_ask(int fd, const struct attacher_request *r)
{
	ssize_t n;

	do
		n = send(fd, r, sizeof(*r), MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n == sizeof(*r))
		return 0;
	return n < 0 && (errno == EAGAIN || errno == ENOBUFS) ? -EAGAIN : -EPIPE;
}

int attacher_answer(int fd, struct attacher_reply *ret, int *ret_link)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct attacher_reply reply;
	struct iovec data = { .iov_base = &reply, .iov_len = sizeof(reply) };
	struct msghdr m = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof(control.room) };
	CLEANUP(closep) int link = -1;
	struct cmsghdr *c;
	ssize_t n;

	do
		n = recvmsg(fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN ? 0 : -EPIPE;
	if (n == 0)
		return -EPIPE;
	c = CMSG_FIRSTHDR(&m);
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(&link, CMSG_DATA(c), sizeof(link));
	if (n != sizeof(reply) || m.msg_flags & MSG_TRUNC || reply.error > 0 || (reply.error == 0 && !(m.msg_flags & MSG_CTRUNC)) != (link >= 0))
		return -EBADMSG;
	/* The kernel could not give us the descriptor: we have too many. */
	if (reply.error == 0 && link < 0)
		reply.error = -EMFILE;
	*ret = reply;
	*ret_link = TAKE_FD(link);
	return 1;
}
