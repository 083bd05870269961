// The command line on Windows: a process on a recording, killed and started again, and files carried away from it.

import "./remove-trees.ts";
import "../cli-sinks.test.ts";
import "../import-refused.test.ts";
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { statusSchema } from "../../src/api/schemas.ts";
import { recordTick } from "../../src/replay.ts";
import { openStore } from "../../src/store/store.ts";
import { flow, now } from "../api.parts.ts";
import { runFovea } from "../cli.world.ts";
import { append, readAll } from "../store.contract.ts";
import { flows } from "../store.flows.ts";

setDefaultTimeout(60_000);

const root = mkdtempSync(join(tmpdir(), "fovea cli "));
afterAll(() => rmSync(root, { recursive: true }));

const main = join(import.meta.dir, "../../src/main.ts");

const ticks = 3;

const recording = join(root, "recording.ndjson");
writeFileSync(
  recording,
  Array.from({ length: ticks }, (_, tick) => {
    const packets = 10 * (tick + 1);
    const totals = {
      ...{ uplinks: ["Ethernet"], tcpFlags: [] },
      forward: { ingress: { packets, bytes: 900 }, egress: { packets: 1, bytes: 60 } },
    };
    const counted = { seen: packets, aggregated: packets, duplicate: 0, untracked: [] };
    const snapshot = { totals, flows: [flow, { ...flow, protocol: 17 }], packets: counted };
    return recordTick({ startedAt: now, at: now + tick * 100, snapshots: { flows: snapshot } });
  })
    .join("")
    .replaceAll("\n", "\r\n"),
);

/** ProgramData of one test, with Fovea's directory in it. */
function programData(name: string): { readonly path: string; readonly home: string } {
  const path = join(root, name);
  const home = join(path, "Fovea");
  mkdirSync(home, { recursive: true });
  return { path, home };
}

const spawn = (args: readonly string[], ProgramData: string) =>
  Bun.spawn([process.execPath, main, ...args], {
    env: { ...process.env, ProgramData, FOVEA_TICK: "100ms", FOVEA_LOG_FORMAT: "json" },
    stdio: ["ignore", "pipe", "pipe"],
  });

/** Runs until it is disposed of, which kills it. */
async function start(ProgramData: string) {
  const child = spawn(["run", "--listen", "127.0.0.1:0", "--replay", recording], ProgramData);
  const decoder = new TextDecoder();
  let text = "";
  for await (const bytes of child.stderr) {
    text += decoder.decode(bytes, { stream: true });
    const url = /"message":"started".*"url":"([^"]+)"/.exec(text)?.[1];
    if (url !== undefined) return { url, [Symbol.asyncDispose]: () => endOf(child) };
  }
  throw new Error(`it ended: ${text}`);
}

async function endOf(child: ReturnType<typeof spawn>): Promise<void> {
  child.kill("SIGKILL");
  await child.exited;
}

async function reached(url: string, wanted: (status: ReturnType<typeof statusSchema.parse>) => boolean) {
  for (;;) {
    const status = statusSchema.parse(await (await fetch(`${url}/api/v1/status`)).json());
    if (wanted(status)) return status;
    await Bun.sleep(20);
  }
}

test("run keeps its store below ProgramData, takes over its configuration, and keeps all over a kill", async () => {
  const { path, home } = programData("run");
  const config = join(home, "fovea.yaml");
  writeFileSync(config, Buffer.from("\ufeffcluster: plant\r\n", "utf16le"));
  for (const round of [1, 2]) {
    await using fovea = await start(path);
    const { url } = fovea;
    const status = await reached(url, (live) => live.ticks >= ticks);
    expect(status).toMatchObject({ cluster: round === 1 ? "plant" : "dock", warnings: [] });
    expect(status.store).toMatchObject({ mode: "disk", rows: 2 * ticks * round });
    const scrape = await (await fetch(`${url}/metrics`)).text();
    expect(scrape).toMatch(/^kappie_forward_count\{.*Direction="ingress".*\} 30$/m);
    expect(scrape).toMatch(/^fovea_disk_free_bytes [1-9]/m);
    expect(scrape).toMatch(/^fovea_process_resident_memory_bytes [1-9]/m);
    writeFileSync(config, "cluster: dock\r\n");
    await reached(url, ({ cluster }) => cluster === "dock");
  }
  expect(readdirSync(join(home, "data"))).toContain("fovea.db");
});

test("a second instance is refused, and so is one on the same port", async () => {
  const { path } = programData("two");
  await using fovea = await start(path);
  const errorsOf = async (args: readonly string[]) => {
    const child = spawn(["run", "--replay", recording, ...args], path);
    const [text, code] = await Promise.all([child.stderr.text(), child.exited]);
    return { text, code };
  };
  const second = await errorsOf(["--listen", "127.0.0.1:0"]);
  expect(second).toMatchObject({
    code: 1,
    text: expect.stringMatching(/fovea\.lock is held by process \d+/),
  });
  const third = await errorsOf(["--listen", new URL(fovea.url).host, "--data-dir", join(path, "other")]);
  expect(third).toMatchObject({ code: 1, text: expect.stringContaining("another process has this port") });
});

test.each(["json", "csv", "db"])(
  "rows go to a %s file on a drive, and into another store",
  async (ending) => {
    const [from, to] = [join(root, `from ${ending}`), join(root, `to ${ending}`)];
    const options = { bytesMax: 2 ** 30, ageMaxMs: 1e12 };
    const source = openStore({ dir: from, ...options });
    append(source, flows(500));
    source.close();
    const file = join(root, `carried.${ending}`);
    expect(await runFovea(["export", "--data-dir", from, "--file", file])).toMatchObject({ code: 0 });
    expect(JSON.parse(readFileSync(`${file}.manifest.json`, "utf8"))).toMatchObject({ rows: 500 });
    expect(existsSync(`${file}.part`)).toBe(false);
    const imported = await runFovea(["import", file, "--data-dir", to, "--node", "edge-9"]);
    expect(imported).toMatchObject({ code: 0, err: expect.stringContaining("500 rows of node edge-9") });
    using store = openStore({ dir: to, ...options });
    expect(readAll(store, { order: "oldest" })).toHaveLength(500);
    expect(await runFovea(["export", "--data-dir", from, "--file", file])).toMatchObject({
      ...{ code: 1, err: expect.stringContaining(`${file} is there already`) },
    });
  },
);
