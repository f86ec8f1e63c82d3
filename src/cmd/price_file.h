/*
 * price_file.h - the section [price] of a configuration file: MODEL = PROMPT COMPLETION [CACHED], units per million tokens.
 *
 * Other sections are other readers' affair.
 */
#ifndef WEIR_CMD_PRICE_FILE_H
#define WEIR_CMD_PRICE_FILE_H

#define PRICE_SECTION "price"

struct prices;
/* *ret NULL: there is none. -EINVAL, -ENOENT: it was said what is wrong. */
int price_file_read(const char *path, struct prices **ret);

#endif
