/*
 * agent_accounts.h - who used what, by the identity that only user space knows: the true client, the API key, the user.
 *
 * Fed with the records, and with what the counters saw beyond them, so that each way of counting adds up to the same: requests that
 * ended, and their tokens (inner hops aside: agent_inner.h). Bounded: beyond the ceiling the account silent longest goes into `other`, first of those that never got an
 * answer (whoever sprays keys pushes out his own), and is counted; one that was silent for long goes into `aged`.
 */
#ifndef WEIR_CMD_AGENT_ACCOUNTS_H
#define WEIR_CMD_AGENT_ACCOUNTS_H

#include "decode/identity.h"

struct record;
struct str;

#define ACCOUNTS_DEFAULT 16384u /* of each kind; 8 MiB when all three are full */
#define ACCOUNTS_MAX (1u << 20)

enum account_kind { ACCOUNT_CLIENT, ACCOUNT_KEY, ACCOUNT_USER, ACCOUNT_KINDS };

/* "client", "key", "user"; NULL out of range. */
const char *account_kind_name(enum account_kind k);
/* Of its field in JSON: client_ip, api_key, user. */
const char *account_kind_field(enum account_kind k);

/* Only ever added to. */
struct account {
	uint64_t requests; /* that ended */
	uint64_t status_2xx, status_3xx, status_4xx, status_5xx, stream_errors;
	uint64_t prompt_tokens, completion_tokens, cached_tokens, reasoning_tokens; /* as the server reported them */
	uint64_t estimated_tokens; /* completion tokens where it reported nothing */
	uint64_t aborted;
	uint64_t lost;    /* requests without a record; they stand with the peer, without key and user */
	uint64_t retries; /* by the client's own word */
	uint64_t ignored; /* requests with forwarding headers that were not believed */
};

struct accounts;

struct accounts *accounts_new(uint32_t ceiling); /* NULL: out of memory */
struct accounts *accounts_free(struct accounts *a);

/* A request ended. `id` may be NULL. now_s: any clock that does not go back. */
void accounts_record(struct accounts *a, const struct record *r, const struct identity *id, uint64_t now_s);
/* What the counters saw beyond the records, one `lost` line of it. */
void accounts_lost(struct accounts *a, const struct record *r, uint64_t now_s);
/* Accounts silent since before this go into `aged`; a part of them per call. */
void accounts_age(struct accounts *a, uint64_t before_s);

/*
 * Lines of `weir clients --by`, at most `max` of them from *at on; *at moves. False: there are no more. Accounts that come and go
 * between two calls may be missed or, as `other`, come twice.
 */
bool accounts_write(const struct accounts *a, enum account_kind kind, uint32_t *at, unsigned max, struct str *out);
/* Sizes and evictions, for `stats`. */
void accounts_write_json(const struct accounts *a, struct str *out);
uint64_t accounts_evicted(const struct accounts *a);

#endif
