// Runs the tests, cheap ones first, and ends with one line: `N passed, N failed`, summed over all of them.
// `bun test/run.ts [--quick] [part of a file name ...] [option of bun test ...]`

import { closeSync, globSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import {
  countReport,
  failedFiles,
  lastLine,
  linesOf,
  nothing,
  type Outcome,
  type Report,
  settle,
  sum,
} from "./report.ts";
import { bunExe, openWine, type Wine, windowsPath, wineLacks } from "./wine.rig.ts";

const root = join(import.meta.dir, "..");

/** Long before continuous integration gives up on us, so that the line with the counts is printed. */
const allMsMax = 19 * 60_000;

/** Bun's own 5 s are short for namespaces and compilers on a machine with one busy core. */
const testMsMax = 30_000;

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

/** Runners of test/slow wait for much of their time, those in wine too: they go side by side, after all others. */
const besides = ["test/slow", "test/windows", "test/wine"] as const;

/** What runs one after the other, and then what runs beside one another, each lane in its order. */
export function lanesOf(runners: readonly (readonly string[])[]): {
  readonly first: readonly (readonly string[])[];
  readonly lanes: readonly (readonly (readonly string[])[])[];
} {
  const directory = ([file = ""]: readonly string[]): string => dirname(file);
  const inside = (names: readonly string[]) => runners.filter((some) => names.includes(directory(some)));
  const [slowOnes, ...inWine] = besides;
  return {
    first: runners.filter((some) => !besides.some((name) => name === directory(some))),
    lanes: [inside([slowOnes]), inside(inWine)].filter((lane) => lane.length > 0),
  };
}

type Run = {
  readonly files: readonly string[];
  readonly options: readonly string[];
  readonly endAt: number;
  /** What it prints is kept, and printed as one when it has ended. */
  readonly apart: boolean;
};

type Runner = {
  /** Bun, and what runs it. */
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly pathOf: (path: string) => string;
};

async function runWith(runner: Runner, { files, options, endAt, apart }: Run): Promise<Report> {
  const scratch = mkdtempSync(join(tmpdir(), "fovea-test-"));
  const outfile = join(scratch, "report.xml");
  const printed = join(scratch, "printed");
  const fd = apart ? openSync(printed, "a") : undefined;
  try {
    const child = Bun.spawn(
      [
        ...[...runner.command, "test", "--reporter=junit", `--reporter-outfile=${runner.pathOf(outfile)}`],
        ...[`--timeout=${testMsMax}`, ...options, ...files.map((file) => `./${file}`)],
      ],
      {
        cwd: root,
        env: runner.env,
        stdio: ["ignore", fd ?? "inherit", fd ?? "inherit"],
        timeout: Math.max(1, endAt - Date.now()),
      },
    );
    const exitCode = await child.exited;
    if (apart) await Bun.write(Bun.stdout, Bun.file(printed));
    if (Date.now() >= endAt) console.error(`out of time: ${files.join(" ")}`);
    const report = globSync(outfile).length > 0 ? readFileSync(outfile, "utf8") : undefined;
    return { report, files, exitCode };
  } finally {
    if (fd !== undefined) closeSync(fd);
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** What is wrong instead, as with a stand-in that does not compile: only the tests in wine fail then. */
function tryOpenWine(): Wine | string {
  try {
    return openWine();
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** In a prefix of its own, with all stand-ins. */
async function runInWine(run: Run): Promise<Report> {
  const wine = tryOpenWine();
  if (typeof wine === "string") {
    console.error(wine);
    return { report: undefined, files: run.files, exitCode: 1 };
  }
  using opened = wine;
  const CI = process.env["CI"]; // Tells Bun to refuse `only`, and snapshots that nobody committed.
  const env = { ...opened.env, ...(CI === undefined ? {} : { CI }) };
  // Awaited here, as the prefix ends with this function.
  return await runWith({ command: [...opened.command, bunExe], env, pathOf: windowsPath }, run);
}

/** What runs with process.platform "win32". */
const onWindows = (file: string): boolean => dirname(file) === "test/windows";

const here: Runner = { command: [process.execPath], env: process.env, pathOf: (path) => path };

const runOnce = (run: Run): Promise<Report> =>
  run.files.every(onWindows) ? runInWine(run) : runWith(here, run);

/** Where there is no wine, a file that needs it counts as one skipped test. */
async function runFiles(run: Run): Promise<Outcome> {
  const { files } = run;
  if (files.every(onWindows) && wineLacks.length > 0) {
    console.error(`SKIPPED: ${files.join(" ")} needs wine; missing here: ${wineLacks.join(", ")}`);
    return { ...nothing, skipped: files.length };
  }
  const first = await runOnce(run);
  const again = failedFiles(first);
  // A defect fails twice; what a loaded machine, a kernel or an emulator did once does not, and is told at the end.
  return again.length === 0 ? countReport(first) : settle(first, await runOnce({ ...run, files: again }));
}

async function runAll(
  runners: readonly (readonly string[])[],
  common: Pick<Run, "options" | "endAt">,
): Promise<Outcome> {
  const { first, lanes } = lanesOf(runners);
  const outcomes: Outcome[] = [];
  const runLane = async (lane: readonly (readonly string[])[], apart: boolean): Promise<void> => {
    for (const files of lane) outcomes.push(await runFiles({ ...common, files, apart }));
  };
  await runLane(first, false);
  await Promise.all(lanes.map((lane) => runLane(lane, lanes.length > 1)));
  return sum(outcomes);
}

async function main(words: readonly string[]): Promise<number> {
  const options = words.filter((word) => word.startsWith("-") && word !== "--quick");
  const filters = words.filter((word) => !word.startsWith("-"));
  const files = globSync("test/**/*.test.ts", { cwd: root })
    .filter((file) => filters.length === 0 || filters.some((filter) => file.includes(filter)))
    .filter((file) => !(words.includes("--quick") && slow(file)))
    .toSorted();
  const endAt = Date.now() + allMsMax;
  const counts = await runAll(plan(files), { options, endAt });
  const skippedCounts = process.env["CI"] === "true" && counts.skipped > 0;
  if (skippedCounts) console.error("in continuous integration a skipped test is a failure");
  if (counts.passed === 0) console.error("no test passed");
  for (const failure of counts.unsteady)
    console.error(linesOf("failed at first, passed when run again", failure));
  for (const failure of counts.failures) console.error(linesOf("failed", failure));
  console.log(`\n${lastLine(counts)}`);
  return counts.failed > 0 || counts.passed === 0 || skippedCounts ? 1 : 0;
}

if (import.meta.main) process.exit(await main(process.argv.slice(2)));
