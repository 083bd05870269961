// dll
/* Stands for a vmcompute.dll of a Windows that has containers, but no HNSCall. */
#include <windows.h>

__declspec(dllexport) HRESULT WINAPI HcsEnumerateComputeSystems(PCWSTR query, PWSTR *systems, PWSTR *result)
{
	(void)query;
	*systems = *result = NULL;
	return S_OK;
}
