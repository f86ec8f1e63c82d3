/* cmd_clients.c - weir clients: who used what, straight from the maps of the running agent; --by: from what it knows beyond them. */
#include "base/log.h"
#include "cmd/agent_accounts.h"
#include "cmd/agent_opts.h"
#include "cmd/ask.h"
#include "cmd/cmd.h"
#include "cmd/options.h"
#include "cmd/shown.h"

#include <jansson.h>

#define ROWS_MAX (1u << 21)

struct clients_opts {
	bool json;
	int by; /* enum account_kind and 1; 0: the kernel's counters */
	char *socket;
};

static int by_set(void *into, const char *value)
{
	for (int k = 0; k < ACCOUNT_KINDS; k++)
		if (!strcmp(value, account_kind_name((enum account_kind)k))) {
			((struct clients_opts *)into)->by = k + 1;
			return 0;
		}
	return -EINVAL;
}

static const struct option_row rows[] = {
	{ "json", OPTION_FLAG, offsetof(struct clients_opts, json), 0, 0, NULL, "one JSON object per line", NULL },
	{ "by", OPTION_CALL, 0, 0, 0, "client|key|user", "count by true client, hashed API key or user instead of by peer", by_set },
	{ "socket", OPTION_TEXT, offsetof(struct clients_opts, socket), 0, 0, "PATH", "the agent's socket (" AGENT_SOCKET_DEFAULT ")", NULL },
};

struct row {
	char server[64], client[136];
	long long requests, prompt, completion, cached, estimated, errors, open, aborted, lost, retries;
};

struct table {
	struct row *row;
	size_t n, cap;
};

static long long number(const json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

static int row_add(struct table *t, const char *line, const char *field)
{
	json_t *o = json_loads(line, 0, NULL);
	const char *server = json_string_value(json_object_get(o, "server"));
	const json_t *who = json_object_get(o, field);
	const char *client = json_is_null(who) ? "-" : json_string_value(who);
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
	shown_text(r->client, sizeof(r->client), client);
	r->requests = number(o, "requests");
	r->prompt = number(o, "prompt_tokens");
	r->completion = number(o, "completion_tokens");
	r->cached = number(o, "cached_tokens");
	r->estimated = number(o, "estimated_tokens");
	r->errors = number(o, "status_4xx") + number(o, "status_5xx") + number(o, "stream_errors");
	r->open = number(o, "open");
	r->aborted = number(o, "aborted");
	r->lost = number(o, "lost");
	r->retries = number(o, "retries");
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

static void table_print(struct table *t, int by)
{
	static const char *const titles[] = { "CLIENT", "CLIENT", "KEY", "USER" };
	int server = 6, client = 6;

	qsort(t->row, t->n, sizeof(*t->row), by_tokens);
	for (size_t i = 0; i < t->n; i++) {
		server = MAX(server, (int)strlen(t->row[i].server));
		client = MAX(client, (int)strlen(t->row[i].client));
	}
	printf("%-*s  %-*s %10s %12s %12s %10s %10s %8s %*s %8s %6s\n", client, titles[by], server, "SERVER", "REQUESTS", "PROMPT", "COMPLETION",
	       "CACHED", "ESTIMATED", "ERRORS", by ? 8 : 6, by ? "RETRIES" : "OPEN", "ABORTED", "LOST");
	for (size_t i = 0; i < t->n; i++) {
		const struct row *r = &t->row[i];

		printf("%-*s  %-*s %10lld %12lld %12lld %10lld %10lld %8lld %*lld %8lld %6lld\n", client, r->client, server, r->server, r->requests,
		       r->prompt, r->completion, r->cached, r->estimated, r->errors, by ? 8 : 6, by ? r->retries : r->open, r->aborted, r->lost);
	}
}

static int clients_show(FILE *answer, bool json, int by)
{
	CLEANUP(freep) char *line = NULL;
	struct table t = { 0 };
	size_t cap = 0;
	int r = 0;

	while (r == 0 && getline(&line, &cap, answer) > 0) {
		if (json)
			r = fputs(line, stdout) < 0 ? -EIO : 0;
		else
			r = row_add(&t, line, by ? account_kind_field((enum account_kind)(by - 1)) : "client_ip");
	}
	if (r == 0 && ferror(answer))
		r = -ETIMEDOUT;
	if (r == 0 && !json)
		table_print(&t, by);
	free(t.row);
	if (fflush(stdout) == EOF && r == 0)
		r = -EIO;
	return r;
}

int cmd_clients(int argc, char **argv)
{
	struct clients_opts o = { 0 };
	FILE *answer = NULL;
	int r = options_parse(rows, ARRAY_SIZE(rows), &o, "clients [--by client|key|user] [--json] [--socket PATH]", argc, argv, NULL);

	if (r == 0) {
		char question[16] = "clients\n";

		if (o.by)
			snprintf(question, sizeof(question), "by %s\n", account_kind_name((enum account_kind)(o.by - 1)));
		answer = agent_ask(o.socket ? o.socket : AGENT_SOCKET_DEFAULT, question);
		r = EXIT_FAILURE;
	} else {
		r = r < 0 ? EXIT_USAGE : 0;
	}
	if (answer) {
		int e = clients_show(answer, o.json, o.by);

		if (e < 0)
			log_error("the answer is cut: %s", e == -EBADMSG ? "not what an agent says" : strerror(-e));
		r = e < 0 ? EXIT_FAILURE : 0;
		fclose(answer);
	}
	options_done(rows, ARRAY_SIZE(rows), &o);
	return r;
}
