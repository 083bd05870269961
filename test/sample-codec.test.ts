// Columns of samples to bytes and back: bit for bit, small, and safe against bytes that nobody wrote.

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  bitLength,
  createByteReader,
  createByteWriter,
  MalformedBytesError,
  unzigzag,
  zigzag,
} from "../src/store/bits.ts";
import { type Column, decodeColumn, encodeColumn } from "../src/store/sample-codec.ts";
import { createStepCoder, readSteps, type StepRow, splitSteps } from "../src/store/sample-steps.ts";

const roundTrip = (column: Column): Column => decodeColumn(encodeColumn(column), column.length);
const same = (a: Column, b: Column): boolean =>
  a.length === b.length && a.every((value, index) => Object.is(value, b[index]));
const bytesOf = (column: Column): number => encodeColumn(column).length;
const steps = 120;
const columnOf = (value: (step: number) => number | undefined): Column =>
  Array.from({ length: steps }, (_, step) => value(step));

const odd = [
  Number.NaN,
  Number.POSITIVE_INFINITY,
  Number.NEGATIVE_INFINITY,
  -0,
  0,
  2 ** 53 - 1,
  -(2 ** 53) + 1,
  2 ** 53,
  2 ** 50,
  2 ** 50 - 1,
  Number.MAX_VALUE,
  Number.MIN_VALUE,
  0.1 + 0.2,
  1e-9,
  1e22,
];

/** Values of one kind, now and then one of another, now and then none. */
const anyColumn = fc
  .tuple(
    fc.constantFrom(
      fc.integer(),
      fc.nat(9),
      fc.maxSafeInteger(),
      fc.double(),
      fc.integer({ min: 0, max: 1e9 }).map((value) => value / 1000),
      fc.integer({ min: -1e6, max: 1e6 }).map((value) => value / 1e6),
      fc.constantFrom(...odd),
      fc.integer({ min: 2 ** 50 - 3, max: 2 ** 50 + 3 }),
    ),
    fc.boolean(),
  )
  .chain(([main, mixed]) =>
    fc.array(
      mixed
        ? fc.oneof({ weight: 8, arbitrary: main }, fc.constantFrom(...odd), fc.constant(undefined))
        : main,
      { minLength: 1, maxLength: 130 },
    ),
  )
  .filter((column) => column.some((value) => value !== undefined));

describe("a column", () => {
  test("comes back to the bit, whatever is in it", () => {
    fc.assert(
      fc.property(anyColumn, (column: Column) => {
        expect(same(roundTrip(column), column)).toBe(true);
      }),
      { numRuns: 2000 },
    );
  });

  test.each(odd)("of %p alone, and among others", (value) => {
    for (const column of [[value], [1, value, 3], [undefined, value], [value, undefined, 0.25]])
      expect(roundTrip(column).map((back, index) => Object.is(back, column[index]))).not.toContain(false);
  });

  test("that grows without end, and falls back, stays exact up to the largest count", () => {
    const growing = columnOf((step) => 2 ** 53 - 1 - (steps - step) * 1_000_003);
    expect(roundTrip(growing)).toEqual(growing);
    const reset = columnOf((step) => (step < 60 ? 2 ** 49 + step : step));
    expect(roundTrip(reset)).toEqual(reset);
  });

  test("is as small as what it tells", () => {
    expect(bytesOf(columnOf(() => 0))).toBeLessThanOrEqual(4);
    expect(bytesOf(columnOf(() => 123_456))).toBeLessThanOrEqual(6);
    expect(bytesOf(columnOf((step) => 7_000_000 + 3000 * step))).toBeLessThanOrEqual(10);
    expect(bytesOf(columnOf((step) => 1_760_000_000 + step * 15))).toBeLessThanOrEqual(12);
    expect(bytesOf(columnOf((step) => (step === 70 ? 5 : 0)))).toBeLessThanOrEqual(20);
    // Of a thousand, 10 bits at the least.
    expect(bytesOf(columnOf((step) => (step * 7919) % 1000))).toBeLessThanOrEqual(10 + (steps * 11) / 8);
    // Microseconds as seconds, at 17 bits a step.
    const seconds = columnOf((step) => (step * 175_000 + ((step * 7919) % 25_000)) / 1e6);
    expect(bytesOf(seconds)).toBeLessThanOrEqual(20 + (steps * 18) / 8);
    expect(bytesOf(columnOf((step) => Math.sin(step)))).toBeLessThanOrEqual(20 + steps * 8.2);
    expect(bytesOf(columnOf((step) => (step % 2 === 0 ? 1 : undefined)))).toBeLessThanOrEqual(steps + 5);
    expect(bytesOf(columnOf((step) => (step < 30 ? step : undefined)))).toBeLessThanOrEqual(12);
  });

  test("without a value is refused", () => {
    expect(() => encodeColumn([])).toThrow("without a value");
    expect(() => encodeColumn([undefined])).toThrow("without a value");
  });

  test("of damaged bytes is refused or wrong, and never endless", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
        try {
          expect(decodeColumn(bytes, steps)).toHaveLength(steps);
        } catch (error) {
          expect(error).toBeInstanceOf(MalformedBytesError);
        }
      }),
      { numRuns: 3000 },
    );
    expect(() => decodeColumn(new Uint8Array(), 1)).toThrow(MalformedBytesError);
    expect(() => decodeColumn(new Uint8Array([0, steps]), steps)).toThrow("has no value");
    const cut = encodeColumn(columnOf((step) => step * step * step)).slice(0, -3);
    expect(() => decodeColumn(cut, steps)).toThrow("end too soon");
  });
});

describe("steps", () => {
  test("that were damaged are refused or wrong, and never endless", () => {
    const ids = Array.from({ length: 50 }, (_, index) => index + 1);
    const data = (number: number) => ids.map((id) => number * id + (id % 3) / 10);
    fc.assert(
      fc.property(fc.nat(), fc.nat(255), (place, byte) => {
        const coder = createStepCoder();
        const rows = [1, 2, 3].map((id): StepRow => [id, id, coder.encode({ ids, values: data(id) }).data]);
        const damaged = rows[place % 3]?.[2] ?? new Uint8Array();
        damaged[place % damaged.length] = byte;
        const { columns, read } = readSteps(rows);
        expect(read).toBeGreaterThanOrEqual(place % 3);
        expect(columns.size > 0 || read === 0).toBe(true);
      }),
      { numRuns: 1000 },
    );
  });

  test("of a block are told from those of the next, and from what follows on a gap", () => {
    const [first, second] = [createStepCoder(), createStepCoder()];
    const step = (coder: typeof first, id: number): StepRow => [
      id,
      id,
      coder.encode({ ids: [1], values: [id] }).data,
    ];
    const rows = [step(first, 1), step(first, 2), step(second, 3), step(second, 4), step(second, 5)];
    expect(splitSteps(rows).map((steps) => steps.map(([id]) => id))).toEqual([
      [1, 2],
      [3, 4, 5],
    ]);
    const gap = splitSteps(rows.toSpliced(3, 1));
    expect(gap.map((steps) => steps.map(([id]) => id))).toEqual([[1, 2], [3], [5]]);
    expect(readSteps(gap[2] ?? []).read).toBe(0);
    const { columns, read } = readSteps(rows);
    expect([read, columns.get(1)?.slice(0, read)]).toEqual([2, [1, 2]]);
    expect(() => createStepCoder().decode(new Uint8Array([0]))).toThrow("does not follow");
  });
});

describe("bytes", () => {
  test("hold numbers of every size, in any order of kinds", () => {
    const item = fc.oneof(
      fc.record({ kind: fc.constant("varint" as const), value: fc.maxSafeNat() }),
      fc.record({ kind: fc.constant("float" as const), value: fc.double() }),
      fc.record({ kind: fc.constant("byte" as const), value: fc.nat(255) }),
    );
    fc.assert(
      fc.property(fc.array(item), (items) => {
        const writer = createByteWriter(1);
        for (const { kind, value } of items) writer[kind](value);
        const reader = createByteReader(writer.finish());
        for (const { kind, value } of items) expect(Object.is(reader[kind](), value)).toBe(true);
        expect(reader.done).toBe(true);
      }),
    );
  });

  test("hold many numbers in a row", () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(fc.maxSafeNat(), fc.nat(300))), (numbers) => {
        const writer = createByteWriter(1);
        for (const number of numbers) writer.varint(number);
        writer.byte(7);
        const bytes = writer.finish();
        const reader = createByteReader(bytes);
        expect([...reader.varints(numbers.length)]).toEqual(numbers);
        expect(reader.byte()).toBe(7);
        const short = createByteReader(bytes.slice(0, -2));
        if (numbers.length > 0) expect(() => short.varints(numbers.length)).toThrow(MalformedBytesError);
      }),
    );
  });

  test("hold bits of every width", () => {
    const item = fc
      .integer({ min: 0, max: 53 })
      .chain((width) =>
        fc.tuple(fc.constant(width), fc.integer({ min: 0, max: Math.max(0, 2 ** width - 1) })),
      );
    fc.assert(
      fc.property(fc.array(item), (items) => {
        const writer = createByteWriter(1);
        for (const [width, value] of items) {
          writer.bits(value, width);
          writer.gamma(value + 1);
        }
        const reader = createByteReader(writer.finish());
        for (const [width, value] of items)
          expect([reader.bits(width), reader.gamma()]).toEqual([value, value + 1]);
      }),
    );
  });

  test("count signed numbers by their distance from zero", () => {
    expect([0, -1, 1, -2, 2].map(zigzag)).toEqual([0, 1, 2, 3, 4]);
    fc.assert(
      fc.property(
        fc.integer({ min: -(2 ** 52), max: 2 ** 52 }),
        (value) => unzigzag(zigzag(value)) === value,
      ),
    );
    expect([0, 1, 2, 255, 256, 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1].map(bitLength)).toEqual([
      0, 1, 2, 8, 9, 32, 33, 53,
    ]);
  });
});
