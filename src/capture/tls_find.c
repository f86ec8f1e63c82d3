#include "capture/tls_find.h"

#include "capture/procfs.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

#define SOCKETS_MAX 1024   /* listening sockets of watched ports */
#define NETNS_MAX 256      /* network namespaces looked into */
#define FDS_MAX 65536      /* descriptors looked at per process */
#define TABLE_MAX (4u << 20) /* bytes read of one table of sockets: listening ones come first */

struct listeners {
	uint64_t socket[SOCKETS_MAX], netns[NETNS_MAX];
	size_t sockets, spaces;
	bool (*wanted)(void *ctx, uint16_t port);
	void *ctx;
};

static void table_read(struct listeners *l, int pid_fd, const char *name)
{
	CLEANUP(closep) int fd = openat(pid_fd, name, O_RDONLY | O_CLOEXEC);
	CLEANUP(fclosep) FILE *f = fd < 0 ? NULL : fdopen(fd, "r");
	char text[512];
	size_t n = 0;

	if (!f)
		return;
	fd = -1; /* f's by now */
	while (n < TABLE_MAX && fgets(text, sizeof(text), f)) {
		struct procfs_listen one;

		n += strlen(text);
		if (l->sockets == SOCKETS_MAX)
			return;
		if (procfs_parse_tcp((struct span){ text, strcspn(text, "\n") }, &one) == 1 && l->wanted(l->ctx, one.port))
			l->socket[l->sockets++] = one.inode;
	}
}

/* Reads the tables of this process's network namespace, once for all that share it. */
static void netns_read(struct listeners *l, int pid_fd)
{
	char link[64];
	ssize_t n = readlinkat(pid_fd, "ns/net", link, sizeof(link));
	uint64_t inode;

	if (n < 0 || procfs_parse_link((struct span){ link, (size_t)n }, "net", &inode) < 0)
		return;
	for (size_t i = 0; i < l->spaces; i++)
		if (l->netns[i] == inode)
			return;
	if (l->spaces == NETNS_MAX)
		return;
	l->netns[l->spaces++] = inode;
	table_read(l, pid_fd, "net/tcp");
	table_read(l, pid_fd, "net/tcp6");
}

static bool holds_one(const struct listeners *l, int pid_fd)
{
	int fd = openat(pid_fd, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC), looked = 0;
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	bool found = false;

	if (!dir) {
		closep(&fd);
		return false;
	}
	while (!found && (e = readdir(dir)) && looked++ < FDS_MAX) {
		char link[64];
		uint64_t inode;
		ssize_t n;

		if (!isdigit((unsigned char)e->d_name[0]))
			continue;
		n = readlinkat(fd, e->d_name, link, sizeof(link));
		if (n < 0 || procfs_parse_link((struct span){ link, (size_t)n }, "socket", &inode) < 0)
			continue;
		for (size_t i = 0; i < l->sockets; i++)
			found |= l->socket[i] == inode;
	}
	closedir(dir);
	return found;
}

static int each_process(int (*look)(void *ctx, int pid, int pid_fd), void *ctx)
{
	DIR *dir = opendir("/proc");
	struct dirent *e;
	int r = 0;

	if (!dir)
		return errno == ENOMEM ? -ENOMEM : -ENOENT;
	while (r == 0 && (e = readdir(dir))) {
		char *end;
		long pid = strtol(e->d_name, &end, 10);
		CLEANUP(closep) int fd = -1;

		if (*end || pid <= 0 || pid > INT_MAX)
			continue;
		fd = openat(dirfd(dir), e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd >= 0)
			r = look(ctx, (int)pid, fd);
	}
	closedir(dir);
	return r;
}

static int look_at_namespace(void *ctx, int pid, int pid_fd)
{
	(void)pid;
	netns_read(ctx, pid_fd);
	return 0;
}

struct search {
	struct listeners *l;
	void (*found)(void *ctx, int pid);
	size_t count;
};

static int look_at_sockets(void *ctx, int pid, int pid_fd)
{
	struct search *s = ctx;

	if (s->count < TLS_FIND_PIDS_MAX && holds_one(s->l, pid_fd)) {
		s->count++;
		s->found(s->l->ctx, pid);
	}
	return 0;
}

int tls_find_listeners(bool (*wanted)(void *ctx, uint16_t port), void (*found)(void *ctx, int pid), void *ctx)
{
	CLEANUP(freep) struct listeners *l = calloc(1, sizeof(*l));
	struct search s = { .l = l, .found = found };
	int r;

	if (!l)
		return -ENOMEM;
	l->wanted = wanted;
	l->ctx = ctx;
	r = each_process(look_at_namespace, l);
	return r < 0 || !l->sockets ? r : each_process(look_at_sockets, &s);
}

/* ---- mappings --------------------------------------------------------------------------------------- */
static int number(struct span *rest, int base, char end, uint64_t *ret)
{
	uint64_t v = 0;
	size_t i;

	for (i = 0; i < rest->n && rest->p[i] != end; i++) {
		unsigned char c = (unsigned char)rest->p[i];
		int d = isdigit(c) ? c - '0' : isxdigit(c) ? (c | 0x20) - 'a' + 10 : 99;

		if (d >= base || v > (UINT64_MAX - (uint64_t)d) / (uint64_t)base)
			return -EINVAL;
		v = v * (uint64_t)base + (uint64_t)d;
	}
	if (!i || i == rest->n)
		return -EINVAL;
	rest->p += i + 1;
	rest->n -= i + 1;
	*ret = v;
	return 0;
}

int tls_parse_mapping(struct span line, struct tls_mapping *ret)
{
	static const char deleted[] = " (deleted)";
	struct tls_mapping m = { 0 };
	struct span rest = line;
	uint64_t unused;
	bool code;

	if (number(&rest, 16, '-', &m.start) < 0 || number(&rest, 16, ' ', &m.end) < 0 || rest.n < 5 || rest.p[4] != ' ')
		return -EINVAL;
	code = rest.p[2] == 'x';
	rest.p += 5;
	rest.n -= 5;
	if (number(&rest, 16, ' ', &m.offset) < 0 || number(&rest, 16, ':', &unused) < 0 || number(&rest, 16, ' ', &unused) < 0)
		return -EINVAL;
	if (number(&rest, 10, ' ', &m.inode) < 0)
		return -EINVAL; /* a blank stands behind it also where no name follows */
	while (rest.n && *rest.p == ' ')
		rest.p++, rest.n--;
	if (!code || !m.inode || !rest.n || *rest.p != '/')
		return 0;
	if (rest.n > sizeof(deleted) - 1 && !memcmp(rest.p + rest.n - (sizeof(deleted) - 1), deleted, sizeof(deleted) - 1))
		rest.n -= sizeof(deleted) - 1;
	m.path = rest;
	*ret = m;
	return 1;
}

static int open_same(const char *path, uint64_t inode)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || (inode && st.st_ino != inode)) {
		close(fd);
		return -ESTALE;
	}
	return fd;
}

int tls_open_mapping(int pid, const struct tls_mapping *m)
{
	char path[PROCFS_PATH_MAX + 64];
	int fd;

	/* The mapping itself, whatever became of its name; needs CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE. */
	snprintf(path, sizeof(path), "/proc/%d/map_files/%llx-%llx", pid, (unsigned long long)m->start, (unsigned long long)m->end);
	fd = open_same(path, 0);
	if (fd >= 0)
		return fd;
	if (m->path.n >= PROCFS_PATH_MAX)
		return -ENAMETOOLONG;
	snprintf(path, sizeof(path), "/proc/%d/root%.*s", pid, (int)m->path.n, m->path.p);
	return open_same(path, m->inode);
}
