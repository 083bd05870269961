// The filter: each term, how terms, rules and lists go together, and agreement with a naive model.

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import ipaddr from "ipaddr.js";
import { createFilter } from "../src/filter.ts";
import { type FilterRule, filterRuleSchema } from "../src/filter-rules.ts";
import { type FlowRecord, protocolNames } from "../src/flow.ts";
import { anyFlow, flow } from "./store.flows.ts";

const record = flow(0, {
  source: "10.1.2.3",
  destination: "2001:db8::53",
  sourcePort: 40_000,
  destinationPort: 443,
  protocol: 6,
  direction: "egress",
  verdict: "dropped",
  dropReason: "NETFILTER_DROP",
});

/** As the rules stand in a file. */
const rule = (given: object): FilterRule => filterRuleSchema.parse(given);

const matches = (given: object, changes: Partial<FlowRecord> = {}): boolean =>
  createFilter({ include: [rule(given)], exclude: [] })({ ...record, ...changes }) === undefined;

describe("a rule", () => {
  test("without a term matches everything", () => {
    expect(matches({ name: "all" })).toBe(true);
    expect(matches({ from: {}, to: {} })).toBe(true);
  });

  const terms: readonly (readonly [given: object, matched: boolean])[] = [
    [{ from: { ip: "10.1.2.3" } }, true],
    [{ from: { ip: "10.1.2.4" } }, false],
    [{ from: { ip: "10.1.0.0/16" } }, true],
    [{ from: { ip: "2001:db8::/32" } }, false],
    [{ to: { ip: "2001:db8::/32" } }, true],
    [{ to: { ip: "2001:DB8:0::0:53" } }, true],
    [{ to: { ip: "2001:db8::54" } }, false],
    [{ to: { ip: "10.1.2.3" } }, false],
    [{ to: { ip: ["0.0.0.0/0"] } }, false],
    [{ to: { ip: ["0.0.0.0/0", "::/0"] } }, true],
    [{ from: { ip: ["10.1.2.3", "10.1.0.0/16", "10.1.2.3/32", "10.9.0.0/16", "10.0.0.0/30"] } }, true],
    [{ ip: "10.1.2.3" }, true],
    [{ ip: "2001:db8::53" }, true],
    [{ ip: "10.1.2.4" }, false],
    [{ from: { port: 40_000 } }, true],
    [{ from: { port: 443 } }, false],
    [{ to: { port: [80, "443"] } }, true],
    [{ to: { port: 40_000 } }, false],
    [{ port: 443 }, true],
    [{ port: 40_000 }, true],
    [{ port: [80, 8080] }, false],
    [{ protocol: "TCP" }, true],
    [{ protocol: 6 }, true],
    [{ protocol: "6" }, true],
    [{ protocol: ["udp", "dns", "icmp", 132] }, false],
    [{ verdict: "Dropped" }, true],
    [{ verdict: ["forwarded"] }, false],
    [{ verdict: ["forwarded", "dropped"] }, true],
    [{ direction: "EGRESS" }, true],
    [{ direction: "ingress" }, false],
    [{ reason: "netfilter_drop" }, true],
    [{ reason: "NETFILTER" }, false],
    [{ reason: ["NO_SOCKET", "net*_D*P"] }, true],
    // All terms must match, in a rule and in its ends.
    [
      { from: { ip: "10.1.2.3", port: 40_000 }, to: { port: 443 }, verdict: "dropped", protocol: "tcp" },
      true,
    ],
    [{ from: { ip: "10.1.2.3", port: 40_001 }, to: { port: 443 }, verdict: "dropped" }, false],
    [{ from: { ip: "10.1.2.3" }, to: { port: 80 }, verdict: "dropped" }, false],
    [{ from: { ip: "10.1.2.3" }, to: { port: 443 }, verdict: "forwarded" }, false],
  ];
  for (const [given, matched] of terms)
    test(`${JSON.stringify(given)} ${matched ? "matches" : "does not match"}`, () => {
      expect(matches(given)).toBe(matched);
    });

  test("of dns matches port 53 of either end, by UDP or TCP alone", () => {
    expect(matches({ protocol: "dns" }, { destinationPort: 53 })).toBe(true);
    expect(matches({ protocol: "dns" }, { sourcePort: 53, protocol: 17 })).toBe(true);
    expect(matches({ protocol: "dns" }, { destinationPort: 53, protocol: 132 })).toBe(false);
    expect(matches({ protocol: ["dns", "tcp"] })).toBe(true);
    expect(matches({ protocol: "icmp" }, { protocol: 1 })).toBe(true);
    expect(matches({ protocol: "icmp" }, { protocol: 58 })).toBe(false);
  });

  test("of a reason matches no record without one", () => {
    const { dropReason: _, ...forwarded } = { ...record, verdict: "forwarded" as const };
    const filter = createFilter({ include: [rule({ reason: "*" })], exclude: [] });
    expect(filter(forwarded)).toBe("not_included");
    expect(filter(record)).toBeUndefined();
  });

  test("of a pattern full of stars takes no long time", () => {
    const dropReason = "A".repeat(100_000);
    expect(matches({ reason: `${"*A".repeat(60)}*B` }, { dropReason })).toBe(false);
    expect(matches({ reason: `${"*A".repeat(60)}*` }, { dropReason })).toBe(true);
  });

  test("of a pattern takes no character twice", () => {
    expect(matches({ reason: "AB*BA" }, { dropReason: "ABA" })).toBe(false);
    expect(matches({ reason: "AB*BA" }, { dropReason: "ABBA" })).toBe(true);
    expect(matches({ reason: "*A*A" }, { dropReason: "A" })).toBe(false);
  });

  test("of an address matches nothing that is no address", () => {
    expect(matches({ ip: ["0.0.0.0/0", "::/0"] }, { source: "(other)", destination: "" })).toBe(false);
  });
});

describe("the filter", () => {
  const tcp = rule({ protocol: "tcp" });
  const udp = rule({ protocol: "udp" });
  const toWeb = rule({ to: { port: 443 } });

  test("without rules lets everything pass", () => {
    expect(createFilter({ include: [], exclude: [] })(record)).toBeUndefined();
  });

  test("lets pass what any include rule matches", () => {
    const filter = createFilter({ include: [udp, tcp], exclude: [] });
    expect(filter(record)).toBeUndefined();
    expect(filter({ ...record, protocol: 1 })).toBe("not_included");
  });

  test("keeps out what any exclude rule matches, included or not", () => {
    expect(createFilter({ include: [], exclude: [udp, toWeb] })(record)).toBe("excluded");
    expect(createFilter({ include: [tcp], exclude: [udp, toWeb] })(record)).toBe("excluded");
    expect(createFilter({ include: [udp], exclude: [toWeb] })(record)).toBe("not_included");
    expect(createFilter({ include: [tcp], exclude: [udp] })(record)).toBeUndefined();
  });
});

// The model: text compared as ipaddr.js and the shell would, nothing prepared.

const few = <T>(...some: T[]) => fc.uniqueArray(fc.constantFrom(...some), { minLength: 1, maxLength: 3 });
const networks = few(
  ...["10.0.0.1", "10.0.0.0/8", "10.0.0.0/30", "10.9.0.0/16", "200.0.0.0/7", "0.0.0.0/0"],
  ...["2001:db8::1", "2001:db8::/32", "fe80::/10", "::/0", "::1"],
);
const ports = few(0, 53, 443, 8080, 65_535);
const anyEnd = fc.record({ ip: networks, port: ports }, { requiredKeys: [] });
const anyRule = fc.record(
  {
    from: anyEnd,
    to: anyEnd,
    ip: networks,
    port: ports,
    protocol: few<string | number>("tcp", "UDP", "dns", "icmp", "255", 17),
    verdict: few("Forwarded", "dropped"),
    direction: few("ingress", "EGRESS"),
    reason: few("no_socket", "NET*", "*", "*SOCK*T", "X*"),
  },
  { requiredKeys: [] },
);

function inNetwork(address: string, network: string): boolean {
  const [at, bits] = network.split("/");
  const [a, b] = [ipaddr.parse(address), ipaddr.parse(at!)];
  return a.kind() === b.kind() && a.match(b, bits === undefined ? b.toByteArray().length * 8 : Number(bits));
}

const shell = (reason: string | undefined, glob: string): boolean =>
  reason !== undefined && new RegExp(`^${glob.replaceAll("*", ".*")}$`, "i").test(reason);

function speaks({ protocol, sourcePort, destinationPort }: FlowRecord, name: string): boolean {
  if (name === "dns") return [6, 17].includes(protocol) && [sourcePort, destinationPort].includes(53);
  return String(protocol) === name || protocolNames[protocol] === name;
}

function modelMatches(given: object, flow: FlowRecord): boolean {
  const { from, to, ip, port, protocol, verdict, direction, reason } = given as Record<string, never>;
  const any = (values: readonly unknown[] | undefined, holds: (value: never) => boolean): boolean =>
    values === undefined || values.some((value) => holds(value as never));
  const end = (
    terms: { ip?: string[]; port?: number[] } | undefined,
    address: string,
    own: number,
  ): boolean =>
    any(terms?.ip, (network) => inNetwork(address, network)) && any(terms?.port, (one) => one === own);
  return (
    end(from, flow.source, flow.sourcePort) &&
    end(to, flow.destination, flow.destinationPort) &&
    any(ip, (network) => inNetwork(flow.source, network) || inNetwork(flow.destination, network)) &&
    any(port, (one) => one === flow.sourcePort || one === flow.destinationPort) &&
    any(protocol, (name: string) => speaks(flow, String(name).toLowerCase())) &&
    any(verdict, (name: string) => name.toLowerCase() === flow.verdict) &&
    any(direction, (name: string) => name.toLowerCase() === flow.direction) &&
    any(reason, (glob: string) => shell(flow.dropReason, glob))
  );
}

test("the filter agrees with a naive model", () => {
  const rules = fc.array(anyRule, { maxLength: 4 });
  const found = new Map<string | undefined, number>();
  fc.assert(
    fc.property(
      rules,
      rules,
      fc.array(anyFlow, { minLength: 1, maxLength: 8 }),
      (include, exclude, flows) => {
        const filter = createFilter({ include: include.map(rule), exclude: exclude.map(rule) });
        for (const one of flows) {
          const included = include.length === 0 || include.some((given) => modelMatches(given, one));
          const excluded = exclude.some((given) => modelMatches(given, one));
          const expected = included ? (excluded ? "excluded" : undefined) : "not_included";
          expect(filter(one)).toBe(expected);
          found.set(expected, (found.get(expected) ?? 0) + 1);
        }
      },
    ),
    { numRuns: 500 },
  );
  expect([...found.keys()].length).toBe(3); // The rules are such that each fate was met.
});
