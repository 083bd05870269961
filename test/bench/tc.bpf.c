// What the tc programs are measured against and driven by: nothing, the floor, and a source of flows.
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define GO_ON -1
#define ETHERTYPE_IP 0x0800
#define ETHERTYPE_IPV6 0x86dd
#define TCP 6
#define UDP 17
#define DESTINATION_PORT 443
#define FLOWS_MAX 131072 // as many as the appliance keeps
#define MAPPED 0xffff // the words of ::ffff:a.b.c.d before its address

char _license[] SEC("license") = "Dual BSD/GPL";

SEC("tc")
int bench_empty(struct __sk_buff *skb)
{
	return GO_ON;
}

struct floor_key {
	__u8 source[16];
	__u8 destination[16];
	__u16 source_port;
	__u16 destination_port;
	__u8 protocol;
	__u8 _pad[3];
};

struct floor_counts {
	__u64 packets;
	__u64 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, FLOWS_MAX);
	__type(key, struct floor_key);
	__type(value, struct floor_counts);
} floor_flows SEC(".maps");

static __always_inline int floor_parse(struct __sk_buff *skb, struct floor_key *key)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end, *l4;

	if (data + 14 + 40 > end)
		return -1;
	__builtin_memset(key, 0, sizeof(*key));
	if (*(__u16 *)(data + 12) == bpf_htons(ETHERTYPE_IP)) {
		*(__u16 *)(key->source + 10) = MAPPED;
		*(__u16 *)(key->destination + 10) = MAPPED;
		*(__u32 *)(key->source + 12) = *(__u32 *)(data + 26);
		*(__u32 *)(key->destination + 12) = *(__u32 *)(data + 30);
		key->protocol = *(__u8 *)(data + 23);
		l4 = data + 14 + (*(__u8 *)(data + 14) & 15) * 4;
	} else if (*(__u16 *)(data + 12) == bpf_htons(ETHERTYPE_IPV6)) {
		__builtin_memcpy(key->source, data + 22, 16);
		__builtin_memcpy(key->destination, data + 38, 16);
		key->protocol = *(__u8 *)(data + 20);
		l4 = data + 54;
	} else {
		return -1;
	}
	if (key->protocol != TCP && key->protocol != UDP)
		return 0;
	if (l4 + 8 > end)
		return -1;
	key->source_port = *(__u16 *)l4;
	key->destination_port = *(__u16 *)(l4 + 2);
	return 0;
}

// The least that a program with a kernel hash does: a lookup and two adds.
SEC("tc")
int bench_floor(struct __sk_buff *skb)
{
	struct floor_key key;

	if (floor_parse(skb, &key))
		return GO_ON;
	struct floor_counts *counts = bpf_map_lookup_elem(&floor_flows, &key);
	if (counts) {
		counts->packets++;
		counts->bytes += skb->len;
		return GO_ON;
	}
	struct floor_counts first = { 1, skb->len };
	bpf_map_update_elem(&floor_flows, &key, &first, BPF_NOEXIST);
	return GO_ON;
}

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} driven SEC(".maps");

// Written by the bench: random flows below `flows`, or, where that is 0, the next flow after `next` each time.
struct {
	__u32 flows;
	__u32 next;
	__u32 seed;
	__u32 _pad;
} aim SEC(".data.aim") = { 1, 0, 1, 0 };

// Gives the packet the source address and port of a flow, and goes over to the program under test.
SEC("tc")
int bench_driver(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	__u32 flow;

	if (aim.flows) {
		__u32 x = aim.seed;

		x ^= x << 13;
		x ^= x >> 17;
		x ^= x << 5;
		aim.seed = x;
		flow = ((__u64)x * aim.flows) >> 32;
	} else {
		flow = aim.next++;
	}
	if (data + 14 + 40 + 8 > end)
		return GO_ON;
	// In words as whole as programs read them: a load that spans two stores under way waits for both.
	__u32 ports = bpf_htons(1024 + (flow & 4095)) | (__u32)bpf_htons(DESTINATION_PORT) << 16;
	__u32 address = bpf_htonl(0x0a000001 + (flow >> 12));
	if (*(__u16 *)(data + 12) == bpf_htons(ETHERTYPE_IP)) {
		*(__u32 *)(data + 26) = address;
		*(__u32 *)(data + 34) = ports;
	} else {
		*(__u64 *)(data + 30) = (__u64)address << 32;
		*(__u32 *)(data + 54) = ports;
	}
	bpf_tail_call(skb, &driven, 0);
	return GO_ON;
}
