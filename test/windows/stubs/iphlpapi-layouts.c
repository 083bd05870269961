// dll
// Structures of iphlpapi, filled in by the field names of the headers, for the decoders to read by offset.

#define _WIN32_WINNT 0x0A00
#include <winsock2.h>
#include <ws2tcpip.h>
#include <iphlpapi.h>
#include <windows.h>
#include <string.h>

/** Two sockets a state, and one in a state without a name. Returns how many bytes were written. */
__declspec(dllexport) DWORD FillTcp4(MIB_TCPTABLE_OWNER_PID *table)
{
	table->dwNumEntries = 25;
	for (DWORD i = 0; i < 25; i += 1) {
		MIB_TCPROW_OWNER_PID row = { i == 24 ? 100 : i / 2 + 1, 5, 6, 7, 8, 9 };
		table->table[i] = row;
	}
	return sizeof *table + 24 * sizeof table->table[0];
}

/** One socket that listens, and two that are established. */
__declspec(dllexport) DWORD FillTcp6(MIB_TCP6TABLE_OWNER_PID *table)
{
	memset(table, 1, sizeof *table + 2 * sizeof table->table[0]);
	table->dwNumEntries = 3;
	for (DWORD i = 0; i < 3; i += 1)
		table->table[i].dwState = i == 0 ? MIB_TCP_STATE_LISTEN : MIB_TCP_STATE_ESTAB;
	return sizeof *table + 2 * sizeof table->table[0];
}

__declspec(dllexport) DWORD FillTcpStatistics(MIB_TCPSTATS *out)
{
	MIB_TCPSTATS filled = {
		.dwRtoAlgorithm = 901, .dwRtoMin = 902, .dwRtoMax = 903, .dwMaxConn = 904,
		.dwActiveOpens = 1, .dwPassiveOpens = 2, .dwAttemptFails = 3, .dwEstabResets = 4, .dwCurrEstab = 905,
		.dwInSegs = 5, .dwOutSegs = 6, .dwRetransSegs = 7, .dwInErrs = 8, .dwOutRsts = 9, .dwNumConns = 906,
	};
	*out = filled;
	return sizeof *out;
}

__declspec(dllexport) DWORD FillUdpStatistics(MIB_UDPSTATS *out)
{
	MIB_UDPSTATS filled = {
		.dwInDatagrams = 1, .dwNoPorts = 2, .dwInErrors = 3, .dwOutDatagrams = 4, .dwNumAddrs = 901,
	};
	*out = filled;
	return sizeof *out;
}

__declspec(dllexport) DWORD FillIpStatistics(MIB_IPSTATS *out)
{
	MIB_IPSTATS filled = {
		.dwForwarding = 901, .dwDefaultTTL = 902, .dwInReceives = 1, .dwInHdrErrors = 2, .dwInAddrErrors = 3,
		.dwForwDatagrams = 4, .dwInUnknownProtos = 5, .dwInDiscards = 6, .dwInDelivers = 7, .dwOutRequests = 8,
		.dwRoutingDiscards = 9, .dwOutDiscards = 10, .dwOutNoRoutes = 11, .dwReasmTimeout = 12,
		.dwReasmReqds = 13, .dwReasmOks = 14, .dwReasmFails = 15, .dwFragOks = 16, .dwFragFails = 17,
		.dwFragCreates = 18, .dwNumIf = 903, .dwNumAddr = 904, .dwNumRoutes = 905,
	};
	*out = filled;
	return sizeof *out;
}

__declspec(dllexport) DWORD FillIcmpStatistics(MIB_ICMP_EX *out)
{
	memset(out, 0, sizeof *out);
	out->icmpInStats.dwMsgs = 1;
	out->icmpInStats.dwErrors = 2;
	out->icmpInStats.rgdwTypeCount[8] = 3;
	out->icmpInStats.rgdwTypeCount[255] = 4;
	out->icmpOutStats.dwMsgs = 5;
	out->icmpOutStats.dwErrors = 6;
	out->icmpOutStats.rgdwTypeCount[0] = 7;
	return sizeof *out;
}

static void fill_counts(MIB_IF_ROW2 *row, ULONG64 from)
{
	row->InOctets = from + 1;
	row->InUcastPkts = from + 2;
	row->InNUcastPkts = from + 3;
	row->InDiscards = from + 4;
	row->InErrors = from + 5;
	row->InUnknownProtos = from + 6;
	row->InUcastOctets = from + 7;
	row->InMulticastOctets = from + 8;
	row->InBroadcastOctets = from + 9;
	row->OutOctets = from + 11;
	row->OutUcastPkts = from + 12;
	row->OutNUcastPkts = from + 13;
	row->OutDiscards = from + 14;
	row->OutErrors = from + 15;
	row->OutUcastOctets = from + 17;
	row->OutMulticastOctets = from + 18;
	row->OutBroadcastOctets = from + 19;
	row->OutQLen = 901;
}

/** A network card, two filters upon it, one of the same alias, one without an alias, and the loopback. */
__declspec(dllexport) DWORD FillInterfaces(MIB_IF_TABLE2 *table)
{
	DWORD bytes = FIELD_OFFSET(MIB_IF_TABLE2, Table) + 6 * sizeof table->Table[0];
	memset(table, 0, bytes);
	table->NumEntries = 6;
	for (DWORD i = 0; i < 6; i += 1) {
		MIB_IF_ROW2 *row = &table->Table[i];
		row->InterfaceIndex = 10 + i;
		row->Type = IF_TYPE_ETHERNET_CSMACD;
		row->Mtu = 902;
		wcscpy(row->Alias, L"Ethernet");
		wcscpy(row->Description, L"Card");
		fill_counts(row, 1000 * i);
	}
	table->Table[0].InterfaceAndOperStatusFlags.HardwareInterface = 1;
	table->Table[0].InterfaceAndOperStatusFlags.ConnectorPresent = 1;
	table->Table[1].InterfaceAndOperStatusFlags.FilterInterface = 1;
	table->Table[2].InterfaceAndOperStatusFlags.FilterInterface = 1;
	wcscpy(table->Table[2].Alias, L"Ethernet-WFP Native MAC Layer LightWeight Filter-0000");
	table->Table[3].InOctets = ((ULONG64)1 << 53) + 3;
	table->Table[4].Alias[0] = 0;
	wcscpy(table->Table[5].Alias, L"Loopback Pseudo-Interface 1");
	table->Table[5].Type = IF_TYPE_SOFTWARE_LOOPBACK;
	return bytes;
}
