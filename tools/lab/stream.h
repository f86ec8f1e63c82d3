/*
 * stream.h - a planned stream on standard output, each record when its time has come.
 */
#ifndef LAB_STREAM_H
#define LAB_STREAM_H

#include "make.h"

struct paced {
	struct out out;
	double speed, limit; /* seconds of wall time; 0: to the end */
	struct timespec since;
	volatile sig_atomic_t *stop;
};

static inline double paced_elapsed(const struct paced *p)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)(now.tv_sec - p->since.tv_sec) + (double)(now.tv_nsec - p->since.tv_nsec) / 1e9;
}

/* Sleeps until `t` of the stream. Nonzero: it is to end here. */
static inline int paced_wait(struct paced *p, double t)
{
	double due = t / p->speed;

	while (paced_elapsed(p) < due - 0.001) {
		double left = due - paced_elapsed(p);
		struct timespec nap;

		out_flush(&p->out); /* nobody waits for a full buffer */
		if (p->out.error || *p->stop || (p->limit > 0 && paced_elapsed(p) >= p->limit))
			return -EINTR;
		left = left > 0.2 ? 0.2 : left;
		nap = (struct timespec){ 0, (long)(left * 1e9) };
		nanosleep(&nap, NULL);
	}
	return *p->stop ? -EINTR : p->limit > 0 && paced_elapsed(p) >= p->limit ? -EINTR : 0;
}

static inline int emit_paced(void *ctx, const struct lab *lab, const struct rec *q)
{
	struct paced *p = ctx;
	int r = paced_wait(p, q->out > q->t ? q->out : q->t);

	if (r)
		return r;
	return rec_write(&p->out, lab, q);
}

#endif
