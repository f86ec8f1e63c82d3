/*
 * extras.h - what user space counts beside the maps, per client: exchanges over HTTP/2, of which the kernel counts only bytes.
 *
 * They cannot be added to the maps: the kernel adds to the same entries all the time, and to write one back would undo that. Who
 * reads a client's counters gets the sum (capture_clients()), and ageing takes both.
 */
#ifndef WEIR_CAPTURE_EXTRAS_H
#define WEIR_CAPTURE_EXTRAS_H

#include "capture/capture.h"

struct extras;

struct extras *extras_new(void); /* NULL: no memory */
struct extras *extras_free(struct extras *x);

/* The key under which this connection is counted, before anybody asks whether the map has room for it. */
void extras_key(const struct weir_conn_key *conn, uint32_t v6_prefix, bool (*is_local)(void *ctx, const uint8_t addr[16]), void *ctx, struct weir_client_key *ret);

/* The entry of a client, or NULL. */
struct weir_client *extras_find(const struct extras *x, const struct weir_client_key *key);
/* The same, made where there is none; NULL: no memory. */
struct weir_client *extras_make(struct extras *x, const struct weir_client_key *key);
/* Takes the entry away; *ret gets what was in it. False: there was none. */
bool extras_take(struct extras *x, const struct weir_client_key *key, struct weir_client *ret);

#endif
