/*
 * grpc.h - messages of gRPC in the words of JSON, from bytes in any split.
 *
 * What a model server's methods say of model, prompt, answer and tokens is picked out of their protocol buffers by field number
 * and written as one JSON object per message, `{"model_name":"m","text_output":"so","completion_tokens":5}`: for the automaton
 * and the readers that all other APIs go through. Of methods not in the table nothing is read but their end.
 *
 * The wire format is walked as it comes, without a buffer: a message may be as long as it likes, and end in what counts. Nothing
 * here allocates but the unpacking of compressed messages, of which at most GRPC_UNPACK_MAX are under way.
 */
#ifndef WEIR_DECODE_GRPC_H
#define WEIR_DECODE_GRPC_H

#include "base/util.h"

#define GRPC_DEPTH_MAX 4    /* of messages in messages: what the table needs */
#define GRPC_TENSORS_MAX 16 /* inputs or outputs of one message whose names are kept; text models have five */
#define GRPC_UNPACK_MAX 32  /* compressed messages read at once; about 40 KiB each */

struct grpc_method;
struct grpc_rule;
struct unpack;

/* NULL: not in the table. */
const struct grpc_method *grpc_method_find(struct span path);
bool grpc_answers_stream(const struct grpc_method *m);

/* One direction of a call. */
struct grpc_side {
	const struct grpc_rule *rules;
	void (*emit)(void *ctx, const char *p, size_t n);
	void *ctx;
	unsigned *unpacking; /* how many are under way, shared by all */
	struct unpack *unpack;
	struct span encoding; /* of compressed messages; a literal */

	uint8_t prefix[5], have;
	bool inside, compressed, broken; /* broken: what follows in this message is not read */
	bool lost;                       /* where messages begin is not known */
	uint32_t left;                   /* bytes of the message, as they come */
	uint32_t messages;

	uint8_t state, depth, wire, shift;
	uint8_t path[GRPC_DEPTH_MAX];
	uint64_t end[GRPC_DEPTH_MAX]; /* where the open messages end, in the unpacked message */
	uint64_t limit; /* of the message as it is read; not known of a compressed one */
	uint64_t pos, number, payload;
	const struct grpc_rule *rule; /* of the field being read */
	bool any;                     /* something was written of this message */
	bool quoted;                  /* inside a string of what is written */

	uint8_t role[GRPC_TENSORS_MAX]; /* of its tensors, by their names */
	uint8_t tensors, raws, reading; /* reading: role of what is being read */
	char name[32];
	uint8_t name_len, raw_have;
	uint8_t raw[8];
	uint32_t element; /* bytes of a text tensor's element still to come */
	uint64_t sum[2];  /* of counts that are added up: prompt, completion */
};

/* encoding: grpc-encoding of this direction's head. */
void grpc_begin(struct grpc_side *s, const struct grpc_method *m, bool answer, struct span encoding, unsigned *unpacking);
void grpc_feed(struct grpc_side *s, const uint8_t *p, size_t n);
/* n bytes were not seen. */
void grpc_missed(struct grpc_side *s, uint64_t n);
void grpc_done(struct grpc_side *s);

/* The status of HTTP that says the same; docs/http2.md has the table. */
unsigned grpc_http_status(unsigned grpc_status);

#endif
