// Many UDP flows at a steady pace, and their receiver.
// flood send INTERFACE DESTINATION-MAC FLOWS: a packet of each flow a second, until the process is ended
// flood receive: takes and forgets

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define FRAME_BYTES 64
#define BATCH 500
#define SECOND_NS 1000000000ll
#define PORT 9999

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void put16(unsigned char *at, unsigned value)
{
	at[0] = value >> 8;
	at[1] = value;
}

static void put32(unsigned char *at, unsigned value)
{
	put16(at, value >> 16);
	put16(at + 2, value);
}

static void checksum(unsigned char *ip)
{
	unsigned sum = 0;

	put16(ip + 10, 0);
	for (int i = 0; i < 20; i += 2)
		sum += ip[i] << 8 | ip[i + 1];
	sum = (sum & 0xffff) + (sum >> 16);
	put16(ip + 10, ~((sum & 0xffff) + (sum >> 16)));
}

// From 10.0.0.1 and so on, 4096 ports each, to 10.78.0.1; no UDP checksum, which IPv4 allows.
static void fill(unsigned char *frame, const unsigned char *mac, unsigned flow)
{
	unsigned char *ip = frame + 14, *udp = ip + 20;

	memset(frame, 0, FRAME_BYTES);
	memcpy(frame, mac, 6);
	frame[6] = 2;
	put16(frame + 12, ETHERTYPE_IP);
	ip[0] = 0x45;
	put16(ip + 2, FRAME_BYTES - 14);
	ip[8] = 64;
	ip[9] = IPPROTO_UDP;
	put32(ip + 12, 0x0a000001 + (flow >> 12));
	put32(ip + 16, 0x0a4e0001);
	checksum(ip);
	put16(udp, 1024 + (flow & 4095));
	put16(udp + 2, PORT);
	put16(udp + 4, FRAME_BYTES - 34);
}

static void send_flows(const char *interface, const char *mac_text, unsigned flows)
{
	struct sockaddr_ll to = { .sll_family = AF_PACKET, .sll_halen = 6 };
	static unsigned char frames[BATCH][FRAME_BYTES];
	struct mmsghdr messages[BATCH] = { 0 };
	struct iovec parts[BATCH];
	struct timespec next;
	unsigned char mac[6];
	int fd = socket(AF_PACKET, SOCK_RAW, 0);

	if (fd < 0)
		fail("socket");
	if (sscanf(mac_text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", mac, mac + 1, mac + 2, mac + 3, mac + 4, mac + 5) != 6)
		exit(2);
	to.sll_ifindex = if_nametoindex(interface);
	clock_gettime(CLOCK_MONOTONIC, &next);
	for (unsigned flow = 0;;) {
		for (int i = 0; i < BATCH; i++, flow = (flow + 1) % flows) {
			fill(frames[i], mac, flow);
			parts[i] = (struct iovec){ frames[i], FRAME_BYTES };
			messages[i].msg_hdr = (struct msghdr){
				.msg_name = &to, .msg_namelen = sizeof(to), .msg_iov = &parts[i], .msg_iovlen = 1
			};
		}
		for (int sent = 0; sent < BATCH;) {
			int now = sendmmsg(fd, messages + sent, BATCH - sent, 0);

			if (now < 0)
				fail("sendmmsg");
			sent += now;
		}
		next.tv_nsec += SECOND_NS * BATCH / flows;
		next.tv_sec += next.tv_nsec / SECOND_NS;
		next.tv_nsec %= SECOND_NS;
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
	}
}

static void receive(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(PORT) };
	int fd = socket(AF_INET, SOCK_DGRAM, 0), bytes = 4 << 20;
	char buffer[FRAME_BYTES];

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)))
		fail("socket");
	if (bind(fd, (struct sockaddr *)&at, sizeof(at)))
		fail("bind");
	while (recv(fd, buffer, sizeof(buffer), 0) >= 0)
		;
	fail("recv");
}

int main(int count, char **words)
{
	if (count == 5 && !strcmp(words[1], "send"))
		send_flows(words[2], words[3], atoi(words[4]));
	if (count == 2 && !strcmp(words[1], "receive"))
		receive();
	fprintf(stderr, "usage: flood send INTERFACE MAC FLOWS | flood receive\n");
	return 2;
}
