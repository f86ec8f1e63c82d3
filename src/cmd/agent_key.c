#include "cmd/agent_key.h"

#include <fcntl.h>
#include <libgen.h>
#include <sys/random.h>
#include <sys/stat.h>

static int key_make(uint8_t key[AGENT_KEY_BYTES])
{
	ssize_t n = getrandom(key, AGENT_KEY_BYTES, 0);

	return n == AGENT_KEY_BYTES ? 0 : -EIO;
}

/* -EBADMSG: *ret_why says what is wrong with it. */
static int key_read(int dir, const char *name, uint8_t key[AGENT_KEY_BYTES], const char **ret_why)
{
	CLEANUP(closep) int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;

	if (fd < 0 && errno == ELOOP) {
		*ret_why = "a symbolic link; the key must be the file itself";
		return -EBADMSG;
	}
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	*ret_why = !S_ISREG(st.st_mode)			     ? "not a regular file"
		   : st.st_uid != 0 && st.st_uid != geteuid() ? "belongs to somebody else: whoever owns it knows the key"
		   : st.st_mode & 077			     ? "others may read it: the mode must be 0600"
		   : st.st_size != AGENT_KEY_BYTES	     ? "damaged: a key has 16 bytes (moved away, it is made anew, and all hashes change)"
							     : NULL;
	if (*ret_why)
		return -EBADMSG;
	return read(fd, key, AGENT_KEY_BYTES) == AGENT_KEY_BYTES ? 0 : -EIO;
}

/* Whole or not at all, also when two agents start at once: written beside, then linked to its name. */
static int key_write(int dir, const char *name, const uint8_t key[AGENT_KEY_BYTES])
{
	char beside[32];
	int fd, r = 0;

	snprintf(beside, sizeof(beside), ".key.%d", getpid());
	fd = openat(dir, beside, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	if (write(fd, key, AGENT_KEY_BYTES) != AGENT_KEY_BYTES || fsync(fd) < 0 || linkat(dir, beside, dir, name, 0) < 0)
		r = errno ? -errno : -EIO;
	close(fd);
	unlinkat(dir, beside, 0);
	return r;
}

static int key_in(int dir, const char *name, uint8_t ret_key[AGENT_KEY_BYTES], const char **ret_why)
{
	uint8_t key[AGENT_KEY_BYTES];
	int r = key_read(dir, name, key, ret_why);

	if (r == -ENOENT) {
		r = key_make(key);
		if (r == 0)
			r = key_write(dir, name, key);
		if (r == -EEXIST)
			r = key_read(dir, name, key, ret_why);
	}
	if (r == 0)
		memcpy(ret_key, key, sizeof(key));
	explicit_bzero(key, sizeof(key));
	return r;
}

int agent_key_load(const char *dir, const char *file, uint8_t ret_key[AGENT_KEY_BYTES], char why[AGENT_KEY_WHY])
{
	CLEANUP(freep) char *folder = NULL;
	CLEANUP(freep) char *last = NULL;
	CLEANUP(closep) int fd = -1;
	const char *wrong = NULL;
	int r = 0;

	*why = '\0';
	if (!file && !dir) {
		r = key_make(ret_key);
		if (r < 0)
			snprintf(why, AGENT_KEY_WHY, "no random numbers for the key of hashed API keys: %s", strerror(-r));
		return r;
	}
	folder = strdup(file ? file : dir);
	last = strdup(file ? file : "key");
	if (!folder || !last)
		r = -ENOMEM;
	else if (!file && mkdir(dir, 0700) < 0 && errno != EEXIST)
		r = -errno;
	if (r == 0)
		fd = open(file ? dirname(folder) : dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (r == 0)
		r = fd < 0 ? -errno : key_in(fd, file ? basename(last) : "key", ret_key, &wrong);
	if (r < 0)
		snprintf(why, AGENT_KEY_WHY, "%s%s: %s", file ? file : dir, file ? "" : "/key", wrong ? wrong : strerror(-r));
	return r;
}
