#include "capture/extras.h"

#include "weir/unix.h"

#define BUCKETS 16384u /* chains stay short up to the 100,000 clients of the default map; as many entries as that has at most */

struct extra {
	struct weir_client_key key;
	struct weir_client sum;
	struct extra *next;
};

struct extras {
	struct extra *bucket[BUCKETS];
};

struct extras *extras_new(void)
{
	return calloc(1, sizeof(struct extras));
}

struct extras *extras_free(struct extras *x)
{
	if (!x)
		return NULL;
	for (size_t i = 0; i < BUCKETS; i++)
		while (x->bucket[i]) {
			struct extra *e = x->bucket[i];

			x->bucket[i] = e->next;
			free(e);
		}
	free(x);
	return NULL;
}

static struct extra **place(struct extras *x, const struct weir_client_key *key)
{
	const uint8_t *p = (const uint8_t *)key;
	uint64_t h = 0xcbf29ce484222325u; /* as in losses.c */
	struct extra **at;

	for (size_t i = 0; i < sizeof(*key); i++)
		h = (h ^ p[i]) * 0x100000001b3u;
	at = &x->bucket[(h ^ h >> 32) % BUCKETS];
	while (*at && memcmp(&(*at)->key, key, sizeof(*key)))
		at = &(*at)->next;
	return at;
}

struct weir_client *extras_find(const struct extras *x, const struct weir_client_key *key)
{
	struct extra *e = *place((struct extras *)x, key);

	return e ? &e->sum : NULL;
}

struct weir_client *extras_make(struct extras *x, const struct weir_client_key *key)
{
	struct extra **at = place(x, key);

	if (!*at) {
		*at = calloc(1, sizeof(**at));
		if (!*at)
			return NULL;
		(*at)->key = *key;
	}
	return &(*at)->sum;
}

bool extras_take(struct extras *x, const struct weir_client_key *key, struct weir_client *ret)
{
	struct extra **at = place(x, key), *e = *at;

	if (!e)
		return false;
	*ret = e->sum;
	*at = e->next;
	free(e);
	return true;
}

/* As client_key_of() of bpf/clients.bpf.h does. */
void extras_key(const struct weir_conn_key *conn, uint32_t v6_prefix, bool (*is_local)(void *ctx, const uint8_t addr[16]), void *ctx, struct weir_client_key *ret)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff }, loopback[16] = { [15] = 1 };
	const uint8_t *addr = conn->raddr;

	*ret = (struct weir_client_key){ .netns = conn->netns, .port = conn->lport };
	memcpy(ret->server, conn->laddr, sizeof(ret->server));
	memcpy(ret->client, addr, sizeof(ret->client));
	if (weir_is_unix(addr)) {
		weir_unix_common(ret->server);
		weir_unix_common(ret->client);
		return;
	}
	if (v6_prefix >= 128 || !memcmp(addr, mapped, sizeof(mapped)) || !memcmp(addr, conn->laddr, 16) || !memcmp(addr, loopback, 16) || is_local(ctx, addr))
		return;
	for (uint32_t bit = v6_prefix; bit < 128; bit++)
		ret->client[bit / 8] &= (uint8_t)~(0x80u >> bit % 8);
}
