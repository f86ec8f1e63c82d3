/*
 * Any bytes as messages of any method, in any pieces and with holes: what comes out is lines of JSON whose strings end, and no more of them
 * than there were messages. Input: {method, direction and encoding, step} and then the bytes.
 */
#include "decode/grpc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const char *const paths[] = {
	"/inference.GRPCInferenceService/ModelInfer", "/inference.GRPCInferenceService/ModelStreamInfer", "/fmaas.GenerationService/Generate",
	"/fmaas.GenerationService/GenerateStream",    "/tei.v1.Embed/Embed",				  "/tei.v1.Rerank/Rerank",
	"/backend.Backend/PredictStream",
};

struct out {
	uint32_t lines;
	bool string, escape;
};

static void on_text(void *ctx, const char *p, size_t n)
{
	struct out *o = ctx;

	for (size_t i = 0; i < n; i++) {
		if ((unsigned char)p[i] < ' ' && (p[i] != '\n' || o->string))
			abort();
		if (o->escape)
			o->escape = false;
		else if (p[i] == '\\' && o->string)
			o->escape = true;
		else if (p[i] == '"')
			o->string = !o->string;
		o->lines += p[i] == '\n';
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	const struct grpc_method *m;
	struct out out = { 0 };
	struct grpc_side s;
	unsigned unpacking = 0;
	size_t step;

	if (n < 3)
		return 0;
	m = grpc_method_find(span_of(paths[data[0] % ARRAY_SIZE(paths)]));
	if (!m)
		abort();
	grpc_begin(&s, m, data[1] & 1, data[1] & 2 ? SPAN("gzip") : SPAN("identity"), &unpacking);
	s.emit = on_text;
	s.ctx = &out;
	step = data[2] % 64 + 1;
	data += 3;
	n -= 3;
	for (size_t i = 0; n; i++) {
		size_t take = MIN(step, n);

		if (step == 13 && i == 3)
			grpc_missed(&s, take);
		else
			grpc_feed(&s, data, take);
		data += take;
		n -= take;
	}
	if (out.lines > s.messages || unpacking > 1)
		abort();
	grpc_done(&s);
	if (unpacking)
		abort();
	return 0;
}
