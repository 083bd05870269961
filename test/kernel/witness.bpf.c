// Another's program at the same hooks as ours: counts the packets that reach it, and says what it is told to.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "Dual BSD/GPL";

struct {
	__u64 in;
	__u64 out;
	__s64 verdict; // -1: the next program shall decide
} seen SEC(".data.seen") = { .verdict = -1 };

SEC("tc")
int witness_in(struct __sk_buff *skb)
{
	__sync_fetch_and_add(&seen.in, 1);
	return seen.verdict;
}

SEC("tc")
int witness_out(struct __sk_buff *skb)
{
	__sync_fetch_and_add(&seen.out, 1);
	return seen.verdict;
}
