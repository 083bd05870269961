// The order in which test files run.

import { expect, test } from "bun:test";
import { lanesOf, plan } from "./run.ts";

test("plain tests share a runner and come first; what may crash or is slow gets one each", () => {
  const files = ["test/kernel/a.test.ts", "test/b.test.ts", "test/packaging.test.ts", "test/a.test.ts"];
  expect(plan(files)).toEqual([
    ["test/b.test.ts", "test/a.test.ts"],
    ["test/packaging.test.ts"],
    ["test/kernel/a.test.ts"],
  ]);
  expect(plan([])).toEqual([]);
});

test("slow runners and those in wine go side by side, when all others are done", () => {
  const of = (...files: readonly string[]) => files.map((file) => [file]);
  const runners = [["test/a.test.ts", "test/b.test.ts"]].concat(
    of("test/kernel/a.test.ts", "test/slow/a.test.ts", "test/slow/b.test.ts", "test/windows/a.test.ts"),
    of("test/wine/a.test.ts"),
  );
  expect(lanesOf(runners)).toEqual({
    first: [["test/a.test.ts", "test/b.test.ts"], ["test/kernel/a.test.ts"]],
    lanes: [
      of("test/slow/a.test.ts", "test/slow/b.test.ts"),
      of("test/windows/a.test.ts", "test/wine/a.test.ts"),
    ],
  });
  expect(lanesOf(of("test/slow/a.test.ts"))).toEqual({ first: [], lanes: [of("test/slow/a.test.ts")] });
});
