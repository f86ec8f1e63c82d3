/* capture_internal.h - shared among the files of the capture module; nobody else includes it. */
#ifndef WEIR_CAPTURE_INTERNAL_H
#define WEIR_CAPTURE_INTERNAL_H

#include "capture/capture.h"
#include "capture/extras.h"
#include "capture/soft_maps.h"

struct bpf_object;

struct aged {
	struct weir_client_key key;
	struct weir_client sum;
};

struct capture {
	const char *variant;
	int conns_fd, clients_fd, others_fd, stats_fd, addrs_fd, ring_fd;
	int bss_fd, automaton_fd; /* shared with the TLS hook; automaton: -1 where the meter runs in user space */
	uint32_t v6_prefix;
	bool prompt_blind;
	int prog_fd[2], link_fd[2], idle_fd[2]; /* by enum weir_dir; idle: a program that counts nothing */
	uint32_t ring_bytes;
	uint64_t kernel_bytes;
	struct ring_buffer *ring;
	void (*event)(void *ctx, const void *data, size_t n);
	void *ctx;
	size_t drained; /* bytes of this drain */
	void *bss;
	size_t bss_size;
	struct weir_control *control;

	bool no_batch; /* the kernel has no batch operations */
	struct capture_cursor age_cursor;
	uint32_t conn_batch;
	bool conn_started;

	struct aged *aged;
	size_t aged_count;
	struct losses *losses;
	struct extras *extras;

	struct soft *soft; /* the meter in user space; NULL: in the kernel */
	struct soft_maps soft_maps;
};

/* Where a global variable lies before the object is loaded. NULL where the object has none of this name and size. */
void *capture_variable(struct bpf_object *obj, const char *section, const char *name, size_t size);
int capture_set_variable(struct bpf_object *obj, const char *section, const char *name, const void *value, size_t size);

/* Another object with the meter in it, not loaded yet, is to have this one's settings and maps. -EINVAL: it was built of another source. */
int capture_share(const struct capture *c, struct bpf_object *obj);

/*
 * Gives back what loading a BPF object took: libbpf reads the kernel's types, some 10 MiB of small pieces, and the object itself
 * lies in this program's constants, which come back out of its file should they be read again.
 */
void capture_loaded(const void *object_bytes, size_t size);

struct losses *losses_free(struct losses *l);
/* The client's counters start again from nothing. */
void losses_forget(struct losses *l, const struct weir_client_key *key);

#endif
