/*
 * site.h - what a site is made of: models, customers, the people and programs behind them, and what changes over time.
 *
 * A source sends requests: a customer, a crowd, a scanner, an attacker. It owns a run of `who` (identities that share its
 * habits), a rate over time, and the mods that bend it. Everything random comes from one state, in one order.
 */
#ifndef LAB_SITE_H
#define LAB_SITE_H

#include "out.h"
#include "traces.h"

#define LAB_STEP_S 600.0   /* of a source's rate */
#define LAB_MODELS_MAX 8
#define LAB_MODS_MAX 24    /* per source: more at once would be no site but a fire */
#define LAB_RECENT 32      /* prompts that a source may send again */
#define LAB_GATEWAYS 3
#define LAB_NEVER 1e300

/* What a site's records hold. */
enum {
	HAS_KEY = 1, HAS_USER = 2, HAS_AGENT = 4, HAS_PATH = 8, HAS_STATUS = 16, HAS_LATENCY = 32, HAS_PROMPT = 64, /* features of prompts */
	HAS_LIMIT = 128, /* max_tokens, logprobs, finish_reason */
	HAS_CACHED = 256, HAS_STREAM = 512, HAS_ID = 1024, HAS_RETRY = 2048, HAS_SERVER = 4096, HAS_DURATION = 8192,
	HAS_ALL = 16383,
};
enum order { ORDER_ARRIVAL, ORDER_COMPLETION, ORDER_SHUFFLED };
enum format { FMT_JSONL, FMT_CSV };

enum mod_what {
	MOD_RATE,   /* times */
	MOD_PROMPT, /* tokens of the prompt, times */
	MOD_ANSWER, /* tokens of the answer, times */
	MOD_CACHE,  /* cached share, times */
	MOD_5XX,    /* share of requests that fail */
	MOD_STREAM_ERROR,
	MOD_4XX,
	MOD_401,
	MOD_MODEL,  /* share of requests that go to `aux` instead */
	MOD_ADDR,   /* share of requests that come from the addresses of who `aux`… instead */
	MOD_AGENT,  /* share of requests with the agent `aux` */
	MOD_KEY,    /* the keys are others */
	MOD_CAP,    /* share of answers that end at a limit of `aux` tokens */
	MOD_TTFT,   /* of model `aux`, times; these three are the server's */
	MOD_TPOT,
	MOD_SLOTS,
};

/* How strongly something holds over time, 0..1. */
struct shape {
	double start, end, in, out; /* ramps inside [start, end] */
	double period, duty;        /* pulses, 0: none */
};

struct mod {
	enum mod_what what;
	struct shape sh;
	double value;
	int who_lo, who_hi; /* only these, -1: everybody */
	int model;          /* only there, -1: anywhere */
	int aux, aux_n;
};

struct who {
	uint64_t addr[3];
	uint32_t key, user;
	uint16_t agent;
	uint8_t addr_n; /* 0: comes through the site's gateways */
	float cum;      /* of the weights within its source */
};

struct source {
	/* when */
	double next, level; /* level: constant rate where `rate` is NULL */
	float *rate;
	float *wander; /* of the tokens: two logarithms a bin, prompts and answers */
	double roam_s; /* addresses change as often; 0: they stay */
	struct shape sh;
	double cv;
	bool weibull;
	/* who */
	int who, who_n, last, rotate; /* rotate: so many identities at a time, moving on */
	double stick, rotate_s;
	float cum0; /* of its first identity */
	bool exclusive;               /* its addresses are nobody else's */
	bool attack, crowd;
	/* what */
	int model, law, path;
	double prompt_scale, answer_scale, spread, reasoning;
	double cache, stream, logprobs, cap; /* shares; cap: answers that end at the limit */
	int limit;                           /* max_tokens; 0: not set */
	double repeat;                       /* share of prompts sent before */
	int topics;                          /* templates; 0: free text */
	double flips;                        /* bits of the simhash that differ within a template */
	double entropy, chars, inject, inject_p;
	double bad, auth, abort, retry, refuse; /* shares */
	bool keyless;
	uint64_t salt;
	struct { uint64_t hash, sim; int tokens; } recent[LAB_RECENT];
	int recent_n;
	int mod[LAB_MODS_MAX], mod_n;
	uint64_t sent;
	double first; /* when it sent its first request */
	char name[24];
};

#define LAB_HICCUPS_MAX 256
struct hiccup {
	double t, length, e5xx, ttft;
};

struct model {
	char name[40];
	double ttft0, prefill, tpot0, slots, noise, base5xx;
	bool embed;
	double reasoning; /* answers think for so many times their length; 0: they do not */
	/* the simulation */
	double *busy; /* ends of what is in flight, a heap */
	int busy_n, busy_cap;
	double full; /* summed over the requests of this minute */
	int asked;
	double strained_since; /* -1: it is not */
	int calm;              /* minutes */
	int mod[LAB_MODS_MAX], mod_n;
	struct hiccup hiccup[LAB_HICCUPS_MAX]; /* in order; too short to be anybody's business */
	int hiccup_n, hiccup_at;
};

#define LAB_GAPS_MAX 16
#define LABEL_ACTORS_MAX 96 /* of a botnet the busiest are enough */
struct actor {
	const char *kind;
	char value[64];
};

struct label {
	char id[24], cls[24], note[64], scope_value[64], accept[160], accept_severity[12];
	const char *scope_kind; /* NULL: none */
	struct actor *actor;
	int actor_n;
	double start, end, intensity;
	int src; /* who does it; it begins with the first request. -1: nobody */
	bool benign;
};

struct lab {
	struct rnd r;
	uint64_t seed, salt;
	bool test;
	char kind[16];
	double epoch, len, warmup, mean_rate;
	/* how it is written */
	int has;
	enum order order;
	enum format format;
	bool rfc3339, thin_names;
	double lossy; /* records a second above which they are lost; 0: never */
	/* what it is */
	bool loopback; /* every address is one of 127/8: the requests are sent for real */
	bool gateway, open; /* open: a key is not asked for, and many have none */
	uint64_t gateways[LAB_GATEWAYS];
	double v6, zone, dst_at;
	int reuse, reuse_n; /* who attacks next, if it is who attacked last */
	int bins;
	struct model model[LAB_MODELS_MAX];
	int model_n;
	struct source *src;
	int src_n, src_cap, customers; /* the first `customers` sources are the site's own */
	struct who *who;
	int who_n, who_cap;
	struct mod *mods;
	int mod_n, mod_cap;
	struct shape gap[LAB_GAPS_MAX]; /* when nothing is written */
	int gap_n;
	struct label *label;
	int label_n, label_cap;
	struct out calendar;
	uint32_t ids;
	uint64_t records;
};

/* ---- shapes ------------------------------------------------------------------------------------------------- */
static inline double shape_at(const struct shape *s, double t)
{
	double v = 1;

	if (t < s->start || t >= s->end)
		return 0;
	if (s->in > 0 && t < s->start + s->in)
		v = (t - s->start) / s->in;
	if (s->out > 0 && t > s->end - s->out && (s->end - t) / s->out < v)
		v = (s->end - t) / s->out;
	if (s->period > 0 && fmod(t - s->start, s->period) >= s->period * s->duty)
		v = 0;
	return v;
}

/* When it may next be another. */
static inline double shape_edge(const struct shape *s, double t)
{
	double at = s->end;

	if (t >= s->end)
		return LAB_NEVER;
	if (t < s->start)
		return s->start;
	if (t < s->start + s->in || t >= s->end - s->out) {
		double step = (t < s->start + s->in ? s->in : s->out) / 30;

		step = step < 0.5 ? 0.5 : step > 60 ? 60 : step;
		at = t + step < at ? t + step : at;
	} else if (s->out > 0) {
		at = s->end - s->out;
	}
	if (s->period > 0) {
		double phase = fmod(t - s->start, s->period);
		double edge = t + (phase < s->period * s->duty ? s->period * s->duty - phase : s->period - phase) + 1e-6;

		at = edge < at ? edge : at;
	}
	return at > t ? at : t + 1e-3;
}

/* ---- tables that grow ------------------------------------------------------------------------------------------ */
#define LAB_GROW(p, n, cap, more) \
	do { \
		if ((n) + (more) > (cap)) { \
			(cap) = ((n) + (more)) * 2; \
			(p) = lab_realloc((p), (size_t)(cap) * sizeof(*(p))); \
		} \
	} while (0)

static inline int who_new(struct lab *lab, int n)
{
	int first = lab->who_n;

	LAB_GROW(lab->who, lab->who_n, lab->who_cap, n);
	memset(lab->who + first, 0, sizeof(*lab->who) * (size_t)n);
	lab->who_n += n;
	return first;
}

static inline struct source *source_new(struct lab *lab, const struct source *like)
{
	struct source *s, copy = { 0 };

	if (like)
		copy = *like; /* the table may move */
	LAB_GROW(lab->src, lab->src_n, lab->src_cap, 1);
	s = &lab->src[lab->src_n++];
	*s = copy;
	s->rate = s->wander = NULL;
	s->mod_n = 0;
	s->last = -1;
	s->sent = 0;
	s->salt = rnd_u64(&lab->r);
	return s;
}

static inline int mod_new(struct lab *lab, enum mod_what what, struct shape sh, double value)
{
	LAB_GROW(lab->mods, lab->mod_n, lab->mod_cap, 1);
	lab->mods[lab->mod_n] = (struct mod){ .what = what, .sh = sh, .value = value, .who_lo = -1, .who_hi = -1, .model = -1 };
	return lab->mod_n++;
}

static inline void mod_on_source(struct lab *lab, struct source *s, int mod)
{
	int keep = 0;

	for (int i = 0; i < s->mod_n && s->mod_n == LAB_MODS_MAX; i++) /* make room: what ended before this begins */
		if (lab->mods[s->mod[i]].sh.end > lab->mods[mod].sh.start)
			s->mod[keep++] = s->mod[i];
	if (s->mod_n == LAB_MODS_MAX)
		s->mod_n = keep;
	if (s->mod_n < LAB_MODS_MAX)
		s->mod[s->mod_n++] = mod;
}

static inline void mod_on_model(struct lab *lab, struct model *m, int mod)
{
	(void)lab;
	if (m->mod_n < LAB_MODS_MAX)
		m->mod[m->mod_n++] = mod;
}

/* ---- names -------------------------------------------------------------------------------------------------- */
static const char *const lab_agents[] = {
	"openai-python/1.%d.0", "AsyncOpenAI/Python 1.%d.0", "python-requests/2.%d.0", "openai-node/4.%d.1", "curl/8.%d.0", "okhttp/4.%d.0", "axios/1.%d.2",
	"Go-http-client/1.1", "LangChain/0.%d", "litellm/1.%d.3", "aiohttp/3.%d.1", "continue/0.%d", "Cline/3.%d", "node-fetch/3.%d", "llama-index/0.%d",
	"Mozilla/5.0 (X11; Linux x86_64) Chrome/1%d.0", "Mozilla/5.0 (Windows NT 10.0) Chrome/1%d.0", "Mozilla/5.0 (Macintosh) Safari/6%d.1",
	"Mozilla/5.0 (iPhone) Safari/6%d.1", "Mozilla/5.0 (Android 14) Firefox/1%d.0", "Mozilla/5.0 (Windows NT 10.0) Edg/1%d.0", "PostmanRuntime/7.%d.0",
	"httpx/0.%d.2", "Java-http-client/17.%d", "ruby-openai/7.%d", "RooCode/3.%d", "Dart/3.%d (dart:io)", "n8n/1.%d.0",
};
#define LAB_AGENTS ((int)(sizeof(lab_agents) / sizeof(lab_agents[0])))
#define LAB_AGENT_VERSIONS 40
#define AGENT_PROBE 60001
#define AGENT_SCRAPE 60002
#define AGENT_SCAN 60003 /* and up */

static inline void out_agent(struct out *o, uint16_t a)
{
	static const char *const odd[] = { "kube-probe/1.29", "Prometheus/2.45.0", "zgrab/0.x", "Mozilla/5.0 zgrab/0.x", "masscan/1.3", "Nuclei - Open-source project", "python-urllib3/1.26" };
	const char *s;

	if (a >= AGENT_PROBE) {
		out_str(o, odd[(a - AGENT_PROBE) % 7]);
		return;
	}
	for (s = lab_agents[a % LAB_AGENTS]; *s; s++)
		if (*s == '%') {
			out_u64(o, (uint64_t)(a / LAB_AGENTS % LAB_AGENT_VERSIONS));
			s++;
		} else {
			o->p[o->n++] = *s;
		}
}

static const char *const lab_paths[] = { "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/messages", "/v1/responses", "/health", "/metrics", "/v1/models", "/api/chat", "/.env", "/wp-login.php", "/admin", "/api/tags", "/v1/chat/completion", "/login", "/tokenize" };
enum { PATH_CHAT, PATH_COMPLETION, PATH_EMBED, PATH_MESSAGES, PATH_RESPONSES, PATH_HEALTH, PATH_METRICS, PATH_MODELS, PATH_OLLAMA, PATH_SCAN, PATH_SCAN_END = 15 };

static inline void out_addr(struct out *o, uint64_t a)
{
	if (a >> 63) {
		out_str(o, "2001:db8:");
		for (int g = 0; g < 2; g++) {
			char b[8];

			snprintf(b, sizeof(b), "%x:", (unsigned)(a >> (g ? 16 : 32) & 0xffff) | 1);
			out_str(o, b);
		}
		out_str(o, ":");
		for (int started = 0, i = 12; i >= 0; i -= 4) {
			int d = (int)((a & 0xffff) | 1) >> i & 15;

			if (d || started || !i) {
				o->p[o->n++] = "0123456789abcdef"[d];
				started = 1;
			}
		}
		return;
	}
	for (int i = 24; i >= 0; i -= 8) {
		out_u64(o, a >> i & 255);
		if (i)
			o->p[o->n++] = '.';
	}
}

static inline void addr_name(uint64_t a, char *buf, size_t size)
{
	struct out o = { .p = buf };

	(void)size; /* 64 bytes everywhere; an address takes 46 at most */
	out_addr(&o, a);
	buf[o.n] = 0;
}

static inline void net_name(uint64_t a, char *buf, size_t size)
{
	if (a >> 63)
		snprintf(buf, size, "2001:db8:%x:%x::/64", (unsigned)(a >> 32 & 0xffff) | 1, (unsigned)(a >> 16 & 0xffff) | 1);
	else
		snprintf(buf, size, "%u.%u.%u.0/24", (unsigned)(a >> 24 & 255), (unsigned)(a >> 16 & 255), (unsigned)(a >> 8 & 255));
}

static inline uint64_t key_bits(const struct lab *lab, uint32_t key)
{
	return mix64(lab->salt ^ key * 0x100000001b3u) >> 16;
}

static inline void key_name(const struct lab *lab, uint32_t key, char *buf, size_t size)
{
	snprintf(buf, size, "k%012llx", (unsigned long long)key_bits(lab, key));
}

static inline void user_name(uint32_t user, char *buf, size_t size)
{
	snprintf(buf, size, "user-%u", user);
}

/* ---- addresses -------------------------------------------------------------------------------------------------- */
static inline uint64_t net_new(struct lab *lab)
{
	uint32_t first;

	if (lab->loopback)
		return 127u << 24 | (uint64_t)(1 + rnd_int(&lab->r, 254)) << 16 | (uint64_t)rnd_int(&lab->r, 256) << 8;
	if (rnd_chance(&lab->r, lab->v6))
		return UINT64_C(1) << 63 | (uint64_t)(rnd_u64(&lab->r) & 0xffffffff) << 16;
	do
		first = (uint32_t)(1 + rnd_int(&lab->r, 222));
	while (first == 10 || first == 127 || first == 169 || first == 172 || first == 192);
	return (uint64_t)first << 24 | (rnd_u64(&lab->r) & 0xffff00);
}

static inline uint64_t host_new(struct lab *lab, uint64_t net)
{
	return net | (uint64_t)(1 + rnd_int(&lab->r, net >> 63 ? 65000 : 254));
}

/* From the operators' own network. */
static inline uint64_t host_inside(struct lab *lab)
{
	return (lab->loopback ? 127u << 24 : 10u << 24 | (uint32_t)rnd_int(&lab->r, 256) << 8) | (uint32_t)(2 + rnd_int(&lab->r, 250));
}

/* ---- labels ---------------------------------------------------------------------------------------------------- */
static inline struct label *label_new(struct lab *lab, const char *cls, const char *note, double start, double end, double intensity)
{
	struct label *l;

	LAB_GROW(lab->label, lab->label_n, lab->label_cap, 1);
	l = &lab->label[lab->label_n];
	*l = (struct label){ .start = start, .end = end, .intensity = intensity, .src = -1 };
	snprintf(l->id, sizeof(l->id), "L%03d", ++lab->label_n);
	snprintf(l->cls, sizeof(l->cls), "%s", cls);
	snprintf(l->note, sizeof(l->note), "%s", note);
	return l;
}

static inline void label_actor(struct label *l, const char *kind, const char *value)
{
	for (int i = 0; i < l->actor_n; i++)
		if (!strcmp(l->actor[i].kind, kind) && !strcmp(l->actor[i].value, value))
			return;
	if (l->actor_n == LABEL_ACTORS_MAX)
		return;
	if (!l->actor)
		l->actor = lab_realloc(NULL, sizeof(*l->actor) * LABEL_ACTORS_MAX);
	l->actor[l->actor_n].kind = kind;
	snprintf(l->actor[l->actor_n++].value, sizeof(l->actor->value), "%s", value);
}

static inline void label_scope(struct label *l, const char *kind, const char *value)
{
	l->scope_kind = kind;
	snprintf(l->scope_value, sizeof(l->scope_value), "%s", value);
}

/* What of an identity the records show, most exact first: key, user, address. False: nothing. */
static inline bool who_ident(const struct lab *lab, const struct who *w, bool keyless, const char **ret_kind, char *value, size_t size)
{
	if ((lab->has & HAS_KEY) && w->key && !keyless) {
		*ret_kind = "api_key";
		key_name(lab, w->key, value, size);
	} else if ((lab->has & HAS_USER) && w->user) {
		*ret_kind = "user";
		user_name(w->user, value, size);
	} else if (w->addr_n) {
		*ret_kind = "client_ip";
		addr_name(w->addr[0], value, size);
	} else {
		return false;
	}
	return true;
}

/* Everything by which these identities may be named. */
static inline void label_who(const struct lab *lab, struct label *l, int lo, int n, bool keyless, bool addresses)
{
	char v[64];

	for (int i = lo; i < lo + n; i++) {
		const struct who *w = &lab->who[i];

		if ((lab->has & HAS_KEY) && w->key && !keyless) {
			key_name(lab, w->key, v, sizeof(v));
			label_actor(l, "api_key", v);
		}
		if ((lab->has & HAS_USER) && w->user) {
			user_name(w->user, v, sizeof(v));
			label_actor(l, "user", v);
		}
		for (int a = 0; a < w->addr_n && addresses; a++) {
			addr_name(w->addr[a], v, sizeof(v));
			label_actor(l, "client_ip", v);
		}
	}
	for (int i = lo; i < lo + n && addresses; i++)
		for (int a = 0; a < lab->who[i].addr_n; a++) {
			net_name(lab->who[i].addr[a], v, sizeof(v));
			label_actor(l, "network", v);
		}
}

#endif
