#include "cmd/check_unknown.h"

#include "base/log.h"
#include "base/util.h"
#include "cmd/ask.h"

#include <jansson.h>

static void print_names(const char *what, const json_t *names)
{
	size_t n = json_array_size(names);

	printf("    %-8s", what);
	for (size_t i = 0; i < n; i++) {
		const char *name = json_string_value(json_array_get(names, i));

		printf(" %s", name ? name : "?");
	}
	printf("%s\n", n ? "" : " (none seen)");
}

/* Names and paths come from the wire by way of the agent, which lets through only printable ASCII. */
static int print_one(const char *line, unsigned *count)
{
	json_t *o = json_loads(line, 0, NULL);
	const char *method = json_string_value(json_object_get(o, "method")), *path = json_string_value(json_object_get(o, "path"));
	long long calls = json_integer_value(json_object_get(o, "count")), metered = json_integer_value(json_object_get(o, "metered"));
	long long hidden = json_integer_value(json_object_get(o, "not_listed"));

	if (hidden) {
		printf("%lld more calls are not listed\n", hidden);
	} else if (method && path) {
		printf("%s %s: %lld calls, tokens found in %lld\n", method, path, calls, metered);
		print_names("request", json_object_get(o, "request"));
		print_names("answer", json_object_get(o, "response"));
		(*count)++;
	}
	json_decref(o);
	return hidden || (method && path) ? 0 : -EBADMSG;
}

int check_unknown(const char *socket, bool json)
{
	CLEANUP(fclosep) FILE *answer = agent_ask(socket, "unknown\n");
	CLEANUP(freep) char *line = NULL;
	unsigned count = 0;
	size_t cap = 0;
	int r = 0;

	if (!answer)
		return EXIT_FAILURE;
	while (r == 0 && getline(&line, &cap, answer) > 0) {
		if (json)
			r = fputs(line, stdout) < 0 ? -EIO : 0;
		else
			r = print_one(line, &count);
	}
	if (r == 0 && ferror(answer))
		r = -ETIMEDOUT;
	if (r == 0 && !json && !count)
		printf("no call with a JSON body that no dialect knows was seen\n");
	if (fflush(stdout) == EOF && r == 0)
		r = -EIO;
	if (r < 0)
		log_error("the answer is cut: %s", r == -EBADMSG ? "not what an agent says" : strerror(-r));
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
