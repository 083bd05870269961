// fovea run as a process of its own, on a recording: scrape, API, refusals, stop.

import { expect, test } from "bun:test";
import { chmodSync, existsSync, readFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { openStore } from "../src/store/store.ts";
import { ended, main, played, recording, start, temporaryDirectory, ticks } from "./run.world.ts";

test("a recording is served whole, and a stop keeps every row", async () => {
  await using directory = temporaryDirectory();
  const dataDir = join(directory.path, "data");
  await using fovea = start(["--data-dir", dataDir, "--replay", recording(directory)]);
  const url = await fovea.url();
  const status = await played(url);
  expect(status).toMatchObject({ uplinks: ["eth0"], attached: ["eth0"], warnings: [] });
  expect(status.store).toMatchObject({ mode: "disk", rows: 2 * ticks });
  expect(await (await fetch(`${url}/readyz`)).json()).toEqual({ ready: true, reasons: [] });
  const scrape = await (await fetch(`${url}/metrics`)).text();
  expect(scrape).toMatch(/^kappie_forward_count\{.*Direction="ingress".*\} 30$/m);
  expect(scrape).toMatch(/^fovea_packets_seen_total 30$/m);
  const open = await fetch(`${url}/metrics`, { headers: { Accept: "application/openmetrics-text" } });
  expect(open.headers.get("content-type")).toStartWith("application/openmetrics-text");
  expect((await open.text()).endsWith("# EOF\n")).toBe(true);
  const hanging = connect(Number(new URL(url).port), "127.0.0.1");
  hanging.on("error", () => undefined);
  hanging.write("GET /metrics HTTP/1.1\r\n");
  expect((await fovea.stop()).code).toBe(0);
  expect(fovea.lines.at(-1)?.message).toBe("stopped");
  using store = openStore({ dir: dataDir, bytesMax: 2 ** 30, ageMaxMs: 604_800_000 });
  expect(store.stats().rows).toBe(2 * ticks);
  expect(store.ledger()).toMatchObject({ "packets.seen": 10 * ticks, "rows.kept": 2 * ticks });
});

test("what is recorded plays as what was seen", async () => {
  await using directory = temporaryDirectory();
  const record = join(directory.path, "recorded.ndjson");
  const run = async (name: string, ...more: readonly string[]) => {
    const dataDir = join(directory.path, name);
    await using fovea = start(["--data-dir", dataDir, ...more]);
    await played(await fovea.url());
    expect((await fovea.stop()).code).toBe(0);
    using store = openStore({ dir: dataDir, bytesMax: 2 ** 30, ageMaxMs: 604_800_000 });
    return { rows: store.stats().rows, seen: store.ledger()["packets.seen"] };
  };
  const first = await run("first", "--replay", recording(directory), "--record", record);
  expect(first).toEqual({ rows: 2 * ticks, seen: 10 * ticks });
  expect(await run("second", "--replay", record)).toEqual(first);
});

test("SIGINT stops as well, and the next start goes on with the ledger", async () => {
  await using directory = temporaryDirectory();
  const args = ["--data-dir", join(directory.path, "data"), "--replay", recording(directory)];
  for (const round of [1, 2]) {
    await using fovea = start(args);
    const { store } = await played(await fovea.url());
    expect(store.rows).toBe(2 * ticks * round);
    expect((await fovea.stop("SIGINT")).code).toBe(0);
  }
});

test("started to outlive its terminal, it does", async () => {
  await using directory = temporaryDirectory();
  const args = ["--data-dir", join(directory.path, "data"), "--replay", recording(directory)];
  await using fovea = start(args, {}, ["nohup"]);
  const url = await fovea.url();
  await played(url);
  fovea.signal("SIGHUP");
  await fovea.ticked(url);
  expect((await fovea.stop()).code).toBe(0);
  expect(fovea.lines.at(-1)).toMatchObject({ message: "stopped", reason: "stopped by SIGTERM" });
});

test("a second instance on the data directory is refused, and one on the port", async () => {
  await using directory = temporaryDirectory();
  const replay = recording(directory);
  const dataDir = join(directory.path, "data");
  await using fovea = start(["--data-dir", dataDir, "--replay", replay]);
  const url = await fovea.url();
  const same = ["run", "--data-dir", dataDir, "--replay", replay, "--listen"];
  const second = await ended([...same, "127.0.0.1:0"]);
  expect(second).toMatchObject({ code: 1, out: "" });
  expect(second.err).toMatch(/^fovea: .*held by process \d+.*\n$/);
  const other = ["run", "--data-dir", join(directory.path, "other"), "--replay", replay];
  const third = await ended([...other, "--listen", new URL(url).host]);
  expect(third).toMatchObject({ code: 1, out: "" });
  expect(third.err).toMatch(/^fovea: listen 127\.0\.0\.1:\d+: another process has this port.*\n$/);
  expect((await fetch(`${url}/healthz`)).status).toBe(200);
});

test("beyond loopback a token is needed; with it the API asks for it", async () => {
  await using directory = temporaryDirectory();
  const replay = recording(directory);
  const dataDir = join(directory.path, "data");
  const args = ["run", "--data-dir", dataDir, "--replay", replay, "--listen", "0.0.0.0:0"];
  const refused = await ended(args);
  expect(refused.code).toBe(2);
  expect(refused.err).toContain("api.tokenFile");
  expect(existsSync(dataDir)).toBe(false);
  const token = "0123456789abcdef0123456789abcdef";
  const tokenFile = directory.file("token", token);
  chmodSync(tokenFile, 0o644);
  const env = { FOVEA_API_TOKEN_FILE: tokenFile, FOVEA_API_OPEN_METRICS: "true" };
  const exposed = await ended(args, env);
  expect(exposed).toMatchObject({ code: 1, err: expect.stringContaining("chmod o-rwx") });
  chmodSync(tokenFile, 0o600);
  await using fovea = start(["--data-dir", dataDir, "--replay", replay, "--listen", "0.0.0.0:0"], env);
  const url = await fovea.url();
  const status = async (path: string, headers = {}) => (await fetch(url + path, { headers })).status;
  expect(await status("/api/v1/status")).toBe(401);
  expect(await status("/api/v1/status", { Authorization: `Bearer ${token}` })).toBe(200);
  expect(await status("/metrics")).toBe(200);
});

test("a data directory that cannot be written leaves the scrape alive", async () => {
  await using directory = temporaryDirectory();
  const blocked = directory.file("data", "a file where the directory should be");
  await using fovea = start(["--data-dir", blocked, "--replay", recording(directory)]);
  const url = await fovea.url();
  const { store, warnings } = await played(url);
  expect(store.mode).toBe("memory");
  expect(warnings.join("\n")).toContain("the store is not on disk");
  expect(await (await fetch(`${url}/metrics`)).text()).toMatch(/^kappie_forward_count\{/m);
  expect((await fetch(`${url}/readyz`)).status).toBe(503);
  expect((await fovea.stop()).code).toBe(0);
  expect(readFileSync(blocked, "utf8")).toStartWith("a file");
});

test("a recording that is missing, or none, is one line", async () => {
  await using directory = temporaryDirectory();
  const args = ["run", "--listen", "127.0.0.1:0", "--data-dir", join(directory.path, "data"), "--replay"];
  const missing = await ended([...args, "/nonexistent"]);
  expect(missing).toMatchObject({
    code: 1,
    out: "",
    err: expect.stringMatching(/^fovea: [^\n]*\/nonexistent[^\n]*\n$/),
  });
  const none = await ended([...args, directory.file("none", "{}\n")]);
  expect(none).toMatchObject({ code: 1, out: "", err: expect.stringMatching(/^fovea: [^\n]*\n$/) });
});

test("a reader that goes away ends flows quietly", async () => {
  await using directory = temporaryDirectory();
  await using fovea = start(["--data-dir", join(directory.path, "data"), "--replay", recording(directory)]);
  const url = await fovea.url();
  await played(url);
  const script = `${process.execPath} ${main} flows --since 1h --server ${url} | true`;
  const child = Bun.spawn(["bash", "-o", "pipefail", "-c", script], { stdout: "pipe", stderr: "pipe" });
  const [out, err, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  expect({ out, err, code }).toEqual({ out: "", err: "", code: 0 });
});
