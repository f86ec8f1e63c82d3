#include "decode/record.h"

#include <math.h>
#include <strings.h>

static const char *const names[F_FIELD_COUNT] = {
	[F_CLIENT_IP] = "client_ip",
	[F_MODEL_NAME] = "model_name",
	[F_API_KEY] = "api_key",
	[F_USER] = "user",
	[F_USER_AGENT] = "user_agent",
	[F_SERVER] = "server",
	[F_HOST] = "host",
	[F_PATH] = "path",
	[F_FINISH_REASON] = "finish_reason",
	[F_REQUEST_ID] = "request_id",
	[F_PROMPT_TOKENS] = "prompt_tokens",
	[F_COMPLETION_TOKENS] = "completion_tokens",
	[F_CACHED_TOKENS] = "cached_tokens",
	[F_REASONING_TOKENS] = "reasoning_tokens",
	[F_STATUS] = "status",
	[F_MAX_TOKENS] = "max_tokens",
	[F_RETRY] = "retry",
	[F_PROMPT_CHARS] = "prompt_chars",
	[F_PROMPT_HASH] = "prompt_hash",
	[F_PROMPT_SIM] = "prompt_sim",
	[F_TTFT_MS] = "ttft_ms",
	[F_DURATION_MS] = "duration_ms",
	[F_PROMPT_ENTROPY] = "prompt_entropy",
	[F_INJECTION_SCORE] = "injection_score",
	[F_ESTIMATED] = "estimated",
	[F_STREAM] = "stream",
	[F_LOGPROBS] = "logprobs",
	[F_ABORTED] = "aborted",
	[F_LOST] = "lost",
};

/* Six digits after the point, as record_write_json() has it: a tick boundary must fall the same way when the file is replayed. */
static double microseconds(double t)
{
	return round(t * 1e6) / 1e6;
}

struct record record_as_written(const struct record *r)
{
	struct record copy = *r;

	copy.timestamp = microseconds(copy.timestamp);
	for (int f = F_INT_END; f < F_REAL_END; f++)
		if (record_has(&copy, (enum record_field)f))
			copy.real[f - F_INT_END] = microseconds(copy.real[f - F_INT_END]);
	return copy;
}

static const char *const kinds[] = { "unknown", "inference", "embedding", "control", "other" };

/*
 * What the end of a request path says about its kind. The first match wins, so the longer ending of a pair stands first:
 * .../chat/completions/input_tokens counts tokens, it does not complete.
 */
static const struct {
	const char *end;
	enum record_kind kind;
} endings[] = {
	{ "/input_tokens", KIND_CONTROL },
	{ "/count_tokens", KIND_CONTROL },
	{ ":countTokens", KIND_CONTROL },
	{ "/health_generate", KIND_CONTROL },
	{ "/inference.GRPCInferenceService/ModelInfer", KIND_INFERENCE },
	{ "/inference.GRPCInferenceService/ModelStreamInfer", KIND_INFERENCE },
	{ "/fmaas.GenerationService/GenerateStream", KIND_INFERENCE },
	{ "/backend.Backend/Predict", KIND_INFERENCE },
	{ "/backend.Backend/PredictStream", KIND_INFERENCE },
	{ "/completions", KIND_INFERENCE },
	{ "/completion", KIND_INFERENCE },
	{ "/responses", KIND_INFERENCE },
	{ "/messages", KIND_INFERENCE },
	{ "/infill", KIND_INFERENCE },
	{ "/api/chat", KIND_INFERENCE },
	{ "/generate", KIND_INFERENCE },
	{ "/generate_stream", KIND_INFERENCE },
	{ ":generateContent", KIND_INFERENCE },
	{ ":streamGenerateContent", KIND_INFERENCE },
	{ "/invocations", KIND_INFERENCE },
	{ "/vertex_generate", KIND_INFERENCE },
	{ "/vertex", KIND_INFERENCE },
	{ "/infer", KIND_INFERENCE },
	{ "/infer_stream", KIND_INFERENCE },
	{ "/realtime", KIND_INFERENCE },
	{ "/audio/transcriptions", KIND_INFERENCE },
	{ "/audio/translations", KIND_INFERENCE },
	{ "/embeddings", KIND_EMBEDDING },
	{ "/embedding", KIND_EMBEDDING },
	{ "/embed", KIND_EMBEDDING },
	{ "/embed_all", KIND_EMBEDDING },
	{ "/embed_sparse", KIND_EMBEDDING },
	{ "/encode", KIND_EMBEDDING },
	{ "/rerank", KIND_EMBEDDING },
	{ "/reranking", KIND_EMBEDDING },
	{ "/similarity", KIND_EMBEDDING },
	{ "/score", KIND_EMBEDDING },
	{ "/classify", KIND_EMBEDDING },
	{ "/pooling", KIND_EMBEDDING },
	{ "/predict", KIND_EMBEDDING },
	{ "/health", KIND_CONTROL },
	{ "/healthz", KIND_CONTROL },
	{ "/livez", KIND_CONTROL },
	{ "/readyz", KIND_CONTROL },
	{ "/live", KIND_CONTROL },
	{ "/ready", KIND_CONTROL },
	{ "/ping", KIND_CONTROL },
	{ "/metrics", KIND_CONTROL },
	{ "/models", KIND_CONTROL },
	{ "/props", KIND_CONTROL },
	{ "/slots", KIND_CONTROL },
	{ "/version", KIND_CONTROL },
	{ "/info", KIND_CONTROL },
	{ "/get_model_info", KIND_CONTROL },
	{ "/get_server_info", KIND_CONTROL },
	{ "/server_info", KIND_CONTROL },
	{ "/tokenize", KIND_CONTROL },
	{ "/detokenize", KIND_CONTROL },
	{ "/utils/token_counter", KIND_CONTROL },
	{ "/chat_tokenize", KIND_CONTROL },
	{ "/apply-template", KIND_CONTROL },
	{ "/api/tags", KIND_CONTROL },
	{ "/api/ps", KIND_CONTROL },
	{ "/api/show", KIND_CONTROL },
	{ "/lora-adapters", KIND_CONTROL },
	{ "/flush_cache", KIND_CONTROL },
	{ "/is_sleeping", KIND_CONTROL },
	{ "/repository/index", KIND_CONTROL },
	{ "/v2", KIND_CONTROL },
	{ "/batches", KIND_CONTROL },
};

/* Where the end says nothing, what stands before it may: services of gRPC, and names of models. */
static const struct {
	const char *in;
	enum record_kind kind;
} folders[] = {
	{ "/v1/models/", KIND_CONTROL },	    { "/tei.v1.Embed/", KIND_EMBEDDING }, { "/tei.v1.Predict/", KIND_EMBEDDING },
	{ "/tei.v1.Rerank/", KIND_EMBEDDING },	    { "/tei.v1.Info/", KIND_CONTROL },	  { "/tei.v1.Tokenize/", KIND_CONTROL },
	{ "/inference.GRPCInferenceService/", KIND_CONTROL }, { "/grpc.health.v1.Health/", KIND_CONTROL },
};

void record_init(struct record *r)
{
	memset(r, 0, sizeof(*r));
	r->weight = 1;
}

void record_set_text(struct record *r, enum record_field f, struct span v)
{
	if ((unsigned int)f >= F_TEXT_COUNT)
		return;
	r->text[f] = v;
	if (v.n)
		r->has |= F_BIT(f);
	else
		r->has &= ~F_BIT(f);
}

void record_set_int(struct record *r, enum record_field f, int64_t v)
{
	if (f < F_INT_FIRST || f >= F_INT_END)
		return;
	r->num[f - F_INT_FIRST] = v;
	r->has |= F_BIT(f);
}

void record_set_real(struct record *r, enum record_field f, double v)
{
	if (f < F_INT_END || f >= F_REAL_END)
		return;
	if (!isfinite(v)) {
		r->has &= ~F_BIT(f);
		return;
	}
	r->real[f - F_INT_END] = v;
	r->has |= F_BIT(f);
}

void record_set_bool(struct record *r, enum record_field f, bool v)
{
	if (f < F_REAL_END || f >= F_FIELD_COUNT)
		return;
	r->has |= F_BIT(f);
	if (v)
		r->yes |= F_BIT(f);
	else
		r->yes &= ~F_BIT(f);
}

struct span record_server_entity(const struct record *r)
{
	struct span all = record_text(r, F_SERVER), first = record_server_address(r), rest = all;
	size_t digits = 0;

	while (digits < first.n && first.p[first.n - 1 - digits] >= '0' && first.p[first.n - 1 - digits] <= '9')
		digits++;
	if (first.n == all.n || !digits || digits == first.n || first.p[first.n - 1 - digits] != ':')
		return all;
	while (rest.n) {
		const char *blank = memchr(rest.p, ' ', rest.n);
		struct span word = { rest.p, blank ? (size_t)(blank - rest.p) : rest.n };

		if (word.n && memchr(word.p, '=', word.n))
			return word;
		rest.p += word.n + (blank ? 1 : 0);
		rest.n -= word.n + (blank ? 1 : 0);
	}
	return first;
}

const char *record_field_name(enum record_field f)
{
	return (unsigned int)f < F_FIELD_COUNT ? names[f] : NULL;
}

const char *record_kind_name(enum record_kind k)
{
	return kinds[(unsigned int)k < ARRAY_SIZE(kinds) ? k : KIND_UNKNOWN];
}

static bool ends_with(struct span path, const char *end, size_t n)
{
	/* Some gateways fold case; no two kinds differ by case alone. */
	return path.n >= n && !strncasecmp(path.p + path.n - n, end, n);
}

enum record_kind record_kind_of_path(struct span path)
{
	const char *cut;

	if (!path.n)
		return KIND_INFERENCE;
	cut = memchr(path.p, '?', path.n);
	if (cut)
		path.n = (size_t)(cut - path.p);
	/* One trailing slash is the same page to every server that accepts it; a bare "/" is TGI's oldest generate route, and also what
	 * every scanner asks for, so it stays "other". */
	if (path.n > 1 && path.p[path.n - 1] == '/')
		path.n--;
	for (size_t i = 0; i < ARRAY_SIZE(endings); i++)
		if (ends_with(path, endings[i].end, strlen(endings[i].end)))
			return endings[i].kind;
	for (size_t i = 0; i < ARRAY_SIZE(folders); i++)
		if (memmem(path.p, path.n, folders[i].in, strlen(folders[i].in)))
			return folders[i].kind;
	return KIND_OTHER;
}

static void write_hex64(struct str *out, const char *key, int64_t v)
{
	char text[17];
	int n = snprintf(text, sizeof(text), "%016llx", (unsigned long long)v);

	json_kstring(out, key, (struct span){ text, (size_t)n });
}

void record_write_json(struct str *out, const struct record *r)
{
	json_begin(out, '{');
	json_kdouble(out, "timestamp", r->timestamp, 6);
	for (int f = 0; f < F_FIELD_COUNT; f++) {
		if (!record_has(r, (enum record_field)f))
			continue;
		if (f < F_TEXT_COUNT)
			json_kstring(out, names[f], r->text[f]);
		else if (f == F_PROMPT_HASH || f == F_PROMPT_SIM)
			write_hex64(out, names[f], r->num[f - F_INT_FIRST]);
		else if (f < F_INT_END)
			json_kint(out, names[f], r->num[f - F_INT_FIRST]);
		else if (f < F_REAL_END)
			json_kdouble(out, names[f], r->real[f - F_INT_END], 6);
		else
			json_kbool(out, names[f], record_yes(r, (enum record_field)f));
	}
	if (r->kind != KIND_UNKNOWN)
		json_kstring(out, "kind", span_of(record_kind_name(r->kind)));
	if (r->weight != 1)
		json_kint(out, "weight", r->weight);
	json_end(out, '}');
	str_addc(out, '\n');
}
