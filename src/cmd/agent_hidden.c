#include "cmd/agent_hidden.h"

#include "base/log.h"
#include "cmd/agent_socket.h"
#include "detect/entity.h"

struct peer {
	uint8_t addr[16];
	uint64_t requests;  /* since it is in the table, and what it took over from whom it pushed out */
	uint64_t forwarded; /* of them: with headers that name a client */
	uint64_t keys, agents, users; /* bitmaps by hash */
	bool own; /* an address of this host */
};

struct hidden {
	struct peer peer[HIDDEN_PEERS];
	size_t n;
	uint64_t total;
	bool told;
};

struct hidden *hidden_new(void)
{
	return calloc(1, sizeof(struct hidden));
}

struct hidden *hidden_free(struct hidden *h)
{
	free(h);
	return NULL;
}

static struct peer *peer_get(struct hidden *h, const uint8_t addr[16])
{
	struct peer *least = h->peer;
	uint64_t taken_over;

	for (size_t i = 0; i < h->n; i++) {
		if (!memcmp(h->peer[i].addr, addr, 16))
			return &h->peer[i];
		if (h->peer[i].requests < least->requests)
			least = &h->peer[i];
	}
	taken_over = h->n == HIDDEN_PEERS ? least->requests : 0;
	if (h->n < HIDDEN_PEERS)
		least = &h->peer[h->n++];
	*least = (struct peer){ .requests = taken_over };
	memcpy(least->addr, addr, 16);
	return least;
}

static void halve(struct hidden *h)
{
	h->total /= 2;
	for (size_t i = 0; i < h->n; i++) {
		h->peer[i].requests /= 2;
		h->peer[i].forwarded /= 2;
	}
}

static void see(uint64_t *bitmap, enum entity_kind kind, struct span name)
{
	if (name.n)
		*bitmap |= entity_bit(entity_hash(kind, name));
}

void hidden_record(struct hidden *h, const struct record *r, const struct weir_conn_key *at, const struct identity *id)
{
	uint8_t addr[16];
	struct peer *p;

	if (r->kind == KIND_CONTROL || r->kind == KIND_OTHER)
		return; /* health checks come from nodes wherever the clients are */
	h->total++;
	if (h->total > HIDDEN_REMEMBER)
		halve(h);
	if (id->named)
		return;
	memcpy(addr, at->raddr, sizeof(addr));
	if (weir_is_unix(addr))
		weir_unix_common(addr);
	p = peer_get(h, addr);
	p->requests++;
	p->forwarded += id->forwarded;
	p->own = weir_is_unix(addr) || address_is_loopback(at->raddr) || !memcmp(at->raddr, at->laddr, 16);
	see(&p->keys, ENTITY_API_KEY, record_text(r, F_API_KEY));
	see(&p->agents, ENTITY_HOST, record_text(r, F_USER_AGENT));
	see(&p->users, ENTITY_USER, record_text(r, F_USER));
}

static double identities(const struct peer *p)
{
	return MAX(MAX(entity_distinct(p->keys), entity_distinct(p->agents)), entity_distinct(p->users));
}

/* A program on this host may well be the client itself; what comes from another private address rarely is a person. */
static bool stands_between(const struct peer *p)
{
	if (p->forwarded * 2 > p->requests)
		return true;
	return p->own ? identities(p) >= HIDDEN_IDENTITIES - 0.5 : address_is_private(p->addr);
}

/* The heaviest HIDDEN_FEW, most first. Returns how many; *ret_sum: their requests. */
static size_t heaviest(const struct hidden *h, const struct peer *ret[HIDDEN_FEW], uint64_t *ret_sum)
{
	size_t n = 0;

	*ret_sum = 0;
	for (size_t i = 0; i < h->n; i++) {
		size_t at = n;

		while (at > 0 && ret[at - 1]->requests < h->peer[i].requests)
			at--;
		if (at == HIDDEN_FEW)
			continue;
		n = MIN(n + 1, (size_t)HIDDEN_FEW);
		memmove(&ret[at + 1], &ret[at], (n - 1 - at) * sizeof(*ret));
		ret[at] = &h->peer[i];
	}
	for (size_t i = 0; i < n; i++)
		*ret_sum += ret[i]->requests;
	return n;
}

/* Of the heaviest those that stand between, where they hold nearly all. 0: clients are seen as they are. */
static size_t gateways(const struct hidden *h, const struct peer *ret[HIDDEN_FEW], uint64_t *ret_sum)
{
	const struct peer *top[HIDDEN_FEW];
	size_t n = heaviest(h, top, ret_sum), found = 0;

	*ret_sum = 0;
	if (h->total < HIDDEN_REQUESTS)
		return 0;
	for (size_t i = 0; i < n; i++)
		if (stands_between(top[i])) {
			ret[found++] = top[i];
			*ret_sum += top[i]->requests;
		}
	return (double)*ret_sum >= HIDDEN_SHARE * (double)h->total ? found : 0;
}

bool hidden_now(const struct hidden *h)
{
	const struct peer *p[HIDDEN_FEW];
	uint64_t sum;

	return gateways(h, p, &sum) > 0;
}

const char *hidden_advice(bool forwards)
{
	return forwards ? "they send headers that name them: --trusted-proxy ADDRESS makes weir read these"
			: "in Kubernetes set externalTrafficPolicy: Local; let the gateway send X-Forwarded-For or the PROXY protocol, and run weir with --trusted-proxy ADDRESS";
}

void hidden_tell(struct hidden *h)
{
	const struct peer *p[HIDDEN_FEW];
	struct str who = { 0 };
	uint64_t sum, forwarded = 0;
	size_t n;

	if (h->told || !(n = gateways(h, p, &sum)))
		return;
	for (size_t i = 0; i < n; i++) {
		char text[ADDRESS_TEXT];

		address_text(p[i]->addr, text);
		str_addf(&who, "%s%s", i ? ", " : "", text);
		forwarded += p[i]->forwarded;
	}
	if (!str_error(&who))
		log_warning("%.0f %% of the requests come from %s: the clients behind are hidden; %s", 100 * (double)sum / (double)h->total, who.p,
			    hidden_advice(forwarded * 2 > sum));
	str_done(&who);
	h->told = true;
}

void hidden_write_json(const struct hidden *h, struct str *out)
{
	const struct peer *p[HIDDEN_FEW];
	uint64_t sum;
	bool is = hidden_now(h);
	size_t n = heaviest(h, p, &sum);

	json_key(out, "hidden");
	json_begin(out, '{');
	json_kbool(out, "hidden", is);
	json_kuint(out, "requests", h->total);
	json_key(out, "peers");
	json_begin(out, '[');
	for (size_t i = 0; i < n; i++) {
		char text[ADDRESS_TEXT];

		address_text(p[i]->addr, text);
		json_begin(out, '{');
		json_kstring(out, "address", span_of(text));
		json_kuint(out, "requests", p[i]->requests);
		json_kuint(out, "forwarded", p[i]->forwarded);
		json_kuint(out, "keys", (uint64_t)(entity_distinct(p[i]->keys) + 0.5));
		json_kuint(out, "agents", (uint64_t)(entity_distinct(p[i]->agents) + 0.5));
		json_kuint(out, "users", (uint64_t)(entity_distinct(p[i]->users) + 0.5));
		json_end(out, '}');
	}
	json_end(out, ']');
	json_end(out, '}');
}
