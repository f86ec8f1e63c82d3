/*
 * tls_elf.h - where functions lie in an ELF file, and what language it was written in.
 *
 * The file belongs to the process that maps it, and so does every number in it: nothing here trusts
 * one. 64 bits, this machine's byte order. Reads with pread(), so that a file that shrinks meanwhile does no harm.
 */
#ifndef WEIR_CAPTURE_TLS_ELF_H
#define WEIR_CAPTURE_TLS_ELF_H

#include "base/util.h"

struct tls_symbol {
	const char *name;
	uint64_t offset; /* in the file, of its first instruction; 0: not there */
};

struct tls_elf {
	bool go;     /* Go's build information is in it */
	bool symtab; /* not stripped */
};

/* Fills in the offsets of the functions that the file defines. 0; -ENOEXEC: not such a file, or damaged; -ENOMEM; or what reading said. */
int tls_elf_read(int fd, struct tls_symbol *symbols, size_t n, struct tls_elf *ret);

/* Whether these bytes stand in the file's first TLS_ELF_LOOK_MAX. */
#define TLS_ELF_LOOK_MAX (256u << 20)
bool tls_elf_mentions(int fd, struct span what);

#endif
