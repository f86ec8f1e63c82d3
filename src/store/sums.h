/*
 * sums.h - requests and tokens per hour: of all, and of each server, model, address, key and user.
 *
 * Adds up in memory what came since the last save. Bounded: in an hour at most SUMS_PER_KIND names of each kind have a sum of
 * their own, further ones share "other". Control requests (health, models, tokenize) are not counted.
 */
#ifndef WEIR_STORE_SUMS_H
#define WEIR_STORE_SUMS_H

#include "decode/record.h"
#include "store/store.h"

#define SUMS_PER_KIND 512 /* who spends most is among them; the rest is one bill */
#define SUMS_OTHER "other"
#define SUMS_AHEAD_S 3600      /* a time stamp further from now than this ... */
#define SUMS_BEHIND_S 172800   /* ... or this is not believed: it counts now */

struct sums;
int sums_open(struct sums **ret);
struct sums *sums_free(struct sums *s);
/* now: the newest time known, 0 where there is none. */
void sums_record(struct sums *s, const struct record *r, double now);
/* Adds all that came since the last call that went well. In a transaction; on failure everything stays for the next. */
int sums_save(struct sums *s, struct store *st);
/* The transaction that sums_save() was in has been committed. */
void sums_saved(struct sums *s);

#endif
