#include "cmd/agent.h"

#include "base/log.h"
#include "capture/cgroup.h"
#include "capture/helper.h"
#include "capture/probe.h"
#include "capture/procfs.h"
#include "cmd/agent_internal.h"
#include "cmd/agent_key.h"
#include "cmd/agent_priv.h"
#include "cmd/cmd.h"
#include "decode/automaton.h"
#include "decode/dialect_file.h"

#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <time.h>

#define DRAIN_MAX_MS 100  /* an event waits no longer than this */
#define DRAIN_MIN_MS 2    /* nor is the ring looked at more often */
#define AGE_PERIOD_S 5
#define STREAMS_PERIOD_S 5 /* how often the detector hears of the tokens of open streams */
#define ADDRESSES_PERIOD_S 10
#define CONN_IDLE_NS (10 * 60 * UINT64_C(1000000000)) /* keep-alive connections come back later than most people think */
#define FIRST_SCAN_MS 1500 /* waited for, so that `ready` means that what runs now is watched */
#define FINAL_DRAIN_NS (2 * UINT64_C(1000000000))

enum tag { TAG_SIGNAL, TAG_SECOND, TAG_WATCHER, TAG_SOCKET, TAG_RING, TAG_TLS };

void agent_complain_open(int error, const char *where)
{
	switch (error) {
	case -EPERM:
	case -EACCES:
		log_error("not allowed to use BPF (%s): run as root, or with CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN, CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH",
			  geteuid() ? "not root" : "kernel.unprivileged_bpf_disabled, lockdown or a container forbids it");
		break;
	case -ENODATA:
		log_error("the kernel has no BTF (/sys/kernel/btf/vmlinux): it must be built with CONFIG_DEBUG_INFO_BTF");
		break;
	case -ENOENT:
		log_error("no cgroup v2 is mounted: mount -t cgroup2 none /sys/fs/cgroup");
		break;
	default:
		if (error == -EOPNOTSUPP)
			log_error("this kernel's verifier refuses the meter: Linux 5.10 is needed, better 6.1 (weir check tells more)");
		else
			log_error("%s: %s (weir check tells more)", where, strerror(-error));
	}
}

/* ---- the parts ------------------------------------------------------------------------------------- */
static void on_anomaly(void *ctx, const struct anomaly *a)
{
	struct agent *g = ctx;

	state_event(g->state, a);
	sinks_emit(&g->sinks, a);
}

/* Of what was open when the last agent ended. It is in the store already. */
static void on_left_open(void *ctx, const struct anomaly *a)
{
	struct agent *g = ctx;

	sinks_emit(&g->sinks, a);
}

static void on_count(void *ctx, const struct weir_conn_key *key, const struct weir_client *more)
{
	const struct agent *g = ctx;

	capture_count(g->capture, key, more);
}

static double wall_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int sink_take(struct agent *g, int r, struct sink *s)
{
	return r < 0 ? r : sinks_add(&g->sinks, s);
}

/* Files named on the command line are opened first, as who called us; later we may no longer. */
static int outputs_open(struct agent *g)
{
	const struct agent_opts *o = g->o;
	bool records_on_stdout = o->records_out && !strcmp(o->records_out, "-");
	FILE *human = records_on_stdout ? stderr : stdout;
	struct sink *s = NULL;
	int r;

	r = records_open(&g->records, o->records_out, false);
	if (r == -EAGAIN) {
		log_info("%s: a pipe that nobody reads; waiting for its reader", o->records_out);
		r = records_open(&g->records, o->records_out, true);
	}
	if (r < 0) {
		log_error("%s: %s", o->records_out, strerror(-r));
		return r;
	}
	r = o->json ? sink_json_open_paced(STDOUT_FILENO, SINK_DROP, &s) : sink_terminal_open_paced(human, true, SINK_DROP, &s);
	r = sink_take(g, r, s);
	if (r < 0) {
		log_error("standard output: %s", strerror(-r));
		return r;
	}
	if (o->journal) {
		r = sink_journal_open(&s);
		r = sink_take(g, r, s);
		if (r < 0)
			log_warning("no journal takes messages (%s), continuing without it", strerror(-r));
	}
	return 0;
}

static int epoll_add(struct agent *g, int fd, enum tag tag)
{
	struct epoll_event e = { .events = EPOLLIN, .data.u64 = (uint64_t)tag << 32 };

	return epoll_ctl(g->epoll_fd, EPOLL_CTL_ADD, fd, &e) < 0 ? -errno : 0;
}

static int loop_open(struct agent *g)
{
	const struct itimerspec every = { .it_interval.tv_sec = 1, .it_value.tv_sec = 1 };
	sigset_t set;
	int r;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	g->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	g->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	g->second_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (g->epoll_fd < 0 || g->signal_fd < 0 || g->second_fd < 0 || timerfd_settime(g->second_fd, 0, &every, NULL) < 0)
		return -errno;
	r = epoll_add(g, g->signal_fd, TAG_SIGNAL);
	return r < 0 ? r : epoll_add(g, g->second_fd, TAG_SECOND);
}

static void hops_begin(struct agent *g, const char *cgroup_mount)
{
	int r = hops_open(cgroup_mount, &g->hops);

	if (r < 0)
		log_warning("cannot see who makes a connection here (%s), continuing without: a request that passes two watched servers is counted at both",
			    strerror(-r));
	g->ports->hops = g->hops;
}

static int capture_begin(struct agent *g)
{
	const struct agent_opts *o = g->o;
	struct capture_opts co = {
		.prompt_blind = o->prompt_blind,
		.v6_prefix = o->v6_prefix,
		.max_clients = o->max_clients,
		.max_conns = o->max_conns,
		.ring_bytes = o->ring_bytes,
		.automaton = g->automaton,
		.variant = o->variant,
		.event = feed_event,
		.ctx = g->feed,
	};
	struct cgroup_mount mount = { 0 };
	const char *where = "";
	int r;

	r = cgroup_find(NULL, &mount);
	if (r == 0 && o->cgroup) {
		r = cgroup_id(mount.path, o->cgroup, &co.cgroup_id);
		if (r < 0) {
			log_error("--cgroup %s: %s", o->cgroup, r == -ENOTDIR ? "not a cgroup" : strerror(-r));
			free(mount.path);
			return r;
		}
	}
	if (r == 0 && !mount.whole)
		log_warning("%s is not the root of the cgroup hierarchy: servers outside of it are not seen", mount.path);
	co.cgroup_mount = mount.path;
	r = capture_open(&co, &g->capture, &where);
	if (r == 0)
		hops_begin(g, mount.path);
	free(mount.path);
	if (r < 0) {
		agent_complain_open(r, where);
		return r;
	}
	if (capture_inexact(g->capture))
		log_warning("the kernel refuses the meter: metering in user space, complete only while `tap_full` is not among the losses");
	return 0;
}

/* The host's own IPv6 addresses stay whole where clients are counted per network: read again and again, they change. */
static void addresses_tell(struct agent *g)
{
	char text[16384];
	ssize_t n = g->inet6_fd < 0 ? 0 : pread(g->inet6_fd, text, sizeof(text), 0);
	struct span rest = { text, n > 0 ? (size_t)n : 0 }, line;
	uint8_t addr[16];

	while (procfs_next_line(&rest, &line))
		if (procfs_parse_inet6(line, addr) == 0)
			capture_own_address(g->capture, addr);
}

static int unix_begin(struct agent *g)
{
	const struct agent_opts *o = g->o;
	int r = o->unix_count ? uds_open(g->capture, &g->uds) : 0;

	if (r < 0) {
		log_error("--unix: %s", r == -EOPNOTSUPP ? "this kernel shows no bytes of Unix sockets: Linux 6.11 is needed (weir check tells more)" : strerror(-r));
		return r;
	}
	for (size_t i = 0; i < o->unix_count && r == 0; i++) {
		uint32_t number;

		r = address_unix_number(o->unix_path[i], &number);
		if (r == 0)
			r = uds_watch(g->uds, o->unix_path[i], number);
		if (r < 0)
			log_error("--unix %s: %s", o->unix_path[i], strerror(-r));
	}
	return r;
}

static int ports_begin(struct agent *g)
{
	g->ports->capture = g->capture;
	g->ports->named = feed_workload;
	g->ports->marked = feed_marker;
	g->ports->ctx = g->feed;
	for (size_t i = 0; i < g->o->port_count; i++)
		agent_ports_given(g->ports, g->o->port[i]);
	addresses_tell(g);
	return epoll_add(g, capture_fd(g->capture), TAG_RING);
}


static void unknown_write(void *ctx, struct str *out)
{
	feed_write_unknown(((struct agent *)ctx)->feed, out);
}

static int socket_begin(struct agent *g, const struct priv_user *user)
{
	const struct agent_socket_opts so = {
		.path = g->o->socket,
		.group = g->o->user ? user->gid : (gid_t)-1,
		.epoll_fd = g->epoll_fd,
		.tag = TAG_SOCKET,
		.capture = g->capture,
		.accounts = g->accounts,
		.stats = report_stats,
		.unknown = unknown_write,
		.ctx = g,
	};
	int r = agent_socket_open(&so, &g->socket);

	if (r == -EADDRINUSE)
		log_error("%s: another agent is running there; --socket PATH gives this one its own", g->o->socket);
	else if (r == -EEXIST)
		log_error("%s: is there and is not a socket; --socket PATH names another", g->o->socket);
	else if (r < 0)
		log_error("%s: %s; --socket PATH names another", g->o->socket, strerror(-r));
	return r;
}

static void watcher_event(struct agent *g)
{
	struct watcher_message m;
	int r;

	while ((r = watcher_read(g->watcher_fd, &m)) > 0)
		agent_ports_message(g->ports, &m, g->seconds);
	if (r < 0) {
		log_warning("the discovery helper is gone (%s): ports found so far stay watched, new ones are not found",
			    r == -EPIPE ? "it ended" : "it spoke nonsense");
		helper_end(&g->watcher_fd, &g->watcher_pid);
	}
}

/* Runs also where all ports are given: who listens there, and what becomes of him, is told all the same. */
static int watcher_begin(struct agent *g)
{
	struct discover_opts look = g->o->discover;
	int r;

	look.port_count = MIN(g->o->port_count, (size_t)DISCOVER_GIVEN_MAX);
	memcpy(look.ports, g->o->port, look.port_count * sizeof(*look.ports));
	r = watcher_start(&look, &g->watcher_fd, &g->watcher_pid);
	if (r == 0)
		r = epoll_add(g, g->watcher_fd, TAG_WATCHER);
	if (r < 0)
		log_error("cannot start the discovery helper: %s", strerror(-r));
	return r;
}

static void servers_look(struct agent *g)
{
	uint64_t until = capture_now_ns() + FIRST_SCAN_MS * UINT64_C(1000000);

	for (size_t i = 0; i < g->o->port_count; i++)
		if (!discover_listens(g->o->port[i]))
			log_info("nothing listens on port %u here yet; watching it all the same", g->o->port[i]);
	while (g->watcher_fd >= 0 && !g->ports->scanned && capture_now_ns() < until) {
		struct pollfd p = { .fd = g->watcher_fd, .events = POLLIN };

		if (poll(&p, 1, 50) > 0)
			watcher_event(g);
	}
	if (g->watcher_fd >= 0 && !g->ports->watched && !g->o->unix_count)
		log_info("no server found yet; looking every %d s", WATCHER_PERIOD_MS / 1000);
}

/* ---- self-limit ------------------------------------------------------------------------------------ */
static double own_cpu_s(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static double own_rss_mib(const struct agent *g)
{
	char text[128];
	ssize_t n = pread(g->statm_fd, text, sizeof(text) - 1, 0);
	unsigned long long size, rss;

	if (n <= 0)
		return 0;
	text[n] = '\0';
	if (sscanf(text, "%llu %llu", &size, &rss) != 2)
		return 0;
	return (double)rss * (double)sysconf(_SC_PAGESIZE) / 1048576;
}

static void limit_apply(struct agent *g, enum limit_level before)
{
	enum limit_level now = g->limit.level;

	capture_set_shed(g->capture, (enum weir_shed)MIN(now, LIMIT_SCAN));
	feed_set_shed(g->feed, (enum weir_shed)MIN(now, LIMIT_SCAN));
	if ((now == LIMIT_HOOK) != (before == LIMIT_HOOK)) {
		int r = capture_pause(g->capture, now == LIMIT_HOOK);

		if (r < 0)
			log_warning("cannot %s the hook: %s", now == LIMIT_HOOK ? "leave" : "go back to", strerror(-r));
	}
	if (now > before)
		log_warning("own %s is above its limit (CPU %.1f of %g %%, memory %.0f of %g MiB, %.1f of %g us per packet): shedding %s",
			    g->limit.why, g->cpu_pct, g->o->cpu_limit_pct, g->rss_mib, g->o->memory_limit_mib, MAX(g->hook_us, 0),
			    g->o->hook_limit_us, limit_level_name(now));
	else
		log_info("calm again: %s %s back", limit_level_name(before), before == LIMIT_SLICES || before == LIMIT_RECORDS ? "are" : "is");
}

static void limit_check(struct agent *g, const uint64_t now[WEIR_STAT_COUNT], double elapsed_s)
{
	uint64_t runs = now[WEIR_STAT_NS_RUNS] - g->stats[WEIR_STAT_NS_RUNS];
	enum limit_level before = g->limit.level;
	double cpu = own_cpu_s();

	g->cpu_pct = 100 * (cpu - g->cpu_s) / elapsed_s;
	g->cpu_s = cpu;
	g->rss_mib = own_rss_mib(g);
	g->hook_us = runs ? (double)(now[WEIR_STAT_NS] - g->stats[WEIR_STAT_NS]) / (double)runs / 1000 : -1;
	if (limit_second(&g->limit, g->cpu_pct, g->rss_mib, g->hook_us))
		limit_apply(g, before);
}

/* ---- once a second --------------------------------------------------------------------------------- */
/* Each sum only grows; one that stands still says that nobody's losses changed. */
static uint64_t losses_of(const uint64_t s[WEIR_STAT_COUNT])
{
	return s[WEIR_STAT_RING_FULL] + s[WEIR_STAT_RING_FAIR] + s[WEIR_STAT_SLICE_SHED];
}

/* What the maps counted beyond the records goes the way of the records, so that detectors miss nothing in a flood. */
static void losses_tell(struct agent *g, const uint64_t now[WEIR_STAT_COUNT])
{
	int r;

	if (losses_of(now) == losses_of(g->stats) && feed_lost(g->feed) == g->feed_lost)
		return;
	g->feed_lost = feed_lost(g->feed);
	r = capture_losses(g->capture, feed_loss, g->feed);
	if (r < 0)
		log_warning("cannot read the counters: %s", strerror(-r));
}

static void idle_age(struct agent *g)
{
	uint64_t now = capture_now_ns(), idle_ns = (uint64_t)(g->o->client_idle_s * 1e9);

	capture_age(g->capture, now, idle_ns, CONN_IDLE_NS);
	uds_age(g->uds, now, CONN_IDLE_NS);
	if (now > idle_ns)
		accounts_age(g->accounts, (now - idle_ns) / 1000000000);
}

static void second(struct agent *g, double elapsed_s)
{
	uint64_t now[WEIR_STAT_COUNT];
	int r = capture_stats(g->capture, now);

	g->seconds += (uint64_t)MAX(1, lround(elapsed_s));
	if (r < 0) {
		log_error("cannot read the counters: %s", strerror(-r));
		g->failed = g->stop = true;
		return;
	}
	feed_arrivals(g->feed);
	losses_tell(g, now);
	if (g->seconds % STREAMS_PERIOD_S == 0) {
		capture_streams(g->capture, feed_stream, g->feed);
		feed_streams(g->feed);
	}
	agent_engine_second(&g->engine, wall_now());
	feed_second(g->feed);
	state_tick(g->state, wall_now());
	records_flush(&g->records);
	sinks_flush(&g->sinks);
	limit_check(g, now, elapsed_s);
	agent_tls_second(&g->tls, g->seconds, g->stats, now);
	memcpy(g->stats, now, sizeof(now));
	agent_ports_second(g->ports, g->seconds);
	agent_socket_second(g->socket);
	if (g->seconds % AGE_PERIOD_S == 0)
		idle_age(g);
	if (g->seconds % ADDRESSES_PERIOD_S == 0)
		addresses_tell(g);
	hidden_tell(g->hidden);
}

static void drain(struct agent *g)
{
	ssize_t n = capture_drain(g->capture);

	g->drains++;
	if (n < 0) {
		log_error("cannot read the ring buffer: %s", strerror((int)-n));
		g->failed = g->stop = true;
		return;
	}
	/* The kernel does not wake us for an event, only when the ring is half full: look sooner while much comes, rarely while nothing does. */
	if ((size_t)n > capture_ring_bytes(g->capture) / 8)
		g->drain_ms = MAX(g->drain_ms / 2, DRAIN_MIN_MS);
	else if ((size_t)n < capture_ring_bytes(g->capture) / 32)
		g->drain_ms = MIN(g->drain_ms * 2, DRAIN_MAX_MS);
	if (n > 0)
		records_flush(&g->records);
}

static void loop(struct agent *g)
{
	uint64_t next_drain = 0, last_second = capture_now_ns();
	uint64_t end = g->o->duration_s > 0 ? g->started_ns + (uint64_t)(g->o->duration_s * 1e9) : UINT64_MAX;

	g->drain_ms = DRAIN_MAX_MS;
	while (!g->stop) {
		struct epoll_event e[16];
		uint64_t now = capture_now_ns(), until = MIN(next_drain, end);
		int timeout = now >= until ? 0 : (int)((until - now + 999999) / 1000000);
		int n = epoll_wait(g->epoll_fd, e, ARRAY_SIZE(e), timeout);

		for (int i = 0; i < n; i++) {
			uint64_t ticks;

			switch (e[i].data.u64 >> 32) {
			case TAG_SIGNAL:
				g->stop = true;
				break;
			case TAG_SECOND:
				if (read(g->second_fd, &ticks, sizeof(ticks)) == sizeof(ticks)) {
					now = capture_now_ns();
					second(g, (double)(now - last_second) / 1e9);
					last_second = now;
				}
				break;
			case TAG_RING:
				next_drain = 0; /* half full */
				break;
			case TAG_WATCHER:
				if (g->watcher_fd >= 0)
					watcher_event(g);
				break;
			case TAG_TLS:
				agent_tls_event(&g->tls);
				break;
			case TAG_SOCKET:
				agent_socket_event(g->socket, (uint32_t)e[i].data.u64, e[i].events);
				break;
			}
		}
		now = capture_now_ns();
		if (now >= next_drain) {
			drain(g);
			next_drain = capture_now_ns() + (uint64_t)g->drain_ms * 1000000;
		}
		if (now >= end)
			g->stop = true;
	}
}

/* ---- beginning and end ------------------------------------------------------------------------------- */
static int tls_begin(struct agent *g)
{
	int fd[2], r = agent_tls_begin(&g->tls, g->capture, g->o->tls, g->o->hook_limit_us);

	agent_tls_fds(&g->tls, fd);
	for (int i = 0; i < 2 && r == 0; i++)
		if (fd[i] >= 0)
			r = epoll_add(g, fd[i], TAG_TLS);
	return r;
}

/* ---- begin and end --------------------------------------------------------------------------------- */
static int key_take(const struct agent_opts *o, uint8_t key[AGENT_KEY_BYTES])
{
	char why[AGENT_KEY_WHY];
	int r = agent_key_load(o->state, o->key_file, key, why);

	/* A folder that takes no new file is no reason not to start; a file that was asked for is. */
	if (!o->key_file && (r == -EROFS || r == -EACCES || r == -EPERM || r == -ENOSPC)) {
		log_warning("%s: this run has a key of hashed API keys of its own", why);
		r = agent_key_load(NULL, NULL, key, why);
	}
	if (r < 0)
		log_error("%s", why);
	return r;
}

/* The port of the gateway here that made this connection; 0: nobody's. */
static uint16_t hop_outer(void *ctx, const struct weir_conn_key *at)
{
	const struct hops *h = ((struct agent *)ctx)->hops;
	struct hop hop;
	bool inner = weir_is_unix(at->laddr) ? hops_inner_of(h, at, weir_unix_low(at->laddr), &hop) : hops_inner(h, at, &hop);

	return inner ? hop.port : 0;
}

/* A process that is not there has no ports, and its number will be another's. */
static int pids_look(const struct agent_opts *o)
{
	for (size_t i = 0; i < o->discover.pid_count; i++)
		if (kill(o->discover.pids[i], 0) < 0 && errno == ESRCH) {
			log_error("--pid %d: no such process", o->discover.pids[i]);
			return -ESRCH;
		}
	return 0;
}

static int begin(struct agent *g)
{
	struct detect_opts detect = { .detector = DETECTOR_FULL, .emit = on_anomaly, .ctx = g, .calendar = g->o->known, .prices = g->o->prices, .sensitivity = g->o->sensitivity, .alarms_per_week = g->o->alarms_per_week };
	struct feed_opts feed = { .records = &g->records, .ports = g->ports, .dialects = g->o->dialect_file, .identity = &g->o->identity, .count = on_count, .ctx = g };
	const struct inner_opts inner = { .ask = hop_outer, .ctx = g };
	const struct state_opts state = { .dir = g->o->state, .live = true, .emit = on_left_open, .ctx = g };
	const struct dialect_file *own = g->o->dialect_file;
	struct priv_user user;
	const char *step = "";
	bool keep_bpf;
	int r;

	if ((r = pids_look(g->o)) < 0)
		return r;
	r = priv_user_find(g->o->user, &user);
	if (r < 0) {
		log_error("--user %s: %s", g->o->user, r == -ENOENT ? "no such user" : strerror(-r));
		return r;
	}
	if ((r = outputs_open(g)) < 0)
		return r;
	/* Opened while we may; what it needs later it holds open. */
	if ((r = state_open(&state, &g->state)) < 0)
		return r;
	feed.state = g->state;
	if ((r = key_take(g->o, feed.key)) < 0)
		return r;
	g->automaton = malloc(sizeof(*g->automaton));
	r = g->automaton ? automaton_build_with(own ? own->keys : NULL, own ? own->key_count : 0, g->automaton) : -ENOMEM;
	if (r == 0)
		r = detect_open(&detect, &g->detect);
	g->accounts = accounts_new(g->o->max_accounts);
	g->hidden = hidden_new();
	g->inner = inner_new(&inner);
	if (r == 0 && !(g->accounts && g->hidden && g->inner))
		r = -ENOMEM;
	feed.accounts = g->accounts;
	feed.hidden = g->hidden;
	feed.inner = g->inner;
	feed.detect = g->detect;
	feed.automaton = g->automaton;
	if (r == 0)
		r = feed_open(&feed, &g->feed);
	explicit_bzero(feed.key, sizeof(feed.key));
	if (r == 0)
		r = loop_open(g);
	if (r < 0) {
		log_error("cannot start: %s", strerror(-r));
		return r;
	}
	g->statm_fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	g->inet6_fd = open("/proc/self/net/if_inet6", O_RDONLY | O_CLOEXEC);
	if ((r = watcher_begin(g)) < 0 || (r = capture_begin(g)) < 0 || (r = unix_begin(g)) < 0 || (r = ports_begin(g)) < 0 || (r = socket_begin(g, &user)) < 0)
		return r;
	servers_look(g);
	hops_look_back(g->hops);
	if (!g->o->no_engine)
		agent_engine_begin(&g->engine, g->detect, g->ports);
	if ((r = tls_begin(g)) < 0)
		return r;
	state_load(g->state, g->detect, wall_now());

	keep_bpf = !capture_works_unprivileged(g->capture);
	if (keep_bpf)
		log_debug("this kernel wants a capability for each bpf(2): keeping CAP_BPF");
	r = priv_drop(&user, keep_bpf, &step);
	if (r < 0)
		log_error("%s: %s; not going on with privilege", step, strerror(-r));
	return r;
}

static void end(struct agent *g)
{
	uint64_t until = capture_now_ns() + FINAL_DRAIN_NS;
	uint64_t now[WEIR_STAT_COUNT];

	/* First the tap, then the bucket. Probes are taken out last: that may take long, and who waits for our end may lose patience. */
	agent_tls_stop(&g->tls);
	g->uds = uds_free(g->uds);
	capture_pause(g->capture, true);
	while (capture_drain(g->capture) > 0 && capture_now_ns() < until)
		;
	feed_arrivals(g->feed);
	feed_finish(g->feed);
	if (capture_stats(g->capture, now) == 0) {
		losses_tell(g, now);
		memcpy(g->stats, now, sizeof(now));
	}
	detect_finish(g->detect);
	records_close(&g->records);
	sinks_flush(&g->sinks);
	g->state_error = state_finish(g->state, wall_now()) < 0;
	report_summary(g);
}

int agent_run(const struct agent_opts *o)
{
	struct agent g = {
		.o = o,
		.epoll_fd = -1, .signal_fd = -1, .second_fd = -1, .watcher_fd = -1, .watcher_pid = -1, .statm_fd = -1, .inet6_fd = -1,
		.limit.bounds = { o->cpu_limit_pct, o->memory_limit_mib, o->hook_limit_us },
		.records.fd = -1,
	};
	int r;

	if (o->verbose)
		log_set_level(LOG_DEBUG);
	/* From the beginning and for the helpers, too: what is forked has a copy of the secret of hashed keys. */
	setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
	g.started_ns = capture_now_ns();
	g.ports = calloc(1, sizeof(*g.ports));
	r = g.ports ? begin(&g) : -ENOMEM;
	if (r == 0) {
		g.cpu_s = own_cpu_s();
		log_debug("attached after %.0f ms, variant %s, %.1f MiB in the kernel", (double)(capture_now_ns() - g.started_ns) / 1e6,
			  capture_variant(g.capture), (double)capture_kernel_bytes(g.capture) / 1048576);
		g.started_ns = capture_now_ns();
		log_info("ready");
		loop(&g);
		end(&g);
	}
	agent_socket_free(g.socket);
	helper_end(&g.watcher_fd, &g.watcher_pid);
	agent_tls_end(&g.tls);
	hops_free(g.hops);
	uds_free(g.uds);
	agent_engine_end(&g.engine);
	capture_free(g.capture);
	feed_free(g.feed);
	accounts_free(g.accounts);
	hidden_free(g.hidden);
	inner_free(g.inner);
	state_free(g.state);
	detect_free(g.detect);
	records_close(&g.records);
	sinks_done(&g.sinks);
	free(g.ports);
	free(g.automaton);
	closep(&g.epoll_fd);
	closep(&g.signal_fd);
	closep(&g.second_fd);
	closep(&g.statm_fd);
	closep(&g.inet6_fd);
	return r < 0 || g.failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
