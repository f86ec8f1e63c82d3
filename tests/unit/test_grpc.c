/* gRPC: messages in the words of JSON, in every split; and whole calls over HTTP/2. */
#include "player.h"
#include "wire.h"

#include "decode/grpc.h"

#include <zlib.h>

/* ---- protocol buffers, as a peer writes them ------------------------------------------------------ */
struct pb {
	uint8_t p[8192];
	size_t n;
};

static void pb_number(struct pb *b, uint64_t v)
{
	do {
		b->p[b->n++] = (uint8_t)((v & 0x7f) | (v > 0x7f ? 0x80 : 0));
	} while (v >>= 7);
}

static void pb_count(struct pb *b, unsigned field, uint64_t v)
{
	pb_number(b, field << 3);
	pb_number(b, v);
}

static void pb_bytes(struct pb *b, unsigned field, const void *p, size_t n)
{
	pb_number(b, field << 3 | 2);
	pb_number(b, n);
	assert_true(n <= sizeof(b->p) - b->n);
	if (n)
		memcpy(b->p + b->n, p, n);
	b->n += n;
}

static void pb_text(struct pb *b, unsigned field, const char *text)
{
	pb_bytes(b, field, text, strlen(text));
}

static void pb_message(struct pb *b, unsigned field, const struct pb *m)
{
	pb_bytes(b, field, m->p, m->n);
}

/* With gRPC's five bytes before it. */
static void pb_frame(struct pb *to, const struct pb *m, bool compressed)
{
	const uint8_t head[5] = { compressed, (uint8_t)(m->n >> 24), (uint8_t)(m->n >> 16), (uint8_t)(m->n >> 8), (uint8_t)m->n };

	assert_true(m->n + 5 <= sizeof(to->p) - to->n);
	memcpy(to->p + to->n, head, 5);
	if (m->n)
		memcpy(to->p + to->n + 5, m->p, m->n);
	to->n += m->n + 5;
}

static void pb_tensor(struct pb *b, unsigned field, const char *name, const char *type)
{
	struct pb t = { .n = 0 };

	pb_text(&t, 1, name);
	pb_text(&t, 2, type);
	pb_count(&t, 3, 1);
	pb_message(b, field, &t);
}

static void pb_raw_text(struct pb *b, unsigned field, const char *text)
{
	uint8_t raw[1024];
	uint32_t n = (uint32_t)strlen(text);

	memcpy(raw, &(uint8_t[4]){ (uint8_t)n, (uint8_t)(n >> 8), (uint8_t)(n >> 16), (uint8_t)(n >> 24) }, 4);
	memcpy(raw + 4, text, n);
	pb_bytes(b, field, raw, n + 4);
}

static void pb_raw_int(struct pb *b, unsigned field, uint32_t v)
{
	pb_bytes(b, field, &(uint8_t[4]){ (uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24) }, 4);
}

/* Triton's answer, `under` 2: inside a stream's message. */
static struct pb kserve_answer(const char *text, uint32_t tokens)
{
	struct pb m = { .n = 0 };

	pb_text(&m, 1, "llama");
	pb_text(&m, 2, "1");
	pb_text(&m, 3, "req-1");
	pb_tensor(&m, 5, "text_output", "BYTES");
	pb_tensor(&m, 5, "num_output_tokens", "UINT32");
	pb_tensor(&m, 5, "num_input_tokens", "UINT32");
	pb_raw_text(&m, 6, text);
	pb_raw_int(&m, 6, tokens);
	pb_raw_int(&m, 6, 11);
	return m;
}

static struct pb kserve_request(void)
{
	struct pb m = { .n = 0 };

	pb_text(&m, 1, "llama");
	pb_text(&m, 3, "req-1");
	pb_tensor(&m, 5, "text_input", "BYTES");
	pb_tensor(&m, 5, "stream", "BOOL");
	pb_tensor(&m, 5, "max_tokens", "INT32");
	pb_raw_text(&m, 7, "Why \"so\"?\n");
	pb_bytes(&m, 7, "\1", 1);
	pb_raw_int(&m, 7, 9);
	return m;
}

/* ---- the walk alone ------------------------------------------------------------------------------- */
static void on_text(void *ctx, const char *p, size_t n)
{
	str_add(ctx, p, n);
}

static void check(const char *path, bool answer, const struct pb *wire, const char *encoding, const char *want)
{
	const struct grpc_method *m = grpc_method_find(span_of(path));

	assert_non_null(m);
	for (size_t step = 1; step <= wire->n; step = step < 8 ? step + 1 : step * 3) {
		struct grpc_side s;
		struct str out = { 0 };
		unsigned unpacking = 0;

		grpc_begin(&s, m, answer, span_of(encoding), &unpacking);
		s.emit = on_text;
		s.ctx = &out;
		for (size_t at = 0; at < wire->n; at += step)
			grpc_feed(&s, wire->p + at, MIN(step, wire->n - at));
		str_addc(&out, '\0');
		assert_string_equal(out.p, want);
		grpc_done(&s);
		assert_int_equal(unpacking, 0);
		str_done(&out);
	}
}

static void services(void **state)
{
	struct pb w = { .n = 0 }, m, inner = { .n = 0 }, more = { .n = 0 };

	(void)state;
	m = kserve_request();
	pb_frame(&w, &m, false);
	check("/inference.GRPCInferenceService/ModelInfer", false, &w, "",
	      "{\"model_name\":\"llama\",\"id\":\"req-1\",\"text_input\":\"Why \\\"so\\\"?\\u000a\",\"stream\":true,\"max_tokens\":9}\n");
	m = kserve_answer("so", 3);
	w.n = 0;
	pb_frame(&w, &m, false);
	check("/inference.GRPCInferenceService/ModelInfer", true, &w, "",
	      "{\"model_name\":\"llama\",\"id\":\"req-1\",\"text_output\":\"so\",\"completion_tokens\":3,\"prompt_tokens\":11}\n");
	/* in a stream each message tells of its own tokens */
	w.n = 0;
	for (int i = 0; i < 2; i++) {
		struct pb s = { .n = 0 };

		pb_message(&s, 2, &m);
		pb_frame(&w, &s, false);
	}
	inner.n = 0;
	pb_text(&inner, 1, "no such model");
	pb_frame(&w, &inner, false);
	check("/inference.GRPCInferenceService/ModelStreamInfer", true, &w, "",
	      "{\"model_name\":\"llama\",\"id\":\"req-1\",\"text_output\":\"so\",\"completion_tokens\":3,\"prompt_tokens\":11}\n"
	      "{\"model_name\":\"llama\",\"id\":\"req-1\",\"text_output\":\"so\",\"completion_tokens\":6,\"prompt_tokens\":11}\n"
	      "{\"error\":\"no such model\"}\n");
	/* contents that are not raw; vectors before what counts; a message inside a message inside */
	m.n = w.n = inner.n = 0;
	pb_text(&inner, 8, "so");
	pb_text(&more, 1, "text_output");
	pb_message(&more, 5, &inner);
	pb_message(&m, 5, &more);
	pb_frame(&w, &m, false);
	check("/inference.GRPCInferenceService/ModelInfer", true, &w, "", "{\"text_output\":\"so\"}\n");
	m.n = w.n = inner.n = 0;
	pb_bytes(&m, 1, w.p, 4000);
	pb_count(&inner, 1, 100);
	pb_count(&inner, 2, 7);
	pb_count(&inner, 3, UINT64_MAX);
	pb_message(&m, 2, &inner);
	pb_frame(&w, &m, false);
	check("/tei.v1.Embed/Embed", true, &w, "", "{\"prompt_tokens\":7}\n");
	w.n = m.n = inner.n = more.n = 0;
	pb_text(&inner, 4, "so");
	pb_count(&inner, 2, 5);
	pb_count(&inner, 6, 3);
	pb_count(&inner, 7, 2);
	pb_message(&m, 1, &inner);
	pb_message(&m, 1, &inner);
	pb_frame(&w, &m, false);
	check("/fmaas.GenerationService/Generate", true, &w, "",
	      "{\"text_output\":\"so\",\"completion_tokens\":5,\"prompt_tokens\":3,\"finish_reason\":\"eos_token\","
	      "\"text_output\":\"so\",\"completion_tokens\":10,\"prompt_tokens\":6,\"finish_reason\":\"eos_token\"}\n");
	assert_null(grpc_method_find(SPAN("/generate.v2.TextGenerationService/Prefill")));
}

static void compressed(void **state)
{
	struct pb m = kserve_answer("so", 3), z = { .n = 0 }, w = { .n = 0 };
	z_stream s = { 0 };

	(void)state;
	assert_int_equal(deflateInit2(&s, 9, Z_DEFLATED, 15 + 16, 9, Z_DEFAULT_STRATEGY), Z_OK);
	s.next_in = m.p;
	s.avail_in = (uInt)m.n;
	s.next_out = z.p;
	s.avail_out = sizeof(z.p);
	assert_int_equal(deflate(&s, Z_FINISH), Z_STREAM_END);
	z.n = sizeof(z.p) - s.avail_out;
	deflateEnd(&s);
	pb_frame(&w, &z, true);
	pb_frame(&w, &m, false);
	check("/inference.GRPCInferenceService/ModelInfer", true, &w, "gzip",
	      "{\"model_name\":\"llama\",\"id\":\"req-1\",\"text_output\":\"so\",\"completion_tokens\":3,\"prompt_tokens\":11}\n"
	      "{\"model_name\":\"llama\",\"id\":\"req-1\",\"text_output\":\"so\",\"completion_tokens\":6,\"prompt_tokens\":11}\n");
	/* what nobody can read is a message all the same */
	check("/inference.GRPCInferenceService/ModelInfer", true, &w, "snappy",
	      "{}\n{\"model_name\":\"llama\",\"id\":\"req-1\",\"text_output\":\"so\",\"completion_tokens\":3,\"prompt_tokens\":11}\n");
}

/* Lengths that lie, numbers without end, groups: the message is given up, the next one is read. */
static void broken(void **state)
{
	static const struct {
		const char *p;
		size_t n;
	} bad[] = {
		{ "\x12\x04\x10\xff\xff\xff", 6 }, { "\x12\x7f\x10\x07", 4 }, { "\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 13 }, { "\x13\x10\x07\x14", 4 },
		{ "\x00\x00", 2 },		   { "\x17", 1 },	      { "\x12\xff\xff\xff\xff\xff\xff\xff\xff\x7f", 10 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct pb m = { .n = 0 }, w = { .n = 0 }, inner = { .n = 0 };

		memcpy(m.p, bad[i].p, bad[i].n);
		m.n = bad[i].n;
		pb_frame(&w, &m, false);
		m.n = 0;
		pb_count(&inner, 2, 7);
		pb_message(&m, 2, &inner);
		pb_frame(&w, &m, false);
		check("/tei.v1.Embed/EmbedStream", true, &w, "", "{}\n{\"prompt_tokens\":7}\n");
	}
}

static void missed(void **state)
{
	struct pb m = kserve_answer("so", 3), w = { .n = 0 };
	struct grpc_side s;
	struct str out = { 0 };
	unsigned unpacking = 0;

	(void)state;
	pb_frame(&w, &m, false);
	pb_frame(&w, &m, false);
	grpc_begin(&s, grpc_method_find(SPAN("/inference.GRPCInferenceService/ModelInfer")), true, SPAN(""), &unpacking);
	s.emit = on_text;
	s.ctx = &out;
	grpc_feed(&s, w.p, 20);
	grpc_missed(&s, 40);
	grpc_feed(&s, w.p + 60, w.n - 60);
	str_addc(&out, '\0');
	assert_non_null(strstr(out.p, "}\n{\"model_name\":\"llama\",\"id\":\"req-1\",\"text_output\":\"so\""));
	grpc_missed(&s, 1); /* between messages: nobody knows where the next begins */
	grpc_feed(&s, w.p, w.n);
	assert_true(s.lost);
	str_done(&out);
}

static void statuses(void **state)
{
	(void)state;
	assert_int_equal(grpc_http_status(0), 200);
	assert_int_equal(grpc_http_status(3), 400);
	assert_int_equal(grpc_http_status(4), 504);
	assert_int_equal(grpc_http_status(5), 404);
	assert_int_equal(grpc_http_status(7), 403);
	assert_int_equal(grpc_http_status(8), 429);
	assert_int_equal(grpc_http_status(13), 500);
	assert_int_equal(grpc_http_status(14), 503);
	assert_int_equal(grpc_http_status(16), 401);
	assert_int_equal(grpc_http_status(17), 500);
	assert_int_equal(grpc_http_status(999), 500);
}

/* ---- whole calls ---------------------------------------------------------------------------------- */
#define CALL(method) ":method: POST\n:scheme: http\n:path: " method "\n:authority: localhost\nte: trailers\ncontent-type: application/grpc\nuser-agent: grpc-python/1\n"
#define HEAD ":status: 200\ncontent-type: application/grpc\ngrpc-accept-encoding: identity, gzip\n"

static void want(const struct talk *t, const char *text)
{
	if (!t->seen.line.p || !strstr(t->seen.line.p, text))
		fail_msg("no %s in %s", text, t->seen.line.p ? t->seen.line.p : "nothing");
}

static void calls(void **state)
{
	struct pb m = kserve_request(), w = { .n = 0 };
	static struct talk t;

	(void)state;
	for (size_t step = 1; step < 2000; step = step < 10 ? step + 1 : step * 5) {
		talk_open(&t);
		wire_bytes(&t.side[0], PREFACE, strlen(PREFACE));
		wire_frame(&t.side[0], H2_SETTINGS, 0, 0, NULL, 0);
		wire_frame(&t.side[1], H2_SETTINGS, 0, 0, NULL, 0);
		m = kserve_request();
		w.n = 0;
		pb_frame(&w, &m, false);
		wire_headers(&t.side[0], 1, 0, CALL("/inference.GRPCInferenceService/ModelInfer"));
		wire_frame(&t.side[0], H2_DATA, 0, 1, w.p, 40);
		wire_frame(&t.side[0], H2_DATA, H2_END_STREAM, 1, w.p + 40, w.n - 40);
		talk_pass(&t, WEIR_REQUEST, step);
		m = kserve_answer("so it is", 5);
		w.n = 0;
		pb_frame(&w, &m, false);
		wire_headers(&t.side[1], 1, 0, HEAD);
		wire_frame(&t.side[1], H2_DATA, 0, 1, w.p, 30);
		wire_frame(&t.side[1], H2_DATA, 0, 1, w.p + 30, w.n - 30);
		wire_headers(&t.side[1], 1, H2_END_STREAM, "grpc-status: 0\n");
		talk_pass(&t, WEIR_RESPONSE, step);
		want(&t, "\"model_name\":\"llama\"");
		want(&t, "\"path\":\"/inference.GRPCInferenceService/ModelInfer\",\"request_id\":\"req-1\",\"prompt_tokens\":11,\"completion_tokens\":5,\"status\":200,\"max_tokens\":9");
		want(&t, "\"kind\":\"inference\"");
		/* a stream, whose answer comes in pieces */
		wire_headers(&t.side[0], 3, 0, CALL("/inference.GRPCInferenceService/ModelStreamInfer"));
		m = kserve_request();
		w.n = 0;
		pb_frame(&w, &m, false);
		wire_frame(&t.side[0], H2_DATA, H2_END_STREAM, 3, w.p, w.n);
		talk_pass(&t, WEIR_REQUEST, step);
		wire_headers(&t.side[1], 3, 0, HEAD);
		for (int i = 0; i < 10; i++) {
			struct pb s = { .n = 0 };

			m = kserve_answer("so ", 1);
			pb_message(&s, 2, &m);
			w.n = 0;
			pb_frame(&w, &s, false);
			t.now += 10 * MS;
			wire_frame(&t.side[1], H2_DATA, 0, 3, w.p, w.n);
			talk_pass(&t, WEIR_RESPONSE, step);
		}
		wire_headers(&t.side[1], 3, H2_END_STREAM, "grpc-status: 0\n");
		talk_pass(&t, WEIR_RESPONSE, step);
		want(&t, "\"prompt_tokens\":11,\"completion_tokens\":10");
		want(&t, "\"ttft_ms\":10,\"duration_ms\":100");
		want(&t, "\"stream\":true");
		/* failures: at once, behind an answer, and in a method that nobody knows */
		wire_headers(&t.side[0], 5, H2_END_STREAM, CALL("/inference.GRPCInferenceService/ModelInfer"));
		wire_headers(&t.side[0], 7, H2_END_STREAM, CALL("/my.Service/Call"));
		talk_pass(&t, WEIR_REQUEST, step);
		wire_headers(&t.side[1], 5, H2_END_STREAM, ":status: 200\ncontent-type: application/grpc\ngrpc-status: 8\ngrpc-message: slow down\n");
		talk_pass(&t, WEIR_RESPONSE, step);
		want(&t, "\"status\":429");
		wire_headers(&t.side[1], 7, 0, HEAD);
		wire_frame(&t.side[1], H2_DATA, 0, 7, "\0\0\0\0\1x", 6);
		wire_headers(&t.side[1], 7, H2_END_STREAM, "grpc-status: 14\n");
		talk_pass(&t, WEIR_RESPONSE, step);
		want(&t, "\"status\":503");
		want(&t, "\"kind\":\"other\"");
		talk_end(&t);
		assert_int_equal(t.client.requests, 4);
		assert_int_equal(t.client.status_2xx, 2);
		assert_int_equal(t.client.status_4xx, 1);
		assert_int_equal(t.client.status_5xx, 1);
		assert_int_equal(t.client.prompt_tokens, 22);
		assert_int_equal(t.client.completion_tokens, 15);
		assert_int_equal(t.client.open, 0);
		assert_int_equal(assemble_h2_stats(t.assemble)->bytes, 0);
		talk_close(&t);
	}
}

int main(void)
{
	const struct CMUnitTest cases[] = {
		cmocka_unit_test(services), cmocka_unit_test(compressed), cmocka_unit_test(broken), cmocka_unit_test(missed), cmocka_unit_test(statuses), cmocka_unit_test(calls),
	};

	if (automaton_build(&dfa) < 0)
		return 1;
	return cmocka_run_group_tests_name("grpc", cases, NULL, NULL);
}
