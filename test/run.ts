// Runs the tests, cheap ones first, and ends with one line: `N passed, N failed`, summed over all of them.
// `bun test/run.ts [--quick] [part of a file name ...] [option of bun test ...]`

import { globSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";

const root = join(import.meta.dir, "..");

/** Long before continuous integration gives up on us, so that the line with the counts is printed. */
const allMsMax = 19 * 60_000;

/** Bun's own 5 s are short for namespaces and compilers on a machine with one busy core. */
const testMsMax = 30_000;

export type Counts = { readonly passed: number; readonly failed: number; readonly skipped: number };
/** With the names of what failed, so that they stand at the end of a long log. */
export type Outcome = Counts & { readonly failures: readonly string[] };

const nothing: Outcome = { passed: 0, failed: 0, skipped: 0, failures: [] };

export const sum = (parts: readonly Outcome[]): Outcome =>
  parts.reduce(
    (all, part) => ({
      passed: all.passed + part.passed,
      failed: all.failed + part.failed,
      skipped: all.skipped + part.skipped,
      failures: [...all.failures, ...part.failures],
    }),
    nothing,
  );

export function lastLine(counts: Counts): string {
  const skipped = counts.skipped > 0 ? `, ${counts.skipped} skipped` : "";
  return `${counts.passed} passed, ${counts.failed} failed${skipped}`;
}

/**
 * Counts of one runner. `report` is its JUnit file, absent when it died. Of a file that fails to load, or has no test,
 * the report says nothing: each such file is one failure, and so is a bad exit that nothing else explains.
 */
export function countReport(options: {
  readonly report: string | undefined;
  readonly files: readonly string[];
  readonly exitCode: number;
}): Outcome {
  const head = /<testsuites [^>]*>/.exec(options.report ?? "")?.[0] ?? "";
  const value = (name: string): number => Number(new RegExp(` ${name}="(\\d+)"`).exec(head)?.[1] ?? 0);
  const reported = new Set(
    [...(options.report ?? "").matchAll(/<testsuite [^>]* file="([^"]*)"/g)].map(([, file]) => file),
  );
  const silent = options.files.filter((file) => !reported.has(file));
  const failed = value("failures") + silent.length;
  return {
    passed: value("tests") - value("failures") - value("skipped"),
    failed: failed === 0 && options.exitCode !== 0 ? 1 : failed,
    skipped: value("skipped"),
    failures: [...failedCases(options.report ?? ""), ...silent.map((file) => `${file}: did not run`)],
  };
}

function failedCases(report: string): readonly string[] {
  const cases = report.matchAll(/<testcase ([^>]*[^/])>\s*<failure/g);
  return [...cases].map(([, attributes = ""]) => {
    const value = (name: string): string => new RegExp(`\\b${name}="([^"]*)"`).exec(attributes)?.[1] ?? "";
    return `${value("file")}: ${value("classname")} > ${value("name")}`;
  });
}

/** What is slow, needs root or needs the binary: left out of `npm run check`. */
const slow = (file: string): boolean => dirname(file) !== "test" || basename(file).startsWith("packaging");

/** One runner for all of test/, then one a file: what talks to the kernel may take its process down. */
export function plan(files: readonly string[]): readonly (readonly string[])[] {
  const quick = files.filter((file) => !slow(file));
  const rest = files
    .filter(slow)
    .toSorted((a, b) => dirname(a).localeCompare(dirname(b)) || a.localeCompare(b));
  return [...(quick.length > 0 ? [quick] : []), ...rest.map((file) => [file])];
}

function runFiles(files: readonly string[], options: readonly string[], endAt: number): Outcome {
  const scratch = mkdtempSync(join(tmpdir(), "fovea-test-"));
  const outfile = join(scratch, "report.xml");
  try {
    const done = Bun.spawnSync(
      [
        ...[process.execPath, "test", "--reporter=junit", `--reporter-outfile=${outfile}`],
        ...[`--timeout=${testMsMax}`, ...options, ...files.map((file) => `./${file}`)],
      ],
      { cwd: root, stdio: ["ignore", "inherit", "inherit"], timeout: Math.max(1, endAt - Date.now()) },
    );
    if (done.exitedDueToTimeout) console.error(`out of time: ${files.join(" ")}`);
    const report = globSync(outfile).length > 0 ? readFileSync(outfile, "utf8") : undefined;
    return countReport({ report, files, exitCode: done.exitCode ?? 1 });
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

function main(words: readonly string[]): number {
  const options = words.filter((word) => word.startsWith("-") && word !== "--quick");
  const filters = words.filter((word) => !word.startsWith("-"));
  const files = globSync("test/**/*.test.ts", { cwd: root })
    .filter((file) => filters.length === 0 || filters.some((filter) => file.includes(filter)))
    .filter((file) => !(words.includes("--quick") && slow(file)))
    .toSorted();
  const endAt = Date.now() + allMsMax;
  const counts = sum(plan(files).map((some) => runFiles(some, options, endAt)));
  const skippedCounts = process.env["CI"] === "true" && counts.skipped > 0;
  if (skippedCounts) console.error("in continuous integration a skipped test is a failure");
  if (counts.passed === 0) console.error("no test passed");
  for (const failure of counts.failures) console.error(`failed: ${failure}`);
  console.log(`\n${lastLine(counts)}`);
  return counts.failed > 0 || counts.passed === 0 || skippedCounts ? 1 : 0;
}

if (import.meta.main) process.exit(main(process.argv.slice(2)));
