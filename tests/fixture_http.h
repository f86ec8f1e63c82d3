/*
 * fixture_http.h - reads tests/fixtures/dialects/NAME.http: a request, its response, and what the record must hold.
 *
 *   # comment
 *   >>>            the request follows: head, blank line, body
 *   <<<            the response follows
 *   ===            then one line per expectation, of kind, status, model, stream flag, finish reason and tokens at least: bytes that
 *                  the record's JSON holds, or, after '!', must not hold; after '@' what the server's software is from then on
 *
 * Line ends of heads become CR LF; "Content-Length: @" gets the body's length. Where the head says chunked, lines of "--" part
 * the chunks; a last line "--cut" leaves the stream without its end. The last line end of a body is not part of it, but those of
 * chunks are.
 */
#ifndef WEIR_TESTS_FIXTURE_HTTP_H
#define WEIR_TESTS_FIXTURE_HTTP_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIXTURE_DIR "tests/fixtures/dialects"
#define FIXTURE_MAX 16384
#define FIXTURE_WANTS 32

struct fixture {
	char name[64];
	char request[FIXTURE_MAX], response[FIXTURE_MAX];
	size_t request_len, response_len;
	char *want[FIXTURE_WANTS];
	size_t wants;
	char text[FIXTURE_MAX];
};

/* head and body -> bytes on the wire */
static inline size_t fixture_message(const char *text, size_t n, char *out)
{
	const char *body = memmem(text, n, "\n\n", 2);
	size_t head_len = body ? (size_t)(body + 1 - text) : n, body_len = 0, at = 0;
	int chunked = memmem(text, head_len, "Transfer-Encoding: chunked", 26) != NULL, cut;

	body = body ? body + 2 : text + n;
	if (text + n > body)
		body_len = (size_t)(text + n - body);
	if (body_len && body[body_len - 1] == '\n' && !chunked)
		body_len--;
	cut = chunked && body_len >= 7 && !memcmp(body + body_len - 7, "\n--cut\n", 7);
	body_len -= cut ? 6 : 0;
	for (size_t i = 0; i < head_len; i++) {
		if (text[i] == '\n')
			out[at++] = '\r';
		if (text[i] == '@' && i && text[i - 1] == ' ')
			at += (size_t)sprintf(out + at, "%zu", body_len);
		else
			out[at++] = text[i];
	}
	if (at && out[at - 1] != '\n')
		at += (size_t)sprintf(out + at, "\r\n");
	at += (size_t)sprintf(out + at, "\r\n");
	if (!chunked) {
		memcpy(out + at, body, body_len);
		return at + body_len;
	}
	while (body_len) {
		const char *end = memmem(body, body_len, "\n--\n", 4);
		size_t len = end ? (size_t)(end + 1 - body) : body_len;

		at += (size_t)sprintf(out + at, "%zx\r\n", len);
		memcpy(out + at, body, len);
		at += len;
		at += (size_t)sprintf(out + at, "\r\n");
		len += end ? 3 : 0;
		body += len;
		body_len -= len;
	}
	return cut ? at : at + (size_t)sprintf(out + at, "0\r\n\r\n");
}

/* 0, or -1: not a fixture */
static inline int fixture_read(const char *path, struct fixture *f)
{
	FILE *in = fopen(path, "re");
	char *request, *response, *want;
	size_t n;

	if (!in)
		return -1;
	n = fread(f->text, 1, sizeof(f->text) - 1, in);
	fclose(in);
	f->text[n] = '\0';
	request = strstr(f->text, ">>>\n");
	response = request ? strstr(request, "\n<<<\n") : NULL;
	want = response ? strstr(response, "\n===\n") : NULL;
	if (!want || n * 2 > FIXTURE_MAX)
		return -1;
	request += 4;
	f->request_len = fixture_message(request, (size_t)(response + 1 - request), f->request);
	response += 5;
	f->response_len = fixture_message(response, (size_t)(want + 1 - response), f->response);
	f->wants = 0;
	for (want = strtok(want + 5, "\n"); want && f->wants < FIXTURE_WANTS; want = strtok(NULL, "\n"))
		f->want[f->wants++] = want;
	return 0;
}

/* Does the record's line hold what this expectation wants of it? One of the server's software (@) is another's to check. */
static inline int fixture_holds(const char *want, const char *line)
{
	int denied = *want == '!';

	return *want == '@' || (strstr(line, want + denied) != NULL) != denied;
}

/* Calls fn for every fixture, by name. How many there were, or -1: one of them is none. */
static inline int fixtures_each(struct fixture *f, void (*fn)(struct fixture *f, void *ctx), void *ctx)
{
	struct dirent **names;
	int n = scandir(FIXTURE_DIR, &names, NULL, alphasort), done = 0;

	for (int i = 0; i < n; i++) {
		char path[512];

		if (done >= 0 && strstr(names[i]->d_name, ".http")) {
			snprintf(path, sizeof(path), FIXTURE_DIR "/%s", names[i]->d_name);
			snprintf(f->name, sizeof(f->name), "%.60s", names[i]->d_name);
			if (fixture_read(path, f) < 0) {
				fprintf(stderr, "%s is no fixture\n", path);
				done = -1;
			} else {
				fn(f, ctx);
				done++;
			}
		}
		free(names[i]);
	}
	if (n >= 0)
		free(names);
	return done;
}

#endif
