#include "cmd/agent_tls.h"

#include "base/log.h"

#include <ctype.h>

#define AGE_PERIOD_S 5
#define OBJECT_IDLE_NS (10 * 60 * UINT64_C(1000000000)) /* as long as a silent connection is kept */
#define PATH_SAID 160

/* Paths are named by the process that mapped them. */
static void path_clean(const char *path, char *ret)
{
	size_t i;

	for (i = 0; path[i] && i < PATH_SAID - 1; i++)
		ret[i] = (char)(isprint((unsigned char)path[i]) ? path[i] : '?');
	ret[i] = '\0';
}

static void on_found(void *ctx, const struct tls_found *f)
{
	struct agent_tls *a = ctx;
	char path[PATH_SAID];

	path_clean(f->path, path);
	if (f->error < 0) {
		log_warning("cannot set probes in %s of pid %d (%s), continuing without its TLS", path, f->pid, strerror(-f->error));
	} else if (f->kind == TLS_OPENSSL || f->kind == TLS_GNUTLS) {
		log_info("metering TLS in %s (%s, pid %d)", path, tls_kind_name(f->kind), f->pid);
	} else {
		a->blind++;
		log_info("%s (pid %d): %s, if it speaks TLS: %s", path, f->pid, tls_kind_name(f->kind), tls_kind_lost(f->kind));
	}
}

int agent_tls_begin(struct agent_tls *a, struct capture *c, enum tls_mode mode, double call_limit_us)
{
	int r;

	a->limit.bounds = (struct limit_bounds){ .cpu_pct = 1, .memory_mib = 1, .hook_us = call_limit_us };
	a->call_us = -1;
	if (mode == TLS_OFF)
		return 0;
	r = tls_open(c, on_found, a, &a->tls);
	if (r == 0)
		r = tls_load(a->tls);
	if (r < 0 && mode == TLS_ON) {
		log_error("--tls on: the TLS hook cannot be loaded: %s (weir check tells more)", strerror(-r));
		return r;
	}
	if (r < 0) {
		log_warning("the TLS hook cannot be loaded (%s), continuing without TLS", strerror(-r));
		a->tls = tls_free(a->tls);
		return 0;
	}
	r = tls_scan_listeners(a->tls);
	if (r < 0)
		log_warning("cannot look for TLS libraries: %s", strerror(-r));
	r = tls_follow_start(a->tls, &a->follow);
	if (r < 0)
		log_warning("cannot look for TLS libraries later (%s): servers that start from now on are metered without TLS", strerror(-r));
	return 0;
}

void agent_tls_fds(const struct agent_tls *a, int ret[2])
{
	ret[0] = ret[1] = -1;
	if (a->follow)
		tls_follow_fds(a->follow, ret);
}

void agent_tls_event(struct agent_tls *a)
{
	int r = a->follow ? tls_follow_event(a->follow) : 0;

	if (r < 0)
		log_warning("a helper that looks for TLS libraries is gone (%s): servers that start from now on are metered without TLS",
			    r == -EPIPE ? "it ended" : "it spoke nonsense");
}

void agent_tls_second(struct agent_tls *a, uint64_t seconds, const uint64_t before[WEIR_STAT_COUNT], const uint64_t now[WEIR_STAT_COUNT])
{
	uint64_t runs = now[WEIR_STAT_TLS_NS_RUNS] - before[WEIR_STAT_TLS_NS_RUNS];
	bool was = a->limit.level != LIMIT_NONE, is;

	if (!a->tls)
		return;
	if (seconds % AGE_PERIOD_S == 0)
		tls_age(a->tls, capture_now_ns(), OBJECT_IDLE_NS);
	a->call_us = runs ? (double)(now[WEIR_STAT_TLS_NS] - before[WEIR_STAT_TLS_NS]) / (double)runs / 1000 : -1;
	if (!limit_second(&a->limit, 0, 0, a->call_us))
		return;
	is = a->limit.level != LIMIT_NONE;
	if (is == was)
		return;
	tls_pause(a->tls, is);
	if (is)
		log_warning("a TLS call takes %.1f of %g us in the hook: shedding the TLS hook", MAX(a->call_us, 0), a->limit.bounds.hook_us);
	else
		log_info("calm again: the TLS hook is back");
}

void agent_tls_stop(struct agent_tls *a)
{
	if (a->tls)
		tls_pause(a->tls, true);
}

void agent_tls_end(struct agent_tls *a)
{
	a->follow = tls_follow_free(a->follow);
	a->tls = tls_free(a->tls);
}
