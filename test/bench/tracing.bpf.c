// What the tracing programs are measured against, and a source of frames for the receive path.
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char _license[] SEC("license") = "Dual BSD/GPL";

SEC("tp_btf/kfree_skb")
int BPF_PROG(bench_empty_drop, void *skb, void *location, int reason)
{
	return 0;
}

SEC("tp_btf/tcp_probe")
int BPF_PROG(bench_empty_rtt, void *sk)
{
	return 0;
}

// Random flows below `flows`.
struct {
	__u32 flows;
	__u32 seed;
} frames SEC(".data.frames") = { 1, 1 };

// Run with live frames, this hands IPv4 frames of random flows to the stack as if the interface had received them.
SEC("xdp")
int bench_frames(struct xdp_md *frame)
{
	void *data = (void *)(long)frame->data, *end = (void *)(long)frame->data_end;
	__u32 x = frames.seed, sum = 0;

	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	frames.seed = x;
	__u32 flow = ((__u64)x * frames.flows) >> 32;
	if (data + 42 > end)
		return XDP_DROP;
	*(__u32 *)(data + 26) = bpf_htonl(0x0a000001 + (flow >> 12));
	*(__u16 *)(data + 34) = bpf_htons(1024 + (flow & 4095));
	*(__u16 *)(data + 24) = 0;
#pragma unroll
	for (int word = 0; word < 10; word++)
		sum += *(__u16 *)(data + 14 + word * 2);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	*(__u16 *)(data + 24) = ~sum;
	return XDP_PASS;
}
