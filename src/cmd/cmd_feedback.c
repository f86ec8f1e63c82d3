/* weir feedback - was this alarm right? The answer is stored, and a running agent hears of it. */
#include "base/log.h"
#include "cmd/cmd.h"
#include "cmd/options.h"
#include "cmd/state.h"
#include "sink/text.h"
#include "store/store.h"

#include <pwd.h>
#include <time.h>

#define BUSY_MS 10000 /* an agent's save takes far less */
#define NEAREST 3

struct feedback {
	bool false_positive, true_positive;
	char *note, *state;
};

#define AT(member) offsetof(struct feedback, member)

static const struct option_row rows[] = {
	{ "false-positive", OPTION_FLAG, AT(false_positive), 0, 0, NULL, "nothing was wrong: do not raise this behaviour of this scope again", NULL },
	{ "true-positive", OPTION_FLAG, AT(true_positive), 0, 0, NULL, "it was right: raise it again, and sooner", NULL },
	{ "note", OPTION_TEXT, AT(note), 0, 0, "TEXT", "why; kept with the label", NULL },
	{ "state", OPTION_TEXT, AT(state), 0, 0, "DIR", "the agent's --state (" STATE_DEFAULT ")", NULL },
};

static const char *verdict_word(bool true_positive)
{
	return true_positive ? "true positive" : "false positive";
}

/* ---- an id that nobody has ------------------------------------------------------------------------------ */
static unsigned int distance(const char *a, const char *b)
{
	unsigned int row[STORE_ID + 1];
	size_t n = strlen(b);

	for (size_t j = 0; j <= n; j++)
		row[j] = (unsigned int)j;
	for (size_t i = 1; a[i - 1]; i++) {
		unsigned int corner = row[0];

		row[0] = (unsigned int)i;
		for (size_t j = 1; j <= n; j++) {
			unsigned int above = row[j], best = MIN(above, row[j - 1]) + 1;

			row[j] = MIN(best, corner + (a[i - 1] != b[j - 1]));
			corner = above;
		}
	}
	return row[n];
}

struct nearest {
	const char *id;
	size_t n;
	struct {
		unsigned int distance;
		char id[STORE_ID], scope[STORE_TEXT];
		enum anomaly_class cls;
		enum entity_kind kind;
	} best[NEAREST];
};

/* Of equal ones the newer, which comes later. */
static int on_incident(void *ctx, const struct store_incident *in)
{
	struct nearest *near = ctx;
	unsigned int d = distance(near->id, in->id);
	size_t at = near->n;

	while (at > 0 && d <= near->best[at - 1].distance)
		at--;
	if (at == NEAREST)
		return 0;
	near->n = MIN(near->n + 1, (size_t)NEAREST);
	memmove(&near->best[at + 1], &near->best[at], (near->n - 1 - at) * sizeof(near->best[0]));
	near->best[at].distance = d;
	snprintf(near->best[at].id, STORE_ID, "%s", in->id);
	snprintf(near->best[at].scope, STORE_TEXT, "%s", in->scope_value);
	near->best[at].cls = in->cls;
	near->best[at].kind = in->scope_kind;
	return 0;
}

static void unknown_say(struct store *s, const char *id, const char *dir)
{
	const struct store_filter all = { .cls = CLASS_COUNT, .scope_kind = -1 };
	struct nearest near = { .id = id };
	struct str line = { 0 };

	store_each_incident(s, &all, on_incident, &near);
	str_adds(&line, "no incident '");
	text_add_safe(&line, id);
	str_addf(&line, "' in %s%s", dir, near.n ? "; nearest: " : ", nor any other");
	for (size_t i = 0; i < near.n; i++) {
		str_addf(&line, "%s", i ? ", " : "");
		text_add_safe(&line, near.best[i].id);
		str_addf(&line, " (%s, ", anomaly_class_name(near.best[i].cls));
		text_add_scope(&line, near.best[i].kind, near.best[i].scope);
		str_addc(&line, ')');
	}
	log_error("%s", str_error(&line) ? "no such incident" : line.p);
	str_done(&line);
}

/* ---- the label ------------------------------------------------------------------------------------------- */
static void who(char by[static STORE_BY])
{
	const char *sudo = getuid() == 0 ? getenv("SUDO_USER") : NULL;
	const struct passwd *p = sudo ? getpwnam(sudo) : getpwuid(getuid());

	if (p)
		snprintf(by, STORE_BY, "%s", p->pw_name);
	else
		snprintf(by, STORE_BY, "uid %u", getuid());
}

static int label_put(struct store *s, const char *id, const struct feedback *f)
{
	struct timespec now;
	char by[STORE_BY];

	who(by);
	clock_gettime(CLOCK_REALTIME, &now);
	return store_put_label(s, id, f->true_positive, f->note, by, (double)now.tv_sec + (double)now.tv_nsec / 1e9);
}

static int already_say(const struct store_incident *in)
{
	struct str line = { 0 };
	char when[32] = "";
	time_t t = (time_t)in->label_at;
	struct tm tm;

	if (localtime_r(&t, &tm))
		strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &tm);
	text_add_safe(&line, in->by);
	log_error("%s is already labelled a %s (by %s, %s); nothing was changed", in->id, verdict_word(in->true_positive), str_error(&line) || !line.n ? "somebody" : line.p,
		  when);
	str_done(&line);
	return EXIT_USAGE;
}

static int feedback_give(struct store *s, const char *id, const struct feedback *f, const char *dir)
{
	struct store_incident in = { 0 };
	struct str scope = { 0 };
	bool running = store_in_use(s);
	int r = store_begin(s); /* before the look: another one may be about to say the same */

	if (r == 0)
		r = store_get_incident(s, id, &in);
	if (r == -ENOENT) {
		store_rollback(s);
		unknown_say(s, id, dir);
		return EXIT_USAGE;
	}
	if (r == 0 && in.labelled && in.true_positive == f->true_positive) {
		store_rollback(s);
		r = already_say(&in);
		store_incident_done(&in);
		return r;
	}
	if (r == 0)
		r = label_put(s, id, f);
	if (r == 0)
		r = store_commit(s);
	if (r < 0) {
		store_rollback(s);
		log_error("the label could not be stored in %s: %s", dir, r == -EBUSY ? "another process holds the database; try again" : r == -EDQUOT ? "too many labels are stored" :
			  *store_error(s) ? store_error(s) : strerror(-r));
	} else {
		text_add_scope(&scope, in.scope_kind, in.scope_value);
		printf("%s %s (%s) is a %s now%s%s; %s\n", anomaly_class_name(in.cls), in.id, str_error(&scope) ? "" : scope.p, verdict_word(f->true_positive),
		       in.labelled ? ", no longer a " : "", in.labelled ? verdict_word(in.true_positive) : "",
		       running ? "the running agent hears of it within a second" : "no agent is running there: the next one starts with it");
		str_done(&scope);
		r = fflush(stdout) == EOF ? -EIO : 0;
	}
	store_incident_done(&in);
	return r < 0 ? EXIT_FAILURE : 0;
}

static bool note_is_text(const char *note)
{
	size_t n = strlen(note), step = 1;

	for (size_t i = 0; i < n && step; i += step)
		step = str_utf8_len(note + i, n - i);
	return step > 0;
}

static int arguments_check(const struct feedback *f, int argc, char **argv, int first)
{
	if (argc - first != 1)
		log_error("feedback: %s (weir feedback --help)", argc == first ? "of which incident? weir anomalies lists their ids" : "one incident at a time");
	else if (f->false_positive == f->true_positive)
		log_error("feedback: %s (weir feedback --help)", f->true_positive ? "--false-positive or --true-positive, not both" : "say --false-positive or --true-positive");
	else if (strlen(argv[first]) >= STORE_ID)
		log_error("feedback: an incident's id is shorter than %d bytes", STORE_ID);
	else if (f->note && strlen(f->note) >= STORE_NOTE)
		log_error("--note: at most %d bytes", STORE_NOTE - 1);
	else if (f->note && !note_is_text(f->note))
		log_error("--note: not UTF-8 text");
	else
		return 0;
	return -EINVAL;
}

int cmd_feedback(int argc, char **argv)
{
	struct feedback f = { 0 };
	struct store *s = NULL;
	char why[STORE_WHY];
	const char *dir;
	int first = 0, r = options_parse(rows, ARRAY_SIZE(rows), &f, "feedback ID (--false-positive | --true-positive) [OPTION...]", argc, argv, &first), status;

	if (r == 0)
		r = arguments_check(&f, argc, argv, first);
	if (r) {
		options_done(rows, ARRAY_SIZE(rows), &f);
		return r < 0 ? EXIT_USAGE : 0;
	}
	dir = f.state ? f.state : STATE_DEFAULT;
	r = store_open(dir, STORE_LABEL, BUSY_MS, why, &s);
	if (r < 0) {
		log_error("%s", why);
		status = r == -ENOENT || r == -ENOTDIR ? EXIT_USAGE : EXIT_FAILURE;
	} else {
		status = feedback_give(s, argv[first], &f, dir);
	}
	store_close(s, false);
	options_done(rows, ARRAY_SIZE(rows), &f);
	return status;
}
