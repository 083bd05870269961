// A stand-in for pktmon.exe: one session on the machine, kept in files; what it prints is synthetic.

#include <errno.h>
#include <fcntl.h>
#include <io.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <windows.h>

// Steered by files in this directory. `mode`: hang, hang-start, garbage, fail, old (no --type), ancient (no --counters-only
// either), or nothing. `session`: there while a session runs, and what its status says. `counters.json`: printed as it is.
// `idle`: what the status says else. `log`: process and arguments, a line a call. A file that is there and cannot be used ends it
// with a code of its own, so that a test which fails of it says so.
#define DIRECTORY "C:\\fovea-stubs\\pktmon\\"

static char mode[32] = "";

static int mode_is(const char *word)
{
	return strcmp(mode, word) == 0;
}

// Whoever reads or writes the file just then is done in a moment. NULL: there is none.
static FILE *open_file(const char *path, const char *how)
{
	FILE *file = fopen(path, how);
	for (int left = 1000; !file && errno != ENOENT; left--) {
		if (left == 0) {
			fprintf(stderr, "stand-in: %s: %s\r\n", path, strerror(errno));
			exit(99);
		}
		Sleep(5);
		file = fopen(path, how);
	}
	return file;
}

static void read_mode(void)
{
	FILE *file = open_file(DIRECTORY "mode", "rb");
	if (!file) return;
	if (fscanf(file, "%31s", mode) != 1) mode[0] = 0;
	fclose(file);
}

static void write_log(int count, char **words)
{
	FILE *file = open_file(DIRECTORY "log", "ab");
	if (!file) return;
	fprintf(file, "%lu", GetCurrentProcessId());
	for (int at = 1; at < count; at++) fprintf(file, " %s", words[at]);
	fputs("\r\n", file);
	fclose(file);
}

static int print_file(const char *path)
{
	FILE *file = open_file(path, "rb");
	if (!file) return 0;
	char buffer[4096];
	size_t bytes;
	while ((bytes = fread(buffer, 1, sizeof buffer, file)) > 0) fwrite(buffer, 1, bytes, stdout);
	fclose(file);
	return 1;
}

static int has(int count, char **words, const char *word)
{
	for (int at = 2; at < count; at++)
		if (strcmp(words[at], word) == 0) return 1;
	return 0;
}

static int refuse(const char *why, int code)
{
	printf("%s\r\n", why);
	return code;
}

static int start(void)
{
	if (GetFileAttributesA(DIRECTORY "session") != INVALID_FILE_ATTRIBUTES)
		return refuse("Packet Monitor is already started.", ERROR_ALREADY_EXISTS);
	FILE *file = open_file(DIRECTORY "session", "wb");
	if (!file) return 1;
	fputs("\r\nCollected data:\r\n    Packet counters\r\n\r\nCapture type:\r\n    Drop\r\n\r\n"
		  "Monitored components:\r\n    All\r\n\r\nPacket filters:\r\n    None\r\n",
		  file);
	fclose(file);
	return refuse("Active measurement started.", 0);
}

static int status(void)
{
	if (print_file(DIRECTORY "session") || print_file(DIRECTORY "idle")) return 0;
	return refuse("Packet Monitor is not running.", 0);
}

static int stop(void)
{
	for (int left = 1000; !DeleteFileA(DIRECTORY "session"); left--) {
		DWORD error = GetLastError();
		if (error == ERROR_FILE_NOT_FOUND) return refuse("Packet Monitor is not running.", 1);
		if (left == 0) {
			fprintf(stderr, "stand-in: session: error %lu\r\n", error);
			return 99;
		}
		Sleep(5);
	}
	return 0;
}

static int run(int count, char **words)
{
	const char *command = count > 1 ? words[1] : "";
	if (mode_is("hang") || (mode_is("hang-start") && strcmp(command, "start") == 0)) Sleep(INFINITE);
	if (mode_is("fail")) return refuse("Access is denied.", ERROR_ACCESS_DENIED);
	if ((mode_is("old") || mode_is("ancient")) && has(count, words, "--type"))
		return refuse("Unknown parameter '--type'.", ERROR_INVALID_PARAMETER);
	if (mode_is("ancient") && has(count, words, "--counters-only"))
		return refuse("Unknown parameter '--counters-only'.", ERROR_INVALID_PARAMETER);
	if (strcmp(command, "status") == 0) return status();
	if (strcmp(command, "start") == 0) return start();
	if (strcmp(command, "stop") == 0) return stop();
	if (strcmp(command, "counters") != 0) return ERROR_INVALID_PARAMETER;
	if (mode_is("garbage")) return refuse("[{\"Group\":\"Ethernet\",\"Components\":[{\"Na", 0);
	if (!print_file(DIRECTORY "counters.json")) fputs("[]\r\n", stdout);
	return 0;
}

int main(int count, char **words)
{
	_setmode(_fileno(stdout), _O_BINARY);
	read_mode();
	write_log(count, words);
	int code = run(count, words);
	fflush(stdout);
	return code;
}
