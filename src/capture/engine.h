/*
 * engine.h - tokens that inference engines compute, counted by a uprobe on the function that takes a batch.
 *
 * Probes are set per file: one counts for every process that has the file mapped, now or later, so that a server that is started
 * again is counted on. Which port a process serves is known of those that listened at the scan or were told of since, and of their
 * children (Ollama's runner); what others compute with the same file is taken for the port of that file, where it serves only one.
 */
#ifndef WEIR_CAPTURE_ENGINE_H
#define WEIR_CAPTURE_ENGINE_H

#include "base/util.h"

#define ENGINE_FILES_MAX 64

struct engine_found {
	int pid;
	uint16_t port;
	const char *engine; /* name */
	const char *path;   /* as the process names it; hostile */
	int error;          /* 0, or why no probe could be set */
};

struct engine_counts {
	uint64_t calls, tokens;    /* since the probes were set */
	uint64_t unattributed;     /* of these tokens: not known whose */
	uint64_t full, unreadable; /* calls that were not counted */
	unsigned files, processes;
};

struct engine;

int engine_open(void (*found)(void *ctx, const struct engine_found *f), void *ctx, struct engine **ret); /* -ENOMEM; loads nothing yet */
struct engine *engine_free(struct engine *e);

/*
 * Probes the engines that the processes have mapped which listen on this port. Needs privilege. The number of files newly probed, or
 * negative errno; files that cannot be probed are told through found().
 */
int engine_scan(struct engine *e, uint16_t port);

/* A process that listens on this port now, or no longer does. NULL: nothing happens. Needs no privilege. */
void engine_own(struct engine *e, uint32_t pid, uint16_t port);
void engine_disown(struct engine *e, uint32_t pid, uint16_t port);

/* Calls tell() with what was computed behind each port since the last time. 0, or negative errno. Needs no privilege but what map operations need. */
int engine_read(struct engine *e, void (*tell)(void *ctx, uint16_t port, uint64_t tokens), void *ctx);

void engine_counts(const struct engine *e, struct engine_counts *ret);

/* Whether the kernel takes the programs and has uprobes: 0, or negative errno. For `weir check`. */
int engine_works(void);

#endif
