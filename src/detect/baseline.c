#include "detect/baseline.h"

#include <math.h>

#include "detect/tuning.h"

/* 1 - 2^(-1/half) */
#define RATE(half) (1.0 - exp2(-1.0 / (half)))
#define SMALL 0.25 /* below this expectation a ratio of squares says nothing */

void baseline_init(struct baseline *b, float level, float disp)
{
	*b = (struct baseline){ .fast = level, .slow = level, .disp10 = disp, .disp60 = disp };
}

static double gain(double half, double n)
{
	double a = RATE(half);

	return MAX(a, 1.0 / n);
}

void baseline_learn(struct baseline *b, double x10, double x60, uint32_t n, int8_t *run)
{
	double mu = baseline_expected(b), mu60 = mu * WINDOW_STEPS;
	double sd = sqrt(MAX(mu, SMALL) * MAX(b->disp10, 1.0f)) * CLAMP_SD, d = x10 - mu, x = x10;
	double r;

	/* The first minute has no scale to clamp by; what comes then must not triple the level at one stroke. */
	if (n && n < WINDOW_STEPS) {
		x = MIN(x, 3 * mu + STEP_S);
		d = x - mu;
	}
	if (n >= WINDOW_STEPS && fabs(d) > sd) {
		int8_t sign = d > 0 ? 1 : -1;

		*run = (int8_t)(*run * sign > 0 ? *run + sign : sign);
		if (*run * sign < CLAMP_RUN) {
			x = mu + sign * sd;
			if (x < 0)
				x = 0;
		} else {
			*run = (int8_t)(sign * CLAMP_RUN);
		}
		d = x - mu;
	} else {
		*run = 0;
	}
	if (n) {
		/* Against a mean of few steps: that mean errs, too, and dividing by a small one would exaggerate. */
		r = n < WINDOW_STEPS ? d * d / MAX((mu + x) / 2, SMALL) / (1 + 1.0 / n) : d * d / MAX(mu, SMALL);
		b->disp10 += (float)(gain(HALF_DISP_STEPS, n + DISP_PRIOR_STEPS) * (r - b->disp10));
		if (n % WINDOW_STEPS == WINDOW_STEPS - 1) {
			double sd60 = sqrt(MAX(mu60, SMALL) * MAX(b->disp60, 1.0f)) * CLAMP_SD;
			double d60 = x60 - mu60;

			if (fabs(d60) > sd60 && abs(*run) < CLAMP_RUN)
				d60 = copysign(sd60, d60);
			r = d60 * d60 / MAX(mu60, SMALL);
			b->disp60 += (float)(gain(HALF_DISP_STEPS / WINDOW_STEPS, n / (double)WINDOW_STEPS + DISP_PRIOR_STEPS) * (r - b->disp60));
		}
	}
	b->fast += (float)(gain(HALF_FAST_STEPS, n + 1.0) * (x - b->fast));
	b->slow += (float)(gain(HALF_SLOW_STEPS, n + 1.0) * (x - b->slow));
}

void baseline_idle(struct baseline *b, uint32_t n, uint32_t k)
{
	double keep_fast = exp2(-(double)k / HALF_FAST_STEPS), keep_slow = exp2(-(double)k / HALF_SLOW_STEPS);

	/* While young, the running mean: n steps of something and k of nothing. */
	keep_fast = MIN(keep_fast, MAX(n, 1u) / (MAX(n, 1u) + (double)k));
	keep_slow = MIN(keep_slow, MAX(n, 1u) / (MAX(n, 1u) + (double)k));
	b->fast = (float)(b->fast * keep_fast);
	b->slow = (float)(b->slow * keep_slow);
}

void baseline_peak(struct baseline *b, double x10, double x60, double x300)
{
	b->cur300 = MAX(b->cur300, (float)x300);
	b->cur10 = MAX(b->cur10, (float)x10);
	b->cur60 = MAX(b->cur60, (float)x60);
}

void baseline_rotate(struct baseline *b, bool forget)
{
	float keep = (float)exp2(-1.0 / PEAK_HALF_GENERATIONS);

	/* Silence is no evidence that the habit is gone. */
	if (!forget && b->cur60 <= 0)
		return;
	b->old10 *= keep;
	b->old60 *= keep;
	b->old300 *= keep;
	if (!forget) {
		b->old10 = MAX(b->old10, b->cur10);
		b->old60 = MAX(b->old60, b->cur60);
		b->old300 = MAX(b->old300, b->cur300);
	}
	b->cur10 = b->cur60 = b->cur300 = 0;
}

void baseline_fade(struct baseline *b, double age)
{
	float keep = (float)exp2(-FADE_OF_AGE / MAX(age, 1.0));

	b->old10 *= keep;
	b->old60 *= keep;
	b->old300 *= keep;
}

void baseline_accept(struct baseline *b, double x10, double x60, double x300)
{
	b->fast = (float)(x60 / WINDOW_STEPS);
	/* After a fall the long memory stays: what comes back is no flood. */
	b->slow = MAX(b->slow, b->fast);
	b->old10 = MAX(b->old10, (float)x10);
	b->old60 = MAX(b->old60, (float)x60);
	b->old300 = MAX(b->old300, (float)x300);
}

double baseline_expected(const struct baseline *b)
{
	return MAX(b->fast, b->slow);
}

double baseline_level(const struct baseline *b)
{
	return MAX((double)b->fast, LEVEL_SLOW * (double)b->slow);
}

double baseline_floor(const struct baseline *b)
{
	return MIN(b->fast, b->slow);
}

double baseline_z(double x, double mu, double disp, uint32_t n)
{
	disp = MAX(disp, 1.0) * (1.0 + YOUNG_INFLATION / MAX(n, 1u));
	return 2.0 * (sqrt(x + 0.375) - sqrt(mu + 0.375)) / sqrt(disp);
}
