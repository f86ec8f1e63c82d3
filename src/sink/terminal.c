/*
 * One line per event for a person at a terminal, in local time. The date and the zone are said once, and again when they
 * change: a replayed file may span days.
 */
#include "sink/line_out.h"
#include "sink/text.h"

#include <math.h>
#include <time.h>

#define TERMINAL_SUM_UP_SHARE 0.995 /* a single contributor with this much of the excess is "all of the excess" */

struct sink_terminal {
	struct sink base;
	struct line_out out;
	FILE *stream; /* only where it has no descriptor (a memory stream) */
	bool colour;
	struct str line;
	char day[48];
};

static bool terminal_time(double t, struct tm *ret)
{
	time_t s;

	if (!(fabs(t) < 4e11)) /* the year 14,000; also catches NaN */
		return false;
	s = (time_t)floor(t);
	return localtime_r(&s, ret) != NULL;
}

/* A clock time; a date in front of it when it is not the day of the event. */
static void terminal_add_time(struct str *out, double t, const struct tm *event)
{
	struct tm tm;
	char text[32];

	if (!terminal_time(t, &tm)) {
		str_adds(out, "??:??:??");
		return;
	}
	strftime(text, sizeof(text), tm.tm_yday == event->tm_yday && tm.tm_year == event->tm_year ? "%H:%M:%S" : "%Y-%m-%d %H:%M:%S", &tm);
	str_adds(out, text);
}

static const char *terminal_tag(const struct anomaly *a, const char **ret_colour)
{
	*ret_colour = "";
	if (a->event == EVENT_CLOSE) {
		*ret_colour = "\033[32m";
		return "over";
	}
	switch (a->severity) {
	case SEVERITY_CRITICAL:
		*ret_colour = "\033[1;31m";
		return "CRITICAL";
	case SEVERITY_WARNING:
		*ret_colour = "\033[33m";
		return "warning";
	default:
		return "info";
	}
}

static void terminal_add_share(struct str *out, const struct anomaly *a)
{
	const struct anomaly_contributor *t = &a->top[0];
	bool own = a->top_count && t->kind == a->scope_kind && a->scope_value && t->value && !strcmp(t->value, a->scope_value);

	/* Some detectors' sentences say it already. */
	if (!a->top_count || (own && a->summary && strstr(a->summary, "of the excess")))
		return;
	str_adds(out, "; ");
	if (own) {
		if (t->share >= TERMINAL_SUM_UP_SHARE)
			str_adds(out, "all of the excess");
		else
			str_addf(out, "%.0f %% of the excess", t->share * 100);
		return;
	}
	str_adds(out, "excess: ");
	for (size_t i = 0; i < a->top_count && i < ANOMALY_TOP_MAX; i++) {
		str_adds(out, i ? ", " : "");
		text_add_scope(out, a->top[i].kind, a->top[i].value);
		str_addf(out, " %.0f %%", a->top[i].share * 100);
	}
}

static void terminal_compose(struct sink_terminal *t, const struct anomaly *a, char day[static 48])
{
	const char *colour, *tag = terminal_tag(a, &colour);
	struct tm tm = { 0 };

	day[0] = '\0';
	if (terminal_time(a->detected, &tm))
		strftime(day, 48, "%A %Y-%m-%d, times in %Z (UTC%z)", &tm);
	if (strcmp(day, t->day)) {
		str_adds(&t->line, "-- ");
		text_add_safe(&t->line, day);
		str_addc(&t->line, '\n');
	}
	terminal_add_time(&t->line, a->detected, &tm);
	str_addf(&t->line, " %s%-8s%s %-11s ", t->colour ? colour : "", tag, t->colour && *colour ? "\033[0m" : "",
		 anomaly_class_name(a->cls));
	if (a->event == EVENT_UPDATE)
		str_adds(&t->line, "still: ");
	text_add_summary(&t->line, a);
	if (a->event != EVENT_CLOSE)
		terminal_add_share(&t->line, a);
	if (a->event == EVENT_CLOSE && a->end >= 0) {
		if (!text_says_over(a)) {
			str_adds(&t->line, "; lasted ");
			text_add_duration(&t->line, a->end - a->start);
		}
		str_adds(&t->line, "; until ");
		terminal_add_time(&t->line, a->end, &tm);
	} else {
		str_adds(&t->line, "; since ");
		terminal_add_time(&t->line, a->start, &tm);
	}
	str_addc(&t->line, '\n');
}

static int terminal_emit(struct sink *s, const struct anomaly *a)
{
	struct sink_terminal *t = (struct sink_terminal *)s;
	char day[sizeof(t->day)];
	int r;

	str_reset(&t->line);
	terminal_compose(t, a, day);
	r = str_error(&t->line);
	if (r < 0)
		return r;
	if (t->stream) {
		if (fwrite(t->line.p, 1, t->line.n, t->stream) != t->line.n)
			return -EIO;
	} else {
		r = line_out_write(&t->out, t->line.p, t->line.n);
		line_out_account(&t->out, s);
	}
	if (r >= 0) /* else the date must be said with the next line */
		memcpy(t->day, day, sizeof(day));
	return r;
}

static int terminal_flush(struct sink *s)
{
	struct sink_terminal *t = (struct sink_terminal *)s;
	int r;

	if (t->stream)
		return fflush(t->stream) ? -errno : 0;
	r = line_out_flush(&t->out);
	line_out_account(&t->out, s);
	return r;
}

static void terminal_close(struct sink *s)
{
	struct sink_terminal *t = (struct sink_terminal *)s;

	line_out_done(&t->out);
	str_done(&t->line);
	free(t);
}

static const struct sink_ops terminal_ops = {
	.name = "terminal",
	.emit = terminal_emit,
	.flush = terminal_flush,
	.close = terminal_close,
};

int sink_terminal_open_paced(FILE *out, bool colour, enum sink_pace pace, struct sink **ret)
{
	struct sink_terminal *t = calloc(1, sizeof(*t));
	int fd = fileno(out);

	if (!t)
		return -ENOMEM;
	t->base.ops = &terminal_ops;
	if (fd < 0)
		t->stream = out;
	else
		fflush(out); /* ours go past its buffer: what is in it comes first */
	line_out_init(&t->out, fd, pace);
	t->colour = colour && fd >= 0 && isatty(fd);
	tzset(); /* reads the zone now: later the files may be out of reach */
	*ret = &t->base;
	return 0;
}

int sink_terminal_open(FILE *out, bool colour, struct sink **ret)
{
	return sink_terminal_open_paced(out, colour, SINK_WAIT, ret);
}
