/*
 * Compute that nobody was told of: tokens that the engine worked on, against tokens that its server's answers reported.
 *
 * Both are added up per server in steps of ten seconds. What is computed and not reported, as a share, is compared with what is usual
 * there (health probes, drafts of speculative decoding and the last token of each answer make some) over five minutes and over
 * an hour. A server is known by its port: one that listens on all addresses has a label for each.
 */
#include <math.h>

#include "detect/engine.h"

#define SERVERS_MAX 64 /* model servers of one host whose engines are counted */
#define SHORT_STEPS 30
#define HOUR_STEPS 360

struct unbilled_server {
	uint16_t port;
	uint32_t entity; /* the server of the last answer through this port; a reference is held; NOBODY: none yet */
	int32_t step;    /* newest in the rings */
	uint32_t steps;  /* with work in it */
	bool found;      /* at the last step: the incident keeps its name, whichever address is asked */
	float computed[HOUR_STEPS], reported[HOUR_STEPS];
	double usual[2]; /* share of the short and of the long window */
};

struct unbilled {
	struct unbilled_server server[SERVERS_MAX];
	unsigned int count;
};

struct sums {
	double computed, reported;
};

static uint16_t port_of(struct span server)
{
	size_t n = server.n;
	unsigned int port = 0, scale = 1;

	while (n && server.p[n - 1] >= '0' && server.p[n - 1] <= '9' && scale <= 10000) {
		port += (unsigned int)(server.p[--n] - '0') * scale;
		scale *= 10;
	}
	return n && server.p[n - 1] == ':' && port <= UINT16_MAX ? (uint16_t)port : 0;
}

static struct unbilled_server *server_at(struct detect *d, uint16_t port, bool make)
{
	struct unbilled *u = d->unbilled;

	for (unsigned int i = 0; u && i < u->count; i++)
		if (u->server[i].port == port)
			return &u->server[i];
	if (!make || (u && u->count == SERVERS_MAX))
		return NULL;
	if (!u)
		u = d->unbilled = calloc(1, sizeof(*u));
	if (!u)
		return NULL;
	u->server[u->count] = (struct unbilled_server){ .port = port, .entity = NOBODY, .step = d->tick / STEP_S };
	return &u->server[u->count++];
}

/* The cell of a step; those between are cleared. */
static unsigned int cell(struct unbilled_server *s, int32_t step)
{
	for (; s->step < step; s->step++)
		s->computed[(uint32_t)(s->step + 1) % HOUR_STEPS] = s->reported[(uint32_t)(s->step + 1) % HOUR_STEPS] = 0;
	return (uint32_t)step % HOUR_STEPS;
}

static struct sums sums_of(const struct unbilled_server *s, int32_t last, int steps)
{
	struct sums w = { 0 };

	for (int k = 0; k < steps && last - k >= 0; k++) {
		w.computed += (double)s->computed[(uint32_t)(last - k) % HOUR_STEPS];
		w.reported += (double)s->reported[(uint32_t)(last - k) % HOUR_STEPS];
	}
	return w;
}

int detect_compute(struct detect *d, uint16_t port, double now, uint64_t tokens)
{
	struct unbilled_server *s;
	double tick;

	if (d->bins || !d->begun || !tokens)
		return 0;
	s = server_at(d, port, true);
	if (!s)
		return -ENOMEM;
	/* no further ahead than the clock will soon be: a step that is not over yet is not judged */
	tick = MIN(MAX(floor(now) - (double)d->base, (double)d->tick), (double)d->tick + 60);
	s->computed[cell(s, (int32_t)tick / STEP_S)] += (float)MIN((double)tokens, 1e9);
	return 0;
}

void unbilled_see(struct detect *d, const struct record *r, uint32_t server, int32_t tick, double tokens)
{
	struct unbilled_server *s = d->unbilled ? server_at(d, port_of(record_server_address(r)), false) : NULL;

	if (!s)
		return;
	tick = MIN(MAX(tick, d->tick), d->tick + 60);
	s->reported[cell(s, tick / STEP_S)] += (float)MIN(MAX(tokens, -1e9), 1e9);
	if (server == s->entity || server == NOBODY || s->found)
		return;
	if (s->entity != NOBODY)
		at(d, s->entity)->refs--;
	s->entity = server;
	at(d, server)->refs++;
}

struct look {
	struct sums w;
	double share, usual, strength;
	int steps;
	bool judged;
};

static double unreported(struct sums w)
{
	return w.computed > 0 ? 1 - MIN(MAX(w.reported, 0), w.computed) / w.computed : 0;
}

static void say(struct detect *d, const struct unbilled_server *s, const struct look *l)
{
	char who[ENTITY_NAME_MAX + 32];
	struct finding f;

	finding_init(&f, WATCH_COST, CLASS_UNBILLED_COMPUTE, s->entity, l->strength, 3 + MIN(l->strength, 5.0));
	f.severity = l->strength >= UNBILLED_WARNING ? SEVERITY_WARNING : SEVERITY_INFO;
	f.needs = UNBILLED_NEEDS;
	f.leave_s = LEAVE_UNBILLED_S;
	f.quiet = true; /* nobody of its clients did it, for all we know */
	f.slow = l->steps > SHORT_STEPS;
	f.start = d->base + MAX(d->tick - l->steps * STEP_S, 0);
	finding_actor(&f, s->entity, 1);
	finding_evidence(&f, "computed_tokens", l->w.computed, l->w.computed * (1 - l->share + l->usual), l->strength * 3);
	finding_evidence(&f, "unreported_share", l->share, l->usual, l->strength * 3);
	finding_say(&f, "%s computed %.0f tokens in %d min and reported %.0f of them: %.0f %% were told to nobody, where %.0f %% are usual", describe_who(d, s->entity, who, sizeof(who)),
		    l->w.computed, l->steps * STEP_S / 60, MAX(l->w.reported, 0), 100 * l->share, 100 * l->usual);
	incident_report(d, &f);
}

/* One window of a server. */
static struct look look(const struct unbilled_server *s, int which, int32_t last)
{
	static const struct {
		int steps;
		double least, beyond;
	} windows[2] = { { SHORT_STEPS, UNBILLED_MIN_300, UNBILLED_SHARE_300 }, { HOUR_STEPS, UNBILLED_MIN_3600, UNBILLED_SHARE_3600 } };
	struct look l = { .steps = windows[which].steps, .usual = s->usual[which] };
	double more;

	l.w = sums_of(s, last, l.steps);
	l.judged = l.w.computed >= windows[which].least && s->steps >= (uint32_t)l.steps;
	if (!l.judged)
		return l;
	l.share = unreported(l.w);
	more = l.share - l.usual;
	l.strength = MIN(more / windows[which].beyond, l.w.computed * more / windows[which].least);
	return l;
}

/* What it has been used to is forgotten slowly: a server that now and then computes more may go on so. */
static void learn(struct unbilled_server *s, int which, const struct look *l)
{
	double *usual = &s->usual[which];

	if (!l->judged)
		return;
	if (l->share > *usual)
		*usual += (l->share - *usual) * UNBILLED_LEARN;
	else
		*usual = MAX(l->share, *usual * UNBILLED_KEEP);
}

static void judge(struct detect *d, struct unbilled_server *s, int32_t last)
{
	struct look now = look(s, 0, last), hour = look(s, 1, last), *worse = &now;

	/* what ended within the hour is over */
	if (hour.strength > now.strength && now.judged && now.share > now.usual + UNBILLED_GOES_ON)
		worse = &hour;
	s->found = worse->strength >= LEAVE_FACTOR && s->entity != NOBODY;
	if (s->found) {
		say(d, s, worse);
		return;
	}
	learn(s, 0, &now);
	learn(s, 1, &hour);
}

void unbilled_step(struct detect *d)
{
	/* the newest two steps are still being told of */
	int32_t last = d->tick / STEP_S - 2;

	for (unsigned int i = 0; d->unbilled && i < d->unbilled->count; i++) {
		struct unbilled_server *s = &d->unbilled->server[i];

		cell(s, d->tick / STEP_S);
		if (last < 0)
			continue;
		if (s->computed[(uint32_t)last % HOUR_STEPS] > 0 || s->steps)
			s->steps++;
		/* the first minutes are what is usual: begun in the middle of long answers, they are all compute */
		if (s->steps == SHORT_STEPS) {
			struct sums w = sums_of(s, last, SHORT_STEPS);

			s->usual[0] = s->usual[1] = MIN(unreported(w), UNBILLED_USUAL_MAX);
		}
		judge(d, s, last);
	}
}

void unbilled_free(struct detect *d)
{
	free(d->unbilled);
	d->unbilled = NULL;
}
