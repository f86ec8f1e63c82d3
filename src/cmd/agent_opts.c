#include "cmd/agent_opts.h"

#include "base/log.h"
#include "capture/capture.h"
#include "cmd/agent_accounts.h"
#include "cmd/calendar_file.h"
#include "cmd/options.h"
#include "cmd/price_file.h"
#include "decode/dialect_file.h"
#include "detect/detect.h"
#include "detect/price.h"

#include <limits.h>

static int whole_number(const char *value, long max, long *ret)
{
	char *end;
	long v;

	errno = 0;
	v = strtol(value, &end, 10);
	if (end == value || *end || errno)
		return -EINVAL;
	if (v < 1 || v > max)
		return -ERANGE;
	*ret = v;
	return 0;
}

static int port_add(void *into, const char *value)
{
	struct agent_opts *o = into;
	long v;
	int r = whole_number(value, 65535, &v);

	if (r < 0)
		return r;
	for (size_t i = 0; i < o->port_count; i++)
		if (o->port[i] == v)
			return 0;
	if (o->port_count == AGENT_PORTS_MAX)
		return -E2BIG;
	o->port[o->port_count++] = (uint16_t)v;
	return 0;
}

static int pid_add(void *into, const char *value)
{
	struct agent_opts *o = into;
	long v;
	int r = whole_number(value, INT_MAX, &v);

	if (r < 0)
		return r;
	if (o->discover.pid_count == DISCOVER_PIDS_MAX)
		return -E2BIG;
	o->discover.pids[o->discover.pid_count++] = (int)v;
	return 0;
}

static int variant_set(void *into, const char *value)
{
	struct agent_opts *o = into;

	o->variant = capture_variant_find(value);
	return o->variant ? 0 : -EINVAL;
}

static int unix_add(void *into, const char *value)
{
	struct agent_opts *o = into;
	size_t n = strlen(value);

	if ((*value != '/' && *value != '@') || n < 2 || n >= WEIR_UNIX_PATH)
		return -EINVAL;
	for (size_t i = 0; i < o->unix_count; i++)
		if (!strcmp(o->unix_path[i], value))
			return 0;
	if (o->unix_count == WEIR_UNIX_SERVERS)
		return -E2BIG;
	memcpy(o->unix_path[o->unix_count++], value, n + 1);
	return 0;
}

static int trusted_add(void *into, const char *value)
{
	return identity_trust(&((struct agent_opts *)into)->identity, span_of(value));
}

static int trusted_header_set(void *into, const char *value)
{
	return identity_trust_only(&((struct agent_opts *)into)->identity, span_of(value));
}

static int output_set(void *into, const char *value)
{
	struct agent_opts *o = into;

	if (strcmp(value, "human") && strcmp(value, "json"))
		return -EINVAL;
	o->json = !strcmp(value, "json");
	return 0;
}

static int tls_set(void *into, const char *value)
{
	static const char *const modes[] = { [TLS_AUTO] = "auto", [TLS_ON] = "on", [TLS_OFF] = "off" };
	struct agent_opts *o = into;

	for (size_t i = 0; i < ARRAY_SIZE(modes); i++)
		if (!strcmp(value, modes[i])) {
			o->tls = (enum tls_mode)i;
			return 0;
		}
	return -EINVAL;
}

#define AT(member) offsetof(struct agent_opts, member)

static const struct option_row rows[] = {
	{ "port", OPTION_CALL, 0, 1, 65535, "N", "meter the server that listens on this port; may be repeated", port_add },
	{ "unix", OPTION_CALL, 0, 0, 0, "PATH|@NAME", "meter the server that listens on this Unix socket; may be repeated", unix_add },
	{ "pid", OPTION_CALL, 0, 1, INT_MAX, "N", "meter all ports of this process and those it started; may be repeated", pid_add },
	{ "auto", OPTION_FLAG, AT(discover.automatic), 0, 0, NULL, "find known model servers by themselves", NULL },
	{ "cgroup", OPTION_TEXT, AT(cgroup), 0, 0, "PATH", "only sockets created in this cgroup", NULL },
	{ "tls", OPTION_CALL, 0, 0, 0, "auto|on|off", "meter TLS in the servers' own TLS libraries (auto: where that works)", tls_set },
	{ "no-engine", OPTION_FLAG, AT(no_engine), 0, 0, NULL, "do not count what llama.cpp and Ollama compute", NULL },
	{ "output", OPTION_CALL, 0, 0, 0, "human|json", "how anomalies are written to standard output (human)", output_set },
	{ "journal", OPTION_FLAG, AT(journal), 0, 0, NULL, "write anomalies to the journal, too", NULL },
	{ "records-out", OPTION_TEXT, AT(records_out), 0, 0, "FILE|-", "append one JSON line per request", NULL },
	{ "state", OPTION_TEXT, AT(state), 0, 0, "DIR", "keep what must outlive a restart here", NULL },
	{ "key-file", OPTION_TEXT, AT(key_file), 0, 0, "FILE", "the secret of hashed API keys, made where there is none (key in --state)", NULL },
	{ "duration", OPTION_REAL, AT(duration_s), 0.001, 1e9, "S", "end after so many seconds", NULL },
	{ "config", OPTION_TEXT, AT(config), 0, 0, "FILE", "read options from a file: name = value", NULL },
	{ "dialects", OPTION_TEXT, AT(dialects), 0, 0, "FILE", "read model servers' APIs of your own from a file", NULL },
	{ "calendar", OPTION_TEXT, AT(calendar), 0, 0, "FILE", "what is known to come: events it explains are told one step less severe", NULL },
	{ "sensitivity", OPTION_REAL, AT(sensitivity), DETECT_SENSITIVITY_MIN, DETECT_SENSITIVITY_MAX, "X", "below 1 fewer alarms, above it more (1; weir eval --calibrate proposes it)", NULL },
	{ "alarms-per-week", OPTION_REAL, AT(alarms_per_week), 0.01, DETECT_ALARMS_MAX, "N", "let the sensitivity follow what has been seen: about so many false alarms a week", NULL },
	{ "prompt-blind", OPTION_FLAG, AT(prompt_blind), 0, 0, NULL, "let no byte of a request body leave the kernel", NULL },
	{ "trusted-proxy", OPTION_CALL, 0, 0, 0, "ADDRESS[/BITS]|unix:", "believe this peer about who the client is; may be repeated", trusted_add },
	{ "trusted-header", OPTION_CALL, 0, 0, 0, "NAME", "of a trusted proxy's headers this one alone: x-forwarded-for, forwarded, cf-connecting-ip, true-client-ip, x-real-ip", trusted_header_set },
	{ "socket", OPTION_TEXT, AT(socket), 0, 0, "PATH", "where `weir clients` asks (" AGENT_SOCKET_DEFAULT ")", NULL },
	{ "user", OPTION_TEXT, AT(user), 0, 0, "NAME", "go on as this user once attached (nobody)", NULL },
	{ "cpu-limit", OPTION_REAL, AT(cpu_limit_pct), 0.01, 10000, "PCT", "own CPU above which work is shed, percent of a core (50)", NULL },
	{ "memory-limit", OPTION_REAL, AT(memory_limit_mib), 1, 1e6, "MIB", "own memory above which work is shed (256)", NULL },
	{ "hook-limit", OPTION_REAL, AT(hook_limit_us), 0.001, 1e6, "US", "mean time of a packet in the meter above which work is shed (200)", NULL },
	{ "ring-size", OPTION_SIZE, AT(ring_bytes), 4096, CAPTURE_RING_MAX, "BYTES", "ring buffer, K and M understood (2M)", NULL },
	{ "max-clients", OPTION_UINT, AT(max_clients), 1, CAPTURE_CLIENTS_MAX, "N", "clients counted one by one (100000)", NULL },
	{ "max-connections", OPTION_UINT, AT(max_conns), 1, CAPTURE_CONNS_MAX, "N", "connections followed at once (65536)", NULL },
	{ "max-accounts", OPTION_UINT, AT(max_accounts), 1, ACCOUNTS_MAX, "N", "true clients, keys and users counted one by one, of each (16384)", NULL },
	{ "v6-prefix", OPTION_UINT, AT(v6_prefix), 1, 128, "BITS", "IPv6 clients are counted per network of this length (64)", NULL },
	{ "client-idle", OPTION_REAL, AT(client_idle_s), 1, 1e9, "S", "a silent client is added to its server's `aged` sum (3600)", NULL },
	{ "variant", OPTION_CALL, 0, 0, 0, "NAME", "only this variant of the meter: may_goto, bpf_loop or tap (the best)", variant_set },
	{ "verbose", OPTION_FLAG, AT(verbose), 0, 0, NULL, "say more", NULL },
};

static void defaults(struct agent_opts *o)
{
	*o = (struct agent_opts){ .cpu_limit_pct = 50, .memory_limit_mib = 256, .hook_limit_us = 200, .client_idle_s = 3600, .max_accounts = ACCOUNTS_DEFAULT, .identity.only = IDENTITY_ANY };
}

static int dialects_read(struct agent_opts *o)
{
	char why[DIALECT_FILE_WHY];
	int r;

	if (!o->dialects)
		return 0;
	r = dialect_file_read(o->dialects, &o->dialect_file, why);
	if (r < 0)
		log_error("%s", why);
	return r < 0 ? -EINVAL : 0;
}

static int calendar_take(struct agent_opts *o)
{
	char why[CALENDAR_WHY];
	int r;

	if (!o->calendar)
		return 0;
	r = calendar_file_read(o->calendar, &o->known, why);
	if (r < 0)
		log_error("%s", why);
	return r < 0 ? -EINVAL : 0;
}

static bool given(const char *name, int argc, char **argv, const char **ret)
{
	size_t n = strlen(name);
	bool found = false;

	for (int i = 1; i < argc && strcmp(argv[i], "--"); i++) {
		if (strncmp(argv[i], name, n))
			continue;
		if (argv[i][n] == '=')
			*ret = argv[i] + n + 1, found = true;
		else if (!argv[i][n] && i + 1 < argc)
			*ret = argv[i + 1], found = true;
	}
	return found;
}

int agent_opts_parse(struct agent_opts *o, int argc, char **argv)
{
	const char *file;
	int r;

	defaults(o);
	/* The file comes first, so that the command line has the last word. */
	if (given("--config", argc, argv, &file)) {
		r = options_read_file(rows, ARRAY_SIZE(rows), o, file);
		if (r == 0)
			r = price_file_read(file, &o->prices);
		if (r < 0)
			return -EINVAL;
	}
	r = options_parse(rows, ARRAY_SIZE(rows), o, "run (--port N | --unix PATH | --pid N | --auto) [OPTION...]", argc, argv, NULL);
	if (r)
		return r;
	if (!o->port_count && !o->unix_count && !o->discover.pid_count && !o->discover.automatic) {
		log_error("nothing to watch: give --port N, --unix PATH, --pid N or --auto");
		return -EINVAL;
	}
	if (o->json && o->records_out && !strcmp(o->records_out, "-")) {
		log_error("--records-out - and --output json both want standard output: name a file for the records");
		return -EINVAL;
	}
	if (dialects_read(o) < 0 || calendar_take(o) < 0)
		return -EINVAL;
	if (!o->socket && !(o->socket = strdup(AGENT_SOCKET_DEFAULT)))
		return -EINVAL;
	return 0;
}

int agent_opts_check_file(const char *path)
{
	struct agent_opts o;
	int r;

	defaults(&o);
	r = options_read_file(rows, ARRAY_SIZE(rows), &o, path);
	if (r == 0)
		r = price_file_read(path, &o.prices);
	if (r == 0)
		r = dialects_read(&o);
	if (r == 0)
		r = calendar_take(&o);
	agent_opts_done(&o);
	return r < 0 ? -EINVAL : 0;
}

void agent_opts_done(struct agent_opts *o)
{
	o->dialect_file = dialect_file_free(o->dialect_file);
	o->known = calendar_free(o->known);
	o->prices = prices_free(o->prices);
	options_done(rows, ARRAY_SIZE(rows), o);
}
