// A stand-in for vfpctrl.exe: prints the counters of a port in shapes that are synthetic, and the faults that are asked for.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <windows.h>

#include <fcntl.h>
#include <io.h>

// Steered by files in this directory. `mode`: one of the words below; json where there is none. `log`: process and
// arguments, a line a call, `CONCURRENT` before those that ran beside another. `PORT.json`, `PORT.txt`: printed as they are.
#define DIRECTORY "C:\\fovea-stubs\\vfpctrl\\"

// Neither form was ever recorded from a real machine: the names are those that public scripts read.
static const char json[] =
	"{\"InformationArray\":[{\"PortCounters\":["
	"{\"Direction\":0,\"TotalPackets\":1000,\"TotalBytes\":100000,\"DroppedPackets\":9,\"DroppedAcl\":4,"
	"\"TcpSynPackets\":12,\"TcpSynAckPackets\":3,\"TcpFinPackets\":9,\"TcpResetPackets\":1,"
	"\"TcpConnectionsVerified\":%s,\"TcpConnectionsTimedOut\":0,\"TcpConnectionsResets\":1,"
	"\"TcpConnectionsResetBySyn\":0,\"TcpConnectionsClosedByFin\":9,\"TcpHalfOpenTimeouts\":2},"
	"{\"Direction\":1,\"TotalPackets\":2000,\"TotalBytes\":200000,\"DroppedPackets\":8,\"DroppedAcl\":7,"
	"\"TcpSynPackets\":5,\"TcpSynAckPackets\":12,\"TcpFinPackets\":8,\"TcpResetPackets\":2,"
	"\"TcpConnectionsVerified\":6,\"TcpConnectionsTimedOut\":1,\"TcpConnectionsResets\":3,"
	"\"TcpConnectionsResetBySyn\":1,\"TcpConnectionsClosedByFin\":7,\"TcpHalfOpenTimeouts\":4}"
	"]}]}\r\n";

static const char text[] = " ITEM LIST\r\n===========\r\n\r\n"
						   "  Direction - OUT\r\n    SYN packets : 12\r\n    Dropped ACL packets : 4\r\n\r\n"
						   "  Direction - IN\r\n    SYN packets : 5\r\n    Dropped ACL packets : 7\r\n\r\n"
						   "Command get-port-counter succeeded!\r\n";

static char mode[32] = "json";

static int mode_is(const char *word)
{
	return strcmp(mode, word) == 0;
}

static void read_mode(void)
{
	FILE *file = fopen(DIRECTORY "mode", "rb");
	if (!file) return;
	if (fscanf(file, "%31s", mode) != 1) strcpy(mode, "json");
	fclose(file);
}

static void write_log(int concurrent, int count, char **words)
{
	FILE *file = fopen(DIRECTORY "log", "ab");
	if (!file) return;
	fprintf(file, "%s%lu", concurrent ? "CONCURRENT " : "", GetCurrentProcessId());
	for (int at = 1; at < count; at++) fprintf(file, " %s", words[at]);
	fputs("\r\n", file);
	fclose(file);
}

static int print_file(const char *port, const char *extension)
{
	char path[MAX_PATH];
	snprintf(path, sizeof path, DIRECTORY "%s.%s", port, extension);
	FILE *file = fopen(path, "rb");
	if (!file) return 0;
	char buffer[4096];
	size_t bytes;
	while ((bytes = fread(buffer, 1, sizeof buffer, file)) > 0) fwrite(buffer, 1, bytes, stdout);
	fclose(file);
	return 1;
}

static int print_counters(const char *port, int wants_json)
{
	if (mode_is("garbage")) return printf("\x01{\"InformationArray\":[{\"PortCou") < 0;
	if (mode_is("huge"))
		for (;;)
			if (puts("0123456789012345678901234567890123456789") < 0) return 1;
	if (mode_is("fail")) return fputs("The port was not found.\r\n", stderr) < 0 ? 1 : 31;
	if (wants_json && mode_is("text")) return ERROR_INVALID_PARAMETER;
	if (wants_json && !mode_is("deaf")) {
		if (!print_file(port, "json")) printf(json, mode_is("large") ? "9007199254740993" : "11");
	} else if (!print_file(port, "txt"))
		fputs(text, stdout);
	return 0;
}

int main(int count, char **words)
{
	HANDLE alone = CreateMutexA(NULL, FALSE, "fovea-stub-vfpctrl");
	DWORD waited = WaitForSingleObject(alone, 0);
	const char *port = "";
	int wants_counters = 0, wants_json = 0;
	_setmode(_fileno(stdout), _O_BINARY);
	read_mode();
	write_log(waited == WAIT_TIMEOUT, count, words);
	for (int at = 1; at < count; at++) {
		if (strcmp(words[at], "/format") == 0 && at + 1 < count) wants_json = strcmp(words[at + 1], "1") == 0;
		if (strcmp(words[at], "/get-port-counter") == 0) wants_counters = 1;
		if (strcmp(words[at], "/port") == 0 && at + 1 < count) port = words[at + 1];
	}
	if (mode_is("hang")) Sleep(INFINITE);
	if (mode_is("slow")) Sleep(300);
	int code = wants_counters ? print_counters(port, wants_json) : ERROR_INVALID_PARAMETER;
	fflush(stdout);
	if (waited != WAIT_TIMEOUT) ReleaseMutex(alone);
	return code;
}
