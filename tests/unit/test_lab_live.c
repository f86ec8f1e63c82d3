/*
 * The traffic lab against a real server: what it says in its requests, and whom it refuses to talk to.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <jansson.h>
#include <signal.h>

#include "../../tools/lab/live.h"

/* Words that two texts have at the same place. */
static double alike(const char *a, const char *b)
{
	int same = 0, all = 0;

	while (*a && *b) {
		size_t n = strcspn(a, " "), k = strcspn(b, " ");

		same += n == k && !memcmp(a, b, n);
		all++;
		a += n + (a[n] == ' ');
		b += k + (b[k] == ' ');
	}
	return (double)same / all;
}

static void texts_are_as_alike_as_their_records(void **state)
{
	static char a[LIVE_PROMPT_MAX + 512], b[LIVE_PROMPT_MAX + 512];
	struct rec q = { .sim = 0x123456789abcdef0, .hash = 77, .entropy = 4.3f }, near = q, far = q;

	(void)state;
	near.sim ^= 0x0000000100000800; /* two bits */
	near.hash = 78;
	far.sim = ~q.sim;
	far.hash = 79;
	live_prompt(a, 4000, &q);
	live_prompt(b, 4000, &q);
	assert_string_equal(a, b);
	assert_true(strlen(a) >= 4000 && strlen(a) < 4100);
	live_prompt(b, 4000, &near);
	assert_true(alike(a, b) > 0.75 && alike(a, b) < 1);
	live_prompt(b, 4000, &far);
	assert_true(alike(a, b) < 0.3);
	q.inject = 0.9f;
	live_prompt(a, 200, &q);
	assert_true(strstr(a, "instructions") || strstr(a, "restrictions"));
	live_prompt(a, 1u << 30, &q); /* the longest there is */
	assert_true(strlen(a) < sizeof(a));
}

/* Each kind of request is HTTP with a JSON body of the length that it says; one that is meant to be refused is not JSON. */
static void requests_are_whole(void **state)
{
	struct lab_opts o = { .seed = 7, .live = true, .days = 0.1, .rate = 1, .model = (const char[][40]){ "alpha", "beta" }, .model_n = 2 };
	struct lab *lab = lab_realloc(NULL, sizeof(*lab));
	static const int status[] = { 200, 200, 200, 401, 400, 404 };
	static const int path[] = { PATH_CHAT, PATH_EMBED, PATH_COMPLETION, PATH_CHAT, PATH_CHAT, PATH_CHAT };

	(void)state;
	assert_int_equal(lab_plan(lab, &o), 0);
	assert_true(lab->model_n <= 2);
	for (int i = 0; i < 6; i++) {
		struct rec q = { .sim = 9, .hash = 5, .entropy = 4, .prompt = 300, .completion = 40, .status = (uint16_t)status[i], .path = (uint8_t)path[i], .key = 3, .stream = i == 2 };
		struct live v = { .token_scale = 0.5 };
		size_t n;
		char *p = live_request(&v, lab, &q, &n), *body;
		json_t *j;

		p[n] = 0;
		body = strstr(p, "\r\n\r\n");
		assert_non_null(body);
		body += 4;
		assert_non_null(strstr(p, "Content-Length: "));
		assert_int_equal(strtoul(strstr(p, "Content-Length: ") + 16, NULL, 10), strlen(body));
		j = json_loads(body, 0, NULL);
		assert_int_equal(j != NULL, status[i] != 400);
		if (j) {
			const char *model = json_string_value(json_object_get(j, "model"));

			assert_string_equal(model, status[i] == 404 ? "no-such-model" : "alpha");
			assert_int_equal(json_is_true(json_object_get(j, "stream")), i == 2);
			if (path[i] != PATH_EMBED)
				assert_int_equal(json_integer_value(json_object_get(j, "max_tokens")), 21);
		}
		assert_int_equal(strstr(p, "Bearer bad-") != NULL, status[i] == 401);
		json_decref(j);
		free(p);
	}
	for (int i = 0; i < lab->who_n; i++) /* nobody speaks from anywhere else */
		for (int a = 0; a < lab->who[i].addr_n; a++)
			assert_int_equal(lab->who[i].addr[a] >> 24, 127);
	lab_done(lab);
	free(lab);
}

static void only_loopback_is_spoken_to(void **state)
{
	static const char *const wrong[] = { "http://192.0.2.7:8000", "https://127.0.0.1:8000", "http://localhost:8000", "http://127.0.0.1:0", "http://127.0.0.1:99999", "127.0.0.1:8000", "http://" };

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct live v = { 0 };

		assert_int_equal(live_begin(&v, wrong[i]), -EINVAL);
		assert_null(v.conn);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(texts_are_as_alike_as_their_records),
		cmocka_unit_test(requests_are_whole),
		cmocka_unit_test(only_loopback_is_spoken_to),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
