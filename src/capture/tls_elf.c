#include "capture/tls_elf.h"

#include <elf.h>

#define SECTIONS_MAX 4096         /* a large C++ program has some dozens */
#define SEGMENTS_MAX 128
#define SYMBOLS_MAX (4u << 20)    /* of one table; the largest seen (a debug build of a browser) has a million */
#define NAMES_MAX (128u << 20)    /* bytes of one table of names */
#define SYMBOLS_AT_ONCE 1024
#define LOOK_AT_ONCE (1u << 20)

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define OUR_ORDER ELFDATA2LSB
#else
#define OUR_ORDER ELFDATA2MSB
#endif

struct elf {
	int fd;
	Elf64_Ehdr head;
	Elf64_Shdr *sections;
	Elf64_Phdr *segments;
};

static int read_at(int fd, void *to, size_t n, uint64_t off)
{
	size_t done = 0;

	if (off > INT64_MAX - n)
		return -ENOEXEC;
	while (done < n) {
		ssize_t r = pread(fd, (char *)to + done, n - done, (off_t)(off + done));

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -errno;
		if (r == 0)
			return -ENOEXEC;
		done += (size_t)r;
	}
	return 0;
}

static void elf_done(struct elf *e)
{
	free(e->sections);
	free(e->segments);
}

static int elf_open(int fd, struct elf *e)
{
	const Elf64_Ehdr *h = &e->head;
	int r;

	e->fd = fd;
	r = read_at(fd, &e->head, sizeof(e->head), 0);
	if (r < 0)
		return r;
	if (memcmp(h->e_ident, ELFMAG, SELFMAG) || h->e_ident[EI_CLASS] != ELFCLASS64 || h->e_ident[EI_DATA] != OUR_ORDER ||
	    h->e_phentsize != sizeof(Elf64_Phdr) || !h->e_phnum || h->e_phnum > SEGMENTS_MAX)
		return -ENOEXEC;
	e->segments = calloc(h->e_phnum, sizeof(*e->segments));
	if (!e->segments)
		return -ENOMEM;
	r = read_at(fd, e->segments, h->e_phnum * sizeof(*e->segments), h->e_phoff);
	if (r < 0)
		return r;
	if (!h->e_shnum || h->e_shnum > SECTIONS_MAX || h->e_shentsize != sizeof(Elf64_Shdr))
		return h->e_shnum ? -ENOEXEC : 0; /* even the list of sections is stripped */
	e->sections = calloc(h->e_shnum, sizeof(*e->sections));
	if (!e->sections)
		return -ENOMEM;
	return read_at(fd, e->sections, h->e_shnum * sizeof(*e->sections), h->e_shoff);
}

static uint64_t file_offset(const struct elf *e, uint64_t address)
{
	for (size_t i = 0; i < e->head.e_phnum; i++) {
		const Elf64_Phdr *p = &e->segments[i];

		if (p->p_type == PT_LOAD && (p->p_flags & PF_X) && address >= p->p_vaddr && address - p->p_vaddr < p->p_filesz)
			return address - p->p_vaddr + p->p_offset;
	}
	return 0;
}

static void symbol_take(const struct elf *e, const Elf64_Sym *s, const char *names, size_t names_size, struct tls_symbol *symbols, size_t n)
{
	size_t room, len;

	if (ELF64_ST_TYPE(s->st_info) != STT_FUNC || s->st_shndx == SHN_UNDEF || s->st_name >= names_size)
		return;
	room = names_size - s->st_name;
	len = strnlen(names + s->st_name, room);
	if (len == room)
		return; /* no end */
	for (size_t i = 0; i < n; i++)
		if (!symbols[i].offset && !strcmp(symbols[i].name, names + s->st_name))
			symbols[i].offset = file_offset(e, s->st_value);
}

static int table_read(const struct elf *e, const Elf64_Shdr *t, struct tls_symbol *symbols, size_t n)
{
	CLEANUP(freep) Elf64_Sym *some = malloc(SYMBOLS_AT_ONCE * sizeof(*some));
	CLEANUP(freep) char *names = NULL;
	const Elf64_Shdr *strings;
	uint64_t count = t->sh_size / sizeof(Elf64_Sym);
	int r;

	if (t->sh_link >= e->head.e_shnum || t->sh_entsize != sizeof(Elf64_Sym) || count > SYMBOLS_MAX)
		return -ENOEXEC;
	strings = &e->sections[t->sh_link];
	if (strings->sh_type != SHT_STRTAB || strings->sh_size > NAMES_MAX)
		return -ENOEXEC;
	names = malloc(strings->sh_size + 1);
	if (!names || !some)
		return -ENOMEM;
	r = read_at(e->fd, names, strings->sh_size, strings->sh_offset);
	for (uint64_t at = 0; r == 0 && at < count; at += SYMBOLS_AT_ONCE) {
		size_t now = MIN(SYMBOLS_AT_ONCE, count - at);

		if (t->sh_offset > INT64_MAX - at * sizeof(*some))
			return -ENOEXEC;
		r = read_at(e->fd, some, now * sizeof(*some), t->sh_offset + at * sizeof(*some));
		for (size_t i = 0; r == 0 && i < now; i++)
			symbol_take(e, &some[i], names, strings->sh_size, symbols, n);
	}
	return r;
}

static bool section_is(const struct elf *e, const Elf64_Shdr *s, const char *name)
{
	char text[32] = { 0 };
	const Elf64_Shdr *strings = &e->sections[e->head.e_shstrndx];

	if (s->sh_name >= strings->sh_size || strlen(name) >= sizeof(text) || strings->sh_offset > (uint64_t)INT64_MAX - s->sh_name)
		return false;
	return read_at(e->fd, text, MIN(sizeof(text) - 1, strings->sh_size - s->sh_name), strings->sh_offset + s->sh_name) == 0 && !strcmp(text, name);
}

int tls_elf_read(int fd, struct tls_symbol *symbols, size_t n, struct tls_elf *ret)
{
	CLEANUP(elf_done) struct elf e = { 0 };
	struct tls_elf found = { 0 };
	int r = elf_open(fd, &e);

	for (size_t i = 0; i < n; i++)
		symbols[i].offset = 0;
	if (r < 0)
		return r;
	for (size_t i = 0; e.sections && i < e.head.e_shnum; i++) {
		const Elf64_Shdr *s = &e.sections[i];

		if (s->sh_type == SHT_DYNSYM || s->sh_type == SHT_SYMTAB) {
			r = table_read(&e, s, symbols, n);
			if (r < 0)
				return r;
		}
		found.symtab |= s->sh_type == SHT_SYMTAB;
		if (e.head.e_shstrndx < e.head.e_shnum && s->sh_type == SHT_PROGBITS)
			found.go |= section_is(&e, s, ".go.buildinfo");
	}
	*ret = found;
	return 0;
}

bool tls_elf_mentions(int fd, struct span what)
{
	CLEANUP(freep) char *buf = malloc(LOOK_AT_ONCE);
	size_t kept = 0, there;

	for (uint64_t off = 0; buf && what.n && what.n < LOOK_AT_ONCE && off < TLS_ELF_LOOK_MAX;) {
		ssize_t r = pread(fd, buf + kept, LOOK_AT_ONCE - kept, (off_t)off);

		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return false;
		there = kept + (size_t)r;
		if (memmem(buf, there, what.p, what.n))
			return true;
		off += (uint64_t)r;
		kept = MIN(what.n - 1, there);
		memmove(buf, buf + there - kept, kept);
	}
	return false;
}
