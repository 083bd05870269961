// Totals and flows at the tc hooks of every interface. Packets always go on, untouched.
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "contract.h"
#include "kernel.h"
#include "packet.h"
#include "packet-slow.h"
#include "table.h"

char _license[] SEC("license") = "Dual BSD/GPL";

// Equals TCX_NEXT and TC_ACT_UNSPEC: the next program or filter decides.
#define GO_ON -1
#define PORT_DNS 53

// Index: cpu.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); // set at load: CPUs
	__type(key, __u32);
	__type(value, struct totals);
} uplink_totals SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} dns_events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct dns_event);
} dns_scratch SEC(".maps");

// Wire packets and bytes of a buffer that may stand for many segments (GSO, GRO).
struct wire {
	__u32 packets;
	__u64 bytes;
};

extern void *bpf_cast_to_kern_ctx(void *context) __ksym __weak;

// What a tunnel repeats in each segment: its own headers and those inside. The kernel knows where they are.
__noinline int tunnel_headers(struct __sk_buff *skb, __u32 headers)
{
	__u8 inner[10] __attribute__((aligned(8))), words;

	// Older kernels may have the function, but do not load a program that asks whether they do.
	if (!bpf_core_type_exists(struct tcx_link))
		return headers;
	struct sk_buff *kernel = bpf_cast_to_kern_ctx(skb);
	if (!BPF_CORE_READ_BITFIELD(kernel, encapsulation))
		return headers;
	__u32 front = kernel->data - kernel->head, at = kernel->inner_transport_header - front;
	if (bpf_skb_load_bytes(skb, kernel->inner_network_header - front, inner, 10))
		return headers;
	__u8 protocol = inner[0] >> 4 == 4 ? inner[9] : inner[6];
	if (protocol != PROTOCOL_TCP)
		return at + 8;
	return bpf_skb_load_bytes(skb, at + 12, &words, 1) ? headers : at + (words >> 4) * 4;
}

static __always_inline struct wire wire_of(struct __sk_buff *skb, __u32 headers, bool tcp)
{
	__u32 tag = skb->vlan_present ? VLAN_TAG_LENGTH : 0;
	struct wire wire = { 1, skb->len + tag };
	__u32 segment = skb->gso_size;

	if (!segment)
		return wire;
	if (!tcp)
		headers = tunnel_headers(skb, headers);
	// Buffers from a guest or a TUN device may carry a segment size without a count.
	__u32 segments = skb->gso_segs;
	if (!segments && skb->len > headers)
		segments = (skb->len - headers + segment - 1) / segment;
	if (segments > 1) {
		wire.packets = segments;
		wire.bytes += (__u64)(segments - 1) * (headers + tag);
	}
	return wire;
}

static __always_inline void count_uplink(__u32 cpu, __u32 direction, const struct wire *wire, bool tcp, __u8 flags)
{
	struct totals *totals = bpf_map_lookup_elem(&uplink_totals, &cpu);

	if (!totals)
		return;
	totals->forward[direction].packets += wire->packets;
	totals->forward[direction].bytes += wire->bytes;
	if (tcp) {
		totals->flag_buffers[direction * TCP_FLAG_SETS + flags]++;
		totals->flag_packets[direction * TCP_FLAG_SETS + flags] += wire->packets;
	}
}

// Copies a DNS message out; the address of its payload follows from the headers that parse measured. Global, as every
// function that is not inlined here, so that the verifier looks at it once and not along each path of its callers.
__noinline int copy_dns(struct __sk_buff *skb, struct packet *p, struct tally *tally)
{
	__u32 zero = 0;
	struct dns_event *event = bpf_map_lookup_elem(&dns_scratch, &zero);

	if (!event || !tally || !p)
		return 0;
	__u32 at = p->headers;
	if (skb->len <= at)
		return 0;
	__u32 length = skb->len - at;
	if (length < 12)
		return 0;
	if (length > DNS_PAYLOAD_MAX)
		length = DNS_PAYLOAD_MAX;
	set_key((struct flow_record *)event, &p->key);
	event->ifindex = p->key.scope;
	event->length = length;
	event->_pad = 0;
	event->time_ns = bpf_ktime_get_ns();
	if (bpf_skb_load_bytes(skb, at, event->payload, length))
		return 0;
	if (bpf_ringbuf_output(&dns_events, event, sizeof(*event) - DNS_PAYLOAD_MAX + length, BPF_RB_NO_WAKEUP))
		tally->dns_lost++;
	return 0;
}

static __always_inline bool is_dns(__u64 tuple)
{
	__u8 protocol = tuple >> 32;
	__u16 port = bpf_htons(PORT_DNS);

	return (protocol == PROTOCOL_UDP || protocol == PROTOCOL_TCP) &&
	       ((__u16)tuple == port || (__u16)(tuple >> 16) == port);
}

static __always_inline void add(struct flow_record *record, const struct packet *p, const struct wire *wire)
{
	record->tcp_flags |= p->tcp_flags;
	record->packets += wire->packets;
	record->bytes += wire->bytes;
	record->last_jiffies = (__u32)bpf_jiffies64();
}

static __always_inline void clear_counts(struct flow_record *record)
{
	record->first_jiffies = (__u32)bpf_jiffies64();
	record->packets = 0;
	record->bytes = 0;
}

// A CPU that came online after the start has no shard: its packets spill one by one.
__noinline int spill_packet(struct packet *p, struct wire *wire, struct tally *tally)
{
	struct flow_record record = {};

	if (!tally || !p || !wire)
		return 0;
	set_key(&record, &p->key);
	clear_counts(&record);
	add(&record, p, wire);
	spill(tally, &record, record.packets);
	return 0;
}

static __always_inline int observe(struct __sk_buff *skb, __u8 hook, bool ethernet, bool uplink)
{
	struct packet p;
	__u32 half = current_half(), cpu = bpf_get_smp_processor_id();
	struct tally *tally = tally_of(half, cpu);
	enum parsed parsed = parse(skb, &p, ethernet, hook);
	bool fresh;

	if (!tally)
		return GO_ON;
	if (parsed == PARSE_SLOW)
		parsed = parse_slow(skb, &p, ethernet, hook);
	if (parsed != PARSED) {
		p.headers = 0;
		p.key.tuple = 0;
	}
	bool tcp = (__u8)(p.key.tuple >> 32) == PROTOCOL_TCP;
	struct wire wire = wire_of(skb, p.headers, tcp);
	tally->seen += wire.packets;
	if (uplink)
		count_uplink(cpu, hook - 1, &wire, tcp, p.tcp_flags);
	if (parsed != PARSED) {
		tally->untracked[(parsed - PARSE_NOT_IP) & 3] += wire.packets;
		return GO_ON;
	}
	p.key.scope = skb->ifindex;
	if (settings.dns_enabled && is_dns(p.key.tuple))
		copy_dns(skb, &p, tally);
	__u64 hash = hash_key(&p.key);
	struct place place = { set_of(half, cpu, hash), tally, tag_of(hash) };
	if (!place.set) {
		spill_packet(&p, &wire, tally);
		return GO_ON;
	}
	struct flow_record *record = find(&place, &p.key, true, &fresh);
	if (fresh)
		clear_counts(record);
	add(record, &p, &wire);
	return GO_ON;
}

// One program a kind of interface: with or without an Ethernet header, uplink or not.
#define HOOK(name, hook, ethernet, uplink)                                                                             \
	SEC("tc")                                                                                                      \
	int name(struct __sk_buff *skb)                                                                                \
	{                                                                                                              \
		return observe(skb, hook, ethernet, uplink);                                                           \
	}

HOOK(fovea_in, HOOK_INGRESS, true, false)
HOOK(fovea_out, HOOK_EGRESS, true, false)
HOOK(fovea_in_up, HOOK_INGRESS, true, true)
HOOK(fovea_out_up, HOOK_EGRESS, true, true)
HOOK(fovea_in_l3, HOOK_INGRESS, false, false)
HOOK(fovea_out_l3, HOOK_EGRESS, false, false)
HOOK(fovea_in_l3_up, HOOK_INGRESS, false, true)
HOOK(fovea_out_l3_up, HOOK_EGRESS, false, true)
