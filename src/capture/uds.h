/*
 * uds.h - the meter on servers behind Unix stream sockets (vLLM --uds, nginx `upstream unix:`), by the names they are bound to.
 *
 * bpf/unix.bpf.c shares the maps of a loaded capture, and user space drains and ages them as it does for packets. A name is what the
 * server gave to bind(), as `ss -xl` shows it; the same name in several containers is watched in all of them. docs/unix.md.
 */
#ifndef WEIR_CAPTURE_UDS_H
#define WEIR_CAPTURE_UDS_H

#include "capture/capture.h"
#include "weir/unix.h"

struct uds;

/* Loads and attaches, with privilege. -EOPNOTSUPP: this kernel cannot; other negative errno. */
int uds_open(const struct capture *c, struct uds **ret);
struct uds *uds_free(struct uds *u);

/* "/run/model.sock", or "@name" without a file. Its number stands in the addresses of its connections. -EINVAL: too long, empty; -ENOSPC. */
int uds_watch(struct uds *u, const char *path, uint32_t number);
/* Forgets connections silent for idle_ns; a part of the table per call. */
void uds_age(struct uds *u, uint64_t now_ns, uint64_t idle_ns);

#endif
