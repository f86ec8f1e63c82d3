/* corpus.h - tests/fixtures/prompts: a kind, a language and a prompt with \n, \\ and \UXXXXXXXX escaped, on each line. */
#ifndef PROMPTS_CORPUS_H
#define PROMPTS_CORPUS_H

#include "base/util.h"

#define CORPUS_MAX 512

struct corpus_prompt {
	char kind[32], language[8];
	bool attack;
	struct span text;
};

struct corpus {
	char name[32];
	struct corpus_prompt prompt[CORPUS_MAX];
	size_t n;
};

static inline size_t corpus_utf8(uint32_t c, char *out)
{
	if (c < 0x80)
		return (size_t)(out[0] = (char)c, 1);
	if (c < 0x800)
		return (size_t)(out[0] = (char)(0xc0 | c >> 6), out[1] = (char)(0x80 | (c & 63)), 2);
	if (c < 0x10000)
		return (size_t)(out[0] = (char)(0xe0 | c >> 12), out[1] = (char)(0x80 | (c >> 6 & 63)), out[2] = (char)(0x80 | (c & 63)), 3);
	return (size_t)(out[0] = (char)(0xf0 | c >> 18), out[1] = (char)(0x80 | (c >> 12 & 63)), out[2] = (char)(0x80 | (c >> 6 & 63)), out[3] = (char)(0x80 | (c & 63)), 4);
}

/* In place. */
static inline size_t corpus_unescape(char *p)
{
	size_t n = 0;

	for (const char *q = p; *q;) {
		char *end, hex[9] = "";

		if (*q != '\\') {
			p[n++] = *q++;
		} else if (q[1] == 'U' && strlen(q) >= 10) {
			memcpy(hex, q + 2, 8);
			n += corpus_utf8((uint32_t)strtoul(hex, &end, 16), p + n);
			q += 10;
		} else {
			p[n++] = q[1] == 'n' ? '\n' : q[1] == 't' ? '\t' : q[1];
			q += q[1] ? 2 : 1;
		}
	}
	return n;
}

/* 0 or -1. */
static inline int corpus_read(const char *path, struct corpus *c)
{
	const char *base = strrchr(path, '/');
	FILE *f = fopen(path, "r");
	char *line = NULL;
	size_t cap = 0;

	if (!f)
		return -1;
	snprintf(c->name, sizeof(c->name), "%.*s", (int)strcspn(base ? base + 1 : path, "."), base ? base + 1 : path);
	while (getline(&line, &cap, f) > 0 && c->n < CORPUS_MAX) {
		struct corpus_prompt *p = &c->prompt[c->n];
		char *language, *text;

		line[strcspn(line, "\n")] = 0;
		language = strchr(line, '\t');
		text = language ? strchr(language + 1, '\t') : NULL;
		if (*line == '#' || !text)
			continue;
		*language++ = *text++ = 0;
		p->attack = !strncmp(line, "attack:", 7);
		snprintf(p->kind, sizeof(p->kind), "%s", strchr(line, ':') ? strchr(line, ':') + 1 : line);
		snprintf(p->language, sizeof(p->language), "%s", language);
		text = strdup(text);
		if (!text)
			break;
		p->text = (struct span){ text, corpus_unescape(text) };
		c->n++;
	}
	free(line);
	fclose(f);
	return 0;
}

static inline void corpus_done(struct corpus *c)
{
	for (size_t i = 0; i < c->n; i++)
		free((void *)(uintptr_t)c->prompt[i].text.p);
	c->n = 0;
}

#endif
