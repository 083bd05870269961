// Every layout that the eBPF programs share with TypeScript: fixed widths, explicit padding, no bit fields.
// gen.ts reads these from the BTF of the objects and writes contract.gen.ts; it refuses implicit padding.
#pragma once

#include <linux/types.h>
#include <stdbool.h>

// Where a packet was met. Zero is no hook: an empty slot.
enum hook {
	HOOK_INGRESS = 1,
	HOOK_EGRESS = 2,
};

// Why a packet, or a measurement, is in no record.
enum untracked {
	UNTRACKED_NOT_IP = 0, // ARP and other protocols that have no 5-tuple
	UNTRACKED_TRUNCATED = 1, // headers end before the 5-tuple does
	UNTRACKED_EXTENSIONS = 2, // more IPv6 extension headers or VLAN tags than the parser follows
	UNTRACKED_SPILL_FULL = 3, // table and ring buffer full
	UNTRACKED_MAX = 4,
};

enum limits {
	TABLE_WAYS = 15, // records of a set: with the line of tags 1024 bytes
	TCP_FLAG_SETS = 256,
	DROP_REASONS = 2048, // 11 bits of subsystem and reason, see drop_index
	DROP_REASON_BITS = 11,
	DNS_PAYLOAD_MAX = 512,
};

// Packets of one 5-tuple at one hook of one interface, on one CPU, between two swaps. One cache line.
// The first 44 bytes are the key but for tcp_flags. Addresses are IPv6 or IPv4-mapped; ports are in network order
// (ICMP: type and code as the two bytes of source_port).
struct flow_record {
	__u8 source[16];
	__u8 destination[16];
	__u16 source_port;
	__u16 destination_port;
	__u8 protocol;
	__u8 hook;
	__u8 tcp_flags; // OR of all seen
	__u8 _pad;
	__u32 ifindex;
	__u32 first_jiffies; // low 32 bits
	__u32 last_jiffies;
	__u32 packets; // wire packets
	__u64 bytes; // layer 2, headers of each segment included
};

// Packets of one 5-tuple that came in by one interface and were dropped for one reason. Same key places as flow_record.
struct drop_record {
	__u8 source[16];
	__u8 destination[16];
	__u16 source_port;
	__u16 destination_port;
	__u8 protocol;
	__u8 hook; // ingress: it had come in from an interface; egress: it was made on this node
	__u8 tcp_flags;
	__u8 _pad;
	// Low 11 bits: reason, as drop_index has it. Above: the interface that it came in by; 0 when this node made it, when
	// it was dropped in another namespace, and when the number has more than 21 bits.
	__u32 cause;
	__u32 ifindex; // last device; 0 when it had none, or one of another namespace
	__u16 first_jiffies; // low 16 bits: 65 s at 1000 Hz; the longest tick is 60 s
	__u16 last_jiffies;
	__u32 packets;
	__u64 bytes;
};

// What one TCP socket told: source is the local end. Same key places as flow_record.
struct socket_record {
	__u8 source[16];
	__u8 destination[16];
	__u16 source_port;
	__u16 destination_port;
	__u8 protocol;
	__u8 hook;
	__u8 tcp_flags;
	__u8 _pad;
	__u32 scope; // always 0
	__u32 rtt_us; // smoothed by the kernel, as of the last segment
	__u32 rtt_samples;
	__u32 retransmits; // segments
	__u64 _pad2;
};

// A set of the table: one line of tags, then the records. A tag is one byte of the hash, 0 for an empty slot.
struct table_set {
	__u64 tags[2]; // 15 bytes used
	__u32 victim; // next record to give way when the set is full
	__u32 _pad[11];
	struct flow_record slots[15];
};

// Counts of one CPU in one half. They only grow; user space takes differences.
struct tally {
	__u64 seen; // wire packets met on any hook
	__u64 spilled; // of these, left the table through the ring buffer
	__u64 untracked[4];
	__u64 dns_lost; // DNS messages that found the ring buffer full
	__u64 _pad;
};

struct forward {
	__u64 packets;
	__u64 bytes;
};

// Totals of one CPU over the uplinks. Index 0 ingress, 1 egress. Flags: buffers and wire packets by the value of the
// flag byte; only ACK and ECE stand in every segment of a buffer that was cut or joined by offload.
struct totals {
	struct forward forward[2];
	__u64 flag_buffers[512];
	__u64 flag_packets[512];
};

// Totals of one CPU over all drops, by drop_index, ingress then egress.
struct drop_totals {
	struct forward drops[4096];
};

// A DNS message as it passed a hook; `length` bytes of payload follow the header.
struct dns_event {
	__u8 source[16];
	__u8 destination[16];
	__u16 source_port;
	__u16 destination_port;
	__u8 protocol;
	__u8 hook;
	__u16 length;
	__u32 ifindex;
	__u32 _pad;
	__u64 time_ns; // CLOCK_MONOTONIC
	__u8 payload[512];
};

// Two clocks read at once, to turn jiffies of records into time.
struct clock {
	__u64 jiffies;
	__u64 time_ns;
};

// Written by user space before loading; read-only to the programs.
struct settings {
	__u64 hash_keys[5]; // secret and odd, so that nobody can aim at one set
	__u32 shards; // CPUs that have a shard of the table
	__u32 sets_log2; // sets of a shard in one half
	__u32 cpus; // possible CPUs
	__u32 dns_enabled;
	__u32 network_namespace; // our own: the inode number of /proc/thread-self/ns/net
	__u32 _pad;
};
