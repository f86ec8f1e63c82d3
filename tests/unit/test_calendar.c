/* The calendar: when an entry is on, what it explains, and what a file may say. */
#include <unistd.h>

#include "cmd/calendar_file.h"
#include "test_detect_gen.h"

#define DAY 86400.0
#define ENTRY "{\"name\":\"n\",\"start\":1000,\"end\":2000"

static struct calendar *parsed(const char *text)
{
	struct calendar *c = NULL;
	char why[CALENDAR_WHY];

	if (calendar_file_parse("c.jsonl", span_of(text), &c, why) < 0)
		print_message("%s\n", why);
	assert_non_null(c);
	return c;
}

static void refused(const char *text, const char *where)
{
	struct calendar *c = NULL;
	char why[CALENDAR_WHY];

	assert_int_equal(calendar_file_parse("c.jsonl", span_of(text), &c, why), -EINVAL);
	assert_null(c);
	if (!strstr(why, where))
		print_message("%s\n", why);
	assert_non_null(strstr(why, where));
}

static void an_entry_is_on_from_start_to_end(void **state)
{
	struct calendar *c = parsed("\n" ENTRY "}\r\n  \n{\"name\":\"m\",\"start\":\"1970-01-01T01:00:00Z\",\"end\":\"1970-01-01T01:00:00+00:00\"}");

	(void)state;
	assert_int_equal(c->n, 2);
	assert_string_equal(c->entry[0].name, "n");
	assert_int_equal(c->entry[0].kind, ENTITY_GLOBAL);
	assert_int_equal(c->entry[0].classes, (1u << CLASS_COUNT) - 1);
	assert_false(calendar_on(&c->entry[0], 999, 0));
	assert_true(calendar_on(&c->entry[0], 999, 1));
	assert_true(calendar_on(&c->entry[0], 1000, 0) && calendar_on(&c->entry[0], 2000, 0));
	assert_false(calendar_on(&c->entry[0], 2001, 10));
	assert_false(calendar_on(&c->entry[0], 1000 + DAY, 0));
	assert_true(calendar_on(&c->entry[1], 3600, 0) && !calendar_on(&c->entry[1], 3601, 0));
	calendar_free(c);
}

static void it_repeats(void **state)
{
	struct calendar *c = parsed(ENTRY ",\"repeat\":\"daily\"}\n" ENTRY ",\"repeat\":\"weekly\"}\n{\"name\":\"over midnight\",\"start\":80000,\"end\":90000,\"repeat\":\"daily\"}");

	(void)state;
	for (int day = 0; day < 20; day++) {
		assert_true(calendar_on(&c->entry[0], day * DAY + 1500, 0));
		assert_false(calendar_on(&c->entry[0], day * DAY + 2500, 100));
		assert_int_equal(calendar_on(&c->entry[1], day * DAY + 1500, 0), day % 7 == 0);
		assert_true(calendar_on(&c->entry[2], day * DAY + 85000, 0));
		assert_int_equal(calendar_on(&c->entry[2], day * DAY + 3000, 0), day > 0);
		assert_true(calendar_on(&c->entry[0], day * DAY + 900, 100));
	}
	calendar_free(c);
}

/* An hour ahead from day 10 on, back from day 20. */
static void it_keeps_the_local_hour(void **state)
{
	static int64_t at[] = { 0, 864000 + 7200, 1728000 + 7200 };
	static int32_t offset[] = { 3600, 7200, 3600 };
	struct calendar_zone z = { (char *)(uintptr_t)"Here/There", at, offset, ARRAY_SIZE(at) };
	struct calendar_entry e = { .start = 8 * 3600, .end = 9 * 3600, .repeat = REPEAT_DAILY, .zone = &z };

	(void)state;
	assert_true(calendar_on(&e, 9 * DAY + 8.5 * 3600, 0));
	assert_true(calendar_on(&e, 12 * DAY + 7.5 * 3600, 0));
	assert_false(calendar_on(&e, 12 * DAY + 8.5 * 3600, 0));
	assert_true(calendar_on(&e, 25 * DAY + 8.5 * 3600, 0));
	for (double t = 0; t < 30 * DAY; t += 977) {
		double back = calendar_instant(&z, calendar_local(&z, t));

		/* The hour that is there twice has two instants. */
		assert_true(back == t || (t >= 1728000 + 3600 && t < 1728000 + 10800));
	}
	/* 03:30 of day 10 is not on the clock: it goes from 03:00 to 04:00. */
	assert_true(calendar_instant(&z, 10 * DAY + 3.5 * 3600) == 10 * DAY + 2.5 * 3600);
}

static void a_named_zone(void **state)
{
	struct calendar *c;

	(void)state;
	if (access("/usr/share/zoneinfo/Europe/Berlin", R_OK) < 0) {
		print_message("SKIP: no tzdata here\n");
		skip();
	}
	setenv("TZ", "Asia/Tokyo", 1);
	c = parsed("{\"name\":\"n\",\"start\":\"2026-03-27T09:00:00\",\"end\":\"2026-03-27T10:00:00\",\"repeat\":\"daily\",\"zone\":\"Europe/Berlin\"}\n"
		   "{\"name\":\"u\",\"start\":\"2026-03-27T09:00:00\",\"end\":\"2026-03-27T10:00:00Z\",\"zone\":\"UTC\"}\n" ENTRY ",\"zone\":\"Europe/Berlin\"}");
	assert_string_equal(getenv("TZ"), "Asia/Tokyo");
	unsetenv("TZ");
	assert_int_equal(c->zones, 2);
	/* Summer time begins on the 29th. */
	assert_true(c->entry[0].start == 1774598400); /* 08:00 UTC */
	assert_true(calendar_on(&c->entry[0], 1774598400 + 1800, 0));
	assert_false(calendar_on(&c->entry[0], 1774598400 + 3 * DAY + 1800, 0));
	assert_true(calendar_on(&c->entry[0], 1774598400 + 3 * DAY - 1800, 0));
	assert_true(c->entry[1].start == 1774602000);
	assert_true(c->entry[2].start == 1000);
	calendar_free(c);
}

static void scope_and_class(void **state)
{
	struct calendar *c = parsed(ENTRY ",\"scope\":{\"kind\":\"api_key\",\"value\":\"k1\"},\"classes\":[\"flood\",\"cost_spike\"]}");
	const struct anomaly_contributor who[] = { { ENTITY_GLOBAL, "", 1 }, { ENTITY_CLIENT_IP, "k1", 0.5 }, { ENTITY_API_KEY, "k1", 0.5 } };

	(void)state;
	assert_string_equal(calendar_explains(c, 1500, &(struct calendar_about){ CLASS_FLOOD, who, 3 }), "n");
	assert_string_equal(calendar_explains(c, 1000 - CALENDAR_SLACK_S, &(struct calendar_about){ CLASS_COST_SPIKE, who, 3 }), "n");
	assert_null(calendar_explains(c, 1500, &(struct calendar_about){ CLASS_FLOOD, who, 2 }));
	assert_null(calendar_explains(c, 1500, &(struct calendar_about){ CLASS_DDOS, who, 3 }));
	assert_null(calendar_explains(c, 2001, &(struct calendar_about){ CLASS_FLOOD, who, 3 }));
	assert_null(calendar_explains(NULL, 1500, &(struct calendar_about){ CLASS_FLOOD, who, 3 }));
	calendar_free(c);
}

static void what_is_refused(void **state)
{
	(void)state;
	refused("{", "c.jsonl:1: is not JSON");
	refused("\n\n[1]", "c.jsonl:3: is not an object");
	refused("{\"start\":1,\"end\":2}", "name is missing");
	refused("{\"name\":7,\"start\":1,\"end\":2}", "name: is not a text");
	refused("{\"name\":\"\",\"start\":1,\"end\":2}", "name: is empty");
	refused("{\"name\":\"n\",\"end\":2}", "start is missing");
	refused("{\"name\":\"n\",\"start\":\"soon\",\"end\":2}", "start: \"soon\" is neither");
	refused("{\"name\":\"n\",\"start\":3,\"end\":2}", "end: is before start");
	refused("{\"name\":\"n\",\"start\":1,\"end\":1e30}", "end: is not in 1970");
	refused("{\"name\":\"n\",\"start\":-1,\"end\":2}", "start: is not in 1970");
	refused("{\"name\":\"n\",\"start\":1,\"end\":90000,\"repeat\":\"daily\"}", "end: is later than the next time");
	refused(ENTRY ",\"repeat\":\"yearly\"}", "repeat: wants");
	refused(ENTRY ",\"zone\":\"Mars/Olympus\"}", "zone: there is no time zone \"Mars/Olympus\"");
	refused(ENTRY ",\"zone\":\"../../../etc/passwd\"}", "zone: there is no");
	refused(ENTRY ",\"zone\":5}", "zone: is not a text");
	refused(ENTRY ",\"classes\":[\"flood\",\"rain\"]}", "classes: there is no class \"rain\"");
	refused(ENTRY ",\"classes\":[]}", "classes: wants");
	refused(ENTRY ",\"scope\":{\"kind\":\"planet\",\"value\":\"x\"}}", "scope.kind: there is no kind");
	refused(ENTRY ",\"scope\":{\"kind\":\"api_key\",\"value\":\"\"}}", "scope.value: is empty");
	refused(ENTRY ",\"scope\":{\"kind\":\"api_key\"}}", "scope.value is missing");
	refused(ENTRY "}\n" ENTRY ",\"name\":\"twice\"}", "c.jsonl:2: is not JSON");
}

/* The same silence, known and unknown: one step less severe, the entry's name, and nothing hidden. */
static void an_incident_is_expected(void **state)
{
	(void)state;
	for (int known = 0; known < 2; known++) {
		struct gen g = { .state = 41 };
		struct heard h = { 0 };
		char text[256];
		struct calendar *c;
		struct detect_opts o = { .detector = DETECTOR_FULL, .emit = hear, .ctx = &h };
		const struct heard_event *e;
		struct detect *d = NULL;

		snprintf(text, sizeof(text), "{\"name\":\"maintenance\",\"start\":%f,\"end\":%f,\"classes\":[\"%s\"]}", T0 + 9990.0, T0 + 10400.0, known ? "traffic_drop" : "flood");
		c = parsed(text);
		o.calendar = c;
		gen_calm(&g, 0, 10000, 4, 12);
		gen_calm(&g, 10400, 2000, 4, 12);
		qsort(g.v, g.n, sizeof(*g.v), gen_by_time);
		assert_int_equal(detect_open(&o, &d), 0);
		for (size_t i = 0; i < g.n; i++)
			assert_int_equal(detect_record(d, gen_bind(&g.v[i])), 0);
		assert_int_equal(detect_finish(d), 0);
		detect_free(d);
		e = first_open(&h, CLASS_TRAFFIC_DROP);
		assert_non_null(e);
		assert_int_equal(e->severity, known ? SEVERITY_INFO : SEVERITY_WARNING);
		assert_int_equal(!!strstr(h.json.p, "\"expected_by\":\"maintenance\""), known);
		str_done(&h.json);
		gen_done(&g);
		calendar_free(c);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_entry_is_on_from_start_to_end),
		cmocka_unit_test(it_repeats),
		cmocka_unit_test(it_keeps_the_local_hour),
		cmocka_unit_test(a_named_zone),
		cmocka_unit_test(scope_and_class),
		cmocka_unit_test(what_is_refused),
		cmocka_unit_test(an_incident_is_expected),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
