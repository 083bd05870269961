// Parts that outlive the configuration they were opened with.

import { expect, test } from "bun:test";
import { createKept } from "../src/kept.ts";

function opened() {
  const told: string[] = [];
  const kept = createKept<{ readonly key: number; readonly other?: number }, number>({
    keyOf: ({ key }) => ({ key }),
    open: async ({ key }) => {
      if (key < 0) throw new Error("cannot be opened");
      told.push(`open ${key}`);
      return key;
    },
    close: async (part) => void told.push(`close ${part}`),
  });
  return { kept, told };
}

test("a part stays open for what asks for the same, and is closed for anything else", async () => {
  const { kept, told } = opened();
  expect(await kept.open({ key: 1, other: 1 })).toBe(1);
  expect([kept.fits({ key: 1, other: 3 }), kept.fits({ key: 2 })]).toEqual([true, false]);
  kept.foresee({ key: 1, other: 2 });
  expect(kept.stays()).toBe(true);
  await kept.leave();
  expect(await kept.open({ key: 1, other: 2 })).toBe(1);
  expect(told).toEqual(["open 1"]);
  kept.foresee({ key: 2 });
  expect(kept.stays()).toBe(false);
  await kept.leave();
  expect(await kept.open({ key: 2 })).toBe(2);
  expect(told).toEqual(["open 1", "close 1", "open 2"]);
});

test("it is closed, once, when nothing is asked for any more", async () => {
  const { kept, told } = opened();
  await kept.open({ key: 1 });
  expect(kept.stays()).toBe(false);
  await kept.leave();
  await kept[Symbol.asyncDispose]();
  expect(told).toEqual(["open 1", "close 1"]);
});

test("one that cannot be opened leaves none open, and the one before can be opened again", async () => {
  const { kept, told } = opened();
  await kept.open({ key: 1 });
  expect(kept.open({ key: -1 })).rejects.toThrow("cannot be opened");
  await kept.leave();
  expect(await kept.open({ key: 1 })).toBe(1);
  expect(told).toEqual(["open 1", "close 1", "open 1"]);
});
