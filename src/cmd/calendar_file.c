#include "cmd/calendar_file.h"

#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cmd/eval_json.h"
#include "decode/record_parse.h"

#define ZONE_DIRECTORY "/usr/share/zoneinfo"
#define ZONE_FROM 0            /* 1970 */
#define ZONE_UNTIL 4102444800  /* 2100: rules that far ahead are guesses anyway */
#define ZONE_STRIDE 1209600    /* two weeks: no zone changes its clock twice within */
#define ZONE_CHANGES_MAX 1024

struct reader {
	const char *name;
	unsigned int line;
	char *why;
};

static PRINTF_LIKE(2, 3) int refuse(const struct reader *r, const char *fmt, ...)
{
	int n = snprintf(r->why, CALENDAR_WHY, "%.300s:%u: ", r->name, r->line);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(r->why + n, (size_t)(CALENDAR_WHY - n), fmt, ap);
	va_end(ap);
	return -EINVAL;
}

/* ---- zones ----------------------------------------------------------------------------------------- */

/* The C library takes any name for UTC: is this one of a zone? */
static bool zone_exists(const char *name)
{
	const char *directory = getenv("TZDIR");
	char path[512], magic[4];
	int fd, n;
	bool ok;

	if (!strcmp(name, "UTC"))
		return true;
	if (!*name || *name == '/' || strstr(name, "..") || strlen(name) > 64)
		return false;
	n = snprintf(path, sizeof(path), "%s/%s", directory && *directory ? directory : ZONE_DIRECTORY, name);
	if (n < 0 || n >= (int)sizeof(path))
		return false;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return false;
	ok = read(fd, magic, sizeof(magic)) == (ssize_t)sizeof(magic) && !memcmp(magic, "TZif", 4);
	close(fd);
	return ok;
}

static int32_t offset_now(int64_t t)
{
	time_t at = (time_t)t;
	struct tm tm;

	return localtime_r(&at, &tm) ? (int32_t)tm.tm_gmtoff : 0;
}

/* The changes of the zone that TZ names. */
static int zone_sample(struct calendar_zone *z)
{
	int32_t last = offset_now(ZONE_FROM);

	z->at = calloc(ZONE_CHANGES_MAX, sizeof(*z->at));
	z->offset = calloc(ZONE_CHANGES_MAX, sizeof(*z->offset));
	if (!z->at || !z->offset)
		return -ENOMEM;
	z->at[0] = ZONE_FROM;
	z->offset[z->n++] = last;
	for (int64_t t = ZONE_FROM + ZONE_STRIDE; t < ZONE_UNTIL && z->n < ZONE_CHANGES_MAX; t += ZONE_STRIDE) {
		int64_t lo = t - ZONE_STRIDE, hi = t;
		int32_t now = offset_now(t);

		if (now == last)
			continue;
		while (hi - lo > 1) {
			int64_t mid = lo + (hi - lo) / 2;

			if (offset_now(mid) == last)
				lo = mid;
			else
				hi = mid;
		}
		z->at[z->n] = hi;
		z->offset[z->n++] = last = now;
	}
	return 0;
}

static int zone_get(const struct reader *r, struct calendar *c, const char *name, const struct calendar_zone **ret)
{
	struct calendar_zone *z;
	char *was;
	int e;

	for (size_t i = 0; i < c->zones; i++) {
		if (!strcmp(c->zone[i].name, name)) {
			*ret = &c->zone[i];
			return 0;
		}
	}
	if (!zone_exists(name))
		return refuse(r, "zone: there is no time zone \"%.64s\" (a name like Europe/Berlin; is tzdata installed?)", name);
	if (c->zones == CALENDAR_ZONES_MAX)
		return refuse(r, "zone: more than %d time zones in one calendar", CALENDAR_ZONES_MAX);
	z = &c->zone[c->zones];
	z->name = strdup(name);
	if (!z->name)
		return -ENOMEM;
	c->zones++;
	was = getenv("TZ") ? strdup(getenv("TZ")) : NULL;
	setenv("TZ", name, 1);
	tzset();
	e = zone_sample(z);
	if (was)
		setenv("TZ", was, 1);
	else
		unsetenv("TZ");
	tzset();
	free(was);
	if (e == 0)
		*ret = z;
	return e;
}

/* ---- one entry ------------------------------------------------------------------------------------- */

/* A date without an offset is the zone's clock. */
static bool is_local(const char *text)
{
	return strlen(text) >= 19 && text[4] == '-' && !strpbrk(text + 19, "Zz+-U");
}

static int time_of(const struct reader *r, const json_t *o, const char *key, const struct calendar_zone *z, double *ret)
{
	const json_t *v = json_object_get(o, key);
	const char *why;
	double t;

	if (json_is_number(v)) {
		t = json_number_value(v);
		if (!(t >= 0 && t < (double)ZONE_UNTIL))
			return refuse(r, "%s: is not in 1970 to 2099 (seconds are wanted)", key);
	} else if (json_is_string(v)) {
		const char *text = json_string_value(v);

		why = record_parse_time(span_of(text), &t);
		if (why)
			return refuse(r, "%s: \"%.40s\" %s", key, text, why);
		if (t >= (double)ZONE_UNTIL)
			return refuse(r, "%s: is not in 1970 to 2099", key);
		if (is_local(text))
			t = calendar_instant(z, t);
	} else {
		return refuse(r, v ? "%s: is neither epoch seconds nor a date" : "%s is missing", key);
	}
	*ret = t;
	return 0;
}

/* A text of at most CALENDAR_NAME_MAX bytes. */
static int text_of(const struct reader *r, const json_t *v, const char *key, const char **ret)
{
	if (!json_is_string(v))
		return refuse(r, v ? "%s: is not a text" : "%s is missing", key);
	if (json_string_length(v) > CALENDAR_NAME_MAX)
		return refuse(r, "%s: is longer than %d bytes", key, CALENDAR_NAME_MAX);
	*ret = json_string_value(v);
	return 0;
}

static int repeat_of(const struct reader *r, const json_t *v, enum calendar_repeat *ret)
{
	static const char *const words[] = { [REPEAT_NONE] = "none", [REPEAT_DAILY] = "daily", [REPEAT_WEEKLY] = "weekly" };

	*ret = REPEAT_NONE;
	if (!v || json_is_null(v))
		return 0;
	for (size_t i = 0; json_is_string(v) && i < ARRAY_SIZE(words); i++) {
		if (!strcmp(json_string_value(v), words[i])) {
			*ret = (enum calendar_repeat)i;
			return 0;
		}
	}
	return refuse(r, "repeat: wants none, daily or weekly");
}

static int classes_of(const struct reader *r, const json_t *v, uint32_t *ret)
{
	size_t i;
	const json_t *item;

	*ret = (1u << CLASS_COUNT) - 1;
	if (!v || json_is_null(v))
		return 0;
	if (!json_is_array(v) || !json_array_size(v))
		return refuse(r, "classes: wants a list of classes, or nothing for all");
	*ret = 0;
	json_array_foreach(v, i, item) {
		enum anomaly_class cls = json_is_string(item) ? anomaly_class_of_name(span_of(json_string_value(item))) : CLASS_COUNT;

		if (cls == CLASS_COUNT)
			return refuse(r, "classes: there is no class \"%.40s\"", json_is_string(item) ? json_string_value(item) : "?");
		*ret |= 1u << cls;
	}
	return 0;
}

static int scope_of(const struct reader *r, const json_t *v, struct calendar_entry *e)
{
	const char *kind, *value = "";
	int n;

	e->kind = ENTITY_GLOBAL;
	if (v && !json_is_null(v)) {
		if (!json_is_object(v))
			return refuse(r, "scope: wants {\"kind\":...,\"value\":...}");
		n = text_of(r, json_object_get(v, "kind"), "scope.kind", &kind);
		if (n < 0)
			return n;
		for (e->kind = ENTITY_GLOBAL; e->kind < ENTITY_KIND_COUNT && strcmp(entity_kind_name(e->kind), kind); e->kind++)
			;
		if (e->kind == ENTITY_KIND_COUNT)
			return refuse(r, "scope.kind: there is no kind \"%.40s\"", kind);
		if (e->kind != ENTITY_GLOBAL) {
			n = text_of(r, json_object_get(v, "value"), "scope.value", &value);
			if (n < 0)
				return n;
			if (!*value)
				return refuse(r, "scope.value: is empty");
		}
	}
	e->value = strdup(value);
	return e->value ? 0 : -ENOMEM;
}

static int entry_of(const struct reader *r, struct calendar *c, const json_t *o, struct calendar_entry *e)
{
	const json_t *zone = json_object_get(o, "zone");
	const char *name, *where;
	double period;
	int n = text_of(r, json_object_get(o, "name"), "name", &name);

	if (n == 0 && !*name)
		n = refuse(r, "name: is empty");
	if (n == 0 && zone && !json_is_null(zone)) {
		n = text_of(r, zone, "zone", &where);
		if (n == 0)
			n = zone_get(r, c, where, &e->zone);
	}
	if (n == 0)
		n = time_of(r, o, "start", e->zone, &e->start);
	if (n == 0)
		n = time_of(r, o, "end", e->zone, &e->end);
	if (n == 0 && e->end < e->start)
		n = refuse(r, "end: is before start");
	if (n == 0)
		n = repeat_of(r, json_object_get(o, "repeat"), &e->repeat);
	if (n < 0)
		return n;
	period = e->repeat == REPEAT_DAILY ? 86400 : 7 * 86400.0;
	if (e->repeat != REPEAT_NONE && e->end - e->start > period)
		return refuse(r, "end: is later than the next time");
	n = classes_of(r, json_object_get(o, "classes"), &e->classes);
	if (n == 0)
		n = scope_of(r, json_object_get(o, "scope"), e);
	if (n < 0)
		return n;
	e->name = strdup(name);
	return e->name ? 0 : -ENOMEM;
}

static int line_of(const struct reader *r, struct calendar *c, struct span line, size_t *cap)
{
	struct calendar_entry e = { 0 };
	json_error_t why;
	json_t *o = json_loadb(line.p, line.n, JSON_REJECT_DUPLICATES, &why);
	int n;

	if (!o)
		return refuse(r, "is not JSON: %.100s", why.text);
	if (c->n == CALENDAR_ENTRIES_MAX)
		n = refuse(r, "more than %d entries", CALENDAR_ENTRIES_MAX);
	else
		n = json_is_object(o) ? entry_of(r, c, o, &e) : refuse(r, "is not an object");
	json_decref(o);
	if (n == 0 && c->n == *cap) {
		size_t more = *cap ? *cap * 2 : 16;
		struct calendar_entry *p = realloc(c->entry, more * sizeof(*p));

		if (p) {
			c->entry = p;
			*cap = more;
		} else {
			n = -ENOMEM;
		}
	}
	if (n < 0) {
		free(e.name);
		free(e.value);
		return n;
	}
	c->entry[c->n++] = e;
	return 0;
}

static bool blank(struct span line)
{
	for (size_t i = 0; i < line.n; i++)
		if (!strchr(" \t\r", line.p[i]))
			return false;
	return true;
}

int calendar_file_parse(const char *name, struct span text, struct calendar **ret, char why[CALENDAR_WHY])
{
	CLEANUP(calendar_freep) struct calendar *c = calloc(1, sizeof(*c));
	struct reader r = { .name = name, .why = why };
	const char *p = text.p, *end = text.p + text.n;
	size_t cap = 0;

	snprintf(why, CALENDAR_WHY, "%.300s: out of memory", name);
	if (!c)
		return -ENOMEM;
	while (p < end) {
		const char *stop = memchr(p, '\n', (size_t)(end - p));
		struct span line = { p, (size_t)((stop ? stop : end) - p) };
		int n = 0;

		r.line++;
		/* blank() takes a NUL for its string's end: a line may hold one. */
		if (memchr(line.p, '\0', line.n))
			return refuse(&r, "is not JSON: a byte 0");
		if (!blank(line))
			n = line_of(&r, c, line, &cap);
		if (n < 0)
			return n;
		p = stop ? stop + 1 : end;
	}
	*why = '\0';
	*ret = TAKE_PTR(c);
	return 0;
}

static int fail(const char *path, const char *what, char *why, int error)
{
	snprintf(why, CALENDAR_WHY, "%.300s: %s", path, what);
	return error;
}

int calendar_file_read(const char *path, struct calendar **ret, char why[CALENDAR_WHY])
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK), r;
	size_t n = 0;
	struct stat st;
	char *text;

	if (fd < 0)
		return fail(path, strerror(errno), why, -errno);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		return fail(path, "is no regular file", why, -EINVAL);
	}
	text = malloc(CALENDAR_FILE_MAX + 1);
	if (!text) {
		close(fd);
		return fail(path, "out of memory", why, -ENOMEM);
	}
	for (;;) {
		ssize_t got = read(fd, text + n, CALENDAR_FILE_MAX + 1 - n);

		if (got < 0 && errno == EINTR)
			continue;
		r = got < 0 ? fail(path, strerror(errno), why, -errno) : 0;
		if (got <= 0)
			break;
		n += (size_t)got;
		if (n > CALENDAR_FILE_MAX) {
			r = fail(path, "is larger than 4 MiB", why, -EINVAL);
			break;
		}
	}
	close(fd);
	if (r == 0)
		r = calendar_file_parse(path, (struct span){ text, n }, ret, why);
	free(text);
	return r;
}
