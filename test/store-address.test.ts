// Addresses and networks: text to what stands in the file and back, compared with ipaddr.js.

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import ipaddr from "ipaddr.js";
import { formatAddress, parseAddress, parseRange } from "../src/store/address.ts";

const v4Bytes = fc.uint8Array({ minLength: 4, maxLength: 4 });
// Zeros often, so that "::" stands in every place.
const v6Bytes = fc
  .array(fc.oneof(fc.constant(0), fc.nat(0xffff)), { minLength: 8, maxLength: 8 })
  .map((groups) => Buffer.from(groups.flatMap((group) => [group >> 8, group & 255])));

describe("an address", () => {
  test("of IPv4 reads and prints like ipaddr.js does", () => {
    fc.assert(
      fc.property(v4Bytes, (bytes) => {
        const text = ipaddr.fromByteArray([...bytes]).toString();
        expect(parseAddress(text)).toBe(Buffer.from(bytes).readUInt32BE());
        expect(formatAddress(Buffer.from(bytes).readUInt32BE())).toBe(text);
      }),
    );
  });

  test("of IPv6 reads and prints like ipaddr.js does", () => {
    fc.assert(
      fc.property(v6Bytes, (bytes) => {
        const parsed = new ipaddr.IPv6([...bytes]);
        const forms = [
          parsed.toRFC5952String(),
          parsed.toNormalizedString(),
          parsed.toNormalizedString().toUpperCase(),
        ];
        for (const form of forms) expect(parseAddress(form)).toEqual(bytes);
        if (!parsed.isIPv4MappedAddress()) expect(formatAddress(bytes)).toBe(parsed.toRFC5952String());
      }),
    );
  });

  test("that maps IPv4 is printed with dots", () => {
    expect(formatAddress(parseAddress("::ffff:c000:201")!)).toBe("::ffff:192.0.2.1");
    expect(parseAddress("::ffff:192.0.2.1")).toEqual(parseAddress("::ffff:c000:201")!);
    expect(formatAddress(parseAddress("64:ff9b::192.0.2.33")!)).toBe("64:ff9b::c000:221");
  });

  test.each([
    "",
    ".",
    ":",
    ":::",
    "1",
    "1.2.3",
    "1.2.3.4.5",
    "1.2.3.",
    ".1.2.3",
    "1..2.3",
    "01.2.3.4",
    "1.2.3.256",
    "1.2.3.-1",
    "1.2.3.4 ",
    "1.2.3.4x",
    "１.2.3.4",
    "1:2:3:4:5:6:7",
    "1:2:3:4:5:6:7:8:9",
    "1::2::3",
    "1:2:3:4:5:6:7::8",
    "g::",
    "12345::",
    "::1%eth0",
    "::1.2.3",
    "1.2.3.4::",
    "::1.2.3.4:5",
    "1:2:3:4:5:6:7:1.2.3.4",
    ":1::",
    "1:",
    "host",
  ])("is not %p", (text) => {
    expect(parseAddress(text)).toBeUndefined();
  });

  test("reads as ipaddr.js does whatever the text is", () => {
    const noise = fc.string({ unit: fc.constantFrom(..."0123456789abf.:"), maxLength: 24 });
    fc.assert(
      fc.property(noise, (text) => {
        const valid = text.includes(":")
          ? ipaddr.IPv6.isValid(text)
          : ipaddr.IPv4.isValidFourPartDecimal(text);
        expect(parseAddress(text) !== undefined).toBe(valid);
      }),
      { numRuns: 2000 },
    );
  });
});

describe("a network", () => {
  const number = (bytes: readonly number[]): bigint =>
    bytes.reduce((sum, byte) => sum * 256n + BigInt(byte), 0n);
  const value = (address: number | Buffer): bigint =>
    typeof address === "number" ? BigInt(address) : number([...address]);

  test("is the range from its first to its last address", () => {
    const network = fc.oneof(fc.tuple(v4Bytes, fc.nat(32)), fc.tuple(v6Bytes, fc.nat(128)));
    fc.assert(
      fc.property(network, ([bytes, prefix]) => {
        const range = parseRange(`${ipaddr.fromByteArray([...bytes]).toString()}/${prefix}`)!;
        const size = 1n << BigInt(bytes.length * 8 - prefix);
        const low = (number([...bytes]) / size) * size;
        expect([value(range.low), value(range.high)]).toEqual([low, low + size - 1n]);
      }),
    );
  });

  test.each([
    "10.0.0.0/33",
    "::/129",
    "10.0.0.0/",
    "10.0.0.0/-1",
    "10.0.0.0/8/8",
    "10.0.0.0/1e1",
    "/8",
    "x/8",
  ])("is not %p", (text) => {
    expect(parseRange(text)).toBeUndefined();
  });
});
