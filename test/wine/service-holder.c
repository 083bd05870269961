// Holds a service open until it is ended, as services.msc and monitors do: the name is the argument.

#include <windows.h>

int wmain(int argc, wchar_t **argv)
{
	DWORD written;
	SC_HANDLE manager = OpenSCManagerW(NULL, NULL, SC_MANAGER_CONNECT);
	SC_HANDLE service = argc < 2 ? NULL : OpenServiceW(manager, argv[1], SERVICE_QUERY_STATUS);
	if (service == NULL)
		return (int)GetLastError();
	WriteFile(GetStdHandle(STD_ERROR_HANDLE), "open\n", 5, &written, NULL);
	Sleep(INFINITE);
	return 0;
}
