/*
 * agent_priv.h - giving up privilege, for good.
 */
#ifndef WEIR_CMD_AGENT_PRIV_H
#define WEIR_CMD_AGENT_PRIV_H

#include "base/util.h"

#include <sys/types.h>

struct priv_user {
	uid_t uid;
	gid_t gid;
};

/* NULL: nobody. -ENOENT: no such user. */
int priv_user_find(const char *name, struct priv_user *ret);

/*
 * Drops to this user without any capability (but CAP_BPF where keep_bpf), forbids to gain any again, turns core dumps and
 * ptrace by equals off, and puts a seccomp filter in place. Not root: keeps the user, drops the rest. 0 or negative errno;
 * after an error the process must not go on. ret_step names what failed.
 */
int priv_drop(const struct priv_user *user, bool keep_bpf, const char **ret_step);

#endif
