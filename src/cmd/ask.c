#include "cmd/ask.h"

#include "base/log.h"
#include "base/util.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

int agent_try_ask(const char *path, const char *question, FILE **ret)
{
	const struct timeval patience = { .tv_sec = ASK_PATIENCE_S };
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	CLEANUP(closep) int fd = -1;
	FILE *f;

	if (strlen(path) >= sizeof(a.sun_path))
		return -ENAMETOOLONG;
	memcpy(a.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (send(fd, question, strlen(question), MSG_NOSIGNAL) != (ssize_t)strlen(question) || !(f = fdopen(fd, "r")))
		return -EPIPE;
	TAKE_FD(fd);
	*ret = f;
	return 0;
}

FILE *agent_ask(const char *path, const char *question)
{
	FILE *f = NULL;
	int r = agent_try_ask(path, question, &f);

	if (r == -ENAMETOOLONG)
		log_error("%s: too long for a socket's path", path);
	else if (r == -EPIPE)
		log_error("%s: the agent does not listen", path);
	else if (r == -EACCES || r == -EPERM)
		log_error("%s: not allowed to ask the agent: run as root", path);
	else if (r == -ENOENT || r == -ECONNREFUSED)
		log_error("no agent is running (nobody answers at %s): start one with weir run", path);
	else if (r < 0)
		log_error("%s: %s", path, strerror(-r));
	return f;
}
