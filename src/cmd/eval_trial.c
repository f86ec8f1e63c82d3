#include "cmd/eval_trial.h"

#include "cmd/eval_judge.h"
#include "detect/detect.h"

#include <fcntl.h>
#include <math.h>

#define DDOS_SOURCES 200
#define SPIKE_TOKENS 4.0 /* a spending customer's requests are so much larger than usual */
#define GAP_MIN_S 1e-4	 /* no attack sends faster */

static const struct {
	const char *name, *words;
	enum anomaly_class cls;
	double last_s;
	double level[TRIAL_LEVELS_MAX];
	size_t levels;
} kinds[TRIAL_KINDS] = {
	[TRIAL_FLOOD] = { "flood", "%.3gx the usual requests, from one address", CLASS_FLOOD, 120, { 1.5, 2, 3, 5, 10, 20 }, 6 },
	[TRIAL_DDOS] = { "ddos", "%.3gx the usual requests, from 200 networks", CLASS_DDOS, 120, { 1.5, 2, 3, 5, 10, 20 }, 6 },
	[TRIAL_COST] = { "cost_spike", "a customer at %.3gx its usual tokens", CLASS_COST_SPIKE, 600, { 2, 3, 5, 10, 20, 50 }, 6 },
	[TRIAL_LATENCY] = { "latency_regression", "answers %.3gx as slow", CLASS_LATENCY_REGRESSION, 600, { 1.3, 1.5, 2, 3, 5 }, 5 },
	[TRIAL_ERRORS] = { "error_burst", "a share of %.3g of all answers is 503", CLASS_ERROR_BURST, 600, { 0.05, 0.1, 0.2, 0.5, 1 }, 5 },
	[TRIAL_DROP] = { "traffic_drop", "a share of %.3g of all requests is missing", CLASS_TRAFFIC_DROP, 600, { 0.3, 0.5, 0.7, 0.9, 1 }, 5 },
};

const char *trial_name(enum trial_kind kind)
{
	return kinds[kind].name;
}

const char *trial_words(enum trial_kind kind)
{
	return kinds[kind].words;
}

const double *trial_levels(enum trial_kind kind, size_t *ret_n)
{
	*ret_n = kinds[kind].levels;
	return kinds[kind].level;
}

const char *trial_lacks(enum trial_kind kind, const struct site *s)
{
	switch (kind) {
	case TRIAL_COST:
		return s->victims ? NULL : "a customer with enough requests";
	case TRIAL_LATENCY:
		return !s->model[0] ? "model_name" : s->seen & (F_BIT(F_TTFT_MS) | F_BIT(F_DURATION_MS)) ? NULL : "ttft_ms and duration_ms";
	case TRIAL_ERRORS:
		return s->seen & F_BIT(F_STATUS) ? NULL : "status";
	case TRIAL_DROP:
		return NULL;
	default:
		return s->seen & (F_BIT(F_CLIENT_IP) | F_BIT(F_API_KEY) | F_BIT(F_USER)) ? NULL : "client_ip, api_key and user";
	}
}

/* A record that outlives the reader's next line. */
struct kept {
	struct record r;
	char text[F_TEXT_COUNT][SITE_TEXT];
};

static void keep_text(struct kept *k, enum record_field f, const char *value)
{
	snprintf(k->text[f], SITE_TEXT, "%s", value);
	record_set_text(&k->r, f, span_of(k->text[f]));
}

static void keep(struct kept *k, const struct record *r)
{
	k->r = *r;
	for (int f = 0; f < F_TEXT_COUNT; f++) {
		struct span v = record_text(r, (enum record_field)f);

		if (!v.n)
			continue;
		v.n = MIN(v.n, (size_t)SITE_TEXT);
		memcpy(k->text[f], v.p, v.n);
		k->r.text[f] = (struct span){ k->text[f], v.n };
	}
}

struct trial {
	const struct site *site;
	enum trial_kind kind;
	double level;
	struct detect *engine;
	struct eval_book *book;
	struct str line;
	int error;
	uint64_t random;
	double newest;
	struct kept last, made;
	struct kept of_victim[TRIAL_TIMES_MAX];
	struct pour { /* requests that are still to come at one time */
		double next, until, gap;
		uint32_t count;
	} pour[TRIAL_TIMES_MAX];
	double share; /* carried over, of what a share takes */
};

static double random_unit(struct trial *t)
{
	uint64_t z = t->random += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return ((double)((z ^ z >> 31) >> 11) + 0.5) / 9007199254740992.0;
}

static void on_event(void *ctx, const struct anomaly *a)
{
	struct trial *t = ctx;
	const char *bad;
	int r;

	str_reset(&t->line);
	anomaly_write_json(&t->line, a);
	r = str_error(&t->line);
	if (r == 0)
		r = eval_book_take(t->book, t->line.p, t->line.n - 1, &bad);
	if (r < 0 && !t->error)
		t->error = r;
}

/* ---- what is laid into the stream ------------------------------------------------------------------- */

static void attacker(const struct trial *t, size_t i, uint32_t count, char ip[64], char name[64])
{
	uint32_t k = t->kind == TRIAL_DDOS ? count % DDOS_SOURCES : 0;

	if (t->kind == TRIAL_DDOS)
		snprintf(ip, 64, "198.%u.%u.%u", 18 + (k & 1), k, 10 + (unsigned int)i); /* RFC 2544 */
	else
		snprintf(ip, 64, "198.51.100.%u", 10 + (unsigned int)i); /* RFC 5737 */
	snprintf(name, 64, "calibrate-%zu-%u", i, k);
}

static double usual_rate(const struct site *s, double at)
{
	size_t h = (size_t)MAX(0.0, (at - s->first) / 3600);

	return s->hour[MIN(h, SITE_HOURS_MAX - 1)] / 3600.0;
}

static void pour_begin(struct trial *t, size_t i)
{
	const struct site *s = t->site;
	struct pour *p = &t->pour[i];
	double per_s = 0;

	if (t->kind == TRIAL_FLOOD || t->kind == TRIAL_DDOS) {
		/* An hour of the night may hold nothing at all. */
		per_s = (t->level - 1) * MAX(usual_rate(s, s->at[i]), 1.0 / 60);
	} else if (t->kind == TRIAL_COST) {
		const struct site_customer *c = &s->victim[i % s->victims];

		per_s = t->level * c->tokens_per_min / 60 / (SPIKE_TOKENS * MAX(1.0, c->prompt + c->completion));
	}
	p->until = s->at[i] + kinds[t->kind].last_s;
	p->gap = per_s > 0 ? MAX(GAP_MIN_S, 1 / per_s) : INFINITY;
	p->next = s->at[i] + p->gap * random_unit(t);
}

/* One request of the attack at time i. */
static int pour_one(struct trial *t, size_t i)
{
	struct pour *p = &t->pour[i];
	struct kept *m = &t->made;
	const struct site *s = t->site;
	char ip[64], name[64];

	if (t->kind == TRIAL_COST && t->of_victim[i].r.has)
		keep(m, &t->of_victim[i].r);
	else
		keep(m, &t->last.r);
	m->r.has &= ~F_BIT(F_REQUEST_ID);
	m->r.weight = 1;
	m->r.kind = KIND_INFERENCE;
	m->r.timestamp = p->next;
	attacker(t, i, p->count, ip, name);
	if (t->kind == TRIAL_COST) {
		const struct site_customer *c = &s->victim[i % s->victims];

		keep_text(m, c->field, c->name);
		record_set_int(&m->r, F_PROMPT_TOKENS, (int64_t)(SPIKE_TOKENS * c->prompt));
		record_set_int(&m->r, F_COMPLETION_TOKENS, (int64_t)(SPIKE_TOKENS * c->completion));
	} else {
		if (s->seen & F_BIT(F_CLIENT_IP))
			keep_text(m, F_CLIENT_IP, ip);
		if (s->seen & F_BIT(F_API_KEY))
			keep_text(m, F_API_KEY, name);
		if (s->seen & F_BIT(F_USER))
			keep_text(m, F_USER, name);
		if (s->seen & F_BIT(F_USER_AGENT))
			keep_text(m, F_USER_AGENT, "calibrate");
		if (t->kind == TRIAL_DDOS) { /* alike and short */
			record_set_int(&m->r, F_PROMPT_TOKENS, 40);
			record_set_int(&m->r, F_COMPLETION_TOKENS, 8);
		}
	}
	p->count++;
	p->next += p->gap * -log(random_unit(t));
	return detect_record(t->engine, &m->r);
}

/* All requests of attacks that are due before the next real one. */
static int pour_until(struct trial *t, double now)
{
	int r = 0;

	for (size_t i = 0; i < t->site->times; i++)
		while (r == 0 && t->pour[i].next <= now && t->pour[i].next < t->pour[i].until)
			r = pour_one(t, i);
	return r;
}

static bool in_trial(const struct trial *t, double at)
{
	for (size_t i = 0; i < t->site->times; i++)
		if (at >= t->site->at[i] && at < t->site->at[i] + kinds[t->kind].last_s)
			return true;
	return false;
}

/* Deterministic: of n records, n times the share is taken. */
static bool takes_share(struct trial *t)
{
	t->share += t->level;
	if (t->share < 1)
		return false;
	t->share -= 1;
	return true;
}

static int feed(struct trial *t, const struct record *given)
{
	const struct site *s = t->site;
	struct record r = *given;
	int e;

	t->newest = MAX(t->newest, r.timestamp);
	e = pour_until(t, t->newest);
	if (e < 0)
		return e;
	if (t->kind <= TRIAL_COST)
		keep(&t->last, given);
	for (size_t i = 0; t->kind == TRIAL_COST && i < s->times; i++) {
		const struct site_customer *c = &s->victim[i % s->victims];

		if (span_eq(record_text(given, c->field), span_of(c->name)))
			keep(&t->of_victim[i], given);
	}
	if (t->kind > TRIAL_COST && in_trial(t, r.timestamp) && r.kind != KIND_CONTROL && r.kind != KIND_OTHER) {
		if (t->kind == TRIAL_DROP && takes_share(t))
			return 0;
		if (t->kind == TRIAL_LATENCY && span_eq(record_text(given, F_MODEL_NAME), span_of(s->model))) {
			r.real[F_TTFT_MS - F_INT_END] *= t->level;
			r.real[F_DURATION_MS - F_INT_END] *= t->level;
		}
		if (t->kind == TRIAL_ERRORS && record_has(&r, F_STATUS) && takes_share(t)) {
			record_set_int(&r, F_STATUS, 503);
			r.has &= ~(F_BIT(F_FINISH_REASON) | F_BIT(F_COMPLETION_TOKENS));
		}
	}
	return detect_record(t->engine, &r);
}

/* ---- how it fared ----------------------------------------------------------------------------------- */

static int actor(struct eval_label *l, const struct site *s, enum record_field f, const char *kind, const char *value)
{
	return s->seen & F_BIT(f) ? eval_names_append(&l->actors, kind, value) : 0;
}

static const char *kind_of_field(enum record_field f)
{
	return entity_kind_name(f == F_API_KEY ? ENTITY_API_KEY : f == F_USER ? ENTITY_USER : ENTITY_CLIENT_IP);
}

static int label_one(const struct trial *t, size_t i, struct eval_label *l)
{
	const struct site *s = t->site;
	char ip[64], name[64];
	int r = 0;

	*l = (struct eval_label){ .cls = kinds[t->kind].cls, .start = s->at[i], .end = s->at[i] + kinds[t->kind].last_s, .intensity = t->level, .scoped = true, .has_actors = true };
	if (t->kind == TRIAL_FLOOD || t->kind == TRIAL_DDOS) {
		for (uint32_t k = 0; r == 0 && k < (t->kind == TRIAL_DDOS ? DDOS_SOURCES : 1); k++) {
			attacker(t, i, k, ip, name);
			r = actor(l, s, F_CLIENT_IP, "client_ip", ip);
			if (r == 0)
				r = actor(l, s, F_API_KEY, "api_key", name);
			if (r == 0)
				r = actor(l, s, F_USER, "user", name);
		}
		l->global = t->kind == TRIAL_DDOS;
	} else if (t->kind == TRIAL_COST) {
		const struct site_customer *c = &s->victim[i % s->victims];

		r = eval_names_append(&l->actors, kind_of_field(c->field), c->name);
	} else if (t->kind == TRIAL_LATENCY) {
		r = eval_names_append(&l->actors, "model", s->model);
	} else {
		l->global = true;
		l->has_actors = false;
	}
	eval_names_sort(&l->actors);
	return r;
}

static int sights(const struct trial *t, const struct eval_stream *said, struct trial_sight sight[TRIAL_TIMES_MAX])
{
	struct eval_label label[TRIAL_TIMES_MAX] = { 0 };
	const struct eval_label *p[TRIAL_TIMES_MAX];
	size_t n = t->site->times;
	int r = 0;

	for (size_t i = 0; i < n; i++) {
		p[i] = &label[i];
		if (r == 0)
			r = label_one(t, i, &label[i]);
		sight[i] = (struct trial_sight){ .delay_s = INFINITY };
		for (int c = 0; c < CLASS_COUNT; c++)
			sight[i].score[c] = -1;
	}
	for (size_t k = 0; r == 0 && k < said->incidents; k++) {
		const struct eval_incident *in = &said->incident[k];
		struct eval_ruling ruling;
		struct trial_sight *s;

		if (in->severity < SEVERITY_WARNING || in->final >= CLASS_COUNT)
			continue;
		ruling = eval_judge(in, in->final, p, n);
		/* A surge that is taken for a crowd is seen, too; a word about something else at that time is not. */
		if (!ruling.label || ruling.verdict == EVAL_FALSE || (ruling.verdict != EVAL_RIGHT && !eval_is_about(in, ruling.label) && !(ruling.label->global && in->final == CLASS_UNKNOWN)))
			continue;
		s = &sight[ruling.label - label];
		s->seen = true;
		s->right |= ruling.verdict == EVAL_RIGHT;
		s->delay_s = MIN(s->delay_s, MAX(0.0, in->t - ruling.label->start));
		s->score[in->final] = MAX(s->score[in->final], in->score);
	}
	for (size_t i = 0; i < n; i++)
		eval_names_done(&label[i].actors);
	return r;
}

int trial_blank(const struct site *site, enum trial_kind kind, const struct eval_stream *said, struct trial_sight sight[TRIAL_TIMES_MAX])
{
	struct trial t = { .site = site, .kind = kind, .level = 1 };

	return sights(&t, said, sight);
}

/* ---- runs ------------------------------------------------------------------------------------------- */

typedef int (*record_fn)(void *ctx, const struct record *r);

static int each_record(const char *path, record_fn fn, void *ctx, uint64_t *ret_bad)
{
	CLEANUP(record_reader_freep) struct record_reader *rd = NULL;
	struct record_reader_opts opts = { .name = path };
	struct record rec;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY), r;

	if (fd < 0)
		return -errno;
	r = record_reader_open(fd, &opts, &rd);
	if (r < 0)
		return r;
	while ((r = record_reader_next(rd, &rec)) == 1) {
		r = fn(ctx, &rec);
		if (r < 0)
			return r;
	}
	if (ret_bad)
		*ret_bad = record_reader_bad_lines(rd);
	return r;
}

static int engine_open(struct trial *t, double sensitivity, struct eval_classes *classes, struct eval_stream *said)
{
	struct detect_opts o = { .lateness_s = 2, .sensitivity = sensitivity, .emit = on_event, .ctx = t };
	int r = eval_book_open(classes, said, &t->book);

	return r < 0 ? r : detect_open(&o, &t->engine);
}

static int engine_close(struct trial *t, int r)
{
	if (r == 0)
		r = detect_finish(t->engine);
	if (r == 0)
		r = t->error;
	detect_free(t->engine);
	eval_book_free(t->book);
	str_done(&t->line);
	return r;
}

static int on_trial_record(void *ctx, const struct record *r)
{
	struct trial *t = ctx;
	int e = feed(t, r);

	return e < 0 ? e : t->error;
}

int trial_run(const char *path, const struct site *site, enum trial_kind kind, double level, struct eval_classes *classes, struct trial_sight sight[TRIAL_TIMES_MAX])
{
	CLEANUP(freep) struct trial *t = calloc(1, sizeof(*t));
	struct eval_stream said = { 0 };
	int r;

	if (!t)
		return -ENOMEM;
	t->site = site;
	t->kind = kind;
	t->level = level;
	t->random = (uint64_t)kind + 1;
	for (size_t i = 0; i < site->times; i++)
		pour_begin(t, i);
	r = engine_open(t, 1, classes, &said);
	if (r == 0)
		r = each_record(path, on_trial_record, t, NULL);
	r = engine_close(t, r);
	if (r == 0)
		r = sights(t, &said, sight);
	eval_stream_done(&said);
	return r;
}

static int on_same_record(void *ctx, const struct record *r)
{
	struct trial *t = ctx;
	int e = detect_record(t->engine, r);

	return e < 0 ? e : t->error;
}

int site_retry(const char *path, double sensitivity, struct eval_classes *classes, struct eval_stream *ret)
{
	CLEANUP(freep) struct trial *t = calloc(1, sizeof(*t));
	int r;

	if (!t)
		return -ENOMEM;
	r = engine_open(t, sensitivity, classes, ret);
	if (r == 0)
		r = each_record(path, on_same_record, t, NULL);
	return engine_close(t, r);
}

/* ---- the site --------------------------------------------------------------------------------------- */

struct customer {
	char *name;
	enum record_field field;
	double requests, prompt, completion, minutes;
	int64_t minute;
};

struct survey {
	struct trial t; /* the engine's side of it */
	struct site *site;
	struct customer *customer;
	size_t customers, cap; /* open addressing, at most half full */
	struct customer model[64];
	size_t models;
};

static struct customer *customer_seek(struct customer *v, size_t cap, enum record_field f, struct span name)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325) + (uint64_t)f;

	for (size_t i = 0; i < name.n; i++)
		h = (h ^ (unsigned char)name.p[i]) * UINT64_C(0x100000001b3);
	for (size_t i = (h ^ h >> 29) & (cap - 1);; i = (i + 1) & (cap - 1))
		if (!v[i].name || (v[i].field == f && span_eq(span_of(v[i].name), name)))
			return &v[i];
}

static void count_customer(struct customer *c, const struct record *r)
{
	int64_t minute = (int64_t)(r->timestamp / 60);

	c->requests += (double)r->weight;
	c->prompt += (double)record_int(r, F_PROMPT_TOKENS, 0);
	c->completion += (double)record_int(r, F_COMPLETION_TOKENS, 0);
	c->minutes += minute != c->minute;
	c->minute = minute;
}

static int survey_record(void *ctx, const struct record *r)
{
	static const enum record_field fields[] = { F_API_KEY, F_USER, F_CLIENT_IP };
	struct survey *sv = ctx;
	struct site *s = sv->site;
	struct span model = record_text(r, F_MODEL_NAME);
	struct customer *c;
	double hour;

	if (!s->records++)
		s->first = r->timestamp;
	s->last = MAX(s->last, r->timestamp);
	s->seen |= r->has;
	hour = (r->timestamp - s->first) / 3600;
	if (hour >= 0 && hour < SITE_HOURS_MAX)
		s->hour[(size_t)hour] += (float)r->weight;
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		struct span name = record_text(r, fields[i]);

		if (!name.n || name.n >= SITE_TEXT)
			continue;
		c = customer_seek(sv->customer, sv->cap, fields[i], name);
		if (!c->name && sv->customers < SITE_CUSTOMERS_MAX) {
			*c = (struct customer){ .name = strndup(name.p, name.n), .field = fields[i], .minute = INT64_MIN };
			if (!c->name)
				return -ENOMEM;
			sv->customers++;
		}
		if (c->name)
			count_customer(c, r);
		break;
	}
	if (model.n && model.n < SITE_TEXT) {
		size_t i = 0;

		while (i < sv->models && !span_eq(span_of(sv->model[i].name), model))
			i++;
		if (i == sv->models && i < ARRAY_SIZE(sv->model)) {
			sv->model[i].name = strndup(model.p, model.n);
			if (!sv->model[i].name)
				return -ENOMEM;
			sv->models++;
		}
		if (i < sv->models)
			sv->model[i].requests++;
	}
	return on_trial_record(&sv->t, r);
}

static int by_spending(const void *a, const void *b)
{
	const struct customer *x = a, *y = b;
	double dx = x->prompt + x->completion, dy = y->prompt + y->completion;

	if (dx != dy)
		return dx < dy ? 1 : -1;
	return strcmp(x->name, y->name);
}

/* Ordinary customers: in the middle of those that ask at least once in an hour, of the field that names most requests. */
static void choose_victims(struct survey *sv)
{
	struct site *s = sv->site;
	double by_field[F_TEXT_COUNT] = { 0 }, least = MAX(30.0, (s->last - s->first) / 3600);
	enum record_field field = F_API_KEY;
	struct customer *v = sv->customer;
	size_t n = 0, from;

	for (size_t i = 0; i < sv->cap; i++)
		if (v[i].name)
			by_field[v[i].field] += v[i].requests;
	field = by_field[F_USER] > by_field[field] ? F_USER : field;
	field = by_field[F_CLIENT_IP] > by_field[field] ? F_CLIENT_IP : field;
	for (size_t i = 0; i < sv->cap; i++) {
		struct customer c = v[i];

		if (!c.name || c.field != field || c.requests < least || c.prompt + c.completion <= 0)
			continue;
		v[i] = v[n]; /* the table is no longer looked up in */
		v[n++] = c;
	}
	if (n)
		qsort(v, n, sizeof(*v), by_spending);
	s->victims = MIN(n, (size_t)TRIAL_TIMES_MAX);
	from = (n - s->victims) / 2;
	for (size_t i = 0; i < s->victims; i++) {
		const struct customer *c = &v[from + i];
		struct site_customer *to = &s->victim[i];

		to->field = c->field;
		snprintf(to->name, SITE_TEXT, "%s", c->name);
		to->tokens_per_min = (c->prompt + c->completion) / MAX(1.0, c->minutes);
		to->prompt = c->prompt / c->requests;
		to->completion = c->completion / c->requests;
	}
}

/* Over the last four fifths of the file, so that hours differ. */
static int choose_times(struct site *s)
{
	double span = s->last - s->first, from = s->first + 0.2 * span, n = floor(0.8 * span / TRIAL_APART_S);

	if (n < 1)
		return -EINVAL;
	s->times = (size_t)MIN(n, (double)TRIAL_TIMES_MAX);
	s->learnt = s->first + MIN(86400.0, 0.2 * span);
	for (size_t i = 0; i < s->times; i++)
		s->at[i] = floor(from + 0.8 * span * ((double)i + 0.5) / (double)s->times);
	return 0;
}

int site_survey(const char *path, double alarms_per_week, struct eval_classes *classes, struct site *s, struct eval_stream *said)
{
	CLEANUP(freep) struct survey *sv = calloc(1, sizeof(*sv));
	double most = 0;
	int r;

	*s = (struct site){ .last = -INFINITY };
	s->hour = calloc(SITE_HOURS_MAX, sizeof(*s->hour));
	if (!sv || !s->hour)
		return -ENOMEM;
	sv->site = s;
	sv->t.site = s;
	sv->t.kind = TRIAL_KINDS; /* nothing is laid in: there are no times yet */
	sv->cap = 2 * SITE_CUSTOMERS_MAX;
	sv->customer = calloc(sv->cap, sizeof(*sv->customer));
	r = sv->customer ? engine_open(&sv->t, 1, classes, said) : -ENOMEM;
	if (r == 0)
		r = each_record(path, survey_record, sv, &s->bad_lines);
	if (r == 0)
		s->sensitivity = detect_sensitivity_for(sv->t.engine, alarms_per_week);
	r = engine_close(&sv->t, r);
	if (r == 0)
		r = choose_times(s);
	if (r == 0)
		choose_victims(sv);
	for (size_t i = 0; i < sv->models; i++) {
		if (sv->model[i].requests > most) {
			most = sv->model[i].requests;
			snprintf(s->model, SITE_TEXT, "%s", sv->model[i].name);
		}
		free(sv->model[i].name);
	}
	for (size_t i = 0; sv->customer && i < sv->cap; i++)
		free(sv->customer[i].name);
	free(sv->customer);
	return r;
}

void site_done(struct site *s)
{
	free(s->hour);
	s->hour = NULL;
}
