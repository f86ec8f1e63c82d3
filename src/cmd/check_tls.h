/* check_tls.h - `weir check`: the TLS code that the listening processes have mapped, and what of it cannot be metered. */
#ifndef WEIR_CMD_CHECK_TLS_H
#define WEIR_CMD_CHECK_TLS_H

#include "base/str.h"
#include "capture/discover.h"
#include "capture/tls.h"

#define CHECK_TLS_MAX 1024 /* as many as ports: a process has one TLS library, seldom two */
#define CHECK_TLS_PATH 160 /* of a path that is shown */

struct check_tls_code {
	int pid;
	enum tls_kind kind;
	char path[CHECK_TLS_PATH]; /* as its process names it, only printable */
};

struct check_tls {
	struct check_tls_code code[CHECK_TLS_MAX];
	size_t count, cut; /* cut: beyond CHECK_TLS_MAX */
	size_t closed;     /* processes that could not be looked into */
};

/* Looks into every process of the scan. 0 or -ENOMEM. */
int check_tls_look(const struct discover_result *d, struct check_tls *ret);

/* What it is of one process: a line per kind that is lost; an array of all of them. */
void check_tls_print(const struct check_tls *t, int pid);
void check_tls_write(struct str *out, const struct check_tls *t, int pid);

#endif
