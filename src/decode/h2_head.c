/* h2_head.c - the fields of a header block, in the words of HTTP/1: for the automaton, and for who reads heads. */
#include "decode/h2_internal.h"

void head_init(struct head *d)
{
	d->n = d->path_len = d->method_len = d->host_len = 0;
	d->status = 0;
	d->length = 0;
	d->has_length = d->connect = d->cut = d->is_grpc = false;
	d->answer_type = NULL;
	d->grpc_status = -1;
	d->encoding_len = 0;
	d->unknown = 0;
}

/* Of a value that goes into a first line: no byte may end it or a word of it. */
static size_t copy_word(char *to, size_t room, struct span v, bool *cut)
{
	*cut |= v.n > room;
	v.n = MIN(v.n, room);
	for (size_t i = 0; i < v.n; i++)
		to[i] = v.p[i] <= ' ' || v.p[i] == 0x7f ? '_' : v.p[i];
	return v.n;
}

static void read_length(struct head *d, struct span v)
{
	uint64_t n = 0;

	if (!v.n || v.n > 15)
		return;
	for (size_t i = 0; i < v.n; i++) {
		if (v.p[i] < '0' || v.p[i] > '9')
			return;
		n = n * 10 + (uint64_t)(v.p[i] - '0');
	}
	d->length = n;
	d->has_length = true;
}

static void read_pseudo(struct head *d, struct span name, struct span v)
{
	if (span_eq(name, SPAN(":path"))) {
		d->path_len = copy_word(d->path, sizeof(d->path), v, &d->cut);
	} else if (span_eq(name, SPAN(":method"))) {
		d->method_len = copy_word(d->method, sizeof(d->method), v, &d->cut);
		d->connect = span_eq(v, SPAN("CONNECT"));
	} else if (span_eq(name, SPAN(":authority"))) {
		d->host_len = copy_word(d->host, sizeof(d->host), v, &d->cut);
	} else if (span_eq(name, SPAN(":status")) && v.n == 3 && v.p[0] >= '1' && v.p[0] <= '9') {
		d->status = (unsigned)((v.p[0] - '0') * 100 + (v.p[1] - '0') * 10 + v.p[2] - '0');
		if ((unsigned)(v.p[1] - '0') > 9 || (unsigned)(v.p[2] - '0') > 9)
			d->status = 0;
	}
}

/* Also where they stand in trailers. */
static void read_grpc(struct head *d, struct span name, struct span v)
{
	unsigned status = 0;

	if (span_eq(name, SPAN("content-type"))) {
		d->is_grpc = v.n >= 16 && !memcmp(v.p, "application/grpc", 16) && (v.n == 16 || v.p[16] == '+' || v.p[16] == ';');
	} else if (span_eq(name, SPAN("grpc-encoding"))) {
		d->encoding_len = MIN(v.n, sizeof(d->encoding));
		memcpy(d->encoding, v.p, d->encoding_len);
	} else if (span_eq(name, SPAN("grpc-status")) && v.n && v.n <= 3) {
		for (size_t i = 0; i < v.n; i++) {
			if (v.p[i] < '0' || v.p[i] > '9')
				return;
			status = status * 10 + (unsigned)(v.p[i] - '0');
		}
		d->grpc_status = (int)status;
	}
}

/* What only HTTP/1 knows has no place in a block (RFC 9113 section 8.2.2), and would mislead whoever reads it as HTTP/1. */
static bool is_left_out(struct span name)
{
	static const char *const names[] = { "connection", "transfer-encoding", "upgrade", "keep-alive", "proxy-connection", "te", "cookie", "content-length", "set-cookie" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (span_eq(name, span_of(names[i])))
			return true;
	for (size_t i = 0; i < name.n; i++)
		if (name.p[i] <= ' ' || name.p[i] == ':' || name.p[i] >= 0x7f || (name.p[i] >= 'A' && name.p[i] <= 'Z'))
			return true;
	return !name.n;
}

void head_field(void *head, struct span name, struct span value)
{
	struct head *d = head;
	char *to = d->fields + d->n;

	if (name.n && *name.p == ':') {
		read_pseudo(d, name, value);
		return;
	}
	if (span_eq(name, SPAN("content-length")))
		read_length(d, value);
	read_grpc(d, name, value);
	if (is_left_out(name))
		return;
	if (name.n + value.n + 4 > sizeof(d->fields) - d->n) {
		d->cut = true;
		return;
	}
	memcpy(to, name.p, name.n);
	to += name.n;
	*to++ = ':';
	*to++ = ' ';
	for (size_t i = 0; i < value.n; i++)
		*to++ = value.p[i] == '\r' || value.p[i] == '\n' || !value.p[i] ? ' ' : value.p[i];
	*to++ = '\r';
	*to++ = '\n';
	d->n = (size_t)(to - d->fields);
}

/* The first line, then what the fields leave room for, then the blank line. */
static size_t put_together(struct h2 *h, int first)
{
	struct head *d = &h->head;
	size_t n = MIN((size_t)MAX(first, 0), sizeof(h->text) - 2), left = sizeof(h->text) - 2 - n, take = d->n;

	if (take > left) {
		d->cut = true;
		while (take && (take > left || d->fields[take - 1] != '\n'))
			take--;
	}
	memcpy(h->text + n, d->fields, take);
	n += take;
	memcpy(h->text + n, "\r\n", 2);
	return n + 2;
}

size_t head_request(struct h2 *h)
{
	struct head *d = &h->head;
	const char *method = d->method;
	size_t method_len = d->method_len;
	char length[48] = "";
	int first;

	if (!d->path_len)
		return 0;
	if (!method_len) {
		/* it was said before we came */
		method = d->has_length ? "POST" : "GET";
		method_len = strlen(method);
	}
	if (d->has_length)
		snprintf(length, sizeof(length), "content-length: %llu\r\n", (unsigned long long)d->length);
	first = snprintf(h->text, sizeof(h->text), "%.*s %.*s HTTP/2\r\nhost: %.*s\r\n%s", (int)method_len, method, (int)d->path_len, d->path, (int)d->host_len, d->host,
			 length);
	return put_together(h, first);
}

size_t head_response(struct h2 *h)
{
	const char *type = h->head.answer_type; /* the first of two counts */
	int first = snprintf(h->text, sizeof(h->text), "HTTP/1.1 %03u\r\n%s%s%s", h->head.status ? h->head.status : 200, type ? "content-type: " : "", type ? type : "", type ? "\r\n" : "");

	return put_together(h, first);
}
