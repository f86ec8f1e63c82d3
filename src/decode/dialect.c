/* dialect.c - shapes, and the paths that speak them. Order matters: the first row whose path matches counts. */
#include "decode/dialect.h"

#include "decode/software.h"

#include <strings.h>

#define PATH_MAX_MATCHED 1024 /* longer paths are no API's; bounds the matching */

#define USER "user safety_identifier metadata.user_id"

static const struct dialect_shape openai_chat = {
	"openai.chat",
	{ [D_MODEL] = "model",
	  [D_STREAM] = "stream",
	  [D_MAX_TOKENS] = "max_completion_tokens max_tokens",
	  [D_USER] = USER,
	  [D_LOGPROBS] = "logprobs",
	  [D_PROMPT] = "messages.*.content messages.*.content.*.text",
	  [D_RESPONSE_MODEL] = "model",
	  [D_FINISH] = "choices.*.finish_reason",
	  [D_ID] = "id",
	  [D_TEXT] = "choices.*.message.content choices.*.message.reasoning choices.*.message.reasoning_content",
	  [D_FINGERPRINT] = "system_fingerprint" },
	.stream = STREAM_FIELD,
};
static const struct dialect_shape openai_completions = {
	"openai.completions",
	{ [D_MODEL] = "model",
	  [D_STREAM] = "stream",
	  [D_MAX_TOKENS] = "max_tokens n_predict",
	  [D_USER] = USER,
	  [D_LOGPROBS] = "logprobs",
	  [D_PROMPT] = "prompt prompt.*",
	  [D_RESPONSE_MODEL] = "model",
	  [D_FINISH] = "choices.*.finish_reason stop_type",
	  [D_ID] = "id",
	  [D_TEXT] = "choices.*.text content",
	  [D_FINGERPRINT] = "system_fingerprint" },
	.stream = STREAM_FIELD,
};
static const struct dialect_shape openai_responses = {
	"openai.responses",
	{ [D_MODEL] = "model",
	  [D_STREAM] = "stream",
	  [D_MAX_TOKENS] = "max_output_tokens",
	  [D_USER] = USER,
	  [D_LOGPROBS] = "top_logprobs",
	  [D_PROMPT] = "input instructions input.*.content input.*.content.*.text input.*.output",
	  [D_RESPONSE_MODEL] = "response.model model",
	  [D_FINISH] = "response.incomplete_details.reason incomplete_details.reason response.status status",
	  [D_ID] = "response.id id",
	  [D_TEXT] = "output.*.content.*.text" },
	.stream = STREAM_FIELD,
};
static const struct dialect_shape openai_embeddings = {
	"openai.embeddings",
	{ [D_MODEL] = "model", [D_USER] = USER, [D_PROMPT] = "input input.*", [D_RESPONSE_MODEL] = "model", [D_ID] = "id" },
	.stream = STREAM_NEVER,
};
static const struct dialect_shape anthropic_messages = {
	"anthropic.messages",
	{ [D_MODEL] = "model",
	  [D_STREAM] = "stream",
	  [D_MAX_TOKENS] = "max_tokens",
	  [D_USER] = "metadata.user_id user",
	  [D_PROMPT] = "system system.*.text messages.*.content messages.*.content.*.text messages.*.content.*.content messages.*.content.*.content.*.text",
	  [D_RESPONSE_MODEL] = "model message.model",
	  [D_FINISH] = "delta.stop_reason stop_reason",
	  [D_ID] = "id message.id",
	  [D_TEXT] = "content.*.text content.*.thinking" },
	.stream = STREAM_FIELD,
};
static const struct dialect_shape llama_native = {
	"llama.native",
	{ [D_MODEL] = "model",
	  [D_STREAM] = "stream",
	  [D_MAX_TOKENS] = "n_predict max_tokens",
	  [D_USER] = USER,
	  [D_LOGPROBS] = "n_probs",
	  [D_PROMPT] = "prompt prompt.* input_prefix input_suffix",
	  [D_RESPONSE_MODEL] = "model",
	  [D_FINISH] = "stop_type *.stop_type",
	  [D_TEXT] = "content *.content" },
	.stream = STREAM_FIELD,
};
static const struct dialect_shape ollama_generate = {
	"ollama.generate",
	{ [D_MODEL] = "model",
	  [D_STREAM] = "stream",
	  [D_MAX_TOKENS] = "options.num_predict",
	  [D_LOGPROBS] = "logprobs",
	  [D_PROMPT] = "prompt system",
	  [D_RESPONSE_MODEL] = "model",
	  [D_FINISH] = "done_reason",
	  [D_TEXT] = "response thinking" },
	.stream = STREAM_DEFAULT,
};
static const struct dialect_shape ollama_chat = {
	"ollama.chat",
	{ [D_MODEL] = "model",
	  [D_STREAM] = "stream",
	  [D_MAX_TOKENS] = "options.num_predict",
	  [D_LOGPROBS] = "logprobs",
	  [D_PROMPT] = "messages.*.content",
	  [D_RESPONSE_MODEL] = "model",
	  [D_FINISH] = "done_reason",
	  [D_TEXT] = "message.content message.thinking" },
	.stream = STREAM_DEFAULT,
};
static const struct dialect_shape ollama_embed = {
	"ollama.embed",
	{ [D_MODEL] = "model", [D_PROMPT] = "input input.* prompt", [D_RESPONSE_MODEL] = "model" },
	.stream = STREAM_NEVER,
};
/* TGI, SGLang and LMDeploy share this path, not the words. */
static const struct dialect_shape generate = {
	"generate",
	{ [D_MODEL] = "model",
	  [D_STREAM] = "stream",
	  [D_MAX_TOKENS] = "parameters.max_new_tokens sampling_params.max_new_tokens max_tokens",
	  [D_USER] = USER,
	  [D_LOGPROBS] = "return_logprob",
	  [D_PROMPT] = "inputs text text.* prompt",
	  [D_FINISH] = "details.finish_reason meta_info.finish_reason.type *.details.finish_reason *.meta_info.finish_reason.type",
	  [D_ID] = "meta_info.id",
	  [D_TEXT] = "generated_text *.generated_text text *.text" },
	.stream = STREAM_FIELD,
};
/* The same in Vertex AI's wrapping: a list of requests, a list of answers. */
static const struct dialect_shape vertex = {
	"vertex",
	{ [D_MAX_TOKENS] = "parameters.max_new_tokens parameters.sampling_params.max_new_tokens instances.*.parameters.max_new_tokens",
	  [D_PROMPT] = "instances.*.inputs instances.*.text",
	  [D_FINISH] = "predictions.*.meta_info.finish_reason.type",
	  [D_ID] = "predictions.*.meta_info.id",
	  [D_TEXT] = "predictions.* predictions.*.text" },
	.stream = STREAM_NEVER,
};
static const struct dialect_shape triton_generate = {
	"triton.generate",
	{ [D_STREAM] = "stream",
	  [D_MAX_TOKENS] = "parameters.max_tokens max_tokens",
	  [D_PROMPT] = "text_input",
	  [D_RESPONSE_MODEL] = "model_name",
	  [D_ID] = "id",
	  [D_TEXT] = "text_output" },
	.stream = STREAM_FIELD,
};
/* What grpc.h writes of every service it knows. */
static const struct dialect_shape grpc = {
	"grpc",
	{ [D_MODEL] = "model_name",
	  [D_STREAM] = "stream",
	  [D_MAX_TOKENS] = "max_tokens",
	  [D_PROMPT] = "text_input",
	  [D_RESPONSE_MODEL] = "model_name",
	  [D_FINISH] = "finish_reason",
	  [D_ID] = "id",
	  [D_TEXT] = "text_output" },
	.stream = STREAM_NEVER,
};
static const struct dialect_shape gemini = {
	"gemini",
	{ [D_MAX_TOKENS] = "generationConfig.maxOutputTokens",
	  [D_LOGPROBS] = "generationConfig.responseLogprobs",
	  [D_PROMPT] = "contents.*.parts.*.text systemInstruction.parts.*.text",
	  [D_RESPONSE_MODEL] = "modelVersion *.modelVersion",
	  [D_FINISH] = "candidates.*.finishReason *.candidates.*.finishReason",
	  [D_ID] = "responseId",
	  [D_TEXT] = "candidates.*.content.parts.*.text" },
	.stream = STREAM_NEVER,
};
static const struct dialect_shape rank = {
	"embed",
	{ [D_MODEL] = "model", [D_USER] = USER, [D_PROMPT] = "inputs inputs.* input input.* text query documents.* texts.*", [D_RESPONSE_MODEL] = "model" },
	.stream = STREAM_NEVER,
};
static const struct dialect_shape llama_embed = {
	"llama.embed",
	{ [D_MODEL] = "model", [D_USER] = USER, [D_PROMPT] = "content content.* input input.*", [D_RESPONSE_MODEL] = "model" },
	.stream = STREAM_NEVER,
};

/* What servers say of themselves. */
static const struct dialect_shape about_models = { "about.models", { [D_OWNER] = "data.*.owned_by" }, .stream = STREAM_NEVER };
static const struct dialect_shape about_version = { "about.version", { [D_VERSION] = "version" }, .stream = STREAM_NEVER };
static const struct dialect_shape about_ollama = { "about.ollama", { [D_VERSION] = "version" }, .stream = STREAM_NEVER, .sole = "ollama" };
static const struct dialect_shape about_sglang = { "about.sglang", { [D_VERSION] = "version" }, .stream = STREAM_NEVER, .sole = "sglang" };
static const struct dialect_shape about_triton = { "about.triton", { [D_OWNER] = "name", [D_VERSION] = "version" }, .stream = STREAM_NEVER };

#define INFERENCE(path, shape, by) { path, NULL, KIND_INFERENCE, shape, STREAM_FIELD, by }
#define EMBEDDING(path, shape, by) { path, NULL, KIND_EMBEDDING, shape, STREAM_NEVER, by }
#define CONTROL(path, by) { path, NULL, KIND_CONTROL, NULL, STREAM_NEVER, by }
#define ABOUT(path, shape, by) { path, NULL, KIND_CONTROL, shape, STREAM_NEVER, by }

static const struct dialect rows[] = {
	/* counted, not computed: before the rows whose paths they extend */
	CONTROL("/chat/completions/input_tokens", "llama.cpp"),
	CONTROL("/input_tokens", "OpenAI, llama.cpp"),
	CONTROL("/messages/count_tokens", "Anthropic, vLLM, llama.cpp, LMDeploy"),
	CONTROL("/count_tokens", "Anthropic"),
	CONTROL("/models/{model}:countTokens", "Gemini"),
	CONTROL(":countTokens", "Gemini"),
	CONTROL("/health_generate", "SGLang, TensorRT-LLM: burns tokens"),

	INFERENCE("/deployments/{model}/chat/completions", &openai_chat, "Azure OpenAI"),
	INFERENCE("/deployments/{model}/completions", &openai_completions, "Azure OpenAI"),
	EMBEDDING("/deployments/{model}/embeddings", &openai_embeddings, "Azure OpenAI"),
	INFERENCE("/engines/{model}/chat/completions", &openai_chat, "LocalAI, LiteLLM"),
	INFERENCE("/engines/{model}/completions", &openai_completions, "LocalAI, LiteLLM"),
	EMBEDDING("/engines/{model}/embeddings", &openai_embeddings, "LocalAI"),

	/* First: their last words are others' paths. */
	INFERENCE("/inference.GRPCInferenceService/ModelInfer", &grpc, "Triton and all of KServe v2, gRPC"),
	{ "/inference.GRPCInferenceService/ModelStreamInfer", NULL, KIND_INFERENCE, &grpc, STREAM_ALWAYS, "Triton, gRPC" },
	INFERENCE("/fmaas.GenerationService/Generate", &grpc, "IBM's TGI and vLLM's adapter of it, gRPC"),
	{ "/fmaas.GenerationService/GenerateStream", NULL, KIND_INFERENCE, &grpc, STREAM_ALWAYS, "the same" },
	INFERENCE("/backend.Backend/Predict", &grpc, "LocalAI's inner hop, gRPC"),
	{ "/backend.Backend/PredictStream", NULL, KIND_INFERENCE, &grpc, STREAM_ALWAYS, "the same" },
	EMBEDDING("/tei.v1.Embed/*", &grpc, "TEI, gRPC"),
	EMBEDDING("/tei.v1.Predict/*", &grpc, "TEI, gRPC"),
	EMBEDDING("/tei.v1.Rerank/*", &grpc, "TEI, gRPC"),
	CONTROL("/inference.GRPCInferenceService/*", "Triton and all of KServe v2, gRPC"),
	CONTROL("/grpc.health.v1.Health/*", "all who speak gRPC"),
	CONTROL("/tei.v1.Info/*", "TEI, gRPC"),
	CONTROL("/tei.v1.Tokenize/*", "TEI, gRPC"),
	INFERENCE("/chat/completions", &openai_chat, "OpenAI, vLLM, SGLang, TGI, TensorRT-LLM, LMDeploy, LocalAI, llama.cpp, Ollama, LiteLLM, mistral.rs"),
	INFERENCE("/completions", &openai_completions, "OpenAI and the same servers; llama.cpp's native shape without /v1"),
	INFERENCE("/responses", &openai_responses, "OpenAI, vLLM, SGLang, TensorRT-LLM, LMDeploy, LocalAI, llama.cpp, Ollama, mistral.rs"),
	INFERENCE("/messages", &anthropic_messages, "Anthropic, vLLM, LMDeploy, LocalAI, llama.cpp, Ollama, mistral.rs"),
	INFERENCE("/completion", &llama_native, "llama.cpp; Ollama's inner hop"),
	INFERENCE("/infill", &llama_native, "llama.cpp"),
	INFERENCE("/api/generate", &ollama_generate, "Ollama, LocalAI, SGLang"),
	INFERENCE("/api/chat", &ollama_chat, "Ollama, LocalAI, SGLang"),
	INFERENCE("/models/{model}/versions/*/generate", &triton_generate, "Triton"),
	INFERENCE("/models/{model}/generate", &triton_generate, "Triton"),
	{ "/models/{model}/versions/*/generate_stream", NULL, KIND_INFERENCE, &triton_generate, STREAM_ALWAYS, "Triton" },
	{ "/models/{model}/generate_stream", NULL, KIND_INFERENCE, &triton_generate, STREAM_ALWAYS, "Triton" },
	{ "/models/{model}/versions/*/infer", NULL, KIND_INFERENCE, &triton_generate, STREAM_NEVER, "Triton" },
	{ "/models/{model}/infer", NULL, KIND_INFERENCE, &triton_generate, STREAM_NEVER, "Triton" },
	{ "/infer", NULL, KIND_INFERENCE, &triton_generate, STREAM_NEVER, "Triton" },
	{ "/infer_stream", NULL, KIND_INFERENCE, &triton_generate, STREAM_ALWAYS, "Triton" },
	INFERENCE("/generate", &generate, "TGI, SGLang, LMDeploy"),
	{ "/generate_stream", NULL, KIND_INFERENCE, &generate, STREAM_ALWAYS, "TGI" },
	INFERENCE("/invocations", &openai_chat, "vLLM, SGLang, TGI on SageMaker"),
	INFERENCE("/vertex_generate", &vertex, "SGLang on Vertex AI"),
	INFERENCE("/vertex", &vertex, "TGI on Vertex AI"),
	{ "/models/{model}:generateContent", NULL, KIND_INFERENCE, &gemini, STREAM_NEVER, "Gemini" },
	{ "/models/{model}:streamGenerateContent", NULL, KIND_INFERENCE, &gemini, STREAM_ALWAYS, "Gemini" },
	{ ":generateContent", NULL, KIND_INFERENCE, &gemini, STREAM_NEVER, "Gemini" },
	{ ":streamGenerateContent", NULL, KIND_INFERENCE, &gemini, STREAM_ALWAYS, "Gemini" },
	INFERENCE("/realtime", NULL, "vLLM, OpenAI: a websocket"),
	INFERENCE("/audio/transcriptions", NULL, "OpenAI, vLLM, llama.cpp"),
	INFERENCE("/audio/translations", NULL, "OpenAI, vLLM"),

	EMBEDDING("/api/embeddings", &ollama_embed, "Ollama"),
	EMBEDDING("/api/embed", &ollama_embed, "Ollama"),
	EMBEDDING("/embeddings", &openai_embeddings, "OpenAI, vLLM, SGLang, llama.cpp, LocalAI, TEI"),
	EMBEDDING("/embedding", &llama_embed, "llama.cpp"),
	EMBEDDING("/embed", &rank, "TEI"),
	EMBEDDING("/embed_all", &rank, "TEI"),
	EMBEDDING("/embed_sparse", &rank, "TEI"),
	EMBEDDING("/encode", &rank, "SGLang, LMDeploy"),
	EMBEDDING("/rerank", &rank, "TEI, vLLM, SGLang, llama.cpp"),
	EMBEDDING("/reranking", &rank, "llama.cpp"),
	EMBEDDING("/similarity", &rank, "TEI"),
	EMBEDDING("/score", &rank, "vLLM, SGLang"),
	EMBEDDING("/classify", &rank, "SGLang"),
	EMBEDDING("/pooling", &rank, "vLLM, LMDeploy"),
	EMBEDDING("/predict", &rank, "TEI"),

	CONTROL("/health", "all"),
	CONTROL("/healthz", "proxies"),
	CONTROL("/livez", "proxies"),
	CONTROL("/readyz", "proxies"),
	CONTROL("/live", "Triton"),
	CONTROL("/ready", "Triton"),
	CONTROL("/ping", "vLLM, SageMaker"),
	CONTROL("/metrics", "all"),
	ABOUT("/models", &about_models, "OpenAI and all who speak it"),
	CONTROL("/v1/models/*", "OpenAI and all who speak it"),
	CONTROL("/v1/models/*/*", "the same, for names with a slash"),
	CONTROL("/props", "llama.cpp"),
	CONTROL("/slots", "llama.cpp"),
	ABOUT("/api/version", &about_ollama, "Ollama"),
	ABOUT("/version", &about_version, "vLLM"),
	ABOUT("/info", &about_version, "TGI, TEI"),
	CONTROL("/get_model_info", "SGLang"),
	ABOUT("/get_server_info", &about_sglang, "SGLang"),
	CONTROL("/server_info", "SGLang, vLLM"),
	CONTROL("/tokenize", "vLLM, TGI, TEI, llama.cpp"),
	CONTROL("/detokenize", "vLLM, llama.cpp"),
	CONTROL("/utils/token_counter", "LiteLLM"),
	CONTROL("/chat_tokenize", "TGI"),
	CONTROL("/apply-template", "llama.cpp"),
	CONTROL("/api/tags", "Ollama"),
	CONTROL("/api/ps", "Ollama"),
	CONTROL("/api/show", "Ollama"),
	CONTROL("/lora-adapters", "llama.cpp"),
	CONTROL("/flush_cache", "SGLang"),
	CONTROL("/is_sleeping", "vLLM"),
	CONTROL("/repository/index", "Triton"),
	ABOUT("/v2", &about_triton, "Triton"),
	CONTROL("/batches", "OpenAI, Anthropic, SGLang, LiteLLM: jobs, which are reported elsewhere"),
};

/* TGI's oldest route. Not a row above: without the method a bare / says nothing, every scanner asks for it. */
static const struct dialect tgi_root = { "/", "POST", KIND_INFERENCE, &generate, STREAM_FIELD, "TGI" };

const struct dialect *dialect_rows(size_t *ret_n)
{
	*ret_n = ARRAY_SIZE(rows);
	return rows;
}

/* Does the pattern match all of path? Wildcards take one byte or more, no '/'. Patterns have at most two. */
static bool matches(const char *pattern, struct span path, struct span *model)
{
	while (*pattern) {
		bool named = !strncmp(pattern, "{model}", 7);

		if (named || *pattern == '*') {
			const char *rest = pattern + (named ? 7 : 1);

			for (size_t n = 1; n <= path.n && path.p[n - 1] != '/'; n++) {
				if (!matches(rest, (struct span){ path.p + n, path.n - n }, model))
					continue;
				if (named)
					*model = (struct span){ path.p, n };
				return true;
			}
			return false;
		}
		if (!path.n || strncasecmp(pattern, path.p, 1))
			return false;
		pattern++;
		path.p++;
		path.n--;
	}
	return !path.n;
}

static bool row_matches(const struct dialect *d, struct span path, struct span *model)
{
	/* No wildcard: compare the end, whatever a gateway put before it. */
	size_t len = strlen(d->path);

	if (!strpbrk(d->path, "{*"))
		return path.n >= len && !strncasecmp(path.p + path.n - len, d->path, len);
	for (size_t i = 0; i < path.n; i++)
		if (path.p[i] == *d->path && matches(d->path, (struct span){ path.p + i, path.n - i }, model))
			return true;
	return false;
}

const struct dialect *dialect_find_in(const struct dialect *extra, size_t n, struct span method, struct span path, struct span *ret_model)
{
	struct span model = { 0 };
	const char *cut = path.n ? memchr(path.p, '?', path.n) : NULL;

	if (ret_model)
		*ret_model = model;
	if (cut)
		path.n = (size_t)(cut - path.p);
	if (path.n > PATH_MAX_MATCHED)
		return NULL;
	if (path.n > 1 && path.p[path.n - 1] == '/')
		path.n--;
	for (size_t i = 0; i < n + ARRAY_SIZE(rows); i++) {
		const struct dialect *d = i < n ? &extra[i] : &rows[i - n];

		if ((d->method && !span_eq(method, span_of(d->method))) || !row_matches(d, path, &model))
			continue;
		if (ret_model)
			*ret_model = model;
		return d;
	}
	return path.n == 1 && *path.p == '/' && span_eq(method, SPAN("POST")) ? &tgi_root : NULL;
}

const struct dialect *dialect_find(struct span method, struct span path, struct span *ret_model)
{
	return dialect_find_in(NULL, 0, method, path, ret_model);
}

enum record_kind dialect_kind_of_path(struct span path)
{
	const struct dialect *d;

	if (!path.n)
		return KIND_INFERENCE;
	d = dialect_find((struct span){ 0 }, path, NULL);
	return d ? d->kind : KIND_OTHER;
}

bool dialect_streams(const struct dialect *d, int field)
{
	enum dialect_stream how = d->stream != STREAM_FIELD || !d->shape ? d->stream : d->shape->stream;

	switch (how) {
	case STREAM_ALWAYS:
		return true;
	case STREAM_NEVER:
		return false;
	case STREAM_DEFAULT:
		return field != 0;
	default:
		return field > 0;
	}
}

size_t dialect_paths(const struct dialect_shape *s, enum dialect_field f, const char *ret[DIALECT_ALTERNATIVES_MAX])
{
	const char *p = s->where[f];
	size_t n = 0;

	while (p && n < DIALECT_ALTERNATIVES_MAX) {
		ret[n++] = p;
		p = strchr(p, ' ');
		p = p ? p + 1 : NULL;
	}
	return n;
}

/* ---- docs/dialects.md ----------------------------------------------------------------------------- */
static const char *const field_names[D_FIELD_COUNT] = {
	[D_MODEL] = "model",
	[D_STREAM] = "stream",
	[D_MAX_TOKENS] = "most tokens",
	[D_USER] = "user",
	[D_LOGPROBS] = "logprobs",
	[D_PROMPT] = "prompt (its length only)",
	[D_RESPONSE_MODEL] = "model answered",
	[D_FINISH] = "finish reason",
	[D_ID] = "id",
	[D_TEXT] = "text (its length only)",
	[D_FINGERPRINT] = "fingerprint",
	[D_OWNER] = "software",
	[D_VERSION] = "version",
};

static void write_row(struct str *out, const struct dialect *d)
{
	static const char *const streams[] = { [STREAM_FIELD] = "as asked", [STREAM_DEFAULT] = "unless denied", [STREAM_ALWAYS] = "always", [STREAM_NEVER] = "never" };
	enum dialect_stream how = d->stream == STREAM_FIELD && d->shape ? d->shape->stream : d->stream;

	str_addf(out, "| `%s%s%s` | %s | %s | %s | %s |\n", d->method ? d->method : "", d->method ? " " : "", d->path, record_kind_name(d->kind),
		 d->shape ? d->shape->name : "", d->kind == KIND_CONTROL ? "" : streams[how], d->spoken_by);
}

void dialect_write_docs(struct str *out)
{
	const struct dialect_shape *seen[ARRAY_SIZE(rows)];
	size_t n = 0;

	str_adds(out, "# Dialects\n\n"
		      "Written from the table in `src/decode/dialect.c`; `tests/unit/test_dialect.c` fails where the two differ.\n"
		      "How to add dialects of your own without a compiler: [dialects-file.md](dialects-file.md).\n\n"
		      "## Paths\n\n"
		      "The first row counts whose path is the end of the request's path, so that a gateway's prefix does no harm.\n"
		      "`{model}` is the model's name in the path, `*` one segment. What matches no row is of kind `other`.\n\n"
		      "| path | kind | shape | streams | spoken by |\n|---|---|---|---|---|\n");
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		write_row(out, &rows[i]);
	write_row(out, &tgi_root);
	str_adds(out, "\n## Shapes\n\n"
		      "Where the fields lie in the request and in the answer, or in each event of a stream. Of several places the first\n"
		      "that is there counts; `*` is any element of an array.\n");
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct dialect_shape *s = rows[i].shape;
		size_t k;

		for (k = 0; s && k < n && seen[k] != s; k++)
			;
		if (!s || k < n)
			continue;
		seen[n++] = s;
		str_addf(out, "\n### %s\n\n| what | where |\n|---|---|\n", s->name);
		for (int f = 0; f < D_FIELD_COUNT; f++) {
			const char *paths[DIALECT_ALTERNATIVES_MAX];
			size_t count = dialect_paths(s, f, paths);

			if (!count)
				continue;
			str_addf(out, "| %s |", field_names[f]);
			for (size_t j = 0; j < count; j++)
				str_addf(out, "%s `%.*s`", j ? "," : "", (int)strcspn(paths[j], " "), paths[j]);
			str_adds(out, " |\n");
		}
	}
	str_adds(out, "\n## Token counts\n\n"
		      "They are found by name in every JSON, SSE or NDJSON body, and in the heads of TGI and TEI, in the kernel; the names and\n"
		      "what each means are in `src/decode/patterns.h`. The last value of a response counts: usage that is repeated in a stream runs on.\n"
		      "A JSON body that is an array is a batch, one answer for each prompt (SGLang's, LMDeploy's and llama.cpp's native APIs): the counts\n"
		      "of its elements are added up, also in Vertex AI's `predictions`, unless the head has told their sum (TGI). Gemini's stream without\n"
		      "`alt=sse` is an array too, whose elements run on: of its names the last value counts there as well.\n\n"
		      "What Gemini's own tools gave the model to read (`toolUsePromptTokenCount`) is part of the prompt. `total_tokens` is the prompt\n"
		      "where nothing else is told, as by some rankings and embeddings.\n\n"
		      "Not told apart, since that would take more than names: a key that stands twice in one element of a batch is added twice; SGLang's\n"
		      "`n` above 1 repeats the prompt's count in each element, and so it is counted; a stream of several prompts (SGLang's and llama.cpp's\n"
		      "`index`) shows the last event's counts; and the kernel, which knows no paths, takes for usage what a service that only counts\n"
		      "(`/utils/token_counter`) answers, which records do not.\n"
		      "\n## Where the server tells nothing\n\n"
		      "vLLM and SGLang streams without `include_usage`, streams cut off, Triton, older embeddings: the record's counts are then estimated\n"
		      "and say so (`estimated`). A stream's completion is its content events, those with empty text included, times the tokens that\n"
		      "an event of this server and model holds; an answer in one piece goes by its bytes, a prompt by its characters. The three ratios\n"
		      "are learnt from the answers that do tell (200, whole, inference): near the median, in bounded steps, within 0.5 to 8 tokens an\n"
		      "event; so speculative decoding and stream intervals are learnt. Before three such answers have been seen an event is one token,\n"
		      "and four bytes are. 256 pairs of server and model are kept. Reported counts are never changed, and the kernel's counter\n"
		      "`estimated_tokens` stays the plain number of events. The agent measures itself: `estimate_error_median_pct` and\n"
		      "`estimate_error_p95_pct` among its statistics are the errors that the estimate would have had on the answers learnt from. How far\n"
		      "it is off on each real server, median and p95: [estimates.md](estimates.md).\n");
	software_write_docs(out);
}
