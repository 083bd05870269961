// Ends fovea.exe as the runtime of containers does: a thread in it that begins at CtrlRoutine with CTRL_SHUTDOWN_EVENT.

#include <windows.h>

#include <tlhelp32.h>

static DWORD find(const wchar_t *name)
{
	PROCESSENTRY32W entry = {.dwSize = sizeof(entry)};
	HANDLE all = CreateToolhelp32Snapshot(TH32CS_SNAPPROCESS, 0);
	DWORD found = 0;
	for (BOOL more = Process32FirstW(all, &entry); more; more = Process32NextW(all, &entry))
		if (lstrcmpiW(entry.szExeFile, name) == 0)
			found = entry.th32ProcessID;
	CloseHandle(all);
	return found;
}

int wmain(void)
{
	/* The same address in every process of a Windows that runs. */
	FARPROC routine = GetProcAddress(GetModuleHandleW(L"kernelbase.dll"), "CtrlRoutine");
	DWORD pid = find(L"fovea.exe");
	HANDLE process = pid == 0 ? NULL : OpenProcess(PROCESS_ALL_ACCESS, FALSE, pid);
	LPTHREAD_START_ROUTINE start = (LPTHREAD_START_ROUTINE)(void (*)(void))routine;
	if (routine == NULL || process == NULL)
		return 1;
	if (CreateRemoteThread(process, NULL, 0, start, (void *)CTRL_SHUTDOWN_EVENT, 0, NULL) == NULL)
		return 2;
	/* As long as the runtime waits; then it would end it. */
	return WaitForSingleObject(process, 5000) == WAIT_OBJECT_0 ? 0 : 3;
}
