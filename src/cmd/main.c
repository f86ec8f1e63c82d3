/* weir: one binary, a table of subcommands. */
#include "base/log.h"
#include "base/util.h"
#include "cmd/cmd.h"

static const struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *what;
} commands[] = {
	{ "run", cmd_run, "attach to running model servers and watch" },
	{ "clients", cmd_clients, "who used what, from the running agent" },
	{ "check", cmd_check, "what this kernel and host can do, and what is lacking" },
	{ "replay", cmd_replay, "the same detectors on a file of records, or stdin" },
	{ "scrub", cmd_scrub, "a packet capture without prompts, answers and keys" },
	{ "eval", cmd_eval, "how good a detector is, by labels and its events" },
	{ "anomalies", cmd_anomalies, "what was raised, how it ended, what people said of it" },
	{ "feedback", cmd_feedback, "say of an incident whether it was right" },
	{ NULL, NULL, NULL },
};

static void usage(FILE *f)
{
	fprintf(f, "usage: weir COMMAND [OPTION...]\n\n");
	for (const struct command *c = commands; c->name; c++)
		fprintf(f, "  %-10s %s\n", c->name, c->what);
	fprintf(f, "\nweir COMMAND --help tells the options of one command.\n");
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		usage(stderr);
		return EXIT_USAGE;
	}
	if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) {
		puts("weir " WEIR_VERSION);
		return 0;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
		usage(stdout);
		return 0;
	}
	for (const struct command *c = commands; c->name; c++)
		if (!strcmp(argv[1], c->name))
			return c->run(argc - 1, argv + 1);
	log_error("unknown command '%s' (weir --help lists them)", argv[1]);
	return EXIT_USAGE;
}
