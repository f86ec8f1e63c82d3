/*
 * pcap_packet.h - a captured frame taken apart, down to the TCP segment in it.
 *
 * Link types: Ethernet (VLAN tags, also stacked), BSD loopback, Linux cooked v1 and v2, raw IP. Pure; nothing beyond the bytes
 * captured is looked at, every length in a header is checked against them.
 */
#ifndef WEIR_CAPTURE_PCAP_PACKET_H
#define WEIR_CAPTURE_PCAP_PACKET_H

#include "capture/pcap_file.h"

#define TCP_FIN 1
#define TCP_SYN 2
#define TCP_RST 4
#define TCP_ACK 16

enum packet_kind {
	PACKET_TCP,
	PACKET_NOT_IP,
	PACKET_NOT_TCP,
	PACKET_FRAGMENT, /* of an IP packet: they are not put together */
	PACKET_CUT,      /* its headers do not fit what was captured, or contradict themselves */
};

/* Offsets count from the frame's first byte. */
struct packet {
	uint8_t saddr[16], daddr[16]; /* IPv4 as ::ffff:a.b.c.d */
	uint16_t sport, dport;
	uint32_t seq, ack;
	uint8_t flags;   /* TCP_* */
	bool v4;
	uint32_t ip_at, tcp_at, data_at;
	uint32_t len;    /* bytes of payload on the wire */
	uint32_t have;   /* of these, captured */
	uint32_t end;    /* of what was captured of the packet, without the link's padding */
};

bool packet_link_known(int link);
enum packet_kind packet_read(int link, const struct pcap_frame *f, struct packet *ret);

/*
 * Computes the checksums of IPv4 and TCP anew, as far as the whole segment was captured; one that was not gets what would be right
 * if the rest were zeros.
 */
void packet_checksum(uint8_t *frame, const struct packet *p);

#endif
