/* prompt_rules.c - the table of words behind a hash, and the rules over it. */
#include "decode/prompt_rules.h"

#include "base/str.h"
#include "decode/prompt_letters.h"
#include "decode/prompt_score.h"
#include "decode/prompt_table.h"

#define SLOTS 4096u	   /* twice the entries of the table, see prompt_scorer_new() */
#define NOWHERE (-1000000)

struct slot {
	uint64_t hash;
	uint32_t classes; /* 0: free */
};

struct prompt_scorer {
	struct slot slot[SLOTS];
	uint64_t filter[1024]; /* of hashes: nearly everything asked for is not there */
	uint32_t used;
	bool full;
};

static uint64_t spread(uint64_t h)
{
	h ^= h >> 31;
	h *= UINT64_C(0xd6e8feb86659fd93);
	return h ^ h >> 29;
}

static uint32_t filter_bit(uint64_t hash)
{
	return (uint32_t)(hash ^ hash >> 40) % (1024 * 64);
}

uint32_t prompt_classes(const struct prompt_scorer *s, uint64_t hash)
{
	uint32_t bit = filter_bit(hash);

	if (!(s->filter[bit / 64] >> bit % 64 & 1))
		return 0;
	for (uint32_t i = (uint32_t)spread(hash) % SLOTS; s->slot[i].classes; i = (i + 1) % SLOTS)
		if (s->slot[i].hash == hash)
			return s->slot[i].classes;
	return 0;
}

static void table_add(struct prompt_scorer *s, uint64_t hash, enum word_class cls)
{
	uint32_t i = (uint32_t)spread(hash) % SLOTS, bit = filter_bit(hash);

	while (s->slot[i].classes && s->slot[i].hash != hash)
		i = (i + 1) % SLOTS;
	if (!s->slot[i].classes && ++s->used > SLOTS / 2)
		s->full = true;
	if (s->full)
		return;
	s->slot[i].hash = hash;
	s->slot[i].classes |= CLASS_BIT(cls);
	s->filter[bit / 64] |= UINT64_C(1) << bit % 64;
}

uint64_t prompt_hash_bytes(const char *p, size_t n)
{
	uint64_t h = HASH_START;

	for (size_t i = 0; i < n; i++)
		h = (h ^ (unsigned char)p[i]) * HASH_STEP;
	return h;
}

uint64_t prompt_hash_phrase(const uint64_t *newest_first, unsigned n)
{
	uint64_t h = n;

	for (unsigned i = n; i--;)
		h = spread(h * HASH_STEP ^ newest_first[i]);
	return h;
}

/* ---- rules ----------------------------------------------------------------------------------------- */
/* The newest place of a class of this term, not at a place taken, within reach; NOWHERE. */
static int32_t term_place(const struct lane *l, uint32_t term, int32_t at, int32_t reach, const int32_t *taken, unsigned n)
{
	int32_t best = NOWHERE;

	for (; term; term &= term - 1) {
		unsigned k = (unsigned)__builtin_ctz(term);

		for (int which = 0; which < 2; which++) {
			int32_t place = which ? l->before[k] : l->last[k];
			bool free = place > best && at - place <= reach;

			for (unsigned i = 0; i < n; i++)
				free &= taken[i] != place;
			if (free)
				best = place;
		}
	}
	return best;
}

static bool rule_holds(const struct lane *l, const struct rule *r, int32_t at)
{
	int32_t taken[TERMS_MAX];
	unsigned n;

	for (n = 0; n < TERMS_MAX && r->term[n]; n++) {
		taken[n] = term_place(l, r->term[n], at, r->within, taken, n);
		if (taken[n] == NOWHERE)
			return false;
	}
	for (unsigned i = 1; (r->flags & IN_ORDER) && i < n; i++)
		if (taken[i] < taken[0])
			return false;
	return true;
}

void lane_init(struct lane *l)
{
	*l = (struct lane){ 0 };
	for (int i = 0; i < CLASS_OF_WORDS_COUNT; i++)
		l->last[i] = l->before[i] = NOWHERE;
}

void lane_hit(struct lane *l, uint32_t classes, int32_t at, bool quoted, bool disguised)
{
	uint32_t now = classes;

	l->about += classes >> ABOUT & 1;
	l->met |= classes;
	for (; classes; classes &= classes - 1) {
		unsigned k = (unsigned)__builtin_ctz(classes);

		if (l->last[k] == at)
			continue;
		l->before[k] = l->last[k];
		l->last[k] = at;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(rules); i++) {
		const struct rule *r = &rules[i];
		bool first = !(l->rules >> i & 1);

		if (!((r->term[0] | r->term[1] | r->term[2] | r->term[3]) & now) || (!first && r->makes < 0 && !(l->quoted >> i & 1)) || !rule_holds(l, r, at))
			continue;
		l->rules |= UINT64_C(1) << i;
		if (!quoted)
			l->quoted &= ~(UINT64_C(1) << i);
		else if (first)
			l->quoted |= UINT64_C(1) << i;
		l->disguised |= disguised;
		if (r->makes >= 0 && l->last[r->makes] != at) {
			l->before[r->makes] = l->last[r->makes];
			l->last[r->makes] = at;
			now |= CLASS_BIT(r->makes); /* its rules stand further down, or are asked at the next word */
		}
	}
}

bool lane_holds(const struct lane *l, double weight)
{
	for (unsigned i = 0; i < ARRAY_SIZE(rules); i++)
		if ((l->rules >> i & 1) && (double)rules[i].weight >= weight)
			return true;
	return false;
}

double lane_score(const struct lane *l, uint32_t odd, uint64_t *ret_rules)
{
	double plain = 1, quoted = 1;
	bool about = l->about >= ABOUT_WORDS;

	for (unsigned i = 0; i < ARRAY_SIZE(rules); i++) {
		if (!(l->rules >> i & 1))
			continue;
		if (l->quoted >> i & 1)
			quoted *= 1 - (double)rules[i].weight;
		else
			plain *= 1 - (double)rules[i].weight;
	}
	for (unsigned i = 0; i < ODD_COUNT; i++)
		if (odd >> i & 1)
			plain *= 1 - (double)oddities[i].weight;
	plain = (1 - plain) * (double)(about ? SPEAKS_ABOUT : 1.0f);
	quoted = (1 - quoted) * (double)(l->about ? QUOTED_ABOUT : QUOTED);
	*ret_rules = l->rules | (uint64_t)odd << ARRAY_SIZE(rules);
	return 1 - (1 - plain) * (1 - quoted);
}

/* ---- life ------------------------------------------------------------------------------------------ */
static void table_word(struct prompt_scorer *s, enum word_class cls, const char *p, size_t n)
{
	uint64_t part[PHRASE_WORDS], back[PHRASE_WORDS];
	unsigned parts = 0;
	size_t len;

	if (letter_is_ideograph(letter_decode(p, n, &len)) || p[n - 1] == '*') {
		table_add(s, prompt_hash_bytes(p, n - (p[n - 1] == '*' && !memchr(p, '_', n) ? 1u : 0u)), cls);
		if (!memchr(p, '_', n))
			return;
	}
	while (n && parts < PHRASE_WORDS) {
		const char *end = memchr(p, '_', n);

		len = end ? (size_t)(end - p) : n;
		part[parts++] = prompt_hash_bytes(p, len - (p[len - 1] == '*')) ^ HASH_WHOLE;
		p += len + (end ? 1 : 0);
		n -= len + (end ? 1 : 0);
	}
	for (unsigned i = 0; i < parts; i++)
		back[i] = part[parts - 1 - i];
	table_add(s, parts == 1 ? part[0] : prompt_hash_phrase(back, parts), cls);
}

struct prompt_scorer *prompt_scorer_new(void)
{
	struct prompt_scorer *s = calloc(1, sizeof(*s));

	_Static_assert(ARRAY_SIZE(rules) + ODD_COUNT <= 64, "one bit each");
	_Static_assert(CLASS_OF_WORDS_COUNT <= 32, "one bit each");
	if (!s)
		return NULL;
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		const char *p = words[i].list;

		while (*p) {
			size_t n = strcspn(p, " ");

			table_word(s, words[i].cls, p, n);
			p += n + strspn(p + n, " ");
		}
	}
	if (s->full) /* a test builds it: SLOTS is too small */
		return prompt_scorer_free(s);
	return s;
}

struct prompt_scorer *prompt_scorer_free(struct prompt_scorer *s)
{
	free(s);
	return NULL;
}

const char *prompt_rule_name(unsigned rule)
{
	if (rule < ARRAY_SIZE(rules))
		return rules[rule].name;
	rule -= (unsigned)ARRAY_SIZE(rules);
	return rule < ODD_COUNT ? oddities[rule].name : NULL;
}

static void write_list(struct str *out, const char *list)
{
	while (*list) {
		size_t n = strcspn(list, " ");

		str_adds(out, " ");
		for (size_t i = 0; i < n; i++)
			str_addc(out, list[i] == '_' ? ' ' : list[i]);
		list += n + strspn(list + n, " ");
		str_adds(out, *list ? "," : "");
	}
}

void prompt_score_write_docs(struct str *out)
{
	static const char *const names[CLASS_OF_WORDS_COUNT] = {
		[OVERRIDE] = "set aside", [OVERRIDE_LATE] = "set aside (verb last)", [PRIOR] = "earlier", [YOUR] = "your", [EVERYTHING] = "everything", [RULES] = "rules", [LIMITS] = "limits",
		[REVEAL] = "show", [SYSPROMPT] = "system prompt", [HIDDEN] = "hidden", [ABOVE] = "the text above", [VERBATIM] = "word for word", [BECOME] = "be somebody", [WITHOUT] = "without",
		[WITHOUT_LATE] = "without (behind its noun)", [UNBOUND] = "without limits", [FAMOUS] = "known jailbreak", [NEVER] = "never", [REFUSE] = "refuse", [BEGIN_WITH] = "begin with",
		[SURE] = "sure, here", [OBEY] = "obey", [ONLY_ME] = "only me", [AI] = "a machine", [NOTE_TO] = "speaks to the reader", [SEND] = "send", [SECRETS] = "secrets",
		[AUTHORITY] = "authority", [DISABLE] = "switch off", [DECODE] = "decode", [ABOUT] = "speaks of attacks",
	};

	str_adds(out, "### Rules of words\n\n| rule | words of these classes near each other | half words | weight |\n|---|---|---|---|\n");
	for (size_t i = 0; i < ARRAY_SIZE(rules); i++)
		str_addf(out, "| `%s` | %s%s | %u | %.2f |\n", rules[i].name, rules[i].what, rules[i].flags & IN_ORDER ? ", the first first" : "", rules[i].within, (double)rules[i].weight);
	str_adds(out, "\n### What is not words\n\n| rule | what | weight |\n|---|---|---|\n");
	for (size_t i = 0; i < ODD_COUNT; i++)
		str_addf(out, "| `%s` | %s | %.2f |\n", oddities[i].name, oddities[i].what, (double)oddities[i].weight);
	str_adds(out, "\n### Classes of words\n\n`*`: any ending. Accents do not count.\n\n| class | language | words |\n|---|---|---|\n");
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		str_addf(out, "| %s | %s |", names[words[i].cls], words[i].language);
		write_list(out, words[i].list);
		str_adds(out, " |\n");
	}
}
