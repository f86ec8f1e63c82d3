#include "cmd/agent_records.h"

#include "base/log.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>

#define PIPE_PIECE 4096 /* PIPE_BUF: a pipe that polls writable takes as much without blocking */
#define LAST_TRIES 20	/* x 100 ms at the end */

int records_open(struct records_out *o, const char *path, bool wait)
{
	struct stat st;

	*o = (struct records_out){ .fd = -1, .pending.ceiling = RECORDS_PENDING_MAX };
	if (!path)
		return 0;
	if (!strcmp(path, "-")) {
		o->fd = STDOUT_FILENO;
	} else {
		/* Prompts are not in it, but who asked what of which model is: not for everybody's eyes. */
		o->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY | (wait ? 0 : O_NONBLOCK), 0640);
		o->owned = true;
	}
	if (o->fd < 0 || fstat(o->fd, &st) < 0) {
		int r = -errno;

		if (r == -ENXIO && !wait && stat(path, &st) == 0 && S_ISFIFO(st.st_mode))
			r = -EAGAIN;
		o->fd = -1;
		return r;
	}
	o->regular = S_ISREG(st.st_mode);
	return 0;
}

void records_add(struct records_out *o, const struct record *r)
{
	size_t before = o->pending.n;

	if (o->fd < 0)
		return;
	record_write_json(&o->pending, r);
	if (str_error(&o->pending)) {
		/* No room: this record goes, those before it stay. */
		o->pending.error = 0;
		o->pending.n = before;
		o->dropped++;
		return;
	}
	o->waiting++;
	if (o->pending.n > RECORDS_PENDING_MAX / 4)
		records_flush(o);
}

static uint64_t lines_count(const char *p, size_t n)
{
	uint64_t lines = 0;

	for (const char *end = p + n; p < end && (p = memchr(p, '\n', (size_t)(end - p))); p++)
		lines++;
	return lines;
}

static void complain(struct records_out *o, int error)
{
	if (error && !o->error)
		log_warning("records are not written: %s; metering goes on, what is lost is counted", strerror(-error));
	else if (!error && o->error)
		log_info("records are written again; %llu were lost", (unsigned long long)o->dropped);
	o->error = error;
}

/* Nothing more can be written now and later neither: what waits is lost. A torn line in a file is cut off again. */
static void pending_drop(struct records_out *o)
{
	struct stat st;

	if (o->sent && o->regular && fstat(o->fd, &st) == 0 && st.st_size >= (off_t)o->sent && ftruncate(o->fd, st.st_size - (off_t)o->sent) < 0)
		log_debug("records: cannot cut a torn line");
	o->dropped += o->waiting;
	o->waiting = 0;
	o->sent = 0;
	str_reset(&o->pending);
}

/* Forgets the lines that are out; what is left begins with a line, of which `sent` bytes may be out. */
static void pending_advance(struct records_out *o, size_t out)
{
	const char *end = memrchr(o->pending.p, '\n', out);
	size_t whole = end ? (size_t)(end + 1 - o->pending.p) : 0;
	uint64_t lines = lines_count(o->pending.p, whole);

	o->written += lines;
	o->waiting -= lines;
	memmove(o->pending.p, o->pending.p + whole, o->pending.n - whole);
	o->pending.n -= whole;
	o->sent = out - whole;
}

void records_flush(struct records_out *o)
{
	size_t out = o->sent;
	int error = 0;

	if (o->fd < 0 || !o->pending.n)
		return;
	while (out < o->pending.n) {
		struct pollfd p = { .fd = o->fd, .events = POLLOUT };
		size_t n = o->pending.n - out;
		ssize_t w;

		if (!o->regular) {
			n = MIN(n, (size_t)PIPE_PIECE);
			if (poll(&p, 1, 0) == 0)
				break; /* the reader is behind */
		}
		w = write(o->fd, o->pending.p + out, n);
		if (w < 0 && errno == EINTR)
			continue;
		if (w < 0) {
			error = errno == EAGAIN ? 0 : -errno;
			break;
		}
		out += (size_t)w;
	}
	pending_advance(o, out);
	if (error)
		pending_drop(o);
	complain(o, error);
}

void records_close(struct records_out *o)
{
	records_flush(o);
	for (int i = 0; i < LAST_TRIES && o->waiting && !o->error; i++) {
		poll(NULL, 0, 100);
		records_flush(o);
	}
	if (o->waiting)
		pending_drop(o);
	if (o->owned && o->fd >= 0)
		close(o->fd);
	o->fd = -1;
	str_done(&o->pending);
}
