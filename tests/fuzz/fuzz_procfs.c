/* Everything that reads /proc: no line, name or argument of any process may do harm. */
#include "capture/procfs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct procfs_mount mount;
	struct span all = { (const char *)data, size }, rest = all, line;
	struct procfs_server server = { 0 };
	struct procfs_listen listen;
	struct procfs_workload workload;
	char name[64];
	uint8_t addr[16];
	uint64_t inode;
	int ppid;
	size_t cut = size ? data[0] % size : 0;

	while (procfs_next_line(&rest, &line)) {
		if (line.n > size || line.p < all.p || line.p + line.n > all.p + size)
			__builtin_trap();
		if (procfs_parse_tcp(line, &listen) == 1 && !listen.port)
			__builtin_trap();
		if (procfs_parse_mount(line, &mount) == 0 && (!mount.point[0] || strlen(mount.point) >= sizeof(mount.point)))
			__builtin_trap();
		procfs_parse_inet6(line, addr);
		procfs_parse_link(line, "socket", &inode);
	}
	if (procfs_parse_ppid(all, &ppid) == 0 && ppid < 0)
		__builtin_trap();
	procfs_parse_start(all, &inode);
	procfs_parse_cgroup(all, &workload);
	for (const char *p = workload.unit; *p; p++)
		if (*p == ' ' || *p == '=' || *p == '\n')
			__builtin_trap();
	snprintf(name, sizeof(name), "%.*s", (int)MIN(size, sizeof(name) - 1), (const char *)data);
	procfs_pod_workload(name);
	if (procfs_match_server((struct span){ all.p, cut }, (struct span){ all.p + cut, size - cut }, &server) && !server.name)
		__builtin_trap();
	return 0;
}
