/* weir eval on cases small enough to be worked out by hand. */
#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <sys/stat.h>

#include "cmd/eval_json.h"
#include "cmd/eval_score.h"
#include "cmd/eval_trial.h"

#define PI "3.1415926" /* a text that is in no name of a file */

/* A folder of its own for the files of a case. */
static char dir[64];

static void put(const char *name, const char *text)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	/* Quotes are written as ' in the cases, so that they can be read. */
	for (; *text; text++)
		fputc(*text == '\'' ? '"' : *text, f);
	fclose(f);
}

static int folder_make(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/weir-test-eval.XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int folder_drop(void **state)
{
	static const char *const names[] = { "labels.json", "events.jsonl", "stream.json", "records.jsonl" };
	char path[128];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		unlink(path);
	}
	return rmdir(dir);
}

/* Streams of one run, so that the tests can hold several. */
struct run {
	struct eval_classes classes;
	struct eval_stream stream[16];
	size_t n;
	struct eval_result r;
	char why[EVAL_WHY];
};

static char last_complaint[EVAL_WHY];
static void complain(const char *message)
{
	snprintf(last_complaint, sizeof(last_complaint), "%s", message);
}

static int load(struct run *run, const char *labels, const char *events)
{
	char path[128];
	int e;

	put("labels.json", labels);
	put("events.jsonl", events);
	if (!run->classes.n)
		assert_int_equal(eval_classes_init(&run->classes), 0);
	snprintf(path, sizeof(path), "%s/labels.json", dir);
	e = eval_read_labels(path, &run->classes, &run->stream[run->n], run->why);
	snprintf(path, sizeof(path), "%s/events.jsonl", dir);
	if (e == 0)
		e = eval_read_events(path, &run->classes, &run->stream[run->n], complain, run->why);
	run->n++;
	return e;
}

static void done(struct run *run)
{
	for (size_t i = 0; i < run->n; i++)
		eval_stream_done(&run->stream[i]);
	eval_classes_done(&run->classes);
	free(run);
}

static struct run *fresh(void)
{
	struct run *run = calloc(1, sizeof(*run));

	assert_non_null(run);
	return run;
}

/* One stream of a day, no intervals. */
static struct run *judge(const char *labels, const char *events)
{
	struct run *run = fresh();
	struct eval_opts o = { .warmup_s = NAN };

	put("stream.json", "{'start':0,'end':86400,'warmup':0}");
	assert_int_equal(load(run, labels, events), 0);
	assert_int_equal(eval_score(run->stream, run->n, &o, &run->r), 0);
	return run;
}

#define NEAR(a, b) assert_true(fabs((a) - (b)) < 1e-9)
#define LABEL(id, cls, start, end, kind, value) \
	"{'id':'" id "','class':'" cls "','start':" start ",'end':" end ",'intensity':4,'benign':false,'scope':{'kind':'" kind "','value':'" value "'},'actors':{'" kind "':['" value "']}}"
#define EVENT(event, id, t, cls, severity, kind, value) \
	"{'event':'" event "','id':'" id "','detected':" t ",'class':'" cls "','severity':'" severity "','scope':{'kind':'" kind "','value':'" value "'}}\n"

/* An address that floods from 1000 to 1300; a key that scrapes from 5000 to 7000. */
#define FLOOD LABEL("f", "flood", "1000", "1300", "client_ip", "192.0.2.7")
#define SCRAPING LABEL("s", "scraping", "5000", "7000", "api_key", "k7")
#define BOTH "[" FLOOD "," SCRAPING "]"

static void silence_detects_nothing(void **state)
{
	struct run *run = judge(BOTH, "");

	(void)state;
	NEAR(run->r.value.macro_f1[EVAL_TOLD], 0);
	NEAR(run->r.value.recall_any, 0);
	NEAR(run->r.confusion[CLASS_FLOOD][EVAL_CLASSES_MAX], 1);
	NEAR(run->r.value.false_warnings_per_day, 0);
	assert_true(isnan(run->r.value.delay[EVAL_DELAY_ANY][EVAL_P95]));
	assert_true(isnan(run->r.value.scope_named));
	done(run);
}

static void all_right(void **state)
{
	struct run *run = judge(BOTH, EVENT("open", "a", "1004", "flood", "critical", "client_ip", "192.0.2.7") EVENT("open", "b", "5100", "scraping", "warning", "api_key", "k7")
					      EVENT("close", "b", "7010", "scraping", "warning", "api_key", "k7"));

	(void)state;
	NEAR(run->r.value.macro_f1[EVAL_TOLD], 1);
	NEAR(run->r.value.macro_f1[EVAL_OPENED], 1);
	NEAR(run->r.value.macro_f1[EVAL_TOLD_3X], 1);
	NEAR(run->r.value.f1_any, 1);
	NEAR(run->r.value.scope_exact, 1);
	NEAR(run->r.value.opens_per_event, 1);
	NEAR(run->r.value.delay[EVAL_DELAY_ANY][EVAL_MAX], 100);
	NEAR(run->r.value.delay[EVAL_DELAY_ANY][EVAL_P50], 52);
	NEAR(run->r.value.delay[EVAL_DELAY_VOLUME][EVAL_P95], 4);
	NEAR(run->r.value.alarm_share, 0);
	done(run);
}

static void the_window_has_edges(void **state)
{
	static const struct {
		const char *t;
		bool in;
	} cases[] = { { "969.9", false }, { "970", true }, { "1420", true }, { "1420.1", false } };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char line[256];
		struct run *run;

		snprintf(line, sizeof(line), "{'event':'open','id':'a','detected':%s,'class':'flood','severity':'warning','scope':{'kind':'client_ip','value':'192.0.2.7'}}", cases[i].t);
		run = judge("[" FLOOD "]", line);
		NEAR(run->r.counts.tp[EVAL_TOLD][CLASS_FLOOD], cases[i].in);
		NEAR(run->r.counts.false_opens[SEVERITY_WARNING], !cases[i].in);
		done(run);
	}
	/* A drift has an hour. */
	struct run *run = judge("[" LABEL("g", "token_growth", "1000", "2000", "api_key", "k7") "]", EVENT("open", "a", "5599", "token_growth", "warning", "api_key", "k7"));
	NEAR(run->r.value.recall_any, 1);
	done(run);
}

static void the_class_may_change(void **state)
{
	/* unknown, then ddos, then the right one, which it keeps */
	struct run *run = judge("[" FLOOD "]", EVENT("open", "a", "1010", "unknown", "warning", "client_ip", "192.0.2.7") EVENT("update", "a", "1020", "ddos", "warning", "global", "")
								  EVENT("update", "a", "1050", "flood", "warning", "client_ip", "192.0.2.7"));

	(void)state;
	NEAR(run->r.value.macro_f1[EVAL_OPENED], 0);
	NEAR(run->r.value.macro_f1[EVAL_TOLD], 1);
	NEAR(run->r.value.delay[EVAL_DELAY_ANY][EVAL_P50], 10);
	NEAR(run->r.value.delay[EVAL_DELAY_RIGHT][EVAL_P50], 50);
	done(run);
}

static void a_wrong_class_counts_once_in_a_window(void **state)
{
	struct run *run = judge("[" FLOOD "]", EVENT("open", "a", "1010", "ddos", "warning", "client_ip", "192.0.2.7") EVENT("open", "b", "1110", "ddos", "warning", "client_ip", "192.0.2.7")
								  EVENT("open", "c", "1120", "unknown", "warning", "client_ip", "192.0.2.7"));

	(void)state;
	NEAR(run->r.counts.fp[EVAL_TOLD][CLASS_DDOS], 1);
	NEAR(run->r.value.recall_any, 1);
	NEAR(run->r.value.macro_f1[EVAL_TOLD], 0);
	NEAR(run->r.confusion[CLASS_FLOOD][CLASS_DDOS], 1);
	NEAR(run->r.value.opens_per_event, 3);
	NEAR(run->r.value.false_warnings_per_day, 0);
	done(run);
}

static void who_is_named_matters(void **state)
{
	/* another key: false; nobody: no answer; the sixth in top, or one with a small share: nobody, too */
	struct run *run = judge("[" SCRAPING "]", EVENT("open", "a", "5010", "scraping", "warning", "api_key", "k8") EVENT("open", "b", "5020", "scraping", "warning", "global", "")
						  "{'event':'open','id':'c','detected':5030,'class':'scraping','severity':'warning','scope':{'kind':'client_ip','value':'x'},'top':["
						  "{'kind':'api_key','value':'k7','share':0.09},{'kind':'user','value':'2','share':0.5},{'kind':'user','value':'3','share':0.5},"
						  "{'kind':'user','value':'4','share':0.5},{'kind':'user','value':'5','share':0.5},{'kind':'api_key','value':'k7','share':0.5}]}\n");

	(void)state;
	NEAR(run->r.counts.false_all, 2);
	NEAR(run->r.counts.fp[EVAL_TOLD][CLASS_SCRAPING], 2);
	/* The third names nobody of the label, but no other key either: it is right, and its scope is not. */
	NEAR(run->r.value.recall_any, 1);
	NEAR(run->r.value.scope_named, 0);
	done(run);
	run = judge("[" SCRAPING "]", "{'event':'open','id':'c','detected':5030,'class':'scraping','severity':'warning','scope':{'kind':'client_ip','value':'x'},"
				      "'top':[{'kind':'api_key','value':'k7','share':0.1}]}\n");
	NEAR(run->r.value.scope_named, 1);
	NEAR(run->r.value.scope_exact, 0);
	done(run);
}

static void what_is_whispered(void **state)
{
	/* info is counted by itself; raised later, it counts from then on */
	struct run *run = judge(BOTH, EVENT("open", "a", "1004", "flood", "info", "client_ip", "192.0.2.7") EVENT("open", "b", "5100", "scraping", "info", "api_key", "k7")
					      EVENT("update", "b", "5200", "scraping", "warning", "api_key", "k7"));

	(void)state;
	NEAR(run->r.value.recall_any, 0.5);
	NEAR(run->r.value.info_per_day, 1);
	NEAR(run->r.value.delay[EVAL_DELAY_ANY][EVAL_P50], 200);
	done(run);
	/* A benign surge is judged although it whispers, and one that turns out to be a flood was opened as a flood. */
	run = judge("[{'id':'c','class':'flash_crowd','start':100,'end':900,'intensity':2,'benign':true,'scope':{'kind':'global','value':''},'actors':{}}," FLOOD "]",
		    EVENT("open", "a", "150", "flash_crowd", "info", "global", "") EVENT("close", "a", "950", "flash_crowd", "info", "global", "")
			    EVENT("open", "b", "1001", "flash_crowd", "info", "global", "") EVENT("update", "b", "1003", "flood", "warning", "client_ip", "192.0.2.7"));
	NEAR(run->r.value.macro_f1[EVAL_OPENED], 1);
	NEAR(run->r.value.precision[EVAL_TOLD][CLASS_FLASH_CROWD], 1);
	NEAR(run->r.value.delay[EVAL_DELAY_RIGHT][EVAL_MAX], 50);
	done(run);
}

static void a_crowd_that_is_called_an_attack(void **state)
{
	struct run *run = judge("[{'id':'c','class':'flash_crowd','start':100,'end':900,'intensity':2,'benign':true,'scope':{'kind':'global','value':''},'actors':{}}]",
				EVENT("open", "a", "150", "ddos", "critical", "global", ""));

	(void)state;
	NEAR(run->r.counts.crowds_as_attack, 1);
	NEAR(run->r.counts.fp[EVAL_TOLD][CLASS_DDOS], 1);
	NEAR(run->r.value.recall_any, 1);
	done(run);
}

static void what_follows_is_neither(void **state)
{
	/* the model is slow under the flood; its address is dear; another key's cost is not explained by it */
	struct run *run = judge("[" FLOOD "]", EVENT("open", "a", "1010", "latency_regression", "warning", "model", "m") EVENT("open", "b", "1020", "cost_spike", "warning", "client_ip", "192.0.2.7")
								  EVENT("open", "c", "1030", "cost_spike", "warning", "client_ip", "192.0.2.8"));

	(void)state;
	NEAR(run->r.counts.fp[EVAL_TOLD][CLASS_LATENCY_REGRESSION], 0);
	NEAR(run->r.counts.fp[EVAL_TOLD][CLASS_COST_SPIKE], 1);
	NEAR(run->r.counts.false_all, 1);
	NEAR(run->r.value.recall_any, 1);
	NEAR(run->r.value.recall_direct, 0);
	NEAR(run->r.value.f1_any, 2.0 / 3);
	NEAR(run->r.confusion[CLASS_FLOOD][CLASS_LATENCY_REGRESSION], 1);
	done(run);
}

static void a_drift_hides_nothing(void **state)
{
	struct run *run = judge("[" LABEL("g", "token_growth", "0", "20000", "api_key", "k9") "," SCRAPING "]",
				EVENT("open", "a", "3000", "unknown", "warning", "model", "m") EVENT("open", "b", "5010", "scraping", "warning", "api_key", "k7")
					EVENT("open", "c", "6000", "token_growth", "warning", "api_key", "k9"));

	(void)state;
	NEAR(run->r.counts.false_all, 1);
	NEAR(run->r.value.macro_f1[EVAL_TOLD], 1);
	done(run);
}

static void benign_causes(void **state)
{
	static const char labels[] = "[{'id':'n','class':'natural_shift','start':1000,'end':2000,'intensity':0,'benign':true,'scope':{'kind':'api_key','value':'k7'},'actors':{}},"
				     "{'id':'j','class':'nightly_batch','start':5000,'end':6000,'intensity':0,'benign':true,'scope':null,'actors':{},"
				     "'accept':{'classes':['cost_spike'],'severity':'warning'}}]";
	struct run *run = judge(labels, EVENT("open", "a", "1100", "cost_spike", "warning", "api_key", "k7") /* it moved by itself */
				EVENT("open", "b", "1100", "cost_spike", "warning", "api_key", "k8")   /* that one did not */
				EVENT("open", "c", "1100", "prompt_probing", "warning", "api_key", "k7") /* and so it does not move */
				EVENT("open", "d", "5100", "cost_spike", "warning", "api_key", "k7")   /* in order */
				EVENT("open", "e", "5200", "cost_spike", "critical", "api_key", "k7")  /* too loud */
				EVENT("open", "f", "5300", "flood", "warning", "api_key", "k7"));      /* not that */

	(void)state;
	NEAR(run->r.value.natural_per_day, 1);
	NEAR(run->r.counts.accepted, 1);
	NEAR(run->r.counts.false_opens[SEVERITY_WARNING], 3);
	NEAR(run->r.counts.false_opens[SEVERITY_CRITICAL], 1);
	NEAR(run->r.value.false_criticals_per_week, 7);
	NEAR(run->r.false_by_cause[eval_class_of(&run->classes, "nightly_batch")], 2);
	assert_true(isnan(run->r.value.macro_f1[EVAL_TOLD]));
	done(run);
}

static void time_in_alarm(void **state)
{
	/* A day less 30 + 300 + 120 s of label is clean; two alarms that overlap ring from 20000 to 20300, a third runs to the end. */
	struct run *run = judge("[" FLOOD "]", EVENT("open", "a", "20000", "flood", "warning", "global", "") EVENT("open", "b", "20100", "ddos", "warning", "global", "")
								  EVENT("close", "a", "20200", "flood", "warning", "global", "") EVENT("close", "b", "20300", "ddos", "warning", "global", "")
									  EVENT("open", "c", "86000", "unknown", "warning", "global", ""));

	(void)state;
	NEAR(run->r.value.alarm_share, 700.0 / (86400 - 450));
	NEAR(run->r.counts.days, 1);
	done(run);
}

static void the_warmup_does_not_count(void **state)
{
	struct run *run = fresh();
	struct eval_opts o = { .warmup_s = 2000 };

	(void)state;
	put("stream.json", "{'start':0,'end':86400,'warmup':50000}"); /* the option wins */
	assert_int_equal(load(run, BOTH, EVENT("open", "a", "500", "ddos", "critical", "global", "") EVENT("open", "b", "5010", "scraping", "warning", "api_key", "k7")), 0);
	assert_int_equal(eval_score(run->stream, run->n, &o, &run->r), 0);
	NEAR(run->r.counts.truth, 1);
	NEAR(run->r.counts.false_all, 0);
	NEAR(run->r.value.recall_any, 1);
	NEAR(run->r.counts.days, 84400.0 / 86400);
	done(run);
}

static void opened_again_is_a_flap(void **state)
{
	struct run *run = judge("[" FLOOD "]", EVENT("open", "a", "1010", "flood", "warning", "client_ip", "192.0.2.7") EVENT("close", "a", "1050", "flood", "warning", "client_ip", "192.0.2.7")
								  EVENT("open", "a", "'1970-01-01T00:18:00Z'", "flood", "warning", "client_ip", "192.0.2.7"));

	(void)state;
	NEAR(run->r.value.right_opens_per_event, 2);
	NEAR(run->r.counts.fp[EVAL_TOLD][CLASS_FLOOD], 0);
	done(run);
}

static void weak_attacks_are_apart(void **state)
{
	struct run *run = judge("[" FLOOD ",{'id':'w','class':'flood','start':9000,'end':9100,'intensity':1.5,'scope':null,'actors':{}}]",
				EVENT("open", "a", "1010", "flood", "warning", "client_ip", "192.0.2.7") EVENT("open", "b", "9010", "ddos", "warning", "global", ""));

	(void)state;
	NEAR(run->r.value.f1[EVAL_TOLD][CLASS_FLOOD], 2.0 / 3);
	NEAR(run->r.value.f1[EVAL_TOLD_3X][CLASS_FLOOD], 1);
	/* The wrong word about the weak one is held against ddos in the first table only. */
	NEAR(run->r.counts.fp[EVAL_TOLD][CLASS_DDOS], 1);
	NEAR(run->r.counts.fp[EVAL_TOLD_3X][CLASS_DDOS], 0);
	done(run);
}

static void weighted_quantiles(void **state)
{
	struct eval_wait v[] = { { 1, 0 }, { 2, 1 }, { 3, 0 }, { 10, 2 } };
	struct eval_waits w = { v, 4, 4 };
	uint32_t times[] = { 2, 0, 1 }; /* 1 1 3 3 10 */

	(void)state;
	NEAR(eval_quantile(&w, NULL, 0.5), 2.5);
	NEAR(eval_quantile(&w, NULL, 1), 10);
	NEAR(eval_quantile(&w, times, 0.5), 3);
	NEAR(eval_quantile(&w, times, 0.95), 3 + 0.8 * 7);
	assert_true(isnan(eval_quantile(&w, (uint32_t[]){ 0, 0, 0 }, 0.5)));
}

static void intervals(void **state)
{
	struct run *run = fresh(), *other = fresh();
	struct eval_opts o = { .warmup_s = NAN, .resamples = 500, .seed = 1 };
	struct eval_result again;

	(void)state;
	put("stream.json", "{'start':0,'end':86400}");
	/* Eight streams see their flood, four do not: 2/3. */
	for (int i = 0; i < 12; i++)
		assert_int_equal(load(run, "[" FLOOD "]", i % 3 ? EVENT("open", "a", "1010", "flood", "warning", "client_ip", "192.0.2.7") : ""), 0);
	assert_int_equal(eval_score(run->stream, run->n, &o, &run->r), 0);
	assert_int_equal(run->r.units, 12);
	NEAR(run->r.value.recall_any, 2.0 / 3);
	/* binomial(12, 2/3): 95 % of it lies within 5/12 and 11/12 */
	NEAR(run->r.low.recall_any, 5.0 / 12);
	NEAR(run->r.high.recall_any, 11.0 / 12);
	/* Precision was never wrong in 8: no better than 0.025^(1/8) is shown. */
	NEAR(run->r.low.precision[EVAL_TOLD][CLASS_FLOOD], pow(0.025, 1.0 / 8));
	/* No false alarm in 12 days: ln 40 / 12 a day may be. */
	NEAR(run->r.high.false_warnings_per_day, log(40) / 12);
	NEAR(run->r.low.false_warnings_per_day, 0);
	assert_int_equal(eval_score(run->stream, run->n, &o, &again), 0);
	assert_memory_equal(&again, &run->r, sizeof(again));
	o.seed = 2;
	assert_int_equal(eval_score(run->stream, run->n, &o, &again), 0);
	assert_memory_not_equal(&again.low, &run->r.low, sizeof(again.low));
	/* One stream of a day: stretches of an hour. */
	assert_int_equal(load(other, "[" FLOOD "]", ""), 0);
	assert_int_equal(eval_score(other->stream, other->n, &o, &other->r), 0);
	assert_int_equal(other->r.units, 24);
	NEAR(other->r.unit_s, 3600);
	done(run);
	done(other);
}

static void rates_of_few_events(void **state)
{
	/* Garwood's exact bounds, from any table: 0: 0-3.689, 1: 0.0253-5.572, 4: 1.090-10.24 */
	static const struct {
		double k, low, high;
	} rows[] = { { 0, 0, 3.689 }, { 1, 0.0253, 5.572 }, { 4, 1.090, 10.242 }, { 20, 12.22, 30.89 } };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		double low, high;

		eval_rate_bounds(rows[i].k, 2, &low, &high);
		assert_true(fabs(low - rows[i].low / 2) < 0.01 && fabs(high - rows[i].high / 2) < 0.02);
	}
}

static void bad_labels_are_named(void **state)
{
	static const struct {
		const char *labels, *what;
	} cases[] = {
		{ "{'id':1}", "not a list" },
		{ "[" FLOOD ",7]", "label 1: not an object" },
		{ "[" FLOOD ",\n{'id':'x','class':'flood','start':1}]", "label 1: end is missing" },
		{ "[{'id':'x','class':4,'start':1,'end':2}]", "label 0: class is not a text" },
		{ "[{'id':'x','class':'flood','start':'soon','end':2}]", "label 0: start is not a number" },
		{ "[{'id':'x','class':'flood','start':3,'end':2}]", "label 0: it ends before it starts" },
		{ "[{'id':'x','class':'flood','start':3,'end':4,'scope':'me'}]", "label 0: scope is not an object" },
		{ "[{'id':'x','class':'flood','start':3,'end':4,'actors':{'user':'me'}}]", "label 0: actors.user is not a list" },
		{ "[{'id':'x','class':'flood','start':3,'end':4,'accept':{'classes':['flood'],'severity':'loud'}}]", "label 0: accept wants" },
		{ "[" FLOOD "," SCRAPING "," FLOOD "]", "label 2: its id is another label's" },
		{ "[\n\n{'id'", "labels.json:3: " },
		{ "", "labels.json:" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct run *run = fresh();

		assert_int_equal(load(run, cases[i].labels, ""), -EBADMSG);
		assert_non_null(strstr(run->why, dir));
		if (!strstr(run->why, cases[i].what))
			fail_msg("'%s' does not say '%s'", run->why, cases[i].what);
		done(run);
	}
	struct run *run = fresh();
	put("stream.json", "{'start':'then'}");
	assert_int_equal(load(run, "[]", ""), -EBADMSG);
	assert_non_null(strstr(run->why, "stream.json: start is not a number"));
	done(run);
	put("stream.json", "{'start':0,'end':86400}");
}

static void bad_events_are_named_and_counted(void **state)
{
	struct run *run = judge("[" FLOOD "]", EVENT("open", "a", "1010", "flood", "warning", "client_ip", "192.0.2.7") "\n  \nrubbish " PI "\n{'event':'close','id':'zz','detected':5}\n"
											       "[]\n{'event':'open','id':'y','detected':'noon'}\n");

	(void)state;
	assert_int_equal(run->stream[0].bad_lines, 4);
	assert_non_null(strstr(last_complaint, "events.jsonl:7: neither detected nor start is a time"));
	assert_null(strstr(last_complaint, PI));
	NEAR(run->r.value.macro_f1[EVAL_TOLD], 1);
	done(run);
	run = fresh();
	assert_int_equal(load(run, "[]", "\nrubbish\nmore\n"), -EBADMSG);
	assert_non_null(strstr(run->why, "events.jsonl:2: no event here"));
	done(run);
}

static void strange_names_are_no_trouble(void **state)
{
	struct str out = { .ceiling = 1u << 20 };
	/* A class of nobody's, an id that is a number, one that is missing, a name with a quote in it. */
	struct run *run = judge("[{'id':5,'class':'a \\\"b','start':1,'end':9,'benign':true}]", "{'event':'open','detected':5,'class':'x\\\\y','severity':'warning'}\n"
												"{'event':'open','id':17,'detected':6,'severity':'high','top':[{'kind':'user','value':3,'share':1}]}\n"
												"{'event':'update','id':17,'detected':7,'class':'ddos'}\n");
	json_t *o;

	(void)state;
	assert_int_equal(run->stream[0].incidents, 2);
	eval_write_json(&out, &run->r, &run->classes);
	assert_int_equal(str_error(&out), 0);
	o = json_loads(out.p, 0, NULL);
	assert_non_null(o);
	assert_int_equal(json_integer_value(json_object_get(json_object_get(o, "false_by_cause"), "a \"b")), 2);
	assert_int_equal(json_integer_value(json_object_get(json_object_get(json_object_get(o, "confusion"), "none"), "x\\y")), 1);
	json_decref(o);
	str_reset(&out);
	eval_write_text(&out, &run->r, &run->classes);
	assert_non_null(strstr(out.p, "false warnings and criticals a day"));
	str_done(&out);
	done(run);
}

static void many_names_are_cut(void **state)
{
	struct str events = { .ceiling = 1u << 24 };
	struct run *run;

	(void)state;
	for (int i = 0; i < EVAL_NAMES_MAX + 10; i++)
		str_addf(&events, "{'event':'%s','id':'a','detected':%d,'class':'flood','severity':'warning','scope':{'kind':'user','value':'%d'}}\n", i ? "update" : "open", 1000 + i, i * 7919);
	run = judge("[" FLOOD "]", events.p);
	assert_int_equal(run->stream[0].incident[0].scopes.n, EVAL_NAMES_MAX);
	assert_int_equal(run->r.names_left_out, 10);
	assert_true(eval_names_have(&run->stream[0].incident[0].scopes, "user", "7919"));
	assert_false(eval_names_have(&run->stream[0].incident[0].scopes, "user", "7918"));
	str_done(&events);
	done(run);
}

/* An hour and a half of four customers, some three requests a second. */
static void attacks_laid_into_a_file(void **state)
{
	struct str records = { .ceiling = 1u << 23 };
	struct eval_classes classes;
	struct eval_stream said = { 0 };
	struct trial_sight sight[TRIAL_TIMES_MAX];
	struct site site;
	char path[128];
	uint32_t x = 1;

	(void)state;
	for (int i = 0; i < 16000; i++) {
		x = x * 1664525 + 1013904223;
		str_addf(&records, "{'timestamp':%.3f,'client_ip':'10.0.0.%u','api_key':'k%u','model_name':'%s','prompt_tokens':%u,'completion_tokens':%u,'status':200,'ttft_ms':90,'duration_ms':700}\n",
			 1767225600 + i * 0.34, x >> 30, x >> 30, x >> 12 & 1 ? "big" : "small", 200 + (x >> 20 & 255), 50 + (x >> 16 & 63));
	}
	put("records.jsonl", records.p);
	str_done(&records);
	snprintf(path, sizeof(path), "%s/records.jsonl", dir);
	assert_int_equal(eval_classes_init(&classes), 0);
	assert_int_equal(site_survey(path, 1, &classes, &site, &said), 0);
	assert_int_equal(site.records, 16000);
	assert_int_equal(site.times, 2);
	assert_int_equal(site.victims, 4);
	assert_int_equal(site.victim[0].field, F_API_KEY);
	assert_true(site.victim[0].tokens_per_min > 4000 && site.victim[0].tokens_per_min < 40000);
	for (enum trial_kind k = 0; k < TRIAL_KINDS; k++) {
		size_t n;
		const double *level = trial_levels(k, &n);

		assert_null(trial_lacks(k, &site));
		assert_int_equal(trial_blank(&site, k, &said, sight), 0);
		assert_false(sight[0].seen || sight[1].seen);
		assert_int_equal(trial_run(path, &site, k, level[n - 1], &classes, sight), 0);
		/* Nothing that is twenty times the usual may pass. */
		if (k == TRIAL_FLOOD) {
			assert_true(sight[0].seen && sight[1].seen && sight[0].right);
			assert_true(sight[0].delay_s <= 30);
			assert_true(sight[0].score[CLASS_FLOOD] > 0);
		}
	}
	eval_stream_done(&said);
	site_done(&site);
	/* A file that ends before anything is learnt, and one that holds nothing. */
	put("records.jsonl", "{'timestamp':1767225600}\n{'timestamp':1767226600}\n");
	assert_int_equal(site_survey(path, 1, &classes, &site, &said), -EINVAL);
	eval_stream_done(&said);
	site_done(&site);
	put("records.jsonl", "");
	assert_int_equal(site_survey(path, 1, &classes, &site, &said), -EINVAL);
	eval_stream_done(&said);
	site_done(&site);
	eval_classes_done(&classes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(silence_detects_nothing),
		cmocka_unit_test(all_right),
		cmocka_unit_test(the_window_has_edges),
		cmocka_unit_test(the_class_may_change),
		cmocka_unit_test(a_wrong_class_counts_once_in_a_window),
		cmocka_unit_test(who_is_named_matters),
		cmocka_unit_test(what_is_whispered),
		cmocka_unit_test(a_crowd_that_is_called_an_attack),
		cmocka_unit_test(what_follows_is_neither),
		cmocka_unit_test(a_drift_hides_nothing),
		cmocka_unit_test(benign_causes),
		cmocka_unit_test(time_in_alarm),
		cmocka_unit_test(the_warmup_does_not_count),
		cmocka_unit_test(opened_again_is_a_flap),
		cmocka_unit_test(weak_attacks_are_apart),
		cmocka_unit_test(weighted_quantiles),
		cmocka_unit_test(intervals),
		cmocka_unit_test(rates_of_few_events),
		cmocka_unit_test(bad_labels_are_named),
		cmocka_unit_test(bad_events_are_named_and_counted),
		cmocka_unit_test(strange_names_are_no_trouble),
		cmocka_unit_test(many_names_are_cut),
		cmocka_unit_test(attacks_laid_into_a_file),
	};

	return cmocka_run_group_tests(tests, folder_make, folder_drop);
}
