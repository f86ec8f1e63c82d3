#include "capture/uds.h"

#include "capture/capture_internal.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>

#include "unix.skel.h"

#define AGE_AT_ONCE 512 /* as in tls.c */

/* The order in which they are attached: ends before bytes, so that no connection is met whose end is not. */
static const char *const hooks[] = { "on_unix_recv", "on_unix_send", "on_unix_copy" };

struct uds {
	int paths_fd, socks_fd;
	int link[ARRAY_SIZE(hooks)];
	uint64_t at; /* where ageing goes on */
	bool on;
};

static int map_keep(struct bpf_object *obj, const char *name, int *ret)
{
	int fd = bpf_object__find_map_fd_by_name(obj, name), r;

	r = fd < 0 ? fd : fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (r < 0)
		return fd < 0 ? fd : -errno;
	*ret = r;
	return 0;
}

static int take_over(struct uds *u, struct bpf_object *obj)
{
	int r;

	if ((r = map_keep(obj, "weir_unix_paths", &u->paths_fd)) < 0 || (r = map_keep(obj, "weir_unix_socks", &u->socks_fd)) < 0)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(hooks); i++) {
		const struct bpf_program *p = bpf_object__find_program_by_name(obj, hooks[i]);

		u->link[i] = p ? bpf_raw_tracepoint_open(NULL, bpf_program__fd(p)) : -ENOENT;
		if (u->link[i] < 0)
			return u->link[i];
	}
	return 0;
}

int uds_open(const struct capture *c, struct uds **ret)
{
	LIBBPF_OPTS(bpf_object_open_opts, opts, .object_name = "weir_unix");
	struct bpf_object *obj;
	struct uds *u;
	const void *bytes;
	size_t size;
	int r;

	/* Asked first: the verifier would read the whole meter before libbpf misses them. */
	if (capture_inexact(c) || c->automaton_fd < 0 || libbpf_find_vmlinux_btf_id("skb_copy_datagram_iovec", BPF_TRACE_RAW_TP) < 0 ||
	    libbpf_find_vmlinux_btf_id("sock_recv_length", BPF_TRACE_RAW_TP) < 0)
		return -EOPNOTSUPP;
	u = calloc(1, sizeof(*u));
	if (!u)
		return -ENOMEM;
	u->paths_fd = u->socks_fd = -1;
	for (size_t i = 0; i < ARRAY_SIZE(hooks); i++)
		u->link[i] = -1;
	bytes = unix_bpf__elf_bytes(&size);
	obj = bpf_object__open_mem(bytes, size, &opts);
	r = obj ? capture_share(c, obj) : -errno;
	if (r == 0)
		r = bpf_object__load(obj);
	if (r == -EACCES || r == -EINVAL || r == -E2BIG)
		r = -EOPNOTSUPP; /* the verifier's way to refuse */
	if (r == 0)
		r = take_over(u, obj);
	bpf_object__close(obj);
	capture_loaded(bytes, size);
	if (r < 0) {
		uds_free(u);
		return r;
	}
	*ret = u;
	return 0;
}

struct uds *uds_free(struct uds *u)
{
	if (!u)
		return NULL;
	for (size_t i = ARRAY_SIZE(hooks); i-- > 0;)
		closep(&u->link[i]);
	closep(&u->paths_fd);
	closep(&u->socks_fd);
	free(u);
	return NULL;
}

int uds_watch(struct uds *u, const char *path, uint32_t number)
{
	struct weir_unix_path key = { 0 };
	size_t n = strlen(path);

	if (!n || n >= sizeof(key.name))
		return -EINVAL;
	memcpy(key.name, path, n);
	if (*path == '@')
		key.name[0] = '\0';
	if (bpf_map_update_elem(u->paths_fd, &key, &number, BPF_ANY) == 0)
		return 0;
	return errno == E2BIG ? -ENOSPC : -errno;
}

void uds_age(struct uds *u, uint64_t now_ns, uint64_t idle_ns)
{
	struct weir_unix_sock s;
	uint64_t next;

	if (!u)
		return;
	for (int i = 0; i < AGE_AT_ONCE; i++) {
		if (bpf_map_get_next_key(u->socks_fd, u->on ? &u->at : NULL, &next) < 0) {
			u->on = false;
			return;
		}
		u->at = next;
		u->on = true;
		if (bpf_map_lookup_elem(u->socks_fd, &next, &s) == 0 && s.last_ns + idle_ns < now_ns)
			bpf_map_delete_elem(u->socks_fd, &next);
	}
}
