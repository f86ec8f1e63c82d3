/*
 * price.h - what tokens cost, by model. Units of whatever currency, per million tokens.
 *
 * A name may end in '*': it stands for all that begin so. The whole name goes before the longest beginning.
 */
#ifndef WEIR_DETECT_PRICE_H
#define WEIR_DETECT_PRICE_H

#include "base/util.h"

#define PRICES_MAX 1024 /* rows; a provider sells some dozen models */
#define PRICE_MAX 1e6   /* of a million tokens */

struct price {
	double prompt, completion, cached; /* cached: of prompt tokens that came from the cache */
};

struct prices;
/* "PROMPT COMPLETION [CACHED]": cached tokens cost as much as others where nothing is said. -EINVAL, -ERANGE. */
int price_parse(const char *text, struct price *ret);
/* Makes *p where it is NULL. -EEXIST: it has one; -E2BIG, -EINVAL: no name. */
int prices_add(struct prices **p, struct span model, const struct price *price);
const struct price *prices_find(const struct prices *p, struct span model);
struct prices *prices_free(struct prices *p);

#endif
