#include "cmd/price_file.h"

#include "base/log.h"
#include "detect/price.h"

#include <ini.h>

struct reading {
	struct prices *prices;
	char why[256]; /* the first thing that was wrong */
};

static int on_setting(void *ctx, const char *section, const char *name, const char *value)
{
	struct reading *f = ctx;
	struct price price;
	char model[256];
	const char *is = strchr(value, '=');
	int r, n;

	if (strcmp(section, PRICE_SECTION) != 0)
		return 1;
	/* The reader takes a colon for an equals sign: `llama3:8b = 1 2` comes as `llama3` and `8b = 1 2`. */
	if (is) {
		size_t tag = (size_t)(is - value);

		while (tag && (value[tag - 1] == ' ' || value[tag - 1] == '\t'))
			tag--;
		n = snprintf(model, sizeof(model), "%s:%.*s", name, (int)tag, value);
		value = is + 1;
	} else {
		n = snprintf(model, sizeof(model), "%s", name);
	}
	r = n < (int)sizeof(model) ? price_parse(value, &price) : -ENAMETOOLONG;
	if (r == 0)
		r = prices_add(&f->prices, span_of(model), &price);
	if (r == -EEXIST)
		snprintf(f->why, sizeof(f->why), "[" PRICE_SECTION "] %.64s has a price already", model);
	else if (r == -E2BIG)
		snprintf(f->why, sizeof(f->why), "[" PRICE_SECTION "] more than %d models", PRICES_MAX);
	else if (r == -ENOMEM)
		snprintf(f->why, sizeof(f->why), "out of memory");
	else if (r < 0)
		snprintf(f->why, sizeof(f->why), "[" PRICE_SECTION "] wants MODEL = PROMPT COMPLETION [CACHED], each 0..%.0f per million tokens", PRICE_MAX);
	return r == 0;
}

int price_file_read(const char *path, struct prices **ret)
{
	struct reading f = { 0 };
	int line = ini_parse(path, on_setting, &f);

	if (line == 0) {
		*ret = f.prices;
		return 0;
	}
	prices_free(f.prices);
	if (line < 0) {
		log_error("%s: %s", path, line == -1 ? strerror(errno) : "out of memory");
		return -ENOENT;
	}
	log_error("%s:%d: %s", path, line, *f.why ? f.why : "not a setting (name = value)");
	return -EINVAL;
}
