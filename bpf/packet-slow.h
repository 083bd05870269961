// The rare frames: VLAN tags in the data, fragments, IPv6 extension headers, headers outside the linear part.
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "packet.h"

struct fragment_key {
	__u64 source[2];
	__u64 destination[2];
	__u32 id;
	__u32 protocol;
};

// Ports of datagrams under way in fragments: only the first fragment carries them.
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct fragment_key);
	__type(value, __u32);
} fragments SEC(".maps");

struct fragment {
	__u32 id;
	__u16 offset; // bytes
	bool more;
};

// Follows IPv6 extension headers; `at` and `next` move to the transport header. `fragment` is filled by the way.
static __always_inline enum parsed skip_extensions(struct __sk_buff *skb, __u32 *at, __u8 *next,
						   struct fragment *fragment)
{
	for (int i = 0; i < EXTENSIONS_MAX; i++) {
		__u8 header[8] __attribute__((aligned(8)));

		if (!is_extension(*next))
			return PARSED;
		if (bpf_skb_load_bytes(skb, *at, header, 8))
			return PARSE_TRUNCATED;
		if (*next == PROTOCOL_FRAGMENT) {
			__u16 bits = bpf_ntohs(*(__u16 *)(header + 2));

			fragment->offset = bits & 0xfff8;
			fragment->more = bits & 1;
			fragment->id = *(__u32 *)(header + 4);
			*at += 8;
		} else if (*next == PROTOCOL_AH) {
			*at += (header[1] + 2) * 4;
		} else {
			*at += (header[1] + 1) * 8;
		}
		*next = header[0];
		if (fragment->offset)
			return PARSED;
	}
	return is_extension(*next) ? PARSE_EXTENSIONS : PARSED;
}

static __always_inline enum parsed load_ports(struct __sk_buff *skb, struct packet *p, __u32 at, __u8 protocol,
					      __u32 *ports)
{
	__u8 header[16] __attribute__((aligned(8))) = {};

	p->headers = at;
	if (has_ports(protocol)) {
		__u32 length = protocol == PROTOCOL_TCP ? 16 : 8;

		// SCTP and UDP headers are shorter than the 16 bytes that TCP's flags need.
		if (length == 16 ? bpf_skb_load_bytes(skb, at, header, 16) : bpf_skb_load_bytes(skb, at, header, 8))
			return PARSE_TRUNCATED;
		*ports = *(__u32 *)header;
		p->headers = at + 8;
		if (protocol == PROTOCOL_TCP) {
			p->tcp_flags = header[13];
			p->headers = at + (header[12] >> 4) * 4;
		}
	} else if (protocol == PROTOCOL_ICMP || protocol == PROTOCOL_ICMPV6) {
		if (bpf_skb_load_bytes(skb, at, header, 4))
			return PARSE_TRUNCATED;
		*ports = *(__u16 *)header;
	}
	return PARSED;
}

static __always_inline enum parsed fragment_ports(struct packet *p, const struct fragment *fragment, __u8 protocol,
						  __u32 *ports)
{
	struct fragment_key key = { .id = fragment->id, .protocol = protocol };

	__builtin_memcpy(key.source, p->key.source, 32);
	if (fragment->offset) {
		__u32 *known = bpf_map_lookup_elem(&fragments, &key);

		*ports = known ? *known : 0;
	} else if (fragment->more) {
		bpf_map_update_elem(&fragments, &key, ports, BPF_ANY);
	}
	return PARSED;
}

// Every other case, through helpers that reach into the whole buffer: VLAN tags in the data, fragments, extension
// headers, headers outside the linear part. Returns an enum parsed.
__noinline int parse_slow(struct __sk_buff *skb, struct packet *p, __u8 ethernet, __u8 hook)
{
	__u32 at = 0, ports = 0;
	__u16 type = skb->protocol;
	__u8 next = 0, header[40] __attribute__((aligned(8)));
	struct fragment fragment = {};
	enum parsed result;

	if (!p)
		return PARSE_TRUNCATED;
	p->tcp_flags = 0;
	p->headers = 0;
	if (ethernet) {
		if (bpf_skb_load_bytes(skb, 12, &type, 2))
			return PARSE_TRUNCATED;
		at = ETHERNET_LENGTH;
		for (int i = 0; i < VLAN_TAGS_MAX; i++) {
			if (type != bpf_htons(ETHERTYPE_VLAN) && type != bpf_htons(ETHERTYPE_QINQ))
				break;
			if (bpf_skb_load_bytes(skb, at + 2, &type, 2))
				return PARSE_TRUNCATED;
			at += VLAN_TAG_LENGTH;
		}
		if (type == bpf_htons(ETHERTYPE_VLAN) || type == bpf_htons(ETHERTYPE_QINQ))
			return PARSE_EXTENSIONS;
	}
	if (type == bpf_htons(ETHERTYPE_IP)) {
		if (bpf_skb_load_bytes(skb, at, header, 20) || (header[0] & 15) < 5)
			return PARSE_TRUNCATED;
		__u16 bits = bpf_ntohs(*(__u16 *)(header + 6));

		p->key.source[0] = 0;
		p->key.source[1] = mapped_v4(*(__u32 *)(header + 12));
		p->key.destination[0] = 0;
		p->key.destination[1] = mapped_v4(*(__u32 *)(header + 16));
		next = header[9];
		at += (header[0] & 15) * 4;
		fragment.id = *(__u16 *)(header + 4);
		fragment.offset = (bits & 0x1fff) * 8;
		fragment.more = bits & 0x2000;
	} else if (type == bpf_htons(ETHERTYPE_IPV6)) {
		if (bpf_skb_load_bytes(skb, at, header, 40))
			return PARSE_TRUNCATED;
		__builtin_memcpy(p->key.source, header + 8, 32);
		next = header[6];
		at += 40;
		result = skip_extensions(skb, &at, &next, &fragment);
		if (result)
			return result;
	} else {
		return PARSE_NOT_IP;
	}
	p->headers = at;
	if (!fragment.offset) {
		result = load_ports(skb, p, at, next, &ports);
		if (result)
			return result;
	}
	fragment_ports(p, &fragment, next, &ports);
	p->key.tuple = tuple_of(ports, next, hook);
	return PARSED;
}
