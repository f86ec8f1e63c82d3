/* The record reader: formats, bad input, any split of the bytes. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <cmocka.h>

#include "decode/record.h"

struct said {
	size_t n;
	char last[600];
	char all[8192];
};

static void hear(void *ctx, const char *message)
{
	struct said *s = ctx;

	s->n++;
	snprintf(s->last, sizeof(s->last), "%s", message);
	if (strlen(s->all) + strlen(message) + 2 < sizeof(s->all)) {
		strcat(s->all, message);
		strcat(s->all, "\n");
	}
}

static int file_of(const char *p, size_t n)
{
	int fd = memfd_create("records", 0);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, p, n), n);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	return fd;
}

static struct record_reader *reader_of(int fd, enum record_format format, struct said *said, bool follow)
{
	struct record_reader_opts opts = { .format = format, .name = "f", .complain = said ? hear : NULL, .ctx = said, .follow = follow };
	struct record_reader *rd = NULL;

	assert_int_equal(record_reader_open(fd, &opts, &rd), 0);
	return rd;
}

/* All records of a text, written again as JSON; counts of bad lines and values behind them. */
static void digest(struct record_reader *rd, struct str *out)
{
	struct record r;
	int n;

	while ((n = record_reader_next(rd, &r)) == 1)
		record_write_json(out, &r);
	assert_int_equal(n, 0);
	str_addf(out, "bad %llu %llu lines %llu\n", (unsigned long long)record_reader_bad_lines(rd), (unsigned long long)record_reader_bad_values(rd),
		 (unsigned long long)record_reader_lines(rd));
}

static void read_text(const char *p, size_t n, enum record_format format, struct said *said, struct str *out)
{
	CLEANUP(record_reader_freep) struct record_reader *rd = reader_of(file_of(p, n), format, said, false);

	digest(rd, out);
}

static void expect(const char *text, size_t n, enum record_format format, const char *want)
{
	CLEANUP(str_done) struct str out = { 0 };

	read_text(text, n, format, NULL, &out);
	assert_string_equal(out.p, want);
}
#define EXPECT(text, want) expect(text, sizeof(text) - 1, FORMAT_AUTO, want)

static void simple_csv(void **state)
{
	(void)state;
	EXPECT("timestamp,user_id,request_tokens,response_tokens\n1700000000,alice,10,20\n2023-11-14 22:13:21,bob,,5\n",
	       "{\"timestamp\":1700000000,\"user\":\"alice\",\"prompt_tokens\":10,\"completion_tokens\":20,\"kind\":\"inference\"}\n"
	       "{\"timestamp\":1700000001,\"user\":\"bob\",\"completion_tokens\":5,\"kind\":\"inference\"}\n"
	       "bad 0 0 lines 3\n");
}

static void csv_quotes_bom_crlf(void **state)
{
	(void)state;
	EXPECT("\xEF\xBB\xBF\"timestamp\",user,note,path\r\n5,\"a,\"\"b\"\"\",\"two\r\nlines\",/health\r\n6,c,,\r\n",
	       "{\"timestamp\":5,\"user\":\"a,\\\"b\\\"\",\"path\":\"/health\",\"kind\":\"control\"}\n"
	       "{\"timestamp\":6,\"user\":\"c\",\"kind\":\"inference\"}\n"
	       "bad 0 0 lines 4\n");
	/* an open quote costs one line, not the file */
	EXPECT("timestamp,user\n1,\"open\n2,b\n3,c", "{\"timestamp\":2,\"user\":\"b\",\"kind\":\"inference\"}\n"
						     "{\"timestamp\":3,\"user\":\"c\",\"kind\":\"inference\"}\nbad 1 0 lines 4\n");
	/* joined files, columns in another order; too few, too many cells */
	EXPECT("timestamp,user\n1,a\nuser,timestamp\nb,2\nb\nb,2,3\n", "{\"timestamp\":1,\"user\":\"a\",\"kind\":\"inference\"}\n"
									  "{\"timestamp\":2,\"user\":\"b\",\"kind\":\"inference\"}\nbad 2 0 lines 6\n");
}

static void csv_without_header(void **state)
{
	struct said said = { 0 };
	CLEANUP(str_done) struct str out = { 0 };
	static const char text[] = "1,2\n3,4\n";

	(void)state;
	read_text(text, sizeof(text) - 1, FORMAT_CSV, &said, &out);
	assert_string_equal(out.p, "bad 2 0 lines 2\n");
	assert_string_equal(said.last, "f:2: is no CSV header: no column of it is a timestamp");
}

static void json_values(void **state)
{
	(void)state;
	/* numbers as text, text as numbers, escapes, nested things that are none of ours */
	EXPECT("{\"timestamp\":\"1700000000.5\",\"user\":42,\"status\":\"200\",\"x\":{\"timestamp\":1,\"a\":[1,{}]},\"prompt_tokens\":3.0,\"model\":"
	       "\"\\u00e9\\ud83d\\ude00\\ud800\\u0000\\/\"}\n",
	       "{\"timestamp\":1700000000.5,\"model_name\":\"\xc3\xa9\xf0\x9f\x98\x80\xef\xbf\xbd\xef\xbf\xbd/\",\"user\":\"42\",\"prompt_tokens\":3,\"status\":200,"
	       "\"kind\":\"inference\"}\nbad 0 0 lines 1\n");
	/* the last of two equal keys wins, a field's own name beats an alias wherever it stands */
	EXPECT("{\"timestamp\":1,\"timestamp\":2,\"user\":\"a\",\"user_id\":\"b\",\"ip\":\"x\",\"client_ip\":\"y\",\"status\":200,\"status\":null}",
	       "{\"timestamp\":2,\"client_ip\":\"y\",\"user\":\"a\",\"kind\":\"inference\"}\nbad 0 0 lines 1\n");
	EXPECT("\n  \r\n{ \"timestamp\" : 1 , \"kind\" : \"control\" , \"weight\":9, \"lost\":true, \"aborted\":0 } \r\n\n",
	       "{\"timestamp\":1,\"aborted\":false,\"lost\":true,\"kind\":\"control\",\"weight\":9}\nbad 1 0 lines 4\n");
	EXPECT("{}\n{\"a\":1}\n{\"timestamp\":1}\n", "{\"timestamp\":1,\"kind\":\"inference\"}\nbad 2 0 lines 3\n");
}

static void bad_values_leave_the_field_absent(void **state)
{
	static const char *const values[] = {
		"-1",  "1.5", "NaN", "Infinity", "-Infinity", "1e300", "99999999999999999999999", "true", "[1]", "{\"a\":{}}", "\"many\"", "\"-3\"", "9007199254740993000",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		char line[256];
		struct said said = { 0 };
		CLEANUP(str_done) struct str out = { 0 };
		int n = snprintf(line, sizeof(line), "{\"prompt_tokens\":%s,\"timestamp\":3,\"completion_tokens\":7}\n", values[i]);

		read_text(line, (size_t)n, FORMAT_AUTO, &said, &out);
		if (strcmp(out.p, "{\"timestamp\":3,\"completion_tokens\":7,\"kind\":\"inference\"}\nbad 0 1 lines 1\n"))
			fail_msg("%s gave %s", values[i], out.p);
		assert_int_equal(said.n, 1);
		assert_int_equal(strncmp(said.last, "f:1: prompt_tokens is ", 22), 0);
	}
	EXPECT("{\"timestamp\":3,\"prompt_tokens\":1000000000000}", "{\"timestamp\":3,\"prompt_tokens\":1000000000000,\"kind\":\"inference\"}\nbad 0 0 lines 1\n");
	EXPECT("{\"timestamp\":3,\"duration_ms\":-1,\"injection_score\":2,\"prompt_hash\":\"xyz\",\"status\":1000,\"weight\":0,\"kind\":\"odd\",\"stream\":\"maybe\"}",
	       "{\"timestamp\":3,\"kind\":\"inference\"}\nbad 0 7 lines 1\n");
}

static void bad_lines_are_named(void **state)
{
	static const struct {
		const char *line, *why;
	} cases[] = {
		{ "{\"timestamp\":1", "line ends inside an object" },
		{ "{\"timestamp\":1,", "line ends inside an object" },
		{ "{\"timestamp\":\"1", "line ends inside a string" },
		{ "{\"timestamp\"", "line ends inside an object" },
		{ "{\"timestamp\":", "line ends inside an object" },
		{ "{\"timestamp\":1,\"x\":[1,{\"a\":2]}", "line has brackets that do not match" },
		{ "{\"timestamp\":1,\"x\":[1,", "line ends inside a value" },
		{ "{\"timestamp\":1} {\"timestamp\":2}", "line has more after the object" },
		{ "{\"timestamp\":1 \"a\":2}", "line lacks a comma" },
		{ "{\"timestamp\" 1}", "line lacks a colon" },
		{ "{timestamp:1}", "line lacks a key" },
		{ "{\"timestamp\":1,\"a\":b}", "line has a value that is no JSON" },
		{ "{\"timestamp\":1,\"a\":\"\\x\"}", "line has a bad escape" },
		{ "{\"timestamp\":1,\"a\":\"\\u12g4\"}", "line has a bad escape" },
		{ "{\"timestamp\":1,\"a\":\"\t\"}", "line has a control character in a string" },
		{ "[1]", "line is not a JSON object" },
		{ "GET / HTTP/1.1", "line is not a JSON object" },
		{ "{\"timestamp\":NaN}", "timestamp is neither" },
		{ "{\"timestamp\":null}", "timestamp is missing" },
		{ "{\"timestamp\":true}", "timestamp is not a time" },
		{ "{\"timestamp\":-1}", "timestamp is before 1970" },
		{ "{\"timestamp\":1e13}", "timestamp is beyond the year 9999" },
		{ "{\"user\":\"a\"}", "timestamp is missing" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char text[512], want[256];
		struct said said = { 0 };
		CLEANUP(str_done) struct str out = { 0 };
		int n = snprintf(text, sizeof(text), "{\"timestamp\":1}\n%s\n{\"timestamp\":2}\n", cases[i].line);

		read_text(text, (size_t)n, FORMAT_JSONL, &said, &out);
		if (!strstr(out.p, "{\"timestamp\":2,") || !strstr(out.p, "bad 1 0 lines 3\n"))
			fail_msg("%s gave %s", cases[i].line, out.p);
		snprintf(want, sizeof(want), "f:2: %s", cases[i].why);
		if (strncmp(said.last, want, strlen(want)))
			fail_msg("%s: %s", cases[i].line, said.last);
	}
	/* NUL bytes, in either format */
	EXPECT("{\"timestamp\":1,\"user\":\"a\0b\"}\n{\"timestamp\"\0:1}\n{\"timestamp\":2}\n", "{\"timestamp\":2,\"kind\":\"inference\"}\nbad 2 0 lines 3\n");
	EXPECT("timestamp,user\n1,a\0b\n2,c\n", "{\"timestamp\":2,\"user\":\"c\",\"kind\":\"inference\"}\nbad 1 0 lines 3\n");
}

static void deep_and_long(void **state)
{
	CLEANUP(str_done) struct str text = { .ceiling = 32u << 20 };
	CLEANUP(str_done) struct str out = { .ceiling = 32u << 20 };
	struct said said = { 0 };

	(void)state;
	for (int depth = 60; depth <= 200; depth += 70) {
		str_adds(&text, "{\"timestamp\":1,\"x\":");
		for (int i = 0; i < depth; i++)
			str_adds(&text, i & 1 ? "{\"a\":" : "[");
		str_adds(&text, "1");
		for (int i = depth; i-- > 0;)
			str_adds(&text, i & 1 ? "}" : "]");
		str_adds(&text, "}\n");
	}
	/* a string of 1 MB is text like any other, a line of 5 MB is not read */
	str_adds(&text, "{\"timestamp\":2,\"user\":\"");
	for (int i = 0; i < 1 << 20; i++)
		str_addc(&text, 'u');
	str_adds(&text, "\"}\n{\"timestamp\":3,\"user\":\"");
	for (int i = 0; i < 5 << 20; i++)
		str_addc(&text, 'v');
	str_adds(&text, "\"}\n{\"timestamp\":4}");
	read_text(text.p, text.n, FORMAT_AUTO, &said, &out);
	assert_int_equal(str_error(&out), 0);
	assert_int_equal(strncmp(out.p, "{\"timestamp\":1,\"kind\":\"inference\"}\n{\"timestamp\":2,\"user\":\"uuu", 57), 0);
	assert_non_null(strstr(out.p, "u\",\"kind\":\"inference\"}\n{\"timestamp\":4,\"kind\":\"inference\"}\nbad 3 0 lines 6\n"));
	assert_non_null(strstr(said.all, "f:2: line is nested deeper than 64 levels"));
	assert_non_null(strstr(said.all, "f:5: line is longer than 4 MiB"));
}

static void complaints_are_few(void **state)
{
	struct said said = { 0 };
	CLEANUP(str_done) struct str text = { 0 };
	CLEANUP(str_done) struct str out = { 0 };

	(void)state;
	for (int i = 0; i < 1000; i++)
		str_adds(&text, "{\"timestamp\":\n");
	read_text(text.p, text.n, FORMAT_JSONL, &said, &out);
	assert_int_equal(said.n, 21);
	assert_string_equal(said.last, "f: 1000 bad lines and 0 bad values in all; the first 20 of each were shown");
}

static const char mixed_jsonl[] =
	"\xEF\xBB\xBF{\"timestamp\":1.25,\"client_ip\":\"10.0.0.1\",\"path\":\"/v1/chat/completions\",\"stream\":true,\"prompt_hash\":\"00ff\"}\r\n"
	"\n{\"timestamp\":\"2023-11-14T22:13:20+01:00\",\"user\":\"a\\u00e9\\\\\\\"b\",\"x\":[{\"y\":\"]\"}]}\n{\"timestamp\":2,\n"
	"{\"timestamp\":3,\"prompt_tokens\":-4,\"ttft_ms\":1.5e2}\nnonsense\n{\"timestamp\":4,\"weight\":3}";
static const char mixed_csv[] = "timestamp,user,path,request_tokens\r\n1,\"a,\"\"b\r\nc\",/health,5\n2,d,/x\n\n3,\"open,,\n4,e,,x\r\n5,f,,7";

/* The same bytes, handed over in two parts at every place, must give the same records: also when the reader ran dry between them. */
static void splits_of(const char *text, size_t n, enum record_format format)
{
	CLEANUP(str_done) struct str want = { 0 };

	read_text(text, n, format, NULL, &want);
	for (size_t cut = 0; cut <= n; cut++) {
		CLEANUP(str_done) struct str out = { 0 };
		CLEANUP(record_reader_freep) struct record_reader *rd = NULL;
		struct record r;
		int fds[2], got;

		assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
		rd = reader_of(fds[0], format, NULL, false);
		assert_int_equal(write(fds[1], text, cut), cut);
		while ((got = record_reader_next(rd, &r)) == 1)
			record_write_json(&out, &r);
		assert_int_equal(got, -EAGAIN);
		assert_int_equal(write(fds[1], text + cut, n - cut), n - cut);
		close(fds[1]);
		digest(rd, &out);
		if (strcmp(out.p, want.p))
			fail_msg("split at %zu gave\n%s instead of\n%s", cut, out.p, want.p);
	}
	/* and byte by byte */
	{
		CLEANUP(str_done) struct str out = { 0 };
		CLEANUP(record_reader_freep) struct record_reader *rd = NULL;
		struct record r;
		int fds[2];

		assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
		rd = reader_of(fds[0], format, NULL, false);
		for (size_t i = 0; i < n; i++) {
			assert_int_equal(write(fds[1], text + i, 1), 1);
			while (record_reader_next(rd, &r) == 1)
				record_write_json(&out, &r);
		}
		close(fds[1]);
		digest(rd, &out);
		assert_string_equal(out.p, want.p);
	}
}

static void every_split(void **state)
{
	(void)state;
	splits_of(mixed_jsonl, sizeof(mixed_jsonl) - 1, FORMAT_AUTO);
	splits_of(mixed_csv, sizeof(mixed_csv) - 1, FORMAT_AUTO);
	splits_of(mixed_csv, sizeof(mixed_csv) - 1, FORMAT_JSONL);
	splits_of(mixed_jsonl, sizeof(mixed_jsonl) - 1, FORMAT_CSV);
}

static void buffer_moves_and_grows(void **state)
{
	/* lines of every length around the buffer's own sizes, CSV records over two lines among them */
	CLEANUP(str_done) struct str text = { .ceiling = 64u << 20 };
	CLEANUP(record_reader_freep) struct record_reader *rd = NULL;
	struct record r;
	unsigned int n = 0;

	(void)state;
	str_adds(&text, "timestamp,user\n");
	for (unsigned int i = 0; i < 1500; i++) {
		str_addf(&text, "%u,\"x\n", i);
		for (unsigned int k = 0; k < i * 37 % 5000; k++)
			str_addc(&text, 'a');
		str_adds(&text, "\"\n");
	}
	rd = reader_of(file_of(text.p, text.n), FORMAT_AUTO, NULL, false);
	while (record_reader_next(rd, &r) == 1) {
		assert_int_equal((unsigned int)r.timestamp, n);
		assert_int_equal(record_text(&r, F_USER).n, 2 + n * 37 % 5000);
		n++;
	}
	assert_int_equal(n, 1500);
	assert_int_equal(record_reader_bad_lines(rd), 0);
	assert_int_equal(record_reader_bytes(rd), text.n);
}

static void a_followed_file_keeps_its_half_line(void **state)
{
	char path[] = "/tmp/weir-test-XXXXXX";
	int w = mkstemp(path), fd = open(path, O_RDONLY | O_CLOEXEC);
	CLEANUP(record_reader_freep) struct record_reader *rd = reader_of(fd, FORMAT_AUTO, NULL, true);
	struct record r;

	(void)state;
	unlink(path);
	assert_int_equal(record_reader_next(rd, &r), -EAGAIN);
	assert_int_equal(write(w, "{\"timestamp\":1}\n{\"times", 23), 23);
	assert_int_equal(record_reader_next(rd, &r), 1);
	assert_int_equal(record_reader_next(rd, &r), -EAGAIN);
	assert_int_equal(write(w, "tamp\":2}\n{\"timestamp\":3}", 24), 24);
	assert_int_equal(record_reader_next(rd, &r), 1);
	assert_true(r.timestamp == 2);
	assert_int_equal(record_reader_next(rd, &r), -EAGAIN);
	record_reader_unfollow(rd);
	assert_int_equal(record_reader_next(rd, &r), 1);
	assert_true(r.timestamp == 3);
	assert_int_equal(record_reader_next(rd, &r), 0);
	close(w);
}

static void read_errors_come_back(void **state)
{
	CLEANUP(record_reader_freep) struct record_reader *rd = reader_of(open("/", O_RDONLY | O_CLOEXEC), FORMAT_AUTO, NULL, false);
	struct record r;

	(void)state;
	assert_int_equal(record_reader_next(rd, &r), -EISDIR);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(simple_csv),
		cmocka_unit_test(csv_quotes_bom_crlf),
		cmocka_unit_test(csv_without_header),
		cmocka_unit_test(json_values),
		cmocka_unit_test(bad_values_leave_the_field_absent),
		cmocka_unit_test(bad_lines_are_named),
		cmocka_unit_test(deep_and_long),
		cmocka_unit_test(complaints_are_few),
		cmocka_unit_test(every_split),
		cmocka_unit_test(buffer_moves_and_grows),
		cmocka_unit_test(a_followed_file_keeps_its_half_line),
		cmocka_unit_test(read_errors_come_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
