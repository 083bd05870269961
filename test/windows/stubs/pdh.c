// dll: a stand-in for pdh.dll, with the counters that a file lists; the spelling of the switch's sets is synthetic.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>
#include <windows.h>

// Steered by files in this directory. `counters`: lines of `set|counter|instance|count`; without it there is one set that
// every machine has. `mode`: hang, or error, of a collection.
#define DIRECTORY "C:\\fovea-stubs\\pdh\\"
#define MORE_DATA ((LONG)0x800007D2)
#define NO_VALUES ((LONG)0x800007D5)
#define NO_OBJECT ((LONG)0xC0000BB8)
#define INVALID_DATA ((LONG)0xC0000BBA)
#define EXPORT __declspec(dllexport)

enum { LINES = 4096, TEXT_MAX = 128, COUNTERS = 512 };

struct line {
	WCHAR set[TEXT_MAX], counter[TEXT_MAX], instance[TEXT_MAX];
	long long count;
};
// PDH_RAW_COUNTER_ITEM_W.
struct item {
	WCHAR *name;
	DWORD status;
	FILETIME at;
	long long first, second;
	DWORD multi;
};
struct counter {
	WCHAR set[TEXT_MAX], name[TEXT_MAX];
};

static struct line lines[LINES];
static int line_count;
static struct counter counters[COUNTERS];
static int counter_count;
static int open_queries;

static void take_word(WCHAR *to, const char *from)
{
	if (!from) from = "";
	MultiByteToWideChar(CP_UTF8, 0, from, -1, to, TEXT_MAX);
	to[TEXT_MAX - 1] = 0;
}

static void read_lines(void)
{
	char text[3 * TEXT_MAX];
	FILE *file = fopen(DIRECTORY "counters", "rb");
	line_count = 0;
	while (file && line_count < LINES && fgets(text, sizeof text, file)) {
		struct line *line = &lines[line_count++];
		take_word(line->set, strtok(text, "|"));
		take_word(line->counter, strtok(NULL, "|"));
		take_word(line->instance, strtok(NULL, "|"));
		const char *count = strtok(NULL, "|\r\n");
		line->count = count ? strtoll(count, NULL, 10) : 0;
	}
	if (file) fclose(file);
	if (line_count > 0) return;
	wcscpy(lines[0].set, L"Processor");
	wcscpy(lines[0].counter, L"% Idle Time");
	wcscpy(lines[0].instance, L"_Total");
	line_count = 1;
}

static int mode_is(const char *word)
{
	char mode[32] = "";
	FILE *file = fopen(DIRECTORY "mode", "rb");
	if (!file) return 0;
	if (fscanf(file, "%31s", mode) != 1) mode[0] = 0;
	fclose(file);
	return strcmp(mode, word) == 0;
}

// Each word once, with a zero behind each and one behind all.
static LONG put_words(WCHAR *list, DWORD *size, const WCHAR *(*word)(int, const WCHAR *), const WCHAR *set)
{
	DWORD needed = 1;
	for (int pass = 0; pass < 2; pass++) {
		WCHAR *to = list;
		for (int at = 0; at < line_count; at++) {
			const WCHAR *found = word(at, set);
			int known = !found;
			for (int before = 0; before < at && !known; before++) {
				const WCHAR *other = word(before, set);
				known = other && wcscmp(other, found) == 0;
			}
			if (known) continue;
			if (pass == 0) needed += wcslen(found) + 1;
			else to += swprintf(to, TEXT_MAX, L"%ls", found) + 1;
		}
		if (pass == 1) *to = 0;
		if (pass == 0 && (!list || *size < needed)) {
			*size = needed;
			return MORE_DATA;
		}
	}
	*size = needed;
	return 0;
}

static const WCHAR *set_word(int at, const WCHAR *set)
{
	(void)set;
	return lines[at].set;
}
static const WCHAR *counter_word(int at, const WCHAR *set)
{
	return wcscmp(lines[at].set, set) == 0 ? lines[at].counter : NULL;
}
static const WCHAR *instance_word(int at, const WCHAR *set)
{
	return wcscmp(lines[at].set, set) == 0 ? lines[at].instance : NULL;
}

EXPORT LONG WINAPI PdhEnumObjectsW(LPCWSTR source, LPCWSTR machine, LPWSTR list, LPDWORD size, DWORD detail,
								   BOOL refresh)
{
	(void)source, (void)machine, (void)detail;
	if (refresh || line_count == 0) read_lines();
	return put_words(list, size, set_word, NULL);
}

EXPORT LONG WINAPI PdhEnumObjectItemsW(LPCWSTR source, LPCWSTR machine, LPCWSTR set, LPWSTR list, LPDWORD size,
									   LPWSTR instances, LPDWORD instance_size, DWORD detail, DWORD flags)
{
	(void)source, (void)machine, (void)detail, (void)flags;
	LONG first = put_words(list, size, counter_word, set);
	LONG second = put_words(instances, instance_size, instance_word, set);
	if (*size == 1) return NO_OBJECT;
	return first ? first : second;
}

EXPORT LONG WINAPI PdhOpenQueryW(LPCWSTR source, DWORD_PTR data, HANDLE *query)
{
	(void)source, (void)data;
	open_queries++;
	counter_count = 0;
	*query = (HANDLE)(DWORD_PTR)0x7000;
	return 0;
}

// `\SET(*)\COUNTER`
EXPORT LONG WINAPI PdhAddCounterW(HANDLE query, LPCWSTR path, DWORD_PTR data, HANDLE *handle)
{
	(void)query, (void)data;
	const WCHAR *all = wcsstr(path, L"(*)\\");
	if (!all || path[0] != L'\\' || counter_count >= COUNTERS) return NO_OBJECT;
	struct counter *counter = &counters[counter_count++];
	swprintf(counter->set, TEXT_MAX, L"%.*ls", (int)(all - path - 1), path + 1);
	swprintf(counter->name, TEXT_MAX, L"%ls", all + 4);
	*handle = (HANDLE)(DWORD_PTR)counter_count;
	return 0;
}

EXPORT LONG WINAPI PdhCollectQueryData(HANDLE query)
{
	(void)query;
	if (mode_is("hang")) Sleep(INFINITE);
	if (mode_is("error")) return INVALID_DATA;
	read_lines();
	return wcscmp(lines[0].set, L"Processor") == 0 ? NO_VALUES : 0;
}

static int is_of(const struct line *line, const struct counter *counter)
{
	return wcscmp(line->set, counter->set) == 0 && wcscmp(line->counter, counter->name) == 0;
}

EXPORT LONG WINAPI PdhGetRawCounterArrayW(HANDLE handle, LPDWORD size, LPDWORD count, struct item *items)
{
	const struct counter *counter = &counters[(DWORD_PTR)handle - 1];
	DWORD needed = 0, found = 0;
	for (int at = 0; at < line_count; at++)
		if (is_of(&lines[at], counter)) {
			found++;
			needed += sizeof *items + 2 * (wcslen(lines[at].instance) + 1);
		}
	*count = found;
	if (!items || *size < needed) return *size = needed, MORE_DATA;
	*size = needed;
	WCHAR *names = (WCHAR *)(items + found);
	for (int at = 0; at < line_count; at++)
		if (is_of(&lines[at], counter)) {
			memset(items, 0, sizeof *items);
			items->name = wcscpy(names, lines[at].instance);
			items->status = lines[at].count < 0 ? 0xC0000BBA : 1; // New data; what is below zero is no value.
			items->first = lines[at].count;
			names += wcslen(names) + 1;
			items++;
		}
	return 0;
}

EXPORT LONG WINAPI PdhCloseQuery(HANDLE query)
{
	(void)query;
	return --open_queries < 0 ? INVALID_DATA : 0;
}
