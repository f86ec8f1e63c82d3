/* TLS: lines of /proc/PID/maps and ELF files as hostile as they come, and what plaintext does to a connection. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "capture/tls_elf.h"
#include "capture/tls_find.h"
#include "decode/automaton.h"
#include "weir/conn.h"

static void mapping_lines(void **state)
{
	struct tls_mapping m;

	(void)state;
	assert_int_equal(tls_parse_mapping(SPAN("7f01c0de000-7f01c0df000 r-xp 0001a000 fe:01 4711                  /usr/lib/libssl.so.3"), &m), 1);
	assert_true(m.start == 0x7f01c0de000 && m.end == 0x7f01c0df000 && m.inode == 4711);
	assert_true(span_eq(m.path, SPAN("/usr/lib/libssl.so.3")));
	assert_int_equal(tls_parse_mapping(SPAN("1000-2000 r-xs 0 00:1f 7 /a file (deleted) (deleted)"), &m), 1);
	assert_true(span_eq(m.path, SPAN("/a file (deleted)")));
	/* data, anonymous memory, and names that are none */
	assert_int_equal(tls_parse_mapping(SPAN("1000-2000 rw-p 0 fe:01 4711 /usr/lib/libssl.so.3"), &m), 0);
	assert_int_equal(tls_parse_mapping(SPAN("1000-2000 r-xp 0 00:00 0 "), &m), 0);
	assert_int_equal(tls_parse_mapping(SPAN("1000-2000 r-xp 0 00:00 0                          [vdso]"), &m), 0);
	assert_int_equal(tls_parse_mapping(SPAN("1000-2000 r-xp 0 00:05 9 anon_inode:[x]"), &m), 0);
}

static void mapping_lines_hostile(void **state)
{
	static const char whole[] = "7f01c0de000-7f01c0df000 r-xp 0001a000 fe:01 4711 /usr/lib/libssl.so.3";
	static const char *const bad[] = {
		"", "-", "1-", "1-2", "1-2 r-xp", "1-2 r-xp ", "1-2 r-x 0 0:0 1 /x", "z-2 r-xp 0 0:0 1 /x", "1-2 r-xp 0 0 1 /x", "1-2 r-xp 0 0:0 x /x",
		"11111111111111111-2 r-xp 0 0:0 1 /x", "1-2 r-xp 0 0:0 99999999999999999999999 /x",
	};
	struct tls_mapping m;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(tls_parse_mapping(span_of(bad[i]), &m), -EINVAL);
	for (size_t n = 0; n < sizeof(whole); n++) {
		char *copy = malloc(n + 1); /* of its very size, for the sanitizer */

		assert_non_null(copy);
		memcpy(copy, whole, n);
		if (tls_parse_mapping((struct span){ copy, n }, &m) == 1)
			assert_true(m.path.n && m.path.p >= copy && m.path.p + m.path.n <= copy + n);
		free(copy);
	}
}

/* ---- ELF ------------------------------------------------------------------------------------------- */
static int memory_file(const void *p, size_t n)
{
	int fd = memfd_create("weir-test", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, p, n), (ssize_t)n);
	return fd;
}

/* A file with one table of symbols, in which the caller can break what it likes. */
struct small_elf {
	Elf64_Ehdr head;
	Elf64_Phdr code;
	Elf64_Shdr section[5];
	Elf64_Sym symbol[3];
	char names[32], section_names[64];
};

static void small_make(struct small_elf *e)
{
	*e = (struct small_elf){
		.head = { .e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64,
				       __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? ELFDATA2LSB : ELFDATA2MSB },
			  .e_phoff = offsetof(struct small_elf, code), .e_phnum = 1, .e_phentsize = sizeof(Elf64_Phdr),
			  .e_shoff = offsetof(struct small_elf, section), .e_shnum = 5, .e_shentsize = sizeof(Elf64_Shdr), .e_shstrndx = 3 },
		.code = { .p_type = PT_LOAD, .p_flags = PF_X | PF_R, .p_vaddr = 0x401000, .p_offset = 0x1000, .p_filesz = 0x1000 },
		.section = { [1] = { .sh_type = SHT_DYNSYM, .sh_offset = offsetof(struct small_elf, symbol), .sh_size = 3 * sizeof(Elf64_Sym),
				     .sh_entsize = sizeof(Elf64_Sym), .sh_link = 2 },
			     [2] = { .sh_type = SHT_STRTAB, .sh_offset = offsetof(struct small_elf, names), .sh_size = 32 },
			     [3] = { .sh_type = SHT_STRTAB, .sh_offset = offsetof(struct small_elf, section_names), .sh_size = 64 },
			     [4] = { .sh_type = SHT_PROGBITS, .sh_name = 1 } },
		.symbol = { [1] = { .st_name = 1, .st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC), .st_shndx = 1, .st_value = 0x401230 },
			    [2] = { .st_name = 10, .st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC), .st_shndx = SHN_UNDEF, .st_value = 0x401250 } },
		.names = "\0SSL_read\0SSL_write",
		.section_names = "\0.go.buildinfo",
	};
}

static int small_read(const struct small_elf *e, size_t n, struct tls_symbol at[2], struct tls_elf *ret)
{
	CLEANUP(closep) int fd = memory_file(e, n);

	at[0] = (struct tls_symbol){ .name = "SSL_read" };
	at[1] = (struct tls_symbol){ .name = "SSL_write" };
	return tls_elf_read(fd, at, 2, ret);
}

static void symbols_are_found(void **state)
{
	struct tls_elf found = { 0 };
	struct tls_symbol at[2];
	struct small_elf e;

	(void)state;
	small_make(&e);
	assert_int_equal(small_read(&e, sizeof(e), at, &found), 0);
	assert_true(at[0].offset == 0x1230);
	assert_true(at[1].offset == 0); /* used, not defined */
	assert_true(found.go && !found.symtab);
	e.section[1].sh_type = SHT_SYMTAB;
	e.section_names[2] = 'x';
	assert_int_equal(small_read(&e, sizeof(e), at, &found), 0);
	assert_true(at[0].offset == 0x1230 && found.symtab && !found.go);
	e.code.p_flags = PF_R; /* not code */
	assert_int_equal(small_read(&e, sizeof(e), at, &found), 0);
	assert_true(at[0].offset == 0);
}

static void damaged_files_are_refused(void **state)
{
	struct tls_elf found;
	struct tls_symbol at[2];
	struct small_elf e;

	(void)state;
	small_make(&e);
	/* cut anywhere: refused, or nothing is found beyond the cut */
	for (size_t n = 0; n < sizeof(e); n++)
		small_read(&e, n, at, &found);
	for (size_t n = 0; n < offsetof(struct small_elf, symbol); n += 8)
		assert_true(small_read(&e, n, at, &found) < 0);
#define REFUSED(change)                                                                                                \
	do {                                                                                                           \
		small_make(&e);                                                                                        \
		change;                                                                                                \
		assert_int_equal(small_read(&e, sizeof(e), at, &found), -ENOEXEC);                                     \
	} while (0)
	REFUSED(e.head.e_ident[0] = 'x');
	REFUSED(e.head.e_ident[EI_CLASS] = ELFCLASS32);
	REFUSED(e.head.e_phnum = 0);
	REFUSED(e.head.e_phnum = 65535);
	REFUSED(e.head.e_phoff = UINT64_MAX - 8);
	REFUSED(e.head.e_shoff = UINT64_MAX - 8);
	REFUSED(e.head.e_shentsize = 1);
	REFUSED(e.section[1].sh_link = 77);
	REFUSED(e.section[1].sh_link = 4);
	REFUSED(e.section[1].sh_entsize = 0);
	REFUSED(e.section[1].sh_size = UINT64_MAX);
	REFUSED(e.section[1].sh_offset = UINT64_MAX - 2);
	REFUSED(e.section[2].sh_size = UINT64_MAX);
	REFUSED(e.section[2].sh_offset = INT64_MAX);
	/* names outside of their table, or without an end */
	small_make(&e);
	e.symbol[1].st_name = 1u << 30;
	assert_int_equal(small_read(&e, sizeof(e), at, &found), 0);
	assert_true(at[0].offset == 0);
	small_make(&e);
	e.section[2].sh_size = 9;
	assert_int_equal(small_read(&e, sizeof(e), at, &found), 0);
	assert_true(at[0].offset == 0);
}

static void texts_are_found_across_pieces(void **state)
{
	const size_t n = 3u << 20;
	char *big = calloc(1, n);
	int fd;

	(void)state;
	assert_non_null(big);
	memcpy(big + (1u << 20) - 5, "rustls/src/", 11);
	fd = memory_file(big, n);
	assert_true(tls_elf_mentions(fd, SPAN("rustls/src/")));
	assert_false(tls_elf_mentions(fd, SPAN("rustls/srcs")));
	assert_false(tls_elf_mentions(fd, SPAN("")));
	close(fd);
	free(big);
}

/* ---- plaintext and the connection ------------------------------------------------------------------- */
static void records_are_told_from_http(void **state)
{
	(void)state;
	assert_true(weir_is_tls((const uint8_t *)"\x16\x03\x01"));
	assert_true(weir_is_tls((const uint8_t *)"\x17\x03\x03"));
	assert_false(weir_is_tls((const uint8_t *)"\x16\x04\x01"));
	assert_false(weir_is_tls((const uint8_t *)"GET"));
	assert_false(weir_is_tls((const uint8_t *)"HTT"));
}

static void plaintext_starts_afresh(void **state)
{
	struct weir_automaton *a = malloc(sizeof(*a));
	struct weir_conn c = { 0 };

	(void)state;
	assert_non_null(a);
	assert_int_equal(automaton_build(a), 0);
	/* joined in the middle: what was made of the ciphertext is forgotten, and a response without a request is read as one */
	weir_conn_init(&c, a, 1, 0);
	c.in.p.mode = WEIR_LOST;
	c.out.p.mode = WEIR_RAW;
	weir_conn_is_tls(&c, a);
	assert_true(c.flags & WEIR_C_TLS);
	assert_int_equal(c.in.p.mode, WEIR_START);
	assert_int_equal(c.out.p.mode, WEIR_START);
	weir_plain(&c, a, WEIR_RESPONSE, 5);
	assert_int_equal(c.out.p.mode, WEIR_RAW);
	assert_true(c.flags & WEIR_C_RESET);
	/* the request side then waits for a new message */
	c.in.p.mode = WEIR_LENGTH;
	weir_plain(&c, a, WEIR_REQUEST, 6);
	assert_int_equal(c.in.p.mode, WEIR_LOST);
	assert_false(c.flags & WEIR_C_RESET);
	/* from the beginning on: nothing is assumed */
	c = (struct weir_conn){ 0 };
	weir_conn_init(&c, a, 2, 1);
	weir_conn_is_tls(&c, a);
	weir_plain(&c, a, WEIR_REQUEST, 5);
	weir_plain(&c, a, WEIR_RESPONSE, 5);
	assert_int_equal(c.in.p.mode, WEIR_START);
	assert_int_equal(c.out.p.mode, WEIR_START);
	assert_false((c.in.flags | c.out.flags) & WEIR_S_MID);
	free(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mapping_lines),
		cmocka_unit_test(mapping_lines_hostile),
		cmocka_unit_test(symbols_are_found),
		cmocka_unit_test(damaged_files_are_refused),
		cmocka_unit_test(texts_are_found_across_pieces),
		cmocka_unit_test(records_are_told_from_http),
		cmocka_unit_test(plaintext_starts_afresh),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
