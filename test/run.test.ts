// Counting test results, and the order in which test files run.

import { expect, test } from "bun:test";
import { countReport, lanesOf, lastLine, plan, sum } from "./run.ts";

// As Bun 1.4 writes it: a file that fails to load is not mentioned, though the runner's own summary counts it.
const report = `<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="bun test" tests="7" assertions="9" failures="1" skipped="2" time="0.006">
  <testsuite name="test/a.test.ts" file="test/a.test.ts" tests="7" assertions="9" failures="1" skipped="2">
    <testsuite name="inner" file="test/a.test.ts" tests="2" assertions="2" failures="1" skipped="0">
      <testcase name="holds &gt; 1" classname="inner" time="0.1" file="test/a.test.ts" line="3" assertions="1" />
      <testcase name="adds up" classname="inner" time="0.1" file="test/a.test.ts" line="4" assertions="1">
        <failure type="AssertionError" message="expect(received).toBe(expected)">AssertionError</failure>
      </testcase>
    </testsuite>
  </testsuite>
</testsuites>`;

test("counts come from the head of the report", () => {
  const counts = countReport({ report, files: ["test/a.test.ts"], exitCode: 1 });
  const failures = ["test/a.test.ts: inner > adds up"];
  expect(counts).toEqual({ passed: 4, failed: 1, skipped: 2, failures });
});

test("a file that the report does not mention has failed", () => {
  const files = ["test/a.test.ts", "test/b.test.ts", "test/c.test.ts"];
  expect(countReport({ report, files, exitCode: 1 }).failed).toBe(3);
});

test("a report of Windows names files the other way round", () => {
  const windows = report.replaceAll("test/a.test.ts", "test\\windows\\a.test.ts");
  const counts = countReport({ report: windows, files: ["test/windows/a.test.ts"], exitCode: 1 });
  const failures = ["test/windows/a.test.ts: inner > adds up"];
  expect(counts).toEqual({ passed: 4, failed: 1, skipped: 2, failures });
});

test("a runner that died has failed all its files", () => {
  const files = ["test/a.test.ts", "test/b.test.ts"];
  expect(countReport({ report: undefined, files, exitCode: 137 })).toEqual({
    passed: 0,
    failed: 2,
    skipped: 0,
    failures: ["test/a.test.ts: did not run", "test/b.test.ts: did not run"],
  });
});

test("a bad exit that nothing explains is a failure", () => {
  const good = report.replace('failures="1"', 'failures="0"');
  expect(countReport({ report: good, files: ["test/a.test.ts"], exitCode: 0 }).failed).toBe(0);
  expect(countReport({ report: good, files: ["test/a.test.ts"], exitCode: 1 }).failed).toBe(1);
});

test("the last line sums up, and speaks of skipped tests when there are some", () => {
  const parts = [
    { passed: 1, failed: 0, skipped: 0, failures: [] },
    { passed: 2, failed: 3, skipped: 0, failures: ["test/a.test.ts: a"] },
  ];
  expect(lastLine(sum(parts))).toBe("3 passed, 3 failed");
  expect(lastLine(sum([...parts, { passed: 0, failed: 0, skipped: 4, failures: [] }]))).toBe(
    "3 passed, 3 failed, 4 skipped",
  );
});

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
