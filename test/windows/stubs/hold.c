// A process that does nothing until it is ended: wine ends all services some seconds after the last ordinary process.

#include <windows.h>

int main(void)
{
	DWORD written;
	WriteFile(GetStdHandle(STD_OUTPUT_HANDLE), "holding\n", 8, &written, NULL);
	Sleep(INFINITE);
	return 0;
}
