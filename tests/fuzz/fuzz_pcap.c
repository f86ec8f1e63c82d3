/*
 * The reader of captures. First byte even: the rest is a file, as it is. Odd: a script that makes a well-formed one, so that what lies
 * behind the file format is reached soon: first byte >> 1 chooses the link type, then pieces of {how, off, length, bytes}; how: bit 0 from the
 * server, 1 SYN, 2 FIN, 3 RST, 4 no ACK, 5-6 connection, 7 cut by the snapshot length; off: of the sequence number, in both directions.
 * Lengths from 240 on are whole phrases. No record may hold what no capture can tell, and all memory comes back.
 */
#include "base/log.h"
#include "cmd/replay_pcap.h"
#include "decode/automaton.h"
#include "pcap_make.h"

#define PHRASE_FIRST 240

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const char *const phrases[] = {
	"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 16\r\n\r\n",
	"{\"messages\":\"a\"}",
	"GET /health HTTP/1.1\r\n\r\n",
	"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n",
	"{\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":9}}",
	"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
	"2f\r\ndata: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n\r\n",
	"0\r\n\r\n",
	"\x16\x03\x01",
	"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 40\r\n\r\n",
};

static struct weir_automaton automaton;

static int on_record(void *ctx, const struct record *r)
{
	struct str *line = ctx;

	if (!(r->timestamp >= 0) || !(record_real(r, F_DURATION_MS, 0) >= 0) || r->weight != 1 || record_has(r, F_HOST))
		abort();
	str_reset(line);
	record_write_json(line, r);
	return 0;
}

static void make(struct made *m, const uint8_t *data, size_t n)
{
	struct made_conn c[4];

	for (unsigned i = 0; i < 4; i++)
		c[i] = (struct made_conn){ .client_port = (uint16_t)(40000 + i / 2), .server_port = 80, .client = (uint8_t)(i & 1), .seq = { 100, 0xfffffff0u } };
	made_begin(m);
	while (n > 3) {
		uint8_t how = data[0];
		struct made_conn *k = &c[how >> 5 & 3];
		const char *phrase = data[2] >= PHRASE_FIRST ? phrases[(data[2] - PHRASE_FIRST) % ARRAY_SIZE(phrases)] : NULL;
		size_t len = phrase ? strlen(phrase) : MIN(data[2] * 4u, n - 3), used = phrase ? 0 : len;
		unsigned flags = (how >> 1 & 7) == 7 ? 0 : (how & 2 ? MADE_SYN : 0) | (how & 4 ? MADE_FIN : 0) | (how & 8 ? MADE_RST : 0);
		int side = how & 1;
		uint32_t seq = k->seq[side] + (uint32_t)((int8_t)data[1] * (data[1] & 1 ? 1 : 300));

		m->snap = how & 128 ? 70 : 0;
		made_raw(m, k, side, seq, k->seq[!side], flags | (how & 16 ? 0 : MADE_ACK), phrase ? phrase : (const char *)data + 3, len);
		k->seq[side] = seq + (uint32_t)len;
		data += 3 + used;
		n -= 3 + used;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const enum made_link links[] = { MADE_ETHERNET, MADE_RAW, MADE_NULL, MADE_SLL, MADE_SLL2, MADE_LOOP };
	struct str line = { 0 };
	struct made m = { 0 };
	struct replay_pcap_opts o = { .name = "fuzz", .automaton = &automaton, .record = on_record, .ctx = &line };
	FILE *f;

	log_set_level(LOG_ERROR);
	if (!automaton.states && automaton_build(&automaton) < 0)
		abort();
	if (n < 2 || n > 1u << 16)
		return 0;
	if (data[0] & 1) {
		m.link = links[(data[0] >> 1) % ARRAY_SIZE(links)];
		m.v6 = data[0] & 64;
		m.ng = data[0] & 128;
		m.vlans = data[0] >> 4 & 1;
		make(&m, data + 1, n - 1);
		f = fmemopen(m.file.p, m.file.n, "rb");
	} else {
		f = fmemopen((void *)(data + 1), n - 1, "rb");
	}
	if (!f)
		abort();
	replay_pcap(f, &o);
	str_done(&line);
	str_done(&m.file);
	return 0;
}
