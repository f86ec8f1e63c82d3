/*
 * bench_tls.c - what the TLS hook adds to one SSL_write of one event of a stream: without probes, with a bare uprobe (a program
 * that does nothing), and with ours. The best of many short runs, in turn. Before it a burst: two hundred streams and one of 100,000
 * events, written by two threads as fast as they can, and how much of their usage was counted. usage: bench_tls (as root)
 */
#include "fake_tls.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <pthread.h>

#include "capture/capture.h"
#include "capture/tls_internal.h"
#include "decode/automaton.h"

#define CALLS 200
#define RUNS 40
#define BURST_STREAMS 200
#define BURST_EVENTS 2000
#define BURST_LONG 100000 /* events of one more stream */
#define BURST_THREADS 2

static char event[512];
static int object;

static void no_event(void *ctx, const void *data, size_t n)
{
	(void)ctx, (void)data, (void)n;
}

static void no_file(void *ctx, const struct tls_found *f)
{
	(void)ctx, (void)f;
}

/* One chunk that holds one event, 250 bytes in all. */
static size_t event_make(void)
{
	static const char head[] = "data: {\"id\":\"chatcmpl-0123456789abcdef0123456789abcdef\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,"
				   "\"model\":\"weir-tiny\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" weir\"},\"logprobs\":null,\"finish_reason\":null}]";
	size_t n = 242;

	snprintf(event, sizeof(event), "%zx\r\n%s%*s}\n\n\r\n", n, head, (int)(n - 3 - (sizeof(head) - 1)), "");
	return strlen(event);
}

static double run(size_t n)
{
	uint64_t began;

	usleep(20000); /* the kernel tidies up after a probe that was taken out */
	began = capture_now_ns();
	next = (struct script){ .sock = -1 };
	for (int i = 0; i < CALLS; i++)
		SSL_write(&object, event, (int)n);
	return (double)(capture_now_ns() - began) / CALLS;
}

static int nothing_load(void)
{
	const struct bpf_insn insns[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};

	return bpf_prog_load(BPF_PROG_TYPE_KPROBE, "weir_nothing", "GPL", insns, ARRAY_SIZE(insns), NULL);
}

static struct tls_step write_at;
static int find_write(void *ctx, const struct tls_seen *s)
{
	(void)ctx;
	for (size_t i = 0; i < TLS_FUNCTIONS; i++)
		if (!strcmp(tls_functions[i].symbol, "SSL_write"))
			write_at = (struct tls_step){ .offset = s->offset[i], .probe = WEIR_TLS_WRITE };
	return 0;
}

static void tell_nobody(void *ctx, const struct tls_seen *s, int error)
{
	(void)ctx, (void)s, (void)error;
}

static struct weir_automaton automaton;
static struct capture *capture;
static struct tls *tls;
static int own_file, listener;
static uint16_t port;

static int set_up(void)
{
	const struct capture_opts o = { .max_clients = 1000, .max_conns = 1000, .automaton = &automaton, .event = no_event };
	static struct tls_look look = { .probe = find_write, .tell = tell_nobody };
	const char *where = "";
	int r;

	r = automaton_build(&automaton);
	if (r == 0)
		r = capture_open(&o, &capture, &where);
	if (r == 0)
		r = tls_open(capture, no_file, NULL, &tls);
	if (r == 0)
		r = tls_scan_pid(tls, getpid());
	if (r >= 0)
		r = tls_look_pid(&look, getpid(), NULL);
	if (r < 0)
		return r;
	own_file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	listener = listen_on(&port);
	if (listener < 0 || own_file < 0 || !write_at.offset)
		return -EIO;
	capture_watch(capture, port, true);
	greets(pair_make(listener, port, 9), &object);
	return 0;
}

/* A stream begins; it stays open. */
static void stream_begin(void *ssl)
{
	static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

	next = (struct script){ .sock = -1 };
	SSL_write(ssl, head, sizeof(head) - 1);
}

static void stream_end(void *ssl, unsigned tokens)
{
	char usage[128], chunk[160];

	snprintf(usage, sizeof(usage), "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":%u}}\n\n", tokens);
	snprintf(chunk, sizeof(chunk), "%zx\r\n%s\r\n0\r\n\r\n", strlen(usage), usage);
	SSL_write(ssl, chunk, (int)strlen(chunk));
}

/* ---- the burst ----------------------------------------------------------------------------------------- */
static int streams[BURST_STREAMS + 1];

static unsigned events_of(unsigned stream)
{
	return stream == BURST_STREAMS ? BURST_LONG : BURST_EVENTS;
}

/* Every second stream, an event of each in turn. */
static void *burst_thread(void *ctx)
{
	unsigned first = *(unsigned *)ctx, n = (unsigned)strlen(event);

	for (unsigned i = 0; i < BURST_LONG; i++)
		for (unsigned s = first; s <= BURST_STREAMS; s += BURST_THREADS)
			if (i < events_of(s))
				SSL_write(&streams[s], event, (int)n);
	return NULL;
}

static uint64_t tokens_counted(void)
{
	static struct weir_client_key keys[CAPTURE_BATCH];
	static struct weir_client values[CAPTURE_BATCH];
	struct capture_cursor cur = { 0 };
	uint64_t sum = 0;
	int n;

	while ((n = capture_clients(capture, &cur, keys, values, CAPTURE_BATCH)) > 0)
		for (int i = 0; i < n; i++)
			sum += values[i].completion_tokens;
	return sum;
}

static int burst(void)
{
	uint64_t before[WEIR_STAT_COUNT], after[WEIR_STAT_COUNT], counted = tokens_counted(), truth = 0, lost = 0;
	unsigned first[BURST_THREADS];
	pthread_t thread[BURST_THREADS];
	double s;

	for (unsigned i = 0; i <= BURST_STREAMS; i++) {
		greets(pair_make(listener, port, 10), &streams[i]);
		stream_begin(&streams[i]);
		truth += events_of(i);
	}
	if (capture_stats(capture, before) < 0)
		return 1;
	s = (double)capture_now_ns();
	for (unsigned i = 0; i < BURST_THREADS; i++) {
		first[i] = i;
		if (pthread_create(&thread[i], NULL, burst_thread, &first[i]))
			return 1;
	}
	for (unsigned i = 0; i < BURST_THREADS; i++)
		pthread_join(thread[i], NULL);
	s = ((double)capture_now_ns() - s) / 1e9;
	for (unsigned i = 0; i <= BURST_STREAMS; i++)
		stream_end(&streams[i], events_of(i));
	if (capture_stats(capture, after) < 0)
		return 1;
	counted = tokens_counted() - counted;
	for (enum weir_stat i = WEIR_STAT_TLS_UNPAIRED; i <= WEIR_STAT_TLS_FULL; i++)
		lost += after[i] - before[i];
	printf("a burst of %llu writes on %d connections, one of them of %d events: %.1f s, %.0f writes/s; usage of %llu tokens of %llu counted (%.3f %%), calls metered %llu, told as lost %llu\n",
	       (unsigned long long)truth, BURST_STREAMS + 1, BURST_LONG, s, (double)truth / s, (unsigned long long)counted, (unsigned long long)truth,
	       100.0 * (double)counted / (double)truth, (unsigned long long)(after[WEIR_STAT_TLS_CALLS] - before[WEIR_STAT_TLS_CALLS]), (unsigned long long)lost);
	return counted == truth || lost ? 0 : 1;
}

int main(void)
{
	double none = 1e18, bare = 1e18, ours = 1e18;
	size_t n = event_make();
	uint64_t stats[WEIR_STAT_COUNT];
	int nothing, kept, r = geteuid() ? -EPERM : set_up();

	if (r < 0) {
		fprintf(stderr, "bench_tls: %s\n", strerror(-r));
		return 1;
	}
	if (burst()) {
		fprintf(stderr, "bench_tls: usage is missing that nothing tells of\n");
		return 1;
	}
	nothing = nothing_load();
	kept = tls->call_fd;
	stream_begin(&object);
	for (int i = 0; i < RUNS; i++) {
		ours = MIN(ours, run(n));
		/* the hook's own probes out, a bare one in */
		for (size_t f = 0; f < tls->file_count; f++)
			tls_file_drop(tls->files[f]);
		none = MIN(none, run(n));
		tls->call_fd = nothing;
		r = tls_probe_set(tls, own_file, write_at.offset, false, 0);
		bare = MIN(bare, run(n));
		closep(&r);
		tls->call_fd = kept;
		r = tls_probe_set(tls, own_file, write_at.offset, false, tls_cookie(tls->files[0], WEIR_TLS_WRITE));
		if (r < 0 || capture_stats(capture, stats) < 0)
			return 1;
		tls->files[0]->link[tls->files[0]->links++] = r;
	}
	if (stats[WEIR_STAT_TLS_CALLS] < (uint64_t)RUNS * CALLS || stats[WEIR_STAT_TLS_UNPAIRED]) {
		fprintf(stderr, "bench_tls: the calls were not metered\n");
		return 1;
	}
	printf("SSL_write of one event (%zu bytes), ns per call: without a probe %.0f, a bare uprobe %.0f, weir's %.0f: %.0f above the bare one\n", n, none,
	       bare, ours, ours - bare);
	tls_free(tls);
	capture_free(capture);
	return 0;
}
