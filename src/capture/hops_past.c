#include "capture/hops_past.h"

#include "capture/procfs.h"

#include <dirent.h>
#include <fcntl.h>

#define TABLE_LINES_MAX 262144 /* of /proc/PID/net/tcp: read once at the start */

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Inodes of the process's sockets, in order. The number of them, or negative errno. */
static ssize_t sockets_of(int pid_fd, uint64_t *inodes, size_t max)
{
	CLEANUP(closep) int fd = openat(pid_fd, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	size_t n = 0;

	if (!dir)
		return -errno;
	while (n < max && (e = readdir(dir))) {
		char link[64];
		ssize_t len = readlinkat(fd, e->d_name, link, sizeof(link));

		if (len > 0 && procfs_parse_link((struct span){ link, (size_t)len }, "socket", &inodes[n]) == 0)
			n++;
	}
	TAKE_FD(fd);
	closedir(dir);
	qsort(inodes, n, sizeof(*inodes), by_value);
	return (ssize_t)n;
}

static void table_read(int pid_fd, const char *name, const uint64_t *inodes, size_t n, void (*tell)(void *ctx, const struct weir_conn_key *conn), void *ctx)
{
	int fd = openat(pid_fd, name, O_RDONLY | O_CLOEXEC);
	CLEANUP(fclosep) FILE *f = fd < 0 ? NULL : fdopen(fd, "r");
	CLEANUP(freep) char *line = NULL;
	size_t cap = 0;
	ssize_t len;

	if (!f) {
		closep(&fd);
		return;
	}
	for (size_t i = 0; i < TABLE_LINES_MAX && (len = getline(&line, &cap, f)) > 0; i++) {
		struct procfs_socket s;
		struct weir_conn_key k = { 0 };

		if (procfs_parse_socket((struct span){ line, (size_t)len - (line[len - 1] == '\n') }, &s) <= 0 || s.state != PROCFS_ESTABLISHED ||
		    !bsearch(&s.inode, inodes, n, sizeof(*inodes), by_value))
			continue;
		memcpy(k.laddr, s.remote, 16);
		memcpy(k.raddr, s.local, 16);
		k.lport = s.rport;
		k.rport = s.lport;
		tell(ctx, &k);
	}
}

int hops_past(uint32_t pid, void (*tell)(void *ctx, const struct weir_conn_key *conn), void *ctx)
{
	CLEANUP(freep) uint64_t *inodes = malloc(HOPS_PAST_SOCKETS * sizeof(*inodes));
	CLEANUP(closep) int pid_fd = -1;
	char path[32];
	ssize_t n;

	if (!inodes)
		return -ENOMEM;
	snprintf(path, sizeof(path), "/proc/%u", pid);
	pid_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (pid_fd < 0)
		return -errno;
	n = sockets_of(pid_fd, inodes, HOPS_PAST_SOCKETS);
	if (n <= 0)
		return (int)n;
	table_read(pid_fd, "net/tcp", inodes, (size_t)n, tell, ctx);
	table_read(pid_fd, "net/tcp6", inodes, (size_t)n, tell, ctx);
	return 0;
}
