#include "detect/part.h"

static const char *const names[PART_COUNT] = {
	[PART_SEASON] = "season", [PART_HABIT] = "habit", [PART_LOAD] = "load", [PART_ONE_CAUSE] = "one-cause", [PART_FOREST] = "forest", [PART_RETRY] = "retry", [PART_BEHAVIOUR] = "behaviour",
};

const char *part_name(enum part p)
{
	return names[p];
}

int parts_parse(struct span list, unsigned int *ret)
{
	unsigned int set = 0;

	for (;;) {
		const char *comma = list.n ? memchr(list.p, ',', list.n) : NULL;
		struct span name = { list.p, comma ? (size_t)(comma - list.p) : list.n };
		int p = 0;

		while (p < PART_COUNT && !span_eq(name, span_of(names[p])))
			p++;
		if (p == PART_COUNT)
			return -EINVAL;
		set |= 1u << p;
		if (!comma)
			break;
		list.n -= name.n + 1;
		list.p += name.n + 1;
	}
	*ret = set;
	return 0;
}
