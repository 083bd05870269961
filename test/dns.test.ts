// DNS messages from the network: read with care, counted once, paired with their queries.

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { parseDnsMessage } from "../bpf/dns-message.ts";
import { createDnsTracker, type DnsSight } from "../bpf/dns-tracker.ts";

const labels = (name: string): number[] => [
  ...name.split(".").flatMap((part) => [part.length, ...Buffer.from(part)]),
  0,
];
const u16 = (value: number): number[] => [value >> 8, value & 0xff];
const u32 = (value: number): number[] => [...u16(value >>> 16), ...u16(value & 0xffff)];

type Record = { type: number; data: number[]; ttl?: number };

function message(options: {
  id?: number;
  flags?: number;
  name?: string;
  type?: number;
  answers?: Record[];
}): Uint8Array {
  const answers = options.answers ?? [];
  return Uint8Array.from([
    ...u16(options.id ?? 7),
    ...u16(options.flags ?? 0x0100),
    ...[...u16(1), ...u16(answers.length), ...u16(0), ...u16(0)],
    ...[...labels(options.name ?? "Api.Example.COM"), ...u16(options.type ?? 1), ...u16(1)],
    ...answers.flatMap(({ type, data, ttl }) => [
      ...[...u16(0xc00c), ...u16(type), ...u16(1), ...u32(ttl ?? 60), ...u16(data.length)],
      ...data,
    ]),
  ]);
}

const response = {
  flags: 0x8180,
  answers: [
    { type: 1, data: [192, 0, 2, 1] },
    { type: 5, data: [0xc0, 12] },
  ],
};

describe("messages", () => {
  test("a query and a response with answers", () => {
    expect(parseDnsMessage(message({ type: 28 }), false)).toMatchObject({
      ...{ id: 7, response: false, name: "api.example.com", type: "AAAA", answers: [] },
    });
    expect(parseDnsMessage(message(response), false)).toMatchObject({
      ...{ response: true, code: "NOERROR", type: "A" },
      answers: [{ address: Uint8Array.of(192, 0, 2, 1), ttlSeconds: 60 }],
    });
  });

  test("TCP carries a length in front; unknown types and codes are OTHER", () => {
    const bytes = message({ flags: 0x818f, type: 4242 });
    const framed = Uint8Array.from([...u16(bytes.length), ...bytes]);
    expect(parseDnsMessage(framed, true)).toMatchObject({ type: "OTHER", code: "OTHER" });
  });

  test("what is cut off after the question keeps its question", () => {
    const bytes = message(response);
    expect(parseDnsMessage(bytes.subarray(0, bytes.length - 20), false)).toMatchObject({
      type: "A",
      answers: [],
    });
  });

  test("a name that points to itself is refused", () => {
    const bytes = message({});
    bytes.set([0xc0, 12], 12);
    expect(parseDnsMessage(bytes, false)).toBeUndefined();
  });

  test("no bytes from the network throw", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 600 }), fc.boolean(), (bytes, tcp) => {
        parseDnsMessage(bytes, tcp);
      }),
    );
    const valid = message(response);
    fc.assert(
      fc.property(fc.nat(valid.length - 1), fc.nat(255), (at, value) => {
        const broken = valid.slice();
        broken[at] = value;
        parseDnsMessage(broken, false);
      }),
    );
  });
});

describe("counting", () => {
  const sight = (bytes: Uint8Array, part: Partial<DnsSight> = {}): DnsSight => {
    const parsed = parseDnsMessage(bytes, false);
    if (parsed === undefined) throw new Error("not a message");
    return { message: parsed, clientPort: 5353, place: 1, timeNs: 0, ...part };
  };
  const open = (pendingMax = 100) => createDnsTracker({ pendingMax, answersMax: 10 });

  test("a message on three interfaces counts once, sent again it counts again", () => {
    const tracker = open();
    for (const place of [1, 2, 3]) tracker.see(sight(message({}), { place }));
    expect(tracker.totals(0, 0).queries).toEqual([{ type: "A", count: 1 }]);
    for (const place of [1, 2, 3]) tracker.see(sight(message({}), { place, timeNs: 1e9 }));
    expect(tracker.totals(1e9, 0).queries).toEqual([{ type: "A", count: 2 }]);
  });

  test("latency is the time from query to response, names come with their addresses", () => {
    const tracker = open();
    tracker.see(sight(message({}), { timeNs: 1_000_000 }));
    tracker.see(sight(message(response), { timeNs: 4_000_000 }));
    const totals = tracker.totals(4_000_000, 0);
    expect(totals.responses).toEqual([{ type: "A", code: "NOERROR", count: 1 }]);
    expect(totals.latency).toMatchObject({ count: 1, sum: 0.003 });
    expect(totals.latency.counts.slice(2, 5)).toEqual([0, 1, 1]);
    expect(tracker.takeAnswers()).toEqual([
      { name: "api.example.com", address: "192.0.2.1", ttlSeconds: 60 },
    ]);
    expect(tracker.takeAnswers()).toEqual([]);
  });

  describe("names are learnt from the response to a query alone", () => {
    const learnt = [{ name: "api.example.com", address: "192.0.2.1", ttlSeconds: 60 }];

    test("a response that nobody asked for names nothing, and is counted", () => {
      const tracker = open();
      tracker.see(sight(message(response)));
      tracker.see(sight(message({}), { timeNs: 1e6 })); // Asked afterwards.
      expect(tracker.takeAnswers()).toEqual([]);
      expect(tracker.totals(1e6, 0)).toMatchObject({
        responses: [{ type: "A", code: "NOERROR", count: 1 }],
        ...{ unsolicited: 1, unanswered: 0, latency: { count: 0 } },
      });
    });

    test.each([
      ["another question", message({ name: "other.example" }), {}],
      ["another id", message({ id: 8 }), {}],
      ["another port", message({}), { clientPort: 5354 }],
      ["a question of long ago", message({}), { timeNs: -60e9 }],
    ])("one to %s", (_, query, part) => {
      const tracker = open();
      tracker.see(sight(query, part));
      tracker.totals(0, 0);
      tracker.see(sight(message(response)));
      expect(tracker.takeAnswers()).toEqual([]);
      expect(tracker.totals(0, 0).unsolicited).toBe(1);
    });

    test("the second to one query; asked again, it is answered again", () => {
      const tracker = open();
      tracker.see(sight(message({})));
      for (const timeNs of [1e6, 2e6]) tracker.see(sight(message(response), { timeNs }));
      expect(tracker.takeAnswers()).toEqual(learnt);
      expect(tracker.totals(2e6, 0).unsolicited).toBe(1);
      tracker.see(sight(message({}), { timeNs: 3e6 }));
      tracker.see(sight(message(response), { timeNs: 4e6 }));
      expect(tracker.takeAnswers()).toEqual(learnt);
      expect(tracker.totals(4e6, 0)).toMatchObject({ unsolicited: 1, latency: { count: 2 } });
    });

    test("on whatever interfaces query and response were seen first", () => {
      const tracker = open();
      for (const place of [2, 4, 7]) tracker.see(sight(message({}), { place }));
      for (const place of [6, 5, 3]) tracker.see(sight(message(response), { place, timeNs: 1e6 }));
      expect(tracker.takeAnswers()).toEqual(learnt);
      expect(tracker.totals(1e6, 0)).toMatchObject({ unsolicited: 0, latency: { count: 1 } });
    });
  });

  test("queries without response are counted once their time is over or their place is needed", () => {
    const tracker = open(2);
    for (const id of [1, 2, 3]) tracker.see(sight(message({ id })));
    expect(tracker.totals(0, 0).unanswered).toBe(1);
    expect(tracker.totals(11e9, 0).unanswered).toBe(3);
  });
});
