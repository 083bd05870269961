// Sums over namespaces: never fall, count each namespace once, whatever comes, goes and takes over inode numbers.

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { type Families, sumNamespaces } from "../bpf/proc/namespace-sums.ts";

const tcp = (values: Record<string, number>): Families => ({ tcp: values });

describe("sums", () => {
  test("add namespaces up and follow each", () => {
    const sums = sumNamespaces();
    sums.update(1, tcp({ InSegs: 5, OutSegs: 1 }));
    sums.update(2, tcp({ InSegs: 10 }));
    sums.update(1, tcp({ InSegs: 7, OutSegs: 1 }));
    expect(sums.totals()).toEqual(tcp({ InSegs: 17, OutSegs: 1 }));
  });

  test("keep what a namespace counted when it is gone", () => {
    const sums = sumNamespaces();
    sums.update(1, tcp({ InSegs: 5 }));
    sums.update(2, tcp({ InSegs: 10 }));
    sums.keep(new Set([1]));
    sums.keep(new Set([1]));
    expect(sums.totals()).toEqual(tcp({ InSegs: 15 }));
    sums.update(2, tcp({ InSegs: 30 })); // Gone for two scans: another namespace.
    expect(sums.totals()).toEqual(tcp({ InSegs: 45 }));
  });

  test("know a namespace again that one scan missed", () => {
    const sums = sumNamespaces();
    sums.update(2, tcp({ InSegs: 10 }));
    sums.keep(new Set());
    sums.keep(new Set([2]));
    sums.update(2, tcp({ InSegs: 12 }));
    expect(sums.totals()).toEqual(tcp({ InSegs: 12 }));
  });

  test("take a count that falls for a new namespace with the old inode number", () => {
    const sums = sumNamespaces();
    sums.update(2, { tcp: { InSegs: 10, OutSegs: 3 }, udp: { InDatagrams: 1 } });
    sums.update(2, { tcp: { InSegs: 2, OutSegs: 4 }, udp: { InDatagrams: 6 } });
    expect(sums.totals()).toEqual({ tcp: { InSegs: 12, OutSegs: 7 }, udp: { InDatagrams: 7 } });
  });

  test("take a missing count for a fall, unless it was zero", () => {
    const sums = sumNamespaces();
    sums.update(2, { ip: { IcmpMsgInType3: 4, IcmpMsgInType8: 0 } });
    sums.update(2, { ip: { IcmpMsgInType3: 5 } });
    expect(sums.totals()).toEqual({ ip: { IcmpMsgInType3: 5, IcmpMsgInType8: 0 } });
    sums.update(2, { ip: { IcmpMsgInType8: 1 } });
    expect(sums.totals()).toEqual({ ip: { IcmpMsgInType3: 5, IcmpMsgInType8: 1 } });
  });
});

/** A machine: inode numbers that are given out again, each namespace counting for itself. */
type Step =
  | { readonly kind: "count"; readonly inode: number; readonly name: string; readonly by: number }
  | { readonly kind: "replace"; readonly inode: number }
  | { readonly kind: "remove"; readonly inode: number }
  | { readonly kind: "read" };

const inode = fc.integer({ min: 1, max: 4 });
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant("count"),
      inode,
      name: fc.constantFrom("a", "b"),
      by: fc.nat(9),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("replace"), inode }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("remove"), inode }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("read") }) },
);

/** Plays the steps, reading after each `read` step and at the end; hands each reading to `check`. */
function play(
  steps: readonly Step[],
  check: (seen: Record<string, number>, real: Record<string, number>) => void,
): void {
  const sums = sumNamespaces();
  const live = new Map<number, { a: number; b: number; last: { a: number; b: number } }>();
  const over = { a: 0, b: 0 }; // What namespaces that are gone had counted when they were last read.
  const retire = (key: number) => {
    const gone = live.get(key);
    live.delete(key);
    over.a += gone?.last.a ?? 0;
    over.b += gone?.last.b ?? 0;
  };
  const read = () => {
    sums.keep(new Set(live.keys()));
    for (const [key, namespace] of live) {
      sums.update(key, { tcp: { a: namespace.a, b: namespace.b } });
      namespace.last = { a: namespace.a, b: namespace.b };
    }
    const real = { ...over };
    for (const { last } of live.values()) {
      real.a += last.a;
      real.b += last.b;
    }
    check({ a: 0, b: 0, ...sums.totals()["tcp"] }, real);
  };
  const fresh = () => ({ a: 0, b: 0, last: { a: 0, b: 0 } });
  for (const one of steps) {
    if (one.kind === "read") read();
    else if (one.kind === "remove") retire(one.inode);
    else if (one.kind === "replace") {
      retire(one.inode);
      live.set(one.inode, fresh());
    } else {
      const namespace = live.get(one.inode) ?? fresh();
      live.set(one.inode, namespace);
      if (one.name === "a") namespace.a += one.by;
      else namespace.b += one.by;
    }
  }
  read();
}

describe("properties", () => {
  test("totals never fall and never exceed what was counted", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        let before: Record<string, number> = { a: 0, b: 0 };
        play(steps, (seen, real) => {
          for (const name of ["a", "b"]) {
            expect(seen[name]).toBeGreaterThanOrEqual(before[name] ?? 0);
            expect(seen[name]).toBeLessThanOrEqual(real[name] ?? 0);
          }
          before = seen;
        });
      }),
    );
  });

  test("totals are exact where no inode number is given out again", () => {
    const noReuse = fc
      .array(step, { maxLength: 60 })
      .map((steps) => steps.filter(({ kind }) => kind === "count" || kind === "read"));
    fc.assert(fc.property(noReuse, (steps) => play(steps, (seen, real) => expect(seen).toEqual(real))));
  });

  test("totals are exact where the new owner of an inode number shows by a fall", () => {
    // Each namespace counts `a` once by 10 and is read, then another takes its number and has counted less.
    const owners = fc.array(fc.record({ inode, b: fc.nat(50) }), { maxLength: 20 });
    fc.assert(
      fc.property(owners, (list) => {
        const sums = sumNamespaces();
        let real = 0;
        list.forEach(({ inode: key, b }, index) => {
          sums.update(key, tcp({ a: list.length - index, b }));
          real += b;
        });
        expect(sums.totals()["tcp"]?.["b"] ?? 0).toBe(real);
      }),
    );
  });
});
