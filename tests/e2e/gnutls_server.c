/*
 * gnutls_server.c - an https server on GnuTLS, by way of libmicrohttpd, that answers as an OpenAI-compatible one does.
 *
 * usage: gnutls_server PORT KEY CERT. Says `ready`, serves until it is killed. Tokens are words: the prompt's are counted, the answer has
 * as many as asked for. Streams are one write per event, of chunks that the library makes.
 */
#include "base/util.h"

#include <arpa/inet.h>
#include <jansson.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <unistd.h>

#define BODY_MAX (16u << 20)
#define EVENT_MAX 512

struct call {
	char *body;
	size_t n;
	/* the answer of a stream */
	char model[64];
	unsigned prompt, tokens, at;
	bool usage;
	char event[EVENT_MAX]; /* what of an event did not fit the library's room */
	size_t event_n, event_at;
};

static void call_free(struct call *c)
{
	if (c)
		free(c->body);
	free(c);
}

static unsigned words(const json_t *doc)
{
	const json_t *messages = json_object_get(doc, "messages"), *m;
	unsigned n = 0;
	size_t i;

	json_array_foreach(messages, i, m) {
		const char *p = json_string_value(json_object_get(m, "content"));

		for (; p && *p; p += strspn(p, " \n")) {
			size_t len = strcspn(p, " \n");

			n += len > 0;
			p += len;
		}
	}
	return n;
}

static int usage_text(const struct call *c, char *to, size_t n)
{
	return snprintf(to, n, "{\"prompt_tokens\":%u,\"completion_tokens\":%u,\"total_tokens\":%u,\"prompt_tokens_details\":{\"cached_tokens\":%u}}", c->prompt,
			c->tokens, c->prompt + c->tokens, c->prompt / 2);
}

/* The next event: a role, tokens, a usage if it was asked for, the end; false: that was all. */
static bool event_next(struct call *c)
{
	unsigned i = c->at++, last = c->tokens + (c->usage ? 1 : 0) + 1;
	char usage[256] = "", delta[64] = "{\"role\":\"assistant\",\"content\":\"\"}";
	const char *choices = "[]";
	char choice[256];

	c->event_at = c->event_n = 0;
	if (i > last)
		return false;
	if (i == last) {
		c->event_n = (size_t)snprintf(c->event, sizeof(c->event), "data: [DONE]\n\n");
		return true;
	}
	if (i <= c->tokens) {
		if (i)
			snprintf(delta, sizeof(delta), "{\"content\":\" tok%u\"}", i % 7);
		snprintf(choice, sizeof(choice), "[{\"index\":0,\"delta\":%s,\"finish_reason\":%s}]", delta, i && i == c->tokens ? "\"length\"" : "null");
		choices = choice;
	} else {
		memcpy(usage, ",\"usage\":", 10);
		usage_text(c, usage + 9, sizeof(usage) - 9);
	}
	c->event_n = (size_t)snprintf(c->event, sizeof(c->event), "data: {\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"%s\",\"choices\":%s%s}\n\n",
				      c->model, choices, usage);
	return true;
}

static ssize_t stream_read(void *cls, uint64_t pos, char *buf, size_t max)
{
	struct call *c = cls;
	size_t n;

	(void)pos;
	if (c->event_at == c->event_n && !event_next(c))
		return MHD_CONTENT_READER_END_OF_STREAM;
	n = MIN(max, c->event_n - c->event_at);
	memcpy(buf, c->event + c->event_at, n);
	c->event_at += n;
	return (ssize_t)n;
}

static enum MHD_Result answer(struct MHD_Connection *conn, unsigned status, const char *type, struct MHD_Response *r)
{
	enum MHD_Result done = MHD_NO;

	if (r && MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, type) == MHD_YES)
		done = MHD_queue_response(conn, status, r);
	if (r)
		MHD_destroy_response(r);
	return done;
}

static enum MHD_Result whole(struct MHD_Connection *conn, unsigned status, char *text)
{
	return answer(conn, status, "application/json", text ? MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE) : NULL);
}

static enum MHD_Result chat(struct MHD_Connection *conn, struct call *c)
{
	json_t *doc = json_loadb(c->body, c->n, 0, NULL);
	const char *model = json_string_value(json_object_get(doc, "model"));
	json_int_t tokens = json_integer_value(json_object_get(doc, "max_tokens"));
	bool stream = json_is_true(json_object_get(doc, "stream"));
	char usage[256], *text = NULL;
	size_t n;

	if (!doc)
		return whole(conn, 400, strdup("{\"error\":{\"message\":\"not JSON\"}}"));
	snprintf(c->model, sizeof(c->model), "%s", model ? model : "?");
	c->tokens = tokens > 0 && tokens < 1000000 ? (unsigned)tokens : 16;
	c->prompt = words(doc);
	c->usage = json_is_true(json_object_get(json_object_get(doc, "stream_options"), "include_usage"));
	json_decref(doc);
	if (stream) /* the call outlives the stream: MHD lets go of the response before it tells of the end */
		return answer(conn, 200, "text/event-stream", MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 4096, stream_read, c, NULL));
	usage_text(c, usage, sizeof(usage));
	n = 512 + 4 * (size_t)c->tokens;
	text = malloc(n);
	if (text) {
		int at = snprintf(text, n, "{\"id\":\"x\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"%s\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"",
				  c->model);

		for (unsigned i = 0; i < c->tokens; i++)
			at += snprintf(text + at, n - (size_t)at, " tok");
		snprintf(text + at, n - (size_t)at, "\"},\"finish_reason\":\"length\"}],\"usage\":%s}", usage);
	}
	return whole(conn, 200, text);
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *conn, const char *url, const char *method, const char *version, const char *data, size_t *n,
				  void **state)
{
	struct call *c = *state;
	char *more;

	(void)cls, (void)method, (void)version;
	if (!c) {
		*state = calloc(1, sizeof(*c));
		return *state ? MHD_YES : MHD_NO;
	}
	if (*n) {
		more = c->n + *n <= BODY_MAX ? realloc(c->body, c->n + *n) : NULL;
		if (!more)
			return MHD_NO;
		memcpy(more + c->n, data, *n);
		c->body = more;
		c->n += *n;
		*n = 0;
		return MHD_YES;
	}
	if (!strcmp(url, "/health"))
		return whole(conn, 200, strdup("{}"));
	if (strcmp(url, "/v1/chat/completions") != 0)
		return whole(conn, 404, strdup("{\"error\":{\"message\":\"not found\"}}"));
	return chat(conn, c);
}

static void on_done(void *cls, struct MHD_Connection *conn, void **state, enum MHD_RequestTerminationCode how)
{
	(void)cls, (void)conn, (void)how;
	call_free(*state);
	*state = NULL;
}

static char *file_text(const char *path)
{
	CLEANUP(fclosep) FILE *f = fopen(path, "re");
	char *text = calloc(1, 65536);

	if (!f || !text || !fread(text, 1, 65535, f)) {
		free(text);
		return NULL;
	}
	return text;
}

int main(int argc, char **argv)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	CLEANUP(freep) char *key = argc == 4 ? file_text(argv[2]) : NULL;
	CLEANUP(freep) char *cert = argc == 4 ? file_text(argv[3]) : NULL;
	struct MHD_Daemon *d;

	if (!key || !cert) {
		fprintf(stderr, "usage: gnutls_server PORT KEY CERT\n");
		return 2;
	}
	at.sin_port = htons((uint16_t)atoi(argv[1]));
	d = MHD_start_daemon(MHD_USE_TLS | MHD_USE_EPOLL_INTERNAL_THREAD, 0, NULL, NULL, on_request, NULL, MHD_OPTION_SOCK_ADDR, &at, MHD_OPTION_HTTPS_MEM_KEY, key,
			     MHD_OPTION_HTTPS_MEM_CERT, cert, MHD_OPTION_NOTIFY_COMPLETED, on_done, NULL, MHD_OPTION_THREAD_POOL_SIZE, 2u, MHD_OPTION_END);
	if (!d) {
		fprintf(stderr, "cannot serve on port %s\n", argv[1]);
		return 1;
	}
	printf("ready\n");
	fflush(stdout);
	for (;;)
		pause();
}
