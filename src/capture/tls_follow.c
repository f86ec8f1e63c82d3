#include "capture/tls_follow.h"

#include "capture/attacher.h"
#include "capture/helper.h"
#include "capture/tls_internal.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <seccomp.h>
#include <sys/socket.h>

#define PATH_SENT 160

enum message_type { MESSAGE_WATCH = 1, MESSAGE_FILE, MESSAGE_FORGET };

/* Finder to agent, and FORGET back: the file could not be probed, it is to be told of again. */
struct message {
	uint32_t type, pid;
	uint32_t kind, pad;
	uint64_t start_ticks, map_start, map_end, dev, inode;
	uint64_t offset[TLS_FUNCTIONS];
	char path[PATH_SENT];
};

/* A file whose probes are on their way, one at a time: the next is taken from the finder when it is done. */
struct pending {
	struct message from;
	struct tls_file *file; /* NULL: none */
	size_t steps, asked, answered;
	struct tls_step step[TLS_STEPS];
	int error;
};

struct tls_follow {
	struct tls *t;
	int finder_fd, finder_pid, attacher_fd, attacher_pid;
	struct pending pending;
};

/* ---- in the finder ---------------------------------------------------------------------------------- */
#define PIDS_MAX TLS_FIND_PIDS_MAX

struct finder {
	int fd;
	struct tls *t;
	uint64_t pids[PIDS_MAX]; /* told of: start time and pid, so that a number used again is told of again */
	size_t pid_count;
	bool broken;
};

static void finder_send(struct finder *f, const struct message *m)
{
	while (!f->broken && send(f->fd, m, sizeof(*m), MSG_NOSIGNAL) < 0)
		f->broken = errno != EINTR;
}

static uint64_t start_of(int pid)
{
	char name[32];
	CLEANUP(closep) int fd = -1;
	uint64_t ticks;

	snprintf(name, sizeof(name), "/proc/%d", pid);
	fd = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd >= 0 && attacher_start_ticks(fd, &ticks) == 0 ? ticks : 0;
}

static void message_fill(struct message *m, const struct tls_seen *s)
{
	*m = (struct message){ .type = MESSAGE_FILE, .pid = (uint32_t)s->pid, .kind = s->kind };
	memcpy(m->path, s->path.p, MIN(s->path.n, sizeof(m->path) - 1));
	if (!s->mapping)
		return;
	m->start_ticks = start_of(s->pid);
	m->map_start = s->mapping->start;
	m->map_end = s->mapping->end;
	m->dev = s->st->st_dev;
	m->inode = s->st->st_ino;
	memcpy(m->offset, s->offset, sizeof(m->offset));
}

static int finder_probe(void *ctx, const struct tls_seen *s)
{
	struct message m;

	message_fill(&m, s);
	finder_send(ctx, &m);
	return 0;
}

/* What can be probed is told of by the agent, once it is. */
static void finder_tell(void *ctx, const struct tls_seen *s, int error)
{
	struct message m;

	(void)error;
	if (s->mapping)
		return;
	message_fill(&m, s);
	finder_send(ctx, &m);
}

static void finder_pid(void *ctx, int pid)
{
	struct finder *f = ctx;
	uint64_t who;

	if (tls_look_pid(f->t->look, pid, NULL) <= 0)
		return;
	who = start_of(pid) << 24 | (uint64_t)pid;
	for (size_t i = 0; i < f->pid_count; i++)
		if (f->pids[i] == who)
			return;
	if (f->pid_count == PIDS_MAX)
		f->pid_count = 0; /* all are told of once more */
	f->pids[f->pid_count++] = who;
	finder_send(f, &(struct message){ .type = MESSAGE_WATCH, .pid = (uint32_t)pid });
}

static bool finder_wanted(void *ctx, uint16_t port)
{
	return tls_port_watched(((struct finder *)ctx)->t, port);
}

/* Waits for the next look, and hears what is to be looked at anew. */
static void finder_wait(struct finder *f)
{
	struct pollfd p = { .fd = f->fd, .events = POLLIN };

	while (!f->broken && poll(&p, 1, TLS_FOLLOW_PERIOD_MS) > 0) {
		struct message m;

		if (recv(f->fd, &m, sizeof(m), 0) != sizeof(m) || m.type != MESSAGE_FORGET)
			f->broken = true; /* the agent is gone */
		else
			tls_look_forget(f->t->look, (dev_t)m.dev, (ino_t)m.inode);
	}
}

static void finder_run(int fd, void *ctx)
{
	static const unsigned caps[] = { CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH, CAP_CHECKPOINT_RESTORE };
	static const struct helper_call calls[] = {
		{ SCMP_SYS(open), 0, 0 },	{ SCMP_SYS(openat), 0, 0 },	{ SCMP_SYS(readlink), 0, 0 }, { SCMP_SYS(readlinkat), 0, 0 },
		{ SCMP_SYS(getdents64), 0, 0 }, { SCMP_SYS(fstat), 0, 0 },	{ SCMP_SYS(newfstatat), 0, 0 }, { SCMP_SYS(lseek), 0, 0 },
		{ SCMP_SYS(fcntl), 0, 0 },	{ SCMP_SYS(pread64), 0, 0 },
	};
	CLEANUP(freep) struct finder *f = calloc(1, sizeof(*f));

	/* As far as this host lets it: it only reads. */
	if (!f)
		return;
	helper_confine(caps, ARRAY_SIZE(caps), calls, ARRAY_SIZE(calls));
	f->fd = fd;
	f->t = ctx;
	f->t->look->probe = finder_probe;
	f->t->look->tell = finder_tell;
	f->t->look->ctx = f;
	while (!f->broken) {
		tls_find_listeners(finder_wanted, finder_pid, f);
		finder_wait(f);
	}
}

/* ---- in the agent ----------------------------------------------------------------------------------- */
int tls_follow_start(struct tls *t, struct tls_follow **ret)
{
	const struct helper_opts finder = { .name = "weir-find-tls", .run = finder_run, .ctx = t };
	CLEANUP(freep) struct tls_follow *f = calloc(1, sizeof(*f));
	int r = f ? tls_load(t) : -ENOMEM;

	if (r < 0)
		return r;
	f->t = t;
	f->finder_fd = f->attacher_fd = f->finder_pid = f->attacher_pid = -1;
	r = attacher_start(&t->call_fd, 1, &f->attacher_fd, &f->attacher_pid);
	if (r == 0)
		r = helper_start(&finder, &f->finder_fd, &f->finder_pid);
	if (r < 0) {
		helper_end(&f->attacher_fd, &f->attacher_pid);
		return r;
	}
	*ret = TAKE_PTR(f);
	return 0;
}

struct tls_follow *tls_follow_free(struct tls_follow *f)
{
	if (!f)
		return NULL;
	helper_end(&f->finder_fd, &f->finder_pid);
	helper_end(&f->attacher_fd, &f->attacher_pid);
	free(f);
	return NULL;
}

void tls_follow_fds(const struct tls_follow *f, int ret[2])
{
	ret[0] = f->finder_fd;
	ret[1] = f->attacher_fd;
}

static void pending_end(struct tls_follow *f)
{
	struct pending *p = &f->pending;

	if (p->error < 0) {
		struct message m = { .type = MESSAGE_FORGET, .dev = p->from.dev, .inode = p->from.inode };

		tls_file_drop(p->file);
		/* Another process, or another file by now: the next look sees what is there. What else failed would fail again. */
		if (p->error == -ESRCH || p->error == -ESTALE)
			while (send(f->finder_fd, &m, sizeof(m), MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno == EINTR)
				;
	} else {
		tls_file_done(f->t);
	}
	if (p->error != -ESRCH && p->error != -ESTALE)
		tls_tell(f->t, (int)p->from.pid, (enum tls_kind)p->from.kind, p->error, span_of(p->from.path));
	p->file = NULL;
}

static int pending_ask(struct tls_follow *f)
{
	struct pending *p = &f->pending;

	while (p->file && p->asked < p->steps) {
		const struct tls_step *s = &p->step[p->asked];
		const struct attacher_request r = {
			.id = (uint32_t)p->asked,
			.pid = p->from.pid,
			.start_ticks = p->from.start_ticks,
			.map_start = p->from.map_start,
			.map_end = p->from.map_end,
			.dev = p->from.dev,
			.inode = p->from.inode,
			.offset = s->offset,
			.cookie = tls_cookie(p->file, s->probe),
			.flags = s->probe == WEIR_TLS_RETURN ? ATTACHER_RETURN : 0,
		};
		int e = attacher_ask(f->attacher_fd, &r);

		if (e < 0)
			return e == -EAGAIN ? 0 : e;
		p->asked++;
	}
	return 0;
}

static int answers_take(struct tls_follow *f)
{
	struct pending *p = &f->pending;
	struct attacher_reply reply;
	int link, r;

	while ((r = attacher_answer(f->attacher_fd, &reply, &link)) > 0) {
		if (!p->file || p->answered == p->steps) {
			closep(&link);
			return -EBADMSG;
		}
		p->answered++;
		if (link >= 0)
			p->file->link[p->file->links++] = link;
		if (reply.error < 0 && !p->error)
			p->error = reply.error;
		if (p->answered == p->steps)
			pending_end(f);
	}
	return r;
}

static int file_take(struct tls_follow *f, const struct message *m)
{
	struct pending *p = &f->pending;
	int r;

	if (!m->inode) { /* not to be probed, to be told of */
		tls_tell(f->t, (int)m->pid, (enum tls_kind)m->kind, 0, span_of(m->path));
		return 0;
	}
	*p = (struct pending){ .from = *m, .steps = 0 };
	p->steps = tls_steps(m->offset, p->step);
	if (!p->steps)
		return -EBADMSG;
	r = tls_file_add(f->t, &p->file);
	if (r < 0)
		tls_tell(f->t, (int)m->pid, (enum tls_kind)m->kind, r, span_of(m->path));
	return 0;
}

/* -EPIPE, -EBADMSG, or 0. Takes nothing while a file's probes are on their way. */
static int messages_take(struct tls_follow *f)
{
	struct message m;
	ssize_t n;
	int r = 0;

	while (r == 0 && !f->pending.file) {
		n = recv(f->finder_fd, &m, sizeof(m), MSG_TRUNC | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n <= 0)
			return -EPIPE;
		if (n != sizeof(m) || m.kind > TLS_STRIPPED)
			return -EBADMSG;
		m.path[sizeof(m.path) - 1] = '\0';
		if (m.type == MESSAGE_WATCH)
			tls_watch(f->t, (int)m.pid);
		else if (m.type == MESSAGE_FILE)
			r = file_take(f, &m);
		else
			r = -EBADMSG;
	}
	return r;
}

int tls_follow_event(struct tls_follow *f)
{
	int r = 0;

	if (f->attacher_fd < 0 || f->finder_fd < 0)
		return 0;
	r = answers_take(f);
	if (r == 0)
		r = messages_take(f);
	if (r == 0)
		r = pending_ask(f);
	if (r < 0) {
		helper_end(&f->finder_fd, &f->finder_pid);
		helper_end(&f->attacher_fd, &f->attacher_pid);
	}
	return r;
}
