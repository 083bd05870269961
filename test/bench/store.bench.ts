// What the store costs: rows a second with the ledger in the same transaction, bytes a row in the file.

import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { FlowRecord } from "../../src/flow.ts";
import { openStore, type Store } from "../../src/store/store.ts";
import { flow } from "../store.flows.ts";
import type { BenchRow } from "./row.ts";

const batchRows = 5000;
const mib = 1024 * 1024;

const ledgerOf = (rows: number) =>
  ({
    "packets.seen": rows * 10 + 3,
    "packets.aggregated": rows * 10,
    "packets.untracked.parse": 3,
    "packets.duplicate": rows,
    "rows.offered": rows + 7,
    "rows.throttled.window": 7,
  }) as const;

const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;

/** Runs in a store of its own, in a directory on the disk that holds the temporary files. */
function inStore<Result>(bytesMax: number, run: (store: Store, dir: string) => Result): Result {
  const dir = mkdtempSync(join(tmpdir(), "fovea-bench-"));
  try {
    using store = openStore({ dir, bytesMax, ageMaxMs: 7 * 86_400_000 });
    return run(store, dir);
  } finally {
    rmSync(dir, { recursive: true });
  }
}

// Checkpoints are part of what an append costs, and only some appends meet one: rate over groups of batches.
const groupBatches = 8;

function rates(store: Store, batches: readonly (readonly FlowRecord[])[]): number[] {
  const found: number[] = [];
  for (let group = 0; group + groupBatches <= batches.length; group += groupBatches) {
    const started = performance.now();
    for (const rows of batches.slice(group, group + groupBatches)) {
      const { kept } = store.append({ rows, ledger: ledgerOf(rows.length) });
      if (kept !== rows.length) throw new Error(`${rows.length - kept} of ${rows.length} rows were not kept`);
    }
    found.push((groupBatches * batchRows * 1000) / (performance.now() - started));
  }
  return found;
}

const batchesOf = (count: number, make: (number: number) => FlowRecord): FlowRecord[][] =>
  Array.from({ length: count }, (_, batch) =>
    Array.from({ length: batchRows }, (_row, index) => make(batch * batchRows + index)),
  );

const allV6 = (number: number): FlowRecord =>
  flow(number, {
    source: `2001:db8:0:1::${(number & 0xffff).toString(16)}`,
    destination: "2001:db8:2::53",
    rttUs: 40_000 + number,
    retransmits: 2,
  });

function bytesPerRow(make: (number: number) => FlowRecord): number {
  return inStore(256 * mib, (store, dir) => {
    const batches = batchesOf(20, make);
    for (const rows of batches) store.append({ rows, ledger: ledgerOf(rows.length) });
    store.close();
    return statSync(join(dir, "fovea.db")).size / (batches.length * batchRows);
  });
}

export async function storeBench(): Promise<BenchRow[]> {
  const batches = batchesOf(9 * groupBatches, flow);
  const growing = inStore(256 * mib, (store) => rates(store, batches));
  const full = inStore(8 * mib, (store) => rates(store, batches).slice(2));
  return [
    { name: "store append, growing", value: median(growing), unit: "rows/s", budget: { min: 150_000 } },
    {
      name: "store append, full",
      value: median(full),
      unit: "rows/s",
      budget: { min: 150_000 },
      note: "evicts as much",
    },
    { name: "store row, one in eight IPv6", value: bytesPerRow(flow), unit: "bytes", budget: { max: 100 } },
    { name: "store row, all IPv6 with RTT", value: bytesPerRow(allV6), unit: "bytes", budget: { max: 100 } },
  ];
}

if (import.meta.main) console.table(await storeBench());
