#include "cmd/ask.h"

#include "base/log.h"
#include "base/util.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

FILE *agent_ask(const char *path, const char *question)
{
	const struct timeval patience = { .tv_sec = ASK_PATIENCE_S };
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = -1;
	FILE *f;

	if (strlen(path) >= sizeof(a.sun_path)) {
		log_error("%s: too long for a socket's path", path);
		return NULL;
	}
	memcpy(a.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0) {
		if (errno == EACCES || errno == EPERM)
			log_error("%s: not allowed to ask the agent: run as root", path);
		else if (errno == ENOENT || errno == ECONNREFUSED)
			log_error("no agent is running (nobody answers at %s): start one with weir run", path);
		else
			log_error("%s: %s", path, strerror(errno));
		closep(&fd);
		return NULL;
	}
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (send(fd, question, strlen(question), MSG_NOSIGNAL) != (ssize_t)strlen(question) || !(f = fdopen(fd, "r"))) {
		log_error("%s: the agent does not listen", path);
		close(fd);
		return NULL;
	}
	return f;
}
