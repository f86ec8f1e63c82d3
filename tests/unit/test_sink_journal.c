/* The journal sink against a socket of our own: the protocol's bytes, and a journald that is full, gone, or restarted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <ctype.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "sink/sink.h"
#include "sink_events.h"

static char dir[] = "/tmp/weir-journal-XXXXXX";
static struct sockaddr_un addr = { .sun_family = AF_UNIX };

static int fake_journal(void)
{
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	unlink(addr.sun_path);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

static void emit_id(struct sink *s, int i)
{
	char id[16];
	struct anomaly a;

	snprintf(id, sizeof(id), "n%d", i);
	a = sample_event(CLASS_FLOOD, EVENT_OPEN, id);
	sink_emit(s, &a);
}

/* Number in WEIR_ID of the next datagram; -1: none there. */
static int next_id(int fd)
{
	char buf[65536];
	ssize_t n = recv(fd, buf, sizeof(buf) - 1, 0);
	const char *id;

	if (n < 0)
		return -1;
	buf[n] = '\0';
	id = strstr(buf, "\nWEIR_ID=n");
	assert_non_null(id);
	return (int)strtol(id + 10, NULL, 10);
}

static void test_datagram(void **state)
{
	int fd = fake_journal();
	struct anomaly a = sample_event(CLASS_FLOOD, EVENT_CLOSE, "n1");
	struct sink *s = NULL;
	char buf[65536];
	ssize_t n;

	(void)state;
	a.severity = SEVERITY_CRITICAL;
	assert_int_equal(sink_journal_open_at(addr.sun_path, &s), 0);
	sink_emit(s, &a);
	n = recv(fd, buf, sizeof(buf) - 1, 0);
	assert_true(n > 0);
	buf[n] = '\0';
	assert_string_equal(buf,
			    "SYSLOG_IDENTIFIER=weir\n"
			    "MESSAGE=over: flood: client 10.0.0.7 sends 412 requests/s, normally 3 (x137); lasted 2 min 14 s\n"
			    "PRIORITY=2\n"
			    "MESSAGE_ID=b548e19a0bac4d00866a1e162dd5aed0\n"
			    "WEIR_CLASS=flood\n"
			    "WEIR_EVENT=close\n"
			    "WEIR_ID=n1\n"
			    "WEIR_SEVERITY=critical\n"
			    "WEIR_SCOPE=client_ip:10.0.0.7\n"
			    "WEIR_SCOPE_KIND=client_ip\n"
			    "WEIR_SCOPE_VALUE=10.0.0.7\n"
			    "WEIR_FEATURE=requests_per_s\n"
			    "WEIR_OBSERVED=412\n"
			    "WEIR_EXPECTED=3\n"
			    "WEIR_EVIDENCE=requests_per_s observed 412 expected 3 sigma 9.25; tokens_per_s observed 40000.5 expected 900 sigma 7\n"
			    "WEIR_SCORE=9.25\n"
			    "WEIR_CONFIDENCE=0.75\n"
			    "WEIR_START=1750000000\n"
			    "WEIR_DETECTED=1750000009\n"
			    "WEIR_END=1750000134\n"
			    "WEIR_TEAM=security\n"
			    "WEIR_RUNBOOK=docs/runbooks.md#flood\n"
			    "WEIR_TOP=client_ip:10.0.0.7=0.96\n");
	/* What the event lacks has no line. */
	a = sample_event(CLASS_DDOS, EVENT_OPEN, "n2");
	a.severity = SEVERITY_WARNING;
	a.evidence_count = a.top_count = 0;
	sink_emit(s, &a);
	n = recv(fd, buf, sizeof(buf) - 1, 0);
	assert_true(n > 0);
	buf[n] = '\0';
	assert_null(strstr(buf, "WEIR_END"));
	assert_null(strstr(buf, "WEIR_TOP"));
	assert_null(strstr(buf, "WEIR_OBSERVED"));
	assert_null(strstr(buf, "WEIR_SCOPE_VALUE"));
	assert_non_null(strstr(buf, "\nPRIORITY=4\n"));
	assert_non_null(strstr(buf, "\nWEIR_SCOPE=global\n"));
	assert_int_equal(s->delivered, 2);
	sink_free(s);
	close(fd);
}

/* A user named by an attacker must not add fields of his own. */
static void test_no_injection(void **state)
{
	int fd = fake_journal();
	struct anomaly a = sample_event(CLASS_COST_SPIKE, EVENT_OPEN, "n1\nPRIORITY=0");
	struct sink *s = NULL;
	char buf[65536];
	ssize_t n;

	(void)state;
	a.scope_kind = a.top[0].kind = ENTITY_USER;
	a.scope_value = "bob\nMESSAGE_ID=00000000000000000000000000000000\n";
	a.top[0].value = "eve\nWEIR_CLASS=flood";
	a.summary = "user bob\n_UID=0\033[2J";
	a.evidence[0].feature = "f\nWEIR_SEVERITY=info";
	assert_int_equal(sink_journal_open_at(addr.sun_path, &s), 0);
	sink_emit(s, &a);
	n = recv(fd, buf, sizeof(buf) - 1, 0);
	assert_true(n > 0);
	buf[n] = '\0';
	for (char *line = buf; *line;) {
		char *end = strchr(line, '\n'), *eq = strchr(line, '=');

		assert_true(end && eq && eq < end);
		for (char *c = line; c < end; c++)
			assert_true((unsigned char)*c >= 0x20);
		assert_true(!strncmp(line, "WEIR_", 5) || !strncmp(line, "MESSAGE", 7) || !strncmp(line, "PRIORITY=", 9) ||
			    !strncmp(line, "SYSLOG_IDENTIFIER=", 18));
		line = end + 1;
	}
	assert_non_null(strstr(buf, "\nWEIR_CLASS=cost_spike\n"));
	assert_null(strstr(buf, "\nWEIR_CLASS=flood"));
	sink_free(s);
	close(fd);
}

/* journald stopped: emit() returns all the same, keeps a bounded number, drops and counts the rest, delivers in order later. */
static void test_stopped_journal(void **state)
{
	int fd = fake_journal(), seen = 0, last = -1, id;
	struct sink *s = NULL;
	const int n = 2000;

	(void)state;
	assert_int_equal(sink_journal_open_at(addr.sun_path, &s), 0);
	for (int i = 0; i < n; i++)
		emit_id(s, i);
	assert_true(s->dropped > 0);
	assert_int_equal(s->last_error, -EAGAIN);
	assert_true(s->delivered + s->dropped < (uint64_t)n); /* the queue holds some */
	assert_int_equal(sink_flush(s), 1);

	for (int round = 0; round < n; round++) {
		int r;

		while ((id = next_id(fd)) >= 0) {
			assert_int_equal(id, last + 1); /* in order; the newest were the ones dropped */
			last = id;
			seen++;
		}
		r = sink_flush(s);
		assert_true(r >= 0);
		if (r == 0)
			break;
	}
	while ((id = next_id(fd)) >= 0) {
		assert_int_equal(id, last + 1);
		last = id;
		seen++;
	}
	assert_int_equal(s->delivered + s->dropped, n);
	assert_int_equal(seen, s->delivered);
	emit_id(s, n);
	assert_int_equal(next_id(fd), n);
	assert_int_equal(s->last_error, 0);
	sink_free(s);
	close(fd);
}

static void test_absent(void **state)
{
	struct sink *s = NULL;

	(void)state;
	unlink(addr.sun_path);
	assert_int_equal(sink_journal_open_at(addr.sun_path, &s), -ENOENT);
	close(fake_journal()); /* the name is there, nobody listens */
	assert_int_equal(sink_journal_open_at(addr.sun_path, &s), -ECONNREFUSED);
	assert_null(s);
}

/* journald goes away and comes back as another process with another socket. */
static void test_restarted(void **state)
{
	int fd = fake_journal();
	struct sink *s = NULL;

	(void)state;
	assert_int_equal(sink_journal_open_at(addr.sun_path, &s), 0);
	emit_id(s, 0);
	assert_int_equal(next_id(fd), 0);
	close(fd);
	emit_id(s, 1); /* refused: kept */
	assert_int_equal(s->last_error, -ECONNREFUSED);
	unlink(addr.sun_path);
	emit_id(s, 2);
	assert_int_equal(s->last_error, -ENOENT);
	assert_int_equal(s->delivered, 1);
	assert_int_equal(s->dropped, 0);
	fd = fake_journal();
	assert_int_equal(sink_flush(s), 0);
	emit_id(s, 3);
	for (int i = 1; i <= 3; i++)
		assert_int_equal(next_id(fd), i);
	assert_int_equal(s->delivered, 4);
	sink_free(s);
	close(fd);
}

static void test_event_too_large(void **state)
{
	int fd = fake_journal();
	struct sink *s = NULL;
	struct anomaly a = sample_event(CLASS_FLOOD, EVENT_OPEN, "n1");
	char *big = malloc(100001);

	(void)state;
	assert_non_null(big);
	memset(big, 'x', 100000);
	big[100000] = '\0';
	a.scope_value = big;
	assert_int_equal(sink_journal_open_at(addr.sun_path, &s), 0);
	sink_emit(s, &a);
	assert_int_equal(s->dropped, 1);
	assert_int_equal(s->last_error, -E2BIG);
	emit_id(s, 5);
	assert_int_equal(next_id(fd), 5);
	free(big);
	sink_free(s);
	close(fd);
}

static void test_message_ids_are_unique(void **state)
{
	(void)state;
	for (int i = 0; i < CLASS_COUNT; i++) {
		const char *a = sink_journal_message_id((enum anomaly_class)i);

		assert_int_equal(strlen(a), 32);
		for (const char *c = a; *c; c++)
			assert_true(isdigit((unsigned char)*c) || (*c >= 'a' && *c <= 'f'));
		for (int k = 0; k < i; k++)
			assert_string_not_equal(a, sink_journal_message_id((enum anomaly_class)k));
	}
}

static int group_setup(void **state)
{
	(void)state;
	if (!mkdtemp(dir))
		return -1;
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/socket", dir);
	return 0;
}

static int group_teardown(void **state)
{
	(void)state;
	unlink(addr.sun_path);
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_datagram), cmocka_unit_test(test_no_injection),	 cmocka_unit_test(test_stopped_journal),
		cmocka_unit_test(test_absent),	 cmocka_unit_test(test_restarted),	 cmocka_unit_test(test_event_too_large),
		cmocka_unit_test(test_message_ids_are_unique),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
