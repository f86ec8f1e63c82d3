#include "cmd/replay_pcap.h"

#include "base/log.h"
#include "base/str.h"
#include "capture/capture.h"
#include "capture/soft.h"
#include "decode/assemble.h"
#include "decode/automaton.h"

#include <arpa/inet.h>
#include <inttypes.h>

#define PIECE_MAX WEIR_TAP_LARGE /* as the tap would send it: the meter takes a bounded number of steps per segment */
#define AGE_PERIOD_NS FLOW_LINGER_NS
#define PENDING_IDLE_NS (24 * 3600 * UINT64_C(1000000000)) /* as the live agent keeps a connection that waits for an answer */
#define SERVERS_SHOWN 8

struct reader {
	const struct replay_pcap_opts *o;
	struct pcap_file *file;
	struct flows *flows;
	struct soft *soft;
	struct assemble *assemble;
	struct weir_automaton *automaton; /* our own, or NULL */
	struct weir_control control;
	struct weir_tap *tap;
	uint64_t stats[WEIR_STAT_COUNT];
	uint64_t frames, kinds[PACKET_CUT + 1];
	uint64_t records, h2_requests;
	uint64_t aged_ns;
	int error; /* what record() answered */
};

/* ---- the meter's surroundings --------------------------------------------------------------------------- */
/* Nobody asks for the counters of clients: what they would add up is in the records. */
static int client_load(void *ctx, const struct weir_client_key *key, struct weir_client *ret)
{
	(void)ctx, (void)key, (void)ret;
	return -ENOENT;
}

static int client_save(void *ctx, const struct weir_client_key *key, const struct weir_client *value)
{
	(void)ctx, (void)key, (void)value;
	return 0;
}

static void stat_save(void *ctx, enum weir_stat which, uint64_t value)
{
	struct reader *r = ctx;

	r->stats[which] = value;
}

static void on_count(void *ctx, const struct weir_conn_key *key, const struct weir_client *more)
{
	struct reader *r = ctx;

	(void)key;
	r->h2_requests += more->requests;
}

static void on_event(void *ctx, const void *data, size_t n)
{
	struct reader *r = ctx;

	assemble_event(r->assemble, data, n); /* what it refuses, it counts */
}

static void on_complete(void *ctx, const struct record *rec, bool arrived, int64_t told)
{
	struct reader *r = ctx;
	struct record copy = record_as_written(rec);

	(void)arrived, (void)told;
	r->records++;
	if (!r->error)
		r->error = r->o->record(r->o->ctx, &copy);
}

static void on_piece(void *ctx, struct flow *f, const struct flow_piece *p)
{
	struct reader *r = ctx;
	struct weir_tap *t = r->tap;
	uint32_t done = 0, n;

	*t = (struct weir_tap){ .ts = p->ts_ns, .key = f->key, .dir = p->dir };
	t->tcp.fresh = f->from_start;
	do {
		n = MIN(p->have - done, PIECE_MAX);
		t->seq = p->seq + done;
		t->len = n;
		if (n)
			memcpy(t->data, p->data + done, n);
		done += n;
		/* the end comes after all that is known of the bytes before it */
		t->flags = done == p->have && !p->gap ? p->flags : 0;
		if (n || t->flags)
			soft_segment(r->soft, t, sizeof(*t) + n);
	} while (done < p->have);
	if (!p->gap)
		return;
	t->seq = p->seq + p->have;
	t->len = p->gap;
	soft_gap(r->soft, t);
	t->seq += p->gap;
	t->len = 0;
	t->flags = p->flags;
	if (t->flags)
		soft_segment(r->soft, t, sizeof(*t));
}

/* ---- a key -------------------------------------------------------------------------------------------- */
/*
 * The same file is to give the same records, and no two files hashes that one table of guesses would answer: the first frame, with its
 * time, ports and sequence numbers, is as good as made up.
 */
static void key_make(const struct pcap_frame *f, uint8_t ret[SIPHASH_KEY_BYTES])
{
	uint8_t from[SIPHASH_KEY_BYTES] = { 0 };
	uint64_t half;

	memcpy(from, &f->ts_ns, sizeof(f->ts_ns));
	for (size_t i = 0; i < SIPHASH_KEY_BYTES; i += sizeof(half)) {
		from[SIPHASH_KEY_BYTES - 1] = (uint8_t)i;
		half = siphash(from, f->data, f->have);
		memcpy(ret + i, &half, sizeof(half));
	}
}

/* ---- life --------------------------------------------------------------------------------------------- */
static int reader_begin(struct reader *r, const struct pcap_frame *first)
{
	struct assemble_opts ao = { .identity = r->o->identity, .count = on_count, .complete = on_complete, .ctx = r };
	struct soft_opts so = {
		.control = &r->control,
		.max_conns = FLOWS_MAX,
		.store = { .load = client_load, .make = client_save, .save = client_save, .stat = stat_save, .ctx = r },
		.event = on_event,
		.ctx = r,
	};
	struct flow_opts fo = { .ports = r->o->ports, .piece = on_piece, .ctx = r };
	int e;

	if (r->o->key)
		memcpy(ao.key, r->o->key, sizeof(ao.key));
	else
		key_make(first, ao.key);
	r->tap = malloc(sizeof(*r->tap) + PIECE_MAX);
	ao.automaton = r->o->automaton;
	if (!ao.automaton)
		ao.automaton = r->automaton = malloc(sizeof(*r->automaton));
	if (!r->tap || !ao.automaton)
		return -ENOMEM;
	so.automaton = ao.automaton;
	e = r->automaton ? automaton_build(r->automaton) : 0;
	if (e == 0)
		e = assemble_new(&ao, &r->assemble);
	explicit_bzero(ao.key, sizeof(ao.key));
	if (e == 0)
		e = soft_open(&so, &r->soft);
	return e == 0 ? flows_new(&fo, &r->flows) : e;
}

static void reader_done(struct reader *r)
{
	flows_free(r->flows);
	soft_free(r->soft);
	assemble_free(r->assemble);
	free(r->automaton);
	free(r->tap);
	pcap_file_close(r->file);
}

static void age(struct reader *r, uint64_t now)
{
	if (now < r->aged_ns + AGE_PERIOD_NS)
		return;
	r->aged_ns = now;
	for (int i = 0; i < SOFT_AGE_PARTS; i++)
		soft_age(r->soft, now, FLOW_IDLE_NS, PENDING_IDLE_NS);
}

static void take_frame(struct reader *r, const struct pcap_frame *f)
{
	struct packet p;
	enum packet_kind kind = packet_read(pcap_file_link(r->file), f, &p);

	r->kinds[kind]++;
	if (kind != PACKET_TCP)
		return;
	age(r, f->ts_ns);
	flows_segment(r->flows, &p, f->data + MIN(p.data_at, f->have), f->ts_ns, NULL);
}

/* ---- what is said about it ------------------------------------------------------------------------------ */
static void say_servers(const struct reader *r)
{
	const struct flow_server *s;
	size_t n = flows_servers(r->flows, &s), shown = 0;
	CLEANUP(str_done) struct str text = { 0 };

	for (size_t i = 0; i < n && shown < SERVERS_SHOWN; i++) {
		static const uint8_t mapped[12] = { [10] = 0xff, 0xff };
		bool v4 = memcmp(s[i].addr, mapped, sizeof(mapped)) == 0;
		char address[INET6_ADDRSTRLEN];

		if (s[i].tls == s[i].connections)
			continue; /* nothing of it was read */
		inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? s[i].addr + 12 : s[i].addr, address, sizeof(address));
		str_addf(&text, v4 ? "%s%s:%u" : "%s[%s]:%u", shown++ ? ", " : "", address, s[i].port);
		str_addf(&text, " %s, %u connection%s", flow_guess_name(s[i].guess), s[i].connections, s[i].connections == 1 ? "" : "s");
	}
	if (str_error(&text))
		return;
	log_info("%s: server%s: %s%s", r->o->name, shown == 1 ? "" : "s", shown ? text.p : "none", n > SERVERS_SHOWN ? " ..." : "");
}

static void say_identity(const struct reader *r)
{
	CLEANUP(str_done) struct str text = { 0 };

	identity_stats_tell(&assemble_stats(r->assemble)->identity, &text);
	if (text.n && !str_error(&text))
		log_info("%s: clients by proxies' word: %s", r->o->name, text.p);
}

static void count_add(struct str *s, uint64_t n, const char *what)
{
	if (n)
		str_addf(s, "%s%" PRIu64 " %s", s->n ? ", " : "", n, what);
}

static void say_losses(const struct reader *r)
{
	const struct flow_stats *f = flows_stats(r->flows);
	const struct assemble_stats *a = assemble_stats(r->assemble);
	CLEANUP(str_done) struct str text = { 0 };

	count_add(&text, r->kinds[PACKET_NOT_IP], "packets not IP");
	count_add(&text, r->kinds[PACKET_NOT_TCP], "not TCP");
	count_add(&text, r->kinds[PACKET_FRAGMENT], "IP fragments");
	count_add(&text, r->kinds[PACKET_CUT], "with broken or cut headers");
	count_add(&text, f->unwatched, "of other ports");
	count_add(&text, f->tls, "connections in TLS");
	count_add(&text, r->stats[WEIR_STAT_NOT_HTTP], "messages not HTTP/1");
	count_add(&text, r->stats[WEIR_STAT_BAD_FRAMING] + r->stats[WEIR_STAT_HEAD_TOO_LONG], "that cannot be framed");
	count_add(&text, r->stats[WEIR_STAT_UPGRADED], "connections that left HTTP/1");
	count_add(&text, f->cut, "segments cut by the snapshot length");
	count_add(&text, f->gaps, "gaps");
	count_add(&text, f->gap_bytes, "bytes in gaps");
	count_add(&text, f->outside, "segments out of every window");
	count_add(&text, f->evicted + r->stats[WEIR_STAT_CONN_FULL], "connections beyond the table");
	count_add(&text, r->stats[WEIR_STAT_PIPELINE], "requests deeper in a pipeline than records are made");
	count_add(&text, r->stats[WEIR_STAT_STEPS], "segments too costly to read");
	count_add(&text, a->evicted, "requests pushed out");
	count_add(&text, a->not_unpacked, "compressed answers not unpacked");
	count_add(&text, a->proxied_bad, "announcements of the PROXY protocol that cannot be read");
	count_add(&text, a->no_memory + f->no_memory, "lost for want of memory");
	if (text.n && !str_error(&text))
		log_info("%s: not read: %s", r->o->name, text.p);
}

static void say(const struct reader *r)
{
	const struct flow_stats *f = flows_stats(r->flows);

	log_info("%s: %" PRIu64 " packets (%s), %" PRIu64 " TCP segments with payload, %" PRIu64 " repeated, %" PRIu64 " out of order; %" PRIu64
		 " connections, %" PRIu64 " begun before it; %" PRIu64 " requests, %" PRIu64 " records, %u still open at its end",
		 r->o->name, r->frames, pcap_file_link_name(r->file), f->segments, f->repeated, f->reordered, f->connections, f->midway,
		 r->stats[WEIR_STAT_REQUESTS] + r->h2_requests, r->records, assemble_stats(r->assemble)->open);
	say_servers(r);
	say_identity(r);
	say_losses(r);
}

int replay_pcap(FILE *file, const struct replay_pcap_opts *o)
{
	struct reader *r = calloc(1, sizeof(*r));
	char why[PCAP_WHY_MAX];
	struct pcap_frame f;
	int e;

	if (!r) {
		fclose(file);
		return -ENOMEM;
	}
	r->o = o;
	e = pcap_file_open(file, &r->file, why);
	if (e == -ENOMEM)
		goto out;
	if (e < 0) {
		log_error("cannot read %s: %s", o->name, why);
		e = 1;
		goto out;
	}
	if (!packet_link_known(pcap_file_link(r->file))) {
		log_error("cannot read %s: its link type %s is not known here (docs/captures.md has those that are)", o->name, pcap_file_link_name(r->file));
		e = 1;
		goto out;
	}
	while ((e = pcap_file_next(r->file, &f, why)) == 1 && !r->error) {
		if (!r->frames++ && (r->error = reader_begin(r, &f)) < 0)
			break;
		take_frame(r, &f);
	}
	if (e < 0 && !r->error)
		log_warning("%s: ends early, after %" PRIu64 " packets: %s", o->name, r->frames, why);
	e = r->error;
	if (!e && r->frames) {
		flows_finish(r->flows);
		soft_flush(r->soft);
		e = r->error;
		say(r);
	} else if (!e) {
		log_info("%s: no packets", o->name);
	}
out:
	reader_done(r);
	free(r);
	return e;
}
