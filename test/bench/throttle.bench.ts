// What the way of a record to its fate costs: the throttle in both modes, kept and not, and admission with a filter.

import { createAdmission } from "../../src/admission.ts";
import { createFilter } from "../../src/filter.ts";
import { filterRuleSchema } from "../../src/filter-rules.ts";
import type { FlowRecord } from "../../src/flow.ts";
import { createThrottle, type Throttle, type ThrottleSettings } from "../../src/throttle.ts";
import { flows } from "../store.flows.ts";
import { least, ROUNDS } from "./rounds.ts";
import type { BenchRow } from "./row.ts";

const batchRows = 25_000;
const batches = 20;

const documented: ThrottleSettings = {
  enabled: true,
  mode: "window",
  rate: 5000,
  window: 300,
  intervalMs: 1000,
  reserve: 0.2,
  print: false,
};
const spent: Partial<ThrottleSettings> = { rate: 1, window: 1 };
const unspent: Partial<ThrottleSettings> = { rate: 1e9 };

/** With the clock of the appliance, whose reading is part of the cost. */
const throttleOf = (changes: Partial<ThrottleSettings>): Throttle =>
  createThrottle({
    settings: { ...documented, ...changes },
    elapsedMs: () => performance.now(),
    now: () => Date.now(),
  });

/** Nanoseconds a record in the best of some rounds: what a busy neighbour takes is not ours. */
function nsARecord(run: () => number): number {
  const found: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const startMs = performance.now();
    let kept = 0;
    for (let batch = 0; batch < batches; batch++) kept += run();
    found.push(((performance.now() - startMs) * 1e6) / (batches * batchRows));
    if (!Number.isFinite(kept)) throw new Error("nothing was counted"); // The engine must not skip the work.
  }
  return least(found);
}

/** As admission does it. */
function admitted(throttle: Throttle, records: readonly FlowRecord[]): number {
  const atMs = throttle.elapsedMs();
  let kept = 0;
  for (const record of records) if (throttle.admit(record, atMs) === undefined) kept++;
  return kept;
}

function admittedByClock(throttle: Throttle, records: readonly FlowRecord[]): number {
  let kept = 0;
  for (const record of records) if (throttle.admit(record) === undefined) kept++;
  return kept;
}

function throttleRow(
  name: string,
  changes: Partial<ThrottleSettings>,
  records: readonly FlowRecord[],
  admit = admitted,
): BenchRow {
  const throttle = throttleOf(changes);
  const value = nsARecord(() => admit(throttle, records));
  return {
    name: `throttle, ${name}`,
    value,
    unit: "ns",
    budget: { max: 100 },
  };
}

const noRules = { include: [], exclude: [] };
const rules = {
  include: [
    filterRuleSchema.parse({ verdict: "dropped" }),
    filterRuleSchema.parse({ from: { ip: ["10.0.0.0/8", "2001:db8::/32"] }, protocol: ["tcp", "dns"] }),
  ],
  exclude: [filterRuleSchema.parse({ to: { ip: "192.168.1.0/25", port: [443, 8443] }, direction: "egress" })],
};

function admissionRow(
  name: string,
  given: typeof rules,
  changes: Partial<ThrottleSettings>,
  records: readonly FlowRecord[],
): BenchRow {
  const admission = createAdmission({ throttle: throttleOf(changes), filter: createFilter(given) });
  const value = nsARecord(() => admission.sort(records).rows.length);
  return { name: `admission, ${name}`, value, unit: "ns" };
}

export async function throttleBench(): Promise<BenchRow[]> {
  const records = flows(batchRows);
  return [
    throttleRow("window, kept", unspent, records),
    throttleRow("window, thrown away", spent, records),
    throttleRow("smooth, kept", { ...unspent, mode: "smooth" }, records),
    throttleRow("smooth, thrown away", { ...spent, mode: "smooth" }, records),
    throttleRow("window, clock read each time, kept", unspent, records, admittedByClock),
    admissionRow("all kept", noRules, unspent, records),
    admissionRow("all thrown away", noRules, spent, records),
    admissionRow("three rules with networks", rules, unspent, records),
  ];
}

if (import.meta.main) console.table(await throttleBench());
