// A million rows are exported in memory that does not grow with them.

import { afterAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { append, createRig, openWide } from "../export.rig.ts";
import { flows } from "../store.flows.ts";

const rig = createRig();
afterAll(() => rig[Symbol.dispose]());

const main = join(import.meta.dir, "../../src/main.ts");
const rowsMax = 1_000_000;

/** A store with the first so many rows. */
function storeWith(rows: number): string {
  const dir = rig.dir();
  using store = openWide(dir);
  for (let from = 0; from < rows; from += 20_000) append(store, flows(20_000, from));
  return dir;
}

/** The most bytes that were resident; undefined when it has ended. Its usage at the end would include that of its parent. */
function residentMax(pid: number): number | undefined {
  try {
    const kib = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
    return kib === undefined ? undefined : Number(kib) * 1024;
  } catch {
    return undefined;
  }
}

/** Seconds and the most bytes that were resident. */
async function exportOf(
  dir: string,
  ending: string,
): Promise<{ seconds: number; bytes: number; told: string }> {
  const startMs = performance.now();
  const file = rig.path(`.${ending}`);
  const child = Bun.spawn([process.execPath, main, "export", "--data-dir", dir, "--file", file], {
    stderr: "pipe",
  });
  let bytes = 0;
  while (child.exitCode === null) {
    bytes = Math.max(bytes, residentMax(child.pid) ?? 0);
    await Bun.sleep(10);
  }
  expect(await child.exited).toBe(0);
  const told = await new Response(child.stderr).text();
  return { seconds: (performance.now() - startMs) / 1000, bytes, told };
}

test("a million rows", async () => {
  const [few, many] = [storeWith(100_000), storeWith(rowsMax)];
  for (const ending of ["json", "csv", "db"]) {
    const small = await exportOf(few, ending);
    const large = await exportOf(many, ending);
    expect(large.told).toStartWith("fovea: 1,000,000 rows in ");
    expect(large.bytes).toBeLessThan(small.bytes + 200 * 2 ** 20);
    console.log(
      `${ending}: ${large.seconds.toFixed(1)} s, ${(large.bytes / 2 ** 20).toFixed(0)} MiB resident, ` +
        `${(small.bytes / 2 ** 20).toFixed(0)} with a tenth of the rows`,
    );
  }
}, 600_000);
