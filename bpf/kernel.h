// Kernel types cut to the fields we read. CO-RE finds them by name in the running kernel's BTF.
#pragma once

#include <linux/types.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct ns_common {
	unsigned int inum; // what /proc/PID/ns/net shows
};

struct net {
	struct ns_common ns;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct net_device {
	int ifindex;
	unsigned short hard_header_len;
	possible_net_t nd_net;
};

struct dst_entry {
	struct net_device *dev;
};

struct skb_shared_info {
	unsigned short gso_size;
	unsigned short gso_segs;
};

struct sk_buff {
	unsigned int len;
	unsigned int data_len;
	__be16 protocol;
	__u16 transport_header;
	__u16 network_header;
	__u16 mac_header;
	__u16 inner_transport_header;
	__u16 inner_network_header;
	__u8 encapsulation : 1; // the inner headers are set
	unsigned int tail;
	unsigned int end;
	unsigned char *head;
	unsigned char *data;
	int skb_iif;
	unsigned long _skb_refdst;
	struct net_device *dev;
	char cb[48];
};

// Here to ask whether the kernel has tcx (6.6).
struct tcx_link {
};

struct in6_addr {
	union {
		__be32 u6_addr32[4];
	} in6_u;
};

struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
};

struct sock {
	struct sock_common __sk_common;
};

struct tcp_sock {
	__u32 srtt_us; // eight times the smoothed round trip time
};

struct request_sock {
	struct sock_common __req_common;
};

// Of the tracepoint's own record; here since its third argument is.
struct trace_event_raw_tcp_retransmit_skb {
	int err;
};

struct tcp_skb_cb {
	union {
		struct {
			__u16 tcp_gso_segs;
		};
	};
};

// Sixteen bytes of any memory, as a type that every kernel knows.
struct timespec64 {
	__s64 tv_sec;
	long tv_nsec;
};

#pragma clang attribute pop

// Lets a program read memory by plain loads, which give 0 where nothing is mapped, at a fraction of what the call of a
// helper costs. From 6.2 on; asked by way of tcx, because before 6.4 no program may ask for a function.
extern void *bpf_rdonly_cast(const void *address, __u32 btf_id) __ksym __weak;

#define CAN_CAST bpf_core_type_exists(struct tcx_link)
#define CAST(type, address) ((type *)bpf_rdonly_cast((const void *)(address), bpf_core_type_id_kernel(type)))
#define READ(type, object, field) (CAN_CAST ? CAST(type, object)->field : BPF_CORE_READ(object, field))

enum skb_drop_reason {
	SKB_NOT_DROPPED_YET,
	SKB_CONSUMED,
	SKB_DROP_REASON_NOT_SPECIFIED,
};
