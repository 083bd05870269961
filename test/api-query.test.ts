// Query parameters: times, addresses, protocols, and what a wrong one is told.

import { expect, test } from "bun:test";
import fc from "fast-check";
import { parseAddress, parseProtocol, parseWhen, rangeOf } from "../src/api/parameters.ts";
import { dropsQuery, flowsQuery } from "../src/api/query.ts";
import { protocolNames } from "../src/flow.ts";
import { parseRange } from "../src/store/address.ts";

const now = Date.parse("2026-01-31T12:00:00Z");

test.each([
  ["now", now],
  ["-10m", now - 600_000],
  ["-1.5h", now - 5_400_000],
  ["2026-01-31T12:00:00Z", now],
  ["2026-01-31t12:00:00z", now],
  ["2026-01-31T13:00:00+01:00", now],
  ["2026-01-31T12:00:00.250Z", now + 250],
  ["2026-01-31T12:00Z", now],
  ["2024-02-29T00:00:00Z", Date.UTC(2024, 1, 29)],
  ["2026-12-31T23:59:59-01:00", Date.UTC(2027, 0, 1, 0, 59, 59)],
  [String(now), now],
])("time %p", (text, at) => {
  expect(parseWhen(text)?.(now)).toBe(at);
});

test.each([
  "",
  "yesterday",
  "10m",
  "-10",
  "-",
  "1769860800",
  "2026-01-31",
  "2026-13-01T00:00:00Z",
  "2026-02-31T00:00:00Z",
  "2026-02-29T00:00:00Z",
  "2026-04-31T12:00:00.5+02:00",
  "2026-01-31T24:00:00Z",
  "2026-01-31T12:00:00",
])("no time: %p", (text) => {
  expect(parseWhen(text)).toBeUndefined();
});

test("every epoch millisecond of this century is a time", () => {
  const epochMs = fc.integer({
    min: Date.parse("2001-09-10T00:00:00Z"),
    max: Date.parse("2099-12-31T00:00:00Z"),
  });
  fc.assert(
    fc.property(epochMs, (at) => {
      expect(parseWhen(String(at))?.(now)).toBe(at);
      expect(parseWhen(new Date(at).toISOString())?.(now)).toBe(at);
    }),
  );
});

test.each([
  ["10.1.2.3", "10.1.2.3"],
  ["10.1.2.3/8", "10.0.0.0/8"],
  ["10.1.2.3/32", "10.1.2.3/32"],
  ["0.0.0.0/0", "0.0.0.0/0"],
  ["2001:DB8:0:0::1", "2001:db8::1"],
  ["2001:db8:ffff::/32", "2001:db8::/32"],
  ["::1/128", "::1/128"],
])("address %p is %p", (text, canonical) => {
  expect(parseAddress(text)).toBe(canonical);
});

test.each([
  "",
  "10.1.2",
  "10.1.2.256",
  "010.1.2.3",
  "0x7f.1",
  "10.0.0.0/33",
  "::/129",
  "10.0.0.0/8/8",
  "10.0.0.0/",
  "fe80::1%eth0",
  "host",
  "10.0.0.0/-1",
])("no address: %p", (text) => {
  expect(parseAddress(text)).toBeUndefined();
});

test("what the API takes for an address, the store does too", () => {
  const length = fc.option(fc.integer({ min: 0, max: 128 }), { nil: undefined });
  const written = fc
    .tuple(fc.oneof(fc.ipV4(), fc.ipV6()), length)
    .map(([address, bits]) => (bits === undefined ? address : `${address}/${bits}`));
  fc.assert(
    fc.property(fc.oneof(written, fc.string()), (text) => {
      const address = parseAddress(text);
      if (address !== undefined) expect(parseRange(address)).toBeDefined();
    }),
  );
});

test("protocols go by name and by number", () => {
  for (const [number, name] of Object.entries(protocolNames)) {
    expect(parseProtocol(name)).toBe(Number(number));
    expect(parseProtocol(name.toUpperCase())).toBe(Number(number));
  }
  for (let number = 0; number <= 255; number++) expect(parseProtocol(String(number))).toBe(number);
  for (const wrong of ["", "256", "-1", "6.0", "tcpp", "constructor", "__proto__"])
    expect(parseProtocol(wrong)).toBeUndefined();
});

test.each([
  [{ limit: "0" }, "limit", /whole number from 1 to 1000/],
  [{ limit: "1001" }, "limit", /whole number from 1 to 1000/],
  [{ limit: "1e2" }, "limit", /whole number/],
  [{ limit: ["1", "2"] }, "limit", /more than once/],
  [{ direction: ["ingress", "egress"] }, "direction", /more than once/],
  [{ from: "2026-02-31T00:00:00Z" }, "from", /is no time/],
  [{ from: "soon" }, "from", /RFC|2026-01-31T12:00:00Z/],
  [{ from: "-1m", since: "1m" }, "since", /together with from/],
  [{ since: "10" }, "since", /is no duration/],
  [{ address: ["10.0.0.1", "x"] }, "address", /"x" is no address/],
  [{ address: Array.from({ length: 65 }, () => "10.0.0.1") }, "address", /more than 64 times/],
  [{ sourcePort: "65536" }, "sourcePort", /no port from 0 to 65535/],
  [{ protocol: "256" }, "protocol", /no protocol/],
  [{ direction: "in" }, "direction", /ingress, egress/],
  [{ verdict: "lost" }, "verdict", /forwarded, dropped/],
  [{ reason: "NO\u0000SOCKET" }, "reason", /no drop reason/],
  [{ order: "asc" }, "order", /newest, oldest/],
  [{ cursor: "a b" }, "cursor", /no cursor/],
  [{ format: "xml" }, "format", /json, ndjson/],
])("%p is refused", (query, parameter, message) => {
  const issue = flowsQuery.safeParse(query).error?.issues[0];
  expect(issue?.path[0]).toBe(parameter);
  expect(issue?.message).toMatch(message);
});

test("an unknown parameter is refused, also one of another route", () => {
  expect(flowsQuery.safeParse({ adress: "10.0.0.1" }).error?.issues[0]?.code).toBe("unrecognized_keys");
  expect(dropsQuery.safeParse({ port: "1" }).error?.issues[0]?.code).toBe("unrecognized_keys");
});

test("a query never throws, whatever it is given", () => {
  const value = fc.oneof(fc.string(), fc.array(fc.string(), { maxLength: 3 }));
  const names = fc.constantFrom(...Object.keys(flowsQuery.shape));
  fc.assert(
    fc.property(fc.dictionary(names, value), (query) => {
      const { data, error } = flowsQuery.safeParse(query);
      expect(data === undefined).toBe(error !== undefined);
    }),
  );
});

test("a range that ends before it begins is refused for its end", () => {
  expect(() => rangeOf({ from: () => 6, to: () => 5 }, now)).toThrow(
    expect.objectContaining({ parameter: "to", message: "is before from" }),
  );
  expect(() => rangeOf({ since: 1000, to: (at) => at - 1001 }, now)).toThrow(
    expect.objectContaining({ parameter: "to", message: "is longer ago than since" }),
  );
});

test("the range is absent where it was not given", () => {
  expect(rangeOf({}, now)).toEqual({});
  expect(rangeOf({ since: 1000 }, now)).toEqual({ fromAt: now - 1000 });
  expect(rangeOf({ to: () => 5 }, now)).toEqual({ toAt: 5 });
  expect(rangeOf({ from: () => 5, to: () => 5 }, now)).toEqual({ fromAt: 5, toAt: 5 });
});
