// Batches of rows: all that a sink wants, once and in order; the rest counted by what became of it.

import { afterAll, describe, expect, test } from "bun:test";
import fc from "fast-check";
import { createFilter } from "../src/filter.ts";
import type { FlowRecord } from "../src/flow.ts";
import type { SinkFilter } from "../src/store/sink-batch.ts";
import { openStore } from "../src/store/store.ts";
import { newDir, removeDirs } from "./samples.world.ts";
import { doneOf, drain, linesOf, openFile, queryOf, sum } from "./sink-batch.world.ts";
import { anyFlow, flow, flows, startAt } from "./store.flows.ts";

afterAll(removeDirs);

type Line = FlowRecord & { readonly id: string; readonly seq: number };

function storeOf(rows: readonly FlowRecord[], bytesMax = 64 * 2 ** 20) {
  const dir = newDir();
  using store = openStore({ dir, bytesMax, ageMaxMs: 1e12 });
  for (let from = 0; from < rows.length; from += 5000)
    store.append({ rows: rows.slice(from, from + 5000), at: startAt });
  return dir;
}
const everything: SinkFilter = { include: [], exclude: [], metrics: [] };

describe("rows of a sink", () => {
  test("come once each, in order, with an id that stays", () => {
    using file = openFile(storeOf(flows(5000)));
    const batches = drain("flows", file, 5000, (number) => ({ recordsMax: 1 + ((number * 37) % 900) }));
    const lines = batches.flatMap(linesOf<Line>);
    expect(lines.map(({ seq }) => seq)).toEqual(Array.from({ length: 5000 }, (_, index) => index + 1));
    const prefix = `n1/${file.reader.generation.toString(36)}-`;
    for (const { id, seq, ...rest } of lines) {
      expect(id).toBe(prefix + seq.toString(36));
      expect(rest).toEqual(flow(seq - 1));
    }
  });

  test("are those that the rules pass, not yet expired, within the span; all others are counted", () => {
    const filters: SinkFilter[] = [
      everything,
      { ...everything, include: [{ verdict: ["dropped"] }] },
      { ...everything, exclude: [{ protocol: ["tcp"] }, { ip: ["fe80::/10"] }] },
    ];
    fc.assert(
      fc.property(
        fc.array(anyFlow, { minLength: 1, maxLength: 60 }),
        fc.record({
          filter: fc.constantFrom(...filters),
          cutoffAt: fc.constantFrom(0, startAt + 20_000),
          spanMaxMs: fc.constantFrom(Number.POSITIVE_INFINITY, 15_000, 0),
          bytesMax: fc.constantFrom(1, 2000, 2 ** 20),
        }),
        fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 5 }),
        (rows, options, sizes) => {
          using file = openFile(storeOf(rows));
          const recordsMax = (number: number): number => sizes[number % sizes.length] ?? 1;
          const batches = drain("flows", file, rows.length, (number) => ({
            ...options,
            recordsMax: recordsMax(number),
          }));
          const passes = createFilter(options.filter);
          const wanted = rows.filter((row) => passes(row) === undefined);
          const fresh = wanted.filter(({ endAt }) => endAt >= options.cutoffAt);
          const lines = batches.flatMap(linesOf<Line>);
          expect(lines.map(({ id: _, seq: __, ...rest }) => rest)).toEqual(fresh);
          expect(sum(batches, ({ filtered }) => filtered)).toBe(rows.length - wanted.length);
          expect(sum(batches, ({ expired }) => expired)).toBe(wanted.length - fresh.length);
          expect(sum(batches, doneOf)).toBe(rows.length);
          for (const { expired, body } of batches) expect(expired === 0 || body === undefined).toBe(true);
        },
      ),
      { numRuns: 60 },
    );
  });

  test("that no body can hold are rejected alone", () => {
    const rows = flows(20).map((row, index) => (index % 5 === 2 ? { ...row, destinationPort: 666 } : row));
    using file = openFile(storeOf(rows));
    for (const recordsMax of [1, 3, 100]) {
      const batches = drain("flows", file, 20, () => ({ recordsMax }));
      expect(sum(batches, ({ rejected }) => rejected)).toBe(4);
      expect(sum(batches, ({ records }) => records)).toBe(16);
      const told = batches.filter(({ rejected }) => rejected > 0);
      for (const { rejectedMessage } of told) expect(rejectedMessage).toBe("port 666 cannot be encoded");
    }
  });

  test("that retention took are missing", () => {
    using file = openFile(storeOf(flows(30_000), 2 ** 20));
    const { first, last } = file.reader.held();
    expect(first).toBeGreaterThan(1);
    expect(last).toBe(30_000);
    const batches = drain("flows", file, last);
    expect(sum(batches, ({ missing }) => missing)).toBe(first - 1);
    expect(batches.flatMap(linesOf<Line>).map(({ seq }) => seq)).toEqual(
      Array.from({ length: last - first + 1 }, (_, index) => first + index),
    );
    const gone = file.read(queryOf("flows", file, { last: 10 }));
    expect(gone).toMatchObject({ first: 1, last: 10, missing: 10, records: 0, complete: true });
    expect(gone.body).toBeUndefined();
  });

  test("alone in a body come as text too", () => {
    using file = openFile(storeOf(flows(3)));
    const { text = "" } = file.read(queryOf("flows", file, { first: 2, last: 3, recordsMax: 1 }));
    expect(JSON.parse(text)).toEqual({ seq: 2, ...flow(1) });
  });

  test("are looked at in bounded numbers", () => {
    using file = openFile(storeOf(flows(25_000)));
    const filter: SinkFilter = { ...everything, include: [{ port: [1] }] };
    const batch = file.read(queryOf("flows", file, { last: 25_000, filter }));
    expect(batch).toMatchObject({ first: 1, records: 0, complete: true });
    expect(batch.last).toBeLessThanOrEqual(20_000);
    expect(batch.filtered).toBe(batch.last);
  });

  test("of another file are not read", () => {
    using file = openFile(storeOf(flows(3)));
    const query = queryOf("flows", file, { last: 3, generation: file.reader.generation + 1 });
    expect(file.read(query)).toMatchObject({ stale: true, records: 0, missing: 0, filtered: 0 });
  });

  test("need a format that has a place for them, and a right question", () => {
    using file = openFile(storeOf(flows(3)));
    const query = queryOf("flows", file, { last: 3 });
    expect(() => file.read({ ...query, encoder: { ...query.encoder, format: "loki" } })).toThrow(
      "encoder: the format loki has no place for flows.",
    );
    expect(() => file.read({ ...query, recordsMax: 0 })).toThrow("recordsMax: 0");
    expect(() => file.read({ ...query, first: 4 })).toThrow("last: 3");
  });
});
