// From a TCP socket to the key of its flow; the local end is the source.
#pragma once

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>

#include "kernel.h"
#include "packet.h"

#define FAMILY_INET 2

static __always_inline __u64 two_words(__u32 low, __u32 high)
{
	return low | ((__u64)high << 32);
}

// Plain loads, which tracing programs may do and which cost a tenth of a read through a helper.
static __always_inline void socket_key(const struct sock_common *socket, struct key *key)
{
	__u32 ports = (__u32)bpf_htons(socket->skc_num) | ((__u32)socket->skc_dport << 16);

	if (socket->skc_family == FAMILY_INET) {
		key->source[0] = 0;
		key->source[1] = mapped_v4(socket->skc_rcv_saddr);
		key->destination[0] = 0;
		key->destination[1] = mapped_v4(socket->skc_daddr);
	} else {
		const __be32 *local = socket->skc_v6_rcv_saddr.in6_u.u6_addr32;
		const __be32 *remote = socket->skc_v6_daddr.in6_u.u6_addr32;

		key->source[0] = two_words(local[0], local[1]);
		key->source[1] = two_words(local[2], local[3]);
		key->destination[0] = two_words(remote[0], remote[1]);
		key->destination[1] = two_words(remote[2], remote[3]);
	}
	key->tuple = tuple_of(ports, PROTOCOL_TCP, HOOK_EGRESS);
	key->scope = 0;
}
