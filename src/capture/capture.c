#include "capture/capture.h"

#include "base/log.h"
#include "capture/capture_internal.h"
#include "capture/cgroup.h"
#include "capture/probe.h"
#include "weir/conn.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <malloc.h>
#include <sys/mman.h>
#include <time.h>

#include "meter.skel.h"
#include "meter_fast.skel.h"
#include "tap.skel.h"

/* The best first. Which one the kernel takes is found by trying. */
static const struct variant {
	const char *name;
	const void *(*bytes)(size_t *ret_size);
	bool soft; /* segments come up, the meter runs in user space */
} variants[] = {
	{ "may_goto", meter_fast_bpf__elf_bytes, false },
	{ "bpf_loop", meter_bpf__elf_bytes, false },
	{ "tap", tap_bpf__elf_bytes, true },
};

#define LOAD_TRIES 3 /* the verifier gives up at a signal, without a verdict */

static const char *const program_name[2] = { [WEIR_REQUEST] = "on_ingress", [WEIR_RESPONSE] = "on_egress" };
static const enum bpf_attach_type attach_type[2] = { [WEIR_REQUEST] = BPF_CGROUP_INET_INGRESS, [WEIR_RESPONSE] = BPF_CGROUP_INET_EGRESS };

void capture_loaded(const void *object_bytes, size_t size)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = ((uintptr_t)object_bytes + page - 1) & ~(page - 1), to = ((uintptr_t)object_bytes + size) & ~(page - 1);

	if (from < to)
		madvise((void *)from, to - from, MADV_DONTNEED); /* a wish: pages of a file that nothing was written to */
	malloc_trim(0);
}

uint64_t capture_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* A refused variant is expected on an older kernel, so libbpf's warnings are for those who debug. */
__attribute__((format(printf, 2, 0))) static int libbpf_log(enum libbpf_print_level level, const char *fmt, va_list ap)
{
	char line[512];
	int n;

	if (level == LIBBPF_DEBUG || log_level() < LOG_DEBUG)
		return 0;
	n = vsnprintf(line, sizeof(line), fmt, ap);
	if (n > 0) {
		line[strcspn(line, "\n")] = '\0';
		log_debug("%s", line);
	}
	return n;
}

/* ---- load-time settings ---------------------------------------------------------------------------- */

void *capture_variable(struct bpf_object *obj, const char *section, const char *name, size_t size)
{
	const struct btf *btf = bpf_object__btf(obj);
	struct bpf_map *map = bpf_object__find_map_by_name(obj, section);
	const struct btf_var_secinfo *v;
	const struct btf_type *t;
	size_t map_size;
	char *base;
	int id;

	if (!btf || !map)
		return NULL;
	base = (char *)bpf_map__initial_value(map, &map_size);
	id = btf__find_by_name_kind(btf, section, BTF_KIND_DATASEC);
	if (!base || id < 0)
		return NULL;
	t = btf__type_by_id(btf, (__u32)id);
	v = btf_var_secinfos(t);
	for (int i = 0; i < btf_vlen(t); i++, v++) {
		const struct btf_type *var = btf__type_by_id(btf, v->type);

		if (strcmp(btf__name_by_offset(btf, var->name_off), name))
			continue;
		return v->size == size && v->offset <= map_size - size ? base + v->offset : NULL;
	}
	return NULL;
}

int capture_set_variable(struct bpf_object *obj, const char *section, const char *name, const void *value, size_t size)
{
	void *p = capture_variable(obj, section, name, size);

	if (!p)
		return -EINVAL;
	memcpy(p, value, size);
	return 0;
}

static uint32_t ring_size(uint32_t asked)
{
	uint32_t page = (uint32_t)sysconf(_SC_PAGESIZE), n = page;

	while (n < asked && n < CAPTURE_RING_MAX)
		n *= 2;
	return n;
}

static int object_configure(struct bpf_object *obj, const struct variant *v, const struct capture_opts *o, uint32_t ring_bytes)
{
	uint32_t prefix = o->v6_prefix ? o->v6_prefix : 64;
	uint32_t clients = o->max_clients ? o->max_clients : CAPTURE_CLIENTS_DEFAULT;
	uint32_t conns = o->max_conns ? o->max_conns : CAPTURE_CONNS_DEFAULT;
	uint64_t ring = ring_bytes;
	bool blind = o->prompt_blind;
	const struct {
		const char *map;
		uint32_t entries;
	} sizes[] = { { "weir_clients", clients }, { "weir_conns", v->soft ? 1 : conns }, { "weir_ring", ring_bytes } };
	int r;

	if ((r = capture_set_variable(obj, ".rodata", "cfg_cgroup_id", &o->cgroup_id, sizeof(o->cgroup_id))) < 0)
		return r;
	if (!v->soft &&
	    ((r = capture_set_variable(obj, ".rodata", "cfg_prompt_blind", &blind, sizeof(blind))) < 0 ||
	    (r = capture_set_variable(obj, ".rodata", "cfg_v6_prefix", &prefix, sizeof(prefix))) < 0 ||
	    (r = capture_set_variable(obj, ".rodata", "cfg_ring_bytes", &ring, sizeof(ring))) < 0 ||
	    (r = capture_set_variable(obj, ".rodata.automaton", "weir_automaton", o->automaton, sizeof(*o->automaton))) < 0))
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct bpf_map *map = bpf_object__find_map_by_name(obj, sizes[i].map);

		if (!map)
			return -EINVAL;
		r = bpf_map__set_max_entries(map, sizes[i].entries);
		if (r < 0)
			return r;
	}
	return 0;
}

static int variant_load(const struct variant *v, const struct capture_opts *o, uint32_t ring_bytes, struct bpf_object **ret)
{
	LIBBPF_OPTS(bpf_object_open_opts, open_opts, .object_name = "weir");
	struct bpf_object *obj;
	const void *bytes;
	size_t size;
	int r;

	bytes = v->bytes(&size);
	obj = bpf_object__open_mem(bytes, size, &open_opts);
	if (!obj)
		return -errno;
	r = object_configure(obj, v, o, ring_bytes);
	if (r == 0)
		r = bpf_object__load(obj);
	if (r < 0) {
		bpf_object__close(obj);
		return r;
	}
	*ret = obj;
	return 0;
}

/* ---- other objects that share the maps ------------------------------------------------------------- */
static const struct shared {
	const char *map;
	size_t fd; /* in struct capture */
} shared[] = {
	{ "weir_conns", offsetof(struct capture, conns_fd) },	  { "weir_clients", offsetof(struct capture, clients_fd) },
	{ "weir_others", offsetof(struct capture, others_fd) },	  { "weir_stats", offsetof(struct capture, stats_fd) },
	{ "weir_local_addrs", offsetof(struct capture, addrs_fd) }, { "weir_ring", offsetof(struct capture, ring_fd) },
	{ ".bss", offsetof(struct capture, bss_fd) },		  { ".rodata.automaton", offsetof(struct capture, automaton_fd) },
};

/* The same variables at the same places, or the shared memory would be misread. */
static bool same_layout(struct bpf_object *obj, const struct capture *c)
{
	const char *control = capture_variable(obj, ".bss", "weir_control", sizeof(struct weir_control));
	struct bpf_map *bss = bpf_object__find_map_by_name(obj, ".bss");
	size_t size;
	const char *base = bss ? bpf_map__initial_value(bss, &size) : NULL;

	return control && base && control - base == (const char *)c->control - (const char *)c->bss;
}

int capture_share(const struct capture *c, struct bpf_object *obj)
{
	uint64_t ring = c->ring_bytes;
	int r;

	if (!same_layout(obj, c))
		return -EINVAL;
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
	return 0;
}

/* ---- descriptors that outlive libbpf's object, which costs megabytes -------------------------------- */
static int fd_keep(int fd)
{
	int r = fcntl(fd, F_DUPFD_CLOEXEC, 3);

	return r < 0 ? -errno : r;
}

static int map_keep(struct bpf_object *obj, const char *name, int *ret)
{
	int fd = bpf_object__find_map_fd_by_name(obj, name);

	fd = fd < 0 ? fd : fd_keep(fd);
	if (fd < 0)
		return fd;
	*ret = fd;
	return 0;
}

static uint64_t map_memory(int fd)
{
	char name[64], line[256];
	unsigned long long n = 0;
	FILE *f;

	snprintf(name, sizeof(name), "/proc/self/fdinfo/%d", fd);
	f = fopen(name, "re");
	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "memlock: %llu", &n) == 1)
			break;
	fclose(f);
	return n;
}

static int control_map(struct capture *c, struct bpf_object *obj)
{
	struct bpf_map *bss = bpf_object__find_map_by_name(obj, ".bss");
	size_t page = (size_t)sysconf(_SC_PAGESIZE), size;
	char *initial, *where;

	where = capture_variable(obj, ".bss", "weir_control", sizeof(struct weir_control));
	if (!bss || !where)
		return -EINVAL;
	initial = (char *)bpf_map__initial_value(bss, &size);
	c->bss_size = (size + page - 1) / page * page;
	c->bss = mmap(NULL, c->bss_size, PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(bss), 0);
	if (c->bss == MAP_FAILED) {
		c->bss = NULL;
		return -errno;
	}
	c->control = (struct weir_control *)((char *)c->bss + (where - initial));
	return 0;
}

static int object_keep(struct capture *c, struct bpf_object *obj)
{
	const uint32_t *abi = capture_variable(obj, ".rodata", "cfg_abi", sizeof(*abi));
	struct bpf_map *map, *conns, *clients;
	int r;

	if ((r = map_keep(obj, "weir_conns", &c->conns_fd)) < 0 || (r = map_keep(obj, "weir_clients", &c->clients_fd)) < 0 ||
	    (r = map_keep(obj, "weir_others", &c->others_fd)) < 0 || (r = map_keep(obj, "weir_stats", &c->stats_fd)) < 0 || (r = map_keep(obj, "weir_local_addrs", &c->addrs_fd)) < 0 ||
	    (r = map_keep(obj, "weir_ring", &c->ring_fd)) < 0 || (r = map_keep(obj, ".bss", &c->bss_fd)) < 0 || (r = control_map(c, obj)) < 0)
		return r;
	if (bpf_object__find_map_by_name(obj, ".rodata.automaton") && (r = map_keep(obj, ".rodata.automaton", &c->automaton_fd)) < 0)
		return r;
	conns = bpf_object__find_map_by_name(obj, "weir_conns");
	clients = bpf_object__find_map_by_name(obj, "weir_clients");
	if (!abi || *abi != WEIR_ABI || bpf_map__key_size(clients) != sizeof(struct weir_client_key) || bpf_map__value_size(clients) != sizeof(struct weir_client) ||
	    bpf_map__key_size(conns) != sizeof(struct weir_conn_key) || bpf_map__value_size(conns) != sizeof(struct weir_conn))
		return -EINVAL; /* built from another abi.h */
	bpf_object__for_each_map(map, obj)
		c->kernel_bytes += map_memory(bpf_map__fd(map));
	for (int i = 0; i < 2; i++) {
		struct bpf_program *p = bpf_object__find_program_by_name(obj, program_name[i]);

		if (!p)
			return -EINVAL;
		c->prog_fd[i] = fd_keep(bpf_program__fd(p));
		if (c->prog_fd[i] < 0)
			return c->prog_fd[i];
	}
	return 0;
}

/* `return 1`: lets the packet pass. Stands in while the meter is off the hook: taking it off for good could not be undone
 * without privilege, replacing the program of a held link can. */
static int idle_load(enum bpf_attach_type type)
{
	const struct bpf_insn insns[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 1 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .expected_attach_type = type);

	return bpf_prog_load(BPF_PROG_TYPE_CGROUP_SKB, "weir_idle", "GPL", insns, ARRAY_SIZE(insns), &opts);
}

static int attach(struct capture *c, const char *mount)
{
	CLEANUP(closep) int dir = open(mount, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (dir < 0)
		return -errno;
	for (int i = 0; i < 2; i++) {
		/* A link never replaces other programs of the cgroup (BPF_F_ALLOW_MULTI is built in), and ends with its fd. */
		c->link_fd[i] = bpf_link_create(c->prog_fd[i], dir, attach_type[i], NULL);
		if (c->link_fd[i] < 0)
			return c->link_fd[i];
		c->idle_fd[i] = idle_load(attach_type[i]);
		if (c->idle_fd[i] < 0)
			return c->idle_fd[i];
	}
	return 0;
}

/* The kernel took only the tap: the meter runs here, on the maps of the tap. */
static int soft_start(struct capture *c, const struct capture_opts *o)
{
	const struct soft_opts opts = {
		.automaton = o->automaton,
		.control = c->control,
		.v6_prefix = o->v6_prefix,
		.max_conns = o->max_conns ? o->max_conns : CAPTURE_CONNS_DEFAULT,
		.prompt_blind = o->prompt_blind,
		.event = o->event,
		.ctx = o->ctx,
	};

	c->soft_maps = (struct soft_maps){ .clients_fd = c->clients_fd, .others_fd = c->others_fd, .stats_fd = c->stats_fd, .addrs_fd = c->addrs_fd };
	return soft_maps_open(&c->soft_maps, &opts, &c->soft);
}

/* ---- the ring -------------------------------------------------------------------------------------- */
static int on_sample(void *ctx, void *data, size_t n)
{
	struct capture *c = ctx;

	c->drained += n + 8; /* with the ring's own header */
	if (c->soft)
		soft_segment(c->soft, data, n);
	else
		c->event(c->ctx, data, n);
	/* A flood refills the ring as fast as it is read: come back later, there is more to do than this. */
	return c->drained >= 2 * (size_t)c->ring_bytes ? -EAGAIN : 0;
}

ssize_t capture_drain(struct capture *c)
{
	int r;

	c->drained = 0;
	r = ring_buffer__consume(c->ring);
	if (c->soft)
		soft_flush(c->soft);
	__atomic_add_fetch(&c->control->ring_epoch, 1, __ATOMIC_RELAXED);
	if (r < 0 && r != -EAGAIN)
		return r;
	return (ssize_t)c->drained;
}

int capture_fd(const struct capture *c)
{
	return ring_buffer__epoll_fd(c->ring);
}

bool capture_works_unprivileged(const struct capture *c)
{
	return probe_unprivileged(c->stats_fd);
}

uint32_t capture_ring_bytes(const struct capture *c)
{
	return c->ring_bytes;
}

/* ---- open and close -------------------------------------------------------------------------------- */
int capture_open(const struct capture_opts *o, struct capture **ret, const char **ret_where)
{
	CLEANUP(capture_freep) struct capture *c = calloc(1, sizeof(*c));
	struct cgroup_mount mount = { 0 };
	struct bpf_object *obj = NULL;
	const char *unused;
	const char **where = ret_where ? ret_where : &unused;
	int r, last = -EOPNOTSUPP;
	bool soft = false;

	*where = "allocating memory";
	if (!c)
		return -ENOMEM;
	c->conns_fd = c->clients_fd = c->others_fd = c->stats_fd = c->addrs_fd = c->ring_fd = c->bss_fd = c->automaton_fd = -1;
	for (int i = 0; i < 2; i++)
		c->prog_fd[i] = c->link_fd[i] = c->idle_fd[i] = -1;
	c->event = o->event;
	c->ctx = o->ctx;
	c->v6_prefix = o->v6_prefix ? o->v6_prefix : 64;
	c->prompt_blind = o->prompt_blind;
	c->extras = extras_new();
	if (!c->extras)
		return -ENOMEM;
	c->ring_bytes = ring_size(o->ring_bytes ? o->ring_bytes : CAPTURE_RING_DEFAULT);
	libbpf_set_print(libbpf_log);

	*where = "looking for BTF (/sys/kernel/btf/vmlinux)";
	if (access("/sys/kernel/btf/vmlinux", R_OK) < 0)
		return -ENODATA;
	*where = "looking for cgroup v2 in the mount table";
	if (!o->cgroup_mount) {
		r = cgroup_find(NULL, &mount);
		if (r < 0)
			return r;
	}
	*where = "loading the meter";
	for (const struct variant *v = variants; v < variants + ARRAY_SIZE(variants) && !obj; v++) {
		if (o->variant && strcmp(o->variant, v->name) != 0)
			continue;
		if (v->soft)
			c->ring_bytes = MAX(c->ring_bytes, WEIR_TAP_RING_BYTES);
		for (int tries = 0; tries < LOAD_TRIES; tries++) {
			last = variant_load(v, o, c->ring_bytes, &obj);
			if (last != -EAGAIN && last != -EINTR)
				break;
		}
		if (last < 0)
			log_debug("variant %s: %s", v->name, strerror(-last));
		else
			c->variant = v->name, soft = v->soft;
	}
	if (!obj) {
		free(mount.path);
		return last == -EPERM || last == -ENOMEM ? last : -EOPNOTSUPP;
	}
	*where = "taking over the maps";
	r = object_keep(c, obj);
	bpf_object__close(obj);
	if (r == 0) {
		*where = "mapping the ring buffer";
		c->ring = ring_buffer__new(c->ring_fd, on_sample, c, NULL);
		r = c->ring ? 0 : -errno;
	}
	if (r == 0 && soft)
		r = soft_start(c, o);
	if (r == 0) {
		*where = "attaching to the root cgroup";
		r = attach(c, o->cgroup_mount ? o->cgroup_mount : mount.path);
	}
	free(mount.path);
	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(variants); i++) {
		size_t size;
		const void *bytes = variants[i].bytes(&size);

		capture_loaded(bytes, size);
	}
	*ret = TAKE_PTR(c);
	return 0;
}

struct capture *capture_free(struct capture *c)
{
	if (!c)
		return NULL;
	for (int i = 0; i < 2; i++) {
		closep(&c->link_fd[i]);
		closep(&c->prog_fd[i]);
		closep(&c->idle_fd[i]);
	}
	ring_buffer__free(c->ring);
	if (c->bss)
		munmap(c->bss, c->bss_size);
	closep(&c->conns_fd);
	closep(&c->clients_fd);
	closep(&c->others_fd);
	closep(&c->stats_fd);
	closep(&c->addrs_fd);
	closep(&c->ring_fd);
	closep(&c->bss_fd);
	closep(&c->automaton_fd);
	free(c->aged);
	losses_free(c->losses);
	extras_free(c->extras);
	soft_free(c->soft);
	free(c);
	return NULL;
}

/* ---- settings -------------------------------------------------------------------------------------- */
const char *capture_variant_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(variants); i++)
		if (!strcmp(name, variants[i].name))
			return variants[i].name;
	return NULL;
}

const char *capture_variant(const struct capture *c)
{
	return c->variant;
}

bool capture_inexact(const struct capture *c)
{
	return c->soft != NULL;
}

uint64_t capture_kernel_bytes(const struct capture *c)
{
	return c->kernel_bytes;
}

void capture_watch(struct capture *c, uint16_t port, bool on)
{
	__u8 *byte = &c->control->ports[port / 8], bit = (__u8)(1u << (port % 8));

	__atomic_store_n(byte, (__u8)(on ? *byte | bit : *byte & ~bit), __ATOMIC_RELAXED);
}

bool capture_watched(const struct capture *c, uint16_t port)
{
	return c->control->ports[port / 8] & 1u << (port % 8);
}

int capture_own_address(struct capture *c, const uint8_t addr[16])
{
	__u8 one = 1;

	return bpf_map_update_elem(c->addrs_fd, addr, &one, BPF_ANY);
}

void capture_set_shed(struct capture *c, enum weir_shed level)
{
	__atomic_store_n(&c->control->shed, (__u32)level, __ATOMIC_RELAXED);
}

int capture_pause(struct capture *c, bool pause)
{
	int r = 0;

	for (int i = 0; i < 2; i++) {
		int one = bpf_link_update(c->link_fd[i], pause ? c->idle_fd[i] : c->prog_fd[i], NULL);

		if (one < 0)
			r = one;
	}
	return r;
}

int capture_stats(const struct capture *c, uint64_t ret[WEIR_STAT_COUNT])
{
	for (__u32 i = 0; i < WEIR_STAT_COUNT; i++) {
		__u64 v;
		int r = bpf_map_lookup_elem(c->stats_fd, &i, &v);

		if (r < 0)
			return r;
		ret[i] = v;
	}
	return 0;
}

const char *capture_stat_name(enum weir_stat s, bool *ret_loss)
{
	static const struct {
		const char *name;
		bool loss;
	} stats[WEIR_STAT_COUNT] = {
		[WEIR_STAT_SEGMENTS] = { "segments", false },
		[WEIR_STAT_REQUESTS] = { "requests", false },
		[WEIR_STAT_RESPONSES] = { "responses", false },
		[WEIR_STAT_RING_FULL] = { "ring_full", true },
		[WEIR_STAT_RING_FAIR] = { "ring_fair", true },
		[WEIR_STAT_SLICE_FULL] = { "slice_full", true },
		[WEIR_STAT_SLICE_SHED] = { "slice_shed", true },
		[WEIR_STAT_CONN_FULL] = { "connection_table_full", true },
		[WEIR_STAT_CLIENT_FULL] = { "client_table_full", true },
		[WEIR_STAT_GAP] = { "gap", true },
		[WEIR_STAT_GAP_BYTES] = { "gap_bytes", true },
		[WEIR_STAT_WINDOW] = { "out_of_window", true },
		[WEIR_STAT_DUP] = { "repeated", false },
		[WEIR_STAT_NOT_HTTP] = { "not_http", true },
		[WEIR_STAT_HEAD_TOO_LONG] = { "head_too_long", true },
		[WEIR_STAT_BAD_FRAMING] = { "bad_framing", true },
		[WEIR_STAT_BAD_NUMBER] = { "bad_number", true },
		[WEIR_STAT_UNPAIRED] = { "request_not_seen", true },
		[WEIR_STAT_PIPELINE] = { "pipeline_deep", true },
		[WEIR_STAT_UPGRADED] = { "upgraded", true },
		[WEIR_STAT_ENCODED] = { "encoded", false },
		[WEIR_STAT_RESYNC] = { "resynchronised", false },
		[WEIR_STAT_CONTENDED] = { "contended", true },
		[WEIR_STAT_UNREADABLE] = { "unreadable", true },
		[WEIR_STAT_STEPS] = { "too_many_steps", true },
		[WEIR_STAT_OVERSIZE] = { "oversize", true },
		[WEIR_STAT_TAP_FULL] = { "tap_full", true },
		[WEIR_STAT_TLS] = { "tls", false },
		[WEIR_STAT_TLS_BLIND] = { "tls_blind", true },
		[WEIR_STAT_TLS_CALLS] = { "tls_calls", false },
		[WEIR_STAT_TLS_UNPAIRED] = { "tls_unpaired", true },
		[WEIR_STAT_TLS_FAULT] = { "tls_fault", true },
		[WEIR_STAT_TLS_MISSED] = { "tls_missed", true },
		[WEIR_STAT_TLS_FULL] = { "tls_table_full", true },
		[WEIR_STAT_TLS_NS] = { "tls_timed_ns", false },
		[WEIR_STAT_TLS_NS_RUNS] = { "tls_timed_runs", false },
		[WEIR_STAT_RAW] = { "http2_connections", false },
		[WEIR_STAT_RAW_FULL] = { "http2_full", true },
		[WEIR_STAT_RAW_SHED] = { "http2_shed", true },
		[WEIR_STAT_RAW_BYTES] = { "http2_bytes_lost", true },
		[WEIR_STAT_NS] = { "timed_ns", false },
		[WEIR_STAT_NS_RUNS] = { "timed_runs", false },
	};

	if (s >= WEIR_STAT_COUNT || !stats[s].name)
		return NULL;
	if (ret_loss)
		*ret_loss = stats[s].loss;
	return stats[s].name;
}
