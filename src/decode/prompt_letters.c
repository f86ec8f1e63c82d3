/* prompt_letters.c - see prompt_letters.h. */
#include "decode/prompt_letters.h"

#include "base/str.h"

/* Next code point; an invalid byte is itself plus 0x110000, which is no letter. Length in *ret_n. */
uint32_t letter_decode(const char *text, size_t n, size_t *ret_n)
{
	const unsigned char *p = (const unsigned char *)text;
	size_t len = str_utf8_len(text, n);

	*ret_n = len ? len : 1;
	switch (len) {
	case 1:
		return p[0];
	case 2:
		return (uint32_t)(p[0] & 31) << 6 | (p[1] & 63u);
	case 3:
		return (uint32_t)(p[0] & 15) << 12 | (uint32_t)(p[1] & 63) << 6 | (p[2] & 63u);
	case 4:
		return (uint32_t)(p[0] & 7) << 18 | (uint32_t)(p[1] & 63) << 12 | (uint32_t)(p[2] & 63) << 6 | (p[3] & 63u);
	default:
		return 0x110000u + p[0];
	}
}

bool letter_is_ideograph(uint32_t c)
{
	return (c >= 0x3041 && c <= 0x30ff) || (c >= 0x3400 && c <= 0x4dbf) || (c >= 0x4e00 && c <= 0x9fff);
}

bool letter_is_hangul(uint32_t c)
{
	return c >= 0xac00 && c <= 0xd7a3;
}

bool letter_is_invisible(uint32_t c)
{
	return c == 0xad || c == 0x34f || c == 0x180e || (c >= 0x200b && c <= 0x200f) || (c >= 0x2060 && c <= 0x2064) || c == 0xfeff || (c >= 0xfe00 && c <= 0xfe0f);
}

bool letter_is_bidi(uint32_t c)
{
	return (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

/* Small letters without accents, of Latin-1 and Latin Extended-A; ' ': not a letter. */
char letter_latin(uint32_t c)
{
	static const char one[] = "aaaaaaaceeeeiiiidnooooo ouuuuypsaaaaaaaceeeeiiiidnooooo ouuuuypy"; /* U+00C0.. */
	static const char two[] = "aaaaaaccccccccddddeeeeeeeeeegggggggghhhhiiiiiiiiiiiijjkkklllllllllln"
				  "nnnnnnnnoooooooorrrrrrssssssssttttttuuuuuuuuuuuuwwyyyzzzzzzs"; /* U+0100.. */

	if (c >= 0xc0 && c < 0x100)
		return one[c - 0xc0];
	if (c >= 0x100 && c < 0x100 + sizeof(two) - 1)
		return two[c - 0x100];
	return ' ';
}

/* Letters of other alphabets that look like Latin ones. */
char letter_lookalike(uint32_t c)
{
	static const struct {
		uint16_t from;
		char to;
	} map[] = {
		{ 0x430, 'a' }, { 0x435, 'e' }, { 0x43e, 'o' }, { 0x440, 'p' }, { 0x441, 'c' }, { 0x443, 'y' }, { 0x445, 'x' }, { 0x456, 'i' }, { 0x458, 'j' },
		{ 0x455, 's' }, { 0x501, 'd' }, { 0x4bb, 'h' }, { 0x43a, 'k' }, { 0x43c, 'm' }, { 0x442, 't' }, { 0x432, 'b' }, { 0x43d, 'h' }, { 0x3b1, 'a' },
		{ 0x3bf, 'o' }, { 0x3c1, 'p' }, { 0x3bd, 'v' }, { 0x3b9, 'i' }, { 0x3ba, 'k' }, { 0x3c5, 'u' }, { 0x3c4, 't' }, { 0x3b5, 'e' },
	};

	for (size_t i = 0; i < ARRAY_SIZE(map); i++)
		if (map[i].from == c)
			return map[i].to;
	return 0;
}

uint32_t letter_lower(uint32_t c)
{
	if (c >= 0x410 && c <= 0x42f)
		return c + 0x20;
	if (c >= 0x400 && c <= 0x40f)
		c += 0x50;
	if (c == 0x451)
		return 0x435; /* yo is written ye */
	if (c >= 0x391 && c <= 0x3a9)
		return c + 0x20;
	return c;
}

/* Letters that are only drawn differently: full width, mathematical, circled. 0: none of these. */
char letter_fancy(uint32_t c)
{
	if (c >= 0xff21 && c <= 0xff3a)
		return (char)('a' + c - 0xff21);
	if (c >= 0xff41 && c <= 0xff5a)
		return (char)('a' + c - 0xff41);
	if (c >= 0x1d400 && c < 0x1d6a4)
		return (char)('a' + (c - 0x1d400) % 26);
	if (c >= 0x24b6 && c <= 0x24e9)
		return (char)('a' + (c - 0x24b6) % 26);
	if (c >= 0x1f130 && c <= 0x1f149)
		return (char)('a' + c - 0x1f130);
	return 0;
}
