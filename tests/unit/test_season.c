/* A season is used where it helps, and only there. */
#include "detect/season.h"
#include "test_detect_gen.h"

#define BLOCK SEASON_BLOCK_S
#define AN_HOUR 3600

/* `days` of ten-minute counts with a daily course of that size on the log scale, and noise; a Saturday and a Sunday are `weekend` times as busy. */
static void live(struct season *s, struct gen *g, int from_day, int days, double course, double noise, double weekend)
{
	for (int64_t t = (int64_t)from_day * 86400 + BLOCK; t <= (int64_t)(from_day + days) * 86400; t += BLOCK) {
		int day = (int)((t - BLOCK) / 86400 + 3) % 7; /* 1970-01-01 was a Thursday */
		double level = log(600) + course * sin(2 * 3.141592653589793 * (double)t / 86400) + noise * gen_normal(g) + (day >= 5 ? log(weekend) : 0);

		season_learn(s, t, exp(level));
	}
}

static void a_day_is_learnt(void **state)
{
	struct gen g = { .state = 51 };
	struct season s;
	double up, down;

	(void)state;
	season_init(&s);
	live(&s, &g, 0, 1, 0.9, 0.1, 1);
	assert_int_equal(season_used(&s), SEASON_NONE); /* one day is no proof */
	assert_true(season_ratio(&s, 0, 6 * AN_HOUR) == 1 && season_level(&s, 0) == 0);
	live(&s, &g, 1, 2, 0.9, 0.1, 1);
	assert_int_equal(season_used(&s), SEASON_BY_DAY);
	/* From its middle at midnight up to its top at six, and down to its bottom at eighteen. */
	up = season_ratio(&s, 3 * 86400, 3 * 86400 + 6 * AN_HOUR);
	down = season_ratio(&s, 3 * 86400 + 6 * AN_HOUR, 3 * 86400 + 18 * AN_HOUR);
	assert_true(up > 2.0 && up < 3.1);
	assert_true(down > 1 / 3.1 && down < 1 / 2.5); /* bounded: no profile moves it by more */
	assert_true(fabs(season_level(&s, 3 * 86400 + 6 * AN_HOUR) / (60 * exp(0.9)) - 1) < 0.1);
}

static void no_season_is_used_where_there_is_none(void **state)
{
	(void)state;
	for (unsigned int seed = 0; seed < 20; seed++) {
		struct gen g = { .state = 60 + seed };
		struct season s;

		season_init(&s);
		for (int day = 0; day < 12; day++) {
			live(&s, &g, day, 1, 0, 0.3, 1);
			assert_int_equal(season_used(&s), SEASON_NONE);
		}
	}
}

/* It stops at once being usual: the profile loses its trust within days, and a new one is learnt. */
static void a_season_that_ends(void **state)
{
	struct gen g = { .state = 52 };
	struct season s;

	(void)state;
	season_init(&s);
	live(&s, &g, 0, 6, 0.9, 0.1, 1);
	assert_int_equal(season_used(&s), SEASON_BY_DAY);
	live(&s, &g, 6, 3, 0, 0.1, 1);
	assert_int_equal(season_used(&s), SEASON_NONE);
	live(&s, &g, 9, 8, 0.9, 0.1, 1);
	assert_true(season_used(&s) != SEASON_NONE);
}

/* Busy office hours on five days of seven: the week knows, the day does not. */
static void a_week_is_learnt(void **state)
{
	struct gen g = { .state = 53 };
	struct season s;

	(void)state;
	season_init(&s);
	for (int day = 0; day < 28; day++)
		live(&s, &g, day, 1, (day + 3) % 7 >= 5 ? 0.05 : 1.0, 0.08, 0.3);
	assert_int_equal(season_used(&s), SEASON_BY_WEEK);
	/* Day 28 is a Thursday, day 30 a Saturday. */
	assert_true(season_ratio(&s, 28 * 86400, 28 * 86400 + 6 * AN_HOUR) > 2);
	assert_true(season_ratio(&s, 30 * 86400 + 2 * AN_HOUR, 30 * 86400 + 6 * AN_HOUR) < 1.3);
}

/* What says nothing teaches nothing: incidents, half hours, gaps. */
static void gaps_teach_nothing(void **state)
{
	struct gen g = { .state = 54 };
	struct season s, before;

	(void)state;
	season_init(&s);
	live(&s, &g, 0, 4, 0.9, 0.1, 1);
	before = s;
	for (int64_t t = 4 * 86400 + BLOCK; t <= 5 * 86400; t += BLOCK)
		season_learn(&s, t, -1);
	for (int64_t t = 6 * 86400 + BLOCK; t <= 7 * 86400; t += 2 * BLOCK)
		season_learn(&s, t, 100000);
	assert_memory_equal(s.day, before.day, sizeof(s.day));
	assert_memory_equal(s.week, before.week, sizeof(s.week));
	assert_memory_equal(s.error, before.error, sizeof(s.error));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_day_is_learnt),
		cmocka_unit_test(no_season_is_used_where_there_is_none),
		cmocka_unit_test(a_season_that_ends),
		cmocka_unit_test(a_week_is_learnt),
		cmocka_unit_test(gaps_teach_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
