/* h2_internal.h - shared among h2*.c; nobody else includes it. */
#ifndef WEIR_DECODE_H2_INTERNAL_H
#define WEIR_DECODE_H2_INTERNAL_H

#include "decode/grpc.h"
#include "decode/h2.h"
#include "decode/h2_frame.h"
#include "decode/h2_hpack.h"
#include "weir/conn.h"

#define HEAD_BYTES WEIR_SLICE_HEAD /* of a head in HTTP/1's words: more of it never leaves the kernel of HTTP/1 either */
#define HEAD_PATH 2048
#define STREAM_BUCKETS 32u

/* One stream is one exchange: a connection of HTTP/1 with one request. */
struct stream {
	uint32_t id;
	bool tunnel; /* CONNECT: what follows is no body */
	bool known;  /* counted by its number before anything of it was seen: it has no record */
	bool request_over;
	bool is_grpc;
	struct grpc_side *grpc[2]; /* of a method that is in the table, by enum weir_dir; NULL: bodies are not read */
	const struct grpc_method *method;
	bool guess;  /* what its body is was said before we came: the body's first byte will tell */
	struct weir_conn c; /* counters and times; in, out and reply are used as the meter uses them */
	struct stream *chain;
	struct stream *older, *newer; /* of the connection, by last event */
};

/* A header block being collected. */
struct block {
	uint8_t *data;
	uint32_t len, cap;
	uint32_t stream;
	bool open, spoilt, end_stream, pushed;
};

struct waiting {
	struct waiting *next;
	uint64_t ts;
	uint32_t seq, len;
	uint8_t data[];
};

struct side {
	struct h2_frames frames;
	struct h2_hpack hpack;
	struct block block;
	uint32_t seq;  /* expected */
	uint32_t lost; /* the kernel's count of what it could not send, as the last piece told */
	bool started;
	bool whole;      /* seen from its first frame on, without a gap */
	uint8_t preface; /* requests: how much of it is still to come */
	uint64_t missed; /* requests: bytes in which heads may have been lost */
};

struct conn {
	uint64_t id;
	struct weir_conn_key key;
	struct side side[2]; /* by enum weir_dir */
	struct stream *streams[STREAM_BUCKETS];
	struct stream *oldest, *newest;
	uint32_t stream_count;
	uint32_t last_stream; /* highest number of a request */
	uint32_t requests, unpaired;
	uint32_t requests_lost; /* bytes of the request side that the kernel could not send */
	uint64_t skipped; /* requests counted by their numbers: their answers do not count them again */
	struct waiting *waiting; /* request bytes ahead of their turn, by seq */
	size_t waiting_bytes;
	struct conn *chain;
	struct conn *older, *newer;
};

/* A head being put together. */
struct head {
	char fields[HEAD_BYTES];
	size_t n;
	char path[HEAD_PATH], method[24], host[256];
	size_t path_len, method_len, host_len;
	unsigned status;
	uint64_t length; /* content-length */
	bool has_length, connect, cut;
	bool is_grpc;
	const char *answer_type; /* gRPC: of the JSON that its messages become */
	int grpc_status; /* -1: not said */
	char encoding[16]; /* grpc-encoding */
	size_t encoding_len;
	unsigned unknown;
};

struct h2 {
	struct h2_opts opts;
	struct h2_stats stats;
	enum weir_shed shed;
	nghttp2_mem mem;
	struct conn **buckets;
	struct conn *oldest, *newest;
	struct weir_client more; /* counted during this event */
	uint64_t now;
	unsigned unpacking; /* compressed messages of gRPC under way */
	struct head head;
	char text[HEAD_BYTES];
	uint64_t slice[(sizeof(struct weir_slice) + WEIR_SLICE_HEAD + 7) / 8];
};

/* h2.c: memory that is accounted; NULL above H2_BYTES_MAX. */
void *h2_alloc(struct h2 *h, size_t n);
void *h2_release(struct h2 *h, void *p);

/* h2_stream.c */
struct stream *stream_find(const struct conn *c, uint32_t id);
struct stream *stream_new(struct h2 *h, struct conn *c, uint32_t id);
/* Stream 1 of a connection that began as HTTP/1. */
void stream_upgraded(struct h2 *h, struct conn *c, uint32_t request);
/* A header block is complete. */
void stream_headers(struct h2 *h, struct conn *c, int dir, uint32_t id, const uint8_t *block, size_t n, bool spoilt, bool end);
void stream_data(struct h2 *h, struct conn *c, int dir, uint32_t id, const uint8_t *p, size_t n);
/* n bytes of its data were not seen. */
void stream_data_missed(struct h2 *h, struct conn *c, int dir, uint32_t id, uint64_t n);
void stream_end(struct h2 *h, struct conn *c, int dir, uint32_t id);
void stream_reset(struct h2 *h, struct conn *c, uint32_t id);
/* The connection is over, or gives up its place. */
void streams_done(struct h2 *h, struct conn *c, bool evicted);

/* h2_head.c: a block's fields -> head -> HTTP/1's words */
void head_init(struct head *d);
void head_field(void *head, struct span name, struct span value);
/* The text of it in h->text; its length. 0: no path is known. */
size_t head_request(struct h2 *h);
size_t head_response(struct h2 *h);

#endif
