/*
 * record.h - the request record, the waist of the design: what decode makes, files hold and detect reads.
 *
 * A record describes one request (or `weight` of them). Absent is not 0: a field counts only where its
 * bit is set in `has`. Strings are spans into memory of whoever made the record; they are valid until
 * that maker is called again. Nothing here knows about eBPF.
 *
 * On disk: one JSON object per line with the names below, or CSV with the same names (aliases are one
 * table in record_read.c). Times are UTC; epoch seconds as a JSON number wherever weir writes them.
 */
#ifndef WEIR_DECODE_RECORD_H
#define WEIR_DECODE_RECORD_H

#include "base/str.h"
#include "base/util.h"

enum record_kind { KIND_UNKNOWN, KIND_INFERENCE, KIND_EMBEDDING, KIND_CONTROL, KIND_OTHER };

enum record_field {
	/* strings: index into record.text[] */
	F_CLIENT_IP,
	F_MODEL_NAME,
	F_API_KEY, /* opaque: already hashed */
	F_USER,
	F_USER_AGENT,
	F_SERVER,
	F_HOST,
	F_PATH,
	F_FINISH_REASON,
	F_REQUEST_ID,
	F_TEXT_COUNT,
	/* integers: index - F_INT_FIRST into record.num[] */
	F_INT_FIRST = F_TEXT_COUNT,
	F_PROMPT_TOKENS = F_INT_FIRST, /* everything the model read, cached tokens included */
	F_COMPLETION_TOKENS,           /* reasoning tokens included */
	F_CACHED_TOKENS,
	F_REASONING_TOKENS,
	F_STATUS,
	F_MAX_TOKENS,
	F_RETRY,
	F_PROMPT_CHARS,
	F_PROMPT_HASH, /* 64 bits, hex on disk */
	F_PROMPT_SIM,  /* simhash; Hamming distance is similarity; hex on disk */
	F_INT_END,
	/* reals: index - F_INT_END into record.real[] */
	F_TTFT_MS = F_INT_END,
	F_DURATION_MS,
	F_PROMPT_ENTROPY,  /* bits per byte */
	F_INJECTION_SCORE, /* 0..1 */
	F_REAL_END,
	/* booleans: only in `has` and `yes` */
	F_ESTIMATED = F_REAL_END, /* token counts are not the server's own */
	F_STREAM,
	F_LOGPROBS,
	F_ABORTED, /* the connection ended before the response did */
	F_LOST,    /* with weight: what the counters saw beyond the records */
	F_FIELD_COUNT,
};

#define F_BIT(field) (UINT64_C(1) << (field))
#define RECORD_INTS (F_INT_END - F_INT_FIRST)
#define RECORD_REALS (F_REAL_END - F_INT_END)

struct record {
	double timestamp;      /* arrival of the request, epoch seconds */
	uint64_t has;          /* F_BIT(field) of every field present */
	uint64_t yes;          /* F_BIT of every boolean that is true */
	int64_t weight;        /* requests this record stands for, >= 1; its token counts are the sum over them */
	enum record_kind kind; /* the reader derives it from the path where the line does not say it */
	struct span text[F_TEXT_COUNT];
	int64_t num[RECORD_INTS];
	double real[RECORD_REALS];
};

/* Empty record, weight 1. */
void record_init(struct record *r);

static inline bool record_has(const struct record *r, enum record_field f)
{
	return r->has & F_BIT(f);
}
static inline bool record_yes(const struct record *r, enum record_field f)
{
	return r->yes & F_BIT(f);
}
static inline struct span record_text(const struct record *r, enum record_field f)
{
	return record_has(r, f) ? r->text[f] : (struct span){ 0 };
}
/* `server` up to the first blank: the address, by which a server is the same before and after its software is known. */
static inline struct span record_server_address(const struct record *r)
{
	struct span s = record_text(r, F_SERVER);
	const char *blank = s.n ? memchr(s.p, ' ', s.n) : NULL;

	return blank ? (struct span){ s.p, (size_t)(blank - s.p) } : s;
}
/*
 * Who the server is for everything that learns: its workload ("unit=vllm.service") where the label has one, else its address. Neither
 * a restart, a rollout, an upgrade nor another port makes another server. A label of somebody else's making ("gpu box 7") is taken whole.
 */
struct span record_server_entity(const struct record *r);
/* The integer, or `absent` where the record has none. */
static inline int64_t record_int(const struct record *r, enum record_field f, int64_t absent)
{
	return record_has(r, f) ? r->num[f - F_INT_FIRST] : absent;
}
static inline double record_real(const struct record *r, enum record_field f, double absent)
{
	return record_has(r, f) ? r->real[f - F_INT_END] : absent;
}
void record_set_text(struct record *r, enum record_field f, struct span v); /* an empty span leaves the field absent */
void record_set_int(struct record *r, enum record_field f, int64_t v);
void record_set_real(struct record *r, enum record_field f, double v);
void record_set_bool(struct record *r, enum record_field f, bool v);

/* Name on disk of a field; NULL out of range. */
const char *record_field_name(enum record_field f);
const char *record_kind_name(enum record_kind k);

/* inference, embedding, control or other by the request path (query string ignored). KIND_INFERENCE where path is empty: simple
 * files hold nothing else. */
enum record_kind record_kind_of_path(struct span path);

/* The record with as many digits of its times as a file keeps: whoever is fed with it ticks as if it had read the file. */
struct record record_as_written(const struct record *r);

/* Appends the record as one JSON line, '\n' included. Only fields present are written. */
void record_write_json(struct str *out, const struct record *r);

/*
 * Reader: JSON lines or CSV from an open stream. Bad lines are skipped, counted, and reported through
 * `complain` as "file:line: what" (rate-limited: the first 20, then a count at the end). A value of an
 * optional field that makes no sense leaves the field absent, is counted and reported in the same way;
 * a line without a readable timestamp is a bad line. Messages never quote what the file holds.
 * Limits (record_read.c): a line of 4 MiB, 512 columns, 64 levels of nesting that is skipped anyway.
 */
enum record_format { FORMAT_AUTO, FORMAT_CSV, FORMAT_JSONL };

struct record_reader;
struct record_reader_opts {
	enum record_format format;
	const char *name; /* shown in complaints */
	void (*complain)(void *ctx, const char *message);
	void *ctx;
	bool follow; /* the file may grow: at its end answer -EAGAIN, and keep a line without its newline for later */
};

/* Takes ownership of fd, also on failure. -ENOMEM. */
int record_reader_open(int fd, const struct record_reader_opts *opts, struct record_reader **ret);
/* 1: *ret_r filled, valid until the next call. 0: end of file. -EAGAIN: fd is non-blocking and dry. Other negative errno: read
 * failed. */
int record_reader_next(struct record_reader *rd, struct record *ret_r);
/* Ends `follow`: what is left is read as the last line (the file was rotated away). */
void record_reader_unfollow(struct record_reader *rd);
uint64_t record_reader_bytes(const struct record_reader *rd); /* read so far */
uint64_t record_reader_bad_values(const struct record_reader *rd);
uint64_t record_reader_bad_lines(const struct record_reader *rd);
uint64_t record_reader_lines(const struct record_reader *rd);
/* Frees, and says how many complaints were not shown. */
struct record_reader *record_reader_free(struct record_reader *rd);
static inline void record_reader_freep(struct record_reader **rd)
{
	record_reader_free(*rd);
}

#endif
