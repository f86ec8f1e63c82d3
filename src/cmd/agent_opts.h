/* agent_opts.h - the options of `weir run` (and `weir check --config`, which tries the same file). */
#ifndef WEIR_CMD_AGENT_OPTS_H
#define WEIR_CMD_AGENT_OPTS_H

#include "capture/discover.h"
#include "cmd/agent_tls.h"
#include "decode/identity.h"
#include "weir/unix.h"

#define AGENT_PORTS_MAX 256
#define AGENT_SOCKET_DEFAULT "/run/weir.sock"

struct calendar;
struct dialect_file;
struct prices;

struct agent_opts {
	uint16_t port[AGENT_PORTS_MAX];
	size_t port_count;
	char unix_path[WEIR_UNIX_SERVERS][WEIR_UNIX_PATH];
	size_t unix_count;
	struct discover_opts discover;
	enum tls_mode tls;
	bool json; /* --output */
	bool no_engine;
	bool journal, prompt_blind, verbose;
	struct identity_rules identity; /* --trusted-proxy, --trusted-header */
	struct dialect_file *dialect_file; /* what --dialects names, read and checked; NULL: none */
	struct calendar *known;            /* what --calendar names; NULL: none */
	struct prices *prices;             /* [price] of --config; NULL: none */
	char *calendar, *dialects, *records_out, *state, *key_file, *config, *cgroup, *socket, *user;
	const char *variant; /* NULL: the best */
	double duration_s; /* 0: until told to stop */
	uint32_t ring_bytes, max_clients, max_conns, v6_prefix;
	double cpu_limit_pct, memory_limit_mib, hook_limit_us;
	double client_idle_s;
	double sensitivity, alarms_per_week; /* 0: as shipped; none */
	uint32_t max_accounts;
};

/* Defaults, then the file that --config names, then the command line. 0; 1: help was printed; -EINVAL: said what is wrong. */
int agent_opts_parse(struct agent_opts *o, int argc, char **argv);
/* Checks a configuration file alone. 0 or -EINVAL. */
int agent_opts_check_file(const char *path);
void agent_opts_done(struct agent_opts *o);

#endif
