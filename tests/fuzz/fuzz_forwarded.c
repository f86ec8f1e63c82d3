/*
 * Networks, entries, chains and the reading of a whole head's identity. The first line is a network; the second, cut at tabs, is values of
 * one header; what follows are headers.
 *
 * Whatever comes: a chain read in one line or in several is the same chain, and who is named was written there by nobody but a trusted
 * proxy: with nobody trusted the answer is the last entry or nobody.
 */
#include "decode/http.h"
#include "decode/identity.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static struct span line_of(struct span *rest, char end)
{
	const char *at = rest->n ? memchr(rest->p, end, rest->n) : NULL;
	struct span line = { rest->p, at ? (size_t)(at - rest->p) : rest->n };

	rest->p += line.n + (at != NULL);
	rest->n -= line.n + (at != NULL);
	return line;
}

static void chains(const struct network *trusted, size_t count, struct span values)
{
	for (int kind = 0; kind < 2; kind++) {
		struct chain c = { .trusted = trusted, .count = count };
		struct span rest = values;
		uint8_t client[16];

		while (rest.n) {
			struct span v = line_of(&rest, '\t');

			(kind ? chain_add_forwarded : chain_add_xff)(&c, v);
		}
		if (!chain_client(&c, client))
			continue;
		if (c.found == CHAIN_CLIENT && networks_have(trusted, count, client))
			abort(); /* a trusted proxy is nobody's client while there is another */
		if (c.found != CHAIN_CLIENT && !networks_have(trusted, count, client))
			abort();
		if (!count && c.found != CHAIN_CLIENT)
			abort();
	}
}

/* Commas join header lines (RFC 9110): one line or two, the same. */
static void joined(const struct network *trusted, size_t count, struct span values)
{
	struct chain one = { .trusted = trusted, .count = count }, two = one;
	const char *comma = values.n ? memchr(values.p, ',', values.n) : NULL;
	uint8_t a[16] = { 0 }, b[16] = { 0 };

	if (!comma)
		return;
	chain_add_xff(&one, values);
	chain_add_xff(&two, (struct span){ values.p, (size_t)(comma - values.p) });
	chain_add_xff(&two, (struct span){ comma + 1, values.n - (size_t)(comma + 1 - values.p) });
	if (chain_client(&one, a) != chain_client(&two, b) || memcmp(a, b, 16) != 0 || one.hops != two.hops)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const uint8_t key[SIPHASH_KEY_BYTES];
	struct span rest = { (const char *)data, n }, network = line_of(&rest, '\n'), values = line_of(&rest, '\n'), name, value;
	struct identity_rules rules = { .only = IDENTITY_ANY };
	struct identity_stats stats = { 0 };
	struct identity_reader reader;
	uint8_t peer[16] = { 0 };
	struct identity id;
	uint64_t said = 0;

	if (network_parse(network, &rules.trusted[0]) == 0) {
		rules.count = 1;
		memcpy(peer, rules.trusted[0].addr, 16);
		if (!network_has(&rules.trusted[0], peer) || rules.trusted[0].bits > 128)
			abort();
	}
	chains(rules.trusted, rules.count, values);
	joined(rules.trusted, rules.count, values);
	identity_begin(&reader, &rules);
	identity_header(&reader, SPAN("x-forwarded-for"), values);
	while (http_next_header(&rest, &name, &value)) {
		identity_header(&reader, name, value);
		identity_query(&reader, value);
	}
	identity_finish(&reader, &(struct identity_peer){ .addr = peer, .whole = true }, key, &stats, &id);
	if (id.named != (id.named && rules.count) || (id.ignored && rules.count))
		abort();
	for (int i = 0; i < IDENTITY_SOURCES; i++)
		said += stats.named[i];
	if (said != id.named || id.retry < -1)
		abort();
	return 0;
}
