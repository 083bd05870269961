// dll
// The two 64-bit statistics calls that Wine's iphlpapi lacks. Counts are distinct, so that a wrong offset shows, and
// past what 32 bits, and then 53 bits, can hold.

#define _WIN32_WINNT 0x0A00
#include <winsock2.h>
#include <ws2tcpip.h>
#include <windows.h>

// Written down from the documentation of tcpmib.h and udpmib.h: not every mingw has them.
typedef struct {
	DWORD RtoAlgorithm, RtoMin, RtoMax, MaxConn;
	DWORD ActiveOpens, PassiveOpens, AttemptFails, EstabResets, CurrEstab;
	DWORD64 InSegs, OutSegs;
	DWORD RetransSegs, InErrs, OutRsts, NumConns;
} TcpStatistics2;

typedef struct {
	DWORD64 InDatagrams;
	DWORD NoPorts, InErrors;
	DWORD64 OutDatagrams;
	DWORD NumAddrs;
} UdpStatistics2;

_Static_assert(sizeof(TcpStatistics2) == 72, "as documented");
_Static_assert(sizeof(UdpStatistics2) == 32, "as documented");

static const DWORD64 past_double = (DWORD64)1 << 53;
static DWORD retransmitted;
static ULONG errors[2];

/** What the calls return for IPv4 and for IPv6, and the 32-bit count of IPv4's retransmits. */
__declspec(dllexport) void StubSet(ULONG error4, ULONG error6, DWORD retransmits)
{
	errors[0] = error4;
	errors[1] = error6;
	retransmitted = retransmits;
}

__declspec(dllexport) ULONG WINAPI GetTcpStatisticsEx2(TcpStatistics2 *out, ULONG family)
{
	const TcpStatistics2 of4 = {
		4, 1, 2, 3, 11, 12, 13, 14, 15, past_double + 21, past_double * 2 + 23, retransmitted, 24, 25, 26,
	};
	const TcpStatistics2 of6 = {
		4, 1, 2, 3, 1011, 1012, 1013, 1014, 1015, 1021, past_double * 4 - 5, 1023, 1024, 1025, 1026,
	};
	*out = family == AF_INET6 ? of6 : of4;
	return errors[family == AF_INET6];
}

__declspec(dllexport) ULONG WINAPI GetUdpStatisticsEx2(UdpStatistics2 *out, ULONG family)
{
	const UdpStatistics2 filled = { past_double + 8 + family, 31, 32, ((DWORD64)1 << 40) + family, 33 };
	*out = filled;
	return errors[family == AF_INET6];
}
