/*
 * tls_cycles.c - sets the TLS probes on a running server and takes them out again, over and over.
 *
 * usage: tls_cycles PID PORT TIMES. Prints `program ID`, so that its end can be looked for, then `TIMES cycles, N probes each, M calls
 * metered, F descriptors`; ends with 1 where a cycle set no probe, or left a descriptor behind.
 */
#include "capture/capture.h"
#include "capture/tls_internal.h"
#include "decode/automaton.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <linux/bpf.h>

static void no_event(void *ctx, const void *data, size_t n)
{
	(void)ctx, (void)data, (void)n;
}

static void no_file(void *ctx, const struct tls_found *f)
{
	(void)ctx, (void)f;
}

static unsigned program_id(int fd)
{
	struct bpf_prog_info info = { 0 };
	__u32 size = sizeof(info);

	return bpf_obj_get_info_by_fd(fd, &info, &size) < 0 ? 0 : info.id;
}

static int fds(void)
{
	int n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* All probes out; the files are to be found anew. */
static void drop(struct tls *t)
{
	for (size_t i = 0; i < t->file_count; i++) {
		tls_file_drop(t->files[i]);
		free(t->files[i]);
	}
	t->file_count = 0;
	t->look->count = 0;
}

static int cycles(struct capture *c, struct tls *t, int pid, long times)
{
	int before = fds();
	uint64_t stats[WEIR_STAT_COUNT];
	size_t probes = 0;

	for (long i = 0; i < times; i++) {
		int r = tls_scan_pid(t, pid);

		if (r <= 0) {
			fprintf(stderr, "cycle %ld: %s\n", i, r < 0 ? strerror(-r) : "no probe was set");
			return 1;
		}
		probes = t->files[t->file_count - 1]->links;
		usleep((useconds_t)(i % 7) * 1000); /* also while calls are on their way */
		drop(t);
		capture_drain(c);
		if (fds() != before) {
			fprintf(stderr, "cycle %ld: %d descriptors, before it %d\n", i, fds(), before);
			return 1;
		}
	}
	if (capture_stats(c, stats) < 0)
		return 1;
	printf("%ld cycles, %zu probes each, %llu calls metered, %d descriptors\n", times, probes, (unsigned long long)stats[WEIR_STAT_TLS_CALLS], before);
	return 0;
}

int main(int argc, char **argv)
{
	CLEANUP(freep) struct weir_automaton *a = malloc(sizeof(*a));
	struct capture_opts o = { .max_clients = 1000, .max_conns = 10000, .automaton = a, .event = no_event };
	struct capture *c = NULL;
	struct tls *t = NULL;
	const char *where = "";
	int r;

	if (argc != 4 || !a) {
		fprintf(stderr, "usage: tls_cycles PID PORT TIMES\n");
		return 2;
	}
	r = automaton_build(a);
	if (r == 0)
		r = capture_open(&o, &c, &where);
	if (r == 0)
		r = tls_open(c, no_file, NULL, &t);
	if (r == 0)
		r = tls_load(t);
	if (r < 0) {
		fprintf(stderr, "%s: %s\n", where, strerror(-r));
		return 1;
	}
	capture_watch(c, (uint16_t)atoi(argv[2]), true);
	printf("program %u\n", program_id(t->call_fd));
	r = cycles(c, t, atoi(argv[1]), atol(argv[3]));
	tls_free(t);
	capture_free(c);
	return r;
}
