/* Addresses as people read them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/address.h"

static void over_ip(void **state)
{
	static const uint8_t v4[16] = { [10] = 0xff, 0xff, 192, 0, 2, 7 }, v6[16] = { 0x20, 1, 0xd, 0xb8, [15] = 9 };
	char text[ADDRESS_TEXT], server[SERVER_TEXT];

	(void)state;
	address_text(v4, text);
	assert_string_equal(text, "192.0.2.7");
	server_text(v4, 80, server);
	assert_string_equal(server, "192.0.2.7:80");
	address_text(v6, text);
	assert_string_equal(text, "2001:db8::9");
	server_text(v6, 65535, server);
	assert_string_equal(server, "[2001:db8::9]:65535");
}

static void over_unix(void **state)
{
	char text[ADDRESS_TEXT], server[SERVER_TEXT], path[WEIR_UNIX_PATH + 1];
	uint32_t first, second, number;
	uint8_t a[16];

	(void)state;
	assert_int_equal(address_unix_number("/run/a.sock", &first), 0);
	memset(path, 'p', sizeof(path));
	path[WEIR_UNIX_PATH - 1] = '\0';
	assert_int_equal(address_unix_number(path, &second), 0);
	assert_int_not_equal(first, second);
	assert_int_equal(address_unix_number("/run/a.sock", &number), 0);
	assert_int_equal(number, first);

	weir_unix_address(a, first, 12345);
	assert_true(weir_is_unix(a));
	server_text(a, 0, server);
	assert_string_equal(server, "unix:/run/a.sock");
	weir_unix_address(a, second, 1);
	server_text(a, 0, server);
	assert_int_equal(strlen(server), 5 + WEIR_UNIX_PATH - 1);
	weir_unix_address(a, 99, 1);
	server_text(a, 0, server);
	assert_string_equal(server, "unix:?");

	weir_unix_address(a, UINT32_MAX, UINT32_MAX);
	assert_int_equal(weir_unix_low(a), UINT32_MAX);
	address_text(a, text);
	assert_string_equal(text, "uid:4294967295");
	weir_unix_common(a);
	assert_int_equal(weir_unix_low(a), 0);
	assert_int_equal(weir_unix_high(a), UINT32_MAX);
}

static void ceilings(void **state)
{
	char path[WEIR_UNIX_PATH + 1] = "";
	uint32_t number = 77;
	int r = 0, made = 0;

	(void)state;
	assert_int_equal(address_unix_number("", &number), -EINVAL);
	memset(path, 'x', WEIR_UNIX_PATH);
	assert_int_equal(address_unix_number(path, &number), -EINVAL);
	for (int i = 0; i < 100 && r == 0; i++) {
		snprintf(path, sizeof(path), "/run/%d", i);
		r = address_unix_number(path, &number);
		made += r == 0;
	}
	assert_int_equal(r, -ENOSPC);
	assert_int_equal(made, WEIR_UNIX_SERVERS - 2); /* beside those of over_unix() */
	assert_int_equal(address_unix_number("/run/a.sock", &number), 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = { cmocka_unit_test(over_ip), cmocka_unit_test(over_unix), cmocka_unit_test(ceilings) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
