/* http.c - heads of HTTP/1 messages, possibly cut. */
#include "decode/http.h"

#include <strings.h>

static struct span take(struct span *s, size_t n)
{
	struct span head = { s->p, n };

	s->p += n;
	s->n -= n;
	return head;
}

static struct span trim(struct span s)
{
	while (s.n && (*s.p == ' ' || *s.p == '\t' || *s.p == '\r'))
		take(&s, 1);
	while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t' || s.p[s.n - 1] == '\r'))
		s.n--;
	return s;
}

/* Takes a line off; without a line feed *ret is what there is, and the answer is false. */
static bool take_line(struct span *rest, struct span *ret)
{
	const char *end = rest->n ? memchr(rest->p, '\n', rest->n) : NULL;

	if (!end) {
		*ret = take(rest, rest->n);
		return false;
	}
	*ret = take(rest, (size_t)(end - rest->p));
	take(rest, 1);
	if (ret->n && ret->p[ret->n - 1] == '\r')
		ret->n--;
	return true;
}

static struct span take_word(struct span *line)
{
	const char *end = line->n ? memchr(line->p, ' ', line->n) : NULL;
	struct span word = take(line, end ? (size_t)(end - line->p) : line->n);

	while (line->n && *line->p == ' ')
		take(line, 1);
	return word;
}

static void split_target(struct http_head *h)
{
	struct span t = h->target;
	const char *cut;

	/* absolute form, as proxies are sent it */
	if (t.n && *t.p != '/') {
		size_t scheme = t.n > 7 && !strncasecmp(t.p, "http://", 7) ? 7 : t.n > 8 && !strncasecmp(t.p, "https://", 8) ? 8 : 0;

		if (!scheme)
			return;
		take(&t, scheme);
		cut = memchr(t.p, '/', t.n);
		if (!cut)
			return;
		take(&t, (size_t)(cut - t.p));
	}
	if (t.n && (cut = memchr(t.p, '#', t.n)))
		t.n = (size_t)(cut - t.p);
	if (t.n && (cut = memchr(t.p, '?', t.n))) {
		h->query = (struct span){ cut + 1, t.n - (size_t)(cut - t.p) - 1 };
		t.n = (size_t)(cut - t.p);
	}
	h->path = t;
}

static bool is_method(struct span m)
{
	if (m.n < 3 || m.n > 16)
		return false;
	for (size_t i = 0; i < m.n; i++)
		if (m.p[i] < 'A' || m.p[i] > 'Z')
			return false;
	return true;
}

int http_parse_head(struct span text, struct http_head *ret)
{
	struct http_head h = { 0 };
	struct span rest = text, line, word;
	bool whole;

	while (rest.n && (*rest.p == '\r' || *rest.p == '\n'))
		take(&rest, 1);
	whole = take_line(&rest, &line);
	if (line.n >= 7 && !memcmp(line.p, "HTTP/1.", 7)) {
		h.is_response = true;
		take_word(&line);
		word = take_word(&line);
		if (word.n == 3 && word.p[0] >= '1' && word.p[0] <= '9' && word.p[1] >= '0' && word.p[1] <= '9' && word.p[2] >= '0' &&
		    word.p[2] <= '9')
			h.status = (word.p[0] - '0') * 100 + (word.p[1] - '0') * 10 + word.p[2] - '0';
		else if (whole)
			return -EBADMSG;
	} else {
		h.method = take_word(&line);
		if (!is_method(h.method))
			return -EBADMSG;
		h.target = take_word(&line);
		h.is_h2 = span_eq(line, SPAN("HTTP/2"));
		if (whole && !h.target.n)
			return -EBADMSG;
		split_target(&h);
	}
	h.headers.p = rest.p;
	while (whole && rest.n) {
		const char *start = rest.p;

		whole = take_line(&rest, &line);
		if (!whole)
			break;
		if (!line.n) {
			h.complete = true;
			h.len = (size_t)(rest.p - text.p);
			h.headers.n = (size_t)(start - h.headers.p);
			*ret = h;
			return 0;
		}
		h.headers.n = (size_t)(rest.p - h.headers.p);
	}
	*ret = h;
	return 0;
}

bool http_next_header(struct span *rest, struct span *ret_name, struct span *ret_value)
{
	struct span line;

	for (int i = 0; i < HTTP_HEADERS_MAX && rest->n; i++) {
		const char *colon;

		if (!take_line(rest, &line))
			return false;
		colon = line.n ? memchr(line.p, ':', line.n) : NULL;
		if (!colon || colon == line.p || *line.p == ' ' || *line.p == '\t')
			continue;
		*ret_name = (struct span){ line.p, (size_t)(colon - line.p) };
		*ret_value = trim((struct span){ colon + 1, line.n - ret_name->n - 1 });
		return true;
	}
	return false;
}

bool http_name_is(struct span name, const char *lower)
{
	return name.n == strlen(lower) && !strncasecmp(name.p, lower, name.n);
}

struct span http_header(const struct http_head *h, const char *name)
{
	struct span rest = h->headers, key, value;

	for (int i = 0; i < HTTP_HEADERS_MAX && http_next_header(&rest, &key, &value); i++)
		if (http_name_is(key, name))
			return value;
	return (struct span){ 0 };
}
