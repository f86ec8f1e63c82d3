/*
 * agent_hidden.h - notices that the addresses seen are not those of clients: a gateway, an ingress or node port in front.
 *
 * Fed with each request of which nobody trusted said where it came from. Small: HIDDEN_PEERS addresses by the space-saving method
 * (Metwally et al. 2005), so that the heaviest are in it whatever comes.
 */
#ifndef WEIR_CMD_AGENT_HIDDEN_H
#define WEIR_CMD_AGENT_HIDDEN_H

#include "base/str.h"
#include "decode/identity.h"
#include "decode/record.h"
#include "weir/abi.h"

#define HIDDEN_PEERS 16
#define HIDDEN_FEW 3          /* so many addresses at most */
#define HIDDEN_SHARE 0.9      /* hold so much of the requests */
#define HIDDEN_REQUESTS 200   /* before anything is said */
#define HIDDEN_REMEMBER 4000  /* then the counts are halved, so that what was changed shows */
#define HIDDEN_IDENTITIES 4.0 /* different keys, agents or users behind a loopback address, which else is its own client */

struct hidden;

struct hidden *hidden_new(void); /* NULL: out of memory */
struct hidden *hidden_free(struct hidden *h);

void hidden_record(struct hidden *h, const struct record *r, const struct weir_conn_key *at, const struct identity *id);
bool hidden_now(const struct hidden *h);
/* Logs it, once. */
void hidden_tell(struct hidden *h);
/* "hidden": {...}, for `stats`. */
void hidden_write_json(const struct hidden *h, struct str *out);
/* The way out, in one line; `forwards`: the peers send headers that name clients. */
const char *hidden_advice(bool forwards);

#endif
