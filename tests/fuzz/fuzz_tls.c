/* What a process maps: lines of /proc/PID/maps, and the ELF files behind them. */
#include <sys/mman.h>

#include "capture/tls_elf.h"
#include "capture/tls_find.h"

#include "capture/procfs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int fd = -1;
	struct span rest = { (const char *)data, size }, line;
	struct tls_symbol at[2] = { { .name = "SSL_read" }, { .name = "S" } };
	struct tls_elf elf;

	while (procfs_next_line(&rest, &line)) {
		struct tls_mapping m;

		if (tls_parse_mapping(line, &m) == 1 && (!m.path.n || m.path.p < line.p || m.path.p + m.path.n > line.p + line.n))
			__builtin_trap();
	}
	if (fd < 0)
		fd = memfd_create("fuzz", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, 0) < 0 || pwrite(fd, data, size, 0) != (ssize_t)size)
		return 0;
	tls_elf_read(fd, at, 2, &elf);
	tls_elf_mentions(fd, SPAN("rustls/src/"));
	return 0;
}
