/*
 * attacks.h - the twelve classes, each in several ways.
 *
 * `x` is the intensity: how many times the quantity that the class is about (docs/lab.md has the table). Each function
 * places one event at `t` and answers its end, or a negative number where this site has nobody to whom it could happen.
 * Variants marked `held` are drawn by test seeds only.
 */
#ifndef LAB_ATTACKS_H
#define LAB_ATTACKS_H

#include "attacks_many.h"
#include "attacks_one.h"
#include "attacks_site.h"

static const struct attack lab_attacks[] = {
	{ "flood", 0, 30, 7200, 1.5, 10, place_flood,
	  { { "one", 0 }, { "few", 0 }, { "runaway", 0 }, { "pulsed", 0 }, { "ramp", 0 }, { "keys", 1 }, { "empty", 1 }, { "net", 1 } } },
	{ "ddos", 0, 45, 7200, 1.5, 10, place_ddos,
	  { { "few", 0 }, { "wide", 0 }, { "pulsed", 0 }, { "junk", 0 }, { "ramp", 0 }, { "polite", 1 }, { "v6", 1 }, { "rotating", 1 } } },
	{ "flash_crowd", 0, 600, 10800, 1.5, 6, place_crowd,
	  { { "launch", 0 }, { "news", 0 }, { "spot", 0 }, { "calendar", 0 }, { "classroom", 1 }, { "return", 1 } } },
	{ "cost_spike", 0, 120, 21600, 2, 10, place_cost,
	  { { "prompts", 0 }, { "answers", 0 }, { "both", 0 }, { "loop", 0 }, { "reasoning", 1 }, { "files", 1 }, { "slow", 1 } } },
	{ "scraping", HAS_PROMPT | HAS_LIMIT, 180, 21600, 1.5, 10, place_scraping,
	  { { "new", 0 }, { "known", 0 }, { "logprobs", 0 }, { "slow", 0 }, { "pauses", 0 }, { "addresses", 1 }, { "jitter", 1 } } },
	{ "prompt_probing", HAS_PROMPT, 120, 7200, 1.5, 10, place_probing,
	  { { "new", 0 }, { "known", 0 }, { "slow", 0 }, { "bursts", 0 }, { "addresses", 1 }, { "mild", 1 } } },
	{ "credential_abuse", HAS_STATUS, 60, 7200, 1.5, 10, place_credentials,
	  { { "guess", 0 }, { "none", 0 }, { "few", 0 }, { "spray", 1 }, { "slow", 1 } } },
	{ "key_sharing", HAS_KEY, 300, 86400, 1.5, 10, place_sharing,
	  { { "stolen", 0 }, { "sold", 0 }, { "wide", 0 }, { "slow", 1 }, { "agent", 1 } } },
	{ "token_growth", 0, 7200, 432000, 1.3, 3, place_growth,
	  { { "model", 0 }, { "key", 0 }, { "global", 0 }, { "answers", 1 }, { "customer", 0 }, { "stays", 1 } } },
	{ "latency_regression", HAS_LATENCY, 180, 43200, 1.3, 3, place_latency,
	  { { "both", 0 }, { "first", 0 }, { "tokens", 0 }, { "ramp", 0 }, { "pulsed", 1 }, { "mild", 1 } } },
	{ "error_burst", HAS_STATUS, 30, 7200, 1.5, 10, place_errors,
	  { { "model", 0 }, { "global", 0 }, { "stream", 0 }, { "pulsed", 1 }, { "ramp", 1 } } },
	{ "traffic_drop", 0, 180, 21600, 1.5, 10, place_drop,
	  { { "all", 0 }, { "customer", 0 }, { "silence", 0 }, { "ramp", 1 }, { "flapping", 1 } } },
};
#define LAB_ATTACKS ((int)(sizeof(lab_attacks) / sizeof(lab_attacks[0])))

static inline int attack_find(const char *name)
{
	for (int i = 0; i < LAB_ATTACKS; i++)
		if (!strcmp(lab_attacks[i].name, name))
			return i;
	return -1;
}

/* A variant that this seed may use. */
static inline int variant_pick(struct lab *lab, const struct attack *a)
{
	for (;;) {
		int i = rnd_int(&lab->r, (int)(sizeof(a->variant) / sizeof(a->variant[0])));

		if (a->variant[i].name && (lab->test || !a->variant[i].held))
			return i;
	}
}

#endif
