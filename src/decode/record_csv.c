/* One line of CSV (RFC 4180), which may hold newlines inside quotes. Quoted cells are unescaped in place. */
#include "decode/record_parse.h"

/*
 * The cell at p; *ret_next is the byte behind its comma, or NULL where it was the last. What stands between a closing quote and
 * the comma is kept as text: a file that breaks the rule so is still readable.
 */
static struct span next_cell(char *p, char *end, char **ret_next)
{
	char *e, *w, *first = p;

	if (p == end || *p != '"') {
		e = memchr(p, ',', (size_t)(end - p));
		*ret_next = e ? e + 1 : NULL;
		return (struct span){ p, (size_t)((e ? e : end) - p) };
	}
	w = ++p;
	first = w;
	for (bool inside = true; p < end; p++) {
		if (*p == '"' && inside && p + 1 < end && p[1] == '"')
			*w++ = *p++;
		else if (*p == '"')
			inside = !inside;
		else if (*p == ',' && !inside)
			break;
		else
			*w++ = *p;
	}
	*ret_next = p < end ? p + 1 : NULL;
	return (struct span){ first, (size_t)(w - first) };
}

bool csv_parse_header(struct csv_header *h, const struct column_table *t, char *p, char *end)
{
	size_t n = 0;
	bool has_time = false;

	for (char *next = p; next; n++) {
		struct span cell = next_cell(next, end, &next);

		if (n < CSV_COLUMNS_MAX) {
			h->column[n] = column_of_name(t, cell);
			has_time |= h->column[n].id == COL_TIMESTAMP;
		}
	}
	h->n = n;
	h->has_time = has_time;
	return has_time;
}

const char *csv_parse_line(struct record_parse *rp, const struct csv_header *h, char *p, char *end)
{
	size_t n = 0;

	if (memchr(p, '\0', (size_t)(end - p)))
		return "holds a NUL byte";
	for (char *next = p; next; n++) {
		struct span cell = next_cell(next, end, &next);

		if (n < h->n && n < CSV_COLUMNS_MAX && h->column[n].id != COL_NONE)
			record_parse_value(rp, h->column[n], cell.n ? VALUE_CELL : VALUE_NULL, cell);
	}
	return n < h->n ? "has fewer cells than the header" : n > h->n ? "has more cells than the header" : NULL;
}
