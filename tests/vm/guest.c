/*
 * guest.c - traffic and comparison inside a guest kernel, where there is neither Python nor curl.
 *
 *     guest load PORT ROUNDS             requests of many kinds from 21 addresses, each answer read to its end
 *     guest get PORT PATH                prints a body
 *     guest exact VARIANT PORT ROUNDS    the meter (capture.h) by itself: attach that variant, load, compare with /truth
 *     guest compare TRUTH CLIENTS        the server's /truth against the lines of `weir clients --json`
 *
 * 127.0.0.1 is the observer: its own requests are in neither side of a comparison. Exit status: 0 equal, 1 not equal
 * (differences on stdout), 2 something else failed.
 */
#include <arpa/inet.h>
#include <jansson.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#include "capture/capture.h"
#include "decode/automaton.h"

#define CLIENTS 20 /* 127.0.0.10 and on; one more is ::1 */
#define OBSERVER "127.0.0.1"
#define ANSWER_MAX (8u << 20)
#define DIFFERENCES_MAX 20 /* printed; the rest is only counted */

static const char *const fields[] = { "requests", "status_2xx", "status_4xx", "status_5xx", "prompt_tokens", "completion_tokens",
				      "cached_tokens", "estimated_tokens", "bytes_in" };

/* ---- a client ------------------------------------------------------------------------------------- */
struct peer {
	int fd;
	char *buf;
	size_t have, used;
};

static int peer_connect(struct peer *p, const char *from, uint16_t port)
{
	struct sockaddr_in6 six = { .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	struct sockaddr_in four = { .sin_family = AF_INET, .sin_port = htons(port) }, own = { .sin_family = AF_INET };
	struct timeval patience = { .tv_sec = 60 };
	bool v6 = strchr(from, ':') != NULL;
	int one = 1, r;

	p->fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (p->fd < 0)
		return -errno;
	setsockopt(p->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (v6) {
		r = connect(p->fd, (struct sockaddr *)&six, sizeof(six));
	} else {
		inet_pton(AF_INET, from, &own.sin_addr);
		inet_pton(AF_INET, OBSERVER, &four.sin_addr);
		r = bind(p->fd, (struct sockaddr *)&own, sizeof(own));
		if (r == 0)
			r = connect(p->fd, (struct sockaddr *)&four, sizeof(four));
	}
	if (r < 0) {
		r = -errno;
		close(p->fd);
		p->fd = -1;
		return r;
	}
	p->have = p->used = 0;
	return 0;
}

static int peer_send(struct peer *p, const char *data, size_t n)
{
	while (n) {
		ssize_t r = send(p->fd, data, n, MSG_NOSIGNAL);

		if (r < 0)
			return -errno;
		data += r;
		n -= (size_t)r;
	}
	return 0;
}

static int peer_more(struct peer *p)
{
	ssize_t r;

	if (p->used && p->used == p->have)
		p->used = p->have = 0;
	if (p->have == ANSWER_MAX)
		return -EFBIG;
	r = recv(p->fd, p->buf + p->have, ANSWER_MAX - p->have, 0);
	if (r < 0)
		return -errno;
	p->have += (size_t)r;
	return r ? 0 : -EPIPE;
}

/* Makes sure that n unread bytes are there. */
static int peer_want(struct peer *p, size_t n)
{
	int r = 0;

	while (r == 0 && p->have - p->used < n)
		r = peer_more(p);
	return r;
}

/* The next line, without its CR LF; it stays valid until the next call. */
static int peer_line(struct peer *p, char *line, size_t room)
{
	size_t n = 0;
	int r;

	for (;;) {
		r = peer_want(p, 1);
		if (r < 0)
			return r;
		line[n] = p->buf[p->used++];
		if (line[n] == '\n')
			break;
		if (line[n] != '\r' && ++n == room)
			return -EFBIG;
	}
	line[n] = '\0';
	return 0;
}

static int peer_skip(struct peer *p, size_t n, FILE *copy)
{
	while (n) {
		int r = peer_want(p, 1);
		size_t some;

		if (r < 0)
			return r;
		some = MIN(n, p->have - p->used);
		if (copy)
			fwrite(p->buf + p->used, 1, some, copy);
		p->used += some;
		n -= some;
	}
	return 0;
}

/* Reads one answer to its end: every answer of the model server has a length or is chunked. Status, or negative errno. */
static int peer_answer(struct peer *p, FILE *copy)
{
	char line[4096];
	long status, length = -1, chunk;
	bool chunked = false;
	int r = peer_line(p, line, sizeof(line));

	if (r < 0)
		return r;
	if (strncmp(line, "HTTP/1.", 7) != 0)
		return -EPROTO;
	status = strtol(line + 9, NULL, 10);
	for (;;) {
		r = peer_line(p, line, sizeof(line));
		if (r < 0)
			return r;
		if (!*line)
			break;
		if (strncasecmp(line, "content-length:", 15) == 0)
			length = strtol(line + 15, NULL, 10);
		if (strncasecmp(line, "transfer-encoding: chunked", 26) == 0)
			chunked = true;
	}
	if (!chunked) {
		r = length < 0 ? -EPROTO : peer_skip(p, (size_t)length, copy);
		return r < 0 ? r : (int)status;
	}
	do {
		r = peer_line(p, line, sizeof(line));
		if (r < 0)
			return r;
		chunk = strtol(line, NULL, 16);
		r = peer_skip(p, (size_t)chunk, copy);
		if (r == 0)
			r = peer_line(p, line, sizeof(line));
	} while (r == 0 && chunk);
	return r < 0 ? r : (int)status;
}

/* ---- requests ------------------------------------------------------------------------------------- */
struct ask {
	const char *what, *method, *path, *body;
	int status;
	bool chunked; /* the request's body goes in two chunks */
	bool twice;   /* two of it in one write */
	size_t filler; /* words put where the body says @ */
};

#define CHAT "{\"model\":\"weir-tiny\",\"messages\":[{\"role\":\"user\",\"content\":\"@ tell me of rivers\"}],"

static const struct ask asks[] = {
	{ "chat", "POST", "/v1/chat/completions", CHAT "\"max_tokens\":20}", 200, false, false, 1 },
	{ "stream", "POST", "/v1/chat/completions", CHAT "\"max_tokens\":60,\"stream\":true,\"stream_options\":{\"include_usage\":true}}", 200, false, false, 3 },
	{ "stream without usage", "POST", "/v1/chat/completions", CHAT "\"max_tokens\":40,\"stream\":true}", 200, false, false, 2 },
	{ "text stream", "POST", "/v1/completions", "{\"model\":\"weir-tiny\",\"prompt\":\"@\",\"max_tokens\":30,\"stream\":true,\"stream_options\":{\"include_usage\":true,\"continuous_usage_stats\":true}}", 200,
	  false, false, 9 },
	{ "chunked request", "POST", "/v1/chat/completions", CHAT "\"max_tokens\":10}", 200, true, false, 5 },
	{ "pipelined", "POST", "/v1/chat/completions", CHAT "\"max_tokens\":15,\"stream\":true,\"stream_options\":{\"include_usage\":true}}", 200, false, true, 4 },
	{ "long prompt", "POST", "/v1/chat/completions", CHAT "\"max_tokens\":5}", 200, false, false, 6000 },
	{ "bad JSON", "POST", "/v1/chat/completions", "{\"model\":", 400, false, false, 0 },
	{ "no such path", "GET", "/nothing", "", 404, false, false, 0 },
	{ "models", "GET", "/v1/models", "", 200, false, false, 0 },
};

static int ask_make(const struct ask *a, const char *salt, char **ret, size_t *ret_n)
{
	char *text = NULL, *body = NULL;
	size_t n = 0, body_n = 0, half;
	FILE *f = open_memstream(&body, &body_n);

	if (!f)
		return -ENOMEM;
	for (const char *p = a->body; *p; p++) {
		if (*p != '@') {
			fputc(*p, f);
			continue;
		}
		fputs(salt, f); /* so that no two clients share a prefix */
		for (size_t i = 0; i < a->filler; i++)
			fprintf(f, " w%zu", i * 7 % 1000);
	}
	fclose(f);
	f = open_memstream(&text, &n);
	if (!f) {
		free(body);
		return -ENOMEM;
	}
	for (int i = 0; i <= a->twice; i++) {
		fprintf(f, "%s %s HTTP/1.1\r\nhost: guest\r\n", a->method, a->path);
		half = body_n / 2;
		if (a->chunked) {
			fprintf(f, "transfer-encoding: chunked\r\n\r\n%zx\r\n", half);
			fwrite(body, 1, half, f);
			fprintf(f, "\r\n%zx\r\n", body_n - half);
			fwrite(body + half, 1, body_n - half, f);
			fprintf(f, "\r\n0\r\n\r\n");
		} else if (body_n) {
			fprintf(f, "content-type: application/json\r\ncontent-length: %zu\r\n\r\n%s", body_n, body);
		} else {
			fprintf(f, "\r\n");
		}
	}
	fclose(f);
	free(body);
	*ret = text;
	*ret_n = n;
	return 0;
}

/* One connection of one client: all kinds of requests. */
static int load_one(struct peer *p, const char *from, uint16_t port, int round)
{
	char salt[128];
	int r = peer_connect(p, from, port);

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(asks); i++) {
		char *text;
		size_t n;

		snprintf(salt, sizeof(salt), "%s %d %zu", from, round, i);
		r = ask_make(&asks[i], salt, &text, &n);
		if (r < 0)
			break;
		r = peer_send(p, text, n);
		free(text);
		for (int answers = 0; r == 0 && answers <= asks[i].twice; answers++) {
			r = peer_answer(p, NULL);
			if (r >= 0 && r != asks[i].status) {
				fprintf(stderr, "guest: %s: %s: answered %d\n", from, asks[i].what, r);
				r = -EPROTO;
			}
			r = MIN(r, 0);
		}
		if (r < 0)
			fprintf(stderr, "guest: %s: %s: %s\n", from, asks[i].what, strerror(-r));
	}
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
	return r;
}

static int load(uint16_t port, int rounds)
{
	struct peer p = { .fd = -1, .buf = malloc(ANSWER_MAX) };
	char from[INET6_ADDRSTRLEN];
	int r = p.buf ? 0 : -ENOMEM;

	for (int round = 0; round < rounds && r == 0; round++)
		for (int i = 0; i <= CLIENTS && r == 0; i++) {
			snprintf(from, sizeof(from), i == CLIENTS ? "::1" : "127.0.0.%d", 10 + i);
			r = load_one(&p, from, port, round);
		}
	free(p.buf);
	return r;
}

static int get(uint16_t port, const char *path, FILE *out)
{
	struct peer p = { .fd = -1, .buf = malloc(ANSWER_MAX) };
	char request[512];
	int r = p.buf ? peer_connect(&p, OBSERVER, port) : -ENOMEM, n;

	if (r == 0) {
		n = snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nhost: guest\r\nconnection: close\r\n\r\n", path);
		r = peer_send(&p, request, (size_t)n);
	}
	if (r == 0)
		r = peer_answer(&p, out);
	if (p.fd >= 0)
		close(p.fd);
	free(p.buf);
	return r < 0 ? r : r == 200 ? 0 : -EPROTO;
}

/* ---- comparison ------------------------------------------------------------------------------------ */

/* Sums of the counters per client address: {"127.0.0.10": {"requests": 1, ...}, ...} */
static void sums_add(json_t *sums, const char *client, const char *field, json_int_t n)
{
	json_t *one = json_object_get(sums, client);

	if (!one) {
		one = json_object();
		json_object_set_new(sums, client, one);
	}
	json_object_set_new(one, field, json_integer(json_integer_value(json_object_get(one, field)) + n));
}

static void sums_add_object(json_t *sums, const json_t *object)
{
	const char *client = json_string_value(json_object_get(object, "client_ip"));

	if (!client || strcmp(client, OBSERVER) == 0)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
		sums_add(sums, client, fields[i], json_integer_value(json_object_get(object, fields[i])));
}

static json_t *truth_read(FILE *f)
{
	json_t *sums = json_object(), *all = json_loadf(f, 0, NULL), *one;
	size_t i;

	json_array_foreach(json_object_get(all, "clients"), i, one)
		sums_add_object(sums, one);
	json_decref(all);
	return sums;
}

static json_t *clients_read(FILE *f)
{
	json_t *sums = json_object(), *one;

	while ((one = json_loadf(f, JSON_DISABLE_EOF_CHECK, NULL))) {
		sums_add_object(sums, one);
		json_decref(one);
	}
	return sums;
}

/* Differences between what the server says and what was counted. Either way round, so that nobody is forgotten. */
static int compare(const json_t *truth, const json_t *seen)
{
	int differences = 0, clients = 0;
	const char *client;
	json_t *one;

	json_object_foreach((json_t *)truth, client, one) {
		clients++;
		for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
			json_int_t want = json_integer_value(json_object_get(one, fields[i]));
			json_int_t have = json_integer_value(json_object_get(json_object_get(seen, client), fields[i]));

			if (want != have && differences++ < DIFFERENCES_MAX)
				printf("%s %s: server %lld, meter %lld\n", client, fields[i], (long long)want, (long long)have);
		}
	}
	json_object_foreach((json_t *)seen, client, one)
		if (!json_object_get(truth, client) && differences++ < DIFFERENCES_MAX)
			printf("%s: known to the meter only\n", client);
	if (clients <= CLIENTS && differences++ < DIFFERENCES_MAX)
		printf("the server knows %d clients, of %d\n", clients, CLIENTS + 1);
	return differences ? 1 : 0;
}

/* ---- the meter by itself ----------------------------------------------------------------------------- */
struct heard {
	uint64_t done, slices, bad;
};

static void hear(void *ctx, const void *data, size_t n)
{
	struct heard *h = ctx;
	const struct weir_done *d = data;

	if (n >= sizeof(*d) && d->type == WEIR_EVENT_DONE)
		h->done++;
	else if (n >= sizeof(struct weir_slice) && d->type == WEIR_EVENT_SLICE)
		h->slices++;
	else
		h->bad++;
}

static json_t *clients_of(struct capture *c)
{
	static struct weir_client_key keys[CAPTURE_BATCH];
	static struct weir_client values[CAPTURE_BATCH];
	struct capture_cursor cursor = { 0 };
	json_t *sums = json_object();
	int n;

	while ((n = capture_clients(c, &cursor, keys, values, CAPTURE_BATCH)) > 0)
		for (int i = 0; i < n; i++) {
			const struct weir_client *v = &values[i];
			const json_int_t counts[] = { (json_int_t)v->requests, (json_int_t)v->status_2xx, (json_int_t)v->status_4xx,
						      (json_int_t)v->status_5xx, (json_int_t)v->prompt_tokens,
						      (json_int_t)v->completion_tokens, (json_int_t)v->cached_tokens,
						      (json_int_t)v->estimated_tokens, (json_int_t)v->bytes_in };
			static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
			bool four = memcmp(keys[i].client, mapped, sizeof(mapped)) == 0;
			char name[INET6_ADDRSTRLEN];

			inet_ntop(four ? AF_INET : AF_INET6, keys[i].client + (four ? 12 : 0), name, sizeof(name));
			if (strcmp(name, OBSERVER) != 0)
				for (size_t f = 0; f < ARRAY_SIZE(fields); f++)
					sums_add(sums, name, fields[f], counts[f]);
		}
	return sums;
}

static void pause_ms(long ms)
{
	struct timespec t = { .tv_nsec = ms * 1000000 };

	nanosleep(&t, NULL);
}

/* Drains while the child works, and then until all that it caused is in. Exit status of the child. */
static int drain_while(struct capture *c, pid_t child)
{
	int status = 0, quiet = 0;
	pid_t ended = 0;

	while (quiet < 5) {
		ssize_t n = capture_drain(c);

		if (n < 0)
			return (int)n;
		if (!ended)
			ended = waitpid(child, &status, WNOHANG);
		quiet = ended && n == 0 ? quiet + 1 : 0;
		pause_ms(20);
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : -ECHILD;
}

static int exact(const char *variant, uint16_t port, int rounds)
{
	static struct weir_automaton automaton;
	struct heard heard = { 0 };
	struct capture_opts opts = { .automaton = &automaton, .variant = variant, .event = hear, .ctx = &heard };
	uint64_t stats[WEIR_STAT_COUNT];
	struct capture *c;
	const char *where;
	json_t *truth, *seen;
	char *text = NULL;
	size_t n = 0;
	FILE *f;
	pid_t child;
	int r = automaton_build(&automaton);

	if (r == 0)
		r = capture_open(&opts, &c, &where);
	if (r < 0) {
		fprintf(stderr, "guest: %s: %s\n", where, strerror(-r));
		return r == -EOPNOTSUPP ? 3 : 2; /* 3: the kernel refused it */
	}
	capture_watch(c, port, true);
	child = fork();
	if (child == 0)
		_exit(load(port, rounds) < 0 ? 1 : 0);
	r = drain_while(c, child);
	if (r != 0)
		return 2;
	seen = clients_of(c);
	if (capture_stats(c, stats) < 0)
		return 2;
	f = open_memstream(&text, &n);
	if (!f || get(port, "/truth", f) < 0)
		return 2;
	fclose(f);
	f = fmemopen(text, n, "r");
	truth = f ? truth_read(f) : json_object();
	r = compare(truth, seen);
	if (heard.bad || !heard.done || heard.done != stats[WEIR_STAT_RESPONSES]) {
		printf("%llu records heard of %llu responses, %llu not understood\n", (unsigned long long)heard.done,
		       (unsigned long long)stats[WEIR_STAT_RESPONSES], (unsigned long long)heard.bad);
		r = 1;
	}
	printf("variant %s: %llu segments, %llu requests, %llu gaps, %llu records and %llu slices, kernel memory %llu KiB%s\n",
	       capture_variant(c), (unsigned long long)stats[WEIR_STAT_SEGMENTS], (unsigned long long)stats[WEIR_STAT_REQUESTS],
	       (unsigned long long)stats[WEIR_STAT_GAP], (unsigned long long)heard.done, (unsigned long long)heard.slices,
	       (unsigned long long)capture_kernel_bytes(c) / 1024, capture_inexact(c) ? ", in user space" : "");
	json_decref(seen);
	json_decref(truth);
	if (f)
		fclose(f);
	free(text);
	capture_free(c);
	return r;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	FILE *f, *g;
	int r;

	if (strcmp(what, "load") == 0 && argc == 4)
		return load((uint16_t)atoi(argv[2]), atoi(argv[3])) < 0 ? 2 : 0;
	if (strcmp(what, "get") == 0 && argc == 4) {
		r = get((uint16_t)atoi(argv[2]), argv[3], stdout);
		if (r < 0)
			fprintf(stderr, "guest: %s: %s\n", argv[3], strerror(-r));
		return r < 0 ? 2 : 0;
	}
	if (strcmp(what, "exact") == 0 && argc == 5)
		return exact(argv[2], (uint16_t)atoi(argv[3]), atoi(argv[4]));
	if (strcmp(what, "compare") == 0 && argc == 4) {
		f = fopen(argv[2], "re");
		g = fopen(argv[3], "re");
		if (f && g)
			return compare(truth_read(f), clients_read(g));
		fprintf(stderr, "guest: %s\n", strerror(errno));
		return 2;
	}
	fprintf(stderr, "usage: guest load PORT ROUNDS | get PORT PATH | exact VARIANT PORT ROUNDS | compare TRUTH CLIENTS\n");
	return 2;
}
