/*
 * weir-loadgen - sends an exact number of HTTP requests from many addresses and measures latency.
 *
 * For what wrk cannot do: a count that is exact (nothing in flight at the end), thousands of source
 * addresses, and an open-loop rate (a late answer does not delay the next request, so that p99 is what
 * a user would see). One thread, epoll. Understands content-length and chunked answers; the tokens of
 * the answers are not its business (tests/e2e/driver.py reads those).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CONNS_MAX 65536
#define REQUEST_MAX 70000
#define BUCKETS 4096      /* latency: 64 per power of two, from 1 us */
#define TIMEOUT_S 30      /* without any answer: give up */

static struct {
	struct sockaddr_in to;
	uint32_t src, src_n;
	int conns;
	uint64_t requests;
	double rate, duration;
	bool close_each;
	char request[REQUEST_MAX];
	size_t request_n;
} cfg = { .conns = 16, .requests = 1000, .src_n = 1 };

enum state { ST_DOWN, ST_IDLE, ST_HEAD, ST_LENGTH, ST_CHUNK_SIZE, ST_CHUNK, ST_TRAILER };

struct conn {
	int fd;
	enum state state;
	uint64_t sent_ns, left;
	size_t in_n;
	char in[2048]; /* a head or a line that is not whole */
	bool last;   /* the server will close */
};

static struct conn *conns;
static int *idle;
static int idle_n, epoll;
static uint64_t begun, done, failed, status_count[6], histogram[BUCKETS];
static uint32_t src_next;

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static size_t bucket_of(uint64_t us)
{
	unsigned top = us < 64 ? 0 : 63u - (unsigned)__builtin_clzll(us) - 5;
	size_t b = us < 64 ? us : (size_t)top * 64 + (us >> (top - 1) & 63);

	return b < BUCKETS ? b : BUCKETS - 1;
}

static double bucket_us(size_t b)
{
	return b < 64 ? (double)b : (double)((64 + b % 64) << (b / 64 - 1));
}

static double quantile(double q)
{
	uint64_t at = 0, want = (uint64_t)((double)done * q);

	for (size_t b = 0; b < BUCKETS; b++)
		if ((at += histogram[b]) > want)
			return bucket_us(b);
	return 0;
}

static bool conn_open(struct conn *c)
{
	struct sockaddr_in from = { .sin_family = AF_INET };
	struct epoll_event ev = { .events = EPOLLIN | EPOLLRDHUP, .data.ptr = c };
	int one = 1;

	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		return false;
	if (cfg.src) {
		from.sin_addr.s_addr = htonl(cfg.src + src_next++ % cfg.src_n);
		setsockopt(c->fd, IPPROTO_IP, 24 /* IP_BIND_ADDRESS_NO_PORT */, &one, sizeof(one));
		if (bind(c->fd, (struct sockaddr *)&from, sizeof(from)) < 0)
			return false;
	}
	if (connect(c->fd, (struct sockaddr *)&cfg.to, sizeof(cfg.to)) < 0)
		return false;
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	c->state = ST_IDLE;
	c->in_n = 0;
	c->last = false;
	return epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &ev) == 0;
}

static void conn_down(struct conn *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	c->state = ST_DOWN;
}

static void conn_idle(struct conn *c)
{
	idle[idle_n++] = (int)(c - conns);
}

static void conn_finish(struct conn *c)
{
	done++;
	histogram[bucket_of((now_ns() - c->sent_ns) / 1000)]++;
	if (c->last || cfg.close_each)
		conn_down(c);
	else
		c->state = ST_IDLE;
	conn_idle(c);
}

static void conn_fail(struct conn *c)
{
	failed++;
	done++;
	conn_down(c);
	conn_idle(c);
}

/* The request is small against a socket buffer: sent in one blocking write. */
static void conn_send(struct conn *c, uint64_t due)
{
	ssize_t n;

	begun++;
	if (c->state == ST_DOWN && !conn_open(c)) {
		conn_fail(c);
		return;
	}
	c->sent_ns = due;
	c->state = ST_HEAD;
	c->in_n = 0;
	n = send(c->fd, cfg.request, cfg.request_n, MSG_NOSIGNAL);
	if (n != (ssize_t)cfg.request_n)
		conn_fail(c);
}

static bool head_read(struct conn *c, char *head, char *end)
{
	int status;

	if (sscanf(head, "HTTP/1.%*d %d", &status) != 1 || status < 100 || status > 599)
		return false;
	status_count[status / 100]++;
	c->state = ST_LENGTH;
	c->left = 0;
	for (char *line = strstr(head, "\r\n") + 2; line < end; line = strstr(line, "\r\n") + 2) {
		if (!strncasecmp(line, "content-length:", 15))
			c->left = strtoull(line + 15, NULL, 10);
		else if (!strncasecmp(line, "transfer-encoding: chunked", 26))
			c->state = ST_CHUNK_SIZE;
		else if (!strncasecmp(line, "connection: close", 17))
			c->last = true;
	}
	return true;
}

/* One line (or, in ST_HEAD, one head) out of c->in and the new bytes; the bytes used, 0 when it is not whole yet. */
static size_t gather(struct conn *c, const char *p, size_t n, const char *until)
{
	size_t had = c->in_n, k = n < sizeof(c->in) - 1 - had ? n : sizeof(c->in) - 1 - had;
	char *end;

	memcpy(c->in + had, p, k);
	c->in[had + k] = 0;
	end = strstr(c->in, until);
	if (!end) {
		c->in_n = had + k;
		return 0;
	}
	end += strlen(until);
	*end = 0;
	c->in_n = 0;
	return (size_t)(end - c->in) - had;
}

static bool conn_input(struct conn *c, const char *p, size_t n)
{
	while (n) {
		size_t used;

		switch (c->state) {
		case ST_HEAD:
			used = gather(c, p, n, "\r\n\r\n");
			if (!used)
				return c->in_n < sizeof(c->in) - 1;
			if (!head_read(c, c->in, c->in + strlen(c->in) - 2))
				return false;
			break;
		case ST_LENGTH:
		case ST_CHUNK:
			used = n < c->left ? n : (size_t)c->left;
			c->left -= used;
			if (c->state == ST_CHUNK && !c->left)
				c->state = ST_CHUNK_SIZE;
			break;
		case ST_CHUNK_SIZE:
			used = gather(c, p, n, "\r\n");
			if (!used)
				return c->in_n < sizeof(c->in) - 1;
			c->left = strtoull(c->in, NULL, 16);
			c->state = c->left ? ST_CHUNK : ST_TRAILER;
			c->left += 2;
			break;
		case ST_TRAILER:
			used = gather(c, p, n, "\r\n");
			if (!used)
				return c->in_n < sizeof(c->in) - 1;
			if (strcmp(c->in, "\r\n") != 0)
				break;
			conn_finish(c);
			return true;
		default:
			return false;
		}
		p += used;
		n -= used;
		if (c->state == ST_LENGTH && !c->left) {
			conn_finish(c);
			return true;
		}
	}
	return true;
}

static void conn_event(struct conn *c)
{
	static char buf[262144];
	ssize_t n;

	if (c->state == ST_DOWN)
		return;
	n = recv(c->fd, buf, sizeof(buf), MSG_DONTWAIT);
	if (n < 0 && errno == EAGAIN)
		return;
	if (c->state == ST_IDLE && n <= 0)
		conn_down(c); /* closed while idle: opened again when its turn comes */
	else if (n <= 0 || !conn_input(c, buf, (size_t)n))
		conn_fail(c);
}

static int run(void)
{
	struct epoll_event ev[256];
	uint64_t start = now_ns(), due = start, progress = start, seen = 0;

	for (;;) {
		uint64_t now = now_ns();
		bool over = begun >= cfg.requests || (cfg.duration > 0 && (double)(now - start) > cfg.duration * 1e9);
		int wait = -1, n;

		if (over && done == begun)
			break;
		while (!over && idle_n && begun < cfg.requests && (cfg.rate <= 0 || due <= now)) {
			conn_send(&conns[idle[--idle_n]], cfg.rate > 0 ? due : now_ns());
			due += cfg.rate > 0 ? (uint64_t)(1e9 / cfg.rate) : 0;
		}
		if (done != seen) {
			seen = done;
			progress = now;
		} else if (now - progress > TIMEOUT_S * UINT64_C(1000000000)) {
			fprintf(stderr, "weir-loadgen: no answer for %d s, %llu requests open\n", TIMEOUT_S, (unsigned long long)(begun - done));
			return 1;
		}
		if (!over && cfg.rate > 0 && idle_n) {
			struct timespec t = { 0, (long)(due > now ? (due - now < 1000000 ? due - now : 1000000) : 0) };

			n = epoll_pwait2(epoll, ev, 256, &t, NULL);
		} else {
			wait = 1000;
			n = epoll_wait(epoll, ev, 256, wait);
		}
		for (int i = 0; i < n; i++)
			conn_event(ev[i].data.ptr);
	}
	printf("{\"requests\":%llu,\"status_2xx\":%llu,\"status_4xx\":%llu,\"status_5xx\":%llu,\"failed\":%llu,\"elapsed_s\":%.3f,"
	       "\"requests_per_s\":%.1f,\"p50_us\":%.0f,\"p99_us\":%.0f,\"p999_us\":%.0f}\n",
	       (unsigned long long)done, (unsigned long long)status_count[2], (unsigned long long)status_count[4],
	       (unsigned long long)status_count[5], (unsigned long long)failed, (double)(now_ns() - start) / 1e9,
	       (double)done * 1e9 / (double)(now_ns() - start), quantile(0.5), quantile(0.99), quantile(0.999));
	return failed ? 1 : 0;
}

static void usage(FILE *f)
{
	fputs("usage: weir-loadgen [options] ADDRESS:PORT     (IPv4)\n"
	      "  --requests N     how many, exactly (1000; with --duration: at most)\n"
	      "  --duration S     begin none after this\n"
	      "  --connections N  (16)\n"
	      "  --rate R         requests/s, open loop (0: as fast as the answers come)\n"
	      "  --src ADDRESS --src-count N   connections come from these addresses in turn\n"
	      "  --close          a new connection for every request\n"
	      "  --path PATH      (/v1/completions) --body JSON (none: GET)\n",
	      f);
}

enum { OPT_REQUESTS = 1, OPT_DURATION, OPT_CONNS, OPT_RATE, OPT_SRC, OPT_SRC_N, OPT_CLOSE, OPT_PATH, OPT_BODY, OPT_HELP };

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "requests", 1, NULL, OPT_REQUESTS }, { "duration", 1, NULL, OPT_DURATION }, { "connections", 1, NULL, OPT_CONNS },
		{ "rate", 1, NULL, OPT_RATE },         { "src", 1, NULL, OPT_SRC },           { "src-count", 1, NULL, OPT_SRC_N },
		{ "close", 0, NULL, OPT_CLOSE },       { "path", 1, NULL, OPT_PATH },         { "body", 1, NULL, OPT_BODY },
		{ "help", 0, NULL, OPT_HELP },         { 0 },
	};
	const char *path = "/v1/completions", *body = NULL;
	struct rlimit files;
	char *colon;
	int o, r;

	while ((o = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (o) {
		case OPT_REQUESTS: cfg.requests = strtoull(optarg, NULL, 10); break;
		case OPT_DURATION:
			cfg.duration = atof(optarg);
			cfg.requests = cfg.requests == 1000 ? UINT64_MAX : cfg.requests;
			break;
		case OPT_CONNS: cfg.conns = atoi(optarg); break;
		case OPT_RATE: cfg.rate = atof(optarg); break;
		case OPT_SRC: cfg.src = ntohl(inet_addr(optarg)); break;
		case OPT_SRC_N: cfg.src_n = (uint32_t)strtoul(optarg, NULL, 10); break;
		case OPT_CLOSE: cfg.close_each = true; break;
		case OPT_PATH: path = optarg; break;
		case OPT_BODY: body = optarg; break;
		case OPT_HELP: usage(stdout); return 0;
		default: usage(stderr); return 2;
		}
	}
	colon = optind < argc ? strrchr(argv[optind], ':') : NULL;
	if (!colon || cfg.conns < 1 || cfg.conns > CONNS_MAX || !cfg.src_n) {
		usage(stderr);
		return 2;
	}
	*colon = 0;
	cfg.to = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(colon + 1)) };
	if (inet_pton(AF_INET, argv[optind], &cfg.to.sin_addr) != 1) {
		usage(stderr);
		return 2;
	}
	r = body ? snprintf(cfg.request, sizeof(cfg.request),
			    "POST %s HTTP/1.1\r\nhost: weir.test\r\nuser-agent: weir-loadgen\r\ncontent-type: application/json\r\n"
			    "%scontent-length: %zu\r\n\r\n%s",
			    path, cfg.close_each ? "connection: close\r\n" : "", strlen(body), body)
		 : snprintf(cfg.request, sizeof(cfg.request), "GET %s HTTP/1.1\r\nhost: weir.test\r\nuser-agent: weir-loadgen\r\n%s\r\n",
			    path, cfg.close_each ? "connection: close\r\n" : "");
	if (r < 0 || (size_t)r >= sizeof(cfg.request)) {
		fprintf(stderr, "weir-loadgen: the request is larger than %d bytes\n", REQUEST_MAX);
		return 2;
	}
	cfg.request_n = (size_t)r;
	if (!getrlimit(RLIMIT_NOFILE, &files)) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	epoll = epoll_create1(EPOLL_CLOEXEC);
	conns = calloc((size_t)cfg.conns, sizeof(*conns));
	idle = calloc((size_t)cfg.conns, sizeof(*idle));
	if (epoll < 0 || !conns || !idle) {
		fputs("weir-loadgen: out of memory\n", stderr);
		return 1;
	}
	for (int i = cfg.conns - 1; i >= 0; i--) {
		conns[i].fd = -1;
		conn_idle(&conns[i]);
	}
	r = run();
	for (int i = 0; i < cfg.conns; i++)
		conn_down(&conns[i]);
	free(conns);
	free(idle);
	return r;
}
