// Joins two namespaces by a TUN device in each, and holds every packet for a time on its way.
// tun-relay NAMESPACE DEVICE NAMESPACE DEVICE DELAY_MS; says "ready" when both devices are there; ends with its stdin.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define WAITING_MAX 8192
#define PACKET_MAX 2048

struct packet {
	long long due_ns;
	int length;
	char bytes[PACKET_MAX];
};

// Packets from one device, in order; all wait equally long.
struct way {
	int from, to;
	unsigned first, count;
	struct packet *waiting;
};

static void fail(const char *what)
{
	fprintf(stderr, "tun-relay: %s: %s\n", what, strerror(errno));
	exit(1);
}

static long long now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ll + now.tv_nsec;
}

static int open_tun(const char *namespace, const char *device)
{
	struct ifreq request = { .ifr_flags = IFF_TUN | IFF_NO_PI };
	char path[256];

	snprintf(path, sizeof(path), "/run/netns/%s", namespace);
	int net = open(path, O_RDONLY | O_CLOEXEC);
	if (net < 0 || setns(net, CLONE_NEWNET))
		fail(path);
	close(net);
	int tun = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (tun < 0)
		fail("/dev/net/tun");
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", device);
	if (ioctl(tun, TUNSETIFF, &request))
		fail(device);
	return tun;
}

static void take(struct way *way, long long delay_ns)
{
	while (way->count < WAITING_MAX) {
		struct packet *packet = &way->waiting[(way->first + way->count) % WAITING_MAX];

		packet->length = read(way->from, packet->bytes, PACKET_MAX);
		if (packet->length <= 0)
			return;
		packet->due_ns = now_ns() + delay_ns;
		way->count++;
	}
}

// Returns how long the next packet has to wait, or -1 when there is none.
static long long pass_on(struct way *way)
{
	while (way->count > 0) {
		struct packet *packet = &way->waiting[way->first];
		long long wait_ns = packet->due_ns - now_ns();

		if (wait_ns > 0)
			return wait_ns;
		if (write(way->to, packet->bytes, packet->length) != packet->length)
			fail("write");
		way->first = (way->first + 1) % WAITING_MAX;
		way->count--;
	}
	return -1;
}

int main(int argc, char **argv)
{
	if (argc != 6)
		return 2;
	int a = open_tun(argv[1], argv[2]), b = open_tun(argv[3], argv[4]);
	long long delay_ns = atoll(argv[5]) * 1000000;
	struct way ways[2] = { { .from = a, .to = b }, { .from = b, .to = a } };

	for (int i = 0; i < 2; i++)
		ways[i].waiting = calloc(WAITING_MAX, sizeof(struct packet));
	printf("ready\n");
	fflush(stdout);
	for (;;) {
		struct pollfd polled[3] = { { 0, POLLIN, 0 }, { a, POLLIN, 0 }, { b, POLLIN, 0 } };
		long long waits[2] = { pass_on(&ways[0]), pass_on(&ways[1]) };
		long long wait_ns = waits[0] < 0 || (waits[1] >= 0 && waits[1] < waits[0]) ? waits[1] : waits[0];
		struct timespec timeout = { wait_ns / 1000000000, wait_ns % 1000000000 };

		if (ppoll(polled, 3, wait_ns < 0 ? NULL : &timeout, NULL) < 0)
			fail("ppoll");
		if (polled[0].revents)
			return 0;
		for (int i = 0; i < 2; i++)
			take(&ways[i], delay_ns);
	}
}
