// Packets that the kernel freed for a reason, with their 5-tuple. A reason is a number of the running kernel.
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "contract.h"
#include "kernel.h"
#include "packet.h"
#include "table.h"

char _license[] SEC("license") = "Dual BSD/GPL";

#define NO_OFFSET 0xffff // of a header that was never set
#define SUBSYSTEM_SHIFT 16
#define REASON_BITS 8

// Index: cpu.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); // set at load: CPUs
	__type(key, __u32);
	__type(value, struct drop_totals);
} drop_totals SEC(".maps");

// Subsystem (3 bits) and reason (8 bits); user space undoes it. What does not fit shares the last index.
static __always_inline __u32 drop_index(__u32 reason)
{
	__u32 subsystem = reason >> SUBSYSTEM_SHIFT, number = reason & 0xffff;

	if (subsystem > 7 || number > 255)
		return DROP_REASONS - 1;
	return (subsystem << REASON_BITS) | number;
}

// From the network header to the payload of what a tunnel carries, the headers of both.
static __always_inline __u32 tunnel_headers(struct sk_buff *skb)
{
	__u32 network = skb->network_header, at = skb->inner_transport_header;
	__u8 words = 0;

	bpf_probe_read_kernel(&words, 1, skb->head + at + 12);
	return at - network + (words >> 4) * 4; // Segments of anything but TCP are not known to be carried so.
}

// The buffer as the wire would carry it, from the network header on; the link header counts whether or not the
// packet had come to have one.
static __always_inline struct forward wire_of(struct sk_buff *skb, __u32 link, __u32 headers)
{
	__u32 network = skb->network_header;
	__u32 length = skb->len + (__u32)(skb->data - skb->head) - network + link;
	struct skb_shared_info *shared = (void *)(skb->head + skb->end);
	struct forward wire = { 1, length };
	__u32 segment = READ(struct skb_shared_info, shared, gso_size);

	if (!segment || !headers)
		return wire;
	if (BPF_CORE_READ_BITFIELD(skb, encapsulation))
		headers = tunnel_headers(skb);
	// Buffers from a guest or a TUN device may carry a segment size without a count.
	__u32 segments = READ(struct skb_shared_info, shared, gso_segs);
	if (!segments && length > link + headers)
		segments = (length - link - headers + segment - 1) / segment;
	if (segments > 1) {
		wire.packets = segments;
		wire.bytes += (__u64)(segments - 1) * (link + headers);
	}
	return wire;
}

struct device {
	__u32 ifindex; // 0 when there is none, or none of our namespace
	__u32 came_in; // by this interface of our namespace
	__u32 link_length; // of its headers
};

static __always_inline struct device device_of(struct sk_buff *skb)
{
	struct net_device *dev = skb->dev;
	struct dst_entry *route = (void *)(skb->_skb_refdst & ~1ul); // The lowest bit says who holds it.
	struct device device = { skb->skb_iif, skb->skb_iif, ETHERNET_LENGTH };
	__u32 namespace = 0;

	if (dev) {
		namespace = dev->nd_net.net->ns.inum;
		device.ifindex = dev->ifindex;
		device.link_length = dev->hard_header_len;
	}
	// What this node sends has no device before it has passed the firewall's output, and what a UDP socket holds has a
	// number in its place, which reads as 0; but the route leads to one.
	if (!namespace && route) {
		dev = READ(struct dst_entry, route, dev);
		struct net *net = READ(struct net_device, dev, nd_net.net);

		namespace = READ(struct net, net, ns.inum);
		if (!device.came_in) {
			device.ifindex = READ(struct net_device, dev, ifindex);
			device.link_length = READ(struct net_device, dev, hard_header_len);
		}
	}
	// The tracepoint tells of the whole machine, and each namespace numbers its own interfaces.
	if (namespace != settings.network_namespace)
		device.ifindex = device.came_in = 0;
	return device;
}

static __always_inline __u32 link_length(struct sk_buff *skb, const struct device *device)
{
	__u16 mac = skb->mac_header, network = skb->network_header;

	return mac != NO_OFFSET && network > mac ? (__u32)(network - mac) : device->link_length;
}

// Ports from the network header on: early drops have no transport header yet. Extension headers and fragments
// other than the first have no ports here.
static __always_inline void transport_key(struct packet *p, const __u8 *bytes, __u32 at, __u32 room, __u8 protocol,
					  __u8 hook)
{
	__u32 ports = 0;

	p->headers = at;
	if (has_ports(protocol) && room >= 8) {
		ports = *(__u32 *)bytes;
		p->headers = at + 8;
	} else if ((protocol == PROTOCOL_ICMP || protocol == PROTOCOL_ICMPV6) && room >= 4) {
		ports = *(__u16 *)bytes;
	}
	if (protocol == PROTOCOL_TCP && room >= 14) {
		p->tcp_flags = bytes[13];
		p->headers = at + (bytes[12] >> 4) * 4;
	}
	p->key.tuple = tuple_of(ports, protocol, hook);
}

#define HEAD_V4 40 // plain header and at least 16 bytes of the next
#define HEAD_V6 56

// Copies words of 8 bytes. The linear part is always followed by the shared info: reading past the tail stays in
// mapped memory.
static __always_inline bool read_head(void *to, __u32 bytes, __u64 address)
{
	if (!CAN_CAST)
		return !bpf_probe_read_kernel(to, bytes, (void *)address);
#pragma unroll
	for (__u32 at = 0; at < bytes; at += 16) {
		struct timespec64 *from = CAST(struct timespec64, address + at);

		*(__u64 *)(to + at) = from->tv_sec;
		if (at + 8 < bytes)
			*(__u64 *)(to + at + 8) = from->tv_nsec;
	}
	return true;
}

// Bytes of the linear part that follow the network header.
static __always_inline __u32 linear_room(struct sk_buff *skb)
{
	__u32 network = skb->network_header, tail = skb->tail;

	return tail > network ? tail - network : 0;
}

#define DROP_EXTENSIONS_MAX 4

// Follows IPv6 extension headers in the linear part. A fragment other than the first has no ports.
__noinline int parse_extensions(__u64 head, __u32 room, __u8 next, __u8 hook, struct packet *p)
{
	__u8 bytes[16] __attribute__((aligned(8))) = {};
	__u32 at = 40;

	if (!p)
		return false;
	for (int i = 0; i < DROP_EXTENSIONS_MAX && is_extension(next); i++) {
		if (at + 8 > room || !read_head(bytes, 8, head + at))
			break;
		if (next == PROTOCOL_FRAGMENT && (*(__u16 *)(bytes + 2) & bpf_htons(0xfff8)))
			room = 0;
		at += next == PROTOCOL_FRAGMENT ? 8 : next == PROTOCOL_AH ? (bytes[1] + 2) * 4 : (bytes[1] + 1) * 8;
		next = bytes[0];
	}
	if (at >= room || !read_head(bytes, 16, head + at))
		room = 0;
	transport_key(p, bytes, at, room > at ? room - at : 0, next, hook);
	return true;
}

// Where to parse. Passed in memory, because that makes a plain number of the address, as reads and calls want it.
struct start {
	__u64 head; // the network header
	__u32 room; // bytes of the linear part from there
	__u16 protocol;
	__u8 hook;
	__u8 _pad;
};

// Global, so that the verifier looks at it once and not along each path of its callers.
__noinline int parse_drop(const struct start *start, struct packet *p)
{
	__u8 bytes[HEAD_V6] __attribute__((aligned(8)));

	if (!start || !p)
		return false;
	__u64 head = start->head;
	__u32 room = start->room;
	__u16 protocol = start->protocol;
	__u8 hook = start->hook;

	p->tcp_flags = 0;
	p->headers = 0;
	if (protocol == bpf_htons(ETHERTYPE_IP)) {
		if (room < 20 || !read_head(bytes, HEAD_V4, head))
			return false;
		__u32 length = (bytes[0] & 15) * 4;

		p->key.source[0] = 0;
		p->key.source[1] = mapped_v4(*(__u32 *)(bytes + 12));
		p->key.destination[0] = 0;
		p->key.destination[1] = mapped_v4(*(__u32 *)(bytes + 16));
		if (*(__u16 *)(bytes + 6) & bpf_htons(0x1fff))
			room = 0;
		else if (length != 20 && bpf_probe_read_kernel(bytes + 20, 16, (void *)(head + length)))
			room = 0;
		transport_key(p, bytes + 20, length, room > length ? room - length : 0, bytes[9], hook);
		return true;
	}
	if (protocol != bpf_htons(ETHERTYPE_IPV6))
		return false;
	if (room < 40 || !read_head(bytes, HEAD_V6, head))
		return false;
	p->key.source[0] = *(__u64 *)(bytes + 8);
	p->key.source[1] = *(__u64 *)(bytes + 16);
	p->key.destination[0] = *(__u64 *)(bytes + 24);
	p->key.destination[1] = *(__u64 *)(bytes + 32);
	if (is_extension(bytes[6]))
		return parse_extensions(head, room, bytes[6], hook, p);
	transport_key(p, bytes + 40, 40, room - 40, bytes[6], hook);
	return true;
}

static __always_inline void count_record(const struct device *device, struct packet *p, struct place *place,
					 const struct forward *wire)
{
	bool fresh;
	struct drop_record *record = (struct drop_record *)find(place, &p->key, true, &fresh);
	__u16 now = (__u16)bpf_jiffies64();

	if (fresh) {
		record->first_jiffies = now;
		record->packets = 0;
		record->bytes = 0;
	}
	record->last_jiffies = now;
	record->ifindex = device->ifindex;
	record->tcp_flags |= p->tcp_flags;
	record->packets += wire->packets;
	record->bytes += wire->bytes;
}

// What makes drops of one 5-tuple one record, see drop_record.
static __always_inline __u32 cause_of(__u32 reason, const struct device *device)
{
	__u32 came_in = device->came_in;

	return drop_index(reason) | (came_in >> (32 - DROP_REASON_BITS) ? 0 : came_in << DROP_REASON_BITS);
}

static __always_inline int count_drop(struct sk_buff *skb, __u32 reason)
{
	// Buffers of netlink and unix sockets pass here too: they carry no protocol.
	if (!skb->protocol)
		return 0;
	__u32 half = current_half(), cpu = bpf_get_smp_processor_id();
	struct tally *tally = tally_of(half, cpu);
	struct drop_totals *totals = bpf_map_lookup_elem(&drop_totals, &cpu);
	// What was received has an interface that it came in by; what this node made has none. Totals go by this alone: whose
	// direction a packet has is told by roles of interfaces and addresses of the node, which user space knows.
	__u8 hook = skb->skb_iif ? HOOK_INGRESS : HOOK_EGRESS;
	struct packet p;

	if (!tally || !totals)
		return 0;
	struct start start = { (__u64)(skb->head + skb->network_header), linear_room(skb), skb->protocol, hook, 0 };
	bool ip = parse_drop(&start, &p);
	struct device device = device_of(skb);
	struct forward wire = wire_of(skb, link_length(skb, &device), p.headers);
	__u32 index = (hook - 1) * DROP_REASONS + drop_index(reason);
	barrier_var(index); // Or clang 18 proves the mask away that the verifier wants to see.
	totals->drops[index & 4095].packets += wire.packets;
	totals->drops[index & 4095].bytes += wire.bytes;
	tally->seen += wire.packets;
	if (!ip) {
		tally->untracked[UNTRACKED_NOT_IP] += wire.packets;
		return 0;
	}
	p.key.scope = cause_of(reason, &device);
	__u64 hash = hash_key(&p.key);
	struct place place = { set_of(half, cpu, hash), tally, tag_of(hash) };
	if (!place.set) {
		tally->untracked[UNTRACKED_SPILL_FULL] += wire.packets;
		return 0;
	}
	count_record(&device, &p, &place, &wire);
	return 0;
}

// In kernels that name what is consumed apart from what is dropped, the former is no drop.
static __always_inline bool is_drop(int reason)
{
	if (bpf_core_enum_value_exists(enum skb_drop_reason, SKB_CONSUMED) &&
	    reason == (int)bpf_core_enum_value(enum skb_drop_reason, SKB_CONSUMED))
		return false;
	return true;
}

SEC("tp_btf/kfree_skb")
int BPF_PROG(fovea_drop, struct sk_buff *skb, void *location, int reason)
{
	return is_drop(reason) ? count_drop(skb, reason) : 0;
}

// Kernels before 5.17 give no reason: all drops count as reason 0, which user space names.
SEC("tp_btf/kfree_skb")
int BPF_PROG(fovea_drop_old, struct sk_buff *skb)
{
	return count_drop(skb, 0);
}
