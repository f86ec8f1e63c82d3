/*
 * cmd.h - the subcommands. Each gets argv from its own name on and returns the exit status:
 * 0 done, 1 runtime failure, 2 usage or input error.
 */
#ifndef WEIR_CMD_CMD_H
#define WEIR_CMD_CMD_H

#define EXIT_USAGE 2

int cmd_run(int argc, char **argv);
int cmd_clients(int argc, char **argv);
int cmd_check(int argc, char **argv);
int cmd_replay(int argc, char **argv);
int cmd_scrub(int argc, char **argv);
int cmd_anomalies(int argc, char **argv);
int cmd_feedback(int argc, char **argv);
int cmd_eval(int argc, char **argv);

#endif
