/* Events as JSON lines, put together to incidents. */
#include "cmd/eval_case.h"
#include "cmd/eval_json.h"
#include "decode/record_parse.h"

#include <math.h>

#define COMPLAINTS_MAX 20 /* then they are only counted */
#define NAMED_FIRST 5	  /* entries of `top` that can name anybody */
#define NAMED_SHARE 0.1	  /* and only with so large a share */
#define NONE SIZE_MAX

/* Which incident an id stands for now; NONE once it was closed. Open addressing, a power of two, at most half full. */
struct live {
	struct live_row {
		char *id;
		size_t incident;
	} *row;
	size_t cap, n;
};

struct eval_book {
	struct eval_classes *classes;
	struct eval_stream *s;
	size_t cap;
	struct live live;
	uint64_t line;
	int error;
};

static uint64_t text_hash(const char *s)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (; *s; s++)
		h = (h ^ (unsigned char)*s) * UINT64_C(0x100000001b3);
	return h ^ h >> 29;
}

static struct live_row *live_seek(const struct live *l, const char *id)
{
	size_t i = text_hash(id) & (l->cap - 1);

	while (l->row[i].id && strcmp(l->row[i].id, id) != 0)
		i = (i + 1) & (l->cap - 1);
	return &l->row[i];
}

static struct live_row *live_get(struct live *l, const char *id)
{
	struct live_row *row;

	if (l->n * 2 >= l->cap) {
		struct live wide = { .cap = l->cap ? l->cap * 2 : 256, .n = l->n };

		wide.row = calloc(wide.cap, sizeof(*wide.row));
		if (!wide.row)
			return NULL;
		for (size_t i = 0; i < l->cap; i++)
			if (l->row[i].id)
				*live_seek(&wide, l->row[i].id) = l->row[i];
		free(l->row);
		*l = wide;
	}
	row = live_seek(l, id);
	if (!row->id) {
		row->id = strdup(id);
		if (!row->id)
			return NULL;
		row->incident = NONE;
		l->n++;
	}
	return row;
}

static void live_done(struct live *l)
{
	for (size_t i = 0; i < l->cap; i++)
		free(l->row[i].id);
	free(l->row);
}

static double time_of(const json_t *e, const char *key)
{
	const json_t *v = json_object_get(e, key);
	double t;

	if (json_is_number(v))
		return json_number_value(v);
	return json_is_string(v) && !record_parse_time(span_of(json_string_value(v)), &t) ? t : NAN;
}

/* Empty and absent are the same. */
static const char *text_of(const json_t *e, const char *key)
{
	const char *s = json_string_value(json_object_get(e, key));

	return s && *s ? s : NULL;
}

static int severity_of(const char *s)
{
	if (s && !strcmp(s, "info"))
		return SEVERITY_INFO;
	return s && !strcmp(s, "critical") ? SEVERITY_CRITICAL : SEVERITY_WARNING;
}

static int name_from(struct eval_book *bk, struct eval_names *set, const json_t *o, bool needs_value)
{
	const json_t *v = json_object_get(o, "value");
	const char *kind = text_of(o, "kind");
	char number[32];
	int r;

	if (!kind || (needs_value && !json_is_string(v) && !json_is_integer(v)))
		return 0;
	if (json_is_integer(v))
		snprintf(number, sizeof(number), "%lld", (long long)json_integer_value(v));
	r = eval_names_add(set, kind, json_is_integer(v) ? number : json_is_string(v) ? json_string_value(v) : "");
	if (r == -E2BIG) {
		bk->s->names_left_out++;
		r = 0;
	}
	return r;
}

static int turn_add(struct eval_incident *in, double t, int cls)
{
	struct eval_turn *turn;

	if ((in->turns & (in->turns - 1)) == 0) { /* full at each power of two */
		turn = reallocarray(in->turn, in->turns ? in->turns * 2 : 1, sizeof(*turn));
		if (!turn)
			return -ENOMEM;
		in->turn = turn;
	}
	in->turn[in->turns++] = (struct eval_turn){ t, cls };
	return 0;
}

static int incident_take(struct eval_book *bk, struct eval_incident *in, const json_t *e, double t)
{
	const char *name = text_of(e, "class");
	int cls = name ? eval_class_of(bk->classes, name) : in->final, r = 0;
	json_t *entry;
	size_t i;

	if (cls < 0)
		return cls;
	if (cls != in->final)
		r = turn_add(in, t, cls);
	in->final = cls;
	if (json_is_number(json_object_get(e, "score")))
		in->score = MAX(in->score, json_number_value(json_object_get(e, "score")));
	in->severity = MAX(in->severity, severity_of(text_of(e, "severity")));
	if (in->severity >= SEVERITY_WARNING && !in->alerted) {
		in->alerted = true;
		in->t = t;
		/* What whispered of a benign surge and then raised its voice about something else was opened as that. */
		if (in->opened == CLASS_FLASH_CROWD)
			in->opened = cls;
	}
	if (r == 0)
		r = name_from(bk, &in->scopes, json_object_get(e, "scope"), false);
	json_array_foreach(json_object_get(e, "top"), i, entry) {
		const json_t *share = json_object_get(entry, "share");

		if (i == NAMED_FIRST || r < 0)
			break;
		if (json_is_number(share) && json_number_value(share) >= NAMED_SHARE)
			r = name_from(bk, &in->names, entry, true);
	}
	return r;
}

static int incident_new(struct eval_book *bk, const json_t *e, const char *id, double t, size_t *ret)
{
	struct eval_stream *s = bk->s;
	const char *name = text_of(e, "class");
	struct eval_incident *in;
	int cls = name ? eval_class_of(bk->classes, name) : CLASS_UNKNOWN;

	if (cls < 0)
		return cls;
	if (s->incidents == bk->cap) {
		size_t cap = bk->cap ? bk->cap * 2 : 64;

		in = cap > EVAL_INCIDENTS_MAX ? NULL : reallocarray(s->incident, cap, sizeof(*in));
		if (!in)
			return cap > EVAL_INCIDENTS_MAX ? -E2BIG : -ENOMEM;
		s->incident = in;
		bk->cap = cap;
	}
	in = &s->incident[s->incidents];
	*in = (struct eval_incident){ .t = t, .end = NAN, .opened = cls, .final = cls, .severity = -1, .id = strdup(id) };
	*ret = s->incidents++;
	return in->id ? turn_add(in, t, cls) : -ENOMEM;
}

/* NULL: taken, or out of memory (bk->error). Else why this is no event. */
static const char *take(struct eval_book *bk, const json_t *e, const char *id)
{
	struct live_row *row = live_get(&bk->live, id);
	const char *kind = text_of(e, "event");
	bool close = kind && !strcmp(kind, "close");
	double t = time_of(e, "detected"), end = time_of(e, "end");
	struct eval_incident *in;

	if (isnan(t))
		t = time_of(e, "start");
	if (!row) {
		bk->error = -ENOMEM;
		return NULL;
	}
	if (row->incident == NONE) {
		if (isnan(t))
			return "neither detected nor start is a time";
		if (close)
			return "closes what is not open";
		bk->error = incident_new(bk, e, id, t, &row->incident);
		if (bk->error < 0)
			return NULL;
	}
	in = &bk->s->incident[row->incident];
	bk->error = incident_take(bk, in, e, isnan(t) ? in->t : t);
	if (close) {
		in->end = isnan(end) ? t : isnan(t) ? end : MAX(end, t);
		if (isnan(in->end))
			in->end = in->t;
		row->incident = NONE;
	}
	return NULL;
}

static const char *take_line(struct eval_book *bk, const char *line, size_t n)
{
	json_error_t je;
	json_t *e = json_loadb(line, n, 0, &je);
	const json_t *id = json_object_get(e, "id");
	CLEANUP(freep) char *made = NULL;
	const char *why = NULL;
	int r = 0;

	if (!json_is_object(e)) {
		json_decref(e);
		return e ? "not an object" : "not JSON";
	}
	/* An id that is no text is one nevertheless; without any the event stands alone. */
	if (!id) {
		r = asprintf(&made, "\1line %llu", (unsigned long long)bk->line);
	} else if (!json_is_string(id)) {
		CLEANUP(freep) char *text = json_dumps(id, JSON_ENCODE_ANY | JSON_SORT_KEYS);

		r = text ? asprintf(&made, "\1%s", text) : -1;
	}
	if (r < 0) {
		made = NULL;
		bk->error = -ENOMEM;
	} else {
		why = take(bk, e, made ? made : json_string_value(id));
	}
	json_decref(e);
	return why;
}

int eval_book_open(struct eval_classes *classes, struct eval_stream *s, struct eval_book **ret)
{
	struct eval_book *bk = calloc(1, sizeof(*bk));

	if (!bk)
		return -ENOMEM;
	bk->classes = classes;
	bk->s = s;
	*ret = bk;
	return 0;
}

struct eval_book *eval_book_free(struct eval_book *bk)
{
	if (bk)
		live_done(&bk->live);
	free(bk);
	return NULL;
}

int eval_book_take(struct eval_book *bk, const char *line, size_t n, const char **ret_bad)
{
	const char *bad;

	bk->line++;
	bad = take_line(bk, line, n);
	if (bk->error < 0)
		return bk->error;
	if (bad)
		*ret_bad = bad;
	return bad ? -EBADMSG : 0;
}

/* One line into buf, the newline not. Its length; EVAL_LINE_MAX: it is longer, and passed over; -1: there is none. */
static ssize_t line_next(FILE *f, char *buf)
{
	size_t n = 0;
	int c;

	while ((c = getc_unlocked(f)) != EOF && c != '\n')
		if (n < EVAL_LINE_MAX)
			buf[n++] = (char)c;
	return c == EOF && n == 0 ? -1 : (ssize_t)n;
}

static bool blank(const char *p, size_t n)
{
	while (n && p[n - 1] && strchr(" \t\r\f\v", p[n - 1]))
		n--;
	return n == 0;
}

int eval_read_events(const char *path, struct eval_classes *classes, struct eval_stream *s, void (*complain)(const char *message), char why[EVAL_WHY])
{
	CLEANUP(freep) char *buf = malloc(EVAL_LINE_MAX);
	CLEANUP(fclosep) FILE *f = fopen(path, "re");
	CLEANUP(eval_book_freep) struct eval_book *bk = NULL;
	uint64_t line = 0, events = 0, first_bad = 0;
	ssize_t n;
	int r;

	if (!f)
		return snprintf(why, EVAL_WHY, "%s: %s", path, strerror(errno)), -EBADMSG;
	r = buf ? eval_book_open(classes, s, &bk) : -ENOMEM;
	while (r == 0 && (n = line_next(f, buf)) >= 0) {
		const char *bad = "too long";

		line++;
		if (blank(buf, (size_t)n))
			continue;
		r = n == EVAL_LINE_MAX ? -EBADMSG : eval_book_take(bk, buf, (size_t)n, &bad);
		events += r == 0;
		if (r != -EBADMSG)
			continue;
		r = 0;
		if (!first_bad)
			first_bad = line;
		if (s->bad_lines++ < COMPLAINTS_MAX && complain) {
			snprintf(why, EVAL_WHY, "%s:%llu: %s, skipped", path, (unsigned long long)line, bad);
			complain(why);
		}
	}
	if (r == 0 && ferror(f))
		r = -EIO;
	if (r == 0 && first_bad && !events) {
		snprintf(why, EVAL_WHY, "%s:%llu: no event here, nor in any other line", path, (unsigned long long)first_bad);
		return -EBADMSG;
	}
	if (r < 0)
		snprintf(why, EVAL_WHY, "%s:%llu: %s", path, (unsigned long long)line, r == -E2BIG ? "too many incidents or classes" : strerror(-r));
	return r;
}
