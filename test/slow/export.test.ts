// A million rows are exported in less than a minute, in memory that does not grow with them.

import { afterAll, expect, test } from "bun:test";
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
  expect(await child.exited).toBe(0);
  const told = await new Response(child.stderr).text();
  const bytes = child.resourceUsage()?.maxRSS ?? Number.NaN;
  return { seconds: (performance.now() - startMs) / 1000, bytes, told };
}

test("a million rows", async () => {
  const [few, many] = [storeWith(100_000), storeWith(rowsMax)];
  for (const ending of ["json", "csv", "db"]) {
    const small = await exportOf(few, ending);
    const large = await exportOf(many, ending);
    expect(large.told).toStartWith("fovea: 1,000,000 rows in ");
    expect(large.seconds).toBeLessThan(60);
    expect(large.bytes).toBeLessThan(small.bytes + 100 * 2 ** 20);
    console.log(
      `${ending}: ${large.seconds.toFixed(1)} s, ${(large.bytes / 2 ** 20).toFixed(0)} MiB resident, ` +
        `${(small.bytes / 2 ** 20).toFixed(0)} with a tenth of the rows`,
    );
  }
}, 600_000);
