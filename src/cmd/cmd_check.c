/* cmd_check.c - weir check: what this kernel and host can do, and what is lacking. */
#include "base/log.h"
#include "base/str.h"
#include "capture/discover.h"
#include "capture/probe.h"
#include "cmd/agent_hidden.h"
#include "cmd/agent_opts.h"
#include "cmd/check_clients.h"
#include "cmd/check_tls.h"
#include "cmd/check_unknown.h"
#include "cmd/cmd.h"
#include "cmd/options.h"
#include "decode/automaton.h"

#include <sys/utsname.h>

struct check_opts {
	bool json, unknown;
	char *config, *socket;
	struct discover_opts look;
};

static int port_add(void *into, const char *value)
{
	struct discover_opts *look = &((struct check_opts *)into)->look;
	char *end;
	long v;

	errno = 0;
	v = strtol(value, &end, 10);
	if (end == value || *end)
		return -EINVAL;
	if (errno || v < 1 || v > UINT16_MAX || look->port_count == DISCOVER_GIVEN_MAX)
		return -ERANGE;
	look->ports[look->port_count++] = (uint16_t)v;
	return 0;
}

static const struct option_row rows[] = {
	{ "json", OPTION_FLAG, offsetof(struct check_opts, json), 0, 0, NULL, "one JSON object", NULL },
	{ "config", OPTION_TEXT, offsetof(struct check_opts, config), 0, 0, "FILE", "check this configuration file, too", NULL },
	{ "port", OPTION_CALL, 0, 1, UINT16_MAX, "N", "look at the server that listens on this port, too; may be repeated", port_add },
	{ "unknown", OPTION_FLAG, offsetof(struct check_opts, unknown), 0, 0, NULL, "list the calls that the running agent saw and no dialect knows", NULL },
	{ "socket", OPTION_TEXT, offsetof(struct check_opts, socket), 0, 0, "PATH", "the running agent's socket (" AGENT_SOCKET_DEFAULT ")", NULL },
};

static void print_clients(const struct check_clients *c)
{
	if (c->hidden)
		printf("\nclients are hidden behind %s; %s\n", c->peers, hidden_advice(c->forwards));
}

static void print_table(const struct probe_result *p, const struct discover_result *d, const struct check_tls *t, const struct check_clients *c)
{
	struct utsname u;

	if (uname(&u) == 0)
		printf("Linux %s %s\n\n", u.release, u.machine);
	printf("%-18s %-9s %s\n", "HOOK", "STATE", "FOUND");
	for (int i = 0; i < PROBE_COUNT; i++) {
		const struct probe *it = &p->item[i];

		printf("%-18s %-9s %s\n", it->hook, probe_state_name(it->state), it->found);
		if (*it->lost)
			printf("%-18s %-9s -> %s\n", "", "", it->lost);
	}
	printf("\n%-8s %-8s %-16s %-28s %s\n", "PORT", "PID", "SERVER", "RUNS AS", "TLS LIBRARY");
	for (size_t i = 0; i < d->count; i++) {
		printf("%-8u %-8d %-16s %-28s %s\n", d->port[i].port, d->port[i].pid, d->port[i].server, *d->port[i].workload ? d->port[i].workload : "-",
		       *d->port[i].tls ? d->port[i].tls : "-");
		check_tls_print(t, d->port[i].pid);
	}
	if (!d->count)
		printf("no known model server listens here; --port N watches any\n");
	if (d->hidden)
		printf("%zu processes could not be looked into\n", d->hidden);
	if (t->closed)
		printf("of %zu of these servers it is not known what TLS code they hold: run as root\n", t->closed);
	if (t->cut)
		printf("%zu more files with TLS code are not listed\n", t->cut);
	print_clients(c);
	printf("\n%s\n", p->metering ? "metering is possible" : "metering is NOT possible");
}

static int print_json(const struct probe_result *p, const struct discover_result *d, const struct check_tls *t, const struct check_clients *c)
{
	struct str out = { 0 };
	int r;

	json_begin(&out, '{');
	json_kbool(&out, "metering", p->metering);
	json_key(&out, "hooks");
	json_begin(&out, '[');
	for (int i = 0; i < PROBE_COUNT; i++) {
		const struct probe *it = &p->item[i];

		json_begin(&out, '{');
		json_kstring(&out, "hook", span_of(it->hook));
		json_kstring(&out, "state", span_of(probe_state_name(it->state)));
		json_kstring(&out, "found", span_of(it->found));
		json_kstring(&out, "lost", span_of(it->lost));
		json_end(&out, '}');
	}
	json_end(&out, ']');
	json_key(&out, "servers");
	json_begin(&out, '[');
	for (size_t i = 0; i < d->count; i++) {
		json_begin(&out, '{');
		json_kuint(&out, "port", d->port[i].port);
		json_kint(&out, "pid", d->port[i].pid);
		json_kstring(&out, "server", span_of(d->port[i].server));
		json_kuint(&out, "netns", d->port[i].netns);
		if (*d->port[i].workload)
			json_kstring(&out, "workload", span_of(d->port[i].workload));
		if (*d->port[i].image)
			json_kstring(&out, "image", span_of(d->port[i].image));
		if (*d->port[i].tls)
			json_kstring(&out, "tls_library", span_of(d->port[i].tls));
		check_tls_write(&out, t, d->port[i].pid);
		json_end(&out, '}');
	}
	json_end(&out, ']');
	if (c->known) {
		json_key(&out, "clients");
		json_begin(&out, '{');
		json_kbool(&out, "hidden", c->hidden);
		json_kuint(&out, "requests", c->requests);
		json_kstring(&out, "peers", span_of(c->peers));
		json_kstring(&out, "advice", span_of(c->hidden ? hidden_advice(c->forwards) : ""));
		json_end(&out, '}');
	}
	json_end(&out, '}');
	str_addc(&out, '\n');
	r = str_error(&out);
	if (r == 0 && fwrite(out.p, 1, out.n, stdout) != out.n)
		r = -EIO;
	str_done(&out);
	return r;
}

static int check(bool json, const struct discover_opts *look, const char *socket)
{
	CLEANUP(freep) struct weir_automaton *automaton = malloc(sizeof(*automaton));
	CLEANUP(freep) struct discover_result *servers = calloc(1, sizeof(*servers));
	CLEANUP(freep) struct check_tls *tls = calloc(1, sizeof(*tls));
	struct check_clients clients;
	struct probe_result p;
	int r = automaton && servers && tls ? automaton_build(automaton) : -ENOMEM;

	if (r == 0)
		r = probe_run(automaton, &p);
	if (r < 0) {
		log_error("cannot check: %s", strerror(-r));
		return EXIT_FAILURE;
	}
	r = discover_scan(look, NULL, servers);
	if (r == 0)
		r = check_tls_look(servers, tls);
	if (r < 0)
		log_warning("cannot look for servers: %s", strerror(-r));
	check_clients_ask(socket, &clients);
	if (json)
		r = print_json(&p, servers, tls, &clients);
	else
		print_table(&p, servers, tls, &clients);
	probe_done(&p);
	return p.metering && r == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

int cmd_check(int argc, char **argv)
{
	struct check_opts o = { .look.automatic = true };
	int r = options_parse(rows, ARRAY_SIZE(rows), &o, "check [--json] [--port N] [--config FILE] [--unknown] [--socket PATH]", argc, argv, NULL);

	if (r)
		r = r < 0 ? EXIT_USAGE : 0;
	else if (o.config && agent_opts_check_file(o.config) < 0)
		r = EXIT_USAGE;
	else if (o.unknown)
		r = check_unknown(o.socket ? o.socket : AGENT_SOCKET_DEFAULT, o.json);
	else
		r = check(o.json, &o.look, o.socket ? o.socket : AGENT_SOCKET_DEFAULT);
	options_done(rows, ARRAY_SIZE(rows), &o);
	return r;
}
