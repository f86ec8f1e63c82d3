/* identity.c - headers -> client, key, user. */
#include "decode/identity.h"

#include "base/str.h"
#include "decode/http.h"

#include <inttypes.h>
#include <strings.h>

static const char *const source_names[IDENTITY_SOURCES] = {
	[IDENTITY_XFF] = "x-forwarded-for",	      [IDENTITY_FORWARDED] = "forwarded", [IDENTITY_CF_CONNECTING_IP] = "cf-connecting-ip",
	[IDENTITY_TRUE_CLIENT_IP] = "true-client-ip", [IDENTITY_X_REAL_IP] = "x-real-ip", [IDENTITY_PROXY] = "proxy-protocol",
};

static const char *const key_names[KEY_COUNT] = {
	[KEY_AUTHORIZATION] = "authorization", [KEY_X_API_KEY] = "x-api-key", [KEY_X_GOOG] = "x-goog-api-key", [KEY_API_KEY] = "api-key",
	[KEY_XI] = "xi-api-key",	       [KEY_LITELLM] = "x-litellm-api-key",
};

static const char *const user_names[] = { "x-litellm-end-user-id", "x-litellm-customer-id" };

static bool begins(struct span s, const char *lower)
{
	return s.n >= strlen(lower) && !strncasecmp(s.p, lower, strlen(lower));
}

static struct span rest(struct span s, size_t n)
{
	return (struct span){ s.p + n, s.n - n };
}

static struct span trim(struct span s)
{
	while (s.n && (*s.p == ' ' || *s.p == '\t'))
		s = rest(s, 1);
	while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
		s.n--;
	return s;
}

/* Bytes before the first of these. */
static size_t before(struct span s, const char *stops)
{
	size_t n = 0;

	while (n < s.n && !strchr(stops, s.p[n]))
		n++;
	return n;
}

const char *identity_source_name(enum identity_source s)
{
	return (size_t)s < IDENTITY_SOURCES ? source_names[s] : NULL;
}

int identity_source_parse(struct span name, enum identity_source *ret)
{
	for (int i = 0; i < IDENTITY_HEADERS; i++) {
		if (!http_name_is(name, source_names[i]))
			continue;
		*ret = (enum identity_source)i;
		return 0;
	}
	return -EINVAL;
}

int identity_trust(struct identity_rules *rules, struct span network)
{
	int r;

	if (rules->count == NETWORKS_MAX)
		return -E2BIG;
	r = network_parse(network, &rules->trusted[rules->count]);
	rules->count += r == 0;
	return r;
}

int identity_trust_only(struct identity_rules *rules, struct span header)
{
	enum identity_source only;
	int r = identity_source_parse(header, &only);

	if (r == 0)
		rules->only = (uint8_t)only;
	return r;
}

void identity_stats_tell(const struct identity_stats *s, struct str *out)
{
	size_t before = out->n;

	for (int i = 0; i < IDENTITY_SOURCES; i++) {
		const char *name = identity_source_name((enum identity_source)i);

		if (s->named[i])
			str_addf(out, "%s%s believed %" PRIu64, out->n > before ? " " : "", name, s->named[i]);
		if (s->ignored[i])
			str_addf(out, "%s%s ignored %" PRIu64, out->n > before ? " " : "", name, s->ignored[i]);
	}
	if (out->n > before)
		str_addf(out, ", unnamed %" PRIu64 ", cut %" PRIu64 ", unknown %" PRIu64 ", unreadable %" PRIu64 ", conflicts %" PRIu64, s->unnamed, s->cut,
			 s->unknown, s->unreadable, s->conflicts);
}

void identity_begin(struct identity_reader *r, const struct identity_rules *rules)
{
	*r = (struct identity_reader){ .rules = rules };
	for (size_t i = 0; i < ARRAY_SIZE(r->chain); i++) {
		r->chain[i].trusted = rules ? rules->trusted : NULL;
		r->chain[i].count = rules ? rules->count : 0;
	}
}

static void source_header(struct identity_reader *r, enum identity_source s, struct span value)
{
	r->present |= (uint8_t)(1u << s);
	switch (s) {
	case IDENTITY_XFF:
		chain_add_xff(&r->chain[IDENTITY_XFF], value);
		break;
	case IDENTITY_FORWARDED:
		chain_add_forwarded(&r->chain[IDENTITY_FORWARDED], value);
		break;
	default:
		r->single[s] = value; /* of several the last: proxies append */
		break;
	}
}

void identity_header(struct identity_reader *r, struct span name, struct span value)
{
	value = trim(value);
	if (http_name_is(name, "x-stainless-retry-count"))
		r->retry = value;
	for (int i = 0; i < IDENTITY_HEADERS; i++)
		if (http_name_is(name, source_names[i])) {
			source_header(r, (enum identity_source)i, value);
			return;
		}
	for (int i = 0; i < KEY_COUNT; i++)
		if (key_names[i] && http_name_is(name, key_names[i]) && !r->key[i].n)
			r->key[i] = value;
	for (size_t i = 0; i < ARRAY_SIZE(user_names); i++)
		if (http_name_is(name, user_names[i]) && !r->user.n)
			r->user = value;
}

/* Gemini's `key`; of a signed AWS request the id of the key. */
void identity_query(struct identity_reader *r, struct span query)
{
	while (query.n) {
		const char *amp = memchr(query.p, '&', query.n);
		struct span pair = { query.p, amp ? (size_t)(amp - query.p) : query.n };

		if (!r->key[KEY_QUERY].n && begins(pair, "key="))
			r->key[KEY_QUERY] = rest(pair, 4);
		else if (!r->key[KEY_QUERY].n && begins(pair, "x-amz-credential="))
			r->key[KEY_QUERY] = (struct span){ pair.p + 17, before(rest(pair, 17), "%/") };
		query = rest(query, pair.n + (amp ? 1 : 0));
	}
}

/* ---- the key --------------------------------------------------------------------------------------- */
/*
 * What of a credential stays the same from request to request. A signature (AWS) does not, the id of the key that made it does. A value
 * behind a scheme that is not known is taken as it is.
 */
static struct span credential(struct span value)
{
	static const char *const schemes[] = { "bearer ", "basic " };

	for (size_t i = 0; i < ARRAY_SIZE(schemes); i++)
		if (begins(value, schemes[i]))
			return trim(rest(value, strlen(schemes[i])));
	if (http_name_is(value, "bearer") || http_name_is(value, "basic"))
		return (struct span){ 0 };
	if (begins(value, "aws4-")) {
		for (size_t i = 0; i + 11 <= value.n; i++)
			if (begins(rest(value, i), "credential=")) {
				struct span id = rest(value, i + 11);

				return (struct span){ id.p, before(id, "/, ") };
			}
	}
	return value;
}

static struct span key_of(const struct identity_reader *r, bool litellm)
{
	if (litellm && r->key[KEY_LITELLM].n)
		return credential(r->key[KEY_LITELLM]);
	for (int i = 0; i < KEY_COUNT; i++) {
		struct span key = r->key[i].n ? credential(r->key[i]) : r->key[i];

		if (key.n)
			return key;
	}
	return (struct span){ 0 };
}

static int64_t retry_of(struct span s)
{
	int64_t n = 0;

	if (!s.n || s.n > 5)
		return -1;
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9')
			return -1;
		n = n * 10 + (s.p[i] - '0');
	}
	return n;
}

/* ---- the client ------------------------------------------------------------------------------------ */
static bool trusts(const struct identity_rules *rules, const uint8_t addr[16])
{
	return rules && networks_have(rules->trusted, rules->count, addr);
}

/* What one header says. 0; -ENOENT: it says that it does not know; -EINVAL: nonsense. */
static int source_client(const struct identity_reader *r, enum identity_source s, uint8_t ret[16])
{
	const struct chain *c;

	if (s != IDENTITY_XFF && s != IDENTITY_FORWARDED)
		return forwarded_address(r->single[s], ret);
	c = &r->chain[s];
	if (chain_client(c, ret) && c->found != CHAIN_UNKNOWN && c->found != CHAIN_BROKEN)
		return 0;
	return c->found == CHAIN_UNKNOWN ? -ENOENT : -EINVAL;
}

/* The headers of a peer that is trusted. True: they name somebody. */
static bool headers_client(const struct identity_reader *r, struct identity_stats *stats, uint8_t client[16])
{
	bool found = false, unknown = false, unreadable = false, conflict = false;

	for (int s = 0; s < IDENTITY_HEADERS; s++) {
		uint8_t addr[16];
		int e;

		if (!(r->present >> s & 1) || (r->rules->only != IDENTITY_ANY && r->rules->only != s))
			continue;
		e = source_client(r, (enum identity_source)s, addr);
		unknown |= e == -ENOENT;
		unreadable |= e == -EINVAL;
		if (found || (e < 0 && !(s <= IDENTITY_FORWARDED && chain_client(&r->chain[s], addr)))) {
			conflict |= found && e == 0 && memcmp(client, addr, 16) != 0;
			continue;
		}
		found = true;
		memcpy(client, addr, 16);
		stats->named[s]++;
	}
	stats->unknown += unknown;
	stats->unreadable += unreadable;
	stats->conflicts += conflict;
	return found;
}

void identity_finish(const struct identity_reader *r, const struct identity_peer *peer, const uint8_t key[SIPHASH_KEY_BYTES], struct identity_stats *stats,
		     struct identity *ret)
{
	struct identity_stats none = { 0 };
	struct identity id = { .retry = retry_of(r->retry), .forwarded = r->present != 0 };
	struct span credentials = key_of(r, peer->litellm);
	const uint8_t *sender = peer->addr;

	if (!stats)
		stats = &none;
	if (credentials.n) {
		id.has_key = true;
		id.key = siphash(key, credentials.p, credentials.n);
	}
	if (peer->announced && trusts(r->rules, sender)) {
		id.named = true;
		memcpy(id.client, peer->announced, 16);
		sender = id.client; /* what it says of others counts if it is trusted, too */
		stats->named[IDENTITY_PROXY]++;
	} else if (peer->announced) {
		id.forwarded = id.ignored = true;
		stats->ignored[IDENTITY_PROXY]++;
	}
	if (!trusts(r->rules, sender)) {
		id.ignored |= r->present != 0;
		for (int s = 0; s < IDENTITY_HEADERS; s++)
			stats->ignored[s] += r->present >> s & 1;
	} else if (!peer->whole) {
		stats->cut++;
	} else {
		uint8_t client[16];

		if (headers_client(r, stats, client)) {
			memcpy(id.client, client, 16);
			id.named = true;
		}
		stats->unnamed += !id.named;
	}
	*ret = id;
}
