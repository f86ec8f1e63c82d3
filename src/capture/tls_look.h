/*
 * tls_look.h - what TLS code a process has mapped: each file is read once, and remembered.
 *
 * Finding is apart from probing, because it goes on after the privilege to probe is given up: tls.c looks and probes in one
 * process, tls_follow.c looks in a helper and asks for the probes.
 */
#ifndef WEIR_CAPTURE_TLS_LOOK_H
#define WEIR_CAPTURE_TLS_LOOK_H

#include "capture/tls.h"
#include "capture/tls_elf.h"
#include "capture/tls_find.h"
#include "weir/tls.h"

#include <sys/stat.h>

#define TLS_FUNCTIONS 12 /* rows of tls_functions[] */

/* The functions that are hooked. SSL_accept and SSL_connect call SSL_do_handshake, gnutls_record_send calls gnutls_record_send2. */
struct tls_function {
	const char *symbol;
	enum weir_tls_probe probe;
	bool returns;
};
extern const struct tls_function tls_functions[TLS_FUNCTIONS];

/* The probes of a file in the order in which to set them: ends of calls before their beginnings, so that what begins is seen to end. */
struct tls_step {
	uint64_t offset;
	enum weir_tls_probe probe;
};
#define TLS_STEPS (2 * TLS_FUNCTIONS)
size_t tls_steps(const uint64_t offset[TLS_FUNCTIONS], struct tls_step ret[TLS_STEPS]);

struct tls_known {
	dev_t dev;
	ino_t inode;
	struct timespec changed;
	enum tls_kind kind;
	bool told;
	int error; /* why it could not be probed */
};

/* A file that was not known before. */
struct tls_seen {
	int pid, fd;
	enum tls_kind kind;
	const struct tls_mapping *mapping;
	const struct stat *st;
	uint64_t offset[TLS_FUNCTIONS]; /* of tls_functions[]; 0: not there */
	struct span path;
};

struct tls_look {
	struct tls_known known[TLS_FILES_MAX];
	size_t count;
	int (*probe)(void *ctx, const struct tls_seen *s);             /* TLS code that can be probed. 0 or negative errno. */
	void (*tell)(void *ctx, const struct tls_seen *s, int error);  /* each file with TLS in it, once */
	void *ctx;
};

/* 1: the process has probed code; 0: it has none; -ESRCH, other negative errno. ret_new (may be NULL) grows by the files probed now. */
int tls_look_pid(struct tls_look *l, int pid, int *ret_new);
/* The file is not known any more: it will be seen anew. */
void tls_look_forget(struct tls_look *l, dev_t dev, ino_t inode);

#endif
