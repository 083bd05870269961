// Programs of the system directory, run with bounds: against wine's own and the stand-in for vfpctrl.exe.

import { afterEach, beforeEach, expect, test } from "bun:test";
import { createSpawner, decodeOutput, type SpawnRequest } from "../../windows/spawn.ts";
import { lives, openStub, type Stub, until } from "./stub-files.ts";

let stub: Stub;

beforeEach(() => {
  stub = openStub("vfpctrl");
});

afterEach(() => stub[Symbol.dispose]());

const request = (more: Partial<SpawnRequest> = {}): SpawnRequest => ({
  file: "vfpctrl.exe",
  arguments: ["/get-port-counter"],
  timeoutMs: 20_000,
  ...more,
});

const pids = (): readonly number[] => stub.takeLog().map(({ pid }) => pid);

test("an answer has exit code and output as it was written", async () => {
  const { exitCode, output, errors } = await createSpawner().run(request());
  expect(exitCode).toBe(0);
  expect(decodeOutput(output)).toMatch(/\r\nCommand get-port-counter succeeded!\r\n$/);
  expect(errors).toHaveLength(0);
  const refused = await createSpawner().run(request({ arguments: ["/no-such-command"] }));
  expect(refused.exitCode).toBe(87);
});

test("arguments arrive as they are: no shell reads them", async () => {
  stub.write("mode", "json");
  await createSpawner().run(
    request({ arguments: ["/port", "a b", "&", "calc", "%PATH%", '"x"', "/get-port-counter"] }),
  );
  expect(stub.takeLog()[0]?.arguments).toBe('/port a b & calc %PATH% "x" /get-port-counter');
});

test("nothing of our environment goes along but what tools need", async () => {
  process.env["FOVEA_TEST_SECRET"] = "secret";
  try {
    const { output } = await createSpawner().run(
      request({ file: "cmd.exe", arguments: ["/d", "/c", "set"] }),
    );
    const text = decodeOutput(output);
    expect(text).toMatch(/SystemRoot=C:\\/i);
    expect(text).not.toContain("FOVEA_TEST_SECRET");
  } finally {
    delete process.env["FOVEA_TEST_SECRET"];
  }
});

test("a program that is not in the system directory is missing, one elsewhere is refused", async () => {
  const missing = createSpawner().run(request({ file: "no-such-tool.exe" }));
  await expect(missing).rejects.toMatchObject({ problem: "missing" });
  for (const file of ["..\\evil.exe", "C:\\evil.exe", "sub/evil.exe"])
    await expect(createSpawner().run(request({ file }))).rejects.toThrow("is no name of a file");
});

test("one that hangs is ended at the time limit, and the next one may run", async () => {
  stub.write("mode", "hang");
  const spawner = createSpawner();
  const hanging = spawner.run(request({ timeoutMs: 1500 }));
  await expect(hanging).rejects.toMatchObject({ problem: "timeout" });
  expect(pids().map(lives)).toEqual([false]);
  stub.write("mode", "json");
  expect((await spawner.run(request())).exitCode).toBe(0);
});

test("a second one beside the first is refused", async () => {
  stub.write("mode", "slow");
  const spawner = createSpawner();
  const first = spawner.run(request());
  await expect(spawner.run(request())).rejects.toMatchObject({ problem: "busy" });
  expect((await first).exitCode).toBe(0);
  expect(pids()).toHaveLength(1);
});

test("an abort ends it, and starts none", async () => {
  stub.write("mode", "hang");
  const spawner = createSpawner();
  const abort = new AbortController();
  const { signal } = abort;
  const running = spawner.run(request({ signal }));
  await until(() => stub.logged());
  const started = pids();
  expect(started.map(lives)).toEqual([true]);
  abort.abort();
  await expect(running).rejects.toMatchObject({ problem: "aborted" });
  expect(started.map(lives)).toEqual([false]);
  await expect(spawner.run(request({ signal }))).rejects.toMatchObject({ problem: "aborted" });
  expect(pids()).toEqual([]);
});

test("output beyond the bound ends it", async () => {
  stub.write("mode", "huge");
  await expect(createSpawner().run(request())).rejects.toMatchObject({ problem: "output" });
  expect(pids().map(lives)).toEqual([false]);
});
