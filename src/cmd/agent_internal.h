/* agent_internal.h - what the parts of `weir run` share: agent.c, which runs them, and agent_report.c, which tells of them. */
#ifndef WEIR_CMD_AGENT_INTERNAL_H
#define WEIR_CMD_AGENT_INTERNAL_H

#include "capture/uds.h"
#include "cmd/agent.h"
#include "cmd/agent_engine.h"
#include "cmd/agent_feed.h"
#include "cmd/agent_limit.h"
#include "cmd/agent_socket.h"
#include "cmd/agent_tls.h"
#include "cmd/state.h"
#include "sink/sink.h"

struct agent {
	const struct agent_opts *o;
	struct capture *capture;
	struct feed *feed;
	struct detect *detect;
	struct state *state;
	struct sinks sinks;
	struct records_out records;
	struct agent_socket *socket;
	struct agent_ports *ports;
	struct hops *hops;
	struct uds *uds; /* NULL: no --unix */
	struct accounts *accounts;
	struct hidden *hidden;
	struct inner *inner;
	struct weir_automaton *automaton;
	int epoll_fd, signal_fd, second_fd, watcher_fd, watcher_pid;
	int statm_fd, inet6_fd; /* opened while we may */
	struct limit limit;
	struct agent_engine engine;
	struct agent_tls tls;
	double cpu_pct, rss_mib, hook_us; /* of the last second */
	double cpu_s;                     /* used when the last second ended */
	uint64_t stats[WEIR_STAT_COUNT];
	uint64_t started_ns, seconds;
	uint64_t feed_lost; /* when losses were last told */
	uint64_t drains;
	int drain_ms;
	bool stop, failed, state_error;
};

/* The last words: what was counted, and what was lost and why. */
void report_summary(struct agent *g);
/* Answers the socket's question `stats`; ctx: the agent. */
void report_stats(void *ctx, struct str *out);

#endif
