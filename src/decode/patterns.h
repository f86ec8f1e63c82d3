/*
 * patterns.h - the one table of what the automaton looks for. Included by automaton.c only.
 *
 * A pattern is text with classes:
 *   %s  any number of JSON blanks         %o  any number of spaces and tabs
 *   %k  one byte other than \ (or the start of the body): what stands before a quote that is not escaped
 *   %n  one byte other than "             %x  one byte other than } and blanks
 *   %d  one digit                         %v  one digit 0 or 1
 *   %l  any bytes of this line            %m  one separator in a header value: blank or comma
 *   %e  one byte that ends a header value's word: blank , ; or end of line
 *   %i  one visible byte other than I or i
 *   %r  any number of \r                  %z  any number of \r and \n
 *   %g  \r or \n                          %0  a byte of zero
 * Patterns of the two head roots ignore case. Those of REQUEST, FIRST and RESPONSE are anchored; all others match anywhere.
 *
 * Why generated text cannot match a key: inside a JSON string a quote is always written \", so the bytes `"name"` appear only
 * where a string token is exactly `name`. As a value it is not followed by a colon. As a key it can be the client's own
 * doing only inside the objects that servers echo or let the model fill freely; these are named below and skipped whole.
 */
#define KEY(name) "%k\"" name "\""
#define IS "%s:%s"
#define TOKENS(name, slot) { WEIR_ROOT_BODY, KEY(name), WEIR_ACT_TOKENS, slot }
/* The same for what counts on from element to element of an array. */
#define RUNNING(name, slot) TOKENS(name, (slot) | WEIR_TOK_LAST)
/* A key that carries generated text. */
#define GENERATED(name)                                                                                                         \
	{ WEIR_ROOT_BODY, KEY(name) IS "\"%n", WEIR_ACT_CONTENT, 0 }, { WEIR_ROOT_BODY, KEY(name) IS "\"\"", WEIR_ACT_EMPTY, 0 }
/* A reason is a string that is not empty, SGLang's {"type":...}, or a number (Ollama's inner hop). */
#define REASON(name)                                                                                                            \
	{ WEIR_ROOT_BODY, KEY(name) IS "\"%n", WEIR_ACT_FINISH, 1 }, { WEIR_ROOT_BODY, KEY(name) IS "{", WEIR_ACT_FINISH, 0 },   \
		{ WEIR_ROOT_BODY, KEY(name) IS "%d", WEIR_ACT_FINISH, 0 }
#define FINISHED(name, value) { WEIR_ROOT_BODY, KEY(name) IS value, WEIR_ACT_FINISH, 0 }
#define FAILED(name, value) { WEIR_ROOT_BODY, KEY(name) IS value, WEIR_ACT_ERROR, 0 }
/* A key whose object or array is the client's, or the model's, own. */
#define ECHO_OBJECT(name) { WEIR_ROOT_BODY, KEY(name) IS "{", WEIR_ACT_SKIP, 0 }
#define ECHO_ARRAY(name) { WEIR_ROOT_BODY, KEY(name) IS "[", WEIR_ACT_SKIP, 0 }
#define ECHO(name) ECHO_OBJECT(name), ECHO_ARRAY(name)
#define METHOD(name, arg) { WEIR_ROOT_REQUEST, "%z" name " ", WEIR_ACT_METHOD, arg }, { WEIR_ROOT_FIRST, "%z" name " ", WEIR_ACT_METHOD, arg }
#define HEADER(side, name) WEIR_ROOT_##side##_HEAD, "\n" name ":"
#define BOTH_HEADS(text, action)                                                                                               \
	{ WEIR_ROOT_REQUEST_HEAD, text, action, 0 }, { WEIR_ROOT_RESPONSE_HEAD, text, action, 0 }
#define TYPE(mime, body) { HEADER(RESPONSE, "content-type") "%o" mime "%e", WEIR_ACT_TYPE, body }

static const struct automaton_pattern patterns[] = {
	/* ---- first lines ---- */
	METHOD("GET", 0),
	METHOD("HEAD", 1),
	METHOD("POST", 0),
	METHOD("PUT", 0),
	METHOD("DELETE", 0),
	METHOD("OPTIONS", 0),
	METHOD("PATCH", 0),
	METHOD("CONNECT", 2),
	METHOD("TRACE", 0),
	/* No method: how the preface of HTTP/2 begins. States are scarce; the rest of it is user space's to check. */
	{ WEIR_ROOT_REQUEST, "%zPRI ", WEIR_ACT_H2, 0 },
	{ WEIR_ROOT_FIRST, "%zPRI ", WEIR_ACT_H2, 0 },
	{ WEIR_ROOT_RESPONSE, "HTTP/1.%v ", WEIR_ACT_STATUS, 0 },
	/* what a proxy may put before its first request, and nowhere else */
	{ WEIR_ROOT_FIRST, "PROXY %l\r\n", WEIR_ACT_PROXY_LINE, 0 },
	{ WEIR_ROOT_FIRST, "\r\n\r\n%0\r\nQUIT\n", WEIR_ACT_PROXY, 0 },

	/* ---- heads ---- */
	BOTH_HEADS("\n%r\n", WEIR_ACT_HEAD_END),
	BOTH_HEADS("\ncontent-length:", WEIR_ACT_LENGTH),
	BOTH_HEADS("\ntransfer-encoding:chunked%e", WEIR_ACT_CHUNKED),
	BOTH_HEADS("\ntransfer-encoding:%l%mchunked%e", WEIR_ACT_CHUNKED),
	/* Whatever is not "identity" cannot be read in the kernel, also an encoding not yet invented. */
	{ HEADER(RESPONSE, "content-encoding") "%o%i", WEIR_ACT_ENCODED, 0 },
	{ HEADER(RESPONSE, "upgrade") "%oh2c", WEIR_ACT_H2, 1 },
	TYPE("application/json", WEIR_BODY_JSON),
	TYPE("text/event-stream", WEIR_BODY_SSE),
	TYPE("application/x-ndjson", WEIR_BODY_NDJSON),
	TYPE("application/ndjson", WEIR_BODY_NDJSON),
	TYPE("application/jsonl", WEIR_BODY_NDJSON),
	TYPE("application/jsonlines", WEIR_BODY_NDJSON),
	TYPE("application/x-jsonlines", WEIR_BODY_NDJSON),
	{ HEADER(RESPONSE, "x-prompt-tokens"), WEIR_ACT_TOKENS_HEAD, WEIR_TOK_PROMPT },         /* TGI */
	{ HEADER(RESPONSE, "x-generated-tokens"), WEIR_ACT_TOKENS_HEAD, WEIR_TOK_COMPLETION }, /* TGI */
	{ HEADER(RESPONSE, "x-compute-tokens"), WEIR_ACT_TOKENS_HEAD, WEIR_TOK_PROMPT },        /* TEI: /embed answers bare arrays */

	/* ---- token counts ---- */
	/* OpenAI and all who speak it; SGLang's meta_info has the same names. cached_tokens is part of prompt_tokens in
	 * prompt_tokens_details, of input_tokens in Responses' input_tokens_details. */
	TOKENS("prompt_tokens", WEIR_TOK_PROMPT),
	TOKENS("completion_tokens", WEIR_TOK_COMPLETION),
	TOKENS("cached_tokens", WEIR_TOK_CACHED),
	TOKENS("reasoning_tokens", WEIR_TOK_REASONING),
	/* OpenAI Responses and Anthropic */
	TOKENS("input_tokens", WEIR_TOK_INPUT),
	TOKENS("output_tokens", WEIR_TOK_COMPLETION),
	TOKENS("cache_read_input_tokens", WEIR_TOK_CACHE_READ),
	TOKENS("cache_creation_input_tokens", WEIR_TOK_CACHE_CREATE),
	/* Ollama: omitted where 0 */
	TOKENS("prompt_eval_count", WEIR_TOK_PROMPT),
	TOKENS("eval_count", WEIR_TOK_COMPLETION),
	/* llama.cpp native: tokens_evaluated is the whole prompt (11 where timings say cache_n 10, prompt_n 1). tokens_cached
	 * is the fill of the slot after the answer, not what was read from the cache: left out on purpose. */
	TOKENS("tokens_evaluated", WEIR_TOK_PROMPT),
	TOKENS("tokens_predicted", WEIR_TOK_COMPLETION),
	/* llama.cpp timings, on the last chunk of every stream, also without include_usage */
	TOKENS("prompt_n", WEIR_TOK_ALT_PROMPT),
	TOKENS("cache_n", WEIR_TOK_ALT_CACHED),
	TOKENS("predicted_n", WEIR_TOK_ALT_COMPLETION),
	/* TGI details */
	TOKENS("generated_tokens", WEIR_TOK_COMPLETION),
	TOKENS("input_length", WEIR_TOK_PROMPT),
	/*
	 * Gemini usageMetadata: promptTokenCount holds the cached ones, but not what the tools that the model called gave it to read;
	 * candidatesTokenCount not the thoughts. totalTokenCount is the sum of all four. Without alt=sse a stream is one array, each of
	 * whose elements counts from the beginning.
	 */
	RUNNING("promptTokenCount", WEIR_TOK_PROMPT),
	RUNNING("toolUsePromptTokenCount", WEIR_TOK_TOOL_PROMPT),
	RUNNING("cachedContentTokenCount", WEIR_TOK_CACHED),
	RUNNING("candidatesTokenCount", WEIR_TOK_COMPLETION),
	RUNNING("thoughtsTokenCount", WEIR_TOK_THOUGHTS),
	/* Rankings and embeddings that tell nothing else (vLLM before 0.9, Jina's API): all of it was read. Beside prompt_tokens or
	 * input_tokens this slot does not count. */
	TOKENS("total_tokens", WEIR_TOK_ALT_PROMPT),

	/* An array in one piece is a batch (SGLang's, LMDeploy's and llama.cpp's native APIs): the counts of its elements are added up. */
	{ WEIR_ROOT_BODY_START, "%s[", WEIR_ACT_ARRAY, 0 },
	{ WEIR_ROOT_BODY, KEY("predictions") IS "[", WEIR_ACT_ARRAY, 0 }, /* Vertex AI's wrapping of it */

	/* ---- generated text ---- */
	GENERATED("content"),           /* OpenAI chat, llama.cpp native, Ollama chat */
	GENERATED("text"),              /* OpenAI completions, Anthropic, SGLang, TGI's token, Gemini */
	GENERATED("response"),          /* Ollama generate */
	GENERATED("reasoning"),         /* vLLM, LiteLLM */
	GENERATED("reasoning_content"), /* older vLLM, SGLang, TensorRT-LLM, llama.cpp */
	GENERATED("thinking"),          /* Anthropic, Ollama */
	GENERATED("delta"),             /* OpenAI Responses: a string there, an object elsewhere */
	GENERATED("arguments"),         /* tool calls */
	GENERATED("partial_json"),      /* Anthropic tool calls */
	GENERATED("generated_text"),    /* TGI */
	GENERATED("text_output"),       /* Triton */
	GENERATED("refusal"),
	{ WEIR_ROOT_BODY, KEY("tool_calls") IS "[%s{", WEIR_ACT_CONTENT, 0 },
	{ WEIR_ROOT_BODY, KEY("functionCall") IS "{", WEIR_ACT_CONTENT, 0 }, /* Gemini */
	/* With the colon, since a text may well end in \"role */
	{ WEIR_ROOT_BODY, KEY("role") "%s:", WEIR_ACT_ROLE, 0 },

	/* ---- ends ---- */
	REASON("finish_reason"),
	REASON("stop_reason"),
	REASON("done_reason"),
	REASON("stop_type"),
	REASON("finishReason"),
	FINISHED("done", "true"),
	FINISHED("stop", "true"),
	FINISHED("type", "\"message_stop\""),
	FINISHED("type", "\"response.completed\""),
	FINISHED("type", "\"response.incomplete\""),
	FAILED("type", "\"response.failed\""),
	FAILED("error", "{%s%x"),
	FAILED("error", "\"%n"),
	FAILED("object", "\"error\""), /* SGLang's and LMDeploy's flat errors */
	{ WEIR_ROOT_BODY, "\nevent:%oerror%g", WEIR_ACT_ERROR, 0 },
	{ WEIR_ROOT_BODY, "}%o%r\n", WEIR_ACT_EVENT_END, 0 },

	/* ---- what only repeats the client, or what the model may fill with keys of its own choice ---- */
	ECHO_OBJECT("metadata"),
	ECHO("tools"),
	ECHO("functions"),
	ECHO_OBJECT("tool_choice"),
	ECHO_OBJECT("parameters"),
	ECHO_OBJECT("schema"),
	ECHO_OBJECT("json_schema"),
	ECHO_OBJECT("response_format"),
	ECHO_OBJECT("text"),      /* Responses: the format asked for */
	ECHO_OBJECT("reasoning"), /* Responses: the effort asked for */
	ECHO_OBJECT("logit_bias"),
	ECHO("input"),            /* Responses: what was asked; Anthropic: a tool call, the model's own keys */
	ECHO("prompt"),
	ECHO_ARRAY("instructions"),
	ECHO_OBJECT("arguments"), /* Ollama tool calls: an object, the model's own keys */
	ECHO_OBJECT("args"),      /* Gemini the same */
	ECHO_OBJECT("document"),  /* rerankers */
	ECHO_OBJECT("kv_transfer_params"),
	ECHO("logprobs"), /* tokens as keys */
	ECHO("top_logprobs"),
	ECHO_ARRAY("prompt_logprobs"),
	ECHO_ARRAY("prefill"),             /* TGI: the prompt's tokens */
	ECHO_ARRAY("best_of_sequences"),   /* TGI: counts of answers not given */
	ECHO_OBJECT("generation_settings"), /* llama.cpp */
	ECHO_OBJECT("__verbose"),           /* llama.cpp: the native answer once more */
	/* Empty at the start of a block, the whole text again at its end: neither is a delta. */
	ECHO_OBJECT("content_block"), /* Anthropic */
	ECHO_OBJECT("item"),          /* Responses */
	ECHO_OBJECT("part"),          /* Responses */
};
