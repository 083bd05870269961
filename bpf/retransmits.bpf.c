// TCP segments sent again, by socket.
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

static __always_inline int count(const struct sock_common *socket, __u32 segments)
{
	__u32 half = current_half(), cpu = bpf_get_smp_processor_id();
	struct tally *tally = tally_of(half, cpu);
	struct key key;
	bool fresh;

	if (!tally)
		return 0;
	socket_key(socket, &key);
	__u64 hash = hash_key(&key);
	struct place place = { set_of(half, cpu, hash), tally, tag_of(hash) };
	if (!place.set)
		return 0;
	struct socket_record *record = (struct socket_record *)find(&place, &key, true, &fresh);
	if (fresh)
		record->retransmits = 0;
	record->retransmits += segments;
	tally->seen += segments;
	return 0;
}

// The kernel counts a buffer's segments in TcpRetransSegs (net/ipv4/tcp_output.c, __tcp_retransmit_skb). It also tells
// of attempts that failed since the tracepoint says with which error (6.17).
SEC("tp_btf/tcp_retransmit_skb")
int fovea_retransmit(__u64 *context)
{
	struct sock *sk = (void *)context[0];
	struct sk_buff *skb = (void *)context[1];

	if (bpf_core_field_exists(struct trace_event_raw_tcp_retransmit_skb, err) && (int)context[2])
		return 0;
	struct tcp_skb_cb *cb = (void *)skb->cb;
	__u16 segments = BPF_CORE_READ(cb, tcp_gso_segs);

	return count(&sk->__sk_common, segments ? segments : 1);
}

// A SYN-ACK sent again has no full socket yet.
SEC("tp_btf/tcp_retransmit_synack")
int BPF_PROG(fovea_retransmit_synack, struct sock *sk, struct request_sock *request)
{
	return count(&request->__req_common, 1);
}
