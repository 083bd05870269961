// kill -9 at any point: what was acknowledged is there, the file is whole, the laws hold.

import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openStore } from "../src/store/store.ts";
import { expectLaws, readAll } from "./store.contract.ts";

const root = mkdtempSync(join(tmpdir(), "fovea-crash-"));
afterAll(() => rmSync(root, { recursive: true }));

const options = { dir: join(root, "data"), bytesMax: 1024 * 1024, ageMaxMs: 1e12 };

/** Appends without end, with eviction and checkpoints; a line for each append that returned. */
const child = `
import { openStore } from "${join(import.meta.dir, "../src/store/store.ts")}";
import { flow, flows } from "${join(import.meta.dir, "store.flows.ts")}";
const store = openStore(${JSON.stringify(options)});
for (let batch = 0; ; batch++) {
  const rows = [...flows((batch * 337) % 1500, batch * 1000), flow(1, { packets: -1 })];
  store.append({ rows, ledger: {
    "rows.offered": rows.length + 2, "rows.throttled.window": 2,
    "packets.seen": 9, "packets.aggregated": 8, "packets.untracked.parse": 1,
  } });
  process.stdout.write(store.stats().lastSeq + "\\n");
}`;

/** Starts the child, kills it some work after its `lines`th line, returns the last line that it wrote. */
async function crash(lines: number, spins: number): Promise<number> {
  const process_ = Bun.spawn([process.execPath, "-e", child], { stdout: "pipe", stderr: "inherit" });
  let text = "";
  for await (const bytes of process_.stdout) {
    text += new TextDecoder().decode(bytes);
    if (text.split("\n").length <= lines || process_.killed) continue;
    for (let spin = spins; spin > 0; spin--); // The kill falls anywhere in the next append.
    process_.kill("SIGKILL");
  }
  await process_.exited;
  expect(process_.signalCode).toBe("SIGKILL");
  return Number(text.split("\n").at(-2));
}

test("survives 20 kills", async () => {
  for (let round = 0; round < 20; round++) {
    const acknowledged = await crash(1 + ((round * 7) % 12), round * 200_000);
    const { stdout } = Bun.spawnSync([
      "sqlite3",
      "-batch",
      join(options.dir, "fovea.db"),
      "PRAGMA integrity_check",
    ]);
    expect(stdout.toString()).toBe("ok\n");
    using store = openStore(options);
    expect(store.stats()).toMatchObject({ mode: "disk", recoveries: [] });
    expect(store.stats().lastSeq).toBeGreaterThanOrEqual(acknowledged);
    expectLaws(store);
    const { rows, lastSeq } = store.stats();
    const seqs = readAll(store, { order: "oldest", limit: 1000 }).map(({ seq }) => seq);
    expect(seqs).toEqual(Array.from({ length: rows }, (_, index) => lastSeq - rows + 1 + index));
  }
}, 60_000);
