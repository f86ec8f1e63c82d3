#include "capture/losses.h"

#include "capture/capture_internal.h"

#define SLOTS_MIN 64u
#define ENTRIES_MAX CAPTURE_CLIENTS_MAX

/* Open addressing; an entry with total.requests == 0 is free. */
struct losses {
	struct loss *slot; /* counters: what was reported so far */
	size_t slots, used;
};

struct losses *losses_free(struct losses *l)
{
	if (l)
		free(l->slot);
	free(l);
	return NULL;
}

static size_t key_hash(const struct weir_client_key *k)
{
	const uint8_t *p = (const uint8_t *)k;
	uint64_t h = 0xcbf29ce484222325u; /* FNV-1a; clients choose addresses, but each costs them one: bounded by the client map */

	for (size_t i = 0; i < sizeof(*k); i++)
		h = (h ^ p[i]) * 0x100000001b3u;
	return (size_t)(h ^ h >> 32);
}

static struct loss *slot_find(const struct losses *l, const struct weir_client_key *key)
{
	size_t i = key_hash(key) & (l->slots - 1);

	while (l->slot[i].requests && memcmp(&l->slot[i].key, key, sizeof(*key)))
		i = (i + 1) & (l->slots - 1);
	return &l->slot[i];
}

static int slots_grow(struct losses *l)
{
	struct losses more = { .slots = l->slots ? l->slots * 2 : SLOTS_MIN };

	if (l->used >= ENTRIES_MAX)
		return -E2BIG;
	more.slot = calloc(more.slots, sizeof(*more.slot));
	if (!more.slot)
		return -ENOMEM;
	for (size_t i = 0; i < l->slots; i++)
		if (l->slot[i].requests)
			*slot_find(&more, &l->slot[i].key) = l->slot[i];
	free(l->slot);
	l->slot = more.slot;
	l->slots = more.slots;
	return 0;
}

void losses_forget(struct losses *l, const struct weir_client_key *key)
{
	size_t i, next;

	if (!l || !l->slots)
		return;
	i = (size_t)(slot_find(l, key) - l->slot);
	if (!l->slot[i].requests)
		return;
	l->used--;
	/* Closes the hole: what stands behind it moves up, unless it would come to stand before its home. */
	for (next = (i + 1) & (l->slots - 1); l->slot[next].requests; next = (next + 1) & (l->slots - 1)) {
		size_t home = key_hash(&l->slot[next].key) & (l->slots - 1);

		if (((next - home) & (l->slots - 1)) >= ((next - i) & (l->slots - 1))) {
			l->slot[i] = l->slot[next];
			i = next;
		}
	}
	l->slot[i].requests = 0;
}

static int client_report(struct losses *l, const struct weir_client_key *key, const struct weir_client *v,
			 void (*fn)(void *ctx, const struct loss *l), void *ctx)
{
	struct loss now = { *key,	v->lost,     v->lost_prompt_tokens, v->lost_completion_tokens,
			    v->lost_4xx, v->lost_5xx, v->lost_stream_errors, (uint64_t)MAX(v->open, 0) };
	struct loss delta = now, *old;
	int r;

	if (2 * (l->used + 1) > l->slots && (r = slots_grow(l)) < 0)
		return r;
	old = slot_find(l, key);
	delta.requests -= old->requests;
	if (!delta.requests)
		return 0; /* what else there is goes with the next */
	if (!old->requests)
		l->used++;
	delta.prompt_tokens -= old->prompt_tokens;
	delta.completion_tokens -= old->completion_tokens;
	delta.status_4xx -= old->status_4xx;
	delta.status_5xx -= old->status_5xx;
	delta.stream_errors -= old->stream_errors;
	*old = now;
	fn(ctx, &delta);
	return 0;
}

int capture_losses(struct capture *c, void (*fn)(void *ctx, const struct loss *l), void *ctx)
{
	struct weir_client_key *keys = malloc(CAPTURE_BATCH * sizeof(*keys));
	struct weir_client *values = malloc(CAPTURE_BATCH * sizeof(*values));
	struct capture_cursor cur = { 0 };
	int n = -ENOMEM, r = 0;

	if (!c->losses)
		c->losses = calloc(1, sizeof(*c->losses));
	if (keys && values && c->losses)
		while ((n = capture_clients(c, &cur, keys, values, CAPTURE_BATCH)) > 0)
			for (int i = 0; i < n; i++)
				if (values[i].lost) {
					int one = client_report(c->losses, &keys[i], &values[i], fn, ctx);

					r = one < 0 ? one : r;
				}
	free(keys);
	free(values);
	return n < 0 ? n : r;
}
