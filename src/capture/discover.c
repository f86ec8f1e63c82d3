#include "capture/discover.h"

#include "capture/attacher.h"
#include "capture/procfs.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

#define PROCS_MAX 65536      /* processes looked at per scan */
#define NETNS_MAX 256        /* network namespaces with a server in them */
#define FDS_MAX 65536        /* descriptors looked at per process */
#define TCP_TABLE_MAX (8u << 20) /* bytes of one /proc/PID/net/tcp: 55,000 sockets; listening ones come first */
#define CMDLINE_MAX 4096     /* the name and the port stand at its start */
#define MAPS_MAX (1u << 20)  /* of one process's mappings; libraries are mapped early */
#define ANCESTORS_MAX 8      /* between a server and what started its container */

struct proc {
	int pid, ppid;
	bool wanted; /* itself named by --pid, or a descendant */
};

/* Listening sockets of one network namespace. */
struct netns {
	uint64_t inode;
	struct procfs_listen *listen;
	size_t count;
};

struct scan {
	int proc_fd;
	const struct discover_opts *opts;
	const struct discover_result *before;
	struct discover_result *result;
	struct proc *procs;
	size_t proc_count;
	struct netns netns[NETNS_MAX];
	size_t netns_count;
	char *buffer; /* one file at a time, TCP_TABLE_MAX */
	size_t buffer_cap;
};

/* Reads a file below a directory, at most cap bytes. Bytes read, or negative errno. */
static ssize_t file_read(int dir, const char *name, char *buf, size_t cap)
{
	CLEANUP(closep) int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	size_t n = 0;

	if (fd < 0)
		return -errno;
	while (n < cap) {
		ssize_t r = read(fd, buf + n, cap - n);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -errno;
		if (r == 0)
			break;
		n += (size_t)r;
	}
	return (ssize_t)n;
}

static int listens_add(struct netns *ns, size_t *cap, const struct procfs_listen *l)
{
	if (ns->count == *cap) {
		size_t more = *cap ? *cap * 2 : 64;
		struct procfs_listen *p = reallocarray(ns->listen, more, sizeof(*p));

		if (!p)
			return -ENOMEM;
		ns->listen = p;
		*cap = more;
	}
	ns->listen[ns->count++] = *l;
	return 0;
}

/*
 * Reads a table of sockets in pieces: listening sockets are listed first, and a busy host has a
 * hundred thousand others behind them, so reading stops at the first piece without any.
 */
static int table_read(int dir, const char *name, char *buf, size_t cap, struct netns *ns, size_t *listen_cap)
{
	CLEANUP(closep) int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	size_t kept = 0, total = 0;
	ssize_t r;

	if (fd < 0)
		return -errno;
	while (total < TCP_TABLE_MAX && (r = read(fd, buf + kept, cap - kept)) > 0) {
		struct span rest = { buf, kept + (size_t)r }, line;
		size_t before = ns->count, lines = 0;

		total += (size_t)r;
		for (;;) {
			struct procfs_listen l;
			const char *end = rest.n ? memchr(rest.p, '\n', rest.n) : NULL;

			if (!end)
				break;
			procfs_next_line(&rest, &line);
			lines++;
			if (procfs_parse_tcp(line, &l) == 1 && listens_add(ns, listen_cap, &l) < 0)
				return -ENOMEM;
		}
		if (rest.n == cap)
			return -EINVAL; /* one line fills the buffer: not such a table */
		kept = rest.n;
		memmove(buf, rest.p, kept);
		if (lines > 1 && before == ns->count && total > 2 * cap)
			break;
	}
	return 0;
}

/* The namespace of a process, read once per scan. NULL where it is hidden from us, or there are too many. */
static struct netns *netns_of(struct scan *s, int pid_fd)
{
	char link[64];
	ssize_t n = readlinkat(pid_fd, "ns/net", link, sizeof(link));
	struct netns *ns;
	uint64_t inode;
	size_t cap = 0;

	if (n < 0 || procfs_parse_link((struct span){ link, (size_t)n }, "net", &inode) < 0)
		return NULL;
	for (size_t i = 0; i < s->netns_count; i++)
		if (s->netns[i].inode == inode)
			return &s->netns[i];
	if (s->netns_count == NETNS_MAX)
		return NULL;
	ns = &s->netns[s->netns_count++];
	*ns = (struct netns){ .inode = inode };
	table_read(pid_fd, "net/tcp", s->buffer, s->buffer_cap, ns, &cap);
	table_read(pid_fd, "net/tcp6", s->buffer, s->buffer_cap, ns, &cap);
	return ns;
}

const struct discover_port *discover_find(const struct discover_result *r, uint32_t netns, uint16_t port)
{
	for (size_t i = 0; i < r->count; i++)
		if (r->port[i].port == port && r->port[i].netns == netns)
			return &r->port[i];
	return NULL;
}

static void owner_add(struct discover_result *r, const struct discover_owner *o)
{
	for (size_t i = 0; i < r->owners; i++)
		if (r->owner[i].pid == o->pid && r->owner[i].netns == o->netns && r->owner[i].port == o->port)
			return;
	if (r->owners == DISCOVER_OWNERS_MAX)
		r->cut++;
	else
		r->owner[r->owners++] = *o;
}

/* Who holds a port, and how it came to be looked at. */
struct holder {
	int pid, pid_fd;
	bool automatic, given;
	struct span name;
};

static void port_describe(struct scan *s, const struct holder *h, struct discover_port *p);

static void port_add(struct scan *s, const struct netns *ns, uint16_t port, const struct holder *h)
{
	struct discover_result *r = s->result;
	struct discover_owner owner = { .pid = h->pid, .netns = (uint32_t)ns->inode, .port = port, .given = h->given };
	struct discover_port *p = (struct discover_port *)discover_find(r, owner.netns, port);

	attacher_start_ticks(h->pid_fd, &owner.start);
	if (p) {
		p->automatic &= h->automatic;
	} else if (r->count == DISCOVER_PORTS_MAX) {
		r->cut++;
		return;
	} else {
		p = &r->port[r->count++];
		*p = (struct discover_port){ .port = port, .pid = h->pid, .automatic = h->automatic, .given = h->given, .netns = owner.netns, .start = owner.start };
		for (size_t i = 0; i < MIN(h->name.n, sizeof(p->server) - 1); i++)
			p->server[i] = isalnum((unsigned char)h->name.p[i]) || strchr("._-+", h->name.p[i]) ? h->name.p[i] : '?';
		port_describe(s, h, p);
	}
	owner_add(r, &owner);
}

static bool is_among(uint16_t port, const uint16_t *ports, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (ports[i] == port)
			return true;
	return false;
}

/* Adds the ports on which this process holds a listening socket. `only`: where one is among these, no other; of given ones, these alone. */
static int process_ports(struct scan *s, const struct holder *h, const uint16_t *only, size_t only_count)
{
	struct netns *ns = netns_of(s, h->pid_fd);
	CLEANUP(closep) int fd_fd = -1;
	bool has_only = false;
	struct dirent *e;
	DIR *dir;
	int looked = 0;

	if (!ns)
		return -EACCES;
	if (!ns->count)
		return 0;
	fd_fd = openat(h->pid_fd, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd_fd < 0)
		return -errno;
	dir = fdopendir(fd_fd);
	if (!dir)
		return -errno;
	for (int pass = 0; pass < 2; pass++) {
		rewinddir(dir);
		while ((e = readdir(dir)) && looked++ < 2 * FDS_MAX) {
			char link[64];
			ssize_t n;
			uint64_t inode;

			if (!isdigit((unsigned char)e->d_name[0]))
				continue;
			n = readlinkat(dirfd(dir), e->d_name, link, sizeof(link));
			if (n < 0 || procfs_parse_link((struct span){ link, (size_t)n }, "socket", &inode) < 0)
				continue;
			for (size_t i = 0; i < ns->count; i++) {
				if (ns->listen[i].inode != inode)
					continue;
				if (pass == 0)
					has_only |= is_among(ns->listen[i].port, only, only_count);
				else if (is_among(ns->listen[i].port, only, only_count) || !(has_only || h->given))
					port_add(s, ns, ns->listen[i].port, h);
			}
		}
	}
	closedir(dir);
	fd_fd = -1; /* closedir() has closed it */
	return 0;
}

static int procs_list(struct scan *s)
{
	size_t cap = 0;
	struct dirent *e;
	DIR *dir;
	int fd = dup(s->proc_fd);

	if (fd < 0)
		return -errno;
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return -ENOMEM;
	}
	rewinddir(dir);
	while ((e = readdir(dir)) && s->proc_count < PROCS_MAX) {
		char *end;
		long pid = strtol(e->d_name, &end, 10);

		if (*end || pid <= 0 || pid > INT_MAX)
			continue;
		if (s->proc_count == cap) {
			struct proc *p = reallocarray(s->procs, cap ? cap * 2 : 256, sizeof(*p));

			if (!p) {
				closedir(dir);
				return -ENOMEM;
			}
			s->procs = p;
			cap = cap ? cap * 2 : 256;
		}
		s->procs[s->proc_count++] = (struct proc){ .pid = (int)pid };
	}
	closedir(dir);
	return 0;
}

/* Marks what --pid names, and all below it. */
static void procs_mark(struct scan *s)
{
	bool more = true;

	for (size_t i = 0; i < s->proc_count; i++) {
		struct proc *p = &s->procs[i];
		char name[32], text[1024];
		ssize_t n;

		for (size_t k = 0; k < s->opts->pid_count; k++)
			p->wanted |= s->opts->pids[k] == p->pid;
		snprintf(name, sizeof(name), "%d/stat", p->pid);
		n = file_read(s->proc_fd, name, text, sizeof(text));
		if (n <= 0 || procfs_parse_ppid((struct span){ text, (size_t)n }, &p->ppid) < 0)
			p->ppid = 0;
	}
	while (more) {
		more = false;
		for (size_t i = 0; i < s->proc_count; i++) {
			struct proc *p = &s->procs[i];

			for (size_t k = 0; !p->wanted && k < s->proc_count; k++)
				if (s->procs[k].wanted && s->procs[k].pid == p->ppid)
					p->wanted = more = true;
		}
	}
}

/* Which known server a process is. 1; 0: none, or a kernel thread; -ESRCH: it is gone. */
static int process_server(int pid_fd, struct procfs_server *ret)
{
	char cmdline[CMDLINE_MAX], exe[PROCFS_PATH_MAX];
	ssize_t n, m;

	n = file_read(pid_fd, "cmdline", cmdline, sizeof(cmdline));
	if (n <= 0)
		return -ESRCH;
	m = readlinkat(pid_fd, "exe", exe, sizeof(exe));
	if (m > 10 && !memcmp(exe + m - 10, " (deleted)", 10))
		m -= 10; /* replaced by an upgrade while it runs */
	return procfs_match_server((struct span){ exe, m > 0 ? (size_t)m : 0 }, (struct span){ cmdline, (size_t)n }, ret);
}

static int process_open(const struct scan *s, int pid)
{
	char name[32];

	snprintf(name, sizeof(name), "%d", pid);
	return openat(s->proc_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* A server that another one started is its back end, also where it could stand alone: Ollama and LocalAI run a llama-server. */
static bool works_for_another(const struct scan *s, int pid_fd, const struct procfs_server *server)
{
	CLEANUP(closep) int parent_fd = -1;
	struct procfs_server parent = { 0 };
	char stat[1024];
	ssize_t n = file_read(pid_fd, "stat", stat, sizeof(stat));
	int ppid;

	if (n <= 0 || procfs_parse_ppid((struct span){ stat, (size_t)n }, &ppid) < 0 || ppid <= 1)
		return false;
	parent_fd = process_open(s, ppid);
	return parent_fd >= 0 && process_server(parent_fd, &parent) == 1 && strcmp(parent.name, server->name) != 0;
}

/* The name and the image of the container that it runs in, and of what started that. */
static struct container_facts container_of(struct scan *s, int pid_fd, const struct procfs_workload *w)
{
	struct container_facts f = { 0 };
	char cmdline[CMDLINE_MAX], stat[1024];
	ssize_t n = 0;
	int ppid, fd = dup(pid_fd);

	for (int i = 0; i < ANCESTORS_MAX && fd >= 0; i++) {
		const char *word;

		n = file_read(fd, "stat", stat, sizeof(stat));
		close(fd);
		if (n <= 0 || procfs_parse_ppid((struct span){ stat, (size_t)n }, &ppid) < 0 || ppid <= 1) {
			fd = -1, n = 0;
			break;
		}
		fd = process_open(s, ppid);
		n = fd < 0 ? 0 : file_read(fd, "cmdline", cmdline, sizeof(cmdline));
		word = n > 0 ? memchr(cmdline, '\0', (size_t)n) : NULL;
		if (word && word - cmdline >= 6 && !memcmp(word - 6, "conmon", 6))
			break;
		n = 0;
	}
	closep(&fd);
	container_facts(s->opts->root, w, (struct span){ cmdline, n > 0 ? (size_t)n : 0 }, &f);
	return f;
}

/* A TLS library among its mappings. What a process calls its files is its own affair: the name is one of ours. */
static const char *tls_library(struct scan *s, int pid_fd)
{
	static const char *const names[] = { "libssl.so.3", "libssl.so.1.1", "libgnutls.so.30", "libssl-", "libboringssl" };
	CLEANUP(closep) int fd = openat(pid_fd, "maps", O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	size_t kept = 0, total = 0;
	ssize_t n;

	while (fd >= 0 && total < MAPS_MAX && (n = read(fd, s->buffer + kept, s->buffer_cap - kept)) > 0) {
		size_t have = kept + (size_t)n;

		for (size_t i = 0; i < ARRAY_SIZE(names); i++)
			if (memmem(s->buffer, have, names[i], strlen(names[i])))
				return strcmp(names[i], "libssl-") ? names[i] : "libssl";
		kept = MIN(have, (size_t)32); /* a name may lie across two pieces */
		memmove(s->buffer, s->buffer + have - kept, kept);
		total += (size_t)n;
	}
	return "";
}

/* Costs some reads: once for each process that holds a port, not at each scan. */
static void port_describe(struct scan *s, const struct holder *h, struct discover_port *p)
{
	const struct discover_port *old = s->before ? discover_find(s->before, p->netns, p->port) : NULL;
	struct procfs_workload w;
	struct container_facts f = { 0 };
	char text[4096];
	ssize_t n;

	snprintf(p->tls, sizeof(p->tls), "%s", old && old->pid == p->pid && old->start == p->start && *old->tls ? old->tls : tls_library(s, h->pid_fd));
	if (old && old->pid == p->pid && old->start == p->start) {
		memcpy(p->workload, old->workload, sizeof(p->workload));
		memcpy(p->image, old->image, sizeof(p->image));
		return;
	}
	n = file_read(h->pid_fd, "cgroup", text, sizeof(text));
	procfs_parse_cgroup((struct span){ text, n > 0 ? (size_t)n : 0 }, &w);
	if (w.container[0])
		f = container_of(s, h->pid_fd, &w);
	memcpy(p->image, f.image, sizeof(p->image));
	if (w.pod[0])
		snprintf(p->workload, sizeof(p->workload), "pod=%s", *f.name ? f.name : w.pod);
	else if (w.container[0])
		snprintf(p->workload, sizeof(p->workload), "container=%.*s", *f.name ? (int)sizeof(f.name) : 12, *f.name ? f.name : w.container);
	else if (w.unit[0])
		snprintf(p->workload, sizeof(p->workload), "unit=%s", w.unit);
}

static void process_scan(struct scan *s, const struct proc *p)
{
	CLEANUP(closep) int pid_fd = process_open(s, p->pid);
	struct procfs_server server = { 0 };
	struct holder h = { .pid = p->pid, .pid_fd = pid_fd };
	char comm[32];
	ssize_t m;
	int known;

	if (pid_fd < 0)
		return;
	known = process_server(pid_fd, &server);
	if (known < 0)
		return;
	if (known && !server.inner)
		server.inner = works_for_another(s, pid_fd, &server);
	if (p->wanted) {
		bool named = false;

		for (size_t k = 0; k < s->opts->pid_count; k++)
			named |= s->opts->pids[k] == p->pid;
		if (known && server.inner && !named)
			return; /* the server's own back end: the same request once more */
		m = file_read(pid_fd, "comm", comm, sizeof(comm));
		h.name = known ? span_of(server.name) : (struct span){ comm, m > 1 ? (size_t)m - 1 : 0 };
		if (process_ports(s, &h, NULL, 0) < 0)
			s->result->hidden++;
	} else if (s->opts->automatic && known && !server.inner) {
		h.automatic = true;
		h.name = span_of(server.name);
		if (process_ports(s, &h, &server.port_hint, server.port_hint ? 1 : 0) < 0)
			s->result->hidden++;
	}
}

/* ---- ports that are watched anyway ------------------------------------------------------------------ */

/* Which sockets they are now; 0: none. */
static uint64_t given_sum(struct scan *s, const struct netns *ns)
{
	uint64_t sum = 0;

	for (size_t i = 0; ns && i < ns->count; i++)
		if (is_among(ns->listen[i].port, s->opts->ports, s->opts->port_count))
			sum = (sum ^ ns->listen[i].inode ^ (uint64_t)ns->listen[i].port << 48) * UINT64_C(0x9e3779b97f4a7c15);
	return sum;
}

static bool still_there(const struct scan *s, int pid, uint64_t start)
{
	CLEANUP(closep) int fd = process_open(s, pid);
	uint64_t now;

	return fd >= 0 && attacher_start_ticks(fd, &now) == 0 && now == start;
}

static void given_copy(struct scan *s)
{
	struct discover_result *r = s->result;

	for (size_t i = 0; i < s->before->owners; i++) {
		const struct discover_owner *o = &s->before->owner[i];

		if (o->given && still_there(s, o->pid, o->start))
			owner_add(r, o);
	}
	for (size_t i = 0; i < s->before->count && r->count < DISCOVER_PORTS_MAX; i++) {
		const struct discover_port *p = &s->before->port[i];

		/* Whoever held it first may have gone; as long as the socket is there, another holds it, and it is the same server. */
		if (p->given && !discover_find(r, p->netns, p->port))
			r->port[r->count++] = *p;
	}
}

static void given_look(struct scan *s, uint64_t netns)
{
	for (size_t i = 0; i < s->proc_count; i++) {
		CLEANUP(closep) int pid_fd = process_open(s, s->procs[i].pid);
		struct holder h = { .pid = s->procs[i].pid, .pid_fd = pid_fd, .given = true };
		struct procfs_server server = { 0 };
		char link[64], comm[32];
		uint64_t inode;
		ssize_t n;

		n = pid_fd < 0 || h.pid == 1 ? -1 : readlinkat(pid_fd, "ns/net", link, sizeof(link));
		if (n < 0 || procfs_parse_link((struct span){ link, (size_t)n }, "net", &inode) < 0 || inode != netns)
			continue;
		n = file_read(pid_fd, "comm", comm, sizeof(comm));
		h.name = process_server(pid_fd, &server) == 1 ? span_of(server.name) : (struct span){ comm, n > 1 ? (size_t)n - 1 : 0 };
		process_ports(s, &h, s->opts->ports, s->opts->port_count);
	}
}

static void given_scan(struct scan *s)
{
	CLEANUP(closep) int self = openat(s->proc_fd, "self", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct netns *ns = self < 0 ? NULL : netns_of(s, self);

	s->result->given = given_sum(s, ns);
	if (!s->result->given)
		return;
	if (s->before && s->before->given == s->result->given)
		given_copy(s);
	else
		given_look(s, ns->inode);
}

/* Workers come and go, and their numbers with them: whoever was told of goes on being the one, as long as he holds the socket. */
static void holders_keep(struct scan *s)
{
	for (size_t i = 0; s->before && i < s->result->count; i++) {
		struct discover_port *p = &s->result->port[i];
		const struct discover_port *old = discover_find(s->before, p->netns, p->port);

		for (size_t k = 0; old && (old->pid != p->pid || old->start != p->start) && k < s->result->owners; k++) {
			const struct discover_owner *o = &s->result->owner[k];

			if (o->pid == old->pid && o->start == old->start && o->netns == p->netns && o->port == p->port)
				*p = *old;
		}
	}
}

int discover_scan(const struct discover_opts *opts, const struct discover_result *before, struct discover_result *ret)
{
	struct scan s = { .opts = opts, .result = ret, .before = before, .buffer_cap = 32768 };
	CLEANUP(freep) char *proc = NULL;
	int r;

	ret->count = ret->owners = ret->hidden = ret->cut = 0;
	ret->given = 0;
	if (asprintf(&proc, "%s/proc", opts->root ? opts->root : "") < 0) {
		proc = NULL;
		return -ENOMEM;
	}
	s.proc_fd = open(proc, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s.proc_fd < 0)
		return -ENOENT;
	s.buffer = malloc(s.buffer_cap);
	r = s.buffer ? procs_list(&s) : -ENOMEM;
	if (r == 0) {
		if (opts->pid_count)
			procs_mark(&s);
		for (size_t i = 0; i < s.proc_count; i++)
			if (opts->automatic || s.procs[i].wanted)
				process_scan(&s, &s.procs[i]);
		if (opts->port_count)
			given_scan(&s);
		holders_keep(&s);
	}
	for (size_t i = 0; i < s.netns_count; i++)
		free(s.netns[i].listen);
	free(s.procs);
	free(s.buffer);
	close(s.proc_fd);
	return r;
}

bool discover_listens(uint16_t port)
{
	CLEANUP(closep) int self = open("/proc/self", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct netns ns = { 0 };
	char buf[32768];
	size_t cap = 0;
	bool found = false;

	if (self < 0)
		return false;
	table_read(self, "net/tcp", buf, sizeof(buf), &ns, &cap);
	table_read(self, "net/tcp6", buf, sizeof(buf), &ns, &cap);
	for (size_t i = 0; i < ns.count; i++)
		found |= ns.listen[i].port == port;
	free(ns.listen);
	return found;
}
