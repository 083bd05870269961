// Counting test results: what failed, what did not run, and what failed only once.

import { describe, expect, test } from "bun:test";
import { countReport, failedFiles, lastLine, linesOf, nothing, type Report, settle, sum } from "./report.ts";

// As Bun 1.4 writes it: a file that fails to load is not mentioned, though the runner's own summary counts it.
const report = `<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="bun test" tests="7" assertions="9" failures="1" skipped="2" time="0.006">
  <testsuite name="test/a.test.ts" file="test/a.test.ts" tests="7" assertions="9" failures="1" skipped="2">
    <testsuite name="inner" file="test/a.test.ts" tests="2" assertions="2" failures="1" skipped="0">
      <testcase name="holds &gt; 1" classname="inner" time="0.1" file="test/a.test.ts" line="3" assertions="1" />
      <testcase name="adds &lt;1&gt; up" classname="inner" time="0.1" file="test/a.test.ts" line="4" assertions="1">
        <failure type="AssertionError" message="expect(received).toBe(expected)&#10;&#10;Expected: &quot;a&quot;">AssertionError</failure>
      </testcase>
    </testsuite>
  </testsuite>
</testsuites>`;

const failure = {
  file: "test/a.test.ts",
  name: "test/a.test.ts: inner > adds <1> up",
  message: 'expect(received).toBe(expected)\n\nExpected: "a"',
};

const good = report.replaceAll('failures="1"', 'failures="0"').replace(/<failure .*<\/failure>/, "");

const ofFile = (text: string, file: string): string => text.replaceAll("test/a.test.ts", file);

describe("counts", () => {
  test("come from the suite of the file, those of groups within it", () => {
    const counts = countReport({ report, files: ["test/a.test.ts"], exitCode: 1 });
    expect(counts).toEqual({ passed: 4, failed: 1, skipped: 2, failures: [failure], unsteady: [] });
  });

  test("of a file that the report does not mention are one failure", () => {
    const files = ["test/a.test.ts", "test/b.test.ts", "test/c.test.ts"];
    expect(countReport({ report, files, exitCode: 1 }).failed).toBe(3);
  });

  test("of Windows have names that are written the other way round", () => {
    const windows = ofFile(report, "test\\windows\\a.test.ts");
    const counts = countReport({ report: windows, files: ["test/windows/a.test.ts"], exitCode: 1 });
    expect(counts.failures.map(({ name }) => name)).toEqual(["test/windows/a.test.ts: inner > adds <1> up"]);
    expect(counts).toMatchObject({ passed: 4, failed: 1, skipped: 2 });
  });

  test("of a runner that died are a failure a file", () => {
    const files = ["test/a.test.ts", "test/b.test.ts"];
    const counts = countReport({ report: undefined, files, exitCode: 137 });
    expect(counts).toMatchObject({ passed: 0, failed: 2, skipped: 0 });
    expect(counts.failures.map(({ name }) => name)).toEqual([
      "test/a.test.ts: did not run",
      "test/b.test.ts: did not run",
    ]);
  });

  test("with a bad exit that nothing explains are a failure", () => {
    expect(countReport({ report: good, files: ["test/a.test.ts"], exitCode: 0 }).failed).toBe(0);
    expect(countReport({ report: good, files: ["test/a.test.ts"], exitCode: 1 }).failed).toBe(1);
  });

  test("add up in the last line, which speaks of skipped tests when there are some", () => {
    const parts = [
      { ...nothing, passed: 1 },
      { ...nothing, passed: 2, failed: 3, failures: [failure] },
    ];
    expect(lastLine(sum(parts))).toBe("3 passed, 3 failed");
    expect(lastLine(sum([...parts, { ...nothing, skipped: 4 }]))).toBe("3 passed, 3 failed, 4 skipped");
  });
});

test("a failure is told with what the test said", () => {
  expect(linesOf("failed", failure)).toBe(
    'failed: test/a.test.ts: inner > adds <1> up\n    expect(received).toBe(expected)\n    Expected: "a"',
  );
});

describe("a second run", () => {
  const files = ["test/a.test.ts", "test/b.test.ts"];
  const both = (a: string, b: string): string => a + ofFile(b, "test/b.test.ts");
  const first: Report = { report: both(report, good), files, exitCode: 1 };
  const second = (text: string | undefined, exitCode: number): Report => ({
    report: text,
    files: ["test/a.test.ts"],
    exitCode,
  });

  test("is of the files that failed, or of all when nothing tells which", () => {
    expect(failedFiles(first)).toEqual(["test/a.test.ts"]);
    expect(failedFiles({ ...first, report: both(good, good) })).toEqual(files);
    expect(failedFiles({ ...first, report: both(good, good), exitCode: 0 })).toEqual([]);
    expect(failedFiles({ ...first, report: good })).toEqual(["test/b.test.ts"]);
  });

  test("that passes counts, and tells what failed before", () => {
    expect(settle(first, second(good, 0))).toEqual({
      passed: 10,
      failed: 0,
      skipped: 4,
      failures: [],
      unsteady: [failure],
    });
  });

  test("that fails too is the failure that it was", () => {
    const outcome = { passed: 9, failed: 1, skipped: 4, failures: [failure], unsteady: [] };
    expect(settle(first, second(report, 1))).toEqual(outcome);
    expect(settle(first, second(undefined, 1))).toMatchObject({ passed: 5, failed: 1, unsteady: [failure] });
  });
});
