// DNS errors on records: which flows get a code, once, for how long and how many wait, and that what goes is counted.

import { expect, test } from "bun:test";
import fc from "fast-check";
import type { FlowRecord } from "../src/flow.ts";
import { createDnsErrors } from "../src/identity/dns-errors.ts";
import type { DnsError } from "../src/snapshot.ts";

const client = (port: number) => ({
  ...{ source: "192.0.2.1", sourcePort: 53 },
  ...{ destination: "198.51.100.7", destinationPort: port, protocol: 17 },
});
const error = (port: number, code = "NXDOMAIN"): DnsError => ({ ...client(port), code });

const response = (port: number): FlowRecord => ({
  ...{ startAt: 0, endAt: 1, ...client(port), direction: "ingress", verdict: "forwarded" },
  ...{ packets: 1, bytes: 100, tcpFlags: 0, interface: "eth0", evictReason: "idle" },
});
const turned = (flow: FlowRecord): FlowRecord => ({
  ...{ ...flow, direction: "egress" },
  ...{ source: flow.destination, sourcePort: flow.destinationPort },
  ...{ destination: flow.source, destinationPort: flow.sourcePort },
});
const query = (port: number): FlowRecord => turned(response(port));

const codes = (flows: readonly FlowRecord[]) => flows.map(({ dnsError }) => dnsError);
const evicted = (errors: ReturnType<typeof createDnsErrors>) =>
  Object.fromEntries(errors.facts().evicted.map(({ reason, errors: count }) => [reason, count]));

test("both ways of a flow get the code of its last error; the records given are left as they are", () => {
  const errors = createDnsErrors();
  errors.learn([error(1000, "SERVFAIL"), error(1000), error(1001, "REFUSED")], 0);
  const flows = [response(1000), response(7), query(1000), query(1001)];
  const marked = errors.mark(flows, 0);
  expect(codes(marked)).toEqual(["NXDOMAIN", undefined, "NXDOMAIN", "REFUSED"]);
  expect(marked[0]).toEqual({ ...response(1000), dnsError: "NXDOMAIN" });
  expect(marked[1]).toBe(flows[1] as FlowRecord);
  expect(codes(flows)).toEqual([undefined, undefined, undefined, undefined]);
});

test("records that match no error come back as the same list", () => {
  const errors = createDnsErrors();
  const flows = [response(1)];
  expect(errors.mark(flows, 0)).toBe(flows);
  errors.learn([error(2)], 0);
  expect(errors.mark(flows, 0)).toBe(flows);
});

test.each([
  ["another protocol, whose fields look alike", { protocol: 1 }],
  ["SCTP", { protocol: 132 }],
  ["another server", { source: "192.0.2.9" }],
  ["another client", { destination: "198.51.100.8" }],
  ["another port", { destinationPort: 1001 }],
  ["TCP beside UDP", { protocol: 6 }],
])("%s is another flow", (_, fields: Partial<FlowRecord>) => {
  const errors = createDnsErrors();
  errors.learn([error(1000)], 0);
  expect(codes(errors.mark([{ ...response(1000), ...fields }], 0))).toEqual([undefined]);
  expect(codes(errors.mark([turned({ ...response(1000), ...fields })], 0))).toEqual([undefined]);
});

test("an error that comes from no port of DNS marks nothing", () => {
  const errors = createDnsErrors();
  errors.learn(
    [
      { ...error(1000), sourcePort: 5353 },
      { ...error(0), sourcePort: 0, protocol: 1 },
    ],
    0,
  );
  const strangers = [
    { ...response(1000), sourcePort: 5353 },
    { ...response(0), sourcePort: 0, protocol: 1 },
  ];
  expect(codes(errors.mark(strangers, 0))).toEqual([undefined, undefined]);
  expect(errors.facts().kept).toBe(0);
});

test("both ends at port 53, as between servers: each way is told apart", () => {
  const errors = createDnsErrors();
  errors.learn([error(53)], 0);
  expect(codes(errors.mark([query(53), response(53)], 0))).toEqual(["NXDOMAIN", "NXDOMAIN"]);
  expect(errors.facts().kept).toBe(0);
});

test("a flow that is reported again has the code again only after another error", () => {
  const errors = createDnsErrors();
  errors.learn([error(1000)], 0);
  expect(codes(errors.mark([query(1000)], 0))).toEqual(["NXDOMAIN"]);
  expect(codes(errors.mark([query(1000)], 1))).toEqual([undefined]);
  errors.learn([error(1000, "SERVFAIL")], 2);
  expect(codes(errors.mark([query(1000)], 2))).toEqual(["SERVFAIL"]);
});

test("the two ends of a flow on this node, and what was dropped of it, are flows of their own", () => {
  const errors = createDnsErrors();
  errors.learn([error(1000)], 0);
  const ends = [response(1000), query(1000)].flatMap((flow): FlowRecord[] => [
    { ...flow, direction: "ingress" },
    { ...flow, direction: "egress" },
    { ...flow, direction: "egress", verdict: "dropped" },
  ]);
  expect(codes(errors.mark(ends, 0))).toEqual(ends.map(() => "NXDOMAIN"));
});

test("an error goes when both ways were reported, or its time is over", () => {
  const errors = createDnsErrors({ keepMs: 100 });
  errors.learn([error(1), error(2)], 1000);
  errors.mark([response(1), query(1), query(2)], 1050);
  expect(errors.facts().kept).toBe(1);
  expect(codes(errors.mark([response(1)], 1099))).toEqual([undefined]);
  expect(codes(errors.mark([response(2)], 1100))).toEqual([undefined]);
  expect(errors.facts().kept).toBe(0);
  expect(evicted(errors)).toEqual({ expired: 1, full: 0 });
});

test("the oldest error gives way; one that comes again is young", () => {
  const errors = createDnsErrors({ max: 2 });
  errors.learn([error(1), error(2), error(1), error(3)], 0);
  expect(codes(errors.mark([query(1), query(2), query(3)], 0))).toEqual(["NXDOMAIN", undefined, "NXDOMAIN"]);
  expect(evicted(errors)).toEqual({ expired: 0, full: 1 });
  expect(errors.facts()).toMatchObject({ kept: 2, max: 2 });
});

test("does what a plain list would, at any order of errors, reports and times", () => {
  const [max, keepMs] = [4, 100];
  const action = fc.record({
    port: fc.nat(9),
    what: fc.constantFrom("error", "query", "response"),
    waitMs: fc.nat(40),
  });
  fc.assert(
    fc.property(fc.array(action, { maxLength: 80 }), (actions) => {
      const errors = createDnsErrors({ max, keepMs });
      let waiting: { port: number; untilMs: number; told: Set<string> }[] = [];
      const counts = { expired: 0, full: 0 };
      let nowMs = 0;
      for (const { port, what, waitMs } of actions) {
        nowMs += waitMs;
        const young = waiting.filter(({ untilMs }) => untilMs > nowMs);
        counts.expired += waiting.length - young.length;
        waiting = young;
        if (what === "error") {
          errors.learn([error(port)], nowMs);
          waiting = waiting.filter((one) => one.port !== port);
          if (waiting.length === max) counts.full += 1;
          waiting = [
            ...waiting.slice(waiting.length === max ? 1 : 0),
            { port, untilMs: nowMs + keepMs, told: new Set() },
          ];
        } else {
          const flow = what === "query" ? query(port) : response(port);
          const found = waiting.find((one) => one.port === port && !one.told.has(what));
          expect(codes(errors.mark([flow], nowMs))).toEqual([found === undefined ? undefined : "NXDOMAIN"]);
          found?.told.add(what);
          waiting = waiting.filter(({ told }) => told.size < 2);
        }
        expect(errors.facts().kept).toBe(waiting.length);
        expect(evicted(errors)).toEqual(counts);
      }
    }),
  );
});
