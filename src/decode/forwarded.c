/* forwarded.c - chains of proxies, and the networks that are believed. */
#include "decode/forwarded.h"

#include "weir/unix.h"

#include <arpa/inet.h>
#include <strings.h>

static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

static bool is_v4(const uint8_t addr[16])
{
	return !memcmp(addr, mapped, sizeof(mapped));
}

static struct span trim(struct span s)
{
	while (s.n && (*s.p == ' ' || *s.p == '\t'))
		s = (struct span){ s.p + 1, s.n - 1 };
	while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
		s.n--;
	return s;
}

static const char *find(struct span s, char c)
{
	return s.n ? memchr(s.p, c, s.n) : NULL;
}

/* A bare address, without port, brackets or zone. */
static int address_parse(struct span s, uint8_t ret[16])
{
	char text[INET6_ADDRSTRLEN];
	uint8_t a[16];

	if (!s.n || s.n >= sizeof(text) || memchr(s.p, '\0', s.n))
		return -EINVAL;
	memcpy(text, s.p, s.n);
	text[s.n] = '\0';
	if (inet_pton(AF_INET6, text, a) != 1) {
		if (inet_pton(AF_INET, text, a + 12) != 1)
			return -EINVAL;
		memcpy(a, mapped, sizeof(mapped));
	}
	if (weir_is_unix(a))
		return -EINVAL; /* nobody has such an address, and here it would stand for a user */
	memcpy(ret, a, 16);
	return 0;
}

/* ---- networks -------------------------------------------------------------------------------------- */
bool network_has(const struct network *n, const uint8_t addr[16])
{
	unsigned whole = n->bits / 8, rest = n->bits % 8;

	if (memcmp(n->addr, addr, whole) != 0)
		return false;
	return !rest || !((n->addr[whole] ^ addr[whole]) >> (8 - rest));
}

bool networks_have(const struct network *n, size_t count, const uint8_t addr[16])
{
	for (size_t i = 0; i < count; i++)
		if (network_has(&n[i], addr))
			return true;
	return false;
}

int network_parse(struct span text, struct network *ret)
{
	const char *slash = find(text, '/');
	struct span address = slash ? (struct span){ text.p, (size_t)(slash - text.p) } : text;
	struct network n = { .bits = 128 };
	unsigned bits = 0, most;
	bool v4;
	int r;

	if (span_eq(text, SPAN("unix:"))) { /* as nginx writes it: whoever comes over a Unix socket */
		*ret = (struct network){ .bits = 64 };
		weir_unix_address(ret->addr, 0, 0);
		return 0;
	}
	r = address_parse(address, n.addr);
	if (r < 0)
		return r;
	/* "::ffff:10.0.0.0/104" counts all 128 bits, as it is written */
	v4 = is_v4(n.addr) && !find(address, ':');
	most = v4 ? 32 : 128;
	if (slash) {
		struct span s = { slash + 1, text.n - address.n - 1 };

		if (!s.n || s.n > 3)
			return -EINVAL;
		for (size_t i = 0; i < s.n; i++) {
			if (s.p[i] < '0' || s.p[i] > '9')
				return -EINVAL;
			bits = bits * 10 + (unsigned)(s.p[i] - '0');
		}
		if (bits > most)
			return -EINVAL;
		n.bits = (uint8_t)(bits + 128 - most);
	}
	for (unsigned i = n.bits; i < 128; i++)
		if (n.addr[i / 8] & 0x80 >> i % 8)
			return -EDOM;
	*ret = n;
	return 0;
}

bool address_is_private(const uint8_t addr[16])
{
	static const struct network nets[] = {
		{ { [10] = 0xff, 0xff, 10 }, 104 },	   { { [10] = 0xff, 0xff, 172, 16 }, 108 }, { { [10] = 0xff, 0xff, 192, 168 }, 112 },
		{ { [10] = 0xff, 0xff, 100, 64 }, 106 }, { { [10] = 0xff, 0xff, 169, 254 }, 112 }, { { 0xfc }, 7 }, { { 0xfe, 0x80 }, 10 },
	};

	return networks_have(nets, ARRAY_SIZE(nets), addr);
}

bool address_is_loopback(const uint8_t addr[16])
{
	static const struct network nets[] = { { { [10] = 0xff, 0xff, 127 }, 104 }, { { [15] = 1 }, 128 } };

	return networks_have(nets, ARRAY_SIZE(nets), addr);
}

/* ---- one entry ------------------------------------------------------------------------------------- */
static bool is_port(struct span s)
{
	if (!s.n || s.n > 5)
		return false;
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] < '0' || s.p[i] > '9')
			return false;
	return true;
}

/* RFC 7239 lets a port be obfuscated, too. */
static bool is_port_or_name(struct span s)
{
	return is_port(s) || (s.n > 1 && *s.p == '_');
}

int forwarded_address(struct span text, uint8_t ret[16])
{
	struct span s = trim(text), port = { 0 };
	const char *cut;

	if (s.n && *s.p == '[') {
		cut = find(s, ']');
		if (!cut)
			return -EINVAL;
		port = (struct span){ cut + 1, s.n - (size_t)(cut + 1 - s.p) };
		s = (struct span){ s.p + 1, (size_t)(cut - s.p) - 1 };
		if (!find(s, ':') || (port.n && (*port.p != ':' || !is_port_or_name((struct span){ port.p + 1, port.n - 1 }))))
			return -EINVAL;
	} else if ((cut = find(s, ':')) && !memchr(cut + 1, ':', s.n - (size_t)(cut + 1 - s.p))) {
		/* one colon: a port; an IPv6 address has more */
		if (!is_port_or_name((struct span){ cut + 1, s.n - (size_t)(cut + 1 - s.p) }))
			return -EINVAL;
		s.n = (size_t)(cut - s.p);
	}
	if (s.n == 7 && !strncasecmp(s.p, "unknown", 7))
		return -ENOENT;
	if (s.n > 1 && *s.p == '_')
		return -ENOENT;
	cut = find(s, '%'); /* the zone means something on the proxy only */
	if (cut && find(s, ':'))
		s.n = (size_t)(cut - s.p);
	return address_parse(s, ret);
}

/* ---- chains ---------------------------------------------------------------------------------------- */
static void chain_add(struct chain *c, int error, const uint8_t addr[16])
{
	c->hops += c->hops < UINT32_MAX;
	if (error) {
		c->found = error == -ENOENT ? CHAIN_UNKNOWN : CHAIN_BROKEN;
		c->have_last = false;
	} else if (!networks_have(c->trusted, c->count, addr)) {
		c->found = CHAIN_CLIENT;
		memcpy(c->client, addr, 16);
	} else if (c->found == CHAIN_EMPTY) {
		c->found = CHAIN_TRUSTED;
		memcpy(c->first, addr, 16);
	} else if (c->found >= CHAIN_UNKNOWN && !c->have_last) {
		c->have_last = true;
		memcpy(c->last, addr, 16);
	}
}

void chain_add_xff(struct chain *c, struct span value)
{
	while (value.n) {
		const char *comma = find(value, ',');
		struct span entry = trim((struct span){ value.p, comma ? (size_t)(comma - value.p) : value.n });
		size_t used = comma ? (size_t)(comma + 1 - value.p) : value.n;
		uint8_t addr[16] = { 0 };

		/* some write it as RFC 7239 would */
		if (entry.n > 1 && *entry.p == '"' && entry.p[entry.n - 1] == '"')
			entry = (struct span){ entry.p + 1, entry.n - 2 };
		if (entry.n)
			chain_add(c, forwarded_address(entry, addr), addr);
		value.p += used;
		value.n -= used;
	}
}

#define NODE_MAX 64 /* bracketed IPv6 and its port; what is longer is no address */

/* Takes a token or a quoted string off; `out` is what it says, cut at NODE_MAX. False: a quote is left open. */
static bool take_value(struct span *s, char out[NODE_MAX], size_t *ret_n)
{
	bool quoted = s->n && *s->p == '"', open = quoted;
	size_t i = quoted, n = 0;

	for (; i < s->n; i++) {
		char c = s->p[i];

		if (quoted && c == '"') {
			open = false;
			i++;
			break;
		}
		if (quoted && c == '\\' && i + 1 < s->n)
			c = s->p[++i];
		else if (!quoted && (c == ';' || c == ','))
			break;
		if (n < NODE_MAX)
			out[n++] = c;
	}
	s->p += i;
	s->n -= i;
	*ret_n = n;
	return !open;
}

/* Skips to the delimiter that ends this pair; returns it, or NUL at the end. */
static char take_delimiter(struct span *s)
{
	char c = '\0';

	while (s->n && c != ',' && c != ';') {
		c = *s->p;
		s->p++;
		s->n--;
	}
	return c == ',' || c == ';' ? c : '\0';
}

void chain_add_forwarded(struct chain *c, struct span value)
{
	uint8_t addr[16] = { 0 };
	int said = 1; /* of the element under way; 1: it has no `for` yet */
	bool any = false;

	while (value.n) {
		char text[NODE_MAX];
		struct span name;
		size_t n = 0;
		char end;

		while (value.n && (*value.p == ' ' || *value.p == '\t'))
			value = (struct span){ value.p + 1, value.n - 1 };
		for (n = 0; n < value.n && !strchr("=;,", value.p[n]); n++)
			;
		name = trim((struct span){ value.p, n });
		any |= name.n > 0;
		value.p += n;
		value.n -= n;
		if (value.n && *value.p == '=') {
			value = (struct span){ value.p + 1, value.n - 1 };
			if (!take_value(&value, text, &n)) {
				said = -EINVAL; /* where the string ends is anybody's guess: so is the rest */
				value.n = 0;
			} else if (name.n == 3 && !strncasecmp(name.p, "for", 3)) {
				said = said == 1 && n < NODE_MAX ? forwarded_address((struct span){ text, n }, addr) : -EINVAL;
			}
		}
		end = take_delimiter(&value);
		if (end == ';')
			continue;
		if (any)
			chain_add(c, said == 1 ? -ENOENT : said, addr);
		said = 1;
		any = false;
	}
}

bool chain_client(const struct chain *c, uint8_t ret[16])
{
	const uint8_t *a = c->found == CHAIN_CLIENT ? c->client : c->found == CHAIN_TRUSTED ? c->first : c->have_last && c->found >= CHAIN_UNKNOWN ? c->last : NULL;

	if (a)
		memcpy(ret, a, 16);
	return a != NULL;
}
