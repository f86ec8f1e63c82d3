/* tls_internal.h - shared among tls.c and tls_follow.c; nobody else includes it. */
#ifndef WEIR_CAPTURE_TLS_INTERNAL_H
#define WEIR_CAPTURE_TLS_INTERNAL_H

#include "capture/tls_look.h"

/* The probes of one file. */
struct tls_file {
	uint64_t number; /* from 1; in the cookies */
	int link[TLS_STEPS];
	size_t links;
};

struct tls {
	struct capture *capture;
	tls_found_fn *found;
	void *ctx;
	const char *sockets; /* which hook tells of socket calls; NULL: not loaded */
	int call_fd, socket_link[2];
	int objects_fd, threads_fd, pids_fd;
	int uprobe_type;
	int refused; /* why the hook could not be loaded: not tried again */
	struct tls_look *look;
	struct tls_file *files[TLS_FILES_MAX]; /* as long as the agent runs: their numbers are in the cookies */
	size_t file_count, probed;
	struct weir_tls_key object_at; /* where ageing goes on */
	uint64_t thread_at;
	uint32_t pid_at;
	bool object_on, thread_on, pid_on;
};

/* A descriptor that holds the probe, or negative errno. */
int tls_probe_set(struct tls *t, int file_fd, uint64_t offset, bool returns, uint64_t cookie);
int tls_file_add(struct tls *t, struct tls_file **ret);
void tls_file_drop(struct tls_file *f);
/* All of its probes are set. */
void tls_file_done(struct tls *t);
uint64_t tls_cookie(const struct tls_file *f, enum weir_tls_probe probe);
void tls_tell(struct tls *t, int pid, enum tls_kind kind, int error, struct span path);
/* The kernel's side takes calls of this process, and of its children to come. */
int tls_watch(struct tls *t, int pid);
bool tls_port_watched(const struct tls *t, uint16_t port);

#endif
