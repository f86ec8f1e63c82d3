/* The record reader: bytes from a descriptor, in any split, to lines, to records. */
#include "decode/record_parse.h"

#define READ_BYTES (256u << 10)     /* one read(2): large enough that the calls do not count */
#define LINE_MAX_BYTES (4u << 20)   /* a prompt of 1 MB escaped as \uXXXX is 6 MB; nothing of ours writes prompts */
#define SLACK_BYTES 64              /* behind the data: the newline of a last line, and what SSE loads beyond it */
#define QUOTED_LINES_MAX 64         /* newlines inside one CSV record: beyond, the opening quote is the mistake */
#define QUOTED_BYTES_MAX (256u << 10)
#define COMPLAINTS_MAX 20           /* of each sort; then they are only counted */

struct record_reader {
	int fd;
	struct record_reader_opts opts;
	char *name;
	char *buf;
	size_t cap;           /* without the slack */
	size_t start, end;    /* bytes not yet consumed */
	size_t scanned;       /* no newline before this offset */
	bool eof, skipping;   /* skipping: the rest of a line that was too long */
	bool begun;           /* the byte order mark is behind us */
	enum record_format format;
	bool has_header;
	uint64_t line;        /* of the record under way */
	uint64_t next_line;
	uint64_t bytes, bad_lines, bad_values;
	struct column_table columns;
	struct csv_header header;
	struct key_guess guess[KEY_GUESSES];
};

static void complain(struct record_reader *rd, uint64_t shown, const char *what, const char *why, const char *more)
{
	char message[512];

	if (!rd->opts.complain || shown > COMPLAINTS_MAX)
		return;
	snprintf(message, sizeof(message), "%s:%llu: %s%s%s%s", rd->name, (unsigned long long)rd->line, what, *what ? " " : "", why, more);
	rd->opts.complain(rd->opts.ctx, message);
}

static void bad_line(struct record_reader *rd, const char *what, const char *why, const char *more)
{
	complain(rd, ++rd->bad_lines, what, why, more);
}

int record_reader_open(int fd, const struct record_reader_opts *opts, struct record_reader **ret)
{
	CLEANUP(record_reader_freep) struct record_reader *rd = calloc(1, sizeof(*rd));

	if (!rd) {
		if (fd >= 0)
			close(fd);
		return -ENOMEM;
	}
	rd->fd = fd;
	rd->opts = *opts;
	rd->format = opts->format;
	rd->next_line = 1;
	rd->name = strdup(opts->name ? opts->name : "-");
	rd->cap = READ_BYTES;
	rd->buf = malloc(rd->cap + SLACK_BYTES);
	if (!rd->name || !rd->buf)
		return -ENOMEM;
	memset(rd->buf, '\n', rd->cap + SLACK_BYTES);
	column_table_init(&rd->columns);
	*ret = TAKE_PTR(rd);
	return 0;
}

struct record_reader *record_reader_free(struct record_reader *rd)
{
	char message[512];

	if (!rd)
		return NULL;
	if (rd->opts.complain && (rd->bad_lines > COMPLAINTS_MAX || rd->bad_values > COMPLAINTS_MAX)) {
		snprintf(message, sizeof(message), "%s: %llu bad lines and %llu bad values in all; the first %d of each were shown", rd->name,
			 (unsigned long long)rd->bad_lines, (unsigned long long)rd->bad_values, COMPLAINTS_MAX);
		rd->opts.complain(rd->opts.ctx, message);
	}
	closep(&rd->fd);
	free(rd->buf);
	free(rd->name);
	free(rd);
	return NULL;
}

/* More bytes behind `end`; moves the data down to offset 0 when room is short, so offsets must be corrected by the change of `start`. 1, 0 at the end of the file, -EAGAIN, or what read() failed with. */
static int fill(struct record_reader *rd)
{
	ssize_t n;

	if (rd->eof)
		return 0;
	if (rd->start > 0 && rd->cap - rd->end < READ_BYTES / 4) {
		memmove(rd->buf, rd->buf + rd->start, rd->end - rd->start);
		rd->end -= rd->start;
		rd->start = 0;
	}
	if (rd->end == rd->cap) {
		size_t cap = rd->cap * 2;
		char *p = realloc(rd->buf, cap + SLACK_BYTES);

		if (!p)
			return -ENOMEM;
		memset(p + rd->cap + SLACK_BYTES, '\n', cap - rd->cap);
		rd->buf = p;
		rd->cap = cap;
	}
	do
		n = read(rd->fd, rd->buf + rd->end, MIN(rd->cap - rd->end, (size_t)READ_BYTES));
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EWOULDBLOCK ? -EAGAIN : -errno;
	if (n == 0) {
		if (rd->opts.follow)
			return -EAGAIN;
		rd->eof = true;
		return 0;
	}
	rd->end += (size_t)n;
	rd->bytes += (uint64_t)n;
	return 1;
}

/* Offset of the first newline at or after `from`, or of the end of a last line without one. 1, 0, or negative errno as fill(). */
static int find_newline(struct record_reader *rd, size_t *from, size_t limit, size_t *ret)
{
	for (;;) {
		char *nl = memchr(rd->buf + *from, '\n', rd->end - *from);
		size_t start;
		int r;

		if (nl) {
			*ret = (size_t)(nl - rd->buf);
			return 1;
		}
		*from = rd->end;
		if (rd->end - rd->start > limit)
			return -E2BIG;
		start = rd->start;
		r = fill(rd);
		*from -= start - rd->start;
		if (r < 0)
			return r;
		if (r == 0) {
			if (rd->end == rd->start)
				return 0;
			*ret = rd->end;
			rd->buf[rd->end] = '\n'; /* the slack has room, and parsers want it */
			return 1;
		}
	}
}

static bool odd_quotes(const char *p, const char *end)
{
	bool odd = false;

	while ((p = memchr(p, '"', (size_t)(end - p)))) {
		odd = !odd;
		p++;
	}
	return odd;
}

/* Where the CSV record that begins at `start` and has an open quote at *nl really ends. As find_newline(); 0: nowhere. */
static int close_quote(struct record_reader *rd, size_t first_nl, size_t *ret_nl, uint64_t *ret_lines)
{
	size_t nl = first_nl, limit = first_nl - rd->start + QUOTED_BYTES_MAX, from;
	uint64_t lines = 1;

	for (; lines < QUOTED_LINES_MAX && nl < rd->end; lines++) {
		size_t line = nl + 1, start = rd->start;
		int r;

		from = line;
		r = find_newline(rd, &from, limit, &nl);
		line -= start - rd->start;
		if (r == -E2BIG)
			return 0;
		if (r < 0)
			return r;
		if (r == 0 || nl < line)
			return 0;
		if (odd_quotes(rd->buf + line, rd->buf + nl)) {
			*ret_nl = nl;
			*ret_lines = lines + 1;
			return 1;
		}
	}
	return 0;
}

/* The next line (CSV: record) without its newline. 1, 0 at the end, negative errno. */
static int next_line(struct record_reader *rd, char **ret, char **ret_end)
{
	for (;;) {
		size_t nl = 0;
		uint64_t lines = 1;
		char *p, *e;
		int r;

		if (rd->scanned < rd->start)
			rd->scanned = rd->start;
		r = find_newline(rd, &rd->scanned, LINE_MAX_BYTES, &nl);
		if (r == -E2BIG) {
			if (!rd->skipping) {
				rd->line = rd->next_line;
				bad_line(rd, "", "line is longer than 4 MiB", "");
			}
			rd->skipping = true;
			rd->start = rd->scanned = rd->end;
			continue;
		}
		if (r <= 0)
			return r;
		if (rd->skipping) {
			rd->skipping = false;
			rd->start = rd->scanned = MIN(nl + 1, rd->end);
			rd->next_line++;
			continue;
		}
		rd->line = rd->next_line;
		if (rd->format == FORMAT_CSV && odd_quotes(rd->buf + rd->start, rd->buf + nl)) {
			size_t closed = nl, start = rd->start;

			rd->scanned = nl; /* should the input run dry, this line is looked at again */
			r = close_quote(rd, nl, &closed, &lines);
			nl -= start - rd->start;
			rd->scanned = nl;
			if (r < 0)
				return r;
			if (r == 0) {
				bad_line(rd, "", "quote is never closed", "");
				rd->start = rd->scanned = MIN(nl + 1, rd->end);
				rd->next_line++;
				continue;
			}
			nl = closed;
		}
		p = rd->buf + rd->start;
		e = rd->buf + nl;
		rd->start = rd->scanned = MIN(nl + 1, rd->end);
		rd->next_line += lines;
		if (!rd->begun) {
			rd->begun = true;
			if (e - p >= 3 && !memcmp(p, "\xEF\xBB\xBF", 3))
				p += 3;
		}
		if (e > p && e[-1] == '\r')
			*--e = '\n';
		if (e == p)
			continue;
		*ret = p;
		*ret_end = e;
		return 1;
	}
}

/* Header line of a CSV file, also a second one further down (files joined with cat). */
static bool take_header(struct record_reader *rd, char *p, char *end)
{
	if (!csv_parse_header(&rd->header, &rd->columns, p, end))
		return false;
	rd->format = FORMAT_CSV;
	rd->has_header = true;
	return true;
}

static bool looks_like_header(const struct record_reader *rd, const char *p, const char *end)
{
	/* Cheap and enough: data begins with a digit or a quote in every format of time that we read. */
	return rd->has_header && p < end && !(*p >= '0' && *p <= '9') && *p != ',' && !memchr(p, '"', (size_t)(end - p));
}

int record_reader_next(struct record_reader *rd, struct record *ret_r)
{
	for (;;) {
		struct record_parse rp;
		const char *why;
		char *p, *end;
		int r = next_line(rd, &p, &end);

		if (r <= 0)
			return r;
		if (rd->format == FORMAT_AUTO) {
			char *q = p;

			while (q < end && (*q == ' ' || *q == '\t'))
				q++;
			if (*q == '{') {
				rd->format = FORMAT_JSONL;
			} else {
				/* A header whose quoted cell holds a newline is not found by itself: say --format csv. */
				if (!take_header(rd, p, end))
					bad_line(rd, "", "is neither a JSON object nor a CSV header with a timestamp", "");
				continue;
			}
		} else if (rd->format == FORMAT_CSV && !rd->has_header) {
			if (!take_header(rd, p, end))
				bad_line(rd, "", "is no CSV header: no column of it is a timestamp", "");
			continue;
		}

		record_parse_begin(&rp, ret_r);
		if (rd->format == FORMAT_JSONL) {
			size_t at = 0;

			why = record_parse_json(&rp, &rd->columns, rd->guess, p, end, &at);
			if (why) {
				char where[48];

				snprintf(where, sizeof(where), " (column %zu)", at + 1);
				bad_line(rd, "line", why, where);
				continue;
			}
		} else {
			if (looks_like_header(rd, p, end)) {
				struct csv_header again;

				if (csv_parse_header(&again, &rd->columns, p, end)) {
					rd->header = again;
					continue;
				}
			}
			why = csv_parse_line(&rp, &rd->header, p, end);
			if (why) {
				bad_line(rd, "line", why, "");
				continue;
			}
		}
		why = record_parse_end(&rp);
		if (why) {
			bad_line(rd, "timestamp", why, "");
			continue;
		}
		if (rp.bad_values) {
			uint64_t shown = rd->bad_values + 1;

			rd->bad_values += rp.bad_values;
			complain(rd, shown, column_name(rp.bad_column), rp.bad_why, ", ignored");
		}
		return 1;
	}
}

void record_reader_unfollow(struct record_reader *rd)
{
	rd->opts.follow = false;
}

uint64_t record_reader_bytes(const struct record_reader *rd)
{
	return rd->bytes;
}

uint64_t record_reader_bad_lines(const struct record_reader *rd)
{
	return rd->bad_lines;
}

uint64_t record_reader_bad_values(const struct record_reader *rd)
{
	return rd->bad_values;
}

uint64_t record_reader_lines(const struct record_reader *rd)
{
	return rd->next_line - 1;
}
