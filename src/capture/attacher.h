/*
 * attacher.h - a small privileged helper that puts uprobes into processes after the agent has dropped its privileges.
 *
 * It is forked before the drop and after the BPF objects are loaded, and holds the programs that it may attach. It answers
 * one message: "this program, at this offset of the file that this process has mapped there". It opens that mapping
 * (/proc/PID/map_files, whatever the path is called or has become), makes sure that process and file are the ones that were
 * looked at, and hands back one descriptor: closing it takes the probe out. It keeps nothing, reads no file of the target and
 * parses one line of the kernel's (the start time out of /proc/PID/stat). ELF files, which are hostile, are read elsewhere:
 * by whoever makes requests (the discovery helper).
 *
 * Kept: CAP_BPF, CAP_PERFMON (links, perf events), CAP_SYS_PTRACE, CAP_CHECKPOINT_RESTORE (map_files), CAP_DAC_READ_SEARCH, and
 * CAP_SYS_ADMIN on kernels that ask for it (6.17, and older ones with that change); system calls: those of its one task.
 * Whoever takes the agent over could have weir's own programs called at any offset of files that processes have mapped; a
 * probe in the middle of an instruction breaks the process, so requests are as good as the finder's reading of the ELF file.
 *
 * The order of things, in the agent:
 *     attacher_start(fds of the loaded uprobe programs)         while privileged
 *     priv_drop()
 *     attacher_ask(), then, when the descriptor is readable, attacher_answer()
 * Answers come in the order of the requests. When the helper is gone, probes that were handed over stay.
 */
#ifndef WEIR_CAPTURE_ATTACHER_H
#define WEIR_CAPTURE_ATTACHER_H

#include "base/util.h"

#include <sys/stat.h>

#define ATTACHER_PROGRAMS_MAX 64 /* of all kinds of probe together */

enum attacher_flags {
	ATTACHER_RETURN = 1,   /* at the function's return (uretprobe) */
	ATTACHER_ONLY_PID = 2, /* in that process alone; else in every process that maps the file, now or later */
};

/* Fixed size, no pointers: the whole protocol. */
struct attacher_request {
	uint32_t id;  /* the caller's own; comes back */
	uint32_t pid; /* of a process that has the file mapped */
	uint64_t start_ticks;        /* its start, /proc/PID/stat: a pid alone is used again */
	uint64_t map_start, map_end; /* one of its mappings of the file, as in /proc/PID/maps */
	uint64_t dev, inode;         /* st_dev and st_ino of that mapping's file (attacher_open_map() and fstat()) */
	uint64_t offset;             /* of the instruction, in the file */
	uint64_t cookie;             /* bpf_get_attach_cookie(); 0: none. Needs Linux 5.15 */
	uint16_t program;            /* index into what attacher_start() was given */
	uint16_t flags;              /* enum attacher_flags */
	uint32_t pad;
};

struct attacher_reply {
	uint32_t id;
	/*
	 * 0, or: -ESRCH the process is another or gone, -ESTALE the mapping or its file is another, -EPERM/-EACCES not allowed,
	 * -EINVAL no such program or flag, or the offset is none, -EOPNOTSUPP this kernel has no uprobes or no cookies.
	 */
	int32_t error;
};

/*
 * Forks. program_fd: of loaded programs of type KPROBE; the caller may close its own afterwards. 0, -E2BIG, -EOPNOTSUPP (the
 * kernel has no uprobes), other negative errno.
 */
int attacher_start(const int *program_fd, size_t count, int *ret_fd, int *ret_pid);

/* 0; -EAGAIN: its queue is full, try again after the next answer; -EPIPE: it is gone. Never blocks. */
int attacher_ask(int fd, const struct attacher_request *r);

/*
 * 1: *ret filled, and where its error is 0, *ret_link is a descriptor that the caller now owns (else -1). 0: nothing now; -EPIPE:
 * the helper is gone; -EBADMSG: what came is not an answer.
 */
int attacher_answer(int fd, struct attacher_reply *ret, int *ret_link);

/*
 * For whoever makes requests: opens the file behind a mapping of a process, by a descriptor of its folder in /proc. `how`:
 * O_RDONLY, or O_PATH. A descriptor, or negative errno: -ENOENT where there is no such mapping.
 */
int attacher_open_map(int proc_pid_fd, uint64_t map_start, uint64_t map_end, int how);

/* Start time of the process in ticks since boot. 0, or -ESRCH. */
int attacher_start_ticks(int proc_pid_fd, uint64_t *ret);

#endif
