// dll
/*
 * Stands for computenetwork.dll, the newer interface to HNS: one endpoint, the first of the stub of vmcompute.dll. Fovea does not
 * open it; it is here so that a machine has both, as Windows Server does. Handles that are open are counted.
 */
#include <objbase.h>
#include <windows.h>

#define HANDLE_OF_FIRST ((void *)0x00007ff812345678ULL)

static const GUID first = { 0x7eb7bc15, 0x4510, 0x4225, { 0x85, 0x35, 0, 0, 0, 0, 0, 0 } };
static LONG open;

static void answer(const char *utf8, PWSTR *response)
{
	int length = MultiByteToWideChar(CP_UTF8, 0, utf8, -1, NULL, 0);
	*response = CoTaskMemAlloc(length * sizeof(WCHAR));
	MultiByteToWideChar(CP_UTF8, 0, utf8, -1, *response, length);
}

__declspec(dllexport) HRESULT WINAPI HcnEnumerateEndpoints(PCWSTR query, PWSTR *endpoints, PWSTR *error)
{
	(void)query;
	if (error != NULL)
		*error = NULL;
	answer("[\"7eb7bc15-4510-4225-8535-000000000000\"]", endpoints);
	return S_OK;
}

__declspec(dllexport) HRESULT WINAPI HcnOpenEndpoint(const GUID *id, void **endpoint, PWSTR *error)
{
	if (error != NULL)
		*error = NULL;
	*endpoint = NULL;
	if (!IsEqualGUID(id, &first)) {
		if (error != NULL)
			answer("{\"Error\":\"Element not found.\",\"ErrorCode\":2147943568,\"Success\":false}", error);
		return (HRESULT)0x80070490;
	}
	*endpoint = HANDLE_OF_FIRST;
	InterlockedIncrement(&open);
	return S_OK;
}

__declspec(dllexport) HRESULT WINAPI HcnQueryEndpointProperties(void *endpoint, PCWSTR query, PWSTR *properties, PWSTR *error)
{
	(void)query;
	if (error != NULL)
		*error = NULL;
	if (endpoint != HANDLE_OF_FIRST)
		return (HRESULT)0x80070006;
	answer("{\"ID\":\"7eb7bc15-4510-4225-8535-000000000000\",\"Name\":\"pod-0\",\"Flags\":0,"
	       "\"HostComputeNetwork\":\"5c242c1e-8e0f-4f65-b9e0-a0b7a6ea41e2\","
	       "\"IpConfigurations\":[{\"IpAddress\":\"10.244.0.1\",\"PrefixLength\":20}],"
	       "\"SchemaVersion\":{\"Major\":2,\"Minor\":0}}",
	       properties);
	return S_OK;
}

__declspec(dllexport) HRESULT WINAPI HcnCloseEndpoint(void *endpoint)
{
	if (endpoint != HANDLE_OF_FIRST)
		return (HRESULT)0x80070006;
	InterlockedDecrement(&open);
	return S_OK;
}

/* How many handles are open in this process. */
__declspec(dllexport) LONG WINAPI StubOpenHandles(void)
{
	return open;
}
