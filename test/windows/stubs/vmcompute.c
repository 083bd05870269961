// dll
/*
 * Stands for vmcompute.dll: HNSCall with answers of the form that HNS gives, in memory of CoTaskMemAlloc.
 *
 * What it answers stands in the file that the environment variable FOVEA_STUB_HNS names, else in C:\fovea-stubs\hns.txt, else is
 * the defaults below. The file is UTF-8, a `key=value` a line, and is read again with each request for /endpoints/.
 *
 *   endpoints=2      how many local endpoints there are, and remote=1, created=0 (local, but at no port) beside them
 *   first=0          number of the first endpoint; endpoint n has the address 10.244.(n / 250).(n % 250 + 1) whatever `first` is
 *   name=pod         names are NAME-n; network=azure is that of all
 *   ports=1          endpoint n has the port 36279ca2-afda-4f06-8d32-(n as 12 hexadecimal digits); 0: none has, as on NAT
 *   start=0          where all counts begin, up to 18446744073709551615
 *   tick             how far they have come, L; without it each request for /endpoints/ is one
 *   switch=0         1: with the counts of the switch that newer versions have; 2: of these the timeouts are not available
 *   case=upper       lower: keys in lower case
 *   removed=0        the last so many are listed, but gone when their counts are asked for; by=answer or hresult
 *   fault            denied, denied-answer, refused, null, empty, garbage, cut, hang: at=list, stats or all, only=n for the
 *                    counts of one endpoint alone; hang ends after seconds=30, or when it is no
 *                    longer set
 *
 * Endpoint n has the id 7eb7bc15-4510-4225-8535-(n as 12 hexadecimal digits). With m = n - first + 1 its counts are start plus:
 * packets L*m in, 2*L*m out; bytes 100*L*m in, 200*L*m out; drops L in, 2*L out; the k-th of the switch k*L in, 2*k*L out.
 */
#include <errno.h>
#include <objbase.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <wchar.h>
#include <windows.h>

typedef struct {
	int endpoints, remote, created, first, ports, switches, removed, seconds, only, lower;
	int has_tick;
	uint64_t start, tick;
	char name[128], network[64], fault[32], at[16], by[16];
} Settings;

static Settings settings;
static int loaded;
static uint64_t lists;
static LONG calls;
static CRITICAL_SECTION lock;

typedef struct {
	char *bytes;
	size_t length, size;
} Text;

static void add(Text *text, const char *format, ...)
{
	char piece[2048];
	va_list arguments;
	va_start(arguments, format);
	int length = __mingw_vsnprintf(piece, sizeof piece, format, arguments);
	va_end(arguments);
	if (length < 0)
		return;
	if (text->length + length + 1 > text->size) {
		text->size = 2 * (text->size + length + 1);
		text->bytes = realloc(text->bytes, text->size);
	}
	memcpy(text->bytes + text->length, piece, length + 1);
	text->length += length;
}

static HRESULT answer(const char *utf8, PWSTR *response)
{
	int length = MultiByteToWideChar(CP_UTF8, 0, utf8, -1, NULL, 0);
	*response = CoTaskMemAlloc(length * sizeof(WCHAR));
	MultiByteToWideChar(CP_UTF8, 0, utf8, -1, *response, length);
	return S_OK;
}

static HRESULT answer_text(Text *text, PWSTR *response)
{
	HRESULT result = answer(text->bytes, response);
	free(text->bytes);
	return result;
}

static void copy(char *target, size_t size, const char *value)
{
	__mingw_snprintf(target, size, "%s", value);
}

static void set(Settings *s, const char *key, const char *value)
{
	struct {
		const char *key;
		int *value;
	} numbers[] = {
		{ "endpoints", &s->endpoints }, { "remote", &s->remote },   { "created", &s->created },
		{ "first", &s->first },		{ "ports", &s->ports },	    { "switch", &s->switches },
		{ "removed", &s->removed },	{ "seconds", &s->seconds }, { "only", &s->only },
	};
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
		if (!strcmp(key, numbers[i].key))
			*numbers[i].value = atoi(value);
	if (!strcmp(key, "start"))
		s->start = strtoull(value, NULL, 10);
	if (!strcmp(key, "tick")) {
		s->has_tick = 1;
		s->tick = strtoull(value, NULL, 10);
	}
	if (!strcmp(key, "case"))
		s->lower = !strcmp(value, "lower");
	if (!strcmp(key, "name"))
		copy(s->name, sizeof s->name, value);
	if (!strcmp(key, "network"))
		copy(s->network, sizeof s->network, value);
	if (!strcmp(key, "fault"))
		copy(s->fault, sizeof s->fault, value);
	if (!strcmp(key, "at"))
		copy(s->at, sizeof s->at, value);
	if (!strcmp(key, "by"))
		copy(s->by, sizeof s->by, value);
}

/* The file may be in the middle of being replaced. */
static FILE *open_settings(void)
{
	WCHAR named[MAX_PATH];
	DWORD length = GetEnvironmentVariableW(L"FOVEA_STUB_HNS", named, MAX_PATH);
	const WCHAR *path = length > 0 && length < MAX_PATH ? named : L"C:\\fovea-stubs\\hns.txt";
	FILE *file = _wfopen(path, L"rb");
	for (int left = 1000; file == NULL && errno == EACCES && left > 0; left--) {
		Sleep(5);
		file = _wfopen(path, L"rb");
	}
	return file;
}

static void load(void)
{
	Settings fresh = { .endpoints = 2, .remote = 1, .ports = 1, .seconds = 30, .only = -1 };
	copy(fresh.name, sizeof fresh.name, "pod");
	copy(fresh.network, sizeof fresh.network, "azure");
	copy(fresh.at, sizeof fresh.at, "all");
	copy(fresh.by, sizeof fresh.by, "answer");
	FILE *file = open_settings();
	char line[512];
	while (file != NULL && fgets(line, sizeof line, file) != NULL) {
		line[strcspn(line, "\r\n")] = 0;
		char *value = strchr(line, '=');
		if (value == NULL)
			continue;
		*value++ = 0;
		set(&fresh, line, value);
	}
	if (file != NULL)
		fclose(file);
	settings = fresh;
	loaded = 1;
}

/* A key in the case that is set. Four a call at most. */
static const char *key(const char *name)
{
	static __thread char lowered[4][64];
	static __thread int next;
	if (!settings.lower)
		return name;
	char *target = lowered[next++ % 4];
	copy(target, sizeof lowered[0], name);
	return _strlwr(target);
}

static void add_endpoint(Text *text, int n, int state, int remote)
{
	int place = n - settings.first;
	const char *separator = text->bytes[text->length - 1] == '[' ? "" : ",";
	add(text, "%s{\"ActivityId\":\"9AC791A8-64D1-472F-8747-416171579605\",\"%s\":132178696023852504,", separator,
	    key("CreateProcessingStartTime"));
	add(text, "\"%s\":\"7EB7BC15-4510-4225-8535-%012X\",\"%s\":\"10.%d.%d.%d\",", key("ID"), n, key("IPAddress"),
	    remote ? 245 : 244, place / 250, place % 250 + 1);
	add(text, "\"%s\":\"00-15-5D-AB-58-C6\",\"%s\":\"%s-%d\",\"Policies\":[],\"PrefixLength\":20,", key("MacAddress"),
	    key("Name"), settings.name, n);
	if (remote)
		add(text, "\"%s\":true,", key("IsRemoteEndpoint"));
	add(text, "\"%s\":{\"Health\":{\"LastErrorCode\":0},\"%s\":[{\"IsPolicy\":true,\"Tag\":\"ACL Policy\"}", key("Resources"),
	    key("Allocators"));
	if (settings.ports && !remote)
		add(text,
		    ",{\"%s\":\"36279CA2-AFDA-4F06-8D32-%012X\","
		    "\"SwitchId\":\"AD02CD3D-7383-41FD-92D2-26F0FB81A531\",\"%s\":\"Endpoint Port\"}",
		    key("EndpointPortGuid"), n, key("Tag"));
	add(text, "]},\"SharedContainers\":[],\"%s\":%d,\"Type\":\"l2bridge\",\"Version\":38654705666,", key("State"), state);
	add(text, "\"VirtualNetwork\":\"5C242C1E-8E0F-4F65-B9E0-A0B7A6EA41E2\",\"%s\":\"%s\"}", key("VirtualNetworkName"),
	    settings.network);
}

static HRESULT list(PWSTR *response)
{
	Text text = { 0 };
	int n = settings.first;
	add(&text, "{\"%s\":true,\"%s\":[", key("Success"), key("Output"));
	for (int i = 0; i < settings.endpoints; i++)
		add_endpoint(&text, n++, 3, 0);
	for (int i = 0; i < settings.created; i++)
		add_endpoint(&text, n++, 1, 0);
	for (int i = 0; i < settings.remote; i++)
		add_endpoint(&text, n++, 1, 1);
	add(&text, "]}");
	return answer_text(&text, response);
}

static void add_switch(Text *text, uint64_t level)
{
	static const char *names[] = {
		"SynPackets",		    "SynAckPackets",	   "FinPackets",
		"RstPackets",		    "TcpConnectionsVerified", "TcpConnectionsTimedOut",
		"TcpConnectionsReset",	    "TcpConnectionsResetBySyn", "TcpConnectionsClosedByFin",
		"TcpHalfOpenTimeouts",	    "TcpConnectionsTimeWait", "DropAcl",
	};
	for (int k = 0; k < 12; k++) {
		char in[64], out[64];
		int missing = settings.switches == 2 && strstr(names[k], "Time") != NULL && k != 10;
		uint64_t count = settings.start + (uint64_t)(k + 1) * level;
		copy(in, sizeof in, names[k]);
		copy(out, sizeof out, names[k]);
		strcat(in, "In");
		strcat(out, "Out");
		add(text, ",\"%s\":%llu", key(in), missing ? UINT64_MAX : count);
		add(text, ",\"%s\":%llu", key(out), missing ? UINT64_MAX : count + (uint64_t)(k + 1) * level);
	}
}

static HRESULT statistics(int n, PWSTR *response)
{
	Text text = { 0 };
	uint64_t level = settings.has_tick ? settings.tick : lists;
	uint64_t each = level * (uint64_t)(n - settings.first + 1);
	add(&text, "{\"%s\":true,\"%s\":{", key("Success"), key("Output"));
	add(&text, "\"%s\":%llu,\"%s\":%llu,", key("BytesReceived"), settings.start + 100 * each, key("BytesSent"),
	    settings.start + 200 * each);
	add(&text, "\"%s\":%llu,\"%s\":%llu,", key("DroppedPacketsIncoming"), settings.start + level,
	    key("DroppedPacketsOutgoing"), settings.start + 2 * level);
	add(&text, "\"EndpointId\":\"7EB7BC15-4510-4225-8535-%012X\",\"InstanceId\":\"%08lX-0000-0000-0000-000000000000\",", n, calls);
	add(&text, "\"%s\":%llu,\"%s\":%llu", key("PacketsReceived"), settings.start + each, key("PacketsSent"),
	    settings.start + 2 * each);
	if (settings.switches)
		add_switch(&text, level);
	add(&text, "}}");
	return answer_text(&text, response);
}

static int is_fault(const char *name)
{
	return !strcmp(settings.fault, name);
}

/* S_FALSE: no fault, answer as usual. */
static HRESULT fault(PWSTR *response)
{
	if (is_fault("denied"))
		return (HRESULT)0x80070005;
	if (is_fault("denied-answer"))
		return answer("{\"Success\":false,\"Error\":\"Access is denied. \",\"ErrorCode\":2147942405}", response);
	if (is_fault("refused"))
		return answer("{\"Success\":false,\"Error\":\"The parameter is incorrect. \",\"ErrorCode\":2147942487}", response);
	if (is_fault("null"))
		return S_OK;
	if (is_fault("empty"))
		return answer("", response);
	if (is_fault("garbage"))
		return answer("<html>\r\n502 Bad Gateway\r\n</html>", response);
	if (is_fault("cut"))
		return answer("{\"Success\":true,\"Output\":{\"BytesReceived\":12", response);
	int left = settings.seconds * 50;
	while (is_fault("hang") && left-- > 0) {
		Sleep(20);
		load();
	}
	return S_FALSE;
}

static HRESULT gone(PWSTR *response)
{
	if (!strcmp(settings.by, "hresult"))
		return (HRESULT)0x80070490;
	return answer("{\"Success\":false,\"Error\":\"Element not found. \",\"ErrorCode\":2147943568}", response);
}

static HRESULT get_list(PWSTR *response)
{
	load();
	lists++;
	if (strcmp(settings.at, "stats")) {
		HRESULT result = fault(response);
		if (result != S_FALSE)
			return result;
	}
	return list(response);
}

static HRESULT get_statistics(PCWSTR id, PWSTR *response)
{
	unsigned n;
	if (!loaded)
		load();
	if (_wcsnicmp(id, L"7EB7BC15-4510-4225-8535-", 24) || swscanf(id + 24, L"%x", &n) != 1)
		return gone(response);
	int place = (int)n - settings.first;
	if (place < 0 || place >= settings.endpoints - settings.removed)
		return gone(response);
	if (strcmp(settings.at, "list") && (settings.only < 0 || settings.only == (int)n)) {
		HRESULT result = fault(response);
		if (result != S_FALSE)
			return result;
	}
	return statistics((int)n, response);
}

__declspec(dllexport) HRESULT WINAPI HNSCall(PCWSTR method, PCWSTR path, PCWSTR request, PWSTR *response)
{
	HRESULT result = (HRESULT)0x80070490;
	EnterCriticalSection(&lock);
	calls++;
	*response = NULL;
	if (request == NULL || wcscmp(method, L"GET"))
		result = (HRESULT)0x80070057;
	else if (!wcscmp(path, L"/endpoints/"))
		result = get_list(response);
	else if (!wcsncmp(path, L"/endpointstats/", 15))
		result = get_statistics(path + 15, response);
	LeaveCriticalSection(&lock);
	return result;
}

/* How many calls there were in this process. */
__declspec(dllexport) LONG WINAPI StubCalls(void)
{
	return calls;
}

BOOL WINAPI DllMain(HINSTANCE instance, DWORD reason, LPVOID reserved)
{
	(void)instance;
	(void)reserved;
	if (reason == DLL_PROCESS_ATTACH)
		InitializeCriticalSection(&lock);
	return TRUE;
}
