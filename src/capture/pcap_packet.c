#include "capture/pcap_packet.h"

#include <pcap/dlt.h>

#define VLAN_TAGS_MAX 4   /* QinQ is two; more is somebody's accident */
#define EXT_HEADERS_MAX 8 /* RFC 8200 expects each kind once */
#define DLT_RAW_BSD 14    /* what OpenBSD calls raw IP */

enum {
	ETHER_IPV4 = 0x0800,
	ETHER_IPV6 = 0x86dd,
	ETHER_VLAN = 0x8100,
	ETHER_QINQ = 0x88a8,
	ETHER_QINQ_OLD = 0x9100,
};

static uint32_t be16(const uint8_t *p)
{
	return (uint32_t)p[0] << 8 | p[1];
}

static uint32_t be32(const uint8_t *p)
{
	return be16(p) << 16 | be16(p + 2);
}

bool packet_link_known(int link)
{
	switch (link) {
	case DLT_EN10MB:
	case DLT_NULL:
	case DLT_LOOP:
	case DLT_LINUX_SLL:
	case DLT_LINUX_SLL2:
	case DLT_RAW:
	case DLT_RAW_BSD:
	case DLT_IPV4:
	case DLT_IPV6:
		return true;
	default:
		return false;
	}
}

/* Where the network header begins; kind says why not. */
static uint32_t skip_link(int link, const struct pcap_frame *f, enum packet_kind *kind)
{
	uint32_t at, type_at, type;

	switch (link) {
	case DLT_EN10MB:
		type_at = 12;
		at = 14;
		break;
	case DLT_LINUX_SLL:
		type_at = 14;
		at = 16;
		break;
	case DLT_LINUX_SLL2:
		type_at = 0;
		at = 20;
		break;
	case DLT_NULL: /* the address family, in the byte order and the numbers of another system: IP says itself what it is */
	case DLT_LOOP:
		return 4;
	default:
		return 0;
	}
	*kind = PACKET_CUT;
	if (f->have < at)
		return 0;
	type = be16(f->data + type_at);
	for (int i = 0; i < VLAN_TAGS_MAX && (type == ETHER_VLAN || type == ETHER_QINQ || type == ETHER_QINQ_OLD); i++) {
		if (f->have < at + 4)
			return 0;
		type = be16(f->data + at + 2);
		at += 4;
	}
	*kind = type == ETHER_IPV4 || type == ETHER_IPV6 ? PACKET_TCP : PACKET_NOT_IP;
	return at;
}

/*
 * The end of an IP packet in the frame, by its own account. What segmentation offload has not cut up yet says 0 or the lowest 16 bits:
 * then the frame itself tells.
 */
static uint32_t ip_end(const struct pcap_frame *f, uint32_t at, uint32_t total)
{
	uint32_t wire = f->len - at;

	return at + (total && total <= wire && wire <= UINT16_MAX ? total : wire);
}

static enum packet_kind read_v4(const struct pcap_frame *f, uint32_t at, struct packet *p, uint32_t *ret_end)
{
	const uint8_t *h = f->data + at;
	uint32_t words;

	if (f->have - at < 20)
		return PACKET_CUT;
	words = h[0] & 15;
	if (words < 5)
		return PACKET_CUT;
	p->v4 = true;
	p->saddr[10] = p->saddr[11] = p->daddr[10] = p->daddr[11] = 0xff;
	memcpy(p->saddr + 12, h + 12, 4);
	memcpy(p->daddr + 12, h + 16, 4);
	p->tcp_at = at + words * 4;
	*ret_end = ip_end(f, at, be16(h + 2));
	if (h[9] != 6)
		return PACKET_NOT_TCP;
	return be16(h + 6) & 0x3fff ? PACKET_FRAGMENT : PACKET_TCP; /* an offset, or more to follow */
}

static enum packet_kind read_v6(const struct pcap_frame *f, uint32_t at, struct packet *p, uint32_t *ret_end)
{
	const uint8_t *h = f->data + at;
	uint8_t next;

	if (f->have - at < 40)
		return PACKET_CUT;
	memcpy(p->saddr, h + 8, 16);
	memcpy(p->daddr, h + 24, 16);
	*ret_end = ip_end(f, at, be16(h + 4) ? 40 + be16(h + 4) : 0); /* 0: jumbo */
	next = h[6];
	at += 40;
	for (int i = 0; i < EXT_HEADERS_MAX && next != 6; i++) {
		if (next != 0 && next != 43 && next != 44 && next != 51 && next != 60 && next != 135)
			return PACKET_NOT_TCP;
		if (at > f->have || f->have - at < 8)
			return PACKET_CUT;
		h = f->data + at;
		if (next == 44 && (be16(h + 2) & 0xfff9))
			return PACKET_FRAGMENT;
		at += next == 44 ? 8 : next == 51 ? (h[1] + 2u) * 4 : (h[1] + 1u) * 8;
		next = h[0];
	}
	p->tcp_at = at;
	return next == 6 ? PACKET_TCP : PACKET_NOT_TCP;
}

enum packet_kind packet_read(int link, const struct pcap_frame *f, struct packet *p)
{
	enum packet_kind kind = PACKET_TCP;
	uint32_t end, captured, head;
	const uint8_t *h;

	memset(p, 0, sizeof(*p));
	p->ip_at = skip_link(link, f, &kind);
	if (kind != PACKET_TCP)
		return kind;
	if (f->have <= p->ip_at)
		return PACKET_CUT;
	switch (f->data[p->ip_at] >> 4) {
	case 4:
		kind = read_v4(f, p->ip_at, p, &end);
		break;
	case 6:
		kind = read_v6(f, p->ip_at, p, &end);
		break;
	default:
		return PACKET_NOT_IP;
	}
	if (kind != PACKET_TCP)
		return kind;
	captured = MIN(end, f->have);
	if (p->tcp_at > captured || captured - p->tcp_at < 20)
		return PACKET_CUT;
	h = f->data + p->tcp_at;
	head = (h[12] >> 4) * 4u;
	if (head < 20 || end - p->tcp_at < head)
		return PACKET_CUT;
	p->sport = (uint16_t)be16(h);
	p->dport = (uint16_t)be16(h + 2);
	p->seq = be32(h + 4);
	p->ack = be32(h + 8);
	p->flags = h[13] & (TCP_FIN | TCP_SYN | TCP_RST | TCP_ACK);
	p->data_at = p->tcp_at + head;
	p->len = end - p->data_at;
	p->end = captured;
	p->have = captured > p->data_at ? captured - p->data_at : 0;
	return PACKET_TCP;
}

/* ---- checksums -------------------------------------------------------------------------------------- */
static uint64_t sum16(const uint8_t *p, size_t n, uint64_t sum)
{
	for (; n > 1; p += 2, n -= 2)
		sum += be16(p);
	return n ? sum + ((uint32_t)p[0] << 8) : sum;
}

static void put_sum(uint8_t *to, uint64_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	to[0] = (uint8_t)(~sum >> 8);
	to[1] = (uint8_t)~sum;
}

void packet_checksum(uint8_t *frame, const struct packet *p)
{
	uint8_t *ip = frame + p->ip_at, *tcp = frame + p->tcp_at;
	uint32_t n = p->data_at - p->tcp_at + p->len;
	uint64_t sum = 6 + n; /* the pseudo-header */

	if (p->v4) {
		ip[10] = ip[11] = 0;
		put_sum(ip + 10, sum16(ip, (ip[0] & 15) * 4u, 0));
		sum = sum16(ip + 12, 8, sum);
	} else {
		sum = sum16(ip + 8, 32, sum);
	}
	tcp[16] = tcp[17] = 0;
	put_sum(tcp + 16, sum16(tcp, p->end - p->tcp_at, sum));
}
