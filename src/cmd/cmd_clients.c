/* cmd_clients.c - weir clients: who used what, straight from the maps of the running agent. */
#include "base/log.h"
#include "cmd/agent_opts.h"
#include "cmd/ask.h"
#include "cmd/cmd.h"
#include "cmd/options.h"

#include <jansson.h>

#define ROWS_MAX (1u << 21)

struct clients_opts {
	bool json;
	char *socket;
};

static const struct option_row rows[] = {
	{ "json", OPTION_FLAG, offsetof(struct clients_opts, json), 0, 0, NULL, "one JSON object per line", NULL },
	{ "socket", OPTION_TEXT, offsetof(struct clients_opts, socket), 0, 0, "PATH", "the agent's socket (" AGENT_SOCKET_DEFAULT ")", NULL },
};

struct row {
	char server[64], client[64];
	long long requests, prompt, completion, cached, estimated, errors, open, aborted, lost;
};

struct table {
	struct row *row;
	size_t n, cap;
};

static long long number(const json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

static int row_add(struct table *t, const char *line)
{
	json_t *o = json_loads(line, 0, NULL);
	const char *server = json_string_value(json_object_get(o, "server"));
	const char *client = json_string_value(json_object_get(o, "client_ip"));
	struct row *r;

	if (!server || !client) {
		json_decref(o);
		return -EBADMSG;
	}
	if (t->n == t->cap) {
		size_t cap = t->cap ? t->cap * 2 : 64;

		r = cap > ROWS_MAX ? NULL : reallocarray(t->row, cap, sizeof(*r));
		if (!r) {
			json_decref(o);
			return -ENOMEM;
		}
		t->row = r;
		t->cap = cap;
	}
	r = &t->row[t->n++];
	snprintf(r->server, sizeof(r->server), "%s", server);
	snprintf(r->client, sizeof(r->client), "%s", client);
	r->requests = number(o, "requests");
	r->prompt = number(o, "prompt_tokens");
	r->completion = number(o, "completion_tokens");
	r->cached = number(o, "cached_tokens");
	r->estimated = number(o, "estimated_tokens");
	r->errors = number(o, "status_4xx") + number(o, "status_5xx") + number(o, "stream_errors");
	r->open = number(o, "open");
	r->aborted = number(o, "aborted");
	r->lost = number(o, "lost");
	json_decref(o);
	return 0;
}

static int by_tokens(const void *a, const void *b)
{
	const struct row *x = a, *y = b;
	long long tx = x->prompt + x->completion + x->estimated, ty = y->prompt + y->completion + y->estimated;

	if (tx != ty)
		return tx < ty ? 1 : -1;
	if (x->requests != y->requests)
		return x->requests < y->requests ? 1 : -1;
	return strcmp(x->client, y->client);
}

static void table_print(struct table *t)
{
	int server = 6, client = 6;

	qsort(t->row, t->n, sizeof(*t->row), by_tokens);
	for (size_t i = 0; i < t->n; i++) {
		server = MAX(server, (int)strlen(t->row[i].server));
		client = MAX(client, (int)strlen(t->row[i].client));
	}
	printf("%-*s  %-*s %10s %12s %12s %10s %10s %8s %6s %8s %6s\n", client, "CLIENT", server, "SERVER", "REQUESTS", "PROMPT", "COMPLETION",
	       "CACHED", "ESTIMATED", "ERRORS", "OPEN", "ABORTED", "LOST");
	for (size_t i = 0; i < t->n; i++) {
		const struct row *r = &t->row[i];

		printf("%-*s  %-*s %10lld %12lld %12lld %10lld %10lld %8lld %6lld %8lld %6lld\n", client, r->client, server, r->server, r->requests,
		       r->prompt, r->completion, r->cached, r->estimated, r->errors, r->open, r->aborted, r->lost);
	}
}

static int clients_show(FILE *answer, bool json)
{
	CLEANUP(freep) char *line = NULL;
	struct table t = { 0 };
	size_t cap = 0;
	int r = 0;

	while (r == 0 && getline(&line, &cap, answer) > 0) {
		if (json)
			r = fputs(line, stdout) < 0 ? -EIO : 0;
		else
			r = row_add(&t, line);
	}
	if (r == 0 && ferror(answer))
		r = -ETIMEDOUT;
	if (r == 0 && !json)
		table_print(&t);
	free(t.row);
	if (fflush(stdout) == EOF && r == 0)
		r = -EIO;
	return r;
}

int cmd_clients(int argc, char **argv)
{
	struct clients_opts o = { 0 };
	FILE *answer = NULL;
	int r = options_parse(rows, ARRAY_SIZE(rows), &o, "clients [--json] [--socket PATH]", argc, argv, NULL);

	if (r == 0) {
		answer = agent_ask(o.socket ? o.socket : AGENT_SOCKET_DEFAULT, "clients\n");
		r = EXIT_FAILURE;
	} else {
		r = r < 0 ? EXIT_USAGE : 0;
	}
	if (answer) {
		int e = clients_show(answer, o.json);

		if (e < 0)
			log_error("the answer is cut: %s", e == -EBADMSG ? "not what an agent says" : strerror(-e));
		r = e < 0 ? EXIT_FAILURE : 0;
		fclose(answer);
	}
	options_done(rows, ARRAY_SIZE(rows), &o);
	return r;
}
