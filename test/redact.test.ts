// Redaction: stable, distinct, and silent about who an address was.

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { createRedactor } from "../src/redact.ts";
import { formatAddress, parseAddress, parseRange } from "../src/store/address.ts";

const key = new Uint8Array(32).fill(7);
const row = (source: string, destination: string) => ({ source, destination });
const v4 = fc.nat(0xffff_ffff).map(formatAddress);
const v6 = fc.uint8Array({ minLength: 16, maxLength: 16 }).map((bytes) => formatAddress(Buffer.from(bytes)));

describe("redacting", () => {
  test("gives each address one pseudonym, and no two the same", () => {
    const { record, addresses } = createRedactor({ key });
    const names = new Map<string, string>();
    fc.assert(
      fc.property(fc.oneof(v4, v6), (address) => {
        const { source, destination } = record(row(address, address));
        expect(source).toBe(destination);
        expect(names.get(address) ?? source).toBe(source);
        names.set(address, source);
      }),
      { numRuns: 2000 },
    );
    expect(new Set(names.values()).size).toBe(names.size);
    expect(addresses()).toBeGreaterThan(1000);
  });

  test("goes to addresses of the same family that nobody has", () => {
    const { record } = createRedactor({ key });
    const { source, destination } = record(row("192.0.2.1", "2001:db8::1"));
    const { low, high } = parseRange("240.0.0.0/4") as { low: number; high: number };
    expect(parseAddress(source)).toBeGreaterThanOrEqual(low);
    expect(parseAddress(source)).toBeLessThan(high);
    expect(destination).toStartWith("fc");
    expect(parseAddress(destination)).toBeInstanceOf(Buffer);
  });

  test.each([
    ...["127.0.0.1", "0.0.0.0", "239.1.2.3", "255.255.255.255", "::", "::1"],
    ...["ff01::fb", "ff02::1", "ff02::fb", "ff02::1:2", "ff02::1:3", "ff05::2", "ff05::1:3"],
  ])("%s stays", (text) => {
    expect(createRedactor({ key }).record(row(text, text))).toEqual(row(text, text));
  });

  test.each(["233.252.1.2", "234.192.0.2"])("group %s, which names a site, does not", (text) => {
    const { destination } = createRedactor({ key }).record(row(text, text));
    expect(Number(destination.split(".")[0])).toBeGreaterThanOrEqual(240);
  });

  test.each(["ff02::1:ffa1:b2c3", "ff3e:40:2001:db8:1:2::8", "ff35::1234:5678", "ff0e::1", "ff15::2"])(
    "of multicast group %s only flags and scope stay",
    (text) => {
      const { record } = createRedactor({ key });
      const { source, destination } = record(row(text, text));
      expect(destination).toBe(source);
      expect(source.slice(0, 5)).toBe(text.slice(0, 5));
      const groups = text
        .slice(5)
        .split(":")
        .filter((group) => group.length > 2);
      for (const group of groups) expect(source.slice(5)).not.toContain(group);
      expect(source).not.toBe(text);
    },
  );

  test("depends on the key alone, and keeps the other fields", () => {
    const one = createRedactor({ key }).record({ ...row("10.0.0.1", "10.0.0.2"), bytes: 7 });
    expect(createRedactor({ key }).record({ ...row("10.0.0.1", "10.0.0.2"), bytes: 7 })).toEqual(one);
    expect(one.bytes).toBe(7);
    const other = createRedactor({ key: new Uint8Array(32).fill(8) }).record(row("10.0.0.1", "10.0.0.2"));
    expect(other.source).not.toBe(one.source);
  });

  test("refuses a short key, and more addresses than it can tell apart", () => {
    expect(() => createRedactor({ key: new Uint8Array(8) })).toThrow("16");
    const { record } = createRedactor({ key, addressesMax: 2 });
    record(row("10.0.0.1", "10.0.0.2"));
    expect(() => record(row("10.0.0.1", "10.0.0.3"))).toThrow("shorter time");
  });
});
