/*
 * prompt_rules.h - which words belong to what, and which of them near each other mean something. The table itself is prompt_table.h.
 *
 * A lane is one reading of a text: the plain one, or that of rot13. It is told of classes of words in the order of the text.
 */
#ifndef WEIR_DECODE_PROMPT_RULES_H
#define WEIR_DECODE_PROMPT_RULES_H

#include "base/util.h"

#define PHRASE_WORDS 6
#define CLASS_BIT(x) (UINT32_C(1) << (x))

enum word_class {
	OVERRIDE,  /* to set aside */
	OVERRIDE_LATE, /* the same in languages that put the verb last */
	PRIOR,	   /* what was said before */
	YOUR,
	EVERYTHING,
	RULES,	   /* what a model is told to do */
	LIMITS,	   /* what it is told not to */
	REVEAL,
	SYSPROMPT, /* system prompt */
	HIDDEN,
	ABOVE,	   /* the text above */
	VERBATIM,
	BECOME,	   /* be somebody else */
	WITHOUT,
	WITHOUT_LATE, /* the same behind what is missing */
	UNBOUND,   /* without limits; also made by rules */
	FAMOUS,	   /* names of well-known jailbreaks */
	NEVER,
	REFUSE,
	NO_REFUSAL, /* made by a rule */
	BEGIN_WITH,
	SURE,
	OBEY,
	ONLY_ME,
	AI,
	NOTE_TO,   /* speaks to whatever reads the text */
	SEND,
	SECRETS,
	AUTHORITY,
	DISABLE,
	DECODE,
	ABOUT,	   /* speaks of attacks */
	CLASS_OF_WORDS_COUNT,
};

/* What is not words. */
enum oddity {
	ODD_TOKEN,
	ODD_TURN,
	ODD_DIALOGUE,
	ODD_MANY,
	ODD_TAGS,
	ODD_ZERO_WIDTH,
	ODD_MIXED,
	ODD_FANCY,
	ODD_BIDI,
	ODD_ENCODED,
	ODD_BLOB,
	ODD_ROT13,
	ODD_DISGUISED,
	ODD_SUFFIX,
	ODD_COUNT,
};

#define HASH_START UINT64_C(0xcbf29ce484222325)
#define HASH_STEP UINT64_C(0x100000001b3)
#define HASH_WHOLE UINT64_C(0x9e3779b97f4a7c15) /* told apart from the same bytes as the beginning of a word */

struct prompt_scorer;

/* Classes of what has this hash: a word's beginning (FNV-1a of its bytes), a whole word (the same ^ HASH_WHOLE), a phrase; 0: none. */
uint32_t prompt_classes(const struct prompt_scorer *s, uint64_t hash);
uint64_t prompt_hash_bytes(const char *p, size_t n);
uint64_t prompt_hash_phrase(const uint64_t *newest_first, unsigned n); /* of whole words */

/* One reading of a text: the plain one, or that of rot13. */
struct lane {
	int32_t last[CLASS_OF_WORDS_COUNT], before[CLASS_OF_WORDS_COUNT]; /* places of the newest two, in half words */
	uint64_t rules;	 /* bits of those that held */
	uint64_t quoted; /* of these, the ones that held only within quotation marks */
	uint32_t met;	 /* classes seen anywhere */
	uint32_t about;	 /* words that speak of attacks */
	bool disguised;  /* a word of a rule that holds was */
};

void lane_init(struct lane *l);
/* A word of these classes at this place (in half words). */
void lane_hit(struct lane *l, uint32_t classes, int32_t at, bool quoted, bool disguised);
/* A rule of this weight or more holds. */
bool lane_holds(const struct lane *l, double weight);
/* The score of a lane and of oddities (bits). */
double lane_score(const struct lane *l, uint32_t odd, uint64_t *ret_rules);

#endif
