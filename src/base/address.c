#include "base/address.h"

#include <arpa/inet.h>

static char paths[WEIR_UNIX_SERVERS][WEIR_UNIX_PATH];
static uint32_t path_count;

void address_text(const uint8_t addr[16], char out[ADDRESS_TEXT])
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	bool v4 = !memcmp(addr, mapped, sizeof(mapped));

	if (weir_is_unix(addr))
		snprintf(out, ADDRESS_TEXT, "uid:%u", weir_unix_high(addr));
	else if (!inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? addr + 12 : addr, out, ADDRESS_TEXT))
		out[0] = '\0';
}

void server_text(const uint8_t addr[16], uint16_t port, char out[SERVER_TEXT])
{
	char text[ADDRESS_TEXT];
	uint32_t number = weir_unix_high(addr);

	if (weir_is_unix(addr)) {
		snprintf(out, SERVER_TEXT, "unix:%s", number < path_count ? paths[number] : "?");
		return;
	}
	address_text(addr, text);
	snprintf(out, SERVER_TEXT, strchr(text, ':') ? "[%s]:%u" : "%s:%u", text, port);
}

int address_unix_number(const char *path, uint32_t *ret)
{
	size_t n = strlen(path);
	uint32_t i = 0;

	if (!n || n >= sizeof(paths[0]))
		return -EINVAL;
	while (i < path_count && strcmp(paths[i], path))
		i++;
	if (i == WEIR_UNIX_SERVERS)
		return -ENOSPC;
	if (i == path_count)
		memcpy(paths[path_count++], path, n + 1);
	*ret = i;
	return 0;
}
