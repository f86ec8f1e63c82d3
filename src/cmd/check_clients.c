#include "cmd/check_clients.h"

#include "cmd/ask.h"

#include <jansson.h>

void check_clients_ask(const char *socket, struct check_clients *ret)
{
	CLEANUP(fclosep) FILE *answer = NULL;
	const json_t *hidden, *peers, *p;
	struct check_clients c = { 0 };
	long long requests = 0, forwarded = 0;
	size_t i, n = 0;
	json_t *stats;

	*ret = c;
	if (agent_try_ask(socket, "stats\n", &answer) < 0)
		return;
	stats = json_loadf(answer, 0, NULL);
	hidden = json_object_get(stats, "hidden");
	peers = json_object_get(hidden, "peers");
	c.known = json_is_object(hidden);
	c.hidden = json_is_true(json_object_get(hidden, "hidden"));
	c.requests = (uint64_t)json_integer_value(json_object_get(hidden, "requests"));
	json_array_foreach(peers, i, p) {
		const char *address = json_string_value(json_object_get(p, "address"));

		requests += json_integer_value(json_object_get(p, "requests"));
		forwarded += json_integer_value(json_object_get(p, "forwarded"));
		if (address && n < sizeof(c.peers))
			n += (size_t)snprintf(c.peers + n, sizeof(c.peers) - n, "%s%s", i ? ", " : "", address);
	}
	c.forwards = 2 * forwarded > requests;
	json_decref(stats);
	*ret = c;
}
