#include "decode/proxy.h"

#include <arpa/inet.h>

#include "weir/abi.h"

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define SIGNATURE_BYTES (sizeof(SIGNATURE) - 1)
#define HEAD_BYTES (SIGNATURE_BYTES + 4)

enum { FAMILY_UNSPEC, FAMILY_IPV4, FAMILY_IPV6, FAMILY_UNIX };

static void map_v4(uint8_t addr[16], const uint8_t v4[4])
{
	memset(addr, 0, 10);
	addr[10] = addr[11] = 0xff;
	memcpy(addr + 12, v4, 4);
}

/* ---- version 1: PROXY TCP4 source destination sport dport CR LF ------------------------------------------ */
/* The word up to the next blank or the end, cut off from *rest. */
static struct span next_word(struct span *rest)
{
	const char *blank = rest->n ? memchr(rest->p, ' ', rest->n) : NULL;
	struct span word = { rest->p, blank ? (size_t)(blank - rest->p) : rest->n };
	size_t used = word.n + (blank ? 1 : 0);

	rest->p += used;
	rest->n -= used;
	return word;
}

static bool address_read(int family, struct span word, uint8_t ret[16])
{
	char text[INET6_ADDRSTRLEN];

	if (!word.n || word.n >= sizeof(text) || memchr(word.p, '\0', word.n))
		return false;
	memcpy(text, word.p, word.n);
	text[word.n] = '\0';
	return inet_pton(family, text, ret) == 1;
}

static bool port_read(struct span word)
{
	unsigned v = 0;

	if (!word.n || word.n > 5 || (word.n > 1 && *word.p == '0'))
		return false;
	for (size_t i = 0; i < word.n; i++) {
		if (word.p[i] < '0' || word.p[i] > '9')
			return false;
		v = v * 10 + (unsigned)(word.p[i] - '0');
	}
	return v <= 65535;
}

static int parse_line(struct span line, enum proxy_kind *ret_kind, uint8_t ret_addr[16])
{
	uint8_t from[16], to[16];
	struct span protocol;
	int family;

	if (line.n > WEIR_PROXY_LINE_MAX || line.n < 8 || line.p[line.n - 2] != '\r' || line.p[line.n - 1] != '\n')
		return -EBADMSG;
	line.n -= 2;
	line.p += 6;
	line.n -= 6;
	protocol = next_word(&line);
	if (span_eq(protocol, SPAN("UNKNOWN"))) {
		*ret_kind = PROXY_UNKNOWN; /* whatever follows is to be ignored */
		return 0;
	}
	if (!span_eq(protocol, SPAN("TCP4")) && !span_eq(protocol, SPAN("TCP6")))
		return -EBADMSG;
	family = protocol.p[3] == '4' ? AF_INET : AF_INET6;
	if (!address_read(family, next_word(&line), from) || !address_read(family, next_word(&line), to) || !port_read(next_word(&line)) ||
	    !port_read(line))
		return -EBADMSG;
	if (family == AF_INET)
		map_v4(ret_addr, from);
	else
		memcpy(ret_addr, from, 16);
	*ret_kind = PROXY_CLIENT;
	return 0;
}

/* ---- version 2: signature, version and command, family and transport, length; addresses; TLVs -------------- */
static int parse_binary(const uint8_t *p, size_t n, enum proxy_kind *ret_kind, uint8_t ret_addr[16])
{
	unsigned command = p[12] & 15, family = p[13] >> 4;
	size_t len = (size_t)p[14] << 8 | p[15];
	const uint8_t *addr = p + HEAD_BYTES;

	if (p[12] >> 4 != 2 || command > 1 || family > FAMILY_UNIX || (p[13] & 15) > 2 || len != n - HEAD_BYTES || len > WEIR_PROXY_MAX)
		return -EBADMSG;
	*ret_kind = PROXY_UNKNOWN;
	if (command == 0)
		return 0; /* LOCAL: the addresses, if any, are not a client's */
	switch (family) {
	case FAMILY_IPV4:
		if (len < 12)
			return -EBADMSG;
		map_v4(ret_addr, addr);
		*ret_kind = PROXY_CLIENT;
		return 0;
	case FAMILY_IPV6:
		if (len < 36)
			return -EBADMSG;
		memcpy(ret_addr, addr, 16);
		*ret_kind = PROXY_CLIENT;
		return 0;
	case FAMILY_UNIX:
		return len < 216 ? -EBADMSG : 0;
	default:
		return 0;
	}
}

int proxy_parse(const uint8_t *p, size_t n, enum proxy_kind *ret_kind, uint8_t ret_addr[16])
{
	if (n >= HEAD_BYTES && memcmp(p, SIGNATURE, SIGNATURE_BYTES) == 0)
		return parse_binary(p, n, ret_kind, ret_addr);
	if (n >= 6 && memcmp(p, "PROXY ", 6) == 0)
		return parse_line((struct span){ (const char *)p, n }, ret_kind, ret_addr);
	return -EBADMSG;
}

/* ---- the table ------------------------------------------------------------------------------------------ */
/*
 * Numbers of connections go up by one, so a ring indexed by them keeps the last PROXIED_MAX, and needs no search: where another has the
 * place, it is the older one.
 */
struct proxied {
	struct {
		uint64_t conn; /* 0: none */
		uint8_t addr[16];
	} at[PROXIED_MAX];
};

struct proxied *proxied_free(struct proxied *t)
{
	free(t);
	return NULL;
}

int proxied_add(struct proxied **t, uint64_t conn, const uint8_t addr[16])
{
	size_t i = conn % PROXIED_MAX;
	bool taken;

	if (!*t)
		*t = calloc(1, sizeof(**t));
	if (!*t)
		return -ENOMEM;
	taken = (*t)->at[i].conn && (*t)->at[i].conn != conn;
	(*t)->at[i].conn = conn;
	memcpy((*t)->at[i].addr, addr, 16);
	return taken;
}

bool proxied_find(const struct proxied *t, uint64_t conn, uint8_t ret_addr[16])
{
	size_t i = conn % PROXIED_MAX;

	if (!t || !conn || t->at[i].conn != conn)
		return false;
	memcpy(ret_addr, t->at[i].addr, 16);
	return true;
}
