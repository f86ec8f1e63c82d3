/*
 * tls.h - the meter on TLS libraries: finds them in the watched servers, hangs probes on them, keeps the tables small.
 *
 * bpf/tls.bpf.c shares the maps of a loaded capture; it is loaded when the first library is found, since that takes half a second.
 * Uprobes are set per file, not per process: one fires for every process that maps the file, and the kernel's side asks
 * whether the process is watched, or the child of one that is. Loading and scanning need privilege; the rest does not. A process
 * that was forked from the one that opened the capture may open a struct tls of its own on it: what it probes lasts as long as it lives.
 */
#ifndef WEIR_CAPTURE_TLS_H
#define WEIR_CAPTURE_TLS_H

#include "capture/capture.h"

#define TLS_FILES_MAX 1024 /* files looked at and remembered, so that a scan costs little the second time */

enum tls_kind {
	TLS_NOTHING,   /* no TLS in it that we know of */
	TLS_OPENSSL,   /* OpenSSL, BoringSSL or LibreSSL: SSL_read and SSL_write */
	TLS_GNUTLS,
	TLS_GO,        /* a Go program: crypto/tls, if any, has no functions to hang a probe on */
	TLS_RUSTLS,
	TLS_STRIPPED,  /* OpenSSL or a relative is linked into it, and its names were removed */
};

/* Something that a scan found, each file once. */
struct tls_found {
	int pid;             /* where it was found */
	enum tls_kind kind;
	int error;           /* 0, or why no probe could be set */
	const char *path;    /* as that process names it; hostile */
};
typedef void tls_found_fn(void *ctx, const struct tls_found *found);

struct tls;

/* Finds nothing and loads nothing yet. `found` hears of each file once, while a scan runs. -ENOMEM. */
int tls_open(struct capture *c, tls_found_fn *found, void *ctx, struct tls **ret);
/*
 * Loads the hook now, for who wants to know whether that works. -EOPNOTSUPP: this kernel cannot (the meter is in user space there, or
 * no hook on the socket calls works); other negative errno.
 */
int tls_load(struct tls *t);
struct tls *tls_free(struct tls *t);
static inline void tls_freep(struct tls **t)
{
	tls_free(*t);
}

/*
 * Watches a process and its children to come, and sets probes on the TLS code that it has mapped by now; cheap where nothing is
 * new. The number of files newly probed, or negative errno (-ESRCH: it is gone).
 */
int tls_scan_pid(struct tls *t, int pid);
/* The same for every process that listens on a watched port. */
int tls_scan_listeners(struct tls *t);

/* What became of one file's kind: what is lost, and the way out. "" where nothing is. */
const char *tls_kind_name(enum tls_kind k);
const char *tls_kind_lost(enum tls_kind k);

/* The hook returns at once, or works again. Between the two nothing is metered. */
void tls_pause(struct tls *t, bool pause);
/* Forgets objects and threads of processes that are gone, and objects silent for idle_ns; a part of the tables per call. By who has loaded. */
void tls_age(struct tls *t, uint64_t now_ns, uint64_t idle_ns);

/* Microseconds that a call of a probed function costs a process that is not watched, measured on this one. */
int tls_cost(struct tls *t, double *ret_us);

size_t tls_files(const struct tls *t);        /* with probes on them */
const char *tls_sockets(const struct tls *t); /* which hook tells of socket calls: "tp_btf", "fexit"; NULL: not loaded */

#endif
