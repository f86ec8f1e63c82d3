/*
 * lm.h - a small language model: byte-pair tokens learnt from the corpus, and a trigram model over them.
 *
 * Small, but it is what it says: prompts are tokenized, answers are sampled token by token until the
 * model ends its text or the limit comes, and every count that the server reports is a count of these
 * tokens. Built once before the threads start; read-only afterwards.
 */
#ifndef MODELSERVER_LM_H
#define MODELSERVER_LM_H

#include <stdbool.h>
#include <stdint.h>

#include "buf.h"
#include "corpus.h"

#define LM_VOCAB_MAX 1024   /* 256 bytes, the end of text, and what the corpus is worth learning */
#define LM_EOS 256
#define LM_WORD_MAX 32      /* bytes of one pre-token: bounds the merging loop */
#define LM_MERGE_SLOTS 4096 /* four times the merges */
#define LM_CORPUS_MAX 32768 /* tokens; the corpus has about a fifth of it */
#define LM_PAIR_SLOTS 65536

struct lm_merge {
	uint32_t pair; /* left << 16 | right; 0: free (a pair of NUL bytes is never merged) */
	uint16_t id;
};

struct lm {
	char text[LM_VOCAB_MAX][LM_WORD_MAX];
	uint8_t len[LM_VOCAB_MAX];
	uint32_t vocab;
	struct lm_merge merge[LM_MERGE_SLOTS];
	uint16_t corpus[LM_CORPUS_MAX];
	uint32_t corpus_n;
	uint16_t after[LM_CORPUS_MAX];      /* corpus tokens, grouped by the two before them */
	uint32_t range_key[LM_PAIR_SLOTS];  /* pair + 1 */
	uint32_t range_from[LM_PAIR_SLOTS], range_n[LM_PAIR_SLOTS];
};

static uint32_t lm_hash(uint32_t x)
{
	x *= 0x9e3779b1u;
	return x ^ x >> 15;
}

static uint64_t lm_random(uint64_t *state)
{
	uint64_t x = *state += 0x9e3779b97f4a7c15u;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

static bool lm_is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool lm_is_letter(char c)
{
	return ((c | 32) >= 'a' && (c | 32) <= 'z') || (unsigned char)c >= 0x80;
}

/* Bytes of the first pre-token: a word or up to three digits, with the space before it, or one other byte. */
static size_t lm_word(const char *p, size_t n)
{
	size_t from = p[0] == ' ' && n > 1, i = from;
	bool number = lm_is_digit(p[from]);

	while (i < n && i < LM_WORD_MAX && (number ? i - from < 3 && lm_is_digit(p[i]) : lm_is_letter(p[i])))
		i++;
	return i > from ? i : 1;
}

static struct lm_merge *lm_merge_slot(struct lm *m, uint32_t pair)
{
	uint32_t i = lm_hash(pair) & (LM_MERGE_SLOTS - 1);

	while (m->merge[i].pair && m->merge[i].pair != pair)
		i = (i + 1) & (LM_MERGE_SLOTS - 1);
	return &m->merge[i];
}

/* Tokens of one pre-token into ids (room for LM_WORD_MAX); the earliest learnt merge is applied first. */
static size_t lm_encode_word(struct lm *m, const char *p, size_t n, uint16_t *ids)
{
	for (size_t i = 0; i < n; i++)
		ids[i] = (unsigned char)p[i];
	for (;;) {
		uint32_t best = UINT32_MAX;
		size_t at = 0;

		for (size_t i = 0; i + 1 < n; i++) {
			const struct lm_merge *g = lm_merge_slot(m, (uint32_t)ids[i] << 16 | ids[i + 1]);

			if (g->pair && g->id < best) {
				best = g->id;
				at = i;
			}
		}
		if (best == UINT32_MAX)
			return n;
		ids[at] = (uint16_t)best;
		memmove(&ids[at + 1], &ids[at + 2], (n - at - 2) * sizeof(*ids));
		n--;
	}
}

/* Calls `each` for every token of a text; answers their number. */
static size_t lm_encode(struct lm *m, const char *p, size_t n, void (*each)(void *ctx, uint16_t id), void *ctx)
{
	size_t count = 0;

	while (n) {
		size_t w = lm_word(p, n), k;
		uint16_t ids[LM_WORD_MAX];

		k = lm_encode_word(m, p, w, ids);
		for (size_t i = 0; i < k; i++)
			each(ctx, ids[i]);
		count += k;
		p += w;
		n -= w;
	}
	return count;
}

/* One merge: the most frequent neighbours over all words of the corpus. False when nothing occurs twice. */
static bool lm_learn(struct lm *m, uint32_t *pair_key, uint32_t *pair_n)
{
	uint32_t best = 0, best_n = 1;
	struct lm_merge *slot;

	memset(pair_key, 0, sizeof(*pair_key) * LM_PAIR_SLOTS);
	memset(pair_n, 0, sizeof(*pair_n) * LM_PAIR_SLOTS);
	for (size_t d = 0; d < sizeof(corpus) / sizeof(corpus[0]); d++) {
		const char *p = corpus[d];

		for (size_t n = strlen(p), w; n; p += w, n -= w) {
			uint16_t ids[LM_WORD_MAX];
			size_t k;

			w = lm_word(p, n);
			k = lm_encode_word(m, p, w, ids);
			for (size_t i = 0; i + 1 < k; i++) {
				uint32_t pair = (uint32_t)ids[i] << 16 | ids[i + 1];
				uint32_t h = lm_hash(pair) & (LM_PAIR_SLOTS - 1);

				while (pair_key[h] && pair_key[h] != pair)
					h = (h + 1) & (LM_PAIR_SLOTS - 1);
				pair_key[h] = pair;
				if (++pair_n[h] > best_n || (pair_n[h] == best_n && best && pair < best)) {
					best_n = pair_n[h];
					best = pair;
				}
			}
		}
	}
	if (!best)
		return false;
	slot = lm_merge_slot(m, best);
	*slot = (struct lm_merge){ best, (uint16_t)m->vocab };
	m->len[m->vocab] = (uint8_t)(m->len[best >> 16] + m->len[best & 0xffff]);
	memcpy(m->text[m->vocab], m->text[best >> 16], m->len[best >> 16]);
	memcpy(m->text[m->vocab] + m->len[best >> 16], m->text[best & 0xffff], m->len[best & 0xffff]);
	m->vocab++;
	return true;
}

static void lm_corpus_add(void *ctx, uint16_t id)
{
	struct lm *m = ctx;

	if (m->corpus_n < LM_CORPUS_MAX)
		m->corpus[m->corpus_n++] = id;
}

static uint32_t lm_range(const struct lm *m, uint32_t pair)
{
	uint32_t h = lm_hash(pair) & (LM_PAIR_SLOTS - 1);

	while (m->range_key[h] && m->range_key[h] != pair + 1)
		h = (h + 1) & (LM_PAIR_SLOTS - 1);
	return h;
}

static struct lm *lm_new(void)
{
	struct lm *m = buf_realloc(NULL, sizeof(*m));
	uint32_t *pair_key = buf_realloc(NULL, sizeof(*pair_key) * LM_PAIR_SLOTS);
	uint32_t *pair_n = buf_realloc(NULL, sizeof(*pair_n) * LM_PAIR_SLOTS);
	uint32_t at = 0;

	memset(m, 0, sizeof(*m));
	for (m->vocab = 0; m->vocab < 256; m->vocab++) {
		m->text[m->vocab][0] = (char)m->vocab;
		m->len[m->vocab] = 1;
	}
	m->vocab = LM_EOS + 1;
	while (m->vocab < LM_VOCAB_MAX && lm_learn(m, pair_key, pair_n))
		;
	free(pair_key);
	free(pair_n);

	/* The end of one text is also the beginning of the next: (EOS, EOS) is the context of first words. */
	for (size_t d = 0; d < sizeof(corpus) / sizeof(corpus[0]); d++) {
		lm_corpus_add(m, LM_EOS);
		lm_corpus_add(m, LM_EOS);
		lm_encode(m, corpus[d], strlen(corpus[d]), lm_corpus_add, m);
	}
	lm_corpus_add(m, LM_EOS);
	for (uint32_t i = 2; i < m->corpus_n; i++) {
		uint32_t pair = (uint32_t)m->corpus[i - 2] << 16 | m->corpus[i - 1], h = lm_range(m, pair);

		m->range_key[h] = pair + 1;
		m->range_n[h]++;
	}
	for (uint32_t h = 0; h < LM_PAIR_SLOTS; h++) {
		m->range_from[h] = at;
		at += m->range_n[h];
		m->range_n[h] = 0;
	}
	for (uint32_t i = 2; i < m->corpus_n; i++) {
		uint32_t h = lm_range(m, (uint32_t)m->corpus[i - 2] << 16 | m->corpus[i - 1]);

		m->after[m->range_from[h] + m->range_n[h]++] = m->corpus[i];
	}
	return m;
}

/* ---- one answer ------------------------------------------------------------------------------------ */
struct lm_answer {
	uint64_t random;
	uint16_t before, last;
	uint8_t held_n; /* bytes of a character that is not whole yet */
	char held[4 + LM_WORD_MAX];
};

static void lm_answer_init(struct lm_answer *a, uint64_t seed)
{
	*a = (struct lm_answer){ .random = seed, .before = LM_EOS, .last = LM_EOS };
}

/*
 * The next token. Two chances in sixteen the model loses its thread and goes on from a place of the
 * corpus that fits the last token only, so that answers differ. With `endless` the end of a text is
 * followed by another text.
 */
static uint16_t lm_answer_next(const struct lm *m, struct lm_answer *a, bool endless)
{
	for (;;) {
		uint32_t h = lm_range(m, (uint32_t)a->before << 16 | a->last);
		uint64_t r = lm_random(&a->random);
		uint16_t id;

		if ((r & 15) < 2 && a->last != LM_EOS) {
			uint32_t from = (uint32_t)((r >> 8) % (m->corpus_n - 1)), i = from;

			do
				i = i + 1 < m->corpus_n - 1 ? i + 1 : 0;
			while (i != from && m->corpus[i] != a->last);
			id = m->corpus[i + 1];
		} else {
			id = m->after[m->range_from[h] + (r >> 8) % m->range_n[h]];
		}
		a->before = id == LM_EOS ? LM_EOS : a->last;
		a->last = id;
		if (id != LM_EOS || !endless)
			return id;
	}
}

static size_t lm_utf8_want(unsigned char c)
{
	return c < 0x80 ? 1 : c >= 0xc2 && c < 0xe0 ? 2 : c >= 0xe0 && c < 0xf0 ? 3 : c >= 0xf0 && c < 0xf5 ? 4 : 0;
}

/* Appends the text that has become whole with this token, escaped for JSON; it may be nothing. */
static void lm_answer_text(const struct lm *m, struct lm_answer *a, uint16_t id, bool last, struct buf *out)
{
	size_t i = 0, n = a->held_n + (id == LM_EOS ? 0u : m->len[id]);

	if (id != LM_EOS)
		memcpy(a->held + a->held_n, m->text[id], m->len[id]);
	while (i < n) {
		size_t want = lm_utf8_want((unsigned char)a->held[i]), have = 1;

		while (have < want && i + have < n && (a->held[i + have] & 0xc0) == 0x80)
			have++;
		if (want && have == want)
			buf_add_escaped(out, a->held + i, want);
		else if (want && i + have == n && !last && id != LM_EOS)
			break;
		else
			buf_add_utf8(out, 0xfffd);
		i += have;
	}
	a->held_n = (uint8_t)(n - i);
	memmove(a->held, a->held + i, n - i);
}

#endif
