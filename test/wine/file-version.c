// Prints what Windows reads in the version resource of a file: its four numbers, product and product version.

#include <stdio.h>
#include <windows.h>

typedef DWORD(WINAPI *size_of)(LPCWSTR, LPDWORD);
typedef BOOL(WINAPI *read_info)(LPCWSTR, DWORD, DWORD, LPVOID);
typedef BOOL(WINAPI *query_value)(LPCVOID, LPCWSTR, LPVOID *, PUINT);

static char block[65536];

static const wchar_t *text(query_value query, const wchar_t *name)
{
	void *value;
	UINT length;
	return query(block, name, &value, &length) ? value : L"";
}

int wmain(int count, wchar_t **words)
{
	HMODULE library = LoadLibraryA("version.dll");
	if (count != 2 || library == NULL)
		return 2;
	size_of size = (size_of)(void *)GetProcAddress(library, "GetFileVersionInfoSizeW");
	read_info read = (read_info)(void *)GetProcAddress(library, "GetFileVersionInfoW");
	query_value query = (query_value)(void *)GetProcAddress(library, "VerQueryValueW");
	DWORD bytes = size(words[1], NULL);
	VS_FIXEDFILEINFO *fixed;
	UINT length;
	if (bytes == 0 || bytes > sizeof block || !read(words[1], 0, bytes, block) ||
	    !query(block, L"\\", (void **)&fixed, &length))
		return 1;
	printf("%lu.%lu.%lu.%lu %ls %ls\n", fixed->dwFileVersionMS >> 16, fixed->dwFileVersionMS & 0xffff,
	       fixed->dwFileVersionLS >> 16, fixed->dwFileVersionLS & 0xffff,
	       text(query, L"\\StringFileInfo\\040904b0\\ProductName"),
	       text(query, L"\\StringFileInfo\\040904b0\\ProductVersion"));
	return 0;
}
