/* cmd_run.c - weir run: attach and watch. */
#include "cmd/agent.h"
#include "cmd/cmd.h"

int cmd_run(int argc, char **argv)
{
	struct agent_opts o;
	int r = agent_opts_parse(&o, argc, argv);

	r = r < 0 ? EXIT_USAGE : r > 0 ? 0 : agent_run(&o);
	agent_opts_done(&o);
	return r;
}
