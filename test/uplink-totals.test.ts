// Totals of many CPUs, read from memory that the kernel goes on writing: every count, and little work for those that are 0.

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { dropTotals, totals as layout, limits } from "../bpf/contract.gen.ts";
import { readDropTotals, readTotals } from "../bpf/uplink-totals.ts";

const reasons = { name: (reason: number) => `reason ${reason}`, known: 0 };
const totalWords = layout.size / 8;
const dropWords = dropTotals.size / 8;

/** Counts as any CPU may have them: none, few, more than 32 bits, on either side of 2^32. */
const counts = fc.oneof(
  fc.constant(0n),
  fc.bigInt({ min: 1n, max: 200n }),
  fc.bigInt({ min: 2n ** 32n - 2n, max: 2n ** 32n + 2n }),
  fc.bigInt({ min: 2n ** 33n, max: 2n ** 40n }),
);

const sumOf = (words: BigUint64Array, cpuWords: number, word: number): number => {
  let sum = 0n;
  for (let at = word; at < words.length; at += cpuWords) sum += words[at] ?? 0n;
  return Number(sum);
};

/** `cpus` CPUs, of which some words are written. */
const memory = (cpus: number, cpuWords: number) =>
  fc.array(fc.tuple(fc.nat(cpus * cpuWords - 1), counts), { maxLength: 60 }).map((written) => {
    const words = new BigUint64Array(cpus * cpuWords);
    for (const [at, count] of written) words[at] = count;
    return words;
  });

const cpuNumbers = fc.constantFrom(1, 2, 3, 32);

describe("totals", () => {
  test("are the sums over all CPUs", () => {
    const sample = cpuNumbers.chain((cpus) => memory(cpus, totalWords).map((words) => ({ cpus, words })));
    fc.assert(
      fc.property(sample, ({ cpus, words }) => {
        const { forward, uplinks } = readTotals(words, cpus, ["up0"]);
        const at = (word: number): number => sumOf(words, totalWords, layout.forward / 8 + word);
        expect(uplinks).toEqual(["up0"]);
        expect(forward).toEqual({
          ingress: { packets: at(0), bytes: at(1) },
          egress: { packets: at(2), bytes: at(3) },
        });
      }),
    );
  });

  test("flags are those of all CPUs, by direction", () => {
    const SYN = 2;
    const ACK = 16;
    const words = new BigUint64Array(3 * totalWords);
    const add = (cpu: number, field: number, direction: number, flags: number, count: bigint): void => {
      words[cpu * totalWords + field / 8 + direction * limits.TCP_FLAG_SETS + flags] = count;
    };
    add(0, layout.flagBuffers, 0, SYN, 5n);
    add(2, layout.flagBuffers, 0, SYN, 2n ** 32n);
    add(1, layout.flagBuffers, 1, SYN | ACK, 7n);
    add(0, layout.flagPackets, 1, ACK, 11n);
    add(1, layout.flagPackets, 1, ACK, 13n);
    const told = readTotals(words, 3, []).tcpFlags.filter(({ packets }) => packets > 0);
    expect(told).toEqual([
      { direction: "ingress", flag: "SYN", packets: 2 ** 32 + 5 },
      { direction: "egress", flag: "SYN-ACK", packets: 7 },
      { direction: "egress", flag: "ACK", packets: 24 },
    ]);
  });
});

test("drops are the sums over all CPUs, by reason and direction; reasons without any have none", () => {
  const sample = cpuNumbers.chain((cpus) => memory(cpus, dropWords).map((words) => ({ cpus, words })));
  fc.assert(
    fc.property(sample, ({ cpus, words }) => {
      const expected = Array.from({ length: 2 * limits.DROP_REASONS }, (_, index) => ({
        reason: reasons.name((((index % limits.DROP_REASONS) >>> 8) << 16) | (index & 0xff)),
        direction: index < limits.DROP_REASONS ? "ingress" : "egress",
        packets: sumOf(words, dropWords, index * 2),
        bytes: sumOf(words, dropWords, index * 2 + 1),
      })).filter(({ packets }) => packets > 0);
      expect<unknown>(readDropTotals(words, cpus, reasons)).toEqual(expected);
    }),
    { numRuns: 30 },
  );
});

test("words that are 0 make no BigInt, whatever the number of CPUs", () => {
  const cpus = 256;
  const words = new BigUint64Array(cpus * totalWords);
  for (let cpu = 0; cpu < cpus; cpu++) words[cpu * totalWords] = 2n;
  let made = 0;
  const watched = new Proxy(words, {
    get(target, name) {
      if (typeof name === "string" && /^\d+$/.test(name)) made++;
      const value: unknown = Reflect.get(target, name, target);
      return value;
    },
  });
  expect(readTotals(watched, cpus, []).forward.ingress.packets).toBe(2 * cpus);
  expect(made).toBe(cpus);
});
