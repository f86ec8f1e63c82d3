/*
 * tls_follow.h - TLS libraries that come later: servers that start or restart, libraries loaded at the first connection.
 *
 * Two helpers, forked while there is privilege: one looks (reads /proc and ELF files every few seconds, and may do nothing else), one
 * sets probes (attacher.h, parses nothing). The agent between them passes fixed messages on and keeps the probes.
 */
#ifndef WEIR_CAPTURE_TLS_FOLLOW_H
#define WEIR_CAPTURE_TLS_FOLLOW_H

#include "capture/tls.h"

#define TLS_FOLLOW_PERIOD_MS 2000 /* between two looks */

struct tls_follow;

/* Privileged; loads the hook where that was not done. Looks on from what was scanned so far; t must outlive it. */
int tls_follow_start(struct tls *t, struct tls_follow **ret);
struct tls_follow *tls_follow_free(struct tls_follow *f);

/* Descriptors to wait on; either may be -1 once its helper is gone. */
void tls_follow_fds(const struct tls_follow *f, int ret[2]);
/* After one of them became readable, and now and then. 0, or -EPIPE, -EBADMSG: a helper is gone; said once, the rest goes on. */
int tls_follow_event(struct tls_follow *f);

#endif
