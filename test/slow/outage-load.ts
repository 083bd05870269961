// The load of the outage: what any sample and any row is, so that who receives them knows what they must be.

import type { FlowRecord } from "../../src/flow.ts";
import type { SampleStep } from "../../src/store/sample-pending.ts";
import { flow } from "../store.flows.ts";

export const stepMs = 15_000;
/** Live steps come faster, so that a test of a minute sees many. */
export const liveStepMs = 1000;

/** Every value tells its series and its time. */
export const valueAt = (series: number, at: number): number => series * 1_000_000 + ((at / 1000) % 1_000_000);

const labels = Array.from({ length: 10_000 }, (_, series) => ({ series: String(series) }));

export const stepOf = (at: number, series: number): SampleStep => ({
  at,
  series: labels
    .slice(0, series)
    .map((own, number) => ({ name: "fovea_outage", labels: own, value: valueAt(number, at) })),
});

export const rowsOf = (first: number, count: number, at: number): FlowRecord[] =>
  Array.from({ length: count }, (_, index) =>
    flow(first + index, { startAt: at - 5000, endAt: at - (index % 1000) }),
  );
