#include "capture/cgroup.h"

#include "capture/procfs.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#define MOUNTS_MAX 100000 /* lines; the kernel's own limit per namespace (fs.mount-max) */
#define ROOT_INODE 1      /* kernfs gives the root of each hierarchy this number */

int cgroup_find(const char *mountinfo, struct cgroup_mount *ret)
{
	CLEANUP(fclosep) FILE *f = fopen(mountinfo ? mountinfo : "/proc/self/mountinfo", "re");
	struct procfs_mount *m = malloc(sizeof(*m));
	struct cgroup_mount best = { 0 };
	char *line = NULL;
	size_t cap = 0;
	ssize_t n;
	int best_rank = -1;

	if (!f || !m) {
		free(m);
		return f ? -ENOMEM : -ENOENT;
	}
	for (int i = 0; i < MOUNTS_MAX && (n = getline(&line, &cap, f)) > 0; i++) {
		struct span s = { line, (size_t)n - (line[n - 1] == '\n') };
		struct stat st;
		int rank;

		if (procfs_parse_mount(s, m) < 0 || strcmp(m->fstype, "cgroup2"))
			continue;
		/* A bind mount of a part, or the view out of a cgroup namespace, sees less than the root does. */
		rank = stat(m->point, &st) < 0 ? 0 : st.st_ino == ROOT_INODE ? 3 : !strcmp(m->root, "/") ? 2 : 1;
		if (rank <= best_rank)
			continue;
		free(best.path);
		best = (struct cgroup_mount){ strdup(m->point), rank == 3 };
		best_rank = rank;
		if (!best.path)
			break;
	}
	free(line);
	free(m);
	if (!best.path)
		return best_rank < 0 ? -ENOENT : -ENOMEM;
	*ret = best;
	return 0;
}

int cgroup_id(const char *mount, const char *path, uint64_t *ret)
{
	char *below = NULL;
	struct statfs fs;
	struct stat st;
	int r = 0;

	if (asprintf(&below, "%s/%s", mount, path) < 0)
		return -ENOMEM;
	if (stat(below, &st) < 0 && stat(path, &st) < 0)
		r = -errno;
	else if (!S_ISDIR(st.st_mode) || ((statfs(below, &fs) < 0 || fs.f_type != CGROUP2_SUPER_MAGIC) &&
					  (statfs(path, &fs) < 0 || fs.f_type != CGROUP2_SUPER_MAGIC)))
		r = -ENOTDIR;
	else
		*ret = st.st_ino;
	free(below);
	return r;
}
