#include "cmd/agent_told.h"

#define SLOTS (2 * TOLD_CLIENTS_MAX)

/* By hash alone: two clients that share one would share a count, which the ends of both keep right. n == 0: free. */
struct told {
	struct {
		uint64_t hash;
		uint64_t n;
	} *slot;
	size_t slots, used;
};

struct told *told_new(void)
{
	return calloc(1, sizeof(struct told));
}

struct told *told_free(struct told *t)
{
	if (t)
		free(t->slot);
	free(t);
	return NULL;
}

static uint64_t hash_more(uint64_t h, struct span s)
{
	for (size_t i = 0; i < s.n; i++)
		h = (h ^ (uint8_t)s.p[i]) * 0x100000001b3u;
	return (h ^ 0xff) * 0x100000001b3u;
}

static uint64_t hash_of(struct span server, struct span client)
{
	uint64_t h = hash_more(hash_more(0xcbf29ce484222325u, server), client);

	return h ^ h >> 32;
}

static size_t find(const struct told *t, uint64_t hash)
{
	size_t i = hash & (t->slots - 1);

	while (t->slot[i].n && t->slot[i].hash != hash)
		i = (i + 1) & (t->slots - 1);
	return i;
}

static bool grow(struct told *t)
{
	struct told more = { .slots = t->slots ? 2 * t->slots : 64, .used = t->used };

	if (more.slots > SLOTS)
		return false;
	more.slot = calloc(more.slots, sizeof(*more.slot));
	if (!more.slot)
		return false;
	for (size_t i = 0; i < t->slots; i++)
		if (t->slot[i].n)
			more.slot[find(&more, t->slot[i].hash)] = t->slot[i];
	free(t->slot);
	*t = more;
	return true;
}

/* Frees a slot whose count came down to nothing; what stands behind it moves up, unless it would come before its home. */
static void slot_free(struct told *t, size_t i)
{
	size_t mask = t->slots - 1;

	t->used--;
	for (size_t next = (i + 1) & mask; t->slot[next].n; next = (next + 1) & mask) {
		size_t home = t->slot[next].hash & mask;

		if (((next - home) & mask) >= ((next - i) & mask)) {
			t->slot[i] = t->slot[next];
			i = next;
		}
	}
	t->slot[i].n = 0;
}

void told_add(struct told *t, struct span server, struct span client)
{
	uint64_t hash = hash_of(server, client);
	size_t i;

	if (2 * (t->used + 1) > t->slots && !grow(t))
		return;
	i = find(t, hash);
	if (!t->slot[i].n) {
		t->slot[i].hash = hash;
		t->used++;
	}
	t->slot[i].n++;
}

void told_remove(struct told *t, struct span server, struct span client)
{
	size_t i;

	if (!t->slots)
		return;
	i = find(t, hash_of(server, client));
	if (t->slot[i].n && !--t->slot[i].n)
		slot_free(t, i);
}

uint64_t told_take(struct told *t, struct span server, struct span client, uint64_t lost, uint64_t open)
{
	uint64_t n;
	size_t i;

	if (!t->slots)
		return 0;
	i = find(t, hash_of(server, client));
	n = t->slot[i].n > open ? MIN(t->slot[i].n - open, lost) : 0;
	if (!n)
		return 0;
	t->slot[i].n -= n;
	if (!t->slot[i].n)
		slot_free(t, i);
	return n;
}
