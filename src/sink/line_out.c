#include "sink/line_out.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

/*
 * O_NONBLOCK belongs to the open file, which standard output shares with the shell and its other children, so it is not ours to
 * set. Opening the pipe or terminal once more gives us an open file of our own. (poll() before each write is not enough: a
 * terminal that polls writable may have room for one byte.)
 */
static int reopen_nonblocking(int fd)
{
	char path[48];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

void line_out_init(struct line_out *o, int fd, enum sink_pace pace)
{
	struct stat st;

	*o = (struct line_out){ .fd = fd, .own_fd = -EBADF, .pace = pace, .pending.ceiling = LINE_OUT_PENDING_MAX };
	if (fstat(fd, &st) < 0)
		return; /* the first write will say it */
	o->file = S_ISREG(st.st_mode);
	o->socket = S_ISSOCK(st.st_mode);
	if (pace == SINK_DROP && (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode)))
		o->own_fd = reopen_nonblocking(fd);
}

void line_out_done(struct line_out *o)
{
	str_done(&o->pending);
	closep(&o->own_fd);
	o->own_fd = -EBADF;
	o->waiting = 0;
	o->sent = 0;
}

/*
 * write(2) without SIGPIPE. The disposition of the process is not ours to change, so the signal is blocked for the time of the
 * call and taken off the queue if it was raised by it.
 */
static ssize_t write_quietly(const struct line_out *o, const char *p, size_t n)
{
	const struct timespec now = { 0 };
	sigset_t pipe_set, old, waiting;
	ssize_t r;
	int error;

	if (o->socket)
		return send(o->fd, p, n, MSG_NOSIGNAL | (o->pace == SINK_DROP ? MSG_DONTWAIT : 0));
	sigemptyset(&pipe_set);
	sigaddset(&pipe_set, SIGPIPE);
	sigpending(&waiting);
	pthread_sigmask(SIG_BLOCK, &pipe_set, &old);
	r = write(o->own_fd >= 0 ? o->own_fd : o->fd, p, n);
	error = errno;
	if (r < 0 && error == EPIPE && !sigismember(&waiting, SIGPIPE))
		while (sigtimedwait(&pipe_set, NULL, &now) < 0 && errno == EINTR)
			;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	errno = error;
	return r;
}

/* How many bytes may be offered to one write now. */
static size_t line_out_room(const struct line_out *o, size_t n)
{
	struct pollfd pfd = { .fd = o->fd, .events = POLLOUT };
	int r;

	if (o->file || (o->pace == SINK_DROP && (o->own_fd >= 0 || o->socket)))
		return n;
	do {
		r = poll(&pfd, 1, o->pace == SINK_WAIT ? -1 : 0);
	} while (r < 0 && errno == EINTR);
	if (o->pace == SINK_WAIT)
		return n;
	/* Could not be opened again (no /proc): a pipe that polls writable takes this much at once. */
	return r ? MIN(n, (size_t)PIPE_BUF) : 0;
}

/* Bytes written: less than n only where the descriptor is full. */
static ssize_t line_out_push(struct line_out *o, const char *p, size_t n)
{
	size_t done = 0;

	while (done < n) {
		size_t room = line_out_room(o, n - done);
		ssize_t r;

		if (!room)
			break;
		r = write_quietly(o, p + done, room);
		if (r >= 0)
			done += (size_t)r;
		else if (errno == EAGAIN && o->pace == SINK_DROP)
			break;
		else if (errno != EINTR && errno != EAGAIN)
			return -errno;
	}
	return (ssize_t)done;
}

int line_out_flush(struct line_out *o)
{
	ssize_t r;

	if (!o->waiting)
		return 0;
	r = line_out_push(o, o->pending.p + o->sent, o->pending.n - o->sent);
	if (r >= 0) {
		o->sent += (size_t)r;
		if (o->sent < o->pending.n)
			return 1;
		o->written_late += o->waiting;
	} else {
		o->lost_late += o->waiting;
	}
	o->waiting = 0;
	o->sent = 0;
	str_reset(&o->pending);
	return r < 0 ? (int)r : 0;
}

/* Appends a whole line, or nothing; the bytes that are out already make room first. */
static int line_out_keep(struct line_out *o, const char *p, size_t n)
{
	size_t before;
	int r;

	if (o->sent) {
		memmove(o->pending.p, o->pending.p + o->sent, o->pending.n - o->sent);
		o->pending.n -= o->sent;
		o->sent = 0;
	}
	before = o->pending.n;
	str_add(&o->pending, p, n);
	r = str_error(&o->pending);
	if (r < 0) {
		o->pending.n = before;
		o->pending.error = 0;
		return r == -E2BIG ? -EAGAIN : r;
	}
	o->waiting++;
	return 0;
}

int line_out_write(struct line_out *o, const char *p, size_t n)
{
	int before, r;

	before = line_out_flush(o);
	if (before < 0)
		return before;
	/* Through the buffer also when nothing waits: once its first byte is out, a line must have room for the rest. */
	r = line_out_keep(o, p, n);
	if (r < 0)
		return r;
	if (before > 0)
		return 1;
	r = line_out_flush(o);
	if (r == 0)
		o->written_late--;
	else if (r < 0)
		o->lost_late--;
	return r;
}

void line_out_account(struct line_out *o, struct sink *s)
{
	s->delivered += o->written_late;
	s->dropped += o->lost_late;
	o->written_late = 0;
	o->lost_late = 0;
}
