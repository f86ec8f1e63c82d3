#include "detect/recent.h"

#include <sys/mman.h>

/* Mapped, so that an idle agent does not pay for what it does not fill. */
int recent_init(struct recent *r)
{
	void *p = mmap(NULL, RECENT_MAX * sizeof(struct moment), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return -ENOMEM;
	*r = (struct recent){ .ring = p, .next = 1 };
	return 0;
}

void recent_done(struct recent *r)
{
	if (r->ring)
		munmap(r->ring, RECENT_MAX * sizeof(struct moment));
	r->ring = NULL;
}
