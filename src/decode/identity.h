/*
 * identity.h - who asked: the headers of one request, read against the networks whose word is taken.
 *
 * Works on headers one by one, whatever brought them (a head of HTTP/1, a list of HTTP/2). Values are spans into the caller's memory
 * until identity_finish(), which leaves numbers, one span (the user) and a keyed hash: an API key goes no further than this file.
 */
#ifndef WEIR_DECODE_IDENTITY_H
#define WEIR_DECODE_IDENTITY_H

#include "decode/forwarded.h"
#include "decode/siphash.h"

/* What can name a client, in the order in which it is asked. PROXY comes first on the wire and is asked apart. */
enum identity_source {
	IDENTITY_XFF,
	IDENTITY_FORWARDED,
	IDENTITY_CF_CONNECTING_IP,
	IDENTITY_TRUE_CLIENT_IP,
	IDENTITY_X_REAL_IP,
	IDENTITY_HEADERS,
	IDENTITY_PROXY = IDENTITY_HEADERS,
	IDENTITY_SOURCES,
};

#define IDENTITY_ANY IDENTITY_HEADERS /* identity_rules.only: whichever is there */

/* Name of the header in lower case; "proxy-protocol"; NULL out of range. */
const char *identity_source_name(enum identity_source s);
/* -EINVAL: no such header. */
int identity_source_parse(struct span name, enum identity_source *ret);

struct identity_rules {
	struct network trusted[NETWORKS_MAX];
	size_t count;
	uint8_t only; /* enum identity_source of the one header that is read, or IDENTITY_ANY */
};

/* One more network whose word is taken: -EINVAL, -EDOM as network_parse(); -E2BIG: there are too many. */
int identity_trust(struct identity_rules *rules, struct span network);
/* Of the headers this one alone. -EINVAL: no such header. */
int identity_trust_only(struct identity_rules *rules, struct span header);

/* Requests, each cause apart; none of them is lost. */
struct identity_stats {
	uint64_t named[IDENTITY_SOURCES];   /* a trusted peer's word was taken */
	uint64_t ignored[IDENTITY_SOURCES]; /* said by a peer that is not trusted */
	uint64_t unnamed;    /* of a trusted peer, without anything that names a client */
	uint64_t cut;        /* of a trusted peer, the head came incomplete: what is missing may be what the proxy wrote */
	uint64_t unknown;    /* the chain ends in `unknown` or an obfuscated name */
	uint64_t unreadable; /* ... or in something that is no address */
	uint64_t conflicts;  /* headers that name different clients; the first in order was taken */
};

struct str;
/* "forwarded believed 3 x-real-ip ignored 1, unnamed 0, ..."; nothing where no header ever named a client. */
void identity_stats_tell(const struct identity_stats *s, struct str *out);

/* Where a key was found, in the order in which it is taken. */
enum identity_key {
	KEY_AUTHORIZATION,
	KEY_X_API_KEY,
	KEY_X_GOOG,
	KEY_API_KEY,
	KEY_XI,
	KEY_LITELLM, /* first, where the server is a LiteLLM: it reads this one first and passes the others on */
	KEY_QUERY,
	KEY_COUNT,
};

struct identity_reader {
	const struct identity_rules *rules; /* NULL: nobody is trusted */
	struct chain chain[2];              /* IDENTITY_XFF, IDENTITY_FORWARDED */
	struct span single[IDENTITY_HEADERS];
	struct span key[KEY_COUNT];
	struct span user;
	struct span retry;
	uint8_t present; /* bits of enum identity_source */
};

/* What one request tells. */
struct identity {
	bool named;     /* `client` was told by somebody trusted */
	bool forwarded; /* a header that names a client was there, trusted or not */
	bool ignored;   /* ... and its sender was not */
	bool has_key;
	uint8_t client[16];
	uint64_t key; /* keyed hash */
	int64_t retry; /* -1: not said */
};

void identity_begin(struct identity_reader *r, const struct identity_rules *rules);
void identity_header(struct identity_reader *r, struct span name, struct span value);
/* What stands behind the '?' of the path. */
void identity_query(struct identity_reader *r, struct span query);

struct identity_peer {
	const uint8_t *addr;      /* of the socket, 16 bytes */
	const uint8_t *announced; /* by the PROXY protocol at the connection's beginning; NULL: nothing was */
	bool whole;               /* the head came to its end */
	bool litellm;
};

/* The peer's word is weighed; *stats (may be NULL) counts this request. */
void identity_finish(const struct identity_reader *r, const struct identity_peer *peer, const uint8_t key[SIPHASH_KEY_BYTES], struct identity_stats *stats,
		     struct identity *ret);

#endif
