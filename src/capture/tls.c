#include "capture/tls.h"

#include "base/log.h"
#include "capture/capture_internal.h"
#include "capture/tls_elf.h"
#include "capture/tls_find.h"
#include "weir/conn.h"
#include "weir/tls.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <malloc.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "tls.skel.h"
#include "tls_fast.skel.h"

#define PROBES_MAX 16     /* of one file */
#define MAPS_MAX (4u << 20) /* bytes of one /proc/PID/maps; a process with 20,000 mappings has less */
#define AGE_AT_ONCE 512   /* entries looked at per table and call of tls_age() */

/* The functions that are hooked. SSL_accept and SSL_connect call SSL_do_handshake, gnutls_record_send calls gnutls_record_send2. */
static const struct probe_row {
	const char *symbol;
	enum weir_tls_probe probe;
	bool returns;
} probes[] = {
	{ "SSL_read", WEIR_TLS_READ, true },
	{ "SSL_read_ex", WEIR_TLS_READ_EX, true },
	{ "SSL_write", WEIR_TLS_WRITE, false },
	{ "SSL_write_ex", WEIR_TLS_WRITE_EX, false },
	{ "SSL_do_handshake", WEIR_TLS_HANDSHAKE, true },
	{ "SSL_free", WEIR_TLS_FREE, false },
	{ "SSL_clear", WEIR_TLS_FREE, false },
	{ "gnutls_record_recv", WEIR_TLS_READ, true },
	{ "gnutls_record_send2", WEIR_TLS_RECORD_WRITE, false },
	{ "gnutls_record_send", WEIR_TLS_RECORD_WRITE, false },
	{ "gnutls_handshake", WEIR_TLS_HANDSHAKE, true },
	{ "gnutls_deinit", WEIR_TLS_FREE, false },
};

struct file {
	dev_t dev;
	ino_t inode;
	struct timespec changed;
	enum tls_kind kind;
	bool told;
	int link[2 * PROBES_MAX];
	size_t links;
};

struct tls {
	struct capture *capture;
	tls_found_fn *found;
	void *ctx;
	const char *sockets; /* which hook tells of socket calls; NULL: not loaded */
	int call_fd, socket_prog[2], socket_link[2];
	int objects_fd, threads_fd, pids_fd;
	int uprobe_type;
	int refused; /* why the hook could not be loaded: not tried again */
	struct file *files[TLS_FILES_MAX];
	size_t file_count, probed;
	struct weir_tls_key object_at; /* where ageing goes on */
	uint64_t thread_at;
	uint32_t pid_at;
	bool object_on, thread_on, pid_on;
};

const char *tls_kind_name(enum tls_kind k)
{
	static const char *const names[] = { "none", "OpenSSL", "GnuTLS", "Go", "rustls", "static, stripped" };

	return k <= TLS_STRIPPED ? names[k] : "?";
}

const char *tls_kind_lost(enum tls_kind k)
{
	switch (k) {
	case TLS_GO:
		return "TLS of Go's crypto/tls is not metered: end TLS in a proxy in front (nginx, HAProxy, Caddy on another host), and watch the plaintext hop behind it";
	case TLS_RUSTLS:
		return "TLS of rustls is not metered: end TLS in a proxy in front (nginx, HAProxy), and watch the plaintext hop behind it";
	case TLS_STRIPPED:
		return "its TLS library is linked in and its names were stripped, so TLS is not metered: install the build with symbols, or end TLS in a proxy in front and watch the plaintext hop behind it";
	default:
		return "";
	}
}

/* ---- loading ---------------------------------------------------------------------------------------- */
static const struct shared {
	const char *map;
	size_t fd; /* in struct capture */
} shared[] = {
	{ "weir_conns", offsetof(struct capture, conns_fd) },	  { "weir_clients", offsetof(struct capture, clients_fd) },
	{ "weir_others", offsetof(struct capture, others_fd) },	  { "weir_stats", offsetof(struct capture, stats_fd) },
	{ "weir_local_addrs", offsetof(struct capture, addrs_fd) }, { "weir_ring", offsetof(struct capture, ring_fd) },
	{ ".bss", offsetof(struct capture, bss_fd) },		  { ".rodata.automaton", offsetof(struct capture, automaton_fd) },
};

static const struct socket_hook {
	const char *name, *send, *recv; /* programs */
} socket_hooks[] = {
	{ "tp_btf", "on_sock_send", "on_sock_recv" },
	{ "fexit", "on_tcp_send", "on_tcp_recv" },
};

static int object_prepare(struct bpf_object *obj, const struct capture *c, const struct socket_hook *hook)
{
	uint64_t ring = c->ring_bytes;
	struct bpf_program *p;
	int r;

	if ((r = capture_set_variable(obj, ".rodata", "cfg_prompt_blind", &c->prompt_blind, sizeof(c->prompt_blind))) < 0 ||
	    (r = capture_set_variable(obj, ".rodata", "cfg_v6_prefix", &c->v6_prefix, sizeof(c->v6_prefix))) < 0 ||
	    (r = capture_set_variable(obj, ".rodata", "cfg_ring_bytes", &ring, sizeof(ring))) < 0)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(shared); i++) {
		struct bpf_map *map = bpf_object__find_map_by_name(obj, shared[i].map);

		r = map ? bpf_map__reuse_fd(map, *(const int *)((const char *)c + shared[i].fd)) : -EINVAL;
		if (r < 0)
			return r;
	}
	bpf_object__for_each_program(p, obj) {
		const char *name = bpf_program__name(p);
		bool wanted = !strcmp(name, "on_tls_call") || !strcmp(name, hook->send) || !strcmp(name, hook->recv);

		bpf_program__set_autoload(p, wanted);
	}
	return 0;
}

static int fd_of(int fd, int *ret)
{
	int r = fd < 0 ? fd : fcntl(fd, F_DUPFD_CLOEXEC, 3);

	if (r < 0)
		return fd < 0 ? fd : -errno;
	*ret = r;
	return 0;
}

static int program_fd(struct bpf_object *obj, const char *name)
{
	const struct bpf_program *p = bpf_object__find_program_by_name(obj, name);

	return p ? bpf_program__fd(p) : -ENOENT;
}

static void close_fd(int *fd)
{
	closep(fd);
	*fd = -1;
}

/* They cost every socket call of the host some nanoseconds: there only while a library has probes. */
static int sockets_attach(struct tls *t)
{
	for (int i = 0; i < 2; i++) {
		if (t->socket_link[i] >= 0)
			continue;
		t->socket_link[i] = bpf_raw_tracepoint_open(NULL, t->socket_prog[i]);
		if (t->socket_link[i] < 0)
			return t->socket_link[i];
	}
	return 0;
}

/* Whether they can be attached is known only once they were. */
static int sockets_try(struct tls *t, struct bpf_object *obj, const struct socket_hook *hook)
{
	const char *names[2] = { hook->send, hook->recv };
	int r = 0;

	for (int i = 0; i < 2 && r == 0; i++)
		r = fd_of(program_fd(obj, names[i]), &t->socket_prog[i]);
	if (r == 0)
		r = sockets_attach(t);
	for (int i = 0; i < 2; i++)
		close_fd(&t->socket_link[i]);
	for (int i = 0; i < 2 && r < 0; i++)
		close_fd(&t->socket_prog[i]);
	t->sockets = hook->name;
	return r;
}

/* The same variables at the same places, or the shared memory would be misread. */
static bool same_layout(struct bpf_object *obj, const struct capture *c)
{
	const char *control = capture_variable(obj, ".bss", "weir_control", sizeof(struct weir_control));
	struct bpf_map *bss = bpf_object__find_map_by_name(obj, ".bss");
	size_t size;
	const char *base = bss ? bpf_map__initial_value(bss, &size) : NULL;

	return control && base && control - base == (const char *)c->control - (const char *)c->bss;
}

static int variant_load(struct tls *t, const void *bytes, size_t size, const struct socket_hook *hook)
{
	LIBBPF_OPTS(bpf_object_open_opts, opts, .object_name = "weir_tls");
	struct bpf_object *obj = bpf_object__open_mem(bytes, size, &opts);
	int r;

	if (!obj)
		return -errno;
	r = same_layout(obj, t->capture) ? object_prepare(obj, t->capture, hook) : -EINVAL;
	if (r == 0)
		r = bpf_object__load(obj);
	if (r == 0)
		r = sockets_try(t, obj, hook);
	if (r == 0 && ((r = fd_of(program_fd(obj, "on_tls_call"), &t->call_fd)) < 0 ||
		       (r = fd_of(bpf_object__find_map_fd_by_name(obj, "weir_tls_objs"), &t->objects_fd)) < 0 ||
		       (r = fd_of(bpf_object__find_map_fd_by_name(obj, "weir_tls_thrds"), &t->threads_fd)) < 0 ||
		       (r = fd_of(bpf_object__find_map_fd_by_name(obj, "weir_tls_pids"), &t->pids_fd)) < 0))
		log_debug("TLS hook: no descriptors left");
	bpf_object__close(obj);
	return r;
}

/* The number of the kernel's uprobe event source. */
static int uprobe_type(void)
{
	CLEANUP(fclosep) FILE *f = fopen("/sys/bus/event_source/devices/uprobe/type", "re");
	int type;

	return f && fscanf(f, "%d", &type) == 1 ? type : -EOPNOTSUPP;
}

int tls_load(struct tls *t)
{
	const char *variant = capture_variant(t->capture);
	size_t size;
	const void *bytes = !strcmp(variant, "may_goto") ? tls_fast_bpf__elf_bytes(&size) : tls_bpf__elf_bytes(&size);
	int r = -EOPNOTSUPP;

	if (t->call_fd >= 0)
		return 0;
	if (t->refused)
		return t->refused;
	if (capture_inexact(t->capture) || t->capture->automaton_fd < 0)
		return t->refused = -EOPNOTSUPP;
	t->uprobe_type = uprobe_type();
	if (t->uprobe_type < 0)
		return t->refused = t->uprobe_type;
	for (size_t i = 0; i < ARRAY_SIZE(socket_hooks); i++) {
		/* Asked first: the verifier would read the whole meter before libbpf misses the tracepoint. */
		if (i == 0 && libbpf_find_vmlinux_btf_id("sock_send_length", BPF_TRACE_RAW_TP) < 0)
			continue;
		r = variant_load(t, bytes, size, &socket_hooks[i]);
		log_debug("TLS hook, %s with %s: %s", variant, socket_hooks[i].name, r < 0 ? strerror(-r) : "loaded");
		if (r == 0 || r == -EPERM || r == -ENOMEM)
			break;
		r = -EOPNOTSUPP;
	}
	malloc_trim(0); /* libbpf has read the kernel's types: some 10 MiB of small pieces */
	return t->refused = r;
}

int tls_open(struct capture *c, tls_found_fn *found, void *ctx, struct tls **ret)
{
	struct tls *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->capture = c;
	t->found = found;
	t->ctx = ctx;
	t->call_fd = t->objects_fd = t->threads_fd = t->pids_fd = t->socket_prog[0] = t->socket_prog[1] = t->socket_link[0] = t->socket_link[1] = -1;
	*ret = t;
	return 0;
}

static void file_drop(struct file *f)
{
	for (size_t i = f->links; i > 0; i--)
		close(f->link[i - 1]); /* entries first: a call whose end is awaited has a probe on its end */
	f->links = 0;
}

struct tls *tls_free(struct tls *t)
{
	if (!t)
		return NULL;
	for (size_t i = 0; i < t->file_count; i++) {
		file_drop(t->files[i]);
		free(t->files[i]);
	}
	for (int i = 0; i < 2; i++) {
		closep(&t->socket_link[i]);
		closep(&t->socket_prog[i]);
	}
	closep(&t->call_fd);
	closep(&t->objects_fd);
	closep(&t->threads_fd);
	closep(&t->pids_fd);
	free(t);
	return NULL;
}

/* ---- probes ----------------------------------------------------------------------------------------- */
static int probe_set(struct tls *t, int file_fd, uint64_t offset, bool returns, uint64_t cookie)
{
	LIBBPF_OPTS(bpf_link_create_opts, opts, .perf_event.bpf_cookie = cookie);
	char path[64];
	struct perf_event_attr attr = {
		.size = sizeof(attr),
		.type = (uint32_t)t->uprobe_type,
		.config = returns, /* format/retprobe: bit 0 */
		.config2 = offset,
	};
	CLEANUP(closep) int event = -1;
	int link;

	/* The very file that was read, whatever its name stands for by now. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", file_fd);
	attr.config1 = (uintptr_t)path;
	event = (int)syscall(SYS_perf_event_open, &attr, -1, 0, -1, PERF_FLAG_FD_CLOEXEC);
	if (event < 0)
		return -errno;
	link = bpf_link_create(t->call_fd, event, BPF_PERF_EVENT, &opts);
	if (link < 0)
		return link;
	if (ioctl(event, PERF_EVENT_IOC_ENABLE, 0) < 0) {
		int r = -errno;

		close(link);
		return r;
	}
	return link;
}

/* Ends of calls before their beginnings, so that what begins under our eyes also ends so. */
static int file_probe(struct tls *t, struct file *f, int fd, const struct tls_symbol *at, uint64_t library)
{
	bool send2 = false;
	int r = tls_load(t);

	if (r == 0)
		r = sockets_attach(t);
	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(probes); i++)
		send2 |= at[i].offset && !strcmp(at[i].name, "gnutls_record_send2");
	for (int entries = 0; entries < 2; entries++)
		for (size_t i = 0; i < ARRAY_SIZE(probes); i++) {
			enum weir_tls_probe what = entries ? probes[i].probe : WEIR_TLS_RETURN;
			int link;

			if (!at[i].offset || (!entries && !probes[i].returns))
				continue;
			if (send2 && !strcmp(at[i].name, "gnutls_record_send"))
				continue;
			link = probe_set(t, fd, at[i].offset, !entries, (uint64_t)what << WEIR_TLS_PROBE_SHIFT | library);
			if (link < 0) {
				file_drop(f);
				return link;
			}
			f->link[f->links++] = link;
		}
	return 0;
}

static bool has(const struct tls_symbol *at, const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(probes); i++)
		if (!strcmp(at[i].name, name))
			return at[i].offset != 0;
	return false;
}

/* What an executable without names that we know has inside. Read in whole, so only for a server's own program. */
static enum tls_kind kind_of_rest(int fd, const struct tls_elf *elf)
{
	if (elf->go)
		return TLS_GO;
	if (tls_elf_mentions(fd, SPAN("rustls/src/")) || tls_elf_mentions(fd, SPAN("/rustls-0.")))
		return TLS_RUSTLS;
	/* of OpenSSL's version text, and of BoringSSL's sources */
	if (tls_elf_mentions(fd, SPAN("OpenSSL 1.1.")) || tls_elf_mentions(fd, SPAN("OpenSSL 3.")) || tls_elf_mentions(fd, SPAN("boringssl/")))
		return TLS_STRIPPED;
	return TLS_NOTHING;
}

static enum tls_kind kind_of(int fd, bool program, struct tls_symbol at[ARRAY_SIZE(probes)])
{
	struct tls_elf elf = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(probes); i++)
		at[i] = (struct tls_symbol){ .name = probes[i].symbol };
	if (tls_elf_read(fd, at, ARRAY_SIZE(probes), &elf) < 0)
		return TLS_NOTHING;
	if (has(at, "SSL_read") && has(at, "SSL_write"))
		return TLS_OPENSSL;
	if (has(at, "gnutls_record_recv") && (has(at, "gnutls_record_send") || has(at, "gnutls_record_send2")))
		return TLS_GNUTLS;
	return program ? kind_of_rest(fd, &elf) : TLS_NOTHING;
}

static void file_tell(struct tls *t, struct file *f, int pid, int error, struct span path)
{
	char text[256];
	const struct tls_found found = { .pid = pid, .kind = f->kind, .error = error, .path = text };

	if (f->told || f->kind == TLS_NOTHING)
		return;
	f->told = true;
	snprintf(text, sizeof(text), "%.*s", (int)MIN(path.n, sizeof(text) - 1), path.p);
	t->found(t->ctx, &found);
}

static bool is_probed_kind(enum tls_kind k)
{
	return k == TLS_OPENSSL || k == TLS_GNUTLS;
}

/* Looks at one file, once. 1: probes were set now; 0: it is known. */
static int file_scan(struct tls *t, int pid, int fd, bool program, struct span path, struct file **ret)
{
	struct tls_symbol at[ARRAY_SIZE(probes)];
	struct stat st;
	int r = 0;
	struct file *f;

	if (fstat(fd, &st) < 0)
		return -errno;
	for (size_t i = 0; i < t->file_count; i++) {
		f = t->files[i];
		if (f->dev == st.st_dev && f->inode == st.st_ino && f->changed.tv_sec == st.st_mtim.tv_sec && f->changed.tv_nsec == st.st_mtim.tv_nsec) {
			*ret = f;
			return 0;
		}
	}
	if (t->file_count == TLS_FILES_MAX)
		return -E2BIG;
	f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	f->dev = st.st_dev;
	f->inode = st.st_ino;
	f->changed = st.st_mtim;
	f->kind = kind_of(fd, program, at);
	t->files[t->file_count++] = f;
	if (is_probed_kind(f->kind)) {
		r = file_probe(t, f, fd, at, t->file_count);
		file_tell(t, f, pid, r, path);
	}
	t->probed += f->links > 0;
	*ret = f;
	return f->links > 0;
}

/* ---- processes -------------------------------------------------------------------------------------- */

/* By their names: a process maps hundreds of files. */
static bool may_hold_tls(struct span path)
{
	static const struct span names[] = { { "libssl", 6 }, { "libgnutls", 9 }, { "libnode.so", 10 }, { "boringssl", 9 } };
	const char *slash = memrchr(path.p, '/', path.n);
	struct span base = { slash ? slash + 1 : path.p, slash ? path.n - (size_t)(slash + 1 - path.p) : path.n };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (memmem(base.p, base.n, names[i].p, names[i].n))
			return true;
	return false;
}

struct maps {
	FILE *f;
	char exe[4096];
	size_t exe_len, read;
	char line[4096 + 256];
};

static int maps_open(int pid, struct maps *m)
{
	char name[64];
	ssize_t n;

	snprintf(name, sizeof(name), "/proc/%d/exe", pid);
	n = readlink(name, m->exe, sizeof(m->exe));
	m->exe_len = n > 0 ? (size_t)n : 0;
	if (n > 10 && !memcmp(m->exe + n - 10, " (deleted)", 10))
		m->exe_len -= 10;
	m->read = 0;
	snprintf(name, sizeof(name), "/proc/%d/maps", pid);
	m->f = fopen(name, "re");
	return m->f ? 0 : errno == ENOENT ? -ESRCH : -errno;
}

/* The next file that may hold TLS code; false: no more. */
static bool maps_next(struct maps *m, struct tls_mapping *ret, bool *ret_program)
{
	while (m->read < MAPS_MAX && fgets(m->line, sizeof(m->line), m->f)) {
		size_t n = strcspn(m->line, "\n");

		m->read += n;
		if (tls_parse_mapping((struct span){ m->line, n }, ret) != 1)
			continue;
		*ret_program = span_eq(ret->path, (struct span){ m->exe, m->exe_len });
		if (*ret_program || may_hold_tls(ret->path))
			return true;
	}
	return false;
}

int tls_scan_pid(struct tls *t, int pid)
{
	CLEANUP(freep) struct maps *m = malloc(sizeof(*m));
	struct tls_mapping at;
	struct file *f = NULL, *own = NULL; /* own: the program itself */
	uint32_t key = (uint32_t)pid;
	bool program, covered = false;
	uint8_t yes = 1;
	int r, new = 0;

	if (!m)
		return -ENOMEM;
	r = maps_open(pid, m);
	if (r < 0)
		return r;
	while (maps_next(m, &at, &program)) {
		CLEANUP(closep) int fd = tls_open_mapping(pid, &at);

		if (fd < 0)
			continue; /* replaced meanwhile, or unreadable */
		r = file_scan(t, pid, fd, program, at.path, &f);
		if (r < 0)
			continue;
		new += r;
		covered |= f->links > 0;
		if (program)
			own = f;
	}
	fclose(m->f);
	if (covered && (r = bpf_map_update_elem(t->pids_fd, &key, &yes, BPF_ANY)) < 0)
		return r;
	/* A program that names OpenSSL and has it as a library is none that has it inside. */
	if (own && !covered)
		file_tell(t, own, pid, 0, (struct span){ m->exe, m->exe_len });
	return new;
}

struct listener_scan {
	struct tls *t;
	int new;
};

static bool port_watched(void *ctx, uint16_t port)
{
	return capture_watched(((struct listener_scan *)ctx)->t->capture, port);
}

static void listener_found(void *ctx, int pid)
{
	struct listener_scan *s = ctx;
	int r = tls_scan_pid(s->t, pid);

	s->new += r > 0 ? r : 0;
}

int tls_scan_listeners(struct tls *t)
{
	struct listener_scan s = { .t = t };
	int r = tls_find_listeners(port_watched, listener_found, &s);

	return r < 0 ? r : s.new;
}

/* ---- while it runs ---------------------------------------------------------------------------------- */
void tls_pause(struct tls *t, bool pause)
{
	__atomic_store_n(&t->capture->control->tls_off, pause, __ATOMIC_RELAXED);
}

static bool is_gone(uint32_t pid)
{
	return kill((pid_t)pid, 0) < 0 && errno == ESRCH;
}

/* The next key of a table in its own order, from where the last call stopped. The one before it may be deleted by then. */
static bool next_key(int fd, void *at, bool *on, size_t size)
{
	unsigned char next[sizeof(struct weir_tls_key)];

	if (bpf_map_get_next_key(fd, *on ? at : NULL, next) < 0) {
		*on = false;
		return false;
	}
	memcpy(at, next, size);
	*on = true;
	return true;
}

void tls_age(struct tls *t, uint64_t now_ns, uint64_t idle_ns)
{
	struct weir_tls_object o;
	struct weir_tls_key dead;

	if (t->call_fd < 0)
		return;
	for (int i = 0; i < AGE_AT_ONCE && next_key(t->objects_fd, &t->object_at, &t->object_on, sizeof(t->object_at)); i++) {
		if (bpf_map_lookup_elem(t->objects_fd, &t->object_at, &o) < 0)
			continue;
		dead = t->object_at;
		if (o.last_ns + idle_ns < now_ns || is_gone(dead.tgid))
			bpf_map_delete_elem(t->objects_fd, &dead);
	}
	for (int i = 0; i < AGE_AT_ONCE && next_key(t->threads_fd, &t->thread_at, &t->thread_on, sizeof(t->thread_at)); i++)
		if (is_gone((uint32_t)t->thread_at))
			bpf_map_delete_elem(t->threads_fd, &t->thread_at);
	for (int i = 0; i < AGE_AT_ONCE && next_key(t->pids_fd, &t->pid_at, &t->pid_on, sizeof(t->pid_at)); i++)
		if (is_gone(t->pid_at))
			bpf_map_delete_elem(t->pids_fd, &t->pid_at);
}

size_t tls_files(const struct tls *t)
{
	return t->probed;
}

const char *tls_sockets(const struct tls *t)
{
	return t->sockets;
}
