// Runs on Windows, in wine: ticks of the backend's endpoints against the stand-in of HNS, and what of them is ours.
// Argument: how many rounds. Prints one line of JSON.

import { createEndpointTable } from "../../windows/endpoint-table.ts";
import { openHns } from "../../windows/hns.ts";
import { createHnsReader } from "../../windows/hns-reading.ts";
import { openHnsStub } from "../windows/hns.stub.ts";

const rounds = Number(process.argv[2]);
const endpoints = 250;

const stub = openHnsStub();
stub.set({ endpoints, tick: 1 });
const hns = openHns("vmcompute.dll");
const elapsedMs = (): number => performance.now();
const reader = createHnsReader({ endpointsMax: 10_000, budgetMs: 60_000, elapsedMs });
const table = createEndpointTable({ endpointsMax: 10_000 });

const ours: number[] = [];
const calls: number[] = [];
for (let round = 0; round < rounds; round += 1) {
  let insideMs = 0;
  const startMs = elapsedMs();
  const { findings } = reader.read((path) => {
    const calledMs = elapsedMs();
    const text = hns.get(path);
    insideMs += elapsedMs() - calledMs;
    return text;
  });
  const { endpoints: series } = table.take({ ...findings, failures: [] }, new Map());
  ours.push(elapsedMs() - startMs - insideMs);
  calls.push(insideMs);
  if (series.length !== endpoints) throw new Error(`${series.length} endpoints, not ${endpoints}`);
}
hns[Symbol.dispose]();
stub[Symbol.dispose]();
console.log(JSON.stringify({ endpoints, ours, calls }));
process.exit(0);
