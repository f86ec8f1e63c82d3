/*
 * rand.h - the lab's dice: one 64-bit state, the same numbers on every machine.
 *
 * Only + - * / sqrt of IEEE doubles and our own log/exp-free tricks would be bit-exact everywhere; libm's log
 * and exp are used all the same: glibc keeps them within an ulp, and what is written is rounded far above that.
 */
#ifndef LAB_RAND_H
#define LAB_RAND_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

struct rnd {
	uint64_t s;
};

static inline uint64_t mix64(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

static inline uint64_t rnd_u64(struct rnd *r)
{
	uint64_t x = mix64(r->s);

	r->s += 0x9e3779b97f4a7c15u;
	return x;
}

/* [0, 1) */
static inline double rnd_unit(struct rnd *r)
{
	return (double)(rnd_u64(r) >> 11) * 0x1p-53;
}

static inline double rnd_range(struct rnd *r, double a, double b)
{
	return a + (b - a) * rnd_unit(r);
}

/* Log-uniform: as often between 1 and 2 as between 4 and 8. */
static inline double rnd_log(struct rnd *r, double a, double b)
{
	return a * exp(rnd_unit(r) * log(b / a));
}

static inline int rnd_int(struct rnd *r, int n)
{
	return n > 1 ? (int)(rnd_u64(r) % (uint64_t)n) : 0;
}

static inline bool rnd_chance(struct rnd *r, double p)
{
	return rnd_unit(r) < p;
}

static inline double rnd_exp(struct rnd *r)
{
	return -log(1.0 - rnd_unit(r));
}

static inline double rnd_normal(struct rnd *r)
{
	double a = sqrt(2 * rnd_exp(r)), b = 6.283185307179586 * rnd_unit(r);

	return a * cos(b);
}

/* Marsaglia and Tsang; shapes below one by the usual power of a uniform. */
static inline double rnd_gamma(struct rnd *r, double shape)
{
	double boost = 1, d, c;

	if (shape < 1) {
		boost = pow(1.0 - rnd_unit(r), 1 / shape);
		shape += 1;
	}
	d = shape - 1.0 / 3;
	c = 1 / sqrt(9 * d);
	for (;;) {
		double x = rnd_normal(r), v = 1 + c * x, u = 1.0 - rnd_unit(r);

		v = v * v * v;
		if (v > 0 && log(u) < 0.5 * x * x + d - d * v + d * log(v))
			return boost * d * v;
	}
}

/* A gap of mean one and coefficient of variation `cv`; `weibull`: heavier middle, as half of the traced tenants have it. */
static inline double rnd_gap(struct rnd *r, double cv, bool weibull)
{
	if (cv > 0.97 && cv < 1.03)
		return rnd_exp(r);
	if (cv < 0.05)
		return 1 + cv * (2 * rnd_unit(r) - 1) * 1.732;
	if (weibull && cv > 1) {
		double k = pow(cv, -1.086) < 0.3 ? 0.3 : pow(cv, -1.086);

		return pow(rnd_exp(r), 1 / k) / tgamma(1 + 1 / k);
	}
	return rnd_gamma(r, 1 / (cv * cv)) * cv * cv;
}

#endif
