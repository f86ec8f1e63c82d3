/*
 * verify.c - loads one BPF object and says what this kernel's verifier made of it.
 *
 *     verify OBJECT [cfg_NAME=VALUE]... [-PROGRAM]...
 *
 * The automaton is put in where the object has a place for it: the verifier reads constants out of it. A cfg_ constant is set
 * before loading; -PROGRAM leaves a program out. Prints `PROGRAM INSTRUCTIONS-PROCESSED` for each program that was loaded. Exit status 0: all loaded. 1: refused, the kernel's words are on stderr. 2: bad arguments.
 */
#include <stdarg.h>

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>

#include "decode/automaton.h"

#define LOG_BYTES (1u << 16) /* statistics only: a few lines */
#define LOG_STATS 4          /* the verifier's log level that prints nothing else; 5.2 */
#define PROGRAMS_MAX 32

static char logs[PROGRAMS_MAX][LOG_BYTES];

static int print_warning(enum libbpf_print_level level, const char *fmt, va_list args)
{
	return level == LIBBPF_WARN ? vfprintf(stderr, fmt, args) : 0;
}

static void object_closep(struct bpf_object **object)
{
	bpf_object__close(*object);
}

static struct bpf_map *find_rodata(struct bpf_object *object)
{
	struct bpf_map *map;

	bpf_object__for_each_map(map, object) {
		const char *name = bpf_map__name(map);
		const char *dot = name ? strrchr(name, '.') : NULL;

		if (dot && strcmp(dot, ".rodata") == 0)
			return map;
	}
	return NULL;
}

/* Sets a constant of the read-only data, found by its name in the object's BTF. */
static int set_config(struct bpf_object *object, const char *name, uint64_t value)
{
	const struct btf *btf = bpf_object__btf(object);
	struct bpf_map *map = find_rodata(object);
	const struct btf_var_secinfo *var;
	const struct btf_type *section;
	size_t size, wide;
	char *data;
	int id;

	if (!btf || !map)
		return -ENOENT;
	id = btf__find_by_name_kind(btf, ".rodata", BTF_KIND_DATASEC);
	data = (char *)bpf_map__initial_value(map, &size);
	if (id < 0 || !data)
		return -ENOENT;
	section = btf__type_by_id(btf, (uint32_t)id);
	var = btf_var_secinfos(section);
	for (int i = 0; i < btf_vlen(section); i++, var++) {
		const struct btf_type *type = btf__type_by_id(btf, var->type);

		if (strcmp(btf__name_by_offset(btf, type->name_off), name) != 0)
			continue;
		wide = MIN(sizeof(value), (size_t)var->size);
		if (var->offset > size || wide > size - var->offset)
			return -ERANGE;
		memcpy(data + var->offset, &value, wide); /* little endian, as every machine that weir runs on */
		return 0;
	}
	return -ENOENT;
}

static int set_automaton(struct bpf_object *object)
{
	struct bpf_map *map = bpf_object__find_map_by_name(object, ".rodata.automaton");
	struct weir_automaton *a;
	size_t size;

	if (!map)
		return 0;
	a = (struct weir_automaton *)bpf_map__initial_value(map, &size);
	return a && size == sizeof(*a) ? automaton_build(a) : -ERANGE;
}

static int apply(struct bpf_object *object, char *arg)
{
	struct bpf_program *prog;
	char *value;

	if (arg[0] == '-') {
		prog = bpf_object__find_program_by_name(object, arg + 1);
		return prog ? bpf_program__set_autoload(prog, false) : -ENOENT;
	}
	value = strchr(arg, '=');
	if (!value)
		return -EINVAL;
	*value++ = '\0';
	return set_config(object, arg, strtoull(value, NULL, 0));
}

int main(int argc, char **argv)
{
	CLEANUP(object_closep) struct bpf_object *object = NULL;
	struct bpf_program *prog;
	size_t i = 0;
	int r;

	if (argc < 2) {
		fprintf(stderr, "usage: verify OBJECT [cfg_NAME=VALUE]... [-PROGRAM]...\n");
		return 2;
	}
	libbpf_set_print(print_warning);
	object = bpf_object__open_file(argv[1], NULL);
	if (!object) {
		fprintf(stderr, "verify: cannot open %s: %s\n", argv[1], strerror(errno));
		return 2;
	}
	r = set_automaton(object);
	if (r < 0) {
		fprintf(stderr, "verify: the automaton: %s\n", strerror(-r));
		return 2;
	}
	for (int arg = 2; arg < argc; arg++) {
		r = apply(object, argv[arg]);
		if (r < 0) {
			fprintf(stderr, "verify: %s: %s\n", argv[arg], strerror(-r));
			return 2;
		}
	}
	bpf_object__for_each_program(prog, object) {
		if (i == PROGRAMS_MAX)
			return 2;
		bpf_program__set_log_buf(prog, logs[i], LOG_BYTES);
		bpf_program__set_log_level(prog, LOG_STATS);
		i++;
	}
	r = bpf_object__load(object);
	i = 0;
	bpf_object__for_each_program(prog, object) {
		const char *processed = strstr(logs[i++], "processed ");

		if (processed && bpf_program__fd(prog) >= 0)
			printf("%s %lu\n", bpf_program__name(prog), strtoul(processed + strlen("processed "), NULL, 10));
		else if (processed)
			fprintf(stderr, "verify: %s is refused:\n%s", bpf_program__name(prog), logs[i - 1]);
	}
	return r < 0 ? 1 : 0;
}
