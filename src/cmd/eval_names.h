/* eval_names.h - names of classes, and sets of names of people: what labels and incidents are compared by. */
#ifndef WEIR_CMD_EVAL_NAMES_H
#define WEIR_CMD_EVAL_NAMES_H

#include "detect/anomaly.h"

#define EVAL_CLASSES_MAX 256 /* names of classes and benign causes in one run; some thirty are known */
#define EVAL_NAMES_MAX 4096  /* that one incident may name; more are left out and counted */

/* Those of the detector first, by its own numbers, then the causes that only labels know. */
enum { EVAL_NATURAL_SHIFT = CLASS_COUNT, EVAL_NATURAL_LOAD, EVAL_CLASSES_KNOWN };
struct eval_classes {
	char *name[EVAL_CLASSES_MAX];
	int n;
};
int eval_classes_init(struct eval_classes *c);
void eval_classes_done(struct eval_classes *c);
/* The number of a name, which may be new. -E2BIG, -ENOMEM. */
int eval_class_of(struct eval_classes *c, const char *name);

/* Somebody, by kind and value; a set is in the order of both and owns the texts. */
struct eval_name {
	char *kind, *value;
};
struct eval_names {
	struct eval_name *v;
	size_t n, cap;
};
/* Adds one name in its place, once. -E2BIG above EVAL_NAMES_MAX, -ENOMEM. */
int eval_names_add(struct eval_names *n, const char *kind, const char *value);
/* The same for long lists: append all, then sort. */
int eval_names_append(struct eval_names *n, const char *kind, const char *value);
void eval_names_sort(struct eval_names *n);
void eval_names_done(struct eval_names *n);

bool eval_names_have(const struct eval_names *in, const char *kind, const char *value);
bool eval_names_of_kind(const struct eval_names *in, const char *kind);
/* Somebody is in both. */
bool eval_names_meet(const struct eval_names *few, const struct eval_names *many);

#endif
