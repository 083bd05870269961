// Another's program at the same hooks as ours: counts the packets that reach it, and passes them on.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "Dual BSD/GPL";

struct {
	__u64 in;
	__u64 out;
} seen SEC(".data.seen");

#define GO_ON -1

SEC("tc")
int witness_in(struct __sk_buff *skb)
{
	__sync_fetch_and_add(&seen.in, 1);
	return GO_ON;
}

SEC("tc")
int witness_out(struct __sk_buff *skb)
{
	__sync_fetch_and_add(&seen.out, 1);
	return GO_ON;
}
