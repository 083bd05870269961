// Reads the kernel's two clocks at once, for user space to run each tick; attached to nothing.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "contract.h"

char _license[] SEC("license") = "Dual BSD/GPL";

struct clock clock SEC(".data.clock");

// Of this type, because a test run of others frees a packet, which kfree_skb would show as a drop of ours.
SEC("raw_tp")
int read_clock(void *context)
{
	clock.jiffies = bpf_jiffies64();
	clock.time_ns = bpf_ktime_get_ns();
	return 0;
}
