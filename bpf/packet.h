// Header parsing: from the frame at a tc hook to the key of its flow.
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "contract.h"

#define ETHERTYPE_IP 0x0800
#define ETHERTYPE_IPV6 0x86dd
#define ETHERTYPE_VLAN 0x8100
#define ETHERTYPE_QINQ 0x88a8

#define PROTOCOL_HOP_BY_HOP 0
#define PROTOCOL_ICMP 1
#define PROTOCOL_TCP 6
#define PROTOCOL_UDP 17
#define PROTOCOL_ROUTING 43
#define PROTOCOL_FRAGMENT 44
#define PROTOCOL_AH 51
#define PROTOCOL_ICMPV6 58
#define PROTOCOL_DESTINATION 60
#define PROTOCOL_SCTP 132
#define PROTOCOL_MOBILITY 135
#define PROTOCOL_HIP 139
#define PROTOCOL_SHIM6 140

#define VLAN_TAGS_MAX 3
#define EXTENSIONS_MAX 8
#define ETHERNET_LENGTH 14
#define VLAN_TAG_LENGTH 4

// The 44 bytes that name a record, in the places that flow_record gives them.
struct key {
	__u64 source[2];
	__u64 destination[2];
	__u64 tuple; // ports, protocol, hook; see tuple_of
	__u32 scope;
};

struct packet {
	struct key key;
	__u32 headers; // bytes before the payload, as repeated in each segment
	__u8 tcp_flags;
};

enum parsed {
	PARSED = 0,
	PARSE_NOT_IP,
	PARSE_TRUNCATED,
	PARSE_EXTENSIONS,
	PARSE_SLOW, // not the plain case: ask parse_slow
};

// Bytes 32 to 37 of a record, as one little-endian number: source_port, destination_port, protocol, hook.
static __always_inline __u64 tuple_of(__u32 ports, __u8 protocol, __u8 hook)
{
	return (__u64)ports | ((__u64)protocol << 32) | ((__u64)hook << 40);
}

// ::ffff:a.b.c.d
static __always_inline __u64 mapped_v4(__u32 address)
{
	return ((__u64)address << 32) | 0xffff0000u;
}

static __always_inline bool has_ports(__u8 protocol)
{
	return protocol == PROTOCOL_TCP || protocol == PROTOCOL_UDP || protocol == PROTOCOL_SCTP;
}

static __always_inline bool is_extension(__u8 protocol)
{
	return protocol == PROTOCOL_HOP_BY_HOP || protocol == PROTOCOL_ROUTING || protocol == PROTOCOL_FRAGMENT ||
	       protocol == PROTOCOL_AH || protocol == PROTOCOL_DESTINATION || protocol == PROTOCOL_MOBILITY ||
	       protocol == PROTOCOL_HIP || protocol == PROTOCOL_SHIM6;
}

// The header after IP, all of it in the linear part of the buffer; `at` is its offset in the frame.
static __always_inline enum parsed parse_transport(struct packet *p, void *data, void *end, __u32 at, __u8 protocol,
						   __u8 hook)
{
	void *l4 = data + at;
	__u32 ports = 0;

	p->tcp_flags = 0;
	p->headers = at;
	if (protocol == PROTOCOL_TCP) {
		if (l4 + 20 > end)
			return PARSE_SLOW;
		ports = *(__u32 *)l4;
		p->tcp_flags = ((__u8 *)l4)[13];
		p->headers = at + (((__u8 *)l4)[12] >> 4) * 4;
	} else if (protocol == PROTOCOL_UDP || protocol == PROTOCOL_SCTP) {
		if (l4 + 8 > end)
			return PARSE_SLOW;
		ports = *(__u32 *)l4;
		p->headers = at + 8;
	} else if (protocol == PROTOCOL_ICMP || protocol == PROTOCOL_ICMPV6) {
		if (l4 + 4 > end)
			return PARSE_SLOW;
		ports = *(__u16 *)l4;
	}
	p->key.tuple = tuple_of(ports, protocol, hook);
	return PARSED;
}

// The plain case, on the packet itself: no VLAN tag in the data, no fragment, no IPv6 extension header.
static __always_inline enum parsed parse(struct __sk_buff *skb, struct packet *p, bool ethernet, __u8 hook)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	__u32 at = ethernet ? ETHERNET_LENGTH : 0;
	void *l3 = data + at;

	if (l3 + 20 > end)
		return PARSE_SLOW;
	__u16 type = ethernet ? *(__u16 *)(data + 12) : skb->protocol;
	if (type == bpf_htons(ETHERTYPE_IP)) {
		__u8 words = *(__u8 *)l3 & 15;

		if (words < 5 || (*(__u16 *)(l3 + 6) & bpf_htons(0x3fff)))
			return PARSE_SLOW;
		p->key.source[0] = 0;
		p->key.source[1] = mapped_v4(*(__u32 *)(l3 + 12));
		p->key.destination[0] = 0;
		p->key.destination[1] = mapped_v4(*(__u32 *)(l3 + 16));
		return parse_transport(p, data, end, at + words * 4, *(__u8 *)(l3 + 9), hook);
	}
	if (type != bpf_htons(ETHERTYPE_IPV6) || l3 + 40 > end)
		return PARSE_SLOW;
	__u8 next = *(__u8 *)(l3 + 6);
	if (next != PROTOCOL_TCP && next != PROTOCOL_UDP && is_extension(next))
		return PARSE_SLOW;
	// Whole words, though a frame does not align them: the kernel allows it where the CPU does it well.
	p->key.source[0] = *(__u64 *)(l3 + 8);
	p->key.source[1] = *(__u64 *)(l3 + 16);
	p->key.destination[0] = *(__u64 *)(l3 + 24);
	p->key.destination[1] = *(__u64 *)(l3 + 32);
	return parse_transport(p, data, end, at + 40, next, hook);
}
