// dll
// An iphlpapi of which calls fail as they are told to, and that counts its tables. It has no statistics at all.

#define _WIN32_WINNT 0x0A00
#include <winsock2.h>
#include <ws2tcpip.h>
#include <iphlpapi.h>
#include <windows.h>

static ULONG tcp_errors[2], interfaces_error;
static DWORD needed, grows, tcp_calls, rows;
static LONG live;

/** What GetExtendedTcpTable returns for IPv4 and IPv6; else the bytes it needs, and by how many these grow each time. */
__declspec(dllexport) void StubTcp(ULONG error4, ULONG error6, DWORD needed_bytes, DWORD grows_bytes)
{
	tcp_errors[0] = error4;
	tcp_errors[1] = error6;
	needed = needed_bytes;
	grows = grows_bytes;
	tcp_calls = 0;
}

__declspec(dllexport) DWORD StubTcpCalls(void)
{
	return tcp_calls;
}

/** What GetIfTable2 returns, and how many rows are in its table; 0xffffffff: no table. */
__declspec(dllexport) void StubInterfaces(ULONG error, DWORD row_count)
{
	interfaces_error = error;
	rows = row_count;
}

/** Tables that were given and not freed. */
__declspec(dllexport) LONG StubLive(void)
{
	return live;
}

__declspec(dllexport) DWORD WINAPI GetExtendedTcpTable(void *table, DWORD *size, BOOL order, ULONG family,
						       TCP_TABLE_CLASS class, ULONG reserved)
{
	DWORD given = *size;
	tcp_calls += 1;
	if (order || class != TCP_TABLE_OWNER_PID_ALL || reserved)
		return ERROR_INVALID_PARAMETER;
	if (tcp_errors[family == AF_INET6])
		return tcp_errors[family == AF_INET6];
	*size = needed;
	needed += grows;
	if (given < *size)
		return ERROR_INSUFFICIENT_BUFFER;
	DWORD row_bytes = family == AF_INET6 ? sizeof(MIB_TCP6ROW_OWNER_PID) : sizeof(MIB_TCPROW_OWNER_PID);
	DWORD count = (*size - 4) / row_bytes;
	ZeroMemory(table, *size);
	*(DWORD *)table = count;
	for (DWORD i = 0; i < count; i += 1) {
		char *row = (char *)table + 4 + i * row_bytes;
		DWORD *state = (DWORD *)(family == AF_INET6 ? row + 48 : row);
		*state = MIB_TCP_STATE_TIME_WAIT;
	}
	return NO_ERROR;
}

__declspec(dllexport) ULONG WINAPI GetIfTable2(MIB_IF_TABLE2 **table)
{
	*table = NULL;
	if (interfaces_error || rows == 0xffffffff)
		return interfaces_error;
	DWORD bytes = FIELD_OFFSET(MIB_IF_TABLE2, Table) + rows * sizeof(MIB_IF_ROW2);
	*table = HeapAlloc(GetProcessHeap(), HEAP_ZERO_MEMORY, bytes);
	live += 1;
	(*table)->NumEntries = rows;
	for (DWORD i = 0; i < rows; i += 1)
		(*table)->Table[i].InterfaceIndex = i;
	return NO_ERROR;
}

__declspec(dllexport) void WINAPI FreeMibTable(void *table)
{
	HeapFree(GetProcessHeap(), 0, table);
	live -= 1;
}
