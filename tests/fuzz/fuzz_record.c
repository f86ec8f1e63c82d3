/*
 * The record reader on any bytes, in each format: it must not crash, must give the same records when the bytes come in two parts,
 * and what it read must come back unchanged from its own JSON.
 */
#include <fcntl.h>
#include <sys/mman.h>

#include "decode/record.h"

#define INPUT_MAX 32768 /* fits a pipe at once */

static void drain(struct record_reader *rd, struct str *out, int last)
{
	struct record r;
	int n;

	while ((n = record_reader_next(rd, &r)) == 1) {
		if (r.weight < 1 || r.kind == KIND_UNKNOWN)
			abort();
		record_write_json(out, &r);
	}
	if (n != last)
		abort();
}

static struct record_reader *reader_of(int fd, enum record_format format)
{
	struct record_reader_opts opts = { .format = format, .name = "fuzz" };
	struct record_reader *rd = NULL;

	if (record_reader_open(fd, &opts, &rd) < 0)
		abort();
	return rd;
}

static struct str read_whole(const void *p, size_t n, enum record_format format)
{
	struct str out = { .ceiling = 16u << 20 };
	struct record_reader *rd;
	int fd = memfd_create("fuzz", 0);

	if (fd < 0 || write(fd, p, n) != (ssize_t)n || lseek(fd, 0, SEEK_SET))
		abort();
	rd = reader_of(fd, format);
	drain(rd, &out, 0);
	record_reader_free(rd);
	return out;
}

static struct str read_split(const uint8_t *p, size_t n, size_t cut, enum record_format format)
{
	struct str out = { .ceiling = 16u << 20 };
	struct record_reader *rd;
	int fds[2];

	if (pipe2(fds, O_NONBLOCK) < 0)
		abort();
	rd = reader_of(fds[0], format);
	if (write(fds[1], p, cut) != (ssize_t)cut)
		abort();
	drain(rd, &out, -EAGAIN);
	if (write(fds[1], p + cut, n - cut) != (ssize_t)(n - cut))
		abort();
	close(fds[1]);
	drain(rd, &out, 0);
	record_reader_free(rd);
	return out;
}

static void same(const struct str *a, const struct str *b)
{
	if (a->error || b->error || a->n != b->n || (a->n && memcmp(a->p, b->p, a->n)))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str whole, split, again;
	enum record_format format;
	size_t cut;

	if (size < 3 || size > INPUT_MAX)
		return 0;
	format = (enum record_format)(data[0] % 3);
	cut = ((size_t)data[1] << 8 | data[2]) % (size - 2);
	data += 3;
	size -= 3;

	whole = read_whole(data, size, format);
	split = read_split(data, size, cut, format);
	same(&whole, &split);
	again = read_whole(whole.p, whole.n, FORMAT_JSONL);
	same(&whole, &again);
	str_done(&whole);
	str_done(&split);
	str_done(&again);
	return 0;
}
