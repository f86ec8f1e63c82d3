#include "detect/price.h"

#include <math.h>

struct row {
	char *model; /* without the '*' */
	size_t n;
	bool prefix;
	struct price price;
};

struct prices {
	struct row row[PRICES_MAX];
	size_t rows;
};

int price_parse(const char *text, struct price *ret)
{
	double v[3];
	int n = 0;

	for (;;) {
		char *end;

		text += strspn(text, " \t");
		if (!*text || n == 3)
			break;
		v[n] = strtod(text, &end);
		if (end == text || !strchr(" \t", *end))
			return -EINVAL;
		if (!(v[n] >= 0 && v[n] <= PRICE_MAX))
			return -ERANGE;
		n++;
		text = end;
	}
	if (*text || n < 2)
		return -EINVAL;
	*ret = (struct price){ v[0], v[1], n > 2 ? v[2] : v[0] };
	return 0;
}

int prices_add(struct prices **p, struct span model, const struct price *price)
{
	bool prefix = model.n && model.p[model.n - 1] == '*';
	struct row row = { .n = model.n - prefix, .prefix = prefix, .price = *price };

	if (!model.n)
		return -EINVAL;
	if (!*p)
		*p = calloc(1, sizeof(**p));
	if (!*p)
		return -ENOMEM;
	for (size_t i = 0; i < (*p)->rows; i++) {
		const struct row *r = &(*p)->row[i];

		if (r->prefix == prefix && r->n == row.n && !memcmp(r->model, model.p, row.n))
			return -EEXIST;
	}
	if ((*p)->rows == PRICES_MAX)
		return -E2BIG;
	row.model = strndup(model.p, row.n);
	if (!row.model)
		return -ENOMEM;
	(*p)->row[(*p)->rows++] = row;
	return 0;
}

const struct price *prices_find(const struct prices *p, struct span model)
{
	const struct row *best = NULL;

	for (size_t i = 0; p && i < p->rows; i++) {
		const struct row *r = &p->row[i];

		if (r->n > model.n || (!r->prefix && r->n != model.n) || memcmp(r->model, model.p, r->n))
			continue;
		if (!r->prefix)
			return &r->price;
		if (!best || r->n > best->n)
			best = r;
	}
	return best ? &best->price : NULL;
}

struct prices *prices_free(struct prices *p)
{
	for (size_t i = 0; p && i < p->rows; i++)
		free(p->row[i].model);
	free(p);
	return NULL;
}
