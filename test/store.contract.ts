// What every store must do, wherever its rows lie.

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { FlowRecord } from "../src/flow.ts";
import { parseAddress, parseRange, type StoredAddress } from "../src/store/address.ts";
import { StoreQueryError } from "../src/store/failure.ts";
import type { FlowFilter } from "../src/store/filter.ts";
import { checkLaws, type LedgerDeltas } from "../src/store/ledger.ts";
import type { FlowPage, FlowQuery } from "../src/store/query.ts";
import type { Store, StoreOptions } from "../src/store/store.ts";
import { anyFlow, flow, flows, startAt } from "./store.flows.ts";

export type OpenStore = (options?: Partial<Omit<StoreOptions, "dir">>) => Store;

/** Counts that obey the laws for so many rows, as the tick would hand them over. */
export const offering = (rows: number, extra: LedgerDeltas = {}): LedgerDeltas => ({
  "rows.offered": rows,
  ...extra,
});

export function append(store: Store, rows: readonly FlowRecord[], at = startAt) {
  return store.append({ rows, at, ledger: offering(rows.length) });
}

/** All laws, that of the stored rows included. */
export function expectLaws(store: Store): void {
  const broken = checkLaws(store.ledger(), store.stats().rows).filter(({ holds }) => !holds);
  expect(broken).toEqual([]);
}

/** Follows the cursor to the end. */
export function readAll(store: Store, query: FlowQuery): FlowPage["flows"] {
  const all: FlowPage["flows"][number][] = [];
  for (let cursor: string | undefined; ; ) {
    const page = store.queryFlows({ ...query, ...(cursor === undefined ? {} : { cursor }) });
    all.push(...page.flows);
    if (!page.more) return all;
    cursor = page.cursor;
  }
}

export const plain = (page: FlowPage["flows"]): FlowRecord[] =>
  page.map(({ seq: _seq, ...record }) => record);
export const seqs = (page: FlowPage["flows"]): number[] => page.map(({ seq }) => seq);

export function storeContract(name: string, open: OpenStore): void {
  describe(name, () => {
    rowsContract(open);
    pagingContract(open);
    filterContract(open);
  });
}

function rowsContract(open: OpenStore): void {
  test("gives back what was appended, with a seq that grows by one", () => {
    fc.assert(
      fc.property(fc.array(anyFlow, { minLength: 1, maxLength: 30 }), (rows) => {
        using store = open();
        expect(append(store, rows)).toEqual({ kept: rows.length, invalid: 0, lost: 0, evicted: 0 });
        const found = readAll(store, { order: "oldest" });
        expect(plain(found)).toEqual(rows);
        expect(seqs(found)).toEqual(rows.map((_, index) => index + 1));
        expectLaws(store);
      }),
      { numRuns: 30 },
    );
  });

  test("counts an invalid row by reason and keeps the others", () => {
    using store = open();
    const bad: readonly [reason: string, row: unknown][] = [
      ["address", flow(1, { source: "10.0.0.256" })],
      ["address", flow(1, { destination: "" })],
      ["address", { ...flow(1), source: 7 }],
      ["count", flow(1, { packets: -1 })],
      ["count", flow(1, { bytes: Number.NaN })],
      ["count", flow(1, { bytes: 1.5 })],
      ["count", flow(1, { packets: 2 ** 53 })],
      ["count", flow(1, { tcpFlags: 256 })],
      ["count", flow(1, { rttUs: -3 })],
      ["port", flow(1, { sourcePort: 65_536 })],
      ["protocol", flow(1, { protocol: 256 })],
      ["time", flow(1, { endAt: Number.NaN })],
      ["name", { ...flow(1), direction: "sideways" }],
      ["name", { ...flow(1), evictReason: "bored" }],
      ["name", { ...flow(1), interface: null }],
      ["shape", null],
      ["shape", "a flow"],
    ];
    const rows = bad.flatMap(([, row], index) => [flow(index), row as FlowRecord]);
    const result = append(store, rows);
    expect(result).toEqual({ kept: bad.length, invalid: bad.length, lost: 0, evicted: 0 });
    const counts = Object.groupBy(bad, ([reason]) => reason);
    for (const [reason, all] of Object.entries(counts))
      expect(store.ledger()[`rows.invalid.${reason}`]).toBe(all?.length ?? -1);
    expect(readAll(store, { order: "oldest" })).toHaveLength(bad.length);
    expectLaws(store);
  });

  test("cuts a text that is too long and keeps the row", () => {
    using store = open();
    append(store, [flow(1, { interface: "x".repeat(1000) })]);
    expect(readAll(store, {})[0]?.interface).toBe("x".repeat(128));
  });

  test("takes texts without end, and says where one found no place", () => {
    using store = open({ stringsMax: 16 });
    for (let number = 0; number < 40; number++) append(store, [flow(number, { interface: `veth${number}` })]);
    const names = readAll(store, { order: "oldest" }).map((row) => row.interface);
    expect(names.slice(0, 10)).toEqual(Array.from({ length: 10 }, (_, number) => `veth${number}`));
    const others = names.filter((name) => name === "(other)").length;
    expect(others).toBeGreaterThan(20);
    expect(store.stats().stringsOther).toBeGreaterThanOrEqual(others);
  });

  test("gives the place of texts that only evicted rows used to new ones", () => {
    using store = open({ stringsMax: 16, ageMaxMs: 1000 });
    for (let number = 0; number < 200; number++)
      append(store, [flow(number * 2, { interface: `veth${number}` })], startAt + number * 500);
    expect(store.stats().stringsOther).toBe(0);
    expect(readAll(store, { order: "newest", limit: 1 })[0]?.interface).toBe("veth199");
  });
}

function pagingContract(open: OpenStore): void {
  test("pages meet every row once, in either order, while rows are appended", () => {
    using store = open();
    append(store, flows(95));
    for (const order of ["newest", "oldest"] as const) {
      const newest = store.stats().lastSeq;
      const first = store.queryFlows({ order, limit: 30 });
      append(store, flows(10, 1000));
      const rest: number[] = [];
      let { cursor, more } = first;
      while (more) {
        const page = store.queryFlows({ order, limit: 30, cursor });
        rest.push(...seqs(page.flows));
        ({ cursor, more } = page);
      }
      const all = [...seqs(first.flows), ...rest];
      const last = order === "newest" ? newest : newest + 10;
      const ascending = Array.from({ length: last }, (_, index) => index + 1);
      expect(all).toEqual(order === "oldest" ? ascending : ascending.toReversed());
    }
  });

  test("a cursor in oldest order goes on with rows that come later", () => {
    using store = open();
    const empty = store.queryFlows({ order: "oldest" });
    expect(empty).toMatchObject({ flows: [], more: false });
    append(store, flows(3));
    const { flows: found, cursor } = store.queryFlows({ order: "oldest", cursor: empty.cursor });
    expect(seqs(found)).toEqual([1, 2, 3]);
    expect(store.queryFlows({ order: "oldest", cursor }).flows).toEqual([]);
    append(store, flows(1, 9));
    expect(seqs(store.queryFlows({ order: "oldest", cursor }).flows)).toEqual([4]);
    expect(
      seqs(store.queryFlows({ order: "oldest", cursor: store.cursorAt({ seq: 2, order: "oldest" }) }).flows),
    ).toEqual([3, 4]);
    expect(seqs(store.queryFlows({ cursor: store.cursorAt({ seq: 3, order: "newest" }) }).flows)).toEqual([
      2, 1,
    ]);
  });

  test("one call looks at a bounded number of rows and gives a cursor to go on", () => {
    using store = open({ scanMax: 100 });
    append(store, [flow(0, { destinationPort: 7777 }), ...flows(450, 1), flow(0, { destinationPort: 7777 })]);
    for (const order of ["newest", "oldest"] as const) {
      const page = store.queryFlows({ order, ports: [7777] });
      expect(page).toMatchObject({ more: true, scanned: 100 });
      const second = store.queryFlows({ order, ports: [7777], cursor: page.cursor });
      expect(second).toMatchObject({ flows: [], more: true, scanned: 100 });
      expect(seqs(readAll(store, { order, ports: [7777] }))).toEqual(
        order === "newest" ? [452, 1] : [1, 452],
      );
    }
  });

  test("the more addresses are compared, the fewer rows one call looks at", () => {
    using store = open({ scanMax: 100 });
    append(store, flows(150));
    const eight = Array.from({ length: 8 }, () => "192.0.2.1");
    const scanned = (query: FlowQuery) => store.queryFlows(query).scanned;
    expect(scanned({ destinationPorts: [7777] })).toBe(100);
    expect(scanned({ sources: eight })).toBe(50);
    expect(scanned({ destinations: eight })).toBe(50);
    expect(scanned({ addresses: eight })).toBe(34);
    expect(scanned({ sources: eight, destinations: eight })).toBe(34);
  });

  test("refuses a cursor that it did not give", () => {
    using store = open();
    using another = open();
    append(store, flows(5));
    append(another, flows(5));
    const { cursor } = store.queryFlows({ limit: 1 });
    const wrong = ["", "x", "bm9uZQ", `${cursor}=`, `${cursor} `, "9".repeat(5000)];
    for (const bad of wrong) expectRefused(store, { cursor: bad }, "cursor");
    expectRefused(another, { cursor }, "cursor");
    expectRefused(store, { cursor, order: "oldest" }, "cursor");
  });
}

function expectRefused(store: Store, query: FlowQuery, parameter: string): void {
  let thrown: unknown;
  try {
    store.queryFlows(query);
  } catch (error) {
    thrown = error;
  }
  expect(thrown).toBeInstanceOf(StoreQueryError);
  expect((thrown as StoreQueryError).parameter).toBe(parameter);
}

const inRange = (address: StoredAddress | undefined, text: string): boolean => {
  const { low, high } = parseRange(text)!;
  if (typeof address === "number")
    return typeof low === "number" && address >= low && address <= (high as number);
  if (address === undefined || typeof low === "number") return false;
  return Buffer.compare(address, low) >= 0 && Buffer.compare(address, high as Buffer) <= 0;
};

/** The filter as plain code, to compare with. */
function matches(row: FlowRecord, query: FlowQuery): boolean {
  const ends = [parseAddress(row.source), parseAddress(row.destination)];
  const tests: boolean[] = [
    row.endAt >= (query.fromAt ?? 0),
    row.endAt < (query.toAt ?? Number.POSITIVE_INFINITY),
    query.addresses?.some((text) => ends.some((end) => inRange(end, text))) ?? true,
    query.sources?.some((text) => inRange(ends[0], text)) ?? true,
    query.destinations?.some((text) => inRange(ends[1], text)) ?? true,
    query.ports?.some((port) => port === row.sourcePort || port === row.destinationPort) ?? true,
    query.sourcePorts?.includes(row.sourcePort) ?? true,
    query.destinationPorts?.includes(row.destinationPort) ?? true,
    row.protocol === (query.protocol ?? row.protocol),
    row.direction === (query.direction ?? row.direction),
    row.verdict === (query.verdict ?? row.verdict),
    row.dropReason === (query.dropReason ?? row.dropReason),
  ];
  return tests.every(Boolean);
}

const anyNetworks = fc.array(
  fc.constantFrom(
    "10.0.0.1",
    "10.0.0.0/8",
    "0.0.0.0/0",
    "200.1.2.3/31",
    "::/0",
    "2001:db8::/32",
    "fe80::1",
    "::/1",
  ),
  { minLength: 1, maxLength: 3 },
);
const anyPorts = fc.array(fc.constantFrom(0, 53, 443, 8080, 65_535), { minLength: 1, maxLength: 2 });

const anyFilter = {
  fromAt: fc.nat(60_000).map((ms) => startAt + ms),
  toAt: fc.nat(60_000).map((ms) => startAt + ms),
  addresses: anyNetworks,
  sources: anyNetworks,
  destinations: anyNetworks,
  ports: anyPorts,
  sourcePorts: anyPorts,
  destinationPorts: anyPorts,
  protocol: fc.constantFrom(1, 6, 17),
  direction: fc.constantFrom("ingress", "egress"),
  verdict: fc.constantFrom("forwarded", "dropped"),
  dropReason: fc.constantFrom("NO_SOCKET", "NETFILTER_DROP", "NEVER_SEEN"),
} satisfies { readonly [Key in keyof FlowFilter]-?: fc.Arbitrary<FlowFilter[Key]> };

// Up to four keys: with more, hardly any row would match.
const anyQuery: fc.Arbitrary<FlowQuery> = fc
  .tuple(
    fc.record(anyFilter),
    fc.subarray(Object.keys(anyFilter), { maxLength: 4 }),
    fc.record(
      { order: fc.constantFrom("newest", "oldest"), limit: fc.integer({ min: 1, max: 7 }) },
      { requiredKeys: [] },
    ),
  )
  .map(([filter, keys, page]) => ({
    ...Object.fromEntries(Object.entries(filter).filter(([key]) => keys.includes(key))),
    ...page,
  }));

function filterContract(open: OpenStore): void {
  test("tells one end of a flow from the other", () => {
    using store = open();
    const there = { source: "10.0.0.1", destination: "2001:db8::1", sourcePort: 40_000, destinationPort: 53 };
    const back = { source: "2001:db8::1", destination: "10.0.0.1", sourcePort: 53, destinationPort: 40_000 };
    append(store, [flow(1, there), flow(2, back)]);
    const found = (query: FlowQuery) => seqs(readAll(store, query));
    expect(found({ addresses: ["10.0.0.0/8"], ports: [53] })).toEqual([2, 1]);
    expect(found({ sources: ["10.0.0.0/8"] })).toEqual([1]);
    expect(found({ destinations: ["10.0.0.1"] })).toEqual([2]);
    expect(found({ sources: ["192.0.2.1", "2001:db8::/32"], destinations: ["10.0.0.0/31"] })).toEqual([2]);
    expect(found({ sourcePorts: [40_000, 1] })).toEqual([1]);
    expect(found({ destinationPorts: [40_000] })).toEqual([2]);
    expect(found({ sources: ["10.0.0.1"], destinationPorts: [40_000] })).toEqual([]);
    expect(found({ addresses: ["10.0.0.1"], sources: ["2001:db8::1"], ports: [53] })).toEqual([2]);
  });

  test("finds the rows that a plain filter finds", () => {
    using store = open({ scanMax: 17 });
    const rows = fc.sample(anyFlow, { numRuns: 300, seed: 7 });
    // Many small batches, minutes apart, so that time and drops choose among them.
    for (let start = 0; start < rows.length; start += 10)
      append(store, rows.slice(start, start + 10), startAt + start * 60_000);
    fc.assert(
      fc.property(anyQuery, (query) => {
        const expected = rows.filter((row) => matches(row, query));
        const found = plain(readAll(store, query));
        expect(query.order === "oldest" ? found : found.toReversed()).toEqual(expected);
      }),
      { numRuns: 150 },
    );
  });

  test("finds rows by time across clock steps", () => {
    using store = open({ ageMaxMs: 1e12 });
    const hour = 3_600_000;
    const clocks = [0, hour, -5 * hour, 2 * hour, 400 * 24 * hour, 3 * hour];
    for (const [index, step] of clocks.entries())
      append(store, [flow(index, { endAt: startAt + step, startAt: startAt + step })], startAt + step);
    for (const [index, step] of clocks.entries()) {
      const at = startAt + step;
      expect(seqs(readAll(store, { fromAt: at, toAt: at + 1 }))).toEqual([index + 1]);
    }
    expect(seqs(readAll(store, { fromAt: startAt, toAt: startAt + 3 * hour }))).toEqual([4, 2, 1]);
    expect(readAll(store, { fromAt: startAt + 1, toAt: startAt + hour })).toEqual([]);
  });

  test("names the parameter that is wrong", () => {
    using store = open();
    expectRefused(store, { addresses: ["10.0.0.0/33"] }, "addresses");
    expectRefused(store, { addresses: ["host"] }, "addresses");
    expectRefused(store, { addresses: Array.from({ length: 65 }, () => "10.0.0.1") }, "addresses");
    for (const key of ["sources", "destinations"] as const) {
      expectRefused(store, { [key]: ["10.0.0.1", "::/129"] }, key);
      expectRefused(store, { [key]: Array.from({ length: 65 }, () => "10.0.0.1") }, key);
    }
    for (const key of ["sourcePorts", "destinationPorts"] as const) {
      expectRefused(store, { [key]: [-1] }, key);
      expectRefused(store, { [key]: Array.from({ length: 65 }, () => 1) }, key);
    }
    expectRefused(store, { ports: [65_536] }, "ports");
    expectRefused(store, { ports: [1.5] }, "ports");
    expectRefused(store, { protocol: -1 }, "protocol");
    expectRefused(store, { fromAt: Number.NaN }, "fromAt");
    expectRefused(store, { toAt: Number.POSITIVE_INFINITY }, "toAt");
    expectRefused(store, { limit: 0 }, "limit");
    expectRefused(store, { limit: 5001 }, "limit");
    expectRefused(store, { direction: "up" as "egress" }, "direction");
    expectRefused(store, { verdict: "maybe" as "dropped" }, "verdict");
    expectRefused(store, { order: "best" as "newest" }, "order");
  });
}
