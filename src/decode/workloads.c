#include "decode/workloads.h"

#include <ctype.h>

#define SLOTS (2 * WORKLOADS_MAX) /* open addressing, at most half full; slots are never freed, only emptied of their name */

struct slot {
	uint32_t netns;
	uint16_t port; /* 0: free */
	const char *name;
};

struct workloads {
	struct slot slot[SLOTS];
	size_t used;
	char *name[WORKLOADS_MAX];
	size_t names;
};

struct workloads *workloads_new(void)
{
	return calloc(1, sizeof(struct workloads));
}

struct workloads *workloads_free(struct workloads *w)
{
	for (size_t i = 0; w && i < w->names; i++)
		free(w->name[i]);
	free(w);
	return NULL;
}

static size_t slot_find(const struct workloads *w, uint32_t netns, uint16_t port)
{
	size_t i = (netns * 2654435761u ^ port * 40503u) % SLOTS;

	while (w->slot[i].port && (w->slot[i].port != port || w->slot[i].netns != netns))
		i = (i + 1) % SLOTS;
	return i;
}

/* Each different name once. A label is split at blanks, and '=' tells this word from the software's. */
static const char *name_keep(struct workloads *w, struct span name)
{
	char text[WORKLOAD_NAME_MAX];
	size_t n = MIN(name.n, sizeof(text) - 1);

	for (size_t i = 0; i < n; i++)
		text[i] = isgraph((unsigned char)name.p[i]) ? name.p[i] : '?';
	text[n] = '\0';
	if (!n || !memchr(text, '=', n))
		return NULL;
	for (size_t i = 0; i < w->names; i++)
		if (!strcmp(w->name[i], text))
			return w->name[i];
	if (w->names == WORKLOADS_MAX || !(w->name[w->names] = strdup(text)))
		return NULL;
	return w->name[w->names++];
}

void workloads_set(struct workloads *w, uint32_t netns, uint16_t port, struct span name)
{
	size_t i;

	if (!port)
		return;
	i = slot_find(w, netns, port);
	if (!w->slot[i].port) {
		if (w->used == WORKLOADS_MAX)
			return;
		w->used++;
		w->slot[i] = (struct slot){ .netns = netns, .port = port };
	}
	w->slot[i].name = name_keep(w, name);
}

const char *workloads_of(const struct workloads *w, uint32_t netns, uint16_t port)
{
	return port ? w->slot[slot_find(w, netns, port)].name : NULL;
}
