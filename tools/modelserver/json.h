/*
 * json.h - a document as a flat array of nodes; strings stay escaped until somebody asks for them.
 *
 * json_parse() takes a whole document or answers false; nothing is allocated but the node array, which
 * is kept for the next document. Depth and node count have ceilings: a hostile body costs an error.
 */
#ifndef MODELSERVER_JSON_H
#define MODELSERVER_JSON_H

#include <ctype.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "buf.h"

#define JSON_DEPTH_MAX 128       /* deeper than any API's bodies; shallower than the stack */
#define JSON_NODES_MAX (1 << 20) /* an embeddings request of token ids may be large */

enum json_type { JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

struct json_node {
	enum json_type type;
	int next;  /* index of the next sibling, -1 at the end; a member's key is followed by its value */
	int child; /* first element or first key, -1 if empty */
	const char *p;
	size_t n; /* string: between the quotes */
};

struct json {
	struct json_node *node;
	int count, cap;
	const char *p, *end;
};

static int json_node_add(struct json *j, enum json_type type, const char *p, size_t n)
{
	if (j->count == JSON_NODES_MAX)
		return -1;
	if (j->count == j->cap) {
		j->cap = j->cap ? j->cap * 2 : 64;
		j->node = buf_realloc(j->node, sizeof(*j->node) * (size_t)j->cap);
	}
	j->node[j->count] = (struct json_node){ .type = type, .next = -1, .child = -1, .p = p, .n = n };
	return j->count++;
}

static void json_space(struct json *j)
{
	while (j->p < j->end && (*j->p == ' ' || *j->p == '\t' || *j->p == '\r' || *j->p == '\n'))
		j->p++;
}

static int json_string(struct json *j)
{
	const char *from = ++j->p;

	for (; j->p < j->end && *j->p != '"'; j->p++) {
		if ((unsigned char)*j->p < 0x20)
			return -1;
		if (*j->p == '\\' && (++j->p == j->end || !strchr("\"\\/bfnrtu", *j->p)))
			return -1;
	}
	if (j->p >= j->end)
		return -1;
	return json_node_add(j, JSON_STRING, from, (size_t)(j->p++ - from));
}

static int json_word(struct json *j, const char *word, enum json_type type)
{
	size_t n = strlen(word);

	if ((size_t)(j->end - j->p) < n || memcmp(j->p, word, n))
		return -1;
	j->p += n;
	return json_node_add(j, type, j->p - n, n);
}

static int json_number(struct json *j)
{
	const char *from = j->p;
	bool digits = false;

	if (*j->p == '-')
		j->p++;
	for (; j->p < j->end && (isdigit((unsigned char)*j->p) || (digits && strchr(".eE+-", *j->p))); j->p++)
		digits = true;
	return digits ? json_node_add(j, JSON_NUMBER, from, (size_t)(j->p - from)) : -1;
}

static int json_value(struct json *j, int depth);

static int json_bracket(struct json *j, int depth, bool object)
{
	char close = object ? '}' : ']';
	int self = json_node_add(j, object ? JSON_OBJECT : JSON_ARRAY, j->p, 0), last = -1;

	if (self < 0 || depth >= JSON_DEPTH_MAX)
		return -1;
	j->p++;
	for (json_space(j); j->p < j->end && *j->p != close; json_space(j)) {
		int first, item;

		if (last >= 0) {
			if (*j->p++ != ',')
				return -1;
			json_space(j);
		}
		first = item = object && j->p < j->end && *j->p != '"' ? -1 : json_value(j, depth + 1);
		if (first >= 0 && object) {
			json_space(j);
			if (j->p >= j->end || *j->p++ != ':')
				return -1;
			item = json_value(j, depth + 1);
			j->node[first].next = item;
		}
		if (first < 0 || item < 0)
			return -1;
		*(last < 0 ? &j->node[self].child : &j->node[last].next) = first;
		last = item;
	}
	if (j->p >= j->end)
		return -1;
	j->p++;
	return self;
}

static int json_value(struct json *j, int depth)
{
	json_space(j);
	if (j->p >= j->end)
		return -1;
	switch (*j->p) {
	case '{':
		return json_bracket(j, depth, true);
	case '[':
		return json_bracket(j, depth, false);
	case '"':
		return json_string(j);
	case 't':
		return json_word(j, "true", JSON_TRUE);
	case 'f':
		return json_word(j, "false", JSON_FALSE);
	case 'n':
		return json_word(j, "null", JSON_NULL);
	default:
		return json_number(j);
	}
}

/* True if [p, p + n) is one JSON document; its root is node 0. */
static bool json_parse(struct json *j, const char *p, size_t n)
{
	j->count = 0;
	j->p = p;
	j->end = p + n;
	if (json_value(j, 0) != 0)
		return false;
	json_space(j);
	return j->p == j->end;
}

/* The value of a key of an object; -1 where there is none, or where `at` is no object. */
static int json_get(const struct json *j, int at, const char *key)
{
	size_t n = strlen(key);

	if (at < 0 || j->node[at].type != JSON_OBJECT)
		return -1;
	for (int k = j->node[at].child; k >= 0; k = j->node[j->node[k].next].next)
		if (j->node[k].n == n && !memcmp(j->node[k].p, key, n))
			return j->node[k].next;
	return -1;
}

static bool json_is(const struct json *j, int at, enum json_type type)
{
	return at >= 0 && j->node[at].type == type;
}

static long json_long(const struct json *j, int at, long absent)
{
	return json_is(j, at, JSON_NUMBER) ? strtol(j->node[at].p, NULL, 10) : absent;
}

static unsigned json_hex4(const char *p)
{
	unsigned v = 0;

	for (int i = 0; i < 4; i++)
		v = v << 4 | (unsigned)(isdigit((unsigned char)p[i]) ? p[i] - '0' : (p[i] | 32) - 'a' + 10);
	return v;
}

/* Appends the text of a string node, unescaped; lone surrogates become U+FFFD. */
static void json_text(const struct json *j, int at, struct buf *out)
{
	const char *p = j->node[at].p, *end = p + j->node[at].n;

	while (p < end) {
		static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
		const char *run = memchr(p, '\\', (size_t)(end - p));
		const char *hit;
		unsigned c, low;

		run = run ? run : end;
		buf_add(out, p, (size_t)(run - p));
		p = run;
		if (p == end)
			return;
		if (p[1] != 'u') {
			hit = strchr(from, p[1]);
			buf_add(out, hit ? &to[hit - from] : &p[1], 1);
			p += 2;
			continue;
		}
		if (end - p < 6)
			return;
		c = json_hex4(p + 2);
		p += 6;
		if (c >= 0xd800 && c < 0xdc00 && end - p >= 6 && p[0] == '\\' && p[1] == 'u') {
			low = json_hex4(p + 2);
			if (low >= 0xdc00 && low < 0xe000) {
				c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
				p += 6;
			}
		}
		buf_add_utf8(out, c >= 0xd800 && c < 0xe000 ? 0xfffd : c);
	}
}

#endif
