#include "cmd/scrub_pcap.h"

#include "capture/pcap_flow.h"
#include "decode/scrub.h"

#include <pcap/dlt.h>
#include <sys/random.h>

#define ADDRESS_SLOTS (SCRUB_ADDRESSES_MAX * 2)

struct stream;

struct queued {
	struct queued *next;     /* in the file */
	struct queued *follower; /* in the stream, by offset */
	struct stream *stream;   /* NULL: nothing more comes for it */
	int dir;
	struct packet p;
	bool tcp;
	uint64_t off; /* of its payload in the stream, once placed */
	bool placed;
	struct pcap_frame f; /* data: our own copy, behind this */
	uint8_t data[];
};

/* One connection. */
struct stream {
	struct job *job;
	struct scrub *scrub;
	uint32_t base[2]; /* sequence number of offset 0 */
	uint64_t pos[2];  /* passed to the scrubber so far */
	bool begun[2];
	struct queued *waiting[2];
};

struct address {
	uint8_t from[16];
	uint32_t number; /* from 1 */
};

struct job {
	struct scrub_opts o;
	struct scrub_words *words;
	struct pcap_file *in;
	struct pcap_out *out;
	struct flows *flows;
	struct queued *first, *last;
	size_t queued_bytes;
	struct queued *current; /* being read, not yet in its stream */
	struct queued *reading; /* the same, whether it is or not */
	struct address *addresses;
	uint32_t address_count;
	struct scrub_pcap_stats stats;
	int error;
};

/* ---- what is decided --------------------------------------------------------------------------------------- */
static void detach(struct queued *q)
{
	struct queued **at = &q->stream->waiting[q->dir];

	while (*at && *at != q)
		at = &(*at)->follower;
	if (*at)
		*at = q->follower;
	q->stream = NULL;
}

/* Its offset is known as soon as the stream has one. */
static void place(struct queued *q)
{
	const struct stream *t = q->stream;
	uint64_t pos = t->pos[q->dir];
	uint32_t seq = q->p.seq + (q->p.flags & TCP_SYN ? 1 : 0);

	if (q->placed || !t->begun[q->dir])
		return;
	q->off = pos + (uint64_t)(int64_t)(int32_t)(seq - (t->base[q->dir] + (uint32_t)pos));
	q->placed = true;
}

static void attach(struct queued *q, struct stream *t, int dir)
{
	struct queued **at = &t->waiting[dir];

	q->stream = t;
	q->dir = dir;
	/* few wait, and most come in order */
	while (*at && (int32_t)((*at)->p.seq - q->p.seq) <= 0)
		at = &(*at)->follower;
	q->follower = *at;
	*at = q;
}

static void on_put(void *ctx, int dir, uint64_t off, uint8_t c)
{
	struct stream *t = ctx;
	struct queued *done;

	/* decisions come in order: what ends before this one has all of its own, and is not to be passed over for every byte behind a hole */
	while ((done = t->waiting[dir])) {
		place(done);
		if ((int64_t)(off - (done->off + done->p.have)) < 0)
			break;
		detach(done);
	}
	for (struct queued *q = t->waiting[dir]; q; q = q->follower) {
		place(q);
		if ((int64_t)(off - q->off) < 0)
			break;
		if (off - q->off >= q->p.have)
			continue;
		q->data[q->p.data_at + (off - q->off)] = c;
		t->job->stats.kept_bytes += c != SCRUB_FILL;
	}
}

/* What lies wholly before the stream's decisions needs no more of them. */
static void settle(struct stream *t)
{
	for (int dir = 0; dir < 2; dir++) {
		while (t->waiting[dir] && t->begun[dir]) {
			struct queued *q = t->waiting[dir];

			place(q);
			if ((int64_t)(scrub_decided(t->scrub, dir) - (q->off + q->p.have)) < 0)
				break;
			detach(q);
		}
	}
}

/* ---- the connection ------------------------------------------------------------------------------------------ */
static struct stream *stream_of(struct job *j, struct flow *f)
{
	struct stream *t = f->user;

	if (t)
		return t;
	t = calloc(1, sizeof(*t));
	if (!t || scrub_new(&j->o, f->from_start, t, &t->scrub) < 0) {
		free(t);
		j->error = -ENOMEM;
		return NULL;
	}
	t->job = j;
	f->user = t;
	return t;
}

static void attach_current(struct job *j, struct stream *t, const struct flow *f)
{
	struct queued *q = TAKE_PTR(j->current);

	if (q && q->p.have)
		attach(q, t, q->p.sport == f->key.lport && !memcmp(q->p.saddr, f->key.laddr, 16) ? WEIR_RESPONSE : WEIR_REQUEST);
}

static void on_piece(void *ctx, struct flow *f, const struct flow_piece *p)
{
	struct job *j = ctx;
	struct stream *t = stream_of(j, f);

	if (!t)
		return;
	attach_current(j, t, f);
	if (!p->have && !p->gap)
		return;
	if (!t->begun[p->dir]) {
		t->begun[p->dir] = true;
		t->base[p->dir] = p->seq;
	}
	if (p->have)
		scrub_feed(t->scrub, p->dir, p->data, p->have);
	t->pos[p->dir] += p->have;
	if (p->gap)
		scrub_gap(t->scrub, p->dir, p->gap);
	t->pos[p->dir] += p->gap;
}

/* The segment being read may end connections before it reaches its own: one forgotten for its age, or the one before with the same ports. */
static void on_over(void *ctx, struct flow *f)
{
	struct stream *t = TAKE_PTR(f->user);
	struct job *j = ctx;

	if (!t)
		return;
	if (j->reading && j->reading->stream == t) {
		j->current = j->reading;
		j->current->placed = false;
		memset(j->current->data + j->current->p.data_at, SCRUB_FILL, j->current->p.have);
	}
	for (int dir = 0; dir < 2; dir++)
		while (t->waiting[dir])
			detach(t->waiting[dir]);
	scrub_free(t->scrub);
	free(t);
}

/* ---- addresses ----------------------------------------------------------------------------------------------- */
static uint32_t address_number(struct job *j, const uint8_t addr[16])
{
	uint64_t h = siphash(j->o.key, addr, 16);

	for (;; h++) {
		struct address *a = &j->addresses[h % ADDRESS_SLOTS];

		if (a->number && !memcmp(a->from, addr, 16))
			return a->number;
		if (a->number)
			continue;
		if (j->address_count == SCRUB_ADDRESSES_MAX) {
			j->stats.addresses_shared++;
			return SCRUB_ADDRESSES_MAX + 1;
		}
		memcpy(a->from, addr, 16);
		return a->number = ++j->address_count;
	}
}

static void address_write(struct job *j, uint8_t *to, const uint8_t addr[16], bool v4)
{
	uint32_t n = address_number(j, addr);

	memset(to, 0, v4 ? 4 : 16);
	to[0] = v4 ? 10 : 0xfd;
	for (int i = 0; i < 3; i++)
		to[(v4 ? 3 : 15) - i] = (uint8_t)(n >> 8 * i);
}

static void addresses_replace(struct job *j, struct queued *q)
{
	int link = pcap_file_link(j->in);
	uint8_t *ip = q->data + q->p.ip_at;

	if (link == DLT_EN10MB)
		memset(q->data, 0, MIN(q->f.have, 12u));
	else if (link == DLT_LINUX_SLL && q->f.have >= 14)
		memset(q->data + 6, 0, 8);
	else if (link == DLT_LINUX_SLL2 && q->f.have >= 20)
		memset(q->data + 12, 0, 8);
	if (!q->tcp)
		return;
	address_write(j, ip + (q->p.v4 ? 12 : 8), q->p.saddr, q->p.v4);
	address_write(j, ip + (q->p.v4 ? 16 : 24), q->p.daddr, q->p.v4);
}

/* ---- frames -------------------------------------------------------------------------------------------------- */
/* Of what is not TCP the link's header stays, and an IP header without options where its addresses may stay. */
static void blank_other(struct job *j, struct queued *q, enum packet_kind kind)
{
	uint32_t keep = q->p.ip_at ? q->p.ip_at : pcap_file_link(j->in) == DLT_EN10MB ? 14 : 0;

	if ((kind == PACKET_NOT_TCP || kind == PACKET_FRAGMENT) && !j->o.addresses)
		keep = q->p.ip_at + (q->p.v4 ? 20 : 40);
	if (keep < q->f.have)
		memset(q->data + keep, 0, q->f.have - keep);
	j->stats.not_tcp++;
}

static void blank_payload(struct queued *q, const struct pcap_frame *f, bool tls)
{
	memset(q->data + q->p.data_at, SCRUB_FILL, q->p.have);
	if (q->p.end < q->f.have)
		memset(q->data + q->p.end, 0, q->f.have - q->p.end); /* padding */
	if (tls) /* what kind of record, and of which version */
		memcpy(q->data + q->p.data_at, f->data + q->p.data_at, MIN(q->p.have, 3u));
}

/* Of TCP's options those stay that everybody has: others carry cookies, addresses of clients, anything. Of IP's none does. */
static void blank_options(struct queued *q)
{
	static const uint8_t length[] = { [2] = 4, [3] = 3, [4] = 2, [8] = 10 }; /* 0: any, or not known */
	uint8_t *o = q->data + q->p.tcp_at + 20, *end = q->data + MIN(q->p.data_at, q->p.end), *next;
	uint32_t at = q->p.ip_at + (q->p.v4 ? 20 : 40);

	if (q->p.v4) {
		memset(q->data + at, 1, q->p.tcp_at - at); /* no operation */
	} else {
		for (uint8_t kind = q->data[q->p.ip_at + 6]; at + 8 <= q->p.tcp_at;) {
			uint32_t n = kind == 44 ? 8 : kind == 51 ? (q->data[at + 1] + 2u) * 4 : (q->data[at + 1] + 1u) * 8;

			kind = q->data[at];
			memset(q->data + at + 2, 0, MIN(n, q->p.tcp_at - at) - 2);
			at += n;
		}
	}
	for (; o < end; o = next) {
		bool known = *o < ARRAY_SIZE(length) && length[*o] && end - o > 1 && o[1] == length[*o] && end - o >= o[1];

		if (*o == 5 && end - o > 1 && o[1] >= 10 && o[1] <= 34 && o[1] % 8 == 2 && end - o >= o[1])
			known = true; /* selective acknowledgement */
		next = known ? o + o[1] : o + 1;
		if (!known && *o > 1 && end - o > 1 && o[1] >= 2 && o[1] <= end - o)
			next = o + o[1];
		else if (!known && *o != 1)
			next = end;
		if (!known)
			memset(o, 1, (size_t)(next - o));
	}
}

static int queue_write(struct job *j)
{
	struct queued *q = j->first;
	int r;

	j->first = q->next;
	if (!j->first)
		j->last = NULL;
	j->queued_bytes -= sizeof(*q) + q->f.have;
	if (j->o.addresses)
		addresses_replace(j, q);
	if (q->tcp)
		packet_checksum(q->data, &q->p);
	r = pcap_out_frame(j->out, &q->f);
	free(q);
	return r;
}

static int queue_advance(struct job *j, size_t most)
{
	int r = 0;

	while (r == 0 && j->first && (!j->first->stream || j->queued_bytes > most)) {
		if (j->first->stream) {
			detach(j->first);
			j->stats.hurried++;
		}
		r = queue_write(j);
	}
	return r;
}

static int take_frame(struct job *j, const struct pcap_frame *f)
{
	struct queued *q = calloc(1, sizeof(*q) + f->have);
	enum packet_kind kind;
	struct flow *flow;

	if (!q)
		return -ENOMEM;
	memcpy(q->data, f->data, f->have);
	q->f = *f;
	q->f.data = q->data;
	kind = packet_read(pcap_file_link(j->in), f, &q->p);
	q->tcp = kind == PACKET_TCP;
	*(j->last ? &j->last->next : &j->first) = q;
	j->last = q;
	j->queued_bytes += sizeof(*q) + f->have;
	j->stats.frames++;
	if (!q->tcp) {
		blank_other(j, q, kind);
		return queue_advance(j, SCRUB_QUEUE_MAX);
	}
	j->stats.payload_bytes += q->p.have;
	q->p.data_at = MIN(q->p.data_at, f->have);
	blank_payload(q, f, false);
	blank_options(q);
	j->current = j->reading = q;
	flow = flows_segment(j->flows, &q->p, f->data + q->p.data_at, f->ts_ns, NULL);
	if (flow && flow->tls)
		blank_payload(q, f, q->p.have > 2 && f->data[q->p.data_at] >= 20 && f->data[q->p.data_at] <= 23 && f->data[q->p.data_at + 1] == 3);
	else if (flow && flow->key.lport && stream_of(j, flow))
		attach_current(j, flow->user, flow); /* it waits for what comes before it */
	j->current = j->reading = NULL;
	if (flow && flow->user)
		settle(flow->user);
	return j->error ? j->error : queue_advance(j, SCRUB_QUEUE_MAX);
}

/* ---- the module ---------------------------------------------------------------------------------------------- */
static int job_begin(struct job *j)
{
	struct flow_opts fo = { .piece = on_piece, .over = on_over, .ctx = j };
	int r = scrub_words_new(&j->words);

	if (r < 0)
		return r;
	j->o.words = j->words;
	j->o.put = on_put;
	if (getrandom(j->o.key, sizeof(j->o.key), 0) != sizeof(j->o.key))
		return -EIO;
	j->addresses = calloc(ADDRESS_SLOTS, sizeof(*j->addresses));
	return j->addresses ? flows_new(&fo, &j->flows) : -ENOMEM;
}

static int job_run(struct job *j, char why[PCAP_WHY_MAX])
{
	struct pcap_frame f;
	int r, e = 0;

	while (e == 0 && (r = pcap_file_next(j->in, &f, why)) == 1)
		e = take_frame(j, &f);
	if (e)
		return e;
	flows_finish(j->flows);
	j->stats.tls = flows_stats(j->flows)->tls;
	j->flows = flows_free(j->flows);
	while (e == 0 && j->first)
		e = queue_write(j);
	return e ? e : j->error;
}

int scrub_pcap(FILE *in, FILE *out, bool addresses, struct scrub_pcap_stats *ret, char why[512])
{
	struct job *j = calloc(1, sizeof(*j));
	int r = j ? 0 : -ENOMEM, e;

	snprintf(why, 512, "%s", "");
	if (j)
		r = pcap_file_open(in, &j->in, why);
	else
		fclose(in);
	if (r == 0 && !packet_link_known(pcap_file_link(j->in))) {
		snprintf(why, 512, "its link type %s is not known here", pcap_file_link_name(j->in));
		r = -EBADMSG;
	}
	if (r == 0) {
		j->o.addresses = addresses;
		r = pcap_out_open(TAKE_PTR(out), j->in, &j->out);
	}
	if (out)
		fclose(out);
	if (r == 0)
		r = job_begin(j);
	if (r == 0)
		r = job_run(j, why);
	if (j) {
		flows_free(j->flows);
		while (j->first) {
			struct queued *q = j->first;

			j->first = q->next;
			free(q);
		}
		e = pcap_out_close(j->out);
		r = r ? r : e;
		pcap_file_close(j->in);
		free(j->addresses);
		scrub_words_free(j->words);
		*ret = j->stats;
		explicit_bzero(j->o.key, sizeof(j->o.key));
	}
	free(j);
	if (r < 0 && !*why)
		snprintf(why, 512, "%s", strerror(-r));
	return r;
}
