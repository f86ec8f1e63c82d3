/*
 * bench_meter - ns per packet of the meter by kind of packet, from bpf_stats (run_time / run_cnt) over test runs.
 *
 * Reports; judges nothing. Needs root. `make bench` runs it.
 */
#include "harness.h"

#include <linux/bpf.h>
#include <stdarg.h>

#define RUNS 20000

static int quiet(enum libbpf_print_level level, const char *fmt, va_list ap)
{
	return level == LIBBPF_WARN ? vfprintf(stderr, fmt, ap) : 0;
}

/* What the verifier had to look at, and how long the machine code is. */
static void verified(const char *variant, const char *what, int fd)
{
	struct bpf_prog_info info = { 0 };
	uint32_t len = sizeof(info);

	bpf_obj_get_info_by_fd(fd, &info, &len);
	printf("%-6s %-44s %8u instructions, %u bytes\n", variant, what, info.verified_insns, info.jited_prog_len);
}

struct cost {
	uint64_t ns, runs;
};

static struct cost cost_of(int fd)
{
	struct bpf_prog_info info = { 0 };
	uint32_t len = sizeof(info);

	bpf_obj_get_info_by_fd(fd, &info, &len);
	return (struct cost){ info.run_time_ns, info.run_cnt };
}

static const char request[] = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

/* An event of `text` letters of generated text, in one chunk. */
static size_t event(char *b, size_t cap, size_t text)
{
	char body[2800], letters[2600];

	memset(letters, 'x', text);
	letters[text] = '\0';
	int n = snprintf(body, sizeof(body),
			 "data: {\"id\":\"chatcmpl-0123456789abcdef0123456789abcdef\",\"object\":\"chat.completion.chunk\",\"created\":1795248370,\"model\":\"m\","
			 "\"choices\":[{\"index\":0,\"delta\":{\"content\":\"%s\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n",
			 letters);

	return (size_t)snprintf(b, cap, "%x\r\n%s\r\n", (unsigned)n, body);
}

static void report(const char *variant, const char *what, size_t bytes, struct cost a, struct cost b)
{
	double ns = (double)(b.ns - a.ns) / (double)(b.runs - a.runs);

	printf("%-6s %-44s %8.0f ns", variant, what, ns);
	if (bytes)
		printf("  %5.2f ns/byte", ns / (double)bytes);
	printf("\n");
}

static void stream(struct meter *m, const char *variant, const char *what, size_t text, size_t per_packet)
{
	char b[3400];
	struct flow f = flow_make(0x0a000002, 1000);
	size_t n = 0;
	struct cost before;

	packets(m, &f, WEIR_REQUEST, request, strlen(request), 0);
	packets(m, &f, WEIR_RESPONSE, head, strlen(head), 0);
	for (size_t i = 0; i < per_packet; i++)
		n += event(b + n, sizeof(b) - n, text);
	for (int i = 0; i < 1000; i++)
		packets(m, &f, WEIR_RESPONSE, b, n, 0);
	before = cost_of(m->out);
	for (int i = 0; i < RUNS; i++)
		packets(m, &f, WEIR_RESPONSE, b, n, 0);
	report(variant, what, n, before, cost_of(m->out));
	flow_rst(m, &f, WEIR_REQUEST);
}

static void simple(struct meter *m, const char *variant)
{
	struct flow f = flow_make(0x0a000003, 1001);
	struct cost before;
	static char raw[3000];

	packets(m, &f, WEIR_REQUEST, request, strlen(request), 0);
	packets(m, &f, WEIR_RESPONSE, head, strlen(head), 0);
	before = cost_of(m->out);
	for (int i = 0; i < RUNS; i++)
		packet_at(m, &f, WEIR_RESPONSE, f.sseq, NULL, 0, TCP_ACK);
	report(variant, "watched, no payload", 0, before, cost_of(m->out));
	flow_rst(m, &f, WEIR_REQUEST);

	m->control->ports[0] = 0;
	before = cost_of(m->out);
	for (int i = 0; i < RUNS; i++)
		packet_at(m, &f, WEIR_RESPONSE, f.sseq, raw, 1000, TCP_ACK);
	report(variant, "not watched", 0, before, cost_of(m->out));
	m->control->ports[0] = 1;

	/* the walk alone: one long string in a JSON body, no action in it */
	f = flow_make(0x0a000004, 1002);
	packets(m, &f, WEIR_REQUEST, request, strlen(request), 0);
	packets(m, &f, WEIR_RESPONSE, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 999999999\r\n\r\n{\"x\":\"", 88, 0);
	memset(raw, 'a', sizeof(raw));
	for (int i = 0; i < 1000; i++)
		packets(m, &f, WEIR_RESPONSE, raw, sizeof(raw), 0);
	before = cost_of(m->out);
	for (int i = 0; i < RUNS; i++)
		packets(m, &f, WEIR_RESPONSE, raw, sizeof(raw), 0);
	report(variant, "walk (3000 bytes of one JSON string)", sizeof(raw), before, cost_of(m->out));
	flow_rst(m, &f, WEIR_REQUEST);

	/* a whole short exchange on a kept-alive connection */
	f = flow_make(0x0a000005, 1003);
	for (int i = 0; i < RUNS; i++) {
		static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 62\r\n\r\n"
					     "{\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":1}}";

		if (i == 1000)
			before = cost_of(m->in);
		packets(m, &f, WEIR_REQUEST, request, strlen(request), 0);
		packets(m, &f, WEIR_RESPONSE, answer, strlen(answer) - 1, 0);
		drain(m);
	}
	report(variant, "request of 100 bytes, its slice sent up", strlen(request), before, cost_of(m->in));
	flow_rst(m, &f, WEIR_REQUEST);
}

int main(void)
{
	libbpf_set_print(quiet);
	for (int fast = 0; fast < 2; fast++) {
		struct meter_opts o = { .fast = fast };
		struct meter *m = meter_open(&o);
		const char *variant = fast ? "fast" : "loop";
		int stats;

		if (!m) {
			printf("%-6s not accepted by this kernel\n", variant);
			continue;
		}
		verified(variant, "on_ingress, verified", m->in);
		verified(variant, "on_egress, verified", m->out);
		stats = bpf_enable_stats(BPF_STATS_RUN_TIME);
		simple(m, variant);
		stream(m, variant, "stream, 250-byte segment, one event", 20, 1);
		stream(m, variant, "stream, 10 events in a segment", 20, 10);
		stream(m, variant, "stream, one event with 2,000 letters", 2000, 1);
		if (stats >= 0)
			close(stats);
		meter_close(m);
	}
	return 0;
}
