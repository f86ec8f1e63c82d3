/* Names of classes, and sets of names of people: what labels and incidents are compared by. */
#include "cmd/eval_names.h"

int eval_classes_init(struct eval_classes *c)
{
	*c = (struct eval_classes){ 0 };
	for (int i = 0; i < EVAL_CLASSES_KNOWN; i++) {
		const char *name = i == EVAL_NATURAL_SHIFT ? "natural_shift" : i == EVAL_NATURAL_LOAD ? "natural_load" : anomaly_class_name((enum anomaly_class)i);

		if (eval_class_of(c, name) != i)
			return -ENOMEM;
	}
	return 0;
}

void eval_classes_done(struct eval_classes *c)
{
	for (int i = 0; i < c->n; i++)
		free(c->name[i]);
	c->n = 0;
}

int eval_class_of(struct eval_classes *c, const char *name)
{
	for (int i = 0; i < c->n; i++)
		if (!strcmp(c->name[i], name))
			return i;
	if (c->n == EVAL_CLASSES_MAX)
		return -E2BIG;
	c->name[c->n] = strdup(name);
	return c->name[c->n] ? c->n++ : -ENOMEM;
}

static int name_compare(const void *a, const void *b)
{
	const struct eval_name *x = a, *y = b;
	int d = strcmp(x->kind, y->kind);

	return d ? d : strcmp(x->value, y->value);
}

/* Index of the first name that is not below key. */
static size_t names_seek(const struct eval_names *in, const struct eval_name *key)
{
	size_t low = 0, high = in->n;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (name_compare(&in->v[mid], key) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

bool eval_names_have(const struct eval_names *in, const char *kind, const char *value)
{
	const struct eval_name key = { (char *)kind, (char *)value };
	size_t i = names_seek(in, &key);

	return i < in->n && name_compare(&in->v[i], &key) == 0;
}

bool eval_names_meet(const struct eval_names *few, const struct eval_names *many)
{
	for (size_t i = 0; i < few->n; i++)
		if (eval_names_have(many, few->v[i].kind, few->v[i].value))
			return true;
	return false;
}

bool eval_names_of_kind(const struct eval_names *in, const char *kind)
{
	const struct eval_name key = { (char *)kind, (char *)"" };
	size_t i = names_seek(in, &key);

	return i < in->n && !strcmp(in->v[i].kind, kind);
}

void eval_names_done(struct eval_names *n)
{
	for (size_t i = 0; i < n->n; i++) {
		free(n->v[i].kind);
		free(n->v[i].value);
	}
	free(n->v);
	*n = (struct eval_names){ 0 };
}

static int names_put(struct eval_names *n, size_t at, const char *kind, const char *value)
{
	struct eval_name name;

	if (n->n == n->cap) {
		size_t cap = n->cap ? n->cap * 2 : 4;
		struct eval_name *v = reallocarray(n->v, cap, sizeof(*v));

		if (!v)
			return -ENOMEM;
		n->v = v;
		n->cap = cap;
	}
	name = (struct eval_name){ strdup(kind), strdup(value) };
	if (!name.kind || !name.value) {
		free(name.kind);
		free(name.value);
		return -ENOMEM;
	}
	memmove(n->v + at + 1, n->v + at, (n->n - at) * sizeof(*n->v));
	n->v[at] = name;
	n->n++;
	return 0;
}

int eval_names_append(struct eval_names *n, const char *kind, const char *value)
{
	return names_put(n, n->n, kind, value);
}

void eval_names_sort(struct eval_names *n)
{
	if (n->n)
		qsort(n->v, n->n, sizeof(*n->v), name_compare);
}

int eval_names_add(struct eval_names *n, const char *kind, const char *value)
{
	const struct eval_name key = { (char *)kind, (char *)value };
	size_t i = names_seek(n, &key);

	if (i < n->n && name_compare(&n->v[i], &key) == 0)
		return 0;
	return n->n >= EVAL_NAMES_MAX ? -E2BIG : names_put(n, i, kind, value);
}
