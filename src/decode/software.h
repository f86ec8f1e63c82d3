/*
 * software.h - which software, and which version of it, answers at an address: as its own answers tell.
 *
 * Clues are collected from every answer; the name is settled once, by the first successful answer of a model's (inference,
 * embedding) at which it is known, and then never changes: who reads records takes a server's label for its identity. Web servers
 * that model servers are built upon (uvicorn and its like) tell nothing of the model server and are passed over. The clues are one
 * table in software.c. Everything here came over the wire: what is kept is letters, digits and "._+-" within a bound.
 */
#ifndef WEIR_DECODE_SOFTWARE_H
#define WEIR_DECODE_SOFTWARE_H

#include "base/str.h"
#include "base/util.h"
#include "weir/abi.h"

#define SOFTWARE_SERVERS_MAX 256 /* listening addresses; a host with more pods has nameless ones */
#define SOFTWARE_NAME_MAX 24
#define SOFTWARE_VERSION_MAX 32
#define SOFTWARE_MAX (SOFTWARE_NAME_MAX + 1 + SOFTWARE_VERSION_MAX + 1) /* "name/version" and its NUL */

struct http_head;

/* What one answer tells; all empty where it tells nothing. */
struct software_clues {
	struct span server, litellm, compute_type, compute_tokens; /* headers */
	struct span fingerprint; /* system_fingerprint */
	struct span owner;       /* who a list of models says it belongs to, or the name that a server gives itself */
	struct span version;     /* out of a body that has only that */
	const char *sole;        /* the one server that answers at this path; NULL: several do */
};

void software_clues_head(struct software_clues *c, const struct http_head *h);

struct software;

struct software *software_new(void); /* NULL: no memory */
struct software *software_free(struct software *s);

/* One answer of the server at this end of a connection. `model`: a model's successful one, which settles the name. */
void software_note(struct software *s, const struct weir_conn_key *at, const struct software_clues *c, bool model);

/* "name/version" or "name", settled and valid as long as s is; NULL: not known. Only the server's end of the key is looked at. */
const char *software_of(const struct software *s, const struct weir_conn_key *at);

/* The table, for docs/dialects.md. */
void software_write_docs(struct str *out);

#endif
