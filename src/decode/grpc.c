/* grpc.c - the table of methods, and the walk through their messages. */
#include "decode/grpc.h"

#include "decode/unpack.h"

#define PATH_LEN GRPC_DEPTH_MAX

enum as {
	AS_MESSAGE,
	AS_TEXT,
	AS_COUNT,
	AS_PROMPT_SUM,     /* counts that are added up: each message, or each answer in it, tells of itself */
	AS_COMPLETION_SUM,
	AS_STOP,           /* fmaas.StopReason */
	AS_TENSOR,         /* a message that describes one, and names it */
	AS_TENSOR_NAME,
	AS_TENSOR_TEXT,    /* its contents, one element per field */
	AS_TENSOR_INTS,    /* packed, or one per field */
	AS_TENSOR_RAW,     /* the contents of one tensor after the other */
};

struct grpc_rule {
	uint8_t path[PATH_LEN]; /* field numbers, from outside; 0: ends it */
	uint8_t as;
	const char *key;
};

/* ---- the table: only what is read of each message, by the numbers of its public definition --------- */
#define TENSORS(...)                                                                                                                                 \
	{ { __VA_ARGS__ }, AS_TENSOR, NULL }, { { __VA_ARGS__, 1 }, AS_TENSOR_NAME, NULL }, { { __VA_ARGS__, 5 }, AS_MESSAGE, NULL },                   \
		{ { __VA_ARGS__, 5, 1 }, AS_TENSOR_INTS, NULL }, { { __VA_ARGS__, 5, 2 }, AS_TENSOR_INTS, NULL }, { { __VA_ARGS__, 5, 3 }, AS_TENSOR_INTS, NULL }, \
		{ { __VA_ARGS__, 5, 4 }, AS_TENSOR_INTS, NULL }, { { __VA_ARGS__, 5, 5 }, AS_TENSOR_INTS, NULL }, { { __VA_ARGS__, 5, 8 }, AS_TENSOR_TEXT, NULL }
#define END { { 0 }, 0, NULL }

static const struct grpc_rule kserve_request[] = { { { 1 }, AS_TEXT, "model_name" }, { { 3 }, AS_TEXT, "id" }, TENSORS(5), { { 7 }, AS_TENSOR_RAW, NULL }, END };
static const struct grpc_rule kserve_answer[] = { { { 1 }, AS_TEXT, "model_name" }, { { 3 }, AS_TEXT, "id" }, TENSORS(5), { { 6 }, AS_TENSOR_RAW, NULL }, END };
static const struct grpc_rule kserve_stream[] = {
	{ { 1 }, AS_TEXT, "error" }, { { 2 }, AS_MESSAGE, NULL }, { { 2, 1 }, AS_TEXT, "model_name" }, { { 2, 3 }, AS_TEXT, "id" }, TENSORS(2, 5), { { 2, 6 }, AS_TENSOR_RAW, NULL }, END,
};
static const struct grpc_rule fmaas_request[] = {
	{ { 1 }, AS_TEXT, "model_name" }, { { 3 }, AS_MESSAGE, NULL }, { { 3, 2 }, AS_TEXT, "text_input" }, { { 10 }, AS_MESSAGE, NULL }, { { 10, 3 }, AS_MESSAGE, NULL },
	{ { 10, 3, 1 }, AS_COUNT, "max_tokens" }, END,
};
static const struct grpc_rule fmaas_answers[] = {
	{ { 1 }, AS_MESSAGE, NULL }, { { 1, 2 }, AS_COMPLETION_SUM, NULL }, { { 1, 4 }, AS_TEXT, "text_output" }, { { 1, 6 }, AS_PROMPT_SUM, NULL }, { { 1, 7 }, AS_STOP, NULL }, END,
};
static const struct grpc_rule fmaas_stream[] = {
	{ { 2 }, AS_COUNT, "completion_tokens" }, { { 4 }, AS_TEXT, "text_output" }, { { 6 }, AS_COUNT, "prompt_tokens" }, { { 7 }, AS_STOP, NULL }, END,
};
static const struct grpc_rule tei_request[] = { { { 1 }, AS_TEXT, "text_input" }, END };
static const struct grpc_rule tei_rerank[] = { { { 1 }, AS_TEXT, "text_input" }, { { 2 }, AS_TEXT, "text_input" }, END };
static const struct grpc_rule tei_answer[] = { { { 2 }, AS_MESSAGE, NULL }, { { 2, 2 }, AS_PROMPT_SUM, NULL }, END };
static const struct grpc_rule localai_request[] = { { { 1 }, AS_TEXT, "text_input" }, END };
static const struct grpc_rule localai_answer[] = {
	{ { 1 }, AS_TEXT, "text_output" }, { { 2 }, AS_COUNT, "completion_tokens" }, { { 3 }, AS_COUNT, "prompt_tokens" }, END,
};

struct grpc_method {
	const char *path;
	const struct grpc_rule *request, *answer;
	bool stream;
};

static const struct grpc_method methods[] = {
	{ "/inference.GRPCInferenceService/ModelInfer", kserve_request, kserve_answer, false },
	{ "/inference.GRPCInferenceService/ModelStreamInfer", kserve_request, kserve_stream, true },
	{ "/fmaas.GenerationService/Generate", fmaas_request, fmaas_answers, false },
	{ "/fmaas.GenerationService/GenerateStream", fmaas_request, fmaas_stream, true },
	{ "/tei.v1.Embed/Embed", tei_request, tei_answer, false },
	{ "/tei.v1.Embed/EmbedStream", tei_request, tei_answer, true },
	{ "/tei.v1.Embed/EmbedSparse", tei_request, tei_answer, false },
	{ "/tei.v1.Embed/EmbedSparseStream", tei_request, tei_answer, true },
	{ "/tei.v1.Embed/EmbedAll", tei_request, tei_answer, false },
	{ "/tei.v1.Embed/EmbedAllStream", tei_request, tei_answer, true },
	{ "/tei.v1.Predict/Predict", tei_request, tei_answer, false },
	{ "/tei.v1.Predict/PredictStream", tei_request, tei_answer, true },
	{ "/tei.v1.Rerank/Rerank", tei_rerank, tei_answer, false },
	{ "/tei.v1.Rerank/RerankStream", tei_rerank, tei_answer, false },
	{ "/backend.Backend/Predict", localai_request, localai_answer, false },
	{ "/backend.Backend/PredictStream", localai_request, localai_answer, true },
};

const struct grpc_method *grpc_method_find(struct span path)
{
	for (size_t i = 0; i < ARRAY_SIZE(methods); i++)
		if (span_eq(path, span_of(methods[i].path)))
			return &methods[i];
	return NULL;
}

bool grpc_answers_stream(const struct grpc_method *m)
{
	return m->stream;
}

/* What a tensor is, by the names that Triton's backends for text give it (vLLM, TensorRT-LLM). */
enum role { R_NONE, R_PROMPT, R_ANSWER, R_MAX, R_STREAM, R_PROMPT_TOKENS, R_TOKENS, R_TOKENS_SUM };

static uint8_t role_of(struct span name)
{
	static const struct {
		const char *name;
		uint8_t role;
	} names[] = {
		{ "text_input", R_PROMPT },           { "prompt", R_PROMPT },       { "text_output", R_ANSWER },       { "max_tokens", R_MAX },
		{ "request_output_len", R_MAX },      { "stream", R_STREAM },       { "streaming", R_STREAM },         { "num_input_tokens", R_PROMPT_TOKENS },
		{ "input_token_count", R_PROMPT_TOKENS }, { "output_token_count", R_TOKENS }, { "sequence_length", R_TOKENS }, { "num_output_tokens", R_TOKENS_SUM },
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (span_eq(name, span_of(names[i].name)))
			return names[i].role;
	return R_NONE;
}

unsigned grpc_http_status(unsigned grpc_status)
{
	/* OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED RESOURCE_EXHAUSTED
	 * FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS UNAUTHENTICATED */
	static const uint16_t http[] = { 200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401 };

	return grpc_status < ARRAY_SIZE(http) ? http[grpc_status] : 500;
}

/* ---- JSON out ------------------------------------------------------------------------------------- */
static void put(struct grpc_side *s, const char *text)
{
	s->emit(s->ctx, text, strlen(text));
}

static void put_key(struct grpc_side *s, const char *key)
{
	char text[48];
	int n = snprintf(text, sizeof(text), "%s\"%s\":", s->any ? "," : "", key);

	s->any = true;
	s->emit(s->ctx, text, (size_t)n);
}

static void put_number(struct grpc_side *s, const char *key, uint64_t v)
{
	char text[24];
	int n = snprintf(text, sizeof(text), "%llu", (unsigned long long)v);

	put_key(s, key);
	s->emit(s->ctx, text, (size_t)n);
}

static void put_text(struct grpc_side *s, const uint8_t *p, size_t n)
{
	size_t from = 0;

	for (size_t i = 0; i < n; i++) {
		char escape[8];

		if (p[i] >= ' ' && p[i] != '"' && p[i] != '\\')
			continue;
		s->emit(s->ctx, (const char *)p + from, i - from);
		snprintf(escape, sizeof(escape), p[i] < ' ' ? "\\u%04x" : "\\%c", p[i]);
		put(s, escape);
		from = i + 1;
	}
	s->emit(s->ctx, (const char *)p + from, n - from);
}

static void message_begin(struct grpc_side *s)
{
	s->state = s->depth = s->shift = 0;
	s->pos = s->number = 0;
	s->any = false;
	s->tensors = s->raws = s->reading = 0;
	s->messages++;
	put(s, "{");
}

static void message_end(struct grpc_side *s)
{
	put(s, s->quoted ? "\"}\n" : "}\n"); /* broken inside a text */
	s->quoted = false;
	s->inside = false;
	s->have = 0;
	if (s->unpack) {
		s->unpack = unpack_free(s->unpack);
		(*s->unpacking)--;
	}
}

/* ---- fields --------------------------------------------------------------------------------------- */
static void add_up(struct grpc_side *s, bool completion, uint64_t v)
{
	s->sum[completion] += MIN(v, (uint64_t)UINT32_MAX);
	put_number(s, completion ? "completion_tokens" : "prompt_tokens", s->sum[completion]);
}

static void tensor_number(struct grpc_side *s, uint64_t v)
{
	switch (s->reading) {
	case R_MAX:
		put_number(s, "max_tokens", v);
		break;
	case R_STREAM:
		put_key(s, "stream");
		put(s, v ? "true" : "false");
		break;
	case R_PROMPT_TOKENS:
		put_number(s, "prompt_tokens", v);
		break;
	case R_TOKENS:
		put_number(s, "completion_tokens", v);
		break;
	case R_TOKENS_SUM:
		add_up(s, true, v);
		break;
	default:
		break;
	}
	s->reading = R_NONE; /* its first element alone */
}

static uint8_t role_at(const struct grpc_side *s, unsigned i)
{
	return i < GRPC_TENSORS_MAX ? s->role[i] : (uint8_t)R_NONE;
}

static const char *text_key(uint8_t role)
{
	return role == R_PROMPT ? "text_input" : role == R_ANSWER ? "text_output" : NULL;
}

static void number_field(struct grpc_side *s, uint64_t v)
{
	static const char *const reason[] = { NULL, "max_tokens", "eos_token", "cancelled", "time_limit", "stop_sequence", "token_limit", "error" };

	if (!s->rule)
		return;
	switch (s->rule->as) {
	case AS_COUNT:
		put_number(s, s->rule->key, v);
		break;
	case AS_PROMPT_SUM:
	case AS_COMPLETION_SUM:
		add_up(s, s->rule->as == AS_COMPLETION_SUM, v);
		break;
	case AS_STOP:
		if (v && v < ARRAY_SIZE(reason)) {
			put_key(s, "finish_reason");
			put(s, "\"");
			put(s, reason[v]);
			put(s, "\"");
		}
		break;
	case AS_TENSOR_INTS:
		s->reading = role_at(s, s->tensors - 1u);
		tensor_number(s, v);
		break;
	default:
		break;
	}
}

static void payload_begin(struct grpc_side *s)
{
	const char *key = NULL;

	s->name_len = s->raw_have = 0;
	s->element = 0;
	s->number = 0;
	s->shift = 0;
	if (!s->rule)
		return;
	s->reading = R_NONE;
	switch (s->rule->as) {
	case AS_TEXT:
		key = s->rule->key;
		break;
	case AS_TENSOR_TEXT:
	case AS_TENSOR_INTS:
		s->reading = role_at(s, s->tensors - 1u);
		key = s->rule->as == AS_TENSOR_TEXT ? text_key(s->reading) : NULL;
		break;
	case AS_TENSOR_RAW:
		s->reading = role_at(s, s->raws);
		s->raws = (uint8_t)MIN(s->raws + 1u, (unsigned)GRPC_TENSORS_MAX);
		key = text_key(s->reading);
		break;
	default:
		break;
	}
	if (key) {
		put_key(s, key);
		put(s, "\"");
		s->quoted = true;
	}
}

/* Elements of a text, each behind its length; or one little-endian number. */
static void raw_bytes(struct grpc_side *s, const uint8_t *p, size_t n)
{
	bool text = text_key(s->reading);

	while (n) {
		size_t take = 1;

		if (text && s->element) {
			take = MIN(n, s->element);
			put_text(s, p, take);
			s->element -= (uint32_t)take;
		} else if (s->raw_have < sizeof(s->raw)) {
			s->raw[s->raw_have++] = *p;
			if (text && s->raw_have == 4) {
				s->element = (uint32_t)s->raw[3] << 24 | (uint32_t)s->raw[2] << 16 | (uint32_t)s->raw[1] << 8 | s->raw[0];
				s->raw_have = 0;
			}
		} else {
			return;
		}
		p += take;
		n -= take;
	}
}

static void payload_bytes(struct grpc_side *s, const uint8_t *p, size_t n)
{
	if (!s->rule)
		return;
	switch (s->rule->as) {
	case AS_TEXT:
		put_text(s, p, n);
		break;
	case AS_TENSOR_NAME:
		for (size_t i = 0; i < n && s->name_len < sizeof(s->name); i++)
			s->name[s->name_len++] = (char)p[i];
		break;
	case AS_TENSOR_TEXT:
		if (text_key(s->reading))
			put_text(s, p, n);
		break;
	case AS_TENSOR_INTS:
		for (size_t i = 0; i < n && s->reading && s->shift < 64; i++) {
			s->number |= (uint64_t)(p[i] & 0x7f) << s->shift;
			s->shift = (uint8_t)(s->shift + 7);
			if (!(p[i] & 0x80))
				tensor_number(s, s->number);
		}
		break;
	case AS_TENSOR_RAW:
		raw_bytes(s, p, n);
		break;
	default:
		break;
	}
}

static void payload_end(struct grpc_side *s)
{
	uint64_t v = 0;

	if (!s->rule)
		return;
	if (s->rule->as == AS_TENSOR_NAME && s->tensors && s->tensors <= GRPC_TENSORS_MAX && s->name_len < sizeof(s->name))
		s->role[s->tensors - 1] = role_of((struct span){ s->name, s->name_len });
	if (s->rule->as == AS_TEXT || ((s->rule->as == AS_TENSOR_TEXT || s->rule->as == AS_TENSOR_RAW) && text_key(s->reading))) {
		put(s, "\"");
		s->quoted = false;
	} else if (s->rule->as == AS_TENSOR_RAW && s->reading) {
		/* 1, 4 or 8 bytes wide; of several elements the first, of four bytes unless there is one of eight */
		unsigned width = s->payload == 8 ? 8 : (unsigned)MIN(s->raw_have, 4);

		for (unsigned i = 0; i < width; i++)
			v |= (uint64_t)s->raw[i] << 8 * i;
		tensor_number(s, v);
	}
}

/* ---- the walk (https://protobuf.dev/programming-guides/encoding) ---------------------------------- */
enum state { S_KEY, S_NUMBER, S_LENGTH, S_PAYLOAD, S_SKIP };

static const struct grpc_rule *rule_of(const struct grpc_side *s)
{
	for (const struct grpc_rule *r = s->rules; r->path[0]; r++)
		if (!memcmp(r->path, s->path, s->depth + 1u) && (s->depth + 1u == PATH_LEN || !r->path[s->depth + 1]))
			return r;
	return NULL;
}

static void field_key(struct grpc_side *s, uint64_t key)
{
	uint64_t field = key >> 3;

	s->wire = key & 7;
	/* numbers that the table has are small */
	s->path[s->depth] = field < 256 ? (uint8_t)field : 0;
	s->rule = field && field < 256 ? rule_of(s) : NULL;
	s->number = 0;
	s->shift = 0;
	s->payload = s->wire == 1 ? 8 : 4;
	s->state = s->wire == 0 ? S_NUMBER : s->wire == 2 ? S_LENGTH : S_SKIP;
	if (!field || s->wire == 3 || s->wire == 4 || s->wire > 5)
		s->broken = true;
}

static void field_length(struct grpc_side *s, uint64_t len)
{
	uint64_t room = (s->depth ? s->end[s->depth - 1] : s->limit) - s->pos;
	bool message = s->rule && (s->rule->as == AS_MESSAGE || s->rule->as == AS_TENSOR);

	if (len > room || len > UINT32_MAX || (message && s->depth + 1 >= PATH_LEN)) {
		s->broken = true;
		return;
	}
	if (message) {
		if (s->rule->as == AS_TENSOR && s->tensors < UINT8_MAX) {
			if (s->tensors < GRPC_TENSORS_MAX)
				s->role[s->tensors] = R_NONE;
			s->tensors++;
		}
		s->end[s->depth++] = s->pos + len;
		s->state = S_KEY;
		s->number = 0;
		s->shift = 0;
		return;
	}
	s->payload = len;
	s->state = S_PAYLOAD;
	payload_begin(s);
	s->end[s->depth] = s->pos + len; /* of the payload, while it is read */
	if (!len) {
		payload_end(s);
		s->state = S_KEY;
	}
}

/* One byte of a number; true: it is complete. */
static bool number_byte(struct grpc_side *s, uint8_t b)
{
	if (s->shift > 63) {
		s->broken = true;
		return false;
	}
	s->number |= (uint64_t)(b & 0x7f) << s->shift;
	s->shift = (uint8_t)(s->shift + 7);
	return !(b & 0x80);
}

static void next_field(struct grpc_side *s)
{
	s->state = S_KEY;
	s->number = 0;
	s->shift = 0;
	while (s->depth && s->pos >= s->end[s->depth - 1]) {
		if (s->pos > s->end[s->depth - 1])
			s->broken = true;
		s->depth--;
	}
}

static void walk_byte(struct grpc_side *s, uint8_t b)
{
	s->pos++;
	if (!number_byte(s, b))
		return;
	if (s->state == S_KEY) {
		field_key(s, s->number);
	} else if (s->state == S_NUMBER) {
		number_field(s, s->number);
		next_field(s);
	} else {
		field_length(s, s->number);
		if (s->state == S_KEY)
			next_field(s);
	}
}

static void walk(struct grpc_side *s, const uint8_t *p, size_t n)
{
	while (n && !s->broken) {
		size_t take = 1;

		if (s->state == S_PAYLOAD) {
			take = (size_t)MIN((uint64_t)n, s->end[s->depth] - s->pos);
			payload_bytes(s, p, take);
			s->pos += take;
			if (s->pos == s->end[s->depth]) {
				payload_end(s);
				next_field(s);
			}
		} else if (s->state == S_SKIP) {
			take = (size_t)MIN((uint64_t)n, s->payload);
			s->pos += take;
			s->payload -= take;
			if (!s->payload)
				next_field(s);
		} else {
			walk_byte(s, *p);
		}
		p += take;
		n -= take;
	}
}

/* ---- messages ------------------------------------------------------------------------------------- */
static int on_unpacked(void *ctx, const uint8_t *p, size_t n)
{
	walk(ctx, p, n);
	return 0;
}

static void prefix_complete(struct grpc_side *s)
{
	s->inside = true;
	s->compressed = s->prefix[0] & 1;
	s->left = (uint32_t)s->prefix[1] << 24 | (uint32_t)s->prefix[2] << 16 | (uint32_t)s->prefix[3] << 8 | s->prefix[4];
	s->limit = s->compressed ? UINT64_MAX : s->left;
	s->broken = s->prefix[0] > 1;
	message_begin(s);
	if (s->compressed && !s->broken) {
		if (*s->unpacking >= GRPC_UNPACK_MAX || unpack_open(s->encoding, &s->unpack) < 0) {
			s->unpack = NULL;
			s->broken = true;
		} else {
			(*s->unpacking)++;
		}
	}
	if (!s->left)
		message_end(s);
}

void grpc_feed(struct grpc_side *s, const uint8_t *p, size_t n)
{
	while (n && !s->lost) {
		size_t take;

		if (!s->inside) {
			take = MIN(n, sizeof(s->prefix) - s->have);
			memcpy(s->prefix + s->have, p, take);
			s->have = (uint8_t)(s->have + take);
			if (s->have == sizeof(s->prefix))
				prefix_complete(s);
		} else {
			take = MIN(n, s->left);
			if (!s->broken && !s->compressed)
				walk(s, p, take);
			else if (!s->broken && unpack_feed(s->unpack, p, take, on_unpacked, s) < 0)
				s->broken = true;
			s->left -= (uint32_t)take;
			if (!s->left)
				message_end(s);
		}
		p += take;
		n -= take;
	}
}

void grpc_missed(struct grpc_side *s, uint64_t n)
{
	if (!s->inside || n > s->left) {
		s->lost = true;
		return;
	}
	s->broken = true;
	s->left -= (uint32_t)n;
	if (!s->left)
		message_end(s);
}

void grpc_begin(struct grpc_side *s, const struct grpc_method *m, bool answer, struct span encoding, unsigned *unpacking)
{
	static const char *const names[] = { "gzip", "deflate", "zstd" };

	*s = (struct grpc_side){ .rules = answer ? m->answer : m->request, .unpacking = unpacking };
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (span_eq(encoding, span_of(names[i])))
			s->encoding = span_of(names[i]);
}

void grpc_done(struct grpc_side *s)
{
	if (!s->unpack)
		return;
	s->unpack = unpack_free(s->unpack);
	(*s->unpacking)--;
}
