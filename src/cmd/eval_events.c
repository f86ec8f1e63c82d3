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

struct reading {
	const char *path;
	struct eval_classes *classes;
	struct eval_stream *s;
	size_t cap;
	struct live live;
	void (*complain)(const char *message);
	uint64_t line, events;
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

static int name_from(struct reading *rd, struct eval_names *set, const json_t *o, bool needs_value)
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
		rd->s->names_left_out++;
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

static int incident_take(struct reading *rd, struct eval_incident *in, const json_t *e, double t)
{
	const char *name = text_of(e, "class");
	int cls = name ? eval_class_of(rd->classes, name) : in->final, r = 0;
	json_t *entry;
	size_t i;

	if (cls < 0)
		return cls;
	if (cls != in->final)
		r = turn_add(in, t, cls);
	in->final = cls;
	in->severity = MAX(in->severity, severity_of(text_of(e, "severity")));
	if (in->severity >= SEVERITY_WARNING && !in->alerted) {
		in->alerted = true;
		in->t = t;
		/* What whispered of a benign surge and then raised its voice about something else was opened as that. */
		if (in->opened == CLASS_FLASH_CROWD)
			in->opened = cls;
	}
	if (r == 0)
		r = name_from(rd, &in->scopes, json_object_get(e, "scope"), false);
	json_array_foreach(json_object_get(e, "top"), i, entry) {
		const json_t *share = json_object_get(entry, "share");

		if (i == NAMED_FIRST || r < 0)
			break;
		if (json_is_number(share) && json_number_value(share) >= NAMED_SHARE)
			r = name_from(rd, &in->names, entry, true);
	}
	return r;
}

static int incident_new(struct reading *rd, const json_t *e, const char *id, double t, size_t *ret)
{
	struct eval_stream *s = rd->s;
	const char *name = text_of(e, "class");
	struct eval_incident *in;
	int cls = name ? eval_class_of(rd->classes, name) : CLASS_UNKNOWN;

	if (cls < 0)
		return cls;
	if (s->incidents == rd->cap) {
		size_t cap = rd->cap ? rd->cap * 2 : 64;

		in = cap > EVAL_INCIDENTS_MAX ? NULL : reallocarray(s->incident, cap, sizeof(*in));
		if (!in)
			return cap > EVAL_INCIDENTS_MAX ? -E2BIG : -ENOMEM;
		s->incident = in;
		rd->cap = cap;
	}
	in = &s->incident[s->incidents];
	*in = (struct eval_incident){ .t = t, .end = NAN, .opened = cls, .final = cls, .severity = -1, .id = strdup(id) };
	*ret = s->incidents++;
	return in->id ? turn_add(in, t, cls) : -ENOMEM;
}

/* NULL: taken, or out of memory (rd->error). Else why this is no event. */
static const char *take(struct reading *rd, const json_t *e, const char *id)
{
	struct live_row *row = live_get(&rd->live, id);
	const char *kind = text_of(e, "event");
	bool close = kind && !strcmp(kind, "close");
	double t = time_of(e, "detected"), end = time_of(e, "end");
	struct eval_incident *in;

	if (isnan(t))
		t = time_of(e, "start");
	if (!row) {
		rd->error = -ENOMEM;
		return NULL;
	}
	if (row->incident == NONE) {
		if (isnan(t))
			return "neither detected nor start is a time";
		if (close)
			return "closes what is not open";
		rd->error = incident_new(rd, e, id, t, &row->incident);
		if (rd->error < 0)
			return NULL;
	}
	in = &rd->s->incident[row->incident];
	rd->error = incident_take(rd, in, e, isnan(t) ? in->t : t);
	if (close) {
		in->end = isnan(end) ? t : isnan(t) ? end : MAX(end, t);
		if (isnan(in->end))
			in->end = in->t;
		row->incident = NONE;
	}
	return NULL;
}

static const char *take_line(struct reading *rd, const char *line, size_t n)
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
	if (!id)
		r = asprintf(&made, "\1line %llu", (unsigned long long)rd->line);
	else if (!json_is_string(id)) {
		CLEANUP(freep) char *text = json_dumps(id, JSON_ENCODE_ANY | JSON_SORT_KEYS);

		r = text ? asprintf(&made, "\1%s", text) : -1;
	}
	if (r < 0) {
		made = NULL;
		rd->error = -ENOMEM;
	} else {
		why = take(rd, e, made ? made : json_string_value(id));
	}
	json_decref(e);
	return why;
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
	while (n && strchr(" \t\r\f\v", p[n - 1]) && p[n - 1])
		n--;
	return n == 0;
}

int eval_read_events(const char *path, struct eval_classes *classes, struct eval_stream *s, void (*complain)(const char *message), char why[EVAL_WHY])
{
	struct reading rd = { .path = path, .classes = classes, .s = s, .complain = complain };
	CLEANUP(freep) char *buf = malloc(EVAL_LINE_MAX);
	CLEANUP(fclosep) FILE *f = fopen(path, "re");
	uint64_t first_bad = 0;
	ssize_t n;

	if (!f)
		return snprintf(why, EVAL_WHY, "%s: %s", path, strerror(errno)), -EBADMSG;
	if (!buf)
		rd.error = -ENOMEM;
	while (!rd.error && (n = line_next(f, buf)) >= 0) {
		const char *bad;

		rd.line++;
		if (blank(buf, (size_t)n))
			continue;
		bad = n == EVAL_LINE_MAX ? "too long" : take_line(&rd, buf, (size_t)n);
		if (!bad) {
			rd.events++;
			continue;
		}
		if (s->bad_lines++ < COMPLAINTS_MAX && complain) {
			snprintf(why, EVAL_WHY, "%s:%llu: %s, skipped", path, (unsigned long long)rd.line, bad);
			complain(why);
		}
		if (!first_bad)
			first_bad = rd.line;
	}
	live_done(&rd.live);
	if (rd.error == 0 && ferror(f))
		rd.error = -EIO;
	if (rd.error == 0 && s->bad_lines && !rd.events) {
		snprintf(why, EVAL_WHY, "%s:%llu: no event here, nor in any other line", path, (unsigned long long)first_bad);
		return -EBADMSG;
	}
	if (rd.error < 0)
		snprintf(why, EVAL_WHY, "%s:%llu: %s", path, (unsigned long long)rd.line, rd.error == -E2BIG ? "too many incidents or classes" : strerror(-rd.error));
	return rd.error;
}
