/* uprobe.h - one BPF program at one place of an open file, set by whoever is still privileged (attacher.h: later). */
#ifndef WEIR_CAPTURE_UPROBE_H
#define WEIR_CAPTURE_UPROBE_H

#include "base/util.h"

/* Number of the kernel's uprobe event source, or -EOPNOTSUPP. */
int uprobe_type(void);

/*
 * A link that lasts as long as it is held: in every process that maps the file, at `offset` of it, or (`returns`) where the function
 * that begins there returns. `cookie` is what bpf_get_attach_cookie() will say. A descriptor, or negative errno.
 */
int uprobe_link(int type, int program_fd, int file_fd, uint64_t offset, bool returns, uint64_t cookie);

#endif
