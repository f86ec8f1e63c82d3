/* tls_cost.c - what a probe costs the program that runs into it, measured on ourselves. */
#include "capture/tls_internal.h"

#include <fcntl.h>

#define CALLS 50   /* of one run; a trap takes 1 to 15 us */
#define RUNS 20    /* the best counts: others want this CPU, too */

#ifdef __clang__
#define WHOLE __attribute__((noinline))
#else
#define WHOLE __attribute__((noipa))
#endif

/* Begins as most functions do. */
static WHOLE int probed(int n)
{
	__asm__ volatile("" ::: "memory");
	return n;
}

static double calls_us(void)
{
	uint64_t best = UINT64_MAX;

	for (int run = 0; run < RUNS; run++) {
		uint64_t began = capture_now_ns();

		for (int i = 0; i < CALLS; i++)
			probed(i);
		best = MIN(best, capture_now_ns() - began);
	}
	return (double)best / 1000 / CALLS;
}

/* Where that function lies in our own file. */
static uint64_t own_offset(void)
{
	CLEANUP(fclosep) FILE *f = fopen("/proc/self/maps", "re");
	uint64_t address = (uint64_t)(uintptr_t)probed;
	char line[4096 + 256];

	while (f && fgets(line, sizeof(line), f)) {
		struct tls_mapping m;

		if (tls_parse_mapping((struct span){ line, strcspn(line, "\n") }, &m) == 1 && address >= m.start && address < m.end)
			return address - m.start + m.offset;
	}
	return 0;
}

int tls_cost(struct tls *t, double *ret_us)
{
	CLEANUP(closep) int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), link = -1;
	const struct tls_file none = { 0 };
	uint64_t offset = own_offset();
	double without, with;
	int r = tls_load(t);

	if (r < 0)
		return r;
	if (file < 0 || !offset)
		return -ENOENT;
	without = calls_us();
	link = tls_probe_set(t, file, offset, false, tls_cookie(&none, WEIR_TLS_FREE));
	if (link < 0)
		return link;
	with = calls_us();
	*ret_us = MAX(with - without, 0);
	return 0;
}
