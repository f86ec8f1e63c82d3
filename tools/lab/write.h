/*
 * write.h - records, labels and the stream's facts on disk.
 */
#ifndef LAB_WRITE_H
#define LAB_WRITE_H

#include "serve.h"

static inline void out_time(struct out *o, const struct lab *lab, double t)
{
	double at = lab->epoch + t;

	if (!lab->rfc3339) {
		out_fixed(o, at, 3);
	} else {
		time_t whole = (time_t)floor(at + 0.0005);
		struct tm tm;
		char b[40];
		int ms = (int)((at + 0.0005 - (double)whole) * 1000);

		gmtime_r(&whole, &tm);
		strftime(b, sizeof(b), "%Y-%m-%dT%H:%M:%S", &tm);
		if (lab->format == FMT_JSONL)
			o->p[o->n++] = '"';
		out_str(o, b);
		o->p[o->n++] = '.';
		out_hex(o, (uint64_t)(ms / 100), 1);
		out_hex(o, (uint64_t)(ms / 10 % 10), 1);
		out_hex(o, (uint64_t)(ms % 10), 1);
		o->p[o->n++] = 'Z';
		if (lab->format == FMT_JSONL)
			o->p[o->n++] = '"';
	}
}

static inline const char *finish_name(int f)
{
	static const char *const names[] = { "", "stop", "length", "error", "content_filter", "tool_calls" };

	return names[f];
}

static inline void field_int(struct out *o, const char *name, int v)
{
	if (v < 0)
		return;
	out_str(o, name);
	out_u64(o, (uint64_t)v);
}

static inline void rec_json(struct out *o, const struct lab *lab, const struct rec *q)
{
	int has = lab->has;
	bool model = q->path < PATH_HEALTH || q->path == PATH_OLLAMA;

	out_room(o);
	out_str(o, "{\"timestamp\":");
	out_time(o, lab, q->t);
	out_str(o, ",\"client_ip\":\"");
	out_addr(o, q->addr);
	if (model && !(q->lost && lab->model_n > 1)) {
		out_str(o, "\",\"model_name\":\"");
		out_str(o, lab->model[q->model].name);
	}
	o->p[o->n++] = '"';
	field_int(o, ",\"prompt_tokens\":", q->prompt);
	field_int(o, ",\"completion_tokens\":", q->completion);
	if (q->lost) {
		out_str(o, ",\"lost\":true,\"weight\":");
		out_u64(o, (uint64_t)q->weight);
		out_str(o, "}\n");
		return;
	}
	if (has & HAS_CACHED) {
		if (q->cached > 0)
			field_int(o, ",\"cached_tokens\":", q->cached);
		if (q->reasoning > 0)
			field_int(o, ",\"reasoning_tokens\":", q->reasoning);
	}
	if ((has & HAS_KEY) && q->key) {
		out_str(o, ",\"api_key\":\"k");
		out_hex(o, key_bits(lab, q->key), 12);
		o->p[o->n++] = '"';
	}
	if ((has & HAS_USER) && q->user && model && q->status != 401) {
		out_str(o, ",\"user\":\"user-");
		out_u64(o, q->user);
		o->p[o->n++] = '"';
	}
	if (has & HAS_AGENT) {
		out_str(o, ",\"user_agent\":\"");
		out_agent(o, q->agent);
		o->p[o->n++] = '"';
	}
	if (has & HAS_SERVER)
		out_str(o, ",\"server\":\"10.0.0.7:8000\"");
	if (has & HAS_PATH) {
		out_str(o, ",\"path\":\"");
		out_str(o, lab_paths[q->path]);
		o->p[o->n++] = '"';
	} else if (!model) {
		out_str(o, ",\"kind\":\"control\"");
	}
	if (has & HAS_STATUS) {
		out_str(o, ",\"status\":");
		out_u64(o, q->status);
	}
	if ((has & HAS_STREAM) && model)
		out_str(o, q->stream ? ",\"stream\":true" : ",\"stream\":false");
	if ((has & HAS_LIMIT) && model) {
		if (q->finish) {
			out_str(o, ",\"finish_reason\":\"");
			out_str(o, finish_name(q->finish));
			o->p[o->n++] = '"';
		}
		field_int(o, ",\"max_tokens\":", q->limit);
		if (q->logprobs)
			out_str(o, ",\"logprobs\":true");
	}
	if ((has & HAS_LATENCY) && q->ttft >= 0) {
		out_str(o, ",\"ttft_ms\":");
		out_fixed(o, q->ttft * 1000, 1);
	}
	if (has & HAS_DURATION) {
		out_str(o, ",\"duration_ms\":");
		out_fixed(o, q->duration * 1000, 1);
	}
	if ((has & HAS_PROMPT) && model) {
		field_int(o, ",\"prompt_chars\":", q->chars);
		out_str(o, ",\"prompt_hash\":\"");
		out_hex(o, q->hash, 16);
		out_str(o, "\",\"prompt_sim\":\"");
		out_hex(o, q->sim, 16);
		out_str(o, "\",\"prompt_entropy\":");
		out_fixed(o, q->entropy < 0 ? 0 : q->entropy, 2);
		out_str(o, ",\"injection_score\":");
		out_fixed(o, q->inject, 2);
	}
	if ((has & HAS_RETRY) && q->retry)
		field_int(o, ",\"retry\":", q->retry);
	if ((has & HAS_STREAM) && q->aborted)
		out_str(o, ",\"aborted\":true");
	if (has & HAS_ID) {
		out_str(o, ",\"request_id\":\"req-");
		out_hex(o, mix64(q->hash ^ (uint64_t)(q->t * 1e6)), 12);
		o->p[o->n++] = '"';
	}
	out_str(o, "}\n");
}

static inline void csv_head(struct out *o, const struct lab *lab)
{
	out_room(o);
	out_str(o, lab->thin_names ? "timestamp,ip,model,request_tokens,response_tokens" : "timestamp,client_ip,model_name,prompt_tokens,completion_tokens");
	if (lab->has & HAS_CACHED)
		out_str(o, ",cached_tokens");
	if (lab->has & HAS_KEY)
		out_str(o, ",api_key");
	if (lab->has & HAS_USER)
		out_str(o, ",user");
	if (lab->has & HAS_AGENT)
		out_str(o, ",user_agent");
	if (lab->has & HAS_PATH)
		out_str(o, ",path");
	if (lab->has & HAS_STATUS)
		out_str(o, ",status");
	if (lab->has & HAS_STREAM)
		out_str(o, ",stream");
	if (lab->has & HAS_LIMIT)
		out_str(o, ",finish_reason,max_tokens,logprobs");
	if (lab->has & HAS_LATENCY)
		out_str(o, ",ttft_ms");
	if (lab->has & HAS_DURATION)
		out_str(o, ",duration_ms");
	if (lab->has & HAS_PROMPT)
		out_str(o, ",prompt_chars,prompt_hash,prompt_sim,prompt_entropy,injection_score");
	if (lab->lossy > 0)
		out_str(o, ",lost,weight");
	out_str(o, "\n");
}

static inline void csv_int(struct out *o, int v)
{
	o->p[o->n++] = ',';
	if (v >= 0)
		out_u64(o, (uint64_t)v);
}

static inline void rec_csv(struct out *o, const struct lab *lab, const struct rec *q)
{
	bool model = q->path < PATH_HEALTH || q->path == PATH_OLLAMA, bare = !(lab->has & HAS_STATUS) && !q->lost;

	out_room(o);
	out_time(o, lab, q->t);
	o->p[o->n++] = ',';
	out_addr(o, q->addr);
	o->p[o->n++] = ',';
	if (model && !(q->lost && lab->model_n > 1))
		out_str(o, lab->model[q->model].name);
	csv_int(o, bare && q->prompt < 0 ? 0 : q->prompt); /* who writes five columns writes 0 for what failed */
	csv_int(o, bare && q->completion < 0 ? 0 : q->completion);
	if (lab->has & HAS_CACHED)
		csv_int(o, q->lost ? -1 : q->cached);
	if (lab->has & HAS_KEY) {
		o->p[o->n++] = ',';
		if (q->key && !q->lost) {
			o->p[o->n++] = 'k';
			out_hex(o, key_bits(lab, q->key), 12);
		}
	}
	if (lab->has & HAS_USER) {
		o->p[o->n++] = ',';
		if (q->user && !q->lost && model && q->status != 401) {
			out_str(o, "user-");
			out_u64(o, q->user);
		}
	}
	if (lab->has & HAS_AGENT) {
		out_str(o, ",");
		if (!q->lost) {
			out_str(o, "\"");
			out_agent(o, q->agent);
			out_str(o, "\"");
		}
	}
	if (lab->has & HAS_PATH) {
		o->p[o->n++] = ',';
		if (!q->lost)
			out_str(o, lab_paths[q->path]);
	}
	if (lab->has & HAS_STATUS)
		csv_int(o, q->lost ? -1 : q->status);
	if (lab->has & HAS_STREAM)
		out_str(o, q->lost ? "," : q->stream ? ",true" : ",false");
	if (lab->has & HAS_LIMIT) {
		o->p[o->n++] = ',';
		out_str(o, finish_name(q->finish));
		csv_int(o, q->limit);
		out_str(o, q->lost ? "," : q->logprobs ? ",true" : ",false");
	}
	if (lab->has & HAS_LATENCY) {
		o->p[o->n++] = ',';
		if (q->ttft >= 0 && !q->lost)
			out_fixed(o, q->ttft * 1000, 1);
	}
	if (lab->has & HAS_DURATION) {
		o->p[o->n++] = ',';
		if (!q->lost)
			out_fixed(o, q->duration * 1000, 1);
	}
	if (lab->has & HAS_PROMPT) {
		if (model && !q->lost) {
			csv_int(o, q->chars);
			o->p[o->n++] = ',';
			out_hex(o, q->hash, 16);
			o->p[o->n++] = ',';
			out_hex(o, q->sim, 16);
			o->p[o->n++] = ',';
			out_fixed(o, q->entropy < 0 ? 0 : q->entropy, 2);
			o->p[o->n++] = ',';
			out_fixed(o, q->inject, 2);
		} else {
			out_str(o, ",,,,,");
		}
	}
	if (lab->lossy > 0) {
		if (q->lost) {
			out_str(o, ",true,");
			out_u64(o, (uint64_t)q->weight);
		} else {
			out_str(o, ",,");
		}
	}
	out_str(o, "\n");
}

/* One record in the stream's format; `ctx` is a struct out. */
static inline int rec_write(void *ctx, const struct lab *lab, const struct rec *q)
{
	struct out *o = ctx;

	if (lab->format == FMT_CSV)
		rec_csv(o, lab, q);
	else
		rec_json(o, lab, q);
	return o->error;
}

/* ---- labels ------------------------------------------------------------------------------------------------------ */
static inline void label_json(struct out *o, const struct lab *lab, const struct label *l)
{
	static const char *const kinds[] = { "client_ip", "api_key", "user", "network", "model" };
	bool first_kind = true;

	out_room(o);
	out_str(o, "{\"id\":\"");
	out_str(o, l->id);
	out_str(o, "\",\"class\":\"");
	out_str(o, l->cls);
	out_str(o, "\",\"scope\":");
	if (l->scope_kind) {
		out_str(o, "{\"kind\":\"");
		out_str(o, l->scope_kind);
		out_str(o, "\",\"value\":\"");
		out_str(o, l->scope_value);
		out_str(o, "\"}");
	} else {
		out_str(o, "null");
	}
	out_str(o, ",\"actors\":{");
	for (int k = 0; k < 5; k++) {
		bool first = true;

		for (int i = 0; i < l->actor_n; i++) {
			if (strcmp(l->actor[i].kind, kinds[k]) != 0)
				continue;
			out_room(o);
			if (first) {
				out_str(o, first_kind ? "\"" : ",\"");
				out_str(o, kinds[k]);
				out_str(o, "\":[\"");
			} else {
				out_str(o, ",\"");
			}
			out_str(o, l->actor[i].value);
			out_str(o, "\"");
			first = first_kind = false;
		}
		if (!first)
			out_str(o, "]");
	}
	out_room(o);
	out_str(o, "},\"start\":");
	out_fixed(o, lab->epoch + l->start, 3);
	out_str(o, ",\"end\":");
	out_fixed(o, lab->epoch + l->end, 3);
	out_str(o, ",\"intensity\":");
	out_fixed(o, l->intensity, 3);
	out_str(o, l->benign ? ",\"benign\":true" : ",\"benign\":false");
	out_str(o, ",\"accept\":");
	if (l->accept[0]) {
		out_str(o, "{\"classes\":[");
		out_str(o, l->accept);
		out_str(o, "],\"severity\":\"");
		out_str(o, l->accept_severity);
		out_str(o, "\"}");
	} else {
		out_str(o, "null");
	}
	out_str(o, ",\"note\":\"");
	out_str(o, l->note);
	out_str(o, "\"}");
}

static inline void labels_json(struct out *o, const struct lab *lab)
{
	out_room(o);
	out_str(o, "[");
	for (int i = 0; i < lab->label_n; i++) {
		out_str(o, i ? ",\n" : "\n");
		label_json(o, lab, &lab->label[i]);
		out_room(o);
	}
	out_str(o, "\n]\n");
}

static inline void stream_json(struct out *o, const struct lab *lab)
{
	static const char *const fields[] = { "api_key", "user", "user_agent", "path", "status", "ttft_ms", "prompt_features", "limits", "cached_tokens", "stream", "request_id", "retry", "server", "duration_ms" };
	static const char *const orders[] = { "arrival", "completion", "shuffled" };
	bool first = true;

	out_room(o);
	out_str(o, "{\"start\":");
	out_fixed(o, lab->epoch, 3);
	out_str(o, ",\"end\":");
	out_fixed(o, lab->epoch + lab->len, 3);
	out_str(o, ",\"warmup\":");
	out_fixed(o, lab->warmup, 0);
	out_str(o, ",\"seed\":");
	out_u64(o, lab->seed);
	out_str(o, ",\"kind\":\"");
	out_str(o, lab->kind);
	out_str(o, "\",\"format\":\"");
	out_str(o, lab->format == FMT_CSV ? "csv" : "jsonl");
	out_str(o, "\",\"order\":\"");
	out_str(o, orders[lab->order]);
	out_str(o, "\",\"lossy\":");
	out_str(o, lab->lossy > 0 ? "true" : "false");
	out_str(o, ",\"gateway\":");
	out_str(o, lab->gateway ? "true" : "false");
	out_str(o, ",\"models\":");
	out_u64(o, (uint64_t)lab->model_n);
	out_str(o, ",\"customers\":");
	out_u64(o, (uint64_t)lab->customers);
	out_str(o, ",\"mean_rate\":");
	out_fixed(o, lab->mean_rate, 3);
	out_str(o, ",\"records\":");
	out_u64(o, lab->records);
	out_str(o, ",\"fields\":[");
	for (int i = 0; i < 14; i++)
		if (lab->has >> i & 1) {
			out_str(o, first ? "\"" : ",\"");
			out_str(o, fields[i]);
			out_str(o, "\"");
			first = false;
		}
	out_str(o, "]}\n");
}

#endif
