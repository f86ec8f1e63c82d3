/*
 * Any body through any dialect's paths, and any text through the score: features stay in their ranges, the same bytes give the same
 * ones, and nothing of one prompt is left for the next. First byte: the dialect; second: where the gap between both ends is.
 */
#include "decode/dialect.h"
#include "decode/prompt.h"
#include "decode/prompt_score.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static struct prompt *prompt;
static struct prompt_scorer *scorer;

static void check(const struct prompt_features *f)
{
	if (!(f->injection >= 0 && f->injection <= 1) || !(f->entropy >= 0 && f->entropy <= 8))
		abort();
	if (!f->found && (f->hash || f->sim || f->entropy > 0 || f->injection > 0))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const uint8_t key[SIPHASH_KEY_BYTES] = "fuzz";
	struct prompt_features f, g;
	struct span text, tail = { 0 };
	const struct dialect *rows;
	size_t rows_n, gap;
	uint64_t rules;
	double v;

	if (!prompt && (prompt_new(key, &prompt) < 0 || !(scorer = prompt_scorer_new())))
		abort();
	if (n < 2 || n > 16384)
		return 0;
	rows = dialect_rows(&rows_n);
	text = (struct span){ (const char *)data + 2, n - 2 };
	gap = text.n * data[1] / 256;
	if (data[1] & 1)
		tail = (struct span){ text.p + gap, text.n - gap };
	rows += data[0] % rows_n;
	if (rows->shape) {
		struct span head = { text.p, tail.n ? gap / 2 : text.n };

		prompt_read(prompt, rows->shape, head, tail, n, &f);
		check(&f);
		prompt_read_text(prompt, text, &g);
		prompt_read(prompt, rows->shape, head, tail, n, &g);
		if (memcmp(&f, &g, sizeof(f)))
			abort();
	}
	prompt_read_text(prompt, text, &f);
	check(&f);
	v = prompt_score(scorer, text, &rules);
	if (!(v >= 0 && v <= 1) || (v > 0 && !rules))
		abort();
	return 0;
}
