// Admission: each record has one fate, in its order, and the ledger has a count of each.

import { expect, test } from "bun:test";
import fc from "fast-check";
import { createAdmission } from "../src/admission.ts";
import { createFilter } from "../src/filter.ts";
import { filterRuleSchema } from "../src/filter-rules.ts";
import { totalOf } from "../src/store/ledger.ts";
import { anyFlow, flows } from "./store.flows.ts";
import { anySettings, drop, plain, rig, settings } from "./throttle.rig.ts";

const tcpOnly = createFilter({ include: [filterRuleSchema.parse({ protocol: "tcp" })], exclude: [] });
const noDrops = createFilter({ include: [], exclude: [filterRuleSchema.parse({ verdict: "dropped" })] });

test("without filter and loss the records go through as they came", () => {
  const records = flows(100);
  const everything = createFilter({ include: [], exclude: [] });
  for (const filter of [undefined, everything]) {
    const { rows, unkept, ledger } = createAdmission({ throttle: rig().throttle, filter }).sort(records);
    expect(rows).toBe(records);
    expect(unkept).toEqual([]);
    expect(ledger).toEqual({});
  }
});

test("each reason is counted by its name in the ledger", () => {
  const { throttle } = rig({ rate: 1, window: 1, reserve: 1 });
  const admission = createAdmission({ throttle });
  const window = admission.sort([plain, plain, drop, drop, plain]);
  expect(window.rows).toEqual([plain, drop]);
  expect(window.unkept).toEqual([plain, drop, plain]);
  expect(window.ledger).toEqual({ "rows.throttled.window": 2, "rows.throttled.reserve": 1 });
  throttle.apply({ ...settings, mode: "smooth", rate: 1, window: 1, reserve: 0 });
  expect(admission.sort([plain, drop]).ledger).toEqual({ "rows.throttled.smooth": 2 });
  admission.setFilter(noDrops);
  expect(admission.sort([drop, plain]).ledger).toEqual({
    "rows.filtered.excluded": 1,
    "rows.throttled.smooth": 1,
  });
  admission.setFilter(tcpOnly);
  expect(admission.sort([{ ...plain, protocol: 1 }]).ledger).toEqual({ "rows.filtered.not_included": 1 });
  admission.setFilter(undefined);
  expect(admission.sort([drop]).ledger).toEqual({ "rows.throttled.smooth": 1 });
});

test("what the filter refuses spends nothing of the throttle's budget", () => {
  const { throttle } = rig({ rate: 2, window: 1 });
  const { rows, unkept } = createAdmission({ throttle, filter: noDrops }).sort([
    drop,
    drop,
    drop,
    plain,
    plain,
  ]);
  expect(rows).toEqual([plain, plain]);
  expect(unkept).toEqual([drop, drop, drop]);
});

test("every record is kept or not, once and in order, and the ledger says how many", () => {
  const filter = fc.constantFrom(undefined, tcpOnly, noDrops);
  const load = fc.array(fc.array(anyFlow, { maxLength: 60 }), { maxLength: 6 });
  fc.assert(
    fc.property(anySettings, filter, load, (given, first, batches) => {
      const { throttle, clock } = rig(given);
      const admission = createAdmission({ throttle, filter: first });
      for (const records of batches) {
        const before = [...records];
        const { rows, unkept, ledger } = admission.sort(records);
        expect(records).toEqual(before);
        const out = new Set(unkept);
        expect(rows).toEqual(records.filter((record) => !out.has(record)));
        expect(unkept).toEqual(records.filter((record) => out.has(record)));
        const totals = ledger as Record<string, number>;
        expect(totalOf(totals, "rows.filtered") + totalOf(totals, "rows.throttled")).toBe(unkept.length);
        clock.ms += 700;
      }
    }),
  );
});
