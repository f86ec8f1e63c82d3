/*
 * Names of fields and user's dialects out of any bytes. What is listed is printable, short, and of each name every step is a word or
 * `*`; a dialect file is taken or refused with a reason that names its line, and never half taken.
 */
#include "decode/dialect_file.h"
#include "decode/shapes.h"

#include <ctype.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check_name(const char *name)
{
	size_t n = strlen(name);

	if (!n || n >= SHAPE_NAME_BYTES)
		abort();
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)name[i] >= 128 || !(isalnum((unsigned char)name[i]) || strchr("_-.*", name[i])))
			abort();
}

static void check_shapes(struct span text)
{
	struct shape_names names = { 0 };
	struct shapes *s = shapes_new();
	struct str out = { 0 };

	if (!s)
		abort();
	shape_names_read(&names, text);
	if (names.n > SHAPE_NAMES_MAX)
		abort();
	for (size_t i = 0; i < names.n; i++)
		check_name(names.name[i]);
	for (size_t at = 0; at < text.n; at += 40)
		shapes_note(s, (struct span){ text.p + at, MIN(4, text.n - at) }, (struct span){ text.p + at, MIN(300, text.n - at) }, &names, NULL, at & 8);
	shapes_write_json(s, &out);
	if (str_error(&out))
		abort();
	for (size_t i = 0; i < out.n; i++)
		if (out.p[i] != '\n' && (out.p[i] < ' ' || out.p[i] > '~'))
			abort();
	str_done(&out);
	shapes_free(s);
}

static void check_dialects(struct span text)
{
	struct dialect_file *f = NULL;
	char why[DIALECT_FILE_WHY];
	int r = dialect_file_parse("f", text, &f, why);

	if (r < 0 ? f != NULL || strncmp(why, "f:", 2) != 0 : !f)
		abort();
	for (size_t i = 0; f && i < f->count; i++) {
		struct span model;

		if (f->rows[i].kind == KIND_CONTROL && f->rows[i].shape)
			abort();
		dialect_find_in(f->rows, f->count, SPAN("POST"), span_of(f->rows[i].path), &model);
		dialect_find_in(f->rows, f->count, SPAN("POST"), text, &model);
	}
	dialect_file_free(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct span text = { (const char *)data, n };

	if (n > 8192)
		return 0;
	check_shapes(text);
	check_dialects(text);
	return 0;
}
