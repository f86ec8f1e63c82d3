/*
 * attacks_many.h - attacks by number of requests, and the crowd that only looks like one.
 */
#ifndef LAB_ATTACKS_MANY_H
#define LAB_ATTACKS_MANY_H

#include "attack.h"

/* ---- flood ------------------------------------------------------------------------------------------------------ */
enum { FLOOD_ONE, FLOOD_FEW, FLOOD_RUNAWAY, FLOOD_PULSED, FLOOD_RAMP, FLOOD_KEYS, FLOOD_EMPTY, FLOOD_NET };

static inline double place_flood(struct lab *lab, int variant, double t, double length, double x)
{
	struct rnd *r = &lab->r;
	double base = lab_mean(lab, t, t + length), rate = (x - 1) * base;
	struct shape sh;
	struct source *s;
	struct label *l;
	int n = 1;

	length = length_fit(lab, rate, length);
	base = lab_mean(lab, t, t + length);
	rate = (x - 1) * base;
	sh = shape_flat(t, t + length);
	if (variant == FLOOD_RUNAWAY) {
		int of = customer_pick(lab, t, t + length, base * 0.002, base * 0.3), lo;

		if (of < 0)
			return -1;
		ident_pick(lab, &lab->src[of], &lo, &n);
		lo += rnd_int(r, n);
		n = 1; /* one program, wherever else its key is used */
		s = source_part(lab, of, lo, n);
		s->sh = sh;
		s->level = rate;
		s->cv = rnd_range(r, 0.05, 0.6);
		s->repeat = rnd_range(r, 0.3, 0.99);
		s->retry = 0;
		l = label_new(lab, "flood", "runaway client", t, t + length, x);
		l->src = (int)(s - lab->src);
		label_about(lab, l, s, lo, n);
		return t + length;
	}
	if (variant == FLOOD_PULSED) {
		sh.period = rnd_log(r, 20, 240);
		sh.duty = rnd_range(r, 0.3, 0.75);
	}
	if (variant == FLOOD_RAMP)
		sh.in = length * rnd_range(r, 0.2, 0.5) > 300 ? 300 : length * 0.35;
	s = stranger_new(lab, sh, rate);
	n = variant == FLOOD_FEW ? 2 + rnd_int(r, 4) : variant == FLOOD_NET ? 8 + rnd_int(r, 30) : 1;
	if (lab->gateway)
		who_fill(lab, s, variant == FLOOD_KEYS ? 3 : 1, variant == FLOOD_KEYS ? 0 : 1, 0, 0, 0, false);
	else
		who_fill(lab, s, variant == FLOOD_KEYS ? 40 : n, variant == FLOOD_KEYS ? 0 : 1, variant == FLOOD_FEW ? n : 1, n, 0.3, false);
	s->exclusive = !lab->gateway;
	attacker_keys(lab, s, variant != FLOOD_KEYS);
	who_same_agent(lab, s, 1);
	s->cv = rnd_range(r, 0.05, 1.2);
	s->repeat = rnd_chance(r, 0.5) ? rnd_range(r, 0.8, 1) : rnd_range(r, 0, 0.5);
	s->topics = 1 + rnd_int(r, 4);
	s->prompt_scale = rnd_log(r, 0.05, 1);
	s->answer_scale = rnd_log(r, 0.05, 0.8);
	s->abort = rnd_chance(r, 0.3) ? rnd_range(r, 0.2, 0.9) : 0;
	s->entropy = rnd_range(r, 2.5, 4.6);
	s->bad = rnd_chance(r, 0.3) ? rnd_range(r, 0.05, 0.4) : 0.01;
	s->retry = 0;
	if (variant == FLOOD_EMPTY) { /* asks for one token, as fast as it can */
		s->limit = 1;
		s->prompt_scale = 0.02;
		s->abort = 0;
	}
	l = label_new(lab, "flood", (const char *[]){ "one address", "few addresses", "", "pulsed", "ramp", "one address, many keys", "one-token requests", "one network" }[variant], t, t + length, x);
	l->src = (int)(s - lab->src);
	label_about(lab, l, s, s->who, s->who_n);
	if (variant == FLOOD_KEYS && !lab->gateway) {
		char v[64];

		addr_name(lab->who[s->who].addr[0], v, sizeof(v));
		label_scope(l, "client_ip", v);
	}
	return t + length;
}

/* ---- ddos --------------------------------------------------------------------------------------------------------- */
enum { DDOS_FEW, DDOS_WIDE, DDOS_PULSED, DDOS_JUNK, DDOS_RAMP, DDOS_POLITE, DDOS_V6, DDOS_ROTATING };

static inline double place_ddos(struct lab *lab, int variant, double t, double length, double x)
{
	struct rnd *r = &lab->r;
	double base = lab_mean(lab, t, t + length), v6 = lab->v6, skew;
	struct shape sh;
	struct source *s;
	struct label *l;
	int n = variant == DDOS_FEW ? 20 + rnd_int(r, 50) : (int)rnd_log(r, 80, 4000);

	if (lab->gateway && !(lab->has & (HAS_KEY | HAS_USER)))
		return -1;
	length = length_fit(lab, (x - 1) * base, length);
	base = lab_mean(lab, t, t + length);
	sh = shape_flat(t, t + length);
	if ((x - 1) * base * length < n * 3) /* each of them shall be heard of */
		n = (int)((x - 1) * base * length / 3);
	if (n < 12)
		n = 12;
	if (variant == DDOS_PULSED) {
		sh.period = rnd_log(r, 20, 300);
		sh.duty = rnd_range(r, 0.3, 0.7);
	}
	if (variant == DDOS_RAMP)
		sh.in = length * 0.4 > 400 ? 400 : length * 0.4;
	s = stranger_new(lab, sh, (x - 1) * base);
	if (variant == DDOS_V6 && !lab->loopback)
		lab->v6 = 1;
	skew = rnd_range(r, 0, 0.5);
	who_fill(lab, s, n, rnd_chance(r, 0.4) ? 1 + n / 20 : 0, lab->gateway ? 0 : n - n / 10, lab->gateway ? 0 : n, skew, false);
	lab->v6 = v6;
	s->exclusive = !lab->gateway;
	s->cv = rnd_range(r, 0.6, 1.1);
	s->stick = 0;
	attacker_keys(lab, s, false);
	s->topics = 1 + rnd_int(r, 6);
	s->flips = rnd_range(r, 1, 6);
	s->repeat = rnd_range(r, 0, 0.8);
	s->prompt_scale = rnd_log(r, 0.05, 1.5);
	s->answer_scale = rnd_log(r, 0.05, 0.7);
	s->entropy = rnd_range(r, 2.2, 4.3);
	s->bad = rnd_range(r, 0.03, 0.4);
	s->retry = 0;
	if (variant == DDOS_JUNK) {
		s->entropy = rnd_chance(r, 0.5) ? rnd_range(r, 1, 2.5) : rnd_range(r, 5.4, 6);
		s->topics = 0;
		s->bad = rnd_range(r, 0.3, 0.6);
	}
	if (variant == DDOS_POLITE) { /* every one with an agent of its own and no errors: only what they ask is alike */
		s->bad = 0.01;
		s->topics = 3;
	} else {
		who_same_agent(lab, s, 1 + rnd_int(r, 4));
	}
	if (variant == DDOS_ROTATING) {
		s->rotate = n / 8 > 4 ? n / 8 : 4;
		s->rotate_s = length / 8;
	}
	l = label_new(lab, "ddos", (const char *[]){ "few", "wide", "pulsed", "junk", "ramp", "polite", "IPv6", "rotating" }[variant], t, t + length, x);
	l->src = (int)(s - lab->src);
	label_scope(l, "global", "");
	label_who(lab, l, s->who, n, s->keyless, s->exclusive);
	return t + length;
}

/* ---- flash crowd ----------------------------------------------------------------------------------------------------- */
enum { CROWD_LAUNCH, CROWD_NEWS, CROWD_SPOT, CROWD_CALENDAR, CROWD_CLASSROOM, CROWD_RETURN };

static inline void calendar_add(struct lab *lab, const char *name, double start, double end, const char *classes, const char *repeat)
{
	struct out *o = &lab->calendar;

	out_room(o);
	out_str(o, "{\"name\":\"");
	out_str(o, name);
	out_str(o, "\",\"start\":");
	out_fixed(o, lab->epoch + start, 0);
	out_str(o, ",\"end\":");
	out_fixed(o, lab->epoch + end, 0);
	out_str(o, ",\"repeat\":\"");
	out_str(o, repeat);
	out_str(o, "\",\"scope\":{\"kind\":\"global\",\"value\":\"\"},\"classes\":[");
	out_str(o, classes);
	out_str(o, "],\"note\":\"from the lab\"}\n");
}

static inline double place_crowd(struct lab *lab, int variant, double t, double length, double x)
{
	struct rnd *r = &lab->r;
	double base;
	struct shape sh;
	struct source *s;
	struct label *l;
	int n, of = -1;

	if (lab->gateway && !(lab->has & (HAS_KEY | HAS_USER)))
		return -1;
	length = variant == CROWD_SPOT ? length * 0.3 : length;
	length = length < 420 ? 420 : length;
	length = length_fit(lab, (x - 1) * lab_mean(lab, t, t + length) * 0.6, length);
	base = lab_mean(lab, t, t + length);
	sh = shape_flat(t, t + length);
	sh.in = length * rnd_range(r, 0.15, 0.4);
	sh.out = length * rnd_range(r, 0.2, 0.5);
	if (variant == CROWD_NEWS)
		sh.in = 40 + 80 * rnd_unit(r);
	for (int i = 0; i < lab->customers; i++)
		if (lab->src[i].crowd)
			of = i;
	if (of < 0 && variant == CROWD_RETURN)
		return -1;
	s = stranger_new(lab, sh, (x - 1) * base);
	habits_draw(lab, s);
	s->sh = sh;
	s->path = lab->model[s->model].embed ? PATH_EMBED : PATH_CHAT;
	if (of >= 0) { /* they ask what the public here asks */
		s->model = lab->src[of].model;
		s->law = lab->src[of].law;
		s->prompt_scale = lab->src[of].prompt_scale;
		s->answer_scale = lab->src[of].answer_scale;
		s->path = lab->src[of].path;
		s->limit = lab->src[of].limit;
	}
	s->topics = 0;
	s->repeat = rnd_range(r, 0, 0.06);
	s->spread = 0.7;
	s->cv = rnd_range(r, 0.9, 1.3);
	s->stick = rnd_range(r, 0.3, 0.7);
	s->bad = 0.012;
	s->inject_p = 0.004;
	n = (int)((x - 1) * base * length / rnd_log(r, 3, 15));
	n = n < 20 ? 20 : n > 8000 ? 8000 : n;
	if (variant == CROWD_RETURN) { /* nobody new: everybody who ever came is back */
		s->who = lab->src[of].who;
		s->who_n = lab->src[of].who_n;
		s->stick = 0.4;
	} else {
		who_fill(lab, s, n, 0, lab->gateway ? 0 : variant == CROWD_CLASSROOM ? 1 + n / 100 : n, lab->gateway ? 0 : variant == CROWD_CLASSROOM ? 2 + n / 15 : n, rnd_range(r, 0, 0.6), true);
	}
	if (rnd_chance(r, 0.75)) /* the site grows with it; else it queues, and that is its own affair (natural_load) */
		mod_on_model(lab, &lab->model[s->model], mod_new(lab, MOD_SLOTS, shape_flat(t, t + length), 1 + (x - 1) * 6));
	s->exclusive = !lab->gateway && variant != CROWD_RETURN;
	s->crowd = true;
	l = label_new(lab, "flash_crowd", (const char *[]){ "launch", "news", "advertisement", "campaign on the calendar", "classroom", "returning users" }[variant], t, t + length, x);
	l->src = (int)(s - lab->src);
	label_scope(l, "global", "");
	l->benign = true;
	label_who(lab, l, s->who, s->who_n, false, s->exclusive);
	if (variant == CROWD_CALENDAR)
		calendar_add(lab, "campaign", t - 300, t + length + 300, "\"flash_crowd\"", "none");
	return t + length;
}

#endif
