#include "capture/tls.h"

#include "base/log.h"
#include "capture/capture_internal.h"
#include "capture/tls_internal.h"
#include "capture/uprobe.h"
#include "weir/conn.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <signal.h>

#include "tls.skel.h"
#include "tls_fast.skel.h"

#define AGE_AT_ONCE 512   /* entries looked at per table and call of tls_age() */

/* ---- loading ---------------------------------------------------------------------------------------- */
static const struct socket_hook {
	const char *name, *send, *recv; /* programs */
} socket_hooks[] = {
	{ "tp_btf", "on_sock_send", "on_sock_recv" },
	{ "fexit", "on_tcp_send", "on_tcp_recv" },
};

static int object_prepare(struct bpf_object *obj, const struct capture *c, const struct socket_hook *hook)
{
	struct bpf_program *p;
	int r = capture_share(c, obj);

	if (r < 0)
		return r;
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

/* While no library has probes they return at their first test (weir_control.tls_on): later there is no privilege to attach them. */
static int sockets_attach(struct tls *t, struct bpf_object *obj, const struct socket_hook *hook)
{
	const char *names[2] = { hook->send, hook->recv };
	int r = 0;

	for (int i = 0; i < 2 && r == 0; i++) {
		t->socket_link[i] = bpf_raw_tracepoint_open(NULL, program_fd(obj, names[i]));
		r = MIN(t->socket_link[i], 0);
	}
	for (int i = 0; i < 2 && r < 0; i++)
		close_fd(&t->socket_link[i]);
	t->sockets = hook->name;
	return r;
}

static int variant_load(struct tls *t, const void *bytes, size_t size, const struct socket_hook *hook)
{
	LIBBPF_OPTS(bpf_object_open_opts, opts, .object_name = "weir_tls");
	struct bpf_object *obj = bpf_object__open_mem(bytes, size, &opts);
	int r;

	if (!obj)
		return -errno;
	r = object_prepare(obj, t->capture, hook);
	if (r == 0)
		r = bpf_object__load(obj);
	if (r == 0)
		r = sockets_attach(t, obj, hook);
	if (r == 0 && ((r = fd_of(program_fd(obj, "on_tls_call"), &t->call_fd)) < 0 ||
		       (r = fd_of(bpf_object__find_map_fd_by_name(obj, "weir_tls_objs"), &t->objects_fd)) < 0 ||
		       (r = fd_of(bpf_object__find_map_fd_by_name(obj, "weir_tls_thrds"), &t->threads_fd)) < 0 ||
		       (r = fd_of(bpf_object__find_map_fd_by_name(obj, "weir_tls_pids"), &t->pids_fd)) < 0))
		log_debug("TLS hook: no descriptors left");
	bpf_object__close(obj);
	return r;
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
	capture_loaded(bytes, size);
	return t->refused = r;
}

int tls_file_add(struct tls *t, struct tls_file **ret)
{
	struct tls_file *f;

	if (t->file_count == TLS_FILES_MAX)
		return -E2BIG;
	f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	t->files[t->file_count++] = f;
	f->number = t->file_count;
	*ret = f;
	return 0;
}

void tls_file_drop(struct tls_file *f)
{
	for (size_t i = f->links; i > 0; i--)
		close(f->link[i - 1]); /* entries first: a call whose end is awaited has a probe on its end */
	f->links = 0;
}

uint64_t tls_cookie(const struct tls_file *f, enum weir_tls_probe probe)
{
	return (uint64_t)probe << WEIR_TLS_PROBE_SHIFT | f->number;
}

void tls_file_done(struct tls *t)
{
	t->probed++;
	__atomic_store_n(&t->capture->control->tls_on, 1, __ATOMIC_RELAXED);
}

struct tls *tls_free(struct tls *t)
{
	if (!t)
		return NULL;
	for (size_t i = 0; i < t->file_count; i++) {
		tls_file_drop(t->files[i]);
		free(t->files[i]);
	}
	for (int i = 0; i < 2; i++)
		closep(&t->socket_link[i]);
	closep(&t->call_fd);
	closep(&t->objects_fd);
	closep(&t->threads_fd);
	closep(&t->pids_fd);
	free(t->look);
	free(t);
	return NULL;
}

/* ---- probes ----------------------------------------------------------------------------------------- */
int tls_probe_set(struct tls *t, int file_fd, uint64_t offset, bool returns, uint64_t cookie)
{
	return uprobe_link(t->uprobe_type, t->call_fd, file_fd, offset, returns, cookie);
}

/* A file gets all of its probes or none. */
static int file_probe(void *ctx, const struct tls_seen *s)
{
	struct tls_step step[TLS_STEPS];
	size_t n = tls_steps(s->offset, step);
	struct tls_file *f;
	struct tls *t = ctx;
	int r = tls_load(t);

	if (r < 0)
		return r;
	r = tls_file_add(t, &f);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n && r == 0; i++) {
		int link = tls_probe_set(t, s->fd, step[i].offset, step[i].probe == WEIR_TLS_RETURN, tls_cookie(f, step[i].probe));

		if (link < 0)
			r = link;
		else
			f->link[f->links++] = link;
	}
	if (r < 0)
		tls_file_drop(f);
	else
		tls_file_done(t);
	return r;
}

void tls_tell(struct tls *t, int pid, enum tls_kind kind, int error, struct span path)
{
	char text[256];
	const struct tls_found found = { .pid = pid, .kind = kind, .error = error, .path = text };

	snprintf(text, sizeof(text), "%.*s", (int)MIN(path.n, sizeof(text) - 1), path.p);
	t->found(t->ctx, &found);
}

static void file_tell(void *ctx, const struct tls_seen *s, int error)
{
	tls_tell(ctx, s->pid, s->kind, error, s->path);
}

int tls_open(struct capture *c, tls_found_fn *found, void *ctx, struct tls **ret)
{
	struct tls *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->capture = c;
	t->found = found;
	t->ctx = ctx;
	t->look = calloc(1, sizeof(*t->look));
	if (!t->look) {
		free(t);
		return -ENOMEM;
	}
	t->look->probe = file_probe;
	t->look->tell = file_tell;
	t->look->ctx = t;
	t->call_fd = t->objects_fd = t->threads_fd = t->pids_fd = t->socket_link[0] = t->socket_link[1] = -1;
	*ret = t;
	return 0;
}

/* ---- processes -------------------------------------------------------------------------------------- */
int tls_watch(struct tls *t, int pid)
{
	uint32_t key = (uint32_t)pid;
	uint8_t yes = 1;

	return bpf_map_update_elem(t->pids_fd, &key, &yes, BPF_ANY);
}

int tls_scan_pid(struct tls *t, int pid)
{
	int new = 0, r = tls_look_pid(t->look, pid, &new);

	if (r > 0)
		r = tls_watch(t, pid);
	return r < 0 ? r : new;
}

struct listener_scan {
	struct tls *t;
	int new;
};

bool tls_port_watched(const struct tls *t, uint16_t port)
{
	return capture_watched(t->capture, port);
}

static bool port_watched(void *ctx, uint16_t port)
{
	return tls_port_watched(((struct listener_scan *)ctx)->t, port);
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
