/* A calendar of any bytes: what is taken is bounded, begins before it ends, and is on when it begins; what is not names file and line. */
#include "cmd/calendar_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct calendar_about about = { CLASS_FLOOD, NULL, 0 };
	struct calendar *c = NULL;
	char why[CALENDAR_WHY];
	int r = calendar_file_parse("f", (struct span){ (const char *)data, n }, &c, why);

	if (r < 0) {
		if (c || strncmp(why, "f:", 2) != 0)
			abort();
		return 0;
	}
	if (*why || c->n > CALENDAR_ENTRIES_MAX)
		abort();
	for (size_t i = 0; i < c->n; i++) {
		const struct calendar_entry *e = &c->entry[i];

		if (!*e->name || strlen(e->name) > CALENDAR_NAME_MAX || e->end < e->start || !e->classes || (e->kind != ENTITY_GLOBAL && !*e->value))
			abort();
		if (!calendar_on(e, e->start, 0) || !calendar_on(e, e->end, 0))
			abort();
		if (e->repeat == REPEAT_NONE && (calendar_on(e, e->end + 1, 0) || calendar_on(e, e->start - 1, 0)))
			abort();
		calendar_explains(c, e->start + 86400, &about);
	}
	calendar_free(c);
	return 0;
}
