#include "detect/routine.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "detect/blob.h"
#include "detect/tuning.h"

#define DAY_S INT64_C(86400)
#define TIMES 8 /* incidents remembered of each */

struct routine {
	uint64_t who;
	uint64_t start[TIMES]; /* epoch s; 0: none */
	float requests[TIMES], tokens[TIMES];
	uint16_t next;
};

struct routines {
	struct routine of[ROUTINES];
};

int routine_open(struct routines **ret)
{
	struct routines *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	*ret = r;
	return 0;
}

static uint64_t newest(const struct routine *k)
{
	return k->start[(k->next + TIMES - 1u) % TIMES];
}

void routine_note(struct routines *r, uint64_t who, int64_t start, double requests, double tokens)
{
	struct routine *k = NULL, *oldest = &r->of[0];

	if (start <= 0)
		return;
	for (int i = 0; i < ROUTINES && !k; i++) {
		if (r->of[i].who == who && r->of[i].start[0])
			k = &r->of[i];
		else if (newest(&r->of[i]) < newest(oldest))
			oldest = &r->of[i];
	}
	if (!k) {
		k = oldest;
		*k = (struct routine){ .who = who };
	}
	k->start[k->next] = (uint64_t)start;
	k->requests[k->next] = (float)requests;
	k->tokens[k->next] = (float)tokens;
	k->next = (uint16_t)((k->next + 1u) % TIMES);
}

unsigned int routine_days(const struct routines *r, uint64_t who, int64_t now, double requests, double tokens)
{
	const struct routine *k = NULL;
	unsigned int days = 0;
	double most_requests = 0, most_tokens = 0;

	for (int i = 0; i < ROUTINES && !k; i++)
		if (r->of[i].who == who && r->of[i].start[0])
			k = &r->of[i];
	if (!k)
		return 0;
	for (int ago = 1; ago <= ROUTINE_REACH_DAYS; ago++) {
		bool then = false;

		for (int i = 0; i < TIMES; i++) {
			if (!k->start[i] || llabs(now - ago * DAY_S - (int64_t)k->start[i]) > ROUTINE_WITHIN_S)
				continue;
			then = true;
			most_requests = MAX(most_requests, (double)k->requests[i]);
			most_tokens = MAX(most_tokens, (double)k->tokens[i]);
		}
		days += then;
	}
	return days >= ROUTINE_DAYS && requests <= ROUTINE_MORE * most_requests && tokens <= ROUTINE_MORE * most_tokens ? days : 0;
}

void routine_keep(struct routines *r, struct blob *to)
{
	struct routines *got = to->write ? r : calloc(1, sizeof(*got));
	uint16_t used = 0;

	if (!got) {
		to->bad = true;
		return;
	}
	while (used < ROUTINES && got->of[used].start[0])
		used++;
	blob_u16(to, &used);
	to->bad |= used > ROUTINES;
	for (int i = 0; i < used && !to->bad; i++) {
		struct routine *k = &got->of[i];

		blob_u64(to, &k->who);
		for (int j = 0; j < TIMES; j++)
			blob_u64(to, &k->start[j]);
		blob_f32s(to, k->requests, TIMES);
		blob_f32s(to, k->tokens, TIMES);
		blob_u16(to, &k->next);
		to->bad |= k->next >= TIMES || !k->start[0];
		for (int j = 0; j < TIMES; j++)
			to->bad |= k->start[j] > INT64_MAX / 2 || !(k->requests[j] >= 0) || !(k->tokens[j] >= 0);
	}
	if (to->write)
		return;
	to->bad |= to->n != to->cap;
	if (!to->bad)
		*r = *got;
	free(got);
}
