/*
 * agent.h - the running agent: everything between the options of `weir run` and its exit status.
 */
#ifndef WEIR_CMD_AGENT_H
#define WEIR_CMD_AGENT_H

#include "cmd/agent_opts.h"

/* Runs until a signal, --duration or a failure. Returns the exit status; it was said what went wrong. */
int agent_run(const struct agent_opts *o);

/* One line on why metering cannot begin, and what to do about it. */
void agent_complain_open(int error, const char *where);

#endif
