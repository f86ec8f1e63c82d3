#include "capture/probe.h"

#include "capture/capture.h"
#include "capture/cgroup.h"
#include "capture/engine.h"
#include "capture/hops.h"
#include "capture/tls.h"
#include "capture/uds.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define NOBODY 65534

static PRINTF_LIKE(5, 6) void answer(struct probe_result *r, enum probe_item i, enum probe_state state, const char *lost, const char *fmt, ...)
{
	struct probe *p = &r->item[i];
	va_list ap;

	p->state = state;
	p->lost = state == PROBE_OK ? "" : lost;
	va_start(ap, fmt);
	vsnprintf(p->found, sizeof(p->found), fmt, ap);
	va_end(ap);
}

bool probe_unprivileged(int map_fd)
{
	int status = 1;
	pid_t pid = fork();

	if (pid < 0)
		return false;
	if (pid == 0) {
		struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
		struct __user_cap_data_struct none[2] = { 0 };
		__u32 key = 0;
		char value[256];

		/* By bare system calls: after fork() in a process that may have threads. */
		if (syscall(SYS_setresgid, NOBODY, NOBODY, NOBODY) < 0 || syscall(SYS_setresuid, NOBODY, NOBODY, NOBODY) < 0 ||
		    syscall(SYS_capset, &head, none) < 0)
			_exit(2);
		_exit(bpf_map_lookup_elem(map_fd, &key, value) == 0 ? 0 : 1);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static int array_map(void)
{
	return bpf_map_create(BPF_MAP_TYPE_ARRAY, "weir_probe", 4, 8, 4, NULL);
}

static void probe_privilege(struct probe_result *r, int map, int error)
{
	if (map >= 0)
		answer(r, PROBE_PRIVILEGE, PROBE_OK, NULL, "maps and programs can be created");
	else if (error == -ENOSYS)
		answer(r, PROBE_PRIVILEGE, PROBE_MISSING, "nothing can be metered: this kernel is built without bpf(2)", "no bpf(2)");
	else
		answer(r, PROBE_PRIVILEGE, PROBE_MISSING,
		       "nothing can be metered: run as root, or with CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN, CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH",
		       "bpf(2) refused: %s%s", strerror(-error), geteuid() ? ", not root" : "");
}

static void probe_kernel_maps(struct probe_result *r, int map)
{
	__u32 count = 4, next, keys[4];
	__u64 values[4];
	int fd;

	fd = map < 0 ? -EPERM : bpf_map_create(BPF_MAP_TYPE_RINGBUF, "weir_probe", 0, 0, (__u32)sysconf(_SC_PAGESIZE), NULL);
	if (fd >= 0) {
		answer(r, PROBE_RING, PROBE_OK, NULL, "ring buffer");
		close(fd);
	} else if (map < 0) {
		answer(r, PROBE_RING, PROBE_UNKNOWN, "cannot be tried without the privilege", "not tried");
	} else {
		answer(r, PROBE_RING, PROBE_MISSING, "no records and no detection: needs Linux 5.8", "%s", strerror(-fd));
	}

	if (map < 0) {
		answer(r, PROBE_BATCH, PROBE_UNKNOWN, "cannot be tried without the privilege", "not tried");
		answer(r, PROBE_UNPRIVILEGED, PROBE_UNKNOWN, "cannot be tried without the privilege", "not tried");
		answer(r, PROBE_BPF_STATS, PROBE_UNKNOWN, "cannot be tried without the privilege", "not tried");
		return;
	}
	if (bpf_map_lookup_batch(map, NULL, &next, keys, values, &count, NULL) == 0 || errno == ENOENT)
		answer(r, PROBE_BATCH, PROBE_OK, NULL, "maps are read in batches");
	else
		answer(r, PROBE_BATCH, PROBE_DEGRADED, "reading many clients costs more CPU; idle connections are not aged", "%s", strerror(errno));
	if (probe_unprivileged(map))
		answer(r, PROBE_UNPRIVILEGED, PROBE_OK, NULL, "maps stay usable without any capability");
	else
		answer(r, PROBE_UNPRIVILEGED, PROBE_DEGRADED, "the agent keeps CAP_BPF while it runs: Linux 5.19 would let it drop all",
		       "bpf(2) needs a capability");
	fd = bpf_enable_stats(BPF_STATS_RUN_TIME);
	if (fd >= 0) {
		answer(r, PROBE_BPF_STATS, PROBE_OK, NULL, "run times can be measured");
		close(fd);
	} else {
		answer(r, PROBE_BPF_STATS, PROBE_DEGRADED, "benchmarks cannot read kernel run times; metering is not concerned", "%s", strerror(-fd));
	}
}

static void no_event(void *ctx, const void *data, size_t n)
{
	(void)ctx;
	(void)data;
	(void)n;
}

static void no_file(void *ctx, const struct tls_found *f)
{
	(void)ctx;
	(void)f;
}

static void probe_tls(struct probe_result *r, struct capture *c)
{
	CLEANUP(tls_freep) struct tls *t = NULL;
	double us = 0;
	int e = c ? tls_open(c, no_file, NULL, &t) : -ENODEV;

	if (e == 0)
		e = tls_load(t);
	if (e == 0)
		e = tls_cost(t, &us);
	if (e == 0)
		answer(r, PROBE_TLS, PROBE_OK, NULL, "uprobes and %s; a probed call costs %.1f us here, in every process that uses the library", tls_sockets(t), us);
	else if (!c)
		answer(r, PROBE_TLS, PROBE_UNKNOWN, "cannot be tried without the meter", "not tried");
	else
		answer(r, PROBE_TLS, PROBE_MISSING,
		       "servers that end TLS themselves are not metered: end TLS in a proxy in front, and watch the plaintext hop behind it", "%s",
		       e == -EOPNOTSUPP ? capture_inexact(c) ? "needs the meter in the kernel" : "no hook on socket calls: needs Linux 6.3, or fexit" :
					  strerror(-e));
}

static void probe_unix(struct probe_result *r, const struct capture *c)
{
	struct uds *u = NULL;
	int e = c ? uds_open(c, &u) : -ENODEV;

	if (e == 0)
		answer(r, PROBE_UNIX, PROBE_OK, NULL, "bytes and ends of Unix stream sockets are seen (--unix PATH)");
	else if (!c)
		answer(r, PROBE_UNIX, PROBE_UNKNOWN, "cannot be tried without the meter", "not tried");
	else
		answer(r, PROBE_UNIX, PROBE_MISSING,
		       "a server behind one (vLLM --uds, an nginx upstream) is not metered there: watch the gateway's TCP port, or let it listen on 127.0.0.1", "%s",
		       e == -EOPNOTSUPP ? "this kernel does not show their bytes: needs Linux 6.11" : strerror(-e));
	uds_free(u);
}

static void probe_meter(struct probe_result *r, const struct weir_automaton *automaton)
{
	struct capture_opts opts = {
		.cgroup_mount = r->cgroup_path, .max_clients = 64, .max_conns = 64, .ring_bytes = 4096, .automaton = automaton, .event = no_event
	};
	CLEANUP(capture_freep) struct capture *c = NULL;
	const char *where;
	int e = capture_open(&opts, &c, &where);

	r->metering = e == 0;
	probe_tls(r, c);
	probe_unix(r, c);
	if (e == 0 && capture_inexact(c))
		answer(r, PROBE_METER, PROBE_DEGRADED,
		       "metered in user space: costs more CPU, and what overruns the ring is counted but not metered; Linux 6.1 would do",
		       "the verifier refuses the meter; segments are sent up whole");
	else if (e == 0)
		answer(r, PROBE_METER, PROBE_OK, NULL, "loads and attaches, variant %s", capture_variant(c));
	else if (e == -EOPNOTSUPP)
		answer(r, PROBE_METER, PROBE_MISSING, "nothing can be metered: needs Linux 5.10, better 6.1", "the verifier refuses every variant");
	else
		answer(r, PROBE_METER, PROBE_MISSING, "nothing can be metered", "%s: %s", where, strerror(-e));
}

static void probe_hops(struct probe_result *r)
{
	struct hops *h = NULL;
	int e = hops_open(r->cgroup_path, &h);

	if (e == 0)
		answer(r, PROBE_HOPS, PROBE_OK, NULL, "who makes a connection here is seen");
	else
		answer(r, PROBE_HOPS, PROBE_DEGRADED, "a request that passes two watched servers of this host is counted at both", "%s", strerror(-e));
	hops_free(h);
}

static void probe_host(struct probe_result *r)
{
	struct stat st;

	if (stat("/run/systemd/journal/socket", &st) == 0)
		answer(r, PROBE_JOURNAL, PROBE_OK, NULL, "/run/systemd/journal/socket");
	else
		answer(r, PROBE_JOURNAL, PROBE_DEGRADED, "--journal cannot be used; events go to the terminal or to JSON", "no journal socket");
	if (access("/proc/1/fd", R_OK | X_OK) == 0)
		answer(r, PROBE_PROCFS, PROBE_OK, NULL, "other processes can be looked into");
	else
		answer(r, PROBE_PROCFS, PROBE_DEGRADED, "--auto and --pid see only servers of this user; --port works",
		       "/proc/1/fd: %s", strerror(errno));
}

static void probe_engine(struct probe_result *r, bool privileged)
{
	static const char lost[] = "what llama.cpp computes is not counted: no unbilled_compute";
	int error = privileged ? engine_works() : 0;

	if (!privileged)
		answer(r, PROBE_ENGINE, PROBE_UNKNOWN, "cannot be tried without the privilege", "not tried");
	else if (error < 0)
		answer(r, PROBE_ENGINE, PROBE_MISSING, lost, "%s", strerror(-error));
	else
		answer(r, PROBE_ENGINE, PROBE_OK, NULL, "llama_decode of libllama.so and Ollama can be counted");
}

int probe_run(const struct weir_automaton *automaton, struct probe_result *ret)
{
	static const char *const names[PROBE_COUNT] = {
		[PROBE_PRIVILEGE] = "privilege", [PROBE_BTF] = "btf",		[PROBE_CGROUP] = "cgroup_v2",
		[PROBE_RING] = "ring_buffer",	 [PROBE_METER] = "cgroup_skb",	[PROBE_HOPS] = "sock_ops",	[PROBE_UNPRIVILEGED] = "unprivileged_maps",
		[PROBE_BATCH] = "map_batch",	 [PROBE_BPF_STATS] = "bpf_stats", [PROBE_JOURNAL] = "journal",
		[PROBE_PROCFS] = "procfs", [PROBE_TLS] = "tls", [PROBE_ENGINE] = "engine_uprobe",
		[PROBE_UNIX] = "unix_sockets",
	};
	struct cgroup_mount mount;
	int map, error;

	*ret = (struct probe_result){ 0 };
	for (int i = 0; i < PROBE_COUNT; i++)
		ret->item[i] = (struct probe){ .hook = names[i], .lost = "" };
	map = array_map();
	error = map < 0 ? map : 0;
	probe_privilege(ret, map, error);
	if (access("/sys/kernel/btf/vmlinux", R_OK) == 0)
		answer(ret, PROBE_BTF, PROBE_OK, NULL, "/sys/kernel/btf/vmlinux");
	else
		answer(ret, PROBE_BTF, PROBE_MISSING, "nothing can be metered: the kernel must be built with CONFIG_DEBUG_INFO_BTF", "%s", strerror(errno));
	error = cgroup_find(NULL, &mount);
	if (error < 0) {
		answer(ret, PROBE_CGROUP, PROBE_MISSING, "nothing can be metered: mount it (mount -t cgroup2 none /sys/fs/cgroup/unified)", "not mounted");
	} else {
		ret->cgroup_path = mount.path;
		if (mount.whole)
			answer(ret, PROBE_CGROUP, PROBE_OK, NULL, "%.120s", mount.path);
		else
			answer(ret, PROBE_CGROUP, PROBE_DEGRADED, "only servers below this cgroup are seen: run weir outside of the container",
			       "%.120s is not the root of the hierarchy", mount.path);
	}
	probe_kernel_maps(ret, map);
	if (map < 0 || ret->item[PROBE_BTF].state != PROBE_OK || !ret->cgroup_path)
		answer(ret, PROBE_METER, PROBE_UNKNOWN, "nothing can be metered", "not tried: see above"), probe_tls(ret, NULL), probe_unix(ret, NULL);
	else
		probe_meter(ret, automaton);
	if (map < 0 || !ret->cgroup_path)
		answer(ret, PROBE_HOPS, PROBE_UNKNOWN, "a request that passes two watched servers of this host may be counted at both", "not tried: see above");
	else
		probe_hops(ret);
	probe_engine(ret, map >= 0);
	probe_host(ret);
	closep(&map);
	return 0;
}

void probe_done(struct probe_result *r)
{
	free(r->cgroup_path);
	r->cgroup_path = NULL;
}

const char *probe_state_name(enum probe_state s)
{
	static const char *const names[] = { "ok", "degraded", "missing", "unknown" };

	return s <= PROBE_UNKNOWN ? names[s] : "unknown";
}
