// The flow table: per CPU, set-associative, in an array map that user space maps and reads without a system call.
// Two halves: programs write into one while user space reads and clears the other. User space swaps them by
// control.epoch and then waits out the programs that may still run in the old half.
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "contract.h"
#include "packet.h"

const volatile struct settings settings SEC(".rodata.settings") = { .shards = 1, .cpus = 1 };

struct {
	__u32 epoch;
} control SEC(".data.control");

// Index: (half * shards + cpu) << sets_log2 | set.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 2); // set at load, from the memory limit
	__type(key, __u32);
	__type(value, struct table_set);
} table SEC(".maps");

// Index: half * CPUs + cpu. Also for CPUs without a shard.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 2); // set at load: 2 * CPUs
	__type(key, __u32);
	__type(value, struct tally);
} tallies SEC(".maps");

// Records that gave way in a full set, a whole record each; read on the tick, never a wake-up.
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096); // set at load
} spills SEC(".maps");

// Makes user space wait for running programs: the kernel ends an update of a map of maps only when no program
// can still see the old inner map. Nothing reads it.
struct barrier_inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} barrier_target SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct barrier_inner);
} barrier SEC(".maps") = { .values = { &barrier_target } };

#define TUPLE_MASK 0x0000ffffffffffffull

// The half that a program writes into, read once: a second look might see the other one.
static __always_inline __u32 current_half(void)
{
	return *(volatile __u32 *)&control.epoch & 1;
}

struct place {
	struct table_set *set;
	struct tally *tally;
	__u64 tag; // 1 to 255
};

// Brings the upper half down, where a product spreads it. Addresses vary in their last bytes, which are the upper ones
// of a word: unfolded, many hosts that talk to many on the same ports would meet in a few sets.
static __always_inline __u64 fold(__u64 word)
{
	return word ^ (word >> 32);
}

// The products do not wait for one another, so that IPv6 costs what IPv4 does; the last one spreads what addresses
// leave in the high bits alone.
static __always_inline __u64 hash_key(const struct key *key)
{
	const volatile __u64 *keys = settings.hash_keys;
	__u64 hash = fold(key->source[1]) * keys[0] + fold(key->destination[1]) * keys[1] +
		     (key->tuple ^ ((__u64)key->scope << 48)) * keys[2] + fold(key->source[0]) * keys[3] +
		     fold(key->destination[0]) * keys[4];

	hash = fold(hash) * keys[0];
	return fold(hash);
}

static __always_inline struct tally *tally_of(__u32 half, __u32 cpu)
{
	__u32 index = half * settings.cpus + cpu;

	return bpf_map_lookup_elem(&tallies, &index);
}

static __always_inline struct table_set *set_of(__u32 half, __u32 cpu, __u64 hash)
{
	__u32 index = ((half * settings.shards + cpu) << settings.sets_log2) |
		      ((__u32)(hash >> 8) & ((1u << settings.sets_log2) - 1));

	return cpu < settings.shards ? bpf_map_lookup_elem(&table, &index) : 0;
}

static __always_inline bool same_key(const struct flow_record *record, const struct key *key)
{
	const __u64 *words = (const __u64 *)record;

	return words[1] == key->source[1] && words[3] == key->destination[1] &&
	       !((words[4] ^ key->tuple) & TUPLE_MASK) && record->ifindex == key->scope && words[0] == key->source[0] &&
	       words[2] == key->destination[0];
}

static __always_inline void set_key(struct flow_record *record, const struct key *key)
{
	__u64 *words = (__u64 *)record;

	words[0] = key->source[0];
	words[1] = key->source[1];
	words[2] = key->destination[0];
	words[3] = key->destination[1];
	words[4] = key->tuple;
	record->ifindex = key->scope;
}

// A record that leaves the kernel by the ring buffer; what does not fit is counted.
static __always_inline void spill(struct tally *tally, const struct flow_record *record, __u32 packets)
{
	if (bpf_ringbuf_output(&spills, (void *)record, sizeof(*record), BPF_RB_NO_WAKEUP))
		tally->untracked[UNTRACKED_SPILL_FULL] += packets;
	else
		tally->spilled += packets;
}

// The record of a key: known, or new with nothing but its key. A record that gives way is spilled where its packets
// count, and forgotten where it is a measurement.
static __always_inline struct flow_record *find(struct place *place, const struct key *key, bool spills_victim,
						bool *fresh)
{
	struct table_set *set = place->set;
	__u64 tag = place->tag;
	struct flow_record *record;

	*fresh = false;
#pragma unroll
	for (int way = 0; way < TABLE_WAYS; way++) {
		__u64 word = set->tags[way >> 3];
		__u64 byte = (word >> ((way & 7) * 8)) & 0xff;

		record = &set->slots[way];
		if (byte == tag && same_key(record, key))
			return record;
		if (!byte) {
			set->tags[way >> 3] = word | (tag << ((way & 7) * 8));
			goto fresh;
		}
	}
	__u64 way = set->victim;
	// Between the two, the compiler makes of the bound a comparison from which verifiers before 6.8 learn nothing.
	barrier_var(way);
	if (way >= TABLE_WAYS)
		way = 0;
	barrier_var(way);
	set->victim = way + 1;
	record = &set->slots[way];
	if (spills_victim)
		spill(place->tally, record, record->packets);
	__u64 shift = (way & 7) * 8;
	if (way < 8)
		set->tags[0] = (set->tags[0] & ~(0xffull << shift)) | (tag << shift);
	else
		set->tags[1] = (set->tags[1] & ~(0xffull << shift)) | (tag << shift);
fresh:
	set_key(record, key);
	*fresh = true;
	return record;
}

static __always_inline __u64 tag_of(__u64 hash)
{
	__u64 tag = hash >> 56;

	return tag ? tag : 1;
}
