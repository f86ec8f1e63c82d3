#include "capture/uprobe.h"

#include <bpf/bpf.h>
#include <linux/perf_event.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

int uprobe_type(void)
{
	CLEANUP(fclosep) FILE *f = fopen("/sys/bus/event_source/devices/uprobe/type", "re");
	int type;

	return f && fscanf(f, "%d", &type) == 1 ? type : -EOPNOTSUPP;
}

int uprobe_link(int type, int program_fd, int file_fd, uint64_t offset, bool returns, uint64_t cookie)
{
	LIBBPF_OPTS(bpf_link_create_opts, opts, .perf_event.bpf_cookie = cookie);
	char path[64];
	struct perf_event_attr attr = {
		.size = sizeof(attr),
		.type = (uint32_t)type,
		.config = returns, /* format/retprobe: bit 0 */
		.config2 = offset,
	};
	CLEANUP(closep) int event = -1;
	int link;

	/* The very file that was read, whatever its name stands for by now. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", file_fd);
	attr.config1 = (uintptr_t)path;
	event = (int)syscall(SYS_perf_event_open, &attr, -1, 0, -1, PERF_FLAG_FD_CLOEXEC);
	if (event < 0)
		return -errno;
	link = bpf_link_create(program_fd, event, BPF_PERF_EVENT, &opts);
	if (link < 0)
		return link;
	if (ioctl(event, PERF_EVENT_IOC_ENABLE, 0) < 0) {
		int r = -errno;

		close(link);
		return r;
	}
	return link;
}
