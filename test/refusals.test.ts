// What becomes of bodies that a receiver will not take, by the reason that it gives.

import { expect, test } from "bun:test";
import { createRefusals } from "../src/forward/refusals.ts";

test("a body is halved until the poison is alone; then it is rejected, and bodies grow again", () => {
  const refusals = createRefusals();
  expect(refusals.refused("backlog", 8, "4xx")).toBe("halve");
  expect(refusals.recordsMax("backlog", 8)).toBe(4);
  expect(refusals.refused("backlog", 4, "4xx")).toBe("halve");
  expect(refusals.refused("backlog", 2, "4xx")).toBe("halve");
  expect(refusals.recordsMax("backlog", 8)).toBe(1);
  expect(refusals.refused("backlog", 1, "4xx")).toBe("reject");
  refusals.stored("backlog", 1);
  expect(refusals.recordsMax("backlog", 8)).toBe(2);
  expect(refusals.recordsMax("live", 8)).toBe(8);
});

test("a server that fails at everything costs no record, one that fails at one record costs that one", () => {
  const refusals = createRefusals();
  expect(refusals.refused("backlog", 2, "server")).toBe("halve");
  for (let times = 0; times < 100; times += 1) expect(refusals.refused("backlog", 1, "server")).toBe("keep");
  refusals.stored("live", 5);
  expect(refusals.refused("backlog", 1, "server")).toBe("reject");
});

test("what was taken before the trouble began proves nothing", () => {
  const refusals = createRefusals();
  refusals.stored("live", 5);
  expect(refusals.refused("live", 1, "server")).toBe("keep");
});
