// dll
// What Bun needs and wine 8 lacks: bcryptprimitives.dll, of which Bun imports one function, and a way to delete.

#include <windows.h>
#include <winternl.h>

BOOLEAN NTAPI SystemFunction036(PVOID buffer, ULONG length); // RtlGenRandom of advapi32.

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T length)
{
	const SIZE_T piece_max = 1u << 30;
	while (length > 0) {
		ULONG piece = (ULONG)(length > piece_max ? piece_max : length);
		if (!SystemFunction036(data, piece))
			return FALSE;
		data += piece;
		length -= piece;
	}
	return TRUE;
}

typedef NTSTATUS(NTAPI *set_information)(HANDLE, PIO_STATUS_BLOCK, PVOID, ULONG, ULONG);

static set_information original;

// Bun removes a tree by FileDispositionInformationEx, and by the older class where that is answered as an unknown one;
// wine 8 answers that it is not implemented.
static NTSTATUS NTAPI set_information_by_older_class(HANDLE file, PIO_STATUS_BLOCK status, PVOID data, ULONG length,
						     ULONG class)
{
	const ULONG disposition = 13, disposition_ex = 64, deletes = 1;
	BOOLEAN delete;

	if (class != disposition_ex || length < sizeof(ULONG))
		return original(file, status, data, length, class);
	delete = (*(ULONG *)data & deletes) != 0;
	return original(file, status, &delete, sizeof delete, disposition);
}

// In the import table of the program that loads this library.
static void replace_import(BYTE *image, void *from, void *to)
{
	IMAGE_NT_HEADERS *headers = (IMAGE_NT_HEADERS *)(image + ((IMAGE_DOS_HEADER *)image)->e_lfanew);
	IMAGE_DATA_DIRECTORY *imports = &headers->OptionalHeader.DataDirectory[IMAGE_DIRECTORY_ENTRY_IMPORT];
	IMAGE_IMPORT_DESCRIPTOR *library = (IMAGE_IMPORT_DESCRIPTOR *)(image + imports->VirtualAddress);
	DWORD before;

	for (; imports->Size > 0 && library->Name != 0; library++)
		for (void **slot = (void **)(image + library->FirstThunk); *slot; slot++) {
			if (*slot != from || !VirtualProtect(slot, sizeof *slot, PAGE_READWRITE, &before))
				continue;
			*slot = to;
			VirtualProtect(slot, sizeof *slot, before, &before);
		}
}

BOOL WINAPI DllMain(HINSTANCE self, DWORD reason, LPVOID reserved)
{
	void *found;

	(void)self;
	(void)reserved;
	if (reason != DLL_PROCESS_ATTACH)
		return TRUE;
	found = (void *)GetProcAddress(GetModuleHandleW(L"ntdll.dll"), "NtSetInformationFile");
	original = (set_information)found;
	replace_import((BYTE *)GetModuleHandleW(NULL), found, (void *)set_information_by_older_class);
	return TRUE;
}
