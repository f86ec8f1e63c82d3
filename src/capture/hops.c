#include "capture/hops.h"

#include "capture/hops_past.h"
#include "capture/procfs.h"
#include "weir/hops.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <linux/bpf.h>

#include "hops.skel.h"

struct owner {
	uint32_t pid, netns;
	uint16_t port;
};

struct hops {
	int conns_fd, owner_fd, ports_fd, link_fd;
	struct owner owner[WEIR_HOP_OWNERS]; /* in no order: a host has a few */
	size_t owners;
};

static int fd_keep(int fd)
{
	int r = fd < 0 ? fd : fcntl(fd, F_DUPFD_CLOEXEC, 3);

	return fd >= 0 && r < 0 ? -errno : r;
}

static int take_over(struct hops *h, struct bpf_object *obj, const char *cgroup_mount)
{
	CLEANUP(closep) int dir = open(cgroup_mount, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct bpf_program *p = bpf_object__find_program_by_name(obj, "on_sock_ops");

	if (dir < 0)
		return -errno;
	if (!p)
		return -EINVAL;
	if ((h->conns_fd = fd_keep(bpf_object__find_map_fd_by_name(obj, "weir_hops"))) < 0)
		return h->conns_fd;
	if ((h->owner_fd = fd_keep(bpf_object__find_map_fd_by_name(obj, "weir_hop_owner"))) < 0)
		return h->owner_fd;
	if ((h->ports_fd = fd_keep(bpf_object__find_map_fd_by_name(obj, "weir_hop_ports"))) < 0)
		return h->ports_fd;
	h->link_fd = bpf_link_create(bpf_program__fd(p), dir, BPF_CGROUP_SOCK_OPS, NULL);
	return h->link_fd < 0 ? h->link_fd : 0;
}

int hops_open(const char *cgroup_mount, struct hops **ret)
{
	LIBBPF_OPTS(bpf_object_open_opts, opts, .object_name = "weir");
	struct hops *h = calloc(1, sizeof(*h));
	struct bpf_object *obj;
	const void *bytes;
	size_t size;
	int r;

	if (!h)
		return -ENOMEM;
	h->conns_fd = h->owner_fd = h->ports_fd = h->link_fd = -1;
	bytes = hops_bpf__elf_bytes(&size);
	obj = bpf_object__open_mem(bytes, size, &opts);
	r = obj ? bpf_object__load(obj) : -errno;
	if (r == -EINVAL || r == -EACCES)
		r = -EOPNOTSUPP; /* the verifier's way to refuse */
	if (r == 0)
		r = take_over(h, obj, cgroup_mount);
	bpf_object__close(obj);
	if (r < 0) {
		hops_free(h);
		return r;
	}
	*ret = h;
	return 0;
}

struct hops *hops_free(struct hops *h)
{
	if (!h)
		return NULL;
	closep(&h->link_fd);
	closep(&h->conns_fd);
	closep(&h->owner_fd);
	closep(&h->ports_fd);
	free(h);
	return NULL;
}

void hops_watch(struct hops *h, uint16_t port, bool on)
{
	uint32_t word = port / 64;
	uint64_t bits = 0, bit = UINT64_C(1) << (port & 63);

	if (!h || bpf_map_lookup_elem(h->ports_fd, &word, &bits) < 0)
		return;
	bits = on ? bits | bit : bits & ~bit;
	bpf_map_update_elem(h->ports_fd, &word, &bits, BPF_ANY);
}

static size_t owner_find(const struct hops *h, uint32_t pid, uint32_t netns, uint16_t port)
{
	size_t i = 0;

	while (i < h->owners && (h->owner[i].pid != pid || h->owner[i].netns != netns || h->owner[i].port != port))
		i++;
	return i;
}

int hops_own(struct hops *h, uint32_t pid, uint32_t netns, uint16_t port)
{
	const uint32_t one = 1;
	int r;

	/* Process 1 holds sockets for others (socket activation), and is everybody's parent. */
	if (!h || pid <= 1 || owner_find(h, pid, netns, port) < h->owners)
		return 0;
	if (h->owners == WEIR_HOP_OWNERS)
		return -ENOSPC;
	r = bpf_map_update_elem(h->owner_fd, &pid, &one, BPF_ANY);
	if (r < 0)
		return r == -E2BIG ? -ENOSPC : r;
	h->owner[h->owners++] = (struct owner){ pid, netns, port };
	return 0;
}

void hops_disown(struct hops *h, uint32_t pid, uint32_t netns, uint16_t port)
{
	size_t i = h ? owner_find(h, pid, netns, port) : 0;

	if (!h || i == h->owners)
		return;
	h->owner[i] = h->owner[--h->owners];
	for (i = 0; i < h->owners; i++)
		if (h->owner[i].pid == pid)
			return;
	bpf_map_delete_elem(h->owner_fd, &pid);
}

struct looking {
	const struct hops *h;
	const struct owner *owner;
};

static void was_there(void *ctx, const struct weir_conn_key *conn)
{
	const struct looking *l = ctx;
	const struct weir_hop hop = { .tgid = l->owner->pid };
	struct weir_conn_key k = *conn;
	uint32_t word = k.lport / 64;
	uint64_t bits = 0;

	if (bpf_map_lookup_elem(l->h->ports_fd, &word, &bits) < 0 || !(bits >> (k.lport & 63) & 1))
		return;
	k.netns = weir_is_loopback(k.raddr) ? l->owner->netns : 0;
	bpf_map_update_elem(l->h->conns_fd, &k, &hop, BPF_NOEXIST);
}

void hops_look_back(struct hops *h)
{
	for (size_t i = 0; h && i < h->owners; i++) {
		struct looking l = { h, &h->owner[i] };

		if (i && h->owner[i - 1].pid == h->owner[i].pid)
			continue; /* it holds several ports */
		hops_past(l.owner->pid, was_there, &l);
	}
}

/* Where the client's address is no loopback address, what is remembered does not say the listener's namespace. */
static bool is_called(const struct owner *o, const struct weir_conn_key *conn)
{
	return o->port == conn->lport && (o->netns == conn->netns || !conn->netns);
}

/* A watched listener of this process, other than the one that it has called. */
static bool owner_of(const struct hops *h, uint32_t pid, const struct weir_conn_key *conn, struct hop *ret)
{
	const struct owner *best = NULL;

	for (const struct owner *o = h->owner; o < h->owner + h->owners; o++)
		if (o->pid == pid && !is_called(o, conn) && (!best || o->port < best->port))
			best = o;
	if (best)
		*ret = (struct hop){ .netns = best->netns, .port = best->port };
	return best != NULL;
}

/* A server that calls itself (a warm-up, a health check) is nobody's inner hop, whatever other sockets it holds. */
static bool owns_itself(const struct hops *h, const struct weir_hop *hop, const struct weir_conn_key *conn)
{
	for (const struct owner *o = h->owner; o < h->owner + h->owners; o++)
		if ((o->pid == hop->tgid || o->pid == hop->parent) && is_called(o, conn))
			return true;
	return false;
}

static bool judge(const struct hops *h, const struct weir_hop *hop, const struct weir_conn_key *conn, struct hop *ret)
{
	struct hop found;

	if (owns_itself(h, hop, conn) || !(owner_of(h, hop->tgid, conn, &found) || owner_of(h, hop->parent, conn, &found)))
		return false;
	found.pid = hop->tgid;
	*ret = found;
	return true;
}

bool hops_inner(const struct hops *h, const struct weir_conn_key *conn, struct hop *ret)
{
	struct weir_conn_key k = *conn;
	struct weir_hop hop;

	if (!h || !h->owners)
		return false;
	if (!weir_is_loopback(k.raddr))
		k.netns = 0;
	if (bpf_map_lookup_elem(h->conns_fd, &k, &hop) < 0) {
		if (k.netns)
			return false;
		memset(k.laddr, 0, sizeof(k.laddr));
		k.lport = 0;
		if (bpf_map_lookup_elem(h->conns_fd, &k, &hop) < 0)
			return false;
	}
	return judge(h, &hop, conn, ret);
}

bool hops_inner_of(const struct hops *h, const struct weir_conn_key *conn, uint32_t pid, struct hop *ret)
{
	struct weir_hop hop = { .tgid = pid };
	char name[32], text[512];
	int ppid = 0;
	ssize_t n;

	if (!h || !h->owners || pid <= 1)
		return false;
	snprintf(name, sizeof(name), "/proc/%u/stat", pid);
	CLEANUP(closep) int fd = open(name, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? 0 : read(fd, text, sizeof(text));
	if (n > 0 && procfs_parse_ppid((struct span){ text, (size_t)n }, &ppid) == 0 && ppid > 1)
		hop.parent = (uint32_t)ppid;
	return judge(h, &hop, conn, ret);
}

void hops_each(const struct hops *h, void (*tell)(void *ctx, const struct weir_conn_key *conn, const struct hop *hop), void *ctx)
{
	struct weir_conn_key k, next;
	struct weir_hop value;
	struct hop hop;
	bool first = true;

	if (!h || !h->owners)
		return;
	/* Bounded: the table may change under us, and a key that went sends the walk back to its start. */
	for (int i = 0; i < WEIR_HOPS_MAX && bpf_map_get_next_key(h->conns_fd, first ? NULL : &k, &next) == 0; i++) {
		first = false;
		k = next;
		if (k.lport && bpf_map_lookup_elem(h->conns_fd, &k, &value) == 0 && judge(h, &value, &k, &hop))
			tell(ctx, &k, &hop);
	}
}
