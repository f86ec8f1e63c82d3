/*
 * cgroup.h - finds cgroup v2, wherever it is mounted.
 */
#ifndef WEIR_CAPTURE_CGROUP_H
#define WEIR_CAPTURE_CGROUP_H

#include "base/util.h"

struct cgroup_mount {
	char *path;
	bool whole; /* the root of the hierarchy; else only sockets created below it are seen */
};

/* The widest cgroup v2 in a mountinfo (NULL: /proc/self/mountinfo). -ENOENT: none. The caller frees ret->path. */
int cgroup_find(const char *mountinfo, struct cgroup_mount *ret);

/* Id of a cgroup, by a path below the mount or in the file system. -ENOENT, -ENOTDIR. */
int cgroup_id(const char *mount, const char *path, uint64_t *ret);

#endif
