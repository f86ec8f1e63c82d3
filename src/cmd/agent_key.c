#include "cmd/agent_feed.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>

static int key_make(uint8_t key[AGENT_KEY_BYTES])
{
	ssize_t n = getrandom(key, AGENT_KEY_BYTES, 0);

	return n == AGENT_KEY_BYTES ? 0 : -EIO;
}

static int key_read(int dir, uint8_t key[AGENT_KEY_BYTES])
{
	CLEANUP(closep) int fd = openat(dir, "key", O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	struct stat st;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size != AGENT_KEY_BYTES || (st.st_mode & 077))
		return -EBADMSG; /* cut short, or others could read it */
	return read(fd, key, AGENT_KEY_BYTES) == AGENT_KEY_BYTES ? 0 : -EIO;
}

/* Whole or not at all, also when two agents start at once: written beside, then linked to its name. */
static int key_write(int dir, const uint8_t key[AGENT_KEY_BYTES])
{
	char name[32];
	int fd, r = 0;

	snprintf(name, sizeof(name), ".key.%d", getpid());
	fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	if (write(fd, key, AGENT_KEY_BYTES) != AGENT_KEY_BYTES || fsync(fd) < 0 || linkat(dir, name, dir, "key", 0) < 0)
		r = errno ? -errno : -EIO;
	close(fd);
	unlinkat(dir, name, 0);
	return r;
}

int agent_key_load(const char *path, uint8_t ret_key[AGENT_KEY_BYTES])
{
	CLEANUP(closep) int dir = -1;
	uint8_t key[AGENT_KEY_BYTES];
	int r;

	if (!path)
		return key_make(ret_key);
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return -errno;
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return -errno;
	r = key_read(dir, key);
	if (r == -ENOENT) {
		r = key_make(key);
		if (r == 0)
			r = key_write(dir, key);
		if (r == -EEXIST)
			r = key_read(dir, key);
	}
	if (r == 0)
		memcpy(ret_key, key, sizeof(key));
	explicit_bzero(key, sizeof(key));
	return r;
}
