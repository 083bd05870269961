// Smoothed round trip time of each TCP socket that received a segment.
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "contract.h"
#include "kernel.h"
#include "packet.h"
#include "socket.h"
#include "table.h"

char _license[] SEC("license") = "Dual BSD/GPL";

// srtt_us is kept times eight (net/ipv4/tcp_input.c, tcp_rtt_estimator).
#define SRTT_SHIFT 3

SEC("tp_btf/tcp_probe")
int BPF_PROG(fovea_rtt, struct sock *sk)
{
	__u32 half = current_half(), cpu = bpf_get_smp_processor_id();
	// Only full TCP sockets come here.
	struct tcp_sock *tcp = CAN_CAST ? CAST(struct tcp_sock, sk) : bpf_skc_to_tcp_sock(sk);
	struct key key;
	bool fresh;

	if (!tcp || !tcp->srtt_us)
		return 0;
	socket_key(&sk->__sk_common, &key);
	__u64 hash = hash_key(&key);
	struct place place = { set_of(half, cpu, hash), 0, tag_of(hash) };
	if (!place.set)
		return 0;
	struct socket_record *record = (struct socket_record *)find(&place, &key, false, &fresh);
	if (fresh)
		record->rtt_samples = 0;
	record->rtt_us = tcp->srtt_us >> SRTT_SHIFT;
	record->rtt_samples++;
	return 0;
}
