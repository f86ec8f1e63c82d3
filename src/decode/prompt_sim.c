/*
 * prompt_sim.c - simhash (Charikar 2002) over the words of a text.
 *
 * Features are words and pairs of words, each counted once however often it stands there, so that the little words that every
 * text has do not make all texts alike. Numbers are all one word, and case does not matter: what a template fills in is little. Where
 * words are not parted by blanks each character is one.
 */
#include "decode/prompt.h"

#define PLANES 13	  /* of a counter of up to 4 * PROMPT_TEXT_MAX / 2 */
#define SEEN_BITS 16384u  /* a feature is new with a chance of error of 1 in 8 in the longest text */
#define WORD_WEIGHT 1	  /* log2 */
#define PAIR_WEIGHT 0

struct votes {
	uint64_t plane[PLANES]; /* bit i of all of them: how many features have bit i set */
	uint32_t total;
	uint64_t seen[SEEN_BITS / 64];
};

static uint64_t mix(uint64_t h)
{
	h ^= h >> 32;
	h *= UINT64_C(0xd6e8feb86659fd93);
	h ^= h >> 32;
	h *= UINT64_C(0xd6e8feb86659fd93);
	return h ^ h >> 32;
}

static void vote(struct votes *v, uint64_t h, unsigned weight)
{
	uint32_t at = (uint32_t)(h >> 20) % SEEN_BITS;
	uint64_t carry = h, bit = UINT64_C(1) << at % 64;

	if (v->seen[at / 64] & bit)
		return;
	v->seen[at / 64] |= bit;
	v->total += 1u << weight;
	for (unsigned i = weight; carry && i < PLANES; i++) {
		uint64_t both = v->plane[i] & carry;

		v->plane[i] ^= carry;
		carry = both;
	}
}

static uint64_t majority(const struct votes *v)
{
	uint64_t out = 0;

	for (int bit = 0; bit < 64; bit++) {
		uint32_t n = 0;

		for (int i = 0; i < PLANES; i++)
			n |= (uint32_t)(v->plane[i] >> bit & 1) << i;
		out |= (uint64_t)(2 * n > v->total) << bit;
	}
	return out;
}

/* Bytes of the next word at p, 0: a byte that is none of one. Characters of Chinese and Japanese are words by themselves. */
static size_t word_at(const char *p, size_t n, uint64_t *ret_h)
{
	uint64_t h = 0;
	size_t i = 0;

	if ((unsigned char)*p >= 0xe3 && (unsigned char)*p <= 0xe9 && n >= 3) {
		*ret_h = (uint64_t)(unsigned char)p[0] << 16 | (uint64_t)(unsigned char)p[1] << 8 | (unsigned char)p[2];
		return 3;
	}
	for (; i < n; i++) {
		unsigned char c = (unsigned char)p[i];

		if (c >= '0' && c <= '9')
			c = '0';
		else if (c >= 'A' && c <= 'Z')
			c |= 32;
		else if (!((c >= 'a' && c <= 'z') || (c >= 0x80 && (i == 0 || c < 0xe3 || c > 0xe9))))
			break;
		if (c == '0' && i && p[i - 1] >= '0' && p[i - 1] <= '9')
			continue;
		h = (h ^ c) * UINT64_C(0x100000001b3);
	}
	*ret_h = h;
	return i;
}

uint64_t prompt_sim(uint64_t seed, struct span text)
{
	struct votes v = { 0 };
	uint64_t last = 0, h;

	for (size_t i = 0; i < text.n;) {
		size_t n = word_at(text.p + i, text.n - i, &h);

		if (!n) {
			i++;
			continue;
		}
		h = mix(h ^ seed);
		vote(&v, h, WORD_WEIGHT);
		vote(&v, mix(last + 3 * h), PAIR_WEIGHT);
		last = h;
		i += n;
	}
	if (!v.total)
		return 0;
	h = majority(&v);
	return h ? h : 1; /* 0 is none */
}
