// What test runners report: counts, what failed and why, and what passed only when it ran again.

export type Counts = { readonly passed: number; readonly failed: number; readonly skipped: number };

export type Failure = {
  /** File and name of the test. */
  readonly name: string;
  readonly file: string;
  /** The first lines of the message; empty where there is none. */
  readonly message: string;
};

export type Outcome = Counts & {
  /** They stand at the end of a long log. */
  readonly failures: readonly Failure[];
  /** What failed at first and passed when its file ran again. */
  readonly unsteady: readonly Failure[];
};

export const nothing: Outcome = { passed: 0, failed: 0, skipped: 0, failures: [], unsteady: [] };

export const sum = (parts: readonly Outcome[]): Outcome =>
  parts.reduce(
    (all, part) => ({
      passed: all.passed + part.passed,
      failed: all.failed + part.failed,
      skipped: all.skipped + part.skipped,
      failures: [...all.failures, ...part.failures],
      unsteady: [...all.unsteady, ...part.unsteady],
    }),
    nothing,
  );

export function lastLine(counts: Counts): string {
  const skipped = counts.skipped > 0 ? `, ${counts.skipped} skipped` : "";
  return `${counts.passed} passed, ${counts.failed} failed${skipped}`;
}

/** One line, and below it what the test said. */
export const linesOf = (word: string, { name, message }: Failure): string =>
  [`${word}: ${name}`, ...message.split("\n").filter((line) => line.trim() !== "")].join("\n    ");

/** One runner's JUnit file, absent when it died, and the files that it was given. */
export type Report = {
  readonly report: string | undefined;
  readonly files: readonly string[];
  readonly exitCode: number;
};

/** Windows writes them the other way round. */
const slashes = (path: string): string => path.replaceAll("\\", "/");

const entities: Readonly<Record<string, string>> = { lt: "<", gt: ">", quot: '"', apos: "'", amp: "&" };

const unescaped = (text: string): string =>
  text.replace(/&(?:#(\d+)|(\w+));/g, (whole, code?: string, name = "") =>
    code === undefined ? (entities[name] ?? whole) : String.fromCodePoint(Number(code)),
  );

const messageLinesMax = 24;

const attribute = (attributes: string, name: string): string =>
  unescaped(new RegExp(`(?:^| )${name}="([^"]*)"`).exec(attributes)?.[1] ?? "");

function failedCases(report: string): readonly Failure[] {
  const cases = report.matchAll(/<testcase ([^>]*[^/])>\s*<failure ([^>]*)>/g);
  return [...cases].map(([, test = "", failure = ""]) => {
    const file = slashes(attribute(test, "file"));
    const message = attribute(failure, "message").split("\n").slice(0, messageLinesMax).join("\n");
    return { file, message, name: `${file}: ${attribute(test, "classname")} > ${attribute(test, "name")}` };
  });
}

const didNotRun = (file: string): Failure => ({ file, name: `${file}: did not run`, message: "" });

/**
 * Counts of one runner, of the given files. Of a file that fails to load, or has no test, the report says nothing: each such
 * file is one failure, and so is a bad exit that nothing else explains.
 */
export function countReport({ report = "", files, exitCode }: Report): Outcome {
  const wanted = new Set(files);
  const suites = [...report.matchAll(/<testsuite ([^>]*)>/g)]
    .map(([, attributes = ""]) => ({ attributes, file: slashes(attribute(attributes, "file")) }))
    // A group of tests is a suite within that of its file, which counts for all of them.
    .filter(({ attributes, file }) => slashes(attribute(attributes, "name")) === file && wanted.has(file));
  const total = (name: string): number =>
    suites.reduce((all, { attributes }) => all + Number(attribute(attributes, name)), 0);
  const reported = new Set(suites.map(({ file }) => file));
  const silent = files.filter((file) => !reported.has(file)).map(didNotRun);
  const failed = total("failures") + silent.length;
  return {
    passed: total("tests") - total("failures") - total("skipped"),
    failed: failed === 0 && exitCode !== 0 ? 1 : failed,
    skipped: total("skipped"),
    failures: [...failedCases(report).filter(({ file }) => wanted.has(file)), ...silent],
    unsteady: [],
  };
}

/** The files to run again: those that failed, or all where nothing tells which. */
export function failedFiles(first: Report): readonly string[] {
  const { failed, failures } = countReport(first);
  if (failed === 0) return [];
  const files = new Set(failures.map(({ file }) => file));
  return files.size === 0 ? first.files : first.files.filter((file) => files.has(file));
}

/** Of what ran twice, the second time counts, and what failed in the first alone is told. */
export function settle(first: Report, again: Report): Outcome {
  const once = first.files.filter((file) => !again.files.includes(file));
  const second = countReport(again);
  const still = new Set(second.failures.map(({ name }) => name));
  const unsteady = countReport(first).failures.filter(({ name }) => !still.has(name));
  return sum([countReport({ ...first, files: once, exitCode: 0 }), { ...second, unsteady }]);
}
