// What pktmon says of drops, and the sums of it. The fixture is synthetic, after what public scripts read.

import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { createDropSums, type DropCounter, parseDropCounters } from "../../windows/pktmon-counters.ts";

const fixture = readFileSync(
  join(import.meta.dir, "../fixtures/windows/pktmon-counters.synthetic.json"),
  "utf8",
);

const parsed = (text: string | Uint8Array): readonly string[] =>
  parseDropCounters(typeof text === "string" ? Buffer.from(text) : text)
    .map(({ direction, reason, packets, bytes }) => `${reason} ${direction} ${packets} ${bytes}`)
    .toSorted();

const expected = [
  "FilteredVLAN ingress 5 500",
  "InspectionDrop egress 1 60",
  "InspectionDrop ingress 7 700",
  "unknown egress 0 0",
];

const component = (counter: object): string =>
  JSON.stringify([{ Group: "Ethernet", Components: [{ Name: "TCPIP", Id: 3, Counters: [counter] }] }]);

const drop = (fields: object): string =>
  component({ Name: "Drops", Type: "Drops", Inbound: { Packets: 2, Bytes: 200 }, ...fields });

describe("the JSON", () => {
  test("gives drops alone, each component once in whatever groups it stands", () => {
    expect(parsed(fixture)).toEqual(expected);
  });

  test("is read in the encodings that tools write, with lines around it", () => {
    expect(parsed(Buffer.from(`\uFEFF${fixture}`))).toEqual(expected);
    expect(parsed(Buffer.from(`\uFEFF${fixture}`, "utf16le"))).toEqual(expected);
    expect(parsed(Buffer.from(fixture, "utf16le"))).toEqual(expected);
    expect(parsed(`Packet Monitor\r\n${fixture}\r\ndone`)).toEqual(expected);
    expect(parsed(fixture.replaceAll(",", ",\r\n\t"))).toEqual(expected);
  });

  test("texts of a code page break nothing", () => {
    // Shift JIS: the second byte of 表 is a backslash. Code page 850: é is 0x82.
    const [before = "", after = ""] = drop({ DropReason: "@" }).split("@");
    const raw = (bytes: readonly number[]): Uint8Array =>
      Buffer.concat([Buffer.from(before), Buffer.from(bytes), Buffer.from(after)]);
    expect(parsed(raw([0x95, 0x5c]))).toEqual(["unknown ingress 2 200"]);
    expect(parsed(raw([0x52, 0x82, 0x66]))).toEqual(["RF ingress 2 200"]);
    expect(parsed(raw([...Buffer.from("防火墙 丢弃")]))).toEqual(["防火墙丢弃 ingress 2 200"]);
  });

  test("reasons are words of a name, numbers, or unknown", () => {
    expect(parsed(drop({ "Drop Reason": "MTU mismatch" }))).toEqual(["MTUMismatch ingress 2 200"]);
    expect(parsed(drop({ lastDropReason: 711 }))).toEqual(["reason-711 ingress 2 200"]);
    expect(parsed(drop({ DropReason: "x".repeat(500) }))).toEqual([`X${"x".repeat(63)} ingress 2 200`]);
    expect(parsed(drop({ DropReason: null }))).toEqual(["unknown ingress 2 200"]);
  });

  test("what is no count costs that direction alone", () => {
    const odd = drop({ Inbound: { Packets: "many" }, Outbound: { Packets: "9007199254740993" }, Extra: [] });
    expect(parsed(odd)).toEqual(["unknown egress 9007199254740993 0"]);
    expect(parsed(drop({ Inbound: { Packets: 18446744073709551615n.toString() } }))).toEqual([]);
  });

  test("one object stands for an array of one", () => {
    const one = {
      group: "a",
      components: { name: "b", counters: { type: "drop", inbound: { packets: 1, bytes: 2 } } },
    };
    expect(parsed(JSON.stringify(one))).toEqual(["unknown ingress 1 2"]);
    expect(parsed("[]")).toEqual([]);
  });

  test("throws for what is none", () => {
    for (const none of ["", "All counters are zero.", '[{"Group":"Eth', "[1,2"])
      expect(() => parsed(none)).toThrow();
  });
});

const counter = (packets: number, reason = "Filtered", key = "1"): DropCounter => ({
  key,
  direction: "ingress",
  reason,
  packets: BigInt(packets),
  bytes: BigInt(packets * 100),
});

describe("sums", () => {
  test("count from the first reading of a session on", () => {
    const sums = createDropSums();
    sums.take([counter(50)]);
    expect(sums.totals()).toEqual([{ reason: "Filtered", direction: "ingress", packets: 0, bytes: 0 }]);
    sums.take([counter(53), counter(4, "Filtered", "2")]);
    expect(sums.totals()).toEqual([{ reason: "Filtered", direction: "ingress", packets: 7, bytes: 700 }]);
  });

  test("a counter that falls was reset, one that is missing for a while was not", () => {
    const sums = createDropSums();
    sums.take([counter(0)]);
    sums.take([counter(10)]);
    sums.take([counter(4)]);
    sums.take([]);
    sums.take([counter(5)]);
    expect(sums.totals()[0]?.packets).toBe(15);
  });

  test("another session begins anew, without a fall", () => {
    const sums = createDropSums();
    sums.take([counter(0)]);
    sums.take([counter(10)]);
    sums.restart();
    sums.take([counter(1000)]);
    sums.take([counter(1001)]);
    expect(sums.totals()[0]?.packets).toBe(11);
  });

  test("what is new counts under the reason of its time", () => {
    const sums = createDropSums();
    sums.take([]);
    sums.take([counter(5, "Filtered")]);
    sums.take([counter(7, "Inspection")]);
    expect(sums.totals().map(({ reason, packets }) => `${reason} ${packets}`)).toEqual([
      "Filtered 5",
      "Inspection 2",
    ]);
  });

  test("reasons are bounded, and what goes beyond counts as other", () => {
    const sums = createDropSums();
    sums.take([]);
    sums.take(Array.from({ length: 2000 }, (_, at) => counter(1, `reason ${at}`, `${at}`)));
    const totals = sums.totals();
    expect(totals.length).toBe(513);
    expect(totals.at(-1)).toMatchObject({ reason: "other", packets: 2000 - 512 });
  });

  test("law: no sum falls, and without resets all of them are what the counters rose by", () => {
    const reading = fc.array(
      fc.record({
        key: fc.constantFrom("a", "b", "c"),
        reason: fc.constantFrom("x", "y"),
        packets: fc.integer({ min: 0, max: 1000 }),
      }),
      { maxLength: 4 },
    );
    fc.assert(
      fc.property(fc.array(reading, { maxLength: 12 }), fc.boolean(), (readings, rising) => {
        const sums = createDropSums();
        const now = new Map<string, number>();
        let before: readonly number[] = [];
        let risen = 0;
        sums.take([]);
        for (const items of readings) {
          const seen = new Map(items.map((item) => [item.key, item]));
          const counters = [...seen.values()].map(({ key, reason, packets }) => {
            const value = rising ? (now.get(key) ?? 0) + packets : packets;
            if (rising) risen += packets;
            now.set(key, value);
            return counter(value, reason, key);
          });
          sums.take(counters);
          const after = sums.totals().map(({ packets }) => packets);
          for (const [at, value] of before.entries()) expect(after[at]).toBeGreaterThanOrEqual(value);
          before = after;
        }
        if (rising) expect(before.reduce((sum, value) => sum + value, 0)).toBe(risen);
      }),
    );
  });
});
