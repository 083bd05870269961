// Names of addresses: how long they are kept, how many, and that what goes is counted.

import { expect, test } from "bun:test";
import fc from "fast-check";
import { createDnsNames } from "../src/identity/dns.ts";

const answer = (address: string, name: string, ttlSeconds = 60) => ({ address, name, ttlSeconds });
const evicted = (names: ReturnType<typeof createDnsNames>) =>
  Object.fromEntries(names.facts().evicted.map(({ reason, names: count }) => [reason, count]));

test("an address has the name of its last answer, until the answer's time is over", () => {
  const names = createDnsNames({ namesMax: 4, keepMsMin: 0 });
  names.learn([answer("192.0.2.1", "a.example"), answer("2001:db8::1", "six.example")], 1000);
  names.learn([answer("192.0.2.1", "b.example", 120)], 2000);
  expect(names.nameOf("192.0.2.1", 121_999)).toBe("b.example");
  expect(names.nameOf("192.0.2.1", 122_000)).toBeUndefined();
  expect(names.nameOf("2001:db8::1", 60_999)).toBe("six.example");
  expect(names.nameOf("192.0.2.2", 2000)).toBeUndefined();
});

test("a short answer is kept as long as connections last, an endless one is not", () => {
  const names = createDnsNames({ namesMax: 4, keepMsMin: 10_000, keepMsMax: 20_000 });
  names.learn([answer("192.0.2.1", "short", 0), answer("192.0.2.2", "endless", 2 ** 31 - 1)], 0);
  expect([names.nameOf("192.0.2.1", 9999), names.nameOf("192.0.2.1", 10_000)]).toEqual(["short", undefined]);
  expect([names.nameOf("192.0.2.2", 19_999), names.nameOf("192.0.2.2", 20_000)]).toEqual([
    "endless",
    undefined,
  ]);
});

test("the name that was learnt longest ago gives way, and is counted", () => {
  const names = createDnsNames({ namesMax: 2 });
  names.learn([answer("a", "1"), answer("b", "2")], 0);
  names.learn([answer("a", "1"), answer("c", "3")], 1);
  expect(["a", "b", "c"].map((address) => names.nameOf(address, 2))).toEqual(["1", undefined, "3"]);
  expect(evicted(names)).toEqual({ expired: 0, full: 1 });
});

test("names whose time is over make place by themselves", () => {
  const names = createDnsNames({ namesMax: 100, keepMsMin: 0 });
  names.learn([answer("a", "1", 1), answer("b", "2", 10)], 0);
  names.learn([], 5000);
  expect(names.facts()).toMatchObject({ kept: 1, max: 100 });
  expect(evicted(names)).toEqual({ expired: 1, full: 0 });
});

test("with room for none it keeps none", () => {
  const names = createDnsNames({ namesMax: 0 });
  names.learn([answer("a", "1")], 0);
  expect(names.nameOf("a", 0)).toBeUndefined();
  expect(names.facts().kept).toBe(0);
});

test("whatever is learnt, the bound holds and every name is kept, replaced or counted", () => {
  const learning = fc.array(
    fc.record({
      address: fc.integer({ min: 0, max: 30 }),
      ttl: fc.integer({ min: 0, max: 40 }),
      step: fc.nat(20),
    }),
  );
  fc.assert(
    fc.property(learning, fc.integer({ min: 1, max: 10 }), (answers, namesMax) => {
      const names = createDnsNames({ namesMax, keepMsMin: 0 });
      let at = 0;
      let arrived = 0;
      for (const { address, ttl, step } of answers) {
        at += step * 1000;
        const before = names.facts();
        names.learn([answer(String(address), "n", ttl)], at);
        const after = names.facts();
        const gone = (facts: typeof before) =>
          facts.evicted.reduce((sum, { names: count }) => sum + count, 0);
        arrived = after.kept - before.kept + gone(after) - gone(before);
        expect([0, 1]).toContain(arrived);
        expect(after.kept).toBeLessThanOrEqual(namesMax);
      }
    }),
  );
});
